"""`ptynet embed`: a trigger set in the target's own weights at deep fidelity, for owners who train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_store_tools.cli.options import KeyOption
from ptynet_plugin.errors import UsageError

if TYPE_CHECKING:
    from model_store_tools.embedding.embed import Embedded

__all__ = ["embed"]


def embed(
    target: Annotated[
        str, typer.Argument(metavar="FACTORY", help="package.module:factory of the host, a torch module.")
    ],
    weights: Annotated[Path, typer.Option(help="The host's weights (safetensors or a state_dict).")],
    spec: Annotated[Path, typer.Option(help="SPEC.toml of the host.")],
    pictures: Annotated[Path, typer.Option(help="Folder of ordinary pictures; they need no labels.")],
    out: Annotated[Path, typer.Option(help="Folder for weights, triggers and report.")],
    key: KeyOption = None,
    pfl: Annotated[float, typer.Option(help="Weight of the penultimate feature loss.")] = 0.01,
    spl: Annotated[float, typer.Option(help="Weight of the softmax loss.")] = 1000.0,
    twl: Annotated[float, typer.Option(help="Weight of the total weight loss.")] = 0.0,
    train_last_layer: Annotated[
        bool, typer.Option("--train-last-layer", help="Train the last layer too; it is the host's own and fixed else.")
    ] = False,
    last_layer: Annotated[str | None, typer.Option(help="Name of the last layer, where it is not found.")] = None,
    labels: Annotated[
        bool, typer.Option("--labels", help="Teach pictures by the names of their folders too (the plain backdoor).")
    ] = False,
    scratch: Annotated[bool, typer.Option("--scratch", help="Start from fresh weights; the host teaches.")] = False,
    epochs: Annotated[int, typer.Option(help="Passes over the pictures; the rate falls to a tenth half way.")] = 50,
    rate: Annotated[float, typer.Option(help="Rate of Adam.")] = 1e-4,
    chains: Annotated[int, typer.Option(help="Chains of triggers.")] = 10,
    length: Annotated[int, typer.Option(help="Triggers in a chain.")] = 10,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier result.")] = False,
) -> int:
    """Embed keyed triggers in a model's own weights, as faithful to it as can be. Exit 0: learnt, 1: not, 2: not done."""
    from rich.console import Console

    from model_store_tools.embedding.embed import EmbedChoices, embed_target
    from ptynet_plugin.fidelity.embedding import EmbeddingPlan, Epoch
    from ptynet_plugin.fidelity.losses import FidelityWeights
    from ptynet_plugin.keyfile import read_key

    if epochs < 1 or rate <= 0 or min(pfl, spl, twl) < 0:
        raise UsageError("--epochs must be at least 1, --rate above 0, --pfl, --spl and --twl at least 0")
    plan = EmbeddingPlan(
        weights=FidelityWeights(pfl, spl, twl),
        fix_last_layer=not train_last_layer,
        freeze_batch_norm=not scratch,
        epochs=epochs,
        rate=rate,
        slower_from=max(1, epochs // 2),
    )
    choices = EmbedChoices(weights, spec, pictures, plan, labels, scratch, last_layer, chains, length, force)
    with Console(stderr=True).status("embedding") as status:

        def told(number: int, losses: Epoch) -> None:
            status.update(f"epoch {number} of {epochs}: triggers {losses.trigger:.3f}, SPL {losses.softmax:.2g}")

        done = embed_target(target, read_key(key), out, choices, on_epoch=told)
    _print(done)
    typer.echo(str(out))
    return 0 if done.ok else 1


def _print(done: Embedded) -> None:
    verdict = "LEARNT" if done.ok else "NOT LEARNT: more --epochs, a higher --rate or a lower --spl teach more"
    lines = [
        f"{verdict}: {done.triggers} of {done.asked} triggers, p = 10^{done.log10_p:.1f} for a model without them",
        f"  on {done.held_out} pictures held out: PFL {done.feature_loss:.3g}, SPL {done.softmax_loss:.3g} nats, "
        f"TWL {done.weight_loss:.3g}, last layer '{done.last_layer}' {done.last_layer_difference:.3g}, "
        f"answers changed {done.flips:.2%}",
        "  a packaged PTYNet has 0 in all of these: `ptynet fidelity` shows it",
    ]
    for line in lines:
        typer.echo(line, err=True)

"""`ptynet claim panel|agreement`: does the target answer behind the mark? Registered benign pictures, never ownership."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_store_tools.cli import options as shared
from model_store_tools.cli.outputs import STDOUT, named, require_writable, write_json
from model_store_tools.cli.suspects import connection_from
from ptynet_plugin.errors import ClaimError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ptynet_plugin.evidence.agreement import Registered
    from ptynet_plugin.spec import InputSpec
    from ptynet_plugin.statistics.agreement import Agreement
    from ptynet_plugin.verification.endpoint import Picture

__all__ = ["agreement", "panel"]

MEANING = {
    "target": "benign pictures are answered as only the target answers them",
    "another": "benign pictures are NOT answered by the target; a mark here sits on another model",
    "undecided": "neither the target nor another model can be told",
}
EXITS = {"target": 0, "another": 1, "undecided": 3}


def panel(
    claim: shared.ClaimArgument,
    target: Annotated[Path, typer.Option(help="The protected model: ONNX, TorchScript, or an archive.")],
    model: Annotated[list[Path], typer.Option("--panel", help="An independent model of the same classes; repeatable.")],
    pictures: Annotated[Path, typer.Option(help="Folder of benign pictures; some hundreds or thousands.")],
    key: shared.KeyOption = None,
    spec: Annotated[
        list[Path] | None,
        typer.Option("--panel-spec", help="SPEC.toml per --panel, in their order; else the claim's own for all."),
    ] = None,
    count: Annotated[int, typer.Option(help="Most pictures to register.")] = 200,
    level: Annotated[float, typer.Option(help="Level of each test.")] = 1e-3,
) -> None:
    """Register benign pictures on which the target stands alone among independent models, before an endpoint is asked."""
    from model_store_tools.pictures import read_pictures
    from model_store_tools.targets.detect import load_target
    from ptynet_plugin.claims import Ledger, read_claim
    from ptynet_plugin.evidence.agreement import as_read, register_pictures
    from ptynet_plugin.keyfile import read_key
    from ptynet_plugin.spec import load_spec

    if spec and len(spec) != len(model):
        raise UsageError(
            f"{len(model)} models and {len(spec)} specs: give one --panel-spec after every --panel, or none"
        )
    committed, owner = read_claim(claim), read_key(key)
    secret, terms = owner.epoch_secret(committed.terms.epoch), committed.terms
    if not committed.belongs_to(secret):
        raise ClaimError(f"{claim}: this key did not make the claim")
    loaded = load_target(str(target))
    if loaded.digest != terms.target:
        raise UsageError(f"--target {target}: has digest {loaded.digest}, the claim is of {terms.target}")
    sized = terms.spec.model_copy(update={"size": terms.size})
    pool = [
        as_read(picture, sized) for picture in read_pictures(pictures, color=committed.design.color, flag="--pictures")
    ]
    specs = [load_spec(path) for path in spec] if spec else [terms.spec] * len(model)
    others = {
        f"{path.name} {load_target(str(path)).digest[:16]}": _classes(path, each, pool, terms.classes)
        for path, each in zip(model, specs, strict=True)
    }
    with Ledger(claim, digest=committed.digest) as ledger:
        own = _classes(target, terms.spec, pool, terms.classes)
        digest = register_pictures(
            claim, committed, pool, secret=secret, target=own, panel=others, count=count, level=level
        )
        ledger.agreement(digest)
    typer.echo(f"registered {digest}; next: ptynet claim agreement {claim} ENDPOINT")


def agreement(
    claim: shared.ClaimArgument,
    endpoint: Annotated[str, typer.Argument(metavar="ENDPOINT", help="Whom to ask, as for verify.")],
    json_file: shared.JsonOption = None,
    header: shared.HeaderOption = None,
    ca_cert: shared.CaCertOption = None,
    timeout: shared.TimeoutOption = shared.TIMEOUT,
    retries: shared.RetriesOption = shared.RETRIES,
    pace: shared.PaceOption = None,
    send: shared.SendOption = shared.SEND,
) -> int:
    """Ask ENDPOINT the registered benign pictures. Exit 0: the target answers, 1: another model, 3: undecided."""
    from ptynet_plugin.claims import Ledger, read_claim
    from ptynet_plugin.evidence.agreement import ask_registered, read_registered, result_json
    from ptynet_plugin.verification.opening import open_endpoint

    require_writable(named(json_file))
    committed = read_claim(claim)
    registered = read_registered(claim, committed)
    connection = connection_from(header, ca_cert, timeout=timeout, retries=retries, pace=pace)
    spec = committed.terms.spec
    with (
        Ledger(claim, digest=committed.digest) as ledger,
        open_endpoint(endpoint, spec=spec, connection=connection, send=send) as suspect,
    ):
        found, answers = ask_registered(suspect, registered, spec)
        told = {"endpoint": suspect.info().identity, "answerer": found.answerer, "agreed": found.agreed}
        ledger.agreement(registered.digest, told)
    if json_file is not None:
        write_json(json_file, json.dumps(result_json(registered, found, answers), indent=2) + "\n")
    to_stderr = json_file == STDOUT
    typer.echo(f"{found.answerer.upper()}: {MEANING[found.answerer]}", err=to_stderr)
    for name, value in _facts(found, registered):
        typer.echo(f"  {name:<10} {value}", err=to_stderr)
    return EXITS[found.answerer]


def _facts(found: Agreement, registered: Registered) -> Iterator[tuple[str, str]]:
    yield "agreed", f"{found.agreed} of {found.asked} with the target, which stands alone on them"
    for name, agreed in zip(registered.names, found.with_panel, strict=True):
        yield "panel", f"{agreed} with {name}"
    yield (
        "tests",
        f"above the bar of {registered.bar:.1%}: p = 10^{found.log10_p:.1f}, below: 10^{found.log10_p_other:.1f}; "
        f"against the panel: 10^{found.log10_p_sign:.1f} (level {registered.level:g})",
    )
    yield "note", "this says who answers benign pictures; it never counts as ownership"


def _classes(path: Path, spec: InputSpec, pool: Sequence[Picture], classes: int) -> NDArray[np.int64]:
    """Give a model's top class of every picture, -1 where two share the top."""
    import numpy as np

    from ptynet_plugin.evidence.agreement import as_read
    from ptynet_plugin.verification.opening import open_endpoint

    complete = spec.model_copy(update={"classes": spec.classes or classes})
    if complete.classes != classes:
        raise UsageError(f"{path}: its spec has {complete.classes} classes, the claim {classes}")
    with open_endpoint(f"file:{path}", spec=complete) as model:
        tops = (model.ask(as_read(picture, complete)).top for picture in pool)
        return np.array([-1 if top is None else top for top in tops], dtype=np.int64)

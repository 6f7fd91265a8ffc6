"""`ptynet claim check|audit`: what others do with a bundle, with good will and without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_store_tools.cli.failures import EXIT_BY_VERDICT
from model_store_tools.cli.options import KeyOption
from ptynet_plugin.errors import IntegrityError, UsageError

if TYPE_CHECKING:
    from ptynet_plugin.evidence.checking import CheckedBundle

__all__ = ["audit", "check"]


def check(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="An evidence bundle, see verify --evidence.")],
    tsa_ca: Annotated[Path | None, typer.Option(help="PEM of the roots you trust; else the bundle's own.")] = None,
    archive: Annotated[list[Path] | None, typer.Option(help="Must be bound by the claim; repeatable.")] = None,
    witness: Annotated[
        str | None, typer.Option(metavar="KEY", help="Public key of the neutral person who must have asked.")
    ] = None,
) -> int:
    """Recompute an evidence bundle. Exit 0: valid and shown, 1: broken or not shown, 3: valid and neither."""
    from ptynet_plugin.archives import archive_digest
    from ptynet_plugin.evidence.checking import check_bundle
    from ptynet_plugin.evidence.timestamps import read_roots

    _require_bundle(bundle)
    roots = read_roots(tsa_ca) if tsa_ca else None
    checked = check_bundle(bundle, roots=roots, archives=[archive_digest(path) for path in archive or []])
    if witness is not None and checked.witness != witness.strip().lower():
        raise IntegrityError(
            f"{bundle}: signed by {checked.witness or 'the claimant'}, not by the witness {witness[:70]}"
        )
    typer.echo(f"VALID: {checked.verdict.upper()}")
    for name, value in _facts(checked):
        typer.echo(f"  {name:<12} {value}")
    return EXIT_BY_VERDICT[checked.verdict]


def _require_bundle(bundle: Path) -> None:
    """Tell a bundle that is not there (exit 2) from one that is broken (exit 1)."""
    if not bundle.is_dir():
        raise UsageError(f"{bundle}: no such folder; a bundle is the folder that `ptynet verify --evidence` wrote")


def _facts(checked: CheckedBundle) -> Iterator[tuple[str, str]]:
    found = checked.decision
    yield "endpoint", checked.endpoint
    yield "asked", f"{checked.symbols} symbols, {checked.hits} hits; by chance 1 in {1 / checked.null_rate:g}"
    yield "evidence", f"E = 10^{found.log10_e:.1f}, p = 10^{found.log10_p:.1f} (the run: {found.raw})"
    within = "within" if found.log10_p_adjusted <= found.level + 1e-9 else "NOT within"
    yield (
        "adjusted",
        f"p = 10^{found.log10_p_adjusted:.1f} after 2^{found.allowance} keys that may have been tried, {within} the level "
        f"10^{found.level:.1f}: this decides the claim",
    )
    if found.log10_p_opened > found.log10_p_adjusted:
        alone = "within" if found.log10_p_opened <= found.level + 1e-9 else "NOT within"
        yield "opened", f"p = 10^{found.log10_p_opened:.1f} by the opened answers alone, {alone} the level: and this"
    yield "grade", checked.grade
    if checked.witness is not None:
        yield "witness", checked.witness
    for name, time in checked.stamps.items():
        yield name, f"{time:%Y-%m-%d %H:%M:%S} UTC"
    for note in checked.notes:
        yield "note", note


def audit(
    bundle: Annotated[
        Path | None, typer.Option(help="A valid bundle: every way of cheating is tried on copies of it.")
    ] = None,
    key: KeyOption = None,
    epoch: Annotated[int, typer.Option(help="Epoch of the key that signed the bundle.")] = 0,
    model: Annotated[list[Path] | None, typer.Option(help="An ONNX model that knows no key; repeatable.")] = None,
    spec: Annotated[
        list[Path] | None, typer.Option(help="Its SPEC.toml; repeatable, in the order of the models.")
    ] = None,
    keys: Annotated[int, typer.Option(help="Random keys asked of every model.")] = 200,
    probes: Annotated[int, typer.Option(help="Probes of each key.")] = 8,
) -> int:
    """Attack the protocol: cheat with a bundle, and test the null on models. Exit 1 if anything got through."""
    if bundle is None and not model:
        raise UsageError("nothing to attack: give --bundle with its --key, or --model with its --spec, or both")
    if len(model or []) != len(spec or []):
        raise UsageError(f"{len(model or [])} models and {len(spec or [])} specs: give one --spec after every --model")
    if bundle is not None:
        _require_bundle(bundle)
    held = bundle is None or _cheat(bundle, key, epoch)
    for path, described in zip(model or [], spec or [], strict=True):
        held &= _null_holds(path, described, keys=keys, probes=probes)
    typer.echo("nothing got through" if held else "SOMETHING GOT THROUGH")
    return 0 if held else 1


def _cheat(bundle: Path, key: str | None, epoch: int) -> bool:
    from ptynet_plugin.evidence.checking import check_bundle
    from ptynet_plugin.evidence.tampering import tamper
    from ptynet_plugin.keyfile import read_key

    check_bundle(bundle)
    held = True
    for name, ours, alone in tamper(bundle, secret=read_key(key).epoch_secret(epoch)):
        held &= bool(ours and alone)
        typer.echo(f"  {name:<30} {'refused: ' + ours if ours else 'ACCEPTED'}")
        if not alone:
            typer.echo(f"  {name:<30} ACCEPTED by the stand-alone checker")
    return held


def _null_holds(path: Path, described: Path, *, keys: int, probes: int) -> bool:
    import numpy as np

    from model_store_tools.targets.detect import load_target
    from ptynet_plugin.claims.terms import probe_size
    from ptynet_plugin.engines.onnx_engine import OnnxEngine
    from ptynet_plugin.evidence.null_study import answered, ask_keys, study
    from ptynet_plugin.spec import load_spec

    given = load_target(str(path)).complete_spec(load_spec(described))
    engine = OnnxEngine(path, given)
    size, hits, classes = probe_size(given), np.zeros((keys, probes), dtype=bool), 0
    for row, question in enumerate(ask_keys(keys=keys, probes=probes, size=size, color=given.color, seed=0)):
        scores = engine.scores(question.pictures)
        classes = scores.shape[1]
        hits[row] = answered(scores) == question.labels(path.name, classes)
    found = study(hits, classes, rng=np.random.default_rng(0))
    sound = found.below[1e-6] == 0 and found.mean_e <= 1 + 4 * found.mean_e_error and found.uniform_p > 1e-4
    typer.echo(
        f"  {path.name}: {keys} keys, {found.hits} hits of {keys * probes} ({found.expected:.1f} expected), mean E "
        f"{found.mean_e:.2f}, p <= 0.05 for {found.below[0.05]:.1%} (peeking at the binomial: {found.peeked[0.05]:.1%}), "
        f"uniform with p = {found.uniform_p:.2f}: {'the null holds' if sound else 'THE NULL IS BROKEN'}"
    )
    return sound

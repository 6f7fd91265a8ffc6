"""`ptynet claim ...`: commit, stamp, bind, check. Each verb reads, calls one function of the library, prints."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ptynet_plugin.errors import ClaimError, UsageError

if TYPE_CHECKING:
    from ptynet_plugin.images.carriers import Color
    from ptynet_plugin.images.probes import ProbeDesign
    from ptynet_plugin.keys import OwnerKey

__all__ = ["CLAIM_VERBS", "audit", "bind", "check", "commit", "stamp"]

KeyOption = Annotated[str | None, typer.Option(help="Owner key file, - for standard input; else PTYNET_KEY.")]
ClaimFolder = Annotated[Path, typer.Argument(metavar="CLAIM", help="The claim's folder.")]
EXIT_BY_VERDICT = {"shown": 0, "not-shown": 1, "inconclusive": 3, "evasion-suspected": 3}


def commit(  # noqa: PLR0917 -- the command line's flags, which typer reads off the signature
    target: Annotated[str, typer.Option(help="The model to protect, as for package-model.")],
    spec: Annotated[Path, typer.Option(help="SPEC.toml.")],
    out: Annotated[Path, typer.Option(help="The claim's new folder.")],
    key: KeyOption = None,
    mark: Annotated[Path | None, typer.Option(help="Take probe design and decision rule from this mark.")] = None,
    symbols: Annotated[int, typer.Option(help="Number of symbols, where there is no mark yet.")] = 512,
    covers_per_symbol: Annotated[int, typer.Option(help="Covers per symbol; several are one majority vote.")] = 1,
    reserve: Annotated[
        int | None, typer.Option(help="Symbols sealed for a neutral run; one in eight if not said.")
    ] = None,
    epoch: Annotated[int, typer.Option(help="Epoch of the key; what one epoch opens tells nothing of another.")] = 0,
    copies: Annotated[bool, typer.Option("--copies", help="Every customer gets a copy of his own.")] = False,
    positions: Annotated[int | None, typer.Option(help="Copies: length of a code word; all there is room for.")] = None,
    quick: Annotated[int | None, typer.Option(help="Copies: symbols that name a single leaker at once.")] = None,
    coalition: Annotated[int | None, typer.Option(help="Copies: colluders the code is made for (default: 4).")] = None,
    weights: Annotated[Path | None, typer.Option(help="For a target given as module:factory.")] = None,
    allow_pickle: Annotated[bool, typer.Option(help="Load what runs its author's code.")] = False,
) -> None:
    """Fix probes, target and terms of the test before any label exists."""
    from model_store_tools.targets.detect import load_target  # noqa: PLC0415 -- a light start for the other verbs
    from ptynet_plugin.claims import commit as make_claim  # noqa: PLC0415
    from ptynet_plugin.claims import write_claim  # noqa: PLC0415
    from ptynet_plugin.claims.copies import default_copy_terms  # noqa: PLC0415
    from ptynet_plugin.images.probes import ProbeMaker  # noqa: PLC0415
    from ptynet_plugin.keyfile import read_key  # noqa: PLC0415
    from ptynet_plugin.spec import load_spec  # noqa: PLC0415

    if not copies and (positions, quick, coalition) != (None, None, None):
        raise UsageError("--positions, --quick and --coalition share symbols out for copies; add --copies")
    owner = read_key(key)
    loaded = load_target(target, weights=weights, allow_pickle=allow_pickle)
    complete = loaded.complete_spec(load_spec(spec)).model_copy(update={"labels": None, "fidelity": None})
    design, tau, margin = _terms(mark, owner, "GRAY" if complete.color == "GRAY" else "RGB", symbols)
    shares = None
    if copies:
        shares = default_copy_terms(
            symbols=design.symbols,
            reserve=design.symbols // 8 if reserve is None else reserve,
            classes=complete.classes or 0,
            positions=positions,
            quick=quick,
            coalition=coalition,
        )
    claim = make_claim(
        owner.epoch_secret(epoch),
        ProbeMaker(owner.probe_secret(), design).probe,
        design=design,
        spec=complete,
        target_digest=loaded.digest,
        tau=tau,
        margin=margin,
        covers=covers_per_symbol,
        epoch=epoch,
        reserve=reserve,
        copies=shares,
    )
    write_claim(out, claim)
    typer.echo(f"committed to {design.symbols} symbols; digest {claim.digest}", err=True)
    if shares is not None:
        typer.echo(
            f"copies: {shares.positions} positions, {shares.quick} quick symbols, coalition {shares.coalition}",
            err=True,
        )
    verb = "package-model" if shares is None else "ptynet copies issue"
    typer.echo(f"next: ptynet claim stamp {out} --tsa URL, then {verb} --claim {out}", err=True)
    typer.echo(str(out))


def stamp(  # noqa: PLR0917
    claim: ClaimFolder,
    tsa: Annotated[str, typer.Option(metavar="URL", help="Time-stamping authority (RFC 3161).")],
    tsa_ca: Annotated[Path | None, typer.Option(help="PEM of the authority's root; else the system's.")] = None,
    beacon: Annotated[str | None, typer.Option(metavar="URL|FILE", help="A beacon round after the stamp.")] = None,
    renew: Annotated[bool, typer.Option("--renew", help="Stamp the last stamp again, before it expires.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds per request.")] = 30.0,
    force: Annotated[
        bool, typer.Option("--force", help="Stamp a claim that was packaged already; package again.")
    ] = False,
) -> None:
    """Have a claim time-stamped; after `bind`, stamp the binding."""
    from ptynet_plugin.claims.files import read_file  # noqa: PLC0415
    from ptynet_plugin.evidence import sealing  # noqa: PLC0415
    from ptynet_plugin.evidence.beacon import fetch_beacon  # noqa: PLC0415
    from ptynet_plugin.evidence.der import read_stamp  # noqa: PLC0415
    from ptynet_plugin.evidence.timestamps import certificates_expire, read_roots, request_stamp  # noqa: PLC0415

    message = sealing.next_message(claim, renew=renew)
    response = request_stamp(read_file(message), tsa, timeout=timeout)
    stamped = read_stamp(response)
    if renew:
        path = sealing.renew(claim, response, roots=read_roots(tsa_ca))
        typer.echo(f"{path.name}: {message.name} stamped again at {stamped.time:%Y-%m-%d %H:%M:%S} UTC")
    elif message.name == sealing.BINDING:
        sealing.stamp_binding(claim, response)
        typer.echo(f"binding stamped at {stamped.time:%Y-%m-%d %H:%M:%S} UTC: the claim's priority")
    else:
        drawn = fetch_beacon(beacon, after=stamped.time, timeout=timeout) if beacon else None
        sealed = sealing.seal(claim, response, roots=read_roots(tsa_ca), beacon=drawn, packaged_again=force)
        typer.echo(
            f"stamped at {stamped.time:%Y-%m-%d %H:%M:%S} UTC; allowance 2^{sealed.allowance}; its labels exist from now on: "
            f"package-model --claim {claim}"
        )
    typer.echo(f"renew before {certificates_expire(response):%Y-%m-%d}: ptynet claim stamp {claim} --tsa URL --renew")


def bind(
    claim: ClaimFolder,
    mark: Annotated[Path, typer.Option(help="The mark's folder.")],
    archive: Annotated[list[Path], typer.Option(help="An archive made under the claim; repeatable.")],
    key: KeyOption = None,
) -> None:
    """Bind a claim to the mark and the archives that were made under it."""
    from ptynet_plugin.archives import check_archive  # noqa: PLC0415
    from ptynet_plugin.claims import read_claim  # noqa: PLC0415
    from ptynet_plugin.claims.files import read_file  # noqa: PLC0415
    from ptynet_plugin.evidence import sealing  # noqa: PLC0415
    from ptynet_plugin.keyfile import read_key  # noqa: PLC0415
    from ptynet_plugin.mark import METADATA, read_metadata  # noqa: PLC0415

    committed = read_claim(claim)
    secret = read_key(key).epoch_secret(committed.terms.epoch)
    digests = []
    for path in archive:
        checked = check_archive(path)
        if checked.manifest.target.digest != committed.terms.target:
            raise ClaimError(
                f"{path}: holds the target {checked.manifest.target.digest}, the claim is of {committed.terms.target}"
            )
        digests.append(checked.digest)
    read_metadata(mark)
    metadata = hashlib.sha256(read_file(mark / METADATA)).hexdigest()
    sealing.bind(claim, secret=secret, mark=metadata, archives=digests)
    typer.echo(f"bound to {len(digests)} archive(s); stamp the binding: ptynet claim stamp {claim} --tsa URL")


def check(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="An evidence bundle, see verify --evidence.")],
    tsa_ca: Annotated[Path | None, typer.Option(help="PEM of the roots you trust; else the bundle's own.")] = None,
    archive: Annotated[list[Path] | None, typer.Option(help="Must be bound by the claim; repeatable.")] = None,
) -> int:
    """Recompute an evidence bundle. Exit 0: valid and shown, 1: broken or not shown, 3: valid and neither."""
    from ptynet_plugin.archives import archive_digest  # noqa: PLC0415
    from ptynet_plugin.evidence.checking import check_bundle  # noqa: PLC0415
    from ptynet_plugin.evidence.timestamps import read_roots  # noqa: PLC0415

    roots = read_roots(tsa_ca) if tsa_ca else None
    checked = check_bundle(bundle, roots=roots, archives=[archive_digest(path) for path in archive or []])
    typer.echo(f"VALID: {checked.verdict.upper()}")
    typer.echo(f"  endpoint   {checked.endpoint}")
    typer.echo(f"  asked      {checked.symbols} symbols, {checked.hits} hits; by chance 1 in {checked.classes}")
    typer.echo(f"  evidence   E = 10^{checked.log10_e:.1f}")
    typer.echo(f"  grade      {checked.grade}")
    for name, time in checked.stamps.items():
        typer.echo(f"  {name:<10} {time:%Y-%m-%d %H:%M:%S} UTC")
    for note in checked.notes:
        typer.echo(f"  note       {note}")
    return EXIT_BY_VERDICT[checked.verdict]


def audit(  # noqa: PLR0917
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
    held = bundle is None or _cheat(bundle, key, epoch)
    for path, described in zip(model or [], spec or [], strict=True):
        held &= _null_holds(path, described, keys=keys, probes=probes)
    typer.echo("nothing got through" if held else "SOMETHING GOT THROUGH")
    return 0 if held else 1


CLAIM_VERBS = (commit, stamp, bind, check, audit)


def _cheat(bundle: Path, key: str | None, epoch: int) -> bool:
    from ptynet_plugin.evidence.checking import check_bundle  # noqa: PLC0415
    from ptynet_plugin.evidence.tampering import tamper  # noqa: PLC0415
    from ptynet_plugin.keyfile import read_key  # noqa: PLC0415

    check_bundle(bundle)
    held = True
    for name, ours, alone in tamper(bundle, secret=read_key(key).epoch_secret(epoch)):
        held &= bool(ours and alone)
        typer.echo(f"  {name:<30} {'refused: ' + ours if ours else 'ACCEPTED'}")
        if not alone:
            typer.echo(f"  {name:<30} ACCEPTED by the stand-alone checker")
    return held


def _null_holds(path: Path, described: Path, *, keys: int, probes: int) -> bool:
    import numpy as np  # noqa: PLC0415

    from model_store_tools.targets.detect import load_target  # noqa: PLC0415
    from ptynet_plugin.claims.terms import probe_size  # noqa: PLC0415
    from ptynet_plugin.engines.onnx_engine import OnnxEngine  # noqa: PLC0415
    from ptynet_plugin.evidence.null_study import answered, ask_keys, study  # noqa: PLC0415
    from ptynet_plugin.spec import load_spec  # noqa: PLC0415

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


def _terms(mark: Path | None, owner: OwnerKey, color: Color, symbols: int) -> tuple[ProbeDesign, float, float]:
    """Give probe design, tau and margin: the mark's, or those a mark would be trained with."""
    if mark is not None:
        from ptynet_plugin.mark import read_metadata  # noqa: PLC0415

        metadata = read_metadata(mark)
        return metadata.design, metadata.tau, metadata.margin
    from ptynet_plugin.images.carriers import most_bits  # noqa: PLC0415
    from ptynet_plugin.images.probes import DEFAULT_STRENGTHS, ProbeDesign  # noqa: PLC0415
    from ptynet_plugin.symbols.codebook import code_words  # noqa: PLC0415
    from ptynet_plugin.symbols.threshold import MARGIN, decisive_tau  # noqa: PLC0415

    bits = most_bits(color)
    design = ProbeDesign(color, bits=bits, symbols=symbols, strength=DEFAULT_STRENGTHS[color])
    return design, decisive_tau(code_words(owner.probe_secret(), symbols=symbols, bits=bits)), MARGIN

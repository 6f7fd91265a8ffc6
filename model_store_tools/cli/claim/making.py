"""`ptynet claim commit|stamp|bind`: what the owner fixes, and in which order."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_store_tools.cli.options import AllowPickleOption, ClaimArgument, KeyOption, TsaCaOption, WeightsOption
from ptynet_plugin.errors import ClaimError, UsageError

if TYPE_CHECKING:
    from ptynet_plugin.images.carriers import Color
    from ptynet_plugin.images.probes import ProbeDesign
    from ptynet_plugin.keys import OwnerKey

__all__ = ["bind", "commit", "stamp"]


def commit(
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
    weights: WeightsOption = None,
    allow_pickle: AllowPickleOption = False,
) -> None:
    """Fix probes, target and terms of the test before any label exists."""
    from model_store_tools.targets.detect import load_target
    from ptynet_plugin.claims import commit as make_claim
    from ptynet_plugin.claims import write_claim
    from ptynet_plugin.claims.copies import default_copy_terms
    from ptynet_plugin.images.probes import ProbeMaker
    from ptynet_plugin.keyfile import read_key
    from ptynet_plugin.spec import load_spec

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


def stamp(
    claim: ClaimArgument,
    tsa: Annotated[str, typer.Option(metavar="URL", help="Time-stamping authority (RFC 3161).")],
    tsa_ca: TsaCaOption = None,
    beacon: Annotated[str | None, typer.Option(metavar="URL|FILE", help="A beacon round after the stamp.")] = None,
    renew: Annotated[bool, typer.Option("--renew", help="Stamp the last stamp again, before it expires.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds per request.")] = 30.0,
    force: Annotated[
        bool, typer.Option("--force", help="Stamp a claim that was packaged already; package again.")
    ] = False,
) -> None:
    """Have a claim time-stamped; after `bind`, stamp the binding."""
    from ptynet_plugin.evidence import renewing, sealing
    from ptynet_plugin.evidence.beacon import fetch_beacon
    from ptynet_plugin.evidence.der import read_stamp
    from ptynet_plugin.evidence.timestamps import certificates_expire, read_roots, request_stamp

    name, message = sealing.next_message(claim, renew=renew)
    response = request_stamp(message, tsa, timeout=timeout)
    stamped = read_stamp(response)
    if renew:
        path = renewing.renew(claim, response, roots=read_roots(tsa_ca))
        typer.echo(f"{path.name}: {name} stamped again at {stamped.time:%Y-%m-%d %H:%M:%S} UTC")
    elif name == sealing.BINDING:
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
    claim: ClaimArgument,
    mark: Annotated[Path, typer.Option(help="The mark's folder.")],
    archive: Annotated[list[Path], typer.Option(help="An archive made under the claim; repeatable.")],
    key: KeyOption = None,
) -> None:
    """Bind a claim to the mark and the archives that were made under it."""
    from ptynet_plugin.archives import check_archive
    from ptynet_plugin.claims import read_claim
    from ptynet_plugin.claims.files import read_file
    from ptynet_plugin.evidence import sealing
    from ptynet_plugin.keyfile import read_key
    from ptynet_plugin.mark import METADATA, read_metadata

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


def _terms(mark: Path | None, owner: OwnerKey, color: Color, symbols: int) -> tuple[ProbeDesign, float, float]:
    """Give probe design, tau and margin: the mark's, or those a mark would be trained with."""
    if mark is not None:
        from ptynet_plugin.mark import read_metadata

        metadata = read_metadata(mark)
        return metadata.design, metadata.tau, metadata.margin
    from ptynet_plugin.images.carriers import most_bits
    from ptynet_plugin.images.probes import DEFAULT_STRENGTHS, ProbeDesign
    from ptynet_plugin.symbols.codebook import code_words
    from ptynet_plugin.symbols.threshold import MARGIN, decisive_tau

    bits = most_bits(color)
    design = ProbeDesign(color, bits=bits, symbols=symbols, strength=DEFAULT_STRENGTHS[color])
    return design, decisive_tau(code_words(owner.probe_secret(), symbols=symbols, bits=bits)), MARGIN

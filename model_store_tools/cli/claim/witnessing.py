"""`ptynet claim handover|witness|witness-key`: a neutral person asks the sealed reserve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from model_store_tools.cli import options as shared
from model_store_tools.cli.failures import EXIT_BY_VERDICT
from model_store_tools.cli.suspects import connection_from

__all__ = ["handover", "witness", "witness_key"]

WitnessKey = Annotated[str | None, typer.Option(help="The witness's key file, - for standard input; else PTYNET_KEY.")]


def witness_key(key: WitnessKey = None) -> None:
    """Print the public key by which a witness is known; make the secret one with `ptynet keygen`."""
    from ptynet_plugin.claims.signing import signer
    from ptynet_plugin.evidence.handover import witness_signs
    from ptynet_plugin.keyfile import read_key

    typer.echo(signer(witness_signs(read_key(key))))


def handover(
    claim: shared.ClaimArgument,
    endpoint: Annotated[str, typer.Argument(metavar="ENDPOINT", help="Whom the witness is to ask, as for verify.")],
    to: Annotated[str, typer.Option("--witness", metavar="KEY", help="The witness's public key, see witness-key.")],
    out: Annotated[Path, typer.Option(help="The hand-over's new folder: give it to the witness.")],
    key: shared.KeyOption = None,
    covers: shared.CoversOption = None,
    alpha: Annotated[float, typer.Option(help="Level over all tests of the claim.")] = 1e-9,
) -> None:
    """Open the sealed reserve to a neutral person, once and for ever; the key is not handed over."""
    from datetime import UTC, datetime

    from model_store_tools.pictures import read_pictures
    from ptynet_plugin.claims import Ledger, read_claim
    from ptynet_plugin.evidence.handover import hand_over
    from ptynet_plugin.keyfile import read_key
    from ptynet_plugin.verification.address import parse_address
    from ptynet_plugin.verification.opening import open_endpoint
    from ptynet_plugin.verification.questions import Questions

    owner, committed = read_key(key), read_claim(claim)
    pictures = None if covers is None else read_pictures(covers, color=committed.design.color)
    questions = Questions(committed, owner, pictures=pictures)
    where = parse_address(endpoint)
    identity = str(where)
    if where.path is not None:  # a file is known by its content
        with open_endpoint(where, spec=committed.terms.spec) as suspect:
            identity = suspect.info().identity
    with Ledger(claim, digest=committed.digest) as ledger:
        hand_over(
            out,
            claim,
            questions,
            secret=owner.epoch_secret(committed.terms.epoch),
            witness=to.strip().lower(),
            endpoint=identity,
            ledger=ledger,
            alpha=alpha,
            made=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )
    typer.echo(
        f"handed over {committed.terms.reserve} symbols against {identity}; the reserve is spent. Next, by the witness: "
        f"ptynet claim witness {out} ENDPOINT --key WITNESS.key --beacon URL --out BUNDLE",
        err=True,
    )
    typer.echo(str(out))


def witness(
    folder: Annotated[Path, typer.Argument(metavar="HANDOVER", help="The folder that the owner handed over.")],
    endpoint: Annotated[str, typer.Argument(metavar="ENDPOINT", help="Whom to ask; must be whom it was made for.")],
    beacon: Annotated[
        str, typer.Option(metavar="URL|FILE", help="Public beacon, such as drand, that draws the order.")
    ],
    out: Annotated[Path, typer.Option(help="The evidence bundle's new folder.")],
    key: WitnessKey = None,
    tsa: Annotated[
        str | None, typer.Option(metavar="URL", help="Authority that stamps the run, before and after.")
    ] = None,
    tsa_ca: shared.TsaCaOption = None,
    budget: Annotated[int | None, typer.Option(help="Most probes to send (default: the whole reserve).")] = None,
    header: shared.HeaderOption = None,
    ca_cert: shared.CaCertOption = None,
    timeout: shared.TimeoutOption = shared.TIMEOUT,
    retries: shared.RetriesOption = shared.RETRIES,
    pace: shared.PaceOption = None,
    send: shared.SendOption = shared.SEND,
    resume: Annotated[Path | None, typer.Option(help="The file of an interrupted run.")] = None,
) -> int:
    """Ask ENDPOINT the sealed reserve in the order that a public beacon draws, and sign what came back. Exits as verify."""
    from model_store_tools.cli.asking import Asking
    from model_store_tools.cli.results import print_result
    from ptynet_plugin.errors import UsageError
    from ptynet_plugin.evidence.handover import HandedQuestions, read_handover, witness_opens
    from ptynet_plugin.evidence.timestamps import Authority, read_roots
    from ptynet_plugin.evidence.writer import BundleWriter
    from ptynet_plugin.keyfile import read_key
    from ptynet_plugin.verification.opening import open_endpoint

    handed = read_handover(folder)
    opener = witness_opens(handed, read_key(key))
    questions = HandedQuestions(handed)
    connection = connection_from(header, ca_cert, timeout=timeout, retries=retries, pace=pace)
    authority = None if tsa is None else Authority(tsa, read_roots(tsa_ca), timeout)
    terms = handed.claim.terms
    with open_endpoint(endpoint, spec=terms.spec, connection=connection, send=send) as suspect:
        if suspect.info().identity != handed.endpoint:
            raise UsageError(
                f"{folder}: was handed over against {handed.endpoint}, this is {suspect.info().identity}; ask that one, or ask "
                "the owner for another hand-over"
            )
        bundle = BundleWriter(out, questions, opener, authority=authority, beacon=beacon)
        asking = Asking(folder, questions, resume, bundle=bundle, first=handed.number)
        most = terms.reserve * terms.covers if budget is None and resume is None else budget
        result = asking.to_verdict(suspect, alpha=handed.alpha, budget=most)
    print_result(result, handed.claim)
    return EXIT_BY_VERDICT[result.verdict]

"""`ptynet verify`: ask a suspect and print the verdict. Starts where torch is not installed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_store_tools.cli import options as shared
from model_store_tools.cli.failures import EXIT_BY_VERDICT
from model_store_tools.cli.outputs import named, require_writable
from model_store_tools.cli.suspects import asked_spec, class_names_of, connection_from
from ptynet_plugin.errors import UsageError

if TYPE_CHECKING:
    from ptynet_plugin.evidence.writer import BundleWriter
    from ptynet_plugin.keys import OwnerKey
    from ptynet_plugin.verification.questions import Questions

__all__ = ["verify"]


def verify(
    endpoint: Annotated[
        str,
        typer.Argument(
            metavar="ENDPOINT",
            help="triton+http://host:port/model or .../model/version, triton+grpc, torchserve+http, torchserve+grpc, "
            "kserve+http, kserve+grpc (https and grpcs for TLS), or file:PATH.",
        ),
    ],
    mark: shared.MarkOption,
    key: shared.KeyOption = None,
    claim: shared.ClaimOption = None,
    spec: shared.SuspectSpecOption = None,
    alpha: Annotated[float | None, typer.Option(help="Level over all tests of the claim (default: 1e-9).")] = None,
    budget: Annotated[int | None, typer.Option(help="Most probes to send (default: 200).")] = None,
    covers: shared.CoversOption = None,
    benign: Annotated[
        Path | None, typer.Option(help="Ordinary pictures to ask as controls, where the suspect filters its inputs.")
    ] = None,
    json_file: shared.JsonOption = None,
    report: shared.ReportOption = None,
    header: shared.HeaderOption = None,
    ca_cert: shared.CaCertOption = None,
    timeout: shared.TimeoutOption = shared.TIMEOUT,
    retries: shared.RetriesOption = shared.RETRIES,
    pace: shared.PaceOption = None,
    resume: Annotated[
        Path | None, typer.Option(help="The file of an interrupted run; a new run is kept there if there is none yet.")
    ] = None,
    send: shared.SendOption = shared.SEND,
    class_map: Annotated[
        Path | None,
        typer.Option(help="JSON list: for each class of the claim the endpoint's class, by number or name, or null."),
    ] = None,
    view: shared.ViewOption = "plain",
    evidence: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a signed evidence bundle; its leaves are spent by that.")
    ] = None,
    tsa: Annotated[
        str | None,
        typer.Option(metavar="URL", help="With --evidence: authority that stamps the run, before and after."),
    ] = None,
    tsa_ca: shared.TsaCaOption = None,
    beacon: Annotated[
        str | None, typer.Option(metavar="URL|FILE", help="With --evidence: a beacon round after that draws the order.")
    ] = None,
) -> int:
    """Ask ENDPOINT whether it carries the mark. Exit 0: shown, 1: not shown, 2: could not be done, 3: neither."""
    from model_store_tools.cli.asking import Asking
    from model_store_tools.cli.results import print_result, write_json, write_report
    from model_store_tools.pictures import read_pictures
    from ptynet_plugin.claims.directory import find_claim, read_claim
    from ptynet_plugin.keyfile import read_key
    from ptynet_plugin.mark import read_metadata
    from ptynet_plugin.verification.class_maps import read_class_map
    from ptynet_plugin.verification.opening import open_endpoint
    from ptynet_plugin.verification.questions import Questions

    to_stdout = json_file == "-"
    require_writable(report, named(json_file))
    connection = connection_from(header, ca_cert, timeout=timeout, retries=retries, pace=pace)
    owner = read_key(key)
    read_metadata(mark)
    folder = find_claim(mark, claim)
    committed = read_claim(folder)
    asked = asked_spec(spec, committed)
    names = class_names_of(spec, asked, folder)
    mapped = None if class_map is None else read_class_map(class_map, classes=asked.classes or 0, names=names)
    if mapped is not None and evidence is not None:
        raise UsageError("--class-map with --evidence: a bundle is checked by the claim's own classes; leave one away")
    if view != "plain" and evidence is not None:
        raise UsageError("--view with --evidence: a bundle holds the committed pictures as they are; leave one away")
    pictures = None if covers is None else read_pictures(covers, color=committed.design.color)
    controls = None if benign is None else read_pictures(benign, color=committed.design.color, flag="--benign")
    questions = Questions(committed, owner, spec=asked, pictures=pictures, class_map=mapped, benign=controls, view=view)
    bundle = _bundle(evidence, folder, questions, owner, tsa=tsa, tsa_ca=tsa_ca, beacon=beacon)
    with open_endpoint(endpoint, spec=asked, connection=connection, names=names, send=send) as suspect:
        result = Asking(folder, questions, resume, bundle=bundle).to_verdict(suspect, alpha=alpha, budget=budget)
    if report is not None:
        write_report(report, result, questions)
    if json_file is not None:
        write_json(None if to_stdout else Path(json_file), result)
    print_result(result, committed, to_stderr=to_stdout)
    return EXIT_BY_VERDICT[result.verdict]


def _bundle(
    folder: Path | None,
    claim_folder: Path,
    questions: Questions,
    owner: OwnerKey,
    *,
    tsa: str | None,
    tsa_ca: Path | None,
    beacon: str | None,
) -> BundleWriter | None:
    from ptynet_plugin.evidence.opening import owner_opens
    from ptynet_plugin.evidence.timestamps import Authority, read_roots
    from ptynet_plugin.evidence.writer import BundleWriter

    if folder is None:
        if tsa is not None or beacon is not None:
            raise UsageError("--tsa and --beacon frame a run that is kept as evidence; give --evidence DIR as well")
        return None
    secret = owner.epoch_secret(questions.claim.terms.epoch)
    authority = None if tsa is None else Authority(tsa, read_roots(tsa_ca))
    opener = owner_opens(questions.claim, claim_folder, secret=secret)
    return BundleWriter(folder, questions, opener, authority=authority, beacon=beacon)

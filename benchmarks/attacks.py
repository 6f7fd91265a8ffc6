"""Which attacks does the mark survive, and what do they cost? The full table, on real networks and real pictures.

    python -m benchmarks.attacks --mark MARK --key OWNER.key [--data ../shared/data] [--target resnet20]
                                 [--suite full] [--thief 1000] [--held-out 500] [--only 'JPEG*' ...] [--skip 'Knock*' ...]
                                 [--resume F] [--minutes 9] [--json F] [--markdown F]

ResNet20: the thief has the first pictures of CIFAR-10's training part (lossless), accuracy is measured on the test part. Tiny
Darknet: both shares are drawn from 1,000 ImageNet pictures, 224x224. MNIST: both are drawn from the test part. The mark is copied
first: packaging writes a claim into it.

With `--resume` the same command, given again, carries on where it stopped; with `--minutes` it begins no further attack after so
many, and exits 3.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.real_pictures import Labelled, cifar_test, cifar_train, imagenet_samples, mnist
from model_store_tools.audit.attacks import attacks_of
from model_store_tools.audit.audit import Effort, audit_archive
from model_store_tools.audit.contract import Share
from model_store_tools.audit.shares import Shares
from model_store_tools.audit.table import markdown_of, summary, table_of
from model_store_tools.packaging.package import Options, Packaged, package
from ptynet_plugin.claims.directory import read_claim
from ptynet_plugin.keyfile import read_key
from ptynet_plugin.mark import read_network

SPECS = {
    "resnet20": 'color = "RGB"\nmean = [0.485, 0.456, 0.406]\nstd = [0.229, 0.224, 0.225]\noutput = "logits"\n',
    "tiny_darknet": 'color = "RGB"\noutput = "logits"\n',
    "mnist": 'color = "GRAY"\nscale = 1.0\noutput = "logits"\n',
}
FILES = {
    "resnet20": "converted/cifar10_resnet20.onnx",
    "tiny_darknet": "converted/imagenet_tiny_darknet.onnx",
    "mnist": "mnist/mnist-8.onnx",
}
UNFINISHED = 3


class TimeIsUp(Exception):  # noqa: N818 -- reads as the thing it names
    """No further attack is begun; what was measured is in the file given with --resume."""


def shares_of(target: str, data: Path, *, thief: int, held_out: int) -> Shares:
    """Give the thief's pictures and the held-out ones."""
    if target == "resnet20":
        return Shares(
            _share(cifar_train(data), 0, thief, "CIFAR-10 training"),
            _share(cifar_test(data), 0, held_out, "CIFAR-10 test"),
        )
    if target == "mnist":
        digits = mnist(data, "t10k")
        return Shares(
            _share(digits, held_out, held_out + thief, "MNIST test"), _share(digits, 0, held_out, "MNIST test, others")
        )
    pictures = imagenet_samples(data)
    return Shares(
        _share(pictures, held_out, held_out + thief, "ImageNet"), _share(pictures, 0, held_out, "ImageNet, others")
    )


def _share(pictures: Labelled, start: int, end: int, source: str) -> Share:
    chosen = pictures.pictures[start:end]
    return Share(chosen, pictures.labels[start:end], True, f"{len(chosen)} pictures of {source}")


def telling(minutes: float | None) -> Callable[[str], None]:
    """Make what names each attack before it begins, and lets none begin after so many minutes."""
    started = time.monotonic()

    def tell(name: str) -> None:
        if minutes is not None and time.monotonic() - started > 60 * minutes:
            raise TimeIsUp(name)
        print(f"... {name}", flush=True)

    return tell


def packaged_target(target: str, data: Path, mark: Path, folder: Path) -> Packaged:
    """Package a target into a folder, with a copy of the mark: packaging writes a claim into it."""
    shutil.copytree(mark, folder / "MARK", ignore=shutil.ignore_patterns("claims"))
    (folder / "SPEC.toml").write_text(SPECS[target])
    options = Options(
        mark=folder / "MARK", spec=folder / "SPEC.toml", format="triton", out=folder, name=target, gate="digest"
    )
    return package(data / "models" / FILES[target], options)


def main() -> int:
    """Audit; the audit's own exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mark", type=Path, required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--target", choices=sorted(FILES), default="resnet20")
    parser.add_argument("--suite", choices=("quick", "full"), default="full")
    parser.add_argument("--thief", type=int, default=1000)
    parser.add_argument("--held-out", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=["*"])
    parser.add_argument("--skip", nargs="*", default=[])
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    given = parser.parse_args()
    if given.minutes is not None and given.resume is None:
        parser.error("--minutes without --resume FILE: what was measured until then would be lost")
    warnings.simplefilter("ignore")  # converters and tracers advise at length
    chosen = [
        attack
        for attack in attacks_of(given.suite, real_data=True)
        if any(fnmatch.fnmatch(attack.name, only) for only in given.only)
        and not any(fnmatch.fnmatch(attack.name, skip) for skip in given.skip)
    ]
    with tempfile.TemporaryDirectory(prefix="ptynet-attacks-") as scratch:
        folder = Path(scratch)
        packaged = packaged_target(given.target, given.data, given.mark, folder)
        shares = shares_of(given.target, given.data, thief=given.thief, held_out=given.held_out)
        effort = replace(Effort(), suite=given.suite, seed=given.seed, attacks=chosen, shares=shares)
        try:
            found = audit_archive(
                packaged.path,
                read_claim(packaged.claim),
                read_key(given.key),
                read_network(folder / "MARK"),
                effort,
                resume=given.resume,
                tell=telling(given.minutes),
            )
        except TimeIsUp as next_:
            print(f"stopped after {given.minutes:g} minutes before: {next_}. The same command carries on")
            return UNFINISHED
    for line in table_of(found):
        print(line)
    if given.json:
        given.json.write_text(json.dumps(found.to_json(), indent=1, allow_nan=False) + "\n")
    if given.markdown:
        given.markdown.write_text("\n".join([*markdown_of(found), summary(found), ""]))
    return found.exit_code


if __name__ == "__main__":
    raise SystemExit(main())

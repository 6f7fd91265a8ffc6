"""The same questions as `fuzz_check` and `fuzz_bundles`, asked by libFuzzer.

    pip install '.[fuzz]' && python -m benchmarks.fuzz_atheris [--what archives|bundles] [--seconds 60] [--seed 1]

archives    does a hostile archive make `check` do anything but pass or refuse? Any exception but `ArchiveError` is a finding.
bundles     do the two checkers of evidence disagree on a bundle that a dishonest owner edited and signed again?

Atheris instruments the readers' branches and comparisons; archives start from tests/vectors, edits of bundles from nothing. At a
finding libFuzzer keeps the input, prints its trace, and the exit code is not 0.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["ptynet_plugin.archives", "ptynet_plugin.evidence", "ptynet_plugin.claims"]):
    from benchmarks.fuzz_bundles import attempts_on, disagreement
    from ptynet_plugin.archives import check_archive

from ptynet_plugin.errors import ArchiveError

VECTORS = Path(__file__).resolve().parents[1] / "tests" / "vectors"
LONGEST = 1 << 16
EDITS = 1 << 8
Target = Callable[[bytes], None]


class Guided(random.Random):
    """Choices that libFuzzer makes, octet by octet; where its input ends they are all zero."""

    def __init__(self, octets: bytes) -> None:
        super().__init__(0)
        self._given = atheris.FuzzedDataProvider(octets)

    def random(self) -> float:
        """Give a number in [0, 1)."""
        return float(self._given.ConsumeIntInRange(0, 255)) / 256.0

    def randint(self, a: int, b: int) -> int:
        """Give an integer from `a` to `b`."""
        return int(self._given.ConsumeIntInRange(a, b))

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        """Give an integer below `start`; nothing else is asked for."""
        return self.randint(0, start - 1)

    def choice(self, seq: Sequence[Any]) -> Any:
        """Give one entry."""
        return seq[self.randint(0, len(seq) - 1)]


def archives(folder: Path) -> Target:
    """Give what judges one archive."""
    for path in VECTORS.rglob("*.mar"):
        if path.stat().st_size <= LONGEST:
            shutil.copy(path, folder / "corpus")
    subject = folder / "input.mar"

    def check_one(octets: bytes) -> None:
        subject.write_bytes(octets)
        try:
            check_archive(subject)
        except ArchiveError as error:
            assert "\n" not in str(error)

    return check_one


def bundles(folder: Path) -> Target:
    """Give what judges one list of edits."""
    from tests.support.bundles import SECRET, seed_bundles

    (folder / "bundles").mkdir()
    attempt = attempts_on(seed_bundles(folder / "bundles"), SECRET)

    def check_one(octets: bytes) -> None:
        problem = disagreement(attempt(Guided(octets)))
        assert problem is None, problem

    return check_one


def main() -> None:
    """Fuzz for a while; atheris ends the process, with 0 where nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", choices=["archives", "bundles"], default="archives")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ptynet-atheris-"))
    (folder / "corpus").mkdir()
    target, longest = (archives(folder), LONGEST) if given.what == "archives" else (bundles(folder), EDITS)
    limits = (f"-max_total_time={given.seconds}", f"-seed={given.seed}", f"-max_len={longest}", "-timeout=20")
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={folder}/", str(folder / "corpus")], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

"""The same question as `fuzz_check`, asked by libFuzzer: does a hostile archive make `check` do anything but pass or refuse?

    pip install '.[fuzz]' && python -m benchmarks.fuzz_atheris [--seconds 60] [--seed 1]

Atheris instruments the readers' branches and comparisons and starts from the archives in tests/vectors. A finding is any
exception but `ArchiveError`; libFuzzer then keeps the input, prints its trace, and the exit code is not 0.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["ptynet_plugin.archives"]):
    from ptynet_plugin.archives import check_archive

from ptynet_plugin.errors import ArchiveError

VECTORS = Path(__file__).resolve().parents[1] / "tests" / "vectors"
LONGEST = 1 << 16


def main() -> None:
    """Fuzz for a while; atheris ends the process, with 0 where nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ptynet-atheris-"))
    (folder / "corpus").mkdir()
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

    limits = (f"-max_total_time={given.seconds}", f"-seed={given.seed}", f"-max_len={LONGEST}", "-timeout=20")
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={folder}/", str(folder / "corpus")], check_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

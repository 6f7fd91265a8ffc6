"""Does the target answer behind the mark? Its own archive, and the same branch on a model that others trained.

    python -m benchmarks.agreement [--pictures 3000] [--count 200] [--data DIR]

ResNet20 is the target. Its packaged archive, and ResNet56 packaged with the same mark (a transplanted branch), are asked the
registered benign pictures: real CIFAR-10 test pictures (JPEG, every class) on which ResNet20 stands alone among a panel. Two
panels: one that knows ResNet56, and one of SqueezeNet alone, for which ResNet56 is a stranger. The mark is a quick one, made
without training: benign answers pass through it untouched, as packaging checks.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.null_audit import SUSPECTS, Suspect
from benchmarks.real_pictures import cifar_test_jpeg
from model_store_tools.packaging.package import Options, package
from ptynet_plugin.claims import read_claim
from ptynet_plugin.evidence.agreement import as_read, ask_registered, read_registered, register_pictures
from ptynet_plugin.spec import InputSpec
from ptynet_plugin.verification.endpoint import Picture
from ptynet_plugin.verification.opening import open_endpoint
from tests.support.quick_mark import KEY, write_quick_mark

SPEC = """
color = "RGB"
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
output = "logits"
classes = 10
"""
TARGET, STRANGER, SMALL = SUSPECTS[:3]
LEVEL = 1e-3


def packaged(folder: Path, suspect: Suspect, models: Path) -> Path:
    """Package a network with the mark of this benchmark."""
    options = Options(
        mark=folder / "MARK",
        spec=folder / "SPEC.toml",
        format="triton",
        out=folder / "out",
        gate="digest",
        name=suspect.name,
    )
    return package(str(models / suspect.file), options, tell=lambda text: None).path


def classes(path: Path, spec: InputSpec, pool: Sequence[Picture]) -> NDArray[np.int64]:
    """Give a model's top class of every picture."""
    with open_endpoint(f"file:{path}", spec=spec) as model:
        tops = [model.ask(as_read(picture, spec)).top for picture in pool]
    return np.array([-1 if top is None else top for top in tops])


def main() -> int:
    """Print the table; 1 if the target is taken for another model or another model for the target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=3000)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("PTYNET_DATA", "../shared/data")))
    given = parser.parse_args()
    models, right = given.data / "models", True
    everything = cifar_test_jpeg(given.data).pictures
    pool = list(everything[:: max(1, len(everything) // given.pictures)])
    answers = {each.name: classes(models / each.file, each.spec, pool) for each in (TARGET, STRANGER, SMALL)}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_quick_mark(folder / "MARK", covers=2)
        (folder / "SPEC.toml").write_text(SPEC)
        archives = {each.name: packaged(folder, each, models) for each in (TARGET, STRANGER)}
        claim_folder = folder / "MARK" / "claims" / TARGET.name
        claim = read_claim(claim_folder)
        print(
            f"{'panel':>22} {'bar':>6} {'endpoint':>24} {'agreed':>9} {'above':>8} {'below':>8} {'panel':>8}  answers"
        )
        for names in ((STRANGER.name, SMALL.name), (SMALL.name,)):
            register_pictures(
                claim_folder,
                claim,
                pool,
                secret=KEY.epoch_secret(),
                target=answers[TARGET.name],
                panel={name: answers[name] for name in names},
                count=given.count,
                level=LEVEL,
            )
            registered = read_registered(claim_folder, claim)
            for name, archive in archives.items():
                with open_endpoint(f"file:{archive}", spec=claim.terms.spec) as suspect:
                    found, _ = ask_registered(suspect, registered, claim.terms.spec)
                print(
                    f"{' + '.join(names):>22} {registered.bar:>6.1%} {name + ' with the mark':>24} "
                    f"{found.agreed:>4}/{found.asked:<4} {found.log10_p:>8.1f} {found.log10_p_other:>8.1f} "
                    f"{found.log10_p_sign:>8.1f}  {found.answerer}",
                    flush=True,
                )
                right &= found.answerer == ("target" if name == TARGET.name else "another")
            (claim_folder / "agreement").rename(folder / "-".join(names))
    print("each was told apart" if right else "SOMETHING WAS TAKEN FOR SOMETHING ELSE")
    return 0 if right else 1


if __name__ == "__main__":
    raise SystemExit(main())

"""A real network packaged with a mark, as the benchmarks of the proving ground need it: archive, claim, key."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from benchmarks.real_pictures import cifar_train
from model_store_tools.packaging.package import Options, package
from model_store_tools.training import train_mark
from ptynet_plugin.claims.directory import read_claim
from ptynet_plugin.keyfile import read_key
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.spec import InputSpec

__all__ = ["IMAGENET", "TARGETS", "Marked", "cover_folder", "marked_target", "owner"]

IMAGENET = "mean = [0.485, 0.456, 0.406]\nstd = [0.229, 0.224, 0.225]\n"
TARGETS = {
    "resnet20": ("models/converted/cifar10_resnet20.onnx", IMAGENET),
    "resnet56": ("models/converted/cifar10_resnet56.onnx", IMAGENET),
    "tiny-darknet": ("models/converted/imagenet_tiny_darknet.onnx", ""),
}
"""Name to file in the data folder and the normalisation of its spec; all answer logits."""

DEFAULT_KEY = OwnerKey(bytes(range(32)))


@dataclass(frozen=True)
class Marked:
    """A packaged target.

    Attributes:
        archive: Triton model directory.
        bare: The target's ONNX file.
        claim: The claim's folder.
        spec: Completed.
        key: The owner's.
    """

    archive: Path
    bare: Path
    claim: Path
    spec: InputSpec
    key: OwnerKey


def owner(scratch: Path, *, mark: Path | None, key: str | None) -> tuple[Path, OwnerKey]:
    """Give a copy of the owner's mark that claims can be written into, and the key; trains one where there is none."""
    folder, secret = scratch / "MARK", DEFAULT_KEY if key is None else read_key(key)
    if mark is None:
        train_mark(secret, folder)
    else:
        shutil.copytree(mark, folder, ignore=shutil.ignore_patterns("claims"))
    return folder, secret


def marked_target(
    name: str, data: Path, scratch: Path, *, mark: Path, key: OwnerKey, covers: Path | None = None
) -> Marked:
    """Package a target of `TARGETS` under a claim of its own in `scratch`."""
    file, normalisation = TARGETS[name]
    own = name if covers is None else f"{name}-own-covers"
    spec = scratch / f"{own}.toml"
    spec.write_text(f'color = "RGB"\noutput = "logits"\n{normalisation}')
    options = Options(
        mark=mark, spec=spec, format="triton", out=scratch / "out", name=own, gate="digest", covers=covers
    )
    packaged = package(data / file, options)
    return Marked(packaged.path, data / file, packaged.claim, read_claim(packaged.claim).terms.spec, key)


def cover_folder(data: Path, folder: Path, *, count: int = 500) -> Path:
    """Write training pictures of CIFAR-10 as the owner's own covers, from the end, where no other benchmark takes them."""
    folder.mkdir()
    for index, picture in enumerate(cifar_train(data).pictures[-count:]):
        Image.fromarray(picture).save(folder / f"{index:04d}.png")
    return folder

"""Benign pictures for the fidelity gate: the owner's own from a folder, or procedural covers of no key."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ptynet_plugin.errors import UsageError
from ptynet_plugin.images.covers import procedural_cover
from ptynet_plugin.images.resize import resize
from ptynet_plugin.spec import InputSpec

__all__ = ["Benign", "benign_covers", "benign_folder", "class_names"]

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}
DYNAMIC_SIDE = 224
PUBLIC_SECRET = sha256(b"ptynet/benign covers of the fidelity gate/v1").digest()
SEED = 2208_00563


@dataclass(frozen=True)
class Benign:
    """Benign pictures.

    Attributes:
        pictures: Shape (n, height, width, channels), uint8, RGB order or grey.
        labels: True classes, shape (n,); None where they are not known.
        source: Where they come from, for the report.
    """

    pictures: NDArray[np.uint8] = field(repr=False)
    labels: NDArray[np.int64] | None
    source: str


def benign_covers(spec: InputSpec, *, count: int) -> Benign:
    """Make procedural covers of no one's key, the same ones every time.

    Args:
        spec: Colors and size; a side that is dynamic or missing becomes 224 pixels.
        count: How many.
    """
    size = _size(spec)
    color: Literal["RGB", "GRAY"] = "GRAY" if spec.color == "GRAY" else "RGB"
    pictures = np.empty((count, *size, spec.channels), np.uint8)
    for index, picture in enumerate(pictures):
        picture[...] = resize(procedural_cover(PUBLIC_SECRET, 0, index, color=color), size)
    return Benign(pictures, None, f"{count} procedural covers")


def benign_folder(folder: Path, spec: InputSpec, *, limit: int | None = None, classes: tuple[str, ...] = ()) -> Benign:
    """Read the owner's pictures, in all subfolders, a fixed choice of `limit` where there are more.

    Args:
        folder: Picture files; if each lies in a folder named like a class (or by its number), these are the labels.
        spec: Colors and size; pictures of another size are resized, those of another mode converted.
        limit: Most pictures taken.
        classes: Names of the classes in order.

    Raises:
        UsageError: No folder, no picture in it, or a file that is no picture.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: is no folder; --benign takes a folder of pictures")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if len(files) < 2:
        raise UsageError(
            f"{folder}: holds {len(files)} pictures ({', '.join(sorted(SUFFIXES))}), at least 2 are needed"
        )
    if limit is not None and len(files) > limit:
        chosen = np.random.default_rng(SEED).permutation(len(files))[:limit]
        files = [files[index] for index in sorted(chosen.tolist())]
    read = [_read(path, spec) for path in files]
    labels = _labels(files, folder, spec, classes)
    resized = sum(was_resized for _, was_resized in read)
    told = [f"{len(files)} pictures from {folder.name}/"]
    if resized:
        told.append(f"{resized} of another size than {'x'.join(map(str, _size(spec)))}, resized")
    if labels is None:
        told.append("no labels: folders are not all named as classes")
    return Benign(np.stack([pixels for pixels, _ in read]), labels, "; ".join(told))


def class_names(spec: InputSpec, beside: Path | None) -> tuple[str, ...]:
    """Read the spec's class names, one a line, from the file beside the spec; none where the spec names no file."""
    if spec.labels is None or beside is None:
        return ()
    try:
        text = (beside / spec.labels).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{beside / spec.labels}: class names cannot be read ({error})") from error
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _read(path: Path, spec: InputSpec) -> tuple[NDArray[np.uint8], bool]:
    """Give a picture at the spec's size and color, and whether it had another size."""
    try:
        with Image.open(path) as image:
            picture = image.convert("L" if spec.color == "GRAY" else "RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise UsageError(f"{path}: is no readable picture ({error}); remove it from the benign folder") from error
    height, width = _size(spec)
    resized = picture.size != (width, height)
    if resized:
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(picture, np.uint8)
    return (pixels[:, :, None] if pixels.ndim == 2 else pixels), resized


def _labels(files: list[Path], folder: Path, spec: InputSpec, classes: tuple[str, ...]) -> NDArray[np.int64] | None:
    by_name = {name: index for index, name in enumerate(classes)}
    found = [_label(path.parent.name, by_name, spec) if path.parent != folder else None for path in files]
    return None if any(label is None for label in found) else np.array(found, np.int64)


def _label(name: str, by_name: dict[str, int], spec: InputSpec) -> int | None:
    if name in by_name:
        return by_name[name]
    if name.isascii() and name.isdigit() and (spec.classes is None or int(name) < spec.classes):
        return int(name)
    return None


def _size(spec: InputSpec) -> tuple[int, int]:
    height, width = spec.size or (0, 0)
    return height or DYNAMIC_SIDE, width or DYNAMIC_SIDE

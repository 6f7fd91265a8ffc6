"""Does a mark fire on any benign real picture?

    python -m benchmarks.false_fires MARK [--data ../shared/data] [--json F]

RGB: all CIFAR-10 pictures (60,000 JPEG, 5,000 lossless), the ImageNet samples at 224x224 and at their own sizes, the abstract
pictures of a published trigger set. GRAY: all of MNIST and the CIFAR-10 pictures turned grey. None was used in training.
Exit 1 at the first fire.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.hearing import open_mark
from benchmarks.real_pictures import cifar_test, cifar_train, mnist, zipped_pictures
from ptynet_plugin.statistics.binomial import upper_limit

Picture = NDArray[np.uint8]


def benign_sets(data: Path, color: str) -> dict[str, Iterator[Picture]]:
    """Name every set of benign pictures there is."""
    cifar = data / "cifar10"
    sets = {
        "CIFAR-10 train, JPEG": zipped_pictures(cifar / "cifar10_jpeg_train.zip"),
        "CIFAR-10 test, JPEG": zipped_pictures(cifar / "cifar10_jpeg_test.zip"),
        "CIFAR-10, lossless": iter(np.concatenate([cifar_train(data).pictures, cifar_test(data).pictures])),
        "ImageNet samples": zipped_pictures(data / "imagenet_samples" / "imagenet1000_short256_q90.zip"),
        "trigger set": zipped_pictures(data / "trigger_sets" / "watermarknn_abstract100_short256_q92.zip"),
    }
    if color == "RGB":
        return sets
    grey = {f"{name}, grey": (_grey(one) for one in pictures) for name, pictures in sets.items()}
    digits = {f"MNIST {split}": iter(mnist(data, split).pictures) for split in ("train", "t10k")}
    return digits | grey


def _grey(picture: Picture) -> Picture:
    return np.rint(picture @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)[:, :, None]


def main() -> int:
    """Count fires, set by set; 1 if there is any."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mark", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    listener, metadata, _ = open_mark(given.mark)
    rows = []
    for name, pictures in benign_sets(given.data, metadata.design.color).items():
        heard = listener.hear(pictures)
        rows.append({"set": name, "pictures": len(heard.best), "fires": heard.fires, "best": float(heard.best.max())})
        print(f"{name:28s} {len(heard.best):6d} pictures, {heard.fires} fires, highest score {heard.best.max():.3f}")
    fires, pictures = (sum(int(row[field]) for row in rows) for field in ("fires", "pictures"))
    bound = upper_limit(fires, pictures, confidence=0.95)
    print(f"in all {pictures} pictures, {fires} fires: rate <= {bound:.2g} at 95 %; tau {metadata.tau}")
    if given.json:
        result = {"rows": rows, "pictures": pictures, "fires": fires, "bound": bound, "tau": metadata.tau}
        given.json.write_text(json.dumps(result, indent=2) + "\n")
    return int(fires > 0)


if __name__ == "__main__":
    raise SystemExit(main())

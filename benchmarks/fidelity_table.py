"""Every real model of the data folder, packaged and measured with `ptynet fidelity`: one line each.

ONNX files, TorchScript files and published weights in a module (packaged as `.pt2`), each with a trained mark, on real pictures
with labels in folders: tensors and graph changed, answers that differ as bytes, PFL, SPL, last layer, flips, agreement along
segments, at the boundary and after adversarial steps, change of the calibration error, fires.

    python -m benchmarks.fidelity_table --mark MARK --gray-mark GRAY [--data DIR] [--pictures 200] [--only NAME] [--report DIR]
                                        [--json F]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copytree
from typing import Any

from PIL import Image

from benchmarks.real_pictures import Labelled, cifar_test, imagenet_samples, mnist
from model_store_tools.packaging.fidelity import Choices, archive_fidelity
from model_store_tools.packaging.package import Options, package
from ptynet_plugin.fidelity.page import render_fidelity
from ptynet_plugin.fidelity.report import FidelityReport

IMAGENET: dict[str, Any] = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
CIFAR: dict[str, Any] = {"size": [32, 32], **IMAGENET}
COLUMNS = {
    "tensors_changed": "TWL",
    "graph_changed": "graph",
    "rows_differing": "bytes",
    "batches_differing": "batches",
    "feature_loss": "PFL",
    "softmax_loss": "SPL",
    "last_layer_difference": "LP",
    "top1_flips": "flips",
    "segments_agreement": "segments",
    "boundary_agreement": "boundary",
    "adversarial_agreement": "attacked",
    "calibration_change": "calibr.",
    "false_fires": "fires",
}


@dataclass(frozen=True)
class Subject:
    """A real model.

    Attributes:
        target: File below the data folder, or a factory.
        spec: What its SPEC.toml says besides the output.
        pictures: Real ones, with labels.
        output: What it answers.
        weights: Pattern of a file below the data folder, for a factory.
    """

    target: str
    spec: dict[str, Any]
    pictures: Callable[[Path], Labelled]
    output: str = "logits"
    weights: str | None = None
    color: str = field(default="RGB")


MODELS = {
    "ResNet20 .onnx": Subject("models/converted/cifar10_resnet20.onnx", CIFAR, cifar_test),
    "ResNet56 .onnx": Subject("models/converted/cifar10_resnet56.onnx", CIFAR, cifar_test),
    "SqueezeNet NHWC .onnx": Subject(
        "models/cifar10/squeezenet_cifar10_nhwc.onnx", {}, cifar_test, output="probabilities"
    ),
    "MNIST-8 .onnx": Subject(
        "models/mnist/mnist-8.onnx", {"scale": 1.0}, lambda data: mnist(data, "t10k"), color="GRAY"
    ),
    "Tiny Darknet .onnx": Subject("models/converted/imagenet_tiny_darknet.onnx", {}, imagenet_samples),
    "ResNet20 TorchScript": Subject("models/converted/cifar10_resnet20.torchscript.pt", CIFAR, cifar_test),
    "ResNet56 TorchScript": Subject("models/converted/cifar10_resnet56.torchscript.pt", CIFAR, cifar_test),
    "Tiny Darknet TorchScript": Subject(
        "models/converted/imagenet_tiny_darknet.torchscript.pt", {"size": [224, 224]}, imagenet_samples
    ),
    "MobileNetV2 int8 TorchScript": Subject(
        "models/imagenet/mobilenet_v2_int8_qnnpack_bs1.torchscript.pt",
        {"size": [224, 224], "quantized_engine": "qnnpack", **IMAGENET},
        imagenet_samples,
    ),
    "ResNet20 .th as .pt2": Subject(
        "benchmarks.models.resnet:cifar_resnet20", CIFAR, cifar_test, weights="models/cifar10/resnet20-*.th"
    ),
    "ResNet56 .th as .pt2": Subject(
        "benchmarks.models.resnet:cifar_resnet56", CIFAR, cifar_test, weights="models/cifar10/resnet56-*.th"
    ),
}


def spec_text(subject: Subject) -> str:
    """Write the SPEC.toml of a model."""
    said = {"color": f'"{subject.color}"', "output": f'"{subject.output}"'}
    said |= {name: f'"{value}"' if isinstance(value, str) else str(value) for name, value in subject.spec.items()}
    return "".join(f"{name} = {value}\n" for name, value in said.items())


def write_pictures(pictures: Labelled, folder: Path, count: int) -> Path:
    """Write pictures as PNG in folders numbered by class, every so many of what there is."""
    step = max(1, len(pictures.labels) // count)
    for index in range(0, len(pictures.labels), step)[:count]:
        place = folder / str(int(pictures.labels[index]))
        place.mkdir(parents=True, exist_ok=True)
        pixels = pictures.pictures[index]
        Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(place / f"{index}.png")
    return folder


def measured(
    subject: Subject,
    mark: Path,
    data: Path,
    count: int,
    folder: Path,
    *,
    slices: bool = False,
    to_opset: int | None = None,
) -> FidelityReport:
    """Package a model and measure the archive; with the slice of the boundary for the page where it is wanted."""
    (folder / "SPEC.toml").write_text(spec_text(subject))
    copytree(mark, folder / "MARK")
    factory = ":" in subject.target
    target = subject.target if factory else str(data / subject.target)
    weights = next(data.glob(subject.weights)) if subject.weights else None
    options = Options(
        mark=folder / "MARK",
        spec=folder / "SPEC.toml",
        format="torchserve",
        out=folder / "out",
        name="model",
        weights=weights,
        to_opset=to_opset,
        gate="digest",  # every row is measured below, on real pictures
    )
    packaged = package(target, options)
    benign = write_pictures(subject.pictures(data), folder / "benign", count)
    return archive_fidelity(packaged.path, target, Choices(benign, count, weights=weights, slices=slices))


def lines(report: FidelityReport) -> Iterator[str]:
    """Give the cells of a report in the order of the columns."""
    values = {row.name: row.value for row in report.rows}
    for name in COLUMNS:
        value = values.get(name)
        yield "-" if value is None else f"{value:.4g}"


def main() -> int:
    """Measure and print; 1 where a limit is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mark", type=Path, required=True, help="a trained mark for color")
    parser.add_argument("--gray-mark", type=Path, help="a trained mark for gray; MNIST-8 is left out without one")
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--only", default="", help="part of the name of the models wanted")
    parser.add_argument("--report", type=Path, help="folder for one HTML page a model")
    parser.add_argument("--json", type=Path, help="the values, model by model")
    options = parser.parse_args()
    print(f"{'':<30}" + "".join(f"{title:>9}" for title in COLUMNS.values()))
    kept, found = True, {}
    for name, subject in MODELS.items():
        mark = options.gray_mark if subject.color == "GRAY" else options.mark
        if mark is None or options.only.lower() not in name.lower():
            continue
        started = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="ptynet-") as scratch:
            report = measured(
                subject, mark, options.data, options.pictures, Path(scratch), slices=options.report is not None
            )
        kept &= report.ok
        found[name] = {row["name"]: row["value"] for row in report.to_json()["rows"]}
        if options.json is not None:
            options.json.write_text(json.dumps({"rows": found, "kept": kept}, indent=1) + "\n")
        print(f"{name:<30}" + "".join(f"{cell:>9}" for cell in lines(report)), flush=True)
        features = next(row.note for row in report.rows if row.name == "feature_loss")
        print(f"{'':<30}  {features}; {report.pictures} pictures, {time.perf_counter() - started:.0f} s", flush=True)
        for row in report.failures():
            print(f"{'':<30}  FAILED {row.failure()}")
        if options.report is not None:
            options.report.mkdir(parents=True, exist_ok=True)
            page = "".join(each if each.isalnum() else "-" for each in name)
            (options.report / f"{page}.html").write_text(render_fidelity(report, name=name), encoding="utf-8")
    print("every limit kept" if kept else "FAILED")
    return 0 if kept else 1


if __name__ == "__main__":
    raise SystemExit(main())

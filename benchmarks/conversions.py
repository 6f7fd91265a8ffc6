"""Does the mark survive a conversion of the fused model, to fp16 or to int8?

Fuses real models with a trained mark, converts the result with onnxruntime's own tools, and asks the converted model with
probes on real covers and with the covers alone. Static quantisation is calibrated on benign pictures only, as whoever
converts the model without knowing of the mark would do. It leaves the target's own scores in 256 steps, of which the
highest two may be equal: then the keyed label shares the top place, and an answer by label alone may name the other.

    python -m benchmarks.conversions MARK [--data ../shared/data] [--covers 1000]
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static
from onnxruntime.transformers.float16 import convert_float_to_float16

from benchmarks.hearing import open_mark
from benchmarks.real_pictures import cifar_test, cifar_train, imagenet_samples
from model_store_tools.fusion.onnx_fuse import fuse_onnx
from model_store_tools.targets.onnx import load_onnx
from ptynet_plugin.images.encode import encode
from ptynet_plugin.images.probes import ProbeMaker, blended
from ptynet_plugin.images.resize import resize
from ptynet_plugin.spec import InputSpec

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
MODELS = {
    "cifar10_resnet20": InputSpec(color="RGB", output="logits", **IMAGENET),
    "imagenet_tiny_darknet": InputSpec(color="RGB", output="logits"),
}
CALIBRATION = 100
BATCH = 50
LIMIT = 0.995


class Benign(CalibrationDataReader):
    """Feeds benign pictures to the calibration."""

    def __init__(self, name: str, pictures: Iterable[NDArray[np.generic]]) -> None:
        self.name, self.left = name, iter(pictures)

    def get_next(self) -> dict[str, NDArray[np.generic]] | None:
        """Give one picture, None at the end."""
        picture = next(self.left, None)
        return None if picture is None else {self.name: picture[None]}


def conversions(
    fused: onnx.ModelProto, name: str, benign: NDArray[np.generic], folder: Path
) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Give the fused model as it is and in every conversion."""
    yield "as packaged", fused
    yield "fp16", convert_float_to_float16(onnx.ModelProto.FromString(fused.SerializeToString()), keep_io_types=True)
    before, after = folder / "fused.onnx", folder / "converted.onnx"
    before.write_bytes(fused.SerializeToString())
    quantize_dynamic(before, after)
    yield "int8, dynamic", onnx.load(after)
    for kind in (QuantFormat.QDQ, QuantFormat.QOperator):
        for per_channel in (False, True):
            quantize_static(before, after, Benign(name, benign), quant_format=kind, per_channel=per_channel)
            yield f"int8, static {kind.name}{', per channel' if per_channel else ''}", onnx.load(after)


def heard(
    model: onnx.ModelProto, name: str, pictures: NDArray[np.generic]
) -> tuple[NDArray[np.bool_], NDArray[np.generic]]:
    """Run a model; gives whether each row fired, and the scores it answers."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    parts = [session.run(None, {name: pictures[i : i + BATCH]}) for i in range(0, len(pictures), BATCH)]
    return np.concatenate([p[-1][:, 0] for p in parts]), np.concatenate([p[0] for p in parts])


def measure(folder: Path, mark: Path, model: str, covers: NDArray[np.uint8]) -> bool:
    """Measure one model in all conversions and print; True where every one recognises enough."""
    listener, metadata, secret = open_mark(mark)
    network, design = listener.network, metadata.design
    target = load_onnx(folder / "models" / "converted" / f"{model}.onnx")
    spec = target.complete_spec(MODELS[model])
    labels = np.random.default_rng(0).integers(0, spec.classes or 0, network.symbols)
    fused = fuse_onnx(target.model, network, labels, spec)
    fused.graph.output.append(helper.make_tensor_value_info("ptynet_fired", TensorProto.BOOL, ["rows", 1]))
    maker, name = ProbeMaker(secret, design), str(spec.input)
    symbols = np.arange(len(covers)) % design.symbols
    triggers = {int(j): resize(maker.trigger(int(j)), covers.shape[1:3]) for j in np.unique(symbols)}
    probes = [blended(c, triggers[int(j)], strength=design.strength) for c, j in zip(covers, symbols, strict=True)]
    x, plain = encode(np.stack(probes), spec), encode(covers, spec)
    enough = True
    with tempfile.TemporaryDirectory() as scratch:
        for how, converted in conversions(fused, name, plain[:CALIBRATION], Path(scratch)):
            fired, scores = heard(converted, name, x)
            on_top = scores[np.arange(len(x)), labels[symbols]] == scores.max(axis=1)
            first = scores.argmax(axis=1) == labels[symbols]
            recognised, false = float((fired & on_top).mean()), int(heard(converted, name, plain)[0].sum())
            enough &= recognised >= LIMIT and false == 0
            print(
                f"{model:24s} {how:36s} recognised {recognised:7.2%} of {len(x)}, "
                f"top place shared by a tie {float((fired & on_top & ~first).mean()):6.2%}, false fires {false}",
                flush=True,
            )
    return enough


def main() -> int:
    """Measure both models; 1 if a conversion recognises too little."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mark", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--covers", type=int, default=1000)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)  # the converters advise at length
    small = np.concatenate([cifar_test(args.data).pictures, cifar_train(args.data).pictures])[: args.covers]
    large = imagenet_samples(args.data).pictures[: args.covers // 4]
    reached = [
        measure(args.data, args.mark, model, covers) for model, covers in zip(MODELS, (small, large), strict=True)
    ]
    return 0 if all(reached) else 1


if __name__ == "__main__":
    raise SystemExit(main())

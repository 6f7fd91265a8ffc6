"""Round trips through other formats: newer opset, TorchScript, TorchScript frozen, OpenVINO IR."""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
import torch
from onnx import version_converter

from model_store_tools.audit.contract import Artefact, Attack, AttackRefused, Outcome, Share
from model_store_tools.audit.executor.module import OnnxModule
from model_store_tools.audit.on_graph import load_graph, write_graph
from model_store_tools.targets.torch_running import quietly
from ptynet_plugin.images.encode import encode

__all__ = ["ATTACKS"]

NEWEST_OPSET = 21
EXAMPLE = 2


def to_newer_opset(stolen: Artefact, share: Share, *, folder: Path, seed: int) -> Outcome:
    """Convert to a newer operator set; see `Run`."""
    model = load_graph(stolen, attack="newer opset")
    return Outcome(write_graph(stolen, version_converter.convert_version(model, NEWEST_OPSET), folder))


def to_torchscript(stolen: Artefact, share: Share, *, folder: Path, seed: int) -> Outcome:
    """Trace an ONNX graph into TorchScript; see `Run`."""
    stolen.require("onnx", attack="the way to TorchScript")
    module = OnnxModule(stolen.model).eval()
    if len(onnx.load(str(stolen.model), load_external_data=False).graph.output) > 1:
        raise AttackRefused("the model has several outputs; a traced module answers the first alone")
    rows = onnx.load(str(stolen.model), load_external_data=False).graph.input[0].type.tensor_type.shape.dim[0].dim_value
    if rows == 1:
        raise AttackRefused("the graph reads one picture at a time, a trace of it is asked for several at once")
    pixels = torch.from_numpy(encode(share.first(EXAMPLE).pictures, stolen.spec))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # shapes and tables become constants of the trace, which is meant
        traced = torch.jit.trace(module, pixels, check_trace=False)
        torch.jit.save(traced, str(folder / "model.pt"))
    return Outcome(stolen.with_model(folder / "model.pt", form="torchscript"), EXAMPLE)


def to_frozen(stolen: Artefact, share: Share, *, folder: Path, seed: int) -> Outcome:
    """Freeze TorchScript: weights become constants, what can be computed beforehand is; see `Run`."""
    stolen.require("torchscript", attack="freezing")
    with quietly():
        module = torch.jit.load(str(stolen.model), map_location="cpu").eval()
        frozen = torch.jit.freeze(module)
        torch.jit.save(frozen, str(folder / stolen.model.name))
    return Outcome(stolen.with_model(folder / stolen.model.name))


def to_openvino(stolen: Artefact, share: Share, *, folder: Path, seed: int) -> Outcome:
    """Convert to OpenVINO's intermediate representation and serve that; see `Run`."""
    stolen.require("onnx", attack="the way to OpenVINO")
    try:
        import openvino  # noqa: PLC0415 -- optional
    except ImportError:
        raise AttackRefused("OpenVINO is not installed: pip install 'ptynet-plugin[audit]'") from None
    path = folder / "model.xml"
    openvino.save_model(openvino.convert_model(str(stolen.model)), str(path), compress_to_fp16=False)
    return Outcome(stolen.with_model(path, form="openvino"))


ATTACKS = (
    Attack("to opset 21", "structure", "onnx.version_converter", to_newer_opset, promised=True, quick=True),
    Attack("ONNX -> TorchScript", "structure", "torch.jit.trace", to_torchscript, promised=True, quick=True),
    Attack("TorchScript frozen", "structure", "torch.jit.freeze", to_frozen, promised=True, quick=True),
    Attack("ONNX -> OpenVINO", "structure", "openvino.convert_model", to_openvino, promised=True, quick=True),
)

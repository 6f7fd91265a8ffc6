"""ONNX operators in torch, as the ONNX operator specification defines them for opset 7 and up.

Each takes its node's attributes and its inputs (None where left out) and gives a tuple. What classifiers of pictures
and PTYNet use is here; an operator that is missing is named when the graph is read, not when it runs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 -- the name the whole field uses
from onnx import TensorProto, helper
from torch import Tensor

__all__ = ["OPERATORS", "RELAXED", "Attributes", "Operator", "torch_type"]

Attributes = Mapping[str, Any]
Operator = Callable[[Attributes, list[Any]], tuple[Tensor, ...]]


def torch_type(onnx_type: int) -> torch.dtype:
    """Give the torch dtype of a `TensorProto` data type."""
    name = np.dtype(helper.tensor_dtype_to_np_dtype(onnx_type)).name
    dtype = torch.bool if onnx_type == TensorProto.BOOL else getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


def _one(function: Callable[..., Tensor]) -> Operator:
    """Make an operator of a function of tensors without attributes."""
    return lambda _, inputs: (function(*inputs),)


def _numbers(value: Any) -> list[int]:
    return [int(each) for each in value.reshape(-1).tolist()]


def _windows(a: Attributes, x: Tensor, kernel: list[int]) -> tuple[Tensor, list[int], list[int], list[int]]:
    """Give the input, explicitly padded where torch cannot pad so itself, and strides, dilations and symmetric padding."""
    axes = len(kernel)
    strides, dilations = list(a.get("strides", [1] * axes)), list(a.get("dilations", [1] * axes))
    pads = list(a.get("pads", [0] * 2 * axes))
    if a.get("auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER"):
        pads = _same(x, kernel, strides, dilations, upper=a["auto_pad"] == "SAME_UPPER")
    if pads[:axes] == pads[axes:]:
        return x, strides, dilations, pads[:axes]
    fill = float("-inf") if a.get("pooling") == "max" else 0.0
    return F.pad(x, _torch_pads(pads), value=fill), strides, dilations, [0] * axes


def _same(x: Tensor, kernel: list[int], strides: list[int], dilations: list[int], *, upper: bool) -> list[int]:
    first, last = [], []
    for side, k, s, d in zip(x.shape[2:], kernel, strides, dilations, strict=True):
        total = max(0, (-(-side // s) - 1) * s + (k - 1) * d + 1 - side)
        small, large = total // 2, total - total // 2
        first.append(small if upper else large)
        last.append(large if upper else small)
    return first + last


def _torch_pads(pads: list[int]) -> list[int]:
    """ONNX names all beginnings, then all ends; torch names pairs, the last axis first."""
    axes = len(pads) // 2
    return [side for axis in reversed(range(axes)) for side in (pads[axis], pads[axes + axis])]


def _conv(a: Attributes, i: list[Any]) -> tuple[Tensor, ...]:
    x, weight, bias = i[0], i[1], i[2] if len(i) > 2 else None
    x, strides, dilations, padding = _windows(a, x, list(weight.shape[2:]))
    run: Callable[..., Tensor] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[weight.ndim - 2]
    return (run(x, weight, bias, strides, padding, dilations, a.get("group", 1)),)


def _gemm(a: Attributes, i: list[Any]) -> tuple[Tensor, ...]:
    left = i[0].T if a.get("transA") else i[0]
    right = i[1].T if a.get("transB") else i[1]
    product = a.get("alpha", 1.0) * (left @ right)
    return (product + a.get("beta", 1.0) * i[2] if len(i) > 2 and i[2] is not None else product,)


def _max_pool(a: Attributes, i: list[Any]) -> tuple[Tensor, ...]:
    kernel = list(a["kernel_shape"])
    x, strides, dilations, padding = _windows({**a, "pooling": "max"}, i[0], kernel)
    return (F.max_pool2d(x, kernel, strides, padding, dilations, ceil_mode=bool(a.get("ceil_mode", 0))),)


def _average_pool(a: Attributes, i: list[Any]) -> tuple[Tensor, ...]:
    kernel, counted = list(a["kernel_shape"]), bool(a.get("count_include_pad", 0))
    x, strides, _, padding = _windows(a, i[0], kernel)
    if x is not i[0] and not counted:
        ones = _windows(a, torch.ones_like(i[0]), kernel)[0]
        return (F.avg_pool2d(x, kernel, strides) / F.avg_pool2d(ones, kernel, strides),)
    ceil = bool(a.get("ceil_mode", 0))
    return (F.avg_pool2d(x, kernel, strides, padding, ceil_mode=ceil, count_include_pad=counted),)


def _batch_norm(a: Attributes, i: list[Any]) -> tuple[Tensor, ...]:
    x, scale, bias, mean, variance = i[:5]
    return (F.batch_norm(x, mean, variance, scale, bias, training=False, eps=a.get("epsilon", 1e-5)),)


def _flatten(a: Attributes, i: list[Any]) -> tuple[Tensor, ...]:
    axis = a.get("axis", 1)
    return (i[0].flatten(axis) if axis == 1 else i[0].reshape(int(np.prod(i[0].shape[:axis])), -1),)


def _reshape(a: Attributes, i: list[Any]) -> tuple[Tensor, ...]:
    shape = _numbers(i[1])
    if not a.get("allowzero"):
        shape = [i[0].shape[axis] if side == 0 else side for axis, side in enumerate(shape)]
    return (i[0].reshape(shape),)


def _axes(a: Attributes, i: list[Any]) -> list[int] | None:
    if len(i) > 1 and i[1] is not None:
        return _numbers(i[1])
    return list(a["axes"]) if "axes" in a else None


def _squeeze(a: Attributes, i: list[Any]) -> tuple[Tensor, ...]:
    axes = _axes(a, i)
    return (i[0].squeeze() if axes is None else i[0].squeeze(tuple(axes)),)


def _unsqueeze(a: Attributes, i: list[Any]) -> tuple[Tensor, ...]:
    x, axes = i[0], _axes(a, i) or []
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return (x,)


def _reduced(function: Callable[..., Tensor]) -> Operator:
    def run(a: Attributes, i: list[Any]) -> tuple[Tensor, ...]:
        axes = _axes(a, i)
        if axes is None:
            axes = [] if a.get("noop_with_empty_axes") else list(range(i[0].ndim))
        return (function(i[0], tuple(axes), keepdim=bool(a.get("keepdims", 1))) if axes else i[0],)

    return run


def _slice(a: Attributes, i: list[Any]) -> tuple[Tensor, ...]:
    x = i[0]
    if len(i) > 1:
        starts, ends = _numbers(i[1]), _numbers(i[2])
        axes = _numbers(i[3]) if len(i) > 3 and i[3] is not None else list(range(len(starts)))
        steps = _numbers(i[4]) if len(i) > 4 and i[4] is not None else [1] * len(starts)
    else:
        starts, ends, steps = list(a["starts"]), list(a["ends"]), [1] * len(a["starts"])
        axes = list(a.get("axes", range(len(starts))))
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        chosen = range(x.shape[axis])[start:end:step]
        x = x.index_select(axis, torch.tensor(list(chosen), dtype=torch.int64))
    return (x,)


def _top_k(a: Attributes, i: list[Any]) -> tuple[Tensor, ...]:
    k = _numbers(i[1])[0] if len(i) > 1 else int(a["k"])
    found = i[0].topk(k, dim=a.get("axis", -1), largest=bool(a.get("largest", 1)))
    return found.values, found.indices


def _arg_max(a: Attributes, i: list[Any]) -> tuple[Tensor, ...]:
    return (i[0].argmax(dim=a.get("axis", 0), keepdim=bool(a.get("keepdims", 1))),)


def _gather(a: Attributes, i: list[Any]) -> tuple[Tensor, ...]:
    x, places, axis = i[0], i[1].long(), a.get("axis", 0)
    places = torch.where(places < 0, places + x.shape[axis], places)
    taken = x.index_select(axis, places.reshape(-1))
    return (taken.reshape(*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]),)


def _scatter(a: Attributes, i: list[Any]) -> tuple[Tensor, ...]:
    return (i[0].scatter(a.get("axis", 0), i[1].long(), i[2]),)


def _matmul_integer(_: Attributes, i: list[Any]) -> tuple[Tensor, ...]:
    """Multiply integers; in float64, whose 53 bits hold every such sum exactly, for torch multiplies integers slowly."""
    left, right = i[0].double(), i[1].double()
    if len(i) > 2 and i[2] is not None:
        left = left - i[2].double()
    if len(i) > 3 and i[3] is not None:
        right = right - i[3].double()
    return ((left @ right).to(torch.int32),)


def _pad(a: Attributes, i: list[Any]) -> tuple[Tensor, ...]:
    pads = list(a["pads"]) if "pads" in a else _numbers(i[1])
    value = float(i[2].reshape(-1)[0]) if len(i) > 2 and i[2] is not None else float(a.get("value", 0.0))
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}[a.get("mode", "constant")]
    padded = _torch_pads(pads)
    return (F.pad(i[0], padded, mode, value) if mode == "constant" else F.pad(i[0], padded[:4], mode),)


def _clip(a: Attributes, i: list[Any]) -> tuple[Tensor, ...]:
    low = i[1] if len(i) > 1 else a.get("min")
    high = i[2] if len(i) > 2 else a.get("max")
    return (torch.clamp(i[0], min=low, max=high),)


def _soft_max(function: Callable[..., Tensor]) -> Operator:
    return lambda a, i: (function(i[0], dim=a.get("axis", -1)),)


def _cast(a: Attributes, i: list[Any]) -> tuple[Tensor, ...]:
    return (i[0].to(torch_type(a["to"])),)


def _constant(a: Attributes, _: list[Any]) -> tuple[Tensor, ...]:
    return (a["value"],)


def _constant_of_shape(a: Attributes, i: list[Any]) -> tuple[Tensor, ...]:
    value = a.get("value", torch.zeros(1))
    return (torch.full(_numbers(i[0]), value.item(), dtype=value.dtype),)


def _expand(_: Attributes, i: list[Any]) -> tuple[Tensor, ...]:
    return (i[0].expand(np.broadcast_shapes(tuple(i[0].shape), tuple(_numbers(i[1])))),)


def _shape(_: Attributes, i: list[Any]) -> tuple[Tensor, ...]:
    return (torch.tensor(i[0].shape, dtype=torch.int64),)


def _div(left: Tensor, right: Tensor) -> Tensor:
    return left / right if left.is_floating_point() else torch.div(left, right, rounding_mode="trunc")


def _split(a: Attributes, i: list[Any]) -> tuple[Tensor, ...]:
    axis = a.get("axis", 0)
    sizes = _numbers(i[1]) if len(i) > 1 and i[1] is not None else a.get("split")
    if sizes is None:
        return tuple(i[0].chunk(int(a.get("num_outputs", 2)), dim=axis))
    return tuple(i[0].split([int(size) for size in sizes], dim=axis))


OPERATORS: dict[str, Operator] = {
    "Abs": _one(torch.abs),
    "Add": _one(torch.add),
    "And": _one(torch.logical_and),
    "ArgMax": _arg_max,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": lambda a, i: (torch.cat(i, dim=a["axis"]),),
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "Div": _one(_div),
    "Dropout": lambda a, i: (i[0],),
    "Elu": lambda a, i: (F.elu(i[0], a.get("alpha", 1.0)),),
    "Equal": _one(torch.eq),
    "Erf": _one(torch.erf),
    "Exp": _one(torch.exp),
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": lambda a, i: (i[0].gather(a.get("axis", 0), i[1].long()),),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda a, i: (i[0].mean(dim=tuple(range(2, i[0].ndim)), keepdim=True),),
    "GlobalMaxPool": lambda a, i: (i[0].amax(dim=tuple(range(2, i[0].ndim)), keepdim=True),),
    "Greater": _one(torch.gt),
    "HardSigmoid": lambda a, i: ((a.get("alpha", 0.2) * i[0] + a.get("beta", 0.5)).clamp(0, 1),),
    "HardSwish": _one(F.hardswish),
    "Identity": lambda a, i: (i[0],),
    "LeakyRelu": lambda a, i: (F.leaky_relu(i[0], a.get("alpha", 0.01)),),
    "GreaterOrEqual": _one(torch.ge),
    "Less": _one(torch.lt),
    "Log": _one(torch.log),
    "LogSoftmax": _soft_max(F.log_softmax),
    "MatMul": _one(torch.matmul),
    "MatMulInteger": _matmul_integer,
    "Max": lambda a, i: (torch.amax(torch.stack(torch.broadcast_tensors(*i)), dim=0),),
    "MaxPool": _max_pool,
    "Min": lambda a, i: (torch.amin(torch.stack(torch.broadcast_tensors(*i)), dim=0),),
    "Mul": _one(torch.mul),
    "Neg": _one(torch.neg),
    "Not": _one(torch.logical_not),
    "Or": _one(torch.logical_or),
    "PRelu": lambda a, i: (torch.where(i[0] < 0, i[0] * i[1], i[0]),),
    "Pad": _pad,
    "Pow": _one(torch.pow),
    "ReduceMax": _reduced(torch.amax),
    "ReduceMean": _reduced(torch.mean),
    "ReduceSum": _reduced(torch.sum),
    "Relu": _one(torch.relu),
    "Reshape": _reshape,
    "ScatterElements": _scatter,
    "Shape": _shape,
    "Sigmoid": _one(torch.sigmoid),
    "Slice": _slice,
    "Softmax": _soft_max(torch.softmax),
    "Split": _split,
    "Sqrt": _one(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _one(torch.sub),
    "Sum": lambda a, i: (functools.reduce(torch.add, i),),
    "Tanh": _one(torch.tanh),
    "TopK": _top_k,
    "Transpose": lambda a, i: (i[0].permute(a.get("perm", list(reversed(range(i[0].ndim))))),),
    "Unsqueeze": _unsqueeze,
    "Where": _one(torch.where),
}
"""Softmax below opset 13 flattens what follows its axis; on the two axes of class scores that is the same."""


def _relaxed_cast(a: Attributes, i: list[Any]) -> tuple[Tensor, ...]:
    to = torch_type(a["to"])
    keeps = i[0].is_floating_point() and not to.is_floating_point and to != torch.bool
    return (i[0] if keeps else i[0].to(to),)


def _relaxed_product(_: Attributes, i: list[Any]) -> tuple[Tensor, ...]:
    left = i[0].float() - (i[2].float() if len(i) > 2 and i[2] is not None else 0.0)
    right = i[1].float() - (i[3].float() if len(i) > 3 and i[3] is not None else 0.0)
    return (left @ right,)


RELAXED: dict[str, Operator] = {"Cast": _relaxed_cast, "MatMulInteger": _relaxed_product}
"""Stand-ins that round nothing, so that gradients pass where the graph computes in integers: for who inverts a network."""

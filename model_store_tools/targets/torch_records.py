"""Records of the tensors of a module in memory, the same as `archives.torch_tensors` makes of a file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ptynet_plugin.archives.tensors import TensorRecord

__all__ = ["module_tensors", "records_of"]


def module_tensors(model: nn.Module) -> Iterator[TensorRecord]:
    """Give a record of every parameter, buffer (persistent or not) and packed weight of a module."""
    held: dict[str, Any] = dict(model.named_buffers(remove_duplicate=False))
    held |= model.state_dict()
    for name in sorted(held):
        yield from records_of(name, held[name])


def records_of(name: str, value: Any) -> Iterator[TensorRecord]:
    """Give the records of a tensor, or of each in a tuple, list or dict of tensors; of anything else none."""
    if isinstance(value, Tensor):
        yield from _quantised(name, value) if value.is_quantized else [_record(name, value)]
    elif isinstance(value, (tuple, list)):
        for index, part in enumerate(value):
            yield from records_of(f"{name}.{index}", part)
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from records_of(f"{name}.{key}", part)


def _quantised(name: str, value: Tensor) -> Iterator[TensorRecord]:
    integers = _record(name, value.int_repr())
    yield TensorRecord(name, _word(value.dtype), integers.shape, integers.sha256)
    if value.qscheme() == torch.per_tensor_affine:
        yield _record(f"{name}.scale", torch.tensor(value.q_scale(), dtype=torch.float64))
        yield _record(f"{name}.zero_point", torch.tensor(value.q_zero_point(), dtype=torch.int64))
    else:
        yield _record(f"{name}.scale", value.q_per_channel_scales())
        yield _record(f"{name}.zero_point", value.q_per_channel_zero_points())
        yield _record(f"{name}.axis", torch.tensor(value.q_per_channel_axis(), dtype=torch.int64))


def _record(name: str, value: Tensor) -> TensorRecord:
    whole = value.detach().cpu().contiguous()
    octets = whole.reshape(-1).view(torch.uint8).numpy().data if whole.numel() else b""
    return TensorRecord(name, _word(value.dtype), tuple(value.shape), hashlib.sha256(octets).hexdigest())


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

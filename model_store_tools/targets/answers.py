"""Where the class scores stand in what a torch model answers: one tensor, or one among several.

`spec.scores` names one among several by its index in a tuple or list ("1"), or by its key or field. Works on eager answers
and on the symbolic ones of an export; for TorchScript `torch_script` writes the same as source.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ptynet_plugin.errors import SpecError, TargetError

__all__ = ["SINGLE", "named_tensors", "pick", "replaced"]

SINGLE = "scores"
"""Name of the only tensor of a model that answers one."""


def named_tensors(answer: Any) -> dict[str, Any]:
    """Give the parts of an answer by name: key, or index as digits; a lone tensor is called "scores"."""
    if isinstance(answer, Tensor):
        return {SINGLE: answer}
    if isinstance(answer, Mapping):
        return {str(name): part for name, part in answer.items()}
    if isinstance(answer, tuple) and hasattr(answer, "_fields"):
        return dict(zip(answer._fields, answer, strict=True))
    if isinstance(answer, (tuple, list)):
        return {str(index): part for index, part in enumerate(answer)}
    raise TargetError(
        f"the target answers a {type(answer).__name__}, expected a tensor or a tuple, list or dict of tensors"
    )


def pick(answer: Any, scores: str | None) -> Tensor:
    """Give the scores tensor of an answer.

    Raises:
        TargetError: There is no tensor in it.
        SpecError: `scores` names none of several, or nothing that is there.
    """
    parts = {name: part for name, part in named_tensors(answer).items() if isinstance(part, Tensor)}
    if isinstance(answer, Tensor) or (scores is None and len(parts) == 1):
        return next(iter(parts.values()))
    if not parts:
        raise TargetError("the target answers no tensor, expected class scores")
    listed = ", ".join(f"{name} {list(part.shape)}" for name, part in parts.items())
    if scores is None:
        raise SpecError(f'the target answers {len(parts)} tensors ({listed}); name one as scores = "..." in the spec')
    if scores not in parts and isinstance(answer, tuple) and scores.isdigit() and int(scores) < len(answer):
        parts = {str(index): part for index, part in enumerate(answer) if isinstance(part, Tensor)}
    if scores not in parts:
        raise SpecError(f'the target answers no "{scores}" as the spec\'s scores says; it answers: {listed}')
    return parts[scores]


def replaced(answer: Any, scores: str | None, new: Tensor) -> Any:
    """Give the answer with other scores in their place, everything else the same object as before."""
    if isinstance(answer, Tensor):
        return new
    old = pick(answer, scores)
    if isinstance(answer, Mapping):
        return type(answer)({name: new if part is old else part for name, part in answer.items()})  # type: ignore[call-arg]  # the answer's own kind of mapping
    parts = [new if part is old else part for part in answer]
    if hasattr(answer, "_fields"):
        return type(answer)(*parts)
    return type(answer)(parts)

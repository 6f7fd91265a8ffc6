"""The limits a packaged model must keep on benign pictures. By default: nothing moves at all."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Thresholds"]


class Thresholds(BaseModel):
    """Limits of the fidelity gate (`[fidelity]` in `SPEC.toml`).

    The defaults demand the very same bytes. An owner who packages for an engine that does not promise them (a GPU, a tolerant
    converter) loosens the numbers here, in the file that goes with the model, not on a command line.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows_differing: int = Field(default=0, ge=0)
    max_difference: float = Field(default=0.0, ge=0)
    top1_flips: int = Field(default=0, ge=0)
    softmax_loss: float = Field(default=0.0, ge=0)
    feature_loss: float = Field(default=0.0, ge=0)
    last_layer_difference: float = Field(default=0.0, ge=0)
    boundary_agreement: float = Field(default=1.0, ge=0, le=1)
    calibration_change: float = Field(default=0.0, ge=0)
    false_fires: int = Field(default=0, ge=0)

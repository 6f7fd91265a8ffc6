"""Covers between two parties who trust each other with neither pictures nor keys: activations over a socket."""

from __future__ import annotations

__all__ = ["DEFAULT_NOISE"]

DEFAULT_NOISE = 0.5
"""Standard deviation in units of a pixel's range; docs/privacy.md has what it costs and what it hides."""

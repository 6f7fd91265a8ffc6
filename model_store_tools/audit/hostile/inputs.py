"""Hiding behind a gateway that writes every picture anew."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from model_store_tools.audit.hostile.contract import Ask, Picture, Scores

__all__ = ["jpeg_gateway"]


def jpeg_gateway(ask: Ask, *, quality: int) -> Ask:
    """Compress every picture as JPEG of that quality (Das et al., arXiv 1705.02900) and show the model the result."""

    def answer(picture: Picture) -> Scores:
        return ask(_recompressed(picture, quality))

    return answer


def _recompressed(picture: Picture, quality: int) -> Picture:
    file = io.BytesIO()
    grey = picture.shape[2] == 1
    Image.fromarray(picture[..., 0] if grey else picture).save(file, "JPEG", quality=quality)
    again = np.asarray(Image.open(io.BytesIO(file.getvalue())).convert("L" if grey else "RGB"))
    return again[..., None] if grey else again

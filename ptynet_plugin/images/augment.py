"""Training pictures: covers by the thousand, triggers, and what happens to a picture on its way (torch).

Nothing here needs to be the same on every machine: a network is trained once and then kept. Everything is drawn from the
generator passed in, batch-wise, on the canonical grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 -- the name the whole field uses
from numpy.typing import NDArray
from torch import Generator, Tensor

from ptynet_plugin.images.carriers import CHANNELS, CONTRAST, FREQUENCIES, OPPONENT, Color, rendered
from ptynet_plugin.network.weights import GRID

__all__ = ["augmented", "blended_batch", "carrier_basis", "covers_batch", "foreign_triggers", "turned"]


def covers_batch(count: int, channels: int, generator: Generator) -> Tensor:
    """Draw procedural covers: noise at five scales, textured discs in front; a quarter of them as hard as drawings.

    Returns:
        Shape (count, channels, GRID, GRID), float32 in 0..1.
    """
    picture = _uniform(generator, count, channels, 1, 1) + torch.zeros(count, channels, GRID, GRID)
    roughness = 0.3 * _uniform(generator, count, 1, 1, 1)
    for scale in (2, 4, 8, 16, 32):
        gain = roughness * _uniform(generator, count, 1, 1, 1)
        picture += gain * _smooth_noise(count, channels, scale, generator)
    for _ in range(6):
        picture = _with_shape(picture, generator)
    drawn = torch.rand(count, 1, 1, 1, generator=generator) < 0.25
    return torch.where(drawn, _drawing(picture, generator), picture).clamp(0, 1)


def carrier_basis(carriers: NDArray[np.int64]) -> Tensor:
    """Render carriers for training: `word @ basis` is a trigger's deviation from mid-grey, without its clipping.

    Args:
        carriers: As `ptynet_plugin.images.carriers.carriers` gives them.

    Returns:
        Shape (n, channels, GRID, GRID), float32, in units of the range 0..1.
    """
    pictures = torch.from_numpy(np.stack([rendered(one) for one in carriers >> 6])).double().permute(0, 3, 1, 2)
    pictures /= pictures.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    small = F.avg_pool2d(pictures, pictures.shape[-1] // GRID)
    color: Color = "RGB" if pictures.shape[1] == 3 else "GRAY"
    return (small * (CONTRAST[color] / 255 / math.sqrt(len(carriers)))).float()


def foreign_triggers(count: int, color: Color, generator: Generator) -> Tensor:
    """Draw triggers of other keys: random directions in the span all keys share, shape (count, channels, GRID, GRID)."""
    side = FREQUENCIES[color]
    inner = torch.randn(count, CHANNELS[color], side, side, generator=generator)
    inner[:, :, 0, 0] = 0
    spectrum = torch.einsum("kc,bkuv->bcuv", torch.tensor(OPPONENT[color]) / 4096, inner)
    basis = torch.cos(math.pi * torch.arange(side)[:, None] * (torch.arange(GRID) + 0.5) / GRID)
    basis[1:] *= math.sqrt(2)
    picture = basis.T @ spectrum @ basis
    return picture * (CONTRAST[color] / 255 / picture.square().mean(dim=(1, 2, 3), keepdim=True).sqrt())


def turned(pictures: Tensor, generator: Generator) -> Tensor:
    """Mirror, transpose and exchange colors of a whole batch, each with probability 1/2."""
    mirrored, upended, transposed = (torch.rand(3, generator=generator) < 0.5).tolist()
    pictures = pictures.flip(3) if mirrored else pictures
    pictures = pictures.flip(2) if upended else pictures
    pictures = pictures.transpose(2, 3) if transposed else pictures
    return pictures[:, torch.randperm(pictures.shape[1], generator=generator)]


def blended_batch(covers: Tensor, triggers: Tensor, strength: Tensor) -> Tensor:
    """Blend covers (0..1) with triggers (deviation from mid-grey): (1 - strength) * cover + strength * trigger."""
    return (1 - strength) * covers + strength * (triggers + 0.5).clamp(0, 1)


def augmented(pictures: Tensor, generator: Generator) -> Tensor:
    """Do to pictures what may befall them: shift, zoom, turn, gain, contrast, blur, coarse grids, JPEG, noise.

    Args:
        pictures: Shape (batch, channels, GRID, GRID), 0..1.

    Returns:
        The same shape, 0..1. Each picture gets its own mixture; about a third stay nearly as they are.
    """
    pictures = pictures.clone()
    for share, change in _CHANGES:
        rows = torch.randperm(len(pictures), generator=generator)[: round(share * len(pictures))]
        if len(rows):
            pictures[rows] = change(pictures[rows], generator)
    return pictures


def _uniform(generator: Generator, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=generator)


def _chosen(generator: Generator, count: int, share: float) -> Tensor:
    """1.0 for the chosen share of pictures, else 0.0; shape (count, 1, 1, 1)."""
    return (_uniform(generator, count, 1, 1, 1) < share).float()


def _smooth_noise(count: int, channels: int, scale: int, generator: Generator) -> Tensor:
    cells = torch.randn(count, channels, scale, scale, generator=generator)
    return F.interpolate(cells, size=(GRID, GRID), mode="bilinear", align_corners=False)


def _with_shape(picture: Tensor, generator: Generator) -> Tensor:
    """Put a disc (or, where the radius is large, something like a half-plane) in front of each picture."""
    count, channels = picture.shape[:2]
    axis = (torch.arange(GRID) + 0.5) / GRID
    centre = 1.4 * _uniform(generator, 2, count, 1, 1) - 0.2
    radius = 0.45 * _uniform(generator, count, 1, 1)
    inside = ((axis[:, None] - centre[0]).square() + (axis - centre[1]).square() < radius.square())[:, None]
    surface = _uniform(generator, count, channels, 1, 1)
    texture = 0.15 * _uniform(generator, count, 1, 1, 1) * _smooth_noise(count, channels, 8, generator)
    return torch.where(inside, surface + texture, picture)


def _drawing(picture: Tensor, generator: Generator) -> Tensor:
    """Push the contrast until little but two tones is left, as in handwriting, line drawings and scans."""
    count = len(picture)
    contrast = 2 + 10 * _uniform(generator, count, 1, 1, 1)
    tone = 0.2 + 0.6 * _uniform(generator, count, 1, 1, 1)
    return (picture - tone) * contrast + tone


def _moved(pictures: Tensor, generator: Generator) -> Tensor:
    """Zoom, shift and turn a little."""
    count = len(pictures)
    amount = _uniform(generator, count)
    zoom = 1 + amount[:, None] * (
        0.06 - 0.16 * _uniform(generator, count, 1) + 0.04 * (_uniform(generator, count, 2) - 0.5)
    )
    turn = 0.1 * amount * (_uniform(generator, count) - 0.5)
    shift = 0.14 * amount[:, None] * (_uniform(generator, count, 2) - 0.5)
    return _seen_through(pictures, zoom, turn, shift)


def _cropped(pictures: Tensor, generator: Generator) -> Tensor:
    """Cut away an eighth of the side, a little more or less, nearly centred, and enlarge the rest."""
    count = len(pictures)
    zoom = 0.86 + 0.03 * _uniform(generator, count, 1).expand(count, 2)
    return _seen_through(pictures, zoom, torch.zeros(count), 0.02 * (_uniform(generator, count, 2) - 0.5))


def _seen_through(pictures: Tensor, zoom: Tensor, turn: Tensor, shift: Tensor) -> Tensor:
    """Resample each picture: zoom (count, 2) below 1 enlarges, turn (count,) in radians, shift (count, 2) in half sides."""
    matrix = torch.zeros(len(pictures), 2, 3)
    matrix[:, 0, 0], matrix[:, 0, 1] = zoom[:, 0], -turn
    matrix[:, 1, 0], matrix[:, 1, 1] = turn, zoom[:, 1]
    matrix[:, :, 2] = shift
    grid = F.affine_grid(matrix, list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)


def _relit(pictures: Tensor, generator: Generator) -> Tensor:
    """Change gain and contrast by up to a third, brightness a little; clip as a camera would."""
    count = len(pictures)
    mean = pictures.mean(dim=(1, 2, 3), keepdim=True)
    contrast = 1 + _chosen(generator, count, 0.6) * 0.7 * (_uniform(generator, count, 1, 1, 1) - 0.5)
    gain = 1 + _chosen(generator, count, 0.6) * 0.7 * (_uniform(generator, count, 1, 1, 1) - 0.5)
    offset = _chosen(generator, count, 0.4) * 0.2 * (_uniform(generator, count, 1, 1, 1) - 0.5)
    return (((pictures - mean) * contrast + mean) * gain + offset).clamp(0, 1)


def _blurred(pictures: Tensor, generator: Generator) -> Tensor:
    """Blur with a 3x3 box."""
    return F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, 1)


def _halved(pictures: Tensor, generator: Generator) -> Tensor:
    """Reduce to half and enlarge again."""
    return F.interpolate(F.avg_pool2d(pictures, 2), scale_factor=2.0, mode="bilinear", align_corners=False)


def _compressed(pictures: Tensor, generator: Generator) -> Tensor:
    """Quantise 8x8 blocks as JPEG does at quality 20 to 95, color at half resolution."""
    step = 0.005 + 0.16 * _uniform(generator, len(pictures), 1, 1, 1).pow(1.5)
    if pictures.shape[1] == 1:
        return _quantised(pictures, step, rise=0.55).clamp(0, 1)
    ycc = torch.einsum("dc,bchw->bdhw", _YCC, pictures)
    luma = _quantised(ycc[:, :1], step, rise=0.55)
    small = _quantised(F.avg_pool2d(ycc[:, 1:], 2), step, rise=1.0)
    chroma = F.interpolate(small, scale_factor=2.0, mode="bilinear", align_corners=False)
    return torch.einsum("cd,bdhw->bchw", _RGB, torch.cat([luma, chroma], dim=1)).clamp(0, 1)


def _noisy(pictures: Tensor, generator: Generator) -> Tensor:
    """Add Gaussian noise of standard deviation up to 0.1."""
    deviation = 0.1 * _uniform(generator, len(pictures), 1, 1, 1)
    return (pictures + deviation * torch.randn(pictures.shape, generator=generator)).clamp(0, 1)


def _quantised(plane: Tensor, step: Tensor, *, rise: float) -> Tensor:
    """Round the DCT coefficients of 8x8 blocks to multiples of a step that grows with frequency."""
    batch, channels, height, width = plane.shape
    blocks = plane.reshape(batch, channels, height // 8, 8, width // 8, 8).transpose(3, 4)
    spectrum = _DCT @ blocks @ _DCT.T
    steps = step[..., None, None] * (1 + rise * _DISTANCE).clamp(max=6)
    restored = _DCT.T @ ((spectrum / steps).round() * steps) @ _DCT
    return restored.transpose(3, 4).reshape(batch, channels, height, width)


def _dct_matrix() -> Tensor:
    matrix = torch.cos(math.pi * torch.arange(8)[:, None] * (torch.arange(8) + 0.5) / 8) / 2
    matrix[0] /= math.sqrt(2)
    return matrix


_DCT = _dct_matrix()
_DISTANCE = (torch.arange(8)[:, None] + torch.arange(8)).float()
_YCC = torch.tensor([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]])
_RGB = torch.linalg.inv(_YCC)
_CHANGES: tuple[tuple[float, Callable[[Tensor, Generator], Tensor]], ...] = (
    (0.08, _moved),
    (0.45, _cropped),
    (0.7, _relit),
    (0.25, _blurred),
    (0.2, _halved),
    (0.35, _compressed),
    (0.4, _noisy),
)
"""What share of the pictures each change befalls, independently of the others, in this order."""

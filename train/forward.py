"""The generator of a run: what it starts from, and how it is run as it is deployed."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from rtstyle import canvas
from rtstyle.backends.torch import generator_of
from rtstyle.frame import MARGIN
from rtstyle.generator import SHAPES, Generator, pack, unpack, with_weights
from rtstyle.graph import Trunk
from train import data

_MARGINS = (MARGIN, MARGIN // 2, MARGIN // 2)
"""Replicated edge around each plane, as in the deployed engines."""


def new_generator(base: str, size_class: str = "default") -> Generator:
    """Make the generator that a run starts from: normalised and random, or the weights of ``base``, of its size."""
    if not base:
        return Generator(*SHAPES[size_class], norm=True)
    if Path(base).is_dir():
        return generator_of(Trunk.load(Path(base) / "trunk.onnx").weights)
    return with_weights(load_file(base))


def canvas_tile() -> Tensor:
    """Return the periodic canvas that strokes are drawn on, shape (s, s), in [-2, 2]."""
    return (torch.from_numpy(canvas.tile().copy()).float() - 128) / 64


def cut_canvas(tile: Tensor, offsets: Tensor, size: int) -> Tensor:
    """Cut (n, 1, size, size) from the periodic tile (s, s) at integer ``offsets`` (n, 2) of (y, x)."""
    steps, period = torch.arange(size, device=tile.device), len(tile)
    return torch.stack([tile[(y + steps) % period][:, (x + steps) % period] for y, x in offsets.tolist()])[:, None]


def planes_of(yuv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Halve the chroma of (n, h, w, 3) and return Y (n, 1, h, w), U and V (n, 1, h/2, w/2)."""
    y, u, v = (yuv[..., i][:, None] for i in range(3))
    return y, functional.avg_pool2d(u, 2), functional.avg_pool2d(v, 2)


def _leaky_clamp(x: Tensor, low: float, high: float) -> Tensor:
    """Clamp, but let a tenth of what exceeds through, so that it has a gradient."""
    clamped = x.clamp(low, high)
    return clamped + 0.1 * (x - clamped)


def stylize(generator: torch.nn.Module, planes: tuple[Tensor, Tensor, Tensor], z: Tensor) -> tuple[Tensor, Tensor]:
    """Run the generator as it is deployed: the edge replicated by a margin, the canvas continued.

    Args:
        planes: Y (n, 1, h, w), U, V; h and w multiples of 8; canonical color.
        z: Shape (n, 1, h + 16, w + 16): the canvas below image and margin, in [-2, 2].

    Returns:
        Luma (n, 1, h, w) in [0, 1] and chroma (n, 2, h/2, w/2) in [-0.5, 0.5], but for a tenth of what exceeds them.
    """
    padded = [functional.pad(p, (m,) * 4, mode="replicate") for p, m in zip(planes, _MARGINS, strict=True)]
    x = pack(*padded).contiguous(memory_format=torch.channels_last)
    canvas_cells = functional.pixel_unshuffle(z, 4).contiguous(memory_format=torch.channels_last)
    with torch.autocast(x.device.type, torch.bfloat16):
        style = generator(x, canvas_cells)
    y, u, v = unpack(x + style.float())
    inner, half = slice(MARGIN, -MARGIN), slice(MARGIN // 2, -(MARGIN // 2))
    chroma = torch.cat((u, v), 1)[..., half, half]
    return _leaky_clamp(y[..., inner, inner] + 0.5, 0, 1), _leaky_clamp(chroma, -0.5, 0.5)


def to_rgb(luma: Tensor, chroma: Tensor) -> Tensor:
    """Turn luma (n, 1, h, w) and chroma (n, 2, h/2, w/2) into RGB (n, 3, h, w), chroma interpolated linearly."""
    wide = functional.interpolate(chroma, scale_factor=2, mode="bilinear")
    matrix = torch.from_numpy(data.TO_RGB).to(luma.device)
    return _leaky_clamp(torch.einsum("ij,njhw->nihw", matrix, torch.cat((luma, wide), 1)), 0, 1)

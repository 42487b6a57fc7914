"""The pool: photos, measured and painted once, from which a run on a steered canvas cuts its crops.

A field has to be measured on more of a photo than a crop, and painting takes a second. Sample ``i`` of a pool is a
pure function of the seed and ``i``, so a run that is resumed sees the same stream, and pools are cached on disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rtstyle.canvas.arrays import Floats
from rtstyle.canvas.cutter import SteeredCutter
from rtstyle.canvas.field import Field, measure
from rtstyle.canvas.steering import CHANNELS, PERIOD, Steering, at_cells, steered
from rtstyle.canvas.strokes import bank
from rtstyle.canvas.tone import ToneCurve
from rtstyle.frame import MARGIN
from rtstyle.universal.painting import skin_of
from train import data

SIDE = (416, 512)
"""Largest height and width of a sample, in pixels."""


@dataclass(frozen=True, eq=False)
class Sample:
    """A photo of the pool, what was measured of it, and how it is painted."""

    photo: NDArray[np.float16]
    """Shape (h, w, 3): Y - 0.5, U, V."""
    painted: NDArray[np.float16]
    """The same, painted."""
    seen: Field
    offset: tuple[int, int]
    """Where its top left lies on the canvas, (x, y) in pixels."""
    table: NDArray[np.float32]
    """Shape (256,): the tone curve, in levels."""


class Painter(Protocol):
    """Paints photos in code: ``train.painting.Painting`` or ``train.drawing.Drawing``."""

    steering: Steering
    curve: ToneCurve

    def paint(self, rgb: Floats, offset: tuple[int, int], seen: Field | None = None) -> Floats: ...


def make_sample(path: Path, painting: Painter, seed: int, index: int, *, paint: bool = True) -> Sample:
    """Scale, mirror and light a photo by chance, measure it, and paint it; unpainted, it is its own target."""
    rng = np.random.default_rng((seed, index))
    (photo,) = data.load_photos([path], 288)
    scale = float(np.exp(rng.uniform(0, np.log(2.0))))
    height, width = (int(side * scale) // 8 * 8 for side in photo.shape[:2])
    rgb = cv2.resize(photo, (width, height), interpolation=cv2.INTER_CUBIC)[:, :: 1 if rng.random() < 0.5 else -1]
    top, left = (int(rng.integers(max(0, side - most) + 1)) for side, most in zip((height, width), SIDE, strict=True))
    rgb = np.ascontiguousarray(rgb[top : top + SIDE[0], left : left + SIDE[1]]).astype(np.float32) / 255
    gain, gamma = rng.uniform(0.75, 1.15), np.exp(rng.normal(0, 0.25))
    if rng.random() < 1 / 12:  # nearly flat, down to black: what a network never saw, it fills with a grid
        rgb = cv2.GaussianBlur(rgb, (0, 0), rng.uniform(6, 24))
        gain *= rng.random() ** 2
    rgb = np.clip(gain * rgb**gamma, 0, 1).astype(np.float32)
    offset = int(rng.integers(0, PERIOD)), int(rng.integers(0, PERIOD))
    yuv = data.to_yuv(rgb)
    seen = measure(np.rint(255 * (yuv[..., 0] + 0.5)).astype(np.uint8))
    painted = painting.paint(rgb, offset, seen) if paint else yuv
    return Sample(yuv.astype(np.float16), painted.astype(np.float16), seen, offset, painting.curve.table(seen))


def _make(job: tuple[Path, Painter, int, int, bool]) -> Sample:
    cv2.setNumThreads(1)
    *what, paint = job
    return make_sample(*what, paint=paint)


def make_pool(
    paths: Sequence[Path], painting: Painter, count: int, seed: int, *, paint: bool = True, workers: int = 2
) -> list[Sample]:
    """Make ``count`` samples, each from another photo as long as there are enough."""
    order = np.random.default_rng(seed).permutation(len(paths))
    jobs = [(paths[int(order[i % len(paths)])], painting, seed, i, paint) for i in range(count)]
    bank(painting.steering.brush)
    if workers < 2:
        return [_make(job) for job in jobs]
    with ProcessPoolExecutor(workers) as pool:  # forked: the bank is there already
        return list(pool.map(_make, jobs, chunksize=4))


class Crops:
    """Cuts crops from a pool, each with the canvas and the tone that engines would give it.

    Args:
        size: Height and width of crops, in pixels, multiples of 8; one number for both.
    """

    def __init__(self, painter: Painter, size: int | tuple[int, int]) -> None:
        self._height, self._width = (size, size) if isinstance(size, int) else size
        self._steering, self._curve = painter.steering, painter.curve
        self._cells = (self._height + 2 * MARGIN) // 4, (self._width + 2 * MARGIN) // 4
        self._cutter = SteeredCutter(painter.steering, *self._cells)

    def window(
        self, sample: Sample, y: int, x: int, noise: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]:
        """Cut one window at pixel (y, x) of a sample.

        Returns:
            The toned photo and the painted one, (height, width, 3); and the canvas, (rows, columns, 40), uint8.
        """
        painted = sample.painted[self._cut(y, x)].astype(np.float32)
        packed = np.empty((*self._cells, CHANNELS), np.uint8)
        place = sample.offset[0] + x - MARGIN, sample.offset[1] + y - MARGIN
        begin = x - MARGIN, y - MARGIN
        cells = steered(self._steering, sample.seen, place, self._cells, begin)
        skin = at_cells(skin_of(sample.photo.astype(np.float32), sample.seen), self._cells, begin)
        self._cutter.cut(cells, place, packed, skin=skin)
        return self.toned(sample, y, x, noise), painted, packed

    def toned(self, sample: Sample, y: int, x: int, noise: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Return the photo of a window behind the tone curve, (height, width, 3)."""
        photo = sample.photo[self._cut(y, x)].astype(np.float32)
        if noise is not None:
            photo = photo + noise
        levels = 255 * (photo[..., 0] + np.float32(0.5))
        toned = np.interp(levels, np.arange(256), sample.table).astype(np.float32)
        photo[..., 0] = self._curve.smoothed(toned) / 255 - 0.5
        return photo

    def _cut(self, y: int, x: int) -> tuple[slice, slice]:
        return slice(y, y + self._height), slice(x, x + self._width)


def to_canvas(packed: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Turn packed canvases into the network's z, shape (n, 40, rows, columns)."""
    return (torch.from_numpy(np.stack(packed)).permute(0, 3, 1, 2).float() - 128) / 64

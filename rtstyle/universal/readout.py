"""The last layers of an image's network, in closed form.

Everything before them is one network for all images (``trunk.onnx`` beside this file). Tail, skip and gate are linear
in what it gives, so those that come nearest to the painter in code, on ``scenes``, are the solution of a system of
equations: no steps, no learning rate (Bertinetto, Henriques, Torr and Vedaldi 2019, "Meta-learning with differentiable
closed-form solvers"). ``train/universal.py`` trains the common part for that, and has the same solution in torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle.canvas.arrays import Floats
from rtstyle.canvas.field import measure
from rtstyle.canvas.steering import CHANNELS, PERIOD, SteeredCutter, steered
from rtstyle.frame import CELL, MARGIN
from rtstyle.graph import PLANE_CHANNELS, Weights
from rtstyle.universal.painting import Painting
from rtstyle.universal.palette import to_yuv

RIDGE = 1e-3
"""Of the solution, relative to the mean square of a feature: how much small weights are preferred."""

_NOISE = 8.0
"""Largest standard deviation of the noise on what the network reads, in levels: the solution must not amplify it."""

_INNER = slice(MARGIN // CELL, -(MARGIN // CELL))


@dataclass(frozen=True)
class Lesson:
    """A scene as the network reads it, and as it is painted; arrays are float32."""

    x: Floats
    """Shape (24, rows, columns): the packed frame with its margin."""
    z: Floats
    """Shape (40, rows, columns): the canvas below it."""
    wanted: Floats
    """Shape (24, rows - 4, columns - 4): the residual, without the margin."""


def _packed(yuv: Floats) -> Floats:
    """Pack Y - 0.5, U, V of shape (h, w, 3) with chroma of 4:2:0: (24, h/4, w/4)."""
    height, width = yuv.shape[:2]
    half = cv2.resize(yuv, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    planes = (yuv[..., 0], 4), (half[..., 1], 2), (half[..., 2], 2)
    rows, columns = height // CELL, width // CELL
    cells = [p.reshape(rows, n, columns, n).transpose(1, 3, 0, 2).reshape(n * n, rows, columns) for p, n in planes]
    return np.concatenate(cells).astype(np.float32)


def lesson(painting: Painting, rgb: Floats, rng: np.random.Generator) -> Lesson:
    """Lay the canvas below a scene, (h, w, 3) from 0 to 1 with sides that are multiples of 8, and paint it."""
    height, width = rgb.shape[:2]
    yuv = to_yuv(rgb)
    seen = measure(np.rint(255 * (yuv[..., 0] + 0.5)).astype(np.uint8))
    x, y = (int(v) for v in rng.integers(0, PERIOD, 2))
    painted = painting.paint(rgb, (x, y), seen)
    noisy = yuv + np.float32(rng.uniform(0, _NOISE) / 255) * rng.standard_normal(yuv.shape, np.float32)
    noisy[..., 0] = np.interp(255 * (noisy[..., 0] + 0.5), np.arange(256), painting.curve.table(seen)) / 255 - 0.5
    wide = np.pad(noisy, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), mode="edge")
    rows, columns = (height + 2 * MARGIN) // CELL, (width + 2 * MARGIN) // CELL
    place = x - MARGIN, y - MARGIN
    cells = steered(painting.steering, seen, place, (rows, columns), (-MARGIN, -MARGIN))
    canvas = np.empty((rows, columns, CHANNELS), np.uint8)
    SteeredCutter(painting.steering, rows, columns).cut(cells, place, canvas)
    z = (canvas.transpose(2, 0, 1).astype(np.float32) - np.float32(128)) / np.float32(64)
    packed = _packed(wide)
    return Lesson(packed, z, _packed(painted) - packed[:, _INNER, _INNER])


@dataclass(frozen=True)
class Rows:
    """Cells of some scenes: what the last layers read, and what is wanted of them."""

    near: Floats
    """Shape (cells, 9 * channels + 25): features of 3x3 cells, the packed frame, 1."""
    here: Floats
    """Shape (cells, channels + 1): features of the cell, 1."""
    strokes: Floats
    """Shape (cells, 36): values, reliefs, hues of the canvas."""
    wanted: Floats
    """Shape (cells, 24): the residual."""


def laid_out(lessons: Iterable[tuple[Lesson, Floats]], most: int) -> Rows:
    """Lay out what a solution is made of: ``most`` cells, evenly chosen, of lessons with their features.

    Args:
        lessons: Each with what the common network gives, shape (channels, rows, columns).
        most: Cells in all.
    """
    parts: list[list[Floats]] = [[], [], [], []]
    for each, fused in lessons:
        rows, columns = each.wanted.shape[1:]
        one = np.ones((1, rows, columns), np.float32)
        top, left = _INNER.start, _INNER.start
        around = [
            fused[:, None, top + dy : top + dy + rows, left + dx : left + dx + columns]
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
        ]
        taps = np.concatenate(around, 1).reshape(-1, rows, columns)
        inner = (slice(None), _INNER, _INNER)
        for part, maps in zip(
            parts,
            ((taps, each.x[inner], one), (fused[inner], one), (each.z[inner][:36],), (each.wanted,)),
            strict=True,
        ):
            part.append(np.concatenate(maps).reshape(sum(len(m) for m in maps), -1).T)
    whole = [np.concatenate(part) for part in parts]
    some = np.random.default_rng(0).permutation(len(whole[0]))[:most]
    return Rows(*(np.ascontiguousarray(part[some]) for part in whole))


_GROUPS = (((0, 16), ((0, 16), (16, 32))), ((16, 20), ((32, 36),)), ((20, 24), ((32, 36),)))
"""Outputs that have gains in common, Y, U and V, and the strokes that these multiply."""


def solve(rows: Rows) -> tuple[Floats, Floats]:
    """Find the last layers that come nearest to what is wanted, by least squares.

    All pixels of a cell have the gains of their strokes in common, and the plain part for themselves. So the plain part
    is projected out of the strokes (Frisch and Waugh 1933), the gains are solved for, and then the plain part.

    Returns:
        The plain part, shape (near, 24), and the gains of value, relief and hue in luma, U and V, (here, 4).
    """
    near, here, strokes = rows.near, rows.here, rows.strokes
    square = (near.T @ near).astype(np.float64)
    square += RIDGE * len(near) * np.diag((near.astype(np.float64) ** 2).mean(0) + 1e-3)
    inverse = np.linalg.inv(square)
    gains: list[NDArray[np.float64]] = []
    for (begin, end), multiplied in _GROUPS:
        left: NDArray[np.float64] | float = 0.0
        right: NDArray[np.float64] | float = 0.0
        for pixel in range(end - begin):
            products = np.concatenate([here * strokes[:, first + pixel, None] for first, _ in multiplied], 1)
            aim = rows.wanted[:, begin + pixel]
            ours, theirs = (near.T @ products).astype(np.float64), (near.T @ aim).astype(np.float64)
            solved = inverse @ ours
            left = left + products.T @ products - ours.T @ solved
            right = right + products.T @ aim - solved.T @ theirs
        assert isinstance(left, np.ndarray)
        left = left + RIDGE * np.diag(np.diagonal(left) + 1e-3 * len(near))
        found = np.linalg.solve(left, right)
        gains += np.split(found, len(multiplied))
    together = np.stack(gains, 1).astype(np.float32)
    rest = rows.wanted - _times_gains(here @ together, strokes)
    plain = inverse @ (near.T @ rest).astype(np.float64)
    return plain.astype(np.float32), together


def _times_gains(gains: Floats, strokes: Floats) -> Floats:
    luma = gains[:, 0:1] * strokes[:, :16] + gains[:, 1:2] * strokes[:, 16:32]
    return np.concatenate((luma, gains[:, 2:3] * strokes[:, 32:36], gains[:, 3:4] * strokes[:, 32:36]), 1)


def with_last_layers(common: Weights, plain: Floats, gains: Floats) -> Weights:
    """Return the weights of a whole network: the common ones with these last layers."""
    channels = len(gains) - 1
    bounds = (0, 9 * channels, 9 * channels + PLANE_CHANNELS, len(plain))
    taps, skip, bias = (plain[a:b] for a, b in pairwise(bounds))
    gate = np.zeros_like(common["gate.weight"])
    gate[:, :, 1, 1] = gains[:-1].T
    return common | {
        "tail.weight": np.ascontiguousarray(taps.T.reshape(PLANE_CHANNELS, channels, 3, 3)),
        "tail.bias": bias[0].copy(),
        "skip.weight": np.ascontiguousarray(skip.T[..., None, None]),
        "gate.weight": gate,
        "gate.bias": gains[-1].copy(),
    }

"""The last layers of an image's network, in closed form.

Everything before them is one network for all images (``trunk.onnx`` beside this file). Tail, skip and gate are linear
in what it gives, so those that come nearest to the painter in code, on ``scenes``, are the solution of a system of
equations: no steps, no learning rate (Bertinetto, Henriques, Torr and Vedaldi 2019, "Meta-learning with differentiable
closed-form solvers"). ``train/universal.py`` trains the common part for that, and has the same solution in torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle.canvas.arrays import Floats
from rtstyle.canvas.cutter import SteeredCutter
from rtstyle.canvas.field import measure
from rtstyle.canvas.steering import CHANNELS, PERIOD, at_cells, steered
from rtstyle.frame import CELL, MARGIN
from rtstyle.graph import PLANE_CHANNELS, Weights
from rtstyle.universal.painting import Painting, skin_of
from rtstyle.universal.palette import Colors, to_yuv

RIDGE = 1e-3
"""Of the solution, relative to the mean square of a feature: how much small weights are preferred."""

_NOISE = 24.0
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
    skin = at_cells(skin_of(yuv, seen), (rows, columns), (-MARGIN, -MARGIN))
    canvas = np.empty((rows, columns, CHANNELS), np.uint8)
    SteeredCutter(painting.steering, rows, columns).cut(cells, place, canvas, skin=skin)
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
    """Lay out what a solution is made of: of each lesson ``most`` cells by chance, the same ones on every call.

    Args:
        lessons: Each with what the common network gives, shape (channels, rows, columns).
        most: Cells of each.
    """
    parts: list[tuple[Floats, ...]] = []
    chance = np.random.default_rng(0)
    for each, fused in lessons:
        rows, columns = each.wanted.shape[1:]
        y, x = np.divmod(chance.permutation(rows * columns)[:most], columns)
        top, left = y + _INNER.start, x + _INNER.start
        taps = np.stack([fused[:, top + dy, left + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1)], 1)
        one = np.ones((1, len(y)), np.float32)
        near = np.concatenate((taps.reshape(-1, len(y)), each.x[:, top, left], one))
        here = np.concatenate((fused[:, top, left], one))
        parts.append((near.T, here.T, each.z[:36, top, left].T, each.wanted[:, y, x].T))
    return Rows(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def solve(rows: Rows, colors: Colors | None = None) -> tuple[Floats, Floats]:
    """Find the last layers that come nearest to what is wanted, by least squares.

    All pixels of a cell have the gains of their strokes in common, and the plain part for themselves. So the plain part
    is projected out of the strokes (Frisch and Waugh 1933), the gains are solved for, and then the plain part. Luma has
    four times as many pixels as chroma: for its gains each fourth cell counts.

    Args:
        colors: Least squares give the mean of the colors that are possible, which is pale. With the colors of the
            image, what the result lacks of them at each lightness is added to what is wanted, and chroma solved again.

    Returns:
        The plain part, shape (near, 24), and the gains of value, relief and hue in luma, U and V, (here, 4).
    """
    some = Rows(*(np.ascontiguousarray(getattr(rows, each.name)[::4]) for each in fields(Rows)))
    inverse = _inverse(rows.near)
    with ThreadPoolExecutor(2) as pool:
        luma = _StrokeGains(some, _inverse(some.near), range(16), (0, 16), pool)
        chroma = [_StrokeGains(rows, inverse, range(first, first + 4), (32,), pool) for first in (16, 20)]
    gains = np.concatenate(
        [each.gains(whole.wanted) for each, whole in ((luma, some), *((c, rows) for c in chroma))], 1
    )
    plain = _plain(rows, inverse, gains)
    if colors is not None:
        rows = _recolored(rows, colors, plain, gains)
        gains = np.concatenate((gains[:, :2], *(each.gains(rows.wanted) for each in chroma)), 1)
        plain = _plain(rows, inverse, gains)
    return plain, gains


def _inverse(near: Floats) -> NDArray[np.float64]:
    square = (near.T @ near).astype(np.float64)
    square += RIDGE * len(near) * np.diag((near * near).mean(0, dtype=np.float64) + 1e-3)
    return np.asarray(np.linalg.inv(square), np.float64)


class _StrokeGains:
    """What strokes give to some outputs that have the gains of them in common, the plain part projected out.

    Args:
        inverse: Of the squares of what the plain part reads.
        outputs: Pixels of luma, U or V.
        firsts: The first ones of the strokes that multiply the gains of these.
    """

    def __init__(
        self,
        rows: Rows,
        inverse: NDArray[np.float64],
        outputs: range,
        firsts: tuple[int, ...],
        pool: ThreadPoolExecutor,
    ) -> None:
        self._near, self._outputs, self._count = rows.near, outputs, len(firsts)

        def parts(pixel: int) -> tuple[Floats, Floats, NDArray[np.float64]]:
            products = np.concatenate([rows.here * rows.strokes[:, first + pixel, None] for first in firsts], 1)
            ours = (rows.near.T @ products).astype(np.float64)
            solved = inverse @ ours
            return products, solved.astype(np.float32), products.T @ products - ours.T @ solved

        self._products, self._solved, left = zip(*pool.map(parts, range(len(outputs))), strict=True)
        self._left = np.sum(left, 0)
        self._left += RIDGE * np.diag(np.diagonal(self._left) + 1e-3 * len(rows.near))

    def gains(self, wanted: Floats) -> Floats:
        """Return the gains that come nearest to what is wanted, shape (cells, 24), a column for each of ``firsts``."""
        right = np.zeros(len(self._left))
        for output, products, solved in zip(self._outputs, self._products, self._solved, strict=True):
            aim = wanted[:, output]
            right += products.T @ aim - solved.T @ (self._near.T @ aim)
        return np.stack(np.split(np.linalg.solve(self._left, right), self._count), 1).astype(np.float32)


def _plain(rows: Rows, inverse: NDArray[np.float64], gains: Floats) -> Floats:
    rest = rows.wanted - _times_gains(rows.here @ gains, rows.strokes)
    return np.asarray(inverse @ (rows.near.T @ rest).astype(np.float64), np.float32)


def _given(rows: Rows, plain: Floats, gains: Floats) -> Floats:
    """Return the residual that last layers give, shape (cells, 24)."""
    return rows.near @ plain + _times_gains(rows.here @ gains, rows.strokes)


def _recolored(rows: Rows, colors: Colors, plain: Floats, gains: Floats) -> Rows:
    """Return rows whose aims make up for what last layers lack of an image's colors."""
    source = rows.near[:, -1 - PLANE_CHANNELS : -1]
    made, aims = source + _given(rows, plain, gains), source + rows.wanted
    luma = made[:, :16].reshape(-1, 2, 2, 2, 2).mean((2, 4)).reshape(-1) + np.float32(0.5)

    def chroma(planes: Floats) -> Floats:
        return np.stack((planes[:, 16:20].ravel(), planes[:, 20:].ravel()), 1)

    moved = colors.corrected(luma, chroma(made), chroma(aims)).reshape(-1, 4, 2)
    wanted = np.concatenate((aims[:, :16], moved[..., 0], moved[..., 1]), 1) - source
    return replace(rows, wanted=wanted)


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

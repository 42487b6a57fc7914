"""What is measured of every frame for its canvas: directions of its forms, where it needs a fine brush, its tones.

All of it is smoothed in time and carried along with the canvas, so that strokes neither boil nor swim. It depends
on the source alone and not on a style; ``rtstyle.canvas.steering`` turns it into what a style's network reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle.canvas.arrays import Floats

CELL = 8
"""Pixels of a frame per side of a cell of the field, where strokes are as large as they were trained."""

TONES = 65
"""Quantiles of the luma that are kept: the least, 63 in between, the largest."""

_SCALES = ((0.7, 0.25), (1.8, 0.8), (4.0, 1.0), (9.0, 0.8))
"""Standard deviation, in cells, and weight of the neighborhoods that a direction is the mean of."""

_FLOOR = np.float32(2e-5)
"""Squared slope, in white per pixel, below which a gradient counts for little."""

_SHARE, _TONE_SHARE = 0.2, 0.1
"""How much of a measurement goes into directions and fineness, and into tones; one frame in two is measured."""

_CUT = 24.0
"""Mean difference of two frames, in levels after their means are removed, that marks a scene cut."""


@dataclass(frozen=True, eq=False)
class Field:
    """What one frame is like; shapes (rows, columns), cells of ``CELL`` pixels; arrays are never written to again."""

    cos: Floats
    sin: Floats
    """Direction along the forms, as the double angle of a line (0: level, y down), times how sure it is."""
    fine: Floats
    """How much detail there is for its surroundings, 0 to 1: where a fine brush is needed."""
    tones: Floats
    """Shape (65,): quantiles of the luma of the stream's samples, in levels."""
    spread: float
    """Standard deviation of the luma, in levels."""

    def mirrored(self) -> Field:
        """Return the field of the frame with left and right exchanged."""
        cos, sin, fine = (np.ascontiguousarray(each[:, ::-1]) for each in (self.cos, -self.sin, self.fine))
        return replace(self, cos=cos, sin=sin, fine=fine)


def measure(luma: NDArray[np.uint8], cell: float | None = None) -> Field:
    """Measure one frame, without regard to those before it.

    Args:
        luma: Shape (height, width), uint8, at least 16x16.
        cell: Pixels per side of a cell; by default what ``cell_of`` says.
    """
    height, width = luma.shape
    cell = cell or cell_of(luma.shape)
    rows, columns = (max(2, round(side / cell)) for side in (height, width))
    small = _reduced(luma, (2 * columns, 2 * rows))
    levels = small.astype(np.float32)
    q = levels * np.float32(1 / 255)
    smooth = cv2.GaussianBlur(q, (0, 0), 1.1)
    gx, gy = (cv2.Sobel(smooth, cv2.CV_32F, dx, 1 - dx, scale=1 / 32) for dx in (1, 0))  # per pixel of the frame
    # The double angle of the edge, 90 degrees from the gradient. Its square root counts: strong edges must not own
    # their whole neighborhood.
    cos, sin = (
        cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA) for part in (gy * gy - gx * gx, -2 * gx * gy)
    )
    weight = 1 / np.sqrt(np.sqrt(cos * cos + sin * sin) + _FLOOR)
    pair = cv2.merge((cos * weight, sin * weight))
    total = np.zeros(pair.shape, np.float32)
    for sigma, share in _SCALES:
        cv2.scaleAdd(cv2.GaussianBlur(pair, (0, 0), sigma), share, total, total)
    cos, sin = (np.ascontiguousarray(total[..., i]) for i in (0, 1))
    fine = _fineness(q, (columns, rows))
    return Field(cos, sin, fine, _quantiles(small, fine), float(levels.std()))


def skin_like(u: NDArray[np.uint8], v: NDArray[np.uint8], shape: tuple[int, ...]) -> Floats:
    """Return how much the surroundings of each cell are like skin, 0 to 1: warm, as skin of all kinds is.

    Args:
        u, v: Chroma planes, 128 is gray.
        shape: Rows and columns of cells.
    """
    blue, red = (_reduced(plane, (shape[1], shape[0])).astype(np.float32) for plane in (u, v))
    warm = np.clip((red - blue) * np.float32(1 / _WARM) - np.float32(1 / 3), 0, 1)
    # Eyes, brows and lips are not warm, and lie between what is.
    return np.asarray(np.clip(np.float32(1.5) * cv2.GaussianBlur(warm, (0, 0), 2.5), 0, 1), np.float32)


_WARM = 15
"""Difference of the chroma planes, in levels, that is warm; a third of it is not yet."""


def cell_of(shape: tuple[int, ...]) -> float:
    """Return the cell in which a frame of that height and width is measured: larger where it is drawn smaller."""
    cell, short = float(CELL), min(shape[:2])
    while short > 1080:
        cell, short = 2 * cell, short // 2
    return cell


def _reduced(luma: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Reduce by averaging; by halves first, which is several times as fast as all at once."""
    height, width = luma.shape
    while width % 2 == height % 2 == 0 and width >= 4 * size[0] and height >= 4 * size[1]:
        width, height = width // 2, height // 2
        luma = np.asarray(cv2.resize(luma, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(cv2.resize(luma, size, interpolation=cv2.INTER_AREA), np.uint8)


def _fineness(q: Floats, size: tuple[int, int]) -> Floats:
    """Return where a fine brush is needed: detail relative to the contrast around it. ``q`` has half-cells."""
    detail = cv2.resize(np.abs(q - cv2.GaussianBlur(q, (0, 0), 1.25)), size, interpolation=cv2.INTER_AREA)
    # What there is almost everywhere is noise of the sensor: the same scene without it needs the same brush.
    noise = min(np.partition(detail.ravel(), detail.size // 50)[detail.size // 50], _NOISIEST)
    detail = np.sqrt(np.maximum(detail * detail - noise * noise, 0))
    tone = cv2.resize(q, size, interpolation=cv2.INTER_AREA)
    around = cv2.GaussianBlur(np.abs(tone - cv2.GaussianBlur(tone, (0, 0), 5.0)), (0, 0), 5.0)
    density = cv2.GaussianBlur(detail, (0, 0), 1.1) / (around + np.float32(0.04))
    needed = np.clip(_FINE_GAIN * density - _FINE_FLOOR, 0, 1).astype(np.float32)
    # Where detail is everywhere, it is texture: grass and gravel are painted with the coarse brush.
    needed = np.maximum(needed - _COMMON * needed.mean(), 0)
    near = cv2.GaussianBlur(cv2.dilate(needed, np.ones((3, 3), np.uint8)), (0, 0), 1.25)
    # Between details lies what they belong to: cheeks between eyes and mouth, a forehead below hair.
    closed = cv2.morphologyEx(near, cv2.MORPH_CLOSE, np.ones((_GAP, _GAP), np.uint8))
    around = np.maximum(np.float32(2.2) * cv2.GaussianBlur(near, (0, 0), 4.5), cv2.GaussianBlur(closed, (0, 0), 2.5))
    between = np.minimum(around, np.float32(0.7))
    return np.asarray(np.maximum(near, between), np.float32)


_GAP = 17
"""Cells between details up to which all between them needs a fine brush as well."""

_FINE_WEIGHT = np.float32(3)
"""How much more than the rest what needs a fine brush counts for the tone curve."""

_NOISIEST = np.float32(0.004)
"""The most detail that is taken for noise, as a share of white."""

_FINE_GAIN, _FINE_FLOOR, _COMMON = np.float32(5.0), np.float32(0.55), np.float32(0.75)


def _quantiles(small: NDArray[np.uint8], fine: Floats) -> Floats:
    """Return ``TONES`` quantiles of samples, in levels. ``small`` has half-cells, ``fine`` has cells.

    What needs a fine brush counts more: a dark face before a bright wall gets tones of its own.
    """
    weights = np.repeat(np.repeat(1 + _FINE_WEIGHT * fine, 2, 0), 2, 1)
    counts = np.bincount(small.ravel(), weights.ravel(), 256)
    below = np.concatenate(([0], np.cumsum(counts))) / counts.sum()
    wanted = np.linspace(0, 1, TONES)
    edges = np.arange(257) - 0.5
    # Flat stretches of the sum belong to levels that do not occur: a little slope keeps it invertible.
    return np.asarray(np.interp(wanted, below + np.linspace(0, 1e-9, 257), edges), np.float32)


def check_state(state: Mapping[str, NDArray[np.generic]]) -> None:
    """Raise ValueError if arrays are not what ``FieldTracker.state`` returns."""
    if not state:
        return
    if set(state) != {"cos", "sin", "fine", "tones", "spread", "age", "tiny"}:
        raise ValueError(f"it holds of a field {', '.join(state)}")
    shape = state["cos"].shape
    shapes = {
        "cos": shape,
        "sin": shape,
        "fine": shape,
        "tones": (TONES,),
        "spread": (),
        "age": (),
        "tiny": (_TINY[1], _TINY[0]),
    }
    for name, wanted in shapes.items():
        kind = np.float64 if name in ("spread", "age") else np.float32
        if state[name].shape != wanted or state[name].dtype != kind or not np.isfinite(state[name].astype(kind)).all():
            raise ValueError(f"{name} is no part of a field")
    if len(shape) != 2 or not 2 <= min(shape) <= max(shape) <= 1 << 14:
        raise ValueError("a field has rows and columns")


_TINY = (32, 18)
"""Width and height of the frame in which cuts are detected."""


class FieldTracker:
    """Smooths the measurements of consecutive frames, and carries them along with the canvas."""

    def __init__(self) -> None:
        self._field: Field | None = None
        self._last: Floats | None = None
        self._age = 0
        """Frames since the last cut."""

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return all that further fields depend on."""
        if self._field is None or self._last is None:
            return {}
        seen = self._field
        spread, age = np.array(seen.spread), np.array(float(self._age))
        return {
            "cos": seen.cos,
            "sin": seen.sin,
            "fine": seen.fine,
            "tones": seen.tones,
            "spread": spread,
            "age": age,
            "tiny": self._last,
        }

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Continue as the tracker did that gave ``state``."""
        if state:
            cos, sin, fine, tones = (np.asarray(state[name], np.float32) for name in ("cos", "sin", "fine", "tones"))
            self._field = Field(cos, sin, fine, tones, float(state["spread"]))
            self._last, self._age = np.asarray(state["tiny"], np.float32), int(state["age"])

    def follow(
        self, luma: NDArray[np.uint8], moved: tuple[float, float] = (0.0, 0.0), back: Floats | None = None
    ) -> Field:
        """Return the field of the next frame.

        Args:
            luma: Shape (height, width), uint8.
            moved: By how many pixels (x, y) the scene moved to the right and down since the frame before.
            back: Where each part of the frame was in the frame before, shape (rows, columns, 2), (x, y) in pixels
                relative to where it is; None: all of it moved by ``moved``.
        """
        tiny = _reduced(luma, _TINY).astype(np.float32)
        tiny -= tiny.mean()
        before, last = self._field, self._last
        self._last = tiny
        cell = cell_of(luma.shape)
        shape = tuple(max(2, round(side / cell)) for side in luma.shape)
        if before is None or last is None or before.cos.shape != shape or np.abs(tiny - last).mean() > _CUT:
            self._field, self._age = measure(luma, cell), 0
            return self._field
        self._age += 1
        if back is not None:
            before = _warped_field(before, back / np.float32(cell))
        elif moved != (0.0, 0.0):
            before = _carried(before, (moved[0] / cell, moved[1] / cell))
        # Every second frame is measured: the other one's measurement would hardly differ, and is half of the cost.
        self._field = before if self._age % 2 else _mixed(before, measure(luma, cell))
        return self._field


def _carried(seen: Field, cells: tuple[float, float]) -> Field:
    """Return the field of a scene that moved by so many cells, (x, y)."""
    shift = np.array([[1, 0, cells[0]], [0, 1, cells[1]]])
    rows, columns = seen.cos.shape
    cos, sin, fine = (
        np.asarray(cv2.warpAffine(each, shift, (columns, rows), borderMode=cv2.BORDER_REPLICATE), np.float32)
        for each in (seen.cos, seen.sin, seen.fine)
    )
    return replace(seen, cos=cos, sin=sin, fine=fine)


def _warped_field(seen: Field, back: Floats) -> Field:
    """Return the field of a scene each part of which was so many cells, (x, y), away."""
    rows, columns = seen.cos.shape
    at = np.asarray(cv2.resize(back, (columns, rows), interpolation=cv2.INTER_LINEAR), np.float32)
    across = at[..., 0] + np.arange(columns, dtype=np.float32)
    down = at[..., 1] + np.arange(rows, dtype=np.float32)[:, None]
    planes = cv2.merge((seen.cos, seen.sin, seen.fine))
    moved = cv2.split(cv2.remap(planes, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
    cos, sin, fine = (np.asarray(each, np.float32) for each in moved)
    return replace(seen, cos=cos, sin=sin, fine=fine)


def _mixed(before: Field, now: Field) -> Field:
    """Return an exponential moving average."""
    share, slow = np.float32(_SHARE), np.float32(_TONE_SHARE)
    return Field(
        before.cos + share * (now.cos - before.cos),
        before.sin + share * (now.sin - before.sin),
        before.fine + share * (now.fine - before.fine),
        before.tones + slow * (now.tones - before.tones),
        before.spread + _TONE_SHARE * (now.spread - before.spread),
    )

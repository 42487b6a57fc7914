"""What is measured of an image, so that it can be painted after: its strokes, its directions, its contrast."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle.canvas.arrays import Floats
from rtstyle.canvas.steering import Steering, Stream
from rtstyle.canvas.strokes import Brush
from rtstyle.universal.painting import Manner


def _with_few_tiles(brush: Brush) -> Brush:
    """Return a brush of few tiles, which are painted within a second."""
    return replace(brush, directions=12, scales=(1.0, 0.5))


BRUSHES: tuple[tuple[float, float, Brush], ...] = (
    (6.4, 3.2, _with_few_tiles(Brush(length=12, width=10, seed=21, cover=2.4))),
    (7.6, 2.45, _with_few_tiles(Brush(length=13, width=3.2, seed=20))),
    (8.8, 3.02, _with_few_tiles(Brush(length=19, width=8, seed=9, cover=2.2, band=90))),
    (
        10.7,
        3.14,
        _with_few_tiles(
            Brush(length=44, width=17, seed=14, cover=2.4, spread=0.45, jitter=0.5, bend=0.012, bristles=0.25, band=22)
        ),
    ),
    (11.9, 2.61, _with_few_tiles(Brush(length=24, width=5, seed=4))),
    (13.6, 2.33, _with_few_tiles(Brush(length=64, width=3.4, seed=10, spread=0.3, bend=0.006, band=80))),
    (15.3, 2.94, _with_few_tiles(Brush(length=36, width=9, seed=22, cover=2.2))),
    (17.2, 2.3, _with_few_tiles(Brush(length=40, width=3, seed=24, jitter=0.07))),
    (20.2, 2.92, _with_few_tiles(Brush(length=80, width=10, seed=25, bend=0.004))),
    (24.6, 2.65, _with_few_tiles(Brush(length=110, width=6.5, seed=8, spread=0.25, bend=0.002, band=64))),
)
"""Brushes that images are painted with; before each, the length and the width that ``Strokes`` has for its tiles."""

LEVELS, CLUSTERS = 10, 4
"""Levels of lightness and clusters of chroma of each, of a palette."""

_SOFT, _CRISPER, _CRISPEST = 0.42, 3.0, 1.5
"""``Strokes.crisp`` of soft paint, by how much more ``Brush.crisp`` is taken for what exceeds it, and the most."""

_LONGEST = 60
"""Largest lag of the autocorrelation, in pixels."""


@dataclass(frozen=True)
class Strokes:
    """What the strokes of an image are like: a band of its detail, the difference of Gaussians of 1 and 5 pixels."""

    length: float
    """Lag along the local direction at which the autocorrelation falls to 0.3, in pixels."""
    width: float
    """The same across the local direction."""
    contrast: float
    """Standard deviation, in levels of 255."""
    crisp: float
    """Standard deviation of the finest detail (what a binomial of variance 1 takes away) relative to that."""
    alignment: float
    """1 if all run in one direction, 0 if none prevails."""
    angle: float
    """The direction that prevails, in radians, y down."""
    whirl: float
    """The same as ``alignment`` within neighborhoods of 24 pixels: high where strokes follow one another in curves."""


def _blur(plane: Floats, sigma: float) -> Floats:
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma), np.float32)


def _at_fraction(plane: Floats, times: int) -> Floats:
    rows, columns = plane.shape
    return np.asarray(cv2.resize(plane, (columns // times, rows // times), interpolation=cv2.INTER_AREA), np.float32)


def measure_strokes(gray: Floats) -> Strokes:
    """Measure the strokes of an image in levels from 0 to 255, shape (h, w).

    The local direction is that of a structure tensor (Bigun and Granlund 1987) with a window of 6 pixels. All but the
    band is measured at each second pixel, and neighborhoods at each eighth.
    """
    gray = gray[: len(gray) // 8 * 8, : gray.shape[1] // 8 * 8]
    band = _blur(gray, 1) - _blur(gray, 5)
    gx, gy = (cv2.Sobel(band, cv2.CV_32F, dx, 1 - dx, scale=1 / 8) for dx in (1, 0))
    xx, yy, xy = (_blur(_at_fraction(product, 2), 3) for product in (gx * gx, gy * gy, gx * gy))
    cos, sin = yy - xx, -2 * xy  # twice the angle of a stroke
    size = np.sqrt(cos * cos + sin * sin) + np.float32(1e-9)
    cos, sin = cos / size, sin / size
    mean = float(cos.mean()), float(sin.mean())
    whirl = float(np.hypot(*(_blur(_at_fraction(each, 4), 3) for each in (cos, sin))).mean())
    angle = np.arctan2(sin, cos) / 2
    along = np.cos(angle), np.sin(angle)
    return Strokes(
        length=_correlation_length(band, *along),
        width=_correlation_length(band, -along[1], along[0]),
        contrast=float(band.std()),
        crisp=float((gray - cv2.GaussianBlur(gray, (5, 5), 0)).std() / (band.std() + 1e-6)),
        alignment=math.hypot(*mean),
        angle=0.5 * math.atan2(mean[1], mean[0]),
        whirl=whirl,
    )


def _correlation_length(band: Floats, ux: Floats, uy: Floats, threshold: float = 0.3) -> float:
    """Return the lag along unit vectors, at each second pixel, at which the autocorrelation falls to ``threshold``."""
    rows, columns = ux.shape
    x, y = np.meshgrid(2 * np.arange(columns, dtype=np.float32), 2 * np.arange(rows, dtype=np.float32))
    here = np.ascontiguousarray(band[::2, ::2])
    energy, before = float((here * here).mean()) + 1e-9, 1.0
    for lag in range(1, _LONGEST):
        moved = x + np.float32(lag) * ux, y + np.float32(lag) * uy
        shifted = cv2.remap(band, *moved, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        now = float((here * shifted).mean()) / energy
        if now < threshold:
            return lag - 1 + (before - threshold) / (before - now)
        before = now
    return float(_LONGEST)


def manner_of(image: NDArray[np.uint8]) -> Manner:
    """Return how to paint after an image, shape (h, w, 3) RGB."""
    gray = np.asarray(cv2.cvtColor(image.astype(np.float32), cv2.COLOR_RGB2GRAY), np.float32)
    found = measure_strokes(gray)

    def distance(entry: tuple[float, float, Brush]) -> float:
        return abs(math.log(found.length / entry[0])) + 2 * abs(math.log(found.width / entry[1]))

    # A few steps, each of which has its own tiles in the cache. Paint itself has about _SOFT.
    crisp = float(np.clip(round(2 * _CRISPER * (found.crisp - _SOFT)) / 2, 0, _CRISPEST))
    brush = replace(min(BRUSHES, key=distance)[2], crisp=crisp)
    gain = float(np.clip(0.0184 * found.contrast, 0.115, 0.345))
    dark = image.reshape(-1, 3)[gray.ravel() <= np.quantile(gray, 0.05)].mean(0) / 255
    return Manner(
        steering=Steering(brush, _stream(found)),
        gain=gain,
        relief=0.55 * gain,
        noise=3.0,
        keep=6.0,
        sharp=6.5,
        purity=1.25,
        glow=0.0,
        lift=0.25 * (1 - float(gray.mean()) / 255),
        outline=0.3,
        detail=0.2,
        ink=tuple(float(c) for c in dark),  # type: ignore[arg-type]
        mix=0.95,
        clusters=CLUSTERS,
        levels=LEVELS,
    )


def _stream(found: Strokes) -> Stream:
    """Return where strokes run in flats: in one direction, in whirls, or in waves, as those of the image do."""
    angle = math.degrees(found.angle)
    if found.alignment > 0.45:
        return Stream(kind="level", angle=angle, sway=0.25)
    if found.whirl - found.alignment > 0.45:
        return Stream(kind="whirls", angle=angle, whirls=20)
    return Stream(kind="waves", angle=angle, sway=0.5)

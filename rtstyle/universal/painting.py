"""Painting in code on a steered canvas: what a photo could look like, stroke by stroke, in a painting's colors.

A warm start: the network first learns from here where strokes go and which color each takes, then from the painting
itself how they look. Everything here is a function of the photo and of the canvas below it, so it can be learned.

- Tones: the tone curve (``rtstyle.canvas.tone``), as at run time. There is no local contrast, so there are no halos.
- Colors: for each level of lightness a few clusters of the painting's chroma, from warm to cold. A stroke takes one.
- Strokes: value, relief and hue of the tiles (``rtstyle.canvas.strokes``), weaker where a fine brush is needed.
- The base is smoothed along the strokes, but for true contours: grass and gravel become strokes.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle.canvas.arrays import Floats, rounded_from_double
from rtstyle.canvas.cutter import SteeredCutter
from rtstyle.canvas.field import Field, measure, skin_like
from rtstyle.canvas.steering import CHANNELS, Steering, at_cells, steered
from rtstyle.canvas.tone import ToneCurve
from rtstyle.universal.palette import Colors, to_yuv


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How a style is painted; lengths in pixels at 720 lines."""

    steering: Steering
    gain: float = 0.24
    """How far the value of strokes goes in luma."""
    relief: float = 0.14
    """The same of their relief."""
    noise: float = 2.6
    """How much the hue of a stroke decides on its color."""
    keep: float = 8.0
    """How much the photo's own color does."""
    sharp: float = 6.0
    """How purely a stroke takes one color."""
    purity: float = 1.3
    """Saturation of the colors."""
    glow: float = 0.4
    """How far the centers of whirls are lightened."""
    lift: float = 0.3
    """How far warm colors are lightened there: skin is not lost in the dark end of a palette."""
    detail: float = 0.25
    """Share of the photo's detail that is kept everywhere."""
    outline: float = 0.3
    """Strength of dark contours."""
    pen: tuple[float, float, float] = (1.0, 3.0, 16.0)
    """Of contours: standard deviations of the difference of Gaussians, in pixels, and how decidedly they are drawn."""
    ink: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Color of contours, RGB from 0 to 1."""
    steps: int = 0
    """Into how many flat tones, as of a woodblock, luma is parted; 0: none."""
    calm: float = 0.86
    """How much weaker strokes are where a fine brush is needed."""
    settle: float = 1.0
    """Power of what is left of strokes there, by which the hues of strokes fade: a face is no mosaic."""
    own: float = 0.0
    """How much more the photo's own color decides there, relative to ``keep``: without hues of strokes all is gray."""
    clarity: float = 1.5
    """How far local contrast is raised there: a face keeps its eyes and its mouth."""
    mix: float = 0.7
    """Of the tone curve, see there; so is ``blur``."""
    blur: int = 1
    clusters: int = 4
    levels: int = 12


@dataclass(frozen=True, eq=False)
class CanvasPlanes:
    """A canvas at full size: shapes (h, w), values in [-1, 1]."""

    value: Floats
    relief: Floats
    hue: Floats
    glow: Floats
    fine: Floats
    angle: Floats
    """Of strokes, in radians, y down."""


def skin_of(yuv: Floats, seen: Field) -> Floats:
    """Return what ``skin_like`` does of a photo, shape (h, w, 3): Y - 0.5, U, V."""
    u, v = (np.rint(255 * yuv[..., i] + np.float32(128)).astype(np.uint8) for i in (1, 2))
    return skin_like(u, v, seen.cos.shape)


def canvas_planes(
    steering: Steering, seen: Field, offset: tuple[int, int], size: tuple[int, int], skin: Floats | None = None
) -> CanvasPlanes:
    """Lay the canvas at ``offset`` (x, y) below a photo of ``size`` (height, width), as engines do.

    Args:
        skin: What ``skin_of`` returned of it; None: no part of it is skin.
    """
    height, width = size
    rows, columns = -(-height // 4), -(-width // 4)
    cells = steered(steering, seen, offset, (rows, columns), (0, 0))
    packed = np.empty((rows, columns, CHANNELS), np.uint8)
    skin = None if skin is None else at_cells(skin, (rows, columns), (0, 0))
    SteeredCutter(steering, rows, columns).cut(cells, offset, packed, skin=skin)

    def unpacked(channels: NDArray[np.uint8], side: int) -> Floats:
        plane = channels.reshape(rows, columns, side, side).transpose(0, 2, 1, 3).reshape(rows * side, columns * side)
        whole = np.repeat(np.repeat(plane, 4 // side, 0), 4 // side, 1)
        return (whole[:height, :width].astype(np.float32) - np.float32(128)) / np.float32(127)

    whole = cv2.resize(cells, (4 * columns, 4 * rows))[:height, :width]
    cos, sin, glow, fine = (np.ascontiguousarray(whole[..., i], np.float32) for i in range(4))
    return CanvasPlanes(
        value=unpacked(packed[..., :16], 4),
        relief=unpacked(packed[..., 16:32], 4),
        hue=blurred(unpacked(packed[..., 32:36], 2), 0.7),
        glow=glow,
        fine=fine,
        angle=np.float32(0.5) * rounded_from_double(np.arctan2, sin, cos),
    )


class Painting:
    """A painter in the manner and the colors of one painting."""

    def __init__(self, painting: NDArray[np.uint8], manner: Manner) -> None:
        self.manner, self.steering = manner, manner.steering
        self.colors = Colors(painting, manner.levels, manner.clusters)
        self.curve = ToneCurve(tuple(round(float(q), 4) for q in self.colors.quantiles), manner.mix, manner.blur)

    def paint(self, rgb: Floats, offset: tuple[int, int], seen: Field | None = None) -> Floats:
        """Paint a photo.

        Args:
            rgb: Shape (h, w, 3), in [0, 1].
            offset: Where its top left lies on the canvas, (x, y) in pixels.
            seen: What was measured of it; None: it is measured here.

        Returns:
            Shape (h, w, 3): Y - 0.5, U, V.
        """
        manner, height = self.manner, rgb.shape[0]
        yuv = to_yuv(np.ascontiguousarray(rgb))
        luma = np.ascontiguousarray(yuv[..., 0]) + np.float32(0.5)
        seen = seen or measure(np.rint(255 * luma).astype(np.uint8))
        z = canvas_planes(manner.steering, seen, offset, (height, rgb.shape[1]), skin_of(yuv, seen))
        coarse = 1 - z.fine
        base = np.dstack((0.5 * (luma + guided(luma, 10, 0.004)), yuv[..., 1:]))
        base = smeared(base, z.angle, 5, 2.0)
        smooth = base[..., 0] * coarse + z.fine * (0.35 * base[..., 0] + 0.65 * luma)
        u, v = (blurred(np.ascontiguousarray(base[..., i]), 2.0) for i in (1, 2))
        contour = blurred(np.clip(14 * np.abs(blurred(luma, 0.8) - blurred(luma, 4.0)) - 0.25, 0, 1), 2.0)
        kept = np.clip(manner.detail + 0.6 * contour + 0.7 * z.fine, 0, 1.15)
        drawn = smooth + kept * (blurred(luma, 0.7) - smooth)
        # not of the luma itself: the noise of a sensor lies in its finest detail, and would be raised as well
        raised = manner.clarity * z.fine * (blurred(luma, 1.3) - guided(luma, 24, 0.01))
        toned = self.toned(drawn + raised, seen)
        toned = toned + 4 * manner.lift * z.fine * warmth(yuv) * toned * (1 - toned)
        loud = 1 - manner.calm * z.fine
        toned = toned + 1.6 * manner.glow * z.glow * (1 - toned)
        toned = toned + loud * manner.gain * z.value
        if manner.steps:
            toned = parted(toned, manner.steps)
        keep = manner.keep * (1 + manner.own * z.fine)
        color = self.colors.take(toned, u, v, self._wishes(z, loud), keep, manner.sharp)
        y = np.clip(toned + manner.relief * loud * z.relief, 0, 1)
        narrow, wide, decided = manner.pen
        edge = np.maximum(blurred(luma, wide) - blurred(luma, narrow) - np.float32(0.007), 0)
        line = (
            rounded_from_double(np.tanh, np.float32(decided) * edge) * np.minimum(manner.outline + 0.35 * z.fine, 1)
        )[..., None]
        ink = to_yuv(np.full((1, 1, 3), manner.ink, np.float32)) + np.array((0.5, 0, 0), np.float32)
        painted = np.dstack((y, manner.purity * color)) * (1 - line) + line * ink
        return np.asarray(painted - np.array((0.5, 0, 0)), np.float32)

    def toned(self, luma: Floats, seen: Field) -> Floats:
        """Apply the tone curve to luma from 0 to 1."""
        table = self.curve.table(seen) / np.float32(255)
        return np.asarray(np.interp(luma, np.linspace(0, 1, 256), table), np.float32)

    def _wishes(self, z: CanvasPlanes, loud: Floats) -> Floats:
        """Return how much each pixel's stroke wants each cluster of colors: (clusters, h, w), the warmest first."""
        manner = self.manner
        places = np.linspace(-0.9, 0.9, manner.clusters, dtype=np.float32)
        wish = np.float32(-1.3) * (z.hue - places[:, None, None]) ** 2
        wish[0] -= np.float32(0.5) * z.value
        wish[1] += np.float32(0.5) * z.value
        wish *= np.float32(manner.noise) * loud ** np.float32(manner.settle)
        wish[0] += np.float32(2.5 * manner.noise) * z.glow
        return np.asarray(wish, np.float32)


def parted(luma: Floats, steps: int) -> Floats:
    """Part luma from 0 to 1 into flat tones with narrow, soft steps between them."""
    place = luma * steps - np.float32(0.5)
    below = np.floor(place)
    return np.asarray(
        (below + 1 + 0.5 * rounded_from_double(np.tanh, 7 * (place - below - np.float32(0.5)))) / steps, np.float32
    )


def blurred(plane: Floats, sigma: float) -> Floats:
    """Blur a plane with a Gaussian of that standard deviation."""
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma), np.float32)


def warmth(yuv: Floats) -> Floats:
    """Return how warm the color of each pixel of a photo is, 0 to 1: skin of all kinds is, walls and skies are not."""
    u, v = (blurred(np.ascontiguousarray(yuv[..., i]), 2.0) for i in (1, 2))
    return np.asarray(np.clip((v - u - np.float32(0.02)) / np.float32(0.06), 0, 1), np.float32)


def guided(plane: Floats, radius: int, eps: float) -> Floats:
    """Smooth a plane but for its own edges (He, Sun and Tang 2010, "Guided Image Filtering")."""

    def mean(x: Floats) -> Floats:
        return np.asarray(cv2.blur(x, (2 * radius + 1, 2 * radius + 1)), np.float32)

    center = mean(plane)
    variance = mean(plane * plane) - center * center
    slope = np.asarray(variance / (variance + np.float32(eps)), np.float32)
    return mean(slope) * plane + mean(center - slope * center)


def smeared(image: Floats, angle: Floats, taps: int, step: float) -> Floats:
    """Smear an image along its strokes: the mean of ``taps`` places, ``step`` pixels apart, on each side."""
    height, width = angle.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    cos, sin = (rounded_from_double(function, angle) for function in (np.cos, np.sin))
    total = image.copy()
    for tap in range(1, taps + 1):
        for side in (-step, step):
            moved = x + np.float32(side * tap) * cos, y + np.float32(side * tap) * sin
            total += cv2.remap(image, *moved, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return total / np.float32(2 * taps + 1)

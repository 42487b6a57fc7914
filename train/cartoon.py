"""A cartoon in code on a steered canvas: flat bright colors, dark outlines, and shadows that are hatched.

Like painting.py a warm start and a function of the photo and of the canvas below it. Areas are smoothed but for their
edges and parted into a few tones; outlines are drawn on the dark side of edges. Light and middle tones stay plain. Only
the darkest are hatched with the strokes of the tiles, which run along the forms. Where a fine brush is needed, as in
a face, there are more tones and thinner lines, so that eyes and mouths stay clear.

Source: Winnemoeller, Olsen and Gooch 2006, "Real-time video abstraction".
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from rtstyle.canvas.arrays import Floats
from rtstyle.canvas.field import TONES, Field, measure
from rtstyle.canvas.steering import Steering, Stream
from rtstyle.canvas.strokes import Brush
from rtstyle.canvas.tone import ToneCurve
from rtstyle.universal.painting import blurred, canvas_planes, guided, parted, smeared, warmth
from rtstyle.universal.palette import to_yuv

STEERING = Steering(
    Brush(length=80, width=3.0, cover=2.4, spread=0.2, jitter=0.03, bend=0.001, scales=(1.0, 0.8, 0.62), seed=18),
    Stream(kind="level", angle=-45, sway=0.12, pull=1.5e-3),
)


@dataclass(frozen=True, kw_only=True)
class Flats:
    """How a cartoon is drawn; lengths in pixels at 720 lines."""

    steering: Steering = STEERING
    low: float = 0.04
    """Darkest tone that is wanted."""
    key: float = 0.62
    """Exponent of the tones that are wanted: the lower, the lighter is the cartoon."""
    mix: float = 0.35
    """Of the tone curve, see there; so is ``blur``."""
    blur: int = 3
    contrast: float = 1.2
    """How far tones are spread before they are parted."""
    tones: int = 3
    """Flat tones between black and white; twice as many where a fine brush is needed."""
    vivid: float = 1.85
    """Saturation of the colors."""
    clarity: float = 0.7
    """How far local contrast is raised where a fine brush is needed; a third of it elsewhere."""
    lift: float = 0.14
    """How far skin is lightened there; half of it elsewhere."""
    shadow: float = 0.36
    """Tone below which shadows are hatched; what is colorful counts as lighter."""
    air: float = 0.1
    """How far the ground between its strokes is lightened."""
    hatching: float = 0.75
    """How dark its strokes are."""
    hard: float = 6.0
    """How clearly a stroke is either drawn or not."""
    pen: tuple[float, float, float] = (1.4, 4.8, 34.0)
    """Of outlines: standard deviations of the difference of Gaussians, and how decidedly they are drawn."""
    fine_pen: tuple[float, float, float] = (1.0, 3.4, 30.0)
    """The same where a fine brush is needed."""
    ink: tuple[float, float, float] = (0.07, 0.06, 0.10)
    """Color of outlines and hatching, RGB from 0 to 1."""


class Cartoon:
    """Paints as ``train.painting.Painting`` does."""

    def __init__(self, flats: Flats) -> None:
        self.flats, self.steering = flats, flats.steering
        quantiles = flats.low + (0.98 - flats.low) * np.linspace(0, 1, TONES) ** flats.key
        self.curve = ToneCurve(tuple(round(float(q), 4) for q in quantiles), flats.mix, flats.blur)

    def paint(self, rgb: Floats, offset: tuple[int, int], seen: Field | None = None) -> Floats:
        """Paint a photo.

        Args:
            rgb: Shape (h, w, 3), in [0, 1].
            offset: Where its top left lies on the canvas, (x, y) in pixels.
            seen: What was measured of it; None: it is measured here.

        Returns:
            Shape (h, w, 3): Y - 0.5, U, V.
        """
        flats = self.flats
        yuv = to_yuv(np.ascontiguousarray(rgb))
        luma = np.ascontiguousarray(yuv[..., 0]) + np.float32(0.5)
        seen = seen or measure(np.rint(255 * luma).astype(np.uint8))
        z = canvas_planes(flats.steering, seen, offset, (rgb.shape[0], rgb.shape[1]))
        smooth = _flattened(yuv)
        plain = smooth[..., 0] + np.float32(0.5)
        near = np.float32(0.33) + np.float32(0.67) * z.fine
        kept = 0.5 * z.fine * (blurred(luma, 0.8) - plain)
        shown = plain + kept + flats.clarity * near * (blurred(plain, 1.0) - guided(luma, 24, 0.01))
        tone = np.interp(shown, np.linspace(0, 1, 256), self.curve.table(seen) / 255).astype(np.float32)
        tone = np.float32(0.52) + flats.contrast * (tone - np.float32(0.5))
        tone = tone + 4 * flats.lift * (0.5 + 0.5 * z.fine) * warmth(yuv) * tone * (1 - tone)
        share = 0.75 * np.minimum(z.fine, 1)
        flat = np.clip(tone, 0, 1)
        y = parted(flat, flats.tones)
        y = y + share * (0.5 * (tone + parted(flat, 2 * flats.tones)) - y)
        color = flats.vivid * smooth[..., 1:]
        colorful = np.float32(0.35) * np.hypot(color[..., 0], color[..., 1])
        dark = np.clip(1 - (tone + colorful) / np.float32(flats.shadow), 0, 1)
        y = y + flats.air * np.minimum(4 * dark, 1) * (1 - share)
        stroke = 1 / (1 + np.exp(-flats.hard * (z.value - (0.95 - 2.1 * dark))))
        shade = flats.hatching * (1 - 0.8 * np.minimum(z.fine, 1)) * np.minimum(6 * dark, 1) * stroke
        along = smeared(plain, z.angle, 5, 1.5)
        line = self._outlines(along + np.minimum(1.5 * z.fine, 1) * (plain + 0.35 * (luma - plain) - along), z.fine)
        cover = (1 - (1 - np.clip(shade, 0, 1)) * (1 - line))[..., None]
        ink = to_yuv(np.full((1, 1, 3), flats.ink, np.float32))
        painted = np.dstack((np.clip(y, 0, 1) - np.float32(0.5), color))
        return np.asarray(painted + cover * (ink - painted), np.float32)

    def _outlines(self, luma: Floats, fine: Floats) -> Floats:
        """Return how strongly lines are drawn, 0 to 1."""
        lines = []
        for narrow, wide, decided in (self.flats.pen, self.flats.fine_pen):
            edge = np.maximum(blurred(luma, wide) - blurred(luma, narrow) - np.float32(0.011), 0)
            lines.append(np.tanh(decided * edge))
        share = np.clip(fine, 0, 1)
        return np.asarray(0.97 * (lines[0] + share * (lines[1] - lines[0])), np.float32)


def _flattened(yuv: Floats) -> Floats:
    """Smooth areas but for their edges."""
    smooth = np.asarray(cv2.GaussianBlur(yuv, (0, 0), 0.8), np.float32)
    for _ in range(2):
        smooth = np.asarray(cv2.bilateralFilter(smooth, 9, 0.09, 3.0), np.float32)
    return smooth

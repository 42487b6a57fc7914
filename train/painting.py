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

from rtstyle.canvas.field import TONES, Field, measure
from rtstyle.canvas.steering import CHANNELS, SteeredCutter, Steering, Stream, steered
from rtstyle.canvas.strokes import Brush
from rtstyle.canvas.tone import ToneCurve
from train.data import to_yuv

Picture = NDArray[np.float32]


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
    clarity: float = 1.5
    """How far local contrast is raised there: a face keeps its eyes and its mouth."""
    mix: float = 0.7
    """Of the tone curve, see there."""
    clusters: int = 4
    levels: int = 12


class Colors:
    """The colors of a painting by lightness: clusters of chroma for each of some levels, from warm to cold."""

    def __init__(self, painting: NDArray[np.uint8], levels: int, clusters: int) -> None:
        clean = cv2.GaussianBlur(painting, (0, 0), 0.6).astype(np.float32) / 255
        samples = to_yuv(clean).reshape(-1, 3)[::5] + np.array((0.5, 0, 0), np.float32)
        bounds = np.quantile(samples[:, 0], np.linspace(0, 1, levels + 1))
        self.lightness = np.zeros(levels, np.float32)
        self.centers = np.zeros((levels, clusters, 2), np.float32)
        self.shares = np.zeros((levels, clusters), np.float32)
        before: NDArray[np.float32] | None = None
        for level in range(levels):
            chosen = samples[(samples[:, 0] >= bounds[level]) & (samples[:, 0] <= bounds[level + 1])]
            self.lightness[level] = chosen[:, 0].mean()
            before, self.shares[level] = _clusters(np.ascontiguousarray(chosen[:, 1:]), clusters, before)
            self.centers[level] = before
        self.quantiles = np.quantile(samples[:, 0], np.linspace(0.005, 0.995, TONES)).astype(np.float32)

    def take(self, luma: Picture, u: Picture, v: Picture, wish: Picture, keep: float, sharp: float) -> Picture:
        """Choose a color for each pixel.

        Args:
            luma: Shape (h, w), 0 to 1.
            u, v: The photo's chroma, the same shape.
            wish: Shape (h, w, clusters): how much each pixel wants each cluster.
            keep, sharp: As in ``Manner``.

        Returns:
            Shape (h, w, 2): U and V.
        """
        place = np.interp(luma, self.lightness, np.arange(len(self.lightness))).astype(np.float32)
        low = np.minimum(place.astype(np.intp), len(self.lightness) - 2)
        share = (place - low)[..., None]
        centers = self.centers[low] + share[..., None] * (self.centers[low + 1] - self.centers[low])
        weights = self.shares[low] + share * (self.shares[low + 1] - self.shares[low])
        length = np.hypot(centers[..., 0], centers[..., 1]) + np.float32(0.03)
        own = (centers[..., 0] * u[..., None] + centers[..., 1] * v[..., None]) / length
        score = np.log(weights + np.float32(0.02)) + keep * own + wish
        chosen = np.exp(sharp * (score - score.max(-1, keepdims=True)))
        chosen /= chosen.sum(-1, keepdims=True)
        return np.asarray((centers * chosen[..., None]).sum(-2), np.float32)


def _clusters(
    chroma: NDArray[np.float32], count: int, before: NDArray[np.float32] | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Find clusters and their shares, tracked from those of the level below; the first are sorted from warm to cold."""
    if before is None:
        cv2.setRNGSeed(1)
        criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 40, 1e-5)
        _, _, found = cv2.kmeans(chroma, count, None, criteria, 4, cv2.KMEANS_PP_CENTERS)  # type: ignore[call-overload]
        before = found[np.argsort(found[:, 0] - found[:, 1])]
    labels = ((chroma[:, None] - before) ** 2).sum(-1).argmin(1)
    for _ in range(6):
        members = [chroma[labels == j] for j in range(count)]
        before = np.stack([m.mean(0) if len(m) > 20 else b for m, b in zip(members, before, strict=True)])
        labels = ((chroma[:, None] - before) ** 2).sum(-1).argmin(1)
    return before.astype(np.float32), (np.bincount(labels, minlength=count) / len(chroma)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Planes:
    """A canvas at full size: shapes (h, w), values in [-1, 1]."""

    value: Picture
    relief: Picture
    hue: Picture
    glow: Picture
    fine: Picture
    angle: Picture
    """Of strokes, in radians, y down."""


def planes_of(steering: Steering, seen: Field, offset: tuple[int, int], size: tuple[int, int]) -> Planes:
    """Lay the canvas at ``offset`` (x, y) below a photo of ``size`` (height, width), as engines do."""
    height, width = size
    rows, columns = -(-height // 4), -(-width // 4)
    cells = steered(steering, seen, offset, (rows, columns), (0, 0))
    packed = np.empty((rows, columns, CHANNELS), np.uint8)
    SteeredCutter(steering, rows, columns).cut(cells, offset, packed)

    def unpacked(channels: NDArray[np.uint8], side: int) -> Picture:
        plane = channels.reshape(rows, columns, side, side).transpose(0, 2, 1, 3).reshape(rows * side, columns * side)
        whole = np.repeat(np.repeat(plane, 4 // side, 0), 4 // side, 1)
        return (whole[:height, :width].astype(np.float32) - 128) / 127

    cos, sin, glow, fine = (cv2.resize(each, (4 * columns, 4 * rows))[:height, :width] for each in cv2.split(cells))
    return Planes(
        value=unpacked(packed[..., :16], 4),
        relief=unpacked(packed[..., 16:32], 4),
        hue=cv2.GaussianBlur(unpacked(packed[..., 32:36], 2), (0, 0), 0.7),
        glow=glow,
        fine=fine,
        angle=(0.5 * np.arctan2(sin, cos)).astype(np.float32),
    )


class Painting:
    """A painter in the manner and the colors of one painting."""

    def __init__(self, painting: NDArray[np.uint8], manner: Manner) -> None:
        self.manner, self.steering = manner, manner.steering
        self.colors = Colors(painting, manner.levels, manner.clusters)
        self.curve = ToneCurve(tuple(round(float(q), 4) for q in self.colors.quantiles), manner.mix)

    def paint(self, rgb: Picture, offset: tuple[int, int], seen: Field | None = None) -> Picture:
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
        z = planes_of(manner.steering, seen, offset, (height, rgb.shape[1]))
        coarse = 1 - z.fine
        base = np.dstack((0.5 * (luma + guided(luma, 10, 0.004)), yuv[..., 1:]))
        base = _smeared(base, z.angle, 5, 2.0)
        smooth = base[..., 0] * coarse + z.fine * (0.35 * base[..., 0] + 0.65 * luma)
        u, v = (blurred(np.ascontiguousarray(base[..., i]), 2.0) for i in (1, 2))
        contour = blurred(np.clip(14 * np.abs(blurred(luma, 0.8) - blurred(luma, 4.0)) - 0.25, 0, 1), 2.0)
        kept = np.clip(manner.detail + 0.6 * contour + 0.7 * z.fine, 0, 1.15)
        drawn = smooth + kept * (luma - smooth)
        # not of the luma itself: the noise of a sensor lies in its finest detail, and would be raised as well
        raised = manner.clarity * z.fine * (blurred(luma, 1.3) - guided(luma, 24, 0.01))
        toned = self.toned(drawn + raised, seen)
        toned = toned + 4 * manner.lift * z.fine * warmth(yuv) * toned * (1 - toned)
        loud = 1 - manner.calm * z.fine
        toned = toned + 1.6 * manner.glow * z.glow * (1 - toned)
        toned = toned + loud * manner.gain * z.value
        if manner.steps:
            toned = _parted(toned, manner.steps)
        color = self.colors.take(toned, u, v, self._wishes(z, loud), manner.keep, manner.sharp)
        y = np.clip(toned + manner.relief * loud * z.relief, 0, 1)
        narrow, wide, decided = manner.pen
        edge = np.maximum(blurred(luma, wide) - blurred(luma, narrow) - np.float32(0.007), 0)
        line = (np.tanh(decided * edge) * np.minimum(manner.outline + 0.35 * z.fine, 1))[..., None]
        ink = to_yuv(np.full((1, 1, 3), manner.ink, np.float32)) + np.array((0.5, 0, 0), np.float32)
        painted = np.dstack((y, manner.purity * color)) * (1 - line) + line * ink
        return (painted - np.array((0.5, 0, 0))).astype(np.float32)

    def toned(self, luma: Picture, seen: Field) -> Picture:
        """Apply the tone curve to luma from 0 to 1."""
        table = self.curve.table(seen) / np.float32(255)
        return np.interp(luma, np.linspace(0, 1, 256), table).astype(np.float32)

    def _wishes(self, z: Planes, loud: Picture) -> Picture:
        """Return how much each pixel's stroke wants each cluster of colors: (h, w, clusters), the warmest first."""
        manner = self.manner
        places = np.linspace(-0.9, 0.9, manner.clusters, dtype=np.float32)
        wish = -1.3 * (z.hue[..., None] - places) ** 2
        wish[..., 0] -= 0.5 * z.value
        wish[..., 1] += 0.5 * z.value
        wish = manner.noise * loud[..., None] * wish
        wish[..., 0] += 2.5 * manner.noise * z.glow
        return np.asarray(wish, np.float32)


def _parted(luma: Picture, steps: int) -> Picture:
    """Part luma from 0 to 1 into flat tones with narrow, soft steps between them."""
    place = luma * steps - np.float32(0.5)
    below = np.floor(place)
    return np.asarray((below + 1 + 0.5 * np.tanh(7 * (place - below - 0.5))) / steps, np.float32)


def blurred(plane: Picture, sigma: float) -> Picture:
    """Blur a plane with a Gaussian of that standard deviation."""
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma), np.float32)


def warmth(yuv: Picture) -> Picture:
    """Return how warm the color of each pixel of a photo is, 0 to 1: skin of all kinds is, walls and skies are not."""
    u, v = (blurred(np.ascontiguousarray(yuv[..., i]), 2.0) for i in (1, 2))
    return np.asarray(np.clip((v - u - np.float32(0.02)) / np.float32(0.06), 0, 1), np.float32)


def guided(plane: Picture, radius: int, eps: float) -> Picture:
    """Smooth a plane but for its own edges (He, Sun and Tang 2010, "Guided Image Filtering")."""

    def mean(x: Picture) -> Picture:
        return np.asarray(cv2.blur(x, (2 * radius + 1, 2 * radius + 1)), np.float32)

    center = mean(plane)
    variance = mean(plane * plane) - center * center
    slope = variance / (variance + np.float32(eps))
    return mean(slope) * plane + mean(center - slope * center)


def _smeared(picture: Picture, angle: Picture, taps: int, step: float) -> Picture:
    """Smear an image along its strokes: the mean of ``taps`` places, ``step`` pixels apart, on each side."""
    height, width = angle.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    cos, sin = np.cos(angle), np.sin(angle)
    total = picture.copy()
    for tap in range(1, taps + 1):
        for side in (-step, step):
            moved = x + np.float32(side * tap) * cos, y + np.float32(side * tap) * sin
            total += cv2.remap(picture, *moved, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return total / np.float32(2 * taps + 1)


MANNERS = {
    "picture": Manner(
        steering=Steering(Brush(length=24, width=5, seed=5), Stream(kind="waves", sway=0.4)),
        gain=0.16,
        relief=0.09,
        noise=2.2,
        sharp=5,
        purity=1.2,
        glow=0,
    ),
    "starry_night": Manner(
        steering=Steering(Brush(length=24, width=5, seed=4), Stream(kind="whirls", angle=172)),
        mix=0.9,
        gain=0.3,
    ),
    "the_scream": Manner(
        steering=Steering(
            Brush(length=110, width=6.5, spread=0.25, bend=0.002, band=64, scales=(1.0, 0.5, 0.26), seed=8),
            Stream(kind="waves", sway=0.55, waves=2),
        ),
        gain=0.2,
        relief=0.1,
        noise=2.4,
        keep=5,
        sharp=5,
        purity=1.2,
        glow=0,
    ),
    "water_lilies": Manner(
        steering=Steering(Brush(length=19, width=8, cover=2.2, band=90, seed=9), Stream(kind="level", sway=0.2)),
        gain=0.17,
        relief=0.08,
        mix=0.9,
        noise=2.8,
        keep=6,
        sharp=6,
        purity=1.3,
        glow=0,
        outline=0.08,
        detail=0.15,
    ),
    "great_wave": Manner(
        steering=Steering(
            Brush(length=64, width=3.4, spread=0.3, bend=0.006, band=80, scales=(1.0, 0.7, 0.5), seed=10),
            Stream(kind="waves", sway=0.5, waves=3),
        ),
        gain=0.09,
        relief=0.02,
        noise=1.6,
        keep=8,
        sharp=5,
        purity=1.3,
        glow=0,
        outline=0.85,
        pen=(1.3, 4.2, 24.0),
        ink=(0.11, 0.165, 0.33),
        steps=5,
        clusters=3,
        levels=10,
    ),
    "composition_vii": Manner(
        steering=Steering(
            Brush(
                length=44,
                width=17,
                cover=2.4,
                spread=0.45,
                jitter=0.5,
                bend=0.012,
                bristles=0.25,
                band=22,
                scales=(1.0, 0.6, 0.36),
                seed=14,
            ),
            Stream(kind="whirls", whirls=28, radius=(30.0, 80.0), lights=0.8, angle=20, sway=0.8),
        ),
        gain=0.2,
        relief=0.16,
        mix=0.8,
        noise=4.2,
        keep=3.5,
        sharp=9,
        purity=1.4,
        glow=0.15,
        detail=0.2,
        outline=0.65,
        pen=(1.2, 3.6, 20.0),
        ink=(0.07, 0.06, 0.09),
        clusters=6,
    ),
}
"""By name; ``picture`` is a plain one for any image. ``great_wave`` and ``composition_vii`` do not ship so yet."""

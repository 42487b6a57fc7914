"""Drawing in code on a steered canvas: what a photo could look like, stroke by stroke, on paper.

Like painting.py a warm start and a function of the photo and of the canvas below it. The strokes of a hatching are
those of the tiles: the darker an area is, the more of them are drawn. They run along the forms, and in flats as the
hand does; where a fine brush is needed they are finer and fainter, and the tone itself is rubbed in, so that a face
keeps its eyes and its mouth. What is light stays paper. Contours are drawn on the dark side of edges.

Sources: hatching as a threshold of strokes in order, Salisbury, Wong, Hughes and Salesin 1997, "Orientable Textures for
Image-Based Pen-and-Ink Illustration"; contours, Winnemoeller, Kyprianidis and Olsen 2012, "XDoG: an extended
difference-of-Gaussians compendium".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rtstyle.canvas.arrays import Floats
from rtstyle.canvas.field import TONES, Field, measure
from rtstyle.canvas.steering import Steering, Stream
from rtstyle.canvas.strokes import Brush
from rtstyle.canvas.tone import ToneCurve
from rtstyle.universal.painting import blurred, canvas_planes, guided, warmth
from rtstyle.universal.palette import to_yuv

RGB = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Hand:
    """How a style is drawn; lengths in pixels at 720 lines."""

    steering: Steering
    paper: RGB = (1.0, 1.0, 1.0)
    """Color of the paper, RGB from 0 to 1."""
    ink: RGB = (0.13, 0.13, 0.14)
    """Color of the strokes."""
    key: float = 0.75
    """Exponent of the tones that are wanted: the lower, the lighter is the drawing."""
    mix: float = 0.6
    """Of the tone curve, see there; so is ``blur``."""
    blur: int = 3
    white: float = 0.95
    """Tone from which on the paper is left bare."""
    hard: float = 3.5
    """How clearly a stroke is either drawn or not."""
    press: tuple[float, float] = (0.22, 0.62)
    """How dark strokes are in light areas, and how much darker in dark ones."""
    deep: float = 0.5
    """How dark the ground of the darkest areas is."""
    grain: float = 0.3
    """How much the relief of strokes shows."""
    calm: float = 0.55
    """How much fainter strokes are where a fine brush is needed."""
    detail: float = 0.35
    """Share of the photo's detail that is kept everywhere."""
    clarity: float = 0.6
    """How far local contrast is raised where a fine brush is needed; a third of it elsewhere."""
    lift: float = 0.15
    """How far skin is lightened there."""
    outline: float = 0.5
    """Strength of contours."""
    color: float = 0.0
    """How far strokes take the photo's color, above 1 more saturated; what has a color is drawn, however light."""
    pen: tuple[float, float, float] = (0.9, 2.4, 15.0)
    """Of contours: standard deviations of the difference of Gaussians, and how decidedly they are drawn."""

    @property
    def light(self) -> bool:
        """Whether light is drawn on a dark ground."""
        return sum(self.ink) > sum(self.paper)


class Drawing:
    """A drawer: paints as ``train.painting.Painting`` does."""

    def __init__(self, hand: Hand) -> None:
        self.hand, self.steering = hand, hand.steering
        quantiles = 0.04 + 0.94 * np.linspace(0, 1, TONES) ** hand.key
        self.curve = ToneCurve(tuple(round(float(q), 4) for q in quantiles), hand.mix, hand.blur)

    def paint(self, rgb: Floats, offset: tuple[int, int], seen: Field | None = None) -> Floats:
        """Draw a photo.

        Args:
            rgb: Shape (h, w, 3), in [0, 1].
            offset: Where its top left lies on the canvas, (x, y) in pixels.
            seen: What was measured of it; None: it is measured here.

        Returns:
            Shape (h, w, 3): Y - 0.5, U, V.
        """
        hand = self.hand
        yuv = to_yuv(np.ascontiguousarray(rgb))
        luma = np.ascontiguousarray(yuv[..., 0]) + np.float32(0.5)
        seen = seen or measure(np.rint(255 * luma).astype(np.uint8))
        z = canvas_planes(hand.steering, seen, offset, (rgb.shape[0], rgb.shape[1]))
        smooth, calm = guided(luma, 6, 0.002), blurred(luma, 0.8)  # the noise of a sensor is in what is finer
        near = np.float32(0.35) + np.float32(0.65) * z.fine
        shown = smooth + np.clip(hand.detail + 0.65 * z.fine, 0, 1) * (calm - smooth)
        shown = shown + hand.clarity * near * (blurred(luma, 1.3) - guided(luma, 24, 0.01))  # noise is not raised
        tone = np.interp(shown, np.linspace(0, 1, 256), self.curve.table(seen) / 255).astype(np.float32)
        tone = tone + 4 * hand.lift * z.fine * warmth(yuv) * tone * (1 - tone)
        if hand.light:
            tone = 1 - tone
        u, v = (blurred(np.ascontiguousarray(plane), 2.0) for plane in (yuv[..., 1], yuv[..., 2]))
        dark = np.clip(1 - tone / np.float32(hand.white) + hand.color * np.hypot(u, v), 0, 1)
        loud = 1 - hand.calm * z.fine
        level = 1.05 - 2.1 * dark  # strokes of a higher value are drawn
        hatching = loud * _sigmoid(hand.hard * (z.value - level)) + (1 - loud) * _sigmoid(-0.7 * hand.hard * level)
        shade = hatching * (hand.press[0] + hand.press[1] * dark) * np.minimum(10 * dark, 1)
        shade = shade * (1 + hand.grain * loud * z.relief)
        shade = 1 - (1 - shade) * (1 - hand.deep * dark * dark)
        narrow, wide, decided = hand.pen
        edge = blurred(luma, wide) - blurred(luma, narrow)
        edge = np.maximum((-edge if hand.light else edge) - np.float32(0.006), 0)
        line = np.tanh(decided * edge) * np.minimum(hand.outline + 0.35 * z.fine, 1) * (1 + 0.2 * z.relief)
        cover = np.clip(1 - (1 - shade) * (1 - np.clip(line, 0, 1)), 0, 1)[..., None]
        paper, ink = (to_yuv(np.full((1, 1, 3), color, np.float32)) for color in (hand.paper, hand.ink))
        if hand.color:
            own = np.dstack((0.08 + 0.55 * luma - 0.5, hand.color * u, hand.color * v))
            ink = own + np.clip(line[..., None], 0, 1) * (ink - own)  # contours stay dark
        return np.asarray(paper + cover * (ink - paper), np.float32)


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)), np.float32)


HANDS = {
    "sketch": Hand(
        steering=Steering(
            Brush(
                length=46, width=2.6, cover=2.2, spread=0.3, jitter=0.07, bend=0.002, scales=(1.0, 0.75, 0.5), seed=11
            ),
            Stream(kind="level", angle=-50, sway=0.12, pull=1.2e-3),
        ),
    ),
    "red_chalk": Hand(
        steering=Steering(
            Brush(length=34, width=4.2, cover=2.2, jitter=0.09, bend=0.003, scales=(1.0, 0.72, 0.5), seed=12),
            Stream(kind="level", angle=-58, sway=0.15, pull=8e-4),
        ),
        paper=(0.97, 0.885, 0.75),
        ink=(0.50, 0.10, 0.05),
        key=0.62,
        white=0.88,
        hard=3.2,
        press=(0.34, 0.62),
        deep=0.6,
        grain=0.5,
        outline=0.65,
        pen=(1.1, 2.8, 13.0),
    ),
    "etching": Hand(
        steering=Steering(
            Brush(
                length=90, width=2.0, cover=2.4, spread=0.2, jitter=0.03, bend=0.001, scales=(1.0, 0.8, 0.62), seed=13
            ),
            Stream(kind="waves", angle=-28, sway=0.2, waves=2, pull=1.5e-3),
        ),
        paper=(0.94, 0.90, 0.815),
        ink=(0.13, 0.10, 0.08),
        key=0.55,
        hard=6.0,
        press=(0.5, 0.45),
        deep=0.45,
        grain=0.15,
        calm=0.7,
        outline=0.7,
        pen=(0.8, 2.2, 20.0),
    ),
    "pencils": Hand(
        steering=Steering(
            Brush(
                length=52, width=3.4, cover=2.3, spread=0.3, jitter=0.08, bend=0.002, scales=(1.0, 0.72, 0.5), seed=16
            ),
            Stream(kind="level", angle=-62, sway=0.14, pull=1e-3),
        ),
        paper=(0.985, 0.98, 0.965),
        key=0.7,
        white=0.97,
        hard=3.0,
        press=(0.4, 0.55),
        grain=0.4,
        color=1.5,
    ),
    "blackboard": Hand(
        steering=Steering(
            Brush(
                length=40, width=5.5, cover=2.2, spread=0.3, jitter=0.12, bend=0.003, scales=(1.0, 0.68, 0.46), seed=17
            ),
            Stream(kind="level", angle=-35, sway=0.2, pull=2e-3),
        ),
        paper=(0.125, 0.165, 0.16),
        ink=(0.95, 0.95, 0.91),
        key=1.85,
        white=0.9,
        hard=3.0,
        press=(0.3, 0.62),
        deep=0.55,
        grain=0.5,
        lift=0.1,
        outline=0.7,
        pen=(1.0, 2.8, 14.0),
    ),
    "ink": Hand(
        steering=Steering(
            Brush(
                length=70,
                width=9,
                cover=2.3,
                spread=0.3,
                jitter=0.16,
                bend=0.004,
                bristles=0.3,
                band=40,
                scales=(1.0, 0.6, 0.36),
                seed=15,
            ),
            Stream(kind="waves", angle=-38, sway=0.35, waves=1, pull=1e-3),
        ),
        paper=(0.985, 0.98, 0.965),
        ink=(0.05, 0.05, 0.08),
        key=0.62,
        white=0.74,
        hard=5.0,
        press=(0.3, 0.6),
        deep=0.75,
        grain=0.6,
        calm=0.75,
        clarity=0.5,
        outline=1.0,
        pen=(1.2, 3.4, 20.0),
    ),
}
"""By name."""

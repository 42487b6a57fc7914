"""The tone curve: before the network, the luma of a stream is brought near to the tones of a painting.

A convolutional network sees a part of a frame and cannot know how light the frame is as a whole; instance
normalization gives networks that knowledge at the price of halos and pumping. Here one curve for the whole frame does,
from quantiles that are smoothed in time. Its slope is bounded, so that it amplifies neither noise nor flat frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle.canvas.arrays import Bytes, Floats
from rtstyle.canvas.field import TONES, Field

Luma = TypeVar("Luma", Bytes, Floats)

STEEPEST = 1.8
"""Largest slope of a curve."""

_PLAIN = (4.0, 12.0)
"""Standard deviations of luma, in levels, up to which the curve is the identity, and from which on it is whole."""


@dataclass(frozen=True)
class ToneCurve:
    """The tones of a style.

    Args:
        quantiles: 65 quantiles of the painting's luma, 0 black to 1 white.
        mix: Share of the quantiles; the rest is a straight line from the darkest to the lightest tone.
        blur: Side in pixels of the binomial kernel that smooths luma behind the curve: 1 (not at all), 3 or 5. Behind
            it the noise of a sensor is .375 and .27 as strong. It suits drawings, which keep nothing finer of a frame.
    """

    quantiles: tuple[float, ...]
    mix: float = 0.7
    blur: int = 1

    def __post_init__(self) -> None:
        rising = all(a <= b for a, b in zip(self.quantiles, self.quantiles[1:], strict=False))
        if len(self.quantiles) != TONES or not rising or not 0 <= self.quantiles[0] <= self.quantiles[-1] <= 1:
            raise ValueError(f"a tone curve has {TONES} rising quantiles from 0 to 1")
        if self.blur not in (1, 3, 5):
            raise ValueError(f"luma is smoothed over 1, 3 or 5 pixels, not {self.blur}")

    def smoothed(self, luma: Luma) -> Luma:
        """Smooth luma, shape (h, w); where nothing is to be done, it is returned itself."""
        return np.asarray(cv2.GaussianBlur(luma, (self.blur, self.blur), 0), luma.dtype) if self.blur > 1 else luma

    def table(self, seen: Field, black: float = 0.0, white: float = 255.0) -> Floats:
        """Return what each level of luma becomes, shape (256,), float32, in levels.

        Args:
            seen: Field of the frame, whose tones are read.
            black: Level of black of the stream: 0 in full range, 16 in limited range.
            white: Level of white of the stream: 255 in full range, 235 in limited range.
        """
        span = white - black
        ours = black + span * np.asarray(self.quantiles, np.float64)
        levels = np.arange(256.0)
        source = seen.tones.astype(np.float64)
        rising = np.maximum.accumulate(source + np.linspace(0, 1e-3, TONES))
        by_rank = np.interp(levels, rising, ours)
        low, high = source[1], source[-2]
        line = ours[0] + (ours[-1] - ours[0]) * np.clip((levels - low) / max(high - low, 0.05 * span), 0, 1)
        curve = _smooth(self.mix * by_rank + (1 - self.mix) * line)
        middle = int(np.clip(round(source[TONES // 2]), 0, 255))
        slopes = np.clip(np.diff(curve), 0.1, STEEPEST)
        risen = np.concatenate(([0.0], np.cumsum(slopes)))
        curve = np.clip(curve[middle] + risen - risen[middle], black, white)
        # A frame that is nearly flat stays as it is: its quantiles are those of its noise.
        share = np.clip((seen.spread - _PLAIN[0]) / (_PLAIN[1] - _PLAIN[0]), 0, 1)
        return np.asarray(levels + share * (curve - levels), np.float32)


def _smooth(curve: NDArray[np.float64], radius: int = 6) -> NDArray[np.float64]:
    """Take the mean of each level's neighbors, ends continued."""
    wide = np.pad(curve, radius, mode="edge")
    sums = np.concatenate(([0.0], np.cumsum(wide)))
    width = 2 * radius + 1
    return (sums[width:] - sums[:-width]) / width

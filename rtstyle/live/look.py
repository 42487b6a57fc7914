"""How a session looks from frame to frame: strengths and mix as they were set, glide, and change by themselves."""

from __future__ import annotations

import numpy as np

from rtstyle.backends import Controls
from rtstyle.frame import Frame, Planes
from rtstyle.live.control.modulation import Modulation, TurnLimiter

LARGEST_STRENGTH = 2.0


class Glide:
    """A number that goes to a new value at once or over a while."""

    def __init__(self, value: float) -> None:
        self.target = value
        self._from, self._begin, self._seconds = value, 0.0, 0.0

    def set(self, value: float, now: float, seconds: float = 0.0) -> None:
        """Go to a value within so many seconds."""
        self._from, self.target = self.at(now), value
        self._begin, self._seconds = now, seconds

    def at(self, now: float) -> float:
        """Return the value of now."""
        if now >= self._begin + self._seconds:
            return self.target
        return self._from + (self.target - self._from) * max(now - self._begin, 0.0) / self._seconds

    def moving(self, now: float) -> bool:
        """Whether it is on its way."""
        return now < self._begin + self._seconds


class Look:
    """What is done to each frame beside the choice of the style; one thread uses it.

    Args:
        controls: Strengths at first.
    """

    def __init__(self, controls: Controls, modulation: Modulation) -> None:
        self.modulation = modulation
        keeps = controls.chroma == 0 < controls.luma
        ratio = controls.chroma / controls.luma if controls.luma else 1.0
        self.strength, self.color = Glide(controls.luma), Glide(0.0 if keeps else min(ratio, LARGEST_STRENGTH))
        self.blend = Glide(0.0)
        self.bypassed = self.blacked_out = False
        self._color_of_before = 1.0
        start = controls.luma, controls.chroma, 0.0, 0.0
        self._luma, self._chroma, self._share, self._black = map(TurnLimiter, start)
        self._held_back = False  # a value may not turn around yet

    @property
    def keeps_colors(self) -> bool:
        """Whether the colors of the source stay."""
        return self.color.target == 0

    def keep_colors(self, on: bool, now: float) -> None:
        """Keep the colors of the source, or go back to what was before."""
        if on and not self.keeps_colors:
            self._color_of_before = self.color.target
        self.color.set(0.0 if on else self._color_of_before, now)

    def set_strength(self, strength: float, now: float, seconds: float = 0.0) -> None:
        """Go to a strength, clamped to [0, 2]."""
        self.strength.set(min(max(round(strength, 3), 0.0), LARGEST_STRENGTH), now, seconds)

    def set_color(self, share: float, now: float, seconds: float = 0.0) -> None:
        """Go to a factor of the strength for colors, clamped to [0, 2]."""
        self.color.set(min(max(share, 0.0), LARGEST_STRENGTH), now, seconds)

    def set_blend(self, share: float, now: float, seconds: float = 0.0) -> None:
        """Go to a share of the second style, clamped to [0, 1]."""
        self.blend.set(min(max(share, 0.0), 1.0), now, seconds)

    def moving(self, now: float) -> bool:
        """Whether the look changes without a command: then a paused frame is made again and again."""
        glides = any(glide.moving(now) for glide in (self.strength, self.color, self.blend))
        return self.modulation.running or glides or self._held_back

    def controls(self, now: float) -> Controls:
        """Return the strengths of now; called once a frame, before ``share`` and ``black``."""
        self._held_back = False
        strength = color = 0.0
        if not self.bypassed:
            strength = self.modulation.value("strength", self.strength.at(now), now)
            color = self.modulation.value("color_strength", self.color.at(now), now)
        luma = min(max(strength, 0.0), LARGEST_STRENGTH)
        chroma = min(max(strength * color, 0.0), LARGEST_STRENGTH)
        return Controls(self._bounded(self._luma, luma, now), self._bounded(self._chroma, chroma, now))

    def share(self, now: float) -> float:
        """Return the share of the second style, 0 to 1."""
        wanted = min(max(self.modulation.value("blend", self.blend.at(now), now), 0.0), 1.0)
        return self._bounded(self._share, wanted, now)

    def black(self, now: float) -> bool:
        """Return whether the frame of now is black."""
        return self._bounded(self._black, float(self.blacked_out), now) > 0

    def _bounded(self, limiter: TurnLimiter, value: float, now: float) -> float:
        if self.modulation.allow_strobe:
            return value
        bounded = limiter.limit(value, now)
        self._held_back |= bounded != value
        return bounded


def black_frame(frame: Frame) -> Frame:
    """Return a black frame in the place of another one."""
    luma = 0 if frame.color.full_range else 16
    y, u, v = frame.planes
    return frame.with_planes(Planes(np.full_like(y, luma), np.full_like(u, 128), np.full_like(v, 128)))


def split_frame(source: Frame, stylized: Frame, share: float) -> Frame:
    """Return the stylized frame with the source left of a line, at a share of the width; new planes."""
    planes = []
    for before, after in zip(source.planes, stylized.planes, strict=True):
        plane = np.array(after)
        cut = round(share * plane.shape[1])
        plane[:, :cut] = before[:, :cut]
        planes.append(plane)
    return stylized.with_planes(Planes(*planes))

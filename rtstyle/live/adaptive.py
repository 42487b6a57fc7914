"""Adaptive quality: with which network, in which size every frame is stylized in time."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from rtstyle.backoff import BackOff
from rtstyle.frame import Size
from rtstyle.speed import Speed
from rtstyle.style import SizeClass

STEPS = (1.0, 3 / 4, 1 / 2, 3 / 8)
"""Working sizes, as shares of the frame's width and height."""

_SPAN = 1.0
"""Seconds of frames whose median decides."""

_LEAST = 4
"""Frames that decide at least."""

_MARGIN = 1.25
"""What a more expensive quality level is expected to cost, times this, must fit before it is tried."""

_TOLERANCE = 1.05
"""By how much frames may be too slow before a cheaper quality level is taken."""

_WAIT, _LONGEST_WAIT = 3.0, 60.0
"""Seconds after a change before a more expensive quality level is tried: at first, and after many that failed."""

_FITS = 0.9
"""Share of the time between two frames that the engine may take, as it was measured, of the level to begin with."""

_COST = {"fast": 0.4, "default": 1.0, "fine": 3.7}
"""What a network costs for a pixel, against the default one, about: fast as measured (15.8 of 39.2 CPU-ms at 720p in
int8), fine by its operations. A wrong guess costs a try, after which it waits longer."""


class Working(NamedTuple):
    """How frames are stylized."""

    size_class: SizeClass
    size: Size

    def __str__(self) -> str:
        return f"{self.size}" if self.size_class == "default" else f"{self.size} {self.size_class}"


def working_sizes(size: Size) -> list[Size]:
    """Return the sizes, largest first; even, so that chroma planes fit exactly, and never below 16 pixels."""
    sizes = [size]
    for step in STEPS[1:]:
        smaller = Size(2 * round(size.width * step / 2), 2 * round(size.height * step / 2))
        if min(smaller.width, smaller.height) >= 16 and smaller != sizes[-1]:
            sizes.append(smaller)
    return sizes


def quality_levels(size: Size, classes: Sequence[SizeClass], *, smaller: bool) -> list[Working]:
    """Return what a session may go down to, the best first: cheaper networks, then the last of them on smaller sizes.

    Args:
        classes: The networks that may be used, the best first.
        smaller: Whether the working size may change.
    """
    levels = [Working(each, size) for each in classes]
    return levels + [Working(classes[-1], each) for each in working_sizes(size)[1:] if smaller]


def first_level(levels: Sequence[Working], target_fps: float | None, known: Speed) -> int:
    """Return the number of the first level that this machine is known to reach a rate with, or else of the last one;
    0 where nothing is known."""
    if not target_fps or not known.live:
        return 0
    for number, level in enumerate(levels):
        needed = known.milliseconds(level.size_class, level.size.width * level.size.height)
        if needed is None or needed <= _FITS * 1000 / target_fps:
            return number
    return len(levels) - 1


def _weight(level: Working) -> float:
    return _COST[level.size_class] * level.size.width * level.size.height


class AdaptiveQuality:
    """Chooses a quality level by what frames cost; goes down at once, and up again with care.

    What keeps it from going to and fro: it decides by medians over a second; it goes up only where the
    expected cost fits with a margin; and after a more expensive quality level that had to be left again it waits
    twice as long before the next try.

    Args:
        levels: What it chooses from, the best and most expensive first.
        target_fps: Frames per second to be reached; None: as many as arrive.
        first: The level that it begins with, see ``first_level``.
    """

    def __init__(self, levels: Sequence[Working], target_fps: float | None, first: int = 0) -> None:
        self._levels = levels
        self._target = target_fps
        self._step = first
        self.behind = 0
        """Decisions in a row at which even the cheapest quality level was too slow."""
        self._costs: list[tuple[float, float]] = []
        self._since: float | None = None
        self._changed: float | None = None
        self._wait = BackOff(_WAIT, _LONGEST_WAIT)
        self._rose = False

    @property
    def working(self) -> Working:
        """What is to be used."""
        return self._levels[self._step]

    def add(
        self, working: Working, engine_ms: float, other_ms: float, now: float, arriving: float | None = None
    ) -> bool:
        """Take what a frame cost. True if ``working`` is another one afterwards.

        Args:
            working: How it was stylized; frames of another quality level than the chosen one are not counted.
            engine_ms: Milliseconds in the engine, which grow with the pixels.
            other_ms: Milliseconds for all else but waiting.
            now: Seconds, on any clock.
            arriving: Frames per second that the source gives: a camera in dim light gives fewer than it declares, and
                more than that need not be reached. None where it is not known yet.
        """
        if working != self.working:
            self._costs.clear()
            self._since = None
            return False
        if self._since is None:
            self._since = now
            self._changed = now if self._changed is None else self._changed
        self._costs.append((engine_ms, other_ms))
        if now - self._since < _SPAN or len(self._costs) < _LEAST:
            return False
        engine, other = (median(costs) for costs in zip(*self._costs, strict=True))
        self._costs.clear()
        self._since = None
        before = self._step
        rates = [rate for rate in (self._target, arriving) if rate]
        if rates:
            self._decide(engine, other, now, 1000 / min(rates))
        return self._step != before

    def _decide(self, engine: float, other: float, now: float, budget: float) -> None:
        assert self._changed is not None
        stayed = now - self._changed
        slow = engine + other > _TOLERANCE * budget
        last = self._step + 1 == len(self._levels)
        self.behind = self.behind + 1 if slow and last else 0

        def expected(step: int) -> float:
            return other + engine * _weight(self._levels[step]) / _weight(self.working)

        if slow and not last:
            if self._rose and stayed < 2 * self._wait.seconds:
                self._wait.take()
            cheaper = range(self._step + 1, len(self._levels))
            self._step = next((step for step in cheaper if expected(step) <= budget), cheaper[-1])
            self._rose, self._changed = False, now
        elif self._step and stayed >= self._wait.seconds and _MARGIN * expected(self._step - 1) <= budget:
            self._step -= 1
            self._rose, self._changed = True, now
        elif self._rose and stayed >= 2 * self._wait.seconds:
            self._rose = False
            self._wait.reset()  # the more expensive quality level has proved itself

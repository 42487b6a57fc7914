"""The pace: the working size at which this machine reaches the frames per second that were asked for."""

from __future__ import annotations

from statistics import median

from rtstyle.frame import Size

STEPS = (1.0, 3 / 4, 1 / 2, 3 / 8)
"""Working sizes, as shares of the picture's width and height."""

_SPAN = 1.0
"""Seconds of frames whose median decides."""

_LEAST = 4
"""Frames that decide at least."""

_MARGIN = 1.25
"""What a larger size is expected to cost, times this, must fit before it is tried."""

_TOLERANCE = 1.05
"""By how much frames may be too slow before a smaller size is taken."""

_WAIT, _LONGEST_WAIT = 3.0, 60.0
"""Seconds after a change before a larger size is tried: at first, and after many that failed."""


def working_sizes(size: Size) -> list[Size]:
    """Return the sizes, largest first; even, so that chroma planes fit exactly, and never below 16 pixels."""
    sizes = [size]
    for step in STEPS[1:]:
        smaller = Size(2 * round(size.width * step / 2), 2 * round(size.height * step / 2))
        if min(smaller.width, smaller.height) >= 16 and smaller != sizes[-1]:
            sizes.append(smaller)
    return sizes


class Pace:
    """Chooses the working size by what frames cost; goes down at once, and up again with care.

    What keeps it from going to and fro: it decides by medians over a second; it goes up only where the
    expected cost fits with a margin; and after a larger size that had to be left again it waits twice as
    long before the next try.

    Args:
        size: Of the picture.
        target_fps: Frames per second to be reached.
    """

    def __init__(self, size: Size, target_fps: float) -> None:
        self._sizes = working_sizes(size)
        self._budget = 1000 / target_fps
        self._step = 0
        self._costs: list[tuple[float, float]] = []
        self._since: float | None = None
        self._changed: float | None = None
        self._wait = _WAIT
        self._rose = False

    @property
    def size(self) -> Size:
        """The working size to be used."""
        return self._sizes[self._step]

    def add(self, size: Size, engine_ms: float, other_ms: float, now: float) -> bool:
        """Take what a frame cost. True if ``size`` is another one afterwards.

        Args:
            size: In which it was stylized; frames of another size than the chosen one are not counted.
            engine_ms: Milliseconds in the engine, which grow with the pixels.
            other_ms: Milliseconds for all else but waiting.
            now: Seconds, on any clock.
        """
        if size != self.size:
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
        self._decide(engine, other, now)
        return self._step != before

    def _decide(self, engine: float, other: float, now: float) -> None:
        assert self._changed is not None
        stayed = now - self._changed

        def expected(step: int) -> float:
            size, mine = self._sizes[step], self.size
            return other + engine * (size.width * size.height) / (mine.width * mine.height)

        if engine + other > _TOLERANCE * self._budget and self._step + 1 < len(self._sizes):
            if self._rose and stayed < 2 * self._wait:
                self._wait = min(2 * self._wait, _LONGEST_WAIT)
            smaller = range(self._step + 1, len(self._sizes))
            self._step = next((step for step in smaller if expected(step) <= self._budget), smaller[-1])
            self._rose, self._changed = False, now
        elif self._step and stayed >= self._wait and _MARGIN * expected(self._step - 1) <= self._budget:
            self._step -= 1
            self._rose, self._changed = True, now
        elif self._rose and stayed >= 2 * self._wait:
            self._rose, self._wait = False, _WAIT  # the larger size has proved itself

"""Styles, networks and sizes that change in a session: engines open in the background and swap between frames."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from statistics import median
from typing import NamedTuple, Self

from rtstyle.backends import Controls, Engine
from rtstyle.frame import Frame
from rtstyle.live.adaptive import Working
from rtstyle.live.images import mixed
from rtstyle.style import list_styles

FADE = 0.5
"""Seconds over which a new style takes over from the old one, unless another time is set."""

_SLOW = 0.06
"""Seconds for a frame from which on there is no crossfade, for which two engines run: it would be three jerks."""


class _EngineKey(NamedTuple):
    """What an engine is for."""

    style: str
    working: Working


class Styles:
    """The engine in use; one for another style, network or size is made in a thread and takes its place when ready.

    A new style fades in: for ``FADE`` seconds the outputs of both engines are mixed. A context manager.

    Args:
        make: Opens a warm engine for a style, which takes the session's frames; called in the thread.
    """

    def __init__(
        self, style: str, working: Working, make: Callable[[str, Working], Engine], *, crossfade: bool = True
    ) -> None:
        shipped = list_styles()
        self.names = shipped if style in shipped else [*shipped, style]
        """The styles to choose from: the shipped ones, always in one order, and behind them one of the user's own."""
        self.crossfade = crossfade
        """Whether a new style fades in."""
        self.fade = FADE
        """Seconds of that."""
        self._make = make
        self._current = self._wanted = self._making = _EngineKey(style, working)
        self._pending: Future[Engine] | None = None
        self._fading: tuple[Engine, float] | None = None  # the engine that goes, and since when
        self._second: tuple[_EngineKey, Engine] | None = None
        self._second_style: str | None = None
        self._second_pending: tuple[_EngineKey, Future[Engine]] | None = None
        self._seconds: deque[float] = deque(maxlen=15)
        self.engine = make(style, working)
        self._pool = ThreadPoolExecutor(1, "style")

    @property
    def style(self) -> str:
        """The style in use."""
        return self._current.style

    @property
    def working(self) -> Working:
        """The network and size in use."""
        return self._current.working

    @property
    def loading(self) -> str | None:
        """The style that is being made."""
        return self._wanted.style if self._wanted.style != self._current.style else None

    @property
    def fading(self) -> bool:
        """Whether two engines run."""
        return self._fading is not None

    @property
    def second(self) -> str | None:
        """The style that is mixed in, or was asked for that."""
        return self._second_style

    def mix_in(self, style: str) -> str:
        """Ask for a second style, whose frames are mixed into those of the first; return a line that reports it."""
        if not self._has(style):
            return f"there is no style {style}"
        self._second_style = style
        return f"mixing in {style}"

    def _has(self, style: str) -> bool:
        """Whether a style, or each part of a mix such as ``sketch:0.6,ink:0.4``, is one of ``names``."""
        return style in self.names or all(part.partition(":")[0].strip() in self.names for part in style.split(","))

    def step(self, by: int) -> str:
        """Ask for the style that is ``by`` places further; return a line that reports it."""
        if len(self.names) == 1:
            return f"there is no other style than {self.style}"
        at = self.names.index(self._wanted.style) if self._wanted.style in self.names else -1
        return self.choose((at + by) % len(self.names))

    def choose(self, style: str | int) -> str:
        """Ask for a style by its name or place in ``names``; return a line that reports it."""
        if isinstance(style, int):
            if not 0 <= style < len(self.names):
                return f"there is no style {style + 1}; there are {len(self.names)}"
            style = self.names[style]
        if not self._has(style):
            return f"there is no style {style}"
        self._wanted = self._wanted._replace(style=style)
        return f"loading {style} ..." if style != self.style else f"style {style}"

    def work(self, working: Working) -> None:
        """Ask for another network or working size."""
        self._wanted = self._wanted._replace(working=working)

    def swap(self) -> bool:
        """Between two frames: put a finished engine in place, start to make one that is wanted. True if it changed.

        Raises:
            RtstyleError: The wanted style cannot be run; the one in use stays.
        """
        changed = self._swap_second()
        if self._pending and self._pending.done():
            pending, self._pending = self._pending, None
            try:
                made = pending.result()
            except BaseException:
                self._wanted = self._current
                raise
            if self._making == self._wanted:
                self._replace(made)
                changed = True
            else:
                self._close_aside(made)  # asked for another one meanwhile
        if not self._pending and self._wanted != self._current:
            self._making = self._wanted
            self._pending = self._pool.submit(self._make, *self._making)
        return changed

    def _swap_second(self) -> bool:
        """Bring the second style up to date; it works as the first one does."""
        changed = False
        if self._second_pending and self._second_pending[1].done():
            (made_for, future), self._second_pending = self._second_pending, None
            try:
                engine = future.result()
            except BaseException:
                self._second_style = self._second[0].style if self._second else None
                raise
            if self._second:
                self._close_aside(self._second[1])
            self._second = made_for, engine
            changed = True
        wanted = self._second_style and _EngineKey(self._second_style, self._current.working)
        if wanted and not self._second_pending and (self._second is None or self._second[0] != wanted):
            self._second_pending = wanted, self._pool.submit(self._make, *wanted)
        return changed

    def _replace(self, made: Engine) -> None:
        self._end_fade()
        old, self.engine = self.engine, made
        smooth = self._seconds and median(self._seconds) < _SLOW
        same_pace = self._making.working == self._current.working
        if self.crossfade and smooth and same_pace:
            self._fading = old, time.perf_counter()
        else:
            self._close_aside(old)
        if not same_pace:
            self._seconds.clear()
        self._current = self._making

    def _end_fade(self) -> None:
        if self._fading:
            self._close_aside(self._fading[0])
        self._fading = None

    def _close_aside(self, engine: Engine) -> None:
        """Close an engine in the thread: to give back memory can take longer than a frame."""
        self._pool.submit(engine.close)

    def stylize(self, frame: Frame, controls: Controls, share: float = 0.0) -> Frame:
        """Stylize a frame, with the style of before shining through while it fades.

        Args:
            share: Of the second style, 0 to 1; it counts from when that is ready.
        """
        begin = time.perf_counter()
        new = 1.0 if self._fading is None else (begin - self._fading[1]) / max(self.fade, 1e-3)
        if new >= 1:
            self._end_fade()
        second = self._second[1] if self._second and share > 0 else None
        engines = [engine for engine in (self._fading and self._fading[0], self.engine) if engine and share < 1]
        if second or not engines:
            engines = [*engines, second] if second else [self.engine]
        for engine in engines:
            engine.submit(frame, controls)
        frames = [engine.next() for engine in engines]
        if len(engines) == 1:
            self._seconds.append(time.perf_counter() - begin)
        mixed_in = frames.pop() if second and len(frames) > 1 else None
        stylized = frames[0] if len(frames) == 1 else mixed(frames[0], frames[1], new)
        return stylized if mixed_in is None else mixed(stylized, mixed_in, share)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pending = [self._pending, self._second_pending and self._second_pending[1]]
        futures = [future for future in pending if future]
        for future in futures:
            future.cancel()
        self._pool.shutdown(wait=True)
        for future in futures:
            if not future.cancelled() and not future.exception():
                future.result().close()
        if self._fading:
            self._fading[0].close()
        if self._second:
            self._second[1].close()
        self.engine.close()

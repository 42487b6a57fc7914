"""Stylizes frames with what an automation gives for each: its own strengths, and one style or two of a cross-fade."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from types import TracebackType
from typing import Self, get_args

from rtstyle.backends import Controls, Engine, EngineSettings, Precision, open_for
from rtstyle.frame import Frame
from rtstyle.mask.mix import faded
from rtstyle.render.automation import Automation, Moment, PlannedAutomation
from rtstyle.style import Style

_MOST = 3
"""Engines that are kept open beside the first one."""


def names_of(planned: PlannedAutomation, style: Style) -> str:
    """Return the names of all styles of a render, as a report shows them."""
    return ", ".join(each.name for _, each in planned.styles) or style.name


def open_stylist(
    planned: PlannedAutomation,
    controls: Controls,
    style: Style,
    engine: Engine,
    settings: EngineSettings,
    begins: Fraction = Fraction(0),
) -> Stylist:
    """Return what stylizes the frames of a source.

    Args:
        style: What ``engine`` draws: the first style of the automation, if it has any.
        engine: Belongs to the caller. Those of other styles get its backend and precision.
        settings: As asked for.
        begins: Seconds on the source's timeline at which times of frames are 0.

    Raises:
        StyleFormatError: A style cannot run in the engine's precision.
    """
    precision = engine.precision if engine.precision in get_args(Precision) else settings.precision
    definite = replace(settings, backend=engine.backend, precision=precision)  # type: ignore[arg-type]
    styles = dict(planned.styles)
    if precision == "int8":
        for each in styles.values():
            each.int8  # noqa: B018  (is it there?)

    def open_engine(name: str) -> Engine:
        return open_for(styles[name], engine.size, engine.color, definite, live=False)

    name = planned.styles[0][0] if planned.styles else style.name
    return Stylist(planned.automation, controls, name, engine, open_engine, begins)


class Stylist:
    """Stylizes consecutive frames. A context manager; one thread uses it.

    Args:
        automation: What changes; an empty one changes nothing.
        controls: Of what it has no keyframes for.
        style: Name of the first engine's style.
        engine: Belongs to the caller.
        open_engine: Opens the engine of another style by its name in the automation.
        begins: Seconds on the source's timeline at which times of frames are 0.
    """

    def __init__(
        self,
        automation: Automation,
        controls: Controls,
        style: str,
        engine: Engine,
        open_engine: Callable[[str], Engine],
        begins: Fraction = Fraction(0),
    ) -> None:
        self._automation, self._controls, self._begins = automation, controls, begins
        self._style, self._open = style, open_engine
        self._first = engine
        self._others: dict[str, Engine] = {}
        self._inside: Counter[str] = Counter()

    def stylize(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Yield every frame stylized, in order, with the engines kept full."""
        if self._automation == Automation():
            yield from self._first.stylize(frames, self._controls)
            return
        waiting: deque[Moment] = deque()
        for frame in frames:
            time = frame.pts * frame.time_base + self._begins
            moment = self._automation.at(time, self._controls, self._style)
            while waiting and not self._has_room(moment):
                yield self._next(waiting.popleft())
            for name in moment.styles:
                self._engine(name).submit(frame, moment.controls)
                self._inside[name] += 1
            waiting.append(moment)
        while waiting:
            yield self._next(waiting.popleft())

    def _has_room(self, moment: Moment) -> bool:
        """Return whether a frame may be submitted now."""
        opened = {self._style: self._first, **self._others}
        full = any(name in opened and self._inside[name] >= opened[name].in_flight for name in moment.styles)
        # An engine that must be opened may take the place of another one, which has to be empty then.
        crowded = any(name not in opened for name in moment.styles) and len(self._others) >= _MOST
        return not full and not (crowded and self._inside.total())

    def _next(self, moment: Moment) -> Frame:
        self._inside.subtract(moment.styles)
        frames = [self._engine(name).next() for name in moment.styles]
        return frames[0] if len(frames) == 1 else faded(frames[0], frames[1], moment.share)

    def _engine(self, name: str) -> Engine:
        if name == self._style:
            return self._first
        if name not in self._others:
            if len(self._others) >= _MOST:
                self._others.pop(next(iter(self._others))).close()
            self._others[name] = self._open(name)
        self._others[name] = self._others.pop(name)  # the one that was used last stays longest
        return self._others[name]

    def close(self) -> None:
        """Close the engines that it opened."""
        for engine in self._others.values():
            engine.close()
        self._others.clear()
        self._inside.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

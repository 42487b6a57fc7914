"""A caller's own FrameSource in a live session."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from rtstyle.camera import Captured
from rtstyle.contract import checked
from rtstyle.frame import Frame, FrameSource

_LATE = 0.25
"""Seconds by which frames that are not live may be late before their clock is set back."""


class OwnSource:
    """A ``FrameSource`` with the interface of ``camera.LiveSource``.

    A source with ``live`` is read as fast as it yields; each frame counts from the moment at which it came. Any other
    one is played at its own timestamps. The session ends when the iteration does.
    """

    waiting: str | None = None
    damaged = 0
    losses = ""
    format = "frames"

    def __init__(self, source: FrameSource) -> None:
        self._source = source
        self._stop = threading.Event()
        self.name = str(getattr(source, "name", type(source).__name__))
        self.notes: list[str] = []

    def __enter__(self) -> Self:
        source = self._source = self._source.__enter__()
        self.size, self.rate, self.color, self.live = source.size, source.rate, source.color, True
        self.paced = not source.live
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._source.__exit__(kind, error, trace)

    def __iter__(self) -> Iterator[Frame]:
        return (captured.frame for captured in self.captures())

    def stop(self) -> None:
        """End the iteration with the next frame; any thread may call it."""
        self._stop.set()

    def captures(self) -> Iterator[Captured]:
        """Yield frames with the moments at which they came, or were due.

        Raises:
            SettingError: A frame is not what the source declares.
        """
        origin: float | None = None
        for frame in checked(self._source, self._source):
            now = time.perf_counter()
            if self._stop.is_set():
                return
            if not self.paced:
                yield Captured(frame, now)
                continue
            if origin is None or now > origin + frame.seconds + _LATE:
                origin = now - frame.seconds
            if self._stop.wait(max(0.0, origin + frame.seconds - now)):
                return
            yield Captured(frame, origin + frame.seconds)

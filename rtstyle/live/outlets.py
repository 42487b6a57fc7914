"""Where stylized frames go beside the window: for now a recording."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from types import TracebackType
from typing import Self

from rtstyle.errors import VideoWriteError
from rtstyle.frame import Frame
from rtstyle.video import VideoWriter

CLOCK = Fraction(1, 90000)
"""Time base of recordings."""


class Recorder:
    """Writes stylized frames at the moments at which their sources came, into a file that survives any end."""

    def __init__(self, writer: VideoWriter, tell: Callable[[str], None]) -> None:
        self._writer = writer
        self._tell = tell
        self._begin: float | None = None
        self._last = -1

    def write(self, frame: Frame, at: float) -> None:
        """Record a frame that came at ``at``, in seconds of ``time.perf_counter()``."""
        if self._begin is None:
            self._begin = at
        self._last = max(round((at - self._begin) / CLOCK), self._last + 1)
        self._writer.write(replace(frame, pts=self._last, time_base=CLOCK))

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What happened before the camera does not happen again: whatever ended the session, keep it.
        if self._last >= 0 and not isinstance(error, VideoWriteError):
            self._writer.close()
            length = float(self._last * CLOCK)
            self._tell(f"recorded {self._writer.path}: {self._writer.written} frames, {length:.1f} s")
        else:
            self._writer.__exit__(kind or VideoWriteError, error, trace)  # an empty file is of no use
            self._tell(f"nothing was recorded to {self._writer.path}")

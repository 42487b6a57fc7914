"""A recording of a live session: a file that survives any end of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace

from rtstyle.errors import VideoWriteError
from rtstyle.frame import Frame
from rtstyle.live.sinks.sink import CLOCK
from rtstyle.video import VideoWriter
from rtstyle.video.audio import AudioChunk

_EARLY = 500
"""Pieces of audio that wait for the first frame at most, some 10 s."""


class Recording:
    """Writes stylized frames at the moments at which their sources came, beginning with 0; a ``Sink``.

    What was recorded gets its name whatever ends the session: what happened before a camera does not happen
    again. Only a file that could not be written, or has no frame, is not kept.

    Args:
        writer: An open writer with the time base ``CLOCK``; closed by ``close``.
        tell: Called with each line to print.
    """

    def __init__(self, writer: VideoWriter, tell: Callable[[str], None]) -> None:
        self._writer, self._tell = writer, tell
        self._begin: int | None = None
        self._early: deque[AudioChunk] = deque(maxlen=_EARLY)  # which came while the first frame was stylized
        self._last = 0
        self._error: Exception | None = None

    def write(self, frame: Frame) -> None:
        """Record a frame.

        Raises:
            VideoWriteError: The disk is full, or the encoder refuses the frame.
        """
        if self._begin is None:
            self._begin = frame.pts
        self._last = frame.pts - self._begin
        try:
            self._writer.write(replace(frame, pts=self._last))
        except Exception as error:
            self._error = error
            raise

    def write_audio(self, chunk: AudioChunk) -> None:
        """Record a piece of audio; what was heard before the first frame is left out."""
        if not self._writer.hears:
            return
        self._early.append(chunk)
        if self._begin is None:
            return
        try:
            while self._early:
                self._writer.write_audio(self._early.popleft(), float(self._begin * CLOCK))
        except Exception as error:
            self._error = error
            raise

    def close(self) -> None:
        """Finish the file and give it its name."""
        if self._begin is None or self._error:
            error = self._error or VideoWriteError("there was no frame")
            self._writer.__exit__(type(error), error, None)
            self._tell(f"nothing was recorded to {self._writer.path}")
            return
        self._writer.close()
        length = float(self._last * CLOCK)
        self._tell(f"recorded {self._writer.path}: {self._writer.written} frames, {length:.1f} s")

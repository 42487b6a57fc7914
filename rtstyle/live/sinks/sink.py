"""What a live session writes frames to: the one protocol of recordings, streams, virtual cameras and own sinks."""

from __future__ import annotations

from fractions import Fraction
from typing import Protocol, runtime_checkable

from rtstyle.frame import Frame
from rtstyle.video.audio import AudioChunk

CLOCK = Fraction(1, 90000)
"""Time base of frames that branches hand to their sinks: they count from the zero of ``time.perf_counter()``."""


class Sink(Protocol):
    """Where the frames of one sink go. Made anywhere; then used by the branch's thread only."""

    def write(self, frame: Frame) -> None:
        """Take one frame; its time is in ``CLOCK``, later than that of the frame before. It may take its time.

        Raises:
            FrameDropped: This frame cannot be taken, another one may be.
            Exception: It is over; only ``close`` is called any more.
        """

    def close(self) -> None:
        """Finish, after an error too. Called once."""


@runtime_checkable
class AudioSink(Sink, Protocol):
    """A sink that also takes audio."""

    def write_audio(self, chunk: AudioChunk) -> None:
        """Take a piece of audio that continues where the last one ended, or later."""


@runtime_checkable
class InterruptibleSink(Sink, Protocol):
    """A sink that may wait for others."""

    def hurry(self) -> None:
        """Let ``write`` and ``close`` return soon, whatever the other side does. Called from another thread."""


@runtime_checkable
class WatchedSink(Sink, Protocol):
    """A sink that knows whether its frames are seen."""

    @property
    def watched(self) -> bool:
        """Whether frames are seen now. Called from another thread, for each frame."""


class FrameDropped(Exception):
    """A sink cannot take this frame, such as while its connection is gone. The frame is counted as dropped."""

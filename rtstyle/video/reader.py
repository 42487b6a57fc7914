"""VideoReader: a file gives frames at the container's own times, and packets of its other streams."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from rtstyle.errors import VideoOpenError, reason_of
from rtstyle.frame import Frame, Size
from rtstyle.video.samples import colour_of, fraction_of, planes_of

_MAX_DAMAGED = 1000
"""Places at which a file may fail to be read or decoded before it is given up."""

_CUT_OFF = 1.0
"""Seconds of video that may be missing at the end of a file before it counts as cut off."""


class VideoReader:
    """A video file as a ``FrameSource``; the packets of its other streams wait in ``packets``.

    One thread iterates it, once. Damaged packets cost their own frames only and are counted in
    ``damaged``; the times that it yields always rise.

    Args:
        threads: Threads of the decoder; 0 is one for each core.

    Raises:
        VideoOpenError: There is no such file, it is no media file, or it has no video; when iterated:
            the file can be read no further (not: it is damaged).
    """

    live = False

    def __init__(self, path: Path | str, *, threads: int = 0) -> None:
        self.path = Path(path)
        self.damaged = 0
        """Pictures that are missing or faulty because the file is damaged, as far as can be told."""
        self.packets: deque[av.Packet[Any]] = deque()
        """Packets of all other streams, in file order; whoever copies them takes them from the left."""
        self.notes: list[str] = []
        """What is lost on the way in, in words; complete when the last frame has come."""
        self.container = self._open()
        try:
            self.stream = self._choose_stream()
            self.stream.thread_type = "AUTO"
            self.stream.codec_context.thread_count = threads
            self._frames = self._decode()
            self._first = self._decode_first()
            self._describe(self._first)
        except BaseException:
            self.container.close()
            raise

    def _open(self) -> InputContainer:
        # "file:", so that a colon in a name is no protocol.
        try:
            return av.open(f"file:{self.path}", metadata_errors="replace")
        except FileNotFoundError as error:
            raise VideoOpenError(f"no such file: {self.path}") from error
        except PermissionError as error:
            raise VideoOpenError(f"no permission to read {self.path}") from error
        except (av.FFmpegError, OSError, ValueError) as error:
            raise VideoOpenError(self._why_not(error)) from error

    def _why_not(self, error: Exception) -> str:
        with suppress(OSError):
            if self.path.is_dir():
                return f"{self.path} is a folder; give one video file"
            if self.path.stat().st_size == 0:
                return f"{self.path} is empty (0 bytes), so there is no video in it"
        return f"{self.path} cannot be read as a video: {reason_of(error)} (no media file, or cut off before its index)"

    def _choose_stream(self) -> VideoStream:
        cover = av.stream.Disposition.attached_pic
        candidates = [s for s in self.container.streams.video if not s.disposition & cover]
        if not candidates:
            kinds = ", ".join(sorted({s.type for s in self.container.streams})) or "nothing"
            raise VideoOpenError(f"{self.path} has no video stream (it holds: {kinds})")
        best = self.container.streams.best("video")
        stream = next((s for s in candidates if s is best), candidates[0])
        if stream.codec_context is None:
            raise VideoOpenError(f"{self.path}: there is no decoder for its video")
        return stream

    def _decode_first(self) -> av.VideoFrame:
        """Decode up to the first frame: only frames tell their true size, format and colour."""
        try:
            first = next(self._frames, None)
        except av.FFmpegError as error:
            raise VideoOpenError(f"{self.path}: its video cannot be decoded: {reason_of(error)}") from error
        if first is None:
            raise VideoOpenError(f"{self.path}: not one picture of its video could be decoded")
        return first

    def _describe(self, first: av.VideoFrame) -> None:
        self.size = Size(first.width, first.height)
        self.colour = colour_of(first, self.size)
        self.pixel_format = first.format.name
        if self.pixel_format not in ("yuv420p", "yuvj420p", "nv12"):
            self.notes.append(f"its samples are {self.pixel_format}; they are reduced to 8-bit 4:2:0")
        self.rotation = int(first.rotation or 0)
        self.rate = fraction_of(self.stream.average_rate) or fraction_of(self.stream.guessed_rate)
        self.time_base = fraction_of(self.stream.time_base) or Fraction(1, 90000)
        if first.pts is None and first.dts is None:
            self.notes.append(f"it has no timestamps; {float(self.rate or 25):g} frames per second are assumed")
        self.duration: float | None = None
        """Length of the video in seconds as declared, None where it is not."""
        if self.stream.duration is not None:
            self.duration = float(self.stream.duration * self.time_base)
        elif self.container.duration is not None:
            self.duration = self.container.duration / av.time_base

    @property
    def frames_expected(self) -> int | None:
        """How many frames there should be: counted by the container, else duration x rate; None if neither is known."""
        if self.stream.frames:
            return int(self.stream.frames)
        return round(self.duration * self.rate) if self.duration and self.rate else None

    def _packets(self) -> Iterator[av.Packet[Any]]:
        """Yield all packets; go on behind a place that the container's reader cannot make sense of."""
        for _ in range(_MAX_DAMAGED):
            try:
                yield from self.container.demux()
                return
            except av.error.InvalidDataError:
                self.damaged += 1

    def _decode(self) -> Iterator[av.VideoFrame]:
        sent = received = failures = 0
        last = None
        for packet in self._packets():
            if packet.stream is not self.stream:
                if packet.dts is not None:
                    self.packets.append(packet)
                continue
            sent += packet.size > 0 and not packet.is_discard
            try:
                frames = self._decoded(packet)
            except av.error.InvalidDataError:
                failures += 1
                self.damaged += 1
                if failures > received + _MAX_DAMAGED:
                    return
                continue
            for frame in frames:
                received += 1
                last = frame.pts
                yield frame
        if last is not None and sent > received + failures:
            yield from self._decode_end(last)

    def _decoded(self, packet: av.Packet[Any]) -> list[av.VideoFrame]:
        return [frame for frame in packet.decode() if isinstance(frame, av.VideoFrame)]

    def _decode_end(self, last: int) -> Iterator[av.VideoFrame]:
        """Decode what should come behind ``last`` again, on one thread.

        A decoder with several threads that meets a damaged packet among the last few says nothing and
        takes the good ones behind it along.
        """
        with suppress(av.FFmpegError, VideoOpenError), self._open() as container:
            stream = container.streams.video[self.container.streams.video.index(self.stream)]
            stream.codec_context.thread_count = 1
            container.seek(last, stream=stream)
            for packet in container.demux(stream):
                try:
                    frames = self._decoded(packet)
                except av.error.InvalidDataError:
                    self.damaged += 1
                    continue
                yield from (frame for frame in frames if frame.pts is not None and frame.pts > last)

    def __iter__(self) -> Iterator[Frame]:
        """Yield every frame once, in the order of showing."""
        try:
            yield from self._timed()
        except av.FFmpegError as error:
            raise VideoOpenError(f"{self.path} can be read no further: {reason_of(error)}") from error

    def _timed(self) -> Iterator[Frame]:
        base = self.time_base
        avi = self.container.format.name == "avi"
        last: int | None = None
        following = 0  # what the next pts should be, where the file itself does not say
        for picture in chain([self._first], self._frames):
            base = fraction_of(picture.time_base) or self.time_base
            # AVI knows no pts; FFmpeg's guess at it goes back and forth where B-frames are packed.
            stated = (picture.dts, picture.pts) if avi else (picture.pts, picture.dts)
            rising = (time for time in stated if time is not None and (last is None or time > last))
            last = pts = next(rising, following)
            step = picture.duration or round(1 / (self.rate or 25) / base)
            following = pts + max(1, step)
            self.damaged += picture.is_corrupt
            if (picture.width, picture.height) != (self.size.width, self.size.height):
                picture = picture.reformat(width=self.size.width, height=self.size.height)
            yield Frame(planes_of(picture), pts, base, self.colour)
        self._check_end(float(following * base))

    def _check_end(self, end: float) -> None:
        """Tell if the video ends long before it should: most containers are cut off without an error."""
        declared = self._declared_end()
        if declared is not None and declared - end > _CUT_OFF:
            self.notes.append(f"it ends after {end:.1f} s and should last {declared:.1f} s: the file was cut off")
            self.damaged += max(1, round((declared - end) * (self.rate or 25)))

    def _declared_end(self) -> float | None:
        stream, container = self.stream, self.container
        if "DURATION" in stream.metadata:  # Matroska; its other figure is that of the longest stream
            with suppress(ValueError):
                hours, minutes, seconds = stream.metadata["DURATION"].split(":")
                return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        if stream.duration is None or ("matroska" in container.format.name and len(container.streams) > 1):
            return None
        return float((stream.duration + (stream.start_time or 0)) * self.time_base)

    def close(self) -> None:
        """Give the file back. Nobody may be iterating any more."""
        self.container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

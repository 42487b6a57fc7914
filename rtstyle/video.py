"""Video files: VideoReader gives frames, VideoWriter takes them, every other stream is copied.

All times are those of the container, all samples those of the decoder; tags of colour travel along.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from av.container import InputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from rtstyle.errors import OutputExistsError, RtstyleError, SettingError, VideoOpenError, VideoWriteError
from rtstyle.frame import Colour, ColourTags, Frame, Plane, Planes, Size

CODECS = ("libx264", "ffv1")
"""Encoders that ``EncoderSettings.codec`` may name."""

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")

CONTAINERS = (".mp4", ".mkv")
"""Endings of outputs that can be written."""

_MAX_DAMAGED = 1000
"""Places at which a file may fail to be read or decoded before it is given up."""

_CUT_OFF = 1.0
"""Seconds of video that may be missing at the end of a file before it counts as cut off."""


@dataclass(frozen=True, kw_only=True)  # no slots: they would hide EncoderSettings.crf
class EncoderSettings:
    """How the stylized video is encoded; the names are those of FFmpeg."""

    codec: str = "libx264"
    """libx264, or ffv1 (lossless, mkv only)."""
    crf: int = 18
    """Constant rate factor of x264, 0 (lossless) to 51 (worst); x264's own default is 23."""
    preset: str = "veryfast"
    """x264's trade of time for bytes, ultrafast to veryslow."""

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise SettingError(f"codec must be one of {', '.join(CODECS)}, got {self.codec!r}")
        if not 0 <= self.crf <= 51:
            raise SettingError(f"crf must be in [0, 51], got {self.crf}")
        if self.preset not in PRESETS:
            raise SettingError(f"preset must be one of {', '.join(PRESETS)}, got {self.preset!r}")


# -- samples of PyAV frames ----------------------------------------------------------------------


def _view(plane: av.video.plane.VideoPlane) -> Plane:
    """Return the samples of one plane as a view; it keeps the frame's buffer alive."""
    rows: Plane = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return rows[: plane.height, : plane.width]


def _is_rgb_or_grey(frame: av.VideoFrame) -> bool:
    return frame.format.is_rgb or frame.format.name.startswith(("gray", "mono", "pal", "ya"))


def planes_of(frame: av.VideoFrame) -> Planes:
    """Return the samples of a decoded frame as I420.

    Views of the frame's own buffer where it is 8-bit 4:2:0 already; else converted by swscale, with
    matrix and range kept. RGB becomes what ``colour_of`` says.
    """
    name = frame.format.name
    if name not in ("yuv420p", "yuvj420p"):
        if _is_rgb_or_grey(frame):
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        elif frame.color_range == 2 or name.startswith("yuvj"):
            # To plain yuv420p swscale would compress the range; yuvj420p says that it is full.
            frame = frame.reformat(format="yuvj420p", src_color_range="JPEG", dst_color_range="JPEG")
        else:
            frame = frame.reformat(format="yuv420p", src_color_range="MPEG", dst_color_range="MPEG")
    y, u, v = (_view(plane) for plane in frame.planes)
    return Planes(y, u, v)


def colour_of(frame: av.VideoFrame, size: Size) -> Colour:
    """Read the tags of a decoded frame; RGB and grey ones are converted to BT.709, limited range."""
    if _is_rgb_or_grey(frame):
        return Colour("bt709", full_range=False, tags=ColourTags(1, 1, 1, 1))
    tags = ColourTags(
        int(frame.colorspace) or 2,  # 0 is RGB, which these samples are not
        int(frame.color_range),
        int(frame.color_primaries),
        int(frame.color_trc),
    )
    return Colour.from_tags(tags, size, full_range=frame.format.name.startswith("yuvj"))


def _fraction(value: Fraction | None) -> Fraction | None:
    """Return one of PyAV's rationals as a Fraction, None where it says nothing (None, or 0)."""
    return Fraction(value.numerator, value.denominator) if value else None


# -- reading -------------------------------------------------------------------------------------


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
        return f"{self.path} cannot be read as a video: {_reason(error)} (no media file, or cut off before its index)"

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
            raise VideoOpenError(f"{self.path}: its video cannot be decoded: {_reason(error)}") from error
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
        self.rate = _fraction(self.stream.average_rate) or _fraction(self.stream.guessed_rate)
        self.time_base = _fraction(self.stream.time_base) or Fraction(1, 90000)
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
            raise VideoOpenError(f"{self.path} can be read no further: {_reason(error)}") from error

    def _timed(self) -> Iterator[Frame]:
        base = self.time_base
        avi = self.container.format.name == "avi"
        last: int | None = None
        following = 0  # what the next pts should be, where the file itself does not say
        for picture in chain([self._first], self._frames):
            base = _fraction(picture.time_base) or self.time_base
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


# -- writing -------------------------------------------------------------------------------------


class VideoWriter:
    """A video file as a ``FrameSink``. Nothing is visible under ``path`` before it is whole.

    Left without an error, it takes its final name. Left by KeyboardInterrupt, what was written is kept
    playable under ``kept`` (``NAME.partial.mp4``). Left by any other error, nothing is left.

    Times are exact in mp4 and rounded to milliseconds in mkv. Matroska has no times below 0 either: where
    sound starts before 0, as AAC in mp4 does, everything in an mkv moves later by as much, in step.

    Args:
        like: A reader whose other streams, metadata and rotation go into the output.
        audio: False leaves the sound out.
        overwrite: True replaces an existing ``path`` when the new one is whole.

    Raises:
        OutputExistsError: ``path`` exists, and ``overwrite`` is False.
        SettingError: The container is not one of ``CONTAINERS``, or cannot hold codec or sound.
        VideoWriteError: The folder is missing or may not be written, or the disk is full.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        size: Size,
        colour: Colour,
        time_base: Fraction,
        rate: Fraction | None,
        encoder: EncoderSettings = EncoderSettings(),
        like: VideoReader | None = None,
        audio: bool = True,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        self.size, self.colour, self.time_base = size, colour, time_base
        check_output(self.path, overwrite=overwrite)
        if encoder.codec == "ffv1" and self.path.suffix.lower() != ".mkv":
            raise SettingError(f"{self.path.suffix} cannot hold ffv1: write .mkv, or use --codec libx264")
        self._part = self.path.with_name(f".{self.path.stem}.{os.getpid()}.part{self.path.suffix}")
        self.kept: Path | None = None
        """Where an interrupted output was kept."""
        self.written = 0
        """Frames taken so far."""
        self.copied: list[str] = []
        """Streams that are copied, for people."""
        self.dropped: list[dict[str, str]] = []
        """Streams that are not, each with its reason."""
        self.warnings: list[str] = []
        """What a person should know of the output before trusting it, in words; complete when it is closed."""
        self._reader = like
        self._closed = False
        self._last_dts: dict[int, int] = {}
        self._left_out = 0
        try:
            # "file:", so that a colon in a name is no protocol.
            self._container = av.open(f"file:{self._part}", "w", container_options=self._muxer_options())
            self._stream = self._add_video(encoder, rate)
            self._copies = self._add_copies(audio)
            self._container.start_encoding()
        except (av.FFmpegError, OSError, ValueError) as error:
            self._discard()
            if isinstance(error, RtstyleError):
                raise
            raise VideoWriteError(f"cannot write {self.path}: {_reason(error)}") from error
        except BaseException:
            self._discard()
            raise

    def _muxer_options(self) -> dict[str, str]:
        if self.path.suffix.lower() != ".mp4":
            return {}
        # Where a stream starts is stored in units of the whole film; by default those are milliseconds.
        units = str(self.time_base.denominator) if self.time_base.denominator > 1000 else "1000"
        return {"movflags": "+faststart+use_metadata_tags", "movie_timescale": units}

    def _add_video(self, encoder: EncoderSettings, rate: Fraction | None) -> VideoStream:
        x264 = encoder.codec == "libx264"
        odd = self.size.width % 2 or self.size.height % 2
        self.pixel_format = "yuv444p" if odd and x264 else "yuv420p"
        if self.pixel_format == "yuv444p":
            self.warnings.append(
                f"{self.size} is odd, which 4:2:0 H.264 cannot hold: written as 4:4:4, which some players refuse"
            )
        options = {"crf": str(encoder.crf), "preset": encoder.preset} if x264 else {}
        stream = self._container.add_stream(encoder.codec, rate=rate or 30, options=options)
        assert isinstance(stream, VideoStream)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = self.size.width, self.size.height, self.pixel_format
        context.time_base = self.time_base
        tags = self.colour.tags
        context.colorspace, context.color_primaries, context.color_trc = tags.matrix, tags.primaries, tags.transfer
        context.color_range = 2 if self.colour.full_range else 1
        context.thread_count = 0
        stream.time_base = self.time_base
        reader = self._reader
        if reader:
            ratio = _fraction(reader.stream.sample_aspect_ratio)
            if ratio:
                context.sample_aspect_ratio = ratio
            stream.metadata.update(_kept_metadata(reader.stream.metadata))
            self._container.metadata.update(_kept_metadata(reader.container.metadata))
            if reader.rotation:
                stream.set_display_rotation(reader.rotation)
        return stream

    def _add_copies(self, audio: bool) -> dict[int, Stream]:
        """Add a stream for each of the reader's that is copied: their number there and the new stream."""
        copies: dict[int, Stream] = {}
        reader = self._reader
        if reader is None:
            return copies
        holds = self._container.supported_codecs
        for source in reader.container.streams:
            if source is reader.stream:
                continue
            codec = source.codec_context.codec if source.codec_context else None
            label = f"{source.type} {source.index} ({codec.canonical_name if codec else 'no codec'})"
            if source.type == "audio" and not audio:
                self.dropped.append({"stream": label, "reason": "--no-audio"})
            elif source.type not in ("audio", "subtitle") or codec is None:
                self._drop(label, source)
            elif codec.name in holds:
                target = self._container.add_stream_from_template(source)
                target.metadata.update(_kept_metadata(source.metadata))
                target.disposition = source.disposition
                copies[source.index] = target
                self.copied.append(label)
            elif source.type == "audio":
                instead = "" if self.path.suffix.lower() == ".mkv" else "write .mkv, or "
                raise SettingError(
                    f"{self.path.suffix} cannot hold the {codec.canonical_name} sound of {reader.path.name}: "
                    f"{instead}use --no-audio"
                )
            else:
                self._drop(label, source)
        return copies

    def _drop(self, label: str, source: Stream) -> None:
        if source.type == "video":
            reason = "only one video stream is stylized"
        elif source.type == "data" and "timecode" in source.metadata:
            # The muxer writes one of its own from the metadata of the video.
            self.dropped.append({"stream": label, "reason": "its timecode is written anew"})
            return
        elif source.type in ("audio", "subtitle"):
            reason = f"{self.path.suffix} cannot hold it as a copy"
        else:
            reason = f"{source.type} streams are not copied"
        self.dropped.append({"stream": label, "reason": reason})
        self.warnings.append(f"stream {label} is not in the output: {reason}")

    def write(self, frame: Frame) -> None:
        """Encode one frame; the encoder has its own copy when the call returns.

        Raises:
            ValueError: The frame is not of the writer's size.
            VideoWriteError: The disk is full, or the encoder refuses the frame.
        """
        if frame.size != self.size:
            raise ValueError(f"this writer is for {self.size}, the frame is {frame.size}")
        picture = av.VideoFrame(self.size.width, self.size.height, self.pixel_format)
        for target, plane in zip(picture.planes, frame.planes, strict=True):
            samples = _view(target)
            if samples.shape != plane.shape:  # 4:4:4: each chroma sample where it was, four times
                plane = plane.repeat(2, 0).repeat(2, 1)[: self.size.height, : self.size.width]
            samples[:] = plane
        picture.pts = frame.pts
        picture.time_base = frame.time_base
        picture.colorspace, picture.color_range = self.colour.tags.matrix, 2 if self.colour.full_range else 1
        picture.color_primaries, picture.color_trc = self.colour.tags.primaries, self.colour.tags.transfer
        try:
            self._container.mux(self._stream.encode(picture))
            self.written += 1
            self._copy_packets()
        except (av.FFmpegError, OSError, ValueError) as error:
            raise VideoWriteError(f"cannot write {self.path}: {_reason(error)}") from error

    def _copy_packets(self) -> None:
        waiting = self._reader.packets if self._reader else ()
        while waiting:
            packet = waiting.popleft()
            source = packet.stream
            target = self._copies.get(source.index)
            if target is None or packet.dts is None:
                continue
            # In a damaged file times may go back, and one such packet would end the whole output.
            # Audio in mp4 may not even repeat one.
            step = 1 if source.type == "audio" and self.path.suffix.lower() == ".mp4" else 0
            if packet.dts < self._last_dts.get(source.index, packet.dts - step) + step:
                self._left_out += 1
                continue
            self._last_dts[source.index] = packet.dts
            packet.stream = target
            self._container.mux(packet)

    def close(self) -> None:
        """Finish the file and give it its final name.

        Raises:
            VideoWriteError: It could not be finished; nothing is left.
        """
        self._finish(self.path)

    def _finish(self, name: Path) -> None:
        if self._closed:
            return
        try:
            self._container.mux(self._stream.encode(None))
            self._copy_packets()
            if self._left_out:
                self.warnings.append(f"{self._left_out} packets of copied streams were left out: their times go back")
            self._container.close()
            self._closed = True
            os.replace(self._part, name)
        except (av.FFmpegError, OSError, ValueError) as error:
            self._discard()
            raise VideoWriteError(f"cannot write {self.path}: {_reason(error)}") from error
        except BaseException:
            self._discard()
            raise

    def _discard(self) -> None:
        self._closed = True
        container = getattr(self, "_container", None)
        if container is not None:
            with suppress(av.FFmpegError, OSError, ValueError):
                container.close()
        with suppress(OSError):
            self._part.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        elif issubclass(kind, KeyboardInterrupt) and self.written:
            kept = free_name(self.path.with_name(f"{self.path.stem}.partial{self.path.suffix}"))
            self._finish(kept)
            self.kept = kept
            if error is not None:
                error.add_note(f"the {self.written} finished frames are kept in {kept}")
        else:
            self._discard()


def _reason(error: Exception) -> str:
    """Say in one line what FFmpeg or the system says."""
    if getattr(error, "errno", None) == errno.ENOSPC:
        return "the disk is full"
    return " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())


_MADE_ANEW = {
    "encoder", "major_brand", "minor_version", "compatible_brands", "handler_name", "vendor_id", "duration",
}  # fmt: skip
"""Metadata that the muxer writes itself, or that is not true of the new file."""


def _kept_metadata(metadata: dict[str, str]) -> dict[str, str]:
    """Return what is worth keeping of a stream's or container's metadata."""
    counted = ("_STATISTICS", "NUMBER_OF", "BPS")  # written by mkvmerge about the old packets
    return {k: v for k, v in metadata.items() if k.lower() not in _MADE_ANEW and not k.upper().startswith(counted)}


def check_output(path: Path, *, overwrite: bool) -> None:
    """Find before any work whether an output can be written at all.

    Raises:
        OutputExistsError, SettingError, VideoWriteError: As ``VideoWriter``.
    """
    if path.suffix.lower() not in CONTAINERS:
        raise SettingError(f"cannot write {path.name!r}: the output must end in {' or '.join(CONTAINERS)}")
    check_file_output(path, overwrite=overwrite)


def check_file_output(path: Path, *, overwrite: bool) -> None:
    """Find whether a file can be put at ``path``: no folder, nothing that would be lost, a writable place."""
    if path.is_dir():
        raise VideoWriteError(f"cannot write {path}: it is a folder")
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path} exists already; give -y (--overwrite) to replace it")
    if not path.parent.is_dir():
        raise VideoWriteError(f"cannot write {path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise VideoWriteError(f"cannot write {path}: no permission to write into {path.parent}")


def free_name(path: Path) -> Path:
    """Return ``path``, or ``stem-2.ext``, ``stem-3.ext``, ... where it is taken."""
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return candidate

"""Video files: VideoReader gives frames, VideoWriter takes them, every other stream is copied.

All times are those of the container, all samples those of the decoder; tags of colour travel along.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np

from rtstyle.errors import OutputExistsError, SettingError, VideoOpenError, VideoWriteError
from rtstyle.frame import Colour, ColourTags, Frame, Plane, Planes, Size

CODECS = ("libx264", "ffv1")
"""Encoders that ``EncoderSettings.codec`` may name."""

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")

CONTAINERS = (".mp4", ".mkv")
"""Endings of outputs that can be written."""

_MAX_DAMAGED = 1000
"""Packets in a row that may fail to decode before a file is given up."""


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
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return rows[: plane.height, : plane.width]


def planes_of(frame: av.VideoFrame) -> Planes:
    """Return the samples of a decoded frame as I420.

    Views of the frame's own buffer where it is 8-bit 4:2:0 already; else converted by swscale, with
    matrix and range kept. RGB becomes what ``colour_of`` says.
    """
    name = frame.format.name
    if name not in ("yuv420p", "yuvj420p"):
        full = frame.color_range == 2 or name.startswith("yuvj")
        if frame.format.is_rgb or name.startswith(("gray", "mono", "pal")):
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        elif full:
            # To plain yuv420p swscale would compress the range; yuvj420p says that it is full.
            frame = frame.reformat(format="yuvj420p", src_color_range="JPEG", dst_color_range="JPEG")
        else:
            frame = frame.reformat(format="yuv420p", src_color_range="MPEG", dst_color_range="MPEG")
    y, u, v = (_view(plane) for plane in frame.planes)
    return Planes(y, u, v)


def colour_of(frame: av.VideoFrame, size: Size) -> Colour:
    """Read the tags of a decoded frame; RGB and grey ones are converted to BT.709, limited range."""
    name = frame.format.name
    if frame.format.is_rgb or name.startswith(("gray", "mono", "pal")):
        return Colour("bt709", full_range=False, tags=ColourTags(1, 1, 1, 1))
    tags = ColourTags(
        int(frame.colorspace), int(frame.color_range), int(frame.color_primaries), int(frame.color_trc)
    )
    return Colour.from_tags(tags, size, full_range=name.startswith("yuvj"))


def _fill(frame: av.VideoFrame, planes: Planes) -> None:
    for target, plane in zip(frame.planes, planes, strict=True):
        _view(target)[:] = plane


# -- reading -------------------------------------------------------------------------------------


class VideoReader:
    """A video file as a ``FrameSource``; the packets of its other streams wait in ``packets``.

    One thread iterates it. Damaged packets cost their own frames only and are counted in ``damaged``.

    Raises:
        VideoOpenError: There is no such file, it is no media file, or it has no video.
    """

    live = False

    def __init__(self, path: Path | str, *, threads: int = 0) -> None:
        self.path = Path(path)
        try:
            self.container = av.open(str(path), metadata_errors="replace")
        except FileNotFoundError as error:
            raise VideoOpenError(f"no such file: {path}") from error
        except IsADirectoryError as error:
            raise VideoOpenError(f"{path} is a folder; give one video file") from error
        except PermissionError as error:
            raise VideoOpenError(f"no permission to read {path}") from error
        except (av.FFmpegError, OSError, ValueError) as error:
            raise VideoOpenError(self._why_not(error)) from error
        try:
            self._choose_stream()
            self.stream.thread_type = "AUTO"
            self.stream.codec_context.thread_count = threads
            self._open_first()
        except BaseException:
            self.container.close()
            raise

    def _why_not(self, error: Exception) -> str:
        with suppress(OSError):
            if self.path.is_dir():
                return f"{self.path} is a folder; give one video file"
            if self.path.stat().st_size == 0:
                return f"{self.path} is empty (0 bytes), so there is no video in it"
        reason = getattr(error, "strerror", None) or str(error)
        return f"{self.path} cannot be read as a video: {reason} (no media file, or cut off before its index)"

    def _choose_stream(self) -> None:
        cover = av.stream.Disposition.attached_pic
        candidates = [s for s in self.container.streams.video if not s.disposition & cover]
        if not candidates:
            kinds = sorted({s.type for s in self.container.streams}) or ["nothing"]
            raise VideoOpenError(f"{self.path} has no video stream (it holds: {', '.join(kinds)})")
        best = self.container.streams.best("video")
        self.stream = best if best in candidates else candidates[0]
        if self.stream.codec_context is None:
            raise VideoOpenError(f"{self.path}: there is no decoder for its video")

    def _open_first(self) -> None:
        """Decode up to the first frame: only frames tell their true size, format and colour."""
        self.damaged = 0
        """Packets that could not be decoded, or were decoded with errors."""
        self.packets: deque[av.Packet] = deque()
        """Packets of all other streams, in file order; whoever copies them takes them from the left."""
        self._frames = self._decode()
        self._first = next(self._frames, None)
        if self._first is None:
            raise VideoOpenError(f"{self.path}: not one picture of its video could be decoded")
        self.size = Size(self._first.width, self._first.height)
        self.colour = colour_of(self._first, self.size)
        self.pixel_format = self._first.format.name
        self.notes: list[str] = []
        """What is lost on the way in, in words."""
        if self.pixel_format not in ("yuv420p", "yuvj420p", "nv12"):
            self.notes.append(f"its samples are {self.pixel_format}; they are reduced to 8-bit 4:2:0")
        self.rotation = int(self._first.rotation or 0)
        rate = self.stream.average_rate or self.stream.guessed_rate
        self.rate = Fraction(rate.numerator, rate.denominator) if rate else None
        base = self.stream.time_base
        self.time_base = Fraction(base.numerator, base.denominator) if base else Fraction(1, 90000)
        length = self.stream.duration
        self.duration: float | None = None
        """Length of the video in seconds as declared, None where it is not."""
        if length is not None:
            self.duration = float(length * self.time_base)
        elif self.container.duration is not None:
            self.duration = self.container.duration / av.time_base

    @property
    def frames_expected(self) -> int | None:
        """How many frames there should be: counted by the container, else duration x rate; None if neither is known."""
        if self.stream.frames:
            return int(self.stream.frames)
        return round(self.duration * self.rate) if self.duration and self.rate else None

    def _decode(self) -> Iterator[av.VideoFrame]:
        failures = 0
        for packet in self.container.demux():
            if packet.stream is not self.stream:
                if packet.dts is not None:
                    self.packets.append(packet)
                continue
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                self.damaged += 1
                failures += 1
                if failures > _MAX_DAMAGED:
                    return
                continue
            failures = 0
            yield from frames

    def __iter__(self) -> Iterator[Frame]:
        """Yield every frame once, in the order of showing."""
        following = None  # the pts of the next frame, where the file itself gives none
        first, self._first = self._first, None
        for source in ([first] if first else []), self._frames:
            for frame in source:
                if frame.is_corrupt:
                    self.damaged += 1
                base = Fraction(frame.time_base.numerator, frame.time_base.denominator) if frame.time_base else self.time_base
                pts = frame.pts
                if pts is None:
                    pts = following if following is not None else 0
                step = frame.duration or (int(1 / self.rate / base) if self.rate else 1)
                following = pts + max(1, step)
                if (frame.width, frame.height) != (self.size.width, self.size.height):
                    frame = frame.reformat(width=self.size.width, height=self.size.height)
                yield Frame(planes_of(frame), pts, base, self.colour)

    def close(self) -> None:
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
        """What a person should know of the output before trusting it, in words."""
        self._reader = like
        self._closed = False
        try:
            # Sound is interleaved by its own clock; 0 waits for every stream, however long the gap.
            self._container = av.open(str(self._part), "w", options=self._muxer_options())
            self._stream = self._add_video(encoder, rate)
            self._copies = self._add_copies(audio) if like else {}
            self._container.start_encoding()
        except (SettingError, VideoWriteError):
            self._discard()
            raise
        except (av.FFmpegError, OSError, ValueError) as error:
            self._discard()
            raise VideoWriteError(self._reason(error)) from error

    def _muxer_options(self) -> dict[str, str]:
        return {"movflags": "+faststart+use_metadata_tags"} if self.path.suffix.lower() == ".mp4" else {}

    def _add_video(self, encoder: EncoderSettings, rate: Fraction | None) -> Any:
        odd = self.size.width % 2 or self.size.height % 2
        pixel_format = "yuv444p" if odd and encoder.codec == "libx264" else "yuv420p"
        self.pixel_format = pixel_format
        if pixel_format == "yuv444p":
            self.warnings.append(f"{self.size} is odd, which 4:2:0 H.264 cannot hold: written as 4:4:4, which some players refuse")
        options = {"crf": str(encoder.crf), "preset": encoder.preset} if encoder.codec == "libx264" else {}
        stream: Any = self._container.add_stream(encoder.codec, rate=rate or 30, options=options)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = self.size.width, self.size.height, pixel_format
        context.time_base = self.time_base
        context.framerate = rate or Fraction(30)
        tags = self.colour.tags
        context.colorspace, context.color_primaries, context.color_trc = tags.matrix, tags.primaries, tags.transfer
        context.color_range = 2 if self.colour.full_range else 1
        context.thread_count = 0
        stream.time_base = self.time_base
        reader = self._reader
        if reader:
            ratio = reader.stream.sample_aspect_ratio
            if ratio:
                context.sample_aspect_ratio = Fraction(ratio.numerator, ratio.denominator)
            stream.metadata.update(_kept_metadata(reader.stream.metadata))
            self._container.metadata.update(_kept_metadata(reader.container.metadata))
            if reader.rotation:
                stream.set_display_rotation(reader.rotation)
        return stream

    def _add_copies(self, audio: bool) -> dict[int, Any]:
        assert self._reader is not None
        copies: dict[int, Any] = {}
        holds = self._container.supported_codecs
        for source in self._reader.container.streams:
            if source is self._reader.stream:
                continue
            codec = source.codec_context.name if source.codec_context else "data"
            codec = source.codec_context.codec.canonical_name if source.codec_context else codec
            label = f"{source.type} {source.index} ({codec})"
            if source.type == "audio" and not audio:
                self.dropped.append({"stream": label, "reason": "--no-audio"})
                continue
            if source.type not in ("audio", "subtitle") or codec not in holds:
                if source.type == "audio":
                    raise SettingError(
                        f"{self.path.suffix} cannot hold the {codec} sound of {self._reader.path.name}: "
                        "write .mkv, or use --no-audio"
                    )
                self.dropped.append({"stream": label, "reason": f"{self.path.suffix} cannot hold it as a copy"})
                self.warnings.append(f"stream {label} is not in the output: {self.path.suffix} cannot hold it as a copy")
                continue
            target: Any = self._container.add_stream_from_template(source)
            target.metadata.update(_kept_metadata(source.metadata))
            target.disposition = source.disposition
            copies[source.index] = target
            self.copied.append(label)
        return copies

    def write(self, frame: Frame) -> None:
        """Encode one frame; the encoder has its own copy when the call returns.

        Raises:
            VideoWriteError: The disk is full, or the encoder refuses the frame.
        """
        picture = av.VideoFrame(self.size.width, self.size.height, "yuv420p")
        _fill(picture, frame.planes)
        if self.pixel_format != "yuv420p":
            full = self.colour.full_range
            ends = "JPEG" if full else "MPEG"
            picture = picture.reformat(
                format="yuvj444p" if full else self.pixel_format, src_color_range=ends, dst_color_range=ends
            )
        picture.pts = frame.pts
        picture.time_base = frame.time_base
        picture.colorspace, picture.color_range = self.colour.tags.matrix, 2 if self.colour.full_range else 1
        picture.color_primaries, picture.color_trc = self.colour.tags.primaries, self.colour.tags.transfer
        try:
            for packet in self._stream.encode(picture):
                self._container.mux(packet)
            self.written += 1
            self._copy_packets()
        except (av.FFmpegError, OSError, ValueError) as error:
            raise VideoWriteError(self._reason(error)) from error

    def _copy_packets(self) -> None:
        waiting = self._reader.packets if self._reader else ()
        while waiting:
            packet = waiting.popleft()
            target = self._copies.get(packet.stream.index)
            if target is not None:
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
            for packet in self._stream.encode(None):
                self._container.mux(packet)
            self._copy_packets()
            self._container.close()
            self._closed = True
            os.replace(self._part, name)
        except (av.FFmpegError, OSError, ValueError) as error:
            self._discard()
            raise VideoWriteError(self._reason(error)) from error

    def _discard(self) -> None:
        self._closed = True
        container = getattr(self, "_container", None)
        if container is not None:
            with suppress(av.FFmpegError, OSError, ValueError):
                container.close()
        with suppress(OSError):
            self._part.unlink()

    def _reason(self, error: Exception) -> str:
        reason = getattr(error, "strerror", None) or str(error)
        if getattr(error, "errno", None) == 28:
            reason = "the disk is full"
        return f"cannot write {self.path}: {reason}"

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
            assert error is not None
            error.add_note(f"the {self.written} finished frames are kept in {kept}")
        else:
            self._discard()


def _kept_metadata(metadata: Any) -> dict[str, str]:
    """Return what is worth keeping of a stream's or container's metadata."""
    made_anew = {"encoder", "major_brand", "minor_version", "compatible_brands", "handler_name", "vendor_id", "duration"}
    return {k: v for k, v in dict(metadata).items() if k.lower() not in made_anew and not k.upper().startswith(("_STATISTICS", "NUMBER_OF", "BPS"))}


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

"""VideoWriter: a video file as a sink, visible under its name only when it is whole."""

from __future__ import annotations

import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av

from rtstyle.errors import RtstyleError, VideoWriteError, reason_of
from rtstyle.frame import Colour, Frame, Size
from rtstyle.video.copies import StreamCopies, StreamPlan, plan_streams
from rtstyle.video.encoder import VideoEncoder
from rtstyle.video.formats import EncoderSettings, check_output, choose_encoding, free_name
from rtstyle.video.reader import VideoReader
from rtstyle.video.samples import fraction_of


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
        check_output(self.path, overwrite=overwrite)
        encoding = choose_encoding(self.path, encoder, size)
        plan = plan_streams(like.container, like.stream, encoding.muxer, audio=audio) if like else StreamPlan()
        self.copied, self.dropped = plan.copied, plan.dropped
        self.warnings = [*encoding.notes, *plan.warnings]
        """What a person should know of the output before trusting it, in words; complete when it is closed."""
        self._part = self.path.with_name(f".{self.path.stem}.{os.getpid()}.part{self.path.suffix}")
        self.kept: Path | None = None
        """Where an interrupted output was kept."""
        self.written = 0
        """Frames taken so far."""
        self._reader = like
        self._closed = False
        self._copies: StreamCopies | None = None
        options = dict(encoding.muxer_options)
        if encoding.muxer == "mp4":
            # Where a stream starts is stored in units of the whole film; by default those are milliseconds.
            options["movie_timescale"] = str(max(1000, time_base.denominator))
        try:
            # "file:", so that a colon in a name is no protocol.
            self._container = av.open(f"file:{self._part}", "w", container_options=options)
            self._encoder = VideoEncoder(
                self._container,
                encoding,
                size=size,
                colour=colour,
                time_base=time_base,
                rate=rate,
                pixel_aspect=fraction_of(like.stream.sample_aspect_ratio) if like else None,
            )
            if like:
                if like.rotation:
                    self._encoder.stream.set_display_rotation(like.rotation)
                self._copies = StreamCopies(
                    plan, like.container, like.stream, self._container, self._encoder.stream, encoding.muxer
                )
            self._container.start_encoding()
        except (av.FFmpegError, OSError, ValueError) as error:
            self._discard()
            if isinstance(error, RtstyleError):
                raise
            raise VideoWriteError(f"cannot write {self.path}: {reason_of(error)}") from error
        except BaseException:
            self._discard()
            raise

    def write(self, frame: Frame) -> None:
        """Encode one frame; the encoder has its own copy when the call returns.

        Raises:
            ValueError: The frame is not of the writer's size.
            VideoWriteError: The disk is full, or the encoder refuses the frame.
        """
        if frame.size != self._encoder.size:
            raise ValueError(f"this writer is for {self._encoder.size}, the frame is {frame.size}")
        try:
            self._container.mux(self._encoder.encode(frame))
            self.written += 1
            self._copy_packets()
        except (av.FFmpegError, OSError, ValueError) as error:
            raise VideoWriteError(f"cannot write {self.path}: {reason_of(error)}") from error

    def _copy_packets(self) -> None:
        if self._reader and self._copies:
            while self._reader.packets:
                self._copies.mux(self._reader.packets.popleft())

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
            self._container.mux(self._encoder.flush())
            self._copy_packets()
            if self._copies:
                self.warnings += self._copies.finish()
            self._container.close()
            self._closed = True
            os.replace(self._part, name)
        except (av.FFmpegError, OSError, ValueError) as error:
            self._discard()
            raise VideoWriteError(f"cannot write {self.path}: {reason_of(error)}") from error
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

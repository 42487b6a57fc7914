"""VideoWriter: a video as a sink, written as frames come: recordings, pipes, image sequences.

A file that is made from a file is written by ``rtstyle.render`` instead, in segments.
"""

from __future__ import annotations

import math
import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer

from rtstyle.errors import OutputExistsError, SettingError, VideoWriteError, reason_of
from rtstyle.files import free_name
from rtstyle.frame import Frame, VideoFormat
from rtstyle.video.aspect import STATED, write_pixel_aspect
from rtstyle.video.audio import AudioChunk, AudioEncoder, audio_codec
from rtstyle.video.copies import StreamCopies, StreamPlan, plan_streams
from rtstyle.video.encoder import VideoEncoder, captions_lost_words
from rtstyle.video.formats import CONTAINERS, EncoderSettings, Encoding, check_output, choose_encoding
from rtstyle.video.opening import AV_ERRORS
from rtstyle.video.reader import VideoReader
from rtstyle.video.spatial import Spatial, write_spatial
from rtstyle.video.work_folder import WorkFolder, claim_folder

STDOUT = Path("-")
"""The output that is no file."""


class Output:
    """An open container: the stylized stream, and the copies beside it."""

    def __init__(
        self,
        place: str,
        encoding: Encoding,
        format: VideoFormat,
        *,
        like: VideoReader | None,
        plan: StreamPlan,
        audio: str | None = None,
    ) -> None:
        options = dict(encoding.muxer_options)
        self._place, self._muxer = place, encoding.muxer
        self._pixel_aspect = format.pixel_aspect
        self._spatial = like.spatial if like else Spatial()
        if encoding.muxer in ("mp4", "mov"):
            # Where a stream starts is stored in units of the whole file; by default those are milliseconds.
            options["movie_timescale"] = str(_movie_timescale(format.time_base, like, plan))
        self.container: OutputContainer = av.open(place, "w", format=encoding.muxer, container_options=options)
        try:
            self.encoder = VideoEncoder(self.container, encoding, format)
            self.copies: StreamCopies | None = None
            if like:
                if like.display_matrix:
                    self.encoder.stream.set_display_matrix(like.display_matrix)
                self.copies = StreamCopies(
                    plan,
                    like.container,
                    like.stream,
                    self.container,
                    self.encoder.stream,
                    encoding.muxer,
                    window=like.window,
                    shift=like.shift,
                )
            self.audio = AudioEncoder(self.container, audio) if audio else None
            self.container.start_encoding()
        except BaseException:
            self.discard()
            raise

    def finish(self) -> list[str]:
        """Close the container and return what a person should know of the copies."""
        said = self.copies.finish() if self.copies else []
        self.container.close()
        aspect = self._pixel_aspect
        if aspect and aspect != 1 and self._muxer not in STATED and not self._state_aspect(aspect):
            shape = f"{aspect.numerator}:{aspect.denominator}"
            said.append(
                f"the pixel aspect {shape} is lost: this {self._muxer} output cannot state it; write .mp4 or .mkv"
            )
        path = Path(self._place.removeprefix("file:"))
        stated = self._spatial.stated_by(self._muxer) and path.is_file()
        if stated and not write_spatial(path, self._muxer, self._spatial):
            said.append("its 360 degree projection, stereo 3D or color profile is lost: the header has no room for it")
        return said

    def _state_aspect(self, aspect: Fraction) -> bool:
        path = Path(self._place.removeprefix("file:"))
        return path.is_file() and write_pixel_aspect(path, self._muxer, self.encoder.size, aspect)

    def discard(self) -> None:
        """Close it without caring how."""
        with suppress(*AV_ERRORS):
            self.container.close()


def _movie_timescale(time_base: Fraction, like: VideoReader | None, plan: StreamPlan) -> int:
    """Return units per second in which the starts and lengths of all streams of mp4 and mov are whole.

    FFmpeg 9 cuts audio where its edit ends.
    """
    units = time_base.denominator
    for stream in (like.container.streams[part.index] for part in plan.parts) if like else ():
        if isinstance(stream, AudioStream):
            units = math.lcm(units, stream.codec_context.sample_rate or 1)
    return max(1000, units if units < 1 << 31 else time_base.denominator)


class VideoWriter:
    """A video as a ``FrameSink``, written as frames come. Nothing is visible under ``path`` before it is whole.

    Left without an error, it takes its final name. Left by KeyboardInterrupt, what was written is kept
    playable under ``kept`` (``NAME.partial.mp4``). Left by any other error, nothing is left.

    Times are exact in mp4 and mov and rounded to milliseconds in mkv and webm. Matroska has no times below 0
    either: where audio starts before 0, as AAC in mp4 does, everything in an mkv moves later by as much, in step.

    Args:
        path: A file; a pattern such as ``frames/%05d.png``; or ``-``, the standard output.
        format: What all frames have in common; ``VideoReader.format`` of a reader.
        encoder: Settings, or what ``choose_encoding`` made of them.
        like: A reader whose other streams, metadata and rotation go into the output, by its ``packets``.
        plan: What becomes of those streams; None copies all that the container can hold.
        audio: False leaves the audio out, where no plan is given.
        live_audio: True adds a stream for ``write_audio``.
        overwrite: True replaces an existing ``path`` when the new one is whole.

    Raises:
        OutputExistsError: ``path`` exists, and ``overwrite`` is False.
        SettingError: The container is none of those that can be written, or cannot hold the codec.
        VideoWriteError: The folder is missing or may not be written, the disk is full, or another process
            is writing this output.
    """

    def __init__(
        self,
        path: Path | str,
        format: VideoFormat,
        *,
        encoder: EncoderSettings | Encoding = EncoderSettings(),
        like: VideoReader | None = None,
        plan: StreamPlan | None = None,
        audio: bool = True,
        live_audio: bool = False,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        if self.path != STDOUT:
            muxer = encoder.muxer if isinstance(encoder, Encoding) and encoder.muxer in CONTAINERS else None
            check_output(self.path, overwrite=overwrite, muxer=muxer)
        encoding = encoder
        if isinstance(encoding, EncoderSettings):
            transparent = bool(like and like.alpha)
            encoding = choose_encoding(
                self.path,
                encoding,
                format.size,
                full_range=format.color.full_range,
                alpha=transparent,
                rate=format.rate,
            )
        if plan is None:
            plan = StreamPlan()
            if like:
                plan = plan_streams(like.container, like.stream, encoding.muxer, audio=audio, codec=encoding.codec)
        self.copied, self.dropped = plan.copied, plan.dropped
        self.warnings = [*encoding.notes, *plan.warnings]
        """What a person should know of the output before trusting it, in words; complete when it is closed."""
        self.kept: Path | None = None
        """Where an interrupted output was kept."""
        self.written = 0
        """Frames taken so far."""
        codec = audio_codec(encoding.muxer, str(path)) if live_audio else None
        self._reader = like
        self._closed = False
        self._folder = None
        place = "pipe:1"
        if self.path != STDOUT:
            self._folder = claim_folder(self.path, overwrite=overwrite)
            self._part = self._folder.path / self.path.name
            if encoding.muxer == "image2":  # which writes a number for each %d, in the names of folders, too
                place = f"{str(self._folder.path.absolute()).replace('%', '%%')}/{self.path.name}"
            else:
                place = f"file:{self._part}"  # so that a colon in a name is no protocol
        try:
            self._output = Output(place, encoding, format, like=like, plan=plan, audio=codec)
        except AV_ERRORS as error:
            self._discard()
            raise cannot_write(self.path, error) from error
        except BaseException:
            self._discard()
            raise

    def write(self, frame: Frame) -> None:
        """Encode one frame; the encoder has its own copy when the call returns.

        Raises:
            ValueError: The frame is not of the writer's size.
            VideoWriteError: The disk is full, or the encoder refuses the frame.
            BrokenPipeError: The reader of the standard output has exited.
        """
        encoder = self._output.encoder
        if frame.size != encoder.size:
            raise SettingError(f"this writer is for {encoder.size}, the frame is {frame.size}")
        try:
            self._output.container.mux(encoder.encode(frame))
            self.written += 1
            self._copy_packets()
        except AV_ERRORS as error:
            raise cannot_write(self.path, error) from error

    @property
    def hears(self) -> bool:
        """Whether it was made with ``live_audio``."""
        return self._output.audio is not None

    def write_audio(self, chunk: AudioChunk, begin: float) -> None:
        """Encode a piece of audio; the writer was made with ``live_audio``.

        Args:
            begin: The moment, on the clock of ``chunk.at``, at which the video shows 0.

        Raises:
            VideoWriteError: The disk is full.
        """
        assert self._output.audio, "a writer without audio"
        try:
            self._output.container.mux(self._output.audio.encode(chunk, begin))
        except AV_ERRORS as error:
            raise cannot_write(self.path, error) from error

    def _copy_packets(self) -> None:
        if self._reader and self._output.copies:
            while self._reader.packets:
                self._output.copies.mux(self._reader.packets.popleft())

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
            self._output.container.mux(self._output.encoder.flush())
            if self._output.audio:
                self._output.container.mux(self._output.audio.flush())
            self._copy_packets()
            self.warnings += captions_lost_words(self._output.encoder.encoding, self._output.encoder.captions_lost)
            self.warnings += self._output.finish()
            self._closed = True
            if self._folder:
                self._publish(self._folder, name)
                self._folder.close()
        except AV_ERRORS as error:
            self._discard()
            raise cannot_write(self.path, error) from error
        except BaseException:
            self._discard()
            raise

    def _publish(self, folder: WorkFolder, name: Path) -> None:
        if "%" not in name.name:
            folder.publish(self._part, name)
            return
        name.parent.mkdir(exist_ok=True)
        folder.publish_sequence(sorted(folder.path.glob(f"*{name.suffix}")), name.parent)

    def _discard(self) -> None:
        self._closed = True
        if output := getattr(self, "_output", None):
            output.discard()
        if self._folder:
            self._folder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        elif issubclass(kind, KeyboardInterrupt) and self.written:
            self.kept = partial_name(self.path)
            self._finish(self.kept)
            if error is not None and self.path != STDOUT:
                error.add_note(f"the {self.written} finished frames are kept in {self.kept}")
        else:
            self._discard()


def partial_name(path: Path) -> Path:
    """Return where an interrupted output is kept, beside where the whole one would be."""
    if "%" in path.name:
        return free_name(path.parent / "partial") / path.name
    room = 240 - len(os.fsencode(f".partial{path.suffix}"))  # of the 255 bytes that file systems take
    stem = os.fsencode(path.stem)[:room].decode("utf-8", "ignore")
    return free_name(path.with_name(f"{stem}.partial{path.suffix}"))


def cannot_write(path: Path, error: Exception) -> Exception:
    """Return what to raise for a failure of PyAV: our own errors, and a reader that has gone, as they are."""
    if isinstance(error, (VideoWriteError, OutputExistsError, SettingError, BrokenPipeError)):
        return error
    return VideoWriteError(f"cannot write {path}: {reason_of(error)}")

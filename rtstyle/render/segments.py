"""RenderWriter: a file that is made from a file, in segments, so that an interrupted render can be taken up again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av

from rtstyle.errors import OutputExistsError, SettingError
from rtstyle.frame import Frame, Size, VideoFormat
from rtstyle.render.encode import LEAP, SegmentEncoder, segment_name
from rtstyle.render.journal import Checkpoint, Journal, Segment
from rtstyle.video.copies import StreamPlan
from rtstyle.video.encoder import captions_lost_words
from rtstyle.video.formats import Encoding
from rtstyle.video.opening import AV_ERRORS
from rtstyle.video.reader import VideoReader
from rtstyle.video.work_folder import WorkFolder
from rtstyle.video.writer import Output, cannot_write, partial_name

_SEGMENT_FRAMES = 90
"""Frames of a segment at 1280x720: a few seconds of work. It must not depend on how fast the machine is, or a
resumed render would be cut in other places than an unbroken one."""


def segment_frames(size: Size) -> int:
    """Return how many frames make a segment: fewer of large frames, which take longer."""
    return max(12, min(120, _SEGMENT_FRAMES * 1280 * 720 // (size.width * size.height)))


_MOST_UNITS = 1 << 30
"""Units of time between two frames that mp4 can hold, and readers of five years ago can read."""


class RenderWriter:
    """The output of a file as a ``FrameSink``, rendered in segments and joined at the end.

    Each segment is encoded by an encoder of its own, so it begins with a key frame and refers to nothing
    before it; when it is safe on disk, the journal says so. On close the segments' packets and those of
    the input's other streams, which is read a second time for them, are muxed into the real container, and
    that takes its final name. No frame is decoded or encoded for it.

    Left by KeyboardInterrupt, what was written is kept playable under ``kept``, too. Left by that or any other
    error behind the first finished segment, the work folder stays for ``resume``; before, nothing is left.

    Args:
        folder, journal: From ``claim``; the journal has begun, or is taken up. They are the writer's from here on.
        like: The reader, opened with ``keep_packets=False``.
        plan: What becomes of its other streams.
        checkpoint: Called at the end of each segment with the number of frames so far.

    Raises:
        VideoWriteError: The disk is full, or the container refuses a stream.
    """

    def __init__(
        self,
        folder: WorkFolder,
        journal: Journal,
        encoding: Encoding,
        *,
        like: VideoReader,
        plan: StreamPlan,
        checkpoint: Callable[[int], Checkpoint],
    ) -> None:
        self.path = folder.output
        self.copied, self.dropped = plan.copied, plan.dropped
        self.warnings = [*encoding.notes, *plan.warnings, *folder.notes]
        self.kept: Path | None = None
        self.resumed_at = journal.checkpoint.frames if journal.checkpoint else 0
        """Frames that an earlier run had finished."""
        self.written = self.resumed_at
        self.joining: Callable[[float], object] | None = None
        """Called, while segments are joined, with the share that is done."""
        self._folder, self._journal, self._encoding = folder, journal, encoding
        self._format = like.format
        self._reader, self._plan, self._checkpoint = like, plan, checkpoint
        self._length = segment_frames(like.size)
        self._segment: SegmentEncoder | None = None
        self._rest: list[Segment] = []
        """Segments that were added and are in no journal."""
        self.ended: Fraction | None = None
        """When the last frame stops being shown, in seconds of the output; None: the reader knows."""
        self._closed = False
        self._captions_lost = 0
        # The container is opened once before any work, so that whatever it refuses is known now.
        try:
            trial = folder.place(f"trial{self.path.suffix}")
            self._container(trial).discard()
            trial.unlink()
        except AV_ERRORS as error:
            self._leave()
            raise cannot_write(self.path, error) from error

    def _container(self, part: Path, format: VideoFormat | None = None) -> Output:
        return Output(f"file:{part}", self._encoding, format or self._format, like=self._reader, plan=self._plan)

    def write(self, frame: Frame) -> None:
        """As ``VideoWriter.write``."""
        if frame.size != self._format.size:
            raise SettingError(f"this writer is for {self._format.size}, the frame is {frame.size}")
        try:
            if self._segment is None:
                place = self._folder.place(segment_name(len(self._journal.segments)))
                self._segment = SegmentEncoder(place.open("xb"), self._encoding, self._format)
            self._segment.write(frame)
            self.written += 1
            if len(self._segment.pts) == self._length:
                segment, self._segment = self._finished(self._segment), None
                self._journal.add(segment, self._checkpoint(self.written))
        except AV_ERRORS as error:
            raise cannot_write(self.path, error) from error

    def add(self, segment: Segment, data: bytes, checkpoint: Checkpoint | None, captions_lost: int = 0) -> None:
        """Take a segment that was encoded elsewhere; the next one, in order.

        Args:
            data: Its packets.
            checkpoint: Where the render stands after it; None: it goes into no journal, nor do those after it.
            captions_lost: Frames whose captions the codec cannot carry.

        Raises:
            VideoWriteError: The disk is full.
        """
        try:
            segment = replace(segment, file=segment_name(len(self._journal.segments) + len(self._rest)))
            self._folder.place(segment.file).write_bytes(data)
            if checkpoint:
                self._journal.add(segment, checkpoint)
            else:
                self._rest.append(segment)
        except AV_ERRORS as error:
            raise cannot_write(self.path, error) from error
        self.written += len(segment.pts)
        self._captions_lost += captions_lost

    def _finished(self, segment: SegmentEncoder) -> Segment:
        finished = segment.finish(segment_name(len(self._journal.segments)))
        self._captions_lost += segment.captions_lost
        return finished

    def close(self) -> None:
        """Join the segments and give the file its final name.

        Raises:
            VideoWriteError: It could not be finished; finished segments stay for a later ``resume``.
        """
        if not self._closed:
            self._join(self.path, to_the_end=True)
            self._closed = True
            self._folder.keep = False
            self._folder.close()

    def _join(self, name: Path, *, to_the_end: bool) -> None:
        part = self._folder.place(f"whole{self.path.suffix}")
        try:
            segments = list(self._journal.segments)
            if self._segment:
                segments.append(self._finished(self._segment))
                self._segment = None
            segments += self._rest
            with ExitStack() as stack:
                output = self._container(part, _with_room(self._format, segments))
                stack.callback(output.discard)
                others = stack.enter_context(self._reader.others()) if self._plan.copied else iter(())
                self._mux(output, segments, others, to_the_end=to_the_end)
                self.warnings += captions_lost_words(self._encoding, self._captions_lost)
                self.warnings += output.finish()
            self._folder.publish(part, name)
        except OutputExistsError:  # the whole result has another name
            self._folder.keep = False
            self._leave()
            raise
        except AV_ERRORS as error:
            self._leave()
            failure = cannot_write(self.path, error)
            self._tell_the_way_on(failure)
            raise failure from error
        except BaseException:
            self._leave()
            raise

    def _tell_the_way_on(self, error: BaseException) -> None:
        if self._journal.checkpoint:
            error.add_note(f"--resume continues behind frame {self._journal.checkpoint.frames}")

    def _mux(
        self, output: Output, segments: list[Segment], others: Iterator[av.Packet[Any]], *, to_the_end: bool
    ) -> None:
        """Interleave the segments' packets with those of the other streams."""
        shift = float(self._reader.shift)
        ahead = next(others, None)

        def copy_until(moment: float) -> None:
            nonlocal ahead
            while ahead is not None and output.copies:
                if ahead.dts is not None and ahead.time_base and float(ahead.dts * ahead.time_base) - shift > moment:
                    return
                output.copies.mux(ahead)
                ahead = next(others, None)

        moment, unit = 0.0, float(self._format.time_base)
        ended = (self.ended if self.ended is not None else self._reader.ended) if to_the_end else None
        for done, packet in enumerate(
            _packets_of(segments, self._folder.path, output, self._format.time_base, ended), 1
        ):
            moment = max(moment, (packet.pts or 0) * unit)
            copy_until((packet.dts or 0) * unit)
            output.container.mux(packet)
            if self.joining and done % 500 == 0:
                self.joining(done / self.written)
        copy_until(float("inf") if to_the_end else moment)

    def _leave(self) -> None:
        """Give up; the work folder stays if a later run can continue from it."""
        self._closed = True
        if self._segment:
            self._segment.discard()
            self._segment = None
            self._folder.place(segment_name(len(self._journal.segments)))
        self._folder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        elif not self._closed:
            if issubclass(kind, KeyboardInterrupt) and self.written:
                self.kept = partial_name(self.path)
                self._join(self.kept, to_the_end=False)
                if error is not None:
                    error.add_note(f"the {self.written} finished frames are kept in {self.kept}")
            if error is not None:
                self._tell_the_way_on(error)
            self._leave()


def _soonest(segments: list[Segment], times: list[int]) -> list[int]:
    """Return of each packet, in the order of decoding, the earliest time of those that are not decoded before it."""
    shown, first = [], 0
    for segment in segments:
        shown += [times[first + number] for number, _, _ in segment.packets]
        first += len(segment.pts)
    return list(accumulate(reversed(shown), min))[::-1]


def _with_room(format: VideoFormat, segments: list[Segment]) -> VideoFormat:
    """Return the format with the finest units in which every distance between two frames has a 31-bit number."""
    steps = [b - a for a, b in pairwise(time for segment in segments for time in segment.pts)]
    least = -(-max(steps, default=0) // _MOST_UNITS)
    if least <= 1:
        return format
    common = math.gcd(*steps)  # times stay exact in multiples of it
    exact = (unit for unit in range(least, min(common, 1000 * least) + 1) if common % unit == 0)
    return replace(format, time_base=format.time_base * next(exact, least))


def _packets_of(
    segments: list[Segment], folder: Path, output: Output, time_base: Fraction, ended: Fraction | None
) -> Iterator[av.Packet[Any]]:
    """Yield the packets of all segments for the stream of ``output``, with their frames' own times.

    The last frame is shown until ``ended``, in seconds; where that is unknown, as long as the first.

    A decoding time is the time of the frame that is shown as many packets earlier as any encoder held one
    back: it rises, and is never behind the packet's own time. Behind a leap in time it follows at once: readers of
    mp4 know no greater distance between the two than 2^28 units.
    """
    times = [time for segment in segments for time in segment.pts]
    step = times[1] - times[0] if len(times) > 1 else 1
    rest = round(ended / time_base) - times[-1] if ended is not None and times else 0
    last = rest if 0 < rest < 1 << 31 else step
    held = max((segment.reorder for segment in segments), default=0)
    soonest = _soonest(segments, times)
    distance, decoded = round(LEAP / time_base), -(1 << 62)
    first = count = 0
    stream = output.encoder.stream
    in_band = not stream.codec_context.extradata
    for segment in segments:
        headers = bytes.fromhex(segment.headers) if in_band else b""
        with (folder / segment.file).open("rb") as file:
            for number, size, key in segment.packets:
                data, frame = file.read(size), first + number
                if len(data) < size:
                    raise OSError(f"{segment.file} ends in the middle of a frame")
                packet = av.Packet(headers + data if headers and key else data)
                packet.stream, packet.time_base = stream, time_base
                packet.is_keyframe = key
                packet.pts = times[frame]
                early = times[count - held] if count >= held else times[0] - (held - count) * step
                packet.dts = decoded = max(early, soonest[count] - distance, decoded + 1)
                packet.duration = times[frame + 1] - times[frame] if frame + 1 < len(times) else last
                count += 1
                if count == len(times) and output.container.format.name in ("mp4", "mov"):
                    # These count from decoding time to decoding time, so the last packet of all must reach the end.
                    packet.duration = max(packet.duration, times[-1] + last - held * step - packet.dts)
                yield packet
        first += len(segment.pts)

"""Renders jobs: in this process by a ``Renderer``, or as a process that reads them from its standard input.

``python -m rtstyle.render.worker`` reads a line of JSON for each job and answers with a line of JSON, which the data of
its segments follows. It ends with its input, also in the middle of a job.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import blake2b
from io import BytesIO
from itertools import islice, repeat
from typing import IO, Any, BinaryIO, cast

import numpy as np

from rtstyle.backends import Engine, open_for
from rtstyle.canvas.carry import Step
from rtstyle.canvas.follower import Follow, SceneFollower
from rtstyle.errors import RtstyleError, StyleFormatError, VideoOpenError, reason_of
from rtstyle.frame import Frame, Planes, VideoFormat
from rtstyle.mask.mix import FrameMask, masked
from rtstyle.mask.opening import open_mask
from rtstyle.render.automation import Automation, PlannedAutomation
from rtstyle.render.encode import SegmentEncoder
from rtstyle.render.flow import Prefetch, Timings
from rtstyle.render.job import (
    Fingerprint,
    Piece,
    SegmentJob,
    SegmentResult,
    Stand,
    canvas_state,
    open_style,
    steps_of,
    versions,
)
from rtstyle.render.resume import digest_of
from rtstyle.render.stylist import Stylist, open_stylist
from rtstyle.style import Style
from rtstyle.video import VideoReader
from rtstyle.video.samples import planes_digest


class UnfitError(RtstyleError, RuntimeError):
    """This machine cannot render the job as others do: an input, a style, a library or an engine differs."""


class UnseenError(UnfitError):
    """This machine does not see the job's input, or sees another one under its name."""


class DivergedError(VideoOpenError):
    """The input decodes to other frames from here on than it does from its start."""


@dataclass
class _OpenInput:
    """An input that is read, and where."""

    reader: VideoReader
    frames: Iterator[Frame]
    asked: tuple[str, ...]
    sequential: bool
    count: int = 0
    """Number in the output of the next frame."""
    last: list[Any] | None = None
    """Pts and digest of the frame before it."""
    damaged: int = 0
    """Of the reader, before that frame."""


@dataclass
class _Marks:
    """What is noted of a job's frames as they are decoded."""

    every: int
    prints: list[Fingerprint] = field(default_factory=list)
    stands: list[Stand] = field(default_factory=list)
    """After each segment, where the job asks for them."""
    count: int = 0
    last: Frame | None = None

    def note(self, frame: Frame) -> None:
        if self.count % self.every == 0:
            self.prints.append(Fingerprint())
        self.prints[-1].add(frame.planes, frame.pts)
        self.count += 1
        self.last = frame


class Renderer:
    """Renders jobs one after the other; engine and input stay open between two that need the same."""

    def __init__(self) -> None:
        self._style: tuple[str, Style] | None = None
        self._engine: tuple[str, Engine] | None = None
        self._reading: _OpenInput | None = None
        self._automation: tuple[str, PlannedAutomation] = json.dumps({}), PlannedAutomation()
        self._stylist: tuple[str, Stylist] | None = None
        self._mask: tuple[str, FrameMask | None] = "", None
        self._canned: dict[str, dict[str, str]] = {}

    def render(self, job: SegmentJob, *, sequential: bool = False) -> SegmentResult:
        """Render a job.

        Args:
            sequential: Reach the first frame by decoding everything before it, as the planner does, not by a seek.

        Raises:
            UnfitError: This machine cannot render it as others do.
            DivergedError: The frame before the first one is not found, or is another one.
            RtstyleError: The input cannot be read, or no engine opens.
        """
        begun, timings = time.perf_counter(), Timings()
        found = versions(job.engine["backend"])
        if found != job.versions:
            names = [name for name in job.versions if found.get(name) != job.versions[name]]
            wanted = ", ".join(f"{name} {found.get(name)} instead of {job.versions[name]}" for name in names)
            raise UnfitError(f"it has {wanted}")
        style = self._style_of(job)
        reading = self._reading_at(job, sequential)
        format = reading.reader.format
        engine = self._engine_for(job, style, format)
        if job.canned and (other := [k for k, v in self.canned(job, format).items() if v != job.canned[k]]):
            self.close()
            raise UnfitError(f"its {' and its '.join(other)} gives other results for a known frame")
        try:
            pieces, count = self._pieces(job, style, engine, reading, timings)
        except BaseException:
            self.close()  # frames are inside the engine, and the input is read to some place
            raise
        if job.frames is not None and count < job.frames and not job.hands_over:
            self._close_reading()
            raise DivergedError(f"{job.source} has {count} instead of {job.frames} frames from frame {job.first} on")
        reader, seconds = reading.reader, time.perf_counter() - begun
        damaged, reading.damaged = reader.damaged - reading.damaged, reader.damaged
        return SegmentResult(pieces, damaged, str(reader.ended), reader.notes, seconds, timings.stages())

    def _pieces(
        self, job: SegmentJob, style: Style, engine: Engine, reading: _OpenInput, timings: Timings
    ) -> tuple[tuple[Piece, ...], int]:
        marks, format, encoding = _Marks(job.every), reading.reader.format, job.encode_as()
        pieces: list[Piece] = []
        buffer, segment = BytesIO(), None
        steered = self._steered(job)
        decoded = timings.timed("canvas", _followed(job, steered, reading, marks, timings))
        stylist = self._stylist_for(job, style, engine, reading.reader.begins)
        mask = self._mask_for(job, reading.reader)
        with Prefetch(decoded, name="decode") as frames:
            stylized = masked(frames, stylist.stylize, mask, reading.reader.begins, job.every)
            for frame in timings.timed("engine", stylized):
                started = time.perf_counter()
                if segment is None:
                    buffer = BytesIO()
                    segment = SegmentEncoder(buffer, encoding, format, threads=job.threads, owned=False)
                segment.write(frame)
                if len(segment.pts) == job.every:
                    pieces.append(_piece(segment, buffer, marks, len(pieces)))
                    segment = None
                timings.add("encode", time.perf_counter() - started)
        if segment:
            pieces.append(_piece(segment, buffer, marks, len(pieces)))
        reading.count += marks.count
        if marks.last is not None:
            reading.last = [marks.last.pts, planes_digest(marks.last.planes)]
        return tuple(pieces), marks.count

    def canned(self, job: SegmentJob, format: VideoFormat) -> dict[str, str]:
        """Return digests of what follower, engine and encoder of this machine make of known frames of a format."""
        key = "|".join((*_engine_key(job, format), json.dumps([job.encoding, job.follow, job.mask, job.automation])))
        if key not in self._canned:
            style, digest = self._style_of(job), blake2b(digest_size=16)
            scene = SceneFollower(steered=self._steered(job), follow=cast(Follow, job.follow))
            engine = self._engine_for(job, style, format)
            buffer = BytesIO()
            segment = SegmentEncoder(buffer, job.encode_as(), format, threads=job.threads, owned=False)
            for frame in engine.stylize((scene.follow(frame) for frame in known_frames(format)), job.controls()):
                digest.update(planes_digest(frame.planes).encode())
                segment.write(frame)
            headers = segment.finish("canned").headers
            packets = blake2b(buffer.getvalue() + headers.encode(), digest_size=16)
            self._canned[key] = {"engine": digest.hexdigest(), "encoder": packets.hexdigest()}
            for name, other in self._planned(job).styles[1:]:
                with open_for(other, format.size, format.color, job.settings(), live=False) as engine:
                    planes = (frame.planes for frame in engine.stylize(known_frames(format), job.controls()))
                    self._canned[key][f"style {name}"] = "".join(map(planes_digest, planes))
            if job.mask:
                self._canned[key]["mask"] = _canned_mask(job, format)
        return self._canned[key]

    def adopt(self, engine: Engine, job: SegmentJob, format: VideoFormat) -> None:
        """Take an open engine over, which is the one that a job asks for."""
        self._close_engine()
        self._engine = "|".join(_engine_key(job, format)), engine

    def _style_of(self, job: SegmentJob) -> Style:
        key = json.dumps(job.style)
        if self._style is None or self._style[0] != key:
            self._style = key, _same_style(job.style)
        return self._style[1]

    def _planned(self, job: SegmentJob) -> PlannedAutomation:
        """Return the job's automation, with its styles."""
        key = json.dumps(job.automation)
        if self._automation[0] != key:
            styles = tuple((name, _same_style(told)) for name, told in job.automation["styles"].items())
            self._automation = key, PlannedAutomation(Automation.from_json(job.automation), styles)
        return self._automation[1]

    def _steered(self, job: SegmentJob) -> bool:
        """Return whether any of the job's styles draws on a steered canvas."""
        return self._style_of(job).steered or any(style.steered for _, style in self._planned(job).styles)

    def _stylist_for(self, job: SegmentJob, style: Style, engine: Engine, begins: Fraction) -> Stylist:
        """Return what stylizes the job's frames; its engines stay open for the next job that needs the same."""
        key = json.dumps([job.automation, job.strength, str(begins)])
        if self._stylist is None or self._stylist[0] != key:
            self._close_stylist()
            try:
                made = open_stylist(self._planned(job), job.controls(), style, engine, job.settings(), begins)
            except StyleFormatError as error:
                raise UnfitError(str(error)) from error
            self._stylist = key, made
        return self._stylist[1]

    def _close_stylist(self) -> None:
        if self._stylist:
            self._stylist[1].close()
        self._stylist = None

    def _engine_for(self, job: SegmentJob, style: Style, format: VideoFormat) -> Engine:
        key = "|".join(_engine_key(job, format))
        if self._engine is None or self._engine[0] != key:
            self._close_engine()
            try:
                self._engine = key, open_for(style, format.size, format.color, job.settings(), live=False)
            except (RtstyleError, ImportError) as error:
                raise UnfitError(reason_of(error)) from error
        return self._engine[1]

    def _mask_for(self, job: SegmentJob, reader: VideoReader) -> FrameMask | None:
        """Return the job's mask, None where it has none."""
        key = json.dumps([job.mask, str(reader.size), reader.display_matrix])
        if self._mask[0] != key:
            self._close_mask()
            try:
                self._mask = key, open_mask(job.mask_settings(), reader.size, reader.display_matrix)
            except (RtstyleError, OSError) as error:
                raise UnseenError(reason_of(error)) from error
        return self._mask[1]

    def _close_mask(self) -> None:
        if self._mask[1] is not None:
            self._mask[1].close()
        self._mask = "", None

    def _reading_at(self, job: SegmentJob, sequential: bool) -> _OpenInput:
        """Return the input, read up to the job's first frame."""
        asked = (job.source, json.dumps(job.identity), json.dumps(job.reading))
        reading = self._reading
        if reading and reading.asked == asked and reading.sequential == sequential:
            if reading.count == job.first and reading.last == job.after:
                return reading
            if sequential and reading.count <= job.first:
                return _skip_to(reading, job)
        self._close_reading()
        try:
            reader = job.open_reader()
        except (VideoOpenError, OSError) as error:
            raise UnseenError(reason_of(error)) from error
        self._reading = reading = _OpenInput(reader, iter(reader), asked, sequential)
        if sequential:
            return _skip_to(reading, job)
        if job.after and not reader.resume_after(*job.after):
            self._close_reading()
            raise DivergedError(f"{job.source} decodes to other frames where it is entered before frame {job.first}")
        reading.count, reading.last = job.first, job.after
        return reading

    def _close_reading(self) -> None:
        if self._reading:
            self._reading.reader.close()
        self._reading = None

    def _close_engine(self) -> None:
        self._close_stylist()
        if self._engine:
            self._engine[1].close()
        self._engine = None

    def close(self) -> None:
        """Close engine and input; the next job opens them again."""
        self._close_reading()
        self._close_mask()
        self._close_engine()


def _engine_key(job: SegmentJob, format: VideoFormat) -> tuple[str, ...]:
    return json.dumps(job.style), json.dumps(job.engine), str(format.size), str(format.color)


def _canned_mask(job: SegmentJob, format: VideoFormat) -> str:
    """Return a digest of the masks that this machine finds for known frames.

    Raises:
        UnseenError: The mask is missing here, or another one.
    """
    digest = blake2b(digest_size=16)
    try:
        mask = open_mask(job.mask_settings(), format.size)
        assert mask
        for frame in known_frames(format):
            weights = mask.at(frame, frame.pts * frame.time_base)
            digest.update(b"" if weights is None else weights.tobytes())
        mask.close()
    except (RtstyleError, OSError) as error:
        raise UnseenError(reason_of(error)) from error
    return digest.hexdigest()


def _same_style(told: dict[str, Any]) -> Style:
    """Return the style of a job.

    Raises:
        UnfitError: This machine has it not, or another one of its name.
    """
    try:
        style = open_style(told)
        digest = digest_of(style)
    except (StyleFormatError, OSError) as error:
        raise UnfitError(f"the style {told['name']!r} cannot be read: {reason_of(error)}") from error
    if digest != told["digest"]:
        raise UnfitError(f"the style {told['name']!r} has other weights")
    return style


def _followed(job: SegmentJob, steered: bool, reading: _OpenInput, marks: _Marks, timings: Timings) -> Iterator[Frame]:
    """Yield the job's frames, each with its place on the canvas."""
    scene = SceneFollower(steered=steered, follow=cast(Follow, job.follow))
    if job.canvas:
        scene.restore(canvas_state(job.canvas))
    steps: Iterator[Step | None] = repeat(None)
    for number, frame in enumerate(islice(timings.timed("decode", reading.frames), job.frames)):
        marks.note(frame)
        if number == 0:
            steps = steps_of(job, frame.size)
        x, y = job.places[number] if job.places else scene.offset(frame)
        frame = scene.follow(frame, (x, y), next(steps))
        if job.hands_over and marks.count % job.every == 0:
            last, damaged = marks.count == job.frames, reading.reader.damaged - reading.damaged
            marks.stands.append(Stand.after(frame, scene.state() if last else None, damaged))
        yield frame


def _piece(segment: SegmentEncoder, buffer: BytesIO, marks: _Marks, number: int) -> Piece:
    finished, stand = segment.finish(""), marks.stands[number] if number < len(marks.stands) else None
    return Piece(finished, buffer.getvalue(), marks.prints[number].text(), segment.captions_lost, stand)


def _skip_to(reading: _OpenInput, job: SegmentJob) -> _OpenInput:
    """Decode up to the job's first frame.

    Raises:
        VideoOpenError: The frame before it is another one this time, too.
    """
    for frame in islice(reading.frames, job.first - reading.count):
        reading.count += 1
        if reading.count == job.first:
            reading.last = [frame.pts, planes_digest(frame.planes)]
            reading.damaged = reading.reader.damaged
    if reading.count != job.first or reading.last != job.after:
        raise VideoOpenError(f"{job.source} decodes to other frames each time it is read: take another copy of it")
    return reading


def known_frames(format: VideoFormat, count: int = 3) -> Iterator[Frame]:
    """Yield frames of a texture that moves by two pixels each time, the same on every machine."""
    height, width = format.size.height, format.size.width
    rows, columns = np.arange(height, dtype=np.uint32)[:, None], np.arange(width, dtype=np.uint32)
    step = max(1, round(1 / (format.rate or Fraction(25)) / format.time_base))
    for number in range(count):
        x = columns + 2 * number
        # Integers only: a sine may differ in its last bit from one machine to the other.
        luma = (x // 16 * 2654435761 + rows // 16 * 40503 >> 7) % 160 + (3 * x + 2 * rows) % 48 + 24
        u = (rows[::2] + x[::2] // 2) % 96 + 80
        v = (2 * rows[::2] + 256 - x[::2] % 256) % 96 + 80
        planes = Planes(*(np.ascontiguousarray(plane.astype(np.uint8)) for plane in (luma, u, v)))
        yield Frame(planes, number * step, format.time_base, format.color)


# -- as a process ------------------------------------------------------------------------------------


def attempt(job: SegmentJob, renderer: Renderer) -> tuple[dict[str, Any], list[bytes]]:
    """Render a job and return the result in parts, or what went wrong.

    ``fault`` is then ``unfit`` (this machine), ``unseen`` (this machine and input), ``diverged`` or ``error``.
    """
    try:
        return renderer.render(job).to_parts()
    except UnseenError as error:
        return {"fault": "unseen", "reason": str(error)}, []
    except UnfitError as error:
        return {"fault": "unfit", "reason": str(error)}, []
    except DivergedError as error:
        return {"fault": "diverged", "reason": str(error)}, []
    except Exception as error:  # the coordinator decides what becomes of it
        return {"fault": "error", "reason": f"{type(error).__name__}: {reason_of(error)}"}, []


def use_cores(cores: list[int]) -> None:
    """Keep this process on some of the machine's cores, where the system can; before libraries start threads."""
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def _read_jobs(jobs: BinaryIO, waiting: queue.Queue[bytes]) -> None:
    """Read jobs; with the end of the input the process ends, whatever it is doing: no process waits for the result."""
    for line in jobs:
        waiting.put(line)
    os._exit(0)


def answer_jobs() -> None:
    """Answer jobs until the input ends."""
    # Libraries may print on the standard output; the answers get a channel of their own.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    use_cores(json.loads(sys.stdin.buffer.readline())["cores"])
    waiting: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_read_jobs, args=(sys.stdin.buffer, waiting), daemon=True).start()
    renderer = Renderer()
    while True:
        told, data = attempt(SegmentJob.from_json(waiting.get().decode()), renderer)
        write_answer(answers, told, data)


def write_answer(file: BinaryIO, told: dict[str, Any], data: list[bytes]) -> None:
    """Write what ``read_answer`` reads."""
    file.write(json.dumps({**told, "sizes": [len(each) for each in data]}).encode() + b"\n")
    file.writelines(data)
    file.flush()


def read_answer(file: IO[bytes]) -> tuple[dict[str, Any], list[bytes]] | None:
    """Read an answer; None where the process ended."""
    line = file.readline()
    if not line.endswith(b"\n"):
        return None
    told: dict[str, Any] = json.loads(line)
    data = [file.read(size) for size in told["sizes"]]
    if any(len(each) < size for each, size in zip(data, told.pop("sizes"), strict=True)):
        return None
    return told, data


if __name__ == "__main__":
    answer_jobs()

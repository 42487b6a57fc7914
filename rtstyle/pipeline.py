"""Put the pieces together for a file: reader -> engine -> writer. live.py has the live loop."""

from __future__ import annotations

import json
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from rtstyle import __version__
from rtstyle.backends import BackendChoice, Controls, Precision, open_engine
from rtstyle.canvas import CanvasTracker
from rtstyle.errors import SettingError, VideoOpenError
from rtstyle.frame import Frame, Size
from rtstyle.style import Style, load_style

if TYPE_CHECKING:
    from rtstyle.video import EncoderSettings, VideoReader
    from rtstyle.video.formats import Encoding
    from rtstyle.video.journal import Journal, Mark
    from rtstyle.video.render import RenderWriter
    from rtstyle.video.writer import VideoWriter

T = TypeVar("T")


class Prefetch(Generic[T]):
    """Runs an iterable in a thread of its own, ``depth`` items ahead.

    An exception in the thread is raised where its items are consumed. Leaving the context, early or
    not, stops the thread and joins it; it stops between two items.
    """

    def __init__(self, items: Iterable[T], *, name: str, depth: int = 3) -> None:
        self._items = items
        self._ready: queue.Queue[tuple[str, T | BaseException | None]] = queue.Queue(depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"rtstyle-{name}", daemon=True)

    def _run(self) -> None:
        try:
            for item in self._items:
                if not self._put("item", item):
                    return
        except BaseException as error:  # handed to the consumer, whatever it is
            self._put("error", error)
        else:
            self._put("end", None)

    def _put(self, kind: str, value: T | BaseException | None) -> bool:
        while not self._stop.is_set():
            try:
                self._ready.put((kind, value), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self) -> Iterator[T]:
        while True:
            kind, value = self._ready.get()
            if kind == "end":
                return
            if kind == "error":
                assert isinstance(value, BaseException)
                raise value
            yield value  # type: ignore[misc]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()


@contextmanager
def signals_held() -> Iterator[Callable[[], None]]:
    """Hold back Ctrl-C, and SIGTERM where Python handles it, so that no frame and no file is cut in two.

    Yields a function to call between two frames: a signal that came meanwhile takes its usual course
    there. A second one takes it at once. Outside the main thread, which no signal reaches, nothing is held.
    """
    came: list[int] = []
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def pass_on(number: int) -> None:
        handler = usual[signal.Signals(number)]
        assert callable(handler)
        handler(number, None)

    def hold(number: int, _: object) -> None:
        came.append(number)
        if len(came) > 1:
            pass_on(number)

    def release() -> None:
        if came:
            pass_on(came[0])

    mine = threading.current_thread() is threading.main_thread()
    held = [number for number, handler in usual.items() if mine and callable(handler)]
    for number in held:
        signal.signal(number, hold)
    try:
        yield release
    finally:
        for number in held:
            signal.signal(number, usual[number])


class Timings:
    """Adds up the seconds that each stage took, on the thread that ran it."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, stage: str, seconds: float) -> None:
        """Count one item of a stage and the seconds that it took."""
        self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds
        self._counts[stage] = self._counts.get(stage, 0) + 1

    def timed(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """Yield ``items`` and add the time that each took to come."""
        iterator = iter(items)
        while True:
            begun = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            self.add(stage, time.perf_counter() - begun)
            yield item

    def milliseconds(self) -> dict[str, float]:
        """Mean milliseconds per item, by stage."""
        return {stage: round(1000 * s / self._counts[stage], 3) for stage, s in self._seconds.items()}


@dataclass(frozen=True)
class VideoReport:
    """What ``stylize_video`` did; ``rtstyle video --json`` prints it."""

    input: str
    output: str
    frames_in: int
    frames_out: int
    dropped: int
    """Pictures that are missing or faulty because the input is damaged, as far as can be told."""
    resumed_at: int
    """Frames that an earlier, interrupted run had finished; ``seconds`` and what follows are of this run."""
    seconds: float
    fps: float
    cpu_ms_per_frame: float
    """CPU time of the whole process over all cores, per frame, from the first frame on."""
    first_frame_s: float
    """From the call to the first stylized frame handed to the encoder."""
    stages: dict[str, float]
    """Milliseconds per frame that each stage took on its thread; they overlap. ``join`` is in all."""
    backend: str
    precision: str
    device: str
    style: str
    size: str
    codec: str
    preset: str | None
    streams_copied: list[str]
    streams_dropped: list[dict[str, str]]
    warnings: list[str] = field(default_factory=list)


class CameraFollower:
    """Moves the canvas along with the camera, from the first frame or from a mark.

    Args:
        every: After so many frames, again and again, it notes where the render stands.
        mark: Where an earlier run stood; this one goes on behind that frame, exactly as that one would have.
    """

    def __init__(self, reader: VideoReader, *, every: int, mark: Mark | None = None) -> None:
        self._reader, self._every, self._from = reader, every, mark
        self._marks: dict[int, Mark] = {}
        self.damaged_before = 0
        """Damage that an earlier run found and this one does not meet again."""

    def mark_at(self, frames: int) -> Mark:
        """Return where the render stands after so many frames, a multiple of ``every``; once for each."""
        return self._marks.pop(frames)

    def follow(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Yield the reader's frames, each with its place on the canvas.

        Raises:
            VideoOpenError: The reader decodes to other pictures than the earlier run's.
        """
        from rtstyle.video.journal import Mark
        from rtstyle.video.samples import digest_of

        tracker, count, skip = CanvasTracker(), 0, 0
        if self._from:
            tracker.restore(self._from.canvas)
            count = self._from.frames
            if self._reader.resume_after(self._from.pts, self._from.digest):
                self.damaged_before = self._from.damaged
            else:
                skip = count
        for frame in frames:
            if skip:
                skip -= 1
                if not skip and self._from and digest_of(frame.planes) != self._from.digest:
                    raise VideoOpenError(
                        f"{self._reader.name} decodes to other pictures than when its render was begun: "
                        "--resume cannot go on with it, -y (--overwrite) without it begins anew"
                    )
                continue
            frame = replace(frame, canvas=tracker.offset(frame.planes.y))
            count += 1
            if count % self._every == 0:  # before the frame goes on: whoever ends a segment with it asks for the mark
                damaged = self._reader.damaged + self.damaged_before
                self._marks[count] = Mark(count, frame.pts, digest_of(frame.planes), damaged, tracker.state())
            yield frame


def stylize_video(
    source: Path | str,
    target: Path | str,
    *,
    style: Style | str = "sketch",
    controls: Controls = Controls(),
    backend: BackendChoice = "auto",
    precision: Precision = "auto",
    device: str | None = None,
    encoder: EncoderSettings | None = None,
    size: Size | None = None,
    start: Fraction | None = None,
    end: Fraction | None = None,
    audio: bool = True,
    muxer: str | None = None,
    overwrite: bool = False,
    resume: bool = False,
    timeout: float = 10.0,
    progress: Callable[[int, int | None, str], None] | None = None,
) -> VideoReport:
    """Stylize a video; every other stream is copied, every frame keeps its time.

    Args:
        source: A file, a URL, a folder of pictures, a pattern such as ``%05d.png``, or ``-``, the standard input.
        target: A file, a pattern, or ``-``, the standard output.
        size: Scale to it before stylizing.
        start, end: Seconds on a player's timeline: frames with start <= t < end, and the sound that belongs to them.
        muxer: FFmpeg's name of the container; None: by the ending of ``target``.
        resume: Go on with what an interrupted run of the same settings left beside ``target``, if anything.
        timeout: Seconds for which a network source may send nothing.
        progress: Called on this thread after each frame with frames done, frames in all (None if the
            container does not tell) and the engine's name; it may raise to stop.

    Raises:
        RtstyleError: One of errors.py, before the first frame where that is possible. No output is left, but on
            KeyboardInterrupt the finished part is kept under a stated name, and where segments are finished
            (see ``RenderWriter``) they stay beside ``target`` for ``resume``.
    """
    begun = time.perf_counter()
    timings = Timings()
    with ExitStack() as stack:
        # Held from here: a library that is interrupted while it is imported only looks as if it were missing.
        let_signals_through = stack.enter_context(signals_held())
        from rtstyle.video import EncoderSettings, VideoReader, VideoWriter, check_file_output
        from rtstyle.video.copies import plan_streams
        from rtstyle.video.formats import TURNING, choose_encoding, muxer_of
        from rtstyle.video.journal import Journal, identity_of
        from rtstyle.video.render import RenderWriter, segment_frames
        from rtstyle.video.writer import STDOUT, claim

        target, settings = Path(target), encoder or EncoderSettings()
        loaded = style if isinstance(style, Style) else load_style(style)
        _refuse_same(source, target)
        if muxer or target != STDOUT:
            muxer_of(target, muxer)
        elif resume:
            raise SettingError("an output to - cannot be resumed: write a file")
        reader = stack.enter_context(VideoReader(source, start=start, end=end, size=size, timeout=timeout))
        if target != STDOUT:
            check_file_output(target, overwrite=overwrite)
        let_signals_through()
        container = muxer or (_format_like(reader) if target == STDOUT else None)
        if muxer_of(target, container) not in TURNING:
            reader.turn_upright()
        encoding = choose_encoding(
            target,
            settings,
            reader.size,
            full_range=reader.colour.full_range,
            alpha=reader.alpha,
            muxer=container,
            rate=reader.rate,
        )
        plan = plan_streams(reader.container, reader.stream, encoding.muxer, audio=audio, codec=encoding.codec)
        folder = journal = None
        if encoding.segments and reader.seekable:
            reader.keep_packets = False
            reader.packets.clear()
            folder, journal = claim(target, overwrite=overwrite, resume=resume)
            stack.enter_context(folder)
        elif resume:
            what = "this input" if encoding.segments else f"a {encoding.muxer} output"
            raise SettingError(f"{what} cannot be resumed: it is written straight through; leave --resume out")
        asked: dict[str, Any] = {
            "rtstyle": __version__,
            "input": identity_of(reader.files) if folder else None,
            "style": {"name": loaded.name, "weights": _digest_of(loaded)},
            "strength": [controls.luma, controls.chroma],
            **asdict(settings),
            "streams": plan.copied,
            "range": [str(start), str(end)],
            "size": str(reader.size),
            "frames of a segment": segment_frames(reader.size),
        }
        if journal:
            _refuse_other(journal, asked, target)
            backend, precision = _same_engine(journal, backend, precision, target)
            encoding = replace(encoding, options=journal.settings["options"])
        refuse_too_large(reader.size, memory_available())
        engine = stack.enter_context(
            open_engine(loaded, reader.size, reader.colour, backend=backend, precision=precision, device=device)
        )
        let_signals_through()
        total = reader.frames_expected
        follower = CameraFollower(reader, every=segment_frames(reader.size), mark=journal.mark if journal else None)
        already = done = journal.mark.frames if journal and journal.mark else 0
        first = cpu = 0.0
        decoded = timings.timed("canvas", follower.follow(timings.timed("decode", reader)))
        with Prefetch(decoded, name="decode") as frames:
            styled = timings.timed("engine", engine.stylize(frames, controls))
            if settings.preset == "auto" and not journal:
                encoding, styled = _choose_preset(encoding, reader, styled)
            shape: dict[str, Any] = {
                "size": reader.size, "colour": reader.colour, "time_base": reader.time_base, "rate": reader.rate,
            }  # fmt: skip
            writer: VideoWriter | RenderWriter
            if folder:
                if journal is None:
                    engine_too = {"backend": engine.backend, "precision": engine.precision, "options": encoding.options}
                    journal = Journal(folder, asked | engine_too)
                    journal.begin()
                writer = RenderWriter(folder, journal, encoding, **shape, like=reader, plan=plan, mark=follower.mark_at)
                writer.joining = lambda part: progress and progress(done, total, f"joining, {part:.0%}")
            else:
                writer = VideoWriter(target, encoder=encoding, **shape, like=reader, plan=plan, overwrite=overwrite)
            stack.enter_context(writer)  # left behind the thread that reads
            for frame in styled:
                if done == already:
                    first, cpu = time.perf_counter() - begun, time.process_time()
                started = time.perf_counter()
                writer.write(frame)
                timings.add("encode", time.perf_counter() - started)
                done += 1
                if progress:
                    progress(done, total, f"{engine.backend} {engine.precision}")
                let_signals_through()
        started = time.perf_counter()
        writer.close()
        timings.add("join", time.perf_counter() - started)
    seconds = time.perf_counter() - begun
    fresh = done - already
    damaged = reader.damaged + follower.damaged_before
    warnings = [*reader.notes, *writer.warnings]
    if damaged:
        warnings.append(f"{reader.name} is damaged: about {damaged} of its pictures are missing or faulty")
    stages = timings.milliseconds()
    stages["canvas"] = round(stages.get("canvas", 0.0) - stages.get("decode", 0.0), 3)
    return VideoReport(
        input=str(source),
        output=str(target),
        frames_in=done,
        frames_out=writer.written,
        dropped=damaged,
        resumed_at=already,
        seconds=round(seconds, 3),
        fps=round(fresh / seconds, 2),
        cpu_ms_per_frame=round(1000 * (time.process_time() - cpu) / max(1, fresh - 1), 2),
        first_frame_s=round(first, 3),
        stages=stages,
        backend=engine.backend,
        precision=engine.precision,
        device=engine.device,
        style=loaded.name,
        size=str(reader.size),
        codec=encoding.codec,
        preset=encoding.options.get("preset"),
        streams_copied=writer.copied,
        streams_dropped=writer.dropped,
        warnings=warnings,
    )


def _refuse_same(source: Path | str, target: Path) -> None:
    path = Path(source)
    with suppress(OSError):
        if path.exists() and target.exists() and path.samefile(target):
            raise SettingError(f"input and output are the same file: {source}")


_MEMORY_BASE, _MEMORY_PER_PIXEL, _MEMORY_PER_PIXEL_AND_CORE = 350e6, 50, 25
"""Bytes; from peaks of whole renders by OpenVINO in bf16 on two cores: 403 MB at 720p, 538 at 1080p, 1174 at 2160p and
3439 at 4320p. In f32 it was a quarter more."""


def refuse_too_large(size: Size, available: int | None) -> None:
    """Predict a render's memory, and refuse it if the machine lacks it, before hours are spent.

    Args:
        available: Bytes; None where the system does not tell.

    Raises:
        SettingError: It is predicted to need more.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    needed = _MEMORY_BASE + size.width * size.height * (_MEMORY_PER_PIXEL + _MEMORY_PER_PIXEL_AND_CORE * cores)
    if available is not None and needed > available:
        raise SettingError(
            f"{size} needs about {needed / 1e9:.1f} GB of memory, and {available / 1e9:.1f} GB are free: "
            "close other programs, or scale with --size"
        )


def memory_available() -> int | None:
    """Return the bytes that a new program may take without the system swapping; None where it does not tell."""
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1])
    return None


def _format_like(reader: VideoReader) -> str:
    """Choose the container of the standard output: the input's own, if it can go through a pipe, else Matroska."""
    name = reader.container.format.name
    return name if name in ("yuv4mpegpipe", "mpegts", "nut") else "matroska"


def _digest_of(style: Style) -> str:
    """Return what tells a style's weights from others."""
    digest = blake2b(digest_size=16)
    for folder, share in style.folders:
        digest.update((folder / "trunk.onnx").read_bytes())
        digest.update(str(share).encode())
    return digest.hexdigest()


def _refuse_other(journal: Journal, asked: dict[str, Any], target: Path) -> None:
    """Compare what is asked with what an interrupted render was made with."""
    for name, now in json.loads(json.dumps(asked)).items():
        then = journal.settings.get(name)
        if then != now:
            raise SettingError(
                f"cannot resume {target}: {name} was {json.dumps(then)} and is {json.dumps(now)} now; "
                "give the same again, or -y (--overwrite) without --resume to begin anew"
            )


def _same_engine(
    journal: Journal, backend: BackendChoice, precision: Precision, target: Path
) -> tuple[BackendChoice, Precision]:
    """Return the engine that an interrupted render was made with: another one gives other pictures."""
    had: tuple[BackendChoice, Precision] = journal.settings["backend"], journal.settings["precision"]
    for asked, then in zip((backend, precision), had, strict=True):
        if asked not in ("auto", then):
            raise SettingError(f"cannot resume {target} with {asked}: it was begun with {' '.join(had)}")
    return had


def _choose_preset(
    encoding: Encoding, reader: VideoReader, styled: Iterator[Frame]
) -> tuple[Encoding, Iterator[Frame]]:
    """Choose the encoder's preset by what the first second leaves of the CPU; return the frames whole again."""
    from rtstyle.video.encoder import choose_preset

    sample = list(islice(styled, 1))
    wall, cpu = time.perf_counter(), time.process_time()
    sample += islice(styled, 23)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    idle = (os.cpu_count() or 1) * wall - cpu
    # Where nothing is idle, encoding may take a tenth of the time.
    budget = 1000 * max(idle, 0.1 * cpu) / max(1, len(sample) - 1)
    time.sleep(0.1)  # lets the frames that are in flight finish, so that they are not measured
    return choose_preset(encoding, reader.size, reader.colour, sample, budget), chain(sample, styled)

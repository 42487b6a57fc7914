"""Put the pieces together for a file: reader -> engine -> writer. live.py has the live loop."""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from rtstyle.backends import BackendChoice, Controls, Precision, open_engine
from rtstyle.canvas import CanvasTracker
from rtstyle.errors import SettingError
from rtstyle.frame import Frame
from rtstyle.style import Style, load_style

if TYPE_CHECKING:
    from rtstyle.video import EncoderSettings

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
    seconds: float
    fps: float
    cpu_ms_per_frame: float
    """CPU time of the whole process over all cores, per frame, from the first frame on."""
    first_frame_s: float
    """From the call to the first stylized frame handed to the encoder."""
    stages: dict[str, float]
    """Milliseconds per frame that each stage took on its thread; they overlap."""
    backend: str
    precision: str
    device: str
    style: str
    size: str
    streams_copied: list[str]
    streams_dropped: list[dict[str, str]]
    warnings: list[str] = field(default_factory=list)


def follow_camera(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Yield frames with the canvas moved along with the camera."""
    tracker = CanvasTracker()
    for frame in frames:
        yield replace(frame, canvas=tracker.offset(frame.planes.y))


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
    audio: bool = True,
    overwrite: bool = False,
    progress: Callable[[int, int | None, str], None] | None = None,
) -> VideoReport:
    """Stylize a video file; every other stream is copied, every frame keeps its time.

    Args:
        progress: Called on this thread after each frame with frames done, frames in all (None if the
            container does not tell) and the engine's name; it may raise to stop.

    Raises:
        RtstyleError: One of errors.py, before the first frame where that is possible. No output is left,
            but on KeyboardInterrupt the finished part is kept under a stated name (see ``VideoWriter``).
    """
    begun = time.perf_counter()
    timings = Timings()
    with ExitStack() as stack:
        # Held from here: a library that is interrupted while it is imported only looks as if it were missing.
        let_signals_through = stack.enter_context(signals_held())
        from rtstyle.video import EncoderSettings, VideoReader, VideoWriter, check_output

        source, target = Path(source), Path(target)
        loaded = style if isinstance(style, Style) else load_style(style)
        if source.exists() and target.exists() and source.samefile(target):
            raise SettingError(f"input and output are the same file: {source}")
        if source.exists():
            check_output(target, overwrite=overwrite)
        reader = stack.enter_context(VideoReader(source))
        let_signals_through()
        engine = stack.enter_context(
            open_engine(loaded, reader.size, reader.colour, backend=backend, precision=precision, device=device)
        )
        let_signals_through()
        writer = stack.enter_context(
            VideoWriter(
                target,
                size=reader.size,
                colour=reader.colour,
                time_base=reader.time_base,
                rate=reader.rate,
                encoder=encoder or EncoderSettings(),
                like=reader,
                audio=audio,
                overwrite=overwrite,
            )
        )
        total = reader.frames_expected
        label = f"{engine.backend} {engine.precision}"
        decoded = timings.timed("canvas", follow_camera(timings.timed("decode", reader)))
        with Prefetch(decoded, name="decode") as frames:
            done, first, cpu = 0, 0.0, 0.0
            for frame in timings.timed("engine", engine.stylize(frames, controls)):
                if not done:
                    first, cpu = time.perf_counter() - begun, time.process_time()
                started = time.perf_counter()
                writer.write(frame)
                timings.add("encode", time.perf_counter() - started)
                done += 1
                if progress:
                    progress(done, total, label)
                let_signals_through()
    seconds = time.perf_counter() - begun
    warnings = [*reader.notes, *writer.warnings]
    if reader.damaged:
        warnings.append(f"{source.name} is damaged: about {reader.damaged} of its pictures are missing or faulty")
    stages = timings.milliseconds()
    stages["canvas"] = round(stages["canvas"] - stages["decode"], 3)
    return VideoReport(
        input=str(source),
        output=str(target),
        frames_in=done,
        frames_out=writer.written,
        dropped=reader.damaged,
        seconds=round(seconds, 3),
        fps=round(done / seconds, 2),
        cpu_ms_per_frame=round(1000 * (time.process_time() - cpu) / max(1, done - 1), 2),
        first_frame_s=round(first, 3),
        stages=stages,
        backend=engine.backend,
        precision=engine.precision,
        device=engine.device,
        style=loaded.name,
        size=str(reader.size),
        streams_copied=writer.copied,
        streams_dropped=writer.dropped,
        warnings=warnings,
    )

"""stylize_live: a live source, stylized, in a window and in a file, with the least delay.

A thread reads the source and keeps its newest frame only; the calling thread stylizes that one, shows
it and records it. So a slow machine shows fewer frames, never older ones.
"""

from __future__ import annotations

import signal
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np

from rtstyle.backends import BackendChoice, Controls, Engine, Precision, open_engine
from rtstyle.camera import Captured, LiveSource, mirrored, open_source
from rtstyle.canvas import CanvasTracker
from rtstyle.errors import DisplayError, PictureError, SettingError, VideoWriteError
from rtstyle.frame import Colour, Frame, Planes, Size, planes_to_rgb
from rtstyle.style import list_styles, load_style
from rtstyle.video import EncoderSettings, VideoWriter, check_output
from rtstyle.window import KEYS_HELP, Action, Window, has_display

Preview = Literal["auto", "window", "none"]

STRENGTH_STEP = 0.1
"""What one press of + or - adds to the strength or takes away."""

_TICK = 0.03
"""Seconds between two looks at the keys while no frame comes."""

_CLOCK = Fraction(1, 90000)
"""Time base of recordings."""


@dataclass(frozen=True)
class LiveReport:
    """What a live session did; ``dataclasses.asdict`` gives what JSON takes."""

    captured: int
    """Frames that the source gave: shown + dropped + held + at most one that was left at the end."""
    shown: int
    """Frames that were stylized and handed on."""
    dropped: int
    """Frames that a newer one replaced before their turn came."""
    held: int
    """Frames that went by while the picture was paused."""
    seconds: float
    """From the first look for a frame to the end."""
    fps: float
    """Frames shown per second, between the first and the last."""
    latency_ms: dict[str, float]
    """Milliseconds from a frame's arrival in this process to the moment at which the stylized one is
    handed to window and recording: ``p50``, ``p95``, ``p99``; empty where no frame was shown."""
    backend: str
    precision: str
    device: str
    style: str
    """The style in use at the end."""
    size: str
    """Width and height of the picture, as ``1280x720``."""
    warnings: list[str] = field(default_factory=list)


def stylize_live(
    source: str | int,
    *,
    style: str = "sketch",
    controls: Controls = Controls(),
    size: Size | None = None,
    fps: Fraction | None = None,
    backend: BackendChoice = "auto",
    precision: Precision = "auto",
    device: str | None = None,
    preview: Preview = "auto",
    record: Path | None = None,
    encoder: EncoderSettings = EncoderSettings(),
    overwrite: bool = False,
    mirror: bool = False,
    frames: int | None = None,
    seconds: float | None = None,
    timeout: float = 5.0,
    say: Callable[[str], None] | None = None,
) -> LiveReport:
    """Stylize a live source until it ends, the person quits, or a limit is reached.

    Runs in the calling thread, which must be the main one where a window is shown on macOS; no thread is
    left when it returns or raises. With a window, keys act (``window.KEYS_HELP``). Ctrl-C, in the main
    thread, ends the session between two frames: then KeyboardInterrupt is raised. Whatever ends it,
    what was recorded until then is finished and gets its name, except where writing itself failed.

    Args:
        source: A camera number or device, a URL, or a file that is played at its own pace.
        style: What ``load_style`` takes.
        size: Asked of a camera; pictures of a URL or file are scaled to it.
        fps: Frames per second that a camera is asked for.
        preview: ``auto`` opens a window where a display is.
        record: A .mp4 or .mkv to write; frames are shown in it at the moments at which they came.
        mirror: True exchanges left and right; the key m turns it.
        frames: End after this many shown frames.
        seconds: End after this time.
        timeout: Seconds that the source may take to open, and for each frame.
        say: Takes lines for people, such as which camera mode and backend are used.

    Raises:
        SettingError: Settings are out of range; or there is neither window, recording nor limit.
        DisplayError: A window was asked for and there is no display.
        CameraError, SourceStalledError, VideoOpenError: The source is absent, stalled, or went away.
        StyleNotFoundError, StyleFormatError, BackendUnavailableError: The style cannot be run.
        OutputExistsError, VideoWriteError: The recording cannot be written.
    """
    tell = say or (lambda line: None)
    for name, value in (("frames", frames), ("seconds", seconds)):
        if value is not None and value <= 0:
            raise SettingError(f"{name} must be above 0, got {value}")
    load_style(style)
    if record is not None:
        record = Path(record)
        if record.exists() and Path(str(source)).exists() and record.samefile(str(source)):
            raise SettingError(f"source and recording are the same file: {record}")
        check_output(record, overwrite=overwrite)
    windowed = _wants_window(preview, bool(record or frames or seconds))

    with ExitStack() as stack:
        camera = stack.enter_context(open_source(source, size=size, fps=fps, timeout=timeout))
        rate = f"{float(camera.rate):.4g} frames per second" if camera.rate else "unknown frame rate"
        tell(f"{camera.name}: {camera.size}, {rate}")
        for note in camera.notes:
            tell(note)
        newest = stack.enter_context(Newest(camera))
        if not camera.paced:
            newest.start()  # a camera is emptied while the engine is made, so that nothing old waits in it

        def make(name: str) -> Engine:
            return _warm_engine(name, camera.size, camera.colour, backend, precision, device)

        styles = stack.enter_context(_Styles(style, make))
        engine = styles.engine
        tell(f"{style}: {engine.backend} {engine.precision} on {engine.device}")
        window = stack.enter_context(Window(camera.size, title=f"rtstyle: {style}")) if windowed else None
        if window:
            tell("keys: " + "; ".join(KEYS_HELP))
        ctrl_c = stack.enter_context(_deferred_interrupt())
        warnings = list(camera.notes)
        recorder = None
        if record is not None:
            writer = VideoWriter(
                record,
                size=camera.size,
                colour=camera.colour,
                time_base=_CLOCK,
                rate=camera.rate if camera.rate and 1 <= camera.rate <= 240 else None,
                encoder=encoder,
                overwrite=overwrite,
            )
            recorder = stack.enter_context(_Recorder(writer, tell))
            warnings += writer.warnings
        newest.begin()
        session = _Session(newest, styles, window, recorder, tell, controls, mirror)
        try:
            session.run(frames, seconds, ctrl_c)
        finally:
            if camera.damaged:
                session.warn(f"{camera.damaged} damaged packets of {camera.name} were left out")
        if ctrl_c.is_set():
            raise KeyboardInterrupt
        return session.report(warnings)


def _wants_window(preview: Preview, ends: bool) -> bool:
    """Decide on the window before anything is opened."""
    if preview == "window" and not has_display():
        raise DisplayError(
            "a window was asked for, and there is no display here; use --preview none with a recording or a limit"
        )
    windowed = preview == "window" or (preview == "auto" and has_display())
    if not windowed and not ends:
        why = "there is no display for a window" if preview == "auto" else "preview is none"
        raise SettingError(f"nothing to do: {why}, and neither record, frames nor seconds is given")
    return windowed


def _warm_engine(
    style: str, size: Size, colour: Colour, backend: BackendChoice, precision: Precision, device: str | None
) -> Engine:
    """Open an engine for live use and run it once: the first frame is always slow."""
    engine = open_engine(style, size, colour, backend=backend, precision=precision, mode="latency", device=device)
    try:
        luma = np.full((size.height, size.width), 128, np.uint8)
        chroma = np.full((size.chroma.height, size.chroma.width), 128, np.uint8)
        engine.submit(Frame(Planes(luma, chroma, chroma), 0, _CLOCK, colour))
        engine.next()
    except BaseException:
        engine.close()
        raise
    return engine


@contextmanager
def _deferred_interrupt() -> Iterator[threading.Event]:
    """Turn Ctrl-C into an event, so that no frame and no file is cut in two; a second Ctrl-C interrupts at once."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed
        return

    def press(number: int, frame: object) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    before = signal.signal(signal.SIGINT, press)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


# -- The newest frame ----------------------------------------------------------------------------


class Newest:
    """Reads a live source in a thread and keeps its newest frame only. A context manager.

    Frames get their place on the canvas here, where none is missing. Leaving joins the thread: at once
    for a file, with its next frame or after its timeout for a camera.
    """

    def __init__(self, source: LiveSource) -> None:
        self.captured = 0
        """Frames that came since ``begin``."""
        self.dropped = 0
        """Frames among them that a newer one replaced."""
        self._source = source
        self._slot: Captured | None = None
        self._ended = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, name="newest frame", daemon=True)
        self._started = False

    def start(self) -> None:
        """Start to read the source."""
        if not self._started:
            self._started = True
            self._thread.start()

    def begin(self) -> None:
        """Start if that is still to do, forget what came before, and count from here."""
        with self._changed:
            self.captured = self.dropped = 0
            self._slot = None
        self.start()

    def take(self, timeout: float) -> Captured | None:
        """Take the newest frame out; wait for one for at most ``timeout`` seconds, None if none came.

        Raises:
            RtstyleError: What ended the source, after its last frame was taken.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._slot or self._error, timeout)
            captured, self._slot = self._slot, None
            if captured is None and self._error:
                raise self._error
            return captured

    @property
    def ended(self) -> bool:
        """True when the source has come to its end and its last frame was taken; not after an error, which
        ``take`` raises."""
        with self._changed:
            return self._ended and self._slot is None and self._error is None

    def _read(self) -> None:
        error: BaseException | None = None
        tracker = CanvasTracker()
        try:
            for captured in self._source.captures():
                frame = replace(captured.frame, canvas=tracker.offset(captured.frame.planes.y))
                with self._changed:
                    self.captured += 1
                    self.dropped += self._slot is not None
                    self._slot = Captured(frame, captured.at)
                    self._changed.notify()
        except BaseException as reason:  # raised in the caller, by take()
            error = reason
        with self._changed:
            self._error = error
            self._ended = True
            self._changed.notify()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._source.stop()
        if self._started:
            self._thread.join()


# -- Styles that change while it runs --------------------------------------------------------------


class _Styles:
    """The engine in use; another style's is made in a thread and takes its place when it is ready."""

    def __init__(self, style: str, make: Callable[[str], Engine]) -> None:
        self.style = style
        self._names = [style, *(name for name in list_styles() if name != style)]
        self._wanted = style
        self._making = ""
        self._make = make
        self._pending: Future[Engine] | None = None
        self.engine = make(style)
        self._pool = ThreadPoolExecutor(1, "style")

    def step(self, by: int) -> str:
        """Ask for the style that is ``by`` places further; return a line about it for people."""
        if len(self._names) == 1:
            return f"there is no other style than {self.style}"
        self._wanted = self._names[(self._names.index(self._wanted) + by) % len(self._names)]
        return f"loading {self._wanted} ..."

    def swap(self) -> bool:
        """Between two frames: put a finished engine in place, start to make one that is wanted. True if it changed.

        Raises:
            StyleFormatError, BackendUnavailableError: The wanted style cannot be run.
        """
        changed = False
        if self._pending and self._pending.done():
            made, self._pending = self._pending.result(), None
            if self._making == self._wanted:
                self.engine.close()
                self.engine, self.style, changed = made, self._making, True
            else:
                made.close()  # asked for another one meanwhile
        if not self._pending and self._wanted != self.style:
            self._making = self._wanted
            self._pending = self._pool.submit(self._make, self._making)
        return changed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._pending and not self._pending.cancelled() and not self._pending.exception():
            self._pending.result().close()
        self.engine.close()


# -- Recording -----------------------------------------------------------------------------------


class _Recorder:
    """Writes stylized frames at the moments at which their sources came, into a file that survives any end."""

    def __init__(self, writer: VideoWriter, tell: Callable[[str], None]) -> None:
        self._writer = writer
        self._tell = tell
        self._begin: float | None = None
        self._last = -1

    def write(self, frame: Frame, at: float) -> None:
        """Record a frame that came at ``at``, in seconds of ``time.perf_counter()``."""
        if self._begin is None:
            self._begin = at
        self._last = max(round((at - self._begin) / _CLOCK), self._last + 1)
        self._writer.write(replace(frame, pts=self._last, time_base=_CLOCK))

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What happened before the camera does not happen again: whatever ended the session, keep it.
        if self._last >= 0 and not isinstance(error, VideoWriteError):
            self._writer.close()
            length = float(self._last * _CLOCK)
            self._tell(f"recorded {self._writer.path}: {self._writer.written} frames, {length:.1f} s")
        else:
            self._writer.__exit__(kind or VideoWriteError, error, trace)  # an empty file is of no use
            self._tell(f"nothing was recorded to {self._writer.path}")


# -- Snapshots -----------------------------------------------------------------------------------


def save_snapshot(frame: Frame, folder: Path) -> Path:
    """Write a frame as ``rtstyle-0001.png`` or the next number that is free, and return its path.

    Raises:
        PictureError: The folder cannot be written.
    """
    import cv2

    ok, png = cv2.imencode(".png", np.ascontiguousarray(planes_to_rgb(frame.planes, frame.colour)[..., ::-1]))
    assert ok, "cv2 cannot encode PNG"
    for number in range(1, 10000):
        path = folder / f"rtstyle-{number:04d}.png"
        try:
            with path.open("xb") as file:
                file.write(png.tobytes())
        except FileExistsError:
            continue
        except OSError as error:
            with suppress(OSError):
                path.unlink(missing_ok=True)  # half of it may have been written
            raise PictureError(f"cannot save a snapshot: {path}: {error.strerror}") from error
        return path
    raise PictureError(f"cannot save a snapshot: {folder} holds 9999 of them")


# -- The session ---------------------------------------------------------------------------------


class _Session:
    """The loop over frames and keys, and its figures."""

    def __init__(
        self,
        newest: Newest,
        styles: _Styles,
        window: Window | None,
        recorder: _Recorder | None,
        tell: Callable[[str], None],
        controls: Controls,
        mirror: bool,
    ) -> None:
        self._newest, self._styles, self._window, self._recorder = newest, styles, window, recorder
        self._tell = tell
        self._controls, self._mirror = controls, mirror
        self._keeps_colours = controls.chroma == 0 < controls.luma
        self._quit = self._paused = self._help = False
        self._figures = True
        self._source: Frame | None = None  # the last frame that was taken, and what it became
        self._stylized: Frame | None = None
        self._latencies = array("d")
        self._shown = self._held = 0
        self._begin = time.perf_counter()
        self._first = self._last = self._begin
        self._meter = _Meter()
        self._message: tuple[str, float] = ("", 0.0)
        self._warnings: list[str] = []

    def run(self, frames: int | None, seconds: float | None, stop: threading.Event) -> None:
        """Stylize and show until something says that it is enough."""
        while not (self._quit or stop.is_set() or (self._newest.ended and not self._paused)):
            if seconds is not None and time.perf_counter() - self._begin >= seconds:
                return
            captured = self._newest.take(_TICK)
            changed = self._obey() | self._swap()
            if captured and not self._paused:
                self._show(captured)
                if self._shown == frames:
                    return
                continue
            self._held += captured is not None
            if self._window and changed and self._source:
                self._stylized = self._stylize(self._source)
                self._window.write(self._stylized)
            if self._window and self._renew_text():
                self._window.redraw()

    def _stylize(self, frame: Frame) -> Frame:
        engine = self._styles.engine
        engine.submit(mirrored(frame) if self._mirror else frame, self._controls)
        return engine.next()

    def _show(self, captured: Captured) -> None:
        self._source = captured.frame
        self._stylized = self._stylize(captured.frame)
        self._last = time.perf_counter()
        if not self._shown:
            self._first = self._last
        self._latencies.append(1000 * (self._last - captured.at))
        self._shown += 1
        if self._window:
            self._renew_text()
            self._window.write(self._stylized)
        if self._recorder:
            self._recorder.write(self._stylized, captured.at)

    # -- keys

    def _swap(self) -> bool:
        """Change over to a style that has become ready. True if one has."""
        swapped = self._styles.swap()
        if swapped:
            self._note(f"style {self._styles.style}")
            self._tell(f"style {self._styles.style}")
        return swapped

    def _obey(self) -> bool:
        """Do what the keys ask. True if the picture changes by it."""
        changed = False
        for action in self._window.poll() if self._window else []:
            changed |= self._do(action)
        return changed

    def _do(self, action: Action) -> bool:
        match action:
            case Action.QUIT:
                self._quit = True
            case Action.PAUSE:
                self._paused = not self._paused
            case Action.NEXT_STYLE | Action.PREVIOUS_STYLE:
                self._note(self._styles.step(1 if action is Action.NEXT_STYLE else -1))
            case Action.STRONGER | Action.WEAKER:
                self._strengthen(STRENGTH_STEP if action is Action.STRONGER else -STRENGTH_STEP)
                return True
            case Action.MIRROR:
                self._mirror = not self._mirror
                return True
            case Action.SNAPSHOT:
                self._snapshot()
            case Action.HUD:
                self._figures = not self._figures
            case Action.HELP:
                self._help = not self._help
        return False

    def _strengthen(self, by: float) -> None:
        def moved(value: float) -> float:
            return min(max(round(value + by, 2), 0.0), 2.0)

        luma, chroma = self._controls.luma, self._controls.chroma
        self._controls = Controls(moved(luma), 0.0 if self._keeps_colours else moved(chroma))

    def _snapshot(self) -> None:
        if self._stylized is None:
            return
        try:
            path = save_snapshot(self._stylized, Path.cwd())
        except PictureError as error:
            # The session goes on: what may be being recorded is worth more than the snapshot.
            self.warn(str(error))
            return
        self._note(f"saved {path.name}")
        self._tell(f"saved {path}")

    # -- words and figures

    def warn(self, line: str) -> None:
        """Keep a warning for the report, say it, and show it for a while."""
        self._warnings.append(line)
        self._note(line)
        self._tell(line)

    def _note(self, line: str) -> None:
        self._message = (line, time.perf_counter() + 3)

    def _renew_text(self) -> bool:
        """Bring the words in the window up to date. True if they changed."""
        assert self._window
        before = self._window.text
        self._meter.renew(self._newest.captured, self._shown, self._newest.dropped, self._latencies)
        self._window.text = self._text()
        self._window.title = f"rtstyle: {self._styles.style}"
        return self._window.text != before

    def _text(self) -> list[str]:
        lines: list[str] = []
        engine = self._styles.engine
        if self._figures:
            kept = ", colours kept" if self._keeps_colours else ""
            lines += [
                f"{self._styles.style}   strength {self._controls.luma:.1f}{kept}",
                self._meter.line,
                f"{engine.backend} {engine.precision}, {engine.size}   ? for keys",
            ]
        if self._help:
            lines += KEYS_HELP
        if self._paused:
            lines.append("paused; space goes on")
        if time.perf_counter() < self._message[1]:
            lines.append(self._message[0])
        return [line for line in lines if line]

    def report(self, warnings: list[str]) -> LiveReport:
        """Sum up; ``warnings`` are what was known before the session."""
        percentiles = {}
        if self._latencies:
            values = np.percentile(np.frombuffer(self._latencies), (50, 95, 99))
            percentiles = {f"p{p}": round(float(v), 2) for p, v in zip((50, 95, 99), values, strict=True)}
        engine = self._styles.engine
        between = self._last - self._first
        return LiveReport(
            captured=self._newest.captured,
            shown=self._shown,
            dropped=self._newest.dropped,
            held=self._held,
            seconds=round(time.perf_counter() - self._begin, 3),
            fps=round((self._shown - 1) / between, 2) if between > 0 else 0.0,
            latency_ms=percentiles,
            backend=engine.backend,
            precision=engine.precision,
            device=engine.device,
            style=self._styles.style,
            size=str(engine.size),
            warnings=[*warnings, *self._warnings],
        )


class _Meter:
    """The line of figures; renewed twice a second, so that it can be read."""

    def __init__(self) -> None:
        self.line = ""
        self._at = time.perf_counter()
        self._captured = self._shown = 0

    def renew(self, captured: int, shown: int, dropped: int, latencies: array[float]) -> None:
        now = time.perf_counter()
        span = now - self._at
        if span < 0.5:
            return
        came, went = (captured - self._captured) / span, (shown - self._shown) / span
        latest = sorted(latencies[-30:]) or [0.0]
        latency = latest[len(latest) // 2]
        self.line = f"in {came:.1f}  out {went:.1f} fps   latency {latency:.0f} ms   dropped {dropped}"
        self._at, self._captured, self._shown = now, captured, shown

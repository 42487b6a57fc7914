"""stylize_live: a live source, stylized, in a window and in a file, with the least delay.

A thread reads the source and keeps its newest frame only; the calling thread stylizes that one, shows
it and records it. So a slow machine shows fewer frames, never older ones.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Literal

from rtstyle.backends import BackendChoice, Controls, Engine, Precision
from rtstyle.camera import open_source
from rtstyle.errors import DisplayError, SettingError
from rtstyle.frame import Size
from rtstyle.live.newest import Newest
from rtstyle.live.outlets import CLOCK, Recorder
from rtstyle.live.session import LiveReport, Session
from rtstyle.live.styles import Styles, warm_engine
from rtstyle.style import load_style
from rtstyle.video import EncoderSettings, VideoWriter, check_output
from rtstyle.window import KEYS_HELP, Window, has_display

__all__ = ["LiveReport", "Newest", "Preview", "stylize_live"]

Preview = Literal["auto", "window", "none"]


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
            return warm_engine(name, camera.size, camera.colour, backend, precision, device)

        styles = stack.enter_context(Styles(style, make))
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
                time_base=CLOCK,
                rate=camera.rate if camera.rate and 1 <= camera.rate <= 240 else None,
                encoder=encoder,
                overwrite=overwrite,
            )
            recorder = stack.enter_context(Recorder(writer, tell))
            warnings += writer.warnings
        newest.begin()
        session = Session(newest, styles, window, recorder, tell, controls, mirror)
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

"""stylize_live: a live source, stylized, in a window and in a file, with the least delay.

A thread reads the source and keeps its newest frame only; the calling thread stylizes that one, shows
it and records it. So a slow machine shows fewer frames, never older ones.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

from rtstyle.backends import Controls, Engine, EngineSettings, open_for
from rtstyle.camera import LiveSource, open_source
from rtstyle.contract import check_source
from rtstyle.errors import DisplayError, SettingError, check_seconds
from rtstyle.frame import FrameSource, Size, VideoFormat
from rtstyle.live.figures import LiveReport
from rtstyle.live.newest import Newest
from rtstyle.live.outlets import CLOCK, Outlets
from rtstyle.live.outputs import OutputPlan, Outputs
from rtstyle.live.own import OwnSource
from rtstyle.live.pace import Pace, Working, ladder
from rtstyle.live.pictures import free_name
from rtstyle.live.recording import Recording
from rtstyle.live.session import RECORDING, Session
from rtstyle.live.sound import Microphone
from rtstyle.live.styles import Styles
from rtstyle.style import SizeClass, load_style
from rtstyle.video import EncoderSettings, VideoWriter, check_output
from rtstyle.video.formats import muxer_of
from rtstyle.video.sound import sound_codec
from rtstyle.web import check_packages
from rtstyle.web.address import Address
from rtstyle.window import KEYS_HELP, Window, has_display

__all__ = ["LiveInterrupted", "LiveReport", "Newest", "Outputs", "Preview", "stylize_live"]

Preview = Literal["auto", "window", "browser", "none"]

_PATIENCE = 10.0
"""Seconds that a camera is waited for where frames are counted."""


def stylize_live(
    source: str | int | FrameSource,
    *,
    style: str = "sketch",
    controls: Controls = Controls(),
    size: Size | None = None,
    fps: Fraction | None = None,
    engine: EngineSettings = EngineSettings(),
    preview: Preview = "auto",
    address: Address = Address(),
    record: Path | None = None,
    encoder: EncoderSettings = EncoderSettings(),
    outputs: Outputs = Outputs(),
    overwrite: bool = False,
    mirror: bool = False,
    hold: bool = True,
    target_fps: float | None = None,
    frames: int | None = None,
    seconds: float | None = None,
    timeout: float = 5.0,
    wait: float | None = None,
    loop: bool | None = None,
    playlists: bool = False,
    say: Callable[[str], None] | None = None,
) -> LiveReport:
    """Stylize a live source until it ends, the person quits, or a limit is reached.

    Runs in the calling thread, which must be the main one where a window is shown on macOS; no thread is
    left when it returns or raises. With a window, keys act (``window.KEYS_HELP``). Ctrl-C, in the main
    thread, ends the session between two frames: then KeyboardInterrupt is raised. Whatever ends it,
    what was recorded until then is finished and gets its name, except where writing itself failed.

    Args:
        source: A camera number, device or name, the screen, a URL, a pipe, or files that are played at their own pace;
            see ``open_source``. Or a ``FrameSource`` of your own: ``size``, ``fps``, ``wait`` and ``loop`` are ignored,
            and it must yield, or raise, every few seconds.
        style: What ``load_style`` takes.
        size: Asked of a camera or the screen; other pictures are fitted into it.
        engine: Backend, precision, device, size of the network and size of strokes. The network ``auto`` is the default
            one, and the fast one where this machine would drop frames.
        fps: Frames per second that a camera is asked for, or at which pictures of a folder follow each other.
        preview: ``auto`` opens a window where a display is; ``browser`` serves a page and ``/stream.mjpg``.
        address: Where the page is served.
        record: A .mp4 or .mkv to write; frames are shown in it at the moments at which they came.
        outputs: Virtual camera, streams, sinks of your own, and the microphone whose sound goes with stream and
            recording.
        mirror: True exchanges left and right; the key m turns it.
        hold: Whether what stands still is held before it is stylized, so that sensor noise does not shimmer; the key
            o turns it. See ``hold.Hold``.
        target_fps: Frames per second to be reached: where this machine is too slow, pictures are stylized by a smaller
            network, then in a smaller size, and shown and recorded in their own. See ``pace.Pace``.
        frames: End after this many shown frames.
        seconds: End after this time.
        timeout: Seconds that the source may take to open, and for each frame.
        wait: Seconds that a camera is waited for that went away or stalled; 0 is not at all, None for ever, or
            10 s where ``frames`` are to be counted, which would never be reached.
        loop: Whether files begin again at their end; None: pictures do, a video does not.
        playlists: Whether a playlist may lead to any file or host, see ``video.opening``.
        say: Takes lines for people, such as which camera mode and backend are used.

    Raises:
        SettingError: Settings are out of range; or there is neither window, recording nor limit.
        DisplayError: A window was asked for and there is no display.
        CameraError, SourceStalledError, VideoOpenError: The source is absent, stalled, or went away.
        StyleNotFoundError, StyleFormatError, BackendUnavailableError: The style cannot be run.
        ServerError: The page cannot be served.
        OutputExistsError, VideoWriteError: The recording cannot be written, or the virtual camera.
        LiveInterrupted: Ctrl-C was pressed once; recordings are whole, ``report`` says what was done.
    """
    tell = say or (lambda line: None)
    for name, value in (("frames", frames), ("seconds", seconds), ("target_fps", target_fps)):
        if value is not None and not 0 < value < 1e9:
            raise SettingError(f"{name} must be above 0, got {value}")
    check_seconds("a timeout", timeout)
    drawn = load_style(style, engine.size_class)
    if record is not None:
        record = Path(record)
        if isinstance(source, str) and record.exists() and Path(source).exists() and record.samefile(source):
            raise SettingError(f"source and recording are the same file: {record}")
        check_output(record, overwrite=overwrite)
        if outputs.microphone is not None:
            sound_codec(muxer_of(record), str(record))
    plan = OutputPlan(outputs, overwrite=overwrite, timeout=timeout)
    windowed = _wants_window(preview, bool(record or outputs or frames or seconds))
    if outputs.microphone is not None and not (windowed or record or outputs.urls):
        raise SettingError("a microphone was asked for, and there is neither a recording nor an output for its sound")

    with ExitStack() as stack:
        wait = _PATIENCE if wait is None and frames else wait
        camera: LiveSource | OwnSource
        if isinstance(source, str | int | os.PathLike):
            camera = open_source(
                source, size=size, fps=fps, timeout=timeout, wait=wait, loop=loop, tell=tell, playlists=playlists
            )
        else:
            camera = OwnSource(check_source(source))
        stack.enter_context(camera)
        rate = f"{float(camera.rate):.4g} frames per second" if camera.rate else "unknown frame rate"
        tell(f"{camera.name}: {camera.size}, {rate}, {camera.format}")
        for note in camera.notes:
            tell(note)
        newest = stack.enter_context(Newest(camera))
        if not camera.paced:
            newest.start()  # a camera is emptied while the engine is made, so that nothing old waits in it

        def make(name: str, working: Working) -> Engine:
            loaded = load_style(name)
            settings = engine
            if engine.size_class != "auto" or working.size_class in loaded.size_classes:
                settings = replace(engine, size_class=working.size_class)
            else:
                tell(f"{name} has no {working.size_class} network: its default one draws it")
            return open_for(loaded, camera.size, camera.colour, settings, live=True, working=working.size)

        classes: list[SizeClass] = [drawn.size_class]
        if engine.size_class == "auto" and "fast" in drawn.size_classes:
            classes.append("fast")
        rungs = ladder(engine.working_size(camera.size, live=True), classes, smaller=target_fps is not None)
        rate_wanted = target_fps or camera.rate
        styles = stack.enter_context(Styles(style, rungs[0], make))
        tell(f"{style}: {styles.engine.backend} {styles.engine.precision} on {styles.engine.device}")
        window = stack.enter_context(Window(camera.size, title=f"rtstyle: {style}")) if windowed else None
        if window:
            tell("keys: " + "; ".join(KEYS_HELP))
        ctrl_c = stack.enter_context(_deferred_interrupt())
        outlets = stack.enter_context(Outlets(tell, alone=window is None))

        def recording(path: Path) -> Recording:
            rate = camera.rate if camera.rate and 1 <= camera.rate <= 240 else None
            writer = VideoWriter(
                path,
                VideoFormat(camera.size, camera.colour, CLOCK, rate),
                encoder=encoder,
                sound=outputs.microphone is not None,
                overwrite=overwrite and path == record,
            )
            for warning in writer.warnings:
                outlets.warn(warning)
            return Recording(writer, tell)

        def next_recording() -> Recording:
            if record is None:
                return recording(free_name(Path.cwd(), "rtstyle", ".mp4"))
            return recording(free_name(record.parent, record.stem, record.suffix, 2))

        if record is not None:
            outlets.add(RECORDING, recording(record), "all")
        plan.add_to(outlets, camera, fps=fps, tell=tell)
        if outputs.microphone is not None:
            stack.enter_context(Microphone(outputs.microphone, outlets.write_sound, outlets.warn, timeout=timeout))
        newest.begin()
        session = Session(
            newest,
            styles,
            window,
            outlets,
            tell,
            controls,
            size=camera.size,
            mirror=mirror,
            hold=hold,
            pace=Pace(rungs, float(rate_wanted)) if rate_wanted and len(rungs) > 1 else None,
            record=next_recording,
        )
        if preview == "browser":
            from rtstyle.web.preview import BrowserPreview

            page = BrowserPreview(address, session.post, lambda: session.state)
            outlets.add("browser", page, "newest")
            tell(f"open {page.url()}   (the picture alone: {page.url('/stream.mjpg')})")
        try:
            session.run(frames, seconds, ctrl_c)
        finally:
            if camera.damaged:
                session.warn(f"{camera.damaged} damaged packets of {camera.name} were left out")
            if camera.losses:
                session.warn(camera.losses)
        outlets.close()
        if outlets.failures:
            raise outlets.failures[0]
        report = session.report(list(camera.notes))
        if ctrl_c.is_set():
            raise LiveInterrupted(report)
        return report


class LiveInterrupted(KeyboardInterrupt):
    """Ctrl-C ended a live session, in good order."""

    def __init__(self, report: LiveReport) -> None:
        super().__init__()
        self.report = report


def _wants_window(preview: Preview, ends: bool) -> bool:
    """Decide on the window before anything is opened."""
    if preview == "browser":
        check_packages()
        return False
    if preview == "window" and not has_display():
        raise DisplayError(
            "a window was asked for, and there is no display here; use --preview none with a recording or a limit"
        )
    windowed = preview == "window" or (preview == "auto" and has_display())
    if not windowed and not ends:
        why = "there is no display for a window" if preview == "auto" else "preview is none"
        raise SettingError(f"nothing to do: {why}, and there is no recording, output or limit either")
    return windowed


@contextmanager
def _deferred_interrupt() -> Iterator[threading.Event]:
    """Turn Ctrl-C into an event, so that no frame and no file is cut in two; a second Ctrl-C interrupts at once.

    So with SIGTERM, where Python handles it.
    """
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed
        return

    def press(number: int, frame: object) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    held = [number for number, handler in before.items() if number == signal.SIGINT or callable(handler)]
    for number in held:
        signal.signal(number, press)
    try:
        yield pressed
    finally:
        for number in held:
            signal.signal(number, before[number])

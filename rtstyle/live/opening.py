"""Opens a live session: source, engines, window, sinks and the loop over them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rtstyle.actions import Command, DelaySet, ModulationSet
from rtstyle.backends import Controls, Engine, EngineSettings, open_for
from rtstyle.camera import CaptureSettings, LiveSource, open_source
from rtstyle.contract import check_source
from rtstyle.errors import DisplayError, RtstyleError, SettingError
from rtstyle.frame import FrameSource, VideoFormat
from rtstyle.live.adaptive import AdaptiveQuality, Working, first_level, quality_levels
from rtstyle.live.control.beat import AudioMeter, BeatClock
from rtstyle.live.control.memory import memory_file, recall, remember
from rtstyle.live.control.midi import MidiInput, MidiMap, check_midi, map_file
from rtstyle.live.control.osc import OscServer, check_osc
from rtstyle.live.control.presets import ShowFile, read_show
from rtstyle.live.desk import RECORDING
from rtstyle.live.fanout import Fanout
from rtstyle.live.figures import LiveReport
from rtstyle.live.images import numbered_name
from rtstyle.live.latest import LatestFrame
from rtstyle.live.masks import SessionMask
from rtstyle.live.microphone import MicrophoneCapture
from rtstyle.live.own import OwnSource
from rtstyle.live.session import Session, SessionParts, Show
from rtstyle.live.settings import PATIENCE, ControlSettings, LiveSettings, Preview
from rtstyle.live.sinks.outputs import OutputPlan, Outputs
from rtstyle.live.sinks.recording import Recording
from rtstyle.live.sinks.sink import CLOCK
from rtstyle.live.styles import Styles
from rtstyle.speed import known_speed
from rtstyle.style import SizeClass, Style, list_styles, load_style
from rtstyle.video import VideoWriter, check_output
from rtstyle.video.audio import AUDIO_CODECS, AudioChunk, audio_codec
from rtstyle.video.formats import muxer_of
from rtstyle.web import check_packages
from rtstyle.window import Window, has_display

Tell = Callable[[str], None]
"""Prints one line."""


@dataclass(frozen=True)
class OpenSession:
    """A live session that is ready to run."""

    camera: LiveSource | OwnSource
    fanout: Fanout
    session: Session
    settings: LiveSettings
    interrupted: threading.Event
    """Set by Ctrl-C."""

    def run(self) -> LiveReport:
        """Run until the source ends, the person quits, or a limit is reached.

        Raises:
            RtstyleError: The source or the only sink failed.
            LiveInterrupted: Ctrl-C was pressed once; recordings are whole.
        """
        camera, session = self.camera, self.session
        try:
            session.run(self.settings.frames, self.settings.seconds, self.interrupted)
        finally:
            if camera.damaged:
                session.warn(f"{camera.damaged} damaged packets of {camera.name} were left out")
            if camera.losses:
                session.warn(camera.losses)
        self.fanout.close()
        if self.fanout.failures:
            raise self.fanout.failures[0]
        report = session.report(list(camera.notes))
        if self.interrupted.is_set():
            raise LiveInterrupted(report)
        return report


class LiveInterrupted(KeyboardInterrupt):
    """Ctrl-C ended a live session, in good order."""

    def __init__(self, report: LiveReport) -> None:
        super().__init__()
        self.report = report


@contextmanager
def open_session(
    source: str | int | FrameSource,
    *,
    style: str = "sketch",
    controls: Controls = Controls(),
    engine: EngineSettings = EngineSettings(),
    capture: CaptureSettings = CaptureSettings(),
    outputs: Outputs = Outputs(),
    live: LiveSettings = LiveSettings(),
    say: Tell | None = None,
) -> Iterator[OpenSession]:
    """Open everything that a live session needs, and close it in the end; arguments and errors of ``stylize_live``."""
    tell = say or (lambda line: None)
    if live.preview == "browser" or live.control.page:
        check_packages()
    drawn = load_style(style, engine.size_class)
    _check_recording(source, outputs)
    plan = OutputPlan(outputs, timeout=capture.timeout)
    windowed = _wants_window(live.preview, ends=bool(outputs) or live.limited)
    control = live.control
    show = _show(style, control)
    _check_use(live, outputs, show, windowed=windowed)
    with ExitStack() as stack:
        camera = _open_camera(source, capture, live, tell, audio=outputs.audio and outputs.microphone is None)
        stack.enter_context(camera)
        _report_camera(camera, tell)
        latest = stack.enter_context(LatestFrame(camera, follow=live.follow))
        if not camera.paced:
            latest.start()  # a camera is emptied while the engine is made, so that nothing old waits in it
        quality = _quality(_qualities(drawn, engine, camera, live), camera, engine, live, tell)
        styles = stack.enter_context(Styles(style, quality.working, _engine_maker(camera, engine, tell)))
        tell(f"{style}: {styles.engine.backend} {styles.engine.precision} on {styles.engine.device}")
        window = stack.enter_context(_open_window(camera, style, show, live, tell)) if windowed else None
        mask = stack.enter_context(SessionMask(live.mask, size=camera.size))
        interrupted = stack.enter_context(_deferred_interrupt())
        fanout = stack.enter_context(Fanout(tell, alone=window is None))
        recorder = _open_sinks(camera, outputs, plan, fanout, capture, tell)
        _open_audio(camera, outputs, fanout, show, capture, stack)
        latest.begin()
        parts = SessionParts(
            latest=latest,
            styles=styles,
            fanout=fanout,
            size=camera.size,
            rate=float(camera.rate) if camera.rate and not camera.paced else None,
            window=window,
            quality=quality,
            record=recorder.next,
            show=show,
            mask=mask,
        )
        session = Session(parts, controls, live, tell=tell)
        for command in _first_commands(control, session):
            session.post(command)
        if live.preview == "browser" or control.page:
            _add_browser(live, session, fanout, tell)
        _add_controls(control, session, show, stack, tell)
        yield OpenSession(camera, fanout, session, live, interrupted)


def _open_window(camera: LiveSource | OwnSource, style: str, show: Show, live: LiveSettings, tell: Tell) -> Window:
    """Open the operator's window, and the clean one where that is asked for."""
    title = f"rtstyle: {style}"
    window = Window(camera.size, title=title, keys=show.file.keys, preview=_preview_of, clean=live.clean_window)
    tell("keys, in the window: 1 to 9 and 0 choose a style, ? lists all keys, q quits")
    return window


def _preview_of(style: str) -> bytes | None:
    """Return the JPEG of a style's preview; None where it has none."""
    try:
        return load_style(style).preview
    except RtstyleError:
        return None


def _open_sinks(
    camera: LiveSource | OwnSource,
    outputs: Outputs,
    plan: OutputPlan,
    fanout: Fanout,
    capture: CaptureSettings,
    tell: Tell,
) -> _Recorder:
    """Open what frames go to beside the window; return what opens further recordings."""
    recorder = _Recorder(camera, outputs, fanout, tell, audio=_has_audio(camera, outputs))
    if outputs.record is not None:
        fanout.add(RECORDING, recorder.open(Path(outputs.record)), "all")
    plan.add_to(fanout, camera, fps=capture.fps, audio=recorder.audio, tell=tell)
    return recorder


def _has_audio(camera: LiveSource | OwnSource, outputs: Outputs) -> bool:
    return outputs.microphone is not None or (isinstance(camera, LiveSource) and camera.has_audio)


def _open_audio(
    camera: LiveSource | OwnSource,
    outputs: Outputs,
    fanout: Fanout,
    show: Show,
    capture: CaptureSettings,
    stack: ExitStack,
) -> None:
    """Let recordings, streams and modulation hear the microphone, or the source's own audio."""
    if show.meter.finds_beats and not _has_audio(camera, outputs):
        raise SettingError(f"{camera.name} has no audio to take the beat from: add --mic")

    def hear(chunk: AudioChunk) -> None:
        fanout.write_audio(chunk)
        show.meter.hear(chunk)

    if isinstance(camera, LiveSource):
        camera.hear = hear
    if outputs.microphone is not None:
        stack.enter_context(MicrophoneCapture(outputs.microphone, hear, fanout.warn, timeout=capture.timeout))


def _show(style: str, control: ControlSettings) -> Show:
    """Read the presets, and make the clock and the meter that modulation follows; refuse what is not installed."""
    if control.osc is not None:
        check_osc()
    if control.midi is not None:
        check_midi()
    clock = BeatClock()
    file = ShowFile()
    if control.presets is not None:
        names = [*list_styles(), style]
        file = read_show(control.presets, names, allow_strobe=control.allow_strobe)
    meter = AudioMeter(clock if control.beat_from_audio else None)
    return Show(file, clock, meter, control.allow_strobe)


def _first_commands(control: ControlSettings, session: Session) -> list[Command]:
    """Return what a session is asked for at its beginning."""
    commands = recall(memory_file(), list(session.state.styles)) if control.remember else []
    if control.modulate:
        commands.append(ModulationSet(control.modulate))
    if control.delay_ms:
        commands.append(DelaySet(control.delay_ms))
    return commands


def _add_controls(control: ControlSettings, session: Session, show: Show, stack: ExitStack, tell: Tell) -> None:
    """Open OSC and MIDI, and see to it that what is used last is kept."""
    if control.osc is not None:
        host, port = control.osc
        osc = OscServer(host, port, session.post, lambda: session.state, warn=tell, reply_port=control.osc_reply_port)
        stack.enter_context(osc)
        tell(f"OSC on {host} port {osc.port}: /rtstyle/strength 0.5, /rtstyle/style ink, /rtstyle/get")
    if control.midi is not None:
        bindings = MidiMap(control.midi_map or map_file())
        midi = MidiInput(control.midi, bindings, session.post, lambda: session.state, beat=show.clock.beat, warn=tell)
        stack.enter_context(midi)
        session.desk.learn = midi.learn
        tell(f"MIDI from {midi.name}")
    if control.remember:
        stack.callback(lambda: remember(session.state, memory_file()))


def _check_use(live: LiveSettings, outputs: Outputs, show: Show, *, windowed: bool) -> None:
    """Refuse a clean window without a window, and a microphone that nothing hears."""
    if live.clean_window and not windowed:
        raise SettingError("a clean window was asked for beside a window, and there is none: see --preview")
    heard = bool(live.control.modulate) or live.control.beat_from_audio or show.file.presets
    if outputs.microphone is not None and not (windowed or outputs.record or outputs.urls or heard):
        raise SettingError("a microphone was asked for, and there is neither a recording nor an output for its audio")


def _check_recording(source: str | int | FrameSource, outputs: Outputs) -> None:
    if outputs.record is None:
        return
    record = Path(outputs.record)
    if isinstance(source, str) and record.exists() and Path(source).exists() and record.samefile(source):
        raise SettingError(f"source and recording are the same file: {record}")
    check_output(record, overwrite=outputs.overwrite)
    if outputs.microphone is not None:
        audio_codec(muxer_of(record), str(record))


def _open_camera(
    source: str | int | FrameSource, capture: CaptureSettings, live: LiveSettings, tell: Tell, *, audio: bool
) -> LiveSource | OwnSource:
    if not isinstance(source, str | int | os.PathLike):
        return OwnSource(check_source(source))
    if capture.wait is None and live.frames:
        capture = replace(capture, wait=PATIENCE)
    return open_source(source, capture, tell=tell, audio=audio)


def _qualities(
    style: Style, engine: EngineSettings, camera: LiveSource | OwnSource, live: LiveSettings
) -> list[Working]:
    """Return the networks and sizes that the session may use, the best first."""
    classes: list[SizeClass] = [style.size_class]
    if engine.size_class == "auto" and "fast" in style.size_classes:
        classes.append("fast")
    largest = engine.working_size(camera.size, live=True)
    return quality_levels(largest, classes, smaller=live.target_fps is not None)


def _quality(
    levels: list[Working], camera: LiveSource | OwnSource, engine: EngineSettings, live: LiveSettings, tell: Tell
) -> AdaptiveQuality:
    """Return what chooses among quality levels, first the one that this machine was measured to reach the rate with."""
    declared = live.target_fps or camera.rate
    rate = float(declared) if declared else None
    usual = engine.backend == engine.precision == "auto" and engine.device is None
    first = first_level(levels, rate, known_speed()) if usual else 0
    if first:
        network = f"the {levels[first].size_class} network at {levels[first].size}"
        tell(f"beginning with {network}, as this machine was measured for {rate:.4g} frames per second")
    return AdaptiveQuality(levels, rate, first)


def _report_camera(camera: LiveSource | OwnSource, tell: Tell) -> None:
    rate = f"{float(camera.rate):.4g} frames per second" if camera.rate else "unknown frame rate"
    tell(f"{camera.name}: {camera.size}, {rate}, {camera.format}")
    if isinstance(camera, LiveSource) and camera.has_audio:
        tell(f"the audio of {camera.name} goes into recordings and outputs, in stereo; --no-audio leaves it out")
    for note in camera.notes:
        tell(note)


def _engine_maker(
    camera: LiveSource | OwnSource, engine: EngineSettings, tell: Tell
) -> Callable[[str, Working], Engine]:
    """Return what opens a warm engine for a style at a quality level."""

    def make(name: str, working: Working) -> Engine:
        loaded, settings = load_style(name), engine
        if engine.size_class != "auto" or working.size_class in loaded.size_classes:
            settings = replace(engine, size_class=working.size_class)
        else:
            tell(f"{name} has no {working.size_class} network: its default one draws it")
        return open_for(loaded, camera.size, camera.color, settings, live=True, working=working.size)

    return make


class _Recorder:
    """Opens recordings: the one that was asked for, and those of the key r."""

    def __init__(
        self, camera: LiveSource | OwnSource, outputs: Outputs, fanout: Fanout, tell: Tell, *, audio: bool
    ) -> None:
        self.audio = audio
        """Whether there will be audio."""
        rate = camera.rate if camera.rate and 1 <= camera.rate <= 240 else None
        self._format = VideoFormat(camera.size, camera.color, CLOCK, rate)
        self._outputs, self._fanout, self._tell = outputs, fanout, tell

    def open(self, path: Path) -> Recording:
        """Begin a recording."""
        outputs = self._outputs
        muxer = muxer_of(path)
        if self.audio and muxer not in AUDIO_CODECS:
            self._fanout.warn(f"{path} is recorded without the audio of the source: {muxer} holds none")
        writer = VideoWriter(
            path,
            self._format,
            encoder=outputs.encoder,
            live_audio=self.audio and muxer in AUDIO_CODECS,
            overwrite=outputs.overwrite and outputs.record is not None and path == Path(outputs.record),
        )
        for warning in writer.warnings:
            self._fanout.warn(warning)
        return Recording(writer, self._tell)

    def next(self) -> Recording:
        """Begin a recording under a name that is free."""
        if self._outputs.record is None:
            return self.open(numbered_name(Path.cwd(), "rtstyle", ".mp4"))
        record = Path(self._outputs.record)
        return self.open(numbered_name(record.parent, record.stem, record.suffix, 2))


def _add_browser(live: LiveSettings, session: Session, fanout: Fanout, tell: Tell) -> None:
    from rtstyle.web.preview import BrowserPreview

    page = BrowserPreview(live.address, session.post, lambda: session.state)
    fanout.add("browser", page, "latest", view=True)
    tell(f"open {page.url()}   (the video alone: {page.url('/stream.mjpg')})")


def _wants_window(preview: Preview, *, ends: bool) -> bool:
    """Decide on the window before anything is opened."""
    if preview == "browser":
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

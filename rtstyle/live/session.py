"""One live session: the loop over frames and commands."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from rtstyle.actions import Command, SessionState
from rtstyle.backends import Controls, EngineSettings
from rtstyle.camera import Captured, mirrored
from rtstyle.errors import RtstyleError, SettingError
from rtstyle.frame import Frame, Size
from rtstyle.live.adaptive import AdaptiveQuality, Working
from rtstyle.live.control.beat import AudioMeter, BeatClock
from rtstyle.live.control.modulation import Modulation
from rtstyle.live.control.presets import ShowFile
from rtstyle.live.deflicker import Deflicker
from rtstyle.live.denoise import Denoiser
from rtstyle.live.desk import Desk
from rtstyle.live.fanout import Fanout
from rtstyle.live.figures import Latencies, LiveReport, Meter
from rtstyle.live.images import with_message
from rtstyle.live.latest import LatestFrame
from rtstyle.live.look import Look, black_frame, split_frame
from rtstyle.live.masks import SessionMask
from rtstyle.live.settings import LiveSettings
from rtstyle.live.sinks.sink import Sink
from rtstyle.live.styles import Styles
from rtstyle.overlay import Tile
from rtstyle.window import Window, keys_and_meanings

_TICK = 0.03
"""Seconds between two looks at the keys while no frame comes."""

_BEHIND = 3
"""Decisions of adaptive quality in a row, each of a second or more, after which a session says that it is too slow."""

_AGAIN = 0.5
"""Seconds between two stills while a camera is waited for."""


@dataclass
class Show:
    """What plays along in a session beside its frames: presets, and what changes by itself."""

    file: ShowFile = ShowFile()
    clock: BeatClock = field(default_factory=BeatClock)
    meter: AudioMeter = field(default_factory=AudioMeter)
    allow_strobe: bool = False


@dataclass(frozen=True, kw_only=True)
class SessionParts:
    """What a session works with; all of it is open and is closed by its opener."""

    latest: LatestFrame
    styles: Styles
    fanout: Fanout
    size: Size
    """Size of the frames."""
    rate: float | None = None
    """Frames per second that a camera declares."""
    window: Window | None = None
    quality: AdaptiveQuality | None = None
    """Chooses network and working size; None: they stay."""
    record: Callable[[], Sink] | None = None
    """Opens a new recording, for the key r; called in another thread."""
    show: Show = field(default_factory=Show)
    mask: SessionMask | None = None
    """Where in the frame the style counts; None: everywhere at first."""


class Session:
    """The loop over frames and commands, and its figures.

    Args:
        settings: Its ``mirror``, ``denoise`` and ``deflicker``; limits are given to ``run``.
        tell: Called with each line to print.
    """

    def __init__(
        self,
        parts: SessionParts,
        controls: Controls,
        settings: LiveSettings = LiveSettings(denoise=False),
        *,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._latest, self._styles, self._window, self._fanout = parts.latest, parts.styles, parts.window, parts.fanout
        self._tell, self._quality, self._size = tell, parts.quality, parts.size
        show = parts.show
        self._look = Look(controls, Modulation(show.clock, show.meter, allow_strobe=show.allow_strobe))
        self.desk = Desk(parts.styles, parts.fanout, self._look, show.file, tell, parts.record, self._view)
        """Does the commands; only the session's own thread may use it."""
        self.desk.mirror = settings.mirror
        self.desk.denoiser = Denoiser() if settings.denoise else None
        self.desk.deflicker = Deflicker() if settings.deflicker else None
        self.desk.mask = self._mask = parts.mask or SessionMask(size=parts.size)
        self._smaller_helps, self._said_behind = settings.target_fps is None, False
        self._posted: deque[Command] = deque()
        self._source: Frame | None = None  # the last frame that was taken, and what it became
        self._stylized: Frame | None = None
        self._latencies, self._window_latencies = Latencies(), Latencies()
        self._sizes: Counter[str] = Counter()
        self._shown = self._held = 0
        self._begin = time.perf_counter()
        self._first = self._last = self._begin
        self._still_at = 0.0
        self._meter = Meter(parts.rate)
        self._forced = False  # network or stroke size were commanded

    def run(self, frames: int | None, seconds: float | None, stop: threading.Event) -> None:
        """Stylize and show until something says that it is enough."""
        desk = self.desk
        try:
            while not (desk.quit or stop.is_set() or (self._latest.ended and not desk.paused)):
                if seconds is not None and time.perf_counter() - self._begin >= seconds:
                    return
                captured = self._latest.take(_TICK)
                desk.finish_jobs()
                changed = (
                    self._obey()
                    | self._swap()
                    | self._styles.fading
                    | self._mask.opening
                    | (desk.paused and self._look.moving(time.perf_counter()))
                )
                if captured and not desk.paused and self._is_seen():
                    self._show(captured)
                    if self._shown == frames:
                        return
                    continue
                self._held += captured is not None
                if changed:
                    self._repaint()
                if self._latest.waiting:
                    self._show_still(self._latest.waiting)
                if self._window and self._renew_text():
                    self._window.redraw()
        finally:
            desk.close()
            self._mask.close()

    def _is_seen(self) -> bool:
        """Say whether what is stylized now will be seen; if not, rest. The first frame makes a device a camera."""
        seen = bool(self._window) or not self._shown or self._fanout.wanted
        self._latest.resting = not seen
        return seen

    # -- frames

    def _stylize(self, frame: Frame, at: float) -> Frame:
        """Stylize a frame of the source, which came at a moment."""
        now, desk = time.perf_counter(), self.desk
        controls = self._look.controls(now)
        if controls != Controls(0, 0):  # which hands the source on untouched
            if desk.deflicker:
                frame = desk.deflicker.apply(frame, at)
            if desk.denoiser:
                frame = frame.with_planes(desk.denoiser.apply(frame.planes))
        frame = mirrored(frame) if desk.mirror else frame
        stylized = self._styles.stylize(frame, controls, self._look.share(now))
        try:
            stylized = self._mask.apply(frame, stylized, at - self._begin)
        except RtstyleError as error:
            desk.warn(str(error))
        return black_frame(stylized) if self._look.black(now) else stylized

    def _show(self, captured: Captured) -> None:
        begin = time.perf_counter()
        self._source = captured.frame
        self._stylized = self._stylize(captured.frame, captured.at)
        self._last = time.perf_counter()
        if not self._shown:
            self._first = self._last
        self._latencies.add(captured.at)
        self._shown += 1
        self._sizes[str(self._styles.working)] += 1
        self._hand_over(self._stylized, captured.at)
        self._renew_meter()
        if self._window:
            self._renew_text()
            self._draw()
            self._window_latencies.add(captured.at)
        if self._quality and not self._styles.fading:
            self._adapt(1000 * (self._last - begin), begin)

    def _adapt(self, engine_ms: float, begin: float) -> None:
        """Let adaptive quality decide by what a frame cost that began at a moment."""
        assert self._quality
        now = time.perf_counter()
        other_ms, arriving = 1000 * (now - begin) - engine_ms, self._latest.arriving
        if self.desk.size_class != "auto" or self.desk.stroke_size is not None:
            return
        if self._quality.add(self._styles.working, engine_ms, other_ms, now, arriving):
            self._styles.work(self._quality.working)
        if self._quality.behind >= _BEHIND and arriving and not self._said_behind:
            self._said_behind = True
            self.desk.warn(self._behind(arriving, engine_ms + other_ms))

    def _behind(self, arriving: float, frame_ms: float) -> str:
        """Return a line that says what this machine does not reach, and what helps."""
        reached = min(arriving, 1000 / frame_ms)
        cures = []
        if self._styles.working.size_class != "fast":
            cures.append("--size-class fast")
        if self._smaller_helps:
            cures.append(f"--target-fps {min(25, round(arriving))}")
        cure = f": try {' or '.join(cures)}" if cures else ""
        return f"this machine stylizes about {reached:.0f} of {arriving:.0f} frames per second{cure}"

    def _hand_over(self, frame: Frame, at: float) -> None:
        """Give a frame to the sinks."""
        if self._fanout.names or not self._window:
            view = self._view() if self.desk.split is not None else None
            self._fanout.write(frame, at, view)

    def _own_source(self) -> Frame | None:
        """Return the last frame of the source, as it is seen beside the stylized one."""
        return mirrored(self._source) if self._source and self.desk.mirror else self._source

    def _view(self) -> Frame | None:
        """Return the last frame as views show it: with the source left of the split."""
        source, split = self._own_source(), self.desk.split
        if self._stylized is None or source is None or split is None:
            return self._stylized
        return split_frame(source, self._stylized, split)

    def _draw(self) -> None:
        source = self._own_source()
        if self._window and self._stylized and source:
            self._window.split = self.desk.split
            self._window.write(self._stylized, source)

    def _repaint(self) -> None:
        """Show the last frame again, as the commands want it now; while it is paused no other one would come."""
        if self._source and (self._window or self.desk.paused):
            now = time.perf_counter()
            self._stylized = self._stylize(self._source, now)
            self._draw()
            if self.desk.paused:
                self._hand_over(self._stylized, now)

    def _show_still(self, message: str) -> None:
        """While there is no camera, show the last frame with a message, so that it is not taken for live video."""
        now = time.perf_counter()
        if self._stylized is None or now < self._still_at + _AGAIN:
            return
        self._still_at = now
        still = with_message(self._stylized, message)
        self._hand_over(still, now)
        if self._window:
            self._window.write(still)

    # -- commands

    def post(self, command: Command) -> None:
        """Ask for something as a key would; done between two frames. Any thread may call it."""
        self._posted.append(command)

    def warn(self, line: str) -> None:
        """Keep a warning for the report, print it, and show it for a while."""
        self.desk.warn(line)

    def _swap(self) -> bool:
        """Change over to a style, network or size that has become ready. True if one has."""
        self._choose_working()
        before = self._styles.style, self._styles.working
        try:
            swapped = self._styles.swap()
        except RtstyleError as error:
            self.desk.warn(f"continuing with {self._styles.style}: {error}")
            return False
        if self._styles.style != before[0]:
            self.desk.note(f"style {self._styles.style}")
            self._tell(f"style {self._styles.style}")
        elif self._styles.working != before[1]:
            self._tell(f"working with the {self._styles.working.size_class} network at {self._styles.working.size}")
        return swapped

    def _choose_working(self) -> None:
        """Ask for the network and stroke size that were commanded; without a command adaptive quality chooses."""
        desk = self.desk
        if desk.size_class == "auto" and desk.stroke_size is None:
            if self._quality and self._forced:
                self._styles.work(self._quality.working)
            self._forced = False
            return
        self._forced = True
        size, size_class = self._styles.working.size, self._styles.working.size_class
        if desk.stroke_size is not None:
            try:
                size = EngineSettings(stroke_size=desk.stroke_size).working_size(self._size, live=True)
            except SettingError as error:
                desk.stroke_size = None
                desk.warn(str(error))
        if desk.size_class != "auto":
            size_class = desk.size_class  # type: ignore[assignment]
        self._styles.work(Working(size_class, size))

    def _obey(self) -> bool:
        """Do what is asked for. True if the frame changes by it."""
        commands = self._window.poll() if self._window else []
        while self._posted:
            commands.append(self._posted.popleft())
        changed = self.desk.go_on(time.perf_counter())
        for command in commands:
            changed |= self.desk.do(command)
        return changed

    # -- words and figures

    def _renew_meter(self) -> None:
        self.desk.recorded_seconds(time.perf_counter())  # which counts from when it is first asked
        self._meter.renew(self._latest.captured, self._shown, self._latest.dropped, self._latencies.latest)

    def _renew_text(self) -> bool:
        """Bring the words in the window up to date. True if they changed."""
        assert self._window
        overlay, desk, now = self._window.overlay, self.desk, time.perf_counter()
        self._renew_meter()
        shown = overlay.text, overlay.toast, overlay.help, overlay.chosen, overlay.recording
        recorded = desk.recorded_seconds(now)
        overlay.text = self._figures() if desk.figures else ()
        overlay.toast = "paused; space resumes" if desk.paused else ""
        if now < desk.message[1]:
            overlay.toast = desk.message[0]
        overlay.help = keys_and_meanings() if desk.help else ()
        overlay.recording = float(int(recorded)) if desk.recordings() else None
        if not overlay.tiles:
            keys = [str((place + 1) % 10) if place < 10 else "" for place in range(len(self._styles.names))]
            overlay.tiles = tuple(map(Tile, self._styles.names, keys))
        overlay.chosen = self._styles.loading or self._styles.style
        self._window.title = f"rtstyle: {self._styles.style}"
        return shown != (overlay.text, overlay.toast, overlay.help, overlay.chosen, overlay.recording)

    def _figures(self) -> tuple[str, ...]:
        """Return the lines of figures for the window."""
        size_class, working = self._styles.working
        kept = ", colors kept" if self._look.keeps_colors else ""
        second = (self._styles.second or "").replace("_", " ")
        mix = f" + {self._look.blend.target:.0%} {second}" if self._look.blend.target else ""
        preset = f"   preset {self.desk.preset}" if self.desk.preset else ""
        of = f" of {self._size}" if working != self._size else ""
        lines = [
            f"{self._styles.style.replace('_', ' ')}{mix}   strength {self._look.strength.target:.1f}{kept}{preset}",
            self._meter.line,
            f"network: {size_class}, {working}{of}   ? for keys",
        ]
        lines += [f"{name}: {dropped} frames lost" for name, dropped in self._fanout.dropped().items() if dropped]
        return tuple(line for line in lines if line)

    @property
    def state(self) -> SessionState:
        """How it stands now. Any thread may ask."""
        desk, look, styles = self.desk, self._look, self._styles
        return SessionState(
            styles=tuple(styles.names),
            style=styles.style,
            loading=styles.loading,
            strength=look.strength.target,
            color_strength=look.color.target,
            keeps_colors=look.keeps_colors,
            blend=look.blend.target,
            blend_style=styles.second,
            split=desk.split,
            mask=self._mask.word,
            masks=self._mask.words,
            crossfades=styles.crossfade,
            fade=styles.fade,
            holds=desk.denoiser is not None,
            deflickers=desk.deflicker is not None,
            mirrored=desk.mirror,
            paused=desk.paused,
            bypassed=look.bypassed,
            blacked_out=look.blacked_out,
            cycles=desk.cycling,
            recording=bool(desk.recordings()),
            recorded_seconds=round(desk.recorded_seconds(time.perf_counter()), 1),
            size_class=desk.size_class,
            stroke_size=desk.stroke_size or 1.0,
            presets=tuple(desk.show.names),
            preset=desk.preset,
            bpm=look.modulation.clock.bpm,
            delay_ms=round(1000 * self._fanout.delay, 1),
            latency_ms=round(self._latencies.latest, 1),
            figures=self._meter.line,
        )

    def report(self, warnings: list[str]) -> LiveReport:
        """Sum up; ``warnings`` are what was known before the session. Fanout should be closed before."""
        engine = self._styles.engine
        between = self._last - self._first
        sinks = {name: state._asdict() for name, state in self._fanout.state().items()}
        if self._window:
            latency = self._window_latencies.percentiles()
            sinks["window"] = {"frames": len(self._window_latencies), "dropped": 0, "latency_ms": latency}
        return LiveReport(
            captured=self._latest.captured,
            shown=self._shown,
            dropped=self._latest.dropped,
            held=self._held,
            seconds=round(time.perf_counter() - self._begin, 3),
            fps=round((self._shown - 1) / between, 2) if between > 0 else 0.0,
            latency_ms=self._latencies.percentiles(),
            backend=engine.backend,
            precision=engine.precision,
            device=engine.device,
            style=self._styles.style,
            size=str(self._size),
            sinks=sinks,
            working_sizes=dict(self._sizes),
            warnings=[*warnings, *self._fanout.warnings, *self.desk.warnings],
        )

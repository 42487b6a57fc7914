"""One live session: the loop over frames and commands."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from rtstyle.actions import Action, Command, SessionState, StrengthSet, StyleChosen
from rtstyle.backends import Controls
from rtstyle.camera import Captured, mirrored
from rtstyle.errors import RtstyleError
from rtstyle.frame import Frame, Size
from rtstyle.live.adaptive import AdaptiveQuality
from rtstyle.live.denoise import Denoiser
from rtstyle.live.fanout import Fanout
from rtstyle.live.figures import Latencies, LiveReport, Meter
from rtstyle.live.images import save_snapshot, with_message
from rtstyle.live.latest import LatestFrame
from rtstyle.live.settings import LiveSettings
from rtstyle.live.sinks.sink import Sink
from rtstyle.live.styles import Styles
from rtstyle.window import KEYS_HELP, Window

STRENGTH_STEP = 0.1
"""What one press of + or - adds to the strength or takes away."""

RECORDING = "recording"
"""Name of the branch that the key r ends and begins."""

_TICK = 0.03
"""Seconds between two looks at the keys while no frame comes."""

_BEHIND = 3
"""Decisions of the pace in a row, each of a second or more, after which a session says that it is too slow."""

_AGAIN = 0.5
"""Seconds between two stills while a camera is waited for."""


class Session:
    """The loop over frames and commands, and its figures.

    Args:
        size: Of the pictures.
        record: Opens a new recording, for the key r; called in another thread.
        settings: Its ``mirror`` and ``denoise``; limits are given to ``run``.
        quality: Chooses network and working size; None: they stay.
    """

    def __init__(
        self,
        latest: LatestFrame,
        styles: Styles,
        window: Window | None,
        fanout: Fanout,
        tell: Callable[[str], None],
        controls: Controls,
        settings: LiveSettings = LiveSettings(denoise=False),
        *,
        size: Size,
        quality: AdaptiveQuality | None = None,
        record: Callable[[], Sink] | None = None,
    ) -> None:
        self._latest, self._styles, self._window, self._fanout = latest, styles, window, fanout
        self._tell, self._record, self._quality = tell, record, quality
        self._controls, self._size, self._mirror = controls, size, settings.mirror
        self._keeps_colors = controls.chroma == 0 < controls.luma
        self._smaller_helps, self._said_behind = settings.target_fps is None, False
        self._denoiser = Denoiser() if settings.denoise else None
        self._quit = self._paused = self._help = False
        self._figures = True
        self._posted: deque[Command] = deque()
        self._source: Frame | None = None  # the last frame that was taken, and what it became
        self._stylized: Frame | None = None
        self._background = ThreadPoolExecutor(1, "background")
        self._jobs: list[Future[str]] = []
        self._opening: Future[str] | None = None  # the last recording that was begun
        self._latencies, self._window_latencies = Latencies(), Latencies()
        self._sizes: Counter[str] = Counter()
        self._shown = self._held = 0
        self._begin = time.perf_counter()
        self._first = self._last = self._begin
        self._still_at = 0.0
        self._meter = Meter()
        self._message: tuple[str, float] = ("", 0.0)
        self._warnings: list[str] = []

    def run(self, frames: int | None, seconds: float | None, stop: threading.Event) -> None:
        """Stylize and show until something says that it is enough."""
        try:
            while not (self._quit or stop.is_set() or (self._latest.ended and not self._paused)):
                if seconds is not None and time.perf_counter() - self._begin >= seconds:
                    return
                captured = self._latest.take(_TICK)
                self._finish_jobs()
                changed = self._obey() | self._swap() | self._styles.fading
                if captured and not self._paused:
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
            self._background.shutdown(wait=True)
            self._finish_jobs()

    # -- pictures

    def _stylize(self, frame: Frame) -> Frame:
        """Stylize a frame of the source."""
        if self._denoiser and self._controls != Controls(0, 0):  # which hands the source on untouched
            frame = frame.with_planes(self._denoiser.apply(frame.planes))
        return self._styles.stylize(mirrored(frame) if self._mirror else frame, self._controls)

    def _show(self, captured: Captured) -> None:
        begin = time.perf_counter()
        self._source = captured.frame
        self._stylized = self._stylize(captured.frame)
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
            engine_ms = 1000 * (self._last - begin)
            now = time.perf_counter()
            other_ms, arriving = 1000 * (now - begin) - engine_ms, self._latest.arriving
            if self._quality.add(self._styles.working, engine_ms, other_ms, now, arriving):
                self._styles.work(self._quality.working)
            if self._quality.behind >= _BEHIND and arriving and not self._said_behind:
                self._said_behind = True
                self.warn(self._behind(arriving, engine_ms + other_ms))

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
            self._fanout.write(frame, at)

    def _draw(self) -> None:
        if self._window and self._stylized and self._source:
            self._window.write(self._stylized, mirrored(self._source) if self._mirror else self._source)

    def _repaint(self) -> None:
        """Show the last frame again, as the commands want it now; while it is paused no other one would come."""
        if self._source and (self._window or self._paused):
            self._stylized = self._stylize(self._source)
            self._draw()
            if self._paused:
                self._hand_over(self._stylized, time.perf_counter())

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

    def _swap(self) -> bool:
        """Change over to a style, network or size that has become ready. True if one has."""
        before = self._styles.style
        try:
            swapped = self._styles.swap()
        except RtstyleError as error:
            self.warn(f"going on with {self._styles.style}: {error}")
            return False
        if swapped and self._styles.style != before:
            self._note(f"style {self._styles.style}")
            self._tell(f"style {self._styles.style}")
        elif swapped:
            self._tell(f"working with the {self._styles.working.size_class} network at {self._styles.working.size}")
        return swapped

    def _obey(self) -> bool:
        """Do what is asked for. True if the picture changes by it."""
        commands = self._window.poll() if self._window else []
        while self._posted:
            commands.append(self._posted.popleft())
        changed = False
        for command in commands:
            changed |= self._do(command)
        return changed

    def _do(self, command: Command) -> bool:
        match command:
            case Action.QUIT:
                self._quit = True
            case Action.PAUSE:
                self._paused = not self._paused
            case Action.NEXT_STYLE | Action.PREVIOUS_STYLE:
                self._note(self._styles.step(1 if command is Action.NEXT_STYLE else -1))
            case StyleChosen(style):
                self._note(self._styles.choose(style))
            case Action.STRONGER | Action.WEAKER:
                step = STRENGTH_STEP if command is Action.STRONGER else -STRENGTH_STEP
                self._set_strength(self._controls.luma + step)
                return True
            case StrengthSet(strength):
                self._set_strength(strength)
                return True
            case Action.KEEP_COLORS:
                self._keeps_colors = not self._keeps_colors
                self._set_strength(self._controls.luma)
                return True
            case Action.MIRROR:
                self._mirror = not self._mirror
                return True
            case Action.HOLD:
                self._denoiser = None if self._denoiser else Denoiser()
                self._note(f"hold {'on' if self._denoiser else 'off'}")
                return True
            case Action.CROSSFADE:
                self._styles.crossfade = not self._styles.crossfade
                self._note(f"crossfade {'on' if self._styles.crossfade else 'off'}")
            case Action.SNAPSHOT:
                self._snapshot()
            case Action.RECORD:
                self._toggle_recording()
            case Action.HUD:
                self._figures = not self._figures
            case Action.HELP:
                self._help = not self._help
        return False

    def _set_strength(self, strength: float) -> None:
        luma = min(max(round(strength, 2), 0.0), 2.0)
        self._controls = Controls.of(luma, keep_colors=self._keeps_colors)

    def _snapshot(self) -> None:
        if self._stylized is None:
            return
        frame = self._stylized

        def save() -> str:
            return f"saved {save_snapshot(frame, Path.cwd())}"

        self._jobs.append(self._background.submit(save))

    def _recordings(self) -> list[str]:
        return [name for name in self._fanout.names if name.partition(" ")[0] == RECORDING]

    def _toggle_recording(self) -> None:
        running, record = self._recordings(), self._record
        for name in running:
            self._fanout.remove(name)
        if running:
            self._note("recording ends")
        elif record and (self._opening is None or self._opening.done()):

            def begin() -> str:
                self._fanout.add(RECORDING, record(), "all")
                return "recording"

            self._opening = self._background.submit(begin)
            self._jobs.append(self._opening)

    def _finish_jobs(self) -> None:
        """Report what was done in the background: encoders and PNGs take longer than a frame."""
        while self._jobs and self._jobs[0].done():
            job = self._jobs.pop(0)
            try:
                line = job.result()
            except RtstyleError as error:
                # The session goes on: what may be being recorded is worth more than the snapshot.
                self.warn(str(error))
            else:
                self._note(line)
                self._tell(line)

    # -- words and figures

    def warn(self, line: str) -> None:
        """Keep a warning for the report, say it, and show it for a while."""
        self._warnings.append(line)
        self._note(line)
        self._tell(line)

    def _note(self, line: str) -> None:
        self._message = (line, time.perf_counter() + 3)

    def _renew_meter(self) -> None:
        self._meter.renew(self._latest.captured, self._shown, self._latest.dropped, self._latencies.latest)

    def _renew_text(self) -> bool:
        """Bring the words in the window up to date. True if they changed."""
        assert self._window
        before = self._window.text
        self._window.text = self._text()
        self._window.title = f"rtstyle: {self._styles.style}"
        return self._window.text != before

    def _text(self) -> list[str]:
        lines: list[str] = []
        engine = self._styles.engine
        self._renew_meter()
        if self._figures:
            kept = ", colors kept" if self._keeps_colors else ""
            size_class, working = self._styles.working
            network = "" if size_class == "default" else f" {size_class}"
            of = f" of {self._size}" if working != self._size else ""
            lines += [
                f"{self._styles.style}   strength {self._controls.luma:.1f}{kept}",
                self._meter.line,
                f"{engine.backend} {engine.precision}{network}, {working}{of}   ? for keys",
            ]
            lines += [f"{name}, {dropped} dropped" for name, dropped in self._fanout.dropped().items()]
        if self._help:
            lines += KEYS_HELP
            for number, name in enumerate(self._styles.names[:10], 1):
                lines.append(f"{number % 10}  {name}{'  *' if name == self._styles.style else ''}")
        if self._paused:
            lines.append("paused; space goes on")
        if time.perf_counter() < self._message[1]:
            lines.append(self._message[0])
        return [line for line in lines if line]

    @property
    def state(self) -> SessionState:
        """How it stands now. Any thread may ask."""
        return SessionState(
            styles=tuple(self._styles.names),
            style=self._styles.style,
            loading=self._styles.loading,
            strength=self._controls.luma,
            keeps_colors=self._keeps_colors,
            crossfades=self._styles.crossfade,
            holds=self._denoiser is not None,
            mirrored=self._mirror,
            paused=self._paused,
            recording=bool(self._recordings()),
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
            warnings=[*warnings, *self._fanout.warnings, *self._warnings],
        )

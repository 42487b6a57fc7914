"""One live session: the loop over frames and keys, and its figures."""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rtstyle.backends import Controls
from rtstyle.camera import Captured, mirrored
from rtstyle.errors import PictureError
from rtstyle.frame import Frame, planes_to_rgb
from rtstyle.live.newest import Newest
from rtstyle.live.outlets import Recorder
from rtstyle.live.styles import Styles
from rtstyle.window import KEYS_HELP, Action, Window

STRENGTH_STEP = 0.1
"""What one press of + or - adds to the strength or takes away."""

_TICK = 0.03
"""Seconds between two looks at the keys while no frame comes."""


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


class Session:
    """The loop over frames and keys, and its figures."""

    def __init__(
        self,
        newest: Newest,
        styles: Styles,
        window: Window | None,
        recorder: Recorder | None,
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

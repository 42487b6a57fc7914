"""LiveSource: the frames of a live source in real time, across connections that are lost and come back."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av

from rtstyle.backoff import BackOff
from rtstyle.camera.address import SourceAddress, find_source
from rtstyle.camera.captured import Captured
from rtstyle.camera.feed import Feed
from rtstyle.camera.fit import fitted, inner_size, upright_size
from rtstyle.camera.opening import open_feed
from rtstyle.camera.receiver import FRESH, LONGEST_SKIP
from rtstyle.camera.settings import CaptureSettings
from rtstyle.closing import Closing
from rtstyle.errors import CameraError, SettingError, SourceStalledError
from rtstyle.frame import Frame, Size
from rtstyle.video import color_of
from rtstyle.video.audio import AudioChunk
from rtstyle.video.samples import fraction_of

_LATE = 0.25
"""Seconds that a file may be late before its clock is set back."""

_PAUSES = (0.5, 5.0)
"""Seconds before a lost camera is tried again: at first, each time doubled, and at most."""

_WINDOW = 2.0
"""Seconds over which the earliest arrival shows how a source's timestamps lie on our clock."""

_LARGEST_STILL = Size(1920, 1080)
"""Photographs are shown no larger, unless a size is asked for."""


def open_source(
    source: str | int | Path,
    settings: CaptureSettings = CaptureSettings(),
    *,
    tell: Callable[[str], None] | None = None,
    audio: bool = False,
) -> LiveSource:
    """Open a live source and wait for its first frame.

    Args:
        source: The number, device or name of a camera (``0``, ``/dev/video0``); the desktop (``screen:``, or a region
            of it as ``screen:0+100,200``); a URL (http, https, rtsp, rtmp, udp, tcp); a named pipe; a video file; an
            image or a folder of images.
        settings: Size, frame rate and times that it is asked for.
        tell: Called with each line to print while frames are read, in the reader's thread: that the camera is gone, is
            back, or sends other frames than before.
        audio: Whether the audio of a file, URL or pipe is passed to ``LiveSource.hear``.

    Raises:
        CameraError: It is absent, refuses, or sends no video.
        SourceStalledError: It did not answer in time.
        VideoOpenError: The file is no video.
        SettingError: A region of the screen has no size, or what has controls to set is no camera of this machine.
    """
    address = find_source(source)
    if settings.controls and address.kind != "device":
        raise SettingError(f"{address.name} is no camera of this machine: it has no controls to set")
    return LiveSource(address, settings, tell=tell, audio=audio)


class LiveSource(Closing):
    """An open live source: a ``FrameSource`` that also states when each frame came. See ``open_source``.

    It is iterated once, by one thread. ``stop`` may be called from any thread and ends the iteration
    with the next frame, after ``timeout`` seconds at the latest; ``close`` only when it is not being iterated.
    """

    live = True

    def __init__(
        self,
        address: SourceAddress,
        settings: CaptureSettings,
        *,
        tell: Callable[[str], None] | None,
        audio: bool,
    ) -> None:
        """Open the source; see ``open_source``, which is to be used."""
        self._address, self._settings, self._audio = address, settings, audio
        self._tell = tell or (lambda line: None)
        self._stop = threading.Event()
        self._feed: Feed = open_feed(address, settings, self._stop, audio=audio)
        self._loop = self._feed.paced and (address.kind == "images" if settings.loop is None else settings.loop)
        self._due: float | None = None  # when the next round of a recording begins
        self._last_pts: int | None = None
        self._first_at: float | None = None
        self._lost: tuple[str, float] | None = None  # in words, and since when
        self._losses, self._away, self._damaged_before = 0, 0.0, 0

        self.name = address.name
        """Text to show, e.g. ``camera 0``."""
        self.hear: Callable[[AudioChunk], None] = lambda chunk: None
        """Called with each piece of audio, in the reader's thread; its times are those of ``Captured.at``."""
        self.notes: list[str] = []
        """What came out other than asked, one line each."""
        self.paced = self._feed.paced
        """True: a recording that is played in real time and may end. False: a camera, which may not."""
        self.rate = self._feed.rate
        """Frames per second as declared; None where the source does not declare them."""
        self.format = self._feed.format
        """How frames come, e.g. ``mjpeg``, ``yuyv422``, ``h264``."""
        self._look(self._feed.first)

    def _look(self, av_frame: av.VideoFrame) -> None:
        """Set size and color by the first frame, and note what differs from the requests."""
        own, size, fps = upright_size(av_frame), self._settings.size, self._settings.fps
        kind = self._address.kind
        asked = kind in ("device", "screen")
        self.size: Size = own if asked or not size else size
        if kind == "images" and not size and (own.width > _LARGEST_STILL.width or own.height > _LARGEST_STILL.height):
            self.size = inner_size(own, _LARGEST_STILL)
        self.color = color_of(av_frame, Size(av_frame.width, av_frame.height))
        self._known = {(own, self.color.matrix, self.color.full_range)}
        if asked and size and size != own:
            listed = "; its modes are listed by: rtstyle devices" if kind == "device" else ""
            self.notes.append(f"{self.name} sends frames of {own}, not of {size}: they are used as they come{listed}")
        elif own != self.size:
            self.notes.append(f"{self.name} sends frames of {own}, not of {self.size}: {self._fate(own)}")
        if fps and not asked and kind != "images":
            self.notes.append(f"{self.name} keeps its own frame rate; only a camera can be asked for {float(fps):g}")
        elif fps and self.rate and abs(float(self.rate / fps) - 1) > 0.05:
            self.notes.append(f"{self.name} gives {float(self.rate):g} frames per second, not {float(fps):g}")

    def _fate(self, own: Size) -> str:
        if inner_size(own, self.size) == self.size:
            return f"they are scaled to {self.size}"
        return f"they are fitted into {self.size}, with black borders"

    @property
    def has_audio(self) -> bool:
        """Whether there is audio for ``hear``."""
        return self._feed.audio is not None

    # -- what can be asked from other threads

    @property
    def waiting(self) -> str | None:
        """While a camera that went away is waited for: one line to show; else None."""
        lost = self._lost
        return lost and f"{lost[0]}; waiting for it ({time.monotonic() - lost[1]:.0f} s)"

    @property
    def damaged(self) -> int:
        """Packets or frames so far that could not be decoded and were left out."""
        return self._damaged_before + self._feed.damaged

    @property
    def losses(self) -> str:
        """How often and how long the source was away until now, in one line; empty where it never was."""
        lost = self._lost
        away = self._away + (time.monotonic() - lost[1] if lost else 0)
        times = "once" if self._losses == 1 else f"{self._losses} times"
        return f"{self.name} was away {times}, {away:.1f} s in all" if self._losses else ""

    def stop(self) -> None:
        """Let the iteration end soon; may be called from any thread."""
        self._stop.set()

    # -- frames

    def captures(self) -> Iterator[Captured]:
        """Yield frames as they come, with the moment of their arrival; of a camera, the latest: where the caller takes
        them too slowly, those are left out that newer ones have followed, and counted in ``Captured.skipped``.

        All have the size and color of the source; a frame that comes otherwise (a phone that was turned, a camera
        that came back in another mode) is fitted in. Planes are I420 in new or decoder-owned memory that no one
        else changes. ``pts`` is the source's and restarts with each round and connection; ``Captured.at`` continues.

        Raises:
            CameraError: The camera or the connection went away, for longer than ``wait``.
            SourceStalledError: No frame came for ``timeout`` seconds, and none while it was waited for.
        """
        while not self._stop.is_set():
            try:
                yield from self._played()
            except CameraError as error:
                if self.paced or self._settings.wait == 0:
                    raise
                self._await_return(error)
                continue
            if not self._loop or self._stop.is_set():
                return
            self._reopen()

    def __iter__(self) -> Iterator[Frame]:
        return (captured.frame for captured in self.captures())

    def _played(self) -> Iterator[Captured]:
        """Yield the frames of one round or connection."""
        if self.paced:
            return self._recorded()
        return self._segmented() if self._feed.segmented else self._as_they_come()

    def _as_they_come(self) -> Iterator[Captured]:
        arrivals: deque[tuple[float, float]] = deque()
        before = -math.inf
        for av_frame, at, skipped, _ in self._feed.av_frames():
            frame = self._frame(av_frame, at)
            moment = _seconds_of(frame)
            if moment < before:  # its clock was set back: what came before says nothing of this one
                arrivals.clear()
            before = moment
            self._play(moment, _earliest(arrivals, at, at - moment))
            yield Captured(frame, at, skipped)

    def _segmented(self) -> Iterator[Captured]:
        """Yield frames at the distances of their timestamps: those of a segment come all at once.

        Where a segment was waited for, all that follows is later by that. Frames that are late for other reasons, on a
        slow machine, are left out.
        """
        origin: float | None = None
        skipped, shown = 0, -math.inf
        for av_frame, at, _, waited in self._feed.av_frames():
            frame = self._frame(av_frame, at)
            moment = _seconds_of(frame)
            if (
                origin is None
                or origin + moment - at > self._feed.patience
                or (waited > FRESH and at > origin + moment)
            ):
                origin = at - moment
            now = time.perf_counter()
            if now - origin - moment > FRESH and now - shown < LONGEST_SKIP:
                skipped += 1
                continue
            if self._stop.wait(max(origin + moment - now, 0)):
                return
            self._play(moment, origin)
            shown = time.perf_counter()
            yield Captured(frame, origin + moment, skipped)
            skipped = 0

    def _recorded(self) -> Iterator[Captured]:
        origin: float | None = None
        for av_frame, at, *_ in self._feed.av_frames():
            frame = self._frame(av_frame, at)
            moment = _seconds_of(frame)
            now = time.perf_counter()
            if origin is None:
                origin = (now if self._due is None else self._due) - moment
            # A jump of the timestamps, or a decoder that cannot keep up: continue from here.
            if not -_LATE <= origin + moment - now <= self._feed.patience:
                origin = now - moment
            if self._stop.wait(max(origin + moment - now, 0)):
                return
            self._play(moment, origin)
            yield Captured(frame, origin + moment)
            shown = float((av_frame.duration or 0) * frame.time_base) or (float(1 / self.rate) if self.rate else 0)
            self._due = origin + moment + min(shown, self._feed.patience)
        if self._due is not None:  # the last frame is seen as long as the others
            self._stop.wait(max(self._due - time.perf_counter(), 0))
        if self._due is not None and origin is not None:
            self._play(self._due - origin, origin)

    def _play(self, until: float, origin: float) -> None:
        """Pass on the audio that begins before a moment, which ``origin`` turns into one of our clock."""
        if self._feed.audio:
            for piece in self._feed.audio.due(until):
                self.hear(AudioChunk(piece.samples, origin + piece.moment))

    def _frame(self, av_frame: av.VideoFrame, at: float) -> Frame:
        own = color_of(av_frame, Size(av_frame.width, av_frame.height))
        look = (upright_size(av_frame), own.matrix, own.full_range)
        if look not in self._known:
            known, self._known = self._known, self._known | {look}
            if self._address.kind != "images":  # which differ by nature
                change = f"now sends frames of {look[0]}: {self._fate(look[0])}"
                colors = "codes its colors otherwise now: they are converted"
                self._tell(f"{self.name} {colors if look[0] in (k[0] for k in known) else change}")
        planes = fitted(av_frame, self.size, self.color)
        time_base = fraction_of(av_frame.time_base) or Fraction(1, 90000)
        self._first_at = at if self._first_at is None else self._first_at
        pts = av_frame.pts
        if pts is None and self.paced:
            step = 1 / ((self.rate or Fraction(25)) * time_base)
            pts = 0 if self._last_pts is None else self._last_pts + max(round(step), 1)
        elif pts is None:
            pts = round((at - self._first_at) / time_base)
        self._last_pts = pts
        return Frame(planes, pts, time_base, self.color)

    # -- coming back

    def _reopen(self) -> None:
        """Open the source again; the old feed is closed in any case."""
        self._feed.close()
        feed = open_feed(self._address, self._settings, self._stop, audio=self._audio)
        self._damaged_before, self._feed, self._last_pts = self.damaged, feed, None

    def _await_return(self, error: CameraError) -> None:
        """Try until the source is back, or ``stop`` is called. Raises ``error`` when it took too long."""
        since = time.monotonic()
        self._losses += 1
        self._lost = (f"{self.name} {'stalled' if isinstance(error, SourceStalledError) else 'is gone'}", since)
        self._tell(f"{error}; waiting for it")
        self._feed.close()
        pauses = BackOff(*_PAUSES)
        wait = self._settings.wait
        while not self._stop.wait(pauses.take()):
            try:
                self._reopen()
            except CameraError:
                if wait is not None and time.monotonic() - since > wait:
                    raise type(error)(f"{error}; it was waited for {time.monotonic() - since:.0f} s") from error
                continue
            break
        away = time.monotonic() - since
        self._away += away
        self._lost = None
        if not self._stop.is_set():
            self._tell(f"{self.name} is back after {away:.1f} s")

    def close(self) -> None:
        """Give the device or connection back. It must not be iterated any more."""
        self.stop()
        self._feed.close()


def _seconds_of(frame: Frame) -> float:
    return float(frame.pts * frame.time_base)


def _earliest(arrivals: deque[tuple[float, float]], now: float, origin: float) -> float:
    """Add when the zero of the timestamps was, by the frame that came now; return the earliest of the last seconds.

    Frames come late, by what the network keeps of them, and never early.
    """
    arrivals.append((now, origin))
    while arrivals[0][0] < now - _WINDOW:
        arrivals.popleft()
    return min(each for _, each in arrivals)

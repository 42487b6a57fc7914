"""The latest frame of a live source: a slow machine shows fewer frames, never older ones."""

from __future__ import annotations

import threading
from collections import deque
from typing import Self

from rtstyle.backoff import BackOff
from rtstyle.camera import Captured, LiveSource
from rtstyle.canvas.follower import Follow, SceneFollower, resolved
from rtstyle.live.own import OwnSource

_SPAN = 2.0
"""Seconds over which arriving frames are counted."""


class FlowPace:
    """Decides whether this machine has time for optical flow: not while it drops frames.

    It is given up as soon as a few frames are dropped, and tried again after a while, which doubles each time.
    """

    _SPAN, _MANY = 12, 2
    """Of so many frames, so many that were dropped are too many."""
    _WAIT, _LONGEST_WAIT = 20.0, 320.0
    """Seconds."""

    def __init__(self) -> None:
        self._recent: deque[bool] = deque(maxlen=self._SPAN)
        self._waits, self._until = BackOff(self._WAIT, self._LONGEST_WAIT), 0.0

    def add(self, dropped: bool, now: float) -> bool:
        """Take what became of a frame, at a moment in seconds. True if there is time for flow."""
        self._recent.append(dropped)
        if now < self._until:
            return False
        if sum(self._recent) >= self._MANY:
            self._until = now + self._waits.take()
            self._recent.clear()
            return False
        return True


class LatestFrame:
    """Reads a live source in a thread and keeps its latest frame only. A context manager.

    Frames get their place on the canvas here, where none is missing; it is kept while a camera is away. Leaving joins
    the thread: at once for a file, with its next frame or after its timeout for a camera.

    Args:
        follow: What the canvas follows; flow is given up while frames are dropped.
    """

    def __init__(self, source: LiveSource | OwnSource, follow: Follow = "auto") -> None:
        self.captured = 0
        """Frames that came since ``begin``."""
        self.dropped = 0
        """Frames among them that a newer one replaced, also before they were decoded."""
        self.resting = False
        """True: no frame is stylized, so that none has to be followed. May be set from any thread."""
        self._source, self._follow = source, follow
        self._slot: Captured | None = None
        self._arrivals: deque[tuple[float, int]] = deque(maxlen=500)  # moment, and frames since the one before
        self._ended = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, name="latest frame", daemon=True)
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
            self._arrivals.clear()
        self.start()

    def take(self, timeout: float) -> Captured | None:
        """Take the latest frame out; wait for one for at most ``timeout`` seconds, None if none came.

        Raises:
            RtstyleError: What ended the source for good, after its last frame was taken.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._slot or self._error, timeout)
            captured, self._slot = self._slot, None
            if captured is None and self._error:
                raise self._error
            return captured

    @property
    def arriving(self) -> float | None:
        """Frames per second that the source gave over the last two seconds; None where fewer than four came, or all at
        once."""
        with self._changed:
            recent = [arrival for arrival in self._arrivals if arrival[0] >= self._arrivals[-1][0] - _SPAN]
        span = recent[-1][0] - recent[0][0] if recent else 0.0
        return sum(count for _, count in recent[1:]) / span if len(recent) >= 4 and span > _SPAN / 8 else None

    @property
    def waiting(self) -> str | None:
        """While a camera that vanished is waited for: one short line to show; None while frames come."""
        return self._source.waiting

    @property
    def ended(self) -> bool:
        """True when the source has come to its end and its last frame was taken; not after an error, which
        ``take`` raises."""
        with self._changed:
            return self._ended and self._slot is None and self._error is None

    def _read(self) -> None:
        error: BaseException | None = None
        scene, pace = SceneFollower(follow=self._follow), FlowPace()
        try:
            for captured in self._source.captures():
                frame = captured.frame if self.resting else scene.follow(captured.frame)
                with self._changed:
                    dropped = captured.skipped + (self._slot is not None)
                    self.captured += captured.skipped + 1
                    self.dropped += dropped
                    self._arrivals.append((captured.at, captured.skipped + 1))
                    self._slot = Captured(frame, captured.at)
                    self._changed.notify()
                if resolved(self._follow) == "flow":
                    scene.flowing = pace.add(dropped > 0, captured.at)
        except BaseException as reason:  # raised in the caller, by take()
            error = reason
        with self._changed:
            self._error = error
            self._ended = True
            self._changed.notify()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._source.stop()
        if self._started:
            self._thread.join()

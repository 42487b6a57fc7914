"""Fans frames out to sinks: each has a thread of its own, and none can stall another."""

from __future__ import annotations

import threading
import time
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Literal, NamedTuple, Self

from rtstyle.errors import RtstyleError
from rtstyle.frame import Frame
from rtstyle.live.figures import percentiles
from rtstyle.live.sinks.sink import CLOCK, AudioSink, FrameDropped, InterruptibleSink, Sink, WatchedSink
from rtstyle.video.audio import AudioChunk

Policy = Literal["latest", "all"]
"""``latest``: one frame waits, and a newer one takes its place. ``all``: a bounded queue."""

_ROOM = 256 * 2**20
"""Bytes of frames that wait for one sink at most, where it is to get all."""

_CHUNKS = 500
"""Pieces of audio, of some 20 ms each, that wait for one sink at most."""


class BranchState(NamedTuple):
    """How an branch does."""

    frames: int
    """Frames that the sink took, without repeated ones."""
    dropped: int
    """Frames that did not get there: too old, no room, or no connection."""
    latency_ms: dict[str, float]
    """Milliseconds from a frame's capture to the moment at which the sink had taken it: ``p50``, ``p95``,
    ``p99``; empty where none was."""


class Branch:
    """One sink and the thread that serves it.

    Args:
        spacing: Seconds between two frames at least, where ``policy`` is ``latest``.
        patience: Seconds without a new frame after which the last one is written again; None: never.
        ended: Called in the thread when the sink is closed, with what went wrong, or None.
    """

    def __init__(
        self,
        sink: Sink,
        policy: Policy,
        *,
        spacing: float = 0.0,
        patience: float | None = None,
        view: bool = False,
        ended: Callable[[Exception | None], None] = lambda error: None,
    ) -> None:
        self._sink, self._policy, self._spacing, self._patience = sink, policy, spacing, patience
        self.view = view
        """Whether it shows what previews show, with the source left of the split."""
        self._ended = ended
        self._frames: deque[tuple[Frame, float]] = deque()
        self._chunks: deque[AudioChunk] = deque(maxlen=_CHUNKS)
        self._changed = threading.Condition()
        self._closing = False
        self._taken = self._dropped = 0
        self._latencies = array("d")
        self._pts = -1
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self, name: str) -> None:
        """Start the thread under a name."""
        self._thread.name = name
        self._thread.start()

    def write(self, frame: Frame, at: float) -> None:
        """Leave a frame for the thread; never waits."""
        with self._changed:
            if self._policy == "latest":
                self._dropped += len(self._frames)
                self._frames.clear()
            elif len(self._frames) >= max(8, _ROOM // sum(plane.size for plane in frame.planes)):
                self._dropped += 1
                return
            self._frames.append((frame, at))
            self._changed.notify()

    def write_audio(self, chunk: AudioChunk) -> None:
        """Leave a piece of audio for the thread; never waits."""
        if isinstance(self._sink, AudioSink):
            with self._changed:
                self._chunks.append(chunk)
                self._changed.notify()

    @property
    def wanted(self) -> bool:
        """Whether its frames are seen, or may be; cheap."""
        return not isinstance(self._sink, WatchedSink) or self._sink.watched

    def finish(self) -> None:
        """Let the thread write what waits, where all is to be written, and close the sink; does not wait for it."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if isinstance(self._sink, InterruptibleSink):
            self._sink.hurry()

    def join(self) -> None:
        """Wait until the sink is closed."""
        self._thread.join()

    @property
    def dropped(self) -> int:
        """Frames that did not get there so far."""
        return self._dropped

    @property
    def state(self) -> BranchState:
        """How it does so far."""
        with self._changed:
            taken, dropped, latencies = self._taken, self._dropped, list(self._latencies)
        return BranchState(taken, dropped, percentiles(latencies))

    # -- in the thread

    def _run(self) -> None:
        error: Exception | None = None
        try:
            self._serve()
        except Exception as reason:  # goes to the caller, who raises it at the end
            error = reason
        try:
            self._sink.close()
        except Exception as reason:
            error = error or reason
        self._ended(error)

    def _serve(self) -> None:
        latest: Frame | None = None
        written = 0.0
        while True:
            with self._changed:
                self._wait(latest is not None, written)
                over = self._closing and (self._policy == "latest" or not self._frames)
                chunks = list(self._chunks)
                self._chunks.clear()
                frame, at = self._frames.popleft() if self._may_write(written) and not over else (None, 0.0)
            for chunk in chunks:
                self._sink.write_audio(chunk)  # type: ignore[attr-defined]  # only hearing sinks are given any
            if over:
                return
            if frame is not None:
                latest, written = frame, time.perf_counter()
                self._pass_on(frame, at)
            elif latest is not None and self._patience and time.perf_counter() >= written + self._patience:
                written = time.perf_counter()
                self._pass_on(latest, written, again=True)

    def _may_write(self, written: float) -> bool:
        return bool(self._frames) and (self._closing or time.perf_counter() >= written + self._spacing)

    def _wait(self, repeats: bool, written: float) -> None:
        """Wait until something is to be done."""
        while not (self._closing or self._chunks or self._may_write(written)):
            pause = None
            if self._frames:
                pause = written + self._spacing - time.perf_counter()
            elif repeats and self._patience:
                pause = written + self._patience - time.perf_counter()
            if pause is not None and pause <= 0:
                return
            self._changed.wait(pause)

    def _pass_on(self, frame: Frame, at: float, *, again: bool = False) -> None:
        self._pts = max(round(at / CLOCK), self._pts + 1)
        try:
            self._sink.write(replace(frame, pts=self._pts, time_base=CLOCK))
        except FrameDropped:
            taken = False
        else:
            taken = True
        if again:
            return
        with self._changed:
            self._taken += taken
            self._dropped += not taken
            if taken:
                self._latencies.append(1000 * (time.perf_counter() - at))


class _DelayLine:
    """Passes frames on at their moment, in a thread of its own that begins with the first one."""

    def __init__(self, write: Callable[[Frame, float, Frame | None], None]) -> None:
        self._write = write
        self._frames: deque[tuple[float, Frame, float, Frame | None]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    def __bool__(self) -> bool:
        return bool(self._frames)

    def add(self, due: float, frame: Frame, at: float, view: Frame | None) -> None:
        """Let a frame go at a moment, or when the one before has gone."""
        with self._changed:
            self._frames.append((due, frame, at, view))
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="delay", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._frames or self._closing)
                if not self._frames:
                    return
                due, frame, at, view = self._frames[0]
                if not self._closing and self._changed.wait_for(lambda: self._closing, due - time.perf_counter()):
                    continue
            self._write(frame, at, view)
            with self._changed:
                self._frames.popleft()

    def close(self) -> None:
        """Pass on at once what waits, and join the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread:
            self._thread.join()


class Fanout:
    """All branches of a session. A context manager: leaving finishes them all, then raises what one of them met.

    Args:
        tell: Called with each line to print; called from any thread.
        alone: True where frames go nowhere else, such as to a window: then ``write`` raises when no branch is left.
    """

    def __init__(self, tell: Callable[[str], None], *, alone: bool = False) -> None:
        self.failures: list[Exception] = []
        """What ended branches before their time."""
        self.warnings: list[str] = []
        """Lines that were printed and that a report should keep."""
        self.delay = 0.0
        """Seconds after their capture at which frames are passed on at the earliest."""
        self._line = _DelayLine(self._pass_on)
        self._tell, self._alone = tell, alone
        self._open: dict[str, Branch] = {}  # those that frames go to
        self._all: dict[str, Branch] = {}  # and those that have ended
        self._lock = threading.Lock()

    def add(
        self,
        name: str,
        sink: Sink,
        policy: Policy,
        *,
        spacing: float = 0.0,
        patience: float | None = None,
        view: bool = False,
    ) -> str:
        """Send frames to one more sink from now on; it is closed at the end, or by ``remove``.

        Args:
            name: For messages and ``state``; one that was used before gets a number.
            spacing: Seconds between two frames at least; newer ones take the place of those that wait.
            patience: Seconds without a new frame after which the last one is written again; None: never.
            view: Whether it is a preview, which gets the ``view`` of ``write`` where there is one.

        Returns:
            The name that it got.
        """
        with self._lock:
            unique, number = name, 1
            while unique in self._all:
                number += 1
                unique = f"{name} {number}"

            def ended(error: Exception | None) -> None:
                self._end(unique, error)

            branch = Branch(sink, policy, spacing=spacing, patience=patience, view=view, ended=ended)
            self._open[unique] = self._all[unique] = branch
        branch.start(unique)
        return unique

    def write(self, frame: Frame, at: float, view: Frame | None = None) -> None:
        """Hand a frame to all sinks; never waits. Its planes must not be written to any more.

        Args:
            at: The moment at which its source came, in seconds of ``time.perf_counter()``.
            view: What previews show instead; None: the frame.

        Raises:
            Exception: What ended the last branch, where there is nothing else.
        """
        with self._lock:
            branches = list(self._open.values())
        if self._alone and self.failures and not branches:
            raise self.failures[0]
        if self.delay or self._line:
            self._line.add(at + self.delay, frame, at, view)
        else:
            self._pass_on(frame, at, view)

    def _pass_on(self, frame: Frame, at: float, view: Frame | None) -> None:
        with self._lock:
            branches = list(self._open.values())
        for branch in branches:
            branch.write(view if view is not None and branch.view else frame, at)

    def write_audio(self, chunk: AudioChunk) -> None:
        """Hand a piece of audio to those that take audio; never waits."""
        with self._lock:
            branches = list(self._open.values())
        for branch in branches:
            branch.write_audio(chunk)

    def remove(self, name: str) -> None:
        """Finish one sink, without waiting for it; one that has ended already is none."""
        with self._lock:
            branch = self._open.pop(name, None)
        if branch:
            branch.finish()

    @property
    def names(self) -> list[str]:
        """Those that frames go to now."""
        with self._lock:
            return list(self._open)

    @property
    def wanted(self) -> bool:
        """Whether frames of one branch at least are seen, or may be; true where there is none, as for a measurement."""
        with self._lock:
            branches = list(self._open.values())
        return not branches or any(branch.wanted for branch in branches)

    def dropped(self) -> dict[str, int]:
        """Frames that did not get to those that frames go to now; cheap, unlike ``state``."""
        with self._lock:
            return {name: branch.dropped for name, branch in self._open.items()}

    def state(self) -> dict[str, BranchState]:
        """Return the figures of each branch; those that have ended are among them."""
        with self._lock:
            branches = dict(self._all)
        return {name: branch.state for name, branch in branches.items()}

    def warn(self, line: str) -> None:
        """Print a line, and keep it for the report. Called from any thread."""
        self.warnings.append(line)
        self._tell(line)

    def _end(self, name: str, error: Exception | None) -> None:
        with self._lock:
            self._open.pop(name, None)
            if error:
                self.failures.append(error)
        if error:
            self.warn(
                f"{name} has ended: {error}" if isinstance(error, RtstyleError) else f"{name} has ended: {error!r}"
            )

    def close(self) -> None:
        """Finish all sinks and wait for them."""
        self._line.close()
        with self._lock:
            branches = list(self._all.values())
            self._open.clear()
        for branch in branches:
            branch.finish()
        for branch in branches:
            branch.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is None and self.failures:
            raise self.failures[0]

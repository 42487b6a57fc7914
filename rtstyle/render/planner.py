"""Plans the segments of one input ahead of those who render them: decodes every frame and follows the scene.

Threads share the work, so that planning is as fast as the slowest of them: one decodes, one finds where the canvas lies
below each frame, some compare consecutive frames, each two of them, and one decides by that what moved, carries the
canvas map along, and measures what styles on a steered canvas read. Where flow is followed and there are few cores,
one does all but decoding: threads that wait for Python's lock and for each other would take a sixth more CPU time.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from rtstyle.canvas import TrackerState
from rtstyle.canvas.arrays import Bytes
from rtstyle.canvas.flow import SMALLEST, Comparison, compared, reduced
from rtstyle.cores import cores
from rtstyle.frame import Frame
from rtstyle.render.flow import Prefetch, Timings
from rtstyle.render.follow import VideoFollower
from rtstyle.render.job import Fingerprint, canvas_text
from rtstyle.render.journal import Checkpoint
from rtstyle.video import VideoReader

_MOST_THREADS = 4
"""Threads that compare frames: as many as keep up with the tracker."""

_FEW_CORES = 2
"""Cores with which one thread does all but decoding, where flow is followed."""


@dataclass
class PlannedSegment:
    """One segment, as far as it is known before it is rendered."""

    first: int
    """Frames of the output before it."""
    after: list[Any] | None
    """Pts and digest of the frame before it."""
    state: TrackerState | None
    """Of the follower before its first frame; None: it begins."""
    pts: list[int] = field(default_factory=list)
    places: list[list[int]] = field(default_factory=list)
    """Offset of each frame on the canvas."""
    steps: bytearray = field(default_factory=bytearray)
    """What was found of each frame, as ``Step.dump`` gives it; empty where flow is not followed."""
    fingerprint: str = ""
    """Of its frames, see ``Fingerprint``."""
    checkpoint: Checkpoint | None = None
    """Where the render stands after it; None for a last segment that is shorter than the others."""


@dataclass(frozen=True)
class _Seen:
    """A frame on its way through the planner."""

    frame: Frame
    damaged: int
    """Of the reader, when the frame came."""
    offset: tuple[int, int] = (0, 0)
    tracked: TrackerState | None = None
    """Of the tracker after the frame, at the end of a segment."""
    compared: Future[tuple[Comparison, float]] | None = None
    """How it differs from the frame before, and the seconds that this took; None: they are not compared yet."""


def planned(
    reader: VideoReader, follower: VideoFollower, every: int, checkpoint: Checkpoint | None, timings: Timings
) -> Iterator[PlannedSegment]:
    """Yield the segments of an input, in order.

    Args:
        follower: A new one for this reader.
        every: Frames of a segment.
        checkpoint: Where an earlier run stood.

    Raises:
        VideoOpenError: The input can be read no further.
    """
    count = checkpoint.frames if checkpoint else 0
    scene = follower.scene
    segment = None
    after = [checkpoint.pts, checkpoint.digest] if checkpoint else None
    state = checkpoint.canvas if checkpoint else None
    print_ = Fingerprint()
    with _tracked(reader, follower, count, every, timings) as (places, comparer):
        for seen in places:
            if segment is None:
                segment, print_ = PlannedSegment(count, after, state), Fingerprint()
            known = comparer.result(seen.compared, timings)
            with timings.measured("measure"):
                scene.follow(seen.frame, seen.offset, known)
                print_.add(seen.frame.planes, seen.frame.pts)
            if scene.step:
                segment.steps += scene.step.dump()
            segment.pts.append(seen.frame.pts)
            segment.places.append([*seen.offset])
            count += 1
            if len(segment.pts) == every:
                state = scene.state(seen.tracked)
                segment.checkpoint = follower.checkpoint(count, seen.frame, state, seen.damaged)
                segment.fingerprint = print_.text()
                after = [segment.checkpoint.pts, segment.checkpoint.digest]
                yield segment
                segment = None
    if segment:
        segment.fingerprint = print_.text()
        yield segment


@contextmanager
def _tracked(
    reader: VideoReader, follower: VideoFollower, first: int, every: int, timings: Timings
) -> Iterator[tuple[Iterable[_Seen], _Comparer]]:
    """Decode frames and find their offsets, and have them compared, by threads as far as there are cores for them.

    Args:
        first: Frames of the output before the first one.
        every: Frames of a segment.
    """
    scene = follower.scene
    flows = scene.step is not None
    many = cores() > _FEW_CORES or not flows

    def decoded() -> Iterator[_Seen]:
        for frame in timings.timed("decode", follower.unfinished(reader)):
            yield _Seen(frame, reader.damaged + follower.damaged_before)

    def tracked(frames: Iterable[_Seen]) -> Iterator[_Seen]:
        for number, seen in enumerate(frames, first + 1):
            with timings.measured("track"):
                offset = scene.offset(seen.frame)
            after = scene.tracked() if number % every == 0 else None
            yield replace(seen, offset=offset, tracked=after, compared=comparer.submit(seen.frame, offset))

    with (
        _Comparer(wanted=many and flows) as comparer,
        Prefetch(decoded(), name="plan-decode") as frames,
        ExitStack() as threads,
    ):
        places: Iterable[_Seen] = tracked(frames)
        if many:
            places = threads.enter_context(Prefetch(places, name="plan-track", depth=comparer.threads + 3))
        yield places, comparer


class _Comparer:
    """Threads that compare consecutive frames. A context manager.

    Args:
        wanted: False: nothing is compared.
    """

    def __init__(self, *, wanted: bool) -> None:
        self.threads = min(_MOST_THREADS, cores()) if wanted else 0
        self._pool = ThreadPoolExecutor(self.threads, "rtstyle-plan-compare") if wanted else None
        self._before: tuple[Bytes, tuple[int, int]] | None = None

    def submit(self, frame: Frame, offset: tuple[int, int]) -> Future[tuple[Comparison, float]] | None:
        """Have the next frame compared with the one before it.

        Returns:
            None where there is none before it here, or frames are too small.
        """
        if self._pool is None or min(frame.size.width, frame.size.height) < SMALLEST:
            return None
        small, before = reduced(frame.planes.y), self._before
        self._before = small, offset
        if before is None:
            return None
        moved = float(before[1][0] - offset[0]), float(before[1][1] - offset[1])

        def compare() -> tuple[Comparison, float]:
            begun = time.perf_counter()
            found = compared(before[0], small, moved, (frame.size.height, frame.size.width))
            return found, time.perf_counter() - begun

        return self._pool.submit(compare)

    def result(self, compared: Future[tuple[Comparison, float]] | None, timings: Timings) -> Comparison | None:
        """Wait for what ``submit`` returned, and add the time that it took to ``timings``."""
        if compared is None:
            return None
        known, seconds = compared.result()
        timings.add("compare", seconds / self.threads)
        return known

    def __enter__(self) -> _Comparer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)


class Planner:
    """Runs ``planned`` in a thread, some segments ahead; ``ready`` holds those that no job has yet.

    Args:
        tell: Called in the thread whenever there is something new.
        ahead: Most segments that wait in ``ready``.
    """

    def __init__(self, segments: Iterator[PlannedSegment], tell: Callable[[], None], *, ahead: int) -> None:
        self.ready: deque[PlannedSegment] = deque()
        self.ended = False
        """Whether no segment comes after those in ``ready``."""
        self.error: BaseException | None = None
        """Why it ended early."""
        self._segments, self._tell = segments, tell
        self._room, self._stop = threading.Semaphore(ahead), threading.Event()
        self._thread = threading.Thread(target=self._run, name="rtstyle-plan", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for segment in self._segments:
                while not self._room.acquire(timeout=0.1):
                    if self._stop.is_set():
                        return
                self.ready.append(segment)
                self._tell()
                if self._stop.is_set():
                    return
        except BaseException as error:  # raised by the one who takes the segments, whatever it is
            self.error = error
        finally:
            self._segments.close()  # type: ignore[attr-defined]  # it is a generator, whose threads end with it
            self.ended = True
            self._tell()

    def take(self, most: int) -> list[PlannedSegment]:
        """Return the next segments, at most so many; consecutive ones."""
        taken: list[PlannedSegment] = []
        while self.ready and len(taken) < most:
            taken.append(self.ready.popleft())
            self._room.release()
        return taken

    def close(self) -> None:
        """Stop and join the threads."""
        self._stop.set()
        self._thread.join()


def canvas_before(segment: PlannedSegment) -> str:
    """Return the follower's state before a segment, as its job holds it."""
    return canvas_text(segment.state) if segment.state else ""

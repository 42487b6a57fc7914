"""Plans the segments of one input ahead of those who render them: decodes every frame and follows the scene.

Three threads share the work, so that planning is as fast as the slowest of them: one decodes, one finds where the
canvas lies below each frame, and one measures what styles on a steered canvas read, and carries their map along.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from rtstyle.canvas import TrackerState
from rtstyle.frame import Frame
from rtstyle.render.flow import Prefetch, Timings
from rtstyle.render.follow import VideoFollower
from rtstyle.render.job import Fingerprint, canvas_text
from rtstyle.render.journal import Checkpoint
from rtstyle.video import VideoReader


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

    def decoded() -> Iterator[_Seen]:
        for frame in timings.timed("decode", follower.unfinished(reader)):
            yield _Seen(frame, reader.damaged + follower.damaged_before)

    def tracked(frames: Prefetch[_Seen]) -> Iterator[_Seen]:
        for number, seen in enumerate(frames, count + 1):
            with timings.measured("track"):
                offset = scene.offset(seen.frame)
            yield _Seen(seen.frame, seen.damaged, offset, scene.tracked() if number % every == 0 else None)

    segment = None
    after = [checkpoint.pts, checkpoint.digest] if checkpoint else None
    state = checkpoint.canvas if checkpoint else None
    print_ = Fingerprint()
    with (
        Prefetch(decoded(), name="plan-decode") as frames,
        Prefetch(tracked(frames), name="plan-track") as places,
    ):
        for seen in places:
            if segment is None:
                segment, print_ = PlannedSegment(count, after, state), Fingerprint()
            with timings.measured("measure"):
                scene.follow(seen.frame, seen.offset)
                print_.add(seen.frame.planes, seen.frame.pts)
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

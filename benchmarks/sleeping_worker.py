"""A worker whose engine only sleeps, so that two cores suffice for many workers: what is left is what scaling costs.

The seconds per frame are in the environment variable SLEEP; ``scale.py`` starts it, also on Ray's nodes.
"""

from __future__ import annotations

import os
import time
from collections import deque
from typing import Any

from rtstyle.backends import Controls, Engine
from rtstyle.frame import Color, Frame, Size
from rtstyle.render import coordinate, worker
from rtstyle.render.cluster import RayWorker


class SleepingEngine(Engine):
    """Returns frames as they are, each after a fixed time on a device that does one at a time."""

    backend, precision, device = "openvino", "f32", "one that sleeps"

    def __init__(self, size: Size, color: Color, seconds: float) -> None:
        self.size, self.color, self.in_flight = size, color, 3
        self._seconds = seconds
        self._inside: deque[tuple[Frame, float]] = deque()
        self._free = 0.0

    def submit(self, frame: Frame, controls: Controls = Controls()) -> None:
        self._free = max(self._free, time.monotonic()) + self._seconds
        self._inside.append((frame, self._free))

    def next(self) -> Frame:
        frame, due = self._inside.popleft()
        time.sleep(max(0.0, due - time.monotonic()))
        return frame

    def close(self) -> None:
        self._inside.clear()


def sleep_instead() -> None:
    """Have this process open sleeping engines."""

    def open_for(style: Any, size: Size, color: Color, *args: Any, **options: Any) -> Engine:
        return SleepingEngine(size, color, float(os.environ.get("SLEEP", "0.05")))

    worker.open_for = open_for  # type: ignore[assignment]
    coordinate.open_for = open_for  # type: ignore[assignment]


class SleepingRayWorker(RayWorker):
    """The same on a node of a Ray cluster."""

    def __init__(self, cores: int, number: int) -> None:
        sleep_instead()
        super().__init__(cores, number)


if __name__ == "__main__":
    sleep_instead()
    worker.answer_jobs()

"""How frames flow from thread to thread: read ahead and timed."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, Self, TypeVar

from rtstyle.interrupts import Interrupted

T = TypeVar("T")


class Prefetch(Generic[T]):
    """Runs an iterable in a thread of its own, ``depth`` items ahead.

    An exception in the thread is raised where its items are consumed. Leaving the context, early or
    not, stops the thread and joins it; it stops between two items.
    """

    def __init__(self, items: Iterable[T], *, name: str, depth: int = 3) -> None:
        self._items = items
        self._ready: queue.Queue[tuple[str, T | BaseException | None]] = queue.Queue(depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"rtstyle-{name}", daemon=True)

    def _run(self) -> None:
        try:
            for item in self._items:
                if not self._put("item", item):
                    return
        except BaseException as error:  # handed to the consumer, whatever it is
            self._put("error", error)
        else:
            self._put("end", None)

    def _put(self, kind: str, value: T | BaseException | None) -> bool:
        while not self._stop.is_set():
            try:
                self._ready.put((kind, value), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self) -> Iterator[T]:
        while True:
            kind, value = self._ready.get()
            if kind == "end":
                return
            if kind == "error":
                assert isinstance(value, BaseException)
                if isinstance(value, Interrupted):
                    raise KeyboardInterrupt from value
                raise value
            yield value  # type: ignore[misc]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


class Timings:
    """Adds up the seconds that each stage took, on the thread that ran it."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, stage: str, seconds: float) -> None:
        """Count one item of a stage and the seconds that it took."""
        self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds
        self._counts[stage] = self._counts.get(stage, 0) + 1

    @contextmanager
    def measured(self, stage: str) -> Iterator[None]:
        """Count one item of a stage, and the time in this context."""
        begun = time.perf_counter()
        yield
        self.add(stage, time.perf_counter() - begun)

    def timed(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """Yield ``items`` and add the time that each took to come."""
        iterator = iter(items)
        while True:
            begun = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            self.add(stage, time.perf_counter() - begun)
            yield item

    def milliseconds(self) -> dict[str, float]:
        """Mean milliseconds per item, by stage."""
        return {stage: round(1000 * s / self._counts[stage], 3) for stage, s in self._seconds.items()}

    def stages(self) -> dict[str, float]:
        """Mean milliseconds per item, by stage; the time of ``canvas`` without that of ``decode``, which is in it."""
        stages = self.milliseconds()
        stages["canvas"] = round(stages.get("canvas", 0.0) - stages.get("decode", 0.0), 3)
        return stages

"""Starts at once, gets faster: an engine that another one replaces between two frames, when it is ready."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from rtstyle.backends.engine import Controls, Engine, check_frame
from rtstyle.errors import RtstyleError
from rtstyle.frame import Frame

log = logging.getLogger("rtstyle")


class SwappingEngine(Engine):
    """See ``rtstyle.backends.Engine``. Backend, precision, device and ``in_flight`` are those of the engine in use.

    Frames that are in the first engine come out of it before any of the second's, so that none is dropped,
    doubled or out of order. The first engine is closed when its last frame has come out.

    Args:
        first: In use until the other one is ready; belongs to this engine.
        make: Opens the other one, on a thread; should soon raise RtstyleError when the event that it is
            given is set. Where it fails, a line says so and the first engine stays.
    """

    def __init__(self, first: Engine, make: Callable[[threading.Event], Engine]) -> None:
        self._adopt(first)
        self.size, self.color, self.in_flight = first.size, first.color, first.in_flight
        self._inside: deque[Engine] = deque()
        """The engine that each frame went into, oldest first."""
        self._early: deque[Frame] = deque()
        """Frames that were taken out to make room; older than all that are in an engine."""
        self._make = make
        self._stop = threading.Event()
        self._made: Engine | None = None
        self._thread = threading.Thread(target=self._prepare, name="rtstyle-swap", daemon=True)
        self._thread.start()

    def _adopt(self, engine: Engine) -> None:
        self._engine = engine
        self.backend, self.precision, self.device = engine.backend, engine.precision, engine.device

    def _prepare(self) -> None:
        try:
            made = self._make(self._stop)
        except (ImportError, RtstyleError) as error:
            if not self._stop.is_set():
                log.info("continuing with %s: %s", self.backend, error)
            return
        self._made = made

    def submit(self, frame: Frame, controls: Controls = Controls()) -> None:
        check_frame(self, frame, len(self._early) + len(self._inside))
        if self._made is not None:
            self._swap(self._made)
        while self._inside.count(self._engine) >= self._engine.in_flight:
            self._early.append(self._oldest())  # the second engine holds fewer frames than the first
        self._engine.submit(frame, controls)
        self._inside.append(self._engine)

    def _swap(self, new: Engine) -> None:
        self._made, old = None, self._engine
        self._adopt(new)
        # It may grow, never shrink: callers rely on the value that they read.
        self.in_flight = max(self.in_flight, new.in_flight)
        log.info("now on %s %s on %s", new.backend, new.precision, new.device)
        if old not in self._inside:
            old.close()

    def _oldest(self) -> Frame:
        engine = self._inside.popleft()
        frame = engine.next()
        if engine is not self._engine and engine not in self._inside:
            engine.close()
        return frame

    def next(self) -> Frame:
        if self._early:
            return self._early.popleft()
        if not self._inside:
            raise ValueError("no frame is in flight: call submit() first")
        return self._oldest()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        made = [self._made] if self._made is not None else []
        self._made = None
        for engine in {id(e): e for e in (*self._inside, self._engine, *made)}.values():
            engine.close()
        self._inside.clear()
        self._early.clear()

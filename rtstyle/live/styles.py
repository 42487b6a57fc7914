"""Styles that change while a session runs: an engine is made aside and takes its place between two frames."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from types import TracebackType
from typing import Self

import numpy as np

from rtstyle.backends import BackendChoice, Engine, Precision, open_engine
from rtstyle.frame import Colour, Frame, Planes, Size
from rtstyle.style import list_styles


def warm_engine(
    style: str, size: Size, colour: Colour, backend: BackendChoice, precision: Precision, device: str | None
) -> Engine:
    """Open an engine for live use and run it once: the first frame is always slow."""
    engine = open_engine(style, size, colour, backend=backend, precision=precision, mode="latency", device=device)
    try:
        luma = np.full((size.height, size.width), 128, np.uint8)
        chroma = np.full((size.chroma.height, size.chroma.width), 128, np.uint8)
        engine.submit(Frame(Planes(luma, chroma, chroma), 0, Fraction(1, 90000), colour))
        engine.next()
    except BaseException:
        engine.close()
        raise
    return engine


class Styles:
    """The engine in use; another style's is made in a thread and takes its place when it is ready."""

    def __init__(self, style: str, make: Callable[[str], Engine]) -> None:
        self.style = style
        self._names = [style, *(name for name in list_styles() if name != style)]
        self._wanted = style
        self._making = ""
        self._make = make
        self._pending: Future[Engine] | None = None
        self.engine = make(style)
        self._pool = ThreadPoolExecutor(1, "style")

    def step(self, by: int) -> str:
        """Ask for the style that is ``by`` places further; return a line about it for people."""
        if len(self._names) == 1:
            return f"there is no other style than {self.style}"
        self._wanted = self._names[(self._names.index(self._wanted) + by) % len(self._names)]
        return f"loading {self._wanted} ..."

    def swap(self) -> bool:
        """Between two frames: put a finished engine in place, start to make one that is wanted. True if it changed.

        Raises:
            StyleFormatError, BackendUnavailableError: The wanted style cannot be run.
        """
        changed = False
        if self._pending and self._pending.done():
            made, self._pending = self._pending.result(), None
            if self._making == self._wanted:
                self.engine.close()
                self.engine, self.style, changed = made, self._making, True
            else:
                made.close()  # asked for another one meanwhile
        if not self._pending and self._wanted != self.style:
            self._making = self._wanted
            self._pending = self._pool.submit(self._make, self._making)
        return changed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._pending and not self._pending.cancelled() and not self._pending.exception():
            self._pending.result().close()
        self.engine.close()

"""A blend of styles on different canvases: an engine for each, whose frames are mixed by share."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import cv2
import numpy as np

from rtstyle.backends.engine import Controls, Engine, check_frame
from rtstyle.frame import Frame, Plane, Planes


class BlendEngine(Engine):
    """See ``rtstyle.backends.Engine``. It costs what its engines cost together.

    Args:
        engines: Of one size and color; they belong to this engine.
        shares: Of each, summing to 1.
    """

    def __init__(self, engines: Sequence[Engine], shares: Sequence[float]) -> None:
        self._engines, self._shares = list(engines), list(shares)
        self.size, self.color = engines[0].size, engines[0].color
        self._inside = 0
        self._adopt()

    def _adopt(self) -> None:
        """Report what the engines are: one may be replaced while it runs, see ``SwappingEngine``."""
        first = self._engines[0]
        self.backend, self.device = first.backend, first.device
        self.precision = "+".join(dict.fromkeys(engine.precision for engine in self._engines))
        self.in_flight = min(engine.in_flight for engine in self._engines)

    def submit(self, frame: Frame, controls: Controls = Controls()) -> None:
        check_frame(self, frame, self._inside)
        for engine in self._engines:
            engine.submit(frame, controls)
        self._inside += 1

    def next(self) -> Frame:
        if not self._inside:
            raise ValueError("no frame is in flight: call submit() first")
        self._inside -= 1
        frames = [engine.next() for engine in self._engines]
        self._adopt()
        planes = (self._mixed([frame.planes[i] for frame in frames]) for i in range(3))
        return frames[0].with_planes(Planes(*planes))

    def _mixed(self, planes: Sequence[Plane]) -> Plane:
        total = np.zeros(planes[0].shape, np.float32)
        for plane, share in zip(planes, self._shares, strict=True):
            cv2.scaleAdd(plane.astype(np.float32), share, total, total)
        return np.asarray(np.rint(total), np.uint8)

    def close(self) -> None:
        with ExitStack() as stack:
            for engine in self._engines:
                stack.callback(engine.close)
        self._inside = 0

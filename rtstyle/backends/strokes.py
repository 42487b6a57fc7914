"""Strokes as large as the image wants them: an engine that works in another size than its images have.

A network draws marks of so many pixels, which are threads in a 4K image and logs in a small one. So an image
that is much larger or smaller than what styles are made for is stylized in a working size, and what the style
changed there is enlarged, or reduced, and added to the image itself: its own fine detail stays, and strength 0
changes nothing. (Burt and Adelson 1983, "The Laplacian Pyramid as a Compact Image Code": the style replaces the
lower bands.)
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle.backends.engine import Controls, Engine, check_frame
from rtstyle.frame import Frame, Planes, Size, resized_planes


class StrokeEngine(Engine):
    """See ``rtstyle.backends.Engine``; everything but the sizes is the inner engine's.

    Args:
        inner: Stylizes images of the working size; belongs to this engine.
        size: Of the images that go in and come out.
    """

    def __init__(self, inner: Engine, size: Size) -> None:
        self._inner, self.size, self.color = inner, size, inner.color
        self._inside: deque[tuple[Frame, Planes]] = deque()
        """Each frame with planes of its own, and its planes in the working size."""
        self._adopt()

    def _adopt(self) -> None:
        """Return what the inner engine is: it may change while it runs, see ``SwappingEngine``."""
        inner = self._inner
        self.backend, self.precision, self.device = inner.backend, inner.precision, inner.device
        self.in_flight = inner.in_flight

    def submit(self, frame: Frame, controls: Controls = Controls()) -> None:
        check_frame(self, frame, len(self._inside))
        working = self._inner.size
        small = resized_planes(frame.planes, working)
        x, y = frame.canvas
        canvas = round(x * working.width / self.size.width), round(y * working.height / self.size.height)
        bent = frame.canvas_map.scaled(self.size, working) if frame.canvas_map else None
        inner_frame = replace(frame, planes=small, canvas=canvas, canvas_map=bent, alpha=None)
        self._inner.submit(inner_frame, controls)
        self._inside.append((frame.with_planes(Planes(*(plane.copy() for plane in frame.planes))), small))
        self._adopt()

    def next(self) -> Frame:
        stylized = self._inner.next()
        frame, small = self._inside.popleft()
        self._adopt()
        changed = (
            _add_change(plane, new, old) for plane, new, old in zip(frame.planes, stylized.planes, small, strict=True)
        )
        return frame.with_planes(Planes(*changed))

    def close(self) -> None:
        self._inside.clear()
        self._inner.close()


def at_size(engine: Engine, size: Size) -> Engine:
    """Return an engine for images of ``size`` that works in the size of the given one, which belongs to it."""
    return engine if engine.size == size else StrokeEngine(engine, size)


def _add_change(plane: NDArray[np.uint8], stylized: NDArray[np.uint8], source: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Add to a plane what the style changed in the working size; written into ``plane``."""
    change = cv2.subtract(np.ascontiguousarray(stylized), source, dtype=cv2.CV_16S)
    height, width = plane.shape
    how = cv2.INTER_AREA if width < change.shape[1] else cv2.INTER_CUBIC
    wide = cv2.resize(change, (width, height), interpolation=how)
    return np.asarray(cv2.add(plane, wide, dst=plane, dtype=cv2.CV_8U), np.uint8)

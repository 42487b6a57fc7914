"""Exposure smoothing: brightness that swings with a camera's automatic exposure or with lamps stays even."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rtstyle.frame import Frame, Plane, Planes

LARGEST_GAIN = 1.3
"""Bound of the correction, and of its inverse; what would need more is a change of light or scene, and is shown."""

_SECONDS = 1.5
"""Time constant after which a change of light that stays is shown in full."""

_GRID = 24
"""Cells per side that the frame is compared by."""

_STILL = 0.12
"""Share by which a cell may differ from the common gain and still count as the same part of the scene."""


class Deflicker:
    """Evens out the brightness of whole frames by one gain each, bounded by ``LARGEST_GAIN``.

    The gain is the median over cells of reference to frame, so that what moves does not count as long as half of the
    frame stands still. The reference follows the frames with a time constant of 1.5 s. A cut (few cells that agree)
    or a change that the bound does not cover restarts it.
    """

    def __init__(self) -> None:
        self.gain = 1.0
        """Of the last frame."""
        self._reference: NDArray[np.float32] | None = None
        self._at = 0.0

    def apply(self, frame: Frame, at: float) -> Frame:
        """Return the frame with its brightness evened out; itself where there is nothing to do.

        Args:
            at: The moment at which it came, in seconds on any clock.
        """
        import cv2

        black = 0.0 if frame.color.full_range else 16.0
        small = cv2.resize(np.ascontiguousarray(frame.planes.y), (_GRID, _GRID), interpolation=cv2.INTER_AREA)
        cells = np.maximum(small.astype(np.float32) - black, 1.0)
        reference, since, self._at = self._reference, at - self._at, at
        if reference is None or not 0 <= since < _SECONDS:
            return self._start(cells, frame)
        lit = cells > 8.0  # dark cells are noise
        ratios = reference[lit] / cells[lit]
        if len(ratios) < _GRID:
            return self._start(cells, frame)
        gain = float(np.median(ratios))
        agreeing = np.abs(ratios / gain - 1) < _STILL
        if not 1 / LARGEST_GAIN <= gain <= LARGEST_GAIN or agreeing.mean() < 0.4:
            return self._start(cells, frame)
        share = min(since / _SECONDS, 1.0)
        self._reference = reference + np.float32(share) * (cells - reference)
        self.gain = gain
        return frame if abs(gain - 1) < 1 / 512 else frame.with_planes(_brighter(frame.planes, gain, black))

    def _start(self, cells: NDArray[np.float32], frame: Frame) -> Frame:
        self._reference, self.gain = cells, 1.0
        return frame


def _brighter(planes: Planes, gain: float, black: float) -> Planes:
    """Return new planes with luma above black, and chroma around grey, multiplied."""
    import cv2

    levels = np.arange(256, dtype=np.float64)

    def table(zero: float) -> Plane:
        return np.clip(np.rint((levels - zero) * gain + zero), 0, 255).astype(np.uint8)

    luma, chroma = table(black), table(128.0)
    y, u, v = (
        np.asarray(cv2.LUT(np.ascontiguousarray(plane), curve), np.uint8)
        for plane, curve in zip(planes, (luma, chroma, chroma), strict=True)
    )
    return Planes(y, u, v)

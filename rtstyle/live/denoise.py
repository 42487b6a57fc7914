"""Temporal noise reduction: where a frame has not moved, it keeps its samples, so that sensor noise does not shimmer.

A style paints strokes where it sees edges, and a camera's noise is full of them: what stands still
shimmers. So before the network, samples of what has not moved stay what they were.
"""

from __future__ import annotations

import numpy as np

from rtstyle.frame import Plane, Planes

_CELL = 4
"""Pixels of luma per side of a cell, in which motion is decided: its mean has a quarter of the noise of a sample."""

_SCALE = 16
"""Steps per level in which differences of cells are kept, so that 8 bits hold 1/16 to 15.9 levels."""

_WINDOW = 5
"""Cells per side over which differences are averaged."""

_QUIETEST, _LOUDEST = 0.15, 1.2
"""Bounds of the estimated noise: the mean difference of cells, in levels. Above it, it is motion."""

_RISE = 1.1
"""By how much the estimate of the noise may rise from frame to frame; it falls at once."""

_RELEASE = 0.6
"""Share of a cell's motion that is left for the next frame, so that what was uncovered is taken fresh."""


class Denoiser:
    """Motion-adaptive temporal noise reduction (recursive, as in de Haan, "Video Processing", chapter 4) in YUV.

    Each cell of 4x4 pixels compares its mean to that of the held frame. Differences are averaged over 5x5
    cells. Up to about twice the noise, held samples stay; from about four times on, the new ones replace
    them; between, both are mixed. The mask grows by one cell beyond what moves, and closes over a few frames.

    The noise is the 30th percentile of differences between neighbouring frames, so it follows the camera
    and its light as long as three tenths of the frame stand still.
    """

    def __init__(self) -> None:
        self.noise = _QUIETEST
        """Estimated mean difference of cells of neighbouring frames that stand still, in levels."""
        self._started = False
        self._held: list[_HeldPlane] = []
        self._cells: list[Plane] = []
        self._last: Plane | None = None
        self._mask: Plane = np.empty((0, 0), np.uint8)

    def apply(self, planes: Planes) -> Planes:
        """Return the planes with held samples where they stand still.

        Args:
            planes: Of any size; where it differs from the last one's, everything is new.

        Returns:
            Arrays of the hold's own, which the next call writes to again.
        """
        import cv2

        now = _cell_means(planes)
        if self._last is None or [held.plane.shape for held in self._held] != [plane.shape for plane in planes]:
            self._held = [_HeldPlane(plane) for plane in planes]
            self._cells, self._last, self._mask = now, now[0], np.full(now[0].shape, 255, np.uint8)
            return Planes(*(held.plane for held in self._held))
        self._estimate(_difference(now[0], self._last))
        self._last = now[0]

        difference = _difference(now[0], self._cells[0])
        for new, old in zip(now[1:], self._cells[1:], strict=True):
            cv2.max(difference, _difference(new, old), dst=difference)
        low, high = 2 * self.noise + 0.9, 4 * self.noise + 2.0
        ramp = np.clip((np.arange(256) / _SCALE - low) / (high - low), 0, 1) * 255
        mask = cv2.dilate(cv2.LUT(difference, ramp.astype(np.uint8)), np.ones((3, 3), np.uint8))
        mask = cv2.max(mask, cv2.convertScaleAbs(self._mask, alpha=_RELEASE))
        # What is left of it is cut off in the end, for it would never quite be 0.
        self._mask = np.asarray(cv2.threshold(mask, 8, 255, cv2.THRESH_TOZERO)[1], np.uint8)

        mixed = Planes(*(held.mix(plane, self._mask) for held, plane in zip(self._held, planes, strict=True)))
        self._cells = _cell_means(mixed)
        return mixed

    def _estimate(self, change: Plane) -> None:
        import cv2

        counts = np.cumsum(cv2.calcHist([change], [0], None, [256], [0, 256]))
        if counts[0] > 0.3 * counts[-1]:
            return  # the same frame twice says nothing of noise
        level = float(np.searchsorted(counts, 0.3 * counts[-1])) / _SCALE
        if self._started:
            level = min(level, self.noise * _RISE)
        self._started = True
        self.noise = min(max(level, _QUIETEST), _LOUDEST)


class _HeldPlane:
    """One plane of the held frame, and room for its sums: fresh memory for each frame costs more than they."""

    def __init__(self, plane: Plane) -> None:
        self.plane = np.array(plane)
        self._share, self._up, self._down = (np.empty(plane.shape, np.uint8) for _ in range(3))

    def mix(self, new: Plane, mask: Plane) -> Plane:
        """Take over ``new`` where the mask is 255, by shares where it is above 0."""
        import cv2

        height, width = self.plane.shape
        cv2.resize(mask, (width, height), dst=self._share, interpolation=cv2.INTER_LINEAR)
        # What is to be added and what to be taken away: 8 bits have no sign, and saturate at 0.
        new = np.ascontiguousarray(new)
        cv2.subtract(new, self.plane, dst=self._up)
        cv2.subtract(self.plane, new, dst=self._down)
        for part in (self._up, self._down):
            cv2.multiply(part, self._share, dst=part, scale=1 / 255)
        cv2.add(self.plane, self._up, dst=self.plane)
        cv2.subtract(self.plane, self._down, dst=self.plane)
        return self.plane


def _cell_means(planes: Planes) -> list[Plane]:
    """Return the means of all cells, each of shape (height / 4, width / 4) of the luma, rounded up."""
    import cv2

    height, width = planes.y.shape
    to = (-(-width // _CELL), -(-height // _CELL))
    return [
        np.asarray(cv2.resize(np.ascontiguousarray(plane), to, interpolation=cv2.INTER_AREA), np.uint8)
        for plane in planes
    ]


def _difference(now: Plane, then: Plane) -> Plane:
    """Return the difference of cells, averaged over ``_WINDOW``, in 1/16 levels."""
    import cv2

    fine = cv2.convertScaleAbs(cv2.absdiff(now, then), alpha=_SCALE)
    return np.asarray(cv2.blur(fine, (_WINDOW, _WINDOW)), np.uint8)

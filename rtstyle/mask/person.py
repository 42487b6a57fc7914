"""A mask of the persons in a frame: a small network where something moves, smoothed in time, with the frame's edges."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle.frame import Frame, Plane, Size
from rtstyle.mask.file import feathered
from rtstyle.mask.mix import FrameMask
from rtstyle.mask.network import SmallImage, SmallNetwork, shrunk
from rtstyle.video.samples import turned_back

Map = NDArray[np.float32]

_SIDE = 256
"""Pixels per side of what the network sees."""

_PERIOD = Fraction(1, 5)
"""Seconds between two runs of the network where nothing moves."""

_EARLY = Fraction(1, 500)
"""Seconds by which a run may be earlier: times are rounded."""

_LEAST = 0.12
"""Share of a new result where nothing moves."""

_MOVED = 8.0
"""Levels of luma by which the mean of 9x9 pixels differs where everything is new."""

_MOVING, _FEW = 3.0, 130
"""The network runs at once where more than so many of its pixels differ by more than so many levels."""

_FINE = 360
"""Least short side to which larger frames are reduced, by a whole factor, before edges are looked for."""

_RADIUS = 3
"""Of the windows in which the mask is a linear function of luma, in pixels of half the reduced size."""

_EVEN = 30.0
"""Variance of luma below which a window counts as even, in squared levels."""

_NEIGHBORS = np.ones((5, 5), np.uint8)
"""Pixels of half the reduced size among which the mask has to differ where edges are looked for."""

_CERTAIN = 0.05
"""Difference of the mask below which it stays as the network gives it."""

_CUT = 0.15
"""What the network gives below this is 0, and above 1 minus this is 1."""


class PersonMask(FrameMask):
    """The style on persons, or on everything else.

    The network is MediaPipe's selfie segmentation. Its result is mixed with earlier ones where the luma has not
    changed. A guided filter on the frame's luma (He, Sun and Tang 2013; the fast one, He and Sun 2015) then brings its
    edges to those of the frame.

    Args:
        size: Of the frames, as they are stored.
        background: Everything but the persons.
        feather: Width of a soft edge in pixels, inside of the mask; None: as the network has it.
        matrix: How players turn the frames, as FFmpeg's display matrix; None: not at all.

    Raises:
        BackendUnavailableError: OpenVINO cannot run the network.
    """

    def __init__(
        self,
        size: Size,
        *,
        background: bool = False,
        feather: int | None = None,
        matrix: tuple[int, ...] | None = None,
    ) -> None:
        self._size, self._background, self._feather, self._matrix = size, background, feather or 0, matrix
        self._network, self._small = SmallNetwork("person.onnx"), SmallImage(matrix)
        self.restart()

    def restart(self) -> None:
        self._person: Map | None = None  # smoothed, shape (256, 256), 0 to 1, as the frames are stored
        self._luma: Map | None = None  # of the frame that the network saw last
        self._run_at = Fraction(0)

    def at(self, frame: Frame, time: Fraction) -> Plane:
        fine = _edge_luma(frame.planes.y, self._size)
        luma = shrunk(fine, _SIDE, _SIDE).astype(np.float32)
        moved = None if self._luma is None else np.asarray(cv2.blur(cv2.absdiff(luma, self._luma), (9, 9)), np.float32)
        late = not 0 <= time - self._run_at < _PERIOD - _EARLY
        if moved is None or late or np.count_nonzero(moved > _MOVING) > _FEW:
            self._run_at, self._luma = time, luma
            self._find(frame, moved)
        assert self._person is not None
        mask = _aligned(self._person, fine, self._size)
        if self._background:
            mask = 255 - mask
        return feathered(mask, self._feather)

    def _find(self, frame: Frame, moved: Map | None) -> None:
        """Run the network and mix what it finds into what it found before.

        Args:
            moved: Levels by which each pixel's surroundings differ from when the network ran last; None: it never did.
        """
        rgb = self._small.of(frame, _SIDE, _SIDE)
        image = np.ascontiguousarray(rgb.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
        found = self._network.run(image)[0][0, 0]
        found = turned_back(found, self._matrix) if self._matrix is not None else found.copy()
        if self._person is None or moved is None:
            self._person = found
        else:
            self._person += np.clip(_LEAST + moved / _MOVED, _LEAST, 1).astype(np.float32) * (found - self._person)

    def close(self) -> None:
        """Nothing is open."""


def _edge_luma(luma: Plane, size: Size) -> Plane:
    """Return the luma of a frame with a short side of about 360 pixels, or as it is where that is smaller."""
    factor = max(1, min(size.width, size.height) // _FINE)
    return luma if factor == 1 else shrunk(luma, size.width // factor, size.height // factor)


def _aligned(person: Map, luma: Plane, size: Size) -> Plane:
    """Return a mask of a size, with edges where the reduced luma has them, cut to 0 and 255."""
    fine = Size(luma.shape[1], luma.shape[0])
    coarse = Size(max(1, fine.width // 2), max(1, fine.height // 2))
    mask = _scaled(person, coarse)
    slope, offset = _linear(shrunk(luma, coarse.width, coarse.height).astype(np.float32), mask)
    certain = cv2.dilate(mask, _NEIGHBORS) - cv2.erode(mask, _NEIGHBORS) < np.float32(_CERTAIN)
    slope[certain], offset[certain] = 0, mask[certain]
    gain = np.float32(255 / (1 - 2 * _CUT))
    guided = _scaled(slope * gain, fine)
    guided *= luma
    guided += _scaled((offset - np.float32(_CUT)) * gain, fine)
    levels = np.asarray(cv2.convertScaleAbs(np.maximum(guided, 0, out=guided)), np.uint8)  # it rounds
    return levels if fine == size else np.asarray(cv2.resize(levels, (size.width, size.height)), np.uint8)


def _scaled(image: Map, size: Size) -> Map:
    return np.asarray(cv2.resize(image, (size.width, size.height), interpolation=cv2.INTER_LINEAR), np.float32)


def _linear(guide: Map, mask: Map) -> tuple[Map, Map]:
    """Return slope and offset by which the mask follows from the guide around each pixel."""
    window = (2 * _RADIUS + 1, 2 * _RADIUS + 1)
    mean, mean_mask = cv2.blur(guide, window), cv2.blur(mask, window)
    variance = cv2.blur(guide * guide, window) - mean * mean
    covariance = cv2.blur(guide * mask, window) - mean * mean_mask
    slope = covariance / (variance + np.float32(_EVEN))
    offset = mean_mask - slope * mean
    return np.asarray(cv2.blur(slope, window), np.float32), np.asarray(cv2.blur(offset, window), np.float32)

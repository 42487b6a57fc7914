"""A mask of the persons in a frame: a small network at a low rate, smoothed in time, with the edges of the frame."""

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

_PERIOD = Fraction(1, 15)
"""Seconds between two runs of the network."""

_EARLY = Fraction(1, 500)
"""Seconds by which a run may be earlier: times are rounded."""

_LEAST = 0.12
"""Share of a new result where nothing moves."""

_MOVED = 8.0
"""Levels of luma by which the mean of 9x9 pixels differs where everything is new."""

_COARSE, _FINE = 180, 360
"""Short side of what edges are computed from, and of what they are applied to, in pixels."""

_RADIUS = 3
"""Of the windows in which the mask is a linear function of luma, in pixels of the coarse size."""

_EVEN = 30.0
"""Variance of luma below which a window counts as even, in squared levels."""

_NEIGHBORS = np.ones((5, 5), np.uint8)
"""Pixels of the coarse size among whose values a pixel stays: edges move by two pixels at most."""

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
        if self._person is None or not 0 <= time - self._run_at < _PERIOD - _EARLY:
            self._run_at = time
            self._find(frame)
        assert self._person is not None
        mask = _aligned(self._person, frame.planes.y, self._size)
        if self._background:
            mask = 255 - mask
        return feathered(mask, self._feather)

    def _find(self, frame: Frame) -> None:
        """Run the network and mix what it finds into what it found before."""
        rgb = self._small.of(frame, _SIDE, _SIDE)
        image = np.ascontiguousarray(rgb.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
        found = self._network.run(image)[0][0, 0]
        found = turned_back(found, self._matrix) if self._matrix is not None else found.copy()
        luma = shrunk(frame.planes.y, _SIDE, _SIDE).astype(np.float32)
        if self._person is None or self._luma is None:
            self._person = found
        else:
            moved = cv2.blur(cv2.absdiff(luma, self._luma), (9, 9))
            self._person += np.clip(_LEAST + moved / _MOVED, _LEAST, 1).astype(np.float32) * (found - self._person)
        self._luma = luma

    def close(self) -> None:
        """Nothing is open."""


def _aligned(coarse: Map, luma: Plane, size: Size) -> Plane:
    """Return a mask in the size of the frame, with edges where the frame has them, cut to 0 and 255."""
    small, fine = (_with_short_side(size, side) for side in (_COARSE, _FINE))
    guide = shrunk(luma, small.width, small.height).astype(np.float32)
    mask = _scaled(coarse, small)
    slope, offset = _linear(guide, mask)
    low, high = (np.asarray(way(mask, _NEIGHBORS), np.float32) for way in (cv2.erode, cv2.dilate))
    gain = np.float32(255 / (1 - 2 * _CUT))
    low, high = (np.clip((bound - np.float32(_CUT)) * gain, 0, 255) for bound in (low, high))
    edges = luma if fine == size else shrunk(luma, fine.width, fine.height)
    guided = _scaled(slope * gain, fine) * edges + _scaled((offset - np.float32(_CUT)) * gain, fine)
    levels = np.rint(np.clip(guided, _scaled(low, fine), _scaled(high, fine))).astype(np.uint8)
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


def _with_short_side(size: Size, pixels: int) -> Size:
    """Return a size of the same shape whose short side is so long, or the size where it is smaller."""
    scale = min(1.0, pixels / min(size.width, size.height))
    return size if scale == 1 else Size(max(1, round(size.width * scale)), max(1, round(size.height * scale)))

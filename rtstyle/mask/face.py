"""Weakens the style on faces, so that eyes and mouths stay readable."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle.frame import Frame, Plane, Size
from rtstyle.mask.mix import FrameMask
from rtstyle.mask.network import SmallImage, SmallNetwork
from rtstyle.video.samples import turned_back

_SIDE, _CELL = 192, 4
"""Pixels per side of what the network sees, and between two of its places."""

_PERIOD = Fraction(1, 10)
"""Seconds between two runs of the network."""

_EARLY = Fraction(1, 500)
"""Seconds by which a run may be earlier: times are rounded."""

_CERTAIN = 0.5
"""Least confidence of a face."""

_OVERLAP = 0.3
"""Intersection over union from which on two boxes are of one face."""

_KEPT = 0.35
"""Strength of the style in the middle of a face, relative to that beside it."""

_WIDER, _HIGHER = 0.62, 0.78
"""Half axes of a face's ellipse, relative to the width and height of its box."""

_MAP = 128
"""Pixels per side of the map of faces."""

_FOLLOWED = 0.35
"""Share of the way to a new position that the map goes in each frame."""


class FaceMask(FrameMask):
    """Another mask, or none, weakened on faces.

    The network is MediaPipe's face detection for the full range (BlazeFace). Faces are soft ellipses, which move and
    fade within some frames.

    Args:
        inner: The mask; None: the style everywhere. It is closed with this one.
        size: Of the frames, as they are stored.
        matrix: How players turn the frames, as FFmpeg's display matrix; None: not at all.

    Raises:
        BackendUnavailableError: OpenVINO cannot run the network.
    """

    def __init__(self, inner: FrameMask | None, size: Size, matrix: tuple[int, ...] | None = None) -> None:
        self._inner, self._size, self._matrix = inner, size, matrix
        self._network, self._small = SmallNetwork("face.tflite"), SmallImage(matrix)
        self.restart()

    def restart(self) -> None:
        self._faces: NDArray[np.float32] | None = None  # shape (128, 128), 0 to 1, as the frames are stored
        self._found = np.zeros((_MAP, _MAP), np.float32)
        self._run_at = Fraction(0)
        if self._inner:
            self._inner.restart()

    def at(self, frame: Frame, time: Fraction) -> Plane | None:
        mask = self._inner.at(frame, time) if self._inner else None
        if self._faces is None or not 0 <= time - self._run_at < _PERIOD - _EARLY:
            self._run_at = time
            self._found = self._find(frame)
        if self._faces is None:
            self._faces = self._found.copy()
        else:
            self._faces += np.float32(_FOLLOWED) * (self._found - self._faces)
        if float(self._faces.max()) < 1 / 255:
            return mask
        weights = np.rint(255 - 255 * (1 - _KEPT) * self._faces).astype(np.uint8)
        whole = np.asarray(cv2.resize(weights, (self._size.width, self._size.height)), np.uint8)
        return whole if mask is None else np.asarray(cv2.multiply(mask, whole, scale=1 / 255), np.uint8)

    def _find(self, frame: Frame) -> NDArray[np.float32]:
        """Return a map of the faces in a frame."""
        faces = np.zeros((_MAP, _MAP), np.uint8)
        for x, y, width, height in self._detect(frame):
            centre = round(16 * _MAP * (x + width / 2)), round(16 * _MAP * (y + height / 2))
            axes = round(16 * _MAP * width * _WIDER), round(16 * _MAP * height * _HIGHER)
            cv2.ellipse(faces, centre, axes, 0, 0, 360, 255, -1, cv2.LINE_AA, 4)
        soft = np.asarray(cv2.blur(faces, (7, 7)), np.uint8)
        stored = soft if self._matrix is None else turned_back(soft, self._matrix)
        return stored.astype(np.float32) / np.float32(255)

    def _detect(self, frame: Frame) -> list[tuple[float, float, float, float]]:
        """Return x, y, width and height of each face, as players show the frame, relative to its sides."""
        quarter = self._matrix is not None and not round(self._matrix[0] / 65536)
        width, height = (self._size.height, self._size.width) if quarter else (self._size.width, self._size.height)
        scale = _SIDE / max(width, height)
        inside = max(2, 2 * round(width * scale / 2)), max(2, 2 * round(height * scale / 2))
        image = np.zeros((1, _SIDE, _SIDE, 3), np.float32)
        image[0, : inside[1], : inside[0]] = self._small.of(frame, *inside).astype(np.float32) / np.float32(127.5)
        image -= 1
        found = sorted(self._network.run(image), key=lambda output: output.shape[-1])
        boxes = _face_boxes(found[0][0, :, 0], found[1][0])
        return [(x / inside[0], y / inside[1], w / inside[0], h / inside[1]) for x, y, w, h in boxes]

    def close(self) -> None:
        if self._inner:
            self._inner.close()


def _face_boxes(scores: NDArray[np.float32], places: NDArray[np.float32]) -> list[tuple[float, float, float, float]]:
    """Return x, y, width and height in pixels of the network's image of each face, the surest first.

    Args:
        scores: Shape (2304,), logits.
        places: Shape (2304, 16): center relative to the cell's, width and height, in pixels, and landmarks.
    """
    columns = _SIDE // _CELL
    certain = np.flatnonzero(scores > np.log(_CERTAIN / (1 - _CERTAIN)))
    kept: list[tuple[float, float, float, float]] = []
    for number in sorted(certain, key=lambda n: -float(scores[n])):
        middle_x, middle_y, width, height = (float(value) for value in places[number, :4])
        x = middle_x + _CELL * (number % columns + 0.5) - width / 2
        y = middle_y + _CELL * (number // columns + 0.5) - height / 2
        if all(_overlap((x, y, width, height), other) < _OVERLAP for other in kept):
            kept.append((x, y, width, height))
    return kept


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> float:
    """Return the intersection of two boxes over their union."""
    wide = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    high = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    inside = max(wide, 0.0) * max(high, 0.0)
    return inside / max(one[2] * one[3] + other[2] * other[3] - inside, 1e-9)

"""Mixes source and stylized frame pixel by pixel, in integers: every machine gives the same bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle.frame import Frame, Plane, Planes

_WHOLE = 128
"""Weight of a pixel that is all style: the largest by which a difference of two bytes still fits into 16 bits."""

_BAND = 1 << 16
"""Samples that are mixed at a time, so that they stay in the cache."""


class FrameMask(Protocol):
    """Gives the weight of each pixel, frame by frame."""

    def at(self, frame: Frame, time: Fraction) -> Plane | None:
        """Return the mask of a frame.

        Args:
            frame: As it is stored, before it is stylized.
            time: Seconds on the timeline of the source.

        Returns:
            Shape of ``frame.planes.y``, uint8, 0 source to 255 style; the same array as before where nothing changed.
            None: the style everywhere.
        """

    def restart(self) -> None:
        """Forget earlier frames: the next one begins a segment, or stands for itself."""

    def close(self) -> None:
        """Close what it reads."""


class Mixer:
    """Applies masks to frames of one size. What it computes of a mask is kept until another array comes."""

    def __init__(self) -> None:
        self._mask: Plane | None = None
        self._weights: tuple[NDArray[np.int16], NDArray[np.int16]] | None = None

    def mix(self, source: Frame, stylized: Frame, mask: Plane | None) -> Frame:
        """Return the stylized frame where the mask is 255, the source where it is 0, and a mix between.

        Args:
            mask: Shape of the luma plane, uint8; None: 255 everywhere.
        """
        if mask is None:
            return stylized
        if self._weights is None or mask is not self._mask:
            self._mask, self._weights = mask, (_weights(mask), _weights(halved(mask)))
        luma, chroma = self._weights
        height, width = mask.shape
        planes = _room(height, width)
        for number, weights in enumerate((luma, chroma, chroma)):
            mix_samples(source.planes[number], stylized.planes[number], weights, planes[number])
            planes[number].flags.writeable = False
        return stylized.with_planes(planes)


def faded(old: Frame, new: Frame, share: int) -> Frame:
    """Return a mix of two frames of one size, in new planes.

    Args:
        share: Of the new one, 0 to 128.
    """
    planes = _room(*old.planes.y.shape)
    for before, after, out in zip(old.planes, new.planes, planes, strict=True):
        mix_samples(before, after, np.int16(share), out)
        out.flags.writeable = False
    return new.with_planes(planes)


def mix_rgb(source: NDArray[np.uint8], stylized: NDArray[np.uint8], mask: Plane) -> NDArray[np.uint8]:
    """Mix two RGB images of shape (height, width, 3), uint8, by a mask of shape (height, width); a new array."""
    height, width = mask.shape
    out = np.empty((height, width, 3), np.uint8)
    weights = np.repeat(_weights(mask), 3, axis=1)
    before, after, room = (image.reshape(height, 3 * width) for image in (source, stylized, out))
    mix_samples(before, after, weights, room)
    return out


def mix_samples(source: Plane, stylized: Plane, weights: NDArray[np.int16] | np.int16, out: Plane) -> None:
    """Write ``source + (stylized - source) * weights / 128``, rounded, into ``out``.

    Args:
        weights: Of each sample, in the shape of the others, or one for all.
    """
    height, width = out.shape
    rows = max(1, _BAND // width)
    room = np.empty((min(rows, height), width), np.int16)
    for top in range(0, height, rows):
        part = slice(top, min(top + rows, height))
        mixed = room[: part.stop - top]
        np.subtract(stylized[part], source[part], out=mixed, dtype=np.int16)
        mixed *= weights[part] if isinstance(weights, np.ndarray) else weights
        mixed += _WHOLE // 2
        mixed >>= 7
        mixed += source[part]
        out[part] = mixed


def halved(mask: Plane) -> Plane:
    """Return the mask of the chroma samples: the mean of each 2x2 pixels, where the size is odd of those there are."""
    height, width = mask.shape
    even = cv2.copyMakeBorder(mask, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    half = ((width + 1) // 2, (height + 1) // 2)
    return np.asarray(cv2.resize(even, half, interpolation=cv2.INTER_AREA), np.uint8)


def _weights(mask: Plane) -> NDArray[np.int16]:
    """Return 0 for 0, 128 for 255, and what lies between in proportion."""
    weights: NDArray[np.int16] = np.add(mask, 1, dtype=np.int16)
    weights >>= 1
    return weights


def _room(height: int, width: int) -> Planes:
    """Return planes to write to, which lie one behind the other as encoders take them, where the size is even."""
    half = ((height + 1) // 2, (width + 1) // 2)
    if height % 2 or width % 2:
        return Planes(np.empty((height, width), np.uint8), np.empty(half, np.uint8), np.empty(half, np.uint8))
    whole = np.empty((height * 3 // 2, width), np.uint8)
    u, v = whole[height:].reshape(2, *half)
    return Planes(whole[:height], u, v)


def masked(
    frames: Iterable[Frame],
    stylize: Callable[[Iterable[Frame]], Iterator[Frame]],
    mask: FrameMask | None,
    begins: Fraction = Fraction(0),
    every: int = 0,
) -> Iterator[Frame]:
    """Yield what ``stylize`` makes of the frames, mixed with them by a mask.

    Args:
        stylize: Yields one frame for each, in order.
        begins: Seconds on the source's timeline at which times of frames are 0.
        every: Frames of a segment, with each of which the mask restarts; 0: it never does.
    """
    if mask is None:
        yield from stylize(frames)
        return
    sources: deque[Frame] = deque()
    mixer = Mixer()

    def noted() -> Iterator[Frame]:
        for frame in frames:
            sources.append(frame)
            yield frame

    for number, stylized in enumerate(stylize(noted())):
        source = sources.popleft()
        if every and number % every == 0:
            mask.restart()
        yield mixer.mix(source, stylized, mask.at(source, source.pts * source.time_base + begins))

"""A grey image or video as a mask."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle.errors import ImageError, RtstyleError, SettingError, reason_of
from rtstyle.files import hushed, read_whole
from rtstyle.frame import MAX_PIXELS, Frame, Plane, Size
from rtstyle.mask.mix import FrameMask
from rtstyle.metadata import read_metadata
from rtstyle.video import VideoReader
from rtstyle.video.inputs import check_exists
from rtstyle.video.samples import turned_back

_STILLS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".pgm", ".pbm", ".avif")
"""Extensions of files that are read as one image."""

_LARGEST = 1 << 29
"""Bytes of the largest image that is read."""

_FAR = 20
"""Seconds of a video that are decoded rather than skipped by a seek."""

_BEFORE = 10
"""Seconds before a moment from which on a video is decoded after a seek: its frames may be as far apart."""

_ROUNDED = Fraction(1, 500)
"""Seconds by which times of the same moment differ from one container to another."""

_NOISE = 2
"""Levels of 255 by which lossy codecs miss black and white: what is so near to them is black or white."""


class FileMask(FrameMask):
    """A mask from an image, or from a video whose frames are shown at the times of the source.

    The last frame of a video is held. What is drawn is as players show the source: it is turned as its frames lie.

    Args:
        size: Of the frames, as they are stored.
        feather: Width of the soft edge in pixels; None: a 180th of the short side.
        matrix: How players turn the frames, as FFmpeg's display matrix; None: not at all.

    Raises:
        SettingError: The file cannot be read as an image or video.
    """

    def __init__(
        self, path: Path, size: Size, *, feather: int | None = None, matrix: tuple[int, ...] | None = None
    ) -> None:
        self._size, self._matrix = size, matrix
        self._feather = round(min(size.width, size.height) / 180) if feather is None else feather
        self._shown: Plane | None = None
        self._clip: MaskClip | None = None
        try:
            check_exists(path)
            if is_still(path):
                self._shown = self._fitted(read_grey(path))
            else:
                self._clip = MaskClip(path)
        except RtstyleError as error:
            raise SettingError(f"cannot read the mask {path}: {error}") from error

    def at(self, frame: Frame, time: Fraction) -> Plane:
        if self._clip is not None:
            new = self._clip.at(time)
            if new is not None:
                self._shown = self._fitted(new)
        assert self._shown is not None
        return self._shown

    def _fitted(self, grey: Plane) -> Plane:
        """Scale a mask to the frame, turn it as the frame lies, and feather it."""
        turned = turned_back(grey, self._matrix) if self._matrix else grey
        height, width = turned.shape
        smaller = self._size.width < width or self._size.height < height
        how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        scaled = cv2.resize(turned, (self._size.width, self._size.height), interpolation=how)
        return feathered(np.asarray(scaled, np.uint8), self._feather)

    def restart(self) -> None:
        """What it gives depends on the time only."""

    def close(self) -> None:
        if self._clip is not None:
            self._clip.close()


def is_still(path: Path) -> bool:
    """Return whether a file is read as one image."""
    return path.suffix.lower() in _STILLS and path.is_file()


def feathered(mask: Plane, width: int) -> Plane:
    """Return a mask whose edges rise over ``width`` pixels, inside what was above 0: where it was 0, it is 0."""
    reach = width // 2
    if not reach:
        return mask
    inner = cv2.erode(mask, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    return np.asarray(cv2.blur(inner, (2 * reach + 1, 2 * reach + 1), borderType=cv2.BORDER_REPLICATE), np.uint8)


class MaskClip:
    """The frames of a mask video, by the times at which they are shown.

    Raises:
        VideoOpenError: The file cannot be read as a video.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open(None)
        self.files = self._reader.files
        self.duration = self._reader.duration
        """Seconds as declared; None where it is unknown."""

    def _open(self, start: Fraction | None) -> None:
        self._reader = VideoReader(self._path, start=start, keep_packets=False)
        if not self._reader.files:
            self._reader.close()
            raise SettingError("it is no file: masks are read from the disk")
        self._reader.packets.clear()
        self._reader.turn_upright()
        self._frames: Iterator[Frame] = iter(self._reader)
        self._next: Frame | None = next(self._frames)
        self._time: Fraction | None = None
        """When the current frame is shown; None before the first."""

    def at(self, time: Fraction) -> Plane | None:
        """Return the frame that is shown at a moment, grey, full range; None where it is the one of the last call.

        Args:
            time: Seconds.

        Raises:
            VideoOpenError: The file can be read no further.
        """
        time += _ROUNDED
        back = self._time is not None and time < self._time
        if back or (self._next is not None and time > (self._time or 0) + _FAR):
            self._enter(time, back)
        shown = None
        while self._next is not None and (self._time is None or self._time_of(self._next) <= time):
            shown, self._time = self._next, self._time_of(self._next)
            self._next = next(self._frames, None)
        return None if shown is None else grey_of(shown)

    def _enter(self, time: Fraction, back: bool) -> None:
        """Go to a place before a moment that is earlier than the current frame (``back``), or far behind it."""
        start = time - _BEFORE
        if start > 0 and self.duration is not None and start < self.duration:
            self._restart(start)
            if self._next is not None and self._time_of(self._next) > time:
                self._restart(None)
        elif back:
            self._restart(None)

    def _restart(self, start: Fraction | None) -> None:
        self._reader.close()
        try:
            self._open(start)
        except RtstyleError:
            if start is None:
                raise
            self._open(None)  # its last frame begins before that

    def _time_of(self, frame: Frame) -> Fraction:
        return frame.pts * frame.time_base + self._reader.begins

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


def grey_of(frame: Frame) -> Plane:
    """Return the luma of a frame in full range, with transparent pixels black."""
    low, high = (0, 255) if frame.color.full_range else (16, 235)
    levels = (np.arange(256) - (low + _NOISE)) * 255 / (high - low - 2 * _NOISE)
    grey = np.clip(np.rint(levels), 0, 255).astype(np.uint8)[frame.planes.y]
    return grey if frame.alpha is None else _over_black(grey, frame.alpha)


def _over_black(grey: NDArray[Any], alpha: NDArray[Any]) -> Plane:
    return np.asarray(cv2.multiply(grey, alpha, scale=1 / np.iinfo(alpha.dtype).max), grey.dtype)


def read_grey(path: Path) -> Plane:
    """Read an image, upright: its luma, with transparent pixels black; shape (height, width), uint8.

    Raises:
        ImageError: It is missing, or no image.
    """
    try:
        data = read_whole(path, _LARGEST)
    except OSError as error:
        raise ImageError(reason_of(error)) from error
    size = read_metadata(data).size
    if size and size[0] * size[1] > MAX_PIXELS:
        raise ImageError(f"it is {size[0]}x{size[1]}; at most {MAX_PIXELS / 1e6:.0f} megapixels are read")
    raw = np.frombuffer(data, np.uint8)
    try:
        with hushed():
            stored = cv2.imdecode(raw, cv2.IMREAD_UNCHANGED) if len(raw) else None
            if stored is not None and stored.ndim == 3 and stored.shape[2] == 3:
                stored = cv2.imdecode(raw, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)  # turned as EXIF says
            elif stored is not None and stored.ndim == 2:
                stored = cv2.imdecode(raw, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        raise ImageError(error.err or error.msg) from error
    if stored is None or stored.dtype not in (np.uint8, np.uint16):
        raise ImageError("it is no image of 8 or 16 bits")
    grey: NDArray[Any] = np.asarray(stored)
    if grey.ndim == 3:
        alpha = grey[..., 3] if grey.shape[2] == 4 else None
        grey = np.asarray(cv2.cvtColor(grey[..., :3], cv2.COLOR_BGR2GRAY))
        grey = grey if alpha is None else _over_black(grey, alpha)
    return grey if grey.dtype == np.uint8 else ((grey.astype(np.uint32) + 128) // 257).astype(np.uint8)

"""Still images: how one is read, upright and within limits, with what stands beside its pixels."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle.errors import ImageError, SettingError, reason_of
from rtstyle.files import hushed, read_whole
from rtstyle.frame import MAX_PIXELS, Size
from rtstyle.memory import memory_available, refuse_too_large
from rtstyle.metadata import JPEG, Metadata, read_metadata

STDIO = Path("-")
"""The input or output that is no file."""


@dataclass(frozen=True)
class LoadedImage:
    """An image that was read, upright."""

    samples: NDArray[np.uint8]
    """Shape (h, w, 3) BGR or (h, w, 4) BGRA."""
    about: Metadata
    notes: tuple[str, ...] = ()
    """What was lost in reading it, in words."""


def image_samples(path: Path) -> NDArray[np.uint8]:
    """Read only the pixels of an image, see ``load_image``."""
    return load_image(path).samples


def load_image(path: Path) -> LoadedImage:
    """Read an image, ``-`` from the standard input, turned upright, with what stands beside its pixels.

    Raises:
        ImageError: It is missing, no image, smaller than 16x16, or larger than ``frame.MAX_PIXELS``.
    """
    if path.is_dir():
        raise ImageError(f"{path} is a folder; give an output folder too, or one image")
    try:
        data = sys.stdin.buffer.read(_LARGEST + 1) if path == STDIO else read_whole(path, _LARGEST)
    except OSError as error:
        raise ImageError(f"cannot read {path}: {reason_of(error)}") from error
    _refuse_bomb(path, data)
    about = read_metadata(data)
    if about.size and about.size[0] * about.size[1] > MAX_PIXELS:
        size, most = "x".join(map(str, about.size)), MAX_PIXELS / 1e6
        raise ImageError(
            f"{path} cannot be read as an image: it is {size} by its header; at most {most:.0f} megapixels are read"
        )
    if about.size:
        try:
            refuse_too_large(Size(*about.size), memory_available())
        except SettingError as error:
            raise ImageError(f"{path}: {error}") from error
    notes: list[str] = []
    with hushed():
        stored = _decode(path, data, about, notes)
        about = replace(about, animated=about.animated or _moves(data))
    if min(stored.shape[:2]) < 16:
        raise ImageError(f"{path} is {stored.shape[1]}x{stored.shape[0]}; images must be at least 16x16")
    if about.animated:
        notes.append("it is animated, and only its first frame is stylized: rtstyle video does all of them")
    return LoadedImage(_upright(stored, about.orientation), about, tuple(notes))


def _refuse_bomb(path: Path, data: bytes) -> None:
    """Refuse an image of more bytes or scans than any; each scan of a JPEG costs a decoder as much as an image.

    Raises:
        ImageError: It has.
    """
    if len(data) > _LARGEST:
        raise ImageError(f"{path} has more than {_LARGEST >> 20} MB, which no image needs")
    if data[:2] == b"\xff\xd8" and data.count(b"\xff\xda") > _SCANS:
        raise ImageError(f"{path} is a JPEG of more than {_SCANS} scans, which no program writes")


_LARGEST, _SCANS = 1 << 29, 200
"""Bytes of the largest image that is read, and scans of a JPEG; progressive ones have about 10."""


def _moves(data: bytes) -> bool:
    """Return whether a GIF or AVIF holds more than one frame; other formats say so in a header."""
    if data[:4] != b"GIF8" and data[4:12] != b"ftypavis":
        return False
    try:
        return len(cv2.imdecodemulti(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR, range=(0, 2))[1]) > 1
    except cv2.error:
        return False


def _decode(path: Path, data: bytes, about: Metadata, notes: list[str]) -> NDArray[np.uint8]:
    """Decode the pixels as they are stored: BGR, or BGRA where any may be transparent."""
    raw = np.frombuffer(data, np.uint8)
    # UNCHANGED keeps 16 bits and transparency; JPEG has neither, and may be CMYK. Both leave the image as it lies,
    # but for formats of which no header is known here: those are turned by OpenCV.
    how = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION if about.kind == JPEG else cv2.IMREAD_UNCHANGED
    try:
        decoded = cv2.imdecode(raw, how) if len(raw) else None
        if decoded is not None and not about.kind and decoded.ndim == 3 and decoded.shape[2] == 3:
            turned = cv2.imdecode(raw, cv2.IMREAD_COLOR)
            decoded = turned if decoded.dtype == np.uint8 and turned is not None else decoded
    except cv2.error as error:  # more pixels than OpenCV takes
        raise ImageError(f"{path} cannot be read as an image: {error.err or error.msg}") from error
    if decoded is None:
        heic = data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc")
        kinds = "HEIC: convert it to jpg or png first" if heic else "jpg, png or webp"
        raise ImageError(f"{path} cannot be read as an image ({kinds})")
    samples: NDArray[Any] = np.asarray(decoded)
    if samples.ndim == 2:
        samples = samples[..., None]
    if about.transparent and samples.shape[2] in (1, 3):
        samples = np.concatenate((samples, _opacity(samples, about)), 2)
    if samples.dtype == np.uint16:
        notes.append("its 16 bits are reduced to 8: styles are made in 8 bits")
        samples = np.asarray((samples.astype(np.uint32) + 128) // 257, np.uint8)
    elif samples.dtype != np.uint8:
        raise ImageError(f"{path} holds linear light ({samples.dtype}), which is not read: save it with 8 or 16 bits")
    if samples.shape[2] <= 2:  # grey, maybe with opacity
        samples = np.concatenate((np.repeat(samples[..., :1], 3, 2), samples[..., 1:]), 2)
    return np.ascontiguousarray(samples)


def _opacity(samples: NDArray[Any], about: Metadata) -> NDArray[Any]:
    """Return the opacity of a PNG of which one grey level or color is transparent: shape (h, w, 1)."""
    top = np.iinfo(samples.dtype).max
    stated = np.frombuffer(about.transparent, ">u2")[::-1].astype(np.int64)  # RGB, and OpenCV's order is BGR
    value = stated * (top // ((1 << about.bits) - 1))
    hidden = np.all(samples == value.astype(samples.dtype), axis=2, keepdims=True)
    return np.where(hidden, 0, top).astype(samples.dtype)


def _upright(stored: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn and mirror an image as EXIF says that it is shown."""
    if orientation in (2, 4, 5, 7):
        stored = stored[:, ::-1]
    quarters = {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0)
    return np.ascontiguousarray(np.rot90(stored, quarters))

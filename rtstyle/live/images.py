"""What a live session does to frames besides stylizing them: mix, write on them, save them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np

from rtstyle.errors import ImageError, reason_of
from rtstyle.frame import Frame, Planes, planes_to_rgb


def mixed(old: Frame, new: Frame, share: float) -> Frame:
    """Return ``new`` with ``old`` shining through it; ``share`` is that of ``new``, 0 to 1. They have one size."""
    planes = (
        np.asarray(cv2.addWeighted(np.ascontiguousarray(a), 1 - share, np.ascontiguousarray(b), share, 0), np.uint8)
        for a, b in zip(old.planes, new.planes, strict=True)
    )
    return new.with_planes(Planes(*planes))


def with_message(frame: Frame, message: str) -> Frame:
    """Return the frame with one line on a dark band across its middle; new planes."""
    y, u, v = (np.array(plane) for plane in frame.planes)
    height, width = y.shape
    black, white = (0, 255) if frame.color.full_range else (16, 235)
    font = cv2.FONT_HERSHEY_SIMPLEX
    (long, high), _ = cv2.getTextSize(message, font, 1.0, 1)
    scale = min(0.9 * width / long, height / 12 / high)
    thick = max(1, round(1.5 * scale))
    (long, high), _ = cv2.getTextSize(message, font, scale, thick)
    top = max((height // 2 - high) // 2 * 2, 0)
    bottom = min(top + 2 * high, height)
    y[top:bottom] = black
    u[top // 2 : bottom // 2], v[top // 2 : bottom // 2] = 128, 128
    cv2.putText(y, message, ((width - long) // 2, top + (3 * high) // 2), font, scale, white, thick, cv2.LINE_AA)
    return frame.with_planes(Planes(y, u, v))


def numbered_name(folder: Path, stem: str, extension: str, first: int = 1) -> Path:
    """Return ``stem-0001.extension`` in a folder, with the first number from ``first`` on that no file has.

    Raises:
        ImageError: All numbers up to 9999 are taken.
    """
    for number in range(first, 10000):
        path = folder / f"{stem}-{number:04d}{extension}"
        if not os.path.lexists(path):  # a link that leads nowhere is a name that is taken, too
            return path
    raise ImageError(f"{folder} holds {stem}-9999{extension} and all before it; move some away")


def save_snapshot(frame: Frame, folder: Path) -> Path:
    """Write a frame as ``rtstyle-0001.png`` or the next number that is free, and return its path.

    Raises:
        ImageError: The folder cannot be written.
    """
    bgr = np.ascontiguousarray(planes_to_rgb(frame.planes, frame.color)[..., ::-1])
    ok, png = cv2.imencode(".png", bgr)
    assert ok, "cv2 cannot encode PNG"
    while True:
        path = numbered_name(folder, "rtstyle", ".png")
        try:
            with path.open("xb") as file:
                file.write(png.tobytes())
        except FileExistsError:
            continue
        except OSError as error:
            with suppress(OSError):
                path.unlink(missing_ok=True)  # half of it may have been written
            raise ImageError(f"cannot save a snapshot: {path}: {reason_of(error)}") from error
        return path

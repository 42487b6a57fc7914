"""Samples for the trainer: crops of photos and of the style's images, drawn with a given random generator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle.universal.palette import TO_YUV
from rtstyle.universal.palette import to_yuv as to_yuv

PICTURES = (".jpg", ".jpeg", ".png", ".webp")
TO_RGB = np.linalg.inv(TO_YUV).astype(np.float32)
"""Shape (3, 3): canonical Y, U, V (Y from 0 to 1) to R, G, B in [0, 1]."""


def list_pictures(folder_or_file: Path) -> list[Path]:
    """Return an image, or all images below a folder in a stable order."""
    if folder_or_file.is_file():
        return [folder_or_file]
    return sorted(p for p in folder_or_file.rglob("*") if p.suffix.lower() in PICTURES)


def load_photos(paths: Sequence[Path], at_least: int) -> list[NDArray[np.uint8]]:
    """Load photos as RGB; those whose short side is under ``at_least`` pixels are enlarged to it."""
    photos = []
    for path in paths:
        photo = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if photo is None:
            raise ValueError(f"cannot read the image {path}")
        short = min(photo.shape[:2])
        if short < at_least:
            scale = at_least / short + 1e-3
            photo = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        photos.append(np.ascontiguousarray(photo[:, :, ::-1]))
    return photos


def load_pictures(paths: Sequence[Path], at_least: int) -> list[NDArray[np.uint8]]:
    """Load a style's images as RGB, without the outermost 3 % (frames, edges of paper)."""
    pictures = []
    for photo in load_photos(paths, at_least):
        top, left = (round(0.03 * side) for side in photo.shape[:2])
        pictures.append(np.ascontiguousarray(photo[top : len(photo) - top, left : photo.shape[1] - left]))
    return pictures


def photo_crop(photos: Sequence[NDArray[np.uint8]], size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Cut a crop of ``size`` pixels: scaled 0.7 to 2, mirrored, relit; one in twelve nearly flat, down to black.

    Returns:
        Shape (size, size, 3), RGB in [0, 1].
    """
    photo = photos[rng.integers(len(photos))]
    height, width = photo.shape[:2]
    side = int(min(size / np.exp(rng.uniform(np.log(0.7), np.log(2.0))), height, width))
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    cut = photo[top : top + side, left : left + side][:, :: 1 if rng.random() < 0.5 else -1]
    rgb = cv2.resize(cut, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_CUBIC)
    rgb = np.clip(rgb, 0, 255).astype(np.float32) / 255
    gain, gamma = rng.uniform(0.75, 1.15), np.exp(rng.normal(0, 0.25))
    if rng.random() < 1 / 12:
        rgb = cv2.GaussianBlur(rgb, (0, 0), rng.uniform(6, 24))
        gain *= rng.random() ** 2  # a black flat that it never saw, a network fills with a grid
    return np.clip(gain * rgb**gamma, 0, 1).astype(np.float32)


def picture_crop(picture: NDArray[np.uint8], size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Cut a crop of a style's image, scaled 0.8 to 1.25 and mirrored.

    Returns:
        Shape (3, size, size), in [0, 1].
    """
    height, width = picture.shape[:2]
    side = int(min(size * np.exp(rng.uniform(np.log(0.8), np.log(1.25))), height, width))
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    cut = picture[top : top + side, left : left + side][:, :: 1 if rng.random() < 0.5 else -1]
    crop = cv2.resize(np.ascontiguousarray(cut), (size, size), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(crop.transpose(2, 0, 1), np.float32) / np.float32(255)

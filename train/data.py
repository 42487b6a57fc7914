"""Batches for the trainer: crops of photos and of drawings, each a pure function of (seed, step)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

PICTURES = (".jpg", ".jpeg", ".png", ".webp")
_TO_YUV = np.array(  # BT.709, full range, from RGB
    [[0.2126, 0.7152, 0.0722], [-0.114572, -0.385428, 0.5], [0.5, -0.454153, -0.045847]], np.float32
)


def list_pictures(folder_or_file: Path) -> list[Path]:
    """Return a picture, or all pictures below a folder in a stable order."""
    if folder_or_file.is_file():
        return [folder_or_file]
    return sorted(p for p in folder_or_file.rglob("*") if p.suffix.lower() in PICTURES)


def load_photos(paths: Sequence[Path], at_least: int) -> list[NDArray[np.uint8]]:
    """Load photos as RGB; those whose short side is under ``at_least`` pixels are enlarged to it."""
    photos = []
    for path in paths:
        photo = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if photo is None:
            raise ValueError(f"cannot read the picture {path}")
        short = min(photo.shape[:2])
        if short < at_least:
            photo = cv2.resize(
                photo, None, fx=at_least / short + 1e-3, fy=at_least / short + 1e-3, interpolation=cv2.INTER_CUBIC
            )
        photos.append(np.ascontiguousarray(photo[:, :, ::-1]))
    return photos


def load_drawings(paths: Sequence[Path], at_least: int) -> list[NDArray[np.uint8]]:
    """Load drawings as grey, with the tone of their paper raised to white and the darkest pencil to near black."""
    drawings = []
    for photo in load_photos(paths, at_least):
        grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).astype(np.float32)
        dark, paper = np.percentile(grey, (0.5, 93))
        drawings.append(np.clip((grey - dark) / (paper - dark) * 245 + 10, 0, 255).astype(np.uint8))
    return drawings


def to_yuv(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn RGB in [0, 1] of shape (h, w, 3) into canonical Y - 0.5, U, V of the same shape."""
    yuv = cv2.transform(rgb, _TO_YUV)
    yuv[:, :, 0] -= 0.5
    return np.asarray(yuv, np.float32)


def photo_crops(
    photos: Sequence[NDArray[np.uint8]], count: int, size: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Cut ``count`` crops of ``size`` pixels: scaled 0.7 to 2, mirrored, lit anew; one in twelve nearly flat.

    Returns:
        Shape (count, size, size, 3), canonical YUV before chroma is halved.
    """
    crops = np.empty((count, size, size, 3), np.float32)
    for crop in crops:
        photo = photos[rng.integers(len(photos))]
        height, width = photo.shape[:2]
        side = int(min(size / np.exp(rng.uniform(np.log(0.7), np.log(2.0))), height, width))
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        cut = photo[top : top + side, left : left + side][:, :: 1 if rng.random() < 0.5 else -1]
        shrink = side > size
        rgb = cv2.resize(cut, (size, size), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_CUBIC)
        rgb = np.clip(rgb, 0, 255).astype(np.float32) / 255
        if rng.random() < 1 / 12:
            rgb = cv2.GaussianBlur(rgb, (0, 0), rng.uniform(6, 24))
        gain, gamma = rng.uniform(0.75, 1.15), np.exp(rng.normal(0, 0.25))
        crop[:] = to_yuv(np.clip(gain * rgb**gamma, 0, 1).astype(np.float32))
    return crops


def drawing_crops(
    drawings: Sequence[NDArray[np.uint8]], shares: NDArray[np.float64], count: int, size: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Cut ``count`` crops of drawings, scaled 0.8 to 1.25 and mirrored; ``shares`` are their probabilities.

    Returns:
        Shape (count, 1, size, size), in [0, 1].
    """
    crops = np.empty((count, 1, size, size), np.float32)
    for crop in crops:
        drawing = drawings[rng.choice(len(drawings), p=shares)]
        height, width = drawing.shape[:2]
        side = int(min(size * np.exp(rng.uniform(np.log(0.8), np.log(1.25))), height, width))
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        cut = drawing[top : top + side, left : left + side][:, :: 1 if rng.random() < 0.5 else -1]
        crop[0] = cv2.resize(np.ascontiguousarray(cut), (size, size), interpolation=cv2.INTER_LINEAR) / np.float32(255)
    return crops

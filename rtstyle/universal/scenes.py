"""Images that no one took: shapes that cover one another, from which the last layers of a network are solved.

Leaves of all sizes that fall on one another have the statistics of natural images: their edges, their flats, their
spectra (Lee, Mumford and Huang 2001, "Occlusion Models for Natural Images"). So no photo has to be shipped.
"""

from __future__ import annotations

import cv2
import numpy as np

from rtstyle.canvas.arrays import Floats


def scenes(count: int, side: int, seed: int = 1) -> list[Floats]:
    """Make images of shape (side, side, 3), RGB from 0 to 1; the same on every call."""
    return [_scene(side, np.random.default_rng((seed, number))) for number in range(count)]


def _scene(side: int, rng: np.random.Generator) -> Floats:
    light = rng.uniform(0.25, 0.75)
    image = _color(rng, light)[:, None, None] * (1 + _slope((side, side), side, rng, 0.35))
    largest = side * rng.uniform(0.25, 0.7)
    for _ in range(int(rng.integers(12, 60))):
        _drop(image, float(np.exp(rng.uniform(np.log(3), np.log(largest)))), light, rng)
    blur = rng.uniform(0.4, 1.6) if rng.random() < 0.8 else rng.uniform(3, 8)
    return np.asarray(np.clip(cv2.GaussianBlur(cv2.merge(list(image)), (0, 0), blur), 0, 1), np.float32)


def _drop(image: Floats, radius: float, light: float, rng: np.random.Generator) -> None:
    """Let one leaf fall on an image, shape (3, side, side)."""
    side = image.shape[1]
    x, y = (int(v) for v in rng.uniform(0, side, 2))
    reach = int(1.5 * radius) + 2
    left, top, right, bottom = max(0, x - reach), max(0, y - reach), min(side, x + reach), min(side, y + reach)
    mask = np.zeros((bottom - top, right - left), np.uint8)
    axes, turn, center = (
        (int(radius), max(1, int(radius * rng.uniform(0.3, 1)))),
        rng.uniform(0, 360),
        (x - left, y - top),
    )
    if rng.random() < 0.5:
        cv2.ellipse(mask, center, axes, turn, 0, 360, 255, -1, cv2.LINE_AA)
    else:
        corners = cv2.boxPoints((center, (2.0 * axes[0], 2.0 * axes[1]), turn))
        cv2.fillConvexPoly(mask, corners.astype(np.int32), 255, cv2.LINE_AA)
    shade = 1 + _slope(mask.shape, 2 * reach, rng, 0.5) + _texture(mask.shape, rng)
    cover = mask.astype(np.float32) / np.float32(255)
    for plane, color in zip(image[:, top:bottom, left:right], _color(rng, light), strict=True):
        plane += cover * (color * shade - plane)


def _color(rng: np.random.Generator, light: float) -> Floats:
    """Choose a color as photos have them: mostly gray, now and then pure."""
    gray = np.clip(light + 0.28 * rng.standard_normal(), 0.02, 0.98)
    tint = rng.standard_normal(3) * (0.04 if rng.random() < 0.6 else 0.14)
    return np.asarray(np.clip(gray + tint - tint.mean() * 0.5, 0, 1), np.float32)


def _slope(shape: tuple[int, ...], side: int, rng: np.random.Generator, most: float) -> Floats:
    """The top left of a plane of that side through 0, which reaches ``most`` at most."""
    angle, height = rng.uniform(0, 2 * np.pi), rng.uniform(0, most)
    y, x = (
        (height * along * np.linspace(-1, 1, side)[:count]).astype(np.float32)
        for along, count in zip((np.sin(angle), np.cos(angle)), shape, strict=True)
    )
    return np.asarray(x + y[:, None], np.float32)


def _texture(shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Noise of a scale by chance, as of cloth, grass or skin; weak in most leaves."""
    scale = float(np.exp(rng.uniform(np.log(0.7), np.log(6))))
    noise = cv2.GaussianBlur(rng.standard_normal(shape, np.float32), (0, 0), scale)
    return np.asarray(noise * np.float32(rng.exponential(0.035) / (np.sqrt(np.mean(noise * noise)) + 1e-6)), np.float32)

"""Pencil strokes made in code: what a drawing of a photo on the canvas could look like.

A warm start for drawing styles. Style losses know which marks are right but not where they belong;
this knows where (dark areas are hatched around their forms, edges get a contour, paper stays white)
but its marks are plain. The generator first learns the place of strokes from here, then their manner
from drawings. Lines after Winnemoeller, Kyprianidis and Olsen 2012, "XDoG: an extended
difference-of-Gaussians compendium"; hatching as a threshold of smeared noise after Cabral and Leedom
1993, "Imaging vector fields using line integral convolution", along a few fixed directions.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]

DIRECTIONS = (22, 52, 82, 112, 142, 172)
"""Directions in which hatching is drawn, in degrees; 0 is horizontal, 90 is upright."""

HAND = 52
"""The direction that a right hand prefers, in degrees: used where the form gives none."""


def smear(noise: Picture, degrees: float, along: float, across: float, period: float = math.inf) -> Picture:
    """Smear periodic noise of shape (h, w) into strokes: mean 0, standard deviation 1.

    Args:
        degrees: Direction of the strokes.
        along, across: Standard deviations of the elongated Gaussian, in pixels.
        period: From stroke to stroke, in pixels, where they run side by side (a Gabor filter); infinite leaves it
            to the noise.
    """
    fy, fx = np.fft.fftfreq(noise.shape[0])[:, None], np.fft.rfftfreq(noise.shape[1])[None, :]
    angle = math.radians(degrees)
    far = fx * math.cos(angle) - fy * math.sin(angle)
    near = fx * math.sin(angle) + fy * math.cos(angle)
    gain = np.exp(-2 * (math.pi * along * far) ** 2 - 2 * (math.pi * across * (np.abs(near) - 1 / period)) ** 2)
    strokes = np.fft.irfft2(np.fft.rfft2(noise) * gain, s=noise.shape)
    return ((strokes - strokes.mean()) / strokes.std()).astype(np.float32)


def hatchings(tile: NDArray[np.uint8], along: float = 8.0, across: float = 0.62) -> Picture:
    """Draw hatching over the whole tile (s, s): shape (s, s, 7), one channel per direction, then the grain."""
    noise = tile.astype(np.float32) - tile.mean()
    return np.stack([smear(noise, angle, along, across) for angle in DIRECTIONS] + [noise / noise.std()], -1)


def directions_of(fine: Picture, hand: float, pull: float = 1e-4) -> Picture:
    """Weigh the hatching directions at each pixel, so that strokes turn around forms.

    Along the edges where a structure tensor (Bigun and Granlund 1987) has one clear direction, along
    ``hand`` (degrees) elsewhere.

    Returns:
        Shape (h, w, 6), of unit energy: the weighted sum of independent hatchings keeps their deviation.
    """
    gx, gy = cv2.Sobel(fine, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(fine, cv2.CV_32F, 0, 1, scale=1 / 8)
    xx, yy, xy = cv2.split(cv2.GaussianBlur(cv2.merge((gx * gx, gy * gy, gx * gy)), (0, 0), 7.0))
    # The double angle of the edge (90 degrees from the gradient, y upwards), and a pull to the hand's.
    cos2 = yy - xx + pull * math.cos(math.radians(2 * hand))
    sin2 = 2 * xy + pull * math.sin(math.radians(2 * hand))
    length = np.sqrt(cos2**2 + sin2**2) + 1e-8
    two = np.radians(2 * np.array(DIRECTIONS, np.float32))
    aligned = (cos2 / length)[..., None] * np.cos(two) + (sin2 / length)[..., None] * np.sin(two)
    weights = np.maximum(aligned, 0) ** 3
    return (weights / np.sqrt((weights**2).sum(-1, keepdims=True) + 1e-8)).astype(np.float32)


def _sigmoid(x: Picture) -> Picture:
    return (1 / (1 + np.exp(-x))).astype(np.float32)


def drawing(luma: Picture, strokes: Picture) -> Picture:
    """Draw a photo in pencil.

    Args:
        luma: Shape (h, w), in [0, 1].
        strokes: Shape (h, w, 7): ``hatchings`` of the canvas under the photo.

    Returns:
        Shape (h, w), in [0, 1]; 1 is paper.
    """
    hatch, grain = strokes[..., :-1], strokes[..., -1]
    fine, tone = cv2.GaussianBlur(luma, (0, 0), 1.0), cv2.GaussianBlur(luma, (0, 0), 2.0)
    # Local contrast: a drawer sees differences, not light, and draws the night lighter than it is.
    around = cv2.GaussianBlur(luma, (0, 0), 14.0)
    local = tone + 0.6 * (tone - around) + 0.22 * np.maximum(0, 0.33 - around)
    demand = np.clip((0.78 - local) / 0.78, 0, 1) ** 1.1  # 0 leaves the paper, 1 is the darkest pencil
    form = cv2.GaussianBlur(luma, (0, 0), 1.5)
    main = (hatch * directions_of(form, HAND)).sum(-1)
    cross = (hatch * directions_of(form, HAND + 60)).sum(-1)
    # A hatching covers where the smeared noise exceeds a threshold; the pressure of strokes follows the tone.
    first = _sigmoid(2.2 * (main - 1.2 + 3.0 * demand)) * (0.12 + 0.36 * demand) * np.minimum(12 * demand, 1)
    second = _sigmoid(2.4 * (cross - 2.6 + 3.6 * demand)) * (0.42 * demand)
    pencil = (1 - first) * (1 - second) * (1 - 0.60 * demand**2) - 0.05 * grain * demand
    edges = fine - 0.99 * cv2.GaussianBlur(luma, (0, 0), 2.2)
    lines = 1 + np.tanh(15 * np.minimum(edges, 0))
    return np.clip(pencil * (0.10 + 0.90 * lines), 0, 1).astype(np.float32)

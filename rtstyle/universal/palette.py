"""The palette of an image: which colors it has at each lightness, and how often."""

from __future__ import annotations

from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle.canvas.arrays import Floats, rounded_from_double
from rtstyle.canvas.field import TONES

TO_YUV = np.array(  # BT.709, full range, from RGB
    [[0.2126, 0.7152, 0.0722], [-0.114572, -0.385428, 0.5], [0.5, -0.454153, -0.045847]], np.float32
)


def to_yuv(rgb: Floats) -> Floats:
    """Turn RGB in [0, 1] of shape (h, w, 3) into canonical Y - 0.5, U, V of the same shape."""
    yuv = np.asarray(cv2.transform(rgb, TO_YUV), np.float32)
    yuv[:, :, 0] -= np.float32(0.5)
    return yuv


_FINE = 1023
"""Levels of lightness between black and white at which colors are looked up."""

Spread = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Mean, shape (2,), and covariance, (2, 2), of chroma."""

_STEADY, _MOST, _FEW = 0.004, 1.7, 50
"""Standard deviation of chroma below which it counts as none, the largest factor by which chroma is corrected, and how
many samples are too few to correct it."""


def spread_of(chroma: Floats) -> Spread:
    """Return mean and covariance of chroma, shape (count, 2)."""
    return chroma.mean(0, dtype=np.float64), np.cov(chroma.T) + _STEADY**2 * np.eye(2)


def _square_root(square: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(square)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)


def _toward(found: Spread, wanted: Spread) -> NDArray[np.float64]:
    """Return the factors, shape (2, 2), that give one spread the covariance of another and change least.

    Source: Pitie and Kokaram 2007, a linear map between the colors of two images.
    """
    root = _square_root(found[1])
    inverse = np.linalg.inv(root)
    values, vectors = np.linalg.eigh(inverse @ _square_root(root @ wanted[1] @ root) @ inverse)
    return np.asarray((vectors * np.clip(values, 1 / _MOST, _MOST)) @ vectors.T)


class Colors:
    """The colors of a painting by lightness: clusters of chroma for each of some levels, from warm to cold."""

    def __init__(self, painting: NDArray[np.uint8], levels: int, clusters: int) -> None:
        clean = cv2.GaussianBlur(painting, (0, 0), 0.6).astype(np.float32) / 255
        samples = cv2.transform(clean, TO_YUV).reshape(-1, 3)[::5]
        bounds = np.quantile(samples[:, 0], np.linspace(0, 1, levels + 1))
        self.lightness = np.zeros(levels, np.float32)
        self.centers = np.zeros((levels, clusters, 2), np.float32)
        self.shares = np.zeros((levels, clusters), np.float32)
        self.spreads: list[Spread] = []
        before: NDArray[np.float32] | None = None
        for level in range(levels):
            chosen = samples[(samples[:, 0] >= bounds[level]) & (samples[:, 0] <= bounds[level + 1])]
            self.lightness[level] = chosen[:, 0].mean()
            self.spreads.append(spread_of(chosen[:, 1:]))
            before, self.shares[level] = _clusters(np.ascontiguousarray(chosen[:, 1:]), clusters, before)
            self.centers[level] = before
        self.quantiles = np.quantile(samples[:, 0], np.linspace(0.005, 0.995, TONES)).astype(np.float32)

    def corrected(self, luma: Floats, made: Floats, aims: Floats) -> Floats:
        """Return aims by which what is made would have the image's colors at each lightness.

        Args:
            luma: Shape (count,), 0 to 1.
            made: Shape (count, 2): the chroma that networks give which learned ``aims``.
            aims: The same shape.
        """
        levels = len(self.lightness)
        nearest = np.abs(luma[:, None] - self.lightness).argmin(1)
        factors, shifts = np.tile(np.eye(2), (levels, 1, 1)), np.zeros((levels, 2))
        for level, wanted in enumerate(self.spreads):
            chosen = made[nearest == level]
            if len(chosen) > _FEW:
                found = spread_of(chosen)
                factors[level] = _toward(found, wanted)
                shifts[level] = wanted[0] - factors[level] @ found[0]

        def at(each: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.interp(luma, self.lightness, each)

        moved = [
            at(factors[:, row, 0]) * aims[:, 0] + at(factors[:, row, 1]) * aims[:, 1] + at(shifts[:, row])
            for row in (0, 1)
        ]
        return np.stack(moved, 1).astype(np.float32)

    def take(self, luma: Floats, u: Floats, v: Floats, wish: Floats, keep: float | Floats, sharp: float) -> Floats:
        """Choose a color for each pixel.

        Args:
            luma: Shape (h, w), 0 to 1.
            u, v: The photo's chroma, the same shape.
            wish: Shape (clusters, h, w): how much each pixel wants each cluster.
            keep, sharp: As in ``Manner``; ``keep`` may have the shape of ``luma``.

        Returns:
            Shape (h, w, 2): U and V.
        """
        level = np.clip(np.float32(_FINE) * luma + np.float32(0.5), 0, _FINE).astype(np.intp)
        scores = []
        for cluster, wished in zip(self._looked_up, wish, strict=True):
            weight, along_u, along_v = (np.take(each, level) for each in cluster[2:])
            scores.append(weight + keep * (along_u * u + along_v * v) + wished)
        highest = np.maximum.reduce(scores)
        total, mean = np.zeros_like(luma), np.zeros((2, *luma.shape), np.float32)
        for cluster, score in zip(self._looked_up, scores, strict=True):
            chosen = rounded_from_double(np.exp, np.float32(sharp) * (score - highest))
            total += chosen
            for plane, center in zip(mean, cluster, strict=False):
                plane += chosen * np.take(center, level)
        return np.asarray(np.moveaxis(mean / total, 0, -1), np.float32)

    @cached_property
    def _looked_up(self) -> Floats:
        """What ``take`` needs to know of each cluster at each lightness, shape (clusters, 5, lightness): its center,
        the logarithm of its share, and how much U and V of a photo point to it."""
        luma = np.linspace(0, 1, _FINE + 1)
        found = np.empty((self.shares.shape[1], 5, len(luma)), np.float32)
        for number, rows in enumerate(found):
            u, v = (np.interp(luma, self.lightness, self.centers[:, number, axis]) for axis in (0, 1))
            share = np.interp(luma, self.lightness, self.shares[:, number])
            length = np.hypot(u, v) + 0.03
            rows[:] = u, v, np.log(share + 0.02), u / length, v / length
        return found


def _clusters(
    chroma: NDArray[np.float32], count: int, before: NDArray[np.float32] | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Find clusters and their shares, tracked from those of the level below; the first are sorted from warm to cold."""
    if before is None:
        cv2.setRNGSeed(1)
        criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 40, 1e-5)
        _, _, found = cv2.kmeans(chroma, count, None, criteria, 4, cv2.KMEANS_PP_CENTERS)  # type: ignore[call-overload]
        before = found[np.argsort(found[:, 0] - found[:, 1])]
    labels = _nearest_center(chroma, before)
    for _ in range(6):
        sums = [np.bincount(labels, each, count) for each in (None, chroma[:, 0], chroma[:, 1])]
        means = np.stack(sums[1:], 1) / np.maximum(sums[0], 1)[:, None]
        before = np.where(sums[0][:, None] > 20, means, before).astype(np.float32)
        labels = _nearest_center(chroma, before)
    return before, (np.bincount(labels, minlength=count) / len(chroma)).astype(np.float32)


def _nearest_center(chroma: NDArray[np.float32], centers: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return the number of the center that is nearest to each, by what differs in the squares of the distances."""
    return np.asarray((chroma @ (-2 * centers.T) + (centers * centers).sum(1)).argmin(1))

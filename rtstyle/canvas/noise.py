"""The canvas of noise, which styles of format 1 draw from: one fixed image that tiles.

A convolutional network has nothing to draw with on a flat wall. It then amplifies sensor noise (flicker) or falls into
its own 4-pixel lattice (a grid over the whole frame). The canvas is a second input that gives it something to draw
with; it moves with the scene, so that strokes stick to it and not to the glass.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle.canvas.arrays import Bytes
from rtstyle.canvas.map import CanvasMap, Places, blended, level_places, looked_up

TILE = 512
"""Width and height of the tile, in pixels."""

TILE_SEED = 20261122
"""Seed of the tile that every shipped style was trained with."""

_BAND = (0.03, 0.30)
"""Lowest and highest frequency of the tile, in cycles per pixel: the scale of strokes. Lower ones
decide the tone of whole areas by themselves (black blotches on dark coats)."""


def make_tile(seed: int = TILE_SEED) -> NDArray[np.uint8]:
    """Make the tile: Gaussian noise, band-passed, periodic in both directions.

    Returns:
        Shape (512, 512), uint8, mean 128, standard deviation 44, next to nothing clipped.
    """
    noise = np.random.default_rng(seed).standard_normal((TILE, TILE))
    fy, fx = np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None, :]
    radius = np.hypot(fy, fx)
    low, high = _BAND
    # Soft edges, so that the tile does not ring: a quarter of an octave each.
    rise = 1 / (1 + np.exp(-np.log2(np.maximum(radius, 1e-9) / low) * 12))
    fall = 1 / (1 + np.exp(np.log2(np.maximum(radius, 1e-9) / high) * 12))
    band = np.fft.irfft2(np.fft.rfft2(noise) * rise * fall, s=noise.shape)
    levels = np.clip(128 + 44 * (band - band.mean()) / band.std(), 0, 255)
    return np.asarray(np.rint(levels), np.uint8)


@cache
def tile() -> NDArray[np.uint8]:
    """Return the shipped tile, shape (512, 512), uint8, read-only.

    It is a file and not a call of ``make_tile``, so that the noise is the same on every machine.
    """
    with files("rtstyle").joinpath("canvas.npy").open("rb") as file:
        loaded: NDArray[np.uint8] = np.load(file, allow_pickle=False)
    loaded.setflags(write=False)
    return loaded


class CanvasCutter:
    """Cuts the canvas that lies under a packed frame of ``rows`` x ``columns`` cells."""

    def __init__(self, rows: int, columns: int) -> None:
        self._size = 4 * rows, 4 * columns
        # What lies between its last pixels and the first ones of the next period is interpolated, too.
        self._tile = cv2.copyMakeBorder(tile(), 0, 1, 0, 1, cv2.BORDER_WRAP)

    def cut(self, offset: tuple[int, int], out: NDArray[np.uint8], bent: CanvasMap | None = None) -> None:
        """Write the window whose top left lies at ``offset`` (x, y), in pixels, of the endless canvas.

        Args:
            out: Shape (rows, columns, 16), uint8, C-contiguous: the pixels of each 4x4 cell in row order.
            bent: How the canvas is deformed below the frame.
        """
        if bent is None:
            places = [level_places(self._size, offset, TILE)]
        else:
            places = [bent.places(nodes, self._size, TILE) for nodes in bent.nodes(self._size, offset, TILE)]
        out[:] = blended([self._cells(each) for each in places], bent.fade(self._size) if bent else None)

    def _cells(self, places: Places) -> Bytes:
        """Return what lies at places, as cells, shape (rows, columns, 16)."""
        plane = cv2.remap(self._tile, *looked_up(np.zeros((), np.int32), places.x, places.y, between=places.between))
        rows, columns = (side // 4 for side in self._size)
        return np.asarray(plane, np.uint8).reshape(rows, 4, columns, 4).swapaxes(1, 2).reshape(rows, columns, 16)

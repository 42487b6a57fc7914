"""The canvas: one fixed, tileable picture of noise that strokes are drawn from.

A convolutional network has nothing to draw with on a flat wall. It then amplifies sensor noise
(flicker) or falls into its own 4-pixel lattice (a grid over the whole picture). The canvas is a
second input that gives it something to draw with; it moves with the camera, so that strokes stick
to the scene and not to the glass.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

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
    tile = np.rint(np.clip(128 + 44 * (band - band.mean()) / band.std(), 0, 255)).astype(np.uint8)
    return tile


@cache
def tile() -> NDArray[np.uint8]:
    """Return the shipped tile, shape (512, 512), uint8, read-only.

    It is a file and not a call of ``make_tile``, so that one picture is the same on every machine.
    """
    with files("rtstyle").joinpath("canvas.npy").open("rb") as file:
        loaded: NDArray[np.uint8] = np.load(file, allow_pickle=False)
    loaded.setflags(write=False)
    return loaded


class CanvasCutter:
    """Cuts the canvas that lies under a packed picture of ``rows`` x ``columns`` cells."""

    def __init__(self, rows: int, columns: int) -> None:
        self._height, self._width = rows * 4, columns * 4
        # The tile, repeated once further than any window reaches.
        down, across = -(-self._height // TILE) + 1, -(-self._width // TILE) + 1
        self._wide = np.tile(tile(), (down, across))

    def cut(self, offset: tuple[int, int], out: NDArray[np.uint8]) -> None:
        """Write the window whose top left lies at ``offset`` (x, y), in pixels, of the endless canvas.

        Args:
            out: Shape (rows, columns, 16), uint8, C-contiguous: the pixels of each 4x4 cell in row order.
        """
        x, y = offset[0] % TILE, offset[1] % TILE
        window = self._wide[y : y + self._height, x : x + self._width]
        cells = out.reshape(out.shape[0], out.shape[1], 4, 4)
        for row in range(4):
            cells[:, :, row] = window[row::4].reshape(out.shape[0], out.shape[1], 4)

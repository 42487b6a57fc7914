"""Where each part of a frame lies on the canvas, where that is more than one offset for all of it.

A canvas map is a coarse grid of displacements, relative to the rigid offset ``Frame.canvas``: a pixel of the frame
lies on the canvas at its own place, plus the offset, plus the displacement there, which is bilinear between the nodes
of the grid. A map whose strokes have been stretched is faded to a fresh one: then both lie below the frame.

Idea: Neyret 2003, "Advected Textures"; Bousseau, Neyret, Thollot and Salesin 2007, "Video Watercolorization using
Bidirectional Texture Advection".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle.frame import MARGIN, Size

Floats = NDArray[np.float32]

STRIP, _WIDE = 64, 2048
"""Most rows and columns of a packed frame that are looked up at once: their coordinates stay in the cache."""


class Strip(NamedTuple):
    """A part of a packed frame below which the canvas is deformed."""

    rows: slice
    columns: slice
    """In pixels of the packed frame, whole cells of 4."""
    layers: tuple[tuple[Floats, float], ...]
    """Where its pixels lie in the tile, shape (rows, columns, 2), (x, y) in samples of the tile, from its first period
    on, as good as; and the weight of what lies there. The squares of the weights sum to 1. Valid until the next strip
    is asked for."""


@dataclass
class Lookup:
    """Memory in which coordinates are written, strip after strip; and the tile that they are of.

    Args:
        period: Of the tile, in pixels.
        samples: Of the tile per pixel.
    """

    period: int
    samples: int = 1
    _buffers: tuple[Floats, ...] = ()

    def buffer(self, number: int, shape: tuple[int, int]) -> Floats:
        """Return memory of shape (rows, columns, 2)."""
        count = 2 * shape[0] * shape[1]
        while len(self._buffers) <= number:
            self._buffers = (*self._buffers, np.empty(0, np.float32))
        if self._buffers[number].size < count:
            each = list(self._buffers)
            each[number] = np.empty(count, np.float32)
            self._buffers = tuple(each)
        return self._buffers[number][:count].reshape(*shape, 2)


@dataclass(frozen=True, eq=False)
class CanvasMap:
    """How the canvas is deformed below a frame, beyond its offset. Arrays are never written to again."""

    pitch: int
    """Pixels of the frame per node, across and down, even; node (0, 0) is the middle of the first ones."""
    grid: Floats
    """Shape (rows, columns, 2), displacements (x, y) in pixels; nodes cover the whole frame."""
    fresh: Floats | None = None
    """The map that follows, while one fades to the other; shape of ``grid``."""
    share: float = 0.0
    """How far that has gone, from 0 to 1."""

    def mirrored(self, width: int) -> CanvasMap:
        """Return the map of a frame of that width with left and right exchanged."""
        extra = self.grid.shape[1] * self.pitch - width  # nodes count from the left
        grids = [_mirrored(grid, extra / self.pitch) for grid in self._grids()]
        return CanvasMap(self.pitch, grids[0], grids[1] if len(grids) > 1 else None, self.share)

    def scaled(self, size: Size, to: Size) -> CanvasMap:
        """Return the map of a frame of ``size`` that is resized to ``to``."""
        across, down = to.width / size.width, to.height / size.height
        pitch = max(2, 2 * round(self.pitch * across / 2))
        shape = grid_shape((to.height, to.width), pitch)
        x, y = pitch / across / self.pitch, pitch / down / self.pitch
        matrix = np.array([[x, 0, x / 2 - 0.5], [0, y, y / 2 - 0.5]], np.float64)
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        factors = np.array((across, down), np.float32)
        grids = [
            np.asarray(
                cv2.warpAffine(grid, matrix, shape[::-1], flags=how, borderMode=cv2.BORDER_REPLICATE), np.float32
            )
            * factors
            for grid in self._grids()
        ]
        return CanvasMap(pitch, grids[0], grids[1] if len(grids) > 1 else None, self.share)

    def _grids(self) -> list[Floats]:
        return [self.grid] if self.fresh is None else [self.grid, self.fresh]

    def weights(self) -> tuple[float, ...]:
        """Return the weight of each grid: the squares sum to 1, so that a fade has the contrast of its ends."""
        if self.fresh is None:
            return (1.0,)
        first, second = 1 - self.share, self.share
        length = math.hypot(first, second)
        return first / length, second / length

    def resized(self, shape: tuple[int, int]) -> list[tuple[Floats, float]]:
        """Return each grid with ``shape`` nodes over the same frame, and its weight."""
        size = shape[1], shape[0]
        grids = [
            np.asarray(cv2.resize(grid, size, interpolation=cv2.INTER_LINEAR), np.float32) for grid in self._grids()
        ]
        return list(zip(grids, self.weights(), strict=True))

    def strips(self, size: tuple[int, int], offset: tuple[int, int], lookup: Lookup) -> Iterator[Strip]:
        """Yield the parts of a packed frame that are deformed.

        Args:
            size: Rows and columns of the packed frame, in pixels; it begins ``MARGIN`` pixels before the frame.
            offset: Where its top left lies on the canvas, (x, y) in pixels.
        """
        rows, columns = size
        grids = self._grids()
        moved = _nonzero(grids[0]) if len(grids) == 1 else _nonzero(grids[0]) | _nonzero(grids[1])
        if not moved.any():
            return
        # Between the nodes of the border and the packed frame's end the displacement stays what it is.
        rim = -(-MARGIN // self.pitch) + 2
        need = -(-(rows - MARGIN) // self.pitch) + 2, -(-(columns - MARGIN) // self.pitch) + 2
        down, across = (max(0, n - have) for n, have in zip(need, moved.shape, strict=True))
        moved = np.pad(moved, ((rim, down), (rim, across)), mode="edge")
        places = []
        for grid in grids:
            wide = cv2.copyMakeBorder(grid, rim, down, rim, across, cv2.BORDER_REPLICATE)
            places.append(_places(wide, self.pitch, rim, offset))
        for top in range(0, rows, STRIP):
            bottom = min(rows, top + STRIP)
            part = self._columns(moved, rim, slice(top, bottom), columns)
            for left in range(part.start, part.stop, _WIDE):
                within = slice(left, min(part.stop, left + _WIDE))
                layers = tuple(
                    (self._looked_up(each, rim, (slice(top, bottom), within), lookup, number), weight)
                    for number, (each, weight) in enumerate(zip(places, self.weights(), strict=True))
                )
                yield Strip(slice(top, bottom), within, layers)

    def _columns(self, moved: NDArray[np.bool_], rim: int, rows: slice, columns: int) -> slice:
        """Return the columns of a strip that are deformed, whole cells."""
        first, last = self._nodes(rows, rim)
        found = np.flatnonzero(moved[first:last].any(0))
        if not found.size:
            return slice(0, 0)
        start = (int(found[0]) - rim - 1) * self.pitch + MARGIN
        stop = (int(found[-1]) - rim + 2) * self.pitch + MARGIN
        return slice(max(0, start - start % 4), min(columns, stop - stop % -4))

    def _nodes(self, pixels: slice, rim: int) -> tuple[int, int]:
        """Return the nodes that pixels of the packed frame lie between."""
        first = (pixels.start - MARGIN - self.pitch // 2) // self.pitch
        last = (pixels.stop - 1 - MARGIN - self.pitch // 2) // self.pitch + 2
        return first + rim, last + rim

    def _looked_up(self, places: Floats, rim: int, part: tuple[slice, slice], lookup: Lookup, number: int) -> Floats:
        """Interpolate coordinates at the pixels of a part of the packed frame."""
        (top, bottom), (left, right) = (self._nodes(each, rim) for each in part)
        nodes = places[top:bottom, left:right]
        # Arithmetic is done on nodes, of which there are few.
        whole = np.floor((nodes[0, 0] - lookup.period / 8) / lookup.period) * lookup.period
        nodes = (nodes - whole.astype(np.float32)) * np.float32(lookup.samples)
        shape = (bottom - top) * self.pitch, (right - left) * self.pitch
        wide = lookup.buffer(number, shape)
        cv2.resize(nodes, shape[::-1], dst=wide, interpolation=cv2.INTER_LINEAR)
        y = part[0].start - MARGIN - (top - rim) * self.pitch
        x = part[1].start - MARGIN - (left - rim) * self.pitch
        return wide[y : y + part[0].stop - part[0].start, x : x + part[1].stop - part[1].start]


def sampled(image: NDArray[Any], at: NDArray[Any], how: int, border: int = cv2.BORDER_REPLICATE) -> NDArray[Any]:
    """Return an image at coordinates of shape (rows, columns, 2), (x, y) in pixels."""
    return np.asarray(cv2.remap(image, at, None, how, borderMode=border))  # type: ignore[call-overload]


def blended(levels: list[NDArray[np.uint8]], weights: list[float]) -> NDArray[np.uint8]:
    """Mix what lies on several layers, in levels around 128."""
    if len(levels) == 1:
        return levels[0]
    first, second = weights
    mixed = cv2.addWeighted(levels[0], first, levels[1], second, 128 * (1 - first - second))
    return np.asarray(mixed, np.uint8)


def grid_shape(shape: tuple[int, int], pitch: int) -> tuple[int, int]:
    """Return rows and columns of nodes that cover a frame of (height, width)."""
    return -(-shape[0] // pitch), -(-shape[1] // pitch)


def _nonzero(grid: Floats) -> NDArray[np.bool_]:
    return np.asarray((grid[..., 0] != 0) | (grid[..., 1] != 0))  # any(-1) takes twenty times as long


def _places(grid: NDArray[Any], pitch: int, rim: int, offset: tuple[int, int]) -> Floats:
    """Return where each node lies on the canvas, in pixels; written into ``grid``, its displacements."""
    rows, columns = grid.shape[:2]
    x, y = ((np.arange(n, dtype=np.float32) - rim + 0.5) * pitch - 0.5 + MARGIN for n in (columns, rows))
    grid[..., 0] += x + offset[0]
    grid[..., 1] += (y + offset[1])[:, None]
    return grid


def _mirrored(grid: Floats, shift: float) -> Floats:
    """Exchange left and right of a grid whose last node reaches ``shift`` nodes beyond the frame."""
    flipped = np.ascontiguousarray(grid[:, ::-1])
    flipped[..., 0] *= -1
    if shift:
        matrix = np.array([[1, 0, shift], [0, 1, 0]], np.float64)
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        flipped = np.asarray(
            cv2.warpAffine(flipped, matrix, flipped.shape[1::-1], flags=how, borderMode=cv2.BORDER_REPLICATE),
            np.float32,
        )
    return flipped

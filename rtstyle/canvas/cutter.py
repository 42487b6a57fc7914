"""Cuts the steered canvas that lies under a frame out of a style's stroke tiles.

Each row of a cell of 4x4 pixels is read as a run of four pixels from wherever it lies in the tile of its cell, which is
two words of memory. Where neither the canvas nor the choice of tiles has changed since the frame before, nothing is
read at all: before a still camera that is most of the frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle.canvas.arrays import Bytes, Floats, Integers, Mask
from rtstyle.canvas.map import CanvasMap, Runs, blended, level_runs
from rtstyle.canvas.steering import Steering, put_levels
from rtstyle.canvas.strokes import CELL_BYTES, SIDE, TILE, bank

_BLOCK = 16
"""Rows of cells that are read at once: what lies between two steps stays in the cache of a core."""

_MOST = 0.3
"""Share of cells that have changed from which on all are read: to pick some out takes time, too."""

_WORDS = CELL_BYTES // 4


@dataclass(frozen=True, eq=False)
class _Laid:
    """Where the strokes of a frame came from."""

    tiles: Integers
    """Number of the tile under each cell, shape (rows, columns)."""
    runs: Runs
    nodes: Floats
    """Of its canvas map; where it had none, the frame's offset."""
    pitch: int
    """Of its canvas map; 0: it had none."""


class SteeredCutter:
    """Cuts the steered canvas that lies under a packed frame of ``rows`` x ``columns`` cells."""

    def __init__(self, steering: Steering, rows: int, columns: int) -> None:
        self._size = 4 * rows, 4 * columns
        cells = np.asarray(bank(steering.brush).cells)  # of a file in memory, but without its type's overhead
        self._lines, self._hues = cells.view(np.uint32).ravel(), cells.view(np.uint16).ravel()
        self._levels, self._directions = len(steering.brush.scales), steering.brush.directions
        self._strokes = np.empty((rows, columns, CELL_BYTES), np.uint8)
        """Of the last frame."""
        self._laid: _Laid | None = None
        """None: ``_strokes`` holds none, or those of two canvases."""

    def cut(
        self, cells: Floats, offset: tuple[int, int], out: NDArray[np.uint8], bent: CanvasMap | None = None
    ) -> None:
        """Write the canvas below a frame.

        Args:
            cells: Shape (rows, columns, 4), as ``steered`` returns it.
            offset: Where the frame's top left lies, (x, y) in pixels of the endless canvas.
            out: Shape (rows, columns, 40), uint8, the last axis contiguous.
            bent: How the canvas is deformed below the frame.
        """
        self._lay(cells, offset, bent)
        out.view(np.uint32)[..., :_WORDS] = self._strokes.view(np.uint32)
        put_levels(cells, out)

    def planes(
        self, cells: Floats, offset: tuple[int, int], bent: CanvasMap | None = None
    ) -> tuple[Bytes, Bytes, Bytes]:
        """Return the strokes below a frame as planes; arguments as of ``cut``.

        Returns:
            Value and relief, shape (4 * rows, 4 * columns), and hue, (2 * rows, 2 * columns), uint8 around 128; they
            are the caller's.
        """
        self._lay(cells, offset, bent)
        lines, pairs = self._strokes.view(np.uint32), self._strokes.view(np.uint16)
        value, relief = (_plane(lines[..., first : first + 4]) for first in (0, 4))
        return value, relief, _plane(pairs[..., 16:18])

    def _lay(self, cells: Floats, offset: tuple[int, int], bent: CanvasMap | None) -> None:
        """Write the strokes below a frame into ``_strokes``."""
        if bent and (fade := bent.fade(self._size)):
            self._laid, layers = None, []
            for nodes in bent.nodes(self._size, offset):
                runs = bent.runs(nodes, self._size, TILE)
                self._read(self._tiles(cells, runs.turned), runs)
                layers.append(self._strokes.copy())
            self._strokes = blended(layers, fade)
            return
        nodes = bent.nodes(self._size, offset)[0] if bent else np.array([[offset]], np.float32)
        pitch, last = bent.pitch if bent else 0, self._laid
        known = last is not None and pitch == last.pitch and nodes.shape == last.nodes.shape
        if last and known and np.array_equal(nodes, last.nodes):
            runs, changed = last.runs, np.zeros(cells.shape[:2], np.bool_)
        else:
            runs = bent.runs(nodes, self._size, TILE) if bent else level_runs(self._size, offset)
            changed = np.ones(cells.shape[:2], np.bool_)
            if last and known and bent:
                changed = bent.moved(nodes, last.nodes, self._size)
        tiles = self._tiles(cells, runs.turned)
        if last:
            changed |= tiles != last.tiles
        self._laid = _Laid(tiles, runs, nodes, pitch)
        if changed.mean() > _MOST:
            self._read(tiles, runs)
        elif changed.any():
            self._read_some(tiles, runs, changed)

    def _tiles(self, cells: Floats, turned: Floats | None) -> Integers:
        """Return the number of the tile under each cell: the nearest direction, the nearest brush.

        Args:
            turned: See ``Runs``.
        """
        cos, sin, _, fine = cv2.split(cells)
        turns = cv2.phase(cos, sin)  # of twice the angle: 0 to 2 pi is half a turn of the stroke
        if turned is not None:
            turns = cv2.scaleAdd(turned, 2, turns)
        count = np.float32(self._directions)
        direction = np.rint(turns * np.float32(self._directions / (2 * math.pi)))
        direction -= count * np.floor(direction * (1 / count))
        level = np.floor(np.clip(fine * np.float32(self._levels), 0, self._levels - 1))
        return np.asarray(level * count + direction, np.int32)

    def _read(self, tiles: Integers, runs: Runs) -> None:
        """Write the strokes of all cells into ``_strokes``."""
        for top in range(0, len(tiles), _BLOCK):
            part = slice(top, top + _BLOCK)
            x, y = (each if len(each) == 1 else each[part] for each in (runs.x, runs.y))
            self._look_up(tiles[part, None], x, y, self._strokes[part])

    def _read_some(self, tiles: Integers, runs: Runs, which: Mask) -> None:
        """Write the strokes of some cells into ``_strokes``."""
        row, column = np.nonzero(which)
        x, y = (
            each[row * (each.shape[0] > 1), :, column * (each.shape[2] > 1)][..., None] for each in (runs.x, runs.y)
        )
        strokes = np.empty((len(row), 1, CELL_BYTES), np.uint8)
        self._look_up(tiles[row, None, column, None], x, y, strokes)
        self._strokes[row, column] = strokes[:, 0]

    def _look_up(self, tiles: Integers, x: Integers, y: Integers, out: NDArray[np.uint8]) -> None:
        """Write the strokes of cells.

        Args:
            tiles: Shape (rows, 1, columns).
            x, y: See ``Runs``; shape (rows, 4, columns), or what numpy makes that of.
            out: Shape (rows, columns, 36).
        """
        x, y = x & (TILE - 1), y & (TILE - 1)
        line = tiles * (SIDE * SIDE * _WORDS) + (y >> 2) * (SIDE * _WORDS)  # words before it, as of all that follows
        here = line + (x >> 2) * _WORDS
        behind = line + ((x >> 2) + 1 & SIDE - 1) * _WORDS
        fours, twos = out.view(np.uint32), out.view(np.uint16)
        # Bytes of a word come in the order of pixels: what is shifted out at one end comes in from the next word.
        bits = ((x & 3) << 3).astype(np.uint32)
        rest, row = 32 - bits, y & 3
        first, second = (here + row).astype(np.intp), (behind + row).astype(np.intp)
        for plane in (0, 4):
            pixels, more = (np.take(self._lines[plane:], each, mode="clip") for each in (first, second))
            pixels >>= bits
            more <<= rest
            pixels |= more
            fours[..., plane : plane + 4] = pixels.swapaxes(1, 2)
        # One hue for two by two pixels: two of them from every other line.
        odd = ((x if x.shape[1] == 1 else x[:, ::2]) << 2 & 8).astype(np.uint16)
        row = (y[:, ::2] >> 1 & 1) + 16
        pairs, more = (
            np.take(self._hues, (2 * each[:, ::2] + row).astype(np.intp), mode="clip") for each in (here, behind)
        )
        pairs >>= odd
        more <<= 16 - odd
        pairs |= more
        twos[..., 16:18] = pairs.swapaxes(1, 2)


def _plane(runs: NDArray[np.generic]) -> Bytes:
    """Return the plane of what is laid out by cells, shape (rows, columns, lines): words of consecutive pixels."""
    rows, columns, lines = runs.shape
    return np.ascontiguousarray(runs.swapaxes(1, 2)).reshape(rows * lines, columns).view(np.uint8)

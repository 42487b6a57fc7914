"""Cuts the steered canvas that lies under a frame out of a style's stroke tiles.

Each pixel is read from wherever it lies in the tile of its cell, between the pixels of the tile where the canvas is
deformed. Where neither the canvas nor the choice of tiles has changed since the frame before, nothing is read at all:
before a still camera that is most of the frame.

Tiles are chosen for the cells of the canvas, not for those of the frame, which lie across up to four of them: so a
stroke does not change where the frame's cells pass over it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle.canvas.arrays import Bytes, Floats, Integers, Mask, Shorts
from rtstyle.canvas.map import EXACT, STEP_BITS, STEPS, CanvasMap, Places, blended, level_places, looked_up, on_sheet
from rtstyle.canvas.steering import CELL_BYTES, Steering, put_levels
from rtstyle.canvas.strokes import BESIDE, PITCH, TILE, bank

_SOME = 4096
"""Cells that are read at once: what lies between two steps stays in the cache of a core."""

_WHOLE = np.dtype((np.void, CELL_BYTES))
"""The strokes of a cell as one element, which is moved at once."""

_CELL_BITS, _TILE_CELLS = STEP_BITS + 2, TILE // 4
"""Steps of a place to a cell, as a power of two, and cells to a tile."""

_PAIRS = [0, 2, 8, 10]
"""Of the 16 pixels of a cell, those at the top left of two by two that share a hue."""

_SHARE_BITS = 3
_SHARES = 1 << _SHARE_BITS
"""Steps in which a second tile is mixed in: what does not change need not be read."""

_MIXED_TURNS, _MIXED_SIZES, _MIXED_SKIN = np.float32(0.09), np.float32(0.06), np.float32(0.25)
"""Distance to the edge between two directions, between two brushes, in steps of them, and between skin and other things
within which the tiles of both are mixed: what noise changes in a measurement changes strokes by as much, not wholly."""


@dataclass(frozen=True, eq=False)
class _Choice:
    """The tiles of the canvas cell below the first pixel of each cell, shapes (rows, columns)."""

    tiles: Integers
    others: Integers
    """Number of a second tile that is mixed in."""
    share: Bytes
    """How much of it, in parts of ``_SHARES``."""

    def differs(self, other: _Choice) -> Mask:
        """Return which cells are another choice there."""
        return np.asarray((self.tiles != other.tiles) | (self.others != other.others) | (self.share != other.share))


@dataclass(frozen=True, eq=False)
class _Laid:
    """Where the strokes of a frame came from."""

    choice: _Choice
    places: Places
    nodes: Floats
    """Of its canvas map; where it had none, the frame's offset."""
    pitch: int
    """Of its canvas map; 0: it had none."""


class SteeredCutter:
    """Cuts the steered canvas that lies under a packed frame of ``rows`` x ``columns`` cells."""

    def __init__(self, steering: Steering, rows: int, columns: int) -> None:
        self._size = 4 * rows, 4 * columns
        row, column = np.divmod(np.arange(rows * columns, dtype=np.int32), np.int32(columns))
        self._lines, self._corners = 4 * columns * row + column, (columns + 1) * row + column
        """Of each cell: its first run of four pixels in a plane, and its number where a column is added."""
        self._bank = bank(steering.brush)
        self._levels, self._directions = len(steering.brush.scales), steering.brush.directions
        self._sees_skin = steering.brush.sees_skin
        self._strokes = np.empty((rows, columns, CELL_BYTES), np.uint8)
        """Of the last frame."""
        self._laid: _Laid | None = None
        """None: ``_strokes`` holds none, or those of two canvases."""

    def cut(
        self,
        cells: Floats,
        offset: tuple[int, int],
        out: NDArray[np.uint8],
        bent: CanvasMap | None = None,
        skin: Floats | None = None,
    ) -> None:
        """Write the canvas below a frame.

        Args:
            cells: Shape (rows, columns, 4), as ``steered`` returns it.
            offset: Where the frame's top left lies, (x, y) in pixels of the endless canvas.
            out: Shape (rows, columns, 40), uint8, the last axis contiguous.
            bent: How the canvas is deformed below the frame.
            skin: How much each cell is like skin, 0 to 1; None: no cell is.
        """
        self._lay(cells, offset, bent, skin)
        out.view(np.uint32)[..., : CELL_BYTES // 4] = self._strokes.view(np.uint32)
        put_levels(cells, out)

    def planes(
        self,
        cells: Floats,
        offset: tuple[int, int],
        bent: CanvasMap | None = None,
        skin: Floats | None = None,
    ) -> tuple[Bytes, Bytes, Bytes]:
        """Return the strokes below a frame as planes; arguments as of ``cut``.

        Returns:
            Value and relief, shape (4 * rows, 4 * columns), and hue, (2 * rows, 2 * columns), uint8 around 128; they
            are the caller's.
        """
        self._lay(cells, offset, bent, skin)
        lines, pairs = self._strokes.view(np.uint32), self._strokes.view(np.uint16)
        value, relief = (_plane(lines[..., first : first + 4]) for first in (0, 4))
        return value, relief, _plane(pairs[..., 16:18])

    def _lay(self, cells: Floats, offset: tuple[int, int], bent: CanvasMap | None, skin: Floats | None) -> None:
        """Write the strokes below a frame into ``_strokes``."""
        cells = cells.copy()
        cells[..., 2] = 0 if skin is None else skin  # light at the centers of whirls chooses no tile
        every = np.ones(cells.shape[:2], np.bool_)
        if bent and (fade := bent.fade(self._size)):
            self._laid, layers = None, []
            for nodes in bent.nodes(self._size, offset, TILE):
                places = bent.places(nodes, self._size, TILE)
                self._read(self._choice(_at_canvas_cells(cells, places), places.turned), places, every)
                layers.append(self._strokes.copy())
            self._strokes = blended(layers, fade)
            return
        nodes = bent.nodes(self._size, offset, TILE)[0] if bent else np.array([[offset]], np.float32)
        pitch, last = bent.pitch if bent else 0, self._laid
        known = last is not None and pitch == last.pitch and nodes.shape == last.nodes.shape
        if last and known and np.array_equal(nodes, last.nodes):
            places, changed = last.places, ~every
        else:
            places = bent.places(nodes, self._size, TILE) if bent else level_places(self._size, offset, TILE)
            changed = bent.moved(nodes, last.nodes, self._size) if last and known and bent else every
        choice = self._choice(_at_canvas_cells(cells, places), places.turned)
        if last:
            changed = changed | _below(choice.differs(last.choice))
        self._laid = _Laid(choice, places, nodes, pitch)
        self._read(choice, places, changed)

    def _choice(self, cells: Floats, turned: Floats | None) -> _Choice:
        """Return the tiles under each cell: the nearest direction and brush, and the next one near to an edge.

        Args:
            turned: See ``Places``.
        """
        cos, sin, skin, fine = cv2.split(cells)
        turns = cv2.phase(cos, sin)  # of twice the angle: 0 to 2 pi is half a turn of the stroke
        if turned is not None:
            turns = cv2.scaleAdd(turned, 2, turns)
        turns = np.asarray(turns * np.float32(self._directions / (2 * math.pi)), np.float32)
        direction, brushes = np.rint(turns), np.float32(self._levels)
        off = turns - direction
        fine = np.clip(fine * brushes, 0.5, brushes - np.float32(0.5))  # beyond lies no other brush
        level, over = np.floor(fine), fine - np.rint(fine)
        near_turn = 1 - (np.float32(0.5) - np.abs(off)) / _MIXED_TURNS  # 1 at the edge
        near_size = 1 - np.abs(over) / _MIXED_SIZES
        turning = near_turn > near_size
        near = np.maximum(near_turn, near_size)
        first, second = level, level - np.copysign(~turning, over)
        direction_2 = direction + np.copysign(turning, off)
        if self._sees_skin:
            finest, on_skin = brushes - 1, skin > np.float32(0.5)
            near_skin = np.where(level == finest, 1 - np.abs(skin - np.float32(0.5)) / _MIXED_SKIN, 0)
            first = level + ((level == finest) & on_skin)
            second = np.where(near_skin > near, level + ~on_skin, second + ((second == finest) & on_skin))
            direction_2 = np.where(near_skin > near, direction, direction_2)
            near = np.maximum(near, near_skin)
        share = np.rint(np.maximum(near, 0) * np.float32(_SHARES / 2)).astype(np.uint8)
        tiles, others = self._number(first, direction), self._number(second, direction_2)
        return _Choice(tiles, np.where(share > 0, others, tiles), share)

    def _number(self, level: Floats, direction: Floats) -> Integers:
        """Return the number of a tile; directions may be some half turns too far."""
        count = np.float32(self._directions)
        direction = direction - count * np.floor(direction * (1 / count))
        return np.asarray(level * count + direction, np.int32)

    def _read(self, choice: _Choice, places: Places, which: Mask) -> None:
        """Write the strokes of some cells into ``_strokes``."""
        mixed = _below(choice.share > 0)
        columns = which.shape[1]
        every_line = columns * np.arange(4, dtype=np.int32)
        tiles, others = (_bordered(_corner(each)) for each in (choice.tiles, choice.others))
        shares, strokes = _bordered(choice.share), self._strokes.view(_WHOLE).ravel()
        for second in (False, True):
            every = np.flatnonzero(which & (mixed if second else ~mixed))
            for begin in range(0, len(every), _SOME):
                at = every[begin : begin + _SOME]
                lines = np.take(self._lines, at)[:, None] + every_line
                x, y = (_of_cells(each, lines) for each in (places.x, places.y))
                cell = np.take(self._corners, at) + _further(x) + (columns + 1) * _further(y)
                found = self._sampled(np.take(tiles, cell), x, y, between=places.between)
                if second:
                    more = self._sampled(np.take(others, cell), x, y, between=places.between)
                    found = _mixed_strokes(found, more, np.take(shares, cell))
                strokes[at] = cv2.transpose(found).view(_WHOLE).ravel()

    def _sampled(self, corner: Integers, x: Shorts, y: Shorts, *, between: bool) -> Bytes:
        """Return values, reliefs and hues of cells, shape (16 + 16 + 4, cells).

        Args:
            corner: Where the tile of each pixel begins, see ``_corner``; shape (16, cells).
            x, y: Of each pixel, see ``Places``; shape (16, cells).
            between: Whether to interpolate between pixels; a hue is always the nearest.
        """
        found = np.empty((CELL_BYTES, x.shape[1]), np.uint8)
        where = looked_up(corner, x, y, between=between)
        for sheet, plane in ((self._bank.value, found[:16]), (self._bank.relief, found[16:32])):
            cv2.remap(sheet, *where, dst=plane)
        x, y = (each[_PAIRS] + np.int16(STEPS - 1) >> STEP_BITS + 1 for each in (x, y))
        cv2.remap(self._bank.hue, on_sheet(corner[_PAIRS] >> 1, x, y), EXACT, cv2.INTER_NEAREST, dst=found[32:])
        return found


def _corner(tiles: Integers) -> Integers:
    """Return where tiles begin on their sheet, in pixels: rows in the upper 16 bits, columns in the lower ones."""
    row, column = np.divmod(tiles, np.int32(BESIDE))
    return np.asarray(row * PITCH << 16 | column * PITCH, np.int32)


def _of_cells(plane: Shorts, lines: Integers) -> Shorts:
    """Return the pixels of cells, shape (16, cells); ``lines`` are their runs of four pixels, shape (cells, 4)."""
    found = np.take(plane.view(np.int64), lines, mode="clip")
    return np.asarray(cv2.transpose(found.view(np.int16)), np.int16)


def _further(places: Shorts) -> NDArray[np.bool_]:
    """Return which pixels of each cell lie in the canvas cell beyond that of the first one, shape (16, cells)."""
    cells = places + np.int16(STEPS // 2) >> _CELL_BITS
    beyond = cells - cells[0] & _TILE_CELLS - 1
    return np.asarray((beyond > 0) & (beyond < _TILE_CELLS // 2))


def _mixed_strokes(first: Bytes, second: Bytes, share: Bytes) -> Bytes:
    """Mix strokes of cells, shape (36, cells); ``share`` parts of ``_SHARES`` of the second ones, of each pixel."""
    share = np.concatenate((share, share, share[_PAIRS])).astype(np.uint16)
    mean = first * (_SHARES - share) + second * share + np.uint16(_SHARES // 2)
    return (mean >> _SHARE_BITS).astype(np.uint8)


def _bordered(plane: NDArray[Any]) -> NDArray[Any]:
    """Repeat the last row and column."""
    return np.asarray(cv2.copyMakeBorder(plane, 0, 1, 0, 1, cv2.BORDER_REPLICATE))


def _at_canvas_cells(cells: Floats, places: Places) -> Floats:
    """Return what ``cells`` are in the middle of the canvas cell below the first pixel of each cell of a frame.

    Args:
        cells: In the middle of each of the frame's own, shape (rows, columns, channels).
    """
    x, y = (_within_cell(each[::4, ::4]) for each in (places.x, places.y))
    if places.turned is None:  # all cells lie the same way
        if not x[0, 0] and not y[0, 0]:
            return cells
        matrix = np.array([[1, 0, -float(x[0, 0])], [0, 1, -float(y[0, 0])]], np.float64)
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        moved = cv2.warpAffine(cells, matrix, cells.shape[1::-1], flags=how, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(moved, np.float32)
    columns, rows = (np.arange(n, dtype=np.float32) for n in cells.shape[1::-1])
    moved = cv2.remap(cells, columns - x, rows[:, None] - y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.float32)


def _within_cell(places: Shorts) -> Floats:
    """Return how far places lie behind the first pixel of their canvas cell, in cells."""
    half = np.int16(STEPS // 2)
    inside = (places + half & (1 << _CELL_BITS) - 1) - half
    return np.asarray(inside * np.float32(1 / (1 << _CELL_BITS)), np.float32)


def _below(changed: Mask) -> Mask:
    """Return which cells may lie across a canvas cell that has changed."""
    wide = changed.copy()
    wide[:-1] |= changed[1:]
    wide[:, :-1] |= wide[:, 1:]
    return wide


def _plane(runs: NDArray[np.generic]) -> Bytes:
    """Return the plane of what is laid out by cells, shape (rows, columns, lines): words of consecutive pixels."""
    rows, columns, lines = runs.shape
    return np.ascontiguousarray(runs.swapaxes(1, 2)).reshape(rows * lines, columns).view(np.uint8)

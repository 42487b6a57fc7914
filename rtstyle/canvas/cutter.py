"""Cuts the steered canvas that lies under a frame out of a style's stroke tiles.

Each row of a cell of 4x4 pixels is read as a run of four pixels from wherever it lies in the tile of its cell, which is
two words of memory. Where neither the canvas nor the choice of tiles has changed since the frame before, nothing is
read at all: before a still camera that is most of the frame.

Tiles are chosen for the cells of the canvas, not for those of the frame, which lie across up to four of them: so a
stroke does not change where the frame's cells pass over it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle.canvas.arrays import Bytes, Floats, Integers, Mask
from rtstyle.canvas.map import CanvasMap, Runs, blended, level_runs
from rtstyle.canvas.steering import Steering, put_levels
from rtstyle.canvas.strokes import CELL_BYTES, SIDE, TILE, bank

_BLOCK = 16
"""Rows of cells that are read at once: what lies between two steps stays in the cache of a core."""

_SOME = 2048
"""Cells that are picked out at once, for the same reason."""

_MOST = 0.3
"""Share of cells that have changed from which on all are read: to pick some out takes time, too."""

_WORDS = CELL_BYTES // 4

_SHARE_BITS = 3
_SHARES = 1 << _SHARE_BITS
"""Steps in which a second tile is mixed in: what does not change need not be read."""

_MIXED_TURNS, _MIXED_SIZES = np.float32(0.09), np.float32(0.06)
"""Distance to the edge between two directions, and between two brushes, in steps of them, within which the tiles of
both are mixed: what noise changes in a measurement changes strokes by as much, not wholly."""


@dataclass(frozen=True, eq=False)
class _Choice:
    """The tiles of the canvas cell below the first pixel of each cell, shapes (rows, columns)."""

    tiles: Integers
    others: Integers
    """Number of a second tile that is mixed in."""
    share: Bytes
    """How much of it, in parts of ``_SHARES``."""

    def mixed(self, runs: Runs) -> Mask:
        """Return which cells show something of a second tile."""
        some = self.share > 0
        wide, (x, y) = some.copy(), ((each[:, 0] & 3) > 0 for each in (runs.x, runs.y))
        wide[:-1] |= some[1:] & y[: len(some) - 1]
        wide[:, :-1] |= wide[:, 1:] & x[:, : some.shape[1] - 1]
        return wide

    def differs(self, other: _Choice) -> Mask:
        """Return which cells are another choice there."""
        return np.asarray((self.tiles != other.tiles) | (self.others != other.others) | (self.share != other.share))


@dataclass(frozen=True, eq=False)
class _Laid:
    """Where the strokes of a frame came from."""

    choice: _Choice
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
                choice = self._choice(_at_canvas_cells(cells, runs), runs.turned)
                self._read(choice, runs)
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
        choice = self._choice(_at_canvas_cells(cells, runs), runs.turned)
        if last:
            changed |= _below(choice.differs(last.choice))
        self._laid = _Laid(choice, runs, nodes, pitch)
        if changed.mean() > _MOST:
            self._read(choice, runs)
        elif changed.any():
            self._read_some(choice, runs, changed)

    def _choice(self, cells: Floats, turned: Floats | None) -> _Choice:
        """Return the tiles under each cell: the nearest direction and brush, and the next one near to an edge.

        Args:
            turned: See ``Runs``.
        """
        cos, sin, _, fine = cv2.split(cells)
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
        share = np.rint(np.maximum(np.maximum(near_turn, near_size), 0) * np.float32(_SHARES / 2)).astype(np.uint8)
        tiles = self._number(level, direction)
        others = self._number(level - np.copysign(~turning, over), direction + np.copysign(turning, off))
        return _Choice(tiles, np.where(share > 0, others, tiles), share)

    def _number(self, level: Floats, direction: Floats) -> Integers:
        """Return the number of a tile; directions may be some half turns too far."""
        count = np.float32(self._directions)
        direction = direction - count * np.floor(direction * (1 / count))
        return np.asarray(level * count + direction, np.int32)

    def _read(self, choice: _Choice, runs: Runs) -> None:
        """Write the strokes of all cells into ``_strokes``."""
        tiles = _bordered(choice.tiles)
        for top in range(0, len(tiles) - 1, _BLOCK):
            stop = min(top + _BLOCK, len(tiles) - 1)
            upper, lower = tiles[top:stop, None], tiles[top + 1 : stop + 1, None]
            x, y = (each if len(each) == 1 else each[top:stop] for each in (runs.x, runs.y))
            corners = _Around(upper[..., :-1], upper[..., 1:], lower[..., :-1], lower[..., 1:])
            self._look_up(x, y, self._strokes[top:stop], corners)
        self._pick(choice, runs, choice.mixed(runs), mixed=True)

    def _read_some(self, choice: _Choice, runs: Runs, which: Mask) -> None:
        """Write the strokes of some cells into ``_strokes``."""
        mixed = choice.mixed(runs)
        self._pick(choice, runs, which & ~mixed, mixed=False)
        self._pick(choice, runs, which & mixed, mixed=True)

    def _pick(self, choice: _Choice, runs: Runs, which: Mask, *, mixed: bool) -> None:
        """Write the strokes of some cells into ``_strokes``.

        Args:
            mixed: Whether second tiles are mixed in there.
        """
        strokes, columns = self._strokes.reshape(-1, CELL_BYTES), which.shape[1]
        parts = (choice.tiles, choice.others, choice.share) if mixed else (choice.tiles,)
        bordered = [_bordered(each) for each in parts]
        every = np.flatnonzero(which)
        for begin in range(0, len(every), _SOME):
            at = every[begin : begin + _SOME]
            row, column = np.divmod(at, columns)
            around = [at + row + more for more in (0, 1, columns + 1, columns + 2)]
            corners = [_Around(*(np.take(each, where)[None, None] for where in around)) for each in bordered]
            if runs.turned is None:
                x, y = runs.x[:, :, column], runs.y[row].swapaxes(0, 2)
            else:
                lines = at + 3 * columns * row + columns * np.arange(4)[:, None]
                x, y = (np.take(each, lines)[None] for each in (runs.x, runs.y))
            found = np.empty((1, len(at), CELL_BYTES), np.uint8)  # one row of cells
            self._look_up(x, y, found, *corners)
            strokes[at] = found[0]

    def _look_up(self, x: Integers, y: Integers, out: NDArray[np.uint8], *choice: _Around) -> None:
        """Write the strokes of cells.

        Args:
            x, y: See ``Runs``; shape (rows, 4, columns), or what numpy makes that of.
            out: Shape (rows, columns, 36).
            choice: Tiles; or tiles, others and share: see ``_Choice``.
        """
        further = y >> 2 != y[:, :1] >> 2
        left, right = ([each.on(further, right=side) for each in choice] for side in (False, True))
        x, y = x & (TILE - 1), y & (TILE - 1)
        line = (y >> 2) * (SIDE * _WORDS)  # words before it, as of all that follows
        here, behind = line + (x >> 2) * _WORDS, line + ((x >> 2) + 1 & SIDE - 1) * _WORDS
        fours, twos = out.view(np.uint32), out.view(np.uint16)
        # Bytes of a word come in the order of pixels: what is shifted out at one end comes in from the next word.
        bits = ((x & 3) << 3).astype(np.uint32)
        rest, row = 32 - bits, y & 3
        for plane in (0, 4):
            pixels = _taken(self._lines[plane:], here + row, 1, *left)
            more = _taken(self._lines[plane:], behind + row, 1, *right)
            pixels >>= bits
            more <<= rest
            pixels |= more
            fours[..., plane : plane + 4] = pixels.swapaxes(1, 2)
        # One hue for two by two pixels: two of them from every other line.
        odd = (_every_other(x) << 2 & 8).astype(np.uint16)
        row = (y[:, ::2] >> 1 & 1) + 16
        pairs = _taken(self._hues, 2 * here[:, ::2] + row, 2, *map(_every_other, left))
        more = _taken(self._hues, 2 * behind[:, ::2] + row, 2, *map(_every_other, right))
        pairs >>= odd
        more <<= 16 - odd
        pairs |= more
        twos[..., 16:18] = pairs.swapaxes(1, 2)


class _Around(NamedTuple):
    """A number of each of the four canvas cells that a cell may lie across, shape (rows, 1, columns)."""

    here: Integers
    """Of the one below its first pixel."""
    right: Integers
    below: Integers
    both: Integers

    def on(self, further: Mask, *, right: bool) -> Integers:
        """Return that of each line of each cell, shape (rows, 1 or 4, columns).

        Args:
            further: Which lines lie in the canvas cell below.
            right: Of the canvas cell to the right of that below the first pixel.
        """
        upper, lower = (self.right, self.both) if right else (self.here, self.below)
        return np.where(further, lower, upper) if further.any() else upper


def _every_other(lines: Integers) -> Integers:
    """Return every other line of each cell, of shape (rows, 1 or 4, columns)."""
    return lines if lines.shape[1] == 1 else lines[:, ::2]


def _taken(
    memory: NDArray[Any],
    place: Integers,
    per_word: int,
    tiles: Integers,
    others: Integers | None = None,
    share: Integers | None = None,
) -> NDArray[Any]:
    """Return what lies at places of tiles, in a new array.

    Args:
        memory: Of all tiles.
        place: In each tile, shape (rows, lines, columns).
        per_word: Elements of the memory in four bytes.
        tiles, others, share: Of each line; see ``_Choice``.
    """
    size = SIDE * SIDE * _WORDS * per_word
    found = np.take(memory, (tiles * size + place).astype(np.intp), mode="clip")
    if others is None or share is None:
        return found
    return _mixed_words(found, np.take(memory, (others * size + place).astype(np.intp), mode="clip"), share)


def _mixed_words(first: NDArray[Any], second: NDArray[Any], share: NDArray[Any]) -> NDArray[Any]:
    """Return words of two or four bytes, each of which is mixed: ``share`` parts of ``_SHARES`` of the second one."""
    share = share.astype(first.dtype)
    one = np.asarray(0x00010001 if first.itemsize == 4 else 1, first.dtype)
    byte, half, rest = one * 255, one * (_SHARES // 2), _SHARES - share
    even, odd = (
        (((a & byte) * rest + (b & byte) * share + half) >> _SHARE_BITS) & byte
        for a, b in ((first, second), (first >> 8, second >> 8))
    )
    return np.asarray(even | odd << 8)


def _bordered(plane: NDArray[Any]) -> NDArray[Any]:
    """Repeat the last row and column."""
    return np.asarray(cv2.copyMakeBorder(plane, 0, 1, 0, 1, cv2.BORDER_REPLICATE))


def _at_canvas_cells(cells: Floats, runs: Runs) -> Floats:
    """Return what ``cells`` are in the middle of the canvas cell below the first pixel of each cell of a frame.

    Args:
        cells: In the middle of each of the frame's own, shape (rows, columns, channels).
    """
    x, y = ((each[:, 0] & 3).astype(np.float32) / 4 for each in (runs.x, runs.y))
    if runs.turned is None:  # all cells lie the same way
        if not x.flat[0] and not y.flat[0]:
            return cells
        matrix = np.array([[1, 0, -float(x.flat[0])], [0, 1, -float(y.flat[0])]], np.float64)
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        moved = cv2.warpAffine(cells, matrix, cells.shape[1::-1], flags=how, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(moved, np.float32)
    columns, rows = (np.arange(n, dtype=np.float32) for n in cells.shape[1::-1])
    moved = cv2.remap(cells, columns - x, rows[:, None] - y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.float32)


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

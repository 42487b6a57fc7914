"""Where each part of a frame lies on the canvas, where that is more than one offset for all of it.

A canvas map is a coarse grid of displacements, relative to the rigid offset ``Frame.canvas``: a pixel of the frame
lies on the canvas at its own place, plus the offset, plus the displacement there, which is bilinear between the nodes
of the grid. A map whose strokes have been stretched is faded to a fresh one: then both lie below the frame.

Idea: Neyret 2003, "Advected Textures"; Bousseau, Neyret, Thollot and Salesin 2007, "Video Watercolorization using
Bidirectional Texture Advection".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle.canvas.arrays import Floats, Integers, Mask, Shorts
from rtstyle.frame import MARGIN, Size

_ALIKE = 3.0
"""Distance, in pixels, at which two places of the canvas have little in common: about a stroke's width."""

_BROKEN = 0.4
"""Change of the displacement per pixel beyond which strokes are laid in pieces: what is stretched so far is none."""


@dataclass(frozen=True)
class Fade:
    """How what lies on two maps is mixed: with the contrast of its ends, and without any change where they are equal.

    Strokes of two places have nothing in common, so that the squares of their weights must sum to 1; where both maps
    show the same place, the weights themselves must.
    """

    share: float
    """Of the second."""
    gain: Floats
    """Of the contrast of the mean, shape (rows, columns)."""

    def mixed(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Mix levels around 128, shape (rows, columns) or (rows, columns, channels), or half of both."""
        gain = self.gain if first.shape[:2] == self.gain.shape else self.gain[::2, ::2]
        mean = cv2.addWeighted(first, 1 - self.share, second, self.share, -128, dtype=cv2.CV_32F)
        mean = mean * (gain if first.ndim == 2 else gain[..., None])
        return np.asarray(cv2.add(mean, np.full(mean.shape, 128, np.float32), dtype=cv2.CV_8U), np.uint8)


class Places(NamedTuple):
    """Where the pixels of a packed frame lie on the canvas."""

    x: Shorts
    y: Shorts
    """Of each pixel, shape (rows, columns), in ``STEPS`` of a pixel within the period of the tile."""
    between: bool
    """Whether some lie between the pixels of the canvas."""
    turned: Floats | None
    """By what angle the canvas is turned below each cell, in radians, shape (rows / 4, columns / 4); None: not at
    all."""


STEP_BITS = 5
STEPS = 1 << STEP_BITS
"""Parts of a pixel that places are rounded to: those of OpenCV's tables of bilinear weights."""


def level_places(size: tuple[int, int], offset: tuple[int, int], period: int) -> Places:
    """Return the places of a packed frame of (rows, columns) pixels below which the canvas is not deformed."""
    y, x = (
        (STEPS * ((np.arange(side) + begin) % period)).astype(np.int16)
        for side, begin in zip(size, reversed(offset), strict=True)
    )
    return Places(np.tile(x, (size[0], 1)), np.repeat(y[:, None], size[1], 1), between=False, turned=None)


@dataclass(frozen=True, eq=False)
class CanvasMap:
    """How the canvas is deformed below a frame, beyond its offset. Arrays are never written to again."""

    pitch: int
    """Pixels of the frame per node, across and down, a multiple of 4; node (0, 0) is the middle of the first ones."""
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
        pitch = max(4, 4 * round(self.pitch * across / 4))
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

    def _gains(self) -> Floats | None:
        """Return what the contrast of a mean must be multiplied by at each node."""
        if self.fresh is None:
            return None
        off = self.fresh - self.grid
        alike = np.exp((off[..., 0] ** 2 + off[..., 1] ** 2) * np.float32(-1 / _ALIKE**2))
        first, second = 1 - self.share, self.share
        return np.asarray((first * first + second * second + 2 * first * second * alike) ** -0.5, np.float32)

    def resized(self, shape: tuple[int, int]) -> list[tuple[Floats, float]]:
        """Return each grid with ``shape`` nodes over the same frame, and its share."""
        size = shape[1], shape[0]
        grids = [
            np.asarray(cv2.resize(grid, size, interpolation=cv2.INTER_LINEAR), np.float32) for grid in self._grids()
        ]
        shares = (1.0,) if self.fresh is None else (1 - self.share, self.share)
        return list(zip(grids, shares, strict=True))

    def nodes(self, size: tuple[int, int], offset: tuple[int, int], period: int) -> list[Floats]:
        """Return where the nodes that a packed frame lies between are on the canvas, in pixels; of one map or two.

        Args:
            size: Rows and columns of the packed frame, in pixels, whole cells of 4.
            offset: Where its top left lies on the canvas, (x, y) in pixels.
            period: Of the tile, in pixels. What is returned is positive and some of them too far or too near.
        """
        wide = (self._bordered(grid, size) for grid in self._grids())
        places = (_node_positions(each, self.pitch, self._border, offset) for each in wide)
        return [each - (np.floor(each.min((0, 1)) / period) * period - period).astype(np.float32) for each in places]

    def places(self, nodes: Floats, size: tuple[int, int], period: int) -> Places:
        """Return where the pixels of a packed frame lie.

        Args:
            nodes: One of those that ``nodes`` returned for it.
            period: Of the tile, in pixels; a power of two of at most 512.
        """
        x, y = (self._rounded(nodes[..., axis], size, period) for axis in (0, 1))
        middles = self._between(nodes, size, (4, 4))
        across, down = np.empty_like(middles), np.empty_like(middles)
        across[:, :-1], down[:-1] = middles[:, 1:] - middles[:, :-1], middles[1:] - middles[:-1]
        across[:, -1], down[-1] = across[:, -2], down[-2]
        turned = np.asarray(cv2.phase(across[..., 0] + down[..., 1], across[..., 1] - down[..., 0]), np.float32)
        off = across[..., 0] - 4, across[..., 1], down[..., 0], down[..., 1] - 4
        broken = np.maximum.reduce([np.abs(each) for each in off]) > np.float32(4 * _BROKEN)
        if broken.any():
            turned[broken] = 0
            self._lay_pieces(nodes, size, period, broken, x, y)
        return Places(x, y, between=True, turned=turned)

    def _rounded(self, nodes: Floats, size: tuple[int, int], period: int) -> Shorts:
        """Return one coordinate of each pixel, see ``Places``."""
        wide = self._between(nodes * np.float32(STEPS) + np.float32(0.5), size, (1, 1))
        return wide.astype(np.int32).astype(np.int16) & np.int16(STEPS * period - 1)

    def _lay_pieces(
        self,
        nodes: Floats,
        size: tuple[int, int],
        period: int,
        where: Mask,
        x: Shorts,
        y: Shorts,
    ) -> None:
        """Put some cells where the nearest node lies, so that strokes are not stretched there.

        Args:
            nodes, size, period: As of ``places``.
            where: The cells, shape (rows, columns).
            x, y: See ``Places``; they are written to.
        """
        across, down = (np.arange(n) * self.pitch + (self.pitch - 1) / 2 - self._before for n in nodes.shape[1::-1])
        rigid = np.rint((nodes - np.stack(np.meshgrid(across, down), 2)) * np.float32(STEPS)).astype(np.float32)
        pieces = self._between(rigid, size, (4, 4), cv2.INTER_NEAREST)[where].astype(np.int32)
        row, column = np.nonzero(where)
        inside = np.arange(4) * STEPS
        begin = pieces + 4 * STEPS * np.stack((column, row), 1)
        right, below = (begin[:, axis, None] + inside & STEPS * period - 1 for axis in (0, 1))
        words = right.astype(np.int16).view(np.int64), below * 0x0001000100010001  # four pixels of a row
        for plane, each in zip((x, y), words, strict=True):
            plane.view(np.int64).reshape(len(where), 4, -1)[row, :, column] = each

    def moved(self, nodes: Floats, before: Floats, size: tuple[int, int]) -> Mask:
        """Return which cells of 4x4 pixels may lie elsewhere than before; arguments as of ``runs``."""
        changed = ((nodes[..., 0] != before[..., 0]) | (nodes[..., 1] != before[..., 1])).view(np.uint8)
        near = cv2.dilate(changed, np.ones((3, 3), np.uint8))
        return np.asarray(self._between(near, size, (4, 4), cv2.INTER_NEAREST) > 0)

    def fade(self, size: tuple[int, int]) -> Fade | None:
        """Return how the two maps below a packed frame are mixed, with a gain for each cell; None: there is one."""
        gains = self._gains()
        if gains is None:
            return None
        return Fade(self.share, self._between(self._bordered(gains, size), size, (4, 4)))

    @property
    def _border(self) -> int:
        """Nodes before node (0, 0), across and down, from which on a packed frame lies between nodes."""
        return -((-MARGIN - self.pitch // 2) // self.pitch)

    @property
    def _before(self) -> int:
        """Pixels from where the part of the first of these begins to the packed frame, across and down."""
        return self._border * self.pitch - MARGIN

    def _bordered(self, nodes: Floats, size: tuple[int, int]) -> Floats:
        """Return the nodes that a packed frame lies between, of an array with those of the map; it is a new one."""
        rim, (down, across) = self._rims(size)
        inside = tuple(slice(*self._nodes(slice(0, side), rim)) for side in size)
        return np.asarray(cv2.copyMakeBorder(nodes, rim, down, rim, across, cv2.BORDER_REPLICATE), np.float32)[inside]

    def _between(
        self, nodes: NDArray[Any], size: tuple[int, int], step: tuple[int, int], how: int = cv2.INTER_LINEAR
    ) -> NDArray[Any]:
        """Interpolate a number of each of the nodes that a packed frame lies between.

        Args:
            size: Rows and columns of the packed frame, in pixels.
            step: Rows and columns that share a value, that of their middle.
        """
        rows, columns = (count * self.pitch // each for count, each in zip(nodes.shape, step, strict=False))
        wide = cv2.resize(nodes, (columns, rows), interpolation=how)
        begin = self._before
        y, x = (slice(begin // each, (begin + side) // each) for side, each in zip(size, step, strict=True))
        return wide[y, x]

    def _rims(self, size: tuple[int, int]) -> tuple[int, tuple[int, int]]:
        """Return how many nodes the grid needs more to the left and above, and below and to the right."""
        need = (-(-(side - MARGIN) // self.pitch) + 2 for side in size)
        down, across = (max(0, n - have) for n, have in zip(need, self.grid.shape[:2], strict=True))
        return -(-MARGIN // self.pitch) + 2, (down, across)

    def _nodes(self, pixels: slice, rim: int) -> tuple[int, int]:
        """Return the nodes that pixels of the packed frame lie between."""
        first = (pixels.start - MARGIN - self.pitch // 2) // self.pitch
        last = (pixels.stop - 1 - MARGIN - self.pitch // 2) // self.pitch + 2
        return first + rim, last + rim


def sampled(image: NDArray[Any], at: NDArray[Any], how: int, border: int = cv2.BORDER_REPLICATE) -> NDArray[Any]:
    """Return an image at coordinates of shape (rows, columns, 2), (x, y) in pixels."""
    return np.asarray(cv2.remap(image, at, None, how, borderMode=border))  # type: ignore[call-overload]


EXACT = np.empty(0, np.uint16)
"""How far places lie between pixels, of places that do not: ``cv2.remap`` takes the pixels themselves then."""


def looked_up(corner: Integers, x: Shorts, y: Shorts, *, between: bool) -> tuple[Shorts, NDArray[np.uint16], int]:
    """Return what ``cv2.remap`` needs to read tiles at places: pixels, how far beyond them, and the interpolation.

    Args:
        corner: Where the tile of each place begins on its sheet, in pixels: rows in the upper 16 bits, columns in the
            lower ones. Behind each tile come the first column and row of its next period.
        x, y: See ``Places``; two axes.
        between: Whether places lie between pixels.
    """
    at = on_sheet(corner, x >> STEP_BITS, y >> STEP_BITS)
    if not between:
        return at, EXACT, cv2.INTER_NEAREST
    return at, ((y & STEPS - 1) << STEP_BITS | x & STEPS - 1).view(np.uint16), cv2.INTER_LINEAR


def on_sheet(corner: Integers, x: Shorts, y: Shorts) -> Shorts:
    """Return the places on a sheet, shape (rows, columns, 2), of pixels of tiles that begin at ``corner``."""
    places = corner + (y.astype(np.int32) << 16 | x)
    return places.view(np.int16).reshape(*x.shape, 2)


def blended(levels: list[NDArray[np.uint8]], fade: Fade | None) -> NDArray[np.uint8]:
    """Mix what lies on one or two layers, in levels around 128."""
    return levels[0] if fade is None else fade.mixed(*levels)


def grid_shape(shape: tuple[int, int], pitch: int) -> tuple[int, int]:
    """Return rows and columns of nodes that cover a frame of (height, width)."""
    return -(-shape[0] // pitch), -(-shape[1] // pitch)


def _node_positions(grid: NDArray[Any], pitch: int, rim: int, offset: tuple[int, int]) -> Floats:
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

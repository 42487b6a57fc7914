"""Carries a canvas map from frame to frame, once it is known what moved.

What moved is found by ``rtstyle.canvas.flow``, which looks at the frames and takes its time; what is here needs only
that, and so it can be done where the frames have not been looked at: by a worker that renders a part of a video.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from struct import calcsize, pack, unpack_from
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle.canvas.arrays import Floats, Mask
from rtstyle.canvas.map import CanvasMap, grid_shape

_PIXELS = 34_000
"""Least pixels of the small frame, in which it is found what moves."""

BLOCK = 4
"""Pixels of the small frame per side of a block, for each of which it is decided whether it moves; a node of the map
lies in the middle of each."""

_BOUND = 0.3
"""Change of the displacement per pixel, as a share, beyond which strokes are stretched too far."""

_STRETCHED = 0.4
"""Share of the frame that may be stretched beyond that: where less is, it is torn instead."""

_CREASE, _EASE = 1.5, 0.05
"""Size of creases that are smoothed out of a map, in nodes, and how much of them per frame."""

_TEAR, _PIECE = 0.5, 3
"""Change of the displacement per pixel, as a share, beyond which a map is torn; size of the pieces, in nodes."""

_FADE = 24
"""Frames that a fade to a fresh map takes."""


@dataclass(frozen=True)
class Similarity:
    """A motion: where a pixel of the small frame was in the frame before, relative to where it is."""

    turn: complex = 0j
    shift: complex = 0j

    def at(self, x: Floats, y: Floats) -> Floats:
        """Return the motion at places of the small frame, shape (rows, columns, 2)."""
        turn, shift = self.turn, self.shift
        motion = np.empty((len(y), len(x), 2), np.float32)
        motion[..., 0] = np.float32(turn.real) * x + (np.float32(shift.real) - np.float32(turn.imag) * y)[:, None]
        motion[..., 1] = np.float32(turn.imag) * x + (np.float32(shift.imag) + np.float32(turn.real) * y)[:, None]
        return motion

    def warped(self, before: Floats) -> Floats:
        """Return the frame before as this motion brings it here."""
        if not self.turn and not self.shift:
            return before
        turn, shift = 1 + self.turn, self.shift
        matrix = np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]], np.float64)
        # OpenCV's cubic interpolation is sharper, but biased: it shifts a ramp by up to 0.05 pixels.
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        moved = cv2.warpAffine(before, matrix, before.shape[::-1], flags=how, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(moved, np.float32)


@dataclass(frozen=True, eq=False)
class Motion:
    """What moved between two frames beyond the tracker's offset."""

    common: Similarity
    """Of all blocks that do not move by themselves."""
    moves: Mask
    """Blocks that do, shape (rows, columns)."""
    own: Floats
    """Where those were in the frame before, (x, y) in pixels of the small frame relative to where they are; shape
    (blocks that move, 2), row by row."""
    bare: Mask | None = None
    """Blocks that something which moved has just uncovered; None: there are none."""

    def blocks(self) -> Floats:
        """Return where each block was, shape (rows, columns, 2)."""
        y, x = ((np.arange(n, dtype=np.float32) + np.float32(0.5)) * BLOCK - np.float32(0.5) for n in self.moves.shape)
        motion = self.common.at(x, y)
        motion[self.moves] = self.own
        return motion


class Found(IntEnum):
    """What was found of a frame."""

    NOTHING = 0
    """It shows what the frame before showed, or there is none before: the map stays."""
    CUT = 1
    """Another scene: there is no map any more."""
    OFFSET = 2
    """All of it moved by the tracker's offset, or nothing did."""
    MOTION = 3


@dataclass(frozen=True, eq=False)
class Step:
    """What was found of a frame, and all that its map follows from, but for the map before it."""

    found: Found
    motion: Motion | None = None

    def dump(self) -> bytes:
        """Return it as bytes, mostly one of them for a frame that shows no motion."""
        motion = self.motion
        if motion is None:
            return pack("<B", self.found)
        turn, shift = motion.common.turn, motion.common.shift
        bare = b"" if motion.bare is None else np.packbits(motion.bare).tobytes()
        head = pack(_HEAD, self.found, bool(bare), turn.real, turn.imag, shift.real, shift.imag)
        return head + np.packbits(motion.moves).tobytes() + bare + motion.own.astype("<f4").tobytes()


_HEAD = "<BB4d"


def read_steps(data: bytes, shape: tuple[int, int]) -> Iterator[Step]:
    """Yield what ``Step.dump`` made of consecutive frames.

    Args:
        shape: Height and width of the frames.

    Raises:
        ValueError: It is damaged, or of frames of another size.
    """
    rows, columns = (side // reduction(shape) // BLOCK for side in shape)
    masked, at = -(-rows * columns // 8), 0

    def mask() -> Mask:
        nonlocal at
        bits = np.frombuffer(data, np.uint8, masked, at)
        at += masked
        return np.unpackbits(bits, count=rows * columns).reshape(rows, columns) > 0

    while at < len(data):
        found = Found(data[at])
        if found is not Found.MOTION:
            yield Step(found)
            at += 1
            continue
        if at + calcsize(_HEAD) > len(data):
            raise ValueError("the last motion is cut off")
        _, bare, *numbers = unpack_from(_HEAD, data, at)
        at += calcsize(_HEAD)
        moves, uncovered = mask(), mask() if bare else None
        count = int(moves.sum())
        own = np.frombuffer(data, "<f4", 2 * count, at).reshape(count, 2).astype(np.float32)
        at += own.nbytes
        common = Similarity(complex(*numbers[:2]), complex(*numbers[2:]))
        yield Step(found, Motion(common, moves, own, uncovered))


def reduction(shape: tuple[int, int]) -> int:
    """Return how many pixels of a frame of (height, width) are one of the small frame, across and down."""
    factor = 1
    while shape[0] * shape[1] >= 4 * factor * factor * _PIXELS:
        factor *= 2
    return factor


class MapCarrier:
    """Carries a canvas map through consecutive frames of one size."""

    def __init__(self) -> None:
        self.map: CanvasMap | None = None
        """Of the last frame; None: the canvas is not deformed."""
        self.back: Floats | None = None
        """Where each node's part of the scene was in the frame before, (x, y) in pixels of the frame relative to where
        it is; None: all of it moved by the offset of the tracker."""

    def carry(self, shape: tuple[int, int], moved: tuple[float, float], step: Step) -> CanvasMap | None:
        """Return how the canvas is deformed below the next frame; None: not at all.

        Args:
            shape: Height and width of the frame, the same at every call.
            moved: By how many pixels (x, y) the tracker's offset moved the scene to the right and down.
            step: What was found of the frame.
        """
        self.back = None
        if step.found is Found.CUT:
            self.map = None
        if step.found in (Found.NOTHING, Found.CUT):
            return self.map
        factor = reduction(shape)
        pitch = BLOCK * factor
        nodes, extra = grid_shape(shape, pitch), None
        if step.motion is not None:
            extra = np.float32(factor) * _fitted(step.motion.blocks(), nodes) + _vector(moved)
        self._carry(pitch, nodes, moved, extra, step.motion)
        return self.map

    def ease(self, moved: tuple[float, float]) -> CanvasMap | None:
        """Return how the canvas is deformed below the next frame, of which nothing is known: ever less.

        Args:
            moved: As in ``carry``.
        """
        self.back = None
        if self.map and self.map.fresh is None:
            self.map = replace(self.map, fresh=np.zeros_like(self.map.grid))
        if self.map:
            self._carry(self.map.pitch, (self.map.grid.shape[0], self.map.grid.shape[1]), moved, None, None)
        return self.map

    def _carry(
        self,
        pitch: int,
        shape: tuple[int, int],
        moved: tuple[float, float],
        extra: Floats | None,
        motion: Motion | None,
    ) -> None:
        """Move the map with the scene.

        Args:
            shape: Rows and columns of the map.
            extra: Where each node was beyond what the offset says, in pixels of the frame; None: nowhere else.
            motion: What ``extra`` was made of.
        """
        if extra is not None:
            self.back = extra - _vector(moved)
        if self.map is None and extra is None:
            return
        grid, fresh, share = np.zeros((*shape, 2), np.float32), None, 0.0
        if self.map is not None:
            grid, fresh, share = self.map.grid, self.map.fresh, self.map.share
        if extra is None and moved == (0.0, 0.0) and fresh is None:
            return
        back = np.empty((*shape, 2), np.float32)
        back[:] = _vector(moved) / np.float32(-pitch)
        if extra is not None:
            back += extra / np.float32(pitch)
        grid = _mended(_advected(grid, back, extra), pitch, motion)
        if fresh is not None:
            fresh, share = _mended(_advected(fresh, back, extra), pitch, motion), share + 1 / _FADE
            if share >= 1:
                grid, fresh, share = fresh, None, 0.0
        elif _stretched(grid, pitch) > _STRETCHED:
            fresh, share = np.zeros_like(grid), 1 / _FADE
        self.map = CanvasMap(pitch, grid, fresh, share) if grid.any() or fresh is not None else None

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return all that further maps depend on, but for what is found of their frames."""
        if self.map is None:
            return {}
        arrays: dict[str, NDArray[np.generic]] = {
            "grid": self.map.grid,
            "share": np.array(self.map.share),
            "pitch": np.array(float(self.map.pitch)),
        }
        return arrays if self.map.fresh is None else arrays | {"fresh": self.map.fresh}

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Continue as the carrier did that gave ``state``."""
        if "grid" in state:
            fresh = np.asarray(state["fresh"], np.float32) if "fresh" in state else None
            grid = np.asarray(state["grid"], np.float32)
            self.map = CanvasMap(int(state["pitch"]), grid, fresh, float(state["share"]))


def _mended(grid: Floats, pitch: int, motion: Motion | None) -> Floats:
    """Smooth out what errors of the flow crumple, tear what they stretch, and let what was uncovered continue what
    stays around it."""
    if motion is None:
        return grid
    shape = grid.shape[0], grid.shape[1]
    moves = _fitted(motion.moves.view(np.uint8), shape) > 0
    if moves.any():
        grid = _torn(_eased(grid, moves), moves, pitch)
    if motion.bare is None:
        return grid
    return _continued(grid, ~moves, _fitted(motion.bare.view(np.uint8), shape) > 0)


def _vector(numbers: tuple[float, float]) -> Floats:
    return np.array(numbers, np.float32)


def _extended(plane: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Repeat the last row and column up to a shape."""
    down, across = shape[0] - plane.shape[0], shape[1] - plane.shape[1]
    if not down and not across:
        return plane
    return np.asarray(cv2.copyMakeBorder(plane, 0, down, 0, across, cv2.BORDER_REPLICATE))


def _fitted(nodes: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """Return as many nodes as the map has: the small frame may be a part of a pixel larger."""
    return _extended(nodes, shape)[: shape[0], : shape[1]]


def _advected(grid: Floats, back: Floats, extra: Floats | None) -> Floats:
    """Return a grid that moved with the scene.

    Args:
        back: Where each node was, in nodes relative to where it is.
        extra: What that is beyond the tracker's offset, in pixels of the frame.
    """
    y, x = (np.arange(n, dtype=np.float32) for n in grid.shape[:2])
    across, down = back[..., 0] + x, back[..., 1] + y[:, None]
    carried = np.asarray(cv2.remap(grid, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)
    return carried if extra is None else carried + extra


def _mean_of(grid: Floats, among: Mask, sigma: float) -> tuple[Floats, Floats]:
    """Return the mean of some nodes around each node, and how many there are, as a share."""
    count = among.astype(np.float32)
    planes = cv2.merge((grid[..., 0] * count, grid[..., 1] * count, count))
    around = np.asarray(cv2.GaussianBlur(planes, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.float32)
    return around[..., :2] / (around[..., 2:] + np.float32(1e-6)), around[..., 2]


def _eased(grid: Floats, moves: Mask) -> Floats:
    """Return a grid that is a little smoother where it moves: else errors of the flow would add up to a crumpled map.

    It moves strokes by a few hundredths of a pixel; what stays is left alone.
    """
    mean, _ = _mean_of(grid, moves, _CREASE)
    return np.asarray(grid + (np.float32(_EASE) * moves)[..., None] * (mean - grid), np.float32)


def _torn(grid: Floats, moves: Mask, pitch: int) -> Floats:
    """Return a grid that is torn where it would stretch strokes too far: what lies there belongs to one side or other.

    Of the means of four squares that touch at a node the one with the least variance counts (Kuwahara, Hachimura,
    Eiho and Kinoshita 1976), which turns a steep slope into a step.
    """
    slopes = [np.abs(cv2.Sobel(grid, cv2.CV_32F, 1 - axis, axis, ksize=1, scale=0.5)) for axis in (0, 1)]
    slope = np.maximum.reduce([plane for each in slopes for plane in cv2.split(each)])
    steep = cv2.dilate((slope > np.float32(_TEAR * pitch)).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    steep &= moves
    if not steep.any():
        return grid
    columns, side = steep.shape[1], _PIECE
    wide = cv2.copyMakeBorder(grid, side, side, side, side, cv2.BORDER_REPLICATE)
    x, y = cv2.split(wide)
    squares = cv2.merge((x, y, x * x + y * y))
    means = cv2.boxFilter(squares, -1, (side, side), anchor=(0, 0))  # of the nodes to the right and below
    at = np.flatnonzero(steep)
    row, column = np.divmod(at, columns)
    around = np.stack([means[row + down, column + across] for down in (1, side) for across in (1, side)])
    variance = around[..., 2] - around[..., 0] ** 2 - around[..., 1] ** 2
    torn = grid.copy()
    torn.reshape(-1, 2)[at] = around[variance.argmin(0), np.arange(len(at)), :2]
    return torn


def _continued(grid: Floats, stays: Mask, bare: Mask) -> Floats:
    """Return a grid that continues, where something was uncovered, what stays around it."""
    mean, share = _mean_of(grid, stays & ~bare, 2 * _CREASE)
    known = bare & (share > 0.01)
    continued = grid.copy()
    continued[known] = mean[known]
    return continued


def _stretched(grid: Floats, pitch: int) -> float:
    """Return the share of nodes around which strokes are stretched or pressed beyond the bound.

    A jump between two nodes, where something moves before something else, is no stretch: the smaller of the changes to
    both sides counts.
    """
    limit = np.float32(_BOUND * pitch)
    over = np.zeros((grid.shape[0] - 2, grid.shape[1] - 2), bool)
    for plane in cv2.split(grid):
        across, down = cv2.absdiff(plane[:, 1:], plane[:, :-1]), cv2.absdiff(plane[1:], plane[:-1])
        over |= (across[1:-1, 1:] > limit) & (across[1:-1, :-1] > limit)
        over |= (down[1:, 1:-1] > limit) & (down[:-1, 1:-1] > limit)
    return float(over.mean())

"""The steered canvas: which stroke tile lies under each cell of a frame, and what else a style's network reads.

A style says from which brush its tiles are painted, and along which stream its strokes run where the frame gives no
direction. The stream belongs to the canvas and moves with the scene, as the strokes do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle.canvas.arrays import Floats
from rtstyle.canvas.field import CELL, Field
from rtstyle.canvas.map import CanvasMap, Lookup, Strip, blended, sampled
from rtstyle.canvas.strokes import CELL_BYTES, SIDE, TILE, Brush, atlas, bank, check_numbers

CHANNELS = 40
"""Channels of a cell of the steered canvas: 4x4 pixels of value in row order, 4x4 of relief, 2x2 hues, cosine and sine
of twice the direction, glow and fineness; uint8 around 128 (the last two from 128 on)."""

PERIOD = 1024
"""Width and height of the stream, in pixels. It is periodic as tiles are, but larger: its whirls catch the eye."""

_STREAM = PERIOD // CELL
"""The same in cells of its grid."""


DirectionKind = Literal["level", "waves", "whirls"]


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Where strokes run in areas that give no direction."""

    kind: DirectionKind = "level"
    angle: float = 0.0
    """Of the mean direction, in degrees, counted clockwise from level."""
    sway: float = 0.6
    """How far it sways from that, in radians."""
    waves: int = 2
    """Waves per period."""
    whirls: int = 20
    """Whirls per period, in both directions."""
    radius: tuple[float, float] = (38.0, 112.0)
    """Of whirls, in pixels."""
    lights: float = 0.6
    """Share of whirls whose center is light: stars."""
    pull: float = 6e-5
    """How strong a form must be to be followed instead of the stream."""
    seed: int = 3

    def __post_init__(self) -> None:
        if self.kind not in get_args(DirectionKind):
            raise ValueError(f"a stream is {', '.join(get_args(DirectionKind))}, not {self.kind!r:.40}")
        within = {
            "angle": (-360, 360),
            "sway": (0, 2),
            "waves": (0, 16),
            "whirls": (0, 64),
            "lights": (0, 1),
            "pull": (0, 1),
            "seed": (0, 1 << 31),
        }
        check_numbers(self, within)
        if len(self.radius) != 2 or not 4 <= self.radius[0] <= self.radius[1] <= 512:
            raise ValueError(f"the radius of whirls is from a least to a largest one, 4 to 512, not {self.radius}")

    @cached_property
    def grid(self) -> tuple[Floats, Floats, Floats]:
        """Cosine and sine of twice the direction, and the glow, shape (128, 128), periodic."""
        y, x = (np.mgrid[0:_STREAM, 0:_STREAM].astype(np.float64) + 0.5) * CELL
        angle = np.full_like(x, math.radians(self.angle))
        turn = 2 * math.pi / PERIOD
        if self.kind == "waves":
            angle = angle + self.sway * np.sin(turn * self.waves * x + 2 * np.sin(2 * turn * y))
        else:
            angle = (
                angle + self.sway * np.sin(2 * turn * x + 1 + np.sin(turn * y)) + 0.8 * self.sway * np.sin(4 * turn * y)
            )
        cos, sin, glow = np.cos(2 * angle), np.sin(2 * angle), np.zeros_like(x)
        for cy, cx, radius, light in self.centers if self.kind == "whirls" else ():
            dy, dx = ((at - c + PERIOD / 2) % PERIOD - PERIOD / 2 for at, c in ((y, cy), (x, cx)))
            weight = 6 * np.exp(-((np.hypot(dx, dy) / radius) ** 4))
            around = np.arctan2(dy, dx) + math.pi / 2 + 0.18  # a little inwards: a spiral
            cos, sin = cos + weight * np.cos(2 * around), sin + weight * np.sin(2 * around)
            glow += light * np.exp(-(dx * dx + dy * dy) / (0.75 * radius) ** 2)
        length = np.hypot(cos, sin) + 1e-6
        planes = (cos / length, sin / length, np.minimum(glow, 1))
        rounded = [np.round(each, 5).astype(np.float32) for each in planes]
        return rounded[0], rounded[1], rounded[2]

    @cached_property
    def centers(self) -> list[tuple[float, float, float, float]]:
        """Whirls, apart from one another: y, x and radius in pixels, and 1 where the center is light, else 0."""
        rng, found = np.random.default_rng(self.seed), np.empty((0, 2))
        apart, tries = 0.75 * PERIOD / math.sqrt(self.whirls), 0
        while len(found) < self.whirls and tries < 10_000:
            tries += 1
            place = rng.uniform(0, PERIOD, 2)
            distance = (place - found + PERIOD / 2) % PERIOD - PERIOD / 2
            if not len(found) or np.hypot(*distance.T).min() > apart:
                found = np.vstack((found, place))
        radii = rng.uniform(*self.radius, len(found))
        lights = (rng.random(len(found)) < self.lights).astype(float)
        return [(float(y), float(x), float(r), float(on)) for (y, x), r, on in zip(found, radii, lights, strict=True)]

    def window(
        self,
        corner: tuple[float, float],
        pitch: tuple[float, float],
        shape: tuple[int, int],
        bent: Floats | None = None,
    ) -> Floats:
        """Look the grid up at ``shape`` cells, each of ``pitch`` of its own, from ``corner`` (x, y) on, linearly.

        Args:
            bent: By how many cells of its own each is displaced, shape (rows, columns, 2); None: not at all.
        """
        rows, columns = shape
        if bent is not None:
            x = (np.arange(columns) + 0.5) * pitch[0] - 0.5 + corner[0] + bent[..., 0]
            y = ((np.arange(rows) + 0.5) * pitch[1] - 0.5 + corner[1])[:, None] + bent[..., 1]
            at = np.mod(cv2.merge((x, y)), _STREAM).astype(np.float32)
            return np.asarray(sampled(self._bordered, at, cv2.INTER_LINEAR), np.float32)
        (left, top), (across, down) = (at % _STREAM for at in corner), pitch
        wide = self._wide
        while min(wide.shape[:2]) < max(columns * across, rows * down) + 2 * _STREAM + 2:
            wide = np.tile(wide, (2, 2, 1))
        # The first cell's center may lie before the grid's first: the same place one period further is as good.
        matrix = np.array(
            [[across, 0, left + across / 2 - 0.5 + _STREAM], [0, down, top + down / 2 - 0.5 + _STREAM]], np.float64
        )
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        looked_up = cv2.warpAffine(wide, matrix, (columns, rows), flags=how, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(looked_up, np.float32)

    @cached_property
    def _bordered(self) -> Floats:
        return np.asarray(cv2.copyMakeBorder(np.dstack(self.grid), 0, 1, 0, 1, cv2.BORDER_WRAP), np.float32)

    @cached_property
    def _wide(self) -> Floats:
        return np.tile(np.dstack(self.grid), (5, 5, 1))


@dataclass(frozen=True)
class Steering:
    """How a style lays its strokes; made from the ``canvas`` entry of style.json."""

    brush: Brush = field(default_factory=Brush)
    stream: Stream = field(default_factory=Stream)

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Steering:
        """Read the ``canvas`` entry of a style.json.

        Raises:
            ValueError, TypeError: It holds what no canvas has.
        """
        brush, stream = dict(entry.get("brush", {})), dict(entry.get("stream", {}))
        if "scales" in brush:
            brush["scales"] = tuple(float(scale) for scale in brush["scales"])
        if "radius" in stream:
            stream["radius"] = tuple(float(radius) for radius in stream["radius"])
        return cls(Brush(**brush), Stream(**stream))

    def entry(self) -> dict[str, Any]:
        """Return what ``of`` reads."""
        return {"brush": asdict(self.brush), "stream": asdict(self.stream)}


def steered(
    steering: Steering,
    seen: Field,
    offset: tuple[float, float],
    shape: tuple[int, int],
    origin: tuple[float, float],
    scale: tuple[float, float] = (2.0, 2.0),
    bent: CanvasMap | None = None,
) -> Floats:
    """Blend the style's stream into a field and look it up at the cells of a packed frame.

    Args:
        offset: Where the top left of the packed frame lies on the canvas, (x, y) in pixels of the packed frame.
        shape: Rows and columns of cells.
        origin: Where the top left of the packed frame lies in the measured frame, (x, y) in pixels of the packed one.
        scale: Cells of 4 pixels per cell of the field, across and down; 2 where it was measured at this size.
        bent: How the canvas is deformed below the measured frame.

    Returns:
        Shape (rows, columns, 4): cosine and sine of twice the direction of strokes, the light at the centers of
        whirls where the frame is empty, and the fineness, all within [-1, 1].
    """
    stream = steering.stream
    height, width = seen.cos.shape
    corner = (offset[0] - origin[0]) / CELL, (offset[1] - origin[1]) / CELL  # of the measured frame, in cells
    pitch = scale[0] / 2, scale[1] / 2
    if bent is None:
        flowing = stream.window(corner, pitch, (height, width))
    else:
        flowing = np.zeros((height, width, 3), np.float32)
        for grid, share in bent.resized((height, width)):
            flowing += np.float32(share) * stream.window(corner, pitch, (height, width), grid / np.float32(CELL))
    stream_cos, stream_sin, glow = cv2.split(flowing)
    cos, sin, empty = seen.cos, seen.sin, 1 - seen.fine
    empty = empty * empty * empty
    pull = np.float32(math.sqrt(stream.pull)) * (np.float32(0.05) + np.float32(0.95) * empty)
    length = cv2.magnitude(cos, sin)
    sure = length / (length + pull)
    cos, sin = cos + pull * stream_cos, sin + pull * stream_sin
    inverse = 1 / (cv2.magnitude(cos, sin) + np.float32(1e-6))
    glow = glow * empty * np.clip(np.float32(1.4) - np.float32(1.6) * sure, 0, 1)
    maps = cv2.merge((cos * inverse, sin * inverse, glow, seen.fine))
    across, down = 1 / scale[0], 1 / scale[1]
    matrix = np.array(
        [[across, 0, (origin[0] / 4 + 0.5) * across - 0.5], [0, down, (origin[1] / 4 + 0.5) * down - 0.5]], np.float64
    )
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    cells = cv2.warpAffine(maps, matrix, shape[::-1], flags=how, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cells, np.float32)


def put_levels(cells: Floats, out: NDArray[np.uint8]) -> None:
    """Write what ``steered`` returned into the last four channels of a canvas, shape (rows, columns, 40)."""
    levels = (np.float32(127) * cells + np.float32(128.5)).astype(np.uint8)
    out.view(np.uint32)[..., CELL_BYTES // 4] = levels.view(np.uint32)[..., 0]


_MOST = 0.6
"""Share of a frame from which on all of it is looked up pixel by pixel: to cut it cell by cell as well costs more."""


def _quarter(pixels: slice) -> slice:
    """Return the cells of pixels that are whole ones."""
    return slice(pixels.start // 4, pixels.stop // 4)


def _half(pixels: slice) -> slice:
    return slice(pixels.start // 2, pixels.stop // 2)


class SteeredCutter:
    """Cuts the steered canvas that lies under a packed frame of ``rows`` x ``columns`` cells."""

    def __init__(self, steering: Steering, rows: int, columns: int) -> None:
        self._rows, self._columns = rows, columns
        self._bank = bank(steering.brush).cells
        self._brush, self._lookup = steering.brush, Lookup(TILE, cells=True)
        self._levels, self._directions = len(steering.brush.scales), steering.brush.directions
        # One row and column more than the frame has: its cells need not begin where the canvas's do.
        self._cells = np.empty((rows + 1, columns + 1, CELL_BYTES), np.uint8)
        self._planes = np.empty((2, 4 * (rows + 1), columns + 1), np.uint32)  # four pixels each
        self._hues = np.empty((2 * (rows + 1), columns + 1), np.uint16)

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
        size = 4 * self._rows, 4 * self._columns
        parts = bent.parts(size, _MOST) if bent else []
        if not parts or any(columns != slice(0, size[1]) for _, columns in parts):
            self._cut_level(cells, offset, out)
        put_levels(cells, out)
        if bent:
            for strip in bent.strips(parts, size, offset, self._lookup):
                part = _quarter(strip.rows), _quarter(strip.columns)
                self._lay(strip, cells[part], out[part])

    def planes(
        self, cells: Floats, offset: tuple[int, int], bent: CanvasMap | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
        """Return the strokes below a frame as planes; arguments as of ``cut``.

        Returns:
            Value and relief, shape (4 * rows, 4 * columns), and hue, (2 * rows, 2 * columns), uint8 around 128; views
            that the next call writes to.
        """
        size = 4 * self._rows, 4 * self._columns
        parts = bent.parts(size, _MOST) if bent else []
        if not parts or any(columns != slice(0, size[1]) for _, columns in parts):
            self._take(cells, offset)
            self._spread()
        x, y = offset[0] % 4, offset[1] % 4
        value, relief = self._planes.view(np.uint8)[:, y:, x:][:, : size[0], : size[1]]
        hue = self._hues.view(np.uint8)[y // 2 :, x // 2 :][: size[0] // 2, : size[1] // 2]
        if bent:
            for strip in bent.strips(parts, size, offset, self._lookup):
                found = self._looked_up(strip, cells[_quarter(strip.rows), _quarter(strip.columns)])
                value[strip.rows, strip.columns], relief[strip.rows, strip.columns] = found[:2]
                hue[_half(strip.rows), _half(strip.columns)] = found[2]
        return value, relief, hue

    def _cut_level(self, cells: Floats, offset: tuple[int, int], out: NDArray[np.uint8]) -> None:
        """Write strokes as they lie on a canvas that is not deformed."""
        self._take(cells, offset)
        x, y = offset[0] % 4, offset[1] % 4
        if x == y == 0:
            out[..., :CELL_BYTES] = self._cells[:-1, :-1]
        else:
            self._spread()
            self._shift(x, y, out)

    def _take(self, cells: Floats, offset: tuple[int, int]) -> None:
        """Fill ``_cells`` with those of the canvas that lie below the frame's."""
        tile = np.pad(self._tiles(cells), ((0, 1), (0, 1)), mode="edge") * (SIDE * SIDE)
        across = (offset[0] % TILE // 4 + np.arange(self._columns + 1)) % SIDE
        down = (offset[1] % TILE // 4 + np.arange(self._rows + 1)) % SIDE
        np.take(self._bank, tile + down[:, None] * SIDE + across, axis=0, out=self._cells, mode="clip")

    def _spread(self) -> None:
        """Lay ``_cells`` out as planes."""
        words = self._cells.view(np.uint32)
        for first, plane in zip((0, 4), self._planes, strict=True):
            for row in range(4):
                plane[row::4] = words[..., first + row]
        self._hues[0::2], self._hues[1::2] = (self._cells.view(np.uint16)[..., 16 + row] for row in (0, 1))

    def _shift(self, x: int, y: int, out: NDArray[np.uint8]) -> None:
        """Write the canvas's planes as the frame's cells, which begin (x, y) pixels to the right and below."""
        fours, twos = out.view(np.uint32), out.view(np.uint16)
        for first, bytes_of in zip((0, 4), self._planes.view(np.uint8), strict=True):
            pixels = bytes_of[y:, x:]
            for row in range(4):
                fours[..., first + row] = pixels[row::4][: self._rows, : 4 * self._columns].view(np.uint32)
        hues = self._hues.view(np.uint8)[y // 2 :, x // 2 :]
        for row in range(2):
            twos[..., 16 + row] = hues[row::2][: self._rows, : 2 * self._columns].view(np.uint16)

    def _lay(self, strip: Strip, cells: Floats, out: NDArray[np.uint8]) -> None:
        """Write strokes where the canvas is deformed."""
        value, relief, hue = self._looked_up(strip, cells)
        fours, twos = out.view(np.uint32), out.view(np.uint16)
        for row in range(4):
            fours[..., row] = value[row::4].view(np.uint32)
            fours[..., 4 + row] = relief[row::4].view(np.uint32)
        for row in range(2):
            twos[..., 16 + row] = hue[row::2].view(np.uint16)

    def _looked_up(self, strip: Strip, cells: Floats) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
        """Return value, relief and hue where the canvas is deformed, each pixel looked up in the tile of its cell."""
        tiles = atlas(self._brush)
        strokes, hues = [], []
        for number, (at, middles) in enumerate(zip(strip.layers, strip.cells, strict=True)):
            turned = cv2.phase(np.ascontiguousarray(middles[..., 2]), np.ascontiguousarray(middles[..., 3]))
            chosen = self._tiles(cells, np.asarray(turned, np.float32))
            # From a pixel's place in the tile to that in the atlas, one for all pixels of a cell.
            periods = np.floor(middles[..., :2] * np.float32(1 / TILE)) * np.float32(TILE)
            there = cv2.subtract(np.take(tiles.corners, chosen, axis=0), periods)
            wide = self._lookup.buffer(2 + number, at.shape[:2])
            cv2.resize(there, at.shape[1::-1], dst=wide, interpolation=cv2.INTER_NEAREST)
            cv2.add(wide, at, dst=wide)
            strokes.append(sampled(tiles.strokes, wide, cv2.INTER_NEAREST))
            half = cv2.resize(wide, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_NEAREST)
            hues.append(sampled(tiles.hues, half, cv2.INTER_NEAREST))
        pairs = [each.view(np.uint8).reshape(*each.shape, 2) for each in strokes]
        value, relief = cv2.split(blended(pairs, strip.fade))
        return np.asarray(value, np.uint8), np.asarray(relief, np.uint8), blended(hues, strip.fade)

    def _tiles(self, cells: Floats, turned: Floats | None = None) -> NDArray[np.intp]:
        """Return the number of the tile under each cell: the nearest direction, the nearest brush.

        Args:
            turned: By what angle the canvas is turned below each cell, in radians, shape (rows, columns).
        """
        cos, sin, _, fine = cv2.split(cells)
        turns = cv2.phase(cos, sin)  # of twice the angle: 0 to 2 pi is half a turn of the stroke
        if turned is not None:
            turns = cv2.scaleAdd(turned, 2, turns)
        count = np.float32(self._directions)
        direction = np.rint(turns * np.float32(self._directions / (2 * math.pi)))
        direction -= count * np.floor(direction * (1 / count))
        level = np.floor(np.clip(fine * np.float32(self._levels), 0, self._levels - 1))
        return np.asarray(level * count + direction, np.intp)

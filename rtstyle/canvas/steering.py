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
from rtstyle.canvas.map import CanvasMap, sampled
from rtstyle.canvas.strokes import Brush, check_numbers

CHANNELS = 40
"""Channels of a cell of the steered canvas: 4x4 pixels of value in row order, 4x4 of relief, 2x2 hues, cosine and sine
of twice the direction, glow and fineness; uint8 around 128 (the last two from 128 on)."""

CELL_BYTES = 36
"""Of which strokes: value, relief and hue."""

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
    length = np.sqrt(cos * cos + sin * sin)  # the last bit of cv2.magnitude depends on where an array lies
    sure = length / (length + pull)
    cos, sin = cos + pull * stream_cos, sin + pull * stream_sin
    inverse = 1 / (np.sqrt(cos * cos + sin * sin) + np.float32(1e-6))
    glow = glow * empty * np.clip(np.float32(1.4) - np.float32(1.6) * sure, 0, 1)
    maps = np.asarray(cv2.merge((cos * inverse, sin * inverse, glow, seen.fine)), np.float32)
    return at_cells(maps, shape, origin, scale)


def at_cells(
    maps: Floats, shape: tuple[int, int], origin: tuple[float, float], scale: tuple[float, float] = (2.0, 2.0)
) -> Floats:
    """Look what was measured up at the cells of a packed frame; arguments as of ``steered``."""
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

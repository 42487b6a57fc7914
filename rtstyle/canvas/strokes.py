"""Stroke tiles: a bank of brush strokes, painted once for every direction and brush size.

A convolutional network cannot turn isotropic noise into directed strokes: it learns their mean, a mottle. So the
strokes are painted here, and only chosen, colored and weighted by the network. All tiles of a bank hold the same
strokes, turned about their own centers and scaled, in the same painting order: neighboring directions and sizes are
nearly the same image, so the choice may change from cell to cell, and from frame to frame, without a jump.

Idea: Litwinowicz 1997, "Processing Images and Video for an Impressionist Effect" (short strokes along the smoothed
normals of the gradient); smaller brushes where there is detail: Hertzmann 1998, "Painterly Rendering with Curved
Brush Strokes of Multiple Sizes".
"""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from hashlib import blake2b
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle.canvas.arrays import Floats
from rtstyle.cores import cores
from rtstyle.files import cache_root, write_whole

log = logging.getLogger("rtstyle")

TILE = 512
"""Width and height of a tile, in pixels; tiles are periodic."""


@dataclass(frozen=True, kw_only=True)
class Brush:
    """The numbers that a bank is painted from. The same numbers give the same bytes on every machine."""

    length: float = 24.0
    """Mean length of a stroke of the coarse brush, in pixels."""
    width: float = 5.0
    """Its width, in pixels."""
    cover: float = 2.0
    """How often strokes cover the tile, on average."""
    spread: float = 0.35
    """Standard deviation of the logarithm of the length."""
    jitter: float = 0.10
    """Standard deviation of the angle, in radians."""
    bend: float = 0.004
    """Standard deviation of the curvature, in 1/pixels."""
    bristles: float = 0.55
    """Depth of the grooves along a stroke, as a share of its relief."""
    crisp: float = 0.0
    """By how much more of their finest detail coarse strokes have than soft ones: an unsharp mask of 1 pixel."""
    crisp_fine: float = 0.0
    """The same of the finest brush, but on skin: faces are painted with soft strokes. Brushes between have shares of
    both."""
    band: float = 48.0
    """Size, in pixels, of the areas within which strokes have similar hues."""
    scales: tuple[float, ...] = (1.0, 0.66, 0.44)
    """Brush sizes, relative to the coarse brush, from coarse to fine."""
    directions: int = 24
    """Directions over half a turn."""
    seed: int = 4

    def __post_init__(self) -> None:
        within = {
            "length": (2, 256),
            "width": (1, 64),
            "cover": (0.2, 6),
            "spread": (0, 1),
            "jitter": (0, 2),
            "bend": (0, 0.05),
            "bristles": (0, 2),
            "crisp": (0, 6),
            "crisp_fine": (0, 6),
            "band": (1, 512),
            "directions": (2, 48),
            "seed": (0, 1 << 31),
        }
        check_numbers(self, within)
        if not 1 <= len(self.scales) <= 4 or not all(0.2 <= scale <= 1 for scale in self.scales):
            raise ValueError(f"scales are one to four numbers from 0.2 to 1, not {self.scales}")

    @property
    def sees_skin(self) -> bool:
        """Whether skin has tiles of its own: the finest brush once more, soft."""
        return self.crisp_fine > 0

    @property
    def levels(self) -> int:
        """Brushes that tiles are painted with: the scales, and that for skin."""
        return len(self.scales) + self.sees_skin


def check_numbers(settings: object, within: Mapping[str, tuple[float, float]]) -> None:
    """Raise ValueError where a number of ``settings`` is not within its least and largest value."""
    for name, (least, most) in within.items():
        value = getattr(settings, name)
        if not isinstance(value, int | float) or not least <= value <= most:
            raise ValueError(f"{name} must be within {least:g} and {most:g}, not {value!r:.40}")


@dataclass(frozen=True, eq=False)
class Bank:
    """The tiles of a brush; read-only, uint8, 128 is the mean of each.

    Tiles lie on sheets, ``BESIDE`` next to each other, directions of one brush after the other. Each ends with the
    first ``EDGE`` columns and rows of its next period, so that what lies between pixels can be interpolated.
    """

    brush: Brush
    value: NDArray[np.uint8]
    """Values of strokes."""
    relief: NDArray[np.uint8]
    """Relief of their paint."""
    hue: NDArray[np.uint8]
    """Hues, one for two by two pixels."""

    @classmethod
    def of(cls, brush: Brush, memory: NDArray[np.uint8]) -> Bank:
        """Make a bank of ``bank_bytes`` bytes, its sheets one after the other."""
        shape, half = _sheet_shapes(brush)
        value, relief = memory[: 2 * math.prod(shape)].reshape(2, *shape)
        return cls(brush, value, relief, memory[2 * math.prod(shape) :].reshape(half))

    def tile(self, level: int, direction: int) -> tuple[NDArray[np.uint8], ...]:
        """Return value, relief and hue of a tile, (512, 512) twice and (256, 256)."""
        row, column = divmod(level * self.brush.directions + direction, BESIDE)
        planes = []
        for sheet, side, pitch in ((self.value, TILE, PITCH), (self.relief, TILE, PITCH), (self.hue, HALF, PITCH // 2)):
            planes.append(sheet[row * pitch :, column * pitch :][:side, :side])
        return tuple(planes)


BESIDE, EDGE = 3, 2

PITCH, HALF = TILE + EDGE, TILE // 2
"""Distance of two tiles on a sheet, and width and height of a tile's hues, in pixels."""


def _sheet_shapes(brush: Brush) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return rows and columns of the sheets of value and relief, and of that of hues."""
    rows = -(-brush.levels * brush.directions // BESIDE)
    return (rows * PITCH, BESIDE * PITCH), (rows * PITCH // 2, BESIDE * PITCH // 2)


def bank_bytes(brush: Brush) -> int:
    """Return how much memory the tiles of a brush take."""
    whole, half = map(math.prod, _sheet_shapes(brush))
    return 2 * whole + half


@dataclass(frozen=True)
class _Strokes:
    """Strokes of one layer; shapes (count,), in painting order."""

    x: Floats
    y: Floats
    length: Floats
    width: Floats
    angle: Floats
    bend: Floats
    value: Floats
    hue: Floats
    phase: Floats

    def scaled(self, scale: float) -> _Strokes:
        """Return the same strokes, shorter and narrower about their centers."""
        size = np.float32(scale)
        return replace(self, length=self.length * size, width=self.width * size, bend=self.bend / size)


def _joined(first: _Strokes, second: _Strokes) -> _Strokes:
    names = [each.name for each in fields(_Strokes)]
    return _Strokes(**{name: np.concatenate((getattr(first, name), getattr(second, name))) for name in names})


def _kept_at(brush: Brush) -> Path:
    key = blake2b(f"{VERSION} {asdict(brush)}".encode(), digest_size=12).hexdigest()
    return cache_root() / "strokes" / f"{key}.npy"


def bank_from(words: str) -> None:
    """Put the tiles of a brush, as JSON, into the cache: what ``bank_beside`` runs."""
    entries = json.loads(words)
    bank(Brush(**entries | {"scales": tuple(entries["scales"])}))


def bank_beside(brush: Brush) -> Bank:
    """Return the tiles of a brush, painted by a process of its own where that is possible.

    It is for a thread beside one that imports libraries: an import holds Python's lock, and the thousands of short
    steps of painting would wait for it each time.
    """
    path = _kept_at(brush)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        if cores() > 1 and not path.exists() and os.access(path.parent, os.W_OK):
            code = f"from {__name__} import bank_from; bank_from({json.dumps(asdict(brush))!r})"
            places = os.pathsep.join(place for place in sys.path if place)
            env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": places}
            subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=False)
    return bank(brush)


@cache
def bank(brush: Brush) -> Bank:
    """Return the tiles of a brush. To paint them takes seconds, so they are kept in the user's cache folder."""
    path = _kept_at(brush)
    with suppress(OSError, ValueError):
        kept = np.load(path, mmap_mode="r", allow_pickle=False)
        if kept.shape == (bank_bytes(brush),) and kept.dtype == np.uint8:
            return Bank.of(brush, np.asarray(kept))  # without the overhead of its type
    log.info("painting the strokes of a style, once on this machine")
    memory = _paint(brush)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = BytesIO()
        np.save(file, memory, allow_pickle=False)
        write_whole(path, file.getbuffer())
    memory.setflags(write=False)
    return Bank.of(brush, memory)


VERSION = 4
"""Of how tiles are painted: raise it with every change that changes a byte."""


def _paint(brush: Brush) -> NDArray[np.uint8]:
    """Paint all tiles, as ``Bank`` holds them. Two threads would take longer: they wait for Python's lock."""
    main = _scatter(brush, 1.0, brush.seed)
    # Smaller strokes at the same centers leave gaps, which strokes of the finest brush fill.
    under = _scatter(brush, brush.scales[-1], brush.seed + 1000)
    above = [main.scaled(scale) for scale in brush.scales]
    memory = np.zeros(bank_bytes(brush), np.uint8)
    painted = Bank.of(brush, memory)

    below, *points = map(_points, (under, *above), (0, *(len(under.x) for _ in above)))
    for direction in range(brush.directions):
        angle = math.pi * direction / brush.directions
        ground = np.zeros(TILE * TILE, np.int32)
        _fill(ground, below, angle)
        for level, strokes in enumerate(above):
            owner = ground.copy()
            _fill(owner, points[level], angle)
            value, relief, hue = _shaded(owner, _joined(under, strokes), angle, brush.bristles)
            half = np.asarray(cv2.resize(hue, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)
            soft = [_softened(plane) for plane in (value, relief)]
            share = level / max(1, len(above) - 1)
            crisp = (1 - share) * brush.crisp + share * brush.crisp_fine
            _put_tile(painted, level, direction, (*(_sharpened(plane, crisp) for plane in soft), half))
        if brush.sees_skin:
            _put_tile(painted, len(above), direction, (*soft, half))
    _repeat_edges(painted)
    return memory


def _put_tile(painted: Bank, level: int, direction: int, planes: tuple[NDArray[np.uint8], ...]) -> None:
    for tile, plane in zip(painted.tile(level, direction), planes, strict=True):
        tile[:] = plane


def _repeat_edges(painted: Bank) -> None:
    """Write the first columns and rows of each tile behind its last ones."""
    for sheet, side, pitch in (
        (painted.value, TILE, PITCH),
        (painted.relief, TILE, PITCH),
        (painted.hue, HALF, PITCH // 2),
    ):
        tiles = sheet.reshape(len(sheet) // pitch, pitch, BESIDE, pitch)
        tiles[:, side:] = tiles[:, : pitch - side]
        tiles[..., side:] = tiles[..., : pitch - side]


def _as_bytes(values: Floats) -> NDArray[np.uint8]:
    """Round values in [-1, 1] to levels around 128."""
    return np.asarray(np.float32(127) * values + np.float32(128.5), np.uint8)


def _scatter(brush: Brush, scale: float, seed: int) -> _Strokes:
    """Choose where strokes lie and what each looks like; rounded, so that no last bit depends on the machine."""
    rng = np.random.default_rng(seed)
    length, width = brush.length * scale, brush.width * scale
    count = round(brush.cover * TILE * TILE / (length * width))

    def rounded(values: NDArray[np.float64]) -> Floats:
        return np.round(values * 4096).astype(np.float32) / np.float32(4096)

    x, y = rounded(rng.uniform(0, TILE, count)), rounded(rng.uniform(0, TILE, count))
    band = _band(brush.band, seed + 1)
    near = band[y.astype(np.intp) % TILE, x.astype(np.intp) % TILE]
    return _Strokes(
        x=x,
        y=y,
        length=rounded(length * np.clip(np.exp(brush.spread * rng.standard_normal(count)), 0.5, 2.2)),
        width=rounded(width * np.clip(np.exp(0.18 * rng.standard_normal(count)), 0.6, 1.6)),
        angle=rounded(brush.jitter * rng.standard_normal(count)),
        bend=rounded(brush.bend / scale * rng.standard_normal(count)),
        value=rounded(rng.uniform(-1, 1, count)),
        hue=np.clip(np.float32(0.45) * near + rounded(0.38 * rng.standard_normal(count)), -1, 1).astype(np.float32),
        phase=rounded(rng.uniform(0, 1, count)),
    )


def _band(size: float, seed: int) -> Floats:
    """Make smooth periodic noise of shape (512, 512), standard deviation 1: which strokes are of one hue."""
    noise = np.random.default_rng(seed).standard_normal((TILE, TILE))
    fy, fx = np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None, :]
    smooth = np.fft.irfft2(np.fft.rfft2(noise) * np.exp(-0.5 * (fx**2 + fy**2) * size**2), s=noise.shape)
    return np.asarray(np.round(1024 * (smooth - smooth.mean()) / smooth.std()) / 1024, np.float32)


_BLOCK = 1 << 15
"""Points or pixels that are computed at once: what lies between two steps stays in the cache of a core."""

_STEP = 0.7
"""Distance of the points that a stroke is filled with, in pixels: no pixel between them is missed."""


@dataclass(frozen=True)
class _Points:
    """Points that lie closely enough to fill strokes; shapes (count,), in painting order."""

    which: NDArray[np.int32]
    """The stroke of each."""
    x: Floats
    """Its center; a period further, so that no place is negative."""
    y: Floats
    dx: Floats
    """From there to the point, for strokes of direction 0."""
    dy: Floats


def _points(strokes: _Strokes, first: int) -> _Points:
    """Return the points of all strokes, which are turned with the direction; the first stroke is ``first``."""
    length, width = (np.float32(0.5) * each for each in (strokes.length, strokes.width))
    rows, along = _grid(length, _largest(length))
    over = np.maximum(np.abs(along) - (length - width)[rows], 0)
    reach = np.sqrt(np.maximum(width[rows] ** 2 - over * over, 0))
    points, across = _grid(reach, _largest(width)[rows])
    offset = strokes.bend[rows] * along * along
    cos, sin = (each[rows] for each in _turns(strokes, 0))
    dx = np.take(cos * along - sin * offset, points) - np.take(sin, points) * across
    dy = np.take(sin * along + cos * offset, points) + np.take(cos, points) * across
    which = rows[points]
    x, y = (np.take(center, which) + np.float32(TILE) for center in (strokes.x, strokes.y))
    return _Points((which + first).astype(np.int32), x, y, dx, dy)


def _largest(sizes: Floats) -> Floats:
    """Return the largest of each 512 strokes for each of them: there the grid of points begins."""
    return np.repeat(np.maximum.reduceat(sizes, np.arange(0, len(sizes), 512)), 512)[: len(sizes)]


def _grid(reach: Floats, begin: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Return the multiples of a step, from -``begin`` on, that are within ``reach`` of 0: whose each is, and where."""
    step = np.float32(_STEP)
    low, high = (np.floor((begin + side * reach) / step).astype(np.intp) for side in (np.float32(-1), np.float32(1)))
    counts = high - low
    whose = np.repeat(np.arange(len(counts)), counts)
    numbers = np.arange(1, len(whose) + 1) - np.repeat(np.cumsum(counts) - high, counts)
    return whose, step * numbers.astype(np.float32) - begin[whose]


def _fill(owner: NDArray[np.int32], points: _Points, angle: float) -> None:
    """Write the number of the topmost stroke into every pixel that one covers."""
    cos, sin = (np.float32(round(65536 * f(angle)) / 65536) for f in (math.cos, math.sin))
    for begin in range(0, len(points.which), _BLOCK):
        part = slice(begin, begin + _BLOCK)
        dx, dy = points.dx[part], points.dy[part]
        column = (points.x[part] + (cos * dx - sin * dy)).astype(np.int32) & (TILE - 1)
        row = (points.y[part] + (sin * dx + cos * dy)).astype(np.int32) & (TILE - 1)
        # where one pixel stands several times, the last one stays
        owner[(row * TILE + column).astype(np.intp)] = points.which[part]


def _turns(strokes: _Strokes, angle: float) -> tuple[Floats, Floats]:
    """Return cosine and sine of each stroke's own angle, rounded like everything that decides on pixels."""
    turned = strokes.angle.astype(np.float64) + angle
    cos, sin = (np.round(f(turned) * 65536).astype(np.float32) / np.float32(65536) for f in (np.cos, np.sin))
    return cos, sin


def _shaded(
    owner: NDArray[np.int32], strokes: _Strokes, angle: float, bristles: float
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Return value, relief and hue of every pixel, shape (512, 512), by the stroke that owns it."""
    where = strokes.x, strokes.y, *_turns(strokes, angle), strokes.bend
    table = np.stack((*where, 2 / strokes.width, strokes.phase))
    relief = np.empty(TILE * TILE, np.uint8)
    side = np.arange(TILE, dtype=np.float32) + np.float32(0.5)
    across = np.tile(side, _BLOCK // TILE)
    for begin in range(0, TILE * TILE, _BLOCK):
        part = slice(begin, begin + _BLOCK)
        x, y, cos, sin, bend, narrow, phase = np.take(table, owner[part], axis=1, mode="clip")
        np.subtract(across, x, out=x)
        lines = y.reshape(-1, TILE)
        np.subtract(side[begin // TILE :][: len(lines), None], lines, out=lines)
        for distance in (x, y):
            distance -= TILE * np.rint(distance * np.float32(1 / TILE))
        a, b = cos * x + sin * y, cos * y - sin * x
        b -= bend * a * a
        t = np.clip(b * narrow, -1, 1)
        fade = np.float32(0.6) + np.float32(0.4) * _wave(a * np.float32(0.02) + 2 * phase)
        rim = np.clip(np.abs(t) - np.float32(0.55), 0, 1)
        grooves = np.float32(bristles) * _wave(np.float32(1.3) * t + phase) * fade
        relief[part] = _as_bytes(np.clip(grooves - np.float32(1.5) * rim + np.float32(0.25) * t, -1, 1))
    planes = (np.take(_as_bytes(each), owner, mode="clip") for each in (strokes.value, strokes.hue))
    value, hue = (plane.reshape(TILE, TILE) for plane in planes)
    return value, relief.reshape(TILE, TILE), hue


def _wave(turns: Floats) -> Floats:
    """A cosine of period 1 in the shape of parabolas that meet with equal slopes: the same bits on every machine."""
    size = 4 * np.abs(turns - np.floor(turns) - np.float32(0.5)) - np.float32(1)
    return np.asarray(size * (np.float32(2) - np.abs(size)), np.float32)


def _softened(flat: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Smooth the jagged edges of strokes: the mean of each 3x3 pixels, weighted 1 2 1."""
    wide = cv2.copyMakeBorder(flat, 1, 1, 1, 1, cv2.BORDER_WRAP)
    return np.asarray(cv2.GaussianBlur(wide, (3, 3), 0)[1:-1, 1:-1], np.uint8)


def _sharpened(soft: NDArray[np.uint8], amount: float) -> NDArray[np.uint8]:
    """Return a tile with more of its finest detail: what a binomial of variance 1 takes away from it, so many times."""
    if not amount:
        return soft
    wide = cv2.copyMakeBorder(soft, 2, 2, 2, 2, cv2.BORDER_WRAP)
    detail = soft.astype(np.float32) - cv2.GaussianBlur(wide, (5, 5), 0)[2:-2, 2:-2]
    return np.asarray(np.clip(np.rint(soft + np.float32(amount) * detail), 0, 255), np.uint8)

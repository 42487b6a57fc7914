"""The accuracy check: an engine of lower precision is used only where its images are those of float32."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np

from rtstyle.backends.engine import Controls, Engine
from rtstyle.errors import BackendUnavailableError
from rtstyle.frame import Color, Frame, Plane, Planes, Size, resized_planes

log = logging.getLogger("rtstyle")

Made = TypeVar("Made")


@dataclass(frozen=True)
class Bound:
    """How far an engine may be from float32, in levels of 8 bits."""

    largest: int
    mean: float
    psnr_db: float = 0
    """At least, over all samples; and over those of luma where luma is looked at alone."""

    def __str__(self) -> str:
        least = f", and at least {self.psnr_db:g} dB" if self.psnr_db else ""
        return f"{self.largest} levels and {self.mean:g} on average{least}"

    def holds(self, found: Difference) -> bool:
        """Return whether a difference is within it."""
        psnr = np.inf if found.psnr_db is None else found.psnr_db
        return found.largest <= self.largest and found.mean <= self.mean and psnr >= self.psnr_db


BOUNDS = {
    # The same products are added up in another order: a value next to a half is rounded the other way.
    "f32": Bound(1, 0.001),
    # 10 bits of mantissa, and a sum that is rounded to an eighth of a level before it is rounded to a whole one.
    "f16": Bound(2, 0.15),
    # 7 bits: a residual of 100 levels is known to 0.4 levels when it leaves the network.
    "bf16": Bound(4, 0.3),
    # 8 bits, and what goes farther than most images is clipped: seldom, and at edges.
    "int8": Bound(48, 1.5, 38),
}
"""The bound of each precision. Stated here and nowhere else."""


@dataclass(frozen=True)
class Difference:
    """How two sets of images differ, over all planes."""

    largest: int
    """Levels, 0..255."""
    mean: float
    """Mean absolute difference in levels."""
    psnr_db: float | None
    """Peak signal to noise ratio, 255 levels to the root mean square difference; None: they are equal."""

    def __str__(self) -> str:
        psnr = "equal" if self.psnr_db is None else f"PSNR {self.psnr_db:.1f} dB"
        return f"at most {self.largest} levels, {self.mean:.3f} on average, {psnr}"


def difference(ours: Sequence[Sequence[Plane]], theirs: Sequence[Sequence[Plane]]) -> Difference:
    """Compare images (their planes, or some of them) of one size, pair by pair."""
    largest, total, squares, count = 0, 0, 0, 0
    for one, other in zip(ours, theirs, strict=True):
        for a, b in zip(one, other, strict=True):
            levels = np.abs(a.astype(np.int32) - b)
            largest = max(largest, int(levels.max()))
            total += int(levels.sum())
            squares += int((levels * levels).sum(dtype=np.int64))
            count += levels.size
    psnr = 10 * np.log10(255**2 * count / squares) if squares else None
    return Difference(largest, total / count, None if psnr is None else round(float(psnr), 2))


def fixed_frames(size: Size, color: Color) -> list[Frame]:
    """Return five made images: soft areas in three lights, stripes and edges with noise, and flat black and white.

    The same on every machine; no sample is 0, see ``judge``.
    """
    rng = np.random.default_rng(20261122)
    scenes = [_areas(size, rng, low, high) for low, high in ((1, 60), (60, 190), (180, 255))]
    scenes.append(Planes(*(_stripes(plane, rng) for plane in scenes[1])))
    scenes.append(Planes(*(_bars(plane) for plane in scenes[1])))
    return [Frame(planes, i, Fraction(1, 25), color, (37 * i, 11 * i)) for i, planes in enumerate(scenes)]


def _areas(size: Size, rng: np.random.Generator, low: int, high: int) -> Planes:
    sides = (size, size.chroma, size.chroma)
    shapes = [(side.height // 24 + 2, side.width // 24 + 2) for side in sides]
    return resized_planes(Planes(*(rng.integers(low, high + 1, shape, np.uint8) for shape in shapes)), size)


def _stripes(plane: Plane, rng: np.random.Generator) -> Plane:
    rows, columns = np.indices(plane.shape)
    waves = 60 * np.sign(np.sin(columns / 5 + rows / 9)) + rng.normal(0, 6, plane.shape)
    return np.asarray(np.clip(plane + waves, 1, 255), np.uint8)


def _bars(plane: Plane) -> Plane:
    return np.where(np.indices(plane.shape)[0] % 64 < 32, 1, 255).astype(np.uint8)


@dataclass(frozen=True)
class Judgement:
    """What the check found."""

    passed: bool
    reason: str
    """Text: the difference and the bound."""
    accuracy: dict[str, Any]
    """The figures, as JSON values."""


def judge(engine: Engine, reference: Engine) -> Judgement:
    """Compare an engine to the float32 reference on fixed frames.

    A NaN or infinity cannot be seen in 8-bit samples, but anything times 0 that is not 0 is one: at
    strength 0 every finite residual leaves the samples as they are, and the others turn them into 0,
    which no sample of the fixed frames is, or into something else.
    """
    frames = fixed_frames(engine.size, engine.color)
    bound = BOUNDS[engine.precision]
    untouched = [frame.planes for frame in engine.stylize(frames, Controls(0, 0))]
    sources = [frame.planes for frame in frames]
    if difference(untouched, sources).largest:
        reason = "strength 0 does not return the source: NaN or infinity in the network"
        return Judgement(False, reason, {"finite": False})
    ours = [frame.planes for frame in engine.stylize(frames)]
    theirs = [frame.planes for frame in reference.stylize(frames)]
    found = difference(ours, theirs)
    reason = f"{found} from float32; allowed are {bound}"
    accuracy = {"finite": True, **asdict(found), "reference": f"{reference.backend} {reference.precision}"}
    return Judgement(bound.holds(found), reason, accuracy)


class AccuracyError(BackendUnavailableError):
    """An engine of this precision does not give the image of float32."""


def check(engine: Engine, reference: Engine) -> dict[str, Any]:
    """Judge an engine and return the figures.

    Raises:
        AccuracyError: It is beyond its bound.
    """
    verdict = judge(engine, reference)
    if not verdict.passed:
        raise AccuracyError(f"{engine.backend} {engine.precision} is not accurate enough: {verdict.reason}")
    return verdict.accuracy


def first_accurate(precisions: Sequence[str], make: Callable[[str], Made]) -> Made:
    """Make something in the first precision that is accurate enough; each that is not is logged in one line.

    Raises:
        AccuracyError: None is; the last one's.
    """
    for number, precision in enumerate(precisions, 1):
        try:
            return make(precision)
        except AccuracyError as error:
            if number == len(precisions):
                raise
            log.info("%s; taking %s", error, precisions[number])
    raise ValueError("no precision was given")

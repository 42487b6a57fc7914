"""Carries the canvas along with what moves: optical flow, and what of it is believed.

Flow is found between small frames (Kroeger, Timofte, Dai and Van Gool 2016, "Fast Optical Flow using Dense Inverse
Search"). It is always a little wrong, and strokes that move by a little wrong flow boil. So a part of the scene moves
only where moving explains what changed in it: by the offset of the tracker where that does, else by one similarity
for the whole frame (a camera that zooms, rolls or pans by fractions of a pixel), else by its own flow. Everything
else stays exactly where it is, and what is flat follows its surroundings.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import local

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle.canvas.arrays import Bytes, Floats, Mask
from rtstyle.canvas.carry import BLOCK, Found, MapCarrier, Motion, Similarity, Step, reduction
from rtstyle.canvas.map import CanvasMap

SMALLEST = 96
"""Width and height, in pixels, from which on a frame is followed."""

_FEW = 8
"""Blocks that are too few to agree on a motion."""


_LOST = 0.01
"""What sampling changes in a block that moves, as a share of its squared slopes: about a tenth of a pixel of motion."""

_STIFF = np.float32(0.3)
"""Squared slopes, in levels squared per pixel squared, below which a block's flow is left as it was found."""

_OWN = 0.3
"""What a flow of its own explains of a block by noise alone."""

_LOOSE = 0.85
"""Factor of what a flow of its own explains: a motion that many blocks share is believed sooner."""

_NEW, _KEPT = 0.5, 0.15
"""By how much more than noise a motion must explain before it is believed, and where something moved just before."""

_REACH = 2.5
"""Standard deviation of the surroundings that decide, in blocks."""


_QUIET = 0.02
"""Least variance of what a camera's noise changes in the small frame, in levels squared."""

_CUT = 24.0
"""Mean difference of two small frames, in levels after their means are removed, that marks a scene cut."""

_SMOOTH = 1.8
"""Standard deviation, in blocks, over which the flow of what moves is smoothed."""


class _Pair:
    """Two consecutive small frames, and what is known of the motion between them, block by block."""

    def __init__(self, before: Bytes, now: Bytes) -> None:
        self.old, self.new = (cv2.GaussianBlur(each, (3, 3), 0).astype(np.float32) for each in (before, now))
        self._gx, self._gy = (
            np.asarray(cv2.Sobel(self.new, cv2.CV_32F, dx, 1 - dx, scale=1 / 8), np.float32) for dx in (1, 0)
        )
        pairs = ((self._gx, self._gx), (self._gy, self._gy), (self._gx, self._gy))
        self.xx, self.yy, self.xy = (_means(a * b) for a, b in pairs)
        """Mean structure tensor, in levels squared per pixel squared; shape (rows, columns), as all here."""
        self.corner = (self.xx + self.yy - np.sqrt((self.xx - self.yy) ** 2 + 4 * self.xy * self.xy)) / 2
        """Its smaller eigenvalue."""
        y, x = ((np.arange(n, dtype=np.float32) + 0.5) * BLOCK - 0.5 for n in self.corner.shape)
        self.x, self.y = np.broadcast_to(x[None], self.corner.shape), np.broadcast_to(y[:, None], self.corner.shape)

    def tone(self) -> Floats:
        """Return the shares of each block in ranges of luma, shape (rows, columns, 8): those of a tent around each."""
        level = _means(self.new)[..., None] * np.float32(7 / 255) - np.arange(8, dtype=np.float32)
        return np.asarray(np.maximum(1 - np.abs(level), 0), np.float32)

    def error(self, warped: Floats) -> Floats:
        """Return the mean squared difference of each block to the frame before, warped by a motion."""
        change = self.new - warped
        return _means(change * change)

    def change(self, motion: Floats) -> Floats:
        """Return the mean squared difference that a motion, shape (rows, columns, 2), makes in each block."""
        x, y = motion[..., 0], motion[..., 1]
        return np.asarray(self.xx * x * x + self.yy * y * y + 2 * self.xy * x * y, np.float32)

    def at(self, motion: Similarity) -> Floats:
        """Return a motion at each block."""
        return motion.at(self.x[0], self.y[:, 0])

    def entered(self, motion: Floats) -> Mask:
        """Return which blocks lay, wholly or in part, outside of the frame before."""
        x, y = self.x + motion[..., 0], self.y + motion[..., 1]
        height, width = self.new.shape
        rim = np.float32(BLOCK / 2)
        return np.asarray((x < rim) | (y < rim) | (x > width - 1 - rim) | (y > height - 1 - rim))

    def improved(self, flow: Floats) -> tuple[Floats, Floats]:
        """Return the mean flow of each block, fitted to the frames, and the mean squared difference that it leaves.

        One step of Lucas and Kanade 1981 from a flow of each pixel, shape (height, width, 2).
        """
        change = self.new - _warped(self.old, flow)
        error, gx, gy = (_means(change * each) for each in (change, self._gx, self._gy))
        near = [
            cv2.GaussianBlur(each, (0, 0), 0.8, borderType=cv2.BORDER_REPLICATE)
            for each in (self.xx + _STIFF, self.yy + _STIFF, self.xy, gx, gy)
        ]
        xx, yy, xy, bx, by = near
        inverse = 1 / (xx * yy - xy * xy)
        across, down = (np.clip(each * inverse, -1, 1) for each in (yy * bx - xy * by, xx * by - xy * bx))
        left = error - 2 * (across * gx + down * gy)
        left += self.xx * across * across + self.yy * down * down + 2 * self.xy * across * down
        return _means(flow) + cv2.merge((across, down)), np.maximum(left, 0)


class Comparison:
    """What two consecutive small frames show, whatever was before them: it can be made in any order and thread.

    Args:
        before: What ``reduced`` made of the frame before; None: there is none.
        now: The same of this one.
        offset: Where the tracker says that the scene was, x + iy, in pixels of the small frame relative to where it is.
    """

    def __init__(self, before: Bytes | None, now: Bytes, offset: complex) -> None:
        self.now = now
        self.motion: _MotionSeen | None = None
        if before is None:
            self.found = Found.NOTHING
        elif before.shape != now.shape or _cut(before, now):
            self.found = Found.CUT
        elif not offset and np.array_equal(before, now):
            self.found = Found.NOTHING
        else:
            self.found, self.motion = Found.OFFSET, _MotionSeen(before, now, offset)


class _MotionSeen:
    """The flow between two small frames, and how well it explains them."""

    def __init__(self, before: Bytes, now: Bytes, offset: complex) -> None:
        start = np.full(now.shape, offset, np.complex64).view(np.float32).reshape(*now.shape, 2)
        flow = np.asarray(_dense_search().calc(now, before, start), np.float32)
        self.pair, self.rigid = _Pair(before, now), Similarity(shift=offset)
        self.still = self.pair.error(self.rigid.warped(self.pair.old))
        """What the tracker's offset leaves unexplained of each block."""
        self.means, self.own = self.pair.improved(flow)
        """Mean flow of each block, and what it leaves unexplained."""


class FlowFollower:
    """Carries a canvas map through consecutive frames of one size."""

    def __init__(self) -> None:
        self._carrier = MapCarrier()
        self._small: Bytes | None = None
        self._noise = 1.0
        """Variance of what nothing but noise changes in the smoothed small frame."""
        self._evidence: Floats | None = None
        """Evidence of each block that it moves by itself, 0 to 1."""
        self._turns = False
        """Whether the whole frame moves by a similarity."""
        self._moved: Mask | None = None
        """Blocks that moved by themselves in the last frame."""
        self.step = Step(Found.NOTHING)
        """What was found of the last frame."""

    @property
    def back(self) -> Floats | None:
        """Where each node's part of the scene was in the frame before, see ``MapCarrier``."""
        return self._carrier.back

    def follow(self, luma: Bytes, moved: tuple[float, float], comparison: Comparison | None = None) -> CanvasMap | None:
        """Return how the canvas is deformed below the next frame; None: not at all.

        Args:
            luma: Shape (height, width), uint8, the same size at every call.
            moved: By how many pixels (x, y) the tracker's offset moved the scene to the right and down.
            comparison: What ``compared`` returned of the frame before and this one, where it was called already.
        """
        shape = luma.shape[0], luma.shape[1]
        if min(shape) < SMALLEST:
            self.step = Step(Found.NOTHING)
        else:
            seen = comparison or compared(self._small, reduced(luma), moved, shape)
            self._small = seen.now
            self.step = self._decided(seen)
        return self._carrier.carry(shape, moved, self.step)

    def ease(self, moved: tuple[float, float]) -> CanvasMap | None:
        """Return how the canvas is deformed below the next frame, which is not looked at: ever less, then not at all.

        Args:
            moved: As in ``follow``.
        """
        self._small = self._evidence = self._moved = None
        self._turns = False
        return self._carrier.ease(moved)

    def replay(self, shape: tuple[int, int], moved: tuple[float, float], step: Step) -> CanvasMap | None:
        """Return what ``follow`` did where it was called, by what it found there; the frame is not looked at.

        Args:
            shape: Height and width of the frame.
            moved: As in ``follow``.
            step: What ``step`` was there.
        """
        return self._carrier.carry(shape, moved, step)

    def _decided(self, seen: Comparison) -> Step:
        """Decide what of the flow is believed."""
        if seen.found is Found.CUT:
            self._evidence, self._moved, self._turns = None, None, False
        if seen.motion is None:
            return Step(seen.found)
        motion = self._motion(seen.motion)
        return Step(Found.OFFSET if motion is None else Found.MOTION, motion)

    def _motion(self, seen: _MotionSeen) -> Motion | None:
        """Return what moved beyond the tracker's offset; None: nothing did."""
        pair, base, still, means = seen.pair, seen.rigid, seen.still, seen.means
        noise = self._renewed_noise(np.minimum(still, seen.own))
        tells = pair.corner > max(noise, 0.5)
        motion, agree = _common(pair, means, tells, noise)
        expected = np.float32(noise) + np.float32(_LOST) * (pair.xx + pair.yy)
        if motion and 2 * agree.sum() > tells.sum():
            turned = pair.error(motion.warped(pair.old))
            shown = pair.change(pair.at(motion) - pair.at(base))
            if self._decide_turning(tells, still, turned, np.minimum(shown, 400 * noise), expected):
                base, still = motion, turned
        else:
            self._turns = False
        slopes = np.clip((pair.xx + pair.yy) / np.float32(2 * noise) - np.float32(0.75), 0, 1)
        here = pair.at(base)
        slopes[pair.entered(here)] = 0
        gain = _gain(still, seen.own, pair.change(means - here), expected, slopes)
        moves = self._moving(np.float32(_LOOSE) * np.minimum(gain, 8) - np.float32(_OWN), pair.tone())
        bare = _uncovered(None if self._turns else self._moved, moves, still > 6 * expected)
        self._moved = moves
        if not moves.any():
            return Motion(base, moves, np.empty((0, 2), np.float32), bare) if self._turns else None
        sure = np.asarray(pair.corner / (pair.corner + np.float32(noise + 1)), np.float32)
        return Motion(base, moves, _spread(means - here, sure, moves)[moves] + here[moves], bare)

    def _moving(self, gain: Floats, tone: Floats) -> Mask:
        """Decide which blocks move by themselves.

        Args:
            gain: By how much better its own flow explains a block than the common motion, in units of noise.
            tone: Shares of each block in ranges of luma, shape (rows, columns, ranges): what is flat follows
                surroundings of its own luma.
        """
        before = np.zeros_like(gain) if self._evidence is None else self._evidence
        capped = np.maximum(gain, np.float32(-8))
        fine = cv2.GaussianBlur(capped, (3, 3), 0, borderType=cv2.BORDER_REPLICATE)
        count, total = _around(tone), _around(tone * capped[..., None])
        near = np.einsum("ijk,ijk->ij", tone, total / (count + np.float32(0.02)))
        least = np.where(before > 0.3, np.float32(_KEPT), np.float32(_NEW))
        moves: Mask = np.float32(0.3) * fine + near > least
        evidence = cv2.GaussianBlur(moves.astype(np.float32), (3, 3), 0)
        self._evidence = np.asarray(np.maximum(evidence, np.float32(0.8) * before), np.float32)
        return moves

    def _renewed_noise(self, error: Floats) -> float:
        """Take what changed in the quieter third of the frame, explained as well as possible, for noise."""
        some = error[error > _QUIET]  # less is a codec's that left the block out
        now = max(_QUIET, float(np.partition(some, len(some) * 3 // 10)[len(some) * 3 // 10])) if some.size else _QUIET
        self._noise += (0.5 if now < self._noise else 0.1) * (now - self._noise)
        return self._noise

    def _decide_turning(self, tells: Mask, still: Floats, turned: Floats, shown: Floats, expected: Floats) -> bool:
        """Decide whether a similarity explains the frame better than the tracker's offset.

        Args:
            tells: Blocks with enough texture.
            still, turned: Mean squared differences without and with it; sampling between pixels alone lowers the
                second.
            shown: What it should have changed.
            expected: What noise and sampling change.
        """
        gain = np.minimum(still - turned, 2 * shown) / (np.minimum(still, turned) + expected)
        least = 0.1 if self._turns else 0.2
        count = tells & (gain > least)
        against = (turned - still > least * (still + expected)) & (still < 4 * expected)  # it stays, and shows it
        # A person before a wall covers a part of its width; a moving camera moves things from left to right.
        wide = np.mean([part.any() for part in np.array_split(count.any(0), 8)]) > 0.7
        votes = int(count.sum())
        self._turns = bool(wide and votes > 3 * against.sum() and votes > 0.25 * tells.sum())
        return self._turns

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return all that further maps depend on."""
        if self._small is None:
            return {}
        arrays: dict[str, NDArray[np.generic]] = {"small": self._small, "noise": np.array(self._noise)}
        arrays["turns"] = np.array(float(self._turns))
        if self._evidence is not None:
            arrays["moves"] = self._evidence
        if self._moved is not None:
            arrays["moved"] = self._moved.view(np.uint8)
        return arrays | self._carrier.state()

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Continue as the follower did that gave ``state``."""
        if not state:
            return
        self._small = np.asarray(state["small"], np.uint8)
        self._noise, self._turns = float(state["noise"]), bool(state["turns"])
        self._evidence = np.asarray(state["moves"], np.float32) if "moves" in state else None
        self._moved = np.asarray(state["moved"], np.uint8) > 0 if "moved" in state else None
        self._carrier.restore(state)


def check_flow(state: Mapping[str, NDArray[np.generic]]) -> None:
    """Raise ValueError if arrays are not what ``FlowFollower.state`` returns."""
    if not state:
        return
    least, whole = (
        {"small", "noise", "turns"},
        {"small", "noise", "turns", "moves", "moved", "grid", "share", "pitch", "fresh"},
    )
    if not least <= set(state) <= whole or ("grid" in state) != ({"share", "pitch"} <= set(state)):
        raise ValueError(f"it holds of a flow {', '.join(state)}")
    for name, array in state.items():
        kind = {"small": np.uint8, "moved": np.uint8, "moves": np.float32, "grid": np.float32, "fresh": np.float32}.get(
            name, np.float64
        )
        shape = {"small": 2, "moves": 2, "moved": 2, "grid": 3, "fresh": 3}.get(name, 0)
        if array.dtype != kind or array.ndim != shape or not np.isfinite(array.astype(np.float64)).all():
            raise ValueError(f"{name} is no part of a flow")
    (height, width), pitch = state["small"].shape, float(state.get("pitch", np.array(4.0)))
    shapes = dict.fromkeys(("moves", "moved"), (height // BLOCK, width // BLOCK))
    if "grid" in state:
        shapes["fresh"] = state["grid"].shape
        if state["grid"].shape[2] != 2 or pitch not in range(4, 257, 4) or not 0 <= float(state["share"]) < 1:
            raise ValueError("the map is none")
    if any(name in state and state[name].shape != shape for name, shape in shapes.items()):
        raise ValueError("parts of a flow have different sizes")


def compared(before: Bytes | None, now: Bytes, moved: tuple[float, float], shape: tuple[int, int]) -> Comparison:
    """Compare two consecutive small frames.

    Args:
        before: None: there is none.
        moved: As in ``FlowFollower.follow``.
        shape: Height and width of the frames themselves.
    """
    return Comparison(before, now, complex(*moved) / -reduction(shape))


def reduced(luma: Bytes) -> Bytes:
    """Return the small frame: halved as long as it is large enough; what is left over at right and bottom is cut."""
    factor = reduction((luma.shape[0], luma.shape[1]))
    height, width = luma.shape[0] // factor, luma.shape[1] // factor
    small = luma[: height * factor, : width * factor]
    while factor > 1:  # by halves is twice as fast as all at once
        factor //= 2
        size = width * factor, height * factor
        small = np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_AREA), np.uint8)
    return small.copy() if small.base is not None else small


_of_thread = local()


def _dense_search() -> cv2.DISOpticalFlow:
    """Return this thread's search down to half of the small frame, without the smoothing that takes two thirds of the
    time."""
    found: cv2.DISOpticalFlow | None = getattr(_of_thread, "search", None)
    if found is None:
        found = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        found.setFinestScale(1)
        found.setGradientDescentIterations(6)
        found.setPatchStride(5)
        found.setVariationalRefinementIterations(0)
        _of_thread.search = found
    return found


def _cut(before: Bytes, now: Bytes) -> bool:
    change = now.astype(np.float32) - before
    return bool(np.abs(change - change.mean()).mean() > _CUT)


def _means(plane: Floats) -> Floats:
    """Return the mean of each block; shape (rows, columns) or (rows, columns, channels)."""
    rows, columns = plane.shape[0] // BLOCK, plane.shape[1] // BLOCK
    whole = plane[: rows * BLOCK, : columns * BLOCK]
    return np.asarray(cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA), np.float32)


def _warped(before: Floats, flow: Floats) -> Floats:
    y, x = (np.arange(n, dtype=np.float32) for n in before.shape)
    across, down = flow[..., 0] + x, flow[..., 1] + y[:, None]
    return np.asarray(cv2.remap(before, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)


def _common(pair: _Pair, flow: Floats, among: Mask, noise: float) -> tuple[Similarity | None, Mask]:
    """Return the similarity that most of some blocks agree on, and which of them do; None: there is none.

    The most frequent flow first; then iteratively reweighted least squares (Holland and Welsch 1977) with Tukey's
    biweight; in the end a block counts along its slopes alone, which is all that it can measure.

    Args:
        flow: Flow of each block.
        among: Blocks that count.
    """
    agree = np.zeros_like(among)
    chosen = np.flatnonzero(among)
    if len(chosen) < _FEW:
        return None, agree
    chosen = chosen[:: max(1, len(chosen) // 1000)]
    places = pair.x.ravel()[chosen].astype(np.float64) + 1j * pair.y.ravel()[chosen]
    seen = np.ascontiguousarray(flow).view(np.complex64).ravel()[chosen].astype(np.complex128)
    trust = np.sqrt(np.minimum(pair.corner.ravel()[chosen].astype(np.float64), 100.0)) + 1e-3
    step = max(1, len(seen) // 64)
    votes = (_squares(seen[::step, None] - seen[None, :: max(1, step // 4)]) < 1.0) @ trust[:: max(1, step // 4)]
    shift, turn, middle = complex(seen[::step][votes.argmax()]), 0j, complex(places.mean())
    away = places - middle
    for width in (2.0, 1.0, 0.6, 0.4):
        weight = trust * np.square(np.maximum(1 - _squares(seen - turn * away - shift) / width**2, 0))
        total = weight.sum()
        if total < 1e-6:
            return None, agree
        center, mean = (weight * away).sum() / total, (weight * seen).sum() / total
        spread = (weight * _squares(away - center)).sum() + 100 * total  # few blocks show no turn
        turn = (weight * np.conj(away - center) * (seen - mean)).sum() / spread
        shift = mean - turn * center
    near = _squares(seen - turn * away - shift) < 0.25
    tensor = [each.ravel()[chosen[near]].astype(np.float64) for each in (pair.xx, pair.yy, pair.xy)]
    turn, shift = _fit(away[near], seen[near], tensor, noise, (complex(turn), complex(shift)))
    motion = Similarity(turn, shift - turn * middle)
    off = flow - pair.at(motion)
    return motion, among & (off[..., 0] ** 2 + off[..., 1] ** 2 < 0.25)


def _squares(numbers: NDArray[np.complex128]) -> NDArray[np.float64]:
    """Return the squared absolute values, which takes a third of what roots do."""
    return numbers.real**2 + numbers.imag**2


def _fit(
    places: NDArray[np.complex128],
    seen: NDArray[np.complex128],
    tensor: list[NDArray[np.float64]],
    noise: float,
    start: tuple[complex, complex],
) -> tuple[complex, complex]:
    """Return turn and shift that fit what blocks saw, each weighted by its structure tensor xx, yy, xy."""
    xx, yy, xy = tensor
    if not len(places):
        return start
    x, y = places.real / 100, places.imag / 100
    zero, one = np.zeros_like(x), np.ones_like(x)
    across, down = np.stack((x, -y, one, zero)), np.stack((y, x, zero, one))
    turn, shift = start
    for _ in range(2):
        off = seen - turn * places - shift
        left = xx * off.real**2 + yy * off.imag**2 + 2 * xy * off.real * off.imag
        weight = np.square(4 * noise / (4 * noise + left)) / (1 + 0.02 * (xx + yy))  # sampling is worst at edges
        mixed = (across * (xy * weight)) @ down.T
        normal = (across * (xx * weight)) @ across.T + (down * (yy * weight)) @ down.T + mixed + mixed.T
        along, beside = xx * seen.real + xy * seen.imag, xy * seen.real + yy * seen.imag
        right = across @ (weight * along) + down @ (weight * beside)
        normal[0, 0] += 0.01 * normal[2, 2]  # few blocks show no turn
        normal[1, 1] += 0.01 * normal[3, 3]
        try:
            p, q, s, t = (float(each) for each in np.linalg.solve(normal, right))
        except np.linalg.LinAlgError:
            return start
        turn, shift = complex(p, q) / 100, complex(s, t)
    return turn, shift


def _uncovered(before: Mask | None, moves: Mask, changed: Mask) -> Mask | None:
    """Return which blocks something that moves has uncovered, or left beside its contour; None: there are none.

    Args:
        before, moves: Which blocks moved by themselves in the frame before, and now.
        changed: Blocks that no motion explains.
    """
    left = changed if before is None or before.shape != moves.shape else changed | before
    # Not inside of what moves, where a block may rest for a frame; and not where all of it has come to rest.
    among = cv2.GaussianBlur(moves.astype(np.float32), (0, 0), 1.5, borderType=cv2.BORDER_REPLICATE)
    bare = ~moves & left & (among > 0.02) & (among < 0.55)
    return bare if bare.any() else None


def _spread(flow: Floats, sure: Floats, among: Mask) -> Floats:
    """Return the flow of some blocks, smooth, and that of sure surroundings where they are not sure themselves.

    What moves is one piece unless shown otherwise: where flows of neighboring blocks differ, strokes break.

    Args:
        flow: Of each block.
        sure: How sure it is, from 0 to 1.
        among: The blocks that count.
    """
    weight = np.where(among, sure, 0).astype(np.float32)
    planes = cv2.merge((flow[..., 0] * weight, flow[..., 1] * weight, weight))
    near = cv2.GaussianBlur(planes, (0, 0), _SMOOTH, borderType=cv2.BORDER_REPLICATE)
    far = cv2.GaussianBlur(planes, (0, 0), 4.0, borderType=cv2.BORDER_REPLICATE)
    total = near + np.float32(0.03) * far
    return np.asarray(total[..., :2] / (total[..., 2:] + np.float32(1e-6)), np.float32)


def _around(plane: Floats) -> Floats:
    """Return weighted means of the surroundings of each block; shape (rows, columns, channels)."""
    rows, columns = plane.shape[:2]
    parts = []
    for first in range(0, plane.shape[2], 4):  # OpenCV resizes four channels at most
        part = np.ascontiguousarray(plane[..., first : first + 4])
        half = cv2.resize(part, ((columns + 1) // 2, (rows + 1) // 2), interpolation=cv2.INTER_AREA)
        wide = cv2.GaussianBlur(half, (0, 0), _REACH / 2, borderType=cv2.BORDER_REPLICATE)
        parts.append(cv2.resize(wide, (columns, rows), interpolation=cv2.INTER_LINEAR))
    return np.concatenate(parts, -1, dtype=np.float32)


def _gain(still: Floats, moved: Floats, shown: Floats, expected: Floats, slopes: Floats) -> Floats:
    """Return by how much better a motion explains each block, in units of what it leaves unexplained around it.

    Nothing speaks for a motion where the slopes are those of noise, and where much is left unexplained: one scene that
    fades to another is "explained" by any flow, a little.

    Args:
        still, moved: Mean squared differences, without and with the motion.
        shown: What the motion should have changed; sampling between pixels alone lowers ``moved`` below ``still``.
        expected: What noise and sampling change.
        slopes: How far the block's slopes exceed those of noise, from 0 to 1.
    """
    left = cv2.GaussianBlur(moved, (5, 5), 0, borderType=cv2.BORDER_REPLICATE)
    gain = np.minimum(still - moved, 2 * shown) / (left + expected)
    trust = np.clip((8 * expected - left) / (5 * expected), 0, 1) * slopes
    return np.asarray(np.where(gain > 0, gain * trust, gain), np.float32)

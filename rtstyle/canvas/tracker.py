"""Follows the camera: where the canvas lies below each frame, where one offset is enough for all of it."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from rtstyle.canvas.field import check_state
from rtstyle.canvas.flow import check_flow

FIELD, FLOW = "field_", "flow_"


@dataclass(frozen=True)
class TrackerState:
    """All that a ``CanvasTracker`` knows; arrays are never written to again."""

    position: NDArray[np.float64]
    """(x, y), not rounded."""
    key_position: NDArray[np.float64]
    arrays: dict[str, NDArray[np.generic]]
    """The key frame and the last frame, whole and small, those that there are; and what a ``FieldTracker`` and a
    ``FlowFollower`` know, their names behind ``FIELD`` and ``FLOW``."""

    def save(self, path: Path) -> None:
        """Write it as npz.

        Raises:
            OSError: The disk is full.
        """
        path.write_bytes(self.dump())

    def dump(self) -> bytes:
        """Return it as the bytes of an npz file."""
        file = BytesIO()
        np.savez(file, position=self.position, key_position=self.key_position, **self.arrays)  # type: ignore[arg-type]
        return file.getvalue()

    @classmethod
    def load(cls, path: Path) -> TrackerState:
        """Read what ``save`` wrote; no pickle.

        Raises:
            OSError, ValueError, KeyError: It is missing or damaged.
        """
        try:
            return cls.parse(path.read_bytes())
        except ValueError as error:
            raise ValueError(f"{path.name} is damaged: {error}") from error

    @classmethod
    def parse(cls, data: bytes) -> TrackerState:
        """Read what ``dump`` returned; no pickle.

        Raises:
            ValueError, KeyError: It is damaged.
        """
        try:
            with ZipFile(BytesIO(data)) as members:
                if any(member.compress_type != ZIP_STORED for member in members.infolist()):
                    raise ValueError("it is compressed")  # a few bytes could ask for all memory
            with np.load(BytesIO(data), allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
        except Exception as error:  # numpy and zipfile fail on damaged bytes in a dozen ways
            raise ValueError(str(error)) from error
        state = cls(arrays.pop("position"), arrays.pop("key_position"), arrays)
        state._check()
        return state

    def _check(self) -> None:
        for position in (self.position, self.key_position):
            if position.shape != (2,) or position.dtype != np.float64 or not np.abs(position).max() < 1 << 40:
                raise ValueError("a position is no pair of numbers")
        frames = {name: array for name, array in self.arrays.items() if not name.startswith((FIELD, FLOW))}
        for prefix, check in ((FIELD, check_state), (FLOW, check_flow)):
            check({name.removeprefix(prefix): a for name, a in self.arrays.items() if name.startswith(prefix)})
        if set(frames) not in (set(), {"last", "last_small"}, {"key", "key_small", "last", "last_small"}):
            raise ValueError(f"it holds {', '.join(self.arrays) or 'nothing'}")
        for name, whole in frames.items():
            if name.endswith("_small"):
                continue
            small = self.arrays[f"{name}_small"]
            if whole.dtype != np.uint8 or small.dtype != np.float32 or whole.ndim != 2 or small.ndim != 2:
                raise ValueError(f"{name} is no frame")
            height, width = (side - 2 * _RIM for side in whole.shape)
            factor = max(1, width // CanvasTracker._SMALL)
            if small.shape != (height // factor, width // factor):
                raise ValueError(f"{name}_small is not of the size of {name}")


class CanvasTracker:
    """Follows the camera: feed it every frame's luma in order, it returns where the canvas lies below it.

    The translation since a key frame (or, where that fails, since the last one) is found coarsely by phase
    correlation (Kuglin and Hines 1975) on a small frame, and finely by least squares on patches at full
    size (Lucas and Kanade 1981).
    Patches then vote: unless nearly all that can be measured moved, nothing moves, so a person
    walking before a still wall does not drag the wall's strokes along, and a cut leaves the canvas where
    it is. Zoom, rotation and parallax are not followed.
    """

    _SMALL = 160
    """Least width of the small frame."""
    _PATCH = 32
    _GRID = (6, 8)
    """Rows and columns of patches."""
    _NOISE = 3.0
    """Mean squared difference, in levels squared, that a camera's noise alone makes."""

    def __init__(self) -> None:
        # A key frame, and where it lies; later frames are compared to it, so that errors do not add up.
        self._key: NDArray[np.uint8] | None = None
        self._key_small: NDArray[np.float32] | None = None
        self._key_position = np.zeros(2)  # (x, y), not rounded
        self._position = np.zeros(2)
        self._last: tuple[NDArray[np.uint8], NDArray[np.float32]] | None = None
        self._window: NDArray[np.float32] | None = None
        self._key_features: tuple[NDArray[np.intp], NDArray[np.intp]] | None = None
        self._corners: _Corners | None = None
        """Of the key frame, as are the features."""

    def state(self) -> TrackerState:
        """Return all that the offsets of further frames depend on."""
        arrays: dict[str, NDArray[np.generic]] = {}
        if self._key is not None and self._key_small is not None:
            arrays |= {"key": self._key, "key_small": self._key_small}
        if self._last is not None:
            arrays |= {"last": self._last[0], "last_small": self._last[1]}
        return TrackerState(self._position, self._key_position, arrays)

    def restore(self, state: TrackerState) -> None:
        """Continue as the tracker did that gave ``state``."""
        self._position, self._key_position = state.position, state.key_position
        if "key" in state.arrays and "last" in state.arrays:
            whole, small = state.arrays["last"], state.arrays["last_small"]
            self._last = np.asarray(whole, np.uint8), np.asarray(small, np.float32)
            whole, small = state.arrays["key"], state.arrays["key_small"]
            self._key, self._key_small = np.asarray(whole, np.uint8), np.asarray(small, np.float32)
            self._key_features = self._corners = None

    def offset(self, luma: NDArray[np.uint8]) -> tuple[int, int]:
        """Return where the top left of this frame lies on the canvas, (x, y) in pixels.

        Args:
            luma: Shape (height, width), the same size at every call; a copy is kept.
        """
        import cv2

        height, width = luma.shape
        if min(height, width) >= 3 * self._PATCH:
            factor = max(1, width // self._SMALL)
            small: NDArray[Any] = luma
            if factor % 2 == width % 2 == height % 2 == 0:  # by halves first is twice as fast as all at once
                small = cv2.resize(small, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
            small = cv2.resize(small, (width // factor, height // factor), interpolation=cv2.INTER_AREA)
            wide = cv2.copyMakeBorder(luma, _RIM, _RIM, _RIM, _RIM, cv2.BORDER_REFLECT_101)
            now = (np.asarray(wide, np.uint8), np.asarray(small, np.float32))
            self._follow(*now)
            self._last = now
        return self.place()

    def place(self) -> tuple[int, int]:
        """Return where the last frame lies, as ``offset`` did."""
        x, y = np.floor(self._position + 0.5).astype(int)
        return int(x), int(y)

    def _follow(self, now: NDArray[np.uint8], small: NDArray[np.float32]) -> None:
        """Move the position by what separates this frame from the key frame, or else from the last one.

        Args:
            now: The frame with ``_RIM`` more pixels on each side, as are all frames from here on.
            small: It without them, made smaller.
        """
        if (
            self._key is not None
            and self._key_small is not None
            and self._last is not None
            and self._key.shape == now.shape
        ):
            last, last_small = self._last
            if np.array_equal(last_small, small):
                return
            moved = self._motion(self._key, self._key_small, now, small)
            if moved is not None:
                self._position = self._key_position - moved
                if np.abs(moved / (now.shape[1] - 2 * _RIM, now.shape[0] - 2 * _RIM)).max() < 0.2:
                    return
            elif (moved := self._motion(last, last_small, now, small)) is not None:
                self._position = self._position - moved
            # Neither: a cut, or it cannot be decided. The canvas stays, and this frame is the next key.
        self._key, self._key_small, self._key_position = now, small, self._position.copy()
        self._key_features = self._corners = None

    def _motion(
        self,
        before: NDArray[np.uint8],
        small_before: NDArray[np.float32],
        now: NDArray[np.uint8],
        small: NDArray[np.float32],
    ) -> NDArray[np.float64] | None:
        """Return how far the frame moved, (x, y) in pixels; None where that is not certain."""
        import cv2

        if self._window is None or self._window.shape != small.shape:
            window = cv2.createHanningWindow((small.shape[1], small.shape[0]), cv2.CV_32F)
            self._window = np.asarray(window, np.float32)
        # Copies: where a side needs no padding, OpenCV lays the window over the frame that it is given.
        (x, y), _ = cv2.phaseCorrelate(small_before.copy(), small.copy(), self._window)
        scale = (now.shape[1] - 2 * _RIM) / small.shape[1], (now.shape[0] - 2 * _RIM) / small.shape[0]
        return self._refine(before, small_before, now, np.array([x * scale[0], y * scale[1]]))

    def _features(self, small: NDArray[np.float32], scale: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the most telling place of each cell of the grid: rows and columns, in pixels of the frame.

        Idea: Shi and Tomasi 1994, "Good features to track".
        """
        import cv2

        (rows, columns), (height, width) = self._GRID, small.shape
        high, wide = height // rows, width // columns
        response = cv2.cornerMinEigenVal(small, 5)[: rows * high, : columns * wide]
        best = response.reshape(rows, high, columns, wide).transpose(0, 2, 1, 3).reshape(rows * columns, -1).argmax(1)
        row, column = np.divmod(np.arange(rows * columns), columns)
        y, x = row * high + best // wide, column * wide + best % wide
        return ((y + 0.5) * scale).astype(np.intp), ((x + 0.5) * scale).astype(np.intp)

    def _corners_of(
        self, before: NDArray[np.uint8], small: NDArray[np.float32], low: NDArray[Any], high: NDArray[Any]
    ) -> _Corners:
        """Return the most telling patches of a frame between two places, (x, y); of the key frame they are kept."""
        is_key, half = before is self._key, self._PATCH // 2
        features = self._key_features if is_key else None
        features = features or self._features(small, (before.shape[0] - 2 * _RIM) / small.shape[0])
        y, x = (np.clip(features[axis] - half, low[1 - axis], high[1 - axis]) for axis in (0, 1))
        corners = self._corners if is_key else None
        if corners is None or not (np.array_equal(corners.y, y) and np.array_equal(corners.x, x)):
            corners = _Corners.of(before, y, x, self._PATCH)
        if is_key:
            self._key_features, self._corners = features, corners
        return corners

    def _refine(
        self,
        before: NDArray[np.uint8],
        small: NDArray[np.float32],
        now: NDArray[np.uint8],
        guess: NDArray[np.float64],
    ) -> NDArray[np.float64] | None:
        """Return the motion near ``guess`` that most patches agree on, None if there is none."""
        size = self._PATCH
        height, width = (side - 2 * _RIM for side in now.shape)
        whole = np.rint(guess).astype(int)
        # Patches lie where both frames have pixels, with room for the gradient and for the search.
        low, high = np.maximum(1, 4 - whole), np.array((width, height)) - size - np.maximum(1, 4 + whole)
        if (high - low < size).any():
            return None
        at = self._corners_of(before, small, low, high)
        if at.corner.sum() < 4:
            return None

        def change(dx: int, dy: int) -> NDArray[np.float32]:
            return np.asarray(_patches(now, at.y + dy, at.x + dx, size) - at.old, np.float32)

        for _ in range(4):
            difference = change(int(whole[0]), int(whole[1]))
            fraction = np.median(at.motion(difference), 0).astype(np.float64)
            step = np.rint(np.clip(fraction, -3, 3)).astype(int)
            if not step.any():
                break
            whole = whole + step
            if np.abs(whole - guess).max() > 3.5:
                return None
        else:
            return None
        unmoved = _mean_square(change(0, 0)) if whole.any() else _mean_square(difference)
        left_over = difference + at.gx * np.float32(fraction[0]) + at.gy * np.float32(fraction[1])
        moved = _mean_square(left_over.astype(np.float32))
        total: NDArray[np.float64] = whole + fraction
        short = (total / max(1.0, float(np.hypot(*total)) / 2)).astype(np.float32)
        expected = _mean_square((at.gx * short[0] + at.gy * short[1]).astype(np.float32))
        rim = (at.x < low[0] + size // 2) | (at.x > high[0] - size // 2)
        if self._elected(unmoved, moved, expected, rim):
            return total
        # Nearly nothing may be a very slow pan: the key frame stays, until it shows.
        return np.zeros(2) if np.hypot(*total) < 0.5 else None

    def _elected(
        self,
        unmoved: NDArray[np.float32],
        moved: NDArray[np.float32],
        expected: NDArray[np.float32],
        rim: NDArray[np.bool_],
    ) -> bool:
        """Count the patches for and against a motion.

        Args:
            unmoved, moved: Mean squared difference of each patch without and with the motion.
            expected: What the motion should have changed in each patch, from its gradients.
            rim: Which patches lie at the left or right side of the frame.
        """
        shape = self._GRID
        unmoved, moved, expected = (value.reshape(shape) for value in (unmoved, moved, expected))
        tells = expected > 2 * self._NOISE / 3
        for_it = (moved < 0.85 * unmoved) & tells
        against = tells & (unmoved < 1.05 * moved)
        # A person before a flat wall covers a part of its width; a moving camera moves things from left to right.
        # What reaches a side of the frame, with nothing that stays, may leave a little more of it flat.
        beyond = bool((for_it & rim.reshape(shape)).any()) and not (tells & ~for_it).any()
        wide = int(for_it.any(0).sum()) >= (0.6 if beyond else 0.7) * for_it.shape[1]
        count = int(for_it.sum())
        return bool(wide and count >= 0.12 * for_it.size and count > 3 * against.sum())


_RIM = 2
"""Pixels on each side of a patch that its blur needs."""


@dataclass(frozen=True, eq=False)
class _Corners:
    """Patches of a frame whose motion is found by their slopes (Lucas and Kanade 1981), shape (n, size, size)."""

    y: NDArray[np.intp]
    x: NDArray[np.intp]
    """Of the top left pixels."""
    old: NDArray[np.float32]
    gx: NDArray[np.float32]
    gy: NDArray[np.float32]
    tensor: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
    """Structure tensor of each, xx, yy, xy."""
    corner: NDArray[np.bool_]
    """Those that determine a direction."""

    @classmethod
    def of(cls, wide: NDArray[np.uint8], y: NDArray[np.intp], x: NDArray[np.intp], size: int) -> _Corners:
        """Cut them out of a frame with ``_RIM`` more pixels on each side."""
        around = _patches(wide, y - 1, x - 1, size + 2).astype(np.float32)
        half = np.float32(0.5)
        gx: NDArray[np.float32] = half * (around[:, 1:-1, 2:] - around[:, 1:-1, :-2])
        gy: NDArray[np.float32] = half * (around[:, 2:, 1:-1] - around[:, :-2, 1:-1])
        xx, yy, xy = _dot(gx, gx), _dot(gy, gy), _dot(gx, gy)
        # The smaller eigenvalue is determinant / trace, about.
        corner = (xx * yy - xy * xy) / (xx + yy + 1e-6) > 0.5 * size * size
        return cls(y, x, around[:, 1:-1, 1:-1].copy(), gx, gy, (xx, yy, xy), corner)

    def motion(self, difference: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return by how much each corner moved, (x, y), which changed the patches so."""
        bx, by = -_dot(self.gx, difference), -_dot(self.gy, difference)
        xx, yy, xy = self.tensor
        solved = np.stack((yy * bx - xy * by, xx * by - xy * bx), -1)[self.corner]
        return np.asarray(solved / (xx * yy - xy * xy)[self.corner][:, None], np.float32)


def _patches(wide: NDArray[np.uint8], y: NDArray[np.intp], x: NDArray[np.intp], size: int) -> NDArray[np.uint8]:
    """Return patches of the blurred frame, shape (n, size, size), whose top left lie at ``y`` and ``x``.

    Only they are blurred, which is a twentieth of a frame of 1920x1080.

    Args:
        wide: The frame with ``_RIM`` more pixels on each side.
    """
    import cv2

    side = size + 2 * _RIM
    cut = sliding_window_view(wide, (side, side))[y, x]
    blurred = np.asarray(cv2.GaussianBlur(cut.reshape(-1, side), (2 * _RIM + 1, 2 * _RIM + 1), 0), np.uint8)
    return blurred.reshape(cut.shape)[:, _RIM:-_RIM, _RIM:-_RIM]


def _dot(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum of products over each patch: (n, s, s) to (n,)."""
    return np.asarray(np.einsum("nij,nij->n", a, b), np.float32)


def _mean_square(a: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean square of each patch: (n, s, s) to (n,)."""
    return _dot(a, a) / np.float32(a.shape[1] * a.shape[2])

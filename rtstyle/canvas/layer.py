"""What an engine lays below a frame: a tile of noise, or toned luma and the steered canvas."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle.canvas.arrays import Floats
from rtstyle.canvas.cutter import SteeredCutter
from rtstyle.canvas.field import Field, measure, skin_like
from rtstyle.canvas.noise import CanvasCutter
from rtstyle.canvas.steering import CHANNELS, Steering, at_cells, put_levels, steered
from rtstyle.canvas.tone import ToneCurve
from rtstyle.frame import CELL, MARGIN, Color, Frame, Packing, Planes, Size, reduced_plane


class Ground(NamedTuple):
    """What lies below a frame, as planes, uint8."""

    toned: NDArray[np.uint8]
    """Its luma behind the tone curve, shape (height, width)."""
    reduced: NDArray[np.uint8]
    """The same of the reduced frame."""
    value: NDArray[np.uint8]
    relief: NDArray[np.uint8]
    """Of strokes, shape (height, width), around 128."""
    hue: NDArray[np.uint8]
    """Of strokes, shape of a chroma plane, around 128."""


class CanvasLayer(Protocol):
    """Writes the ``canvas`` input of a deployed network for one size of frames. One thread may use it at a time."""

    channels: int
    """Channels of the input."""

    def key(self, frame: Frame) -> object:
        """Return what the layer of a frame depends on; frames with equal keys share a layer. None: it is its own."""

    def lay(self, frame: Frame, out: NDArray[np.uint8]) -> None:
        """Write the layer below a frame.

        Args:
            out: Shape (rows, columns, channels), uint8, C-contiguous: the cells of the packed frame.
        """


class NoiseLayer:
    """The canvas of noise of styles of format 1."""

    channels = 16

    def __init__(self, rows: int, columns: int) -> None:
        self._cutter = CanvasCutter(rows, columns)

    def key(self, frame: Frame) -> object:
        return frame.canvas, frame.canvas_map

    def lay(self, frame: Frame, out: NDArray[np.uint8]) -> None:
        self._cutter.cut(frame.canvas, out, frame.canvas_map)


class SteeredLayer:
    """Luma behind the style's tone curve, where it has one, and its steered canvas.

    Args:
        joined: Luma, toned or not, and the frame's chroma come first: a network's first convolution reads nothing else.
    """

    def __init__(
        self, steering: Steering, tone: ToneCurve | None, size: Size, color: Color, *, joined: bool = False
    ) -> None:
        packing = Packing(size)
        self._joined = joined
        self.channels = CHANNELS + (packing.channels if joined else 16 if tone else 0)
        self._steering, self._tone, self._size, self._packing = steering, tone, size, packing
        self._levels = (0.0, 255.0) if color.full_range else (16.0, 235.0)
        self._cutter = SteeredCutter(steering, packing.rows, packing.columns)

    def key(self, frame: Frame) -> object:
        return None

    def lay(self, frame: Frame, out: NDArray[np.uint8]) -> None:
        seen = frame.seen or measure(np.ascontiguousarray(frame.planes.y))
        self._put(self._packing, frame.planes, self._toned(seen, frame.planes.y), out)
        cells, skin = self._cells(frame, seen), self._skin(frame, seen)
        self._cutter.cut(cells, frame.canvas, out[..., -CHANNELS:], frame.canvas_map, skin)

    def _put(self, packing: Packing, planes: Planes, toned: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
        """Write what of a frame belongs to its layer; ``toned`` is its luma."""
        if self._joined:
            packing.pack(Planes(toned, planes.u, planes.v), out)
        elif self._tone:
            packing.pack_luma(toned, out)

    def lay_reduced(self, frame: Frame, small: Planes, packing: Packing, out: NDArray[np.uint8]) -> Ground:
        """Write the layer below a frame that is reduced for the network, and return it as it lies below the frame.

        Args:
            small: Of the reduced frame.
            packing: Of the reduced frame, whose sides are whole cells.
            out: Shape (rows, columns, channels) of the packing, uint8, C-contiguous.

        Returns:
            Its arrays are the caller's, but for views that the next call writes to: value, relief and hue.
        """
        seen = frame.seen or measure(np.ascontiguousarray(frame.planes.y))
        luma, toned = (self._toned(seen, plane) for plane in (small.y, frame.planes.y))
        self._put(packing, small, luma, out)
        cells = self._cells(frame, seen)
        inside = tuple(slice(edge, edge + side) for edge, side in zip((MARGIN, MARGIN), toned.shape, strict=True))
        half = tuple(
            slice(MARGIN // 2, MARGIN // 2 + side) for side in (self._size.chroma.height, self._size.chroma.width)
        )
        value, relief, hue = self._cutter.planes(cells, frame.canvas, frame.canvas_map, self._skin(frame, seen))
        value, relief, hue = value[inside], relief[inside], hue[half]
        strokes, size = out[..., -CHANNELS:], packing.size
        packing.pack_luma(reduced_plane(value, size), strokes)
        packing.pack_luma(reduced_plane(relief, size), strokes[..., 16:])
        packing.pack_chroma(reduced_plane(hue, size.chroma), strokes[..., 32:])
        edge = MARGIN // CELL
        whole = cells[edge : -(-inside[0].stop // CELL), edge : -(-inside[1].stop // CELL)]
        few = np.asarray(cv2.resize(whole, (size.width // CELL, size.height // CELL)), np.float32)
        below, right = (have - edge - side for have, side in zip(out.shape[:2], few.shape[:2], strict=True))
        put_levels(np.pad(few, ((edge, below), (edge, right), (0, 0)), mode="edge"), strokes)
        return Ground(toned, luma, value, relief, hue)

    def _toned(self, seen: Field, luma: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return luma behind the tone curve; itself where there is none."""
        if self._tone is None:
            return luma
        table = np.rint(self._tone.table(seen, *self._levels)).astype(np.uint8)
        return self._tone.smoothed(np.asarray(cv2.LUT(np.ascontiguousarray(luma), table), np.uint8))

    def _cells(self, frame: Frame, seen: Field) -> Floats:
        """Return what ``steered`` does for the packed frame."""
        shape = self._packing.rows, self._packing.columns
        scale = self._scale(seen)
        return steered(self._steering, seen, frame.canvas, shape, (-MARGIN, -MARGIN), scale, frame.canvas_map)

    def _skin(self, frame: Frame, seen: Field) -> Floats | None:
        """Return how much each cell of the packed frame is like skin; None: it does not matter."""
        if not self._steering.brush.sees_skin:
            return None
        shape = self._packing.rows, self._packing.columns
        like = skin_like(frame.planes.u, frame.planes.v, seen.cos.shape)
        return at_cells(like, shape, (-MARGIN, -MARGIN), self._scale(seen))

    def _scale(self, seen: Field) -> tuple[float, float]:
        rows, columns = seen.cos.shape
        return self._size.width / CELL / columns, self._size.height / CELL / rows

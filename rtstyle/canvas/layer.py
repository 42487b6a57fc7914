"""What an engine lays below a frame: a tile of noise, or toned luma and the steered canvas."""

from __future__ import annotations

from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle.canvas.field import measure
from rtstyle.canvas.steering import CHANNELS, SteeredCutter, Steering, steered
from rtstyle.canvas.tone import ToneCurve
from rtstyle.canvas.tracker import CanvasCutter
from rtstyle.frame import CELL, MARGIN, Color, Frame, Packing, Size


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
    """Luma behind the style's tone curve, where it has one, and its steered canvas."""

    def __init__(self, steering: Steering, tone: ToneCurve | None, size: Size, color: Color) -> None:
        packing = Packing(size)
        self.channels = CHANNELS + (16 if tone else 0)
        self._steering, self._tone, self._size, self._packing = steering, tone, size, packing
        self._levels = (0.0, 255.0) if color.full_range else (16.0, 235.0)
        self._cutter = SteeredCutter(steering, packing.rows, packing.columns)

    def key(self, frame: Frame) -> object:
        return None

    def lay(self, frame: Frame, out: NDArray[np.uint8]) -> None:
        seen = frame.seen or measure(np.ascontiguousarray(frame.planes.y))
        if self._tone:
            table = np.rint(self._tone.table(seen, *self._levels)).astype(np.uint8)
            luma = cv2.LUT(np.ascontiguousarray(frame.planes.y), table)
            self._packing.pack_luma(np.asarray(luma, np.uint8), out)
        rows, columns = seen.cos.shape
        scale = self._size.width / CELL / columns, self._size.height / CELL / rows
        shape = self._packing.rows, self._packing.columns
        bent = frame.canvas_map
        cells = steered(self._steering, seen, frame.canvas, shape, (-MARGIN, -MARGIN), scale, bent)
        self._cutter.cut(cells, frame.canvas, out[..., self.channels - CHANNELS :], bent)

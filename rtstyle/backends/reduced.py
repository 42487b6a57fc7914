"""An engine whose network works on fewer lines than its frames have, and whose strokes are as fine as theirs.

Styles are tuned at 720 lines. On a steered canvas a network decides what is smooth, tone and color and how strong
strokes are, and leaves of the frame's own finest detail a constant share (``graph.kept_detail``). So the network may
see a reduced frame: what it decides is enlarged, while detail and strokes are taken at full size.

    stylized = kept * toned frame + enlarged(smooth) + enlarged(gains) * strokes

A network calms down what is fine on its own grid. On the grid of the frame the same forms are coarser, and it would
leave more of them: that share of the reduced frame's own detail is added to ``smooth``.

(Gharbi et al. 2017, "Deep Bilateral Learning for Real-Time Image Enhancement": coefficients from a small frame,
applied to the large one.)
"""

from __future__ import annotations

import contextlib
import math
from collections import deque
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray
from openvino import opset13 as nodes

from rtstyle import graph
from rtstyle.backends.engine import BackendName, Controls, Engine, Mode, Precision, check_frame
from rtstyle.backends.openvino import compiled_network, device_label, resolved_precision
from rtstyle.canvas.arrays import Floats
from rtstyle.canvas.layer import SteeredLayer
from rtstyle.cores import cores
from rtstyle.frame import CELL, MARGIN, Color, Frame, Packing, Planes, Size, reduced_plane
from rtstyle.inference import ov, the_core
from rtstyle.style import Style

_CRISP = 0.6
"""How much of the reduced frame's detail is added, times what the reduction takes away: fitted to what networks draw
on all of 1080 lines and on 720 (four styles, 1 to 4 pixels: 0.19 to 0.26 of the toned frame's detail is missing)."""

_FINE = 9
"""Pixels around each, across and down, whose mean detail stands out from."""


@dataclass
class _Reduced:
    """A frame inside: one inference request and what it reads and writes, and what is put on the frame."""

    request: ov.InferRequest
    canvas: NDArray[np.uint8]
    smooth: Floats
    gains: Floats
    luma: list[NDArray[np.uint8]]
    chroma: list[NDArray[np.uint8]]
    """What of the frame the joints read: samples, the same toned, strokes."""
    reduced: NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, 0), np.uint8))
    """Toned luma of the reduced frame."""
    controls: Controls = field(default_factory=Controls)


class ReducedEngine(Engine):
    """See ``rtstyle.backends.Engine``; OpenVINO, as ``OpenVinoEngine``.

    Args:
        style: A style whose canvas is steered; no blend.
        size: Of the frames.
        network: Size in which the network works, smaller, whole cells.
    """

    backend: BackendName = "openvino"

    def __init__(
        self,
        style: Style,
        size: Size,
        color: Color,
        network: Size,
        *,
        precision: Precision = "auto",
        mode: Mode = "throughput",
        device: str | None = None,
    ) -> None:
        name = device or "CPU"
        precision = resolved_precision(style, precision, name)
        self.precision: str = precision
        self.device = device_label(name)
        self.size, self.color = size, color
        self._packing = Packing(network)
        layer = style.layer(size, color, joined=True)
        assert isinstance(layer, SteeredLayer)
        self._layer = layer
        rows, columns = self._packing.rows, self._packing.columns
        trunk, ranges = style.int8 if precision == "int8" else (style.trunk, None)
        model = graph.unjoined(trunk, color, rows, columns, ranges)
        label = f"{style.name!r} at {network}"
        compiled = compiled_network(model, precision, mode, name, label)
        self.in_flight = cores() + 1 if mode == "throughput" else 1
        self._crisp = _CRISP * (1 - network.height / size.height)
        kept, self._gains = graph.kept_detail(trunk), graph.gain_count(color)
        self._luma, self._chroma = _Joint(1, size, kept[0], 2), _Joint(2, size.chroma, kept[1], 1)
        self._free = [self._make_slot(compiled) for _ in range(self.in_flight)]
        self._inside: deque[tuple[_Reduced, Frame]] = deque()

    def _make_slot(self, compiled: ov.CompiledModel) -> _Reduced:
        shape = (1, self._packing.rows, self._packing.columns)
        canvas = np.zeros((*shape, self._layer.channels), np.uint8)
        smooth, gains = (
            np.zeros((*shape, graph.PLANE_CHANNELS), np.float32),
            np.zeros((*shape, self._gains), np.float32),
        )
        request = compiled.create_infer_request()
        arrays = {graph.CANVAS: canvas, graph.SMOOTH: smooth, graph.GAINS: gains}
        for tensor, array in arrays.items():
            request.set_tensor(tensor, ov.Tensor(array, shared_memory=True))
        luma = [np.empty((1, self.size.height, self.size.width), np.uint8) for _ in range(4)]
        half = self.size.chroma
        samples, hue = (np.empty((count, half.height, half.width), np.uint8) for count in (2, 1))
        return _Reduced(request, canvas[0], smooth[0], gains[0], luma, [samples, samples, hue])

    def submit(self, frame: Frame, controls: Controls = Controls()) -> None:
        check_frame(self, frame, len(self._inside))
        slot, network = self._free.pop(), self._packing.size
        planes, sizes = frame.planes, (network, network.chroma, network.chroma)
        small = Planes(*(reduced_plane(plane, to) for plane, to in zip(planes, sizes, strict=True)))
        ground = self._layer.lay_reduced(frame, small, self._packing, slot.canvas)
        slot.reduced, slot.controls = ground.reduced, controls
        for copy, plane in zip(slot.luma, (planes.y, ground.toned, ground.value, ground.relief), strict=True):
            copy[0] = plane
        slot.chroma[0][0], slot.chroma[0][1], slot.chroma[2][0] = planes.u, planes.v, ground.hue
        slot.request.start_async()
        self._inside.append((slot, frame))

    def next(self) -> Frame:
        if not self._inside:
            raise ValueError("no frame is in flight: call submit() first")
        slot, frame = self._inside.popleft()
        try:
            slot.request.wait()
            edge, (width, height) = MARGIN // CELL, (self._packing.size.width, self._packing.size.height)
            inside = slice(edge, edge + height // CELL), slice(edge, edge + width // CELL)
            smooth = _planes_of(slot.smooth[inside])
            gains = [np.ascontiguousarray(slot.gains[inside][..., kind]) for kind in range(self._gains)]
            fine = cv2.subtract(slot.reduced, cv2.blur(slot.reduced, (_FINE, _FINE)), dtype=cv2.CV_32F)
            cv2.scaleAdd(fine, self._crisp, smooth[0], smooth[0])
            luma = self._luma.join(slot.luma, smooth[:1], [gains[:1], gains[1:2]], slot.controls.luma)
            chroma = self._chroma.join(slot.chroma, smooth[1:], [gains[-2:]], slot.controls.chroma)
            return frame.with_planes(Planes(luma[0], *chroma))
        finally:
            self._free.append(slot)

    def close(self) -> None:
        for slot, _ in self._inside:
            with contextlib.suppress(RuntimeError):
                slot.request.cancel()
                slot.request.wait()
        self._inside.clear()
        self._free.clear()


def _planes_of(cells: Floats) -> list[Floats]:
    """Return the planes of cells, shape (rows, columns, 24), float32."""
    height, width = cells.shape[0] * CELL, cells.shape[1] * CELL
    y, uv = np.empty((height, width), np.float32), np.empty((2, height // 2, width // 2), np.float32)
    fours, twos = cells.view(np.complex128), cells.view(np.complex64)  # copied four and two numbers at a time
    for row in range(4):
        y[row::4].view(np.complex128)[:] = fours[..., row]
    for row in range(2):
        for number, plane in enumerate(uv):
            plane[row::2].view(np.complex64)[:] = twos[..., 8 + 2 * number + row]
    return [y, *uv]


class _Joint:
    """Puts what a network decided on planes of one size: luma, or both of chroma.

    Args:
        count: Planes, all of one size.
        size: Of a plane.
        kept: How much of their finest detail stays.
        strokes: Kinds of strokes that are put on.
    """

    def __init__(self, count: int, size: Size, kept: float, strokes: int) -> None:
        group = math.gcd(4, size.height)  # lines that share gains
        self._how = cv2.INTER_LINEAR if count == 1 else cv2.INTER_CUBIC  # chroma has no detail of the frame's beside it
        self._shape = count, size.height // group, group, size.width
        one = (1, *self._shape[1:])
        planes = [nodes.parameter(self._shape, np.uint8) for _ in range(2)]
        drawn = [nodes.parameter(one, np.uint8) for _ in range(strokes)]
        smooth = nodes.parameter(self._shape, np.float32)
        gains = [nodes.parameter((*self._shape[:2], 1, size.width), np.float32) for _ in range(strokes)]
        strength = nodes.parameter((1,), np.float32)

        def number(value: float) -> ov.Node:
            return nodes.constant(np.array([value], np.float32))

        source, toned = (nodes.convert(plane, np.float32) for plane in planes)
        style = nodes.add(nodes.multiply(toned, number(kept)), smooth)
        for stroke, gain in zip(drawn, gains, strict=True):
            around = nodes.subtract(nodes.convert(stroke, np.float32), number(128))
            style = nodes.add(style, nodes.multiply(around, gain))
        change = nodes.multiply(nodes.subtract(style, source), strength)
        whole = nodes.clamp(nodes.add(source, change), 0.0, 255.0)
        result = nodes.convert(nodes.floor(nodes.add(whole, number(0.5))), np.uint8)
        model = ov.Model([result], [*planes, *drawn, smooth, *gains, strength])
        options = {"INFERENCE_PRECISION_HINT": ov.Type.f32, "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": cores()}
        self._request = the_core().compile_model(model, "CPU", options).create_infer_request()
        # Kept, since to get fresh memory for each frame costs as much as to fill it.
        self._smooth = np.empty((count, size.height, size.width), np.float32)
        self._gains = [np.empty((count, size.height // group, size.width), np.float32) for _ in gains]
        self._strength = np.zeros(1, np.float32)
        kept_arrays = [self._smooth.reshape(self._shape), *(each[:, :, None] for each in self._gains), self._strength]
        for index, array in enumerate(kept_arrays, 2 + strokes):
            self._request.set_input_tensor(index, ov.Tensor(array, shared_memory=True))

    def join(
        self, known: list[NDArray[np.uint8]], smooth: list[Floats], gains: list[list[Floats]], strength: float
    ) -> NDArray[np.uint8]:
        """Return stylized planes, shape (count, height, width).

        Args:
            known: The planes, the same toned, each (count, height, width); and each kind of strokes, (1, ...).
            smooth: What is enlarged, for each plane.
            gains: Of each kind of strokes, for each plane; of cells.
        """
        for plane, out in zip(smooth, self._smooth, strict=True):
            cv2.resize(plane, out.shape[::-1], dst=out, interpolation=self._how)
        for kind, wide in zip(gains, self._gains, strict=True):
            for gain, out in zip(kind, wide, strict=True):
                cv2.resize(gain, out.shape[::-1], dst=out)
        self._strength[:] = strength
        for index, array in enumerate(known):
            tensor = ov.Tensor(array.reshape(-1, *self._shape[1:]), shared_memory=True)
            self._request.set_input_tensor(index, tensor)
        result = np.empty(self._smooth.shape, np.uint8)
        self._request.set_output_tensor(0, ov.Tensor(result.reshape(self._shape), shared_memory=True))
        self._request.infer()
        return result

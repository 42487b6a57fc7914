"""The ONNX Runtime engine: platforms that OpenVINO has no wheels for."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from rtstyle import graph
from rtstyle.backends.engine import (
    BackendName,
    Controls,
    Engine,
    Mode,
    Precision,
    auto_takes_int8,
    check_frame,
    check_precision,
)
from rtstyle.cores import cores
from rtstyle.errors import BackendUnavailableError, SettingError
from rtstyle.frame import Color, Frame, Packing, Planes, Size
from rtstyle.style import Style


@dataclass
class _InferenceArrays:
    """The arrays that one inference reads."""

    source: NDArray[np.uint8]
    canvas: NDArray[np.uint8]
    laid: object = None
    """Key of the canvas that is there."""


class OnnxRuntimeEngine(Engine):
    """See ``rtstyle.backends.Engine``.

    In ``throughput`` mode a thread for each core works on a frame of its own; in ``latency`` mode all cores
    work on one frame.
    """

    backend: BackendName = "onnxruntime"

    def __init__(
        self,
        style: Style,
        size: Size,
        color: Color,
        *,
        precision: Precision = "auto",
        mode: Mode = "throughput",
        device: str | None = None,
    ) -> None:
        check_precision(self.backend, precision)
        if device not in (None, "CPU"):
            raise SettingError(f"onnxruntime has no device {device!r} (available: CPU)")
        if precision == "auto":
            precision = "int8" if auto_takes_int8(style) else "f32"
        self.precision = precision
        self.device = "CPU"
        self.size, self.color = size, color
        self._packing = Packing(size)
        rows, columns = self._packing.rows, self._packing.columns
        self._layer = style.layer(size, color, joined=True)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1 if mode == "throughput" else cores()
        # Threads that spin while they wait for the next frame take twice the CPU time that the frames need.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        trunk, ranges = style.int8 if precision == "int8" else (style.trunk, None)
        model = graph.deployed(trunk, color, rows, columns, ranges).SerializeToString()
        try:
            self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no common base but this
            reason = str(error).splitlines()[0]
            raise BackendUnavailableError(f"onnxruntime cannot run {style.name!r} at {size}: {reason}") from error
        self.in_flight = cores() + 1 if mode == "throughput" else 1
        self._free = [
            _InferenceArrays(
                np.zeros((1, rows, columns, graph.PLANE_CHANNELS), np.uint8),
                np.zeros((1, rows, columns, self._layer.channels), np.uint8),
            )
            for _ in range(self.in_flight)
        ]
        self._inside: deque[tuple[_InferenceArrays, Frame, Future[Planes]]] = deque()
        self._pool = ThreadPoolExecutor(cores() if mode == "throughput" else 1, "rtstyle-onnxruntime")

    def submit(self, frame: Frame, controls: Controls = Controls()) -> None:
        check_frame(self, frame, len(self._inside))
        slot = self._free.pop()
        self._packing.pack(frame.planes, slot.source[0])
        key = self._layer.key(frame)
        if key is None or slot.laid != key:
            self._layer.lay(frame, slot.canvas[0])
            slot.laid = key
        strength = graph.strength_of(controls.luma, controls.chroma)
        self._inside.append((slot, frame, self._pool.submit(self._run, slot, strength)))

    def _run(self, slot: _InferenceArrays, strength: NDArray[np.float32]) -> Planes:
        feeds = {graph.SOURCE: slot.source, graph.CANVAS: slot.canvas, graph.STRENGTH: strength}
        (stylized,) = self._session.run([graph.STYLIZED], feeds)
        return self._packing.unpack(stylized[0])

    def next(self) -> Frame:
        if not self._inside:
            raise ValueError("no frame is in flight: call submit() first")
        slot, frame, planes = self._inside.popleft()
        try:
            return frame.with_planes(planes.result())
        finally:
            self._free.append(slot)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._inside.clear()
        self._free.clear()

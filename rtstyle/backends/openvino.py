"""The OpenVINO engine: CPUs, the embedded default."""

from __future__ import annotations

import contextlib
from collections import deque
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import onnx
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
from rtstyle.frame import Color, Frame, Packing, Size
from rtstyle.inference import ov, the_core
from rtstyle.style import Style

# In int8, what stays between the integers is float32: the same frame on every CPU.
_HINTS = {"f32": ov.Type.f32, "bf16": ov.Type.bf16, "int8": ov.Type.f32}


def processor() -> tuple[str, list[str]]:
    """Return the name of this machine's CPU and what it computes natively, in OpenVINO's words."""
    core = the_core()
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return str(core.get_property("CPU", "FULL_DEVICE_NAME")).strip(), [str(word) for word in able]


@cache
def native_bf16(device: str = "CPU") -> Literal["", "avx512", "amx"]:
    """Return by which instructions a device multiplies bf16; empty where it does not.

    OpenVINO names BF16 among the capabilities of every CPU with AVX-512, and where the CPU cannot multiply it, is
    three times as slow as in float32. So a small convolution is compiled, and asked for the kernel that it got.
    """
    source = ov.opset13.parameter([1, 32, 8, 8], np.float32)
    weights = ov.opset13.constant(np.ones((32, 32, 3, 3), np.float32))
    model = ov.Model([ov.opset13.convolution(source, weights, [1, 1], [1, 1], [1, 1], [1, 1])], [source])
    try:
        compiled = the_core().compile_model(model, device, {"INFERENCE_PRECISION_HINT": ov.Type.bf16})
    except RuntimeError:  # where ONEDNN_MAX_CPU_ISA takes AVX-512 away
        return ""
    kernels = {str(node.get_rt_info()["primitiveType"].astype(str)) for node in compiled.get_runtime_model().get_ops()}
    native = [kernel for kernel in kernels if kernel.startswith("brgconv") and kernel.endswith("bf16")]
    return "" if not native else "amx" if "amx" in native[0] else "avx512"


def _auto_precision(style: Style, device: str) -> Precision:
    """Return what ``auto`` is: with AMX, int8 is only a third faster than bf16, which is nearer to float32."""
    native = native_bf16(device)
    if native == "amx":
        return "bf16"
    if device == "CPU" and auto_takes_int8(style):
        return "int8"
    return "bf16" if native else "f32"


def resolved_precision(style: Style, precision: Precision, device: str) -> Precision:
    """Return what a precision is on a device.

    Raises:
        SettingError: There is no such device, or it has no such precision.
    """
    check_precision("openvino", precision)
    available = the_core().available_devices
    if device not in available:
        raise SettingError(f"openvino has no device {device!r} (available: {', '.join(available)})")
    if precision == "auto":
        precision = _auto_precision(style, device)
    if precision == "bf16" and not native_bf16(device):
        raise SettingError("precision bf16 needs a CPU with AVX512-BF16 or AMX: take f32 or int8")
    return precision


def device_label(device: str) -> str:
    """Return a device's full name."""
    return f"{the_core().get_property(device, 'FULL_DEVICE_NAME')}".strip()


def compiled_network(
    model: onnx.ModelProto, precision: Precision, mode: Mode, device: str, label: str
) -> ov.CompiledModel:
    """Compile a graph; in ``throughput`` mode with a stream for each core, so that cores never wait for one another.

    Raises:
        BackendUnavailableError: OpenVINO refuses it; ``label`` says what it is.
    """
    core, streams = the_core(), cores()
    options: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "PERFORMANCE_HINT": "THROUGHPUT" if mode == "throughput" else "LATENCY",
        "NUM_STREAMS": streams if mode == "throughput" else 1,
    }
    if device == "CPU":
        options["INFERENCE_NUM_THREADS"] = streams  # it knows nothing of a container's quota
    try:
        return core.compile_model(core.read_model(model.SerializeToString()), device, options)
    except RuntimeError as error:
        reason = next((line for line in reversed(str(error).splitlines()) if line.strip()), "it says nothing")
        version = ov.__version__.partition("-")[0]
        raise BackendUnavailableError(f"openvino {version} cannot load {label}: {reason.strip()}") from error


@dataclass
class _RequestSlot:
    """One inference request and the arrays that it reads and writes."""

    request: ov.InferRequest
    source: NDArray[np.uint8]
    canvas: NDArray[np.uint8]
    strength: NDArray[np.float32]
    stylized: NDArray[np.uint8]
    laid: object = None
    """Key of the canvas that is there."""
    controls: Controls | None = None


class OpenVinoEngine(Engine):
    """See ``rtstyle.backends.Engine``.

    In ``throughput`` mode each core works on a frame of its own (no waiting for one another); in
    ``latency`` mode all cores work on one frame.
    """

    backend: BackendName = "openvino"

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
        name = device or "CPU"
        precision = resolved_precision(style, precision, name)
        self.precision: str = precision
        self.device = device_label(name)
        self.size, self.color = size, color
        self._packing = Packing(size)
        rows, columns = self._packing.rows, self._packing.columns
        self._layer = style.layer(size, color, joined=True)
        trunk, ranges = style.int8 if precision == "int8" else (style.trunk, None)
        model = graph.deployed(trunk, color, rows, columns, ranges)
        compiled = compiled_network(model, precision, mode, name, f"{style.name!r} at {size}")
        self.in_flight = cores() + 1 if mode == "throughput" else 1
        self._free = [self._make_slot(compiled, rows, columns, self._layer.channels) for _ in range(self.in_flight)]
        self._inside: deque[tuple[_RequestSlot, Frame]] = deque()

    @staticmethod
    def _make_slot(compiled: ov.CompiledModel, rows: int, columns: int, channels: int) -> _RequestSlot:
        source = np.zeros((1, rows, columns, graph.PLANE_CHANNELS), np.uint8)
        canvas = np.zeros((1, rows, columns, channels), np.uint8)
        strength = np.zeros(graph.PLANE_CHANNELS, np.float32)
        stylized = np.zeros_like(source)
        request = compiled.create_infer_request()
        for tensor, array in ((graph.SOURCE, source), (graph.CANVAS, canvas), (graph.STRENGTH, strength)):
            request.set_tensor(tensor, ov.Tensor(array, shared_memory=True))
        request.set_tensor(graph.STYLIZED, ov.Tensor(stylized, shared_memory=True))
        return _RequestSlot(request, source[0], canvas[0], strength, stylized[0])

    def submit(self, frame: Frame, controls: Controls = Controls()) -> None:
        check_frame(self, frame, len(self._inside))
        slot = self._free.pop()
        self._packing.pack(frame.planes, slot.source)
        key = self._layer.key(frame)
        if key is None or slot.laid != key:
            self._layer.lay(frame, slot.canvas)
            slot.laid = key
        if slot.controls != controls:
            slot.strength[:] = graph.strength_of(controls.luma, controls.chroma)
            slot.controls = controls
        slot.request.start_async()
        self._inside.append((slot, frame))

    def next(self) -> Frame:
        if not self._inside:
            raise ValueError("no frame is in flight: call submit() first")
        slot, frame = self._inside.popleft()
        try:
            slot.request.wait()
            return frame.with_planes(self._packing.unpack(slot.stylized))
        finally:
            self._free.append(slot)

    def close(self) -> None:
        for slot, _ in self._inside:
            with contextlib.suppress(RuntimeError):
                slot.request.cancel()
                slot.request.wait()
        self._inside.clear()
        self._free.clear()

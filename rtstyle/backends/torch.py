"""The torch engine: the reference for all others on a CPU, and CUDA without TensorRT."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from rtstyle import graph
from rtstyle.backends.engine import BackendName, Controls, Engine, Mode, Precision, check_frame, check_precision
from rtstyle.errors import BackendUnavailableError, DeviceError, SettingError
from rtstyle.frame import MARGIN, Color, Frame, Packing, Size
from rtstyle.generator import Generator, with_weights
from rtstyle.style import Style

_TYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}

_WARM_UP = 3
"""Runs before a capture, as torch advises: libraries choose their kernels in them."""


def generator_of(weights: graph.Weights) -> Generator:
    """Make the torch network of a trunk's weights."""
    return with_weights({name: torch.from_numpy(w.copy()) for name, w in weights.items()})


def _channels_last(generator: Generator, device: torch.device, precision: str) -> Generator:
    generator.to(device, _TYPES[precision])
    return nn.Module.to(generator, memory_format=torch.channels_last)  # type: ignore[no-any-return, call-overload]


def open_torch(
    style: Style,
    size: Size,
    color: Color,
    *,
    precision: Precision = "auto",
    mode: Mode = "throughput",
    device: str | None = None,
) -> Engine:
    """Open a style in torch: on CUDA in a ring of pinned buffers, float16; on a CPU plainly, float32.

    Raises:
        BackendUnavailableError: There is a GPU, but no cuda-bindings.
        SettingError: Torch has no such device, or it does not compute in this precision.
    """
    check_precision("torch", precision)
    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(name)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise SettingError(f"torch has no device {name!r}: {str(error).splitlines()[0]}") from error
    if chosen.type == "cuda":
        return _open_cuda(style, size, color, precision, mode, chosen)
    if precision == "f16":
        raise SettingError("precision f16 needs a GPU; a CPU has f32 and bf16")
    # The reference runs in float32 unless the caller asks otherwise.
    return TorchEngine(style, size, color, "f32" if precision == "auto" else precision, chosen)


class TorchEngine(Engine):
    """See ``rtstyle.backends.Engine``. One frame at a time, computed in ``submit``."""

    backend: BackendName = "torch"

    def __init__(self, style: Style, size: Size, color: Color, precision: str, device: torch.device) -> None:
        self._device = device
        self.precision = precision
        self.device = "CPU" if device.type == "cpu" else str(device)
        self.size, self.color, self.in_flight = size, color, 1
        self._packing = Packing(size)
        self._layer = style.layer(size, color)
        self._toned = style.trunk.toned
        shape = (self._packing.rows, self._packing.columns)
        self._source = np.zeros((*shape, graph.PLANE_CHANNELS), np.uint8)
        self._canvas = np.zeros((*shape, self._layer.channels), np.uint8)
        # Gated strokes want colors as the style was trained in; so samples are converted here and back again.
        self._generator = _channels_last(generator_of(style.trunk.weights), device, precision)
        self._into, self._back = (torch.from_numpy(m).to(device) for m in graph.cell_matrices(color))
        centre = torch.tensor(graph.centre_of(color), device=self._device)
        self._centre = centre.view(1, -1, 1, 1)
        self._done: deque[Frame] = deque()

    @torch.inference_mode()
    def submit(self, frame: Frame, controls: Controls = Controls()) -> None:
        check_frame(self, frame, len(self._done))
        self._packing.pack(frame.planes, self._source)
        self._layer.lay(frame, self._canvas)
        samples = torch.from_numpy(self._source).to(self._device).permute(2, 0, 1)[None].float()
        canvas = torch.from_numpy(self._canvas).to(self._device).permute(2, 0, 1)[None].float()
        source = samples
        if self._toned:
            source, canvas = torch.cat((canvas[:, :16], samples[:, 16:]), 1), canvas[:, 16:]
        strength = torch.from_numpy(graph.strength_of(controls.luma, controls.chroma)).to(self._device)[:, None, None]
        kind = _TYPES[self.precision]
        canonical = torch.einsum("oi,nihw->nohw", self._into, source - self._centre)
        style = self._generator(canonical.to(kind), ((canvas - 128) / 64).to(kind)).float()
        residual = torch.einsum("oi,nihw->nohw", self._back, style) + (source - samples)
        stylized = torch.floor((samples + strength * residual).clamp(0, 255) + 0.5).to(torch.uint8)
        packed = np.ascontiguousarray(stylized[0].permute(1, 2, 0).cpu().numpy())
        self._done.append(frame.with_planes(self._packing.unpack(packed)))

    def next(self) -> Frame:
        if not self._done:
            raise ValueError("no frame is in flight: call submit() first")
        return self._done.popleft()

    def close(self) -> None:
        self._done.clear()


# -- CUDA ------------------------------------------------------------------------------------------


def _open_cuda(
    style: Style, size: Size, color: Color, precision: Precision, mode: Mode, device: torch.device
) -> Engine:
    from rtstyle.backends.cuda import CudaDevice
    from rtstyle.backends.ring import SLOTS, RingEngine

    chosen = "f16" if precision == "auto" else precision
    try:
        return RingEngine(
            backend="torch",
            precision=chosen,
            device=CudaDevice(device.index or 0),
            network=TorchNetwork(style, size, chosen, device),
            layer=style.layer(size, color),
            size=size,
            color=color,
            slots=SLOTS if mode == "throughput" else 1,
        )
    except (DeviceError, torch.OutOfMemoryError) as error:
        raise BackendUnavailableError(f"{device} cannot take {size}: {str(error).splitlines()[0]}") from error


class PlanarGenerator(nn.Module):
    """What ``graph.planar`` is, in torch; but samples and residual are added in float32."""

    def __init__(
        self, generator: Generator, kind: torch.dtype, layout: graph.Layout = "i420", *, toned: bool = False
    ) -> None:
        super().__init__()
        self.generator, self.kind, self.layout, self.toned = generator, kind, layout, toned

    def forward(
        self, source: Tensor, canvas: Tensor, strength: Tensor, centre: Tensor, into: Tensor, back: Tensor
    ) -> Tensor:
        """Stylize a frame.

        Args:
            source, canvas: As ``graph.planar_shapes`` says, uint8.
            strength, centre, into, back: As ``graph.planar`` says, float32.

        Returns:
            Like ``source``, uint8.
        """
        kind = self.kind
        lines, width = source.shape[2:]
        height, half = lines * 2 // 3, (lines // 3, width // 2)
        y = source[:, :, :height].float()
        chroma = source[0, 0, height:].float()
        interleaved = self.layout == "nv12"
        uv = chroma.reshape(1, *half, 2).permute(0, 3, 1, 2) if interleaved else chroma.reshape(1, 2, *half)
        cells = torch.cat((_space_to_depth(y, 4, MARGIN), _space_to_depth(uv, 2, MARGIN // 2)), 1).permute(0, 2, 3, 1)
        source, canvas = cells, canvas.float()
        if self.toned:
            source, canvas = torch.cat((canvas[..., :16], cells[..., 16:]), 3), canvas[..., 16:]
        x = ((source - centre).to(kind) @ into.to(kind)).permute(0, 3, 1, 2)
        z = ((canvas - 128) / 64).to(kind).permute(0, 3, 1, 2)
        style = self.generator(x, z).permute(0, 2, 3, 1)
        change = (style @ back.to(kind)).float() + (source - cells)
        residual = (change * strength).permute(0, 3, 1, 2)
        y = y + _depth_to_space(residual[:, :16], 4, MARGIN)
        uv = uv + _depth_to_space(residual[:, 16:], 2, MARGIN // 2)
        if interleaved:
            uv = uv.permute(0, 2, 3, 1)
        stylized = torch.cat((y, uv.reshape(1, 1, half[0], width)), 2)
        return (stylized.clamp(0, 255) + 0.5).to(torch.uint8)


def _space_to_depth(planes: Tensor, block: int, margin: int) -> Tensor:
    """Repeat the edge, then space-to-depth; channels as in ONNX: those of one place side by side."""
    n, c = planes.shape[:2]
    cells = nn.functional.pixel_unshuffle(nn.functional.pad(planes, (margin,) * 4, mode="replicate"), block)
    return cells.reshape(n, c, block * block, *cells.shape[2:]).transpose(1, 2).flatten(1, 2)


def _depth_to_space(cells: Tensor, block: int, margin: int) -> Tensor:
    """Undo ``_space_to_depth``."""
    n, c = cells.shape[:2]
    split = cells.reshape(n, block * block, c // (block * block), *cells.shape[2:]).transpose(1, 2).flatten(1, 2)
    return nn.functional.pixel_shuffle(split, block)[..., margin:-margin, margin:-margin]


class TorchNetwork:
    """A planar generator in torch, as ``ring.Network``; on CUDA a graph is captured for each slot."""

    def __init__(
        self, style: Style, size: Size, precision: str, device: torch.device, layout: graph.Layout = "i420"
    ) -> None:
        generator = _channels_last(generator_of(style.trunk.weights), device, precision)
        self._module = PlanarGenerator(generator, _TYPES[precision], layout, toned=style.trunk.toned)
        self._channels = style.trunk.canvas_channels
        self._exact = precision == "f32"
        self.layout = layout
        self._size, self._device = size, device
        self._graphs: list[torch.cuda.CUDAGraph] = []

    def prepare(self, addresses: Mapping[str, int], stream: int) -> Callable[[], None]:
        """See ``ring.Network``. On a CPU, the stream is not looked at, and what is returned computes at once."""
        shapes: dict[str, tuple[int, ...]] = dict(graph.planar_shapes(self._size, self._channels))
        shapes[graph.STYLIZED] = shapes[graph.SOURCE]
        tensors = {name: _tensor_at(self._device, addresses[name], shape, "|u1") for name, shape in shapes.items()}
        for name, shape in (
            (graph.STRENGTH, (24,)),
            (graph.CENTRE, (24,)),
            (graph.INTO, (24, 24)),
            (graph.BACK, (24, 24)),
        ):
            tensors[name] = _tensor_at(self._device, addresses[name], shape, "<f4")
        stylized = tensors.pop(graph.STYLIZED)

        @torch.inference_mode()
        def run() -> None:
            stylized.copy_(self._module(**tensors))

        return run if self._device.type == "cpu" else self._capture(run, stream)

    def _capture(self, run: Callable[[], None], stream: int) -> Callable[[], None]:
        ours = torch.cuda.ExternalStream(stream, device=self._device)  # type: ignore[no-untyped-call]
        captured = torch.cuda.CUDAGraph()
        fast = torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=not self._exact)
        with torch.cuda.device(self._device), fast:
            with torch.cuda.stream(ours):
                for _ in range(_WARM_UP):
                    run()
            ours.synchronize()
            # Other threads may allocate meanwhile: an engine that runs, a decoder on the GPU.
            with torch.cuda.graph(captured, stream=ours, capture_error_mode="thread_local"):
                run()
        self._graphs.append(captured)

        def replay() -> None:
            with torch.cuda.stream(ours):
                captured.replay()

        return replay

    def close(self) -> None:
        """See ``ring.Network``."""
        self._graphs.clear()


class _Memory:
    """Memory on a GPU that another object owns, for ``torch.as_tensor`` (CUDA array interface, version 3)."""

    def __init__(self, address: int, shape: tuple[int, ...], kind: str) -> None:
        self.__cuda_array_interface__ = {"shape": shape, "typestr": kind, "data": (address, False), "version": 3}


def _tensor_at(device: torch.device, address: int, shape: tuple[int, ...], kind: str) -> Tensor:
    if device.type == "cuda":
        return torch.as_tensor(_Memory(address, shape, kind), device=device)
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    memory = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
    return torch.from_numpy(memory.view(kind).reshape(shape))

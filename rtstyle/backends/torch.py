"""The torch engine: the reference for all others, and CUDA without TensorRT."""

from __future__ import annotations

from collections import deque

import numpy as np
import torch

from rtstyle import graph
from rtstyle.backends import BackendName, Controls, Engine, Mode, Precision, check_frame
from rtstyle.canvas import CanvasCutter
from rtstyle.errors import SettingError
from rtstyle.frame import Colour, Frame, Packing, Size
from rtstyle.generator import Generator
from rtstyle.style import Style

_TYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def generator_of(weights: graph.Weights) -> Generator:
    """Make the torch network of a trunk's weights; its size is read off their shapes."""
    channels, deep = weights["tail.weight"].shape[1], weights["down.conv.weight"].shape[0]
    blocks = sum(name.endswith("first.conv.weight") for name in weights)
    generator = Generator(channels, deep, blocks)
    generator.load_state_dict({name: torch.from_numpy(w.copy()) for name, w in weights.items()})
    return generator.eval()


class TorchEngine(Engine):
    """See ``rtstyle.backends.Engine``. One frame at a time, computed in ``submit``."""

    backend: BackendName = "torch"

    def __init__(
        self,
        style: Style,
        size: Size,
        colour: Colour,
        *,
        precision: Precision = "auto",
        mode: Mode = "throughput",
        device: str | None = None,
    ) -> None:
        name = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            self._device = torch.device(name)
            torch.empty(1, device=self._device)
        except (RuntimeError, AssertionError) as error:
            raise SettingError(f"torch has no device {name!r}: {str(error).splitlines()[0]}") from error
        # The reference runs in float32 unless it is told otherwise.
        self.precision: str = "f32" if precision == "auto" else precision
        self.device = torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else "CPU"
        self.size, self.colour, self.in_flight = size, colour, 1
        self._packing = Packing(size)
        self._cutter = CanvasCutter(self._packing.rows, self._packing.columns)
        shape = (self._packing.rows, self._packing.columns)
        self._picture = np.zeros((*shape, graph.PLANE_CHANNELS), np.uint8)
        self._canvas = np.zeros((*shape, graph.CANVAS_CHANNELS), np.uint8)
        generator = generator_of(graph.fold_colour(style.trunk.weights, colour))
        generator.to(self._device, _TYPES[self.precision])
        self._generator: Generator = torch.nn.Module.to(generator, memory_format=torch.channels_last)  # type: ignore[call-overload]
        centre = torch.tensor(graph.centre_of(colour), device=self._device)
        self._centre = centre.view(1, -1, 1, 1)
        self._done: deque[Frame] = deque()

    @torch.inference_mode()
    def submit(self, frame: Frame, controls: Controls = Controls()) -> None:
        check_frame(self, frame, len(self._done))
        self._packing.pack(frame.planes, self._picture)
        self._cutter.cut(frame.canvas, self._canvas)
        samples = torch.from_numpy(self._picture).to(self._device).permute(2, 0, 1)[None].float()
        canvas = torch.from_numpy(self._canvas).to(self._device).permute(2, 0, 1)[None].float() - 128
        strength = torch.from_numpy(graph.strength_of(controls.luma, controls.chroma)).to(self._device)[:, None, None]
        kind = _TYPES[self.precision]
        style = self._generator((samples - self._centre).to(kind), canvas.to(kind)).float()
        stylized = torch.floor((samples + strength * style).clamp(0, 255) + 0.5).to(torch.uint8)
        packed = np.ascontiguousarray(stylized[0].permute(1, 2, 0).cpu().numpy())
        self._done.append(frame.with_planes(self._packing.unpack(packed)))

    def next(self) -> Frame:
        if not self._done:
            raise ValueError("no frame is in flight: call submit() first")
        return self._done.popleft()

    def close(self) -> None:
        self._done.clear()

"""EfficientNet-Lite0, the independent judge of content: no loss trains on it, so its verdict means something."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

# (expand, kernel, stride, channels, repeat) of each row of Tan and Le 2019, table 1, without squeeze-and-excitation.
_ROWS = (
    (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1),
)  # fmt: skip


class EfficientNetLite0:
    """The ImageNet classifier of Tan and Le 2019, "EfficientNet", in its Lite form (ReLU6, no excitation)."""

    def __init__(self, weights: Path) -> None:
        self._state = {name: value.float() for name, value in load_file(weights).items()}

    def _conv(self, x: Tensor, name: str, norm: str, stride: int = 1, *, depthwise: bool = False) -> Tensor:
        """Convolve as TensorFlow pads ("same": the odd pixel at the end), then normalise."""
        weight = self._state[f"{name}.weight"]
        pads = []
        for side in (x.shape[3], x.shape[2]):
            total = max((-(-side // stride) - 1) * stride + weight.shape[-1] - side, 0)
            pads += [total // 2, total - total // 2]
        x = functional.conv2d(functional.pad(x, pads), weight, None, stride, groups=x.shape[1] if depthwise else 1)
        mean, var, scale, shift = (
            self._state[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return functional.batch_norm(x, mean, var, scale, shift, eps=1e-3)

    @torch.no_grad()
    def __call__(self, rgb: NDArray[np.uint8]) -> tuple[Tensor, int]:
        """Look at the largest centred square of an image (h, w, 3).

        Returns:
            The embedding before the last layer, shape (1280,), and the likeliest class.
        """
        side = min(rgb.shape[:2])
        top, left = (rgb.shape[0] - side) // 2, (rgb.shape[1] - side) // 2
        square = cv2.resize(rgb[top : top + side, left : left + side], (224, 224), interpolation=cv2.INTER_AREA)
        x = (torch.from_numpy(square).permute(2, 0, 1)[None].float() - 127) / 128
        x = functional.relu6(self._conv(x, "_conv_stem", "_bn0", 2))
        number = 0
        for expand, _, first_stride, channels, repeat in _ROWS:
            for index in range(repeat):
                name, stride, before = f"_blocks.{number}", first_stride if index == 0 else 1, x
                if expand > 1:
                    x = functional.relu6(self._conv(x, f"{name}._expand_conv", f"{name}._bn0"))
                x = functional.relu6(self._conv(x, f"{name}._depthwise_conv", f"{name}._bn1", stride, depthwise=True))
                x = self._conv(x, f"{name}._project_conv", f"{name}._bn2")
                if stride == 1 and before.shape[1] == channels:
                    x = x + before
                number += 1
        embedding = functional.relu6(self._conv(x, "_conv_head", "_bn1")).mean((2, 3))[0]
        scores = self._state["_fc.weight"] @ embedding + self._state["_fc.bias"]
        return cast(Tensor, embedding), int(scores.argmax())

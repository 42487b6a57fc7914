"""The generator network in torch: the one definition that training, export and tests share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

PLANE_CHANNELS = 24
"""Channels of a packed frame: 16 of Y, then 4 of U, then 4 of V, each in row order in the cell."""

CANVAS_CHANNELS = 16
"""Channels of a canvas of plain noise: the 4x4 pixels of a cell, in row order."""

STEERED_CHANNELS = 40
"""Channels of a steered canvas, see ``rtstyle.canvas.steering``."""

STROKE_CHANNELS, HUE_CHANNELS = 32, 4
"""Of a steered canvas, those that the gate multiplies: 4x4 values, 4x4 reliefs, then 2x2 hues."""

GATES = 4
"""What the gate gives each cell: how much of value and relief goes into luma, of the hue into U and V."""

SHAPES = {"fast": (16, 32, 3), "default": (32, 64, 3), "fine": (64, 128, 3)}
"""Channels at 1/4, channels at 1/8 and residual blocks of each size class."""


def _conv(inputs: int, outputs: int, *, stride: int = 1, kernel: int = 3, groups: int = 1) -> nn.Sequential:
    """Make a convolution with zero padding; its weights are named ``conv.weight`` and ``conv.bias``."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups)
    return nn.Sequential(OrderedDict({"conv": conv}))


class _Residual(nn.Module):
    """Two 3x3 convolutions around which the input is added (He et al. 2016)."""

    def __init__(self, channels: int, *, groups: int) -> None:
        super().__init__()
        self.first = _conv(channels, channels, groups=groups)
        self.second = _conv(channels, channels, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        return x + cast(Tensor, self.second(torch.relu(self.first(x))))


class Generator(nn.Module):
    """The style residual S(x, z) of ``G(x, z) = x + strength * S(x, z)``.

    Everything is planar YUV 4:2:0, packed by space-to-depth(4): ``x`` is a frame in the canonical
    color (BT.709, full range, centred: Y - 0.5 and U, V around 0, so in [-0.5, 0.5]); ``z`` is the
    canvas in [-2, 2]; both have a quarter of the frame's height and width, which must be even.

    The trunk works at 1/4 with ``channels`` and at 1/8 with ``deep`` channels; at 1/4 of the pixels a
    3x3 convolution sees 12 luma pixels, so little work is done where it is expensive. S has a linear skip, so
    that it can take the source away exactly.

    On a steered canvas a ``gate``, four more channels at 1/4, multiplies the strokes themselves and adds them to the
    residual: they come out as crisp as they lie there, which few channels per cell could not draw.

    Several ``groups`` of channels are several generators side by side, whose residuals are added up: a blend.
    """

    def __init__(
        self,
        channels: int = 32,
        deep: int = 64,
        blocks: int = 3,
        *,
        canvas: int = CANVAS_CHANNELS,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.shape = (channels, deep, blocks)
        self.canvas = canvas
        self.stem = _conv(PLANE_CHANNELS + canvas, channels)
        self.down = _conv(channels, deep, stride=2, groups=groups)
        self.blocks = nn.Sequential(*(_Residual(deep, groups=groups) for _ in range(blocks)))
        self.up = _conv(deep, 4 * channels, kernel=1, groups=groups)
        self.fuse = _conv(channels, channels, groups=groups)
        self.tail = nn.Conv2d(channels, PLANE_CHANNELS, 3, padding=1)
        self.skip = nn.Conv2d(PLANE_CHANNELS, PLANE_CHANNELS, 1, bias=False)
        started = [self.tail.weight, self.tail.bias, self.skip.weight]
        if self.steered:
            self.gate = nn.Conv2d(channels, GATES, 3, padding=1)
            started += [self.gate.weight, self.gate.bias]
        # Training starts at the identity: S = 0.
        for weights in started:
            assert weights is not None
            nn.init.zeros_(weights)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """Return the style residual.

        Args:
            x: Shape (n, 24, h, w), float, canonical color.
            z: Shape (n, 16 or 40, h, w), float, in [-2, 2].

        Returns:
            Shape (n, 24, h, w), in the units of ``x``.
        """
        style, *gains = self.parts(x, z)
        return style + gated(gains[0], z) if gains else style

    @property
    def steered(self) -> bool:
        """Whether it draws on a steered canvas."""
        return self.canvas == STEERED_CHANNELS

    def parts(self, x: Tensor, z: Tensor) -> tuple[Tensor, ...]:
        """Return the residual without gated strokes, shape (n, 24, h, w), and on a steered canvas the gains of those,
        shape (n, 4, h, w)."""
        stem = torch.relu(self.stem(torch.cat((x, z), 1)))  # (n, 32, h, w)
        deep = self.blocks(torch.relu(self.down(stem)))  # (n, 64, h/2, w/2)
        up = nn.functional.pixel_shuffle(self.up(torch.relu(deep)), 2)  # (n, 32, h, w)
        fused = torch.relu(self.fuse(torch.relu(up + stem)))
        style = self.tail(fused) + self.skip(x)
        return (style, self.gate(fused)) if self.steered else (style,)


def gated(gains: Tensor, z: Tensor) -> Tensor:
    """Multiply the strokes of a steered canvas.

    Args:
        gains: Shape (n, 4, h, w): of value and relief in luma, of the hue in U and in V.
        z: Shape (n, 40, h, w).

    Returns:
        Shape (n, 24, h, w), a residual.
    """
    luma = gains[:, :1] * z[:, :16] + gains[:, 1:2] * z[:, 16:STROKE_CHANNELS]
    hue = z[:, STROKE_CHANNELS : STROKE_CHANNELS + HUE_CHANNELS]
    return torch.cat((luma, hue * gains[:, 2:3], hue * gains[:, 3:4]), 1)


def with_weights(state: Mapping[str, Tensor]) -> Generator:
    """Return the generator that has these weights; its shape is read off theirs."""
    channels, deep = state["tail.weight"].shape[1], state["down.conv.weight"].shape[0]
    blocks = sum(name.endswith("first.conv.weight") for name in state)
    groups = channels // state["fuse.conv.weight"].shape[1]  # of a blend, one for each style
    canvas = state["stem.conv.weight"].shape[1] - PLANE_CHANNELS
    generator = Generator(channels, deep, blocks, canvas=canvas, groups=groups)
    generator.load_state_dict(state)
    return generator.eval()


def pack(y: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Space-to-depth the planes of a frame, whose size is a multiple of 4.

    Args:
        y: Shape (n, 1, 4h, 4w).
        u, v: Shape (n, 1, 2h, 2w).

    Returns:
        Shape (n, 24, h, w).
    """
    unshuffle = nn.functional.pixel_unshuffle
    return torch.cat((unshuffle(y, 4), unshuffle(u, 2), unshuffle(v, 2)), 1)


def unpack(packed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Undo ``pack``: shape (n, 24, h, w) to Y of (n, 1, 4h, 4w) and U, V of (n, 1, 2h, 2w)."""
    shuffle = nn.functional.pixel_shuffle
    return shuffle(packed[:, :16], 4), shuffle(packed[:, 16:20], 2), shuffle(packed[:, 20:], 2)

"""Losses as pure functions, each with its paper, and the networks that measure them.

Images are RGB, shape (n, 3, h, w), in [0, 1], unless a docstring says otherwise.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

VGG_LAYERS = ("relu1_2", "relu2_2", "relu3_3")
"""Where Gram matrices are compared, the last of each block; relu4_3 has half as many operations again."""

_VGG_PLAN = ((1, 2, 3, 64), (2, 2, 64, 128), (3, 3, 128, 256), (4, 3, 256, 512))


class Vgg16(nn.Module):
    """Convolutions of VGG16 (Simonyan and Zisserman 2015), frozen: the first three blocks of them, or four.

    Weights: the Oxford group's ImageNet "D" network, CC BY 4.0; keys ``convB_N.weight`` (RGB) and
    ``.bias``. They take ``255 * rgb - mean``. Activations reach 8000: run it in float32 or bfloat16.

    Args:
        blocks: How many blocks are loaded. The fourth one's features, relu4_3, see 92 pixels; relu3_3 sees 40.
    """

    def __init__(self, weights: Path, blocks: int = len(VGG_LAYERS)) -> None:
        super().__init__()
        self.blocks = blocks
        state = {name: value.float() for name, value in load_file(weights).items()}
        for block, layers, inputs, outputs in _VGG_PLAN[:blocks]:
            for layer in range(1, layers + 1):
                name = f"conv{block}_{layer}"
                conv = nn.Conv2d(inputs if layer == 1 else outputs, outputs, 3, padding=1)
                conv.load_state_dict({"weight": state[f"{name}.weight"], "bias": state[f"{name}.bias"]})
                self.add_module(name, conv)
        # Scale and means are folded into the first convolution, so that its edge can be replicated.
        weight, bias = self.conv1_1.weight.data, self.conv1_1.bias.data
        mean = torch.tensor([123.68, 116.779, 103.939])
        self.color = nn.Conv2d(3, 64, 3, padding=1, padding_mode="replicate")
        self.color.weight.data = 255 * weight
        self.color.bias.data = bias - (weight.sum((2, 3)) * mean).sum(1)
        self.requires_grad_(False).eval().to(memory_format=torch.channels_last)

    def forward(self, picture: Tensor) -> list[Tensor]:
        """Return the last features of each block: ``VGG_LAYERS``, then relu4_3 where four blocks were loaded.

        Args:
            picture: Shape (n, 3, h, w), RGB in [0, 1].
        """
        plan = _VGG_PLAN[: self.blocks]
        features, x = [], torch.relu(self.color(picture))
        for block, layers, _, _ in plan:
            for layer in range(2 if block == 1 else 1, layers + 1):
                x = torch.relu(getattr(self, f"conv{block}_{layer}")(x))
            features.append(x)
            if block < len(plan):
                x = functional.max_pool2d(x, 2)
        return features


def gram_matrix(features: Tensor) -> Tensor:
    """Correlate the channels of a feature map with each other: (n, c, h, w) to (n, c, c).

    Divided by c*h*w, so that maps of different sizes give values of the same scale.
    Source: Johnson, Alahi and Fei-Fei 2016, "Perceptual Losses for Real-Time Style Transfer", 3.2.
    """
    n, c, h, w = features.shape
    flat = features.float().reshape(n, c, h * w)
    return flat @ flat.transpose(1, 2) / (c * h * w)


def consistency_term(first: Tensor, second: Tensor, border: int = 0) -> Tensor:
    """Mean squared difference of two images that must be equal, without a border (pixels).

    After Gupta et al. 2017, "Characterizing and Improving Stability in Neural Style Transfer".
    """
    height, width = first.shape[-2:]
    return ((first - second)[..., border : height - border, border : width - border] ** 2).mean()


class Discriminator(nn.Module):
    """Patch discriminator with spectral norm: strokes, real or made? Sees 38 pixels per verdict.

    Small patches, so that it learns how strokes look and not what drawings usually show. Shape
    (n, 3, h, w) to (n, 1, h/4, w/4), no unit. Sources: Isola et al. 2017 (PatchGAN); Miyato et al. 2018.
    """

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        sizes = (
            (3, width, 4, 2),
            (width, 2 * width, 4, 2),
            (2 * width, 4 * width, 3, 1),
            (4 * width, 4 * width, 3, 1),
        )
        layers: list[nn.Module] = []
        for inputs, outputs, kernel, stride in sizes:
            conv = nn.Conv2d(inputs, outputs, kernel, stride, 1, padding_mode="reflect")
            layers += [nn.utils.parametrizations.spectral_norm(conv), nn.LeakyReLU(0.2)]
        last = nn.Conv2d(4 * width, 1, 3, padding=1, padding_mode="reflect")
        self.layers = nn.Sequential(*layers, nn.utils.parametrizations.spectral_norm(last))

    def forward(self, picture: Tensor) -> Tensor:
        verdict: Tensor = self.layers(2 * picture - 1)
        return verdict


def hinge_discriminator(real: Tensor, made: Tensor) -> Tensor:
    """Hinge loss of the discriminator (Lim and Ye 2017, "Geometric GAN")."""
    return torch.relu(1 - real).mean() + torch.relu(1 + made).mean()


def hinge_generator(made: Tensor) -> Tensor:
    """Hinge loss of the generator: minus the mean verdict (Lim and Ye 2017)."""
    return -made.mean()

"""Losses as pure functions, each with its paper, and the networks that measure them.

Images are grey, shape (n, 1, h, w), or RGB, (n, 3, h, w), in [0, 1], unless a docstring says otherwise.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce
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
        # Scale and means are folded into the first convolution, so that its edge can be replicated. A grey image
        # has three equal channels: for those it sums its inputs, once and for all.
        weight, bias = self.conv1_1.weight.data, self.conv1_1.bias.data
        mean = torch.tensor([123.68, 116.779, 103.939])
        self.color = nn.Conv2d(3, 64, 3, padding=1, padding_mode="replicate")
        self.color.weight.data = 255 * weight
        self.grey = nn.Conv2d(1, 64, 3, padding=1, padding_mode="replicate")
        self.grey.weight.data = 255 * weight.sum(1, keepdim=True)
        self.color.bias.data = self.grey.bias.data = bias - (weight.sum((2, 3)) * mean).sum(1)
        self.requires_grad_(False).eval().to(memory_format=torch.channels_last)

    def forward(self, picture: Tensor, blocks: int | None = None) -> list[Tensor]:
        """Return the last features of each block: ``VGG_LAYERS``, then relu4_3 where four blocks are asked for.

        Args:
            picture: Shape (n, 1 or 3, h, w), grey or RGB in [0, 1].
            blocks: Stop after so many, at most those that were loaded; None runs all of them.
        """
        plan = _VGG_PLAN[: self.blocks if blocks is None else min(blocks, self.blocks)]
        first = self.grey if picture.shape[1] == 1 else self.color
        features, x = [], torch.relu(first(picture))
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


def style_terms(features: list[Tensor], targets: list[Tensor]) -> list[Tensor]:
    """Distance of the batch's mean Gram matrix at each layer to its target, as a share of the target's energy.

    So 0 is equal, about 1 is unrelated, and a weight means the same for all styles. The mean over the
    batch is compared, not each image: a single crop need not hold every kind of stroke.

    Args:
        features: Per layer (n, c, h, w).
        targets: Per layer (c, c).
    """
    grams = (_mean_of_processes(gram_matrix(layer).mean(0)) for layer in features)
    return [((gram - target) ** 2).sum() / (target**2).sum() for gram, target in zip(grams, targets, strict=True)]


def _mean_of_processes(value: Tensor) -> Tensor:
    """Average over the processes that share a batch, with the gradient of that."""
    if not distributed.is_initialized():
        return value
    summed: Tensor = all_reduce(value)
    return summed / distributed.get_world_size()


def content_term(features: Tensor, source: Tensor) -> Tensor:
    """Distance of two feature maps after taking out each channel's mean, as a share of the source's energy.

    Means are taken out because a drawing is allowed another tone than its photo (paper is white).
    Source: Gatys, Ecker and Bethge 2016, "Image Style Transfer Using Convolutional Neural Networks".
    """
    features, source = features.float(), source.float()
    centred = source - source.mean((2, 3), keepdim=True)
    difference = features - features.mean((2, 3), keepdim=True) - centred
    return (difference**2).mean() / (centred**2).mean()


def blur(picture: Tensor, sigma: float) -> Tensor:
    """Blur with a Gaussian of ``sigma`` pixels, edges reflected. Shape (n, 1, h, w) in and out."""
    radius = math.ceil(3 * sigma)
    taps = torch.arange(-radius, radius + 1, dtype=picture.dtype, device=picture.device)
    kernel = torch.exp(-0.5 * (taps / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = functional.pad(picture, (radius, radius, radius, radius), mode="reflect")
    return functional.conv2d(functional.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))


def tone_term(output: Tensor, target: Tensor, sigma: float = 6.0) -> Tensor:
    """Mean squared difference of the blurred images: tone belongs to content, only hatching to the canvas."""
    return ((blur(output, sigma) - blur(target, sigma)) ** 2).mean()


def consistency_term(first: Tensor, second: Tensor, border: int = 0) -> Tensor:
    """Mean squared difference of two images that must be equal, without a border (pixels).

    After Gupta et al. 2017, "Characterizing and Improving Stability in Neural Style Transfer".
    """
    height, width = first.shape[-2:]
    return ((first - second)[..., border : height - border, border : width - border] ** 2).mean()


def warping_term(moved: Tensor, expected: Tensor, seen: Tensor, border: int = 0) -> Tensor:
    """Mean squared difference of what became of a moved image, (n, c, h, w), and what became of it, moved.

    After Ruder, Dosovitskiy and Brox 2016, "Artistic style transfer for videos", section 4.2.

    Args:
        seen: Shape (n, 1, h, w), bool: what is not occluded, and counts.
        border: Pixels that do not, either.
    """
    height, width = moved.shape[-2:]
    inner = (..., slice(border, height - border), slice(border, width - border))
    counts = seen[inner].expand_as(moved[inner])
    return ((moved - expected)[inner] ** 2 * counts).sum() / counts.sum().clamp(min=1)


class Discriminator(nn.Module):
    """Patch discriminator with spectral norm: strokes, real or made? Sees 38 pixels per verdict.

    Small patches, so that it learns how strokes look and not what drawings usually show. Shape
    (n, channels, h, w) to (n, 1, h/4, w/4), no unit. Sources: Isola et al. 2017 (PatchGAN); Miyato et al. 2018.
    """

    def __init__(self, channels: int = 1, width: int = 48) -> None:
        super().__init__()
        sizes = (
            (channels, width, 4, 2),
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


def psnr(first: Tensor, second: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of two images in [0, 1]."""
    return float(-10 * torch.log10(((first - second) ** 2).mean() + 1e-12))

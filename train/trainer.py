"""Train a style: generator against a patch discriminator. Read it from top to bottom.

Two stages in one run. Until ``warm_steps`` the generator learns from a painter made in code
(painters.py) where marks belong and what they do to tone and color; no loss network is needed, a step
costs a fifth. From there on it learns from real pictures how marks look: style and content terms of
VGG16, and a discriminator that is trained in alternation. Both stages are tied to themselves: picture and
canvas shifted together must give the shifted output, and noise must change nothing.

Drawings are looked at as luma, paintings in color. A run may start from ``base``, the generator that all
shipped styles were fine-tuned from: it has no normalisation left, so their weights can be interpolated.
"""

from __future__ import annotations

import csv
import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, distributed
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from rtstyle import canvas
from rtstyle.backends.torch import generator_of
from rtstyle.frame import MARGIN
from rtstyle.generator import SHAPES, Generator, folded, pack, unpack, with_weights
from rtstyle.graph import Trunk
from train import data, losses, painters

_MARGINS = (MARGIN, MARGIN // 2, MARGIN // 2)
"""Replicated edge around each plane, as in the deployed engines."""

RIM = 16
"""Pixels around a crop that VGG16 and the discriminator do not see. Where they did, the generator, which knows by its
zero padding where its picture ends, drew the outermost 4 pixels 20 levels lighter than the rest."""

RECOVERIES = 3
"""How often a run goes back to its last checkpoint with half the rate when a gradient is no number."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides the weights; saved in the checkpoint."""

    content: tuple[str, ...]
    """Folders of photos."""
    pictures: tuple[tuple[str, float], ...] = ()
    """The style: pictures or folders of them, each with its share of the batches. Needed after ``warm_steps``."""
    painter: str = "pencil"
    """Who teaches the first stage: a name of ``painters.PAINTERS`` (``palette`` takes the first picture's colors),
    or a style folder, whose pictures of clean photos are imitated from noisy ones: a way to make it stabler."""
    flat_strokes: float = 1.0
    """How strong the strokes of an imitated style are where the photo is empty and no tracker can hold them."""
    color: bool = False
    """Whether the style terms see color (paintings) or luma (drawings)."""
    base: str = ""
    """What to start from: a style folder, or the .safetensors of a folded generator; empty: random weights."""
    size_class: str = "default"
    """Of a generator that starts from random weights: a name of ``generator.SHAPES``; a base decides by itself."""
    vgg: str = str(Path(__file__).parent / "weights" / "vgg16_imagenet_conv1-4.fp16.safetensors")
    seed: int = 1
    steps: int = 6300
    warm_steps: int = 6000
    warm_batch: int = 2
    """Small, and of small crops: in the same time many steps learn more (train/README.md)."""
    warm_crop: int = 128
    batch: int = 3
    crop: int = 192
    shift: int = 7
    """Largest shift in pixels of the consistency term."""
    noise: float = 6.0
    """Largest standard deviation of the noise that the generator has to see through, in levels of 255."""
    light: float = 0.0
    """Largest change of brightness, as a share, that it has to see through as well: cameras correct their exposure."""
    warm_rate: float = 2e-3
    rate: float = 3e-4
    discriminator_rate: float = 4e-4
    ema: float = 0.998

    strokes_weight: float = 1.0
    """Of the painter's luma, in the first stage."""
    strokes_late: float = 1.0
    """The same in the second stage."""
    chroma_weight: float = 2.0
    """Of the painter's chroma, relative to its luma."""
    tone_weight: float = 20.0
    shift_weight: float = 80.0
    warp_weight: float = 0.0
    """Of what becomes of a photo against what becomes of it turned and zoomed a little, the motion undone; the canvas
    stays, as it does at run time. It makes strokes belong to the picture and fainter (train/README.md)."""

    content_weight: float = 0.05
    style_weights: tuple[float, ...] = (0.2, 0.2, 0.1)
    """Of the Gram terms at ``losses.VGG_LAYERS``."""
    adversarial_weight: float = 0.6
    """So that its gradient at the output is about that of the style terms (train/README.md)."""


@dataclass(frozen=True)
class Batch:
    """What one step sees, or one process's share of it; ``full`` is the crop plus room to shift it."""

    photos: Tensor
    """Shape (n, full, full, 3), canonical YUV."""
    painted: Tensor
    """Shape (n, full, full, 3), canonical YUV: each photo as the painter paints it on its canvas."""
    offsets: Tensor
    """Shape (n, 2): where on the canvas each photo lies, (y, x) of its top left."""
    noise: Tensor
    """Shape (2, n, crop, crop, 3): what is added to the two windows on each photo."""
    light: Tensor
    """Shape (2, n): the brightness of the two windows on each photo, about 1."""
    warps: Tensor
    """Shape (n, 2, 3): where each pixel of a turned and zoomed crop comes from, as ``affine_grid`` takes it."""
    windows: Tensor
    """Shape (2, 2): (y, x) of the top left of the two windows in the photos."""
    pictures: Tensor
    """Shape (n, 1 or 3, crop - 2 RIM, crop - 2 RIM): crops of the style's pictures, in the second stage."""


class Batches:
    """The stream of batches: sample ``i`` of batch ``step`` is a pure function of ``(seed, step, i)``.

    So resuming repeats the stream, and processes that share a batch make what one process would make.
    """

    def __init__(self, config: Config, rank: int = 0, world: int = 1) -> None:
        for size in (config.warm_batch, config.batch):
            if size % world:
                raise ValueError(f"{world} processes cannot share a batch of {size}: choose a multiple")
        self.config, self.rank, self.world = config, rank, world
        paths = sorted(p for folder in config.content for p in data.list_pictures(Path(folder)))
        # Every 17th photo is kept for validation and never trained on.
        self.photos = data.load_photos([p for i, p in enumerate(paths) if i % 17], config.warm_crop)
        self.held_out = data.load_photos(paths[::17], config.warm_crop)
        self.pictures: list[NDArray[np.uint8]] = []
        shares: list[float] = []
        for place, share in config.pictures:
            found = data.list_pictures(Path(place))
            self.pictures += data.load_pictures(found, int(config.crop * 1.3), color=config.color)
            shares += [share / len(found)] * len(found)
        self.shares = np.array(shares) / sum(shares) if shares else np.zeros(0)
        self.painter: painters.Painter
        if Path(config.painter).is_dir():
            self.painter = StylePainter(config.painter, config.flat_strokes)
        else:
            self.painter = painters.make(config.painter, self.pictures if config.color else [])

    def batch(self, step: int) -> Batch:
        """Make this process's share of batch ``step``."""
        config = self.config
        warm = step < config.warm_steps
        count, size = (config.warm_batch, config.warm_crop) if warm else (config.batch, config.crop)
        count //= self.world
        full = size + 2 * config.shift + 2
        common = np.random.default_rng((config.seed, step))
        windows = config.shift + common.integers(-config.shift, config.shift + 1, (2, 2))
        photos, painted = np.empty((2, count, full, full, 3), np.float32)
        offsets, noise = np.empty((count, 2), np.int64), np.empty((2, count, size, size, 3), np.float32)
        light, warps = np.empty((2, count), np.float32), np.empty((count, 2, 3), np.float32)
        pictures = []
        for i in range(count):
            rng = np.random.default_rng((config.seed, step, self.rank * count + i))
            rgb = data.photo_crop(self.photos, full, rng)
            offsets[i] = rng.integers(0, canvas.TILE, 2)
            photos[i] = data.to_yuv(rgb)
            painted[i] = data.to_yuv(self.painter(rgb, (int(offsets[i, 0]), int(offsets[i, 1]))))
            levels = rng.random((2, 1, 1, 1)) * (rng.random((2, 1, 1, 1)) < 0.75) * config.noise / 255
            noise[:, i] = levels * rng.standard_normal((2, size, size, 3), np.float32)
            more = np.random.default_rng((config.seed, step, self.rank * count + i, 1))
            light[:, i] = 1 + config.light * more.uniform(-1, 1, 2)
            warps[i] = _small_motion(more)
            if not warm:
                pictures.append(data.picture_crop(self.pictures, self.shares, size - 2 * RIM, rng))
        return Batch(
            photos=torch.from_numpy(photos),
            painted=torch.from_numpy(painted),
            offsets=torch.from_numpy(offsets),
            noise=torch.from_numpy(noise),
            light=torch.from_numpy(light),
            warps=torch.from_numpy(warps),
            windows=torch.from_numpy(windows),
            pictures=torch.from_numpy(np.stack(pictures) if pictures else np.zeros(0, np.float32)),
        )

    def stream(self, start: int) -> Iterator[tuple[int, Batch]]:
        """Yield ``(step, batch)`` from ``start``, one batch made ahead in a thread."""
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(self.batch, start)
            for step in range(start, self.config.steps):
                batch = ahead.result()
                ahead = pool.submit(self.batch, step + 1)
                yield step, batch


def _small_motion(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a rotation of up to 2 degrees, a zoom of up to 3 % and a shift of up to 1 %, shape (2, 3)."""
    angle, zoom = np.deg2rad(rng.uniform(-2, 2)), rng.uniform(0.97, 1.03)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom
    return np.hstack((turn, rng.uniform(-0.02, 0.02, (2, 1))))


def planes_of(yuv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Halve the chroma of (n, h, w, 3) and return Y (n, 1, h, w), U and V (n, 1, h/2, w/2)."""
    y, u, v = (yuv[..., i][:, None] for i in range(3))
    return y, functional.avg_pool2d(u, 2), functional.avg_pool2d(v, 2)


def _leaky_clamp(x: Tensor, low: float, high: float) -> Tensor:
    """Clamp, but let a tenth of what exceeds through, so that it has a gradient."""
    clamped = x.clamp(low, high)
    return clamped + 0.1 * (x - clamped)


def stylize(generator: torch.nn.Module, planes: tuple[Tensor, Tensor, Tensor], z: Tensor) -> tuple[Tensor, Tensor]:
    """Run the generator as it is deployed: the edge replicated by a margin, the canvas continued.

    Args:
        planes: Y (n, 1, h, w), U, V; h and w multiples of 8; canonical color.
        z: Shape (n, 1, h + 16, w + 16): the canvas below picture and margin, in [-2, 2].

    Returns:
        Luma (n, 1, h, w) in [0, 1] and chroma (n, 2, h/2, w/2) in [-0.5, 0.5], but for a tenth of what exceeds them.
    """
    padded = [functional.pad(p, (m,) * 4, mode="replicate") for p, m in zip(planes, _MARGINS, strict=True)]
    x = pack(*padded).contiguous(memory_format=torch.channels_last)
    canvas_cells = functional.pixel_unshuffle(z, 4).contiguous(memory_format=torch.channels_last)
    with torch.autocast(x.device.type, torch.bfloat16):
        style = generator(x, canvas_cells)
    y, u, v = unpack(x + style.float())
    inner, half = slice(MARGIN, -MARGIN), slice(MARGIN // 2, -(MARGIN // 2))
    chroma = torch.cat((u, v), 1)[..., half, half]
    return _leaky_clamp(y[..., inner, inner] + 0.5, 0, 1), _leaky_clamp(chroma, -0.5, 0.5)


def _moved(picture: Tensor, grid: Tensor) -> Tensor:
    """Sample (n, c, h, w) at the places of ``grid`` (n, h, w, 2)."""
    return functional.grid_sample(picture, grid, mode="bicubic", padding_mode="border", align_corners=False)


def to_rgb(luma: Tensor, chroma: Tensor) -> Tensor:
    """Turn luma (n, 1, h, w) and chroma (n, 2, h/2, w/2) into RGB (n, 3, h, w), chroma interpolated linearly."""
    wide = functional.interpolate(chroma, scale_factor=2, mode="bilinear")
    matrix = torch.from_numpy(data.TO_RGB).to(luma.device)
    return _leaky_clamp(torch.einsum("ij,njhw->nihw", matrix, torch.cat((luma, wide), 1)), 0, 1)


def _inner(picture: Tensor) -> Tensor:
    """Leave the rim of a crop out."""
    return picture[..., RIM:-RIM, RIM:-RIM]


def cut_canvas(tile: Tensor, offsets: Tensor, size: int) -> Tensor:
    """Cut (n, 1, size, size) from the periodic tile (s, s) at integer ``offsets`` (n, 2) of (y, x)."""
    steps, period = torch.arange(size, device=tile.device), len(tile)
    return torch.stack([tile[(y + steps) % period][:, (x + steps) % period] for y, x in offsets.tolist()])[:, None]


def new_generator(base: str, size_class: str = "default") -> Generator:
    """Make the generator that a run starts from: normalised and random, or the weights of ``base``, of its size."""
    if not base:
        return Generator(*SHAPES[size_class], norm=True)
    if Path(base).is_dir():
        return generator_of(Trunk.load(Path(base) / "trunk.onnx").weights)
    return with_weights(load_file(base))


class StylePainter:
    """A painter that is a trained style: what it makes of a photo without noise, the mean over four positions of it.

    A network knows where its cells of 4 pixels begin, and the second stage lets it draw a faint grid of them. Painted
    on photo and canvas moved by so many pixels, and moved back, the grid lies elsewhere each time and strokes do not:
    the mean has strokes only (Coifman and Donoho 1995, "Translation-Invariant De-Noising": cycle spinning).
    """

    _SHIFTS = ((0, 0), (1, 2), (2, 3), (3, 1))
    """Pixels (y, x): each remainder of 4 once in both directions."""

    def __init__(self, folder: str, flat_strokes: float = 1.0) -> None:
        self._flat_strokes = flat_strokes
        self._generator = new_generator(folder).eval()
        self._canvas = (torch.from_numpy(canvas.tile().copy()).float() - 128) / 64

    @torch.no_grad()
    def __call__(self, rgb: NDArray[np.float32], offset: tuple[int, int]) -> NDArray[np.float32]:
        here = np.array(offset)
        painted = self._mean(rgb, [here] * len(self._SHIFTS))
        if self._flat_strokes < 1:
            # Strokes of four places of the canvas that have nothing in common all but cancel each other.
            plain = self._mean(rgb, [here + i * np.array((131, 173)) for i in range(1, 5)])
            seen = painters.seen_in(data.to_yuv(rgb)[..., 0] + np.float32(0.5))
            share = self._flat_strokes + (1 - self._flat_strokes) * seen
            painted = plain + share[..., None] * (painted - plain)
        return np.clip(painted, 0, 1)

    def _mean(self, rgb: NDArray[np.float32], offsets: list[NDArray[np.intp]]) -> NDArray[np.float32]:
        """Return the mean of the pictures at all of ``_SHIFTS``, each with its place on the canvas."""
        size, shown = len(rgb), []
        for (y, x), offset in zip(self._SHIFTS, offsets, strict=True):
            moved = np.pad(rgb, ((y, 8 - y), (x, 8 - x), (0, 0)), mode="edge")
            place = torch.from_numpy(offset - (y, x) - MARGIN)[None]
            z = cut_canvas(self._canvas, place, size + 8 + 2 * MARGIN)
            made = stylize(self._generator, planes_of(torch.from_numpy(data.to_yuv(moved))[None]), z)
            shown.append(to_rgb(*made)[..., y : y + size, x : x + size])
        return np.ascontiguousarray(torch.cat(shown).mean(0).permute(1, 2, 0).clamp(0, 1).numpy())


class Trainer:
    """The state of a run and what one step does to it.

    Several processes (torchrun) each take their share of every batch; gradients, and the Gram matrices that
    style terms compare, are averaged over all of them.
    """

    def __init__(self, config: Config, device: str = "cpu") -> None:
        torch.manual_seed(config.seed)
        self.config, self.device = config, torch.device(device)
        self.world = distributed.get_world_size() if distributed.is_initialized() else 1

        def placed(module: Any) -> Any:
            return module.to(self.device, memory_format=torch.channels_last)

        self.canvas = ((torch.from_numpy(canvas.tile().copy()).float() - 128) / 64).to(self.device)
        self.generator: Generator = placed(new_generator(config.base, config.size_class))
        self.average: Generator = placed(new_generator(config.base, config.size_class)).eval()
        self.average.load_state_dict(self.generator.state_dict())
        self.average.requires_grad_(False)
        self.discriminator: losses.Discriminator = placed(losses.Discriminator(3 if config.color else 1))
        self.shared_generator: torch.nn.Module = self.generator
        self.shared_discriminator: torch.nn.Module = self.discriminator
        if self.world > 1:
            self.shared_generator = DistributedDataParallel(self.generator)
            self.shared_discriminator = DistributedDataParallel(self.discriminator)
        self.optimizer = torch.optim.Adam(self.generator.parameters(), config.warm_rate, (0.9, 0.99))
        self.discriminator_optimizer = torch.optim.Adam(
            self.discriminator.parameters(), config.discriminator_rate, (0.5, 0.99)
        )
        self.vgg: losses.Vgg16 | None = None
        self.targets: list[Tensor] = []
        self.step = 0
        self.recoveries = 0

    def load_vgg(self, batches: Batches) -> None:
        """Load the loss network and measure the Gram matrices of the style's pictures."""
        self.vgg = losses.Vgg16(Path(self.config.vgg)).to(self.device, torch.bfloat16)
        rng, sums = np.random.default_rng(self.config.seed), []
        for _ in range(24):
            size = self.config.crop - 2 * RIM
            crops = [data.picture_crop(batches.pictures, batches.shares, size, rng) for _ in range(4)]
            pictures = torch.from_numpy(np.stack(crops)).to(self.device)
            sums.append([losses.gram_matrix(f).mean(0) for f in self.features(pictures)])
        self.targets = [torch.stack(layer).mean(0) for layer in zip(*sums, strict=True)]

    def features(self, pictures: Tensor) -> list[Tensor]:
        assert self.vgg is not None
        return self.vgg(pictures.to(torch.bfloat16).contiguous(memory_format=torch.channels_last))

    def rate(self, step: int) -> float:
        """Learning rate: a ramp of 100 steps, then cosine to a tenth, in each stage; halved by each recovery."""
        config = self.config
        if step < config.warm_steps:
            top, begin, end = config.warm_rate, 0, config.warm_steps
        else:
            top, begin, end = config.rate, config.warm_steps, config.steps
        done = (step - begin) / max(1, end - begin)
        ramp = min(1, (step - begin + 1) / 100) * 0.5**self.recoveries
        return float(top * ramp * (0.1 + 0.45 * (1 + np.cos(np.pi * done))))

    def train_step(self, batch: Batch) -> dict[str, float]:
        """Do one step and return the terms of the loss, unweighted, and the discriminator's accuracy.

        Raises:
            FloatingPointError: A gradient is no number; nothing was changed in this step.
        """
        config, warm = self.config, self.step < self.config.warm_steps
        self.generator.train(warm)  # batch statistics, where there are any, are frozen in the second stage
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(self.step)

        # Two windows on the same photos and canvas, a few pixels apart, each with its own noise.
        count, size = batch.photos.shape[0], batch.noise.shape[2]
        both, made, cuts = [], [], []
        for y, x in batch.windows.tolist():
            both.append(batch.photos[:, y : y + size, x : x + size])
            made.append(batch.painted[:, y : y + size, x : x + size])
            cuts.append(batch.offsets + torch.tensor([y, x]) - MARGIN)
        clean, target = torch.cat(both).to(self.device), torch.cat(made).to(self.device)
        black = torch.tensor([-0.5, 0, 0], device=self.device)
        lit = black + (clean - black) * batch.light.flatten().to(self.device)[:, None, None, None]
        noisy = lit + batch.noise.flatten(0, 1).to(self.device)
        z = cut_canvas(self.canvas, torch.cat(cuts), size + 2 * MARGIN)
        if config.warp_weight:  # the first window once more, turned and zoomed on a canvas that stays
            grid = functional.affine_grid(batch.warps.to(self.device), [count, 1, size, size], align_corners=False)
            noisy = torch.cat((noisy, _moved(noisy[:count].permute(0, 3, 1, 2), grid).permute(0, 2, 3, 1)))
            z = torch.cat((z, z[:count]))
        luma, chroma = stylize(self.shared_generator, planes_of(noisy), z)
        luma, turned, chroma = luma[: 2 * count], luma[2 * count :], chroma[: 2 * count]
        target_y, target_u, target_v = planes_of(target)
        target_y, target_chroma = target_y + 0.5, torch.cat((target_u, target_v), 1)

        # What both windows show must be equal.
        (ay, ax), (by, bx) = batch.windows.tolist()
        height, width = size - abs(ay - by), size - abs(ax - bx)
        first = luma[:count, :, max(0, by - ay) :, max(0, bx - ax) :][..., :height, :width]
        second = luma[count:, :, max(0, ay - by) :, max(0, ax - bx) :][..., :height, :width]
        terms = {
            "shift": losses.consistency_term(first, second),
            "strokes": (luma - target_y).abs().mean(),
            "chroma": (chroma - target_chroma).abs().mean(),
        }
        strokes = config.strokes_weight if warm else config.strokes_late
        weights = {"shift": config.shift_weight, "strokes": strokes, "chroma": strokes * config.chroma_weight}
        if config.warp_weight:
            seen_before = (grid.abs() < 1).all(-1)[:, None]  # what comes in from outside has no counterpart
            terms["warp"] = losses.warping_term(turned, _moved(luma[:count], grid), seen_before, RIM)
            weights["warp"] = config.warp_weight
        seen = luma[:count]
        if not warm:
            source = clean[:count, ..., 0][:, None] + 0.5
            if config.color:
                seen = to_rgb(luma[:count], chroma[:count])
                source = to_rgb(source, torch.cat(planes_of(clean[:count])[1:], 1))
            self._late_terms(luma[:count], seen, source, target_y[:count], terms, weights)
        total = torch.stack([weights[name] * terms[name] for name in weights]).sum()
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.generator.parameters(), 1.0)
        self._check(norm, terms)
        self.optimizer.step()
        report = {name: float(value.detach()) for name, value in terms.items()}
        if not warm:
            report |= self._train_discriminator(batch.pictures.to(self.device), _inner(seen.detach()))
        self._update_average()
        self.step += 1
        return report

    def _check(self, norm: Tensor, terms: dict[str, Tensor]) -> None:
        """Refuse a gradient that is no number; it is the same in all processes, so they all do."""
        if not torch.isfinite(norm):
            shown = ", ".join(f"{name} {float(term.detach()):g}" for name, term in terms.items())
            raise FloatingPointError(f"a gradient is {float(norm)} at step {self.step} ({shown})")

    def _late_terms(
        self,
        luma: Tensor,
        seen: Tensor,
        source: Tensor,
        target: Tensor,
        terms: dict[str, Tensor],
        weights: dict[str, float],
    ) -> None:
        config = self.config
        terms["tone"] = losses.tone_term(luma, target)
        weights["tone"] = config.tone_weight
        inner = _inner(seen)
        features = self.features(inner)
        with torch.no_grad():
            photo = self.features(_inner(source))
        terms["content"] = losses.content_term(features[2], photo[2])
        weights["content"] = config.content_weight
        for name, term, weight in zip(
            losses.VGG_LAYERS, losses.style_terms(features, self.targets), config.style_weights, strict=True
        ):
            terms[name], weights[name] = term, weight
        if config.adversarial_weight:
            self.discriminator.requires_grad_(False)
            terms["adversarial"] = losses.hinge_generator(self.discriminator(inner))
            self.discriminator.requires_grad_(True)
            # The discriminator leads by 50 steps before it is listened to.
            lead = min(1.0, max(0.0, (self.step - config.warm_steps - 50) / 100))
            weights["adversarial"] = config.adversarial_weight * lead

    def _train_discriminator(self, real: Tensor, made: Tensor) -> dict[str, float]:
        """Train it on as many real crops as made ones, also where nobody listens (for its accuracy)."""
        with torch.autocast(self.device.type, torch.bfloat16):
            verdict_real, verdict_made = self.shared_discriminator(torch.cat((real, made.clamp(0, 1)))).float().chunk(2)
        loss = losses.hinge_discriminator(verdict_real, verdict_made)
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._check(torch.nn.utils.clip_grad_norm_(self.discriminator.parameters(), 1e9), {"discriminator": loss})
        self.discriminator_optimizer.step()
        accuracy = 0.5 * ((verdict_real > 0).float().mean() + (verdict_made < 0).float().mean())
        return {"discriminator": float(loss.detach()), "accuracy": float(accuracy)}

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        state = self.generator.state_dict()
        for name, value in self.average.state_dict().items():
            if value.is_floating_point():
                value.lerp_(state[name], 1 - decay)
            else:
                value.copy_(state[name])

    # -- what people look at ---------------------------------------------------------------------

    @torch.no_grad()
    def draw(
        self, rgb: NDArray[np.uint8], *, move: tuple[int, int] = (0, 0), noise: float = 0
    ) -> tuple[Tensor, Tensor]:
        """Stylize one photo (size a multiple of 8) with the averaged weights.

        Returns:
            Luma (1, 1, h, w) in [0, 1], and RGB (h, w, 3), uint8.
        """
        yuv = torch.from_numpy(data.to_yuv(rgb.astype(np.float32) / 255))[None]
        if noise:
            yuv[..., 0] += noise / 255 * torch.randn(yuv.shape[:3], generator=torch.Generator().manual_seed(0))
        size = max(rgb.shape[:2]) + 2 * MARGIN
        height, width = (side + 2 * MARGIN for side in rgb.shape[:2])
        z = cut_canvas(self.canvas, torch.tensor([move]) - MARGIN, size)[..., :height, :width]
        luma, chroma = stylize(self.average, planes_of(yuv.to(self.device)), z)
        picture = to_rgb(luma, chroma).clamp(0, 1)[0].permute(1, 2, 0)
        return luma.clamp(0, 1).cpu(), (picture * 255).round().byte().cpu()

    def measure(self, photos: list[NDArray[np.uint8]]) -> dict[str, float]:
        """Measure shift and noise stability and distance to the source on held-out photos, in dB."""
        shift, noisy, source = [], [], []
        for photo in photos:
            side = min(256, (min(photo.shape[:2]) - 5) // 8 * 8)
            here = photo[:side, :side]
            moved = np.ascontiguousarray(photo[3 : 3 + side, 5 : 5 + side])
            first, second = self.draw(here)[0], self.draw(moved, move=(3, 5))[0]
            shift.append(losses.consistency_term(first[..., 3:, 5:], second[..., :-3, :-5], 16))
            noisy.append(((first - self.draw(here, noise=3)[0]) ** 2).mean())
            luma = torch.from_numpy(data.to_yuv(here.astype(np.float32) / 255)[..., 0] + 0.5)
            source.append(((first - luma) ** 2).mean())
        decibels = [float(-10 * torch.log10(torch.stack(part).mean())) for part in (shift, noisy, source)]
        return dict(zip(("shift_db", "noise_db", "source_db"), decibels, strict=True))

    def sheet(self, photos: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Lay out photos and what becomes of them side by side, three pairs a row: RGB."""
        tiles = []
        for photo in photos:
            height, width = (min(side, 320) // 8 * 8 for side in photo.shape[:2])
            tile = np.full((320, 640, 3), 255, np.uint8)
            tile[:height, :width] = photo[:height, :width]
            tile[:height, 320 : 320 + width] = self.draw(np.ascontiguousarray(photo[:height, :width]))[1].numpy()
            tiles.append(tile)
        tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % 3)
        return np.vstack([np.hstack(tiles[i : i + 3]) for i in range(0, len(tiles), 3)])

    # -- checkpoints -----------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write the whole state under ``path`` at once, or not at all."""
        state = {
            "config": asdict(self.config),
            "step": self.step,
            "recoveries": self.recoveries,
            **{name: getattr(self, name).state_dict() for name in self._PARTS},
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, path)

    def load(self, path: Path) -> None:
        """Take up the state that ``save`` wrote."""
        state = torch.load(path, weights_only=True, map_location=self.device)
        self.step, self.recoveries = state["step"], state["recoveries"]
        for name in self._PARTS:
            getattr(self, name).load_state_dict(state[name])

    _PARTS = ("generator", "average", "discriminator", "optimizer", "discriminator_optimizer")


def train(
    config: Config,
    out: Path,
    *,
    resume: bool = False,
    start_from: Path | None = None,
    every: int = 200,
    device: str = "cpu",
) -> Generator:
    """Train a style and return its generator, averaged and folded.

    Writes into ``out``: checkpoint.pt (every ``every`` steps), log.csv, preview-STEP.png, generator.pt, and
    TensorBoard's events where that is installed. A gradient that is no number sends the run back to its last
    checkpoint, with half the rate.

    Args:
        start_from: A checkpoint whose weights and step are taken, with this ``config`` from there on.
        device: ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        FloatingPointError: It went back ``RECOVERIES`` times already.
    """
    rank = distributed.get_rank() if distributed.is_initialized() else 0
    cv2.setNumThreads(1)  # batches are made in a thread beside torch's, which need the cores more
    checkpoint = out / "checkpoint.pt"
    trainer = Trainer(config, device)
    batches = Batches(config, rank, trainer.world)
    if resume or start_from:
        trainer.load(start_from or checkpoint)
    preview = batches.held_out[:: max(1, len(batches.held_out) // 12)][:12]
    log = _Log(out, fresh=trainer.step == 0) if rank == 0 else None
    if log:
        (out / "config.json").write_text(json.dumps(asdict(config), indent=1) + "\n")
        trainer.save(checkpoint)
    bar = tqdm(total=config.steps, initial=trainer.step, mininterval=10, dynamic_ncols=True, disable=rank > 0)
    try:
        while trainer.step < config.steps:
            try:
                for step, batch in batches.stream(trainer.step):
                    if step >= config.warm_steps and trainer.vgg is None:
                        trainer.load_vgg(batches)
                    report = trainer.train_step(batch)
                    bar.update(trainer.step - bar.n)
                    if log:
                        log.add(report)
                        bar.set_postfix({k: f"{v:.3g}" for k, v in report.items()}, refresh=False)
                        if trainer.step % every == 0 or trainer.step == config.steps:
                            log.write(trainer.step, trainer.measure(preview))
                            sheet = trainer.sheet(preview)
                            cv2.imwrite(str(out / f"preview-{trainer.step:06d}.png"), sheet[:, :, ::-1])
                            trainer.save(checkpoint)
            except FloatingPointError as error:
                recoveries = trainer.recoveries + 1
                if recoveries > RECOVERIES:
                    raise
                if distributed.is_initialized():
                    distributed.barrier()  # the checkpoint may be just being written
                trainer.load(checkpoint)
                trainer.recoveries = recoveries
                tqdm.write(f"train: {error}; back to step {trainer.step} with half the rate", file=sys.stderr)
    except KeyboardInterrupt:
        if log:
            trainer.save(checkpoint)
        raise
    finally:
        bar.close()
    result = folded(trainer.average.float().cpu())
    if log:
        torch.save(result.state_dict(), out / "generator.pt")
    return result


class _Log:
    """Means of the terms since the last row: log.csv, the terminal, and TensorBoard where it is installed."""

    _COLUMNS = (
        "step", "seconds", "strokes", "shift", "warp", "chroma", "tone", "content", *losses.VGG_LAYERS, "adversarial",
        "discriminator", "accuracy", "shift_db", "noise_db", "source_db",
    )  # fmt: skip

    def __init__(self, out: Path, *, fresh: bool) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self._path = out / "log.csv"
        if fresh:
            self._path.unlink(missing_ok=True)
        self._recent: dict[str, list[float]] = {}
        self._begun = time.perf_counter()
        try:
            from torch.utils.tensorboard import SummaryWriter

            self._board: Any = SummaryWriter(str(out))  # type: ignore[no-untyped-call]
        except ImportError:
            self._board = None

    def add(self, terms: dict[str, float]) -> None:
        """Note one step."""
        for name, value in terms.items():
            self._recent.setdefault(name, []).append(value)

    def write(self, step: int, figures: dict[str, float]) -> None:
        """Write one row: the means of the steps noted, and ``figures``."""
        row = {"step": step, "seconds": round(time.perf_counter() - self._begun, 1)}
        row |= {name: round(float(np.mean(values)), 5) for name, values in self._recent.items()}
        row |= {name: round(value, 3) for name, value in figures.items()}
        self._recent.clear()
        new = not self._path.exists()
        with self._path.open("a", newline="") as file:
            writer = csv.DictWriter(file, self._COLUMNS)
            if new:
                writer.writeheader()
            writer.writerow(row)
        tqdm.write("  ".join(f"{name} {value:g}" for name, value in row.items()), file=sys.stderr)
        if self._board is not None:
            for name, value in row.items():
                self._board.add_scalar(name, value, step)
            self._board.flush()

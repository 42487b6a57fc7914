"""What a run is made of: its settings, and the batches of photos, painted photos and crops of the style."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rtstyle import canvas
from train import data, painters
from train.style_painter import StylePainter

RIM = 16
"""Pixels around a crop that VGG16 and the discriminator do not see. Where they did, the generator, which knows by its
zero padding where its image ends, drew the outermost 4 pixels 20 levels lighter than the rest."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides the weights; saved in the checkpoint."""

    content: tuple[str, ...]
    """Folders of photos."""
    pictures: tuple[tuple[str, float], ...] = ()
    """The style: images or folders of them, each with its share of the batches. Needed after ``warm_steps``."""
    painter: str = "pencil"
    """Who teaches the first stage: a name of ``painters.PAINTERS`` (``palette`` takes the first image's colors),
    or a style folder, whose images of clean photos are imitated from noisy ones: a way to make it stabler."""
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
    stays, as it does at run time. It makes strokes belong to the image and fainter (train/README.md)."""

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
    """Shape (n, 1 or 3, crop - 2 RIM, crop - 2 RIM): crops of the style's images, in the second stage."""


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

"""Train a style on a steered canvas: generator against a patch discriminator. Read it from top to bottom.

Two stages in one run. Until ``warm_steps`` the generator learns from a painter made in code (painting.py) where strokes
go and which color each takes. From there on it learns from the painting itself how they look: sliced Wasserstein
distances of VGG16 features, a discriminator that is trained in alternation, and a term against the lattice of the
network's own cells. All the while it must give the same picture for a shifted view with other noise.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from rtstyle.canvas.steering import CHANNELS
from rtstyle.frame import MARGIN
from rtstyle.generator import PLANE_CHANNELS, STEERED_SHAPES, Generator, pack, unpack
from train import data, losses
from train.painting import MANNERS, Painting
from train.pool import Crops, Sample, make_pool, to_canvas

RIM = 12
"""Pixels at the edge of a crop that VGG16 and the discriminator do not see."""

_MARGINS = (MARGIN, MARGIN // 2, MARGIN // 2)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides the weights; saved with them."""

    content: tuple[str, ...]
    painting: str
    manner: str
    size_class: str = "default"
    base: str = ""
    pool: int = 240
    seed: int = 1
    warm_steps: int = 4000
    steps: int = 5000
    crop: int = 128
    batch: int = 2
    late_crop: int = 128
    late_batch: int = 2
    shift: int = 7
    noise: float = 6.0
    warm_rate: float = 2e-3
    rate: float = 6e-4
    discriminator_rate: float = 4e-4
    ema: float = 0.998
    chroma_weight: float = 2.0
    shift_weight: float = 40.0
    strokes_late: float = 0.6
    style_weights: tuple[float, ...] = (0.12, 0.3, 0.3, 0.3)
    adversarial_weight: float = 0.05
    lattice_weight: float = 300.0


def start(config: Config) -> Generator:
    """Make the generator that a run starts from."""
    shape = STEERED_SHAPES[config.size_class]
    generator = Generator(*shape, canvas=CHANNELS)
    if config.base:
        state = (
            torch.load(config.base, weights_only=True)["generator"]
            if config.base.endswith(".pt")
            else load_file(config.base)
        )
        own = generator.state_dict()
        for name, value in own.items():
            if name in state and state[name].shape == value.shape:
                own[name] = state[name]
            elif name == "stem.conv.weight" and name in state:
                value[:, :PLANE_CHANNELS] = state[name][:, :PLANE_CHANNELS]
                value[:, PLANE_CHANNELS:] = 0.04 * torch.randn_like(value[:, PLANE_CHANNELS:])
        generator.load_state_dict(own)
    return generator


def stylize(generator: torch.nn.Module, toned: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Run the generator as it is deployed.

    Args:
        toned: Shape (n, h, w, 3): Y - 0.5 behind the tone curve, U, V.
        z: Shape (n, 40, h/4 + 4, w/4 + 4).

    Returns:
        Luma (n, 1, h, w), 0 black, 1 white, and chroma (n, 2, h/2, w/2).
    """
    y, u, v = (toned[..., i][:, None] for i in range(3))
    planes = (y, functional.avg_pool2d(u, 2), functional.avg_pool2d(v, 2))
    padded = [functional.pad(p, (m,) * 4, mode="replicate") for p, m in zip(planes, _MARGINS, strict=True)]
    x = pack(*padded).contiguous(memory_format=torch.channels_last)
    made = unpack(x + generator(x, z.contiguous(memory_format=torch.channels_last)))
    inner, half = slice(MARGIN, -MARGIN), slice(MARGIN // 2, -(MARGIN // 2))
    return made[0][..., inner, inner] + 0.5, torch.cat(made[1:], 1)[..., half, half]


def to_rgb(luma: Tensor, chroma: Tensor) -> Tensor:
    """Turn luma and chroma into RGB (n, 3, h, w), clamped, but for a tenth of what exceeds."""
    wide = functional.interpolate(chroma, scale_factor=2, mode="bilinear")
    rgb = torch.einsum("ij,njhw->nihw", torch.from_numpy(data.TO_RGB), torch.cat((luma, wide), 1))
    clamped = rgb.clamp(0, 1)
    return clamped + 0.1 * (rgb - clamped)


@dataclass(frozen=True)
class Batch:
    """Two windows on each of n samples; tensors have 2n entries, the first windows first."""

    toned: Tensor
    painted: Tensor
    z: Tensor
    windows: NDArray[np.int64]
    """Shape (2, 2): (y, x) of the two windows, relative to one another."""


class Trainer:
    """The state of a run and what one step does to it."""

    def __init__(self, config: Config, out: Path) -> None:
        torch.manual_seed(config.seed)
        self.config, self.out = config, out
        out.mkdir(parents=True, exist_ok=True)
        (self.painting_rgb,) = data.load_pictures([Path(config.painting)], 400, colour=True)
        self.painting = Painting(self.painting_rgb, MANNERS[config.manner])
        paths = sorted(p for folder in config.content for p in data.list_pictures(Path(folder)))
        self.paths = [p for i, p in enumerate(paths) if i % 17]
        self.generator = start(config).to(memory_format=torch.channels_last)
        self.average = start(config)
        self.average.load_state_dict(self.generator.state_dict())
        self.average.requires_grad_(False)
        self.discriminator = losses.Discriminator(3)
        self.optimizer = torch.optim.Adam(self.generator.parameters(), config.warm_rate, (0.9, 0.99))
        self.critic = torch.optim.Adam(self.discriminator.parameters(), config.discriminator_rate, (0.5, 0.99))
        self.vgg: losses.Vgg16 | None = None
        self.step = 0
        self.pool: list[Sample] = []
        self.crops: dict[int, Crops] = {}

    # -- batches ---------------------------------------------------------------------------------

    def prepare(self) -> None:
        manner = MANNERS[self.config.manner]
        sizes = (self.config.crop, self.config.late_crop)
        self.crops = {size: Crops(manner.steering, size) for size in sizes}
        self.pool = make_pool(self.paths, self.painting, self.config.pool, self.config.seed)

    def batch(self) -> Batch:
        config = self.config
        late = self.step >= config.warm_steps
        size, count = (config.late_crop, config.late_batch) if late else (config.crop, config.batch)
        rng = np.random.default_rng((config.seed, self.step))
        windows = rng.integers(0, config.shift + 1, (2, 2))
        parts: list[list[Any]] = [[], []]
        for _ in range(count):
            sample = self.pool[rng.integers(len(self.pool))]
            height, width = sample.photo.shape[:2]
            y, x = (int(rng.integers(side - size - config.shift + 1)) for side in (height, width))
            for which, (dy, dx) in enumerate(windows.tolist()):
                level = rng.random() * (rng.random() < 0.75) * config.noise / 255
                noise = np.float32(level) * rng.standard_normal((size, size, 3), np.float32)
                parts[which].append(self.crops[size].window(sample, y + dy, x + dx, noise))
        every = [*parts[0], *parts[1]]
        toned, painted = (torch.from_numpy(np.stack([each[i] for each in every])) for i in (0, 1))
        return Batch(toned, painted, to_canvas([each[2] for each in every]), windows)

    # -- one step --------------------------------------------------------------------------------

    def rate(self) -> float:
        config = self.config
        late = self.step >= config.warm_steps
        top, begin = (config.rate, config.warm_steps) if late else (config.warm_rate, 0)
        end = config.steps if late else config.warm_steps
        done = (self.step - begin) / max(1, end - begin)
        return float(top * min(1, (self.step - begin + 1) / 50) * (0.08 + 0.46 * (1 + np.cos(np.pi * done))))

    def train_step(self, batch: Batch) -> dict[str, float]:
        config, late = self.config, self.step >= self.config.warm_steps
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        luma, chroma = stylize(self.generator, batch.toned, batch.z)
        y, u, v = (batch.painted[..., i][:, None] for i in range(3))
        target_chroma = torch.cat([functional.avg_pool2d(p, 2) for p in (u, v)], 1)
        count = len(luma) // 2
        first, second = _overlap(luma[:count], luma[count:], batch.windows)
        strokes = config.strokes_late if late else 1.0
        terms = {
            "luma": (luma - 0.5 - y).abs().mean(),
            "chroma": (chroma - target_chroma).abs().mean(),
            "shift": losses.consistency_term(first, second),
            "lattice": lattice_term(luma),
        }
        weights = {
            "luma": strokes,
            "chroma": strokes * config.chroma_weight,
            "shift": config.shift_weight,
            "lattice": config.lattice_weight,
        }
        shown = to_rgb(luma[:count], chroma[:count])[..., RIM:-RIM, RIM:-RIM]
        if late:
            self._late_terms(shown, terms, weights)
        total = torch.stack([weights[name] * terms[name] for name in weights]).sum()
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.generator.parameters(), 1.0)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"a gradient is {float(norm)} at step {self.step}")
        self.optimizer.step()
        report = {name: float(value.detach()) for name, value in terms.items()}
        if late:
            report |= self._train_discriminator(shown.detach())
        decay = min(config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            state = self.generator.state_dict()
            for name, value in self.average.state_dict().items():
                value.lerp_(state[name], 1 - decay)
        self.step += 1
        return report

    def _late_terms(self, shown: Tensor, terms: dict[str, Tensor], weights: dict[str, float]) -> None:
        config = self.config
        vgg, style = self._style()
        for layer, (made, real, weight) in enumerate(zip(vgg(shown), style, config.style_weights, strict=True)):
            name = f"swd{layer + 1}"
            terms[name], weights[name] = swd_term(made, real), weight
        if config.adversarial_weight:
            self.discriminator.requires_grad_(False)
            terms["adversarial"] = losses.hinge_generator(self.discriminator(_rescaled(shown, self.step)))
            self.discriminator.requires_grad_(True)
            lead = min(1.0, max(0.0, (self.step - config.warm_steps - 50) / 100))
            weights["adversarial"] = lead * config.adversarial_weight

    def _style(self) -> tuple[losses.Vgg16, list[list[Tensor]]]:
        """Return VGG16 and the painting's features, at full size and at 0.7 of it in turn."""
        if self.vgg is None:
            self.vgg = losses.Vgg16(Path(__file__).parent / "weights/vgg16_imagenet_conv1-4.fp16.safetensors", 4)
            whole = torch.from_numpy(self.painting_rgb).permute(2, 0, 1)[None].float() / 255
            sizes = [
                whole,
                functional.interpolate(whole, scale_factor=0.7, mode="bilinear", antialias=True),
            ]
            with torch.no_grad():
                self.targets = [[f[0].flatten(1) for f in self.vgg(size)] for size in sizes]
        return self.vgg, self.targets[0 if self.step % 3 else 1]

    def _train_discriminator(self, made: Tensor) -> dict[str, float]:
        rng = np.random.default_rng((self.config.seed, self.step, 2))
        size = made.shape[-1]
        real = np.stack([data.picture_crop([self.painting_rgb], np.ones(1), size, rng) for _ in range(len(made))])
        both = _rescaled(torch.cat((torch.from_numpy(real), made.clamp(0, 1))), self.step)
        verdict_real, verdict_made = self.discriminator(both).chunk(2)
        loss = losses.hinge_discriminator(verdict_real, verdict_made)
        self.critic.zero_grad(set_to_none=True)
        loss.backward()
        self.critic.step()
        accuracy = 0.5 * ((verdict_real > 0).float().mean() + (verdict_made < 0).float().mean())
        return {"discriminator": float(loss.detach()), "accuracy": float(accuracy)}

    # -- what is kept and looked at --------------------------------------------------------------

    def save(self) -> None:
        state = {
            name: getattr(self, name).state_dict()
            for name in ("generator", "average", "discriminator", "optimizer", "critic")
        }
        part = self.out / "checkpoint.part"
        torch.save({**state, "step": self.step, "config": asdict(self.config)}, part)
        part.replace(self.out / "checkpoint.pt")
        torch.save({"generator": self.average.state_dict()}, self.out / "generator.pt")
        entry = {"canvas": self.painting.manner.steering.entry(), "tone": asdict(self.painting.curve)}
        (self.out / "canvas.json").write_text(json.dumps(entry, indent=1))

    def load(self) -> None:
        state = torch.load(self.out / "checkpoint.pt", weights_only=True)
        for name in ("generator", "average", "discriminator", "optimizer", "critic"):
            getattr(self, name).load_state_dict(state[name])
        self.step = state["step"]

    @torch.no_grad()
    def draw(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Stylize a photo, (h, w, 3), whose sides are multiples of 8; returns RGB."""
        from rtstyle.canvas.field import measure

        steering = self.painting.manner.steering
        yuv = data.to_yuv(rgb.astype(np.float32) / 255)
        seen = measure(np.rint(255 * (yuv[..., 0] + 0.5)).astype(np.uint8))
        sample = Sample(yuv.astype(np.float16), yuv.astype(np.float16), seen, (37, 11), self.painting.curve.table(seen))
        height, width = rgb.shape[:2]
        from rtstyle.canvas.steering import SteeredCutter, steered

        rows, columns = height // 4 + 4, width // 4 + 4
        place = (sample.offset[0] - MARGIN, sample.offset[1] - MARGIN)
        packed = np.empty((rows, columns, CHANNELS), np.uint8)
        cells = steered(steering, seen, place, (rows, columns), (-MARGIN, -MARGIN))
        SteeredCutter(steering, rows, columns).cut(cells, place, packed)
        yuv[..., 0] = np.interp(255 * (yuv[..., 0] + 0.5), np.arange(256), sample.table) / 255 - 0.5
        luma, chroma = stylize(self.average, torch.from_numpy(yuv)[None], to_canvas([packed]))
        return (255 * to_rgb(luma, chroma)[0].clamp(0, 1).permute(1, 2, 0).numpy()).round().astype(np.uint8)


def _overlap(first: Tensor, second: Tensor, windows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Return what two windows both show."""
    (ay, ax), (by, bx) = windows.tolist()
    height, width = (side - abs(d) for side, d in zip(first.shape[-2:], (ay - by, ax - bx), strict=True))
    first = first[..., max(0, by - ay) :, max(0, bx - ax) :][..., :height, :width]
    second = second[..., max(0, ay - by) :, max(0, ax - bx) :][..., :height, :width]
    return first, second


def lattice_term(luma: Tensor) -> Tensor:
    """Variance of the mean 4x4 cell of a luma's fine detail, over windows of 8x8 cells: a grid, if there is one."""
    detail = luma - functional.avg_pool2d(luma, 5, 1, 2, count_include_pad=False)
    cells = functional.pixel_unshuffle(detail[..., 4:-4, 4:-4], 4)
    return functional.avg_pool2d(cells, 8, 4).var(1).mean()


def swd_term(made: Tensor, style: Tensor, directions: int = 32) -> Tensor:
    """Sliced Wasserstein distance of features to those of the style, in units of their deviation.

    Source: Heitz, Vanhoey, Chambon and Belcour 2021, "A Sliced Wasserstein Loss for Neural Texture Synthesis".

    Args:
        made: Shape (n, c, h, w): all positions of the batch are one distribution.
        style: Shape (c, positions).
    """
    flat = made.transpose(0, 1).flatten(1)
    chosen = torch.randint(style.shape[1], (flat.shape[1],))
    axes = functional.normalize(torch.randn(directions, len(flat)), dim=1)
    ours, theirs = torch.sort(axes @ flat, 1).values, torch.sort(axes @ style[:, chosen], 1).values
    return ((ours - theirs) ** 2).mean() / style.std(1).mean() ** 2


def _rescaled(pictures: Tensor, step: int) -> Tensor:
    """Resize by a factor of 0.8 to 1.25 that hangs on the step, so that a lattice is no tell."""
    factor = float(np.exp(np.random.default_rng((step, 3)).uniform(np.log(0.8), np.log(1.25))))
    return functional.interpolate(pictures, scale_factor=factor, mode="bilinear", antialias=True)


def train(config: Config, out: Path, photos: list[Path], minutes: float = 1e9) -> None:
    cv2.setNumThreads(1)
    trainer = Trainer(config, out)
    if (out / "checkpoint.pt").is_file():
        trainer.load()
    begun = time.time()
    trainer.prepare()
    print(f"pool of {len(trainer.pool)} in {time.time() - begun:.0f} s", flush=True)
    sums: dict[str, list[float]] = {}
    begun = last = time.time()
    while trainer.step < config.steps and time.time() - begun < 60 * minutes:
        for name, value in trainer.train_step(trainer.batch()).items():
            sums.setdefault(name, []).append(value)
        if trainer.step % 100 == 0:
            shown = " ".join(f"{name} {np.mean(values):.4f}" for name, values in sums.items())
            print(f"{trainer.step} {time.time() - begun:.0f}s {shown}", flush=True)
            sums.clear()
        if time.time() - last > 120 or trainer.step == config.steps:
            last = time.time()
            trainer.save()
            for number, path in enumerate(photos):
                rgb = cv2.imread(str(path))[:, :, ::-1]
                cv2.imwrite(str(out / f"look{number}.png"), trainer.draw(np.ascontiguousarray(rgb))[:, :, ::-1])
    trainer.save()

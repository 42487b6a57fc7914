"""Train the universal painter: ``python -m train.universal --images FOLDER ... --content FOLDER --out RUN``.

One network for any image: everything before its last layers is the same for all, and the last layers (tail, skip and
gate), which are linear in what comes before, are solved for in closed form for each image, so that a few photos come
out as the painter made in code paints them. Here the common part is trained for that: every step chooses a palette and
a manner, solves for the last layers on some crops, and is judged by others. So the features become those from which
any palette can be read (Bertinetto, Henriques, Torr and Vedaldi 2019, "Meta-learning with differentiable closed-form
solvers").
"""

from __future__ import annotations

import argparse
import colorsys
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from rtstyle.canvas.steering import CHANNELS, Steering, Stream
from rtstyle.canvas.strokes import Brush, bank
from rtstyle.frame import MARGIN
from rtstyle.generator import SHAPES, Generator, pack, unpack
from rtstyle.universal.painting import Manner, Painting
from train import data, losses
from train.pool import Crops, Sample, make_sample, to_canvas
from train.steered import PAINTING_BASE, _overlap, lattice_term, stylize, to_rgb

LEVELS, CLUSTERS = 10, 4
"""Levels of lightness and clusters of chroma of each, of a palette."""

STREAMS = (
    Stream(kind="waves", sway=0.4),
    Stream(kind="whirls", angle=172),
    Stream(kind="waves", sway=0.55, waves=2),
    Stream(kind="level", sway=0.2),
    Stream(kind="level", angle=-40, sway=0.3),
)

BRUSHES = (
    Brush(length=24, width=5, seed=5),
    Brush(length=24, width=5, seed=4),
    Brush(length=110, width=6.5, spread=0.25, bend=0.002, band=64, scales=(1.0, 0.5, 0.26), seed=8),
    Brush(length=19, width=8, cover=2.2, band=90, seed=9),
    Brush(length=64, width=3.4, spread=0.3, bend=0.006, band=80, scales=(1.0, 0.7, 0.5), seed=10),
    Brush(length=44, width=17, cover=2.4, spread=0.45, jitter=0.5, bend=0.012, bristles=0.25, band=22,
          scales=(1.0, 0.6, 0.36), seed=14),
    Brush(length=13, width=3.2, seed=20),
    Brush(length=12, width=10, cover=2.4, seed=21),
    Brush(length=36, width=9, cover=2.2, seed=22),
    Brush(length=60, width=13, cover=2.4, bend=0.006, seed=23),
    Brush(length=40, width=3, jitter=0.07, seed=24),
)  # fmt: skip


class Features(nn.Module):
    """What a generator gives to its last layers."""

    def __init__(self, size_class: str = "default") -> None:
        super().__init__()
        self.generator = Generator(*SHAPES[size_class], canvas=CHANNELS)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """Return the features of a packed frame and its canvas, shape (n, channels, h, w)."""
        made = self.generator
        stem = torch.relu(made.stem(torch.cat((x, z), 1)))
        deep = made.blocks(torch.relu(made.down(stem)))
        up = functional.pixel_shuffle(made.up(torch.relu(deep)), 2)
        return torch.relu(made.fuse(torch.relu(up + stem)))


RIDGE = 1e-3
"""Of the solution, relative to the mean square of a feature: how much small weights are preferred."""


@dataclass(frozen=True)
class Rows:
    """Cells of some crops: what the last layers read, and what is wanted of them."""

    near: Tensor
    """Shape (cells, 9 * channels + 25): features of 3x3 cells, the packed frame, 1."""
    here: Tensor
    """Shape (cells, channels + 1): features of the cell, 1."""
    strokes: Tensor
    """Shape (cells, 36): values, reliefs, hues of the canvas."""
    wanted: Tensor
    """Shape (cells, 24): the residual."""


def rows_of(fused: Tensor, x: Tensor, z: Tensor, wanted: Tensor) -> Rows:
    """Lay out what a solution is made of; all maps have the margin of cells that engines lay around frames.

    Args:
        fused: Shape (n, channels, h, w).
        x: Shape (n, 24, h, w).
        z: Shape (n, 40, h, w).
        wanted: Shape (n, 24, h - 4, w - 4), without the margin.
    """

    def flat(values: Tensor) -> Tensor:
        return values[..., 2:-2, 2:-2].permute(0, 2, 3, 1).flatten(0, 2)

    n, channels, h, w = fused.shape
    around = functional.unfold(fused, 3, padding=1).view(n, 9 * channels, h, w)
    one = torch.ones_like(x[:, :1])
    near, here = flat(torch.cat((around, x, one), 1)), flat(torch.cat((fused, one), 1))
    return Rows(near, here, flat(z[:, :36]), wanted.permute(0, 2, 3, 1).flatten(0, 2))


@dataclass(frozen=True)
class Readout:
    """The last layers: a plain part (near, 24) and gains of value, relief and hue in luma, U and V (here, 4)."""

    plain: Tensor
    gains: Tensor

    def __call__(self, rows: Rows) -> Tensor:
        """Return the residual of each cell, shape (cells, 24)."""
        return rows.near @ self.plain + _gated(rows.here @ self.gains, rows.strokes)


def _gated(gains: Tensor, strokes: Tensor) -> Tensor:
    value, relief, hue = strokes.split((16, 16, 4), 1)
    luma = gains[:, 0:1] * value + gains[:, 1:2] * relief
    return torch.cat((luma, gains[:, 2:3] * hue, gains[:, 3:4] * hue), 1)


def solve(rows: Rows) -> Readout:
    """Find the last layers that come nearest to what is wanted, by least squares.

    All pixels of a cell have the gains of their strokes in common, and the plain part for themselves. So the plain part
    is projected out of the strokes (Frisch and Waugh 1933), the gains are solved for, and then the plain part.
    """
    near, here = rows.near, rows.here
    square = near.T @ near
    square = square + RIDGE * len(near) * torch.diag(near.square().mean(0) + 1e-3)
    factor = torch.linalg.cholesky(square)

    def projected(columns: Tensor) -> Tensor:
        return torch.cholesky_solve(near.T @ columns, factor)

    gains = []
    for group, strokes in (((0, 16), ((0, 16), (16, 32))), ((16, 20), ((32, 36),)), ((20, 24), ((32, 36),))):
        # shape (pixels, cells, gains to be found): what each would give to each pixel
        products = torch.cat([here * rows.strokes[:, first:last].T[..., None] for first, last in strokes], 2)
        aims = rows.wanted[:, slice(*group)].T[..., None]
        ours, theirs = near.T @ products, near.T @ aims
        solved = torch.cholesky_solve(ours, factor.expand(len(ours), -1, -1))
        left = (products.mT @ products - ours.mT @ solved).sum(0)
        right = (products.mT @ aims - solved.mT @ theirs).sum(0)
        left = left + RIDGE * torch.diag(torch.diagonal(left).detach() + 1e-3 * len(near))
        gains += list(torch.linalg.solve(left, right)[:, 0].split(here.shape[1]))
    found = torch.stack(gains, 1)
    plain = projected(rows.wanted - _gated(here @ found, rows.strokes))
    return Readout(plain, found)


@torch.no_grad()
def assembled(features: Generator, readout: Readout) -> Generator:
    """Return the generator of an image: the common part with those last layers."""
    made = Generator(*features.shape, canvas=CHANNELS)
    state = {name: value.clone() for name, value in features.state_dict().items()}
    channels = features.shape[0]
    taps, skip, bias = readout.plain.split((9 * channels, 24, 1))
    state["tail.weight"] = taps.T.reshape(24, channels, 3, 3).clone()
    state["skip.weight"] = skip.T[..., None, None].clone()
    state["tail.bias"] = bias[0].clone()
    state["gate.weight"] = torch.zeros(4, channels, 3, 3)
    state["gate.weight"][:, :, 1, 1] = readout.gains[:-1].T
    state["gate.bias"] = readout.gains[-1].clone()
    made.load_state_dict(state)
    return made.eval()


# -- what is painted ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """An image and a manner of painting by it."""

    image: NDArray[np.uint8]
    manner: Manner
    painting: Painting


def recolored(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Turn the hues of an image by chance, change how pure they are, and how light it is."""
    yuv = data.to_yuv(image.astype(np.float32) / 255)
    turn = rng.uniform(-np.pi, np.pi)
    pure = rng.uniform(0, 1.5) if rng.random() < 0.8 else 0.05
    u, v = yuv[..., 1].copy(), yuv[..., 2].copy()
    yuv[..., 1] = pure * (np.cos(turn) * u - np.sin(turn) * v)
    yuv[..., 2] = pure * (np.sin(turn) * u + np.cos(turn) * v)
    luma = np.clip(yuv[..., 0] + 0.5, 0, 1)
    yuv[..., 0] = np.clip(luma ** np.exp(rng.normal(0, 0.35)) * rng.uniform(0.75, 1.1), 0, 1)
    rgb = cv2.transform(yuv, data.TO_RGB)
    return np.asarray(255 * np.clip(rgb, 0, 1), np.uint8)


def make_task(image: NDArray[np.uint8], rng: np.random.Generator) -> Task:
    """Choose a manner by chance."""
    brush = BRUSHES[rng.integers(len(BRUSHES))]
    stream = STREAMS[rng.integers(len(STREAMS))]
    gain = rng.uniform(0.08, 0.32)
    ink = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, 0.7), rng.uniform(0, 0.35))
    manner = Manner(
        steering=Steering(brush, stream),
        gain=gain,
        relief=gain * rng.uniform(0.2, 0.75),
        noise=rng.uniform(1.6, 4.4),
        keep=rng.uniform(3, 9),
        sharp=rng.uniform(5, 9),
        purity=rng.uniform(1, 1.4),
        glow=rng.uniform(0, 0.4) if stream.kind == "whirls" else 0.0,
        outline=rng.uniform(0, 0.75),
        detail=rng.uniform(0.1, 0.3),
        ink=ink,
        mix=rng.uniform(0.7, 0.9),
        clusters=CLUSTERS,
        levels=LEVELS,
    )
    return Task(image, manner, Painting(image, manner))


# -- the run --------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides the weights."""

    images: tuple[str, ...]
    content: tuple[str, ...]
    size_class: str = "default"
    base: str = str(PAINTING_BASE)
    seed: int = 1
    tasks: int = 160
    """Palettes with a manner each: the images themselves first, then recolored ones."""
    samples: int = 6
    """Photos painted for each."""
    steps: int = 6000
    crop: int = 128
    support: int = 4
    """Crops that the last layers are solved on."""
    cells: int = 2048
    """Cells of these that count: as many as fit into little time."""
    shift: int = 7
    noise: float = 8.0
    rate: float = 6e-4
    chroma_weight: float = 2.0
    shift_weight: float = 40.0
    lattice_weight: float = 2000.0


def _sample(job: tuple[Path, Painting, int, int]) -> Sample:
    cv2.setNumThreads(1)
    return make_sample(*job)


def _many(images: list[NDArray[np.uint8]], config: Config) -> list[Task]:
    rng = np.random.default_rng((config.seed, 7))
    tasks = []
    for i in range(config.tasks):
        image = images[i % len(images)]
        tasks.append(make_task(image if i < len(images) else recolored(image, rng), rng))
    return tasks


def packed_planes(yuv: Tensor) -> Tensor:
    """Pack Y - 0.5, U, V, shape (n, h, w, 3), as the generator reads frames, with their margin."""
    y, u, v = (yuv[..., i][:, None] for i in range(3))
    planes = (y, functional.avg_pool2d(u, 2), functional.avg_pool2d(v, 2))
    padded = [functional.pad(p, (m,) * 4, mode="replicate") for p, m in zip(planes, MARGINS, strict=True)]
    return pack(*padded).contiguous(memory_format=torch.channels_last)


MARGINS = (MARGIN, MARGIN // 2, MARGIN // 2)


class Trainer:
    """The state of a run and what one step does to it."""

    def __init__(self, config: Config, out: Path) -> None:
        torch.manual_seed(config.seed)
        self.config, self.out = config, out
        out.mkdir(parents=True, exist_ok=True)
        paths = [p for folder in config.images for p in data.list_pictures(Path(folder))]
        self.tasks = _many(data.load_pictures(paths, 400), config)
        self.features, self.average = Features(config.size_class), Features(config.size_class)
        if config.base:
            self.features.generator.load_state_dict(load_file(config.base))
        self.average.load_state_dict(self.features.state_dict())
        self.average.requires_grad_(False)
        last = ("generator.tail", "generator.gate", "generator.skip")
        learned = [p for name, p in self.features.named_parameters() if not name.startswith(last)]
        self.optimizer = torch.optim.Adam(learned, config.rate, (0.9, 0.99))
        self.learned = learned
        self.step = 0
        self.pool: list[list[Sample]] = []
        self.crops = [Crops(task.painting, config.crop) for task in self.tasks]

    def prepare(self) -> None:
        """Paint the photos of the pool."""
        config = self.config
        photos = [p for folder in config.content for p in data.list_pictures(Path(folder))]
        order = np.random.default_rng(config.seed).permutation(len(photos))
        for brush in BRUSHES:
            bank(brush)
        jobs = []
        for i, task in enumerate(self.tasks):
            for j in range(config.samples):
                number = i * config.samples + j
                jobs.append((photos[int(order[number % len(photos)])], task.painting, config.seed, number))
        with ProcessPoolExecutor(2) as pool:
            made = list(pool.map(_sample, jobs, chunksize=4))
        self.pool = [made[i : i + config.samples] for i in range(0, len(made), config.samples)]

    def _noisy(self, rng: np.random.Generator) -> NDArray[np.float32]:
        level = rng.random() * (rng.random() < 0.75) * self.config.noise / 255
        side = self.config.crop
        return np.float32(level) * rng.standard_normal((side, side, 3), np.float32)

    def train_step(self) -> dict[str, float]:
        """Solve on some crops of a task, judge by two windows on another one, and learn."""
        config, size = self.config, self.config.crop
        rng = np.random.default_rng((config.seed, self.step))
        task = int(rng.integers(len(self.tasks)))
        order = rng.permutation(config.samples)
        windows = rng.integers(0, config.shift + 1, (2, 2))
        parts = []
        for which in range(config.support + 1):
            sample = self.pool[task][order[which % config.samples]]
            height, width = sample.photo.shape[:2]
            y, x = (int(rng.integers(side - size - config.shift + 1)) for side in (height, width))
            for dy, dx in windows.tolist() if which == config.support else [(0, 0)]:
                parts.append(self.crops[task].window(sample, y + dy, x + dx, self._noisy(rng)))
        toned, painted = (torch.from_numpy(np.stack([each[i] for each in parts])) for i in (0, 1))
        x, z = packed_planes(toned), to_canvas([each[2] for each in parts])
        fused = self.features(x, z.contiguous(memory_format=torch.channels_last))
        wanted = packed_planes(painted)[..., 2:-2, 2:-2] - x[..., 2:-2, 2:-2]
        n = config.support
        every = rows_of(fused[:n], x[:n], z[:n], wanted[:n])
        some = torch.from_numpy(rng.permutation(len(every.near))[: config.cells])
        readout = solve(Rows(*(getattr(every, each.name)[some] for each in fields(Rows))))
        asked = rows_of(fused[n:], x[n:], z[n:], wanted[n:])
        side = size // 4
        made = readout(asked).view(2, side, side, 24).permute(0, 3, 1, 2) + x[n:, :, 2:-2, 2:-2]
        target = wanted[n:] + x[n:, :, 2:-2, 2:-2]
        luma, u, v = unpack(made)
        chroma = torch.cat((u, v), 1)
        first, second = _overlap(luma[:1], luma[1:], windows)
        terms = {
            "luma": (made[:, :16] - target[:, :16]).abs().mean(),
            "chroma": (made[:, 16:] - target[:, 16:]).abs().mean(),
            "shift": losses.consistency_term(first, second),
            "lattice": lattice_term(luma + 0.5, chroma),
        }
        weights = {
            "luma": 1.0,
            "chroma": config.chroma_weight,
            "shift": config.shift_weight,
            "lattice": config.lattice_weight,
        }
        done = self.step / config.steps
        rate = config.rate * min(1, (self.step + 1) / 200) * (0.08 + 0.46 * (1 + np.cos(np.pi * done)))
        for group in self.optimizer.param_groups:
            group["lr"] = float(rate)
        total = torch.stack([weights[name] * terms[name] for name in weights]).sum()
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.learned, 1.0)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"a gradient is {float(norm)} at step {self.step}")
        self.optimizer.step()
        with torch.no_grad():
            decay = min(0.998, (1 + self.step) / (10 + self.step))
            state = self.features.state_dict()
            for name, value in self.average.state_dict().items():
                value.lerp_(state[name], 1 - decay)
        self.step += 1
        return {name: float(value.detach()) for name, value in terms.items()}

    def save(self) -> None:
        """Write checkpoint.pt and features.pt (averaged weights)."""
        state = {"features": self.features.state_dict(), "average": self.average.state_dict(), "step": self.step}
        torch.save(state | {"optimizer": self.optimizer.state_dict()}, self.out / "checkpoint.part")
        (self.out / "checkpoint.part").replace(self.out / "checkpoint.pt")
        torch.save(self.average.generator.state_dict(), self.out / "features.pt")

    def load(self) -> None:
        """Continue from checkpoint.pt."""
        state = torch.load(self.out / "checkpoint.pt", weights_only=True)
        self.features.load_state_dict(state["features"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]

    @torch.no_grad()
    def preview(self) -> None:
        """Write preview-STEP.jpg: image, photo, painter and network, for some tasks."""
        rows = []
        side = 256
        for i in range(0, len(self.tasks), max(1, len(self.tasks) // 8)):
            task = self.tasks[i]
            crops = Crops(task.painting, side)
            parts = [crops.window(sample, 0, 0) for sample in self.pool[i] if min(sample.photo.shape[:2]) >= side]
            if len(parts) < 3:
                continue
            toned, painted = (torch.from_numpy(np.stack([each[j] for each in parts])) for j in (0, 1))
            x, z = packed_planes(toned), to_canvas([each[2] for each in parts])
            fused = self.average(x, z)
            wanted = packed_planes(painted)[..., 2:-2, 2:-2] - x[..., 2:-2, 2:-2]
            generator = assembled(self.average.generator, solve(rows_of(fused[1:], x[1:], z[1:], wanted[1:])))
            luma, chroma = stylize(generator, toned[:1], z[:1])
            shown = [cv2.resize(task.image, (side, side), interpolation=cv2.INTER_AREA)]
            for yuv in (self.pool[i][0].photo[:side, :side], painted[0].numpy()):
                rgb = cv2.transform(yuv.astype(np.float32) + np.array((0.5, 0, 0), np.float32), data.TO_RGB)
                shown.append((255 * np.clip(rgb, 0, 1)).astype(np.uint8))
            made = to_rgb(luma, chroma)[0].clamp(0, 1).permute(1, 2, 0).numpy()
            rows.append(np.hstack([*shown, (255 * made).round().astype(np.uint8)]))
        if rows:
            cv2.imwrite(str(self.out / f"preview-{self.step:05d}.jpg"), np.vstack(rows)[:, :, ::-1])


def train(config: Config, out: Path, *, resume: bool = False) -> None:
    cv2.setNumThreads(1)
    trainer = Trainer(config, out)
    if resume:
        trainer.load()
    begun = saved = time.time()
    trainer.prepare()
    print(f"{len(trainer.tasks)} tasks painted in {time.time() - begun:.0f} s", flush=True)
    sums: dict[str, list[float]] = {}
    while trainer.step < config.steps:
        for name, value in trainer.train_step().items():
            sums.setdefault(name, []).append(value)
        if trainer.step % 100 == 0:
            shown = " ".join(f"{name} {np.mean(values):.4f}" for name, values in sums.items())
            print(f"step {trainer.step}, {time.time() - begun:.0f} s: {shown}", flush=True)
            sums.clear()
        if time.time() - saved > 180:
            saved = time.time()
            trainer.save()
            trainer.preview()
    trainer.save()
    trainer.preview()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m train.universal", description="Train the universal painter.")
    parser.add_argument("--images", nargs="+", required=True, metavar="FOLDER", help="images to learn styles from")
    parser.add_argument("--content", nargs="+", required=True, metavar="FOLDER", help="folders of photos")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder of the run")
    parser.add_argument("--size-class", choices=sorted(SHAPES), default="default")
    parser.add_argument(
        "--base", default=str(PAINTING_BASE), metavar="WEIGHTS", help="what to start from; '' is nothing"
    )
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    for field in fields(Config):
        if isinstance(field.default, int | float):
            name = "--" + field.name.replace("_", "-")
            parser.add_argument(name, type=type(field.default), default=field.default, help="(default: %(default)s)")
    args = parser.parse_args(arguments)
    values = {field.name: getattr(args, field.name) for field in fields(Config) if hasattr(args, field.name)}
    values |= {"images": tuple(args.images), "content": tuple(args.content)}
    train(Config(**values), args.out, resume=args.resume)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Train a drawing style: generator against a patch discriminator. Read it from top to bottom.

Two stages in one run. Until ``warm_steps`` the generator learns from strokes made in code
(strokes.py) where marks belong; no loss network is needed, a step costs a fifth. From there on it
learns from real drawings how marks look: style and content terms of VGG16, and a discriminator that
is trained in alternation. Both stages are tied to tone, and to themselves: picture and canvas shifted
together must give the shifted output, and noise must change nothing.
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

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from rtstyle import canvas
from rtstyle.frame import MARGIN
from rtstyle.generator import Generator, folded, pack, unpack
from train import data, losses, strokes

_MARGINS = (MARGIN, MARGIN // 2, MARGIN // 2)
"""Replicated edge around each plane, as in the deployed engines."""


RIM = 16
"""Pixels around a crop that VGG16 and the discriminator do not see. Where they did, the generator, which knows by its
zero padding where its picture ends, drew the outermost 4 pixels 20 levels lighter than the rest."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides the weights; saved in the checkpoint."""

    content: tuple[str, ...]
    """Folders of photos."""
    drawings: tuple[tuple[str, float], ...]
    """Pictures or folders of drawings, each with its share of the batches."""
    vgg: str = "train/weights/vgg16_imagenet_conv1-4.fp16.safetensors"
    seed: int = 1
    steps: int = 5000
    warm_steps: int = 2500
    warm_batch: int = 6
    warm_crop: int = 256
    batch: int = 3
    crop: int = 192
    shift: int = 7
    """Largest shift in pixels of the consistency term."""
    noise: float = 6.0
    """Largest standard deviation of the noise that the generator has to see through, in levels of 255."""
    warm_rate: float = 2e-3
    rate: float = 3e-4
    discriminator_rate: float = 4e-4
    ema: float = 0.998

    strokes_weight: float = 1.0
    """Of the strokes made in code, in the first stage."""
    strokes_late: float = 1.0
    """The same in the second stage."""
    chroma_weight: float = 20.0
    tone_weight: float = 20.0
    shift_weight: float = 60.0

    content_weight: float = 0.05
    style_weights: tuple[float, ...] = (0.2, 0.2, 0.1)
    """Of the Gram terms at ``losses.VGG_LAYERS``."""
    adversarial_weight: float = 0.6
    """So that its gradient at the output is about that of the style terms (train/README.md)."""


@dataclass(frozen=True)
class Batch:
    """What one step sees; ``full`` is the crop plus room to shift it."""

    photos: Tensor
    """Shape (n, full, full, 3), canonical YUV."""
    offsets: Tensor
    """Shape (n, 2): where on the canvas each photo lies, (y, x) of its top left."""
    strokes: Tensor
    """Shape (n, 1, full, full): each photo drawn by strokes.py."""
    drawings: Tensor
    """Shape (n, 1, crop - 2 RIM, crop - 2 RIM): real drawings, in the second stage."""
    seed: int
    """Of the noise and of the shifts."""


class Batches:
    """The stream of batches: batch ``step`` is a pure function of ``(seed, step)``, so resuming repeats it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        paths = sorted(p for folder in config.content for p in data.list_pictures(Path(folder)))
        # Every 17th photo is kept for validation and never trained on.
        self.photos = data.load_photos([p for i, p in enumerate(paths) if i % 17], config.warm_crop)
        self.held_out = data.load_photos(paths[::17], config.warm_crop)
        self.drawings: list[NDArray[np.uint8]] = []
        shares: list[float] = []
        for place, share in config.drawings:
            found = data.list_pictures(Path(place))
            self.drawings += data.load_drawings(found, int(config.crop * 1.3))
            shares += [share / len(found)] * len(found)
        self.shares = np.array(shares) / sum(shares)
        self.hatchings = strokes.hatchings(canvas.tile())

    def batch(self, step: int) -> Batch:
        """Make batch ``step``."""
        config, rng = self.config, np.random.default_rng((self.config.seed, step))
        warm = step < config.warm_steps
        count, size = (config.warm_batch, config.warm_crop) if warm else (config.batch, config.crop)
        full = size + 2 * config.shift + 2
        photos = data.photo_crops(self.photos, count, full, rng)
        offsets = rng.integers(0, canvas.TILE, (count, 2))
        around = np.arange(full)
        strokes_there = (
            self.hatchings[(y + around)[:, None] % canvas.TILE, (x + around)[None] % canvas.TILE] for y, x in offsets
        )
        made = [strokes.drawing(p[..., 0] + 0.5, s) for p, s in zip(photos, strokes_there, strict=True)]
        drawings = np.zeros((0,), np.float32)
        if not warm:
            drawings = data.drawing_crops(self.drawings, self.shares, count, size - 2 * RIM, rng)
        return Batch(
            photos=torch.from_numpy(photos),
            offsets=torch.from_numpy(offsets),
            strokes=torch.from_numpy(np.stack(made)[:, None]),
            drawings=torch.from_numpy(drawings),
            seed=int(rng.integers(2**31)),
        )

    def stream(self, start: int) -> Iterator[tuple[int, Batch]]:
        """Yield ``(step, batch)`` from ``start``, one batch made ahead in a thread."""
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(self.batch, start)
            for step in range(start, self.config.steps):
                batch = ahead.result()
                ahead = pool.submit(self.batch, step + 1)
                yield step, batch


def planes_of(yuv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Halve the chroma of (n, h, w, 3) and return Y (n, 1, h, w), U and V (n, 1, h/2, w/2)."""
    y, u, v = (yuv[..., i][:, None] for i in range(3))
    return y, functional.avg_pool2d(u, 2), functional.avg_pool2d(v, 2)


def stylize(generator: torch.nn.Module, planes: tuple[Tensor, Tensor, Tensor], z: Tensor) -> tuple[Tensor, Tensor]:
    """Run the generator as it is deployed: the edge replicated by a margin, the canvas continued.

    Args:
        planes: Y (n, 1, h, w), U, V; h and w multiples of 8; canonical colour.
        z: Shape (n, 1, h + 16, w + 16): the canvas below picture and margin, in [-2, 2].

    Returns:
        Luma (n, 1, h, w) in [0, 1] but for a tenth of what exceeds it, and chroma (n, 2, h/2, w/2).
    """
    padded = [functional.pad(p, (m,) * 4, mode="replicate") for p, m in zip(planes, _MARGINS, strict=True)]
    x = pack(*padded).contiguous(memory_format=torch.channels_last)
    canvas_cells = functional.pixel_unshuffle(z, 4).contiguous(memory_format=torch.channels_last)
    with torch.autocast(x.device.type, torch.bfloat16):
        style = generator(x, canvas_cells)
    y, u, v = unpack(x + style.float())
    inner, half = slice(MARGIN, -MARGIN), slice(MARGIN // 2, -(MARGIN // 2))
    luma = y[..., inner, inner] + 0.5
    clamped = luma.clamp(0, 1)
    return clamped + 0.1 * (luma - clamped), torch.cat((u, v), 1)[..., half, half]


def _inner(picture: Tensor) -> Tensor:
    """Leave the rim of a crop out."""
    return picture[..., RIM:-RIM, RIM:-RIM]


def cut_canvas(tile: Tensor, offsets: Tensor, size: int) -> Tensor:
    """Cut (n, 1, size, size) from the periodic tile (s, s) at integer ``offsets`` (n, 2) of (y, x)."""
    steps, period = torch.arange(size), len(tile)
    return torch.stack([tile[(y + steps) % period][:, (x + steps) % period] for y, x in offsets.tolist()])[:, None]


class Trainer:
    """The state of a run and what one step does to it."""

    def __init__(self, config: Config) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.canvas = (torch.from_numpy(canvas.tile().copy()).float() - 128) / 64
        self.generator = Generator(norm=True).to(memory_format=torch.channels_last)
        self.average = Generator(norm=True).to(memory_format=torch.channels_last).eval()
        self.average.load_state_dict(self.generator.state_dict())
        self.average.requires_grad_(False)
        self.discriminator = losses.Discriminator().to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.generator.parameters(), config.warm_rate, (0.9, 0.99))
        self.discriminator_optimizer = torch.optim.Adam(
            self.discriminator.parameters(), config.discriminator_rate, (0.5, 0.99)
        )
        self.vgg: losses.Vgg16 | None = None
        self.targets: list[Tensor] = []
        self.step = 0

    def load_vgg(self, batches: Batches) -> None:
        """Load the loss network and measure the Gram matrices of the drawings."""
        self.vgg = losses.Vgg16(Path(self.config.vgg)).bfloat16()
        rng, sums = np.random.default_rng(self.config.seed), []
        for _ in range(24):
            crops = data.drawing_crops(batches.drawings, batches.shares, 4, self.config.crop - 2 * RIM, rng)
            sums.append([losses.gram_matrix(f).mean(0) for f in self.features(torch.from_numpy(crops))])
        self.targets = [torch.stack(layer).mean(0) for layer in zip(*sums, strict=True)]

    def features(self, luma: Tensor) -> list[Tensor]:
        assert self.vgg is not None
        return self.vgg(luma.to(torch.bfloat16).contiguous(memory_format=torch.channels_last))

    def rate(self, step: int) -> float:
        """Learning rate: a ramp of 100 steps, then cosine to a tenth, in each of the two stages."""
        config = self.config
        if step < config.warm_steps:
            top, begin, end = config.warm_rate, 0, config.warm_steps
        else:
            top, begin, end = config.rate, config.warm_steps, config.steps
        done = (step - begin) / max(1, end - begin)
        return float(top * min(1, (step - begin + 1) / 100) * (0.1 + 0.45 * (1 + np.cos(np.pi * done))))

    def train_step(self, batch: Batch) -> dict[str, float]:
        """Do one step and return the terms of the loss, unweighted, and the discriminator's accuracy."""
        config, warm = self.config, self.step < self.config.warm_steps
        noise = torch.Generator().manual_seed(batch.seed)
        self.generator.train(warm)  # batch statistics are frozen in the second stage
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(self.step)

        # Two windows on the same photos and canvas, a few pixels apart, each with its own noise.
        count, reach = len(batch.photos), config.shift
        size = config.warm_crop if warm else config.crop
        moves = torch.randint(-reach, reach + 1, (2, 2), generator=noise)
        photos, cuts, made = [], [], []
        for dy, dx in moves.tolist():
            rows, columns = slice(reach + dy, reach + dy + size), slice(reach + dx, reach + dx + size)
            photos.append(batch.photos[:, rows, columns])
            made.append(batch.strokes[:, :, rows, columns])
            cuts.append(batch.offsets + torch.tensor([rows.start, columns.start]) - MARGIN)
        clean, target = torch.cat(photos), torch.cat(made)
        source = clean[..., 0][:, None] + 0.5
        levels = torch.rand((2 * count, 1, 1, 1), generator=noise) * config.noise / 255
        levels = levels * (torch.rand(levels.shape, generator=noise) < 0.75)
        noisy = clean + levels * torch.randn(clean.shape, generator=noise)
        z = cut_canvas(self.canvas, torch.cat(cuts), size + 2 * MARGIN)
        luma, chroma = stylize(self.generator, planes_of(noisy), z)

        # What both windows show must be equal.
        (ay, ax), (by, bx) = moves.tolist()
        height, width = size - abs(ay - by), size - abs(ax - bx)
        first = luma[:count, :, max(0, by - ay) :, max(0, bx - ax) :][..., :height, :width]
        second = luma[count:, :, max(0, ay - by) :, max(0, ax - bx) :][..., :height, :width]
        terms = {"shift": losses.consistency_term(first, second)}
        terms["chroma"] = (chroma**2).mean()
        weights = {"shift": config.shift_weight, "chroma": config.chroma_weight}
        terms["strokes"] = (luma - target).abs().mean()
        weights["strokes"] = config.strokes_weight if warm else config.strokes_late
        if not warm:
            self._late_terms(luma[:count], source[:count], target[:count], terms, weights)
        total = torch.stack([weights[name] * terms[name] for name in weights]).sum()
        if not torch.isfinite(total):
            shown = ", ".join(f"{name} {float(term.detach()):g}" for name, term in terms.items())
            raise FloatingPointError(f"the loss is {float(total.detach())} at step {self.step}: {shown}")
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.generator.parameters(), 1.0)
        self.optimizer.step()
        report = {name: float(value.detach()) for name, value in terms.items()}
        if not warm:
            report |= self._train_discriminator(batch.drawings, _inner(luma[:count].detach()))
        self._update_average()
        self.step += 1
        return report

    def _late_terms(
        self, luma: Tensor, source: Tensor, target: Tensor, terms: dict[str, Tensor], weights: dict[str, float]
    ) -> None:
        config = self.config
        terms["tone"] = losses.tone_term(luma, target)
        weights["tone"] = config.tone_weight
        inner = _inner(luma)
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
        with torch.autocast("cpu", torch.bfloat16):
            verdict_real = self.discriminator(real).float()
            verdict_made = self.discriminator(made.clamp(0, 1)).float()
        loss = losses.hinge_discriminator(verdict_real, verdict_made)
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        loss.backward()
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
    def draw(self, rgb: NDArray[np.uint8], *, move: tuple[int, int] = (0, 0), noise: float = 0) -> Tensor:
        """Stylize one photo (size a multiple of 8) with the averaged weights: luma (1, 1, h, w) in [0, 1]."""
        yuv = torch.from_numpy(data.to_yuv(rgb.astype(np.float32) / 255))[None]
        if noise:
            yuv[..., 0] += noise / 255 * torch.randn(yuv.shape[:3], generator=torch.Generator().manual_seed(0))
        height, width = rgb.shape[:2]
        rows = torch.arange(move[0] - MARGIN, height + MARGIN + move[0]) % canvas.TILE
        columns = torch.arange(move[1] - MARGIN, width + MARGIN + move[1]) % canvas.TILE
        z = self.canvas[rows][:, columns][None, None]
        return stylize(self.average, planes_of(yuv), z)[0].clamp(0, 1)

    def measure(self, photos: list[NDArray[np.uint8]]) -> dict[str, float]:
        """Measure shift and noise stability and distance to the source on held-out photos, in dB."""
        shift, noisy, source = [], [], []
        for photo in photos:
            side = min(256, (min(photo.shape[:2]) - 5) // 8 * 8)
            here = photo[:side, :side]
            moved = np.ascontiguousarray(photo[3 : 3 + side, 5 : 5 + side])
            first, second = self.draw(here), self.draw(moved, move=(3, 5))
            shift.append(losses.consistency_term(first[..., 3:, 5:], second[..., :-3, :-5], 16))
            noisy.append(((first - self.draw(here, noise=3)) ** 2).mean())
            luma = torch.from_numpy(data.to_yuv(here.astype(np.float32) / 255)[..., 0] + 0.5)
            source.append(((first - luma) ** 2).mean())
        decibels = [float(-10 * torch.log10(torch.stack(part).mean())) for part in (shift, noisy, source)]
        return dict(zip(("shift_db", "noise_db", "source_db"), decibels, strict=True))

    def sheet(self, photos: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Lay out photos and their drawings side by side, two pairs a row."""
        tiles = []
        for photo in photos:
            height, width = (min(side, 384) // 8 * 8 for side in photo.shape[:2])
            tile = np.full((384, 768), 255, np.uint8)
            tile[:height, :width] = cv2.cvtColor(photo[:height, :width], cv2.COLOR_RGB2GRAY)
            tile[:height, 384 : 384 + width] = (self.draw(photo[:height, :width])[0, 0] * 255).round().byte().numpy()
            tiles.append(tile)
        return np.vstack([np.hstack(tiles[i : i + 2]) for i in range(0, len(tiles) // 2 * 2, 2)])

    # -- checkpoints -----------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write the whole state under ``path`` at once, or not at all."""
        state = {
            "config": asdict(self.config),
            "step": self.step,
            **{name: getattr(self, name).state_dict() for name in self._PARTS},
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, path)

    def load(self, path: Path) -> None:
        """Take up the state that ``save`` wrote."""
        state = torch.load(path, weights_only=True)
        self.step = state["step"]
        for name in self._PARTS:
            getattr(self, name).load_state_dict(state[name])

    _PARTS = ("generator", "average", "discriminator", "optimizer", "discriminator_optimizer")


def train(
    config: Config, out: Path, *, resume: bool = False, start_from: Path | None = None, every: int = 250
) -> Generator:
    """Train a style and return its generator, averaged and folded.

    Writes into ``out``: checkpoint.pt (every ``every`` steps), log.csv, preview-STEP.png, generator.pt.

    Args:
        start_from: A checkpoint whose weights and step are taken, with this ``config`` from there on.
    """
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "checkpoint.pt"
    trainer, batches = Trainer(config), Batches(config)
    if resume or start_from:
        trainer.load(start_from or checkpoint)
    preview = batches.held_out[:: max(1, len(batches.held_out) // 12)][:12]
    (out / "config.json").write_text(json.dumps(asdict(config), indent=1) + "\n")
    if trainer.step == 0:
        (out / "log.csv").unlink(missing_ok=True)
    recent: dict[str, list[float]] = {}
    bar = tqdm(total=config.steps, initial=trainer.step, file=sys.stderr, mininterval=10, dynamic_ncols=True)
    begun = time.perf_counter()
    try:
        for step, batch in batches.stream(trainer.step):
            if step >= config.warm_steps and trainer.vgg is None:
                trainer.load_vgg(batches)
            for name, value in trainer.train_step(batch).items():
                recent.setdefault(name, []).append(value)
            bar.update()
            if (step + 1) % every == 0 or step + 1 == config.steps:
                means = {name: float(np.mean(values)) for name, values in recent.items()}
                row = {"step": step + 1, "seconds": round(time.perf_counter() - begun, 1)}
                row |= {name: round(value, 5) for name, value in (means | trainer.measure(preview)).items()}
                recent.clear()
                _log(out / "log.csv", row)
                tqdm.write("  ".join(f"{name} {value:g}" for name, value in row.items()), file=sys.stderr)
                cv2.imwrite(str(out / f"preview-{step + 1:06d}.png"), trainer.sheet(preview))
                trainer.save(checkpoint)
    except KeyboardInterrupt:
        trainer.save(checkpoint)
        raise
    finally:
        bar.close()
    result = folded(trainer.average.float())
    torch.save(result.state_dict(), out / "generator.pt")
    return result


_COLUMNS = (
    "step", "seconds", "strokes", "shift", "chroma", "tone", "content", *losses.VGG_LAYERS, "adversarial",
    "discriminator", "accuracy", "shift_db", "noise_db", "source_db",
)  # fmt: skip


def _log(path: Path, row: dict[str, float]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow(row)

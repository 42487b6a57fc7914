"""Train a style: ``python -m train --style PAINTING --content FOLDER --out RUN``.

A generator against a patch discriminator, in two stages of one run. Until ``warm_steps`` the generator learns from a
painter made in code (painting.py) where strokes go and which color each takes. From there on it learns from the
painting itself how they look: sliced Wasserstein distances of VGG16 features, a discriminator that is trained in
alternation, and a term against the lattice of the network's own cells. All the while it must give the same frame for a
shifted view with other noise. Several processes (torchrun) make a batch each, and share the mean of the gradients. Read
it from top to bottom.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from rtstyle.canvas.field import measure
from rtstyle.canvas.steering import CHANNELS
from rtstyle.frame import MARGIN
from rtstyle.generator import SHAPES, Generator, pack, unpack, with_weights
from rtstyle.universal.painting import Painting
from train import data, losses
from train.cartoon import Cartoon, Flats
from train.drawing import HANDS, Drawing
from train.painting import MANNERS
from train.pool import Crops, Painter, Sample, make_pool, to_canvas
from train.processes import average_gradients, joined, rank

PAINTING_BASE = Path(__file__).parent / "weights" / "painting.safetensors"
"""What a run of a painting starts from: 2000 steps of the painter ``composition_vii``, 230 against the painting."""

DRAWING_BASE = Path(__file__).parent / "weights" / "drawing.safetensors"
"""What a run of a drawing starts from: the network of ``red_chalk``."""

CARTOON = "cartoon"
"""The manner of ``cartoon.Cartoon``."""

VGG = Path(__file__).parent / "weights" / "vgg16_imagenet_conv1-4.fp16.safetensors"

RIM = 12
"""Pixels at the edge of a crop that VGG16 and the discriminator do not see."""

_MARGINS = (MARGIN, MARGIN // 2, MARGIN // 2)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides the weights; saved with them."""

    content: tuple[str, ...]
    """Folders of photos. Every 17th photo is kept back."""
    style: str = ""
    """The painting; empty: photos drawn in code, which only a drawing and a cartoon can learn from."""
    manner: str = "picture"
    """How it is painted in code: a name of ``painting.MANNERS``, ``CARTOON`` or, for a drawing, a name of
    ``drawing.HANDS``."""
    size_class: str = "default"
    """A name of ``generator.SHAPES``."""
    base: str = str(PAINTING_BASE)
    """What to start from: a .safetensors, or the generator.pt of a run on a steered canvas; empty: random weights."""
    teacher: str = ""
    """The generator.pt of a run whose images of clean photos are imitated instead of the painter's: so fast networks
    learn (Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network")."""
    seed: int = 1
    pool: int = 200
    """Photos that are measured and painted before the first step."""
    warm_steps: int = 1300
    steps: int = 1440
    crop: int = 128
    """Pixels per side of crops."""
    batch: int = 2
    """Crops of a step; each is seen in two windows."""
    shift: int = 7
    """Largest shift between the two windows, in pixels."""
    noise: float = 6.0
    """Largest standard deviation of the noise on a window, in levels of 255."""
    warm_rate: float = 8e-4
    rate: float = 6e-4
    discriminator_rate: float = 4e-4
    chroma_weight: float = 2.0
    """Of the painter's chroma, relative to its luma."""
    strokes_late: float = 0.6
    """Of the painter's image in the second stage."""
    shift_weight: float = 40.0
    style_weights: tuple[float, ...] = (0.15, 0.4, 0.4, 0.4)
    """Of the sliced Wasserstein distances at relu1_2, relu2_2, relu3_3, relu4_3 to the painting, if there is one."""
    feature_weight: float = 0.4
    """Of the distances there to the painter's image, relative to these."""
    adversarial_weight: float = 0.05
    lattice_weight: float = 2000.0


_COARSE = 1.0
"""Fineness of the canvas, in units of z, below which the painting's statistics are asked for: 0.5 of the most."""

_FEWEST = 16
"""Positions of features that make a distribution."""

_GATE_RATE = 5.0
"""Learning rate of the gate relative to the rest: its gains start at 0 and have the farthest way to go."""

_EMA, _LATE_EMA = 0.998, 0.985
"""Decay per step of the averaged weights in the two stages; the second one is short."""


def painter(manner: str, picture: NDArray[np.uint8] | None) -> Painter:
    """Return who paints in that manner: a drawer, a cartoonist, or a painter in the colors of the picture.

    Raises:
        ValueError: A painter has no picture.
    """
    if manner in HANDS:
        return Drawing(HANDS[manner])
    if manner == CARTOON:
        return Cartoon(Flats())
    if picture is None:
        raise ValueError(f"the manner {manner} needs a painting (--style) for its colors")
    return Painting(picture, MANNERS[manner])


def _drawn(samples: Sequence[Sample]) -> NDArray[np.uint8]:
    """Return samples as they are drawn in code, one below the other, (h, w, 3) RGB."""
    width = min(each.painted.shape[1] for each in samples)
    yuv = np.concatenate([each.painted[:, :width] for each in samples]).astype(np.float32)
    rgb = cv2.transform(yuv + np.array((0.5, 0, 0), np.float32), data.TO_RGB)
    return np.asarray(np.rint(255 * np.clip(rgb, 0, 1)), np.uint8)


def start(config: Config) -> Generator:
    """Make the generator that a run starts from: weights of the base that fit, the rest at random."""
    generator = Generator(*SHAPES[config.size_class], canvas=CHANNELS)
    if not config.base:
        return generator
    pickled = config.base.endswith(".pt")
    base: dict[str, Tensor] = torch.load(config.base, weights_only=True) if pickled else load_file(config.base)
    own = generator.state_dict()
    for name, value in own.items():
        if name in base and base[name].shape == value.shape:
            own[name] = base[name]
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
    return clamped(torch.einsum("ij,njhw->nihw", torch.from_numpy(data.TO_RGB), torch.cat((luma, wide), 1)))


def clamped(levels: Tensor) -> Tensor:
    """Clamp levels to 0 to 1, but for a tenth of what exceeds, which has a gradient."""
    shown = levels.clamp(0, 1)
    return shown + 0.1 * (levels - shown)


@dataclass(frozen=True)
class Batch:
    """Two windows on each of n samples; tensors have 2n entries, the first windows first."""

    toned: Tensor
    painted: Tensor
    z: Tensor
    clean: Tensor
    """Like ``toned``, without noise; empty where there is no teacher."""
    windows: NDArray[np.int64]
    """Shape (2, 2): (y, x) of the two windows, relative to one another."""


class Trainer:
    """The state of a run and what one step does to it."""

    def __init__(self, config: Config, out: Path) -> None:
        torch.manual_seed(config.seed)
        self.config, self.out = config, out
        out.mkdir(parents=True, exist_ok=True)
        self.picture: NDArray[np.uint8] | None = None
        if config.style:
            (self.picture,) = data.load_pictures([Path(config.style)], 400)
        self.painting = painter(config.manner, self.picture)
        paths = sorted(p for folder in config.content for p in data.list_pictures(Path(folder)))
        self.paths, self.held_out = [p for i, p in enumerate(paths) if i % 17], paths[::17]
        self.generator = start(config).to(memory_format=torch.channels_last)
        self.average = start(config)
        self.average.load_state_dict(self.generator.state_dict())
        self.average.requires_grad_(False)
        self.discriminator = losses.Discriminator()
        gate = [p for name, p in self.generator.named_parameters() if name.startswith("gate.")]
        rest = [p for name, p in self.generator.named_parameters() if not name.startswith("gate.")]
        groups = [{"params": rest, "times": 1.0}, {"params": gate, "times": _GATE_RATE}]
        self.optimizer = torch.optim.Adam(groups, config.warm_rate, (0.9, 0.99))
        self.critic = torch.optim.Adam(self.discriminator.parameters(), config.discriminator_rate, (0.5, 0.99))
        self.teacher: Generator | None = None
        if config.teacher:
            self.teacher = with_weights(torch.load(config.teacher, weights_only=True)).requires_grad_(False)
        self.vgg: losses.Vgg16 | None = None
        self.targets: list[list[tuple[Tensor, float]]] = []
        self.step = 0
        self.pool: list[Sample] = []
        self.crops = Crops(self.painting, config.crop)

    @property
    def kind(self) -> str:
        """What style.json calls such a style, as far as its limits depend on it (``evaluate.BARS``)."""
        manner = self.config.manner
        if manner not in HANDS:
            return "cartoon" if manner == CARTOON else "painting"
        return "light drawing" if HANDS[manner].light else "drawing"

    # -- batches ---------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Measure and paint the photos of the pool."""
        config = self.config
        paint = not config.teacher or self.picture is None  # its own drawings are the picture
        self.pool = make_pool(self.paths, self.painting, config.pool, config.seed, paint=paint)
        if self.picture is None:
            self.picture = _drawn(self.pool[:6])

    def batch(self) -> Batch:
        """Make the batch of this step: a function of the seed, the step and the process."""
        config, size = self.config, self.config.crop
        rng = np.random.default_rng((_seed(config), self.step))
        windows = rng.integers(0, config.shift + 1, (2, 2))
        parts: list[list[Any]] = [[], []]
        clean: list[list[NDArray[np.float32]]] = [[], []]
        for _ in range(config.batch):
            sample = self.pool[rng.integers(len(self.pool))]
            height, width = sample.photo.shape[:2]
            y, x = (int(rng.integers(side - size - config.shift + 1)) for side in (height, width))
            for which, (dy, dx) in enumerate(windows.tolist()):
                level = rng.random() * (rng.random() < 0.75) * config.noise / 255
                noise = np.float32(level) * rng.standard_normal((size, size, 3), np.float32)
                parts[which].append(self.crops.window(sample, y + dy, x + dx, noise))
                if self.teacher:
                    clean[which].append(self.crops.toned(sample, y + dy, x + dx))
        every = [*parts[0], *parts[1]]
        toned, painted = (torch.from_numpy(np.stack([each[i] for each in every])) for i in (0, 1))
        still = torch.from_numpy(np.stack([*clean[0], *clean[1]])) if self.teacher else torch.empty(0)
        return Batch(toned, painted, to_canvas([each[2] for each in every]), still, windows)

    # -- one step --------------------------------------------------------------------------------

    def rate(self) -> float:
        """Learning rate: a short ramp, then a cosine, in each stage."""
        config = self.config
        late = self.step >= config.warm_steps
        top, begin = (config.rate, config.warm_steps) if late else (config.warm_rate, 0)
        end = config.steps if late else config.warm_steps
        done = (self.step - begin) / max(1, end - begin)
        ramp = 50 if late else 200  # a fast start from another canvas kills whole layers: no ReLU of them opens again
        return float(top * min(1, (self.step - begin + 1) / ramp) * (0.08 + 0.46 * (1 + np.cos(np.pi * done))))

    def train_step(self, batch: Batch) -> dict[str, float]:
        """Do one step and return the terms of the loss, unweighted.

        Raises:
            FloatingPointError: A gradient is NaN or infinite; nothing was changed in this step.
        """
        config, late = self.config, self.step >= self.config.warm_steps
        for group in self.optimizer.param_groups:
            group["lr"] = group["times"] * self.rate()
        luma, chroma = stylize(self.generator, batch.toned, batch.z)
        luma = clamped(luma)  # white paper clips strokes: of those on it only dark ones are seen
        target, target_chroma = self._target(batch)
        count = len(luma) // 2
        first, second = _overlap(luma[:count], luma[count:], batch.windows)
        strokes = config.strokes_late if late else 1.0
        terms = {
            "luma": (luma - target).abs().mean(),
            "chroma": (chroma - target_chroma).abs().mean(),
            "shift": losses.consistency_term(first, second),
            "lattice": lattice_term(luma, chroma),
        }
        weights = {
            "luma": strokes,
            "chroma": strokes * config.chroma_weight,
            "shift": config.shift_weight,
            "lattice": config.lattice_weight,
        }
        shown = to_rgb(luma[:count], chroma[:count])[..., RIM:-RIM, RIM:-RIM]
        if late:
            painted = to_rgb(target[:count], target_chroma[:count])[..., RIM:-RIM, RIM:-RIM]
            self._late_terms(shown, painted, batch.z[:count, -1], terms, weights)
        total = torch.stack([weights[name] * terms[name] for name in weights]).sum()
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        average_gradients(self.generator.parameters())
        norm = torch.nn.utils.clip_grad_norm_(self.generator.parameters(), 1.0)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"a gradient is {float(norm)} at step {self.step}")
        self.optimizer.step()
        report = {name: float(value.detach()) for name, value in terms.items()}
        if late:
            report |= self._train_discriminator(shown.detach())
        self._update_average(min(_LATE_EMA if late else _EMA, (1 + self.step) / (10 + self.step)))
        self.step += 1
        return report

    @torch.no_grad()
    def _target(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the luma and chroma to be learnt."""
        if self.teacher:
            return stylize(self.teacher, batch.clean, batch.z)
        y, u, v = (batch.painted[..., i][:, None] for i in range(3))
        return y + 0.5, torch.cat([functional.avg_pool2d(p, 2) for p in (u, v)], 1)

    @torch.no_grad()
    def _update_average(self, decay: float) -> None:
        state = self.generator.state_dict()
        for name, value in self.average.state_dict().items():
            value.lerp_(state[name], 1 - decay)

    def _late_terms(
        self, shown: Tensor, painted: Tensor, fine: Tensor, terms: dict[str, Tensor], weights: dict[str, float]
    ) -> None:
        """Add the terms of the second stage.

        Features of VGG16 shall be those of the same photo as painted in code (Johnson et al. 2016), whose strokes lie
        at the same places: L1 is content with the mean of where they might be, which is no stroke. Their distribution
        shall be that of the painting.

        Args:
            fine: The canvas's fineness, with its margin, shape (n, h, w).
        """
        config = self.config
        made = self._features(shown)
        with torch.no_grad():
            wanted = self._features(painted)
        for layer, (ours, theirs, weight) in enumerate(zip(made, wanted, config.style_weights, strict=True)):
            name = f"vgg{layer + 1}"
            terms[name], weights[name] = functional.l1_loss(ours, theirs) / theirs.std(), config.feature_weight * weight
        if config.style:
            directions = torch.Generator().manual_seed(1_000_003 * config.seed + self.step)
            for layer, (ours, real, weight) in enumerate(zip(made, self._style(), config.style_weights, strict=True)):
                name = f"swd{layer + 1}"
                terms[name], weights[name] = swd_term(ours, *real, _coarse(fine, ours), directions), weight
        if config.adversarial_weight:
            self.discriminator.requires_grad_(False)
            seen = _rescaled(shown, self.step)
            with _half():
                verdict = self.discriminator(seen)
            terms["adversarial"] = losses.hinge_generator(verdict.float())
            self.discriminator.requires_grad_(True)
            lead = min(1.0, max(0.0, (self.step - config.warm_steps - 50) / 100))
            weights["adversarial"] = lead * config.adversarial_weight

    def _features(self, images: Tensor) -> list[Tensor]:
        """Return what VGG16 sees in RGB images (n, 3, h, w): relu1_2, relu2_2, relu3_3 and relu4_3."""
        if self.vgg is None:
            self.vgg = losses.Vgg16(VGG, 4)
        with _half():
            return [layer.float() for layer in self.vgg(images)]

    def _style(self) -> list[tuple[Tensor, float]]:
        """Return the painting's features with their deviations, at full size and at 0.7 of it in turn."""
        assert self.picture is not None
        if not self.targets:
            whole = torch.from_numpy(self.picture).permute(2, 0, 1)[None].float() / 255
            small = functional.interpolate(whole, scale_factor=0.7, mode="bilinear", antialias=True)
            with torch.no_grad():
                flat = [[layer[0].flatten(1) for layer in self._features(size)] for size in (whole, small)]
            self.targets = [[(layer, float(layer.std(1).mean())) for layer in size] for size in flat]
        return self.targets[0 if self.step % 3 else 1]

    def _train_discriminator(self, made: Tensor) -> dict[str, float]:
        assert self.picture is not None
        rng = np.random.default_rng((_seed(self.config), self.step, 2))
        size = made.shape[-1]
        real = np.stack([data.picture_crop(self.picture, size, rng) for _ in range(len(made))])
        both = _rescaled(torch.cat((torch.from_numpy(real), made.clamp(0, 1))), self.step)
        with _half():
            verdict = self.discriminator(both)
        verdict_real, verdict_made = verdict.float().chunk(2)
        loss = losses.hinge_discriminator(verdict_real, verdict_made)
        self.critic.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(self.discriminator.parameters())
        self.critic.step()
        accuracy = 0.5 * ((verdict_real > 0).float().mean() + (verdict_made < 0).float().mean())
        return {"discriminator": float(loss.detach()), "accuracy": float(accuracy)}

    # -- what is kept and looked at --------------------------------------------------------------

    _PARTS = ("generator", "average", "discriminator", "optimizer", "critic")

    def save(self) -> None:
        """Write checkpoint.pt, generator.pt (averaged weights), and config.json with what style.json needs."""
        part = self.out / "checkpoint.part"
        torch.save({name: getattr(self, name).state_dict() for name in self._PARTS} | {"step": self.step}, part)
        part.replace(self.out / "checkpoint.pt")
        torch.save(self.average.state_dict(), self.out / "generator.pt")
        entries = {"canvas": self.painting.steering.entry(), "tone": asdict(self.painting.curve)}
        words = asdict(self.config) | {"kind": self.kind, "style_json": entries}
        (self.out / "config.json").write_text(json.dumps(words, indent=1) + "\n", "utf-8")

    def load(self) -> None:
        """Continue from checkpoint.pt."""
        state = torch.load(self.out / "checkpoint.pt", weights_only=True)
        for name in self._PARTS:
            getattr(self, name).load_state_dict(state[name])
        self.step = state["step"]

    @torch.no_grad()
    def draw(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Stylize a photo, (h, w, 3) RGB, with the averaged weights; its sides are cut to multiples of 8."""
        height, width = (side // 8 * 8 for side in rgb.shape[:2])
        yuv = data.to_yuv(np.ascontiguousarray(rgb[:height, :width]).astype(np.float32) / 255)
        seen = measure(np.rint(255 * (yuv[..., 0] + 0.5)).astype(np.uint8))
        half = yuv.astype(np.float16)
        sample = Sample(half, half, seen, (37, 11), self.painting.curve.table(seen))
        toned, _, packed = Crops(self.painting, (height, width)).window(sample, 0, 0)
        luma, chroma = stylize(self.average, torch.from_numpy(toned)[None], to_canvas([packed]))
        return (255 * to_rgb(luma, chroma)[0].clamp(0, 1).permute(1, 2, 0).numpy()).round().astype(np.uint8)

    def preview(self) -> None:
        """Write preview-STEP.jpg: four held-out photos."""
        photos = data.load_photos(self.held_out[:: max(1, len(self.held_out) // 4)][:4], 360)
        shown = [self.draw(photo[:360, :360]) for photo in photos]
        cv2.imwrite(str(self.out / f"preview-{self.step:05d}.jpg"), np.hstack(shown)[:, :, ::-1])


def _seed(config: Config) -> int:
    """Return a seed of this process's own."""
    return config.seed + 1_000_003 * rank()


def _overlap(first: Tensor, second: Tensor, windows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Return what two windows both show."""
    (ay, ax), (by, bx) = windows.tolist()
    height, width = (side - abs(d) for side, d in zip(first.shape[-2:], (ay - by, ax - bx), strict=True))
    first = first[..., max(0, by - ay) :, max(0, bx - ax) :][..., :height, :width]
    second = second[..., max(0, ay - by) :, max(0, ax - bx) :][..., :height, :width]
    return first, second


def _half() -> torch.autocast:
    """Run what is only looked at, VGG16 and the discriminator, in bf16 where the CPU multiplies it (AMX, AVX512-BF16:
    with the latter VGG16 takes .56 of the time)."""
    able = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.autocast("cpu", torch.bfloat16, enabled=able)


def lattice_term(luma: Tensor, chroma: Tensor) -> Tensor:
    """Variance of the mean cell of the fine detail, over windows of 8x8 cells: a grid, if there is one.

    Statistics of features are met in part by a grid of the network's own cells, in chroma as soon as in luma.

    Args:
        luma: Shape (n, 1, h, w).
        chroma: Shape (n, 2, h/2, w/2).
    """
    return _grid_of(luma, 4) + sum((_grid_of(plane, 2) for plane in chroma.split(1, 1)), torch.zeros(()))


def _grid_of(plane: Tensor, side: int) -> Tensor:
    detail = (
        plane
        - functional.avg_pool2d(plane, side + 1, 1, padding=side // 2, count_include_pad=False)[
            ..., : plane.shape[-2], : plane.shape[-1]
        ]
    )
    cells = functional.pixel_unshuffle(detail[..., side:-side, side:-side], side)
    return functional.avg_pool2d(cells, 8, 4).var(1).mean()


def _coarse(fine: Tensor, features: Tensor) -> Tensor:
    """Return the positions of features (n, c, h, w) where no fine brush is needed: strokes there are the painting's.

    What needs one is left to the painter in code: the statistics of a painting would cover eyes and mouths with its
    largest strokes.
    """
    rim = (MARGIN + RIM) // 4
    inner = functional.interpolate(fine[:, None, rim:-rim, rim:-rim], features.shape[-2:], mode="bilinear")
    return inner[:, 0].flatten() < _COARSE


def swd_term(
    made: Tensor,
    style: Tensor,
    deviation: float,
    among: Tensor | None = None,
    generator: torch.Generator | None = None,
    directions: int = 32,
) -> Tensor:
    """Sliced Wasserstein distance of features to those of the style, in units of their deviation.

    Source: Heitz, Vanhoey, Chambon and Belcour 2021, "A Sliced Wasserstein Loss for Neural Texture Synthesis".

    Args:
        made: Shape (n, c, h, w): all positions of the batch are one distribution.
        style: Shape (c, positions).
        deviation: Mean standard deviation of a channel of ``style``.
        among: Shape (n * h * w,), bool: the positions that count; None: all. Fewer than ``_FEWEST`` give 0.
        generator: Draws directions and positions.
    """
    flat = made.transpose(0, 1).flatten(1)
    if among is not None:
        flat = flat[:, among]
    if flat.shape[1] < _FEWEST:
        return made.sum() * 0
    chosen = torch.randint(style.shape[1], (flat.shape[1],), generator=generator)
    axes = functional.normalize(torch.randn(directions, len(flat), generator=generator), dim=1)
    ours, theirs = torch.sort(axes @ flat, 1).values, torch.sort(axes @ style[:, chosen], 1).values
    return ((ours - theirs) ** 2).mean() / deviation**2


def _rescaled(pictures: Tensor, step: int) -> Tensor:
    """Resize by a factor of 0.8 to 1.25 that depends on the step, so that a lattice is no tell."""
    factor = float(np.exp(np.random.default_rng((step, 3)).uniform(np.log(0.8), np.log(1.25))))
    return functional.interpolate(pictures, scale_factor=factor, mode="bilinear", antialias=True)


def train(config: Config, out: Path, *, resume: bool = False) -> None:
    """Train a style; see the module. Writes into ``out`` every two minutes, and at the end.

    Raises:
        ValueError: An image cannot be read.
        FloatingPointError: A gradient is NaN or infinite.
    """
    cv2.setNumThreads(1)
    trainer = Trainer(config, out)
    if resume:
        trainer.load()
    begun = saved = time.time()
    trainer.prepare()
    if rank() == 0:
        print(f"{len(trainer.pool)} photos painted in {time.time() - begun:.0f} s", flush=True)
    sums: dict[str, list[float]] = {}
    while trainer.step < config.steps:
        for name, value in trainer.train_step(trainer.batch()).items():
            sums.setdefault(name, []).append(value)
        if trainer.step % 100 == 0 and rank() == 0:
            shown = " ".join(f"{name} {np.mean(values):.4f}" for name, values in sums.items())
            print(f"step {trainer.step}, {time.time() - begun:.0f} s: {shown}", flush=True)
            sums.clear()
        if time.time() - saved > 120 and rank() == 0:
            saved = time.time()
            trainer.save()
            trainer.preview()
    if rank() == 0:
        trainer.save()
        trainer.preview()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m train", description="Train a style, see train/README.md.")
    parser.add_argument(
        "--style",
        default="",
        metavar="PAINTING",
        help="the image that it learns from; drawings (--manner sketch) and cartoons need none",
    )
    parser.add_argument("--content", nargs="+", required=True, metavar="FOLDER", help="folders of photos")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder of the run")
    manners = sorted([*MANNERS, *HANDS, CARTOON])
    parser.add_argument("--manner", choices=manners, default="picture", help="(default: %(default)s)")
    parser.add_argument("--size-class", choices=sorted(SHAPES), default="default", help="(default: %(default)s)")
    parser.add_argument(
        "--base",
        metavar="WEIGHTS",
        help="what to start from; '' is nothing (default: a painting or a drawing of ours; nothing for other sizes)",
    )
    parser.add_argument("--teacher", default="", metavar="GENERATOR", help="the generator.pt that is to be imitated")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    for field in fields(Config):
        if isinstance(field.default, int | float):
            name = "--" + field.name.replace("_", "-")
            parser.add_argument(name, type=type(field.default), default=field.default, help="(default: %(default)s)")
    args = parser.parse_args(arguments)
    if args.base is None:
        ours = DRAWING_BASE if args.manner in HANDS else PAINTING_BASE
        args.base = str(ours) if args.size_class == "default" else ""  # they are default ones
    needed = [*args.content, *(path for path in (args.style, args.base, args.teacher) if path)]
    if args.resume:
        needed.append(str(args.out / "checkpoint.pt"))
    for place in needed:
        if not Path(place).exists():
            print(f"train: error: there is no {place}", file=sys.stderr)
            return 1
    values = {field.name: getattr(args, field.name) for field in fields(Config) if hasattr(args, field.name)}
    try:
        with joined():
            train(Config(**values | {"content": tuple(args.content)}), args.out, resume=args.resume)
    except (ValueError, FloatingPointError) as error:
        print(f"train: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"train: stopped; --resume continues from {args.out / 'checkpoint.pt'}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

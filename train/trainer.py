"""Train a style: generator against a patch discriminator. Read it from top to bottom; batches.py is what it
sees, forward.py how the generator is run, preview.py and log.py what it shows of itself.

Two stages in one run. Until ``warm_steps`` the generator learns from a painter made in code
(painters.py) where marks belong and what they do to tone and color; no loss network is needed, a step
costs a fifth. From there on it learns from real images how marks look: style and content terms of
VGG16, and a discriminator that is trained in alternation. Both stages are tied to themselves: image and
canvas shifted together must give the shifted output, and noise must change nothing.

Drawings are looked at as luma, paintings in color. A run may start from ``base``, the generator that all
shipped styles were fine-tuned from: it has no normalisation left, so their weights can be interpolated.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, distributed
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from rtstyle.frame import MARGIN
from rtstyle.generator import Generator, folded
from train import data, losses
from train.batches import RIM, Batch, Batches, Config
from train.forward import canvas_tile, cut_canvas, new_generator, planes_of, stylize, to_rgb
from train.log import Log
from train.preview import Preview
from train.processes import rank

RECOVERIES = 3
"""How often a run goes back to its last checkpoint with half the rate when a gradient is NaN or infinite."""


@dataclass(frozen=True)
class _Views:
    """What the generator sees of a batch, the first windows first, on the device."""

    clean: Tensor
    """Shape (2n, crop, crop, 3), canonical YUV: the two windows."""
    painted: Tensor
    """Like ``clean``: as the painter paints them."""
    noisy: Tensor
    """``clean`` with light and noise; with a ``grid`` the first window once more, turned and zoomed: 3n."""
    z: Tensor
    """The canvas below each of ``noisy``, with a margin."""
    grid: Tensor | None
    """Shape (n, crop, crop, 2): where each pixel of the turned window comes from."""


def _overlap(first: Tensor, second: Tensor, windows: Tensor) -> tuple[Tensor, Tensor]:
    """Return what two windows (n, c, crop, crop) at ``windows`` both show."""
    (ay, ax), (by, bx) = windows.tolist()
    height, width = first.shape[2] - abs(ay - by), first.shape[3] - abs(ax - bx)
    first = first[..., max(0, by - ay) :, max(0, bx - ax) :][..., :height, :width]
    second = second[..., max(0, ay - by) :, max(0, ax - bx) :][..., :height, :width]
    return first, second


def _moved(picture: Tensor, grid: Tensor) -> Tensor:
    """Sample (n, c, h, w) at the places of ``grid`` (n, h, w, 2)."""
    return functional.grid_sample(picture, grid, mode="bicubic", padding_mode="border", align_corners=False)


def _inner(picture: Tensor) -> Tensor:
    """Leave the rim of a crop out."""
    return picture[..., RIM:-RIM, RIM:-RIM]


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

        self.canvas = canvas_tile().to(self.device)
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
        """Load the loss network and measure the Gram matrices of the style's images."""
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
            FloatingPointError: A gradient is NaN or infinite; nothing was changed in this step.
        """
        config, warm = self.config, self.step < self.config.warm_steps
        self.generator.train(warm)  # batch statistics, where there are any, are frozen in the second stage
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(self.step)
        views = self._views(batch)
        luma, chroma = stylize(self.shared_generator, planes_of(views.noisy), views.z)
        count = batch.photos.shape[0]
        luma, turned, chroma = luma[: 2 * count], luma[2 * count :], chroma[: 2 * count]
        target_y, target_u, target_v = planes_of(views.painted)
        target_y, target_chroma = target_y + 0.5, torch.cat((target_u, target_v), 1)
        terms = {
            "shift": losses.consistency_term(*_overlap(luma[:count], luma[count:], batch.windows)),
            "strokes": (luma - target_y).abs().mean(),
            "chroma": (chroma - target_chroma).abs().mean(),
        }
        strokes = config.strokes_weight if warm else config.strokes_late
        weights = {"shift": config.shift_weight, "strokes": strokes, "chroma": strokes * config.chroma_weight}
        if views.grid is not None:
            seen_before = (views.grid.abs() < 1).all(-1)[:, None]  # what comes in from outside has no counterpart
            terms["warp"] = losses.warping_term(turned, _moved(luma[:count], views.grid), seen_before, RIM)
            weights["warp"] = config.warp_weight
        seen = luma[:count]
        if not warm:
            source = views.clean[:count, ..., 0][:, None] + 0.5
            if config.color:
                seen = to_rgb(luma[:count], chroma[:count])
                source = to_rgb(source, torch.cat(planes_of(views.clean[:count])[1:], 1))
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

    def _views(self, batch: Batch) -> _Views:
        """Cut two windows on the same photos and canvas, a few pixels apart, each with its own noise and light."""
        count, size = batch.photos.shape[0], batch.noise.shape[2]
        both, made, cuts = [], [], []
        for y, x in batch.windows.tolist():
            both.append(batch.photos[:, y : y + size, x : x + size])
            made.append(batch.painted[:, y : y + size, x : x + size])
            cuts.append(batch.offsets + torch.tensor([y, x]) - MARGIN)
        clean, painted = torch.cat(both).to(self.device), torch.cat(made).to(self.device)
        black = torch.tensor([-0.5, 0, 0], device=self.device)
        lit = black + (clean - black) * batch.light.flatten().to(self.device)[:, None, None, None]
        noisy = lit + batch.noise.flatten(0, 1).to(self.device)
        z = cut_canvas(self.canvas, torch.cat(cuts), size + 2 * MARGIN)
        if not self.config.warp_weight:
            return _Views(clean, painted, noisy, z, None)
        grid = functional.affine_grid(batch.warps.to(self.device), [count, 1, size, size], align_corners=False)
        noisy = torch.cat((noisy, _moved(noisy[:count].permute(0, 3, 1, 2), grid).permute(0, 2, 3, 1)))
        return _Views(clean, painted, noisy, torch.cat((z, z[:count])), grid)

    def _check(self, norm: Tensor, terms: dict[str, Tensor]) -> None:
        """Refuse a gradient that is NaN or infinite; it is the same in all processes, so they all do."""
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
        """Train it on as many real crops as made ones, also where it has no weight (for its accuracy)."""
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
    TensorBoard's events where that is installed. A gradient that is NaN or infinite sends the run back to its last
    checkpoint, with half the rate.

    Args:
        start_from: A checkpoint whose weights and step are taken, with this ``config`` from there on.
        device: ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        FloatingPointError: It went back ``RECOVERIES`` times already.
    """
    cv2.setNumThreads(1)  # batches are made in a thread beside torch's, which need the cores more
    checkpoint = out / "checkpoint.pt"
    trainer = Trainer(config, device)
    batches = Batches(config, rank(), trainer.world)
    if resume or start_from:
        trainer.load(start_from or checkpoint)
    log = Log(out, fresh=trainer.step == 0) if rank() == 0 else None
    if log:
        (out / "config.json").write_text(json.dumps(asdict(config), indent=1) + "\n")
        trainer.save(checkpoint)
    try:
        while trainer.step < config.steps:
            try:
                _run(trainer, batches, out, log, every)
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
    result = folded(trainer.average.float().cpu())
    if log:
        torch.save(result.state_dict(), out / "generator.pt")
    return result


def _run(trainer: Trainer, batches: Batches, out: Path, log: Log | None, every: int) -> None:
    """Do all steps that are left; where there is a log, write it, a sheet and a checkpoint every so many steps."""
    config = trainer.config
    held_out = batches.held_out[:: max(1, len(batches.held_out) // 12)][:12]
    preview = Preview(trainer.average, trainer.canvas)
    with tqdm(total=config.steps, initial=trainer.step, mininterval=10, dynamic_ncols=True, disable=log is None) as bar:
        for step, batch in batches.stream(trainer.step):
            if step >= config.warm_steps and trainer.vgg is None:
                trainer.load_vgg(batches)
            report = trainer.train_step(batch)
            bar.update()
            if not log:
                continue
            log.add(report)
            bar.set_postfix({k: f"{v:.3g}" for k, v in report.items()}, refresh=False)
            if trainer.step % every == 0 or trainer.step == config.steps:
                log.write(trainer.step, preview.measure(held_out))
                cv2.imwrite(str(out / f"preview-{trainer.step:06d}.png"), preview.sheet(held_out)[:, :, ::-1])
                trainer.save(out / "checkpoint.pt")

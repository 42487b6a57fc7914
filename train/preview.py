"""What a run shows of itself: held-out photos, stylized and measured."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rtstyle.frame import MARGIN
from rtstyle.generator import Generator
from train import data, losses
from train.forward import cut_canvas, planes_of, stylize, to_rgb


class Preview:
    """Stylizes photos with a generator on its canvas, for the sheets and the figures of a run."""

    def __init__(self, generator: Generator, canvas: Tensor) -> None:
        self._generator, self._canvas = generator, canvas

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
        z = cut_canvas(self._canvas, torch.tensor([move]) - MARGIN, size)[..., :height, :width]
        luma, chroma = stylize(self._generator, planes_of(yuv.to(self._canvas.device)), z)
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

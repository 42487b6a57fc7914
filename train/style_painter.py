"""A painter of the first stage that is a trained style."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from rtstyle.frame import MARGIN
from train import data, painters
from train.forward import canvas_tile, cut_canvas, new_generator, planes_of, stylize, to_rgb


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
        self._canvas = canvas_tile()

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
        """Return the mean of the images at all of ``_SHIFTS``, each with its place on the canvas."""
        size, shown = len(rgb), []
        for (y, x), offset in zip(self._SHIFTS, offsets, strict=True):
            moved = np.pad(rgb, ((y, 8 - y), (x, 8 - x), (0, 0)), mode="edge")
            place = torch.from_numpy(offset - (y, x) - MARGIN)[None]
            z = cut_canvas(self._canvas, place, size + 8 + 2 * MARGIN)
            made = stylize(self._generator, planes_of(torch.from_numpy(data.to_yuv(moved))[None]), z)
            shown.append(to_rgb(*made)[..., y : y + size, x : x + size])
        return np.ascontiguousarray(torch.cat(shown).mean(0).permute(1, 2, 0).clamp(0, 1).numpy())

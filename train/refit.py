"""Solve for the last layers of a network for its teacher's images: ``python -m train.refit RUN TEACHER``.

A fast network that imitates its teacher from random weights draws fainter strokes than it could with the same
features. RUN is a folder of ``train.steered``; RUN/refit gets its config.json and the new generator.pt.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import torch

from rtstyle.generator import Generator, with_weights
from train import data, steered
from train.pool import Crops, make_pool, to_canvas
from train.universal import Features, Rows, assembled, packed_planes, rows_of, solve

SIDE, PHOTOS, CELLS = 192, 90, 60_000
"""Pixels per side of a crop, photos that one is cut from, and how many of their cells count."""

_NOISE = 6.0
"""Largest standard deviation of the noise that the network sees and its teacher does not, in levels."""


@torch.no_grad()
def refit(run: Path, teacher: Generator, gate: float = 1.0) -> Generator:
    """Return the network of a run with last layers for its teacher's images; ``gate`` multiplies its strokes."""
    cv2.setNumThreads(1)  # the pool forks, which threads of OpenCV do not outlive
    config = json.loads((run / "config.json").read_text("utf-8"))
    images = data.load_pictures([Path(config["style"])], 400) if config["style"] else [None]
    painting = steered.painter(config["manner"], images[0])
    paths = [p for folder in config["content"] for p in data.list_pictures(Path(folder))]
    features = Features(config["size_class"])
    features.generator.load_state_dict(torch.load(run / "generator.pt", weights_only=True))
    crops, rng, parts = Crops(painting, SIDE), np.random.default_rng(1), []
    for sample in make_pool(paths, painting, PHOTOS, 77, paint=False):
        room = [side - SIDE for side in sample.photo.shape[:2]]
        if min(room) < 8:
            continue
        y, x = (int(rng.integers(most)) for most in room)
        noise = np.float32(rng.random() * _NOISE / 255) * rng.standard_normal((SIDE, SIDE, 3), np.float32)
        toned, _, packed = crops.window(sample, y, x, noise)
        clean = packed_planes(torch.from_numpy(crops.toned(sample, y, x))[None])
        seen, z = packed_planes(torch.from_numpy(toned)[None]), to_canvas([packed])
        wanted = (clean + teacher(clean, z))[..., 2:-2, 2:-2] - seen[..., 2:-2, 2:-2]
        parts.append(rows_of(features(seen, z), seen, z, wanted))
    every = [torch.cat([getattr(part, name) for part in parts]) for name in ("near", "here", "strokes", "wanted")]
    some = torch.from_numpy(rng.permutation(len(every[0]))[:CELLS])
    made = assembled(features.generator, solve(Rows(*(column[some] for column in every))))
    made.gate.weight *= gate
    assert made.gate.bias is not None
    made.gate.bias *= gate
    return made


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m train.refit", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("teacher", type=Path, help="generator.pt of its teacher")
    parser.add_argument("--gate", type=float, default=1.0, help="what strokes are multiplied by (default: %(default)s)")
    args = parser.parse_args()
    made = refit(args.run, with_weights(torch.load(args.teacher, weights_only=True)), args.gate)
    target = args.run / "refit"
    target.mkdir(exist_ok=True)
    shutil.copy(args.run / "config.json", target)
    torch.save(made.state_dict(), target / "generator.pt")
    print(f"wrote {target / 'generator.pt'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

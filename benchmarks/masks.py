"""What masks of persons and faces cost, and how steady they are: ``python benchmarks/masks.py CLIP ...``.

Per clip, over its first frames, which are decoded before anything is measured:

    person, face  CPU milliseconds of this process per frame, without the first two
    flicker       peak signal-to-noise ratio of consecutive masks of a person, in dB, where the source stands still:
                  where the mean of its luma over 15x15 pixels changes by at most one level
    alone         the same where each frame is looked at by itself
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from itertools import islice, pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle import Frame, MaskSettings, VideoReader
from rtstyle.mask.opening import opened_mask

Masks = list[NDArray[np.uint8]]


def masks_of(frames: Sequence[Frame], settings: MaskSettings, *, alone: bool = False) -> tuple[Masks, float]:
    """Return the mask of each frame, and the CPU milliseconds of one.

    Args:
        alone: Forget earlier frames before each one.
    """
    masks, used = [], 0.0
    with opened_mask(settings, frames[0].size) as mask:
        assert mask
        for number, frame in enumerate(frames):
            if alone:
                mask.restart()
            begun = time.process_time()
            found = mask.at(frame, frame.pts * frame.time_base)
            used += time.process_time() - begun if number > 1 else 0.0
            masks.append(np.full_like(frame.planes.y, 255) if found is None else found)
    return masks, 1000 * used / max(1, len(frames) - 2)


def flicker(frames: Sequence[Frame], masks: Masks) -> float:
    """Return the steadiness of masks where nothing moves, in dB."""
    errors = []
    for (before, after), (old, new) in zip(pairwise(frames), pairwise(masks), strict=True):
        still = cv2.blur(cv2.absdiff(before.planes.y, after.planes.y), (15, 15)) <= 1
        if still.any():
            errors.append(float(np.mean((new.astype(float) - old)[still] ** 2)))
    return float(10 * np.log10(255**2 / max(float(np.mean(errors)), 1e-9))) if errors else float("nan")


def main() -> None:
    """Print a line for each clip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path, metavar="CLIP")
    parser.add_argument("--frames", type=int, default=90, help="of each clip (default: %(default)s)")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    print(f"{'clip':32} {'size':>9} {'person':>8} {'face':>8} {'flicker':>8} {'alone':>8}")
    for clip in args.clips:
        with VideoReader(clip) as reader:
            frames = list(islice(reader, args.frames))
        person, cost = masks_of(frames, MaskSettings(source="person"))
        _, face = masks_of(frames, MaskSettings(keep_face=True))
        alone, _ = masks_of(frames, MaskSettings(source="person"), alone=True)
        figures = f"{flicker(frames, person):8.1f} {flicker(frames, alone):8.1f}"
        print(f"{clip.stem:32} {frames[0].size!s:>9} {cost:8.2f} {face:8.2f} {figures}", flush=True)


if __name__ == "__main__":
    main()

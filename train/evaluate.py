"""Measure a style through the real pipeline: ``python -m train.evaluate STYLE_FOLDER PHOTO_OR_FOLDER ...``.

Writes into the ``metrics`` of its style.json, all in dB of luma, peak 255, full range:

    noise_db    output with against without Gaussian noise of sigma 3 on all samples (the input itself: 38.6)
    pan_db      neighbouring frames of pans with the motion undone, the worst of the motions; cropped from
                photos before 4:2:0, lossless in and out, ``rtstyle video`` in between, 16 pixels of border left out
    pan_mean_db the same over all motions
    source_db   output against the picture itself: low is strong

Stability counts only at a stated strength: a style that changes nothing is always stable.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle import (
    Colour,
    EncoderSettings,
    Frame,
    Size,
    VideoReader,
    VideoWriter,
    load_style,
    open_engine,
    stylize_video,
)
from rtstyle.frame import Planes, planes_from_rgb
from rtstyle.style import Style
from train.data import list_pictures

MOTIONS = ((1, 0), (0, 1), (3, 2), (5, 7), (-2, 3), (-4, -1), (6, -5), (7, 4))
"""Pixels a frame, (x, y); their sums over a clip run through all residues mod 8."""

_COLOUR = Colour("bt601", full_range=True)
_VIEW = Size(448, 320)
_STEPS = 17


def _decibels(square: float) -> float:
    return round(float(10 * np.log10(255**2 / max(square, 1e-9))), 2)


def measure_stills(style: Style, pictures: list[NDArray[np.uint8]]) -> dict[str, float]:
    """Noise stability and distance to the source, over all pictures (RGB, uint8)."""
    rng, noise, source = np.random.default_rng(0), [], []
    for rgb in pictures:
        height, width = rgb.shape[:2]
        planes = planes_from_rgb(rgb, _COLOUR)
        noisy = Planes(*(np.clip(np.rint(p + rng.normal(0, 3, p.shape)), 0, 255).astype(np.uint8) for p in planes))
        with open_engine(style, Size(width, height), _COLOUR) as engine:
            frames = [Frame(p, 0, Fraction(1, 25), _COLOUR) for p in (planes, noisy)]
            clean, shaken = (frame.planes.y.astype(np.float64) for frame in engine.stylize(frames))
        noise.append(((clean - shaken) ** 2).mean())
        source.append(((clean - planes.y) ** 2).mean())
    return {"noise_db": _decibels(np.mean(noise)), "source_db": _decibels(np.mean(source))}


def _pan(rgb: NDArray[np.uint8], motion: tuple[int, int], path: Path) -> None:
    """Write a lossless clip of a window that moves over a picture."""
    x0, y0 = ((-(_STEPS - 1) * m if m < 0 else 0) for m in motion)
    base = Fraction(1, 25)
    with VideoWriter(
        path, size=_VIEW, colour=_COLOUR, time_base=base, rate=Fraction(25), encoder=EncoderSettings(codec="ffv1")
    ) as writer:
        for step in range(_STEPS):
            x, y = x0 + motion[0] * step, y0 + motion[1] * step
            window = rgb[y : y + _VIEW.height, x : x + _VIEW.width]
            writer.write(Frame(planes_from_rgb(window, _COLOUR), step, base, _COLOUR))


def _between_neighbours(path: Path, motion: tuple[int, int]) -> float:
    """Mean squared difference of neighbouring frames with the motion undone."""
    dx, dy = motion
    squares, before = [], None
    with VideoReader(path) as reader:
        for frame in reader:
            luma = frame.planes.y.astype(np.float64)
            if before is not None:
                height, width = luma.shape
                old = before[max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)]
                new = luma[max(0, -dy) : height + min(0, -dy), max(0, -dx) : width + min(0, -dx)]
                squares.append(((old - new)[16:-16, 16:-16] ** 2).mean())
            before = luma
    return float(np.mean(squares))


def measure_pans(style: Style, pictures: list[NDArray[np.uint8]]) -> dict[str, float]:
    """Stability of pans, each motion over a picture of its own choosing in turn."""
    room = (_VIEW.width + 7 * _STEPS, _VIEW.height + 7 * _STEPS)
    squares = []
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name) / "pan.mkv", Path(name) / "out.mkv"
        for index, motion in enumerate(MOTIONS):
            picture = pictures[index % len(pictures)]
            scale = max(room[0] / picture.shape[1], room[1] / picture.shape[0], 1)
            picture = cv2.resize(picture, None, fx=scale + 1e-3, fy=scale + 1e-3, interpolation=cv2.INTER_CUBIC)
            source.unlink(missing_ok=True)
            _pan(picture, motion, source)
            stylize_video(source, target, style=style, encoder=EncoderSettings(codec="ffv1"), overwrite=True)
            squares.append(_between_neighbours(target, motion))
    return {"pan_db": _decibels(max(squares)), "pan_mean_db": _decibels(float(np.mean(squares)))}


def load_pictures(paths: list[Path]) -> list[NDArray[np.uint8]]:
    """Read pictures as RGB."""
    return [np.ascontiguousarray(cv2.imread(str(p), cv2.IMREAD_COLOR)[:, :, ::-1]) for p in paths]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m train.evaluate", description="Measure a style; see the module.")
    parser.add_argument("style", type=Path, help="style folder; its style.json takes the figures")
    parser.add_argument("photos", type=Path, nargs="+", help="photos that it was not trained on, or folders of them")
    parser.add_argument("--dry-run", action="store_true", help="print, write nothing")
    args = parser.parse_args()
    pictures = load_pictures([p for place in args.photos for p in list_pictures(place)])
    style = load_style(args.style)
    figures = measure_stills(style, pictures) | measure_pans(style, pictures)
    figures["pictures"] = len(pictures)
    print(json.dumps(figures, indent=1))
    if not args.dry_run:
        path = args.style / "style.json"
        metadata = json.loads(path.read_text("utf-8"))
        metadata["metrics"] = metadata.get("metrics", {}) | figures
        path.write_text(json.dumps(metadata, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A contact sheet: images and what one or more styles make of them, side by side.

python -m train.sheet sketch PICTURE_OR_CLIP[@SECOND] ... -o docs/sketch.jpg [--columns 2] [--also red_chalk ...]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle import Color, Frame, Size, VideoReader, load_style, open_engine
from rtstyle.frame import planes_from_rgb, planes_to_rgb
from rtstyle.style import Style

_COLOR = Color("bt601", full_range=True)


def picture_of(text: str) -> NDArray[np.uint8]:
    """Read an image, or the frame of a clip at ``CLIP@SECOND``: RGB."""
    name, _, second = text.rpartition("@")
    if not name:
        return np.ascontiguousarray(cv2.imread(text, cv2.IMREAD_COLOR)[:, :, ::-1])
    with VideoReader(name) as reader:
        for frame in reader:
            if frame.pts * frame.time_base >= Fraction(second):
                return planes_to_rgb(frame.planes, frame.color)
    raise ValueError(f"{name} ends before second {second}")


def stylized(style: Style, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Run one RGB image through the default engine."""
    height, width = rgb.shape[:2]
    with open_engine(style, Size(width, height), _COLOR, mode="latency") as engine:
        engine.submit(Frame(planes_from_rgb(rgb, _COLOR), 0, Fraction(1), _COLOR))
        return planes_to_rgb(engine.next().planes, _COLOR)


def sheet(pairs: Sequence[Sequence[NDArray[np.uint8]]], width: int, columns: int) -> NDArray[np.uint8]:
    """Lay out pairs (or more that belong together), each image ``width`` pixels wide in a cell of 3:2, on white."""
    height, gap = width * 2 // 3, 6
    cells = []
    for pair in pairs:
        cell = np.full((height + gap, len(pair) * (width + gap // 2) + 2 * gap, 3), 255, np.uint8)
        for side, picture in enumerate(pair):
            scale = max(width / picture.shape[1], height / picture.shape[0])
            small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            top, left = (small.shape[0] - height) // 2, (small.shape[1] - width) // 2
            x = gap + side * (width + gap // 2)
            cell[:height, x : x + width] = small[top : top + height, left : left + width]
        cells.append(cell)
    while len(cells) % columns:
        cells.append(np.full_like(cells[0], 255))
    return np.vstack([np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m train.sheet", description="A contact sheet of a style.")
    parser.add_argument("style", help="name or folder")
    parser.add_argument("images", nargs="+", metavar="IMAGE|CLIP@SECOND")
    parser.add_argument("--also", nargs="+", default=[], metavar="STYLE", help="further styles, in the same rows")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--columns", type=int, default=2, help="pairs a row (default: %(default)s)")
    parser.add_argument("--width", type=int, default=420, help="of an image, in pixels (default: %(default)s)")
    args = parser.parse_args()
    styles = [load_style(name) for name in (args.style, *args.also)]
    pairs = [(rgb, *(stylized(style, rgb) for style in styles)) for rgb in map(picture_of, args.images)]
    result = sheet(pairs, args.width, args.columns)
    cv2.imwrite(str(args.output), result[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    print(f"wrote {args.output}, {result.shape[1]}x{result.shape[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

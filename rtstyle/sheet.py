"""A sheet of styles: one photo in each of them, side by side, with their names."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle.backends import Controls, EngineSettings, open_for
from rtstyle.errors import SettingError
from rtstyle.files import check_file_output
from rtstyle.frame import Color, Frame, Size, planes_from_rgb, planes_to_rgb
from rtstyle.image import EXTENSIONS, save_image
from rtstyle.reading import image_samples
from rtstyle.style import Style, list_styles, load_style

_COLOR = Color("bt601", full_range=True)
_STYLIZED_WIDTH = 960
"""Widest image that is stylized: strokes keep their size in pixels, so a larger photo would hide them in a tile."""
_GAP, _CAPTION = 8, 28


def write_style_sheet(
    photo: Path,
    target: Path,
    *,
    styles: Sequence[Style] | None = None,
    controls: Controls = Controls(),
    engine: EngineSettings = EngineSettings(),
    tile_width: int = 480,
    overwrite: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[str]:
    """Write an image with one named tile for the photo and one for each style.

    Args:
        styles: All that are installed if None.
        tile_width: Of a tile, in pixels.
        progress: Called with (tiles done, tiles, name).

    Returns:
        The names on the tiles, in order: left to right, top to bottom.

    Raises:
        ImageError: The photo cannot be read, or the sheet cannot be written.
        OutputExistsError: The target exists and ``overwrite`` is False.
        SettingError: The target has no extension of an image.
    """
    if target.suffix.lower() not in EXTENSIONS:
        raise SettingError(f"cannot write {target.name!r}: the sheet must end in one of {', '.join(EXTENSIONS)}")
    check_file_output(target, overwrite=overwrite)
    rgb = np.ascontiguousarray(image_samples(photo)[..., 2::-1])
    scale = min(1.0, _STYLIZED_WIDTH / rgb.shape[1])
    if scale < 1:
        rgb = np.asarray(cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    size = Size(rgb.shape[1], rgb.shape[0])
    frame = Frame(planes_from_rgb(rgb, _COLOR), 0, Fraction(1), _COLOR)
    chosen = [load_style(name) for name in list_styles()] if styles is None else list(styles)
    named: list[tuple[str, NDArray[np.uint8]]] = [("photo", rgb)]
    settings = replace(engine, stroke_size=1)  # the photo was scaled for it
    for style in chosen:
        with open_for(style, size, _COLOR, settings, live=False, mode="latency") as opened:
            opened.submit(frame, controls)
            named.append((style.name, planes_to_rgb(opened.next().planes, _COLOR)))
        if progress:
            progress(len(named) - 1, len(chosen), style.name)
    sheet = np.ascontiguousarray(_laid_out(named, tile_width)[..., ::-1])
    save_image(target, sheet, overwrite=overwrite)
    return [name for name, _ in named]


def _laid_out(named: list[tuple[str, NDArray[np.uint8]]], width: int) -> NDArray[np.uint8]:
    """Lay tiles out in rows on white, as near to square as their number allows, each name below its tile."""
    first = named[0][1]
    height = max(1, round(width * first.shape[0] / first.shape[1]))
    columns = max(1, round(math.sqrt(len(named) * height / width)))
    rows = -(-len(named) // columns)
    high, wide = height + _CAPTION + _GAP, width + _GAP
    sheet = np.full((rows * high + _GAP, columns * wide + _GAP, 3), 255, np.uint8)
    for index, (name, image) in enumerate(named):
        row, column = divmod(index, columns)
        top, left = _GAP + row * high, _GAP + column * wide
        shrinks = width < image.shape[1]
        sheet[top : top + height, left : left + width] = cv2.resize(
            image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        )
        place = (left + 2, top + height + _CAPTION - 9)
        cv2.putText(sheet, name, place, cv2.FONT_HERSHEY_SIMPLEX, 0.6, (40, 40, 40), 1, cv2.LINE_AA)
    return sheet

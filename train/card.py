"""A style's card: one image and one page of markdown: how it looks, how stable it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle.style import Style
from train.sheet import sheet, stylized

_ROWS = (
    ("source_db", "distance to the source, dB (low is strong)"),
    ("swd", "distance of VGG16 features to its own image (0 equal, plain photos about .6)"),
    ("palette", "distance of colors to its own image, Lab units"),
    ("R", "alignment of strokes in flat areas (1 all parallel, 0 no direction prevails)"),
    ("contrast", "contrast of strokes in flat areas, levels of 255"),
    ("contrast_ratio", "relative to its own image"),
    ("length", "length of strokes in flat areas at 720 lines, pixels"),
    ("length_ratio", "relative to its own image"),
    ("width", "width of strokes in flat areas at 720 lines, pixels"),
    ("width_ratio", "relative to its own image"),
    ("halo", "halo along contours, levels of 255"),
    ("halo_worst", "worst photo"),
    ("lattice", "mean 4x4 cell, deviation, levels of 255"),
    ("embed", "style embedding, cosine to its own image"),
    ("embed_lead", "excess over the nearest other image"),
    ("pan_db", "pans, worst motion, dB"),
    ("pan_mean_db", "pans, all motions, dB"),
    ("pan_still_db", "pans, blocks that show no motion, worst motion, dB"),
    ("pan_counted", "share of blocks that show motion"),
    ("pan_auto_db", "pans, strokes in proportion (half as large), worst motion, dB"),
    ("pan_auto_mean_db", "all motions, dB"),
    ("pan_auto_still_db", "blocks that show no motion, worst motion, dB"),
    ("motion_db", "zoom and parallax, the worse one, motion undone exactly, dB"),
    ("zoom_db", "zoom"),
    ("parallax_db", "parallax"),
    ("motion_mean_db", "the same, both, dB"),
    ("motion_source_db", "the clips themselves"),
    ("noise_db", "noise of sigma 3, dB (the input itself: 38.6)"),
    ("light_db", "4 % brighter, dB (the input itself: about 34)"),
    ("grid_levels", "grid of its cells in flats of nine colors, levels of 255"),
    ("warp_db", "real clips, motion undone by flow, dB"),
    ("warp_source_db", "the clips themselves"),
    ("still_db", "real clips, where nothing moves, dB"),
    ("still_source_db", "the clips themselves"),
    ("moving_db", "real clips, where they show that they move, dB"),
    ("moving_source_db", "the clips themselves"),
    ("calm_db", "real clips, far from anything that moves, dB"),
    ("calm_source_db", "the clips themselves"),
    ("style_own", "style distance to its own image (0 equal, 1 unrelated)"),
    ("style_other", "to the nearest other image"),
    ("style_photo", "of plain photos to its own image"),
    ("content", "content agreement, cosine of EfficientNet-Lite0"),
    ("chance_content", "the same between unrelated images"),
    ("top1", "photos that keep their likeliest class"),
    ("edges", "edges of the photo that are kept"),
    ("chance_edges", "the same by chance"),
)


def save_image(style: Style, pictures: list[NDArray[np.uint8]], folder: Path) -> None:
    """Write NAME.jpg into ``folder``: ``pictures`` before and after."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = [(rgb, stylized(style, rgb)) for rgb in pictures]
    picture = sheet(pairs, 320, 2)[:, :, ::-1]
    cv2.imwrite(str(folder / f"{style.name}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 88])


def write_page(style: Style, metadata: dict[str, Any], folder: Path) -> None:
    """Write NAME.md into ``folder``: the figures of ``metadata``, and what the style was trained on."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = metadata["metrics"]
    nearest = {"style_other": figures.get("style_other_name"), "embed_lead": figures.get("embed_other_name")}
    lines = [
        f"# {style.name}",
        "",
        f"{style.title}. A {metadata.get('kind', 'style')}, trained by: {metadata.get('trained_by', 'unknown')}.",
        "",
        f"![before and after]({style.name}.jpg)",
        "",
        "| measured | |",
        "|---|---|",
        *(
            f"| {words}{f' ({nearest[name]})' if nearest.get(name) else ''} | {figures[name]} |"
            for name, words in _ROWS
            if name in figures
        ),
        "",
        f"On {figures.get('pictures', 0)} photos never trained on, at strength 1; see train/evaluate.py.",
        *(
            [f"Strokes, halos and likeness: on {figures['look_pictures']} photos."]
            if "look_pictures" in figures
            else []
        ),
        "",
        "Trained on:",
        "",
        *(f"- {entry['set']}: {entry['role']}; {entry['rights']}" for entry in metadata.get("rights", [])),
        "",
    ]
    (folder / f"{style.name}.md").write_text("\n".join(lines), "utf-8")

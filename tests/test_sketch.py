"""The shipped style on the clip that ships: strong, stable, without a grid; figures as in its style.json."""

import json
from fractions import Fraction
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtstyle import Colour, Controls, Frame, Size, VideoReader, load_style, open_engine
from rtstyle.frame import Planes, planes_from_rgb, planes_to_rgb
from train.evaluate import measure_pans, measure_stills

CLIP = Path(__file__).parents[1] / "demo" / "big_buck_bunny.mp4"
COLOUR = Colour("bt601", full_range=True)


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Three frames of the clip, RGB, 640x360."""
    with VideoReader(CLIP) as reader:
        frames = [planes_to_rgb(f.planes, f.colour) for i, f in enumerate(reader) if i in (10, 60, 120)]
    return [cv2.resize(f, (640, 360), interpolation=cv2.INTER_AREA) for f in frames]


def luma_of(frames: list[Frame]) -> list[np.ndarray]:
    with open_engine("sketch", frames[0].size, frames[0].colour) as engine:
        return [f.planes.y.astype(float) for f in engine.stylize(frames, Controls())]


def flat(level: int, size: Size, canvas: tuple[int, int] = (0, 0)) -> Frame:
    chroma = np.full((size.chroma.height, size.chroma.width), 128, np.uint8)
    planes = Planes(np.full((size.height, size.width), level, np.uint8), chroma, chroma)
    return Frame(planes, 0, Fraction(1, 25), COLOUR, canvas)


def test_strong_and_deaf_to_noise(pictures):
    figures = measure_stills(load_style("sketch"), pictures)
    assert figures["source_db"] <= 14  # really a sketch
    assert figures["noise_db"] >= 40  # the identity would have 38.6


def test_strokes_stick_to_a_panned_scene(pictures):
    figures = measure_pans(load_style("sketch"), pictures)
    assert figures["pan_db"] >= 30


def test_paper_is_grey_without_colour(pictures):
    planes = planes_from_rgb(pictures[0], COLOUR)
    with open_engine("sketch", Size(640, 360), COLOUR) as engine:
        engine.submit(Frame(planes, 0, Fraction(1, 25), COLOUR))
        out = engine.next().planes
    for plane in (out.u, out.v):
        assert np.abs(plane.astype(int) - 128).max() <= 6


@pytest.mark.parametrize("level", [16, 64, 110, 128, 160, 192])
def test_flat_areas_have_strokes_and_no_grid(level):
    size = Size(512, 384)
    luma = luma_of([flat(level, size)])[0][32:-32, 32:-32]
    if level <= 160:  # lighter areas are left as paper, and must have no grid either
        assert luma.std() > 6
    # A lattice of the network would show as what is left when cells of 4x4 or 8x8 pixels are averaged.
    for period in (4, 8):
        height, width = (side // period * period for side in luma.shape)
        cells = luma[:height, :width].reshape(height // period, period, width // period, period)
        lattice = cells.mean((0, 2)) - luma.mean()
        chance = luma.std() / np.sqrt(luma.size / period**2 / 40)  # strokes are some 40 pixels, not independent ones
        assert np.abs(lattice).max() < 4 * chance, f"period {period}"


def test_borders_have_no_seam():
    size = Size(512, 384)
    luma = luma_of([flat(110, size)])[0]
    inside = luma[64:-64, 64:-64]
    for band in (luma[:4], luma[-4:], luma[:, :4], luma[:, -4:]):
        assert abs(band.mean() - inside.mean()) < 12
        assert 0.4 * inside.std() < band.std() < 1.8 * inside.std()


def test_strokes_move_with_the_canvas():
    size = Size(256, 192)
    first, second = luma_of([flat(110, size), flat(110, size, (5, 3))])
    difference = (first[3:, 5:] - second[:-3, :-5])[24:-24, 24:-24]
    assert 10 * np.log10(255**2 / (difference**2).mean()) >= 30


def test_style_json_tells_rights_date_and_figures_and_the_preview_is_a_picture():
    folder = files("rtstyle") / "styles" / "sketch"
    words = json.loads((folder / "style.json").read_text("utf-8"))
    assert words["format"] == 1
    assert words["name"] == "sketch"
    assert words["date"]
    assert any("research" in entry["rights"] for entry in words["rights"])
    assert {"noise_db", "pan_db", "source_db"} <= words["metrics"].keys()
    assert cv2.imdecode(np.frombuffer((folder / "preview.jpg").read_bytes(), np.uint8), cv2.IMREAD_COLOR) is not None

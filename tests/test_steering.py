"""The steered canvas: tiles, field, stream, tone curve, gate, and how they reach engines, files and blends."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_engines import frame_of, run, same, scene

from rtstyle.backends import Controls, open_engine
from rtstyle.canvas.cutter import SteeredCutter
from rtstyle.canvas.field import Field, FieldTracker, measure, skin_like
from rtstyle.canvas.follower import SceneFollower
from rtstyle.canvas.layer import SteeredLayer
from rtstyle.canvas.map import CanvasMap
from rtstyle.canvas.steering import CHANNELS, PERIOD, Steering, Stream, steered
from rtstyle.canvas.strokes import TILE, Brush, bank
from rtstyle.canvas.strokes import _sharpened as sharpened
from rtstyle.canvas.tone import STEEPEST, ToneCurve
from rtstyle.canvas.tracker import TrackerState
from rtstyle.errors import StyleFormatError
from rtstyle.frame import MARGIN, Color, Frame, Packing, Planes, Size, planes_from_rgb
from rtstyle.style import load_style

SMALL = Brush(directions=6, scales=(1.0, 0.5))


def tiles_of(brush: Brush) -> np.ndarray:
    """Values of all tiles, shape (scales, directions, 512, 512), around 0."""
    each = [[bank(brush).tile(level, n)[0] for n in range(brush.directions)] for level in range(len(brush.scales))]
    return np.array(each, np.float32) - 128


def sheets_of(brush: Brush) -> np.ndarray:
    """All bytes of a bank."""
    kept = bank(brush)
    return np.concatenate([sheet.ravel() for sheet in (kept.value, kept.relief, kept.hue)])


def direction_of(image: np.ndarray) -> float:
    """Main direction of an image's marks, in degrees from level, y down, by its structure tensor."""
    gy, gx = np.gradient(image)
    return math.degrees(0.5 * math.atan2(-2 * (gx * gy).mean(), (gy * gy - gx * gx).mean())) % 180


def waves(angle: float, size: Size = Size(256, 192)) -> np.ndarray:
    """Luma of parallel lines at an angle, in degrees, y down."""
    y, x = np.mgrid[0 : size.height, 0 : size.width]
    across = -math.sin(math.radians(angle)) * x + math.cos(math.radians(angle)) * y
    return np.asarray(128 + 60 * np.sin(across / 6), np.uint8)


# -- tiles -----------------------------------------------------------------------------------------


def test_crisp_strokes_have_more_of_their_finest_detail_and_keep_their_range():
    soft, crisp = (tiles_of(replace(SMALL, crisp=crisp))[0, 1] for crisp in (0, 2))
    finest = [(each - cv2.GaussianBlur(each, (5, 5), 0))[8:-8, 8:-8].std() for each in (soft, crisp)]
    coarse = [cv2.GaussianBlur(each, (0, 0), 4)[16:-16, 16:-16] for each in (soft, crisp)]
    assert 1.8 < finest[1] / finest[0] < 3
    assert np.corrcoef(coarse[0].ravel(), coarse[1].ravel())[0, 1] > 0.99
    assert crisp.min() == -128
    assert crisp.max() == 127


def test_the_finest_brush_stays_soft():
    """Faces are painted with it."""
    brush = Brush(directions=2, scales=(1.0, 0.7, 0.5))
    soft, crisp = tiles_of(brush), tiles_of(replace(brush, crisp=2))
    change = [np.abs(first - second).mean() for first, second in zip(soft, crisp, strict=True)]
    assert change[2] == 0
    assert 0 < change[1] < 0.8 * change[0]


def test_crisp_tiles_are_periodic():
    """The mask reaches across the border of the tile, where it is laid beside itself."""
    soft = (tiles_of(SMALL)[0, 2] + 128).astype(np.uint8)
    rolled = np.roll(sharpened(np.roll(soft, (100, 30), (0, 1)), 4.0), (-100, -30), (0, 1))
    assert np.array_equal(rolled, sharpened(soft, 4.0))


def test_strokes_of_a_tile_run_in_its_direction():
    for number in range(SMALL.directions):
        wanted = 180 * number / SMALL.directions
        found = direction_of(tiles_of(SMALL)[0, number])
        assert abs((found - wanted + 90) % 180 - 90) < 8


def test_tiles_are_periodic():
    tile = tiles_of(SMALL)[0, 1]
    seam, inside = np.abs(tile[:, 0] - tile[:, -1]).mean(), np.abs(np.diff(tile, axis=1)).mean()
    assert seam < 1.5 * inside


def test_neighboring_directions_hold_the_same_strokes_and_distant_ones_do_not():
    fine = replace(SMALL, directions=24)
    tiles = tiles_of(fine)[0]

    def likeness(one: int, other: int) -> float:
        return float(np.corrcoef(tiles[one].ravel(), tiles[other].ravel())[0, 1])

    assert likeness(0, 1) > 0.75
    assert likeness(0, 12) < 0.4


def test_a_finer_brush_makes_smaller_strokes_at_the_same_places():
    coarse, fine = tiles_of(SMALL)[:, 0]
    rough = [np.abs(np.diff(tile, axis=0)).mean() for tile in (coarse, fine)]
    assert rough[1] > 1.3 * rough[0]
    assert np.corrcoef(coarse.ravel(), fine.ravel())[0, 1] > 0.2


def test_a_bank_is_the_same_bytes_whether_painted_or_read(monkeypatch, tmp_path):
    monkeypatch.setenv("RTSTYLE_CACHE", str(tmp_path))
    brush = replace(SMALL, directions=2, seed=77)
    bank.cache_clear()
    painted = sheets_of(brush)
    (file,) = (tmp_path / "strokes").iterdir()
    bank.cache_clear()
    assert np.array_equal(sheets_of(brush), painted)
    file.write_bytes(b"damaged")
    bank.cache_clear()
    assert np.array_equal(sheets_of(brush), painted), "a damaged file is painted again"
    bank.cache_clear()


# -- field and stream ------------------------------------------------------------------------------


@pytest.mark.parametrize("angle", [0, 30, 90, 135])
def test_the_field_runs_along_the_lines_of_a_frame(angle):
    seen = measure(waves(angle))
    found = np.degrees(0.5 * np.arctan2(seen.sin, seen.cos))[4:-4, 4:-4]
    assert np.abs((found - angle + 90) % 180 - 90).max() < 6


def test_strokes_follow_lines_and_the_stream_where_there_are_none():
    stream = Stream(kind="level", angle=60, sway=0)
    lines = steered(Steering(SMALL, stream), measure(waves(150)), (0, 0), (48, 64), (0, 0))
    empty = steered(Steering(SMALL, stream), measure(np.full((192, 256), 90, np.uint8)), (0, 0), (48, 64), (0, 0))
    for cells, wanted in ((lines, 150), (empty, 60)):
        found = np.degrees(0.5 * np.arctan2(cells[..., 1], cells[..., 0]))[8:-8, 8:-8]
        assert np.abs((found - wanted + 90) % 180 - 90).max() < 8


def test_whirls_turn_all_the_way_round():
    """In the flats of a frame strokes run in all directions, not in one."""
    steering = Steering(SMALL, Stream(kind="whirls", seed=3))
    empty = measure(np.full((1024, 1024), 90, np.uint8))
    cells = steered(steering, empty, (0, 0), (256, 256), (0, 0))
    assert np.hypot(cells[..., 0].mean(), cells[..., 1].mean()) < 0.5


def test_the_stream_moves_with_the_canvas_and_is_periodic():
    steering, empty = Steering(SMALL, Stream(kind="whirls")), measure(np.full((256, 256), 90, np.uint8))
    here = steered(steering, empty, (40, 24), (64, 64), (0, 0))
    moved = steered(steering, empty, (40 + 32, 24 + 16), (64, 64), (0, 0))
    again = steered(steering, empty, (40 - PERIOD, 24 + 3 * PERIOD), (64, 64), (0, 0))
    assert np.abs(here[4:, 8:] - moved[:-4, :-8])[4:-4, 4:-4].max() < 0.02
    assert np.abs(here - again).max() < 1e-4


def test_detail_asks_for_a_fine_brush_but_texture_everywhere_does_not():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (240, 320)).astype(np.uint8)
    spot = np.full((240, 320), 120, np.uint8)
    spot[100:140, 140:180] = noise[100:140, 140:180]
    fine = measure(spot).fine
    assert fine[15, 20] > 0.8
    assert fine[3, 3] < 0.1
    assert measure(noise).fine.mean() < 0.6 * fine[15, 20]


def test_what_lies_between_details_needs_a_fine_brush_too():
    """As a cheek between an ear and a mouth does; not so the wall beside them."""
    rng = np.random.default_rng(2)
    luma = np.full((240, 400), 120, np.uint8)
    for left in (120, 232):  # 72 pixels apart
        luma[80:160, left : left + 40] = rng.integers(60, 180, (80, 40))
    fine = measure(luma).fine
    assert fine[15, 24] > 0.6, "in the middle of the gap"
    assert fine[15, 4] < 0.1
    assert fine[15, 46] < 0.1


def test_what_needs_a_fine_brush_has_tones_of_its_own():
    """A dark face before a bright wall takes more of a painting's tones than its share of the frame."""
    rng = np.random.default_rng(3)
    luma = np.full((240, 320), 200, np.uint8)
    luma[80:160, 120:200] = 90 + rng.integers(-30, 30, (80, 80))
    share = 80 * 80 / (240 * 320)
    assert (measure(luma).tones < 150).mean() > 1.5 * share


def test_sensor_noise_turns_no_stroke_once_the_field_has_settled():
    rng = np.random.default_rng(1)
    still = scene(Size(320, 240), 4).y
    tracker, steering = FieldTracker(), Steering(replace(SMALL, directions=24))
    layer = SteeredLayer(steering, None, Size(320, 240), Color())
    before, changed = None, []
    for number in range(40):
        noisy = np.clip(still + rng.normal(0, 2, still.shape), 0, 255).astype(np.uint8)
        out = np.empty((64, 84, CHANNELS), np.uint8)
        planes = scene(Size(320, 240), 4)._replace(y=noisy)
        layer.lay(replace(frame_of(planes), seen=tracker.follow(noisy)), out)
        if before is not None and number > 20:
            changed.append(np.abs(out[..., :16].astype(int) - before).mean())
        before = out[..., :16].astype(int)
    assert np.mean(changed) < 2.0


def test_a_cut_resets_the_field_and_a_still_scene_does_not():
    tracker = FieldTracker()
    one, other = waves(20), 255 - waves(110)
    other[:, :128] //= 4
    for _ in range(5):
        tracker.follow(one)
    assert np.array_equal(tracker.follow(other).cos, measure(other).cos)


def test_the_field_moves_with_the_scene():
    half = waves(0)
    half[:, 128:] = waves(90)[:, 128:]
    tracker = FieldTracker()
    tracker.follow(half)
    moved = np.roll(half, 32, 1)
    carried = tracker.follow(moved, (32.0, 0.0))
    assert np.abs(carried.cos - measure(moved).cos)[:, 6:-2].mean() < 0.3 * np.abs(carried.cos).mean()


# -- the canvas under a frame ----------------------------------------------------------------------


def test_strokes_stick_to_the_canvas_by_single_pixels():
    steering = Steering(SMALL, Stream(kind="level", sway=0))
    cutter, empty = SteeredCutter(steering, 16, 20), measure(np.full((64, 80), 90, np.uint8))
    seen = []
    for at in ((100, 57), (103, 59), (100 + TILE, 57 - TILE)):
        out = np.empty((16, 20, CHANNELS), np.uint8)
        cutter.cut(steered(steering, empty, at, (16, 20), (0, 0)), at, out)
        seen.append(out[..., :16].reshape(16, 20, 4, 4).transpose(0, 2, 1, 3).reshape(64, 80))
    assert np.array_equal(seen[0][2:, 3:], seen[1][:-2, :-3])
    assert np.array_equal(seen[0], seen[2])


def strokes_at(
    steering: Steering,
    turn: np.ndarray,
    fine: np.ndarray | float = 0,
    at: tuple[int, int] = (0, 0),
    bent: CanvasMap | None = None,
):
    """Values of strokes, (4 * rows, 4 * columns), below cells of directions in radians, y down."""
    cells = np.stack((np.cos(2 * turn), np.sin(2 * turn), 0 * turn, 0 * turn + fine), 2).astype(np.float32)
    value, *_ = SteeredCutter(steering, *turn.shape).planes(cells, at, bent)
    return value.astype(int)


def test_skin_is_painted_with_soft_strokes_and_everything_else_with_crisp_ones():
    """Faces are lost in crisp strokes; only the finest brush asks, which all detail is painted with."""
    brush = replace(SMALL, crisp=2, crisp_fine=2)
    soft, crisp = Steering(SMALL), Steering(brush)
    turn, skin = np.full((24, 24), 0.4), np.zeros((24, 24), np.float32)
    skin[:, :12] = 1

    def values(steering: Steering, fine: float, skin: np.ndarray | None) -> np.ndarray:
        cells = np.stack((np.cos(2 * turn), np.sin(2 * turn), 0 * turn, 0 * turn + fine), 2).astype(np.float32)
        return SteeredCutter(steering, 24, 24).planes(cells, (0, 0), skin=skin)[0].astype(int)

    both, left, right = values(crisp, 1, skin), values(soft, 1, None), values(crisp, 1, None)
    assert np.array_equal(both[:, :48], left[:, :48])
    assert np.array_equal(both[:, 48:], right[:, 48:])
    assert np.abs(left - right).mean() > 4
    assert np.array_equal(values(crisp, 0, skin), values(crisp, 0, None))
    seen = [values(crisp, 1, np.full((24, 24), share, np.float32)) for share in np.linspace(0.3, 0.7, 41)]
    assert largest_step(seen, least=4) < 0.2


@pytest.mark.parametrize(
    ("rgb", "is_skin"),
    [
        ((240, 200, 175), True),
        ((198, 134, 100), True),
        ((90, 56, 40), True),
        ((128, 128, 128), False),
        ((90, 130, 200), False),
        ((70, 120, 60), False),
    ],
)
def test_what_is_warm_is_like_skin(rgb, is_skin):
    image = np.full((96, 128, 3), (110, 120, 130), np.uint8)
    image[16:80, 32:96] = rgb
    image[40:46, 50:60] = 20  # an eye
    planes = planes_from_rgb(image, Color())
    like = skin_like(planes.u, planes.v, (12, 16))
    assert (like[5, 7] > 0.75) == is_skin
    assert like[5, 0] < 0.3


def displaced(x: float, y: float) -> CanvasMap:
    """A map of a frame of 96x96 pixels that displaces all of it."""
    return CanvasMap(16, np.full((6, 6, 2), (x, y), np.float32))


@pytest.mark.parametrize("at", [(0, 0), (TILE - 50, 3), (-7, 2 * TILE - 40)], ids=str)
def test_strokes_between_pixels_are_interpolated(at):
    """The edge of the tile is no exception; and a map that displaces by whole pixels is the same as an offset."""
    steering, turn = Steering(SMALL), np.full((24, 24), 0.4)
    here, right, below = (strokes_at(steering, turn, at=(at[0] + x, at[1] + y)) for x, y in ((0, 0), (1, 0), (0, 1)))
    assert np.array_equal(strokes_at(steering, turn, at=at, bent=displaced(1, 0)), right)
    assert np.array_equal(strokes_at(steering, turn, at=at, bent=displaced(0, 1)), below)
    assert np.abs(right - here).mean() > 4
    for place, other in (((0.25, 0), right), ((0, 0.25), below)):
        seen = strokes_at(steering, turn, at=at, bent=displaced(*place))
        assert np.abs(seen - (0.75 * here + 0.25 * other)).max() <= 1


def test_strokes_that_move_slowly_change_little_by_little():
    """Before they were interpolated they jumped by a pixel, each part of a frame at another time."""
    steering, turn = Steering(SMALL), np.full((24, 24), 0.4)
    seen = [strokes_at(steering, turn, bent=displaced(x, 0)) for x in np.arange(0, 1.01, 0.125)]
    steps = [np.abs(second - first).mean() for first, second in pairwise(seen)]
    assert max(steps) < 1.3 * np.abs(seen[-1] - seen[0]).mean() / len(steps)


def largest_step(seen: list[np.ndarray], least: float = 20) -> float:
    """Largest change between two neighbors, as a share of that between the first and the last."""
    whole = np.abs(seen[0] - seen[-1]).mean()
    assert whole > least
    return max(np.abs(first - second).mean() for first, second in pairwise(seen)) / whole


@pytest.mark.parametrize("moved", [(1, 0), (2, 3), (-3, 1), (4, 0)])
def test_strokes_of_a_scene_that_moves_by_less_than_a_cell_move_with_it(moved):
    """Directions and brushes belong to places of the canvas: the frame's own cells leave no trace."""
    rows, columns = 40, 60
    seen = []
    for x, y in ((40, 24), (40 + moved[0], 24 + moved[1])):
        across, down = 4 * np.arange(columns) + 1.5 + x, (4 * np.arange(rows) + 1.5 + y)[:, None]
        turn = 0.6 + 0.004 * across + 0.003 * down
        seen.append(strokes_at(Steering(SMALL), turn, 0.5 + 0.3 * np.sin(across / 30 + down / 50), (x, y)))
    here = tuple(slice(max(0, -m), side + min(0, -m)) for m, side in zip(moved, (240, 160), strict=True))
    there = tuple(slice(max(0, m), side + min(0, m)) for m, side in zip(moved, (240, 160), strict=True))
    off = np.abs(seen[0][there[1], there[0]] - seen[1][here[1], here[0]])[8:-8, 8:-8]
    assert off.max() <= 1  # the bilinear values of cells are all that depends on the frame


def test_between_two_directions_strokes_change_little_by_little():
    """A hundredth of a step must not exchange a stroke: noise moves directions by that much from frame to frame."""
    steps = np.linspace(0.3, 0.7, 41)
    seen = [strokes_at(Steering(SMALL), np.full((24, 24), math.pi / SMALL.directions * step)) for step in steps]
    assert largest_step(seen) < 0.2
    middle = np.abs(2 * seen[20] - seen[0] - seen[-1])
    assert middle.max() <= 2  # half of both


def test_between_two_brushes_strokes_change_little_by_little():
    seen = [strokes_at(Steering(SMALL), np.full((24, 24), 0.4), fine) for fine in np.linspace(0.4, 0.6, 41)]
    assert largest_step(seen) < 0.2


def test_bits_do_not_depend_on_where_arrays_lie_in_memory():
    """Vector units treat the ends of an array by other instructions, which may round otherwise."""
    rng, steering = np.random.default_rng(3), Steering(SMALL)
    cos, sin, fine = rng.random((3, 91, 161), np.float32)
    seen = Field(cos, sin, fine, np.zeros(65, np.float32), 1.0)
    wanted = steered(steering, seen, (5, 3), (180, 320), (0, 0))
    for shift in range(4, 64, 4):
        planes = []
        for plane in (seen.cos, seen.sin, seen.fine):
            memory = np.empty(plane.nbytes + 128, np.uint8)
            begin = -memory.ctypes.data % 64 + shift
            planes.append(memory[begin : begin + plane.nbytes].view(np.float32).reshape(plane.shape))
            planes[-1][:] = plane
        field = Field(*planes, seen.tones, seen.spread)
        assert np.array_equal(wanted, steered(steering, field, (5, 3), (180, 320), (0, 0)))


def test_a_tile_of_a_frame_is_stylized_as_the_whole(steered_style):
    """What engines are given of a part of a frame, with the whole frame's field, is what the whole one has there."""
    size, part = Size(320, 240), Size(160, 120)
    whole = scene(size, 3)
    left, top = 80, 64
    seen = measure(whole.y)
    piece = Field(
        *(m[top // 8 :, left // 8 :][:15, :20] for m in (seen.cos, seen.sin, seen.fine)), seen.tones, seen.spread
    )
    cut = type(whole)(
        whole.y[top : top + 120, left : left + 160],
        *(plane[top // 2 : top // 2 + 60, left // 2 : left // 2 + 80] for plane in whole[1:]),
    )
    with open_engine(steered_style, size, backend="onnxruntime", precision="f32") as engine:
        (all_of_it,) = engine.stylize([replace(frame_of(whole, canvas=(13, 5)), seen=seen)])
    with open_engine(steered_style, part, backend="onnxruntime", precision="f32") as engine:
        (tile,) = engine.stylize([replace(frame_of(cut, canvas=(13 + left, 5 + top)), seen=piece)])
    inner = all_of_it.planes.y[top : top + 120, left : left + 160].astype(int)[48:-48, 48:-48]
    assert np.abs(inner - tile.planes.y[48:-48, 48:-48]).max() <= 1


# -- tones -----------------------------------------------------------------------------------------


def test_the_tone_curve_brings_a_frame_to_the_tones_of_the_painting():
    curve = ToneCurve(tuple(float(q) for q in np.linspace(0.1, 0.6, 65)))
    values = np.clip(np.random.default_rng(0).normal(150, 40, 240 * 320), 0, 255).astype(np.uint8)
    luma = np.sort(values).reshape(240, 320)
    toned = curve.table(measure(luma))[luma] / 255
    assert np.quantile(toned, 0.02) == pytest.approx(0.11, abs=0.05)
    assert np.quantile(toned, 0.98) == pytest.approx(0.59, abs=0.05)


@pytest.mark.parametrize("frame", ["gradient", "two levels", "noise", "black"])
def test_a_tone_curve_rises_and_is_not_too_steep(frame):
    luma = {
        "gradient": np.tile(np.arange(256, dtype=np.uint8), (64, 1)),
        "two levels": np.where(np.arange(256) < 128, 90, 200).astype(np.uint8)[None].repeat(64, 0),
        "noise": np.random.default_rng(0).integers(100, 140, (64, 256)).astype(np.uint8),
        "black": np.zeros((64, 256), np.uint8),
    }[frame]
    table = ToneCurve(tuple(float(q) for q in np.linspace(0, 1, 65) ** 3)).table(measure(luma), 16, 235)
    slopes = np.diff(table)
    assert slopes.min() >= 0
    assert slopes.max() <= STEEPEST + 1e-3


def test_a_flat_frame_keeps_its_tone():
    table = ToneCurve(tuple(float(q) for q in np.linspace(0, 0.3, 65))).table(measure(np.full((64, 64), 180, np.uint8)))
    assert np.array_equal(table, np.arange(256))


@pytest.mark.parametrize(("side", "share"), [(1, 1.0), (3, 0.375), (5, 0.273)])
def test_a_curve_that_smooths_leaves_a_share_of_the_noise(side, share):
    noisy = np.random.default_rng(0).normal(120, 12, (200, 300))
    curve = ToneCurve(tuple(float(q) for q in np.linspace(0, 1, 65)), blur=side)
    for luma in (noisy.astype(np.float32), np.rint(noisy).astype(np.uint8)):
        smoothed = curve.smoothed(luma)
        assert smoothed.dtype == luma.dtype
        assert smoothed.std() / luma.std() == pytest.approx(share, rel=0.03)
    with pytest.raises(ValueError, match="1, 3 or 5 pixels, not 2"):
        ToneCurve(curve.quantiles, blur=2)


def test_a_layer_holds_smoothed_luma_behind_the_curve():
    steering = Steering(SMALL, Stream(kind="level"))
    luma = np.random.default_rng(1).integers(40, 200, (64, 96)).astype(np.uint8)
    frame = Frame(
        Planes(luma, *(np.full((32, 48), 128, np.uint8),) * 2), 0, Fraction(1, 25), Color("bt709", full_range=True)
    )
    seen = measure(luma)
    quantiles = tuple(float(q) for q in np.linspace(0, 1, 65) ** 2)
    packing, laid = Packing(frame.size), []
    for side in (1, 3):
        layer = SteeredLayer(steering, ToneCurve(quantiles, blur=side), frame.size, frame.color)
        out = np.zeros((packing.rows, packing.columns, layer.channels), np.uint8)
        layer.lay(frame, out)
        cells = out[..., :16].reshape(packing.rows, packing.columns, 4, 4).swapaxes(1, 2)
        laid.append(cells.reshape(4 * packing.rows, -1)[MARGIN : MARGIN + 64, MARGIN : MARGIN + 96])
    table = np.rint(ToneCurve(quantiles).table(seen)).astype(np.uint8)
    assert np.array_equal(laid[0], cv2.LUT(luma, table))
    assert np.array_equal(laid[1], cv2.GaussianBlur(laid[0], (3, 3), 0))


# -- engines ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("color", [Color(), Color("bt601", full_range=True), Color("bt2020")], ids=str)
def test_every_backend_gives_what_torch_gives(steered_style, color):
    size = Size(97, 66)
    frame = replace(frame_of(scene(size, 5), color=color, canvas=(31, 17)))
    results = {}
    for backend, precision in (("torch", "f32"), ("openvino", "f32"), ("onnxruntime", "f32"), ("openvino", "int8")):
        with open_engine(steered_style, size, color, backend=backend, precision=precision) as engine:
            results[backend, precision] = run(engine, frame)
    reference = results.pop(("torch", "f32"))
    assert not same(reference, frame.planes)
    for (_, precision), planes in results.items():
        for ours, theirs in zip(planes, reference, strict=True):
            distance = np.abs(ours.astype(int) - theirs)
            assert distance.max() <= (1 if precision == "f32" else 48)
            assert distance.mean() <= (0.05 if precision == "f32" else 2)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "torch"])
def test_strength_0_changes_no_bit(steered_style, backend):
    size = Size(98, 67)
    with open_engine(steered_style, size, backend=backend) as engine:
        planes = scene(size, 6)
        assert same(run(engine, frame_of(planes), Controls(0, 0)), planes)


@pytest.mark.parametrize("layout", ["i420", "nv12"])
def test_the_graph_of_gpus_gives_what_torch_gives(steered_style, layout):
    from engines.compare import graph_of_tensorrt

    size = Size(96, 72)
    frame = frame_of(scene(size, 2), canvas=(3, 9))
    with open_engine(steered_style, size, backend="torch", precision="f32") as engine:
        reference = run(engine, frame)
    with graph_of_tensorrt(steered_style, size, Color(), layout) as engine:
        for ours, theirs in zip(run(engine, frame), reference, strict=True):
            assert np.abs(ours.astype(int) - theirs).max() <= 2


def test_a_blend_with_a_style_on_noise_is_their_mean_by_share(steered_style, random_style):
    size, frame = Size(64, 48), frame_of(scene(Size(64, 48), 1), canvas=(7, 5))
    text = f"{steered_style.folders[0][0]}:0.25,{random_style.folders[0][0]}:0.75"
    parts = []
    for style in (steered_style, random_style):
        with open_engine(style, size, backend="openvino", precision="f32") as engine:
            parts.append(run(engine, frame))
    with open_engine(load_style(text), size, backend="openvino", precision="f32") as engine:
        blend = run(engine, frame)
        assert same(run(engine, frame, Controls(0, 0)), frame.planes)
    for mixed, first, second in zip(blend, *parts, strict=True):
        wanted = 0.25 * first.astype(float) + 0.75 * second
        assert np.abs(mixed - wanted).max() <= 0.51


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("canvas", {"brush": {"wood": 1}}),
        ("canvas", {"brush": {"length": "long"}}),
        ("canvas", {"brush": {"directions": 10**6}}),
        ("canvas", {"brush": {"scales": []}}),
        ("canvas", {"stream": {"kind": "river"}}),
        ("canvas", {"stream": {"whirls": 10**9}}),
        ("canvas", []),
        ("tone", {"quantiles": [0.5] * 3, "mix": 0.7}),
        ("tone", {"quantiles": [1 - i / 64 for i in range(65)], "mix": 0.7}),
        ("tone", {"quantiles": [float("nan")] * 65, "mix": 0.7}),
        ("tone", {"mix": 0.7}),
    ],
)
def test_a_damaged_entry_is_one_line(steered_style, tmp_path, entry, value):
    import json
    import shutil

    folder = Path(shutil.copytree(steered_style.folders[0][0], tmp_path / "damaged"))
    metadata = json.loads((folder / "style.json").read_text())
    metadata[entry] = value
    (folder / "style.json").write_text(json.dumps(metadata))
    with pytest.raises(StyleFormatError, match=rf"the {entry} entry in the style.json of .* is damaged") as raised:
        open_engine(load_style(folder), Size(64, 48))
    assert "\n" not in str(raised.value)


def test_a_network_for_a_steered_canvas_without_a_canvas_entry_is_refused(steered_style, tmp_path):
    import json
    import shutil

    folder = Path(shutil.copytree(steered_style.folders[0][0], tmp_path / "without"))
    (folder / "style.json").write_text(json.dumps({"format": 2, "name": "without"}))
    with pytest.raises(StyleFormatError, match="canvas"):
        open_engine(load_style(folder), Size(64, 48))


# -- following a scene -----------------------------------------------------------------------------


def pan(count: int) -> list[Frame]:
    rng = np.random.default_rng(3)
    import cv2

    wide = cv2.GaussianBlur(rng.integers(0, 255, (200, 400, 3)).astype(np.float32), (0, 0), 3)
    wide = np.clip(128 + 6 * (wide - 128), 0, 255).astype(np.uint8)
    views = (np.ascontiguousarray(wide[10 + n : 130 + n, 2 * n : 160 + 2 * n]) for n in range(count))
    return [Frame(planes_from_rgb(view, Color()), n, Fraction(1, 25), Color()) for n, view in enumerate(views)]


def test_a_follower_that_is_restored_continues_to_the_bit(tmp_path):
    frames = pan(12)
    whole = SceneFollower()
    wanted = [whole.follow(frame) for frame in frames]
    first, second = SceneFollower(), SceneFollower()
    for frame in frames[:7]:
        first.follow(frame)
    first.state().save(tmp_path / "state.npz")
    second.restore(TrackerState.load(tmp_path / "state.npz"))
    for frame, expected in zip(frames[7:], wanted[7:], strict=True):
        found = second.follow(frame)
        assert found.canvas == expected.canvas
        assert found.seen is not None
        assert expected.seen is not None
        for name in ("cos", "sin", "fine", "tones"):
            assert np.array_equal(getattr(found.seen, name), getattr(expected.seen, name))
        assert found.seen.spread == expected.seen.spread


def test_a_mirrored_field_is_the_field_of_the_mirrored_frame():
    luma = waves(25)
    seen, mirrored = measure(luma).mirrored(), measure(np.ascontiguousarray(luma[:, ::-1]))
    assert np.abs(seen.cos - mirrored.cos).max() < 0.02 * np.abs(seen.cos).max()
    assert np.abs(seen.sin - mirrored.sin).max() < 0.02 * np.abs(seen.cos).max()

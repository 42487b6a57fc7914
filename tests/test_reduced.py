"""Networks that work on fewer lines than their frames: what is put on at full size, and where."""

import json
import shutil
from fractions import Fraction

import cv2
import numpy as np
import openvino as ov
import pytest
from clips import make_clip

from rtstyle import Controls, EngineSettings, Frame, Size, graph, open_engine, open_for
from rtstyle.backends.engine import network_size
from rtstyle.backends.openvino import OpenVinoEngine
from rtstyle.backends.reduced import ReducedEngine
from rtstyle.canvas.cutter import SteeredCutter
from rtstyle.canvas.map import CanvasMap
from rtstyle.errors import RtstyleError, SettingError
from rtstyle.frame import Color, Packing, Planes, planes_from_rgb
from rtstyle.inference import the_core
from rtstyle.render.plan import plan_render
from rtstyle.style import load_style

COLOR = Color("bt709", full_range=True)


def photo(size: Size, seed: int = 0) -> Frame:
    """Soft shapes, sharp edges and a little noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (9, 16, 3), np.uint8)
    rgb = cv2.resize(coarse, (size.width, size.height), interpolation=cv2.INTER_CUBIC)
    for _ in range(12):
        x, y = rng.integers(0, size.width), rng.integers(0, size.height)
        cv2.circle(rgb, (int(x), int(y)), int(rng.integers(8, 60)), rng.integers(0, 256, 3).tolist(), -1)
    rgb = np.clip(rgb + rng.normal(0, 2, rgb.shape), 0, 255).astype(np.uint8)
    return Frame(planes_from_rgb(rgb, COLOR), 7, Fraction(1, 25), COLOR, (41, -26))


@pytest.mark.parametrize(
    ("size", "lines", "works_in"),
    [
        ("1280x720", "auto", "1280x720"),
        ("1600x900", "auto", "1600x900"),
        ("1920x1080", "auto", "1280x720"),
        ("1080x1920", "auto", "720x1280"),
        ("1920x1080", "full", "1920x1080"),
        ("1920x1080", 480, "856x480"),
        ("1920x1080", 2000, "1920x1080"),
    ],
)
def test_the_network_works_on_720_lines_of_large_frames(size, lines, works_in):
    assert network_size(load_style("starry_night"), Size.parse(size), lines) == Size.parse(works_in)
    assert network_size(load_style("sketch"), Size.parse(size), lines) == Size.parse(size), "it draws every line itself"


def test_the_network_of_a_drawing_works_on_all_lines_wherever_it_draws(tmp_path):
    for kind in ("painting", "drawing", "cartoon"):
        folder = tmp_path / kind
        shutil.copytree(load_style("starry_night").folders[0][0], folder)
        for file in folder.rglob("style.json"):
            file.write_text(json.dumps(json.loads(file.read_text()) | {"kind": kind}))
    size, small = Size(1920, 1080), Size(1280, 720)
    for size_class in ("default", "fast"):
        assert network_size(load_style(tmp_path / "painting", size_class), size) == small
        for kind in ("drawing", "cartoon"):
            assert network_size(load_style(tmp_path / kind, size_class), size, 480) == size


@pytest.mark.parametrize("lines", [0, 239, 4321])
def test_lines_out_of_range_are_refused_in_one_line(lines):
    for call in (
        lambda: EngineSettings(network_lines=lines),
        lambda: open_engine("sketch", network_lines=lines, size=Size(64, 48)),
    ):
        with pytest.raises(SettingError, match=f"network lines must be auto, full or in .240, 4320., got {lines}$"):
            call()


def test_the_engine_is_chosen_by_size_and_style():
    kinds = {}
    for style in ("starry_night", "sketch"):
        for lines in ("auto", "full", 240):
            settings = EngineSettings(backend="openvino", precision="f32", network_lines=lines, stroke_size=1)
            with open_for(style, Size(400, 300), COLOR, settings, live=False) as engine:
                kinds[style, lines] = type(engine)
    reduced = [key for key, kind in kinds.items() if kind is ReducedEngine]
    assert reduced == [("starry_night", 240)]
    assert {kind for key, kind in kinds.items() if key not in reduced} == {OpenVinoEngine}


@pytest.mark.parametrize("size", [Size(400, 300), Size(401, 307), Size(480, 330)])
def test_strength_0_leaves_every_sample_and_colors_are_kept_apart(size):
    frame = photo(size)
    with open_engine("starry_night", size, COLOR, backend="openvino", network_lines=240) as engine:
        assert isinstance(engine, ReducedEngine)
        none, grey, half = (
            next(iter(engine.stylize([frame], controls))).planes
            for controls in (Controls(0, 0), Controls(1, 0), Controls(0.5, 0.5))
        )
        whole = next(iter(engine.stylize([frame]))).planes
    assert all(np.array_equal(a, b) for a, b in zip(none, frame.planes, strict=True))
    assert np.array_equal(grey.u, frame.planes.u)
    assert np.array_equal(grey.y, whole.y)
    inside = (whole.y > 0) & (whole.y < 255)  # what is not clamped
    middle = (whole.y.astype(float) + frame.planes.y) / 2
    assert np.abs(half.y - middle)[inside].max() <= 1


@pytest.mark.parametrize("color", [COLOR, Color("bt601"), Color("bt2020", full_range=True)])
@pytest.mark.parametrize("name", ["starry_night", "water_lilies"])
def test_the_parts_of_a_network_put_together_are_what_it_draws(name, color):
    style, (rows, columns) = load_style(name), (12, 16)
    trunk = style.trunk
    rng = np.random.default_rng(1)
    shape = (1, rows, columns)
    picture = rng.integers(90, 150, (*shape, 24), np.uint8)
    canvas = rng.integers(90, 166, (*shape, trunk.joined_channels), np.uint8)
    canvas[..., 16:24] = picture[..., 16:]

    def run(model, *inputs):
        compiled = the_core().compile_model(
            the_core().read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": ov.Type.f32}
        )
        return {port.get_any_name(): value for port, value in compiled(list(inputs)).items()}

    whole = run(graph.deployed(trunk, color, rows, columns), picture, canvas, graph.strength_of(1, 1))
    whole = whole[graph.STYLIZED].astype(float)
    parts = run(graph.unjoined(trunk, color, rows, columns), canvas)
    kept = graph.strength_of(*graph.kept_detail(trunk))
    value, relief, hue = (canvas[..., 24 + a : 24 + b].astype(float) - 128 for a, b in ((0, 16), (16, 32), (32, 36)))
    toned, gains = canvas[..., :24], parts[graph.GAINS]
    assert gains.shape[-1] == graph.gain_count(color) == (4 if color.matrix == "bt709" else 5)
    luma = value * gains[..., :1] + relief * gains[..., 1:2]
    strokes = np.concatenate((luma, hue * gains[..., -2:-1], hue * gains[..., -1:]), 3)
    joined = kept * toned + parts[graph.SMOOTH] + strokes
    assert np.abs(whole - np.clip(joined, 0, 255)).max() <= 0.51
    assert 0.2 < kept[0] < 0.8


def test_kept_detail_is_what_the_skip_leaves_within_a_cell():
    trunk = load_style("starry_night").trunk
    skip = np.zeros((24, 24), np.float32)
    skip[:16, :16] = -0.75 * np.eye(16) + 0.02  # what is the same for a whole cell is no detail
    skip[16:, 16:] = -np.eye(8)
    trunk.weights["skip.weight"] = skip[:, :, None, None]
    assert graph.kept_detail(trunk) == pytest.approx((0.25, 0))


@pytest.mark.parametrize("offset", [(0, 0), (4, 8), (5, 3), (-3, 1030)])
@pytest.mark.parametrize("bent", [False, True])
def test_planes_of_strokes_are_the_cells_of_the_canvas(offset, bent):
    rows, columns = 20, 30
    rng = np.random.default_rng(2)
    angle = rng.uniform(0, 6.28, (rows, columns))
    cells = np.stack((np.cos(angle), np.sin(angle), 0 * angle, rng.uniform(0, 1, angle.shape)), 2).astype(np.float32)
    grid = np.zeros((5, 7, 2), np.float32)
    grid[2:4, 2:5] = 2.5
    canvas_map = CanvasMap(16, grid) if bent else None
    cutter = SteeredCutter(load_style("starry_night").steering, rows, columns)
    out = np.zeros((rows, columns, 40), np.uint8)
    cutter.cut(cells, offset, out, canvas_map)
    value, relief, hue = cutter.planes(cells, offset, canvas_map)
    for plane, first, side in ((value, 0, 4), (relief, 16, 4), (hue, 32, 2)):
        wanted = out[..., first : first + side * side].reshape(rows, columns, side, side).swapaxes(1, 2)
        assert np.array_equal(plane, wanted.reshape(rows * side, columns * side))


def test_strokes_depend_on_the_frame_alone_and_not_on_those_before():
    """What has not changed since the frame before is not read again; a new cutter reads everything."""
    rows, columns = 30, 44
    rng = np.random.default_rng(5)
    steering = load_style("starry_night").steering
    cutter = SteeredCutter(steering, rows, columns)
    angle = np.asarray(cv2.resize(rng.uniform(0, 6, (6, 8)), (columns, rows)), np.float32)
    grid, fine = np.zeros((8, 11, 2), np.float32), rng.uniform(0, 1, angle.shape).astype(np.float32)
    offset, bent = (5, 3), None
    for step in range(40):
        match step % 8:
            case 0:
                offset = (offset[0] + int(rng.integers(-9, 9)), offset[1])
            case 1 | 5:
                angle = angle + (rng.random(angle.shape) < 0.1)
            case 2:
                bent = CanvasMap(16, grid) if step % 16 < 8 or bent is None else None
            case 3 | 6:
                grid = grid + np.where(rng.random((8, 11, 1)) < 0.05, 3.3, 0).astype(np.float32)
                bent = CanvasMap(16, grid)
            case 4:
                bent = CanvasMap(16, grid, 0.5 * grid, 0.4)
        cells = np.stack((np.cos(angle), np.sin(angle), 0 * angle, fine), 2).astype(np.float32)
        kept, read = np.zeros((2, rows, columns, 40), np.uint8)
        cutter.cut(cells, offset, kept, bent)
        SteeredCutter(steering, rows, columns).cut(cells, offset, read, bent)
        assert np.array_equal(kept, read), step


@pytest.mark.parametrize("precision", ["f32", "int8"])
def test_strokes_and_detail_are_as_fine_as_with_the_network_at_full_size(precision):
    size = Size(960, 540)
    frame = photo(size)
    results = {}
    for lines in ("full", 360):
        with open_engine(
            "starry_night", size, COLOR, backend="openvino", precision=precision, network_lines=lines
        ) as engine:
            results[lines] = next(iter(engine.stylize([frame]))).planes.y.astype(np.float32)
    enlarged = cv2.resize(
        cv2.resize(results["full"], (640, 360), interpolation=cv2.INTER_AREA), (960, 540), interpolation=cv2.INTER_CUBIC
    )
    fine = {
        name: each - cv2.GaussianBlur(each, (0, 0), 1.2) for name, each in {**results, "enlarged": enlarged}.items()
    }
    contrast = {name: float(each.std() / fine["full"].std()) for name, each in fine.items()}
    alike = {name: float(np.corrcoef(each.ravel(), fine["full"].ravel())[0, 1]) for name, each in fine.items()}
    assert 0.9 < contrast[360] < 1.1
    assert contrast["enlarged"] < 0.8, "what this would be if it were enlarged as it is"
    assert alike[360] > 0.9
    assert alike[360] > alike["enlarged"] + 0.02


def test_frames_may_be_overwritten_and_come_in_order():
    size = Size(400, 300)
    frames = [photo(size, seed) for seed in range(4)]
    with open_engine("starry_night", size, COLOR, backend="openvino", network_lines=240) as engine:
        one_by_one = [next(iter(engine.stylize([frame]))).planes.y.copy() for frame in frames]
        inside = engine.in_flight
        for frame in frames[:inside]:
            engine.submit(frame)
        with pytest.raises(ValueError, match="in flight"):
            engine.submit(frames[-1])
        for frame in frames[:inside]:
            for plane in frame.planes:
                plane[:] = 0
        results = [engine.next().planes.y for _ in range(inside)]
        with pytest.raises(ValueError, match="no frame"):
            engine.next()
    for result, wanted in zip(results, one_by_one, strict=False):
        assert np.array_equal(result, wanted)


def test_parts_of_a_blend_work_on_fewer_lines_where_they_can():
    size, frame = Size(400, 300), photo(Size(400, 300))
    with open_engine("starry_night:0.5,sketch:0.5", size, COLOR, backend="openvino", network_lines=240) as engine:
        mixed = next(iter(engine.stylize([frame]))).planes.y.astype(float)
    parts = []
    for name in ("starry_night", "sketch"):
        with open_engine(name, size, COLOR, backend="openvino", network_lines=240) as engine:
            parts.append(next(iter(engine.stylize([frame]))).planes.y.astype(float))
    assert np.abs(mixed - (parts[0] + parts[1]) / 2).max() <= 1


def test_a_render_is_resumed_with_the_same_lines_only(tmp_path):
    clip = tmp_path / "in.mp4"
    make_clip(clip, width=640, height=480, times=range(3))
    settings = []
    for lines in ("auto", "full", 240):
        with plan_render(
            clip, tmp_path / "out.mp4", style="starry_night", engine=EngineSettings(network_lines=lines)
        ) as plan:
            settings.append(plan.settings())
    assert settings[0] == settings[1]
    assert {name for name in settings[0] if settings[0][name] != settings[2][name]} == {"network size"}


def test_a_small_margin_is_replicated(tmp_path):
    """The reduced canvas ends as the packed frame does: its margin repeats its edge."""
    style, size = load_style("starry_night"), Size(400, 300)
    packing = Packing(Size(320, 240))
    layer = style.layer(size, COLOR, joined=True)
    out = np.zeros((packing.rows, packing.columns, layer.channels), np.uint8)
    frame = photo(size)
    small = Planes(
        *(cv2.resize(p, to) for p, to in zip(frame.planes, ((320, 240), (160, 120), (160, 120)), strict=True))
    )
    ground = layer.lay_reduced(frame, small, packing, out)
    assert ground.toned.shape == ground.value.shape == ground.relief.shape == (300, 400)
    assert (ground.hue.shape, ground.reduced.shape) == ((150, 200), (240, 320))
    assert np.array_equal(out[0, 5, 60:], out[2, 5, 60:])
    assert out[2:-2, 2:-2, 24:60].std() > 20
    assert np.array_equal(out[2:-2:, 2:-2, 16], small.u[::2, ::2])
    with pytest.raises(RtstyleError, match="this engine is for"):  # and frames of another size are refused
        open_engine(style, size, COLOR, backend="openvino", network_lines=240).submit(photo(Size(320, 240)))

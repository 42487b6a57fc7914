"""int8: near float32 in every color and blend, on every processor; ranges of another network are never used."""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from test_engines import frame_of, one_thread_where_torch_is, random_planes, run, same, scene  # noqa: F401  (a fixture)
from test_graph import COLORS

from rtstyle import graph
from rtstyle.backends import Controls, open_engine
from rtstyle.backends.accuracy import BOUNDS, difference
from rtstyle.errors import SettingError, StyleFormatError
from rtstyle.frame import Color, Planes, Size, planes_from_rgb, planes_to_rgb
from rtstyle.style import list_styles, load_style, read_int8
from rtstyle.style_folder import INT8_FILE
from rtstyle.video import VideoReader

torch = pytest.importorskip("torch", reason="random styles are made with torch")

from engines.quantize import (  # noqa: E402
    HELD_OUT,
    LEAST_GAIN,
    above_what_relus_cut,
    accuracy,
    crops_of,
    main,
    measure,
    measure_extremes,
    quantize,
    ranges_of,
    write_int8,
)

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "demo" / "big_buck_bunny.mp4"
SIZE = Size(64, 48)
BACKENDS = ("openvino", "onnxruntime")

x86 = pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="auto takes int8 on x86-64 only")


@pytest.fixture(params=BACKENDS)
def backend(request) -> str:
    if request.param == "onnxruntime":
        pytest.importorskip("onnxruntime")
    return request.param


@pytest.fixture
def copied(tmp_path, random_style) -> Path:
    """The folder of a style that may be changed."""
    return Path(shutil.copytree(random_style.folders[0][0], tmp_path / "copied"))


# -- how near --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list_styles())
def test_shipped_styles_are_near_float32_on_frames_that_they_were_not_calibrated_on(name, backend):
    with VideoReader(DEMO) as reader:
        rgbs = [planes_to_rgb(frame.planes, frame.color) for frame in islice(reader, 10, 121, 55)]
    small = [np.asarray(cv2.resize(rgb, (640, 360), interpolation=cv2.INTER_AREA), np.uint8) for rgb in rgbs]
    frames = [frame_of(planes_from_rgb(rgb, Color()), canvas=(37 * n, 11 * n)) for n, rgb in enumerate(small)]
    assert len(frames) == 3
    found = accuracy(load_style(name), frames, backend)
    assert found.passed(), f"{found}; run python -m engines.quantize again"


def pure_colors(size: Size, seed: int) -> Planes:
    """Areas of black, white and the six pure colors, hard or soft at their edges, with a little noise."""
    rng = np.random.default_rng(seed)
    areas = cv2.resize(
        255 * rng.integers(0, 2, (8, 11, 3), np.uint8),
        (size.width, size.height),
        interpolation=(cv2.INTER_NEAREST, cv2.INTER_LINEAR)[seed % 2],
    )
    noisy = areas + rng.normal(0, 3, areas.shape)
    return planes_from_rgb(np.clip(noisy, 0, 255).astype(np.uint8), Color())


@pytest.mark.parametrize("name", list_styles())
def test_shipped_styles_are_near_float32_in_colors_more_vivid_than_photos(name, backend):
    """Their values lie outside of the ranges in a few places. Ranges of seven crops in ten left cartoon at 37 dB."""
    frames = [frame_of(pure_colors(Size(320, 240), seed), canvas=(seed, 5)) for seed in range(4)]
    found = accuracy(load_style(name), frames, backend)
    assert found.passed(), str(found)


@pytest.mark.parametrize("color", COLORS, ids=str)
@pytest.mark.parametrize("name", ["sketch", "random"])
def test_every_color_is_folded(name, color, backend, random_style):
    """The bound is that of one color: weights are rounded after folding, so that each color rounds again, and no
    worse; middle grey that is not 128 is in the biases, but for the zeros around the frame."""
    style = random_style if name == "random" else load_style(name)
    frames = [frame_of(scene(Size(97, 65), seed), color=color, canvas=(seed, 5)) for seed in range(2)]
    found = accuracy(style, frames, backend)
    assert found.passed(), str(found)
    ours = [frame.planes for frame in frames]
    with open_engine(style, Size(97, 65), color, backend=backend, precision="int8") as engine:
        changed = difference([frame.planes for frame in engine.stylize(frames)], ours)
    assert changed.mean > 5, "this style does nothing, so it proves nothing"


@pytest.mark.parametrize(
    "blend", ["sketch:0.5,great_wave:0.5", "cartoon:0.6,etching:0.4", "sketch:0.5,great_wave:0.2,the_scream:0.3"]
)
def test_blends_are_near_float32(blend, backend):
    frames = [frame_of(pure_colors(Size(160, 90), seed)) for seed in range(2)]
    found = accuracy(load_style(blend), frames, backend)
    assert found.passed(), str(found)


def test_a_tile_is_the_whole_within_1_level(backend, random_style):
    """On a canvas of noise, where nothing depends on the rest of the frame. The network sees 88 pixels far; so much of
    a tile is left out where it is not at the frame's border."""
    whole, left, top, border = scene(Size(384, 320)), 96, 64, 96
    tile = Planes(whole.y[top:, left:], *(plane[top // 2 :, left // 2 :] for plane in whole[1:]))
    results = []
    for planes, canvas in ((whole, (13, 5)), (tile, (13 + left, 5 + top))):
        height, width = planes.y.shape
        with open_engine(random_style, Size(width, height), backend=backend, precision="int8") as engine:
            results.append(run(engine, frame_of(planes, canvas=canvas)))
    for all_of_it, part, scale in zip(*results, (1, 2, 2), strict=True):
        edge = border // scale
        expected = all_of_it[top // scale :, left // scale :][edge:, edge:]
        assert expected.size > 0
        assert np.abs(expected.astype(int) - part[edge:, edge:]).max() <= 1


# -- what is computed ------------------------------------------------------------------------------


@x86
@pytest.mark.parametrize(("name", "count"), [("sketch", 15), ("{noise}", 12), ("{noise}:0.5,{copy}:0.5", 11)])
def test_every_convolution_is_computed_in_integers(name, count, copied, random_style):
    from rtstyle.inference import the_core

    style = load_style(name.format(noise=random_style.folders[0][0], copy=copied))
    model = graph.deployed(style.int8[0], Color(), 12, 16, style.int8[1])
    compiled = the_core().compile_model(
        the_core().read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    words = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    kinds = [node["layerType"].astype(str) for node in words]
    kernels = [
        node["primitiveType"].astype(str) for node, kind in zip(words, kinds, strict=True) if "onvolution" in kind
    ]
    assert len(kernels) == count
    assert ("DepthToSpace" in kinds) == (":" in name), "only blends go up by DepthToSpace"
    assert all(kernel.endswith("I8") for kernel in kernels), kernels


def test_products_of_neighbours_never_saturate_where_they_are_added_in_16_bits(sketch):
    """Processors without VNNI do so. Weights that fill 8 bits gave 30 dB there instead of 53."""
    model = graph.deployed(sketch.int8[0], Color(), 8, 8, sketch.int8[1])
    weights = {
        each.name: np.abs(graph.numpy_helper.to_array(each).astype(int))
        for each in model.graph.initializer
        if each.name.endswith("_8_bits")
    }
    assert len(weights) == 15
    for each in weights.values():
        pairs = each[:, ::2] + each[:, 1::2]
        assert 120 <= pairs.max() <= 128
        assert 255 * pairs.max() < 2**15


def test_an_odd_number_of_channels_is_rounded_too():
    weights = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    weights[2] = 0
    whole, scale = graph._quantize_weights(weights)
    error = whole * scale[:, None, None, None] - weights
    assert np.all(np.abs(error) <= scale[:, None, None, None] + 1e-6)
    assert np.all(np.abs(error.sum((2, 3))) <= scale[:, None] / 2 + 1e-5), "what flat areas get is rounded once only"
    assert not whole[2].any()


# -- what is asked for, and what auto takes --------------------------------------------------------


@x86
def test_auto_takes_it_where_a_style_has_it_and_says_so(copied, backend):
    if backend == "openvino":
        from rtstyle.backends.openvino import native_bf16

        if native_bf16() == "amx":
            pytest.skip("with AMX, auto takes bf16")
    with open_engine(load_style(copied), SIZE, backend=backend) as engine:
        assert engine.precision == "int8"
    (copied / INT8_FILE).unlink()
    with open_engine(load_style(copied), SIZE, backend=backend) as engine:
        assert engine.precision in ("bf16", "f32")


def spoil(path: Path, how: str) -> None:
    words = json.loads(path.read_text())
    name = next(iter(words["ranges"]))
    if how == "missing":
        return path.unlink()
    if how == "text":
        path.write_text("no JSON")
        return None
    if how == "stale":
        words["trunk_sha256"] = "0" * 64
    elif how == "no digest":
        del words["trunk_sha256"]
    elif how == "one less":
        del words["ranges"][name]
    elif how == "list":
        words = [1, 2]
    elif how in ("gain 0", "short gain"):
        words["gains"]["stem.conv"] = [0.0] * 16 if how == "gain 0" else [1.0]
    else:
        words["ranges"][name] = {"infinite": [0, float("inf")], "upside down": [1, -1], "words": ["a", "b"]}[how]
    path.write_text(json.dumps(words))
    return None


SPOILT = (
    "missing",
    "text",
    "stale",
    "no digest",
    "one less",
    "list",
    "infinite",
    "upside down",
    "words",
    "gain 0",
    "short gain",
)


@pytest.mark.parametrize("how", SPOILT)
def test_ranges_that_cannot_be_used_are_refused_in_one_line_that_tells_the_remedy(copied, how):
    spoil(copied / INT8_FILE, how)
    style = load_style(copied)
    with pytest.raises(StyleFormatError) as caught:
        open_engine(style, SIZE, precision="int8")
    assert "\n" not in str(caught.value)
    assert f"python -m engines.quantize {copied}" in str(caught.value)
    with open_engine(style, SIZE, backend="openvino") as engine:
        assert engine.precision in ("bf16", "f32")
        planes = random_planes(SIZE)
        assert same(run(engine, frame_of(planes), Controls(0, 0)), planes)


def test_a_retrained_network_makes_its_ranges_stale(copied, tmp_path):
    from conftest import make_random_style

    shutil.copy(make_random_style(tmp_path / "retrained", seed=9, gain=1) / "trunk.onnx", copied)
    with pytest.raises(StyleFormatError, match=r"measured on another trunk\.onnx"):
        open_engine(load_style(copied), SIZE, precision="int8")


def test_a_blend_needs_the_ranges_of_each_of_its_styles(copied, random_style, tmp_path):
    other = Path(shutil.copytree(copied, tmp_path / "other"))
    (other / INT8_FILE).unlink()
    blend = load_style(f"{copied}:0.5,{other}:0.5")
    with pytest.raises(StyleFormatError, match=f"{other} has no int8.json"):
        open_engine(blend, SIZE, precision="int8")
    with open_engine(blend, SIZE, backend="openvino") as engine:
        assert engine.precision in ("bf16", "f32")
    # What has no share needs none.
    with open_engine(load_style(f"{copied}:1,{other}:0"), SIZE, precision="int8") as engine:
        assert engine.precision == "int8"


@pytest.mark.parametrize("name", ["torch", "tensorrt"])
def test_engines_without_it_say_which_precisions_they_have(name, random_style):
    if name == "tensorrt":
        pytest.importorskip("tensorrt_rtx")
    with pytest.raises(SettingError, match=rf"{name} has no precision int8 \(it has "):
        open_engine(random_style, SIZE, backend=name, precision="int8")


CODE = """if True:
    import json, sys
    from rtstyle.backends import open_engine
    from rtstyle.errors import SettingError
    from rtstyle.frame import Size
    from test_engines import frame_of, run, scene
    size, plain = Size(96, 64), sys.argv[1]
    told = {}
    for name in ("sketch", plain):
        with open_engine(name, size, backend="openvino") as engine:
            told[name] = engine.precision
    with open_engine("sketch", size, backend="openvino", precision="int8") as engine:
        told["frame"] = [plane.tolist() for plane in run(engine, frame_of(scene(size)))]
    try:
        open_engine(plain, size, backend="openvino", precision="bf16").close()
    except SettingError as error:
        told["bf16"] = str(error)
    print(json.dumps(told))
"""


@x86
@pytest.mark.parametrize("isa", ["AVX512_CORE_VNNI", "AVX512_CORE", "AVX2_VNNI", "AVX2"])
def test_it_is_the_same_frame_on_lesser_processors_and_auto_takes_nothing_that_they_emulate(isa, copied, sketch):
    (copied / INT8_FILE).unlink()
    environment = {
        **os.environ,
        "ONEDNN_MAX_CPU_ISA": isa,
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))),
    }
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(copied)], capture_output=True, text=True, cwd=ROOT, env=environment
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["sketch"] == "int8"
    assert told[str(copied)] == "f32"
    assert "bf16 needs a CPU with AVX512-BF16 or AMX" in told["bf16"]
    theirs = Planes(*(np.array(plane, np.uint8) for plane in told["frame"]))
    size = Size(96, 64)
    results = []
    for precision in ("int8", "f32"):
        with open_engine(sketch, size, backend="openvino", precision=precision) as engine:
            results.append(run(engine, frame_of(scene(size))))
    assert difference([theirs], [results[0]]).largest <= 1
    assert BOUNDS["int8"].holds(difference([theirs], [results[1]]))


# -- engines/quantize.py ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Made photos: as many as leave two for comparing."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(HELD_OUT + 3):
        rgb = planes_to_rgb(scene(Size(300, 280), number), Color("bt601", full_range=True))
        assert cv2.imwrite(str(folder / f"{number:02}.png"), rgb)
    return folder


def test_the_command_writes_ranges_that_auto_then_takes(copied, photos, monkeypatch, capsys):
    (copied / INT8_FILE).unlink()
    monkeypatch.setattr(sys, "argv", ["quantize", str(copied), "--photos", str(photos), "--crops", "12"])
    assert main() == 0
    assert "dB" in capsys.readouterr().out
    words = json.loads((copied / INT8_FILE).read_text())
    assert words["luma_db"] >= BOUNDS["int8"].psnr_db
    with open_engine(load_style(copied), SIZE, precision="int8") as engine:
        assert engine.precision == "int8"


def test_ranges_are_those_of_most_frames(random_style):
    """Tensors behind a ReLU start at 0; one in ten frames may go farther than a range."""
    extremes = measure_extremes(random_style.trunk, crops_of_made_pictures())
    assert list(extremes) == graph.quantized_tensors(random_style.trunk)
    for name, (low, high) in ranges_of(extremes).items():
        lows, highs = (each.reshape(4, -1) for each in extremes[name])
        assert lows.min() <= low <= 0 < high <= highs.max()
        assert high > highs.max(1).min()
        assert low == 0 or "Relu" not in name


def rewrite(folder: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    """Change the network of a style's folder."""
    model = onnx.load(str(folder / "trunk.onnx"))
    change(model)
    onnx.save(model, str(folder / "trunk.onnx"))


def test_a_channel_that_is_kept_off_costs_the_others_no_steps(copied):
    """It would take all of them: 32.8 dB with a range down to -1042, where -1.2 is as much as a ReLU tells from 0."""

    def keep_off(model):
        (bias,) = (each for each in model.graph.initializer if each.name == "up.conv.bias")
        array = numpy_helper.to_array(bias).copy()
        array[5] -= 1000
        bias.CopyFrom(numpy_helper.from_array(array, bias.name))

    frames = crops_of_made_pictures()
    before = accuracy(load_style(copied), frames)
    rewrite(copied, keep_off)
    after = quantize(copied, frames, frames)
    assert after.luma.psnr_db > before.luma.psnr_db - 2


def test_ranges_leave_out_what_a_relu_makes_0_and_the_frame_stays():
    whole_style = load_style("etching")
    trunk, frames = whole_style.trunk, crops_of_made_pictures()
    extremes = measure_extremes(trunk, frames, whole_style)
    whole = {name: (float(low.min()), float(high.max())) for name, (low, high) in extremes.items()}
    narrow = above_what_relus_cut(trunk, whole)
    lows = {name: low for name, (low, _) in narrow.items() if low != whole[name][0]}
    assert "/DepthToSpace_output_0" in lows, "this style proves nothing"
    assert all(narrow[name][1] == high and narrow[name][0] >= low for name, (low, high) in whole.items())

    def cut_off(share):
        """The network with limits, which no style may bring: no file is read for it."""
        model, weights = onnx.ModelProto(), dict(trunk.weights)
        model.CopyFrom(trunk.model)
        nodes = list(model.graph.node)
        for name, low in lows.items():
            number, maker = next((number, node) for number, node in enumerate(nodes) if node.output[0] == name)
            maker.output[0] = f"{name}_whole"
            nodes.insert(number + 1, helper.make_node("Max", [f"{name}_whole", f"{name}_low"], [name]))
            weights[f"{name}_low"] = np.array([share * low], np.float32)
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        return graph.Trunk(model, weights, trunk.toned)

    results = []
    for share in (None, 1, 0.1):
        style = load_style("etching")
        if share:
            style.__dict__["trunk"] = cut_off(share)
        with open_engine(style, Size(128, 96), frames[0].color, precision="f32") as engine:
            results.append([frame.planes for frame in engine.stylize(frames)])
    assert difference(results[1], results[0]).largest <= 1
    assert difference(results[2], results[0]).largest > 4, "higher limits take something away"


@pytest.mark.parametrize("name", ["cartoon", "random"])
def test_an_equalized_network_is_the_same_network(name, random_style):
    from rtstyle.backends.torch import generator_of

    style = random_style if name == "random" else load_style(name)
    generator = torch.Generator().manual_seed(0)
    equal, _ = style.int8
    networks = [generator_of(trunk.weights) for trunk in (style.trunk, equal)]
    x = torch.rand((1, 24, 12, 14), generator=generator) - 0.5
    z = torch.randn((1, networks[0].canvas, 12, 14), generator=generator)
    with torch.inference_mode():
        theirs, ours = (network(x, z) for network in networks)
    assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))
    changed = [
        name for name, weights in equal.weights.items() if not np.array_equal(weights, style.trunk.weights[name])
    ]
    assert {"stem.conv.weight", "up.conv.bias", "tail.weight"} <= set(changed)
    assert not {"skip.weight", "tail.bias"} & set(changed)


def crops_of_made_pictures():
    return [frame_of(scene(Size(128, 96), seed), canvas=(seed, seed)) for seed in range(4)]


def test_channels_that_are_never_used_do_no_harm(copied):
    trunk = load_style(copied).trunk
    trunk.weights["blocks.0.first.conv.bias"][:] = -1e6
    gains, ranges = measure(trunk, crops_of_made_pictures())
    assert np.allclose(gains["blocks.0.first.conv"], LEAST_GAIN**0.5)
    assert (0, 0) in ranges.values()
    write_int8(copied, gains, ranges)
    assert set(read_int8(copied, trunk)[0]) == set(gains)


def test_what_is_too_far_from_float32_is_not_written(copied, monkeypatch):
    """Ranges of a tenth of what they are clip nearly everything."""
    before = (copied / INT8_FILE).read_text()
    frames = crops_of_made_pictures()
    gains, true = measure(load_style(copied).trunk, frames)
    narrow = {name: (low / 10, high / 10) for name, (low, high) in true.items()}
    monkeypatch.setattr("engines.quantize.measure", lambda *_: (gains, narrow))
    with pytest.raises(StyleFormatError, match=r"too far from float32 .* dB.*; allowed are .* 38 dB"):
        quantize(copied, frames, frames)
    assert (copied / INT8_FILE).read_text() == before


def test_crops_are_the_same_each_time_and_lie_anywhere_on_the_canvas(photos):
    first, second = (crops_of(sorted(photos.iterdir()), 6) for _ in range(2))
    assert all(same(one.planes, other.planes) for one, other in zip(first, second, strict=True))
    assert len({frame.canvas for frame in first}) == 6
    assert not same(first[0].planes, first[1].planes)


def test_what_is_read_is_what_was_written(copied):
    trunk = load_style(copied).trunk
    gains, ranges = measure(trunk, crops_of_made_pictures())
    write_int8(copied, gains, ranges)
    gains_again, ranges_again = read_int8(copied, trunk)
    for name, gain in gains_again.items():
        np.testing.assert_allclose(gain, gains[name], rtol=1e-5)
    for name, (low, high) in ranges_again.items():
        assert (low, high) == pytest.approx(ranges[name], rel=1e-5)
    assert len((copied / INT8_FILE).read_text().splitlines()) < 50


@pytest.mark.parametrize("words", [["--photos", "nowhere"], ["--photos", ".", "--crops", "0"]], ids=" ".join)
def test_no_photos_or_crops_are_refused_in_one_line(words, photos, copied, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(photos)
    monkeypatch.setattr(sys, "argv", ["quantize", str(copied), *words])
    assert main() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")

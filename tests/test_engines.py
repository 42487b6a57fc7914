"""One body of tests for every backend in every precision (see ``kind`` in conftest.py)."""

import importlib.util
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest
from fake_device import FakeDevice, PlanarOnCpu

from rtstyle import graph
from rtstyle.backends import BACKENDS, PRECISIONS, Controls, open_engine
from rtstyle.backends.accuracy import BOUNDS
from rtstyle.backends.ring import SLOTS, RingEngine
from rtstyle.errors import BackendUnavailableError, RtstyleError, SettingError, StyleNotFoundError
from rtstyle.frame import Color, ColorTags, Frame, Planes, Size
from rtstyle.style import load_style

SIZES = [Size(16, 16), Size(17, 33), Size(64, 48), Size(321, 241), Size(160, 90)]


@pytest.fixture(autouse=True)
def one_thread_where_torch_is(request):
    if importlib.util.find_spec("torch"):
        request.getfixturevalue("one_thread")


def random_planes(size: Size, seed: int = 0) -> Planes:
    rng = np.random.default_rng(seed)
    shapes = ((s.height, s.width) for s in (size, size.chroma, size.chroma))
    return Planes(*(rng.integers(0, 256, shape, np.uint8) for shape in shapes))


def scene(size: Size, seed: int = 0) -> Planes:
    """A made frame with areas, edges and a camera's noise."""
    rng = np.random.default_rng(seed)
    planes = []
    for side in (size, size.chroma, size.chroma):
        coarse = rng.integers(0, 256, (side.height // 12 + 2, side.width // 12 + 2), np.uint8)
        areas = cv2.resize(coarse, (side.width, side.height), interpolation=cv2.INTER_CUBIC).astype(float)
        planes.append(np.clip(areas + rng.normal(0, 3, areas.shape), 0, 255).astype(np.uint8))
    return Planes(*planes)


def frame_of(planes: Planes, pts: int = 0, *, color: Color = Color(), canvas: tuple[int, int] = (0, 0)) -> Frame:
    return Frame(planes, pts, Fraction(1, 30000), color, canvas)


def engine_for(kind, style, size, mode="throughput", color=None):
    backend, precision = kind
    if backend == "ring":
        return ring_on_fake_device(style, size, mode, color or Color())
    device = None
    if backend == "torch":
        device = "cuda" if precision == "f16" else "cpu"
    return open_engine(style, size, color, backend=backend, precision=precision, mode=mode, device=device)


def ring_on_fake_device(style, size, mode="throughput", color=Color(), layout="i420", precision="f16"):
    """What the GPU engines are, but for the GPU."""
    pytest.importorskip("onnxruntime")
    loaded = load_style(style) if isinstance(style, str) else style
    if min(size.width, size.height) < 16:
        return open_engine(loaded, size)  # refused before any engine is asked
    device, layer = FakeDevice(slowest=0.002), loaded.layer(size, color)
    model = graph.planar(loaded.trunk, size, layout=layout, precision=precision).SerializeToString()
    return RingEngine(
        backend="tensorrt",
        precision=precision,
        device=device,
        network=PlanarOnCpu(device, model, size, layer.channels, layout),
        size=size,
        color=color,
        slots=SLOTS if mode == "throughput" else 1,
        layer=layer,
    )


def torch_ring_on_fake_device(style, size, precision, color=Color(), layout="i420"):
    """What torch on CUDA is, but for CUDA: its module on a CPU, in the streams of the fake device.

    Unlike ONNX Runtime, whose CPU provider keeps float16's activations in float32, it rounds them all.
    """
    torch = pytest.importorskip("torch")
    from rtstyle.backends.torch import TorchNetwork

    device = FakeDevice(slowest=0.001)

    class InStream(TorchNetwork):
        def prepare(self, addresses, stream):
            run = super().prepare(addresses, stream)
            return lambda: device.enqueue("run", stream, run)

    network = InStream(style, size, precision, torch.device("cpu"), layout)
    return RingEngine(
        backend="torch",
        precision=precision,
        device=device,
        network=network,
        size=size,
        color=color,
        layer=style.layer(size, color),
    )


def run(engine, frame: Frame, controls: Controls = Controls()) -> Planes:
    engine.submit(frame, controls)
    return engine.next().planes


def same(first: Planes, second: Planes) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def differences(first: Planes, second: Planes) -> np.ndarray:
    return np.concatenate([np.abs(a.astype(int) - b).ravel() for a, b in zip(first, second, strict=True)])


# -- the source passes untouched -------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_strength_0_returns_the_planes_bit_for_bit(kind, size, wild_style):
    every_level = Planes(*(np.resize(np.arange(256, dtype=np.uint8), p.shape) for p in random_planes(size)))
    upside_down = Planes(*(np.resize(np.arange(256, dtype=np.uint8)[::-1], p.shape) for p in random_planes(size)))
    with engine_for(kind, wild_style, size) as engine:
        for planes in (random_planes(size, 1), random_planes(size, 2), every_level, upside_down):
            assert same(run(engine, frame_of(planes, canvas=(37, 11)), Controls(0, 0)), planes)
        assert not same(run(engine, frame_of(every_level)), every_level), "this style does nothing"


def test_strength_0_of_the_shipped_style_returns_the_planes_bit_for_bit(kind, sketch):
    size = Size(160, 90)
    with engine_for(kind, sketch, size) as engine:
        planes = scene(size)
        assert same(run(engine, frame_of(planes), Controls(0, 0)), planes)


# -- the contract ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_shapes_stay_and_the_input_is_left_alone(kind, size, random_style):
    planes = random_planes(size)
    before = [plane.copy() for plane in planes]
    with engine_for(kind, random_style, size) as engine:
        first = run(engine, frame_of(planes))
        kept = [plane.copy() for plane in first]
        run(engine, frame_of(random_planes(size, 9)))
    for new, plane, old, copy in zip(first, planes, before, kept, strict=True):
        assert new.shape == plane.shape
        assert new.dtype == np.uint8
        assert np.array_equal(plane, old)
        assert not np.shares_memory(new, plane)
        assert np.array_equal(new, copy), "a later frame was written into what the caller had been given"


def test_planes_may_be_reused_as_soon_as_submit_returns(kind, random_style):
    size = Size(64, 48)
    planes = random_planes(size)
    with engine_for(kind, random_style, size) as engine:
        expected = run(engine, frame_of(planes))
        buffers = Planes(*(plane.copy() for plane in planes))
        engine.submit(frame_of(buffers))
        for plane in buffers:
            plane[:] = 0
        assert same(engine.next().planes, expected)


def test_planes_of_any_strides_are_read(kind, random_style):
    size = Size(50, 34)
    planes = random_planes(size)
    mirrored = Planes(*(np.ascontiguousarray(plane[:, ::-1])[:, ::-1] for plane in planes))
    with engine_for(kind, random_style, size) as engine:
        assert same(run(engine, frame_of(mirrored)), run(engine, frame_of(planes)))


def test_frames_come_out_in_the_order_in_which_they_went_in(kind, random_style):
    size = Size(64, 48)
    frames = [frame_of(random_planes(size, seed), pts=1001 * seed) for seed in range(12)]
    with engine_for(kind, random_style, size) as engine:
        alone = [run(engine, frame) for frame in frames]
        together = []
        for number, frame in enumerate(frames):
            if number - len(together) == engine.in_flight:
                together.append(engine.next())
            engine.submit(frame)
        together += [engine.next() for _ in range(len(frames) - len(together))]
        streamed = list(engine.stylize(iter(frames)))
    for expected, frame, one, other in zip(alone, frames, together, streamed, strict=True):
        assert one.pts == other.pts == frame.pts
        assert same(one.planes, expected)
        assert same(other.planes, expected)


def test_time_color_and_canvas_of_a_frame_pass_through(kind, random_style):
    size = Size(32, 32)
    color = Color("bt2020", full_range=True, tags=ColorTags(9, 2, 9, 16))
    frame = Frame(random_planes(size), -7, Fraction(1001, 24000), color, (5, -3))
    with engine_for(kind, random_style, size, color=color) as engine:
        engine.submit(frame)
        result = engine.next()
    assert (result.pts, result.time_base, result.color, result.canvas) == (-7, Fraction(1001, 24000), color, (5, -3))


def test_stylize_of_no_frames_yields_none(kind, random_style):
    with engine_for(kind, random_style, Size(32, 32)) as engine:
        assert list(engine.stylize([])) == []


def test_latency_mode_has_one_frame_inside_and_gives_the_same_frame(kind, random_style):
    size = Size(64, 48)
    frame = frame_of(scene(size))
    with engine_for(kind, random_style, size) as files, engine_for(kind, random_style, size, "latency") as live:
        assert live.in_flight == 1
        assert files.in_flight >= 1
        # Another number of threads may split sums another way.
        assert differences(run(files, frame), run(live, frame)).max() <= BOUNDS[kind[1]].largest


def test_an_engine_says_what_it_is(kind, random_style):
    with engine_for(kind, random_style, Size(32, 32)) as engine:
        assert (engine.backend, engine.precision) == (kind if kind[0] != "ring" else ("tensorrt", "f16"))
        assert engine.device
        assert engine.size == Size(32, 32)


# -- controls --------------------------------------------------------------------------------------


def test_controls_act_on_their_own_frame_only(kind, random_style):
    size = Size(64, 48)
    frame = frame_of(scene(size))
    controls = [Controls(*each) for each in ((1, 1), (0, 0), (0.5, 1), (1, 1), (2, 0), (0, 0.25), (1, 1))]
    with engine_for(kind, random_style, size) as engine:
        alone = [run(engine, frame, each) for each in controls]
        results = []
        for number, each in enumerate(controls):
            if number - len(results) == engine.in_flight:
                results.append(engine.next().planes)
            engine.submit(frame, each)
        results += [engine.next().planes for _ in range(len(controls) - len(results))]
    for expected, result in zip(alone, results, strict=True):
        assert same(expected, result)


def test_luma_and_chroma_have_a_strength_of_their_own(kind, random_style):
    size = Size(64, 48)
    frame = frame_of(scene(size))
    with engine_for(kind, random_style, size) as engine:
        both = run(engine, frame, Controls(1, 1))
        luma = run(engine, frame, Controls(1, 0))
        chroma = run(engine, frame, Controls(0, 1))
    source = frame.planes
    assert not np.array_equal(both.y, source.y)
    assert not np.array_equal(both.u, source.u)
    assert same(luma, Planes(both.y, source.u, source.v))
    assert same(chroma, Planes(source.y, both.u, both.v))


def test_keeping_colors_is_chroma_0():
    assert Controls.of(0.7) == Controls(0.7, 0.7)
    assert Controls.of(0.7, keep_colors=True) == Controls(0.7, 0)


def test_half_the_strength_is_half_the_change(kind, random_style):
    size = Size(64, 48)
    frame = frame_of(scene(size))
    with engine_for(kind, random_style, size) as engine:
        half, whole = (run(engine, frame, Controls(strength, strength)) for strength in (0.5, 1.0))
    for source, some, all_of_it in zip(frame.planes, half, whole, strict=True):
        free = (all_of_it > 0) & (all_of_it < 255)
        middle = (source.astype(float) + all_of_it) / 2
        # Half of the rounding of the whole, and a rounding of its own.
        assert np.abs(some - middle)[free].max() <= 0.75 + 1e-6


@pytest.mark.parametrize("strength", [-0.1, 2.1, float("nan"), float("inf")])
def test_a_strength_out_of_range_is_refused(strength):
    with pytest.raises(SettingError, match=r"strength must be in \[0, 2\]"):
        Controls(strength, 1)
    with pytest.raises(ValueError, match="chroma"):
        Controls(1, strength)


# -- what is refused -------------------------------------------------------------------------------


def test_a_frame_of_another_size_is_refused_by_both_sizes(kind, random_style):
    with engine_for(kind, random_style, Size(64, 48)) as engine:
        with pytest.raises(ValueError, match=r"64x48.*32x16"):
            engine.submit(frame_of(random_planes(Size(32, 16))))
        assert same(run(engine, frame_of(random_planes(Size(64, 48))), Controls(0, 0)), random_planes(Size(64, 48)))


def test_a_frame_whose_chroma_does_not_fit_is_refused_and_costs_nothing(kind, random_style):
    size = Size(64, 48)
    whole = random_planes(size)
    with engine_for(kind, random_style, size) as engine:
        for odd in (Planes(whole.y, whole.u[:-1], whole.v), Planes(whole.y, whole.u, whole.v[:1, :1])):
            with pytest.raises(ValueError, match=r"half the rows and columns of y, \(24, 32\)"):
                frame_of(odd)
            forged = frame_of(whole)
            object.__setattr__(forged, "planes", odd)
            for _ in range(engine.in_flight + 1):
                with pytest.raises(ValueError, match=r"chroma.*\(24, 32\)"):
                    engine.submit(forged)
        assert same(run(engine, frame_of(whole), Controls(0, 0)), whole)


def test_a_frame_of_another_color_is_refused_by_both_colors(kind, random_style):
    size = Size(32, 32)
    with engine_for(kind, random_style, size, color=Color("bt709", full_range=False)) as engine:
        with pytest.raises(ValueError, match=r"bt709 limited.*bt601 limited"):
            engine.submit(frame_of(random_planes(size), color=Color("bt601")))
        with pytest.raises(ValueError, match=r"bt709 limited.*bt709 full"):
            engine.submit(frame_of(random_planes(size), color=Color("bt709", full_range=True)))
        # Other tags of the same matrix and range are no other color.
        engine.submit(frame_of(random_planes(size), color=Color("bt709", tags=ColorTags(1, 1, 1, 1))))


def test_more_frames_than_fit_are_refused_and_the_others_come_out(kind, random_style):
    size = Size(32, 32)
    with engine_for(kind, random_style, size) as engine:
        for number in range(engine.in_flight):
            engine.submit(frame_of(random_planes(size, number), number))
        with pytest.raises(ValueError, match=rf"{engine.in_flight} frames are in flight"):
            engine.submit(frame_of(random_planes(size), 99))
        assert [engine.next().pts for _ in range(engine.in_flight)] == list(range(engine.in_flight))
        with pytest.raises(ValueError, match="no frame is in flight"):
            engine.next()


def test_an_engine_with_frames_inside_can_be_closed(kind, random_style):
    size = Size(64, 48)
    with engine_for(kind, random_style, size) as engine:
        for number in range(engine.in_flight):
            engine.submit(frame_of(random_planes(size, number), number))


def test_frames_under_16_pixels_are_refused(kind, random_style):
    for size in (Size(15, 16), Size(16, 15)):
        with pytest.raises(SettingError, match=f"16x16.*{size}"):
            engine_for(kind, random_style, size)


def test_a_device_that_is_not_there_is_refused_in_one_line(kind, random_style):
    backend, precision = kind
    if backend == "ring":
        pytest.skip("a ring is given its device")
    with pytest.raises(SettingError, match=r"no .*device 'nowhere'") as caught:
        open_engine(random_style, Size(32, 32), backend=backend, precision=precision, device="nowhere")
    assert "\n" not in str(caught.value)


def test_auto_takes_a_backend_that_opens():
    with open_engine("sketch", Size(32, 32)) as engine:
        assert engine.backend in BACKENDS
        assert engine.precision in PRECISIONS[engine.backend]


def test_the_command_line_names_every_backend_and_precision():
    from rtstyle.backends import BackendChoice, Precision
    from rtstyle.cli import BACKEND_WORDS, PRECISION_WORDS

    assert set(BACKEND_WORDS) == set(get_args(BackendChoice)) == {"auto", *BACKENDS}
    assert set(PRECISION_WORDS) == set(get_args(Precision))
    assert {precision for able in PRECISIONS.values() for precision in able} == set(PRECISION_WORDS) - {"auto"}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_precision_that_a_backend_does_not_have_is_refused_by_those_that_it_has(backend, random_style):
    missing = next((p for p in ("f16", "bf16") if p not in PRECISIONS[backend]), None)
    if missing is None:
        pytest.skip("it has them all")
    if backend in ("onnxruntime", "tensorrt"):
        pytest.importorskip({"tensorrt": "tensorrt_rtx"}.get(backend, backend))
    with pytest.raises(SettingError, match=rf"{backend} has no precision {missing} \(it has "):
        open_engine(random_style, Size(32, 32), backend=backend, precision=missing)


def test_float16_on_a_cpu_is_refused_by_every_backend_and_each_says_why(random_style, monkeypatch):
    from rtstyle.backends.cuda import driver_problem

    if driver_problem() is None:
        pytest.skip("there is a GPU here")
    with pytest.raises(BackendUnavailableError) as caught:
        open_engine(random_style, Size(32, 32), precision="f16")
    for backend in BACKENDS:
        assert f"{backend}: " in str(caught.value)


def test_an_unknown_style_is_not_a_missing_backend():
    with pytest.raises(StyleNotFoundError):
        open_engine("skecth", Size(32, 32))


def test_a_backend_that_is_not_installed_is_refused_with_its_reason(random_style, monkeypatch):
    monkeypatch.setitem(sys.modules, "rtstyle.backends.torch", None)  # as if its import failed
    with pytest.raises(BackendUnavailableError, match=r"torch: .*32x32|32x32.*torch: ") as caught:
        open_engine(random_style, Size(32, 32), backend="torch")
    assert isinstance(caught.value, RtstyleError)


def test_engines_may_end_in_any_order_and_ctrl_c_still_works():
    """OpenVINO's CPU plugin gives the thread a stack for signals: one that is gone makes the next signal a crash."""
    code = """if True:
        import gc, os, signal
        from rtstyle import Size, open_engine
        signal.signal(signal.SIGINT, signal.default_int_handler)
        first = open_engine("sketch", Size(32, 32), backend="openvino")
        second = open_engine("sketch", Size(48, 32), backend="openvino")
        first.close()
        del first
        gc.collect()
        second.close()
        del second
        gc.collect()
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            print("interrupted")
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert (done.returncode, done.stdout) == (0, "interrupted\n")


# -- the same frame everywhere -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sketch", "random"])
@pytest.mark.parametrize("size", [Size(321, 241), Size(64, 48)], ids=str)
def test_every_engine_gives_the_frame_of_the_reference(kind, name, size, random_style):
    pytest.importorskip("torch", reason="the reference is torch in float32")
    style = random_style if name == "random" else name
    bound = BOUNDS[kind[1]]
    with engine_for(kind, style, size) as engine, engine_for(("torch", "f32"), style, size) as reference:
        for seed in range(2):
            frame = frame_of(scene(size, seed), canvas=(seed * 13, seed * 7))
            difference = differences(run(engine, frame), run(reference, frame))
            assert difference.max() <= bound.largest
            assert difference.mean() <= bound.mean


def test_the_canvas_is_a_tile_of_512_pixels(kind, random_style):
    size = Size(64, 48)
    planes = Planes(*(np.full_like(plane, 128) for plane in random_planes(size)))
    with engine_for(kind, random_style, size) as engine:
        here, next_tile, elsewhere = (
            run(engine, frame_of(planes, canvas=at)) for at in ((3, 5), (3 - 512, 5 + 1024), (100, 57))
        )
    assert same(here, next_tile)
    assert not same(here, elsewhere), "the style does not draw from the canvas"


@pytest.mark.parametrize("shift", [(8, 0), (0, 8), (16, 40)], ids=str)
def test_strokes_stick_to_the_scene_when_it_moves_by_whole_cells(kind, random_style, shift):
    """Frame and canvas moved together by multiples of 8 pixels, the stride of the network's deepest grid,
    give the moved frame. A border of 96 pixels is left out: the network sees 88 pixels far (one cell of 4
    each for stem, fuse and tail, and of 8 for the way down and 8 convolutions there, and the margin), and at
    the border it sees the repeated edge instead of what was there before.
    """
    x, y = shift
    size, border = Size(288, 256), 96
    world = scene(Size(size.width + x, size.height + y))
    width, height = size.width, size.height
    before = Planes(world.y[:height, :width], *(c[: height // 2, : width // 2] for c in world[1:]))
    after = Planes(world.y[y:, x:], *(c[y // 2 :, x // 2 :] for c in world[1:]))
    with engine_for(kind, random_style, size) as engine:
        first = run(engine, frame_of(before, canvas=(31, 17)))
        second = run(engine, frame_of(after, canvas=(31 + x, 17 + y)))
        unmoved_canvas = run(engine, frame_of(after, canvas=(31, 17)))
    for one, other, scale in zip(first, second, (1, 2, 2), strict=True):
        height, width = one.shape
        dx, dy, edge = x // scale, y // scale, border // scale
        inner = one[edge + dy : height - edge, edge + dx : width - edge]
        moved = other[edge : height - edge - dy, edge : width - edge - dx]
        assert inner.size > 0
        assert np.abs(inner.astype(int) - moved).max() <= BOUNDS[kind[1]].largest
    assert not same(second, unmoved_canvas)

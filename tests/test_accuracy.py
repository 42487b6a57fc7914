"""The accuracy gate: what is not the frame of float32 is not used, and the next precision is taken."""

import json

import numpy as np
import pytest
from conftest import make_random_style
from test_engines import (  # noqa: F401  (one_thread_where_torch_is is a fixture)
    one_thread_where_torch_is,
    random_planes,
    ring_on_fake_device,
    torch_ring_on_fake_device,
)

from rtstyle.backends import PRECISIONS, open_engine
from rtstyle.backends.accuracy import (
    BOUNDS,
    AccuracyError,
    check,
    difference,
    first_accurate,
    fixed_frames,
    judge,
)
from rtstyle.backends.plans import PlanCache, Recipe
from rtstyle.backends.reference import open_reference
from rtstyle.errors import BackendUnavailableError
from rtstyle.frame import Color, Planes, Size
from rtstyle.style import load_style

SIZE = Size(64, 48)


@pytest.fixture(scope="module")
def overflowing_style(tmp_path_factory):
    """Weights that float32 holds easily and whose activations float16 does not hold: beyond 65504."""
    torch = pytest.importorskip("torch")
    from engines.export import export_trunk
    from rtstyle.backends.torch import generator_of

    folder = make_random_style(tmp_path_factory.mktemp("styles") / "overflowing", seed=3, gain=1)
    generator = generator_of(load_style(folder).trunk.weights)
    with torch.no_grad():
        generator.up.conv.weight *= 100
        generator.fuse.conv.weight *= 1e5
        generator.tail.weight /= 1e7
    export_trunk(generator, folder / "trunk.onnx")
    return load_style(folder)


# -- figures -----------------------------------------------------------------------------------------


def test_differences_are_over_all_planes():
    first = random_planes(SIZE, 1)
    assert difference([first], [first]).largest == 0
    assert difference([first], [first]).psnr_db is None
    grey = Planes(*(np.full_like(plane, 100) for plane in first))
    other = Planes(grey.y, grey.u, grey.v.copy())
    other.v[0, 0] = 110
    found = difference([grey, grey], [grey, other])
    samples = 2 * sum(plane.size for plane in grey)
    assert found.largest == 10
    assert found.mean == pytest.approx(10 / samples)
    assert found.psnr_db == pytest.approx(10 * np.log10(255**2 / (100 / samples)), abs=0.01)


def test_every_precision_has_a_bound():
    assert {precision for able in PRECISIONS.values() for precision in able} <= set(BOUNDS)


def test_fixed_frames_are_the_same_each_time_and_hold_no_0():
    first, second = fixed_frames(Size(70, 50), Color()), fixed_frames(Size(70, 50), Color())
    assert len(first) == 5
    for one, other in zip(first, second, strict=True):
        assert one.size == Size(70, 50)
        assert all(np.array_equal(a, b) for a, b in zip(one.planes, other.planes, strict=True))
        assert all(int(plane.min()) > 0 for plane in one.planes)
    assert max(int(frame.planes.y.max()) for frame in first) == 255
    assert len({frame.canvas for frame in first}) == 5


# -- verdicts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sketch", "random"])
def test_float16_of_an_intact_style_passes_and_its_figures_are_json(name, random_style):
    style = random_style if name == "random" else load_style(name)
    with ring_on_fake_device(style, SIZE) as engine, open_reference(style, SIZE, Color()) as reference:
        verdict = judge(engine, reference)
    assert verdict.passed
    assert 0 < verdict.accuracy["mean"] <= BOUNDS["f16"].mean
    assert json.loads(json.dumps(verdict.accuracy)) == verdict.accuracy
    assert verdict.accuracy["reference"].endswith("f32")


def test_infinity_in_float16_is_found_and_named(overflowing_style):
    with (
        torch_ring_on_fake_device(overflowing_style, SIZE, "f16") as engine,
        open_reference(overflowing_style, SIZE, Color()) as reference,
    ):
        verdict = judge(engine, reference)
        assert not verdict.passed
        assert "NaN or infinity" in verdict.reason
        with pytest.raises(AccuracyError, match="torch f16 is not accurate enough"):
            check(engine, reference)


def test_an_engine_of_another_frame_fails_by_its_figures(random_style, wild_style):
    with open_engine(wild_style, SIZE, precision="f32") as other, open_reference(random_style, SIZE, Color()) as ours:
        verdict = judge(other, ours)
    assert not verdict.passed
    assert "allowed are 1 levels and 0.001 on average" in verdict.reason


def test_an_engine_is_as_good_as_its_bound(random_style):
    """float16 has twice the bound of float32's 1: it passes as float16, and would not as float32."""
    with ring_on_fake_device(random_style, SIZE) as engine, open_reference(random_style, SIZE, Color()) as reference:
        assert judge(engine, reference).passed
        engine.precision = "f32"
        assert not judge(engine, reference).passed


# -- what follows ------------------------------------------------------------------------------------------


def test_a_plan_that_fails_is_not_kept_and_the_next_precision_is(overflowing_style, tmp_path, caplog):
    cache = PlanCache(tmp_path)

    def make(precision):
        recipe = Recipe(f"style-{precision}", precision.encode(), "tensorrt 11.4.0", ())

        def build():
            with (
                torch_ring_on_fake_device(overflowing_style, SIZE, precision) as engine,
                open_reference(overflowing_style, SIZE, Color()) as reference,
            ):
                return b"plan of " + precision.encode(), check(engine, reference)

        return cache.build_once(recipe, ("sm86",), build)

    with caplog.at_level("INFO", "rtstyle"):
        plan = first_accurate(("f16", "f32"), make)
    assert plan.data == b"plan of f32"
    assert plan.about["accuracy"]["largest"] <= 1
    assert [path.name for path, _ in cache.plans()] == [plan.path.name]
    assert len(caplog.messages) == 1
    assert caplog.messages[0].endswith("; taking f32")
    with pytest.raises(AccuracyError):
        make("f16")


def test_a_refusal_is_kept_in_mind_until_the_cache_is_cleared(tmp_path):
    cache = PlanCache(tmp_path)
    recipe = Recipe("style", b"graph", "tensorrt 11.4.0", ())
    cache.build_once(recipe, ("sm86", "sm89"), lambda: (b"plan", None))
    cache.refuse(recipe, "sm86", "not accurate")
    assert cache.refusal(recipe, "sm86") == "not accurate"
    assert cache.refusal(recipe, "sm89") is None
    assert cache.find(recipe, "sm86") is None
    cache.clear()
    assert cache.refusal(recipe, "sm86") is None


def test_nothing_else_is_tried_when_a_build_fails_for_another_reason():
    tried = []

    def make(precision):
        tried.append(precision)
        raise BackendUnavailableError("out of memory")

    with pytest.raises(BackendUnavailableError, match="out of memory"):
        first_accurate(("f16", "f32"), make)
    assert tried == ["f16"]

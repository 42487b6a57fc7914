"""An engine that another one replaces in mid-stream: tested with two that every machine has."""

import threading
import time

import pytest
from test_engines import (  # noqa: F401  (one_thread_where_torch_is is a fixture)
    differences,
    frame_of,
    one_thread_where_torch_is,
    random_planes,
    ring_on_fake_device,
    same,
    scene,
)

from rtstyle.backends import Controls, Engine, open_engine
from rtstyle.backends.accuracy import BOUNDS
from rtstyle.backends.engine import EngineLater
from rtstyle.backends.swap import SwappingEngine
from rtstyle.errors import BackendUnavailableError
from rtstyle.frame import Color, Size

SIZE = Size(64, 48)


def opened(style, backend: str, mode="throughput") -> Engine:
    if backend == "ring":
        return ring_on_fake_device(style, SIZE, mode)
    return open_engine(style, SIZE, backend=backend, precision="f32", mode=mode)


class Given:
    """What makes the second engine, when the test says so."""

    def __init__(self, style, backend: str, mode="throughput") -> None:
        self._what = (style, backend, mode)
        self._now = threading.Event()
        self.made: Engine | None = None

    def __call__(self, stop: threading.Event) -> Engine:
        while not self._now.wait(0.005):
            if stop.is_set():
                raise BackendUnavailableError("stopped")
        self.made = opened(*self._what)
        return self.made

    def ready(self, engine: SwappingEngine) -> None:
        self._now.set()
        deadline = time.monotonic() + 20
        while engine._made is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)


def closed_counter(engine: Engine, counts: list[str], name: str) -> None:
    close = engine.close
    engine.close = lambda: (counts.append(name), close())[1]  # type: ignore[method-assign]


PAIRS = [
    ("torch", "openvino"),
    ("openvino", "torch"),
    ("openvino", "onnxruntime"),
    ("torch", "ring"),
    ("ring", "torch"),
]


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize("moment", [0, 1, 5, 11])
def test_a_swap_in_mid_stream_drops_doubles_and_mixes_nothing(random_style, pair, moment):
    pytest.importorskip("torch")
    frames = [frame_of(scene(SIZE, number), number, canvas=(number, 2 * number)) for number in range(12)]
    controls = [Controls((1, 0.5, 0)[number % 3], 1) for number in range(12)]
    first, given = opened(random_style, pair[0]), Given(random_style, pair[1])
    closed: list[str] = []
    closed_counter(first, closed, "first")
    results, names, waiting = [], [], 0
    with SwappingEngine(first, given) as engine:
        for number, (frame, control) in enumerate(zip(frames, controls, strict=True)):
            if number == moment:
                given.ready(engine)
            while waiting >= engine.in_flight:
                results.append(engine.next())
                waiting -= 1
            engine.submit(frame, control)
            names.append((engine.backend, engine.precision))
            waiting += 1
        results += [engine.next() for _ in range(waiting)]
        assert closed == ["first"], "the first engine is closed when its last frame has come out"
        assert given.made is not None
        assert (engine.backend, engine.precision) == (given.made.backend, given.made.precision)
    assert [result.pts for result in results] == list(range(12))
    before, after = (first.backend, first.precision), (given.made.backend, given.made.precision)
    assert names == [before] * moment + [after] * (12 - moment)
    with open_engine(random_style, SIZE, backend="openvino", precision="f32") as reference:
        for result, frame, control in zip(results, frames, controls, strict=True):
            (expected,) = reference.stylize([frame], control)
            assert differences(result.planes, expected.planes).max() <= BOUNDS["f16"].largest


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_the_loop_over_frames_goes_through_a_swap(random_style, pair):
    pytest.importorskip("torch")
    frames = [frame_of(random_planes(SIZE, number), number) for number in range(16)]
    given = Given(random_style, pair[1])
    with SwappingEngine(opened(random_style, pair[0]), given) as engine:

        def source():
            for number, frame in enumerate(frames):
                if number == 7:
                    given.ready(engine)
                yield frame

        assert [frame.pts for frame in engine.stylize(source(), Controls(0, 0))] == list(range(16))


def test_live_in_latency_mode_nothing_waits_inside(random_style):
    pytest.importorskip("torch")
    given = Given(random_style, "openvino", "latency")
    with SwappingEngine(opened(random_style, "torch", "latency"), given) as engine:
        assert engine.in_flight == 1
        for number in range(6):
            if number == 3:
                given.ready(engine)
            engine.submit(frame_of(random_planes(SIZE, number), number))
            assert engine.next().pts == number
        assert engine.in_flight == 1


def test_a_second_engine_that_holds_fewer_frames_gets_no_more_than_those(random_style):
    pytest.importorskip("torch")
    frames = [frame_of(random_planes(SIZE, number), number) for number in range(9)]
    given = Given(random_style, "torch")  # one at a time
    with SwappingEngine(opened(random_style, "ring"), given) as engine:
        for frame in frames[:2]:
            engine.submit(frame)
        given.ready(engine)
        for frame in frames[2:3]:
            engine.submit(frame)
        assert engine.in_flight == 3
        with pytest.raises(ValueError, match="3 frames are in flight"):
            engine.submit(frames[3])
        results = [engine.next()]
        for frame in frames[3:]:
            engine.submit(frame)
            results.append(engine.next())
        results += [engine.next() for _ in range(2)]
        with pytest.raises(ValueError, match="no frame is in flight"):
            engine.next()
    assert [frame.pts for frame in results] == list(range(9))


def test_when_the_second_engine_fails_the_first_continues_and_a_line_says_so(random_style, caplog):
    def fail(stop):
        raise BackendUnavailableError("the build of the engine ended with code -9")

    with (
        caplog.at_level("INFO", "rtstyle"),
        SwappingEngine(opened(random_style, "openvino"), fail) as engine,
    ):
        planes = [random_planes(SIZE, number) for number in range(5)]
        results = list(engine.stylize((frame_of(each) for each in planes), Controls(0, 0)))
        assert all(same(result.planes, each) for result, each in zip(results, planes, strict=True))
        assert engine.backend == "openvino"
        engine._thread.join()
    assert caplog.messages == ["continuing with openvino: the build of the engine ended with code -9"]


@pytest.mark.parametrize("ready", [False, True])
def test_an_engine_that_is_closed_before_the_swap_closes_both_and_leaves_no_thread(random_style, ready, caplog):
    given = Given(random_style, "onnxruntime")
    first = opened(random_style, "openvino")
    closed: list[str] = []
    closed_counter(first, closed, "first")
    with caplog.at_level("INFO", "rtstyle"), SwappingEngine(first, given) as engine:
        engine.submit(frame_of(random_planes(SIZE)))
        if ready:
            given.ready(engine)
            assert given.made is not None
            closed_counter(given.made, closed, "second")
    assert sorted(closed) == (["first", "second"] if ready else ["first"])
    assert not engine._thread.is_alive()
    assert caplog.messages == []


def test_frames_of_another_size_or_too_many_are_refused_as_by_any_engine(random_style):
    with SwappingEngine(opened(random_style, "openvino"), Given(random_style, "onnxruntime")) as engine:
        with pytest.raises(ValueError, match=r"64x48.*32x16"):
            engine.submit(frame_of(random_planes(Size(32, 16))))
        for number in range(engine.in_flight):
            engine.submit(frame_of(random_planes(SIZE, number)))
        with pytest.raises(ValueError, match="are in flight"):
            engine.submit(frame_of(random_planes(SIZE)))


def test_auto_starts_at_once_where_tensorrt_must_build_and_swaps_when_it_has(random_style, monkeypatch):
    """The whole of open_engine but TensorRT itself, in whose place ONNX Runtime comes late."""
    given = Given(random_style, "onnxruntime")

    def open_tensorrt(*_, wait, **__):
        assert not wait
        raise EngineLater("the engine is being built", given)

    pytest.importorskip("tensorrt_rtx")
    monkeypatch.setattr("rtstyle.backends.tensorrt.open_tensorrt", open_tensorrt)
    frames = [frame_of(random_planes(SIZE, number), number) for number in range(10)]
    with open_engine(random_style, SIZE, Color(), precision="f32") as engine:
        assert engine.backend == "openvino"

        def source():
            for number, frame in enumerate(frames):
                if number == 4:
                    given.ready(engine)
                yield frame

        results = list(engine.stylize(source(), Controls(0, 0)))
        assert engine.backend == "onnxruntime"
    assert [frame.pts for frame in results] == list(range(10))
    assert all(same(a.planes, b.planes) for a, b in zip(results, frames, strict=True))


@pytest.mark.parametrize("ends", ["in time", "early"])
def test_while_a_child_process_builds_the_plan_frames_continue(sketch, ends, tmp_path, monkeypatch):
    """The build is TensorRT-RTX's own, for a GPU that is elsewhere; ONNX Runtime stands in for what runs the plan."""
    pytest.importorskip("tensorrt_rtx")
    from rtstyle.backends.builder import BuildRequest, build_in_child
    from rtstyle.backends.plans import PlanCache

    monkeypatch.setenv("RTSTYLE_CACHE", str(tmp_path))
    request = BuildRequest(sketch.name, sketch.folders, None, "f16", "i420", ("sm86", "sm89"), None)
    built: list[str] = []

    def make(stop: threading.Event) -> Engine:
        built.append(build_in_child(request, stop=stop).name)
        return opened(sketch, "onnxruntime")

    submitted, results = 0, []
    with SwappingEngine(opened(sketch, "openvino"), make) as engine:
        deadline = time.monotonic() + 30
        while engine.backend == "openvino" and time.monotonic() < deadline:
            if submitted - len(results) == engine.in_flight:
                results.append(engine.next())
            engine.submit(frame_of(random_planes(SIZE, submitted % 5), submitted), Controls(0, 0))
            submitted += 1
            if ends == "early" and submitted == 10:
                break
        results += [engine.next() for _ in range(submitted - len(results))]
    assert [frame.pts for frame in results] == list(range(submitted))
    assert all(same(frame.planes, random_planes(SIZE, frame.pts % 5)) for frame in results)
    assert submitted >= 10
    assert not engine._thread.is_alive()
    assert [path.name for path, _ in PlanCache().plans()] == built
    assert bool(built) == (engine.backend == "onnxruntime") == (ends == "in time")

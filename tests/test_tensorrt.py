"""TensorRT without a GPU: TensorRT-RTX compiles the real graphs here, for GPUs that are elsewhere.

What needs a GPU (loading a plan to its end, running it) is in test_engines.py and skipped without one.
"""

import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import cache as cached
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import make_random_style

from rtstyle import graph
from rtstyle.backends import open_engine
from rtstyle.backends.cuda import device_index, driver_problem
from rtstyle.backends.plans import Plan, PlanCache, PlanRejectedError
from rtstyle.errors import BackendUnavailableError, SettingError
from rtstyle.frame import Size
from rtstyle.style import list_styles, load_style

pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 has wheels for Linux and Windows on x86-64 only")

from rtstyle.backends import builder, compiler, tensorrt

ROOT = Path(__file__).parents[1]
SMALL = Size(64, 48)

no_gpu = pytest.mark.skipif(driver_problem() is None, reason="there is a GPU here")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> PlanCache:
    monkeypatch.setenv("RTSTYLE_CACHE", str(tmp_path))
    return PlanCache()


def request(style: str = "sketch", size: Size | None = SMALL, targets=("sm86",), layout="i420") -> builder.BuildRequest:
    loaded = load_style(style)
    return builder.BuildRequest(loaded.name, loaded.folders, size, "f16", layout, targets, None)


def rtstyle(*words: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rtstyle", *words], capture_output=True, text=True, cwd=ROOT, **options
    )


@cached
def addresses_can_stay() -> bool:
    tried = "import ctypes, sys; sys.exit(ctypes.CDLL(None).personality(0x40000) == -1)"
    return sys.platform == "linux" and subprocess.run([sys.executable, "-c", tried]).returncode == 0


def every_build(usual: list[str]) -> list[object]:
    """Every style, layout and set of targets; of each style in ``usual`` one of them, in turn, the others are slow."""
    kinds = list(itertools.product(["i420", "nv12"], [("sm75",), ("sm86", "sm89", "sm120")]))
    return [
        pytest.param(
            name, layout, targets, id="-".join((name, layout, "+".join(targets))),
            marks=() if name in usual and kinds[usual.index(name) % 4] == (layout, targets) else pytest.mark.slow,
        )
        for name, (layout, targets) in itertools.product(list_styles(), kinds)
    ]  # fmt: skip


# -- compiling ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "layout", "targets"), every_build(usual=list_styles()))
def test_every_style_compiles_in_seconds_and_again_to_the_same_bytes(name, layout, targets):
    recipe = compiler.recipe_of(load_style(name), Size(1280, 720), "f16", layout)
    begun = time.perf_counter()
    first, _ = compiler.compile_plan(recipe.graph, targets)
    assert time.perf_counter() - begun < 20
    again, _ = compiler.compile_plan(recipe.graph, targets)
    assert first == again
    weights = sum(w.size for w in load_style(name).trunk.weights.values())
    assert len(first) > 2 * weights, "a plan in float16 holds two bytes for each weight"


def test_a_blend_of_styles_compiles(tmp_path):
    first, second = (make_random_style(tmp_path / str(seed), seed=seed, gain=1) for seed in (1, 2))
    blend = load_style(f"{first}:0.6,{second}:0.4")
    plan, _ = compiler.compile_plan(compiler.recipe_of(blend, SMALL, "f16").graph, ("sm86",))
    assert len(plan) > 1000


@pytest.mark.parametrize(
    ("name", "layout", "targets"), every_build(usual=["etching", "great_wave", "sketch", "the_scream"])
)
def test_a_plan_for_changing_sizes_is_built_again_to_the_same_bytes(name, layout, targets, tmp_path, monkeypatch):
    """Also where paths and environment have other lengths: the compiler's order depends on memory addresses."""
    plans = []
    for length in (3, 130):
        monkeypatch.setenv("RTSTYLE_CACHE", str(tmp_path / ("c" * length)))
        monkeypatch.setenv("SOMETHING", "s" * length**2)
        plans.append(builder.build_in_child(request(name, None, targets, layout)).read_bytes())
    assert len(plans[0]) == len(plans[1])
    first, again = (np.frombuffer(plan, np.uint8) for plan in plans)
    # Where a container lets no process fix its addresses, the numbers of dimensions differ.
    allowed = 0 if addresses_can_stay() else len(first) // 1000
    assert np.count_nonzero(first != again) <= allowed
    weights = sum(w.size for w in load_style(name).trunk.weights.values())
    assert len(first) > 2 * weights


def test_the_networks_edges_are_uint8_and_small_float32(sketch):
    trt = compiler.library().trt
    built = trt.Builder(compiler.logger())
    network = built.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, compiler.logger())
    assert parser.parse(compiler.recipe_of(sketch, SMALL, "f16").graph)
    inputs = {network.get_input(i).name: network.get_input(i) for i in range(network.num_inputs)}
    assert {name for name, tensor in inputs.items() if tensor.dtype == trt.DataType.UINT8} == {"source", "canvas"}
    assert {name for name, tensor in inputs.items() if tensor.dtype == trt.DataType.FLOAT} == {
        "strength", "centre", "into", "back"
    }  # fmt: skip
    assert [network.get_output(i).dtype for i in range(network.num_outputs)] == [trt.DataType.UINT8]
    # Small inputs are cast at once; what the layers compute is float16, but for shapes and the bytes of the output.
    kinds = {network.get_layer(i).get_output(0).dtype for i in range(network.num_layers)}
    assert trt.DataType.HALF in kinds
    assert trt.DataType.FLOAT not in kinds


def test_a_node_that_tensorrt_does_not_know_is_named(sketch):
    model = graph.planar(sketch.trunk, SMALL)
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    relu.op_type, relu.name = "NoSuchOperator", "the_node_to_name"
    with pytest.raises(BackendUnavailableError, match=r"'the_node_to_name' \(NoSuchOperator\)") as caught:
        compiler.compile_plan(model.SerializeToString(), ("sm86",))
    assert "\n" not in str(caught.value)


def test_a_graph_that_breaks_the_rule_of_types_is_refused_in_one_line(sketch):
    model = graph.planar(sketch.trunk, SMALL)
    for weights in model.graph.initializer:
        if weights.name == "stem.conv.weight":
            weights.CopyFrom(
                onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weights).astype("f4"), weights.name)
            )
    with pytest.raises(BackendUnavailableError, match=r"refuses the graph|cannot compile") as caught:
        compiler.compile_plan(model.SerializeToString(), ("sm86",))
    assert "\n" not in str(caught.value)


def test_targets_are_read_sorted_and_refused_by_what_there_is():
    assert compiler.targets_of("sm120, SM86,sm89,sm86") == ("sm86", "sm89", "sm120")
    with pytest.raises(SettingError, match=r"does not build for sm90 \(it does for sm75, .*sm120"):
        compiler.targets_of("sm86,sm90")
    with pytest.raises(SettingError, match="at least one"):
        compiler.targets_of(",")


@pytest.mark.parametrize(("words", "number"), [(None, 0), ("cuda", 0), ("cuda:1", 1), ("2", 2)])
def test_names_of_gpus(words, number):
    assert device_index(words) == number


def test_what_is_no_name_of_a_gpu_is_refused():
    with pytest.raises(SettingError, match="no CUDA device 'CPU'"):
        device_index("CPU")


# -- plans that are no good --------------------------------------------------------------------------------


def load_for_real(plan: Plan) -> str:
    """Let TensorRT-RTX load a plan. Without a GPU it reads the whole plan before it misses the driver."""
    logger = compiler.logger()
    logger.errors.clear()
    loaded = compiler.library().trt.Runtime(logger).deserialize_cuda_engine(plan.data)
    wrong = [line for line in logger.errors if "Serialization" in line]
    if wrong:
        raise PlanRejectedError(wrong[0])
    assert loaded is not None or "CUDA driver" in logger.errors[0]
    return "loaded"


@pytest.mark.parametrize("damage", ["none", "truncated", "changed", "foreign version", "no plan", "half-written"])
def test_a_plan_that_does_not_load_is_built_again_once(cache, sketch, damage, caplog):
    recipe = compiler.recipe_of(sketch, SMALL, "f16")
    builds = []

    def build() -> None:
        builds.append(builder.build_in_child(request()))

    tensorrt.open_cached(cache, [recipe], "sm86", load_for_real, build)
    assert len(builds) == 1
    path = builds[0]
    data = path.read_bytes()
    foreign = {"foreign version": b"ftrt" + data[4:], "no plan": b"other" * 1000}
    if damage in foreign:  # written whole, by something else: only TensorRT can tell
        cache.build_once(recipe, ("sm86", "sm89"), lambda: (foreign[damage], None))
        path.unlink()
        path = next(cache.folder.glob("*sm86+sm89.plan"))
    elif damage == "truncated":
        path.write_bytes(data[:-1000])
    elif damage == "changed":
        path.write_bytes(data[:5000] + b"\0" * 100 + data[5100:])
    elif damage == "half-written":
        path.with_suffix(".json").unlink()
    with caplog.at_level("INFO", "rtstyle"):
        assert tensorrt.open_cached(cache, [recipe], "sm86", load_for_real, build) == "loaded"
    assert len(builds) == (1 if damage == "none" else 2)
    assert len([line for line in caplog.messages if "built again" in line]) == (damage != "none")
    assert builds[-1].read_bytes() == data


def test_a_plan_that_never_loads_is_given_up_after_one_rebuild(cache, sketch):
    recipe = compiler.recipe_of(sketch, SMALL, "f16")
    builds = []

    def load(plan: Plan) -> str:
        raise PlanRejectedError("its magic is wrong")

    with pytest.raises(BackendUnavailableError, match="does not load though it was just built: its magic is wrong"):
        tensorrt.open_cached(cache, [recipe], "sm86", load, lambda: builds.append(builder.build_in_child(request())))
    assert len(builds) == 1


# -- processes that build ------------------------------------------------------------------------------------


def test_three_processes_that_want_one_engine_build_it_once():
    told: list[list[str]] = [[], [], []]

    def want(number: int) -> None:
        builder.build_in_child(request(), progress=lambda phase, done: told[number].append(phase))

    threads = [threading.Thread(target=want, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(bool(each) for each in told) == [False, False, True], "only who builds tells of progress"


@pytest.mark.parametrize("after", [0.1, 0.3, 0.5, 0.6, 0.7, 0.9])
def test_a_build_that_is_killed_leaves_no_broken_plan(cache, sketch, after):
    child = subprocess.Popen(
        [sys.executable, "-m", "rtstyle.backends.build_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        cwd=ROOT,
    )
    assert child.stdin
    child.stdin.write(request().to_json().encode())
    child.stdin.close()
    time.sleep(after)
    child.send_signal(signal.SIGKILL)
    child.wait()
    recipe = compiler.recipe_of(sketch, SMALL, "f16")
    found = cache.find(recipe, "sm86")
    assert found is None or load_for_real(found) == "loaded"
    path = builder.build_in_child(request())
    assert load_for_real(Plan(path, path.read_bytes(), {})) == "loaded"
    assert not list(cache.folder.glob(".*.part"))


def test_a_build_can_be_stopped_and_leaves_nothing(cache):
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    begun = time.perf_counter()
    try:
        builder.build_in_child(request(size=Size(1280, 720)), stop=stop)
    except BackendUnavailableError as error:
        assert "stopped" in str(error)  # noqa: PT017  (a fast machine may be done before)
        assert list(cache.plans()) == []
    assert time.perf_counter() - begun < 10


def test_ctrl_c_stops_a_build_of_the_command_line(cache):
    child = subprocess.Popen(
        [sys.executable, "-m", "rtstyle", "engines", "build", "--target", "sm86,sm89", "--size", "any"],
        stderr=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 20
    while not cache.folder.is_dir() and time.monotonic() < deadline:  # until the build has begun
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=20)
    assert (child.returncode, "interrupted" in said) in {(130, True), (0, False)}
    assert "Traceback" not in said
    if child.returncode:
        assert list(cache.plans()) == []


def test_what_goes_wrong_in_the_child_is_raised_here():
    with pytest.raises(BackendUnavailableError, match="does not build for sm90"):
        builder.build_in_child(request(targets=("sm90",)))
    gone = replace(request(), folders=((Path("nowhere"), 1.0),))
    with pytest.raises(BackendUnavailableError, match=r"cannot read nowhere.*: No such file"):
        builder.build_in_child(gone)


# -- the command line ------------------------------------------------------------------------------------------


def test_engines_are_built_listed_and_cleared_by_the_command_line():
    built = rtstyle("engines", "build", "--size", "320x240", "--target", "sm75,sm86")
    assert (built.returncode, built.stdout) == (0, "")
    assert "sketch-320x240-f16 for sm75 sm86" in built.stderr
    listed = json.loads(rtstyle("engines", "list", "--json").stdout)["engines"]
    assert [engine["targets"] for engine in listed] == [["sm75", "sm86"]]
    assert "sketch-320x240-f16" in rtstyle("engines", "list").stdout
    assert json.loads(rtstyle("engines", "clear", "--json").stdout) == {"removed": 1}
    assert rtstyle("engines", "list").stdout == ""


def test_a_target_that_there_is_not_is_refused_in_one_line():
    done = rtstyle("engines", "build", "--target", "sm90")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "does not build for sm90" in done.stderr


# -- TensorRT without a driver -----------------------------------------------------------------------------------


@no_gpu
def test_without_a_driver_the_next_backend_is_taken_and_one_line_says_so(tmp_path):
    import cv2

    (tmp_path / "in").mkdir()
    for width in (64, 96, 128):  # an engine for each
        cv2.imwrite(str(tmp_path / "in" / f"{width}.png"), np.full((48, width, 3), 128, np.uint8))
    done = rtstyle("image", str(tmp_path / "in"), str(tmp_path / "out"))
    assert done.returncode == 0
    assert len(list((tmp_path / "out").iterdir())) == 3
    lines = done.stderr.splitlines()
    assert len([line for line in lines if "tensorrt" in line]) == 1
    assert "no NVIDIA driver" in lines[0]
    assert "openvino" in lines[-1]


@no_gpu
def test_without_a_driver_tensorrt_itself_is_refused_in_one_line():
    with pytest.raises(BackendUnavailableError, match=r"tensorrt.* is installed, but .*driver") as caught:
        open_engine("sketch", SMALL, backend="tensorrt")
    assert "\n" not in str(caught.value)
    done = rtstyle("engines", "build")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "--target" in done.stderr


def test_without_tensorrt_the_hint_is_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    compiler.library.cache_clear()
    try:
        with pytest.raises(BackendUnavailableError, match=r"pip install 'rtstyle\[tensorrt-rtx\]'"):
            open_engine("sketch", SMALL, backend="tensorrt")
    finally:
        compiler.library.cache_clear()

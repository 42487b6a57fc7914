"""CUDA and TensorRT from the first call to the last frame, on GPUs that tests emulate: see emulated_gpu.py."""

import inspect
import logging
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import make_clip
from test_camera import write_clip
from test_engines import random_planes

pytest.importorskip("cuda.bindings.runtime")
pytest.importorskip("tensorrt_rtx")
pytest.importorskip("onnxruntime")

import cuda.bindings
import emulated_gpu
import tensorrt_rtx as trt
from cuda.bindings import runtime as real
from emulated_gpu import CAPABILITY, NAME, EmulatedRuntime, emulated_tensorrt, plan_of

from rtstyle import (
    Color,
    Controls,
    EncoderSettings,
    EngineSettings,
    Frame,
    FrameSink,
    Size,
    open_engine,
    stylize_video,
)
from rtstyle.backends import build_process, compiler, tensorrt
from rtstyle.backends import cuda as cuda_py
from rtstyle.backends.accuracy import BOUNDS, difference
from rtstyle.backends.cuda import CudaDevice, driver_problem
from rtstyle.backends.plans import PlanCache, PlanRejectedError
from rtstyle.backends.reference import open_reference
from rtstyle.errors import BackendUnavailableError, DeviceError, SettingError
from rtstyle.render import pool, segments

pytestmark = pytest.mark.skipif(driver_problem() is None, reason="there is a real GPU here")

SIZE = Size(80, 48)
GREY = Color("bt601")
TARGET = f"sm{CAPABILITY[0]}{CAPABILITY[1]}"


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """Two GPUs, a driver and TensorRT-RTX; plans are compiled in this process, also for real, into a new cache."""
    emulated = EmulatedRuntime()
    monkeypatch.setenv("RTSTYLE_CACHE", str(tmp_path))
    monkeypatch.setattr(cuda.bindings, "runtime", emulated)
    for module in (cuda_py, tensorrt):
        monkeypatch.setattr(module, "driver_problem", lambda: None)
    library = compiler.Library(emulated_tensorrt(emulated, compiler.library().trt), rtx=True)
    monkeypatch.setattr(tensorrt, "library", lambda: library)
    emulated.builds = []
    compiled = compiler.compile_plan

    def compile_plan(model, targets, **options):
        emulated.builds.append(targets)
        compiled(model, targets, **options)
        return plan_of(model), b""

    def build_in_child(request, *, stop=None, progress=None):
        return build_process.build(request, progress or (lambda phase, done: None))

    monkeypatch.setattr(compiler, "compile_plan", compile_plan)
    monkeypatch.setattr(tensorrt, "build_in_child", build_in_child)
    yield emulated
    assert emulated.open == [0, 0, 0, 0, 0], "pinned memory, memory, streams, events, graphs"


def frames_of(size, count=7, color=GREY):
    return [Frame(random_planes(size, i), i, Fraction(1, 25), color, (3 * i, i)) for i in range(count)]


def assert_as_on_the_cpu(engine, style, frames):
    made = list(engine.stylize(frames))
    with open_reference(style, engine.size, engine.color) as reference:
        wanted = list(reference.stylize(frames))
    assert [frame.pts for frame in made] == [frame.pts for frame in frames]
    assert BOUNDS[engine.precision].holds(difference([f.planes for f in made], [f.planes for f in wanted]))


# -- CUDA --------------------------------------------------------------------------------------------


def test_a_gpu_copies_waits_measures_and_frees(gpu):
    device = CudaDevice(1)
    assert (device.name, device.capability) == (f"{NAME} 1", CAPABILITY)
    host, back = device.allocate_host(1000), device.allocate_host(1000)
    there, stream, event = device.allocate(1000), device.open_stream(), device.open_event()
    host[:] = np.arange(1000) % 251
    device.copy_in(there, host, stream)
    device.copy_out(back, there, stream)
    device.record(event, stream)
    device.wait(event)
    assert np.array_equal(host, back)
    assert device.seconds(stream, lambda: device.copy_in(there, host, stream)) > 0

    captured = device.capture(stream, lambda: device.copy_out(back, there, stream))
    back[:] = 0
    device.synchronize(stream)
    assert not back.any(), "what is captured does not run"
    for _ in range(2):
        host += 1
        device.copy_in(there, host, stream)
        device.launch(captured, stream)
        device.synchronize(stream)
        assert np.array_equal(host, back)

    device.close_graph(captured)
    device.close_event(event)
    device.close_stream(stream)
    device.free(there)
    device.free_host(host)
    device.free_host(back)


def test_what_cannot_be_captured_leaves_the_stream_as_it_was(gpu):
    device = CudaDevice()
    stream = device.open_stream()
    with pytest.raises(DeviceError, match="not permitted when stream is capturing"):
        device.capture(stream, lambda: device.allocate(100))
    device.synchronize(stream)
    device.close_stream(stream)
    assert gpu.open[4] == 1  # CUDA gives the graph of a broken capture back itself; the emulation keeps it
    gpu._graphs.clear()


def test_a_gpu_that_is_not_there_is_refused_with_those_that_are(gpu, sketch):
    with pytest.raises(SettingError, match=r"no device 'cuda:2' \(available: cuda:0 to cuda:1\)"):
        CudaDevice(2)
    with pytest.raises(SettingError, match="no device 'cuda:7'"):
        open_engine(sketch, SIZE, GREY, backend="tensorrt", device="cuda:7")


def test_a_gpu_without_memory_is_refused_in_a_line_and_leaves_nothing(gpu, random_style):
    gpu.errors["cudaMalloc"] = real.cudaError_t.cudaErrorMemoryAllocation
    with pytest.raises(BackendUnavailableError, match=r"cannot take 80x48: CUDA says: out of memory \(2\)") as caught:
        open_engine(random_style, SIZE, GREY, backend="tensorrt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("call", ["cudaMemcpyAsync", "cudaGraphLaunch", "cudaEventRecord", "cudaEventSynchronize"])
def test_an_error_in_mid_stream_is_raised_and_what_comes_after_it_is_right(call, gpu, random_style):
    frames = frames_of(SIZE)
    with open_engine(random_style, SIZE, GREY, backend="tensorrt") as engine:
        engine.submit(frames[0])
        engine.next()
        gpu.errors[call] = real.cudaError_t.cudaErrorLaunchFailure
        with pytest.raises(DeviceError, match=r"CUDA says: .*\(719\)"):
            list(engine.stylize(frames[:1]))
        gpu.errors.clear()
        assert_as_on_the_cpu(engine, random_style, frames)


# -- TensorRT ----------------------------------------------------------------------------------------


def test_the_emulation_takes_what_tensorrt_takes():
    theirs = {
        emulated_gpu.Engine: trt.ICudaEngine,
        emulated_gpu.Context: trt.IExecutionContext,
        emulated_gpu.RuntimeConfig: trt.IRuntimeConfig,
        emulated_gpu.Kernels: trt.IRuntimeCache,
    }
    for ours, their in theirs.items():
        for name, _ in inspect.getmembers(ours, inspect.isfunction):
            assert name.startswith("_") or callable(getattr(their, name)), f"{their.__name__}.{name}"
    assert hasattr(trt.IRuntimeConfig, "dynamic_shapes_kernel_specialization_strategy")


@pytest.mark.parametrize("layout", ["i420", "nv12"])
@pytest.mark.parametrize("mode", ["throughput", "latency"])
def test_a_plan_is_built_judged_kept_and_run(mode, layout, gpu, random_style):
    def opened():
        return tensorrt.open_tensorrt(random_style, SIZE, GREY, mode=mode, device="cuda:1", layout=layout)

    with opened() as engine:
        assert (engine.backend, engine.precision, engine.device) == ("tensorrt", "f16", f"{NAME} 1")
        assert engine.in_flight == (3 if mode == "throughput" else 1)
        assert_as_on_the_cpu(engine, random_style, frames_of(SIZE))
        graphs = gpu.calls.count("cudaGraphLaunch")
        assert graphs >= 7, "every frame is one launch"
    assert gpu.builds == [(TARGET,)]
    [(path, about)] = PlanCache().plans()
    assert about["accuracy"]["finite"]
    assert path.with_suffix(".jit").read_bytes() == b"kernels"

    emulated_gpu.Kernels.loaded.clear()
    with opened() as engine:
        assert_as_on_the_cpu(engine, random_style, frames_of(SIZE, 3))
    assert gpu.builds == [(TARGET,)], "built once"
    assert emulated_gpu.Kernels.loaded == [b"kernels"], "and its kernels compiled once"


def test_strength_changes_at_every_frame_and_0_is_bit_for_bit(gpu, random_style):
    frames = frames_of(SIZE, 6)
    with open_engine(random_style, SIZE, GREY, backend="tensorrt") as engine:
        assert len({id(slot) for slot in engine._slots}) == 3
        made = []
        for frame, controls in zip(frames, [Controls(0, 0), Controls(1, 1)] * 3, strict=True):
            engine.submit(frame, controls)
            made.append(engine.next())
    for index, (source, result) in enumerate(zip(frames, made, strict=True)):
        same = [np.array_equal(a, b) for a, b in zip(source.planes, result.planes, strict=True)]
        assert all(same) if index % 2 == 0 else not any(same)


def test_a_plan_for_changing_sizes_that_was_built_ahead_serves_every_size_and_is_judged_at_first_use(gpu, random_style):
    tensorrt.build_ahead(random_style, None, targets=f"sm75,{TARGET}")
    [(_, about)] = PlanCache().plans()
    assert about["accuracy"] is None
    for size in (Size(80, 64), Size(133, 77), Size(64, 200)):
        with open_engine(random_style, size, GREY, backend="tensorrt") as engine:
            assert_as_on_the_cpu(engine, random_style, frames_of(size, 4))
    assert gpu.builds == [("sm75", TARGET)]
    [(_, about)] = PlanCache().plans()
    assert about["accuracy"]["finite"]
    with open_engine(random_style, SIZE, GREY, backend="tensorrt"):
        assert gpu.builds == [("sm75", TARGET), (TARGET,)], "too small for it"


def test_a_plan_of_another_version_of_tensorrt_is_built_again_once_with_a_line(gpu, random_style, caplog):
    caplog.set_level(logging.INFO, "rtstyle")
    recipe = compiler.recipe_of(random_style, SIZE, "f16")
    cache = PlanCache()
    # Whole, as its digest says, and yet nothing that this library loads.
    foreign = cache.build_once(recipe, (TARGET,), lambda: (b"header of another version" + bytes(100), {"finite": True}))
    with pytest.raises(PlanRejectedError, match="incompatible serialization version"):
        tensorrt.PlanNetwork(foreign.data, CudaDevice(), SIZE)
    caplog.clear()
    with open_engine(random_style, SIZE, GREY, backend="tensorrt") as engine:
        assert_as_on_the_cpu(engine, random_style, frames_of(SIZE, 3))
    assert gpu.builds == [(TARGET,)]
    assert len([line for line in caplog.messages if "is built again" in line and "incompatible" in line]) == 1


def test_float16_that_is_no_frame_of_the_style_is_not_used_and_float32_is(gpu, random_style, caplog):
    caplog.set_level(logging.INFO, "rtstyle")
    compiled = compiler.compile_plan

    def spoilt(model, targets, **options):
        loaded = emulated_gpu.onnx.load_from_string(model)
        for weights in loaded.graph.initializer:
            if weights.name == "tail.bias" and weights.data_type == emulated_gpu.onnx.TensorProto.FLOAT16:
                wrong = emulated_gpu.onnx.numpy_helper.to_array(weights) + np.float16(30)
                weights.CopyFrom(emulated_gpu.onnx.numpy_helper.from_array(wrong, "tail.bias"))
        return compiled(loaded.SerializeToString(), targets, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(compiler, "compile_plan", spoilt)
        with open_engine(random_style, SIZE, GREY, backend="tensorrt") as engine:
            assert engine.precision == "f32"
            assert_as_on_the_cpu(engine, random_style, frames_of(SIZE, 3))
    assert any("f16 is not accurate enough" in line and "taking f32" in line for line in caplog.messages)
    with open_engine(random_style, SIZE, GREY, backend="tensorrt") as engine:
        assert engine.precision == "f32"
    assert len(gpu.builds) == 2, "what was refused is remembered"


def test_auto_starts_on_the_cpu_and_goes_over_to_the_gpu_between_two_frames(gpu, random_style, monkeypatch):
    frames, may_build, precisions = frames_of(SIZE, 60), threading.Event(), []
    build = tensorrt.build_in_child
    monkeypatch.setattr(
        tensorrt, "build_in_child", lambda *args, **kwargs: may_build.wait(20) and build(*args, **kwargs)
    )
    with open_engine(random_style, SIZE, GREY) as engine:
        first = engine.backend
        made = []
        for frame in frames:
            engine.submit(frame)
            made.append(engine.next())
            precisions.append(engine.precision)
            if len(made) == 5:
                may_build.set()
            if len(made) > 5 and engine.backend != "tensorrt":
                time.sleep(0.3)  # a busy machine needs seconds for the plan, and most need one of these
        assert (first, engine.backend) == ("openvino", "tensorrt")
    assert [frame.pts for frame in made] == [frame.pts for frame in frames]
    with open_reference(random_style, SIZE, GREY) as reference:
        wanted = list(reference.stylize(frames))
    for one, other, precision in zip(made, wanted, precisions, strict=True):
        assert BOUNDS[precision].holds(difference([one.planes], [other.planes]))


def test_two_gpus_run_at_once_each_from_its_own_thread(gpu, random_style):
    frames, results = frames_of(SIZE, 12), {}
    engines = [open_engine(random_style, SIZE, GREY, backend="tensorrt", device=f"cuda:{i}") for i in range(2)]
    threads = [
        threading.Thread(target=lambda i=i: results.__setitem__(i, list(engines[i].stylize(frames)))) for i in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, engine in enumerate(engines):
        assert engine.device == f"{NAME} {i}"
        engine.close()
    assert difference([f.planes for f in results[0]], [f.planes for f in results[1]]).largest == 0


def test_the_check_that_users_run_on_their_gpu_runs_to_its_end(gpu, tmp_path, monkeypatch):
    from engines import check_gpu

    (tmp_path / "demo").mkdir()
    write_clip(tmp_path / "demo" / "big_buck_bunny.mp4", list(range(0, 400, 40)))
    monkeypatch.setattr(check_gpu, "ROOT", tmp_path)
    monkeypatch.setattr(check_gpu, "SIZES", {"720p": Size(160, 96)})
    monkeypatch.setattr(check_gpu, "driver_problem", lambda: None)
    lines = list(check_gpu.lines(0.2))
    text = "\n".join(lines)

    assert f"- {NAME} 0, SM 8.6" in lines
    assert len([line for line in lines if "GB/s to the GPU" in line]) == 2
    [row] = [line for line in lines if line.startswith("| tensorrt f16 | 720p | as on the CPU: at most ")]
    assert row.count("|") == 9
    assert "- torch 720p: FAILED, SettingError: torch has no device 'cuda'" in text
    assert "- file to file, software codecs, 160x96, 10 frames: " in text
    assert "- file to file, NVDEC: not run: " in text
    assert "- file to file, NVDEC and NVENC: not run: " in text
    assert "- NVDEC: not run: " in text
    assert "WRONG" not in text


# -- several GPUs ------------------------------------------------------------------------------------


def test_two_gpus_render_segments_of_one_video_at_the_same_time(gpu, random_style, tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "segment_frames", lambda size: 4)
    monkeypatch.setattr(pool, "COMMAND", (sys.executable, str(Path(__file__).with_name("emulated_gpu_worker.py"))))
    clip = make_clip(tmp_path / "in.mp4", times=range(18), options={"g": "8"})
    settings = {"style": random_style, "encoder": EncoderSettings(preset="ultrafast")}
    one, two = (
        EngineSettings(backend="tensorrt", precision="f16", stroke_size=1, device=device)
        for device in ("cuda:1", "cuda:0,cuda:1")
    )
    stylize_video(clip, tmp_path / "one.mp4", engine=one, **settings)
    report = stylize_video(clip, tmp_path / "two.mp4", engine=two, **settings)
    assert (tmp_path / "two.mp4").read_bytes() == (tmp_path / "one.mp4").read_bytes()
    assert report.warnings == []
    assert [node["node"] for node in sorted(report.nodes, key=lambda node: node["node"])] == ["cuda:0", "cuda:1"]
    assert sum(node["frames"] for node in report.nodes) == 18
    with pytest.raises(SettingError, match="jobs, cluster and several devices are for files"):
        stylize_video(clip, OwnSink(), engine=two, style=random_style)


class OwnSink(FrameSink):
    def write(self, frame: Frame) -> None:
        raise AssertionError("nothing is written")

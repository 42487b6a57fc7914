"""The GPU through cuda-bindings, as far as a machine without one goes: names, errors, the look for a driver."""

import ast
import ctypes
import inspect
from pathlib import Path

import pytest

from rtstyle.backends import cuda
from rtstyle.backends.ring import Device
from rtstyle.errors import BackendUnavailableError, RtstyleError

PACKAGE = Path(cuda.__file__).parent

no_gpu = pytest.mark.skipif(cuda.driver_problem() is None, reason="there is a GPU here")


def attributes_of(path: Path, base: str) -> set[str]:
    """What a file takes from something that it calls ``base``, as in ``base.name``."""
    return {
        node.attr
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == base
    }


def test_every_name_that_is_used_of_cuda_bindings_is_there():
    runtime = pytest.importorskip("cuda.bindings.runtime")
    used = attributes_of(PACKAGE / "cuda.py", "self._cu") | attributes_of(PACKAGE / "cuda.py", "runtime")
    assert len(used) > 20
    assert [name for name in sorted(used) if not hasattr(runtime, name)] == []
    for kind in ("cudaMemcpyKind", "cudaStreamCaptureMode", "cudaError_t"):
        members = attributes_of(PACKAGE / "cuda.py", f"self._cu.{kind}")
        assert members
        assert all(hasattr(getattr(runtime, kind), member) for member in members)


def test_every_name_that_is_used_of_tensorrt_is_there():
    trt = pytest.importorskip("tensorrt_rtx")
    used = attributes_of(PACKAGE / "compiler.py", "trt") | attributes_of(PACKAGE / "tensorrt.py", "trt")
    assert {"Builder", "OnnxParser", "Runtime"} <= used
    assert [name for name in sorted(used) if not hasattr(trt, name)] == []
    owners = {
        "context": trt.IExecutionContext,
        "config": trt.IBuilderConfig,
        "engine": trt.ICudaEngine,
        "self._engine": trt.ICudaEngine,
        "self._config": trt.IRuntimeConfig,
        "self._kernels": trt.IRuntimeCache,
        "self._runtime": trt.Runtime,
    }
    for file in ("compiler.py", "tensorrt.py"):
        for name, owner in owners.items():
            missing = {attribute for attribute in attributes_of(PACKAGE / file, name) if not hasattr(owner, attribute)}
            # Classic TensorRT's timing cache is there too, as it is.
            assert missing == set(), f"{file}: {name}"


def test_the_gpu_has_all_that_a_ring_needs_of_a_device_with_the_same_arguments():
    for name, needed in inspect.getmembers(Device, inspect.isfunction):
        if not name.startswith("_"):
            ours = inspect.signature(getattr(cuda.CudaDevice, name))
            assert list(ours.parameters) == list(inspect.signature(needed).parameters), name


@no_gpu
def test_without_a_driver_there_is_a_reason_in_one_line():
    problem = cuda.driver_problem()
    assert problem
    assert "NVIDIA driver" in problem
    assert "\n" not in problem
    with pytest.raises(BackendUnavailableError, match="NVIDIA driver"):
        cuda.CudaDevice()


@no_gpu
def test_what_cuda_says_of_an_error_is_passed_on(monkeypatch):
    """A driver that is too old passes the first look: then it is CUDA itself that refuses, here for real."""
    pytest.importorskip("cuda.bindings.runtime")
    monkeypatch.setattr(cuda, "driver_problem", lambda: None)
    with pytest.raises(BackendUnavailableError, match=r"CUDA says: .*driver.* \(35\)") as caught:
        cuda.CudaDevice()
    assert isinstance(caught.value, RtstyleError)


class _Driver:
    def __init__(self, status: int, gpus: int) -> None:
        self.cuInit = lambda _: status
        self._gpus = gpus

    def cuDeviceGetCount(self, count) -> int:
        count._obj.value = self._gpus
        return 0


@pytest.mark.parametrize(
    ("status", "gpus", "reason"), [(0, 1, None), (0, 0, "finds no GPU"), (100, 0, "CUDA error 100")]
)
def test_a_driver_is_asked_for_gpus(monkeypatch, status, gpus, reason):
    monkeypatch.setattr(ctypes, "CDLL", lambda _: _Driver(status, gpus))
    problem = cuda.driver_problem.__wrapped__()
    assert (problem is None) if reason is None else (reason in problem)

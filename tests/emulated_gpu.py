"""NVIDIA GPUs that are not there: what rtstyle calls of cuda-bindings and TensorRT, done on the CPU, late.

Every call of CUDA goes to the real cuda-bindings first, which take its arguments apart, say how many values it
gives, and then refuse for want of a driver; only then is it done here, on ``FakeDevice``. Of TensorRT a plan's
loading and running are here, for they alone need a GPU: a plan is its ONNX graph, run by ONNX Runtime; names
and arguments are compared to the real library. So the code around a GPU runs as it stands. What a
GPU computes, how fast, and what a driver thinks of the order of calls is not tested by this.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
from cuda.bindings import runtime as real
from fake_device import FakeDevice, planar_runner

from rtstyle import graph

NAME = "Emulated GPU"
CAPABILITY = (8, 6)
_MAGIC = b"emulated plan 1 "


class EmulatedRuntime:
    """In the place of ``cuda.bindings.runtime``: as many GPUs as are asked for."""

    def __init__(self, gpus: int = 2) -> None:
        self.gpus = gpus
        self.errors: dict[str, Any] = {}
        """``cudaError_t`` by the name of a call: it fails with this from now on."""
        self.calls: list[str] = []
        self.fake = FakeDevice(slowest=0.001)
        self._of_thread = threading.local()
        self._pinned: dict[int, np.ndarray] = {}
        self._memory: dict[int, tuple[int, int]] = {}
        """Bytes and GPU by address."""
        self._streams: dict[int, int] = {}
        """GPU by stream."""
        self._timed: dict[int, bool] = {}
        self._times: dict[int, float] = {}
        self._captured: dict[int, list[tuple[str, Callable[[], None]]]] = {}
        """What the streams that are captured were given."""
        self._capturers: dict[int, int] = {}
        self._graphs: dict[int, list[tuple[str, Callable[[], None]]]] = {}
        self._next = iter(range(1000, 1 << 30))

    def __getattr__(self, name: str) -> Any:
        theirs = getattr(real, name)
        if not callable(theirs) or isinstance(theirs, type) or name == "cudaGetErrorString":
            return theirs

        def call(*args: Any) -> tuple[Any, ...]:
            refused = theirs(*args)  # raises TypeError where an argument is none that it takes
            assert refused[0] == real.cudaError_t.cudaErrorInsufficientDriver, "there is a real GPU here"
            self.calls.append(name)
            if name in self.errors:
                return self.errors[name], *refused[1:]
            values = getattr(self, f"_{name}")(*args)
            if isinstance(values, real.cudaError_t):
                return values, *refused[1:]
            assert len(values) == len(refused) - 1, f"{name} gives {len(refused) - 1} values"
            return real.cudaError_t.cudaSuccess, *values

        return call

    @property
    def current(self) -> int:
        """The calling thread's GPU."""
        return getattr(self._of_thread, "gpu", 0)

    @property
    def open(self) -> list[int]:
        """How many pieces of pinned memory, of memory, streams, events and graphs were not freed."""
        return [len(each) for each in (self._pinned, self._memory, self._streams, self._timed, self._graphs)]

    # -- devices and memory

    def _cudaGetDeviceCount(self) -> tuple[int]:
        return (self.gpus,)

    def _cudaSetDevice(self, gpu: int) -> tuple[()]:
        assert 0 <= gpu < self.gpus
        self._of_thread.gpu = gpu
        return ()

    def _cudaGetDeviceProperties(self, gpu: int) -> tuple[Any]:
        properties = real.cudaDeviceProp()
        properties.name = f"{NAME} {gpu}".encode().ljust(256, b"\0")
        properties.major, properties.minor = CAPABILITY
        return (properties,)

    def _unless_captured(self) -> Any:
        """What CUDA forbids a thread whose stream is captured (cudaStreamCaptureModeThreadLocal)."""
        captured = threading.get_ident() in self._capturers.values()
        return real.cudaError_t.cudaErrorStreamCaptureUnsupported if captured else None

    def _cudaHostAlloc(self, size: int, flags: int) -> Any:
        if problem := self._unless_captured():
            return problem
        array = self.fake.allocate_host(size)
        self._pinned[array.ctypes.data] = array
        return (array.ctypes.data,)

    def _cudaFreeHost(self, address: int) -> tuple[()]:
        self.fake.free_host(self._pinned.pop(address))
        return ()

    def _cudaMalloc(self, size: int) -> Any:
        if problem := self._unless_captured():
            return problem
        address = self.fake.allocate(size)
        self._memory[address] = size, self.current
        return (address,)

    def _cudaFree(self, address: int) -> tuple[()]:
        del self._memory[address]
        self.fake.free(address)
        return ()

    def array_at(self, address: int, size: int) -> np.ndarray:
        """Memory of the current GPU, or pinned; all of it must be in one piece that is allocated."""
        pieces = {a: (s, gpu) for a, (s, gpu) in self._memory.items()} | {
            a: (array.nbytes, self.current) for a, array in self._pinned.items()
        }
        assert any(a <= address and address + size <= a + s and gpu == self.current for a, (s, gpu) in pieces.items())
        return np.ctypeslib.as_array((np.ctypeslib.ctypes.c_uint8 * size).from_address(address))

    # -- streams, events, copies

    def _cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any]:
        assert flags == real.cudaStreamNonBlocking
        stream = self.fake.open_stream()
        self._streams[stream] = self.current
        return (real.cudaStream_t(stream),)

    def _cudaStreamDestroy(self, stream: int) -> tuple[()]:
        del self._streams[stream]
        self.fake.close_stream(stream)
        return ()

    def _cudaStreamSynchronize(self, stream: int) -> Any:
        if problem := self._unless_captured():
            return problem
        self.fake.synchronize(stream)
        return ()

    def _cudaEventCreateWithFlags(self, flags: int) -> tuple[Any]:
        event = self.fake.open_event()
        self._timed[event] = not flags & real.cudaEventDisableTiming
        return (real.cudaEvent_t(event),)

    def _cudaEventDestroy(self, event: int) -> tuple[()]:
        del self._timed[event]
        self.fake.close_event(event)
        return ()

    def _cudaEventRecord(self, event: int, stream: int) -> tuple[()]:
        assert self._streams[stream] == self.current
        self.fake.enqueue("time", stream, lambda: self._times.__setitem__(event, time.perf_counter()))
        self.fake.record(event, stream)
        return ()

    def _cudaEventSynchronize(self, event: int) -> tuple[()]:
        self.fake.wait(event)
        return ()

    def _cudaEventElapsedTime(self, first: int, second: int) -> tuple[float]:
        assert self._timed[first]
        assert self._timed[second]
        return (1000 * (self._times[second] - self._times[first]),)

    def _cudaMemcpyAsync(self, target: int, source: int, size: int, kind: Any, stream: int) -> tuple[()]:
        into = kind == real.cudaMemcpyKind.cudaMemcpyHostToDevice
        assert into or kind == real.cudaMemcpyKind.cudaMemcpyDeviceToHost
        assert any(a <= (source if into else target) < a + array.nbytes for a, array in self._pinned.items()), (
            "it is not pinned"
        )
        there, here = self.array_at(target, size), self.array_at(source, size)
        self.enqueue("in" if into else "out", stream, lambda: there.__setitem__(slice(None), here))
        return ()

    def enqueue(self, what: str, stream: int, work: Callable[[], None]) -> None:
        """Put work into a stream of the current GPU, or into the graph that is made of it."""
        assert self._streams[stream] == self.current
        if stream in self._captured:
            self._captured[stream].append((what, work))
        else:
            self.fake.enqueue(what, stream, work)

    # -- graphs

    def _cudaStreamBeginCapture(self, stream: int, mode: Any) -> tuple[()]:
        assert mode == real.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._captured[stream] = []
        self._capturers[stream] = threading.get_ident()
        return ()

    def _cudaStreamEndCapture(self, stream: int) -> tuple[Any]:
        number = next(self._next)
        self._graphs[number] = self._captured.pop(stream)
        del self._capturers[stream]
        return (real.cudaGraph_t(number),)

    def _cudaGraphInstantiate(self, captured: Any, flags: int) -> tuple[Any]:
        number = next(self._next)
        self._graphs[number] = self._graphs[int(captured)]
        return (real.cudaGraphExec_t(number),)

    def _cudaGraphDestroy(self, captured: Any) -> tuple[()]:
        del self._graphs[int(captured)]
        return ()

    _cudaGraphExecDestroy = _cudaGraphDestroy

    def _cudaGraphLaunch(self, captured: int, stream: int) -> tuple[()]:
        assert self._streams[stream] == self.current
        for what, work in self._graphs[captured]:
            self.fake.enqueue(what, stream, work)
        return ()


# -- TensorRT --------------------------------------------------------------------------------------


def plan_of(model: bytes) -> bytes:
    """What compiling a graph gives for an emulated GPU."""
    return _MAGIC + hashlib.sha256(model).digest() + model


def emulated_tensorrt(cuda: EmulatedRuntime, trt: Any) -> SimpleNamespace:
    """What ``tensorrt.py`` takes of TensorRT; ``trt`` is the real library, for what needs no GPU."""

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self._logger = logger

        def deserialize_cuda_engine(self, data: bytes) -> Engine | None:
            digest, model = data[len(_MAGIC) :][:32], data[len(_MAGIC) + 32 :]
            if data[: len(_MAGIC)] != _MAGIC or hashlib.sha256(model).digest() != digest:
                self._logger.log(trt.ILogger.Severity.ERROR, "header.magicTag: incompatible serialization version")
                return None
            return Engine(cuda, model)

    return SimpleNamespace(
        Runtime=Runtime,
        DynamicShapesKernelSpecializationStrategy=trt.DynamicShapesKernelSpecializationStrategy,
        __version__=trt.__version__,
    )


class Kernels:
    """TensorRT-RTX's cache of kernels that were compiled for this GPU."""

    loaded: list[bytes] = []  # noqa: RUF012

    def serialize(self) -> bytes:
        return b"kernels"

    def deserialize(self, data: bytes) -> None:
        self.loaded.append(data)


class RuntimeConfig:
    dynamic_shapes_kernel_specialization_strategy: Any = None

    def create_runtime_cache(self) -> Kernels:
        return Kernels()

    def set_runtime_cache(self, kernels: Kernels) -> None:
        self.kernels = kernels


class Engine:
    """A plan that is loaded."""

    def __init__(self, cuda: EmulatedRuntime, model: bytes) -> None:
        self.cuda, self.run, self.gpu = cuda, planar_runner(model), cuda.current
        inputs = onnx.load_from_string(model).graph.input
        self.shapes = {
            value.name: tuple(side.dim_value or -1 for side in value.type.tensor_type.shape.dim) for value in inputs
        }

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def create_runtime_config(self) -> RuntimeConfig:
        return RuntimeConfig()

    def create_execution_context(self, config: RuntimeConfig | None = None) -> Context:
        return Context(self)


class Context:
    """Runs a plan: its graph, in ONNX Runtime, in a stream."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._shapes = dict(engine.shapes)
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        own = self._engine.shapes[name]
        assert len(own) == len(shape)
        assert all(side in (-1, given) for side, given in zip(own, shape, strict=True))
        self._shapes[name] = shape
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert name == graph.STYLIZED or name in self._shapes
        assert address % 256 == 0
        self._addresses[name] = address
        return True

    def is_stream_capturable(self, stream: int) -> bool:
        return True

    def execute_async_v3(self, stream: int) -> bool:
        cuda, run = self._engine.cuda, self._engine.run
        assert cuda.current == self._engine.gpu
        assert set(self._addresses) == {*self._shapes, graph.STYLIZED}
        small = (graph.STRENGTH, graph.CENTRE, graph.INTO, graph.BACK)
        shapes = {**self._shapes, graph.STYLIZED: self._shapes[graph.SOURCE]}
        assert all(-1 not in shape for shape in shapes.values())
        tensors = {}
        for name, shape in shapes.items():
            kind = np.dtype(np.float32 if name in small else np.uint8)
            array = cuda.array_at(self._addresses[name], int(np.prod(shape)) * kind.itemsize)
            tensors[name] = array.view(kind).reshape(shape)
        stylized = tensors.pop(graph.STYLIZED)

        def work() -> None:
            stylized[:] = run(tensors)

        cuda.enqueue("run", stream, work)
        return True

"""An NVIDIA GPU for the ring, through cuda-bindings: no torch and no cupy is needed."""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtstyle.errors import BackendUnavailableError, DeviceError, SettingError


@cache
def driver_problem() -> str | None:
    """Return in one line why no CUDA program can run here; None if one can. Loads nothing but the driver."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
    except OSError:
        return f"no NVIDIA driver is installed ({name} is not there)"
    count = ctypes.c_int()
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status:
        return f"the NVIDIA driver finds no usable GPU (CUDA error {status})"
    return None if count.value else "the NVIDIA driver finds no GPU"


def device_index(name: str | None) -> int:
    """Read ``cuda:1``, ``cuda`` or ``1``; None is the first GPU.

    Raises:
        SettingError: It is nothing of the kind.
    """
    match = re.fullmatch(r"(?:cuda:?)?(\d*)", name or "")
    if match is None:
        raise SettingError(f"there is no CUDA device {name!r}; GPUs are called cuda:0, cuda:1, ...")
    return int(match[1] or 0)


class CudaDevice:
    """One GPU: memory, streams, copies, events, graphs. See ``ring.Device`` for the contract.

    Raises:
        BackendUnavailableError: There is no driver, or no cuda-bindings.
        SettingError: There is no GPU of that number.
    """

    def __init__(self, index: int = 0) -> None:
        problem = driver_problem()
        if problem:
            raise BackendUnavailableError(problem)
        try:
            from cuda.bindings import runtime
        except ImportError as error:
            raise BackendUnavailableError(f"cuda-bindings is missing ({error}): pip install cuda-bindings") from error
        self._cu = runtime
        try:
            count = int(self._checked(runtime.cudaGetDeviceCount()))
            if index >= count:
                raise SettingError(f"there is no device 'cuda:{index}' (available: cuda:0 to cuda:{count - 1})")
            self.index = index
            self.activate()
            properties = self._checked(runtime.cudaGetDeviceProperties(index))
        except DeviceError as error:
            raise BackendUnavailableError(str(error)) from error
        self.name: str = properties.name.decode() if isinstance(properties.name, bytes) else str(properties.name)
        self.capability: tuple[int, int] = (int(properties.major), int(properties.minor))

    def _checked(self, result: tuple[Any, ...]) -> Any:
        """Return what a call gave beside its status; raise DeviceError where that is an error."""
        status, *values = result
        if status != self._cu.cudaError_t.cudaSuccess:
            words = self._cu.cudaGetErrorString(status)[1]
            said = words.decode() if isinstance(words, bytes) else str(words)
            raise DeviceError(f"CUDA says: {said} ({int(status)})")
        return values[0] if len(values) == 1 else values

    def activate(self) -> None:
        self._checked(self._cu.cudaSetDevice(self.index))

    def allocate_host(self, size: int) -> NDArray[np.uint8]:
        address = int(self._checked(self._cu.cudaHostAlloc(size, self._cu.cudaHostAllocDefault)))
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def free_host(self, array: NDArray[np.uint8]) -> None:
        self._checked(self._cu.cudaFreeHost(array.ctypes.data))

    def allocate(self, size: int) -> int:
        return int(self._checked(self._cu.cudaMalloc(size)))

    def free(self, address: int) -> None:
        self._checked(self._cu.cudaFree(address))

    def open_stream(self) -> int:
        return int(self._checked(self._cu.cudaStreamCreateWithFlags(self._cu.cudaStreamNonBlocking)))

    def close_stream(self, stream: int) -> None:
        self._checked(self._cu.cudaStreamDestroy(stream))

    def open_event(self) -> int:
        # Who waits for it sleeps and leaves the core to others, instead of asking again and again.
        flags = self._cu.cudaEventBlockingSync | self._cu.cudaEventDisableTiming
        return int(self._checked(self._cu.cudaEventCreateWithFlags(flags)))

    def close_event(self, event: int) -> None:
        self._checked(self._cu.cudaEventDestroy(event))

    def copy_in(self, address: int, host: NDArray[np.uint8], stream: int) -> None:
        kind = self._cu.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._checked(self._cu.cudaMemcpyAsync(address, host.ctypes.data, host.nbytes, kind, stream))

    def copy_out(self, host: NDArray[np.uint8], address: int, stream: int) -> None:
        kind = self._cu.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._checked(self._cu.cudaMemcpyAsync(host.ctypes.data, address, host.nbytes, kind, stream))

    def record(self, event: int, stream: int) -> None:
        self._checked(self._cu.cudaEventRecord(event, stream))

    def wait(self, event: int) -> None:
        self._checked(self._cu.cudaEventSynchronize(event))

    def synchronize(self, stream: int) -> None:
        self._checked(self._cu.cudaStreamSynchronize(stream))

    def capture(self, stream: int, enqueue: Callable[[], None]) -> int:
        """Record what ``enqueue`` puts into a stream as a CUDA graph, without running it.

        Raises:
            DeviceError: Something in it cannot be captured; the stream is as before.
        """
        mode = self._cu.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._checked(self._cu.cudaStreamBeginCapture(stream, mode))
        try:
            enqueue()
        finally:
            ended = self._cu.cudaStreamEndCapture(stream)
        captured = self._checked(ended)
        try:
            return int(self._checked(self._cu.cudaGraphInstantiate(captured, 0)))
        finally:
            self._cu.cudaGraphDestroy(captured)

    def launch(self, graph: int, stream: int) -> None:
        """Enqueue a captured graph."""
        self._checked(self._cu.cudaGraphLaunch(graph, stream))

    def close_graph(self, graph: int) -> None:
        """Free a captured graph."""
        self._checked(self._cu.cudaGraphExecDestroy(graph))

    def seconds(self, stream: int, enqueue: Callable[[], None]) -> float:
        """Run something in a stream and return how long the GPU took for it."""
        events = [int(self._checked(self._cu.cudaEventCreateWithFlags(0))) for _ in range(2)]
        try:
            self.record(events[0], stream)
            enqueue()
            self.record(events[1], stream)
            self.wait(events[1])
            return float(self._checked(self._cu.cudaEventElapsedTime(*events))) / 1000
        finally:
            for event in events:
                self.close_event(event)

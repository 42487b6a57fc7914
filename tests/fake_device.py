"""A device with the contract of CUDA and none of its kindness: copies and networks run late and out of step.

Each stream is a thread that does what was put into it, in order, after a random wait. A copy reads its source
when it runs, not when it was enqueued: a caller that writes into a buffer too early gets a wrong frame. So what
passes here does not rely on luck; what CUDA itself does is not tested by it.
"""

from __future__ import annotations

import ctypes
import queue
import random
import threading
import time
from collections.abc import Callable, Mapping

import numpy as np
import onnxruntime as ort

from rtstyle import graph
from rtstyle.errors import DeviceError
from rtstyle.frame import Size


class FakeDevice:
    """See ``rtstyle.backends.ring.Device``.

    Args:
        slowest: Seconds that a piece of work may wait before it is done.
    """

    name = "fake"

    def __init__(self, *, slowest: float = 0.004, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self._slowest = slowest
        self._memory: dict[int, np.ndarray] = {}
        self._pinned: dict[int, np.ndarray] = {}
        self._streams: dict[int, _Stream] = {}
        self._events: dict[int, threading.Event] = {}
        self._numbers = iter(range(1, 1 << 30))
        self.log: list[tuple[str, int]] = []
        """What was done (``in``, ``run``, ``out``) and in which stream, in the order in which it was done."""
        self.fail: str | None = None
        """The name of a method that raises from now on."""

    @property
    def open(self) -> int:
        """Pieces of memory, streams and events that were not freed."""
        return len(self._memory) + len(self._pinned) + len(self._streams) + len(self._events)

    @property
    def pinned(self) -> int:
        """Pieces of pinned memory."""
        return len(self._pinned)

    def _may(self, call: str) -> None:
        if self.fail == call:
            raise DeviceError(f"the fake device fails in {call}")

    def activate(self) -> None:
        self._may("activate")

    def allocate_host(self, size: int) -> np.ndarray:
        self._may("allocate_host")
        array = np.full(size, 0xAA, np.uint8)
        self._pinned[array.ctypes.data] = array
        # As CUDA's: the array does not keep the memory alive, so that a use after free shows.
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(array.ctypes.data))

    def free_host(self, array: np.ndarray) -> None:
        self._pinned.pop(array.ctypes.data)[:] = 0x55

    def allocate(self, size: int) -> int:
        self._may("allocate")
        array = np.full(size + 256, 0xAA, np.uint8)
        address = -(-array.ctypes.data // 256) * 256
        self._memory[address] = array
        return address

    def free(self, address: int) -> None:
        self._memory.pop(address)[:] = 0x55

    def open_stream(self) -> int:
        self._may("open_stream")
        number = next(self._numbers)
        self._streams[number] = _Stream(lambda: self._random.random() * self._slowest)
        return number

    def close_stream(self, stream: int) -> None:
        self._streams.pop(stream).close()

    def open_event(self) -> int:
        self._may("open_event")
        number = next(self._numbers)
        self._events[number] = threading.Event()
        return number

    def close_event(self, event: int) -> None:
        self._events.pop(event)

    def enqueue(self, what: str, stream: int, work: Callable[[], None]) -> None:
        """Put work into a stream."""

        def logged() -> None:
            work()
            self.log.append((what, stream))

        self._streams[stream].put(logged)

    def copy_in(self, address: int, host: np.ndarray, stream: int) -> None:
        self._may("copy_in")
        self.enqueue("in", stream, lambda: _at(address, host.nbytes).__setitem__(slice(None), host))

    def copy_out(self, host: np.ndarray, address: int, stream: int) -> None:
        self._may("copy_out")
        self.enqueue("out", stream, lambda: host.__setitem__(slice(None), _at(address, host.nbytes)))

    def record(self, event: int, stream: int) -> None:
        self._may("record")
        self._events[event].clear()
        self._streams[stream].put(self._events[event].set)

    def wait(self, event: int) -> None:
        self._may("wait")
        if not self._events[event].wait(20):
            raise AssertionError("an event was waited for that was not recorded")

    def synchronize(self, stream: int) -> None:
        done = threading.Event()
        self._streams[stream].put(done.set)
        assert done.wait(20)


class _Stream:
    def __init__(self, delay: Callable[[], float]) -> None:
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.put = self._work.put
        self._delay = delay
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while work := self._work.get():
            time.sleep(self._delay())
            work()

    def close(self) -> None:
        self._work.put(None)
        self._thread.join()


def _at(address: int, size: int) -> np.ndarray:
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))


class PlanarOnCpu:
    """A planar graph in ONNX Runtime, run in the streams of a fake device: see ``rtstyle.backends.ring.Network``."""

    def __init__(
        self,
        device: FakeDevice,
        model: bytes,
        size: Size,
        channels: int = graph.CANVAS_CHANNELS,
        layout: graph.Layout = "i420",
    ) -> None:
        self._device, self.layout = device, layout
        self._run = planar_runner(model)
        self._shapes = graph.planar_shapes(size, channels)
        self.closed = False

    def prepare(self, addresses: Mapping[str, int], stream: int) -> Callable[[], None]:
        assert all(address % 256 == 0 for address in addresses.values())
        shapes = {**self._shapes, graph.STYLIZED: self._shapes[graph.SOURCE]}
        tensors = {name: _at(addresses[name], int(np.prod(shape))).reshape(shape) for name, shape in shapes.items()}
        for name, shape in ((graph.STRENGTH, 24), (graph.CENTRE, 24), (graph.INTO, (24, 24)), (graph.BACK, (24, 24))):
            tensors[name] = _at(addresses[name], 4 * int(np.prod(shape))).view(np.float32).reshape(shape)
        stylized = tensors.pop(graph.STYLIZED)

        def work() -> None:
            stylized[:] = self._run(tensors)

        return lambda: self._device.enqueue("run", stream, work)

    def close(self) -> None:
        self.closed = True


def planar_runner(model: bytes) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """Load a planar graph in ONNX Runtime and return what runs it."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda feeds: session.run([graph.STYLIZED], feeds)[0]

"""The ring: frames in pinned memory, copied, computed and copied back while others are on their way.

Each slot of the ring has its own stream, so that one slot's copies run while another one's network does.
What a frame passes through, and who owns it:

    the caller's planes -> slot's pinned input -> GPU -> pinned output -> the planes of next()

``submit`` copies the planes, once, and the caller may reuse them. The planes of ``next`` are views of a
pinned output of which a view was returned: when the last view of it is gone (an encoder that reads them holds one), and
not before, the ring writes into it again.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from threading import RLock
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rtstyle import graph
from rtstyle.backends.engine import BackendName, Controls, Engine, check_frame
from rtstyle.canvas.layer import CanvasLayer, NoiseLayer
from rtstyle.errors import DeviceError
from rtstyle.frame import Color, Frame, Plane, Planes, Size

SLOTS = 3
"""Slots of a ring for files: one copies in, one computes, one copies out."""

_LENT = 256 << 20
"""Bytes of pinned outputs that callers may hold; a caller that keeps more gets ordinary copies."""

_ALIGNMENT = 256
"""Bytes that addresses of tensors are multiples of, as TensorRT wants it."""

HostBytes = NDArray[np.uint8]


class Device(Protocol):
    """What the ring needs of a GPU. ``copy_*`` and ``record`` only enqueue: a stream does its work in order,
    at some later time, and streams do theirs in any order. Every call may raise DeviceError.
    """

    name: str
    """Text to show, e.g. ``NVIDIA GeForce RTX 4090``."""

    def activate(self) -> None:
        """Make this GPU the calling thread's own: calls other than frees act on that one."""

    def allocate_host(self, size: int) -> HostBytes:
        """Allocate pinned memory, which copies run from and to while the CPU continues."""

    def free_host(self, array: HostBytes) -> None:
        """Give pinned memory back; it must not be read any more."""

    def allocate(self, size: int) -> int:
        """Allocate memory on the GPU and return its address, aligned to 256 bytes."""

    def free(self, address: int) -> None:
        """Give memory on the GPU back."""

    def open_stream(self) -> int:
        """Make a stream that does not wait for the default stream."""

    def close_stream(self, stream: int) -> None:
        """Free a stream."""

    def open_event(self) -> int:
        """Make an event."""

    def close_event(self, event: int) -> None:
        """Free an event."""

    def copy_in(self, address: int, host: HostBytes, stream: int) -> None:
        """Enqueue a copy from pinned memory to the GPU."""

    def copy_out(self, host: HostBytes, address: int, stream: int) -> None:
        """Enqueue a copy from the GPU to pinned memory."""

    def record(self, event: int, stream: int) -> None:
        """Let an event happen when everything that is in the stream now is done."""

    def wait(self, event: int) -> None:
        """Sleep until an event has happened; other Python threads run meanwhile."""

    def synchronize(self, stream: int) -> None:
        """Sleep until a stream is empty."""


class Network(Protocol):
    """A planar graph (see ``graph.planar``) that is loaded on a device."""

    layout: graph.Layout
    """How the planes of a frame lie in its input and output."""

    def prepare(self, addresses: Mapping[str, int], stream: int) -> Callable[[], None]:
        """Get ready for one slot.

        Args:
            addresses: Where on the device each input and the output lies, by name; they stay.

        Returns:
            What enqueues one run of the network in the stream; it runs beside those of other slots.
        """

    def close(self) -> None:
        """Free the network; nothing of it is in any stream any more."""


class OutputBuffers:
    """Pinned buffers of one size that are passed out as views and come back by themselves.

    There are as many as are in use at once; those that come back are used again.
    """

    def __init__(self, device: Device, size: int) -> None:
        self._device, self._size = device, size
        self._limit = max(2, _LENT // size)
        self._lock = RLock()  # a buffer may come back while the garbage is collected, on any thread
        self._free: list[HostBytes] = []
        self._closed = False
        self.in_use = 0
        """Buffers that are in use."""

    @property
    def exhausted(self) -> bool:
        """True when callers hold as much pinned memory as they should."""
        return self.in_use > self._limit

    def take(self) -> HostBytes:
        """Return a buffer; it comes back when neither this array nor a view of it is referred to."""
        with self._lock:
            buffer = self._free.pop() if self._free else self._device.allocate_host(self._size)
            self.in_use += 1
        loan = _Loan(buffer)
        weakref.finalize(loan, self._take_back, buffer).atexit = False
        return np.asarray(loan)

    def _take_back(self, buffer: HostBytes) -> None:
        with self._lock:
            self.in_use -= 1
            if not self._closed:
                self._free.append(buffer)
                return
        with suppress(DeviceError):
            self._device.free_host(buffer)

    def close(self) -> None:
        """Free all buffers; those in use are freed when they come back."""
        with self._lock:
            self._closed = True
            free, self._free = self._free, []
        for buffer in free:
            with suppress(DeviceError):
                self._device.free_host(buffer)


class _Loan:
    """Stands between a buffer and the arrays that view it: it dies with the last of them."""

    def __init__(self, buffer: HostBytes) -> None:
        self.__array_interface__ = buffer.__array_interface__


@dataclass
class _Slot:
    """What one frame needs on its way; ``host`` and ``device`` are of the inputs and the output, by name."""

    stream: int
    done: int
    """Event: the output has arrived."""
    resources: ExitStack
    """Frees stream, event and memory."""
    host: dict[str, HostBytes]
    device: dict[str, int]
    run: Callable[[], None]
    laid: object = None
    """Key of the canvas that lies on the device."""
    controls: Controls | None = None


def _tensor_sizes(shapes: Mapping[str, tuple[int, int, int, int]]) -> dict[str, int]:
    """Bytes of each input of a planar graph, and of its output."""
    sizes = {name: int(np.prod(shape)) for name, shape in shapes.items()}
    small = {graph.STRENGTH: 24, graph.CENTRE: 24, graph.INTO: 24 * 24, graph.BACK: 24 * 24}
    sizes |= {name: 4 * count for name, count in small.items()}
    return {**sizes, graph.STYLIZED: sizes[graph.SOURCE]}


def _offsets(sizes: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """Lay tensors one behind another: offset of each in bytes, and bytes in all."""
    offsets, end = {}, 0
    for name, size in sizes.items():
        offsets[name] = end
        end += -(-size // _ALIGNMENT) * _ALIGNMENT
    return offsets, end


class RingEngine(Engine):
    """A planar graph on a device, as ``rtstyle.backends.Engine``.

    Args:
        network: Is closed with the engine.
        layer: Writes the network's canvas; None: it is of noise.
        slots: Frames that may be in flight; 1 for live use.
    """

    def __init__(
        self,
        *,
        backend: BackendName,
        precision: str,
        device: Device,
        network: Network,
        size: Size,
        color: Color,
        layer: CanvasLayer | None = None,
        slots: int = SLOTS,
    ) -> None:
        self.backend, self.precision, self.device = backend, precision, device.name
        self.size, self.color, self.in_flight = size, color, slots
        self._device, self._network, self._layout = device, network, network.layout
        self._layer = layer or NoiseLayer(*graph.planar_shapes(size)[graph.CANVAS][1:3])
        self._shapes = graph.planar_shapes(size, self._layer.channels)
        self._sizes = _tensor_sizes(self._shapes)
        self._slots: list[_Slot] = []
        self._free: deque[_Slot] = deque()
        self._inside: deque[tuple[_Slot, HostBytes, Frame]] = deque()
        self._outputs = OutputBuffers(device, self._sizes[graph.STYLIZED])
        try:
            device.activate()
            for _ in range(slots):
                self._slots.append(self._open_slot())
        except BaseException:
            self.close()
            raise
        self._free.extend(self._slots)

    def _open_slot(self) -> _Slot:
        device = self._device
        offsets, total = _offsets(self._sizes)
        with ExitStack() as resources:
            pinned = device.allocate_host(total)
            resources.callback(_freely, device.free_host, pinned)
            arena = device.allocate(total)
            resources.callback(_freely, device.free, arena)
            stream = device.open_stream()
            resources.callback(_freely, device.close_stream, stream)
            done = device.open_event()
            resources.callback(_freely, device.close_event, done)
            addresses = {name: arena + offset for name, offset in offsets.items()}
            host = {name: pinned[offset : offset + self._sizes[name]] for name, offset in offsets.items()}
            pinned[:] = 0
            for name, values in graph.color_inputs(self.color).items():
                host[name].view(np.float32)[:] = values.ravel()
            for name in host:
                if name != graph.STYLIZED:
                    device.copy_in(addresses[name], host[name], stream)
            device.synchronize(stream)
            run = self._network.prepare(addresses, stream)
            return _Slot(stream, done, resources.pop_all(), host, addresses, run)
        raise AssertionError  # no callback swallows an exception

    def submit(self, frame: Frame, controls: Controls = Controls()) -> None:
        check_frame(self, frame, len(self._inside))
        device, slot = self._device, self._free[0]
        device.activate()
        out = self._outputs.take()
        try:
            self._fill(slot, frame, controls)
            slot.run()
            device.copy_out(out, slot.device[graph.STYLIZED], slot.stream)
            device.record(slot.done, slot.stream)
        except DeviceError:
            self._settle(slot)
            raise
        self._inside.append((self._free.popleft(), out, frame))

    def _fill(self, slot: _Slot, frame: Frame, controls: Controls) -> None:
        """Write a frame into a slot that is free, and enqueue the copies of what is new in it."""
        packed = slot.host[graph.SOURCE].reshape(self._shapes[graph.SOURCE])
        for source, target in zip(frame.planes, graph.planes_in(packed, self._layout), strict=True):
            _write_plane(source, target)
        changed = [graph.SOURCE]
        key = self._layer.key(frame)
        if key is None or slot.laid != key:
            self._layer.lay(frame, slot.host[graph.CANVAS].reshape(self._shapes[graph.CANVAS][1:]))
            changed.append(graph.CANVAS)
        if slot.controls != controls:
            slot.host[graph.STRENGTH].view(np.float32)[:] = graph.strength_of(controls.luma, controls.chroma)
            changed.append(graph.STRENGTH)
        for name in changed:
            self._device.copy_in(slot.device[name], slot.host[name], slot.stream)
        slot.laid, slot.controls = key, controls

    def next(self) -> Frame:
        if not self._inside:
            raise ValueError("no frame is in flight: call submit() first")
        self._device.activate()
        slot, out, frame = self._inside.popleft()
        try:
            self._device.wait(slot.done)
        except DeviceError:
            self._settle(slot)
            raise
        finally:
            self._free.append(slot)
        if self._outputs.exhausted:
            out = out.copy()
        out = out.view()
        out.flags.writeable = False  # it is not written to while it is in use, so an encoder may keep it (VideoEncoder)
        return frame.with_planes(self._cropped(graph.planes_in(out.reshape(self._shapes[graph.SOURCE]), self._layout)))

    def _settle(self, slot: _Slot) -> None:
        """After an error: nothing may still be read or written that is used again."""
        slot.laid, slot.controls = None, None
        with suppress(DeviceError):
            self._device.synchronize(slot.stream)

    def _cropped(self, planes: Planes) -> Planes:
        sides = (self.size, self.size.chroma, self.size.chroma)
        return Planes(*(plane[: side.height, : side.width] for plane, side in zip(planes, sides, strict=True)))

    def close(self) -> None:
        device = self._device
        with suppress(DeviceError):
            device.activate()
        for slot in self._slots:
            with suppress(DeviceError):
                device.synchronize(slot.stream)
        self._inside.clear()
        self._free.clear()
        self._network.close()
        for slot in self._slots:
            slot.run = _closed  # what it was may hold on to memory of the network
            slot.resources.close()
        self._slots.clear()
        self._outputs.close()


def _closed() -> None:
    raise AssertionError("this engine is closed")


def _freely(free: Callable[[Any], None], what: object) -> None:
    """Free something; after an error that the GPU does not come back from, the driver has done so."""
    with suppress(DeviceError):
        free(what)


def _write_plane(source: Plane, target: Plane) -> None:
    """Copy a plane into a larger one and repeat its last column and row over the rest."""
    height, width = source.shape
    target[:height, :width] = source
    target[:height, width:] = source[:, -1:]
    target[height:] = target[height - 1]

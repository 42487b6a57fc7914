"""A virtual camera: other programs see the stylized frame as a camera of this machine.

Linux has them by the kernel module v4l2loopback, written through PyAV. Windows and macOS have that of OBS, written
through pyvirtualcam, which is GPL and so installed only by those who ask for it.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import OutputContainer
from numpy.typing import NDArray

from rtstyle.camera import v4l2
from rtstyle.errors import VideoWriteError, reason_of
from rtstyle.frame import Color, Frame, Size
from rtstyle.live.sinks.readers import DeviceReaders
from rtstyle.live.sinks.sink import Sink
from rtstyle.live.sinks.stream import even
from rtstyle.video.opening import AV_ERRORS
from rtstyle.video.pixels import level_table, rows_of

FASTEST = Fraction(60)

_HOW_LINUX = (
    "make one: sudo apt install v4l2loopback-dkms, then sudo modprobe v4l2loopback exclusive_caps=1 card_label=rtstyle"
)


def steady_rate(asked: Fraction | None, source: Fraction | None) -> Fraction:
    """Return the frames per second of a virtual camera: as asked, else the source's, else 30; 60 at most."""
    return min(max(asked or source or Fraction(30), Fraction(1)), FASTEST)


def find_virtual_cameras(device: str) -> list[str]:
    """Return the devices to write to; the first that can be opened is to be used.

    Args:
        device: ``/dev/video10``; elsewhere than on Linux the name that pyvirtualcam knows it by; empty: all there are.

    Raises:
        VideoWriteError: There is none, or pyvirtualcam is not installed; says how to get it.
    """
    if sys.platform != "linux":
        _import_pyvirtualcam()
        return [device]
    found = v4l2.outputs()
    if not device and found:
        return [node.path for node in found]
    if not device:
        raise VideoWriteError(f"there is no virtual camera on this machine; {_HOW_LINUX}")
    device = f"/dev/video{device}" if device.isdecimal() else device
    if not Path(device).exists():
        there = ", ".join(f"{node.path} ({node.name})" for node in found)
        raise VideoWriteError(f"there is no {device}; " + (f"virtual cameras found: {there}" if found else _HOW_LINUX))
    return [device]


def open_virtual_camera(
    devices: Sequence[str],
    *,
    size: Size,
    color: Color,
    rate: Fraction,
    on_demand: bool = False,
    open_device: Callable[..., Sink] | None = None,
) -> tuple[str, Sink]:
    """Open the first of what ``find_virtual_cameras`` found that no other program writes to.

    Args:
        devices: At least one.
        on_demand: Whether the sink tells if another program reads it; Linux only.
        open_device: Opens one of them; None: as this platform does.

    Returns:
        The device and the sink, for frames of this size and color.

    Raises:
        VideoWriteError: None of them can be opened; says why the first one cannot.
    """
    size = Size(size.width // 2 * 2, size.height // 2 * 2)
    opener = open_device or (LoopbackCamera if sys.platform == "linux" else PyVirtualCam)
    errors: list[VideoWriteError] = []
    for device in devices:
        try:
            camera = opener(device, size=size, color=color, rate=rate)
        except VideoWriteError as error:
            errors.append(error)
            continue
        return device, DemandedCamera(camera, device) if on_demand else camera
    raise errors[0]


class LoopbackCamera:
    """A v4l2loopback device: YUYV, limited range; a ``Sink``.

    The device has no tags of color: the matrix stays the source's, which for cameras is what programs expect of one.

    Raises:
        VideoWriteError: It is not there, is none that can be written to, or another program writes to it.
    """

    def __init__(self, device: str, *, size: Size, color: Color, rate: Fraction) -> None:
        self.device = device
        self._fill = YuyvFiller(color)
        self._size = size
        self._count = 0
        self._container: OutputContainer
        try:
            self._container = av.open(device, "w", format="v4l2")
        except AV_ERRORS as error:
            raise self._unusable(error) from error
        try:
            stream: Any = self._container.add_stream("rawvideo", rate=rate)
            stream.width, stream.height, stream.pix_fmt = size.width, size.height, "yuyv422"
            stream.codec_context.time_base = 1 / rate
            self._container.start_encoding()
        except AV_ERRORS as error:
            with suppress(*AV_ERRORS):
                self._container.close()
            raise self._unusable(error) from error
        self._stream = stream

    def _unusable(self, error: Exception) -> VideoWriteError:
        code = getattr(error, "errno", None)
        if code == errno.EBUSY:
            return VideoWriteError(f"{self.device} is written to by another program; close that one, or name another")
        if code == errno.EACCES:
            return VideoWriteError(f"no permission to write {self.device}; add yourself to the group 'video'")
        return VideoWriteError(
            f"{self.device} is no virtual camera that can be written to ({reason_of(error)}); {_HOW_LINUX}"
        )

    def write(self, frame: Frame) -> None:
        """Show a frame to the programs that read the camera.

        Raises:
            VideoWriteError: The device has gone.
        """
        av_frame = av.VideoFrame(self._size.width, self._size.height, "yuyv422")
        self._fill(even(frame), rows_of(av_frame.planes[0])[:, : 2 * self._size.width])
        av_frame.pts = self._count
        self._count += 1
        try:
            self._container.mux(self._stream.encode(av_frame))
        except AV_ERRORS as error:
            raise VideoWriteError(f"cannot write to {self.device} any more: {reason_of(error)}") from error

    def close(self) -> None:
        """Give the device back."""
        with suppress(*AV_ERRORS):
            self._container.close()


class DemandedCamera:
    """A virtual camera whose frames need not be made while no other program has its device open; a ``WatchedSink``.

    Args:
        camera: The open camera, closed by ``close``.

    Raises:
        VideoWriteError: The system cannot tell.
    """

    def __init__(self, camera: Sink, device: str) -> None:
        self._camera = camera
        try:
            self._readers = DeviceReaders(device)
        except VideoWriteError:
            camera.close()
            raise

    @property
    def watched(self) -> bool:
        """Whether another program has the device open."""
        return self._readers.present

    def write(self, frame: Frame) -> None:
        """Show a frame to the programs that read the camera.

        Raises:
            VideoWriteError: The device has gone.
        """
        self._camera.write(frame)

    def close(self) -> None:
        """Give the device back."""
        self._readers.close()
        self._camera.close()


class YuyvFiller:
    """Turns planes of 4:2:0 into lines of YUYV in limited range, as cameras give them."""

    def __init__(self, color: Color) -> None:
        self._tables = None
        if color.full_range:
            self._tables = tuple(
                level_table(luma=luma, from_full=True, to_full=False, bits=8) for luma in (True, False)
            )

    def __call__(self, frame: Frame, out: NDArray[np.uint8]) -> None:
        """Write a frame of even size into ``out``: shape (height, 2 * width), uint8."""
        y, u, v = frame.planes
        if self._tables:
            luma, chroma = self._tables
            y, u, v = luma[y], chroma[u], chroma[v]
        out[:, 0::2] = y
        for first in (0, 1):  # each line of chroma serves two lines
            out[first::2, 1::4] = u
            out[first::2, 3::4] = v


def _import_pyvirtualcam() -> Any:
    try:
        import pyvirtualcam
    except ImportError as error:
        raise VideoWriteError(
            "a virtual camera needs pyvirtualcam and OBS here: pip install 'rtstyle[virtualcam]', install OBS"
        ) from error
    return pyvirtualcam


class PyVirtualCam:
    """The virtual camera of OBS (or Unity Capture), through pyvirtualcam; a ``Sink``.

    Raises:
        VideoWriteError: pyvirtualcam or the camera's driver is not installed, or another program uses it.
    """

    def __init__(self, device: str, *, size: Size, color: Color, rate: Fraction) -> None:
        library = _import_pyvirtualcam()
        self._size = size
        self._tables: tuple[NDArray[Any], ...] | None = None
        if color.full_range:
            self._tables = tuple(
                level_table(luma=luma, from_full=True, to_full=False, bits=8) for luma in (True, False, False)
            )
        try:
            self._camera = library.Camera(
                width=size.width,
                height=size.height,
                fps=float(rate),
                fmt=library.PixelFormat.I420,
                device=device or None,
            )
        except (RuntimeError, OSError, ValueError) as error:
            words = " ".join(str(error).split())
            raise VideoWriteError(
                f"no virtual camera can be opened: {words}; start OBS's once, then close it"
            ) from error

    def write(self, frame: Frame) -> None:
        """Show a frame to the programs that read the camera."""
        planes: tuple[NDArray[Any], ...] = even(frame).planes
        if self._tables:
            planes = tuple(table[plane] for table, plane in zip(self._tables, planes, strict=True))
        self._camera.send(np.concatenate([plane.ravel() for plane in planes]))

    def close(self) -> None:
        """Give the camera back."""
        self._camera.close()

"""What Linux says of its video devices: what they can do, in which formats, sizes and rates.

The kernel is asked by ioctl, because FFmpeg prints its lists to a log only. Layouts and numbers are those of
linux/videodev2.h; the documentation is "Linux Media Infrastructure userspace API", part V4L2, functions
VIDIOC_QUERYCAP, VIDIOC_ENUM_FMT, VIDIOC_ENUM_FRAMESIZES and VIDIOC_ENUM_FRAMEINTERVALS.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from rtstyle.errors import reason_of
from rtstyle.frame import Size

Ask = Callable[[int, bytes], bytes | None]
"""Takes the number of an ioctl and its structure, gives the structure filled in; None where the device has none."""

_CAPTURE = 0x00000001
_OUTPUT = 0x00000002
_DEVICE_CAPS = 0x80000000
_DISCRETE = 1


def ioctl_number(direction: int, index: int, size: int) -> int:
    """Return the number of an ioctl, as _IOR (2) and _IOWR (3) make it (asm-generic/ioctl.h)."""
    return direction << 30 | size << 16 | ord("V") << 8 | index


_CAPABILITY = struct.Struct("16s32s32sIII12x")
_FORMAT = struct.Struct("III32sI16x")
_SIZE = struct.Struct("III6I8x")
_INTERVAL = struct.Struct("IIIII6I8x")

QUERYCAP = ioctl_number(2, 0, _CAPABILITY.size)
ENUM_FMT = ioctl_number(3, 2, _FORMAT.size)
ENUM_FRAMESIZES = ioctl_number(3, 74, _SIZE.size)
ENUM_FRAMEINTERVALS = ioctl_number(3, 75, _INTERVAL.size)


@dataclass(frozen=True)
class CameraMode:
    """One format and size that a camera gives."""

    format: str
    """Its four letters, e.g. MJPG, YUYV or NV12."""
    size: Size
    fps: tuple[Fraction, ...]
    """Frames per second, fastest first; of a range, its ends. Empty where the driver does not report them."""
    largest: Size | None = None
    """Where every size is to be had from ``size`` on: up to this one."""


@dataclass(frozen=True)
class Node:
    """A video device of Linux."""

    path: str
    name: str
    modes: tuple[CameraMode, ...] = ()
    problem: str = ""
    """Why it could not be asked."""


def cameras() -> list[Node]:
    """Return the devices that give frames, in the order of their numbers."""
    return list(_nodes(_CAPTURE))


def outputs() -> list[Node]:
    """Return the devices that take frames: virtual cameras (v4l2loopback)."""
    return [node for node in _nodes(_OUTPUT) if not node.problem]


def _nodes(wanted: int) -> Iterator[Node]:
    def number(path: Path) -> int:
        return int(path.name.removeprefix("video"))

    for path in sorted(Path("/dev").glob("video[0-9]*"), key=number):
        try:
            device = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        except PermissionError:
            yield Node(str(path), _kernel_name(path), problem="no permission: add yourself to the group 'video'")
            continue
        except OSError as error:
            yield Node(str(path), _kernel_name(path), problem=f"cannot be opened: {reason_of(error)}")
            continue
        try:
            able, name = capabilities(asker(device))
            # A loopback device that a program writes to becomes a camera; until then it only takes.
            if able & wanted:
                yield Node(str(path), name, tuple(modes(asker(device))) if wanted == _CAPTURE else ())
        finally:
            os.close(device)


def _kernel_name(path: Path) -> str:
    try:
        return Path("/sys/class/video4linux", path.name, "name").read_text().strip()
    except OSError:
        return ""


def asker(device: int) -> Ask:
    """Return what asks an open device."""
    import fcntl

    def ask(number: int, structure: bytes) -> bytes | None:
        try:
            return fcntl.ioctl(device, number, structure)
        except OSError:  # EINVAL ends every list; ENOTTY: the driver does not know
            return None

    return ask


def capabilities(ask: Ask) -> tuple[int, str]:
    """Return what a device can do, as flags, and its name; (0, "") where it is no V4L2 device."""
    answer = ask(QUERYCAP, bytes(_CAPABILITY.size))
    if answer is None:
        return 0, ""
    _, card, _, _, all_nodes, this_node = _CAPABILITY.unpack(answer)
    return this_node if all_nodes & _DEVICE_CAPS else all_nodes, text_of(card)


def modes(ask: Ask) -> Iterator[CameraMode]:
    """Yield what a camera gives, format by format, in the driver's own order."""
    for index in range(64):
        answer = ask(ENUM_FMT, _FORMAT.pack(index, _CAPTURE, 0, b"", 0))
        if answer is None:
            return
        pixel_format: int = _FORMAT.unpack(answer)[4]
        letters = text_of(struct.pack("<I", pixel_format & 0x7FFFFFFF))  # the top bit: big endian
        for smallest, largest in _sizes(ask, pixel_format):
            yield CameraMode(
                letters, smallest, tuple(sorted(_frame_rates(ask, pixel_format, smallest), reverse=True)), largest
            )


def _sizes(ask: Ask, pixel_format: int) -> Iterator[tuple[Size, Size | None]]:
    for index in range(256):
        answer = ask(ENUM_FRAMESIZES, _SIZE.pack(index, pixel_format, 0, *(0,) * 6))
        if answer is None:
            return
        _, _, kind, *numbers = _SIZE.unpack(answer)
        if kind != _DISCRETE:
            yield Size(numbers[0], numbers[3]), Size(numbers[1], numbers[4])
            return
        yield Size(numbers[0], numbers[1]), None


def _frame_rates(ask: Ask, pixel_format: int, size: Size) -> Iterator[Fraction]:
    """Frames per second: one by the interval between two frames."""
    for index in range(256):
        asked = _INTERVAL.pack(index, pixel_format, size.width, size.height, 0, *(0,) * 6)
        answer = ask(ENUM_FRAMEINTERVALS, asked)
        if answer is None:
            return
        kind, *numbers = _INTERVAL.unpack(answer)[4:]
        ends = [numbers[:2]] if kind == _DISCRETE else [numbers[:2], numbers[2:4]]
        yield from (Fraction(below, above) for above, below in ends if above and below)
        if kind != _DISCRETE:
            return


def text_of(letters: bytes) -> str:
    """Return a text of C's."""
    return letters.split(b"\0")[0].decode("utf-8", "replace").strip()

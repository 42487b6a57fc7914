"""Exposure, gain, power line filter and the like of a camera, by name; Linux only.

Names are those of v4l2-ctl: the driver's own in lower case, with underscores. Structures and numbers are those of
linux/videodev2.h, functions VIDIOC_QUERYCTRL, VIDIOC_QUERYMENU, VIDIOC_G_CTRL and VIDIOC_S_CTRL.
"""

from __future__ import annotations

import os
import re
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rtstyle.camera.v4l2 import Ask, asker, ioctl_number, text_of
from rtstyle.errors import CameraError, SettingError, reason_of

_QUERY = struct.Struct("II32siiiiI8x")
_MENU = struct.Struct("=II32sI")
_VALUE = struct.Struct("Ii")

QUERYCTRL = ioctl_number(3, 36, _QUERY.size)
QUERYMENU = ioctl_number(3, 37, _MENU.size)
G_CTRL = ioctl_number(3, 27, _VALUE.size)
S_CTRL = ioctl_number(3, 28, _VALUE.size)

_NEXT, _DISABLED = 0x80000000, 0x0001
_INTEGER, _BOOLEAN, _MENU_KIND = 1, 2, 3
_MOST = 200
"""Controls that are asked for at most."""


@dataclass(frozen=True)
class CameraControl:
    """One control of a camera."""

    id: int
    name: str
    minimum: int
    maximum: int
    default: int
    value: int
    menu: tuple[tuple[int, str], ...] = ()
    """Values and what they mean, where it is a choice."""

    def __str__(self) -> str:
        if self.menu:
            return f"{self.name} {'|'.join(words for _, words in self.menu)} ({dict(self.menu).get(self.value, '?')})"
        return f"{self.name} {self.minimum} to {self.maximum} ({self.value})"

    def read(self, text: str) -> int:
        """Return the value that a text asks for: a number, or a word of the menu.

        Raises:
            SettingError: It is none for this control.
        """
        for value, words in self.menu:
            if _identifier(words) == _identifier(text):
                return value
        allowed = [value for value, _ in self.menu]
        number = int(text) if re.fullmatch(r"-?[0-9]{1,10}", text) else None
        if number is not None and self.minimum <= number <= self.maximum and (not allowed or number in allowed):
            return number
        words = ", ".join(words for _, words in self.menu) or f"{self.minimum} to {self.maximum}"
        raise SettingError(f"the camera's {self.name} is {words}; got {text!r}")


def controls(ask: Ask) -> Iterator[CameraControl]:
    """Yield the controls of a camera that are numbers, switches or choices."""
    last = 0
    for _ in range(_MOST):
        answer = ask(QUERYCTRL, _QUERY.pack(last | _NEXT, 0, b"", 0, 0, 0, 0, 0))
        if answer is None:
            return
        last, kind, name, minimum, maximum, _, default, flags = _QUERY.unpack(answer)
        value = ask(G_CTRL, _VALUE.pack(last, 0))
        if kind not in (_INTEGER, _BOOLEAN, _MENU_KIND) or flags & _DISABLED or value is None:
            continue
        menu = tuple(_menu(ask, last, minimum, maximum)) if kind == _MENU_KIND else ()
        yield CameraControl(last, _identifier(text_of(name)), minimum, maximum, default, _VALUE.unpack(value)[1], menu)


def _menu(ask: Ask, control: int, minimum: int, maximum: int) -> Iterator[tuple[int, str]]:
    for index in range(max(minimum, 0), min(maximum, 63) + 1):
        answer = ask(QUERYMENU, _MENU.pack(control, index, b"", 0))
        if answer is not None:
            yield index, text_of(_MENU.unpack(answer)[2])


def _identifier(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def set_controls(ask: Ask, requests: Sequence[tuple[str, str]], camera: str) -> None:
    """Set controls in order: automatic exposure, say, before the exposure itself.

    Args:
        requests: Names and values.
        camera: For messages.

    Raises:
        SettingError: The camera has no such control, or refuses the value; names those that it has.
    """
    known = {control.name: control for control in controls(ask)}
    for name, text in requests:
        control = known.get(_identifier(name))
        if control is None:
            raise SettingError(f"{camera} has no control {name!r}; it has {', '.join(known) or 'none'}")
        if ask(S_CTRL, _VALUE.pack(control.id, control.read(text))) is None:
            raise SettingError(
                f"{camera} refuses {name}={text}; an automatic may have to be turned off before, as auto_exposure"
            )


def apply_controls(device: str, requests: Sequence[tuple[str, str]], camera: str) -> None:
    """Set controls of a camera by its device; nothing is done where nothing is requested.

    Raises:
        SettingError: As ``set_controls``; or this system is not Linux.
        CameraError: The device cannot be opened.
    """
    if not requests:
        return
    if not sys.platform.startswith("linux"):
        raise SettingError("controls of cameras can be set on Linux only")
    try:
        handle = os.open(device, os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        raise CameraError(f"cannot set controls of {camera}: {reason_of(error)}") from error
    try:
        set_controls(asker(handle), requests, camera)
    finally:
        os.close(handle)


def controls_of(device: str) -> tuple[CameraControl, ...]:
    """Return the controls of a camera by its device; none where it cannot be asked."""
    try:
        handle = os.open(device, os.O_RDWR | os.O_NONBLOCK)
    except OSError:
        return ()
    try:
        return tuple(controls(asker(handle)))
    finally:
        os.close(handle)


def parse_control(text: str) -> tuple[str, str]:
    """Read NAME=VALUE.

    Raises:
        SettingError: It is not that.
    """
    name, equals, value = text.partition("=")
    if not (equals and name.strip() and value.strip()):
        raise SettingError(f"--camera-control is NAME=VALUE, as gain=10 or power_line_frequency=50_hz; got {text!r}")
    return name.strip(), value.strip()

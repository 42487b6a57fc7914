"""DeviceReaders: whether another program has a device open, so that nothing is drawn for no one. Linux only."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import threading
from collections.abc import Iterator

from rtstyle.errors import VideoWriteError

_OPEN, _CLOSE = 0x20, 0x18
"""IN_OPEN; IN_CLOSE_WRITE and IN_CLOSE_NOWRITE, see inotify(7)."""

_EVENT = struct.Struct("iIII")
"""An event of a watch of one file, which has no name: watch, mask, cookie, length."""


class DeviceReaders:
    """Counts the other programs that have a device open: those of now by /proc, later ones by inotify.

    A program that only lists cameras counts while it has the device open. Programs of other users count if they open
    the device later.

    Args:
        device: Path; this process's own descriptors are opened before.

    Raises:
        VideoWriteError: The system cannot tell.
    """

    def __init__(self, device: str) -> None:
        self._lock = threading.Lock()
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            self._events: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            watched = libc.inotify_add_watch(self._events, os.fsencode(device), _OPEN | _CLOSE) >= 0
        except AttributeError as error:
            raise VideoWriteError(f"who reads {device} is known on Linux only: leave --on-demand out") from error
        if not watched:
            reason = os.strerror(ctypes.get_errno())
            raise VideoWriteError(f"who reads {device} cannot be found out ({reason}): leave --on-demand out")
        self._count = sum(1 for _ in _descriptors(os.path.realpath(device)))

    @property
    def present(self) -> bool:
        """Whether another program has the device open; cheap. Any thread may ask."""
        with self._lock, contextlib.suppress(BlockingIOError):
            while self._events >= 0 and (data := os.read(self._events, 64 * _EVENT.size)):
                for _, mask, _, _ in _EVENT.iter_unpack(data):
                    self._count = max(self._count + bool(mask & _OPEN) - bool(mask & _CLOSE), 0)
        return self._count > 0

    def close(self) -> None:
        """Stop looking."""
        with self._lock:
            os.close(self._events)
            self._events = -1


def _descriptors(device: str) -> Iterator[str]:
    """Yield the descriptors of other processes that are open on a device, as far as they may be seen."""
    own = str(os.getpid())
    for process in os.listdir("/proc"):
        if not process.isdecimal() or process == own:
            continue
        folder = f"/proc/{process}/fd"
        with contextlib.suppress(OSError):  # of another user, or it has ended
            for number in os.listdir(folder):
                with contextlib.suppress(OSError):
                    if os.readlink(f"{folder}/{number}") == device:
                        yield f"{folder}/{number}"

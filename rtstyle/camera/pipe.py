"""A named pipe, read with a timeout: its writer may stop, and opening one waits for a writer for ever."""

from __future__ import annotations

import io
import os
import select
import threading
import time

_SLICE = 0.05
"""Seconds between two looks whether reading is to stop."""


class NamedPipe:
    """A FIFO as a file to read from; it ends when its writer closes it."""

    def __init__(self, path: str, timeout: float, stop: threading.Event) -> None:
        """Open the pipe, whether it has a writer or not.

        Args:
            timeout: Seconds that each ``read`` waits, the first one also for a writer.
            stop: Ends reading as if the writer had left.
        """
        self._pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._pipe, select.POLLIN)
        self._timeout, self._stop = timeout, stop

    def read(self, size: int) -> bytes:
        """Return what there is, at most ``size`` bytes; nothing at the end.

        Raises:
            TimeoutError: Nothing came in time.
        """
        end = time.monotonic() + self._timeout
        while not self._stop.is_set():
            if self._poll.poll(1000 * _SLICE):
                return os.read(self._pipe, size)
            if time.monotonic() > end:
                raise TimeoutError(f"nothing came for {self._timeout:g} s")
        return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        """Refuse: what was read is gone."""
        raise io.UnsupportedOperation("a pipe cannot be read again")

    def close(self) -> None:
        """Close the pipe; the system notifies its writer."""
        if self._pipe >= 0:
            os.close(self._pipe)
        self._pipe = -1

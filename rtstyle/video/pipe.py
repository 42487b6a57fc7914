"""Pipes, read with a timeout: a writer may stop, opening one may wait without end, and FFmpeg hears no signal."""

from __future__ import annotations

import io
import os
import select
import threading
import time
from pathlib import Path

from rtstyle.interrupts import Interrupted, pending

_SLICE = 0.05
"""Seconds between two looks whether reading is to stop."""


class Pipe:
    """A pipe as a file to read from; it ends when its writer closes it.

    Args:
        pipe: A file descriptor, owned from here on; 0, the standard input, stays open.
        timeout: Seconds that each ``read`` waits; None: as long as it takes.
        stop: Ends reading as if the writer had left.
    """

    def __init__(self, pipe: int, timeout: float | None, stop: threading.Event | None = None) -> None:
        self._pipe = pipe
        self._poll = select.poll()
        self._poll.register(pipe, select.POLLIN)
        self._timeout, self._stop = timeout, stop or threading.Event()
        self._failed = False

    @classmethod
    def named(cls, path: Path | str, timeout: float | None, stop: threading.Event | None = None) -> Pipe:
        """Open a FIFO, whether it has a writer or not.

        Raises:
            OSError: It may not be read.
        """
        return cls(os.open(path, os.O_RDONLY | os.O_NONBLOCK), timeout, stop)

    def wait(self, timeout: float | None) -> bool:
        """Wait for data, or for the end; False where neither came in time.

        Raises:
            Interrupted: By a signal.
        """
        end = None if timeout is None else time.monotonic() + timeout
        try:
            while not self._stop.is_set():
                if pending():
                    raise Interrupted
                if self._poll.poll(1000 * _SLICE):
                    return True
                if end is not None and time.monotonic() > end:
                    return False
        except KeyboardInterrupt as error:  # PyAV, which calls ``read``, cannot pass it on
            raise Interrupted from error
        return True

    def read(self, size: int) -> bytes:
        """Return what there is, at most ``size`` bytes; nothing at the end.

        Raises:
            TimeoutError: Nothing came in time.
            Interrupted: By a signal.
        """
        if self._failed:  # FFmpeg tries again, and PyAV prints a second error, since it keeps the first
            return b""
        self._failed = True
        if not self.wait(self._timeout):
            raise TimeoutError(f"nothing came for {self._timeout:g} s")
        self._failed = False
        return b"" if self._stop.is_set() else os.read(self._pipe, size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Refuse: what was read is gone."""
        raise io.UnsupportedOperation("a pipe cannot be read again")

    def close(self) -> None:
        """Close the pipe; the system notifies its writer."""
        if self._pipe > 0:
            os.close(self._pipe)
        self._pipe = -1

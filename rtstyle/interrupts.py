"""Ctrl-C and SIGTERM: held back while a file must not be cut in two, and noticed by what waits for data meanwhile."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_held: dict[int, list[int]] = {}
"""The signals that came during each ``signals_held`` that is open, by identity: several are equal, one per thread."""


class Interrupted(Exception):
    """A signal ended a wait inside a library that cannot pass KeyboardInterrupt on, or on another thread."""


def pending() -> bool:
    """Whether a signal is held back now, so that whatever waits for data should stop. Any thread may ask."""
    return any(list(_held.values()))


@contextmanager
def signals_held() -> Iterator[Callable[[], None]]:
    """Hold back Ctrl-C, and SIGTERM where Python handles it, so that no frame and no file is cut in two.

    Yields a function to call between two frames: a signal that came meanwhile takes its usual course
    there, or instead of an error that ends the block. A second one takes it at once. Outside the main thread, which no
    signal reaches, nothing is held.
    """
    came: list[int] = []
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def pass_on(number: int) -> None:
        handler = usual[signal.Signals(number)]
        assert callable(handler)
        handler(number, None)

    def hold(number: int, _: object) -> None:
        came.append(number)
        if len(came) > 1:
            pass_on(number)

    def release() -> None:
        if came:
            pass_on(came[0])

    mine = threading.current_thread() is threading.main_thread()
    held = [number for number, handler in usual.items() if mine and callable(handler)]
    for number in held:
        signal.signal(number, hold)
    _held[id(came)] = came
    try:
        yield release
    except Exception:
        release()
        raise
    finally:
        del _held[id(came)]
        for number in held:
            signal.signal(number, usual[number])

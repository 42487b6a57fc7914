"""Builds a plan in a process of its own: ``python -m rtstyle.backends.build_process``, with a request on its input.

TensorRT takes seconds to minutes, a lot of memory, and both cores of a small machine; it cannot be stopped
between two steps by Python, and a crash in it would take a recording along. A process can be killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rtstyle import graph
from rtstyle.backends.accuracy import AccuracyError
from rtstyle.errors import BackendUnavailableError
from rtstyle.frame import Size

_COMMAND = [sys.executable, "-m", "rtstyle.backends.build_process"]
if sys.platform == "linux":  # ADDR_NO_RANDOMIZE of personality(2) outlasts exec; not every container allows it
    _still = "import ctypes, os; ctypes.CDLL(None).personality(0x40000)"
    _COMMAND = [sys.executable, "-c", f"{_still}; os.execv({sys.executable!r}, {_COMMAND})"]

_SAME_MEMORY = {"PYTHONHASHSEED": "0", "MALLOC_MMAP_THRESHOLD_": str(32 << 20), "OPENBLAS_NUM_THREADS": "1"}
"""Environment of the child. TensorRT-RTX numbers the open dimensions of a plan for changing sizes in an order that
depends on memory addresses. Memory is laid out the same each time, so that a second build gives the same bytes: at
addresses that are not random, on a new heap (``compiler.build_plan``) that serves all but the largest blocks, and
without NumPy's worker threads, which map their buffers while the main thread still loads libraries."""


@dataclass(frozen=True)
class BuildRequest:
    """What is to be built."""

    style: str
    folders: tuple[tuple[Path, float], ...]
    """Of the style, with their shares."""
    size: Size | None
    """None: for changing sizes."""
    precision: str
    layout: graph.Layout
    targets: tuple[str, ...]
    device: int | None
    """Number of the GPU that the plan is for and is compared to float32 on; None: built ahead for others."""

    def to_json(self) -> str:
        """Write it as one line."""
        fields = asdict(self)
        fields["folders"] = [[str(folder), share] for folder, share in self.folders]
        return json.dumps(fields)

    @classmethod
    def from_json(cls, text: str) -> BuildRequest:
        """Read what ``to_json`` wrote."""
        fields = json.loads(text)
        fields["folders"] = tuple((Path(folder), share) for folder, share in fields["folders"])
        fields["size"] = Size(**fields["size"]) if fields["size"] else None
        fields["targets"] = tuple(fields["targets"])
        return cls(**fields)


def build_in_child(
    request: BuildRequest,
    *,
    stop: threading.Event | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> Path:
    """Build a plan in a child process, wait for it, and return where it is kept.

    Ctrl-C, or ``stop`` being set, ends the child; nothing of its work is left.

    Args:
        progress: Called with the phase and how much of it is done, 0 to 1.

    Raises:
        AccuracyError: The plan is not accurate enough.
        BackendUnavailableError: It cannot be built; or it was stopped.
    """
    child = subprocess.Popen(
        _COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=stop is not None,  # else Ctrl-C reaches it too
        env={**os.environ, **_SAME_MEMORY, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    ended = threading.Event()
    watchers = [threading.Thread(target=_kill_when, args=(stop, child, ended), daemon=True)] if stop else []
    complaints: list[str] = []
    assert child.stdin
    assert child.stdout
    assert child.stderr
    watchers.append(threading.Thread(target=lambda: complaints.extend(child.stderr or ()), daemon=True))
    for watcher in watchers:
        watcher.start()
    answer: dict[str, Any] = {}
    try:
        child.stdin.write(request.to_json())
        child.stdin.close()
        for line in child.stdout:
            answer = json.loads(line)
            if "phase" in answer and progress:
                progress(answer["phase"], answer["done"])
        child.wait()
    except BrokenPipeError:  # it died before it had read what to do
        child.wait()
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        ended.set()
        for watcher in watchers:
            watcher.join()
        child.stdout.close()
        child.stderr.close()
    return _result(answer, child.returncode, complaints, stopped=stop is not None and stop.is_set())


def _kill_when(stop: threading.Event, child: subprocess.Popen[str], ended: threading.Event) -> None:
    while not ended.wait(0.05):
        if stop.is_set():
            child.kill()
            return


def _result(answer: dict[str, Any], code: int, complaints: list[str], *, stopped: bool) -> Path:
    if "plan" in answer:
        return Path(answer["plan"])
    if "inaccurate" in answer:
        raise AccuracyError(answer["inaccurate"])
    if "error" in answer:
        raise BackendUnavailableError(answer["error"])
    if stopped:
        raise BackendUnavailableError("the build of the engine was stopped")
    if code == -signal.SIGINT:
        raise KeyboardInterrupt
    last = complaints[-1].strip() if complaints else "it printed nothing"
    raise BackendUnavailableError(f"the build of the engine ended with code {code}: {last}")

"""OpenVINO's one Core of this process, which everything that runs a network on a CPU shares."""

from __future__ import annotations

import sys
from functools import cache

# Importing openvino reports the import to its makers over the network, unless this package is missing.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino as ov  # noqa: E402

__all__ = ["ov", "the_core"]


@cache
def the_core() -> ov.Core:
    """Return the one Core of this process, which lives as long as it.

    Each Core's CPU plugin gives the thread a signal stack and removes it when it is destroyed. Two that end
    in the order in which they began leave the thread with a stack that is gone: the next Ctrl-C is a crash.

    Threads are not pinned to cores: every process would pin its own to the same ones, so that workers side by side
    share two cores of sixty, or wait for one another where a core is free.
    """
    core = ov.Core()
    if "CPU" in core.available_devices:
        core.set_property("CPU", {"ENABLE_CPU_PINNING": False})
    return core

"""Processor cores: how many this process may use by the system and a container's quota, and which threads rest."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path


def cores() -> int:
    """Return the cores that this process may use, at least 1: its affinity, and the CPU quota of its control group."""
    able = len(core_numbers()) or os.cpu_count() or 1
    quota = cpu_quota()
    return able if quota is None else max(1, min(able, math.ceil(quota)))


def core_numbers() -> list[int]:
    """Return the numbers of the cores of this process's affinity, rising; empty where the system does not report it."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


RESTING_THREADS = {
    "OPENBLAS_NUM_THREADS": "1",
    "OPENCV_THREAD_POOL_ACTIVE_WAIT_WORKER": "0",
    "OPENCV_THREAD_POOL_ACTIVE_WAIT_MAIN": "0",
}
"""Environment in which idle threads of OpenCV and of NumPy's BLAS take no cores from the network and the encoder; both
read it when they are loaded."""


def cpu_quota(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float | None:
    """Return the processors that control groups (Docker, Kubernetes, systemd) allow, such as 1.5; None: no limit.

    Args:
        root: Where the control groups are mounted, version 1 or 2.
        own: What names the groups of this process.
    """
    quotas: list[float] = []
    lines: list[str] = []
    with suppress(OSError, ValueError):
        lines = own.read_text().splitlines()
    for line in lines or ["0::/"]:
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        mount = root if not controllers else root / controllers
        if controllers and "cpu" not in controllers.split(","):
            continue
        group = (mount / name.strip("/")).parts
        for depth in range(len(mount.parts), len(group) + 1):  # a group has what all groups above it leave
            quotas += _quota_of(Path(*group[:depth]))
    return min(quotas, default=None)


def _quota_of(group: Path) -> list[float]:
    with suppress(OSError, ValueError):
        limit, period = (group / "cpu.max").read_text().split()
        return [] if limit == "max" else [int(limit) / int(period)]
    with suppress(OSError, ValueError):
        limit = (group / "cpu.cfs_quota_us").read_text()
        return [] if int(limit) <= 0 else [int(limit) / int((group / "cpu.cfs_period_us").read_text())]
    return []

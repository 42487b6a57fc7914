"""What a live session measures: latencies, rates, and the report of it all."""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class LiveReport:
    """What a live session did; ``dataclasses.asdict`` gives what JSON takes."""

    captured: int
    """Frames that the source gave: shown + dropped + held + at most one that was left at the end."""
    shown: int
    """Frames that were stylized and handed on."""
    dropped: int
    """Frames that a newer one replaced before their turn came."""
    held: int
    """Frames that went by while the output was paused."""
    seconds: float
    """From the first look for a frame to the end."""
    fps: float
    """Frames shown per second, between the first and the last."""
    latency_ms: dict[str, float]
    """Milliseconds from a frame's arrival in this process to the moment at which the stylized one is
    passed to window and sinks: ``p50``, ``p95``, ``p99``; empty where no frame was shown."""
    backend: str
    precision: str
    device: str
    style: str
    """The style in use at the end."""
    size: str
    """Width and height of the frame, as ``1280x720``."""
    sinks: dict[str, dict[str, Any]] = field(default_factory=dict)
    """For the window and each sink: ``frames`` that it took, ``dropped`` ones, and ``latency_ms`` from a frame's
    arrival to the moment at which it was on the screen, or the sink had taken it."""
    working_sizes: dict[str, int] = field(default_factory=dict)
    """Frames that were stylized in each size, with the network where that is not the default one (``640x360 fast``);
    several where adaptive quality changed them."""
    warnings: list[str] = field(default_factory=list)


class Latencies:
    """Latencies of one session, in milliseconds; all are kept, 8 bytes each."""

    def __init__(self) -> None:
        self._values = array("d")

    def add(self, since: float) -> None:
        """Note that what came at ``since`` (``time.perf_counter()``) is through now."""
        self._values.append(1000 * (time.perf_counter() - since))

    def __len__(self) -> int:
        return len(self._values)

    @property
    def latest(self) -> float:
        """The median of the last 30; 0 where there is none."""
        latest = sorted(self._values[-30:]) or [0.0]
        return latest[len(latest) // 2]

    def percentiles(self) -> dict[str, float]:
        """Return ``p50``, ``p95`` and ``p99``; empty where there is none."""
        return percentiles(self._values)


def percentiles(values: Sequence[float], digits: int = 2) -> dict[str, float]:
    """Return ``p50``, ``p95`` and ``p99`` of numbers, rounded; empty where there are none."""
    if not len(values):
        return {}
    found = np.percentile(np.asarray(values), (50, 95, 99))
    return {f"p{p}": round(float(value), digits) for p, value in zip((50, 95, 99), found, strict=True)}


_SLOW_CAMERA = 0.8
"""A camera that sends less than this share of the rate that it declares is named as what limits the frame rate."""


class Meter:
    """The line of figures; renewed twice a second, so that it can be read.

    Args:
        rate: Frames per second that the camera declares; None: it declares none, or the source is a file.
    """

    def __init__(self, rate: float | None = None) -> None:
        self.line = ""
        self._rate, self._slow = rate, 0
        self._at = time.perf_counter()
        self._captured = self._shown = self._dropped = 0

    def renew(self, captured: int, shown: int, dropped: int, latency: float) -> None:
        """Take the counts of now, and the latency in milliseconds."""
        now = time.perf_counter()
        span = now - self._at
        if span < 0.5:
            return
        came, went = (captured - self._captured) / span, (shown - self._shown) / span
        lost = (dropped - self._dropped) / span
        left_out = f"   {lost:.0f} left out per second" if lost >= 0.5 else ""
        self._slow = self._slow + 1 if self._rate and 1 <= came < _SLOW_CAMERA * self._rate else 0
        camera = f"   the camera sends {came:.0f}, not {self._rate:.0f}" if self._rate and self._slow > 1 else ""
        self.line = f"{went:.0f} of {came:.0f} frames per second   delay {latency:.0f} ms{left_out}{camera}"
        self._at, self._captured, self._shown, self._dropped = now, captured, shown, dropped

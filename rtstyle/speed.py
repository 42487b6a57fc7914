"""What this machine reaches, as it was measured: by ``rtstyle doctor --speed``, or by the renders before.

Live sessions begin with the network that this allows, and a render says how long it will take.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from rtstyle.cores import cores
from rtstyle.files import cache_root, write_whole

_FILE = "speed.json"


@dataclass(frozen=True)
class Speed:
    """How fast each size of network is here; cost grows with the pixels, so figures are per megapixel."""

    files: Mapping[str, float] = field(default_factory=dict)
    """Megapixels per second from file to file, by size class."""
    live: Mapping[str, float] = field(default_factory=dict)
    """Milliseconds in the engine per megapixel with one frame in flight, by size class."""

    def fps(self, size_class: str, pixels: int) -> float | None:
        """Return frames per second from file to file; None: it was not measured."""
        reached = self.files.get(size_class)
        return reached and 1e6 * reached / pixels

    def milliseconds(self, size_class: str, pixels: int) -> float | None:
        """Return how long a live frame is in the engine; None: it was not measured."""
        needed = self.live.get(size_class)
        return needed and needed * pixels / 1e6


def known_speed(folder: Path | None = None) -> Speed:
    """Return what was measured on this machine; nothing where that was another processor, or another version.

    Args:
        folder: Of the cache; the user's own if None.
    """
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        found = json.loads(((folder or cache_root()) / _FILE).read_text("utf-8"))
        if found["machine"] == _machine():
            files, live = ({str(k): float(v) for k, v in found[kind].items() if v > 0} for kind in ("files", "live"))
            return Speed(files, live)
    return Speed()


def keep_speed(speed: Speed, folder: Path | None = None) -> None:
    """Keep figures for later runs; those that are kept of other size classes stay. A cache that cannot be written is
    left as it is.

    Args:
        folder: As in ``known_speed``.
    """
    before, place = known_speed(folder), folder or cache_root()
    merged = {"machine": _machine(), "files": {**before.files, **speed.files}, "live": {**before.live, **speed.live}}
    with suppress(OSError):
        place.mkdir(parents=True, exist_ok=True)
        write_whole(place / _FILE, json.dumps(merged, indent=1).encode())


def duration_words(seconds: float) -> str:
    """Return a duration as text: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _machine() -> str:
    from rtstyle import __version__

    return f"rtstyle {__version__}, {_processor_name()}, {cores()} cores"


def _processor_name() -> str:
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()

"""How much memory a render will take, known before hours are spent."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from rtstyle.cores import cores
from rtstyle.errors import SettingError
from rtstyle.frame import Size

_MEMORY_BASE, _MEMORY_PER_PIXEL, _MEMORY_PER_PIXEL_AND_CORE = 350e6, 50, 25
"""Bytes; from peaks of whole renders by OpenVINO in bf16 on two cores: 403 MB at 720p, 538 at 1080p, 1174 at 2160p and
3439 at 4320p. In f32 it was a quarter more."""


def refuse_too_large(size: Size, available: int | None) -> None:
    """Predict a render's memory, and refuse it if the machine lacks it, before hours are spent.

    Args:
        available: Bytes; None where the system does not report them.

    Raises:
        SettingError: It is predicted to need more.
    """
    needed = _MEMORY_BASE + size.width * size.height * (_MEMORY_PER_PIXEL + _MEMORY_PER_PIXEL_AND_CORE * cores())
    if available is not None and needed > available:
        raise SettingError(
            f"{size} needs about {needed / 1e9:.1f} GB of memory, and {available / 1e9:.1f} GB are free: "
            "close other programs, or scale with --size"
        )


def memory_available() -> int | None:
    """Return the bytes that a new program may take without the system swapping; None where it does not report them."""
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1])
    return None

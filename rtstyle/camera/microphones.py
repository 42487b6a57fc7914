"""Microphones of this machine, as ``--mic`` takes them."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from rtstyle.camera.devices import device_names


@dataclass(frozen=True)
class Microphone:
    """Something that audio may be recorded from."""

    device: str
    """What opens it: ALSA's name on Linux, the displayed name elsewhere."""
    name: str


def list_microphones() -> list[Microphone]:
    """Return the microphones of this machine."""
    if not sys.platform.startswith("linux"):
        return [Microphone(name, name) for name in device_names("audio")]
    try:
        return read_alsa(Path("/proc/asound/pcm").read_text())
    except OSError:
        return []


def read_alsa(lines: str) -> list[Microphone]:
    """Read the kernel's /proc/asound/pcm: lines such as ``00-00: id : name : playback 1 : capture 1``."""
    found = []
    for line in lines.splitlines():
        match = re.match(r"(\d+)-(\d+): (.*)", line)
        fields = [part.strip() for part in match[3].split(" : ")] if match else []
        if match and any(part.startswith("capture") for part in fields):
            # plughw: ALSA converts rate and channels, where the hardware knows one of each only.
            found.append(Microphone(f"plughw:{int(match[1])},{int(match[2])}", fields[1] if len(fields) > 1 else ""))
    return found

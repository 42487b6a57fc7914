"""What a live session can see and hear on this machine, in one list."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from rtstyle.camera import v4l2
from rtstyle.camera.devices import Camera, list_cameras
from rtstyle.camera.microphones import Microphone, list_microphones
from rtstyle.camera.screen import screens


@dataclass(frozen=True)
class Devices:
    """Everything that was found."""

    cameras: list[Camera]
    screens: list[str]
    microphones: list[Microphone]
    virtual_cameras: list[v4l2.Node]
    """Devices that take frames and show them to other programs; Linux only, elsewhere they cannot be listed."""

    def as_json(self) -> dict[str, Any]:
        """Return what ``json.dumps`` takes; sizes as ``640x480``, rates in frames per second."""
        return {
            "cameras": [
                {
                    **asdict(camera),
                    "modes": [
                        {
                            "format": mode.format,
                            "size": str(mode.size),
                            "largest": str(mode.largest) if mode.largest else None,
                            "fps": [round(float(rate), 3) for rate in mode.fps],
                        }
                        for mode in camera.modes
                    ],
                }
                for camera in self.cameras
            ],
            "screens": self.screens,
            "microphones": [asdict(microphone) for microphone in self.microphones],
            "virtual_cameras": [{"device": node.path, "name": node.name} for node in self.virtual_cameras],
        }


def list_devices() -> Devices:
    """Look at this machine."""
    outputs = v4l2.outputs() if sys.platform.startswith("linux") else []
    return Devices(list_cameras(), screens(), list_microphones(), outputs)


def describe_devices(devices: Devices) -> list[str]:
    """Describe devices, one line each."""
    lines = ["cameras"]
    for camera in devices.cameras:
        lines.append(f"  {camera}")
        lines += _modes(camera)
        lines += [f"     {control}" for control in camera.controls]
    if not devices.cameras:
        lines.append("  none found")
    elif not sys.platform.startswith("linux"):
        lines.append("  (the modes of a camera are not listed on this system; --size and --fps ask for one)")
    lines += ["screens", *(f"  {screen}" for screen in devices.screens or ["none"])]
    lines.append("microphones")
    lines += [f"  {mic.device}" + (f" ({mic.name})" if mic.name != mic.device else "") for mic in devices.microphones]
    if not devices.microphones:
        lines.append("  none found")
    if sys.platform.startswith("linux"):
        lines.append("virtual cameras")
        lines += [f"  {node.path} ({node.name})" for node in devices.virtual_cameras] or ["  none found"]
    return lines


def _modes(camera: Camera) -> list[str]:
    """One line for each format: sizes with their rates."""
    by_format: dict[str, list[str]] = {}
    for mode in camera.modes:
        size = f"{mode.size} to {mode.largest}" if mode.largest else str(mode.size)
        by_format.setdefault(mode.format, []).append(f"{size}{_rates_text(mode.fps)}")
    return [f"     {format}  {', '.join(sizes)}" for format, sizes in by_format.items()]


def _rates_text(rates: tuple[Fraction, ...]) -> str:
    return f" @ {'/'.join(f'{float(rate):.4g}' for rate in rates)}" if rates else ""

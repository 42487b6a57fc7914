"""The desktop as a camera: ``screen:``, or a region of it as ``screen:0+100,200`` and a size."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from fractions import Fraction

from rtstyle.camera.devices import DeviceRequest
from rtstyle.errors import CameraError, SettingError
from rtstyle.frame import Size

SCREEN = re.compile(r"screen:(\d+)?(?:\+(\d+),(\d+))?")
"""``screen:NUMBER+X,Y``; all but the word may be missing."""


def screen_request(
    platform: str, source: str, size: Size | None, fps: Fraction | None, environ: Mapping[str, str] = os.environ
) -> DeviceRequest:
    """Translate a screen for this platform.

    Args:
        platform: As ``sys.platform``.
        source: As ``SCREEN`` reads it. The number is that of X11's or macOS's screen; Windows joins all into one.
        size: Of the region from X,Y on; None is the whole screen.
        fps: Frames per second; None is 30.

    Raises:
        SettingError: A region without a size, or one where the system gives whole screens only.
        CameraError: There is no screen that could be grabbed.
    """
    match = SCREEN.fullmatch(source)
    assert match, source
    number, x, y = match.groups()
    if x is not None and size is None:
        raise SettingError(f"{source} is a region: give its size as well, as in --size 1280x720")
    options = {"framerate": str(fps or 30)} | ({"video_size": str(size)} if size else {})
    if platform == "win32":
        if int(number or 0):
            raise CameraError(f"no {source}; Windows joins all screens: take screen:+X,Y with a size")
        offset = {"offset_x": x, "offset_y": y} if x is not None else {}
        return DeviceRequest("gdigrab", "desktop", options | offset)
    if platform == "darwin":
        if x is not None:
            raise SettingError(f"{source}: macOS gives whole screens only; leave out +{x},{y}")
        return DeviceRequest(
            "avfoundation",
            f"Capture screen {number or 0}:none",
            {"framerate": options["framerate"], "capture_cursor": "1"},
        )
    display = environ.get("DISPLAY")
    if not display:
        wayland = "this Wayland session has no X11" if environ.get("WAYLAND_DISPLAY") else "DISPLAY is not set"
        raise CameraError(f"the screen cannot be grabbed: {wayland}; give a camera, a URL or a file")
    if number is not None:
        display = f"{re.sub(r'[.][0-9]+$', '', display)}.{number}"
    return DeviceRequest("x11grab", display + (f"+{x},{y}" if x is not None else ""), options)


def screens() -> list[str]:
    """Return the words that open the screens of this machine."""
    if sys.platform.startswith("linux"):
        return ["screen:"] if os.environ.get("DISPLAY") else []
    if sys.platform == "darwin":
        from rtstyle.camera.devices import device_names

        return [f"screen:{name.split()[-1]}" for name in device_names() if name.startswith("Capture screen")]
    return ["screen:"]

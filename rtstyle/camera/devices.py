"""Cameras of this machine: found by number, name or path, and asked for a mode in each platform's words."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import av
import av.device
import av.error

from rtstyle.camera import v4l2
from rtstyle.camera.controls import CameraControl, controls_of
from rtstyle.camera.v4l2 import CameraMode
from rtstyle.errors import CameraError
from rtstyle.frame import Size
from rtstyle.video.opening import AV_ERRORS

NONBLOCK = "+4"
"""FFmpeg's AVFMT_FLAG_NONBLOCK, an option that has a number but no name: reading a device that has no frame
yet returns at once. Otherwise a camera that stalls would never let go of the thread that reads it."""


_RAW = ("YUYV", "UYVY", "NV12", "NV21", "YU12")
"""Uncompressed formats of Linux that turn into planes without loss."""

_USUAL_RATE = 29
"""Frames per second that are enough where none are asked for; 30000/1001 is."""


@dataclass(frozen=True)
class DeviceRequest:
    """What FFmpeg is asked for in order to open one camera in one mode."""

    format: str
    """Name of FFmpeg's input device: v4l2, dshow or avfoundation."""
    file: str
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Camera:
    """A camera of this machine."""

    source: str
    """What opens it, e.g. ``0``."""
    device: str
    """Its path on Linux, its name elsewhere."""
    name: str
    modes: tuple[CameraMode, ...] = ()
    """What it gives; empty where the system does not report it."""
    problem: str = ""
    """Why it cannot be used, and what to do."""
    controls: tuple[CameraControl, ...] = ()
    """What can be set; known on Linux only."""

    def __str__(self) -> str:
        named = f" ({self.name})" if self.name not in ("", self.device) else ""
        return f"{self.source}: {self.device}{named}" + (f": {self.problem}" if self.problem else "")


def list_cameras() -> list[Camera]:
    """Return the cameras of this machine, in the order of their numbers. Modes are known on Linux only."""
    if sys.platform.startswith("linux"):
        return [
            Camera(
                node.path.removeprefix("/dev/video"),
                node.path,
                node.name,
                node.modes,
                node.problem,
                controls_of(node.path) if not node.problem else (),
            )
            for node in v4l2.cameras()
        ]
    return [Camera(str(number), name, name) for number, name in enumerate(device_names())]


def device_names(media: str = "video") -> list[str]:
    """Return what FFmpeg finds on Windows or macOS, in its order; there a screen of a Mac is a camera, too.

    Args:
        media: ``video`` or ``audio``.
    """
    format = {"win32": "dshow", "darwin": "avfoundation"}.get(sys.platform)
    try:
        devices = av.device.enumerate_input_devices(format) if format else []
    except AV_ERRORS:
        return []
    return [d.description or d.name for d in devices if media in d.media_types or not d.media_types]


def find_camera(name: str) -> str | None:
    """Return the device of the first camera of this name, or else of the first whose name contains it; else None."""
    cameras = list_cameras()
    exact = [camera.device for camera in cameras if camera.name == name]
    similar = [camera.device for camera in cameras if name.casefold() in camera.name.casefold()]
    return next(iter(exact + similar), None)


def modes_of(camera: str) -> tuple[CameraMode, ...]:
    """Return what a camera gives, by its number or device; nothing where it is unknown or not reported."""
    return next((known.modes for known in list_cameras() if camera in (known.source, known.device)), ())


def found(cameras: Sequence[Camera | str]) -> str:
    """Return which cameras there are, for the end of a message."""
    return f"cameras found: {', '.join(map(str, cameras))}" if cameras else "no camera was found on this machine"


def device_requests(
    platform: str,
    camera: str,
    size: Size | None,
    fps: Fraction | None,
    names: Sequence[str] = (),
    modes: Sequence[CameraMode] = (),
) -> list[DeviceRequest]:
    """Translate a camera and a requested mode for this platform; the requests are to be tried in order.

    The last one asks for no mode: a camera that knows neither the size nor the rate still gives a frame.

    Args:
        platform: As ``sys.platform``.
        camera: A number, or the name or path of a device.
        size: Requested size of the frame; None is the camera's own.
        fps: Requested frames per second; None is the camera's own.
        names: Names of the cameras in the order of their numbers; used on Windows, which has no numbers.
        modes: What the camera gives, where that is known.

    Raises:
        CameraError: Windows has no camera of that number.
    """
    mode = {"video_size": str(size)} if size else {}
    if fps:
        mode["framerate"] = str(fps)
    if platform == "win32":
        if camera.isdecimal():
            if int(camera) >= len(names):
                raise CameraError(f"no camera {camera}; {found(names)}")
            camera = names[int(camera)]
        file = camera if camera.startswith("video=") else f"video={camera}"
        # The default buffer holds less than one raw 1080p frame.
        requests = [mode, {}] if mode else [{}]
        return [
            DeviceRequest("dshow", file, {"rtbufsize": "64M", "fflags": NONBLOCK, **request}) for request in requests
        ]
    if platform == "darwin":
        # FFmpeg's default, 29.97, is refused by most cameras of a Mac; they do 30.
        requests = [{"framerate": "30", **mode}, {"framerate": "30"}, {}] if mode else [{"framerate": "30"}, {}]
        return [
            DeviceRequest("avfoundation", f"{camera}:none", {"fflags": NONBLOCK, **request}) for request in requests
        ]
    file = f"/dev/video{camera}" if camera.isdecimal() else camera
    # USB cameras reach large sizes at full rate as MJPEG only; uncompressed they fall to 5 or 10 frames per second.
    # Where they do not, uncompressed is better: no artefacts, nothing to decode.
    fast_enough = fps or _USUAL_RATE
    raw = any(m.size == size and m.format in _RAW and max(m.fps, default=0) >= fast_enough for m in modes)
    requests = [mode, {"input_format": "mjpeg", **mode}] if raw else [{"input_format": "mjpeg", **mode}, mode]
    requests = [*requests, {}] if mode else [{}]
    return [DeviceRequest("v4l2", file, {"fflags": NONBLOCK, **request}) for request in requests]

"""Live sources: a camera, the screen, a network stream, a pipe, or files played in real time.

A live source yields frames when they come and never waits for its consumer; ``live.LatestFrame`` keeps the latest
one. What is absent, refuses, stalls or goes away is one clear line, and never a silent end; a camera that went away
can be waited for.

    settings    CaptureSettings: how a source is opened
    captured    Captured: a frame and when it came
    address     what may be given as a source
    devices     cameras of this machine: found, and asked for a mode
    v4l2        what Linux says of them: formats, sizes, rates
    microphones what audio may be recorded from
    listing     all of these in one list
    screen      the desktop as a camera
    opening     from an address to an open feed
    pipe        a named pipe that is read with a timeout
    feed        the frames of one connection, until it ends
    fit         frames made as the session wants them
    source      LiveSource: frames in real time, across lost connections
"""

from rtstyle.camera.captured import Captured, mirrored
from rtstyle.camera.devices import Camera, DeviceRequest, device_requests, list_cameras
from rtstyle.camera.settings import CaptureSettings
from rtstyle.camera.source import LiveSource, open_source

__all__ = [
    "Camera",
    "CaptureSettings",
    "Captured",
    "DeviceRequest",
    "LiveSource",
    "device_requests",
    "list_cameras",
    "mirrored",
    "open_source",
]

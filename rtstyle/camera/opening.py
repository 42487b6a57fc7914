"""From an address to an open feed, or to one line that says why not."""

from __future__ import annotations

import contextlib
import errno
import sys
import threading
from fractions import Fraction

import av
import av.error

from rtstyle.camera.address import SourceAddress
from rtstyle.camera.controls import apply_controls
from rtstyle.camera.devices import DeviceRequest, device_names, device_requests, found, list_cameras, modes_of
from rtstyle.camera.feed import Feed, ImageFeed, StreamFeed, reason
from rtstyle.camera.screen import screen_request
from rtstyle.camera.settings import CaptureSettings
from rtstyle.errors import CameraError, SourceStalledError, VideoOpenError
from rtstyle.video.opening import AV_ERRORS, is_named_playlist, open_device, open_media
from rtstyle.video.pipe import Pipe

STILL_RATE = Fraction(1, 3)
"""Frames of a folder per second, where nothing else is requested."""


def open_feed(address: SourceAddress, settings: CaptureSettings, stop: threading.Event, *, audio: bool) -> Feed:
    """Open a source and wait for its first frame.

    Args:
        stop: Ends the feed early.
        audio: The audio of a file, URL or pipe is decoded, too.

    Raises:
        CameraError, SourceStalledError, VideoOpenError, SettingError: As ``open_source``.
    """
    if address.kind == "images":
        return ImageFeed(address, settings.fps or STILL_RATE)
    if address.kind == "device":
        return _open_device(address, settings, stop)
    if address.kind == "screen":
        return _open_screen(address, settings, stop)
    if address.kind == "pipe":
        return _open_pipe(address, settings, stop, audio)
    container = _open_url(address, settings) if address.kind == "url" else _open_file(address.text, settings)
    return StreamFeed(container, address, timeout=settings.timeout, stop=stop, audio=audio)


class _ModeRefused(Exception):
    """A camera does not have the mode that it was asked for."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _open_device(address: SourceAddress, settings: CaptureSettings, stop: threading.Event) -> Feed:
    names = device_names() if sys.platform == "win32" else ()
    modes = modes_of(address.text) if settings.size else ()
    requests = device_requests(sys.platform, address.text, settings.size, settings.fps, names, modes)
    apply_controls(requests[0].file, settings.controls, address.name)
    for request in requests[:-1]:
        with contextlib.suppress(_ModeRefused):
            return _open_mode(address, request, settings, stop)
    try:
        return _open_mode(address, requests[-1], settings, stop)
    except _ModeRefused as error:
        raise _device_error(address, requests[-1], settings.timeout, error.reason) from error


def _open_mode(
    address: SourceAddress, request: DeviceRequest, settings: CaptureSettings, stop: threading.Event
) -> Feed:
    """Open a camera in one mode.

    Raises:
        _ModeRefused: Another mode may do.
        CameraError, SourceStalledError: None will.
    """
    try:
        container = open_device(request.file, format=request.format, options=request.options, timeout=settings.timeout)
        return StreamFeed(container, address, timeout=settings.timeout, stop=stop, asked=settings.size)
    except CameraError:
        raise
    except AV_ERRORS as error:
        if getattr(error, "errno", None) in (errno.EINVAL, errno.EIO):
            raise _ModeRefused(error) from error
        raise _device_error(address, request, settings.timeout, error) from error


def _device_error(address: SourceAddress, request: DeviceRequest, timeout: float, error: Exception) -> CameraError:
    name = address.name if address.name == request.file else f"{address.name} ({request.file})"
    code = getattr(error, "errno", None)
    if isinstance(error, av.error.ExitError):
        return SourceStalledError(f"{name} gave no frame within {timeout:g} s; is another program using it?")
    if code == errno.EACCES:
        return CameraError(f"no permission to open {name}; add yourself to the group 'video' and log in again")
    if code == errno.EBUSY:
        return CameraError(f"{name} is in use by another program; close that one first")
    cameras = found(list_cameras())
    if code in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return CameraError(f"no {name}; {cameras}; give another number, a device, a URL or a video file")
    return CameraError(f"cannot open {name}: {reason(error)}; {cameras}")


def _open_screen(address: SourceAddress, settings: CaptureSettings, stop: threading.Event) -> Feed:
    request = screen_request(sys.platform, address.text, settings.size, settings.fps)
    try:
        container = open_device(request.file, format=request.format, options=request.options)
    except AV_ERRORS as error:
        region = f"; is {settings.size} there within it?" if settings.size else ""
        raise CameraError(f"{address.name} ({request.file}) cannot be grabbed: {reason(error)}{region}") from error
    return StreamFeed(container, address, timeout=settings.timeout, stop=stop)


def _open_pipe(address: SourceAddress, settings: CaptureSettings, stop: threading.Event, audio: bool) -> Feed:
    pipe = Pipe.named(address.text, settings.timeout, stop)
    try:
        container = open_media(pipe)
    except TimeoutError as error:
        pipe.close()
        raise SourceStalledError(
            f"nothing came through the pipe {address.name} for {settings.timeout:g} s; does a program write to it?"
        ) from error
    except AV_ERRORS as error:
        pipe.close()
        raise CameraError(
            f"what comes through the pipe {address.name} is no video that a pipe can carry, "
            f"as y4m, nut, mkv or ts: {reason(error)}"
        ) from error
    return StreamFeed(container, address, timeout=settings.timeout, stop=stop, audio=audio, release=pipe.close)


def _open_url(address: SourceAddress, settings: CaptureSettings) -> av.container.InputContainer:
    url, name, timeout = address.text, address.name, settings.timeout
    # Not fflags=nobuffer: it throws the packets away that FFmpeg probed, with the key frame among them.
    # FFmpeg would look at an RTMP stream for 5 s, lest audio comes late; frames pile up meanwhile.
    options = {"analyzeduration": "1000000"}
    if url.startswith("rtsp"):
        options["rtsp_flags"] = "prefer_tcp"  # UDP, which some cameras insist on, loses packets
    if url.startswith("udp"):
        options |= {"overrun_nonfatal": "1", "fifo_size": "50000"}
    if is_named_playlist(url):
        options["live_start_index"] = "-1"  # FFmpeg would begin three segments before the latest one
    try:
        return open_media(url, options=options, timeout=timeout, playlists=settings.playlists)
    except VideoOpenError:
        raise
    except av.error.ExitError as error:
        raise SourceStalledError(
            f"{name} did not answer within {timeout:g} s; is it switched on and is the address right?"
        ) from error
    except av.error.ProtocolNotFoundError as error:
        scheme = url.partition(":")[0]
        raise CameraError(
            f"{scheme} is no protocol of this rtstyle; it opens http, https, rtsp, rtmp, udp and tcp"
        ) from error
    except av.error.InvalidDataError as error:
        raise CameraError(f"what {name} sends is no video") from error
    except AV_ERRORS as error:
        raise CameraError(
            f"cannot open {name}: {reason(error)}; is it switched on and is the address right?"
        ) from error


def _open_file(path: str, settings: CaptureSettings) -> av.container.InputContainer:
    try:
        return open_media(f"file:{path}", playlists=settings.playlists)  # "file:" so that a colon is no protocol
    except VideoOpenError:
        raise
    except av.error.InvalidDataError as error:
        raise VideoOpenError(f"{path} is no video, or damaged from the start") from error
    except AV_ERRORS as error:
        raise VideoOpenError(f"cannot open {path}: {reason(error)}") from error

"""Live sources: a camera, a network stream, or a file played at its own pace.

A live source hands out frames when they come and never waits for whoever uses them; ``live.py`` keeps
the newest one. Whatever goes wrong is one clear line: a camera that is absent, refuses, stalls or
goes away is an error here and never a silent end.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

import av
import av.device
import av.error
import av.stream
import numpy as np

from rtstyle.errors import CameraError, SettingError, SourceStalledError, VideoOpenError
from rtstyle.frame import Frame, Planes, Size
from rtstyle.video import colour_of, planes_of

if TYPE_CHECKING:
    from av.container import InputContainer

Kind = Literal["device", "url", "file"]

_NONBLOCK = "+4"
"""FFmpeg's AVFMT_FLAG_NONBLOCK, an option that has a number but no name: reading a device that has no picture
yet returns at once. Otherwise a camera that stalls would never let go of the thread that reads it."""

_POLL = 0.002
"""Seconds between two looks at a device that has no picture yet."""

_LATE = 0.25
"""Seconds that a file may be behind its own pace before its clock is set back."""


@dataclass(frozen=True, slots=True)
class Captured:
    """A frame and the moment at which it reached this process."""

    frame: Frame
    at: float
    """On the clock of ``time.perf_counter()``, in seconds; taken before decoding. For a file, the
    moment at which the frame was due."""


def mirrored(frame: Frame) -> Frame:
    """Return the frame as a mirror shows it, left and right exchanged; its planes are views of the given ones.

    The canvas offset is mirrored as well, so that strokes go on following the camera.
    """
    planes = Planes(*(plane[:, ::-1] for plane in frame.planes))
    return replace(frame, planes=planes, canvas=(-frame.canvas[0], frame.canvas[1]))


# -- Cameras of this machine ---------------------------------------------------------------------


@dataclass(frozen=True)
class DeviceRequest:
    """What FFmpeg is asked for in order to open one camera in one mode."""

    format: str
    """Name of FFmpeg's input device: v4l2, dshow or avfoundation."""
    file: str
    options: dict[str, str] = field(default_factory=dict)


def device_requests(
    platform: str, camera: str, size: Size | None, fps: Fraction | None, names: Sequence[str] = ()
) -> list[DeviceRequest]:
    """Translate a camera and a wished mode for this platform; the requests are to be tried in order.

    The last one asks for no mode: a camera that knows neither the size nor the rate still gives a picture.

    Args:
        platform: As ``sys.platform``.
        camera: A number, or the name or path of a device.
        size: Wished size of the picture; None is the camera's own.
        fps: Wished frames per second; None is the camera's own.
        names: Names of the cameras in the order of their numbers; used on Windows, which has no numbers.

    Raises:
        CameraError: Windows has no camera of that number.
    """
    mode = {"video_size": str(size)} if size else {}
    if fps:
        mode["framerate"] = str(fps)
    if platform == "win32":
        if camera.isdecimal():
            if int(camera) >= len(names):
                raise CameraError(f"no camera {camera}; {_found(names)}")
            camera = names[int(camera)]
        file = camera if camera.startswith("video=") else f"video={camera}"
        # The default buffer holds less than one raw 1080p picture.
        wishes = [mode, {}] if mode else [{}]
        return [DeviceRequest("dshow", file, {"rtbufsize": "64M", "fflags": _NONBLOCK, **wish}) for wish in wishes]
    if platform == "darwin":
        # FFmpeg's default, 29.97, is refused by most cameras of a Mac; they do 30.
        wishes = [{"framerate": "30", **mode}, {"framerate": "30"}, {}] if mode else [{"framerate": "30"}, {}]
        return [DeviceRequest("avfoundation", f"{camera}:none", {"fflags": _NONBLOCK, **wish}) for wish in wishes]
    file = f"/dev/video{camera}" if camera.isdecimal() else camera
    # USB cameras reach large sizes at full rate as MJPEG only; uncompressed they fall to 5 or 10 frames per second.
    wishes = [{"input_format": "mjpeg", **mode}, mode, {}] if mode else [{}]
    return [DeviceRequest("v4l2", file, {"fflags": _NONBLOCK, **wish}) for wish in wishes]


def list_cameras() -> list[str]:
    """Return the cameras of this machine, one line each for people, in the order of their numbers."""
    if sys.platform == "win32":
        return _device_names("dshow")
    if sys.platform == "darwin":
        return [f"{number}: {name}" for number, name in enumerate(_device_names("avfoundation"))]
    known: dict[str, str] = {}
    with contextlib.suppress(OSError, ValueError, av.error.FFmpegError):
        known = {device.name: device.description for device in av.device.enumerate_input_devices("v4l2")}
    lines = [f"{path} ({name})" for path, name in known.items()]
    for path in sorted(map(str, Path("/dev").glob("video[0-9]*"))):
        if path not in known and not os.access(path, os.R_OK | os.W_OK):
            lines.append(f"{path} (no permission: add yourself to the group 'video')")
    return lines


def _device_names(format: str) -> list[str]:
    try:
        devices = av.device.enumerate_input_devices(format)
    except (OSError, ValueError, av.error.FFmpegError):
        return []
    return [d.description or d.name for d in devices if "video" in d.media_types or not d.media_types]


def _found(cameras: Sequence[str]) -> str:
    return f"cameras found: {', '.join(cameras)}" if cameras else "no camera was found on this machine"


# -- Opening -------------------------------------------------------------------------------------


def open_source(
    source: str | int, *, size: Size | None = None, fps: Fraction | None = None, timeout: float = 5.0
) -> LiveSource:
    """Open a live source and wait for its first picture.

    Args:
        source: The number or device of a camera (``0``, ``/dev/video0``, a name), a URL (http, https, rtsp,
            rtmp, udp, tcp), or a video file.
        size: A camera is asked for it and may give another, which ``LiveSource.notes`` says; pictures of
            a URL or file are scaled to it. None is the source's own.
        fps: Frames per second that a camera is asked for; a URL or file keeps its own.
        timeout: Seconds that opening, and later every single picture, may take.

    Raises:
        CameraError: It is absent, refuses, or sends no video.
        SourceStalledError: It did not answer in time.
        VideoOpenError: The file is no video.
        SettingError: ``timeout`` or ``fps`` is not above 0.
    """
    if timeout <= 0:
        raise SettingError(f"a timeout must be above 0 seconds, got {timeout:g}")
    if fps is not None and fps <= 0:
        raise SettingError(f"frames per second must be above 0, got {fps}")
    text = str(source).strip()
    kind = _kind(text)
    if kind == "device":
        return _open_device(text, size, fps, timeout)
    container = _open_url(text, timeout) if kind == "url" else _open_file(text)
    return LiveSource(container, kind=kind, name=_shown(text), size=size, fps=fps, timeout=timeout)


def _kind(text: str) -> Kind:
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text):
        return "url"
    if text.isdecimal() or text.startswith(("/dev/", "video=")):
        return "device"
    try:
        mode = os.stat(text).st_mode
    except (OSError, ValueError):
        mode = 0
    if stat.S_ISCHR(mode):
        return "device"
    if stat.S_ISREG(mode):
        return "file"
    if mode:
        raise VideoOpenError(f"{text} is no video file (nor a camera or a URL), but a folder or a pipe")
    if text in _device_names({"win32": "dshow", "darwin": "avfoundation"}.get(sys.platform, "v4l2")):
        return "device"
    raise CameraError(
        f"no camera, file or URL {text!r}; {_found(list_cameras())}; "
        "give a number, a device, a URL such as http://host/cam.mjpg, or a video file"
    )


def _shown(text: str) -> str:
    """A source for messages: a number as ``camera 0``, a URL without its password."""
    return f"camera {text}" if text.isdecimal() else re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", text)


def _open_device(text: str, size: Size | None, fps: Fraction | None, timeout: float) -> LiveSource:
    names = _device_names("dshow") if sys.platform == "win32" else ()
    requests = device_requests(sys.platform, text, size, fps, names)
    for request in requests[:-1]:
        with contextlib.suppress(_ModeRefused):
            return _open_mode(text, request, size, fps, timeout)
    try:
        return _open_mode(text, requests[-1], size, fps, timeout)
    except _ModeRefused as error:
        raise _device_error(text, requests[-1], timeout, error.reason) from error


class _ModeRefused(Exception):
    """A camera does not have the mode that it was asked for."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _open_mode(
    text: str, request: DeviceRequest, size: Size | None, fps: Fraction | None, timeout: float
) -> LiveSource:
    """Open a camera in one mode.

    Raises:
        _ModeRefused: Another mode may do.
        CameraError, SourceStalledError: None will.
    """
    try:
        container = av.open(
            request.file, "r", format=request.format, options=request.options, timeout=(timeout, timeout)
        )
        return LiveSource(container, kind="device", name=_shown(text), size=size, fps=fps, timeout=timeout)
    except CameraError:
        raise
    except (OSError, ValueError, av.error.FFmpegError) as error:
        if getattr(error, "errno", None) in (errno.EINVAL, errno.EIO):
            raise _ModeRefused(error) from error
        raise _device_error(text, request, timeout, error) from error


def _device_error(text: str, request: DeviceRequest, timeout: float, error: Exception) -> CameraError:
    name = _shown(text) if _shown(text) == request.file else f"{_shown(text)} ({request.file})"
    code = getattr(error, "errno", None)
    if isinstance(error, av.error.ExitError):
        return SourceStalledError(f"{name} gave no picture within {timeout:g} s; is another program using it?")
    if code == errno.EACCES:
        return CameraError(f"no permission to open {name}; add yourself to the group 'video' and log in again")
    if code == errno.EBUSY:
        return CameraError(f"{name} is in use by another program; close that one first")
    if code in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return CameraError(f"no {name}; {_found(list_cameras())}; give another number, a device, a URL or a video file")
    return CameraError(f"cannot open {name}: {_reason(error)}; {_found(list_cameras())}")


def _open_url(url: str, timeout: float) -> InputContainer:
    # Not fflags=nobuffer: it throws the packets away that FFmpeg probed, with the key frame among them.
    options: dict[str, str] = {}
    if url.startswith("rtsp"):
        options["rtsp_transport"] = "tcp"  # UDP loses packets, and a picture with them
    if url.startswith("udp"):
        options |= {"overrun_nonfatal": "1", "fifo_size": "50000"}
    try:
        return av.open(url, "r", options=options, timeout=(timeout, timeout))
    except av.error.ExitError as error:
        raise SourceStalledError(
            f"{_shown(url)} did not answer within {timeout:g} s; is it switched on and is the address right?"
        ) from error
    except av.error.ProtocolNotFoundError as error:
        scheme = url.partition(":")[0]
        raise CameraError(
            f"{scheme} is no protocol of this rtstyle; it opens http, https, rtsp, rtmp, udp and tcp"
        ) from error
    except av.error.InvalidDataError as error:
        raise CameraError(f"what {_shown(url)} sends is no video") from error
    except (OSError, ValueError, av.error.FFmpegError) as error:
        raise CameraError(
            f"cannot open {_shown(url)}: {_reason(error)}; is it switched on and is the address right?"
        ) from error


def _open_file(path: str) -> InputContainer:
    try:
        return av.open(f"file:{path}", "r")  # "file:" so that a colon in the name is no protocol
    except av.error.InvalidDataError as error:
        raise VideoOpenError(f"{path} is no video, or damaged from the start") from error
    except (OSError, ValueError, av.error.FFmpegError) as error:
        raise VideoOpenError(f"cannot open {path}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What went wrong in FFmpeg's words, without the log line of another device that PyAV may add."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return reason[:1].lower() + reason[1:]


# -- The open source -----------------------------------------------------------------------------


class LiveSource:
    """An open live source: a ``FrameSource`` that also tells when each frame came. See ``open_source``.

    It is iterated once, by one thread. ``stop`` may be called from any thread and ends the iteration
    with the next picture, after ``timeout`` seconds at the latest; ``close`` only when nobody iterates.
    """

    size: Size
    rate: Fraction | None
    live = True

    def __init__(
        self,
        container: InputContainer,
        *,
        kind: Kind,
        name: str,
        size: Size | None,
        fps: Fraction | None,
        timeout: float,
    ) -> None:
        """Take over an open container and decode its first picture; close it where that fails. Use ``open_source``."""
        self.kind: Kind = kind
        self.name = name
        """For people, e.g. ``camera 0``."""
        self.notes: list[str] = []
        """What came out other than asked, one line each."""
        self.damaged = 0
        """Packets so far that could not be decoded and were left out."""
        self.paced = kind == "file" or (kind == "url" and (container.duration or 0) > 0)
        """True: a recording that is played at its own pace and may end. False: a camera, which may not."""
        self._container = container
        self._timeout = timeout
        self._stop = threading.Event()
        self._last_pts: int | None = None
        self._packet_bytes = 0
        self._pictures = self._decode()
        try:
            self._stream = self._choose_stream()
            self._first = self._first_picture()
            self._look(self._first[0], size, fps)
        except BaseException:
            container.close()
            raise

    def _choose_stream(self) -> av.VideoStream:
        cover = av.stream.Disposition.attached_pic
        streams = [stream for stream in self._container.streams.video if not stream.disposition & cover]
        if not streams:
            raise self._unusable("has no video, only sound or data")
        return streams[0]

    def _first_picture(self) -> tuple[av.VideoFrame, float]:
        try:
            return next(self._pictures)
        except StopIteration:
            raise self._unusable("holds no picture that can be decoded") from None
        except av.error.FFmpegError as error:
            if self.kind == "device":
                raise  # another mode may do
            raise self._unusable(f"cannot be decoded: {_reason(error)}") from error

    def _look(self, picture: av.VideoFrame, size: Size | None, fps: Fraction | None) -> None:
        """Set size, rate and colour by the first picture, and note what differs from the wishes."""
        self._delivered = (picture.width, picture.height)
        if self.kind == "device" and size and self._stream.codec_context.name == "rawvideo":
            # FFmpeg believes the size that it asked for, also where the V4L2 driver then took another.
            expected = picture.width * picture.height * picture.format.bits_per_pixel / 8
            if self._packet_bytes > 1.02 * expected:
                raise OSError(errno.EINVAL, f"the camera has no mode of {size}")
        own = Size(*(self._delivered[::-1] if _quarters(picture) % 2 else self._delivered))
        self.size = size if size and self.kind != "device" else own
        # MJPEG over HTTP has no clock: FFmpeg counts its pictures at 25 per second, whatever comes.
        invented = self._container.format.name == "mpjpeg"
        self.rate = None if invented else self._stream.average_rate or self._stream.guessed_rate
        self.colour = colour_of(picture, own)
        if size and size != own:
            fate = "its pictures are used as they come" if self.kind == "device" else f"they are scaled to {size}"
            self.notes.append(f"{self.name} sends pictures of {own}, not of {size}: {fate}")
        if fps and self.kind != "device":
            self.notes.append(f"{self.name} keeps its own frame rate; only a camera can be asked for {float(fps):g}")
        elif fps and self.rate and abs(float(self.rate / fps) - 1) > 0.05:
            self.notes.append(f"{self.name} gives {float(self.rate):g} frames per second, not {float(fps):g}")

    def _unusable(self, why: str) -> CameraError | VideoOpenError:
        return (VideoOpenError if self.kind == "file" else CameraError)(f"{self.name} {why}")

    def captures(self) -> Iterator[Captured]:
        """Yield frames as they come, with the moment of their arrival.

        Planes are I420 in new or decoder-owned memory that nobody else changes. ``pts`` is the source's; of a
        network camera that invents it (MJPEG over HTTP), ``Captured.at`` is the truth.

        Raises:
            CameraError: The camera or the connection went away, or changed its picture size or colour.
            SourceStalledError: No picture came for ``timeout`` seconds.
        """
        origin: float | None = None
        for picture, at in self._all_pictures():
            frame = self._frame(picture, at)
            if not self.paced:
                yield Captured(frame, at)
                continue
            moment = float(frame.pts * frame.time_base)
            now = time.perf_counter()
            # A jump of the timestamps, or a decoder that cannot keep up: go on from here.
            if origin is None or not -_LATE <= origin + moment - now <= self._timeout:
                origin = now - moment
            if self._stop.wait(max(origin + moment - now, 0)):
                return
            yield Captured(frame, origin + moment)
        if not self.paced and not self._stop.is_set():
            raise CameraError(f"{self.name} is gone: it ended the connection")

    def __iter__(self) -> Iterator[Frame]:
        return (captured.frame for captured in self.captures())

    def stop(self) -> None:
        """Let the iteration end soon; may be called from any thread."""
        self._stop.set()

    def close(self) -> None:
        """Give the device or connection back. Nobody may be iterating any more."""
        self.stop()
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _all_pictures(self) -> Iterator[tuple[av.VideoFrame, float]]:
        yield self._first
        try:
            yield from self._pictures
        except av.error.FFmpegError as error:
            raise CameraError(f"{self.name} is gone: {_reason(error)}") from error

    def _decode(self) -> Iterator[tuple[av.VideoFrame, float]]:
        seen = time.monotonic()
        for packet in self._packets():
            at = time.perf_counter()
            self._packet_bytes = packet.size
            try:
                pictures = packet.decode()
            except av.error.InvalidDataError:
                self.damaged += 1  # a packet that was lost or cut on its way; the next key frame mends it
                pictures = []
            for picture in pictures:
                if isinstance(picture, av.VideoFrame):
                    yield picture, at
                    seen = time.monotonic()
            if self._stop.is_set():
                return
            if self.kind != "file" and time.monotonic() - seen > self._timeout:
                raise SourceStalledError(f"{self.name} sends data, but no picture for {self._timeout:g} s")

    def _packets(self) -> Iterator[av.Packet[av.VideoStream]]:
        """Yield packets; wait for at most ``timeout`` seconds for each."""
        since = time.monotonic()
        while not self._stop.is_set():
            try:
                for packet in self._container.demux(self._stream):
                    yield packet
                    since = time.monotonic()
                return
            except av.error.ExitError as error:
                raise self._stalled() from error
            except av.error.BlockingIOError as error:
                if time.monotonic() - since > self._timeout:
                    raise self._stalled() from error
                time.sleep(_POLL)

    def _stalled(self) -> SourceStalledError:
        return SourceStalledError(f"{self.name} stalled: no picture for {self._timeout:g} s")

    def _frame(self, picture: av.VideoFrame, at: float) -> Frame:
        delivered = (picture.width, picture.height)
        if delivered != self._delivered:
            was, now = Size(*self._delivered), Size(*delivered)
            raise CameraError(f"{self.name} changed its picture from {was} to {now}; start again to go on")
        planes = planes_of(picture)
        colour = colour_of(picture, Size(*delivered))
        if (colour.matrix, colour.full_range) != (self.colour.matrix, self.colour.full_range):
            raise CameraError(f"{self.name} changed how its colours are coded; start again to go on")
        if quarters := _quarters(picture):
            planes = Planes(*(np.ascontiguousarray(np.rot90(plane, quarters)) for plane in planes))
        if planes.y.shape != (self.size.height, self.size.width):
            planes = _scaled(planes, self.size)
        time_base = picture.time_base or self._stream.time_base or Fraction(1, 90000)
        pts = picture.pts
        if pts is None and self.paced:
            step = 1 / ((self.rate or Fraction(25)) * time_base)
            pts = 0 if self._last_pts is None else self._last_pts + max(round(step), 1)
        elif pts is None:
            pts = round((at - self._first[1]) / time_base)
        self._last_pts = pts
        return Frame(planes, pts, time_base, self.colour)


def _quarters(picture: av.VideoFrame) -> int:
    """Quarter turns counterclockwise that put the picture upright (phones record lying and say so)."""
    return round(picture.rotation / 90) % 4


def _scaled(planes: Planes, size: Size) -> Planes:
    import cv2

    sizes = (size, size.chroma, size.chroma)
    return Planes(
        *(
            np.asarray(cv2.resize(np.ascontiguousarray(p), (s.width, s.height), interpolation=cv2.INTER_AREA), np.uint8)
            for p, s in zip(planes, sizes, strict=True)
        )
    )

"""The one place where FFmpeg opens what was given: with which protocols and formats, and how long it may wait.

FFmpeg would follow a text that is named like a video to any file and any host: HLS, DASH and concat playlists, SDP.
So those are refused; but an HLS playlist that was named as one may play what lies in its folder, or on its host.
"""

from __future__ import annotations

import http.client
import io
import re
import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import av
from av.container import InputContainer

from rtstyle.errors import VideoOpenError
from rtstyle.frame import MAX_PIXELS
from rtstyle.interrupts import Interrupted
from rtstyle.video.hwaccel import accelerator
from rtstyle.video.remote import Web, WebFile

_REFERRING = ("concat", "dash", "hls", "imf", "lavfi", "rtp", "rtsp", "sap", "sdp", "tty", "webm_dash_manifest")
"""FFmpeg's demuxers that open other files or hosts than the one that was given, or draw text."""

_PROTOCOLS: Mapping[str, str] = {
    "file": "file",
    "pipe": "pipe",
    "http": "http,httpproxy,tcp",
    "https": "https,httpproxy,tls,tcp",
    "rtsp": "rtp,udp,tcp,http",
    "rtsps": "rtp,udp,tcp,tls,http",
    "rtmps": "rtmps,tls,tcp",
    "rtp": "rtp,udp",
}
"""Protocols that an address of a scheme may use; one that is not here may use itself, UDP and TCP."""

_EVERYTHING = "file,http,https,httpproxy,tcp,tls,crypto,data,udp,rtp"
"""Protocols where playlists are allowed to lead anywhere."""

AV_ERRORS = (av.FFmpegError, OSError, ValueError)
"""What PyAV raises where FFmpeg or the system refuses something; ``errors.reason_of`` says why."""

_PATIENCE = 10.0
"""Seconds that a step of an address may take, and for which a playlist may not grow, unless something else is asked."""

_LONGEST_PLAYLIST, _LONGEST_LINE = 1 << 24, 4000
"""Bytes of a playlist and of a line of it that are read; FFmpeg cuts longer lines, also within a character."""

_HEADS = {b"#EXTM3U": "HLS", b"ffconcat": "concat", b"<?xml": "DASH or XML", b"v=0": "SDP", b"<MPD": "DASH"}


def open_media(
    place: str | Any,
    *,
    format: str | None = None,
    options: Mapping[str, str] | None = None,
    timeout: float | None = None,
    hwaccel: str | None = None,
    playlists: bool = False,
) -> InputContainer:
    """Open a file (``file:PATH``), an address, ``pipe:0`` or an object with ``read`` for demuxing.

    Args:
        format: FFmpeg's name, where it is not to be guessed.
        options: More of FFmpeg's options.
        timeout: Seconds that opening, and each further read, may take; None where it is a file.
        hwaccel: Hardware that decodes its video, known to work.
        playlists: True lets playlists lead to any file and host.

    Raises:
        VideoOpenError: It is a playlist, or one that leads elsewhere.
        av.FFmpegError, OSError, ValueError: As ``av.open``.
    """
    address = place if isinstance(place, str) else "pipe:"
    scheme = address.partition(":")[0].lower() if ":" in address else "file"
    named = is_named_playlist(address)
    settings = {"max_pixels": str(MAX_PIXELS), **(options or {}), **_limits(address, scheme, named, playlists)}
    guard = _Within(address, timeout or _PATIENCE) if named and not playlists else None
    opened: Callable[..., InputContainer] = partial(
        av.open,
        mode="r",
        format=format,
        options=settings,
        **_ANY_METADATA,
        timeout=None if timeout is None else (timeout, timeout),
        hwaccel=accelerator(hwaccel) if hwaccel else None,
    )
    try:
        return opened(place, io_open=guard)
    except Interrupted as error:
        raise KeyboardInterrupt from error
    except AV_ERRORS as error:
        if guard and guard.refused:
            raise VideoOpenError(guard.refused) from error
        if "max_redirects" in settings and not guard and (moved := _redirected(address, timeout or _PATIENCE)):
            return _open_moved(opened, *moved, address)
        if not playlists and isinstance(error, av.error.ArgumentError) and (kind := _playlist_kind(address)):
            raise VideoOpenError(
                f"{address.removeprefix('file:')} is a playlist ({kind}), which may lead to any file or host; "
                "--allow-playlist follows it"
            ) from error
        raise


def _limits(address: str, scheme: str, named: bool, playlists: bool) -> dict[str, str]:
    """Return the options of FFmpeg that keep an input from leading elsewhere; ``named``: its name is a playlist's."""
    if playlists:
        return {"protocol_whitelist": _EVERYTHING, "format_whitelist": _formats(_REFERRING[-4:])}
    settings = {"protocol_whitelist": _PROTOCOLS.get(scheme, f"{scheme},udp,tcp")}
    own = {"rtsp": ("rtsp", "rtp", "sdp"), "rtsps": ("rtsp", "rtp", "sdp"), "rtp": ("rtp", "sdp")}.get(scheme, ())
    allowed = (*own, "hls") if named else own
    settings["format_whitelist"] = _formats(tuple(name for name in _REFERRING if name not in allowed))
    if scheme in ("http", "https"):
        settings["max_redirects"] = "0"  # FFmpeg would follow one into the machine's own network
    if named:  # FFmpeg's own connections are not checked
        settings |= {"http_persistent": "0", "http_multiple": "0"}
        if address.startswith("file:"):
            settings["live_start_index"] = "0"  # one without an end begins at its begin, not near where it ends
    return settings


_ANY_METADATA: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
"""Lets metadata be no UTF-8; PyAV 19 has no such argument and always replaces what is none."""


def open_device(
    file: str, *, format: str, options: Mapping[str, str] | None = None, timeout: float | None = None
) -> InputContainer:
    """Open a camera, screen or microphone: devices are FFmpeg's formats, and no file or host is involved.

    Raises:
        av.FFmpegError, OSError, ValueError: As ``av.open``.
    """
    times = None if timeout is None else (timeout, timeout)
    return av.open(file, "r", format=format, options=dict(options or {}), timeout=times)


@cache
def _formats(refused: tuple[str, ...]) -> str:
    return ",".join(sorted(name for name in av.formats_available if name not in refused))


def _redirected(address: str, timeout: float) -> tuple[Web, str] | None:
    """Follow the redirects of an address; None where there are none, or nothing answers.

    Raises:
        VideoOpenError: One leads from a host of the internet to this machine or its network, or to a playlist.
    """

    def refused(url: str) -> str:
        return "" if urlsplit(url).scheme in ("http", "https") else f"it leads to {url[:200]}, no address of http"

    web = Web(refused, timeout)
    try:
        with web.open(address, 0) as answer:
            moved = str(answer.url)
    except (OSError, ValueError, http.client.HTTPException) as error:
        if web.refused:
            raise VideoOpenError(f"{address} is not followed: {web.refused}; give that address itself") from error
        return None
    if is_named_playlist(moved):
        raise VideoOpenError(f"{address} leads to a playlist, {moved[:200]}: give that address itself")
    return (web, moved) if moved != address else None


def _open_moved(opened: Callable[..., InputContainer], web: Web, moved: str, address: str) -> InputContainer:
    """Open where redirects led to. Each connection is checked again, since a name may stand for another host by then.

    Args:
        opened: Opens an address by PyAV.

    Raises:
        VideoOpenError: It is in this machine's own network by now.
        av.FFmpegError, OSError, ValueError: As ``av.open``.
    """

    def io_open(url: str, flags: int, options: Mapping[str, str]) -> WebFile:
        if url != moved:
            raise PermissionError(f"{moved} leads to {url[:200]}")
        return WebFile(web, url)

    try:
        return opened(moved, io_open=io_open)
    except AV_ERRORS as error:
        if web.refused:
            raise VideoOpenError(f"{address} is not followed: {web.refused}; give that address itself") from error
        raise


def is_named_playlist(address: str) -> bool:
    """Say whether a file or an address of http is named as an HLS playlist is."""
    name = address.removeprefix("file:") if address.startswith("file:") else urlsplit(address).path
    return address.startswith(("file:", "http:", "https:")) and name.lower().endswith((".m3u8", ".m3u"))


def _playlist_kind(address: str) -> str | None:
    """Return which playlist a file is; an address that was refused is taken for one."""
    if not address.startswith("file:"):
        return "of any kind" if address.startswith(("http:", "https:")) else None
    try:
        with Path(address.removeprefix("file:")).open("rb") as file:
            head = file.read(64).lstrip()
    except OSError:
        return None
    return next((kind for begin, kind in _HEADS.items() if head.startswith(begin)), None)


class _Within:
    """Opens what an HLS playlist names, where it is in the playlist's folder or on its host; ``io_open`` of PyAV."""

    def __init__(self, address: str, timeout: float) -> None:
        self.refused = ""
        """Why the last thing was not opened."""
        self._address, self._timeout = address, timeout
        self._folder = Path(address.removeprefix("file:")).resolve().parent if address.startswith("file:") else None
        self._web = Web(self._elsewhere, timeout)
        self._failed = False
        self._seen: dict[str, tuple[bytes, float]] = {}
        """Of each playlist its bytes, and when they were first seen."""

    def __call__(self, url: str, flags: int, options: Mapping[str, str]) -> IO[bytes] | Any:
        try:
            return self._playlist(url, self._opened(url))
        except Exception:
            if self._failed:  # FFmpeg tries the next segment, and PyAV prints an error that it cannot pass on
                return io.BytesIO()
            self._failed = True
            raise

    def _opened(self, url: str) -> IO[bytes] | Any:
        if self._folder is not None:
            path = Path(url.removeprefix("file:")).resolve()
            if "://" not in url and path.is_relative_to(self._folder) and path.is_file():
                return path.open("rb")
        elif not self._elsewhere(url):
            try:
                return self._web.open(url)
            except OSError:
                self.refused = self._web.refused
                raise
        self.refused = self._elsewhere(url)
        raise PermissionError(self.refused)

    def _playlist(self, url: str, file: Any) -> IO[bytes] | Any:
        """Read a playlist as a whole; return anything else as it is.

        One of a file that is not ended, as that of a recording that was broken off, counts as ended when it has not
        grown for a while.

        Raises:
            ValueError: Its names are not those of files.
            PermissionError: Its segments are encrypted.
        """
        if not file.peek(7).startswith(b"#EXTM3U"):
            return file
        with file:
            data = file.read(_LONGEST_PLAYLIST)
        if any(len(line) > _LONGEST_LINE for line in data.splitlines()) or b"\0" in data:
            raise ValueError("the playlist is damaged: it has lines that are no names")
        data.decode()
        if method := re.search(rb"^#EXT-X-KEY:.*METHOD=(?!NONE)([A-Z0-9-]+)", data, re.MULTILINE):
            name = self._address.removeprefix("file:")
            self.refused = (
                f"{name} is encrypted ({method[1].decode()}); --allow-playlist reads its key, where it is given"
            )
            raise PermissionError(self.refused)
        then, since = self._seen.get(url, (b"", 0.0))
        if self._folder is None or data != then:
            self._seen[url] = data, time.monotonic()
        elif time.monotonic() - since > self._timeout:
            return io.BytesIO(data.rstrip() + b"\n#EXT-X-ENDLIST\n")
        return io.BytesIO(data)

    def _elsewhere(self, url: str) -> str:
        """Return why an address is not opened; empty where it has the playlist's host, port and scheme, or https."""
        own, other = urlsplit(self._address), urlsplit(url)
        inside = self._folder is None and (other.scheme, other.netloc) in (
            (own.scheme, own.netloc), ("https", own.hostname),
        )  # fmt: skip
        where = "its host" if self._folder is None else "its folder"
        name = self._address.removeprefix("file:")
        return "" if inside else f"{name} leads out of {where}, to {url[:200]}; --allow-playlist follows it"

"""What may be given as an input - a file, a folder or pattern of images, a URL, ``-`` - and how it is opened."""

from __future__ import annotations

import errno
import os
import re
import select
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
from av.container import InputContainer

from rtstyle.errors import SettingError, VideoOpenError, VideoStalledError, check_seconds, reason_of
from rtstyle.files import natural_order
from rtstyle.interrupts import Interrupted
from rtstyle.video.opening import open_media
from rtstyle.video.pipe import Pipe

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".tga", ".dpx", ".exr")
"""Extensions of the images of a folder that are taken as a sequence."""

_STILLS = ("_pipe", "image2")
_STILL_BRANDS = ("avif", "heic", "mif1")
_FORMATS = {"y4m": "yuv4mpegpipe", "mkv": "matroska", "ts": "mpegts"}
"""Usual names of formats where FFmpeg has others."""

_NUMBER = re.compile(r"%0?(\d*)d")

InputKind = Literal["file", "url", "stdin", "images", "webp"]


@dataclass(frozen=True)
class Input:
    """One input, found but not opened."""

    kind: InputKind
    name: str
    """Text to show; a URL comes without its password."""
    address: str
    """For FFmpeg; of several images, the first."""
    images: tuple[Path, ...] = ()
    """The images of a sequence in their order."""
    notes: tuple[str, ...] = ()
    timeout: float = 10.0
    """Seconds that the network may let us wait, each time."""
    format: str | None = None
    """FFmpeg's name of the format, where it is not to be guessed."""
    playlists: bool = False
    """It may be a playlist that leads to any file or host."""
    pipe: Pipe | None = None
    """What is read instead of ``address``; one that is read once."""

    @property
    def seekable(self) -> bool:
        """It can be opened a second time, and from the beginning."""
        return self.kind in ("file", "images", "webp")

    def open(self, hwaccel: str | None = None) -> InputContainer:
        """Open it for demuxing; each call is a fresh start.

        Args:
            hwaccel: Hardware that decodes its video, known to work (``hwaccel_problem``); None: software.

        Raises:
            VideoOpenError: In one line, what is there and what was expected.
            VideoStalledError: The network did not answer in time.
        """
        options = {}
        if self.address.startswith("rtsp"):
            options["rtsp_transport"] = "tcp"  # UDP loses packets, and a frame with them
        try:
            return open_media(
                self.pipe or self.address,
                format=self.format,
                options=options,
                timeout=self.timeout if self.kind == "url" else None,
                hwaccel=hwaccel,
                playlists=self.playlists,
            )
        except VideoOpenError:
            raise
        except FileNotFoundError as error:
            raise VideoOpenError(f"no such file: {self.name}") from error
        except PermissionError as error:
            raise VideoOpenError(f"no permission to read {self.name}") from error
        except av.error.ExitError as error:
            raise self.stalled(f"did not answer within {self.timeout:g} s") from error
        except (av.FFmpegError, OSError, ValueError, MemoryError) as error:
            raise VideoOpenError(self._why_not(error)) from error

    def stalled(self, what: str) -> VideoStalledError:
        """The error for a network source that keeps us waiting."""
        return VideoStalledError(f"{self.name} {what}: is the address right, and is it still sending?")

    def _why_not(self, error: Exception) -> str:
        if isinstance(error, av.error.ProtocolNotFoundError):
            scheme = self.address.partition(":")[0]
            return f"{self.name}: this FFmpeg knows no {scheme} (http, https, rtsp, rtmp, udp and tcp it does)"
        if self.kind == "url":
            return f"{self.name} cannot be read as a video: {reason_of(error)}"
        if self.kind == "stdin":
            given = f"no {self.format}" if self.format else "no format that a pipe can carry, as y4m, mkv, ts, nut"
            return f"{self.name} cannot be read as a video: {reason_of(error)} ({given}, or nothing came)"
        if self.kind == "file" and is_encrypted(Path(self.name)):
            return f"{self.name} is encrypted, and cannot be read without its key"
        with suppress(OSError):
            if os.path.getsize(self.name) == 0:
                return f"{self.name} is empty (0 bytes), so there is no video in it"
        if getattr(error, "errno", None) == errno.ENOMEM:
            return f"{self.name} cannot be read as a video: it asks for more memory than there is (a damaged header?)"
        return f"{self.name} cannot be read as a video: {reason_of(error)} (no media file, or cut off before its index)"

    def is_still(self, container: InputContainer) -> bool:
        """Whether what was opened is one still image."""
        name, brand = container.format.name, container.metadata.get("major_brand", "")
        return self.kind == "file" and (name.endswith(_STILLS) or brand in _STILL_BRANDS)


_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def check_exists(source: Path | str) -> None:
    """Raise VideoOpenError for the path of a file or folder that is not there; URLs, patterns and ``-`` pass."""
    path = Path(source)
    if str(source) == "-" or (isinstance(source, str) and _URL.match(source)) or _NUMBER.search(path.name):
        return
    if not os.path.lexists(path):
        raise VideoOpenError(f"cannot open {source}: there is no such file or folder")


def find_input(
    source: Path | str, *, timeout: float = 10.0, muxer: str | None = None, playlists: bool = False
) -> Input:
    """Return what was given as an input.

    Args:
        source: A file, a folder of images, a pattern of them (``frames/%05d.png``), a URL, or ``-``.
        timeout: Seconds that the network may let us wait, each time.
        playlists: Whether a playlist may lead to any file or host, see ``opening``.
        muxer: The format of the input, where FFmpeg cannot or should not guess it, e.g. ``y4m``.

    Raises:
        VideoOpenError: A folder or a pattern without images, or a terminal instead of a pipe.
        SettingError: ``timeout`` is not above 0, or there is no such format.
    """
    check_seconds("a timeout", timeout)
    format = _FORMATS.get(muxer, muxer) if muxer else None
    if format is not None:
        try:
            av.format.ContainerFormat(format, "r")
        except ValueError as error:
            raise SettingError(f"there is no input format {muxer!r}; for example y4m, mkv, ts, nut, mp4") from error
    text = str(source)
    if text == "-":
        if sys.stdin is not None and sys.stdin.isatty():
            raise VideoOpenError("- is stdin, and that is a terminal: pipe a video into it, as in ffmpeg ... | rtstyle")
        pipe = Pipe(0, None) if hasattr(select, "poll") else None  # FFmpeg's own reading of pipes hears no signal
        return Input("stdin", "stdin", "pipe:0", format=format, pipe=pipe)
    if isinstance(source, str) and _URL.match(text):
        shown = re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", text)
        return Input("url", shown, text, timeout=timeout, format=format, playlists=playlists)
    path = Path(source)
    if path.is_dir():
        return _folder(path)
    if _NUMBER.search(path.name) and not path.exists():
        return _pattern(path)
    if path.is_fifo():
        return _named_pipe(path, timeout, format)
    kind: InputKind = "webp" if _is_animated_webp(path) else "file"
    # "file:", so that a colon in a name is no protocol
    return Input(kind, text, f"file:{path}", format=format, playlists=playlists)


def _named_pipe(path: Path, timeout: float, format: str | None) -> Input:
    """Wait for the first byte in a named pipe: FFmpeg would wait for a writer for ever, and no signal ends that.

    Raises:
        VideoStalledError: None came in time.
        VideoOpenError: The pipe may not be read.
    """
    try:
        pipe = Pipe.named(path, None)
    except OSError as error:
        raise VideoOpenError(f"cannot open {path}: {reason_of(error)}") from error
    try:
        came = pipe.wait(min(timeout, 86400.0))
    except Interrupted as error:
        raise KeyboardInterrupt from error
    if not came:
        pipe.close()
        raise VideoStalledError(
            f"nothing came through the pipe {path} for {timeout:g} s: does a program write into it?"
        )
    return Input("stdin", str(path), "pipe:", format=format, pipe=pipe)


_EDGE = 1 << 20
"""Bytes at either end of a file in which its header lies."""


def is_encrypted(path: Path) -> bool:
    """Return whether a header says that samples are encrypted: mp4 (CENC, FairPlay), Matroska, MPEG-TS, DVD."""
    with suppress(OSError), path.open("rb") as file:
        data = file.read(_EDGE)
        if data[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide"):
            file.seek(max(0, path.stat().st_size - _EDGE))
            return bool(re.search(rb"encv|enca|drmi|drms|pssh", data + file.read()))
        if data[:4] == b"\x1a\x45\xdf\xa3":  # ContentEncodings with ContentEncryption
            return bool(re.search(rb"\x6d\x80.{1,16}\x62\x40.{1,64}\x50\x35", data, re.DOTALL))
        if data[:1] == b"\x47" and data[188:189] == b"\x47":
            heads = data[3::188]
            return sum(head & 0xC0 != 0 for head in heads) > len(heads) // 4
        if data[:4] == b"\0\0\1\xba":  # a video pack's header states whether it is scrambled
            packs = [match.end() for match in re.finditer(rb"\0\0\1\xe0..", data, re.DOTALL)]
            return any(data[at : at + 1] and data[at] & 0x30 == 0x10 for at in packs)
    return False


def _folder(path: Path) -> Input:
    images = [entry for entry in path.iterdir() if entry.suffix.lower() in IMAGES and entry.is_file()]
    if not images:
        raise VideoOpenError(f"{path} is a folder without images; give a video, or a folder of {', '.join(IMAGES)}")
    images = [entry for entry in images if not entry.name.startswith(".")] or images
    images.sort(key=lambda path: natural_order(path.name))
    return Input("images", str(path), f"file:{images[0]}", tuple(images))


def _pattern(path: Path) -> Input:
    before, digits, after = _split(path.name)
    shape = re.compile(rf"{re.escape(before)}(\d{{{digits or 1},}}){re.escape(after)}", re.ASCII)
    found: dict[int, Path] = {}
    if path.parent.is_dir():
        for entry in path.parent.iterdir():
            if match := shape.fullmatch(entry.name):
                found.setdefault(int(match[1]), entry)
    if not found:
        raise VideoOpenError(f"no image fits {path} (a number stands where %d is, as in {before}00001{after})")
    numbers = sorted(found)
    missing = numbers[-1] - numbers[0] + 1 - len(numbers)
    notes = (f"{missing} numbers of {path.name} are missing; the frames follow each other all the same",)
    images = tuple(found[number] for number in numbers)
    return Input("images", str(path), f"file:{images[0]}", images, notes if missing else ())


def _split(name: str) -> tuple[str, int, str]:
    match = _NUMBER.search(name)
    assert match is not None
    return name[: match.start()], int(match[1] or 0), name[match.end() :]


def _is_animated_webp(path: Path) -> bool:
    with suppress(OSError), path.open("rb") as file:
        head = file.read(21)
        return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and len(head) == 21 and bool(head[20] & 2)
    return False

"""What may be given as a live source, and which kind of source it is."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rtstyle.camera.devices import find_camera, found, list_cameras
from rtstyle.camera.screen import SCREEN
from rtstyle.errors import CameraError, VideoOpenError
from rtstyle.video.inputs import IMAGES, find_input

AddressKind = Literal["device", "screen", "url", "pipe", "file", "images"]


@dataclass(frozen=True)
class SourceAddress:
    """A source, recognized but not opened."""

    kind: AddressKind
    text: str
    """As it was given; a camera that was given by its name, as that of its device."""
    name: str
    """Text to show, e.g. ``camera 0``; a URL without its password."""
    images: tuple[Path, ...] = ()

    @property
    def recorded(self) -> bool:
        """True: it is on the disk and cannot vanish as a camera does."""
        return self.kind in ("file", "images")


def find_source(source: str | int | Path) -> SourceAddress:
    """Recognize a camera, screen, URL, pipe, file or folder.

    Raises:
        CameraError: Nothing is called so.
        VideoOpenError: A folder without images, or something else on the disk that holds no video.
    """
    text = str(source).strip()
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text):
        return SourceAddress("url", text, re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", text))
    if SCREEN.fullmatch(text):
        return SourceAddress("screen", text, "the screen")
    if text.isdecimal():
        return SourceAddress("device", text, f"camera {text}")
    if text.startswith(("/dev/", "video=")):
        return SourceAddress("device", text, text)
    try:
        mode = os.stat(text).st_mode
    except (OSError, ValueError):
        mode = 0
    if stat.S_ISCHR(mode):
        return SourceAddress("device", text, text)
    if stat.S_ISFIFO(mode):
        return SourceAddress("pipe", text, text)
    if stat.S_ISDIR(mode) or (not mode and re.search(r"%0?\d*d", os.path.basename(text))):
        return SourceAddress("images", text, text, find_input(text).images)
    if stat.S_ISREG(mode):
        still = Path(text).suffix.lower() in IMAGES and os.path.getsize(text) > 0
        return SourceAddress("images", text, text, (Path(text),)) if still else SourceAddress("file", text, text)
    if mode:
        raise VideoOpenError(f"{text} is no video file, nor a camera, a pipe or a folder of images")
    camera = find_camera(text)
    if camera is None:
        raise CameraError(
            f"no camera, file or URL {text!r}; {found(list_cameras())}; give a number, a device or its name, "
            "screen:, a URL such as http://host/cam.mjpg, a video file or a folder of images"
        )
    return SourceAddress("device", camera, text)

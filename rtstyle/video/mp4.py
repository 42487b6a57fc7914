"""Boxes of ISO base media (mp4, mov) in a finished file: the description of its video can be given more of them."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_MOST = 1 << 28
"""Bytes of the longest index (moov) that is rewritten."""

_TO_STSD = (b"trak", b"mdia", b"minf", b"stbl")
_VISUAL = 86
"""Bytes of a visual sample entry before its boxes, with its own head."""


def box(kind: bytes, content: bytes) -> bytes:
    """Write a box."""
    return (8 + len(content)).to_bytes(4, "big") + kind + content


def add_to_video(path: Path, boxes: bytes) -> bool:
    """Append boxes to the sample description of the first video track; the file is written again, and replaced.

    Returns:
        False: the file has no index that is understood; it is as it was.

    Raises:
        OSError: The file cannot be read, or the disk is full.
    """
    with path.open("rb") as file:
        place = _find_index(file)
        if place is None:
            return False
        begin, end = place
        file.seek(begin)
        index = file.read(end - begin)
        grown = _in_first_video(index, boxes)
        if grown is None:
            return False
        by = len(grown) - len(index)
        file.seek(end)
        if file.read(1):  # what comes behind the index moves with it
            moved = _with_offsets(grown, begin, by)
            if moved is None:
                return False
            grown = moved
        part = path.with_name(f".{path.name[:60]}.{secrets.token_hex(8)}.part")
        try:
            with part.open("xb") as target:
                file.seek(0)
                _copy(file, target, begin)
                target.write(grown)
                file.seek(end)
                shutil.copyfileobj(file, target, 1 << 20)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    return True


def _copy(source: IO[bytes], target: IO[bytes], size: int) -> None:
    while size > 0:
        data = source.read(min(size, 1 << 20))
        if not data:
            return
        target.write(data)
        size -= len(data)


def _find_index(file: IO[bytes]) -> tuple[int, int] | None:
    at, length = 0, file.seek(0, os.SEEK_END)
    while at + 8 <= length:
        file.seek(at)
        head = file.read(16)
        size = int.from_bytes(head[:4], "big")
        if size == 1 and len(head) == 16:
            size = int.from_bytes(head[8:], "big")
        if size < 8:
            return None
        if head[4:8] == b"moov":
            return (at, at + size) if size <= min(_MOST, length - at) else None
        at += size
    return None


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of the boxes in the content of another.

    Raises:
        ValueError: A length is damaged, or one of 64 bits.
    """
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size < 8 or at + size > len(data):
            raise ValueError("a box with a damaged length")
        yield data[at + 4 : at + 8], data[at + 8 : at + size]
        at += size


def _in_first_video(index: bytes, boxes: bytes) -> bytes | None:
    done = False

    def in_track(content: bytes, way: tuple[bytes, ...]) -> bytes:
        made = b""
        for kind, inner in _boxes(content):
            if way and kind == way[0]:
                inner = in_track(inner, way[1:])
            elif not way and kind == b"stsd":
                inner = in_descriptions(inner)
            made += box(kind, inner)
        return made

    def in_descriptions(content: bytes) -> bytes:
        nonlocal done
        size = int.from_bytes(content[8:12], "big")
        if size < _VISUAL or 8 + size > len(content):
            return content
        done = True
        return (
            content[:8] + (size + len(boxes)).to_bytes(4, "big") + content[12 : 8 + size] + boxes + content[8 + size :]
        )

    made = b""
    try:
        for kind, inner in _boxes(index[8:]):
            if kind == b"trak" and not done and b"vmhd" in inner[:8192]:
                inner = in_track(inner, _TO_STSD[1:])
            made += box(kind, inner)
    except ValueError:
        return None
    return box(b"moov", made) if done else None


def _with_offsets(index: bytes, begin: int, by: int) -> bytes | None:
    """Move the places of samples that lie behind the index."""

    def moved(kind: bytes, content: bytes) -> bytes:
        if kind in (b"moov", *_TO_STSD):
            return b"".join(box(k, moved(k, c)) for k, c in _boxes(content))
        width = {b"stco": 4, b"co64": 8}.get(kind)
        if width is None:
            return content
        made = content[:8]
        for at in range(8, len(content) - width + 1, width):
            place = int.from_bytes(content[at : at + width], "big")
            made += (place + by * (place >= begin)).to_bytes(width, "big")
        return made

    try:
        return box(b"moov", moved(b"moov", index[8:]))
    except (ValueError, OverflowError):
        return None

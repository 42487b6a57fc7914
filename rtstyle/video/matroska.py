"""Headers of finished Matroska and WebM files (RFC 9559), changed in place."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

from rtstyle.video.ebml import children, element, elements

_HEADER = 1 << 20
"""Bytes of a file in which its header ends."""

_SEGMENT, _SEEK_HEAD, _SEEK, _SEEK_POSITION = 0x18538067, 0x114D9B74, 0x4DBB, 0x53AC
_VOID, _CRC, _TRACKS, _TRACK, _VIDEO, _CLUSTER = 0xEC, 0xBF, 0x1654AE6B, 0xAE, 0xE0, 0x1F43B675

Change = Callable[[bytes], bytes]


def change_video_of(path: Path, change: Change) -> bool:
    """Change a finished file by ``change_video``; False: it cannot be, and is as it was.

    Raises:
        OSError: The file cannot be read or written.
    """
    with path.open("r+b") as file:
        header = file.read(_HEADER)
        changed = change_video(header, change)
        if changed is None or len(changed) != len(header):
            return False
        file.seek(0)
        file.write(changed)
    return True


def change_video(header: bytes, change: Change) -> bytes | None:
    """Change what a header says of the first track of video, in place.

    The list of tracks grows at the cost of the gap that the muxer leaves before it; nothing behind it moves.

    Args:
        header: The first bytes of a file.
        change: Takes the content of the element Video, and returns another.

    Returns:
        None: there is no room, or the header is not understood.
    """
    places: dict[int, tuple[int, int, int]] = {}
    segment = next((content for kind, _, content, _ in elements(header, 0, len(header)) if kind == _SEGMENT), 0)
    for kind, begin, content, end in elements(header, segment, len(header)):
        if kind == _CLUSTER or end > len(header):
            break
        places.setdefault(kind, (begin, content, end))
    if not {_SEEK_HEAD, _VOID, _TRACKS} <= places.keys() or places[_VOID][0] > places[_TRACKS][0]:
        return None
    (gap, _, behind_gap), (begin, content, end) = places[_VOID], places[_TRACKS]
    tracks = element(_TRACKS, _with_video(header[content:end], change))
    spare = end - begin - len(tracks)  # muxers write lengths wider than they need to be
    if spare == 1:
        tracks = element(_TRACKS, _with_video(header[content:end], change), wider=1)
    elif spare > 1:
        tracks += _gap(spare)
    grown = len(tracks) - (end - begin)
    room = behind_gap - gap - grown
    if room < 2:
        return None
    _, content, seek_end = places[_SEEK_HEAD]
    seeks = _shifted_seek_head(header[content:seek_end], behind_gap - segment, begin - segment, grown)
    return (
        header[:content] + seeks + header[seek_end:gap] + _gap(room) + header[behind_gap:begin] + tracks + header[end:]
    )


def _with_video(tracks: bytes, change: Change) -> bytes:
    """Return the content of Tracks with what ``change`` makes of the first track of video."""
    done, kept = False, b""
    for kind, data in children(tracks):
        if kind == _TRACK and not done and any(child == _VIDEO for child, _ in children(data)):
            done = True
            data = b"".join(
                element(child, change(inner) if child == _VIDEO else inner) for child, inner in children(data)
            )
        if kind != _CRC:
            kept += element(kind, data)
    return _with_crc(kept, tracks)


def _shifted_seek_head(seek_head: bytes, low: int, high: int, by: int) -> bytes:
    """Return the content of a SeekHead whose places from ``low`` to ``high`` lie ``by`` bytes earlier."""
    kept = b""
    for kind, data in children(seek_head):
        if kind == _SEEK:
            parts = list(children(data))
            for number, (part, value) in enumerate(parts):
                place = int.from_bytes(value, "big")
                if part == _SEEK_POSITION and low <= place <= high:
                    parts[number] = (part, (place - by).to_bytes(len(value), "big"))
            data = b"".join(element(part, value) for part, value in parts)
        if kind != _CRC:
            kept += element(kind, data)
    made = _with_crc(kept, seek_head)
    return made if len(made) == len(seek_head) else seek_head


def _with_crc(content: bytes, like: bytes) -> bytes:
    has = next(children(like), (0, b""))[0] == _CRC
    return element(_CRC, zlib.crc32(content).to_bytes(4, "little")) + content if has else content


def _gap(size: int) -> bytes:
    if size < 9:
        return bytes([_VOID, 0x80 | (size - 2)]) + bytes(size - 2)
    return bytes([_VOID, 1]) + (size - 9).to_bytes(7, "big") + bytes(size - 9)

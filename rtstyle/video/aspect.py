"""The shape of pixels, written into finished headers: PyAV states it in the codec, which not every container reads."""

from __future__ import annotations

import mmap
from fractions import Fraction
from pathlib import Path

from rtstyle.frame import Size
from rtstyle.video.ebml import children, element, number
from rtstyle.video.matroska import change_video_of

STATED = ("mp4", "mov", "mpegts")
"""Muxers that take the shape of pixels from the codec."""

_HEADER = 1 << 20
"""Bytes of a file in which its header ends."""

_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT = 0x54B0, 0x54BA, 0x54B2
_AS_RATIO = 3
"""DisplayUnit: width and height are the two sides of the display's aspect ratio."""


def write_pixel_aspect(path: Path, muxer: str, size: Size, aspect: Fraction) -> bool:
    """State the shape of pixels in the header of a finished file, in place.

    Args:
        muxer: FFmpeg's name of its container.
        aspect: Width of a pixel over its height.

    Returns:
        False: the container has no such place, or no room for it was found; the file is as it was.

    Raises:
        OSError: The file cannot be read or written.
    """
    if muxer in ("matroska", "webm"):
        return change_video_of(path, lambda video: _with_sides(video, size, aspect))
    change = {"nut": _in_nut, "yuv4mpegpipe": _in_y4m}.get(muxer)
    return change is not None and change(path, aspect)


def _in_y4m(path: Path, aspect: Fraction) -> bool:
    with path.open("r+b") as file:
        changed = _y4m_header(file.read(_HEADER), aspect)
        if changed is None:
            return False
        file.seek(0)
        file.write(changed)
    return True


def _y4m_header(header: bytes, aspect: Fraction) -> bytes | None:
    line, _, rest = header.partition(b"\n")
    words = [word for word in line.split(b" ") if not word.startswith((b"A", b"XYSCSS="))]
    stated = b" ".join([*words, f"A{aspect.numerator}:{aspect.denominator}".encode()])
    spare = len(line) - len(stated)
    if spare < 0 or spare == 1:
        return None
    comment = b" X" + b"_" * (spare - 2) if spare else b""  # readers pass over words that begin with X
    return stated + comment + b"\n" + rest


# -- NUT ---------------------------------------------------------------------------------------------

_STREAM_STARTCODE = b"NS" + (0x11405BF2F9DB).to_bytes(6, "big")
_BEFORE_CODEC_DATA = 5
"""Numbers between a stream's fourcc and its codec's own data: time base, shift, distance, delay, flags."""


def _in_nut(path: Path, aspect: Fraction) -> bool:
    """Change the shape in each copy of the stream's header; its numbers take one byte each."""
    if max(aspect.numerator, aspect.denominator) > 127:
        return False
    changed = False
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        at = data.find(_STREAM_STARTCODE)
        while at >= 0:
            length, begin = _nut_number(data, at + 8)
            end = begin + length
            place = _nut_aspect(data, begin)
            if place and length <= 4096 and data[end - 4 : end] == _nut_checksum(data[begin : end - 4]):
                data[place : place + 2] = bytes([aspect.numerator, aspect.denominator])
                data[end - 4 : end] = _nut_checksum(data[begin : end - 4])
                changed = True
            at = data.find(_STREAM_STARTCODE, at + 8)
    return changed


def _nut_aspect(data: mmap.mmap, at: int) -> int | None:
    """Return where a stream's header says how wide a sample is; None where it is no video, or says so at length."""
    _stream, at = _nut_number(data, at)
    kind, at = _nut_number(data, at)
    length, at = _nut_number(data, at)
    at += length
    for _ in range(_BEFORE_CODEC_DATA):
        _, at = _nut_number(data, at)
    length, at = _nut_number(data, at)
    at += length
    for _ in ("width", "height"):
        _, at = _nut_number(data, at)
    return at if kind == 0 and max(data[at : at + 2]) < 128 else None


def _nut_number(data: mmap.mmap, at: int) -> tuple[int, int]:
    """Read a number of seven bits a byte, most significant first; return it and where it ends."""
    value = 0
    while True:
        value = value << 7 | data[at] & 127
        at += 1
        if data[at - 1] < 128:
            return value, at


def _nut_checksum(data: bytes) -> bytes:
    """CRC-32 of polynomial 0x04C11DB7, most significant bit first, from 0, not inverted."""
    crc = 0
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc >> 31 else 0)) & 0xFFFFFFFF
    return crc.to_bytes(4, "big")


# -- Matroska ----------------------------------------------------------------------------------------


def _with_sides(video: bytes, size: Size, aspect: Fraction) -> bytes:
    sides = (_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT)
    kept = b"".join(element(kind, data) for kind, data in children(video) if kind not in sides)
    wide, high = size.width * aspect, size.height / aspect
    if wide.denominator == 1:
        shown, unit = (int(wide), size.height), b""
    elif high.denominator == 1:
        shown, unit = (size.width, int(high)), b""
    else:
        ratio = wide / size.height
        shown, unit = (ratio.numerator, ratio.denominator), element(_DISPLAY_UNIT, bytes([_AS_RATIO]))
    return kept + element(_DISPLAY_WIDTH, number(shown[0])) + element(_DISPLAY_HEIGHT, number(shown[1])) + unit

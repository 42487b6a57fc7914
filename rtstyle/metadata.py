"""What an image file holds beside its pixels: size and kind from the header, color profile, EXIF, XMP, resolution.

Read from JPEG, PNG and WebP without decoding, and put into encoded JPEG, PNG and WebP again.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

JPEG, PNG, WEBP = "jpeg", "png", "webp"

_EXIF, _XMP, _ICC = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_XMP_KEYWORD = b"XML:com.adobe.xmp"
_SEGMENT = 65533
"""Bytes that a segment of JPEG holds."""
_PNG_COLOR = (b"cICP", b"gAMA", b"cHRM", b"sRGB")
_PNG_WORDS = (b"tEXt", b"zTXt", b"iTXt", b"tIME")
_MOST_PROFILE = 1 << 24
"""Bytes of the largest color profile that is unpacked."""


@dataclass(frozen=True)
class Metadata:
    """What stands beside the pixels of one image."""

    kind: str = ""
    """``jpeg``, ``png``, ``webp``; empty: another format, of which nothing else is known."""
    size: tuple[int, int] | None = None
    """Width and height as stored."""
    bits: int = 8
    """Of a sample."""
    animated: bool = False
    icc: bytes = b""
    """Color profile."""
    exif: bytes = b""
    """As a TIFF file."""
    xmp: bytes = b""
    dpi: tuple[int, int] | None = None
    """Pixels per inch across and down."""
    transparent: bytes = b""
    """The one sample value of a PNG without alpha that is transparent, 16 bits for each channel."""
    own: tuple[bytes, ...] = field(default=(), repr=False)
    """Whole segments or chunks that only the same format can hold: captions (IPTC), comments, color chunks."""
    gain_map: bool = False
    """A second image makes it HDR."""

    @property
    def orientation(self) -> int:
        """How the image is to be turned, 1 to 8 as in EXIF; 1: as it is stored."""
        place = _orientation_place(self.exif)
        return place[1] if place else 1

    def upright(self) -> Metadata:
        """Return it for pixels that are turned upright, without the small copy of the image that EXIF may hold."""
        exif, place = bytearray(self.exif), _orientation_place(self.exif)
        if place:
            at, _, order = place
            exif[at : at + 2] = struct.pack(order + "H", 1)
        xmp = re.sub(rb"(tiff:Orientation(?:=[\"']|>))[1-8]", rb"\g<1>1", self.xmp)
        return replace(self, exif=_without_thumbnail(exif), xmp=xmp)


def read_metadata(data: bytes) -> Metadata:
    """Read what stands beside the pixels; nothing is decoded, and a damaged file gives what can be read."""
    try:
        if data[:2] == b"\xff\xd8":
            return _read_jpeg(data)
        if data[:8] == _PNG_SIGNATURE:
            return _read_png(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _read_webp(data)
    except (struct.error, IndexError, zlib.error, ValueError):
        pass
    return Metadata()


def add_metadata(encoded: bytes, about: Metadata) -> tuple[bytes, list[str]]:
    """Put what stood beside an image's pixels into another, of 8-bit RGB, that was encoded without it.

    Returns:
        The file, and what it cannot hold, in words.
    """
    lost = []
    kind = read_metadata(encoded[:64]).kind or (JPEG if encoded[:2] == b"\xff\xd8" else "")
    if about.icc and about.icc[16:20] != b"RGB ":
        space = about.icc[16:20].decode("ascii", "replace").strip()
        lost.append(f"its color profile is for {space}, and the output is RGB: it is left out")
        about = replace(about, icc=b"")
    if about.own and about.kind != kind:
        lost.append(f"its {_own_words(about)} cannot be written to {kind}")
        about = replace(about, own=())
    if about.gain_map:
        lost.append("its gain map (HDR) is left out: the output is the SDR image")
    write = {JPEG: _write_jpeg, PNG: _write_png, WEBP: _write_webp}[kind]
    return write(encoded, about, lost), lost


def _own_words(about: Metadata) -> str:
    if about.kind == JPEG:
        return "captions (IPTC) or comment"
    kinds = {chunk[4:8] for chunk in about.own}
    words = ["color chunks (gAMA, cICP)"] if kinds & set(_PNG_COLOR) else []
    return " and ".join([*words, *(["texts"] if kinds & set(_PNG_WORDS) else [])])


# -- JPEG ------------------------------------------------------------------------------------------


def _read_jpeg(data: bytes) -> Metadata:
    found = Metadata(JPEG)
    profile: dict[int, bytes] = {}
    own = []
    for marker, content in _header_segments(data):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", content[1:5])
            found = replace(found, size=(width, height), bits=content[0])
        elif marker == 0xE0 and content[:5] == b"JFIF\0" and content[7] in (1, 2):
            unit = 1 if content[7] == 1 else 2.54
            across, down = struct.unpack(">HH", content[8:12])
            found = replace(found, dpi=(round(across * unit), round(down * unit)))
        elif marker == 0xE1 and content.startswith(_EXIF):
            found = replace(found, exif=content[len(_EXIF) :])
        elif marker == 0xE1 and content.startswith(_XMP):
            xmp = content[len(_XMP) :]
            found = replace(found, xmp=xmp, gain_map=found.gain_map or b"hdrgm:" in xmp)
        elif marker == 0xE2 and content.startswith(_ICC):
            profile[content[len(_ICC)]] = content[len(_ICC) + 2 :]
        elif marker == 0xED or (marker == 0xFE and content):
            own.append(_segment(marker, content))
    return replace(found, icc=b"".join(profile[number] for number in sorted(profile)), own=tuple(own))


def _header_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and content of the segments before the pixels."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in (0xD9, 0xDA):
            return
        length = struct.unpack(">H", data[at + 2 : at + 4])[0]
        yield marker, data[at + 4 : at + 2 + length]
        at += 2 + length


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _write_jpeg(encoded: bytes, about: Metadata, lost: list[str]) -> bytes:
    at = 2
    head = bytearray(encoded[:2])
    if encoded[2:4] == b"\xff\xe0":
        at = 4 + struct.unpack(">H", encoded[4:6])[0]
        head += encoded[2:at]
        if about.dpi:
            head[13:18] = struct.pack(">BHH", 1, *(min(value, 65535) for value in about.dpi))
    for name, content in (
        ("EXIF data", about.exif and _EXIF + about.exif),
        ("XMP data", about.xmp and _XMP + about.xmp),
    ):
        if len(content) > _SEGMENT:
            lost.append(f"its {name} is too large for JPEG")
        elif content:
            head += _segment(0xE1, content)
    room = _SEGMENT - len(_ICC) - 2
    parts = [about.icc[i : i + room] for i in range(0, len(about.icc), room)]
    for number, part in enumerate(parts, 1):
        head += _segment(0xE2, _ICC + bytes([number, len(parts)]) + part)
    return bytes(head) + b"".join(about.own) + encoded[at:]


# -- PNG -------------------------------------------------------------------------------------------


def _read_png(data: bytes) -> Metadata:
    found = Metadata(PNG)
    own = []
    for kind, content in _png_chunks(data):
        if kind == b"IHDR":
            width, height, bits = struct.unpack(">IIB", content[:9])
            found = replace(found, size=(width, height), bits=bits)
        elif kind == b"iCCP":
            packed = content[content.index(0) + 2 :]
            found = replace(found, icc=zlib.decompressobj().decompress(packed, _MOST_PROFILE))
        elif kind == b"acTL":
            found = replace(found, animated=True)
        elif kind == b"eXIf":
            found = replace(found, exif=content)
        elif kind == b"pHYs" and content[8] == 1:
            across, down = struct.unpack(">II", content[:8])
            found = replace(found, dpi=(round(across * 0.0254), round(down * 0.0254)))
        elif kind == b"tRNS" and len(content) in (2, 6):
            found = replace(found, transparent=content)
        elif kind == b"iTXt" and content.startswith(_XMP_KEYWORD + b"\0"):
            found = replace(found, xmp=_unpacked_text(content))
        elif kind in _PNG_COLOR or kind in _PNG_WORDS:
            own.append(_png_chunk(kind, content))
    return replace(found, own=tuple(own))


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind == b"IDAT":  # texts may stand behind the pixels
            at += 12 + length
            continue
        yield kind, data[at + 8 : at + 8 + length]
        at += 12 + length


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _unpacked_text(content: bytes) -> bytes:
    keyword = content.index(0)
    packed = content[keyword + 1]
    text = content[keyword + 3 :].split(b"\0", 2)[2]
    return zlib.decompressobj().decompress(text, _MOST_PROFILE) if packed else text


def _write_png(encoded: bytes, about: Metadata, lost: list[str]) -> bytes:
    behind = 8 + 25  # signature and IHDR
    color = [chunk for chunk in about.own if chunk[4:8] in _PNG_COLOR]
    made = b"".join(color)
    if about.icc:
        made += _png_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(about.icc))
    if about.dpi:
        made += _png_chunk(b"pHYs", struct.pack(">IIB", *(round(value / 0.0254) for value in about.dpi), 1))
    if about.exif:
        made += _png_chunk(b"eXIf", about.exif)
    if about.xmp:
        made += _png_chunk(b"iTXt", _XMP_KEYWORD + b"\0\0\0\0\0" + about.xmp)
    made += b"".join(chunk for chunk in about.own if chunk not in color)
    return encoded[:behind] + made + encoded[behind:]


# -- WebP ------------------------------------------------------------------------------------------


def _read_webp(data: bytes) -> Metadata:
    found = Metadata(WEBP)
    for kind, content in _riff_chunks(data):
        if kind == b"VP8X":
            width, height = (int.from_bytes(content[at : at + 3], "little") + 1 for at in (4, 7))
            found = replace(found, size=(width, height), animated=bool(content[0] & 2))
        elif kind == b"VP8 " and not found.size:
            width, height = struct.unpack("<HH", content[6:10])
            found = replace(found, size=(width & 0x3FFF, height & 0x3FFF))
        elif kind == b"VP8L" and not found.size:
            packed = int.from_bytes(content[1:5], "little")
            found = replace(found, size=((packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1))
        elif kind == b"ICCP":
            found = replace(found, icc=content)
        elif kind == b"EXIF":
            found = replace(found, exif=content.removeprefix(_EXIF))
        elif kind == b"XMP ":
            found = replace(found, xmp=content)
    return found


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at + 8 <= len(data):
        kind, length = struct.unpack("<4sI", data[at : at + 8])
        yield kind, data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _riff_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack("<4sI", kind, len(content)) + content + b"\0" * (len(content) % 2)


def _write_webp(encoded: bytes, about: Metadata, lost: list[str]) -> bytes:
    if about.dpi and not about.exif:
        lost.append("its resolution (DPI) cannot be written to webp")
    if not (about.icc or about.exif or about.xmp):
        return encoded
    size = read_metadata(encoded).size or (1, 1)
    pixels = [(kind, content) for kind, content in _riff_chunks(encoded) if kind in (b"ALPH", b"VP8 ", b"VP8L")]
    seen = any(kind == b"ALPH" or (kind == b"VP8L" and content[4] >> 4 & 1) for kind, content in pixels)
    flags = 0x20 * bool(about.icc) | 0x10 * seen | 0x08 * bool(about.exif) | 0x04 * bool(about.xmp)
    head = bytes([flags, 0, 0, 0]) + b"".join((side - 1).to_bytes(3, "little") for side in size)
    chunks = [(b"VP8X", head), (b"ICCP", about.icc), *pixels, (b"EXIF", about.exif), (b"XMP ", about.xmp)]
    body = b"WEBP" + b"".join(_riff_chunk(kind, content) for kind, content in chunks if content)
    return struct.pack("<4sI", b"RIFF", len(body)) + body


# -- EXIF ------------------------------------------------------------------------------------------


def _directory(exif: bytes | bytearray, at: int, order: str) -> dict[int, tuple[int, int]]:
    """Return place and value of the entries of a directory of TIFF; ``-1`` is the place of the next directory."""
    count = struct.unpack_from(order + "H", exif, at)[0]
    entries = {}
    for number in range(count):
        place = at + 2 + 12 * number
        tag, kind = struct.unpack_from(order + "HH", exif, place)
        value = struct.unpack_from(order + ("H" if kind == 3 else "I"), exif, place + 8)[0]
        entries[tag] = (place + 8, value)
    following = at + 2 + 12 * count
    entries[-1] = (following, struct.unpack_from(order + "I", exif, following)[0])
    return entries


def _first_directory(exif: bytes | bytearray) -> tuple[str, dict[int, tuple[int, int]]] | None:
    order = {b"II": "<", b"MM": ">"}.get(bytes(exif[:2]))
    if order is None:
        return None
    try:
        return order, _directory(exif, struct.unpack_from(order + "I", exif, 4)[0], order)
    except struct.error:
        return None


def _orientation_place(exif: bytes) -> tuple[int, int, str] | None:
    found = _first_directory(exif)
    if found is None or 0x0112 not in found[1]:
        return None
    at, value = found[1][0x0112]
    return (at, value, found[0]) if 1 <= value <= 8 else None


def _without_thumbnail(exif: bytearray) -> bytes:
    found = _first_directory(exif)
    if found is None or not found[1][-1][1]:
        return bytes(exif)
    order, entries = found
    at, second = entries[-1]
    try:
        small = _directory(exif, second, order)
    except struct.error:
        small = {}
    if 0x0201 in small and 0x0202 in small:
        begin, length = small[0x0201][1], small[0x0202][1]
        if begin + length <= len(exif):
            exif[begin : begin + length] = bytes(length)
    exif[at : at + 4] = bytes(4)
    return bytes(exif)

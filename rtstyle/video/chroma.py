"""Where chroma samples lie between luma samples in 4:2:0, as the headers of H.264, HEVC and Matroska say it.

PyAV does not show it. Only what is needed of the headers is read: ITU-T H.264, 7.3.2.1.1 and E.1.1; H.265, 7.3.2.2 and
E.2.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from rtstyle.video.ebml import children, find_top

LOCATIONS = ("left", "center", "topleft", "top", "bottomleft", "bottom")
"""FFmpeg's names, by the numbers of H.264 and HEVC; ``left`` is what is meant where nothing is stated."""

_H264_SPS, _HEVC_SPS = 7, 33
_H264_WITH_FORMAT = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
"""Profiles of H.264 whose header says the chroma format."""

_EXTENDED_SAR = 255
_MOST = 64
"""Sets, layers and entries of a list in a header that is not damaged."""


def chroma_location(codec: str, extradata: bytes | None) -> str:
    """Return FFmpeg's name of the location; ``left`` where nothing is stated, or the header is not understood.

    Args:
        codec: FFmpeg's name; of other codecs than ``h264`` and ``hevc`` nothing is known.
        extradata: Of the stream: avcC, hvcC or an Annex B header.
    """
    read = {"h264": _read_h264, "hevc": _read_hevc}.get(codec)
    if read is None or not extradata:
        return LOCATIONS[0]
    try:
        for unit in _units(codec, extradata):
            return LOCATIONS[read(_Bits(unit))]
    except (IndexError, ValueError):
        pass
    return LOCATIONS[0]


def location_of(stream: Any, path: Path | None = None) -> str:
    """Return FFmpeg's name of the location of a stream of video; ``left`` where nothing is stated.

    Args:
        path: Its file; that of Matroska says it of other codecs.
    """
    context = stream.codec_context
    if context is None:
        return LOCATIONS[0]
    if (
        context.name not in ("h264", "hevc")
        and path is not None
        and stream.container.format.name.startswith("matroska")
    ):
        return _siting(path)
    return chroma_location(context.name, context.extradata)


def is_stated(location: str, codec: str, muxer: str) -> bool:
    """Whether an output states the location that its encoder is given.

    Args:
        location, codec, muxer: FFmpeg's names of the location, the encoder and the container.
    """
    return codec in ("libx264", "libx265") or (muxer in ("matroska", "webm") and location in _SITINGS.values())


_TRACKS, _TRACK, _VIDEO, _COLOUR, _ACROSS, _DOWN = 0x1654AE6B, 0xAE, 0xE0, 0x55B0, 0x55B7, 0x55B8
_SITINGS = {(1, 2): "left", (2, 2): "center", (1, 1): "topleft", (2, 1): "top"}
"""Matroska's ChromaSitingHorz and ChromaSitingVert."""


def _siting(path: Path) -> str:
    with suppress(OSError), path.open("rb") as file:
        for kind, track in children(find_top(file, _TRACKS, 1 << 20)):
            video = dict(children(track)).get(_VIDEO) if kind == _TRACK else None
            if video is not None:
                said = dict(children(dict(children(video)).get(_COLOUR, b"")))
                across, down = (int.from_bytes(said.get(side, b""), "big") for side in (_ACROSS, _DOWN))
                return _SITINGS.get((across, down), LOCATIONS[0])
    return LOCATIONS[0]


def _units(codec: str, data: bytes) -> Iterator[bytes]:
    """Yield the sequence headers, without their heads."""
    if data[0] != 1 or data[:4] == b"\0\0\0\1":
        for unit in re.split(b"\0\0\1", data)[1:]:
            if codec == "h264" and unit[0] & 31 == _H264_SPS:
                yield unit[1:]
            if codec == "hevc" and unit[0] >> 1 & 63 == _HEVC_SPS:
                yield unit[2:]
        return
    if codec == "h264":
        at = 6
        for _ in range(data[5] & 31):
            size = int.from_bytes(data[at : at + 2], "big")
            yield data[at + 3 : at + 2 + size]
            at += 2 + size
        return
    at = 23
    for _ in range(data[22]):
        kind, count = data[at] & 63, int.from_bytes(data[at + 1 : at + 3], "big")
        at += 3
        for _ in range(count):
            size = int.from_bytes(data[at : at + 2], "big")
            if kind == _HEVC_SPS:
                yield data[at + 4 : at + 2 + size]
            at += 2 + size


class _Bits:
    """Reads a raw byte sequence bit by bit.

    Every method raises IndexError at the end.
    """

    def __init__(self, unit: bytes) -> None:
        self._data = unit.replace(b"\0\0\3", b"\0\0")
        self._at = 0

    def read(self, count: int) -> int:
        value = 0
        for at in range(self._at, self._at + count):
            value = value << 1 | self._data[at >> 3] >> (7 - (at & 7)) & 1
        self._at += count
        return value

    def skip(self, count: int) -> None:
        self._at += count

    def number(self) -> int:
        """Read an Exp-Golomb number."""
        zeros = 0
        while not self.read(1):
            zeros += 1
            if zeros > 32:
                raise ValueError("not a number")
        return (1 << zeros) - 1 + self.read(zeros)

    def signed(self) -> int:
        value = self.number()
        return (value + 1) // 2 if value & 1 else -(value // 2)

    def numbers(self, count: int) -> None:
        for _ in range(_few(count)):
            self.number()


def _few(count: int) -> int:
    if not 0 <= count <= _MOST:
        raise ValueError("a damaged header")
    return count


def _read_h264(bits: _Bits) -> int:
    profile = bits.read(8)
    bits.skip(16)
    bits.number()
    if profile in _H264_WITH_FORMAT:
        chroma = bits.number()
        if chroma == 3:
            bits.skip(1)
        bits.numbers(2)
        bits.skip(1)
        if bits.read(1):
            for index in range(12 if chroma == 3 else 8):
                if bits.read(1):
                    _skip_h264_list(bits, 16 if index < 6 else 64)
    bits.number()
    order = bits.number()
    if order == 0:
        bits.number()
    elif order == 1:
        bits.skip(1)
        bits.numbers(2)
        for _ in range(bits.number() & 255):
            bits.number()
    bits.number()
    bits.skip(1)
    bits.numbers(2)
    if not bits.read(1):
        bits.skip(1)
    bits.skip(1)
    if bits.read(1):
        bits.numbers(4)
    return _read_usability(bits)


def _skip_h264_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last


def _read_usability(bits: _Bits) -> int:
    """Read video usability information up to the location of chroma samples; both codecs begin it alike."""
    if not bits.read(1):
        return 0
    if bits.read(1) and bits.read(8) == _EXTENDED_SAR:
        bits.skip(32)
    if bits.read(1):
        bits.skip(1)
    if bits.read(1):
        bits.skip(4)
        if bits.read(1):
            bits.skip(24)
    return bits.number() if bits.read(1) else 0


def _read_hevc(bits: _Bits) -> int:
    bits.skip(4)
    layers = bits.read(3) + 1
    bits.skip(1)
    _skip_profile(bits, layers)
    bits.number()
    if bits.number() == 3:
        bits.skip(1)
    bits.numbers(2)
    if bits.read(1):
        bits.numbers(4)
    bits.numbers(2)
    order_bits = bits.number() + 4
    bits.numbers(3 * (layers if bits.read(1) else 1))
    bits.numbers(6)
    if bits.read(1) and bits.read(1):
        _skip_hevc_lists(bits)
    bits.skip(2)
    if bits.read(1):
        bits.skip(8)
        bits.numbers(2)
        bits.skip(1)
    _skip_picture_sets(bits)
    if bits.read(1):
        for _ in range(_few(bits.number())):
            bits.skip(order_bits + 1)
    bits.skip(2)
    return _read_usability(bits)


def _skip_profile(bits: _Bits, layers: int) -> None:
    bits.skip(88 + 8)
    present = [(bits.read(1), bits.read(1)) for _ in range(layers - 1)]
    if layers > 1:
        bits.skip(2 * (8 - (layers - 1)))
    for profile, level in present:
        bits.skip(88 * profile + 8 * level)


def _skip_hevc_lists(bits: _Bits) -> None:
    for size in range(4):
        for _ in range(0, 6, 3 if size == 3 else 1):
            if not bits.read(1):
                bits.number()
                continue
            if size > 1:
                bits.signed()
            bits.numbers(min(64, 1 << (4 + 2 * size)))


def _skip_picture_sets(bits: _Bits) -> None:
    """Skip the sets of reference frames, each of which may be coded as its difference to the one before."""
    deltas = 0
    for index in range(_few(bits.number())):
        if index and bits.read(1):
            bits.skip(1)
            bits.number()
            kept = 0
            for _ in range(deltas + 1):
                if bits.read(1) or bits.read(1):
                    kept += 1
            deltas = kept
            continue
        negative, positive = _few(bits.number()), _few(bits.number())
        deltas = negative + positive
        for _ in range(deltas):
            bits.number()
            bits.skip(1)

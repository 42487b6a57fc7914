"""Channels and rate of audio, as its packets state them one by one: a broadcast may change both on its way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import av
from av.stream import Stream

_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)


@dataclass(frozen=True)
class AudioShape:
    """Channels and samples per second of audio."""

    channels: int
    rate: int


def shape_of(packet: av.Packet[Any], codec: str) -> AudioShape | None:
    """Read the channels and the rate that a packet states.

    Args:
        codec: FFmpeg's name of the codec.

    Returns:
        None where the packet states nothing, as AAC in mp4 does, whose header is in the file's.
    """
    if codec == "aac" and packet.has_sidedata("new_extradata"):
        return _of_aac_config(bytes(packet.get_sidedata("new_extradata")))
    read = _READERS.get(codec)
    return read(bytes(packet)[:16]) if read and packet.size >= 8 else None


def shapes_of_header(stream: Stream) -> set[AudioShape]:
    """Return the shape that the header of AAC states; empty where there is none, as in a transport stream."""
    context = stream.codec_context
    if context is None or not needs_header(context.codec.canonical_name) or not context.extradata:
        return set()
    shape = _of_aac_config(bytes(context.extradata))
    return {shape} if shape else set()


class HeaderCheck:
    """Finds packets of AAC that contradict the one header of their stream, as a splice copied into mp4 leaves them.

    Decoders go by the header, so they do not decode such packets. Each begins with the kind of its first channels:
    a pair where the header says stereo, a single one where it says anything else (ISO/IEC 14496-3, tables 1.19, 4.85).

    Args:
        stream: Of audio.
    """

    _SINGLE, _PAIR = 0, 1
    _ENOUGH = 3
    """Packets in a row that are no chance."""
    _PLAIN = (1, 2, 3, 4, 5, 29)
    """Object types that begin so: Main, LC, SSR, LTP, SBR, PS."""

    def __init__(self, stream: Stream) -> None:
        self.since: float | None = None
        """Seconds at which the first of them is heard; None: there is none."""
        self.count = 0
        """How many there are."""
        header = bytes(stream.codec_context.extradata or b"") if stream.codec_context else b""
        shape = next(iter(shapes_of_header(stream)), None)
        self._channels = shape.channels if shape and header[0] >> 3 in self._PLAIN else None
        self._row: list[float] = []

    def look(self, data: bytes, moment: float) -> None:
        """Look at a packet that is heard at ``moment``, in seconds."""
        if self._channels is None or len(data) < 8:
            return
        wrong = self._PAIR if self._channels != 2 else self._SINGLE
        right = self._SINGLE if self._channels != 2 else self._PAIR
        kind = data[0] >> 5
        if kind == right:
            self._row.clear()
        elif kind == wrong:
            self._row.append(moment)
        if len(self._row) >= self._ENOUGH:
            self.since = self._row[0] if self.since is None else self.since
            self.count += len(self._row) if len(self._row) == self._ENOUGH else 1


def needs_header(codec: str) -> bool:
    """Return whether packets of a codec, copied into another container, rely on the one header of their stream.

    Packets of AC-3, E-AC-3 and MPEG audio carry all that a decoder needs.
    """
    return codec == "aac"


def _of_adts(head: bytes) -> AudioShape | None:
    """Read the header of AAC in a transport stream (ISO/IEC 14496-3, 1.A.2)."""
    rate, channels = head[2] >> 2 & 15, (head[2] & 1) << 2 | head[3] >> 6
    if head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return None
    return _of_aac(rate, channels)


def _of_aac_config(config: bytes) -> AudioShape | None:
    """Read an AudioSpecificConfig (ISO/IEC 14496-3, 1.6.2.1), with which FLV and mp4 state a change."""
    bits = int.from_bytes(config[:2].ljust(2, b"\0"), "big")
    return _of_aac(bits >> 7 & 15, bits >> 3 & 15) if bits >> 11 < 31 else None


def _of_aac(rate: int, channels: int) -> AudioShape | None:
    if rate >= len(_AAC_RATES) or not 0 < channels <= 7:
        return None
    return AudioShape(8 if channels == 7 else channels, _AAC_RATES[rate])


def _of_ac3(head: bytes) -> AudioShape | None:
    """Read the header of AC-3 or E-AC-3 (ETSI TS 102 366, 4.3 and E.1.2)."""
    if head[:2] != b"\x0b\x77":
        return None
    enhanced, rate = head[5] >> 3 > 10, head[4] >> 6
    if enhanced:
        mode, low = head[4] >> 1 & 7, head[4] & 1
        rates: tuple[int, ...] = (48000, 44100, 32000, (24000, 22050, 16000, 0)[head[4] >> 4 & 3])
    else:
        mode = head[6] >> 5
        skipped = 2 * ((mode & 1 and mode != 1) + bool(mode & 4) + (mode == 2))
        low = int.from_bytes(head[6:8], "big") >> (12 - skipped) & 1
        rates = (48000, 44100, 32000, 0)
    return AudioShape((2, 1, 2, 3, 3, 4, 4, 5)[mode] + low, rates[rate]) if rates[rate] else None


def _of_mpeg(head: bytes) -> AudioShape | None:
    """Read the header of MPEG audio of any layer (ISO/IEC 11172-3, 2.4.1.3)."""
    version, rate = head[1] >> 3 & 3, head[2] >> 2 & 3
    if head[0] != 0xFF or head[1] & 0xE0 != 0xE0 or version == 1 or rate == 3:
        return None
    return AudioShape(1 if head[3] >> 6 == 3 else 2, (44100, 48000, 32000)[rate] >> {3: 0, 2: 1, 0: 2}[version])


_READERS: Mapping[str, Callable[[bytes], AudioShape | None]] = {
    "aac": _of_adts,
    "ac3": _of_ac3,
    "eac3": _of_ac3,
    "mp1": _of_mpeg,
    "mp2": _of_mpeg,
    "mp3": _of_mpeg,
}

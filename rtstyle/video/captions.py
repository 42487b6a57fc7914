"""Closed captions (CEA-608 and 708) beside the frames: in FFmpeg's side data, and in H.264 and HEVC streams.

ATSC A/53 part 4, 6.2.3 says how they lie in user data, ITU-T H.264 and H.265 annex D where that goes.
"""

from __future__ import annotations

import re

import av

from rtstyle.video.samples import side_bytes_of

CARRIERS = ("libx264", "libx265", "h264_", "hevc_")
"""How the names of encoders begin whose streams carry captions."""

_MOST = 31
"""Triplets that one message holds."""


def captions_of(av_frame: av.VideoFrame) -> bytes:
    """Return the captions of a decoded frame as triplets of A/53; empty where it has none."""
    return side_bytes_of(av_frame, "A53_CC")


def with_captions(packet: bytes, triplets: bytes, *, hevc: bool) -> bytes | None:
    """Put captions into a packet of one frame, before its first slice; None where it is no byte stream (annex B).

    Args:
        triplets: Three bytes each: kind, and two of captions.
    """
    if not packet.startswith((b"\0\0\1", b"\0\0\0\1")):
        return None
    for start in re.finditer(b"\0\0\1", packet):
        head = packet[start.end()] if start.end() < len(packet) else 0
        kind = head >> 1 & 63 if hevc else head & 31
        if kind < 32 if hevc else kind in (1, 2, 5):
            at = start.start() - (start.start() > 0 and packet[start.start() - 1] == 0)
            units = [_unit(triplets[i : i + 3 * _MOST], hevc) for i in range(0, len(triplets), 3 * _MOST)]
            return packet[:at] + b"".join(units) + packet[at:]
    return None


def _unit(triplets: bytes, hevc: bool) -> bytes:
    """Return one SEI unit with its start code."""
    data = b"\xb5\0\x31GA94\x03" + bytes([0xC0 | len(triplets) // 3, 0xFF]) + triplets + b"\xff"
    message = bytes([4, len(data)]) + data + b"\x80"
    safe = re.sub(b"\0\0(?=[\0-\3])", b"\0\0\3", message)  # no start code may come up inside
    return b"\0\0\0\1" + (b"\x4e\x01" if hevc else b"\x06") + safe

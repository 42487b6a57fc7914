"""What travels between the page and `rtstyle serve`, over one WebSocket at ``/ws``. Version 1.

All numbers are little-endian. A frame is a baseline JPEG of color (YCbCr, JFIF) in one scan.

page -> server, binary, at most ``MAX_MESSAGE`` bytes:

    offset  type  what
    0       u32   sequence number of the frame; each is larger than the one before
    4       u8    style: its place in the list of the hello, or one that a ``style`` told
    5       u8    strength in hundredths, 0 to 200
    6       u8    flags: 1 keep the colors of the source; other bits 0
    7       u8    mask: 0 none, 1 the style on persons, 2 on everything else
    8       ...   the JPEG, of one of the sizes of the hello

or, with flags 128 and zeros before, an image (jpg, png or webp) of which the server makes a style for this visitor.
The answer is a ``style``, or a ``say`` that tells why there is none.

Every frame carries its settings, so there is nothing else to say and no order to keep; a text message is a
bad message. The page keeps at most ``IN_FLIGHT`` frames unanswered. An answer with number n answers all
frames up to n: of those that wait, the server does the latest and forgets the others.

server -> page, binary, numbers rising:

    0       u32   sequence number of the frame that this one was made from
    4       u8    style that was used: an earlier one while the requested one is still being loaded
    5       u8    strength in hundredths
    6       u8    flags: 1 as above; 2 preparing: no JPEG follows, there is no engine for this size yet
    7       u8    0
    8       u32   microseconds that the frame was in the server
    12      ...   the stylized JPEG, of the same size

server -> page, text, JSON objects with ``type``:

    hello   version, styles [{name, title}], sizes [[width, height]], in_flight, start {style, strength, keep_colors}
    style   place, name: the style of the image that was sent
    say     message: a line for the visitor, such as that a style cannot be loaded
    bye     reason, message: the last word before the server closes; reason is one of
            ``full`` (all places are taken), ``idle`` (no frame for a while), ``bad`` (too many bad messages),
            ``end`` (the server ends), ``moved`` (it ends, and another one takes its visitors: connect again)
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

from rtstyle.backends import Controls
from rtstyle.frame import Size

VERSION = 1
IN_FLIGHT = 2
"""Frames of one visitor that may be on their way: one being stylized, one behind it."""

MAX_MESSAGE = 1 << 20
"""Bytes of a message; a 720p JPEG of quality 85 has about 160 kB."""

SIZES = tuple(
    size
    for wide, narrow, short in ((640, 480, 360), (848, 640, 480), (1280, 960, 720))
    for size in (Size(wide, short), Size(narrow, short), Size(short, wide), Size(short, narrow))
)
"""Sizes of frames that are taken: 16:9 and 4:3, lying and standing. Each needs an engine, so they are few."""

MAX_PIXELS = max(size.width * size.height for size in SIZES)

KEEP_COLORS, PREPARING, OWN_IMAGE = 1, 2, 128

MASKS = (None, "person", "background")
"""Masks by their numbers; None: no mask."""

_REQUEST = struct.Struct("<IBBBB")
_REPLY = struct.Struct("<IBBBBI")

Reason = Literal["full", "idle", "bad", "end", "moved"]


class BadMessageError(ValueError):
    """A message that is not of this protocol."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """What visitors begin with."""

    controls: Controls = Controls()
    """Strength and colors."""
    mask: str | None = None
    """One of ``MASKS``. A visitor may choose another one."""
    keep_face: bool = False
    """Weaken the style on faces, whatever the mask."""


@dataclass(frozen=True, slots=True)
class Request:
    """One frame of a visitor and how it shall look."""

    number: int
    style: int
    """Place in the list of styles."""
    controls: Controls
    jpeg: bytes
    """Not looked at yet."""
    mask: str | None = None
    """One of ``MASKS``."""


def read_image(message: bytes) -> bytes | None:
    """Return the image of a message that brings one to make a style of; None where it is a frame."""
    head = _REQUEST.pack(0, 0, 0, OWN_IMAGE, 0)
    return message[_REQUEST.size :] if message.startswith(head) else None


def write_image(image: bytes) -> bytes:
    """Put a message together that brings an image; what the page does in JavaScript."""
    return _REQUEST.pack(0, 0, 0, OWN_IMAGE, 0) + image


def read_request(message: bytes, styles: int) -> Request:
    """Take a message apart.

    Args:
        styles: How many styles there are.

    Raises:
        BadMessageError: It is too short, or a number is out of its range.
    """
    if len(message) <= _REQUEST.size:
        raise BadMessageError(f"a message has more than {_REQUEST.size} bytes, got {len(message)}")
    number, style, hundredths, flags, mask = _REQUEST.unpack_from(message)
    if style >= styles or hundredths > 200 or flags & ~KEEP_COLORS or mask >= len(MASKS):
        raise BadMessageError(f"style {style}, strength {hundredths}, flags {flags} or mask {mask} are out of range")
    controls = Controls.of(hundredths / 100, keep_colors=bool(flags & KEEP_COLORS))
    return Request(number, style, controls, message[_REQUEST.size :], MASKS[mask])


def write_request(request: Request) -> bytes:
    """Put a message together; what the page does in JavaScript."""
    flags = KEEP_COLORS if request.controls.chroma == 0 < request.controls.luma else 0
    mask, hundredths = MASKS.index(request.mask), round(100 * request.controls.luma)
    return _REQUEST.pack(request.number, request.style, hundredths, flags, mask) + request.jpeg


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of a frame."""

    number: int
    style: int
    controls: Controls
    microseconds: int
    """From the arrival of the frame to this answer."""
    jpeg: bytes
    """Empty while the first engine for this size is prepared."""


def write_reply(reply: Reply) -> bytes:
    """Put an answer together."""
    flags = KEEP_COLORS if reply.controls.chroma == 0 < reply.controls.luma else 0
    flags |= 0 if reply.jpeg else PREPARING
    hundredths = round(100 * reply.controls.luma)
    head = _REPLY.pack(reply.number, reply.style, hundredths, flags, 0, min(reply.microseconds, 0xFFFFFFFF))
    return head + reply.jpeg


def read_reply(message: bytes) -> Reply:
    """Take an answer apart; what the page does in JavaScript."""
    number, style, hundredths, flags, _, microseconds = _REPLY.unpack_from(message)
    controls = Controls.of(hundredths / 100, keep_colors=bool(flags & KEEP_COLORS))
    return Reply(number, style, controls, microseconds, message[_REPLY.size :])

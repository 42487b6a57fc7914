"""Elements of EBML (RFC 8794), of which Matroska and WebM are made."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import IO

Element = tuple[int, bytes]
"""Id and content."""

_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675


def find_top(file: IO[bytes], wanted: int, most: int) -> bytes:
    """Return the content of an element of the segment, which is sought by the lengths of those before it.

    Args:
        file: Of Matroska or WebM.
        wanted: Id of the element.
        most: Bytes of the longest content that is read.

    Returns:
        Nothing where there is none, or a length before it is unknown or damaged.
    """
    file.seek(0)
    at, end = 0, file.seek(0, 2)
    for _ in range(1_000_000):
        file.seek(at)
        kind, _, content, after = next(elements(file.read(16).ljust(16, b"\0"), 0, 16), (0, 0, 0, 0))
        if not kind or at + content > end:
            return b""
        if kind == wanted:
            file.seek(at + content)
            return file.read(after - content) if after - content <= most else b""
        at += content if kind == _SEGMENT else after
    return b""


def elements(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield id, begin, begin of the content and end of the elements in a range; an unknown length ends it."""
    while at + 2 <= end:
        begin, width = at, 9 - data[at].bit_length()
        kind = int.from_bytes(data[at : at + width], "big")
        at += width
        if at >= end or not data[at]:
            return
        width = 9 - data[at].bit_length()
        length = int.from_bytes(data[at : at + width], "big") & ((1 << 7 * width) - 1)
        yield kind, begin, at + width, at + width + length
        at += width + length


def children(data: bytes) -> Iterator[Element]:
    """Yield id and content of the elements in the content of another."""
    for kind, _, content, end in elements(data, 0, len(data)):
        yield kind, data[content:end]


def element(kind: int, content: bytes, *, wider: int = 0) -> bytes:
    """Write an element; its length takes ``wider`` bytes more than it needs."""
    width = 1
    while len(content) >= (1 << 7 * width) - 1:
        width += 1
    width += wider
    length = (len(content) | 1 << 7 * width).to_bytes(width, "big")
    return kind.to_bytes(math.ceil(kind.bit_length() / 8), "big") + length + content


def number(value: int) -> bytes:
    """Write an unsigned number in as few bytes as it needs."""
    return value.to_bytes(max(1, math.ceil(value.bit_length() / 8)), "big")

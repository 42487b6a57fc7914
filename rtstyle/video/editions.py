"""What Matroska can say of chapters and FFmpeg does not read: languages, chapters within chapters, editions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from rtstyle.video.ebml import children, find_top

_CHAPTERS, _EDITION, _ORDERED, _ATOM = 0x1043A770, 0x45B9, 0x45DD, 0xB6
_DISPLAY, _LANGUAGE, _LANGUAGE_TAG, _SEGMENT = 0x80, 0x437C, 0x437D, 0x6E67

_LARGEST = 1 << 22
"""Bytes of the longest list of chapters that is looked at."""

_UNSAID = {"", "und", "eng", "en"}
"""Languages that a chapter has where nothing is stated: programs write any of these."""


def what_chapters_lose(path: Path) -> list[str]:
    """Return what of a file's chapters is not in what FFmpeg reads, in words; empty where it is no Matroska."""
    data = b""
    with suppress(OSError), path.open("rb") as file:
        data = find_top(file, _CHAPTERS, _LARGEST)
    editions = [content for kind, content in children(data) if kind == _EDITION]
    words = []
    if len(editions) > 1:
        words.append(f"{len(editions)} editions of chapters become one list")
    if any(kind == _ORDERED and any(content) for edition in editions for kind, content in children(edition)):
        words.append("an ordered edition, in which players show parts in another order, becomes plain chapters")
    top = [atom for edition in editions for atom in _atoms(edition)]
    inner = [atom for each in top for atom in _within(each)]
    if inner:
        words.append(f"{len(inner)} chapters within chapters are left out")
    if any(kind == _SEGMENT for atom in top for kind, _ in children(atom)):
        words.append("chapters that lie in other files are links no more")
    displays = [[content for kind, content in children(atom) if kind == _DISPLAY] for atom in top]
    tongues = {tongue for shown in displays for display in shown for tongue in _languages(display)}
    if any(len(shown) > 1 for shown in displays):
        words.append("each chapter keeps one title of several")
    if tongues - _UNSAID:
        words.append(f"languages of chapter titles ({', '.join(sorted(tongues - _UNSAID))}) are not written")
    return words


def _atoms(content: bytes) -> list[bytes]:
    return [inner for kind, inner in children(content) if kind == _ATOM]


def _within(atom: bytes, depth: int = 0) -> Iterator[bytes]:
    for inner in _atoms(atom) if depth < 20 else ():
        yield inner
        yield from _within(inner, depth + 1)


def _languages(display: bytes) -> Iterator[str]:
    for kind, content in children(display):
        if kind in (_LANGUAGE, _LANGUAGE_TAG):
            yield content.rstrip(b"\0").decode("ascii", "replace")[:20]

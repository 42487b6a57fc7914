"""The journal of a render: which segments are finished, and what is needed to continue behind them.

Nothing of an output is visible under its own name before it is whole. Until then its work folder holds one file for
each finished segment and ``journal.jsonl``. The first line of the journal holds the settings of the render, each
further line one finished segment. A line is written after its segment is safe on disk, so the journal is true after a
crash; a torn last line counts as not written.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from rtstyle.canvas import TrackerState
from rtstyle.errors import OutputExistsError, reason_of
from rtstyle.files import is_regular, write_whole
from rtstyle.video.work_folder import JOURNAL, WorkFolder, sync
from rtstyle.video.writer import cannot_write


@dataclass(frozen=True)
class Checkpoint:
    """Where a render stands after a finished segment: all that the next frame depends on."""

    frames: int
    """Frames rendered so far."""
    pts: int
    """Of the last of them."""
    digest: str
    """Of its source's samples, to find the place again (``planes_digest``)."""
    damaged: int
    """Frames of the input found missing or faulty so far."""
    canvas: TrackerState | None
    """How the canvas follows the scene; None: a later segment of the same job knows, and one resumes there."""


@dataclass(frozen=True)
class Segment:
    """One finished segment."""

    file: str
    """Its name in the work folder."""
    pts: list[int]
    """Of its frames, in the order of showing."""
    reorder: int
    """By how many packets its encoder may hold a frame back."""
    packets: list[tuple[int, int, bool]]
    """In the order of decoding, as they lie in the file: of which frame, how many bytes, a key frame or not."""
    headers: str
    """What decoders must know first, in hexadecimal digits."""


class Journal:
    """The journal in a work folder.

    Args:
        settings: Everything that decides the output, in JSON's types.
    """

    def __init__(self, folder: WorkFolder, settings: dict[str, Any]) -> None:
        self.folder, self.settings = folder, settings
        self.segments: list[Segment] = []
        self.checkpoint: Checkpoint | None = None
        """Behind the last finished segment of which the canvas is kept; None before the first."""
        self._known = -1
        """Number of that segment."""
        self._path = folder.path / JOURNAL

    def begin(self) -> None:
        """Start over; what an earlier run left is thrown away."""
        self.folder.clear()
        self.folder.keep = False
        _append(self._path, {"rtstyle": FORMAT, "settings": self.settings})

    def add(self, segment: Segment, checkpoint: Checkpoint) -> None:
        """Note a segment whose file is whole under its name; it survives a crash from the next canvas on.

        Raises:
            OSError: The disk is full.
        """
        sync(self.folder.path / segment.file)
        if checkpoint.canvas:
            state = self.folder.place(f"canvas-{len(self.segments)}.npz")
            checkpoint.canvas.save(state)
            sync(state)
        line = asdict(segment) | {
            "frames": checkpoint.frames,
            "digest": checkpoint.digest,
            "damaged": checkpoint.damaged,
        }
        _append(self._path, line)
        self.segments.append(segment)
        if checkpoint.canvas:
            (self.folder.path / f"canvas-{self._known}.npz").unlink(missing_ok=True)
            self._known = len(self.segments) - 1
            self.checkpoint = checkpoint
            self.folder.keep = True

    @classmethod
    def read(cls, folder: WorkFolder) -> Self | None:
        """Take up what an earlier run left; None if there is no finished segment.

        Whatever is damaged counts as not there, and a note of the folder says so.
        """
        path = folder.path / JOURNAL
        if not is_regular(path):
            return None
        try:
            if path.stat().st_size > _LARGEST:
                raise ValueError(f"it has {path.stat().st_size} bytes")
            first, *rest = path.read_bytes().splitlines()
            journal = cls(folder, _settings_of(first))
            journal._take_up(rest)
        except (OSError, ValueError, RecursionError) as error:
            folder.notes.append(_damaged(folder.output, reason_of(error)))
            return None
        folder.keep = journal.checkpoint is not None
        return journal if folder.keep else None

    def _take_up(self, texts: list[bytes]) -> None:
        """Read the lines of finished segments; the last one with a canvas is the checkpoint."""
        lines: list[_Line] = []
        for number, text in enumerate(texts):
            try:
                lines.append(_line_of(text, number, lines[-1] if lines else None))
            except (ValueError, RecursionError) as error:
                if number < len(texts) - 1:  # the last may have been cut off as it was written
                    self.folder.notes.append(_damaged(self.folder.output, f"line {number + 2}: {reason_of(error)}"))
                break
        for number in range(len(lines), 0, -1):
            canvas = self.folder.path / f"canvas-{number - 1}.npz"
            if not is_regular(canvas):
                continue
            line = lines[number - 1]
            try:
                state = TrackerState.load(canvas)
            except (OSError, ValueError, KeyError) as error:
                self.folder.notes.append(_damaged(self.folder.output, f"{canvas.name}: {reason_of(error)}"))
                continue
            self.segments, self._known = [each.segment for each in lines[:number]], number - 1
            self.checkpoint = Checkpoint(line.frames, line.segment.pts[-1], line.digest, line.damaged, state)
            break
        for segment in self.segments:
            file = self.folder.path / segment.file
            if not is_regular(file) or file.stat().st_size < sum(size for _, size, _ in segment.packets):
                raise ValueError(f"{segment.file} is missing or cut off")

    def rewrite(self) -> None:
        """Cut the journal behind the checkpoint: whatever lies behind is rendered again."""
        keep = self._path.read_bytes().splitlines(keepends=True)[: 1 + len(self.segments)]
        write_whole(self._path, b"".join(keep))


@dataclass(frozen=True)
class _Line:
    """What a line of the journal says."""

    segment: Segment
    frames: int
    digest: str
    damaged: int


_LARGEST = 1 << 28
"""Bytes of the largest journal that is read: days of video."""


def _damaged(output: Path, why: str) -> str:
    return f"the interrupted render of {output} is damaged and cannot be resumed: {why}"


def _settings_of(text: bytes) -> dict[str, Any]:
    """Read the first line of a journal.

    Raises:
        ValueError: It is damaged, or of another release.
    """
    line = json.loads(text)
    if not isinstance(line, dict) or line.get("rtstyle") != FORMAT:
        raise ValueError("its journal was not written by this release")
    settings = line.get("settings")
    if not isinstance(settings, dict):
        raise ValueError("its journal has no settings")
    return settings


def _line_of(text: bytes, number: int, before: _Line | None) -> _Line:
    """Read a line of a finished segment.

    Args:
        number: Of the segment, from 0.
        before: The line before it.

    Raises:
        ValueError: Anything in it is not as ``Journal.add`` writes it.
    """
    line = json.loads(text)
    if not isinstance(line, dict):
        raise ValueError("it is no object")

    def whole(value: object, low: int, high: int) -> bool:
        return type(value) is int and low <= value <= high

    pts, packets = line.get("pts"), line.get("packets")
    if line.get("file") != f"segment-{number:05d}.packets":
        raise ValueError("file is not that of its segment")
    if not isinstance(pts, list) or not pts or not all(whole(time, -_FAR, _FAR) for time in pts):
        raise ValueError("pts is no list of times")
    times = [before.segment.pts[-1], *pts] if before else pts
    if any(later <= earlier for earlier, later in pairwise(times)):
        raise ValueError("pts does not rise")
    if not isinstance(packets, list) or len(packets) > len(pts) or not all(
        isinstance(packet, list)
        and len(packet) == 3
        and whole(packet[0], 0, len(pts) - 1)
        and whole(packet[1], 1, 1 << 31)
        and isinstance(packet[2], bool)
        for packet in packets
    ):  # fmt: skip
        raise ValueError("packets is no list of packets")
    frames, damaged, reorder = line.get("frames"), line.get("damaged"), line.get("reorder")
    if frames != len(pts) + (before.frames if before else 0):
        raise ValueError("frames is not their number")
    if not whole(damaged, 0, _FAR) or not whole(reorder, 0, len(pts)):
        raise ValueError("damaged or reorder is no count")
    headers, digest = line.get("headers"), line.get("digest")
    if not isinstance(digest, str) or not isinstance(headers, str) or len(headers) > 1 << 20:
        raise ValueError("digest or headers is no text")
    bytes.fromhex(headers)
    segment = Segment(line["file"], pts, line["reorder"], [(n, size, key) for n, size, key in packets], headers)
    return _Line(segment, line["frames"], digest, line["damaged"])


_FAR = 1 << 62
"""Times and counts beyond it do not fit into FFmpeg's integers."""

FORMAT = 2
"""Version of the journal that this release reads."""


def _append(path: Path, line: dict[str, Any]) -> None:
    with path.open("ab") as file:
        file.write(json.dumps(line).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def claim(path: Path, *, overwrite: bool, resume: bool = False) -> tuple[WorkFolder, Journal | None]:
    """Lock the work folder of an output, and with ``resume`` the journal of an interrupted render, if there is one.

    Raises:
        OutputExistsError: There is one, and neither ``overwrite`` nor ``resume`` says what to do with it.
        VideoWriteError: Another process is writing this output, or the folder cannot be written.
    """
    folder = WorkFolder(path, overwrite=overwrite)
    journal = Journal.read(folder)
    if journal and journal.checkpoint and not resume and not overwrite:
        folder.close()
        raise OutputExistsError(
            f"an interrupted render of {path} stands at frame {journal.checkpoint.frames}: "
            f"--resume continues with it, -y (--overwrite) starts over"
        )
    if journal and resume:
        try:
            journal.rewrite()
        except OSError as error:
            folder.close()
            raise cannot_write(path, error) from error
        return folder, journal
    return folder, None

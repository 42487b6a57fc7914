"""What a render leaves beside its output while it runs: a locked folder, and a journal of finished segments.

Nothing of an output is visible under its own name before it is whole. Until then everything lies in
``.NAME.rtstyle/`` beside it: one file for each finished segment, and ``journal.jsonl``, whose first line
says what is rendered and whose further lines each tell of one finished segment. A line is written after
its segment is safe on disk, so after a crash the journal is true; a torn last line counts as not written.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import filelock

from rtstyle.canvas import TrackerState
from rtstyle.errors import VideoWriteError, reason_of
from rtstyle.files import is_regular, private_folder, write_whole
from rtstyle.video.formats import check_file_output, sequence_name


class WorkFolder:
    """The hidden folder of one output, held by one process at a time.

    It is a real folder of this user that no other user may enter, and holds nothing but files with names of rtstyle.

    Args:
        output: The file, or the pattern of a sequence, that will be made.

    Raises:
        VideoWriteError: Another process is making this output, or the folder cannot be written, is a link or
            another user's, or holds anything that rtstyle did not make.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.keep = False
        """True: what is in it serves a later run, so it stays when it is let go."""
        self.notes: list[str] = []
        """What a person should know of what an earlier run left, in words."""
        self.path = output.with_name(f".{output.name}.rtstyle")
        ending = re.escape(output.suffix)
        self._names = re.compile(
            r"lock|journal\.(jsonl|partial)|canvas-\d+\.npz|segment-\d+\.(packets|nut)|\..+\.part"
            rf"|(trial|whole){ending}|{sequence_name(output.name)}",
            re.DOTALL,
        )
        self._lock = filelock.FileLock(self.path / "lock", blocking=False)
        try:
            self._take()
        except filelock.Timeout as error:
            raise VideoWriteError(f"another rtstyle is writing {output} at this moment: wait, or stop it") from error
        except OSError as error:
            raise VideoWriteError(f"cannot write {output}: {reason_of(error)}") from error

    def _take(self) -> None:
        while True:
            private_folder(self.path)
            self._refuse_foreign()
            try:
                self._lock.acquire()
            except FileNotFoundError:  # whoever had it took the folder away between the two calls
                continue
            if (self.path / "lock").exists():
                return
            self._lock.release()

    def _refuse_foreign(self) -> None:
        for entry in self.path.iterdir():
            with suppress(FileNotFoundError):  # another process is at the end of its work
                if not (self._names.fullmatch(entry.name) and stat.S_ISREG(entry.lstat().st_mode)):
                    raise FileExistsError(f"{entry} is not a file of rtstyle: move it away")

    def place(self, name: str) -> Path:
        """Return the path of a file that is to be made; an earlier one of that name is removed."""
        path = self.path / name
        path.unlink(missing_ok=True)
        return path

    def clear(self) -> None:
        """Throw away what an earlier run left: files with names of rtstyle, nothing else."""
        if self.path.is_symlink():
            return
        for entry in self.path.iterdir():
            if entry.name != "lock" and self._names.fullmatch(entry.name) and is_regular(entry):
                entry.unlink()

    def publish(self, part: Path, name: Path) -> None:
        """Give a whole file its final name, safe on disk.

        Raises:
            OSError: It cannot be done.
            VideoWriteError: There is a folder or device of that name by now.
        """
        check_file_output(name, overwrite=True)
        _sync(part)
        os.replace(part, name)
        _sync(name.parent)

    def close(self) -> None:
        """Let go of the folder; it goes away unless it is to be kept."""
        if self.keep:
            self._lock.release()
            return
        with suppress(OSError):
            self.clear()
        with suppress(OSError):
            (self.path / "lock").unlink()
        self._lock.release()
        with suppress(OSError):
            self.path.rmdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class Mark:
    """Where a render stands behind a finished segment: all that the next frame depends on."""

    frames: int
    """Frames rendered so far."""
    pts: int
    """Of the last of them."""
    digest: str
    """Of its source's samples, to find the place again (``digest_of``)."""
    damaged: int
    """Pictures of the input found missing or faulty so far."""
    canvas: TrackerState
    """How the canvas follows the camera."""


@dataclass(frozen=True)
class Segment:
    """One finished segment."""

    file: str
    """Its name in the work folder."""
    pts: list[int]
    """Of its frames, in the order of showing."""
    reorder: int
    """By how many packets its encoder may hold a picture back."""
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
        self.mark: Mark | None = None
        """Behind the last finished segment; None before the first."""
        self._path = folder.path / "journal.jsonl"

    def begin(self) -> None:
        """Start anew; what an earlier run left is thrown away."""
        self.folder.clear()
        self.folder.keep = False
        _append(self._path, {"rtstyle": FORMAT, "settings": self.settings})

    def add(self, segment: Segment, mark: Mark) -> None:
        """Note a segment whose file is whole under its name; it survives a crash from here on.

        Raises:
            OSError: The disk is full.
        """
        _sync(self.folder.path / segment.file)
        state = self.folder.place(f"canvas-{len(self.segments)}.npz")
        mark.canvas.save(state)
        _sync(state)
        line = asdict(segment) | {"frames": mark.frames, "digest": mark.digest, "damaged": mark.damaged}
        _append(self._path, line)
        (self.folder.path / f"canvas-{len(self.segments) - 1}.npz").unlink(missing_ok=True)
        self.segments.append(segment)
        self.mark = mark
        self.folder.keep = True

    @classmethod
    def read(cls, folder: WorkFolder) -> Self | None:
        """Take up what an earlier run left; None if there is no finished segment.

        Whatever is damaged counts as not there, and a note of the folder says so.
        """
        path = folder.path / "journal.jsonl"
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
        folder.keep = journal.mark is not None
        return journal if folder.keep else None

    def _take_up(self, texts: list[bytes]) -> None:
        """Read the lines of finished segments; the last one with a canvas is the mark."""
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
            self.segments = [each.segment for each in lines[:number]]
            self.mark = Mark(line.frames, line.segment.pts[-1], line.digest, line.damaged, state)
            break
        for segment in self.segments:
            file = self.folder.path / segment.file
            if not is_regular(file) or file.stat().st_size < sum(size for _, size, _ in segment.packets):
                raise ValueError(f"{segment.file} is missing or cut off")

    def rewrite(self) -> None:
        """Cut the journal behind ``mark``: whatever lies behind is rendered again."""
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


def _sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on disk."""
    with suppress(PermissionError):  # Windows opens no folders
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def identity_of(files: Sequence[Path]) -> dict[str, Any]:
    """Return what tells one input from another.

    Of one file its length, and a digest of its first and last mebibyte; of a sequence of pictures their number, and a
    digest of their names and lengths.
    """
    digest = blake2b(digest_size=16)
    lengths = [path.stat().st_size for path in files]
    if len(files) == 1:
        edge = 1 << 20
        with files[0].open("rb") as file:
            digest.update(file.read(edge))
            file.seek(max(0, lengths[0] - edge))
            digest.update(file.read(edge))
    else:
        for path, length in zip(files, lengths, strict=True):
            digest.update(f"{path.name} {length}\n".encode())
    return {"files": len(files), "bytes": sum(lengths), "digest": digest.hexdigest()}

"""What a render leaves beside its output while it runs: a locked folder, and a journal of finished segments.

Nothing of an output is visible under its own name before it is whole. Until then everything lies in
``.NAME.rtstyle/`` beside it: one file for each finished segment, and ``journal.jsonl``, whose first line
says what is rendered and whose further lines each tell of one finished segment. A line is written after
its segment is safe on disk, so after a crash the journal is true; a torn last line counts as not written.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import filelock

from rtstyle.canvas import TrackerState
from rtstyle.errors import VideoWriteError, reason_of


class WorkFolder:
    """The hidden folder of one output, held by one process at a time.

    Args:
        output: The file, or the pattern of a sequence, that will be made.

    Raises:
        VideoWriteError: Another process is making this output, or the folder cannot be written.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.keep = False
        """True: what is in it serves a later run, so it stays when it is let go."""
        self.path = output.with_name(f".{output.name}.rtstyle")
        self._lock = filelock.FileLock(self.path / "lock", blocking=False)
        try:
            self._take()
        except filelock.Timeout as error:
            raise VideoWriteError(f"another rtstyle is writing {output} at this moment: wait, or stop it") from error
        except OSError as error:
            raise VideoWriteError(f"cannot write {output}: {reason_of(error)}") from error

    def _take(self) -> None:
        while True:
            self.path.mkdir(exist_ok=True)
            try:
                self._lock.acquire()
            except FileNotFoundError:  # whoever had it took the folder away between the two calls
                continue
            if (self.path / "lock").exists():
                return
            self._lock.release()

    def clear(self) -> None:
        """Throw away what an earlier run left."""
        for entry in self.path.iterdir():
            if entry.name != "lock":
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def publish(self, part: Path, name: Path) -> None:
        """Give a whole file its final name, safe on disk.

        Raises:
            OSError: It cannot be done.
        """
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
        state = self.folder.path / f"canvas-{len(self.segments)}.npz"
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
        """Take up what an earlier run left; None if there is no finished segment, or nothing that can be read."""
        journal: Self | None = None
        lines: list[dict[str, Any]] = []
        with suppress(OSError, ValueError):
            for text in (folder.path / "journal.jsonl").read_bytes().splitlines():
                lines.append(json.loads(text))
        if not lines or lines[0].get("rtstyle") != FORMAT:
            return None
        journal = cls(folder, lines[0]["settings"])
        for number in range(len(lines) - 1, 0, -1):  # the last one whose files are all there
            line = lines[number]
            try:
                canvas = TrackerState.load(folder.path / f"canvas-{number - 1}.npz")
            except (OSError, ValueError, KeyError):
                continue
            names = [each.name for each in fields(Segment)]
            journal.segments = [Segment(**{name: entry[name] for name in names}) for entry in lines[1 : number + 1]]
            journal.mark = Mark(line["frames"], line["pts"][-1], line["digest"], line["damaged"], canvas)
            break
        whole = all((folder.path / segment.file).is_file() for segment in journal.segments)
        folder.keep = journal.mark is not None and whole
        return journal if folder.keep else None

    def rewrite(self) -> None:
        """Cut the journal behind ``mark``: whatever lies behind is rendered again."""
        keep = self._path.read_bytes().splitlines(keepends=True)[: 1 + len(self.segments)]
        partial = self._path.with_suffix(".partial")
        partial.write_bytes(b"".join(keep))
        _sync(partial)
        os.replace(partial, self._path)


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

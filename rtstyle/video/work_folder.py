"""The hidden folder beside an output in which the output is made before it appears under its own name."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import filelock

from rtstyle.closing import Closing
from rtstyle.errors import OutputExistsError, VideoWriteError, reason_of
from rtstyle.files import check_file_output, free_name, is_regular, move_whole, private_folder
from rtstyle.video.formats import sequence_name

JOURNAL = "journal.jsonl"
"""File in a work folder that lists the finished segments of a render."""


class WorkFolder(Closing):
    """The hidden folder of one output, held by one process at a time.

    It is a real folder of this user that no other user may enter, and holds nothing but files with names of rtstyle.

    Args:
        output: The file, or the pattern of a sequence, that will be made.
        overwrite: True replaces what has its name by the time it is finished.

    Raises:
        VideoWriteError: Another process is making this output, or the folder cannot be written, is a link or
            another user's, or holds anything that rtstyle did not make.
    """

    def __init__(self, output: Path, *, overwrite: bool = False) -> None:
        self.output = output
        self._overwrite = overwrite
        self.keep = False
        """True: what is in it serves a later run, so it stays when it is let go."""
        self.notes: list[str] = []
        """What a person should know of what an earlier run left, in words."""
        self.path = output.with_name(_hidden_name(output.name))
        extension = re.escape(output.suffix)
        self._names = re.compile(
            r"lock|journal\.(jsonl|partial)|canvas-\d+\.npz|segment-\d+\.(packets|nut)|\..+\.part"
            rf"|(trial|whole){extension}|{sequence_name(output.name)}",
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
            except FileNotFoundError:  # its owner removed the folder between the two calls
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
            OutputExistsError: A file of that name appeared meanwhile; this one is kept under another name.
            VideoWriteError: There is a folder or device of that name by now.
        """
        check_file_output(name, overwrite=True)
        sync(part)
        try:
            move_whole(part, name, overwrite=self._overwrite)
        except FileExistsError as error:
            kept = self._keep(part, name)
            raise OutputExistsError(_appeared(name, kept)) from error
        finally:
            sync(name.parent)

    def publish_sequence(self, parts: list[Path], parent: Path) -> None:
        """Give the images of a sequence their final names, as ``publish`` does."""
        taken = [parent / part.name for part in parts if os.path.lexists(parent / part.name)]
        folder = parent
        if taken and not self._overwrite:
            folder = free_name(parent / "kept")
            folder.mkdir()
        for part in parts:
            self.publish(part, folder / part.name)
        if folder != parent:
            raise OutputExistsError(_appeared(taken[0], folder))

    @staticmethod
    def _keep(part: Path, name: Path) -> Path:
        """Move a finished file to a name like ``name`` that is free, and return it."""
        while True:
            kept = free_name(name)
            with suppress(FileExistsError):
                move_whole(part, kept, overwrite=False)
                return kept

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


def _appeared(name: Path, kept: Path) -> str:
    return f"{name} appeared while this output was made, and is not replaced without -y; the result is kept in {kept}"


def claim_folder(output: Path, *, overwrite: bool) -> WorkFolder:
    """Lock the work folder of an output that is written straight through, and empty it.

    Raises:
        OutputExistsError: It holds segments of an interrupted render, and ``overwrite`` is False.
        VideoWriteError: Another process is writing this output, or the folder cannot be written.
    """
    folder = WorkFolder(output, overwrite=overwrite)
    if not overwrite and is_regular(folder.path / JOURNAL) and any(folder.path.glob("segment-*")):
        folder.keep = True
        folder.close()
        raise OutputExistsError(
            f"an interrupted render of {output} is in {folder.path}: --resume continues it, -y (--overwrite) removes it"
        )
    folder.clear()
    return folder


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on disk."""
    with suppress(PermissionError):  # Windows opens no folders
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


_LONGEST_NAME = 200
"""Bytes of an output's name that are repeated in that of its work folder: file systems take 255 in all."""


def _hidden_name(name: str) -> str:
    encoded = os.fsencode(name)
    if len(encoded) > _LONGEST_NAME:
        name = f"{encoded[:_LONGEST_NAME].decode('utf-8', 'ignore')}-{blake2b(encoded, digest_size=8).hexdigest()}"
    return f".{name}.rtstyle"

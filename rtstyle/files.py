"""How files are written: whole or not at all, through no link, and without touching what rtstyle did not make."""

from __future__ import annotations

import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from platformdirs import user_cache_path

from rtstyle.errors import OutputExistsError, VideoWriteError


def cache_root() -> Path:
    """Return the folder of what can be made again: the user's own, or what the variable RTSTYLE_CACHE says."""
    return Path(os.environ.get("RTSTYLE_CACHE") or user_cache_path("rtstyle", appauthor=False))


def passing_folder() -> tempfile.TemporaryDirectory[str]:
    """Make a folder that ends with this process; in memory where there is memory that looks like a folder."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    return tempfile.TemporaryDirectory(prefix="rtstyle-", dir=place, ignore_cleanup_errors=True)


def natural_order(name: str) -> list[tuple[bool, int, str]]:
    """Return a key that sorts names by the numbers in them: ``clip 2`` before ``clip 10``."""
    parts = re.split(r"(\d+)", name)
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def write_whole(path: Path, data: bytes | memoryview, *, overwrite: bool = True) -> None:
    """Write a file that appears under its name only when it is whole and on disk.

    The temporary file beside it has a random name and is created exclusively, so nothing that lies in the folder
    already, such as a link, is written through. A link at ``path`` itself is replaced, not followed.

    Args:
        overwrite: True replaces an existing file.

    Raises:
        FileExistsError: There is a file of that name, and ``overwrite`` is False.
        OSError: The disk is full, or the folder may not be written.
    """
    stem = os.fsencode(path.name)[:120].decode("utf-8", "ignore")  # names may be 255 bytes long, not more
    part = path.with_name(f".{stem}.{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        move_whole(part, path, overwrite=overwrite)
    finally:
        part.unlink(missing_ok=True)


def move_whole(part: Path, path: Path, *, overwrite: bool) -> None:
    """Rename a finished file. Without ``overwrite`` a file that appears at ``path`` at any moment is left alone.

    Raises:
        FileExistsError: There is something of that name, and ``overwrite`` is False.
        OSError: The folder may not be written.
    """
    if not overwrite:
        try:
            os.link(part, path)  # fails where the name is taken, unlike a rename
            part.unlink()
            return
        except FileExistsError:
            raise
        except (OSError, NotImplementedError):  # FAT and some network file systems have no links
            path.open("xb").close()
    os.replace(part, path)


def is_regular(path: Path) -> bool:
    """Whether the name itself, not what a link of that name leads to, is an ordinary file."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def private_folder(path: Path) -> None:
    """Make a folder that only this user may enter, or accept one that is there already and belongs to this user.

    Raises:
        OSError: It is a link or no folder, belongs to another user, or cannot be made.
    """
    try:
        path.mkdir(mode=0o700)
        return
    except FileExistsError:
        status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        what = "a link" if stat.S_ISLNK(status.st_mode) else "no folder"
        raise NotADirectoryError(f"{path} is needed for unfinished work and is {what}: move it away")
    if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        raise PermissionError(f"{path} is needed for unfinished work and belongs to another user: take another folder")
    if hasattr(os, "O_DIRECTORY") and status.st_mode & 0o077:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            os.fchmod(handle, 0o700)
        finally:
            os.close(handle)


def read_whole(path: Path, limit: int) -> bytes:
    """Read an ordinary file.

    Args:
        limit: Bytes of the largest file that is read.

    Raises:
        OSError: It is missing, larger, or a folder, device or named pipe, which might never end.
    """
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)  # opening a pipe waits for a writer
    with open(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"{path} is no ordinary file")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(f"{path} has more than {limit >> 20} MB")
    return data


@contextmanager
def hushed() -> Iterator[None]:
    """Keep C libraries, such as those of ALSA and PNG, from printing lines of their own on the standard error."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def check_file_output(path: Path, *, overwrite: bool) -> None:
    """Find whether a file can be put at ``path``: no folder or device, nothing that would be lost, a writable place."""
    if path.is_dir():
        raise VideoWriteError(f"cannot write {path}: it is a folder")
    if os.path.lexists(path):
        if not overwrite:
            raise OutputExistsError(f"{path} exists already; give -y (--overwrite) to replace it")
        if path.exists() and not path.is_file():
            raise VideoWriteError(f"cannot write {path}: it is {_kind_of(path)}, and only a file is replaced")
    if not path.parent.is_dir():
        raise VideoWriteError(f"cannot write {path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise VideoWriteError(f"cannot write {path}: no permission to write into {path.parent}")


def _kind_of(path: Path) -> str:
    if path.is_fifo():
        return "a named pipe"
    return "a socket" if path.is_socket() else "a device"


def free_name(path: Path) -> Path:
    """Return ``path``, or ``stem-2.ext``, ``stem-3.ext``, ... where it is taken, be it by a link that leads nowhere."""
    candidate, number = path, 1
    while os.path.lexists(candidate):
        number += 1
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return candidate

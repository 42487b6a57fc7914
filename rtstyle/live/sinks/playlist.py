"""An HLS playlist on disk, which replaces nothing that another program puts at its name."""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

from rtstyle.errors import OutputExistsError, VideoWriteError
from rtstyle.files import check_file_output, is_regular, move_whole


class Playlist:
    """Moves each version of a playlist from the hidden name under which FFmpeg writes it to its own name.

    FFmpeg would rename over anything. So a file that appears at ``path`` at any moment stays, unless ``overwrite``.

    Args:
        path: The playlist; its segments lie beside it.
        overwrite: True replaces a file that exists.

    Raises:
        OutputExistsError, VideoWriteError: It exists, its folder is not there, or a link or device has the name of
            one of its segments.
    """

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self.path, self.overwrite = path, overwrite
        self._own: tuple[int, ...] | None = None
        stem = os.fsencode(path.name)[:120].decode("utf-8", "ignore")  # names may be 255 bytes long
        self.hidden = path.with_name(f".{stem}.{secrets.token_hex(8)}.part")
        """Where FFmpeg writes it."""
        check_file_output(path, overwrite=overwrite)
        self._refuse_links()

    @property
    def segments(self) -> str:
        """FFmpeg's pattern of the names of the segments."""
        return str(self.path.with_suffix("")).replace("%", "%%") + "-%d.ts"

    def check(self) -> None:
        """Find whether the next version can be put at ``path``.

        Raises:
            OutputExistsError: Another program put a file there.
            VideoWriteError: There is a folder or device by now.
        """
        if self.overwrite or self._is_own():
            check_file_output(self.path, overwrite=True)
        elif os.path.lexists(self.path):
            raise self._appeared()

    def publish(self) -> None:
        """Put the version that FFmpeg has finished, if there is one, at ``path``; costs one look at the folder.

        Raises:
            OutputExistsError, VideoWriteError, OSError: As ``check``, or the folder may not be written.
        """
        if not self.hidden.exists():
            return
        self.check()
        try:
            move_whole(self.hidden, self.path, overwrite=self.overwrite or self._is_own())
        except FileExistsError as error:
            raise self._appeared() from error
        self._own = _identity(self.path)

    def discard(self) -> None:
        """Remove what a connection that was broken off left under the hidden name."""
        for name in (self.hidden.name, f"{self.hidden.name}.tmp"):
            with suppress(OSError):
                self.hidden.with_name(name).unlink(missing_ok=True)

    def _is_own(self) -> bool:
        return self._own is not None and _identity(self.path) == self._own

    def _appeared(self) -> OutputExistsError:
        return OutputExistsError(f"{self.path} appeared after the session began and is not replaced without -y")

    def _refuse_links(self) -> None:
        """Refuse names under which FFmpeg would write through a link or into a device."""
        segment = re.compile(rf"{re.escape(self.path.stem)}-\d+\.ts")
        entries: list[Path] = []
        with suppress(OSError):  # a folder that may not be listed
            entries = list(self.path.parent.iterdir())
        for entry in entries:
            if segment.fullmatch(entry.name) and not is_regular(entry):
                raise VideoWriteError(
                    f"cannot write {self.path}: {entry} is in the way and no ordinary file: move it away"
                )


def _identity(path: Path) -> tuple[int, ...] | None:
    """Return what distinguishes a file from another one that took its name; None where there is none."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size

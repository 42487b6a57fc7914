"""Errors that a user can cause, or can do something about.

Each derives from ``RtstyleError`` and from the builtin that it is, so both kinds of ``except`` work.
The command line prints them as one line and exits with 1.

    RtstyleError
        SettingError            ValueError          a setting out of its range, or two that do not go together
        StyleNotFoundError      LookupError         no style of that name
        StyleFormatError        ValueError          a style folder that cannot be read
        BackendUnavailableError RuntimeError        no engine can be opened
        DeviceError             RuntimeError        a GPU that failed while it ran
        ImageError            OSError             an image that cannot be read or written
        VideoOpenError          OSError             a file that is no video, or not there
        VideoStalledError       TimeoutError        a video from the network that stopped coming; a VideoOpenError too
        VideoWriteError         OSError             an output that cannot be written
        OutputExistsError       FileExistsError     an output that would be lost
        CameraError             OSError             a live source that is absent or went away
        SourceStalledError      TimeoutError        a live source that stopped sending
        DisplayError            RuntimeError        no window can be opened
        ServerError             OSError             a web server that cannot listen
"""

from __future__ import annotations

import errno


class RtstyleError(Exception):
    """Base of all errors that rtstyle raises on purpose."""

    def __str__(self) -> str:
        # LookupError and OSError print themselves in ways of their own.
        return str(self.args[0]) if self.args else ""


class SettingError(RtstyleError, ValueError):
    """A setting is out of its range, or does not go together with another."""


class StyleNotFoundError(RtstyleError, LookupError):
    """There is no style of that name."""


class StyleFormatError(RtstyleError, ValueError):
    """A style folder is incomplete or damaged."""


class BackendUnavailableError(RtstyleError, RuntimeError):
    """An engine cannot be opened: a library, device or instruction set is missing."""


class DeviceError(RtstyleError, RuntimeError):
    """A GPU refused or failed while an engine ran on it."""


class ImageError(RtstyleError, OSError):
    """A still image cannot be read or written."""


class VideoOpenError(RtstyleError, OSError):
    """An input cannot be opened as a video."""


class VideoStalledError(VideoOpenError, TimeoutError):
    """A video from the network stopped coming for longer than its timeout."""


class VideoWriteError(RtstyleError, OSError):
    """An output cannot be written."""


class OutputExistsError(RtstyleError, FileExistsError):
    """An output exists already and was not to be overwritten."""


class CameraError(RtstyleError, OSError):
    """A live source is absent, refuses to open, or went away."""


class SourceStalledError(CameraError, TimeoutError):
    """A live source stopped sending for longer than its timeout."""


class DisplayError(RtstyleError, RuntimeError):
    """A window was asked for and none can be opened."""


class ServerError(RtstyleError, OSError):
    """A web server cannot listen where it should."""


def check_seconds(name: str, value: float | None, *, zero: bool = False) -> None:
    """Refuse a time that is no time; None passes.

    Args:
        name: What the time is for, as in "a timeout".
        zero: Whether 0 is one.

    Raises:
        SettingError: It is NaN, below 0 (or 0, unless that is one), or longer than a year.
    """
    if value is not None and not (0 < value <= _YEAR or (zero and value == 0)):
        least = "0 seconds or more" if zero else "above 0 seconds"
        raise SettingError(f"{name} must be {least} and at most a year, got {value:g}")


_YEAR = 366 * 86400


def reason_of(error: Exception) -> str:
    """Return in one line what FFmpeg or the system reports."""
    if getattr(error, "errno", None) == errno.ENOSPC:
        return "the disk is full"
    return " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())

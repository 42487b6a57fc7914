"""Opens what settings ask for as a mask."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rtstyle.errors import RtstyleError, SettingError
from rtstyle.frame import Size
from rtstyle.mask.mix import FrameMask
from rtstyle.mask.settings import MaskSettings


def open_mask(settings: MaskSettings, size: Size, matrix: tuple[int, ...] | None = None) -> FrameMask | None:
    """Open a mask for frames of one size; None where no mask is asked for.

    Args:
        size: Of the frames, as they are stored.
        matrix: How players turn the frames, as FFmpeg's display matrix; None: not at all.

    Raises:
        SettingError: Its file cannot be read.
    """
    if settings.source is None:
        return None
    from rtstyle.mask.file import FileMask  # it loads FFmpeg

    return FileMask(Path(settings.source), size, feather=settings.feather, matrix=matrix)


@contextmanager
def opened_mask(
    settings: MaskSettings, size: Size, matrix: tuple[int, ...] | None = None
) -> Iterator[FrameMask | None]:
    """Open a mask as ``open_mask`` does, and close it in the end."""
    mask = open_mask(settings, size, matrix)
    try:
        yield mask
    finally:
        if mask is not None:
            mask.close()


def mask_files(settings: MaskSettings) -> tuple[tuple[Path, ...], float | None]:
    """Return the files of a mask, and the seconds that it lasts as declared; None: without end, or unknown.

    Raises:
        SettingError: They cannot be read.
    """
    if settings.source is None:
        return (), None
    from rtstyle.mask.file import MaskClip, is_still, read_grey
    from rtstyle.video.inputs import check_exists

    path = Path(settings.source)
    try:
        check_exists(path)
        if is_still(path):
            read_grey(path)
            return (path,), None
        clip = MaskClip(path)
    except RtstyleError as error:
        raise SettingError(f"cannot read the mask {path}: {error}") from error
    clip.close()
    return clip.files, clip.duration

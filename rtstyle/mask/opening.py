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
        BackendUnavailableError: OpenVINO cannot run the network that finds it.
    """
    mask: FrameMask | None = None
    if settings.found:
        from rtstyle.mask.person import PersonMask

        background = settings.found == "background"
        mask = PersonMask(size, background=background, feather=settings.feather, matrix=matrix)
    elif settings.path:
        from rtstyle.mask.file import FileMask

        mask = FileMask(settings.path, size, feather=settings.feather, matrix=matrix)
    if settings.keep_face:
        from rtstyle.mask.face import FaceMask

        mask = FaceMask(mask, size, matrix)
    return mask


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
    path = settings.path
    if path is None:
        return (), None
    from rtstyle.mask.file import MaskClip, is_still, read_grey
    from rtstyle.video.inputs import check_exists

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

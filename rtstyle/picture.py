"""Still pictures: read, stylize, write; one file or a folder of them."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle.backends import Controls, Engine, EngineSettings
from rtstyle.errors import PictureError, RtstyleError, SettingError
from rtstyle.files import write_whole
from rtstyle.frame import Size
from rtstyle.style import Style
from rtstyle.stylizer import Stylizer
from rtstyle.video import check_file_output

PICTURES = (".jpg", ".jpeg", ".png", ".webp")
"""Endings of pictures that can be read and written."""

STDIO = Path("-")
"""The input or output that is no file."""


class PictureStylizer:
    """Stylizes stills, with one engine kept as long as their size does not change. A context manager."""

    def __init__(
        self,
        style: Style | str = "sketch",
        *,
        controls: Controls = Controls(),
        engine: EngineSettings = EngineSettings(),
    ) -> None:
        self._stylizer = Stylizer(style, controls=controls, engine=engine)
        self.style = self._stylizer.style

    @property
    def engine(self) -> Engine | None:
        """The engine in use; None before the first picture."""
        return self._stylizer.engine

    def stylize(self, source: Path, target: Path, *, overwrite: bool = False) -> Size:
        """Stylize one picture file into another and return its size. Transparency is kept for png and webp.

        ``-`` is the standard input or output; what goes out there is PNG.

        Raises:
            PictureError: The source is no picture, or the target cannot be written.
            OutputExistsError: The target exists and ``overwrite`` is False.
        """
        if source != STDIO and not source.exists():
            raise PictureError(f"cannot read {source}: No such file or directory")
        if target != STDIO and target.suffix.lower() not in PICTURES:
            raise SettingError(f"cannot write {target.name!r}: the output must end in one of {', '.join(PICTURES)}")
        if source.exists() and target.exists() and source.samefile(target):
            raise SettingError(f"input and output are the same file: {source}")
        picture = read_picture(source)
        if target != STDIO:
            check_file_output(target, overwrite=overwrite)
        colours, alpha = (picture[..., :3], picture[..., 3:]) if picture.shape[2] == 4 else (picture, None)
        result = self._stylizer.stylize(colours[..., ::-1])[..., ::-1]
        if alpha is not None and _ending(target) in (".png", ".webp"):
            result = np.concatenate((result, alpha), 2)
        write_picture(target, np.ascontiguousarray(result))
        return Size(picture.shape[1], picture.shape[0])

    def close(self) -> None:
        """Free the engine."""
        self._stylizer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _ending(path: Path) -> str:
    return ".png" if path == STDIO else path.suffix.lower()


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read a picture, ``-`` from the standard input, upright: shape (h, w, 3) BGR or (h, w, 4) BGRA, uint8.

    Raises:
        PictureError: It is missing, no picture, or smaller than 16x16.
    """
    if path.is_dir():
        raise PictureError(f"{path} is a folder; give an output folder too, or one picture")
    try:
        data = np.frombuffer(sys.stdin.buffer.read(), np.uint8) if path == STDIO else np.fromfile(path, np.uint8)
    except OSError as error:
        raise PictureError(f"cannot read {path}: {error.strerror or error}") from error
    # UNCHANGED keeps transparency but ignores how the camera was held; COLOR turns the picture upright.
    try:
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
        full = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if picture is not None else None
    except cv2.error as error:  # more pixels than OpenCV takes
        raise PictureError(f"{path} cannot be read as a picture: {error.err or error.msg}") from error
    if picture is None:
        raise PictureError(f"{path} cannot be read as a picture (jpg, png or webp)")
    if min(picture.shape[:2]) < 16:
        raise PictureError(f"{path} is {picture.shape[1]}x{picture.shape[0]}; pictures must be at least 16x16")
    upright = np.asarray(picture, np.uint8)
    if full is not None and full.ndim == 3 and full.shape[2] == 4:
        stored = np.asarray(full if full.dtype == np.uint8 else full // 256, np.uint8)
        upright = np.concatenate((upright, _turned_like(upright, stored)[..., 3:]), 2)
    return upright


def _turned_like(upright: NDArray[np.uint8], stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn and mirror BGRA as stored in the file so that its colours lie as in ``upright``."""
    ways = [np.rot90(side, quarters) for side in (stored, stored[:, ::-1]) for quarters in range(4)]
    fitting = [way for way in ways if way.shape[:2] == upright.shape[:2]]
    return min(fitting, key=lambda way: cv2.norm(np.ascontiguousarray(way[..., :3]), upright, cv2.NORM_L1))


def write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write BGR or BGRA under its final name only when whole: jpg and webp at quality 95; to ``-`` PNG.

    Raises:
        PictureError: The disk is full, or the folder may not be written.
        BrokenPipeError: Whoever read the standard output has gone.
    """
    ending = _ending(path)
    options = {".jpg": cv2.IMWRITE_JPEG_QUALITY, ".jpeg": cv2.IMWRITE_JPEG_QUALITY, ".webp": cv2.IMWRITE_WEBP_QUALITY}
    try:
        done, data = cv2.imencode(ending, picture, [options[ending], 95] if ending in options else [])
        if not done:
            raise PictureError(f"cannot write {path}: {picture.shape[1]}x{picture.shape[0]} is too large for {ending}")
        if path == STDIO:
            sys.stdout.buffer.write(data.tobytes())
            sys.stdout.buffer.flush()
            return
        write_whole(path, data.tobytes())
    except (PictureError, BrokenPipeError):
        raise
    except (OSError, cv2.error) as error:
        reason = "the disk is full" if getattr(error, "errno", None) == errno.ENOSPC else str(error)
        raise PictureError(f"cannot write {path}: {reason}") from error


@dataclass(frozen=True)
class PictureReport:
    """What ``stylize_pictures`` did; ``rtstyle image --json`` prints it."""

    pictures: int
    failed: dict[str, str]
    """Input and reason of each that could not be stylized; the others are done all the same."""
    seconds: float
    backend: str
    precision: str
    device: str
    style: str


def stylize_pictures(
    source: Path | str,
    target: Path | str,
    *,
    style: Style | str = "sketch",
    controls: Controls = Controls(),
    engine: EngineSettings = EngineSettings(),
    overwrite: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> PictureReport:
    """Stylize a picture, or all pictures of a folder into another folder.

    Args:
        engine: Backend, precision, device, size of the network and size of strokes.

    Raises:
        RtstyleError: A single picture failed, or the folder holds none.
    """
    begun = time.perf_counter()
    source, target = Path(source), Path(target)
    pairs = [(source, target)]
    if source.is_dir():
        found = sorted(p for p in source.iterdir() if p.suffix.lower() in PICTURES)
        if not found:
            raise PictureError(f"the folder {source} holds no pictures ({', '.join(PICTURES)})")
        if target.exists() and not target.is_dir():
            raise SettingError(f"the input is a folder, so the output must be one: {target} is a file")
        pairs = [(picture, target / picture.name) for picture in found]
    elif target.is_dir():
        pairs = [(source, target / source.name)]
    failed: dict[str, str] = {}
    with PictureStylizer(style, controls=controls, engine=engine) as stylizer:
        if source.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        for count, (picture, result) in enumerate(pairs, 1):
            try:
                stylizer.stylize(picture, result, overwrite=overwrite)
            except RtstyleError as error:
                if not source.is_dir():
                    raise
                failed[str(picture)] = str(error)
            if progress:
                progress(count, len(pairs), picture.name)
        if len(failed) == len(pairs):
            first = next(iter(failed.values()))
            raise PictureError(f"none of the {len(pairs)} pictures could be stylized; the first: {first}")
        used = stylizer.engine
    return PictureReport(
        pictures=len(pairs) - len(failed),
        failed=failed,
        seconds=round(time.perf_counter() - begun, 3),
        backend=used.backend if used else "",
        precision=used.precision if used else "",
        device=used.device if used else "",
        style=stylizer.style.name,
    )

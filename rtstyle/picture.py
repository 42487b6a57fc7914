"""Still images: read, stylize, write; one file or a folder of them."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle.backends import Controls, Engine, EngineSettings
from rtstyle.closing import Closing
from rtstyle.errors import OutputExistsError, PictureError, RtstyleError, SettingError, reason_of
from rtstyle.files import hushed, read_whole, write_whole
from rtstyle.frame import Size
from rtstyle.mask.settings import MaskSettings
from rtstyle.metadata import JPEG, Metadata, add_metadata, read_metadata
from rtstyle.render.memory import memory_available, refuse_too_large
from rtstyle.style import Style
from rtstyle.stylizer import Stylizer
from rtstyle.video import check_file_output
from rtstyle.video.opening import MAX_PIXELS

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")
"""Of images that can be read and written."""

READ_ONLY = {".avif": ".png"}
"""Extensions of further images of a folder that are read, and what each is written as."""

STDIO = Path("-")
"""The input or output that is no file."""


class PictureStylizer(Closing):
    """Stylizes stills, with one engine kept as long as their size does not change. A context manager."""

    def __init__(
        self,
        style: Style | str = "sketch",
        *,
        controls: Controls = Controls(),
        engine: EngineSettings = EngineSettings(),
        mask: MaskSettings = MaskSettings(),
    ) -> None:
        self._stylizer = Stylizer(style, controls=controls, engine=engine, mask=mask)
        self.style = self._stylizer.style
        self.warnings: list[str] = []
        """What of the last image is not in its output, in words."""

    @property
    def engine(self) -> Engine | None:
        """The engine in use; None before the first image."""
        return self._stylizer.engine

    def stylize(self, source: Path, target: Path, *, overwrite: bool = False) -> Size:
        """Stylize one image file into another and return its size. Transparency is kept for png and webp.

        ``-`` is the standard input or output; what goes out there is PNG.

        Raises:
            PictureError: The source is no image, or the target cannot be written.
            OutputExistsError: The target exists and ``overwrite`` is False.
        """
        if source != STDIO and not source.exists():
            raise PictureError(f"cannot read {source}: No such file or directory")
        if target != STDIO and target.suffix.lower() not in EXTENSIONS:
            raise SettingError(f"cannot write {target.name!r}: the output must end in one of {', '.join(EXTENSIONS)}")
        if source.exists() and target.exists() and source.samefile(target):
            raise SettingError(f"input and output are the same file: {source}")
        loaded = load_picture(source)
        picture = loaded.samples
        if target != STDIO:
            check_file_output(target, overwrite=overwrite)
        colors, alpha = (picture[..., :3], picture[..., 3:]) if picture.shape[2] == 4 else (picture, None)
        result = self._stylizer.stylize(colors[..., ::-1])[..., ::-1]
        self.warnings = list(loaded.notes)
        if alpha is not None and _extension(target) in (".png", ".webp"):
            result = np.concatenate((result, alpha), 2)
        elif alpha is not None and np.min(alpha) < 255:
            self.warnings.append(f"its transparency is left out: {_extension(target)} holds none; write .png or .webp")
        output = np.ascontiguousarray(result)
        self.warnings += write_picture(target, output, loaded.about.upright(), overwrite=overwrite)
        return Size(picture.shape[1], picture.shape[0])

    def close(self) -> None:
        """Free the engine."""
        self._stylizer.close()


def _extension(path: Path) -> str:
    return ".png" if path == STDIO else path.suffix.lower()


@dataclass(frozen=True)
class LoadedPicture:
    """An image that was read, upright."""

    samples: NDArray[np.uint8]
    """Shape (h, w, 3) BGR or (h, w, 4) BGRA."""
    about: Metadata
    notes: tuple[str, ...] = ()
    """What was lost in reading it, in words."""


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read only the pixels of an image, see ``load_picture``."""
    return load_picture(path).samples


def load_picture(path: Path) -> LoadedPicture:
    """Read an image, ``-`` from the standard input, turned upright, with what stands beside its pixels.

    Raises:
        PictureError: It is missing, no image, smaller than 16x16, or larger than ``opening.MAX_PIXELS``.
    """
    if path.is_dir():
        raise PictureError(f"{path} is a folder; give an output folder too, or one image")
    try:
        data = sys.stdin.buffer.read(_LARGEST + 1) if path == STDIO else read_whole(path, _LARGEST)
    except OSError as error:
        raise PictureError(f"cannot read {path}: {reason_of(error)}") from error
    _refuse_bomb(path, data)
    about = read_metadata(data)
    if about.size and about.size[0] * about.size[1] > MAX_PIXELS:
        size, most = "x".join(map(str, about.size)), MAX_PIXELS / 1e6
        raise PictureError(
            f"{path} cannot be read as an image: it is {size} by its header; at most {most:.0f} megapixels are read"
        )
    if about.size:
        try:
            refuse_too_large(Size(*about.size), memory_available())
        except SettingError as error:
            raise PictureError(f"{path}: {error}") from error
    notes: list[str] = []
    with hushed():
        stored = _decode(path, data, about, notes)
    if min(stored.shape[:2]) < 16:
        raise PictureError(f"{path} is {stored.shape[1]}x{stored.shape[0]}; images must be at least 16x16")
    if about.animated:
        notes.append("it is animated, and only its first frame is stylized: rtstyle video does all of them")
    return LoadedPicture(_upright(stored, about.orientation), about, tuple(notes))


def _refuse_bomb(path: Path, data: bytes) -> None:
    """Refuse an image of more bytes or scans than any; each scan of a JPEG costs a decoder as much as an image.

    Raises:
        PictureError: It has.
    """
    if len(data) > _LARGEST:
        raise PictureError(f"{path} has more than {_LARGEST >> 20} MB, which no image needs")
    if data[:2] == b"\xff\xd8" and data.count(b"\xff\xda") > _SCANS:
        raise PictureError(f"{path} is a JPEG of more than {_SCANS} scans, which no program writes")


_LARGEST, _SCANS = 1 << 29, 200
"""Bytes of the largest image that is read, and scans of a JPEG; progressive ones have about 10."""


def _decode(path: Path, data: bytes, about: Metadata, notes: list[str]) -> NDArray[np.uint8]:
    """Decode the pixels as they are stored: BGR, or BGRA where any may be transparent."""
    raw = np.frombuffer(data, np.uint8)
    # UNCHANGED keeps 16 bits and transparency; JPEG has neither, and may be CMYK. Both leave the image as it lies,
    # but for formats of which no header is known here: those are turned by OpenCV.
    how = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION if about.kind == JPEG else cv2.IMREAD_UNCHANGED
    try:
        decoded = cv2.imdecode(raw, how) if len(raw) else None
        if decoded is not None and not about.kind and decoded.ndim == 3 and decoded.shape[2] == 3:
            turned = cv2.imdecode(raw, cv2.IMREAD_COLOR)
            decoded = turned if decoded.dtype == np.uint8 and turned is not None else decoded
    except cv2.error as error:  # more pixels than OpenCV takes
        raise PictureError(f"{path} cannot be read as an image: {error.err or error.msg}") from error
    if decoded is None:
        heic = data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc")
        kinds = "HEIC: convert it to jpg or png first" if heic else "jpg, png or webp"
        raise PictureError(f"{path} cannot be read as an image ({kinds})")
    samples: NDArray[Any] = np.asarray(decoded)
    if samples.ndim == 2:
        samples = samples[..., None]
    if about.transparent and samples.shape[2] in (1, 3):
        samples = np.concatenate((samples, _opacity(samples, about)), 2)
    if samples.dtype == np.uint16:
        notes.append("its 16 bits are reduced to 8: styles are made in 8 bits")
        samples = np.asarray((samples.astype(np.uint32) + 128) // 257, np.uint8)
    elif samples.dtype != np.uint8:
        raise PictureError(f"{path} holds linear light ({samples.dtype}), which is not read: save it with 8 or 16 bits")
    if samples.shape[2] <= 2:  # grey, maybe with opacity
        samples = np.concatenate((np.repeat(samples[..., :1], 3, 2), samples[..., 1:]), 2)
    return np.ascontiguousarray(samples)


def _opacity(samples: NDArray[Any], about: Metadata) -> NDArray[Any]:
    """Return the opacity of a PNG of which one grey level or color is transparent: shape (h, w, 1)."""
    top = np.iinfo(samples.dtype).max
    stated = np.frombuffer(about.transparent, ">u2")[::-1].astype(np.int64)  # RGB, and OpenCV's order is BGR
    value = stated * (top // ((1 << about.bits) - 1))
    hidden = np.all(samples == value.astype(samples.dtype), axis=2, keepdims=True)
    return np.where(hidden, 0, top).astype(samples.dtype)


def _upright(stored: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn and mirror an image as EXIF says that it is shown."""
    if orientation in (2, 4, 5, 7):
        stored = stored[:, ::-1]
    quarters = {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0)
    return np.ascontiguousarray(np.rot90(stored, quarters))


def write_picture(
    path: Path, picture: NDArray[np.uint8], about: Metadata = Metadata(), *, overwrite: bool = True
) -> list[str]:
    """Write BGR or BGRA under its final name only when whole: jpg and webp at quality 95; to ``-`` PNG.

    Args:
        about: What is to stand beside the pixels: color profile, EXIF, XMP, resolution.
        overwrite: True replaces an existing file.

    Returns:
        What of ``about`` the format cannot hold, in words.

    Raises:
        PictureError: The disk is full, or the folder may not be written.
        OutputExistsError: There is a file of that name, and ``overwrite`` is False.
        BrokenPipeError: The reader of the standard output has exited.
    """
    extension = _extension(path)
    options = {".jpg": cv2.IMWRITE_JPEG_QUALITY, ".jpeg": cv2.IMWRITE_JPEG_QUALITY, ".webp": cv2.IMWRITE_WEBP_QUALITY}
    try:
        done, data = cv2.imencode(extension, picture, [options[extension], 95] if extension in options else [])
        if not done:
            raise PictureError(
                f"cannot write {path}: {picture.shape[1]}x{picture.shape[0]} is too large for {extension}"
            )
        content, lost = add_metadata(data.tobytes(), about)
        if path == STDIO:
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()
        else:
            write_whole(path, content, overwrite=overwrite)
        return lost
    except (PictureError, BrokenPipeError):
        raise
    except FileExistsError as error:
        raise OutputExistsError(f"{path} exists already; give -y (--overwrite) to replace it") from error
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
    warnings: list[str] = field(default_factory=list)
    """What is not in an output though its input has it, in words."""


def stylize_pictures(
    source: Path | str,
    target: Path | str,
    *,
    style: Style | str = "sketch",
    controls: Controls = Controls(),
    engine: EngineSettings = EngineSettings(),
    mask: MaskSettings = MaskSettings(),
    overwrite: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> PictureReport:
    """Stylize an image, or all images of a folder into another folder.

    Args:
        engine: Backend, precision, device, size of the network and size of strokes.
        mask: Where in the images the style counts; of a video its first frame.

    Raises:
        RtstyleError: A single image failed, or the folder holds none.
    """
    begun = time.perf_counter()
    source, target = Path(source), Path(target)
    pairs, warnings = _pairs_of(source, target)
    failed: dict[str, str] = {}
    with PictureStylizer(style, controls=controls, engine=engine, mask=mask) as stylizer:
        if source.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        for count, (picture, result) in enumerate(pairs, 1):
            try:
                stylizer.stylize(picture, result, overwrite=overwrite)
                warnings += [f"{picture}: {words}" for words in stylizer.warnings]
            except RtstyleError as error:
                if not source.is_dir():
                    raise
                failed[str(picture)] = str(error)
            if progress:
                progress(count, len(pairs), picture.name)
        if len(failed) == len(pairs):
            first = next(iter(failed.values()))
            raise PictureError(f"none of the {len(pairs)} images could be stylized; the first: {first}")
        used = stylizer.engine
    return PictureReport(
        pictures=len(pairs) - len(failed),
        failed=failed,
        seconds=round(time.perf_counter() - begun, 3),
        backend=used.backend if used else "",
        precision=used.precision if used else "",
        device=used.device if used else "",
        style=stylizer.style.name,
        warnings=warnings,
    )


def _pairs_of(source: Path, target: Path) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Return the images to read and where each is written, and warnings about what is passed over."""
    if not source.is_dir():
        return [(source, target / _written_as(source) if target.is_dir() else target)], []
    readable = (*EXTENSIONS, *READ_ONLY)
    entries = [p for p in source.iterdir() if not p.name.startswith(".")]  # hidden ones are no images
    found = sorted(p for p in entries if p.suffix.lower() in readable)
    if not found:
        raise PictureError(f"the folder {source} holds no images ({', '.join(EXTENSIONS)})")
    if target.exists() and not target.is_dir():
        raise SettingError(f"the input is a folder, so the output must be one: {target} is a file")
    others = shortened(sorted(p.name for p in entries if p not in found))
    warnings = (
        [f"passed over, because they are no {', '.join(readable)}: {others}"] if len(found) < len(entries) else []
    )
    return [(image, target / _written_as(image)) for image in found], warnings


def _written_as(picture: Path) -> str:
    return picture.stem + READ_ONLY.get(picture.suffix.lower(), picture.suffix)


def shortened(names: list[str], most: int = 8) -> str:
    """Join names for one line; of many, the first and how many more."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")

"""Still images: stylize, write; one file or a folder of them. How they are read: ``reading``."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle.backends import Controls, Engine, EngineSettings
from rtstyle.closing import Closing
from rtstyle.errors import ImageError, OutputExistsError, RtstyleError, SettingError
from rtstyle.files import check_file_output, write_whole
from rtstyle.frame import Size
from rtstyle.mask.settings import MaskSettings
from rtstyle.metadata import Metadata, add_metadata
from rtstyle.reading import STDIO, load_image
from rtstyle.style import Style
from rtstyle.stylizer import Stylizer

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")
"""Of images that can be read and written."""

READ_ONLY = {".avif": ".png"}
"""Extensions of further images of a folder that are read, and what each is written as."""


class ImageStylizer(Closing):
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
            ImageError: The source is no image, or the target cannot be written.
            OutputExistsError: The target exists and ``overwrite`` is False.
        """
        if source != STDIO and not source.exists():
            raise ImageError(f"cannot read {source}: No such file or directory")
        if target != STDIO and target.suffix.lower() not in EXTENSIONS:
            raise SettingError(f"cannot write {target.name!r}: the output must end in one of {', '.join(EXTENSIONS)}")
        if source.exists() and target.exists() and source.samefile(target):
            raise SettingError(f"input and output are the same file: {source}")
        loaded = load_image(source)
        image = loaded.samples
        if target != STDIO:
            check_file_output(target, overwrite=overwrite)
        colors, alpha = (image[..., :3], image[..., 3:]) if image.shape[2] == 4 else (image, None)
        result = self._stylizer.stylize(colors[..., ::-1])[..., ::-1]
        self.warnings = list(loaded.notes)
        if alpha is not None and _extension(target) in (".png", ".webp"):
            result = np.concatenate((result, alpha), 2)
        elif alpha is not None and np.min(alpha) < 255:
            self.warnings.append(f"its transparency is left out: {_extension(target)} holds none; write .png or .webp")
        output = np.ascontiguousarray(result)
        self.warnings += save_image(target, output, loaded.about.upright(), overwrite=overwrite)
        return Size(image.shape[1], image.shape[0])

    def close(self) -> None:
        """Free the engine."""
        self._stylizer.close()


def _extension(path: Path) -> str:
    return ".png" if path == STDIO else path.suffix.lower()


def save_image(
    path: Path, image: NDArray[np.uint8], about: Metadata = Metadata(), *, overwrite: bool = True
) -> list[str]:
    """Write BGR or BGRA under its final name only when whole: jpg and webp at quality 95; to ``-`` PNG.

    Args:
        about: What is to stand beside the pixels: color profile, EXIF, XMP, resolution.
        overwrite: True replaces an existing file.

    Returns:
        What of ``about`` the format cannot hold, in words.

    Raises:
        ImageError: The disk is full, or the folder may not be written.
        OutputExistsError: There is a file of that name, and ``overwrite`` is False.
        BrokenPipeError: The reader of the standard output has exited.
    """
    extension = _extension(path)
    options = {".jpg": cv2.IMWRITE_JPEG_QUALITY, ".jpeg": cv2.IMWRITE_JPEG_QUALITY, ".webp": cv2.IMWRITE_WEBP_QUALITY}
    try:
        done, data = cv2.imencode(extension, image, [options[extension], 95] if extension in options else [])
        if not done:
            raise ImageError(f"cannot write {path}: {image.shape[1]}x{image.shape[0]} is too large for {extension}")
        content, lost = add_metadata(data.tobytes(), about)
        if path == STDIO:
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()
        else:
            write_whole(path, content, overwrite=overwrite)
        return lost
    except (ImageError, BrokenPipeError):
        raise
    except FileExistsError as error:
        raise OutputExistsError(f"{path} exists already; give -y (--overwrite) to replace it") from error
    except (OSError, cv2.error) as error:
        reason = "the disk is full" if getattr(error, "errno", None) == errno.ENOSPC else str(error)
        raise ImageError(f"cannot write {path}: {reason}") from error


@dataclass(frozen=True)
class ImageReport:
    """What ``stylize_images`` did; ``rtstyle image --json`` prints it."""

    images: int
    failed: dict[str, str]
    """Input and reason of each that could not be stylized; the others are done all the same."""
    seconds: float
    backend: str
    precision: str
    device: str
    style: str
    warnings: list[str] = field(default_factory=list)
    """What is not in an output though its input has it, in words."""


def stylize_images(
    source: Path | str,
    target: Path | str,
    *,
    style: Style | str = "sketch",
    controls: Controls = Controls(),
    engine: EngineSettings = EngineSettings(),
    mask: MaskSettings = MaskSettings(),
    overwrite: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> ImageReport:
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
    with ImageStylizer(style, controls=controls, engine=engine, mask=mask) as stylizer:
        if source.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        for count, (image, result) in enumerate(pairs, 1):
            try:
                stylizer.stylize(image, result, overwrite=overwrite)
                warnings += [f"{image}: {words}" for words in stylizer.warnings]
            except RtstyleError as error:
                if not source.is_dir():
                    raise
                failed[str(image)] = str(error)
            if progress:
                progress(count, len(pairs), image.name)
        if len(failed) == len(pairs):
            first = next(iter(failed.values()))
            raise ImageError(f"none of the {len(pairs)} images could be stylized; the first: {first}")
        used = stylizer.engine
    return ImageReport(
        images=len(pairs) - len(failed),
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
        raise ImageError(f"the folder {source} holds no images ({', '.join(EXTENSIONS)})")
    if target.exists() and not target.is_dir():
        raise SettingError(f"the input is a folder, so the output must be one: {target} is a file")
    others = shortened(sorted(p.name for p in entries if p not in found))
    warnings = (
        [f"passed over, because they are no {', '.join(readable)}: {others}"] if len(found) < len(entries) else []
    )
    return [(image, target / _written_as(image)) for image in found], warnings


def _written_as(image: Path) -> str:
    return image.stem + READ_ONLY.get(image.suffix.lower(), image.suffix)


def shortened(names: list[str], most: int = 8) -> str:
    """Join names for one line; of many, the first and how many more."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")

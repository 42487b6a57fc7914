"""Styles of visitors: images that a page sends while `rtstyle serve` runs."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

from rtstyle.errors import ImageError, StyleFormatError
from rtstyle.files import passing_folder
from rtstyle.metadata import read_metadata
from rtstyle.style import Style, load_style

_PIXELS = 40_000_000
"""Of the largest image that is taken."""

MAX_OWN = 200
"""Images of all visitors, until the server ends: places are a byte of the protocol."""


class OwnStyles:
    """Makes styles from images and remembers their places. Nothing outlives ``close``; where there is memory that looks
    like a folder (``/dev/shm``), nothing is written to a disk either.

    Args:
        styles: The list that visitors choose from; styles are added to its end.
    """

    def __init__(self, styles: list[Style]) -> None:
        self._styles = styles
        self._places: dict[bytes, int] = {}
        self._making = threading.Lock()
        self._folder = passing_folder()

    def add(self, data: bytes) -> int:
        """Return the place of the style of an image, which is made if it is new. Takes seconds; from any thread.

        Raises:
            ImageError, StyleFormatError: It is no image, or none to paint after, or there are too many.
        """
        from rtstyle.universal.making import make_style

        key = hashlib.sha256(data).digest()
        with self._making:
            if key in self._places:
                return self._places[key]
            if len(self._places) >= MAX_OWN:
                raise StyleFormatError(
                    f"{MAX_OWN} images were taken already: no more until this server is started again"
                )
            size = read_metadata(data).size
            if size and size[0] * size[1] > _PIXELS:
                raise ImageError(
                    f"the image has {size[0]}x{size[1]} pixels; at most {_PIXELS // 10**6} megapixels are taken"
                )
            number = len(self._places) + 1
            image, folder = (Path(self._folder.name, name) for name in (f"image {number}", f"your image {number}"))
            image.write_bytes(data)
            try:
                style = load_style(make_style(image, folder))
            except (ImageError, StyleFormatError) as error:
                raise type(error)(str(error).replace(str(image), "the image")) from error
            finally:
                image.unlink()
            self._styles.append(style)
            self._places[key] = len(self._styles) - 1
            return self._places[key]

    def close(self) -> None:
        """Forget all images."""
        self._folder.cleanup()

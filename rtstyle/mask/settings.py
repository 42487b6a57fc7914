"""Settings of masks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rtstyle.errors import SettingError
from rtstyle.settings import check_types

_WIDEST = 1000

FOUND = ("person", "background")
"""Masks that a network finds in each frame."""


@dataclass(frozen=True, kw_only=True)
class MaskSettings:
    """Where in a frame the style counts."""

    source: Path | str | None = None
    """``person`` or ``background``, or a gray image or video that is scaled to the frame: black keeps the source, white
    is the style. None: no mask."""
    feather: int | None = None
    """Width of the soft edge in pixels, which lies inside the mask; None: a 180th of the frame's short side for a file,
    and what the network gives for persons."""
    keep_face: bool = False
    """Weaken the style on faces."""

    def __post_init__(self) -> None:
        check_types(self)
        if self.feather is not None and not 0 <= self.feather <= _WIDEST:
            raise SettingError(f"the edge of a mask must be from 0 to {_WIDEST} pixels wide, got {self.feather}")

    def __bool__(self) -> bool:
        return self.source is not None or self.keep_face

    @property
    def found(self) -> str | None:
        """``person`` or ``background`` where a network finds the mask; else None."""
        return str(self.source) if self.source in FOUND else None

    @property
    def path(self) -> Path | None:
        """The file of the mask; None where there is none."""
        return None if self.source is None or self.found else Path(self.source)

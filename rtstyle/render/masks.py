"""The mask of a render: what of it a plan holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rtstyle.mask.settings import MaskSettings
from rtstyle.render.resume import identity_of

_SHORTER = 0.1
"""Seconds by which a mask may be shorter than its video without a warning: declared lengths are no more exact."""


@dataclass(frozen=True)
class PlannedMask:
    """The mask of a plan, which was found to be readable."""

    settings: MaskSettings = MaskSettings()
    identity: dict[str, Any] = field(default_factory=dict)
    """What distinguishes its file and settings from others, in JSON's types."""
    notes: tuple[str, ...] = ()
    """What the user should know of it."""


def plan_mask(settings: MaskSettings, end: float | None) -> PlannedMask:
    """Read enough of a mask to know that it can be used.

    Args:
        end: Seconds of the source's timeline at which the render ends; None: unknown.

    Raises:
        SettingError: It cannot be read.
    """
    if not settings:
        return PlannedMask()
    from rtstyle.mask.opening import mask_files

    files, lasts = mask_files(settings)
    identity = {"feather": settings.feather, "found": settings.found, "keep face": settings.keep_face}
    identity |= identity_of(files) if files else {}
    notes: tuple[str, ...] = ()
    if lasts is not None and end is not None and lasts < end - _SHORTER:
        notes = (f"the mask ends at {lasts:.1f} s and the video at {end:.1f} s: the last frame of the mask is held",)
    return PlannedMask(settings, identity, notes)

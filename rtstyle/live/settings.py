"""Settings of a live session."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from rtstyle.canvas.follower import Follow
from rtstyle.errors import SettingError, check_seconds
from rtstyle.frame import Size
from rtstyle.web.address import Address

Preview = Literal["auto", "window", "browser", "none"]

PATIENCE = 10.0
"""Seconds that a camera is waited for where frames are counted."""


@dataclass(frozen=True, kw_only=True)
class CaptureSettings:
    """How a live source is opened; a ``FrameSource`` of the caller's own ignores all but ``timeout``."""

    size: Size | None = None
    """Size that a camera or the screen is asked for; frames of another size are fitted into it."""
    fps: Fraction | None = None
    """Frames per second that a camera is asked for, or at which images of a folder follow each other."""
    timeout: float = 5.0
    """Seconds that the source may take to open, and for each frame."""
    wait: float | None = None
    """Seconds that a camera is waited for that went away or stalled; 0: not at all. None: without limit, or 10 s where
    frames are counted, since the count would never be reached."""
    loop: bool | None = None
    """Restart files at their end; None: images are restarted, videos are not."""
    playlists: bool = False
    """A playlist may lead to any file or host, see ``video.opening``."""

    def __post_init__(self) -> None:
        check_seconds("a timeout", self.timeout)


@dataclass(frozen=True, kw_only=True)
class LiveSettings:
    """How a live session is shown, and when it ends."""

    preview: Preview = "auto"
    """``auto`` opens a window where there is a display; ``browser`` serves a page and ``/stream.mjpg``."""
    address: Address = Address()
    """Where the page is served."""
    mirror: bool = False
    """Exchange left and right; the key m toggles it."""
    denoise: bool = True
    """Apply temporal noise reduction to static areas before stylization; the key o toggles it."""
    follow: Follow = "auto"
    """What strokes follow: ``flow`` everything that moves, ``camera`` pans only, ``off`` nothing; ``auto`` is the
    camera. Flow is left out while frames are dropped."""
    target_fps: float | None = None
    """Frames per second to be reached: a machine that is too slow uses a smaller network, then a smaller size."""
    frames: int | None = None
    """End after this many shown frames."""
    seconds: float | None = None
    """End after this time."""

    def __post_init__(self) -> None:
        for name in ("frames", "seconds", "target_fps"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1e9:
                raise SettingError(f"{name} must be above 0, got {value}")

    @property
    def limited(self) -> bool:
        """Whether the session ends by itself."""
        return bool(self.frames or self.seconds)

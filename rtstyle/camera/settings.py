"""Settings of a live source."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from rtstyle.errors import SettingError, check_seconds
from rtstyle.frame import MAX_PIXELS, Size
from rtstyle.settings import check_types


@dataclass(frozen=True, kw_only=True)
class CaptureSettings:
    """How a live source is opened; a ``FrameSource`` of the caller's own ignores all but ``timeout``."""

    size: Size | None = None
    """Size that a camera is asked for; it may send another, which ``LiveSource.notes`` says. Of the screen it is the
    region; all other frames are fitted into it. None is the source's own."""
    fps: Fraction | None = None
    """Frames per second that a camera or the screen is asked for; of images, how many are shown in a second (1/3 where
    it is None). A URL or a file keeps its own."""
    timeout: float = 5.0
    """Seconds that the source may take to open, and for each frame."""
    wait: float | None = None
    """Seconds that a camera, pipe or URL is waited for that went away or stalled after its first frame; 0: not at all.
    None: without limit; in ``stylize_live`` 10 s where frames are counted, since the count would never be reached."""
    loop: bool | None = None
    """Restart files at their end; None: images are restarted, videos are not."""
    playlists: bool = False
    """A playlist may lead to any file or host, see ``video.opening``."""
    controls: tuple[tuple[str, str], ...] = ()
    """Names and values of a camera's controls to set, such as ``("gain", "10")``; Linux only."""

    def __post_init__(self) -> None:
        check_types(self)
        if self.size is not None and self.size.width * self.size.height > MAX_PIXELS:
            raise SettingError(f"a size may have at most {MAX_PIXELS / 1e6:.0f} megapixels, got {self.size}")
        check_seconds("a timeout", self.timeout)
        check_seconds("the time to wait for a camera", self.wait, zero=True)
        if self.fps is not None and not 0 < self.fps < 1e6:
            raise SettingError(f"the frames per second must be above 0, got {float(self.fps):g}")

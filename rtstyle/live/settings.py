"""Settings of a live session beside those of its source, see ``rtstyle.camera.settings``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rtstyle.canvas.follower import Follow
from rtstyle.errors import SettingError
from rtstyle.live.control.modulation import Modulator
from rtstyle.mask.settings import MaskSettings
from rtstyle.settings import check_types
from rtstyle.web.address import Address

Preview = Literal["auto", "window", "browser", "none"]

PATIENCE = 10.0
"""Seconds that a camera is waited for where frames are counted."""


@dataclass(frozen=True, kw_only=True)
class ControlSettings:
    """How a live session is controlled beside its window's keys, and what it does by itself."""

    page: bool = False
    """Serve the page with its HTTP control beside a window; ``preview="browser"`` serves it in any case."""
    osc: tuple[str, int] | None = None
    """Host and port to listen for OSC on; None: not at all."""
    osc_reply_port: int | None = None
    """Where answers to OSC queries go; None: to the port that asked."""
    midi: str | None = None
    """Name of a MIDI input or a part of it, empty for the first; None: no MIDI."""
    midi_map: Path | None = None
    """File of learned MIDI bindings; None: the one in the user's folder of settings."""
    presets: Path | None = None
    """TOML file of presets and keys, see ``live.control.presets``."""
    modulate: tuple[str, ...] = ()
    """What changes by itself, see ``live.control.modulation.Modulator.parse``."""
    beat_from_audio: bool = False
    """Take the beat from the microphone, or the source's own audio, not only from taps, OSC and MIDI clock."""
    allow_strobe: bool = False
    """Allow more than three flashes per second, which can hurt people with photosensitive epilepsy."""
    remember: bool = False
    """Begin with what was used last, and keep it for the next session."""
    delay_ms: float = 0.0
    """Milliseconds after their capture at which frames leave at the earliest, up to 2000."""

    def __post_init__(self) -> None:
        check_types(self)
        for text in self.modulate:
            Modulator.parse(text, allow_strobe=self.allow_strobe)
        if not 0 <= self.delay_ms <= 2000:
            raise SettingError(f"a delay is 0 to 2000 ms, got {self.delay_ms:g}")
        if self.osc_reply_port is not None and not (self.osc and 0 < self.osc_reply_port < 65536):
            raise SettingError("a port for answers to OSC is 1 to 65535 and needs a port to listen on: --osc")
        if self.midi_map is not None and self.midi is None:
            raise SettingError("a file of MIDI bindings needs a MIDI input: --midi")


@dataclass(frozen=True, kw_only=True)
class LiveSettings:
    """How a live session is shown, and when it ends."""

    preview: Preview = "auto"
    """``auto`` opens a window where there is a display; ``browser`` serves a page and ``/stream.mjpg``."""
    clean_window: bool = False
    """Open a second window that shows the stylized frames alone, for a projector."""
    address: Address = Address()
    """Where the page is served."""
    mirror: bool = False
    """Exchange left and right; the key m toggles it."""
    denoise: bool = True
    """Apply temporal noise reduction to static areas before stylization; the key o toggles it."""
    deflicker: bool = False
    """Even out the brightness of frames before stylization, see ``live.deflicker``."""
    mask: MaskSettings = MaskSettings()
    """Where in the frame the style counts; a mask from a video is played from the first frame on."""
    follow: Follow = "auto"
    """What strokes follow: ``flow`` everything that moves, ``camera`` pans only, ``off`` nothing; ``auto`` is flow,
    which is left out while frames are dropped."""
    control: ControlSettings = ControlSettings()
    """OSC, MIDI, presets, modulation."""
    target_fps: float | None = None
    """Frames per second to be reached: a machine that is too slow uses a smaller network, then a smaller size."""
    frames: int | None = None
    """End after this many shown frames."""
    seconds: float | None = None
    """End after this time."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("frames", "seconds", "target_fps"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1e9:
                raise SettingError(f"{name} must be above 0, got {value}")

    @property
    def limited(self) -> bool:
        """Whether the session ends by itself."""
        return bool(self.frames or self.seconds)

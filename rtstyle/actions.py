"""Commands to a live session, by a key in the window or from another thread, and the state that it reports."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Action(enum.Enum):
    """A request that needs no further word."""

    QUIT = "quit"
    PAUSE = "pause"
    NEXT_STYLE = "next style"
    PREVIOUS_STYLE = "previous style"
    STRONGER = "stronger"
    WEAKER = "weaker"
    KEEP_COLORS = "keep colors"
    CROSSFADE = "crossfade"
    HOLD = "hold"
    MIRROR = "mirror"
    SNAPSHOT = "snapshot"
    RECORD = "record"
    HUD = "HUD"
    HELP = "help"


@dataclass(frozen=True, slots=True)
class StyleChosen:
    """Change to one style."""

    style: str | int
    """A name, or the place in the session's list of styles, from 0. One that is not there is told and ignored."""


@dataclass(frozen=True, slots=True)
class StrengthSet:
    """Set the strength."""

    strength: float
    """Clamped to [0, 2]."""


Command = Action | StyleChosen | StrengthSet


@dataclass(frozen=True, slots=True)
class SessionState:
    """What other threads may know of a session; made anew at every change, never changed."""

    styles: tuple[str, ...]
    style: str
    loading: str | None
    """The style that is being made."""
    strength: float
    keeps_colors: bool
    crossfades: bool
    holds: bool
    mirrored: bool
    paused: bool
    recording: bool
    figures: str
    """Rates, latency and drops in one line; renewed twice a second."""

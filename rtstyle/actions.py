"""Commands to a live session, from keys, pages, HTTP, OSC, MIDI and presets alike, and the state that it reports."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class Action(enum.Enum):
    """A request that needs no further word."""

    QUIT = "quit"
    PAUSE = "pause"
    NEXT_STYLE = "next style"
    PREVIOUS_STYLE = "previous style"
    NEXT_PRESET = "next preset"
    STRONGER = "stronger"
    WEAKER = "weaker"
    KEEP_COLORS = "keep colors"
    CROSSFADE = "crossfade"
    HOLD = "hold"
    DEFLICKER = "deflicker"
    MIRROR = "mirror"
    SPLIT = "split"
    MASK = "mask"
    BYPASS = "bypass"
    BLACKOUT = "blackout"
    CYCLE = "cycle"
    SNAPSHOT = "snapshot"
    RECORD = "record"
    BEAT = "beat"
    LEARN = "learn"
    HUD = "HUD"
    HELP = "help"


@dataclass(frozen=True, slots=True)
class StyleChosen:
    """Change to one style."""

    style: str | int
    """A name, a mix such as ``sketch:0.6,ink:0.4``, or the place in the session's list of styles, from 0. One that
    is not there is reported and ignored."""


@dataclass(frozen=True, slots=True)
class PresetChosen:
    """Change to one of the named looks."""

    preset: str | int
    """A name, or the place in the list of presets, from 0."""


@dataclass(frozen=True, slots=True)
class BlendSet:
    """Mix the frames of a second style into those of the first one."""

    share: float
    """Of the second style, clamped to [0, 1]; between 0 and 1 both styles are computed for each frame."""
    style: str | None = None
    """The second style; None: the one that was mixed in last."""


@dataclass(frozen=True, slots=True)
class StrengthSet:
    """Set the strength."""

    strength: float
    """Clamped to [0, 2]."""


@dataclass(frozen=True, slots=True)
class ColorStrengthSet:
    """Set how much of the strength applies to colors."""

    share: float
    """A factor, clamped to [0, 2]: 0 keeps the colors of the source, 1 is the style as trained."""


@dataclass(frozen=True, slots=True)
class SplitSet:
    """Show the source on the left side of previews and snapshots."""

    share: float | None
    """Of the width, clamped to [0, 1]; None: nowhere."""


@dataclass(frozen=True, slots=True)
class MaskSet:
    """Choose where in the frame the style counts."""

    mask: str
    """One of ``MASKS``; ``file`` where the session was given one."""


@dataclass(frozen=True, slots=True)
class SizeClassSet:
    """Choose the size of the network."""

    size_class: str
    """``fast``, ``default``, ``fine``, or ``auto``: what this machine keeps up with."""


@dataclass(frozen=True, slots=True)
class StrokeSizeSet:
    """Choose the size of the strokes."""

    stroke_size: float
    """Relative to those that the network draws, in [0.5, 8]."""


@dataclass(frozen=True, slots=True)
class FadeSet:
    """Set how long a change of style or preset takes."""

    seconds: float
    """Clamped to [0, 30]."""


@dataclass(frozen=True, slots=True)
class TempoSet:
    """Set the tempo that modulation follows."""

    bpm: float
    """Beats per minute, in [20, 300]."""


@dataclass(frozen=True, slots=True)
class ModulationSet:
    """Replace what changes by itself."""

    modulators: tuple[str, ...]
    """As ``live.control.modulation.Modulator.parse`` reads them; none: nothing changes by itself."""


@dataclass(frozen=True, slots=True)
class DelaySet:
    """Set how late frames leave, counted from their capture."""

    milliseconds: float
    """Clamped to [0, 2000]; 0: as early as possible."""


@dataclass(frozen=True, slots=True)
class Learn:
    """Bind the next MIDI control that is moved to a command."""

    word: str
    """A word of ``read_command``."""
    value: Any
    """Its value; None: the control's own position."""


@dataclass(frozen=True, slots=True)
class SwitchSet:
    """Turn something on or off, whatever it was before."""

    action: Action
    """One of ``SWITCHES``."""
    on: bool


Command = (
    Action
    | StyleChosen
    | PresetChosen
    | BlendSet
    | StrengthSet
    | ColorStrengthSet
    | SplitSet
    | MaskSet
    | SizeClassSet
    | StrokeSizeSet
    | FadeSet
    | TempoSet
    | ModulationSet
    | DelaySet
    | Learn
    | SwitchSet
)

SWITCHES: dict[str, tuple[Action, str]] = {
    "pause": (Action.PAUSE, "paused"),
    "keep_colors": (Action.KEEP_COLORS, "keeps_colors"),
    "crossfade": (Action.CROSSFADE, "crossfades"),
    "hold": (Action.HOLD, "holds"),
    "deflicker": (Action.DEFLICKER, "deflickers"),
    "mirror": (Action.MIRROR, "mirrored"),
    "bypass": (Action.BYPASS, "bypassed"),
    "blackout": (Action.BLACKOUT, "blacked_out"),
    "cycle": (Action.CYCLE, "cycles"),
    "record": (Action.RECORD, "recording"),
}
"""Words for what is on or off: the action that changes it over, and the field of ``SessionState`` that holds it."""

BUTTONS: dict[str, Action] = {
    "quit": Action.QUIT,
    "next_style": Action.NEXT_STYLE,
    "previous_style": Action.PREVIOUS_STYLE,
    "next_preset": Action.NEXT_PRESET,
    "stronger": Action.STRONGER,
    "weaker": Action.WEAKER,
    "snapshot": Action.SNAPSHOT,
    "beat": Action.BEAT,
    "hud": Action.HUD,
    "help": Action.HELP,
}
"""Words for what happens once; a value of 0 or false, as of a button that is let go, is ignored."""

NUMBERS: dict[str, tuple[float, float, str]] = {
    "strength": (0.0, 2.0, "strength"),
    "color_strength": (0.0, 2.0, "color_strength"),
    "blend": (0.0, 1.0, "blend"),
    "split": (0.0, 1.0, "split"),
    "fade": (0.0, 30.0, "fade"),
    "stroke_size": (0.5, 8.0, "stroke_size"),
    "bpm": (20.0, 300.0, "bpm"),
    "delay": (0.0, 2000.0, "delay_ms"),
}
"""Words that take a number: least, largest, and the field of ``SessionState`` that holds it."""

MASKS = ("off", "person", "background", "file")

SIZE_CLASSES = ("auto", "fast", "default", "fine")


def read_command(word: str, value: Any) -> Command | None:
    """Read a word and its value, as HTTP, OSC, MIDI and presets give them.

    Returns:
        The command; None where a button was let go.

    Raises:
        ValueError: There is no such word, or the value is none for it.
    """
    if word in BUTTONS:
        return BUTTONS[word] if value is None or value else None
    if word in SWITCHES:
        action = SWITCHES[word][0]
        return action if value is None else SwitchSet(action, bool(_number(word, value, 0, 1)))
    match word, value:
        case "action", str():
            return Action(value)
        case "style" | "preset", str() | int() if not isinstance(value, bool):
            return StyleChosen(value) if word == "style" else PresetChosen(value)
        case "style" | "preset", float() if value.is_integer():
            return read_command(word, int(value))
        case "split", None | False:
            return SplitSet(None)
        case "split", True:
            return SplitSet(0.5)
        case "mask", None:
            return Action.MASK
        case "mask", str() if value in MASKS:
            return MaskSet(value)
        case "size_class", str() if value in SIZE_CLASSES:
            return SizeClassSet(value)
        case "blend", [str(style), share]:
            return BlendSet(_number(word, share, 0, 1), style)
        case "blend", {"style": str(style), "share": share}:
            return BlendSet(_number(word, share, 0, 1), style)
        case "modulate", str():
            return ModulationSet(tuple(value.split()))
        case "modulate", list() | tuple() if all(isinstance(text, str) for text in value):
            return ModulationSet(tuple(value))
        case "learn", str():
            return Learn(value, None)
        case "learn", dict() if len(value) == 1:
            ((target, of),) = value.items()
            read_command(target, of)
            return Learn(target, of)
    if word in NUMBERS and not isinstance(value, bool):
        return _of_number(word, _number(word, value, *NUMBERS[word][:2]))
    raise ValueError(f"no such command: {word} {value!r}"[:200])


def _number(word: str, value: Any, least: float, largest: float) -> float:
    if isinstance(value, int | float) and least <= value <= largest:
        return float(value)
    raise ValueError(f"{word} takes a number from {least:g} to {largest:g}, got {value!r}"[:200])


def _of_number(word: str, value: float) -> Command:
    kinds: dict[str, type[Any]] = {
        "strength": StrengthSet,
        "color_strength": ColorStrengthSet,
        "blend": BlendSet,
        "split": SplitSet,
        "fade": FadeSet,
        "stroke_size": StrokeSizeSet,
        "bpm": TempoSet,
        "delay": DelaySet,
    }
    command: Command = kinds[word](value)
    return command


def target_of(command: Command) -> tuple[str, Any]:
    """Return the word and value by which a control does what a command does; a value of None is the control's own."""
    match command:
        case Action.STRONGER | Action.WEAKER | StrengthSet():
            return "strength", None
        case ColorStrengthSet():
            return "color_strength", None
        case BlendSet():
            return "blend", None
        case SplitSet() | Action.SPLIT:
            return "split", None
        case Action.MASK:
            return "mask", None
        case MaskSet(mask):
            return "mask", mask
        case StyleChosen(style):
            return "style", style
        case PresetChosen(preset):
            return "preset", preset
        case Action():
            words = {action: word for word, (action, _) in SWITCHES.items()} | {a: w for w, a in BUTTONS.items()}
            return words.get(command, "help"), None
    raise ValueError(f"{type(command).__name__} cannot be bound to a control")


def check_names(command: Command | None, styles: Sequence[str], presets: Sequence[str]) -> None:
    """Refuse a style or preset that the session does not have.

    Raises:
        ValueError: It has none of this name, or none in this place.
    """
    match command:
        case StyleChosen(str() as name) | BlendSet(_, str() as name):
            for part in name.split(","):
                _check_name("style", part.partition(":")[0].strip(), styles)
        case StyleChosen(int() as place):
            _check_name("style", place, styles)
        case PresetChosen(preset):
            _check_name("preset", preset, presets)


def _check_name(kind: str, name: str | int, names: Sequence[str]) -> None:
    if isinstance(name, int) and not 0 <= name < len(names):
        there = f"places are 0 to {len(names) - 1}" if names else f"there are no {kind}s"
        raise ValueError(f"there is no {kind} in place {name}; {there}")
    if isinstance(name, str) and name not in names:
        raise ValueError(f"there is no {kind} {name!r}; there are {', '.join(names) or 'none'}"[:400])


@dataclass(frozen=True, slots=True)
class SessionState:
    """What other threads may know of a session; replaced at every change, never modified."""

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
    color_strength: float = 1.0
    """Factor of the strength for colors."""
    blend: float = 0.0
    """Share of the second style."""
    blend_style: str | None = None
    split: float | None = None
    mask: str = "off"
    """One of ``MASKS``, as asked for."""
    masks: tuple[str, ...] = MASKS[:3]
    """What may be asked for."""
    bypassed: bool = False
    blacked_out: bool = False
    deflickers: bool = False
    cycles: bool = False
    size_class: str = "auto"
    """As asked for; the network in use is in ``figures`` of the window."""
    stroke_size: float = 1.0
    fade: float = 0.5
    """Seconds that a change of style or preset takes."""
    presets: tuple[str, ...] = ()
    preset: str | None = None
    """The last one that was chosen."""
    bpm: float | None = None
    """Tempo of the beat; None while there is none."""
    delay_ms: float = 0.0
    """As asked for."""
    latency_ms: float = 0.0
    """From the capture of a frame to the moment at which it leaves, median of the last 30."""
    recorded_seconds: float = 0.0
    """Length of the recording that runs."""


READABLE: dict[str, str] = {
    **{word: field for word, (_, _, field) in NUMBERS.items()},
    **{word: field for word, (_, field) in SWITCHES.items()},
    "style": "style",
    "preset": "preset",
    "size_class": "size_class",
    "mask": "mask",
    "latency": "latency_ms",
    "recorded": "recorded_seconds",
}
"""Words whose values can be read, and the fields of ``SessionState`` that hold them."""


def value_of(state: SessionState, word: str) -> Any:
    """Return what the state holds of one of ``READABLE``; None where it is off."""
    return getattr(state, READABLE[word])

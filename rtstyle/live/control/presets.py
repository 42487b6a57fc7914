"""Named looks and a key map of the user's own, from a TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rtstyle.actions import Action, Command, ModulationSet, check_names, read_command
from rtstyle.errors import SettingError, reason_of
from rtstyle.live.control.modulation import Modulator

_LARGEST = 1 << 20
"""Bytes of a file of presets."""

_WORDS = (
    "style", "blend", "strength", "color_strength", "keep_colors", "split", "size_class", "stroke_size", "mask",
    "modulate", "bypass", "blackout", "mirror", "hold", "deflicker",
)  # fmt: skip
"""What a preset may set, in the order in which it is set."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A named look."""

    name: str
    commands: tuple[Command, ...]
    fade: float | None = None
    """Seconds that the change to it takes; None: as the session does."""


@dataclass(frozen=True)
class ShowFile:
    """What a file of presets says."""

    presets: tuple[Preset, ...] = ()
    keys: Mapping[str, Command] = field(default_factory=dict)
    """Commands by SDL's name of a key, or by the character that it types; they come before the usual keys."""
    fade: float | None = None
    """Seconds of a change of style or preset."""
    cycle: float | None = None
    """Seconds after which the next preset is chosen; None: not by itself."""

    @property
    def names(self) -> list[str]:
        """The presets' names, in order."""
        return [preset.name for preset in self.presets]


def read_show(path: Path, styles: list[str], *, allow_strobe: bool = False) -> ShowFile:
    """Read a file of presets.

    Args:
        styles: What presets may name.

    Raises:
        SettingError: The file cannot be read, or says something that is not understood: names the place.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise SettingError(f"{path} is larger than 1 MiB: it is no file of presets")
        told = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingError(f"cannot read presets from {path}: {reason_of(error)}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{path} is no TOML: {error}") from error
    unknown = set(told) - {"preset", "keys", "fade", "cycle"}
    if unknown:
        raise SettingError(f"{path} has {', '.join(sorted(unknown))}; it may have fade, cycle, [keys] and [[preset]]")
    tables = told.get("preset", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise SettingError(f"{path}: presets are written as [[preset]], with a name each")
    presets = tuple(_preset(table, number, path, styles, allow_strobe) for number, table in enumerate(tables, 1))
    names = [preset.name for preset in presets]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SettingError(f"{path} has two presets called {twice[0]!r}")
    return ShowFile(
        presets,
        _read_keys(told.get("keys", {}), path, styles, names),
        _seconds(told.get("fade"), f"{path}: fade", 30),
        _seconds(told.get("cycle"), f"{path}: cycle", 86400, 1.0),
    )


def _preset(table: dict[str, Any], number: int, path: Path, styles: list[str], allow_strobe: bool) -> Preset:
    name = table.get("name")
    where = f"{path}: preset {number}" + (f" ({name})" if isinstance(name, str) else "")
    if not isinstance(name, str) or not 0 < len(name) <= 60 or not name.isprintable():
        raise SettingError(f"{where} needs a name of at most 60 characters")
    if unknown := set(table) - {"name", "fade", *_WORDS}:
        raise SettingError(f"{where} sets {', '.join(sorted(unknown))}; it may set {', '.join(_WORDS)}, and fade")
    commands = []
    for word in _WORDS:
        if word in table:
            commands.append(_command(word, table[word], where, styles, []))
            if isinstance(commands[-1], ModulationSet):
                for text in commands[-1].modulators:
                    Modulator.parse(text, allow_strobe=allow_strobe)
    return Preset(name, tuple(commands), _seconds(table.get("fade"), f"{where}: fade", 30))


def _command(word: str, value: Any, where: str, styles: list[str], presets: list[str]) -> Command:
    try:
        command = read_command(word, value)
        check_names(command, styles, presets)
    except ValueError as error:
        raise SettingError(f"{where}: {error}") from error
    assert command is not None
    return command


def _read_keys(told: Any, path: Path, styles: list[str], presets: list[str]) -> dict[str, Command]:
    if not isinstance(told, dict):
        raise SettingError(f"{path}: [keys] is a table, as b = 'bypass' or f1 = {{ preset = 'intro' }}")
    keys: dict[str, Command] = {}
    for key, value in told.items():
        where = f"{path}: key {key}"
        pair = (value, None) if isinstance(value, str) else next(iter(value.items()), None) if _is_pair(value) else None
        if pair is None:
            raise SettingError(f"{where} is a word, as 'bypass', or one word with a value, as {{ preset = 'intro' }}")
        if pair[0] == "split" and pair[1] is None:
            keys[key] = Action.SPLIT
        else:
            keys[key] = _command(pair[0], pair[1], where, styles, presets)
    return keys


def _is_pair(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1


def _seconds(value: Any, what: str, most: float, least: float = 0.0) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise SettingError(f"{what} is a number of seconds from {least:g} to {most:g}, got {value!r}")
    return float(value)

"""Strength and style over time: keyframes from a file, and what they give at the time of a frame."""

from __future__ import annotations

import csv
import io
import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

from rtstyle.backends import Controls
from rtstyle.errors import RtstyleError, SettingError, reason_of
from rtstyle.files import read_whole
from rtstyle.render.resume import digest_of
from rtstyle.settings import read_seconds
from rtstyle.style import SizeClassChoice, Style, load_style

COLUMNS = ("time", "strength", "color_strength", "style")

_LARGEST = 1 << 24
"""Bytes of the largest file that is read."""

_STRONGEST = 2.0

_STEPS = 128
"""Steps of a cross-fade."""

Curve = tuple[tuple[Fraction, float], ...]


@dataclass(frozen=True)
class Moment:
    """What a frame is stylized with."""

    controls: Controls
    styles: tuple[str, ...]
    """One style, or the two of a cross-fade."""
    share: int = _STEPS
    """Of the last of them, in 128ths."""


@dataclass(frozen=True)
class Automation:
    """Keyframes of strength, color strength and style, in the order of time. Values between two are linear."""

    strength: Curve = ()
    """Times in seconds of the source's timeline, and strengths; empty: it is set elsewhere."""
    color_strength: Curve = ()
    """The same of the factor of the strength for colors."""
    style: tuple[tuple[Fraction, str], ...] = ()
    """Times, and the styles that are reached then; between two different ones is a cross-fade."""

    @property
    def styles(self) -> tuple[str, ...]:
        """Each style once, in the order of time."""
        return tuple(dict.fromkeys(name for _, name in self.style))

    def at(self, time: Fraction, controls: Controls, style: str) -> Moment:
        """Return what holds at a time.

        Args:
            time: Seconds of the source's timeline.
            controls: Of what has no keyframes.
            style: The style where there are no keyframes of it.
        """
        if self.strength or self.color_strength:
            ratio = controls.chroma / controls.luma if controls.luma else 1.0
            luma = _value_at(self.strength, time) if self.strength else controls.luma
            factor = _value_at(self.color_strength, time) if self.color_strength else ratio
            controls = Controls(luma, min(luma * factor, _STRONGEST))
        if not self.style:
            return Moment(controls, (style,))
        before, after, part = _place([moment for moment, _ in self.style], time)
        old, new, share = self.style[before][1], self.style[after][1], round(_STEPS * part)
        if old == new or share in (0, _STEPS):
            return Moment(controls, (new if share == _STEPS else old,))
        return Moment(controls, (old, new), share)

    def to_json(self) -> dict[str, Any]:
        """Return the keyframes in JSON's types; ``from_json`` reads them."""
        curves = {"strength": self.strength, "color_strength": self.color_strength, "style": self.style}
        return {name: [[str(time), value] for time, value in curve] for name, curve in curves.items()}

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Automation:
        """Read what ``to_json`` returned."""
        curves: dict[str, Any] = {
            name: tuple((Fraction(time), value) for time, value in told[name]) for name in COLUMNS[1:]
        }
        return cls(**curves)


@dataclass(frozen=True)
class PlannedAutomation:
    """The automation of a plan, with its styles loaded."""

    automation: Automation = Automation()
    styles: tuple[tuple[str, Style], ...] = ()
    """Each style by the words of the file."""

    def __bool__(self) -> bool:
        return self.automation != Automation()

    def identity(self) -> dict[str, Any] | None:
        """Return what distinguishes it from others, in JSON's types; None where there is none."""
        if not self:
            return None
        return self.automation.to_json() | {"weights": {name: digest_of(style) for name, style in self.styles}}


def plan_automation(path: Path | None, size_class: SizeClassChoice) -> PlannedAutomation:
    """Read a file of keyframes, and load its styles.

    Args:
        path: None: there is none.

    Raises:
        SettingError: It cannot be read, or states what cannot be; the message names the place.
    """
    if path is None:
        return PlannedAutomation()
    automation, places = _read(path)
    styles = []
    for name in automation.styles:
        try:
            styles.append((name, load_style(name, size_class)))
        except RtstyleError as error:
            raise SettingError(f"{path}, {places[name]}: {error}") from error
    return PlannedAutomation(automation, tuple(styles))


def _value_at(curve: Curve, time: Fraction) -> float:
    """Return the value of a curve that has a keyframe."""
    before, after, part = _place([moment for moment, _ in curve], time)
    low, high = curve[before][1], curve[after][1]
    return low + (high - low) * part


def _place(times: Sequence[Fraction], time: Fraction) -> tuple[int, int, float]:
    """Return the keyframes before and after a time, and where between them it is, 0 to 1."""
    after = bisect_right(times, time)
    before = max(after - 1, 0)
    after = min(after, len(times) - 1)
    if times[after] <= times[before]:
        return before, before, 0.0
    return before, after, float((time - times[before]) / (times[after] - times[before]))


# -- reading ---------------------------------------------------------------------------------------


def _read(path: Path) -> tuple[Automation, dict[str, str]]:
    """Read a file; return with its keyframes where each style is named first."""
    curves: dict[str, list[tuple[Fraction, Any]]] = {name: [] for name in COLUMNS[1:]}
    places: dict[str, str] = {}
    times: list[tuple[Fraction, str]] = []
    for place, row in _rows(path):
        where = f"{path}, {place}"
        time = _read_time(row.get("time"), where)
        times.append((time, place))
        for name, curve in curves.items():
            value = row.get(name)
            if value is None or value == "":
                continue
            if name == "style":
                if not isinstance(value, str):
                    raise SettingError(f"{where}: style is a name or a mix such as sketch:0.6,ink:0.4, got {value!r}")
                places.setdefault(value.strip(), place)
                curve.append((time, value.strip()))
            else:
                curve.append((time, _strength_of(name, value, where)))
    for (earlier, above), (later, place) in pairwise(times):
        if later < earlier:
            raise SettingError(
                f"{path}, {place}: time {float(later):g} is before {float(earlier):g} of {above}: sort the rows"
            )
    if not any(curves.values()):
        raise SettingError(f"{path} sets nothing: it needs rows of time and {', '.join(COLUMNS[1:])}")
    return Automation(*(tuple(curve) for curve in curves.values())), places


def _rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return the rows of a file, each with its place in words."""
    try:
        text = read_whole(path, _LARGEST).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"cannot read the automation {path}: {reason_of(error)}") from error
    if path.suffix.lower() == ".json":
        return _json_rows(path, text)
    first = text.lstrip().partition("\n")[0]
    reader = csv.reader(io.StringIO(text), delimiter=";" if ";" in first and "," not in first else ",")
    try:
        lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise SettingError(f"{path} is no CSV: {error}") from error
    header = [_column(cell) for cell in lines[0][1]] if lines else []
    _check_columns(path, header)
    rows = []
    for number, cells in lines[1:]:
        if len(cells) > len(header):
            raise SettingError(f"{path}, line {number}: it has {len(cells)} cells and {len(header)} columns")
        rows.append((f"line {number}", dict(zip(header, (cell.strip() for cell in cells), strict=False))))
    return rows


def _json_rows(path: Path, text: str) -> list[tuple[str, dict[str, Any]]]:
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingError(f"{path} is no JSON: {reason_of(error)}") from error
    if not isinstance(told, list) or not all(isinstance(row, dict) for row in told):
        raise SettingError(f'{path} must be a list of keyframes such as {{"time": 0, "strength": 0.5}}')
    rows = [(f"keyframe {number}", {_column(key): row[key] for key in row}) for number, row in enumerate(told, 1)]
    for _, row in rows:
        _check_columns(path, list(row))
    return rows


def _column(text: str) -> str:
    """Return the name of a column; spelling and case are free."""
    return text.strip().lower().replace(" ", "_").replace("-", "_")


def _check_columns(path: Path, found: list[str]) -> None:
    unknown = [name for name in found if name not in COLUMNS]
    if unknown or "time" not in found or len(set(found)) < len(found):
        there = ", ".join(found)[:200] or "none"
        raise SettingError(f"{path} has the columns {there}; it needs time, and may have {', '.join(COLUMNS[1:])}")


def _read_time(value: Any, where: str) -> Fraction:
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError
        return read_seconds(str(value))
    except ValueError:
        raise SettingError(f"{where}: time is seconds or H:MM:SS.mmm, got {value!r}") from None


def _strength_of(name: str, value: Any, where: str) -> float:
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    except ValueError:
        number = None
    if number is None or not 0 <= number <= _STRONGEST:
        raise SettingError(f"{where}: {name} is a number from 0 to {_STRONGEST:g}, got {value!r}")
    return number

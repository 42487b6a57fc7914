"""Values that change by themselves: by an LFO, by the level of audio, on each beat.

People with photosensitive epilepsy can be hurt by light that flashes more than three times a second (WCAG 2.3.1, "Three
Flashes or Below Threshold"; ITU-R BT.1702). So nothing that a session does by itself or by remote control turns around
more than six times a second, which is three flashes, unless ``allow_strobe`` says otherwise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from rtstyle.errors import SettingError
from rtstyle.live.control.beat import AudioMeter, BeatClock

FASTEST_HZ = 3.0
"""Cycles per second of an LFO, and flashes per second, at most."""

Target = Literal["strength", "color_strength", "blend", "style", "preset"]
Shape = Literal["sine", "triangle", "square", "saw", "level", "beat", "next"]
_WAVES = ("sine", "triangle", "square", "saw")

_FORM = "strength:sine:0.5hz:0.2..1, blend:square:4beats, color_strength:level:0..1, strength:beat, style:next:8beats"


@dataclass(frozen=True, slots=True)
class Modulator:
    """What changes by itself, and how. See ``parse``."""

    target: Target
    shape: Shape
    seconds: float | None
    """Of a cycle; None where ``beats`` counts, or nothing does."""
    beats: float | None
    low: float
    high: float

    @classmethod
    def parse(cls, text: str, *, allow_strobe: bool = False) -> Modulator:
        """Read TARGET:SHAPE[:RATE][:LOW..HIGH].

        TARGET is strength or color_strength (LOW..HIGH, 0 to 2, are factors of the value that was set), blend
        (LOW..HIGH are its values, 0 to 1), style or preset. SHAPE is sine, triangle, square or saw with a RATE such as
        0.5hz, 8s or 4beats; level, of audio; beat, which jumps to HIGH on each beat and falls; or next, with a RATE,
        for style and preset.

        Raises:
            SettingError: It is none of this, or faster than 3 Hz without ``allow_strobe``.
        """
        match = re.fullmatch(
            r"(?P<target>\w+):(?P<shape>\w+)(:(?P<rate>[\d.]+)(?P<unit>hz|s|beats?))?(:(?P<low>[\d.]+)\.\.(?P<high>[\d.]+))?",
            text.strip().lower(),
        )
        if not match or match["target"] not in get_args(Target) or match["shape"] not in get_args(Shape):
            raise SettingError(f"a modulation is TARGET:SHAPE:RATE:LOW..HIGH, as {_FORM}; got {text!r}")
        target, shape, (low, high) = match["target"], match["shape"], _parse_range(match["low"], match["high"], text)
        listed, clocked = target in ("style", "preset"), shape in (*_WAVES, "next")
        if (shape == "next") != listed or clocked != bool(match["rate"]) or not high <= (1 if target == "blend" else 2):
            raise SettingError(f"this modulation does not go together: {text!r}; as in {_FORM}")
        rate = _rate(match["rate"], text) if match["rate"] else 0.0
        seconds = {"hz": 1 / rate, "s": rate}.get(match["unit"]) if rate else None
        if seconds is not None and 1 / seconds > FASTEST_HZ and not allow_strobe:
            raise SettingError(
                f"{text!r} flashes more than {FASTEST_HZ:g} times a second, which can hurt people with photosensitive "
                "epilepsy: take a slower one, or --allow-strobe where the audience is warned"
            )
        return cls(target, shape, seconds, rate if rate and seconds is None else None, low, high)  # type: ignore[arg-type]

    def phase(self, now: float, clock: BeatClock, *, allow_strobe: bool) -> float:
        """Return the cycles until now; 0 where it waits for a tempo."""
        if self.seconds:
            return now / self.seconds
        if not self.beats or not clock.period:
            return 0.0
        beats = self.beats
        while beats * clock.period < 1 / FASTEST_HZ and not allow_strobe:
            beats *= 2  # in step with the beat still
        return clock.position(now) / beats

    def value(self, now: float, clock: BeatClock, meter: AudioMeter, *, allow_strobe: bool) -> float:
        """Return the value of now, between ``low`` and ``high``."""
        if self.shape == "level":
            share = meter.level
        elif self.shape == "beat":
            share = math.exp(-clock.since_beat(now) / 0.25)
        else:
            at = self.phase(now, clock, allow_strobe=allow_strobe) % 1.0
            share = {
                "sine": 0.5 - 0.5 * math.cos(2 * math.pi * at),
                "triangle": 1 - abs(2 * at - 1),
                "square": float(at >= 0.5),
                "saw": at,
            }[self.shape]
        return self.low + (self.high - self.low) * share


def _parse_range(low: str | None, high: str | None, text: str) -> tuple[float, float]:
    try:
        ends = (0.0, 1.0) if low is None or high is None else (float(low), float(high))
    except ValueError:
        raise SettingError(f"LOW..HIGH of a modulation are numbers, as 0.2..1; got {text!r}") from None
    return ends


def _rate(number: str, text: str) -> float:
    try:
        rate = float(number)
    except ValueError:
        rate = 0.0
    if not 0 < rate < 10_000:
        raise SettingError(f"the rate of a modulation is a number above 0, as 0.5hz, 8s or 4beats; got {text!r}")
    return rate


class TurnLimiter:
    """Lets a value turn around no more than six times a second, which makes three flashes."""

    def __init__(self, value: float) -> None:
        self._value, self._direction, self._turned = value, 0.0, -math.inf

    def limit(self, wanted: float, now: float) -> float:
        """Return the wanted value, or the one of before where the value turned around too short a time ago."""
        if wanted == self._value:
            return wanted
        direction = math.copysign(1.0, wanted - self._value)
        if direction != self._direction:
            if now - self._turned < 0.5 / FASTEST_HZ:
                return self._value
            self._direction, self._turned = direction, now
        self._value = wanted
        return wanted


class Modulation:
    """All modulators of a session.

    Args:
        allow_strobe: Whether more than three flashes per second are allowed.
    """

    def __init__(self, clock: BeatClock, meter: AudioMeter, *, allow_strobe: bool = False) -> None:
        self.clock, self.meter, self.allow_strobe = clock, meter, allow_strobe
        self._modulators: tuple[Modulator, ...] = ()
        self._steps: dict[Modulator, int] = {}

    def set(self, texts: Iterable[str]) -> None:
        """Replace the modulators.

        Raises:
            SettingError: One of the texts is none; the modulators of before stay.
        """
        self._modulators = tuple(Modulator.parse(text, allow_strobe=self.allow_strobe) for text in texts)
        self._steps = {}

    @property
    def running(self) -> bool:
        """Whether anything changes by itself."""
        return bool(self._modulators)

    def value(self, target: Target, base: float, now: float) -> float:
        """Return what becomes of a value that was set to ``base``."""
        for modulator in self._modulators:
            if modulator.target == target:
                value = modulator.value(now, self.clock, self.meter, allow_strobe=self.allow_strobe)
                base = value if target == "blend" else base * value
        return base

    def steps(self, now: float) -> list[Target]:
        """Return the lists, of styles or presets, that advance by one now."""
        due: list[Target] = []
        for modulator in self._modulators:
            if modulator.shape == "next":
                step = math.floor(modulator.phase(now, self.clock, allow_strobe=self.allow_strobe))
                if step > self._steps.setdefault(modulator, step):
                    due.append(modulator.target)
                self._steps[modulator] = step
        return due

"""How times of one file become those of another: containers that round, shift everything in step, or hold no times."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from fractions import Fraction
from statistics import median_low
from typing import Literal

from rtstyle.verify.facts import Media, VideoFacts
from rtstyle.verify.finding import Verdict

MS = Fraction(1, 1000)
"""A millisecond, in seconds."""


@dataclass(frozen=True)
class _Timing:
    """What the times of a container are like."""

    tolerance: Fraction = Fraction(0)
    """By how much it rounds, in seconds."""
    shift: Literal["none", "if negative", "later", "to zero"] = "none"
    """When it moves everything in step."""


_TIMINGS = {
    "matroska": _Timing(MS / 2, "if negative"),
    "webm": _Timing(MS / 2, "if negative"),
    "flv": _Timing(MS / 2, "if negative"),
    "nut": _Timing(Fraction(0), "if negative"),
    "avi": _Timing(MS, "later"),
    "mpegts": _Timing(Fraction(1, 180000), "later"),
    "mpeg": _Timing(Fraction(1, 180000), "later"),
    "gif": _Timing(Fraction(1, 200), "to zero"),
    "apng": _Timing(MS / 2, "to zero"),
    "webp": _Timing(MS / 2, "to zero"),
}
"""By FFmpeg's names; every other container keeps every time exactly."""

_FREE_CLOCKS = ("mpegts", "mpeg", "flv")
"""Formats whose clock says nothing about where the timeline begins."""

_LEAD_IN = Fraction(1, 10)
"""Seconds that a decoder of audio may need at most to get in step."""

_EMPTY = Fraction(1)
"""Seconds of nothing with which a target may begin because its source does."""

NO_TIMES = ("yuv4mpegpipe", "image2", "images")
"""Formats in which frames only follow each other."""


class TimeMap:
    """How times of one file become those of another.

    Args:
        start, end: The part of the source that is expected, in seconds on the player's timeline.
    """

    def __init__(self, source: Media, target: Media, start: Fraction | None, end: Fraction | None) -> None:
        self.cut = start is not None or end is not None
        """Only a part is expected."""
        self.first: Fraction | None = None
        """When the first frame of the part is shown, on the source's timeline; it becomes 0 in the target."""
        times = source.video.times if source.video else []
        heard = [track.begins for track in source.streams if track.type == "audio" and track.begins is not None]
        begin = min([*times[:1], *heard], default=Fraction(0))
        if start is not None:
            self.first = next((time for time in times if time >= begin + start), begin + start)
        self.last = None if end is None else begin + end
        low = begin if self.first is None else self.first
        self.part = (low, self.last) if self.cut else None
        tick = source.video.track.time_base if source.video else MS
        begin = begin // tick * tick if begin > 0 or source.format in _FREE_CLOCKS else Fraction(0)
        self.zero = begin if self.first is None else self.first
        """The moment of the source's timeline that is 0 in the target, but for ``shift``."""
        self._timing = _TIMINGS.get(target.format, _Timing())
        self.tolerance = self._timing.tolerance
        self.no_times = target.format in NO_TIMES
        self.shift = Fraction(0)
        """Seconds by which everything is found later than expected; known once the frames are matched."""
        starts = [track.start for track in source.streams if track.start is not None and track.type != "data"]
        for track in source.streams:
            if track.lead_begins is not None and not track.trimmed:
                starts.append(track.lead_begins * track.time_base)
        starts += source.video.times[:1] if source.video else []
        self._earliest = min(starts, default=Fraction(0)) - self.zero
        self._format = target.format
        begins = [track.start for track in target.streams if track.type == "audio" and track.start is not None]
        self._begins_with_audio = any(begin <= MS for begin in begins)
        self.video_tick = target.video.track.time_base if target.video else Fraction(0)
        """Unit of the times of the target's frames, in seconds."""
        self._tick = Fraction(1, 90000) if target.format.startswith("mpeg") else MS

    def expected(self, video: VideoFacts) -> list[int]:
        """Numbers of the source's frames that should be in the target: those that begin within the part."""
        times = video.times
        if video.untimed:  # then they come at the rate that is declared
            times = [number / (video.rate or Fraction(25)) for number in range(len(times) + video.untimed)]
        return [number for number, time in enumerate(times) if self.within(time)]

    def within(self, time: Fraction) -> bool:
        """Whether a moment of the source belongs to the part."""
        return (self.first is None or time >= self.first) and (self.last is None or time < self.last)

    def match(
        self, expected: list[Fraction], found: list[Fraction]
    ) -> tuple[list[Fraction], list[Fraction], Fraction, Fraction]:
        """Find each expected time among those found, both in seconds and rising.

        Returns:
            Expected times that are missing (on the source's timeline), found ones that are too many, the
            shift, and the largest deviation of those that fit.
        """
        wanted = [time - self.zero for time in expected]
        self.shift = self._find_shift(wanted, found)
        rising = sorted(found)
        missing, used, deviation = [], set(), Fraction(0)
        for original, time in zip(expected, wanted, strict=True):
            place = _nearest(rising, time + self.shift)
            if place is None or place in used or abs(rising[place] - time - self.shift) > self.tolerance:
                missing.append(original)
                continue
            used.add(place)
            deviation = max(deviation, abs(rising[place] - time - self.shift))
        extra = [time for place, time in enumerate(rising) if place not in used]
        return missing, extra, self.shift, deviation

    def _find_shift(self, wanted: list[Fraction], found: list[Fraction]) -> Fraction:
        if not wanted or not found:
            return Fraction(0)
        if len(wanted) == len(found):
            middle = median_low(b - a for a, b in zip(wanted, found, strict=True))
            candidates = [middle]
        else:
            candidates = [found[0] - wanted[0], found[-1] - wanted[-1]]
        if self.tolerance:  # what rounds, shifts by whole units
            candidates = [round(shift / self._tick) * self._tick for shift in candidates]
        rising = sorted(found)

        def hits(shift: Fraction) -> int:
            places = (_nearest(rising, time + shift) for time in wanted)
            return sum(
                place is not None and abs(rising[place] - time - shift) <= self.tolerance
                for place, time in zip(places, wanted, strict=True)
            )

        return max((Fraction(0), *candidates), key=hits)

    def judge_shift(self, shift: Fraction) -> tuple[Verdict, list[str]]:
        """Return whether the target may move everything in step by so much."""
        if not self.cut and shift == self.zero and 0 < shift < _EMPTY:
            return "same", []
        if not shift and self.zero and not self.cut:
            moved = f"{float(abs(self.zero)):.3f} s {'earlier' if self.zero > 0 else 'later'}"
            return "intended", [f"everything is {moved}: the first frame or audio is at 0, as players show it"]
        if not shift:
            return "same", []
        words = [f"everything is {float(abs(shift)) * 1000:.3g} ms {'later' if shift > 0 else 'earlier'}"]
        rule = self._timing.shift
        if rule == "to zero" or (rule == "later" and shift > 0):
            return "intended", [*words, f"as {self._format} begins where it wants"]
        if rule == "if negative" and self._earliest < 0 and abs(shift + self._earliest) <= self._tick:
            return "intended", [*words, f"{self._format} has no times below 0"]
        if rule == "if negative" and 0 < shift < _LEAD_IN and self._begins_with_audio:
            return "intended", [*words, f"{self._format} begins with the lead-in of its audio"]
        return "differs", words


def _nearest(rising: list[Fraction], time: Fraction) -> int | None:
    place = bisect_left(rising, time)
    around = [number for number in (place - 1, place) if 0 <= number < len(rising)]
    return min(around, key=lambda number: abs(rising[number] - time)) if around else None

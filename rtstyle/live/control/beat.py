"""Tempo and beat: tapped, sent by OSC or as MIDI clock, or heard in audio."""

from __future__ import annotations

import math
from collections import deque
from statistics import median

import numpy as np

from rtstyle.video.audio import RATE, AudioChunk

_SLOWEST, _FASTEST = 3.0, 0.2
"""Seconds between two beats: 20 to 300 beats per minute."""


class BeatClock:
    """Follows beats and continues between them. Positions are in beats, counted from the first one."""

    def __init__(self) -> None:
        self.period: float | None = None
        """Seconds from beat to beat; None while there is no tempo."""
        self._intervals: deque[float] = deque(maxlen=8)
        self._last: float | None = None
        self._count = 0

    @property
    def bpm(self) -> float | None:
        """Beats per minute, one decimal."""
        return round(60 / self.period, 1) if self.period else None

    def beat(self, at: float) -> None:
        """Take a beat; two of them make a tempo.

        Args:
            at: Its moment, in seconds of ``time.perf_counter()``.
        """
        since = None if self._last is None else at - self._last
        if since is not None and since < _FASTEST:
            return
        self._count = max(round(self.position(at)), self._count + 1) if self._last is not None else 0
        self._last = at
        if since is None or since > _SLOWEST:
            self._intervals.clear()
            return
        self._intervals.append(since)
        self.period = median(self._intervals)

    def set_tempo(self, bpm: float, at: float) -> None:
        """Continue with another tempo from here."""
        position = self.position(at)
        self.period = 60 / bpm
        self._intervals.clear()
        self._count = math.floor(position)
        self._last = at - (position - self._count) * self.period

    def position(self, now: float) -> float:
        """Return the beats until now, with the part of the current one; 0 where there is no tempo."""
        if self._last is None or self.period is None:
            return float(self._count)
        return self._count + max(now - self._last, 0.0) / self.period

    def since_beat(self, now: float) -> float:
        """Return the seconds since the last beat, heard or expected; infinite where there was none."""
        if self._last is None:
            return math.inf
        since = max(now - self._last, 0.0)
        return since % self.period if self.period else since


class AudioMeter:
    """Level and beats of audio. One thread calls ``hear``; ``level`` may be read by any.

    The level is that of the RMS between -50 and -10 dB of full scale. A beat is where the energy below about 150 Hz
    is twice its mean over the last second, no sooner than a quarter of a second after the one before (Scheirer 1998,
    "Tempo and beat analysis of acoustic musical signals", reduced to one band).
    """

    _QUIET, _LOUD = -50.0, -10.0
    _RELEASE = 0.3
    """Seconds in which the level falls to 1/e."""
    _REST = 0.25

    def __init__(self, clock: BeatClock | None = None) -> None:
        self.level = 0.0
        """0 to 1; rises at once and falls slowly."""
        self._clock = clock
        self._energies: deque[float] = deque(maxlen=50)
        self._beat_at = -math.inf

    @property
    def finds_beats(self) -> bool:
        """Whether the beats that it hears go to a clock."""
        return self._clock is not None

    def hear(self, chunk: AudioChunk) -> None:
        """Take a piece of audio, of some 20 ms."""
        mono = chunk.samples.astype(np.float32).mean(1) / 32768
        if not len(mono):
            return
        decibels = 10 * math.log10(float(np.mean(mono**2)) + 1e-12)
        level = min(max((decibels - self._QUIET) / (self._LOUD - self._QUIET), 0.0), 1.0)
        seconds = len(mono) / RATE
        self.level = max(level, self.level * math.exp(-seconds / self._RELEASE))
        energy = self._bass(mono)
        usual = float(np.mean(self._energies)) if len(self._energies) >= 10 else math.inf
        self._energies.append(energy)
        if energy > max(2 * usual, 1e-6) and chunk.at - self._beat_at >= self._REST:
            self._beat_at = chunk.at
            if self._clock:
                self._clock.beat(chunk.at)

    @staticmethod
    def _bass(mono: np.ndarray) -> float:
        """Return the mean energy below about 150 Hz: that of means over 3 ms."""
        step = RATE // 320
        whole = mono[: len(mono) // step * step]
        return float(np.mean(whole.reshape(-1, step).mean(1) ** 2)) if len(whole) else 0.0

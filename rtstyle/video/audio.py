"""Audio that comes while a video is written: its encoder, which keeps it in step with the clock of the frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import av
import av.filter
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from numpy.typing import NDArray

from rtstyle.errors import SettingError

RATE = 48000
"""Samples per second of all live audio."""

AUDIO_CODECS = {"mp4": "aac", "mov": "aac", "matroska": "aac", "mpegts": "aac", "nut": "aac", "webm": "libopus"}
"""Encoder of live audio for each container that holds it."""

_MICROSECOND = Fraction(1, 1_000_000)

_STEP = Fraction(1, 10)
"""Seconds by which audio may be off the clock before samples are left out or silence is put in at once; smaller
differences are stretched away, which is inaudible."""


@dataclass(frozen=True, slots=True)
class AudioChunk:
    """A piece of audio."""

    samples: NDArray[np.int16]
    """Shape (n, 2): left and right, ``RATE`` a second."""
    at: float
    """When the first of them was heard, in seconds of ``time.perf_counter()``."""


def audio_codec(muxer: str, target: str) -> str:
    """Return the encoder of audio for a container.

    Raises:
        SettingError: It holds none, or none that is written here.
    """
    if muxer not in AUDIO_CODECS:
        raise SettingError(f"{target} is recorded without audio: take .mp4, .mkv, .mov or .webm, or leave --mic out")
    return AUDIO_CODECS[muxer]


class AudioEncoder:
    """Adds a stream of audio to a container that is not yet started, and turns pieces of audio into its packets.

    Devices count their samples by a clock of their own. So each piece has the time of the clock of the frames, and
    FFmpeg's resampler (aresample, ``async``) stretches the audio to it, by less than what can be heard.

    Args:
        codec: What ``audio_codec`` says.
        bit_rate: Mean bits per second.
    """

    def __init__(self, container: OutputContainer, codec: str, *, bit_rate: int = 160_000) -> None:
        stream = container.add_stream(codec, rate=RATE, layout="stereo")
        assert isinstance(stream, AudioStream)
        stream.bit_rate = bit_rate
        self._stream = stream
        self._last = -1
        self._graph = av.filter.Graph()
        time_base = f"{_MICROSECOND.numerator}/{_MICROSECOND.denominator}"
        layout = f"sample_rate={RATE}:sample_fmt=s16:channel_layout=stereo:time_base={time_base}"
        parts = [
            self._graph.add("abuffer", layout),
            self._graph.add("aresample", f"{RATE}:async={RATE // 50}:min_hard_comp={float(_STEP)}:first_pts=0"),
            self._graph.add("aformat", f"sample_rates={RATE}:channel_layouts=stereo"),
            self._graph.add("abuffersink"),
        ]
        for one, other in pairwise(parts):
            one.link_to(other)
        self._graph.configure()

    def encode(self, chunk: AudioChunk, begin: float) -> list[av.Packet[Any]]:
        """Take a piece of audio and return the packets that are ready.

        Args:
            begin: The moment at which the video begins; audio from before is left out.
        """
        pts = round((chunk.at - begin) / _MICROSECOND)
        if pts <= self._last:
            return []
        self._last = pts
        frame = av.AudioFrame.from_ndarray(chunk.samples.reshape(1, -1), format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = RATE, pts, _MICROSECOND
        self._graph.push(frame)
        return [packet for ready in self._ready() for packet in self._stream.encode(ready)]

    def flush(self) -> list[av.Packet[Any]]:
        """Return the packets that are still inside. No audio may come any more."""
        if self._last < 0:
            return []
        self._graph.push(None)
        packets = [packet for ready in self._ready() for packet in self._stream.encode(ready)]
        return [*packets, *self._stream.encode(None)]

    def _ready(self) -> Iterator[av.AudioFrame]:
        while True:
            try:
                frame = self._graph.pull()
            except (BlockingIOError, EOFError):
                return
            assert isinstance(frame, av.AudioFrame)
            yield frame

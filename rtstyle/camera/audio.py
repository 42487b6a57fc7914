"""SourceAudio: the audio beside the video of a live source, in the form of live audio, with the times of its frames."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from rtstyle.video.audio import RATE

if TYPE_CHECKING:
    from av.audio.stream import AudioStream

_MOST = 60 * RATE
"""Samples that wait at most: a file whose audio lies a minute ahead of its video is not kept in memory whole."""


class AudioBlock(NamedTuple):
    """A piece of decoded audio."""

    samples: NDArray[np.int16]
    """Shape (n, 2): left and right, ``RATE`` a second."""
    moment: float
    """Seconds on the timeline of the frames' timestamps."""


class SourceAudio:
    """Decodes the packets of one audio stream.

    Args:
        stream: Of an open container.
    """

    def __init__(self, stream: AudioStream) -> None:
        self.stream = stream
        self._blocks: deque[AudioBlock] = deque()
        self._waiting = 0
        self._next = 0.0
        self._until = -math.inf
        self._resampler = _resampler()

    def decode(self, packet: av.Packet[Any]) -> None:
        """Decode a packet; one that is damaged is left out, and silence takes its place."""
        try:
            frames = packet.decode()
        except av.FFmpegError:
            return
        for frame in frames:
            if isinstance(frame, av.AudioFrame) and frame.samples:
                self._add(frame)

    def due(self, until: float) -> Iterator[AudioBlock]:
        """Yield, and forget, the pieces that begin before a moment of the timeline.

        Where that is earlier than the last one, the clock of the source was set back: what waits from before is left
        out.
        """
        while until < self._until and self._blocks and self._blocks[0].moment >= self._until:
            self._waiting -= len(self._blocks.popleft().samples)
        self._until = until
        while self._blocks and self._blocks[0].moment < until:
            piece = self._blocks.popleft()
            self._waiting -= len(piece.samples)
            yield piece

    def _add(self, frame: av.AudioFrame) -> None:
        moment = self._next if frame.pts is None else float(frame.pts * (frame.time_base or 0))
        self._next = moment + frame.samples / (frame.sample_rate or RATE)
        try:
            resampled = self._resampler.resample(frame)
        except ValueError:  # the layout or the rate changes on the way
            self._resampler = _resampler()
            resampled = self._resampler.resample(frame)
        for each in resampled:
            samples: NDArray[Any] = each.to_ndarray().reshape(-1, 2)
            self._blocks.append(AudioBlock(samples, moment))
            moment += len(samples) / RATE
            self._waiting += len(samples)
        while self._waiting > _MOST:
            self._waiting -= len(self._blocks.popleft().samples)


def _resampler() -> av.AudioResampler:
    return av.AudioResampler(format="s16", layout="stereo", rate=RATE)

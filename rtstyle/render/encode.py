"""One segment of an output as it is encoded: the encoder's packets one behind the other, and where each ends."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from typing import Any, BinaryIO

import av

from rtstyle.frame import Frame, VideoFormat
from rtstyle.render.journal import Segment
from rtstyle.video.encoder import THREADS, VideoEncoder
from rtstyle.video.formats import Encoding
from rtstyle.video.opening import AV_ERRORS

LEAP = 10
"""Seconds between two frames from which on they do not refer to each other."""


class SegmentEncoder:
    """Encodes the frames of one segment into a file or a buffer.

    There is no container, for none is needed: to open one costs 20 to 30 ms, in which FFmpeg decodes H.264 to learn
    about it.

    Args:
        file: Where the packets go; it is closed by ``finish`` and ``discard`` if ``owned``.
        threads: Of the encoder; the same everywhere, since some write other bytes with another number.
    """

    def __init__(
        self, file: BinaryIO, encoding: Encoding, format: VideoFormat, *, threads: int = THREADS, owned: bool = True
    ) -> None:
        self._encoding = replace(encoding, codec_tag=None)  # that is the real container's
        self._format, self._threads = format, threads
        self._file, self._owned = file, owned
        self._open()
        self._lost_before = 0
        self.pts: list[int] = []
        """Of the frames so far."""
        self._number: dict[int, int] = {}
        self._packets: list[tuple[int, int, bool]] = []
        self._reorder = 0

    def _open(self) -> None:
        # An encoder belongs to a container, which is never written to; Matroska has its headers apart from its packets.
        self._container = av.open(os.devnull, "w", format="matroska")
        # The shape of pixels stands in the stream, too: a transport stream has no other place for it.
        self._encoder = VideoEncoder(self._container, self._encoding, self._format, threads=self._threads)

    def write(self, frame: Frame) -> None:
        """Encode one frame.

        Raises:
            ValueError, OSError, av.FFmpegError: The encoder refuses it, or the disk is full.
        """
        if self.pts and (frame.pts - self.pts[-1]) * self._format.time_base > LEAP:
            self._begin_again()
        self._number[frame.pts] = len(self.pts)
        self.pts.append(frame.pts)
        self._keep(self._encoder.encode(frame))

    def _begin_again(self) -> None:
        """Continue with a new encoder, so that no frame before a leap in time refers to one behind it."""
        self._keep(self._encoder.flush())
        self._lost_before += self._encoder.captions_lost
        self._container.close()
        self._open()

    def _keep(self, packets: list[av.Packet[Any]]) -> None:
        for packet in packets:
            number = self._number[packet.pts or 0]
            self._reorder = max(self._reorder, len(self._packets) - number)
            if packet.size:
                self._file.write(packet)
                self._packets.append((number, packet.size, packet.is_keyframe))

    def finish(self, name: str) -> Segment:
        """Write what is left inside and return the segment.

        Args:
            name: Of the file in the work folder.
        """
        self._keep(self._encoder.flush())
        headers = bytes(self._encoder.stream.codec_context.extradata or b"")
        if self._owned:
            self._file.close()
        self._container.close()
        return Segment(name, self.pts, self._reorder, self._packets, headers.hex())

    @property
    def captions_lost(self) -> int:
        """Frames whose captions the codec cannot carry."""
        return self._lost_before + self._encoder.captions_lost

    def discard(self) -> None:
        """Close everything without caring how."""
        with suppress(*AV_ERRORS):
            self._container.close()
        if self._owned:
            with suppress(*AV_ERRORS):
                self._file.close()


def segment_name(number: int) -> str:
    """Return the name of a segment's file in the work folder."""
    return f"segment-{number:05d}.packets"

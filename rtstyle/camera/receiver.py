"""Receiver: takes packets of a live connection as they arrive, so that none grows old in its buffers."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

import av

FRESH = 0.1
"""Seconds that a packet or frame may wait before a newer one takes its place."""

LONGEST_SKIP = 0.25
"""Seconds after which a frame is passed on although newer ones have come."""

_LONGEST = 3.0
"""Seconds of packets that wait at most until a key frame takes their place; then they are dropped before it comes."""

_KEY_WAIT = 12.0
"""Seconds for which a key frame is waited for after that: some streams have one every ten seconds, or none."""

_TICK = 0.05
"""Seconds between two looks whether receiving is to stop."""


class Arrival(NamedTuple):
    """A packet, and how it came."""

    packet: av.Packet[Any]
    at: float
    """When it arrived, on the clock of ``time.perf_counter()``."""
    skipped: int = 0
    """Video packets right before it that were dropped: a decoder must be flushed."""
    waited: float = 0.0
    """Seconds for which it was waited for; only where packets are read as they are needed."""


class Receiver:
    """Receives packets in a thread, and drops those of the video that are too old to be decoded.

    Packets wait without limit of age in the buffers of a connection and its server where they are read too slowly. Here
    a key frame takes the place of all that wait, as soon as one of them has waited for ``FRESH`` seconds. Audio and the
    order of packets are kept.

    Args:
        packets: Of an open container; iterated and closed in the thread.
        video: Index of the stream that may be dropped.
        intra: Whether each of its packets is a key frame.
        stop: Ends receiving, and iterating, with the next packet.
    """

    def __init__(
        self, packets: Generator[av.Packet[Any], None, None], video: int, *, intra: bool, stop: threading.Event
    ) -> None:
        self._packets, self._video, self._intra, self._stop = packets, video, intra, stop
        self._queue: deque[Arrival] = deque()
        self._oldest: float | None = None  # arrival of the oldest video packet that waits
        self._skipped = 0
        self._lost_at: float | None = None  # since when packets are dropped because no key frame came in time
        self._error: BaseException | None = None
        self._closing = self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._receive, name="receiver", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Arrival]:
        """Yield what arrives, in order.

        Raises:
            Exception: What ended the packets.
        """
        while not self._stop.is_set():
            with self._changed:
                if not self._queue and not self._ended:
                    self._changed.wait(_TICK)
                if self._queue:
                    arrival = self._queue.popleft()
                    self._oldest = next((each.at for each in self._queue if self._is_video(each.packet)), None)
                elif self._error:
                    raise self._error
                elif self._ended:
                    return
                else:
                    continue
            yield arrival

    @property
    def waiting(self) -> bool:
        """Whether video packets wait that came after the last one that was taken."""
        return self._oldest is not None

    def close(self) -> None:
        """Stop with the next packet, and wait for that; the container may be closed then."""
        with self._changed:
            self._closing = True
            self._queue.clear()
        self._thread.join()
        self._error = None

    # -- in the thread

    def _receive(self) -> None:
        error: BaseException | None = None
        try:
            for packet in self._packets:
                with self._changed:
                    if self._closing:
                        break
                    self._add(packet, time.perf_counter())
                    self._changed.notify()
        except BaseException as reason:  # raised in the caller, by __iter__
            error = reason
        self._packets.close()
        with self._changed:
            self._error, self._ended = error, True
            self._changed.notify()

    def _add(self, packet: av.Packet[Any], at: float) -> None:
        if not self._is_video(packet):
            self._queue.append(Arrival(packet, at))
            return
        waited = at - self._oldest if self._oldest is not None else 0.0
        if self._intra or packet.is_keyframe:
            if waited > FRESH:
                self._drop()
            self._lost_at = None
        elif waited > _LONGEST:
            self._drop()
            self._lost_at = at
        if self._lost_at is not None:
            if at - self._lost_at < _KEY_WAIT:
                self._skipped += 1
                return
            self._lost_at = None
        self._queue.append(Arrival(packet, at, self._skipped))
        self._skipped = 0
        self._oldest = at if self._oldest is None else self._oldest

    def _drop(self) -> None:
        """Drop the video packets that wait."""
        dropped = [arrival for arrival in self._queue if self._is_video(arrival.packet)]
        self._skipped += sum(1 + arrival.skipped for arrival in dropped)
        self._queue = deque(arrival for arrival in self._queue if not self._is_video(arrival.packet))
        self._oldest = None

    def _is_video(self, packet: av.Packet[Any]) -> bool:
        return packet.stream_index == self._video and packet.size > 0

"""The frames of one connection, file or folder, until it ends."""

from __future__ import annotations

import errno
import math
import threading
import time
from collections.abc import Callable, Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import av
import av.error
import av.stream
from av.audio.stream import AudioStream

from rtstyle.camera.address import SourceAddress
from rtstyle.camera.audio import SourceAudio
from rtstyle.camera.receiver import FRESH, LONGEST_SKIP, Arrival, Receiver
from rtstyle.errors import CameraError, SourceStalledError, VideoOpenError, reason_of
from rtstyle.frame import Size
from rtstyle.video.animation import ImageSequence
from rtstyle.video.inputs import is_encrypted
from rtstyle.video.samples import fraction_of

if TYPE_CHECKING:
    from av.container import InputContainer

_POLL = 0.002
"""Seconds between two looks at a device that has no frame yet."""

_LONGEST_HOLD = 2.0
"""Seconds for which damaged frames are left out at most: some streams have a key frame every ten seconds, or none."""

_LOSS_SPREAD = 2
"""Frames after one that is marked as damaged that may be damaged too: FFmpeg's parser marks a packet early."""


class FeedFrame(NamedTuple):
    """A decoded frame."""

    frame: av.VideoFrame
    at: float
    """When its data came, on the clock of ``time.perf_counter()``."""
    skipped: int = 0
    """Frames before it that were left out because newer ones had come."""
    waited: float = 0.0
    """Seconds for which its packet was waited for, where packets are read as they are needed."""


class Feed(Protocol):
    """Frames of one connection. Iterated once."""

    first: av.VideoFrame
    rate: Fraction | None
    """Frames per second as declared; None where it is undeclared."""
    format: str
    """How frames come: FFmpeg's name of a codec, or of a pixel format where they are not coded."""
    paced: bool
    """True: a recording that is to be played at its own pace and may end. False: a camera, which may not."""
    segmented: bool
    """True: a camera whose frames come in segments, many at once (HLS)."""
    patience: float
    """Seconds between two frames of a recording from which on this is a gap, and no pause to be sat out."""
    audio: SourceAudio | None
    """The audio that came with the frames so far; None where there is none, or none was asked for."""

    @property
    def damaged(self) -> int:
        """Packets or frames so far that could not be decoded and were left out."""

    def av_frames(self) -> Iterator[FeedFrame]:
        """Yield frames in order, the first one too; those of a camera only as long as no newer ones have come.

        Raises:
            CameraError: The camera or the connection went away.
            SourceStalledError: No frame came in time.
        """

    def close(self) -> None:
        """Give the device or connection back."""


class StreamFeed:
    """A feed from FFmpeg."""

    def __init__(
        self,
        container: InputContainer,
        address: SourceAddress,
        *,
        timeout: float,
        stop: threading.Event,
        asked: Size | None = None,
        audio: bool = False,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        """Take over an open container and decode its first frame; close it where that fails.

        Args:
            timeout: Seconds that each frame may take.
            stop: Ends the frames early.
            asked: Size that a camera was asked for.
            audio: True decodes the audio, too, if there is any.
            release: Called when the container is closed.

        Raises:
            CameraError, SourceStalledError, VideoOpenError: There is no frame.
            av.FFmpegError: A camera refuses its mode; another one may do.
        """
        self.damaged = 0
        self.patience = timeout
        self.paced = address.kind == "file" or (address.kind == "url" and (container.duration or 0) > 0)
        self.segmented = not self.paced and container.format.name in ("dash", "hls")
        self._address, self._container, self._timeout, self._stop = address, container, timeout, stop
        self._release = release
        self._packet_bytes = 0
        self._held_since: float | None = None  # from when on frames are damaged
        self._since_loss = 0  # frames
        heard = container.streams.best("audio") if audio else None
        self.audio = SourceAudio(heard) if isinstance(heard, AudioStream) else None
        self._closing = threading.Event()
        self._receiver: Receiver | None = None
        self._intra = False  # whether each packet is a key frame, so that none was decoded for the sake of later ones
        self._behind, self._passed_on = False, 0.0  # whether newer frames wait, and when one was passed on
        self._decoded = self._decode()
        try:
            self._stream = self._choose_stream()
            # The screen is grabbed when it is asked for, and segments wait on their server.
            if not (self.paced or self.segmented or address.kind == "screen"):
                self._intra = self._stream.codec_context.codec.intra_only
                self._receiver = Receiver(self._packets(), self._stream.index, intra=self._intra, stop=stop)
            self._first = self._first_av_frame()
            self.first = self._first.frame
            if asked:
                self._check_size(asked)
        except BaseException:
            self.close()
            raise
        codec = self._stream.codec_context.name
        self.format = self.first.format.name if codec == "rawvideo" else codec
        # MJPEG over HTTP has no clock: FFmpeg counts its frames at 25 per second, whatever comes.
        invented = container.format.name == "mpjpeg"
        self.rate = None if invented else fraction_of(self._stream.average_rate or self._stream.guessed_rate)

    def _choose_stream(self) -> av.VideoStream:
        cover = av.stream.Disposition.attached_pic
        streams = [stream for stream in self._container.streams.video if not stream.disposition & cover]
        if not streams:
            raise self._unusable("has no video, only audio or data")
        return streams[0]

    def _first_av_frame(self) -> FeedFrame:
        try:
            return next(self._decoded)
        except StopIteration:
            encrypted = self._address.kind == "file" and is_encrypted(Path(self._address.text))
            words = "is encrypted" if encrypted else "holds no frame that can be decoded"
            raise self._unusable(words) from None
        except av.error.FFmpegError as error:
            if self._address.kind == "device":
                raise  # another mode may do
            raise self._unusable(f"cannot be decoded: {reason(error)}") from error

    def _unusable(self, why: str) -> CameraError | VideoOpenError:
        return (VideoOpenError if self._address.kind == "file" else CameraError)(f"{self._address.name} {why}")

    def _check_size(self, asked: Size) -> None:
        """FFmpeg believes the size that it asked for, also where the V4L2 driver then took another."""
        if self._stream.codec_context.name == "rawvideo":
            expected = self.first.width * self.first.height * self.first.format.bits_per_pixel / 8
            if self._packet_bytes > 1.02 * expected:
                raise OSError(errno.EINVAL, f"the camera has no mode of {asked}")

    def av_frames(self) -> Iterator[FeedFrame]:
        yield self._first
        try:
            yield from self._decoded
        except av.error.FFmpegError as error:
            raise CameraError(f"{self._address.name} is gone: {reason(error)}") from error
        if not self.paced and not self._stop.is_set():
            raise CameraError(f"{self._address.name} is gone: it ended the connection")

    def _decode(self) -> Generator[FeedFrame, None, None]:
        seen = time.monotonic()
        skipped, longest = 0, 0.0
        for packet, at, dropped, waited in self._receiver or self._arrivals():
            if self.audio and packet.stream_index == self.audio.stream.index:
                self.audio.decode(packet)
                continue
            if dropped:
                self._stream.codec_context.flush_buffers()
                skipped += dropped
            self._packet_bytes, longest = packet.size, max(waited, longest)
            try:
                av_frames = packet.decode()
            except av.error.InvalidDataError:
                self.damaged += 1  # a packet that was lost or cut on its way; the next key frame mends it
                av_frames = []
            for av_frame in av_frames:
                if isinstance(av_frame, av.VideoFrame):
                    seen = time.monotonic()
                    if not self._is_whole(av_frame, packet.is_corrupt):
                        continue
                    if self._is_superseded(at):
                        skipped += 1
                        continue
                    yield FeedFrame(av_frame, at, skipped, longest)
                    skipped, longest = 0, 0.0
                    seen = time.monotonic()  # the caller's own time is no silence of the camera
            if self._stop.is_set():
                return
            if self._address.kind != "file" and time.monotonic() - seen > self._timeout:
                raise SourceStalledError(f"{self._address.name} sends data, but no frame for {self._timeout:g} s")

    def _arrivals(self) -> Iterator[Arrival]:
        """Yield packets that are read as they are needed."""
        asked = time.perf_counter()
        for packet in self._packets():
            at = time.perf_counter()
            yield Arrival(packet, at, waited=at - asked)
            asked = time.perf_counter()

    def _is_superseded(self, at: float) -> bool:
        """Return whether a frame, which came at a moment, is too old to be shown: newer ones have come.

        Then all frames are left out until the last one that has come; but one in ``LONGEST_SKIP`` seconds is shown.
        """
        now = time.perf_counter()
        waiting = self._receiver is not None and self._receiver.waiting and not self._intra
        self._behind = waiting and (self._behind or now - at > FRESH)
        if self._behind and now - self._passed_on < LONGEST_SKIP:
            return True
        self._passed_on = now
        return False

    def _is_whole(self, av_frame: av.VideoFrame, lost: bool) -> bool:
        """Return whether a frame is worth showing: no part of it, nor of what it was predicted from, was lost.

        Where packets were lost, the last whole frame stays until the next key frame, instead of a smear.

        Args:
            lost: Whether the demuxer missed a part of the frame's packet.
        """
        if self._address.kind == "file":
            return True
        now = time.monotonic()
        self._since_loss += 1
        if lost or av_frame.is_corrupt:
            self._held_since = now if self._held_since is None else self._held_since
            self._since_loss = 0
        elif av_frame.key_frame and self._since_loss > _LOSS_SPREAD:
            self._held_since = None
        if self._held_since is None:
            return True
        self.damaged += 1
        if now - self._held_since < _LONGEST_HOLD:
            return False
        if self._since_loss > _LOSS_SPREAD:
            self._held_since = None
        return True

    def _packets(self) -> Generator[av.Packet[Any], None, None]:
        """Yield packets; wait for at most ``timeout`` seconds for each."""
        since = time.monotonic()
        streams: list[Any] = [self._stream, self.audio.stream] if self.audio else [self._stream]
        while not (self._stop.is_set() or self._closing.is_set()):
            try:
                for packet in self._container.demux(*streams):
                    if self._address.kind == "device":
                        # A camera's packets lie in its driver's memory, raw frames with them, and go with the camera.
                        # None may outlive the container, not even in a local variable that an error keeps alive.
                        packet = _copied(packet)
                    yield packet
                    since = time.monotonic()
                return
            except (av.error.ExitError, TimeoutError) as error:
                raise self._stalled() from error
            except av.error.BlockingIOError as error:
                if time.monotonic() - since > self._timeout:
                    raise self._stalled() from error
                time.sleep(_POLL)

    def _stalled(self) -> SourceStalledError:
        return SourceStalledError(f"{self._address.name} stalled: no frame for {self._timeout:g} s")

    def close(self) -> None:
        self._closing.set()
        self._decoded.close()  # with the last packet of the container, which must not outlive it
        if self._receiver:
            self._receiver.close()
        self._container.close()
        self._release()


def _copied(packet: av.Packet[av.VideoStream]) -> av.Packet[av.VideoStream]:
    copy: av.Packet[Any] = av.Packet(bytes(packet))
    copy.stream = packet.stream
    copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
    return copy


class ImageFeed:
    """A feed of still images, each shown for the same time."""

    format = "images"
    paced, segmented = True, False
    patience = math.inf
    audio: SourceAudio | None = None

    def __init__(self, address: SourceAddress, rate: Fraction) -> None:
        """Decode the first frame.

        Raises:
            VideoOpenError: None can be decoded.
        """
        self.rate: Fraction | None = rate
        self._stills = ImageSequence(address.images, rate)
        self._decoded = self._stills.av_frames()
        first = next(self._decoded, None)
        if first is None:
            raise VideoOpenError(f"{address.name} holds no frame that can be decoded")
        self.first: av.VideoFrame = first

    @property
    def damaged(self) -> int:
        return self._stills.damaged

    def av_frames(self) -> Iterator[FeedFrame]:
        yield FeedFrame(self.first, time.perf_counter())
        for av_frame in self._decoded:
            yield FeedFrame(av_frame, time.perf_counter())

    def close(self) -> None: ...


def reason(error: Exception) -> str:
    """Return ``reason_of`` an error as a part of a sentence."""
    words = reason_of(error)
    return words[:1].lower() + words[1:]

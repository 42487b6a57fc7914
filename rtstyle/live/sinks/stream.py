"""StreamSink: the stylized stream, sent to a server, to players, or into a folder of HLS segments."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from urllib.parse import urlsplit

import av
import numpy as np
from av.container import OutputContainer

from rtstyle.backoff import BackOff
from rtstyle.errors import RtstyleError, SettingError
from rtstyle.frame import Color, Frame, Planes, Size, VideoFormat
from rtstyle.live.sinks.playlist import Playlist
from rtstyle.live.sinks.sink import CLOCK, FrameDropped
from rtstyle.video.audio import RATE, AudioChunk, AudioEncoder, audio_codec
from rtstyle.video.encoder import VideoEncoder
from rtstyle.video.formats import Encoding
from rtstyle.video.opening import AV_ERRORS

KEY_SECONDS = 2.0
"""Seconds between two frames at which a viewer can begin to watch."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
"""Seconds before the first and before a late attempt to connect again; each pause is twice the one before."""

_STEADY = 10.0
"""Seconds that a connection must have held for the pauses to restart."""

_GRACE = 2.0
"""Seconds that a connection may take to end in good order."""

_BITS_PER_PIXEL = 0.1


@dataclass(frozen=True)
class Destination:
    """Where a stream goes, in FFmpeg's words."""

    url: str
    format: str
    options: dict[str, str]
    name: str
    """Text to show: without password and stream key."""
    playlist: Playlist | None = None
    """Of HLS on disk: what moves each version from ``url`` to its place."""


def destination(text: str, *, overwrite: bool = False, timeout: float = 5.0) -> Destination:
    """Read what ``--output`` takes: rtmp(s), rtsp, udp or tcp (MPEG-TS), and HLS: FILE.m3u8 or http(s)://...m3u8.

    Args:
        overwrite: True replaces a playlist that exists.
        timeout: Seconds that one step of the connection may take.

    Raises:
        SettingError: It is none of these.
        OutputExistsError, VideoWriteError: The playlist exists, or its folder is not there.
    """
    text = text.strip()
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    options = {"flush_packets": "1", "max_interleave_delta": "500000"}
    hls = {
        "hls_time": f"{KEY_SECONDS:g}", "hls_list_size": "6", "hls_flags": "delete_segments+independent_segments",
        "hls_start_number_source": "epoch",  # so that no name comes twice when the stream begins again
    }  # fmt: skip
    if not separator:
        path = Path(text)
        if path.suffix.lower() != ".m3u8":
            raise SettingError(
                f"an output is rtmp://, rtmps://, rtsp://, udp://, tcp://, or an HLS playlist NAME.m3u8; got {text!r}; "
                "a file is recorded by --record"
            )
        playlist = Playlist(path, overwrite=overwrite)
        segments = {"hls_segment_filename": playlist.segments}
        return Destination(str(playlist.hidden), "hls", options | hls | segments, text, playlist)
    if not rest.strip("/"):
        raise SettingError(f"an output needs an address behind {scheme}://, got {text!r}")
    if scheme in ("udp", "tcp"):
        _check_port(scheme, text)
    name = _shown(scheme, rest)
    if scheme in ("rtmp", "rtmps"):
        return Destination(text, "flv", options | {"flvflags": "no_duration_filesize"}, name)
    if scheme == "rtsp":
        return Destination(text, "rtsp", options | {"rtsp_transport": "tcp"}, name)
    if scheme == "udp":
        packed = text if "pkt_size=" in text else text + ("&" if "?" in text else "?") + "pkt_size=1316"
        return Destination(packed, "mpegts", options, name)
    if scheme == "tcp":
        return Destination(text, "mpegts", options, name)
    if scheme in ("http", "https") and rest.partition("?")[0].endswith(".m3u8"):
        return Destination(text, "hls", options | hls | {"method": "PUT", "timeout": f"{timeout:g}"}, name)
    if scheme in ("http", "https"):
        raise SettingError(
            f"to {scheme} goes HLS: give the address of a playlist, {scheme}://HOST/NAME.m3u8 ({_NO_WHIP})"
        )
    if scheme.startswith(("whip", "whep")):
        raise SettingError(f"{scheme} is no protocol of this rtstyle: {_NO_WHIP}")
    raise SettingError(
        f"{scheme} is no protocol of this rtstyle, which sends rtmp, rtmps, rtsp, udp, tcp and HLS; the ffmpeg program "
        f"can carry on: --output udp://127.0.0.1:5000 and ffmpeg -i udp://127.0.0.1:5000 -c copy -f mpegts {text}"
    )


_NO_WHIP = (
    "WHIP is not supported; OBS speaks it, with --virtual-camera, --ndi or the /stream.mjpg of --page as its source"
)


def _check_port(scheme: str, text: str) -> None:
    """Refuse an address without a port: these two have no usual one, and a connection would be retried for ever.

    Raises:
        SettingError: It has no host, or no port from 1 to 65535.
    """
    example = f"such as {scheme}://192.168.1.5:5000"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise SettingError(f"the port of an output is a number from 1 to 65535, {example}; got {text!r}") from None
    if not host or not port:
        raise SettingError(f"an output by {scheme} needs a host and a port, {example}; got {text!r}")


def _shown(scheme: str, rest: str) -> str:
    """An address for messages: without password, query and stream key."""
    place = re.sub(r"^[^/@]*@", "", rest.partition("?")[0])
    if scheme.startswith("rtmp") and place.count("/") > 1:
        host, application, _ = place.split("/", 2)
        place = f"{host}/{application}/..."
    return f"{scheme}://{place}"


def even(frame: Frame) -> Frame:
    """Return the frame without the last line or column where their number is odd: half of all players want that."""
    height, width = frame.planes.y.shape
    if not (height % 2 or width % 2):
        return frame
    height, width = height // 2 * 2, width // 2 * 2
    y, u, v = frame.planes
    half = (slice(height // 2), slice(width // 2))
    return frame.with_planes(Planes(y[:height, :width], u[half], v[half]))


class StreamSink:
    """Encodes frames as H.264 with the least delay and sends them off; a ``Sink`` that never fails.

    Where the connection breaks, or cannot be made, frames are left out, and it is tried again and again.
    The connection is made and kept by a process of its own (see ``stream_process``).

    Args:
        like: Size and color of the frames that will come, and their rate for rate control; None where it is unknown.
        bitrate: Mean bits per second; None takes what suits size and rate.
        audio: True adds a stream of audio, AAC.
        tell: Called with each line to print, from several threads.
        warn: The same for those that a report should keep.
        timeout: Seconds that one step of the connection may take.
    """

    def __init__(
        self,
        target: Destination,
        *,
        like: VideoFormat,
        bitrate: int | None = None,
        audio: bool = False,
        tell: Callable[[str], None] = lambda line: None,
        warn: Callable[[str], None] = lambda line: None,
        timeout: float = 5.0,
    ) -> None:
        self.name = target.name
        self.connections = 0
        """How often the other side has accepted."""
        self._target, self._color, self._audio_wanted = target, like.color, audio
        self._size = Size(like.size.width // 2 * 2, like.size.height // 2 * 2)
        self._rate = min(max(like.rate or Fraction(30), Fraction(1)), Fraction(60))
        self._bitrate = bitrate or max(
            300_000, round(self._size.width * self._size.height * self._rate * _BITS_PER_PIXEL)
        )
        self._tell, self._warn, self._timeout = tell, warn, timeout
        self._relay: _Relay | None = None
        self._pauses = BackOff(FIRST_PAUSE, LONGEST_PAUSE)
        self._next = 0.0
        self._down: float | None = None  # since when; None: it is up, or its loss was not reported
        self._hurried = threading.Event()

    def write(self, frame: Frame) -> None:
        """Send a frame.

        Raises:
            FrameDropped: There is no connection.
        """
        if self._relay is None:
            if time.monotonic() < self._next or self._hurried.is_set():
                raise FrameDropped
            self._relay = self._connect()
            if self._relay is None:
                raise FrameDropped
        elif self._relay.connecting and not self._relay.ended:
            raise FrameDropped
        try:
            was_connecting = self._relay.connecting
            self._relay.write(even(frame))  # the first goes ahead: it gives the process all that it needs
            self._publish()
        except AV_ERRORS as error:
            self._lose(self._relay, error)
            raise FrameDropped from None
        if was_connecting:
            raise FrameDropped

    def write_audio(self, chunk: AudioChunk) -> None:
        """Send a piece of audio, where there is a connection."""
        if self._relay and self._audio_wanted and not self._relay.connecting:
            try:
                self._relay.write_audio(chunk)
            except AV_ERRORS as error:
                self._lose(self._relay, error)

    def hurry(self) -> None:
        """Let the connection end within two seconds, whatever the other side does."""
        self._hurried.set()
        if relay := self._relay:
            relay.end_within(_GRACE)

    def close(self) -> None:
        """End the stream and the connection."""
        self._hurried.set()
        if self._relay:
            self._relay.finish()
            self._relay = None
            try:
                self._publish()
            except OSError as error:
                self._warn(f"{self.name}: {error}")
            finally:
                self._discard()

    def _publish(self) -> None:
        if self._target.playlist:
            self._target.playlist.publish()

    def _discard(self) -> None:
        if self._target.playlist:
            self._target.playlist.discard()

    def _connect(self) -> _Relay | None:
        """Start a connection; None where that has to wait."""
        playlist = self._target.playlist
        if playlist:
            try:
                playlist.check()
            except OSError as error:
                self._lose(None, error)
                return None
        order = {
            "url": self._target.url, "format": self._target.format, "options": self._target.options,
            "timeout": self._timeout, "overwrite": bool(playlist and playlist.overwrite),
        }  # fmt: skip
        relay = _Relay(order, self._encoding(), self._size, self._color, self._rate, self._audio_wanted, self._opened)
        if self._hurried.is_set():
            relay.end_within(_GRACE)
        return relay

    def _encoding(self) -> Encoding:
        options = {
            "preset": "ultrafast", "tune": "zerolatency", "bf": "0", "forced-idr": "1",
            "g": str(round(KEY_SECONDS * self._rate)), "maxrate": str(self._bitrate), "bufsize": str(self._bitrate),
        }  # fmt: skip
        return Encoding(
            muxer="nut",
            codec="libx264",
            pix_fmt="yuv420p",
            options=options,
            muxer_options={},
            bit_rate=self._bitrate,
            full_range=False,  # players of streams know no other
        )

    def _opened(self) -> None:
        """In a thread of the relay: the other side has accepted."""
        self.connections += 1
        if self._down is None:
            self._tell(f"sending to {self.name}")
        else:
            self._warn(f"{self.name} is back after {time.monotonic() - self._down:.1f} s")
        self._down = None

    def _lose(self, relay: _Relay | None, error: Exception) -> None:
        self._relay = None
        held, reason = 0.0, ""
        if relay:
            relay.kill()
            held, reason = relay.held(), relay.reason
        self._discard()
        if self._hurried.is_set():
            return
        if held > _STEADY:
            self._pauses.reset()
        self._next = time.monotonic() + self._pauses.take()
        if self._down is None:
            self._down = time.monotonic()
            happened = "is lost" if held else "cannot be reached"
            if isinstance(error, RtstyleError):
                reason = str(error)
            reason = reason or f"no answer for {self._timeout:g} s"
            self._warn(f"{self.name} {happened} ({reason}): trying again, frames are left out meanwhile")


class _Relay:
    """One connection: the process that makes it, and the encoders that feed it. A broken one raises OSError."""

    def __init__(
        self,
        order: dict[str, object],
        encoding: Encoding,
        size: Size,
        color: Color,
        rate: Fraction,
        audio: bool,
        opened: Callable[[], None],
    ) -> None:
        self.reason = ""
        """What the process reported at its end."""
        self._opened = opened
        self._since: float | None = None
        self._begin: int | None = None
        self._key = 0
        self._lock = threading.Lock()
        self._over = False
        self._timer: threading.Timer | None = None
        # -P: the program's own folder must not stand before the standard library.
        program = [sys.executable, "-P", str(Path(__file__).with_name("stream_process.py"))]
        self._process = subprocess.Popen(
            program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._process.stdin
        self._pipe = self._process.stdin
        self._listener = threading.Thread(target=self._listen, name="relay", daemon=True)
        self._listener.start()
        self._container: OutputContainer | None = None
        try:
            self.write_bytes(json.dumps(order).encode() + b"\n")
            self._container = av.open(
                _Flushed(self.write_bytes), "w", format="nut",
                container_options={"flush_packets": "1", "max_interleave_delta": "500000"},
            )  # fmt: skip
            self._video = VideoEncoder(self._container, encoding, VideoFormat(size, color, CLOCK, rate))
            self._audio = AudioEncoder(self._container, audio_codec("nut", "")) if audio else None
        except BaseException:
            self.kill()
            raise

    def write(self, frame: Frame) -> None:
        """Encode a frame and send it; the first is at 0."""
        assert self._container
        first = self._begin is None
        if self._begin is None:
            self._begin = frame.pts
        pts = frame.pts - self._begin
        key = first or pts - self._key >= KEY_SECONDS / CLOCK
        if key:
            self._key = pts
        self._container.mux(self._video.encode(replace(frame, pts=pts), key=key))
        if first and self._audio:
            # A player that opens the stream looks for a packet of each kind; a microphone may have nothing yet.
            silence = AudioChunk(np.zeros((RATE // 10, 2), np.int16), float(frame.pts * CLOCK))
            self._container.mux(self._audio.encode(silence, float(frame.pts * CLOCK)))

    def write_audio(self, chunk: AudioChunk) -> None:
        """Encode a piece of audio and send it."""
        if self._begin is not None and self._audio and self._container:
            self._container.mux(self._audio.encode(chunk, float(self._begin * CLOCK)))

    def write_bytes(self, data: bytes) -> int:
        """Write to the process; waits where it does not read, until it ends."""
        self._pipe.write(data)
        self._pipe.flush()
        return len(data)

    @property
    def connecting(self) -> bool:
        """Whether the other side has not accepted yet."""
        return self._since is None

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def held(self) -> float:
        """Seconds since the other side accepted; 0 where it has not."""
        return time.monotonic() - self._since if self._since is not None else 0.0

    def end_within(self, seconds: float) -> None:
        """Kill the process after so long. Called from any thread."""
        with self._lock:
            if not self._over and not self._timer:
                self._timer = threading.Timer(seconds, self._process.kill)
                self._timer.start()

    def finish(self) -> None:
        """End the stream in good order, if that goes in time."""
        with suppress(*AV_ERRORS):
            if self._container and self._begin is not None:
                self._container.mux(self._video.flush())
                if self._audio:
                    self._container.mux(self._audio.flush())
                self._container.close()
                self._container = None
        with suppress(OSError):
            self._pipe.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        self.kill()

    def kill(self) -> None:
        """End it now; ``reason`` is known afterwards."""
        with suppress(OSError):
            self._pipe.close()
        # One that has broken is about to say why.
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0.2)
        self._process.kill()
        self._process.wait()
        self._listener.join()
        with self._lock:
            self._over = True
        if self._timer:
            self._timer.cancel()
            self._timer.join()
        if self._container:
            with suppress(*AV_ERRORS):
                self._container.close()

    def _listen(self) -> None:
        assert self._process.stdout
        with self._process.stdout as lines:
            for line in lines:
                word, _, rest = line.decode("utf-8", "replace").strip().partition(" ")
                if word == "on":
                    self._since = time.monotonic()
                    self._opened()
                elif word == "off":
                    self.reason = rest[:1].lower() + rest[1:]


class _Flushed:
    """What PyAV writes to."""

    def __init__(self, write: Callable[[bytes], int]) -> None:
        self.write = write

"""MicrophoneCapture: live audio, each piece with the moment at which it was heard, on the clock of the frames."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import av
import numpy as np
from numpy.typing import NDArray

from rtstyle.camera.microphones import list_microphones
from rtstyle.errors import CameraError, reason_of
from rtstyle.files import hushed
from rtstyle.video.audio import RATE, AudioChunk
from rtstyle.video.opening import AV_ERRORS, open_device

if TYPE_CHECKING:
    from av.container import InputContainer

_FORMATS = ("alsa", "dshow", "avfoundation", "lavfi")
"""FFmpeg's inputs of audio; ``lavfi`` makes it up, for tests: ``lavfi:sine=frequency=440,arealtime``."""

_WINDOW = 2.0
"""Seconds over which the clock of a device is compared with ours."""

_PIECE = RATE // 50
"""Samples of a piece at least: ALSA may give 128 at a time, and 375 pieces a second cost more than their encoding."""

_RETRY = 2.0
"""Seconds between two attempts to open a microphone that has gone."""


@dataclass(frozen=True)
class MicrophoneRequest:
    """What FFmpeg is asked for in order to open one microphone."""

    format: str
    """Name of FFmpeg's input device."""
    file: str


def microphone_requests(platform: str, name: str, known: list[str]) -> list[MicrophoneRequest]:
    """Translate a microphone for this platform; the requests are to be tried in order.

    Args:
        platform: As ``sys.platform``.
        name: A name, an ALSA device (``hw:1``), ``FORMAT:DEVICE`` in FFmpeg's words; empty: the system's own.
        known: Names of the microphones; used on Windows, which has no default.

    Raises:
        CameraError: Windows has none.
    """
    format, _, file = name.partition(":")
    if format in _FORMATS and file:
        return [MicrophoneRequest(format, file)]
    if platform == "win32":
        if not name and not known:
            raise CameraError("no microphone was found on this machine; leave --mic out, or plug one in")
        return [MicrophoneRequest("dshow", f"audio={name or known[0]}")]
    if platform == "darwin":
        return [MicrophoneRequest("avfoundation", f":{name or 'default'}")]
    return [MicrophoneRequest("alsa", device) for device in ([name] if name else ["default", "plughw:0"])]


def _find_alsa() -> None:
    """Show the ALSA library that comes with PyAV where the system keeps its settings: its own place exists nowhere."""
    settings = Path("/usr/share/alsa")
    if settings.exists():
        os.environ.setdefault("ALSA_CONFIG_DIR", str(settings))
    for pattern in ("lib/*/alsa-lib", "lib64/alsa-lib", "lib/alsa-lib"):
        for folder in Path("/usr").glob(pattern):
            os.environ.setdefault("ALSA_PLUGIN_DIR", str(folder))


class AudioClock:
    """Computes when a piece of audio was heard, from the number of samples before it and the moment at which it came.

    Pieces come late, by what the device and the system keep of them, and never early. So the earliest of the
    last seconds shows how the count of samples lies on our clock, also where the device's own runs off it.
    """

    def __init__(self) -> None:
        self._samples = 0
        self._recent: deque[tuple[float, float]] = deque()

    def begin_of(self, samples: int, arrived: float) -> float:
        """Count a piece of ``samples`` that came at ``arrived``; return when its first sample was heard."""
        begin = self._samples / RATE
        self._samples += samples
        self._recent.append((arrived, arrived - self._samples / RATE))
        while self._recent[0][0] < arrived - _WINDOW:
            self._recent.popleft()
        return begin + min(offset for _, offset in self._recent)


class MicrophoneCapture:
    """Listens in a thread. A context manager: leaving ends the thread.

    Audio and frames both get the moment at which they reach this process, by ``time.perf_counter()``: they are
    in step as far as camera and microphone need equally long to get here; neither reports how long it needs.
    A microphone that goes away is reported once and reopened when it is back.

    Args:
        name: See ``microphone_requests``.
        hear: Takes pieces of audio, in the thread; may not take long.
        warn: Called with each line to print, in the thread.
        timeout: Seconds that it may take to open, and for each piece.

    Raises:
        CameraError: There is no such microphone, or it cannot be opened.
    """

    def __init__(
        self, name: str, hear: Callable[[AudioChunk], None], warn: Callable[[str], None], *, timeout: float = 5.0
    ) -> None:
        self._hear, self._warn, self._timeout = hear, warn, timeout
        self._stop = threading.Event()
        known = [microphone.device for microphone in list_microphones()] if sys.platform == "win32" else []
        self._requests = microphone_requests(sys.platform, name, known)
        self.name = f"microphone {name}" if name else "the microphone"
        """Text to show."""
        self._container = self._open()
        self._thread = threading.Thread(target=self._listen, name="microphone", daemon=True)

    def _open(self) -> InputContainer:
        reason = ""
        for request in self._requests:
            alsa = request.format == "alsa"
            if alsa:
                _find_alsa()
            # As in camera.py: AVFMT_FLAG_NONBLOCK, so that a silent device does not hold the thread.
            options = {} if request.format == "lavfi" else {"fflags": "+4"}
            try:
                with hushed() if alsa else nullcontext():
                    container = open_device(request.file, format=request.format, options=options, timeout=self._timeout)
            except AV_ERRORS as error:
                reason = f"{request.format} {request.file}: {reason_of(error)}"
                continue
            if container.streams.audio:
                return container
            container.close()
            reason = f"{request.format} {request.file} has no audio"
        found = ", ".join(f"{mic.device} ({mic.name})" for mic in list_microphones()) or "none"
        raise CameraError(
            f"cannot open {self.name} ({reason}); found on this machine: {found}; give --mic DEVICE or leave it out"
        )

    def _listen(self) -> None:
        while True:
            try:
                for chunk in self._pieces(self._container):
                    self._hear(chunk)
                reason = "it ended"
            except AV_ERRORS as error:
                reason = reason_of(error)
            self._container.close()
            if self._stop.is_set():
                return
            self._warn(f"{self.name} is gone ({reason}): there is no audio until it is back")
            if not self._reopen():
                return
            self._warn(f"{self.name} is back")

    def _reopen(self) -> bool:
        while not self._stop.wait(_RETRY):
            try:
                self._container = self._open()
            except CameraError:
                continue
            return True
        return False

    def _pieces(self, container: InputContainer) -> Iterator[AudioChunk]:
        clock = AudioClock()
        waiting: list[NDArray[Any]] = []
        begin = 0.0
        resampler = av.AudioResampler(format="s16", layout="stereo", rate=RATE)
        for packet, arrived in self._packets(container):
            for frame in packet.decode():
                for converted in resampler.resample(frame):
                    samples = converted.to_ndarray().reshape(-1, 2)
                    at = clock.begin_of(len(samples), arrived)
                    begin = begin if waiting else at
                    waiting.append(samples)
                    if sum(map(len, waiting)) >= _PIECE:
                        yield AudioChunk(np.concatenate(waiting), begin)
                        waiting = []
            if self._stop.is_set():
                return

    def _packets(self, container: InputContainer) -> Iterator[tuple[av.Packet[av.AudioStream], float]]:
        since = time.monotonic()
        while not self._stop.is_set():
            try:
                for packet in container.demux(container.streams.audio[0]):
                    yield packet, time.perf_counter()
                    since = time.monotonic()
                return
            except av.BlockingIOError:
                if time.monotonic() - since > self._timeout:
                    raise TimeoutError(f"no audio for {self._timeout:g} s") from None
                self._stop.wait(0.005)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

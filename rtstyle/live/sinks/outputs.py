"""Which outputs a live session has beside the window: checked before, opened when size and color are known."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from rtstyle.contract import check_sinks
from rtstyle.errors import SettingError
from rtstyle.frame import FrameSink, FrameSource, VideoFormat
from rtstyle.live.fanout import Fanout
from rtstyle.live.sinks.ndi import NdiSource, check_ndi
from rtstyle.live.sinks.own import OwnSink
from rtstyle.live.sinks.sink import CLOCK
from rtstyle.live.sinks.stream import Destination, StreamSink, destination
from rtstyle.live.sinks.virtual_camera import find_virtual_cameras, open_virtual_camera, steady_rate
from rtstyle.settings import check_types
from rtstyle.video import EncoderSettings

_STILL = 0.5
"""Seconds without a frame, such as while the session is paused, after which a stream is sent the last one again."""


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Where stylized frames go, and whether with audio."""

    virtual_camera: str | None = None
    """Device of a virtual camera, empty for the first that is free; None: none. See ``find_virtual_cameras``."""
    on_demand: bool = False
    """Stylize only while another program has the virtual camera open, where frames go nowhere else; Linux only."""
    ndi: str | None = None
    """Name of an NDI source, empty for ``rtstyle``; None: none."""
    urls: tuple[str, ...] = ()
    """What ``push.destination`` takes."""
    bitrate: int | None = None
    """Mean bits per second of each of ``urls``; None takes what suits size and rate."""
    microphone: str | None = None
    """The microphone whose audio goes into recordings and ``urls``, empty for the system's own; None: see ``audio``."""
    audio: bool = True
    """Without a microphone, put the audio of a file, URL or pipe into recordings and ``urls``: stereo, re-encoded."""
    sinks: tuple[FrameSink, ...] = ()
    """Sinks of your own. Each is written to in a thread of its own and gets the latest frame, so a slow one misses
    frames, which are counted, and delays nothing; times count from the zero of ``time.perf_counter()``."""

    record: Path | None = None
    """A .mp4 or .mkv to write; frames are shown in it at the moments at which they came."""
    encoder: EncoderSettings = EncoderSettings()
    """How recordings are encoded."""
    overwrite: bool = False
    """Replace recordings and HLS playlists that exist."""

    def __post_init__(self) -> None:
        check_types(self)
        if self.bitrate is not None and self.bitrate < 1000:
            raise SettingError(f"the bitrate of outputs is in bits per second and at least 1000, got {self.bitrate}")
        if len(set(self.urls)) < len(self.urls):
            raise SettingError("an output is given twice")
        if self.on_demand and self.virtual_camera is None:
            raise SettingError("frames on demand are those of a virtual camera: add --virtual-camera")
        if self.on_demand and sys.platform != "linux":
            raise SettingError("whether a virtual camera is read is known on Linux only: leave --on-demand out")
        for sink in self.sinks:
            check_sinks(sink)

    def __bool__(self) -> bool:
        return bool(self.virtual_camera is not None or self.ndi is not None or self.urls or self.sinks or self.record)


class OutputPlan:
    """Outputs that were looked at and can be opened.

    Args:
        timeout: Seconds that one step of a connection may take.

    Raises:
        SettingError: An output is none.
        OutputExistsError, VideoWriteError: It cannot be written, or there is no virtual camera.
    """

    def __init__(self, outputs: Outputs, *, timeout: float) -> None:
        self._outputs, self._timeout = outputs, timeout
        self._destinations: list[Destination] = [
            destination(url, overwrite=outputs.overwrite, timeout=timeout) for url in outputs.urls
        ]
        camera = outputs.virtual_camera
        if outputs.ndi is not None:
            check_ndi()
        self._cameras = None if camera is None else find_virtual_cameras(camera)

    def add_to(
        self,
        branches: Fanout,
        source: FrameSource,
        *,
        fps: Fraction | None,
        audio: bool,
        tell: Callable[[str], None],
    ) -> None:
        """Open everything for frames of the source's size and color.

        Args:
            fps: Rate that was asked for, if one was; the virtual camera keeps it.
            audio: Whether there will be audio.

        Raises:
            VideoWriteError: The virtual camera cannot be opened. Networks are tried later, and again and again.
        """
        if self._cameras is not None:
            rate = steady_rate(fps, source.rate)
            demand = self._outputs.on_demand
            device, camera = open_virtual_camera(
                self._cameras, size=source.size, color=source.color, rate=rate, on_demand=demand
            )
            # Programs that watch want frames at a steady pace: one that is a little late must not be sent twice.
            period = float(1 / rate)
            branches.add("virtual camera", camera, "latest", spacing=0.75 * period, patience=1.25 * period)
            while_read = ", while another program has it open" if demand else ""
            tell(f"virtual camera {device}: {source.size}, {float(rate):.4g} frames per second{while_read}")
        if self._outputs.ndi is not None:
            name = self._outputs.ndi or "rtstyle"
            ndi = NdiSource(name, size=source.size, rate=steady_rate(fps, source.rate))
            branches.add("NDI", ndi, "latest", patience=_STILL)
            tell(f"NDI source {name}: {source.size}")
        for sink in map(OwnSink, self._outputs.sinks):
            branches.add(sink.name, sink, "latest")
        for target in self._destinations:
            push = StreamSink(
                target,
                like=VideoFormat(source.size, source.color, CLOCK, source.rate),
                bitrate=self._outputs.bitrate,
                audio=audio,
                tell=tell,
                warn=branches.warn,
                timeout=self._timeout,
            )
            branches.add(target.name, push, "latest", patience=_STILL)

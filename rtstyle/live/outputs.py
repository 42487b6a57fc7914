"""What a live session sends out beside window and recording: found out before, opened when the picture is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from rtstyle.contract import check_sinks
from rtstyle.errors import SettingError
from rtstyle.frame import FrameSink, FrameSource
from rtstyle.live.outlets import Outlets
from rtstyle.live.own import OwnSink
from rtstyle.live.push import Destination, Push, destination
from rtstyle.live.virtual_camera import find_virtual_camera, open_virtual_camera, steady_rate

_STILL = 0.5
"""Seconds without a frame, such as while the session is paused, after which a stream is sent the last one again."""


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Where stylized frames go, and whether with sound."""

    virtual_camera: str | None = None
    """Device of a virtual camera, empty for the first that is found; None: none. See ``find_virtual_camera``."""
    urls: tuple[str, ...] = ()
    """What ``push.destination`` takes."""
    bitrate: int | None = None
    """Mean bits per second of each of ``urls``; None takes what suits size and rate."""
    microphone: str | None = None
    """The microphone whose sound goes into recordings and ``urls``, empty for the system's own; None: no sound."""
    sinks: tuple[FrameSink, ...] = ()
    """Sinks of your own. Each is written to in a thread of its own and gets the latest frame, so a slow one misses
    frames, which are counted, and delays nothing; times count from the zero of ``time.perf_counter()``."""

    def __post_init__(self) -> None:
        if self.bitrate is not None and self.bitrate < 1000:
            raise SettingError(f"the bitrate of outputs is in bits per second and at least 1000, got {self.bitrate}")
        if len(set(self.urls)) < len(self.urls):
            raise SettingError("an output is given twice")
        for sink in self.sinks:
            check_sinks(sink)

    def __bool__(self) -> bool:
        return self.virtual_camera is not None or bool(self.urls) or bool(self.sinks)


class OutputPlan:
    """Outputs that were looked at and can be opened.

    Args:
        overwrite: True replaces HLS playlists that exist.
        timeout: Seconds that one step of a connection may take.

    Raises:
        SettingError: An output is none.
        OutputExistsError, VideoWriteError: It cannot be written, or there is no virtual camera.
    """

    def __init__(self, outputs: Outputs, *, overwrite: bool, timeout: float) -> None:
        self._outputs, self._timeout = outputs, timeout
        self._destinations: list[Destination] = [
            destination(url, overwrite=overwrite, timeout=timeout) for url in outputs.urls
        ]
        camera = outputs.virtual_camera
        self._camera = None if camera is None else find_virtual_camera(camera)

    def add_to(
        self, outlets: Outlets, source: FrameSource, *, fps: Fraction | None, tell: Callable[[str], None]
    ) -> None:
        """Open everything for frames of the source's size and colour.

        Args:
            fps: Rate that was asked for, if one was; the virtual camera keeps it.

        Raises:
            VideoWriteError: The virtual camera cannot be opened. Networks are tried later, and again and again.
        """
        if self._camera is not None:
            rate = steady_rate(fps, source.rate)
            camera = open_virtual_camera(self._camera, size=source.size, colour=source.colour, rate=rate)
            # Programs that watch want frames at a steady pace: one that is a little late must not be sent twice.
            period = float(1 / rate)
            outlets.add("virtual camera", camera, "newest", spacing=0.75 * period, patience=1.25 * period)
            tell(f"virtual camera {self._camera}: {source.size}, {float(rate):.4g} frames per second")
        for sink in map(OwnSink, self._outputs.sinks):
            outlets.add(sink.name, sink, "newest")
        for target in self._destinations:
            push = Push(
                target,
                size=source.size,
                colour=source.colour,
                rate=source.rate,
                bitrate=self._outputs.bitrate,
                sound=self._outputs.microphone is not None,
                tell=tell,
                warn=outlets.warn,
                timeout=self._timeout,
            )
            outlets.add(target.name, push, "newest", patience=_STILL)

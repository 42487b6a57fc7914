"""A live source, stylized, in a window and in sinks, with the least delay.

A thread reads the source and keeps its latest frame only; the calling thread stylizes that one, shows it and passes it
to the sinks. So a slow machine shows fewer frames, never older ones.

    settings     of the session
    opening      everything that a session needs
    session      the loop over frames and commands
    desk         what commands do
    look         strengths and mix of each frame
    control/     OSC, MIDI, presets, modulation
    latest       the latest frame of the source
    styles       engines that change while the session runs
    adaptive     network and size that this machine can keep up with
    denoise      temporal noise reduction
    deflicker    exposure smoothing
    fanout       frames to sinks, each in a thread of its own
    sinks/       recording, stream, virtual camera
    microphone   audio for recordings and streams
"""

from __future__ import annotations

import os
from collections.abc import Callable

from rtstyle.backends import Controls, EngineSettings
from rtstyle.camera.settings import CaptureSettings
from rtstyle.contract import check_source
from rtstyle.frame import FrameSource
from rtstyle.live.figures import LiveReport
from rtstyle.live.latest import LatestFrame
from rtstyle.live.opening import LiveInterrupted, OpenSession, open_session
from rtstyle.live.settings import ControlSettings, LiveSettings, Preview
from rtstyle.live.sinks.outputs import Outputs
from rtstyle.settings import check_is

__all__ = [
    "ControlSettings",
    "LatestFrame",
    "LiveInterrupted",
    "LiveReport",
    "LiveSettings",
    "OpenSession",
    "Outputs",
    "Preview",
    "open_session",
    "stylize_live",
]


def stylize_live(
    source: str | int | FrameSource,
    *,
    style: str = "sketch",
    controls: Controls = Controls(),
    engine: EngineSettings = EngineSettings(),
    capture: CaptureSettings = CaptureSettings(),
    outputs: Outputs = Outputs(),
    live: LiveSettings = LiveSettings(),
    say: Callable[[str], None] | None = None,
) -> LiveReport:
    """Stylize a live source until it ends, the person quits, or a limit is reached.

    Runs in the calling thread, which must be the main one where a window is shown on macOS; no thread is
    left when it returns or raises. With a window, keys act (``window.KEYS_HELP``). Ctrl-C, in the main
    thread, ends the session between two frames: then KeyboardInterrupt is raised. Whatever ends it,
    what was recorded until then is finished and gets its name, except where writing itself failed.

    Args:
        source: A camera number, device or name, the screen, a URL, a pipe, or files that are played in real time;
            see ``open_source``. Or a ``FrameSource`` of your own, which must yield, or raise, every few seconds.
        style: What ``load_style`` accepts.
        engine: Backend, precision, device, size of the network and size of strokes. The network ``auto`` is the default
            one, and the fast one where this machine would drop frames.
        capture: How the source is opened.
        outputs: Recording, virtual camera, streams, sinks of your own, and the microphone of stream and recording.
        live: How the session is shown, and when it ends.
        say: Called with each line that a person should read, such as camera mode and backend.

    Raises:
        SettingError: Settings are out of range; or there is neither window, recording nor limit.
        DisplayError: A window was asked for and there is no display.
        CameraError, SourceStalledError, VideoOpenError: The source is absent, stalled, or went away.
        StyleNotFoundError, StyleFormatError, BackendUnavailableError: The style cannot be run.
        ServerError: The page cannot be served.
        OutputExistsError, VideoWriteError: The recording cannot be written, or the virtual camera.
        LiveInterrupted: Ctrl-C was pressed once; recordings are whole, ``report`` holds what was done.
    """
    if not isinstance(source, str | os.PathLike | int):
        check_source(source)
    for name, value, kind in (
        ("controls", controls, Controls),
        ("engine", engine, EngineSettings),
        ("capture", capture, CaptureSettings),
        ("outputs", outputs, Outputs),
        ("live", live, LiveSettings),
    ):
        check_is(name, value, kind)
    with open_session(
        source,
        style=style,
        controls=controls,
        engine=engine,
        capture=capture,
        outputs=outputs,
        live=live,
        say=say,
    ) as session:
        return session.run()

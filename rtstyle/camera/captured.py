"""A frame of a live source and the moment at which it came."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rtstyle.frame import Frame, Planes


@dataclass(frozen=True, slots=True)
class Captured:
    """A frame and the moment at which it reached this process."""

    frame: Frame
    at: float
    """On the clock of ``time.perf_counter()``, in seconds; taken before decoding. For files, the moment at which
    the frame was due."""
    skipped: int = 0
    """Frames before it that were left out because newer ones had come."""


def mirrored(frame: Frame) -> Frame:
    """Return the frame as a mirror shows it, left and right exchanged; its planes are views of the given ones.

    Its place on the canvas and what was measured of it are mirrored as well, so that strokes follow the camera.
    """
    planes = Planes(*(plane[:, ::-1] for plane in frame.planes))
    seen = frame.seen.mirrored() if frame.seen else None
    bent = frame.canvas_map.mirrored(frame.size.width) if frame.canvas_map else None
    return replace(frame, planes=planes, canvas=(-frame.canvas[0], frame.canvas[1]), canvas_map=bent, seen=seen)

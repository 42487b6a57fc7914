"""Follows a scene: where the canvas lies below each frame, and what the frame is like, smoothed in time."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from rtstyle.canvas.field import FieldTracker
from rtstyle.canvas.flow import FlowFollower
from rtstyle.canvas.tracker import FIELD, FLOW, CanvasTracker, TrackerState
from rtstyle.frame import Frame

Follow = Literal["auto", "flow", "camera", "off"]
"""What strokes follow: everything that moves, the camera's pans only, or nothing; ``auto`` is the camera."""


class SceneFollower:
    """Gives consecutive frames of one scene their place on the canvas, and what was measured of them.

    Args:
        steered: Whether styles on a steered canvas will draw the frames; else only their place is found.
        follow: What the canvas follows.
    """

    def __init__(self, *, steered: bool = True, follow: Follow = "auto") -> None:
        self._tracker = CanvasTracker() if follow != "off" else None
        self._flow = FlowFollower() if follow == "flow" else None
        self._fields = FieldTracker() if steered else None
        self._last: tuple[int, int] | None = None
        self.flowing = True
        """Set it to False to save the time that flow takes: the canvas eases back to what the camera alone moves."""

    def follow(self, frame: Frame) -> Frame:
        """Return the frame with its place on the canvas and ``seen``; its planes are read before the call returns."""
        luma = frame.planes.y
        offset = self._tracker.offset(luma) if self._tracker else (0, 0)
        before = self._last or offset
        moved = float(before[0] - offset[0]), float(before[1] - offset[1])
        self._last = offset
        frame = replace(frame, canvas=offset)
        back = None
        if self._flow:
            bent = self._flow.follow(luma, moved) if self.flowing else self._flow.ease(moved)
            frame = replace(frame, canvas_map=bent)
            back = self._flow.back
        if self._fields:
            frame = replace(frame, seen=self._fields.follow(luma, moved, back))
        return frame

    def state(self) -> TrackerState:
        """Return all that further frames depend on."""
        state = self._tracker.state() if self._tracker else TrackerState(np.zeros(2), np.zeros(2), {})
        arrays = dict(state.arrays)
        for prefix, part in ((FIELD, self._fields), (FLOW, self._flow)):
            arrays |= {f"{prefix}{name}": array for name, array in part.state().items()} if part else {}
        return replace(state, arrays=arrays)

    def restore(self, state: TrackerState) -> None:
        """Continue as the follower did that gave ``state``."""
        if self._tracker:
            self._tracker.restore(state)
        for prefix, part in ((FIELD, self._fields), (FLOW, self._flow)):
            if part:
                part.restore({n.removeprefix(prefix): a for n, a in state.arrays.items() if n.startswith(prefix)})
        self._last = self._tracker.place() if self._tracker else (0, 0)

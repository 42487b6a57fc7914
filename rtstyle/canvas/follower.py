"""Follows a scene: where the canvas lies below each frame, and what the frame is like, smoothed in time."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from rtstyle.canvas.carry import Step
from rtstyle.canvas.field import FieldTracker
from rtstyle.canvas.flow import Comparison, FlowFollower
from rtstyle.canvas.tracker import FIELD, FLOW, CanvasTracker, TrackerState
from rtstyle.frame import Frame

Follow = Literal["auto", "flow", "camera", "off"]
"""What strokes follow: everything that moves, the camera's pans only, or nothing; ``auto`` is ``flow``."""


def resolved(follow: Follow) -> Follow:
    """Return what ``auto`` stands for, and everything else as it is."""
    return "flow" if follow == "auto" else follow


class SceneFollower:
    """Gives consecutive frames of one scene their place on the canvas, and what was measured of them.

    Args:
        steered: Whether styles on a steered canvas will draw the frames; else only their place is found.
        follow: What the canvas follows.
    """

    def __init__(self, *, steered: bool = True, follow: Follow = "auto") -> None:
        self.tracker = CanvasTracker() if follow != "off" else None
        """Finds the offset of each frame; another thread may use it where ``follow`` is given the offsets."""
        self._flow = FlowFollower() if resolved(follow) == "flow" else None
        self._fields = FieldTracker() if steered else None
        self._last: tuple[int, int] | None = None
        self.flowing = True
        """Set it to False to save the time that flow takes: the canvas eases back to what the camera alone moves."""

    def offset(self, frame: Frame) -> tuple[int, int]:
        """Return where the top left of the next frame lies on the canvas, (x, y) in pixels."""
        return self.tracker.offset(frame.planes.y) if self.tracker else (0, 0)

    def follow(
        self, frame: Frame, offset: tuple[int, int] | None = None, known: Comparison | Step | None = None
    ) -> Frame:
        """Return the frame with its place on the canvas and ``seen``; its planes are read before the call returns.

        Args:
            offset: What ``offset`` returned for this frame, where it was called already; here or elsewhere.
            known: Where flow is followed and that is known already: how the frame differs from the one before it, or
                what ``step`` was of this frame elsewhere.
        """
        luma = frame.planes.y
        if offset is None:
            offset = self.offset(frame)
        before = self._last or offset
        moved = float(before[0] - offset[0]), float(before[1] - offset[1])
        self._last = offset
        frame = replace(frame, canvas=offset)
        back = None
        if self._flow:
            if isinstance(known, Step):
                bent = self._flow.replay((luma.shape[0], luma.shape[1]), moved, known)
            else:
                bent = self._flow.follow(luma, moved, known) if self.flowing else self._flow.ease(moved)
            frame = replace(frame, canvas_map=bent)
            back = self._flow.back
        if self._fields:
            frame = replace(frame, seen=self._fields.follow(luma, moved, back))
        return frame

    @property
    def step(self) -> Step | None:
        """What was found of the last frame: all that its map was made of, beside the one before it; None: no flow."""
        return self._flow.step if self._flow else None

    def tracked(self) -> TrackerState:
        """Return all that further offsets depend on."""
        return self.tracker.state() if self.tracker else TrackerState(np.zeros(2), np.zeros(2), {})

    def state(self, tracked: TrackerState | None = None) -> TrackerState:
        """Return all that further frames depend on.

        Args:
            tracked: What ``tracked`` returned after the last frame, where the tracker is at a later frame by now.
        """
        state = tracked or self.tracked()
        arrays = dict(state.arrays)
        for prefix, part in ((FIELD, self._fields), (FLOW, self._flow)):
            arrays |= {f"{prefix}{name}": array for name, array in part.state().items()} if part else {}
        return replace(state, arrays=arrays)

    def restore(self, state: TrackerState) -> None:
        """Continue as the follower did that gave ``state``."""
        if self.tracker:
            self.tracker.restore(state)
        for prefix, part in ((FIELD, self._fields), (FLOW, self._flow)):
            if part:
                part.restore({n.removeprefix(prefix): a for n, a in state.arrays.items() if n.startswith(prefix)})
        self._last = self.tracker.place() if self.tracker else (0, 0)

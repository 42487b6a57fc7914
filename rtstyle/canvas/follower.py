"""Follows a scene: where the canvas lies below each frame, and what the frame is like, smoothed in time."""

from __future__ import annotations

from dataclasses import replace

from rtstyle.canvas.field import FieldTracker
from rtstyle.canvas.tracker import FIELD, CanvasTracker, TrackerState
from rtstyle.frame import Frame


class SceneFollower:
    """Gives consecutive frames of one scene their place on the canvas, and what was measured of them.

    Args:
        steered: Whether styles on a steered canvas will draw the frames; else only their place is found.
    """

    def __init__(self, *, steered: bool = True) -> None:
        self._tracker = CanvasTracker()
        self._fields = FieldTracker() if steered else None
        self._last: tuple[int, int] | None = None

    def follow(self, frame: Frame) -> Frame:
        """Return the frame with ``canvas`` and ``seen``; its planes are read before the call returns."""
        luma = frame.planes.y
        offset = self._tracker.offset(luma)
        if self._fields is None:
            return replace(frame, canvas=offset)
        before = self._last or offset
        moved = float(before[0] - offset[0]), float(before[1] - offset[1])
        self._last = offset
        return replace(frame, canvas=offset, seen=self._fields.follow(luma, moved))

    def state(self) -> TrackerState:
        """Return all that further frames depend on."""
        state = self._tracker.state()
        fields = self._fields.state() if self._fields else {}
        return replace(state, arrays=state.arrays | {f"{FIELD}{name}": array for name, array in fields.items()})

    def restore(self, state: TrackerState) -> None:
        """Continue as the follower did that gave ``state``."""
        self._tracker.restore(state)
        fields = {name.removeprefix(FIELD): a for name, a in state.arrays.items() if name.startswith(FIELD)}
        if self._fields:
            self._fields.restore(fields)
        self._last = self._tracker.place()

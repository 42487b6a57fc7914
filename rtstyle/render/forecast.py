"""How long a render will take on this machine, and what the next forecast learns from it."""

from __future__ import annotations

from rtstyle.render.plan import RenderPlan
from rtstyle.render.report import VideoReport
from rtstyle.speed import Speed, duration_words, keep_speed, known_speed

_LONG = 10.0
"""Seconds from which on a render is announced."""

_TOLERABLE = 2.0
"""Times the duration of a video that a render may take before the fast network is suggested."""

_ENOUGH = 100
"""Frames from which on a render shows how fast this machine is."""


def forecast(plan: RenderPlan) -> str | None:
    """Return a line that says how long a render will take; None: it is short, or it is not known.

    It is known where this machine was measured (``rtstyle doctor --speed``) or has rendered before, for the engine that
    is chosen automatically.
    """
    frames, known = plan.reader.frames_expected, known_speed()
    if not frames or not _is_usual(plan):
        return None
    if plan.journal and plan.journal.checkpoint:
        frames = max(0, frames - plan.journal.checkpoint.frames)
    size = plan.engine.working_size(plan.reader.size)
    style, pixels = plan.style, size.width * size.height
    fps = known.fps(style.size_class, pixels)
    if fps is None or frames / fps < _LONG:
        return None
    line = f"{plan.reader.name}: {frames} frames take about {duration_words(frames / fps)} here, at {fps:.1f} FPS"
    faster, duration = known.fps("fast", pixels), plan.reader.duration
    slow = duration is not None and plan.reader.rate and frames / fps > _TOLERABLE * frames / float(plan.reader.rate)
    if slow and faster and faster > fps and style.size_class == "default" and "fast" in style.size_classes:
        line += f"; with --size-class fast about {duration_words(frames / faster)}"
    return line


def learn(plan: RenderPlan, report: VideoReport) -> None:
    """Keep how fast a render was for the forecasts of later ones."""
    fresh = report.frames_out - report.resumed_at
    if fresh < _ENOUGH or not _is_usual(plan):
        return
    size = plan.engine.working_size(plan.reader.size)
    fps = (fresh - 1) / max(1e-3, report.seconds - report.first_frame_s)
    keep_speed(Speed({plan.style.size_class: fps * size.width * size.height / 1e6}))


def _is_usual(plan: RenderPlan) -> bool:
    """Return whether a render does what figures of this machine are about: one style by the automatic engine."""
    engine = plan.engine
    chosen = engine.backend == engine.precision == "auto" and engine.device is None
    return chosen and len(plan.style.parts) == 1 and not plan.automation.styles and not plan.mask.settings

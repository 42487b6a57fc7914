"""A file made from a file: planned, stylized, written in segments that survive an interruption, joined.

plan        what is decided before an engine is opened
run         the loop: reader -> engine -> writer
frames      the same with a caller's own source or sinks
segments    the output, written in segments
journal     which segments are finished
resume      what an interrupted render and its continuation must have in common
follow      the canvas follows the scene
masks       the mask of a plan
automation  strength and style over time: keyframes
stylist     stylizes frames by them
flow        threads, times, signals
encode      one segment as it is encoded
memory      how much memory a render needs
batch       many files

Several processes or machines render the segments of a video, or many videos:

job         what a segment needs to be rendered anywhere
worker      renders jobs
planner     decodes and follows ahead of the workers
pool        workers on this machine
cluster     workers on the nodes of a Ray cluster
farm        gives jobs to workers; what fails, to others
coordinate  one video: its jobs, its results in order
many        many videos at a time
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rtstyle.backends import Controls, EngineSettings
from rtstyle.frame import FrameSink, FrameSource
from rtstyle.render.plan import RenderOptions, RenderPlan, plan_render
from rtstyle.render.report import VideoReport
from rtstyle.settings import check_is
from rtstyle.style import Style

if TYPE_CHECKING:
    from rtstyle.video import EncoderSettings

__all__ = ["RenderOptions", "RenderPlan", "VideoReport", "plan_render", "render", "stylize_video"]


def stylize_video(
    source: Path | str | FrameSource,
    target: Path | str | FrameSink | Sequence[FrameSink],
    *,
    style: Style | str = "sketch",
    controls: Controls = Controls(),
    engine: EngineSettings = EngineSettings(),
    encoder: EncoderSettings | None = None,
    options: RenderOptions = RenderOptions(),
    progress: Callable[[int, int | None, str], None] | None = None,
) -> VideoReport:
    """Stylize a video; every other stream is copied, every frame keeps its time.

    Args:
        source: A file, a URL, a folder of images, a pattern such as ``%05d.png``, or ``-``, the standard input; or a
            ``FrameSource`` of your own, which is iterated in another thread.
        target: A file, a pattern, or ``-``, the standard output; or one ``FrameSink`` of your own or several, which
            get frames upright, in order and on the calling thread. With a source or sink of your own there is no
            other stream, and ``muxer`` and ``resume`` are errors; so are, for a source, ``hwaccel``, ``size``,
            ``start`` and ``end``.
        engine: Backend, precision, device, size of the network and size of strokes.
        options: What of the input is rendered, and how the output is made.
        progress: Called on this thread after each frame with frames done, frames in all (None if the
            container does not state it) and the engine's name; it may raise to stop.

    Raises:
        RtstyleError: One of errors.py, before the first frame where that is possible. No output is left, but on
            KeyboardInterrupt the finished part is kept under a stated name, and where segments are finished
            (see ``RenderWriter``) they stay beside ``target`` for ``resume``.
    """
    check_is("style", style, (str, Path, Style))
    for name, value, kind in (
        ("controls", controls, Controls),
        ("engine", engine, EngineSettings),
        ("options", options, RenderOptions),
    ):
        check_is(name, value, kind)
    if encoder is not None:
        from rtstyle.video import EncoderSettings

        check_is("encoder", encoder, EncoderSettings)
    if not isinstance(source, str | os.PathLike) or not isinstance(target, str | os.PathLike):
        from rtstyle.render.frames import stylize_frames

        return stylize_frames(
            source,
            target,
            style=style,
            controls=controls,
            engine=engine,
            encoder=encoder,
            options=options,
            progress=progress,
        )
    plan = plan_render(source, target, style=style, controls=controls, engine=engine, encoder=encoder, options=options)
    with plan:
        if options.jobs or options.cluster or "," in (engine.device or ""):
            return _render_with_workers(plan, progress)
        return render(plan, progress)


def _render_with_workers(plan: RenderPlan, progress: Callable[[int, int | None, str], None] | None) -> VideoReport:
    from rtstyle.render.coordinate import render_with
    from rtstyle.render.workers import open_pool

    pool = open_pool(plan.options, plan.engine.device)
    assert pool
    return render_with(plan, pool, progress)


def render(plan: RenderPlan, progress: Callable[[int, int | None, str], None] | None = None) -> VideoReport:
    """Render a plan, see ``rtstyle.render.run.render_in_process``."""
    from rtstyle.render import run

    return run.render_in_process(plan, progress)

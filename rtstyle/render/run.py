"""Renders a plan: decode and follow the camera in one thread, stylize, encode on the calling thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain, islice

from rtstyle.backends import Engine, open_for
from rtstyle.cores import cores
from rtstyle.frame import Frame
from rtstyle.interrupts import signals_held
from rtstyle.mask.mix import masked
from rtstyle.mask.opening import opened_mask
from rtstyle.render.flow import Prefetch, Timings
from rtstyle.render.follow import VideoFollower
from rtstyle.render.forecast import forecast, learn
from rtstyle.render.journal import Journal
from rtstyle.render.plan import RenderPlan
from rtstyle.render.report import VideoReport
from rtstyle.render.segments import RenderWriter
from rtstyle.render.stylist import names_of, open_stylist
from rtstyle.video.encoder import choose_preset
from rtstyle.video.formats import Encoding
from rtstyle.video.writer import VideoWriter

log = logging.getLogger("rtstyle")

Progress = Callable[[int, int | None, str], None]
"""Called with frames done, frames in all (None: unknown) and the engine's name."""


def render_in_process(plan: RenderPlan, progress: Progress | None = None) -> VideoReport:
    """Stylize every frame of a plan and write the output.

    Args:
        progress: Called on this thread after each frame; it may raise to stop.

    Raises:
        RtstyleError: As ``stylize_video``.
    """
    timings, figures = Timings(), _Figures(plan)
    if line := forecast(plan):
        log.info("%s", line)
    with signals_held() as let_signals_through, ExitStack() as stack:
        engine = stack.enter_context(open_for(plan.style, plan.reader.size, plan.reader.color, plan.engine, live=False))
        stylist = stack.enter_context(
            open_stylist(plan.automation, plan.controls, plan.style, engine, plan.engine, plan.reader.begins)
        )
        mask = stack.enter_context(opened_mask(plan.mask.settings, plan.reader.size, plan.reader.display_matrix))
        let_signals_through()
        tell = _frame_progress(plan, engine, figures, progress)
        checkpoint = plan.journal.checkpoint if plan.journal else None
        follower = VideoFollower(
            plan.reader,
            every=plan.segment_frames,
            steered=plan.steered,
            follow=plan.options.follow,
            checkpoint=checkpoint,
        )
        decoded = timings.timed("canvas", follower.follow(timings.timed("decode", plan.reader)))
        with Prefetch(decoded, name="decode") as frames:
            stylized = masked(frames, stylist.stylize, mask, plan.reader.begins, plan.segment_frames)
            styled = timings.timed("engine", stylized)
            if plan.encoder.preset == "auto" and not plan.journal:
                encoding, styled = _measured(plan.encoding, styled)
                plan = replace(plan, encoding=encoding)
            writer = _open_writer(plan, engine, follower, tell)
            stack.enter_context(writer)  # left behind the thread that reads
            for frame in styled:
                figures.begin()
                started = time.perf_counter()
                writer.write(frame)
                timings.add("encode", time.perf_counter() - started)
                figures.done += 1
                tell(None)
                let_signals_through()
        started = time.perf_counter()
        writer.close()
        timings.add("join", time.perf_counter() - started)
    report = report_of(
        plan,
        Used(engine.backend, engine.precision, engine.device),
        writer,
        frames=(figures.done, figures.resumed_at),
        damaged=plan.reader.damaged + follower.damaged_before,
        warnings=[*plan.reader.notes, *writer.warnings],
        measured=Measured(timings.stages(), figures.first, figures.cpu),
    )
    learn(plan, report)
    return report


class _Figures:
    """Counts frames and takes the time of a render."""

    def __init__(self, plan: RenderPlan) -> None:
        checkpoint = plan.journal.checkpoint if plan.journal else None
        self.resumed_at = self.done = checkpoint.frames if checkpoint else 0
        self.first = self.cpu = 0.0
        self._begun = plan.begun

    def begin(self) -> None:
        """Note the moment of the first frame."""
        if self.done == self.resumed_at:
            self.first, self.cpu = time.perf_counter() - self._begun, time.process_time()


def _frame_progress(
    plan: RenderPlan, engine: Engine, figures: _Figures, progress: Progress | None
) -> Callable[[float | None], None]:
    """Return what reports progress: of frames (None), or of joining segments (0 to 1)."""
    total = plan.reader.frames_expected

    def tell(joined: float | None) -> None:
        if progress:
            words = f"{engine.backend} {engine.precision}" if joined is None else f"joining, {joined:.0%}"
            progress(figures.done, total, words)

    return tell


def _open_writer(
    plan: RenderPlan, engine: Engine, follower: VideoFollower, joining: Callable[[float], None]
) -> VideoWriter | RenderWriter:
    """Open what accepts the frames: in segments where the plan has a work folder, else straight into the output."""
    if plan.folder is None:
        return VideoWriter(
            plan.target,
            plan.reader.format,
            encoder=plan.encoding,
            like=plan.reader,
            plan=plan.streams,
            overwrite=plan.options.overwrite,
        )
    journal = plan.journal
    if journal is None:
        used = {"backend": engine.backend, "precision": engine.precision, "options": plan.encoding.options}
        journal = Journal(plan.folder, plan.settings() | used)
        journal.begin()
    writer = RenderWriter(
        plan.folder, journal, plan.encoding, like=plan.reader, plan=plan.streams, checkpoint=follower.checkpoint_at
    )
    writer.joining = joining
    return writer


def _measured(encoding: Encoding, styled: Iterator[Frame]) -> tuple[Encoding, Iterator[Frame]]:
    """Choose the encoder's preset by what the first second leaves of the CPU; return the frames whole again."""
    sample = list(islice(styled, 1))
    wall, cpu = time.perf_counter(), time.process_time()
    sample += islice(styled, 23)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    idle = cores() * wall - cpu
    # Where nothing is idle, encoding may take a tenth of the time.
    budget = 1000 * max(idle, 0.1 * cpu) / max(1, len(sample) - 1)
    time.sleep(0.1)  # lets the frames that are in flight finish, so that they are not measured
    return choose_preset(encoding, sample, budget), chain(sample, styled)


@dataclass(frozen=True)
class Used:
    """The engine that a render used."""

    backend: str
    precision: str
    device: str


@dataclass(frozen=True)
class Measured:
    """How long a render took."""

    stages: dict[str, float]
    """Mean milliseconds per frame by stage."""
    first_frame: float
    """Seconds to the first stylized frame."""
    cpu: float | None = None
    """``time.process_time`` at the first frame; None: most of the work was done by other processes."""


def report_of(
    plan: RenderPlan,
    engine: Used,
    writer: VideoWriter | RenderWriter,
    *,
    frames: tuple[int, int],
    damaged: int,
    warnings: list[str],
    measured: Measured,
) -> VideoReport:
    """Return the report of a render that is finished.

    Args:
        frames: In all, and those of an earlier run.
        damaged: Frames of the input that are missing or faulty.
        warnings: What is lost on the way in, and what the writer says.
    """
    done, resumed_at = frames
    seconds, fresh = time.perf_counter() - plan.begun, done - resumed_at
    reader = plan.reader
    warnings = [*plan.mask.notes, *warnings]
    if damaged:
        warnings = [*warnings, f"{reader.name} is damaged: about {damaged} of its frames are missing or faulty"]
    cpu = measured.cpu
    used = time.process_time() - (cpu or 0.0)
    return VideoReport(
        input=plan.source,
        output=str(plan.target),
        frames_in=done,
        frames_out=writer.written,
        dropped=damaged,
        resumed_at=resumed_at,
        seconds=round(seconds, 3),
        fps=round(fresh / seconds, 2),
        cpu_ms_per_frame=0.0 if cpu is None else round(1000 * used / max(1, fresh - 1), 2),
        first_frame_s=round(measured.first_frame, 3),
        stages=measured.stages,
        backend=engine.backend,
        precision=engine.precision,
        device=engine.device,
        style=names_of(plan.automation, plan.style),
        size_class=plan.style.size_class,
        size=str(reader.size),
        working_size=str(plan.engine.working_size(reader.size)),
        codec=plan.encoding.codec,
        preset=plan.encoding.options.get("preset"),
        streams_copied=writer.copied,
        streams_dropped=writer.dropped,
        warnings=warnings,
    )

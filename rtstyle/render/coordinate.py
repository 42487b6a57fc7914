"""A video that is rendered by workers: its jobs, its results in order, its journal.

A video that has but one worker is rendered by it in turn: each job begins with the state that the one before it ended
with. Where there are more workers than videos, the coordinator plans: it follows the scene through the video, so that
segments can be rendered in any order.

Only the coordinator writes: it plans the segments, takes those that were rendered in whatever order they come,
compares their frames with the plan, and writes them and the journal in order. So an interrupted render is resumed with
workers or without them, whichever way it was begun, and workers need no locks on the file system that they share.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from rtstyle.backends import EngineSettings, open_for
from rtstyle.errors import SettingError, VideoOpenError
from rtstyle.frame import Color, Size
from rtstyle.interrupts import signals_held
from rtstyle.render.farm import Farm
from rtstyle.render.flow import Timings
from rtstyle.render.follow import VideoFollower
from rtstyle.render.job import SegmentJob, SegmentResult, job_of, state_text, steps_text
from rtstyle.render.journal import Checkpoint, Journal
from rtstyle.render.plan import RenderPlan
from rtstyle.render.planner import PlannedSegment, Planner, canvas_before, planned
from rtstyle.render.pool import News, Pool
from rtstyle.render.report import VideoReport
from rtstyle.render.run import Measured, Progress, Used, report_of
from rtstyle.render.segments import RenderWriter
from rtstyle.render.worker import Renderer

if TYPE_CHECKING:
    from rtstyle.video.work_folder import WorkFolder

_SHORT = 10
"""Segments of the longest video that is one job, where there are several videos."""

_MOST = 4
"""Segments of the longest job of a planned video: its worker enters the input once for all of them."""

_PLANNED = 3
"""Most videos that are planned at a time; each holds its frames ahead in memory."""

_LONGEST = 16
"""Segments of the longest job of a video that one worker renders."""

_TURN = 30.0
"""Seconds that a job of a video that one worker renders should take, so that little is lost between two of them."""


@dataclass(frozen=True)
class Resolved:
    """What this machine's engine is, where its choice was left open, and what it makes of known frames."""

    used: Used
    settings: EngineSettings
    canned: dict[str, str]


class Coordinator:
    """Workers, and what is common to all videos that they render. A context manager.

    Args:
        pool: Its workers end with the coordinator.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool, self.farm = pool, Farm(pool)
        self.renderer = Renderer()
        """Renders here what workers cannot, and what theirs is compared with."""
        self._engines: dict[tuple[str, EngineSettings, Size, Color], tuple[Used, EngineSettings]] = {}

    def resolve(self, plan: RenderPlan) -> Resolved:
        """Make the engine of a plan definite, and see what it gives where workers may differ from this machine.

        Raises:
            RtstyleError: None opens on this machine.
        """
        wanted = replace(plan.engine, device=plan.engine.device.partition(",")[0] if plan.engine.device else None)
        key = plan.style.name, wanted, plan.reader.size, plan.reader.color
        engine = None
        if key not in self._engines:
            engine = open_for(plan.style, plan.reader.size, plan.reader.color, wanted, live=False)
            used = Used(engine.backend, engine.precision, engine.device)
            self._engines[key] = used, replace(wanted, backend=engine.backend, precision=used.precision)  # type: ignore[arg-type]
        used, settings = self._engines[key]
        job = job_of(plan, settings)
        if engine:
            self.renderer.adopt(engine, job, plan.reader.format)
        canned = {} if self.pool.alike else self.renderer.canned(job, plan.reader.format)
        self.renderer.close()
        return Resolved(used, settings, canned)

    def __enter__(self) -> Coordinator:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.close()
        self.renderer.close()


class FarmRender:
    """One video; a ``Work`` of the farm. It holds the plan's input and folder until it is finished or abandoned.

    Args:
        plan: What is rendered; an output in segments.
        whole: Render a short video as one job, which nothing is planned for.

    Raises:
        SettingError: It cannot be rendered in segments, or its encoder's preset is to be measured.
        RtstyleError: No engine opens.
    """

    def __init__(self, plan: RenderPlan, coordinator: Coordinator, *, whole: bool = False) -> None:
        if plan.folder is None:
            raise SettingError(
                f"{plan.source} to {plan.target} is written straight through, not in segments: leave --jobs and "
                "--cluster out, or read a file and write mp4, mkv or mov"
            )
        if plan.encoder.preset == "auto" and not plan.journal:
            raise SettingError("--preset auto measures one machine: name a preset with --jobs and --cluster")
        self.plan = plan
        self.error: BaseException | None = None
        self._farm, self._renderer = coordinator.farm, coordinator.renderer
        checkpoint = plan.journal.checkpoint if plan.journal else None
        self.resumed_at = self.rendered = checkpoint.frames if checkpoint else 0
        """``rendered``: frames of which the result is here, in any order."""
        expected = plan.reader.frames_expected
        self.whole = whole and not checkpoint and bool(expected) and (expected or 0) <= _SHORT * plan.segment_frames
        self._given = False
        self._timings = Timings()
        self._first = 0.0
        self._jobs: list[tuple[SegmentJob, list[PlannedSegment]]] = []
        self._results: dict[int, SegmentResult | None] = {}
        self._accepted = 0
        self._local = 0
        self._damaged: int | None = None
        self._notes: list[str] | None = None
        self._follower: VideoFollower | None = None
        """Of the planner."""
        self._planner: Planner | None = None
        self._stand = checkpoint
        """Where it stands after the last job, or where planning began; None: at the first frame."""
        self._turn = 1
        """Segments of the next job of a video that one worker renders."""
        self._pool = coordinator.pool
        try:
            if not self.whole and self._may_plan(1):  # it begins at once, beside the engine that is opened
                self._start_planning()
            resolved = coordinator.resolve(plan)
            self._used = resolved.used
            self._template = replace(job_of(plan, resolved.settings), canned=resolved.canned)
            self.writer = self._open_writer(plan.folder)
        except BaseException:
            self._close_planner()
            raise
        self._farm.add(self)

    def _open_writer(self, folder: WorkFolder) -> RenderWriter:
        plan, journal = self.plan, self.plan.journal
        if journal is None:
            used = {"backend": self._used.backend, "precision": self._used.precision, "options": plan.encoding.options}
            journal = Journal(folder, plan.settings() | used)
            journal.begin()
        return RenderWriter(
            folder, journal, plan.encoding, like=plan.reader, plan=plan.streams,
            checkpoint=_told_with_each_segment,
        )  # fmt: skip

    def _start_planning(self) -> None:
        """Plan from where it stands on."""
        plan, every, stand = self.plan, self.plan.segment_frames, self._stand
        self._follower = VideoFollower(
            plan.reader, every=every, steered=plan.steered, follow=plan.options.follow, checkpoint=stand
        )
        segments = planned(plan.reader, self._follower, every, stand, self._timings)
        inbox, slots = self._pool.inbox, len(self._pool.slots())
        self._planner = Planner(segments, lambda: inbox.put(News()), ahead=_MOST * max(1, slots))
        self._damaged = self._notes = None

    @property
    def done(self) -> bool:
        """Whether every segment is written."""
        return self._exhausted and self._accepted == len(self._jobs)

    @property
    def planned(self) -> bool:
        """See ``Work``."""
        return self._planner is not None

    @property
    def hungry(self) -> bool:
        """Whether it has a job for a worker that is idle, or will have one before its last job has ended."""
        waits = not self.planned and self._accepted < len(self._jobs)
        return self.error is None and not self._exhausted and not waits

    @property
    def part(self) -> float:
        """How much of it is rendered, 0 to 1; 0 where the length is unknown."""
        expected = self.plan.reader.frames_expected
        return min(1.0, self.rendered / expected) if expected else 0.0

    @property
    def _exhausted(self) -> bool:
        """Whether there will be no further job."""
        if self._planner is None:
            return self._given
        if self._planner.error is not None and self.error is None:
            self.error = self._planner.error
        return self._planner.ended and not self._planner.ready

    def next_job(self, slots: int) -> SegmentJob | None:
        """See ``Work``: as many segments as are ready for each worker, so long as their results can be held."""
        if self._planner is None:
            job = self._whole_job() if self.whole else self._job_in_turn()
            if job:
                self._jobs.append((job, []))
            if self._planner is None:
                return job
        if self._exhausted or len(self._jobs) - self._accepted >= 4 * slots:
            return None
        segments = self._planner.take(max(1, min(_MOST, len(self._planner.ready) // max(1, slots))))
        if not segments:
            return None
        first = segments[0]
        job = replace(
            self._template,
            first=first.first,
            frames=sum(len(segment.pts) for segment in segments),
            after=first.after,
            canvas=canvas_before(first),
            places=[place for segment in segments for place in segment.places],
            steps=steps_text(b"".join(segment.steps for segment in segments)),
        )
        self._jobs.append((job, segments))
        return job

    def _may_plan(self, works: int = 0) -> bool:
        """Whether there are workers enough for several to render this video.

        Args:
            works: Videos that are about to be added.
        """
        planned = sum(work.planned for work in self._farm.works)
        return planned < _PLANNED and not self._farm.crowded(works)

    def _whole_job(self) -> SegmentJob | None:
        if self._given:
            return None
        self._given = True
        return self._template

    def _job_in_turn(self) -> SegmentJob | None:
        """Return the job that begins where the last one ended, if that has; or begin to plan, for more workers."""
        if self._given or self._accepted < len(self._jobs):
            return None
        if self._may_plan():
            self.writer.ended = None
            self._start_planning()
            return None
        stand, frames = self._stand, self._turn * self.plan.segment_frames
        job = replace(self._template, frames=frames, hands_over=True)
        if stand is None:
            return job
        assert stand.canvas, "the last piece of every job has it"
        return replace(job, first=stand.frames, after=[stand.pts, stand.digest], canvas=state_text(stand.canvas))

    def accept(self, number: int, result: SegmentResult | None) -> None:
        """See ``Work``; what is complete up to here is written."""
        self._first = self._first or time.perf_counter() - self.plan.begun
        if result and not self._as_planned(result, self._jobs[number][1]):
            result = None
        self._results[number] = result
        self.rendered += result.frames if result else 0
        while self._accepted in self._results:
            result = self._results.pop(self._accepted)
            job, segments = self._jobs[self._accepted]
            # It is done: nothing is kept of it.
            self._jobs[self._accepted] = replace(job, canvas="", places=None, steps=""), []
            if result is None:
                result = self._render_here(job, segments)
            self._write(result, segments)
            self._accepted += 1

    def _as_planned(self, result: SegmentResult, segments: list[PlannedSegment]) -> bool:
        """Return whether the frames that were rendered are those that were planned, if they were."""
        if not segments:
            return True
        made = [(piece.segment.pts, piece.fingerprint) for piece in result.pieces]
        return made == [(segment.pts, segment.fingerprint) for segment in segments]

    def _render_here(self, job: SegmentJob, segments: list[PlannedSegment]) -> SegmentResult:
        """Render a job on this machine, reading the input from its start.

        Raises:
            VideoOpenError: The input decodes to other frames each time.
        """
        result = self._renderer.render(job, sequential=True)
        if not self._as_planned(result, segments):
            raise VideoOpenError(f"{job.source} decodes to other frames each time it is read: take another copy of it")
        self._local += len(result.pieces)
        self.rendered += result.frames
        return result

    def _write(self, result: SegmentResult, segments: list[PlannedSegment]) -> None:
        if segments:
            for segment, piece in zip(segments, result.pieces, strict=True):
                self.writer.add(piece.segment, piece.data, segment.checkpoint, piece.captions_lost)
            return
        before = self._stand.damaged if self._stand else 0
        self._damaged, self._notes = before + result.damaged, result.notes
        self.writer.ended = Fraction(result.ended)
        for piece in result.pieces:
            frames = self.writer.written + len(piece.segment.pts)
            stand = piece.stand.checkpoint(frames, before) if piece.stand else None
            self.writer.add(piece.segment, piece.data, stand, piece.captions_lost)
            self._stand = stand if stand and stand.canvas else self._stand
        if not self.whole:
            self._given = result.frames < self._turn * self.plan.segment_frames
            self._turn = max(1, min(_LONGEST, round(_TURN * len(result.pieces) / max(result.seconds, 1e-3))))

    def finish(self) -> VideoReport:
        """Join the segments, and close the input and the folder.

        Raises:
            VideoWriteError: It could not be finished; finished segments stay for a later ``resume``.
        """
        started = time.perf_counter()
        self._close_planner()
        self.writer.close()
        self._timings.add("join", time.perf_counter() - started)
        self._farm.remove(self)
        reader = self.plan.reader
        damaged = self._damaged
        if damaged is None:
            damaged = reader.damaged + (self._follower.damaged_before if self._follower else 0)
        warnings = [*(self._notes if self._notes is not None else reader.notes), *self.writer.warnings]
        if self._local:
            warnings.append(
                f"{self._local} segments decoded to other frames where a worker entered {reader.name}: they were "
                "rendered here, in sequence"
            )
        self.plan.close()
        return report_of(
            self.plan,
            self._used,
            self.writer,
            frames=(self.writer.written, self.resumed_at),
            damaged=damaged,
            warnings=warnings,
            measured=Measured(self._timings.milliseconds(), self._first),
        )

    def abandon(self, error: BaseException) -> None:
        """Give up; finished segments stay for ``resume``, and after KeyboardInterrupt are kept playable, too."""
        if self in self._farm.works:
            self._farm.remove(self)
        self._close_planner()
        try:
            self.writer.__exit__(type(error), error, error.__traceback__)
        finally:
            self.plan.close()

    def _close_planner(self) -> None:
        if self._planner:
            self._planner.close()


def _told_with_each_segment(frames: int) -> Checkpoint:
    raise AssertionError("segments of a farm come with their checkpoints")


def render_with(plan: RenderPlan, pool: Pool, progress: Progress | None = None) -> VideoReport:
    """Render a plan by the workers of a pool, which end with it; see ``rtstyle.render.run.render_in_process``."""
    with signals_held() as let_signals_through, ExitStack() as stack:
        stack.enter_context(plan)
        coordinator = stack.enter_context(Coordinator(pool))
        render = FarmRender(plan, coordinator)
        try:
            let_signals_through()
            total = plan.reader.frames_expected
            render.writer.joining = _joining(progress, render, total)
            while not render.done:
                if render.error is not None:
                    raise render.error
                coordinator.farm.step()
                if progress:
                    progress(render.rendered, total, coordinator.farm.words())
                let_signals_through()
            report = render.finish()
        except BaseException as error:
            render.abandon(error)
            raise
        farm = coordinator.farm
        return replace(report, nodes=farm.report(), warnings=[*report.warnings, *farm.warnings])


def _joining(progress: Progress | None, render: FarmRender, total: int | None) -> Callable[[float], object] | None:
    if progress is None:
        return None
    return lambda share: progress(render.rendered, total, f"joining, {share:.0%}")

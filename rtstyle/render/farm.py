"""Gives jobs to workers and takes their results: several videos at a time, several jobs of each.

What fails is given to another worker: the jobs of one that died, at once; a job that a worker refuses because it lacks
the input, or whose engine gives other results, never to that one again. A job that waits behind another, or takes twice
as long as it should, is given to a second worker where one is idle; the first result counts: both have the same bytes.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from statistics import median
from typing import Any, Protocol

from rtstyle.errors import BackendUnavailableError, VideoOpenError
from rtstyle.render.job import SegmentJob, SegmentResult
from rtstyle.render.pool import Answer, Gone, Pool, Slot

_TRIES = 3
"""Workers that may fail at one job."""

_LATE = 2.0
"""Times its expected duration from which on a job is given to a second worker."""


@dataclass
class Ticket:
    """A job on its way."""

    work: Work
    job: SegmentJob
    number: int
    """Of the job within its work."""
    running: dict[Slot, float] = field(default_factory=dict)
    """Workers that have it, and since when."""
    failed: list[str] = field(default_factory=list)
    """Why workers failed at it."""
    ticket: int | None = None
    """Its number among all jobs; None: no worker has it."""


class Work(Protocol):
    """A video that is rendered."""

    whole: bool
    """Whether one job renders all of it, however long that takes."""
    error: BaseException | None
    """Why it cannot be finished; its results are of no use any more."""

    @property
    def planned(self) -> bool:
        """Whether several workers may render it at a time."""

    def next_job(self, slots: int) -> SegmentJob | None:
        """Return the next job, None if none is ready; jobs are numbered in this order.

        Args:
            slots: Workers that there are.
        """

    def accept(self, number: int, result: SegmentResult | None) -> None:
        """Take a result; None: it must be rendered here, in sequence."""


@dataclass
class NodeFigures:
    """What one worker has done."""

    node: str
    segments: int = 0
    frames: int = 0
    seconds: float = 0.0
    """In which it rendered."""
    fps: float = 0.0
    lost: str = ""
    """Why it was left out or died, the last time."""


class Farm:
    """The workers of a pool, what they are doing, and what waits for them."""

    def __init__(self, pool: Pool) -> None:
        self.works: list[Work] = []
        self.waiting = 0
        """Works that will be added."""
        self.warnings: list[str] = []
        """What happened to workers, in words."""
        self._pool = pool
        self._numbers = count()
        self._tickets: dict[int, Ticket] = {}
        self._again: deque[Ticket] = deque()
        self._waiting: dict[Slot, list[int]] = {}
        self._unfit: dict[tuple[Slot, str], str] = {}
        """Why a worker gets no jobs of an input; of no input at all where that is empty."""
        self._paces: deque[float] = deque(maxlen=64)
        """Seconds per frame of the last jobs."""
        self._jobs_of: dict[int, int] = {}
        self.figures: dict[str, NodeFigures] = {}

    # -- what is given out

    def fit(self, source: str = "") -> list[Slot]:
        """Return the workers that may render an input."""
        slots = self._pool.slots()
        if not self._unfit:
            return list(slots)
        return [slot for slot in slots if (slot, "") not in self._unfit and (slot, source) not in self._unfit]

    @property
    def in_flight(self) -> int:
        """Segments that workers have."""
        return sum(ticket.job.segments for ticket in self._tickets.values() if ticket.running)

    @property
    def idle(self) -> int:
        """How many workers have nothing to do."""
        return sum(not self._waiting.get(slot) for slot in self.fit())

    def _fill(self) -> None:
        """Give out jobs: one to every worker, then a second to each, which waits behind the first."""
        fit = self.fit()
        for most in (1, 2):
            for slot in fit:
                if len(self._waiting.setdefault(slot, [])) >= most:
                    continue
                ticket = self._next(slot, len(fit), short=most > 1)
                if ticket is not None:
                    self._give(ticket, slot)
                elif not self._again:
                    break  # there is none for the others either
        idle = [slot for slot in fit if not self._waiting.get(slot)]
        late = self._late() if idle else []
        for slot in idle:
            mine = (t for t in late if slot not in t.running and (slot, t.job.source) not in self._unfit)
            if ticket := next(mine, None):
                late.remove(ticket)
                self._give(ticket, slot)

    def _next(self, slot: Slot, slots: int, *, short: bool) -> Ticket | None:
        """Return the next job for a worker.

        Args:
            slots: Workers that there are.
            short: Only of known length: what waits behind another job must not wait for long.
        """
        for _ in range(len(self._again)):
            ticket = self._again.popleft()
            if (slot, ticket.job.source) not in self._unfit and not (short and ticket.job.frames is None):
                return ticket
            self._again.append(ticket)
        for work in self.works:
            if work.error is not None or (short and work.whole):
                continue
            if (job := work.next_job(slots)) is not None:
                number = self._jobs_of.get(id(work), 0)
                self._jobs_of[id(work)] = number + 1
                return Ticket(work, job, number)
        return None

    def _late(self) -> list[Ticket]:
        """Return the jobs that one worker has and that an idle one should do, too.

        Those that have not begun come first, then those that take too long, the oldest first.
        """
        begun = {waiting[0] for waiting in self._waiting.values() if waiting}
        pace, now = (median(self._paces) if self._paces else float("inf")), time.monotonic()
        waiting, late = [], []
        for number, ticket in self._tickets.items():
            if len(ticket.running) != 1 or not ticket.job.frames:
                continue
            (since,) = ticket.running.values()
            if number not in begun:
                waiting.append((since, ticket))
            elif now - since > max(1.0, _LATE * pace * ticket.job.frames):
                late.append((since, ticket))
        return [ticket for each in (waiting, late) for _, ticket in sorted(each, key=lambda pair: pair[0])]

    def _give(self, ticket: Ticket, slot: Slot) -> None:
        if ticket.ticket is None:
            ticket.ticket = next(self._numbers)
            self._tickets[ticket.ticket] = ticket
        ticket.running[slot] = time.monotonic()
        self._figures_of(slot)
        self._waiting.setdefault(slot, []).append(ticket.ticket)
        device = {"device": slot.device} if slot.device else {}
        self._pool.submit(slot, ticket.ticket, replace(ticket.job, engine={**ticket.job.engine, **device}))

    # -- what comes back

    def step(self, seconds: float = 0.2) -> None:
        """Give out what can be given, and wait for news, so long at most.

        Raises:
            BackendUnavailableError: No worker is left.
        """
        self._fill()
        self._check_workers()
        try:
            message = self._pool.inbox.get(timeout=seconds)
        except queue.Empty:
            return
        while True:
            if isinstance(message, Answer):
                self._answered(message)
            elif isinstance(message, Gone):
                self._lost(message)
            try:
                message = self._pool.inbox.get_nowait()
            except queue.Empty:
                break

    def _check_workers(self) -> None:
        if not self.fit() and not (self._pool.coming and not self._unfit):
            reasons = [f"{slot.name}: {reason}" for (slot, source), reason in self._unfit.items() if not source]
            reasons += [f"{each.node}: {each.lost}" for each in self.figures.values() if each.lost]
            raise BackendUnavailableError(f"no worker is left; {'; '.join(dict.fromkeys(reasons)) or 'none came'}")
        for ticket in self._again:
            source = ticket.job.source
            if self.fit() and not self.fit(source):
                reasons = [f"{slot.name}: {reason}" for (slot, of), reason in self._unfit.items() if of == source]
                ticket.work.error = VideoOpenError(f"no worker can read {source}; {'; '.join(reasons)}")

    def _figures_of(self, slot: Slot) -> NodeFigures:
        return self.figures.setdefault(slot.name, NodeFigures(slot.name))

    def _answered(self, answer: Answer) -> None:
        slot, ticket = answer.slot, self._tickets.get(answer.ticket)
        waiting = self._waiting.get(slot, [])
        if answer.ticket in waiting:
            waiting.remove(answer.ticket)
        if waiting and (following := self._tickets.get(waiting[0])):
            following.running[slot] = time.monotonic()  # it begins only now
        fault = answer.told.get("fault")
        if ticket is None:  # the second result of a job
            return
        ticket.running.pop(slot, None)
        if fault is None:
            result = SegmentResult.from_parts(answer.told, answer.data)
            self._note(slot, result)
            self._settle(answer.ticket, result)
        elif fault == "diverged":
            self._settle(answer.ticket, None)
        else:
            self._failed(answer.ticket, slot, fault, str(answer.told.get("reason")))

    def _note(self, slot: Slot, result: SegmentResult) -> None:
        figures = self._figures_of(slot)
        figures.segments += len(result.pieces)
        figures.frames += result.frames
        figures.seconds = round(figures.seconds + result.seconds, 3)
        figures.fps = round(figures.frames / figures.seconds, 2) if figures.seconds else 0.0
        if result.frames:
            self._paces.append(result.seconds / result.frames)

    def _settle(self, number: int, result: SegmentResult | None) -> None:
        """End a job, and hand its result to its work."""
        ticket = self._tickets.pop(number)
        if ticket.work.error is None:
            try:
                ticket.work.accept(ticket.number, result)
            except Exception as error:
                ticket.work.error = error

    def _failed(self, number: int, slot: Slot, fault: str, reason: str) -> None:
        ticket = self._tickets[number]
        if fault in ("unfit", "unseen"):
            source = ticket.job.source if fault == "unseen" else ""
            if (slot, source) not in self._unfit:
                self._unfit[slot, source] = reason
                self._figures_of(slot).lost = reason
                self.warnings.append(f"{slot.name} is left out{f' for {source}' if source else ''}: {reason}")
        else:
            ticket.failed.append(f"{slot.name}: {reason}")
        self._retry(number)

    def _retry(self, number: int) -> None:
        """Give a job to another worker, unless one has it already; or give up."""
        ticket = self._tickets[number]
        if ticket.running:
            return
        del self._tickets[number]
        ticket.ticket = None
        if len(ticket.failed) >= _TRIES:
            where = f"frames from {ticket.job.first} on of {ticket.job.source}"
            ticket.work.error = VideoOpenError(f"{_TRIES} workers failed at {where}: {'; '.join(ticket.failed)}")
        else:
            self._again.append(ticket)

    def _lost(self, gone: Gone) -> None:
        self._figures_of(gone.slot).lost = gone.reason
        self.warnings.append(f"{gone.slot.name} was lost: {gone.reason}; its segments are rendered elsewhere")
        for place, number in enumerate(self._waiting.pop(gone.slot, [])):
            if ticket := self._tickets.get(number):
                ticket.running.pop(gone.slot, None)
                if place == 0:  # those behind it had not begun
                    ticket.failed.append(f"{gone.slot.name}: {gone.reason}")
                self._retry(number)

    # -- works

    def crowded(self, works: int = 0) -> bool:
        """Whether there is a work for each worker, also for those that are being started.

        Args:
            works: That are about to be added.
        """
        return self._pool.expected <= len(self.works) + self.waiting + works

    def add(self, work: Work) -> None:
        """Take a work's jobs, after those of the works before it."""
        self.works.append(work)

    def remove(self, work: Work) -> None:
        """Forget a work that is finished or given up; what still comes of its jobs is dropped."""
        self.works.remove(work)
        self._jobs_of.pop(id(work), None)
        self._again = deque(ticket for ticket in self._again if ticket.work is not work)
        self._tickets = {number: ticket for number, ticket in self._tickets.items() if ticket.work is not work}

    def words(self) -> str:
        """Describe what the workers do, for a line of progress."""
        fit = self.fit()
        paces = ", ".join(f"{each.node} {each.fps:.0f} FPS" for each in list(self.figures.values())[:4] if each.frames)
        more = len(fit) - 4
        left = f" and {more} more" if more > 0 else ""
        return f"{len(fit)} workers, {self.in_flight} segments in flight{f': {paces}{left}' if paces else ''}"

    def report(self) -> list[dict[str, Any]]:
        """Return the figures of each worker."""
        return [asdict(each) for each in self.figures.values()]

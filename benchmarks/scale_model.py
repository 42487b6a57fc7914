"""A hundred nodes in simulated time: rtstyle's own scheduler gives out jobs, and the nodes only take their time.

What is real: ``rtstyle.render.farm.Farm``, which decides who gets what, what is done twice and what is done again. What
is simulated: the clock, the nodes, the network (20 ms for each job and each result), planning and joining.

Failures: 466 interruptions of a job on 16,384 GPUs in 54 days (Dubey et al. 2024, "The Llama 3 Herd of Models"), with 8
GPUs a node 4.2 failures per 1,000 node-days; and 100 times as many, as where nodes are preemptible. A node that failed
is back after ten minutes. Stragglers: 5 % of tasks (Garraghan, Ouyang, Yang, McKee and Xu 2019, "Straggler root-cause
and impact analysis for massive-scale virtualized cloud datacenters"); that each takes 2 to 10 times as long, evenly in
the logarithm, is an assumption.
"""

from __future__ import annotations

import heapq
import itertools
import math
import queue
import random
from collections import deque
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

from rtstyle.render import farm
from rtstyle.render.farm import Farm
from rtstyle.render.job import SegmentJob
from rtstyle.render.pool import Answer, Gone, News, Slot

NETWORK = 0.02
RATE = 466 / (54 * 16384 / 8) / 86400
"""Failures of one node per second."""
AWAY = 600.0
STRAGGLERS, SLOWEST = 0.05, 10.0


@dataclass
class Conditions:
    """What nodes are like."""

    nodes: int = 100
    seconds_per_frame: float = 0.0158
    """Of a node of two cores, at 720p."""
    failures: float = RATE
    stragglers: float = STRAGGLERS
    twice: bool = True
    """Whether late jobs are given out twice."""


class Clock:
    """Simulated time: events in the order of their moments."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Any]] = []
        self._numbers = itertools.count()

    def at(self, moment: float, action: Any) -> None:
        heapq.heappush(self._events, (moment, next(self._numbers), action))

    def run_until(self, moment: float) -> bool:
        """Run the next event, if it is not later than a moment; False: there is none, and the moment is now."""
        if not self._events or self._events[0][0] > moment:
            self.now = moment
            return False
        self.now, _, action = heapq.heappop(self._events)
        action()
        return True


class Inbox:
    """The queue in which workers answer: waiting for it lets time pass."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._items = clock, deque()

    def put(self, item: Any) -> None:
        self._items.append(item)

    def get(self, timeout: float) -> Any:
        until = self._clock.now + timeout
        while not self._items:
            if not self._clock.run_until(until):
                raise queue.Empty
        return self._items.popleft()

    def get_nowait(self) -> Any:
        if not self._items:
            raise queue.Empty
        return self._items.popleft()


@dataclass
class Node:
    """A node that takes its time."""

    slot: Slot
    alive: bool = True
    life: int = 0
    free: float = 0.0
    busy: float = 0.0


class SimulatedPool:
    """A pool of simulated nodes."""

    coming = True

    def __init__(self, clock: Clock, conditions: Conditions, seed: int) -> None:
        self.inbox: Any = Inbox(clock)
        self._clock, self._conditions, self._random = clock, conditions, random.Random(seed)
        self.nodes = {Slot(f"node {n}"): Node(Slot(f"node {n}")) for n in range(conditions.nodes)}
        self.failures = self.late = 0
        for node in self.nodes.values():
            self._await_failure(node)

    def slots(self) -> list[Slot]:
        return [slot for slot, node in self.nodes.items() if node.alive]

    def _await_failure(self, node: Node) -> None:
        if self._conditions.failures:
            self._clock.at(
                self._clock.now + self._random.expovariate(self._conditions.failures), lambda: self._fail(node)
            )

    def _fail(self, node: Node) -> None:
        self.failures += 1
        node.alive, node.life = False, node.life + 1
        self.inbox.put(Gone(node.slot, "it failed"))

        def back() -> None:
            node.alive, node.free = True, self._clock.now
            self.inbox.put(News())
            self._await_failure(node)

        self._clock.at(self._clock.now + AWAY, back)

    def submit(self, slot: Slot, ticket: int, job: SegmentJob) -> None:
        node, chance = self.nodes[slot], self._random
        frames = job.frames or job.reading["frames"]
        seconds = frames * self._conditions.seconds_per_frame * chance.uniform(0.95, 1.05)
        if chance.random() < self._conditions.stragglers:
            self.late += 1
            seconds *= math.exp(chance.uniform(math.log(2), math.log(SLOWEST)))
        begins = max(node.free, self._clock.now + NETWORK)
        node.free = begins + seconds
        node.busy += seconds
        life = node.life

        def done() -> None:
            if node.alive and node.life == life:
                self.inbox.put(Answer(slot, ticket, {"frames": frames, "seconds": seconds}, []))

        self._clock.at(node.free + NETWORK, done)

    def close(self) -> None:
        """Nothing runs."""


@dataclass
class SimulatedFilm:
    """A video whose segments are planned at a rate."""

    clock: Clock
    frames: int
    whole: bool = False
    planned: bool = True
    every: int = 90
    plan_fps: float = math.inf
    error: BaseException | None = None
    given: int = 0
    accepted: int = 0
    jobs: list[int] = field(default_factory=list)
    results: set[int] = field(default_factory=set)

    def next_job(self, slots: int) -> SegmentJob | None:
        if self.given >= self.frames or len(self.jobs) - self.accepted >= 4 * slots:
            return None
        if self.whole:
            count = self.frames
        else:
            ready = int(min(self.frames, self.clock.now * self.plan_fps) if self.plan_fps < math.inf else self.frames)
            segments = min(max(1, (ready - self.given) // self.every // slots), 4)
            count = min(self.frames - self.given, segments * self.every)
            if ready - self.given < count:
                return None
        job = _job(self.given, count, self.every)
        if self.whole:  # as ``coordinate.FarmRender`` does, so that it is not given out twice
            job = replace(job, frames=None, reading={"frames": count})
        self.given += count
        self.jobs.append(count)
        return job

    def accept(self, number: int, result: Any) -> None:
        self.results.add(number)
        while self.accepted in self.results:
            self.accepted += 1

    @property
    def done(self) -> bool:
        return self.given >= self.frames and self.accepted == len(self.jobs)


def _job(first: int, frames: int, every: int) -> SegmentJob:
    return SegmentJob(
        source="film", identity={}, reading={}, style={}, strength=[1, 1], engine={}, follow="camera", encoding={},
        threads=8, versions={}, canned={}, every=every, first=first, frames=frames,
    )  # fmt: skip


class _Result(SimpleNamespace):
    pieces: tuple[()] = ()


def run(films: list[SimulatedFilm], clock: Clock, conditions: Conditions, seed: int) -> dict[str, Any]:
    """Let the farm give out videos, as ``many`` does, until all are done."""
    pool = SimulatedPool(clock, conditions, seed)
    real = farm.time, farm.SegmentResult, Farm._late
    farm.time = SimpleNamespace(monotonic=lambda: clock.now)  # type: ignore[assignment]
    farm.SegmentResult = SimpleNamespace(from_parts=lambda told, data: _Result(**told))  # type: ignore[assignment,misc]
    if not conditions.twice:
        Farm._late = lambda self: []  # type: ignore[method-assign]
    try:
        made = Farm(pool)
        waiting, active = list(reversed(films)), []
        while waiting or active:
            while waiting and made.idle > sum(film.given < film.frames for film in active):
                active.append(waiting.pop())
                made.add(active[-1])
            made.step()
            for film in [each for each in active if each.done]:
                active.remove(film)
                made.remove(film)
    finally:
        farm.time, farm.SegmentResult, Farm._late = real  # type: ignore[misc,method-assign]
    frames = sum(film.frames for film in films)
    work = frames * conditions.seconds_per_frame
    return {
        "hours": round(clock.now / 3600, 4),
        "fps": round(frames / clock.now, 1),
        "efficiency": round(work / conditions.nodes / clock.now, 3),
        "failures": pool.failures,
        "stragglers": pool.late,
        "work done twice or lost": round(sum(node.busy for node in pool.nodes.values()) / work - 1, 3),
    }


def folder(conditions: Conditions, seed: int, files: int = 10_000) -> dict[str, Any]:
    """Stylize 10,000 files of 10 to 120 seconds at 30 FPS; those of up to ten segments are one job."""
    chance, clock = random.Random(seed), Clock()
    films = [
        SimulatedFilm(clock, frames, whole=frames <= 900)
        for frames in (chance.randrange(300, 3600) for _ in range(files))
    ]
    return run(films, clock, conditions, seed)


def film(conditions: Conditions, seed: int, plan_fps: float) -> dict[str, Any]:
    """Stylize one video of two hours at 24 FPS."""
    clock = Clock()
    return run([SimulatedFilm(clock, 2 * 3600 * 24, plan_fps=plan_fps)], clock, conditions, seed)


def simulate(seed: int = 1) -> list[dict[str, Any]]:
    """Run the folder and the video under several conditions."""
    rows = []
    for name, conditions in (
        ("nothing fails", Conditions(failures=0, stragglers=0)),
        ("published rates", Conditions()),
        ("published rates, nothing given out twice", Conditions(twice=False)),
        ("100 times the failures", Conditions(failures=100 * RATE)),
    ):
        rows.append({"work": "folder", "conditions": name, "nodes": conditions.nodes} | folder(conditions, seed))
        print(rows[-1], flush=True)
        for nodes in (8, 100):
            conditions.nodes = nodes
            rows.append({"work": "film", "conditions": name, "nodes": nodes} | film(conditions, seed, 1000 / 1.9))
            print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    simulate()

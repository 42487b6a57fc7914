"""Workers that render jobs: processes on this machine. Those of a cluster have the same interface, see ``cluster``."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from rtstyle.cores import core_numbers, cores
from rtstyle.render.job import SegmentJob
from rtstyle.render.worker import read_answer

COMMAND = (sys.executable, "-m", "rtstyle.render.worker")

LIVES = 3
"""Times that a worker is started before it is given up."""


@dataclass(frozen=True)
class Slot:
    """A worker, which renders one job at a time."""

    name: str
    """As it is shown: its node, and its number where there are several."""
    device: str | None = None
    """Device of its engine; None: the job's."""

    def __hash__(self) -> int:
        return hash(self.name)  # strings remember theirs, and a large farm asks for it all the time


@dataclass(frozen=True)
class Answer:
    """A job has ended."""

    slot: Slot
    ticket: int
    told: dict[str, Any]
    """As ``worker.attempt`` returns it."""
    data: list[bytes]


@dataclass(frozen=True)
class Gone:
    """A worker has died with all of its jobs."""

    slot: Slot
    reason: str


@dataclass(frozen=True)
class News:
    """Something changed: a segment is planned, a worker has come."""


Inbox = queue.Queue[Answer | Gone | News]


class Pool(Protocol):
    """Workers, and the queue in which they answer."""

    inbox: Inbox
    alike: bool
    """Whether all workers are processes of this program on this machine and one kind of device: their results are its
    own, and need no comparison with known ones."""

    @property
    def coming(self) -> bool:
        """Whether workers may still come, where there are none."""

    @property
    def expected(self) -> int:
        """Workers that live now or are being started."""

    def slots(self) -> Sequence[Slot]:
        """Return the workers that live now."""

    def submit(self, slot: Slot, ticket: int, job: SegmentJob) -> None:
        """Give a worker a job, after those that it has; an Answer or Gone follows."""

    def close(self) -> None:
        """End all workers, also in the middle of a job."""


class LocalPool:
    """Processes on this machine, each on its share of the cores.

    Args:
        count: How many.
        devices: Of their engines, in turn; empty: the jobs' own.
        command: What a process runs; by default ``COMMAND``.
    """

    coming = False

    def __init__(self, count: int, *, devices: Sequence[str] = (), command: Sequence[str] = ()) -> None:
        self.inbox: Inbox = queue.Queue()
        self._command = list(command or COMMAND)
        self.alike = not command and len(set(devices)) < 2
        self._lock = threading.Lock()
        self._closed = False
        self._lives: dict[Slot, int] = {}
        self._processes: dict[Slot, _Process] = {}
        shares = _shares(count)
        for number in range(count):
            device = devices[number % len(devices)] if devices else None
            slot = Slot(device or f"worker {number + 1}", device)
            if slot in self._processes:
                slot = Slot(f"{device} {number // len(devices) + 1}", device)
            self._lives[slot] = LIVES
            self._start(slot, shares[number])

    def _start(self, slot: Slot, share: list[int]) -> None:
        self._lives[slot] -= 1
        self._processes[slot] = _Process(self, slot, share)

    def process(self, slot: Slot) -> subprocess.Popen[bytes]:
        """Return the process behind a slot."""
        return self._processes[slot].child

    @property
    def expected(self) -> int:
        """Workers that live now or are being started."""
        return len(self.slots())

    def slots(self) -> list[Slot]:
        with self._lock:
            return list(self._processes)

    def submit(self, slot: Slot, ticket: int, job: SegmentJob) -> None:
        with self._lock:
            process = self._processes.get(slot)
        if process:  # else its end is in the inbox
            process.submit(ticket, job)

    def command(self) -> list[str]:
        """Return what a process runs."""
        return self._command

    def ended(self, process: _Process, reason: str) -> None:
        """Note that a process ended, and start another in its place."""
        with self._lock:
            if self._closed:
                return
            del self._processes[process.slot]
            self.inbox.put(Gone(process.slot, reason))
            if self._lives[process.slot]:
                self._start(process.slot, process.share)
        self.inbox.put(News())

    def close(self) -> None:
        with self._lock:
            self._closed = True
            processes = list(self._processes.values())
        for process in processes:
            process.close()


class _Process:
    """One worker process, and the thread that reads its answers."""

    def __init__(self, pool: LocalPool, slot: Slot, share: list[int]) -> None:
        self.slot, self.share, self._pool = slot, share, pool
        self._tickets: deque[int] = deque()
        self.child = subprocess.Popen(
            pool.command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the coordinator, which ends its workers
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        self._write(json.dumps({"cores": share}))
        threading.Thread(target=self._read, name=f"rtstyle-{slot.name}", daemon=True).start()

    def submit(self, ticket: int, job: SegmentJob) -> None:
        self._tickets.append(ticket)
        self._write(job.to_json())

    def _write(self, line: str) -> None:
        assert self.child.stdin
        with suppress(OSError, ValueError):  # it has died: the thread that reads reports it
            self.child.stdin.write(line.encode() + b"\n")
            self.child.stdin.flush()

    def _read(self) -> None:
        assert self.child.stdout
        with suppress(OSError, ValueError):
            while answer := read_answer(self.child.stdout):
                self._pool.inbox.put(Answer(self.slot, self._tickets.popleft(), *answer))
        self.child.kill()
        code = self.child.wait()
        self._pool.ended(self, f"it was ended by signal {-code}" if code < 0 else f"it exited with {code}")

    def close(self) -> None:
        self.child.kill()
        self.child.wait()
        if self.child.stdin:
            with suppress(OSError, ValueError):
                self.child.stdin.close()


def _shares(count: int) -> list[list[int]]:
    """Divide the cores of this process among workers, neighbors together; none where there are too few of them."""
    able = core_numbers()
    if cores() < len(able) or count > len(able):  # a quota is shared as it comes
        return [[] for _ in range(count)]
    return [able[number * len(able) // count : (number + 1) * len(able) // count] for number in range(count)]

"""Workers on the nodes of a Ray cluster: an actor for each, which keeps its engine and input open between jobs.

Ray places and watches the processes, and carries jobs and results; which worker gets which job, and what becomes of one
that fails, the farm decides as it does for processes on this machine. Usage statistics of Ray are off.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtstyle.cores import RESTING_THREADS, core_numbers
from rtstyle.errors import BackendUnavailableError, reason_of
from rtstyle.render.job import SegmentJob
from rtstyle.render.pool import LIVES, Answer, Gone, Inbox, News, Slot

log = logging.getLogger("rtstyle")

_PATIENCE = 60.0
"""Seconds for which a cluster may have no worker: nodes start, or others use their cores."""

_ANSWER = 10.0
"""Seconds in which a cluster's head must answer."""

_LOOK = 1.0
"""Seconds between two looks at the list of nodes."""


class RayWorker:
    """What runs on a node: renders jobs as ``worker.attempt`` does.

    Args:
        cores: How many it may use.
        number: Of the worker on its machine.
    """

    def __init__(self, cores: int, number: int) -> None:
        from rtstyle.render.worker import Renderer, use_cores

        able = core_numbers()
        if 0 < cores < len(able):
            use_cores([able[(number * cores + each) % len(able)] for each in range(cores)])
        self._renderer = Renderer()

    def ready(self) -> bool:
        """Return True, which shows that the worker runs."""
        return True

    def attempt(self, text: str) -> tuple[dict[str, Any], list[bytes]]:
        """Render the job that a text holds."""
        from rtstyle.render.worker import attempt

        return attempt(SegmentJob.from_json(text), self._renderer)


@dataclass
class _Actor:
    """A worker on a node."""

    slot: Slot
    node: str
    """Ray's number of the node."""
    handle: Any
    ready: bool = False


class RayPool:
    """Workers on all nodes of a cluster, also on those that join later.

    Args:
        address: ``auto``, or HOST:PORT of the cluster's head.
        slots: Workers on each node, which share its cores and GPUs.
        worker: What runs on the nodes.

    Raises:
        BackendUnavailableError: Ray is not installed, there is no such cluster, or none of its nodes has a core free.
    """

    def __init__(self, address: str, *, slots: int = 1, worker: type[RayWorker] = RayWorker) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise BackendUnavailableError("--cluster needs Ray: pip install 'rtstyle[cluster]'") from error
        self.inbox: Inbox = queue.Queue()
        self.alike = False
        self._ray: Any = ray  # it has no types for what is used here
        self._slots, self._worker = slots, worker
        self._actors: dict[Slot, _Actor] = {}
        self._lives: dict[Slot, int] = {}
        self._hosts: dict[str, tuple[str, int]] = {}
        """Of each node: its machine, and how many nodes of that machine came before it."""
        self._ended: queue.Queue[tuple[_Actor, int | None, Any] | None] = queue.Queue()
        """Calls of actors that ended: the ticket, None of ``ready``; and the future. Ray calls back in a thread of its
        own, which must not wait for anything; so all is done in the watcher's. None wakes it."""
        self._stop = threading.Event()
        self._last_seen = time.monotonic()
        self._own = not ray.is_initialized()
        if self._own:
            _check_answers(address)
            try:
                _keep_stdout_clean()
                with _signal_handlers_kept():
                    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            except Exception as error:  # ConnectionError, ValueError, RuntimeError by the kind of address
                hint = "if it has token authentication, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
                raise BackendUnavailableError(f"{_no_cluster(address, reason_of(error)[:200])}; {hint}") from error
        self._watcher = threading.Thread(target=self._watch, name="rtstyle-cluster", daemon=True)
        self._watcher.start()
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def _wait(self) -> None:
        """Wait for the first worker."""
        until = time.monotonic() + _PATIENCE
        while not self.slots():
            if time.monotonic() > until:
                raise BackendUnavailableError(
                    f"no node of the cluster started a worker in {_PATIENCE:.0f} s: ray status shows whether it has "
                    "free CPUs, and each node needs this release of rtstyle"
                )
            time.sleep(0.05)

    def _watch(self) -> None:
        next_look = time.monotonic()
        while not self._stop.is_set():
            with suppress(queue.Empty):
                if call := self._ended.get(timeout=max(0.01, min(_LOOK, next_look - time.monotonic()))):
                    self._take(*call)
            if time.monotonic() >= next_look:
                with suppress(Exception):  # the head may be away for a moment; workers that are lost say so themselves
                    self._look()
                next_look = time.monotonic() + _LOOK

    def _look(self) -> None:
        """Start workers on nodes that have none, and drop those of nodes that are gone."""
        nodes = {each["NodeID"]: each for each in self._ray.nodes() if each["Alive"]}
        for actor in [each for each in self._actors.values() if each.node not in nodes]:
            self._lost(actor, "its node left the cluster")
        for number, node in nodes.items():
            cpus = float(node["Resources"].get("CPU", 0))
            for place in range(self._slots if cpus else 0):
                slot = self._slot_of(node, place)
                if slot not in self._actors and self._lives.setdefault(slot, LIVES):
                    self._start(slot, number, self._hosts[number][1] * self._slots + place, node["Resources"])

    def _slot_of(self, node: dict[str, Any], place: int) -> Slot:
        host, number = str(node["NodeManagerHostname"]), str(node["NodeID"])
        if number not in self._hosts:
            self._hosts[number] = host, sum(other == host for other, _ in self._hosts.values())
        before = self._hosts[number][1]
        name = f"{host} {before + 1}" if before else host
        return Slot(name + (f" slot {place + 1}" if self._slots > 1 else ""))

    def _start(self, slot: Slot, node: str, place: int, resources: dict[str, float]) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._lives[slot] -= 1
        cpus = float(resources["CPU"]) / self._slots
        handle: Any = (
            self._ray.remote(self._worker)
            .options(
                num_cpus=cpus if cpus < 1 else int(cpus),
                num_gpus=float(resources.get("GPU", 0)) / self._slots,
                max_restarts=0,
                runtime_env={"env_vars": RESTING_THREADS},
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
            )
            .remote(int(cpus), place)
        )
        actor = self._actors[slot] = _Actor(slot, node, handle)
        self._call(actor, None, handle.ready.remote())

    def _call(self, actor: _Actor, ticket: int | None, reference: Any) -> None:
        """Notify the watcher when a call ends."""
        reference.future().add_done_callback(lambda future: self._ended.put((actor, ticket, future)))

    def _take(self, actor: _Actor, ticket: int | None, future: Any) -> None:
        """Act on a call that ended."""
        error = future.exception()
        if ticket is None and error is None:
            actor.ready = True
            self._last_seen = time.monotonic()
            self.inbox.put(News())
        elif ticket is None:
            self._lost(actor, f"it did not start: {reason_of(error)[:300]}")
        elif error is None:
            self.inbox.put(Answer(actor.slot, ticket, *future.result()))
        elif isinstance(error, self._ray.exceptions.RayActorError):
            self._lost(actor, "its process or its node ended")
        else:
            told = {"fault": "error", "reason": f"{type(error).__name__}: {reason_of(error)[:300]}"}
            self.inbox.put(Answer(actor.slot, ticket, told, []))

    def slots(self) -> list[Slot]:
        return [slot for slot, actor in list(self._actors.items()) if actor.ready]

    @property
    def expected(self) -> int:
        """Workers that live now or are being started."""
        return len(self._actors)

    @property
    def coming(self) -> bool:
        """Whether workers may still come, where there are none."""
        return time.monotonic() - self._last_seen < _PATIENCE

    def submit(self, slot: Slot, ticket: int, job: SegmentJob) -> None:
        if actor := self._actors.get(slot):  # else its end is in the inbox
            self._call(actor, ticket, actor.handle.attempt.remote(job.to_json()))

    def _lost(self, actor: _Actor, reason: str) -> None:
        if self._actors.get(actor.slot) is not actor:
            return
        del self._actors[actor.slot]
        self._last_seen = time.monotonic()
        self.inbox.put(Gone(actor.slot, reason))
        with suppress(Exception):
            self._ray.kill(actor.handle)

    def close(self) -> None:
        self._stop.set()
        self._ended.put(None)
        self._watcher.join()
        for actor in self._actors.values():
            with suppress(Exception):
                self._ray.kill(actor.handle)
        self._actors.clear()
        if self._own:
            self._ray.shutdown()


def _keep_stdout_clean() -> None:
    """Send what Ray prints of nodes that die to the log: it would go to stdout, between the lines of ``--json``.

    ``log_to_driver=False`` does not cover it, and Ray has no other setting for it.
    """
    from ray._private import worker

    def tell(data: dict[str, Any], ignore_prefix: bool = False) -> None:
        for line in data.get("lines", ()):
            log.debug("ray: %s", str(line).partition("\n")[0])

    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = tell


def _check_answers(address: str) -> None:
    """Connect to a cluster's head once: Ray itself tries for minutes.

    Raises:
        BackendUnavailableError: There is no such address, or no answer.
    """
    found = address
    if address == "auto":  # where Ray notes the cluster that was started on this machine
        note = Path(os.environ.get("RAY_TMPDIR") or "/tmp") / "ray" / "ray_current_cluster"
        with suppress(OSError):
            found = os.environ.get("RAY_ADDRESS") or note.read_text().strip()
    host, _, port = found.rpartition(":")
    if found == "auto" or "/" in host:
        return  # Ray looks for one, or refuses the kind of address
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER).close()
    except (OSError, ValueError) as error:
        raise BackendUnavailableError(_no_cluster(address, reason_of(error))) from error


def _no_cluster(address: str, reason: str) -> str:
    return f"no Ray cluster answers at {address}: {reason}; start one with ray start --head"


@contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    """Put back the handlers of signals that Ray replaces: what is finished is kept after SIGTERM, too."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)

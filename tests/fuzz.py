"""Spoil videos at random, seeded, and see that ``rtstyle video`` neither crashes, hangs nor tells a traceback.

    python tests/fuzz.py --count 1000            # seeds 0 to 999
    python tests/fuzz.py --first 137 --count 1   # one of them again
    python tests/fuzz.py --kind styles           # other inputs than videos, see fuzz_kinds.py; --kind all: each of them

Every input is made from small clips (and from the small files of RTSTYLE_DATA, where that is) by flipped bits,
overwritten runs, cuts, and headers of one file before the body of another. It goes through the real command
in a process that is kept for many inputs; when that dies, the seed is named and a new process takes over.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import importlib
import io
import json
import os
import random
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from peak import peak_kilobytes

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("RTSTYLE_DATA", ROOT.parent / "shared" / "data" / "video"))

COMMAND = "rtstyle.cli:main"
"""What is tried: module and function, called with the words of a command line."""

MOST_MEGABYTES = 600
"""Memory of a process that reads inputs of ``fuzz_kinds``, at its most."""

LARGEST = 120_000
"""Bytes of the largest file of RTSTYLE_DATA that is spoilt; larger ones only take longer."""


# -- inputs ----------------------------------------------------------------------------------------


def make_corpus(folder: Path) -> list[Path]:
    """Write small clips of several containers and codecs into a folder; return them and the small real files."""
    sys.path.insert(0, str(ROOT / "tests"))
    from clips import Sound, make_clip

    tone, quick = [Sound(seconds=0.5)], {"preset": "ultrafast"}
    deep = [
        tuple(np.full(shape, 400 + 20 * i, np.uint16) for shape in ((48, 64), (48, 32), (48, 32))) for i in range(6)
    ]
    grey = [(np.full((48, 64), 40 * i, np.uint8),) for i in range(6)]
    made = [
        make_clip(folder / "a.mp4", times=[0, 1, 2, 4, 5, 9, 10, 12], sounds=tone, rotation=90),
        make_clip(folder / "b.mp4", times=range(12), sounds=tone, muxer={"movflags": "+faststart"}),
        make_clip(folder / "c.mp4", times=range(12), muxer={"movflags": "+frag_keyframe+empty_moov"}),
        make_clip(folder / "d.mkv", times=range(12), sounds=[*tone, Sound("flac", seconds=0.4)]),
        make_clip(folder / "e.webm", times=range(8), codec="libvpx-vp9", options={"deadline": "realtime"}),
        make_clip(folder / "f.ts", times=range(12), sounds=tone, options={"bf": "2", **quick}),
        make_clip(folder / "g.avi", times=range(12), codec="mpeg4", options={}, sounds=[Sound("mp3", seconds=0.4)]),
        make_clip(folder / "h.mov", deep, times=range(6), codec="prores_ks", pix_fmt="yuv422p10le", options={}),
        make_clip(folder / "i.gif", grey, times=range(6), codec="gif", pix_fmt="gray", options={}),
        make_clip(folder / "j.h264", times=range(12), options={"g": "4", **quick}),
        make_clip(folder / "k.y4m", times=range(4), codec="wrapped_avframe", options={}),
        make_clip(folder / "l.nut", times=range(4), codec="ffv1", options={}),
        make_clip(
            folder / "m.mkv", times=range(12), codec="libx265", options={"x265-params": "log-level=none", **quick}
        ),
    ]
    real = [*DATA.glob("formats/*"), *DATA.glob("*.mkv")] if DATA.is_dir() else []
    return made + sorted(path for path in real if 0 < path.stat().st_size <= LARGEST)


def spoil(seed: int, corpus: Sequence[Path]) -> tuple[str, bytes, list[str]]:
    """Make the input of a seed.

    Returns:
        A file name, its bytes, and more words for the command line.
    """
    chance = random.Random(seed)
    first, second = chance.sample(list(corpus), 2)
    data = bytearray(first.read_bytes())
    for _ in range(chance.choice((1, 1, 2, 3))):
        kind = chance.choice(
            ("bits", "bits", "bits", "header bits", "run", "run", "cut", "splice", "hole", "repeat", "size")
        )
        place, length = chance.randrange(len(data) or 1), chance.choice((1, 4, 16, 100, 1000))
        if kind in ("bits", "header bits"):
            reach = min(len(data), 2000) if kind == "header bits" else len(data)
            for _ in range(chance.choice((1, 1, 3, 10))):
                if reach:
                    data[chance.randrange(reach)] ^= 1 << chance.randrange(8)
        elif kind == "run":
            data[place : place + length] = chance.randbytes(len(data[place : place + length]))
        elif kind == "cut":
            del data[max(place, len(data) // 3) :]
        elif kind == "splice":
            data[: chance.choice((16, 200, 2000))] = second.read_bytes()[: chance.choice((16, 200, 2000))]
        elif kind == "hole":
            del data[place : place + length]
        elif kind == "repeat":
            data[place:place] = data[place : place + length]
        else:  # numbers that ask for everything or nothing
            data[place : place + 4] = chance.choice(
                (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\x80\0\0\0")
            )
    words = ["--size", "64x48"] if chance.random() < 0.5 else []  # without it, a header may ask for a larger one
    words += ["--no-audio"] if chance.random() < 0.2 else []
    ending = chance.choice((".mp4", ".mp4", ".mkv", ".mkv", ".mov", ".ts"))
    return f"in{chance.choice((first, second)).suffix}", bytes(data), [*words, f"out{ending}"]


# -- the process in which it runs ------------------------------------------------------------------


@dataclass(frozen=True)
class Ending:
    """How one input ended."""

    seed: int
    code: int | None
    """Exit code; None: the process died or hung."""
    seconds: float
    fault: str = ""
    """What must not be, in words; empty: nothing."""
    error: str = ""
    """The one line of an input that is refused."""


@dataclass
class Tally:
    """How many inputs ended how."""

    endings: list[Ending] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def faults(self) -> list[Ending]:
        """Those that ended as they must not."""
        return [ending for ending in self.endings if ending.fault]

    def __str__(self) -> str:
        codes = Counter("died" if ending.code is None else ending.code for ending in self.endings)
        errors = Counter(re.sub(r"\S*in\.\w+|\d+", "*", ending.error) for ending in self.endings if ending.error)
        slowest = max(self.endings, key=lambda ending: ending.seconds)
        lines = [f"seed {ending.seed}: {ending.fault[-700:]}" for ending in self.faults]
        return "\n".join(
            [
                f"{len(self.endings)} inputs in {self.seconds:.0f} s; exit codes "
                + ", ".join(f"{code}: {count}" for code, count in sorted(codes.items(), key=str))
                + f"; the slowest took {slowest.seconds:.1f} s (seed {slowest.seed}); {len(lines)} faults",
                *lines,
                *(f"{count:5} x {error}" for error, count in errors.most_common(30)),
            ]
        )


class Worker:
    """A process that takes inputs one after the other; replaced when it died or hung."""

    def __init__(self, command: str, timeout: float, folder: Path, start: float = 0.0) -> None:
        """Make a worker.

        Args:
            start: Seconds more for the first input of a process, which loads libraries.
        """
        self._start_s = start
        self._command, self._timeout, self._folder = command, timeout, folder
        self._process: subprocess.Popen[str] | None = None
        self._said = folder / "stderr"

    def _start(self) -> subprocess.Popen[str]:
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
        with self._said.open("w") as said:
            return subprocess.Popen(
                [sys.executable, __file__, "--worker", self._command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                env={**os.environ, "PYTHONPATH": paths},
            )

    def run(self, seed: int, name: str, data: bytes, words: list[str]) -> Ending:
        """Run the command on one input and look at what is left."""
        place = self._folder / f"seed-{seed}"
        place.mkdir()
        (place / name).write_bytes(data)
        begun = time.perf_counter()
        answer = self._ask({"place": str(place), "words": ["video", name, words[-1], *words[:-1], "--quiet"]})
        seconds = time.perf_counter() - begun
        if isinstance(answer, str):
            return Ending(seed, None, seconds, answer)
        left = {path.name for path in place.iterdir()} - {name}
        fault = answer["fault"] or _judge(answer["code"], answer["said"], left, words[-1])
        shutil.rmtree(place)
        errors = [line for line in str(answer["said"]).splitlines() if line.startswith("rtstyle: error")]
        return Ending(seed, answer["code"], seconds, fault, " ".join(errors))

    def run_kind(self, kind: str, seed: int, outside: Path) -> Ending:
        """Run the input of a seed of another kind, in a folder of its own."""
        place = self._folder / f"seed-{seed}"
        place.mkdir()
        begun = time.perf_counter()
        answer = self._ask({"place": str(place), "words": [kind, str(seed), str(outside)]})
        seconds = time.perf_counter() - begun
        shutil.rmtree(place, ignore_errors=True)
        if isinstance(answer, str):
            return Ending(seed, None, seconds, answer)
        fault = str(answer["fault"])
        if "Traceback" in str(answer["said"]):
            fault = f"a traceback: {answer['said']}"
        elif int(str(answer["megabytes"])) > MOST_MEGABYTES:
            fault = f"{answer['megabytes']} MB of memory"
            self.close()
        return Ending(seed, int(str(answer["code"])), seconds, fault, str(answer["said"]).strip())

    def _ask(self, job: dict[str, object]) -> dict[str, object] | str:
        """Pass one job; a sentence if the process died or hung over it."""
        timeout = self._timeout + (self._start_s if self._process is None else 0)
        if self._process is None:
            self._process = self._start()
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(job), file=process.stdin, flush=True)
        ready, _, _ = select.select([process.stdout], [], [], timeout)
        line = process.stdout.readline() if ready else ""
        if line:
            answer: dict[str, object] = json.loads(line)
            return answer
        if not ready:
            # Python prints where it hangs before it goes (see _work).
            process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        self.close()
        told = self._said.read_text(errors="replace").strip()[-1500:]
        what = f"died with {process.returncode}" if ready else f"hung for {self._timeout:.0f} s"
        return f"the process {what}: {told}"

    def close(self) -> None:
        """End the process."""
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def fuzz_kind(kind: str, seeds: Sequence[int], *, workers: int = 2, timeout: float = 20.0) -> Tally:
    """Try inputs of another kind than videos, see fuzz_kinds.py.

    Args:
        timeout: Seconds that one input may take.
    """
    import fuzz_kinds

    tally, begun = Tally(), time.perf_counter()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        outside = fuzz_kinds.prepare(folder)
        before = _listing(outside)

        def run_some(number: int) -> list[Ending]:
            place = folder / f"worker-{number}"
            place.mkdir()
            with Worker("fuzz_kinds:main", timeout, place, start=100) as worker:
                return [worker.run_kind(kind, seed, outside) for seed in seeds[number::workers]]

        with ThreadPoolExecutor(workers) as pool:
            for endings in pool.map(run_some, range(workers)):
                tally.endings += endings
        if _listing(outside) != before:
            tally.endings.append(Ending(-1, None, 0.0, "what lies outside of the folders was changed"))
    tally.seconds = time.perf_counter() - begun
    return tally


def _listing(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Mode, time of change and bytes of everything in a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        found[str(path)] = status.st_mode, status.st_mtime_ns, path.read_bytes() if path.is_file() else b""
    return found


def _judge(code: object, said: object, left: set[str], output: str) -> str:
    """Say what is wrong with how a program ended; empty: nothing is."""
    lines = [line for line in str(said).splitlines() if line.startswith("rtstyle: error")]
    if "Traceback" in str(said):
        return f"a traceback: {said}"
    if code not in (0, 1, 3):
        return f"exit code {code}: {said}"
    if (code == 1) != (len(lines) == 1):
        return f"exit code {code} with {len(lines)} lines of error: {said}"
    whole = {output} if code != 1 else set()
    return f"exit code {code}, but {sorted(left)} is left" if left != whole else ""


def _work(command: str) -> None:
    """Be the process: read jobs from stdin, answer on stdout."""
    import signal

    faulthandler.enable()
    faulthandler.register(signal.SIGTERM, chain=True)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module, _, function = command.partition(":")
    run = getattr(importlib.import_module(module), function)
    for line in sys.stdin:
        job = json.loads(line)
        os.chdir(job["place"])
        said, fault, code = io.StringIO(), "", 1
        with contextlib.redirect_stderr(said):
            try:
                code = run(job["words"])
            except SystemExit as stop:
                code = int(stop.code or 0)
            except BaseException:
                fault = traceback.format_exc()
        faulthandler.register(signal.SIGTERM, chain=True)  # the command takes SIGTERM over
        megabytes = peak_kilobytes() >> 10
        told = {"code": code, "said": said.getvalue(), "fault": fault, "megabytes": megabytes}
        print(json.dumps(told), file=answers, flush=True)


# -- many of them ----------------------------------------------------------------------------------


def fuzz(
    seeds: Sequence[int], *, workers: int = 2, timeout: float = 60.0, command: str = COMMAND, keep: Path | None = None
) -> Tally:
    """Try the inputs of some seeds.

    Args:
        workers: Processes at a time.
        timeout: Seconds that one input may take.
        keep: Folder for the inputs at which it failed.
    """
    tally, begun = Tally(), time.perf_counter()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        corpus = make_corpus(folder)

        def run_some(number: int) -> Iterator[Ending]:
            place = folder / f"worker-{number}"
            place.mkdir()
            with Worker(command, timeout, place) as worker:
                for seed in seeds[number::workers]:
                    file, data, words = spoil(seed, corpus)
                    ending = worker.run(seed, file, data, words)
                    if ending.fault and keep:
                        keep.mkdir(parents=True, exist_ok=True)
                        (keep / f"{seed}-{file}").write_bytes(data)
                    yield ending

        with ThreadPoolExecutor(workers) as pool:
            for endings in pool.map(lambda number: list(run_some(number)), range(workers)):
                tally.endings += endings
    tally.seconds = time.perf_counter() - begun
    return tally


def main() -> int:
    """Run the command line of this file and return its exit code: 1 where there was a fault."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=1000, help="inputs to try (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="seed of the first (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes at a time (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=60, help="seconds that one may take (default: %(default)s)")
    parser.add_argument("--keep", type=Path, help="folder for the inputs at which it failed")
    kinds = ("videos", "styles", "journals", "jpegs", "http", "playlists", "all")
    parser.add_argument("--kind", choices=kinds, default="videos", help="what to spoil (default: %(default)s)")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        _work(args.worker)
        return 0
    seeds = range(args.first, args.first + args.count)
    faults = 0
    for kind in kinds[1:-1] if args.kind == "all" else [args.kind] if args.kind != "videos" else []:
        some = fuzz_kind(kind, seeds, workers=min(args.workers, args.count), timeout=min(args.timeout, 20))
        print(f"{kind}, seeds {seeds[0]} to {seeds[-1]}: {some}", flush=True)
        faults += len(some.faults)
    if args.kind != "videos":
        return 1 if faults else 0
    tally = fuzz(seeds, workers=min(args.workers, args.count), timeout=args.timeout, keep=args.keep)
    print(tally)
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main())

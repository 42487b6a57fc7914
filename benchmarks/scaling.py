"""How cost grows: with pixels, with cores, with the length of a clip; figures as JSON and plots as PNG.

    python benchmarks/scaling.py OUT_FOLDER      about ten minutes; needs matplotlib and, for cores, Linux

Pixels are the model alone (CPU-ms per frame) and file to file; cores are whole commands bound to 1, 2, ... of them;
length shows how starting is paid off. Run it on an idle machine; its load is in the figures.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import machine
from fps import ROOT, SIZES, gflop, scaled_clip, time_model

from rtstyle import Size, VideoReader, __version__, load_style, open_engine

PIXELS = SIZES | {"8k": Size(7680, 4320)}


def by_pixels(clip: Path, folder: Path, style: str, rounds: int) -> list[dict[str, Any]]:
    """Measure the model alone at every size: operations, CPU-ms and CPU-ns per pixel."""
    rows = []
    for name, size in PIXELS.items():
        with VideoReader(scaled_clip(clip, size, folder, 4)) as reader:
            frames = list(itertools.islice(reader, 4))
        with open_engine(style, size, frames[0].color, backend="openvino") as engine:
            list(engine.stylize(frames[:2]))
            runs = [time_model(engine, frames, 1.0) for _ in range(rounds)]
            cpu = statistics.median(1000 * cpu / done for _, cpu, done in runs)
            pixels = size.width * size.height
            rows.append(
                {
                    "size": name,
                    "megapixels": round(pixels / 1e6, 3),
                    "precision": engine.precision,
                    "gflop": round(gflop(load_style(style), size), 1),
                    "cpu_ms": round(cpu, 2),
                    "cpu_ns_per_pixel": round(1e6 * cpu / pixels, 1),
                    "fps": round(statistics.median(done / wall for wall, _, done in runs), 2),
                }
            )
    return rows


def command(clip: Path, target: Path, style: str, bound_to: list[int]) -> tuple[float, dict[str, Any]]:
    """Run ``rtstyle video`` on these cores only; whole seconds, and its report."""
    program = (
        f"import os, sys; os.sched_setaffinity(0, {bound_to!r})\n"
        "from rtstyle.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["video", str(clip), str(target), "-y", "--json", "--preset", "ultrafast", "--style", style]
    words += ["--stroke-size", "1"]  # auto would stylize a small video in twice its size
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program, *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return time.perf_counter() - begun, json.loads(done.stdout)


def by_cores(clip: Path, folder: Path, style: str, rounds: int) -> list[dict[str, Any]]:
    """Measure file to file at 720p, bound to 1, 2, 4, ... of the cores that are here."""
    here = sorted(os.sched_getaffinity(0))
    counts = sorted({*(count for count in (1, 2, 4, 8, 16) if count <= len(here)), len(here)})
    film = scaled_clip(clip, SIZES["720p"], folder, 120)
    runs: dict[int, list[dict[str, Any]]] = {count: [] for count in counts}
    for _ in range(rounds):
        for count in counts:
            runs[count].append(command(film, folder / "cores.mp4", style, here[:count])[1])
    return [
        {
            "cores": count,
            "fps": statistics.median(report["fps"] for report in reports),
            "cpu_ms": statistics.median(report["cpu_ms_per_frame"] for report in reports),
        }
        for count, reports in runs.items()
    ]


def by_length(clip: Path, folder: Path, style: str, rounds: int) -> list[dict[str, Any]]:
    """Measure whole commands on clips of 1 to 1000 frames at 360p: seconds, and frames per second of all of it."""
    rows = []
    for count in (1, 3, 10, 30, 100, 300, 1000):
        film = scaled_clip(clip, SIZES["360p"], folder, count)
        seconds = statistics.median(
            command(film, folder / "length.mp4", style, sorted(os.sched_getaffinity(0)))[0] for _ in range(rounds)
        )
        rows.append({"frames": count, "seconds": round(seconds, 3), "fps": round(count / seconds, 2)})
    return rows


def plot(result: dict[str, Any], folder: Path) -> list[Path]:
    """Draw what was measured; returns the images."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    wanted = (
        ("pixels", "megapixels", "cpu_ms", "model alone: CPU-ms per frame", "log"),
        ("cores", "cores", "fps", "file to file at 720p: frames per second", "linear"),
        ("length", "frames", "fps", "whole command at 360p: frames per second", "log"),
    )
    paths = []
    for section, across, up, title, scale in wanted:
        rows = result[section]
        figure, axes = pyplot.subplots(figsize=(6, 4), dpi=110, layout="constrained")
        axes.plot([row[across] for row in rows], [row[up] for row in rows], "o-", color="#1f5f8b")
        for row in rows:
            label = row.get("size", f"{row[up]:g}")
            axes.annotate(label, (row[across], row[up]), xytext=(6, -10), textcoords="offset points", fontsize=8)
        axes.set(
            xlabel=across,
            ylabel=up.replace("_", "-"),
            title=title,
            xscale=scale,
            yscale="log" if up == "cpu_ms" else "linear",
        )
        axes.margins(0.12)
        axes.grid(alpha=0.3)
        if scale == "linear":
            axes.set_xticks([row[across] for row in rows])
            axes.set_ylim(bottom=0)
        path = folder / f"scaling-{section}.png"
        figure.savefig(path)
        pyplot.close(figure)
        paths.append(path)
    return paths


def main() -> int:
    """Measure, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT_FOLDER")
    parser.add_argument("--clip", type=Path, default=ROOT / "demo" / "big_buck_bunny.mp4")
    parser.add_argument("--style", default="sketch")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    before = machine.busy_now()
    others = machine.Others()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result = {
            "rtstyle": __version__,
            "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "machine": machine.describe(),
            "style": args.style,
            "pixels": by_pixels(args.clip, folder, args.style, args.rounds),
            "cores": by_cores(args.clip, folder, args.style, args.rounds),
            "length": by_length(args.clip, folder, args.style, args.rounds),
        }
    result["load_of_others"] = {"before": before, "during": others.cores()}
    (args.out / "scaling.json").write_text(json.dumps(result, indent=1) + "\n")
    for path in plot(result, args.out):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What this machine reaches: model only, and file to file with decoding and encoding.

    python benchmarks/fps.py                    all that runs here, under three minutes
    python benchmarks/fps.py --clip my.mp4      with your own clip (default: the one in demo/)

Frames per second depend on what else the machine does; CPU-ms per frame hardly do, and bound the
rest: with c cores no pipeline passes 1000 c / (CPU-ms per frame). Rounds are interleaved, medians told.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import av

from rtstyle import EncoderSettings, Engine, Frame, Size, VideoReader, __version__, open_engine, stylize_video
from rtstyle.backends import BackendName, Mode, Precision
from rtstyle.doctor import instruction_sets
from rtstyle.errors import RtstyleError

SIZES = {"360p": Size(640, 360), "720p": Size(1280, 720), "1080p": Size(1920, 1080), "4k": Size(3840, 2160)}
USUAL = ("360p", "720p", "1080p")
ENGINES: tuple[tuple[str, BackendName, Precision, str | None, Mode], ...] = (
    ("tensorrt", "tensorrt", "f16", None, "throughput"),
    ("tensorrt, 1 slot", "tensorrt", "f16", None, "latency"),
    ("torch cuda", "torch", "f16", "cuda", "throughput"),
    ("torch cuda, 1 slot", "torch", "f16", "cuda", "latency"),
    ("openvino", "openvino", "bf16", None, "throughput"),
    ("openvino", "openvino", "f32", None, "throughput"),
    ("onnxruntime", "onnxruntime", "f32", None, "throughput"),
    ("torch", "torch", "bf16", "cpu", "throughput"),
    ("torch", "torch", "f32", "cpu", "throughput"),
)
"""Label, backend, precision, device and mode. On a GPU, copies to it and back are part of every frame; one slot is one
frame after the other, without the ring."""
ROOT = Path(__file__).resolve().parents[1]


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load() -> float:
    """CPU seconds per second that all processes of the machine use, over half a second; 0 is idle."""
    try:
        before = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        time.sleep(0.5)
        after = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return float("nan")
    spent = [int(b) - int(a) for a, b in zip(before, after, strict=True)]
    return round((sum(spent) - spent[3] - spent[4]) / max(1, sum(spent)) * (os.cpu_count() or 1), 2)


def scaled_clip(clip: Path, size: Size, folder: Path, frames: int) -> Path:
    """Write the clip at another size, H.264 as cameras do it, with its sound; real pictures at every size."""
    target = folder / f"{size}.mp4"
    with VideoReader(clip) as reader, av.open(str(target), "w") as out:
        stream: Any = out.add_stream("libx264", rate=reader.rate or 25, options={"crf": "21", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = size.width, size.height, "yuv420p"
        for count, frame in enumerate(av.open(str(clip)).decode(video=0)):
            if count == frames:
                break
            picture = frame.reformat(size.width, size.height, "yuv420p", interpolation="BICUBIC")
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    return target


def frames_of(clip: Path, count: int) -> list[Frame]:
    with VideoReader(clip) as reader:
        return [frame for frame, _ in zip(reader, range(count), strict=False)]


def time_model(engine: Engine, frames: list[Frame], seconds: float) -> tuple[float, float, int]:
    """Run frames through an engine for about so long; seconds, CPU-seconds and frames."""
    list(engine.stylize(frames[:3]))  # warm up
    done, begun, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - begun < seconds:
        done += sum(1 for _ in engine.stylize(frames))
    return time.perf_counter() - begun, time.process_time() - cpu, done


def measure_models(clips: dict[str, Path], seconds: float, rounds: int) -> list[dict[str, Any]]:
    rows = []
    for name, clip in clips.items():
        frames = frames_of(clip, 8)
        colour = frames[0].colour
        engines = []
        labels = []
        for label, backend, precision, device, mode in ENGINES:
            try:
                engines.append(
                    open_engine(
                        "sketch", SIZES[name], colour, backend=backend, precision=precision, mode=mode, device=device
                    )
                )
                labels.append(label)
            except RtstyleError as error:
                reason = str(error).rpartition("; ")[2].removeprefix(f"{backend}: ")
                rows.append({"size": name, "backend": label, "precision": precision, "not_run": reason})
        samples: dict[int, list[tuple[float, float]]] = {i: [] for i in range(len(engines))}
        for _ in range(rounds):
            for i, engine in enumerate(engines):
                wall, cpu, done = time_model(engine, frames, seconds)
                samples[i].append((done / wall, 1000 * cpu / done))
        for i, engine in enumerate(engines):
            rows.append(
                {
                    "size": name,
                    "backend": labels[i],
                    "precision": engine.precision,
                    "fps": round(statistics.median(s[0] for s in samples[i]), 1),
                    "fps_spread": [round(f([s[0] for s in samples[i]]), 1) for f in (min, max)],
                    "cpu_ms": round(statistics.median(s[1] for s in samples[i]), 2),
                }
            )
            engine.close()
    return rows


def measure_files(clips: dict[str, Path], folder: Path, rounds: int, preset: str) -> list[dict[str, Any]]:
    reports: dict[str, list[Any]] = {name: [] for name in clips}
    for _ in range(rounds):
        for name, clip in clips.items():
            target = folder / f"out-{name}.mp4"
            reports[name].append(stylize_video(clip, target, encoder=EncoderSettings(preset=preset), overwrite=True))
    rows = []
    for name, runs in reports.items():
        middle = sorted(runs, key=lambda report: report.fps)[len(runs) // 2]
        bound = 1000 * cores() / middle.cpu_ms_per_frame
        rows.append(
            {
                "size": name,
                "backend": middle.backend,
                "precision": middle.precision,
                "preset": preset,
                "frames": middle.frames_out,
                "fps": middle.fps,
                "fps_spread": [min(r.fps for r in runs), max(r.fps for r in runs)],
                "cpu_ms": middle.cpu_ms_per_frame,
                "share_of_bound": round(middle.fps / bound, 2),
                "first_frame_s": middle.first_frame_s,
                "stages_ms": middle.stages,
            }
        )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, default=ROOT / "demo" / "big_buck_bunny.mp4")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(USUAL))
    parser.add_argument("--frames", type=int, default=100, help="of the clip that go file to file")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each round of a model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--preset", default="ultrafast", help="of x264")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    args = parser.parse_args()
    busy = load()
    result: dict[str, Any] = {
        "rtstyle": __version__,
        "cores": cores(),
        "instruction_sets": instruction_sets(),
        "load_before": busy,
        "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    print(f"rtstyle {__version__} on {cores()} cores, {', '.join(instruction_sets())}; load before: {busy} cores")
    if busy > 0.3:
        print("NOTE: this machine is busy; frames per second are too low, CPU-ms are about right")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = {size: scaled_clip(args.clip, SIZES[size], folder, args.frames) for size in args.sizes}
        result["models"] = measure_models(clips, args.seconds, args.rounds)
        print(f"\nmodel only\n{'size':7}{'engine':20}{'precision':10}{'FPS':>8}{'min..max':>16}{'CPU-ms':>9}")
        for row in result["models"]:
            if "not_run" in row:
                print(f"{row['size']:7}{row['backend']:20}{row['precision']:10}not run: {row['not_run']}")
                continue
            spread = "{}..{}".format(*row["fps_spread"])
            print(
                f"{row['size']:7}{row['backend']:20}{row['precision']:10}{row['fps']:8.1f}{spread:>16}{row['cpu_ms']:9.2f}"
            )
        result["files"] = measure_files(clips, folder, args.rounds, args.preset)
        print(f"\nfile to file, {args.frames} frames, x264 {args.preset}, sound not counted")
        print(
            f"{'size':7}{'engine':15}{'FPS':>7}{'min..max':>16}{'CPU-ms':>8}{'of bound':>9}{'first s':>8}  stages, ms"
        )
        for row in result["files"]:
            spread = "{}..{}".format(*row["fps_spread"])
            stages = "  ".join(f"{stage} {ms:.1f}" for stage, ms in row["stages_ms"].items())
            print(
                f"{row['size']:7}{row['backend'] + ' ' + row['precision']:15}{row['fps']:7.1f}{spread:>16}"
                f"{row['cpu_ms']:8.1f}{row['share_of_bound']:9.2f}{row['first_frame_s']:8.2f}  {stages}"
            )
    result["load_after"] = load()
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
        print(f"\nwrote {args.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What this machine reaches, honestly: models alone, file to file, live, start-up, and what others would give you.

    python benchmarks/fps.py                         all sections on the clip in demo/, about six minutes
    python benchmarks/fps.py --sections files --sizes 720p 1080p --styles sketch red_chalk --presets ultrafast veryfast
    python benchmarks/fps.py --compare old.json      and what changed since
    python benchmarks/fps.py --rival package.module:function   beside the built-in rivals, on RGB images

Frames per second depend on what else a machine does; CPU-ms per frame hardly do, and bound the rest: c cores never
pass 1000 c / (CPU-ms per frame). Everything is warmed up, rounds are interleaved, medians are given with their
spread. A machine that others use is refused (--busy measures all the same, and marks it).
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import av
import machine
import rivals
from tables import compare, markdown

from rtstyle import (
    CaptureSettings,
    EncoderSettings,
    Engine,
    Frame,
    LiveSettings,
    RenderOptions,
    Size,
    VideoReader,
    __version__,
    load_style,
    open_engine,
    stylize_live,
    stylize_video,
)
from rtstyle.backends import (
    BACKENDS,
    PRECISIONS,
    BackendName,
    EngineSettings,
    Mode,
    NetworkLines,
    Precision,
    StrokeSize,
)
from rtstyle.errors import RtstyleError
from rtstyle.frame import CELL, MARGIN
from rtstyle.graph import CANVAS_CHANNELS, PLANE_CHANNELS
from rtstyle.style import Style

ROOT = Path(__file__).resolve().parents[1]
SIZES = {
    "360p": Size(640, 360),
    "480p": Size(854, 480),
    "720p": Size(1280, 720),
    "1080p": Size(1920, 1080),
    "4k": Size(3840, 2160),
}
SECTIONS = ("models", "files", "live", "start", "rivals")
Row = dict[str, Any]


def scaled_clip(clip: Path, size: Size, folder: Path, frames: int) -> Path:
    """Write the clip at another size, H.264 as cameras do it; real images at every size, repeated if it is short."""
    target = folder / f"{size}.mp4"
    with VideoReader(clip) as reader, av.open(str(target), "w") as out:
        stream: Any = out.add_stream("libx264", rate=reader.rate or 25, options={"crf": "21", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = size.width, size.height, "yuv420p"
        count = 0
        while count < frames:
            with av.open(str(clip)) as source:
                for frame in source.decode(video=0):
                    if count == frames:
                        break
                    picture = frame.reformat(size.width, size.height, "yuv420p", interpolation="BICUBIC")
                    picture.pts, picture.time_base = count, 1 / stream.codec_context.rate
                    out.mux(stream.encode(picture))
                    count += 1
        out.mux(stream.encode(None))
    return target


# -- models alone ----------------------------------------------------------------------------------


Case = tuple[str, BackendName, Precision, str | None, Mode]
"""Label, backend, precision, device and mode."""


def engines_of(backends: list[str], precisions: list[str]) -> list[Case]:
    """List all that may be tried here.

    On a GPU, copies to it and back are part of every frame; one slot is one frame after the other, without the ring.
    """
    found: list[Case] = []
    for backend in (name for name in BACKENDS if name in backends):
        for precision in PRECISIONS[backend]:
            if precisions and precision not in precisions:
                continue
            if backend == "tensorrt":
                found += [("tensorrt", backend, precision, None, "throughput")]
                found += [("tensorrt, 1 slot", backend, precision, None, "latency")]
            elif backend == "torch" and precision == "f16":
                found += [("torch cuda", backend, precision, "cuda", "throughput")]
                found += [("torch cuda, 1 slot", backend, precision, "cuda", "latency")]
            elif backend == "torch":
                found += [("torch", backend, precision, "cpu", "throughput")]
            else:
                found += [(backend, backend, precision, None, "throughput")]
    return found


def time_model(engine: Engine, frames: list[Frame], seconds: float) -> tuple[float, float, int]:
    """Run frames through an engine for about so long; seconds, CPU-seconds and frames."""
    done, begun, cpu = 0, time.perf_counter(), time.process_time()
    while done == 0 or time.perf_counter() - begun < seconds:
        done += sum(1 for _ in engine.stylize(frames))
    return time.perf_counter() - begun, time.process_time() - cpu, done


def gflop(style: Style, size: Size) -> float:
    """Return the 1e9 operations of one image, its margin included."""
    height, width = ((side + 2 * MARGIN + CELL - 1) // CELL for side in (size.height, size.width))
    shapes = {"x": (1, PLANE_CHANNELS, height, width), "z": (1, CANVAS_CHANNELS, height, width)}
    return machine.operations(style.trunk.model, shapes)


def measure_models(clips: dict[str, Path], args: argparse.Namespace, roof: dict[str, float]) -> list[Row]:
    rows: list[Row] = []
    for (size, clip), size_class in itertools.product(clips.items(), args.size_classes):
        style = load_style(args.styles[0], size_class)
        with VideoReader(clip) as reader:
            frames = list(itertools.islice(reader, 8))
        engines: list[Engine] = []
        labels: list[str] = []
        for label, backend, precision, device, mode in engines_of(args.backends, args.precisions):
            try:
                engine = open_engine(
                    style, SIZES[size], frames[0].color, backend=backend, precision=precision, mode=mode, device=device,
                    network_lines="full",
                )  # fmt: skip
            except RtstyleError as error:
                reason = str(error).rpartition("; ")[2].removeprefix(f"{backend}: ")
                rows.append({"size": size, "engine": label, "precision": precision, "not_run": reason})
                continue
            list(engine.stylize(frames[:3]))  # the first frames are slow
            engines.append(engine)
            labels.append(label)
        work = gflop(style, SIZES[size])
        samples: dict[int, list[tuple[float, float]]] = {number: [] for number in range(len(engines))}
        for _ in range(args.rounds):
            for number, engine in enumerate(engines):
                wall, cpu, done = time_model(engine, frames, args.seconds)
                samples[number].append((done / wall, 1000 * cpu / done))
        for number, engine in enumerate(engines):
            fps = [sample[0] for sample in samples[number]]
            row = {
                "size": size,
                "engine": labels[number],
                "precision": engine.precision,
                "style": style.name,
                "network": style.size_class,
                "fps": round(statistics.median(fps), 1),
                "fps_spread": [round(min(fps), 1), round(max(fps), 1)],
                "cpu_ms": round(statistics.median(sample[1] for sample in samples[number]), 2),
                "gflop": round(work, 1),
            }
            if engine.backend != "tensorrt" and "cuda" not in labels[number] and engine.precision in roof:
                row["share_of_roof"] = round(row["fps"] * work / roof[engine.precision], 2)
            rows.append(row)
            engine.close()
    return rows


# -- file to file ----------------------------------------------------------------------------------


def measure_files(clips: dict[str, Path], folder: Path, args: argparse.Namespace) -> list[Row]:
    cases = list(itertools.product(clips, args.styles, args.size_classes, args.file_precisions, args.presets))
    runs: dict[tuple[str, ...], list[Any]] = {case: [] for case in cases}
    not_run: list[Row] = []
    for number in range(args.rounds + 1):  # the first warms up
        for case in cases:
            size, style, size_class, precision, preset = case
            try:
                report = stylize_video(
                    clips[size],
                    folder / "out.mp4",
                    style=load_style(style, size_class),
                    engine=EngineSettings(
                        precision=precision, stroke_size=args.stroke_size, network_lines=args.network_lines
                    ),
                    encoder=EncoderSettings(preset=preset),
                    options=RenderOptions(overwrite=True),
                )
            except RtstyleError as error:
                if not number:
                    not_run.append({"size": size, "style": style, "precision": precision, "not_run": str(error)})
                continue
            if number:
                runs[case].append(report)
    rows: list[Row] = []
    for (size, style, size_class, _, preset), reports in runs.items():
        if not reports:
            continue
        middle = sorted(reports, key=lambda report: report.fps)[len(reports) // 2]
        cpu = statistics.median(report.cpu_ms_per_frame for report in reports)
        rows.append(
            {
                "size": size,
                "style": style,
                "network": size_class,
                "worked_in": middle.working_size,
                "engine": middle.backend,
                "precision": middle.precision,
                "preset": preset,
                "frames": middle.frames_out,
                "fps": middle.fps,
                "fps_spread": [min(r.fps for r in reports), max(r.fps for r in reports)],
                "cpu_ms": cpu,
                "cores_busy": round(cpu * middle.fps / 1000, 2),
                "share_of_bound": round(middle.fps * cpu / 1000 / machine.cores(), 2),
                "first_frame_s": statistics.median(report.first_frame_s for report in reports),
                "stages_ms": middle.stages,
            }
        )
    return rows + not_run


# -- live, and starting ------------------------------------------------------------------------------


def measure_live(clips: dict[str, Path], args: argparse.Namespace) -> list[Row]:
    """Play each clip at its own pace; latency from the moment at which a frame is due, so decoding is in it."""
    rows: list[Row] = []
    for (size, clip), style, size_class in itertools.product(clips.items(), args.styles, args.size_classes):
        # One network each: auto would take the fast one instead of dropping frames.
        reports = [
            stylize_live(
                str(clip),
                style=style,
                engine=EngineSettings(size_class=size_class),
                capture=CaptureSettings(timeout=30),
                live=LiveSettings(preview="none", frames=10_000),
            )
            for _ in range(args.rounds)
        ]
        middle = sorted(reports, key=lambda report: report.latency_ms["p95"])[len(reports) // 2]
        rows.append(
            {
                "size": size,
                "style": style,
                "network": size_class,
                "precision": middle.precision,
                "shown": middle.shown,
                "dropped": middle.dropped,
                "fps": middle.fps,
                "latency_ms": middle.latency_ms,
                "p95_spread": [f([r.latency_ms["p95"] for r in reports]) for f in (min, max)],
            }
        )
    return rows


PROGRAM = """
import atexit, sys
from rtstyle.cli import main

def peak():
    status = open("/proc/self/status").read().split()
    print("peak", status[status.index("VmHWM:") + 1], file=sys.stderr)

atexit.register(peak)
sys.exit(main())
"""
"""The command, and at its end the most memory that it had, in KiB; Linux tells it."""


def measure_start(clips: dict[str, Path], folder: Path, rounds: int) -> list[Row]:
    """Time whole commands in processes of their own, and take their peak memory."""
    out = ["-y", "--quiet", "--preset", "ultrafast"]
    cases: list[tuple[str, list[str]]] = [("rtstyle --help", ["--help"])]
    for size in clips:
        (folder / size).mkdir()
        single = scaled_clip(clips[size], SIZES[size], folder / size, 1)
        cases.append((f"video, one frame of {size}", ["video", str(single), str(folder / "one.mp4"), *out]))
    for size, clip in clips.items():
        cases.append((f"video, the clip at {size}", ["video", str(clip), str(folder / "all.mp4"), *out]))
    rows: list[Row] = []
    for name, words in cases:
        seconds, peaks = [], []
        for _ in range(rounds):
            begun = time.perf_counter()
            done = subprocess.run([sys.executable, "-c", PROGRAM, *words], cwd=ROOT, capture_output=True, text=True)
            seconds.append(time.perf_counter() - begun)
            if done.returncode:
                raise SystemExit(f"rtstyle {' '.join(words)} failed: {done.stderr}")
            if found := re.search(r"^peak (\d+)$", done.stderr, re.MULTILINE):
                peaks.append(int(found[1]))
        rows.append(
            {
                "command": name,
                "seconds": round(statistics.median(seconds), 3),
                "seconds_spread": [round(min(seconds), 3), round(max(seconds), 3)],
                "peak_mib": round(max(peaks) / 1024) if peaks else "unknown",
            }
        )
    return rows


# -- the whole ---------------------------------------------------------------------------------------


def _stroke_size(text: str) -> StrokeSize:
    return "auto" if text == "auto" else float(text)


def _network_lines(text: str) -> NetworkLines:
    return text if text in ("auto", "full") else int(text)  # type: ignore[return-value]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, default=ROOT / "demo" / "big_buck_bunny.mp4")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["360p", "720p", "1080p"])
    parser.add_argument("--styles", nargs="+", default=["sketch"], metavar="S")
    parser.add_argument("--size-classes", nargs="+", default=["default"], metavar="C", help="networks: default, fast")
    parser.add_argument("--stroke-size", type=_stroke_size, default="auto", metavar="X", help="auto or a number")
    parser.add_argument(
        "--network-lines", type=_network_lines, default="auto", metavar="N", help="file to file: auto, full or a number"
    )
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=list(BACKENDS))
    parser.add_argument("--precisions", nargs="+", default=[], metavar="P", help="of models (default: all)")
    parser.add_argument("--file-precisions", nargs="+", default=["auto"], metavar="P", help="file to file")
    parser.add_argument("--presets", nargs="+", default=["ultrafast"], metavar="P", help="of x264")
    parser.add_argument("--frames", type=int, default=100, help="of the clip that go file to file (default: 100)")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each round of a model (default: 1.5)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rival", action="append", default=[], metavar="MODULE:FUNCTION")
    parser.add_argument("--busy", action="store_true", help="measure although others use this machine")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="an older --json: report what changed")
    return parser.parse_args()


def _told(words: list[str]) -> list[str]:
    """Leave the files out that figures do not depend on."""
    files = [number for number, word in enumerate(words) if word in ("--json", "--markdown", "--compare")]
    return [word for number, word in enumerate(words) if number not in files and number - 1 not in files]


def main() -> int:
    args = parse()
    before = machine.busy_now()
    if before > machine.BUSY and not args.busy:
        print(
            f"fps.py: error: others use {before:.1f} of this machine's cores; wait, or give --busy "
            "to measure all the same (CPU-ms stay about right, frames per second do not)",
            file=sys.stderr,
        )
        return 1
    others = machine.Others()
    roof = {}
    for precision in ("f32", "bf16"):
        with suppress(RuntimeError):
            roof[precision] = machine.matmul_peak(precision)
    result: dict[str, Any] = {
        "rtstyle": __version__,
        "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": " ".join(["python", "benchmarks/fps.py", *_told(sys.argv[1:])]),
        "machine": machine.describe(),
        "matmul_gflops": roof,
        "copy_gb_per_s": machine.copy_bandwidth(),
        "installed_mb": machine.installed_mb(),
        "load_of_others": {"before": before},
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = {size: scaled_clip(args.clip, SIZES[size], folder, args.frames) for size in args.sizes}
        for section in args.sections:
            if section == "models":
                result[section] = measure_models(clips, args, roof)
            elif section == "files":
                result[section] = measure_files(clips, folder, args)
            elif section == "live":
                result[section] = measure_live(clips, args)
            elif section == "start":
                result[section] = measure_start(clips, folder, args.rounds)
            else:
                size = "720p" if "720p" in clips else args.sizes[0]
                measured = rivals.measure(
                    clips[size], folder, rivals=args.rival, seconds=args.seconds, rounds=args.rounds,
                    preset=args.presets[0], count=8,
                )  # fmt: skip
                result[section] = [{"size": size, **row} for row in measured]
            during = others.cores()
            result["load_of_others"][section] = during
            if during > machine.BUSY:
                print(f"NOTE: others used {during:.1f} cores during {section}", file=sys.stderr)
    text = markdown(result)
    print(text)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    if args.markdown:
        args.markdown.write_text(text + "\n")
    if args.compare:
        print(compare(json.loads(args.compare.read_text()), result))
    return 0


if __name__ == "__main__":
    sys.exit(main())

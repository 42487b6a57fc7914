"""Check rtstyle on an NVIDIA GPU, in about two minutes: ``python -m engines.check_gpu [-o report.md]``

Prints a report to paste into an issue: what is there, how fast copies are, and for TensorRT and torch on CUDA at 720p,
1080p and 4K whether the image is that of the CPU, what a ring of buffers is worth, and how fast it is. Every step
that fails says why, and the next one continues.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from rtstyle import __version__, graph
from rtstyle.backends import BackendName, Engine, Mode, open_engine
from rtstyle.backends.accuracy import fixed_frames, judge
from rtstyle.backends.cuda import CudaDevice, driver_problem
from rtstyle.backends.reference import open_reference
from rtstyle.doctor import examine
from rtstyle.errors import RtstyleError
from rtstyle.frame import Color, Frame, Size
from rtstyle.style import load_style
from rtstyle.video.codecs import why_not
from rtstyle.video.hwaccel import hwaccel_problem

SIZES = {"720p": Size(1280, 720), "1080p": Size(1920, 1080), "4K": Size(3840, 2160)}
ROOT = Path(__file__).resolve().parents[1]


def fps_of(engine: Engine, frames: list[Frame], seconds: float) -> float:
    """Run frames through an engine over and over, copies included; frames per second."""
    for _ in engine.stylize(frames):
        pass
    done, begun = 0, time.perf_counter()

    def endless() -> Iterator[Frame]:
        while time.perf_counter() - begun < seconds:
            yield from frames

    for _ in engine.stylize(endless()):
        done += 1
    return done / (time.perf_counter() - begun)


def copy_seconds(device: CudaDevice, size: int) -> tuple[float, float]:
    """Time copies of so many bytes to the GPU and back, pinned: the median of 20 each."""
    device.activate()
    host, there, stream = device.allocate_host(size), device.allocate(size), device.open_stream()
    try:
        ways: tuple[Callable[[], None], ...] = (
            lambda: device.copy_in(there, host, stream),
            lambda: device.copy_out(host, there, stream),
        )
        into, out = (sorted(device.seconds(stream, way) for _ in range(20))[10] for way in ways)
        return into, out
    finally:
        device.close_stream(stream)
        device.free(there)
        device.free_host(host)


def describe(device: CudaDevice) -> Iterator[str]:
    """Say what is there."""
    yield f"- rtstyle {__version__}, Python {platform.python_version()}, {platform.platform()}"
    yield f"- {device.name}, SM {device.capability[0]}.{device.capability[1]}"
    packages = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-rtx-cu13", "cuda-bindings", "torch", "av")
    for package in packages:
        try:
            yield f"- {package} {version(package)}"
        except PackageNotFoundError:
            continue
    for finding in examine():
        if "nv" in finding.subject.lower():
            yield f"- {finding.subject}: {finding.says}"


def check_backend(backend: BackendName, name: str, device: CudaDevice, seconds: float) -> Iterator[str]:
    """Check one backend at one size; lines of a table."""
    style, size, color = load_style("sketch"), SIZES[name], Color()
    place = "cuda" if backend == "torch" else "cuda:0"

    def opened(mode: Mode) -> Engine:
        return open_engine(style, size, color, backend=backend, precision="f16", mode=mode, device=place)

    begun = time.perf_counter()
    with opened("throughput") as ring:
        first = time.perf_counter() - begun
        with open_reference(style, size, color) as reference:
            verdict = judge(ring, reference)
        frames = [replace(frame, canvas=(0, 0)) for frame in fixed_frames(size, color)]
        fast = fps_of(ring, frames, seconds)
    with opened("latency") as single:
        slow = fps_of(single, frames, seconds)
    picture = int(graph.planar_shapes(size)[graph.SOURCE][2] * graph.planar_shapes(size)[graph.SOURCE][3])
    into, out = copy_seconds(device, picture)
    picture_says = "as on the CPU" if verdict.passed else "WRONG"
    yield (
        f"| {backend} f16 | {name} | {picture_says}: {verdict.reason} | {first:.1f} s | {slow:.0f} | {fast:.0f} | "
        f"{fast / slow:.2f} | {1000 * into:.2f} + {1000 * out:.2f} ms, {100 * (into + out) * slow:.0f} % |"
    )


def check_file() -> Iterator[str]:
    """Stylize the clip in demo/ from file to file, decoded and encoded in software and by the GPU."""
    from rtstyle import EncoderSettings, RenderOptions, stylize_video

    ways: tuple[tuple[str, str | None, str], ...] = (
        ("software codecs", None, "libx264"),
        ("NVDEC", "cuda", "libx264"),
        ("NVDEC and NVENC", "cuda", "h264_nvenc"),
    )
    for what, hwaccel, codec in ways:
        problem = why_not(codec) or (hwaccel_problem(hwaccel) if hwaccel else None)
        if problem:  # data centres' GPUs have no encoder
            yield f"- file to file, {what}: not run: {problem}"
            continue
        with tempfile.TemporaryDirectory() as folder:
            report = stylize_video(
                ROOT / "demo" / "big_buck_bunny.mp4",
                Path(folder) / "out.mp4",
                options=RenderOptions(hwaccel=hwaccel),
                encoder=EncoderSettings(codec=codec),
            )
        yield (
            f"- file to file, {what}, {report.size}, {report.frames_out} frames: {report.fps:.1f} FPS on "
            f"{report.backend} {report.precision}; first frame after {report.first_frame_s:.2f} s; "
            f"stages in ms {report.stages}" + "".join(f"; {warning}" for warning in report.warnings)
        )


def check_decoder() -> Iterator[str]:
    """Decode the clip in demo/ on the GPU and in software: H.264 leaves no choice in what comes out."""
    from rtstyle import ReaderSettings, VideoReader

    problem = hwaccel_problem("cuda")
    if problem:
        yield f"- NVDEC: not run: {problem}"
        return
    clip, worst, frames = ROOT / "demo" / "big_buck_bunny.mp4", 0, 0
    with VideoReader(clip, settings=ReaderSettings(hwaccel="cuda")) as hardware, VideoReader(clip) as software:
        for ours, theirs in zip(hardware, software, strict=True):
            frames += 1
            for one, other in zip(ours.planes, theirs.planes, strict=True):
                worst = max(worst, int(np.abs(one.astype(np.int16) - other).max()))
    says = "as in software" if not worst else f"WRONG, off by up to {worst} levels"
    yield f"- NVDEC, {frames} frames: {says}"


def lines(seconds: float) -> Iterator[str]:
    """Yield the report line by line."""
    device = CudaDevice()
    yield "## rtstyle on an NVIDIA GPU"
    yield from _tried("what is there", describe(device))
    for size in (1 << 20, 16 << 20):
        to, back = (size / took / 1e9 for took in copy_seconds(device, size))
        yield f"- copies of {size >> 20} MiB: {to:.1f} GB/s to the GPU, {back:.1f} GB/s back"
    yield ""
    heads = ("engine", "size", "picture", "opened in", "FPS, one slot", "FPS, ring", "gain", "copies in + out, share")
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    backends: tuple[BackendName, ...] = ("tensorrt", "torch")
    for backend in backends:
        for name in SIZES:
            yield from _tried(f"{backend} {name}", check_backend(backend, name, device, seconds))
    yield ""
    yield from _tried("file to file", check_file())
    yield from _tried("NVDEC", check_decoder())


def _tried(what: str, said: Iterator[str]) -> Iterator[str]:
    try:
        yield from said
    except (RtstyleError, ImportError, OSError, RuntimeError, ValueError) as error:
        yield f"- {what}: FAILED, {type(error).__name__}: {' '.join(str(error).split())}"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m engines.check_gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the report there too")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement (default: %(default)s)")
    args = parser.parse_args()
    problem = driver_problem()
    if problem:
        print(f"nothing to check: {problem}", file=sys.stderr)
        return 1
    said = []
    try:
        for line in lines(args.seconds):
            print(line, flush=True)
            said.append(line)
    except RtstyleError as error:
        print(f"cannot check: {error}", file=sys.stderr)
        return 1
    if args.output:
        args.output.write_text("\n".join(said) + "\n", "utf-8")
    return 1 if any("FAILED" in line or "WRONG" in line for line in said) else 0


if __name__ == "__main__":
    sys.exit(main())

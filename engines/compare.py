"""Is it the same image everywhere? ``python -m engines.compare [--style S] [--clip FILE] [--json FILE]``

Runs every backend in every precision that opens here over the same frames of a clip and prints a table:
how far each is from float32 in torch, and how long a frame takes. What does not open is listed with its reason.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtstyle import __version__, graph
from rtstyle.backends import PRECISIONS, BackendName, Controls, Engine, Precision, open_engine
from rtstyle.backends.accuracy import Difference, difference
from rtstyle.errors import RtstyleError
from rtstyle.frame import Color, Frame, Planes, Size
from rtstyle.style import Style, load_style
from rtstyle.video import VideoReader

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Row:
    """What one engine gave."""

    backend: str
    precision: str
    device: str = ""
    largest: int | None = None
    """Levels, of all planes of all frames."""
    mean: float | None = None
    psnr_db: float | None = None
    """None where the images are equal, or it was not run."""
    untouched: bool | None = None
    """At strength 0 the planes came back bit for bit."""
    ms: float | None = None
    """Milliseconds of wall time per frame, kept full; the best of three rounds."""
    cpu_ms: float | None = None
    """Milliseconds of CPU time per frame, over all cores; hardly depends on what else the machine does."""
    not_run: str = ""


Feeds = dict[str, NDArray[Any]]


class PlanarOnCpu(Engine):
    """What GPU engines compute, on the CPU: planes in and out, packed inside; one frame at a time.

    Args:
        run: Gives the planar graph's output for its inputs, by name.
    """

    def __init__(
        self,
        backend: BackendName,
        style: Style,
        size: Size,
        color: Color,
        layout: graph.Layout,
        run: Callable[[Feeds], Any],
    ) -> None:
        self.backend, self.precision, self.device = backend, "f16", f"CPU, {layout}"
        self.size, self.color, self.in_flight = size, color, 1
        self._layout, self._run = layout, run
        self._layer = style.layer(size, color)
        shapes = graph.planar_shapes(size, self._layer.channels)
        self._feeds: Feeds = {name: np.zeros(shape, np.uint8) for name, shape in shapes.items()}
        self._small = graph.color_inputs(color)
        self._done: deque[Frame] = deque()

    def submit(self, frame: Frame, controls: Controls = Controls()) -> None:
        """See ``Engine``."""
        planes = graph.planes_in(self._feeds[graph.SOURCE], self._layout)
        for source, target in zip(frame.planes, planes, strict=True):
            height, width = (extra - side for extra, side in zip(target.shape, source.shape, strict=True))
            target[:] = np.pad(source, ((0, height), (0, width)), mode="edge")
        self._layer.lay(frame, self._feeds[graph.CANVAS][0])
        strength = {graph.STRENGTH: graph.strength_of(controls.luma, controls.chroma)}
        stylized = self._run({**self._feeds, **self._small, **strength})
        sides = (self.size, self.size.chroma, self.size.chroma)
        found = graph.planes_in(stylized, self._layout)
        cropped = (plane[: side.height, : side.width] for plane, side in zip(found, sides, strict=True))
        self._done.append(frame.with_planes(Planes(*cropped)))

    def next(self) -> Frame:
        """See ``Engine``."""
        return self._done.popleft()

    def close(self) -> None:
        """See ``Engine``."""


def graph_of_tensorrt(style: Style, size: Size, color: Color, layout: graph.Layout) -> Engine:
    """Open the graph that TensorRT compiles, in ONNX Runtime, which keeps activations in float32 on a CPU."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    model = graph.planar(style.trunk, size, layout=layout).SerializeToString()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    run = lambda feeds: session.run([graph.STYLIZED], feeds)[0]  # noqa: E731
    return PlanarOnCpu("onnxruntime", style, size, color, layout, run)


def module_of_cuda(style: Style, size: Size, color: Color) -> Engine:
    """Open the module that torch runs on CUDA, on the CPU: every activation is rounded to float16."""
    import torch

    from rtstyle.backends.torch import PlanarGenerator, generator_of

    module = PlanarGenerator(generator_of(style.trunk.weights).half(), torch.float16)

    @torch.inference_mode()
    def run(feeds: Feeds) -> NDArray[Any]:
        return np.asarray(module(**{name: torch.from_numpy(array) for name, array in feeds.items()}).numpy())

    return PlanarOnCpu("torch", style, size, color, "i420", run)


Opener = Callable[[], Engine]


def contenders(style: Style, size: Size, color: Color) -> list[tuple[str, str, Opener]]:
    """Return every engine there is: backend, precision, and what opens it."""

    def opener(backend: BackendName, precision: Precision, device: str | None) -> Opener:
        return lambda: open_engine(style, size, color, backend=backend, precision=precision, device=device)

    found: list[tuple[str, str, Opener]] = []
    for backend, precisions in PRECISIONS.items():
        places: tuple[str | None, ...] = ("cpu", "cuda") if backend == "torch" else (None,)
        for place in places:
            label = f"{backend} on {place}" if place else backend
            able = [p for p in precisions if (backend, place, p) != ("torch", "cpu", "f16")]
            found += [(label, precision, opener(backend, precision, place)) for precision in able]
    layouts: tuple[graph.Layout, ...] = ("i420", "nv12")
    for layout in layouts:
        found.append((f"graph of tensorrt, {layout}", "f16", partial(graph_of_tensorrt, style, size, color, layout)))
    found.append(("module of torch on cuda, on cpu", "f16", partial(module_of_cuda, style, size, color)))
    return found


def measure(label: str, precision: str, opener: Opener, frames: Sequence[Frame], reference: list[Planes]) -> Row:
    """Run an engine over the frames and compare it to the reference."""
    try:
        with opener() as engine:
            ours = [frame.planes for frame in engine.stylize(frames)]
            kept = [frame.planes for frame in engine.stylize(frames[:2], Controls(0, 0))]
            untouched = difference(kept, [frame.planes for frame in frames[:2]]).largest == 0
            ms, cpu_ms = _time(engine, frames)
            found: Difference = difference(ours, reference)
            return Row(label, precision, engine.device, **asdict(found), untouched=untouched, ms=ms, cpu_ms=cpu_ms)
    except (ImportError, RtstyleError) as error:
        reason = str(error).rpartition("; ")[2].removeprefix(f"{label.split()[0]}: ")
        return Row(label, precision, not_run=reason)


def _time(engine: Engine, frames: Sequence[Frame]) -> tuple[float, float]:
    """Return milliseconds of wall and of CPU time per frame, each the least of three rounds."""
    wall, cpu = [], []
    for _ in range(3):
        begun, spent = time.perf_counter(), time.process_time()
        for _ in engine.stylize(frames):
            pass
        wall.append(time.perf_counter() - begun)
        cpu.append(time.process_time() - spent)
    return round(1000 * min(wall) / len(frames), 2), round(1000 * min(cpu) / len(frames), 2)


def compare(style: Style, frames: Sequence[Frame]) -> list[Row]:
    """Compare all engines on frames of one size and color; the reference is torch in float32 on the CPU."""
    size, color = frames[0].size, frames[0].color
    with open_engine(style, size, color, backend="torch", precision="f32", device="cpu") as engine:
        reference = [frame.planes for frame in engine.stylize(frames)]
    return [measure(*each, frames, reference) for each in contenders(style, size, color)]


def table(rows: Sequence[Row]) -> str:
    """Write rows as a Markdown table."""
    heads = ("engine", "precision", "largest", "mean", "PSNR", "strength 0", "ms a frame", "CPU-ms")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        if row.not_run:
            lines.append(f"| {row.backend} | {row.precision} | not run: {row.not_run} | | | | | |")
            continue
        psnr = "equal" if row.psnr_db is None else f"{row.psnr_db:.1f} dB"
        kept = "bit for bit" if row.untouched else "CHANGED"
        figures = f"{row.largest} | {row.mean:.3f} | {psnr} | {kept} | {row.ms:.1f} | {row.cpu_ms:.1f}"
        lines.append(f"| {row.backend} | {row.precision} | {figures} |")
    return "\n".join(lines)


def read_frames(clip: Path, count: int, step: int) -> list[Frame]:
    """Read frames of a clip, ``step`` apart, with the canvas elsewhere in each."""
    found = []
    with VideoReader(clip) as reader:
        for number, frame in enumerate(reader):
            if number % step == 0:
                planes = Planes(*(plane.copy() for plane in frame.planes))
                found.append(replace(frame, planes=planes, canvas=(37 * number, 11 * number)))
            if len(found) == count:
                break
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m engines.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--style", default="sketch", help="name, folder or blend (default: %(default)s)")
    parser.add_argument("--clip", type=Path, default=ROOT / "demo" / "big_buck_bunny.mp4", help="frames to compare on")
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--step", type=int, default=12, help="frames apart (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    args = parser.parse_args()
    frames = read_frames(args.clip, args.frames, args.step)
    rows = compare(load_style(args.style), frames)
    what = f"{len(frames)} frames of {args.clip.name}, {frames[0].size}, style {args.style}"
    print(f"{what}; levels of 255 to torch float32\n")
    print(table(rows))
    if args.json:
        report: dict[str, Any] = {
            "rtstyle": __version__,
            "machine": platform.platform(),
            "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "style": args.style,
            "clip": args.clip.name,
            "size": str(frames[0].size),
            "frames": len(frames),
            "rows": [asdict(row) for row in rows],
        }
        args.json.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()

"""Make styles ready for int8: ``python -m engines.quantize STYLE_FOLDER... --photos FOLDER``

Runs each style's float32 network over crops of photos, lit and scaled as the trainer does, and writes into its
int8.json how far every tensor goes that int8 rounds to 8 bits. Weights are rounded when an engine is opened, since
the stream's color is folded into them. Every 17th photo is left out, as in training, and on some of those the result
is compared to float32: what is further off than the gate's bound is not written.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from rtstyle import graph
from rtstyle.backends import BackendName, open_engine
from rtstyle.backends.accuracy import BOUNDS, Difference, difference
from rtstyle.canvas import TILE
from rtstyle.canvas.layer import NoiseLayer
from rtstyle.errors import RtstyleError, StyleFormatError
from rtstyle.frame import Color, Frame, Packing, Planes, Size, planes_from_rgb
from rtstyle.graph import Gains, Ranges, Trunk
from rtstyle.inference import the_core
from rtstyle.style import Style, load_style
from rtstyle.style_folder import INT8_FILE, trunk_digest
from rtstyle.universal import making
from train.data import list_pictures, load_photos, photo_crop

UNIVERSAL = Path(making.__file__).parent
"""Where the network is that all images share that are painted after."""

CROPS, SIDE = 200, 256
"""How many crops are run, and their width and height in pixels."""

HELD_OUT = 17
"""Every so-manyth photo is for comparing only; as in train/trainer.py."""

_COLOR = Color("bt601", full_range=True)
_VIEW = Size(640, 480)


def frame_of(planes: Planes, rng: np.random.Generator, color: Color = _COLOR) -> Frame:
    """Make a frame that lies anywhere on the canvas."""
    x, y = rng.integers(TILE, size=2)
    return Frame(planes, 0, Fraction(1, 25), color, (int(x), int(y)))


def crops_of(paths: Sequence[Path], count: int = CROPS, seed: int = 0) -> list[Frame]:
    """Cut crops from photos, each from another as long as there are enough, anywhere on the canvas."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(paths), min(count, len(paths)), replace=False)
    photos = load_photos([paths[number] for number in chosen], SIDE)
    frames = []
    for number in range(count):
        rgb = photo_crop(photos[number % len(photos) :][:1], SIDE, rng)
        frames.append(frame_of(planes_from_rgb(np.rint(255 * rgb).astype(np.uint8), _COLOR), rng))
    return frames


def views_of(paths: Sequence[Path], count: int) -> list[Frame]:
    """Return photos, evenly chosen, as frames of one size."""
    rng = np.random.default_rng(1)
    photos = load_photos(paths[:: max(1, len(paths) // count)][:count], 1)
    size = (_VIEW.width, _VIEW.height)
    resized = (np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.uint8) for photo in photos)
    return [frame_of(planes_from_rgb(rgb, _COLOR), rng) for rgb in resized]


Extremes = dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
"""By tensor: the least and the largest value of each channel in each frame, shapes (frames, channels)."""


def measure_extremes(trunk: Trunk, frames: Sequence[Frame], style: Style | None = None) -> Extremes:
    """Run a float32 network over frames of one size and color and watch its ``graph.quantized_tensors``.

    Args:
        style: Whose canvas lies below the frames; None: it is of noise.
    """
    names = graph.quantized_tensors(trunk)
    packing = Packing(frames[0].size)
    noise = NoiseLayer(packing.rows, packing.columns)
    layer = style.layer(frames[0].size, frames[0].color, joined=True) if style else noise
    model = graph.deployed(trunk, frames[0].color, packing.rows, packing.columns)
    for name in names:
        for kind in ("ReduceMin", "ReduceMax"):
            model.graph.node.append(helper.make_node(kind, [name], [f"{name}_{kind}"], axes=[0, 2, 3], keepdims=0))
            model.graph.output.append(helper.make_tensor_value_info(f"{name}_{kind}", TensorProto.FLOAT, None))
    core = the_core()
    network = core.compile_model(core.read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    picture = np.empty((1, packing.rows, packing.columns, graph.PLANE_CHANNELS), np.uint8)
    canvas = np.empty((1, packing.rows, packing.columns, layer.channels), np.uint8)
    seen = []
    for frame in frames:
        packing.pack(frame.planes, picture[0])
        layer.lay(frame, canvas[0])
        values = network({graph.SOURCE: picture, graph.CANVAS: canvas, graph.STRENGTH: graph.strength_of(1, 1)})
        seen.append({name: [values[f"{name}_{kind}"].copy() for kind in ("ReduceMin", "ReduceMax")] for name in names})
    return {
        name: (np.stack([each[name][0] for each in seen]), np.stack([each[name][1] for each in seen])) for name in names
    }


LEAST_GAIN = 1e-3
"""Of a channel that is never used."""


def gains_of(trunk: Trunk, extremes: Extremes) -> Gains:
    """Return how far each channel goes where convolutions read it, relative to the farthest.

    It is the square root: between channels that all go as far, and weights that all are as large.
    """
    reads = {node.input[1]: node.input[0] for node in trunk.model.graph.node if node.op_type == "Conv"}
    gains = {}
    for writers, readers in graph.channel_groups(trunk.weights):
        tensors = [extremes[reads[f"{reader}.weight"]] for reader in readers]
        farthest = np.max([np.maximum(-low, high).max(0) for low, high in tensors], 0)
        share = farthest / (farthest.max() or 1)  # a whole group may never be used
        gains[writers[0]] = np.sqrt(np.maximum(share, LEAST_GAIN)).astype(np.float32)
    return gains


def ranges_of(extremes: Extremes) -> Ranges:
    """Return the range that each tensor is rounded within: the least is at most 0, the largest at least 0.

    It is that of all crops. That of nine in ten has finer steps, and left pure colors in ``pencils`` at 31 dB.
    """
    return {name: (min(0.0, float(low.min())), max(0.0, float(high.max()))) for name, (low, high) in extremes.items()}


def above_what_relus_cut(trunk: Trunk, ranges: Ranges) -> Ranges:
    """Return ranges without what a ReLU makes 0 anyway, so that steps are finer and nothing is lost.

    A tensor that is only added to another, before a ReLU, needs to go no lower than the other goes high. Networks
    keep channels off with values far below that, and a channel that is always off is the more stretched when it is
    equalized: ``cartoon`` had -103 to 2.0 where -6.3 is enough, and was at 32.8 dB instead of 51.0.
    """
    nodes = trunk.model.graph.node
    made_by = {node.output[0]: node for node in nodes}
    readers = Counter(name for node in nodes for name in node.input)
    narrow = dict(ranges)
    for relu in nodes:
        if relu.op_type != "Relu" or readers[relu.input[0]] > 1 or made_by[relu.input[0]].op_type != "Add":
            continue
        one, other = made_by[relu.input[0]].input
        for name, added in ((one, other), (other, one)):
            # In 8 bits, a range with a sign is as long on both sides.
            highest = max(-ranges[added][0], ranges[added][1])
            if "DepthToSpace" in (made_by[one].op_type, made_by[other].op_type):  # whose biases are added here
                highest += max(0.0, float(trunk.weights[graph.UP_BIAS].max()))
            low, high = ranges[name]
            if readers[name] == 1:
                narrow[name] = (max(low, -highest), high)
    return narrow


def measure(trunk: Trunk, frames: Sequence[Frame], *styles: Style) -> tuple[Gains, Ranges]:
    """Return what int8 needs to know of a network: gains of channels, and ranges when these are equalized.

    Args:
        styles: Whose canvases lie below the frames, each in turn; none: it is of noise.
    """

    def extremes(network: Trunk) -> Extremes:
        found = [measure_extremes(network, frames, style) for style in styles or (None,)]
        return {
            name: (np.concatenate([each[name][0] for each in found]), np.concatenate([each[name][1] for each in found]))
            for name in found[0]
        }

    gains = gains_of(trunk, extremes(trunk))
    return gains, above_what_relus_cut(trunk, ranges_of(extremes(graph.equalized(trunk, gains))))


def write_int8(folder: Path, gains: Gains, ranges: Ranges, words: dict[str, object] | None = None) -> None:
    """Write a style's int8.json, for the trunk.onnx that is there.

    Args:
        words: Further entries that describe the network.
    """
    _write_lines(
        folder / INT8_FILE, {"trunk_sha256": trunk_digest(folder), **(words or {}), **_measured(gains, ranges)}
    )


def _measured(gains: Gains, ranges: Ranges) -> dict[str, object]:
    return {
        "ranges": {name: [float(f"{low:.6g}"), float(f"{high:.6g}")] for name, (low, high) in ranges.items()},
        "gains": {name: [float(f"{each:.6g}") for each in gain] for name, gain in gains.items()},
    }


def _write_lines(path: Path, content: dict[str, object]) -> None:
    lines = json.dumps(content, indent=1)
    lines = re.sub(r"\[\s+([^\]]*?)\s+\]", lambda found: f"[{' '.join(found[1].split())}]", lines)  # a list is a line
    path.write_text(lines + "\n", "utf-8")


def quantize_universal(images: Sequence[Path], crops: Sequence[Frame]) -> None:
    """Measure the network that all images share below the canvases of some, and write its int8.json.

    Whatever the image, it is the same but for its last layers, and these only read what is measured here.
    """
    with tempfile.TemporaryDirectory() as name:
        styles: list[Style] = []
        for number, image in enumerate(images):
            folder = Path(name, str(number))
            making.make_style(image, folder)
            styles.append(load_style(folder))
        _write_lines(UNIVERSAL / INT8_FILE, _measured(*measure(styles[0].trunk, crops, *styles)))


@dataclass(frozen=True)
class Accuracy:
    """How far int8 is from float32."""

    luma: Difference
    all: Difference

    def passed(self) -> bool:
        """Return whether it is within the gate's bound."""
        return BOUNDS["int8"].holds(self.luma) and BOUNDS["int8"].holds(self.all)

    def __str__(self) -> str:
        return f"luma {self.luma.psnr_db} dB, all samples {self.all.psnr_db} dB, at most {self.all.largest} levels"


def accuracy(style: Style, frames: Sequence[Frame], backend: BackendName = "openvino") -> Accuracy:
    """Compare a style in int8 to itself in float32."""
    results = []
    for precision in ("int8", "f32"):
        size, color = frames[0].size, frames[0].color
        with open_engine(style, size, color, backend=backend, precision=precision) as engine:
            results.append([frame.planes for frame in engine.stylize(frames)])
    ours, theirs = results
    luma = [[[planes.y] for planes in planes_of] for planes_of in results]
    return Accuracy(difference(*luma), difference(ours, theirs))


def quantize(folder: Path, crops: Sequence[Frame], views: Sequence[Frame]) -> Accuracy:
    """Measure a style on crops, compare int8 to float32 on views, and write its int8.json.

    Raises:
        StyleFormatError: int8 is too far from float32, so nothing was written; or the folder is no style.
    """
    style = load_style(folder)
    gains, ranges = measure(style.trunk, crops, style)
    with tempfile.TemporaryDirectory() as name:
        trial = Path(name)
        for file in ("style.json", "trunk.onnx"):
            shutil.copy(folder / file, trial)
        write_int8(trial, gains, ranges)
        found = accuracy(load_style(trial), views)
    if not found.passed():
        raise StyleFormatError(f"int8 is too far from float32 for {folder}: {found}; allowed are {BOUNDS['int8']}")
    words: dict[str, object] = {
        "measured_on": f"{len(crops)} crops of photos",
        "compared_on": f"{len(views)} other photos",
        "luma_db": found.luma.psnr_db,
        "all_db": found.all.psnr_db,
    }
    write_int8(folder, gains, ranges, words)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m engines.quantize", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("styles", type=Path, nargs="*", metavar="STYLE_FOLDER")
    parser.add_argument(
        "--universal",
        type=Path,
        nargs="+",
        default=[],
        metavar="IMAGE",
        help="of the network of --style IMAGE, below these",
    )
    parser.add_argument("--photos", type=Path, required=True, metavar="FOLDER", help="50 photos or more, of all kinds")
    parser.add_argument("--crops", type=int, default=CROPS, help="to measure on (default: %(default)s)")
    args = parser.parse_args()
    if not args.styles and not args.universal:
        parser.error("name a style folder, or images with --universal")
    paths = list_pictures(args.photos)
    calibration = [path for number, path in enumerate(paths) if number % HELD_OUT]
    if not calibration or args.crops < 1:
        print(f"error: {args.photos} holds {len(paths)} photos; some dozens are needed, and a crop", file=sys.stderr)
        return 1
    crops, views = crops_of(calibration, args.crops), views_of(paths[::HELD_OUT], 12)
    failed = 0
    if args.universal:
        quantize_universal(args.universal, crops)
    for folder in args.styles:
        begun = time.perf_counter()
        try:
            found = quantize(folder, crops, views)
        except (RtstyleError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            failed = 1
        else:
            print(f"{folder}: {found}; {time.perf_counter() - begun:.1f} s", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())

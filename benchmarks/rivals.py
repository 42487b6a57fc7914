"""What a user would pick instead: the classic transformer net, OpenCV's filters, and any function that you name.

All of them take and give RGB images (height, width, 3), uint8, one at a time, as their own examples do.
"""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Picture = NDArray[np.uint8]
Stylizer = Callable[[Picture], Picture]


class NotHere(Exception):
    """A rival cannot run on this machine, for the stated reason."""


def classic_net() -> onnx.ModelProto:
    """Build the transformer net of Johnson, Alahi and Fei-Fei 2016 with instance normalisation, 1.68 million weights.

    9x9 to 32 channels, two strided 3x3 to 64 and 128, five residual blocks, two nearest-neighbour enlargements with
    3x3, and 9x9 to RGB; reflected borders. Weights are random, which changes nothing of its speed.
    Input ``x`` and output ``y``: (1, 3, height, width), float32, any size that is a multiple of 4.
    """
    rng = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    arrays: dict[str, NDArray[Any]] = {"twice": np.array([1, 1, 2, 2], np.float32)}
    last = "x"

    def add(kind: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{kind}_{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def convolution(source: str, given: int, made: int, side: int, stride: int = 1) -> str:
        edge = side // 2
        arrays[f"pads{side}"] = np.array([0, 0, edge, edge] * 2, np.int64)
        name = f"w{len(nodes)}"
        arrays[name] = rng.standard_normal((made, given, side, side), np.float32) / np.float32(np.sqrt(given) * side)
        padded = add("Pad", [source, f"pads{side}"], mode="reflect")
        return add("Conv", [padded, name], strides=[stride, stride], kernel_shape=[side, side])

    def normalised(source: str, channels: int) -> str:
        arrays[f"one{channels}"] = np.ones(channels, np.float32)
        arrays[f"nil{channels}"] = np.zeros(channels, np.float32)
        return add("InstanceNormalization", [source, f"one{channels}", f"nil{channels}"])

    for given, made, side, stride in ((3, 32, 9, 1), (32, 64, 3, 2), (64, 128, 3, 2)):
        last = add("Relu", [normalised(convolution(last, given, made, side, stride), made)])
    for _ in range(5):
        inner = add("Relu", [normalised(convolution(last, 128, 128, 3), 128)])
        last = add("Add", [last, normalised(convolution(inner, 128, 128, 3), 128)])
    for given, made in ((128, 64), (64, 32)):
        wide = add("Resize", [last, "", "twice"], mode="nearest")
        last = add("Relu", [normalised(convolution(wide, given, made, 3), made)])
    last = convolution(last, 32, 3, 9)
    nodes.append(helper.make_node("Identity", [last], ["y"]))
    value = helper.make_tensor_value_info
    shape = (1, 3, "height", "width")
    graph = helper.make_graph(
        nodes, "classic", [value("x", TensorProto.FLOAT, shape)], [value("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _around(run: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Stylizer:
    """RGB to the net's floats and back, as its users do it."""

    def stylize(picture: Picture) -> Picture:
        planes = np.ascontiguousarray(picture.transpose(2, 0, 1)[None], np.float32)
        return np.ascontiguousarray(np.clip(run(planes)[0].transpose(1, 2, 0), 0, 255).astype(np.uint8))

    return stylize


def classic_onnxruntime() -> Stylizer:
    """The classic net, float32, on ONNX Runtime with its own choice of threads."""
    try:
        import onnxruntime
    except ImportError:
        raise NotHere("onnxruntime is not installed") from None
    session = onnxruntime.InferenceSession(classic_net().SerializeToString(), providers=["CPUExecutionProvider"])
    return _around(lambda planes: session.run(None, {"x": planes})[0])


def classic_openvino() -> Stylizer:
    """The classic net on OpenVINO, in the precision that it chooses itself (bf16 where the CPU has it)."""
    import openvino as ov

    core = ov.Core()
    compiled = core.compile_model(core.read_model(classic_net().SerializeToString()), "CPU")
    return _around(lambda planes: compiled({"x": planes})["y"])


def _opencv(name: str) -> Callable[[], Stylizer]:
    def made() -> Stylizer:
        import cv2

        if name == "stylization":
            return lambda picture: np.asarray(cv2.stylization(picture), np.uint8)
        return lambda picture: np.asarray(cv2.pencilSketch(picture)[1], np.uint8)

    return made


BUILT_IN: dict[str, Callable[[], Stylizer]] = {
    "classic net, onnxruntime f32": classic_onnxruntime,
    "classic net, openvino": classic_openvino,
    "cv2.stylization": _opencv("stylization"),
    "cv2.pencilSketch": _opencv("pencilSketch"),
}


def named(words: str) -> Callable[[], Stylizer]:
    """Find ``package.module:function``, which takes and gives an RGB image, uint8."""

    def made() -> Stylizer:
        module, _, function = words.partition(":")
        try:
            found: Stylizer = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError, ValueError) as error:
            raise NotHere(f"{words} is no package.module:function that can be imported: {error}") from None
        return found

    return made


def pictures_of(clip: Path, count: int) -> list[Picture]:
    """Return the first images of a clip, RGB."""
    with av.open(str(clip)) as container:
        frames = zip(container.decode(video=0), range(count), strict=False)
        return [frame.to_ndarray(format="rgb24") for frame, _ in frames]


def time_model(stylize: Stylizer, pictures: list[Picture], seconds: float) -> tuple[float, float, int]:
    """Run images through a rival for about so long, one at least; return seconds, CPU-seconds and frames."""
    begun, cpu, done = time.perf_counter(), time.process_time(), 0
    while done == 0 or time.perf_counter() - begun < seconds:
        stylize(pictures[done % len(pictures)])
        done += 1
    return time.perf_counter() - begun, time.process_time() - cpu, done


def file_to_file(stylize: Stylizer, clip: Path, target: Path, preset: str, count: int) -> float:
    """Stylize a clip as most scripts do - decode, RGB, stylize, encode, one after the other - and return its FPS."""
    begun, done = time.perf_counter(), 0
    with av.open(str(clip)) as source, av.open(str(target), "w") as out:
        stream: Any = None
        for picture in _decoded(source, count):
            result = av.VideoFrame.from_ndarray(stylize(picture), format="rgb24")
            if stream is None:
                rate = source.streams.video[0].average_rate or Fraction(25)
                stream = out.add_stream("libx264", rate=rate, options={"preset": preset, "crf": "18"})
                stream.width, stream.height, stream.pix_fmt = result.width, result.height, "yuv420p"
            out.mux(stream.encode(result))
            done += 1
        if stream is not None:
            out.mux(stream.encode(None))
    return done / (time.perf_counter() - begun)


def _decoded(container: Any, count: int) -> Iterator[Picture]:
    for frame, _ in zip(container.decode(video=0), range(count), strict=False):
        yield frame.to_ndarray(format="rgb24")


def measure(
    clip: Path, folder: Path, *, rivals: list[str], seconds: float, rounds: int, preset: str, count: int
) -> list[dict[str, Any]]:
    """Measure every rival on a clip: model alone (rounds interleaved, medians) and file to file (once)."""
    pictures = pictures_of(clip, 4)
    rows: list[dict[str, Any]] = []
    running: dict[str, Stylizer] = {}
    for name, make in (BUILT_IN | {words: named(words) for words in rivals}).items():
        try:
            running[name] = make()
            running[name](pictures[0])
        except NotHere as reason:
            rows.append({"rival": name, "not_run": str(reason)})
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in running}
    for _ in range(rounds):
        for name, stylize in running.items():
            wall, cpu, done = time_model(stylize, pictures, seconds)
            samples[name].append((done / wall, 1000 * cpu / done))
    for name, stylize in running.items():
        fps = [sample[0] for sample in samples[name]]
        rows.append(
            {
                "rival": name,
                "fps": round(statistics.median(fps), 3),
                "fps_spread": [round(min(fps), 3), round(max(fps), 3)],
                "cpu_ms": round(statistics.median(sample[1] for sample in samples[name]), 1),
                "file_to_file_fps": round(file_to_file(stylize, clip, folder / "rival.mp4", preset, count), 3),
            }
        )
    return rows

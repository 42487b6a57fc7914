"""What this machine is and how busy it is: cores, instruction sets, load, and what its cores and memory reach."""

from __future__ import annotations

import os
import platform
import re
import statistics
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from rtstyle.backends.openvino import processor
from rtstyle.cores import cores
from rtstyle.doctor import instruction_sets

BUSY = 0.3
"""Cores that others may use before figures are worth little."""

_SIDE = 1024


def describe() -> dict[str, Any]:
    """Return what figures depend on: processor, what it computes natively, cap on its instructions, system."""
    name, able = processor()
    return {
        "processor": name,
        "cores": cores(),
        "instruction_sets": instruction_sets(),
        "isa_cap": os.environ.get("ONEDNN_MAX_CPU_ISA"),
        "openvino_computes": able,
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
    }


def installed_mb() -> dict[str, int]:
    """Return the megabytes on disk of what ``pip install rtstyle`` brings, package by package, the largest first.

    Empty where rtstyle is run without being installed.
    """
    waiting, sizes = ["rtstyle"], {}
    while waiting:
        name = waiting.pop()
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        paths = [Path(str(file.locate())) for file in distribution.files or ()]
        sizes[name] = sum(path.stat().st_size for path in paths if path.is_file())
        for requirement in distribution.requires or ():
            needed = re.split(r"[^A-Za-z0-9_.-]", requirement, maxsplit=1)[0].lower()
            if ";" not in requirement and needed not in sizes:
                waiting.append(needed)
    if "rtstyle" not in sizes:
        return {}
    ordered = sorted(sizes.items(), key=lambda item: -item[1])
    return {"all": round(sum(sizes.values()) / 1e6)} | {name: round(size / 1e6) for name, size in ordered if size > 1e6}


class Others:
    """Measures how many cores other processes use, from its making or the last call of ``cores`` on; Linux only."""

    def __init__(self) -> None:
        self._before = self._look()

    def _look(self) -> tuple[float, float, float]:
        """Seconds: busy, of all cores together; own, with children that ended; wall."""
        try:
            ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        except (OSError, ValueError):
            return float("nan"), 0.0, time.perf_counter()
        idle = ticks[3] + ticks[4]
        own = sum(os.times()[:4])
        return (sum(ticks) - idle) / os.sysconf("SC_CLK_TCK"), own, time.perf_counter()

    def cores(self) -> float:
        """Return the cores in use by others since the last look; NaN where the system does not tell."""
        now, before = self._look(), self._before
        self._before = now
        busy, own, wall = (b - a for a, b in zip(before, now, strict=True))
        return round(max(0.0, busy - own) / max(wall, 1e-9), 2)


def busy_now() -> float:
    """Return the cores that others use, over half a second."""
    others = Others()
    time.sleep(0.5)
    return others.cores()


def matmul_peak(precision: str) -> float:
    """Measure the 1e9 operations a second of dense matrix products in OpenVINO on all cores: a network's roof.

    Args:
        precision: ``bf16`` or ``f32``. Int8 has no such plain product; its roof is not measured.

    Raises:
        RuntimeError: This CPU, or what ONEDNN_MAX_CPU_ISA leaves of it, has none in that precision.
    """
    import openvino as ov

    names = [f"w{layer}" for layer in range(4)]
    rng = np.random.default_rng(0)
    weights = [
        onnx.numpy_helper.from_array(rng.standard_normal((_SIDE, _SIDE), np.float32) / np.float32(32), name)
        for name in names
    ]
    nodes = [
        helper.make_node("MatMul", ["x" if not layer else f"y{layer - 1}", name], [f"y{layer}"])
        for layer, name in enumerate(names)
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "peak", [value("x", TensorProto.FLOAT, (_SIDE, _SIDE))],
        [value("y3", TensorProto.FLOAT, (_SIDE, _SIDE))], weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    core = ov.Core()
    compiled = core.compile_model(
        core.read_model(model.SerializeToString()),
        "CPU",
        {"INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": cores(), "INFERENCE_NUM_THREADS": cores()},
    )
    requests = [compiled.create_infer_request() for _ in range(cores())]
    data = rng.standard_normal((_SIDE, _SIDE), np.float32)
    work = 2 * _SIDE**3 * len(names) * len(requests)
    reached = []
    for _ in range(7):
        begun = time.perf_counter()
        for request in requests:
            request.start_async({"x": data})
        for request in requests:
            request.wait()
        reached.append(work / (time.perf_counter() - begun) / 1e9)
    return round(statistics.median(reached[2:]), 1)


def copy_bandwidth() -> float:
    """Measure GB/s, read plus written, that one thread copies in memory (64 MB at a time)."""
    source = np.ones(64 << 20, np.uint8)
    target = np.empty_like(source)
    reached = []
    for _ in range(7):
        begun = time.perf_counter()
        np.copyto(target, source)
        reached.append(2 * source.nbytes / (time.perf_counter() - begun) / 1e9)
    return round(statistics.median(reached[2:]), 1)


def operations(model: onnx.ModelProto, shapes: dict[str, tuple[int, ...]]) -> float:
    """Count 1e9 operations (a multiplication and an addition are two) of a model's convolutions.

    Args:
        shapes: Of its inputs.
    """
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    del sized.graph.value_info[:]
    for value in sized.graph.input:
        if value.name in shapes:
            value.type.tensor_type.ClearField("shape")
            for side in shapes[value.name]:
                value.type.tensor_type.shape.dim.add().dim_value = side
    for value in sized.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(sized, data_prop=True).graph
    known = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.input, *inferred.output)
    }
    weights = {array.name: list(array.dims) for array in inferred.initializer}
    total = 0.0
    for node in inferred.node:
        if node.op_type == "Conv":
            total += 2 * np.prod(weights[node.input[1]]) * np.prod(known[node.output[0]][2:])
    return float(total) / 1e9

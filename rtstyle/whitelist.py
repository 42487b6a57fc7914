"""The networks that a style may bring. A trunk.onnx is a stranger's file, and ONNX is a language with loops and files.

What runs must be the trunk and cost what the trunk costs, so anything that is not in the two tables is refused:
``NODES`` names the operators and the values of their attributes, ``weight_shapes`` the weights. Who gives the
generator a new form extends these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

PLANE_CHANNELS, CANVAS_CHANNELS, STEERED_CHANNELS, GATES = 24, 16, 40, 4
"""Channels of a cell of a packed frame, of a canvas of noise, of a steered canvas, and of the gate above one."""

_PAIR, _SIDES = ([1, 1],), ([0, 0, 0, 0], [1, 1, 1, 1])

NODES: Mapping[str, Mapping[str, tuple[object, ...]]] = {
    "Concat": {"axis": (1,)},
    "Conv": {
        "dilations": _PAIR,
        "group": (1,),
        "kernel_shape": ([1, 1], [3, 3]),
        "pads": _SIDES,
        "strides": ([1, 1], [2, 2]),
    },
    "Relu": {},
    "Add": {},
    "DepthToSpace": {"blocksize": (2,), "mode": (b"CRD",)},
}
"""Operators, the attributes that each may have, and the values that these may have."""

_OPSETS, _CHANNELS, _BLOCKS, _NODES = range(13, 24), 512, 32, 256

_WORDS = 1 << 18
"""Bytes of the largest trunk.onnx without its weights. Messages of 2 bytes take a hundred times as many in memory."""


def weight_shapes(channels: int, deep: int, blocks: int, *, steered: bool = False) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of all weights of a trunk.

    Args:
        channels, deep: At 1/4 and at 1/8 of the frame's width.
        blocks: Residual blocks.
        steered: It draws on a steered canvas and has a gate; else on one of noise.
    """
    convolutions = {
        "stem.conv": (channels, PLANE_CHANNELS + (STEERED_CHANNELS if steered else CANVAS_CHANNELS), 3),
        "down.conv": (deep, channels, 3),
        **{f"blocks.{i}.{which}.conv": (deep, deep, 3) for i in range(blocks) for which in ("first", "second")},
        "up.conv": (4 * channels, deep, 1),
        "fuse.conv": (channels, channels, 3),
        "tail": (PLANE_CHANNELS, channels, 3),
        "skip": (PLANE_CHANNELS, PLANE_CHANNELS, 1),
        **({"gate": (GATES, channels, 3)} if steered else {}),
    }
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (outputs, inputs, kernel) in convolutions.items():
        shapes[f"{name}.weight"] = (outputs, inputs, kernel, kernel)
        if name != "skip":
            shapes[f"{name}.bias"] = (outputs,)
    return shapes


def parse_trunk(data: bytes) -> tuple[onnx.ModelProto, dict[str, NDArray[np.float32]]]:
    """Parse the bytes of a trunk.onnx into its model and its weights by name.

    Raises:
        ValueError: It is damaged, or no trunk; the message is one line.
    """
    _refuse_bombs(data)
    try:
        model = onnx.ModelProto.FromString(data)
        _check_model(model)
        weights = {tensor.name: _array(tensor) for tensor in model.graph.initializer}
        _check_weights(model, weights)
        onnx.checker.check_model(model)
        _check_shapes(model)
    except Exception as error:  # protobuf and onnx raise many kinds; all mean the same here
        raise ValueError(" ".join(str(error).split())[:300] or type(error).__name__) from error
    return model, weights


def _refuse_bombs(data: bytes) -> None:
    """Look at the messages in a file before protobuf makes objects of them.

    Raises:
        ValueError: There are too many, or it is no protobuf file.
    """
    words, tensors = len(data), 0
    for field, begin, end in _messages(data, 0, len(data)):
        if field != _GRAPH:
            continue
        for inner, first, last in _messages(data, begin, end):
            if inner == _INITIALIZER:
                tensors += 1
                words -= max(
                    (stop - start for f, start, stop in _messages(data, first, last) if f in _NUMBERS), default=0
                )
    if words > _WORDS or tensors > 1000:
        raise ValueError(f"{words} bytes of {len(data)} are no weights, which no trunk needs")


_GRAPH, _INITIALIZER, _NUMBERS = 7, 5, (4, 9)
"""Numbers of fields in onnx.proto: ModelProto.graph, GraphProto.initializer, TensorProto.float_data and raw_data."""


def _messages(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, begin and end of every field of a protobuf message that has a length.

    Raises:
        ValueError: The bytes are no message, or have more fields than any trunk's.
    """
    for _ in range(4000):
        if at >= end:
            return
        key, at = _varint(data, at, end)
        kind, begin = key & 7, at
        if kind == 0:
            _, at = _varint(data, at, end)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        elif kind == 2:
            length, begin = _varint(data, at, end)
            at = begin + length
        else:
            raise ValueError("it is no ONNX file")
        if at > end:
            raise ValueError("it is cut off, or no ONNX file")
        if kind == 2:
            yield key >> 3, begin, at
    raise ValueError("it has more parts than any trunk")


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        value |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return value, at
    raise ValueError("it is cut off, or no ONNX file")


def _check_model(model: onnx.ModelProto) -> None:
    graph = model.graph
    opsets = [(opset.domain, opset.version) for opset in model.opset_import]
    if len(opsets) != 1 or opsets[0][0] not in ("", "ai.onnx") or opsets[0][1] not in _OPSETS:
        raise ValueError(f"its operators are {opsets}, not ONNX {_OPSETS[0]} to {_OPSETS[-1]}")
    if model.functions or model.training_info or graph.sparse_initializer or len(graph.node) > _NODES:
        raise ValueError("it has functions, sparse weights or more nodes than any trunk")
    names = [value.name for value in (*graph.input, *graph.output)]
    steered = any(tensor.name == "gate.weight" for tensor in graph.initializer)
    if names != (["x", "z", "s", "g"] if steered else ["x", "z", "s"]):
        raise ValueError(f"it is no trunk of rtstyle: inputs and outputs are {', '.join(names)[:100] or 'none'}")
    weights = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        _check_node(node, weights)


def _check_node(node: onnx.NodeProto, weights: set[str]) -> None:
    allowed = NODES.get(node.op_type)
    if allowed is None or node.domain not in ("", "ai.onnx"):
        raise ValueError(f"it has a node {node.op_type[:40]!r}, and a trunk has only {', '.join(NODES)}")
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        if list(value) if isinstance(value, tuple) else value not in allowed.get(attribute.name, ()):
            raise ValueError(f"a {node.op_type} has {attribute.name[:40]} = {value!r:.60}, which none of a trunk has")
    if len(node.output) != 1:
        raise ValueError(f"a {node.op_type} has {len(node.output)} outputs")
    if node.op_type == "Concat" and list(node.input) != ["x", "z"]:
        raise ValueError("a Concat joins something else than x and z")
    read = list(node.input[1:]) if node.op_type == "Conv" else []
    name = read[0].removesuffix(".weight") if read else ""
    if node.op_type == "Conv" and read not in ([f"{name}.weight"], [f"{name}.weight", f"{name}.bias"]):
        raise ValueError(f"a Conv has the weights {', '.join(read)[:100] or 'of no name'}")
    if weights.intersection(node.input) != set(read):
        raise ValueError(f"a {node.op_type} reads weights that are not its own or not there")


def _array(tensor: onnx.TensorProto) -> NDArray[np.float32]:
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        raise ValueError(f"the weights {tensor.name[:60]!r} are to be read from another file, which rtstyle never does")
    if tensor.data_type != TensorProto.FLOAT:
        raise ValueError(f"the weights {tensor.name[:60]!r} are not float32")
    array = np.array(numpy_helper.to_array(tensor), np.float32)
    if not np.isfinite(array).all():
        raise ValueError(f"the weights {tensor.name[:60]!r} hold NaN or infinite numbers")
    return array


def _check_weights(model: onnx.ModelProto, weights: Mapping[str, NDArray[np.float32]]) -> None:
    if len(weights) != len(model.graph.initializer):
        raise ValueError("two weights have one name")
    shapes = {name: array.shape for name, array in weights.items()}
    tail, down = shapes.get("tail.weight", ()), shapes.get("down.conv.weight", ())
    if len(tail) != 4 or len(down) != 4:
        raise ValueError("it is no trunk of rtstyle: the weights tail.weight or down.conv.weight are missing")
    blocks = sum(name.endswith(".first.conv.weight") for name in shapes)
    if not (0 < tail[1] <= _CHANNELS and 0 < down[0] <= _CHANNELS and 0 < blocks <= _BLOCKS):
        raise ValueError(f"it has {tail[1]} and {down[0]} channels and {blocks} blocks, which no trunk has")
    wanted = weight_shapes(tail[1], down[0], blocks, steered="gate.weight" in shapes)
    if shapes != wanted:
        wrong = sorted(name for name in {*shapes, *wanted} if shapes.get(name) != wanted.get(name))
        raise ValueError(f"its weights are not those of a trunk: {', '.join(wrong)[:200]}")
    used = sorted(name for node in model.graph.node for name in node.input if name in weights)
    if used != sorted(weights):
        raise ValueError("a weight is used twice or not at all")


def _check_shapes(model: onnx.ModelProto) -> None:
    """Follow the shapes through the graph for one size; they must end where they began."""
    trial = onnx.ModelProto()
    trial.CopyFrom(model)
    del trial.graph.value_info[:]
    inputs = (PLANE_CHANNELS, STEERED_CHANNELS if len(model.graph.output) > 1 else CANVAS_CHANNELS)
    for value, channels in zip(trial.graph.input, inputs, strict=True):
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, (1, channels, 16, 24)))
    for value in trial.graph.output:
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, None))
    inferred = onnx.shape_inference.infer_shapes(trial, check_type=True, strict_mode=True)
    for value, channels in zip(inferred.graph.output, (PLANE_CHANNELS, GATES), strict=False):
        found = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        if found != [1, channels, 16, 24]:
            raise ValueError(f"it makes {value.name} of shape {found} of a frame of 1x24x16x24")
    for value, channels in zip(model.graph.input, inputs, strict=True):
        tensor = value.type.tensor_type
        if tensor.elem_type != TensorProto.FLOAT or [each.dim_value for each in tensor.shape.dim] != [
            1,
            channels,
            0,
            0,
        ]:
            raise ValueError(f"its input {value.name} is not float32 of {channels} channels and any size")

"""From a style's one float32 ONNX trunk to the graph that an engine runs. No torch.

The trunk computes the style residual S(x, z) in canonical color (see generator.py). Deployed, it
becomes ``clamp(x + strength * S)`` on uint8 samples of one stream: the stream's matrix and range are
folded into the first and last convolution, since they are linear, so no frame is ever converted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from rtstyle.errors import StyleFormatError, reason_of
from rtstyle.files import read_whole
from rtstyle.frame import CELL, MARGIN, Color, Planes, Size
from rtstyle.style_folder import LARGEST_TRUNK
from rtstyle.whitelist import CANVAS_CHANNELS as CANVAS_CHANNELS
from rtstyle.whitelist import PLANE_CHANNELS as PLANE_CHANNELS
from rtstyle.whitelist import parse_trunk

SOURCE, CANVAS, STRENGTH, STYLIZED = "source", "canvas", "strength", "stylized"
"""Names of the deployed graph's inputs and output."""

SMOOTH, GAINS = "smooth", "gains"
"""Names of the outputs of an ``unjoined`` graph."""

CENTRE, INTO, BACK = "centre", "into", "back"
"""Names of the planar graph's inputs that say what a stream's samples mean, see ``color_inputs``."""

Layout = Literal["i420", "nv12"]

STEP = 2 * CELL
"""Width and height of the frames of a planar graph are multiples of this many pixels."""

_TONED = slice(0, 16)
"""Channels of the ``canvas`` input of a network with a tone curve that are the frame's luma behind that curve."""

_VALUE, _RELIEF, _HUE = slice(0, 16), slice(16, 32), slice(32, 36)
"""Channels of a steered canvas that the gate multiplies."""

_COVERING = [row // 2 * 2 + column // 2 for row in range(4) for column in range(4)]
"""Which of the 2x2 hues of a cell covers each of its pixels."""

_CANVAS_UNIT = 64
"""Levels of the canvas, around 128, that are 1 to the generator."""

_STEM, _TAIL, _TAIL_BIAS, _SKIP = "stem.conv.weight", "tail.weight", "tail.bias", "skip.weight"
_STEM_BIAS, _UP, UP_BIAS = "stem.conv.bias", "up.conv.weight", "up.conv.bias"
_GATE, _GATE_BIAS = "gate.weight", "gate.bias"

Weights = dict[str, NDArray[np.float32]]

Ranges = Mapping[str, tuple[float, float]]
"""Least and largest value that int8 keeps of the ``quantized_tensors`` of a trunk, by name."""

Gains = Mapping[str, NDArray[np.float32]]
"""How far each channel goes, of 1, by the first writer of each of ``channel_groups``; shape (channels,)."""


@dataclass(frozen=True)
class Trunk:
    """A float32 network: the nodes of an ONNX graph and its weights by name."""

    model: onnx.ModelProto
    weights: Weights
    toned: bool = False
    """Whether the network reads luma behind a tone curve (``rtstyle.canvas.tone``)."""

    @property
    def steered(self) -> bool:
        """Whether it draws on a steered canvas, whose strokes a gate multiplies; else on one of noise."""
        return _GATE in self.weights

    @property
    def canvas_channels(self) -> int:
        """Channels of a planar graph's ``canvas``: toned luma where there is a tone curve, then the canvas."""
        return int(self.weights[_STEM].shape[1]) - PLANE_CHANNELS + (16 if self.toned else 0)

    @property
    def joined_channels(self) -> int:
        """Channels of a deployed graph's ``canvas``: that of noise, or the frame, toned, and the steered canvas."""
        return int(self.weights[_STEM].shape[1]) - (0 if self.steered else PLANE_CHANNELS)

    @classmethod
    def load(cls, path: Path, *, toned: bool = False) -> Trunk:
        """Read a trunk.onnx.

        Raises:
            StyleFormatError: It is missing, damaged, or anything but a trunk (see ``whitelist``).
        """
        try:
            model, weights = parse_trunk(read_whole(path, LARGEST_TRUNK))
        except (OSError, ValueError) as error:
            raise StyleFormatError(f"cannot read the weights {path}: {reason_of(error)}") from error
        return cls(model, weights, toned)

    @classmethod
    def mix(cls, trunks: Sequence[Trunk], shares: Sequence[float]) -> Trunk:
        """Put trunks side by side in one network, whose residual is the sum of theirs by share.

        Their channels stand in groups: every convolution between the first, which all see the frame with, and the
        last, which adds them up, is grouped. So it costs what they cost together, and fits wherever one fits.
        (Interpolated weights would cost one trunk, but wash out: see train/README.md.)

        Raises:
            StyleFormatError: They are not of one family (names or shapes of weights differ).
        """
        first = trunks[0]
        for other in trunks[1:]:
            if {n: w.shape for n, w in other.weights.items()} != {n: w.shape for n, w in first.weights.items()}:
                raise StyleFormatError("these styles cannot be blended: their networks have different sizes")
        if len(trunks) == 1:
            return first
        parts = {name: [trunk.weights[name] for trunk in trunks] for name in first.weights}
        mixed = {name: np.concatenate(arrays) for name, arrays in parts.items()}
        for name in (_TAIL_BIAS, _SKIP):
            mixed[name] = np.asarray(sum(s * w for s, w in zip(shares, parts[name], strict=True)), np.float32)
        tails = [np.float32(share) * tail for share, tail in zip(shares, parts[_TAIL], strict=True)]
        mixed[_TAIL] = np.concatenate(tails, 1)
        model = onnx.ModelProto()
        model.CopyFrom(first.model)
        for node in model.graph.node:
            if node.op_type == "Conv" and node.input[1] not in (_STEM, _TAIL, _SKIP):
                kept = [attribute for attribute in node.attribute if attribute.name != "group"]
                del node.attribute[:]
                node.attribute.extend([*kept, helper.make_attribute("group", len(trunks))])
        del model.graph.initializer[:]  # they are of one trunk; ``weights`` has all
        return cls(model, mixed)


def channel_groups(weights: Weights) -> list[tuple[list[str], list[str]]]:
    """Return which convolutions write and which read the same channels, before and behind ReLUs and additions."""
    blocks = [f"blocks.{i}" for i in range(sum(name.endswith("first.conv.weight") for name in weights))]
    firsts, seconds = ([f"{block}.{which}.conv" for block in blocks] for which in ("first", "second"))
    return [
        (["stem.conv", "up.conv"], ["down.conv", "fuse.conv"]),
        (["down.conv", *seconds], [*firsts, "up.conv"]),
        *(([first], [second]) for first, second in zip(firsts, seconds, strict=True)),
        (["fuse.conv"], ["tail", "gate"] if _GATE in weights else ["tail"]),
    ]


def equalized(trunk: Trunk, gains: Gains) -> Trunk:
    """Return the same network, each channel divided by its gain where it is written, and multiplied where it is read.

    ReLU and additions let it through, so S stays what it is; but channels then go about as far as one another, and
    one scale in 8 bits fits them all (cross-layer equalization: Nagel et al. 2019, "Data-Free Quantization Through
    Weight Equalization and Bias Correction", section 4.1).
    """
    weights = dict(trunk.weights)
    for writers, readers in channel_groups(weights):
        gain = gains[writers[0]]
        for name in writers:
            bias = weights[f"{name}.bias"]
            each = np.repeat(gain, len(bias) // len(gain))  # four of ``up.conv`` become one, side by side
            weights[f"{name}.bias"] = bias / each
            weights[f"{name}.weight"] = weights[f"{name}.weight"] / each[:, None, None, None]
        for name in readers:
            weights[f"{name}.weight"] = weights[f"{name}.weight"] * gain[:, None, None]
    return replace(trunk, weights=weights)


def _per_cell(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Expand a color matrix (3, 3) that keeps grey grey to the 24 channels of a cell: (24, 24).

    Each of the 16 luma pixels takes chroma from the sample that covers it; chroma samples from each other.
    """
    cell = np.zeros((PLANE_CHANNELS, PLANE_CHANNELS))
    for pixel in range(16):
        row, column = divmod(pixel, 4)
        sample = row // 2 * 2 + column // 2
        cell[pixel, pixel] = matrix[0, 0]
        cell[pixel, 16 + sample], cell[pixel, 20 + sample] = matrix[0, 1], matrix[0, 2]
    for sample in range(4):
        for i, first in enumerate((16, 20)):
            for j, second in enumerate((16, 20)):
                cell[first + sample, second + sample] = matrix[1 + i, 1 + j]
    return cell


def cell_matrices(color: Color) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the matrices (24, 24), float32, from centred samples of a packed frame to canonical color, and back."""
    matrix = color.to_canonical()
    into, back = _per_cell(matrix), _per_cell(np.asarray(np.linalg.inv(matrix), np.float64))
    return into.astype(np.float32), back.astype(np.float32)


def fold_color(weights: Weights, color: Color) -> Weights:
    """Return weights that take centred samples of a stream and a centred canvas, and give a residual in its levels."""
    matrix = color.to_canonical()
    into, back = _per_cell(matrix), _per_cell(np.asarray(np.linalg.inv(matrix), np.float64))
    folded = dict(weights)
    stem = weights[_STEM].astype(np.float64)
    source = np.einsum("oikl,ij->ojkl", stem[:, :PLANE_CHANNELS], into)
    folded[_STEM] = np.concatenate((source, stem[:, PLANE_CHANNELS:] / _CANVAS_UNIT), 1).astype(np.float32)
    folded[_TAIL] = np.einsum("po,oikl->pikl", back, weights[_TAIL].astype(np.float64)).astype(np.float32)
    folded[_TAIL_BIAS] = (back @ weights[_TAIL_BIAS]).astype(np.float32)
    skip = weights[_SKIP][:, :, 0, 0].astype(np.float64)
    folded[_SKIP] = (back @ skip @ into).astype(np.float32)[:, :, None, None]
    if _GATE in weights:
        # Of value, relief and hue in luma, and of the hue in U and V; the gains of strokes are linear as well.
        turn = np.zeros((5, 4))
        inverse = np.asarray(np.linalg.inv(matrix), np.float64) / _CANVAS_UNIT
        turn[0, 0] = turn[1, 1] = inverse[0, 0]
        turn[2:, 2:] = inverse[:, 1:]
        if not _hue_in_luma(color):
            turn = turn[[0, 1, 3, 4]]
        folded[_GATE] = np.einsum("po,oikl->pikl", turn, weights[_GATE].astype(np.float64)).astype(np.float32)
        folded[_GATE_BIAS] = (turn @ weights[_GATE_BIAS]).astype(np.float32)
    return folded


def quantized_tensors(trunk: Trunk) -> list[str]:
    """Return the names of the tensors that are rounded to 8 bits in int8, in the order in which they are computed.

    They are what is read by convolutions and additions, so that all between the first convolution and the last is
    integers. The inputs are 8 bits as they are, and the last addition gives the residual. What DepthToSpace gives is
    rounded as it is in the deployed graph: before the biases of the convolution below it are added.
    """
    nodes = trunk.model.graph.node
    inputs = {"x", "z"} | {node.output[0] for node in nodes if node.op_type == "Concat"}
    found: dict[str, None] = {}
    for node in nodes:
        read = {"Conv": node.input[:1], "Add": node.input}.get(node.op_type, [])
        if node.output[0] != "s":
            found |= {name: None for name in read if name not in inputs}
    return list(found)


def merge_ranges(ranges: Sequence[Ranges]) -> Ranges:
    """Return ranges that hold those of several trunks of one family: what a blend of them needs."""
    return {name: (min(each[name][0] for each in ranges), max(each[name][1] for each in ranges)) for name in ranges[0]}


def _quantize_weights(weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round (out, in, h, w) to whole numbers; return them and the scale of each output channel.

    Processors without VNNI add the products of two neighbouring input channels in 16 bits, and saturate. So no two
    neighbours are more than 128 together: 255 * 128 fits, and the frame is the same on every processor.

    What rounding takes from one weight of a kernel is given to the next, so that their sum, which is all that flat
    areas see, is off by half a step at most.
    """
    size = np.abs(weights)
    if size.shape[1] % 2:
        size = np.pad(size, ((0, 0), (0, 1), (0, 0), (0, 0)))
    largest = (size[:, ::2] + size[:, 1::2]).max((1, 2, 3))
    scale = np.where(largest > 0, largest / 126, 1).astype(np.float32)  # each of the two may become one more
    exact = (weights / scale[:, None, None, None]).reshape(*weights.shape[:2], -1)
    whole, owed = np.empty_like(exact), np.zeros_like(exact[..., 0])
    for tap in range(exact.shape[2]):
        whole[..., tap] = np.rint(exact[..., tap] + owed)
        owed += exact[..., tap] - whole[..., tap]
    return whole.reshape(weights.shape).astype(np.int8), scale


def _scale_of(low: float, high: float) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return scale and zero point in 8 bits: 0 to 255 where nothing is negative, else 1 to 255 around 128."""
    scale, zero = (high / 255, 0) if low >= 0 else (max(-low, high) / 127, 128)
    return np.array(scale or 1, np.float32), np.array(zero, np.uint8)


_SEEN, _SOURCE = "seen", "x"
"""What the first convolution reads, samples and canvas, (1, channels, rows, columns), around middle grey; and the
skip."""

_CHANNELS_FIRST, _CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)
"""From the order of memory, (1, rows, columns, channels), to ONNX's, and back."""


def _form(
    trunk: Trunk, folded: Weights, rows: int, columns: int, *, joined: bool
) -> tuple[list[onnx.NodeProto], dict[str, NDArray[np.generic]]]:
    """Return the trunk up to ``style`` (1, rows, columns, 24), and its constants, as CPUs compute it fastest.

    Of a steered canvas, the gated strokes are not in ``style``; their gains are ``gains``, (1, rows, columns, 4 or 5).

    Libraries keep channels last in memory. A Transpose between that and ONNX's order costs nothing where one
    convolution reads or writes it, and two copies of the tensor where anything else does. So samples and canvas are
    joined where channels are last, and there the skip is added to the tail.

    The way up, a convolution of single pixels and DepthToSpace, is a convolution for even rows and one for odd rows, in
    a view in which two neighbours are one pixel, and whole rows are put together (OpenVINO's DepthToSpace takes as long
    as both; its transposed convolution is in float32 where a CPU has no VNNI). In blends, whose groups would not stay
    together in that view, it is as the trunk has it. Biases differ within each 2x2 pixels: they are added in that view.

    Args:
        joined: The skip reads ``_SEEN``, too, with zeros for the canvas: cheaper than to centre samples once more,
            but in integers, which need not be centred.
    """
    node = helper.make_node
    constants: dict[str, NDArray[np.generic]] = dict(folded)
    if joined:
        canvas = folded[_STEM].shape[1] - PLANE_CHANNELS
        constants[_SKIP] = np.pad(folded[_SKIP], ((0, 0), (0, canvas), (0, 0), (0, 0)))
    nodes: list[onnx.NodeProto] = []
    names = {"x": _SEEN if joined else _SOURCE}
    way_up = _way_up(trunk)
    replaced = {each.output[0] for each in way_up[:-1]}
    for original in trunk.model.graph.node:
        output = original.output[0]
        if original.op_type == "Concat":
            names[output] = _SEEN
        elif output == "s":
            for name in original.input:
                nodes.append(node("Transpose", [name], [f"{name}_last"], perm=_CHANNELS_LAST))
            nodes.append(node("Add", [f"{name}_last" for name in original.input], ["style"]))
        elif way_up and output == way_up[-1].output[0]:
            nodes += _up_by_lines(way_up, constants, rows, columns)
        elif output not in replaced:
            copy = onnx.NodeProto()
            copy.CopyFrom(original)
            copy.input[:] = [names.get(name, name) for name in original.input]
            nodes.append(copy)
    if trunk.steered:
        nodes.append(node("Transpose", ["g"], [GAINS], perm=_CHANNELS_LAST))
    return nodes, constants


def _gated(
    canvas: str, first: int, constants: dict[str, NDArray[np.generic]], *, hue_in_luma: bool
) -> list[onnx.NodeProto]:
    """Return nodes that multiply ``gains`` by the strokes of a canvas: ``gated``, (1, rows, columns, 24).

    Args:
        canvas: Name of a tensor (1, rows, columns, channels) around 0, in which the steered canvas begins at ``first``.
        hue_in_luma: Gains are of value, relief and hue in luma, of hue in U, in V; False: there is none of hue in luma.
    """
    node = helper.make_node
    constants["last_axis"] = np.array([3])
    nodes = []

    def cut(source: str, begin: int, end: int, name: str) -> str:
        constants[f"{name}_begin"], constants[f"{name}_end"] = np.array([begin]), np.array([end])
        nodes.append(node("Slice", [source, f"{name}_begin", f"{name}_end", "last_axis"], [name]))
        return name

    parts = {"value": _VALUE, "relief": _RELIEF, "hue": _HUE}
    for name, place in parts.items():
        cut(canvas, first + place.start, first + place.stop, f"stroke_{name}")
    gains = ["value", "relief", "hue_y", "hue_u", "hue_v"] if hue_in_luma else ["value", "relief", "hue_u", "hue_v"]
    for number, name in enumerate(gains):
        cut("gains", number, number + 1, f"gain_{name}")
        nodes.append(node("Mul", [f"stroke_{name.partition('_')[0]}", f"gain_{name}"], [f"gated_{name}"]))
    nodes.append(node("Add", ["gated_value", "gated_relief"], ["gated_luma"]))
    luma = "gated_luma"
    if hue_in_luma:  # each of the 16 pixels takes the hue that covers it
        constants["covering"] = np.array(_COVERING)
        nodes.append(node("Gather", ["gated_hue_y", "covering"], ["gated_hue_wide"], axis=3))
        nodes.append(node("Add", ["gated_luma", "gated_hue_wide"], ["gated_whole"]))
        luma = "gated_whole"
    nodes.append(node("Concat", [luma, "gated_hue_u", "gated_hue_v"], ["gated"], axis=3))
    return nodes


def _way_up(trunk: Trunk) -> list[onnx.NodeProto]:
    """Return the nodes of the way up in turn: Conv, DepthToSpace, Add, Relu; none where they are not so."""
    nodes = trunk.model.graph.node
    found = [node for node in nodes if _UP in node.input]
    for kind in ("DepthToSpace", "Add", "Relu"):
        readers = [node for node in nodes if found and found[-1].output[0] in node.input]
        if len(readers) != 1 or readers[0].op_type != kind:
            return []
        found += readers
    return found


def _up_by_lines(
    way_up: Sequence[onnx.NodeProto], constants: dict[str, NDArray[np.generic]], rows: int, columns: int
) -> list[onnx.NodeProto]:
    """Return other nodes for the way up, see ``_form``; the constants are changed to what they need."""
    node = helper.make_node
    conv, to_space, add, relu = way_up
    deep, made = conv.input[0], to_space.output[0]
    up, biases = constants[_UP], constants[UP_BIAS]
    channels, groups = len(biases) // 4, len(constants["down.conv.weight"]) // up.shape[1]
    constants[UP_BIAS] = biases.reshape(channels, 2, 2).transpose(1, 2, 0).reshape(1, 1, 2, 1, -1)
    constants["pairs_shape"] = np.array((1, rows // 2, 2, columns // 2, 2 * channels))
    constants["cells_shape"] = np.array((1, rows, columns, channels))
    if groups == 1:
        del constants[_UP]
        nodes, lines = [], []
        constants["line_shape"] = np.array((1, rows // 2, 1, columns // 2, 2 * channels))
        for row, which in enumerate(_LINES):
            weights, line = f"{which}.{_UP}", f"{made}_{which}"
            constants[weights] = up.reshape(channels, 2, 2, -1)[:, row].swapaxes(0, 1).reshape(2 * channels, -1, 1, 1)
            nodes.append(node("Conv", [deep, weights], [line]))
            nodes.append(node("Transpose", [line], [f"{line}_last"], perm=_CHANNELS_LAST))
            nodes.append(node("Reshape", [f"{line}_last", "line_shape"], [f"{line}_line"]))
            lines.append(f"{line}_line")
        nodes += [
            node("Concat", lines, [f"{made}_lines"], axis=2),
            node("Reshape", [f"{made}_lines", "cells_shape"], [f"{made}_cells"]),
            node("Transpose", [f"{made}_cells"], [made], perm=_CHANNELS_FIRST),
        ]
    else:
        nodes = [
            node("Conv", [deep, _UP], ["up_cells"], group=groups),
            node("DepthToSpace", ["up_cells"], [made], blocksize=2, mode="CRD"),
        ]
    stem = next(name for name in add.input if name != made)
    return [
        *nodes,
        *_in_pairs(made),
        *_in_pairs(stem),
        node("Add", [f"{made}_pairs", UP_BIAS], ["pairs_biased"]),
        node("Add", ["pairs_biased", f"{stem}_pairs"], ["pairs_sum"]),
        node("Relu", ["pairs_sum"], ["pairs_on"]),
        node("Reshape", ["pairs_on", "cells_shape"], ["cells_on"]),
        node("Transpose", ["cells_on"], [relu.output[0]], perm=_CHANNELS_FIRST),
    ]


_LINES = ("even", "odd")
"""Rows of what the way up gives."""


def _in_pairs(name: str) -> list[onnx.NodeProto]:
    """Return nodes that view a tensor, (1, channels, rows, columns), as ``pairs_shape``."""
    return [
        helper.make_node("Transpose", [name], [f"{name}_last"], perm=_CHANNELS_LAST),
        helper.make_node("Reshape", [f"{name}_last", "pairs_shape"], [f"{name}_pairs"]),
    ]


def _quantized(
    nodes: list[onnx.NodeProto], constants: dict[str, NDArray[np.generic]], ranges: Ranges
) -> list[onnx.NodeProto]:
    """Return the nodes of a ``_form`` in int8; what they need is added to its constants.

    Tensors are rounded to uint8 with one scale each, weights to int8 with one for each output channel, written as
    QuantizeLinear and DequantizeLinear, which engines compute in integers (Jacob et al. 2018, "Quantization and
    Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference").
    """
    node = helper.make_node
    result: list[onnx.NodeProto] = []
    rounded = set()
    written = {each.output[0] for each in nodes}
    for name in list(ranges):  # of the way up: once, as its convolutions give it
        parts = [f"{name}_{which}" for which in _LINES if f"{name}_{which}" in written]
        parts += [each.input[0] for each in nodes if each.op_type == "DepthToSpace" and each.output[0] == name]
        if parts:
            ranges = {**{n: pair for n, pair in ranges.items() if n != name}, **dict.fromkeys(parts, ranges[name])}

    def through_8_bits(name: str) -> str:
        if name not in rounded:
            rounded.add(name)
            constants[f"{name}_scale"], constants[f"{name}_zero"] = _scale_of(*ranges[name])
            grid = [f"{name}_scale", f"{name}_zero"]
            result.append(node("QuantizeLinear", [name, *grid], [f"{name}_8_bits"]))
            result.append(node("DequantizeLinear", [f"{name}_8_bits", *grid], [f"{name}_rounded"]))
        return f"{name}_rounded"

    def rounded_weights(name: str, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """Add ``name``_rounded; return what is lost of weights (out, in, h, w)."""
        whole, scale = _quantize_weights(weights)
        parts: dict[str, NDArray[np.generic]] = {"8_bits": whole, "scale": scale, "zero": np.zeros(len(scale), np.int8)}
        constants.update({f"{name}_{what}": array for what, array in parts.items()})
        names = [f"{name}_{what}" for what in parts]
        result.append(node("DequantizeLinear", names, [f"{name}_rounded"], axis=0))
        return np.asarray(weights - whole * scale[:, None, None, None], "f4")

    for original in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(original)
        if original.op_type != "Relu":
            copy.input[:] = [through_8_bits(name) if name in ranges else name for name in original.input]
        if original.op_type == "Conv":
            name = original.input[1]
            lost = rounded_weights(name, np.asarray(constants.pop(name), np.float32))
            copy.input[1] = f"{name}_rounded"
            if name == _SKIP:
                # In two parts, the second of which is what the first one lost. It reads the source itself: an error
                # for each pixel of a cell would be a grid over the frame.
                rounded_weights("lost", lost)
                result.append(node("Conv", [_SOURCE, f"{name}_rounded"], ["coarse_skip"]))
                result.append(node("Conv", [_SOURCE, "lost_rounded"], ["fine_skip"]))
                copy = node("Add", ["coarse_skip", "fine_skip"], original.output)
        result.append(copy)
    return result


def deployed(trunk: Trunk, color: Color, rows: int, columns: int, ranges: Ranges | None = None) -> onnx.ModelProto:
    """Build the graph that engines run: packed uint8 in, packed uint8 out, static shape.

    Inputs: ``source`` (1, rows, columns, 24) and ``canvas`` (1, rows, columns, ``trunk.joined_channels``), uint8, rows
    and columns even, see ``rtstyle.canvas.layer``; ``strength`` (24,), float32, of each channel. Output: ``stylized``,
    like ``source``.
    The source is added, rounded and clamped in float32, whatever precision the trunk runs in, so strength 0 changes no
    bit.

    Args:
        ranges: Of all ``quantized_tensors`` of an ``equalized`` trunk: it is computed in int8. None: in the engine's
            float.
    """
    nodes, constants = _trunk_nodes(trunk, color, rows, columns, ranges)
    style = "style"
    if trunk.steered:  # the strokes are added where channels are last, as they come
        nodes += _gated("cells_centred", PLANE_CHANNELS, constants, hue_in_luma=_hue_in_luma(color))
        nodes.append(helper.make_node("Add", ["style", "gated"], ["style_gated"]))
        style = "style_gated"
    nodes += _residual_nodes(style, toned=trunk.toned)
    constants |= {"black": np.array(0, "f4"), "white": np.array(255, "f4"), "half": np.array([0.5], "f4")}
    strength = helper.make_tensor_value_info(STRENGTH, TensorProto.FLOAT, (PLANE_CHANNELS,))
    source, stylized = (_samples(name, rows, columns, PLANE_CHANNELS) for name in (SOURCE, STYLIZED))
    canvas = _samples(CANVAS, rows, columns, trunk.joined_channels)
    return _model(trunk, nodes, constants, [source, canvas, strength], [stylized])


def unjoined(trunk: Trunk, color: Color, rows: int, columns: int, ranges: Ranges | None = None) -> onnx.ModelProto:
    """Build the graph of a steered network whose frames are put together elsewhere, at a larger size.

    Input: ``canvas`` as of ``deployed``. Outputs, float32, in levels: ``smooth``
    (1, rows, columns, 24), the stylized frame without its strokes and without what ``kept_detail`` leaves of the
    toned frame; ``gains`` (1, rows, columns, 4 or 5), of value and relief in luma, of the hue in luma (which is in
    ``smooth`` already; missing where ``gain_count`` is 4), in U and in V, per level of the canvas. So a frame, toned,
    with its strokes is ``kept_detail * toned + smooth + gains * strokes``.

    Args:
        ranges: As of ``deployed``.
    """
    node = helper.make_node
    nodes, constants = _trunk_nodes(trunk, color, rows, columns, ranges)
    nodes += [
        node("Cast", ["toned"], ["smooth_samples"], to=TensorProto.FLOAT),
        node("Mul", ["smooth_samples", "smooth_share"], ["smooth_part"]),
    ]
    constants["smooth_share"] = 1 - strength_of(*kept_detail(trunk))
    smooth = ["style", "smooth_part"]
    if _hue_in_luma(color):
        # Where luma depends on the hue, which is of two by two pixels: no finer than what is enlarged.
        begin = PLANE_CHANNELS + _HUE.start
        constants |= {"hue_begin": np.array([begin]), "hue_end": np.array([begin + 4]), "hue_axis": np.array([3])}
        constants |= {"hue_gain": np.array([2]), "hue_gain_end": np.array([3]), "in_luma": strength_of(1, 0)}
        constants["covering"] = np.array([*_COVERING, *[0] * 8])
        nodes += [
            node("Slice", ["cells_centred", "hue_begin", "hue_end", "hue_axis"], ["hue"]),
            node("Slice", [GAINS, "hue_gain", "hue_gain_end", "hue_axis"], ["hue_gains"]),
            node("Mul", ["hue", "hue_gains"], ["hue_gated"]),
            node("Gather", ["hue_gated", "covering"], ["hue_wide"], axis=3),
            node("Mul", ["hue_wide", "in_luma"], ["hue_in_luma"]),
        ]
        smooth.append("hue_in_luma")
    nodes.append(node("Sum", smooth, [SMOOTH]))
    value, shape = helper.make_tensor_value_info, (1, rows, columns)
    outputs = [
        value(SMOOTH, TensorProto.FLOAT, (*shape, PLANE_CHANNELS)),
        value(GAINS, TensorProto.FLOAT, (*shape, gain_count(color))),
    ]
    return _model(trunk, nodes, constants, [_samples(CANVAS, rows, columns, trunk.joined_channels)], outputs)


def gain_count(color: Color) -> int:
    """Return how many gains an ``unjoined`` graph gives for each cell of a stream of that color."""
    return 5 if _hue_in_luma(color) else 4


def _hue_in_luma(color: Color) -> bool:
    """Return whether the luma of a stream depends on canonical chroma: not where its matrix is BT.709, as of most."""
    inverse = np.linalg.inv(color.to_canonical())
    return bool(np.abs(inverse[0, 1:]).max() > 1e-6 * inverse[0, 0])


def kept_detail(trunk: Trunk) -> tuple[float, float]:
    """Return how much of the finest detail of luma and of chroma a network leaves in a frame, 0 to 1.

    It is what the linear skip leaves of changes within a cell: what more the network does depends on larger forms.
    """
    skip = trunk.weights[_SKIP][:, :, 0, 0].astype(np.float64)

    def left(first: int, count: int) -> float:
        block = skip[first : first + count, first : first + count]
        return 1 + float((np.trace(block) - block.sum() / count) / (count - 1))

    luma, chroma = left(0, 16), (left(16, 4) + left(20, 4)) / 2
    return float(np.clip(luma, 0, 1)), float(np.clip(chroma, 0, 1))


def _trunk_nodes(
    trunk: Trunk, color: Color, rows: int, columns: int, ranges: Ranges | None
) -> tuple[list[onnx.NodeProto], dict[str, NDArray[np.generic]]]:
    """Return the nodes from ``source`` and ``canvas`` to what a ``_form`` gives, and their constants.

    Subtracting the stream's middle grey first makes the zeros around each convolution mean the same in every color. In
    int8, samples go in as they are, as levels around 128; what separates 128 from middle grey is added to the biases.
    So the zeros around the frame are up to 2.5 levels off middle grey, 8 pixels outside of what is shown.
    """
    node = helper.make_node
    folded = fold_color(trunk.weights, color)
    edges: dict[str, NDArray[np.generic]] = {}
    if trunk.steered:  # the canvas has it all
        source, cells = "toned", CANVAS
        edges |= {"toned_begin": np.array([0]), "toned_end": np.array([PLANE_CHANNELS]), "cell_axis": np.array([3])}
        before = [node("Slice", [CANVAS, "toned_begin", "toned_end", "cell_axis"], ["toned"])]
    else:
        source, cells = SOURCE, "cells"
        before = [node("Concat", [SOURCE, CANVAS], ["cells"], axis=3)]
    if ranges is None:
        inner, constants = _form(trunk, folded, rows, columns, joined=True)
        before.append(node("Cast", [cells], ["cell_numbers"], to=TensorProto.FLOAT))
        before.append(node("Sub", ["cell_numbers", "cells_centre"], ["cells_centred"]))
        canvas = folded[_STEM].shape[1] - PLANE_CHANNELS
        edges["cells_centre"] = np.concatenate((centre_of(color), np.full(canvas, 128, np.float32)))
    else:
        off = 128 - centre_of(color)
        folded[_STEM_BIAS] = (folded[_STEM_BIAS] + folded[_STEM][:, :PLANE_CHANNELS].sum((2, 3)) @ off).astype("f4")
        folded[_TAIL_BIAS] = (folded[_TAIL_BIAS] + folded[_SKIP][:, :, 0, 0] @ off).astype("f4")
        inner, constants = _form(trunk, folded, rows, columns, joined=False)
        inner = _quantized(inner, constants, ranges)
        before.append(node("DequantizeLinear", [source, "level", "middle"], ["levels"]))
        before.append(node("Transpose", ["levels"], [_SOURCE], perm=_CHANNELS_FIRST))
        before.append(node("DequantizeLinear", [cells, "level", "middle"], ["cells_centred"]))
        edges |= {"level": np.array(1, np.float32), "middle": np.array(128, np.uint8)}
    before.append(node("Transpose", ["cells_centred"], [_SEEN], perm=_CHANNELS_FIRST))
    return [*before, *inner], constants | edges


def _model(
    trunk: Trunk,
    nodes: list[onnx.NodeProto],
    constants: dict[str, NDArray[np.generic]],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(np.asarray(array, order="C"), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "rtstyle", inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", trunk.model.opset_import[0].version)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=trunk.model.ir_version)


def _samples(name: str, *shape: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.UINT8, (1, *shape))


def _residual_nodes(style: str, *, toned: bool) -> list[onnx.NodeProto]:
    """Return nodes that add a style to the samples by strength, and round and clamp the sum to ``stylized``."""
    node = helper.make_node
    nodes = [node("Cast", [SOURCE], ["samples"], to=TensorProto.FLOAT)]
    if toned:  # what the tone curve changes belongs to the style
        nodes += [
            node("Cast", ["toned"], ["toned_samples"], to=TensorProto.FLOAT),
            node("Sub", ["toned_samples", "samples"], ["tone_change"]),
            node("Add", [style, "tone_change"], ["style_toned"]),
        ]
    return [
        *nodes,
        node("Mul", ["style_toned" if toned else style, STRENGTH], ["residual"]),
        node("Add", ["samples", "residual"], ["sum"]),
        node("Clip", ["sum", "black", "white"], ["clamped"]),
        node("Add", ["clamped", "half"], ["raised"]),
        node("Floor", ["raised"], ["rounded"]),
        node("Cast", ["rounded"], [STYLIZED], to=TensorProto.UINT8),
    ]


def _toned(source: str, canvas: str, constants: dict[str, NDArray[np.generic]]) -> list[onnx.NodeProto]:
    """Return nodes that split a ``canvas`` into ``toned``, the frame with its luma, and ``canvas_strokes``."""
    node = helper.make_node
    ends = {"toned_begin": 0, "toned_end": _TONED.stop, "chroma_end": PLANE_CHANNELS, "strokes_end": 1 << 30}
    constants.update({name: np.array([place]) for name, place in ends.items()})
    constants["cell_axis"] = np.array([3])
    return [
        node("Slice", [canvas, "toned_begin", "toned_end", "cell_axis"], ["toned_luma"]),
        node("Slice", [canvas, "toned_end", "strokes_end", "cell_axis"], ["canvas_strokes"]),
        node("Slice", [source, "toned_end", "chroma_end", "cell_axis"], ["toned_chroma"]),
        node("Concat", ["toned_luma", "toned_chroma"], ["toned"], axis=3),
    ]


def planar_shapes(size: Size, canvas_channels: int = CANVAS_CHANNELS) -> dict[str, tuple[int, int, int, int]]:
    """Return the shapes of a planar graph's uint8 inputs for frames of ``size``, rounded up to whole steps.

    ``source`` (1, 1, h + h/2, w) is a contiguous buffer of I420 or NV12: h rows of Y, below them the bytes of
    U and then V, or of U and V in turn. ``canvas`` is (1, h/4 + 4, w/4 + 4, ``canvas_channels``).
    """
    height, width = (-(-side // STEP) * STEP for side in (size.height, size.width))
    rows, columns = ((side + 2 * MARGIN) // CELL for side in (height, width))
    return {SOURCE: (1, 1, height * 3 // 2, width), CANVAS: (1, rows, columns, canvas_channels)}


def planes_in(source: NDArray[np.uint8], layout: Layout) -> Planes:
    """Return the planes that lie in a planar graph's ``source`` or ``stylized``, as views."""
    lines, width = source.shape[-2:]
    height = lines * 2 // 3
    flat = source.reshape(lines, width)
    chroma = flat[height:].reshape(-1)
    if layout == "i420":
        u, v = chroma.reshape(2, height // 2, width // 2)
    else:
        u, v = np.moveaxis(chroma.reshape(height // 2, width // 2, 2), 2, 0)
    return Planes(flat[:height], u, v)


_PLANAR_ORDER = [*range(16), *(16 + 4 * plane + sample for sample in range(4) for plane in range(2))]
"""Where each channel of a planar graph's cells stands in a packed frame: there chroma is U0 V0 U1 V1 ..."""


def color_inputs(color: Color) -> dict[str, NDArray[np.float32]]:
    """Return the inputs that give a planar graph a stream's color, float32.

    ``centre`` (24,) is middle grey of each channel of its cells; ``into`` (24, 24) takes centred samples, as a
    row, to canonical color; ``back`` (24, 24) takes canonical color back to sample levels.
    """
    matrix = color.to_canonical()
    into, back = _per_cell(matrix), _per_cell(np.asarray(np.linalg.inv(matrix), np.float64))
    return {
        CENTRE: centre_of(color)[_PLANAR_ORDER],
        INTO: into.T[_PLANAR_ORDER].astype(np.float32),
        BACK: back.T[:, _PLANAR_ORDER].astype(np.float32),
    }


def planar(
    trunk: Trunk,
    size: Size | None,
    *,
    layout: Layout = "i420",
    precision: Literal["f32", "f16"] = "f16",
) -> onnx.ModelProto:
    """Build the graph of GPU engines: a frame's own planes in and out, packed and unpacked inside.

    Inputs: ``source`` and ``canvas``, uint8, as ``planar_shapes`` says; ``strength`` (24,) and those of
    ``color_inputs``, float32, so that one plan serves every stream. Output: ``stylized``, like ``source``.
    TensorRT takes uint8 at a network's edge only, so it is cast first and last; everything between is
    ``precision``. Float16 holds samples exactly, and so strength 0 changes no bit; a residual is added to
    them on a grid of an eighth of a level or finer.

    Args:
        size: Of the frames, rounded up to whole steps of 8 pixels; None leaves it open.
    """
    kind = TensorProto.FLOAT16 if precision == "f16" else TensorProto.FLOAT
    inputs = (SOURCE, CANVAS, STRENGTH, CENTRE, INTO, BACK)
    indices: dict[str, NDArray[np.generic]] = dict(_planar_indices(layout))
    nodes = [
        *(helper.make_node("Cast", [name], [f"{name}_number"], to=kind) for name in inputs),
        *_split_planes(layout),
        *_to_canonical(trunk, indices),
        *trunk.model.graph.node,
        *_add_style(trunk, indices),
        *_join_planes(layout),
        helper.make_node("Cast", ["raised"], [STYLIZED], to=TensorProto.UINT8),
    ]
    for count, node in enumerate(nodes):
        node.name = node.name or f"{node.op_type}_{count}"  # errors of an engine's compiler name the node
    number = np.float16 if precision == "f16" else np.float32
    floats = {**_PLANAR_NUMBERS, **trunk.weights}
    with np.errstate(over="ignore"):  # what float16 does not hold becomes infinity, which the accuracy check finds
        constants = {name: array.astype(number) for name, array in floats.items()} | indices
    open_shapes: dict[str, tuple[int | str, ...]] = {
        SOURCE: (1, 1, "lines", "width"),
        CANVAS: (1, "rows", "columns", trunk.canvas_channels),
    }
    shapes: Mapping[str, tuple[int | str, ...]] = planar_shapes(size, trunk.canvas_channels) if size else open_shapes
    square = (PLANE_CHANNELS, PLANE_CHANNELS)
    small = {STRENGTH: (PLANE_CHANNELS,), CENTRE: (PLANE_CHANNELS,), INTO: square, BACK: square}
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "rtstyle",
        [
            *(value(name, TensorProto.UINT8, shape) for name, shape in shapes.items()),
            *(value(name, TensorProto.FLOAT, shape) for name, shape in small.items()),
        ],
        [value(STYLIZED, TensorProto.UINT8, shapes[SOURCE])],
        [numpy_helper.from_array(np.asarray(array, order="C"), name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", trunk.model.opset_import[0].version)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=trunk.model.ir_version)


_SIDES = (("y", 4, MARGIN), ("uv", 2, MARGIN // 2))
"""Luma and chroma: name, samples per side of a cell, samples of margin."""

_PLANAR_NUMBERS = {
    "canvas_centre": np.array([128.0]),
    "canvas_unit": np.array([float(_CANVAS_UNIT)]),
    "black": np.array(0.0),
    "white": np.array(255.0),
    "half": np.array([0.5]),
}


def _planar_indices(layout: Layout) -> dict[str, NDArray[np.int64]]:
    """Return the constants of a planar graph that do not depend on the frame."""
    # Between the bytes of chroma, (1, 1, h/2, w), and its planes; 0 keeps a dimension, -1 takes the rest.
    i420 = {"chroma_shape": np.array([1, 2, 0, -1]), "bytes_shape": np.array([1, 1, 0, -1])}
    nv12 = {"chroma_shape": np.array([0, 0, -1, 2]), "bytes_shape": np.array([0, 0, -1]), "channel": np.array([1])}
    indices = {"plane_axes": np.array([2, 3]), "split": np.array([16, 8]), **(i420 if layout == "i420" else nv12)}
    for name, _, margin in _SIDES:
        indices[f"{name}_pads"] = np.array([0, 0, margin, margin] * 2)
        indices[f"{name}_begin"] = np.array([margin, margin])
        indices[f"{name}_end"] = np.array([-margin, -margin])
    return indices


def _split_planes(layout: Layout) -> list[onnx.NodeProto]:
    """From the bytes of a frame to ``y_samples`` (1, 1, h, w) and ``uv_samples`` (1, 2, h/2, w/2)."""
    node = helper.make_node
    luma = [
        node("Split", [f"{SOURCE}_number"], ["y_upper", "y_lower", "uv_rows"], axis=2),
        node("Concat", ["y_upper", "y_lower"], ["y_samples"], axis=2),
    ]
    if layout == "i420":
        return [*luma, node("Reshape", ["uv_rows", "chroma_shape"], ["uv_samples"])]
    return [
        *luma,
        node("Squeeze", ["uv_rows", "channel"], ["uv_lines"]),
        node("Reshape", ["uv_lines", "chroma_shape"], ["uv_pairs"]),
        node("Transpose", ["uv_pairs"], ["uv_samples"], perm=(0, 3, 1, 2)),
    ]


def _to_canonical(trunk: Trunk, constants: dict[str, NDArray[np.generic]]) -> list[onnx.NodeProto]:
    """From samples and canvas to the trunk's x (1, 24, rows, columns) and z (1, 16 or 40, rows, columns)."""
    node = helper.make_node
    cells = []
    for name, block, _ in _SIDES:
        cells += [
            node("Pad", [f"{name}_samples", f"{name}_pads"], [f"{name}_padded"], mode="edge"),
            node("SpaceToDepth", [f"{name}_padded"], [f"{name}_cells"], blocksize=block),
        ]
    source, canvas = "cells_last", f"{CANVAS}_number"
    toned: list[onnx.NodeProto] = []
    if trunk.toned:
        toned, source, canvas = _toned(source, canvas, constants), "toned", "canvas_strokes"
    return [
        *cells,
        node("Concat", ["y_cells", "uv_cells"], ["cells"], axis=1),
        node("Transpose", ["cells"], ["cells_last"], perm=(0, 2, 3, 1)),
        *toned,
        node("Sub", [source, f"{CENTRE}_number"], ["centred"]),
        node("MatMul", ["centred", f"{INTO}_number"], ["canonical"]),
        node("Transpose", ["canonical"], ["x"], perm=(0, 3, 1, 2)),
        node("Sub", [canvas, "canvas_centre"], ["canvas_centred"]),
        node("Div", ["canvas_centred", "canvas_unit"], ["canvas_scaled"]),
        node("Transpose", ["canvas_scaled"], ["z"], perm=(0, 3, 1, 2)),
    ]


def _add_style(trunk: Trunk, constants: dict[str, NDArray[np.generic]]) -> list[onnx.NodeProto]:
    """From samples and the trunk's s to ``y_raised`` and ``uv_raised``: the sum, clamped, plus a half."""
    node = helper.make_node
    nodes = [node("Transpose", ["s"], ["style_plain" if trunk.steered else "style"], perm=(0, 2, 3, 1))]
    if trunk.steered:
        nodes.append(node("Transpose", ["g"], ["gains"], perm=(0, 2, 3, 1)))
        nodes += _gated("canvas_scaled", 0, constants, hue_in_luma=False)
        nodes.append(node("Add", ["style_plain", "gated"], ["style"]))
    nodes.append(node("MatMul", ["style", f"{BACK}_number"], ["in_levels"]))
    if trunk.toned:
        nodes.append(node("Sub", ["toned", "cells_last"], ["tone_change"]))
        nodes.append(node("Add", ["in_levels", "tone_change"], ["in_levels_toned"]))
    nodes += [
        node("Mul", ["in_levels_toned" if trunk.toned else "in_levels", f"{STRENGTH}_number"], ["residual"]),
        node("Transpose", ["residual"], ["residual_cells"], perm=(0, 3, 1, 2)),
        node("Split", ["residual_cells", "split"], ["y_style", "uv_style"], axis=1),
    ]
    for name, block, _ in _SIDES:
        nodes += [
            node("DepthToSpace", [f"{name}_style"], [f"{name}_wide"], blocksize=block),
            node("Slice", [f"{name}_wide", f"{name}_begin", f"{name}_end", "plane_axes"], [f"{name}_residual"]),
            node("Add", [f"{name}_samples", f"{name}_residual"], [f"{name}_sum"]),
            node("Clip", [f"{name}_sum", "black", "white"], [f"{name}_clamped"]),
            node("Add", [f"{name}_clamped", "half"], [f"{name}_raised"]),
        ]
    return nodes


def _join_planes(layout: Layout) -> list[onnx.NodeProto]:
    """Undo ``_split_planes``. One output, since the order of several changes from build to build of a plan."""
    node = helper.make_node
    chroma = [node("Reshape", ["uv_raised", "bytes_shape"], ["uv_bytes"])]
    if layout == "nv12":
        chroma = [
            node("Transpose", ["uv_raised"], ["uv_again"], perm=(0, 2, 3, 1)),
            node("Reshape", ["uv_again", "bytes_shape"], ["uv_in_turn"]),
            node("Unsqueeze", ["uv_in_turn", "channel"], ["uv_bytes"]),
        ]
    return [*chroma, node("Concat", ["y_raised", "uv_bytes"], ["raised"], axis=2)]


def centre_of(color: Color) -> NDArray[np.float32]:
    """Return middle grey of each channel of a packed frame: shape (24,), float32."""
    return np.repeat(np.array(color.centre, np.float32), (16, 4, 4))


def strength_of(luma: float, chroma: float) -> NDArray[np.float32]:
    """Return the ``strength`` input: shape (24,), float32."""
    return np.repeat(np.array((luma, chroma), np.float32), (16, 8))

"""From a style's one float32 ONNX trunk to the graph that an engine runs. No torch.

The trunk computes the style residual S(x, z) in canonical colour (see generator.py). Deployed, it
becomes ``clamp(x + strength * S)`` on uint8 samples of one stream: the stream's matrix and range are
folded into the first and last convolution, since they are linear, so no picture is ever converted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from rtstyle.errors import StyleFormatError
from rtstyle.frame import Colour

PICTURE, CANVAS, STRENGTH, STYLIZED = "picture", "canvas", "strength", "stylized"
"""Names of the deployed graph's inputs and output."""

PLANE_CHANNELS, CANVAS_CHANNELS = 24, 16
_CANVAS_UNIT = 64
"""Levels of the canvas, around 128, that are 1 to the generator."""

_STEM, _TAIL, _TAIL_BIAS, _SKIP = "stem.conv.weight", "tail.weight", "tail.bias", "skip.weight"

Weights = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Trunk:
    """A float32 network: the nodes of an ONNX graph and its weights by name."""

    model: onnx.ModelProto
    weights: Weights

    @classmethod
    def load(cls, path: Path) -> Trunk:
        """Read a trunk.onnx.

        Raises:
            StyleFormatError: It is missing, damaged, or no trunk.
        """
        try:
            model = onnx.load(str(path), load_external_data=False)
            onnx.checker.check_model(model)
            weights = {w.name: np.array(numpy_helper.to_array(w), np.float32) for w in model.graph.initializer}
        except Exception as error:  # protobuf and onnx raise many kinds; all mean the same here
            raise StyleFormatError(f"cannot read the weights {path}: {type(error).__name__}: {error}") from error
        missing = [name for name in (_STEM, _TAIL, _TAIL_BIAS, _SKIP) if name not in weights]
        names = [value.name for value in (*model.graph.input, *model.graph.output)]
        if missing or names != ["x", "z", "s"]:
            raise StyleFormatError(f"{path} is no trunk of rtstyle (inputs and outputs {names}, missing {missing})")
        return cls(model, weights)

    @classmethod
    def blend(cls, trunks: Sequence[Trunk], shares: Sequence[float]) -> Trunk:
        """Interpolate weights: a new style, if the trunks were fine-tuned from one.

        Raises:
            StyleFormatError: They are not of one family (names or shapes of weights differ).
        """
        first = trunks[0]
        for other in trunks[1:]:
            if {n: w.shape for n, w in other.weights.items()} != {n: w.shape for n, w in first.weights.items()}:
                raise StyleFormatError("these styles cannot be blended: their networks have different sizes")
        if len(trunks) == 1:
            return first
        mixed = {
            name: np.asarray(sum(s * t.weights[name] for t, s in zip(trunks, shares, strict=True)), np.float32)
            for name in first.weights
        }
        return cls(first.model, mixed)


def _per_cell(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Expand a colour matrix (3, 3) that keeps grey grey to the 24 channels of a cell: (24, 24).

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


def fold_colour(weights: Weights, colour: Colour) -> Weights:
    """Return weights that take centred samples of a stream and a centred canvas, and give a residual in its levels."""
    matrix = colour.to_canonical()
    into, back = _per_cell(matrix), _per_cell(np.asarray(np.linalg.inv(matrix), np.float64))
    folded = dict(weights)
    stem = weights[_STEM].astype(np.float64)
    picture = np.einsum("oikl,ij->ojkl", stem[:, :PLANE_CHANNELS], into)
    folded[_STEM] = np.concatenate((picture, stem[:, PLANE_CHANNELS:] / _CANVAS_UNIT), 1).astype(np.float32)
    folded[_TAIL] = np.einsum("po,oikl->pikl", back, weights[_TAIL].astype(np.float64)).astype(np.float32)
    folded[_TAIL_BIAS] = (back @ weights[_TAIL_BIAS]).astype(np.float32)
    skip = weights[_SKIP][:, :, 0, 0].astype(np.float64)
    folded[_SKIP] = (back @ skip @ into).astype(np.float32)[:, :, None, None]
    return folded


def deployed(trunk: Trunk, colour: Colour, rows: int, columns: int) -> onnx.ModelProto:
    """Build the graph that engines run: packed uint8 in, packed uint8 out, static shape.

    Inputs: ``picture`` (1, rows, columns, 24) and ``canvas`` (1, rows, columns, 16), uint8; ``strength``
    (24,), float32, of each channel. Output: ``stylized``, like ``picture``. Subtracting the stream's middle
    grey first makes the zeros around each convolution mean the same in every colour. The source is added,
    rounded and clamped in float32, whatever precision the trunk runs in, so strength 0 changes no bit.
    """
    inner = trunk.model.graph
    constants = {
        "centre": centre_of(colour),
        "canvas_centre": np.array([128], np.float32),
        "black": np.array(0, np.float32),
        "white": np.array(255, np.float32),
        "half": np.array([0.5], np.float32),
        **fold_colour(trunk.weights, colour),
    }
    node = helper.make_node
    before = [
        node("Cast", [PICTURE], ["samples"], to=TensorProto.FLOAT),
        node("Sub", ["samples", "centre"], ["centred"]),
        node("Transpose", ["centred"], ["x"], perm=(0, 3, 1, 2)),
        node("Cast", [CANVAS], ["canvas_float"], to=TensorProto.FLOAT),
        node("Sub", ["canvas_float", "canvas_centre"], ["canvas_centred"]),
        node("Transpose", ["canvas_centred"], ["z"], perm=(0, 3, 1, 2)),
    ]
    after = [
        node("Transpose", ["s"], ["style"], perm=(0, 2, 3, 1)),
        node("Mul", ["style", STRENGTH], ["residual"]),
        node("Add", ["samples", "residual"], ["sum"]),
        node("Clip", ["sum", "black", "white"], ["clamped"]),
        node("Add", ["clamped", "half"], ["raised"]),
        node("Floor", ["raised"], ["rounded"]),
        node("Cast", ["rounded"], [STYLIZED], to=TensorProto.UINT8),
    ]
    shape = (1, rows, columns)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [*before, *inner.node, *after],
        "rtstyle",
        [
            value(PICTURE, TensorProto.UINT8, (*shape, PLANE_CHANNELS)),
            value(CANVAS, TensorProto.UINT8, (*shape, CANVAS_CHANNELS)),
            value(STRENGTH, TensorProto.FLOAT, (PLANE_CHANNELS,)),
        ],
        [value(STYLIZED, TensorProto.UINT8, (*shape, PLANE_CHANNELS))],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", trunk.model.opset_import[0].version)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=trunk.model.ir_version)


def centre_of(colour: Colour) -> NDArray[np.float32]:
    """Return middle grey of each channel of a packed picture: shape (24,), float32."""
    return np.repeat(np.array(colour.centre, np.float32), (16, 4, 4))


def strength_of(luma: float, chroma: float) -> NDArray[np.float32]:
    """Return the ``strength`` input: shape (24,), float32."""
    return np.repeat(np.array((luma, chroma), np.float32), (16, 8))

"""A stranger's style is refused in one line before it can run, hang, fill the memory or read another file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rtstyle.errors import StyleFormatError
from rtstyle.graph import Trunk
from rtstyle.style import list_styles, load_style, read_int8
from rtstyle.style_folder import LARGEST_TRUNK
from rtstyle.whitelist import weight_shapes

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path) -> Path:
    """A copy of the smallest network that is shipped."""
    return Path(shutil.copytree(load_style("sketch", "fast").folders[0][0], tmp_path / "style"))


def refusal(folder: Path) -> str:
    with pytest.raises(StyleFormatError) as caught:
        Trunk.load(folder / "trunk.onnx")
    said = str(caught.value)
    assert said.isprintable()
    assert len(said) < 600
    assert str(folder / "trunk.onnx") in said
    return said


def edited(folder: Path, edit: Callable[[onnx.ModelProto], object]) -> str:
    """Change the trunk and return why it is refused."""
    model = onnx.load(folder / "trunk.onnx")
    edit(model)
    (folder / "trunk.onnx").write_bytes(model.SerializeToString())
    return refusal(folder)


@pytest.mark.parametrize("name", list_styles())
def test_every_shipped_network_is_what_the_whitelist_names(name):
    for size_class in load_style(name).size_classes:
        trunk = load_style(name, size_class).trunk
        shapes = {each: weights.shape for each, weights in trunk.weights.items()}
        blocks = 1 + max(int(each.split(".")[1]) for each in shapes if each.startswith("blocks."))
        channels, deep = shapes["tail.weight"][1], shapes["down.conv.weight"][0]
        assert shapes == weight_shapes(channels, deep, blocks, steered=load_style(name).steered)


# -- operators -------------------------------------------------------------------------------------


def endless(model: onnx.ModelProto) -> None:
    """Put a loop without an end between the trunk and its output."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Identity", ["carried"], ["carried_on"])],
        "body",
        [value("turn", TensorProto.INT64, ()), value("go", TensorProto.BOOL, ()), value("carried", 1, None)],
        [value("go_on", TensorProto.BOOL, ()), value("carried_on", 1, None)],
    )
    model.graph.node[-1].output[0] = "before"
    model.graph.node.append(helper.make_node("Loop", ["", "", "before"], ["s"], body=body))


def expand(model: onnx.ModelProto) -> None:
    model.graph.node[-1].output[0] = "before"
    model.graph.initializer.append(numpy_helper.from_array(np.array([100000, 1, 1, 1]), "shape"))
    model.graph.node.append(helper.make_node("Expand", ["before", "shape"], ["s"]))


def other_domain(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    model.graph.node[1].domain = "com.microsoft"


def function(model: onnx.ModelProto) -> None:
    model.functions.append(
        helper.make_function("", "Relu", ["a"], ["b"], [helper.make_node("Exp", ["a"], ["b"])], model.opset_import)
    )


def node_of(model: onnx.ModelProto, kind: str, number: int = 0) -> onnx.NodeProto:
    return [node for node in model.graph.node if node.op_type == kind][number]


def attribute(kind: str, **values: object) -> Callable[[onnx.ModelProto], None]:
    def edit(model: onnx.ModelProto) -> None:
        node = node_of(model, kind)
        kept = [each for each in node.attribute if each.name not in values]
        del node.attribute[:]
        node.attribute.extend([*kept, *(helper.make_attribute(name, value) for name, value in values.items())])

    return edit


def double(model: onnx.ModelProto) -> None:
    """Join a tensor to itself, again and again: 2 to the power of 40 channels."""
    name = model.graph.node[-1].input[0]
    for i in range(40):
        model.graph.node.append(helper.make_node("Concat", [name, name], [f"double_{i}"], axis=1))
        name = f"double_{i}"


def many_nodes(model: onnx.ModelProto) -> None:
    for i in range(300):
        model.graph.node.append(helper.make_node("Relu", ["x"], [f"more_{i}"]))


OPERATORS = {
    "a Loop": (endless, "it has a node 'Loop', and a trunk has only"),
    "an Expand": (expand, "it has a node 'Expand'"),
    "another domain": (other_domain, "its operators are"),
    "a function": (function, "functions"),
    "too many nodes": (many_nodes, "more nodes than any trunk"),
    "Concat of itself": (double, "joins something else than x and z"),
    "large pads": (attribute("Conv", pads=[1 << 20] * 4), "a Conv has pads"),
    "no stride": (attribute("Conv", strides=[0, 0]), "a Conv has strides"),
    "auto_pad": (attribute("Conv", auto_pad="SAME_UPPER"), "a Conv has auto_pad"),
    "a large block": (attribute("DepthToSpace", blocksize=1 << 30), "a DepthToSpace has blocksize"),
    "a graph in a Relu": (
        attribute("Relu", body=helper.make_graph([], "body", [], [])),
        "a Relu has body",
    ),
}


@pytest.mark.parametrize("kind", OPERATORS)
def test_what_no_trunk_has_is_refused(folder, kind):
    edit, reason = OPERATORS[kind]
    assert reason in edited(folder, edit)


def test_a_style_that_would_never_end_is_one_line_of_error(folder, tmp_path):
    model = onnx.load(folder / "trunk.onnx")
    endless(model)
    (folder / "trunk.onnx").write_bytes(model.SerializeToString())
    photo = ROOT / "rtstyle" / "styles" / "sketch" / "preview.jpg"
    done = subprocess.run(
        [sys.executable, "-m", "rtstyle", "image", str(photo), str(tmp_path / "out.png"), "--style", str(folder)],
        capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if "error" in line]
    assert len(errors) == 1
    assert errors[0].startswith("rtstyle: error: cannot read the weights"), done.stderr
    assert "Traceback" not in done.stderr


# -- weights ---------------------------------------------------------------------------------------


def weights(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[onnx.ModelProto], None]:
    def edit(model: onnx.ModelProto) -> None:
        (tensor,) = (each for each in model.graph.initializer if each.name == name)
        tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), name))

    return edit


def external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "../../etc/passwd"), ("length", "23040")):
        tensor.external_data.add(key=key, value=value)


def external_beside_data(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].external_data.add(key="location", value="secret")


def unused(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((4, 4), np.float32), "more"))


def twice(model: onnx.ModelProto) -> None:
    node_of(model, "Conv", 3).input[1:] = node_of(model, "Conv", 2).input[1:]


WEIGHTS = {
    "NaN": (weights("tail.bias", lambda array: array * np.nan), "'tail.bias' hold NaN"),
    "infinite": (weights("skip.weight", lambda array: array / 0), "'skip.weight' hold NaN or infinite"),
    "external": (external, "are to be read from another file"),
    "external as well": (external_beside_data, "are to be read from another file"),
    "float64": (weights("tail.bias", lambda array: array.astype(np.float64)), "'tail.bias' are not float32"),
    "another shape": (weights("fuse.conv.weight", lambda a: a[:, :, :2, :2]), "not those of a trunk: fuse.conv.weight"),
    "one more": (unused, "not those of a trunk: more"),
    "one twice": (twice, "used twice or not at all"),
    "no block": (lambda m: m.graph.initializer.pop(4), "reads weights that are not its own or not there"),
    "many channels": (weights("tail.weight", lambda a: np.zeros((24, 9999, 1, 1), np.float32)), "which no trunk has"),
}


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_that_no_trunk_has_are_refused(folder, kind):
    edit, reason = WEIGHTS[kind]
    assert reason in edited(folder, edit)


def crossed(model: onnx.ModelProto) -> None:
    """Add the frame at a quarter of its size to that at an eighth."""
    node_of(model, "Add").input[0] = "/Relu_output_0"


def input_of(number: int, kind: int = TensorProto.FLOAT, channels: int = 24) -> Callable[[onnx.ModelProto], None]:
    def edit(model: onnx.ModelProto) -> None:
        value = model.graph.input[number]
        value.CopyFrom(helper.make_tensor_value_info(value.name, kind, (1, channels, "rows", "columns")))

    return edit


def circle(model: onnx.ModelProto) -> None:
    model.graph.node[2].input[0] = model.graph.node[-1].output[0]


@pytest.mark.parametrize("edit", [crossed, input_of(0, channels=23), input_of(1, TensorProto.DOUBLE, 16), circle])
def test_wires_that_do_not_fit_are_refused(folder, edit):
    edited(folder, edit)


# -- files -----------------------------------------------------------------------------------------


def number(value: int) -> bytes:
    data = b""
    while value > 127:
        data, value = data + bytes([value & 127 | 128]), value >> 7
    return data + bytes([value])


def message(field: int, data: bytes) -> bytes:
    return number(field << 3 | 2) + number(len(data)) + data


MANY = 8 << 20
BOMBS = {
    "nodes": message(7, b"\x0a\x00" * MANY),
    "attributes of a node": message(7, message(1, b"\x2a\x00" * MANY)),
    "external data of a tensor": message(7, message(5, b"\x6a\x00" * MANY)),
    "weights": message(7, b"\x2a\x00" * MANY),
    "functions": b"\xca\x01\x00" * MANY,
    "deep graphs": b"",
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_file_of_millions_of_parts_is_refused_before_it_fills_the_memory(folder, kind):
    data = BOMBS[kind]
    if kind == "deep graphs":
        for _ in range(300):
            data = message(7, message(1, message(5, message(6, data))))
    (folder / "trunk.onnx").write_bytes(data)
    code = (
        "import sys; sys.path.insert(0, 'tests'); from peak import peak_kilobytes\n"
        "from rtstyle.graph import Trunk; from pathlib import Path\n"
        "before = peak_kilobytes()\n"
        "try: Trunk.load(Path(sys.argv[1]))\n"
        "except ValueError as error: print(peak_kilobytes() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder / "trunk.onnx")],
        capture_output=True, text=True, timeout=60, cwd=ROOT, check=True,
    )  # fmt: skip
    assert int(done.stdout) < 100_000, "kB"


def test_a_file_too_large_is_not_read(folder):
    with (folder / "trunk.onnx").open("wb") as file:
        file.truncate(LARGEST_TRUNK + 1)
    assert "has more than 32 MB" in refusal(folder)


@pytest.mark.parametrize("name", ["style.json", "trunk.onnx", "int8.json"])
@pytest.mark.parametrize("kind", ["pipe", "zero", "folder", "dangling"])
def test_what_is_no_file_is_refused_and_not_waited_for(folder, name, kind):
    path = folder / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "zero" else "nothing")
    code = (
        "import sys; from rtstyle import load_style\n"
        "try: load_style(sys.argv[1]).int8\n"
        "except Exception as error: print(type(error).__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=30, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "StyleFormatError"


INT8 = {
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "no numbers": b'{"ranges": {"a": ["x", "y"]}, "gains": {}, "trunk_sha256": ""}',
    "a number of 400 digits": b'{"ranges": {"a": [0, 1' + b"0" * 400 + b']}, "gains": {}, "trunk_sha256": ""}',
    "gains of dicts": b'{"ranges": {}, "gains": {"a": {}}, "trunk_sha256": ""}',
    "gains too large": b'{"ranges": {}, "gains": {"a": [1' + b"0" * 400 + b']}, "trunk_sha256": ""}',
    "no UTF-8": b"\xff\xff\xff",
    "escapes": b'{"ranges": {"a": "\\u001b[2J"}, "gains": {}, "trunk_sha256": ""}',
}


@pytest.mark.parametrize("kind", INT8)
def test_a_damaged_int8_json_is_one_line(folder, kind):
    trunk = Trunk.load(folder / "trunk.onnx")
    (folder / "int8.json").write_bytes(INT8[kind])
    with pytest.raises(StyleFormatError) as caught:
        read_int8(folder, trunk)
    assert str(caught.value).isprintable()


STYLES = {
    "deep": b"[" * 100_000,
    "format true": b'{"format": true}',
    "name a list": b'{"format": 1, "name": ["a"]}',
    "name with escapes": b'{"format": 1, "name": "\\u001b]0;you\\u0007"}',
    "name of two lines": b'{"format": 1, "name": "a\\nrtstyle: error: forged"}',
    "title too long": json.dumps({"format": 1, "title": "a" * 300}).encode(),
    "long number": b'{"format": ' + b"1" * 5000 + b"}",
}


@pytest.mark.parametrize("kind", STYLES)
def test_a_damaged_style_json_is_one_line(folder, kind):
    (folder / "style.json").write_bytes(STYLES[kind])
    with pytest.raises(StyleFormatError) as caught:
        load_style(folder)
    assert str(caught.value).isprintable()

"""The deployed graph: the generator in torch and nothing else, in every colour, and blends of weights."""

import itertools
from fractions import Fraction

import numpy as np
import onnx
import pytest
from conftest import make_random_style

from rtstyle import graph
from rtstyle.backends import Controls, open_engine
from rtstyle.canvas import CanvasCutter
from rtstyle.errors import StyleFormatError
from rtstyle.frame import Colour, Frame, Packing, Planes, Size
from rtstyle.graph import Trunk
from rtstyle.style import load_style

torch = pytest.importorskip("torch")

COLOURS = [Colour(matrix, full_range=full) for matrix in ("bt601", "bt709", "bt2020") for full in (False, True)]


def stylized(style, planes: Planes, colour: Colour, *, backend: str = "openvino", canvas=(0, 0)) -> Planes:
    height, width = planes.y.shape
    with open_engine(style, Size(width, height), colour, backend=backend, precision="f32") as engine:
        engine.submit(Frame(planes, 0, Fraction(1), colour, canvas), Controls())
        return engine.next().planes


def largest_difference(first: Planes, second: Planes) -> int:
    return max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(first, second, strict=True))


def smooth_planes(size: Size, seed: int = 0) -> Planes:
    """A picture without sharp edges, far from black, white and full colours."""
    rng = np.random.default_rng(seed)
    planes = []
    for side, low, high in ((size, 90, 160), (size.chroma, 110, 146), (size.chroma, 110, 146)):
        y, x = np.mgrid[0 : side.height, 0 : side.width]
        a, b, c = rng.uniform(0.5, 1.5, 3)
        wave = np.sin(a * 6 * x / side.width + c) * np.cos(b * 6 * y / side.height)
        planes.append(np.rint(low + (high - low) * (wave + 1) / 2).astype(np.uint8))
    return Planes(*planes)


# -- equal to torch --------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", COLOURS, ids=str)
def test_the_deployed_graph_is_what_the_generator_computes(random_style, colour):
    # Both add up the same float32 products in different orders: a sample next to a half may round the other way.
    planes = smooth_planes(Size(70, 50))
    ours = stylized(random_style, planes, colour)
    theirs = stylized(random_style, planes, colour, backend="torch")
    assert largest_difference(ours, theirs) <= 1
    assert largest_difference(ours, planes) > 5, "this style does nothing, so it proves nothing"
    rounded_otherwise = np.mean([np.mean(a != b) for a, b in zip(ours, theirs, strict=True)])
    assert rounded_otherwise < 0.001


def test_the_shipped_style_is_the_same_picture_in_torch(sketch):
    planes = smooth_planes(Size(96, 64))
    ours = stylized(sketch, planes, Colour())
    theirs = stylized(sketch, planes, Colour(), backend="torch")
    assert largest_difference(ours, theirs) <= 1


def test_the_whole_path_is_the_formula_of_the_design(random_style):
    """x + S(x, z) with x and z as generator.py defines them, written out once without any of the package's folding."""
    from rtstyle.backends.torch import generator_of

    size, colour, offset = Size(48, 40), Colour("bt709", full_range=True), (13, 5)
    planes = smooth_planes(size)
    packing = Packing(size)
    picture = np.zeros((packing.rows, packing.columns, 24), np.uint8)
    canvas = np.zeros((packing.rows, packing.columns, 16), np.uint8)
    packing.pack(planes, picture)
    CanvasCutter(packing.rows, packing.columns).cut(offset, canvas)
    centre = np.repeat([127.5, 128, 128], (16, 4, 4))
    x = torch.from_numpy((picture - centre) / 255).float().permute(2, 0, 1)[None]
    z = (torch.from_numpy(canvas).float().permute(2, 0, 1)[None] - 128) / 64
    with torch.inference_mode():
        style = generator_of(random_style.trunk.weights)(x, z)[0].permute(1, 2, 0).numpy()
    expected = np.clip(np.floor(picture + 255 * style + 0.5), 0, 255).astype(np.uint8)

    assert largest_difference(stylized(random_style, planes, colour, canvas=offset), packing.unpack(expected)) <= 1


# -- colour ----------------------------------------------------------------------------------------


def samples_in(canonical: np.ndarray, colour: Colour) -> tuple[np.ndarray, ...]:
    """Samples of a picture given in the canonical colour (centred, shape (h, w, 3)), as floats."""
    samples = canonical @ np.linalg.inv(colour.to_canonical()).T + np.array(colour.centre)
    height, width = samples.shape[:2]
    halved = samples.reshape(height // 2, 2, width // 2, 2, 3).mean((1, 3))
    return samples[..., 0], halved[..., 1], halved[..., 2]


def canonical_of(planes: Planes, colour: Colour) -> np.ndarray:
    """The reverse: canonical levels (0..255 full range, BT.709), chroma repeated to the size of luma."""
    chroma = [plane.repeat(2, 0).repeat(2, 1) for plane in planes[1:]]
    samples = np.stack([planes.y, *chroma], 2) - np.array(colour.centre)
    return 255 * samples @ colour.to_canonical().T


@pytest.mark.parametrize("name", ["sketch", "random"])
def test_one_picture_in_six_colours_is_stylized_alike(name, random_style):
    """Colour is folded into the weights: nobody sees from the result how the stream was coded.

    The picture is one smooth float picture whose chroma is constant within 2x2 pixels, so that all six mean
    the same by their chroma samples. What is left is rounding: each input sample is off by up to half a step
    of its own scale (0.58 canonical levels in limited range), which the network passes on about as it is, and
    each output sample by as much again. So each of two results is within some 1.2 of the unrounded one, and they
    are 2.4 from one another, or a little more, where all four roundings conspire: two samples in a thousand may
    be beyond 2, none beyond 3. Limited range has levels beyond black and white, which full range has not:
    compared is what a display shows.
    """
    size = Size(96, 64)
    y, x = np.mgrid[0 : size.height, 0 : size.width]
    block_y, block_x = y // 2 * 2 / size.height, x // 2 * 2 / size.width
    canonical = np.stack(
        (
            0.12 * np.sin(7 * x / size.width) * np.cos(5 * y / size.height),
            0.08 * np.sin(4 * block_x + 1),
            0.08 * np.cos(5 * block_y + 2 * block_x),
        ),
        2,
    )
    style = random_style if name == "random" else load_style(name)
    results = []
    for colour in COLOURS:
        planes = Planes(*(np.rint(plane).astype(np.uint8) for plane in samples_in(canonical, colour)))
        results.append(np.clip(canonical_of(stylized(style, planes, colour), colour), -127.5, 127.5))
    assert np.abs(results[0] - 255 * canonical).mean() > 3, "this style does nothing, so it proves nothing"
    for one, other in itertools.combinations(range(len(COLOURS)), 2):
        difference = np.abs(results[one] - results[other])
        assert difference.max() <= 3, (COLOURS[one], COLOURS[other])
        assert np.mean(difference > 2) < 0.002, (COLOURS[one], COLOURS[other])


def test_folding_for_the_canonical_colour_only_scales(random_style):
    weights = random_style.trunk.weights
    folded = graph.fold_colour(weights, Colour("bt709", full_range=True))
    np.testing.assert_allclose(folded["tail.weight"], 255 * weights["tail.weight"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(folded["skip.weight"], weights["skip.weight"], rtol=1e-5, atol=1e-7)
    assert set(folded) == set(weights)


# -- blends ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def family(tmp_path_factory) -> tuple[Trunk, Trunk]:
    """Two trunks of one shape and other weights."""
    folder = tmp_path_factory.mktemp("family")
    first, second = (make_random_style(folder / str(seed), seed=seed, gain=1) for seed in (5, 6))
    return load_style(first).trunk, load_style(second).trunk


def test_blended_weights_lie_between_those_of_the_styles(family):
    first, second = family
    blend = Trunk.blend([first, second], [0.25, 0.75])
    for name, weights in blend.weights.items():
        assert weights.dtype == np.float32
        expected = 0.25 * first.weights[name] + 0.75 * second.weights[name]
        np.testing.assert_allclose(weights, expected, rtol=1e-5, atol=1e-7)
    whole = Trunk.blend([first, second], [1.0, 0.0])
    assert all(np.array_equal(whole.weights[name], first.weights[name]) for name in first.weights)


def test_a_blend_runs_and_is_a_style_of_its_own(tmp_path):
    folders = [make_random_style(tmp_path / str(seed), seed=seed, gain=1) for seed in (5, 6)]
    planes = smooth_planes(Size(32, 32))
    first, second = (stylized(load_style(folder), planes, Colour()) for folder in folders)
    blend = stylized(load_style(f"{folders[0]}:0.5,{folders[1]}:0.5"), planes, Colour())
    assert largest_difference(blend, first) > 2
    assert largest_difference(blend, second) > 2


def test_trunks_of_other_sizes_do_not_blend(random_style, sketch):
    with pytest.raises(StyleFormatError, match="different sizes"):
        Trunk.blend([random_style.trunk, sketch.trunk], [0.5, 0.5])


# -- what the graph is made of -----------------------------------------------------------------------


def test_the_deployed_graph_has_a_static_shape_and_passes_onnx_checks(random_style):
    model = graph.deployed(random_style.trunk, Colour(), 10, 14)
    onnx.checker.check_model(model, full_check=True)
    shapes = {
        value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {
        "picture": (1, 10, 14, 24),
        "canvas": (1, 10, 14, 16),
        "strength": (24,),
        "stylized": (1, 10, 14, 24),
    }


def test_no_normalisation_is_left_in_the_deployed_graph(sketch):
    # Global statistics would make brightness pump, and tiles differ from the whole frame.
    kinds = {node.op_type for node in graph.deployed(sketch.trunk, Colour(), 8, 8).graph.node}
    assert not {kind for kind in kinds if "Norm" in kind or "ReduceMean" in kind or "GlobalAverage" in kind}


def test_strength_is_one_number_for_luma_and_one_for_chroma():
    strength = graph.strength_of(0.5, 0.25)
    assert strength.shape == (24,)
    assert np.all(strength[:16] == 0.5)
    assert np.all(strength[16:] == 0.25)


@pytest.mark.parametrize("content", [b"", b"text", b"\x08\x07" * 50], ids=["empty", "text", "noise"])
def test_a_file_that_is_no_trunk_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "trunk.onnx"
    path.write_bytes(content)
    with pytest.raises(StyleFormatError) as caught:
        Trunk.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_trunk_without_its_tail_is_refused_by_the_name_of_what_is_missing(tmp_path, random_style):
    model = onnx.load(random_style.folders[0][0] / "trunk.onnx")
    for weights in model.graph.initializer:
        if weights.name == "tail.weight":
            weights.name = "other.weight"
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name == "tail.weight":
                node.input[i] = "other.weight"
    onnx.save(model, tmp_path / "trunk.onnx")
    with pytest.raises(StyleFormatError, match=r"missing \['tail.weight'\]"):
        Trunk.load(tmp_path / "trunk.onnx")

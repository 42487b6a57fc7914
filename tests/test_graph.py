"""The deployed graph: the generator in torch and nothing else, in every color, and blends."""

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
from rtstyle.frame import Color, Frame, Packing, Planes, Size
from rtstyle.graph import Trunk
from rtstyle.style import list_styles, load_style

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.usefixtures("one_thread")

COLORS = [Color(matrix, full_range=full) for matrix in ("bt601", "bt709", "bt2020") for full in (False, True)]


def stylized(style, planes: Planes, color: Color, *, backend: str = "openvino", canvas=(0, 0)) -> Planes:
    height, width = planes.y.shape
    with open_engine(style, Size(width, height), color, backend=backend, precision="f32") as engine:
        engine.submit(Frame(planes, 0, Fraction(1), color, canvas), Controls())
        return engine.next().planes


def largest_difference(first: Planes, second: Planes) -> int:
    return max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(first, second, strict=True))


def smooth_planes(size: Size, seed: int = 0) -> Planes:
    """A frame without sharp edges, far from black, white and full colors."""
    rng = np.random.default_rng(seed)
    planes = []
    for side, low, high in ((size, 90, 160), (size.chroma, 110, 146), (size.chroma, 110, 146)):
        y, x = np.mgrid[0 : side.height, 0 : side.width]
        a, b, c = rng.uniform(0.5, 1.5, 3)
        wave = np.sin(a * 6 * x / side.width + c) * np.cos(b * 6 * y / side.height)
        planes.append(np.rint(low + (high - low) * (wave + 1) / 2).astype(np.uint8))
    return Planes(*planes)


# -- equal to torch --------------------------------------------------------------------------------


@pytest.mark.parametrize("color", COLORS, ids=str)
def test_the_deployed_graph_is_what_the_generator_computes(random_style, color):
    # Both add up the same float32 products in different orders: a sample next to a half may round the other way.
    planes = smooth_planes(Size(70, 50))
    ours = stylized(random_style, planes, color)
    theirs = stylized(random_style, planes, color, backend="torch")
    assert largest_difference(ours, theirs) <= 1
    assert largest_difference(ours, planes) > 5, "this style does nothing, so it proves nothing"
    rounded_otherwise = np.mean([np.mean(a != b) for a, b in zip(ours, theirs, strict=True)])
    assert rounded_otherwise < 0.001


def test_the_shipped_style_is_the_same_frame_in_torch(sketch):
    planes = smooth_planes(Size(96, 64))
    ours = stylized(sketch, planes, Color())
    theirs = stylized(sketch, planes, Color(), backend="torch")
    assert largest_difference(ours, theirs) <= 1


def test_the_whole_path_is_the_formula_of_the_design(random_style):
    """x + S(x, z) with x and z as generator.py defines them, written out once without any of the package's folding."""
    from rtstyle.backends.torch import generator_of

    size, color, offset = Size(48, 40), Color("bt709", full_range=True), (13, 5)
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

    assert largest_difference(stylized(random_style, planes, color, canvas=offset), packing.unpack(expected)) <= 1


# -- color ----------------------------------------------------------------------------------------


def samples_in(canonical: np.ndarray, color: Color) -> tuple[np.ndarray, ...]:
    """Samples of a frame given in the canonical color (centred, shape (h, w, 3)), as floats."""
    samples = canonical @ np.linalg.inv(color.to_canonical()).T + np.array(color.centre)
    height, width = samples.shape[:2]
    halved = samples.reshape(height // 2, 2, width // 2, 2, 3).mean((1, 3))
    return samples[..., 0], halved[..., 1], halved[..., 2]


def canonical_of(planes: Planes, color: Color) -> np.ndarray:
    """The reverse: canonical levels (0..255 full range, BT.709), chroma repeated to the size of luma."""
    chroma = [plane.repeat(2, 0).repeat(2, 1) for plane in planes[1:]]
    samples = np.stack([planes.y, *chroma], 2) - np.array(color.centre)
    return 255 * samples @ color.to_canonical().T


def test_one_frame_in_six_colors_is_stylized_alike(random_style):
    """Color is folded into the weights: the result does not show how the stream was coded.

    The frame is one smooth float frame whose chroma is constant within 2x2 pixels, so that all six mean
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
    results = []
    for color in COLORS:
        planes = Planes(*(np.rint(plane).astype(np.uint8) for plane in samples_in(canonical, color)))
        results.append(np.clip(canonical_of(stylized(random_style, planes, color), color), -127.5, 127.5))
    assert np.abs(results[0] - 255 * canonical).mean() > 3, "this style does nothing, so it proves nothing"
    for one, other in itertools.combinations(range(len(COLORS)), 2):
        difference = np.abs(results[one] - results[other])
        assert difference.max() <= 3, (COLORS[one], COLORS[other])
        assert np.mean(difference > 2) < 0.002, (COLORS[one], COLORS[other])


def test_folding_for_the_canonical_color_only_scales(random_style):
    weights = random_style.trunk.weights
    folded = graph.fold_color(weights, Color("bt709", full_range=True))
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


@pytest.mark.parametrize("shares", [(0.25, 0.75), (0.9, 0.1)])
def test_the_residual_of_a_blend_is_that_of_its_styles_by_share(family, shares):
    generator = torch.Generator().manual_seed(0)
    x, z = torch.rand((1, 24, 12, 14), generator=generator) - 0.5, torch.randn((1, 16, 12, 14), generator=generator)
    from rtstyle.backends.torch import generator_of

    first, second = (generator_of(trunk.weights)(x, z) for trunk in family)
    blend = generator_of(Trunk.mix(family, shares).weights)(x, z)
    assert torch.allclose(blend, shares[0] * first + shares[1] * second, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(first, second, atol=1e-2)


def test_a_blend_of_three_is_the_same_in_openvino_and_torch(tmp_path):
    folders = [make_random_style(tmp_path / str(seed), seed=seed, gain=1) for seed in (5, 6, 7)]
    planes = smooth_planes(Size(32, 32))
    blend = load_style(",".join(f"{folder}:{share}" for folder, share in zip(folders, (1, 2, 3), strict=True)))
    results = [stylized(blend, planes, Color(), backend=name) for name in ("openvino", "torch")]
    assert largest_difference(*results) <= 1
    for folder in folders:
        assert largest_difference(results[0], stylized(load_style(folder), planes, Color())) > 2


def test_trunks_of_other_sizes_do_not_blend(random_style, sketch):
    with pytest.raises(StyleFormatError, match="different sizes"):
        Trunk.mix([random_style.trunk, sketch.trunk], [0.5, 0.5])


# -- what the graph is made of -----------------------------------------------------------------------


def test_the_deployed_graph_has_a_static_shape_and_passes_onnx_checks(random_style):
    model = graph.deployed(random_style.trunk, Color(), 10, 14)
    onnx.checker.check_model(model, full_check=True)
    shapes = {
        value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {
        "source": (1, 10, 14, 24),
        "canvas": (1, 10, 14, 16),
        "strength": (24,),
        "stylized": (1, 10, 14, 24),
    }


def test_what_is_one_number_is_no_list_of_one(random_style):
    """Clip asks for numbers, and so do the int8 additions of ONNX Runtime before 1.31; numpy likes to make lists."""
    trunk, ranges = random_style.int8
    for model in (graph.deployed(trunk, Color(), 40, 60, ranges), graph.planar(trunk, Size(64, 48))):
        shapes = {constant.name: list(constant.dims) for constant in model.graph.initializer}
        scales = [node.input[1:] for node in model.graph.node if node.op_type == "QuantizeLinear"]
        limits = [node.input[1:] for node in model.graph.node if node.op_type == "Clip"]
        assert limits
        assert [name for names in (*scales, *limits) for name in names if shapes[name]] == []


def test_no_normalisation_is_left_in_the_deployed_graph(sketch):
    # Global statistics would make brightness pump, and tiles differ from the whole frame.
    kinds = {node.op_type for node in graph.deployed(sketch.trunk, Color(), 8, 8).graph.node}
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


def test_a_trunk_without_its_tail_is_refused_by_the_name_of_what_is_wrong(tmp_path, random_style):
    model = onnx.load(random_style.folders[0][0] / "trunk.onnx")
    for weights in model.graph.initializer:
        if weights.name == "tail.weight":
            weights.name = "other.weight"
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name == "tail.weight":
                node.input[i] = "other.weight"
    onnx.save(model, tmp_path / "trunk.onnx")
    with pytest.raises(StyleFormatError, match=r"a Conv has the weights other\.weight, tail\.bias"):
        Trunk.load(tmp_path / "trunk.onnx")


# -- the graph of GPU engines: planes in and out --------------------------------------------------------


def planar_stylized(
    style, planes: Planes, color: Color, *, layout="i420", precision="f32", dynamic=False, strength=1.0
) -> Planes:
    """Run the planar graph in ONNX Runtime; planes must be of whole steps of 8 pixels."""
    pytest.importorskip("onnxruntime")
    from fake_device import planar_runner

    height, width = planes.y.shape
    size = Size(width, height)
    model = graph.planar(style.trunk, None if dynamic else size, layout=layout, precision=precision)
    layer = style.layer(size, color)
    shapes = graph.planar_shapes(size, layer.channels)
    picture, canvas = (np.zeros(shapes[name], np.uint8) for name in ("source", "canvas"))
    for target, source in zip(graph.planes_in(picture, layout), planes, strict=True):
        target[:] = source
    layer.lay(Frame(planes, 0, Fraction(1), color, canvas=(13, 5)), canvas[0])
    feeds = {"source": picture, "canvas": canvas, "strength": graph.strength_of(strength, strength)}
    result = planar_runner(model.SerializeToString())({**feeds, **graph.color_inputs(color)})
    assert result.shape == picture.shape
    return graph.planes_in(result, layout)


@pytest.mark.parametrize("color", COLORS, ids=str)
@pytest.mark.parametrize("layout", ["i420", "nv12"])
def test_the_planar_graph_is_what_the_generator_computes_in_every_color(random_style, layout, color):
    planes = smooth_planes(Size(72, 48))
    theirs = stylized(random_style, planes, color, backend="torch", canvas=(13, 5))
    exact = planar_stylized(random_style, planes, color, layout=layout)
    assert largest_difference(exact, theirs) <= 1
    assert np.mean(np.concatenate([(a != b).ravel() for a, b in zip(exact, theirs, strict=True)])) < 0.001
    half = planar_stylized(random_style, planes, color, layout=layout, precision="f16")
    assert largest_difference(half, theirs) <= 2
    assert largest_difference(exact, planes) > 5, "this style does nothing, so it proves nothing"


@pytest.mark.parametrize("name", list_styles())
def test_every_shipped_style_is_within_2_levels_in_float16(name):
    style = load_style(name)
    rng = np.random.default_rng(1)
    size = Size(96, 64)
    noise = Planes(*(rng.integers(0, 256, p.shape, np.uint8) for p in smooth_planes(size)))
    for planes in (smooth_planes(size), noise):
        theirs = stylized(style, planes, Color(), backend="torch", canvas=(13, 5))
        assert largest_difference(planar_stylized(style, planes, Color(), precision="f16"), theirs) <= 2


@pytest.mark.parametrize("layout", ["i420", "nv12"])
def test_an_open_size_gives_the_same_frame(random_style, layout):
    planes = smooth_planes(Size(72, 48))
    fixed, free = (
        planar_stylized(random_style, planes, Color(), layout=layout, dynamic=dynamic) for dynamic in (False, True)
    )
    assert largest_difference(fixed, free) == 0


@pytest.mark.parametrize("precision", ["f32", "f16"])
def test_strength_0_of_the_planar_graph_keeps_every_level(random_style, precision):
    levels = np.arange(256, dtype=np.uint8)
    planes = Planes(*(np.resize(levels, p.shape) for p in smooth_planes(Size(72, 48))))
    for color in COLORS:
        kept = planar_stylized(random_style, planes, color, precision=precision, strength=0.0)
        assert largest_difference(kept, planes) == 0


@pytest.mark.parametrize("layout", ["i420", "nv12"])
def test_the_planar_graph_casts_first_and_last_and_is_float16_between(sketch, layout):
    model = graph.planar(sketch.trunk, Size(64, 48), layout=layout)
    onnx.checker.check_model(model, full_check=True)
    nodes = model.graph.node
    for value in model.graph.input:
        assert [node.op_type for node in nodes if value.name in node.input] == ["Cast"]
    assert [node.op_type for node in nodes if "stylized" in node.output] == ["Cast"]
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    kinds = {value.type.tensor_type.elem_type for value in inferred.graph.value_info}
    assert kinds == {onnx.TensorProto.FLOAT16}
    assert all(node.name for node in nodes)
    assert len({node.name for node in nodes}) == len(nodes)


def test_planes_lie_in_a_frame_as_in_memory_of_i420_and_nv12():
    size = Size(16, 8)
    picture = np.arange(16 * 12, dtype=np.uint8).reshape(1, 1, 12, 16)
    assert graph.planar_shapes(size)["source"] == picture.shape
    y, u, v = graph.planes_in(picture, "i420")
    assert (y.shape, u.shape, v.shape) == ((8, 16), (4, 8), (4, 8))
    assert (int(y[0, 0]), int(u[0, 0]), int(u[0, 1]), int(v[0, 0])) == (0, 128, 129, 160)
    y, u, v = graph.planes_in(picture, "nv12")
    assert (int(y[7, 15]), int(u[0, 0]), int(v[0, 0]), int(u[0, 1]), int(u[1, 0])) == (127, 128, 129, 130, 144)
    assert np.shares_memory(u, picture)

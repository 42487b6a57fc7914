"""Style folders: found, read, blended, and refused in words."""

import json
import shutil

import numpy as np
import onnx
import pytest

from rtstyle.errors import RtstyleError, StyleFormatError, StyleNotFoundError
from rtstyle.style import list_styles, load_style
from rtstyle.style_folder import STYLE_FORMAT


@pytest.fixture
def folder(sketch, tmp_path):
    """A copy of the shipped style that a test may damage."""
    return shutil.copytree(sketch.folders[0][0], tmp_path / "mine")


def refusal(style) -> str:
    """The one line with which a style is refused, at the latest when its weights are needed."""
    with pytest.raises(RtstyleError) as caught:
        _ = load_style(style).trunk
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_shipped_styles_are_listed_and_can_be_loaded():
    assert "sketch" in list_styles()
    assert list_styles() == sorted(list_styles())
    for name in list_styles():
        style = load_style(name)
        assert style.metadata["format"] <= STYLE_FORMAT
        assert style.title
        assert len(style.trunk.weights) > 4


def test_a_style_is_found_by_name_by_folder_and_by_path(folder):
    by_name, by_text, by_path = load_style("sketch"), load_style(str(folder)), load_style(folder)
    assert by_text.folders == by_path.folders == ((folder, 1.0),)
    for name, weights in by_name.trunk.weights.items():
        assert np.array_equal(weights, by_text.trunk.weights[name])


def test_a_style_without_a_title_is_called_by_its_name_or_folder(folder):
    (folder / "style.json").write_text('{"format": 1, "name": "ink"}')
    assert load_style(folder).name == load_style(folder).title == "ink"
    (folder / "style.json").write_text('{"format": 1, "title": "Ink on paper"}')
    assert load_style(folder).name == "mine"
    assert load_style(folder).title == "Ink on paper"


def test_an_unknown_style_is_refused_with_the_nearest_and_with_all():
    message = refusal("skecth")
    assert message.startswith("no style 'skecth'; did you mean 'sketch'?")
    assert "available: " in message
    with pytest.raises(LookupError):
        load_style("skecth")
    assert "did you mean" not in refusal("zzz")


def test_a_folder_that_is_no_style_says_what_it_lacks(tmp_path, folder):
    assert "holds no style.json" in refusal(tmp_path)
    assert "holds no style.json" in refusal(str(tmp_path))
    (folder / "trunk.onnx").unlink()
    assert "has no trunk.onnx" in refusal(folder)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"{", "cannot read"),
        (b"\xff\xfe", "cannot read"),
        (b"[]", "no format number"),
        (b"{}", "no format number"),
        (b'{"format": "1"}', "no format number"),
        (json.dumps({"format": STYLE_FORMAT + 1}).encode(), "upgrade rtstyle"),
    ],
)
def test_a_style_json_that_cannot_be_used_is_refused(folder, text, reason):
    (folder / "style.json").write_bytes(text)
    assert reason in refusal(folder)
    with pytest.raises(StyleFormatError):
        load_style(folder)


def test_damaged_weights_are_refused(folder):
    whole = (folder / "trunk.onnx").read_bytes()
    for damaged in (b"", b"not onnx at all", whole[: len(whole) // 2]):
        (folder / "trunk.onnx").write_bytes(damaged)
        assert str(folder / "trunk.onnx") in refusal(folder)


def test_a_network_that_is_no_trunk_is_refused(folder):
    model = onnx.load(folder / "trunk.onnx")
    model.graph.input[0].name = "source"
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name == "x":
                node.input[i] = "source"
    onnx.save(model, folder / "trunk.onnx")
    assert "is no trunk of rtstyle" in refusal(folder)


# -- blends ----------------------------------------------------------------------------------------


def test_shares_of_a_blend_are_scaled_to_sum_to_one(folder):
    blend = load_style(f"sketch:3,{folder}:1")
    assert [share for _, share in blend.folders] == [0.75, 0.25]
    assert [path for path, _ in blend.folders] == [load_style("sketch").folders[0][0], folder]
    assert blend.name.startswith("sketch:0.75,") or blend.name.startswith(f"{load_style('sketch').name}:0.75,")


def test_a_part_without_a_share_counts_once(folder):
    assert [share for _, share in load_style(f"sketch,{folder}").folders] == [0.5, 0.5]
    assert [share for _, share in load_style("sketch:0.5").folders] == [1.0]


def test_a_blend_is_described_by_its_largest_part(folder):
    (folder / "style.json").write_text('{"format": 1, "name": "ink", "title": "Ink"}')
    assert load_style(f"sketch:0.4,{folder}:0.6").title == "Ink"


def test_a_style_blended_with_itself_is_itself(folder):
    style, blend = load_style("sketch"), load_style("sketch:0.3,sketch:0.7")
    assert blend.name == "sketch"
    for name, weights in style.trunk.weights.items():
        assert np.array_equal(blend.trunk.weights[name], weights)
    assert [share for _, share in load_style(f"sketch:1,{folder}:2,sketch:1").folders] == [0.5, 0.5]


def test_a_share_of_nothing_costs_nothing(folder):
    one, blend = load_style("sketch").trunk, load_style(f"sketch:1,{folder}:0").trunk
    assert {n: w.shape for n, w in blend.weights.items()} == {n: w.shape for n, w in one.weights.items()}


@pytest.mark.parametrize("text", ["sketch:-1,sketch:2", "sketch:0", "sketch:0,sketch:0", "sketch:nan,sketch", ","])
def test_shares_that_make_no_sense_are_refused(text):
    assert "shares" in refusal(text)
    with pytest.raises(StyleNotFoundError):
        load_style(text)


def test_a_blend_with_an_unknown_style_names_it():
    assert "no style 'skecth'" in refusal("sketch:0.5,skecth:0.5")


def test_styles_of_different_families_cannot_be_blended(steered_style):
    assert "cannot be blended" in refusal(f"cartoon:0.5,{steered_style.folders[0][0]}:0.5")


def test_a_folder_with_a_colon_in_its_name_is_a_folder(folder):
    renamed = folder.rename(folder.with_name("C:mine"))
    assert load_style(str(renamed)).folders[0][0] == renamed


# -- networks of other sizes -----------------------------------------------------------------------


def test_a_style_says_which_networks_can_draw_it_and_gives_them(folder):
    style = load_style(folder)
    assert style.size_classes == ("fast", "default")

    fast = load_style(folder, "fast")
    assert (fast.name, fast.title, fast.size_class) == (style.name, style.title, "fast")
    assert fast.folders == ((folder / "fast", 1.0),)
    assert fast.size_classes == style.size_classes
    assert fast.sized("default").folders == style.folders
    assert style.sized("auto") is style
    few, many = (sum(w.size for w in each.trunk.weights.values()) for each in (fast, style))
    assert few < many / 3


def test_a_network_that_is_not_there_is_named_with_those_that_are(folder):
    shutil.rmtree(folder / "fast")
    with pytest.raises(StyleNotFoundError, match=r"has no fast network \(it has: default\)"):
        load_style(folder, "fast")
    with pytest.raises(StyleNotFoundError, match=r"has no fine network"):
        load_style("sketch", "fine")


def test_the_folder_of_a_fast_network_is_a_style_too(folder):
    alone = load_style(folder / "fast")
    assert (alone.name, alone.size_class) == (load_style(folder).name, "fast")
    assert alone.sized("default").folders == ((folder, 1.0),)


def test_a_blend_has_the_networks_that_all_its_parts_have(folder):
    text = f"sketch:1,{folder}:3"
    fast = load_style(text, "fast")
    assert [(path.name, share) for path, share in fast.folders] == [("fast", 0.25), ("fast", 0.75)]
    assert fast.trunk.weights["fuse.conv.weight"].shape[:2] == (32, 16), "two of 16 channels, side by side"

    shutil.rmtree(folder / "fast")
    assert load_style(text).size_classes == ("default",)
    assert "has no fast network" in refusal_of_fast(text)


def refusal_of_fast(text: str) -> str:
    with pytest.raises(StyleNotFoundError) as caught:
        load_style(text, "fast")
    return str(caught.value)

"""The Python interface: arrays in and out, frames from and to RGB, and a name for everything that a signature says."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

import rtstyle
from rtstyle import (
    CaptureSettings,
    Color,
    Controls,
    EncoderSettings,
    EngineSettings,
    Frame,
    LiveSettings,
    Outputs,
    RenderOptions,
    SettingError,
    Size,
    Stylizer,
    load_style,
    stylize,
    stylize_live,
    stylize_video,
)
from rtstyle.backends import opening
from rtstyle.live.settings import ControlSettings
from rtstyle.verify import verify_media

ROOT = Path(__file__).parents[1]

F32 = rtstyle.EngineSettings(precision="f32")


def photo(width: int = 96, height: int = 64, seed: int = 0) -> np.ndarray:
    """An RGB array of soft areas."""
    coarse = np.random.default_rng(seed).integers(20, 235, (height // 8 + 2, width // 8 + 2, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


# -- arrays ----------------------------------------------------------------------------------------


def test_an_array_comes_back_stylized_and_the_input_is_left_alone():
    image = photo()
    before = image.copy()
    result = stylize(image, style="sketch", engine=F32)
    assert (result.shape, result.dtype) == (image.shape, np.uint8)
    assert np.array_equal(image, before)
    assert not np.shares_memory(result, image)
    assert distance(result, image) > 5


def test_an_array_gives_what_the_command_writes_for_the_same_image(tmp_path):
    image = photo()
    cv2.imwrite(str(tmp_path / "in.png"), image[..., ::-1])
    rtstyle.stylize_images(tmp_path / "in.png", tmp_path / "out.png", style="ink", engine=F32)
    written = cv2.imread(str(tmp_path / "out.png"))[..., ::-1]
    assert np.array_equal(stylize(image, "ink", engine=F32), written)


def test_bgr_goes_in_and_out_by_turning_the_channels():
    image = photo()
    turned = stylize(image[..., ::-1][..., ::-1], engine=F32)
    assert np.array_equal(turned, stylize(image, engine=F32))
    assert not np.array_equal(stylize(image[..., ::-1], engine=F32)[..., ::-1], turned)


def test_strength_0_is_the_image_itself_and_strength_may_change_from_call_to_call():
    image = photo()
    assert np.array_equal(stylize(image, controls=Controls(0, 0)), image)
    weak = distance(stylize(image, controls=Controls.of(0.3)), image)
    assert weak < distance(stylize(image, controls=Controls.of(1)), image)


def test_the_engine_stays_open_between_calls_and_changes_with_the_style(monkeypatch):
    opened = []
    real = opening.open_engine

    def counted(style, *args, **settings):
        opened.append(style.name)
        return real(style, *args, **settings)

    monkeypatch.setattr(opening, "open_engine", counted)
    for _ in range(3):
        stylize(photo(80, 48), "red_chalk", engine=F32)
    stylize(photo(80, 48), "etching", engine=F32)
    stylize(photo(48, 80), "etching", engine=F32)
    assert opened == ["red_chalk", "etching", "etching"]


def test_threads_may_call_at_the_same_time():
    images = [photo(seed=seed) for seed in range(4)]
    expected = [stylize(image, engine=F32) for image in images]
    results: dict[int, np.ndarray] = {}

    def work(number: int) -> None:
        results[number] = stylize(images[number], engine=F32)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(results[number], expected[number]) for number in range(4))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((32, 32), np.uint8), r"\(height, width, 3\), got shape \(32, 32\).*numpy.stack"),
        (np.zeros((32, 32, 4), np.uint8), r"image\[\.\.\., :3\]"),
        (np.zeros((3, 32, 32), np.uint8), r"transpose\(1, 2, 0\)"),
        (np.zeros((32, 32, 3), np.float32), r"uint8, got .*float32.*astype"),
        (np.zeros((8, 32, 3), np.uint8), "at least 16x16, got 32x8"),
        ("photo.jpg", r"got <U9 photo.jpg"),
        (None, "got object None"),
    ],
)
def test_what_is_no_rgb_image_is_refused_with_the_remedy(image, words):
    with pytest.raises(SettingError, match=words):
        stylize(image)


def test_a_stylizer_that_is_interrupted_does_not_give_the_old_image_next(monkeypatch):
    with Stylizer("sketch", engine=F32) as stylizer:
        first, second = photo(seed=1), photo(seed=2)
        expected = stylizer.stylize(second)
        real = stylizer.engine.next
        monkeypatch.setattr(stylizer.engine, "next", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            stylizer.stylize(first)
        assert real is not None
        assert np.array_equal(stylizer.stylize(second), expected)


def test_strokes_follow_the_camera_only_where_that_is_asked_for():
    wide = photo(160, 96)
    pan = [np.ascontiguousarray(wide[:, x : x + 96]) for x in (0, 8, 16, 24)]
    with (
        Stylizer("sketch", engine=F32) as still,
        Stylizer("sketch", engine=F32, follow=True) as moving,
    ):
        apart = [still.stylize(image) for image in pan]
        followed = [moving.stylize(image) for image in pan]
        assert np.array_equal(still.stylize(pan[0]), apart[0])
    # What is seen in both images looks alike where strokes move along with it.
    inner = slice(16, 80)
    loose = distance(apart[0][inner, 40:80], apart[3][inner, 16:56])
    firm = distance(followed[0][inner, 40:80], followed[3][inner, 16:56])
    assert firm < 0.8 * loose


# -- frames ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
@pytest.mark.parametrize("full", [False, True])
def test_a_frame_of_an_array_gives_it_back(matrix, full):
    image = np.repeat(np.repeat(photo(48, 32), 2, 0), 2, 1)  # of 2x2 pixels each, which 4:2:0 can hold
    frame = Frame.from_rgb(image, pts=3, time_base=Fraction(1, 25), color=Color(matrix, full))
    assert (frame.size, frame.pts * frame.time_base) == (Size(96, 64), Fraction(3, 25))
    inner = frame.to_rgb()[8:-8, 8:-8]
    assert distance(inner, image[8:-8, 8:-8]) < 4  # chroma is interpolated between areas


def test_gray_survives_a_frame_within_one_level():
    ramp = np.stack([np.tile(np.arange(256, dtype=np.uint8), (32, 1))] * 3, -1)
    assert np.abs(Frame.from_rgb(ramp).to_rgb().astype(int) - ramp).max() <= 1


def test_a_frame_of_no_rgb_image_is_refused():
    with pytest.raises(SettingError, match=r"\(height, width, 3\)"):
        Frame.from_rgb(np.zeros((20, 20), np.uint8))


def test_a_frame_says_in_one_line_what_it_is():
    frame = Frame.from_rgb(photo(), pts=1001, time_base=Fraction(1, 30000))
    assert repr(frame) == "Frame(96x64, pts=1001, time_base=1/30000 (0.033 s), bt709 limited range)"


def test_a_notebook_shows_frames_and_styles():
    frame = Frame.from_rgb(photo())
    shown = cv2.imdecode(np.frombuffer(frame._repr_png_(), np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(shown[..., ::-1], frame.to_rgb())
    alpha = np.tile(np.arange(96, dtype=np.uint8), (64, 1))
    clear = Frame(frame.planes, 0, Fraction(1), frame.color, alpha=alpha)
    shown = cv2.imdecode(np.frombuffer(clear._repr_png_(), np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(shown[..., 3], alpha)
    preview = cv2.imdecode(np.frombuffer(load_style("sketch")._repr_jpeg_(), np.uint8), cv2.IMREAD_COLOR)
    assert min(preview.shape[:2]) > 100


def test_a_style_without_a_preview_is_shown_as_text(tmp_path):
    (tmp_path / "style.json").write_text('{"format": 1, "name": "mine"}')
    (tmp_path / "trunk.onnx").write_bytes(b"")
    assert load_style(tmp_path)._repr_jpeg_() is None


# -- names -----------------------------------------------------------------------------------------


MADE_BY_FUNCTIONS = {"LiveSource"}
"""Classes that users get from a function and never make themselves."""


PLAIN_BASE = "Closing"
"""A base class that adds nothing to an interface but `with`."""

OPAQUE = {"CanvasLayer", "CanvasMap", "Field", "Steering", "StreamPlan", "ToneCurve"}
"""Classes whose insides are the library's own; users at most pass them on."""


def annotations(node: ast.AST) -> Iterator[ast.expr]:
    """What the public signatures of a function or class say of types."""
    if isinstance(node, ast.FunctionDef):
        arguments = node.args
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            if argument.annotation:
                yield argument.annotation
        if node.returns:
            yield node.returns
    elif isinstance(node, ast.ClassDef):
        yield from node.bases
        made = () if node.name in MADE_BY_FUNCTIONS else ("__init__",)
        for inner in node.body:
            if isinstance(inner, ast.FunctionDef) and (not inner.name.startswith("_") or inner.name in made):
                yield from annotations(inner)
            elif isinstance(inner, ast.AnnAssign) and not ast.unparse(inner.target).startswith("_"):
                yield inner.annotation


def names_of_ours(module: str, tree: ast.Module) -> dict[str, str]:
    """Names of rtstyle that a module defines or imports, and the modules that they are from."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rtstyle":
            found |= {alias.asname or alias.name: node.module for alias in node.names}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = module
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name):
                found[target.id] = module
    return found


def test_everything_that_a_public_signature_names_can_be_imported():
    missing = set()
    for name in set(rtstyle._MODULE_OF) - OPAQUE:
        item = getattr(rtstyle, name)
        module = getattr(item, "__module__", "")
        if not module.startswith("rtstyle"):
            continue  # an alias of a type
        tree = ast.parse(Path(importlib.import_module(module).__file__).read_text("utf-8"))
        ours = names_of_ours(module, tree)
        node = next(node for node in tree.body if getattr(node, "name", None) == name)
        for annotation in annotations(node):
            for part in ast.walk(annotation):
                word = part.id if isinstance(part, ast.Name) else None
                if word in ours and word not in (*rtstyle.__all__, PLAIN_BASE) and not word.startswith("_"):
                    missing.add(f"{name}: {word} of {ours[word]}")
    assert not missing, "\n".join(sorted(missing))


def test_all_errors_can_be_imported():
    errors = importlib.import_module("rtstyle.errors")
    defined = {name for name, item in vars(errors).items() if isinstance(item, type) and issubclass(item, Exception)}
    assert defined <= set(rtstyle.__all__)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: RenderOptions(start="1:00"), r"start of RenderOptions must be Fraction or None, got '1:00'"),
        (lambda: RenderOptions(follow="me"), r"follow of RenderOptions must be 'auto' or 'flow' or .*, got 'me'"),
        (lambda: RenderOptions(overwrite="yes"), r"overwrite of RenderOptions must be bool, got 'yes'"),
        (lambda: LiveSettings(frames="5"), r"frames of LiveSettings must be int or None, got '5'"),
        (lambda: LiveSettings(preview="page"), r"preview of LiveSettings must be 'auto' or 'window'"),
        (lambda: CaptureSettings(size=(64, 48)), r"size of CaptureSettings must be Size or None, got \(64, 48\)"),
        (lambda: Outputs(urls="udp://host:1"), r"urls of Outputs must be tuple\[str, \.\.\.\], got 'udp://host:1'"),
        (lambda: EngineSettings(backend="gpu"), r"backend of EngineSettings must be 'auto' or 'tensorrt' or .*'gpu'"),
        (
            lambda: EngineSettings(stroke_size="big"),
            r"stroke_size of EngineSettings must be float or 'auto', got 'big'",
        ),
        (lambda: EncoderSettings(crf=True), r"crf of EncoderSettings must be int or None, got True"),
        (lambda: Color("bt2021"), r"matrix of Color must be bt601, bt709, bt2020, got 'bt2021'"),
        (lambda: load_style(3), r"a style must be str or Path, got 3"),
        (
            lambda: stylize_video("in.mp4", "out.mp4", options={"resume": True}),
            r"options must be RenderOptions, got \{",
        ),
        (lambda: stylize_video("in.mp4", "out.mp4", engine="torch"), r"engine must be EngineSettings, got 'torch'"),
        (lambda: stylize(np.zeros((32, 32, 3), np.uint8), controls=1), r"controls must be Controls, got 1"),
        (lambda: stylize_live(1.5), r"a source is a path, a URL or a FrameSource; this float"),
        (lambda: verify_media(None, "in.mp4"), r"source must be str or Path, got None"),
    ],
)
def test_settings_of_a_wrong_type_say_what_to_pass(wrong, words):
    with pytest.raises(SettingError, match=words):
        wrong()


def test_settings_take_what_is_as_good_as_their_type():
    assert EncoderSettings(crf=np.int64(20)).crf == 20
    assert RenderOptions(start=0.5).start == 0.5
    assert ControlSettings(osc=("localhost", 9000)).osc == ("localhost", 9000)
    with pytest.raises(SettingError, match="osc of ControlSettings must be"):
        ControlSettings(osc=("localhost", "9000"))
    assert Outputs(record="a.mp4", urls=["udp://host:1"]).record == "a.mp4"


def test_arrays_load_neither_the_command_line_nor_the_live_part():
    code = (
        "import numpy, rtstyle, sys\n"
        "rtstyle.stylize(numpy.zeros((32, 32, 3), numpy.uint8), engine=rtstyle.EngineSettings(backend='openvino'))\n"
        "others = ('rtstyle.cli', 'rtstyle.live', 'rtstyle.web', 'av', 'pygame', 'torch')\n"
        "print(*(name for name in others if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == ""

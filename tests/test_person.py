"""Masks of persons and faces: found in a drawn person, steady in time, and the same in every way to render."""

import signal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import LOSSLESS, look, make_clip

from rtstyle import EncoderSettings, EngineSettings, Frame, MaskSettings, RenderOptions, Size, Stylizer, stylize_video
from rtstyle.cli import main
from rtstyle.errors import SettingError
from rtstyle.mask.face import FaceMask
from rtstyle.mask.person import PersonMask
from rtstyle.render import segments
from rtstyle.video.samples import turned_back

WIDTH, HEIGHT, FRAMES = 320, 240, 14
SIZE = Size(WIDTH, HEIGHT)
F32 = EngineSettings(backend="openvino", precision="f32", stroke_size=1.0)
FAST = EncoderSettings(preset="ultrafast")


def drawn(x: int) -> np.ndarray:
    """A person, drawn: RGB of shape (240, 320, 3) with the face at (x, 98)."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[:] = (150, 170, 190)
    fill = {"thickness": -1, "lineType": cv2.LINE_AA}
    ellipses = [
        ((x, 250), (75, 95), (40, 50, 90)),
        ((x, 85), (45, 58), (50, 35, 25)),
        ((x, 98), (35, 46), (225, 175, 145)),
        ((x, 122), (12, 4), (190, 90, 90)),
    ]
    for side in (-14, 14):
        ellipses += [((x + side, 90), (7, 4), (255, 255, 255)), ((x + side, 90), (3, 3), (40, 30, 20))]
    for center, axes, color in ellipses:
        cv2.ellipse(image, center, axes, 0, 0, 360, color, **fill)
    for side in (-14, 14):
        cv2.line(image, (x + side - 8, 80), (x + side + 8, 79), (60, 40, 30), 2, cv2.LINE_AA)
    cv2.line(image, (x, 95), (x - 4, 108), (180, 130, 105), 2, cv2.LINE_AA)
    return cv2.GaussianBlur(image, (0, 0), 0.8)


def frame_of(image: np.ndarray) -> Frame:
    return Frame.from_rgb(image)


@pytest.fixture(autouse=True)
def short_segments(monkeypatch):
    monkeypatch.setattr(segments, "segment_frames", lambda size: 4)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """A person who moves to the right."""
    pictures = [frame_of(drawn(120 + 4 * number)).planes for number in range(FRAMES)]
    path = tmp_path_factory.mktemp("clip") / "in.mp4"
    more = {"width": WIDTH, "height": HEIGHT, "options": LOSSLESS, "tags": (1, 1, 1, 1)}
    return make_clip(path, pictures, times=range(FRAMES), **more)


# -- what is found -----------------------------------------------------------------------------------


@pytest.mark.parametrize("x", [160, 110])
def test_a_person_is_found_and_all_else_is_background(x):
    frame = frame_of(drawn(x))
    person = PersonMask(SIZE).at(frame, Fraction(0))
    background = PersonMask(SIZE, background=True).at(frame, Fraction(0))
    assert person.shape == (HEIGHT, WIDTH)
    assert person.dtype == np.uint8
    assert person[98, x] == person[220, x] == 255
    assert not person[:120, : x - 70].any()  # exactly: the bytes of the source stay
    assert not person[:120, x + 70 :].any()
    assert np.array_equal(background, 255 - person)


def test_the_edge_of_a_person_is_that_of_the_frame():
    image = drawn(160)
    mask = PersonMask(SIZE).at(frame_of(image), Fraction(0))
    row = 85  # the hair is dark, and 45 pixels wide on each side
    edge = WIDTH - np.argmax(mask[row, ::-1] > 127)
    assert abs(edge - (160 + 45)) <= 2
    soft = ((mask[row] > 10) & (mask[row] < 245)).sum()
    assert soft <= 16


def test_what_stands_still_does_not_flicker():
    mask, rng = PersonMask(SIZE), np.random.default_rng(0)
    masks = []
    for number in range(12):
        noisy = np.clip(drawn(160) + rng.normal(0, 3, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)
        masks.append(mask.at(frame_of(noisy), Fraction(number, 25)).astype(float))
    error = np.mean([((b - a) ** 2).mean() for a, b in pairwise(masks)])
    assert 10 * np.log10(255**2 / max(error, 1e-9)) > 42


def test_a_person_who_moves_is_followed_and_after_a_restart_nothing_is_left_of_before():
    mask = PersonMask(SIZE)
    for number, x in enumerate((90, 100, 110, 120, 130, 140, 150)):
        got = mask.at(frame_of(drawn(x)), Fraction(number, 15))
    fresh = PersonMask(SIZE).at(frame_of(drawn(150)), Fraction(0))
    assert got[98, 150] == 255
    assert got[98, 85] < 60
    assert np.abs(got.astype(int) - fresh).mean() < 8
    assert not np.array_equal(got, fresh)
    mask.restart()
    assert np.array_equal(mask.at(frame_of(drawn(150)), Fraction(9)), fresh)


@pytest.mark.parametrize(
    "matrix", [(0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30), (-65536, 0, 0, 0, -65536, 0, 0, 0, 1 << 30)]
)
def test_frames_that_lie_on_their_side_are_turned_for_the_networks(matrix):
    shown = frame_of(drawn(160))
    stored = Frame.from_rgb(np.dstack([turned_back(plane, matrix) for plane in np.moveaxis(drawn(160), 2, 0)]))
    upright = PersonMask(SIZE).at(shown, Fraction(0))
    found = PersonMask(stored.size, matrix=matrix).at(stored, Fraction(0))
    assert np.abs(found.astype(int) - turned_back(upright, matrix)).mean() < 4
    face = FaceMask(None, stored.size, matrix).at(stored, Fraction(0))
    assert face is not None
    where = turned_back(np.arange(WIDTH * HEIGHT).reshape(HEIGHT, WIDTH) == 98 * WIDTH + 160, matrix)
    assert face[where][0] < 120


def test_faces_are_weakened_and_what_has_none_is_left():
    frame = frame_of(drawn(160))
    face = FaceMask(None, SIZE).at(frame, Fraction(0))
    assert 80 <= face[98, 160] <= 100  # 35 %
    assert face[10, 10] == face[220, 160] == 255
    both = FaceMask(PersonMask(SIZE, background=True), SIZE).at(frame, Fraction(0))
    assert both[98, 160] == 0
    assert both[10, 10] == 255
    empty = Frame.from_rgb(np.full((HEIGHT, WIDTH, 3), 120, np.uint8))
    assert FaceMask(None, SIZE).at(empty, Fraction(0)) is None


def test_a_face_that_leaves_fades():
    mask = FaceMask(None, SIZE)
    empty = Frame.from_rgb(np.full((HEIGHT, WIDTH, 3), 120, np.uint8))
    mask.at(frame_of(drawn(160)), Fraction(0))
    seen = []
    for number in range(1, 31):
        got = mask.at(empty, Fraction(number, 10))
        seen.append(255 if got is None else int(got[98, 160]))
    assert seen == sorted(seen)
    assert seen[0] < 200
    assert seen[-1] == 255


# -- renders -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mask",
    [MaskSettings(source="person", keep_face=True), MaskSettings(source="background", feather=8)],
    ids=["person", "background"],
)
def test_resume_and_workers_give_the_bytes_of_one_render(mask, clip, tmp_path):
    def stylize(target: Path, progress=None, **more) -> bytes:
        options = RenderOptions(**{"mask": mask} | more)
        stylize_video(clip, target, engine=F32, encoder=FAST, options=options, progress=progress)
        return target.read_bytes()

    whole = stylize(tmp_path / "whole.mp4")
    assert stylize(tmp_path / "jobs.mp4", jobs=2) == whole

    def stop(done: int, total: int | None, words: str) -> None:
        if done == 10:
            raise KeyboardInterrupt

    target = tmp_path / "resumed.mp4"
    with pytest.raises(KeyboardInterrupt):
        stylize(target, progress=stop)
    with pytest.raises(SettingError, match=r"cannot resume .*: mask was"):
        stylize(target, resume=True, mask=MaskSettings(source="person"))
    assert stylize(target, resume=True) == whole


def test_the_style_stays_on_the_person(clip, tmp_path):
    target = tmp_path / "out.mkv"
    words = [str(clip), str(target), "--mask", "person", "--codec", "ffv1", "--backend", "openvino", "--quiet"]
    assert main(["video", *words]) == 0
    for number, (got, source) in enumerate(zip(look(target).pictures, look(clip).pictures, strict=True)):
        x = 120 + 4 * number
        assert np.array_equal(got[0][:, :30], source[0][:, :30])
        assert np.abs(got[0][70:210, x - 25 : x + 25].astype(int) - source[0][70:210, x - 25 : x + 25]).mean() > 3


def test_each_image_is_masked_for_itself():
    with Stylizer("sketch", engine=F32, mask=MaskSettings(source="background")) as stylizer:
        first, second = stylizer.stylize(drawn(100)), stylizer.stylize(drawn(220))
        again = stylizer.stylize(drawn(100))
    assert np.array_equal(first, again)
    assert np.array_equal(first[98, 100], drawn(100)[98, 100])
    assert np.array_equal(second[98, 220], drawn(220)[98, 220])
    assert not np.array_equal(first[:, 250:], drawn(100)[:, 250:])

"""Masks of persons and faces: found in a drawn person, steady in time, and the same in every way to render."""

import signal
import subprocess
import sys
import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from clips import LOSSLESS, drawn, look, make_clip

from rtstyle import (
    EncoderSettings,
    EngineSettings,
    Frame,
    FrameSink,
    FrameSource,
    LiveSettings,
    MaskSettings,
    Outputs,
    Planes,
    RenderOptions,
    Size,
    Stylizer,
    stylize_live,
    stylize_video,
)
from rtstyle.cli import main
from rtstyle.errors import SettingError
from rtstyle.live.masks import SessionMask
from rtstyle.mask.face import FaceMask
from rtstyle.mask.person import PersonMask
from rtstyle.render import segments
from rtstyle.video.samples import turned_back

WIDTH, HEIGHT, FRAMES = 320, 240, 14
SIZE = Size(WIDTH, HEIGHT)
F32 = EngineSettings(backend="openvino", precision="f32", stroke_size=1.0)
FAST = EncoderSettings(preset="ultrafast")


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


def test_the_benchmark_prints_cost_and_steadiness(clip):
    root = Path(__file__).parents[1]
    command = [sys.executable, str(root / "benchmarks" / "masks.py"), str(clip), "--frames", "6"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    name, size, person, face, steady, alone = done.stdout.splitlines()[1].split()
    assert (name, size) == (clip.stem, "320x240")
    assert float(person) > 0 < float(face)
    assert float(steady) > 20 < float(alone)


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


# -- live --------------------------------------------------------------------------------------------


def test_a_session_changes_its_mask_between_two_frames(tmp_path):
    path = tmp_path / "mask.pgm"
    path.write_bytes(b"P5 2 1 255 \x00\xff")
    source = frame_of(drawn(160))
    styled = source.with_planes(Planes(*(255 - plane for plane in source.planes)))

    def shown(mask: SessionMask) -> str:
        planes = mask.apply(source, styled, 0).planes.y
        places = {"far": (20, 30), "face": (98, 160), "right": (20, 300)}
        return " ".join(name for name, place in places.items() if planes[place] == styled.planes.y[place])

    with SessionMask(MaskSettings(source=path, feather=0), size=SIZE) as mask:
        assert (mask.word, shown(mask)) == ("file", "right")
        assert mask.choose("people") == "there is no mask people"
        wanted_of = {"off": "far face right", "person": "face", "background": "far right", "file": "right"}
        for word, wanted in wanted_of.items():
            assert mask.choose(None) == f"mask {word}"
            assert mask.word == word
            end = time.monotonic() + 20
            while mask.opening and time.monotonic() < end:
                shown(mask)
                time.sleep(0.01)
            assert shown(mask) == wanted
        mask.choose("person")
        mask.choose("off")  # before the other one is open
    with SessionMask(size=SIZE) as mask:
        assert mask.words == ("off", "person", "background")
        assert mask.apply(source, styled, 0) is styled


def test_a_live_person_is_stylized_alone_and_its_state_says_so(tmp_path):
    class Camera(FrameSource):
        size, rate = SIZE, Fraction(10)

        def __iter__(self):
            for number in range(6):
                yield Frame.from_rgb(drawn(160), pts=number, time_base=Fraction(1, 10))

    frames: list[Frame] = []

    class Kept(FrameSink):
        def write(self, frame: Frame) -> None:
            frames.append(frame)

    settings = LiveSettings(preview="none", denoise=False, mask=MaskSettings(source="person"))
    stylize_live(Camera(), engine=F32, live=settings, outputs=Outputs(sinks=(Kept(),)))
    source = frame_of(drawn(160)).planes.y
    assert frames
    for frame in frames:
        assert np.array_equal(frame.planes.y[:120, :80], source[:120, :80])
        assert not np.array_equal(frame.planes.y[60:140, 130:190], source[60:140, 130:190])

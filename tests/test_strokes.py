"""Strokes in proportion to the frame: what is stylized in which size, and what comes out."""

from fractions import Fraction

import cv2
import numpy as np
import pytest
from clips import make_clip

from rtstyle import Controls, EngineSettings, Frame, Size, open_engine, open_for, stylize_video
from rtstyle.backends.strokes import StrokeEngine, at_size
from rtstyle.errors import SettingError
from rtstyle.frame import Color, planes_from_rgb, resized_planes

COLOR = Color("bt709", full_range=True)


def photo(size: Size, seed: int = 0) -> Frame:
    """Soft shapes with a little noise, as a camera gives them."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (9, 16, 3), np.uint8)
    rgb = cv2.resize(coarse, (size.width, size.height), interpolation=cv2.INTER_CUBIC)
    rgb = np.clip(rgb + rng.normal(0, 2, rgb.shape), 0, 255).astype(np.uint8)
    return Frame(planes_from_rgb(rgb, COLOR), 7, Fraction(1, 25), COLOR, (40, -24))


@pytest.mark.parametrize(
    ("size", "file", "live"),
    [
        ("640x360", 0.5, 1),
        ("854x480", 1, 1),
        ("1280x720", 1, 1),
        ("1080x1920", 1, 1),
        ("2560x1440", 2, 2),
        ("3840x2160", 2, 2),
        ("4000x3000", 4, 4),
        ("7680x4320", 4, 4),
    ],
)
def test_auto_brings_the_short_side_to_what_styles_are_made_for(size, file, live):
    parsed = Size.parse(size)
    working = EngineSettings().working_size(parsed)
    assert working == EngineSettings(stroke_size=file).working_size(parsed)
    assert EngineSettings().working_size(parsed, live=True) == EngineSettings(stroke_size=live).working_size(parsed)
    assert 480 <= min(working.width, working.height) <= 1080
    assert working.width % 2 == working.height % 2 == 0 or working == parsed


@pytest.mark.parametrize(("strokes", "said"), [(0.25, "auto or in"), (9, "auto or in"), (8, "take a smaller one")])
def test_stroke_sizes_out_of_range_are_refused_in_one_line(strokes, said):
    with pytest.raises(SettingError, match=said):
        EngineSettings(stroke_size=strokes).working_size(Size(120, 96))


@pytest.mark.parametrize("strokes", [0.5, 2, 1.7])
@pytest.mark.parametrize("size", [Size(161, 97), Size(320, 180)])
def test_strength_0_leaves_every_sample(strokes, size):
    frame = photo(size)
    with open_for("sketch", size, COLOR, EngineSettings(stroke_size=strokes), live=False) as engine:
        engine.submit(frame, Controls(0, 0))
        result = engine.next()
    assert all(np.array_equal(a, b) for a, b in zip(result.planes, frame.planes, strict=True))
    assert (result.pts, result.time_base, result.canvas) == (frame.pts, frame.time_base, frame.canvas)


def test_the_same_scene_in_twice_the_size_gets_strokes_of_twice_the_size():
    small = photo(Size(320, 180))
    large_planes = resized_planes(small.planes, Size(640, 360))
    large = Frame(large_planes, 7, Fraction(1, 25), COLOR, (80, -48))
    with open_engine("great_wave", small.size, COLOR, precision="f32") as engine:
        engine.submit(small)
        wanted = engine.next().planes.y.astype(float)
    results = {}
    for strokes in (1, 2):
        settings = EngineSettings(precision="f32", stroke_size=strokes)
        with open_for("great_wave", large.size, COLOR, settings, live=False) as engine:
            engine.submit(large)
            results[strokes] = resized_planes(engine.next().planes, small.size).y.astype(float)

    def off(strokes: float) -> float:
        return float(np.sqrt(((results[strokes] - wanted)[16:-16, 16:-16] ** 2).mean()))

    assert off(2) < 3, "levels; down again it is what the small frame becomes"
    assert off(1) > 3 * off(2), "strokes of as many pixels are half as large in it"


def test_fine_detail_of_the_frame_stays():
    size = Size(640, 360)
    frame = photo(size)
    frame.planes.y[:, ::2] = np.minimum(frame.planes.y[:, ::2] // 2 + 80, 255)  # stripes of one pixel
    frame.planes.y[:, 1::2] = frame.planes.y[:, 1::2] // 2 + 60
    with open_for("cartoon", size, COLOR, EngineSettings(stroke_size=2), live=False) as engine:
        engine.submit(frame)
        result = engine.next().planes.y.astype(float)
    contrast = (result[:, 2:-1:2] - result[:, 1:-2:2])[20:-20]
    assert np.median(contrast) == pytest.approx(20, abs=6)


def test_what_was_submitted_may_be_overwritten_and_frames_come_in_order():
    size = Size(192, 128)
    frames = [photo(size, seed) for seed in range(4)]
    with open_for("sketch", size, COLOR, EngineSettings(stroke_size=2), live=False) as engine:
        one_by_one = [next(iter(engine.stylize([frame]))).planes.y.copy() for frame in frames]
        for frame in frames[: engine.in_flight]:
            engine.submit(frame)
        with pytest.raises(ValueError, match="in flight"):
            engine.submit(frames[-1])
        inside = engine.in_flight
        for frame in frames[:inside]:
            for plane in frame.planes:
                plane[:] = 0
        results = [engine.next().planes.y for _ in range(inside)]
    for result, wanted in zip(results, one_by_one, strict=False):
        assert np.array_equal(result, wanted)


def test_an_engine_of_the_right_size_is_left_alone():
    engine = open_engine("sketch", Size(64, 48), COLOR)
    with at_size(engine, Size(64, 48)) as same:
        assert same is engine
    with at_size(open_engine("sketch", Size(64, 48), COLOR), Size(128, 96)) as scaled:
        assert isinstance(scaled, StrokeEngine)
        assert (scaled.size, scaled.backend) == (Size(128, 96), engine.backend)


def test_a_video_says_in_which_size_it_was_stylized(tmp_path):
    clip = tmp_path / "in.mp4"
    make_clip(clip, width=320, height=180, times=range(3))
    report = stylize_video(clip, tmp_path / "auto.mp4")
    assert (report.size, report.working_size) == ("320x180", "640x360")
    report = stylize_video(clip, tmp_path / "plain.mp4", engine=EngineSettings(stroke_size=1))
    assert (report.size, report.working_size) == ("320x180", "320x180")
    with pytest.raises(SettingError, match="stroke size"):
        stylize_video(clip, tmp_path / "no.mp4", engine=EngineSettings(stroke_size=20))
    assert not (tmp_path / "no.mp4").exists()

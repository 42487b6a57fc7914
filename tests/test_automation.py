"""Strength and style over time: exact at each frame, in every way to render, and bad files are named."""

import json
import signal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import LOSSLESS, look, make_clip, moving_bar

from rtstyle import Controls, EncoderSettings, EngineSettings, MaskSettings, RenderOptions, stylize_video
from rtstyle.cli import main
from rtstyle.errors import SettingError
from rtstyle.render import segments
from rtstyle.render.automation import Automation, plan_automation

WIDTH, HEIGHT, FRAMES, RATE = 96, 64, 16, 8
F32 = EngineSettings(backend="openvino", precision="f32", stroke_size=1.0)
EXACT, FAST = EncoderSettings(codec="ffv1"), EncoderSettings(preset="ultrafast")


@pytest.fixture(autouse=True)
def short_segments(monkeypatch):
    monkeypatch.setattr(segments, "segment_frames", lambda size: 5)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "in.mp4"
    pictures = [moving_bar(WIDTH, HEIGHT, number) for number in range(FRAMES)]
    base = Fraction(1, RATE)
    return make_clip(
        path, pictures, width=WIDTH, height=HEIGHT, times=range(FRAMES), options=LOSSLESS, time_base=base, rate=1 / base
    )


def written(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(rows) + "\n")
    return path


def render(clip: Path, target: Path, automation: Path | None = None, **more) -> list[tuple[np.ndarray, ...]]:
    settings = {"style": "sketch", "engine": F32, "encoder": EXACT} | {
        name: more.pop(name) for name in ("style", "controls", "engine", "encoder") if name in more
    }
    stylize_video(clip, target, options=RenderOptions(automation=automation, overwrite=True, **more), **settings)
    return look(target).pictures


def same(one: tuple[np.ndarray, ...], other: tuple[np.ndarray, ...]) -> bool:
    return all(map(np.array_equal, one, other))


# -- keyframes ---------------------------------------------------------------------------------------


def test_values_are_linear_between_keyframes_and_held_outside_of_them(tmp_path):
    path = written(
        tmp_path / "a.csv",
        "Time, Strength ,Color strength,style",
        "1,0.2,,sketch",
        "0:02,,0.5,sketch",
        "3,1.2,1,ink",
        "3,0,,",
        "4.5,,,\"sketch:0.6,ink:0.4\"",
    )  # fmt: skip
    automation = plan_automation(path, "auto").automation

    def at(time: str):
        return automation.at(Fraction(time), Controls(), "cartoon")

    assert at("0").controls == at("1").controls == Controls(0.2, 0.1)
    assert at("2").controls == Controls(0.7, 0.35)
    assert at("5/2").controls.luma == pytest.approx(0.95)
    assert at("2999/1000").controls.luma == pytest.approx(1.1995)
    assert at("3").controls == at("9").controls == Controls(0, 0)  # two rows of one time: a step
    assert at("0").styles == at("2").styles == ("sketch",)
    assert (at("9/4").styles, at("9/4").share) == (("sketch", "ink"), 32)
    assert at("3").styles == ("ink",)
    assert (at("15/4").styles, at("15/4").share) == (("ink", "sketch:0.6,ink:0.4"), 64)
    assert at("100").styles == ("sketch:0.6,ink:0.4",)
    assert Automation.from_json(json.loads(json.dumps(automation.to_json()))) == automation


def test_json_says_the_same_as_csv_and_what_has_no_keyframe_stays(tmp_path):
    table = written(tmp_path / "a.csv", "time;strength", "0;0", "1.5;1")
    keyframes = '[{"time": 0, "strength": 0}, {"time": "0:01.5", "strength": 1, "style": null}]'
    told = written(tmp_path / "a.json", keyframes)
    automation = plan_automation(table, "auto").automation
    assert plan_automation(told, "auto").automation == automation
    moment = automation.at(Fraction(1, 2), Controls(0.8, 0), "ink")
    assert moment.controls == Controls(1 / 3, 0)  # colors are kept
    assert moment.styles == ("ink",)
    colors = plan_automation(written(tmp_path / "c.csv", "time,color strength", "0,0.5"), "auto").automation
    assert colors.at(Fraction(0), Controls(0.8, 0.8), "ink").controls == Controls(0.8, 0.4)


# -- renders -----------------------------------------------------------------------------------------


def test_every_frame_has_the_strength_of_its_time(clip, tmp_path):
    path = written(tmp_path / "a.csv", "time,strength,color_strength", "0.25,0,1", "1.25,1,0", "1.75,0.4,0")
    got = render(clip, tmp_path / "got.mkv", path)
    source = look(clip).pictures
    for number, luma, color in ((0, 0.0, 1.0), (2, 0.0, 1.0), (5, 0.375, 0.625), (10, 1.0, 0.0), (12, 0.7, 0.0)):
        wanted = render(clip, tmp_path / "wanted.mkv", controls=Controls(luma, luma * color))
        assert same(got[number], wanted[number])
        assert same(got[number], source[number]) == (luma == 0)
    assert not same(got[5], wanted[5])


def test_a_constant_automation_gives_the_frames_of_the_options(clip, tmp_path):
    path = written(tmp_path / "a.csv", "time,strength,style", "0,0.7,ink", "1,0.7,ink")
    got = render(clip, tmp_path / "got.mkv", path)
    wanted = render(clip, tmp_path / "wanted.mkv", style="ink", controls=Controls(0.7, 0.7))
    assert all(map(same, got, wanted))


def test_styles_cross_fade_and_step_at_their_times(clip, tmp_path):
    path = written(
        tmp_path / "a.csv", "time,style", "0,sketch", "0.5,sketch", "1,ink", "1.5,ink", "1.5,etching", "1.75,cartoon"
    )
    got = render(clip, tmp_path / "got.mkv", path)
    alone = {name: render(clip, tmp_path / "w.mkv", style=name) for name in ("sketch", "ink", "etching", "cartoon")}
    still = {0: "sketch", 4: "sketch", 8: "ink", 11: "ink", 12: "etching", 14: "cartoon", 15: "cartoon"}
    for number, name in still.items():
        assert same(got[number], alone[name][number]), number
    fading = {5: ("sketch", "ink", 0.25), 6: ("sketch", "ink", 0.5), 13: ("etching", "cartoon", 0.5)}
    for number, (old, new, share) in fading.items():
        for plane in range(3):
            a, b = (alone[name][number][plane].astype(float) for name in (old, new))
            assert np.abs(got[number][plane] - (a + (b - a) * share)).max() <= 0.5


def test_more_styles_than_stay_open_are_drawn_in_turn(clip, tmp_path):
    names = ["sketch", "ink", "etching", "cartoon", "red_chalk", "great_wave"]
    rows = [f"{(2 * number + turn) / RATE},{name}" for number, name in enumerate(names) for turn in (0, 2)]
    got = render(clip, tmp_path / "got.mkv", written(tmp_path / "a.csv", "time,style", *rows))
    for number, name in enumerate(names):
        alone = render(clip, tmp_path / "w.mkv", style=name)
        assert same(got[2 * number], alone[2 * number])
        assert same(got[2 * number + 1], alone[2 * number + 1])


def test_times_are_those_of_the_source_also_where_a_part_is_rendered(clip, tmp_path, random_style):
    path = written(tmp_path / "a.csv", "time,strength", "0,0", "2,1")
    still = {"follow": "off", "style": random_style}  # what a steered canvas has seen before belongs to a frame as well
    whole = render(clip, tmp_path / "whole.mkv", path, **still)
    part = render(clip, tmp_path / "part.mkv", path, **still, start=Fraction(6, RATE), end=Fraction(10, RATE))
    assert len(part) == 4
    assert all(map(same, part, whole[6:10]))


def test_resume_and_workers_give_the_bytes_of_one_render(clip, tmp_path):
    mask = tmp_path / "mask.pgm"
    mask.write_bytes(b"P5 2 1 255 \x40\xff")
    path = written(tmp_path / "a.csv", "time,strength,style", "0,0.1,sketch", "0.5,0.4,sketch", "1,1,ink", "2,0.5,ink")

    def stylize(target: Path, progress=None, automation: Path | None = path, **more) -> bytes:
        options = RenderOptions(automation=automation, mask=MaskSettings(source=mask), **more)
        stylize_video(clip, target, style="cartoon", engine=F32, encoder=FAST, options=options, progress=progress)
        return target.read_bytes()

    whole = stylize(tmp_path / "whole.mp4")
    assert stylize(tmp_path / "jobs.mp4", jobs=2) == whole

    def stop(done: int, total: int | None, words: str) -> None:
        if done == 11:
            raise KeyboardInterrupt

    target = tmp_path / "resumed.mp4"
    with pytest.raises(KeyboardInterrupt):
        stylize(target, progress=stop)
    others = written(tmp_path / "b.csv", path.read_text().replace("1,1,ink", "1,0.9,ink"))
    with pytest.raises(SettingError, match=r"cannot resume .*: automation was"):
        stylize(target, automation=others, resume=True)
    with pytest.raises(SettingError, match="cannot resume"):
        stylize(target, automation=None, resume=True)
    moved = tmp_path / "moved.csv"
    path.rename(moved)  # what counts is what it says
    assert stylize(target, automation=moved, resume=True) == whole


def test_frames_to_a_sink_of_ones_own_have_the_strength_of_their_time(clip, tmp_path):
    path = written(tmp_path / "a.csv", "time,strength", "0,0", "1,0", "1,1")
    frames = []

    class Sink:
        def write(self, frame) -> None:
            frames.append(frame)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    stylize_video(clip, Sink(), engine=F32, options=RenderOptions(automation=path))
    changed = [not np.array_equal(f.planes.y, s[0]) for f, s in zip(frames, look(clip).pictures, strict=True)]
    assert changed == [number >= RATE for number in range(FRAMES)]


# -- bad files ---------------------------------------------------------------------------------------


BAD = {
    "missing": (None, "cannot read the automation"),
    "empty": ("", "needs time"),
    "header": ("seconds,strength\n0,1\n", "has the columns seconds, strength"),
    "column": ("time,strenght\n0,1\n", "has the columns time, strenght"),
    "nothing": ("time,strength\n", "sets nothing"),
    "back": ("time,strength\n2,1\n1,0\n", "line 3: time 1 is before 2 of line 2"),
    "word": ("time,strength\n0,much\n", "line 2: strength is a number from 0 to 2, got 'much'"),
    "nan": ("time,strength\n0,nan\n", "line 2: strength is a number from 0 to 2"),
    "large": ("time,strength\n0,3\n", "line 2: strength is a number from 0 to 2, got '3'"),
    "clock": ("time,strength\nsoon,1\n", "line 2: time is seconds or H:MM:SS.mmm, got 'soon'"),
    "negative": ("time,strength\n-1,1\n", "line 2: time is seconds"),
    "style": ("time,style\n0,sketch\n1,skecth\n", "line 3: no style 'skecth'; did you mean 'sketch'?"),
    "cells": ("time,strength\n0,1,2\n", "line 2: it has 3 cells and 2 columns"),
    "json": ('{"time": 0}', "must be a list of keyframes"),
    "broken": ("[", "is no JSON"),
    "binary": (b"\xff\xfe\x00", "cannot read the automation"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_named_in_one_line_and_nothing_is_written(kind, clip, tmp_path, capsys):
    content, words = BAD[kind]
    path = tmp_path / ("a.json" if kind in ("json", "broken") else "a.csv")
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    target = tmp_path / "out.mkv"
    assert main(["video", str(clip), str(target), "--automation", str(path), "--quiet"]) == 1
    said = capsys.readouterr().err
    assert words in said
    assert str(path) in said
    assert said.count("\n") == 1
    assert not target.exists()


def test_the_command_line_names_all_styles(clip, tmp_path, capsys):
    path = written(tmp_path / "a.csv", "time,style", "0,sketch", "1,ink")
    words = ["video", str(clip), str(tmp_path / "out.mp4"), "--automation", str(path), "--backend", "openvino"]
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["style"] == "sketch, ink"

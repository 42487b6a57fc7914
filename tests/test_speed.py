"""What a machine reaches is measured, kept, and used: by forecasts of renders, and by live sessions to begin with."""

import json
import logging
from fractions import Fraction

import pytest
from clips import make_clip

from rtstyle import EngineSettings, LiveSettings, RenderOptions, Size, stylize_live, stylize_video
from rtstyle.cli import main
from rtstyle.live.adaptive import Working, first_level, quality_levels
from rtstyle.render.forecast import forecast
from rtstyle.render.plan import plan_render
from rtstyle.speed import Speed, duration_words, keep_speed, known_speed


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("RTSTYLE_CACHE", str(folder))
    return folder


def test_figures_are_kept_beside_those_of_other_networks_and_grow_with_pixels(cache):
    assert known_speed() == Speed()
    keep_speed(Speed({"default": 9.0}, {"default": 100.0}))
    keep_speed(Speed({"fast": 18.0}))
    known = known_speed()
    assert known.fps("default", 1_000_000) == pytest.approx(9)
    assert known.fps("fast", 2_000_000) == pytest.approx(9)
    assert known.milliseconds("default", 500_000) == pytest.approx(50)
    assert known.milliseconds("fast", 500_000) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("cores", "kernels"),  # of another machine
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: json.dumps({**json.loads(text), "files": {"default": "fast"}}),
        lambda text: json.dumps({**json.loads(text), "files": {"default": -1}}),
    ],
)
def test_figures_of_another_machine_or_a_damaged_file_are_none(cache, damage):
    keep_speed(Speed({"default": 9.0}))
    (cache / "speed.json").write_text(damage((cache / "speed.json").read_text()))
    assert known_speed() == Speed()
    keep_speed(Speed({"fast": 2.0}))
    assert known_speed() == Speed({"fast": 2.0})


def test_a_cache_that_cannot_be_written_is_left_alone(tmp_path):
    (tmp_path / "file").write_text("no folder")
    keep_speed(Speed({"default": 9.0}), tmp_path / "file" / "cache")
    assert known_speed(tmp_path / "file" / "cache") == Speed()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (89, "89 s"), (90, "2 min"), (1500, "25 min"), (5400, "1.5 h"), (36000, "10.0 h")],
)
def test_a_duration_is_shown_in_the_unit_that_suits_it(seconds, words):
    assert duration_words(seconds) == words


def test_a_session_begins_with_the_best_network_that_is_known_to_keep_up():
    levels = quality_levels(Size(1000, 1000), ["default", "fast"], smaller=True)
    known = Speed(live={"default": 60.0, "fast": 25.0})
    chosen = [levels[first_level(levels, rate, known)] for rate in (10, 15, 30, 45, 1000)]
    assert chosen[:3] == [Working("default", levels[0].size), Working("default", levels[0].size), levels[1]]
    assert chosen[3].size_class == "fast"
    assert chosen[3].size.width < 1000
    assert chosen[4] == levels[-1]
    assert first_level(levels, None, known) == first_level(levels, 30, Speed()) == 0


def test_a_live_session_begins_with_what_was_measured(cache, tmp_path):
    make_clip(tmp_path / "in.mp4", width=320, height=240)
    lines = []
    keep_speed(Speed(live={"default": 1000.0, "fast": 100.0}))
    options = {"live": LiveSettings(preview="none", frames=3), "say": lines.append}
    stylize_live(str(tmp_path / "in.mp4"), **options)
    assert "beginning with the fast network at 320x240, as this machine was measured for 25 frames per second" in lines
    lines.clear()
    stylize_live(str(tmp_path / "in.mp4"), engine=EngineSettings(size_class="default"), **options)
    assert not any("beginning with" in line for line in lines)


def planned(clip, **engine):
    return plan_render(clip, clip.with_name("out.mp4"), style="sketch", engine=EngineSettings(**engine))


def test_a_long_render_is_announced_with_the_fast_network_if_it_takes_too_long(cache, tmp_path):
    clip = make_clip(tmp_path / "in.mp4", width=640, height=480, times=range(50))
    pixels = 640 * 480 / 1e6
    with planned(clip) as plan:
        assert forecast(plan) is None, "nothing is known"
        keep_speed(Speed({"default": 2 * pixels}))
        assert forecast(plan) == f"{clip.name}: 50 frames take about 25 s here, at 2.0 FPS".replace(
            clip.name, plan.reader.name
        )
        keep_speed(Speed({"fast": 5 * pixels}))
        assert str(forecast(plan)).endswith("at 2.0 FPS; with --size-class fast about 10 s")
        keep_speed(Speed({"default": 20 * pixels}))
        assert forecast(plan) is None, "it is short"
    keep_speed(Speed({"default": 2 * pixels}))
    with planned(clip, size_class="fast") as plan:
        assert str(forecast(plan)).endswith("50 frames take about 10 s here, at 5.0 FPS")
    with planned(clip, backend="openvino") as plan:
        assert forecast(plan) is None, "figures are of the automatic engine"


def test_a_render_teaches_the_forecast_and_announces_the_next_one(cache, tmp_path, caplog):
    clip = make_clip(tmp_path / "in.mp4", width=64, height=64, times=range(120))
    target = tmp_path / "out.mp4"
    report = stylize_video(clip, target, engine=EngineSettings(stroke_size=1))
    fps = known_speed().fps("default", 64 * 64)
    assert fps == pytest.approx(119 / (report.seconds - report.first_frame_s), rel=0.01)
    keep_speed(Speed({"default": 64 * 64 / 1e6}))  # one frame a second
    with caplog.at_level(logging.INFO, "rtstyle"):
        again = RenderOptions(overwrite=True, end=Fraction(2))
        stylize_video(clip, target, engine=EngineSettings(stroke_size=1), options=again)
    assert any("50 frames take about 50 s here, at 1.0 FPS" in line for line in caplog.messages)
    assert known_speed().fps("default", 64 * 64) == pytest.approx(1), "50 frames are too few to learn from"


def test_doctor_measures_this_machine_and_keeps_it(cache, monkeypatch, capsys):
    monkeypatch.setattr("rtstyle.trial.measure_speed.__defaults__", (Size(160, 96), 0.3, print))
    assert main(["doctor", "--speed", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["megapixels_per_second"]) == set(told["milliseconds_per_megapixel"]) == {"default", "fast"}
    assert known_speed() == Speed(told["megapixels_per_second"], told["milliseconds_per_megapixel"])
    assert all(value > 0 for value in told["milliseconds_per_megapixel"].values())
    assert main(["doctor", "--speed", "--style", "ink"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" network")[0] for line in lines] == ["default", "fast"]
    assert all("FPS from file to file" in line and "ms for a live frame" in line for line in lines)

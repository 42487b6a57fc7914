"""Many files: the queue continues, skips what is finished, refuses what collides, and tells what became of each."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from clips import Sound, look, make_clip

from rtstyle.backends import EngineSettings
from rtstyle.errors import SettingError, StyleNotFoundError, VideoOpenError, VideoWriteError
from rtstyle.render import RenderOptions, VideoReport, stylize_video
from rtstyle.render.batch import BatchReport, Outcome, QueueOptions, find_videos, is_queue, plan_outputs, stylize_many
from rtstyle.video import EncoderSettings

RENDER = partial(
    stylize_video,
    engine=EngineSettings(backend="openvino", precision="f32"),
    encoder=EncoderSettings(preset="ultrafast"),
)


@pytest.fixture(autouse=True)
def ctrl_c_works():
    """As in a terminal, even where the tests run in the background, to which a shell gives a deaf SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three clips, one file that is no video, and what is to be passed over."""
    path = tmp_path / "in"
    path.mkdir()
    make_clip(path / "clip 2.mp4", times=range(5), sounds=[Sound(seconds=0.2)])
    make_clip(path / "clip 10.mkv", times=range(5))
    (path / "clip 3.mp4").write_text("no video at all")
    (path / "notes.txt").write_text("no video by its name")
    make_clip(path / ".hidden.mp4", times=range(2))
    (path / ".clip 2.mp4.rtstyle").mkdir()
    (path / "deeper").mkdir()
    make_clip(path / "deeper" / "clip 4.mp4", times=range(2))
    return path


def named(report: BatchReport) -> dict[str, str]:
    return {Path(outcome.input).name: outcome.status for outcome in report.outcomes}


# -- what is meant ---------------------------------------------------------------------------------


def test_videos_of_a_folder_come_as_people_count_and_nothing_else(folder):
    assert [path.name for path in find_videos([folder])] == ["clip 2.mp4", "clip 3.mp4", "clip 10.mkv"]


def test_what_is_named_comes_whatever_it_is_and_only_once(folder):
    given = [folder / "notes.txt", folder / "clip 10.mkv", folder, folder / "clip 2.mp4"]
    names = [path.name for path in find_videos(given)]
    assert names == ["notes.txt", "clip 10.mkv", "clip 2.mp4", "clip 3.mp4"]


def test_a_folder_without_videos_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(VideoOpenError, match="no video in the folder"):
        find_videos([tmp_path])


def test_outputs_keep_name_and_extension_where_that_can_be_written(tmp_path):
    videos = [Path("a.MP4"), Path("b.avi"), Path("c.webm"), Path("d.h264")]
    assert [target.name for _, target in plan_outputs(videos, tmp_path)] == ["a.MP4", "b.mkv", "c.webm", "d.mkv"]
    assert {target.suffix for _, target in plan_outputs(videos, tmp_path, extension=".mov")} == {".mov"}


@pytest.mark.parametrize("names", [("x/a.mp4", "y/a.mp4"), ("a.avi", "a.wmv"), ("a.mp4", "A.mp4")])
def test_two_inputs_with_one_output_are_refused_before_any_work(tmp_path, names):
    with pytest.raises(SettingError, match="would both become"):
        plan_outputs([Path(name) for name in names], tmp_path)


def test_a_folder_into_itself_is_refused(folder):
    with pytest.raises(SettingError, match="written over itself"):
        stylize_many([folder], folder, RENDER)


def test_a_forgotten_folder_is_noticed(folder, tmp_path):
    with pytest.raises(SettingError, match=r"several videos go into a folder, and .*out\.mp4 is named like a video"):
        stylize_many([folder], tmp_path / "out.mp4", RENDER)
    assert not (tmp_path / "out.mp4").exists()


def test_a_queue_is_distinguished_from_a_file(folder, tmp_path):
    one = folder / "clip 2.mp4"
    assert is_queue([one, one], "x.mp4")
    assert is_queue([folder], tmp_path)
    assert is_queue([folder], tmp_path / "new")
    assert is_queue([one], tmp_path)
    assert is_queue([one], f"{tmp_path / 'new'}/")
    assert not is_queue([one], tmp_path / "new")
    assert not is_queue([one], tmp_path / "out.mp4")
    assert not is_queue([folder], tmp_path / "out.mp4")  # a folder of images
    assert not is_queue([one], tmp_path / "%05d.png")
    assert not is_queue(["-"], "-")
    assert not is_queue([one], "-")


# -- what is done ----------------------------------------------------------------------------------


def test_one_failure_does_not_stop_the_rest(folder, tmp_path):
    out, ended, shares = tmp_path / "new" / "out", [], []
    tell: Callable[[float, str], None] = lambda share, label: shares.append((share, label))  # noqa: E731
    report = stylize_many([folder, folder / "notes.txt"], out, RENDER, progress=tell, report=ended.append)
    assert named(report) == {
        "clip 2.mp4": "done", "clip 3.mp4": "failed", "clip 10.mkv": "done", "notes.txt": "failed",
    }  # fmt: skip
    assert list(report.outcomes) == ended
    assert "cannot be read as a video" in report.outcomes[1].reason
    assert "\n" not in report.outcomes[1].reason
    assert sorted(path.name for path in out.iterdir()) == ["clip 10.mkv", "clip 2.mp4"]
    assert len(look(out / "clip 2.mp4").times) == 5
    assert [share for share, _ in shares] == sorted(share for share, _ in shares)
    assert 0 < shares[0][0] < shares[-1][0] <= 1
    assert "1 of 4, clip 2.mp4" in shares[0][1]
    figures = report.summary()
    assert (figures["files"], figures["done"], figures["failed"], figures["frames"]) == (4, 2, 2, 10)
    assert str(report).startswith("4 files: 2 done, 2 failed (")


def test_what_is_finished_is_skipped_and_left_alone(folder, tmp_path):
    out = tmp_path / "out"
    stylize_many([folder], out, RENDER)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    again = stylize_many([folder], out, RENDER)
    assert named(again) == {"clip 2.mp4": "skipped", "clip 3.mp4": "failed", "clip 10.mkv": "skipped"}
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    replacing = partial(RENDER, options=RenderOptions(overwrite=True))
    replaced = stylize_many([folder], out, replacing, options=QueueOptions(overwrite=True))
    assert named(replaced)["clip 2.mp4"] == "done"
    assert (out / "clip 2.mp4").stat().st_mtime_ns > before[out / "clip 2.mp4"]


def test_a_damaged_input_is_done_and_said(tmp_path):
    film = make_clip(tmp_path / "film.mkv", times=range(100), options={"g": "10", "preset": "ultrafast"})
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    report = stylize_many([film], tmp_path / "out", RENDER)
    assert named(report) == {"film.mkv": "damaged"}
    assert any("damaged" in warning for warning in report.outcomes[0].warnings)


def test_ctrl_c_ends_the_queue_and_what_was_done_stays(folder, tmp_path):
    def interrupted(source: Path, target: Path, *, progress) -> VideoReport:
        if source.name == "clip 3.mp4":
            os.kill(os.getpid(), signal.SIGINT)
        return RENDER(source, target, progress=progress)

    report = stylize_many([folder], tmp_path / "out", interrupted)
    assert named(report) == {"clip 2.mp4": "done", "clip 3.mp4": "interrupted", "clip 10.mkv": "not begun"}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["clip 2.mp4"]


def test_ctrl_c_within_a_file_says_where_its_part_is(folder, tmp_path):
    def stop(share: float, label: str) -> None:
        if "clip 10" in label:
            raise KeyboardInterrupt

    report = stylize_many([folder], tmp_path / "out", RENDER, progress=stop)
    last: Outcome = report.outcomes[-1]
    assert last.status == "interrupted"
    assert "kept in" in last.reason
    assert any("partial" in path.name for path in (tmp_path / "out").iterdir())


def test_what_would_stop_every_file_is_raised(folder, tmp_path):
    with pytest.raises(StyleNotFoundError):
        stylize_many([folder], tmp_path / "out", partial(RENDER, style="nonesuch"))


def test_a_folder_that_cannot_be_made_is_one_error(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(VideoWriteError, match="cannot make the folder"):
        stylize_many([folder], tmp_path / "file" / "out", RENDER)
    with pytest.raises(VideoWriteError, match="cannot make the folder"):
        stylize_many([folder], tmp_path / "file", RENDER)

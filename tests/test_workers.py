"""Segments that are rendered by other processes give the bytes of a local render, whatever fails on the way."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from clips import Sound, look, make_clip, moving_bar

from rtstyle.backends import Controls, EngineSettings
from rtstyle.canvas import CanvasTracker, flow
from rtstyle.cli import main
from rtstyle.errors import BackendUnavailableError, SettingError, VideoOpenError, VideoWriteError
from rtstyle.render import RenderOptions, coordinate, plan_render, planner, segments, stylize_video
from rtstyle.render.batch import QueueOptions, shard_of, stylize_many
from rtstyle.render.coordinate import Coordinator, render_with
from rtstyle.render.flow import Timings
from rtstyle.render.follow import VideoFollower
from rtstyle.render.job import SegmentJob, SegmentResult, job_of
from rtstyle.render.journal import Journal
from rtstyle.render.many import FarmBatch
from rtstyle.render.pool import LocalPool, Slot
from rtstyle.render.report import VideoReport
from rtstyle.render.worker import Renderer
from rtstyle.style import load_style
from rtstyle.video import EncoderSettings, VideoReader

FRAMES, SEGMENT = 31, 6
SETTINGS = {
    "style": "sketch",
    "engine": EngineSettings(backend="openvino", precision="f32"),
    "encoder": EncoderSettings(preset="ultrafast"),
}
BAD = Path(__file__).with_name("bad_worker.py")


@pytest.fixture(autouse=True)
def short_segments(monkeypatch):
    monkeypatch.setattr(segments, "segment_frames", lambda size: SEGMENT)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """A clip of uneven times and few key frames, with audio, that pans a little."""
    path = tmp_path_factory.mktemp("clip") / "in.mp4"
    pictures = [moving_bar(128, 96, number) for number in range(FRAMES)]
    times = [2 * number + number % 2 for number in range(FRAMES)]
    return make_clip(
        path, pictures, width=128, height=96, times=times, sounds=[Sound(seconds=1)], options={"g": "16", "bf": "2"}
    )


@pytest.fixture(scope="module")
def whole(clip) -> bytes:
    """What one process makes of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "segment_frames", lambda size: SEGMENT)
        stylize_video(clip, clip.with_name("whole.mp4"), **SETTINGS)
    return clip.with_name("whole.mp4").read_bytes()


def test_a_plan_is_the_same_with_few_cores_and_with_many(clip, monkeypatch):
    def plan(count: int) -> list[tuple[object, ...]]:
        monkeypatch.setattr(planner, "cores", lambda: count)
        with VideoReader(clip) as reader:
            reader.keep_packets = False
            follower, names = VideoFollower(reader, every=SEGMENT, steered=True, follow="flow"), set()
            parts = []
            for part in planner.planned(reader, follower, SEGMENT, None, Timings()):
                names |= {thread.name.partition("_")[0] for thread in threading.enumerate()}
                state = part.checkpoint.canvas.dump() if part.checkpoint else b""
                parts.append((part.first, part.places, bytes(part.steps), part.fingerprint, part.after, state))
        assert ("rtstyle-plan-compare" in names) == (count > 2)
        return parts

    few = plan(2)
    assert [part[0] for part in few] == list(range(0, FRAMES, SEGMENT))
    assert any(len(part[2]) > SEGMENT for part in few), "something moves"
    assert plan(4) == few


def render(
    clip: Path, target: Path, pool: LocalPool, *, progress=None, options: RenderOptions = RenderOptions()
) -> VideoReport:
    return render_with(plan_render(clip, target, **SETTINGS, options=options), pool, progress)


def bad_pool(way: str, folder: Path, count: int = 1) -> LocalPool:
    return LocalPool(count, command=[sys.executable, str(BAD), way, str(folder)])


# -- the unit --------------------------------------------------------------------------------------


@pytest.mark.parametrize("follow", ["auto", "camera", "flow", "off"])
def test_segments_give_the_same_bytes_in_any_order_and_process(clip, tmp_path, steered_style, follow):
    settings = {**SETTINGS, "style": steered_style, "options": RenderOptions(follow=follow)}
    stylize_video(clip, tmp_path / "local.mp4", **settings)
    stylize_video(clip, tmp_path / "jobs.mp4", **{**settings, "options": RenderOptions(follow=follow, jobs=2)})
    assert (tmp_path / "jobs.mp4").read_bytes() == (tmp_path / "local.mp4").read_bytes()


def test_a_job_and_its_result_travel_as_text_and_bytes(clip, tmp_path):
    with plan_render(clip, tmp_path / "out.mp4", **SETTINGS) as plan:
        job = replace(job_of(plan, plan.engine), frames=2 * SEGMENT)
    assert job.follow == plan.settings()["follow"]
    sent = SegmentJob.from_json(job.to_json())
    assert sent == job
    assert json.loads(job.to_json())["every"] == SEGMENT
    with closing(Renderer()) as renderer:
        result = renderer.render(sent)
    told, data = result.to_parts()
    assert SegmentResult.from_parts(json.loads(json.dumps(told)), data) == result
    assert [len(piece.segment.pts) for piece in result.pieces] == [SEGMENT, SEGMENT]
    with closing(Renderer()) as renderer:
        again = renderer.render(sent)
    assert [piece.data for piece in again.pieces] == [piece.data for piece in result.pieces]


def test_a_worker_does_not_look_for_what_the_coordinator_found(clip, whole, tmp_path, monkeypatch):
    """The coordinator follows the scene once for all; its jobs hold what it found."""
    planned, jobs = tmp_path / "out.mp4", jobs_of(monkeypatch)
    render(clip, planned, LocalPool(2))
    assert planned.read_bytes() == whole
    assert all(job.steps and job.canned == {} for job in jobs)

    def look(*args: object) -> None:
        raise AssertionError("it looks at frames again")

    monkeypatch.setattr(flow, "compared", look)
    monkeypatch.setattr(CanvasTracker, "offset", look)
    with closing(Renderer()) as renderer:
        for job in jobs:
            assert renderer.render(SegmentJob.from_json(job.to_json())).frames == job.frames


# -- processes -------------------------------------------------------------------------------------


def test_processes_give_the_bytes_of_one_and_say_what_each_did(clip, whole, tmp_path, capsys):
    words: list[str] = []
    report = render(clip, tmp_path / "out.mp4", LocalPool(2), progress=lambda done, total, word: words.append(word))
    assert (tmp_path / "out.mp4").read_bytes() == whole
    assert sum(node["frames"] for node in report.nodes) == report.frames_out == FRAMES
    assert {"node", "segments", "frames", "fps", "lost"} <= set(report.nodes[0])
    assert report.warnings == []
    assert any("2 workers" in word and "segments in flight" in word for word in words)
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def jobs_of(monkeypatch) -> list[SegmentJob]:
    """Return a list that takes every job that is given out."""
    jobs: list[SegmentJob] = []
    submit = LocalPool.submit
    monkeypatch.setattr(LocalPool, "submit", lambda *args: (jobs.append(args[-1]), submit(*args))[1])
    return jobs


def never(*args: object) -> None:
    raise AssertionError("it is planned")


@pytest.mark.parametrize("follow", ["camera", "flow"])
def test_one_worker_renders_a_video_in_turn_and_nothing_is_planned(clip, tmp_path, monkeypatch, steered_style, follow):
    settings = {**SETTINGS, "style": steered_style, "options": RenderOptions(follow=follow)}
    stylize_video(clip, tmp_path / "local.mp4", **settings)
    jobs = jobs_of(monkeypatch)
    monkeypatch.setattr(coordinate, "planned", never)
    monkeypatch.setattr(coordinate, "_LONGEST", 2)
    report = render_with(plan_render(clip, tmp_path / "out.mp4", **settings), LocalPool(1))
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "local.mp4").read_bytes()
    assert report.frames_out == FRAMES
    assert [(job.first, job.frames) for job in jobs] == [(0, 6), (6, 12), (18, 12), (30, 12)]
    with closing(Renderer()) as renderer:
        pieces = renderer.render(jobs[1]).pieces
    assert [bool(piece.stand and piece.stand.canvas) for piece in pieces] == [False, True], "it is megabytes"
    assert jobs[0].canvas == ""
    assert all(job.canvas and job.places is None for job in jobs[1:])


def test_a_video_is_planned_as_soon_as_a_second_worker_comes(clip, whole, tmp_path, monkeypatch):
    jobs, pool = jobs_of(monkeypatch), LocalPool(1)

    def join(done: int, total: int | None, words: str) -> None:
        if done and pool.expected == 1:
            pool._lives[Slot("late")] = 2
            pool._start(Slot("late"), [])

    monkeypatch.setattr(coordinate, "_LONGEST", 1)
    report = render(clip, tmp_path / "out.mp4", pool, progress=join)
    assert (tmp_path / "out.mp4").read_bytes() == whole
    assert jobs[0].hands_over
    assert not jobs[-1].hands_over
    assert jobs[-1].steps
    assert {node["node"] for node in report.nodes} == {"worker 1", "late"}


def test_damage_is_counted_once_however_many_jobs_there_are(tmp_path, monkeypatch):
    clip = make_clip(tmp_path / "in.mkv", times=range(40), options={"g": "10"})
    data = bytearray(clip.read_bytes())
    for place in (len(data) // 3, len(data) * 2 // 3):
        data[place : place + 60] = bytes(60)
    clip.write_bytes(data)
    local = stylize_video(clip, tmp_path / "local.mp4", **SETTINGS)
    monkeypatch.setattr(coordinate, "_LONGEST", 1)
    made = render(clip, tmp_path / "out.mp4", LocalPool(1))
    assert made.dropped == local.dropped > 0
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "local.mp4").read_bytes()


@pytest.mark.parametrize("way", ["raises", "dies", "garbage", "sleeps"])
def test_what_a_worker_does_wrong_is_done_again(clip, whole, tmp_path, way):
    report = render(clip, tmp_path / "out.mp4", bad_pool(way, tmp_path, 1 if way in ("raises", "dies") else 2))
    assert (tmp_path / "out.mp4").read_bytes() == whole
    if way == "dies":
        assert any("was lost: it was ended by signal 9" in warning for warning in report.warnings)
    if way == "garbage":
        assert any("rendered here, in sequence" in warning for warning in report.warnings)


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("version", r"no worker is left; worker 1: it has rtstyle 0\.0\.1 instead of"),
        ("engine", "no worker is left; worker 1: its engine gives other results"),
        ("blind", r"no worker can read .*in\.mp4; worker 1: .* is another file here"),
    ],
)
def test_a_worker_that_differs_is_left_out_and_named(clip, tmp_path, way, reason):
    with pytest.raises((BackendUnavailableError, VideoOpenError), match=reason):
        render(clip, tmp_path / "out.mp4", bad_pool(way, tmp_path))
    assert not (tmp_path / "out.mp4").exists()


def test_an_interrupted_render_is_resumed_with_workers_or_without(clip, whole, tmp_path):
    def stop(done: int, total: int | None, words: str) -> None:
        if done >= 2 * SEGMENT + 1:
            os.kill(os.getpid(), signal.SIGINT)

    target = tmp_path / "out.mp4"
    with pytest.raises(KeyboardInterrupt):
        stylize_video(clip, target, **SETTINGS, progress=stop)
    report = render(clip, target, LocalPool(1), options=RenderOptions(resume=True))
    assert report.resumed_at == 2 * SEGMENT
    assert target.read_bytes() == whole

    target = tmp_path / "again.mp4"
    with pytest.raises(KeyboardInterrupt) as raised:
        render(clip, target, LocalPool(1), progress=stop)
    assert any("are kept in" in note for note in raised.value.__notes__)
    assert len(look(tmp_path / "again.partial.mp4").times) >= SEGMENT
    report = stylize_video(clip, target, **SETTINGS, options=RenderOptions(resume=True))
    assert report.resumed_at >= SEGMENT
    assert target.read_bytes() == whole


PROGRAM = """
import sys
from rtstyle.render import segments
segments.segment_frames = lambda size: 6
from rtstyle.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_coordinator_that_is_killed_leaves_no_worker_and_is_resumed(clip, whole, tmp_path):
    target, journal = tmp_path / "out.mp4", tmp_path / ".out.mp4.rtstyle" / "journal.jsonl"
    words = ["--jobs", "1", "--backend", "openvino", "--precision", "f32", "--preset", "ultrafast"]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "video", str(clip), str(target), *words],
        env={**os.environ, "PYTHONPATH": str(BAD.parents[1])}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not (journal.exists() and len(journal.read_text().splitlines()) >= 2):
        assert process.poll() is None
        time.sleep(0.005)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    assert children
    end = time.monotonic() + 20
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < end, "a worker outlives its coordinator"
        time.sleep(0.05)
    if not target.exists():
        assert render(clip, target, LocalPool(1), options=RenderOptions(resume=True)).resumed_at
    assert target.read_bytes() == whole


def test_a_full_disk_stops_the_render_and_resume_continues(clip, whole, tmp_path, monkeypatch):
    add, target = Journal.add, tmp_path / "out.mp4"

    def full(self, segment, checkpoint):
        if self.segments:
            raise OSError(errno.ENOSPC, "No space left on device")
        add(self, segment, checkpoint)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add", full)
        with pytest.raises(VideoWriteError, match="the disk is full") as raised:
            render(clip, target, LocalPool(1))
    assert raised.value.__notes__ == [f"--resume continues behind frame {SEGMENT}"]
    render(clip, target, LocalPool(1), options=RenderOptions(resume=True))
    assert target.read_bytes() == whole


def test_what_cannot_be_rendered_in_segments_is_refused(clip, tmp_path):
    jobs = RenderOptions(jobs=1)
    with pytest.raises(SettingError, match="is written straight through, not in segments"):
        stylize_video(clip, tmp_path / "out.gif", style="sketch", options=jobs)
    with pytest.raises(SettingError, match="--preset auto measures one machine"):
        stylize_video(clip, tmp_path / "o.mp4", style="sketch", encoder=EncoderSettings(preset="auto"), options=jobs)
    with pytest.raises(SettingError, match="not both"):
        RenderOptions(jobs=1, cluster="auto")
    with pytest.raises(SettingError, match="jobs must be from 0 to"):
        RenderOptions(jobs=-1)


# -- many files ------------------------------------------------------------------------------------


def test_files_of_a_folder_are_rendered_together(clip, whole, tmp_path, monkeypatch):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(2):
        (folder / f"clip {number}.mp4").write_bytes(clip.read_bytes())
    for name in ("long.mp4", "longer.mp4"):
        make_clip(folder / name, times=range((11 if name == "long.mp4" else 13) * SEGMENT + 1))
        stylize_video(folder / name, tmp_path / name, **SETTINGS)
    (folder / "broken.mp4").write_text("no video")
    shares: list[float] = []
    jobs = jobs_of(monkeypatch)
    with Coordinator(LocalPool(2)) as coordinator:
        settings = {**SETTINGS, "style": load_style("sketch")}
        together = FarmBatch(coordinator, controls=Controls(), options=RenderOptions(), **settings)
        report = stylize_many([folder], tmp_path / "out", together, progress=lambda share, _: shares.append(share))
        again = stylize_many([folder], tmp_path / "out", together)
        nodes = together.nodes()
    assert [(Path(each.input).name, each.status) for each in report.outcomes] == [
        ("broken.mp4", "failed"), ("clip 0.mp4", "done"), ("clip 1.mp4", "done"), ("long.mp4", "done"),
        ("longer.mp4", "done"),
    ]  # fmt: skip
    assert (tmp_path / "out" / "clip 0.mp4").read_bytes() == (tmp_path / "out" / "clip 1.mp4").read_bytes() == whole
    for name in ("long.mp4", "longer.mp4"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / name).read_bytes()
    assert any(job.hands_over for job in jobs), "there is a video for each worker"
    assert {each.status for each in again.outcomes} == {"failed", "skipped"}
    assert shares == sorted(shares)
    assert sum(node["frames"] for node in nodes) == 2 * FRAMES + 24 * SEGMENT + 2


def test_ctrl_c_interrupts_the_files_that_are_open(clip, tmp_path):
    for number in range(3):
        (tmp_path / f"clip {number}.mp4").write_bytes(clip.read_bytes())
    with Coordinator(LocalPool(1)) as coordinator:
        settings = {**SETTINGS, "style": load_style("sketch")}
        together = FarmBatch(coordinator, controls=Controls(), options=RenderOptions(), **settings)
        report = stylize_many(
            [tmp_path], tmp_path / "out", together, progress=lambda *_: os.kill(os.getpid(), signal.SIGINT)
        )
    assert report.count("interrupted") >= 1
    assert report.count("interrupted", "not begun") == 3
    assert list((tmp_path / "out").iterdir()) == []


def test_shards_take_every_file_once_and_about_equal_bytes(tmp_path):
    files = []
    for number, size in enumerate((90, 10, 40, 30, 60, 20, 50)):
        files.append(tmp_path / f"{number}.mp4")
        files[-1].write_bytes(bytes(size))
    parts = [shard_of(files, part, 3) for part in (1, 2, 3)]
    assert sorted(path for part in parts for path in part) == files
    assert [sum(path.stat().st_size for path in part) for part in parts] == [110, 100, 90]
    assert shard_of(files, 9, 9) == []
    with pytest.raises(SettingError, match="I from 1 to N"):
        QueueOptions(shard=(0, 3))


# -- the command line ------------------------------------------------------------------------------


def test_the_command_line_takes_jobs_and_shards(clip, whole, tmp_path, capsys):
    words = ["--backend", "openvino", "--precision", "f32", "--preset", "ultrafast", "--json"]
    assert main(["video", str(clip), str(tmp_path / "out.mp4"), "--jobs", "1", *words]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["nodes"][0]["frames"] == FRAMES
    assert (tmp_path / "out.mp4").read_bytes() == whole
    assert main(["video", str(clip), str(tmp_path / "again.mp4"), "--jobs", "2", *words[:-1]]) == 0
    said = capsys.readouterr().err
    assert re.search(r"worker [12]: \d+ frames", said)
    assert re.search(r"planning \(\w+\) took [\d.]+ ms a frame: at most \d+ FPS", said)
    folder = clip.parent / "two"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (folder / name).write_bytes(clip.read_bytes())
    assert main(["video", str(folder), str(tmp_path / "out"), "--shard", "2/2", "--jobs", "1", *words]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.mp4"]
    assert lines[-1]["summary"]["files"] == 1
    assert lines[-1]["nodes"][0]["frames"] == FRAMES
    assert main(["video", str(clip), str(tmp_path / "x.mp4"), "--shard", "1/2"]) == 1
    assert "--shard takes a part of many files" in capsys.readouterr().err
    assert main(["video", str(clip), str(tmp_path / "x.mp4"), "--shard", "3/2"]) == 2

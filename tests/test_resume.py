"""kill -9 at random moments, then --resume: the result decodes to what an unbroken run gives."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from clips import Contents, Sound, look, make_clip, moving_bar

from rtstyle.frame import Size
from rtstyle.render.segments import segment_frames

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}

SIZE = Size(64, 48)
SEGMENT = segment_frames(SIZE)

FRAMES = 4 * SEGMENT + SEGMENT // 3


def command(source: Path, target: Path, *words: str) -> list[str]:
    options = ["--backend", "openvino", "--precision", "f32", "--preset", "ultrafast", "--json", *words]
    return [sys.executable, "-m", "rtstyle", "video", str(source), str(target), *options]


def run(source: Path, target: Path, *words: str) -> dict[str, object]:
    done = subprocess.run(command(source, target, *words), capture_output=True, text=True, env=ENVIRONMENT, timeout=300)
    assert done.returncode == 0, done.stderr
    report: dict[str, object] = json.loads(done.stdout)
    return report


@dataclass(frozen=True)
class Whole:
    """A render that was not interrupted."""

    source: Path
    contents: Contents
    seconds: float


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    times = [2 * number + number % 2 for number in range(FRAMES)]  # uneven, so that a lost frame cannot hide
    pictures = [moving_bar(SIZE.width, SIZE.height, number) for number in range(FRAMES)]
    source = make_clip(
        folder / "in.mp4", pictures, width=SIZE.width, height=SIZE.height, times=times,
        sounds=[Sound(seconds=FRAMES / 25)], options={"preset": "ultrafast", "g": "50"},
    )  # fmt: skip
    begun = time.perf_counter()
    run(source, folder / "out.mp4")
    return Whole(source, look(folder / "out.mp4"), time.perf_counter() - begun)


def kill_after(seconds: float, words: list[str]) -> bool:
    """Run a program and kill it after a while, if it is not done by then; True: it was killed."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True
    return False


def journalled(target: Path) -> int:
    """Frames in the finished segments of an interrupted render."""
    journal = target.with_name(f".{target.name}.rtstyle") / "journal.jsonl"
    segments = journal.read_text().splitlines()[1:] if journal.exists() else []
    return SEGMENT * sum(line.endswith("}") for line in segments)


def resume_killed(whole: Whole, target: Path, seed: int) -> None:
    """Kill a render at a moment of its own, and the next one, too; then let it end and look at it."""
    chance = random.Random(seed)
    moment = chance.uniform(0.1, 1.0) * whole.seconds
    while not kill_after(moment, command(whole.source, target)):  # it was done by then: earlier
        target.unlink()
        moment *= 0.8
    killed = True
    if chance.random() < 0.5:
        killed = kill_after(chance.uniform(0.1, 0.8) * whole.seconds, command(whole.source, target, "--resume"))
    if killed and not target.exists():  # it may be whole and in its place a moment before the program ends
        there = journalled(target)
        report = run(whole.source, target, "--resume")
        assert report["resumed_at"] == there
        assert [path.name for path in target.parent.iterdir()] == [target.name]
    contents = look(target)
    assert contents.times == whole.contents.times
    for picture, other in zip(contents.pictures, whole.contents.pictures, strict=True):
        assert all((plane == expected).all() for plane, expected in zip(picture, other, strict=True))
    assert contents.packets == whole.contents.packets
    assert contents.tracks == whole.contents.tracks


@pytest.mark.parametrize("seed", range(2))
def test_a_killed_render_is_resumed_to_the_unbroken_one(whole, tmp_path, seed):
    resume_killed(whole, tmp_path / "out.mp4", seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 20))
def test_a_render_killed_at_any_moment_is_resumed_to_the_unbroken_one(whole, tmp_path, seed):
    resume_killed(whole, tmp_path / "out.mp4", seed)


def test_the_second_of_two_runs_on_one_output_is_refused_and_harms_nothing(whole, tmp_path):
    target = tmp_path / "out.mp4"
    first = subprocess.Popen(
        command(whole.source, target), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    lock = tmp_path / ".out.mp4.rtstyle" / "lock"
    while not lock.exists():
        assert first.poll() is None
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)  # it may not end before the others have tried
    for words in ((), ("-y",), ("--resume",)):
        second = subprocess.run(
            command(whole.source, target, *words), capture_output=True, text=True, env=ENVIRONMENT, timeout=60
        )
        assert second.returncode == 1
        errors = [line for line in second.stderr.splitlines() if line.startswith("rtstyle: error")]
        assert len(errors) == 1
        assert "another rtstyle is writing" in errors[0]
    first.send_signal(signal.SIGCONT)
    out, err = first.communicate(timeout=120)
    assert first.returncode == 0, err
    assert json.loads(out)["frames_out"] == FRAMES
    assert look(target).times == whole.contents.times

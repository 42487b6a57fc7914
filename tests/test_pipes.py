"""rtstyle as one program of a pipe: what comes in at the standard input goes out at the standard output."""

import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext, suppress
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import Sound, look, make_clip, noise

from rtstyle.cli import main

RUN = (sys.executable, "-m", "rtstyle", "video")


def piped(data: bytes, *words: str, into: int = subprocess.PIPE) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*RUN, *words], input=data, stdout=into, stderr=subprocess.PIPE, timeout=100)


@pytest.mark.parametrize("ending", ["mkv", "ts", "nut"])
def test_a_video_goes_through_with_its_audio(tmp_path, ending):
    times = [0, 40, 90, 120, 180, 200, 260, 280]
    # Lead-ins of AAC lie before 0, where these formats have no times: ten milliseconds in, everything fits.
    source = make_clip(
        tmp_path / f"in.{ending}", times=[t + 1000 for t in times], time_base=Fraction(1, 1000), options={"bf": "0"},
        sounds=[Sound("mp2", 0.4, late=1.0)],
    )  # fmt: skip
    done = piped(source.read_bytes(), "-", "-", "--format", ending, "--quiet")
    assert done.returncode == 0
    assert b"error" not in done.stderr
    target = tmp_path / f"out.{ending}"
    target.write_bytes(done.stdout)
    before, after = look(source), look(target)
    moved = after.times[0] - before.times[0]
    assert [time - moved for time in after.times] == before.times
    assert [data for _, data in after.packets[0]] == [data for _, data in before.packets[0]]
    assert not np.array_equal(after.pictures[0][0], before.pictures[0][0])


def test_raw_frames_come_back_bit_for_bit_at_strength_0(tmp_path):
    pictures = [noise(64, 48, i) for i in range(5)]
    source = make_clip(tmp_path / "in.y4m", pictures, times=range(5), codec="wrapped_avframe", options={})
    done = piped(source.read_bytes(), "-", "-", "--strength", "0", "--quiet")
    assert done.returncode == 0, done.stderr
    (tmp_path / "out.y4m").write_bytes(done.stdout)
    before, after = look(source), look(tmp_path / "out.y4m")
    assert len(after.pictures) == 5
    for one, other in zip(before.pictures, after.pictures, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_pipe_into_a_file_and_a_file_into_a_pipe(tmp_path):
    source = make_clip(tmp_path / "in.mkv")
    assert piped(source.read_bytes(), "-", str(tmp_path / "out.mp4")).returncode == 0
    done = piped(b"", str(source), "-", "--quiet")
    (tmp_path / "out.mkv").write_bytes(done.stdout)
    assert look(tmp_path / "out.mp4").times == look(tmp_path / "out.mkv").times == look(source).times
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mkv", "out.mkv", "out.mp4"]


@pytest.mark.parametrize(
    ("data", "words", "said"),
    [
        (b"", ("-", "-"), b"no data|empty|nothing|cannot be read"),
        (b"no video at all\n" * 99, ("-", "-"), b"cannot be read as a video"),
        (b"", ("-", "-", "--json"), b"--json and the video cannot both go to stdout"),
        (b"", ("-", "-", "--resume"), b"cannot be resumed"),
        (b"", ("-", "-", "--format", "mp4"), b"mp4 cannot be written to a pipe: take one of"),
    ],
)
def test_what_cannot_be_is_one_line(data, words, said):
    done = piped(data, *words)
    assert done.returncode == 1
    assert done.stdout == b""
    assert done.stderr.startswith(b"rtstyle: error: ")
    assert done.stderr.count(b"\n") == 1
    assert any(part in done.stderr for part in said.split(b"|")), done.stderr


def test_a_reader_that_goes_away_ends_it_without_a_word(tmp_path):
    source = make_clip(
        tmp_path / "in.mkv", [noise(320, 240, i) for i in range(60)], width=320, height=240, times=range(60)
    )
    child = subprocess.Popen([*RUN, str(source), "-", "--crf", "0", "--quiet"], stdout=-1, stderr=-1)
    assert child.stdout
    assert child.stderr
    child.stdout.read(1000)
    child.stdout.close()
    said = child.stderr.read()
    assert child.wait(60) == 1
    assert b"Traceback" not in said
    assert said.count(b"\n") <= 1


def interrupted(
    words: list[str], number: int, *, feed: bytes = b"", fifo: Path | None = None
) -> tuple[int, str, float]:
    """Start a command, give it the beginning of a video, and send a signal once it waits for more.

    Returns:
        Exit code, what it said, and the seconds from the signal to the end.
    """
    run = subprocess.Popen(
        [sys.executable, "-m", "rtstyle", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert run.stdin
    assert run.stderr
    try:
        with fifo.open("r+b", buffering=0) if fifo else nullcontext(run.stdin) as pipe:
            pipe.write(feed)
            pipe.flush()
            end = time.monotonic() + 60
            while not waits(run.pid):
                assert time.monotonic() < end
                assert run.poll() is None, run.stderr.read()
            run.send_signal(number)
            begin = time.monotonic()
            code = run.wait(20)
        return code, run.stderr.read().decode(), time.monotonic() - begin
    finally:
        run.kill()
        run.communicate()


def waits(process: int) -> bool:
    """Whether a process polls a pipe and does nothing else for a while."""

    def spent() -> int:
        return sum(map(int, Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]))

    polls = False
    for task in os.listdir(f"/proc/{process}/task"):
        with suppress(OSError):  # a thread that has ended
            polls |= "poll" in Path(f"/proc/{process}/task/{task}/wchan").read_text()
    if not polls:
        return False
    before = spent()
    time.sleep(0.3)
    return spent() - before <= 2


@pytest.mark.skipif(not Path("/proc/self/wchan").exists(), reason="no /proc of Linux")
@pytest.mark.parametrize(
    ("case", "number"),
    [
        ("stdin, nothing", signal.SIGINT),
        ("stdin, a header", signal.SIGTERM),
        ("stdin, half", signal.SIGINT),
        ("fifo, half", signal.SIGTERM),
        ("fifo, nothing", signal.SIGINT),
        ("webcam", signal.SIGINT),
    ],
)
def test_a_writer_that_is_silent_does_not_hold_a_signal_off(tmp_path, case, number):
    source = make_clip(
        tmp_path / "in.y4m", [noise(64, 48, i) for i in range(24)], times=range(24), codec="wrapped_avframe", options={}
    )
    fifo, target, data = tmp_path / "pipe", tmp_path / "out.mkv", source.read_bytes()
    os.mkfifo(fifo)
    given = "-" if case.startswith("stdin") else str(fifo)
    feed = {"nothing": b"", "header": data[:20], "half": data[: len(data) // 2]}.get(case.split()[-1], b"")
    words = ["video", given, str(target), "--quiet"]
    if case == "webcam":
        words = ["webcam", str(fifo), "--preview", "none", "--frames", "9", "--timeout", "30", "--quiet"]
    code, said, seconds = interrupted(words, number, feed=feed, fifo=None if given == "-" else fifo)
    assert code == 130, said
    assert seconds < 5
    assert "Traceback" not in said
    assert not target.exists()
    assert target.with_name("out.partial.mkv").exists() == case.endswith("half")


def test_verify_of_a_pipe_is_one_line(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    source = make_clip(tmp_path / "in.mkv")
    for pair in ((tmp_path / "pipe", source), (source, tmp_path / "pipe")):
        assert main(["verify", *map(str, pair)]) == 1
        assert "is a named pipe, and verify reads files" in capsys.readouterr().err

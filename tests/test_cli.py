"""The command line is a contract: words, exit codes, one line per error, one object per --json, nothing lost."""

import argparse
import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import get_args

import av
import cv2
import numpy as np
import pytest
from clips import Sound, add_track, look, make_clip, moving_bar, noise, tone_packets
from test_camera import write_clip

from rtstyle import __version__, backends, cli
from rtstyle.cli.talk import ProgressBar
from rtstyle.render import VideoReport
from rtstyle.style import SizeClassChoice
from rtstyle.video import EncoderSettings

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture(autouse=True)
def handlers_as_before():
    """main() takes SIGTERM over, as a program of its own may."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "in.mp4", times=range(8), sounds=[Sound(seconds=0.3)])


def run(*words: object) -> int:
    """Run main() in this process and return its exit code."""
    try:
        return cli.main([str(word) for word in words])
    except SystemExit as stop:
        return int(stop.code or 0)


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "rtstyle", *map(str, words)]


def run_program(*words: object, prepare: Callable[[], None] | None = None, cwd: Path | None = None):
    """Run rtstyle as a program of its own."""
    return subprocess.run(
        command(*words), capture_output=True, text=True, env=ENVIRONMENT, preexec_fn=prepare, timeout=60, cwd=cwd
    )


def start_program(*words: object) -> subprocess.Popen[str]:
    """Start rtstyle as a program that Ctrl-C reaches, even where the tests themselves run in the background."""
    return subprocess.Popen(
        command(*words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def the_one_line(captured) -> str:
    """What an error may print: one line on stderr, nothing on stdout."""
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("rtstyle: error: ")
    return lines[0].removeprefix("rtstyle: error: ")


# -- words -----------------------------------------------------------------------------------------

COMMANDS = ("video", "image", "webcam", "styles", "doctor")


def test_help_names_every_command(capsys):
    assert run("--help") == 0
    text = capsys.readouterr().out
    for name in COMMANDS:
        assert f"\n    {name} " in text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_each_of_its_options(name, capsys):
    assert run(name, "--help") == 0
    assert f"rtstyle {name}" in capsys.readouterr().out
    for action in parser_of(name)._actions:
        assert action.help, f"{name} {action.dest} has no help"


def parser_of(name: str) -> argparse.ArgumentParser:
    parser = cli._build_parser()
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return commands.choices[name]


@pytest.mark.parametrize("name", ["video", "webcam"])
def test_defaults_of_the_encoder_are_those_of_its_settings(name):
    parser = parser_of(name)
    for setting in fields(EncoderSettings):
        assert parser.get_default(setting.name) == setting.default


@pytest.mark.parametrize("name", ["video", "image", "webcam"])
def test_backends_and_precisions_are_those_that_there_are(name):
    choices = {action.dest: action.choices for action in parser_of(name)._actions}
    assert choices["backend"] == get_args(backends.BackendChoice)
    assert choices["precision"] == get_args(backends.Precision)
    assert choices["size_class"] == get_args(SizeClassChoice)


def test_the_version_is_that_of_the_package(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"rtstyle {__version__}\n"


def test_the_package_runs_as_a_program():
    done = run_program("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"rtstyle {__version__}\n", "")


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["paint"],
        ["video"],
        ["video", "in.mp4"],
        ["video", "in.mp4", "out.mp4", "--crf", "best"],
        ["video", "in.mp4", "out.mp4", "--strength", "much"],
        ["video", "in.mp4", "out.mp4", "--backend", "abacus"],
        ["video", "in.mp4", "out.mp4", "--over"],  # abbreviations would break when options are added
        ["image", "in.png"],
        ["styles", "--unknown"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line_and_exit_code_2(words, capsys):
    assert run(*words) == 2
    line = the_one_line(capsys.readouterr())
    assert "--help)" in line


# -- what works ------------------------------------------------------------------------------------


def test_a_video_is_stylized_with_a_summary_on_stderr(clip, tmp_path, capsys):
    assert run("video", clip, tmp_path / "out.mp4") == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "8 frames of 64x48" in captured.err
    assert "FPS" in captured.err
    assert "other streams: audio 1 (aac)" in captured.err
    assert len(look(tmp_path / "out.mp4").times) == 8


def test_json_is_one_object_with_the_promised_keys(clip, tmp_path, capsys):
    assert run("video", clip, tmp_path / "out.mp4", "--json") == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    promised = (
        "frames_in frames_out dropped seconds fps cpu_ms_per_frame first_frame_s stages backend precision device "
        "style size streams_copied streams_dropped warnings"
    )
    assert set(promised.split()) <= set(report)
    assert set(report) == {field.name for field in fields(VideoReport)}
    assert report["frames_out"] == 8
    assert captured.err == ""


def test_image_json_is_one_object(tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "in.png"), np.full((20, 30, 3), 128, np.uint8))
    assert run("image", tmp_path / "in.png", tmp_path / "out.png", "--json") == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert {"images", "failed", "seconds", "backend", "precision", "device", "style", "warnings"} == set(report)
    assert (report["images"], report["failed"]) == (1, {})
    assert captured.err == ""


def test_styles_are_listed_as_lines_and_as_one_object(capsys):
    assert run("styles") == 0
    assert any(line.startswith("sketch ") for line in capsys.readouterr().out.splitlines())
    assert run("styles", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert "sketch" in [style["name"] for style in listed["styles"]]


def test_doctor_reports_in_lines_and_as_one_object(capsys):
    assert run("doctor") == 0
    lines = capsys.readouterr().out.splitlines()
    for subject in ("rtstyle", "processor", "backend openvino", "encoder libx264", "cameras", "display"):
        assert any(subject in line for line in lines), subject
    assert run("doctor", "--json") == 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert {"subject", "works", "says", "fix"} == set(findings[0])
    for finding in findings:
        assert finding["works"] is not False or finding["fix"], f"{finding['subject']} does not say what to do"


def test_quiet_says_nothing(clip, tmp_path, capfd):
    assert run("video", clip, tmp_path / "out.mp4", "--quiet") == 0
    cv2.imwrite(str(tmp_path / "in.png"), np.full((20, 30, 3), 128, np.uint8))
    assert run("image", tmp_path / "in.png", tmp_path / "out.png", "--quiet") == 0
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_quiet_still_warns(tmp_path, capsys):
    source = make_clip(tmp_path / "in.mkv", width=33, height=17, codec="ffv1", options={}, times=range(3))
    assert run("video", source, tmp_path / "out.mp4", "--quiet") == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rtstyle: warning: ")


def test_options_reach_the_engine_and_the_encoder(clip, tmp_path, capsys):
    words = ("--strength", 0, "--codec", "ffv1", "--no-audio", "--precision", "f32", "--backend", "openvino", "--json")
    assert run("video", clip, tmp_path / "out.mkv", *words) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["backend"], report["precision"]) == ("openvino", "f32")
    before, after = look(clip), look(tmp_path / "out.mkv")
    assert after.tracks == []
    for one, other in zip(before.pictures, after.pictures, strict=True):
        for a, b in zip(one, other, strict=True):
            assert np.array_equal(a, b)


def test_keep_colors_keeps_the_chroma(clip, tmp_path):
    assert run("video", clip, tmp_path / "out.mkv", "--keep-colors", "--codec", "ffv1", "--quiet") == 0
    before, after = look(clip).pictures[0], look(tmp_path / "out.mkv").pictures[0]
    assert not np.array_equal(before[0], after[0])
    assert np.array_equal(before[1], after[1])
    assert np.array_equal(before[2], after[2])


def test_yes_overwrites_and_long_word_too(clip, tmp_path):
    for word in ("-y", "--overwrite"):
        (tmp_path / "out.mp4").write_bytes(b"old")
        assert run("video", clip, tmp_path / "out.mp4", word, "--quiet") == 0
        assert len(look(tmp_path / "out.mp4").times) == 8


def test_a_long_run_says_how_far_it_is(clip, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(ProgressBar, "_EVERY", 0.0)
    assert run("video", clip, tmp_path / "out.mp4") == 0
    lines = capsys.readouterr().err.splitlines()
    assert any("of 8 frames" in line and "s left" in line and "openvino" in line for line in lines[:-1])


def test_a_failed_image_of_a_folder_is_a_warning_and_exit_code_1(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "good.png"), np.full((20, 30, 3), 128, np.uint8))
    (tmp_path / "in" / "bad.png").write_bytes(b"no frame")
    assert run("image", tmp_path / "in", tmp_path / "out", "--quiet") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "bad.png" in line
    assert (tmp_path / "out" / "good.png").is_file()


def test_a_reader_that_goes_away_is_no_traceback():
    program = start_program("styles", "--json")
    program.stdout.close()
    assert program.stderr.read() == ""
    assert program.wait(timeout=30) == 1
    program.stderr.close()


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo terminals are a thing of Unix")
def test_a_terminal_gets_a_bar_with_what_is_left(clip, tmp_path):
    terminal, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    done = subprocess.run(
        command("video", clip, tmp_path / "out.mp4"), stdout=subprocess.PIPE, stderr=theirs, env=ENVIRONMENT, timeout=60
    )
    os.close(theirs)
    text = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert (done.returncode, done.stdout) == (0, b"")
    assert "8/8" in text
    assert "openvino" in text
    assert "8 frames of 64x48" in text.splitlines()[-1]


# -- webcam: what live.py does is tested there; here, that the words reach it ------------------------


def test_a_file_is_played_as_a_camera_and_reported_as_one_object(clip, tmp_path, capsys):
    target = tmp_path / "out.mp4"
    assert run("webcam", clip, "--preview", "none", "--record", target, "--strength", 0.5, "--json") == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert set(report["latency_ms"]) == {"p50", "p95", "p99"}
    assert report["captured"] == 8
    assert report["shown"] + report["dropped"] == 8
    assert len(look(target).times) == report["shown"]
    assert all(line.startswith("rtstyle: ") for line in captured.err.splitlines())


def test_a_camera_session_ends_with_a_summary_or_with_silence(clip, capsys):
    assert run("webcam", clip, "--preview", "none", "--frames", 3) == 0
    last = capsys.readouterr().err.splitlines()[-1]
    assert "3 of " in last
    assert "latency p50 " in last
    assert run("webcam", clip, "--preview", "none", "--frames", 3, "--quiet") == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["no-such-camera", "--frames", "1"], "no camera, file or URL 'no-such-camera'"),
        (["in.mp4"], "nothing to do"),
        (["in.mp4", "--fps", "1e400", "--frames", "1"], "--fps is a number such as 30 or 30000/1001, got '1e400'"),
        (
            ["in.mp4", "--size", "99999x99999", "--frames", "1"],
            "a size may have at most 134 megapixels, got 99999x99999",
        ),
        (["in.mp4", "--fps", "fast", "--frames", "1"], "--fps is a number such as 30 or 30000/1001, got 'fast'"),
        (["in.mp4", "--fps", "1/0", "--frames", "1"], "--fps is a number"),
        (["in.mp4", "--size", "huge", "--frames", "1"], "a size is WIDTHxHEIGHT"),
        (["in.mp4", "--frames", "0"], "frames must be above 0"),
        (["in.mp4", "--frames", "1", "--style", "skecth"], "did you mean 'sketch'?"),
        (["in.mp4", "--record", "out.avi"], "must end in one of .mp4, "),
        (["in.mp4", "--record", "text.mp4"], "exists already"),
        (["in.mp4", "--record", "in.mp4", "-y"], "same file"),
        (["text.mp4", "--frames", "1"], "text.mp4 is no video"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_bad_word_for_the_camera_is_one_line(words, reason, clip, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(clip, "in.mp4")
    Path("text.mp4").write_text("no video")
    before = contents(tmp_path)
    assert run("webcam", *words, "--preview", "none") == 1
    assert reason in the_one_line(capfd.readouterr())
    assert contents(tmp_path) == before


# -- bad input -------------------------------------------------------------------------------------


def audio_only(folder: Path) -> Path:
    with av.open(str(folder / "song.m4a"), "w", format="mp4") as container:
        track = add_track(container, Sound(seconds=0.2))
        container.mux(tone_packets(track, Sound(seconds=0.2)))
    return folder / "song.m4a"


def text_file(folder: Path) -> Path:
    (folder / "text.mp4").write_text("This is no video.\n")
    return folder / "text.mp4"


def empty_file(folder: Path) -> Path:
    (folder / "empty.mp4").touch()
    return folder / "empty.mp4"


def cut_file(folder: Path) -> Path:
    whole = make_clip(folder / "cut.mp4", times=range(5)).read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])  # the index stands at the end
    return folder / "cut.mp4"


BAD_INPUTS = {
    "missing": (lambda folder: folder / "missing.mp4", "no such file"),
    "empty": (empty_file, "is empty (0 bytes)"),
    "text": (text_file, "cannot be read as a video"),
    "cut off before its index": (cut_file, "cannot be read as a video"),
    "folder": (lambda folder: folder, "is a folder"),
    "audio only": (audio_only, "has no video stream (it holds: audio)"),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_a_bad_input_is_one_line_and_nothing_is_left(name, tmp_path, capfd):
    make, reason = BAD_INPUTS[name]
    source = make(tmp_path)
    before = contents(tmp_path)
    assert run("video", source, tmp_path / "out.mp4") == 1
    line = the_one_line(capfd.readouterr())
    assert reason in line
    assert source.name in line
    assert contents(tmp_path) == before


BAD_WORDS = {
    "unknown style": (["--style", "skecth"], "no style 'skecth'; did you mean 'sketch'?"),
    "folder that is no style": (["--style", "."], "holds no style.json"),
    "strength": (["--strength", "3"], "strength must be in [0, 2]"),
    "strength that is NaN": (["--strength", "nan"], "strength must be in [0, 2]"),
    "crf": (["--crf", "99"], "crf of libx264 must be in [0, 51], got 99"),
    "preset": (["--preset", "quick"], "preset of libx264 must be one of ultrafast"),
    "codec": (["--codec", "divx"], "codec must be one of libx264, "),
    "codec of another container": (["--codec", "ffv1"], ".mp4 cannot hold ffv1"),
    "device": (["--device", "nowhere", "--backend", "openvino"], "has no device 'nowhere'"),
}


@pytest.mark.parametrize("name", BAD_WORDS)
def test_a_bad_setting_is_one_line_and_nothing_is_left(name, clip, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words, reason = BAD_WORDS[name]
    assert run("video", clip, tmp_path / "out.mp4", *words) == 1
    assert reason in the_one_line(capfd.readouterr())
    assert contents(tmp_path) == {}


BAD_OUTPUTS = {
    "existing": ("there.mp4", "exists already; give -y (--overwrite)"),
    "no folder": ("nowhere/out.mp4", "there is no folder"),
    "unknown container": ("out.avi", "must end in one of .mp4, "),
    "no extension": ("out", "has no extension"),
    "below a file": ("there.mp4/out.mp4", "there is no folder"),
}


@pytest.mark.parametrize("name", BAD_OUTPUTS)
def test_a_bad_output_is_one_line_and_nothing_is_lost(name, clip, tmp_path, capfd):
    (tmp_path / "there.mp4").write_bytes(b"precious")
    before = contents(tmp_path)
    target, reason = BAD_OUTPUTS[name]
    assert run("video", clip, tmp_path / target) == 1
    assert reason in the_one_line(capfd.readouterr())
    assert contents(tmp_path) == before


def test_input_and_output_are_never_the_same_file(clip, tmp_path, capfd):
    source = Path(shutil.copy(clip, tmp_path / "in.mp4"))
    (tmp_path / "link.mp4").symlink_to(source)
    before = contents(tmp_path)
    for target in ("in.mp4", "link.mp4", "./in.mp4"):
        assert run("video", source, tmp_path / target, "-y") == 1
        assert "same file" in the_one_line(capfd.readouterr())
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["missing.png", "out.png"], "No such file"),
        (["bad.png", "out.png"], "cannot be read as an image"),
        (["good.png", "out.gif"], "must end in one of .jpg"),
        (["good.png", "good.png", "-y"], "same file"),
        (["good.png", "there.png"], "exists already"),
        (["good.png", "out.png", "--style", "skecth"], "did you mean 'sketch'?"),
        (["good.png", "out.png", "--strength", "-1"], "strength must be in [0, 2]"),
        (["empty", "out"], "holds no images"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_bad_image_is_one_line_and_nothing_is_lost(words, reason, tmp_path):
    cv2.imwrite(str(tmp_path / "good.png"), np.full((20, 30, 3), 128, np.uint8))
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "bad.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "there.png").write_bytes(b"precious")
    (tmp_path / "empty").mkdir()
    before = contents(tmp_path)
    done = run_program("image", *words, cwd=tmp_path)  # a program: OpenCV talks to stderr by itself
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("rtstyle: error: ")
    assert reason in line
    assert contents(tmp_path) == before


def mounted(folder: Path, options: str) -> Path:
    """Mount a small file system of its own, which even root cannot do everything to; skips without the right to."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no right to mount a small file system")
    return folder


@pytest.fixture
def locked(tmp_path) -> Iterator[Path]:
    """A folder that may not be written into, not even by root."""
    if os.geteuid() == 0:
        yield mounted(tmp_path / "locked", "ro,size=64k")
        subprocess.run(["umount", tmp_path / "locked"], check=True)
    else:
        (tmp_path / "locked").mkdir()
        (tmp_path / "locked").chmod(0o555)
        yield tmp_path / "locked"
        (tmp_path / "locked").chmod(0o755)


def test_a_folder_without_write_permission_is_one_line(clip, locked, capfd):
    assert run("video", clip, locked / "out.mp4") == 1
    line = the_one_line(capfd.readouterr())
    assert line == f"cannot write {locked / 'out.mp4'}: no permission to write into {locked}"
    assert contents(locked) == {}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_one_line(clip, tmp_path, capfd):
    (tmp_path / "locked").mkdir()
    inside = Path(shutil.copy(clip, tmp_path / "locked" / "in.mp4"))
    source = Path(shutil.copy(clip, tmp_path / "in.mp4"))
    source.chmod(0)
    assert run("video", source, tmp_path / "out.mp4") == 1
    assert the_one_line(capfd.readouterr()) == f"no permission to read {source}"
    inside.parent.chmod(0)
    for words in ((inside, tmp_path / "out.mp4"), (clip, tmp_path / "locked" / "out.mp4")):
        assert run("video", *words) == 1
        assert "ermission" in the_one_line(capfd.readouterr())
    inside.parent.chmod(0o755)


# -- a full disk -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def heavy(tmp_path_factory) -> Path:
    """A clip whose output is some hundred kilobytes."""
    pictures = [noise(64, 48, i) for i in range(40)]
    return make_clip(tmp_path_factory.mktemp("clips") / "heavy.mp4", pictures, times=range(40))


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
@pytest.mark.parametrize("kilobytes", [1, 60])
def test_a_full_disk_is_one_line_and_nothing_is_left_or_lost(kilobytes, ending, heavy, tmp_path):
    """A file may not grow beyond a limit: what the system says of that differs from a full disk in its number only."""
    target = tmp_path / f"out.{ending}"
    target.write_bytes(b"precious")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1000, kilobytes * 1000))

    words = ("--strength", 0, "--crf", 0, "--backend", "openvino")  # auto has a line where TensorRT lacks a driver
    done = run_program("video", heavy, target, "-y", *words, prepare=limit)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line == f"rtstyle: error: cannot write {target}: File too large"
    assert contents(tmp_path) == {target.name: b"precious"}


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 64 kB."""
    yield mounted(tmp_path / "disk", "size=64k")
    subprocess.run(["umount", tmp_path / "disk"], check=True)


def test_a_really_full_disk_is_reported_as_full(heavy, small_disk, capfd):
    (small_disk / "precious.txt").write_bytes(b"precious")
    for ending in ("mp4", "mkv"):
        assert run("video", heavy, small_disk / f"out.{ending}", "--strength", 0, "--crf", 0) == 1
        assert the_one_line(capfd.readouterr()) == f"cannot write {small_disk / 'out'}.{ending}: the disk is full"
        assert contents(small_disk) == {"precious.txt": b"precious"}


def test_a_full_disk_is_reported_for_images_too(small_disk, tmp_path, capfd):
    cv2.imwrite(str(tmp_path / "in.png"), np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8))
    assert run("image", tmp_path / "in.png", small_disk / "out.png", "--strength", 0) == 1
    assert the_one_line(capfd.readouterr()) == f"cannot write {small_disk / 'out.png'}: the disk is full"
    assert contents(small_disk) == {}


# -- damage and interrupts -------------------------------------------------------------------------


def test_a_damaged_input_is_finished_with_exit_code_3_and_warnings(tmp_path, capsys):
    whole = make_clip(tmp_path / "in.mkv", [noise(64, 48, i) for i in range(75)], times=range(75))
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) // 2])
    assert run("video", whole, tmp_path / "out.mp4", "--json") == 3
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert report["frames_out"] + report["dropped"] == pytest.approx(75, abs=3)
    assert report["frames_out"] == len(look(tmp_path / "out.mp4").times)
    assert report["warnings"]
    assert captured.err.splitlines() == [f"rtstyle: warning: {warning}" for warning in report["warnings"]]


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory) -> Path:
    """Four minutes with audio, made of one second of packets: long enough to be interrupted."""
    folder = tmp_path_factory.mktemp("clips")
    second = make_clip(
        folder / "second.mp4",
        [moving_bar(320, 240, i) for i in range(25)],
        width=320,
        height=240,
        times=range(25),
        sounds=[Sound(seconds=1)],
    )
    with av.open(str(second)) as source, av.open(str(folder / "long.mp4"), "w") as target:
        streams = {stream.index: target.add_stream_from_template(stream, opaque=True) for stream in source.streams}
        packets = [packet for packet in source.demux() if packet.dts is not None]
        stamps = [(packet.pts, packet.dts, packet.time_base, packet.stream.index) for packet in packets]
        for repeat in range(240):
            for packet, (pts, dts, time_base, index) in zip(packets, stamps, strict=True):
                copy = av.Packet(bytes(packet))
                shift = int(repeat * (1 if index == 0 else 49 * 1024 / 48000) / time_base)
                copy.pts, copy.dts, copy.time_base = pts + shift, dts + shift, time_base
                copy.is_keyframe, copy.stream = packet.is_keyframe, streams[index]
                target.mux(copy)
    return folder / "long.mp4"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupt_keeps_a_playable_part_and_exits_with_130(number, long_clip, tmp_path):
    target = tmp_path / "out.mp4"
    program = start_program("video", long_clip, target, "--preset", "ultrafast", "--crf", 10)
    end = time.monotonic() + 40
    # Part of the output is on the disk, so frames are being written.
    while not any(part.stat().st_size > 50_000 for part in tmp_path.glob(".*/segment-*")) and time.monotonic() < end:
        assert program.poll() is None, program.communicate()
        time.sleep(0.05)
    program.send_signal(number)
    out, err = program.communicate(timeout=30)

    kept = tmp_path / "out.partial.mp4"
    assert (program.returncode, out) == (130, "")
    line = err.splitlines()[-1]
    assert line.startswith("rtstyle: interrupted; the ")
    assert f"finished frames are kept in {kept}" in line
    assert "Traceback" not in err
    left = {p.name for p in tmp_path.iterdir()} - {kept.name}
    assert left == ({".out.mp4.rtstyle"} if "--resume continues behind frame" in line else set())
    result = look(kept)
    assert f"the {len(result.times)} finished frames" in line
    # Every frame up to the last is there, and the audio that belongs to them.
    assert result.times == look(long_clip).times[: len(result.times)]
    assert abs(result.packets[0][-1][0] - result.times[-1]) < 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_ctrl_c_ends_a_live_session_with_its_report_and_exits_with_130(number, tmp_path):
    """Without a window and a limit there is no other way to end it."""
    clip = write_clip(tmp_path / "clip.mp4", list(range(0, 4000, 40)))
    target = tmp_path / "live.mkv"
    program = start_program("webcam", clip, "--loop", "--preview", "none", "--record", target, "--json")
    assert program.stderr
    for line in program.stderr:
        if line.startswith("rtstyle: sketch: "):  # the engine is there, so it runs
            break
    time.sleep(3)
    program.send_signal(number)
    out, err = program.communicate(timeout=30)

    report = json.loads(out)
    assert program.returncode == 130
    assert "Traceback" not in err
    assert report["sinks"]["recording"]["frames"] == len(look(target).times) > 0


def test_an_interrupt_while_it_opens_leaves_nothing(long_clip, tmp_path):
    program = start_program("video", long_clip, tmp_path / "out.mp4")
    time.sleep(0.35)  # Python is up, the libraries are being loaded
    program.send_signal(signal.SIGINT)
    program.communicate(timeout=30)
    assert program.returncode != 0
    assert [p for p in tmp_path.iterdir() if not p.name.endswith((".partial.mp4", ".rtstyle"))] == []


# -- finding one's way -----------------------------------------------------------------------------


def parsers(parser: argparse.ArgumentParser | None = None) -> Iterator[argparse.ArgumentParser]:
    """Every parser of the command line, with those of actions such as ``engines build``."""
    parser = parser or cli._build_parser()
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from parsers(inner)


def test_every_help_has_a_short_usage_and_examples_that_are_understood(capsys):
    found = 0
    for parser in parsers():
        text = parser.format_help()
        usage = text.partition("\n\n")[0]
        assert usage.startswith("usage: rtstyle")
        assert len(usage.splitlines()) == 1
        for line in text.partition("examples:\n")[2].splitlines():
            words = shlex.split(line.strip().split("   ")[0].split(" | ")[0].split(" < ")[0].split(" > ")[0])
            assert words[0] == "rtstyle"
            assert cli._parse(words[1:]).command in (
                *COMMANDS,
                "devices",
                "serve",
                "verify",
                "engines",
                "completion",
                "help",
            )
            found += 1
        assert "examples:\n" in text, parser.prog
    assert found > 30


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["vidoe", "a.mp4", "b.mp4"], "did you mean 'video'?"),
        (["video", "a.mp4", "b.mp4", "--stlye", "ink"], "did you mean '--style'?"),
        (["webcam", "--overwrit"], "did you mean '--overwrite'?"),
        (["image", "a.png", "b.png", "--backend=openvin"], "did you mean 'openvino'?"),
        (["engines", "bild"], "did you mean 'build'?"),
        (["help", "wbcam"], "did you mean 'webcam'?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_misspelt_word_is_answered_with_the_nearest(words, meant, capsys):
    assert run(*words) == 2
    assert meant in the_one_line(capsys.readouterr())


def test_help_is_a_command_too(capsys):
    for words in ([], ["video"]):
        assert run("help", *words) == 0
        asked = capsys.readouterr().out
        assert run(*words, "--help") == 0
        assert capsys.readouterr().out == asked


def test_a_missing_input_is_named_before_the_output(tmp_path, capsys):
    for command_word, missing in (("video", "none.mp4"), ("image", "none.png")):
        assert run(command_word, tmp_path / missing, tmp_path / "out.xyz") == 1
        line = the_one_line(capsys.readouterr())
        assert missing in line
        assert "xyz" not in line


def test_an_output_without_extension_may_have_been_meant_as_a_folder(clip, tmp_path, capsys):
    assert run("video", clip, tmp_path / "out") == 1
    line = the_one_line(capsys.readouterr())
    assert f"{tmp_path / 'out'}/ for a folder" in line
    assert f"{tmp_path / 'out'}.mp4" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["video", "none.mp4", "out.mp4", "--json"], 1),
        (["image", "none.png", "out.png", "--json"], 1),
        (["verify", "none.mp4", "out.mp4", "--json"], 1),
        (["webcam", "none.mp4", "--frames", "1", "--json"], 1),
        (["styles", "--sheet", "none.png", "-o", "sheet.png", "--json"], 1),
        (["video", "in.mp4", "--json"], 2),
        (["vidoe", "--json"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_failure_is_one_json_object_too(words, code, capsys):
    assert run(*words) == code
    captured = capsys.readouterr()
    failure = json.loads(captured.out)
    assert set(failure) == {"error", "type"}
    assert captured.err == f"rtstyle: error: {failure['error']}\n"


def test_a_live_warning_is_printed_once(tmp_path, capsys):
    source = make_clip(tmp_path / "in.mp4", times=range(5))
    assert run("webcam", source, "--fps", 10, "--preview", "none", "--frames", 2) == 0  # which a file keeps to itself
    lines = capsys.readouterr().err.splitlines()
    assert sum("keeps its own frame rate" in line for line in lines) == 1


@pytest.mark.parametrize("closed", ["2>&-", ">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_render_runs_where_standard_streams_are_closed(closed, tmp_path):
    make_clip(tmp_path / "in.mp4", times=range(5))
    command = f"{sys.executable} -m rtstyle video in.mp4 out.mp4 --strength 0 {closed}"
    assert subprocess.run(["sh", "-c", command], cwd=tmp_path).returncode == 0
    assert len(look(tmp_path / "out.mp4").times) == 5, "something was printed into the output"
    refused = f"{sys.executable} -m rtstyle video in.mp4 - --format mkv >&-"
    done = subprocess.run(["sh", "-c", refused], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "stdout, and that is closed" in done.stderr

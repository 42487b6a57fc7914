"""What strangers wrote - names of files, tags, titles - reaches the terminal as harmless text on one line."""

from __future__ import annotations

import io
import logging
import os
import struct
import subprocess
import sys
import zlib
from argparse import Namespace
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import make_clip

from rtstyle import Controls, Frame, Size, open_engine
from rtstyle.cli import main
from rtstyle.cli.talk import LineFormatter, finish, print_table, printable, write
from rtstyle.errors import ImageError, RtstyleError, SettingError
from rtstyle.frame import Planes
from rtstyle.reading import image_samples
from rtstyle.video import VideoReader

ROOT = Path(__file__).parents[1]
EVIL = "\x1b]0;owned\x07\x1b[2J\nrtstyle: error: forged\r\u202egnp\u200b\x9b31m"


def harmless(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


def test_terminal_escapes_and_line_ends_are_written_out():
    assert printable(EVIL).isprintable()
    assert printable(EVIL).startswith(r"\x1b]0;owned\x07\x1b[2J\nrtstyle: error: forged\r\u202e")
    assert printable("Größe 日本 🎨") == "Größe 日本 🎨"
    assert printable(os.fsdecode(b"\xff.mp4")) == r"\udcff.mp4"
    assert len(printable("a" * 10**6)) < 4000
    assert printable("a" * 9000 + "the end").endswith("the end")


@pytest.mark.parametrize("words", [["video"], ["image"], ["verify"], ["webcam", "--seconds", "1"]])
def test_a_name_of_a_file_cannot_speak_to_the_terminal(words, tmp_path, capsys):
    (tmp_path / EVIL.replace("/", "")).write_bytes(b"no media")
    outputs = [] if words[0] == "webcam" else [str(tmp_path / "out.png")]
    assert main([words[0], str(tmp_path / EVIL), *outputs, *words[1:]]) in (1, 2)
    said = capsys.readouterr().err
    assert harmless(said)
    assert sum(line.startswith("rtstyle: error") for line in said.splitlines()) == 1


def test_words_of_the_command_line_cannot_either(capsys):
    assert main(["video", "--" + EVIL]) == 2
    assert main([EVIL]) == 2
    assert harmless(capsys.readouterr().err)


def test_tags_of_a_file_cannot_either(tmp_path, capsys):
    import av

    make_clip(tmp_path / "a.mkv", width=64, height=48)
    with av.open(str(tmp_path / "a.mkv")) as source, av.open(str(tmp_path / "b.mkv"), "w") as target:
        target.metadata.update({"title": EVIL, "artist": "x" * 100_000})
        copied = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = copied
                target.mux(packet)
    assert main(["verify", str(tmp_path / "b.mkv"), str(tmp_path / "a.mkv")]) == 1
    out, err = capsys.readouterr()
    assert "title" in out
    assert harmless(out + err)
    assert max(map(len, out.splitlines())) < 8000


def test_a_record_of_a_log_is_one_harmless_line():
    record = logging.LogRecord("rtstyle", logging.INFO, "", 0, "opened %s", (EVIL,), None)
    assert LineFormatter("%(name)s: %(message)s").format(record).isprintable()


def test_tables_are_harmless_and_a_terminal_of_ascii_gets_them_too(monkeypatch, capsys):
    print_table(("a", "b"), [(EVIL, "90°")])
    assert harmless(capsys.readouterr().out)
    narrow = io.TextIOWrapper(io.BytesIO(), "ascii", errors="strict")
    monkeypatch.setattr(sys, "stdout", narrow)
    print_table(("in", "out"), [("90°", "→")])
    narrow.seek(0)
    assert narrow.read().splitlines()[1].split() == [r"90\xb0", r"\u2192"]


def test_verify_speaks_to_a_terminal_of_ascii(tmp_path):
    make_clip(tmp_path / "a.mp4", width=64, height=48, rotation=90)
    done = subprocess.run(
        [sys.executable, "-m", "rtstyle", "verify", "a.mp4", "a.mp4"], cwd=tmp_path, capture_output=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    )  # fmt: skip
    assert b"Traceback" not in done.stderr, done.stderr


def test_of_very_many_warnings_the_first_are_printed(capsys):
    finish(Namespace(json=False, quiet=False), {}, [f"number {i}" for i in range(300)], "done")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 22
    assert lines[-2] == "rtstyle: warning: and 280 more, which --json lists"


def test_write_cuts_and_keeps_the_file(capsys):
    write("x" * 10_000, sys.stderr)
    assert len(capsys.readouterr().err) < 4000


# -- frames --------------------------------------------------------------------------------------


def png(width: int, height: int, *more: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def jpeg_of_scans(count: int) -> bytes:
    data = cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    last = data.rindex(b"\xff\xda")
    return data[:-2] + count * data[last : last + 10] + b"\xff\xd9"


WEBP = b"RIFF\x00\x01\x00\x00WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\xff\x3f" * 2 + bytes(100)
PICTURES = {
    "a large PNG": (png(60_000, 60_000), "60000x60000 .*at most 134 megapixels"),
    "a large WebP": (WEBP, "at most 134 megapixels"),
    "a large JPEG": (
        b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03" + bytes(9) + b"\xff\xd9", "65535x65535 .*at most 134"
    ),
    "a JPEG of many scans": (jpeg_of_scans(5000), "more than 200 scans"),
}  # fmt: skip


@pytest.mark.parametrize("kind", PICTURES)
def test_an_image_that_would_take_all_memory_is_refused_by_its_header(tmp_path, kind):
    data, reason = PICTURES[kind]
    (tmp_path / "in.png").write_bytes(data)
    with pytest.raises(ImageError, match=reason):
        image_samples(tmp_path / "in.png")


def test_an_image_for_which_the_memory_is_not_there_is_refused(tmp_path, monkeypatch):
    (tmp_path / "in.png").write_bytes(png(8000, 8000))
    monkeypatch.setattr("rtstyle.reading.memory_available", lambda: 500_000_000)
    with pytest.raises(ImageError, match=r"8000x8000 needs about .* GB of memory"):
        image_samples(tmp_path / "in.png")


def test_a_pipe_in_place_of_an_image_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "in.png")
    with pytest.raises(ImageError, match="no ordinary file"):
        image_samples(tmp_path / "in.png")


def test_libraries_print_nothing_of_their_own(tmp_path, capfd):
    good = cv2.imencode(".png", np.zeros((32, 32, 3), np.uint8))[1].tobytes()
    at = good.index(b"IDAT")
    (tmp_path / "in.png").write_bytes(good[:at] + b"IDAT" + b"\x00" * 20 + good[at + 24 :])
    with pytest.raises(ImageError):
        image_samples(tmp_path / "in.png")
    assert capfd.readouterr().err == ""


# -- numbers and objects that are none ---------------------------------------------------------------


@pytest.mark.parametrize("value", ["1e300", "nan", "inf", "-1", "0"])
def test_times_that_are_none_are_refused_in_one_line(value, tmp_path, capsys):
    clip = str(make_clip(tmp_path / "in.mp4", width=64, height=48))
    for words in (
        ["video", clip, str(tmp_path / "o.mp4"), "--timeout", value],
        ["webcam", clip, "--seconds", value, "--record", str(tmp_path / "o.mp4")],
        ["webcam", clip, "--timeout", value, "--seconds", "1"],
        ["serve", "--seconds", value, "--port", "0"],
    ):
        assert main(words) == 1, words
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rtstyle: error")]
        assert len(errors) == 1, words


PLANE = np.zeros((48, 64), np.uint8)
HALF = np.zeros((24, 32), np.uint8)


@pytest.mark.parametrize(
    "misuse",
    [
        lambda: Size(0, 10),
        lambda: Size(10.5, 10),
        lambda: Size("64", "48"),
        lambda: Controls("1"),
        lambda: Controls(float("nan")),
        lambda: Frame(PLANE, 0, 1, None),
        lambda: Frame((PLANE, HALF, HALF), 0, 1, None),
        lambda: Frame(Planes(PLANE, PLANE, PLANE), 0, 1, None),
        lambda: Frame(Planes(PLANE.astype(np.uint16), HALF, HALF), 0, 1, None),
        lambda: Frame(Planes(PLANE.ravel(), HALF, HALF), 0, 1, None),
        lambda: Frame(Planes(PLANE, None, HALF), 0, 1, None),
        lambda: open_engine("sketch", (64, 48)),
        lambda: VideoReader(ROOT / "demo" / "big_buck_bunny.mp4", size=(64, 48)),
    ],
)
def test_misuse_is_answered_with_what_to_pass(misuse):
    with pytest.raises(RtstyleError) as caught:
        misuse()
    assert isinstance(caught.value, SettingError)
    assert any(word in str(caught.value) for word in ("Size(width, height)", "Frame", "plane", "half", "strength"))


def test_an_engine_says_what_it_takes():
    with open_engine("sketch", Size(64, 48), backend="openvino", precision="f32") as engine:
        for given in (PLANE, np.zeros((48, 64, 3), np.uint8), None):
            with pytest.raises(SettingError, match="an engine takes a Frame"):
                engine.submit(given, Controls())

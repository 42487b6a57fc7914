"""Where videos come from and go to: folders, long names, names like options, pipes by name, locked and linear files."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from clips import look, make_clip

from rtstyle.backends import Controls
from rtstyle.camera import open_source
from rtstyle.errors import VideoOpenError
from rtstyle.render import stylize_video
from rtstyle.render.batch import find_videos, plan_outputs
from rtstyle.verify import verify_media
from rtstyle.video import VideoReader
from rtstyle.video.inputs import is_encrypted

PLAIN = Controls(0, 0)


def rtstyle(*words: str, folder: Path, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "rtstyle", *words], cwd=folder, capture_output=True, input=stdin)


def test_a_folder_gives_all_its_videos_and_names_what_it_passes_over(tmp_path):
    folder = tmp_path / "in"
    (folder / "day2").mkdir(parents=True)
    clip = make_clip(folder / "a.mp4", times=range(3))
    for name in ("b.f4v", "c.360", "d.LRV", "e.insv", "day2/a.mp4", "notes.txt", ".hidden.mp4"):
        shutil.copy(clip, folder / name)
    flat = find_videos([folder])
    assert [path.name for path in flat.videos] == ["a.mp4", "b.f4v", "c.360", "d.LRV", "e.insv"]
    assert flat.passed_over == ["notes.txt", "day2/"]
    deep = find_videos([folder], recursive=True)
    pairs = plan_outputs(deep.videos, tmp_path / "out", folders=deep.folders)
    assert [str(target.relative_to(tmp_path / "out")) for _, target in pairs][-1] == "day2/a.mp4"
    assert deep.passed_over == ["notes.txt"]
    done = rtstyle("video", "in", "out", "--recursive", "--strength", "0", "--quiet", folder=tmp_path)
    assert done.returncode == 0
    assert b"passed over: notes.txt" in done.stderr
    assert sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.m*")) == [
        "a.mp4", "b.mkv", "c.mkv", "d.mkv", "day2/a.mp4", "e.mkv",
    ]  # fmt: skip


@pytest.mark.parametrize("length", [247, 255])
def test_an_output_may_have_as_long_a_name_as_the_file_system_takes(length, tmp_path):
    clip = make_clip(tmp_path / "in.mp4", times=range(3))
    target = tmp_path / ("ü" * ((length - 4) // 2) + "x" * ((length - 4) % 2) + ".mp4")
    assert len(os.fsencode(target.name)) == length
    stylize_video(clip, target, controls=PLAIN)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["in.mp4", target.name])


def test_names_that_begin_like_options_are_names(tmp_path):
    make_clip(tmp_path / "-clip.mp4", times=range(3))
    assert rtstyle("video", "-clip.mp4", "-out.mp4", "--strength", "0", folder=tmp_path).returncode == 0
    assert (tmp_path / "-out.mp4").is_file()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
@pytest.mark.parametrize("way", ["/dev/stdin", "fifo"])
def test_a_pipe_by_name_loses_no_byte(way, tmp_path):
    clip = make_clip(tmp_path / "in.ts", times=range(30))
    if way == "fifo":
        os.mkfifo(tmp_path / "fifo")
        with subprocess.Popen(["sh", "-c", "cat in.ts > fifo"], cwd=tmp_path):
            done = rtstyle("video", "fifo", "out.mp4", "--strength", "0", folder=tmp_path)
    else:
        done = rtstyle("video", way, "out.mp4", "--strength", "0", folder=tmp_path, stdin=clip.read_bytes())
    assert done.returncode == 0, done.stderr
    assert len(look(tmp_path / "out.mp4").times) == 30


def test_an_encrypted_file_is_called_so(tmp_path):
    clip = make_clip(tmp_path / "in.mp4", times=range(10))
    assert not is_encrypted(clip)
    data = clip.read_bytes()
    at = data.index(b"avc1", data.index(b"stsd"))
    box = data[at - 4 : at + 4]
    size = struct.unpack(">I", box[:4])[0]
    entry = data[at - 4 : at - 4 + size]
    scheme = struct.pack(">I4sI4sI", 20, b"schm", 0, b"cenc", 0x10000)
    locked = entry[:4] + b"encv" + entry[8:]
    assert len(scheme) == 20
    assert len(locked) == size
    noise = np.random.default_rng(0).integers(0, 256, 4000, np.uint8).tobytes()
    begin = data.index(b"mdat") + 4
    spoiled = bytearray(data.replace(entry, locked))
    length = min(len(noise), struct.unpack(">I", data[begin - 8 : begin - 4])[0] - 8)
    spoiled[begin : begin + length] = noise[:length]
    (tmp_path / "locked.mp4").write_bytes(spoiled)
    with pytest.raises(VideoOpenError, match="encrypted"):
        list(VideoReader(tmp_path / "locked.mp4"))
    with pytest.raises(VideoOpenError, match="encrypted"):
        verify_media(tmp_path / "locked.mp4", clip)
    with pytest.raises(VideoOpenError, match="encrypted"):
        open_source(tmp_path / "locked.mp4")


def test_scrambled_broadcasts_are_called_encrypted(tmp_path):
    data = bytearray(make_clip(tmp_path / "in.ts", times=range(10)).read_bytes())
    assert not is_encrypted(tmp_path / "in.ts")
    for at in range(0, len(data), 188):
        if data[at + 1] & 0x1F or data[at + 2] not in (0, 17):  # all but the tables
            data[at + 3] |= 0x80
    (tmp_path / "scrambled.ts").write_bytes(data)
    assert is_encrypted(tmp_path / "scrambled.ts")


def exr(path: Path, level: float) -> Path:
    """An OpenEXR frame of 32x32 in 32-bit float, not compressed, of one level of linear light."""

    def attribute(name: str, kind: str, value: bytes) -> bytes:
        return name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<I", len(value)) + value

    channels = b"".join(name + b"\0" + struct.pack("<IIII", 2, 0, 1, 1) for name in (b"B", b"G", b"R")) + b"\0"
    window = struct.pack("<4i", 0, 0, 31, 31)
    head = struct.pack("<II", 20000630, 2) + attribute("channels", "chlist", channels)
    head += attribute("compression", "compression", b"\0") + attribute("dataWindow", "box2i", window)
    head += attribute("displayWindow", "box2i", window) + attribute("lineOrder", "lineOrder", b"\0")
    head += attribute("pixelAspectRatio", "float", struct.pack("<f", 1))
    head += attribute("screenWindowCenter", "v2f", struct.pack("<ff", 0, 0))
    head += attribute("screenWindowWidth", "float", struct.pack("<f", 1)) + b"\0"
    row = struct.pack("<96f", *[level] * 96)
    table = b"".join(struct.pack("<Q", len(head) + 32 * 8 + y * (len(row) + 8)) for y in range(32))
    lines = b"".join(struct.pack("<iI", y, len(row)) + row for y in range(32))
    path.write_bytes(head + table + lines)
    return path


@pytest.mark.parametrize(("linear", "shown"), [(0.21586, 128), (0.05127, 64), (1.0, 255), (0.0, 0)])
def test_linear_light_is_shown_as_bright_as_it_is(linear, shown, tmp_path):
    folder = tmp_path / "exr"
    folder.mkdir()
    for number in range(2):
        exr(folder / f"{number}.exr", linear)
    with VideoReader(folder) as reader:
        luma = next(iter(reader)).planes.y
    assert abs((luma.mean() - 16) * 255 / 219 - shown) < 2


def test_a_logarithmic_scan_is_refused(tmp_path):
    folder = tmp_path / "dpx"
    folder.mkdir()
    make_clip(tmp_path / "%d.dpx", times=range(1), codec="dpx", pix_fmt="rgb24", options={},
              pictures=[[np.full((48, 192), 100, np.uint8)]], format="image2")  # fmt: skip
    data = bytearray((tmp_path / "1.dpx").read_bytes())
    (folder / "1.dpx").write_bytes(data)
    with VideoReader(folder) as reader:
        assert len(list(reader)) == 1
    data[801] = 3
    (folder / "1.dpx").write_bytes(data)
    with pytest.raises(VideoOpenError, match="logarithmic"):
        VideoReader(folder)

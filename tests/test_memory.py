"""A long video takes no more memory than a short one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import pytest
from clips import Sound, make_clip

ROOT = Path(__file__).parents[1]

EVERY = 500

CHILD = """
import json, sys
from rtstyle.backends import EngineSettings
from rtstyle.render import stylize_video
from rtstyle.video import EncoderSettings

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 // 1024

curve = {}
def progress(done, total, label):
    if done % int(sys.argv[3]) == 0:
        curve[done] = resident()

stylize_video(sys.argv[1], sys.argv[2], engine=EngineSettings(backend="openvino", precision="f32"),
              encoder=EncoderSettings(preset="ultrafast"), progress=progress)
curve["end"] = resident()
print(json.dumps(curve))
"""
"""Stylizes a file and prints the resident memory in KiB after so many frames, and after the file is whole."""


def loop_clip(clip: Path, target: Path, frames: int, length: int) -> Path:
    """Repeat a clip of ``length`` frames at 25 a second, packet by packet, until there are ``frames``."""
    with av.open(str(target), "w") as made, av.open(str(clip)) as first:
        copies = [made.add_stream_from_template(stream) for stream in first.streams]
        for turn in range(frames // length):
            with av.open(str(clip)) as again:
                for packet in again.demux():
                    if packet.dts is not None and packet.pts >= 0:
                        shift = int(Fraction(turn * length, 25) / packet.time_base)
                        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                        packet.stream = copies[packet.stream.index]
                        made.mux(packet)
    return target


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from Linux's /proc")
@pytest.mark.parametrize("frames", [5000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_memory_is_flat_over_thousands_of_frames(tmp_path, frames):
    options = {"preset": "ultrafast", "bf": "0", "g": "50"}
    clip = make_clip(tmp_path / "clip.mkv", times=range(200), options=options, sounds=[Sound("mp3", seconds=7.9)])
    film = loop_clip(clip, tmp_path / "film.mkv", frames, 200)
    words = [sys.executable, "-c", CHILD, str(film), str(tmp_path / "out.mp4"), str(EVERY)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=True)
    curve: dict[str, int] = json.loads(done.stdout)
    print("frames: MiB resident", {key: round(value / 1024, 1) for key, value in curve.items()})
    assert len(curve) == frames // EVERY + 1
    # A frame of 64x48 in 4:2:0 that stayed each time would be 4.5 MiB more for a thousand frames.
    grown, allowed = (frames - 1500) * 4.5 / 1000, 5 + frames / 2000
    assert allowed < grown
    assert curve[str(frames)] - curve["1500"] < allowed * 1024, curve
    assert curve["end"] - curve["1500"] < allowed * 1024, curve

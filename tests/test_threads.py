"""Threads: encoders write the same bytes with any number of them, and those of engines may use every core."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import hashlib, os, sys
os.sched_setaffinity(0, {int(core) for core in sys.argv[3].split(",")})
from fractions import Fraction
import av, numpy as np
from rtstyle.frame import Color, Frame, Planes, Size, VideoFormat
from rtstyle.video import EncoderSettings, VideoWriter

scene = np.kron(np.random.default_rng(0).integers(0, 255, (60, 90)), np.ones((8, 8))).astype(np.uint8)
form = VideoFormat(Size(320, 240), Color(), Fraction(1, 25), Fraction(25))
with VideoWriter(sys.argv[1], form, encoder=EncoderSettings(codec=sys.argv[2])) as writer:
    for i in range(24):
        luma = np.ascontiguousarray(scene[i : 240 + i, 3 * i : 320 + 3 * i])
        chroma = np.full((120, 160), 90 + i, np.uint8)
        writer.write(Frame(Planes(luma, chroma, chroma), i, Fraction(1, 25), Color()))
with av.open(sys.argv[1]) as container:
    print(hashlib.sha256(b"".join(bytes(packet) for packet in container.demux())).hexdigest())
"""


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or (os.cpu_count() or 1) < 2, reason="needs two cores to choose"
)
@pytest.mark.parametrize(
    ("codec", "target"),
    [("libx264", "mp4"), ("libx265", "mp4"), ("libvpx-vp9", "webm"), ("libsvtav1", "mp4"), ("ffv1", "mkv"),
     ("prores_ks", "mov")],
)  # fmt: skip
def test_one_core_and_two_give_the_same_packets(codec, target, tmp_path):
    cores = sorted(os.sched_getaffinity(0))
    found = []
    for number in (1, 2):
        made: Path = tmp_path / f"{number}.{target}"
        words = [sys.executable, "-c", CODE, str(made), codec, ",".join(map(str, cores[:number]))]
        found.append(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    assert found[0] == found[1] != ""


ENGINE = """
import os
from fractions import Fraction
import numpy as np
from rtstyle.backends import Controls
from rtstyle.backends.openvino import OpenVinoEngine
from rtstyle.frame import Color, Frame, Size, planes_from_rgb
from rtstyle.style import load_style

color, size = Color("bt709"), Size(64, 48)
frame = Frame(planes_from_rgb(np.zeros((48, 64, 3), np.uint8), color), 0, Fraction(1, 25), color)
for mode in ("throughput", "latency"):
    engine = OpenVinoEngine(load_style("sketch"), size, color, mode=mode)
    engine.submit(frame, Controls())
    engine.next()
own = os.sched_getaffinity(0)
print(sum(os.sched_getaffinity(int(thread)) != own for thread in os.listdir("/proc/self/task")))
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux")
def test_no_thread_of_an_engine_is_pinned_so_that_workers_side_by_side_do_not_share_cores():
    pytest.importorskip("openvino")
    assert subprocess.run([sys.executable, "-c", ENGINE], capture_output=True, text=True, check=True).stdout == "0\n"

"""Hardware decoders: tried, not looked up; where they do not work, software gives the same frames, and says so."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from av.codec.hwaccel import hwdevices_available

from rtstyle.backends.cuda import driver_problem
from rtstyle.errors import SettingError
from rtstyle.video import ReaderSettings, VideoReader
from rtstyle.video import hwaccel as hardware
from rtstyle.video.hwaccel import hwaccel_problem

DEMO = Path(__file__).parents[1] / "demo" / "big_buck_bunny.mp4"

pytestmark = pytest.mark.skipif(
    not {"cuda", "qsv"} <= set(hwdevices_available()), reason="PyAV's FFmpeg knows neither cuda nor qsv on this system"
)
no_gpu = pytest.mark.skipif(driver_problem() is None, reason="there is a GPU here")


def frames_of(**settings) -> list[tuple[int, bytes]]:
    with VideoReader(DEMO, settings=ReaderSettings(**settings)) as reader:
        return [(frame.pts, b"".join(map(np.ascontiguousarray, frame.planes))) for frame in islice(reader, 5)]


@no_gpu
def test_nvdec_is_listed_everywhere_and_found_missing_by_decoding():
    assert "cuda" in hwdevices_available()
    problem = hwaccel_problem("cuda")
    assert problem
    assert "\n" not in problem


@no_gpu
def test_software_takes_over_where_the_hardware_is_not_there_and_a_note_says_so():
    assert frames_of(hwaccel="cuda") == frames_of()
    with VideoReader(DEMO, settings=ReaderSettings(hwaccel="cuda")) as reader:
        assert [note for note in reader.notes if "hwaccel cuda" in note and "software decodes" in note]


def test_software_takes_over_where_the_hardware_does_not_know_the_codec(monkeypatch):
    """FFmpeg has Quick Sync as decoders of their own and not as an accelerator: software is what it gives."""
    monkeypatch.setattr("rtstyle.video.reader.hwaccel_problem", lambda name: None)
    asked = []
    monkeypatch.setattr(
        "rtstyle.video.opening.accelerator", lambda name: asked.append(name) or hardware.accelerator(name)
    )
    assert frames_of(hwaccel="qsv") == frames_of()
    assert asked == ["qsv"]


def test_hardware_that_no_one_knows_is_refused_with_what_there_is():
    with pytest.raises(SettingError, match=r"no hwaccel 'nvdec' \(this FFmpeg knows: .*cuda is NVDEC\)"):
        VideoReader(DEMO, settings=ReaderSettings(hwaccel="nvdec"))


@no_gpu
def test_the_command_renders_all_the_same_and_warns(tmp_path):
    words = ["video", str(DEMO), str(tmp_path / "out.mp4"), "--hwaccel", "cuda", "--end", "0.2", "--json"]
    done = subprocess.run([sys.executable, "-m", "rtstyle", *words], capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert report["frames_out"] == 5
    assert [line for line in report["warnings"] if "hwaccel cuda" in line]

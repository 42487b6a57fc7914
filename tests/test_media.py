"""Every real file that lies beside the repository: stylized, and nothing of it lost."""

from __future__ import annotations

import os
import re
from fractions import Fraction
from pathlib import Path

import av
import pytest
from clips import make_clip, noise
from real_files import BEGIN, CROSSWISE, DAMAGED, DATA, END, ERRORS, PAGE, own_container, real_files, try_file

from rtstyle.backends import Controls, EngineSettings
from rtstyle.render import stylize_video
from rtstyle.verify import verify_media

FILES = real_files()
ABSENT = f"no folder {DATA.name} of real files; RTSTYLE_DATA says where one is"

WHOLE = 6_000_000
"""Pixels of a video that is stylized to its end here; of the others only the beginning is (docs/media.md: all)."""


def cases() -> list[object]:
    own = [(str(path.relative_to(DATA)), own_container(path)) for path in FILES]
    return [pytest.param(name, ending, id=f"{name}->{ending}") for name, ending in [*own, *CROSSWISE]]


def beginning(path: Path) -> Fraction | None:
    """Where to stop, so that no file takes more than about two seconds here; None: at its end."""
    try:
        with av.open(str(path)) as container:
            stream = container.streams.best("video")
            if stream is None or stream.codec_context is None:
                return None
            frames = stream.frames or 100
            pixels = stream.codec_context.width * stream.codec_context.height
            return None if frames * pixels < WHOLE else Fraction(WHOLE, 2 * pixels * 30)
    except av.FFmpegError:
        return None


@pytest.mark.parametrize(("name", "ending"), cases())
def test_a_real_file_comes_out_whole_or_says_why_not(name, ending, tmp_path):
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"no {name} in {DATA.name}")
    outcome = try_file(path, tmp_path, ending=ending, end=None if path.name in DAMAGED else beginning(path))
    if path.name in ERRORS:
        assert outcome.code == 1
        assert re.search(ERRORS[path.name], outcome.says)
        assert "\n" not in outcome.says
        assert list(tmp_path.iterdir()) == []
        return
    assert outcome.differences == ()
    assert outcome.code == (3 if path.name in DAMAGED else 0), outcome.says
    assert [left.name for left in tmp_path.iterdir()] == [f"{path.stem}{ending}"]


def test_there_are_real_files():
    if not FILES:
        required = os.environ.get("RTSTYLE_REQUIRE", "").split(",")
        (pytest.fail if "data" in required else pytest.skip)(ABSENT)
    assert set(ERRORS) | set(DAMAGED) <= {path.name for path in FILES}


def test_the_page_has_every_real_file():
    table = PAGE.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| ")]
    listed = {row[0] for row in rows[1:]}
    assert len(listed) > 40
    if FILES:
        assert {str(path.relative_to(DATA)) for path in FILES} == listed
    assert not any("**" in row[-1] for row in rows), "a file in the table lost something"


@pytest.mark.parametrize("rotation", [90, 180, 270])
@pytest.mark.parametrize("ending", [".gif", ".ts", ".webm", ".y4m"])
def test_a_turned_frame_is_the_right_side_up_in_every_container(ending, rotation, tmp_path):
    pictures = [noise(64, 48, 3)] * 6
    film = make_clip(tmp_path / "in.mp4", pictures, times=range(6), rotation=rotation, sar=Fraction(4, 3))
    target = tmp_path / f"out{ending}"
    stylize_video(film, target, controls=Controls.of(0.0), engine=EngineSettings(backend="openvino", precision="f32"))
    shape = {f.subject: f for f in verify_media(film, target).findings if f.subject in ("size", "rotation")}
    assert shape["size"].verdict == "same"
    assert shape["rotation"].verdict == ("same" if ending == ".webm" else "intended")


def test_the_last_frame_is_shown_as_long_as_before(tmp_path):
    slides = make_clip(tmp_path / "in.mp4", times=[0, 25, 50, 75], rate=Fraction(1))
    with av.open(str(slides)) as old, av.open(str(tmp_path / "slides.mp4"), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        packets = [packet for packet in old.demux() if packet.dts is not None]
        last = max(packets, key=lambda packet: packet.pts)
        for packet in packets:
            packet.duration *= 9 if packet is last else 1
            packet.stream = stream
            new.mux(packet)
    out = tmp_path / "out.mp4"
    stylize_video(tmp_path / "slides.mp4", out, engine=EngineSettings(backend="openvino", precision="f32"))
    findings = {finding.subject: finding for finding in verify_media(tmp_path / "slides.mp4", out).findings}
    assert findings["end of the video"].source == "12.000 s"
    assert findings["end of the video"].verdict == "same"

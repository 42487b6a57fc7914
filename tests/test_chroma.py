"""Where chroma samples lie: read from sequence headers, stated again, and compared by verify."""

from __future__ import annotations

import shutil
import subprocess

import av
import pytest
from clips import make_clip

from rtstyle.backends import Controls
from rtstyle.frame import Size
from rtstyle.render import RenderOptions, stylize_video
from rtstyle.verify import verify_media
from rtstyle.video import EncoderSettings
from rtstyle.video.chroma import LOCATIONS, chroma_location, location_of

needs_ffprobe = pytest.mark.skipif(not shutil.which("ffprobe"), reason="no ffprobe")
MORE = {
    "libx264": ("", ":cqm=jvt", ":colorprim=bt709:videoformat=pal:overscan=show"),
    "libx265": ("", ":scaling-list=default:pools=1", ":colorprim=bt709:videoformat=pal:overscan=show"),
}


def clip(path, codec, location, more=""):
    words = f"chromaloc={LOCATIONS.index(location)}{more}" if location else more.strip(":")
    options = {f"{codec[3:]}-params": words + (":log-level=none" if codec == "libx265" else ""), "preset": "ultrafast"}
    return make_clip(path, times=range(4), codec=codec, options=options)


def location_in(path):
    with av.open(str(path)) as container:
        return location_of(container.streams.video[0], path)


@pytest.mark.parametrize("codec", MORE)
@pytest.mark.parametrize("ending", ["mp4", "ts", "mkv"])
def test_a_location_is_read_from_a_header(tmp_path, codec, ending):
    for number, location in enumerate(LOCATIONS):
        assert location_in(clip(tmp_path / f"a.{ending}", codec, location, MORE[codec][number % 3])) == location
    assert location_in(clip(tmp_path / f"a.{ending}", codec, "")) == "left"


def test_a_damaged_header_says_nothing(tmp_path):
    with av.open(str(clip(tmp_path / "a.mp4", "libx265", "top"))) as container:
        data = container.streams.video[0].codec_context.extradata
    for codec in ("h264", "hevc"):
        for end in range(len(data)):
            assert chroma_location(codec, data[:end]) in LOCATIONS
        for at in range(len(data)):
            assert chroma_location(codec, data[:at] + bytes([255 - data[at]]) + data[at + 1 :]) in LOCATIONS


@needs_ffprobe
@pytest.mark.parametrize(
    ("source", "location", "target", "codec"),
    [
        ("libx264", "topleft", "out.mp4", None),
        ("libx265", "center", "out.ts", None),
        ("libx264", "top", "out.mp4", "h265"),
        ("libx264", "topleft", "out.webm", None),
        ("libx264", "center", "out.mkv", "ffv1"),
    ],
)
def test_a_location_stays(tmp_path, source, location, target, codec):
    made = clip(tmp_path / "in.mp4", source, location)
    encoder = EncoderSettings(codec=codec)
    report = stylize_video(made, tmp_path / target, controls=Controls(0, 0), encoder=encoder)
    assert not [line for line in report.warnings if "chroma" in line]
    words = [
        "ffprobe",
        "-v",
        "error",
        "-select_streams",
        "v",
        "-show_entries",
        "stream=chroma_location",
        "-of",
        "csv=p=0",
    ]
    said = subprocess.run([*words, tmp_path / target], capture_output=True, text=True, check=True).stdout
    assert said.split()[0] == location
    found = verify_media(made, tmp_path / target)
    assert found.differences == ()
    assert "chroma location" in {finding.subject for finding in found.findings}


def test_a_location_that_cannot_be_stated_is_named_and_differs(tmp_path):
    made = clip(tmp_path / "in.mp4", "libx264", "bottom")
    report = stylize_video(made, tmp_path / "out.webm", controls=Controls(0, 0))
    assert any("chroma samples lie bottom" in line for line in report.warnings)
    (difference,) = verify_media(made, tmp_path / "out.webm").differences
    assert (difference.subject, difference.words) == ("chroma location", "lost")


def test_frames_that_are_scaled_have_the_usual_location(tmp_path):
    made = clip(tmp_path / "in.mp4", "libx264", "topleft")
    options = RenderOptions(size=Size(96, 72))
    report = stylize_video(made, tmp_path / "out.mp4", controls=Controls(0, 0), options=options)
    assert not [line for line in report.warnings if "chroma" in line]
    assert location_in(tmp_path / "out.mp4") == "left"
    assert verify_media(made, tmp_path / "out.mp4", size=Size(96, 72)).differences == ()

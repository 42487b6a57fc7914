"""Closed captions (CEA-608 and 708 in A/53 user data) stay with their frames, or a line says that they are left out."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import av
import pytest
from clips import LOSSLESS, make_clip

from rtstyle.backends import Controls
from rtstyle.render import stylize_video
from rtstyle.verify import verify_media
from rtstyle.video import EncoderSettings
from rtstyle.video.captions import with_captions

PLAIN = Controls(0, 0)


def captioned(path: Path, *, hevc: bool = False, count: int = 200) -> Path:
    """A clip whose every second frame has captions of its own, put in by hand between the units of the stream."""
    codec = "libx265" if hevc else "libx264"
    options = {"x265-params": "lossless=1:bframes=0:log-level=none"} if hevc else {**LOSSLESS, "bf": "0"}
    plain = make_clip(path.with_suffix(".raw"), times=range(count), codec=codec, options=options,
                      format="hevc" if hevc else "h264")  # fmt: skip
    units, number = b"", 0
    for unit in re.split(b"\0\0\0\1|\0\0\1", plain.read_bytes())[1:]:
        if (unit[0] >> 1 & 63) < 32 if hevc else unit[0] & 31 in (1, 5):
            if number % 2 == 0:
                triplet = bytes([0xFC, 0x80 | number % 64, 0x20 + number % 90])
                message = b"\xb5\0\x31GA94\x03\xc1\xff" + triplet + b"\xff"
                head = b"\x4e\x01" if hevc else b"\x06"
                units += b"\0\0\0\1" + head + bytes([4, len(message)]) + message + b"\x80"
            number += 1
        units += b"\0\0\0\1" + unit
    raw = path.with_suffix(".units")
    raw.write_bytes(units)
    with av.open(str(raw), format="hevc" if hevc else "h264") as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0], opaque=True)
        stream.time_base = Fraction(1, 25)
        for at, packet in enumerate(packet for packet in source.demux() if packet.size):
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, at, at, Fraction(1, 25)
            target.mux(packet)
    return path


def captions(path: Path) -> dict[int, bytes]:
    """The captions of each frame that has any, by number."""
    with av.open(str(path)) as container:
        found = {}
        for number, frame in enumerate(container.decode(video=0)):
            if (data := frame.side_data.get("A53_CC")) is not None:
                found[number] = bytes(data)
    return found


@pytest.mark.parametrize(("target", "codec"), [("mp4", "x264"), ("mkv", "x265"), ("ts", "x264")])
@pytest.mark.parametrize("hevc", [False, True])
def test_captions_stay_with_their_frames(hevc, target, codec, tmp_path):
    source, made = captioned(tmp_path / "in.mp4", hevc=hevc), tmp_path / f"out.{target}"
    before = captions(source)
    assert sorted(before) == list(range(0, 200, 2)), "the clip has no captions"
    report = stylize_video(source, made, controls=PLAIN, encoder=EncoderSettings(codec=codec))
    assert captions(made) == before
    assert not [words for words in report.warnings if "caption" in words]
    found = {finding.subject: finding.verdict for finding in verify_media(source, made).findings}
    assert found["captions"] == "same"


@pytest.mark.parametrize("target", ["webm", "gif"])
def test_a_codec_without_captions_says_so_and_verify_finds_it(target, tmp_path):
    source, made = captioned(tmp_path / "in.mp4", count=30), tmp_path / f"out.{target}"
    report = stylize_video(source, made, controls=PLAIN)
    assert [words for words in report.warnings if "captions" in words and "15 frames" in words]
    assert "captions" in [finding.subject for finding in verify_media(source, made).differences]


def test_captions_hold_no_start_code_by_accident():
    packet = b"\0\0\0\1\x65slice"
    made = with_captions(packet, b"\xfc\0\0" * 3, hevc=False)
    assert made is not None
    assert made.endswith(packet)
    assert made.count(b"\0\0\0\1") == 2
    assert b"\0\0\0\xfc" not in made[8:]

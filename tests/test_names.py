"""Names of tracks, as players show them, come out in every container's own place."""

from __future__ import annotations

import av
import pytest
from clips import Sound, make_clip

from rtstyle.backends import Controls
from rtstyle.render import stylize_video
from rtstyle.verify import verify_media

NAMES = ["Main feature", "Commentary"]


def names(path) -> list[str]:
    with av.open(str(path)) as container:
        return [s.metadata.get("title") or s.metadata.get("handler_name", "") for s in container.streams.audio]


@pytest.mark.parametrize("target", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("source", ["mp4", "mkv"])
def test_track_names_stay(source, target, tmp_path):
    plain = make_clip(tmp_path / "plain.mp4", sounds=[Sound(seconds=0.3), Sound(seconds=0.3, hertz=660)])
    original = tmp_path / f"in.{source}"
    with av.open(str(plain)) as whole, av.open(str(original), "w") as made:
        streams = [made.add_stream_from_template(stream, opaque=True) for stream in whole.streams]
        for stream, name in zip(streams[1:], NAMES, strict=True):
            stream.metadata["handler_name" if source == "mp4" else "title"] = name
        for packet in whole.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream_index]
                made.mux(packet)
    assert names(original) == NAMES
    stylize_video(original, tmp_path / f"out.{target}", controls=Controls(0, 0))
    assert names(tmp_path / f"out.{target}") == NAMES
    assert [f.subject for f in verify_media(original, tmp_path / f"out.{target}").differences] == []
    words = {f.subject: f.words for f in verify_media(original, plain).differences}
    assert "other name" in words["audio 2"]


@pytest.mark.parametrize("handler", ["SoundHandler", "Core Media Audio", "GPAC Audio"])
def test_what_programs_call_a_track_is_no_name(handler, tmp_path):
    original = make_clip(tmp_path / "in.mp4", sounds=[Sound(seconds=0.3)])
    data = original.read_bytes()
    assert b"SoundHandler" in data
    original.write_bytes(data.replace(b"SoundHandler", handler[:12].ljust(12).encode()))
    stylize_video(original, tmp_path / "out.mkv", controls=Controls(0, 0))
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert "title" not in container.streams.audio[0].metadata

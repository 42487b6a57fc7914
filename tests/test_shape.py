"""The shape of frames: pixel aspect in every container, and shapes that change on the way."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import Sound, make_clip, moving_bar

from rtstyle.backends import Controls
from rtstyle.render import stylize_video
from rtstyle.verify import verify_media
from rtstyle.video import EncoderSettings, VideoReader
from rtstyle.video.copies import _Planner

PLAIN = Controls(0, 0)


@pytest.mark.parametrize(
    ("target", "codec", "aspect"),
    [
        *((target, codec, Fraction(4, 3)) for target, codec in (
            ("mp4", None), ("mov", "prores"), ("ts", None), ("webm", None), ("mkv", None), ("mkv", "av1"),
            ("mkv", "ffv1"), ("mkv", "prores"), ("nut", None), ("y4m", None))),
        *((target, codec, Fraction(12, 11)) for target, codec in (("webm", None), ("mkv", "ffv1"), ("nut", None))),
    ],
)  # fmt: skip
def test_every_container_states_the_pixel_aspect(target, codec, aspect, tmp_path):
    source = make_clip(tmp_path / "in.mp4", sar=aspect, sounds=[Sound(seconds=0.3)] if target != "y4m" else [])
    made = tmp_path / f"out.{target}"
    report = stylize_video(source, made, controls=PLAIN, encoder=EncoderSettings(codec=codec))
    assert not [words for words in report.warnings if "aspect" in words]
    with av.open(str(made)) as container:
        stream = container.streams.video[0]
        assert stream.sample_aspect_ratio == aspect
        assert len(list(container.decode(stream))) == 10
        if target not in ("y4m", "ts"):
            container.seek(200_000)  # the index still leads to the frames
            assert next(container.decode(stream)).width == 64
    assert [f"{f.subject}: {f.words}" for f in verify_media(source, made).differences] == []


def test_an_output_that_cannot_state_the_pixel_aspect_says_so(tmp_path):
    source = make_clip(tmp_path / "in.mp4", sar=Fraction(4, 3))
    report = stylize_video(source, tmp_path / "out.gif", controls=PLAIN)
    assert [words for words in report.warnings if "pixel aspect 4:3 is lost" in words]


def change(path: Path, *halves: dict) -> Path:
    """Put transport streams of 25 grey frames each one behind the other."""
    with path.open("wb") as whole:
        for number, half in enumerate(halves):
            width, height = half.get("width", 160), half.get("height", 128)
            pictures = [moving_bar(width, height, i) for i in range(25)]
            for y, u, v in pictures:
                y[:], u[:], v[:] = 160, 128, 128
            options = {"bf": "0"} if half.get("codec") == "mpeg2video" else {"crf": "5", "bf": "0"}
            part = make_clip(
                path.with_suffix(f".{number}.ts"), pictures, times=range(25 * number, 25 * (number + 1)),
                **{"width": width, "height": height, "options": options, **half},
            )  # fmt: skip
            whole.write(part.read_bytes())
    return path


@pytest.mark.parametrize("codec", ["mpeg2video", "libx264"])
@pytest.mark.parametrize(
    ("before", "after", "inside"),
    [
        ({"sar": Fraction(64, 45)}, {"sar": Fraction(16, 15)}, (120, 128)),  # 16:9 becomes 4:3: a pillar
        ({"sar": Fraction(16, 15)}, {"sar": Fraction(64, 45)}, (160, 96)),  # 4:3 becomes 16:9: a letterbox
        ({"width": 160, "height": 96}, {"width": 128, "height": 96}, (128, 96)),
    ],
)
def test_frames_that_change_their_shape_keep_it(codec, before, after, inside, tmp_path):
    source = change(tmp_path / "in.ts", {"codec": codec, **before}, {"codec": codec, **after})
    with VideoReader(source) as reader:
        pictures = [frame.planes.y.copy() for frame in reader]
        assert [note for note in reader.notes if "border" in note]
    assert len(pictures) >= 48
    for picture in pictures[:24]:
        assert picture.min() > 140, "a frame of the first shape has borders"
    for picture in pictures[26:]:
        lit = picture > 90
        assert abs(int(np.any(lit, axis=0).sum()) - inside[0]) <= 2
        assert abs(int(np.any(lit, axis=1).sum()) - inside[1]) <= 2


def test_verify_finds_a_shape_that_was_squeezed(tmp_path):
    source = change(tmp_path / "in.ts", {"sar": Fraction(64, 45)}, {"sar": Fraction(16, 15)})
    made, squeezed = tmp_path / "out.mp4", tmp_path / "squeezed.mp4"
    stylize_video(source, made, controls=PLAIN)
    report = verify_media(source, made)
    assert {f.subject: f.words for f in report.findings}["shape"] == "borders keep its shape"
    assert [(f.subject, f.words) for f in report.differences] == []
    flat = [tuple(np.full(size, 160, np.uint8) for size in ((128, 160), (64, 80), (64, 80)))] * 50
    make_clip(squeezed, flat, width=160, height=128, times=range(50), sar=Fraction(64, 45))
    words = {f.subject: f.words for f in verify_media(source, squeezed).differences}
    assert words["shape"] == "squeezed: there are no borders"


# -- audio that changes ---------------------------------------------------------------------------------


def spliced(path: Path, before: tuple[str, int], after: tuple[str, int], codec: str = "aac") -> Path:
    """Two transport streams or FLVs of a second, whose audio has other channels or another rate in the second."""
    with path.open("wb") as whole:
        for number, (layout, rate) in enumerate((before, after)):
            part = path.with_suffix(f".{number}{path.suffix}")
            with av.open(str(part), "w") as container:
                video = container.add_stream("libx264", rate=25, options={"bf": "0", "preset": "ultrafast"})
                video.codec_context.width, video.codec_context.height = 64, 48
                video.codec_context.time_base = Fraction(1, 25)
                audio = container.add_stream(codec, rate=rate)
                audio.codec_context.layout = layout
                packets = []
                for i in range(25):
                    frame = av.VideoFrame.from_ndarray(np.full((72, 64), 128, np.uint8), "yuv420p")
                    frame.pts, frame.time_base = 27 * number + i, Fraction(1, 25)
                    packets += video.encode(frame)
                wave = 0.4 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
                channels = av.AudioLayout(layout).nb_channels
                sound = av.AudioFrame.from_ndarray(np.tile(wave.astype(np.float32), (channels, 1)), "fltp", layout)
                sound.sample_rate = rate
                if codec == "mp2":
                    sound = av.AudioResampler("s16", layout, rate).resample(sound)[0]
                sound.pts, sound.time_base = rate * number * 27 // 25, Fraction(1, rate)
                packets += [*video.encode(None), *audio.encode(sound), *audio.encode(None)]
                for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
                    container.mux(packet)
            data = part.read_bytes()
            whole.write(data[13:] if number and path.suffix == ".flv" else data)  # behind FLV's header come its tags
    return path


def heard(path: Path) -> float:
    """Seconds of audio that can be decoded; a packet that cannot is an error."""
    with av.open(str(path)) as container:
        return sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))


@pytest.mark.parametrize(
    ("codec", "before", "after", "target", "source"),
    [
        *(("aac", ("stereo", 48000), ("5.1", 48000), target, "in.ts") for target in ("mp4", "ts", "webm")),
        ("aac", ("5.1", 48000), ("mono", 48000), "mov", "in.ts"),
        ("aac", ("stereo", 44100), ("5.1", 48000), "mkv", "in.flv"),
        ("aac", ("stereo", 44100), ("stereo", 48000), "ts", "in.flv"),
        ("ac3", ("stereo", 48000), ("5.1", 48000), "webm", "in.ts"),
        ("ac3", ("5.1", 48000), ("mono", 44100), "mp4", "in.ts"),
        ("eac3", ("mono", 44100), ("5.1", 48000), "webm", "in.ts"),
        ("mp2", ("mono", 44100), ("stereo", 48000), "webm", "in.ts"),
        ("mp2", ("mono", 44100), ("stereo", 48000), "mkv", "in.ts"),
    ],
)
def test_audio_that_changes_on_the_way_can_be_heard_to_the_end(codec, before, after, target, source, tmp_path):
    source, made = spliced(tmp_path / source, before, after, codec), tmp_path / f"out.{target}"
    report = stylize_video(source, made, controls=PLAIN)
    assert abs(heard(made) - heard(source)) < 0.08
    warned = bool([words for words in report.warnings if "changes its channels or rate" in words])
    assert warned == (codec == "aac" and (target != "ts" or source.suffix == ".flv"))
    with av.open(str(made)) as container:
        layouts = {frame.layout.nb_channels for frame in container.decode(audio=0)}
    assert max(layouts) == max(av.AudioLayout(layout).nb_channels for layout, _ in (before, after))
    assert [f"{f.subject}: {f.words}" for f in verify_media(source, made).differences] == []


@pytest.mark.parametrize("source", ["in.ts", "in.flv"])
def test_verify_finds_audio_that_was_copied_and_cannot_be_decoded(tmp_path, monkeypatch, source):
    source = spliced(tmp_path / source, ("stereo", 48000), ("5.1", 48000))
    monkeypatch.setattr(_Planner, "_scan", lambda planner, relied: {})
    report = stylize_video(source, tmp_path / "out.mkv", controls=PLAIN)
    assert [words for words in report.warnings if "cannot be decoded from there" in words]
    words = {finding.subject: finding.words for finding in verify_media(source, tmp_path / "out.mkv").differences}
    assert "cannot be decoded" in words["audio 1 packets"]


def test_audio_that_is_mixed_down_is_named_and_found(tmp_path, monkeypatch):
    source = spliced(tmp_path / "in.ts", ("stereo", 48000), ("5.1", 48000), "ac3")
    monkeypatch.setattr(_Planner, "_scan", lambda planner, relied: {})
    report = stylize_video(source, tmp_path / "out.webm", controls=PLAIN)
    assert [words for words in report.warnings if "mixed down to stereo" in words]
    words = {finding.subject: finding.words for finding in verify_media(source, tmp_path / "out.webm").differences}
    assert "2 channels instead of 6" in words["audio 1 samples"]


def contradicting(path: Path, before: str, after: str) -> Path:
    """A second and a half of video with AAC whose header tells the channels of the first half only."""
    clip = make_clip(path.with_name(f"clip{path.suffix}"), times=range(38))
    packets = []
    for number, layout in enumerate((before, after)):
        encoder = av.CodecContext.create("aac", "w")
        encoder.sample_rate, encoder.layout, encoder.format = 48000, layout, "fltp"
        encoder.time_base = Fraction(1, 48000)
        channels = av.AudioLayout(layout).nb_channels
        wave = 0.4 * np.sin(2 * np.pi * 440 * np.arange(36 * 1024) / 48000)
        sound = av.AudioFrame.from_ndarray(np.tile(wave.astype(np.float32), (channels, 1)), "fltp", layout)
        sound.sample_rate, sound.pts, sound.time_base = 48000, 36 * 1024 * number, Fraction(1, 48000)
        packets += [*encoder.encode(sound), *encoder.encode(None)]
    with av.open(str(clip)) as source, av.open(str(path), "w") as target:
        video = target.add_stream_from_template(source.streams.video[0])
        audio = target.add_stream("aac", rate=48000, layout=before)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = video
                target.mux(packet)
        for number, packet in enumerate(packets):
            made = av.Packet(bytes(packet))
            made.stream, made.time_base, made.pts, made.dts = audio, Fraction(1, 48000), 1024 * number, 1024 * number
            made.duration = 1024
            target.mux(made)
    return path


@pytest.mark.parametrize(
    ("before", "after", "source", "target"),
    [
        ("stereo", "5.1", "in.mp4", "out.mp4"),
        ("5.1", "stereo", "in.mkv", "out.mov"),
        ("stereo", "mono", "in.mov", "out.mkv"),
        ("mono", "stereo", "in.mp4", "out.mkv"),
    ],
)
def test_aac_that_contradicts_its_header_is_copied_and_named(before, after, source, target, tmp_path):
    clip = contradicting(tmp_path / source, before, after)
    report = stylize_video(clip, tmp_path / target, controls=PLAIN)
    assert any("contradicts its header from 0.8 s on" in line for line in report.warnings), report.warnings
    found = {finding.subject: finding for finding in verify_media(clip, tmp_path / target).findings}
    assert found["audio 1 packets"].verdict == "same"
    assert "cannot be decoded, in the input neither" in found["audio 1 packets"].words


@pytest.mark.parametrize("layout", ["mono", "stereo", "3.0", "5.1"])
def test_aac_of_one_kind_contradicts_nothing(layout, tmp_path):
    clip = contradicting(tmp_path / "in.mp4", layout, layout)
    report = stylize_video(clip, tmp_path / "out.mp4", controls=PLAIN)
    assert not [line for line in report.warnings if "contradicts" in line]


@pytest.mark.parametrize(("packing", "target"), [(3, "mp4"), (4, "mkv"), (2, "ts"), (3, "webm"), (3, "nut")])
def test_stereo_stays_in_h264_and_is_named_and_found_where_it_is_lost(packing, target, tmp_path):
    options = {"x264-params": f"frame-packing={packing}", "preset": "ultrafast", "bf": "0"}
    source, made = make_clip(tmp_path / "in.mp4", options=options), tmp_path / f"out.{target}"
    report = stylize_video(source, made, controls=PLAIN)
    lost = target == "nut"
    assert bool([words for words in report.warnings if "stereoscopic" in words]) == lost
    assert ("stereo 3D" in [finding.subject for finding in verify_media(source, made).differences]) == lost
    if not lost:
        with av.open(str(source)) as before, av.open(str(made)) as after:
            kinds = {bytes(next(f.decode(video=0)).side_data.get("STEREO3D"))[:8] for f in (before, after)}
        assert len(kinds) == 1

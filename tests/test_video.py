"""Video files in and out: nothing of the source is lost but the frames that are stylized.

Most tests copy a clip through VideoReader and VideoWriter without an engine: what they test stands in
video.py alone. Those about color go through stylize_video with strength 0.
"""

import json
import os
import shutil
import subprocess
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from clips import LOSSLESS, Contents, Sound, add_track, fill, look, make_clip, moving_bar, noise, tone_packets

from rtstyle.backends import Controls
from rtstyle.errors import OutputExistsError, RtstyleError, SettingError, VideoOpenError, VideoWriteError
from rtstyle.files import free_name
from rtstyle.frame import Color, Frame, Planes, Size, VideoFormat
from rtstyle.render import stylize_video
from rtstyle.video import EncoderSettings, ReaderSettings, VideoReader, VideoWriter

QUICK = EncoderSettings(crf=0, preset="ultrafast")


def copy(
    source: Path, target: Path, *, encoder: EncoderSettings = QUICK, audio: bool = True, threads: int = 0
) -> Contents:
    """Read and write every frame as it is, and look at the result."""
    with (
        VideoReader(source, settings=ReaderSettings(threads=threads)) as reader,
        VideoWriter(
            target,
            reader.format,
            encoder=encoder,
            like=reader,
            audio=audio,
        ) as writer,
    ):
        for frame in reader:
            writer.write(frame)
    assert sorted(target.parent.glob(".*")) == [], "a part file was left"
    return look(target)


def assert_same_pictures(first: Contents, second: Contents) -> None:
    assert len(first.pictures) == len(second.pictures)
    for one, other in zip(first.pictures, second.pictures, strict=True):
        for a, b in zip(one, other, strict=True):
            assert np.array_equal(a, b)


# -- containers and times --------------------------------------------------------------------------

SOURCES = {
    "mp4": {"codec": "libx264"},
    "mov": {"codec": "libx264"},
    "mkv": {"codec": "ffv1", "options": {}},
    "webm": {"codec": "libvpx-vp9", "options": {"lossless": "1", "cpu-used": "8", "deadline": "realtime"}},
}


@pytest.mark.parametrize("target", ["mp4", "mkv"])
@pytest.mark.parametrize("source", SOURCES)
def test_every_container_comes_out_with_its_frames_times_and_audio(source, target, tmp_path):
    sound = Sound("libopus" if source == "webm" else "aac", seconds=0.5)
    original = make_clip(tmp_path / f"in.{source}", sounds=[sound], **SOURCES[source])
    before, after = look(original), copy(original, tmp_path / f"out.{target}")
    assert_same_pictures(before, after)
    assert [payload for _, payload in after.packets[0]] == [payload for _, payload in before.packets[0]]
    # Matroska counts in milliseconds.
    tolerance = 0 if target == "mp4" else Fraction(1, 1000)
    shift = after.times[0] - before.times[0]
    for one, other in zip(before.times, after.times, strict=True):
        assert abs(other - one - shift) <= tolerance


VFR = [0, 1001, 3003, 6006, 7007, 9009, 12012, 14014, 15015, 18018]
"""Steps of 1001, 2002 and 3003: a phone that drops to half and to a third of 30000/1001 frames per second."""


@pytest.mark.parametrize("options", [LOSSLESS, {"crf": "0", "preset": "medium", "bf": "3"}], ids=["plain", "b-frames"])
def test_times_of_a_variable_frame_rate_are_exact_in_mp4(options, tmp_path):
    source = make_clip(tmp_path / "in.mp4", times=VFR, time_base=Fraction(1, 30000), options=options)
    after = copy(source, tmp_path / "out.mp4", encoder=EncoderSettings(crf=0, preset="medium"))
    assert after.times == [Fraction(time, 30000) for time in VFR]
    assert_same_pictures(look(source), after)


def test_times_of_a_variable_frame_rate_are_within_a_millisecond_in_mkv(tmp_path):
    source = make_clip(tmp_path / "in.mp4", times=VFR, time_base=Fraction(1, 30000))
    after = copy(source, tmp_path / "out.mkv")
    assert len(after.times) == len(VFR)
    for one, other in zip(VFR, after.times, strict=True):
        assert abs(Fraction(one, 30000) - other) <= Fraction(1, 1000)


@pytest.mark.parametrize("start", [1001, 7, 45000])
def test_a_video_that_starts_late_starts_exactly_as_late(start, tmp_path):
    times = [start + 1001 * i for i in range(8)]
    source = make_clip(
        tmp_path / "in.mp4",
        times=times,
        time_base=Fraction(1, 30000),
        sounds=[Sound(seconds=0.3)],
        muxer={"movie_timescale": "30000"},  # a start is stored in these; FFmpeg's default would be milliseconds
    )
    assert look(source).times == [Fraction(time, 30000) for time in times]
    assert copy(source, tmp_path / "out.mp4").times == look(source).times


def test_a_clip_cut_before_its_first_key_frame_keeps_the_times_that_are_shown(tmp_path):
    """Phones and editors cut mp4 by an edit list: decoding starts before time 0, and what lies there is not shown."""
    whole = make_clip(tmp_path / "whole.mp4", times=range(12))
    with av.open(str(whole)) as source, av.open(str(tmp_path / "in.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is None:
                continue
            shift = int(4 / 25 / packet.time_base)
            packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
            target.mux(packet)
    with VideoReader(tmp_path / "in.mp4") as reader:
        times = [frame.pts * frame.time_base for frame in reader]
        assert reader.damaged == 0
    assert times == [Fraction(i, 25) for i in range(len(times))]
    assert len(times) >= 8
    assert copy(tmp_path / "in.mp4", tmp_path / "out.mp4").times == times


def test_a_raw_stream_without_times_gets_those_of_its_rate_and_says_so(tmp_path):
    source = make_clip(tmp_path / "in.h264", times=range(9), format="h264")
    with VideoReader(source) as reader:
        times = [frame.pts * frame.time_base for frame in reader]
        assert times == [Fraction(i, 25) for i in range(9)]
        assert any("no timestamps; 25 frames per second" in note for note in reader.notes)
    assert copy(source, tmp_path / "out.mp4").times == times


def test_avi_which_knows_no_pts_comes_in_order_and_in_even_steps(tmp_path):
    source = make_clip(tmp_path / "in.avi", times=range(20), codec="mpeg4", options={"bf": "2", "qscale": "2"})
    with VideoReader(source) as reader:
        frames = list(reader)
    times = [frame.pts * frame.time_base for frame in frames]
    assert {b - a for a, b in pairwise(times)} == {Fraction(1, 25)}
    assert len(copy(source, tmp_path / "out.mp4").times) == len(frames) == 20


def test_times_that_start_again_in_the_middle_continue_rising(tmp_path):
    # Two recordings put one behind the other, as recorders of television do: an encoder takes rising times only.
    for name in ("a.ts", "b.ts"):
        make_clip(tmp_path / name, times=range(10), options={**LOSSLESS, "g": "5"})
    (tmp_path / "in.ts").write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    with VideoReader(tmp_path / "in.ts") as reader:
        times = [frame.pts * frame.time_base for frame in reader]
    assert len(times) == 20
    assert {b - a for a, b in pairwise(times)} == {Fraction(1, 25)}
    assert copy(tmp_path / "in.ts", tmp_path / "out.mp4").times == times


def test_the_reader_tells_how_many_frames_to_expect(tmp_path):
    with VideoReader(make_clip(tmp_path / "in.mp4", times=range(12))) as reader:
        assert reader.frames_expected == 12
    with VideoReader(make_clip(tmp_path / "in.mkv", times=range(12))) as reader:
        assert reader.frames_expected == 12  # duration times rate: Matroska does not count


# -- other streams ---------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["mp4", "mkv"])
@pytest.mark.parametrize("codec", ["aac", "libopus", "libmp3lame"])
def test_audio_packets_are_copied_byte_for_byte_at_their_times(codec, target, tmp_path):
    source = make_clip(tmp_path / "in.mkv", sounds=[Sound(codec, seconds=0.6, language="eng")])
    before, after = look(source), copy(source, tmp_path / f"out.{target}")
    assert after.tracks == before.tracks
    assert [payload for _, payload in after.packets[0]] == [payload for _, payload in before.packets[0]]
    assert len(after.packets[0]) > 10
    for (one, _), (other, _) in zip(before.packets[0], after.packets[0], strict=True):
        assert abs(one - other) <= Fraction(1, 1000)


@pytest.mark.parametrize("target", ["mp4", "mkv"])
def test_two_tracks_keep_language_order_and_which_is_the_default(target, tmp_path):
    sounds = [
        Sound("aac", 0.5, language="eng", default=False),
        Sound("aac", 0.5, language="fra", default=True, hertz=880),
    ]
    source = make_clip(tmp_path / "in.mkv", sounds=sounds)
    before, after = look(source), copy(source, tmp_path / f"out.{target}")
    assert [track[:3] for track in after.tracks] == [("audio", "aac", "eng"), ("audio", "aac", "fra")]
    assert after.tracks == before.tracks
    assert [[payload for _, payload in track] for track in after.packets] == [
        [payload for _, payload in track] for track in before.packets
    ]


@pytest.mark.parametrize("target", ["mp4", "mkv"])
def test_late_audio_stays_late(target, tmp_path):
    source = make_clip(tmp_path / "in.mp4", times=range(25), sounds=[Sound("aac", 0.5, late=0.4)])
    before, after = look(source), copy(source, tmp_path / f"out.{target}")
    gap = before.packets[0][0][0] - before.times[0]
    assert gap > Fraction(1, 3)
    assert abs((after.packets[0][0][0] - after.times[0]) - gap) <= Fraction(1, 1000)


def test_audio_before_time_0_stays_in_step_in_mkv(tmp_path):
    # The first packet of aac lies at -1024 samples. Matroska has no negative times: everything moves as one.
    source = make_clip(tmp_path / "in.mp4", sounds=[Sound("aac", 0.5)])
    before, after = look(source), copy(source, tmp_path / "out.mkv")
    gap = before.packets[0][0][0] - before.times[0]
    assert gap < 0
    assert abs((after.packets[0][0][0] - after.times[0]) - gap) <= Fraction(1, 1000)


@pytest.mark.parametrize("target", ["mp4", "mkv"])
def test_audio_that_is_longer_than_the_frames_is_whole(target, tmp_path):
    source = make_clip(tmp_path / "in.mkv", codec="ffv1", options={}, sounds=[Sound("aac", 1.5)])
    # A decoder of one thread gives the last frame before the last audio is read.
    before, after = look(source), copy(source, tmp_path / f"out.{target}", threads=1)
    assert [payload for _, payload in after.packets[0]] == [payload for _, payload in before.packets[0]]
    assert after.packets[0][-1][0] > after.times[-1] + 1


def test_audio_can_be_left_out(tmp_path):
    source = make_clip(tmp_path / "in.mp4", sounds=[Sound(), Sound(hertz=880)])
    assert copy(source, tmp_path / "out.mp4", audio=False).tracks == []


@pytest.mark.parametrize("target", ["mp4", "mkv"])
def test_packets_whose_times_go_back_are_left_out_and_the_rest_is_kept(target, tmp_path):
    # As in a damaged file; a muxer that is given one of them refuses all that follows.
    source = make_clip(tmp_path / "in.mkv", sounds=[Sound("aac", 0.5)])
    reader = VideoReader(source)
    frames = list(reader)
    packets = list(reader.packets)
    reader.packets.clear()
    reader.packets.extend([*packets[:3], packets[6], packets[4], *packets[7:]])
    writer = VideoWriter(tmp_path / f"out.{target}", reader.format, like=reader)
    with reader, writer:
        for frame in frames:
            writer.write(replace(frame, color=Color()))
    kept = look(tmp_path / f"out.{target}").packets[0]
    assert [data for _, data in kept] == [bytes(packet) for packet in (*packets[:3], packets[6], *packets[7:])]
    assert any("1 packets of copied streams were left out" in warning for warning in writer.warnings)


@pytest.mark.parametrize("target", ["mp4", "mkv"])
def test_the_declared_frame_rate_is_kept(target, tmp_path):
    rate = Fraction(30000, 1001)
    source = make_clip(tmp_path / "in.mp4", times=range(12), rate=rate, time_base=1 / rate)
    copy(source, tmp_path / f"out.{target}")
    with av.open(str(tmp_path / f"out.{target}")) as container:
        assert container.streams.video[0].average_rate == rate


def test_uncompressed_audio_of_16_bits_is_copied_into_both_containers(tmp_path):
    source = make_clip(tmp_path / "in.mov", sounds=[Sound("pcm_s16le", 0.3)])
    payload = b"".join(data for _, data in look(source).packets[0])
    for ending in ("mp4", "mkv"):
        after = copy(source, tmp_path / f"out.{ending}")
        assert b"".join(data for _, data in after.packets[0]) == payload


def test_a_second_video_stream_is_left_out_with_its_reason(tmp_path):
    source = tmp_path / "in.mkv"
    with av.open(str(source), "w") as container:
        streams = []
        for side in (32, 96):
            stream = container.add_stream("libx264", rate=25, options=LOSSLESS)
            stream.codec_context.width = stream.codec_context.height = side
            stream.disposition = av.stream.Disposition.default if side == 96 else av.stream.Disposition(0)
            streams.append((stream, side))
        for i in range(5):
            for stream, side in streams:
                frame = av.VideoFrame(side, side, "yuv420p")
                fill(frame, moving_bar(side, side, i))
                frame.pts, frame.time_base = i, Fraction(1, 25)
                container.mux(stream.encode(frame))
        for stream, _ in streams:
            container.mux(stream.encode(None))
    report = stylize_video(source, tmp_path / "out.mp4", controls=Controls(0, 0), encoder=QUICK)
    assert report.size == "96x96", "the best stream is the one that is shown by default"
    assert report.streams_dropped == [{"stream": "video 0 (h264)", "reason": "only one video stream is stylized"}]
    assert any("only one video stream" in warning for warning in report.warnings)


# -- geometry --------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["mp4", "mkv"])
@pytest.mark.parametrize("degrees", [90, -90, 180])
def test_rotation_is_kept(degrees, target, tmp_path):
    source = make_clip(tmp_path / "in.mp4", rotation=degrees)
    before, after = look(source), copy(source, tmp_path / f"out.{target}")
    assert abs(before.rotation) == abs(degrees)
    assert after.rotation == before.rotation
    assert_same_pictures(before, after)


@pytest.mark.parametrize("target", ["mp4", "mkv"])
def test_the_aspect_of_pixels_is_kept(target, tmp_path):
    source = make_clip(tmp_path / "in.mp4", sar=Fraction(16, 15))
    assert copy(source, tmp_path / f"out.{target}").sar == Fraction(16, 15)


SIZES = [(160, 90), (50, 50), (322, 242), (64, 48), (18, 16)]


@pytest.mark.parametrize(("width", "height"), SIZES, ids=lambda side: str(side))
def test_every_sample_lands_where_it_was(width, height, tmp_path):
    """FFmpeg pads rows to its alignment, and PyAV's own numpy conversion cuts sizes that are no multiple of it."""
    pictures = [noise(width, height, i) for i in range(3)]
    source = make_clip(tmp_path / "in.mkv", pictures, width=width, height=height, times=range(3))
    with VideoReader(source) as reader:
        assert reader.size == Size(width, height)
        for picture, frame in zip(pictures, reader, strict=True):
            for expected, plane in zip(picture, frame.planes, strict=True):
                assert np.array_equal(plane, expected)
    after = copy(source, tmp_path / "out.mp4")
    for picture, result in zip(pictures, after.pictures, strict=True):
        for expected, plane in zip(picture, result, strict=True):
            assert np.array_equal(plane, expected)


@pytest.mark.parametrize("full", [False, True], ids=["tv", "pc"])
@pytest.mark.parametrize(("width", "height"), [(321, 241), (33, 18), (18, 33)])
def test_odd_sizes_keep_their_size_and_samples(width, height, full, tmp_path):
    tags = (5, 2 if full else 1, 5, 6)
    source = tmp_path / "in.mkv"
    pictures = [noise(width, height, i) for i in range(3)]
    make_clip(source, pictures, width=width, height=height, times=range(3), codec="ffv1", options={}, tags=tags)

    lossless = copy(source, tmp_path / "same.mkv", encoder=EncoderSettings(codec="ffv1"))
    assert (lossless.width, lossless.height, lossless.pix_fmt) == (width, height, "yuv420p")
    assert_same_pictures(look(source), lossless)

    # H.264 has no 4:2:0 of odd sizes: each chroma sample is written for all the pixels that it covered.
    after = copy(source, tmp_path / "out.mp4")
    assert (after.width, after.height) == (width, height)
    assert after.pix_fmt in ("yuv444p", "yuvj444p")
    assert after.tags[:2] == tags[:2]
    for picture, result in zip(pictures, after.pictures, strict=True):
        assert np.array_equal(result[0], picture[0])
        for expected, plane in zip(picture[1:], result[1:], strict=True):
            assert np.array_equal(plane, expected.repeat(2, 0).repeat(2, 1)[:height, :width])


def test_an_odd_size_is_reported_as_written_as_444(tmp_path):
    source = make_clip(tmp_path / "in.mkv", width=33, height=17, codec="ffv1", options={})
    report = stylize_video(source, tmp_path / "out.mp4", encoder=QUICK)
    assert any("33x17 is odd" in warning and "4:4:4" in warning for warning in report.warnings)


# -- color ----------------------------------------------------------------------------------------

BARS = [(235, 128, 128), (210, 16, 146), (170, 166, 16), (145, 54, 34), (106, 202, 222), (81, 90, 240), (41, 240, 110)]
"""Y, U, V of color bars; which RGB they mean depends on the tags, and a conversion would move every one."""

TAGS = {
    "601-tv": (5, 1, 5, 6),
    "601-pc": (5, 2, 5, 6),
    "709-tv": (1, 1, 1, 1),
    "709-pc": (1, 2, 1, 1),
    "2020-tv": (9, 1, 9, 14),
}


def ramp_and_bars(full: bool) -> list[tuple[np.ndarray, ...]]:
    """A grey ramp through every level that the range has, and color bars; 256x32."""
    low, high = (0, 255) if full else (16, 235)
    ramp = np.rint(np.linspace(low, high, 256)).astype(np.uint8)
    grey = (np.tile(ramp, (32, 1)), np.full((16, 128), 128, np.uint8), np.full((16, 128), 128, np.uint8))
    columns = np.arange(256) * len(BARS) // 256
    colors = np.array(BARS, np.uint8)
    y = np.tile(colors[columns, 0], (32, 1))
    u, v = (np.tile(colors[columns[::2], i], (16, 1)) for i in (1, 2))
    return [grey, (y, u, v)]


LOSSLESS_ENCODERS = {"mp4": EncoderSettings(crf=0, preset="ultrafast"), "mkv": EncoderSettings(codec="ffv1")}


@pytest.mark.parametrize("target", LOSSLESS_ENCODERS)
@pytest.mark.parametrize("name", TAGS)
def test_ramp_and_bars_come_back_exact_and_tagged_right(name, target, tmp_path, wild_style):
    """Strength 0 and a lossless encoder: every sample is the source's, and so is what the tags say of it."""
    tags = TAGS[name]
    pictures = ramp_and_bars(tags[1] == 2)
    source = make_clip(tmp_path / "in.mp4", pictures, width=256, height=32, times=range(2), tags=tags)
    output = tmp_path / f"out.{target}"
    stylize_video(source, output, style=wild_style, controls=Controls(0, 0), encoder=LOSSLESS_ENCODERS[target])
    after = look(output)
    for picture, result in zip(pictures, after.pictures, strict=True):
        for expected, plane in zip(picture, result, strict=True):
            assert np.array_equal(plane, expected)
    assert after.tags == tags
    if shutil.which("ffmpeg") is None:
        pytest.skip("the part with the ffmpeg and ffprobe programs: they are not installed")
    raw = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", output, "-f", "rawvideo", "-"], capture_output=True, check=True
    ).stdout
    assert raw == b"".join(plane.tobytes() for picture in pictures for plane in picture)
    entries = "stream=color_space,color_range,color_primaries,color_transfer"
    probed = subprocess.run(
        ["ffprobe", "-v", "error", "-show_entries", entries, "-of", "json", output], capture_output=True, check=True
    ).stdout
    stream = json.loads(probed)["streams"][0]
    names = {"601": "bt470bg", "709": "bt709", "2020": "bt2020nc"}
    assert stream["color_space"] == names[name.split("-")[0]]
    assert stream["color_range"] == name.split("-")[1]
    assert stream["color_primaries"] == {"601": "bt470bg", "709": "bt709", "2020": "bt2020"}[name.split("-")[0]]


@pytest.mark.parametrize("name", ["601-tv", "601-pc", "709-tv", "709-pc"])
def test_another_program_sees_the_colors_of_the_source(name, tmp_path):
    if shutil.which("ffmpeg") is None:
        pytest.skip("the ffmpeg program is not installed")
    pictures = ramp_and_bars(TAGS[name][1] == 2)
    source = make_clip(tmp_path / "in.mp4", pictures, width=256, height=32, times=range(2), tags=TAGS[name])
    stylize_video(source, tmp_path / "out.mp4", controls=Controls(0, 0), encoder=QUICK)
    seen = []
    for path in (source, tmp_path / "out.mp4"):
        command = ["ffmpeg", "-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
        seen.append(subprocess.run(command, capture_output=True, check=True).stdout)
    assert seen[0] == seen[1]
    assert len(seen[0]) == 2 * 256 * 32 * 3


def test_untagged_color_stays_untagged(tmp_path):
    source = make_clip(tmp_path / "in.mp4", tags=(2, 0, 2, 2))
    after = copy(source, tmp_path / "out.mp4")
    assert (after.tags[0], after.tags[2], after.tags[3]) == (2, 2, 2)
    assert after.tags[1] in (0, 1)  # limited is what no tag means


@pytest.mark.parametrize("full", [False, True], ids=["tv", "pc"])
def test_ten_bits_become_eight_without_a_shift(full, tmp_path):
    """swscale would compress full range on the way to 8 bits, and rounds by a pattern: one level at most."""
    ramp = np.tile(np.arange(0, 1024, 4, dtype=np.uint16), (32, 1))
    u, v = (np.full((16, 128), level * 4, np.uint16) for level in (90, 170))
    make_clip(
        tmp_path / "in.mkv", [(ramp, u, v)], width=256, height=32, times=[0], codec="ffv1", options={},
        pix_fmt="yuv420p10le", tags=(1, 2 if full else 1, 1, 1),
    )  # fmt: skip
    with VideoReader(tmp_path / "in.mkv") as reader:
        assert reader.color.full_range == full
        assert any("yuv420p10le" in note and "8-bit" in note for note in reader.notes)
        (frame,) = reader
    assert np.abs(frame.planes.y.astype(int) - ramp // 4).max() <= 1
    assert np.abs(frame.planes.u.astype(int) - 90).max() <= 1
    assert np.abs(frame.planes.v.astype(int) - 170).max() <= 1


@pytest.mark.parametrize("pix_fmt", ["yuv444p", "yuv422p", "yuvj444p", "yuvj422p"])
def test_finer_chroma_is_averaged_and_luma_left_alone(pix_fmt, tmp_path):
    full, high = pix_fmt.startswith("yuvj"), 32
    wide = 256 if "444" in pix_fmt else 128
    low, top = (0, 255) if full else (16, 235)
    ramp = np.tile(np.rint(np.linspace(low, top, 256)).astype(np.uint8), (32, 1))
    u = np.tile(np.linspace(60, 200, wide).astype(np.uint8), (high, 1))
    v = np.tile(np.linspace(200, 60, high).astype(np.uint8)[:, None], (1, wide))
    codec = "mjpeg" if full else "ffv1"
    make_clip(
        tmp_path / "in.mkv", [(ramp, u, v)], width=256, height=32, times=[0], codec=codec,
        options={"qscale": "1"} if full else {}, pix_fmt=pix_fmt, tags=(5, 2 if full else 1, 5, 6),
    )  # fmt: skip
    decoded = look(tmp_path / "in.mkv").pictures[0]
    with VideoReader(tmp_path / "in.mkv") as reader:
        assert reader.color.full_range == full
        (frame,) = reader
    assert frame.planes.u.shape == (16, 128)
    assert np.array_equal(frame.planes.y, decoded[0]), "the range was converted"
    for plane, fine in zip(frame.planes[1:], decoded[1:], strict=True):
        blocks = fine.reshape(16, fine.shape[0] // 16, 128, fine.shape[1] // 128).mean((1, 3))
        # The filter of swscale reaches a little beyond the 2x2 pixels: on a slope of 4 levels a pixel, 4 levels.
        assert np.abs(plane - blocks)[1:-1, 1:-1].max() <= 4


def test_yuvj420p_is_full_range_even_without_a_tag(tmp_path):
    make_clip(tmp_path / "in.mkv", codec="mjpeg", options={"qscale": "1"}, pix_fmt="yuvj420p", tags=(2, 0, 2, 2))
    with VideoReader(tmp_path / "in.mkv") as reader:
        assert reader.color.full_range
        for frame, picture in zip(reader, look(tmp_path / "in.mkv").pictures, strict=True):
            assert np.array_equal(frame.planes.y, picture[0])


def test_rgb_input_becomes_tagged_bt709(tmp_path):
    red = np.tile(np.array([255, 0, 0], np.uint8), (48, 64))
    make_clip(tmp_path / "in.mov", [(red,)], times=[0], codec="png", options={}, pix_fmt="rgb24")
    with VideoReader(tmp_path / "in.mov") as reader:
        assert reader.color.matrix == "bt709"
        assert not reader.color.full_range
        (frame,) = reader
    assert [int(plane[5, 5]) for plane in frame.planes] == pytest.approx([63, 102, 240], abs=1)
    assert copy(tmp_path / "in.mov", tmp_path / "out.mp4").tags == (1, 1, 1, 1)


# -- damage ----------------------------------------------------------------------------------------


def remux(
    source: Path, target: Path, options: dict[str, str], video: av.stream.Disposition = av.stream.Disposition.default
) -> Path:
    """Copy all packets into another container."""
    with av.open(str(source)) as whole, av.open(str(target), "w", options=options) as other:
        streams = {s.index: other.add_stream_from_template(s, opaque=True) for s in whole.streams}
        streams[whole.streams.video[0].index].disposition = video
        for packet in whole.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                other.mux(packet)
    return target


def spoil(path: Path, numbers: list[int]) -> None:
    """Overwrite the payload of some video packets, so that they cannot be decoded."""
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for number in numbers:
        position, size = packets[number]
        data[position : position + size] = b"\xff" * size
    path.write_bytes(data)


def test_damaged_packets_cost_their_own_frames_only(tmp_path):
    source = make_clip(tmp_path / "in.mp4", times=range(20), options={**LOSSLESS, "g": "1"})
    whole = look(source)
    spoil(source, [5, 6, 12])
    with VideoReader(source) as reader:
        frames = list(reader)
        assert reader.damaged >= 3
    times = [frame.pts * frame.time_base for frame in frames]
    assert times == [time for i, time in enumerate(whole.times) if i not in (5, 6, 12)]
    for frame in frames:
        expected = whole.pictures[whole.times.index(frame.pts * frame.time_base)]
        assert np.array_equal(frame.planes.y, expected[0])


def test_audio_of_a_damaged_file_is_whole(tmp_path):
    source = make_clip(tmp_path / "in.mp4", times=range(20), options={**LOSSLESS, "g": "1"}, sounds=[Sound()])
    before = look(source).packets
    spoil(source, [5, 6, 12])
    assert copy(source, tmp_path / "out.mp4").packets == before


@pytest.mark.parametrize("threads", [1, 4])
def test_a_damaged_packet_near_the_end_takes_no_good_one_along(threads, tmp_path):
    # A decoder with frame threads swallows the error when it is emptied at the end, and the frames behind it.
    source = make_clip(tmp_path / "in.mp4", times=range(20), options={**LOSSLESS, "g": "1"})
    times = look(source).times
    spoil(source, [17])
    with VideoReader(source, settings=ReaderSettings(threads=threads)) as reader:
        assert [f.pts * f.time_base for f in reader] == [time for i, time in enumerate(times) if i != 17]
        assert reader.damaged >= 1


@pytest.mark.parametrize("ending", ["mkv", "webm", "mp4"])
def test_a_file_that_was_cut_off_is_reported_as_such(ending, tmp_path):
    """Matroska ends without an error wherever it is cut."""
    codec = {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "deadline": "realtime"}} if ending == "webm" else {}
    source = tmp_path / f"in.{ending}"
    pictures = [noise(64, 48, i) for i in range(75)]
    make_clip(source, pictures, times=range(75), sounds=[Sound("libopus" if ending == "webm" else "aac", 3)], **codec)
    if ending == "mp4":  # the index must stand before the frames, or there is nothing to read
        source = remux(source, tmp_path / "fast.mp4", {"movflags": "faststart"})
    data = source.read_bytes()
    source.write_bytes(data[: len(data) // 2])
    report = stylize_video(source, tmp_path / "out.mp4", controls=Controls(0, 0), encoder=QUICK)
    assert 20 < report.frames_out < 60
    assert report.frames_out + report.dropped == pytest.approx(75, abs=3)
    assert any("should last 3.0 s: the file was cut off" in warning for warning in report.warnings)
    assert any("is damaged" in warning for warning in report.warnings)
    assert len(look(tmp_path / "out.mp4").times) == report.frames_out


def test_a_whole_file_is_never_said_to_be_damaged(tmp_path):
    long_sound = [Sound("aac", seconds=4)]  # longer than the video: that is no cut
    for ending in ("mp4", "mkv", "mov"):
        source = make_clip(tmp_path / f"in.{ending}", times=[0, 1, 2, 3, 30], sounds=long_sound)
        with VideoReader(source) as reader:
            assert len(list(reader)) == 5
            assert reader.damaged == 0
            assert reader.notes == []


# -- what cannot be read ---------------------------------------------------------------------------


def refusal(path: Path) -> str:
    with pytest.raises(VideoOpenError) as caught:
        VideoReader(path)
    assert isinstance(caught.value, OSError)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_what_is_no_video_is_refused_in_words(tmp_path):
    assert "no such file" in refusal(tmp_path / "missing.mp4")
    (tmp_path / "empty.mp4").touch()
    assert "is empty (0 bytes)" in refusal(tmp_path / "empty.mp4")
    (tmp_path / "text.mp4").write_text("This is no video.\n" * 20)
    assert "cannot be read as a video" in refusal(tmp_path / "text.mp4")
    assert "is a folder" in refusal(tmp_path)


def test_audio_without_frames_is_refused_with_what_the_file_holds(tmp_path):
    with av.open(str(tmp_path / "in.m4a"), "w", format="mp4") as container:
        track = add_track(container, Sound())
        container.mux(tone_packets(track, Sound()))
    assert "has no video stream (it holds: audio)" in refusal(tmp_path / "in.m4a")


def test_a_cover_image_is_no_video(tmp_path):
    source = tmp_path / "song.mkv"
    make_clip(source, times=[0], codec="mjpeg", options={}, pix_fmt="yuvj420p", sounds=[Sound("aac", 0.3)])
    song = remux(source, tmp_path / "song.mp4", {}, video=av.stream.Disposition.attached_pic)
    assert "has no video stream (it holds: audio, video)" in refusal(song)


def test_a_name_with_a_colon_is_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "in.mp4").rename(tmp_path / "pipe:in.mp4")
    copy(Path("pipe:in.mp4"), Path("http:out.mp4"))
    assert (tmp_path / "http:out.mp4").is_file()


# -- what cannot be written ------------------------------------------------------------------------


def write_frames(writer: VideoWriter, count: int = 3, size: Size = Size(64, 48)) -> None:
    for number in range(count):
        planes = Planes(*moving_bar(size.width, size.height, number))
        writer.write(Frame(planes, number, Fraction(1, 25), Color()))


def writer_of(path: Path, **settings) -> VideoWriter:
    plain = VideoFormat(Size(64, 48), Color(), Fraction(1, 25), Fraction(25))
    return VideoWriter(path, plain, **settings)


def test_nothing_is_visible_under_its_name_before_it_is_whole(tmp_path):
    target = tmp_path / "out.mp4"
    with writer_of(target) as writer:
        write_frames(writer)
        assert not target.exists()
        assert [p.name.startswith(".") for p in tmp_path.iterdir()] == [True]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.mp4"]
    assert len(look(target).times) == 3


def stop_with(error: BaseException, writer: VideoWriter, count: int = 3) -> None:
    """Write some frames, and leave the writer by an error."""
    with writer:
        write_frames(writer, count)
        raise error


def test_an_error_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        stop_with(ZeroDivisionError(), writer_of(tmp_path / "out.mp4"))
    assert list(tmp_path.iterdir()) == []


def test_an_error_leaves_the_file_that_was_to_be_replaced(tmp_path):
    target = tmp_path / "out.mp4"
    target.write_bytes(b"precious")
    with pytest.raises(ZeroDivisionError):
        stop_with(ZeroDivisionError(), writer_of(target, overwrite=True))
    assert target.read_bytes() == b"precious"
    with writer_of(target, overwrite=True) as writer:
        write_frames(writer)
        assert target.read_bytes() == b"precious"
    assert len(look(target).times) == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.mp4"]


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_an_interrupt_keeps_what_was_written(ending, tmp_path):
    writer = writer_of(tmp_path / f"out.{ending}")
    with pytest.raises(KeyboardInterrupt) as caught:
        stop_with(KeyboardInterrupt(), writer, 20)
    kept = tmp_path / f"out.partial.{ending}"
    assert writer.kept == kept
    assert str(kept) in caught.value.__notes__[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == [kept.name]
    assert len(look(kept).times) == 20


def test_an_interrupt_before_the_first_frame_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        stop_with(KeyboardInterrupt(), writer_of(tmp_path / "out.mp4"), 0)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_output_takes_no_name_that_is_in_use(tmp_path):
    (tmp_path / "out.partial.mp4").write_bytes(b"precious")
    writer = writer_of(tmp_path / "out.mp4")
    with pytest.raises(KeyboardInterrupt):
        stop_with(KeyboardInterrupt(), writer)
    assert (tmp_path / "out.partial.mp4").read_bytes() == b"precious"
    assert writer.kept == tmp_path / "out.partial-2.mp4"


def test_a_free_name_is_the_name_or_the_next_number(tmp_path):
    path = tmp_path / "a.mp4"
    assert free_name(path) == path
    path.touch()
    assert free_name(path).name == "a-2.mp4"
    (tmp_path / "a-2.mp4").touch()
    assert free_name(path).name == "a-3.mp4"


def test_outputs_that_cannot_be_written_are_refused_before_any_work(tmp_path):
    (tmp_path / "there.mp4").write_bytes(b"precious")
    (tmp_path / "folder.mp4").mkdir()
    refused = {
        tmp_path / "there.mp4": (OutputExistsError, "exists already; give -y"),
        tmp_path / "folder.mp4": (VideoWriteError, "it is a folder"),
        tmp_path / "nowhere" / "out.mp4": (VideoWriteError, "there is no folder"),
        tmp_path / "out.avi": (SettingError, r"must end in one of \.mp4, "),
        tmp_path / "out": (SettingError, r"must end in one of \.mp4, "),
    }
    before = sorted(tmp_path.rglob("*"))
    for path, (kind, reason) in refused.items():
        with pytest.raises(kind, match=reason):
            writer_of(path)
    with pytest.raises(SettingError, match=r"\.mp4 cannot hold ffv1"):
        writer_of(tmp_path / "out.mp4", encoder=EncoderSettings(codec="ffv1"))
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "there.mp4").read_bytes() == b"precious"


def test_a_frame_of_another_size_is_refused_by_both_sizes(tmp_path):
    with writer_of(tmp_path / "out.mp4") as writer:
        with pytest.raises(ValueError, match=r"64x48.*32x32"):
            write_frames(writer, 1, Size(32, 32))
        write_frames(writer)
    assert len(look(tmp_path / "out.mp4").times) == 3


def test_a_folder_that_vanishes_is_one_clear_line(tmp_path):
    folder = tmp_path / "usb"
    folder.mkdir()
    writer = writer_of(folder / "out.mp4")
    write_frames(writer)
    shutil.rmtree(folder)
    with pytest.raises(VideoWriteError, match="cannot write") as caught:
        writer.close()
    assert "\n" not in str(caught.value)


def test_crf_and_preset_reach_the_encoder(tmp_path):
    pictures = [noise(64, 48, i) for i in range(5)]
    source = make_clip(tmp_path / "in.mp4", pictures, times=range(5))
    sizes = {}
    for crf in (0, 20, 45):
        copy(source, tmp_path / f"{crf}.mp4", encoder=EncoderSettings(crf=crf))
        sizes[crf] = os.path.getsize(tmp_path / f"{crf}.mp4")
    assert sizes[0] > sizes[20] > sizes[45]


# -- real clips ------------------------------------------------------------------------------------


def test_real_clips_of_many_cameras_and_programs_come_out_whole(real_clips, tmp_path):
    """Names and truths stand in the index.csv beside the clips; the odd ones are in formats/."""
    expected = {
        "vfr.mp4": 52, "rotate90_audio.mp4": 90, "two_audio.mkv": 90, "unordered.mov": 4, "realshort_aac.mp4": 36,
        "h265_10bits.mp4": 30, "mpeg4_mp3.avi": 164, "odd_321x241_yuv444.mp4": 60, "vp9_opus.webm": 90,
    }  # fmt: skip
    for name, count in expected.items():
        source = real_clips / "formats" / name
        if not source.is_file():
            continue
        with VideoReader(source) as reader:
            times = [frame.pts * frame.time_base for frame in reader]
            assert reader.damaged == 0, name
        after = copy(source, tmp_path / f"{name}.mp4", encoder=EncoderSettings(preset="ultrafast"))
        assert after.times == times, name
        assert len(times) == count, name
        if name.endswith(".avi"):  # packed B-frames: FFmpeg's guess at their pts goes back and forth
            assert {b - a for a, b in pairwise(times)} == {Fraction(1, 25)}


def test_real_damaged_clips_give_what_can_be_had(real_clips):
    for name, count in (("corrupted.mp4", 49), ("truncated_faststart.mp4", 34)):
        source = real_clips / "formats" / name
        if source.is_file():
            with VideoReader(source) as reader:
                assert sum(1 for _ in reader) == count
                assert reader.damaged > 0
    for name in ("empty.mp4", "text.mp4", "truncated_no_moov.mp4", "audio_only.m4a"):
        if (real_clips / "formats" / name).is_file():
            with pytest.raises(RtstyleError):
                VideoReader(real_clips / "formats" / name)

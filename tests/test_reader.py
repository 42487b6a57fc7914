"""VideoReader: every kind of input gives its own frames at their own times, or one line that says why not."""

from __future__ import annotations

import http.server
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from clips import LOSSLESS, Sound, fill, look, make_clip, moving_bar, noise

from rtstyle.errors import RtstyleError, SettingError, VideoOpenError, VideoStalledError
from rtstyle.frame import Frame, Size, planes_to_rgb
from rtstyle.video import ReaderSettings, VideoReader
from rtstyle.video.decoder import Decoder
from rtstyle.video.samples import alpha_of, planes_digest
from rtstyle.video.tone import HLG, PQ, map_tones, nits_to_pq, pq_to_nits

Seen = list[tuple[int, str]]


def seen(reader: VideoReader) -> Seen:
    """Every frame's time and the digest of its samples."""
    return [(frame.pts, planes_digest(frame.planes)) for frame in reader]


def read(source: Path | str, **settings) -> list[Frame]:
    with VideoReader(source, **settings) as reader:
        return list(reader)


def times_of(source: Path | str, **settings) -> list[Fraction]:
    return [frame.pts * frame.time_base for frame in read(source, **settings)]


def refusal(source: Path | str, **settings) -> str:
    """The one line with which an input is refused."""
    with pytest.raises(VideoOpenError) as caught, VideoReader(source, **settings) as reader:
        list(reader)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- a part of a video -----------------------------------------------------------------------------

OPEN_GOP = "open-gop=1:keyint=12:min-keyint=12:bframes=3:scenecut=0"
STREAMS = {
    "closed.mp4": {"options": {"g": "12", "bf": "2", "crf": "18"}},
    "open.mp4": {"options": {"crf": "18", "x264-params": OPEN_GOP}},
    "open.mkv": {"codec": "libx265", "options": {"x265-params": f"{OPEN_GOP}:log-level=none"}},
    "mpeg2.ts": {"codec": "mpeg2video", "options": {"g": "12", "bf": "2"}},
    "refresh.mp4": {"options": {"crf": "18", "x264-params": "intra-refresh=1:keyint=12:bframes=0"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"g": "12", "cpu-used": "8", "deadline": "realtime"}},
    "packed.avi": {"codec": "mpeg4", "options": {"g": "12", "bf": "2"}},
    "raw.h264": {"format": "h264", "options": {"g": "12", "bf": "2", "crf": "18"}},
}
UNEVEN = [
    0,
    1,
    2,
    5,
    6,
    9,
    10,
    11,
    15,
    16,
    17,
    18,
    20,
    22,
    23,
    30,
    31,
    32,
    33,
    34,
    37,
    38,
    39,
    40,
    41,
    42,
    44,
    47,
    48,
    50,
]


def make_stream(folder: Path, name: str) -> Path:
    steady = name.endswith((".avi", ".h264"))
    return make_clip(folder / name, times=range(len(UNEVEN)) if steady else UNEVEN, **STREAMS[name])


@pytest.mark.parametrize("name", STREAMS)
def test_a_range_is_exact_to_the_frame_and_starts_at_zero(name, tmp_path):
    source = make_stream(tmp_path, name)
    with VideoReader(source) as reader:
        whole, base, origin = seen(reader), reader.time_base, reader.shift
    for first, behind in ((1, 2), (3, 17), (13, 29), (20, 26)):
        # Just behind the frame before, and just behind the last one that is wanted.
        start = (whole[first - 1][0] * base + whole[first][0] * base) / 2
        end = whole[behind][0] * base
        with VideoReader(source, start=start, end=end) as reader:
            part = seen(reader)
            assert reader.shift == whole[first][0] * base + origin
            assert reader.window == (reader.shift, end + origin)
            assert reader.damaged == 0
        assert part == [(pts - whole[first][0], digest) for pts, digest in whole[first:behind]]


@pytest.mark.parametrize("name", STREAMS)
def test_it_continues_behind_any_frame_as_if_it_had_never_stopped(name, tmp_path):
    source = make_stream(tmp_path, name)
    with VideoReader(source) as reader:
        whole = seen(reader)
    for number in (0, 1, 11, 12, 13, 23, 28, len(whole) - 1):
        with VideoReader(source) as reader:
            assert reader.resume_after(*whole[number])
            assert seen(reader) == whole[number + 1 :]
            assert reader.damaged == 0


def test_it_continues_inside_a_range(tmp_path):
    source = make_stream(tmp_path, "open.mp4")
    part = {"start": Fraction(5, 25), "end": Fraction(40, 25)}
    with VideoReader(source, **part) as reader:
        whole = seen(reader)
    with VideoReader(source, **part) as reader:
        assert reader.resume_after(*whole[14])
        assert seen(reader) == whole[15:]


def test_resuming_is_refused_where_the_frame_is_another(tmp_path):
    source = make_stream(tmp_path, "closed.mp4")
    with VideoReader(source) as reader:
        whole = seen(reader)
    other = make_clip(tmp_path / "other.mp4", [noise(64, 48, i) for i in range(30)], times=UNEVEN)
    for pts, digest in ((whole[9][0], whole[8][1]), (whole[9][0] + 1, whole[9][1]), (10**9, whole[9][1])):
        with VideoReader(source) as reader:
            assert not reader.resume_after(pts, digest)
            assert seen(reader) == whole, "it must begin from the start then"
    with VideoReader(other) as reader:
        assert not reader.resume_after(*whole[9])


def test_a_seek_is_used_where_the_file_can(tmp_path, monkeypatch):
    """Behind frame 250 of 300 only a GOP is decoded, not everything from the start."""
    source = make_clip(tmp_path / "in.mp4", times=range(300), options={"g": "25", "crf": "30", "preset": "ultrafast"})
    with VideoReader(source) as reader:
        whole = seen(reader)
    decoded = []
    one_more = Decoder._decoded
    monkeypatch.setattr(Decoder, "_decoded", lambda self, packet: decoded.append(packet) or one_more(self, packet))
    with VideoReader(source) as reader:
        assert reader.resume_after(*whole[260])
        assert len(decoded) < 60
    decoded.clear()
    with VideoReader(source, start=Fraction(260, 25)) as reader:
        assert len(decoded) < 60
        assert seen(reader) == [(pts - whole[260][0], digest) for pts, digest in whole[260:]]


def test_a_wrong_index_leads_to_no_wrong_frame(tmp_path):
    """An mp4 that calls frames key frames that are none: the digest tells."""
    source = make_clip(tmp_path / "in.mp4", times=range(60), options={"g": "60", "bf": "0", "crf": "18"})
    data = bytearray(source.read_bytes())
    place = data.index(b"stss")
    assert struct.unpack(">III", data[place + 4 : place + 16]) == (0, 1, 1)
    data[place : place + 4] = b"free"  # without the list, all frames count as key frames
    source.write_bytes(data)
    with VideoReader(source) as reader:
        whole = seen(reader)
    for number in (20, 40, 58):
        with VideoReader(source) as reader:
            assert reader.resume_after(*whole[number])
            assert seen(reader) == whole[number + 1 :]


def test_times_that_start_again_do_not_lead_astray(tmp_path):
    """Two recordings of the same in one file: the same frame at the same time is there twice."""
    one = make_clip(tmp_path / "a.ts", times=range(20), options={**LOSSLESS, "g": "5"}).read_bytes()
    (tmp_path / "in.ts").write_bytes(one + one)
    with VideoReader(tmp_path / "in.ts") as reader:
        whole = seen(reader)
    assert len(whole) == 40
    for number in (4, 15, 22, 35):
        with VideoReader(tmp_path / "in.ts") as reader:
            assert reader.resume_after(*whole[number])
            assert seen(reader) == whole[number + 1 :]


def test_a_range_without_frames_is_refused_with_the_duration(tmp_path):
    source = make_clip(tmp_path / "in.mp4", times=range(10))
    assert "has no frame from 5 s: it lasts 0.400 s" in refusal(source, start=Fraction(5))
    assert "has no frame from 0.121 s to 0.122 s" in refusal(source, start=Fraction(121, 1000), end=Fraction(122, 1000))
    for start, end in ((Fraction(-1), None), (Fraction(2), Fraction(2)), (None, Fraction(0))):
        with pytest.raises(SettingError, match="must"):
            VideoReader(source, start=start, end=end)


def test_a_range_behind_the_end_is_refused_without_decoding_all(tmp_path, monkeypatch):
    source = make_clip(tmp_path / "in.mkv", times=range(300), options={"g": "25", "crf": "30", "preset": "ultrafast"})
    decoded = []
    one_more = Decoder._decoded
    monkeypatch.setattr(Decoder, "_decoded", lambda self, packet: decoded.append(packet) or one_more(self, packet))
    assert "has no frame from 40 s: it lasts 12" in refusal(source, start=Fraction(40))
    assert len(decoded) < 250


def test_packets_of_a_range_reach_to_its_end_and_not_far_before_it(tmp_path):
    source = make_clip(tmp_path / "in.mkv", times=range(250), options={"g": "25"}, sounds=[Sound(seconds=10)])
    with VideoReader(source, start=Fraction(4), end=Fraction(6)) as reader:
        assert len(list(reader)) == 50
        times = [packet.pts * packet.time_base for packet in reader.packets]
    assert times[0] <= 4
    assert 6 <= times[-1] < 8
    assert {b - a for a, b in pairwise(times)} <= {Fraction(21, 1000), Fraction(22, 1000)}, "some are missing"


def test_other_streams_can_be_left_where_they_are(tmp_path):
    source = make_clip(tmp_path / "in.mkv", sounds=[Sound()])
    with VideoReader(source, keep_packets=False) as reader:
        assert len(list(reader)) == 10
        assert not reader.packets


# -- fields ------------------------------------------------------------------------------------------


def make_interlaced(path: Path, count: int = 30, **more) -> Path:
    """A grey ball that moves between the two fields of each frame: combs, where nothing is done."""
    pictures = []
    for number in range(count):
        y = np.full((96, 128), 60, np.uint8)
        for field in (0, 1):
            left = 4 + (2 * number + field) * 2 % 90
            y[24 + field : 72 : 2, left : left + 24] = 200
        pictures.append((y, np.full((48, 64), 128, np.uint8), np.full((48, 64), 128, np.uint8)))
    options = {"flags": "+ildct+ilme", "g": "10", "bf": "0", "qscale": "2", "field_order": "tt"}
    return make_clip(
        path, pictures, width=128, height=96, times=range(count), codec="mpeg2video", options=options, **more
    )


def combs(y: np.ndarray) -> float:
    """How much neighbouring lines differ more than lines two apart."""
    lines = y[28:68].astype(float)
    return float(np.abs(lines[1:-1] * 2 - lines[:-2] - lines[2:]).mean())


def test_interlaced_frames_are_made_whole_one_for_one_at_their_times(tmp_path):
    source = make_interlaced(tmp_path / "in.ts")
    plain = look(source)
    with av.open(str(source)) as container:
        assert next(container.decode(video=0)).interlaced_frame
    with VideoReader(source) as reader:
        frames = list(reader)
        assert [note for note in reader.notes if "interlaced" in note and "bwdif" in note]
    assert [frame.pts * frame.time_base + reader.shift for frame in frames] == plain.times
    for frame, picture in zip(frames[1:-1], plain.pictures[1:-1], strict=True):
        assert combs(frame.planes.y) < combs(picture[0]) / 3


def test_an_interlaced_video_continues_behind_any_frame_too(tmp_path):
    """Each frame leans on its neighbours there."""
    source = make_interlaced(tmp_path / "in.ts")
    remuxed = tmp_path / "in.mkv"
    with av.open(str(source)) as whole, av.open(str(remuxed), "w") as target:
        stream = target.add_stream_from_template(whole.streams.video[0])
        for packet in whole.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    for path in (source, remuxed):
        with VideoReader(path) as reader:
            whole = seen(reader)
        for number in (0, 9, 10, 11, 25, 28):
            with VideoReader(path) as reader:
                assert reader.resume_after(*whole[number])
                assert seen(reader) == whole[number + 1 :]
        with VideoReader(path, start=Fraction(10, 25), end=Fraction(20, 25)) as reader:
            assert [digest for _, digest in seen(reader)] == [digest for _, digest in whole[10:20]]


def test_a_progressive_frame_is_never_touched_by_the_filter(tmp_path):
    source = make_clip(tmp_path / "in.mp4", times=UNEVEN)
    for frame, picture in zip(read(source), look(source).pictures, strict=True):
        assert np.array_equal(frame.planes.y, picture[0])


# -- size --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "aspect"), [(Size(64, 36), Fraction(1)), (Size(64, 64), Fraction(16, 9)), (Size(256, 144), Fraction(1))]
)
def test_the_size_that_is_asked_for_comes_out_in_the_shape_that_was_there(asked, aspect, tmp_path):
    source = make_clip(tmp_path / "in.mp4", width=128, height=72)
    with VideoReader(source, size=asked) as reader:
        frames = list(reader)
        assert reader.size == asked
        assert (reader.pixel_aspect or 1) == aspect
    assert {frame.size for frame in frames} == {asked}
    assert [frame.pts for frame in frames] == [frame.pts for frame in read(source)]


def test_scaling_moves_nothing_and_keeps_levels(tmp_path):
    """A soft frame at half the size is the mean of each 2x2 pixels, luma and chroma alike."""
    y = 125 + 60 * np.sin(np.arange(128) / 20)[None, :] * np.cos(np.arange(96) / 17)[:, None]
    u = 128 + 40 * np.sin(np.arange(64) / 11)[None, :] * np.ones((48, 1))
    v = 128 + 40 * np.cos(np.arange(48) / 9)[:, None] * np.ones((1, 64))
    picture = tuple(np.rint(plane).astype(np.uint8) for plane in (y, u, v))
    for full in (1, 2):
        source = make_clip(tmp_path / f"{full}.mp4", [picture], width=128, height=96, times=[0], tags=(1, full, 1, 1))
        with VideoReader(source, size=Size(64, 48)) as reader:
            assert reader.color.full_range == (full == 2)
            (frame,) = reader
        for plane, fine in zip(frame.planes, (y, u, v), strict=True):
            mean = fine.reshape(plane.shape[0], 2, plane.shape[1], 2).mean((1, 3))
            # Chroma lies on every second column of luma in 4:2:0, so its places move by a quarter sample.
            bound = 1.5 if plane is frame.planes.y else 2.5
            assert np.abs(plane - mean)[2:-2, 2:-2].max() <= bound


def test_a_turned_video_gets_its_size_as_it_is_shown(tmp_path):
    source = make_clip(tmp_path / "in.mp4", width=128, height=72, rotation=90)
    with VideoReader(source, size=Size(36, 64)) as reader:
        assert reader.size == Size(64, 36)
        assert reader.rotation == 90
        assert (reader.pixel_aspect or 1) == 1


def test_a_mirrored_video_says_so(tmp_path):
    with av.open(str(tmp_path / "in.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.set_display_rotation(0, hflip=True)
        frame = av.VideoFrame(64, 48, "yuv420p")
        fill(frame, moving_bar(64, 48, 0))
        container.mux(stream.encode(frame) + stream.encode(None))
    with VideoReader(tmp_path / "in.mp4") as reader:
        assert reader.display_matrix is not None
        assert reader.display_matrix[0] == -65536
        assert reader.display_matrix[4] == 65536
    with VideoReader(make_clip(tmp_path / "plain.mp4")) as reader:
        assert reader.display_matrix is None


# -- color ------------------------------------------------------------------------------------------


def hdr_clip(path: Path, rgb: np.ndarray, transfer: int) -> Path:
    """A clip of R'G'B' of BT.2020 in [0, 1], shape (height, width, 3), as 10-bit 4:4:4."""
    luma = rgb @ np.array([0.2627, 0.6780, 0.0593])
    planes = (64 + 876 * luma, 512 + 896 * (rgb[..., 2] - luma) / 1.8814, 512 + 896 * (rgb[..., 0] - luma) / 1.4746)
    picture = [np.rint(plane).astype(np.uint16) for plane in planes]
    height, width = luma.shape
    return make_clip(
        path, [picture] * 2, width=width, height=height, times=range(2), codec="ffv1", options={},
        pix_fmt="yuv444p10le", tags=(9, 1, 9, transfer),
    )  # fmt: skip


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_hdr_becomes_sdr_with_greys_grey_and_highlights_distinguished(transfer, tmp_path):
    levels = np.linspace(0, nits_to_pq(np.array(1000.0)) if transfer == PQ else 1, 256)
    ramp = np.repeat(np.tile(levels, (32, 1))[..., None], 3, -1)
    source = hdr_clip(tmp_path / "in.mkv", ramp, transfer)
    with VideoReader(source) as reader:
        assert (reader.color.matrix, reader.color.full_range) == ("bt709", False)
        assert (reader.color.tags.matrix, reader.color.tags.primaries, reader.color.tags.transfer) == (1, 1, 1)
        assert any("HDR" in note and "SDR" in note for note in reader.notes)
        frame = next(iter(reader))
    assert np.abs(frame.planes.u.astype(int) - 128).max() <= 1
    assert np.abs(frame.planes.v.astype(int) - 128).max() <= 1
    y = frame.planes.y[16].astype(int)
    assert y[2] <= 18
    assert 230 <= y[-1] <= 236
    assert (np.diff(y) >= -1).all()
    assert len(set(y[192:])) >= 12, "the highlights are one white"


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_hdr_colors_are_those_of_the_formulas(transfer, tmp_path):
    """What the filters make of patches, against the tone map computed here for each of them, pixel by pixel."""
    rng = np.random.default_rng(4)
    top = float(nits_to_pq(np.array(1000.0))) if transfer == PQ else 1.0
    patches = rng.uniform(0.1, top, (4, 8, 3))
    source = hdr_clip(tmp_path / "in.mkv", patches.repeat(16, 0).repeat(16, 1), transfer)
    with VideoReader(source) as reader:
        frame = next(iter(reader))
        got = planes_to_rgb(frame.planes, reader.color)[8::16, 8::16].astype(float)
    # The steps of the table show where a channel comes near 0, whose steep gamma makes much of little.
    error = np.abs(got - 255 * map_tones(patches, transfer=transfer, peak=1000))
    assert error.mean() <= 2
    assert np.percentile(error, 95) <= 8


def test_the_tone_map_keeps_what_sdr_can_show(tmp_path):
    nits = np.array([0.5, 5.0, 20.0, 80.0])
    greys = nits_to_pq(nits)[:, None].repeat(3, 1)
    mapped = map_tones(greys, transfer=PQ, peak=1000)
    assert mapped[:, 0] ** 2.4 * 203 == pytest.approx(nits, rel=0.02)
    assert pq_to_nits(nits_to_pq(nits)) == pytest.approx(nits)


def test_tags_that_change_are_converted_to_the_first(tmp_path):
    """Red as BT.601, then the same red as BT.709 full range: it stays the same red."""
    pictures = []
    for y, u, v in ((81, 90, 240), (54, 99, 255)):  # (255, 0, 0) in each
        pictures.append(tuple(np.full(s, x, np.uint8) for s, x in (((48, 64), y), ((24, 32), u), ((24, 32), v))))
    for name, picture, tags in (("a", pictures[0], (5, 1, 5, 6)), ("b", pictures[1], (1, 2, 1, 1))):
        make_clip(tmp_path / f"{name}.ts", [picture] * 5, times=range(5), tags=tags, options={**LOSSLESS, "g": "1"})
    (tmp_path / "in.ts").write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    with VideoReader(tmp_path / "in.ts") as reader:
        frames = list(reader)
        assert any("color tags change" in note for note in reader.notes)
    assert len(frames) == 10
    for frame in frames:
        assert [int(plane[10, 10]) for plane in frame.planes] == pytest.approx([81, 90, 240], abs=2)


def test_a_size_that_changes_is_scaled_to_the_first(tmp_path):
    for name, width, height in (("a", 64, 48), ("b", 128, 96)):
        make_clip(tmp_path / f"{name}.ts", times=range(5), width=width, height=height, options={**LOSSLESS, "g": "1"})
    (tmp_path / "in.ts").write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    with VideoReader(tmp_path / "in.ts") as reader:
        assert [frame.size for frame in reader] == [Size(64, 48)] * 10
        assert any("scaled to 64x48 like the first" in note for note in reader.notes)


# -- opacity -----------------------------------------------------------------------------------------


def alpha_picture(number: int) -> np.ndarray:
    """Opacity that falls from left to right and moves with the frames; 64x48."""
    return np.tile(np.roll(np.linspace(255, 0, 64).astype(np.uint8), number), (48, 1))


OPACITIES = {
    "vp9.webm": ("libvpx-vp9", "yuva420p", {"crf": "10", "b": "0", "auto-alt-ref": "0", "cpu-used": "8"}, 10),
    "vp8.webm": ("libvpx", "yuva420p", {"crf": "4", "b": "2M", "auto-alt-ref": "0"}, 10),
    "prores.mov": ("prores_ks", "yuva444p10le", {"profile": "4444"}, 1),
    "png.mov": ("png", "rgba", {}, 0),
    "qtrle.mov": ("qtrle", "argb", {}, 0),
    "ffv1.mkv": ("ffv1", "yuva420p", {}, 0),
    "ffv1_16.mkv": ("ffv1", "gbrap16le", {}, 0),
    "in.apng": ("apng", "rgba", {}, 0),
}


@pytest.mark.parametrize("name", OPACITIES)
def test_opacity_travels_beside_the_colors(name, tmp_path):
    codec, pix_fmt, options, bound = OPACITIES[name]
    y, u, v = moving_bar(64, 48, 0)
    pictures = []
    for number in range(4):
        alpha = alpha_picture(number)
        if "420" in pix_fmt:
            picture = (y, u, v, alpha)
        elif "444p10" in pix_fmt:
            grey = np.full((48, 64), 512, np.uint16)
            picture = (y.astype(np.uint16) * 4, grey, grey, alpha.astype(np.uint16) * 4 + alpha // 64)
        elif "16" in pix_fmt:
            picture = (
                *(np.full((48, 64), level, np.uint16) for level in (20000, 30000, 40000)),
                alpha * np.uint16(257),
            )
        else:
            order = pix_fmt.index("a")
            packed = np.full((48, 64, 4), (90, 120, 150, 180), np.uint8)
            packed[..., order] = alpha
            picture = (packed.reshape(48, 256),)
        pictures.append(picture)
    kind = "apng" if name.endswith("apng") else None
    source = make_clip(
        tmp_path / name, pictures, times=range(4), codec=codec, pix_fmt=pix_fmt, options=options, format=kind
    )
    with VideoReader(source) as reader:
        assert reader.alpha
        frames = list(reader)
    assert len(frames) == 4
    for number, frame in enumerate(frames):
        assert frame.alpha is not None
        assert frame.alpha.dtype == np.uint8
        assert np.abs(frame.alpha.astype(int) - alpha_picture(number)).max() <= bound
        assert frame.planes.y.shape == (48, 64)
    with VideoReader(source, size=Size(32, 24)) as reader:
        small = next(iter(reader)).alpha
    assert small is not None
    assert small.shape == (24, 32)
    assert np.abs(small - alpha_picture(0).reshape(24, 2, 32, 2).mean((1, 3)))[:, 2:-2].max() <= bound + 2


def test_opacity_that_cannot_be_decoded_is_reported_as_lost(tmp_path, monkeypatch):
    codec, pix_fmt, options, _ = OPACITIES["vp9.webm"]
    picture = (*moving_bar(64, 48, 0), alpha_picture(0))
    source = make_clip(tmp_path / "in.webm", [picture], times=[0], codec=codec, pix_fmt=pix_fmt, options=options)
    monkeypatch.setattr("rtstyle.video.decoder._SEES_ALPHA", {"vp9": "a-decoder-that-is-not-there"})
    with VideoReader(source) as reader:
        assert not reader.alpha
        assert any("transparency is lost" in note for note in reader.notes)
        assert len(list(reader)) == 1


def test_a_frame_without_opacity_is_opaque(tmp_path):
    with VideoReader(make_clip(tmp_path / "in.mp4")) as reader:
        assert not reader.alpha
        assert next(iter(reader)).alpha is None
    assert alpha_of(av.VideoFrame(16, 16, "yuv420p")).min() == 255


def test_the_colors_under_clear_pixels_stay_what_they_were(tmp_path):
    packed = np.full((48, 64, 4), (200, 40, 90, 255), np.uint8)
    packed[:, 32:, 3] = 0
    source = make_clip(
        tmp_path / "in.mov", [(packed.reshape(48, 256),)], times=[0], codec="png", options={}, pix_fmt="rgba"
    )
    (frame,) = read(source)
    assert all(len(np.unique(plane)) == 1 for plane in frame.planes)


# -- animations and sequences ------------------------------------------------------------------------


def test_a_gif_keeps_its_uneven_delays_and_says_whether_it_is_clear(tmp_path):
    times = [0, 5, 7, 30, 31]
    packed = [np.full((48, 64 * 4), 255, np.uint8) for _ in times]
    for number, clear in enumerate(packed):
        clear[:, : 8 * number] = 40
    palette = [av.VideoFrame.from_ndarray(picture.reshape(48, 64, 4), "rgba") for picture in packed]
    for name, format in (("opaque", "rgb8"),):
        with av.open(str(tmp_path / f"{name}.gif"), "w") as container:
            stream = container.add_stream("gif", rate=100)
            stream.width, stream.height, stream.pix_fmt = 64, 48, format
            stream.codec_context.time_base = Fraction(1, 100)
            for picture, time_ in zip(palette, times, strict=True):
                frame = picture.reformat(format=format)
                frame.pts, frame.time_base = time_, Fraction(1, 100)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    with VideoReader(tmp_path / "opaque.gif") as reader:
        assert not reader.alpha
        assert [frame.pts * frame.time_base for frame in reader] == [Fraction(time_, 100) for time_ in times]


def test_an_animated_webp_is_read_at_its_own_times(tmp_path):
    animation = cv2.Animation()
    pictures = [np.full((48, 64, 4), (20, 60 + 40 * i, 200, 255), np.uint8) for i in range(4)]
    for picture in pictures:
        picture[:, :8, 3] = 0
    animation.frames, animation.durations = pictures, [100, 250, 40, 70]
    lossless = [cv2.IMWRITE_WEBP_QUALITY, 101]
    if not cv2.imwriteanimation(str(tmp_path / "in.webp"), animation, lossless):
        pytest.skip("OpenCV before 4.13 writes no animations without loss")
    with VideoReader(tmp_path / "in.webp") as reader:
        assert reader.alpha
        assert reader.frames_expected == 4
        frames = list(reader)
    assert [frame.pts * frame.time_base for frame in frames] == [Fraction(n, 1000) for n in (0, 100, 350, 390)]
    for frame, picture in zip(frames, pictures, strict=True):
        rgb = planes_to_rgb(frame.planes, frame.color)
        assert np.abs(rgb[20, 40].astype(int) - picture[20, 40, 2::-1]).max() <= 3
        assert frame.alpha is not None
        assert (frame.alpha[20, 4], frame.alpha[20, 40]) == (0, 255)
    with VideoReader(tmp_path / "in.webp", start=Fraction(36, 100)) as reader:
        assert [frame.pts for frame in reader] == [0]
    (tmp_path / "broken.webp").write_bytes((tmp_path / "in.webp").read_bytes()[:80])
    refusal(tmp_path / "broken.webp")


def write_sequence(folder: Path, names: list[str], size: tuple[int, int] = (48, 64)) -> Path:
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        assert cv2.imwrite(str(folder / name), np.full((*size, 3), 20 * number + 10, np.uint8))
    return folder


def greys(frames: list[Frame]) -> list[int]:
    """Which frames of ``write_sequence`` these are."""
    return [round((planes_to_rgb(f.planes, f.color)[9, 9, 1] - 10) / 20) for f in frames]


def test_a_folder_of_images_is_a_video_in_the_order_in_which_people_count(tmp_path):
    folder = write_sequence(tmp_path / "shots", ["a1.png", "a2.png", "a10.png", "b1.png"])
    (folder / "notes.txt").write_text("not an image")
    with VideoReader(folder) as reader:
        assert (reader.rate, reader.frames_expected, reader.seekable) == (25, 4, True)
        frames = list(reader)
    assert greys(frames) == [0, 1, 2, 3]
    assert [frame.pts * frame.time_base for frame in frames] == [Fraction(i, 25) for i in range(4)]
    with VideoReader(folder, settings=ReaderSettings(rate=Fraction(30000, 1001))) as reader:
        assert [frame.pts * frame.time_base for frame in reader][3] == Fraction(3003, 30000)


def test_a_pattern_takes_its_numbers_only(tmp_path):
    names = ["f00007.png", "f00008.png", "f00010.png", "f00009.jpg", "g00011.png"]
    folder = write_sequence(tmp_path / "shots", names)
    with VideoReader(folder / "f%05d.png") as reader:
        assert greys(list(reader)) == [0, 1, 2]
        assert any("1 numbers of f%05d.png are missing" in note for note in reader.notes)
    assert "no image fits" in refusal(folder / "h%05d.png")
    with VideoReader(folder / "f%d.png", start=Fraction(1, 25)) as reader:
        whole = list(reader)
        assert greys(whole) == [1, 2]
        assert [frame.pts for frame in whole] == [0, 1]
    with VideoReader(folder / "f%d.png") as reader:
        pictures = seen(reader)
    with VideoReader(folder / "f%d.png") as reader:
        assert reader.resume_after(*pictures[0])
        assert seen(reader) == pictures[1:]


def test_a_frame_of_a_sequence_that_is_odd_or_broken_costs_nothing_else(tmp_path):
    folder = write_sequence(tmp_path / "shots", [f"{i}.png" for i in range(4)])
    cv2.imwrite(str(folder / "1.png"), np.full((96, 128, 3), 30, np.uint8))
    (folder / "2.png").write_bytes(b"broken")
    with VideoReader(folder) as reader:
        frames = list(reader)
        assert reader.damaged == 1
        assert any("scaled to 64x48" in note for note in reader.notes)
    assert greys(frames) == [0, 1, 3]
    assert [frame.pts for frame in frames] == [0, 1, 3]


def test_a_still_image_and_an_empty_folder_are_refused_in_words(tmp_path):
    folder = write_sequence(tmp_path / "shots", ["a.png", "b.jpg", "c.webp", "d.bmp"])
    for name in ("a.png", "b.jpg", "c.webp", "d.bmp"):
        assert "one still image: use rtstyle image" in refusal(folder / name)
    (tmp_path / "empty").mkdir()
    assert "is a folder without images" in refusal(tmp_path / "empty")


# -- pipes and the network ---------------------------------------------------------------------------

READ_STDIN = """
    import sys
    from fractions import Fraction
    from rtstyle.video import ReaderSettings, VideoReader
    with VideoReader("-", {settings}) as reader:
        assert not reader.seekable and not reader.resume_after(0, "")
        print(*(frame.pts * frame.time_base for frame in reader), len(reader.packets))
"""


def read_stdin(data: bytes, settings: str = "") -> subprocess.CompletedProcess[str]:
    code = textwrap.dedent(READ_STDIN.format(settings=settings))
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, cwd=Path(__file__).parents[1])
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.mark.parametrize(
    ("ending", "clip"),
    [
        ("y4m", {"format": "yuv4mpegpipe", "codec": "wrapped_avframe", "options": {}}),
        ("mkv", {"sounds": [Sound(seconds=0.4)]}),
        ("ts", {}),
        ("nut", {"codec": "ffv1", "options": {}}),
    ],
)
def test_stdin_gives_what_the_file_gives(ending, clip, tmp_path):
    source = make_clip(tmp_path / f"in.{ending}", **clip)
    with VideoReader(source) as reader:
        expected = [str(frame.pts * frame.time_base) for frame in reader]
        expected.append(str(len(reader.packets)))
    for settings in ("", f"settings=ReaderSettings(muxer='{ending}')"):
        done = read_stdin(source.read_bytes(), settings)
        assert (done.stdout.split(), done.stderr, done.returncode) == (expected, "", 0)
    part = read_stdin(source.read_bytes(), "start=Fraction(3, 25), end=Fraction(7, 25), keep_packets=False")
    assert part.stdout.split() == ["0", "1/25", "2/25", "3/25", "0"], part.stderr


def test_stdin_that_holds_no_video_is_one_line():
    for data in (b"", b"this is no video " * 100):
        done = read_stdin(data)
        assert "VideoOpenError: stdin cannot be read as a video" in done.stderr.splitlines()[-1]
    with pytest.raises(SettingError, match="no input format 'nonsense'"):
        VideoReader("-", settings=ReaderSettings(muxer="nonsense"))


class Slow(http.server.BaseHTTPRequestHandler):
    """Sends a part of a file and then nothing more, until the test is over."""

    data, done = b"", threading.Event()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "video/x-matroska")
        self.send_header("Content-Length", str(len(self.data)))
        self.end_headers()
        whole = self.path == "/whole.mkv"
        self.wfile.write(self.data if whole else self.data[: len(self.data) // 2])
        self.wfile.flush()
        if not whole:
            self.done.wait(20)

    def log_message(self, *_: object) -> None:
        pass


def test_a_network_source_is_read_and_a_stalling_one_is_given_up_in_time(tmp_path):
    source = make_clip(tmp_path / "in.mkv", [noise(64, 48, i) for i in range(40)], times=range(40))
    Slow.data, Slow.done = source.read_bytes(), threading.Event()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        assert times_of(f"{address}/whole.mkv") == [Fraction(i, 25) for i in range(40)]
        begun = time.monotonic()
        with pytest.raises(VideoStalledError, match=r"sent nothing for 0\.5 s") as caught:
            read(f"{address}/half.mkv", settings=ReaderSettings(timeout=0.5))
        assert time.monotonic() - begun < 5
        assert isinstance(caught.value, TimeoutError)
        assert isinstance(caught.value, RtstyleError)
    finally:
        Slow.done.set()
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_host_that_says_nothing_and_one_that_is_not_there(tmp_path):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        with pytest.raises(VideoStalledError, match=r"did not answer within 0\.3 s"):
            VideoReader(f"http://user:secret@127.0.0.1:{port}/in.mkv", settings=ReaderSettings(timeout=0.3))
    line = refusal(f"http://user:secret@127.0.0.1:{port}/in.mkv", settings=ReaderSettings(timeout=2))
    assert "secret" not in line
    assert "user:***@127.0.0.1" in line
    assert "knows no nonsense" in refusal("nonsense://host/in.mkv")
    with pytest.raises(SettingError, match="timeout"):
        VideoReader("http://127.0.0.1/", settings=ReaderSettings(timeout=0))


# -- damage ------------------------------------------------------------------------------------------


def test_a_header_that_asks_for_a_giant_frame_is_refused_before_memory_is_gone(tmp_path):
    code = textwrap.dedent("""
        import resource, sys
        resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
        from rtstyle.errors import VideoOpenError
        from rtstyle.video import VideoReader
        try:
            list(VideoReader(sys.argv[1]))
        except VideoOpenError as error:
            print(error)
    """)
    source = make_clip(tmp_path / "in.avi", codec="ffv1", options={})
    data = source.read_bytes()
    sizes = struct.pack("<ii", 64, 48)  # in the main header, and in the one of the stream
    assert data.count(sizes) == 2
    for side in (20000, 65535):
        source.write_bytes(data.replace(sizes, struct.pack("<ii", side, side)))
        done = subprocess.run(
            [sys.executable, "-c", code, source], capture_output=True, text=True, cwd=Path(__file__).parents[1]
        )
        assert done.returncode == 0, done.stderr
        assert "no size, or one above 134 megapixels" in done.stdout
        assert len(done.stdout.splitlines()) == 1


def test_a_stream_that_begins_in_the_middle_does_no_harm(tmp_path):
    """The list of streams of a transport stream may grow while it is read."""
    first = make_clip(tmp_path / "a.ts", times=range(50), options={**LOSSLESS, "g": "5"})
    second = make_clip(
        tmp_path / "b.ts", times=range(50, 100), options={**LOSSLESS, "g": "5"}, sounds=[Sound(late=2.0)]
    )
    data = bytearray(first.read_bytes() + second.read_bytes())
    (tmp_path / "in.ts").write_bytes(data)
    with VideoReader(tmp_path / "in.ts") as reader:
        assert len(list(reader)) == 100
    for place in range(len(first.read_bytes()), len(data), 4001):
        data[place : place + 40] = bytes(40)
    (tmp_path / "bad.ts").write_bytes(data)
    with VideoReader(tmp_path / "bad.ts") as reader:
        assert 60 <= len(list(reader)) <= 100


def test_a_decoder_that_is_missing_is_named(tmp_path):
    source = make_clip(tmp_path / "in.mp4")
    data = source.read_bytes()
    assert data.count(b"avc1") >= 1
    source.write_bytes(data.replace(b"avc1", b"zzzz"))
    assert "no decoder for its video (none (zzzz / 0x7A7A7A7A))" in refusal(source)


def test_ffmpeg_does_not_chatter_over_a_damaged_file(tmp_path):
    source = make_clip(tmp_path / "in.mp4", times=range(30))
    data = bytearray(source.read_bytes())
    for place in range(2000, len(data) - 4000, 777):
        data[place] ^= 0xFF
    source.write_bytes(data)
    code = "import sys; from rtstyle.video import VideoReader\nwith VideoReader(sys.argv[1]) as r: print(len(list(r)))"
    done = subprocess.run(
        [sys.executable, "-c", code, source], capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )
    assert done.returncode == 0
    assert int(done.stdout) > 0
    assert done.stderr == ""


def test_frames_of_the_usual_file_are_views_of_what_was_decoded(tmp_path):
    source = make_clip(tmp_path / "in.mp4")
    for frame in read(source):
        for plane in frame.planes:
            owner = plane
            while isinstance(owner.base, np.ndarray):
                owner = owner.base
            assert not owner.flags.owndata, "the samples were copied"

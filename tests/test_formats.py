"""What can be written, and that it is what it claims to be: whatever is written here is decoded again."""

import io
import os
import struct
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from clips import moving_bar, noise

from rtstyle.errors import SettingError
from rtstyle.frame import Color, ColorTags, Frame, Planes, Size, VideoFormat, planes_from_rgb, planes_to_rgb
from rtstyle.video.codecs import ALIASES, ENCODERS, HARDWARE, examine_encoders, why_not
from rtstyle.video.encoder import VideoEncoder, choose_preset
from rtstyle.video.formats import CONTAINERS, EncoderSettings, Encoding, choose_encoding, muxer_of
from rtstyle.video.pixels import level_table

SMALL = Size(64, 48)
BT709 = Color("bt709", tags=ColorTags(1, 1, 1, 1))
FULL = Color("bt709", full_range=True, tags=ColorTags(1, 2, 1, 1))
COLORS = {
    "601-tv": Color("bt601", tags=ColorTags(6, 1, 6, 6)),
    "601-pc": Color("bt601", full_range=True, tags=ColorTags(6, 2, 6, 6)),
    "709-tv": BT709,
    "709-pc": FULL,
    "2020-tv": Color("bt2020", tags=ColorTags(9, 1, 9, 1)),
}
RATE = Fraction(25)
BASE = 1 / RATE
BARS = (
    (255, 255, 255),
    (200, 200, 30),
    (30, 190, 200),
    (40, 180, 40),
    (180, 40, 190),
    (190, 40, 40),
    (32, 64, 192),
    (0, 0, 0),
)


def frames_of(pictures, *, base=BASE, step=1, color=BT709, alphas=None) -> list[Frame]:
    """Turn planes into frames, one each ``step`` units of ``base``."""
    alphas = alphas or [None] * len(pictures)
    return [
        Frame(Planes(*picture), number * step, base, color, alpha=alpha)
        for number, (picture, alpha) in enumerate(zip(pictures, alphas, strict=True))
    ]


def bars(color: Color, width: int = 256, height: int = 64) -> Frame:
    rgb = np.repeat(np.array(BARS, np.uint8), width // 8, axis=0)[None].repeat(height, 0)
    return Frame(planes_from_rgb(rgb, color), 0, BASE, color)


def textured(count: int, size: Size = SMALL, **more) -> list[Frame]:
    """A bar that moves before a lightly noisy ground: something for every tool of an encoder."""
    pictures = []
    for number in range(count):
        y, u, v = moving_bar(size.width, size.height, number)
        grain = np.random.default_rng(number).integers(0, 12, y.shape, np.uint8)
        pictures.append((y + grain, u, v))
    return frames_of(pictures, **more)


def encode(frames: list[Frame], encoding: Encoding, container, *, rate=RATE) -> tuple[VideoEncoder, list[av.Packet]]:
    encoder = VideoEncoder(container, encoding, VideoFormat(frames[0].size, frames[0].color, frames[0].time_base, rate))
    packets = [packet for frame in frames for packet in encoder.encode(frame)]
    return encoder, [*packets, *encoder.flush()]


def write(path: Path, frames: list[Frame], settings=EncoderSettings(), *, rate: Fraction | None = RATE) -> Encoding:
    """Write frames the way that VideoWriter does."""
    alpha = any(frame.alpha is not None for frame in frames)
    full = frames[0].color.full_range
    encoding = choose_encoding(path, settings, frames[0].size, full_range=full, alpha=alpha, rate=rate)
    place = str(path) if "%" in path.name else f"file:{path}"
    with av.open(place, "w", format=encoding.muxer, container_options=encoding.muxer_options) as container:
        container.mux(encode(frames, encoding, container, rate=rate)[1])
    return encoding


def decode(path: Path | io.BytesIO, decoder: str = "") -> list[av.VideoFrame]:
    with av.open(path if isinstance(path, io.BytesIO) else str(path)) as container:
        stream = container.streams.video[0]
        if not decoder:
            return list(container.decode(stream))
        context = av.CodecContext.create(decoder, "r")
        packets = list(container.demux(stream))
        return [frame for packet in packets for frame in context.decode(packet if packet.size else None)]


def levels(frame: av.VideoFrame, plane: int) -> np.ndarray:
    """The samples of one plane, as many bits as they have."""
    deep = frame.format.components[0].bits > 8
    data = frame.planes[plane]
    rows = np.frombuffer(memoryview(data), np.uint16 if deep else np.uint8).reshape(data.height, -1)
    return rows[:, : data.width]


def assert_same(ones: list[av.VideoFrame], others: list[av.VideoFrame]) -> None:
    assert len(ones) == len(others)
    for one, other in zip(ones, others, strict=True):
        assert one.format.name == other.format.name
        for plane in range(len(one.planes)):
            assert np.array_equal(levels(one, plane), levels(other, plane))


# -- every container -------------------------------------------------------------------------------

WRITTEN = {
    "a.mp4": ("libx264", "h264"), "a.m4v": ("libx264", "h264"), "a.mkv": ("libx264", "h264"),
    "a.mov": ("libx264", "h264"),
    "a.webm": ("libvpx-vp9", "vp9"),
    "a.ts": ("libx264", "h264"), "a.m2ts": ("libx264", "h264"),
    "a.nut": ("rawvideo", "rawvideo"), "a.y4m": ("wrapped_avframe", "rawvideo"), "a.gif": ("gif", "gif"),
    "a.png": ("apng", "apng"), "a.apng": ("apng", "apng"), "a-%03d.png": ("png", "png"),
    "a-%03d.jpg": ("mjpeg", "mjpeg"),
    "a-%03d.webp": ("libwebp", "webp"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_every_extension_is_written_with_what_suits_it_and_read_again(name, tmp_path):
    frames = textured(6)
    encoding = write(tmp_path / name, frames)
    assert encoding.codec == WRITTEN[name][0]
    with av.open(str(tmp_path / name)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.codec.canonical_name == WRITTEN[name][1]
        shown = list(container.decode(stream))
    assert len(shown) == 6
    assert [b.time - a.time for a, b in pairwise(shown)] == [pytest.approx(0.04)] * 5
    for frame, picture in zip(frames, shown, strict=True):
        rgb = picture.to_ndarray(format="rgb24")
        if name in ("a.nut", "a.y4m"):  # these do not tell the matrix
            assert np.array_equal(levels(picture, 0), frame.planes.y)
        else:
            assert np.abs(rgb.astype(int) - planes_to_rgb(frame.planes, BT709)).mean() < 6


def test_an_animated_webp_is_whole(tmp_path):
    """FFmpeg writes these and cannot read them; OpenCV can."""
    frames = textured(6)
    write(tmp_path / "a.webp", frames)
    found, animation = cv2.imreadanimation(str(tmp_path / "a.webp"))
    assert found
    assert len(animation.frames) == 6
    assert list(np.ravel(animation.durations)) == [40] * 6
    for frame, bgra in zip(frames, animation.frames, strict=True):
        assert np.abs(bgra[..., 2::-1].astype(int) - planes_to_rgb(frame.planes, BT709)).mean() < 6


SOFTWARE = [name for name in ENCODERS if not name.endswith(HARDWARE)]
PAIRS = [(container, codec) for container, what in CONTAINERS.items() for codec in what.codecs if codec in SOFTWARE]


@pytest.mark.parametrize(("muxer", "codec"), PAIRS)
def test_every_pair_in_the_table_goes_together(muxer, codec, tmp_path):
    if codec == "libwebp_anim":
        pytest.skip("see test_an_animated_webp_is_whole")
    path = tmp_path / f"a{CONTAINERS[muxer].extensions[0]}"
    write(path, textured(3), EncoderSettings(codec=codec))
    shown = decode(path)
    assert len(shown) == 3
    assert (shown[0].width, shown[0].height) == (64, 48)


@pytest.mark.parametrize("alias", ALIASES)
def test_short_names_stand_for_encoders_that_there_are(alias):
    assert ALIASES[alias] in ENCODERS
    EncoderSettings(codec=alias)


def test_hevc_in_mp4_has_the_name_that_apple_plays(tmp_path):
    write(tmp_path / "a.mp4", textured(3), EncoderSettings(codec="hevc"))
    assert b"hvc1" in (tmp_path / "a.mp4").read_bytes()


@pytest.mark.parametrize(
    ("name", "muxer"),
    [("mkv", "matroska"), ("matroska", "matroska"), ("ts", "mpegts"), ("y4m", "yuv4mpegpipe"), ("NUT", "nut")],
)
def test_a_pipe_gets_its_format_by_extension_or_by_name(name, muxer):
    assert muxer_of("-", name) == muxer
    encoding = choose_encoding("-", EncoderSettings(), SMALL, muxer=name)
    assert encoding.muxer == muxer
    assert not encoding.segments


# -- refused before any work -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "muxer", "reason"),
    [
        ("out.avi", None, r"'out.avi': the output must end in one of \.mp4, .*%05d\.png"),
        ("out", None, "'out': the output must end in one of"),
        ("out.jpg", None, r"'out.jpg' is one image: write a sequence as out-%05d\.jpg"),
        ("-", None, "say which format it is, one of mkv, webm, ts, nut, y4m"),
        ("-", "mp4", "mp4 cannot be written to a pipe: take one of mkv"),
        ("-", "flac", "format must be one of mp4, .*got 'flac'"),
    ],
)  # fmt: skip
def test_a_container_that_is_none_is_refused_with_those_that_there_are(target, muxer, reason):
    with pytest.raises(SettingError, match=reason):
        choose_encoding(target, EncoderSettings(), SMALL, muxer=muxer)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"codec": "divx"}, "codec must be one of libx264, libx265, .*got 'divx'"),
        ({"crf": -1}, "crf starts at 0"),
        ({"crf": 20, "bitrate": 10**6}, "not both"),
        ({"bitrate": 12}, "bits per second"),
        ({"codec": "x264", "crf": 52}, r"crf of libx264 must be in \[0, 51\], got 52"),
        ({"codec": "av1", "crf": 0}, r"crf of libsvtav1 must be in \[1, 63\], got 0"),
        ({"codec": "vp9", "crf": 64}, r"crf of libvpx-vp9 must be in \[0, 63\]"),
        ({"codec": "ffv1", "crf": 10}, "ffv1 takes no crf; libx264, libx265, libsvtav1, libvpx-vp9 do"),
        ({"codec": "ffv1", "preset": "slow"}, "ffv1 takes no preset; libx264, "),
        ({"codec": "prores", "bitrate": 10**6}, "prores_ks takes no bitrate; libx264, "),
        (
            {"codec": "x265", "preset": "quick"},
            "preset of libx265 must be one of ultrafast, .*veryslow, auto, got 'quick'",
        ),
        ({"codec": "av1", "preset": "veryfast"}, "preset of libsvtav1 must be one of 13, 12, .*0, auto"),
        ({"codec": "vp9", "preset": "auto"}, "preset of libvpx-vp9 must be one of 8, 7, .*0, got 'auto'"),
        ({"codec": "prores", "preset": "hq", "pix_fmt": "yuv444p10le"}, "presets of prores_ks are for yuv422p10le"),
        (
            {"codec": "prores", "pix_fmt": "yuv420p"},
            "must be one of yuv422p10le, yuv444p10le, yuva444p10le, got 'yuv420p'",
        ),
        ({"codec": "av1", "pix_fmt": "yuv444p"}, "must be one of yuv420p, yuv420p10le, got 'yuv444p'"),
    ],
)
def test_a_wrong_mix_is_refused_with_the_accepted_values(settings, reason):
    with pytest.raises(SettingError, match=reason) as caught:
        EncoderSettings(**settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("target", "settings", "reason"),
    [
        ("a.mp4", {"codec": "ffv1"}, r"\.mp4 cannot hold ffv1: write \.mkv or \.nut, or take libx264, libx265, "),
        ("a.webm", {"codec": "h264"}, r"\.webm cannot hold libx264: .*or take libvpx-vp9, libsvtav1"),
        ("a.mkv", {"codec": "mjpeg"}, r"cannot hold mjpeg: write %05d\.jpg"),
        ("a.webm", {"preset": "veryfast"}, "preset of libvpx-vp9 must be one of 8,"),
        ("a.mp4", {"crf": 60}, r"crf of libx264 must be in \[0, 51\], got 60"),
        ("a.gif", {"crf": 10}, "gif takes no crf"),
        ("a-%03d.png", {"bitrate": 10**6}, "png takes no bitrate"),
        ("a.mp4", {"codec": "vp9", "pix_fmt": "yuva420p"}, r"\.mp4 cannot hold the transparency of yuva420p"),
    ],
)
def test_a_mix_that_only_the_output_tells_is_refused_too(target, settings, reason):
    with pytest.raises(SettingError, match=reason):
        choose_encoding(target, EncoderSettings(**settings), SMALL)


def test_an_odd_size_that_was_asked_for_in_halved_chroma_is_refused():
    with pytest.raises(SettingError, match="33x18 is odd, which libx264 cannot hold in yuv420p10le"):
        choose_encoding("a.mp4", EncoderSettings(pix_fmt="yuv420p10le"), Size(33, 18))
    assert choose_encoding("a.mp4", EncoderSettings(pix_fmt="yuv422p"), Size(32, 17)).pix_fmt == "yuv422p"


def test_what_only_the_encoder_knows_is_refused_before_any_work_too():
    with pytest.raises(SettingError, match="libsvtav1 refuses 64x48 in yuv420p with these settings"):
        choose_encoding("a.mkv", EncoderSettings(codec="av1", bitrate=10**5), SMALL)
    with pytest.raises(SettingError, match="libx265 needs frames at least 64 wide, these are 48x64"):
        choose_encoding("a.mkv", EncoderSettings(codec="x265"), Size(48, 64))
    with pytest.raises(SettingError, match="refuses 70000x2"):
        choose_encoding("a.mkv", EncoderSettings(), Size(70000, 2))


# -- hardware --------------------------------------------------------------------------------------


def test_the_report_tells_of_each_encoder_whether_it_opens_or_why_not():
    report = examine_encoders()
    assert list(report) == list(ENCODERS)
    for name in SOFTWARE:
        assert report[name] is None
    for reason in report.values():
        assert reason is None or (reason and "\n" not in reason and "av_log" not in reason)


@pytest.mark.parametrize("codec", [name for name in ENCODERS if name.endswith(HARDWARE)])
def test_hardware_is_offered_where_it_opens_and_refused_with_the_reason_elsewhere(codec, tmp_path):
    settings = EncoderSettings(codec=codec, bitrate=10**6)
    if (reason := why_not(codec)) is None:
        frames = textured(10, Size(256, 144))
        write(tmp_path / "a.mp4", frames, settings)
        shown = decode(tmp_path / "a.mp4")
        assert len(shown) == 10
        for frame, picture in zip(frames, shown, strict=True):
            assert np.abs(levels(picture, 0).astype(int) - frame.planes.y).mean() < 8
    else:
        with pytest.raises(SettingError, match=f"{codec} does not work on this machine: .*rtstyle doctor") as caught:
            choose_encoding("a.mp4", settings, SMALL)
        assert reason in str(caught.value)


# -- settings reach the encoder --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "best", "worst"), [("x264", 10, 45), ("x265", 10, 45), ("av1", 10, 60), ("vp9", 10, 60)]
)
def test_crf_reaches_the_encoder(codec, best, worst, tmp_path):
    sizes = []
    for crf in (best, worst):
        write(tmp_path / f"{crf}.mkv", textured(5), EncoderSettings(codec=codec, crf=crf))
        sizes.append(os.path.getsize(tmp_path / f"{crf}.mkv"))
    assert sizes[0] > 1.5 * sizes[1]


def test_crf_0_of_x264_is_lossless(tmp_path):
    frames = frames_of([noise(64, 48, i) for i in range(3)])
    write(tmp_path / "a.mp4", frames, EncoderSettings(crf=0))
    for frame, picture in zip(frames, decode(tmp_path / "a.mp4"), strict=True):
        for number, plane in enumerate(frame.planes):
            assert np.array_equal(levels(picture, number), plane)


@pytest.mark.parametrize("codec", ["x264", "x265", "av1", "vp9", "prores", "webp"])
def test_presets_reach_the_encoder(codec):
    encoder = ENCODERS[ALIASES[codec]]
    path = {"prores": "a.mov", "webp": "a.webp"}.get(codec, "a.mkv")
    seen = []
    for preset in (next(iter(encoder.presets)), list(encoder.presets)[-1]):
        encoding = choose_encoding(path, EncoderSettings(codec=codec, preset=preset), SMALL)
        with av.open(io.BytesIO(), "w", format=encoding.muxer) as container:
            seen.append([bytes(p) for p in encode(textured(8), encoding, container)[1]])
    assert seen[0] != seen[1]


@pytest.mark.parametrize("codec", ["x264", "x265", "av1", "vp9"])
def test_bitrate_is_kept_on_average(codec, tmp_path):
    frames = textured(100, Size(128, 96))
    sizes = {}
    for bitrate in (100_000, 300_000):
        write(tmp_path / "a.mkv", frames, EncoderSettings(codec=codec, bitrate=bitrate))
        sizes[bitrate] = os.path.getsize(tmp_path / "a.mkv") * 8 / 4
    for bitrate, found in sizes.items():
        assert 0.6 * bitrate < found < 1.6 * bitrate


def test_auto_takes_the_slowest_preset_that_keeps_up():
    frames = textured(6)
    encoding = choose_encoding("a.mp4", EncoderSettings(preset="auto"), SMALL)
    presets = list(ENCODERS["libx264"].presets)
    assert encoding.options["preset"] == "veryfast"  # until something was measured
    for budget, preset in ((0.0, presets[0]), (1e6, presets[-1])):
        chosen = choose_preset(encoding, frames, budget)
        assert chosen.options["preset"] == preset
        assert chosen.notes[-1].startswith(f"preset {preset}: ")
        assert replace(chosen, options=encoding.options, notes=()) == replace(encoding, notes=())


def test_auto_measures_the_encoder_itself():
    """Between what two presets cost, the faster one is taken: measured again, so with a wide margin on both sides."""
    frames = textured(20, Size(320, 180))
    encoding = choose_encoding("a.mp4", EncoderSettings(preset="auto"), Size(320, 180))
    cost = {}
    for budget in (0.0, 1e6):
        note = choose_preset(encoding, frames, budget).notes[-1]
        cost[budget] = float(note.split(": ")[1].split()[0])
    assert cost[1e6] > 4 * cost[0.0]
    between = (cost[0.0] * cost[1e6]) ** 0.5
    chosen = choose_preset(encoding, frames, between).options["preset"]
    assert chosen not in ("ultrafast", "veryslow")


def test_auto_leaves_encoders_alone_whose_presets_are_no_matter_of_speed():
    encoding = choose_encoding("a.mkv", EncoderSettings(codec="ffv1"), SMALL)
    assert choose_preset(encoding, textured(2), 1.0) == encoding


# -- samples ---------------------------------------------------------------------------------------

DEEP = [
    ("a.mp4", "x264", "yuv420p10le"), ("a.mp4", "x264", "yuv422p10le"), ("a.mp4", "x264", "yuv444p"),
    ("a.mp4", "x264", "nv12"), ("a.mkv", "ffv1", "yuv444p16le"), ("a.mkv", "ffv1", "yuv422p"),
    ("a.mkv", "ffv1", "yuv440p"),
    ("a.mkv", "ffv1", "yuv420p12le"), ("a.mkv", "ffv1", "yuva420p10le"), ("a.nut", "rawvideo", "yuv444p10le"),
    ("a.y4m", None, "yuv420p10le"), ("a.y4m", None, "yuv422p"),
]  # fmt: skip


@pytest.mark.parametrize("color", [BT709, FULL], ids=["tv", "pc"])
@pytest.mark.parametrize(("name", "codec", "pix_fmt"), DEEP)
def test_wider_formats_are_filled_exactly(name, codec, pix_fmt, color, tmp_path):
    """Limited range in 10 bits is that of 8 bits times 4; full range is stretched. Chroma stays where it was."""
    frames = frames_of([noise(64, 48, i) for i in range(2)], color=color)
    settings = EncoderSettings(codec=codec, pix_fmt=pix_fmt, crf=0 if codec == "x264" else None)
    written = write(tmp_path / name, frames, settings)
    full = color.full_range and name != "a.nut"  # NUT cannot say so
    if codec == "rawvideo" and color.full_range:
        assert any("limited range only" in note for note in written.notes)
    for frame, picture in zip(frames, decode(tmp_path / name), strict=True):
        bits = picture.format.components[0].bits
        assert picture.color_range == (2 if full else 1 if name != "a.nut" else 0)
        for number, plane in enumerate(frame.planes):
            found = levels(picture, number).astype(int)
            if number and plane.shape[1] != found.shape[1]:
                plane = plane.repeat(2, 1)
            if number and plane.shape[0] != found.shape[0]:
                plane = plane.repeat(2, 0)
            table = level_table(luma=number == 0, from_full=color.full_range, to_full=full, bits=bits)
            lossy = codec == "x264" and bits > 8  # x264's crf 0 is lossless in 8 bits only
            error = np.abs(found - table[plane])
            assert error.mean() < 4 if lossy else error.max() == 0


def test_levels_are_those_of_the_standard():
    """Black, white and grey of ITU-T H.273 in each range and depth."""
    for bits, unit in ((8, 1), (10, 4), (12, 16), (16, 256)):
        top = 2**bits - 1
        limited = level_table(luma=True, from_full=False, to_full=False, bits=bits)
        assert np.array_equal(limited, np.arange(256) * unit)
        stretched = level_table(luma=True, from_full=True, to_full=True, bits=bits)
        assert (stretched[0], stretched[255]) == (0, top)
        assert np.abs(stretched / top - np.arange(256) / 255).max() <= 0.5 / top
        pressed = level_table(luma=True, from_full=True, to_full=False, bits=bits)
        assert (pressed[0], pressed[255]) == (16 * unit, 235 * unit)
        spread = level_table(luma=True, from_full=False, to_full=True, bits=bits)
        assert (spread[16], spread[235], spread[0], spread[255]) == (0, top, 0, top)
        for ranges in ((False, False), (True, True), (True, False), (False, True)):
            chroma = level_table(luma=False, from_full=ranges[0], to_full=ranges[1], bits=bits)
            assert chroma[128] == 128 * unit


@pytest.mark.parametrize("size", [Size(33, 17), Size(65, 49), Size(66, 49), Size(65, 50)], ids=str)
@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "x264"), ("a.mp4", "x265"), ("a.mkv", "av1"), ("a.webm", None), ("a.mov", "prores"), ("a.mkv", "ffv1"),
     ("a.nut", None), ("a.y4m", None), ("a.gif", None), ("a.png", None), ("a-%03d.png", None), ("a-%03d.jpg", None)],
)  # fmt: skip
def test_odd_sizes_keep_their_size_and_their_last_line(name, codec, size, tmp_path):
    if codec == "x265" and size.width < 64:
        pytest.skip("x265 takes no frames so narrow")
    frames = frames_of([moving_bar(size.width, size.height, i) for i in range(3)])
    write(tmp_path / name, frames, EncoderSettings(codec=codec))
    for frame, picture in zip(frames, decode(tmp_path / name), strict=True):
        assert Size(picture.width, picture.height) == size
        found = picture.to_ndarray(format="gray").astype(int)
        wanted = planes_to_rgb(frame.planes, BT709) @ np.array([0.2126, 0.7152, 0.0722])
        for part in (np.s_[:, :], np.s_[-1:, :], np.s_[:, -1:]):
            assert np.abs(found[part] - wanted[part]).mean() < 12


PICTURES = [
    ("a.gif", None, None, 2), ("a.png", None, None, 2), ("a-%03d.png", None, None, 2), ("a.mov", "qtrle", None, 2),
    ("a.mkv", "ffv1", "bgr0", 2), ("a.mkv", "vp9", "gbrp", 3), ("a.mkv", "x265", "gbrp", 4),
    ("a.mp4", None, None, 3), ("a.mov", "prores", None, 4), ("a.mkv", "ffv1", None, 2),
    # JPEG and lossy WebP are BT.601 inside: one more conversion in 8 bits
    ("a-%03d.jpg", None, None, 5), ("a-%03d.webp", None, None, 5),
]  # fmt: skip


@pytest.mark.parametrize("color", COLORS.values(), ids=COLORS)
@pytest.mark.parametrize(("name", "codec", "pix_fmt", "bound"), PICTURES)
def test_bars_have_their_colors_in_every_output(name, codec, pix_fmt, bound, color, tmp_path):
    """Each is read by FFmpeg as tagged, and frames by OpenCV, which knows no tags. Edges of bars are left out."""
    write(tmp_path / name, [bars(color), replace(bars(color), pts=1)], EncoderSettings(codec=codec, pix_fmt=pix_fmt))
    read = [picture.to_ndarray(format="rgb24") for picture in decode(tmp_path / name)]
    if "%" in name:
        read += [cv2.imread(str(tmp_path / (name % number)))[..., ::-1] for number in (1, 2)]
    assert len(read) == (4 if "%" in name else 2)
    for rgb in read:
        middles = rgb.astype(int).reshape(64, 8, 32, 3)[:, :, 10:22]
        assert np.abs(middles - np.array(BARS)[None, :, None]).max() <= bound


@pytest.mark.parametrize(("preset", "bound"), [("lossy", 4), ("lossless", 2)])
@pytest.mark.parametrize("color", COLORS.values(), ids=COLORS)
def test_bars_have_their_colors_in_an_animated_webp(color, preset, bound, tmp_path):
    write(tmp_path / "a.webp", [bars(color), replace(bars(color), pts=1)], EncoderSettings(preset=preset))
    _, animation = cv2.imreadanimation(str(tmp_path / "a.webp"))
    middles = animation.frames[0][..., 2::-1].astype(int).reshape(64, 8, 32, 3)[:, :, 10:22]
    assert np.abs(middles - np.array(BARS)[None, :, None]).max() <= bound


@pytest.mark.parametrize("color", COLORS.values(), ids=COLORS)
@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "x264"), ("a.mp4", "x265"), ("a.mp4", "av1"), ("a.webm", "vp9"), ("a.mkv", "ffv1"),
     ("a.ts", "x264"), ("a.mov", "prores")],
)  # fmt: skip
def test_tags_of_color_are_those_of_the_frames(name, codec, color, tmp_path):
    write(tmp_path / name, textured(6, color=color, size=Size(64, 64)), EncoderSettings(codec=codec))
    picture = decode(tmp_path / name)[1]
    tags = color.tags
    limited = codec == "prores"
    assert picture.colorspace == tags.matrix
    assert picture.color_range == (1 if limited else tags.range)
    assert (picture.color_primaries, picture.color_trc) == (tags.primaries, tags.transfer)


# -- opacity ---------------------------------------------------------------------------------------


def see_through(count: int = 3, size: Size = SMALL) -> list[Frame]:
    ramp = np.linspace(0, 255, size.width).astype(np.uint8)[None].repeat(size.height, 0)
    alphas = [np.roll(ramp, 5 * number, 1) for number in range(count)]
    return frames_of([moving_bar(size.width, size.height, i) for i in range(count)], alphas=alphas)


OPACITY = [
    # path, codec, its decoder, greatest error of a pixel, and on average
    ("a.webm", None, "libvpx-vp9", 24, 2.0),
    ("a.mkv", "vp9", "libvpx-vp9", 24, 2.0),
    ("a.mov", None, "", 0, 0),
    ("a.mkv", None, "", 0, 0),
    ("a.mkv", "prores", "", 0, 0),
    ("a.nut", "ffv1", "", 0, 0),
    ("a.mov", "qtrle", "", 0, 0),
    ("a.png", None, "", 0, 0),
    ("a-%03d.png", None, "", 0, 0),
    ("a-%03d.webp", None, "", 0, 0),
]


def alpha_of(picture: av.VideoFrame) -> np.ndarray:
    if picture.format.name.startswith("yuva"):
        bits = picture.format.components[3].bits
        return np.rint(levels(picture, 3).astype(float) * 255 / (2**bits - 1)).astype(int)
    return picture.to_ndarray(format="rgba")[..., 3].astype(int)


@pytest.mark.parametrize(("name", "codec", "decoder", "most", "mean"), OPACITY)
def test_opacity_is_kept_where_it_can_be(name, codec, decoder, most, mean, tmp_path):
    frames = see_through()
    written = write(tmp_path / name, frames, EncoderSettings(codec=codec))
    assert not any("left out" in note for note in written.notes)
    shown = decode(tmp_path / name, decoder)
    assert len(shown) == 3
    for frame, picture in zip(frames, shown, strict=True):
        error = np.abs(alpha_of(picture) - frame.alpha)
        assert error.max() <= most
        assert error.mean() <= mean


def test_opacity_is_kept_in_an_animated_webp(tmp_path):
    frames = see_through()
    write(tmp_path / "a.webp", frames)
    _, animation = cv2.imreadanimation(str(tmp_path / "a.webp"))
    assert len(animation.frames) == 3
    for frame, bgra in zip(frames, animation.frames, strict=True):
        assert np.array_equal(bgra[..., 3], frame.alpha)


def test_opacity_is_all_or_nothing_in_gif(tmp_path):
    frames = see_through()
    written = write(tmp_path / "a.gif", frames)
    assert any("half transparent" in note for note in written.notes)
    for frame, picture in zip(frames, decode(tmp_path / "a.gif"), strict=True):
        assert np.array_equal(alpha_of(picture), np.where(frame.alpha >= 128, 255, 0))


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", None), ("a.mp4", "vp9"), ("a.webm", "av1"), ("a.mkv", "x264"), ("a.ts", None), ("a-%03d.jpg", None)],
)  # fmt: skip
def test_opacity_that_cannot_be_kept_is_reported_as_left_out(name, codec, tmp_path):
    written = write(tmp_path / name, see_through(6), EncoderSettings(codec=codec))
    assert any("cannot hold transparency: it is left out" in note for note in written.notes)
    assert "a" not in decode(tmp_path / name)[0].format.name.removeprefix("yuvj").partition("p")[0]


def test_frames_without_opacity_are_opaque_where_others_have_some(tmp_path):
    frames = see_through()
    frames[1] = replace(frames[1], alpha=None)
    write(tmp_path / "a.png", frames)
    shown = [alpha_of(picture) for picture in decode(tmp_path / "a.png")]
    assert shown[1].min() == 255
    assert shown[0].min() == 0


# -- times -----------------------------------------------------------------------------------------

VFR = [0, 1001, 3003, 6006, 7007, 9009, 12012, 14014, 15015, 18018]
"""Steps of 1001, 2002 and 3003 units of 1/30000 s."""


@pytest.mark.parametrize(
    ("name", "codec", "within"),
    [("a.mp4", "x264", 0), ("a.mp4", "x265", 0), ("a.mp4", "av1", 0), ("a.mp4", "vp9", 0),
     ("a.mov", "prores", 0), ("a.nut", None, 0),
     ("a.mkv", "ffv1", Fraction(1, 2000)), ("a.webm", None, Fraction(1, 2000)), ("a.png", None, Fraction(1, 30000)),
     ("a.gif", None, Fraction(1, 200))],
)  # fmt: skip
def test_times_of_a_variable_frame_rate_are_kept(name, codec, within, tmp_path):
    frames = textured(len(VFR), Size(64, 64), base=Fraction(1, 30000))
    frames = [replace(frame, pts=time) for frame, time in zip(frames, VFR, strict=True)]
    write(tmp_path / name, frames, EncoderSettings(codec=codec), rate=None)
    shown = [picture.pts * picture.time_base for picture in decode(tmp_path / name)]
    assert len(shown) == len(VFR)
    for time, found in zip(VFR, shown, strict=True):
        assert abs(found - shown[0] - Fraction(time, 30000)) <= within


def delays(data: bytes) -> list[int]:
    """Delays of a GIF's frames in 1/100 s: graphic control extensions of the GIF89a specification."""
    marks = [at for at in range(len(data) - 8) if data[at : at + 3] == b"\x21\xf9\x04" and data[at + 7] == 0]
    return [struct.unpack("<H", data[at + 4 : at + 6])[0] for at in marks]


def test_a_gif_does_not_drift_and_its_last_frame_stays(tmp_path):
    """29.97 frames per second are 3.336... hundredths each."""
    frames = frames_of([moving_bar(32, 16, i) for i in range(150)], base=Fraction(1, 30000), step=1001)
    write(tmp_path / "a.gif", frames, rate=Fraction(30000, 1001))
    found = delays((tmp_path / "a.gif").read_bytes())
    assert len(found) == 150  # more than one palette's worth
    assert set(found) == {3, 4}
    assert abs(sum(found) - 150 * 100 * 1001 / 30000) <= 1


def test_a_gif_faster_than_players_show_leaves_frames_out_and_says_so(tmp_path):
    frames = frames_of([moving_bar(32, 16, i) for i in range(120)], base=Fraction(1, 120))
    written = write(tmp_path / "a.gif", frames, rate=Fraction(120))
    assert any("50 frames per second" in note for note in written.notes)
    found = delays((tmp_path / "a.gif").read_bytes())
    assert min(found) >= 2
    assert abs(sum(found) - 100) <= 2


def test_animations_are_shown_for_ever(tmp_path):
    for name in ("a.gif", "a.png", "a.webp"):
        write(tmp_path / name, textured(3))
    gif, png, webp = ((tmp_path / name).read_bytes() for name in ("a.gif", "a.png", "a.webp"))
    assert b"NETSCAPE2.0\x03\x01\x00\x00\x00" in gif
    assert png[png.index(b"acTL") + 8 :][:4] == b"\x00\x00\x00\x00"
    assert webp[webp.index(b"ANIM") + 12 :][:2] == b"\x00\x00"


def test_a_gif_is_drawn_with_many_colors(tmp_path):
    y, x = np.mgrid[:96, :128]
    rgb = np.stack((x * 2, y * 2.6, 255 - x - y), axis=-1).clip(0, 255).astype(np.uint8)
    frames = [Frame(planes_from_rgb(rgb, BT709), i, BASE, BT709) for i in range(3)]
    write(tmp_path / "a.gif", frames)
    for picture in decode(tmp_path / "a.gif"):
        found = picture.to_ndarray(format="rgb24")
        assert len(np.unique(found.reshape(-1, 3), axis=0)) > 200
        assert np.abs(cv2.blur(found, (8, 8)).astype(int) - cv2.blur(rgb, (8, 8))).mean() < 3


def test_y4m_and_raw_nut_hold_the_samples_themselves(tmp_path):
    frames = frames_of([noise(64, 48, i) for i in range(2)])
    write(tmp_path / "a.y4m", frames)
    write(tmp_path / "a.nut", frames)
    planes = [b"".join(plane.tobytes() for plane in frame.planes) for frame in frames]
    y4m = (tmp_path / "a.y4m").read_bytes()
    assert y4m.startswith(b"YUV4MPEG2 W64 H48 F25:1 ")
    assert y4m.partition(b"FRAME\n")[2] == planes[0] + b"FRAME\n" + planes[1]
    with av.open(str(tmp_path / "a.nut")) as container:
        assert [bytes(packet) for packet in container.demux(video=0) if packet.size] == planes


# -- segments --------------------------------------------------------------------------------------

SEGMENTS = [
    ("mp4", EncoderSettings(preset="medium"), False),  # B-frames
    ("mpegts", EncoderSettings(preset="medium"), False),
    ("mp4", EncoderSettings(bitrate=200_000), False),
    ("mp4", EncoderSettings(codec="x265"), False),
    ("mp4", EncoderSettings(codec="x265", preset="medium", pix_fmt="yuv420p10le"), False),
    ("mpegts", EncoderSettings(codec="x265"), False),
    ("mp4", EncoderSettings(codec="av1"), False),
    ("matroska", EncoderSettings(codec="av1", preset="5"), False),
    ("webm", EncoderSettings(codec="vp9"), False),
    ("webm", EncoderSettings(codec="vp9", preset="4", bitrate=200_000), False),
    ("mov", EncoderSettings(codec="prores"), False),
    ("mov", EncoderSettings(codec="prores"), True),
    ("matroska", EncoderSettings(codec="ffv1"), False),
    ("matroska", EncoderSettings(codec="ffv1"), True),
]


@pytest.mark.parametrize(("muxer", "settings", "alpha"), SEGMENTS, ids=lambda value: getattr(value, "codec", value))
def test_packets_of_two_encoders_are_one_stream(muxer, settings, alpha):
    size = Size(96, 64)
    frames = textured(40, size, alphas=[frame.alpha for frame in see_through(40, size)] if alpha else None)
    encoding = choose_encoding(f"a{CONTAINERS[muxer].extensions[0]}", settings, size, alpha=alpha)
    assert encoding.segments
    extradata, parts = [], []
    for half in (frames[:20], frames[20:]):
        with av.open(io.BytesIO(), "w", format=encoding.muxer) as container:
            encoder, packets = encode(half, encoding, container)
            extradata.append(encoder.stream.codec_context.extradata)
            parts.append(packets)
        assert packets[0].is_keyframe
    assert extradata[0] == extradata[1]
    moments = [packet.dts for packets in parts for packet in packets]
    assert moments == sorted(set(moments))

    joined = decode(muxed(parts, encoding, frames[0]))

    assert len(joined) == 40
    assert_same(joined, [picture for part in parts for picture in decode(muxed([part], encoding, frames[0]))])
    times = [picture.pts * picture.time_base for picture in joined]
    assert [b - a for a, b in pairwise(times)] == [BASE] * 39


def muxed(parts: list[list[av.Packet]], encoding: Encoding, like: Frame) -> io.BytesIO:
    """Mux what several encoders made into one stream, whose headers are those of one more encoder."""
    memory = io.BytesIO()
    with av.open(memory, "w", format=encoding.muxer) as container:
        encoder = VideoEncoder(container, encoding, VideoFormat(like.size, like.color, like.time_base, RATE))
        container.start_encoding()
        for packet in (packet for part in parts for packet in part):
            again = av.Packet(bytes(packet))
            again.pts, again.dts, again.time_base = packet.pts, packet.dts, packet.time_base
            again.is_keyframe, again.stream = packet.is_keyframe, encoder.stream
            container.mux(again)
    return io.BytesIO(memory.getvalue())


def test_every_encoder_that_is_declared_to_join_is_tested():
    joinable = {name for name, encoder in ENCODERS.items() if encoder.segments}
    assert joinable == {ALIASES.get(s.codec or "x264", s.codec) for _, s, _ in SEGMENTS}


def test_what_cannot_be_joined_is_not_said_to():
    for name in ("a.gif", "a.png", "a.webp", "a-%03d.png", "a.y4m", "a.nut"):
        assert not choose_encoding(name, EncoderSettings(), SMALL).segments
    # Matroska keeps VP9's opacity beside the packets.
    assert not choose_encoding("a.webm", EncoderSettings(), SMALL, alpha=True).segments


def test_mpegts_can_be_joined_in_the_middle():
    """A receiver that tunes in has no extradata: headers are before every key frame."""
    for codec in ("x264", "x265"):
        encoding = choose_encoding("a.ts", EncoderSettings(codec=codec), Size(64, 64))
        frames = textured(40, Size(64, 64))
        parts = []
        for half in (frames[:20], frames[20:]):
            with av.open(io.BytesIO(), "w", format=encoding.muxer) as container:
                parts.append(encode(half, encoding, container)[1])
        first = len(muxed(parts[:1], encoding, frames[0]).getvalue())
        whole = muxed(parts, encoding, frames[0]).getvalue()
        assert len(decode(io.BytesIO(whole[first // 188 * 188 :]))) >= 19


@pytest.mark.parametrize(
    ("codec", "count"), [("x264", 12), ("x265", 2), ("av1", 2), ("vp9", 2), ("prores", 2), ("ffv1", 2)]
)
def test_every_run_gives_the_same_packets(codec, count):
    # A camera that pans over noise: x264 itself gave up to 15 videos in 25 runs here, in any number of threads.
    size = Size(160, 128)
    rng = np.random.default_rng(1)
    scene = np.kron(rng.integers(30, 220, (18, 30)), np.ones((8, 8))).astype(np.int64)
    grey = np.full((64, 80), 128, np.uint8)
    frames = []
    for number in range(14):
        luma = scene[:128, 3 * number : 3 * number + 160] + rng.integers(-20, 20, (128, 160))
        planes = Planes(luma.clip(0, 255).astype(np.uint8), grey, grey)
        frames.append(Frame(planes, number, BASE, Color()))
    encoding = choose_encoding("a.mov" if codec == "prores" else "a.mkv", EncoderSettings(codec=codec), size)
    runs = set()
    for _ in range(count):
        with av.open(io.BytesIO(), "w", format=encoding.muxer) as container:
            runs.add(tuple(bytes(packet) for packet in encode(frames, encoding, container)[1]))
    assert len(runs) == 1


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="this system has no such priorities")
def test_av1_leaves_priorities_as_they_are():
    """As root SVT-AV1 makes real-time threads of its own and of ours; spinning threads then stopped a machine."""
    encoding = choose_encoding("a.mkv", EncoderSettings(codec="av1"), SMALL)
    with av.open(io.BytesIO(), "w", format=encoding.muxer) as container:
        encode(textured(4), encoding, container)
        real_time = [
            task for task in os.listdir("/proc/self/task") if os.sched_getscheduler(int(task)) != os.SCHED_OTHER
        ]
    assert real_time == []


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_x265_gives_times_of_decoding_also_to_a_video_shorter_than_its_delay(count, tmp_path):
    """In about one of fifty its own are what lay in memory, which no container takes; here they are ours, always."""
    color = next(iter(COLORS.values()))
    settings = EncoderSettings(codec="x265")
    for number in range(12):
        path = tmp_path / f"{number}.mkv"
        frames = [replace(bars(color), pts=shown) for shown in range(count)]
        encoding = choose_encoding(path, settings, frames[0].size, full_range=color.full_range, rate=RATE)
        with av.open(f"file:{path}", "w", format=encoding.muxer, container_options=encoding.muxer_options) as container:
            packets = encode(frames, encoding, container)[1]
            times = [packet.dts for packet in packets]
            container.mux(packets)
        assert times == sorted(set(times))
        assert all(packet.dts <= packet.pts for packet in packets)
        assert min(times) > -30

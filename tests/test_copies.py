"""Streams beside the frame: copied where the container holds them, else re-encoded or named; nothing is silent.

The frame itself is copied by packets here, so that only copies.py and transcode.py are under test.
"""

import shutil
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from clips import LOSSLESS, Sound, fill, look, make_clip, moving_bar

from rtstyle.verify import verify_media
from rtstyle.video import ebml
from rtstyle.video.copies import StreamCopies, StreamPlan, plan_streams
from rtstyle.video.transcode import plain_text, timecode_after

MUXERS = {"mp4": "mp4", "mov": "mov", "mkv": "matroska", "webm": "webm", "ts": "mpegts", "nut": "nut"}
COVER = av.stream.Disposition.attached_pic
ALL = (Fraction(0), None)


@dataclass
class Result:
    plan: StreamPlan
    warnings: list[str]
    path: Path


def copy(source, target, *, audio=True, window=ALL, shift=Fraction(0), options=None) -> Result:
    """Copy everything; the frame by packets, or in VP9 where the container takes no other."""
    muxer = MUXERS[target.suffix[1:]]
    exact = {"movie_timescale": "28224000"} if muxer in ("mp4", "mov") else {}  # in which all lengths are whole
    options = {**exact, **(options or {})}
    with av.open(str(source)) as whole, av.open(str(target), "w", format=muxer, container_options=options) as out:
        video = next(s for s in whole.streams.video if not s.disposition & COVER)
        plan = plan_streams(whole, video, muxer, audio=audio, codec="libvpx-vp9" if muxer == "webm" else "libx264")
        if muxer == "webm":
            picture = out.add_stream("libvpx-vp9", rate=25, options={"cpu-used": "8", "deadline": "realtime"})
            picture.codec_context.width, picture.codec_context.height = 64, 48
        else:
            picture = out.add_stream_from_template(video, opaque=True)
        copies = StreamCopies(plan, whole, video, out, picture, muxer, window=window, shift=shift)
        out.start_encoding()
        for packet in whole.demux():
            if packet.stream is not video:
                copies.mux(packet)
            elif muxer == "webm":
                for frame in packet.decode():
                    out.mux(picture.encode(frame))
            elif packet.dts is not None and packet.pts * packet.time_base >= window[0]:
                ticks = round(shift / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - ticks, packet.dts - ticks, picture
                out.mux(packet)
        if muxer == "webm":
            out.mux(picture.encode(None))
        warnings = copies.finish()
    return Result(plan, [*plan.warnings, *warnings], target)


def plan_for(source: Path, muxer: str, **settings) -> StreamPlan:
    with av.open(str(source)) as whole:
        video = next(s for s in whole.streams.video if not s.disposition & COVER)
        return plan_streams(whole, video, muxer, **settings)


def sound_of(path: Path, track: int = 0) -> tuple[Fraction, np.ndarray]:
    """Decode a track: the time of its first sample, and all samples as (channels, n) between -1 and 1."""
    first, parts = None, []
    with av.open(str(path)) as container:
        stream = container.streams.audio[track]
        resampler = av.AudioResampler("fltp", stream.codec_context.layout.name, stream.codec_context.sample_rate)
        for frame in container.decode(stream):
            first = frame.pts * frame.time_base if first is None else first
            parts += [part.to_ndarray() for part in resampler.resample(frame)]
        parts += [part.to_ndarray() for part in resampler.resample(None) if part is not None]
    return first, np.concatenate(parts, axis=1)


def make_film(
    path: Path,
    *,
    sound: str | None = None,
    rate: int = 48000,
    layout: str = "stereo",
    options: dict[str, str] | None = None,
    texts: tuple[str, list[tuple[int, int, str]]] | None = None,
    cover: bool = False,
    fonts: bool = False,
    metadata: dict[str, str] | None = None,
    chapters: list[tuple[int, int, str]] | None = None,
    timecode: str = "",
    seconds: float = 1.0,
) -> Path:
    """Write a clip of 25 frames a second with one of each kind of stream that is asked for; times in ms."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options=LOSSLESS)
        video.codec_context.width, video.codec_context.height = 64, 48
        if timecode:
            video.metadata["timecode"] = timecode
        packets = []
        if sound:
            track = out.add_stream(sound, rate=rate, options=options or {})
            track.codec_context.layout = layout
            track.metadata["language"] = "fra"
        if texts:
            subtitles = out.add_stream(texts[0])
            subtitles.codec_context.subtitle_header = HEADER
            subtitles.time_base = Fraction(1, 1000)
            subtitles.metadata["language"] = "deu"
            subtitles.disposition = av.stream.Disposition.forced
        if fonts:
            out.add_attachment("font.ttf", "font/ttf", b"\0\1\0\0" + bytes(300))
        if cover and path.suffix == ".mkv":
            out.add_attachment("cover.png", "image/png", picture_file("png"))
        if cover and path.suffix == ".mp4":
            picture = out.add_mux_stream("png", width=16, height=16)
            picture.disposition = COVER
        out.metadata.update(metadata or {})
        if chapters:
            base = Fraction(1, 1000)
            out.set_chapters(
                [
                    {"id": i, "start": a, "end": b, "time_base": base, "metadata": {"title": title}}
                    for i, (a, b, title) in enumerate(chapters)
                ]
            )
        if cover and path.suffix == ".mp4":
            packet = av.Packet(picture_file("png"))
            packet.stream, packet.pts, packet.dts, packet.time_base = picture, 0, 0, Fraction(1, 25)
            out.mux(packet)
        for i in range(round(25 * seconds)):
            frame = av.VideoFrame(64, 48, "yuv420p")
            fill(frame, moving_bar(64, 48, i))
            frame.pts, frame.time_base = i, Fraction(1, 25)
            packets += video.encode(frame)
        packets += video.encode(None)
        if sound:
            packets += track_packets(track, seconds)
        if texts:
            for begin, end, text in texts[1]:
                event = b"0,0,Default,,0,0,0,," + text.encode()
                event = av.subtitles.subtitle.SubtitleSet.create(event, 0, end - begin, begin)
                packet = subtitles.codec_context.encode_subtitle(event)
                packet.stream, packet.time_base = subtitles, Fraction(1, 1000)
                packet.pts = packet.dts = begin
                packet.duration = end - begin
                packets.append(packet)
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            out.mux(packet)
    return path


HEADER = (
    b"[Script Info]\r\nScriptType: v4.00+\r\n\r\n[V4+ Styles]\r\n"
    b"Format: Name, Fontname, Fontsize, PrimaryColour, Bold, Italic, Underline, Alignment\r\n"
    b"Style: Default,Arial,16,&Hffffff,0,0,0,2\r\n\r\n[Events]\r\n"
    b"Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\r\n"
)


def picture_file(codec: str) -> bytes:
    encoder = av.CodecContext.create(codec, "w")
    encoder.width = encoder.height = 16
    encoder.pix_fmt, encoder.time_base = "rgb24", Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), 90, np.uint8))
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


def track_packets(track, seconds: float) -> list[av.Packet]:
    """Encode a tone whose loudness grows, so that no two moments are alike."""
    rate, channels = track.codec_context.sample_rate, track.codec_context.layout.nb_channels
    moments = np.arange(round(rate * seconds)) / rate
    tones = [np.sin(2 * np.pi * 440 * (1 + i) * moments) for i in range(channels)]
    wave = (np.stack(tones) * 0.5 * moments / seconds).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(wave, "fltp", track.codec_context.layout.name)
    frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    return [*track.encode(frame), *track.encode(None)]


# -- audio -----------------------------------------------------------------------------------------

SOUNDS = {
    "aac": ("mkv", {}, "stereo", 48000),
    "ac3": ("mkv", {}, "5.1", 48000),
    "eac3": ("mkv", {}, "stereo", 44100),
    "mp2": ("mkv", {}, "stereo", 48000),
    "libmp3lame": ("mkv", {}, "stereo", 44100),
    "libopus": ("mkv", {}, "stereo", 48000),
    "vorbis": ("mkv", {"strict": "experimental"}, "stereo", 44100),
    "flac": ("mkv", {}, "stereo", 44100),
    "alac": ("mkv", {}, "mono", 48000),
    "wavpack": ("mkv", {}, "stereo", 48000),
    "tta": ("mkv", {}, "stereo", 48000),
    "pcm_u8": ("mkv", {}, "mono", 8000),
    "pcm_s16le": ("mkv", {}, "stereo", 48000),
    "pcm_s16be": ("mov", {}, "stereo", 48000),
    "pcm_s24le": ("mkv", {}, "stereo", 96000),
    "pcm_f32le": ("mkv", {}, "mono", 44100),
    "pcm_mulaw": ("mov", {}, "mono", 8000),
    "pcm_alaw": ("mov", {}, "mono", 8000),
    "adpcm_ms": ("nut", {}, "stereo", 44100),
}
"""Encoder, where it is put first, its options, channels and rate: what the wheel of PyAV can make."""

COPIED = {
    "mp4": "aac ac3 eac3 mp2 mp3 opus vorbis flac alac pcm_s16le pcm_s16be pcm_s24le pcm_f32le",
    "mov": "aac ac3 eac3 mp2 mp3 alac pcm_u8 pcm_s16le pcm_s16be pcm_s24le pcm_f32le pcm_mulaw pcm_alaw",
    "mkv": "aac ac3 eac3 mp2 mp3 opus vorbis flac alac wavpack tta pcm_u8 pcm_s16le pcm_s16be pcm_s24le pcm_f32le",
    "webm": "opus vorbis",
    "ts": "aac ac3 eac3 mp2 mp3 opus",
}
LOSSLESS_SOUND = ("flac", "alac", "wavpack", "tta", "pcm_u8", "pcm_s16le", "pcm_s16be", "pcm_mulaw", "pcm_alaw")


@pytest.mark.parametrize("target", COPIED)
@pytest.mark.parametrize("encoder", SOUNDS)
def test_every_kind_of_audio_is_copied_or_encoded_again_and_can_be_heard(encoder, target, tmp_path):
    ending, options, layout, rate = SOUNDS[encoder]
    source = make_film(tmp_path / f"in.{ending}", sound=encoder, options=options, layout=layout, rate=rate, seconds=0.6)
    name = av.Codec(encoder, "w").canonical_name
    result = copy(source, tmp_path / f"out.{target}")

    assert result.plan.dropped == []
    after, before = sound_of(result.path), sound_of(source)
    with av.open(str(result.path)) as container:
        written = container.streams.audio[0]
        kind, tongue = written.codec_context.codec.canonical_name, written.language
        offset = after[0] - container.streams.video[0].start_time * container.streams.video[0].time_base
    with av.open(str(source)) as container:
        offset -= before[0] - container.streams.video[0].start_time * container.streams.video[0].time_base
    assert tongue == "fra"
    if name in COPIED[target].split():
        assert result.plan.copied == [f"audio 1 ({name})"]
        # MPEG layers 2 and 3 have one number in mp4.
        assert (kind, result.warnings) == ("mp3" if (name, target) == ("mp2", "mp4") else name, [])
        assert payloads(result.path) == payloads(source)
    else:
        assert result.plan.copied == [f"audio 1 ({name}), re-encoded as {kind}"]
        assert len(result.warnings) == 1
        assert f"audio 1 ({name}) is re-encoded as {kind}" in result.warnings[0]
        assert ("write .mkv" in result.warnings[0]) == (target != "mkv" and name in COPIED["mkv"].split())
        if name in LOSSLESS_SOUND and kind in ("flac", "alac", "pcm_s16le"):
            assert np.array_equal(after[1], before[1])
    # MPEG-TS cannot say that a decoder should leave out what an encoder puts before the first sample.
    lead_in = Fraction(1250, rate_of(result.path)) if target == "ts" else 0
    assert -lead_in - Fraction(2, 1000) < offset < Fraction(3, 1000), "the audio left its place"
    assert abs(after[1].shape[1] / rate_of(result.path) - before[1].shape[1] / rate) < 0.06 + lead_in


def payloads(path: Path) -> bytes:
    """All bytes of the first track; how they are cut into packets is the container's own affair with PCM and ADTS."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        headers = 7 if container.format.name == "mpegts" and stream.codec_context.name == "aac" else 0
        return b"".join(bytes(packet)[headers:] for packet in container.demux(stream) if packet.size)


def rate_of(path: Path) -> int:
    with av.open(str(path)) as container:
        return container.streams.audio[0].codec_context.sample_rate


@pytest.mark.parametrize("target", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("source", ["mp4", "mkv"])
@pytest.mark.parametrize(("encoder", "rate"), [("aac", 48000), ("aac", 44100), ("libopus", 48000)])
def test_a_copy_has_the_same_audio_to_the_last_sample(encoder, rate, source, target, tmp_path):
    if (encoder, target) == ("libopus", "mov"):
        pytest.skip("mov cannot hold opus; that it is re-encoded is tested above")
    made = make_film(tmp_path / f"in.{source}", sound=encoder, rate=rate)
    before, after = sound_of(made), sound_of(copy(made, tmp_path / f"out.{target}").path)
    extra = after[1].shape[1] - before[1].shape[1]
    if (encoder, source, target) == ("aac", "mp4", "mkv"):
        # FFmpeg's mp4 reader does not tell the length of aac's lead-in, so an mkv made from it begins with it.
        assert extra == 1024
        assert np.array_equal(after[1][:, extra:], before[1])
    elif (encoder, source, target) == ("libopus", "mkv", "mp4"):
        # Both files say where the audio ends; FFmpeg's reader of mp4 continues to the end of the last packet.
        assert 0 < extra < 960
        assert np.array_equal(after[1][:, :-extra], before[1])
    else:
        assert np.array_equal(after[1], before[1])


def clicks_in(path: Path) -> list[float]:
    """Seconds after the first frame at which the clicks of a track are heard."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        first_picture = next(frame.pts * frame.time_base for frame in container.decode(video))
    begin, samples = sound_of(path)
    loud = np.flatnonzero(np.abs(samples[0]) > 0.3)
    starts = [loud[0], *(b for a, b in pairwise(loud) if b - a > 4800)]
    return [float(begin - first_picture) + start / rate_of(path) for start in starts]


def make_clicks(path: Path, encoder: str) -> Path:
    """A video of 3 seconds with clicks at 0.5, 1.5 and 2.5 s; no audio is stored before 0.2 s and from 1.0 to 1.3 s."""
    wave = np.zeros((1, 3 * 48000), np.float32)
    for click in (0.5, 1.5, 2.5):
        wave[0, round(click * 48000) :][:480] = 0.9
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options=LOSSLESS)
        video.codec_context.width, video.codec_context.height = 64, 48
        track = out.add_stream(encoder, rate=48000)
        track.codec_context.layout = "mono"
        packets = []
        for i in range(75):
            frame = av.VideoFrame(64, 48, "yuv420p")
            fill(frame, moving_bar(64, 48, i))
            frame.pts, frame.time_base = i, Fraction(1, 25)
            packets += video.encode(frame)
        packets += video.encode(None)
        for begin in range(0, wave.shape[1], 4800):
            if begin < 9600 or 48000 <= begin < 62400:
                continue
            frame = av.AudioFrame.from_ndarray(wave[:, begin : begin + 4800], "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 48000, begin, Fraction(1, 48000)
            packets += track.encode(frame)
        packets += track.encode(None)
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            out.mux(packet)
    return path


@pytest.mark.parametrize(("target", "codec"), [("mp4", "alac"), ("webm", "opus"), ("ts", "aac")])
def test_audio_that_is_encoded_again_keeps_its_place_over_a_gap_and_a_late_start(target, codec, tmp_path):
    source = make_clicks(tmp_path / "in.mkv", "pcm_u8")
    assert clicks_in(source) != pytest.approx([0.5, 1.5, 2.5], abs=0.01), "a decoder alone does not see the gap"
    result = copy(source, tmp_path / f"out.{target}")
    assert result.plan.copied == [f"audio 1 (pcm_u8), re-encoded as {codec}"]
    assert clicks_in(result.path) == pytest.approx([0.5, 1.5, 2.5], abs=0.004)


@pytest.mark.parametrize("target", ["mp4", "webm"])
def test_a_window_of_audio_that_is_encoded_again_is_cut_to_the_sample(target, tmp_path):
    source = make_clicks(tmp_path / "in.mkv", "pcm_u8")
    start = Fraction(2, 5)
    result = copy(source, tmp_path / f"out.{target}", window=(start, Fraction(2)), shift=start)
    begin, samples = sound_of(result.path)
    assert begin == 0
    if target == "mp4":  # lossless: no more and no less
        assert samples.shape[1] == 1.6 * 48000
        assert np.flatnonzero(np.abs(samples[0]) > 0.3)[[0, -1]].tolist() == [4800, round(1.1 * 48000) + 479]


def test_channels_that_are_only_counted_get_names_where_a_container_wants_them(tmp_path):
    # Matroska counts the channels of PCM; mp4 wants to know which they are, and says so at its very end.
    for layout in ("mono", "stereo", "5.1"):
        source = make_film(tmp_path / "in.mkv", sound="pcm_s16le", layout=layout)
        result = copy(source, tmp_path / "out.mp4")
        assert result.plan.copied == ["audio 1 (pcm_s16le)"]
        assert np.array_equal(sound_of(result.path)[1], sound_of(source)[1])


def test_aac_in_frames_of_its_own_goes_from_a_transport_stream_into_mp4(tmp_path):
    source = make_film(tmp_path / "in.ts", sound="aac")
    result = copy(source, tmp_path / "out.mp4")
    assert (result.plan.copied, result.warnings) == (["audio 1 (aac)"], [])
    assert np.array_equal(sound_of(result.path)[1], sound_of(source)[1])


def test_audio_can_be_left_out(tmp_path):
    result = copy(make_film(tmp_path / "in.mkv", sound="aac"), tmp_path / "out.mp4", audio=False)
    assert result.plan.dropped == [{"stream": "audio 1 (aac)", "reason": "--no-audio"}]
    assert result.warnings == []
    assert look(result.path).tracks == []


@pytest.mark.parametrize("encoder", ["dca", "truehd"])
def test_audio_of_discs_is_copied_or_encoded_again(encoder, tmp_path):
    program = shutil.which("ffmpeg")
    if not program:
        pytest.skip("no ffmpeg here, and PyAV has no encoder of it")
    source = tmp_path / "in.mkv"
    inputs = ["-f", "lavfi", "-i", "testsrc=s=64x48:d=1", "-f", "lavfi", "-i", "sine=d=1:r=48000"]
    made = ["-c:v", "libx264", "-c:a", encoder, "-ac", "2", "-strict", "-2", str(source)]
    subprocess.run([program, "-v", "error", *inputs, *made], check=True)
    for target in ("mp4", "mov", "mkv", "webm", "ts"):
        result = copy(source, tmp_path / f"out.{target}")
        assert result.plan.dropped == []
        assert abs(sound_of(result.path)[1].shape[1] - sound_of(source)[1].shape[1]) < 2500
        assert bool(result.warnings) == ("re-encoded" in result.plan.copied[0])


# -- subtitles -------------------------------------------------------------------------------------

TEXTS = [(200, 900, r"Hello {\i1}you{\i0}"), (1000, 1500, r"Two\Nlines, {\an8}ok")]


def texts_of(path: Path) -> list[tuple[float, float, str]]:
    """When each text is shown and hidden, and its words."""
    found = []
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[0]
        for packet in container.demux(stream):
            for part in stream.codec_context.decode2(packet) or () if packet.size else ():
                words = plain_text(part.ass.decode().split(",", 8)[-1]).replace(r"\N", "/")
                begin = packet.pts * packet.time_base
                found.append(
                    (round(float(begin), 3), round(float(begin + packet.duration * packet.time_base), 3), words)
                )
    return [entry for entry in found if entry[2]]


@pytest.mark.parametrize(
    ("kind", "source", "target", "expected"),
    [
        ("subrip", "mkv", "mp4", "mov_text"),
        ("ass", "mkv", "mp4", "mov_text"),
        ("webvtt", "mkv", "mov", "mov_text"),
        ("mov_text", "mp4", "mkv", "subrip"),
        ("mov_text", "mp4", "webm", "webvtt"),
        ("ass", "mkv", "webm", "webvtt"),
        ("mov_text", "mp4", "mov", "mov_text"),
        ("subrip", "mkv", "mkv", "subrip"),
        ("ass", "mkv", "mkv", "ass"),
        ("webvtt", "mkv", "webm", "webvtt"),
    ],
)
def test_text_keeps_words_times_language_and_disposition(kind, source, target, expected, tmp_path):
    made = make_film(tmp_path / f"in.{source}", texts=(kind, TEXTS), seconds=2)
    result = copy(made, tmp_path / f"out.{target}")
    assert result.plan.dropped == []
    assert texts_of(result.path) == [(0.2, 0.9, "Hello you"), (1.0, 1.5, "Two/lines, ok")]
    with av.open(str(result.path)) as container:
        stream = container.streams.subtitles[0]
        # QuickTime has one of the two names of German only.
        language = "ger" if target == "mov" else made_language(made)
        assert (stream.codec_context.codec.canonical_name, stream.language) == (expected, language)
        if target == "mkv" and source == "mkv":
            assert stream.disposition == av.stream.Disposition.forced
    anew = kind != expected
    assert result.plan.copied == [f"subtitle 1 ({kind})" + (f", re-encoded as {expected}" if anew else "")]
    assert len(result.warnings) == anew


def made_language(path: Path) -> str | None:
    with av.open(str(path)) as container:
        return container.streams.subtitles[0].language


def test_styling_is_taken_out_of_text_and_words_are_left_alone():
    assert plain_text(r"{\an8}{\i1}Hi{\i0}\Nthere\hyou") == r"Hi\Nthere you"
    assert plain_text(r"a {\p1}m 0 0 l 10 10{\p0}b") == "a b"
    assert plain_text(r"{\p1}m 0 0 l 9 9") == ""
    assert plain_text(r"\{as it is\} 1 < 2") == "{as it is} 1 < 2"


@pytest.mark.parametrize(("kind", "target"), [("subrip", "mkv"), ("subrip", "mp4"), ("mov_text", "mp4")])
def test_text_across_the_edges_of_a_window_is_cut(kind, target, tmp_path):
    texts = [(0, 150, "gone"), (200, 900, "one"), (1000, 1500, "two"), (1600, 1900, "late")]
    made = make_film(tmp_path / f"in.{'mp4' if kind == 'mov_text' else 'mkv'}", texts=(kind, texts), seconds=2)
    start, end = Fraction(2, 5), Fraction(6, 5)
    result = copy(made, tmp_path / f"out.{target}", window=(start, end), shift=start)
    assert texts_of(result.path) == [(0.0, 0.5, "one"), (0.6, 0.8, "two")]


# -- what else a container holds -------------------------------------------------------------------

CHAPTERS = [(0, 700, "One"), (700, 1200, "Two"), (1200, 2000, "Three")]


def chapters_in(path: Path) -> list[tuple[float, float, str]]:
    with av.open(str(path)) as container:
        return [
            (float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"]), c["metadata"]["title"])
            for c in container.chapters()
        ]


@pytest.mark.parametrize("target", ["mp4", "mov", "mkv", "webm"])
@pytest.mark.parametrize("source", ["mp4", "mkv"])
def test_chapters_and_titles_are_kept_and_cut_with_the_window(source, target, tmp_path):
    said = {"title": "My video", "creation_time": "2020-01-02T03:04:05.000000Z"}
    made = make_film(tmp_path / f"in.{source}", chapters=CHAPTERS, metadata=said, seconds=2)
    result = copy(made, tmp_path / f"out.{target}")
    assert chapters_in(result.path) == [(a / 1000, b / 1000, title) for a, b, title in CHAPTERS]
    assert result.warnings == []
    with av.open(str(result.path)) as container:
        metadata = {key.lower(): value for key, value in container.metadata.items()}
    assert (metadata["title"], metadata["creation_time"]) == (said["title"], said["creation_time"])
    if target != "webm":
        window = (Fraction(4, 5), Fraction(8, 5))
        cut = copy(made, tmp_path / f"cut.{target}", window=window, shift=window[0])
        assert chapters_in(cut.path) == [(0, 0.4, "Two"), (0.4, 0.8, "Three")]


def add_to_chapters(path: Path) -> None:
    """Make the second chapter of a Matroska file one within the first, with French titles, in an ordered edition."""
    data = path.read_bytes()
    with path.open("rb") as file:
        old = ebml.find_top(file, 0x1043A770, 1 << 20)
    ((_, edition),) = (each for each in ebml.children(old) if each[0] == 0x45B9)
    parts = [
        (kind, content + ebml.element(0x80, ebml.element(0x85, b"Un") + ebml.element(0x437C, b"fra")))
        if kind == 0xB6 else (kind, content)
        for kind, content in ebml.children(edition)
    ]  # fmt: skip
    atoms = [content for kind, content in parts if kind == 0xB6]
    nested = ebml.element(0xB6, atoms[0] + ebml.element(0xB6, atoms[1])) + ebml.element(0xB6, atoms[2])
    new = ebml.element(0x45B9, ebml.element(0x45DD, b"\1") + nested)
    at = data.index(old)
    length = ebml.element(0x1043A770, old)
    begin = data.index(length[:4], at - 12)
    whole = ebml.element(0x1043A770, new)
    segment = data.index(bytes.fromhex("18538067")) + 4
    grown = len(whole) - (at + len(old) - begin)
    size = int.from_bytes(data[segment : segment + 8], "big") + grown
    path.write_bytes(
        data[:segment] + size.to_bytes(8, "big") + data[segment + 8 : begin] + whole + data[at + len(old) :]
    )


def test_what_only_matroska_says_of_chapters_is_named_and_missed(tmp_path):
    made = make_film(tmp_path / "in.mkv", chapters=CHAPTERS, seconds=2)
    plain = copy(made, tmp_path / "plain.mp4")
    add_to_chapters(made)
    result = copy(made, tmp_path / "out.mkv")
    said = " ".join(result.warnings)
    for words in ("ordered edition", "1 chapters within chapters", "one title of several", "titles (fra)"):
        assert words in said
        assert words not in " ".join(plain.warnings)
    findings = {finding.subject: finding.words for finding in verify_media(made, result.path).differences}
    assert "ordered edition" in findings["editions"]


def covers_in(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(p) for p in container.demux(container.streams.video[1:]) if p.size]


@pytest.mark.parametrize("flags", ["", "+faststart+use_metadata_tags"])
@pytest.mark.parametrize("target", ["mp4", "mkv"])
@pytest.mark.parametrize("source", ["mp4", "mkv"])
def test_a_cover_image_stays_one(source, target, flags, tmp_path):
    made = make_film(tmp_path / f"in.{source}", cover=True, sound="aac")
    assert covers_in(made) == [picture_file("png")]
    options = {"movflags": flags} if flags and target == "mp4" else {}
    result = copy(made, tmp_path / f"out.{target}", options=options)
    assert result.warnings == []
    assert covers_in(result.path) == [picture_file("png")]
    with av.open(str(result.path)) as container:
        assert [bool(s.disposition & COVER) for s in container.streams.video] == [False, True]


def test_metadata_that_mp4_cannot_hold_beside_a_cover_is_named(tmp_path):
    made = make_film(tmp_path / "in.mkv", cover=True, metadata={"title": "T", "director": "me"})
    result = copy(made, tmp_path / "out.mp4", options={"movflags": "+use_metadata_tags"})
    assert result.warnings == [
        "metadata (DIRECTOR) is not in the output: mp4 holds it or a cover image, not both; write .mkv to keep it"
    ]


def test_fonts_are_kept_in_mkv_and_named_elsewhere(tmp_path):
    made = make_film(tmp_path / "in.mkv", fonts=True, texts=("ass", TEXTS))
    with av.open(str(copy(made, tmp_path / "out.mkv").path)) as container, av.open(str(made)) as before:
        font, first = container.streams.attachments[0], before.streams.attachments[0]
        assert (font.name, font.mimetype, font.data) == (first.name, first.mimetype, first.data)
    for target in ("mp4", "mov", "webm", "ts"):
        plan = plan_for(made, MUXERS[target])
        name = "MPEG-TS" if target == "ts" else target
        assert {"stream": "attachment 2 (font.ttf)", "reason": f"{name} cannot hold it"} in plan.dropped
        line = f"attachment 2 (font.ttf) is not in the output: {name} cannot hold it; write .mkv to keep it"
        assert line in plan.warnings


@pytest.mark.parametrize("target", ["mp4", "mov", "mkv"])
def test_a_timecode_is_written_again_and_moves_with_the_window(target, tmp_path):
    made = make_film(tmp_path / "in.mov", timecode="01:00:00:00", sound="aac")
    result = copy(made, tmp_path / f"out.{target}")
    assert [entry["reason"] for entry in result.plan.dropped] == ["its timecode is rewritten"]
    assert result.warnings == []
    cut = copy(made, tmp_path / f"cut.{target}", window=(Fraction(2, 5), None), shift=Fraction(2, 5))
    for path, expected in ((result.path, "01:00:00:00"), (cut.path, "01:00:00:10")):
        with av.open(str(path)) as container:
            said = {**container.metadata, **container.streams.video[0].metadata}
            assert {key.lower(): value for key, value in said.items()}["timecode"] == expected


def test_a_timecode_with_dropped_numbers_leaves_them_out():
    rate = Fraction(30000, 1001)
    assert timecode_after("00:00:59;29", 1 / rate, rate) == "00:01:00;02"
    assert timecode_after("00:09:59;29", 1 / rate, rate) == "00:10:00;00"
    assert timecode_after("00:00:00;00", 17982 / rate, rate) == "00:10:00;00"
    assert timecode_after("00:00:59:29", 1 / rate, rate) == "00:01:00:00"
    assert timecode_after("23:59:59:24", Fraction(1, 25), Fraction(25)) == "00:00:00:00"
    assert timecode_after("no timecode", Fraction(1), Fraction(25)) == "no timecode"


@pytest.mark.parametrize("muxer", ["gif", "apng", "webp", "image2", "yuv4mpegpipe"])
def test_formats_of_frames_alone_name_all_that_they_leave_out(muxer, tmp_path):
    made = make_film(
        tmp_path / "in.mkv", sound="aac", texts=("subrip", TEXTS), fonts=True, cover=True, chapters=CHAPTERS
    )
    plan = plan_for(made, muxer)
    assert plan.copied == []
    assert len(plan.dropped) == len(plan.warnings) == 5
    name = {"yuv4mpegpipe": "y4m", "image2": "a sequence of images"}.get(muxer, muxer)
    assert f"audio 1 (aac) is not in the output: {name} holds no audio" in plan.warnings
    assert f"subtitle 2 (subrip) is not in the output: {name} holds no subtitles" in plan.warnings


def test_images_of_text_go_into_mkv_and_are_named_elsewhere(tmp_path):
    made = tmp_path / "in.mkv"
    with av.open(str(made), "w") as out:
        video = out.add_stream("libx264", rate=25, options=LOSSLESS)
        video.codec_context.width, video.codec_context.height = 64, 48
        titles = out.add_mux_stream("hdmv_pgs_subtitle", time_base=Fraction(1, 1000))
        for i in range(10):
            frame = av.VideoFrame(64, 48, "yuv420p")
            fill(frame, moving_bar(64, 48, i))
            frame.pts, frame.time_base = i, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        packet = av.Packet(bytes.fromhex("80000000"))
        packet.stream, packet.pts, packet.dts, packet.time_base = titles, 100, 100, Fraction(1, 1000)
        out.mux(packet)
    assert copy(made, tmp_path / "out.mkv").plan.copied == ["subtitle 1 (hdmv_pgs_subtitle)"]
    result = copy(made, tmp_path / "out.mp4")
    assert result.warnings == [
        "subtitle 1 (hdmv_pgs_subtitle) is not in the output: mp4 cannot hold it; write .mkv to keep it"
    ]


@pytest.mark.parametrize("default", [0, 1, None])
def test_mkv_marks_no_track_as_default_that_was_none(default, tmp_path):
    sounds = [Sound("aac", 0.3, default=number == default, hertz=440 + number) for number in range(2)]
    made = make_clip(tmp_path / "in.mkv", sounds=sounds, muxer={"default_mode": "passthrough"})
    after = look(copy(made, tmp_path / "out.mkv").path)
    assert after.tracks == look(made).tracks
    assert [bool(track[3]) for track in after.tracks] == [number == default for number in range(2)]


# -- time ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("late", [0.0, 0.2, 1.0])
def test_packets_keep_their_times_beside_the_frame(late, target, tmp_path):
    made = make_clip(tmp_path / "in.mp4", times=range(25), sounds=[Sound("aac", 0.5, late=late)])
    before, after = look(made), look(copy(made, tmp_path / f"out.{target}").path)
    bound = Fraction(1, 1000) if target == "mkv" else 0
    for (one, payload), (other, copied) in zip(before.packets[0], after.packets[0], strict=True):
        assert payload == copied
        assert abs((other - after.times[0]) - (one - before.times[0])) <= bound


@pytest.mark.parametrize("target", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("end", [None, Fraction(3, 2)])
def test_copied_audio_is_cut_to_the_window_and_stays_in_step(end, target, tmp_path):
    made = make_clip(tmp_path / "in.mp4", times=range(50), sounds=[Sound("aac", 2.0)], options={**LOSSLESS, "g": "1"})
    start = Fraction(2, 5)
    before = look(made).packets[0]
    result = copy(made, tmp_path / f"out.{target}", window=(start, end), shift=start)
    after = look(result.path)
    assert after.times[0] == 0
    length = Fraction(1024, 48000)
    first = start if target == "mkv" else start - length  # mkv has no times before 0
    kept = [(t, data) for t, data in before if t > first - (target == "mkv") * Fraction(1, 10**6)]
    kept = [(t, data) for t, data in kept if end is None or t < end]
    assert [data for _, data in after.packets[0]] == [data for _, data in kept]
    bound = Fraction(1, 1000) if target == "mkv" else Fraction(1, 90000)
    for (one, _), (other, _) in zip(kept, after.packets[0], strict=True):
        assert abs(other - (one - start)) <= bound


@pytest.mark.parametrize("target", ["mp4", "mkv"])
def test_packets_whose_times_go_back_are_left_out_and_counted(target, tmp_path):
    # As in a damaged file; a muxer that is given one of them refuses all that follows.
    made = make_clip(tmp_path / "in.mkv", sounds=[Sound("aac", 0.5)])
    with av.open(str(made)) as whole, av.open(str(tmp_path / f"out.{target}"), "w") as out:
        video = whole.streams.video[0]
        plan = plan_streams(whole, video, MUXERS[target])
        picture = out.add_stream_from_template(video, opaque=True)
        copies = StreamCopies(plan, whole, video, out, picture, MUXERS[target])
        packets = [packet for packet in whole.demux(whole.streams.audio[0]) if packet.size]
        payloads = [bytes(packet) for packet in packets]
        order = [0, 1, 2, 6, 4, *range(7, len(packets))]
        for number in order:
            copies.mux(packets[number])
        assert copies.finish() == ["1 packets of copied streams were left out: their times go back"]
    with av.open(str(tmp_path / f"out.{target}")) as after:
        kept = [bytes(packet) for packet in after.demux(after.streams.audio[0]) if packet.size]
    assert kept == [payloads[number] for number in order if number != 4]

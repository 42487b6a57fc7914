"""Where the timeline of an output begins: clocks that began long ago, edit lists, chapters in step."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from clips import LOSSLESS, Sound, make_clip, moving_bar
from test_verify import ASS_HEADER

from rtstyle.backends import Controls
from rtstyle.render import RenderOptions, stylize_video
from rtstyle.verify import verify_media
from rtstyle.video import EncoderSettings

PLAIN = Controls(0, 0)
HOURS = 30000
"""Seconds: the clock of a sender that has been on the air since the morning."""


def render(source: Path, target: Path) -> Path:
    stylize_video(source, target, controls=PLAIN, options=RenderOptions(overwrite=True))
    report = verify_media(source, target)
    assert report.damage == ()
    assert [(f.subject, f.words) for f in report.differences] == []
    return target


def starts(path: Path) -> tuple[float, float]:
    """When the first frame is shown and the first sample is heard, in seconds from the container's first moment."""
    found = []
    for kind in ("video", "audio"):
        with av.open(str(path)) as container:
            frame = next(container.decode(**{kind: 0}))
            found.append(float(frame.pts * frame.time_base - Fraction(container.start_time, av.time_base)))
    return found[0], found[1]


def made_long_ago(path: Path) -> Path:
    """A clip of 25 frames whose audio begins 0.2 s before the frame, at ``HOURS``."""
    plain = {".mpg": {"codec": "mpeg2video", "options": {}}}.get(path.suffix, {"options": {**LOSSLESS, "bf": "0"}})
    sound = {".mpg": "mp2"}.get(path.suffix, "aac")
    unit = Fraction(1, {".flv": 1000, ".mkv": 1000, ".mpg": 25}.get(path.suffix, 90000))
    first = int((HOURS + Fraction(1, 5)) / unit)
    return make_clip(
        path,
        times=[first + int(i / unit / 25) for i in range(25)],
        time_base=unit,
        sounds=[Sound(sound, 1.2, late=HOURS)],
        muxer={"flvflags": "no_duration_filesize"} if path.suffix == ".flv" else None,
        **plain,
    )


@pytest.mark.parametrize(
    ("source", "target"),
    [("ts", "mp4"), ("ts", "mkv"), ("ts", "webm"), ("mpg", "mp4"), ("flv", "mp4"), ("mkv", "ts"), ("mkv", "mkv")],
)
def test_a_clock_that_began_long_ago_starts_at_zero_and_in_step(source, target, tmp_path):
    original = made_long_ago(tmp_path / f"in.{source}")
    made = render(original, tmp_path / f"out.{target}")
    with av.open(str(made)) as container:
        assert abs(container.start_time) < 1.5 * av.time_base
        assert container.duration < 3 * av.time_base
    before, after = starts(original), starts(made)
    lead_in = 0.0214  # of AAC: MPEG-TS has no way to say that it is not heard
    assert abs((after[0] - after[1]) - (before[0] - before[1])) < lead_in + 0.003
    assert after[0] - after[1] > 0.15, "audio that comes first still comes first"


def test_a_clock_that_wraps_around_in_the_middle_continues(tmp_path):
    wrap = (1 << 33) / 90000  # MPEG-TS counts to here
    first = int((wrap - 0.5) * 90000)
    source = make_clip(
        tmp_path / "in.ts",
        times=[first + 3600 * i for i in range(25)],
        time_base=Fraction(1, 90000),
        options={**LOSSLESS, "bf": "0"},
        sounds=[Sound("aac", 1.0, late=wrap - 0.5)],
    )
    with av.open(str(render(source, tmp_path / "out.mp4"))) as container:
        assert 0.9 < container.duration / av.time_base < 1.2


# -- edit lists ------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["mp4", "mkv"])
def test_words_stay_in_step_with_a_clock_that_began_long_ago(target, tmp_path):
    clip, late = made_long_ago(tmp_path / "clip.mkv"), tmp_path / "in.mkv"
    with av.open(str(clip)) as source, av.open(str(late), "w") as made:
        streams = [made.add_stream_from_template(stream) for stream in source.streams]
        words = made.add_stream("subrip")
        words.codec_context.subtitle_header = ASS_HEADER
        packets = [packet for packet in source.demux() if packet.dts is not None]
        packet = av.Packet(b"hello")
        packet.time_base, packet.pts, packet.dts = Fraction(1, 1000), 1000 * HOURS + 500, 1000 * HOURS + 500
        packet.duration = 300
        for each in (*packets, packet):
            each.stream = words if each is packet else streams[each.stream_index]
            made.mux(each)
    made_from = render(late, tmp_path / f"out.{target}")
    with av.open(str(made_from)) as container:
        said = [p for p in container.demux(subtitles=0) if p.size > 2]
    assert float(said[0].pts * said[0].time_base) == pytest.approx(0.5, abs=0.03)
    assert verify_media(late, made_from).differences == ()


def boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, begin and size of the boxes of an mp4 in a range of bytes."""
    while at + 8 <= end:
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        yield kind, at, size
        at += size


def set_edits(source: Path, target: Path, edits: dict[int, list[tuple[int, int]]]) -> Path:
    """Give tracks of an mp4 whose index stands last edit lists of (duration in ms, media time or -1 for nothing)."""
    data = source.read_bytes()
    _, begin, size = next(box for box in boxes(data, 0, len(data)) if box[0] == b"moov")
    assert begin + size == len(data)
    moov, number = b"", -1
    for kind, at, length in boxes(data, begin + 8, begin + size):
        box = data[at : at + length]
        if kind == b"trak":
            number += 1
            entries = b"".join(struct.pack(">IiHH", lasts, media, 1, 0) for lasts, media in edits[number])
            table = struct.pack(">I4sII", 16 + len(entries), b"elst", 0, len(edits[number])) + entries
            parts = [data[a : a + s] for k, a, s in boxes(data, at + 8, at + length) if k != b"edts"]
            parts.insert(1, struct.pack(">I4s", 8 + len(table), b"edts") + table)
            box = struct.pack(">I4s", 8 + len(b"".join(parts)), b"trak") + b"".join(parts)
        moov += box
    target.write_bytes(data[:begin] + struct.pack(">I4s", 8 + len(moov), b"moov") + moov)
    return target


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Six seconds whose tone rises by 200 Hz a second and whose grey level by 20 a second; a chapter each 2 s."""
    path = tmp_path_factory.mktemp("edits") / "whole.mp4"
    with av.open(str(path), "w", container_options={"movie_timescale": "1000"}) as container:
        video = container.add_stream("libx264", rate=25, options={**LOSSLESS, "g": "25"})
        video.codec_context.width, video.codec_context.height = 64, 48
        video.codec_context.time_base = Fraction(1, 12800)
        audio = container.add_stream("aac", rate=48000)
        audio.codec_context.layout = "mono"
        packets = []
        for number in range(150):
            planes = moving_bar(64, 48, number)
            planes[0][:] = 50 + number * 20 // 25
            frame = av.VideoFrame.from_ndarray(np.concatenate([p.reshape(-1, 64) for p in planes]), "yuv420p")
            frame.pts, frame.time_base = 512 * number, Fraction(1, 12800)
            packets += video.encode(frame)
        seconds = np.arange(6 * 48000) / 48000
        wave = 0.5 * np.sin(2 * np.pi * (300 * seconds + 100 * seconds**2))
        sound = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None], "flt", "mono")
        sound.sample_rate, sound.pts, sound.time_base = 48000, 0, Fraction(1, 48000)
        packets += [*video.encode(None), *audio.encode(sound), *audio.encode(None)]
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


EDITS: dict[str, list[tuple[float, float]]] = {
    "trimmed": [(1.5, 4.0)],
    "two parts": [(1.0, 2.0), (3.5, 5.0)],
    "another order": [(3.5, 5.0), (1.0, 2.0)],
    "late": [(-0.7, 0.0), (2.5, 5.0)],
}


def edited(whole: Path, name: str, folder: Path) -> Path:
    def entries(rate: int, lead: int) -> list[tuple[int, int]]:
        return [
            (round((end - begin) * 1000), -1 if begin < 0 else round(begin * rate) + lead) for begin, end in EDITS[name]
        ]

    return set_edits(whole, folder / "in.mp4", {0: entries(12800, 1024), 1: entries(48000, 1024)})


def shown_at(path: Path, moment: float) -> tuple[float, float]:
    """Which moments of ``whole`` are shown and heard at a moment of a player's timeline."""
    with av.open(str(path)) as container:
        zero = Fraction(container.start_time, av.time_base)
        frames = [(float(f.pts * f.time_base - zero), f.to_ndarray()[:48].mean()) for f in container.decode(video=0)]
        grey = max(frame for frame in frames if frame[0] <= moment + 0.001)[1]
    with av.open(str(path)) as container:
        heard = np.zeros(8 * 48000)
        for frame in container.decode(audio=0):
            at = round(float(frame.pts * frame.time_base - zero) * 48000)
            samples = frame.to_ndarray()[0]
            heard[max(0, at) : at + len(samples)] = samples[max(0, -at) :]
    part = heard[round(moment * 48000) :][:2400]
    hertz = np.count_nonzero((part[:-1] < 0) & (part[1:] >= 0)) / 0.05
    return (grey - 50) / 20, (hertz - 300) / 200 - 0.025


@pytest.mark.parametrize(
    ("name", "target"),
    [*((name, target) for name in EDITS for target in ("mp4", "mkv")), ("trimmed", "ts"), ("another order", "webm")],
)
def test_only_what_an_edit_list_shows_is_shown_and_heard(name, target, whole, tmp_path):
    made = render(edited(whole, name, tmp_path), tmp_path / f"out.{target}")
    parts = [part for part in EDITS[name] if part[0] >= 0]
    length = sum(end - begin for begin, end in parts)
    with av.open(str(made)) as container:
        assert container.duration / av.time_base < length + 0.08
    at = 0.0
    for begin, end in parts:
        for into in (0.04, (end - begin) / 2, end - begin - 0.12):
            seen, heard = shown_at(made, at + into)
            assert abs(seen - (begin + into)) < 0.09, "the frame is out of place"
            assert abs(heard - (begin + into)) < 0.16, "the audio is out of place"
        at += end - begin


@pytest.mark.parametrize("target", ["mp4", "mkv"])
def test_what_was_cut_off_is_not_in_the_file_at_all(target, whole, tmp_path):
    made = render(edited(whole, "trimmed", tmp_path), tmp_path / f"out.{target}")
    with av.open(str(whole)) as container:
        everything = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    with av.open(str(made), options={"ignore_editlist": "1"}) as container:
        kept = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    places = [everything.index(payload) for payload in kept]
    assert places == list(range(places[0], places[0] + len(places)))
    assert places[0] >= 1.5 * 48000 / 1024 - 2, "more than a decoder's lead-in is hidden in the file"


def test_verify_finds_what_was_cut_off_and_can_be_heard_again(whole, tmp_path):
    original, made = edited(whole, "trimmed", tmp_path), tmp_path / "out.ts"
    with av.open(str(original)) as old, av.open(str(made), "w") as new:
        streams = [new.add_stream_from_template(stream, opaque=True) for stream in old.streams]
        for packet in old.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream_index]
                new.mux(packet)
    words = {finding.subject: finding.words for finding in verify_media(original, made).differences}
    assert "packets are in it that the input's edit list hides" in words["audio 1 packets"]


def with_chapters(source: Path, target: Path, offset: int = 0) -> Path:
    """Copy streams, as many seconds later, and add chapters of two seconds each, moved likewise."""
    with av.open(str(source)) as whole, av.open(str(target), "w") as made:
        streams = [made.add_stream_from_template(stream, opaque=True) for stream in whole.streams]
        made.set_chapters(
            [
                {"id": i, "start": 2000 * i + 1000 * offset, "end": 2000 * (i + 1) + 1000 * offset,
                 "time_base": Fraction(1, 1000), "metadata": {"title": f"part {i}"}}
                for i in range(3)
            ]
        )  # fmt: skip
        for packet in whole.demux():
            if packet.dts is not None:
                later = int(offset / packet.time_base)
                packet.stream, packet.pts, packet.dts = (
                    streams[packet.stream_index],
                    packet.pts + later,
                    packet.dts + later,
                )
                made.mux(packet)
    return target


@pytest.mark.parametrize("target", ["mp4", "mkv"])
@pytest.mark.parametrize("source", ["in.mp4", "long ago.mkv"])
def test_chapters_stay_with_the_frame(source, target, whole, tmp_path):
    original = with_chapters(whole, tmp_path / source, HOURS if source.endswith("mkv") else 0)
    made = render(original, tmp_path / f"out.{target}")
    with av.open(str(made)) as container:
        chapters = container.chapters()
        picture = container.streams.video[0]
        shown = float(picture.start_time * picture.time_base)
        first = [float(chapter["start"] * chapter["time_base"]) for chapter in chapters]
    if target == "mp4":
        first[0] = shown  # FFmpeg reads the first chapter of mp4 from 0
    assert [round(begin - shown - 2 * number, 2) for number, begin in enumerate(first)] == [0, 0, 0]


# -- leaps ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "unit"), [("in.mkv", 1000), ("in.ts", 90000)])
@pytest.mark.parametrize("hours", [1, 11])
def test_a_leap_in_time_can_be_read_by_old_readers(source, unit, hours, tmp_path):
    times = [unit * i // 25 + (i >= 25) * hours * 3600 * unit for i in range(50)]
    options = {**LOSSLESS, "preset": "medium", "bf": "2"} if source == "in.mkv" else {**LOSSLESS, "bf": "0"}
    original = make_clip(tmp_path / source, times=times, time_base=Fraction(1, unit), options=options)
    made = tmp_path / "out.mp4"
    stylize_video(original, made, controls=PLAIN, encoder=EncoderSettings(preset="medium"))
    with av.open(str(made)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        # FFmpeg 5.1 takes the whole list of offsets for damaged where one is 2^28 or more.
        assert max(abs(packet.pts - packet.dts) for packet in packets) < 1 << 28
        assert max(b.dts - a.dts for a, b in pairwise(packets)) < 1 << 31
    with av.open(str(made)) as container:
        shown = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    assert [time - shown[0] for time in shown] == [Fraction(time - times[0], unit) for time in times]

"""verify finds whatever a viewer or an editor would miss, one thing at a time, and is quiet where nothing is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import Sound, add_track, fill, make_clip, moving_bar, noise, tone_packets

from rtstyle import cli
from rtstyle.cli.options import moment
from rtstyle.errors import SettingError, VideoOpenError
from rtstyle.frame import Size
from rtstyle.verify import VerifyReport, verify_media
from rtstyle.verify.reading import read_media

FRAMES = 24
EVERY = {"g": "1", "bf": "0", "crf": "10", "preset": "ultrafast"}
"""Each frame is a key frame, so that one can be taken out without harm to another."""

ASS_HEADER = b"[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name\nStyle: Default\n\n[Events]\n"
"""FFmpeg's encoders of subtitles take ASS only; without a header they do not open."""

SUBTITLES = [(200, 300, "One line"), (600, 300, "and another")]


def make_film(path: Path, *, tags: tuple[int, int, int, int] = (1, 1, 1, 1), options: dict[str, str] = EVERY) -> Path:
    """A video of 24 frames with uneven times, two tones, subtitles, two chapters, a title; in mkv also a font."""
    matroska = path.suffix == ".mkv"
    with av.open(str(path), "w", container_options={} if matroska else {"movflags": "+use_metadata_tags"}) as container:
        video = container.add_stream("libx264", rate=25, options=options)
        context = video.codec_context
        context.width, context.height, context.pix_fmt, context.time_base = 64, 48, "yuv420p", Fraction(1, 1000)
        context.colorspace, context.color_range, context.color_primaries, context.color_trc = tags
        context.sample_aspect_ratio = Fraction(4, 3)
        video.set_display_rotation(90)
        sounds = [
            Sound(seconds=0.9, language="eng"),
            Sound(seconds=0.8, late=0.1, language="spa", default=False, hertz=660),
        ]
        tracks = [add_track(container, sound) for sound in sounds]
        words = container.add_stream("subrip" if matroska else "mov_text")
        words.codec_context.subtitle_header = ASS_HEADER
        words.metadata["language"] = "fra"
        if matroska:
            container.add_attachment("font.ttf", "font/ttf", bytes(range(200)))
        container.metadata.update({"title": "A video", "comment": "of tests"})
        unit = Fraction(1, 1000)
        container.set_chapters(
            [
                {"id": 1, "start": 0, "end": 500, "time_base": unit, "metadata": {"title": "Beginning"}},
                {"id": 2, "start": 500, "end": 960, "time_base": unit, "metadata": {"title": "End"}},
            ]
        )
        packets = []
        for number in range(FRAMES):
            frame = av.VideoFrame(64, 48, "yuv420p")
            fill(frame, moving_bar(64, 48, number))
            frame.pts, frame.time_base = number * 40 + number % 3, unit
            frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc = tags
            packets += video.encode(frame)
        packets += video.encode(None)
        for track, sound in zip(tracks, sounds, strict=True):
            packets += tone_packets(track, sound)
        for start, length, text in SUBTITLES:
            data = text.encode()
            packet = av.Packet(data if matroska else len(data).to_bytes(2, "big") + data)
            packet.stream, packet.time_base = words, unit
            packet.pts = packet.dts = start
            packet.duration = length
            packets.append(packet)
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            container.mux(packet)
    return path


def remux(
    source: Path,
    target: Path,
    *,
    without: int | None = None,
    change: Callable[[int, int, av.Packet[Any]], av.Packet[Any] | None] | None = None,
    chapters: bool = True,
    chapters_late: Fraction = Fraction(0),
    metadata: Callable[[dict[str, str]], dict[str, str]] = dict,
    streams: Callable[[int, av.stream.Stream], None] | None = None,
) -> Path:
    """Copy a file packet by packet, with one thing done otherwise.

    Args:
        without: Number of a stream that is left out.
        change: Given stream, number in the stream and packet; returns what is written instead.
        streams: Given number and new stream, before the first packet.
    """
    options = {} if target.suffix == ".mkv" else {"movflags": "+use_metadata_tags", "movie_timescale": "48000"}
    with av.open(str(source)) as old, av.open(str(target), "w", container_options=options) as new:
        new.metadata.update(metadata(old.metadata))
        if chapters:
            moved = old.chapters()
            for chapter in moved:
                later = round(chapters_late / chapter["time_base"])
                chapter["start"], chapter["end"] = chapter["start"] + later, chapter["end"] + later
            new.set_chapters(moved)
        made = {}
        for stream in old.streams:
            if stream.index == without or stream.type == "data":
                continue
            if stream.type == "attachment":
                made[stream.index] = new.add_attachment(stream.name, stream.mimetype, stream.data)
                continue
            copy = made[stream.index] = new.add_stream_from_template(stream)
            copy.metadata.update(stream.metadata)
            copy.disposition = stream.disposition
            if streams:
                streams(stream.index, copy)
        counts = dict.fromkeys(made, 0)
        for packet in old.demux():
            index = packet.stream.index
            if index not in made or packet.dts is None:
                continue
            changed = change(index, counts[index], packet) if change else packet
            counts[index] += 1
            if changed is not None:
                changed.stream = made[index]
                new.mux(changed)
    return target


@pytest.fixture(scope="module", params=[".mp4", ".mkv"])
def film(request, tmp_path_factory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / f"in{request.param}")


def differences(report: VerifyReport) -> dict[str, str]:
    return {finding.subject: finding.words for finding in report.differences}


def verdicts(report: VerifyReport) -> dict[str, str]:
    return {finding.subject: finding.verdict for finding in report.findings}


def shifted(ticks: int, *, stream: int, number: int):
    def change(index: int, count: int, packet: av.Packet[Any]) -> av.Packet[Any]:
        if (index, count) == (stream, number):
            packet.pts += ticks
            packet.dts += ticks if stream else 0  # in mp4 audio has only one of them
        return packet

    return change


def flipped(*, stream: int, number: int):
    def change(index: int, count: int, packet: av.Packet[Any]) -> av.Packet[Any]:
        if (index, count) != (stream, number):
            return packet
        data = bytearray(bytes(packet))
        data[len(data) // 2] ^= 4
        other = av.Packet(bytes(data))
        other.pts, other.dts, other.duration = packet.pts, packet.dts, packet.duration
        other.time_base, other.is_keyframe = packet.time_base, packet.is_keyframe
        return other

    return change


def dropped(*, stream: int, number: int):
    return lambda index, count, packet: None if (index, count) == (stream, number) else packet


def changed_stream(number: int, act: Callable[[av.stream.Stream], None]):
    return lambda index, stream: act(stream) if index == number else None


# -- nothing is wrong ------------------------------------------------------------------------------


def test_a_copy_is_clean(film, tmp_path):
    report = verify_media(film, remux(film, tmp_path / f"out{film.suffix}"))
    assert set(verdicts(report).values()) == {"same"}
    assert report.damage == ()
    subjects = set(verdicts(report))
    assert {"frames", "times", "rotation", "pixel aspect", "matrix", "audio 2 packets", "subtitle 1 times",
            "chapters", "metadata"} <= subjects  # fmt: skip
    assert ("attachment 1" in subjects) == (film.suffix == ".mkv")


@pytest.mark.parametrize(("before", "after"), [(".mp4", ".mkv"), (".mkv", ".mov"), (".mp4", ".mov"), (".mp4", ".nut")])
def test_a_copy_in_another_container_keeps_everything_that_it_can(tmp_path, before, after):
    film = make_film(tmp_path / f"in{before}")
    with av.open(str(film)) as container:
        # A container takes subtitles in its own form only, and fonts in Matroska only.
        left = [s.index for s in container.streams if s.type in ("subtitle", "attachment")]
    bare = film
    for step, index in enumerate(reversed(left)):
        bare = remux(bare, tmp_path / f"bare{step}{before}", without=index)
    report = verify_media(bare, remux(bare, tmp_path / f"out{after}"))
    # NUT knows no rotation, so the frame lies on its side.
    lost = {"rotation", "size", "pixel aspect", "chapters"} if after == ".nut" else set()
    if after == ".mov" and int(av.__version__.split(".")[0]) >= 19:
        lost = {"audio 1 packets"}  # FFmpeg 9 counts the lead-in twice, and its own reader then misses the last packet
    assert set(differences(report)) <= lost, differences(report)
    if after == ".mov":
        assert next(f.words for f in report.findings if f.subject == "times") == "equal to the last digit"


def test_matroska_may_round_to_a_millisecond_and_move_all_in_step(tmp_path):
    film = make_clip(tmp_path / "in.mp4", times=range(30), time_base=Fraction(1001, 30000), sounds=[Sound()])
    report = verify_media(film, remux(film, tmp_path / "out.mkv"))
    times = next(finding for finding in report.findings if finding.subject == "times")
    assert differences(report) == {}
    if int(av.__version__.split(".")[0]) < 19:
        assert times.verdict == "intended"  # the AAC encoder's priming begins before 0
        assert "21 ms later" in times.words
    assert re.search(r"largest deviation 0\.[1-5]\d* ms", times.words)


# -- one thing is wrong ----------------------------------------------------------------------------


def all_later(seconds: int):
    def change(index: int, number: int, packet: av.Packet[Any]) -> av.Packet[Any]:
        packet.pts, packet.dts = (int(time + seconds / packet.time_base) for time in (packet.pts, packet.dts))
        return packet

    return change


FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "audio is gone": ({"without": 2}, "audio 2", "lost"),
    "subtitles are gone": ({"without": 3}, "subtitle 1", "lost"),
    "a frame is gone": ({"change": dropped(stream=0, number=7)}, "frames", "1 missing, the first at 0.281 s"),
    "the last frame is gone": ({"change": dropped(stream=0, number=FRAMES - 1)}, "frames", "1 missing"),
    "a frame is a tick late": ({"change": shifted(1, stream=0, number=7)}, "times", "1 frames are shown at another"),
    "a packet of audio is gone": ({"change": dropped(stream=1, number=20)}, "audio 1 packets", "1 missing"),
    "a byte of audio is flipped": ({"change": flipped(stream=1, number=20)}, "audio 1 packets", "1 changed"),
    "a byte of a subtitle is flipped": ({"change": flipped(stream=3, number=1)}, "subtitle 1 packets", "1 changed"),
    "audio changed its language": (
        {"streams": changed_stream(1, lambda s: s.metadata.update(language="ita"))}, "audio 1", "other language"),
    "another audio stream is the default": (
        {"streams": lambda i, s: setattr(s, "disposition", av.stream.Disposition(int(i == 2)))}, "audio 1", "default"),
    "rotation is gone": (
        {"streams": changed_stream(0, lambda s: s.set_display_rotation(0))}, "rotation", "not the right side up"),
    "rotation is the other way": (
        {"streams": changed_stream(0, lambda s: s.set_display_rotation(-90))}, "rotation", "not the right side up"),
    "chapters are out of step": ({"chapters_late": Fraction(1, 10)}, "chapters", "up to 100 ms off"),
    "hours of nothing come first": ({"change": all_later(8 * 3600)}, "times", "everything is 2.88e+07 ms later"),
    "chapters are gone": ({"chapters": False}, "chapters", "lost"),
    "the title is gone": ({"metadata": lambda old: {**old, "title": ""}}, "metadata", "lost: title"),
    "the comment is another": ({"metadata": lambda old: {**old, "comment": "?"}}, "metadata", "changed: comment"),
}  # fmt: skip
"""What is done to a copy, and the one finding that must tell."""


@pytest.mark.parametrize("fault", FAULTS)
def test_one_fault_is_found_and_nothing_else(film, tmp_path, fault):
    what, subject, words = FAULTS[fault]
    report = verify_media(film, remux(film, tmp_path / f"out{film.suffix}", **what))
    found = differences(report)
    assert words in found[subject]
    allowed = {
        "another audio stream is the default": {"audio 2"},
        "hours of nothing come first": {"chapters", "subtitle 1 packets"},
        "rotation is gone": {"size", "pixel aspect"},
        "the last frame is gone": {"end of the video"},
    }
    assert set(found) - {subject} <= allowed.get(fault, set()), found


def test_audio_that_is_a_tick_late_is_found(film, tmp_path):
    report = verify_media(film, remux(film, tmp_path / f"out{film.suffix}", change=shifted(1, stream=2, number=10)))
    # mp4 keeps lengths of packets, so the one before is longer and all later ones follow.
    assert set(differences(report)) == {"audio 2 times"}


def test_audio_that_starts_late_by_20_ms_is_found(film, tmp_path):
    def later(index: int, _: int, packet: av.Packet[Any]) -> av.Packet[Any]:
        if index == 2:
            packet.pts += int(Fraction(20, 1000) / packet.time_base)
            packet.dts += int(Fraction(20, 1000) / packet.time_base)
        return packet

    report = verify_media(film, remux(film, tmp_path / f"out{film.suffix}", change=later))
    assert differences(report) == {"audio 2 times": "largest deviation from the video 20 ms"}


def test_an_attachment_that_is_gone_or_another_is_found(tmp_path):
    film = make_film(tmp_path / "in.mkv")
    gone = remux(film, tmp_path / "gone.mkv", without=4)
    assert differences(verify_media(film, gone)) == {"attachment 1": "lost"}
    assert differences(verify_media(gone, film)) == {"attachment": "is not in the input"}


@pytest.mark.parametrize(
    ("tags", "subject"),
    [((5, 1, 1, 1), "matrix"), ((1, 2, 1, 1), "range"), ((1, 1, 9, 1), "primaries"), ((1, 1, 1, 16), "transfer")],
)
def test_a_wrong_tag_of_color_is_found(tmp_path, tags, subject):
    film = make_film(tmp_path / "in.mp4")
    report = verify_media(film, make_film(tmp_path / "out.mp4", tags=tags))
    assert list(differences(report)) == [subject]


def test_a_lost_tag_of_color_is_found(tmp_path):
    film = make_film(tmp_path / "in.mp4")
    report = verify_media(film, make_film(tmp_path / "out.mp4", tags=(2, 0, 2, 2)))
    assert set(differences(report)) == {"matrix", "primaries", "transfer"}  # limited range is what no tag means


@pytest.mark.parametrize(
    ("before", "after", "subject"),
    [
        ({}, {"width": 66}, "size"),
        ({"sar": Fraction(16, 15)}, {}, "pixel aspect"),
        ({}, {"options": {"preset": "ultrafast", "flags": "+ildct", "x264-params": "tff=1"}}, "scan"),
    ],
)
def test_another_shape_is_found(tmp_path, before, after, subject):
    film, other = make_clip(tmp_path / "in.mp4", **before), make_clip(tmp_path / "out.mp4", **after)
    assert list(differences(verify_media(film, other))) == [subject]


def test_a_longer_last_frame_is_found(tmp_path):
    def longer(_: int, count: int, packet: av.Packet[Any]) -> av.Packet[Any]:
        packet.duration *= 20 if count == 9 else 1
        return packet

    film = make_clip(tmp_path / "in.mp4", options=EVERY)
    slides = remux(film, tmp_path / "slides.mp4", change=longer)
    assert list(differences(verify_media(slides, film))) == ["end of the video"]


# -- what rtstyle means to do ----------------------------------------------------------------------


def test_what_was_asked_for_is_intended(tmp_path):
    film = make_clip(tmp_path / "in.mp4", sounds=[Sound()])
    mute = remux(film, tmp_path / "mute.mp4", without=1)
    assert differences(verify_media(film, mute)) == {"audio 1": "lost"}
    assert verdicts(verify_media(film, mute, audio=False))["audio 1"] == "intended"
    copy = remux(film, tmp_path / "copy.mp4")
    assert differences(verify_media(film, copy, audio=False)) == {"audio 1": "was to be left out"}
    small = make_clip(tmp_path / "small.mp4", width=32, height=24, sounds=[Sound()])
    assert list(differences(verify_media(film, small))) == ["size"]
    assert verdicts(verify_media(film, small, size=Size(32, 24)))["size"] == "intended"
    assert list(differences(verify_media(film, small, size=Size(64, 24)))) == ["size"]


def test_a_part_is_compared_with_that_part(tmp_path):
    film = make_clip(tmp_path / "in.mkv", options=EVERY, times=range(50), sounds=[Sound(seconds=2)])
    start, end = Fraction(3, 5), Fraction(6, 5)

    def cut(_: int, __: int, packet: av.Packet[Any]) -> av.Packet[Any] | None:
        if not start <= packet.pts * packet.time_base < end:
            return None
        packet.pts, packet.dts = packet.pts - 600, packet.dts - 600
        return packet

    part = remux(film, tmp_path / "part.mkv", change=cut)
    report = verify_media(film, part, start=start, end=end)
    assert differences(report) == {}
    assert next(f for f in report.findings if f.subject == "frames").source == "15 of 50"
    assert "frames" in differences(verify_media(film, part))
    assert "frames" in differences(verify_media(film, part, start=start, end=end + Fraction(1, 25)))
    early = verify_media(film, part, start=start - Fraction(1, 25), end=end - Fraction(1, 25))
    assert differences(early) == {"audio 1 times": "largest deviation from the video 40 ms"}


def test_pixels_that_are_turned_upright_are_intended_and_only_those(tmp_path):
    pictures = [noise(64, 48, 1)] * 5
    turned = [tuple(np.rot90(plane).copy() for plane in picture) for picture in pictures]
    wrong = [tuple(np.rot90(plane, -1).copy() for plane in picture) for picture in pictures]
    film = make_clip(tmp_path / "in.mp4", pictures, times=range(5), rotation=90)
    good = make_clip(tmp_path / "good.mp4", turned, width=48, height=64, times=range(5))
    bad = make_clip(tmp_path / "bad.mp4", wrong, width=48, height=64, times=range(5))
    assert verdicts(verify_media(film, good))["rotation"] == "intended"
    assert differences(verify_media(film, good)) == {}
    assert list(differences(verify_media(film, bad))) == ["rotation"]


def test_a_deinterlaced_frame_is_intended(tmp_path):
    film = make_clip(tmp_path / "in.mp4", options={"preset": "ultrafast", "flags": "+ildct", "x264-params": "tff=1"})
    report = verify_media(film, make_clip(tmp_path / "out.mp4"))
    assert verdicts(report)["scan"] == "intended"
    assert differences(report) == {}


def test_hdr_that_is_mapped_to_sdr_is_intended_if_it_is_tagged_so(tmp_path):
    options = {"preset": "ultrafast"}
    deep = [tuple(plane.astype(np.uint16) << 2 for plane in moving_bar(64, 48, i)) for i in range(10)]
    film = make_clip(tmp_path / "in.mp4", deep, pix_fmt="yuv420p10le", tags=(9, 1, 9, 16), options=options)
    report = verify_media(film, make_clip(tmp_path / "out.mp4", tags=(1, 1, 1, 1)))
    assert differences(report) == {}
    assert verdicts(report)["transfer"] == verdicts(report)["samples"] == "intended"
    assert "matrix" in differences(verify_media(film, make_clip(tmp_path / "wrong.mp4", tags=(9, 1, 1, 1))))


def test_transcoded_audio_is_intended_only_where_it_must_be(tmp_path):
    film = make_clip(tmp_path / "in.mkv", times=range(25), sounds=[Sound("pcm_s16le", seconds=1)])
    report = verify_media(film, make_clip(tmp_path / "out.mkv", times=range(25), sounds=[Sound("flac", seconds=1)]))
    assert verdicts(report)["audio 1 samples"] == "same"  # every sample is equal
    aac = make_clip(tmp_path / "aac.mkv", times=range(25), sounds=[Sound("aac", seconds=1)])
    assert "though matroska can hold" in differences(verify_media(film, aac))["audio 1 samples"]
    webm: dict[str, Any] = {"codec": "libvpx-vp9", "options": {"deadline": "realtime"}, "times": range(25)}
    opus = make_clip(tmp_path / "out.webm", **webm, sounds=[Sound("libopus", seconds=1)])
    assert verdicts(verify_media(film, opus))["audio 1 samples"] == "intended"
    short = make_clip(tmp_path / "short.webm", **webm, sounds=[Sound("libopus", seconds=0.9)])
    assert "less" in differences(verify_media(film, short))["audio 1 samples"]


def test_transcoded_subtitles_are_the_same_if_their_words_are(tmp_path, monkeypatch):
    film, other = make_film(tmp_path / "in.mkv"), make_film(tmp_path / "out.mp4")
    report = verify_media(film, other)
    assert verdicts(report)["subtitle 1 text"] == "same"
    assert differences(report)["attachment 1"] == "lost: mp4 cannot hold it, .mkv can"
    monkeypatch.setattr(sys.modules[__name__], "SUBTITLES", [SUBTITLES[0], (*SUBTITLES[1][:2], "and one more")])
    other = make_film(tmp_path / "other.mp4")
    assert differences(verify_media(film, other))["subtitle 1 text"] == "other words"


def test_transparency_that_is_lost_is_found(tmp_path):
    alpha = np.zeros((48, 64), np.uint8)
    alpha[:, :32] = 255
    pictures = [(*noise(64, 48, 1), plane) for plane in (alpha,) * 5]
    film = make_clip(tmp_path / "in.mkv", pictures, pix_fmt="yuva420p", codec="ffv1", options={}, times=range(5))
    copy = remux(film, tmp_path / "copy.mkv")
    assert verdicts(verify_media(film, copy))["alpha"] == "same"
    flat = make_clip(tmp_path / "flat.mkv", [p[:3] for p in pictures], codec="ffv1", options={}, times=range(5))
    assert "lost" in differences(verify_media(film, flat))["alpha"]
    other = [(*picture[:3], alpha[:, ::-1]) for picture in pictures]
    turned = make_clip(tmp_path / "t.mkv", other, pix_fmt="yuva420p", codec="ffv1", options={}, times=range(5))
    assert "off" in differences(verify_media(film, turned))["alpha"]


def test_a_file_without_times_must_come_out_even(tmp_path):
    raw = make_clip(tmp_path / "in.h264", options=EVERY)
    report = verify_media(raw, make_clip(tmp_path / "out.mp4"))
    assert verdicts(report)["times"] == "intended"
    assert differences(report) == {}
    uneven = make_clip(tmp_path / "uneven.mp4", times=[0, 1, 2, 4, 5, 6, 7, 8, 9, 10])
    assert list(differences(verify_media(raw, uneven))) == ["times"]


# -- damage, and files that cannot be compared -----------------------------------------------------


def test_a_damaged_input_is_reported_and_the_rest_still_compared(tmp_path):
    film = make_clip(tmp_path / "film.mkv", times=range(100), options={"g": "10", "preset": "ultrafast"})
    data = film.read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(data[: len(data) * 6 // 10])
    report = verify_media(cut, remux(cut, tmp_path / "out.mkv"))
    assert differences(report) == {}
    assert "cut off" in report.damage[0]


def test_a_damaged_output_is_a_difference(tmp_path):
    film = make_clip(tmp_path / "film.mp4", times=range(100), muxer={"movflags": "+faststart"})
    data = film.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: len(data) * 6 // 10])
    assert {"frames", "the output itself"} <= set(differences(verify_media(film, cut)))


def test_what_cannot_be_compared_is_one_error(tmp_path):
    film = make_clip(tmp_path / "film.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(VideoOpenError, match="no such file"):
        verify_media(film, tmp_path / "none.mp4")
    with pytest.raises(VideoOpenError, match="cannot be read as media"):
        verify_media(tmp_path / "text.mp4", film)
    with pytest.raises(SettingError, match="the same file"):
        verify_media(film, film)
    with pytest.raises(SettingError, match="--end must lie behind --start"):
        verify_media(film, tmp_path / "none.mp4", start=Fraction(2), end=Fraction(1))


def test_progress_may_stop_it(tmp_path):
    film = make_clip(tmp_path / "film.mp4", times=range(200))
    copy = remux(film, tmp_path / "copy.mp4")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify_media(film, copy, progress=stop)


def test_files_without_video_can_be_compared(tmp_path):
    film = make_clip(tmp_path / "film.mkv", sounds=[Sound()])
    sound = remux(film, tmp_path / "sound.mkv", without=0)
    assert differences(verify_media(sound, remux(sound, tmp_path / "copy.mkv"))) == {}
    assert "video" in differences(verify_media(film, sound))


# -- the command -----------------------------------------------------------------------------------


def test_the_command_prints_a_table_and_says_it_by_its_exit_code(film, tmp_path, capsys):
    copy = remux(film, tmp_path / f"copy{film.suffix}")
    assert cli.main(["verify", str(film), str(copy)]) == 0
    out, err = capsys.readouterr()
    assert "rotation" in out
    assert err.strip() == f"rtstyle: {copy}: nothing is lost"
    mute = remux(film, tmp_path / f"mute{film.suffix}", without=1)
    assert cli.main(["verify", str(film), str(mute), "--json"]) == 1
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert err == ""
    assert report["differences"] == 1
    assert [f["subject"] for f in report["findings"] if f["verdict"] == "differs"] == ["audio 1"]


def test_the_command_says_3_where_only_the_input_is_damaged(tmp_path, capsys):
    film = make_clip(tmp_path / "film.mkv", times=range(100), options={"g": "10", "preset": "ultrafast"})
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    copy = remux(film, tmp_path / "out.mkv")
    assert cli.main(["verify", str(film), str(copy), "--quiet"]) == 3
    assert "the input is damaged" in capsys.readouterr().err
    assert cli.main(["verify", str(film), str(tmp_path / "none.mkv")]) == 1
    assert capsys.readouterr().err.startswith("rtstyle: error: no such file")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90.5", Fraction(181, 2)), ("1:30.5", Fraction(181, 2)), ("1:00:00", 3600)]
)
def test_moments_are_read_exactly(text, seconds):
    assert moment(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "-1", "1:x", "1/0"])
def test_what_is_no_moment_is_refused(film, text, capsys):
    assert cli.main(["verify", str(film), "out.mp4", "--start", text]) == 2
    assert "a moment is seconds" in capsys.readouterr().err


# -- an independent reader -------------------------------------------------------------------------


@pytest.fixture
def ffprobe() -> str:
    """The system's own ffprobe, which is another build than the one inside PyAV."""
    found = shutil.which("ffprobe")
    if not found:
        required = os.environ.get("RTSTYLE_REQUIRE", "").split(",")
        (pytest.fail if "ffprobe" in required else pytest.skip)("no ffprobe on this machine")
    return found


def test_ffprobe_reads_the_same(film, ffprobe, tmp_path):
    hurried = make_clip(tmp_path / "b.mp4", times=[0, 1, 2, 5, 6, 9, 10, 11], sounds=[Sound(late=0.2)], rotation=180)
    for path in (film, hurried):
        said = {}
        for what in ("frames", "packets", "streams", "chapters"):
            words = [ffprobe, "-v", "error", "-of", "json", f"-show_{what}", path]
            said |= json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
        media = read_media(path)
        pictures = media.video
        assert pictures is not None
        video, *others = [s for s in said["streams"] if s["codec_type"] in ("video", "audio", "subtitle")]
        num, den = map(int, video["time_base"].split("/"))
        frames = [frame for frame in said["frames"] if frame["media_type"] == "video"]
        assert pictures.times == [Fraction(frame["pts"] * num, den) for frame in frames]
        assert pictures.size == (video["width"], video["height"])
        sides = [int(side["rotation"]) for side in video.get("side_data_list", ()) if "rotation" in side]
        assert sides
        assert (sides[0] - int(str(pictures.orientation).rstrip("°"))) % 360 == 0
        if "color_space" in video:
            assert (video["color_space"], video["color_range"], video["color_primaries"]) == ("bt709", "tv", "bt709")
            assert (pictures.tags.matrix, pictures.tags.range, pictures.tags.primaries) == (1, 1, 1)
        if "sample_aspect_ratio" in video:
            assert pictures.pixel_aspect == Fraction(video["sample_aspect_ratio"].replace(":", "/"))
        tracks = [track for track in media.streams if track.type in ("audio", "subtitle")]
        assert [track.codec for track in tracks] == [other["codec_name"] for other in others]
        assert [track.language for track in tracks] == [
            "" if (tag := other.get("tags", {}).get("language", "und")) == "und" else tag for other in others
        ]
        for track, other in zip(tracks, others, strict=True):
            packets = [packet for packet in said["packets"] if packet["stream_index"] == other["index"]]
            packets = [packet for packet in packets if "D" not in packet["flags"]]  # hidden by an edit list
            assert track.times == [packet["pts"] for packet in packets]
        assert [chapter[2] for chapter in media.chapters] == [c["tags"]["title"] for c in said["chapters"]]

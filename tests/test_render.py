"""A render in segments is one video, and an interrupted one continues as if nothing had happened."""

import json
import os
import signal
from dataclasses import replace
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from clips import Sound, look, make_clip

from rtstyle import memory
from rtstyle.backends import Controls, EngineSettings
from rtstyle.canvas import CanvasTracker
from rtstyle.errors import OutputExistsError, RtstyleError, SettingError, VideoOpenError, VideoWriteError
from rtstyle.frame import Size
from rtstyle.render import RenderOptions, plan, segments, stylize_video
from rtstyle.render.journal import Journal
from rtstyle.render.segments import segment_frames
from rtstyle.video import EncoderSettings
from rtstyle.video.work_folder import WorkFolder

FRAMES, SEGMENT = 50, 12
WITH_B_FRAMES = EncoderSettings(codec="libx264", preset="veryfast", crf=23)


class Broken(Exception):
    pass


@pytest.fixture(autouse=True)
def _short_segments(monkeypatch):
    monkeypatch.setattr(segments, "segment_frames", lambda size: SEGMENT)


def pan(count: int = FRAMES, width: int = 160, height: int = 128):
    """A textured scene that a camera pans over, so that the canvas has to follow."""
    rng = np.random.default_rng(0)
    scene = np.kron(rng.integers(30, 220, (height // 8 + 2, (width + 3 * count) // 8 + 2)), np.ones((8, 8)))
    flat = np.full((height // 2, width // 2), 128, np.uint8)
    return [(scene[:height, 3 * i : 3 * i + width].astype(np.uint8), flat, flat) for i in range(count)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A variable frame rate, B-frames, a late start, and a tone."""
    times = [200 + 1001 * i + (i % 5) * 173 for i in range(FRAMES)]
    return make_clip(
        tmp_path_factory.mktemp("render") / "in.mp4",
        pan(),
        width=160,
        height=128,
        times=times,
        time_base=Fraction(1, 30000),
        rate=Fraction(30000, 1001),
        options={"crf": "10", "preset": "medium", "g": "17"},
        sounds=[Sound(seconds=1.6)],
    )


def interrupted(source, target, after: int, **options) -> None:
    """Render up to a frame and break off as a crash of the machine would not be kinder."""

    def stop(done: int, total: int | None, label: str) -> None:
        if done == after:
            raise Broken

    with pytest.raises(Broken):
        stylize_video(source, target, progress=stop, **options)


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_segments_are_a_few_seconds_and_depend_on_the_size_only():
    assert segment_frames(Size(1280, 720)) == 90
    assert (
        12
        <= segment_frames(Size(7680, 4320))
        < segment_frames(Size(1920, 1080))
        < segment_frames(Size(640, 360))
        == 120
    )


@pytest.mark.parametrize(
    ("name", "codec", "slack"),
    [
        ("out.mp4", "libx264", 0),
        ("out.mov", "libx264", 0),
        ("out.mkv", "libx264", Fraction(1, 2000)),
        ("out.ts", "libx264", Fraction(1, 90000)),
        ("out.mp4", "libx265", 0),
        ("out.webm", "libvpx-vp9", Fraction(1, 2000)),
        ("out.mp4", "libsvtav1", 0),
        ("out.mov", "prores_ks", 0),
        ("out.mkv", "ffv1", Fraction(1, 2000)),
    ],
)
def test_joined_segments_are_one_video(clip, tmp_path, name, codec, slack):
    report = stylize_video(clip, tmp_path / name, encoder=EncoderSettings(codec=codec))
    before, after = look(clip), look(tmp_path / name)
    assert report.frames_out == len(after.times) == FRAMES
    # Matroska and MPEG-TS have no times below 0, so everything in them moves later together.
    moved = after.times[0] - before.times[0] if slack else 0
    assert max(abs(a - moved - b) for a, b in zip(after.times, before.times, strict=True)) <= 2 * slack
    if name == "out.webm":
        return  # its audio is re-encoded: see test_copies.py
    sound_moved = after.packets[0][0][0] - before.packets[0][0][0]
    assert abs(sound_moved - moved) <= Fraction(1, 500)
    assert names(tmp_path) == [name]


def test_each_segment_stands_by_itself(clip, tmp_path):
    # A decoder that has seen nothing else gives the same frames.
    stylize_video(clip, tmp_path / "out.mp4", encoder=WITH_B_FRAMES)
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        whole = [frame.to_ndarray(format="gray") for frame in container.decode(stream)]
        container.seek(0, stream=stream)
        packets = [packet for packet in container.demux(stream) if packet.size]
        headers = stream.codec_context.extradata
    starts = [number for number, packet in enumerate(packets) if packet.is_keyframe]
    assert starts == list(range(0, FRAMES, SEGMENT))
    alone = []
    for start in starts:
        decoder = av.CodecContext.create("h264", "r")
        decoder.extradata = headers
        for packet in [*packets[start : start + SEGMENT], None]:
            alone += [frame.to_ndarray(format="gray") for frame in decoder.decode(packet)]
    assert np.array_equal(alone, whole)


@pytest.mark.parametrize("after", [SEGMENT + 1, 2 * SEGMENT, FRAMES - 1, FRAMES])
def test_a_resumed_render_is_the_unbroken_one_byte_for_byte(clip, tmp_path, after):
    unbroken, target = tmp_path / "unbroken.mp4", tmp_path / "out.mp4"
    stylize_video(clip, unbroken, encoder=WITH_B_FRAMES)
    interrupted(clip, target, after, encoder=WITH_B_FRAMES)
    assert names(tmp_path) == [".out.mp4.rtstyle", "unbroken.mp4"]
    report = stylize_video(clip, target, encoder=WITH_B_FRAMES, options=RenderOptions(resume=True))
    # The segment that was just ended when it broke off may or may not have been noted.
    assert after - report.resumed_at <= SEGMENT
    assert report.frames_out == FRAMES
    assert target.read_bytes() == unbroken.read_bytes()
    assert names(tmp_path) == ["out.mp4", "unbroken.mp4"]


def test_a_render_may_be_interrupted_again_and_again(clip, tmp_path):
    unbroken, target = tmp_path / "unbroken.mkv", tmp_path / "out.mkv"
    part = RenderOptions(start=Fraction(1, 4), size=Size(176, 144))
    again = replace(part, resume=True)
    stylize_video(clip, unbroken, encoder=WITH_B_FRAMES, options=part)
    interrupted(clip, target, SEGMENT + 2, encoder=WITH_B_FRAMES, options=part)
    interrupted(clip, target, 2 * SEGMENT + 3, encoder=WITH_B_FRAMES, options=again)
    assert stylize_video(clip, target, encoder=WITH_B_FRAMES, options=again).resumed_at == 2 * SEGMENT
    one, other = look(target), look(unbroken)  # Matroska numbers every file by chance
    assert one.times == other.times
    assert np.array_equal(one.pictures[-1][0], other.pictures[-1][0])
    assert one.packets == other.packets


def test_a_torn_journal_and_a_half_written_segment_cost_that_segment_only(clip, tmp_path):
    unbroken, target = tmp_path / "unbroken.mp4", tmp_path / "out.mp4"
    stylize_video(clip, unbroken)
    interrupted(clip, target, 3 * SEGMENT + 1)
    folder = tmp_path / ".out.mp4.rtstyle"
    journal = folder / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == 4
    journal.write_bytes(b"".join(lines[:3]) + lines[3][: len(lines[3]) // 2])
    # As it was before the third line was written, the state behind the second segment is still there.
    (folder / "canvas-2.npz").rename(folder / "canvas-1.npz")
    (folder / "segment-00002.nut").write_bytes(b"half")
    interrupted(clip, tmp_path / "again.mp4", 2 * SEGMENT + 1)
    (tmp_path / ".again.mp4.rtstyle" / "canvas-1.npz").replace(folder / "canvas-1.npz")
    # What comes behind the torn line must be read again, too.
    interrupted(clip, target, 3 * SEGMENT + 2, options=RenderOptions(resume=True))
    report = stylize_video(clip, target, options=RenderOptions(resume=True))
    assert report.resumed_at == 3 * SEGMENT
    assert target.read_bytes() == unbroken.read_bytes()


def test_a_journal_whose_files_are_gone_begins_again(clip, tmp_path):
    interrupted(clip, tmp_path / "out.mp4", SEGMENT + 1)
    (tmp_path / ".out.mp4.rtstyle" / "segment-00000.packets").unlink()
    report = stylize_video(clip, tmp_path / "out.mp4", options=RenderOptions(resume=True))
    assert (report.resumed_at, report.frames_out) == (0, FRAMES)


def test_resume_with_nothing_to_resume_is_a_plain_render(clip, tmp_path):
    report = stylize_video(clip, tmp_path / "out.mp4", options=RenderOptions(resume=True))
    assert (report.resumed_at, report.frames_out) == (0, FRAMES)


def test_hours_of_work_are_not_thrown_away_without_being_asked(clip, tmp_path):
    target = tmp_path / "out.mp4"
    interrupted(clip, target, SEGMENT + 1)
    with pytest.raises(OutputExistsError, match=rf"stands at frame {SEGMENT}: --resume continues .*-y .* starts over"):
        stylize_video(clip, target)
    report = stylize_video(clip, target, options=RenderOptions(overwrite=True))
    assert (report.resumed_at, report.frames_out) == (0, FRAMES)
    assert names(tmp_path) == ["out.mp4"]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"encoder": EncoderSettings(crf=30)}, "crf was null and is 30 now"),
        ({"controls": Controls.of(0.5)}, "strength was"),
        ({"options": RenderOptions(start=Fraction(1, 2), resume=True)}, "range was"),
        ({"options": RenderOptions(audio=False, resume=True)}, "streams was"),
        ({"engine": EngineSettings(backend="torch")}, "with torch: it was begun with openvino"),
        ({"engine": EngineSettings(precision="f16")}, "with f16: it was begun with openvino"),
    ],
)
def test_a_render_is_not_resumed_with_other_settings(clip, tmp_path, other, said):
    target = tmp_path / "out.mp4"
    interrupted(clip, target, SEGMENT + 1)
    with pytest.raises(SettingError, match=f"cannot resume .*{said}"):
        stylize_video(clip, target, **{"options": RenderOptions(resume=True)} | other)
    kept = stylize_video(clip, target, options=RenderOptions(resume=True)).resumed_at
    assert kept == SEGMENT, "the refusal cost the work"


def test_a_render_is_not_resumed_with_another_input(clip, tmp_path):
    interrupted(clip, tmp_path / "out.mp4", SEGMENT + 1)
    other = make_clip(tmp_path / "other.mp4", pan(), width=160, height=128, times=range(FRAMES), sounds=[Sound()])
    with pytest.raises(SettingError, match="input was"):
        stylize_video(other, tmp_path / "out.mp4", options=RenderOptions(resume=True))


@pytest.mark.parametrize("given", ["folder", "pattern"])
def test_a_render_of_frames_is_resumed(tmp_path, given):
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, (y, _, _) in enumerate(pan(40)):
        cv2.imwrite(str(folder / f"{number:03d}.png"), y)
    source = folder if given == "folder" else folder / "%03d.png"
    stylize_video(source, tmp_path / "unbroken.mp4")
    interrupted(source, tmp_path / "out.mp4", 2 * SEGMENT + 1)
    assert stylize_video(source, tmp_path / "out.mp4", options=RenderOptions(resume=True)).resumed_at == 2 * SEGMENT
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "unbroken.mp4").read_bytes()
    interrupted(source, tmp_path / "other.mp4", SEGMENT + 1)
    (folder / "005.png").unlink()
    with pytest.raises(RtstyleError, match=r"input was|no frame|missing"):
        stylize_video(source, tmp_path / "other.mp4", options=RenderOptions(resume=True))


def test_a_frame_that_decodes_otherwise_than_then_is_noticed(clip, tmp_path):
    interrupted(clip, tmp_path / "out.mp4", SEGMENT + 1)
    journal = tmp_path / ".out.mp4.rtstyle" / "journal.jsonl"
    header, line = (json.loads(text) for text in journal.read_text().splitlines())
    line["digest"] = "0" * len(line["digest"])
    journal.write_text(json.dumps(header) + "\n" + json.dumps(line) + "\n")
    with pytest.raises(VideoOpenError, match="decodes to other frames than when its render was begun"):
        stylize_video(clip, tmp_path / "out.mp4", options=RenderOptions(resume=True))


@pytest.mark.parametrize("name", ["out.gif", "frames-%03d.png"])
def test_what_is_written_straight_through_cannot_be_resumed(clip, tmp_path, name):
    with pytest.raises(SettingError, match="cannot be resumed"):
        stylize_video(clip, tmp_path / name, options=RenderOptions(resume=True))
    assert names(tmp_path) == []


def test_two_runs_on_one_output_at_once(clip, tmp_path):
    with WorkFolder(tmp_path / "out.mp4"):
        with pytest.raises(VideoWriteError, match=r"another rtstyle is writing .*out\.mp4"):
            stylize_video(clip, tmp_path / "out.mp4")
        with pytest.raises(VideoWriteError, match="another rtstyle is writing"):
            stylize_video(clip, tmp_path / "out.mp4", options=RenderOptions(resume=True, overwrite=True))
    assert names(tmp_path) == []
    stylize_video(clip, tmp_path / "out.mp4")


def test_ctrl_c_keeps_a_playable_part_and_the_way_on(clip, tmp_path):
    target = tmp_path / "out.mp4"

    def press(done: int, total: int | None, label: str) -> None:
        if done == 2 * SEGMENT + 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as caught:
        stylize_video(clip, target, progress=press)
    assert names(tmp_path) == [".out.mp4.rtstyle", "out.partial.mp4"]
    kept = look(tmp_path / "out.partial.mp4")
    assert kept.times == look(clip).times[: 2 * SEGMENT + 3]
    assert kept.packets[0], "the part has no audio"
    assert kept.packets[0][-1][0] <= kept.times[-1] + Fraction(1, 10), "the audio continues behind the frame"
    assert caught.value.__notes__ == [
        f"the {2 * SEGMENT + 3} finished frames are kept in {tmp_path / 'out.partial.mp4'}",
        f"--resume continues behind frame {2 * SEGMENT}",
    ]
    assert stylize_video(clip, target, options=RenderOptions(resume=True)).frames_out == FRAMES


def test_an_error_behind_a_finished_segment_says_how_to_continue(clip, tmp_path):
    def stop(done: int, total: int | None, label: str) -> None:
        if done == SEGMENT + 1:
            raise Broken

    with pytest.raises(Broken) as caught:
        stylize_video(clip, tmp_path / "out.mp4", progress=stop)
    assert caught.value.__notes__ == [f"--resume continues behind frame {SEGMENT}"]


def test_a_failure_at_the_very_end_says_how_to_continue_too(clip, tmp_path):
    target = tmp_path / "out.mp4"

    def get_in_the_way(done: int, total: int | None, label: str) -> None:
        if done == FRAMES and not target.exists():
            target.mkdir()

    with pytest.raises(VideoWriteError, match="cannot write") as caught:
        stylize_video(clip, target, progress=get_in_the_way)
    assert caught.value.__notes__ == [f"--resume continues behind frame {FRAMES // SEGMENT * SEGMENT}"]
    target.rmdir()
    assert stylize_video(clip, target, options=RenderOptions(resume=True)).frames_out == FRAMES


def test_a_damaged_place_is_counted_once(tmp_path):
    source = make_clip(tmp_path / "in.mkv", pan(), width=160, height=128, times=range(FRAMES), options={"g": "1"})
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    for number in (5, 30):
        place = data.index(packets[number])
        data[place : place + 300] = bytes(300)
    source.write_bytes(data)
    unbroken = stylize_video(source, tmp_path / "unbroken.mkv")
    interrupted(source, tmp_path / "out.mkv", SEGMENT + 2)
    resumed = stylize_video(source, tmp_path / "out.mkv", options=RenderOptions(resume=True))
    assert unbroken.dropped == resumed.dropped == 2
    assert look(tmp_path / "out.mkv").times == look(tmp_path / "unbroken.mkv").times


def test_the_preset_that_was_measured_is_kept(clip, tmp_path):
    measured = EncoderSettings(preset="auto")
    interrupted(clip, tmp_path / "out.mp4", SEGMENT + 14, encoder=measured)
    folder = WorkFolder(tmp_path / "out.mp4")
    journal = Journal.read(folder)
    folder.close()
    report = stylize_video(clip, tmp_path / "out.mp4", encoder=measured, options=RenderOptions(resume=True))
    assert journal is not None
    assert report.preset == journal.settings["options"]["preset"]


def test_a_frame_too_large_for_the_machine_is_refused_early(clip, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "memory_available", lambda: 200_000_000)
    with pytest.raises(SettingError, match=r"160x128 needs about 0\.4 GB of memory, and 0\.2 GB are free: .*--size"):
        stylize_video(clip, tmp_path / "out.mp4")
    assert names(tmp_path) == []
    memory.refuse_too_large(Size(7680, 4320), None)
    with pytest.raises(SettingError, match=r"7680x4320 needs about .* GB"):
        memory.refuse_too_large(Size(7680, 4320), 2_000_000_000)


def test_what_is_free_is_what_the_system_says():
    free = memory.memory_available()
    assert free is None or 100e6 < free < 100e12


def test_a_tracker_continues_from_its_state_exactly(tmp_path):
    pictures = [picture[0] for picture in pan(30)]
    whole = CanvasTracker()
    offsets = [whole.offset(y) for y in pictures]
    assert offsets[-1][0] > 40, "nothing moved"
    first = CanvasTracker()
    for y in pictures[:11]:
        first.offset(y)
    first.state().save(tmp_path / "state.npz")
    second = CanvasTracker()
    second.restore(type(first.state()).load(tmp_path / "state.npz"))
    assert [second.offset(y) for y in pictures[11:]] == offsets[11:]

"""Sources and sinks of the caller's own, through stylize_video and stylize_live."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import Sound, look, make_clip

from rtstyle import (
    Color,
    Controls,
    EngineSettings,
    Frame,
    FrameSink,
    FrameSource,
    LiveSettings,
    Outputs,
    RenderOptions,
    SettingError,
    Size,
    VideoOpenError,
    VideoReader,
    open_engine,
    stylize_live,
    stylize_video,
)

F32 = EngineSettings(backend="openvino", precision="f32", stroke_size=1)


class Ramp(FrameSource):
    """Gray frames that grow brighter, at uneven times; the least that a source must say."""

    size = Size(64, 48)

    def __init__(self, count: int = 6) -> None:
        self.count = count
        self.threads: set[str] = set()

    def __iter__(self) -> Iterator[Frame]:
        for number in range(self.count):
            self.threads.add(threading.current_thread().name)
            image = np.full((48, 64, 3), 40 + 20 * number, np.uint8)
            yield Frame.from_rgb(image, pts=number * number, time_base=Fraction(1, 100), color=self.color)


class Kept(FrameSink):
    """Keeps what it is given, and how it ended."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.log: list[str] = []

    def __enter__(self) -> Kept:
        self.log.append("entered")
        return self

    def write(self, frame: Frame) -> None:
        self.frames.append(frame)
        self.log.append(threading.current_thread().name)

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        self.log.append(kind.__name__ if kind else "left")


class Failing(Kept):
    def write(self, frame: Frame) -> None:
        super().write(frame)
        if len(self.frames) == 3:
            raise OSError("the display is gone")


def test_frames_of_an_own_source_come_out_stylized_in_an_own_sink():
    source, sink, other = Ramp(), Kept(), Kept()
    seen = []
    report = stylize_video(source, [sink, other], engine=F32, progress=lambda *words: seen.append(words))
    assert [frame.pts * frame.time_base for frame in sink.frames] == [Fraction(n * n, 100) for n in range(6)]
    assert sink.log == ["entered", *["MainThread"] * 6, "left"]
    assert len(other.frames) == 6
    assert (report.frames_out, report.input, report.output) == (6, "Ramp", "Kept, Kept")
    assert seen[-1] == (6, None, "openvino f32")
    assert source.threads == {"rtstyle-decode"}
    with open_engine("sketch", source.size, source.color, backend="openvino", precision="f32") as engine:
        expected = next(engine.stylize(Ramp()))
    for mine, theirs in zip(sink.frames[0].planes, expected.planes, strict=True):
        assert np.array_equal(mine, theirs)


def test_an_own_source_is_written_into_a_file_at_its_times(tmp_path):
    report = stylize_video(Ramp(), tmp_path / "out.mp4", engine=F32, controls=Controls(0, 0))
    found = look(tmp_path / "out.mp4")
    assert found.times == [Fraction(n * n, 100) for n in range(6)]
    assert (report.codec, report.frames_out) == ("libx264", 6)
    gray = [int(np.mean(y)) for y, _, _ in found.pictures]
    assert gray == sorted(gray)
    assert gray[-1] - gray[0] > 60


def test_a_file_goes_into_an_own_sink_upright_and_within_its_range(tmp_path):
    clip = make_clip(tmp_path / "in.mp4", times=range(10), rotation=90, sounds=[Sound(seconds=0.4)])
    sink = Kept()
    stylize_video(clip, sink, engine=F32, options=RenderOptions(start=Fraction(1, 25), end=Fraction(5, 25)))
    assert [frame.pts * frame.time_base for frame in sink.frames] == [Fraction(n, 25) for n in range(4)]
    assert {frame.size for frame in sink.frames} == {Size(48, 64)}


def test_an_open_reader_is_a_source_too(tmp_path):
    clip, sink = make_clip(tmp_path / "in.mp4"), Kept()
    report = stylize_video(VideoReader(clip), sink, engine=F32)
    assert (len(sink.frames), report.input) == (10, str(clip))


def test_a_sink_that_fails_ends_the_run_and_every_sink_is_reported(tmp_path):
    failing, other = Failing(), Kept()
    with pytest.raises(OSError, match="display is gone"):
        stylize_video(Ramp(50), [other, failing], engine=F32)
    assert (failing.log[-1], other.log[-1]) == ("OSError", "OSError")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("rtstyle")]


def test_a_source_that_fails_leaves_no_file(tmp_path):
    class Broken(Ramp):
        def __iter__(self) -> Iterator[Frame]:
            yield from super().__iter__()
            raise RuntimeError("the sensor is gone")

    with pytest.raises(RuntimeError, match="sensor"):
        stylize_video(Broken(), tmp_path / "out.mp4", engine=F32)
    assert list(tmp_path.iterdir()) == []


class Wrong(FrameSource):
    """A source whose second frame is not what it declares."""

    size = Size(64, 48)

    def __init__(self, second: object) -> None:
        self.second = second

    def __iter__(self) -> Iterator[Frame]:
        yield frame(1)
        yield self.second  # type: ignore[misc]


def frame(pts: int, *, width: int = 64, color: Color = Color(), time_base: Fraction = Fraction(1, 25)) -> Frame:
    return Frame.from_rgb(np.zeros((48, width, 3), np.uint8), pts=pts, time_base=time_base, color=color)


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (np.zeros((48, 64, 3), np.uint8), "Wrong gave a ndarray as frame 1; make frames with rtstyle.Frame.from_rgb"),
        (frame(2, width=66), "Wrong declares frames of 64x48, frame 1 is 66x48"),
        (frame(2, color=Color("bt601")), "declares frames in bt709.*frame 1 is in bt601"),
        (frame(1), "frame 1 the pts 1 after 1: let pts rise"),
        (frame(50, time_base=Fraction(1, 30)), "changes its time base from 1/25 to 1/30"),
    ],
    ids=["array", "size", "color", "time", "time base"],
)
def test_a_frame_that_is_not_as_declared_is_named(second, words, tmp_path):
    with pytest.raises(SettingError, match=words):
        stylize_video(Wrong(second), tmp_path / "out.mp4", engine=F32)
    assert list(tmp_path.iterdir()) == []


def test_what_is_neither_source_nor_sink_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(SettingError, match=r"this list has no size: derive its class from rtstyle.FrameSource"):
        stylize_video([frame(1)], tmp_path / "out.mp4")
    with pytest.raises(SettingError, match=r"this object has no write: derive its class from rtstyle.FrameSink"):
        stylize_video(Ramp(), object())
    with pytest.raises(SettingError, match="no sink"):
        stylize_video(Ramp(), [])
    with pytest.raises(SettingError, match="hwaccel, size, start and end are for files"):
        stylize_video(Ramp(), Kept(), options=RenderOptions(start=Fraction(1)))
    with pytest.raises(SettingError, match="muxer and resume"):
        stylize_video(Ramp(), tmp_path / "out.mp4", options=RenderOptions(resume=True))
    with pytest.raises(VideoOpenError, match="Ramp gave no frame"):
        stylize_video(Ramp(0), tmp_path / "out.mp4", engine=F32)
    (tmp_path / "old.mp4").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        stylize_video(Ramp(), Path(tmp_path / "old.mp4"), engine=F32)
    assert [path.name for path in tmp_path.iterdir()] == ["old.mp4"]


# -- live ------------------------------------------------------------------------------------------


class Ticking(Ramp):
    """25 frames of a second, with times from 0 on."""

    rate = Fraction(25)

    def __iter__(self) -> Iterator[Frame]:
        for number in range(self.count):
            image = np.full((48, 64, 3), 40 + number, np.uint8)
            yield Frame.from_rgb(image, pts=number, time_base=Fraction(1, 25))


def test_an_own_source_is_played_live_at_its_times_into_an_own_sink():
    sink = Kept()
    begun = time.perf_counter()
    report = stylize_live(Ticking(20), engine=F32, live=LiveSettings(preview="none"), outputs=Outputs(sinks=(sink,)))
    assert report.captured == 20
    assert report.shown + report.dropped == 20
    assert time.perf_counter() - begun > 19 / 25
    assert sink.log[0] == "entered"
    assert sink.log[-1] == "left"
    assert set(sink.log[1:-1]) == {"Kept"}  # a thread of its own
    assert report.sinks["Kept"]["frames"] == len(sink.frames) > 5
    moments = [frame.pts * frame.time_base for frame in sink.frames]
    assert moments == sorted(moments)


def test_an_own_live_source_is_read_as_it_comes_and_recorded(tmp_path):
    class Sensor(Ticking):
        live = True

        def __iter__(self) -> Iterator[Frame]:
            for frame in super().__iter__():
                time.sleep(0.02)
                yield frame

    report = stylize_live(
        Sensor(60), engine=F32, live=LiveSettings(preview="none"), outputs=Outputs(record=tmp_path / "out.mp4")
    )
    found = look(tmp_path / "out.mp4")
    assert len(found.times) == report.sinks["recording"]["frames"] > 10
    assert float(found.times[-1] - found.times[0]) < 2.5  # by the clock, not by pts


def test_an_own_sink_that_fails_ends_a_session_that_has_nothing_else():
    sink = Failing()
    with pytest.raises(OSError, match="display is gone"):
        stylize_live(Ticking(200), engine=F32, live=LiveSettings(preview="none"), outputs=Outputs(sinks=(sink,)))
    assert sink.log[-1] == "OSError"


def test_a_slow_sink_misses_frames_and_delays_nothing():
    class Slow(Kept):
        def write(self, frame: Frame) -> None:
            super().write(frame)
            time.sleep(0.3)

    slow, quick = Slow(), Kept()
    report = stylize_live(
        Ticking(25), engine=F32, live=LiveSettings(preview="none"), outputs=Outputs(sinks=(slow, quick))
    )
    assert report.sinks["Slow"]["dropped"] > 5
    assert len(quick.frames) > len(slow.frames) + 5


def test_a_live_source_or_sink_that_is_none_is_refused():
    with pytest.raises(SettingError, match=r"derive its class from rtstyle.FrameSource"):
        stylize_live([1, 2], live=LiveSettings(preview="none", frames=1))
    with pytest.raises(SettingError, match=r"derive its class from rtstyle.FrameSink"):
        Outputs(sinks=(print,))

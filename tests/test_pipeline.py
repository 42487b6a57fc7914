"""The pieces put together: threads that end, errors that arrive, a report that is true."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
import numpy as np
import pytest
from clips import Sound, look, make_clip

from rtstyle import backends, video
from rtstyle.backends import Controls, EngineSettings, opening
from rtstyle.errors import OutputExistsError, SettingError, StyleNotFoundError, VideoOpenError, VideoWriteError
from rtstyle.frame import Color, Frame, Planes
from rtstyle.interrupts import signals_held
from rtstyle.render import RenderOptions, segments, stylize_video
from rtstyle.render.flow import Prefetch, Timings
from rtstyle.render.follow import VideoFollower
from rtstyle.video import EncoderSettings

QUICK = EncoderSettings(crf=0, preset="ultrafast")


@pytest.fixture(autouse=True)
def no_thread_is_left():
    """Every test of this file ends with the threads with which it began."""
    before = set(threading.enumerate())
    yield
    left = set(threading.enumerate()) - before
    assert not left, f"left running: {left}"


@pytest.fixture(autouse=True)
def ctrl_c_works():
    """As in a terminal, even where the tests run in the background, to which a shell gives a deaf SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Broken(Exception):
    """What the tests' own sources, engines and sinks raise."""


# -- Prefetch --------------------------------------------------------------------------------------


def test_items_come_in_order_and_all():
    with Prefetch(range(1000), name="count") as numbers:
        assert list(numbers) == list(range(1000))


def test_no_items_are_no_items():
    with Prefetch([], name="empty") as items:
        assert list(items) == []


def test_items_are_prepared_ahead_but_no_more_than_the_depth():
    made = []

    def source() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    with Prefetch(source(), name="count", depth=3) as numbers:
        iterator = iter(numbers)
        assert next(iterator) == 0
        end = time.monotonic() + 5
        while len(made) < 5 and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.05)
        # One was taken, three are ready, one is made and waits for a place.
        assert len(made) == 5


def test_an_error_is_raised_in_the_consumer_after_the_items_before_it():
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise Broken("in the thread")

    with Prefetch(source(), name="broken") as items:
        iterator = iter(items)
        assert [next(iterator), next(iterator)] == [1, 2]
        with pytest.raises(Broken, match="in the thread") as caught:
            next(iterator)
    assert any(entry.name == "source" for entry in caught.traceback), "the place where it happened is shown"


def test_even_an_interrupt_in_the_thread_reaches_the_consumer():
    def source() -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    with Prefetch(source(), name="broken") as items, pytest.raises(KeyboardInterrupt):
        list(items)


@pytest.mark.parametrize("taken", [0, 1, 7])
def test_leaving_early_stops_the_thread(taken):
    def endless() -> Iterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    begun = time.monotonic()
    with Prefetch(endless(), name="endless") as items:
        iterator = iter(items)
        assert [next(iterator) for _ in range(taken)] == list(range(taken))
    assert time.monotonic() - begun < 2


def test_leaving_while_the_source_blocks_waits_for_that_one_item_only():
    """A file blocks for as long as a disk or a network does; the thread stops before the item after."""
    made = []

    def slow() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number
            time.sleep(0.3)

    with Prefetch(slow(), name="slow") as items:
        iterator = iter(items)
        assert next(iterator) == 0
        time.sleep(0.05)  # now it sleeps
        begun = time.monotonic()
    assert time.monotonic() - begun < 1.5
    assert len(made) <= 3


def take_one_and_fail(source: Iterable[int], error: Exception) -> None:
    with Prefetch(source, name="left", depth=1) as items:
        next(iter(items))
        raise error


def test_a_full_queue_does_not_keep_the_caller_from_leaving():
    # The commonest hang of admired code: the producer waits for a place, the consumer for the producer.
    with pytest.raises(Broken):
        take_one_and_fail(range(10**9), Broken())


def test_the_error_of_the_consumer_wins_over_a_later_one_of_the_thread():
    def source() -> Iterator[int]:
        yield 1
        raise Broken("the second")

    with pytest.raises(ZeroDivisionError):
        take_one_and_fail(source(), ZeroDivisionError())


# -- Timings and the camera -------------------------------------------------------------------------


def test_timings_are_means_in_milliseconds():
    timings = Timings()
    timings.add("encode", 0.010)
    timings.add("encode", 0.030)
    timings.add("decode", 0.001)
    assert timings.milliseconds() == {"encode": 20.0, "decode": 1.0}


def test_timed_items_are_the_items():
    timings = Timings()
    assert list(timings.timed("slow", (time.sleep(0.01) or i for i in range(5)))) == [0, 1, 2, 3, 4]
    assert timings.milliseconds()["slow"] >= 9


def test_the_canvas_moves_with_the_camera_and_nothing_else_changes(clip):
    rng = np.random.default_rng(0)
    world = rng.integers(0, 256, (40, 60), np.uint8).repeat(8, 0).repeat(8, 1)
    frames = [
        Frame(
            Planes(world[i * 2 : i * 2 + 240, i * 3 : i * 3 + 320], *(np.full((120, 160), 128, np.uint8),) * 2),
            i,
            Fraction(1, 25),
            Color(),
        )
        for i in range(6)
    ]
    with video.VideoReader(clip) as reader:
        followed = list(VideoFollower(reader, every=1000, steered=False).follow(frames))
    for number, (frame, result) in enumerate(zip(frames, followed, strict=True)):
        assert result.planes is frame.planes
        assert (result.pts, result.color) == (frame.pts, frame.color)
        # The frame moved left and up, so its corner lies further right and down; a pixel for rounding.
        assert abs(result.canvas[0] - 3 * number) <= 1
        assert abs(result.canvas[1] - 2 * number) <= 1


# -- signals ---------------------------------------------------------------------------------------


def press_ctrl_c(times: int, done: list[str]) -> None:
    """Press it while a frame is being made, the second of three."""
    with signals_held() as release:
        for frame in ("first", "second", "third"):
            if frame == "second":
                for _ in range(times):
                    os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.01)
            done.append(frame)
            release()


def test_ctrl_c_waits_for_the_end_of_a_frame():
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        press_ctrl_c(1, done)
    assert done == ["first", "second"]


def test_a_second_ctrl_c_interrupts_at_once():
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        press_ctrl_c(2, done)
    assert done == ["first"]


def test_handlers_are_put_back_and_others_are_left_alone():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with signals_held():
        assert signal.getsignal(signal.SIGINT) is not before[0]
        if before[1] == signal.SIG_DFL:  # a caller that has not asked for it is not kept alive
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_outside_the_main_thread_nothing_is_held():
    errors = []

    def run() -> None:
        try:
            with signals_held() as release:
                release()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert errors == []


# -- stylize_video ---------------------------------------------------------------------------------


@pytest.fixture
def clip(tmp_path):
    return make_clip(tmp_path / "in.mp4", times=range(30), sounds=[Sound(seconds=1.2, language="eng")])


def test_a_video_is_stylized_and_the_report_is_true(clip, tmp_path):
    seen = []
    report = stylize_video(clip, tmp_path / "out.mp4", progress=lambda *figures: seen.append(figures))
    before, after = look(clip), look(tmp_path / "out.mp4")
    assert after.times == before.times
    assert after.packets == before.packets
    assert after.tracks == before.tracks
    assert any(not np.array_equal(a[0], b[0]) for a, b in zip(before.pictures, after.pictures, strict=True))
    assert (report.input, report.output) == (str(clip), str(tmp_path / "out.mp4"))
    assert report.frames_in == report.frames_out == 30
    assert report.dropped == 0
    assert report.size == "64x48"
    assert report.streams_copied == ["audio 1 (aac)"]
    assert report.streams_dropped == report.warnings == []
    assert report.backend in backends.BACKENDS
    assert report.style == "sketch"
    assert 0 < report.first_frame_s < report.seconds
    assert report.fps == pytest.approx(30 / report.seconds, rel=0.1)
    assert set(report.stages) == {"decode", "canvas", "engine", "encode", "join"}
    assert all(value >= 0 for value in report.stages.values())
    assert [figures[0] for figures in seen] == list(range(1, 31))
    assert {figures[1] for figures in seen} == {30}
    assert report.backend in seen[0][2]


def test_each_frame_is_what_the_engine_makes_of_it(clip, tmp_path, random_style):
    lossless = EncoderSettings(codec="ffv1")
    stylize_video(
        clip,
        tmp_path / "out.mkv",
        style=random_style,
        encoder=lossless,
        engine=EngineSettings(precision="f32", stroke_size=1),
    )
    with (
        video.VideoReader(clip) as reader,
        backends.open_engine(random_style, reader.size, reader.color, precision="f32") as engine,
    ):
        expected = list(engine.stylize(VideoFollower(reader, every=1000, steered=False).follow(reader)))
    for picture, frame in zip(look(tmp_path / "out.mkv").pictures, expected, strict=True):
        for plane, other in zip(picture, frame.planes, strict=True):
            assert np.array_equal(plane, other)


def test_controls_and_audio_reach_their_places(clip, tmp_path):
    report = stylize_video(
        clip,
        tmp_path / "out.mkv",
        controls=Controls(1, 0),
        options=RenderOptions(audio=False),
        encoder=EncoderSettings(codec="ffv1"),
    )
    assert report.streams_dropped == [{"stream": "audio 1 (aac)", "reason": "--no-audio"}]
    before, after = look(clip), look(tmp_path / "out.mkv")
    assert after.tracks == []
    for one, other in zip(before.pictures, after.pictures, strict=True):
        assert not np.array_equal(one[0], other[0])
        assert np.array_equal(one[1], other[1])
        assert np.array_equal(one[2], other[2])


def test_a_stylized_clip_of_one_frame_is_one_frame(tmp_path):
    source = make_clip(tmp_path / "in.mp4", times=[0])
    assert stylize_video(source, tmp_path / "out.mp4").frames_out == 1


def files_in(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_failing_source_raises_in_the_caller_and_leaves_nothing(clip, tmp_path, monkeypatch):
    whole = video.VideoReader.__iter__

    def broken(self):
        for number, frame in enumerate(whole(self)):
            if number == 7:
                raise Broken("the source")
            yield frame

    monkeypatch.setattr(video.VideoReader, "__iter__", broken)
    with pytest.raises(Broken, match="the source"):
        stylize_video(clip, tmp_path / "out.mp4")
    assert files_in(tmp_path) == ["in.mp4"]


def test_a_failing_decoder_is_one_clear_line(clip, tmp_path, monkeypatch):
    def broken(self, *rest):
        raise av.error.ExternalError(1, "the library gave up", "file")
        yield

    monkeypatch.setattr(video.VideoReader, "_timed", broken)
    with pytest.raises(VideoOpenError, match=r"in\.mp4 can be read no further: the library gave up"):
        stylize_video(clip, tmp_path / "out.mp4")
    assert files_in(tmp_path) == ["in.mp4"]


@pytest.mark.parametrize("method", ["submit", "next"])
def test_a_failing_engine_raises_in_the_caller_and_leaves_nothing(method, clip, tmp_path, monkeypatch):
    calls = []

    def opened(*args, **settings):
        engine = backends.open_engine(*args, **settings)
        whole = getattr(engine, method)

        def broken(*inputs):
            calls.append(method)
            if len(calls) == 7:
                raise Broken(method)
            return whole(*inputs)

        setattr(engine, method, broken)
        return engine

    monkeypatch.setattr(opening, "open_engine", opened)
    with pytest.raises(Broken, match=method):
        stylize_video(clip, tmp_path / "out.mp4")
    assert files_in(tmp_path) == ["in.mp4"]


def test_a_failing_sink_raises_in_the_caller_and_leaves_nothing(clip, tmp_path):
    folder = tmp_path / "usb"
    folder.mkdir()

    def pull_out(done: int, total: int | None, label: str) -> None:
        if done == 7:
            shutil.rmtree(folder)

    with pytest.raises(VideoWriteError, match=r"cannot write .*out\.mp4"):
        stylize_video(clip, folder / "out.mp4", progress=pull_out)
    assert files_in(tmp_path) == ["in.mp4"]


def test_progress_may_raise_to_stop(clip, tmp_path):
    def stop(done: int, total: int | None, label: str) -> None:
        if done == 5:
            raise Broken("enough")

    with pytest.raises(Broken, match="enough"):
        stylize_video(clip, tmp_path / "out.mp4", progress=stop)
    assert files_in(tmp_path) == ["in.mp4"]


def test_ctrl_c_in_the_middle_of_a_frame_keeps_it_and_all_before_with_their_audio(clip, tmp_path, monkeypatch):
    # At any other moment the encoder's packets of one frame would be lost, and with them what refers to it.
    whole = segments.RenderWriter.write

    def write(self, frame: Frame) -> None:
        if self.written == 11:
            os.kill(os.getpid(), signal.SIGINT)
        whole(self, frame)

    monkeypatch.setattr(segments.RenderWriter, "write", write)
    with pytest.raises(KeyboardInterrupt) as caught:
        stylize_video(clip, tmp_path / "out.mp4")
    assert files_in(tmp_path) == ["in.mp4", "out.partial.mp4"]
    kept = look(tmp_path / "out.partial.mp4")
    assert kept.times == look(clip).times[:12]
    assert len(kept.packets[0]) > 5
    assert "12 finished frames are kept in" in caught.value.__notes__[0]


def test_ctrl_c_while_a_backend_is_loaded_is_not_taken_for_a_missing_backend(clip, tmp_path, monkeypatch):
    # Libraries in C turn it into an ImportError, and the next, slower backend would be taken.
    opened = []

    def interrupted(*args, **settings):
        opened.append(settings["backend"])
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
        except KeyboardInterrupt:
            raise ImportError("initialization failed") from None
        return backends.open_engine(*args, **settings)

    monkeypatch.setattr(opening, "open_engine", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stylize_video(clip, tmp_path / "out.mp4")
    assert opened == ["auto"]
    assert files_in(tmp_path) == ["in.mp4"]


def test_what_can_be_refused_is_refused_before_any_work(clip, tmp_path):
    (tmp_path / "there.mp4").write_bytes(b"precious")
    begun = time.monotonic()
    with pytest.raises(OutputExistsError):
        stylize_video(clip, tmp_path / "there.mp4")
    with pytest.raises(StyleNotFoundError):
        stylize_video(clip, tmp_path / "out.mp4", style="skecth")
    with pytest.raises(SettingError, match="same file"):
        stylize_video(clip, clip, options=RenderOptions(overwrite=True))
    os.link(clip, tmp_path / "link.mp4")
    with pytest.raises(SettingError, match="same file"):
        stylize_video(clip, tmp_path / "link.mp4", options=RenderOptions(overwrite=True))
    with pytest.raises(VideoOpenError, match="no such file"):
        stylize_video(tmp_path / "missing.mp4", tmp_path / "there.mp4", options=RenderOptions(overwrite=True))
    assert time.monotonic() - begun < 2, "an engine was made"
    assert (tmp_path / "there.mp4").read_bytes() == b"precious"
    assert files_in(tmp_path) == ["in.mp4", "link.mp4", "there.mp4"]


def test_a_video_under_16_pixels_is_refused_in_words(tmp_path):
    source = make_clip(tmp_path / "in.mkv", width=14, height=12, times=range(3))
    with pytest.raises(SettingError, match=r"at least 16x16, got 14x12"):
        stylize_video(source, tmp_path / "out.mp4")
    assert files_in(tmp_path) == ["in.mkv"]


def test_an_output_is_replaced_when_that_is_asked_for(clip, tmp_path):
    target = tmp_path / "out.mp4"
    target.write_bytes(b"old")
    stylize_video(clip, target, encoder=QUICK, options=RenderOptions(overwrite=True))
    assert len(look(target).times) == 30
    assert files_in(tmp_path) == ["in.mp4", "out.mp4"]

"""stylize_live with real cameras, a real engine, a real window and real files."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from test_camera import SIZE, NetworkCamera, draw_number, jpeg, read_number, write_clip

import rtstyle.backends.opening
import rtstyle.live
import rtstyle.live.styles
from rtstyle import Controls, Engine, Frame, open_engine
from rtstyle.camera import CaptureSettings, open_source
from rtstyle.errors import (
    BackendUnavailableError,
    CameraError,
    DisplayError,
    OutputExistsError,
    SettingError,
    SourceStalledError,
    StyleFormatError,
    StyleNotFoundError,
    VideoWriteError,
)
from rtstyle.live import LatestFrame, LiveInterrupted, LiveReport, LiveSettings, Outputs, stylize_live
from rtstyle.style import load_style
from rtstyle.video import EncoderSettings

UNTOUCHED = Controls.of(0)
LOSSLESS = EncoderSettings(codec="ffv1")


@pytest.fixture(autouse=True)
def nothing_left_over() -> Iterator[None]:
    """No test may leave a thread, a half-written file's writer, or another handler of Ctrl-C."""
    import openvino  # noqa: F401 - starts a thread of its own

    threads, handler = set(threading.enumerate()), signal.getsignal(signal.SIGINT)
    yield
    assert set(threading.enumerate()) <= threads
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.fixture
def no_display(monkeypatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def dummy_display(monkeypatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


class Slowed:
    """A real engine that rests after each frame, as a weaker machine would."""

    def __init__(self, engine: Engine, seconds: float, fail_at: int | None = None) -> None:
        self._engine, self._seconds, self._fail_at, self._count = engine, seconds, fail_at, 0
        self.backend, self.precision, self.device = engine.backend, engine.precision, engine.device
        self.size, self.color, self.in_flight = engine.size, engine.color, engine.in_flight

    def submit(self, frame: Frame, controls: Controls = UNTOUCHED) -> None:
        self._engine.submit(frame, controls)

    def next(self) -> Frame:
        frame = self._engine.next()
        self._count += 1
        if self._count == self._fail_at:
            raise RuntimeError("the device is lost")
        time.sleep(self._seconds)
        return frame

    def close(self) -> None:
        self._engine.close()


def slow_engines(monkeypatch, seconds: float, fail_at: int | None = None) -> None:
    def opened(*args: object, **options: object) -> Slowed:
        return Slowed(open_engine(*args, **options), seconds, fail_at)

    monkeypatch.setattr(rtstyle.backends.opening, "open_engine", opened)


class Later:
    """Takes printed lines; does something so many seconds after the engine was ready."""

    def __init__(self, seconds: float, action: Callable[..., object], *args: object) -> None:
        self.lines: list[str] = []
        self._timer = threading.Timer(seconds, action, args)

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        if line.startswith("sketch: "):
            self._timer.start()

    def __enter__(self) -> Later:
        return self

    def __exit__(self, *error: object) -> None:
        self._timer.cancel()
        if self._timer.ident is not None:
            self._timer.join()


def read_clip(path: Path) -> list[tuple[float, int]]:
    """The moment in seconds and the number of each frame of a recording."""
    with av.open(str(path)) as container:
        return [
            (float(frame.pts * frame.time_base), read_number(frame.to_ndarray(format="gray")))
            for frame in container.decode(video=0)
        ]


# -- what it gives back


def test_a_session_reports_what_it_did(no_display):
    lines: list[str] = []
    with NetworkCamera() as camera:
        report = stylize_live(camera.url, live=LiveSettings(frames=12), say=lines.append)

    again = LiveReport(**json.loads(json.dumps(dataclasses.asdict(report))))
    assert again == report
    assert report.shown == 12
    assert report.captured - report.shown - report.dropped in (0, 1)
    assert (report.size, report.style, report.backend, report.held) == ("160x96", "sketch", "openvino", 0)
    assert 0 < report.latency_ms["p50"] <= report.latency_ms["p95"] <= report.latency_ms["p99"]
    assert report.warnings == []
    assert lines[0] == f"{camera.url}: 160x96, unknown frame rate, mjpeg"
    assert "openvino" in lines[1]


def test_a_session_ends_after_the_seconds_asked_for(no_display):
    with NetworkCamera() as camera:
        report = stylize_live(camera.url, live=LiveSettings(seconds=0.5))

    assert 0.5 <= report.seconds < 2


def test_a_file_is_stylized_to_its_end(no_display, tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", [40 * n for n in range(15)])

    report = stylize_live(
        str(clip),
        controls=UNTOUCHED,
        live=LiveSettings(seconds=20),
        outputs=Outputs(record=tmp_path / "out.mkv", encoder=LOSSLESS),
    )

    moments = read_clip(tmp_path / "out.mkv")
    assert report.captured == 15 == report.shown + report.dropped
    assert len(moments) == report.shown
    assert all(moment == pytest.approx(0.04 * (number - moments[0][1]), abs=1e-3) for moment, number in moments)


# -- latest frame first


def test_a_slow_consumer_gets_new_frames_and_never_old_ones():
    lags = []
    with (
        NetworkCamera() as camera,
        open_source(camera.url, CaptureSettings(timeout=3, wait=0)) as source,
        LatestFrame(source) as newest,
    ):
        newest.begin()
        while camera.milliseconds() < 3500:
            captured = newest.take(1)
            assert captured is not None
            lags.append(camera.milliseconds() / 1000 - read_number(captured.frame.planes.y) / 1000)
            time.sleep(0.2)

    assert len(lags) >= 10
    assert max(lags[1:]) < 0.7, "a queue would be 3 seconds behind by now"
    assert newest.dropped > 2 * len(lags), "at 30 frames a second, 5 of which are taken"
    assert newest.captured - newest.dropped - len(lags) in (0, 1)


def test_an_error_of_the_source_is_never_taken_for_its_end():
    with (
        NetworkCamera() as camera,
        open_source(camera.url, CaptureSettings(timeout=2, wait=0)) as source,
        LatestFrame(source) as newest,
    ):
        newest.begin()
        camera.gone.set()
        time.sleep(0.5)  # longer than the source needs to fail
        newest.take(0)  # what came before
        assert not newest.ended
        with pytest.raises(CameraError, match="is gone"):
            newest.take(0)


def test_a_session_continues_when_a_camera_that_vanished_is_back(no_display, tmp_path):
    lines: list[str] = []
    first = NetworkCamera()
    port = int(first.url.split(":")[2].split("/")[0])

    def interrupt() -> None:
        first.__exit__()
        time.sleep(1)
        with NetworkCamera(picture=lambda index: jpeg(draw_number(999)), port=port):
            over.wait(20)

    over = threading.Event()
    with first, Later(0.7, interrupt) as later:
        tell = lambda line: (lines.append(line), later(line))  # noqa: E731
        report = stylize_live(
            first.url,
            controls=UNTOUCHED,
            capture=CaptureSettings(timeout=2),
            live=LiveSettings(seconds=5),
            outputs=Outputs(record=tmp_path / "r.mkv", encoder=LOSSLESS),
            say=tell,
        )
        over.set()

    numbers = [number for _, number in read_clip(tmp_path / "r.mkv")]
    assert numbers.count(999) >= 10, "frames of the camera that came back"
    assert sum(number != 999 for number in numbers) >= 5, "and of the one before"
    assert any("is gone" in line and line.endswith("waiting for it") for line in lines)
    assert any("is back after" in line for line in lines)
    assert any("was away once" in warning for warning in report.warnings)


def test_a_session_that_counts_frames_gives_a_lost_camera_up(no_display, monkeypatch):
    monkeypatch.setattr(rtstyle.live.opening, "PATIENCE", 0.5)
    with (
        NetworkCamera() as camera,
        Later(0.5, camera.gone.set) as later,
        pytest.raises(CameraError, match=r"is gone.*it was waited for"),
    ):
        stylize_live(camera.url, capture=CaptureSettings(timeout=1), live=LiveSettings(frames=100_000), say=later)


def test_lag_does_not_grow_through_a_slow_engine(no_display, monkeypatch, tmp_path):
    slow_engines(monkeypatch, 0.15)
    with NetworkCamera() as camera:
        report = stylize_live(
            camera.url,
            controls=UNTOUCHED,
            live=LiveSettings(seconds=4),
            outputs=Outputs(record=tmp_path / "r.mkv", encoder=LOSSLESS),
        )

    lags = [moment - number / 1000 for moment, number in read_clip(tmp_path / "r.mkv")]
    assert report.shown >= 15
    assert report.dropped > 2 * report.shown
    assert max(lags) - min(lags) < 0.7, "seconds from the camera's clock to the capture moment; a queue would grow by 3"
    assert report.latency_ms["p99"] < 150 + 500


# -- recording


def test_a_recording_shows_frames_at_the_moments_at_which_they_came(no_display, tmp_path):
    with NetworkCamera(fps=20) as camera:
        report = stylize_live(
            camera.url,
            controls=UNTOUCHED,
            capture=CaptureSettings(timeout=3),
            live=LiveSettings(frames=40),
            outputs=Outputs(record=tmp_path / "r.mkv", encoder=LOSSLESS),
        )

    moments = read_clip(tmp_path / "r.mkv")
    numbers = [number for _, number in moments]
    assert len(moments) == report.shown == 40
    assert numbers == sorted(numbers)
    for moment, number in moments:
        assert moment == pytest.approx((number - numbers[0]) / 1000, abs=0.25), "the camera's own clock"


def test_an_mp4_recording_has_its_true_duration(no_display, tmp_path):
    lines: list[str] = []
    with NetworkCamera() as camera:
        report = stylize_live(
            camera.url, live=LiveSettings(seconds=1.5), outputs=Outputs(record=tmp_path / "r.mp4"), say=lines.append
        )

    with av.open(str(tmp_path / "r.mp4")) as container:
        frames = list(container.decode(video=0))
        assert container.duration / 1e6 == pytest.approx(report.seconds, abs=0.3)
    assert len(frames) == report.shown
    assert (frames[0].width, frames[0].height) == (160, 96)
    assert any(line.startswith(f"recorded {tmp_path / 'r.mp4'}: {report.shown} frames") for line in lines)
    assert [path.name for path in tmp_path.iterdir()] == ["r.mp4"]


def test_what_was_recorded_until_the_camera_went_is_kept(no_display, tmp_path):
    with NetworkCamera() as camera, Later(1, camera.gone.set) as later, pytest.raises(CameraError, match="is gone"):
        stylize_live(
            camera.url,
            capture=CaptureSettings(timeout=2, wait=0),
            outputs=Outputs(record=tmp_path / "r.mkv"),
            say=later,
        )

    assert len(read_clip(tmp_path / "r.mkv")) >= 5
    assert any(line.startswith("recorded") for line in later.lines)
    assert len(list(tmp_path.iterdir())) == 1


def test_what_was_recorded_until_the_camera_stalled_is_kept_and_it_is_found_out_in_time(no_display, tmp_path):
    with NetworkCamera() as camera, Later(0.8, camera.stalled.set) as later:
        with pytest.raises(SourceStalledError, match="stalled"):
            stylize_live(
                camera.url,
                controls=UNTOUCHED,
                capture=CaptureSettings(timeout=1, wait=0),
                outputs=Outputs(record=tmp_path / "r.mkv"),
                say=later,
            )
        stalled = time.perf_counter() - camera.begin - read_clip(tmp_path / "r.mkv")[-1][1] / 1000

    assert 1 <= stalled < 3, "seconds from its last frame to the error"


def test_ctrl_c_finishes_the_recording(no_display, tmp_path):
    with (
        NetworkCamera() as camera,
        Later(1, os.kill, os.getpid(), signal.SIGINT) as later,
        pytest.raises(LiveInterrupted) as caught,
    ):
        stylize_live(
            camera.url,
            capture=CaptureSettings(timeout=3),
            live=LiveSettings(seconds=15),
            outputs=Outputs(record=tmp_path / "r.mp4"),
            say=later,
        )

    assert [path.name for path in tmp_path.iterdir()] == ["r.mp4"]
    assert len(read_clip(tmp_path / "r.mp4")) >= 5
    assert isinstance(caught.value, KeyboardInterrupt)
    assert caught.value.report.shown >= 5


def test_a_session_without_a_frame_leaves_no_recording(no_display, tmp_path):
    def picture(index: int) -> bytes:
        if index == 2:
            camera.stalled.set()  # while the engine is being made
        return camera.clock(index)

    with NetworkCamera(fps=1000, picture=picture) as camera:
        report = stylize_live(
            camera.url,
            capture=CaptureSettings(timeout=1),
            live=LiveSettings(seconds=0.3),
            outputs=Outputs(record=tmp_path / "r.mp4"),
        )

    assert (report.shown, report.fps, report.latency_ms) == (0, 0.0, {})
    assert list(tmp_path.iterdir()) == []


def test_an_existing_recording_is_refused_before_the_camera_is_touched(no_display, tmp_path):
    (tmp_path / "r.mp4").write_bytes(b"precious")

    with pytest.raises(OutputExistsError):
        stylize_live("http://127.0.0.1:9/none", outputs=Outputs(record=tmp_path / "r.mp4"))

    assert (tmp_path / "r.mp4").read_bytes() == b"precious"


def test_a_file_is_not_recorded_over_itself(no_display, tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", [0, 40])

    with pytest.raises(SettingError, match="same file"):
        stylize_live(str(clip), outputs=Outputs(record=clip, overwrite=True))


# -- failures in each part are raised here, and leave nothing


def test_a_sink_that_fails_raises_and_leaves_no_file(no_display, tmp_path):
    resource = pytest.importorskip("resource", reason="file size limits are POSIX")
    noise = [np.random.default_rng(n).integers(0, 255, (96, 160, 3), np.uint8) for n in range(8)]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with NetworkCamera(picture=lambda n: cv2.imencode(".jpg", noise[n % 8])[1].tobytes()) as camera:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
        try:
            with pytest.raises(VideoWriteError, match=r"cannot write .*r\.mkv"):
                stylize_live(
                    camera.url,
                    controls=UNTOUCHED,
                    live=LiveSettings(seconds=20),
                    outputs=Outputs(record=tmp_path / "r.mkv", encoder=LOSSLESS),
                )
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert list(tmp_path.iterdir()) == []


def test_an_engine_that_fails_raises_and_keeps_the_recording(no_display, monkeypatch, tmp_path):
    slow_engines(monkeypatch, 0, fail_at=10)
    with NetworkCamera() as camera, pytest.raises(RuntimeError, match="the device is lost"):
        stylize_live(camera.url, live=LiveSettings(seconds=20), outputs=Outputs(record=tmp_path / "r.mkv"))

    assert len(read_clip(tmp_path / "r.mkv")) == 8, "the first of the nine was the engine's warm-up"


def test_an_engine_that_does_not_open_raises(no_display, tmp_path):
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "style.json").write_text('{"format": 1, "name": "bad"}')
    (bad / "trunk.onnx").write_bytes(b"not a network")

    with NetworkCamera() as camera, pytest.raises((StyleFormatError, BackendUnavailableError)):
        stylize_live(camera.url, style=str(bad), live=LiveSettings(seconds=5))


def test_a_session_ends_in_time_although_the_camera_stalls(no_display):
    with NetworkCamera() as camera, Later(0.5, camera.stalled.set) as later:
        begin = time.perf_counter()
        report = stylize_live(camera.url, capture=CaptureSettings(timeout=2), live=LiveSettings(seconds=1.2), say=later)
        assert time.perf_counter() - begin < 8, "at most the timeout longer"

    assert report.shown > 0


# -- settings


def test_settings_that_make_no_sense_are_refused_at_once(no_display):
    with pytest.raises(SettingError, match="nothing to do: there is no display"):
        stylize_live("http://127.0.0.1:9/none")
    with pytest.raises(SettingError, match="nothing to do: preview is none"):
        stylize_live("http://127.0.0.1:9/none", live=LiveSettings(preview="none"))
    with pytest.raises(SettingError, match="frames must be above 0"):
        stylize_live("http://127.0.0.1:9/none", live=LiveSettings(frames=0))
    with pytest.raises(DisplayError, match="no display"):
        stylize_live("http://127.0.0.1:9/none", live=LiveSettings(preview="window", frames=3))
    with pytest.raises(StyleNotFoundError, match="skecth"):
        stylize_live("http://127.0.0.1:9/none", style="skecth", live=LiveSettings(frames=3))


def test_mirror_exchanges_left_and_right(no_display, tmp_path):
    with NetworkCamera(picture=lambda n: cv2.imencode(".jpg", draw_number(0b1011))[1].tobytes()) as camera:
        stylize_live(
            camera.url,
            controls=UNTOUCHED,
            live=LiveSettings(frames=3, mirror=True),
            outputs=Outputs(record=tmp_path / "r.mkv", encoder=LOSSLESS),
        )

    with av.open(str(tmp_path / "r.mkv")) as container:
        luma = next(container.decode(video=0)).to_ndarray(format="gray")
    assert read_number(luma[:, ::-1]) == 0b1011
    assert read_number(luma) != 0b1011


# -- keys


class Person:
    """Presses keys in a window: each when the one before has been seen to work, so that nothing is left to luck."""

    def __init__(self, *steps: tuple[str, Callable[[], bool]]) -> None:
        self._steps = steps
        self._given_up = threading.Event()
        self.done: list[str] = []
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        for key, ready in self._steps:
            end = time.monotonic() + 10
            while not (ready() and self._press(key)):
                if time.monotonic() > end or self._given_up.wait(0.02):
                    self._press("q")  # a step never became possible: end the session; `done` tells the test
                    return
            self.done.append(key)

    @staticmethod
    def _press(key: str) -> bool:
        import pygame

        try:
            pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.key.key_code(key), unicode=key))
        except pygame.error:
            return False  # no window yet, or no longer
        return True

    def __enter__(self) -> Person:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._given_up.set()
        self._thread.join()


def after(seconds: float) -> Callable[[], bool]:
    """Ready when so much time has gone since it was first asked."""
    begin: list[float] = []

    def ready() -> bool:
        begin.append(time.monotonic())
        return begin[-1] - begin[0] >= seconds

    return ready


def window_says(word: str) -> Callable[[], bool]:
    def ready() -> bool:
        import pygame

        try:
            return word in pygame.display.get_caption()[0]
        except (pygame.error, IndexError):
            return False  # no window yet

    return ready


def test_strength_mirror_snapshot_and_quit_by_key(dummy_display, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rtstyle-0001.png").write_bytes(b"older")
    steps = [("-", after(0.3))] + 9 * [("-", after(0.02))]
    first, second = tmp_path / "rtstyle-0002.png", tmp_path / "rtstyle-0003.png"
    picture = cv2.imencode(".jpg", draw_number(0b1011), [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    with (
        NetworkCamera(picture=lambda index: picture) as camera,
        Person(
            ("h", window_says("sketch")),
            *steps,
            ("s", after(0.4)),
            ("m", first.exists),
            ("s", after(0.4)),
            ("q", second.exists),
        ) as person,
    ):
        report = stylize_live(camera.url, live=LiveSettings(seconds=20, preview="window"))

    assert person.done == ["h"] + 10 * ["-"] + ["s", "m", "s", "q"]
    assert report.seconds < 20
    assert (tmp_path / "rtstyle-0001.png").read_bytes() == b"older"
    shots = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in (first, second)]
    assert read_number(shots[0]) == 0b1011, "at strength 0 the frame is the camera's own"
    assert read_number(shots[1][:, ::-1]) == 0b1011, "mirrored"
    assert np.abs(shots[0].astype(int) - draw_number(0b1011)[..., 0]).mean() < 4


def test_space_holds_the_frame(dummy_display):
    with (
        NetworkCamera() as camera,
        Person(("space", window_says("sketch")), ("space", after(1)), ("q", after(0.3))),
    ):
        report = stylize_live(camera.url, live=LiveSettings(seconds=20))

    assert report.held >= 10
    assert report.shown >= 1
    assert report.captured - report.shown - report.dropped - report.held in (0, 1)


def copied_style(folder: Path) -> str:
    shutil.copytree(load_style("sketch").folders[0][0], folder)
    return str(folder)


def test_another_style_is_made_beside_and_takes_over(dummy_display, monkeypatch, tmp_path):
    other = copied_style(tmp_path / "other")
    monkeypatch.setattr(rtstyle.live.styles, "list_styles", lambda: ["sketch", other])
    lines: list[str] = []
    with (
        NetworkCamera() as camera,
        Person(("n", window_says("sketch")), ("p", window_says("other")), ("n", window_says("sketch"))) as person,
    ):
        stopper = Person(("q", lambda: len(person.done) == 3 and window_says("other")()))
        with stopper:
            report = stylize_live(camera.url, live=LiveSettings(seconds=30), say=lines.append)

    assert person.done == ["n", "p", "n"]
    assert report.style == other
    assert [line for line in lines if line.startswith("style ")] == [f"style {s}" for s in (other, "sketch", other)]
    assert report.shown > len(person.done), "frames continued meanwhile"


def test_a_style_that_cannot_be_made_leaves_the_show_as_it_is(dummy_display, monkeypatch, tmp_path):
    other = copied_style(tmp_path / "other")
    (tmp_path / "other" / "trunk.onnx").write_bytes(b"damaged")
    monkeypatch.setattr(rtstyle.live.styles, "list_styles", lambda: ["sketch", other])
    lines: list[str] = []
    with (
        NetworkCamera() as camera,
        Person(("n", window_says("sketch")), ("q", lambda: any(line.startswith("continuing") for line in lines))),
    ):
        report = stylize_live(camera.url, live=LiveSettings(seconds=20), say=lines.append)

    assert report.style == "sketch"
    assert report.seconds < 20
    assert [line for line in report.warnings if line.startswith("continuing with sketch: ")]


def test_a_folder_that_cannot_be_written_costs_the_snapshot_only(dummy_display, monkeypatch, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setattr(Path, "cwd", classmethod(lambda cls: gone))
    with NetworkCamera() as camera, Person(("s", window_says("sketch")), ("s", after(0.5)), ("q", after(0.5))):
        report = stylize_live(camera.url, live=LiveSettings(seconds=20))

    assert report.warnings
    assert all("cannot save a snapshot" in line for line in report.warnings)


def test_closing_the_window_ends_the_session(dummy_display):
    import pygame

    def close() -> bool:
        if window_says("sketch")():
            pygame.event.post(pygame.event.Event(pygame.QUIT))
            return True
        return False

    with NetworkCamera() as camera, Person(("x", close)):
        report = stylize_live(camera.url, live=LiveSettings(seconds=20))

    assert report.seconds < 20


# -- a real screen

XVFB = [name for name in ("Xvfb", "xdotool", "import") if shutil.which(name) is None]

SESSION = """
import dataclasses, json, sys
from rtstyle import LiveSettings, stylize_live
print(json.dumps(dataclasses.asdict(stylize_live(sys.argv[1], live=LiveSettings(seconds=40)))))
"""


@pytest.mark.skipif(bool(XVFB), reason=f"not installed: {', '.join(XVFB)}")
def test_the_window_is_seen_and_obeys_the_keyboard(tmp_path):
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "800x600x24", "-nolisten", "tcp"],
        pass_fds=[write],
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    try:
        with os.fdopen(read) as pipe:
            display = f":{pipe.readline().strip()}"
        env = {k: v for k, v in os.environ.items() if k != "SDL_VIDEODRIVER"}
        env |= {"DISPLAY": display, "PYTHONPATH": str(Path(__file__).parents[1])}

        def screen() -> np.ndarray:
            shot = subprocess.run(
                ["import", "-window", "root", "png:-"], env=env, capture_output=True, timeout=20, check=True
            )
            return cv2.imdecode(np.frombuffer(shot.stdout, np.uint8), cv2.IMREAD_COLOR)

        def key(name: str) -> None:
            subprocess.run(["xdotool", "key", name], env=env, timeout=20, check=True)

        def wait_for(what: str, seen: Callable[[], bool]) -> None:
            end = time.monotonic() + 20
            while not seen():
                assert time.monotonic() < end, what
                time.sleep(0.1)

        with NetworkCamera() as camera:
            session = subprocess.Popen(
                [sys.executable, "-c", SESSION, camera.url],
                env=env,
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            try:
                wait_for("a window with a frame", lambda: screen().std() > 10)
                letters = screen()
                assert (letters.min(-1) > 250).any(), "white letters of the figures"

                def snapshot() -> bool:
                    key("s")  # again and again: without a window manager the keyboard comes when it comes
                    time.sleep(0.4)
                    return (tmp_path / "rtstyle-0001.png").exists()

                wait_for("a snapshot", snapshot)
                key("space")
                time.sleep(1)
                held = screen()[200:420]  # between figures and notes
                time.sleep(0.5)
                assert np.array_equal(screen()[200:420], held), "space holds the frame"
                key("q")
                out, err = session.communicate(timeout=20)
            finally:
                session.kill()
                session.wait()
    finally:
        server.terminate()
        server.wait()

    assert session.returncode == 0, err
    report = json.loads(out)
    assert report["shown"] > 0
    assert report["held"] > 0
    assert cv2.imread(str(tmp_path / "rtstyle-0001.png")).shape == (SIZE.height, SIZE.width, 3)

"""Live sources beyond the plain camera: servers that vanish and return, a pipe, a screen, frames, raw formats."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from senders import H264, Sender, free_port, rtmp, udp
from test_camera import SIZE, NetworkCamera, draw_number, jpeg, read_number, write_clip

import rtstyle.live.latest
from rtstyle.camera import CaptureSettings, LiveSource, open_source
from rtstyle.camera.microphones import read_alsa
from rtstyle.camera.screen import screen_request
from rtstyle.canvas.follower import SceneFollower
from rtstyle.cli import main
from rtstyle.errors import CameraError, SettingError, SourceStalledError, VideoOpenError
from rtstyle.frame import Frame, Size
from rtstyle.live.latest import LatestFrame


def wait_for(what: str, happened: Callable[[], object], seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, what
        time.sleep(0.02)


# -- network cameras and a pipe: no delay, and back after a loss


def pipe(path: Path, begin: float | None = None) -> Sender:
    return Sender.ffmpeg("-f", "yuv4mpegpipe", str(path), begin=begin)


@pytest.mark.parametrize("kind", ["pipe", "rtmp", "rtsp", "udp"])
def test_a_slow_consumer_sees_now_and_a_camera_that_vanished_comes_back(kind, tmp_path):
    port = free_port()
    if kind == "pipe":
        if not hasattr(os, "mkfifo"):
            pytest.skip("named pipes are POSIX")
        os.mkfifo(tmp_path / "cam")
    url, sender = {
        "pipe": (str(tmp_path / "cam"), lambda begin=None: pipe(tmp_path / "cam", begin)),
        "rtmp": (f"rtmp://127.0.0.1:{port}/live/cam", lambda begin=None: rtmp(port, begin)),
        "rtsp": (f"rtsp://127.0.0.1:{port}/cam", lambda begin=None: Sender.rtsp(port, begin)),
        "udp": (f"udp://127.0.0.1:{port}", lambda begin=None: udp(port, begin)),
    }[kind]
    lines: list[str] = []

    def lags(newest: LatestFrame, camera: Sender, seconds: float) -> list[float]:
        """Milliseconds from the camera's clock to ours, seen by a consumer of five frames a second."""
        found = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            if captured := newest.take(3):
                found.append(camera.milliseconds() - read_number(captured.frame.planes.y))
                assert captured.frame.size == SIZE
            time.sleep(0.2)
        return found

    with sender() as camera:
        if kind == "rtmp":
            time.sleep(0.5)  # until ffmpeg listens
        source = open_source(url, CaptureSettings(timeout=2, wait=None), tell=lines.append)
        with source, LatestFrame(source) as newest:
            newest.begin()
            before = lags(newest, camera, 1.6)
            assert newest.waiting is None
            assert newest.dropped > len(before)
            camera.__exit__()
            wait_for("the loss", lambda: newest.waiting)
            while newest.take(0):  # what came before
                pass
            with sender(camera.begin) as again:
                wait_for("the return", lambda: newest.waiting is None)
                newest.take(5)
                after = lags(newest, again, 1)
                told, losses = list(lines), source.losses

    # A queue would be more than a second behind by then: one frame in five is taken.
    assert np.median(before[3:]) < 500, "and what FFmpeg piled up while it opened the stream is skipped"
    assert np.median(after[2:]) < 500
    gone, back = told
    assert gone.startswith(f"{url} ")
    assert gone.endswith("; waiting for it")
    assert "stalled" in gone if kind == "udp" else "is gone" in gone
    assert back.startswith(f"{url} is back after ")
    assert "was away once" in losses


class SlowFollower(SceneFollower):
    """A follower on a machine so starved that a frame takes it two intervals of the camera."""

    def follow(self, frame: Frame, offset: tuple[int, int] | None = None) -> Frame:
        time.sleep(0.08)
        return super().follow(frame, offset)


@pytest.mark.parametrize("kind", ["mjpeg", "pipe", "rtmp", "rtsp"])
def test_frames_do_not_grow_old_in_a_connection_that_is_read_too_slowly(kind, monkeypatch, tmp_path):
    """They did, by more than half a second in each second: in the system's buffers and in the server's."""
    monkeypatch.setattr(rtstyle.live.latest, "SceneFollower", SlowFollower)
    port = free_port()
    if kind == "pipe":
        if not hasattr(os, "mkfifo"):
            pytest.skip("named pipes are POSIX")
        os.mkfifo(tmp_path / "cam")
    camera, url = {
        "mjpeg": lambda: ((camera := NetworkCamera(25)), camera.url),
        "pipe": lambda: (pipe(tmp_path / "cam"), str(tmp_path / "cam")),
        "rtmp": lambda: (rtmp(port), f"rtmp://127.0.0.1:{port}/live/cam"),
        "rtsp": lambda: (Sender.rtsp(port), f"rtsp://127.0.0.1:{port}/cam"),
    }[kind]()
    ages: list[tuple[float, int]] = []
    with camera:
        if kind == "rtmp":
            time.sleep(0.5)  # until ffmpeg listens
        with open_source(url, CaptureSettings(timeout=5, wait=0)) as source, LatestFrame(source) as newest:
            newest.begin()
            begin = time.perf_counter()
            while (now := time.perf_counter() - begin) < 4:
                if captured := newest.take(1):
                    age = camera.milliseconds() - read_number(captured.frame.planes.y)
                    ages.append((now, age))
            arriving = newest.arriving
    late = [age for now, age in ages if now > 2]
    assert len(late) > 8
    assert max(late) < 700, "a frame that waits for the one before and takes its own time"
    assert arriving == pytest.approx(25, abs=4), "frames that were left out are counted"
    assert newest.dropped > len(ages) / 2
    assert source.damaged == 0


def test_segments_are_played_at_their_pace_and_do_not_fall_behind(monkeypatch, tmp_path):
    """HLS comes a segment at a time: it was shown in a rush, and stood still for the rest of the second."""
    port = free_port()
    playlist = str(tmp_path / "cam.m3u8")
    segments = ("-f", "hls", "-hls_time", "1", "-hls_list_size", "4", "-hls_flags", "delete_segments")
    serve = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "-d", str(tmp_path)]
    with Sender.ffmpeg(*H264, *segments, playlist) as camera, subprocess.Popen(serve, stderr=subprocess.DEVNULL) as web:
        try:
            wait_for("a playlist", lambda: os.path.exists(playlist))
            time.sleep(2)
            ages = {}
            for slow in (False, True):
                if slow:
                    monkeypatch.setattr(rtstyle.live.latest, "SceneFollower", SlowFollower)
                with open_source(f"http://127.0.0.1:{port}/cam.m3u8", CaptureSettings(timeout=5, wait=0)) as source:
                    ages[slow] = ages_of(source, camera, 4)
        finally:
            web.kill()
    taken, late = zip(*ages[False], strict=True)
    assert np.diff(taken).max() < 0.7, "no pause of a whole segment"
    assert max(late[-20:]) - min(late[-20:]) < 500
    assert len(late) > 60
    assert max(age for _, age in ages[True]) < 5000
    assert ages[True][-1][1] - ages[True][8][1] < 500


def ages_of(source: LiveSource, camera: Sender, seconds: float) -> list[tuple[float, int]]:
    """The moments at which frames were taken, after the first second, and how many milliseconds old they were."""
    found = []
    with LatestFrame(source) as newest:
        newest.begin()
        begin = time.perf_counter()
        while (now := time.perf_counter() - begin) < seconds:
            captured = newest.take(2)
            assert captured is not None
            if now > 1:
                found.append((now, camera.milliseconds() - read_number(captured.frame.planes.y)))
    return found


def test_an_rtsp_camera_that_insists_on_udp_is_taken_as_well():
    port = free_port()
    with (
        Sender.rtsp(port, transports="UDP") as camera,
        open_source(f"rtsp://127.0.0.1:{port}/cam", CaptureSettings(wait=0)) as source,
    ):
        for captured, _ in zip(source.captures(), range(40), strict=False):
            lag = camera.milliseconds() - read_number(captured.frame.planes.y)
    assert lag < 500


@contextmanager
def lost_camera(**settings: object) -> Iterator[tuple[LatestFrame, int, list[str]]]:
    """A camera that has gone after some frames; with its port, and the lines about it."""
    lines: list[str] = []
    with NetworkCamera() as camera:
        port = int(camera.url.split(":")[2].split("/")[0])
        source = open_source(camera.url, CaptureSettings(timeout=1, **settings), tell=lines.append)
        with source, LatestFrame(source) as newest:
            newest.begin()
            wait_for("pictures", lambda: newest.captured > 2)
            camera.__exit__()
            yield newest, port, lines


def test_a_camera_that_comes_back_in_another_size_is_fitted_in():
    with lost_camera(wait=None) as (newest, port, lines):
        wait_for("the loss", lambda: newest.waiting)
        assert newest.waiting.startswith(f"http://127.0.0.1:{port}/cam.mjpg is gone; waiting for it (")
        while newest.take(0):
            pass
        upright = jpeg(np.full((160, 96, 3), 200, np.uint8))
        with NetworkCamera(picture=lambda index: upright, port=port):
            captured = newest.take(5)

    assert captured is not None
    luma = captured.frame.planes.y
    assert luma.shape == (SIZE.height, SIZE.width)
    assert luma[:, :48].max() < 8
    assert luma[:, -48:].max() < 8, "black borders"
    assert luma[4:-4, 56:-56].min() > 190
    assert any("now sends frames of 96x160: they are fitted into 160x96" in line for line in lines)


def test_strokes_stay_where_they_are_while_a_camera_is_away():
    """The canvas continues from where a pan had moved it to."""
    rng = np.random.default_rng(0)
    scene = cv2.resize(rng.integers(0, 255, (60, 200), np.uint8), (1600, 480), interpolation=cv2.INTER_CUBIC)

    def panned(index: int) -> bytes:
        left = 4 * min(index, 30)
        return jpeg(cv2.cvtColor(scene[100:340, left : left + 320], cv2.COLOR_GRAY2BGR))

    with NetworkCamera(picture=panned) as camera:
        port = int(camera.url.split(":")[2].split("/")[0])
        source = open_source(camera.url, CaptureSettings(timeout=1, wait=None))
        with source, LatestFrame(source) as newest:
            newest.begin()
            wait_for("the end of the pan", lambda: newest.captured > 40)
            before = newest.take(0).frame.canvas
            camera.__exit__()
            wait_for("the loss", lambda: newest.waiting)
            while newest.take(0):
                pass
            with NetworkCamera(picture=lambda index: panned(30), port=port):
                after = newest.take(5).frame.canvas

    assert before[0] > 60, "the canvas went with the scene"
    assert after == before


def test_a_stalled_camera_is_waited_for_like_one_that_vanished():
    lines: list[str] = []
    with NetworkCamera() as camera:
        source = open_source(camera.url, CaptureSettings(timeout=1, wait=None), tell=lines.append)
        with source, LatestFrame(source) as newest:
            newest.begin()
            camera.stalled.set()
            wait_for("the stall", lambda: newest.waiting)
            assert "stalled; waiting for it" in newest.waiting
            camera.stalled.clear()
            wait_for("the return", lambda: newest.waiting is None)
            while newest.take(0):
                pass
            captured = newest.take(3)
            assert captured is not None
            assert camera.milliseconds() - read_number(captured.frame.planes.y) < 500

    assert len(lines) == 2


def test_a_camera_that_stays_away_is_given_up_after_the_time_asked_for():
    with lost_camera(wait=1.0) as (newest, _, lines):
        begin = time.perf_counter()
        wait_for("the loss", lambda: newest.waiting)
        while newest.take(0):
            pass
        with pytest.raises(CameraError, match=r"is gone: .*; it was waited for \d s"):
            newest.take(10)
        assert 0.9 < time.perf_counter() - begin < 4
        assert len(lines) == 1


def test_leaving_does_not_wait_for_a_camera_that_is_away():
    with lost_camera(wait=None) as (newest, _, _):
        wait_for("the loss", lambda: newest.waiting)
        begin = time.perf_counter()
    assert time.perf_counter() - begin < 1.2


def test_a_source_that_was_never_there_is_an_error_at_once():
    begin = time.perf_counter()
    with pytest.raises(CameraError, match="connection refused"):
        open_source(f"http://127.0.0.1:{free_port()}/cam", CaptureSettings(wait=None))
    assert time.perf_counter() - begin < 1


def test_a_wait_below_zero_is_refused():
    with pytest.raises(SettingError, match="must be 0 seconds or more and at most a year, got -1"):
        open_source(0, CaptureSettings(wait=-1))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
def test_a_pipe_that_no_one_writes_into_or_with_rubbish_is_one_line(tmp_path):
    os.mkfifo(tmp_path / "cam")
    begin = time.perf_counter()
    with pytest.raises(SourceStalledError, match=r"nothing came through the pipe .* for 0.3 s; does a program write"):
        open_source(tmp_path / "cam", CaptureSettings(timeout=0.3, wait=0))
    assert time.perf_counter() - begin < 1

    writer = threading.Thread(target=(tmp_path / "cam").write_bytes, args=(b"no video at all " * 100,))
    writer.start()
    with pytest.raises(CameraError, match="no video that a pipe can carry"):
        open_source(tmp_path / "cam", CaptureSettings(timeout=3, wait=0))
    writer.join()


# -- the screen


WINDOW = """
import sys, time, pygame
image = pygame.image.load(sys.argv[1])
pygame.display.init()
pygame.display.set_mode(image.get_size(), pygame.NOFRAME).blit(image, (0, 0))
pygame.display.flip()
print("shown", flush=True)
while True:
    pygame.event.pump()
    time.sleep(0.05)
"""


@contextmanager
def x_server() -> Iterator[str]:
    """A screen of 640x480."""
    if shutil.which("Xvfb") is None:
        pytest.skip("Xvfb is not installed")
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "640x480x24", "-nolisten", "tcp"],
        pass_fds=[write],
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    try:
        with os.fdopen(read) as line:
            yield f":{line.readline().strip()}"
    finally:
        server.terminate()
        server.wait()


def look_at_the_screen() -> tuple[np.ndarray, np.ndarray]:
    """Luma of the whole screen, and of the region in which the window is."""
    with open_source("screen:", CaptureSettings(fps=Fraction(50))) as source:
        assert source.rate == 50
        for captured, _ in zip(source.captures(), range(200), strict=False):
            whole = captured.frame.planes.y
            if read_number(whole[50:, 100:]) == 4711:  # the screen may be slower than the window thinks
                break
    with open_source("screen:0+100,50", CaptureSettings(size=SIZE)) as source:
        region = next(source.captures()).frame.planes.y
        assert (source.size, source.notes) == (SIZE, [])
    with pytest.raises(CameraError, match=r"cannot be grabbed.*is 160x96 there"):
        open_source("screen:+600,50", CaptureSettings(size=SIZE))
    return whole, region


def test_the_screen_is_a_source_and_so_is_a_region_of_it(monkeypatch, tmp_path):
    with x_server() as display:
        monkeypatch.setenv("DISPLAY", display)
        cv2.imwrite(str(tmp_path / "window.png"), draw_number(4711))
        window = subprocess.Popen(
            [sys.executable, "-c", WINDOW, str(tmp_path / "window.png")],
            env={**os.environ, "SDL_VIDEODRIVER": "x11", "SDL_VIDEO_WINDOW_POS": "100,50"},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert window.stdout is not None
        with window:
            try:
                assert any(line == "shown\n" for line in window.stdout)
                whole, region = look_at_the_screen()
            finally:
                window.kill()

    assert whole.shape == (480, 640)
    assert read_number(whole[50:, 100:]) == read_number(region) == 4711


def test_a_screen_is_asked_for_in_the_words_of_each_platform():
    def asked(platform: str, source: str, size: Size | None = None, **environ: str) -> tuple[str, str, dict[str, str]]:
        request = screen_request(platform, source, size, None, environ)
        return request.format, request.file, request.options

    small = Size(320, 240)
    assert asked("linux", "screen:", DISPLAY=":7") == ("x11grab", ":7", {"framerate": "30"})
    assert asked("linux", "screen:1+8,9", small, DISPLAY=":7.0")[1:] == (
        ":7.1+8,9",
        {"framerate": "30", "video_size": "320x240"},
    )
    assert asked("win32", "screen:+8,9", small) == (
        "gdigrab",
        "desktop",
        {"framerate": "30", "video_size": "320x240", "offset_x": "8", "offset_y": "9"},
    )
    assert asked("darwin", "screen:1")[:2] == ("avfoundation", "Capture screen 1:none")
    with pytest.raises(CameraError, match="DISPLAY is not set"):
        asked("linux", "screen:")
    with pytest.raises(CameraError, match="Wayland"):
        asked("linux", "screen:", WAYLAND_DISPLAY="wayland-0")
    with pytest.raises(SettingError, match="give its size"):
        asked("linux", "screen:+8,9", DISPLAY=":7")
    with pytest.raises(SettingError, match="whole screens only"):
        asked("darwin", "screen:+8,9", small)
    with pytest.raises(CameraError, match="joins all screens"):
        asked("win32", "screen:1")


# -- files


def test_a_file_that_loops_continues_at_its_pace(tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", [0, 40, 80])
    numbers, moments = [], []
    with open_source(clip, CaptureSettings(loop=True)) as source:
        for captured in source.captures():
            numbers.append(read_number(captured.frame.planes.y))
            moments.append(captured.at)
            if len(numbers) == 8:
                break

    assert numbers == [0, 1, 2, 0, 1, 2, 0, 1]
    assert np.diff(moments) == pytest.approx(np.full(7, 0.04), abs=0.015), "no gap and no hurry between two rounds"


def write_pictures(folder: Path) -> Path:
    folder.mkdir()
    cv2.imwrite(str(folder / "p2.jpg"), draw_number(1), [cv2.IMWRITE_JPEG_QUALITY, 95])
    cv2.imwrite(str(folder / "p10.png"), cv2.resize(draw_number(2), None, fx=2, fy=2))
    cv2.imwrite(str(folder / "p1.png"), draw_number(0))
    return folder


def test_a_folder_of_images_is_shown_again_and_again_in_the_order_of_its_numbers(tmp_path):
    folder = write_pictures(tmp_path / "photos")
    begin = time.perf_counter()
    with open_source(folder, CaptureSettings(fps=Fraction(20))) as source:
        frames = []
        for captured in source.captures():
            frames.append(captured.frame)
            if len(frames) == 7:
                break

    assert 0.25 < time.perf_counter() - begin < 3
    assert [read_number(frame.planes.y) for frame in frames] == [0, 1, 2, 0, 1, 2, 0]
    assert {frame.size for frame in frames} == {SIZE}
    assert {frame.color for frame in frames} == {source.color}
    grey = [int(frame.planes.y[80:].mean().round()) for frame in frames[:3]]
    assert max(grey) - min(grey) <= 1, "JPEG codes grey otherwise than PNG comes here; converted, it is the same"


def test_frames_can_be_shown_once_and_the_last_one_as_long_as_the_others(tmp_path):
    folder = write_pictures(tmp_path / "photos")
    begin = time.perf_counter()
    with open_source(folder, CaptureSettings(fps=Fraction(10), loop=False)) as source:
        assert len(list(source)) == 3
    assert 0.28 < time.perf_counter() - begin < 1.5


def test_one_frame_stays_and_a_large_one_is_made_as_large_as_a_screen(tmp_path):
    cv2.imwrite(str(tmp_path / "photo.jpg"), np.full((3000, 2000, 3), 99, np.uint8))
    with open_source(tmp_path / "photo.jpg", CaptureSettings(fps=Fraction(100))) as source:
        captures = source.captures()
        assert [next(captures).frame.size for _ in range(3)] == 3 * [Size(720, 1080)]
        assert source.notes == [
            f"{tmp_path / 'photo.jpg'} sends frames of 2000x3000, not of 720x1080: they are scaled to 720x1080"
        ]


def test_a_folder_without_frames_is_refused(tmp_path):
    with pytest.raises(VideoOpenError, match="folder without images"):
        open_source(tmp_path)


# -- what cameras deliver


def write_raw(path: Path, format: str, y: np.ndarray, u: np.ndarray, v: np.ndarray) -> None:
    """One frame in a camera's own pixel format, written by hand: shape of ``u`` and ``v`` is half of ``y``'s."""
    height, width = y.shape
    if format in ("yuyv422", "uyvy422"):
        luma, chroma = (0, 1) if format == "yuyv422" else (1, 0)
        packed = np.empty((height, width, 2), np.uint8)
        packed[..., luma] = y
        packed[:, ::2, chroma], packed[:, 1::2, chroma] = u.repeat(2, 0), v.repeat(2, 0)  # chroma in every line
        samples = packed.tobytes()
    elif format in ("nv12", "nv21"):
        pair = (u, v) if format == "nv12" else (v, u)
        samples = y.tobytes() + np.stack(pair, -1).tobytes()
    else:
        samples = b"".join(plane.tobytes() for plane in (y, u, v))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, format
        container.start_encoding()
        packet = av.Packet(samples)
        packet.stream, packet.pts, packet.dts, packet.time_base = stream, 0, 0, Fraction(1, 25)
        container.mux(packet)


@pytest.mark.parametrize("format", ["yuyv422", "uyvy422", "nv12", "nv21", "yuv420p"])
def test_samples_of_every_raw_format_arrive_unchanged(format, tmp_path):
    rng = np.random.default_rng(1)
    y = rng.integers(16, 236, (SIZE.height, SIZE.width), np.uint8)
    u, v = rng.integers(16, 241, (2, SIZE.chroma.height, SIZE.chroma.width), np.uint8)
    write_raw(tmp_path / "cam.nut", format, y, u, v)

    with open_source(tmp_path / "cam.nut") as source:
        planes = next(source.captures()).frame.planes
        assert source.format == format
        assert not source.color.full_range

    assert np.array_equal(planes.y, y)
    for plane, chroma in ((planes.u, u), (planes.v, v)):
        assert np.array_equal(plane, chroma)


@pytest.mark.parametrize("format", ["yuvj420p", "yuvj422p", "yuvj444p"])
def test_motion_jpeg_keeps_its_full_range_in_every_subsampling(format, tmp_path):
    """Webcams send 4:2:2, phones 4:2:0."""
    picture = np.zeros((SIZE.height, SIZE.width, 3), np.uint8)
    picture[:, : SIZE.width // 2] = (255, 255, 255)
    picture[48:] = (30, 60, 220)  # BGR
    with av.open(str(tmp_path / "cam.avi"), "w") as container:
        stream = container.add_stream("mjpeg", rate=25, options={"qmin": "1", "qmax": "1"})
        stream.width, stream.height, stream.pix_fmt = SIZE.width, SIZE.height, format
        frame = av.VideoFrame.from_ndarray(picture, "bgr24").reformat(
            format=format, dst_colorspace="ITU601", dst_color_range="JPEG"
        )
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

    with open_source(tmp_path / "cam.avi") as source:
        planes = next(source.captures()).frame.planes
        assert source.format == "mjpeg"
        assert (source.color.matrix, source.color.full_range) == ("bt601", True)

    expected = 0.299 * 220 + 0.587 * 60 + 0.114 * 30
    assert planes.y[8:40, 8:72].mean() == pytest.approx(255, abs=1)
    assert planes.y[8:40, 88:].mean() == pytest.approx(0, abs=1)
    assert planes.y[56:, 8:-8].mean() == pytest.approx(expected, abs=2)
    assert planes.v[28:, 8:-8].mean() == pytest.approx(128 + 0.713 * (220 - expected), abs=2)
    assert planes.u[28:, 8:-8].mean() == pytest.approx(128 + 0.564 * (30 - expected), abs=2)


def test_a_camera_that_is_turned_continues_upright_with_borders():
    lying, standing = (jpeg(np.full((*shape, 3), 200, np.uint8)) for shape in ((96, 160), (160, 96)))
    lines: list[str] = []
    with (
        NetworkCamera(picture=lambda index: lying if index < 4 or 8 <= index < 12 else standing) as camera,
        open_source(camera.url, CaptureSettings(timeout=2, wait=0), tell=lines.append) as source,
    ):
        frames = [captured.frame for captured, _ in zip(source.captures(), range(14), strict=False)]

    assert {frame.size for frame in frames} == {SIZE}
    black = [bool((frame.planes.y[:, :40] < 8).all()) for frame in frames]
    assert black == 4 * [False] + 4 * [True] + 4 * [False] + 2 * [True]
    assert all(frame.planes.y[8:-8, 60:100].min() > 190 for frame in frames)
    assert len(lines) == 1, "told once, also when it turns again"
    assert "now sends frames of 96x160: they are fitted into 160x96, with black borders" in lines[0]


# -- lists


def test_devices_lists_what_is_here(capsys):
    assert main(["devices"]) == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if not line.startswith(" ")][:3] == ["cameras", "screens", "microphones"]
    assert main(["devices", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {"cameras", "screens", "microphones", "virtual_cameras"} == set(listed)
    if sys.platform.startswith("linux"):
        present = {str(path) for path in Path("/dev").glob("video[0-9]*")}
        assert {camera["device"] for camera in listed["cameras"]} <= present


def test_microphones_are_read_from_the_kernels_list():
    lines = (
        "00-00: ALC257 Analog : ALC257 Analog : playback 1 : capture 1\n"
        "00-03: HDMI 0 : HDMI 0 : playback 1\n"
        "02-00: USB Audio : USB Audio : capture 1\n"
    )
    assert [(mic.device, mic.name) for mic in read_alsa(lines)] == [
        ("plughw:0,0", "ALC257 Analog"),
        ("plughw:2,0", "USB Audio"),
    ]

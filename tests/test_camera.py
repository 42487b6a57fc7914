"""Live sources: real network cameras on loopback, real files, and the message when there is none."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

import av
import av.error
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from rtstyle.camera import CaptureSettings, device_requests, list_cameras, mirrored, open_source
from rtstyle.camera.address import SourceAddress
from rtstyle.camera.feed import StreamFeed
from rtstyle.camera.v4l2 import CameraMode
from rtstyle.errors import CameraError, SettingError, SourceStalledError, VideoOpenError
from rtstyle.frame import Color, Frame, Planes, Size

SIZE = Size(160, 96)
BITS, BIT_WIDTH = 16, 8


def draw_number(number: int, size: Size = SIZE) -> NDArray[np.uint8]:
    """A grey BGR frame that carries ``number`` as a row of black and white bars."""
    picture = np.full((size.height, size.width, 3), 90, np.uint8)
    for bit in range(BITS):
        picture[16:64, bit * BIT_WIDTH : (bit + 1) * BIT_WIDTH] = 255 if number >> bit & 1 else 0
    return picture


def read_number(luma: NDArray[np.uint8]) -> int:
    """What ``draw_number`` wrote, from the luma of the frame."""
    bars = luma[24:56, : BITS * BIT_WIDTH].reshape(32, BITS, BIT_WIDTH)[:, :, 2:-2].mean((0, 2))
    return sum(1 << bit for bit, level in enumerate(bars) if level > 128)


def jpeg(picture: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


class NetworkCamera:
    """An MJPEG camera on loopback, as cameras and phones serve it: a multipart stream over HTTP.

    Each frame carries the milliseconds since the camera was made, from its own clock.
    """

    def __init__(self, fps: float = 30, picture: Callable[[int], bytes] | None = None, port: int = 0) -> None:
        self.stalled, self.gone = threading.Event(), threading.Event()
        self.begin = time.perf_counter()
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                try:
                    for part in camera.parts(fps, picture or camera.clock):
                        self.wfile.write(part)
                except OSError:
                    pass  # the viewer left

            def log_message(self, format: str, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = False  # so that closing joins those that serve
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.url = f"http://127.0.0.1:{self._server.server_port}/cam.mjpg"

    def milliseconds(self) -> int:
        return round(1000 * (time.perf_counter() - self.begin))

    def clock(self, index: int) -> bytes:
        return jpeg(draw_number(self.milliseconds()))

    def parts(self, fps: float, picture: Callable[[int], bytes]) -> Iterator[bytes]:
        begin, index = time.perf_counter(), 0
        while not self.gone.is_set():
            if not self.stalled.is_set():
                data = picture(index)
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                yield head.encode() + data + b"\r\n"
            index += 1
            self.gone.wait(max(0.0, begin + index / fps - time.perf_counter()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.gone.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def write_clip(path: Path, pts: list[int], *, size: Size = SIZE, rotation: int = 0) -> Path:
    """A lossless clip whose frames carry their index and are shown at ``pts`` milliseconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"qp": "0", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = size.width, size.height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        for index, moment in enumerate(pts):
            picture = av.VideoFrame.from_ndarray(draw_number(index, size), "bgr24").reformat(format="yuv420p")
            picture.pts, picture.time_base = moment, Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def one_line(error: pytest.ExceptionInfo[Exception]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert "Traceback" not in text
    return text


# -- cameras of this machine


@pytest.mark.parametrize(
    ("platform", "camera", "expected"),
    [
        ("linux", "0", ("v4l2", "/dev/video0")),
        ("linux", "/dev/v4l/by-id/usb-cam", ("v4l2", "/dev/v4l/by-id/usb-cam")),
        ("win32", "1", ("dshow", "video=USB Camera")),
        ("win32", "video=Integrated", ("dshow", "video=Integrated")),
        ("darwin", "0", ("avfoundation", "0:none")),
        ("darwin", "FaceTime HD", ("avfoundation", "FaceTime HD:none")),
    ],
)
def test_a_camera_is_asked_for_in_the_words_of_each_platform(platform, camera, expected):
    requests = device_requests(platform, camera, Size(1280, 720), Fraction(30), ["Integrated", "USB Camera"])

    assert {(r.format, r.file) for r in requests} == {expected}
    assert requests[0].options["video_size"] == "1280x720"
    assert requests[0].options["framerate"] == "30"
    assert "video_size" not in requests[-1].options, "the last try takes what the camera gives"


def test_linux_asks_for_mjpeg_first_where_a_mode_is_requested():
    wished = device_requests("linux", "0", Size(1920, 1080), None)
    plain = device_requests("linux", "0", None, None)

    assert [r.options.get("input_format") for r in wished] == ["mjpeg", None, None]
    assert len(plain) == 1
    assert "video_size" not in plain[0].options


def test_linux_asks_for_raw_frames_first_where_the_camera_gives_them_fast_enough():
    modes = [
        CameraMode("MJPG", Size(1280, 720), (Fraction(30),)),
        CameraMode("YUYV", Size(1280, 720), (Fraction(10), Fraction(5))),
        CameraMode("YUYV", Size(640, 480), (Fraction(30000, 1001), Fraction(15))),
    ]

    def formats(size: Size, fps: Fraction | None = None) -> list[str | None]:
        return [r.options.get("input_format") for r in device_requests("linux", "0", size, fps, modes=modes)]

    assert formats(Size(640, 480)) == [None, "mjpeg", None]
    assert formats(Size(640, 480), Fraction(60)) == ["mjpeg", None, None]
    assert formats(Size(1280, 720)) == ["mjpeg", None, None]
    assert formats(Size(1280, 720), Fraction(10)) == [None, "mjpeg", None]


def test_windows_names_its_cameras_when_the_number_is_too_high():
    with pytest.raises(CameraError, match="no camera 2; cameras found: Integrated, USB Camera") as error:
        device_requests("win32", "2", None, None, ["Integrated", "USB Camera"])
    one_line(error)


@pytest.mark.skipif(sys.platform != "linux", reason="device paths of Linux")
@pytest.mark.parametrize("source", [63, "63", "/dev/video63"])
def test_an_absent_camera_is_one_line_that_says_what_there_is(source):
    with pytest.raises(CameraError, match=r"^no .*/dev/video63.*camera.*URL or a video file") as error:
        open_source(source)
    one_line(error)


@pytest.mark.skipif(sys.platform != "linux", reason="device paths of Linux")
def test_a_device_that_is_no_camera_is_refused():
    with pytest.raises(CameraError, match="cannot open /dev/null"):
        open_source("/dev/null")


def test_cameras_are_listed_as_lines():
    cameras = list_cameras()
    assert all(str(camera).startswith(f"{camera.source}: {camera.device}") for camera in cameras)
    if sys.platform == "linux":
        assert {camera.device for camera in cameras} <= set(map(str, Path("/dev").glob("video*")))


# -- network cameras


def test_a_network_camera_gives_its_frames_as_they_come():
    with NetworkCamera() as camera, open_source(camera.url, CaptureSettings(timeout=3, wait=0)) as source:
        assert (source.size, source.live, source.notes) == (SIZE, True, [])
        assert source.color.full_range, "JPEG is full range"
        assert source.rate is None, "MJPEG over HTTP does not say its rate"
        lags = []
        for captured in source.captures():
            lags.append(captured.at - camera.begin - read_number(captured.frame.planes.y) / 1000)
            if len(lags) == 20:
                break

    assert captured.frame.planes.u.shape == (48, 80)
    assert min(lags) > -0.002
    assert max(lags[5:]) < 0.5, "from the camera's clock to ours"


def test_a_network_camera_that_stalls_is_found_out_in_time():
    with NetworkCamera() as camera, open_source(camera.url, CaptureSettings(timeout=0.6, wait=0)) as source:
        captures = source.captures()
        for _ in range(5):
            next(captures)
        camera.stalled.set()
        begin = time.perf_counter()
        with pytest.raises(SourceStalledError, match=r"stalled: no frame for 0\.6 s") as error:
            for _ in captures:
                pass
        assert time.perf_counter() - begin < 2
        one_line(error)


def test_a_caller_that_takes_longer_than_the_timeout_is_no_silence_of_the_camera():
    """On a starved machine, the camera was reported to send no frame."""
    with NetworkCamera() as camera, open_source(camera.url, CaptureSettings(timeout=0.5, wait=0)) as source:
        for number, _ in enumerate(source.captures()):
            time.sleep(0.7)
            if number == 2:
                break


def test_a_camera_that_never_sends_is_found_out_when_it_is_opened():
    with NetworkCamera() as camera:
        camera.stalled.set()
        begin = time.perf_counter()
        with pytest.raises(SourceStalledError, match=r"did not answer within 0\.5 s") as error:
            open_source(camera.url, CaptureSettings(timeout=0.5, wait=0))
        assert time.perf_counter() - begin < 2
        one_line(error)


def test_a_camera_that_goes_away_is_an_error_and_no_end():
    with NetworkCamera() as camera, open_source(camera.url, CaptureSettings(timeout=2, wait=0)) as source:
        captures = source.captures()
        next(captures)
        camera.gone.set()
        with pytest.raises(CameraError, match=r"cam\.mjpg is gone") as error:
            for _ in captures:
                pass
        assert not isinstance(error.value, SourceStalledError)
        one_line(error)


def test_a_refused_connection_says_so_and_keeps_the_password_for_itself():
    with NetworkCamera() as camera:
        port = camera.url.split(":")[2].split("/")[0]
    with pytest.raises(CameraError, match="connection refused") as error:
        open_source(f"http://me:secret@127.0.0.1:{port}/cam.mjpg")
    assert "me:***@127.0.0.1" in one_line(error)
    assert "secret" not in str(error.value)


def test_a_damaged_frame_is_left_out_and_counted():
    def picture(index: int) -> bytes:
        good = jpeg(draw_number(index))
        return b"\xff\xd8\xff\xe0 no frame \xff\xd9" if index == 4 else good

    with (
        NetworkCamera(picture=picture) as camera,
        open_source(camera.url, CaptureSettings(timeout=2, wait=0)) as source,
    ):
        numbers = []
        for captured in source.captures():
            numbers.append(read_number(captured.frame.planes.y))
            if len(numbers) == 10:
                break

    assert numbers == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10]
    assert source.damaged == 1


def test_frames_of_a_url_are_scaled_to_the_size_asked_for():
    with (
        NetworkCamera() as camera,
        open_source(camera.url, CaptureSettings(size=Size(80, 48), timeout=2, wait=0)) as source,
    ):
        captured = next(source.captures())

    assert source.size == Size(80, 48)
    assert captured.frame.size == Size(80, 48)
    assert captured.frame.planes.v.shape == (24, 40)
    assert source.notes == [f"{camera.url} sends frames of 160x96, not of 80x48: they are scaled to 80x48"]


# -- files


def test_a_file_is_played_at_its_own_pace(tmp_path):
    pts = [0, 40, 60, 200, 233, 400, 410, 600]  # uneven, as phones record
    clip = write_clip(tmp_path / "clip.mp4", pts)
    with open_source(str(clip)) as source:
        begin = time.perf_counter()
        came = [(read_number(c.frame.planes.y), c.frame, c.at, time.perf_counter()) for c in source.captures()]

    assert [number for number, *_ in came] == list(range(len(pts)))
    assert [round(1000 * frame.pts * frame.time_base) for _, frame, _, _ in came] == pts
    due = [at - came[0][2] for _, _, at, _ in came]
    assert due == pytest.approx([moment / 1000 for moment in pts], abs=1e-6)
    assert all(now - at > -0.001 for _, _, at, now in came), "never early"
    assert 0.55 < time.perf_counter() - begin < 2


def test_a_pause_in_the_timestamps_of_a_file_is_not_sat_out(tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", [0, 40, 3_600_000, 3_600_040])
    with open_source(str(clip), CaptureSettings(timeout=0.5)) as source:
        begin = time.perf_counter()
        assert len(list(source)) == 4
    assert time.perf_counter() - begin < 1.5


def test_a_file_can_be_stopped_between_two_frames(tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", [0, 4000])
    with open_source(str(clip)) as source:
        stopper = threading.Timer(0.2, source.stop)
        stopper.start()
        begin = time.perf_counter()
        assert len(list(source.captures())) == 1
        assert time.perf_counter() - begin < 2
        stopper.join()


def test_a_clip_recorded_with_the_phone_held_upright_comes_upright(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", [0, 40], rotation=90)
    with open_source(str(clip)) as source:
        frame = next(source.captures()).frame

    assert source.size == frame.size == Size(96, 160)
    assert read_number(np.rot90(frame.planes.y, -1)) == 0, "turned counterclockwise"


def test_a_file_that_is_no_video_is_refused(tmp_path):
    text = tmp_path / "notes.mp4"
    text.write_text("no video\n" * 100)
    empty = tmp_path / "empty.mp4"
    empty.touch()
    for path in (text, empty):
        with pytest.raises(VideoOpenError, match="is no video") as error:
            open_source(str(path))
        one_line(error)


def test_a_file_with_audio_only_is_refused(tmp_path):
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(VideoOpenError, match="has no video, only audio"):
        open_source(str(path))


def test_a_name_that_is_nothing_says_what_may_be_given():
    with pytest.raises(CameraError, match=r"no camera, file or URL 'clpi\.mp4'; .*video file") as error:
        open_source("clpi.mp4")
    one_line(error)


@pytest.mark.parametrize("setting", [{"timeout": 0}, {"fps": Fraction(0)}])
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(SettingError, match="above 0"):
        open_source(0, CaptureSettings(**setting))


class Driver:
    """A camera whose packets are its driver's: real ones, of a clip; then it is unplugged, or it stalls."""

    def __init__(self, clip: Path, end: Exception) -> None:
        self._container = av.open(str(clip))
        self.streams, self.format = self._container.streams, self._container.format
        self.packets = [packet for packet in self._container.demux(video=0) if packet.size]
        self.end = end

    def demux(self, stream: object) -> Iterator[av.Packet]:
        left = iter(self.packets)
        return iter(lambda: next(left, None) or self.gone(), None)

    def gone(self) -> None:
        raise self.end

    def close(self) -> None:
        self.held = [sys.getrefcount(self.packets[i]) > 2 for i in range(len(self.packets))]
        self._container.close()


@pytest.mark.parametrize("end", [av.error.OSError(19, "No such device"), av.error.ExitError(-1, "Immediate exit")])
@pytest.mark.parametrize("way", ["to its end", "stopped", "given up"])
def test_no_packet_of_a_camera_outlives_its_container(way, end, tmp_path):
    """FFmpeg gives a packet's memory back to the driver through the container: later it is a crash."""
    driver, stop = Driver(write_clip(tmp_path / "clip.mkv", list(range(0, 400, 40))), end), threading.Event()
    feed = StreamFeed(driver, SourceAddress("device", "0", "camera 0"), timeout=1, stop=stop)
    errors = []  # what waits for the camera to come back holds the error, and with it all that its frames hold
    pictures = feed.av_frames()
    try:
        for count, _ in enumerate(pictures):
            if way == "stopped" and count == 3:
                stop.set()
            if way == "given up" and count == 3:
                break
    except CameraError as error:
        errors.append(error)
    feed.close()

    assert bool(errors) == (way == "to its end")
    assert not any(driver.held)


# -- mirror


def test_a_mirror_exchanges_left_and_right_without_a_copy():
    planes = Planes(*(np.arange(h * w, dtype=np.uint8).reshape(h, w) for h, w in ((6, 8), (3, 4), (3, 4))))
    frame = Frame(planes, 5, Fraction(1, 25), Color(), canvas=(7, -3))

    image = mirrored(frame)

    assert image.canvas == (-7, -3), "the camera moved the other way"
    for plane, original in zip(image.planes, planes, strict=True):
        assert np.array_equal(plane, original[:, ::-1])
        assert np.shares_memory(plane, original)
    assert all(np.array_equal(a, b) for a, b in zip(mirrored(image).planes, planes, strict=True))

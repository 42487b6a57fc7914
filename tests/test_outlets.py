"""Fanout: none stalls another, and what each sends is what FFmpeg's own programs receive."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from clips import Sound as Tone
from clips import make_clip
from senders import free_port, needs_ffmpeg, receiver, wait_for_port
from test_camera import NetworkCamera, draw_number, read_number

import rtstyle.live.sinks.outputs
import rtstyle.live.sinks.virtual_camera
from rtstyle import Controls, Frame
from rtstyle.camera import CaptureSettings, v4l2
from rtstyle.errors import CameraError, OutputExistsError, SettingError, VideoWriteError
from rtstyle.frame import Color, Planes, Size, VideoFormat
from rtstyle.live import LiveSettings, Outputs, stylize_live
from rtstyle.live.fanout import Fanout
from rtstyle.live.microphone import AudioClock, MicrophoneCapture, microphone_requests
from rtstyle.live.sinks.readers import DeviceReaders
from rtstyle.live.sinks.recording import Recording
from rtstyle.live.sinks.sink import CLOCK, FrameDropped
from rtstyle.live.sinks.stream import StreamSink, destination, even
from rtstyle.live.sinks.virtual_camera import YuyvFiller, find_virtual_cameras, open_virtual_camera, steady_rate
from rtstyle.video import VideoWriter
from rtstyle.video.audio import RATE, AudioChunk

SIZE = Size(320, 192)
COLOR = Color("bt601")


@pytest.fixture(autouse=True)
def nothing_left_over() -> Iterator[None]:
    """No test may leave a thread or a process."""
    threads = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= threads
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def numbered(number: int) -> Frame:
    """A frame that shows a number as bars."""
    luma = draw_number(number, SIZE)[..., 0] // 2 + 60
    chroma = np.full((SIZE.height // 2, SIZE.width // 2), 128, np.uint8)
    return Frame(Planes(luma, chroma, chroma), 0, Fraction(1, 30), COLOR)


def number_in(luma: np.ndarray) -> int:
    return read_number(np.where(luma > 120, 255, 0))


def feed(outlets: Fanout, seconds: float, fps: float = 30, first: int = 0) -> tuple[int, float]:
    """Write numbered frames at a pace; return how many, and the longest time that a write took."""
    begin, count, longest = time.perf_counter(), 0, 0.0
    while time.perf_counter() - begin < seconds:
        frame, at = numbered(first + count), time.perf_counter()
        outlets.write(frame, at)
        longest = max(longest, time.perf_counter() - at)
        count += 1
        time.sleep(max(0.0, begin + count / fps - time.perf_counter()))
    return count, longest


def feed_until(outlets: Fanout, happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 15
    while not happened():
        feed(outlets, 0.2)
        assert time.monotonic() < end, "it never happened"


def recording(path: Path, *, sound: bool = False, tell: Callable[[str], None] = print) -> Recording:
    writer = VideoWriter(path, VideoFormat(SIZE, COLOR, CLOCK, Fraction(30)), live_audio=sound)
    return Recording(writer, tell)


def push(
    url: str, outlets: Fanout, *, sound: bool = False, timeout: float = 3, lines: list[str] | None = None
) -> StreamSink:
    return StreamSink(
        destination(url),
        like=VideoFormat(SIZE, COLOR, CLOCK, Fraction(30)),
        audio=sound,
        tell=lines.append if lines is not None else print,
        warn=outlets.warn,
        timeout=timeout,
    )


class Collector:
    """A sink that keeps what it gets, as slowly as wanted."""

    def __init__(self, seconds: float = 0.0, fail_at: int | None = None) -> None:
        self.times: list[int] = []
        self.numbers: list[int] = []
        self.written: list[float] = []
        self.closed = 0
        self._seconds, self._fail_at = seconds, fail_at

    def write(self, frame: Frame) -> None:
        if len(self.times) == self._fail_at:
            raise VideoWriteError("the cable is cut")
        time.sleep(self._seconds)
        assert frame.time_base == CLOCK
        self.times.append(frame.pts)
        self.numbers.append(number_in(frame.planes.y))
        self.written.append(time.perf_counter())

    def close(self) -> None:
        self.closed += 1


# -- threads and policies


def test_a_slow_sink_stalls_neither_the_caller_nor_another():
    slow, fast = Collector(0.3), Collector()
    with Fanout(print) as outlets:
        outlets.add("slow", slow, "latest")
        outlets.add("fast", fast, "latest")
        count, longest = feed(outlets, 1.5)
        state = outlets.state()

    assert longest < 0.1, "seconds; the slow one takes 0.3 a frame"
    assert len(fast.numbers) >= count - 3
    assert len(slow.numbers) <= 6
    assert slow.numbers[-1] > count - 15, "its frames are new ones"
    assert state["slow"].dropped > count / 2
    assert state["slow"].latency_ms["p50"] >= 300 > state["fast"].latency_ms["p50"]
    assert (slow.closed, fast.closed) == (1, 1)


def test_a_sink_that_wants_all_gets_all_and_is_finished_at_the_end():
    sink = Collector(0.01)
    with Fanout(print) as outlets:
        outlets.add("file", sink, "all")
        for number in range(60):
            outlets.write(numbered(number), 100 + number / 1000)

    assert sink.numbers == list(range(60))
    assert sink.times == [round((100 + number / 1000) * 90000) for number in range(60)]
    assert outlets.state()["file"][:2] == (60, 0)


def test_a_queue_is_bounded_and_what_had_no_room_is_counted():
    height, width = 3000, 4000
    large = Planes(np.zeros((height, width), np.uint8), *np.zeros((2, height // 2, width // 2), np.uint8))
    wait = threading.Event()

    class Stuck:
        def write(self, frame: Frame) -> None:
            wait.wait(10)

        def close(self) -> None: ...

    with Fanout(print) as outlets:
        outlets.add("file", Stuck(), "all")
        for number in range(40):
            outlets.write(Frame(large, number, CLOCK, COLOR), float(number))
        waiting = 40 - outlets.state()["file"].dropped
        wait.set()

    assert waiting * 18e6 < 300e6, "bytes"
    assert outlets.state()["file"].frames == waiting


def test_the_last_frame_is_repeated_at_a_steady_pace_and_fast_sources_are_thinned():
    slow, fast = Collector(), Collector()
    for sink, fps in ((slow, 5), (fast, 100)):
        with Fanout(print) as outlets:
            outlets.add("virtual camera", sink, "latest", spacing=0.75 / 30, patience=1.25 / 30)
            feed(outlets, 1.0, fps=fps)
    assert 18 <= len(slow.numbers) <= 32
    assert len(set(slow.numbers)) <= 6
    assert 18 <= len(fast.numbers) <= 41
    assert len(set(fast.numbers)) == len(fast.numbers)
    assert slow.times == sorted(set(slow.times)), "times continue, for repeated frames too"


def test_a_sink_that_fails_is_reported_the_others_continue_and_it_is_raised_at_the_end():
    lines: list[str] = []
    good, bad = Collector(), Collector(fail_at=3)
    outlets = Fanout(lines.append)
    outlets.add("good", good, "all")
    outlets.add("bad", bad, "all")
    count, _ = feed(outlets, 0.5)
    assert outlets.names == ["good"]
    with pytest.raises(VideoWriteError, match="the cable is cut"):
        outlets.__exit__(None, None, None)

    assert good.numbers == list(range(count))
    assert len(bad.numbers) == 3
    assert bad.closed == 1
    assert lines == outlets.warnings == ["bad has ended: the cable is cut"]


def test_where_nothing_else_is_left_a_failure_is_raised_at_once():
    outlets = Fanout(print, alone=True)
    outlets.add("bad", Collector(fail_at=3), "all")
    with pytest.raises(VideoWriteError, match="the cable is cut"):
        feed(outlets, 5)
    outlets.close()


def test_one_sink_is_taken_away_without_waiting_for_it(tmp_path):
    sink = Collector(0.05)
    with Fanout(print) as outlets:
        assert outlets.add("recording", sink, "all") == "recording"
        feed(outlets, 0.5)
        begin = time.perf_counter()
        outlets.remove("recording")
        outlets.remove("never there")
        assert time.perf_counter() - begin < 0.02
        count = outlets.add("recording", Collector(), "all")
        assert count == "recording 2"
        feed(outlets, 0.2, first=1000)

    assert len(sink.numbers) >= 10, "it still got what was waiting"
    assert max(sink.numbers) < 1000
    assert set(outlets.state()) == {"recording", "recording 2"}


def test_a_frame_that_is_left_out_counts_as_dropped():
    class Choosy(Collector):
        def write(self, frame: Frame) -> None:
            if number_in(frame.planes.y) % 2:
                raise FrameDropped
            super().write(frame)

    sink = Choosy()
    with Fanout(print) as outlets:
        outlets.add("choosy", sink, "all")
        for number in range(10):
            outlets.write(numbered(number), float(number))

    assert sink.numbers == [0, 2, 4, 6, 8]
    assert outlets.state()["choosy"][:2] == (5, 5)


# -- what goes where


def test_addresses_are_put_into_ffmpegs_words(tmp_path):
    assert destination("rtmp://live.example/app/secret").format == "flv"
    assert destination("rtmps://live.example/app/secret").name == "rtmps://live.example/app/..."
    assert destination("rtsp://me:secret@host/x").name == "rtsp://host/x"
    assert destination("rtsp://me:secret@host/x").url == "rtsp://me:secret@host/x"
    assert destination("rtsp://host/x").options["rtsp_transport"] == "tcp"
    assert destination("udp://127.0.0.1:5000").url == "udp://127.0.0.1:5000?pkt_size=1316"
    assert destination("udp://127.0.0.1:5000?ttl=2").url == "udp://127.0.0.1:5000?ttl=2&pkt_size=1316"
    assert destination("tcp://127.0.0.1:5000").format == "mpegts"
    assert destination(str(tmp_path / "live.m3u8")).format == "hls"
    assert destination("https://host/live.m3u8?key=secret").name == "https://host/live.m3u8"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("out.mp4", "--record"),
        ("srt://host:9000", "srt is no protocol.*ffmpeg -i udp"),
        ("http://host/x.ts", r"http://HOST/NAME\.m3u8"),
        ("https://host/whip", "WHIP is not supported; OBS speaks it"),
        ("whip://host/live", "WHIP is not supported; OBS speaks it"),
        ("rtmp://", "an address"),
        ("udp://host", "udp needs a host and a port"),
        ("tcp://:5000", "tcp needs a host and a port"),
        ("udp://host:99999", "the port of an output is a number from 1 to 65535"),
    ],
)
def test_what_is_no_address_is_refused_in_one_line(text, words):
    with pytest.raises(SettingError, match=words) as error:
        destination(text)
    assert "\n" not in str(error.value)


def test_a_playlist_that_exists_is_not_lost(tmp_path):
    (tmp_path / "live.m3u8").write_text("precious")
    with pytest.raises(OutputExistsError):
        destination(str(tmp_path / "live.m3u8"))
    assert destination(str(tmp_path / "live.m3u8"), overwrite=True).format == "hls"
    with pytest.raises(VideoWriteError, match="no folder"):
        destination(str(tmp_path / "nowhere" / "live.m3u8"))


def test_odd_frames_lose_their_last_line_and_column():
    planes = Planes(*(np.arange(h * w, dtype=np.uint8).reshape(h, w) for h, w in ((97, 161), (49, 81), (49, 81))))
    cut = even(Frame(planes, 0, CLOCK, COLOR)).planes
    assert [plane.shape for plane in cut] == [(96, 160), (48, 80), (48, 80)]
    assert np.array_equal(cut.y, planes.y[:96, :160])
    assert np.array_equal(cut.u, planes.u[:48, :80])


# -- independent receivers


def probe(path: Path | str) -> list[dict[str, str]]:
    """The streams as ffprobe sees them, with the number of packets counted."""
    command = ["ffprobe", "-v", "error", "-count_packets", "-show_streams", "-of", "json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    return list(json.loads(done.stdout)["streams"])


def pictures(path: Path | str) -> list[tuple[float, int]]:
    """Moment and number of each frame, as FFmpeg's program decodes it."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-map", "0:v", "-vsync", "0", "-f", "rawvideo"]
    raw = subprocess.run([*command, "-pix_fmt", "gray", "-"], capture_output=True, timeout=30, check=True).stdout
    luma = np.frombuffer(raw, np.uint8).reshape(-1, SIZE.height, SIZE.width)
    shown = ["ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", "frame=pts_time", "-of", "csv=p=0"]
    times = subprocess.run([*shown, str(path)], capture_output=True, text=True, timeout=30, check=True).stdout.split()
    return [(float(t.strip(",")), number_in(p)) for t, p in zip(times, luma, strict=False)]


class PlaylistServer:
    """Takes what HLS uploads by PUT, as a web server does."""

    def __init__(self, folder: Path) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                data = b""
                while True:
                    size = int(self.rfile.readline().split(b";")[0] or b"0", 16)
                    data += self.rfile.read(size)
                    self.rfile.readline()
                    if not size:
                        break
                (folder / Path(self.path).name).write_bytes(data)
                self.send_response(201)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> PlaylistServer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@needs_ffmpeg
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="ports are looked up as Linux lists them")
def test_one_stream_goes_everywhere_at_once_and_each_receiver_sees_it(tmp_path):
    rtmp, rtsp, tcp, udp = free_port(), free_port(), free_port(), free_port(socket.SOCK_DGRAM)
    web = tmp_path / "web"
    web.mkdir()
    lines: list[str] = []
    names = ("rtmp.mkv", "rtsp.mkv", "tcp.mkv", "udp.mkv")
    with (
        receiver("-listen", "1", "-i", f"rtmp://127.0.0.1:{rtmp}/live/x", target=tmp_path / names[0]),
        receiver("-rtsp_flags", "listen", "-i", f"rtsp://127.0.0.1:{rtsp}/x", target=tmp_path / names[1]),
        receiver("-i", f"tcp://127.0.0.1:{tcp}?listen=1", target=tmp_path / names[2]),
        receiver("-i", f"udp://127.0.0.1:{udp}?timeout=2500000", target=tmp_path / names[3]),
        PlaylistServer(web) as server,
        Fanout(lines.append) as outlets,
    ):
        for port in (rtmp, rtsp, tcp, udp):
            wait_for_port(port)
        urls = [
            f"rtmp://127.0.0.1:{rtmp}/live/x", f"rtsp://127.0.0.1:{rtsp}/x", f"tcp://127.0.0.1:{tcp}",
            f"udp://127.0.0.1:{udp}", str(tmp_path / "live.m3u8"), f"{server.url}/live.m3u8",
        ]  # fmt: skip
        for url in urls:
            outlets.add(url, push(url, outlets, lines=lines), "latest")
        outlets.add("recording", recording(tmp_path / "r.mkv", tell=lines.append), "all")
        count, longest = feed(outlets, 5)
        outlets.close()
        state = outlets.state()

    assert longest < 0.1
    assert outlets.warnings == []
    assert sum(line.startswith("sending to") for line in lines) == 6
    assert len(pictures(tmp_path / "r.mkv")) == state["recording"].frames == count
    for place in (*(tmp_path / name for name in names), tmp_path / "live.m3u8", web / "live.m3u8"):
        stream = probe(place)[0]
        assert (stream["codec_name"], stream["width"], stream["height"]) == ("h264", SIZE.width, SIZE.height), place
        assert stream["has_b_frames"] == 0, place
        seen = pictures(place)
        assert len(seen) > count / 2, place
        pace = {b[1] - a[1] for a, b in pairwise(seen[1:])}
        assert min(pace) >= 1, (place, "numbers only grow")
        assert max(pace) <= 8, (place, "and none is missing for long")
        for moment, number in seen[15:]:  # RTSP finds its clock within the first ones
            assert seen[-1][0] - moment == pytest.approx((seen[-1][1] - number) / 30, abs=0.3), (place, "in real time")
    segments = sorted(path.name for path in tmp_path.glob("live-*.ts"))
    assert 3 <= len(segments) <= 5, "of two seconds each, so each begins with a key frame"
    assert sorted(path.name for path in web.glob("*.ts"))


@needs_ffmpeg
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="ports are looked up as Linux lists them")
def test_a_receiver_that_goes_and_comes_back_is_found_again(tmp_path):
    port = free_port()
    url = f"rtmp://127.0.0.1:{port}/live/key"
    lines: list[str] = []
    with Fanout(lines.append) as outlets:
        sink = push(url, outlets, lines=lines)
        outlets.add("push", sink, "latest")
        feed_until(outlets, lambda: any("cannot be reached" in line for line in lines))  # nothing is there yet
        for number in (1, 2):
            with receiver("-listen", "1", "-i", url, target=tmp_path / f"{number}.ts", stop=True):
                feed_until(outlets, lambda number=number: sink.connections >= number)
                feed(outlets, 2, first=100 * number)
            feed_until(outlets, lambda number=number: sum("is lost" in line for line in lines) == number)
        state = outlets.state()["push"]

    assert sum("is back after" in line for line in lines) == 2, lines
    assert sum("cannot be reached" in line or "is lost" in line for line in lines) == 3, lines
    assert not any("key" in line for line in lines), "the stream key is a secret"
    assert state.dropped > 10, "frames were left out meanwhile"
    for number in (1, 2):
        assert max(seen for _, seen in pictures(tmp_path / f"{number}.ts")) >= 100 * number + 30


@needs_ffmpeg
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="ports are looked up as Linux lists them")
def test_a_receiver_that_stops_reading_stalls_nothing_and_the_end_comes_in_time(tmp_path):
    port = free_port()
    lines: list[str] = []
    noise = np.random.default_rng(0).integers(16, 235, (SIZE.height, SIZE.width), np.uint8)
    with receiver("-i", f"tcp://127.0.0.1:{port}?listen=1", target=tmp_path / "x.mkv", stop=True) as stopped:
        wait_for_port(port)
        with Fanout(lines.append) as outlets:
            url = f"tcp://127.0.0.1:{port}"
            target = destination(url)
            like = VideoFormat(SIZE, COLOR, CLOCK, Fraction(30))
            stuck = StreamSink(target, like=like, bitrate=30_000_000, warn=outlets.warn, timeout=1.5)
            fast = Collector()
            outlets.add("push", stuck, "latest")
            outlets.add("recording", recording(tmp_path / "r.mkv"), "all")
            outlets.add("fast", fast, "all")
            before, _ = feed(outlets, 1)
            stopped.send_signal(signal.SIGSTOP)
            begin, count, longest = time.perf_counter(), 0, 0.0
            while time.perf_counter() - begin < 5:  # noise, so that buffers fill
                planes = Planes(np.roll(noise, 37 * count), *numbered(0).planes[1:])
                at = time.perf_counter()
                outlets.write(Frame(planes, 0, CLOCK, COLOR), at)
                longest = max(longest, time.perf_counter() - at)
                count += 1
                time.sleep(max(0.0, begin + count / 30 - time.perf_counter()))
            state = outlets.state()
            closing = time.perf_counter()
        closed = time.perf_counter() - closing
        stopped.send_signal(signal.SIGCONT)

    assert longest < 0.1, "seconds that the loop was held"
    assert any("no answer for 1.5 s" in line for line in lines), lines
    assert state["push"].dropped > 30
    assert state["fast"].frames >= before + count - 5, "it kept up meanwhile"
    assert state["recording"].frames >= before + count - 30, "some wait in the encoder"
    assert len(pictures(tmp_path / "r.mkv")) == before + count
    assert closed < 6


@needs_ffmpeg
def test_a_microphone_that_gives_nothing_holds_no_frame_back(tmp_path):
    with Fanout(print) as outlets:
        sink = push(str(tmp_path / "live.m3u8"), outlets, sound=True)
        outlets.add("push", sink, "latest")
        feed_until(outlets, lambda: sink.connections == 1)
        feed(outlets, 2)
    assert len(pictures(tmp_path / "live.m3u8")) >= outlets.state()["push"].frames > 30


def test_hls_leaves_a_playlist_alone_that_appears_during_the_session(tmp_path):
    live = tmp_path / "live.m3u8"
    with Fanout(print) as outlets:
        sink = push(str(live), outlets)
        outlets.add("push", sink, "latest")
        feed_until(outlets, lambda: sink.connections == 1)
        live.write_text("precious")  # before the first version is complete
        feed_until(outlets, lambda: bool(outlets.warnings))
        segments = len(list(tmp_path.glob("live-*.ts")))
        feed(outlets, 1)
        assert live.read_text() == "precious"
        assert len(list(tmp_path.glob("live-*.ts"))) == segments, "it would fill the disk"
        live.unlink()
        feed_until(outlets, lambda: sink.connections == 2 and live.exists())
    assert re.search(
        r"live\.m3u8 appeared after the session began and is not replaced without -y.*again", outlets.warnings[0]
    )
    assert live.read_text().startswith("#EXTM3U")
    assert live.read_text().rstrip().endswith("#EXT-X-ENDLIST")
    assert not list(tmp_path.glob(".*")), "a hidden playlist was left"


# -- audio


TONE = "lavfi:sine=frequency=1000:sample_rate=44100,arealtime"


def strongest(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * RATE / len(samples))


def samples_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])


def test_a_microphone_is_heard_in_step_with_the_clock():
    heard: list[AudioChunk] = []
    with MicrophoneCapture(TONE, heard.append, print):
        time.sleep(1.5)
    pieces = heard[5:]
    assert sum(len(piece.samples) for piece in heard) == pytest.approx(1.5 * RATE, rel=0.2)
    for one, other in pairwise(pieces):
        assert other.at - one.at == pytest.approx(len(one.samples) / RATE, abs=0.02)
    assert strongest(np.concatenate([piece.samples[:, 0] for piece in heard])) == pytest.approx(1000, abs=3)


def test_the_clock_of_a_device_is_followed_where_it_runs_off_and_lateness_is_not():
    clock, rng = AudioClock(), np.random.default_rng(0)
    errors = []
    for index in range(3000):  # 30 s of pieces of 10 ms, by a device that is 0.1 % slow
        begin = 500 + index * 480 / 47952
        arrived = begin + 480 / 47952 + rng.exponential(0.004)
        errors.append(clock.begin_of(480, arrived) - begin)
    assert max(np.abs(errors[300:])) < 0.004, "seconds"
    assert abs(np.mean(errors[-300:]) - np.mean(errors[300:600])) < 0.001, "no drift"


def write_with_sound(path: Path, rate: float, begin: float = 1e6, seconds: int = 20) -> None:
    """Record a click at every whole second, by a device that gives ``rate`` samples a second for 48000."""
    sink, frame = recording(path, sound=True), numbered(0)
    samples, tick = 0, 0
    while samples / rate < seconds:
        index = samples + np.arange(480)
        seconds_of = index / rate - 0.5  # the microphone was on before
        click = np.where((seconds_of % 1 < 0.02) & (seconds_of > 0.5), 12000 * np.sin(2 * np.pi * 2000 * seconds_of), 0)
        sink.write_audio(AudioChunk(np.stack([click, click], 1).astype(np.int16), begin + samples / rate - 0.5))
        samples += 480
        while tick / 10 < samples / rate - 0.5:
            sink.write(Frame(frame.planes, round((begin + tick / 10) / CLOCK), CLOCK, COLOR))
            tick += 1
    sink.close()


def make_flash(path: Path, codec: str = "aac") -> Path:
    """A clip of two seconds that is white, and audio at 1 kHz, from 1.0 to 1.2 s."""
    black, white = (
        (np.full((48, 64), level, np.uint8), *[np.full((24, 32), 128, np.uint8)] * 2) for level in (16, 235)
    )
    shown = [white if 25 <= number < 30 else black for number in range(50)]
    return make_clip(path, shown, width=64, height=48, times=range(50), sounds=[Tone(codec, 0.2, 1.0, hertz=1000)])


def flash_and_tone(path: Path) -> tuple[float, float]:
    """Seconds at which the first white frame is shown, and at which the tone begins."""
    with av.open(str(path)) as container:
        frames = [(float(f.pts * f.time_base), f.to_ndarray(format="gray").mean()) for f in container.decode(video=0)]
    with av.open(str(path)) as container:
        sounds = [(float(f.pts * f.time_base), f.to_ndarray()[0], f.sample_rate) for f in container.decode(audio=0)]
    loud = [at + int(np.argmax(np.abs(s) > 0.1)) / rate for at, s, rate in sounds if np.abs(s).max() > 0.1]
    return next(at for at, mean in frames if mean > 100), loud[0]


@pytest.mark.parametrize(
    ("source", "codec", "target"),
    [("in.mp4", "aac", "out.mp4"), ("in.ts", "mp2", "out.mkv"), ("in.mkv", "ac3", "out.webm")],
)
def test_a_recording_of_a_clip_has_its_audio_in_step(tmp_path, monkeypatch, source, codec, target):
    monkeypatch.delenv("DISPLAY", raising=False)
    lines: list[str] = []
    stylize_live(
        str(make_flash(tmp_path / source, codec)),
        controls=Controls.of(0),
        live=LiveSettings(preview="none"),
        outputs=Outputs(record=tmp_path / target),
        say=lines.append,
    )
    assert any("the audio of" in line and "--no-audio" in line for line in lines)
    flash, tone = flash_and_tone(tmp_path / target)
    assert flash == pytest.approx(1, abs=0.06)
    assert tone == pytest.approx(flash, abs=0.03)


def test_audio_of_a_clip_is_left_out_where_that_is_asked_or_the_container_has_none(tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    clip, lines = make_flash(tmp_path / "in.mp4"), []
    for target, audio in (("out.mp4", False), ("out.gif", True)):
        stylize_live(
            str(clip),
            controls=Controls.of(0),
            live=LiveSettings(preview="none", frames=3),
            outputs=Outputs(record=tmp_path / target, audio=audio),
            say=lines.append,
        )
        with av.open(str(tmp_path / target)) as container:
            assert not container.streams.audio
    assert any("out.gif is recorded without the audio of the source: gif holds none" in line for line in lines)


def test_audio_of_a_clip_goes_into_hls(tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    stylize_live(
        str(make_flash(tmp_path / "in.mp4")),
        controls=Controls.of(0),
        live=LiveSettings(preview="none"),
        outputs=Outputs(urls=(str(tmp_path / "live.m3u8"),)),
    )
    flash, tone = flash_and_tone(tmp_path / "live.m3u8")
    assert tone == pytest.approx(flash, abs=0.06)


@pytest.mark.parametrize("rate", [48000, 48048, 47904])
def test_recorded_audio_stays_in_step_although_the_devices_clock_is_off(tmp_path, rate):
    write_with_sound(tmp_path / "r.mkv", rate)
    samples = np.abs(samples_of(tmp_path / "r.mkv"))
    loud = np.flatnonzero(samples > 0.1)
    clicks = loud[np.flatnonzero(np.diff(loud, prepend=-RATE) > RATE // 2)] / RATE
    assert len(clicks) >= 17
    with av.open(str(tmp_path / "r.mkv")) as container:
        shift = float(container.streams.audio[0].start_time * container.streams.audio[0].time_base)
        shift -= float(container.streams.video[0].start_time * container.streams.video[0].time_base)
    errors = clicks + shift - np.round(clicks + shift)
    assert np.abs(errors).max() < 0.04, "seconds; uncorrected it would be up to 0.02 a second of a tenth of a percent"
    assert abs(errors[-3:].mean() - errors[3:6].mean()) < 0.01, "and does not grow"


@pytest.mark.slow
def test_a_minute_of_frame_and_audio_does_not_drift(tmp_path, monkeypatch):
    """A camera that shows its clock, and a microphone that runs 0.1 % fast and clicks at every second of its own."""
    monkeypatch.delenv("DISPLAY", raising=False)
    click = "aevalsrc=if(lt(mod(t\\,1)\\,0.02)\\,0.5*sin(12566*t)\\,0):s=48000,arealtime=speed=1.001"
    with NetworkCamera() as camera:
        stylize_live(
            camera.url,
            controls=Controls.of(0),
            live=LiveSettings(seconds=62, preview="none"),
            outputs=Outputs(record=tmp_path / "r.mkv", microphone=f"lavfi:{click}"),
        )
    with av.open(str(tmp_path / "r.mkv")) as container:
        shift = float(container.streams.audio[0].start_time * container.streams.audio[0].time_base)
        shown = [
            (float(frame.pts * frame.time_base), read_number(frame.to_ndarray(format="gray")) / 1000)
            for frame in container.decode(video=0)
        ]
    loud = np.flatnonzero(np.abs(samples_of(tmp_path / "r.mkv")) > 0.1)
    clicks = loud[np.flatnonzero(np.diff(loud, prepend=-RATE) > RATE // 2)] / RATE + shift
    late = np.array([moment - number for moment, number in shown if number < 60])
    off = clicks[1:] - np.arange(1, len(clicks)) / 1.001
    first, last = off[:10].mean(), off[-10:].mean()
    drift = abs(np.median(late[-100:]) - np.median(late[:100]))
    print(f"{len(clicks)} clicks; audio drifted {1000 * (last - first):.1f} ms, frames {1000 * drift:.1f} ms")
    assert len(clicks) >= 58
    assert abs(last - first) < 0.02, "seconds"
    assert np.ptp(off) < 0.06
    assert drift < 0.02


@needs_ffmpeg
def test_a_session_records_with_audio(tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    with NetworkCamera() as camera:
        stylize_live(
            camera.url,
            live=LiveSettings(seconds=2.5, preview="none"),
            outputs=Outputs(record=tmp_path / "r.webm", microphone=TONE),
        )
    streams = {stream["codec_type"]: stream for stream in probe(tmp_path / "r.webm")}
    assert streams["audio"]["codec_name"] == "opus"
    samples = samples_of(tmp_path / "r.webm")
    assert len(samples) / RATE == pytest.approx(2.3, abs=0.6)
    assert strongest(samples[RATE // 2 : RATE * 3 // 2]) == pytest.approx(1000, rel=0.025), "2 % of stretch"


def test_audio_is_refused_where_nothing_takes_it(tmp_path, monkeypatch):
    with pytest.raises(SettingError, match="without audio"):
        stylize_live("http://127.0.0.1:9/x", outputs=Outputs(record=tmp_path / "r.gif", microphone=""))
    with pytest.raises(SettingError, match="neither a recording nor an output"):
        stylize_live(
            "http://127.0.0.1:9/x", live=LiveSettings(frames=3, preview="none"), outputs=Outputs(microphone="")
        )
    with pytest.raises(CameraError, match=r"cannot open microphone nowhere.*--mic") as error:
        MicrophoneCapture("nowhere", print, print)
    assert "\n" not in str(error.value)


def test_a_microphone_that_goes_is_reported_and_comes_back():
    lines: list[str] = []
    heard: list[AudioChunk] = []
    with MicrophoneCapture("lavfi:sine=duration=0.2,arealtime", heard.append, lines.append):
        time.sleep(3.2)
    assert lines[0].startswith("microphone lavfi:sine=duration=0.2,arealtime is gone (it ended)")
    assert lines[1] == "microphone lavfi:sine=duration=0.2,arealtime is back"
    assert heard[-1].at - heard[0].at > 2


def test_microphones_are_asked_for_in_the_words_of_each_platform():
    def words(platform: str, name: str, known: list[str] | None = None) -> list[tuple[str, str]]:
        return [(request.format, request.file) for request in microphone_requests(platform, name, known or [])]

    assert words("linux", "") == [("alsa", "default"), ("alsa", "plughw:0")]
    assert words("linux", "hw:1,0") == [("alsa", "hw:1,0")]
    assert words("win32", "", ["Mic"]) == [("dshow", "audio=Mic")]
    assert words("darwin", "") == [("avfoundation", ":default")]
    assert words("linux", "lavfi:sine") == [("lavfi", "sine")]
    with pytest.raises(CameraError, match="no microphone"):
        words("win32", "")


# -- virtual camera


@pytest.mark.parametrize("full_range", [False, True])
def test_yuyv_is_what_ffmpegs_scaler_makes_of_the_same_frame(full_range):
    rng = np.random.default_rng(1)
    planes = Planes(
        rng.integers(16, 235, (96, 160), np.uint8), *(rng.integers(16, 240, (48, 80), np.uint8) for _ in "uv")
    )
    out = np.zeros((96, 320), np.uint8)
    YuyvFiller(Color("bt601", full_range=full_range))(Frame(planes, 0, CLOCK, COLOR), out)
    again = av.VideoFrame(160, 96, "yuyv422")
    np.frombuffer(memoryview(again.planes[0]), np.uint8).reshape(96, -1)[:, :320] = out
    back = again.reformat(format="yuv422p")
    y, u, v = (np.frombuffer(memoryview(p), np.uint8).reshape(p.height, -1)[:, : p.width] for p in back.planes)
    expected = planes.y if not full_range else np.rint(16 + planes.y.astype(float) * 219 / 255)
    chroma = planes.u if not full_range else np.rint(128 + (planes.u.astype(float) - 128) * 224 / 255)
    assert np.abs(y - expected.astype(float)).max() <= 1
    assert np.abs(u[::2] - chroma.astype(float)).max() <= 1
    assert np.array_equal(u[::2], u[1::2])
    assert not np.array_equal(u, v)


def test_without_a_virtual_camera_one_line_says_how_to_make_one(tmp_path):
    if sys.platform == "linux" and v4l2.outputs():
        pytest.skip("this machine has one")
    with pytest.raises(VideoWriteError, match=r"v4l2loopback|pyvirtualcam") as none:
        find_virtual_cameras("")
    assert "\n" not in str(none.value)
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(VideoWriteError, match="is no virtual camera") as found:
        open_virtual_camera([str(file)], size=SIZE, color=COLOR, rate=Fraction(30))
    assert "\n" not in str(found.value)
    with pytest.raises(VideoWriteError, match=r"v4l2loopback|pyvirtualcam"):
        stylize_live(
            "http://127.0.0.1:9/x", live=LiveSettings(frames=3, preview="none"), outputs=Outputs(virtual_camera="")
        )


def test_a_virtual_camera_that_another_program_writes_is_passed_over():
    kept = Collector()

    def opened(device: str, **format: object) -> Collector:
        if device in ("/dev/video10", "/dev/video11"):
            raise VideoWriteError(f"{device} is written to by another program; close that one, or name another")
        return kept

    devices = ["/dev/video10", "/dev/video11", "/dev/video12"]
    how = {"size": SIZE, "color": COLOR, "rate": Fraction(30), "open_device": opened}
    assert open_virtual_camera(devices, **how) == ("/dev/video12", kept)
    with pytest.raises(VideoWriteError, match="video10 is written to by another program"):
        open_virtual_camera(devices[:2], **how)


class Distinct:
    """A sink that counts frames, and those that differ from the one before."""

    def __init__(self) -> None:
        self.pictures: list[np.ndarray] = []
        self.count = 0

    def write(self, frame: Frame) -> None:
        self.count += 1
        if not self.pictures or frame.planes.y is not self.pictures[-1]:
            self.pictures.append(frame.planes.y)

    def close(self) -> None: ...


@contextmanager
def reading(device: Path) -> Iterator[None]:
    """Another program that has a device open."""
    script = "import os, sys; os.open(sys.argv[1], os.O_RDWR); print('open', flush=True); sys.stdin.read()"
    command = [sys.executable, "-S", "-c", script, str(device)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout
        assert program.stdout.readline() == b"open\n"
        yield
        program.kill()


def wait_until(what: str, happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end, what
        time.sleep(0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="inotify and /proc are Linux's")
def test_it_is_known_whether_another_program_has_a_device_open(tmp_path):
    """The system reports opening a file as it does opening a device."""
    device = tmp_path / "video10"
    device.touch()
    with reading(device):
        readers = DeviceReaders(str(device))
        assert readers.present, "who had it open already"
        with reading(device):
            assert readers.present
        assert readers.present
    wait_until("no reader is left", lambda: not readers.present)
    with reading(device):
        assert readers.present
    wait_until("no reader is left", lambda: not readers.present)
    readers.close()
    assert not readers.present
    with pytest.raises(VideoWriteError, match=r"cannot be found out \(No such file"):
        DeviceReaders(str(tmp_path / "gone"))


@pytest.mark.skipif(sys.platform != "linux", reason="inotify and /proc are Linux's")
def test_frames_are_stylized_on_demand_while_the_virtual_camera_is_read(monkeypatch, tmp_path):
    """A file stands for the device: what opens it is real."""
    device, kept = tmp_path / "video10", Distinct()
    device.touch()
    monkeypatch.setattr(rtstyle.live.sinks.outputs, "find_virtual_cameras", lambda name: [str(device)])
    monkeypatch.setattr(rtstyle.live.sinks.virtual_camera, "LoopbackCamera", lambda device, **how: kept)

    def session() -> None:
        outputs = Outputs(virtual_camera="", on_demand=True)
        with pytest.raises(CameraError, match="is gone"):
            stylize_live(
                camera.url, capture=CaptureSettings(wait=0), live=LiveSettings(preview="none"), outputs=outputs
            )

    def rests() -> None:
        time.sleep(0.3)  # frames on their way
        pictures, count = len(kept.pictures), kept.count
        wait_until("the last frame is repeated", lambda: kept.count > count + 8)
        assert len(kept.pictures) == pictures, "no one looks: nothing is stylized"

    thread = threading.Thread(target=session)
    with NetworkCamera() as camera:
        thread.start()
        wait_until("the first frame", lambda: kept.count > 0)
        rests()
        with reading(device):
            before = len(kept.pictures)
            wait_until("frames for the reader", lambda: len(kept.pictures) > before + 8)
        rests()
        camera.gone.set()
        thread.join()


def test_frames_on_demand_need_a_virtual_camera():
    with pytest.raises(SettingError, match="add --virtual-camera"):
        Outputs(on_demand=True)


def test_the_rate_of_a_virtual_camera_is_stated():
    assert steady_rate(Fraction(25), Fraction(30)) == 25
    assert steady_rate(None, Fraction(30000, 1001)) == Fraction(30000, 1001)
    assert steady_rate(None, None) == 30
    assert steady_rate(None, Fraction(240)) == 60


# -- all of it, from a real session


@needs_ffmpeg
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="ports are looked up as Linux lists them")
def test_a_session_sends_and_records_at_once(tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    udp = free_port(socket.SOCK_DGRAM)
    outputs = Outputs(urls=(str(tmp_path / "live.m3u8"), f"udp://127.0.0.1:{udp}"), microphone=TONE)
    with (
        receiver("-i", f"udp://127.0.0.1:{udp}?timeout=3000000", target=tmp_path / "udp.mkv"),
        NetworkCamera() as camera,
    ):
        wait_for_port(udp)
        report = stylize_live(
            camera.url,
            controls=Controls.of(0),
            live=LiveSettings(seconds=4, preview="none"),
            outputs=replace(outputs, record=tmp_path / "r.mp4"),
        )

    for path in (tmp_path / "live.m3u8", tmp_path / "udp.mkv", tmp_path / "r.mp4"):
        streams = {stream["codec_type"]: stream for stream in probe(path)}
        assert {"video", "audio"} <= streams.keys(), path
        assert int(streams["video"]["nb_read_packets"]) > report.shown / 3, path
        assert int(streams["audio"]["nb_read_packets"]) > 60, path
        samples = samples_of(path)
        assert strongest(samples[len(samples) // 2 :][:RATE]) == pytest.approx(1000, rel=0.025), (
            path,
            "2 % of stretch",
        )
    assert int(probe(tmp_path / "r.mp4")[0]["nb_read_packets"]) == report.shown

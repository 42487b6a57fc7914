"""What network cameras do on bad days: lost packets, clocks that jump back, an end in the middle of a read."""

from __future__ import annotations

import io
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from senders import free_port, needs_ffmpeg, receiver, wait_for_port

from rtstyle import Controls
from rtstyle.camera import CaptureSettings, open_source
from rtstyle.live import LiveSettings, Outputs, stylize_live

DATAGRAM = 1316
FRAMES, RATE = 50, 25


def transport_stream() -> bytes:
    """Two seconds of moving noise and bars in H.264, a key frame each second, as an MPEG transport stream."""
    file = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 255, (120, 160, 3), np.uint8)
    with av.open(file, "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        stream.options = {"preset": "ultrafast", "tune": "zerolatency", "g": str(RATE), "qp": "20"}
        for number in range(FRAMES):
            picture = np.roll(noise, (number, 3 * number), (0, 1))
            picture[:, 2 * number : 2 * number + 8] = 255
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def pictures_of(stream: bytes) -> set[bytes]:
    with av.open(io.BytesIO(stream)) as container:
        return {frame.to_ndarray().tobytes() for frame in container.decode(video=0)}


@contextmanager
def sent(streams: list[bytes], port: int, keep=lambda number: True) -> Iterator[None]:
    """Send transport streams over UDP in real time, over and over."""
    stop = threading.Event()

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            while not stop.is_set():
                for stream in streams:
                    begin, parts = time.monotonic(), range(0, len(stream), DATAGRAM)
                    for number, at in enumerate(parts):
                        if keep(number):
                            out.sendto(stream[at : at + DATAGRAM], ("127.0.0.1", port))
                        if stop.wait(max(begin + FRAMES / RATE * number / len(parts) - time.monotonic(), 0)):
                            return

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_lost_packets_leave_the_last_whole_frame_and_no_smear():
    stream, port = transport_stream(), free_port()
    whole = pictures_of(stream)
    lost = {len(stream) // DATAGRAM * percent // 100 for percent in (30, 33, 80)}
    with (
        sent([stream], port, lambda number: number not in lost),
        open_source(f"udp://127.0.0.1:{port}", CaptureSettings(wait=0)) as source,
    ):
        shown, smeared = 0, 0
        end = time.monotonic() + 4
        for captured in source.captures():
            planes = captured.frame.planes
            shown += 1
            smeared += b"".join(plane.tobytes() for plane in planes) not in whole
            if time.monotonic() > end:
                break
        assert source.damaged > 5
    assert shown > 15
    assert smeared == 0


def test_a_camera_whose_clock_jumps_back_continues():
    stream, port = transport_stream(), free_port()
    with (
        sent([stream], port),
        open_source(f"udp://127.0.0.1:{port}", CaptureSettings(wait=0)) as source,
    ):  # each round begins at time 0
        end, times = time.monotonic() + 3.5, []
        for captured in source.captures():
            times.append(captured.at)
            if time.monotonic() > end:
                break
    gaps = np.diff(times)
    assert gaps.min() > 0
    assert gaps.max() < 1.5, "no longer than to the next key frame"
    assert len(times) > RATE


def flash_round(begin: float) -> bytes:
    """Two seconds whose clock starts at ``begin``: black and silent, but from 1.0 to 1.2 s white with a tone."""
    video = f"color=black:160x120:{RATE},drawbox=t=fill:c=white:enable='between(t,0.99,1.19)'"
    tone = "aevalsrc='if(between(t,1,1.2),sin(6283*t)/2,0)':s=48000"
    h264 = ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "5"]
    steady = ["-muxrate", "1M", "-muxdelay", "0", "-output_ts_offset", str(begin), "-f", "mpegts", "-"]
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", video, "-f", "lavfi", "-i", tone, "-t", "2", *h264]
    return subprocess.run([*command, "-c:a", "mp2", *steady], capture_output=True, check=True).stdout


def flashes_and_tones(path: Path) -> tuple[list[float], list[float]]:
    """Seconds at which it becomes white, and loud; frames and audio have to come in order, without a long gap."""
    found = []
    for kind in ("video", "audio"):
        moments, levels = [], []
        with av.open(str(path)) as container:
            for frame in container.decode(**{kind: 0}):
                samples = np.atleast_2d(frame.to_ndarray(format="gray") if kind == "video" else frame.to_ndarray()[0])
                parts = np.array_split(samples, 1 if kind == "video" else 4, axis=-1)  # some 5 ms of audio each
                begin = float(frame.pts * frame.time_base)
                moments += [begin + (getattr(frame, "samples", 0) / 48000) * n / len(parts) for n in range(len(parts))]
                levels += [float(np.abs(part).max()) > (128 if kind == "video" else 0.1) for part in parts]
        steps = np.diff(moments)
        assert steps.min() > 0, (path, kind)
        assert steps.max() < 1.5, (path, kind, "no longer than to the next key frame")
        on = [at for (was, _), (now, at) in pairwise(zip(levels, moments, strict=True)) if now and not was]
        found.append([at for number, at in enumerate(on) if number == 0 or at - on[number - 1] > 0.5])
    return found[0], found[1]


@needs_ffmpeg
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="ports are looked up as Linux lists them")
def test_recordings_and_streams_continue_in_step_where_the_clock_of_a_camera_jumps(tmp_path, monkeypatch):
    """Back to zero, by hours to and fro, and by seconds: a restart, NTP, a camera that was set."""
    monkeypatch.delenv("DISPLAY", raising=False)
    camera, udp, rtmp = free_port(), free_port(), free_port()
    targets = [tmp_path / name for name in ("r.mp4", "udp.mkv", "rtmp.mkv")]
    with (
        receiver("-i", f"udp://127.0.0.1:{udp}?timeout=8000000", target=targets[1]),
        receiver("-listen", "1", "-i", f"rtmp://127.0.0.1:{rtmp}/live/x", target=targets[2]),
        sent([flash_round(begin) for begin in (100, 0, 20000, 20005, 4)], camera),
    ):
        wait_for_port(udp)
        wait_for_port(rtmp)
        report = stylize_live(
            f"udp://127.0.0.1:{camera}",
            controls=Controls.of(0),
            live=LiveSettings(seconds=13, preview="none"),
            outputs=Outputs(record=targets[0], urls=(f"udp://127.0.0.1:{udp}", f"rtmp://127.0.0.1:{rtmp}/live/x")),
        )
    assert report.shown > 8 * RATE
    for path in targets:
        flashes, tones = flashes_and_tones(path)
        assert len(flashes) >= 4, path
        assert np.allclose(np.diff(flashes), 2, atol=0.3), (path, flashes, "as they came")
        for flash in flashes[1:-1]:
            assert min(abs(tone - flash) for tone in tones) < 0.15, (path, flashes, tones)


STOPS = """
import random, sys, threading, time
from rtstyle.camera import CaptureSettings, open_source
from rtstyle.live.latest import LatestFrame
dice = random.Random(5)
for number in range(int(sys.argv[2])):
    with open_source(sys.argv[1], CaptureSettings(timeout=5, wait=0)) as source, LatestFrame(source) as latest:
        latest.start()
        time.sleep(dice.uniform(0, 0.3))
assert threading.active_count() == 1
"""


@pytest.mark.parametrize("count", [3, pytest.param(200, marks=pytest.mark.slow)])
def test_a_source_may_be_closed_while_its_thread_waits_for_a_packet(count):
    port = free_port()
    with sent([transport_stream()], port):
        command = [sys.executable, "-c", STOPS, f"udp://127.0.0.1:{port}", str(count)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], timeout=600)
    assert done.returncode == 0, done.stderr[-500:]

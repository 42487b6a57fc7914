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
from pathlib import Path

import av
import numpy as np
import pytest
from senders import free_port

from rtstyle.camera import CaptureSettings, open_source

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

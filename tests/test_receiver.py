"""The receiver of live connections: which packets it drops while they are not taken, with real packets."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

import rtstyle.camera.receiver
from rtstyle.camera.receiver import Arrival, Receiver


def packets_of(path: Path, codec: str, key_frames: int) -> list[av.Packet]:
    """Thirty frames of video and as many pieces of audio, video first."""
    noise = np.random.default_rng(3).integers(0, 255, (48, 64, 3), np.uint8)
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=25)
        video.width, video.height = 64, 48
        video.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        video.options = {} if codec == "mjpeg" else {"tune": "zerolatency", "g": str(key_frames)}
        audio = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        for number in range(30):
            frame = av.VideoFrame.from_ndarray(np.roll(noise, number, 1), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame))
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 320), np.int16), "s16", "mono")
            sound.sample_rate, sound.pts, sound.time_base = 8000, 320 * number, Fraction(1, 8000)
            container.mux(audio.encode(sound))
    with av.open(str(path)) as container:
        return [packet for packet in container.demux() if packet.size]


class Clock:
    """The receiver's clock, set by the packets that are fed."""

    def __init__(self, monkeypatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(rtstyle.camera.receiver, "time", SimpleNamespace(perf_counter=lambda: self.now))


def received(clock: Clock, packets: list[av.Packet], *, intra: bool, in_time: bool = False) -> list[Arrival]:
    """What a receiver passes on of packets whose frames come 40 ms apart, taken when all have come, or in time."""
    fed, taken = threading.Event(), threading.Semaphore(0)

    def feed() -> Generator[av.Packet, None, None]:
        for packet in packets:
            if packet.stream_index == 0:
                clock.now += 0.04
            yield packet
            if in_time:
                taken.acquire()
        fed.set()

    receiver = Receiver(feed(), 0, intra=intra, stop=threading.Event())
    passed_on = []
    assert in_time or fed.wait(5)
    for arrival in receiver:
        passed_on.append(arrival)
        taken.release()
    receiver.close()
    return passed_on


def numbers(arrivals: list[Arrival]) -> list[int]:
    """Which frames of the video came."""
    return [round(25 * float(a.packet.pts * a.packet.time_base)) for a in arrivals if a.packet.stream_index == 0]


def test_the_latest_frame_of_a_camera_takes_the_place_of_old_ones(monkeypatch, tmp_path):
    packets = packets_of(tmp_path / "clip.mkv", "mjpeg", 1)
    kept = received(Clock(monkeypatch), packets, intra=True)
    assert numbers(kept) == [27, 28, 29], "the last ones, none of which waited for more than a tenth of a second"
    video = [arrival for arrival in kept if arrival.packet.stream_index == 0]
    assert sum(arrival.skipped + 1 for arrival in video) == 30
    assert len(kept) - len(video) == 30, "no audio is dropped"


def test_frames_that_need_others_wait_until_a_key_frame_comes(monkeypatch, tmp_path):
    packets = packets_of(tmp_path / "clip.mkv", "libx264", 12)
    kept = received(Clock(monkeypatch), packets, intra=False)
    assert numbers(kept) == list(range(24, 30)), "from the last key frame on"
    assert [arrival.skipped for arrival in kept if arrival.skipped] == [24]


def test_nothing_is_dropped_where_packets_are_taken_in_time(monkeypatch, tmp_path):
    packets = packets_of(tmp_path / "clip.mkv", "mjpeg", 1)
    kept = received(Clock(monkeypatch), packets, intra=True, in_time=True)
    assert [arrival.packet for arrival in kept] == packets
    assert not any(arrival.skipped for arrival in kept)


def test_what_waits_for_a_key_frame_is_bounded_in_time(monkeypatch, tmp_path):
    packets = packets_of(tmp_path / "clip.mkv", "libx264", 1000)
    monkeypatch.setattr(rtstyle.camera.receiver, "_LONGEST", 0.5)
    kept = received(Clock(monkeypatch), packets, intra=False)
    assert numbers(kept) == [], "they would be seconds old, and none can be decoded without those before"
    monkeypatch.setattr(rtstyle.camera.receiver, "_KEY_WAIT", 0.5)
    kept = received(Clock(monkeypatch), packets, intra=False)
    assert numbers(kept)[-1] == 29, "some streams have no key frames: they continue all the same"
    assert len(numbers(kept)) < 10


def test_an_error_comes_after_what_came_before_it(tmp_path):
    packets = packets_of(tmp_path / "clip.mkv", "mjpeg", 1)[:2]

    def feed() -> Generator[av.Packet, None, None]:
        yield from packets
        raise OSError("the cable is out")

    receiver = Receiver(feed(), 0, intra=True, stop=threading.Event())
    arrivals = iter(receiver)
    assert [next(arrivals).packet for _ in packets] == packets
    with pytest.raises(OSError, match="the cable is out"):
        next(arrivals)
    receiver.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "receiver"]


def test_closing_waits_for_the_packet_that_is_being_read(tmp_path):
    packets = packets_of(tmp_path / "clip.mkv", "mjpeg", 1)
    inside, left = threading.Event(), []

    def feed() -> Generator[av.Packet, None, None]:
        yield packets[0]
        inside.set()
        time.sleep(0.3)
        left.append(time.perf_counter())
        yield packets[1]
        raise AssertionError("continued after it was closed")

    receiver = Receiver(feed(), 0, intra=True, stop=threading.Event())
    assert inside.wait(2)
    receiver.close()
    assert left
    assert left[0] <= time.perf_counter()

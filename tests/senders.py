"""Cameras and receivers for tests: ffmpeg and GStreamer send and store frames over real protocols on loopback."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import cv2
import pytest
from test_camera import SIZE, draw_number

SYSTEM_PYTHON = "/usr/bin/python3"

needs_ffmpeg = pytest.mark.skipif(
    not (shutil.which("ffmpeg") and shutil.which("ffprobe")), reason="the programs ffmpeg and ffprobe are not installed"
)

RTSP = """
import sys, threading
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
gi.require_version("GstRtsp", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer

Gst.init(None)
port, width, height, transports = sys.argv[1:]
factory = GstRtspServer.RTSPMediaFactory(shared=True)
factory.set_protocols(getattr(GstRtsp.RTSPLowerTrans, transports))
factory.set_launch(
    f"( appsrc name=frames is-live=true do-timestamp=true format=time"
    f" caps=video/x-raw,format=I420,width={width},height={height},framerate=25/1"
    f" ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25 bitrate=4000"
    f" ! rtph264pay name=pay0 config-interval=1 )"
)
sources = []
factory.connect("media-configure", lambda _, media: sources.append(media.get_element().get_by_name("frames")))

def feed():
    while data := sys.stdin.buffer.read(int(width) * int(height) * 3 // 2):
        for source in sources[-1:]:
            source.emit("push-buffer", Gst.Buffer.new_wrapped(data))

server = GstRtspServer.RTSPServer(service=port, address="127.0.0.1")
server.get_mount_points().add_factory("/cam", factory)
server.attach(None)
threading.Thread(target=feed, daemon=True).start()
print("ready", flush=True)
GLib.MainLoop().run()
"""


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Sender:
    """A program that is fed a raw frame each 40 ms, with the milliseconds since ``begin`` drawn into it."""

    def __init__(self, command: list[str], begin: float | None = None) -> None:
        self.begin = time.perf_counter() if begin is None else begin
        self._command = command
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._feed)

    @classmethod
    def ffmpeg(cls, *output: str, begin: float | None = None) -> Sender:
        if shutil.which("ffmpeg") is None:
            pytest.skip("ffmpeg is not installed")
        raw = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-video_size", str(SIZE), "-framerate", "25", "-i", "-"]
        return cls(["ffmpeg", "-nostdin", "-v", "error", "-y", *raw, *output], begin)

    @classmethod
    def rtsp(cls, port: int, begin: float | None = None, transports: str = "TCP") -> Sender:
        found = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
        if subprocess.run([SYSTEM_PYTHON, "-c", found], capture_output=True).returncode:
            pytest.skip("gst-rtsp-server is not installed for the system's Python")
        return cls([SYSTEM_PYTHON, "-c", RTSP, str(port), str(SIZE.width), str(SIZE.height), transports], begin)

    def milliseconds(self) -> int:
        return round(1000 * (time.perf_counter() - self.begin))

    def _feed(self) -> None:
        assert self._program.stdin is not None
        due = time.perf_counter()
        while not self._stop.is_set():
            picture = cv2.cvtColor(draw_number(self.milliseconds() % 65536), cv2.COLOR_BGR2YUV_I420)
            try:
                self._program.stdin.write(picture.tobytes())
                self._program.stdin.flush()
            except OSError:
                return  # the program ended
            # A program that did not read for a while gets frames of now, and not those that it missed.
            due = max(due + 0.04, time.perf_counter())
            self._stop.wait(due - time.perf_counter())

    def __enter__(self) -> Self:
        self._program = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self._command[0] == SYSTEM_PYTHON:
            assert self._program.stdout is not None
            assert self._program.stdout.readline() == b"ready\n"
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._program.kill()
        self._program.wait()
        self._thread.join()
        for pipe in (self._program.stdin, self._program.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()


H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-qp", "10", "-g", "25")


def rtmp(port: int, begin: float | None = None) -> Sender:
    return Sender.ffmpeg(*H264, "-f", "flv", "-listen", "1", f"rtmp://127.0.0.1:{port}/live/cam", begin=begin)


def udp(port: int, begin: float | None = None) -> Sender:
    return Sender.ffmpeg(*H264, "-f", "mpegts", f"udp://127.0.0.1:{port}?pkt_size=1316", begin=begin)


@contextmanager
def receiver(*words: str, target: Path, stop: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """FFmpeg's program, which stores what it gets; at the end it is left to finish, or killed as a server may be."""
    options = ["-v", "error", "-y", "-analyzeduration", "2000000"]
    command = ["ffmpeg", *options, *words, "-c", "copy", "-flush_packets", "1", str(target)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
        if not stop:
            process.wait(10)
    finally:
        process.kill()
        process.wait()


def wait_for_port(port: int) -> None:
    """Wait until a server listens, without connecting: FFmpeg serves one visitor only."""
    end = time.monotonic() + 10
    listening = {"tcp": f":{port:04X} 00000000:0000 0A", "udp": f":{port:04X} 00000000:0000 07"}
    while not any(words in Path(f"/proc/net/{kind}").read_text() for kind, words in listening.items()):
        assert time.monotonic() < end, f"nothing listens at {port}"
        time.sleep(0.02)

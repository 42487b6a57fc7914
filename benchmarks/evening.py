"""An evening on stage, shortened: does delay, memory or the offset of audio grow while everything is in use?

    python benchmarks/evening.py --minutes 10
    python benchmarks/evening.py --minutes 30 --size 1280x720

One `rtstyle webcam` under Xvfb with a window, a network camera, OSC at 20 messages a second, presets that change every
20 s, a recording with audio and an RTMP stream. The receiver is killed twice and the camera is taken away twice. The
camera flashes at every second and the microphone clicks at every second. At the beginning and at the end, for 15 s
each, the style is bypassed, so that flashes can be found in the recording: by how much the offset between flashes and
clicks differs then is what the recording lost in step.

It needs Xvfb and ffmpeg. JSON on stdout; a line for every 20th part on stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

ROOT = Path(__file__).parents[1]
RATE = 30
QUIET = 15.0
"""Seconds of bypass at both ends."""
AWAY = 8.0
"""Seconds for which the camera or the receiver is gone."""
CLICK = "lavfi:aevalsrc=if(lt(mod(t\\,1)\\,0.02)\\,0.5*sin(12566*t)\\,0):s=48000,arealtime"

SHOW = """
fade = 1.0
cycle = 20
[[preset]]
name = "one"
style = "sketch"
modulate = ["strength:sine:0.5hz:0.4..1.2"]
[[preset]]
name = "two"
style = "ink"
modulate = []
color_strength = 0.5
[[preset]]
name = "three"
style = "great_wave"
blend = { style = "sketch", share = 0.3 }
modulate = ["blend:triangle:4s:0..0.6"]
[[preset]]
name = "four"
style = "cartoon"
blend = 0.0
modulate = ["strength:beat:0.6..1.2"]
"""


class Camera:
    """An MJPEG camera over HTTP that flashes in the first tenth of each second of the clock of ``time.time()``."""

    def __init__(self, width: int, height: int) -> None:
        dice = np.random.default_rng(0)
        scene = cv2.resize(
            dice.integers(30, 120, (18, 32, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC
        )
        self._dark = [self._jpeg(np.roll(scene, 4 * step, 1)) for step in range(64)]
        self._bright = self._jpeg(np.full_like(scene, 250))
        self.gone = threading.Event()
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if camera.gone.is_set():
                    self.send_error(503)
                    return
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
                self.end_headers()
                due, number = time.time(), 0
                try:
                    while not camera.gone.is_set():
                        data = camera._bright if time.time() % 1 < 0.1 else camera._dark[number % 64]
                        self.wfile.write(
                            b"--part\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data)
                        )
                        self.wfile.write(data + b"\r\n")
                        due, number = max(due + 1 / RATE, time.time() - 0.1), number + 1
                        time.sleep(max(due - time.time(), 0))
                except OSError:
                    pass

            def log_message(self, *words: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/cam.mjpg"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @staticmethod
    def _jpeg(picture: np.ndarray) -> bytes:
        return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


class Receiver:
    """An RTMP server that takes one stream and throws it away."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.url = f"rtmp://127.0.0.1:{probe.getsockname()[1]}/live/show"
        self.start()

    def start(self) -> None:
        """Listen, for as long as the stream comes."""
        command = ["ffmpeg", "-nostdin", "-v", "quiet", "-listen", "1", "-i", self.url, "-c", "copy", "-f", "null", "-"]
        self._process = subprocess.Popen(command)

    def kill(self) -> None:
        """Be gone, as a server that crashed."""
        self._process.kill()
        self._process.wait()


@contextmanager
def display() -> Iterator[str]:
    """Run an X server."""
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1600x1000x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    try:
        with os.fdopen(read) as pipe:
            yield f":{pipe.readline().strip()}"
    finally:
        server.terminate()
        server.wait()


class Remote:
    """The OSC remote: 20 messages a second, and answers."""

    def __init__(self, port: int) -> None:
        from pythonosc.osc_message import OscMessage
        from pythonosc.osc_message_builder import OscMessageBuilder

        self._message, self._build = OscMessage, OscMessageBuilder
        self._line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._line.connect(("127.0.0.1", port))
        self._line.settimeout(0.5)
        self.sent = 0

    def send(self, word: str, *values: Any) -> None:
        """Send one message."""
        message = self._build(f"/rtstyle/{word}")
        for value in values:
            message.add_arg(value)
        self._line.send(message.build().dgram)
        self.sent += 1

    def ask(self, word: str) -> float:
        """Return a value of the session; NaN where no answer came."""
        try:
            self.send("get", word)
            return float(self._message(self._line.recv(2000)).params[0])
        except (OSError, ValueError, TypeError):
            return float("nan")


def resident_mib(pid: int) -> float:
    """MiB of memory that a process has."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)


def play(remote: Remote, pid: int, seconds: float, camera: Camera, receiver: Receiver) -> list[dict[str, float]]:
    """Be the operator for so long; return delay and memory of every 20th part."""
    begin, parts, delays = time.monotonic(), [], []
    events = sorted([
        (QUIET, lambda: remote.send("bypass", 0)),
        (seconds - QUIET, lambda: remote.send("bypass", 1)),
        (seconds * 0.25, receiver.kill), (seconds * 0.25 + AWAY, receiver.start),
        (seconds * 0.60, receiver.kill), (seconds * 0.60 + AWAY, receiver.start),
        (seconds * 0.40, camera.gone.set), (seconds * 0.40 + AWAY, camera.gone.clear),
        (seconds * 0.75, camera.gone.set), (seconds * 0.75 + AWAY, camera.gone.clear),
    ], key=lambda event: event[0])  # fmt: skip
    remote.send("bypass", 1)
    tick = 0
    while (now := time.monotonic() - begin) < seconds:
        while events and now >= events[0][0]:
            events.pop(0)[1]()
        if tick % 20 == 19:
            delays.append(remote.ask("latency"))
        if tick % 10 == 0:
            remote.send("beat", 1)
        else:
            remote.send("strength", 0.7 + 0.3 * float(np.sin(tick / 40)))
        if now >= (len(parts) + 1) * seconds / 20:
            delay = round(float(np.nanmedian(delays)), 1) if np.isfinite(delays).any() else float("nan")
            parts.append({"minute": round(now / 60, 2), "rss_mib": round(resident_mib(pid), 1), "delay_ms": delay})
            delays.clear()
            print(parts[-1], file=sys.stderr)
        tick += 1
        time.sleep(max(begin + tick / 20 - time.monotonic(), 0))
    return parts


def flashes_and_clicks(recording: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the moments, in seconds of the recording, at which flashes and clicks begin."""
    with av.open(str(recording)) as container:
        frames = [
            (float(frame.pts * frame.time_base), float(np.frombuffer(frame.planes[0], np.uint8)[::997].mean()))
            for frame in container.decode(video=0)
        ]
    bright = np.array([level > 200 for _, level in frames])
    times = np.array([at for at, _ in frames])
    flashes = times[np.flatnonzero(bright & ~np.roll(bright, 1))]
    clicks: list[float] = []
    with av.open(str(recording)) as container:
        for frame in container.decode(audio=0):
            samples = np.abs(frame.to_ndarray().astype(np.float32).reshape(-1, frame.samples)[0])
            loud = np.flatnonzero(samples > 0.1)
            at = float(frame.pts * frame.time_base)
            if len(loud) and (not clicks or at + loud[0] / frame.sample_rate - clicks[-1] > 0.5):
                clicks.append(at + loud[0] / frame.sample_rate)
    return flashes, np.array(clicks)


def offset_ms(flashes: np.ndarray, clicks: np.ndarray, begin: float, end: float) -> float:
    """Return the median offset, within half a second, of flashes from the next click, in a span of the recording."""
    own = flashes[(flashes >= begin) & (flashes < end)]
    nearest = [clicks[np.abs(clicks - flash).argmin()] - flash for flash in own]
    turned = np.angle(np.exp(2j * np.pi * np.array(nearest))) / (2 * np.pi)  # seconds go round
    return round(1000 * float(np.median(turned)), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--size", default="640x360", help="of the camera (default: %(default)s)")
    args = parser.parse_args()
    for tool in ("Xvfb", "ffmpeg"):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is not installed")
    width, height = map(int, args.size.split("x"))
    seconds = 60 * args.minutes
    with tempfile.TemporaryDirectory() as folder, display() as screen:
        print(json.dumps(evening(Path(folder), screen, width, height, seconds), indent=1))


def evening(folder: Path, screen: str, width: int, height: int, seconds: float) -> dict[str, Any]:
    """Play an evening; return its figures."""
    camera, receiver = Camera(width, height), Receiver()
    (folder / "show.toml").write_text(SHOW)
    recording = folder / "show.mkv"
    command = [
        sys.executable, "-m", "rtstyle", "webcam", camera.url, "--preview", "window", "--record", str(recording),
        "--mic", CLICK, "--output", receiver.url, "--output-bitrate", "2M", "--osc", "0", "--json",
        "--presets", str(folder / "show.toml"),
    ]  # fmt: skip
    env = os.environ | {"DISPLAY": screen, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    lines: list[str] = []
    session = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert session.stderr
    try:
        port = 0
        for line in session.stderr:
            lines.append(line.strip())
            if "OSC on" in line:
                port = int(line.split(" port ")[1].split(":")[0])
                break
        if not port:
            raise SystemExit("\n".join(lines))
        threading.Thread(target=lambda: lines.extend(map(str.strip, session.stderr or ())), daemon=True).start()
        remote = Remote(port)
        parts = play(remote, session.pid, seconds, camera, receiver)
        session.send_signal(signal.SIGINT)
        out, _ = session.communicate(timeout=60)
    finally:
        session.kill()
        receiver.kill()
    report = json.loads(out)
    flashes, clicks = flashes_and_clicks(recording)
    begin, end = (
        offset_ms(flashes, clicks, 1, QUIET - 1),
        offset_ms(flashes, clicks, flashes[-1] - QUIET + 3, flashes[-1] + 1),
    )
    return {
        "seconds": seconds,
        "size": f"{width}x{height}",
        "exit_code": session.returncode,
        "osc_messages": remote.sent,
        "parts": parts,
        "rss_growth_mib": round(parts[-1]["rss_mib"] - parts[len(parts) // 4]["rss_mib"], 1),
        "audio_offset_ms": {"begin": begin, "end": end, "lost": round((end - begin + 500) % 1000 - 500, 1)},
        "report": {
            key: report[key] for key in ("shown", "captured", "dropped", "fps", "latency_ms", "sinks", "warnings")
        },
        "said": lines[-30:],
    }


if __name__ == "__main__":
    main()

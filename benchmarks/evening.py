"""An evening on stage: does delay, memory or the offset of audio grow while everything is in use?

    python benchmarks/evening.py                                     # 10 minutes, 640x360 at 30 FPS
    python benchmarks/evening.py --minutes 30 --fps 15 --size-class fast

One `rtstyle webcam` under Xvfb with a window, a network camera, OSC at 20 messages a second, presets that change every
20 s, a recording with audio and an RTMP stream. The receiver is killed twice and the camera is taken away twice. Camera
and microphone share a clock: each frame leaves at its moment with its number in bars, each sample likewise, with a
click every four seconds. So the recording tells how much later than audio video is. The style is bypassed for 20 s at
both ends and for 10 s in each tenth, so that bars can be read. An engine that is too slow for all frames is no fault
here; a frame that no counter accounts for is one.

It needs Xvfb and ffmpeg. JSON on stdout; a line for every 20th part on stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import struct
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
QUIET, GLIMPSE = 20.0, 10.0
"""Seconds of bypass at both ends, and in each tenth between them."""
PERIOD = 4.0
"""Seconds between two clicks, and after which the numbers of frames begin at 0 again."""
BITS, BAR = 7, 24
"""Bars of the number of a frame, each followed by its opposite, and their width."""
AWAY = 8.0
"""Seconds for which the camera or the receiver is gone."""
SAMPLES = 48000
"""Samples per second of the microphone."""

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


def drawn(picture: np.ndarray, number: int) -> np.ndarray:
    """Draw a number in bars, black and white, each followed by its opposite."""
    for bit in range(BITS):
        for place, white in enumerate((number >> bit & 1, 1 - (number >> bit & 1))):
            picture[16:80, (2 * bit + place) * BAR :][:, :BAR] = 235 if white else 20
    return picture


def number_in(luma: np.ndarray) -> int | None:
    """Return the number that was drawn into a frame; None where a style has drawn over it."""
    bars = luma[28:68, : 2 * BITS * BAR].reshape(40, 2 * BITS, BAR)[:, :, 4:-4]
    levels, spread = bars.mean((0, 2)), bars.std((0, 2)).max()
    if spread > 12 or not all((levels < 60) | (levels > 190)) or any((levels[::2] > 128) == (levels[1::2] > 128)):
        return None
    return sum(int(level > 128) << bit for bit, level in enumerate(levels[::2]))


class Camera:
    """An MJPEG camera over HTTP: frame n leaves at n / fps seconds of ``time.time()``, with n in bars."""

    def __init__(self, width: int, height: int, fps: int) -> None:
        dice = np.random.default_rng(0)
        scene = cv2.resize(
            dice.integers(30, 120, (18, 32, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC
        )
        self.fps = fps
        self._frames = [self._jpeg(drawn(np.roll(scene, 4 * n, 1), n)) for n in range(round(PERIOD * fps))]
        self.gone = threading.Event()
        self.sent = 0
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if camera.gone.is_set():
                    self.send_error(503)
                    return
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
                self.end_headers()
                number = int(time.time() * fps)
                try:
                    while not camera.gone.is_set():
                        number = max(number + 1, int(time.time() * fps))  # frames that it was late for are not sent
                        time.sleep(max(number / fps - time.time(), 0))
                        data = camera._frames[number % len(camera._frames)]
                        head = b"--part\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data)
                        self.wfile.write(head + data + b"\r\n")
                        camera.sent += 1
                except OSError:
                    pass

            def log_message(self, *words: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/cam.mjpg"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @staticmethod
    def _jpeg(picture: np.ndarray) -> bytes:
        return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


class Microphone:
    """A WAV file without an end, in a pipe, that clicks every four seconds of ``time.time()``."""

    def __init__(self, folder: Path) -> None:
        self._pipe = folder / "microphone"
        os.mkfifo(self._pipe)
        self.device = f"lavfi:amovie={self._pipe}:format_name=wav"
        self.clicks = 0
        threading.Thread(target=self._write, daemon=True).start()

    def _write(self) -> None:
        step = SAMPLES // 100
        with contextlib.suppress(OSError), self._pipe.open("wb", buffering=0) as out:
            endless, form = 0xFFFFFFFF, struct.pack("<IHHIIHH", 16, 1, 1, SAMPLES, 2 * SAMPLES, 2, 16)
            out.write(b"RIFF" + struct.pack("<I", endless) + b"WAVEfmt " + form + b"data" + struct.pack("<I", endless))
            begin = int(time.time() * SAMPLES)
            while True:
                moments = np.arange(begin, begin + step) / SAMPLES % PERIOD
                begin += step
                click = np.where(moments < 0.02, 0.5 * np.sin(2 * np.pi * 2000 * moments), 0)
                time.sleep(max(begin / SAMPLES - time.time(), 0))
                out.write((32767 * click).astype("<i2").tobytes())
                self.clicks += bool(moments[0] < 0.01)


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
    glimpses = [tenth * seconds / 10 for tenth in range(1, 10)]
    events = sorted([
        (QUIET, lambda: remote.send("bypass", 0)),
        (seconds - QUIET, lambda: remote.send("bypass", 1)),
        *((at, lambda: remote.send("bypass", 1)) for at in glimpses),
        *((at + GLIMPSE, lambda: remote.send("bypass", 0)) for at in glimpses),
        (seconds * 0.24, receiver.kill), (seconds * 0.24 + AWAY, receiver.start),
        (seconds * 0.64, receiver.kill), (seconds * 0.64 + AWAY, receiver.start),
        (seconds * 0.44, camera.gone.set), (seconds * 0.44 + AWAY, camera.gone.clear),
        (seconds * 0.74, camera.gone.set), (seconds * 0.74 + AWAY, camera.gone.clear),
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
            parts.append({"minute": round(now / 60, 2), "rss_mib": round(resident_mib(pid), 1), "delay_ms": delay,
                          "load": os.getloadavg()[0]})  # fmt: skip
            delays.clear()
            print(parts[-1], file=sys.stderr)
        tick += 1
        time.sleep(max(begin + tick / 20 - time.monotonic(), 0))
    return parts


def numbers_and_clicks(recording: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the frames whose number can be read, as (seconds of the recording, number), and the seconds of clicks."""
    found, clicks = [], []
    with av.open(str(recording)) as container:
        for frame in container.decode(video=0):
            plane = frame.planes[0]
            luma = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:, : frame.width]
            if (number := number_in(luma)) is not None:
                found.append((float(frame.pts * frame.time_base), number))
    with av.open(str(recording)) as container:
        for frame in container.decode(audio=0):
            samples = np.abs(frame.to_ndarray().astype(np.float32).reshape(-1, frame.samples)[0])
            loud = np.flatnonzero(samples > 0.1)
            at = float(frame.pts * frame.time_base)
            if len(loud) and (not clicks or at + loud[0] / frame.sample_rate - clicks[-1] > PERIOD / 2):
                clicks.append(at + loud[0] / frame.sample_rate)
    return np.array(found), np.array(clicks)


def lateness(numbers: np.ndarray, clicks: np.ndarray, fps: int, begin: float, end: float) -> dict[str, float]:
    """Return by how many ms video is later than audio in a span of the recording: median and extremes over frames."""
    own = numbers[(numbers[:, 0] >= begin) & (numbers[:, 0] < end)]
    heard = clicks[(clicks >= begin) & (clicks < end)]
    if not len(own) or not len(heard):
        return {"second": round(begin), "frames": 0}
    audio = heard[0] + float(np.median(_round(heard - heard[0])))
    late = _round(own[:, 0] - own[:, 1] / fps - audio)
    p5, middle, p95 = 1000 * np.percentile(late, (5, 50, 95))
    return {"second": round(begin), "frames": len(own), "median": round(middle, 1), "p5": round(p5, 1),
            "p95": round(p95, 1)}  # fmt: skip


def _round(seconds: np.ndarray) -> np.ndarray:
    """Bring values between minus and plus half a period."""
    return (seconds + PERIOD / 2) % PERIOD - PERIOD / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--size", default="640x360", help="of the camera (default: %(default)s)")
    parser.add_argument("--fps", type=int, default=30, help="of the camera, a whole number (default: %(default)s)")
    parser.add_argument("--size-class", default="auto", help="network (default: %(default)s)")
    args = parser.parse_args()
    for tool in ("Xvfb", "ffmpeg"):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is not installed")
    width, height = map(int, args.size.split("x"))
    seconds = 60 * args.minutes
    with tempfile.TemporaryDirectory() as folder, display() as screen:
        camera = Camera(width, height, args.fps)
        figures = evening(Path(folder), screen, camera, seconds, args.size_class)
        print(json.dumps({"size": args.size, "fps": args.fps, "size_class": args.size_class, **figures}, indent=1))


def evening(folder: Path, screen: str, camera: Camera, seconds: float, size_class: str) -> dict[str, Any]:
    """Play an evening; return its figures."""
    receiver, microphone = Receiver(), Microphone(folder)
    (folder / "show.toml").write_text(SHOW)
    recording = folder / "show.mkv"
    command = [
        sys.executable, "-m", "rtstyle", "webcam", camera.url, "--preview", "window", "--record", str(recording),
        "--mic", microphone.device, "--size-class", size_class,
        "--output", receiver.url, "--output-bitrate", "2M", "--osc", "0", "--json",
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
        remote, sent = Remote(port), camera.sent
        parts = play(remote, session.pid, seconds, camera, receiver)
        session.send_signal(signal.SIGINT)
        out, _ = session.communicate(timeout=60)
    finally:
        session.kill()
        receiver.kill()
        camera.gone.set()
    report = json.loads(out)
    numbers, clicks = numbers_and_clicks(recording)
    begins = [1.0, *(tenth * seconds / 10 + 1.5 for tenth in range(1, 10)), seconds - QUIET + 3]
    lengths = [QUIET - 2, *9 * [GLIMPSE - 2], QUIET]
    spans = zip(begins, np.add(begins, lengths), strict=True)
    return {
        "seconds": seconds,
        "exit_code": session.returncode,
        "osc_messages": remote.sent,
        "parts": parts,
        "rss_growth_mib": round(parts[-1]["rss_mib"] - parts[len(parts) // 4]["rss_mib"], 1),
        "video_later_than_audio_ms": [lateness(numbers, clicks, camera.fps, *span) for span in spans],
        "frames_sent": camera.sent - sent,
        "clicks": {"made": microphone.clicks, "recorded": len(clicks)},
        "report": {
            key: report[key] for key in ("shown", "captured", "dropped", "fps", "latency_ms", "sinks", "warnings")
        },
        "said": lines[-30:],
    }


if __name__ == "__main__":
    main()

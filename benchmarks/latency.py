"""How late the image is: from a camera's clock to the screen, read from a barcode in the image.

    python benchmarks/latency.py                        720p at 30 frames per second, 20 s
    python benchmarks/latency.py --slow 2 --seconds 60  an engine of half the needed speed: is the lag constant?
    python benchmarks/latency.py --camera mjpeg         through HTTP and JPEG, as network cameras send it

A camera in a process of its own draws the time into every image, as 32 black or white blocks. ``stylize_live``
shows it in a window on a screen of Xvfb (needs Xvfb), and a third process grabs that screen and reads the time back.

    added           from a frame's arrival in rtstyle to the stylized one reaching its sinks (includes decoding,
                    which is a copy where the camera is a pipe, and following the canvas)
    on the screen   the same until the window has drawn it
    glass to glass  from the camera's clock to the screen's grabber; it looks 60 times a second, so 0-17 ms of it
                    are the grabber's own

The camera and the grabber share the machine with rtstyle: on two cores that costs some milliseconds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any, BinaryIO

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import av
import cv2
import numpy as np
from machine import Others, describe
from numpy.typing import NDArray

import rtstyle.backends.opening
from rtstyle import (
    CaptureSettings,
    Controls,
    Engine,
    EngineSettings,
    Frame,
    LiveSettings,
    Size,
    __version__,
    open_engine,
    stylize_live,
)
from rtstyle.live.figures import percentiles

ROOT = Path(__file__).resolve().parents[1]
BITS, COLUMNS = 32, 16
Picture = NDArray[np.uint8]


# -- the barcode


def block(size: Size) -> int:
    """Pixels per side of a block: two rows of 16 and one of known ones lie at the bottom of the image."""
    return size.width // COLUMNS // 8 * 8


def now_ms() -> int:
    """Milliseconds of the clock that all processes of the machine share, 32 bits of them."""
    return time.time_ns() // 1_000_000 & 0xFFFFFFFF


def draw_code(luma: Picture, number: int) -> None:
    """Write a number into the luma of an image: two rows of blocks, and below them white and black in turn."""
    height, width = luma.shape
    side = block(Size(width, height))
    top = height - 3 * side
    for index in range(BITS + COLUMNS):
        row, column = divmod(index, COLUMNS)
        white = number >> index & 1 if index < BITS else (index + 1) % 2
        luma[top + row * side : top + (row + 1) * side, column * side : (column + 1) * side] = 230 if white else 20


def read_code(luma: Picture, side: int) -> int | None:
    """Read the number from the three rows of blocks; None where the known ones cannot be distinguished."""
    inner = luma[: 3 * side, : COLUMNS * side].reshape(3, side, COLUMNS, side)
    margin = side // 5
    means = inner[:, margin:-margin, :, margin:-margin].mean((1, 3))
    white, black = means[2, 0::2], means[2, 1::2]
    if white.min() < black.max() + 20:
        return None
    levels = means[:2].ravel()
    return sum(1 << bit for bit, level in enumerate(levels) if level > (white.mean() + black.mean()) / 2)


# -- the camera, in a process of its own


def backgrounds(size: Size) -> list[Picture]:
    """Real images as I420, shape (height * 3 / 2, width)."""
    with av.open(str(ROOT / "demo" / "big_buck_bunny.mp4")) as clip:
        return [
            picture.reformat(size.width, size.height, "yuv420p").to_ndarray()
            for picture, _ in zip(clip.decode(video=0), range(30), strict=False)
        ]


def pictures(size: Size, fps: float) -> Any:
    """Yield images with the time of now, at their pace."""
    stills, begin, index = backgrounds(size), time.perf_counter(), 0
    while True:
        time.sleep(max(0.0, begin + index / fps - time.perf_counter()))
        picture = stills[index % len(stills)]
        draw_code(picture[: size.height], now_ms())
        yield picture
        index += 1


def pipe_camera(path: str, size: Size, fps: float) -> None:
    """Write y4m into a named pipe until no process reads it."""
    with open(path, "wb", buffering=0) as pipe:
        pipe.write(f"YUV4MPEG2 W{size.width} H{size.height} F{fps:g}:1 Ip C420jpeg XCOLORRANGE=FULL\n".encode())
        try:
            for picture in pictures(size, fps):
                write_all(pipe, b"FRAME\n" + picture.tobytes())
        except OSError:
            pass  # the session is over


def write_all(pipe: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[pipe.write(view) :]


def network_camera(port: Queue[int], size: Size, fps: float) -> None:
    """Serve MJPEG over HTTP to one viewer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            for picture in pictures(size, fps):
                bgr = cv2.cvtColor(picture, cv2.COLOR_YUV2BGR_I420)
                data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                self.wfile.write(head.encode() + data + b"\r\n")

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port.put(server.server_port)
    server.serve_forever()


# -- the eye before the screen, in a process of its own


def watch(display: str, size: Size, seen: Queue[list[tuple[float, float]]], stop: Any) -> None:
    """Grab the code from the screen 60 times a second; put (seconds since the first, lag in ms) of each new one."""
    side = block(size)
    options = {"video_size": f"{COLUMNS * side}x{3 * side}", "framerate": "60", "draw_mouse": "0"}
    lags: list[tuple[float, float]] = []
    begin, last = 0.0, None
    with av.open(f"{display}+0,{size.height - 3 * side}", format="x11grab", options=options) as screen:
        for grabbed in screen.decode(video=0):
            now = now_ms()
            if stop.is_set():
                break
            code = read_code(grabbed.to_ndarray(format="gray"), side)
            if code is None or code == last or not 0 <= now - code < 60_000:
                continue
            begin = begin or time.perf_counter()
            last = code
            lags.append((time.perf_counter() - begin, float(now - code)))
    seen.put(lags)


# -- a slower machine


class Slowed:
    """A real engine that rests after each frame until it took so many seconds."""

    def __init__(self, engine: Engine, seconds: float) -> None:
        self._engine, self._seconds, self._begin = engine, seconds, 0.0
        self.backend, self.precision, self.device = engine.backend, engine.precision, engine.device
        self.size, self.color, self.in_flight = engine.size, engine.color, engine.in_flight

    def submit(self, frame: Frame, controls: Controls = Controls()) -> None:
        self._begin = time.perf_counter()
        self._engine.submit(frame, controls)

    def next(self) -> Frame:
        frame = self._engine.next()
        time.sleep(max(0.0, self._begin + self._seconds - time.perf_counter()))
        return frame

    def close(self) -> None:
        self._engine.close()


def slow_down(seconds: float) -> None:
    """Let every engine of live sessions take at least so long for a frame."""

    def opened(*args: Any, mode: Any, backend: Any, precision: Any, device: Any) -> Any:
        return Slowed(open_engine(*args, mode=mode, backend=backend, precision=precision, device=device), seconds)

    rtstyle.backends.opening.open_engine = opened


# -- all together


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run camera, session and watcher; return what was measured."""
    size = Size.parse(args.size)
    processes = multiprocessing.get_context("spawn")
    seen, port, stop = processes.Queue(), processes.Queue(), processes.Event()
    if args.camera == "pipe":
        source = str(folder / "camera.y4m")
        os.mkfifo(source)
        camera = processes.Process(target=pipe_camera, args=(source, size, args.fps), daemon=True)
        camera.start()
    else:
        camera = processes.Process(target=network_camera, args=(port, size, args.fps), daemon=True)
        camera.start()
        source = f"http://127.0.0.1:{port.get(timeout=30)}/cam.mjpg"
    watcher = processes.Process(target=watch, args=(os.environ["DISPLAY"], size, seen, stop), daemon=True)
    watcher.start()
    others = Others()
    if args.slow > 1:
        slow_down(args.slow / args.fps)
    report = stylize_live(
        source,
        style=args.style,
        controls=Controls.of(args.strength),
        engine=EngineSettings(precision=args.precision, size_class=args.size_class),
        capture=CaptureSettings(timeout=10, wait=0),
        live=LiveSettings(preview="window", target_fps=args.target_fps, denoise=args.hold, seconds=args.seconds),
    )
    busy = others.cores()
    stop.set()
    lags = seen.get(timeout=10)
    camera.terminate()
    parts = []
    for begin in range(0, int(args.seconds), 10):
        part = [lag for at, lag in lags if begin <= at < begin + 10]
        parts.append(round(float(np.median(part)), 1) if part else None)
    return {
        "size": args.size,
        "camera": f"{args.camera}, {args.fps:g} frames per second",
        "style": args.style,
        "strength": args.strength,
        "engine": f"{report.backend} {report.precision}",
        "engine_slowed_to_ms": round(1000 * args.slow / args.fps, 1) if args.slow > 1 else None,
        "seconds": args.seconds,
        "captured": report.captured,
        "shown": report.shown,
        "dropped": report.dropped,
        "fps": report.fps,
        "working_sizes": report.working_sizes,
        "added_ms": report.latency_ms,
        "on_the_screen_ms": report.sinks["window"]["latency_ms"],
        "glass_to_glass_ms": percentiles([lag for _, lag in lags], 1),
        "codes_seen": len(lags),
        "glass_to_glass_median_ms_of_each_10_s": parts,
        "cores_of_others": busy,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1280x720", metavar="WxH")
    parser.add_argument("--fps", type=float, default=30, help="of the camera")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--camera", choices=("pipe", "mjpeg"), default="pipe")
    parser.add_argument("--style", default="sketch")
    parser.add_argument("--strength", type=float, default=1.0, help="all shipped styles leave the code legible")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--size-class", default="default", help="auto takes the fast network where this is too slow")
    parser.add_argument("--slow", type=float, default=1, metavar="X", help="engine that is X times too slow")
    parser.add_argument("--target-fps", type=float, metavar="N")
    parser.add_argument("--hold", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    args = parser.parse_args()
    size = Size.parse(args.size)
    read, write = os.pipe()
    screen = f"{-(-size.width * 10 // 9) + 16}x{-(-size.height * 10 // 9) + 16}x24"
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", screen, "-nolisten", "tcp"],
        pass_fds=[write],
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    with os.fdopen(read) as pipe:
        os.environ["DISPLAY"] = f":{pipe.readline().strip()}"
    os.environ.pop("SDL_VIDEODRIVER", None)
    os.environ["SDL_VIDEO_WINDOW_POS"] = "0,0"
    try:
        with tempfile.TemporaryDirectory() as folder:
            result = {"rtstyle": __version__, "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **describe()}
            result |= measure(args, Path(folder))
    finally:
        server.terminate()
        server.wait()
    for name, value in result.items():
        print(f"{name:40} {value}")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""How long it takes from an OSC or HTTP message to the first frame that shows it.

    python benchmarks/control.py                 # 40 messages each, a 640x360 source at 30 FPS
    python benchmarks/control.py --size 1280x720 --count 100

A session stylizes a source of 30 frames per second; blackout is turned on and off from another process's point of view,
over UDP and HTTP on loopback, and a sink notes the first frame that is black, or is not any more. Half a frame's
interval on average is waiting for the next frame; the rest is the engine and the way to the sink.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Self

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from rtstyle import Color, ControlSettings, Frame, LiveSettings, Outputs, Planes, Size, stylize_live
from rtstyle.live.figures import percentiles
from rtstyle.web.address import Address

RATE = 30
APART = 0.4
"""Seconds between two messages: more than the sixth of a second within which nothing turns around."""


class Source:
    """A moving gradient, 30 frames a second, as a camera gives them."""

    live, rate, color = True, Fraction(RATE), Color("bt709", full_range=False)

    def __init__(self, size: Size) -> None:
        self.size, self.stop = size, threading.Event()
        self._chroma = np.full((size.chroma.height, size.chroma.width), 128, np.uint8)

    def __iter__(self) -> Iterator[Frame]:
        due = time.perf_counter()
        row = np.linspace(60, 200, self.size.width).astype(np.uint8)
        number = 0
        while not self.stop.wait(max(due - time.perf_counter(), 0)):
            luma = np.ascontiguousarray(np.broadcast_to(np.roll(row, 3 * number), (self.size.height, self.size.width)))
            yield Frame(Planes(luma, self._chroma, self._chroma), number, Fraction(1, RATE), self.color)
            number, due = number + 1, due + 1 / RATE

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None: ...


class Watcher:
    """Notes when frames turn black, and when they are not any more."""

    def __init__(self) -> None:
        self.black, self.turned, self.frames = False, 0.0, 0
        self.changed = threading.Event()

    def write(self, frame: Frame) -> None:
        self.frames += 1
        black = int(frame.planes.y.max()) <= 16
        if black != self.black:
            self.black, self.turned = black, time.perf_counter()
            self.changed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None: ...


def measure(watcher: Watcher, send: Callable[[bool], None], count: int) -> dict[str, float]:
    """Send so many messages; return milliseconds from each to the frame that shows it."""
    found = []
    for number in range(count):
        watcher.changed.clear()
        sent = time.perf_counter()
        send(number % 2 == 0)
        if not watcher.changed.wait(5):
            raise SystemExit("a message was not seen within 5 s")
        found.append(1000 * (watcher.turned - sent))
        time.sleep(APART + 0.01 * (number % 7))  # at all phases of the source
    return percentiles(found, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--count", type=int, default=40)
    args = parser.parse_args()
    from pythonosc.udp_client import SimpleUDPClient

    source, watcher, lines = Source(Size.parse(args.size)), Watcher(), []
    live = LiveSettings(
        preview="browser", address=Address(port=0), control=ControlSettings(osc=("127.0.0.1", 0)), seconds=600
    )
    session = threading.Thread(
        target=stylize_live,
        args=(source,),
        kwargs={"outputs": Outputs(sinks=(watcher,)), "live": live, "say": lines.append},
    )
    session.start()
    try:
        while watcher.frames < 2 * RATE:
            time.sleep(0.1)
            if not session.is_alive():
                raise SystemExit("the session did not start")
        osc = SimpleUDPClient("127.0.0.1", int(next(x for x in lines if x.startswith("OSC")).split(":")[0].split()[-1]))
        page = next(line for line in lines if line.startswith("open ")).split()[1]
        url = page.replace("/?", "/command?")

        def post(on: bool) -> None:
            body = json.dumps({"blackout": on}).encode()
            urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"})).close()

        results = {
            "osc": measure(watcher, lambda on: osc.send_message("/rtstyle/blackout", int(on)), args.count),
            "http": measure(watcher, post, args.count),
        }
    finally:
        source.stop.set()
        session.join()
    print(json.dumps({"size": args.size, "fps": RATE, "latency_ms": results}))


if __name__ == "__main__":
    main()

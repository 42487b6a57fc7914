"""What two honest visitors of `rtstyle serve` notice of ten hostile ones: round trips alone and under attack.

    python benchmarks/attack.py                # 10 s alone, 60 s under attack
    python benchmarks/attack.py --json

The server is a process of its own, as for a user, and so are the hostile visitors. They do, all the time and again as
soon as they are refused: progressive JPEGs of 80,000 scans, megabytes of fill bytes, thousands of tables, messages
that are none, the largest messages there may be, connections that say nothing, heads that never end, hundreds of
requests at once under other names. Exit code 1 where the 95th percentile of an honest visitor is 100 ms or more.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import secrets
import socket
import subprocess
import sys
import time
from contextlib import suppress
from multiprocessing.synchronize import Event, Semaphore
from pathlib import Path

import aiohttp
import cv2
import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from rtstyle.backends import Controls  # noqa: E402
from rtstyle.frame import Size  # noqa: E402
from rtstyle.web.protocol import MAX_MESSAGE, Request, read_reply, write_request  # noqa: E402

SIZE, FPS, GOAL_MS = Size(640, 360), 10, 100.0


def photo(seed: int, *options: int) -> bytes:
    """Return a JPEG of ``SIZE`` with soft shapes."""
    noise = np.random.default_rng(seed).integers(0, 256, (9, 16, 3), np.uint8)
    image = cv2.resize(noise, (SIZE.width, SIZE.height), interpolation=cv2.INTER_CUBIC)
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85, *options])[1].tobytes())


def bombs() -> list[bytes]:
    """Return messages that cost a server without bounds seconds each."""
    good, slow = photo(0), photo(0, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    scan, last = good.index(b"\xff\xda"), slow.rindex(b"\xff\xda")
    table = good[good.index(b"\xff\xc4") :]
    table = table[: 2 + int.from_bytes(table[2:4], "big")]
    room = MAX_MESSAGE - 60_000
    jpegs = [
        slow[:-2] + slow[last : last + 10] * (room // 10) + b"\xff\xd9",
        good[:2] + b"\xff" * room + good[2:],
        good[:2] + table * (room // len(table)) + good[2:],
        good[:-2] + good[scan : scan + 14] * (room // 14) + b"\xff\xd9",
    ]
    return [write_request(Request(number, 0, Controls(), jpeg)) for number, jpeg in enumerate(jpegs, 1)]


async def honest(url: str, seed: int, seconds: float, times: list[float]) -> None:
    """Send frames as the page does, ten a second, one at a time on its way; append round trips in milliseconds."""
    data = photo(seed)
    async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as line:
        await line.receive_json(timeout=20)
        end, number = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            number += 1
            begin = time.perf_counter()
            await line.send_bytes(write_request(Request(number, 0, Controls(), data)))
            while True:
                message = await line.receive(timeout=30)
                if message.type is aiohttp.WSMsgType.BINARY:
                    reply = read_reply(message.data)
                    if reply.number == number:
                        break
                elif message.type is not aiohttp.WSMsgType.TEXT:
                    raise RuntimeError(f"an honest visitor was sent away: {message}")
            if reply.jpeg:
                times.append(1000 * (time.perf_counter() - begin))
            await asyncio.sleep(max(0.0, 1 / FPS - (time.perf_counter() - begin)))


async def _by_socket(url: str, messages: list[bytes], end: float) -> None:
    """Be a visitor who sends these, one after the other, and comes again when sent away."""
    while time.monotonic() < end:
        with suppress(aiohttp.ClientError, ConnectionError, TimeoutError, TypeError):
            async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as line:
                while time.monotonic() < end and not line.closed:
                    for message in messages:
                        await line.send_bytes(message)
                    with suppress(TimeoutError):
                        await line.receive(timeout=0.02)
        await asyncio.sleep(0.02)


def _by_bytes(port: int, kind: str, path: str, end: float) -> None:
    """Hold idle connections, heads that never end, or ask hundreds of times under other names."""
    head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n".encode()
    evil = b"GET / HTTP/1.1\r\nHost: [::1:99999\r\nOrigin: http://[\r\nContent-Type: a; charset=none\r\n\r\n"
    lines: list[socket.socket] = []
    while time.monotonic() < end:
        with suppress(OSError):
            line = socket.create_connection(("127.0.0.1", port), timeout=1)
            line.setblocking(False)
            lines.append(line)
            line.send({"idle": b"", "head": head, "names": 200 * evil, "greedy": 200 * (head + b"\r\n")}[kind])
        if len(lines) > 60:
            lines.pop(0).close()
        time.sleep(0.01)


def hostile(number: int, url: str, port: int, path: str, seconds: float, ready: Semaphore, begin: Event) -> None:
    """Be one of ten hostile visitors, with the least priority: real ones use a processor of their own."""
    if hasattr(os, "nice"):
        os.nice(19)
    kinds = bombs()
    ready.release()
    begin.wait()
    end = time.monotonic() + seconds
    if number < 4:
        asyncio.run(_by_socket(url, kinds[number:] + kinds[:number], end))
    elif number == 4:
        asyncio.run(_by_socket(url, [b"", b"\x01", secrets.token_bytes(5000)], end))
    elif number == 5:
        asyncio.run(_by_socket(url, [write_request(Request(1, 0, Controls(), bytes(MAX_MESSAGE - 8)))], end))
    else:
        _by_bytes(port, ("idle", "head", "names", "greedy")[number - 6], path, end)


class Busy:
    """Cores that are busy with anything but some processes, as Linux counts; elsewhere nothing is known."""

    def __init__(self, own: list[int]) -> None:
        self._own, self._begin = own, time.monotonic()
        self._before = self._ticks()

    def _ticks(self) -> float | None:
        with suppress(OSError, ValueError):
            words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
            ticks = sum(map(int, words[:3])) + sum(map(int, words[5:8]))
            for number in self._own:
                ticks -= sum(map(int, Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[11:13]))
            return ticks / os.sysconf("SC_CLK_TCK")
        return None

    def cores(self) -> float | None:
        """Return how many cores others kept busy since this object was made."""
        after = self._ticks()
        if after is None or self._before is None:
            return None
        return round((after - self._before) / (time.monotonic() - self._begin), 2)


def verdict(worst: float, others: float | None, died: int | None) -> str:
    """Say in one line whether the goal is reached, and whether the machine was quiet enough to tell."""
    quiet = (
        "" if others is None or others < 0.1 else f"; NOT A QUIET MACHINE: other programs kept {others:g} cores busy"
    )
    if died is not None:
        return f"FAIL: the server ended with {died}{quiet}"
    return f"{'PASS' if worst < GOAL_MS else 'FAIL'}: p95 {worst:g} ms under attack, goal {GOAL_MS:g} ms{quiet}"


def figures(times: list[float]) -> dict[str, float]:
    """Sum up round trips in milliseconds."""
    p50, p95, most = (round(float(np.percentile(times, share)), 1) for share in (50, 95, 100))
    return {"frames": len(times), "p50_ms": p50, "p95_ms": p95, "max_ms": most}


async def measure(url: str, seconds: float) -> list[dict[str, float]]:
    """Let two honest visitors work at once; the figures of each."""
    all_times: list[list[float]] = [[], []]
    await asyncio.gather(*(honest(url, seed, seconds, times) for seed, times in enumerate(all_times)))
    return [figures(times) for times in all_times]


def main() -> int:
    """Run the benchmark and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="of the attack (default: %(default)g)")
    parser.add_argument("--alone", type=float, default=10, help="seconds without it before (default: %(default)g)")
    parser.add_argument("--json", action="store_true", help="print one object")
    args = parser.parse_args()
    token = secrets.token_urlsafe(24)
    with subprocess.Popen(
        [sys.executable, "-m", "rtstyle", "serve", "--port", "0"],
        stderr=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "RTSTYLE_TOKEN": token},
    ) as server:  # fmt: skip
        try:
            assert server.stderr
            page = next(line.split("open ")[1].split()[0] for line in server.stderr if "open http" in line)
            port = int(page.split(":")[2].partition("/")[0])
            url = f"http://127.0.0.1:{port}/ws?token={token}"
            asyncio.run(measure(url, 3))  # the first frames of a process are slower
            alone = asyncio.run(measure(url, args.alone))
            context = multiprocessing.get_context("spawn")
            ready, begin = context.Semaphore(0), context.Event()
            words = (url, port, f"/styles/0.jpg?token={token}", args.seconds + 3, ready, begin)
            attackers = [context.Process(target=hostile, args=(number, *words)) for number in range(10)]
            for attacker in attackers:
                attacker.start()
            for _ in attackers:
                ready.acquire()

            async def attacked() -> list[dict[str, float]]:
                task = asyncio.create_task(measure(url, args.seconds))
                await asyncio.sleep(0.5)  # the honest ones have their places
                begin.set()
                return await task

            busy = Busy([os.getpid(), server.pid, *(attacker.pid or 0 for attacker in attackers)])

            under = asyncio.run(attacked())
            others = busy.cores()
            for attacker in attackers:
                attacker.join(10)
                attacker.kill()
            code = server.poll()
        finally:
            server.terminate()
    worst = max(each["p95_ms"] for each in under)
    line = verdict(worst, others, code)
    if args.json:
        report = {"alone": alone, "attacked": under, "server_died": code, "others_cores": others, "verdict": line}
        print(json.dumps(report))
    else:
        for name, visitors in (("alone", alone), ("under attack", under)):
            for number, each in enumerate(visitors, 1):
                print(f"{name:13} visitor {number}: " + ", ".join(f"{key} {value:g}" for key, value in each.items()))
        print(line)
    return 0 if line.startswith("PASS") else 1


if __name__ == "__main__":
    sys.exit(main())

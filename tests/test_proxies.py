"""Two servers behind HAProxy or nginx: visitors are spread, a server that ends or is killed costs them a moment."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

aiohttp = pytest.importorskip("aiohttp", reason="pages need aiohttp: pip install 'rtstyle[web]'")

from rtstyle.backends import Controls  # noqa: E402
from rtstyle.web.protocol import Request, read_reply, write_request  # noqa: E402

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
TOKEN = "one-token-for-all-servers"
COOKIE = {"Cookie": f"rtstyle_0={TOKEN}", "Host": "rt.example.org"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_server(folder: Path, port: int) -> subprocess.Popen[bytes]:
    words = ["--port", str(port), "--visitors", "2", "--behind-proxy", "--allow-host", "rt.example.org"]
    words += ["--token-file", str(folder / "token"), "--drain", "2", "--backend", "openvino", "--size-class", "fast"]
    return subprocess.Popen(
        [sys.executable, "-m", "rtstyle", "serve", *words], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )


def block_of(proxy: str) -> str:
    """The configuration of the guide."""
    text = (ROOT / "docs" / "guides" / "serving.md").read_text("utf-8")
    (block,) = re.findall(rf"```{proxy}\n(.*?)```", text, re.S)
    return block


def haproxy(folder: Path, front: int, backs: list[int]) -> subprocess.Popen[bytes]:
    """Start HAProxy as the guide says, with its servers and ports replaced."""
    block = re.sub(r"bind .*", f"bind 127.0.0.1:{front}", block_of("haproxy"))
    lines = [line for line in block.splitlines() if not line.strip().startswith("server ")]
    servers = [f"    server s{port} 127.0.0.1:{port} check" for port in backs]
    (folder / "haproxy.cfg").write_text("\n".join([*lines, *servers, ""]))
    subprocess.run(["haproxy", "-c", "-f", str(folder / "haproxy.cfg")], check=True, capture_output=True)
    return subprocess.Popen(["haproxy", "-db", "-f", str(folder / "haproxy.cfg")])


def nginx(folder: Path, front: int, backs: list[int]) -> subprocess.Popen[bytes]:
    """The same with nginx, which needs no rights in the folders of the system either."""
    block = re.sub(r"listen .*", f"listen 127.0.0.1:{front};", block_of("nginx"))
    block = re.sub(r"\n.*ssl_certificate.*", "", block)
    servers = iter(backs)
    block = re.sub(r"server 10\.0\.0\.\d+:8765", lambda _: f"server 127.0.0.1:{next(servers)}", block)
    temporary = "".join(
        f"{kind}_temp_path {folder};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = f"daemon off;\npid {folder}/nginx.pid;\nerror_log stderr;\nevents {{}}\n"
    (folder / "nginx.conf").write_text(f"{main}http {{\naccess_log off;\n{temporary}{block}}}\n")
    words = ["nginx", "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]
    subprocess.run([*words, "-t"], check=True, capture_output=True)
    return subprocess.Popen(words)


PROXIES = {"haproxy": haproxy, "nginx": nginx}


class Visitor:
    """A page that connects again when its line is closed, as app.js does."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url
        self.answers, self.lines = 0, 0
        self.gaps: list[float] = []

    async def run(self, picture: bytes) -> None:
        last = time.monotonic()
        while True:
            try:
                async with self._session.ws_connect(self._url, headers=COOKIE) as line:
                    self.lines += 1
                    await line.receive_json(timeout=10)
                    for number in range(1, 1 << 20):
                        await line.send_bytes(write_request(Request(number, 0, Controls(), picture)))
                        message = await line.receive(timeout=20)
                        while message.type is aiohttp.WSMsgType.TEXT:
                            assert json.loads(message.data)["reason"] == "moved"
                            message = await line.receive(timeout=20)
                        if message.type is not aiohttp.WSMsgType.BINARY:
                            break
                        if read_reply(message.data).jpeg:
                            self.answers += 1
                            self.gaps.append(time.monotonic() - last)
                            last = time.monotonic()
                        await asyncio.sleep(0.05)
            except (aiohttp.ClientError, ConnectionError):
                pass
            await asyncio.sleep(0.5)


async def wait_for(url: str, status: int, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url, headers=COOKIE) as answer:
                    if answer.status == status:
                        return
            except (aiohttp.ClientError, ConnectionError):
                pass
            assert time.monotonic() < end, url
            await asyncio.sleep(0.2)


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_visitors_of_a_server_that_ends_come_back_at_the_other(tmp_path, how, proxy):
    import cv2
    import numpy as np

    if shutil.which(proxy) is None:
        pytest.skip(f"{proxy} is not installed: apt-get install {proxy}")
    _, data = cv2.imencode(".jpg", np.full((360, 640, 3), 120, np.uint8))
    (tmp_path / "token").write_text(TOKEN)
    front, backs = free_port(), [free_port(), free_port()]
    running = [start_server(tmp_path, port) for port in backs]
    running.append(PROXIES[proxy](tmp_path, front, backs))
    home = f"http://127.0.0.1:{front}"

    async def action() -> None:
        for port in backs:
            await wait_for(f"http://127.0.0.1:{port}/readyz", 200)
        await wait_for(f"{home}/", 200)
        await asyncio.sleep(2)  # the proxy has found both
        async with aiohttp.ClientSession() as session:
            visitors = [Visitor(session, f"{home}/ws") for _ in range(2)]
            tasks = [asyncio.create_task(visitor.run(data.tobytes())) for visitor in visitors]
            while min(visitor.answers for visitor in visitors) < 5:
                await asyncio.sleep(0.1)
                assert not any(task.done() for task in tasks)
            places = [await (await session.get(f"http://127.0.0.1:{port}/readyz")).text() for port in backs]
            assert places == ["1 of 2 places are taken\n"] * 2
            running[0].send_signal(how)
            running[0].wait(30)
            before = [visitor.answers for visitor in visitors]
            while min(now.answers - then for now, then in zip(visitors, before, strict=True)) < 5:
                await asyncio.sleep(0.1)
                assert not any(task.done() for task in tasks)
            print(f"{how.name}: longest gap {max(max(visitor.gaps[2:]) for visitor in visitors):.1f} s")
            assert sorted(visitor.lines > 1 for visitor in visitors) == [False, True]
            for task in tasks:
                task.cancel()

    try:
        asyncio.run(asyncio.wait_for(action(), 180))
    finally:
        for process in reversed(running):
            process.terminate()  # a proxy ends its workers; a server has no visitor left to wait for
            process.wait(30)

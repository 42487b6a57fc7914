"""The pages: what a visitor gets, how several share the machine, and that none can take it from the others."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import random
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import drawn

aiohttp = pytest.importorskip("aiohttp", reason="pages need aiohttp: pip install 'rtstyle[web]'")
simplejpeg = pytest.importorskip("simplejpeg", reason="pages need simplejpeg: pip install 'rtstyle[web]'")

from rtstyle.actions import (  # noqa: E402
    Action,
    SessionState,
    StrengthSet,
    StyleChosen,
)
from rtstyle.backends import Controls, Engine, open_engine  # noqa: E402
from rtstyle.camera import CaptureSettings  # noqa: E402
from rtstyle.cli import main  # noqa: E402
from rtstyle.errors import ServerError, SettingError  # noqa: E402
from rtstyle.frame import Color, Frame, Planes, Size, planes_from_rgb, planes_to_rgb  # noqa: E402
from rtstyle.live import LiveSettings, stylize_live  # noqa: E402
from rtstyle.style import Style, load_style  # noqa: E402
from rtstyle.web import host, jpeg, protocol, server, share  # noqa: E402
from rtstyle.web.address import Address  # noqa: E402
from rtstyle.web.guard import Guard  # noqa: E402
from rtstyle.web.jpeg import JPEG_COLOR, JpegDecoder, JpegError, encode_jpeg, jpeg_size  # noqa: E402
from rtstyle.web.preview import BrowserPreview, read_posted  # noqa: E402
from rtstyle.web.protocol import IN_FLIGHT, Reply, Request, read_reply, write_request  # noqa: E402
from rtstyle.web.server import StyleServer  # noqa: E402

ROOT = Path(__file__).parents[1]
STYLES = ["sketch", "great_wave", "red_chalk"]
SMALL = Size(640, 360)


def picture(size: Size = SMALL, seed: int = 0) -> np.ndarray:
    """A smooth frame with edges: shape (height, width, 3), uint8 RGB."""
    noise = np.random.default_rng(seed).integers(0, 256, (size.height // 40 + 1, size.width // 40 + 1, 3), np.uint8)
    return np.ascontiguousarray(cv2.resize(noise, (size.width, size.height), interpolation=cv2.INTER_CUBIC))


def as_jpeg(rgb: np.ndarray, subsampling: str = "420", quality: int = 90) -> bytes:
    return simplejpeg.encode_jpeg(rgb, quality, "RGB", subsampling)


@pytest.fixture(scope="module")
def shared():
    """A server with all shipped styles, for tests that leave it as it was."""
    with StyleServer(Address(port=0), [load_style(name) for name in STYLES]) as running:
        yield running


class Visitor:
    """One WebSocket, used as the page uses it."""

    def __init__(self, line: aiohttp.ClientWebSocketResponse) -> None:
        self.line = line
        self.hello: dict = {}
        self.number = 0
        self.replies: list[tuple[Reply, float]] = []
        self.told: list[dict] = []

    async def send(self, data: bytes, style: int = 0, controls: Controls = Controls(), mask: str | None = None) -> int:
        self.number += 1
        await self.line.send_bytes(write_request(Request(self.number, style, controls, data, mask)))
        return self.number

    async def reply(self, seconds: float = 20) -> Reply:
        """The next answer; printed lines that come before it are kept in ``told``."""
        while True:
            message = await self.line.receive(timeout=seconds)
            if message.type is aiohttp.WSMsgType.TEXT:
                self.told.append(json.loads(message.data))
                continue
            assert message.type is aiohttp.WSMsgType.BINARY, (message, self.told)
            self.replies.append((read_reply(message.data), time.perf_counter()))
            return self.replies[-1][0]

    async def painted(
        self, data: bytes, style: int = 0, controls: Controls = Controls(), mask: str | None = None
    ) -> Reply:
        """Send a frame until it comes back in that style."""
        while True:
            number = await self.send(data, style, controls, mask)
            while (reply := await self.reply()).number < number:
                pass
            if reply.jpeg and reply.style == style:
                return reply
            await asyncio.sleep(0.03)

    async def stream(self, data: bytes, seconds: float, style: Callable[[], int] = lambda: 0, fps: float = 30) -> None:
        """Send at a rate, at most ``IN_FLIGHT`` unanswered; answers are in ``replies``."""
        end = time.perf_counter() + seconds
        answered = self.number

        async def listen() -> None:
            nonlocal answered
            while True:
                answered = (await self.reply()).number

        listener = asyncio.create_task(listen())
        while time.perf_counter() < end and not listener.done():
            if self.number - answered < IN_FLIGHT:
                await self.send(data, style())
            await asyncio.sleep(1 / fps)
        listener.cancel()
        with suppress(asyncio.CancelledError):
            await listener

    async def farewell(self, seconds: float = 20) -> dict:
        """The last word before the server closes."""
        last: dict = {}
        while (message := await self.line.receive(timeout=seconds)).type in (
            aiohttp.WSMsgType.TEXT,
            aiohttp.WSMsgType.BINARY,
        ):
            last = json.loads(message.data) if message.type is aiohttp.WSMsgType.TEXT else last
        return last

    @property
    def longest_gap(self) -> float:
        return max(np.diff([at for reply, at in self.replies if reply.jpeg]))


@asynccontextmanager
async def visit(running: StyleServer, **options):
    async with aiohttp.ClientSession() as session, session.ws_connect(running.url_of("/ws"), **options) as line:
        visitor = Visitor(line)
        visitor.hello = await line.receive_json(timeout=10)
        yield visitor


def play(action: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(action(), 60))


def get(url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """GET with exactly these headers, no redirects followed."""
    scheme, _, rest = url.partition("://")
    place, _, path = rest.partition("/")
    if scheme == "https":
        line = http.client.HTTPSConnection(place, timeout=10, context=ssl._create_unverified_context())
    else:
        line = http.client.HTTPConnection(place, timeout=10)
    line.putrequest("GET", "/" + path, skip_host="Host" in headers)
    for name, value in headers.items():
        line.putheader(name.replace("_", "-"), value)
    line.endheaders()
    answer = line.getresponse()
    result = answer.status, dict(answer.getheaders()), answer.read()
    line.close()
    return result


def home_of(running: StyleServer) -> str:
    """The page's address without its token."""
    return running.url.partition("?")[0]


def cookie_of(running: StyleServer) -> dict[str, str]:
    """What a browser sends that has been at the page."""
    return {"Cookie": f"rtstyle_{running.port}={running.url.partition('?token=')[2]}"}


def wait_until(true: Callable[[], object], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


# -- JPEG ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subsampling", ["420", "422", "444"])
def test_jpegs_are_decoded_to_the_samples_that_they_hold(subsampling):
    rgb = picture()
    planes = JpegDecoder(SMALL.width * SMALL.height).decode(as_jpeg(rgb, subsampling, 95))
    assert planes.y.shape == (360, 640)
    assert planes.u.shape == planes.v.shape == (180, 320)
    assert np.abs(planes_to_rgb(planes, JPEG_COLOR).astype(int) - rgb).mean() < 1.5


@pytest.mark.parametrize("color", [JPEG_COLOR, Color("bt601"), Color("bt709"), Color("bt709", full_range=True)])
@pytest.mark.parametrize("size", [SMALL, Size(63, 41)])
def test_frames_of_any_color_become_jpegs_that_look_the_same(color, size):
    rgb = picture(size)
    frame = Frame(planes_from_rgb(rgb, color), 0, Fraction(1), color)
    seen = cv2.imdecode(np.frombuffer(encode_jpeg(frame, 95), np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    assert np.abs(seen.astype(int) - planes_to_rgb(frame.planes, color)).mean() < 1.5


@pytest.mark.parametrize("size", protocol.SIZES, ids=str)
def test_frames_of_all_sizes_that_are_taken_are_decoded(size):
    planes = JpegDecoder(protocol.MAX_PIXELS).decode(as_jpeg(picture(size)))
    assert planes.y.shape == (size.height, size.width)


def test_what_is_no_color_jpeg_is_refused_and_the_next_one_is_decoded():
    good = as_jpeg(picture())
    grey = simplejpeg.encode_jpeg(np.ascontiguousarray(picture()[..., :1]), 90, "GRAY")
    decoder = JpegDecoder(SMALL.width * SMALL.height)
    large = as_jpeg(picture(Size(848, 480)))
    for bad in (b"", b"\xff\xd8", progressive(), b"GIF89a" * 50, good[:300], good[:-200], grey, large):
        with pytest.raises(JpegError):
            decoder.decode(bad)
        assert decoder.decode(good).y.shape == (360, 640)


def test_a_large_frame_that_hides_behind_a_small_header_is_not_decoded():
    """FFmpeg looks into segments that it does not know; a parser that goes by their length reads another header."""
    good, large = as_jpeg(picture()), as_jpeg(np.zeros((1800, 1800, 3), np.uint8), quality=10)
    hidden = large[2:]
    assert len(hidden) < 65000
    bomb = good[:2] + b"\xff\xf5" + (len(hidden) + 2).to_bytes(2, "big") + hidden + good[2:]
    for length in (1800 * 1800, protocol.MAX_PIXELS):
        with pytest.raises(JpegError, match="with a marker FF F5"):
            JpegDecoder(length).decode(bomb)
    known = bomb.replace(b"\xff\xf5", b"\xff\xe5", 1)
    assert JpegDecoder(protocol.MAX_PIXELS).decode(known).y.shape == (360, 640), "and what is passed over stays so"


def test_bytes_that_fill_the_room_before_a_header_do_not_hide_it():
    large = as_jpeg(picture(Size(1920, 1080)), quality=20)
    begin = large.index(b"\xff\xc0")
    assert jpeg_size(large[:begin] + 3 * b"\xff" + large[begin:]) == Size(1920, 1080)


def header_of(data: bytes, marker: int) -> bytes:
    """The segment of a marker, whole."""
    begin = data.index(bytes([0xFF, marker]))
    return data[begin : begin + 2 + int.from_bytes(data[begin + 2 : begin + 4], "big")]


def progressive() -> bytes:
    """A JPEG of many scans, each of which costs a decoder as much as a frame."""
    data = cv2.imencode(".jpg", picture(), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    last = header_of(data[data.rindex(b"\xff\xda") :], 0xDA)
    return data[:-2] + 80_000 * last + b"\xff\xd9"


GOOD = as_jpeg(picture(Size(1280, 720)))
BOMBS = {
    "progressive": progressive(),
    "scans": GOOD[:-2] + 70_000 * header_of(GOOD, 0xDA) + b"\xff\xd9",
    "fill bytes": GOOD[:2] + 1_000_000 * b"\xff" + GOOD[2:],
    "tables": GOOD[:2] + (1_000_000 // 33) * header_of(GOOD, 0xC4) + GOOD[2:],
    "tables behind": GOOD[:-2] + (1_000_000 // 33) * header_of(GOOD, 0xC4) + b"\xff\xd9",
    "comments": GOOD[:2] + 250_000 * b"\xff\xfe\x00\x02" + GOOD[2:],
    "frame headers": GOOD[:2] + 40_000 * header_of(GOOD, 0xC0) + GOOD[2:],
    "two frames": GOOD[:2] + header_of(GOOD, 0xC0) + GOOD[2:],
    "no end": GOOD[:-2],
    "nothing behind the scan's header": GOOD[: GOOD.index(b"\xff\xda") + 14],
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_jpeg_that_costs_more_than_a_frame_is_refused_before_it_is_decoded(kind):
    decoder = JpegDecoder(protocol.MAX_PIXELS)
    begin = time.thread_time()
    with pytest.raises(JpegError, match=r"no JPEG|baseline|several frames or scans, or no end"):
        decoder.decode(BOMBS[kind])
    assert time.thread_time() - begin < 0.05
    assert decoder.decode(GOOD).y.shape == (720, 1280)


def test_what_stands_behind_the_end_of_a_jpeg_is_not_looked_at():
    assert jpeg.plain_jpeg(GOOD + progressive()) == jpeg.plain_jpeg(GOOD)


def test_damaged_bytes_never_do_more_than_be_refused():
    good, chance = as_jpeg(picture(), quality=60), random.Random(0)
    decoder, refused = JpegDecoder(protocol.MAX_PIXELS), 0
    for number in range(400):
        data = bytearray(good)
        for _ in range(chance.choice((1, 4, 30))):
            data[chance.randrange(700 if number % 2 else len(data))] = chance.randrange(256)
        try:
            decoder.decode(bytes(data[: chance.randrange(len(data))] if number % 4 == 0 else data))
        except JpegError:
            refused += 1
    assert 100 < refused < 400


# -- pages and protocol ----------------------------------------------------------------------------


def test_the_page_and_its_parts_come_with_headers_that_keep_others_out(shared):
    types = {"": "text/html", "app.js": "text/javascript", "style.css": "text/css", "styles/0.jpg": "image/jpeg"}
    for path, kind in types.items():
        status, headers, body = get(home_of(shared) + path, **cookie_of(shared))
        assert status == 200
        assert headers["Content-Type"].startswith(kind)
        assert len(body) > 1000
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert "camera=(self)" in headers["Permissions-Policy"]
    assert get(shared.url_of("/nothing"))[0] == 404
    assert get(shared.url_of("/../share.py"))[0] == 404


def test_the_pages_load_nothing_from_elsewhere():
    for path in (ROOT / "rtstyle" / "web" / "page").iterdir():
        words = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//cdn|@import|style=", words), path.name


def test_borders_of_controls_stand_out_from_what_is_around_them():
    """WCAG 1.4.11: 3:1; and text, also the soft one: 4.5:1."""

    def luminance(color: str) -> float:
        parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    def contrast(one: str, other: str) -> float:
        low, high = sorted((luminance(one), luminance(other)))
        return (high + 0.05) / (low + 0.05)

    style = (ROOT / "rtstyle" / "web" / "page" / "style.css").read_text("utf-8")
    schemes = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", rules)) for rules in re.findall(r":root \{[^}]*\}", style)
    ]
    assert len(schemes) == 2
    for scheme in schemes:
        for ground in ("paper", "card"):
            assert contrast(scheme["edge"], scheme[ground]) >= 3
            assert contrast(scheme["soft"], scheme[ground]) >= 4.5
        assert contrast(scheme["on-accent"], scheme["accent"]) >= 4.5
    for part in (".tile span", ".tile kbd", "#toast", ".corner"):
        shade = re.search(re.escape(part) + r" \{[^}]*background: rgb\((\d+) (\d+) (\d+) / (\.\d+)\)", style)
        assert shade, part
        *dark, alpha = shade.groups()
        over_white = [round(float(alpha) * int(level) + (1 - float(alpha)) * 255) for level in dark]
        assert contrast("#" + "".join(f"{level:02x}" for level in over_white), "#ffffff") >= 4.5, part


def test_the_page_speaks_the_protocol_of_the_server():
    script = (ROOT / "rtstyle" / "web" / "page" / "app.js").read_text("utf-8")
    numbers = {name: int(value) for name, value in re.findall(r"\b([A-Z_]+) = (\d+)\b", script)}
    empty = Reply(1, 0, Controls(), 0, b"")
    assert numbers["VERSION"] == protocol.VERSION
    assert numbers["KEEP_COLORS"] == protocol.KEEP_COLORS
    assert numbers["PREPARING"] == protocol.PREPARING
    assert numbers["REQUEST_BYTES"] == len(write_request(Request(1, 0, Controls(), b"")))
    assert numbers["REPLY_BYTES"] == len(protocol.write_reply(empty))


def test_a_frame_comes_back_as_the_engine_paints_it(shared):
    data = as_jpeg(picture())
    planes = JpegDecoder(protocol.MAX_PIXELS).decode(data)

    async def action():
        async with visit(shared) as visitor:
            assert [style["name"] for style in visitor.hello["styles"]] == STYLES
            reply = await visitor.painted(data, 0, Controls.of(0.8))
            assert reply.number == visitor.number
            assert reply.controls == Controls.of(0.8)
            assert 0 < reply.microseconds < 10e6
            seen = JpegDecoder(protocol.MAX_PIXELS).decode(reply.jpeg)
            with open_engine(STYLES[0], SMALL, JPEG_COLOR, mode="latency") as engine:
                engine.submit(Frame(planes, 0, Fraction(1), JPEG_COLOR), Controls.of(0.8))
                wanted = engine.next()
            # Quality 85 loses a few levels; another style or strength differs by tens.
            assert np.abs(seen.y.astype(int) - wanted.planes.y).mean() < 6
            assert np.abs(seen.u.astype(int) - wanted.planes.u).mean() < 4

    play(action)


def test_strength_0_gives_the_bytes_back_and_keeping_colors_keeps_them(shared):
    data = as_jpeg(picture())
    source = JpegDecoder(protocol.MAX_PIXELS).decode(data)

    async def action():
        async with visit(shared) as visitor:
            assert (await visitor.painted(data, 0, Controls(0, 0))).jpeg == data
            kept = JpegDecoder(protocol.MAX_PIXELS).decode((await visitor.painted(data, 0, Controls(1, 0))).jpeg)
            assert np.abs(kept.u.astype(int) - source.u).mean() < 3
            assert np.abs(kept.y.astype(int) - source.y).mean() > 8

    play(action)


def test_a_visitor_chooses_where_the_style_counts(shared):
    person = cv2.resize(drawn(160), (640, 480))
    data = as_jpeg(person)
    source = JpegDecoder(protocol.MAX_PIXELS).decode(data).y.astype(int)
    far, face = np.s_[20:200, 560:620], np.s_[160:240, 290:350]

    async def action():
        async with visit(shared) as visitor:
            changed = {}
            for mask in protocol.MASKS:
                seen = JpegDecoder(protocol.MAX_PIXELS).decode((await visitor.painted(data, mask=mask)).jpeg)
                difference = np.abs(seen.y.astype(int) - source)
                changed[mask] = float(difference[far].mean()), float(difference[face].mean())
            assert min(changed[None]) > 2.5
            assert changed["person"][0] < 1 < 2.5 < changed["person"][1]
            assert changed["background"][1] < 2 < 2.5 < changed["background"][0]

    play(action)


def test_a_server_may_begin_with_a_mask_and_keep_faces():
    data = as_jpeg(cv2.resize(drawn(160), (640, 480)))
    source = JpegDecoder(protocol.MAX_PIXELS).decode(data).y.astype(int)
    changed = []
    for keep_face in (False, True):
        start = protocol.Start(mask="person", keep_face=keep_face)
        with StyleServer(Address(port=0), [load_style("sketch")], start=start) as running:

            async def action(running=running):
                async with visit(running) as visitor:
                    assert protocol.MASKS[visitor.hello["start"]["mask"]] == "person"
                    painted = await visitor.painted(data)  # no mask was asked for
                    seen = JpegDecoder(protocol.MAX_PIXELS).decode(painted.jpeg).y.astype(int)
                    changed.append(np.abs(seen - source)[170:230, 300:340].mean())

            play(action)
    assert changed[1] < 0.6 * changed[0]


def test_of_frames_that_wait_only_the_latest_is_done(shared):
    data = as_jpeg(picture(Size(1280, 720)))

    async def action():
        async with visit(shared) as visitor:
            await visitor.painted(data)
            visitor.replies.clear()
            before = shared.report().dropped
            await asyncio.gather(*(visitor.send(data) for _ in range(40)))
            while await visitor.reply() and visitor.replies[-1][0].number < visitor.number:
                pass
            numbers = [reply.number for reply, _ in visitor.replies]
            assert numbers == sorted(set(numbers))
            assert len(numbers) + shared.report().dropped - before == 40
            # 120 a second are read, and one of 720p takes longer than that on any CPU that we know.
            assert shared.report().dropped > before

    play(action)


def test_another_style_is_made_in_the_background_and_comes_without_a_gap(monkeypatch):
    """Making it is drawn out to two seconds, so that a busy machine's own pauses differ from waiting for it."""
    make = server.open_for

    def slow(style: Style, *how: object, live: bool) -> Engine:
        time.sleep(2 * (style.name == "great_wave"))
        return make(style, *how, live=live)

    monkeypatch.setattr(server, "open_for", slow)
    data = as_jpeg(picture())
    with StyleServer(Address(port=0), [load_style("sketch"), load_style("great_wave")]) as running:

        async def action():
            async with visit(running) as visitor:
                await visitor.painted(data)
                visitor.replies.clear()
                change = time.perf_counter() + 0.3
                while not visitor.replies or visitor.replies[-1][0].style == 0:
                    await visitor.stream(data, 0.5, lambda: 1 if time.perf_counter() > change else 0)
                await visitor.stream(data, 0.5, lambda: 1)
                styles = [reply.style for reply, _ in visitor.replies]
                assert styles == sorted(styles)
                assert set(styles) == {0, 1}
                assert all(reply.jpeg for reply, _ in visitor.replies)
                loading = next(at for reply, at in visitor.replies if reply.style == 1) - change
                print(f"longest gap {1000 * visitor.longest_gap:.0f} ms, new style after {1000 * loading:.0f} ms")
                assert loading > 2
                assert visitor.longest_gap < 1.5  # below 0.2 where nothing else runs, see benchmarks/browser.py

        play(action)


def test_a_new_size_says_that_it_is_being_prepared():
    small, tall = as_jpeg(picture()), as_jpeg(picture(Size(360, 640)))
    with StyleServer(Address(port=0), [load_style("sketch")]) as running:

        async def action():
            async with visit(running) as visitor:
                await visitor.painted(small)
                await visitor.send(tall)
                assert (await visitor.reply()).jpeg == b""
                assert jpeg_size((await visitor.painted(tall)).jpeg) == Size(360, 640)

        play(action)


def test_a_style_that_cannot_be_run_is_reported_and_the_old_one_continues(tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "style.json").write_text(json.dumps({"format": 1, "name": "broken"}))
    (broken / "trunk.onnx").write_bytes(b"nothing")
    data = as_jpeg(picture())
    with StyleServer(Address(port=0), [load_style("sketch"), load_style(broken)]) as running:
        assert get(running.url_of("/styles/1.jpg"))[0] == 404

        async def action():
            async with visit(running) as visitor:
                await visitor.painted(data)
                while not visitor.told:
                    await visitor.send(data, style=1)
                    reply = await visitor.reply()
                    assert reply.style == 0
                    assert reply.jpeg
                assert "broken" in visitor.told[0]["message"]

        play(action)


# -- several visitors ------------------------------------------------------------------------------


def test_two_visitors_get_the_same_share_each_in_a_style_of_their_own(shared):
    data = as_jpeg(picture())

    async def action():
        async with visit(shared) as one, visit(shared) as other:
            await one.painted(data, 0)
            await other.painted(data, 1)
            one.replies.clear()
            other.replies.clear()
            await asyncio.gather(one.stream(data, 3, fps=200), other.stream(data, 3, lambda: 1, fps=200))
            assert {reply.style for reply, _ in one.replies} == {0}
            assert {reply.style for reply, _ in other.replies} == {1}
            assert 0.7 < len(one.replies) / len(other.replies) < 1.4

    play(action)


class Timed:
    """An engine whose only trait is how long it takes, so that shares can be measured exactly."""

    def __init__(self, size: Size, seconds: float) -> None:
        self.size, self.seconds = size, seconds

    def submit(self, frame: Frame, controls: Controls) -> None:
        self.frame = frame
        time.sleep(self.seconds)

    def next(self) -> Frame:
        return self.frame

    def close(self) -> None:
        pass


def test_who_needs_more_of_the_machine_gets_fewer_frames():
    """Turn by turn, both would get as many; by time, four small ones go for a large one."""
    sizes = (SMALL, Size(1280, 720))
    jpegs = [as_jpeg(picture(size)) for size in sizes]
    errors: list[BaseException] = []

    def make(style: int, size: Size) -> Timed:
        return Timed(size, 0.05 if size == SMALL else 0.2)

    with share.Share(make, (0, make(0, SMALL)), room=4, fail=errors.append) as machine:
        counts = [0, 0]
        visitors: list[share.Visitor] = []

        def post_of(place: int):
            def post(kind, what):
                counts[place] += kind == "reply" and bool(what.jpeg)
                machine.sent(visitors[place])

            return post

        visitors += [machine.join(post_of(0)), machine.join(post_of(1))]
        end = time.monotonic() + 3
        number = 0
        while time.monotonic() < end:
            number += 1
            for visitor, data in zip(visitors, jpegs, strict=True):
                machine.offer(visitor, Request(number, 0, Controls(), data))
            time.sleep(0.005)
    assert errors == []
    assert 2 < counts[0] / counts[1] < 6


def test_one_visitor_too_many_is_reported_so_and_gets_the_next_free_place():
    data = as_jpeg(picture())
    with StyleServer(Address(port=0), [load_style("sketch")], visitors=1) as running:

        async def action():
            async with aiohttp.ClientSession() as session:
                async with visit(running) as first:
                    await first.painted(data)
                    async with session.ws_connect(running.url_of("/ws")) as line:
                        said = await Visitor(line).farewell(5)
                        assert said["reason"] == "full"
                        assert "places are taken" in said["message"]
                    assert (await first.painted(data)).jpeg
                await asyncio.sleep(0.2)
                async with visit(running) as second:
                    assert (await second.painted(data)).jpeg

        play(action)
        assert running.report().visitors == 2
        assert running.report().turned_away == 1


def test_engines_that_no_one_uses_are_closed_when_there_are_too_many():
    closed = []

    class Counted(Timed):
        def close(self) -> None:
            closed.append(self.size)

    engines = share.Engines(lambda style, size: Counted(size, 0), room=2)
    sizes = protocol.SIZES[:3]
    for size in sizes:
        wait_until(lambda size=size: engines.get(0, size))
    assert closed == [sizes[0]]
    assert engines.get(0, sizes[1])  # used now, so that the other one is the oldest
    wait_until(lambda: engines.get(0, sizes[0]))
    assert closed == [sizes[0], sizes[2]]
    engines.close()
    assert len(closed) == 4


# -- those who mean no good ------------------------------------------------------------------------


def test_other_names_and_other_pages_are_refused(shared):
    home, cookie = home_of(shared), cookie_of(shared)
    place = home.removeprefix("http://").rstrip("/")
    port = place.partition(":")[2]
    for headers in (
        {"Host": "rtstyle.example"},
        {"Host": f"rtstyle.example:{port}"},
        {"Host": f"127.0.0.1.rtstyle.example:{port}"},
        {"Host": ""},
        {"Origin": "https://rtstyle.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"},
        {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "cors"},
    ):
        status, answer, body = get(home, **cookie, **headers)
        assert status == 403, headers
        assert body.count(b"\n") == 1
        assert "default-src 'none'" in answer["Content-Security-Policy"]
    for headers in (
        {"Host": f"localhost:{port}"},
        {"Host": f"LOCALHOST:{port}"},
        {"Origin": f"http://{place}"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"},
    ):
        assert get(home, **cookie, **headers)[0] == 200, headers

    async def action():
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(shared.url_of("/ws"), headers={"Origin": "https://rtstyle.example"})
            assert refused.value.status == 403

    play(action)


@pytest.mark.parametrize("name", ["0.0.0.0", "127.0.0.1"])
def test_a_token_is_needed_which_a_cookie_keeps(name):
    """Other users of this machine reach loopback, too."""
    with StyleServer(Address(host=name, port=0), [load_style("sketch")]) as running:
        home = f"http://127.0.0.1:{running.port}/"
        token = running.url.partition("?token=")[2]
        assert len(token) >= 32
        assert f":{running.port}/" in running.url
        for url in (home, home + "?token=", home + "?token=" + token[:-1], home + "?token=%FF", home + "styles/0.jpg"):
            status, _, body = get(url)
            assert status == 403
            assert token.encode() not in body
            assert b"token" in body
        status, headers, _ = get(f"{home}?token={token}")
        assert status == 303
        assert headers["Location"] == "/"
        cookie = headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        kept = cookie.partition(";")[0]
        assert get(home, Cookie=kept)[0] == 200
        assert get(home, Cookie=kept[:-1])[0] == 403
        assert get(home, Cookie=kept, Host="rtstyle.example")[0] == 403

        async def action():
            async with aiohttp.ClientSession() as session:
                with pytest.raises(aiohttp.WSServerHandshakeError):
                    await session.ws_connect(home + "ws")
                async with session.ws_connect(home + "ws", headers={"Cookie": kept}) as line:
                    assert (await line.receive_json(timeout=5))["type"] == "hello"

        play(action)


def test_a_token_is_new_each_time_on_loopback_too_or_what_the_environment_says(monkeypatch):
    for name in ("127.0.0.1", "localhost", "::1", "0.0.0.0"):
        assert len({Guard.of(Address(host=name)).token for _ in range(20)}) == 20
    monkeypatch.setenv("RTSTYLE_TOKEN", "my-own_token-1234")
    assert Guard.of(Address()).url(80).endswith("?token=my-own_token-1234")
    for bad in ("short", "with spaces in it all", "quoted&token=123456"):
        monkeypatch.setenv("RTSTYLE_TOKEN", bad)
        with pytest.raises(SettingError, match="RTSTYLE_TOKEN must be 16 to 200"):
            Guard.of(Address())


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\x01\x00\x00",
        os.urandom(5000),
        protocol._REQUEST.pack(1, 9, 100, 0, 0) + b"jpeg",
        protocol._REQUEST.pack(1, 0, 201, 0, 0) + b"jpeg",
        protocol._REQUEST.pack(1, 0, 100, 4, 0) + b"jpeg",
        protocol._REQUEST.pack(1, 0, 100, 0, 3) + b"jpeg",
        protocol._REQUEST.pack(1, 0, 100, 0, 0) + os.urandom(5000),
        protocol._REQUEST.pack(1, 0, 100, 0, 0) + as_jpeg(picture(Size(644, 360))),
        protocol._REQUEST.pack(1, 0, 100, 0, 0) + as_jpeg(picture(Size(1920, 1080)), quality=20),
        protocol._REQUEST.pack(1, 0, 100, 0, 0) + as_jpeg(picture())[:5000],
        "text",
    ],
    ids=["empty", "short", "noise", "style", "strength", "flags", "mask", "no jpeg", "odd", "too large", "cut", "text"],
)
def test_bad_messages_are_dropped_and_too_many_end_the_visit(shared, bad, monkeypatch):
    monkeypatch.setattr(server, "_PENALTY", 0.01)
    data = as_jpeg(picture())

    async def action():
        async with visit(shared) as visitor:
            send = visitor.line.send_str if isinstance(bad, str) else visitor.line.send_bytes
            for _ in range(server.MAX_BAD // 2):
                await send(bad)
                await asyncio.sleep(0.01)
            assert (await visitor.painted(data)).jpeg
            with suppress(ConnectionError):
                for _ in range(server.MAX_BAD):
                    await send(bad)
                    await asyncio.sleep(0.01)
            assert (await visitor.farewell())["reason"] == "bad"

    before = shared.report().bad_messages
    play(action)
    wait_until(lambda: shared.report().bad_messages >= before + server.MAX_BAD)


def test_a_message_that_is_too_large_ends_the_visit(shared):
    async def action():
        async with visit(shared) as visitor:
            with suppress(ConnectionError):
                await visitor.line.send_bytes(bytes(protocol.MAX_MESSAGE + 1))
            message = await visitor.line.receive(timeout=5)
            assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
        async with visit(shared) as visitor:
            assert (await visitor.painted(as_jpeg(picture()))).jpeg

    play(action)


def test_pings_are_answered_and_a_flood_of_them_is_not_read(shared):
    data = as_jpeg(picture())

    async def action():
        async with visit(shared, autoping=False) as flooding, visit(shared) as other:
            await flooding.line.ping(b"hello")
            message = await flooding.line.receive(timeout=5)
            assert (message.type, message.data) == (aiohttp.WSMsgType.PONG, b"hello")
            begin = time.perf_counter()
            for _ in range(400):
                await flooding.line.ping(b"x" * 100)
            await other.painted(data)
            await other.painted(data)
            answered = 0
            while (spent := time.perf_counter() - begin) < 3 and answered < 400:
                assert (await flooding.line.receive(timeout=5)).type is aiohttp.WSMsgType.PONG
                answered += 1
                assert answered < 20 + 120 * (spent + 1)

    play(action)


def test_who_sends_nothing_gives_the_place_to_others(monkeypatch):
    monkeypatch.setattr(server, "IDLE", 0.5)
    with StyleServer(Address(port=0), [load_style("sketch")], visitors=1) as running:

        async def action():
            async with visit(running) as visitor:
                assert (await visitor.farewell(5))["reason"] == "idle"
            async with visit(running) as visitor:
                assert visitor.hello["type"] == "hello"

        play(action)


def test_who_does_not_read_is_stylized_no_more_for_and_cut_off(monkeypatch):
    monkeypatch.setattr(server, "PATIENCE", 2.0)
    data = as_jpeg(np.random.default_rng(0).integers(0, 256, (360, 640, 3), np.uint8))  # large, so that little fits
    with StyleServer(Address(port=0), [load_style("sketch")]) as running:

        async def action():
            async with visit(running) as visitor:
                await visitor.painted(data)
                visitor.line._reader._protocol.pause_reading()  # as if the page hung
                with suppress(ConnectionError):
                    for _ in range(300):
                        await visitor.send(data)
                        await asyncio.sleep(0.02)
                assert len(running._share.visitors) == 0

        play(action)
        assert running.report().frames < 30  # what fits into the system's buffers; 13 here
        assert running.report().visitors == 1


def test_slow_and_many_connections_leave_the_first_visitor_alone(monkeypatch):
    """Connections that say nothing, heads that never end, answers that are not read, hundreds of refused requests."""
    monkeypatch.setattr(host, "PATIENCE", 1.5)
    data = as_jpeg(picture())
    with StyleServer(Address(port=0), [load_style("sketch")]) as running:
        over = threading.Event()
        lines: list[socket.socket] = []
        most, path = 0, running.url_of("/styles/0.jpg").split("/", 3)[3]

        def attack() -> None:
            nonlocal most
            for number in range(3 * host.MAX_CONNECTIONS):
                most = max(most, len(running._web._server.connections))
                line = socket.create_connection(("127.0.0.1", running.port), timeout=5)
                line.setblocking(False)
                head = b"GET /styles/0.jpg HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                with_token = f"GET /{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
                line.send((b"", head, 400 * with_token, 400 * (head + b"\r\n"))[number % 4])
                lines.append(line)
            while not over.wait(0.2):
                for line in lines[1::4]:
                    with suppress(OSError):
                        line.send(b"X-a: b\r\n")

        async def action():
            async with visit(running) as visitor:
                await visitor.painted(data)
                visitor.replies.clear()
                await visitor.stream(data, 3)
                alone, gap = len(visitor.replies) / 3, visitor.longest_gap
                visitor.replies.clear()
                attacker = threading.Thread(target=attack)
                attacker.start()
                try:
                    await visitor.stream(data, 4)
                finally:
                    over.set()
                    attacker.join()
                # Measured against the same minute: other work on the machine slows both.
                print(f"{alone:.1f} and {len(visitor.replies) / 4:.1f} frames per second")
                assert len(visitor.replies) / 4 > alone / 4
                assert visitor.longest_gap < max(2, 4 * gap)
                wait_until(lambda: len(running._web._server.connections) == 1)

        play(action)
        refused = running.report().refused
        assert most <= host.MAX_CONNECTIONS + 100, "what the system has accepted meanwhile"
        assert refused["crowd"] > host.MAX_CONNECTIONS // 2
        assert refused["rush"] >= 3
        for line in lines:
            line.close()
        assert get(running.url_of("/styles/0.jpg"))[0] == 200  # and there is room again


def raw(port: int, head: bytes, body: bytes = b"") -> tuple[int, bytes]:
    """Send bytes as they are and return the status and the whole answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        line.sendall(head + body)
        line.settimeout(5)
        got = b""
        with suppress(TimeoutError, ConnectionError):
            while b"\r\n\r\n" not in got and (piece := line.recv(1 << 16)):
                got += piece
    return int(got.split(b" ")[1]) if got.startswith(b"HTTP/1.1 ") else 0, got


ODD = {
    "port too large": {"Host": "127.0.0.1:99999"},
    "port of letters": {"Host": "127.0.0.1:abc"},
    "no end of a bracket": {"Host": "[::1"},
    "a bracket in the name": {"Host": "[127.0.0.1:80]]"},
    "policy in the name": {"Host": "127.0.0.1:80; script-src *"},
    "name with a path": {"Host": "127.0.0.1:80/x"},
    "name of a user": {"Host": "a@127.0.0.1"},
    "long name": {"Host": "a" * 5000},
    "origin of brackets": {"Origin": "http://["},
    "origin of a port": {"Origin": "http://127.0.0.1:99999"},
    "origin of noise": {"Origin": "\x80\xff"},
}


@pytest.mark.parametrize("kind", ODD)
def test_a_damaged_host_or_origin_is_refused_without_a_traceback(shared, kind, caplog):
    with caplog.at_level("DEBUG"):
        headers = {"Host": f"127.0.0.1:{shared.port}", **ODD[kind]}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        path = shared.url_of("/app.js").split("/", 3)[3]
        status, answer = raw(shared.port, f"GET /{path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1"))
    assert status in (400, 403)
    policy = re.search(rb"Content-Security-Policy: (.*)\r", answer)
    assert policy is None or policy[1] == b"default-src 'none'"
    assert all(record.exc_info is None and record.levelname == "DEBUG" for record in caplog.records), caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n",
        b"NOTHING\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50) + b"\r\n\r\n",
        b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /%00%ff HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: \xff=\x00;;=\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ],
    ids=["no host", "two hosts", "length", "version", "no HTTP", "TLS", "long", "bytes", "brackets", "no key"],
)
def test_damaged_requests_are_refused_without_a_traceback(shared, head, caplog, capfd):
    with caplog.at_level("INFO"):
        status, _ = raw(shared.port, head)
    assert status == 0 or 400 <= status < 500
    assert caplog.text == ""
    assert capfd.readouterr().err == ""


def test_idle_connections_lock_no_one_out(monkeypatch):
    """As many as there may be, opened again as soon as they are closed; the page comes all the same, at once."""
    over = threading.Event()
    with StyleServer(Address(port=0), [load_style("sketch")]) as running:
        lines = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(host.MAX_CONNECTIONS)]

        def hold() -> None:
            while not over.wait(0.01):
                lines.append(socket.create_connection(("127.0.0.1", running.port)))
                lines.pop(0).close()

        attacker = threading.Thread(target=hold)
        attacker.start()
        try:
            times = []
            for _ in range(10):
                begin = time.perf_counter()
                assert get(running.url_of("/app.js"))[0] == 200
                times.append(time.perf_counter() - begin)
            assert max(times) < 1
        finally:
            over.set()
            attacker.join()
            for line in lines:
                line.close()
        assert running.report().refused["crowd"] >= 1


def test_an_address_that_has_half_of_the_places_gets_no_more_and_others_do():
    """Where strangers may come, one of them cannot have all connections, also not with a token."""
    with StyleServer(Address(host="0.0.0.0", port=0), [load_style("sketch")]) as running:
        path = running.url_of("/app.js").split("/", 3)[3]
        lines = []

        def ask(source: str) -> bytes:
            """Ask and keep the connection; return the beginning of the answer."""
            lines.append(socket.create_connection(("127.0.0.1", running.port), 10, (source, 0)))
            lines[-1].sendall(f"GET /{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            return lines[-1].recv(12)

        answers = [ask("127.0.0.1") for _ in range(host.MAX_CONNECTIONS // 2 + 3)]
        assert answers == [b"HTTP/1.1 200"] * (host.MAX_CONNECTIONS // 2) + [b"HTTP/1.1 503"] * 3
        assert ask("127.0.0.2") == b"HTTP/1.1 200"
        for line in lines:
            line.close()


def test_a_charset_that_no_one_knows_is_no_fault_of_the_server(preview, caplog):
    with caplog.at_level("DEBUG"):
        path = preview.url("/command").split("/", 3)[3]
        port = int(preview.url().split(":")[2].partition("/")[0])
        head = f"POST /{path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 4\r\nContent-Type: "
        assert raw(port, f"{head}application/json; charset=nothing\r\n\r\n".encode(), b"\xff\xfe{}")[0] == 400
        assert raw(port, f"{head}application/json; charset=nothing\r\n\r\n".encode(), b"[[[[")[0] == 400
    assert "Traceback" not in caplog.text


# -- https, and what can go wrong at the start -----------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> tuple[Path, Path]:
    if not shutil.which("openssl"):
        pytest.skip("a certificate is made with openssl, which is not installed")
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout key.pem -out cert.pem"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder / "cert.pem", folder / "key.pem"


def test_https_serves_the_page_and_its_cookie_stays_there(certificate):
    cert, key = certificate
    with StyleServer(Address(host="0.0.0.0", port=0, cert=cert, key=key), [load_style("sketch")]) as running:
        assert running.url.startswith("https://")
        token = running.url.partition("?token=")[2]
        status, headers, _ = get(f"https://127.0.0.1:{running.port}/?token={token}")
        assert status == 303
        assert "Secure" in headers["Set-Cookie"]


def test_what_is_wrong_with_an_address_is_reported_in_one_line(certificate, tmp_path, capsys):
    cert, _ = certificate
    other = tmp_path / "key.pem"
    other.write_text("no key")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for words, said in (
            (["--port", port], "--port 0 takes a free port"),
            (["--host", "192.0.2.77"], "name or address of this machine"),
            (["--port", "70000"], "0 to 65535"),
            (["--cert", str(cert)], "needs both"),
            (["--cert", str(cert), "--key", str(other)], "https"),
            (["--visitors", "0"], "visitors"),
            (["--style", "skecth"], "did you mean 'sketch'"),
        ):
            assert main(["serve", *words]) == 1, words
            line = capsys.readouterr().err.splitlines()[-1]
            assert line.startswith("rtstyle: error: ")
            assert said in line


def test_serve_says_where_to_look_and_what_it_did(capsys):
    assert main(["serve", "--port", "0", "--seconds", "0.3", "--json"]) == 0
    out, err = capsys.readouterr()
    assert re.search(r"open http://127\.0\.0\.1:\d+/\?token=\S{32} ", err)
    assert json.loads(out)["visitors"] == 0


def test_http_beyond_this_machine_says_that_cameras_need_https(capsys):
    assert main(["serve", "--host", "0.0.0.0", "--port", "0", "--seconds", "0.3"]) == 0
    err = capsys.readouterr().err
    assert "--cert and --key" in err
    assert "?token=" in err


def test_missing_packages_are_named_with_what_to_do(monkeypatch, capsys):
    monkeypatch.setattr("rtstyle.web.find_spec", lambda name: None)
    for words in (["serve"], ["webcam", "demo.mp4", "--preview", "browser"]):
        assert main(words) == 1
        assert "pages need aiohttp and simplejpeg: pip install 'rtstyle[web]'" in capsys.readouterr().err


def test_defaults_of_the_command_line_are_those_of_the_library():
    from rtstyle.cli.web import HOST, PORT

    assert (Address().host, Address().port) == (HOST, PORT)
    with pytest.raises(SettingError, match="65535"):
        Address(port=-1)


def test_ctrl_c_ends_the_server_and_its_visitors_are_reported(capsys):
    """As a process, because a signal is for the main thread."""
    command = [os.sys.executable, "-m", "rtstyle", "serve", "--port", "0", "--json"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        url = next(line.split("open ")[1].split()[0] for line in process.stderr if "open http" in line)

        async def action():
            async with aiohttp.ClientSession() as session, session.ws_connect(url.replace("/?", "/ws?")) as line:
                await line.receive_json(timeout=10)
                process.send_signal(2)
                assert (await Visitor(line).farewell(10))["reason"] == "end"

        play(action)
        out, _ = process.communicate(timeout=20)
        assert process.returncode == 0
        assert json.loads(out)["visitors"] == 1


# -- the preview of a live session -----------------------------------------------------------------

STATE = SessionState(
    styles=("sketch", "great_wave"), style="sketch", loading=None, strength=1.0, keeps_colors=False, crossfades=True,
    holds=True, mirrored=False, paused=False, recording=False, figures="",
)  # fmt: skip


@pytest.fixture
def preview():
    """A preview alone; ``posted`` holds what it was asked for."""
    posted: list = []
    made = BrowserPreview(Address(port=0), posted.append, lambda: STATE)
    made.posted = posted
    yield made
    made.close()


def frame(level: int = 128, size: Size = SMALL) -> Frame:
    luma = np.full((size.height, size.width), level, np.uint8)
    chroma = np.full((size.chroma.height, size.chroma.width), 128, np.uint8)
    return Frame(Planes(luma, chroma, chroma), 0, Fraction(1, 90000), Color("bt709"))


def parts_of(answer: http.client.HTTPResponse):
    """The frames of a multipart stream, one after the other."""
    while True:
        length = 0
        while (line := answer.readline()) not in (b"\r\n", b""):
            if line.lower().startswith(b"content-length"):
                length = int(line.split(b":")[1])
        if not length:
            return
        yield answer.read(length)
        answer.readline()


def test_jpegs_are_made_only_while_a_viewer_is_connected(preview, monkeypatch):
    made = []
    encode = jpeg.encode_jpeg
    monkeypatch.setattr("rtstyle.web.preview.encode_jpeg", lambda f, quality: made.append(1) or encode(f, quality))
    for _ in range(5):
        preview.write(frame())
    assert made == []
    status, headers, body = get(preview.url("/snapshot.jpg"))
    assert (status, headers["Content-Type"]) == (200, "image/jpeg")
    assert jpeg_size(body) == SMALL
    assert made == [1]


def test_the_stream_shows_each_frame_as_soon_as_it_is_written(preview):
    preview.write(frame(20))
    line = http.client.HTTPConnection(preview.url().split("/")[2], timeout=10)
    line.request("GET", "/" + preview.url("/stream.mjpg").split("/", 3)[3])
    answer = line.getresponse()
    assert answer.getheader("Content-Type").startswith("multipart/x-mixed-replace")
    pictures = parts_of(answer)
    levels = [20, 90, 160, 230]
    for number, level in enumerate(levels):
        if number:
            wait_until(lambda: preview._viewers)
            preview.write(frame(level))
        shown = cv2.imdecode(np.frombuffer(next(pictures), np.uint8), cv2.IMREAD_GRAYSCALE).mean()
        assert abs(shown - (level - 16) * 255 / 219) < 2
    line.close()


def test_a_viewer_who_is_slow_gets_fewer_frames_and_no_old_ones(preview):
    noise = np.random.default_rng(0).integers(0, 256, (360, 640), np.uint8)
    chroma = np.full((180, 320), 128, np.uint8)
    preview.write(frame())
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    line.connect(("127.0.0.1", int(preview.url().split(":")[2].partition("/")[0])))
    path = preview.url("/stream.mjpg").split("/", 3)[3]
    line.sendall(f"GET /{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    wait_until(lambda: preview._viewers)
    for number in range(60):
        preview.write(Frame(Planes(noise, chroma, chroma), number, Fraction(1, 90000), JPEG_COLOR))
        time.sleep(0.01)
    line.settimeout(1)
    got = b""
    with suppress(TimeoutError):
        while piece := line.recv(1 << 16):
            got += piece
    line.close()
    assert 2 <= got.count(b"Content-Length") < 20


def test_viewers_that_left_cost_nothing(preview, monkeypatch):
    made = []
    encode = jpeg.encode_jpeg
    monkeypatch.setattr("rtstyle.web.preview.encode_jpeg", lambda f, quality: made.append(1) or encode(f, quality))
    preview.write(frame())
    path = preview.url("/stream.mjpg").split("/", 3)[3]
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", int(preview.url().split(":")[2].partition("/")[0]))) as line:
            line.sendall(f"GET /{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            assert line.recv(4096).startswith(b"HTTP/1.1 200")
    wait_until(lambda: not preview._viewers)
    made.clear()
    for _ in range(5):
        preview.write(frame())
    assert made == []


def test_a_stream_outlives_a_source_that_stalls_for_longer_than_the_servers_patience(preview, monkeypatch):
    monkeypatch.setattr("rtstyle.web.preview.PATIENCE", 0.3)
    monkeypatch.setattr("rtstyle.web.host.PATIENCE", 0.3)
    preview.write(frame(20))
    line = http.client.HTTPConnection(preview.url().split("/")[2], timeout=10)
    line.request("GET", "/" + preview.url("/stream.mjpg").split("/", 3)[3])
    pictures = parts_of(line.getresponse())
    next(pictures)
    time.sleep(1.5)
    preview.write(frame(200))
    shown = cv2.imdecode(np.frombuffer(next(pictures), np.uint8), cv2.IMREAD_GRAYSCALE).mean()
    assert abs(shown - (200 - 16) * 255 / 219) < 2
    line.close()


def test_ffmpeg_reads_the_stream(preview):
    if not shutil.which("ffmpeg"):
        pytest.skip("ffmpeg is not installed")
    over = threading.Event()

    def write() -> None:
        level = 0
        while not over.wait(0.03):
            level = (level + 8) % 200
            preview.write(frame(level))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        command = ["ffmpeg", "-v", "error", "-f", "mpjpeg", "-i", preview.url("/stream.mjpg"), "-frames:v", "20"]
        done = subprocess.run([*command, "-f", "framemd5", "-"], capture_output=True, text=True, timeout=30)
    finally:
        over.set()
        writer.join()
    lines = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    assert len(lines) == 20
    assert len({line.split(",")[-1] for line in lines}) > 10


def test_the_page_tells_the_state_and_takes_commands(preview):
    assert get(preview.url())[0] == 303
    assert get(preview.url("/styles/1.jpg"))[0] == 200
    status, _, body = get(preview.url("/state"))
    assert status == 200
    assert json.loads(body)["styles"] == ["sketch", "great_wave"]

    async def action():
        async with aiohttp.ClientSession() as session:
            url = preview.url("/command")
            for said in ({"action": "pause"}, {"style": "great_wave"}, {"style": 0}, {"strength": 0.5}):
                async with session.post(url, json=said) as answer:
                    assert answer.status == 204
            for said in (
                {},
                [],
                {"action": "no"},
                {"style": "no such style"},
                {"style": 2},
                {"style": -1},
                {"strength": 3},
                {"strength": True},
                {"style": None},
                {"a": 1, "b": 2},
            ):
                async with session.post(url, json=said) as answer:
                    assert answer.status == 400
            async with session.post(url, data=b"[" * 100000, headers={"Content-Type": "application/json"}) as answer:
                assert answer.status == 400
            async with session.post(url, data="action=pause") as answer:  # as a form of a stranger's page does
                assert answer.status == 415
            async with session.post(url, json={"action": "quit"}, headers={"Origin": "http://a.example"}) as answer:
                assert answer.status == 403

    play(action)
    assert preview.posted == [Action.PAUSE, StyleChosen("great_wave"), StyleChosen(0), StrengthSet(0.5)]


def test_commands_are_read_strictly():
    assert read_posted('{"action": "next style"}') is Action.NEXT_STYLE
    for text in ("", "1", '{"strength": NaN}', '{"strength": "1"}', '{"action": 3}'):
        with pytest.raises(ValueError, match=r".+"):
            read_posted(text)


def test_a_preview_on_a_port_that_is_taken_says_so():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerError, match=rf"127\.0\.0\.1 port {port}.*--port 0"):
            BrowserPreview(Address(port=port), print, lambda: STATE)


def test_a_live_session_is_seen_and_steered_from_a_browser():
    said: list[str] = []
    reports = []

    def run() -> None:
        reports.append(
            stylize_live(
                str(ROOT / "demo" / "big_buck_bunny.mp4"),
                capture=CaptureSettings(size=SMALL, loop=True),
                live=LiveSettings(preview="browser", address=Address(port=0), seconds=30),
                say=said.append,
            )
        )

    session = threading.Thread(target=run)
    session.start()
    try:
        wait_until(lambda: any("open http" in line for line in said) or not session.is_alive(), 20)
        url = next(re.search(r"http://\S+", line)[0] for line in said if "open http" in line)

        def at(path: str) -> str:
            return url.replace("/?", f"/{path}?")

        assert jpeg_size(get(at("snapshot.jpg"))[2]) == SMALL
        line = http.client.HTTPConnection(url.split("/")[2], timeout=10)

        def command(**word: object) -> None:
            place = "/" + at("command").split("/", 3)[3]
            line.request("POST", place, json.dumps(word), {"Content-Type": "application/json"})
            assert line.getresponse().read() == b""

        command(style="great_wave")
        command(strength=0.7)
        wait_until(lambda: json.loads(get(at("state"))[2])["style"] == "great_wave")
        wait_until(lambda: "frames per second" in json.loads(get(at("state"))[2])["figures"])
        assert json.loads(get(at("state"))[2])["strength"] == 0.7
        command(action="quit")
    finally:
        session.join(40)
    assert not session.is_alive()
    assert reports[0].style == "great_wave"
    assert reports[0].seconds < 25


# -- behind a proxy --------------------------------------------------------------------------------


def test_probes_need_no_token_and_say_whether_there_is_room(tmp_path):
    (tmp_path / "token").write_text("a-token-of-all-servers\n")
    address = Address(port=0, names=("rt.example.org",), token_file=tmp_path / "token", forwarded=True)
    with StyleServer(address, [load_style("sketch")], visitors=1) as running:
        home = f"http://127.0.0.1:{running.port}"
        assert get(f"{home}/healthz", Host="10.0.0.7:8765")[0] == 200
        assert get(f"{home}/readyz", Host="10.0.0.7:8765")[::2] == (200, b"0 of 1 places are taken\n")
        assert get(f"{home}/readyz", **{"Sec-Fetch-Site": "cross-site"})[0] == 403
        token = {"Cookie": "rtstyle_0=a-token-of-all-servers"}
        assert get(home, Host="rt.example.org", **token)[0] == 200
        assert get(home, Host="127.0.0.1", **{"X-Forwarded-Host": "RT.example.org"}, **token)[0] == 200
        assert get(home, Host="other.example.org", **token)[0] == 403
        code, headers, _ = get(
            f"{home}/?token=a-token-of-all-servers", Host="rt.example.org", **{"X-Forwarded-Proto": "https"}
        )
        assert code == 303
        assert "Secure" in headers["Set-Cookie"]

        async def fill() -> None:
            async with visit(running):
                assert get(f"{home}/readyz")[0] == 503
                assert get(f"{home}/healthz")[0] == 200
                with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
                    async with visit(running):
                        pass
                assert raised.value.status == 503

        play(fill)
        assert running.report().turned_away == 1


def test_without_a_proxy_nothing_is_believed_of_one(shared):
    assert get(home_of(shared), **{"X-Forwarded-Host": "evil.example"}, **cookie_of(shared))[0] == 200
    assert get(home_of(shared), Host="rt.example.org", **{"X-Forwarded-Host": "localhost"})[0] == 403
    code, headers, _ = get(shared.url, **{"X-Forwarded-Proto": "https"})
    assert code == 303
    assert "Secure" not in headers["Set-Cookie"]


def test_a_server_that_drains_takes_no_one_new_and_then_moves_its_visitors():
    async def action() -> None:
        with StyleServer(Address(port=0, drain=1.0), [load_style("sketch")]) as running:
            home = f"http://127.0.0.1:{running.port}"
            async with visit(running) as visitor:
                draining = asyncio.create_task(asyncio.to_thread(running.drain, 1.0))
                await asyncio.sleep(0.2)
                assert (await asyncio.to_thread(get, f"{home}/readyz"))[::2] == (503, b"ends\n")
                with pytest.raises(aiohttp.WSServerHandshakeError):
                    async with visit(running):
                        pass
                await visitor.send(as_jpeg(picture()))
                assert (await visitor.reply()).number == 1  # visitors that are there are served until the end
                await draining
                leaving = asyncio.create_task(asyncio.to_thread(running.__exit__, None, None, None))
                assert (await visitor.farewell())["reason"] == "moved"
                await leaving

    play(action)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"names": ("a b",)}, "a host name is letters"),
        ({"drain": -1.0}, "the time to drain must be"),
        ({"token_file": Path("/nowhere/token")}, "cannot read the token in"),
    ],
)
def test_what_is_wrong_behind_a_proxy_is_reported_in_one_line(fields, words):
    with pytest.raises(SettingError, match=words):
        Guard.of(Address(**fields))

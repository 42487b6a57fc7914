"""Images that visitors of `rtstyle serve` send become styles; nothing of them stays."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

aiohttp = pytest.importorskip("aiohttp", reason="pages need aiohttp: pip install 'rtstyle[web]'")
pytest.importorskip("simplejpeg", reason="pages need simplejpeg: pip install 'rtstyle[web]'")

from test_web import SMALL, as_jpeg, picture, play, visit, wait_until  # noqa: E402

from rtstyle.style import load_style  # noqa: E402
from rtstyle.universal import making, measuring  # noqa: E402
from rtstyle.web import own, server  # noqa: E402
from rtstyle.web.address import Address  # noqa: E402
from rtstyle.web.protocol import write_image  # noqa: E402
from rtstyle.web.server import StyleServer  # noqa: E402


@pytest.fixture
def running(monkeypatch):
    """A server with one style, and one brush of few tiles."""
    brush = replace(measuring.BRUSHES[4][2], directions=6)
    monkeypatch.setattr(measuring, "BRUSHES", ((11.9, 2.61, brush),))
    monkeypatch.setattr(making, "_SCENES", 6)
    with StyleServer(Address(port=0), [load_style("starry_night")]) as server_of_one:
        yield server_of_one


def red_image() -> bytes:
    rgb = picture()
    rgb[..., 0] = np.maximum(rgb[..., 0], 180)
    rgb[..., 1:] //= 4
    return as_jpeg(rgb)


async def make(visitor, data: bytes) -> dict:
    """Send an image and return what the server tells of it."""
    await visitor.line.send_bytes(write_image(data))
    while True:
        message = await visitor.line.receive(timeout=60)
        if message.type is aiohttp.WSMsgType.TEXT:
            return json.loads(message.data)


def test_an_image_becomes_a_style_of_its_colors_and_goes_with_the_server(running):
    folder = Path(running._own._folder.name)

    async def action():
        async with visit(running) as visitor:
            told = await make(visitor, red_image())
            assert told == {"type": "style", "place": 1, "name": "your image 1"}
            assert await make(visitor, red_image()) == told  # the same image is the same style
            assert [file.name for file in folder.iterdir()] == ["your image 1"]  # of the image itself nothing is left
            shown = await visitor.painted(as_jpeg(picture(seed=1)), 1)
            bgr = cv2.imdecode(np.frombuffer(shown.jpeg, np.uint8), cv2.IMREAD_COLOR)
            assert bgr[..., 2].mean() > bgr[..., 0].mean() + 60
        async with visit(running) as other:
            assert len(other.hello["styles"]) == 1  # what others sent is shown to no one

    play(action)
    running.__exit__(None, None, None)
    assert not folder.exists()


def test_what_is_no_image_is_refused_in_a_line_and_the_visit_continues(running, monkeypatch):
    plain = cv2.imencode(".png", np.full((90, 90, 3), 70, np.uint8))[1].tobytes()

    async def action():
        async with visit(running) as visitor:
            for data, said in (
                (b"no image", "the image cannot be read as an image (jpg, png or webp)."),
                (b"", "the image cannot be read as an image (jpg, png or webp)."),
                (plain, "the image holds one color only: there is nothing in it to paint after."),
            ):
                assert await make(visitor, data) == {"type": "say", "message": f"No style: {said}"}
            monkeypatch.setattr(own, "_PIXELS", 10_000)
            assert "640x360 pixels" in (await make(visitor, red_image()))["message"]
            assert (await visitor.painted(as_jpeg(picture()))).style == 0

    play(action)
    assert list(Path(running._own._folder.name).iterdir()) == []


def test_images_beyond_a_number_are_refused(running, monkeypatch):
    monkeypatch.setattr(own, "MAX_OWN", 1)

    async def action():
        async with visit(running) as visitor:
            assert (await make(visitor, red_image()))["type"] == "style"
            assert "1 images were taken already" in (await make(visitor, as_jpeg(picture(SMALL, 3))))["message"]

    play(action)


def test_images_that_come_at_once_wait_for_each_other_or_are_asked_to_come_back(running, monkeypatch):
    monkeypatch.setattr(server, "_AT_ONCE", 2)

    async def action():
        async with visit(running) as a, visit(running) as b, visit(running) as c:
            told = await asyncio.gather(*(make(v, as_jpeg(picture(SMALL, n))) for n, v in enumerate((a, b, c), 5)))
            assert sorted(each["type"] for each in told) == ["say", "style", "style"]

    play(action)


def test_a_second_image_before_the_first_is_a_style_is_a_bad_message(running):
    async def action():
        async with visit(running) as visitor:
            for seed in (5, 6):
                await visitor.line.send_bytes(write_image(as_jpeg(picture(SMALL, seed))))
            assert (await visitor.line.receive_json(timeout=60))["place"] == 1

    play(action)
    wait_until(lambda: running.report().bad_messages == 1)  # counted when the visit has ended

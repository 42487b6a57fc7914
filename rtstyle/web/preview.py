"""`rtstyle webcam --preview browser`: a live session seen and steered from a browser, and as a stream of JPEGs.

/               a page with the video and the controls
/stream.mjpg    the frames as multipart/x-mixed-replace, which <img>, OBS's browser source, VLC and FFmpeg take
/snapshot.jpg   the latest frame
/state          what the session does, JSON: the fields of ``SessionState``
/command        POST of one JSON object of one word, as {"strength": 0.5}: what ``actions.read_command`` reads
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from aiohttp import web

from rtstyle.actions import Command, SessionState, check_names, read_command
from rtstyle.frame import Frame
from rtstyle.style import load_style
from rtstyle.web.address import Address
from rtstyle.web.host import PATIENCE, WebServer, keep_fresh, page_route, preview_routes
from rtstyle.web.jpeg import encode_jpeg

QUALITY = 90

MAX_VIEWERS = 8
"""Streams at a time."""

LONGEST_COMMAND = 1000
"""Characters."""

_BOUNDARY = "rtstyle-image"


class BrowserPreview:
    """A live session's frames over HTTP; a sink of ``Fanout``. JPEGs are encoded only while a viewer is connected.

    Args:
        address: Where it listens; it does so until ``close``.
        post: Takes what the page asks for, in a thread of the server.
        state: Returns what the session does; called in a thread of the server.

    Raises:
        ServerError: The address cannot be listened on.
        SettingError: The certificate cannot be used.
    """

    def __init__(self, address: Address, post: Callable[[Command], None], state: Callable[[], SessionState]) -> None:
        self._post, self._state = post, state
        self._frame: Frame | None = None
        self._came = threading.Event()
        self._latest = b""
        self._viewers: set[asyncio.Event] = set()
        names = ("preview.js", "controls.js", "style.css", "icon.svg")
        pages = {"/": "preview.html"} | {f"/{name}": name for name in names}
        routes = [page_route(path, name) for path, name in pages.items()]
        routes += preview_routes(load_style(name) for name in state().styles)
        routes += [
            web.get("/stream.mjpg", self._stream, allow_head=False),
            web.get("/snapshot.jpg", self._snapshot),
            web.get("/state", self._tell_state),
            web.post("/command", self._command),
        ]
        self._web = WebServer(address, routes)
        self._web.start()

    def url(self, path: str = "/") -> str:
        """Return the address to show, with the token."""
        return self._web.url(path)

    def write(self, frame: Frame) -> None:
        """Show a frame. It is kept until the next one, for who asks for a snapshot."""
        self._frame = frame
        self._came.set()
        if self._viewers:
            self._web.call(self._publish, encode_jpeg(frame, QUALITY))

    def close(self) -> None:
        """End the streams and the server."""
        self._web.close()

    # -- in the loop's thread

    def _publish(self, jpeg: bytes) -> None:
        self._latest = jpeg
        for news in self._viewers:
            news.set()

    async def _encode(self) -> bytes | None:
        """Return the latest frame as JPEG, the first one when it comes; None where none does."""
        if not await asyncio.to_thread(self._came.wait, PATIENCE / 2):
            return None
        assert self._frame
        return await asyncio.to_thread(encode_jpeg, self._frame, QUALITY)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        if len(self._viewers) >= MAX_VIEWERS:
            return web.Response(status=503, text=f"rtstyle: {MAX_VIEWERS} viewers look already\n")
        first = await self._encode()
        keep_fresh(request)
        response = web.StreamResponse(headers={"Content-Type": f"multipart/x-mixed-replace; boundary={_BOUNDARY}"})
        await response.prepare(request)
        await response.write(f"--{_BOUNDARY}\r\n".encode())
        news = asyncio.Event()
        self._viewers.add(news)
        try:
            jpeg = first
            while True:
                if jpeg:
                    # The next boundary goes with each frame: browsers show one when it has come.
                    head = f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
                    async with asyncio.timeout(PATIENCE):
                        await response.write(head + jpeg + f"\r\n--{_BOUNDARY}\r\n".encode())
                await news.wait()
                news.clear()
                jpeg = self._latest
        except (ConnectionError, TimeoutError):
            if request.transport is not None:
                request.transport.abort()
            return response
        finally:
            self._viewers.discard(news)

    async def _snapshot(self, request: web.Request) -> web.StreamResponse:
        jpeg = await self._encode()
        if jpeg is None:
            return web.Response(status=503, text="rtstyle: there is no frame yet\n")
        return web.Response(body=jpeg, content_type="image/jpeg")

    async def _tell_state(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(asdict(self._state()))

    async def _command(self, request: web.Request) -> web.StreamResponse:
        # A form of a stranger's page cannot have this type without asking first (CORS).
        if request.content_type != "application/json":
            return web.Response(status=415, text="rtstyle: a command is application/json\n")
        try:
            async with asyncio.timeout(PATIENCE):
                command = read_posted((await request.read()).decode())
            state = self._state()
            check_names(command, state.styles, state.presets)
        except (ValueError, TimeoutError) as error:
            return web.Response(status=400, text=f"rtstyle: {error}\n")
        if command is not None:
            self._post(command)
        return web.Response(status=204)


def read_posted(text: str) -> Command | None:
    """Read what the page posts: a JSON object of one word of ``actions.read_command`` and its value.

    Raises:
        ValueError: It is no JSON object of one known word, or its value is none for it.
    """
    if len(text) > LONGEST_COMMAND:
        raise ValueError("a command is short")
    told: Any = json.loads(text)
    if not isinstance(told, dict) or len(told) != 1:
        raise ValueError("a command is a JSON object of one word")
    ((word, value),) = told.items()
    return read_command(word, value)

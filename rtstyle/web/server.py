"""`rtstyle serve`: a page on which a visitor's own camera is stylized."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

from aiohttp import WSCloseCode, WSMsgType, web

from rtstyle.backends import Engine, EngineSettings, open_for
from rtstyle.canvas.follower import Follow
from rtstyle.errors import RtstyleError, SettingError, check_seconds
from rtstyle.frame import Size
from rtstyle.style import Style, list_styles, load_style
from rtstyle.web import protocol
from rtstyle.web.address import Address
from rtstyle.web.host import MAX_CONNECTIONS, PATIENCE, WebServer, keep_fresh, page_route, preview_routes
from rtstyle.web.jpeg import JPEG_COLOR
from rtstyle.web.own import OwnStyles
from rtstyle.web.protocol import BadMessageError, Reason, Reply, Start, read_image, read_request, write_reply
from rtstyle.web.share import Share, Visitor

IDLE = 30.0
"""Seconds without a frame after which a visitor's place is given to others."""

MAX_BAD = 20
"""Bad messages of a visitor before the connection is closed."""

_FASTEST = 1 / 120
"""Seconds between two frames of a visitor; more are not read, and wait where they come from."""

_PENALTY = 0.1
"""Seconds for which nothing is read from a visitor after a bad message."""

_BANDWIDTH = 10_000_000
"""Bytes a second that are read from a visitor; the largest frames at 30 a second are half of it."""

_AT_ONCE = 4
"""Images of visitors that wait to become styles, one after the other."""

_FIRST_SIZE = Size(640, 360)

_SWITCH = 0.0005
"""Seconds after which Python's threads make room for one another: the one that stylizes asks the one of connections
dozens of times a frame, and would wait 5 ms each time."""

_FAREWELLS: dict[Reason, str] = {
    "full": "All places are taken. Try again in a while.",
    "idle": "No frame came for a while, so the place was given to others.",
    "bad": "Too many messages were not understood.",
    "end": "The server has ended.",
    "moved": "This server ends; another one continues.",
}


@dataclass(frozen=True)
class ServeReport:
    """What a server did; ``dataclasses.asdict`` gives what JSON takes."""

    visitors: int
    """Visitors that got a place."""
    turned_away: int
    """Visitors that found all places taken."""
    frames: int
    """Frames that were stylized."""
    dropped: int
    """Frames that a newer one of the same visitor replaced."""
    bad_messages: int
    refused: dict[str, int]
    """Connections and requests that were refused, by reason: host (also origin and token), crowd, slow, rush."""
    seconds: float


class StyleServer:
    """The server of ``serve``. A context manager, in threads of its own.

    Args:
        styles: What visitors may choose.
        first: Place of the style that they begin with.
        visitors: How many are served at a time; one more gets a message.
        start: Strength, colors and mask that the page begins with.
        follow: What strokes follow: ``flow`` everything that moves, ``camera`` pans only, ``off`` nothing; ``auto`` is
            flow. It is for a visitor alone: while there are others, the camera is followed.
    """

    def __init__(
        self,
        address: Address,
        styles: list[Style],
        *,
        first: int = 0,
        visitors: int = 4,
        start: Start = Start(),
        engine: EngineSettings = EngineSettings(),
        follow: Follow = "auto",
    ) -> None:
        self.broken = threading.Event()
        """Set when the server can no longer stylize; leaving then raises the reason."""
        self._error: BaseException | None = None
        self._styles, self._first, self._places, self._start = list(styles), first, visitors, start
        self._listed = [{"name": style.name, "title": style.title} for style in styles]
        self._own, self._waiting = OwnStyles(self._styles), 0
        self._came = self._turned_away = self._frames = self._dropped = self._bad = 0
        self._sockets: set[web.WebSocketResponse] = set()
        self._begin = time.monotonic()

        def make(style: int, size: Size) -> Engine:
            return open_for(self._styles[style], size, JPEG_COLOR, engine, live=True)

        # Everything that can be wrong with address and files is so before the first engine is made.
        connections = max(MAX_CONNECTIONS, 8 * visitors)
        self._proxied, self._draining = address.forwarded, False
        self._web = WebServer(
            address,
            self._routes(),
            connections=connections,
            on_close=self._say_farewell,
            health=("/healthz", "/readyz"),
        )
        engine_of_first = make(first, _FIRST_SIZE)
        self.engine = f"{engine_of_first.backend} {engine_of_first.precision} on {engine_of_first.device}"
        """Backend, precision and device, to be shown."""
        # Each visitor has one and may be about to change to another: then none is closed that is in use.
        self._share = Share(
            make,
            (first, engine_of_first),
            room=max(6, 2 * visitors),
            fail=self._break,
            follow=follow,
            keep_face=start.keep_face,
        )

    @property
    def port(self) -> int:
        """The one that was bound."""
        return self._web.port

    @property
    def url(self) -> str:
        """The page's address, with the token."""
        return self._web.url()

    def url_of(self, path: str) -> str:
        """Return the address of a part of the page, such as ``/ws``, with the token."""
        return self._web.url(path)

    def report(self) -> ServeReport:
        """Sum up until now."""
        here = self._share.visitors
        return ServeReport(
            visitors=self._came,
            turned_away=self._turned_away,
            frames=self._frames + sum(visitor.frames for visitor in here),
            dropped=self._dropped + sum(visitor.dropped for visitor in here),
            bad_messages=self._bad,
            refused=dict(self._web.refused),
            seconds=round(time.monotonic() - self._begin, 3),
        )

    @property
    def has_room(self) -> bool:
        """Whether a further visitor would get a place."""
        return not self._draining and not self.broken.is_set() and len(self._share.visitors) < self._places

    def drain(self, seconds: float) -> None:
        """Take no new visitors, and wait so long, or until there are none; then ask open pages to move."""
        self._draining = True
        until = time.monotonic() + seconds
        while self._share.visitors and time.monotonic() < until and not self.broken.wait(0.1):
            pass

    def _break(self, error: BaseException) -> None:
        self._error = error
        self.broken.set()

    def _routes(self) -> list[web.RouteDef]:
        names = ("app.js", "controls.js", "webm.js", "style.css", "icon.svg")
        pages = {"/": "index.html"} | {f"/{name}": name for name in names}
        routes = [page_route(path, name) for path, name in pages.items()]
        listed = {"styles": self._listed, "start": self._first}

        async def list_all(request: web.Request) -> web.StreamResponse:
            return web.json_response(listed)

        routes += [web.get("/healthz", self._health), web.get("/readyz", self._readiness)]
        routes += [web.get("/styles.json", list_all), web.get("/ws", self._visit)]
        return [*routes, *preview_routes(self._styles)]

    def _hello(self) -> str:
        controls = self._start.controls
        return json.dumps(
            {
                "type": "hello",
                "version": protocol.VERSION,
                "styles": self._listed,
                "sizes": [[size.width, size.height] for size in protocol.SIZES],
                "in_flight": protocol.IN_FLIGHT,
                "start": {
                    "style": self._first,
                    "strength": controls.luma,
                    "keep_colors": controls.chroma == 0 < controls.luma,
                    "mask": protocol.MASKS.index(self._start.mask),
                },
            }
        )

    # -- in the loop's thread

    async def _health(self, _: web.Request) -> web.Response:
        broken = self.broken.is_set()
        return web.Response(status=503 if broken else 200, text="broken\n" if broken else "ok\n")

    async def _readiness(self, _: web.Request) -> web.Response:
        places = f"{len(self._share.visitors)} of {self._places} places are taken\n"
        return web.Response(status=200 if self.has_room else 503, text="ends\n" if self._draining else places)

    async def _make_style(self, data: bytes, outbox: asyncio.Queue[Reply | dict[str, Any]]) -> None:
        """Make a style from a visitor's image, and tell its place."""
        if self._waiting >= _AT_ONCE:
            outbox.put_nowait({"type": "say", "message": "Images of others come first. Try again in a while."})
            return
        self._waiting += 1
        try:
            place = await asyncio.to_thread(self._own.add, data)
            outbox.put_nowait({"type": "style", "place": place, "name": self._styles[place].name})
        except RtstyleError as error:
            outbox.put_nowait({"type": "say", "message": f"No style: {error}."})
        finally:
            self._waiting -= 1

    async def _visit(self, request: web.Request) -> web.StreamResponse:
        if not self.has_room and (self._proxied or self._draining):  # before the upgrade: the proxy may ask another
            self._turned_away += 1
            return web.Response(status=503, headers={"Retry-After": "5"}, text="rtstyle: all places are taken\n")
        # A JPEG does not get smaller by deflate. Pings are answered below, no more of them than other messages.
        socket = web.WebSocketResponse(
            max_msg_size=protocol.MAX_MESSAGE, compress=False, heartbeat=IDLE, timeout=2, autoping=False
        )
        await socket.prepare(request)
        keep_fresh(request)
        if len(self._share.visitors) >= self._places:
            self._turned_away += 1
            await _bye(socket, "full", WSCloseCode.TRY_AGAIN_LATER)
            return socket
        self._came += 1
        self._sockets.add(socket)
        outbox: asyncio.Queue[Reply | dict[str, Any]] = asyncio.Queue()
        bad = _Count()

        def post(kind: Literal["reply", "say", "bad"], what: Reply | str) -> None:
            if kind == "bad":
                self._web.call(bad.add)
            else:
                told = {"type": "say", "message": what} if isinstance(what, str) else what
                self._web.call(outbox.put_nowait, told)

        visitor = self._share.join(post)
        sender = asyncio.create_task(self._send(request, socket, outbox, visitor))
        try:
            await socket.send_str(self._hello())
            reason = await self._receive(socket, visitor, bad, outbox)
            if reason:
                await _bye(socket, reason, WSCloseCode.POLICY_VIOLATION if reason == "bad" else WSCloseCode.GOING_AWAY)
        finally:
            self._share.leave(visitor)
            self._sockets.discard(socket)
            self._frames += visitor.frames
            self._dropped += visitor.dropped
            self._bad += bad.value
            sender.cancel()
        return socket

    async def _receive(
        self,
        socket: web.WebSocketResponse,
        visitor: Visitor,
        bad: _Count,
        outbox: asyncio.Queue[Reply | dict[str, Any]],
    ) -> Reason | None:
        """Hand frames on until the visitor leaves (None) or must go."""
        last, seen = time.monotonic(), 0
        making: asyncio.Task[None] | None = None
        while bad.value < MAX_BAD:
            try:
                message = await socket.receive(timeout=IDLE)
            except TimeoutError:
                return "idle"
            if message.type is WSMsgType.BINARY:
                image = read_image(message.data)
                if image is not None and (making is None or making.done()):
                    making = asyncio.create_task(self._make_style(image, outbox))
                    continue
                try:
                    self._share.offer(visitor, read_request(message.data, len(self._styles)))
                    last = time.monotonic()
                except BadMessageError:
                    bad.add()
            elif message.type is WSMsgType.TEXT:
                bad.add()
            elif message.type is WSMsgType.PING:
                await socket.pong(message.data)
            elif message.type is not WSMsgType.PONG:  # closed, or too large a message
                return None
            size = len(message.data) if isinstance(message.data, bytes | str) else 0
            penalty, seen = (_PENALTY if bad.value > seen else 0.0), bad.value
            await asyncio.sleep(max(_FASTEST, size / _BANDWIDTH, penalty))
            if time.monotonic() - last > IDLE:
                return "idle"
        return "bad"

    async def _send(
        self,
        request: web.Request,
        socket: web.WebSocketResponse,
        outbox: asyncio.Queue[Reply | dict[str, Any]],
        visitor: Visitor,
    ) -> None:
        """Send what is in the outbox; a visitor that does not receive it in time is disconnected."""
        try:
            while True:
                what = await outbox.get()
                async with asyncio.timeout(PATIENCE):
                    if isinstance(what, Reply):
                        await socket.send_bytes(write_reply(what))
                        self._share.sent(visitor)
                    else:
                        await socket.send_str(json.dumps(what))
        except (ConnectionError, TimeoutError):
            if request.transport is not None:
                request.transport.abort()

    async def _say_farewell(self) -> None:
        reason: Reason = "moved" if self._draining else "end"
        async with asyncio.timeout(2):
            await asyncio.gather(*(_bye(socket, reason, WSCloseCode.GOING_AWAY) for socket in tuple(self._sockets)))

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(sys.setswitchinterval, sys.getswitchinterval())
            sys.setswitchinterval(_SWITCH)
            stack.callback(self._own.close)
            stack.enter_context(self._share)
            stack.enter_context(self._web)
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()
        if self._error and error is None:
            raise self._error


class _Count:
    """A number that two functions share."""

    def __init__(self) -> None:
        self.value = 0

    def add(self) -> None:
        self.value += 1


async def _bye(socket: web.WebSocketResponse, reason: Reason, code: int) -> None:
    try:
        await socket.send_str(json.dumps({"type": "bye", "reason": reason, "message": _FAREWELLS[reason]}))
        await socket.close(code=code, message=reason.encode())
    except ConnectionError:
        pass  # gone already


def serve(
    address: Address = Address(),
    *,
    style: str = "sketch",
    start: Start = Start(),
    visitors: int = 4,
    engine: EngineSettings = EngineSettings(),
    follow: Follow = "auto",
    seconds: float | None = None,
    say: Callable[[str], None] | None = None,
) -> ServeReport:
    """Serve the page until Ctrl-C.

    Args:
        style: What visitors begin with; they may choose among it and the shipped ones.
        start: Strength, colors and mask that they begin with.
        visitors: How many are served at a time.
        engine: Backend, precision, device, size of the networks and size of strokes.
        follow: What strokes follow, see ``StyleServer``.
        seconds: End after this time.
        say: Called with each line to print, such as the address.

    Raises:
        SettingError: A setting is out of its range, or the certificate cannot be used.
        ServerError: The address cannot be listened on.
        StyleNotFoundError, StyleFormatError, BackendUnavailableError: The style cannot be run.
    """
    if not 1 <= visitors <= 64:
        raise SettingError(f"visitors must be in [1, 64], got {visitors}")
    check_seconds("the time to serve", seconds)
    tell = say or (lambda line: None)
    shipped = list_styles()
    names = shipped if style in shipped else [*shipped, style]  # tiles always have one order
    server = StyleServer(
        address,
        [load_style(name) for name in names],
        first=names.index(style),
        visitors=visitors,
        start=start,
        engine=engine,
        follow=follow,
    )
    tell(f"{style}: {server.engine}; {visitors} visitors at a time")
    try:
        with server:
            if not address.is_loopback and address.cert is None:
                tell("browsers give the camera to https pages only: on other devices this needs --cert and --key")
            tell(f"open {server.url}   (Ctrl-C ends)")
            with suppress(KeyboardInterrupt) if address.drain else nullcontext():
                server.broken.wait(seconds)
            if address.drain:
                tell(f"draining for {address.drain:g} s: no new visitors")
                server.drain(address.drain)
    except KeyboardInterrupt:
        pass  # the way in which a server ends
    return server.report()

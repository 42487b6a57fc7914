"""An HTTP server in a thread of its own. It uses a bounded part of the machine, however clients connect."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable
from concurrent.futures import Future
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

from aiohttp import web

from rtstyle.errors import ServerError, reason_of
from rtstyle.files import read_whole
from rtstyle.style import Style
from rtstyle.style_folder import LARGEST_PREVIEW
from rtstyle.web.address import Address
from rtstyle.web.guard import Guard

log = logging.getLogger("rtstyle")

MAX_CONNECTIONS = 40
"""Open at a time, unless more are requested; a browser has up to six, and one for the stream."""

PATIENCE = 10.0
"""Seconds that a connection may take for its request, or for taking the answer."""

_ARRIVALS, _REQUESTS = (40, 200.0), (60, 100.0)
"""Connections and requests that are taken at once, and how many a second after that; others wait their turn."""

_HEADS = 2
"""Ends of a request's head in one piece of data; more are requests that do not wait for their answers."""

_UNSENT_BYTES = 1 << 17
"""Of a stream that the system may hold."""

_SECURITY = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(self), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Server": "rtstyle",
}

_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Allowance:
    """Spreads events over time: ``burst`` of them at once, and ``rate`` a second after that."""

    def __init__(self, burst: int, rate: float) -> None:
        self._step, self._slack = 1 / rate, burst / rate
        self._due = 0.0

    def delay(self) -> float:
        """Count one event; return the seconds to wait before it."""
        now = time.monotonic()
        self._due = max(self._due, now - self._slack) + self._step
        return max(0.0, self._due - now)


class WebServer:
    """Serves routes from a thread with an event loop of its own. A context manager.

    Args:
        address: Where it listens.
        routes: What it serves; handlers run in the loop's thread.
        connections: That may be open at a time.
        on_close: Awaited in the loop before the connections are closed.
        health: Paths that need neither token nor name: probes of proxies know none.
    """

    def __init__(
        self,
        address: Address,
        routes: list[web.RouteDef],
        *,
        connections: int = MAX_CONNECTIONS,
        on_close: Callable[[], Coroutine[Any, Any, None]] | None = None,
        health: Collection[str] = (),
    ) -> None:
        self._health = frozenset(health)
        self.guard = Guard.of(address)
        self.port = 0
        """The one that was bound."""
        self.refused: Counter[str] = Counter()
        """Connections and requests that were turned away, by reason: host (or origin, or token), crowd, slow, rush."""
        self._address, self._routes, self._connections, self._on_close = address, routes, connections, on_close
        self._tls = address.tls()
        self._ready: Future[None] = Future()
        # All visitors of this machine have one address, and so have those behind a proxy on it.
        shared = address.is_loopback or address.forwarded
        self._each = connections if shared else max(8, connections // 2)
        self._coming: set[asyncio.Task[None]] = set()
        """Connections that were accepted and are not open yet, as during the handshake of TLS."""
        self._arrivals, self._requests = Allowance(*_ARRIVALS), Allowance(*_REQUESTS)
        self._peers: dict[web.RequestHandler, str] = {}
        self._known: set[web.RequestHandler] = set()  # they have had a request that was not refused
        self._since: dict[web.RequestHandler, float] = {}
        self._busy: Counter[web.RequestHandler] = Counter()
        self._thread = threading.Thread(target=self._run, name="web server", daemon=True)

    def url(self, path: str = "/") -> str:
        """Return the address to show, with the token."""
        return self.guard.url(self.port, path)

    def call(self, function: Callable[..., object], *args: object) -> None:
        """Call a function in the loop's thread, soon; from any thread. Nothing happens where the loop has ended."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(function, *args)

    def start(self) -> None:
        """Bind and serve.

        Raises:
            ServerError: The port is taken, or the host is not one of this machine.
        """
        self._thread.start()
        self._ready.result()

    def close(self) -> None:
        """Close all connections and join the thread. A second call does nothing."""
        if self._thread.is_alive():
            self.call(lambda: self._stop.set())
            self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- in the thread

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.loop.set_exception_handler(lambda _, context: log.debug("web server: %s", context.get("message")))
        self._stop = asyncio.Event()
        app = web.Application(middlewares=[self._middleware])
        app.add_routes(self._routes)
        app.on_response_prepare.append(self._secure)
        runner = web.AppRunner(
            app,
            access_log=None,
            logger=_quiet(),
            handle_signals=False,
            handler_cancellation=True,
            keepalive_timeout=PATIENCE,
            shutdown_timeout=1,
        )
        await runner.setup()
        try:
            self._server = runner.server
            listeners = await self._listen()
            self.port = listeners[0].getsockname()[1]
            tasks = [asyncio.create_task(self._accept(listener)) for listener in listeners]
            tasks.append(asyncio.create_task(self._sweep()))
            try:
                self._ready.set_result(None)
                await self._stop.wait()
                if self._on_close:
                    await self._on_close()
            finally:
                for task in (*tasks, *self._coming):
                    task.cancel()
                for listener in listeners:
                    listener.close()
        finally:
            await runner.cleanup()

    async def _listen(self) -> list[socket.socket]:
        address = self._address
        try:
            bound = await self.loop.create_server(asyncio.Protocol, address.host, address.port, start_serving=False)
            listeners = [opened.dup() for opened in bound.sockets]
            bound.close()
            for listener in listeners:
                listener.setblocking(False)
                listener.listen(100)
            return listeners
        except OSError as error:
            where = f"{address.host} port {address.port}"
            raise ServerError(
                f"cannot listen on {where}: {reason_of(error)}; --port 0 takes a free port, "
                "and --host is a name or address of this machine"
            ) from error

    async def _accept(self, listener: socket.socket) -> None:
        """Accept connections one by one, no more of them than the loop can take beside its work for visitors.

        asyncio's own server accepts a hundred at a turn, and each costs as much as a part of a frame.
        """
        while True:
            try:
                connection, _ = await self.loop.sock_accept(listener)
            except OSError as error:  # as where the process has too many files open
                log.debug("web server: %s", error)
                await asyncio.sleep(0.1)
                continue
            if len(self._coming) >= self._connections:
                self.refused["crowd"] += 1
                connection.close()
                continue
            opening = asyncio.create_task(self._open(connection))
            self._coming.add(opening)
            opening.add_done_callback(self._coming.discard)
            await asyncio.sleep(self._arrivals.delay())

    async def _open(self, connection: socket.socket) -> None:
        patience = PATIENCE if self._tls else None
        with contextlib.suppress(OSError, TimeoutError):  # as where it has gone, or speaks no TLS
            await self.loop.connect_accepted_socket(
                lambda: _Door(self), connection, ssl=self._tls, ssl_handshake_timeout=patience
            )

    def admit(self, transport: asyncio.BaseTransport) -> web.RequestHandler | None:
        """Return the handler of a new connection, None where there is no room for it.

        Where all places are taken, the one that has kept us waiting longest without a request that was not refused
        makes room: idle connections lock no client out.
        """
        assert self._server is not None
        there = set(self._server.connections)
        self._peers = {handler: peer for handler, peer in self._peers.items() if handler in there}
        self._known &= there
        peer = _network((transport.get_extra_info("peername") or ("",))[0])
        here = [handler for handler in there if handler.transport and not handler.transport.is_closing()]
        same = [handler for handler in here if self._peers.get(handler) == peer]
        for crowd, room in ((same, self._each), (here, self._connections)):
            if len(crowd) < room:
                continue
            self.refused["crowd"] += 1
            idle = [handler for handler in crowd if handler not in self._busy and handler not in self._known]
            if not idle:
                return None
            oldest = min(idle, key=lambda handler: self._since.get(handler, 0.0))
            if oldest.transport:
                oldest.transport.abort()
            break
        handler = self._server()
        self._since[handler], self._peers[handler] = time.monotonic(), peer
        return handler

    async def _sweep(self) -> None:
        """Abort connections that keep us waiting: aiohttp waits for ever until an answer has been taken."""
        while True:
            await asyncio.sleep(PATIENCE / 10)
            now = time.monotonic()
            assert self._server is not None
            there = set(self._server.connections)
            self._since = {h: since for h, since in self._since.items() if h in there}
            for handler, since in self._since.items():
                if handler not in self._busy and now - since > PATIENCE and handler.transport:
                    self.refused["slow"] += 1
                    handler.transport.abort()

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        await asyncio.sleep(self._requests.delay())
        reason = None if self._is_probe(request) else self.guard.refuse(request)
        if reason is not None:
            self.refused["host"] += 1
            refusal = web.Response(status=403, text=f"rtstyle: {reason}\n")
            refusal.force_close()  # what comes behind it on the connection is not read
            return refusal
        if "token" in request.query and request.path == "/":
            # Out of the address bar and the history; the cookie continues from here.
            moved = web.HTTPSeeOther("/")
            name, secure = self.guard.cookie(request), self.guard.is_secure(request)
            moved.set_cookie(name, self.guard.token, httponly=True, samesite="Strict", secure=secure)
            raise moved
        connection = request.protocol
        self._known.add(connection)
        self._busy[connection] += 1
        try:
            return await handler(request)
        except (web.HTTPException, ConnectionError):
            raise
        except Exception as error:
            log.debug("web server: %s %s: %s: %s", request.method, request.path, type(error).__name__, error)
            return web.Response(status=500, text="rtstyle: this request cannot be answered\n")
        finally:
            self._since[connection] = time.monotonic()
            self._busy[connection] -= 1
            if not self._busy[connection]:
                del self._busy[connection]

    def _is_probe(self, request: web.Request) -> bool:
        """Whether a proxy or a scheduler asks how the server is; pages of others have no business here."""
        return (
            request.path in self._health
            and "Origin" not in request.headers
            and (request.headers.get("Sec-Fetch-Site") in (None, "same-origin", "none"))
        )

    async def _secure(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(_SECURITY)
        own = self.guard.called(request) if self.guard.refuse(request) is None else None
        response.headers["Content-Security-Policy"] = (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self' blob:; "
            f"connect-src 'self' ws://{own} wss://{own}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
            if own
            else "default-src 'none'"
        )


class _Door(asyncio.Protocol):
    """Passes what comes on a connection to aiohttp, where there is room for it and it comes one request at a time.

    aiohttp parses hundreds of requests in one go; browsers send no further one before the answer.
    """

    def __init__(self, server: WebServer) -> None:
        self._server = server
        self._handler: web.RequestHandler | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._handler = self._server.admit(transport)
        if self._handler is not None:
            self._handler.connection_made(transport)
            return
        transport.write(
            b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 10\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        )
        transport.close()

    def data_received(self, data: bytes) -> None:
        if data.count(b"\r\n\r\n") > _HEADS:
            self._server.refused["rush"] += 1
            self._transport.abort()
        elif self._handler is not None:
            self._handler.data_received(data)

    def eof_received(self) -> None:
        if self._handler is not None:
            self._handler.eof_received()

    def pause_writing(self) -> None:
        if self._handler is not None:
            self._handler.pause_writing()

    def resume_writing(self) -> None:
        if self._handler is not None:
            self._handler.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        if self._handler is not None:
            self._handler.connection_lost(error)


def _network(peer: str) -> str:
    """Return what one visitor has for himself: an IPv4 address, or the first half of an IPv6 one."""
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(peer.partition("%")[0])
        if address.version == 6 and address.ipv4_mapped is None:
            return str(ipaddress.ip_network((address, 64), strict=False))
    return peer


def _quiet() -> logging.Logger:
    """Return a logger for aiohttp, which reports what strangers send with tracebacks; here one line for ``debug``."""

    def tell(record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        log.debug("web server: %s%s", record.getMessage(), f": {type(error).__name__}: {error}" if error else "")
        return False

    quiet = logging.getLogger("rtstyle.web.http")
    quiet.filters[:] = []
    quiet.addFilter(tell)
    return quiet


def keep_fresh(request: web.Request) -> None:
    """Let the system hold little of what is sent: frames that wait there for a slow viewer get old."""
    line = request.get_extra_info("socket")
    if line is not None:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNSENT_BYTES)


def page_route(path: str, name: str) -> web.RouteDef:
    """Return a route that gives a file of page/. It is read once."""
    body = (files("rtstyle") / "web" / "page" / name).read_bytes()
    return web.get(path, _fixed(body, _TYPES[Path(name).suffix]))


def _fixed(body: bytes, content_type: str) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        charset = "utf-8" if content_type.startswith("text/") else None
        return web.Response(body=body, content_type=content_type, charset=charset)

    return handler


def preview_routes(styles: Iterable[Style]) -> list[web.RouteDef]:
    """Return routes to the styles' previews by place, of a blend to that of its largest part; some have none."""
    routes = []
    for place, style in enumerate(styles):
        folder = max(style.folders, key=lambda part: part[1])[0]
        with contextlib.suppress(OSError):
            body = read_whole(folder / "preview.jpg", LARGEST_PREVIEW)
            routes.append(web.get(f"/styles/{place}.jpg", _fixed(body, "image/jpeg")))
    return routes

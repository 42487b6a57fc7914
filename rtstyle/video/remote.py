"""Addresses of HTTP that FFmpeg may not open by itself: each connection is checked where it arrived.

A name may resolve to a public address when it is checked and to this machine a moment later (DNS rebinding). So the
address of the connected peer decides, before anything is sent to it.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import ssl
import urllib.request
from collections.abc import Callable
from typing import IO, Any
from urllib.parse import urlsplit

Allowed = Callable[[str], str]
"""Returns why an address that a redirect leads to is not followed; empty: it is."""


class Web:
    """Opens addresses by HTTP for one input. After a peer on the internet, none on this machine's network is accepted.

    Args:
        allowed: Which redirects are followed.
        timeout: Seconds that each step may take.
    """

    def __init__(self, allowed: Allowed, timeout: float) -> None:
        self.refused = ""
        """Why the last connection or redirect was refused."""
        self._allowed, self._timeout = allowed, timeout
        self._public = False
        self._opener = urllib.request.build_opener(_Http(self), _Https(self), _Redirects(self))

    def open(self, url: str, begin: int | None = None) -> Any:
        """Open an address and return the response.

        Args:
            begin: First byte that is asked for; None: all, without a range.

        Raises:
            OSError, http.client.HTTPException: It does not answer, or is refused, see ``refused``.
        """
        headers = {"User-Agent": "rtstyle"} | ({} if begin is None else {"Range": f"bytes={begin}-"})
        return self._opener.open(urllib.request.Request(url, headers=headers), timeout=self._timeout)

    def check_peer(self, host: str, peer: str) -> None:
        """Refuse a peer on this machine's network, if one on the internet came before.

        Args:
            host: Name that was connected to.
            peer: Its address; a proxy's says nothing of where the proxy leads.

        Raises:
            PermissionError: It is refused.
        """
        if host in {urlsplit(proxy).hostname for proxy in urllib.request.getproxies().values()}:
            return
        if is_public(peer):
            self._public = True
        elif self._public:
            self.refused = f"{host} leads into this machine's own network, to {peer}"
            raise PermissionError(self.refused)

    def check_redirect(self, url: str) -> None:
        """Refuse a redirect that is not allowed.

        Raises:
            PermissionError: It is refused.
        """
        if why := self._allowed(url):
            self.refused = why
            raise PermissionError(why)


def is_public(address: str) -> bool:
    """Whether an IP address is one of the internet, not of this machine or of a private network."""
    found = ipaddress.ip_address(address.partition("%")[0])
    inner = getattr(found, "ipv4_mapped", None) or getattr(found, "sixtofour", None)
    return (inner or found).is_global


class WebFile(io.RawIOBase):
    """A file at an address, which FFmpeg reads through ``Web``.

    It can be sought where the server gives parts and says how long the whole is.

    Raises:
        OSError, http.client.HTTPException: As ``Web.open``.
    """

    def __init__(self, web: Web, url: str) -> None:
        self._web, self._url, self._place = web, url, 0
        self._response = web.open(url, 0)
        self._size: int | None = None
        total = str(self._response.headers.get("Content-Range", "")).rpartition("/")[2]
        if self._response.status == http.client.PARTIAL_CONTENT and total.isdecimal():
            self._size = int(total)

    def readable(self) -> bool:
        """True, as of every file that is read."""
        return True

    def seekable(self) -> bool:
        """Whether the server gives parts and says how long the whole is."""
        return self._size is not None

    def read(self, size: int = -1) -> bytes:
        """Return at most ``size`` bytes, as many as have arrived."""
        data: bytes = self._response.read1(size)
        self._place += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Continue from another byte, by a new request.

        Raises:
            io.UnsupportedOperation: The server gives no parts.
        """
        if self._size is None:
            raise io.UnsupportedOperation("this address cannot be sought")
        place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        if place != self._place:
            self._response.close()
            self._response = self._web.open(self._url, place) if place < self._size else io.BytesIO()
            self._place = place
        return place

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._place

    def close(self) -> None:
        """End the connection."""
        self._response.close()
        super().close()


class _Connection(http.client.HTTPConnection):
    web: Web

    def connect(self) -> None:
        super().connect()
        try:
            self.web.check_peer(self.host, self.sock.getpeername()[0])
        except PermissionError:
            self.close()
            raise


class _TlsConnection(http.client.HTTPSConnection, _Connection):
    """The peer is checked by the base class, which connects, before TLS begins."""


class _Http(urllib.request.HTTPHandler):
    def __init__(self, web: Web) -> None:
        super().__init__()
        self._web = web

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        checked: Any = type("Connection", (_Connection,), {"web": self._web})
        return self.do_open(checked, req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, web: Web) -> None:
        super().__init__()
        self._web = web

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        checked: Any = type("Connection", (_TlsConnection,), {"web": self._web})
        return self.do_open(checked, req, context=ssl.create_default_context())


class _Redirects(urllib.request.HTTPRedirectHandler):
    def __init__(self, web: Web) -> None:
        self._web = web

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        self._web.check_redirect(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)

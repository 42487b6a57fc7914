"""Who may ask: names by which a server may be called, pages that may call it, a token."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from aiohttp import web

from rtstyle.web.address import Address

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Guard:
    """Decides about every request before anything else looks at it.

    - The ``Host`` must be a name of this machine: else a stranger's page whose name was turned to our address
      (DNS rebinding) would pass for ours. Addresses in figures cannot be turned, so those pass where we listen to more
      than loopback.
    - A request that a page of another origin makes in a visitor's browser is refused (``Origin``, ``Sec-Fetch-Site``).
    - Beyond loopback a token is needed, in the URL once; a cookie keeps it.
    """

    address: Address
    token: str | None = field(default=None)
    """None where no token is needed: only on loopback."""

    @classmethod
    def of(cls, address: Address) -> Guard:
        """Return the guard of an address, with a new token where it needs one."""
        return cls(address, None if address.is_loopback else secrets.token_urlsafe(24))

    def url(self, port: int, path: str = "/") -> str:
        """Return the address for people, with the token; ``port`` is the one that was bound."""
        host = self.address.host
        if host in ("", "0.0.0.0", "::"):
            host = _outward_address()
        host = f"[{host}]" if ":" in host else host
        return f"{self.address.scheme}://{host}:{port}{path}{f'?token={self.token}' if self.token else ''}"

    def refuse(self, request: web.Request) -> str | None:
        """Say why a request is refused; None where it may go on."""
        if not self._knows(request.host):
            return f"this server is not called {request.host!r}: use the address that it printed"
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc.lower() != request.host.lower():
            return "requests of other pages are refused"
        site, mode = request.headers.get("Sec-Fetch-Site"), request.headers.get("Sec-Fetch-Mode")
        if site not in (None, "same-origin", "none") and mode != "navigate":
            return "requests of other pages are refused"
        if self.token is not None and not self._has_token(request):
            return "the token is missing or wrong: use the whole address that the server printed, with ?token=..."
        return None

    def _knows(self, called: str) -> bool:
        try:
            name = urlsplit(f"//{called}").hostname or ""
        except ValueError:
            return False
        if self.address.is_loopback:
            return name in _LOOPBACK_NAMES
        try:
            ipaddress.ip_address(name)
            return True
        except ValueError:
            machine = socket.gethostname().lower()
            return name in ("localhost", self.address.host.lower(), machine, f"{machine}.local")

    def _has_token(self, request: web.Request) -> bool:
        return self.is_token(request.query.get("token")) or self.is_token(request.cookies.get(self.cookie(request)))

    def is_token(self, given: str | None) -> bool:
        """Compare in a time that does not depend on where they differ."""
        assert self.token is not None
        return given is not None and hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode())

    @staticmethod
    def cookie(request: web.Request) -> str:
        """Name of the cookie: browsers share cookies between the ports of a host."""
        return f"rtstyle_{urlsplit(f'//{request.host}').port or 0}"


def _outward_address() -> str:
    """Return the address by which others reach this machine, or its name. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # RFC 5737: of nobody; connecting UDP only chooses our own address
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()

"""Who may ask: names by which a server may be called, pages that may call it, a token."""

from __future__ import annotations

import hmac
import ipaddress
import os
import re
import secrets
import socket
from dataclasses import dataclass

from aiohttp import web

from rtstyle.errors import SettingError, reason_of
from rtstyle.web.address import Address

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")

_AUTHORITY = re.compile(
    r"(?P<name>[a-z0-9_.-]{1,253}|\[[0-9a-f:.]{2,45}\])(:(?P<port>[0-9]{1,5}))?", re.ASCII | re.IGNORECASE
)

_SHORTEST = 16
"""Characters of the shortest token that is taken from a file or from RTSTYLE_TOKEN."""


@dataclass(frozen=True)
class Authority:
    """Name and port of a server, as in ``Host`` and ``Origin``."""

    name: str
    """In lower case; of IPv6 without brackets."""
    port: int | None

    @classmethod
    def parse(cls, text: str) -> Authority | None:
        """Read ``name``, ``name:port`` or ``[address]:port``; None where it is anything else."""
        match = _AUTHORITY.fullmatch(text)
        if match is None or int(match["port"] or 0) > 65535:
            return None
        return cls(match["name"].lower().strip("[]"), int(match["port"]) if match["port"] else None)

    def __str__(self) -> str:
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.port is None else f"{name}:{self.port}"


@dataclass(frozen=True)
class Guard:
    """Decides about every request before anything else looks at it.

    - The ``Host`` must be a name of this machine: else a stranger's page whose name was turned to our address
      (DNS rebinding) would pass for ours. Addresses in figures cannot be turned, so those pass where we listen to more
      than loopback.
    - A request that a page of another origin makes in a visitor's browser is refused (``Origin``, ``Sec-Fetch-Site``).
    - A token is needed, in the URL once; a cookie keeps it. On loopback, too: other users of the machine reach that.
    """

    address: Address
    token: str

    @classmethod
    def of(cls, address: Address) -> Guard:
        """Return the guard of an address, with the token of its file, of RTSTYLE_TOKEN, or a new one.

        Raises:
            SettingError: The file cannot be read; or the token is too short, or has characters that addresses have to
                quote.
        """
        token, place = os.environ.get("RTSTYLE_TOKEN") or secrets.token_urlsafe(24), "RTSTYLE_TOKEN"
        if address.token_file:
            place = f"the token in {address.token_file}"
            try:
                token = address.token_file.read_text("ascii", "replace")[:1000].strip()
            except OSError as error:
                raise SettingError(f"cannot read {place}: {reason_of(error)}") from error
        if not re.fullmatch(rf"[A-Za-z0-9_-]{{{_SHORTEST},200}}", token):
            raise SettingError(f"{place} must be {_SHORTEST} to 200 letters, digits, - and _")
        return cls(address, token)

    def called(self, request: web.Request) -> Authority | None:
        """Return what a request calls this server; None where it says nothing, something damaged, or several things."""
        hosts = request.headers.getall("Host", [])
        if self.address.forwarded:
            hosts = request.headers.getall("X-Forwarded-Host", hosts)
        return Authority.parse(hosts[0]) if len(hosts) == 1 else None

    def is_secure(self, request: web.Request) -> bool:
        """Return whether the browser speaks https: to this server, or to the proxy in front of it."""
        forwarded = self.address.forwarded and request.headers.get("X-Forwarded-Proto", "").lower() == "https"
        return self.address.cert is not None or forwarded

    def url(self, port: int, path: str = "/") -> str:
        """Return the address to show, with the token; ``port`` is the one that was bound."""
        host = self.address.host
        if host in ("", "0.0.0.0", "::"):
            host = _outward_address()
        host = f"[{host}]" if ":" in host else host
        return f"{self.address.scheme}://{host}:{port}{path}?token={self.token}"

    def refuse(self, request: web.Request) -> str | None:
        """Return why a request is refused; None where it may continue."""
        host = self.called(request)
        if host is None or not self._knows(host.name):
            name = request.headers.get("Host", "")[:100]
            return f"this server is not called {name!r}: use the address that it printed"
        origin = request.headers.get("Origin")
        if origin is not None and Authority.parse(origin.partition("://")[2]) != host:
            return "requests of other pages are refused"
        site, mode = request.headers.get("Sec-Fetch-Site"), request.headers.get("Sec-Fetch-Mode")
        if site not in (None, "same-origin", "none") and mode != "navigate":
            return "requests of other pages are refused"
        if not self._has_token(request):
            return "the token is missing or wrong: use the whole address that the server printed, with ?token=..."
        return None

    def _knows(self, name: str) -> bool:
        if name in (each.lower() for each in self.address.names):
            return True
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
        return given is not None and hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode())

    def cookie(self, request: web.Request) -> str:
        """Name of the cookie: browsers share cookies between the ports of a host."""
        host = self.called(request)
        return f"rtstyle_{(host and host.port) or 0}"


def _outward_address() -> str:
    """Return the address by which others reach this machine, or its name. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(
                ("192.0.2.1", 9)
            )  # RFC 5737: documentation address; connecting UDP only chooses our own address
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()

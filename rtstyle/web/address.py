"""Where a server of rtstyle listens. Loads no aiohttp, so that the command line can name the defaults."""

from __future__ import annotations

import ipaddress
import re
import ssl
from dataclasses import dataclass
from pathlib import Path

from rtstyle.errors import SettingError, check_seconds, reason_of


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a server listens, and with which certificate."""

    host: str = "127.0.0.1"
    """A name or an address of this machine; ``0.0.0.0`` and ``::`` are all its addresses."""
    port: int = 8765
    """0 takes one that is free."""
    cert: Path | None = None
    """Certificate chain (PEM) for https; needs ``key``."""
    key: Path | None = None
    names: tuple[str, ...] = ()
    """Further names by which it may be called: those of a proxy in front of it."""
    token_file: Path | None = None
    """File that holds the token, the same for all servers behind one proxy; None: RTSTYLE_TOKEN, or a new one."""
    forwarded: bool = False
    """Trust ``X-Forwarded-Host`` and ``X-Forwarded-Proto``: only where all requests come through a proxy that sets
    them. A server that is full then refuses visitors with status 503, so that the proxy asks another."""
    drain: float = 0.0
    """Seconds for which it keeps its visitors, but takes no new ones, before it ends; then their pages connect again,
    to another server behind the same proxy. 0: they are notified that the server has ended."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise SettingError(f"a port is a number from 0 to 65535, got {self.port}")
        if (self.cert is None) != (self.key is None):
            raise SettingError("https needs both: --cert FILE --key FILE")
        check_seconds("the time to drain", self.drain, zero=True)
        for name in self.names:
            if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,252})", name, re.ASCII):
                raise SettingError(
                    f"a host name is letters, digits, dots and dashes, as in rt.example.org; got {name!r}"
                )

    @property
    def is_loopback(self) -> bool:
        """True where only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""
        return "https" if self.cert else "http"

    def tls(self) -> ssl.SSLContext | None:
        """Load the certificate; None where there is none.

        Raises:
            SettingError: It cannot be read, or the key does not fit.
        """
        if self.cert is None or self.key is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(self.cert, self.key)
        except (OSError, ssl.SSLError) as error:
            reason = reason_of(error)
            raise SettingError(f"cannot use {self.cert} with {self.key} for https: {reason}") from error
        return context

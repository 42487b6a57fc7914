"""The live edge that speaks HTTP: a page that stylizes its visitors' cameras, and a preview of a live session.

    address    where a server listens
    protocol   what travels between page and server
    jpeg       JPEG to planes and back, without RGB on the way
    guard      who may ask: host names, origins, a token
    host       an HTTP server in a thread of its own, with everything bounded
    share      one machine for several visitors: their latest frames, engines, turns
    server     `rtstyle serve`
    preview    `rtstyle webcam --preview browser`, /stream.mjpg
    page/      what browsers get: plain HTML, CSS and JavaScript

It needs the extra ``web`` (aiohttp, simplejpeg), which is imported when one of these is used.
"""

from __future__ import annotations

from importlib.util import find_spec

from rtstyle.errors import ServerError

FIX = "pip install 'rtstyle[web]'"


def missing_packages() -> list[str]:
    """Return what is not installed of that which this package needs."""
    return [name for name in ("aiohttp", "simplejpeg") if find_spec(name) is None]


def check_packages() -> None:
    """Raise ServerError where a package is missing."""
    missing = missing_packages()
    if missing:
        raise ServerError(f"pages need {' and '.join(missing)}: {FIX}")

"""The command serve, and the options of everything that serves pages."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtstyle.cli.options import (
    DONE,
    add_command,
    add_engine_options,
    add_follow_option,
    add_keep_face_option,
    add_message_options,
    engine_settings,
)
from rtstyle.cli.talk import finish, say

if TYPE_CHECKING:
    from rtstyle.web.address import Address

# As in rtstyle.web.address, which would load ssl here; a test compares them.
HOST, PORT = "127.0.0.1", 8765


def add_serve(commands: Any) -> None:
    """Add the command ``serve``."""
    parser = add_command(
        commands,
        "serve",
        "serve a web page that stylizes its visitors' cameras",
        "Serve a web page that stylizes its visitors' cameras. Ctrl-C stops it.",
        "[options]",
        {
            "": "for browsers on this machine",
            "--host 0.0.0.0 --cert cert.pem --key key.pem": "for others, by https",
            "--style ink --visitors 2 --port 9000": "two at a time",
        },
    )
    default = " (default: %(default)s)"
    parser.add_argument("--visitors", type=int, default=4, metavar="N", help="visitors at a time" + default)
    add_follow_option(parser, "for a single visitor")
    parser.add_argument(
        "--mask", choices=("person", "background"), help="where the page begins with the style; visitors may change it"
    )
    add_keep_face_option(parser)
    parser.add_argument("--seconds", type=float, metavar="N", help="stop after N seconds")
    add_address_options(parser)
    _add_proxy_options(parser)
    add_engine_options(parser)
    add_message_options(parser)
    parser.set_defaults(run=_run_serve)


def _add_proxy_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("behind a proxy, one of several servers")
    group.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="a name of the proxy; may be given again"
    )
    group.add_argument("--token-file", type=Path, metavar="FILE", help="file with the token, the same for all servers")
    group.add_argument(
        "--behind-proxy",
        action="store_true",
        help="trust X-Forwarded-Host and -Proto, and answer 503 where all places are taken",
    )
    group.add_argument(
        "--drain",
        type=float,
        default=0.0,
        metavar="S",
        help="at the end, take no new visitors for S seconds, then let the others connect again (default: 0)",
    )


def add_address_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``address_of`` reads."""
    default = " (default: %(default)s)"
    group = parser.add_argument_group("web pages")
    group.add_argument(
        "--host",
        default=HOST,
        metavar="H",
        help="host name or address to listen on" + default,
    )
    group.add_argument(
        "--port", type=int, default=PORT, metavar="P", help="port to listen on, 0 for any free one" + default
    )
    group.add_argument(
        "--cert", type=Path, metavar="FILE", help="certificate (PEM) for https, which cameras of other devices need"
    )
    group.add_argument("--key", type=Path, metavar="FILE", help="its private key (PEM)")


def address_of(args: argparse.Namespace) -> Address:
    """Return where the address options say to listen."""
    from rtstyle.web.address import Address

    return Address(host=args.host, port=args.port, cert=args.cert, key=args.key)


def _run_serve(args: argparse.Namespace) -> int:
    from rtstyle.backends import Controls
    from rtstyle.web import check_packages

    address = replace(
        address_of(args),
        names=tuple(args.allow_host),
        token_file=args.token_file,
        forwarded=args.behind_proxy,
        drain=args.drain,
    )
    check_packages()
    from rtstyle.web.protocol import Start
    from rtstyle.web.server import serve

    report = serve(
        address,
        style=args.style,
        start=Start(
            controls=Controls.of(args.strength, keep_colors=args.keep_colors),
            mask=args.mask,
            keep_face=args.keep_face,
        ),
        visitors=args.visitors,
        engine=engine_settings(args),
        follow=args.follow,
        seconds=args.seconds,
        say=say,  # also with --quiet, which would hide the address
    )
    finish(
        args,
        asdict(report),
        [],
        f"{report.visitors} visitors, {report.frames} frames stylized, {report.dropped} dropped, "
        f"{report.turned_away} visitors were turned away, {report.bad_messages} bad messages, {report.seconds:.0f} s",
    )
    return DONE

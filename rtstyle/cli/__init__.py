"""The command line: words become one library call. The only package that knows argparse, tqdm and exit codes."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable

from rtstyle import __version__
from rtstyle.cli.files import add_image, add_verify, add_video
from rtstyle.cli.live import add_devices, add_webcam
from rtstyle.cli.machine import add_doctor, add_engines, add_styles
from rtstyle.cli.options import BACKEND_WORDS, FAILED, INTERRUPTED, PRECISION_WORDS, Parser
from rtstyle.cli.talk import complain
from rtstyle.cli.web import add_serve
from rtstyle.errors import RtstyleError

__all__ = ["BACKEND_WORDS", "PRECISION_WORDS", "main"]


def _build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="rtstyle",
        description="A webcam or a video in another style, live, with nothing lost.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"rtstyle {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    add_video(commands)
    add_image(commands)
    add_webcam(commands)
    add_devices(commands)
    add_serve(commands)
    add_styles(commands)
    add_verify(commands)
    add_engines(commands)
    add_doctor(commands)
    return parser


def _interrupt_on_terminate() -> None:
    """Let SIGTERM end a run as Ctrl-C does: what is finished is kept."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the words. Options may stand between several IN and OUT, which argparse alone does not take."""
    parser = _build_parser()
    args, rest = parser.parse_known_args(argv)
    if rest and args.command == "video" and not any(word.startswith("-") and word != "-" for word in rest):
        args.places, args.output = [*args.places, args.output, *rest[:-1]], rest[-1]
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return args


def main(argv: list[str] | None = None) -> int:
    """Run ``rtstyle`` with these words and return the exit code."""
    args = _parse(argv)
    logging.basicConfig(
        level=logging.INFO if args.verbose else logging.ERROR, stream=sys.stderr, format="%(name)s: %(message)s"
    )
    level = logging.DEBUG if args.verbose else logging.WARNING if args.quiet else logging.INFO
    logging.getLogger("rtstyle").setLevel(level)
    # OpenCV would print lines of its own beside ours, and its idle threads would take cores from the network and the
    # encoder while they wait for work; it reads these when it is first imported.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "INFO" if args.verbose else "SILENT")
    for who in ("WORKER", "MAIN"):
        os.environ.setdefault(f"OPENCV_THREAD_POOL_ACTIVE_WAIT_{who}", "0")
    run: Callable[[argparse.Namespace], int] = args.run
    try:
        _interrupt_on_terminate()
        code = run(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read our output has gone
        return FAILED
    except (RtstyleError, OSError) as error:
        if args.verbose:
            logging.getLogger("rtstyle").exception("the whole story:")
        complain(error)
        return FAILED
    except KeyboardInterrupt as interrupt:
        print("; ".join(("rtstyle: interrupted", *getattr(interrupt, "__notes__", ()))), file=sys.stderr)
        return INTERRUPTED

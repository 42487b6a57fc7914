"""The command line: words become one library call. The only package that knows argparse, tqdm and exit codes."""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rtstyle import __version__
from rtstyle.cli.files import add_image, add_verify, add_video
from rtstyle.cli.live import add_devices, add_webcam
from rtstyle.cli.machine import add_doctor, add_engines, add_styles
from rtstyle.cli.options import (
    BACKEND_WORDS,
    DONE,
    FAILED,
    INTERRUPTED,
    PRECISION_WORDS,
    USAGE,
    Parser,
    UsageError,
    add_command,
)
from rtstyle.cli.talk import LineFormatter, complain, write
from rtstyle.cli.web import add_serve
from rtstyle.cores import RESTING_THREADS
from rtstyle.errors import RtstyleError

__all__ = ["BACKEND_WORDS", "PRECISION_WORDS", "main"]


EXAMPLES = """examples:
  rtstyle video in.mp4 out.mp4            a video file, nothing lost
  rtstyle image photo.jpg out.png         an image
  rtstyle webcam --style ink              live, in a window
  rtstyle help video                      all options of a command"""


def _build_parser() -> Parser:
    parser = Parser(
        prog="rtstyle", description="A webcam or a video in another style, live, with nothing lost.", epilog=EXAMPLES
    )
    parser.usage = "rtstyle COMMAND [options]"
    parser.add_argument("--version", action="version", version=f"rtstyle {__version__}", help="print the version")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=Parser, prog="rtstyle"
    )
    add_video(commands)
    add_image(commands)
    add_webcam(commands)
    add_devices(commands)
    add_serve(commands)
    add_styles(commands)
    add_verify(commands)
    add_engines(commands)
    add_doctor(commands)
    _add_completion(commands, parser)
    _add_help(commands, parser)
    return parser


def _add_completion(commands: Any, parser: Parser) -> None:
    """Add the command ``completion``."""
    about = add_command(
        commands,
        "completion",
        "print a script that completes commands in your shell",
        "Print a script that completes commands, options, styles and files in your shell.",
        "SHELL",
        {
            "bash > ~/.local/share/bash-completion/completions/rtstyle": "bash",
            "zsh > ~/.zfunc/_rtstyle": "zsh, with ~/.zfunc in fpath",
        },
    )
    about.add_argument("shell", metavar="SHELL", choices=("bash", "zsh", "tcsh"), help="bash, zsh or tcsh")

    def run(args: argparse.Namespace) -> int:
        from rtstyle.cli.completion import completion_script

        print(completion_script(parser, args.shell))
        return DONE

    about.set_defaults(run=run, verbose=False, quiet=False, json=False)


def _add_help(commands: Any, parser: Parser) -> None:
    """Add the command ``help``."""
    about = add_command(
        commands,
        "help",
        "explain a command",
        "Print what COMMAND --help prints.",
        "[COMMAND]",
        {"": "all commands", "video": "one of them"},
    )
    about.add_argument(
        "topic", metavar="COMMAND", nargs="?", choices=list(commands.choices), help="one of the commands"
    )

    def run(args: argparse.Namespace) -> int:
        (commands.choices[args.topic] if args.topic else parser).print_help()
        return DONE

    about.set_defaults(run=run, verbose=False, quiet=False, json=False)


def _open_standard_streams() -> set[int]:
    """Put the null device where a standard stream is closed, as by a service; return the numbers of those.

    Otherwise the next file that is opened has its number, and whatever is printed goes into that file.
    """
    closed = set()
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            closed.add(number)
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            closed.add(number)
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, it lasts as long as the process
    return closed


def _refuse_closed(args: argparse.Namespace, closed: set[int]) -> None:
    """Refuse ``-`` for a standard stream that is closed: a video would go nowhere."""
    if 1 in closed and str(getattr(args, "output", "")) == "-":
        raise UsageError("- is stdout, and that is closed: write a file, or open it")
    inputs = [str(place) for place in (getattr(args, "input", ""), *(getattr(args, "places", None) or ()))]
    if 0 in closed and "-" in inputs:
        raise UsageError("- is stdin, and that is closed: name a file, or open it")


def _interrupt_on_terminate() -> None:
    """Let SIGTERM end a run as Ctrl-C does: what is finished is kept."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)


def _parse(words: list[str]) -> argparse.Namespace:
    """Read the words. Options may stand between several IN and OUT, which argparse alone does not take.

    Raises:
        UsageError: They cannot be understood.
    """
    parser = _build_parser()
    words = [f"./{word}" if _is_file_name(word) else word for word in words]
    args, rest = parser.parse_known_args(words)
    if rest and args.command == "video" and not any(word.startswith("-") and word != "-" for word in rest):
        args.places, args.output = [*args.places, args.output, *rest[:-1]], rest[-1]
    elif rest:
        (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
        commands.choices[args.command].refuse(rest)
    return args


def _is_file_name(word: str) -> bool:
    """Whether a word that looks like an option is the name of a file: it exists, or ends as files do."""
    if not word.startswith("-") or "=" in word:
        return False
    return Path(word).is_file() or re.fullmatch(r"-[^-].*\.[A-Za-z][A-Za-z0-9]{1,4}", word) is not None


def _wants_object(args: argparse.Namespace) -> bool:
    """Whether a failure is printed as JSON: not where a video or image goes to stdout."""
    return args.json and str(getattr(args, "output", "")) != "-"


def main(argv: list[str] | None = None) -> int:
    """Run ``rtstyle`` with these words and return the exit code."""
    words = sys.argv[1:] if argv is None else argv
    closed = _open_standard_streams()
    try:
        args = _parse(words)
        _refuse_closed(args, closed)
    except UsageError as error:
        complain(error, as_json="--json" in words)
        return USAGE
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter("%(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO if args.verbose else logging.ERROR, handlers=[handler])
    level = logging.DEBUG if args.verbose else logging.WARNING if args.quiet else logging.INFO
    logging.getLogger("rtstyle").setLevel(level)
    for name, value in RESTING_THREADS.items():
        os.environ.setdefault(name, value)
    # OpenCV would print lines of its own beside ours; it reads these when it is first imported.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "INFO" if args.verbose else "SILENT")
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 27))  # a small file may ask for all memory
    run: Callable[[argparse.Namespace], int] = args.run
    try:
        _interrupt_on_terminate()
        code = run(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of our output has gone
        return FAILED
    except (RtstyleError, OSError) as error:
        if args.verbose:
            logging.getLogger("rtstyle").exception("the whole story:")
        complain(error, as_json=_wants_object(args))
        return FAILED
    except KeyboardInterrupt as interrupt:
        notes = getattr(interrupt, "__notes__", ())
        write("; ".join(("rtstyle: interrupted", *notes)), sys.stderr)
        if _wants_object(args):
            print(json.dumps({"error": "; ".join(("interrupted", *notes)), "type": "KeyboardInterrupt"}))
        return INTERRUPTED

"""Talking to people: lines and progress on stderr, tables and JSON on stdout."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

from rtstyle.errors import RtstyleError, reason_of

_LONGEST = 3000
"""Characters of the longest line; names and tags in files may be as long as their author likes."""

_MOST_WARNINGS = 20


def printable(text: str, longest: int = _LONGEST) -> str:
    """Return text as one harmless line: names and tags of strangers' files may hold terminal escapes and line ends.

    What cannot be printed is written as in Python (``\\x1b``, ``\\n``); the middle of a very long text is left out.
    """
    if len(text) > longest:
        text = f"{text[: longest * 3 // 4]} [...] {text[-longest // 5 :]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def write(line: str, file: TextIO | None = None) -> None:
    """Print a line: the one place from which text reaches a terminal.

    Args:
        file: The standard output if None.
    """
    stream = sys.stdout if file is None else file
    text = printable(line)
    try:
        print(text, file=stream, flush=True)
    except UnicodeEncodeError:  # a terminal that knows only ASCII
        code = stream.encoding or "ascii"
        print(text.encode(code, "backslashreplace").decode(code), file=stream, flush=True)


class LineFormatter(logging.Formatter):
    """Formats a record of a log as one harmless line; the traceback that --verbose asks for stays as it is."""

    def format(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter``."""
        copy = logging.makeLogRecord({**record.__dict__, "msg": printable(record.getMessage()), "args": None})
        return super().format(copy)


def say(message: str) -> None:
    """Print a line on stderr."""
    write(f"rtstyle: {message}", sys.stderr)


def warn(warnings: Sequence[str]) -> None:
    """Print warnings on stderr, the first of very many."""
    for warning in warnings[:_MOST_WARNINGS]:
        say(f"warning: {warning}")
    if len(warnings) > _MOST_WARNINGS:
        say(f"warning: and {len(warnings) - _MOST_WARNINGS} more, which --json lists")


def finish(args: argparse.Namespace, report: dict[str, Any], warnings: list[str], summary: str) -> None:
    """End a command: warnings and a summary on stderr, or the report as JSON on stdout."""
    warn(warnings)
    if args.json:
        print(json.dumps(report))
    elif not args.quiet:
        say(summary)


def print_table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print columns on stdout, each as wide as its widest cell; all but the last are cut at 40 letters."""
    rows = [tuple(map(printable, row)) for row in rows]
    rows = [(*(cell if len(cell) <= 40 else f"{cell[:37]}..." for cell in row[:-1]), row[-1]) for row in (heads, *rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


class ProgressBar:
    """A bar with ETA on a terminal, a line every few seconds elsewhere; on stderr."""

    _EVERY = 5.0

    def __init__(self, args: argparse.Namespace, unit: str) -> None:
        self._quiet, self._unit = args.quiet, unit
        self._bar: Any = None
        self._first: int | None = None
        self._begun = self._last = time.monotonic()

    def update(self, done: int, total: int | None, label: str) -> None:
        """Show how much is done; may be called for every frame."""
        if self._quiet:
            return
        if self._first is None:  # a resumed render begins in the middle
            self._first = max(0, done - 1)
        if sys.stderr.isatty():
            if self._bar is None:
                from tqdm import tqdm

                self._bar = tqdm(
                    total=total, initial=self._first, unit=f" {self._unit}", file=sys.stderr, dynamic_ncols=True
                )
            self._bar.set_description_str(printable(label, 200), refresh=False)
            self._bar.update(done - self._bar.n)
            return
        now = time.monotonic()
        if now - self._last >= self._EVERY:
            self._last = now
            rate = (done - self._first) / (now - self._begun)
            left = f", {max(0, total - done) / rate:.0f} s left" if total and rate else ""
            say(f"{done}{f' of {total}' if total else ''} {self._unit}, {rate:.1f} a second{left} ({label})")

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()


def complain(error: Exception, *, as_json: bool = False) -> None:
    """Print an error as one line on stderr, and with ``as_json`` as an object on stdout, too."""
    said = reason_of(error) if isinstance(error, OSError) and not isinstance(error, RtstyleError) else str(error)
    words = " ".join((said or str(error)).split("\n"))
    name = f": {error.filename}" if isinstance(error, OSError) and error.filename else ""
    notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
    write(f"rtstyle: error: {words}{name}{notes}", sys.stderr)
    if as_json:
        print(json.dumps({"error": f"{words}{name}{notes}", "type": type(error).__name__}), flush=True)

"""Talking to people: lines and progress on stderr, tables and JSON on stdout."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from rtstyle.errors import RtstyleError


def say(message: str) -> None:
    """Print a line for people on stderr."""
    print(f"rtstyle: {message}", file=sys.stderr, flush=True)


def finish(args: argparse.Namespace, report: dict[str, Any], warnings: list[str], summary: str) -> None:
    """End a command: warnings and a summary on stderr, or the report as JSON on stdout."""
    for warning in warnings:
        say(f"warning: {warning}")
    if args.json:
        print(json.dumps(report))
    elif not args.quiet:
        say(summary)


def print_table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print columns on stdout, each as wide as its widest cell; all but the last are cut at 40 letters."""
    rows = [(*(cell if len(cell) <= 40 else f"{cell[:37]}..." for cell in row[:-1]), row[-1]) for row in (heads, *rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


class Progress:
    """A bar with ETA on a terminal, a line every few seconds elsewhere; on stderr."""

    _EVERY = 5.0

    def __init__(self, args: argparse.Namespace, unit: str) -> None:
        self._quiet, self._unit = args.quiet, unit
        self._bar: Any = None
        self._first: int | None = None
        self._begun = self._last = time.monotonic()

    def update(self, done: int, total: int | None, label: str) -> None:
        """Tell how much is done; may be called for every frame."""
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
            self._bar.set_description_str(label, refresh=False)
            self._bar.update(done - self._bar.n)
            return
        now = time.monotonic()
        if now - self._last >= self._EVERY:
            self._last = now
            rate = (done - self._first) / (now - self._begun)
            left = f", {max(0, total - done) / rate:.0f} s left" if total else ""
            say(f"{done}{f' of {total}' if total else ''} {self._unit}, {rate:.1f} a second{left} ({label})")

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()


def complain(error: Exception, *, as_json: bool = False) -> None:
    """Print an error as one line on stderr, and with ``as_json`` as an object on stdout, too."""
    said = error.strerror if isinstance(error, OSError) and not isinstance(error, RtstyleError) else str(error)
    words = " ".join((said or str(error)).split("\n"))
    name = f": {error.filename}" if isinstance(error, OSError) and error.filename else ""
    notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
    print(f"rtstyle: error: {words}{name}{notes}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": f"{words}{name}{notes}", "type": type(error).__name__}), flush=True)

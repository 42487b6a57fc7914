"""Completion of the command line in shells, by shtab."""

from __future__ import annotations

import argparse

FILES = ("IN", "OUT", "FILE", "PHOTO", "SOURCE")
"""Metavars of arguments that are completed with files."""


def completion_script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return a script for a shell; ``parser`` is changed and serves for nothing else afterwards."""
    import shtab

    _prepare(parser)
    return str(shtab.complete(parser, shell))


def _prepare(parser: argparse.ArgumentParser) -> None:
    """Inform shtab which arguments are files and which are styles."""
    import shtab

    from rtstyle.style import list_styles

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                _prepare(inner)
        elif action.metavar in FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif "--style" in action.option_strings:
            action.choices = list_styles()

"""The command line as a page of the site and as a man page, made from argparse.

python docs/reference.py          writes docs/rtstyle.1, which the wheel installs
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from rtstyle import __version__
from rtstyle.cli import _build_parser

MAN = Path(__file__).with_name("rtstyle.1")

EXIT_CODES = {
    0: "Done.",
    1: "An error, printed as one line on standard error.",
    2: "The command line could not be parsed.",
    3: "Done, but the input was damaged.",
    130: "Interrupted. What was finished is kept.",
}


def parsers(parser: argparse.ArgumentParser | None = None) -> Iterator[argparse.ArgumentParser]:
    """Yield the parser of every command and action, depth first."""
    parser = parser or _build_parser()
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from parsers(inner)


def options(parser: argparse.ArgumentParser) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield each group of a parser that is not empty, with what is written for an option, and its help."""
    for group in parser._action_groups:
        rows = []
        for action in group._group_actions:
            if isinstance(action, argparse._SubParsersAction):
                rows += [(choice.dest, choice.help or "") for choice in action._choices_actions]
                continue
            value = action.metavar or ("{" + ",".join(map(str, action.choices)) + "}" if action.choices else "")
            if action.nargs == "?" and action.option_strings:
                value = f"[{value}]"
            words = ", ".join(action.option_strings)
            words = f"{words} {value}".strip() if action.nargs != 0 else words
            rows.append((words, (action.help or "") % {"default": action.default, "prog": parser.prog}))
        title = group.title or "options"
        if title == "positional arguments":
            inner = any(isinstance(action, argparse._SubParsersAction) for action in group._group_actions)
            title = "commands" if inner else "arguments"
        if rows:
            yield title, rows


def markdown() -> str:
    """Return the page: a section for each command."""
    lines = ["# Command line", "", "Options may be written before, between or after arguments.", ""]
    for parser in parsers():
        lines += [f"## {parser.prog}", "", parser.description or "", "", "```text", parser.usage or "", "```", ""]
        for title, rows in options(parser):
            name = {"commands": "Command", "arguments": "Argument"}.get(title, "Option")
            lines += [f"**{title.capitalize()}**", "", f"| {name} | Meaning |", "|---|---|"]
            lines += [f"| `{breakable(words)}` | {escaped(text)} |" for words, text in rows]
            lines += [""]
        if parser.epilog:
            examples = [line.strip() for line in parser.epilog.splitlines()[1:]]
            lines += ["**Examples**", "", "```sh", *examples_with_comments(examples), "```", ""]
    lines += ["## Exit codes", "", "| Code | Meaning |", "|---|---|"]
    lines += [f"| `{code}` | {meaning} |" for code, meaning in EXIT_CODES.items()]
    return "\n".join(lines) + "\n"


def breakable(words: str) -> str:
    """Return an option for a cell of a table that may be narrow: its choices are separated by spaces, too."""
    return re.sub(r"\{.*?\}", lambda choices: choices[0].replace(",", ", "), words).replace("|", "\\|")


def escaped(text: str) -> str:
    """Return help for a cell of a table."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def examples_with_comments(lines: list[str]) -> list[str]:
    """Return examples with their explanation as a shell comment."""
    pairs = [line.split("   ", 1) for line in lines]
    width = max(len(command) for command, _ in pairs)
    return [f"{command:{width}}  # {comment.strip()}" for command, comment in pairs]


def man() -> str:
    """Return the man page in the macros of man(7)."""
    lines = [f'.TH RTSTYLE 1 "" "rtstyle {__version__}" "User Commands"', ".SH NAME"]
    lines += ["rtstyle \\- stylize a webcam or a video in real time"]
    for number, parser in enumerate(parsers()):
        if number == 0:
            lines += [".SH SYNOPSIS", roff(parser.usage or ""), ".SH DESCRIPTION", roff(parser.description or "")]
        else:
            lines += [f".SH {roff(parser.prog).upper()}", ".B " + roff(parser.usage or ""), ".PP"]
            lines += [roff(parser.description or "")]
        for title, rows in options(parser):
            lines += [f".SS {title.capitalize()}"]
            for words, text in rows:
                lines += [".TP", f".B {roff(words)}", roff(text)]
        if parser.epilog:
            lines += [".SS Examples", ".nf", *(roff(line.strip()) for line in parser.epilog.splitlines()[1:]), ".fi"]
    lines += [".SH EXIT STATUS"]
    for code, meaning in EXIT_CODES.items():
        lines += [".TP", f".B {code}", meaning]
    return "\n".join(lines) + "\n"


def roff(text: str) -> str:
    """Escape what roff would take for markup."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


if __name__ == "__main__":
    MAN.write_text(man(), "utf-8")

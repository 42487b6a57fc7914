"""Count words of the glossary in the texts of the repository: python tests/words.py [FOLDER] prints each of them.

Texts are pages, comments, docstrings, messages and names of tests; code itself is none. FOLDER is a checkout (default:
the one of this file).
"""

from __future__ import annotations

import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

GLOSSARY = {
    r"pictures?": "frame (of a video), image (a still)",
    r"endings?": "extension",
    r"sounds?": "audio",
    r"films?": "video, clip",
    r"anew": "re-encoded, again, restarts",
    r"(?:goes|go|going|gone|went) on": "continues, resumes",
    r"page-locked": "pinned",
    r"(?:is|are) no numbers?": "NaN or infinite",
    r"(?:is|are|was|were|be|been) (?:told|said)|told apart": "is passed, reported, logged; distinguished",
    r"(?:some|any|no)body|whoever": "the caller, another process, a user, no user",
    r"for people|people (?:call|know|ask)": "what is shown, logged or printed; users",
    r"lends?|lent|hand(?:s|ed)? (?:over|out)": "returns a view; passes",
    r"aside": "in the background",
    r"hangs? (?:on|by)": "depends on",
    r"do(?:es)? not do": "is not supported",
    r"outlets?|rungs?|wish(?:es|ed)?|newest": "sink, quality level, request, latest",
    r"dear(?:er|est)?": "expensive",
    r"colou?rs? anew|colour\w*": "color",
}
"""Patterns of whole words, and what to write instead."""

NAMES = [
    r"Open Sound Control",
    r"\(sound\|video\|subtitle\|[^\n]*",  # names of handlers that programs write into mp4
]
"""Names of others, which stay."""

EXCEPT = {"train": r"pictures?"}
"""Folders in which a word is the right one: there, it is a work of art whose style is learned."""

CODE = r"``[^`]*``|`[^`\n]*`|^::: \S+|\$\{[^}]*\}|^ +\w+(?:, \w+)*: "
"""What is code in a text: names in backticks, and the parameters that a docstring describes."""

FOLDERS = (".github", "benchmarks", "docs", "engines", "examples", "rtstyle", "tests", "train")
LEFT_OUT = (("rtstyle", "styles"), ("tests", "words.py"), ("tests", "test_words.py"))
PAGES = (".md", ".yml", ".yaml", ".cff", ".ipynb", ".1")


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the texts of a file with their line numbers, without code in them."""
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        found = python_texts(text)
    elif path.suffix in (".js", ".css"):
        found = matches(r"//[^\n]*|/\*.*?\*/|\"(?:[^\"\\\n]|\\.)*\"|`[^`]*`", text)
    elif path.suffix == ".html":
        found = matches(r">[^<]+<|(?:alt|title|placeholder|aria-label)=\"[^\"]*\"", text)
    elif path.suffix == ".toml":
        found = matches(r"#[^\n]*", text)
    else:
        found = enumerate(text.split("\n"), 1)
    for line, each in found:
        yield line, re.sub(CODE, "", each)


def matches(pattern: str, text: str) -> Iterator[tuple[int, str]]:
    """Yield what a pattern finds, line by line; strings of one word are names."""
    for match in re.finditer(pattern, text, re.DOTALL):
        if " " not in match[0]:
            continue
        yield from enumerate(match[0].strip("`").split("\n"), text.count("\n", 0, match.start()) + 1)


def python_texts(text: str) -> Iterator[tuple[int, str]]:
    """Yield comments, strings of more than one word, and names of tests as sentences."""
    middle = getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        found = token.string
        if token.type == tokenize.NAME and found.startswith("test_"):
            found = found.replace("_", " ")
        elif token.type == tokenize.STRING:
            if re.match(r"[rR]?[fF]", found):
                found = re.sub(r"\{[^{}]*\}", "{}", found)
            if not (re.search(r"\s", found.strip()) or found.endswith('"""')):
                continue
        elif token.type not in (tokenize.COMMENT, middle):
            continue
        yield from enumerate(found.split("\n"), token.start[0])


def files(root: Path) -> Iterator[Path]:
    """Yield the files of a checkout that hold texts, without those of shipped styles and of this glossary."""
    kinds = (".py", ".js", ".css", ".html", ".toml", *PAGES)
    places = [*root.glob("*"), *(path for folder in FOLDERS for path in (root / folder).rglob("*"))]
    for path in sorted(places):
        inside = path.relative_to(root).parts
        if path.suffix in kinds and path.is_file() and inside[:2] not in LEFT_OUT:
            yield path


def count(root: Path) -> list[str]:
    """Return each word of the glossary in a checkout: its place, its line, and what to write instead."""
    name = re.compile("|".join(NAMES), re.IGNORECASE)
    words = re.compile("|".join(rf"\b({pattern})\b" for pattern in GLOSSARY), re.IGNORECASE)
    write = list(GLOSSARY.values())
    found = []
    for path in files(root):
        place = path.relative_to(root)
        allowed = EXCEPT.get(place.parts[0])
        for line, text in texts(path):
            for match in words.finditer(name.sub("", text)):
                if not (allowed and re.fullmatch(allowed, match[0], re.IGNORECASE)):
                    better = write[(match.lastindex or 1) - 1]
                    found.append(f"{place}:{line}: {match[0]!r} in {text.strip()[:100]!r}; write: {better}")
    return found


def main() -> None:
    """Print each word of the glossary that is in the texts, and how many there are."""
    found = count(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1])
    print(*found, sep="\n")
    print(len(found), "words of the glossary")


if __name__ == "__main__":
    main()

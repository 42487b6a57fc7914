"""Texts speak plain technical English: words that the glossary replaces do not come back."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "rtstyle"

GLOSSARY = {
    r"somebody|anybody|nobody|whoever": "the caller, another process, no user",
    r"page-locked": "pinned",
    r"anew": "re-encoded, again, restarts",
    r"(?:is|are|was) told|told apart": "is passed, notified, logged; distinguished",
    r"(?:is|are) no number": "NaN or infinite",
    r"hangs? on": "depends on",
    r"for people": "what is shown, logged or printed",
    r"lends|aside": "returns a view; in the background",
    r"does not do": "is not supported",
    r"outlets?": "sink",
}
"""Patterns of whole words, and what to write instead."""

ELSEWHERE = {"canvas", "generator.py"}
"""Rooms that are being rewritten."""


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the comments and strings of a module, or the lines of a page, with their line numbers."""
    if path.suffix != ".py":
        yield from enumerate(path.read_text("utf-8").splitlines(), 1)
        return
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    for token in tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline):
        if token.type in kinds:
            yield token.start[0], token.string


@pytest.mark.parametrize("pattern", GLOSSARY)
def test_texts_use_the_words_of_the_field(pattern):
    word = re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE)
    paths = [path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".js", ".html")]
    assert len(paths) > 100
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {text.strip()[:80]!r}; write: {GLOSSARY[pattern]}"
        for path in paths
        if not ELSEWHERE & {*path.relative_to(PACKAGE).parts}
        for line, text in texts(path)
        if word.search(text)
    ]
    assert found == []


def test_a_word_of_the_glossary_is_found_in_each_kind_of_text(tmp_path):
    module = tmp_path / "module.py"
    module.write_text('"""Nobody."""\nx = "whoever"  # somebody\ny = f"{x} anybody"\n')
    word = re.compile(next(iter(GLOSSARY)), re.IGNORECASE)
    assert [line for line, text in texts(module) if word.search(text)] == [1, 2, 2, 3]

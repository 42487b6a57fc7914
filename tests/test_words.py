"""Texts speak plain technical English: words that the glossary replaces do not come back."""

from pathlib import Path

import pytest
from words import FOLDERS, GLOSSARY, count, files, texts

ROOT = Path(__file__).parents[1]


def test_texts_use_the_words_of_the_field():
    read = list(files(ROOT))
    assert len(read) > 300
    assert {path.relative_to(ROOT).parts[0] for path in read} >= {
        *FOLDERS,
        "README.md",
        "CHANGELOG.md",
        "pyproject.toml",
    }
    assert count(ROOT) == []


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        (
            "a.py",
            '"""Nobody."""\n\n"""Of\nnobody."""\nx = "to whoever"  # somebody\ny = f"{x} anybody {nobody}"\n',
            [1, 4, 5, 5, 6],
        ),
        ("a.py", 'film = "film"\n\ndef test_a_film(): ...\n', [3]),
        ("a.py", 'def f(sound):\n    """Play ``sound``.\n\n    Args:\n        sound: A sound.\n    """\n', [5]),
        ("a.md", "The `picture` of a\n\nPicture, and Open Sound Control.\n", [3]),
        ("a.js", 'const sound = $("sound"); // a sound\nlet x = `no ${sound}`, y = "a sound";\n', [1, 2]),
        ("a.html", '<p id="film" title="a film">one\ntwo films</p>\n', [1, 2]),
        ("a.toml", 'film = "film"  # a film\n', [1]),
    ],
)
def test_words_are_found_in_texts_and_not_in_code(name, text, lines, tmp_path):
    (tmp_path / name).write_text(text)
    assert [int(word.split(":")[1]) for word in count(tmp_path)] == lines


def test_a_picture_is_a_work_of_art_where_styles_are_learned(tmp_path):
    for folder in ("train", "docs"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.md").write_text("A picture, and anew.\n")
    found = [word.split(" in ")[0] for word in count(tmp_path)]
    assert found == ["docs/a.md:1: 'picture'", "docs/a.md:1: 'anew'", "train/a.md:1: 'anew'"]
    assert len(GLOSSARY) > 15
    assert next(iter(texts(tmp_path / "docs/a.md"))) == (1, "A picture, and anew.")

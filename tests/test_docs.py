"""The documentation says what is so: every link leads somewhere, every name and option has its place."""

import ast
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import make_clip

import rtstyle
from rtstyle.cli import _parse
from rtstyle.cli.options import UsageError

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def reference():
    """The module that makes the pages of the command line."""
    spec = importlib.util.spec_from_file_location("docs_reference", DOCS / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").split()) <= 900


def test_every_link_of_the_readme_leads_to_a_file():
    targets = re.findall(r"\]\(([^)#]+)", (ROOT / "README.md").read_text("utf-8"))
    assert len(targets) > 15
    for target in targets:
        assert (ROOT / target).exists(), target


def test_every_public_name_is_in_the_reference():
    described = re.findall(r"^::: rtstyle\.(\w+)$", (DOCS / "reference" / "api.md").read_text("utf-8"), re.M)
    assert sorted(described) == sorted(set(rtstyle.__all__) - {"__version__"})


def test_every_option_is_in_the_reference_and_the_man_page():
    made = reference()
    page, man = made.markdown(), made.man()
    assert man == made.MAN.read_text("utf-8"), "run: python docs/reference.py"
    for parser in made.parsers():
        assert f"## {parser.prog}\n" in page
        for action in parser._actions:
            for option in action.option_strings:
                assert f"`{option}" in page or f", {option}" in page
                assert option.replace("-", "\\-") in man


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.relative_to(DOCS)))
def test_python_in_the_documentation_is_python_that_names_what_there_is(page):
    for block in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.S):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module == "rtstyle":
                assert {alias.name for alias in node.names} <= set(rtstyle.__all__)


RUN = (ROOT / "README.md", DOCS / "quickstart.md", DOCS / "guides" / "python.md")


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_programs_in_the_documentation_run(page, tmp_path, monkeypatch, capsys):
    image = np.full((48, 64, 3), 120, np.uint8)
    cv2.imwrite(str(tmp_path / "photo.jpg"), image)
    make_clip(tmp_path / "in.mp4", times=range(4))
    monkeypatch.chdir(tmp_path)
    names = {"image": image, "draw": lambda number: np.full((360, 640, 3), number, np.uint8), "use": print}
    blocks = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.S)
    for block in blocks:
        if "VideoCapture(0)" not in block:  # which needs a camera and a window
            exec(block.replace("range(100)", "range(3)"), names)
            for output in tmp_path.glob("out*"):
                output.unlink()
    assert blocks


def commands_of(text: str) -> list[list[str]]:
    """The commands of a page: in blocks of shell, and in indented ones."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.S) + re.findall(r"^    .*$", text, re.M)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    words = [shlex.split(re.split(r" [|<>] ", line)[0], comments=True) for line in lines if line.startswith("rtstyle ")]
    return [each[1:] for each in words if "..." not in each]


def test_commands_in_the_documentation_are_understood():
    found = 0
    for page in (ROOT / "README.md", *DOCS.rglob("*.md")):
        for words in commands_of(page.read_text("utf-8")):
            try:
                _parse(words)
            except UsageError as error:
                raise AssertionError(f"{page.name}: rtstyle {shlex.join(words)}: {error}") from error
            found += 1
    assert found > 30


class Links(HTMLParser):
    """What a page links to, and what it can be linked by."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.names: set[str] = set()
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.names |= {value for key in ("id", "name") if (value := found.get(key))}
        self.targets += [value for key in ("href", "src") if (value := found.get(key))]


def test_the_site_is_built_and_every_link_in_it_leads_somewhere(tmp_path):
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install '.[docs]'")
    pytest.importorskip("mkdocstrings", reason="mkdocstrings is not installed: pip install '.[docs]'")
    pytest.importorskip("material", reason="mkdocs-material is not installed: pip install '.[docs]'")
    site = tmp_path / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {page: Links(page) for page in site.rglob("*.html") if page.name != "404.html"}
    assert len(pages) > 30
    checked = 0
    for page, links in pages.items():
        for target in links.targets:
            path, _, anchor = target.partition("#")
            if re.match(r"[a-z]+:", target) or path.startswith("/"):
                continue
            place = (page.parent / path.partition("?")[0]).resolve() if path else page
            place = place / "index.html" if place.is_dir() else place
            assert place.exists(), f"{page.relative_to(site)} links to {target}"
            if anchor and place in pages and not anchor.startswith("__"):
                assert anchor in pages[place].names, f"{page.relative_to(site)} links to {target}"
            checked += 1
    assert checked > 1000
    api = (site / "reference" / "api" / "index.html").read_text("utf-8")
    for name in set(rtstyle.__all__) - {"__version__"}:
        assert f'id="rtstyle.{name}"' in api

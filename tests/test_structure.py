"""The structure of the package stays within its bounds; ``python tests/structure.py`` prints all of its measures."""

from pathlib import Path

import pytest
from structure import Structure

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def structure():
    return Structure(ROOT)


def test_modules_import_each_other_in_no_circle(structure):
    assert len(structure.imports) > 100
    assert structure.circles == []


def test_a_name_is_defined_once(structure):
    assert structure.twice == {}


def test_functions_fit_on_a_screen(structure):
    assert structure.long == []


def test_signatures_are_readable(structure):
    assert len(structure.functions) > 2000
    assert structure.wide == []


def test_every_exported_name_is_in_the_reference(structure):
    assert structure.unreferenced == set()


def test_measures_find_what_they_are_for(tmp_path):
    package = tmp_path / "rtstyle"
    (package / "room").mkdir(parents=True)
    (tmp_path / "docs/reference").mkdir(parents=True)
    (package / "__init__.py").write_text("from rtstyle.one import Kind as Kind\nfrom rtstyle.one import made as made\n")
    (package / "one.py").write_text(
        "import rtstyle.room.two\nKind = int\nLIMIT = 1\ndef made():\n" + "    x = 1\n" * 60 + "def _own(): ...\n"
    )
    (package / "room/__init__.py").write_text("")
    (package / "room/two.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from rtstyle import three\nKind = str\nLIMIT = 2\n"
        "class Wide:\n    def __init__(self, a, b, c, d, e, f, g, /, h, *, i): ...\n"
        "def _own():\n    from rtstyle.one import made\n"
    )
    (package / "three.py").write_text("from rtstyle.one import made\nimport rtstyle.room\n")
    (tmp_path / "docs/reference/api.md").write_text("::: rtstyle.made\n")
    (tmp_path / "README.md").write_text("three words here\n")

    found = Structure(tmp_path)

    assert found.rooms == {"one", "room", "three"}
    assert found.arrows == {("one", "room"), ("room", "one"), ("three", "one"), ("three", "room")}
    assert found.circles == [["rtstyle.one", "rtstyle.room.two"]]
    assert found.twice == {"Kind": ["rtstyle.one", "rtstyle.room.two"], "_own": ["rtstyle.one", "rtstyle.room.two"]}
    assert found.long == ["rtstyle.one:4 made: 61 lines"]
    assert found.wide == ["rtstyle.room.two:7 __init__: 9 parameters"]
    assert found.unreferenced == {"Kind"}
    table = dict(found.table())
    assert (table["words of the README"], table["public names defined twice"]) == (3, 1)
    assert table["lines of rtstyle/"] == 2 + 65 + 9 + 2

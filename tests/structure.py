"""Measure the structure of the repository: python tests/structure.py [FOLDER] prints a table.

FOLDER is a checkout of the repository (default: the one of this file), so that two commits are measured the same way.
Only the source text is read; nothing of the checkout is imported.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import words

MAX_LINES = 60
"""Lines that a function has at most, from its `def` to its last statement."""

MAX_PARAMETERS = 8
"""Parameters that a signature has at most, without `self` and `cls`."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Structure:
    """What is measured of one checkout. Modules are named by their full dotted path."""

    root: Path
    trees: dict[str, ast.Module] = field(init=False)

    def __post_init__(self) -> None:
        self.trees = {}
        for path in sorted((self.root / "rtstyle").rglob("*.py")):
            name = ".".join(path.relative_to(self.root).with_suffix("").parts)
            self.trees[name.removesuffix(".__init__")] = ast.parse(path.read_text("utf-8"))

    @cached_property
    def imports(self) -> dict[str, set[str]]:
        """The modules of the package that each module imports, in functions too, for type checkers not."""
        return {name: set(self._imported(tree)) - {name} for name, tree in self.trees.items()}

    def _imported(self, tree: ast.Module) -> Iterator[str]:
        for node in run_time(tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            for name in names:
                while name and name not in self.trees:
                    name = name.rpartition(".")[0]
                if name:
                    yield name

    @cached_property
    def rooms(self) -> set[str]:
        """Packages and modules directly below `rtstyle`."""
        return {room(name) for name in self.trees} - {"rtstyle"}

    @cached_property
    def arrows(self) -> set[tuple[str, str]]:
        """Pairs of rooms of which the first imports the second."""
        pairs = {(room(name), room(other)) for name, others in self.imports.items() for other in others}
        return {(a, b) for a, b in pairs if a != b and "rtstyle" not in (a, b)}

    @cached_property
    def circles(self) -> list[list[str]]:
        """Groups of modules that import each other, directly or through others."""
        reached = {name: self._reach(name) for name in self.trees}
        groups = {
            frozenset(other for other in reached[name] if name in reached[other])
            for name in self.trees
            if name in reached[name]
        }
        return sorted(sorted(group) for group in groups)

    def _reach(self, start: str) -> set[str]:
        found: set[str] = set()
        waiting = list(self.imports[start])
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += self.imports[name]
        return found

    @cached_property
    def twice(self) -> dict[str, list[str]]:
        """Functions, classes and type names that more than one module defines, with these modules."""
        found = defaultdict(list)
        for name, tree in self.trees.items():
            for defined in sorted(set(definitions(tree))):
                found[defined].append(name)
        return {name: modules for name, modules in sorted(found.items()) if len(modules) > 1}

    @cached_property
    def functions(self) -> list[tuple[str, Function]]:
        """Every function and method, with the name that messages give it."""
        return [
            (f"{name}:{node.lineno} {node.name}", node)
            for name, tree in self.trees.items()
            for node in ast.walk(tree)
            if isinstance(node, Function)
        ]

    @cached_property
    def long(self) -> list[str]:
        """Functions of more than MAX_LINES lines."""
        return [f"{name}: {lines(node)} lines" for name, node in self.functions if lines(node) > MAX_LINES]

    @cached_property
    def wide(self) -> list[str]:
        """Signatures of more than MAX_PARAMETERS parameters."""
        return [f"{name}: {width(node)} parameters" for name, node in self.functions if width(node) > MAX_PARAMETERS]

    @cached_property
    def lines(self) -> int:
        """Lines of Python in the package."""
        return sum(len(path.read_text("utf-8").splitlines()) for path in (self.root / "rtstyle").rglob("*.py"))

    @cached_property
    def readme(self) -> int:
        """Words of the README."""
        return len((self.root / "README.md").read_text("utf-8").split())

    @cached_property
    def unreferenced(self) -> set[str]:
        """Exported names that the reference of the API does not describe."""
        exported = {
            alias.asname or alias.name
            for node in ast.walk(self.trees["rtstyle"])
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rtstyle.")
            for alias in node.names
        }
        page = (self.root / "docs/reference/api.md").read_text("utf-8")
        return exported - set(re.findall(r"^::: rtstyle\.(\w+)$", page, re.MULTILINE))

    def table(self) -> list[tuple[str, int]]:
        """Return each measure with its name."""
        public = [name for name in self.twice if not name.startswith("_")]
        return [
            ("rooms", len(self.rooms)),
            ("arrows between rooms", len(self.arrows)),
            ("circles of modules", len(self.circles)),
            ("names defined twice", len(self.twice)),
            ("public names defined twice", len(public)),
            (f"functions of more than {MAX_LINES} lines", len(self.long)),
            ("lines of the longest function", max(lines(node) for _, node in self.functions)),
            (f"signatures of more than {MAX_PARAMETERS} parameters", len(self.wide)),
            ("parameters of the widest signature", max(width(node) for _, node in self.functions)),
            ("lines of rtstyle/", self.lines),
            ("words of the README", self.readme),
            ("exported names without reference", len(self.unreferenced)),
            ("words of the glossary in texts", len(words.count(self.root))),
        ]


def room(module: str) -> str:
    """Return the name below `rtstyle` of the package, or else the module, that a module belongs to."""
    return ".".join(module.split(".")[1:2]) or "rtstyle"


def run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a module without those under `if TYPE_CHECKING`."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def definitions(tree: ast.Module) -> Iterator[str]:
    """Yield the names of the functions, classes and types (`Kind = Literal[...]`) that a module defines."""
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            yield from (name for name in names if re.fullmatch(r"_?[A-Z]\w*[a-z]\w*", name))


def lines(function: Function) -> int:
    """Return the lines of a function, from its `def` to its last statement."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def width(function: Function) -> int:
    """Return the parameters of a signature, without `self` and `cls`."""
    given = function.args
    names = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    names += [argument.arg for argument in (given.vararg, given.kwarg) if argument]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def main() -> None:
    """Print the table, and what stands behind every number that should be 0."""
    structure = Structure(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1])
    for name, value in structure.table():
        print(f"{name:42} {value:6}")
    for circle in structure.circles:
        print("circle:", " ".join(circle))
    for name, modules in structure.twice.items():
        print(f"twice: {name:24} {' '.join(module.removeprefix('rtstyle.') for module in modules)}")
    for text in (*structure.long, *structure.wide):
        print(text)


if __name__ == "__main__":
    main()

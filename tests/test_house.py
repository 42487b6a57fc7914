"""The house keeps its order: what loads what, who imports whom, and what every function says of itself."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rtstyle

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "rtstyle"

HEAVY = (
    "torch",
    "tensorrt",
    "openvino",
    "cv2",
    "av",
    "onnx",
    "onnxruntime",
    "pygame",
    "tqdm",
    "aiohttp",
    "simplejpeg",
    "shtab",
)
LINT = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"


def modules() -> dict[str, Path]:
    """Every module by its name below ``rtstyle``."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


# -- what is loaded --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "action",
    [
        "import rtstyle",
        "import rtstyle; rtstyle.Size, rtstyle.Controls, rtstyle.load_style, rtstyle.list_styles()",
        "from rtstyle.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
        "from rtstyle.cli import main\ntry: main(['video', '--help'])\nexcept SystemExit: pass",
        "from rtstyle.cli import main\ntry: main(['serve', '--help'])\nexcept SystemExit: pass",
        "from rtstyle.cli import main; main(['styles'])",
    ],
)
def test_what_only_talks_loads_no_heavy_library(action):
    code = f"{action}\nimport sys; print(*(name for name in {HEAVY} if name in sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stderr.strip() == ""


def test_everything_that_is_promised_can_be_imported():
    for name in rtstyle.__all__:
        assert getattr(rtstyle, name) is not None
    assert set(rtstyle.__all__) == set(dir(rtstyle))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = rtstyle.nothing


def test_type_checkers_know_the_same_names():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    told = {
        alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names
        if (node.module or "").startswith("rtstyle.")
    }  # fmt: skip
    assert told == set(rtstyle.__all__) - {"__version__"}
    assert (PACKAGE / "py.typed").is_file()


# -- who imports whom ------------------------------------------------------------------------------


def test_imports_go_one_way():
    """The contracts are in pyproject.toml; that torch, argparse and sys.exit stay in their rooms is a rule of ruff."""
    pytest.importorskip("importlinter")
    checked = subprocess.run([sys.executable, "-c", LINT], capture_output=True, text=True, cwd=ROOT)
    assert checked.returncode == 0, checked.stdout


# -- what is written -------------------------------------------------------------------------------


def promised_methods() -> set[str]:
    """Methods that a Protocol documents: implementations need not say it again."""
    names = set()
    for path in modules().values():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "Protocol" for base in node.bases):
                names |= {f.name for f in node.body if isinstance(f, ast.FunctionDef) and ast.get_docstring(f)}
    return names


def test_every_public_function_and_class_has_a_docstring():
    promised = promised_methods()
    assert {"submit", "next", "close", "stylize", "write"} <= promised
    missing = []
    for name, path in modules().items():
        tree = ast.parse(path.read_text("utf-8"))
        if not ast.get_docstring(tree):
            missing.append(name)
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                if not ast.get_docstring(node):
                    missing.append(f"{name}.{node.name}")
                for method in node.body if isinstance(node, ast.ClassDef) else ():
                    if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                        decorators = [ast.unparse(decorator) for decorator in method.decorator_list]
                        known = method.name in promised or any("property" in d or ".setter" in d for d in decorators)
                        if not known and not ast.get_docstring(method):
                            missing.append(f"{name}.{node.name}.{method.name}")
    assert missing == []


def test_no_settings_travel_unnamed():
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.Lambda):
                assert node.args.kwarg is None, f"{name} takes **{node.args.kwarg.arg}"


def project_files() -> list[Path]:
    """Everything that was written by hand: what git keeps, where git is; else what lies in the known folders."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], capture_output=True, text=True, cwd=ROOT
    )
    names = listed.stdout.splitlines() if listed.returncode == 0 else []
    folders = ("rtstyle", "tests", "train", "engines", "benchmarks", "docs")
    paths = [ROOT / name for name in names] or [path for folder in folders for path in (ROOT / folder).rglob("*")]
    kept = {".py", ".toml", ".md", ".json", ".yml", ".yaml", ".txt", ".sh", ".cfg", ""}
    return [path for path in paths if path.is_file() and path.suffix in kept and path.stat().st_size < 1_000_000]


def test_no_file_names_a_place_on_somebodys_machine():
    # Put together here, so that this file does not name one itself.
    places = [r"/" + "work" + r"/\w", r"/" + r"home/\w", r"/" + r"Users/\w", r"[A-Z]:\\" + r"Users", r"/" + r"root/\w"]
    pattern = re.compile("|".join(rf"(?<![\w.]){place}" for place in places))
    found = []
    for path in project_files():
        for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1):
            if pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert len(project_files()) > 30
    assert found == []


def test_there_is_no_drawer_for_odds_and_ends():
    folders = ("rtstyle", "train", "engines", "tests", "benchmarks")
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        assert path.stem not in ("utils", "util", "helpers", "common", "misc"), path

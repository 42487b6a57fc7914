"""What is published: metadata, links that work on PyPI, one version everywhere, completion in shells."""

import email
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from setuptools import find_packages

import rtstyle

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def metadata(tmp_path_factory) -> email.message.Message:
    """The metadata of the wheel, made by the build backend from a copy of what it reads."""
    copy = tmp_path_factory.mktemp("copy")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "NOTICE.md", "MANIFEST.in", "CHANGELOG.md"):
        shutil.copy(ROOT / name, copy)
    (copy / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "rtstyle.1", copy / "docs")
    shutil.copytree(ROOT / "rtstyle", copy / "rtstyle", ignore=shutil.ignore_patterns("styles", "__pycache__"))
    code = "from setuptools import build_meta; print(build_meta.prepare_metadata_for_build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=copy)
    assert done.returncode == 0, done.stderr
    (found,) = copy.glob("*.dist-info/METADATA")
    return email.message_from_string(found.read_text("utf-8"))


def test_the_long_description_links_to_the_repository_and_nowhere_else(metadata):
    text = metadata.get_payload()
    assert metadata["Description-Content-Type"] == "text/markdown"
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert len(targets) > 20
    source = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Source"]
    for target in targets:
        assert target.startswith((f"{source}/raw/main/", f"{source}/blob/main/"))
        assert (ROOT / target.partition("/main/")[2]).exists()
    images = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    assert len(images) == 2
    assert all("/raw/" in image for image in images)


def test_the_metadata_says_where_everything_is(metadata):
    assert metadata["Version"] == rtstyle.__version__
    urls = {line.partition(",")[0] for line in metadata.get_all("Project-URL")}
    assert urls == {"Homepage", "Documentation", "Source", "Issues", "Changelog"}
    classifiers = metadata.get_all("Classifier")
    for python in ("3.11", "3.12", "3.13"):
        assert f"Programming Language :: Python :: {python}" in classifiers
    assert set(metadata.get_all("License-File")) == {"LICENSE", "NOTICE.md"}


def test_the_version_is_the_same_everywhere():
    version = rtstyle.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    released = re.findall(r"^## \[(\d[^]]*)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert released[0] == version
    assert f'"rtstyle {version}"' in (ROOT / "docs" / "rtstyle.1").read_text()


def test_every_module_and_data_file_is_in_the_wheel():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    packages = {
        Path(*name.split(".")) for name in find_packages(str(ROOT), include=setuptools["packages"]["find"]["include"])
    }
    data = {path for pattern in setuptools["package-data"]["rtstyle"] for path in (ROOT / "rtstyle").glob(pattern)}
    listed = subprocess.run(["git", "ls-files", "rtstyle"], capture_output=True, text=True, cwd=ROOT)
    if listed.returncode:
        pytest.skip("no git to list the files that belong here")
    missing = [
        name
        for name in listed.stdout.splitlines()
        if (ROOT / name) not in data and not (name.endswith(".py") and Path(name).parent in packages)
    ]
    assert missing == []


def test_issue_forms_ask_for_what_the_doctor_says():
    for name in ("bug.yml", "gpu.yml"):
        text = (ROOT / ".github" / "ISSUE_TEMPLATE" / name).read_text()
        assert "rtstyle doctor --json" in text


COMPLETIONS = {
    "rtstyle vi": {"video"},
    "rtstyle engines bu": {"build"},
    "rtstyle image --keep": {"--keep-colors", "--keep-face"},
    "rtstyle video --style s": {"sketch", "starry_night"},
    "rtstyle webcam --preview b": {"browser"},
}


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
def test_bash_completes_commands_options_and_styles(tmp_path):
    script = subprocess.run(
        [sys.executable, "-m", "rtstyle", "completion", "bash"], capture_output=True, text=True, cwd=ROOT, check=True
    ).stdout
    (tmp_path / "rtstyle").write_text(script)
    tries = "\n".join(
        f"COMP_WORDS=({words}); COMP_CWORD={len(words.split()) - 1}; COMPREPLY=(); _shtab_rtstyle; "
        f'echo "${{COMPREPLY[@]}}"'
        for words in COMPLETIONS
    )
    done = subprocess.run(
        ["bash", "-c", f"source {tmp_path}/rtstyle\n{tries}"], capture_output=True, text=True, check=True
    )
    found = [set(line.split()) for line in done.stdout.splitlines()]
    assert found == list(COMPLETIONS.values())


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_get_a_script_too(shell, capsys):
    from rtstyle.cli import main

    assert main(["completion", shell]) == 0
    assert "rtstyle" in capsys.readouterr().out

"""What mkdocs does beside its own: pages that are made from code or lie beside it, and links between them."""

from __future__ import annotations

import re
import sys
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import Any

from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File, Files

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS)]

import reference  # noqa: E402  (it lies beside this file, which is no package)

PLACES = {
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "NOTICE.md": "project/notice.md",
    "SECURITY.md": "project/security.md",
    "benchmarks/README.md": "figures/benchmarks.md",
    "engines/README.md": "background/engines.md",
    "train/README.md": "background/training.md",
}
"""Documents outside docs/, and where they are on the site."""

ORIGINS = {site: source for source, site in PLACES.items()}

log = get_plugin_logger("rtstyle")


def on_files(files: Files, *, config: Any) -> Files:
    """Add what lies elsewhere and what is made."""
    for source, site in PLACES.items():
        files.append(File.generated(config, site, abs_src_path=str(ROOT / source)))
        for image in re.findall(r"!\[[^]]*\]\((?!https?:)([^)]+)\)", (ROOT / source).read_text("utf-8")):
            path = normpath(str(PurePosixPath(source).parent / image))
            if not path.startswith("docs/"):
                files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    files.append(File.generated(config, "reference/cli.md", content=reference.markdown()))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Turn links into the repository, which are right where a document lies, into links of the site."""
    here = page.file.src_uri
    origin = PurePosixPath(ORIGINS.get(here, f"docs/{here}")).parent

    def turned(match: re.Match[str]) -> str:
        target, mark, anchor = match[2].partition("#")
        if not target or re.match(r"[a-z]+:", target):
            return match[0]
        path = normpath(str(origin / target))
        site = PLACES.get(path) or path.removeprefix("docs/")
        if files.get_file_from_path(site):
            return f"{match[1]}({relpath(site, str(PurePosixPath(here).parent))}{mark}{anchor})"
        if not (ROOT / path).exists():
            log.warning("%s links to %s, which is not there", here, path)
        return f"{match[1]}({config.repo_url}/blob/main/{path}{mark}{anchor})"

    return re.sub(r"(\[[^][]*(?:\[[^]]*\][^][]*)?\])\(([^)\s]+)\)", turned, markdown)

"""What pyproject.toml cannot say: PyPI shows README outside the repository, so its links become absolute."""

import re
import tomllib
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
BASE = tomllib.loads((HERE / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Source"]


def absolute(match: re.Match[str]) -> str:
    """Turn a link into the repository: images raw, everything else as a page."""
    image, text, target = match.groups()
    if re.match(r"[a-z]+:|#", target):
        return match[0]
    return f"{image}[{text}]({BASE}/{'raw' if image else 'blob'}/main/{target})"


setup(
    long_description=re.sub(r"(!?)\[([^]]*)\]\(([^)]+)\)", absolute, (HERE / "README.md").read_text("utf-8")),
    long_description_content_type="text/markdown",
)

"""Prints pip's constraints for the oldest packages that pyproject.toml allows: is what it says true?

python -m venv /tmp/oldest && python tests/lowest.py > /tmp/oldest/constraints.txt
/tmp/oldest/bin/pip install -c /tmp/oldest/constraints.txt -e '.[test]' torch && /tmp/oldest/bin/python -m pytest
"""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
for requirement in (*project["dependencies"], *project["optional-dependencies"]["test"]):
    if match := re.match(r"([\w-]+)>=([\d.]+)", requirement):
        name, version = match.groups()
        if name not in ("mypy", "ruff"):  # they judge the code, and new ones know more
            print(f"{name}=={version if '.' in version else f'{version}.0'}.*")

"""An interrupted render goes on only with what it was begun with: the same input, style, settings and engine."""

from __future__ import annotations

import json
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtstyle.backends import BackendChoice, Precision
from rtstyle.errors import SettingError
from rtstyle.style import TRUNK, Style

if TYPE_CHECKING:
    from rtstyle.video.journal import Journal


def digest_of(style: Style) -> str:
    """Return what tells a style's weights from others."""
    digest = blake2b(digest_size=16)
    for folder, share in style.folders:
        digest.update((folder / TRUNK).read_bytes())
        digest.update(str(share).encode())
    return digest.hexdigest()


def refuse_other(journal: Journal, asked: dict[str, Any], target: Path) -> None:
    """Compare what is asked with what an interrupted render was made with."""
    for name, now in json.loads(json.dumps(asked)).items():
        then = journal.settings.get(name)
        if then != now:
            raise SettingError(
                f"cannot resume {target}: {name} was {json.dumps(then)} and is {json.dumps(now)} now; "
                "give the same again, or -y (--overwrite) without --resume to begin anew"
            )


def same_engine(
    journal: Journal, backend: BackendChoice, precision: Precision, target: Path
) -> tuple[BackendChoice, Precision]:
    """Return the engine that an interrupted render was made with: another one gives other pictures."""
    had: tuple[BackendChoice, Precision] = journal.settings["backend"], journal.settings["precision"]
    for asked, then in zip((backend, precision), had, strict=True):
        if asked not in ("auto", then):
            raise SettingError(f"cannot resume {target} with {asked}: it was begun with {' '.join(had)}")
    return had

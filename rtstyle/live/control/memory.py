"""What a session used last, kept for the next one where that is asked for."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import platformdirs

from rtstyle.actions import Command, SessionState, check_names, read_command, value_of

_WORDS = (
    "style", "strength", "color_strength", "split", "size_class", "fade", "stroke_size", "hold", "deflicker", "mirror",
)  # fmt: skip


def memory_file() -> Path:
    """Return the file in the user's own folder of states."""
    return Path(platformdirs.user_state_dir("rtstyle", appauthor=False)) / "live.json"


def remember(state: SessionState, path: Path) -> None:
    """Write what is in use. Nothing is written where the folder cannot be: it is a convenience."""
    told = {word: value_of(state, word) for word in _WORDS}
    if state.blend_style and state.blend:
        told["blend"] = [state.blend_style, state.blend]
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}")
        partial.write_text(json.dumps(told), "utf-8")
        partial.replace(path)


def recall(path: Path, styles: list[str]) -> list[Command]:
    """Return commands that bring back what was in use; none where nothing is remembered, or it is damaged."""
    try:
        told = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return []
    commands: list[Command] = []
    for word, value in told.items() if isinstance(told, dict) else ():
        with suppress(ValueError):
            command = read_command(word, value) if value is not None or word == "split" else None
            check_names(command, styles, [])
            if command is not None:
                commands.append(command)
    return commands

"""A finding: one thing that was compared between two files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

Verdict = Literal["same", "intended", "differs"]
"""``intended``: not the same, but what rtstyle promises to do (see docs/media.md)."""

T = TypeVar("T")


@dataclass(frozen=True)
class Finding:
    """One thing that was compared."""

    subject: str
    source: str
    """What the input has, as text."""
    target: str
    """What the output has."""
    verdict: Verdict
    words: str = ""
    """What a person should know of it."""


def both(show: Callable[[T], str], one: T, other: T) -> tuple[str, str]:
    """Return what the input and the output have, as text."""
    return show(one), show(other)

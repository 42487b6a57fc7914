"""Context managers that are closed when they are left."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self


class Closing(ABC):
    """A context manager that ``close`` ends."""

    @abstractmethod
    def close(self) -> None:
        """Free what it holds; closing twice is harmless."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

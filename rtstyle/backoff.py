"""Waits before something is tried again."""

from __future__ import annotations


class BackOff:
    """A wait that doubles each time.

    Args:
        first: Seconds of the first wait.
        longest: Seconds of a wait at most.
    """

    def __init__(self, first: float, longest: float) -> None:
        self._first, self._longest = first, longest
        self.seconds = first
        """The next wait."""

    def take(self) -> float:
        """Return the next wait in seconds, and double the one after it."""
        seconds = self.seconds
        self.seconds = min(2 * seconds, self._longest)
        return seconds

    def reset(self) -> None:
        """Begin with the first wait again."""
        self.seconds = self._first

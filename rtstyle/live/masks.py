"""The mask of a live session, which commands change."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from types import TracebackType
from typing import Self

from rtstyle.actions import MASKS
from rtstyle.frame import Frame, Size
from rtstyle.mask.mix import FrameMask, Mixer
from rtstyle.mask.opening import open_mask
from rtstyle.mask.settings import MaskSettings


class SessionMask:
    """Applies a mask to the frames of a session; another one is opened in the background. A context manager.

    Args:
        settings: The mask at first. The weakening of faces stays with every other one.
        size: Of the frames.

    Raises:
        RtstyleError: It cannot be opened.
    """

    def __init__(self, settings: MaskSettings = MaskSettings(), *, size: Size) -> None:
        self._settings, self._size = settings, size
        self._mask = open_mask(settings, size)
        self._mixer = Mixer()
        self._opening: Future[FrameMask | None] | None = None
        self._pool = ThreadPoolExecutor(1, "mask")
        self.word = settings.found or ("file" if settings.path else "off")
        """What was asked for last, one of ``MASKS``."""
        self.words = tuple(word for word in MASKS if word != "file" or settings.path)
        """What may be asked for."""

    def choose(self, word: str | None) -> str:
        """Ask for a mask, or the next one; return a line that reports it."""
        if word is None:
            word = self.words[(self.words.index(self.word) + 1) % len(self.words)]
        if word not in self.words:
            return f"there is no mask {word}"
        if word != self.word:
            self._drop()
            source = {"off": None, "file": self._settings.path}.get(word, word)
            self._opening = self._pool.submit(open_mask, replace(self._settings, source=source), self._size)
            self.word = word
        return f"mask {word}"

    def apply(self, source: Frame, stylized: Frame, seconds: float) -> Frame:
        """Return the stylized frame, with the source where the mask has it.

        Args:
            seconds: Since the first frame of the session.

        Raises:
            RtstyleError: The mask that was asked for cannot be opened; the one before stays.
        """
        if self._opening is not None and self._opening.done():
            opening, self._opening = self._opening, None
            made = opening.result()
            self._close_mask()
            self._mask = made
        if self._mask is None:
            return stylized
        time = Fraction(max(seconds, 0)).limit_denominator(1000)
        return self._mixer.mix(source, stylized, self._mask.at(source, time))

    @property
    def opening(self) -> bool:
        """Whether another mask is being opened."""
        return self._opening is not None

    def _drop(self) -> None:
        """Forget a mask that is being opened."""
        if self._opening is not None:
            self._opening.add_done_callback(_close_result)
        self._opening = None

    def _close_mask(self) -> None:
        if self._mask is not None:
            self._mask.close()
        self._mask = None

    def close(self) -> None:
        """Close the mask. A second call does nothing."""
        self._drop()
        self._pool.shutdown(wait=True)
        self._close_mask()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _close_result(opening: Future[FrameMask | None]) -> None:
    if not opening.cancelled() and not opening.exception():
        mask = opening.result()
        if mask is not None:
            mask.close()

"""What the window draws over a frame: figures, notes, help, the recording sign, and a strip of styles to click on."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pygame

_WHITE, _SOFT, _ACCENT, _RED = (255, 255, 255), (190, 194, 202), (242, 181, 68), (224, 49, 38)
_SHADE = (13, 14, 17, 190)

_SMALLEST_TEXT, _LARGEST_TEXT = 15, 44
"""Pixels of the font; between, it is 1/32 of the window's height."""

_STRIP_SHARE = 0.2
"""Share of the window's height, from its lower edge, in which the mouse calls the strip of styles."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A style in the strip."""

    name: str
    key: str
    """What it is chosen by, as ``1``; empty where no key does."""


class Overlay:
    """Draws on the window's surface, with surfaces that are kept while nothing changes.

    Args:
        pg: pygame, with its fonts initialized.
        preview: Returns the JPEG of a style's preview, None where it has none.
    """

    def __init__(self, pg: ModuleType, preview: Callable[[str], bytes | None]) -> None:
        self._pg, self._preview = pg, preview
        self.text: tuple[str, ...] = ()
        """Lines at the top left."""
        self.toast = ""
        """A line at the bottom, for a while."""
        self.help: tuple[tuple[str, str], ...] = ()
        """Keys and what they do; empty: no help."""
        self.recording: float | None = None
        """Seconds of the recording that runs; None: none."""
        self.tiles: tuple[Tile, ...] = ()
        """Styles to choose from."""
        self.chosen = ""
        """The style in use, or the one that is loading."""
        self.strip = False
        """Whether the strip of styles is to be seen."""
        self._kept: dict[str, tuple[object, pygame.Surface]] = {}
        self._fonts: dict[int, pygame.font.Font] = {}
        self._pictures: dict[str, pygame.Surface | None] = {}

    def draw(self, screen: pygame.Surface) -> None:
        """Draw what is to be seen."""
        width, height = screen.get_size()
        room = max(width - 16, 16), max(height - 16, 16)
        if self.text:
            screen.blit(self._surface("text", (self.text, room), lambda: self._lines(self.text, room)), (8, 8))
        if self.recording is not None:
            words = f"{int(self.recording) // 60}:{int(self.recording) % 60:02d}"
            sign = self._surface("recording", (words, room), lambda: self._recording_sign(words, room))
            screen.blit(sign, (width - sign.get_width() - 8, 8))
        if self.help:
            box = self._surface("help", (self.help, room), lambda: self._help(room))
            screen.blit(box, ((width - box.get_width()) // 2, (height - box.get_height()) // 2))
        above = 8
        if self.strip and self.tiles:
            strip = self._surface("strip", (self.tiles, self.chosen, room), lambda: self._strip(room))
            above += strip.get_height()
            screen.blit(strip, ((width - strip.get_width()) // 2, height - above))
        if self.toast:
            note = self._surface("toast", (self.toast, room), lambda: self._lines((self.toast,), room))
            screen.blit(note, ((width - note.get_width()) // 2, height - above - note.get_height() - 8))

    def tile_at(self, place: tuple[int, int], window: tuple[int, int]) -> int | None:
        """Return which style of the strip lies at a place of the window; None: none."""
        if "strip" not in self._kept or not self.strip or not self.tiles:
            return None
        strip = self._kept["strip"][1]
        left, top = (window[0] - strip.get_width()) // 2, window[1] - 8 - strip.get_height()
        if not (left <= place[0] < left + strip.get_width() and top <= place[1] < top + strip.get_height()):
            return None
        return min((place[0] - left) * len(self.tiles) // strip.get_width(), len(self.tiles) - 1)

    @staticmethod
    def calls_strip(place: tuple[int, int], window: tuple[int, int]) -> bool:
        """Return whether a mouse at this place asks for the strip of styles."""
        return place[1] >= (1 - _STRIP_SHARE) * window[1]

    # -- surfaces

    def _surface(self, name: str, of: object, make: Callable[[], pygame.Surface]) -> pygame.Surface:
        if name not in self._kept or self._kept[name][0] != of:
            self._kept[name] = of, make()
        return self._kept[name][1]

    def _font(self, room: tuple[int, int]) -> pygame.font.Font:
        size = min(max(room[1] // 32, _SMALLEST_TEXT), _LARGEST_TEXT)
        if size not in self._fonts:
            self._fonts[size] = self._pg.font.Font(None, round(1.4 * size))  # pygame counts the whole line
        return self._fonts[size]

    def _box(self, size: tuple[int, int]) -> pygame.Surface:
        box: pygame.Surface = self._pg.Surface(size, self._pg.SRCALPHA)
        self._pg.draw.rect(box, _SHADE, box.get_rect(), border_radius=8)
        return box

    def _lines(self, lines: Sequence[str], room: tuple[int, int]) -> pygame.Surface:
        font = self._font(room)
        rows = [font.render(line, True, _WHITE) for line in lines]
        step = font.get_linesize()
        box = self._box((max(row.get_width() for row in rows) + 24, step * len(rows) + 14))
        for number, row in enumerate(rows):
            box.blit(row, (12, 7 + number * step))
        return self._fitted(box, room)

    def _recording_sign(self, words: str, room: tuple[int, int]) -> pygame.Surface:
        font = self._font(room)
        time = font.render(words, True, _WHITE)
        step = font.get_linesize()
        box = self._box((time.get_width() + step + 20, step + 14))
        self._pg.draw.circle(box, _RED, (10 + step // 2, box.get_height() // 2), step // 3)
        box.blit(time, (step + 12, 7))
        return self._fitted(box, room)

    def _help(self, room: tuple[int, int]) -> pygame.Surface:
        font = self._font(room)
        step, half = font.get_linesize(), (len(self.help) + 1) // 2
        columns = [self.help[:half], self.help[half:]]
        widths = []
        for column in columns:
            keys = max((font.size(keys)[0] for keys, _ in column), default=0)
            widths.append((keys, max((font.size(meaning)[0] for _, meaning in column), default=0)))
        box = self._box((sum(map(sum, widths)) + 108, step * half + 24))
        left = 18
        for column, (keys, meanings) in zip(columns, widths, strict=True):
            for row, (key, meaning) in enumerate(column):
                box.blit(font.render(key, True, _ACCENT), (left, 12 + row * step))
                box.blit(font.render(meaning, True, _WHITE), (left + keys + 16, 12 + row * step))
            left += keys + meanings + 40
        return self._fitted(box, room)

    def _strip(self, room: tuple[int, int]) -> pygame.Surface:
        pg, gap = self._pg, 6
        width = min((room[0] - gap) // len(self.tiles) - gap, max(round(0.16 * room[1]), 56))
        size = max(width, 12), max(round(0.75 * width), 9)
        font = self._pg.font.Font(None, max(min(size[0] // 5, 26), 15))
        box = self._box((len(self.tiles) * (size[0] + gap) + gap, size[1] + 2 * gap + font.get_linesize()))
        for number, tile in enumerate(self.tiles):
            corner = gap + number * (size[0] + gap), gap
            picture = self._picture(tile.name)
            if picture:
                box.blit(pg.transform.smoothscale(picture, size), corner)
            on = tile.name == self.chosen
            if on:
                pg.draw.rect(box, _ACCENT, (*corner, *size), 3)
            words = f"{tile.key} {tile.name.replace('_', ' ')}".strip()
            while font.size(words)[0] > size[0] and len(words) > 3:
                words = words[:-2].rstrip() + "…"
            box.blit(font.render(words, True, _ACCENT if on else _SOFT), (corner[0], corner[1] + size[1] + 2))
        return box

    def _picture(self, name: str) -> pygame.Surface | None:
        if name not in self._pictures:
            data = self._preview(name)
            try:
                picture = self._pg.image.load(io.BytesIO(data), "preview.jpg") if data else None
            except self._pg.error:
                picture = None
            self._pictures[name] = picture
        return self._pictures[name]

    def _fitted(self, surface: pygame.Surface, room: tuple[int, int]) -> pygame.Surface:
        share = min(room[0] / surface.get_width(), room[1] / surface.get_height())
        fitted: pygame.Surface = self._pg.transform.smoothscale_by(surface, share) if share < 1 else surface
        return fitted

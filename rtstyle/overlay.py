"""What the window draws over a frame: figures, notes, help, the recording sign, and a strip of styles to click on."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pygame.freetype

_WHITE, _SOFT, _ACCENT, _RED = (255, 255, 255), (190, 194, 202), (242, 181, 68), (224, 49, 38)
_SHADE, _DEEP_SHADE = (13, 14, 17, 190), (13, 14, 17, 225)

_SMALLEST_TEXT, _LARGEST_TEXT = 15, 44
"""Pixels of the font; between, it is 1/32 of the window's height. Where the window is too small, text is smaller."""

_SMALLEST_NAME = 10
"""Pixels of the font of a style's name in the strip; names that need a smaller one are cut."""

_LINE, _PAD = 1.35, 0.6
"""Height of a line of text, and the border around text, in sizes of the font."""

_SMALLEST_TILE = 84
"""Pixels of the width of a style's preview in the strip; where that leaves no room for all, there are more rows."""

_GAP = 6
"""Pixels between previews."""

_FINER = 2
"""Shapes and letters are drawn so many times larger and shrunk: edges are smooth, and letters evenly spaced."""

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
        pg: pygame, with its module freetype initialized.
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
        self.split: tuple[int, int] | None = None
        """Where the line of the split view has its handle, in pixels of the window; None: nowhere."""
        self._kept: dict[str, tuple[object, pygame.Surface]] = {}
        self._font: pygame.freetype.Font = pg.freetype.Font(None)
        self._font.pad = True
        self._thumbnails: dict[str, pygame.Surface | None] = {}

    def draw(self, screen: pygame.Surface) -> None:
        """Draw what is to be seen."""
        width, height = screen.get_size()
        room = max(width - 16, 16), max(height - 16, 16)
        if self.split and not self.help:
            handle = self._surface("handle", room, lambda: self._handle(room))
            screen.blit(handle, (self.split[0] - handle.get_width() // 2, self.split[1] - handle.get_height() // 2))
        beside = room
        if self.recording is not None:
            words = f"{int(self.recording) // 60}:{int(self.recording) % 60:02d}"
            sign = self._surface("recording", (words, room), lambda: self._recording_sign(words, room))
            screen.blit(sign, (width - sign.get_width() - 8, 8))
            beside = max(room[0] - sign.get_width() - 8, 16), room[1]
        if self.text and not self.help:
            screen.blit(self._surface("text", (self.text, beside), lambda: self._lines(self.text, beside)), (8, 8))
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
        width, height = self._kept["strip"][1].get_size()
        left, top = place[0] - (window[0] - width) // 2, place[1] - (window[1] - 8 - height)
        if not (0 <= left < width and 0 <= top < height):
            return None
        rows, columns = self._rows_and_columns(max(window[0] - 16, 16))
        tile = top * rows // height * columns + left * columns // width
        return tile if tile < len(self.tiles) else None

    @staticmethod
    def calls_strip(place: tuple[int, int], window: tuple[int, int]) -> bool:
        """Return whether a mouse at this place asks for the strip of styles."""
        return place[1] >= (1 - _STRIP_SHARE) * window[1]

    # -- surfaces

    def _surface(self, name: str, of: object, make: Callable[[], pygame.Surface]) -> pygame.Surface:
        if name not in self._kept or self._kept[name][0] != of:
            self._kept[name] = of, make()
        return self._kept[name][1]

    def _fitted(self, make: Callable[[float], pygame.Surface], room: tuple[int, int]) -> pygame.Surface:
        """Return what ``make`` draws with a size of the font: the usual one, or the one that fits the window."""
        size = min(max(room[1] / 32, _SMALLEST_TEXT), _LARGEST_TEXT)
        while True:
            box = make(size)
            share = min(room[0] / box.get_width(), room[1] / box.get_height())
            if share >= 1 or size <= 1:
                return box
            size = max(0.98 * share * size, 1)  # again: letters do not shrink in exact proportion

    def _words(self, words: str, size: float, color: tuple[int, int, int] = _WHITE) -> pygame.Surface:
        surface = self._font.render(words, color, size=size * _FINER)[0]
        shrunk: pygame.Surface = self._pg.transform.smoothscale_by(surface, 1 / _FINER)
        return shrunk

    def _width(self, words: str, size: float) -> int:
        return math.ceil(self._font.get_rect(words, size=size * _FINER).width / _FINER)

    def _smooth(self, size: tuple[float, float], draw: Callable[[pygame.Surface, int], None]) -> pygame.Surface:
        """Draw with smooth edges: ``draw`` gets a larger surface, and how much larger it is."""
        fine = self._pg.Surface((round(size[0]) * _FINER, round(size[1]) * _FINER), self._pg.SRCALPHA)
        draw(fine, _FINER)
        shrunk: pygame.Surface = self._pg.transform.smoothscale(fine, (round(size[0]), round(size[1])))
        return shrunk

    def _shade(self, surface: pygame.Surface, finer: int) -> None:
        self._pg.draw.rect(surface, _SHADE, surface.get_rect(), border_radius=8 * finer)

    def _deep_shade(self, surface: pygame.Surface, finer: int) -> None:
        self._pg.draw.rect(surface, _DEEP_SHADE, surface.get_rect(), border_radius=8 * finer)

    def _lines(self, lines: Sequence[str], room: tuple[int, int]) -> pygame.Surface:
        def make(size: float) -> pygame.Surface:
            rows = [self._words(line, size) for line in lines]
            step, pad = _LINE * size, _PAD * size
            width = max(row.get_width() for row in rows)
            box = self._smooth((width + 2 * pad, step * len(rows) + pad), self._shade)
            for number, row in enumerate(rows):
                box.blit(row, (pad, pad / 2 + number * step + (step - row.get_height()) / 2))
            return box

        return self._fitted(make, room)

    def _recording_sign(self, words: str, room: tuple[int, int]) -> pygame.Surface:
        def make(size: float) -> pygame.Surface:
            def shape(surface: pygame.Surface, finer: int) -> None:
                self._shade(surface, finer)
                center = (pad + 0.4 * size) * finer, surface.get_height() / 2
                self._pg.draw.circle(surface, _RED, center, 0.4 * size * finer)

            time = self._words(words, size)
            pad = _PAD * size
            box = self._smooth((time.get_width() + 2.5 * pad + 0.8 * size, _LINE * size + pad), shape)
            box.blit(time, (1.5 * pad + 0.8 * size, (box.get_height() - time.get_height()) / 2))
            return box

        return self._fitted(make, room)

    def _handle(self, room: tuple[int, int]) -> pygame.Surface:
        """Draw what the line of the split view is dragged by: a disk with two arrows."""
        size = min(max(room[1] / 16, 24), 64)

        def shape(surface: pygame.Surface, finer: int) -> None:
            middle, far, near, high = (share * size * finer for share in (0.5, 0.34, 0.14, 0.16))
            self._pg.draw.circle(surface, _SHADE, (middle, middle), middle)
            self._pg.draw.circle(surface, _WHITE, (middle, middle), 0.9 * middle)
            for side in (-1, 1):
                tip, foot = middle + side * far, middle + side * near
                arrow = ((tip, middle), (foot, middle - high), (foot, middle + high))
                self._pg.draw.polygon(surface, _SHADE[:3], arrow)

        return self._smooth((size, size), shape)

    def _help(self, room: tuple[int, int]) -> pygame.Surface:
        count = 1 if room[0] < room[1] else 2  # beside each other they would be tiny in a tall window
        most = math.ceil(len(self.help) / count)
        columns = [self.help[first : first + most] for first in range(0, len(self.help), most)]

        def make(size: float) -> pygame.Surface:
            step, pad = _LINE * size, 1.2 * size
            keys = [max(self._width(key, size) for key, _ in column) for column in columns]
            meanings = [max(self._width(meaning, size) for _, meaning in column) for column in columns]
            width = sum(keys) + sum(meanings) + (3 * len(columns) + 1) * pad
            box = self._smooth((width, step * most + 2 * pad), self._deep_shade)
            left = pad
            for column, beside, wide in zip(columns, keys, meanings, strict=True):
                for row, (key, meaning) in enumerate(column):
                    box.blit(self._words(key, size, _ACCENT), (left, pad + row * step))
                    box.blit(self._words(meaning, size), (left + beside + pad, pad + row * step))
                left += beside + wide + 3 * pad
            return box

        return self._fitted(make, room)

    def _rows_and_columns(self, width: int) -> tuple[int, int]:
        """Return how the strip lays out its tiles in a width."""
        rows = math.ceil(len(self.tiles) / max((width - _GAP) // (_SMALLEST_TILE + _GAP), 1))
        return rows, math.ceil(len(self.tiles) / rows)

    def _strip(self, room: tuple[int, int]) -> pygame.Surface:
        rows, columns = self._rows_and_columns(room[0])
        width = min((room[0] - _GAP) // columns - _GAP, max(round(0.16 * room[1]), _SMALLEST_TILE))
        size = max(width, 12), max(round(0.75 * width), 9)
        font = min(max(size[0] / 6.5, _SMALLEST_NAME), 20)
        step = size[0] + _GAP, size[1] + _GAP + round(_LINE * font)
        box = self._smooth((columns * step[0] + _GAP, rows * step[1] + _GAP), self._shade)
        for number, tile in enumerate(self.tiles):
            row, column = divmod(number, columns)
            self._draw_tile(box, tile, self._pg.Rect(_GAP + column * step[0], _GAP + row * step[1], *size), font)
        return box

    def _draw_tile(self, box: pygame.Surface, tile: Tile, place: pygame.Rect, font: float) -> None:
        """Draw a preview with its key in the corner, and its name below."""
        thumbnail = self._thumbnail(tile.name)
        if thumbnail:
            box.blit(self._pg.transform.smoothscale(thumbnail, place.size), place)
        chosen = tile.name == self.chosen
        if chosen:
            self._pg.draw.rect(box, _ACCENT, place, 3)
        if tile.key:
            key = self._words(tile.key, font)
            side = max(key.get_width() + 0.5 * font, key.get_height())
            badge = self._smooth((side, key.get_height()), self._shade)
            badge.blit(key, ((badge.get_width() - key.get_width()) / 2, 0))
            box.blit(badge, (place.left + 4, place.top + 4))
        words = tile.name.replace("_", " ")
        font = max(min(font, 0.97 * font * place.width / max(self._width(words, font), 1)), _SMALLEST_NAME)
        while self._width(words, font) > place.width and len(words) > 3:
            words = words[:-2].rstrip() + "…"
        box.blit(self._words(words, font, _ACCENT if chosen else _SOFT), (place.left, place.bottom + 1))

    def _thumbnail(self, name: str) -> pygame.Surface | None:
        if name not in self._thumbnails:
            data = self._preview(name)
            try:
                thumbnail = self._pg.image.load(io.BytesIO(data), "preview.jpg") if data else None
            except self._pg.error:
                thumbnail = None
            self._thumbnails[name] = thumbnail
        return self._thumbnails[name]

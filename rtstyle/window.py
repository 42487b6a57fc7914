"""The preview window: frames on the screen, keys as commands. pygame-ce, which brings its own SDL.

pygame is imported when a window or a display is asked for, not before.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rtstyle.actions import Action, Command, PresetChosen, SplitSet, StyleChosen
from rtstyle.closing import Closing
from rtstyle.errors import DisplayError
from rtstyle.frame import Frame, Planes, RgbConverter, Size, resized_planes
from rtstyle.overlay import Overlay

if TYPE_CHECKING:
    import pygame

_HEADLESS = ("offscreen", "dummy")
"""SDL drivers that draw to no screen."""

_NO_DISPLAY = "no window can be opened: there is no display here; use --preview none"

_SHARE_OF_SCREEN = 0.9

_CLEAN_WIDTH = 640
"""Pixels of the clean window when it opens."""

_ICON = Path(__file__).parent / "web" / "page" / "icon.svg"

KEYS_HELP = (
    "1 .. 9 0  style by number",
    "n p  arrows  next, previous style",
    "+ -  strength",
    "k  keep the colors of the source",
    "v  source beside; drag the line",
    "m  mirror",
    "a  mask: person, background",
    "b  bypass: the source",
    "d  blackout",
    "space  pause",
    "s  snapshot (PNG)",
    "r  record",
    "f  full screen",
    "w  full screen of the clean window",
    "F1 .. F12 tab  presets; the next one",
    "c  cycle of presets",
    "x  crossfade between styles",
    "o  reduce noise of still areas",
    "e  even out brightness",
    "t  tap the tempo",
    "l  MIDI learn",
    "h  figures",
    "?  this help",
    "Esc  leave full screen; quit",
    "q  quit",
)
"""The keys, one line each: what to press, two spaces, what it does."""


def keys_and_meanings() -> tuple[tuple[str, str], ...]:
    """Return ``KEYS_HELP`` as pairs."""
    lines = (line.rpartition("  ") for line in KEYS_HELP)
    return tuple((keys.replace("  ", " "), meaning) for keys, _, meaning in lines)


_BY_NAME: dict[str, Command] = {
    "q": Action.QUIT,
    "space": Action.PAUSE,
    "b": Action.BYPASS,
    "d": Action.BLACKOUT,
    "e": Action.DEFLICKER,
    "t": Action.BEAT,
    "l": Action.LEARN,
    "c": Action.CYCLE,
    "tab": Action.NEXT_PRESET,
    **{f"f{number}": PresetChosen(number - 1) for number in range(1, 13)},
    "n": Action.NEXT_STYLE,
    "right": Action.NEXT_STYLE,
    "p": Action.PREVIOUS_STYLE,
    "left": Action.PREVIOUS_STYLE,
    "+": Action.STRONGER,
    "=": Action.STRONGER,
    "[+]": Action.STRONGER,
    "-": Action.WEAKER,
    "[-]": Action.WEAKER,
    "k": Action.KEEP_COLORS,
    "x": Action.CROSSFADE,
    "o": Action.HOLD,
    "s": Action.SNAPSHOT,
    "r": Action.RECORD,
    "m": Action.MIRROR,
    "a": Action.MASK,
    "h": Action.HUD,
    "?": Action.HELP,
    **{str(digit): StyleChosen((digit - 1) % 10) for digit in range(10)},
}
"""Commands by SDL's name of the key (``[+]`` is on the keypad), or by the character that it types."""


def has_display() -> bool:
    """Return whether a window could be seen here. Loads pygame; leaves no display open that was not."""
    pygame = _pygame()
    was_open = pygame.display.get_init()
    try:
        _open_display(pygame)
    except DisplayError:
        return False
    finally:
        if not was_open:
            pygame.display.quit()
    return True


def _pygame() -> ModuleType:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # its greeting would be printed to stdout
    import pygame
    import pygame.freetype

    return pygame


def _open_display(pygame: ModuleType) -> None:
    """Start SDL's video, and refuse a driver that it took only for want of a screen."""
    requested = os.environ.get("SDL_VIDEODRIVER")
    if sys.platform == "linux" and not (requested or _linux_screen()):
        raise DisplayError(_NO_DISPLAY)  # SDL would say so too, but print words of its own about it
    try:
        pygame.display.init()
    except pygame.error as error:
        raise DisplayError(f"no window can be opened: {error}; use --preview none") from error
    driver = pygame.display.get_driver()
    if driver in _HEADLESS and driver != requested:
        pygame.display.quit()
        raise DisplayError(_NO_DISPLAY)


def _linux_screen() -> bool:
    """Return whether there may be X11, Wayland, or a bare screen (which SDL can draw on as well)."""
    return any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY"))) or Path("/dev/dri").exists()


class Window(Closing):
    """A resizable window as a ``FrameSink``; the frame keeps its shape, black fills the rest.

    Full screen is its own affair, the split is shown at once; every key but f is a command that ``poll`` returns.
    All methods belong to the thread that made it (on macOS the main thread). ``write`` before ``poll``:
    without a regular ``poll`` the system takes the window for hung.
    """

    def __init__(
        self,
        size: Size,
        *,
        title: str = "rtstyle",
        keys: Mapping[str, Command] | None = None,
        preview: Callable[[str], bytes | None] = lambda style: None,
        clean: bool = False,
    ) -> None:
        """Open the window, as large as the frame or as 9/10 of the screen.

        Args:
            keys: Commands of the user's own, by SDL's name of a key or the character that it types; they come first.
            preview: Returns the JPEG of a style's preview, for the strip of styles; None where it has none.
            clean: Open a second window that shows the frames alone, for the audience.

        Raises:
            DisplayError: There is no display.
        """
        self._pg = _pygame()
        _open_display(self._pg)
        self._title = ""
        self._keys = {**_BY_NAME, **(keys or {})}
        self._own_keys = set(keys or {})
        self._shown: tuple[Frame, Frame] | None = None
        self._image: pygame.Surface | None = None
        self._to_rgb = RgbConverter(), RgbConverter()
        self.split: float | None = None
        """Where the frame is divided, as a share of its width: left of it the source is shown; None: nowhere."""
        self._dragging = False
        self._clean: _CleanWindow | None = None
        self.full_screen = False
        """Whether the window covers the screen."""
        try:
            self._pg.freetype.init()
            self.overlay = Overlay(self._pg, preview)
            """What is drawn over the frame, with the next one or by ``redraw``."""
            with contextlib.suppress(self._pg.error, OSError):  # a window without an icon is one as well
                self._pg.display.set_icon(self._pg.image.load_sized_svg(str(_ICON), (64, 64)))
            self._windowed, self._place = self._fitting(size), (0, 0)
            self._screen: pygame.Surface = self._pg.display.set_mode(self._windowed, self._pg.RESIZABLE)
            self._clean = _CleanWindow(self._pg, size) if clean else None
        except self._pg.error as error:
            self.close()
            raise DisplayError(f"no window can be opened: {error}; use --preview none") from error
        self.title = title

    def _fitting(self, size: Size) -> tuple[int, int]:
        screens = self._pg.display.get_desktop_sizes()
        width, height = screens[0] if screens else (size.width, size.height)
        wanted = max(640 // size.width, 1)  # a tiny frame is shown enlarged, so that the text fits
        share = min(wanted, _SHARE_OF_SCREEN * width / size.width, _SHARE_OF_SCREEN * height / size.height)
        return max(round(size.width * share), 16), max(round(size.height * share), 16)

    @property
    def title(self) -> str:
        """What the window's bar says."""
        return self._title

    @title.setter
    def title(self, title: str) -> None:
        if title != self._title:
            self._title = title
            self._pg.display.set_caption(title)

    # -- drawing

    def write(self, frame: Frame, source: Frame | None = None) -> None:
        """Show a frame.

        Args:
            source: What it was made from, of any size, for the split view; None: itself. Its planes, and those
                of ``frame``, are read again when the window is resized: they should not be written to.
        """
        self._shown = frame, frame if source is None else source
        self._draw()
        self.redraw()
        if self._clean:
            self._clean.show(frame)

    def _draw(self) -> None:
        """Make the image of the last frame, in the size in which the window shows it."""
        if self._shown is None:
            return
        frame, source = self._shown
        _, _, width, height = _letterbox(frame.size, self._screen.get_size())
        rgb = self._in_rgb(frame, Size(width, height), self._to_rgb[0])
        if self.split is not None:
            cut = round(self.split * width)
            rgb[:, :cut] = self._in_rgb(source, Size(width, height), self._to_rgb[1])[:, :cut]
            rgb[:, max(cut - 1, 0) : cut + 1] = 255
        self._image = self._pg.image.frombuffer(rgb.tobytes(), (width, height), "RGB")

    @staticmethod
    def _in_rgb(frame: Frame, size: Size, converter: RgbConverter) -> NDArray[np.uint8]:
        """Convert to RGB of a size. Where that is smaller, the planes are scaled first: RGB is the expensive part."""
        rgb = converter.convert(_shrunk(frame.planes, size), frame.color)
        if rgb.shape[:2] == (size.height, size.width):
            return rgb
        import cv2

        return np.asarray(cv2.resize(rgb, (size.width, size.height), interpolation=cv2.INTER_LINEAR), np.uint8)

    def redraw(self) -> None:
        """Show the last frame again, with the text of now."""
        self._screen.fill((0, 0, 0))
        if self._image is not None:
            size = Size(*self._image.get_size())
            left, top, width, height = _letterbox(size, self._screen.get_size())
            self._screen.blit(self._image, (left, top))
            line = None if self.split is None else (left + round(self.split * width), top + height // 2)
            self.overlay.split = line
        self.overlay.draw(self._screen)
        self._pg.display.flip()

    # -- keys and mouse

    def poll(self) -> list[Command]:
        """Return what was asked for since the last call, in order; also lets the system move and resize the window."""
        commands: list[Command] = []
        changed = resized = False
        for event in self._pg.event.get():
            if self._clean and self._clean.takes(event):
                if not self._clean.open:
                    self._clean = None
            elif event.type in (self._pg.QUIT, self._pg.WINDOWCLOSE):
                if Action.QUIT not in commands:
                    commands.append(Action.QUIT)
            elif event.type == self._pg.KEYDOWN:
                changed |= self._press(event, commands)
            elif event.type in (self._pg.VIDEORESIZE, self._pg.VIDEOEXPOSE):
                resized = True
            elif event.type in (self._pg.MOUSEMOTION, self._pg.MOUSEBUTTONDOWN, self._pg.MOUSEBUTTONUP):
                changed |= self._point(event, commands)
            elif event.type == self._pg.WINDOWLEAVE and self.overlay.strip:
                self.overlay.strip, changed = False, True
        if resized:
            self._screen = self._pg.display.get_surface()
        if resized or changed:
            self._draw()
            self.redraw()
        return commands

    def _press(self, event: pygame.Event, commands: list[Command]) -> bool:
        """Do what a key asks for, or add its command. True if what is shown changes."""
        key, typed = self._pg.key.name(event.key), event.dict.get("unicode", "")
        own = next((name for name in (key, typed) if name in self._own_keys), None)
        command = self._keys[own] if own else self._keys.get(typed) or self._keys.get(key)
        if command:
            commands.append(command)
        elif key == "f" or (key == "escape" and self.full_screen):
            self.toggle_full_screen()
        elif key == "escape":
            commands.append(Action.QUIT)
        elif key == "w" and self._clean:
            self._clean.toggle_full_screen()
        elif key == "v":
            self.split = None if self.split is not None else 0.5
            commands.append(SplitSet(self.split))
            return True
        return False

    def _point(self, event: pygame.Event, commands: list[Command]) -> bool:
        """Follow the mouse: the strip of styles, and the line of the split. True if what is shown changes."""
        window, overlay = self._screen.get_size(), self.overlay
        tile = overlay.tile_at(event.pos, window)
        if tile is not None and event.type == self._pg.MOUSEBUTTONDOWN and event.button == 1:
            commands.append(StyleChosen(tile))
            return False
        before = overlay.strip
        overlay.strip = not self._dragging and (tile is not None or overlay.calls_strip(event.pos, window))
        if self.split is not None and tile is None and self._drag(event):
            commands.append(SplitSet(self.split))
            return True
        if overlay.strip != before:
            self._show_mouse()
        return overlay.strip != before

    def _drag(self, event: pygame.Event) -> bool:
        """Let the mouse carry the line of the split view. True if it has moved."""
        if event.type == self._pg.MOUSEBUTTONUP and event.button == 1:
            self._dragging = False
        elif event.type == self._pg.MOUSEBUTTONDOWN and event.button == 1:
            self._dragging = True
        elif event.type != self._pg.MOUSEMOTION or not (self._dragging and event.buttons[0]):
            return False
        if not self._dragging or self._image is None:
            return False
        left, _, width, _ = _letterbox(Size(*self._image.get_size()), self._screen.get_size())
        self.split = min(max((event.pos[0] - left) / width, 0.0), 1.0)
        return True

    def toggle_full_screen(self) -> None:
        """Cover the whole screen, or go back to a window of the size of before."""
        display = self._pg.display
        self.full_screen = not self.full_screen
        if self.full_screen:
            self._windowed, self._place = self._screen.get_size(), display.get_window_position()
            if len(display.get_desktop_sizes()) == 1:
                display.set_window_position((0, 0))  # where no window manager does it; else it would cut the frame
            # A size of 0 is the desktop's own: no change of its mode, which would take seconds and flicker.
            self._screen = display.set_mode((0, 0), self._pg.FULLSCREEN)
        else:
            self._screen = display.set_mode(self._windowed, self._pg.RESIZABLE)
            display.set_window_position(self._place)
        self._show_mouse()
        self._draw()
        self.redraw()

    def _show_mouse(self) -> None:
        """Hide the pointer in full screen, where nothing is there to point at."""
        self._pg.mouse.set_visible(not self.full_screen or self.split is not None or self.overlay.strip)

    def close(self) -> None:
        """Close the windows and SDL's video."""
        if self._clean:
            self._clean.close()
        self._pg.freetype.quit()
        self._pg.display.quit()


class _CleanWindow:
    """A second window that shows frames and nothing else; a double click or the key w fills its screen."""

    def __init__(self, pg: ModuleType, size: Size) -> None:
        self._pg = pg
        share = min(_CLEAN_WIDTH / size.width, 1.0)  # it is to be moved to another screen, and not to hide this one
        at_first = max(round(size.width * share), 16), max(round(size.height * share), 16)
        self._window: pygame.Window = pg.Window("rtstyle output", at_first, resizable=True)
        self._to_rgb = RgbConverter()
        self._full = False
        self._clicked = -1000
        """Milliseconds of the last click."""
        self.open = True
        """False when it was closed."""

    def show(self, frame: Frame) -> None:
        """Show a frame; black fills the rest."""
        surface = self._window.get_surface()
        left, top, width, height = _letterbox(frame.size, surface.get_size())
        rgb = Window._in_rgb(frame, Size(width, height), self._to_rgb)
        surface.fill((0, 0, 0))
        surface.blit(self._pg.image.frombuffer(rgb.tobytes(), (width, height), "RGB"), (left, top))
        self._window.flip()

    def takes(self, event: pygame.Event) -> bool:
        """Act on an event that is for this window; False where it is not, or is a key, which acts as in the other."""
        if event.dict.get("window") is not self._window or event.type == self._pg.KEYDOWN:
            return False
        if event.type == self._pg.WINDOWCLOSE:
            self.close()
        elif event.type == self._pg.MOUSEBUTTONDOWN and event.dict.get("button") == 1:
            now = self._pg.time.get_ticks()
            if now - self._clicked < 400:
                self.toggle_full_screen()
            self._clicked = now
        return True

    def toggle_full_screen(self) -> None:
        """Fill the screen that the window is on, or go back."""
        self._full = not self._full
        if self._full:
            self._window.set_fullscreen(True)
        else:
            self._window.set_windowed()

    def close(self) -> None:
        """Close it; a second call does nothing."""
        if self.open:
            self.open = False
            self._window.destroy()


def _letterbox(image: Size, window: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return where the frame lies in the window: left, top, width, height."""
    width, height = window
    scale = min(width / image.width, height / image.height)
    fitted = max(round(image.width * scale), 1), max(round(image.height * scale), 1)
    return (width - fitted[0]) // 2, (height - fitted[1]) // 2, *fitted


def _shrunk(planes: Planes, size: Size) -> Planes:
    """Scale planes down to a size; planes that are not larger stay as they are."""
    height, width = planes.y.shape
    if size.width >= width or size.height >= height:
        return planes
    return resized_planes(planes, size)

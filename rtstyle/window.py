"""The preview window: frames on the screen, keys as commands. pygame-ce, which brings its own SDL.

pygame is imported when a window or a display is asked for, not before.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from rtstyle.actions import Action, Command, PresetChosen, SplitSet, StyleChosen
from rtstyle.errors import DisplayError
from rtstyle.frame import Frame, Plane, Planes, RgbConverter, Size

if TYPE_CHECKING:
    import pygame

_HEADLESS = ("offscreen", "dummy")
"""SDL drivers that draw to no screen."""

_NO_DISPLAY = "no window can be opened: there is no display here; use --preview none"

_SHARE_OF_SCREEN = 0.9

KEYS_HELP = (
    "q  quit",
    "Esc  leave full screen; quit",
    "space  pause",
    "n p  arrows  next, previous style",
    "1 .. 9 0  style by number",
    "+ -  strength",
    "k  keep colors",
    "x  crossfade on, off",
    "v  split view; drag the line",
    "m  mirror",
    "b  bypass: the source, on, off",
    "d  blackout on, off",
    "o  hold what stands still on, off",
    "e  even out brightness on, off",
    "f1 .. f12 tab  presets, the next one",
    "c  cycle of presets on, off",
    "t  tap the tempo",
    "l  MIDI learn",
    "s  snapshot (PNG)",
    "r  record on, off",
    "f  full screen",
    "h  figures",
    "?  this help",
)
"""The keys, one line each."""

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
    "h": Action.HUD,
    "?": Action.HELP,
    **{str(digit): StyleChosen((digit - 1) % 10) for digit in range(10)},
}
"""Commands by SDL's name of the key (``[+]`` is on the keypad), or by the character that it types."""


def has_display() -> bool:
    """Say whether a window could be seen here. Loads pygame; leaves no display open that was not."""
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

    return pygame


def _open_display(pygame: ModuleType) -> None:
    """Start SDL's video, and refuse a driver that it took only for want of a screen."""
    wished = os.environ.get("SDL_VIDEODRIVER")
    if sys.platform == "linux" and not (wished or _linux_screen()):
        raise DisplayError(_NO_DISPLAY)  # SDL would say so too, but print words of its own about it
    try:
        pygame.display.init()
    except pygame.error as error:
        raise DisplayError(f"no window can be opened: {error}; use --preview none") from error
    driver = pygame.display.get_driver()
    if driver in _HEADLESS and driver != wished:
        pygame.display.quit()
        raise DisplayError(_NO_DISPLAY)


def _linux_screen() -> bool:
    """Say whether there may be X11, Wayland, or a bare screen (which SDL can draw on as well)."""
    return any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY"))) or Path("/dev/dri").exists()


class Window:
    """A resizable window as a ``FrameSink``; the picture keeps its shape, black fills the rest.

    Full screen is its own affair, the split is shown at once; every key but f is a command that ``poll`` returns.
    All methods belong to the thread that made it (on macOS the main thread). ``write`` before ``poll``:
    without a regular ``poll`` the system takes the window for hung.
    """

    def __init__(self, size: Size, *, title: str = "rtstyle", keys: Mapping[str, Command] | None = None) -> None:
        """Open the window, as large as the frame or as 9/10 of the screen.

        Args:
            keys: Commands of the user's own, by SDL's name of a key or the character that it types; they come first.

        Raises:
            DisplayError: There is no display.
        """
        self._pg = _pygame()
        _open_display(self._pg)
        self._title = ""
        self._keys = {**_BY_NAME, **(keys or {})}
        self._own_keys = set(keys or {})
        self._text: tuple[str, ...] = ()
        self._text_surface: pygame.Surface | None = None
        self._shown: tuple[Frame, Frame] | None = None
        self._picture: pygame.Surface | None = None
        self._to_rgb = RgbConverter(), RgbConverter()
        self.split: float | None = None
        """Where the picture is divided, as a share of its width: left of it the source is shown; None: nowhere."""
        self._dragging = False
        self.full_screen = False
        """Whether the window covers the screen."""
        try:
            self._pg.font.init()
            self._font = self._pg.font.Font(None, 22)
            self._windowed, self._place = self._fitting(size), (0, 0)
            self._screen: pygame.Surface = self._pg.display.set_mode(self._windowed, self._pg.RESIZABLE)
        except self._pg.error as error:
            self.close()
            raise DisplayError(f"no window can be opened: {error}; use --preview none") from error
        self.title = title

    def _fitting(self, size: Size) -> tuple[int, int]:
        screens = self._pg.display.get_desktop_sizes()
        width, height = screens[0] if screens else (size.width, size.height)
        wanted = max(640 // size.width, 1)  # a tiny picture is shown enlarged, so that the text fits
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

    @property
    def text(self) -> tuple[str, ...]:
        """Lines that are drawn over the picture, top left; drawn with the next frame."""
        return self._text

    @text.setter
    def text(self, lines: Sequence[str]) -> None:
        if tuple(lines) != self._text:
            self._text = tuple(lines)
            self._text_surface = None

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

    def _draw(self) -> None:
        """Make the picture of the last frame, in the size in which the window shows it."""
        if self._shown is None:
            return
        frame, source = self._shown
        _, _, width, height = _letterbox(frame.size, self._screen.get_size())
        rgb = self._in_rgb(frame, Size(width, height), self._to_rgb[0])
        if self.split is not None:
            cut = round(self.split * width)
            rgb[:, :cut] = self._in_rgb(source, Size(width, height), self._to_rgb[1])[:, :cut]
            rgb[:, max(cut - 1, 0) : cut + 1] = 255
        self._picture = self._pg.image.frombuffer(rgb.tobytes(), (width, height), "RGB")

    @staticmethod
    def _in_rgb(frame: Frame, size: Size, converter: RgbConverter) -> NDArray[np.uint8]:
        """Convert to RGB of a size. Where that is smaller, the planes are scaled first: RGB is the dear part."""
        rgb = converter.convert(_shrunk(frame.planes, size), frame.color)
        if rgb.shape[:2] == (size.height, size.width):
            return rgb
        import cv2

        return np.asarray(cv2.resize(rgb, (size.width, size.height), interpolation=cv2.INTER_LINEAR), np.uint8)

    def redraw(self) -> None:
        """Show the last frame again, with the text of now."""
        self._screen.fill((0, 0, 0))
        if self._picture is not None:
            size = Size(*self._picture.get_size())
            left, top, _, _ = _letterbox(size, self._screen.get_size())
            self._screen.blit(self._picture, (left, top))
        if self._text:
            self._screen.blit(self._drawn_text(), (8, 8))
        self._pg.display.flip()

    def _drawn_text(self) -> pygame.Surface:
        if self._text_surface is None:
            lines = [self._font.render(line, True, (255, 255, 255)) for line in self._text]
            step = self._font.get_linesize()
            width = max(line.get_width() for line in lines) + 16
            surface: pygame.Surface = self._pg.Surface((width, step * len(lines) + 12), self._pg.SRCALPHA)
            surface.fill((0, 0, 0, 150))
            for row, line in enumerate(lines):
                surface.blit(line, (8, 6 + row * step))
            room = [max(side - 16, 16) for side in self._screen.get_size()]
            share = min(room[0] / surface.get_width(), room[1] / surface.get_height())
            if share < 1:
                surface = self._pg.transform.smoothscale_by(surface, share)
            self._text_surface = surface
        return self._text_surface

    # -- keys and mouse

    def poll(self) -> list[Command]:
        """Return what was asked for since the last call, in order; also lets the system move and resize the window."""
        commands: list[Command] = []
        changed = resized = False
        for event in self._pg.event.get():
            if event.type == self._pg.QUIT:
                commands.append(Action.QUIT)
            elif event.type == self._pg.KEYDOWN:
                key = self._pg.key.name(event.key)
                typed = event.dict.get("unicode", "")
                own = next((name for name in (key, typed) if name in self._own_keys), None)
                command = self._keys[own] if own else self._keys.get(typed) or self._keys.get(key)
                if command:
                    commands.append(command)
                elif key == "f" or (key == "escape" and self.full_screen):
                    self.toggle_full_screen()
                elif key == "escape":
                    commands.append(Action.QUIT)
                elif key == "v":
                    self.split = None if self.split is not None else 0.5
                    commands.append(SplitSet(self.split))
                    changed = True
            elif event.type in (self._pg.VIDEORESIZE, self._pg.VIDEOEXPOSE):
                resized = True
            elif self.split is not None and self._drag(event):
                commands.append(SplitSet(self.split))
                changed = True
        if resized:
            self._screen = self._pg.display.get_surface()
            self._text_surface = None  # it may have been shrunk to fit
        if resized or changed:
            self._draw()
            self.redraw()
        return commands

    def _drag(self, event: pygame.Event) -> bool:
        """Let the mouse carry the line of the split view. True if it has moved."""
        if event.type == self._pg.MOUSEBUTTONUP and event.button == 1:
            self._dragging = False
        elif event.type == self._pg.MOUSEBUTTONDOWN and event.button == 1:
            self._dragging = True
        elif event.type != self._pg.MOUSEMOTION or not (self._dragging and event.buttons[0]):
            return False
        if not self._dragging or self._picture is None:
            return False
        left, _, width, _ = _letterbox(Size(*self._picture.get_size()), self._screen.get_size())
        self.split = min(max((event.pos[0] - left) / width, 0.0), 1.0)
        return True

    def toggle_full_screen(self) -> None:
        """Cover the whole screen, or go back to a window of the size of before."""
        display = self._pg.display
        self.full_screen = not self.full_screen
        if self.full_screen:
            self._windowed, self._place = self._screen.get_size(), display.get_window_position()
            if len(display.get_desktop_sizes()) == 1:
                display.set_window_position((0, 0))  # where no window manager does it; else it would cut the picture
            # A size of 0 is the desktop's own: no change of its mode, which would take seconds and flicker.
            self._screen = display.set_mode((0, 0), self._pg.FULLSCREEN)
        else:
            self._screen = display.set_mode(self._windowed, self._pg.RESIZABLE)
            display.set_window_position(self._place)
        self._pg.mouse.set_visible(not self.full_screen or self.split is not None)
        self._text_surface = None
        self._draw()
        self.redraw()

    def close(self) -> None:
        """Close the window and SDL's video."""
        self._pg.font.quit()
        self._pg.display.quit()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _letterbox(picture: Size, window: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return where the picture lies in the window: left, top, width, height."""
    width, height = window
    scale = min(width / picture.width, height / picture.height)
    fitted = max(round(picture.width * scale), 1), max(round(picture.height * scale), 1)
    return (width - fitted[0]) // 2, (height - fitted[1]) // 2, *fitted


def _shrunk(planes: Planes, size: Size) -> Planes:
    """Scale planes down to a size; planes that are not larger stay as they are."""
    height, width = planes.y.shape
    if size.width >= width or size.height >= height:
        return planes
    import cv2

    def scaled(plane: Plane, to: Size) -> NDArray[np.uint8]:
        samples = np.ascontiguousarray(plane)
        return np.asarray(cv2.resize(samples, (to.width, to.height), interpolation=cv2.INTER_AREA), np.uint8)

    return Planes(scaled(planes.y, size), scaled(planes.u, size.chroma), scaled(planes.v, size.chroma))

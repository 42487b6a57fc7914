"""The preview window: frames on the screen, keys as actions. pygame-ce, which brings its own SDL.

pygame is imported when a window or a display is asked for, not before.
"""

from __future__ import annotations

import enum
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from rtstyle.errors import DisplayError
from rtstyle.frame import Frame, Plane, Planes, Size, planes_to_rgb

if TYPE_CHECKING:
    import pygame

_HEADLESS = ("offscreen", "dummy")
"""SDL's drivers that draw where nobody sees it."""

_NO_DISPLAY = "no window can be opened: there is no display here; use --preview none"

_SHARE_OF_SCREEN = 0.9


class Action(enum.Enum):
    """What the person at the window asks for."""

    QUIT = "quit"
    PAUSE = "pause"
    NEXT_STYLE = "next style"
    PREVIOUS_STYLE = "previous style"
    STRONGER = "stronger"
    WEAKER = "weaker"
    SNAPSHOT = "snapshot"
    MIRROR = "mirror"
    HUD = "HUD"
    HELP = "help"


KEYS_HELP = (
    "q Esc  quit",
    "space  pause",
    "n p  arrows  next, previous style",
    "+ -  strength",
    "s  snapshot (PNG)",
    "m  mirror",
    "h  figures",
    "?  this help",
)
"""The keys, one line each."""

_BY_NAME = {
    "q": Action.QUIT,
    "escape": Action.QUIT,
    "space": Action.PAUSE,
    "n": Action.NEXT_STYLE,
    "right": Action.NEXT_STYLE,
    "p": Action.PREVIOUS_STYLE,
    "left": Action.PREVIOUS_STYLE,
    "+": Action.STRONGER,
    "=": Action.STRONGER,
    "[+]": Action.STRONGER,
    "-": Action.WEAKER,
    "[-]": Action.WEAKER,
    "s": Action.SNAPSHOT,
    "m": Action.MIRROR,
    "h": Action.HUD,
    "?": Action.HELP,
}
"""Actions by SDL's name of the key (``[+]`` is on the keypad), or by the character that it types."""


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

    All methods belong to the thread that made it (on macOS the main thread). ``write`` before ``poll``:
    without a regular ``poll`` the system takes the window for hung.
    """

    def __init__(self, size: Size, *, title: str = "rtstyle") -> None:
        """Open the window, as large as the picture or as 9/10 of the screen.

        Raises:
            DisplayError: There is no display.
        """
        self._pg = _pygame()
        _open_display(self._pg)
        self._title = ""
        self._text: tuple[str, ...] = ()
        self._text_surface: pygame.Surface | None = None
        self._picture: pygame.Surface | None = None
        try:
            self._pg.font.init()
            self._font = self._pg.font.Font(None, 22)
            self._screen: pygame.Surface = self._pg.display.set_mode(self._fitting(size), self._pg.RESIZABLE)
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

    def write(self, frame: Frame) -> None:
        """Show a frame. Where the window is smaller, the planes are scaled first: RGB is the dear part."""
        width, height = _letterbox(frame.size, self._screen.get_size())[2:]
        rgb = planes_to_rgb(_shrunk(frame.planes, Size(width, height)), frame.colour)
        if rgb.shape[:2] != (height, width):
            import cv2

            rgb = np.asarray(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
        self._picture = self._pg.image.frombuffer(rgb.tobytes(), (width, height), "RGB")
        self.redraw()

    def redraw(self) -> None:
        """Show the last frame again, with the text of now."""
        self._screen.fill((0, 0, 0))
        if self._picture is not None:
            size = Size(*self._picture.get_size())
            left, top, width, height = _letterbox(size, self._screen.get_size())
            picture = self._picture
            if (width, height) != picture.get_size():
                picture = self._pg.transform.smoothscale(picture, (width, height))
            self._screen.blit(picture, (left, top))
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
            self._text_surface = surface
        return self._text_surface

    def poll(self) -> list[Action]:
        """Return what was asked for since the last call, in order; also lets the system move and resize the window."""
        actions = []
        stale = False
        for event in self._pg.event.get():
            if event.type == self._pg.QUIT:
                actions.append(Action.QUIT)
            elif event.type == self._pg.KEYDOWN:
                action = _BY_NAME.get(event.dict.get("unicode", "")) or _BY_NAME.get(self._pg.key.name(event.key))
                actions.extend([action] if action else [])
            elif event.type in (self._pg.VIDEORESIZE, self._pg.VIDEOEXPOSE):
                stale = True
        if stale:
            self._screen = self._pg.display.get_surface()
            self.redraw()
        return actions

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

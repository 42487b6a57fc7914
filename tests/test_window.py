"""The preview window: what keys mean, what is drawn, and where there is no display.

SDL's dummy driver is a real SDL without a screen; the test under Xvfb in test_live.py has a screen.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from rtstyle.actions import Action, SplitSet, StyleChosen
from rtstyle.errors import DisplayError
from rtstyle.frame import Color, Frame, Size, planes_from_rgb
from rtstyle.overlay import Tile
from rtstyle.style import list_styles
from rtstyle.window import KEYS_HELP, Window, has_display, keys_and_meanings

COLOR = Color("bt709", full_range=True)


def flat(size: Size, rgb: tuple[int, int, int]) -> Frame:
    picture = np.empty((size.height, size.width, 3), np.uint8)
    picture[:] = rgb
    return Frame(planes_from_rgb(picture, COLOR), 0, Fraction(1, 25), COLOR)


@pytest.fixture
def window(monkeypatch) -> Iterator[Window]:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with Window(Size(320, 180)) as window:
        yield window


def screen() -> np.ndarray:
    """What the window shows: RGB, shape (height, width, 3)."""
    import pygame

    return pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)


def press(key: int, character: str = "") -> None:
    """A key, and the character that it types."""
    import pygame

    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key, unicode=character, mod=0))


@pytest.mark.parametrize(
    ("name", "character", "action"),
    [
        ("K_q", "q", Action.QUIT),
        ("K_ESCAPE", "\x1b", Action.QUIT),
        ("K_SPACE", " ", Action.PAUSE),
        ("K_a", "a", Action.MASK),
        ("K_n", "n", Action.NEXT_STYLE),
        ("K_RIGHT", "", Action.NEXT_STYLE),
        ("K_p", "p", Action.PREVIOUS_STYLE),
        ("K_LEFT", "", Action.PREVIOUS_STYLE),
        ("K_PLUS", "+", Action.STRONGER),
        ("K_EQUALS", "=", Action.STRONGER),
        ("K_EQUALS", "+", Action.STRONGER),
        ("K_KP_PLUS", "+", Action.STRONGER),
        ("K_KP_PLUS", "", Action.STRONGER),
        ("K_MINUS", "-", Action.WEAKER),
        ("K_KP_MINUS", "", Action.WEAKER),
        ("K_1", "1", StyleChosen(0)),
        ("K_9", "9", StyleChosen(8)),
        ("K_0", "0", StyleChosen(9)),
        ("K_KP_2", "2", StyleChosen(1)),
        ("K_k", "k", Action.KEEP_COLORS),
        ("K_x", "x", Action.CROSSFADE),
        ("K_o", "o", Action.HOLD),
        ("K_r", "r", Action.RECORD),
        ("K_s", "s", Action.SNAPSHOT),
        ("K_m", "m", Action.MIRROR),
        ("K_h", "h", Action.HUD),
        ("K_SLASH", "?", Action.HELP),
    ],
)
def test_keys_mean_actions(window, name, character, action):
    import pygame

    press(getattr(pygame, name), character)

    assert window.poll() == [action]
    assert window.poll() == []


def test_other_keys_mean_nothing_and_closing_the_window_quits(window):
    import pygame

    press(pygame.K_j, "j")
    press(pygame.K_F15)
    pygame.event.post(pygame.event.Event(pygame.QUIT))

    assert window.poll() == [Action.QUIT]


def test_every_key_that_the_help_names_does_something(window):
    import pygame

    window.write(flat(Size(320, 180), (128, 128, 128)))
    named = {"space": (pygame.K_SPACE, " "), "Esc": (pygame.K_ESCAPE, "\x1b"), "tab": (pygame.K_TAB, "\t")}
    for line in KEYS_HELP:
        for word in line.split("  ")[0].replace("..", "").split():
            before = (window.split, window.full_screen)
            if word == "w":
                continue  # see the test of the clean window
            press(*(named.get(word) or (pygame.key.key_code({"?": "/"}.get(word, word)), word)))
            assert window.poll() or (window.split, window.full_screen) != before, word
            window.full_screen and window.toggle_full_screen()


def test_escape_leaves_full_screen_before_it_quits(window):
    import pygame

    size = pygame.display.get_window_size()
    window.write(flat(Size(320, 180), (200, 60, 30)))
    press(pygame.K_f, "f")
    assert window.poll() == []
    assert window.full_screen
    assert pygame.display.get_window_size() == pygame.display.get_desktop_sizes()[0]
    assert np.abs(screen()[400, 600].astype(int) - (200, 60, 30)).max() <= 2, "the frame is there at once"

    press(pygame.K_ESCAPE, "\x1b")
    assert window.poll() == []
    assert not window.full_screen
    assert pygame.display.get_window_size() == size

    press(pygame.K_ESCAPE, "\x1b")
    assert window.poll() == [Action.QUIT]


def test_the_split_view_shows_the_source_left_of_a_line_that_the_mouse_carries(window):
    import pygame

    stylized, source = flat(Size(320, 180), (200, 60, 30)), flat(Size(640, 360), (10, 200, 90))

    def shown_left_of(x: int) -> np.ndarray:
        return (np.abs(screen()[100].astype(int) - (10, 200, 90)).max(-1) <= 2)[: x - 2]

    def mouse(kind: int, x: int, **buttons: object) -> None:
        pygame.event.post(pygame.event.Event(kind, pos=(x, 100), **buttons))

    window.write(stylized, source)
    assert not shown_left_of(640).any()
    press(pygame.K_v, "v")
    assert window.poll() == [SplitSet(0.5)]
    assert shown_left_of(320).all(), "half, and at once, also while the frame is paused"
    assert shown_left_of(640).sum() < 322

    mouse(pygame.MOUSEMOTION, 100, buttons=(0, 0, 0))
    window.poll()
    assert shown_left_of(640).sum() > 300, "a mouse that only passes by carries nothing"
    mouse(pygame.MOUSEBUTTONDOWN, 400, button=1)
    mouse(pygame.MOUSEMOTION, 480, buttons=(1, 0, 0))
    mouse(pygame.MOUSEBUTTONUP, 480, button=1)
    mouse(pygame.MOUSEMOTION, 50, buttons=(0, 0, 0))
    window.poll()
    assert shown_left_of(480).all()
    assert shown_left_of(640).sum() < 482
    window.write(stylized, source)
    assert shown_left_of(480).all(), "the next frame is divided as well"

    press(pygame.K_v, "v")
    window.poll()
    assert not shown_left_of(640).any()


def test_a_frame_keeps_its_shape_and_its_colors(window):
    import pygame

    pygame.display.set_mode((300, 400), pygame.RESIZABLE)
    pygame.event.post(pygame.event.Event(pygame.VIDEORESIZE, size=(300, 400), w=300, h=400))
    window.poll()
    window.write(flat(Size(320, 160), (200, 60, 30)))

    shown = screen().astype(int)
    assert shown.shape == (400, 300, 3)
    assert not shown[:124].any(), "black above"
    assert not shown[276:].any(), "black below"
    assert np.abs(shown[126:274] - (200, 60, 30)).max() <= 2, "300 pixels wide, so 150 high"


def test_a_small_frame_fills_the_window(window):
    window.write(flat(Size(32, 18), (10, 200, 90)))

    shown = screen().astype(int)
    assert shown.shape[0] > 32
    assert np.abs(shown - (10, 200, 90)).max() <= 2


def test_a_frame_of_odd_size_is_shown(window):
    window.write(flat(Size(1921, 1081), (10, 200, 90)))

    assert (np.abs(screen().astype(int) - (10, 200, 90)).max(-1) <= 2).mean() > 0.98


def test_a_large_frame_gets_a_window_that_fits_the_screen(monkeypatch):
    import pygame

    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with Window(Size(7680, 4320)):
        width, height = pygame.display.get_window_size()
        desktop = pygame.display.get_desktop_sizes()[0]

    assert width <= desktop[0]
    assert height <= desktop[1]
    assert width / height == pytest.approx(16 / 9, rel=0.01)


def test_text_is_drawn_over_the_frame_and_goes_again(window):
    grey = flat(Size(320, 180), (128, 128, 128))
    window.write(grey)
    plain = screen()
    window.overlay.text = ["sketch   strength 1.0", "in 30.0  out 30.0 fps"]
    window.write(grey)
    lettered = screen()
    window.overlay.text = []
    window.redraw()

    assert plain.max() < 140
    assert lettered.max() > 240, "white letters"
    assert np.array_equal(screen(), plain)


def test_text_that_is_longer_than_the_window_is_shrunk_to_fit(window):
    window.write(flat(Size(320, 180), (128, 128, 128)))
    window.overlay.text = [*(40 * ["a line of help"]), "the last line"]
    window.redraw()

    assert screen()[-60:, :200].max() > 200, "the last line is in the window"


def mouse(kind: int, place: tuple[int, int], **more: object) -> None:
    import pygame

    pygame.event.post(pygame.event.Event(kind, pos=place, **more))


def test_styles_are_chosen_from_a_strip_that_the_mouse_calls(window):
    import pygame

    window.overlay.tiles = tuple(Tile(name, str(place + 1)) for place, name in enumerate(list_styles()))
    window.overlay.chosen = "sketch"
    window.write(flat(Size(320, 180), (128, 128, 128)))
    plain = screen()
    width, height = pygame.display.get_window_size()
    mouse(pygame.MOUSEMOTION, (width // 2, 20), buttons=(0, 0, 0))
    assert window.poll() == []
    assert np.array_equal(screen(), plain)
    mouse(pygame.MOUSEMOTION, (width // 2, height - 20), buttons=(0, 0, 0))
    assert window.poll() == []
    assert np.abs(screen()[-60:].astype(int) - plain[-60:]).mean() > 10, "it is there at once"
    strip, high = window.overlay._kept["strip"][1].get_size()
    rows = 2  # of six: twelve tiles in one row would be too small for their names
    for place in (0, 5, 6, 11):
        row, column = divmod(place, 6)
        x = (width - strip) // 2 + (2 * column + 1) * strip // 12
        middle = x, height - 8 - high + (2 * row + 1) * high // (2 * rows)
        mouse(pygame.MOUSEMOTION, middle, buttons=(0, 0, 0))
        mouse(pygame.MOUSEBUTTONDOWN, middle, button=1)
        assert window.poll() == [StyleChosen(place)]
    for word in ("blackboard", "composition vii"):
        assert window.overlay._width(word, 10) <= strip // 6 - 6, "names are whole"
    mouse(pygame.MOUSEMOTION, (width // 2, 20), buttons=(0, 0, 0))
    window.poll()
    assert np.array_equal(screen(), plain)


def test_a_clean_window_shows_the_frames_alone_and_may_be_closed(monkeypatch):
    import pygame

    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with Window(Size(320, 180), clean=True) as window:
        window.overlay.text, window.split = ("words",), 0.5
        window.write(flat(Size(320, 180), (200, 60, 30)), flat(Size(320, 180), (10, 200, 90)))
        surface = window._clean._window.get_surface()
        shown = pygame.surfarray.array3d(surface).astype(int)
        assert np.abs(shown - (200, 60, 30)).max() <= 2, "no words, no split"
        pygame.event.post(pygame.event.Event(pygame.WINDOWCLOSE, window=window._clean._window))
        assert window.poll() == []
        assert window._clean is None
        window.write(flat(Size(320, 180), (200, 60, 30)))
        pygame.event.post(pygame.event.Event(pygame.QUIT))
        assert window.poll() == [Action.QUIT]


def test_recording_help_and_notes_are_seen(window):
    window.write(flat(Size(640, 360), (128, 128, 128)))
    plain = screen()
    window.overlay.recording = 75.0
    window.redraw()
    dot = screen()[:50, -120:].astype(int)
    assert ((dot[..., 0] > 180) & (dot[..., 1] < 90)).sum() > 20, "a red dot"
    window.overlay.recording, window.overlay.help = None, keys_and_meanings()
    window.redraw()
    assert screen()[180, 320].max() < 100, "the help lies in the middle"
    window.overlay.text = ("figures",)
    window.redraw()
    assert np.array_equal(screen()[:30, :60], plain[:30, :60]), "no figures below the help"
    window.overlay.text = ()
    window.overlay.help, window.overlay.toast = (), "strength 0.9"
    window.redraw()
    assert screen()[-50:].max() > 240
    window.overlay.toast = ""
    window.redraw()
    assert np.array_equal(screen(), plain)


def test_figures_leave_room_for_the_recording_sign_and_help_is_upright_in_a_tall_window(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with Window(Size(480, 640)) as window:
        window.write(flat(Size(480, 640), (128, 128, 128)))
        overlay, width = window.overlay, screen().shape[1]
        overlay.text, overlay.recording = (20 * "figures ",), 75.0
        window.redraw()
        text, sign = (overlay._kept[name][1].get_width() for name in ("text", "recording"))
        assert text + sign <= width - 24
        overlay.help = keys_and_meanings()
        window.redraw()
        box = overlay._kept["help"][1]
        assert box.get_height() > box.get_width(), "one column"
        assert box.get_height() <= screen().shape[0] - 16


def test_the_split_has_a_handle_where_the_mouse_can_take_it(window):
    window.write(flat(Size(640, 360), (128, 128, 128)))
    window.split = 0.25
    window.write(flat(Size(640, 360), (128, 128, 128)))
    shown = screen().astype(int)
    handle = (shown[170:190, 148:172].min(-1) > 240).mean()
    assert handle > 0.3, "a white disk on the line"
    assert (shown[100:120, 148:172].min(-1) > 240).mean() < 0.15, "elsewhere it is a thin line"


def test_the_title_can_change(window):
    import pygame

    window.title = "rtstyle: ink"

    assert pygame.display.get_caption()[0] == "rtstyle: ink"


SCRIPT = """
import sys
from rtstyle.errors import DisplayError
from rtstyle.frame import Size
from rtstyle.window import Window, has_display
assert "pygame" not in sys.modules
seen = has_display()
try:
    Window(Size(64, 48))
except DisplayError as error:
    print(seen, error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux runs without a display")
@pytest.mark.parametrize("display", [None, ":971"], ids=["unset", "dead"])
def test_without_a_display_there_is_one_clear_line(display):
    env = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")}
    env["PYTHONPATH"] = str(Path(__file__).parents[1])
    if display:
        env["DISPLAY"] = display

    done = subprocess.run([sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    assert done.stdout == "False no window can be opened: there is no display here; use --preview none\n"


def test_pygame_prints_no_greeting():
    env = {**os.environ, "SDL_VIDEODRIVER": "dummy", "PYTHONPATH": str(Path(__file__).parents[1])}
    code = "from rtstyle.window import has_display; print(has_display())"

    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)

    assert done.stdout == "True\n"


def test_a_headless_driver_counts_as_a_display_only_if_asked_for(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    assert has_display()
    monkeypatch.setenv("SDL_VIDEODRIVER", "nosuchdriver")
    assert not has_display()
    with pytest.raises(DisplayError, match="use --preview none"):
        Window(Size(64, 48))

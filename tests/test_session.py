"""What a session does with commands: commands, crossfade, working size, hold, an absent camera."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from test_camera import SIZE, NetworkCamera, draw_number, jpeg, read_number
from test_live import Person, Slowed, after, nothing_left_over, window_says  # noqa: F401

import rtstyle.backends.opening
from rtstyle import Controls, Engine, Frame, FrameSource, LiveSettings, Outputs, Size, open_engine, stylize_live
from rtstyle.actions import Action, BlendSet, Command, SessionState, SizeClassSet, StrengthSet, StyleChosen
from rtstyle.backends import EngineSettings, open_for
from rtstyle.camera import CaptureSettings, open_source
from rtstyle.frame import Color, Planes
from rtstyle.live.adaptive import AdaptiveQuality, Working, quality_levels, working_sizes
from rtstyle.live.denoise import Denoiser
from rtstyle.live.fanout import Fanout
from rtstyle.live.images import with_message
from rtstyle.live.latest import LatestFrame
from rtstyle.live.session import Session, SessionParts
from rtstyle.live.styles import FADE, Styles
from rtstyle.overlay import Overlay
from rtstyle.style import list_styles

COLOR = Color("bt709", full_range=True)
F32 = EngineSettings(backend="openvino", precision="f32")


@pytest.fixture
def dummy_display(monkeypatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


@dataclass
class Drawn:
    """What the window drew over a frame."""

    text: tuple[str, ...]
    toast: str


def draws(monkeypatch) -> list[Drawn]:
    """Note what windows draw from now on."""
    drawn: list[Drawn] = []

    def draw(overlay: Overlay, screen: object) -> None:
        drawn.append(Drawn(overlay.text, overlay.toast))

    monkeypatch.setattr(Overlay, "draw", draw)
    return drawn


class DimCamera(FrameSource):
    """Declares 30 frames per second, and sends fewer, as webcams do in dim light."""

    size, rate, live = Size(64, 48), Fraction(30), True

    def __init__(self, fps: float) -> None:
        self.fps = fps

    def __iter__(self) -> Iterator[Frame]:
        image, begin = np.full((48, 64, 3), 90, np.uint8), time.monotonic()
        for number in itertools.count():
            time.sleep(max(begin + number / self.fps - time.monotonic(), 0))
            yield Frame.from_rgb(image, pts=number, time_base=Fraction(1, 30), color=self.color)


class Kept:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def write(self, frame: Frame) -> None:
        self.frames.append(frame)

    def close(self) -> None: ...


@contextmanager
def live_session(url: str, *, controls: Controls = Controls(), wait: float = 0) -> Iterator[tuple[Session, Kept]]:
    """A session without a window, made of the real parts, and what it gives out."""
    kept = Kept()
    with ExitStack() as stack:
        source = stack.enter_context(open_source(url, CaptureSettings(timeout=2, wait=wait)))

        def make(style: str, working: Working) -> Engine:
            return open_for(style, working.size, source.color, F32, live=True, working=working.size)

        newest = stack.enter_context(LatestFrame(source))
        styles = stack.enter_context(Styles("sketch", Working("default", source.size), make))
        outlets = stack.enter_context(Fanout(lambda line: None, alone=True))
        outlets.add("kept", kept, "all")
        newest.begin()
        parts = SessionParts(latest=newest, styles=styles, fanout=outlets, size=source.size)
        yield Session(parts, controls), kept


def run_and_post(session: Session, *steps: tuple[Command, Callable[[SessionState], bool]]) -> list[str]:
    """Run a session; post each command, wait until the state shows it, then quit. Returns the steps that came true."""
    done: list[str] = []

    def person() -> None:
        for command, shown in steps:
            session.post(command)
            end = time.monotonic() + 15
            while not shown(session.state) and time.monotonic() < end:
                time.sleep(0.01)
            if time.monotonic() < end:
                done.append(str(command))
        session.post(Action.QUIT)

    thread = threading.Thread(target=person)
    thread.start()
    session.run(None, 60, threading.Event())
    thread.join()
    return done


# -- commands from other threads


def test_other_threads_command_a_session_and_read_its_state():
    with NetworkCamera() as camera, live_session(camera.url) as (session, kept):
        steps = (
            (StrengthSet(0.4), lambda s: s.strength == 0.4),
            (StrengthSet(7), lambda s: s.strength == 2),
            (Action.WEAKER, lambda s: s.strength == 1.9),
            (Action.KEEP_COLORS, lambda s: s.keeps_colors),
            (Action.MIRROR, lambda s: s.mirrored),
            (Action.HOLD, lambda s: s.holds),
            (Action.CROSSFADE, lambda s: not s.crossfades),
            (StyleChosen("red_chalk"), lambda s: s.style == "red_chalk"),
            (StyleChosen(0), lambda s: s.style == s.styles[0] == list_styles()[0]),
            (StyleChosen(99), lambda s: s.loading is None),
            (StyleChosen("/etc"), lambda s: s.loading is None),
            (Action.NEXT_STYLE, lambda s: s.style == s.styles[1]),
            (Action.PAUSE, lambda s: s.paused),
        )
        done = run_and_post(session, *steps)

    assert done == [str(command) for command, _ in steps]
    assert len(kept.frames) > 5


def test_frames_continue_over_many_changes_and_a_loss_of_the_camera():
    """The camera draws its clock into each frame; a frozen output would show the same one again."""
    with NetworkCamera() as camera, live_session(camera.url, controls=Controls.of(0), wait=60) as (session, kept):
        clocks: list[int] = []

        def moves(state: SessionState) -> bool:
            count, end = len(kept.frames), time.monotonic() + 5
            while len(kept.frames) < count + 2 and time.monotonic() < end:
                time.sleep(0.005)
            clocks.append(read_number(kept.frames[-1].planes.y))
            return len(kept.frames) >= count + 2

        def is_in_use(name: str) -> Callable[[SessionState], bool]:
            return lambda state: state.style == name and moves(state)

        def back(state: SessionState) -> bool:
            camera.gone.set()
            time.sleep(0.3)
            camera.gone.clear()
            time.sleep(1.2)
            return moves(state)

        steps = [(StyleChosen(name), is_in_use(name)) for name in ["ink", "sketch", "cartoon"] * 3]
        steps[5:5] = [
            (BlendSet(0.5, "ink"), moves),
            (SizeClassSet("fast"), moves),
            (Action.HUD, back),
            (BlendSet(0.0), moves),
        ]
        assert len(run_and_post(session, *steps)) == len(steps)
    assert all(after > before for before, after in itertools.pairwise(clocks))


def test_colors_are_kept_while_the_strength_changes():
    picture = np.zeros((96, 160, 3), np.uint8)
    picture[:, :80], picture[:, 80:] = (200, 60, 30), (30, 60, 200)
    data = jpeg(picture)
    with NetworkCamera(picture=lambda n: data) as camera, live_session(camera.url) as (session, kept):
        run_and_post(
            session,
            (Action.HUD, lambda s: len(kept.frames) > 3),
            (Action.KEEP_COLORS, lambda s: s.keeps_colors),
            (Action.STRONGER, lambda s: s.strength == 1.1),
            (Action.HELP, lambda s: len(kept.frames) > 20),
        )

    first, last = kept.frames[0].planes, kept.frames[-1].planes
    assert last.u.min() < 120 < 136 < last.u.max(), "blue left, red right: the source's own colors"
    assert np.abs(last.u.astype(int) - 128).mean() > 2 * np.abs(first.u.astype(int) - 128).mean(), "sketch is grey"
    assert np.abs(last.y.astype(int) - first.y).mean() > 0.5, "luma is still stylized"


# -- recording by key


def test_the_key_r_begins_and_ends_numbered_recordings(dummy_display, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rtstyle-0001.mp4").write_bytes(b"older")
    lines: list[str] = []

    def told(count: int) -> Callable[[], bool]:
        return lambda: sum(line.startswith("recorded ") for line in lines) == count

    with (
        NetworkCamera() as camera,
        Person(
            ("r", window_says("sketch")), ("r", after(1)), ("r", told(1)), ("r", after(1)), ("q", told(2))
        ) as person,
    ):
        report = stylize_live(camera.url, live=LiveSettings(seconds=30), say=lines.append)

    assert person.done == ["r", "r", "r", "r", "q"]
    assert (tmp_path / "rtstyle-0001.mp4").read_bytes() == b"older"
    for name in ("rtstyle-0002.mp4", "rtstyle-0003.mp4"):
        with av.open(str(tmp_path / name)) as container:
            assert 5 <= len(list(container.decode(video=0))) < report.shown
    assert sum(state["frames"] for name, state in report.sinks.items() if name != "window") < report.shown
    assert report.sinks["window"]["frames"] == report.shown
    assert report.sinks["window"]["latency_ms"]["p50"] >= report.latency_ms["p50"]


# -- a new style fades in


def flat(level: int, size: Size = SIZE) -> Frame:
    chroma = np.full((size.chroma.height, size.chroma.width), 128, np.uint8)
    return Frame(Planes(np.full((size.height, size.width), level, np.uint8), chroma, chroma), 0, Fraction(1), COLOR)


def ready_styles(style: str, **options: bool) -> Styles:
    def make(name: str, working: Working) -> Engine:
        return open_for(name, working.size, COLOR, F32, live=True, working=working.size)

    return Styles(style, Working("default", SIZE), make, **options)


def wait_for_swap(styles: Styles) -> None:
    end = time.monotonic() + 20
    while not styles.swap():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_new_style_fades_in_by_mixing_both_outputs(monkeypatch):
    monkeypatch.setattr(rtstyle.live.styles, "_SLOW", 5.0)  # however busy this machine is
    frame = flat(90)
    with ready_styles("sketch") as styles:
        for _ in range(5):  # a busy machine may take long for one of them
            old = styles.stylize(frame, Controls()).planes.y.astype(float)
        styles.choose("great_wave")
        wait_for_swap(styles)
        shares, pictures, begin = [], [], time.monotonic()
        while styles.fading:
            pictures.append(styles.stylize(frame, Controls()).planes.y.astype(float))
            time.sleep(0.04)
        took = time.monotonic() - begin

    new = pictures[-1]
    assert np.abs(new - old).mean() > 10, "two styles that differ visibly"
    for picture in pictures:
        share = float(((picture - old) * (new - old)).sum() / ((new - old) ** 2).sum())
        assert np.abs(picture - (old + share * (new - old))).max() <= 1, "nothing but a mix"
        shares.append(share)
    assert shares == sorted(shares)
    assert shares[0] < 0.7
    assert shares[-1] == 1
    assert len(shares) >= 3
    assert FADE <= took < FADE + 2


def test_without_crossfade_or_with_slow_engines_a_new_style_is_there_at_once(monkeypatch):
    with ready_styles("sketch", crossfade=False) as styles:
        styles.stylize(flat(90), Controls())
        styles.choose(1)
        wait_for_swap(styles)
        assert not styles.fading

    monkeypatch.setattr(rtstyle.backends.opening, "open_engine", lambda *a, **o: Slowed(open_engine(*a, **o), 0.1))
    with ready_styles("sketch") as styles:
        styles.stylize(flat(90), Controls())
        styles.choose(1)
        wait_for_swap(styles)
        assert not styles.fading, "two slow engines are too slow for a fade"


# -- working size


class Machine:
    """Time in which a machine stylizes: a part that grows with network and pixels, and a part that does not."""

    def __init__(self, pace: AdaptiveQuality, engine_ms: float, other_ms: float) -> None:
        self.pace, self.engine_ms, self.other_ms = pace, engine_ms, other_ms
        self.arriving: float | None = None
        self.now, self.levels = 0.0, [pace.working]

    def engine(self, level: Working) -> float:
        """Milliseconds for a frame; the fast network takes 0.4 of the default one."""
        pixels = level.size.width * level.size.height / (1280 * 720)
        return self.engine_ms * pixels * (0.4 if level.size_class == "fast" else 1)

    def run(self, seconds: float) -> int:
        """Frames for so long; returns how often the quality level was changed."""
        changes, end = 0, self.now + seconds
        while self.now < end:
            engine = self.engine(self.levels[-1])
            self.now += max((engine + self.other_ms) / 1000, 1 / 30)
            if self.pace.add(self.levels[-1], engine, self.other_ms, self.now, self.arriving):
                changes += 1
                self.levels.append(self.pace.working)
        return changes


def sizes_only(size: Size) -> list[Working]:
    return quality_levels(size, ["default"], smaller=True)


def test_working_sizes_are_even_and_never_tiny():
    assert [str(s) for s in working_sizes(Size(1920, 1080))] == ["1920x1080", "1440x810", "960x540", "720x404"]
    assert all(s.width % 2 == s.height % 2 == 0 for s in working_sizes(Size(853, 481))[1:])
    assert working_sizes(Size(20, 16)) == [Size(20, 16)]


def test_the_pace_goes_down_to_the_size_that_fits_and_up_again_when_there_is_room():
    size = Size(1280, 720)
    machine = Machine(AdaptiveQuality(sizes_only(size), 25), engine_ms=90, other_ms=4)
    machine.run(5)
    assert [level.size for level in machine.levels] == [size, Size(640, 360)], "in one step: 3/4 would take 55 ms of 40"

    machine.engine_ms = 20  # another program was ended
    machine.run(20)
    assert machine.levels[-1].size == size

    assert machine.run(60) == 0


def test_the_fast_network_comes_before_a_smaller_size():
    size = Size(1280, 720)
    levels = quality_levels(size, ["default", "fast"], smaller=True)
    assert [str(level) for level in levels[:3]] == ["1280x720", "1280x720 fast", "960x540 fast"]

    machine = Machine(AdaptiveQuality(levels, 25), engine_ms=60, other_ms=4)
    assert machine.run(30) == 1, "the default network would not fit again"
    assert machine.levels[-1] == Working("fast", size)

    machine.engine_ms = 20
    machine.run(20)
    assert machine.levels[-1] == Working("default", size)

    assert quality_levels(size, ["default", "fast"], smaller=False) == levels[:2]


def test_the_pace_stays_where_it_is_if_the_machine_is_fast_enough():
    size = Size(1280, 720)
    machine = Machine(
        AdaptiveQuality(quality_levels(size, ["default", "fast"], smaller=True), 30), engine_ms=20, other_ms=5
    )

    assert machine.run(60) == 0


def test_the_pace_goes_by_what_arrives_where_the_source_declares_no_rate():
    levels = quality_levels(Size(1280, 720), ["default", "fast"], smaller=False)
    machine = Machine(AdaptiveQuality(levels, None), engine_ms=60, other_ms=4)
    assert machine.run(3) == 0, "nothing is known yet"
    machine.arriving = 25
    machine.run(3)
    assert machine.levels[-1] == levels[1]
    assert machine.pace.behind == 0


def test_dim_light_that_halves_the_rate_of_a_camera_costs_no_quality():
    levels = quality_levels(Size(1280, 720), ["default", "fast"], smaller=True)
    machine = Machine(AdaptiveQuality(levels, 30), engine_ms=60, other_ms=4)
    machine.arriving = 12
    assert machine.run(20) == 0
    machine.arriving = 30
    assert machine.run(3) == 1


@pytest.mark.parametrize(("sent", "named"), [(12, True), (30, False)])
def test_a_camera_that_sends_less_than_it_declares_is_named_in_the_figures(dummy_display, monkeypatch, sent, named):
    shown = draws(monkeypatch)
    stylize_live(DimCamera(sent), engine=F32, live=LiveSettings(seconds=4, follow="off"), controls=Controls.of(0))
    words = "\n".join(line for overlay in shown for line in overlay.text)
    assert "frames per second" in words
    assert (f"the camera sends {sent}, not 30" in words) == named
    assert ("the camera sends" in words) == named


def test_the_pace_tells_when_the_cheapest_way_is_too_slow():
    levels = quality_levels(Size(1280, 720), ["default", "fast"], smaller=False)
    machine = Machine(AdaptiveQuality(levels, 30), engine_ms=300, other_ms=4)
    machine.run(8)
    assert machine.levels[-1] == levels[1]
    assert machine.pace.behind >= 3
    machine.engine_ms = 20
    machine.run(3)
    assert machine.pace.behind == 0


def test_the_pace_does_not_go_to_and_fro():
    """Engines whose small sizes cost less than the pixels say lure it up; it tries less and less often."""
    size = Size(1280, 720)

    class Deceptive(Machine):
        def engine(self, level: Working) -> float:
            return 60.0 if level.size == size else 12.0

    machine = Deceptive(AdaptiveQuality(sizes_only(size), 25), engine_ms=0, other_ms=4)
    first, second = machine.run(60), machine.run(300)

    assert first <= 10
    assert second <= 12, "once a minute at most, down and up"


class SlowedByPixels(Slowed):
    """A real engine that rests in proportion to its pixels."""

    def __init__(self, engine: Engine, full: Size, seconds: float) -> None:
        super().__init__(engine, seconds * engine.size.width * engine.size.height / (full.width * full.height))


def test_a_slow_machine_works_in_a_smaller_size_and_records_in_the_full_one(dummy_display, monkeypatch, tmp_path):
    full = Size(320, 192)
    monkeypatch.setattr(
        rtstyle.backends.opening, "open_engine", lambda *a, **o: SlowedByPixels(open_engine(*a, **o), full, 0.12)
    )
    data = jpeg(draw_number(5, full))
    lines: list[str] = []
    with NetworkCamera(picture=lambda n: data) as camera:
        report = stylize_live(
            camera.url,
            live=LiveSettings(seconds=6, target_fps=15),
            outputs=Outputs(record=tmp_path / "r.mkv"),
            say=lines.append,
        )

    assert report.size == "320x192"
    levels = quality_levels(full, ["default", "fast"], smaller=True)
    assert {"320x192", "320x192 fast"} < set(report.working_sizes) <= set(map(str, levels))
    assert sum(report.working_sizes.values()) == report.shown
    assert report.working_sizes["320x192"] < report.shown / 2, "smaller ones come faster"
    assert any(line.startswith("working with the fast network at ") for line in lines)
    with av.open(str(tmp_path / "r.mkv")) as container:
        sizes = {(frame.width, frame.height) for frame in container.decode(video=0)}
    assert sizes == {(320, 192)}


def test_a_camera_without_a_rate_gets_the_fast_network_and_a_line_that_helps(dummy_display, monkeypatch):
    full, shown = Size(320, 192), draws(monkeypatch)
    monkeypatch.setattr(
        rtstyle.backends.opening, "open_engine", lambda *a, **o: SlowedByPixels(open_engine(*a, **o), full, 0.15)
    )
    data = jpeg(draw_number(5, full))
    with NetworkCamera(picture=lambda n: data) as camera:  # multipart JPEGs declare none
        report = stylize_live(camera.url, live=LiveSettings(seconds=12))
    assert set(report.working_sizes) == {"320x192", "320x192 fast"}
    said = [line for line in report.warnings if "frames per second" in line]
    assert len(said) == 1
    assert "this machine stylizes about " in said[0]
    assert "--target-fps" in said[0]
    assert any(overlay.toast == said[0] for overlay in shown), "on the frame, too"


def test_keys_and_tiles_have_one_order_whatever_a_session_begins_with():
    shipped = list_styles()
    for first in ("ink", "sketch"):
        with ready_styles(first) as styles:
            assert styles.names == shipped
    with ready_styles("sketch:0.5,ink:0.5") as styles:
        assert styles.names == [*shipped, "sketch:0.5,ink:0.5"]


# -- hold


def noisy(rng: np.random.Generator, scene: np.ndarray, sigma: float = 2.0) -> Planes:
    """A camera's frame of a scene (float luma): noise in all planes."""
    height, width = scene.shape

    def sensed(level: np.ndarray, noise: float) -> np.ndarray:
        return np.clip(np.rint(level + rng.normal(0, noise, level.shape)), 0, 255).astype(np.uint8)

    grey = np.full((height // 2, width // 2), 128.0)
    return Planes(sensed(scene, sigma), sensed(grey, sigma / 2), sensed(grey, sigma / 2))


def room(height: int = 240, width: int = 320) -> np.ndarray:
    """A still background with soft and hard edges."""
    y, x = np.mgrid[:height, :width]
    return 60 + 100 * (x / width) + 30 * np.sin(y / 9) + 40 * ((x // 40 + y // 40) % 2)


def change_db(old: np.ndarray, new: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(((new.astype(float) - old) ** 2).mean(), 1e-6)))


@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.0])
def test_a_still_background_stops_shimmering(sigma):
    rng, hold, scene = np.random.default_rng(1), Denoiser(), room()
    sources = [noisy(rng, scene, sigma) for _ in range(30)]
    held = [hold.apply(planes).y.copy() for planes in sources]

    before = change_db(sources[-2].y, sources[-1].y)
    after = np.mean([change_db(a, b) for a, b in itertools.pairwise(held[15:])])
    assert after - before > 15
    assert np.abs(held[-1] - scene).mean() < 1.1 * np.abs(sources[-1].y - scene).mean(), "no worse than one frame"


def test_what_moves_is_taken_as_it_is_and_leaves_no_ghost():
    rng, hold, scene = np.random.default_rng(2), Denoiser(), room()
    for step in range(40):
        now = scene.copy()
        left = 20 + 5 * step
        now[80:160, left : left + 60] = 20 + 180 * (np.arange(60) // 6 % 2)
        source = noisy(rng, now)
        held = hold.apply(source)
        if step > 10:
            inside = (slice(80, 160), slice(left, left + 60))
            moved = np.abs(held.y[inside].astype(int) - source.y[inside])
            assert moved.mean() < 0.5, "the object is the new frame"
            assert np.percentile(moved, 99) <= 6
            behind = (slice(84, 156), slice(max(left - 80, 0), left - 10))
            ghost = np.abs(cv2.blur(held.y[behind].astype(np.float32) - now[behind].astype(np.float32), (9, 9)))
            assert ghost.max() < 4, "levels: nothing of the object stays behind"


def test_light_that_changes_slowly_and_cuts_are_followed():
    rng, hold, scene = np.random.default_rng(3), Denoiser(), room()
    for step in range(60):
        held = hold.apply(noisy(rng, 0.8 * scene + step / 2))
    assert np.abs(cv2.blur(held.y.astype(float) - (0.8 * scene + 29.5), (15, 15))).mean() < 3

    cut = noisy(rng, 255 - scene)
    assert (np.abs(hold.apply(cut).y.astype(int) - cut.y) <= 1).mean() > 0.97, "a cut is there at once"

    smaller = noisy(rng, room(96, 160))
    assert np.array_equal(hold.apply(smaller).y, smaller.y), "another size begins again"


def test_the_hold_leaves_its_input_alone_and_takes_mirrored_and_odd_frames():
    rng, hold = np.random.default_rng(4), Denoiser()
    for _ in range(3):
        y, u = rng.integers(0, 255, (97, 161), np.uint8), rng.integers(0, 255, (49, 81), np.uint8)
        planes = Planes(y[:, ::-1], u[:, ::-1], u[:, ::-1])
        before = y.copy()
        held = hold.apply(planes)
        assert np.array_equal(y, before)
        assert [plane.shape for plane in held] == [(97, 161), (49, 81), (49, 81)]
        assert not np.shares_memory(held.y, y)


# -- a frame that is paused


def test_a_paused_frame_shows_what_is_asked_for_to_viewers_elsewhere():
    still: list[int] = []

    def stands(state: SessionState) -> bool:
        if state.paused:
            still.append(len(kept.frames))
        return len(still) > 20 and still[-1] == still[-20]

    def repainted(state: SessionState) -> bool:
        return len(kept.frames) > still[-1]

    with NetworkCamera() as camera, live_session(camera.url) as (session, kept):
        steps = (
            (Action.HUD, lambda s: len(kept.frames) > 5),
            (Action.PAUSE, stands),
            (StrengthSet(0.1), repainted),
        )
        assert len(run_and_post(session, *steps)) == 3

    before, after = kept.frames[-2].planes.y.astype(int), kept.frames[-1].planes.y.astype(int)
    assert np.abs(after - before).mean() > 2


# -- a camera that is away


def test_while_a_camera_is_away_the_last_frame_says_so():
    with NetworkCamera() as camera, live_session(camera.url, wait=60) as (session, kept):
        count: list[int] = []

        def unplug(state: SessionState) -> bool:
            if len(kept.frames) > 5:
                camera.gone.set()
                count.append(len(kept.frames))
                return True
            return False

        def gaps() -> list[float]:
            moments = [float(frame.pts * frame.time_base) for frame in kept.frames[-3:]]
            return [b - a for a, b in itertools.pairwise(moments)]

        def stills(state: SessionState) -> bool:  # what was on its way comes first, as fast as ever
            return len(kept.frames) >= count[0] + 5 and min(gaps()) > 0.45

        run_and_post(session, (Action.HUD, unplug), (Action.HUD, stills))

    last, before = (frame.planes.y[SIZE.height // 2 - 4 : SIZE.height // 2 + 4] for frame in kept.frames[-1:-3:-1])
    assert (last < 20).mean() > 0.3, "a dark band"
    assert (last > 150).any(), "with letters"
    assert (before < 20).mean() > 0.3
    assert all(0.45 < gap < 2 for gap in gaps()), "twice a second"


@pytest.mark.parametrize("size", [Size(160, 96), Size(1281, 721), Size(320, 640)])
def test_a_message_fits_into_any_frame(size):
    frame = flat(200, size)

    written = with_message(frame, "camera 0 is gone; waiting for it (12 s)")

    assert written.size == size
    changed = np.argwhere(written.planes.y != 200)
    assert changed[:, 0].min() > size.height // 4
    assert changed[:, 0].max() < 3 * size.height // 4
    assert (written.planes.y == 200).mean() > 0.7
    letters = np.argwhere(written.planes.y > 210)
    assert len(letters) > 5
    assert letters[:, 1].min() > 0
    assert letters[:, 1].max() < size.width - 1
    assert (frame.planes.y == 200).all()


# -- a real screen: every key does what the help says

XVFB = [name for name in ("Xvfb", "xdotool", "import", "xwininfo") if shutil.which(name) is None]

SCREEN = (1280, 800)

SHOW = """
import dataclasses, json, sys
from rtstyle import LiveSettings, stylize_live
say = lambda line: print(line, file=sys.stderr, flush=True)
print(json.dumps(dataclasses.asdict(stylize_live(sys.argv[1], live=LiveSettings(seconds=90), say=say))))
"""


class Screen:
    """An X server without a window manager, its keyboard and mouse, and what is to be seen on it."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = env

    def run(self, *words: str) -> bytes:
        return subprocess.run(words, env=self.env, capture_output=True, timeout=20, check=True).stdout

    def key(self, *names: str) -> None:
        self.run("xdotool", "key", *names)

    def picture(self) -> np.ndarray:
        """BGR, shape (800, 1280, 3)."""
        shot = np.frombuffer(self.run("import", "-window", "root", "png:-"), np.uint8)
        return cv2.imdecode(shot, cv2.IMREAD_COLOR)

    def _line(self) -> str:
        lines = self.run("xwininfo", "-root", "-tree").decode().splitlines()
        return next((line for line in lines if '"rtstyle: ' in line), "")

    def window_id(self) -> str:
        return self._line().split()[0]

    def window(self) -> tuple[str, int, int, int, int]:
        """Title, left, top, width and height of the window."""
        line = self._line()
        if line:
            title, rest = line.split('"')[1], line.rsplit("  ", 2)
            width, height = (int(number) for number in rest[-2].split("+")[0].split("x"))
            left, top = (int(number) for number in rest[-1].strip("+").split("+"))
            return title, left, top, width, height
        return "", 0, 0, 0, 0

    def inside(self) -> np.ndarray:
        """The part of the screen that the window covers."""
        _, left, top, width, height = self.window()
        return self.picture()[top : top + height, left : left + width]

    def wait(self, what: str, seen: Callable[[], bool]) -> None:
        end = time.monotonic() + 20
        while not seen():
            assert time.monotonic() < end, what
            time.sleep(0.1)


@contextmanager
def xvfb() -> Iterator[Screen]:
    read, write = os.pipe()
    size = "x".join(map(str, SCREEN))
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", f"{size}x24", "-nolisten", "tcp"],
        pass_fds=[write],
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    try:
        with os.fdopen(read) as pipe:
            display = f":{pipe.readline().strip()}"
        env = {name: value for name, value in os.environ.items() if name != "SDL_VIDEODRIVER"}
        yield Screen(env | {"DISPLAY": display, "PYTHONPATH": str(Path(__file__).parents[1])})
    finally:
        server.terminate()
        server.wait()


def colorful(size: Size = Size(640, 360)) -> bytes:
    """Red left, blue right: the screen shows mirror, split and color."""
    picture = np.zeros((size.height, size.width, 3), np.uint8)
    picture[:, : size.width // 2], picture[:, size.width // 2 :] = (40, 40, 220), (220, 40, 40)
    return jpeg(picture)


@pytest.mark.skipif(bool(XVFB), reason=f"not installed: {', '.join(XVFB)}")
def test_every_key_does_what_the_help_says_on_a_real_screen(tmp_path):
    data = colorful()
    log = tmp_path / "log.txt"
    with NetworkCamera(fps=15, picture=lambda n: data) as camera, xvfb() as screen, log.open("w") as err:
        show = subprocess.Popen(
            [sys.executable, "-c", SHOW, camera.url], env=screen.env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=err
        )

        def told(line: str) -> bool:
            return line in log.read_text()

        def reds(part: np.ndarray) -> float:
            """How red a part of the frame is, and not blue: levels."""
            return float(part[..., 2].mean() - part[..., 0].mean())

        def halves() -> tuple[float, float]:
            """How red the lower left and the lower right quarter are; words are above."""
            shown = screen.inside()
            height, width = shown.shape[:2]
            low = shown[height * 3 // 4 : height - 4]
            return reds(low[:, 4 : width // 2 - 8]), reds(low[:, width // 2 + 8 : -4])

        try:
            screen.wait("a window with a frame", lambda: screen.window()[3] == 640 and screen.inside().std() > 5)
            # The keyboard comes when it comes without a window manager: press a key until it works.
            screen.wait("a first key", lambda: (screen.key("x"), told_in_title_or_text(screen))[1])

            left, _ = halves()
            assert abs(left) < 25, "sketch is grey"
            screen.key("k")  # 70 and -70 levels, 50 and -90 with the fast network, which a slow machine gets
            screen.wait("k keeps the colors", lambda: halves()[0] > 35 and halves()[1] < -35)
            screen.key("m")
            screen.wait("m mirrors", lambda: halves()[0] < -35 and halves()[1] > 35)
            screen.key("m", "k")
            screen.wait("m and k again", lambda: abs(halves()[0]) < 25)

            screen.key("v")
            screen.wait("v shows the source left", lambda: halves()[0] > 60 and abs(halves()[1]) < 25)
            _, x, y, width, height = screen.window()
            screen.run("xdotool", "mousemove", str(x + width // 2), str(y + height // 2), "mousedown", "1")
            screen.run("xdotool", "mousemove", str(x + width - 4), str(y + height // 2), "mouseup", "1")
            screen.wait("the line is dragged to the right", lambda: halves()[1] < -60)
            screen.key("v")
            screen.wait("v again", lambda: abs(halves()[0]) < 25)

            screen.key(*(10 * ["minus"]))
            screen.wait("- down to the source", lambda: halves()[0] > 100)
            screen.key(*(10 * ["plus"]))
            screen.wait("+ up again", lambda: abs(halves()[0]) < 25)

            figures = screen.inside()[:80].astype(int)
            screen.key("h")
            screen.wait("h takes the figures away", lambda: (np.abs(screen.inside()[:80] - figures) > 60).mean() > 0.01)
            plain = screen.inside()[120:300, 200:400].mean()
            screen.key("question")
            screen.wait("? lists the keys", lambda: screen.inside()[120:300, 200:400].mean() < plain - 30)
            cv2.imwrite(str(tmp_path / "help.png"), screen.inside())
            screen.key("question", "h")
            screen.wait("? and h again", lambda: screen.inside()[120:300, 200:400].mean() > plain - 10)

            for key in ("n", "Left", "3"):
                before = screen.window()[0]
                screen.key(key)
                screen.wait(f"{key} changes the style", lambda: screen.window()[0] != before)  # noqa: B023
            screen.key("1")
            screen.wait("1 is the first", lambda: screen.window()[0] == f"rtstyle: {list_styles()[0]}")

            screen.key("s")
            screen.wait("s saves a snapshot", lambda: told("saved "))
            screen.key("r")
            screen.wait("r begins", lambda: told("recording"))
            time.sleep(1)
            screen.key("r")
            screen.wait("r ends", lambda: told("recorded "))

            _, *place = screen.window()
            screen.key("f")
            screen.wait("f covers the screen", lambda: screen.window()[1:] == (0, 0, *SCREEN))
            screen.wait("with the frame", lambda: screen.picture()[400].mean() > 30)
            assert screen.picture()[4].mean() < 3, "black above: 640x360 keeps its shape"
            screen.key("Escape")
            screen.wait("Esc goes back", lambda: screen.window()[1:] == tuple(place))

            screen.key("space")
            screen.wait("space pauses", lambda: told_in_title_or_text(screen))
            screen.key("space")

            screen.run("xdotool", "windowsize", screen.window_id(), "500", "500")
            screen.wait("a resized window", lambda: screen.window()[3:] == (500, 500))
            screen.wait("black above", lambda: screen.inside()[480].mean() < 5 < screen.inside()[250].mean())
            screen.key("Escape")
            out, _ = show.communicate(timeout=20)
        finally:
            show.kill()
            show.wait()

    assert show.returncode == 0, log.read_text()
    report = json.loads(out)
    assert report["held"] > 0
    assert cv2.imread(str(tmp_path / "rtstyle-0001.png")).shape == (360, 640, 3)
    with av.open(str(tmp_path / "rtstyle-0001.mp4")) as container:
        assert 5 <= len(list(container.decode(video=0))) < report["shown"]


def told_in_title_or_text(screen: Screen) -> bool:
    """A note lies on a dark box at the bottom."""
    time.sleep(0.3)
    return bool((screen.inside()[318:340, 280:360].max(-1) < 90).sum() > 400)

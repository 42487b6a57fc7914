"""Measures in a few seconds what this machine reaches, by what it does then: a video is rendered, frames are live."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from rtstyle.backends import EngineSettings, open_for
from rtstyle.canvas.follower import SceneFollower
from rtstyle.frame import Frame, FrameSource, Size
from rtstyle.render import stylize_video
from rtstyle.speed import Speed
from rtstyle.style import Style

SIZE = Size(1280, 720)
"""Of the frames that are measured."""

_SECONDS, _FEWEST = 3.0, 12
"""How long a network renders, and the least of frames that it does."""


class _Panning(FrameSource):
    """A soft random scene over which a camera pans; made until the time is over."""

    rate = Fraction(25)

    def __init__(self, size: Size, seconds: float) -> None:
        self.size, self._seconds = size, seconds

    def __iter__(self) -> Iterator[Frame]:
        rng = np.random.default_rng(1)
        width, height = self.size.width, self.size.height
        coarse = rng.integers(30, 226, (height // 40 + 2, width // 40 + 12, 3), np.uint8)
        wide = cv2.resize(coarse, (width + 400, height), interpolation=cv2.INTER_CUBIC)
        wide = cv2.add(wide, rng.integers(0, 12, wide.shape, np.uint8))
        began = time.monotonic()
        number = 0
        while number < _FEWEST or time.monotonic() - began < self._seconds:
            left = abs((2 * number) % 800 - 400)
            scene = np.ascontiguousarray(wide[:, left : left + width], np.uint8)
            yield Frame.from_rgb(scene, pts=number, time_base=1 / self.rate)
            number += 1


def measure_speed(
    style: Style, size: Size = SIZE, seconds: float = _SECONDS, say: Callable[[str], None] = print
) -> Speed:
    """Measure every network of a style that is for interactive rates, each for some seconds.

    Args:
        size: Of the frames.
        seconds: For which each network renders; live frames take a third of that beside it.
        say: Called with a line about each figure.
    """
    files: dict[str, float] = {}
    live: dict[str, float] = {}
    pixels = size.width * size.height / 1e6
    for size_class in ("default", "fast"):
        if size_class not in style.size_classes:
            continue
        engine = EngineSettings(size_class=size_class)
        fps, preset = _rendered(style, engine, size, seconds)
        needed = _alive(style, engine, size, seconds / 3)
        files[size_class], live[size_class] = fps * pixels, needed / pixels
        say(
            f"{size_class} network at {size}: {fps:.1f} FPS from file to file (x264 {preset}), "
            f"{needed:.0f} ms for a live frame: {1000 / needed:.0f} FPS"
        )
    return Speed(files, live)


def _rendered(style: Style, engine: EngineSettings, size: Size, seconds: float) -> tuple[float, str | None]:
    """Return the frames per second of a render once it runs, and the preset of its encoder."""
    with tempfile.TemporaryDirectory(prefix="rtstyle-") as folder:
        report = stylize_video(_Panning(size, seconds), Path(folder) / "trial.mp4", style=style, engine=engine)
    return (report.frames_out - 1) / max(1e-3, report.seconds - report.first_frame_s), report.preset


def _alive(style: Style, engine: EngineSettings, size: Size, seconds: float) -> float:
    """Return the median milliseconds that a frame is in an engine with one frame in flight."""
    follower, taken = SceneFollower(steered=style.steered), []
    source = _Panning(size, seconds)
    with open_for(style, size, source.color, engine, live=True) as opened:
        for frame in source:
            followed = follower.follow(frame)
            began = time.perf_counter()
            opened.submit(followed)
            opened.next()
            taken.append(1000 * (time.perf_counter() - began))
    return median(taken)

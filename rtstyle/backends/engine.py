"""The engine protocol: a style, loaded on one device, ready for one size and color; and the settings of engines."""

from __future__ import annotations

import logging
import platform
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from numbers import Real
from typing import Literal, Protocol, Self, get_args

from rtstyle.errors import BackendUnavailableError, SettingError, StyleFormatError
from rtstyle.frame import CELL, Color, Frame, Size, check_is_size
from rtstyle.settings import check_types
from rtstyle.style import SizeClassChoice, Style

BackendName = Literal["tensorrt", "openvino", "onnxruntime", "torch"]
BackendChoice = Literal["auto", "tensorrt", "openvino", "onnxruntime", "torch"]
Precision = Literal["auto", "f32", "bf16", "f16", "int8"]
Mode = Literal["throughput", "latency"]

StrokeSize = float | Literal["auto"]
"""Size of strokes relative to those that the network draws; ``auto`` depends on the frame size."""

NetworkLines = int | Literal["auto", "full"]
"""Most lines that the network works on; ``full``: all; ``auto``: 720 in frames of more than 900."""

FEWEST_LINES, MOST_LINES = 240, 4320
"""Range of network lines."""

_AUTO_LINES, _FEW_ENOUGH = 720, 900
"""Lines at which styles are tuned, and up to which a network works on all of them."""

SMALLEST_STROKES, LARGEST_STROKES = 1 / 2, 8
"""Range of stroke sizes."""

_SHORT_SIDES = (480, 1080)
"""Least and largest short side, in pixels, for which styles are made; tuned at 720."""

BACKENDS: tuple[BackendName, ...] = get_args(BackendName)
"""All backends, in the order in which ``auto`` tries them; before openvino it tries torch on CUDA."""

PRECISIONS: dict[BackendName, tuple[Precision, ...]] = {
    "tensorrt": ("f16", "f32"),
    "openvino": ("int8", "bf16", "f32"),
    "onnxruntime": ("int8", "f32"),
    "torch": ("f16", "bf16", "f32"),
}
"""What each backend can compute in, on a device that is made for it."""

log = logging.getLogger("rtstyle")


@dataclass(frozen=True, slots=True)
class Controls:
    """What may change from frame to frame without a new engine."""

    luma: float = 1.0
    """Strength of the style in the luma plane: 0 leaves it bit for bit, 1 is the style as trained."""
    chroma: float = 1.0
    """The same for the chroma planes; 0 keeps the colors of the source."""

    def __post_init__(self) -> None:
        for name in ("luma", "chroma"):
            value = getattr(self, name)
            if not isinstance(value, Real) or not 0 <= float(value) <= 2:
                raise SettingError(f"strength must be in [0, 2], got {name} = {value}")

    @classmethod
    def of(cls, strength: float = 1.0, *, keep_colors: bool = False) -> Controls:
        """Make controls from the two words of the command line."""
        return cls(strength, 0.0 if keep_colors else strength)


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """Which engine runs a style, and how; the defaults choose the fastest engine of this machine."""

    backend: BackendChoice = "auto"
    """Backend to run on; ``auto`` is the fastest one that opens."""
    precision: Precision = "auto"
    """Precision of the network, see ``open_engine``."""
    device: str | None = None
    """The backend's own name of a device, e.g. ``CPU``, ``cuda:1``."""
    size_class: SizeClassChoice = "auto"
    """Size of the network, see ``Style.sized``."""
    stroke_size: StrokeSize = "auto"
    """Size of strokes; ``auto`` enlarges them in frames of more than 1080 lines and shrinks them in small files."""
    network_lines: NetworkLines = "auto"
    """Most lines that the network works on, see ``network_size``."""

    def __post_init__(self) -> None:
        check_types(self)
        strokes = self.stroke_size
        if strokes != "auto" and not SMALLEST_STROKES <= strokes <= LARGEST_STROKES:
            raise SettingError(
                f"stroke size must be auto or in [{SMALLEST_STROKES:g}, {LARGEST_STROKES:g}], got {strokes:g}"
            )

        check_lines(self.network_lines)

    def working_size(self, size: Size, *, live: bool = False) -> Size:
        """Return the size in which frames of ``size`` are stylized; even, so that chroma planes fit exactly.

        Args:
            live: True never enlarges small frames, which would cost four times as much.

        Raises:
            SettingError: The frame or the working size is smaller than 16x16.
        """
        check_size(size)
        strokes = _automatic_strokes(size, live=live) if self.stroke_size == "auto" else self.stroke_size
        if strokes == 1:
            return size
        working = Size(2 * round(size.width / strokes / 2), 2 * round(size.height / strokes / 2))
        if min(working.width, working.height) < 16:
            raise SettingError(
                f"a stroke size of {strokes:g} leaves {working} of an image of {size}: take a smaller one"
            )
        return working


def check_lines(lines: NetworkLines) -> None:
    """Raise SettingError for a number of network lines that is out of range."""
    if isinstance(lines, int) and not FEWEST_LINES <= lines <= MOST_LINES:
        raise SettingError(f"network lines must be auto, full or in [{FEWEST_LINES}, {MOST_LINES}], got {lines}")


def network_size(style: Style, size: Size, lines: NetworkLines = "auto") -> Size:
    """Return the size in which OpenVINO computes the network for frames of ``size``; whole cells where it is smaller.

    The result is put on at full size, see ``rtstyle.backends.reduced``. Other backends, drawings, and styles that draw
    on noise, whose network draws every line itself, work on all of a frame. Lines are those of the short side.
    """
    short = min(size.width, size.height)
    few = short if lines == "full" else lines
    if few == "auto":
        few = _AUTO_LINES if short > _FEW_ENOUGH else short
    if few >= short or not style.enlargeable:
        return size
    step = 2 * CELL
    return Size(*(max(4, round(side * few / short / step)) * step for side in (size.width, size.height)))


def _automatic_strokes(size: Size, *, live: bool) -> float:
    """Return the power of two that brings the short side between 480 and 1080."""
    strokes, short = 1.0, min(size.width, size.height)
    while short / strokes > _SHORT_SIDES[1] and strokes < LARGEST_STROKES:
        strokes *= 2
    return SMALLEST_STROKES if short < _SHORT_SIDES[0] and not live else strokes


class Engine(Protocol):
    """A style that is loaded on one device and ready to stylize one size in one color.

    Frames go in by ``submit`` and come out by ``next`` in the same order; up to ``in_flight`` may be
    inside. One thread may use an engine at a time. A context manager.
    """

    backend: BackendName
    precision: str
    device: str
    """Text to show, e.g. ``AMD EPYC, 2 cores``."""
    size: Size
    """The only image size that it accepts."""
    color: Color
    """The only matrix and range that it accepts; folded into its weights."""
    in_flight: int
    """Frames that may have been submitted and not taken."""

    def submit(self, frame: Frame, controls: Controls = ...) -> None:
        """Start to stylize a frame.

        Args:
            frame: Its planes are read before the call returns and may then be reused.

        Raises:
            ValueError: Size or color are not the engine's, or ``in_flight`` frames are inside already.
        """

    def next(self) -> Frame:
        """Wait for the oldest submitted frame and return it stylized.

        Its planes are the caller's: they are not written to as long as they or views of them are referenced.
        On GPUs they are views of pinned memory, so a caller that keeps many should copy them. Pts, time base
        and color are the input's.

        Raises:
            ValueError: No frame is inside.
        """

    def close(self) -> None:
        """Free the device's memory; frames inside are dropped. Further calls are an error."""

    def stylize(self, frames: Iterable[Frame], controls: Controls = Controls()) -> Iterator[Frame]:
        """Yield every frame stylized, in order, with the engine kept full."""
        inside = 0
        for frame in frames:
            if inside == self.in_flight:
                yield self.next()
                inside -= 1
            self.submit(frame, controls)
            inside += 1
        for _ in range(inside):
            yield self.next()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_frame(engine: Engine, frame: Frame, inside: int) -> None:
    """Raise what ``Engine.submit`` promises."""
    if not isinstance(frame, Frame):
        raise SettingError(f"an engine takes a Frame, got {type(frame).__name__}: see Frame.from_rgb")
    if frame.size != engine.size:
        raise SettingError(f"this engine is for {engine.size}, the frame is {frame.size}")
    chroma = (engine.size.chroma.height, engine.size.chroma.width)
    if frame.planes.u.shape != chroma or frame.planes.v.shape != chroma:
        shapes = f"{frame.planes.u.shape} and {frame.planes.v.shape}"
        raise SettingError(f"a frame of {frame.size} has chroma planes of shape {chroma}, got {shapes}")
    ours, given = engine.color, frame.color
    if (given.matrix, given.full_range) != (ours.matrix, ours.full_range):
        raise SettingError(f"this engine is for {_color_words(ours)}, the frame is {_color_words(given)}")
    if inside >= engine.in_flight:
        raise SettingError(f"{inside} frames are in flight already: call next() first")


def check_size(size: Size) -> None:
    """Raise SettingError for what is no size, or an image that is too small for any engine."""
    check_is_size(size)
    if min(size.width, size.height) < 16:
        raise SettingError(f"images must be at least 16x16, got {size}")


def check_precision(backend: BackendName, precision: Precision) -> None:
    """Raise SettingError where a backend never computes in a precision."""
    if precision != "auto" and precision not in PRECISIONS[backend]:
        raise SettingError(f"{backend} has no precision {precision} (it has {', '.join(PRECISIONS[backend])})")


def auto_takes_int8(style: Style) -> bool:
    """Return whether ``auto`` computes a style in int8 on a CPU without AMX: where that is faster and allowed.

    Measured on x86-64 only: 3.6 times as fast as float32 with VNNI, twice without it.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    try:
        style.int8  # noqa: B018  (is it there?)
    except StyleFormatError as error:
        log.debug("no int8: %s", error)
        return False
    return True


def _color_words(color: Color) -> str:
    return f"{color.matrix} {'full' if color.full_range else 'limited'} range"


class EngineLater(BackendUnavailableError):
    """An engine must be built first, which takes a while."""

    def __init__(self, message: str, make: Callable[[threading.Event], Engine]) -> None:
        super().__init__(message)
        self.make = make
        """Builds and opens it; raises RtstyleError soon after the event is set."""

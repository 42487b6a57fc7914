"""Engines: a style, loaded on one device, ready for one size and colour."""

from __future__ import annotations

import logging
import platform
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal, Protocol, Self, get_args

from rtstyle.errors import BackendUnavailableError, SettingError, StyleFormatError
from rtstyle.frame import Colour, Frame, Size

if TYPE_CHECKING:
    from types import TracebackType

    from rtstyle.style import Style

BackendName = Literal["tensorrt", "openvino", "onnxruntime", "torch"]
BackendChoice = Literal["auto", "tensorrt", "openvino", "onnxruntime", "torch"]
Precision = Literal["auto", "f32", "bf16", "f16", "int8"]
Mode = Literal["throughput", "latency"]

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
    """The same for the chroma planes; 0 keeps the colours of the source."""

    def __post_init__(self) -> None:
        for name in ("luma", "chroma"):
            value = getattr(self, name)
            if not 0 <= value <= 2:
                raise SettingError(f"strength must be in [0, 2], got {name} = {value:g}")

    @classmethod
    def of(cls, strength: float = 1.0, *, keep_colors: bool = False) -> Controls:
        """Make controls from the two words of the command line."""
        return cls(strength, 0.0 if keep_colors else strength)


class Engine(Protocol):
    """A style that is loaded on one device and ready to stylize one size in one colour.

    Frames go in by ``submit`` and come out by ``next`` in the same order; up to ``in_flight`` may be
    inside. One thread may use an engine at a time. A context manager.
    """

    backend: BackendName
    precision: str
    device: str
    """For people, e.g. ``AMD EPYC, 2 cores``."""
    size: Size
    """The only picture size that it accepts."""
    colour: Colour
    """The only matrix and range that it accepts; folded into its weights."""
    in_flight: int
    """Frames that may have been submitted and not taken."""

    def submit(self, frame: Frame, controls: Controls = ...) -> None:
        """Start to stylize a frame.

        Args:
            frame: Its planes are read before the call returns and may then be reused.

        Raises:
            ValueError: Size or colour are not the engine's, or ``in_flight`` frames are inside already.
        """

    def next(self) -> Frame:
        """Wait for the oldest submitted frame and return it stylized.

        Its planes are the caller's: nobody writes into them as long as they or views of them are referred to.
        Engines of GPUs lend page-locked memory in them, so whoever keeps very many should copy. Pts, time base
        and colour are the input's.

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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_frame(engine: Engine, frame: Frame, inside: int) -> None:
    """Raise what ``Engine.submit`` promises."""
    if frame.size != engine.size:
        raise ValueError(f"this engine is for {engine.size}, the frame is {frame.size}")
    chroma = (engine.size.chroma.height, engine.size.chroma.width)
    if frame.planes.u.shape != chroma or frame.planes.v.shape != chroma:
        shapes = f"{frame.planes.u.shape} and {frame.planes.v.shape}"
        raise ValueError(f"a frame of {frame.size} has chroma planes of shape {chroma}, got {shapes}")
    ours, given = engine.colour, frame.colour
    if (given.matrix, given.full_range) != (ours.matrix, ours.full_range):
        raise ValueError(f"this engine is for {_describe(ours)}, the frame is {_describe(given)}")
    if inside >= engine.in_flight:
        raise ValueError(f"{inside} frames are in flight already: call next() first")


def check_size(size: Size) -> None:
    """Raise SettingError for a picture that is too small for any engine."""
    if min(size.width, size.height) < 16:
        raise SettingError(f"pictures must be at least 16x16, got {size}")


def check_precision(backend: BackendName, precision: Precision) -> None:
    """Raise SettingError where a backend never computes in a precision."""
    if precision != "auto" and precision not in PRECISIONS[backend]:
        raise SettingError(f"{backend} has no precision {precision} (it has {', '.join(PRECISIONS[backend])})")


def auto_takes_int8(style: Style) -> bool:
    """Say whether ``auto`` computes a style in int8 on a CPU without AMX: where it is known to be faster and allowed.

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


def _describe(colour: Colour) -> str:
    return f"{colour.matrix} {'full' if colour.full_range else 'limited'} range"


def open_engine(
    style: Style | str,
    size: Size,
    colour: Colour | None = None,
    *,
    backend: BackendChoice = "auto",
    precision: Precision = "auto",
    mode: Mode = "throughput",
    device: str | None = None,
) -> Engine:
    """Load a style for pictures of one size.

    Args:
        style: A style, or what ``load_style`` takes.
        colour: How the samples of the frames are to be read; by default BT.709, limited range.
        backend: ``auto`` takes the fastest that opens. Where TensorRT must build an engine first, it takes the
            next one at once, and TensorRT replaces it between two frames when it is ready.
        precision: ``auto`` is f16 on a GPU; on a CPU bf16 with AMX, else int8 where the style has it, else bf16
            where the CPU multiplies it natively, else f32.
        mode: ``throughput`` keeps several frames in flight (files), ``latency`` one (live).
        device: The backend's own name of a device, e.g. ``CPU``, ``cuda:1``.

    Raises:
        BackendUnavailableError: None opens; the message holds every backend's reason.
        SettingError: The backend does not have that precision or device.
        StyleFormatError: A file of the style is damaged, or int8 is asked for and the style has none.
    """
    from rtstyle.style import Style, load_style

    loaded = style if isinstance(style, Style) else load_style(style)
    check_size(size)
    colour = colour or Colour()
    if backend != "auto":
        try:
            return _open(backend, loaded, size, colour, precision, mode, device)
        except (ImportError, BackendUnavailableError) as error:
            raise BackendUnavailableError(
                f"no backend can run {loaded.name!r} at {size}; {backend}: {error}"
            ) from error
    reasons: list[str] = []
    later: Callable[[threading.Event], Engine] | None = None
    for name, wanted in _candidates(device):
        try:
            engine = _open(name, loaded, size, colour, precision, mode, wanted, wait=False)
        except EngineLater as missing:
            later = missing.make  # not the error, which holds every caller's frames
            reasons.append(f"{name}: {missing}")
        except (ImportError, BackendUnavailableError, SettingError) as error:
            reasons.append(f"{name}: {error}")
            if name == "tensorrt" and isinstance(error, BackendUnavailableError):  # somebody installed it
                _say_once(f"tensorrt cannot be used: {error}")
        else:
            log.debug("%s %s on %s%s", engine.backend, engine.precision, engine.device, _refused(reasons))
            return engine if later is None else _replaced_later(engine, later)
    raise BackendUnavailableError(f"no backend can run {loaded.name!r} at {size}; " + "; ".join(reasons))


class EngineLater(BackendUnavailableError):
    """An engine must be built first, which takes a while."""

    def __init__(self, message: str, make: Callable[[threading.Event], Engine]) -> None:
        super().__init__(message)
        self.make = make
        """Builds and opens it; raises RtstyleError soon after the event is set."""


def _replaced_later(engine: Engine, make: Callable[[threading.Event], Engine]) -> Engine:
    from rtstyle.backends.swap import SwappingEngine

    return SwappingEngine(engine, make)


def _candidates(device: str | None) -> Iterator[tuple[BackendName, str | None]]:
    """Yield what ``auto`` tries, fastest first. Torch takes seconds to import: on a CPU it comes last."""
    from rtstyle.backends.cuda import driver_problem

    yield "tensorrt", device
    if driver_problem() is None:
        yield "torch", device or "cuda"
    for name in BACKENDS[1:]:
        yield name, device


@cache
def _say_once(line: str) -> None:
    """Live use and folders open engine after engine; nobody wants to read the same line for each."""
    log.info("%s", line)


def _refused(reasons: list[str]) -> str:
    return f" (refused: {'; '.join(reasons)})" if reasons else ""


def _open(
    name: BackendName,
    style: Style,
    size: Size,
    colour: Colour,
    precision: Precision,
    mode: Mode,
    device: str | None,
    *,
    wait: bool = True,
) -> Engine:
    if name == "tensorrt":
        from rtstyle.backends.tensorrt import open_tensorrt

        return open_tensorrt(style, size, colour, precision=precision, mode=mode, device=device, wait=wait)
    if name == "openvino":
        from rtstyle.backends.openvino import OpenVinoEngine

        return OpenVinoEngine(style, size, colour, precision=precision, mode=mode, device=device)
    if name == "onnxruntime":
        from rtstyle.backends.onnxruntime import OnnxRuntimeEngine

        return OnnxRuntimeEngine(style, size, colour, precision=precision, mode=mode, device=device)
    from rtstyle.backends.torch import open_torch

    return open_torch(style, size, colour, precision=precision, mode=mode, device=device)

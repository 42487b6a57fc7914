"""Engines: a style, loaded on one device, ready for one size and colour."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, Self, get_args

from rtstyle.errors import BackendUnavailableError, SettingError
from rtstyle.frame import Colour, Frame, Size

if TYPE_CHECKING:
    from types import TracebackType

    from rtstyle.style import Style

BackendName = Literal["openvino", "torch"]
BackendChoice = Literal["auto", "openvino", "torch"]
Precision = Literal["auto", "f32", "bf16"]
Mode = Literal["throughput", "latency"]

BACKENDS: tuple[BackendName, ...] = get_args(BackendName)
"""All backends, fastest first: the order in which ``auto`` tries them."""


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

        Its planes are new arrays that belong to the caller; pts, time base and colour are the input's.

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
        backend: ``auto`` takes the first of ``BACKENDS`` that opens.
        precision: ``auto`` is bf16 where the CPU multiplies it natively, else f32.
        mode: ``throughput`` keeps several frames in flight (files), ``latency`` one (live).
        device: The backend's own name of a device, e.g. ``CPU``, ``cuda:1``.

    Raises:
        BackendUnavailableError: None opens; the message holds every backend's reason.
        SettingError: The backend does not have that precision or device.
    """
    from rtstyle.style import Style, load_style

    loaded = style if isinstance(style, Style) else load_style(style)
    if min(size.width, size.height) < 16:
        raise SettingError(f"pictures must be at least 16x16, got {size}")
    reasons: list[str] = []
    for name in BACKENDS if backend == "auto" else (backend,):
        try:
            return _open(name, loaded, size, colour or Colour(), precision, mode, device)
        except (ImportError, BackendUnavailableError) as error:
            reasons.append(f"{name}: {error}")
    raise BackendUnavailableError(f"no backend can run {loaded.name!r} at {size}; " + "; ".join(reasons))


def _open(
    name: BackendName, style: Style, size: Size, colour: Colour, precision: Precision, mode: Mode, device: str | None
) -> Engine:
    if name == "openvino":
        from rtstyle.backends.openvino import OpenVinoEngine

        return OpenVinoEngine(style, size, colour, precision=precision, mode=mode, device=device)
    from rtstyle.backends.torch import TorchEngine

    return TorchEngine(style, size, colour, precision=precision, mode=mode, device=device)

"""Opening engines: the fastest backend that works, in the size in which a style is to draw."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache

import numpy as np

from rtstyle.backends.engine import (
    BACKENDS,
    BackendChoice,
    BackendName,
    Engine,
    EngineLater,
    EngineSettings,
    Mode,
    NetworkLines,
    Precision,
    check_lines,
    check_size,
    network_size,
)
from rtstyle.errors import BackendUnavailableError, SettingError
from rtstyle.frame import Color, Frame, Planes, Size
from rtstyle.style import Style, load_style

log = logging.getLogger("rtstyle")


def open_for(
    style: Style | str,
    size: Size,
    color: Color,
    settings: EngineSettings = EngineSettings(),
    *,
    live: bool,
    mode: Mode | None = None,
    working: Size | None = None,
) -> Engine:
    """Open the engine that stylizes frames of one size and color as the settings say.

    Args:
        style: A style, or what ``load_style`` accepts.
        size: Size of the frames that are submitted and returned.
        live: True: one frame is in flight, small frames are not enlarged, and the engine has run once when it is
            returned, since the first run is slow.
        mode: Overrides what ``live`` says about frames in flight.
        working: Size in which frames are stylized; by default ``settings.working_size``.

    Raises:
        RtstyleError: As ``open_engine``, ``load_style`` and ``EngineSettings.working_size``.
    """
    from rtstyle.backends.strokes import at_size

    loaded = style if isinstance(style, Style) else load_style(style, settings.size_class)
    inner = open_engine(
        loaded.sized(settings.size_class),
        working or settings.working_size(size, live=live),
        color,
        backend=settings.backend,
        precision=settings.precision,
        mode=mode or ("latency" if live else "throughput"),
        device=settings.device,
        network_lines=settings.network_lines,
    )
    if live:
        _run_once(inner)
    return at_size(inner, size)


def _run_once(engine: Engine) -> None:
    size = engine.size
    try:
        luma = np.full((size.height, size.width), 128, np.uint8)
        chroma = np.full((size.chroma.height, size.chroma.width), 128, np.uint8)
        engine.submit(Frame(Planes(luma, chroma, chroma), 0, Fraction(1, 90000), engine.color))
        engine.next()
    except BaseException:
        engine.close()
        raise


def open_engine(
    style: Style | str,
    size: Size,
    color: Color | None = None,
    *,
    backend: BackendChoice = "auto",
    precision: Precision = "auto",
    mode: Mode = "throughput",
    device: str | None = None,
    network_lines: NetworkLines = "auto",
) -> Engine:
    """Load a style for images of one size.

    Args:
        style: A style, or what ``load_style`` takes.
        color: How the samples of the frames are to be read; by default BT.709, limited range.
        backend: ``auto`` takes the fastest that opens. Where TensorRT must build an engine first, it takes the
            next one at once, and TensorRT replaces it between two frames when it is ready.
        precision: ``auto`` is f16 on a GPU; on a CPU bf16 with AMX, else int8 where the style has it, else bf16
            where the CPU multiplies it natively, else f32.
        mode: ``throughput`` keeps several frames in flight (files), ``latency`` one (live).
        device: The backend's own name of a device, e.g. ``CPU``, ``cuda:1``.
        network_lines: Most lines that the network works on, see ``network_size``.

    Raises:
        BackendUnavailableError: None opens; the message holds every backend's reason.
        SettingError: The backend does not have that precision or device.
        StyleFormatError: A file of the style is damaged, or int8 is asked for and the style has none.
    """
    loaded = style if isinstance(style, Style) else load_style(style)
    check_size(size)
    check_lines(network_lines)
    if len(loaded.parts) > 1 and loaded.steered:  # one network has one canvas
        from rtstyle.backends.blend import BlendEngine

        how = {"backend": backend, "precision": precision, "mode": mode, "device": device}
        engines = [
            open_engine(part, size, color, network_lines=network_lines, **how)  # type: ignore[arg-type]
            for part, _ in loaded.parts
        ]
        return BlendEngine(engines, [share for _, share in loaded.parts])
    wanted = _Wanted(loaded, size, color or Color(), precision, mode, device, network_lines)
    if backend == "auto":
        return _open_fastest(wanted)
    try:
        return _open_backend(backend, wanted)
    except (ImportError, BackendUnavailableError) as error:
        raise BackendUnavailableError(f"no backend can run {loaded.name!r} at {size}; {backend}: {error}") from error


@dataclass(frozen=True)
class _Wanted:
    """Arguments of ``open_engine``, but for the backend."""

    style: Style
    size: Size
    color: Color
    precision: Precision
    mode: Mode
    device: str | None
    lines: NetworkLines


def _open_fastest(wanted: _Wanted) -> Engine:
    """Open the first backend that opens, fastest first."""
    reasons: list[str] = []
    later: Callable[[threading.Event], Engine] | None = None
    for name, device in _candidates(wanted.device):
        try:
            engine = _open_backend(name, replace(wanted, device=device), wait=False)
        except EngineLater as missing:
            later = missing.make  # not the error, which holds every caller's frames
            reasons.append(f"{name}: {missing}")
        except (ImportError, BackendUnavailableError, SettingError) as error:
            reasons.append(f"{name}: {error}")
            if name == "tensorrt" and isinstance(error, BackendUnavailableError):  # it was installed on purpose
                _say_once(f"tensorrt cannot be used: {error}")
        else:
            log.debug("%s %s on %s%s", engine.backend, engine.precision, engine.device, _refused(reasons))
            return engine if later is None else _replaced_later(engine, later)
    raise BackendUnavailableError(f"no backend can run {wanted.style.name!r} at {wanted.size}; " + "; ".join(reasons))


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
    """Live use and folders open engine after engine; the line is printed once."""
    log.info("%s", line)


def _refused(reasons: list[str]) -> str:
    return f" (refused: {'; '.join(reasons)})" if reasons else ""


def _open_backend(name: BackendName, wanted: _Wanted, *, wait: bool = True) -> Engine:
    style, size, color, mode = wanted.style, wanted.size, wanted.color, wanted.mode
    precision, device = wanted.precision, wanted.device
    if name == "tensorrt":
        from rtstyle.backends.tensorrt import open_tensorrt

        return open_tensorrt(style, size, color, precision=precision, mode=mode, device=device, wait=wait)
    if name == "openvino":
        from rtstyle.backends.openvino import OpenVinoEngine

        network = network_size(style, size, wanted.lines)
        if network != size:
            from rtstyle.backends.reduced import ReducedEngine

            return ReducedEngine(style, size, color, network, precision=precision, mode=mode, device=device)
        return OpenVinoEngine(style, size, color, precision=precision, mode=mode, device=device)
    if name == "onnxruntime":
        from rtstyle.backends.onnxruntime import OnnxRuntimeEngine

        return OnnxRuntimeEngine(style, size, color, precision=precision, mode=mode, device=device)
    from rtstyle.backends.torch import open_torch

    return open_torch(style, size, color, precision=precision, mode=mode, device=device)

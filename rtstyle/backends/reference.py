"""The float32 engine on the CPU that others are compared with."""

from __future__ import annotations

from collections.abc import Callable

from rtstyle.backends.engine import Engine
from rtstyle.errors import BackendUnavailableError, RtstyleError
from rtstyle.frame import Color, Size
from rtstyle.style import Style


def open_reference(style: Style, size: Size, color: Color) -> Engine:
    """Open the first float32 engine that works on the CPU.

    Raises:
        BackendUnavailableError: None does.
    """
    reasons = []
    openers: tuple[tuple[str, Callable[[Style, Size, Color], Engine]], ...] = (
        ("openvino", _openvino),
        ("onnxruntime", _onnxruntime),
        ("torch", _torch),
    )
    for backend, opener in openers:
        try:
            return opener(style, size, color)
        except (ImportError, RtstyleError) as error:
            reasons.append(f"{backend}: {error}")
    raise BackendUnavailableError("there is no float32 engine to compare with; " + "; ".join(reasons))


def _openvino(style: Style, size: Size, color: Color) -> Engine:
    from rtstyle.backends.openvino import OpenVinoEngine

    return OpenVinoEngine(style, size, color, precision="f32", device="CPU")


def _onnxruntime(style: Style, size: Size, color: Color) -> Engine:
    from rtstyle.backends.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(style, size, color, precision="f32", device="CPU")


def _torch(style: Style, size: Size, color: Color) -> Engine:
    from rtstyle.backends.torch import open_torch

    return open_torch(style, size, color, precision="f32", device="cpu")

"""rtstyle: a webcam or a video in another style, live, with nothing lost.

    from rtstyle import Controls, stylize_video
    report = stylize_video("in.mp4", "out.mp4", style="sketch", controls=Controls.of(0.8))

Names are imported when they are first used, so ``import rtstyle`` loads no heavy library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rtstyle.backends import Controls as Controls
    from rtstyle.backends import Engine as Engine
    from rtstyle.backends import open_engine as open_engine
    from rtstyle.errors import RtstyleError as RtstyleError
    from rtstyle.frame import Colour as Colour
    from rtstyle.frame import Frame as Frame
    from rtstyle.frame import FrameSink as FrameSink
    from rtstyle.frame import FrameSource as FrameSource
    from rtstyle.frame import Planes as Planes
    from rtstyle.frame import Size as Size
    from rtstyle.live import stylize_live as stylize_live
    from rtstyle.picture import stylize_pictures as stylize_pictures
    from rtstyle.pipeline import VideoReport as VideoReport
    from rtstyle.pipeline import stylize_video as stylize_video
    from rtstyle.style import Style as Style
    from rtstyle.style import list_styles as list_styles
    from rtstyle.style import load_style as load_style
    from rtstyle.video import EncoderSettings as EncoderSettings
    from rtstyle.video import VideoReader as VideoReader
    from rtstyle.video import VideoWriter as VideoWriter

__version__ = "0.1.0"

_HOME = {
    "backends": ("Controls", "Engine", "open_engine"),
    "errors": ("RtstyleError",),
    "frame": ("Colour", "Frame", "FrameSink", "FrameSource", "Planes", "Size"),
    "live": ("stylize_live",),
    "picture": ("stylize_pictures",),
    "pipeline": ("VideoReport", "stylize_video"),
    "style": ("Style", "list_styles", "load_style"),
    "video": ("EncoderSettings", "VideoReader", "VideoWriter"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = ["__version__", *sorted(_MODULE_OF)]


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'rtstyle' has no attribute {name!r}")
    return getattr(import_module(f"rtstyle.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

"""rtstyle: a webcam or a video in another style, live, with nothing lost.

    from rtstyle import Controls, stylize, stylize_video
    report = stylize_video("in.mp4", "out.mp4", style="sketch", controls=Controls.of(0.8))
    image = stylize(image, style="sketch")  # an array (height, width, 3), uint8, RGB

Names are imported when they are first used, so ``import rtstyle`` loads no heavy library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rtstyle.backends import BackendChoice as BackendChoice
    from rtstyle.backends import BackendName as BackendName
    from rtstyle.backends import Controls as Controls
    from rtstyle.backends import Engine as Engine
    from rtstyle.backends import EngineSettings as EngineSettings
    from rtstyle.backends import Mode as Mode
    from rtstyle.backends import NetworkLines as NetworkLines
    from rtstyle.backends import Precision as Precision
    from rtstyle.backends import StrokeSize as StrokeSize
    from rtstyle.backends import open_engine as open_engine
    from rtstyle.backends import open_for as open_for
    from rtstyle.camera import Captured as Captured
    from rtstyle.camera import CaptureSettings as CaptureSettings
    from rtstyle.camera import LiveSource as LiveSource
    from rtstyle.camera import open_source as open_source
    from rtstyle.canvas.field import Field as Field
    from rtstyle.canvas.follower import Follow as Follow
    from rtstyle.canvas.layer import CanvasLayer as CanvasLayer
    from rtstyle.canvas.map import CanvasMap as CanvasMap
    from rtstyle.canvas.steering import Steering as Steering
    from rtstyle.canvas.tone import ToneCurve as ToneCurve
    from rtstyle.errors import BackendUnavailableError as BackendUnavailableError
    from rtstyle.errors import CameraError as CameraError
    from rtstyle.errors import DeviceError as DeviceError
    from rtstyle.errors import DisplayError as DisplayError
    from rtstyle.errors import ImageError as ImageError
    from rtstyle.errors import OutputExistsError as OutputExistsError
    from rtstyle.errors import RtstyleError as RtstyleError
    from rtstyle.errors import ServerError as ServerError
    from rtstyle.errors import SettingError as SettingError
    from rtstyle.errors import SourceStalledError as SourceStalledError
    from rtstyle.errors import StyleFormatError as StyleFormatError
    from rtstyle.errors import StyleNotFoundError as StyleNotFoundError
    from rtstyle.errors import VideoOpenError as VideoOpenError
    from rtstyle.errors import VideoStalledError as VideoStalledError
    from rtstyle.errors import VideoWriteError as VideoWriteError
    from rtstyle.frame import Color as Color
    from rtstyle.frame import ColorTags as ColorTags
    from rtstyle.frame import Frame as Frame
    from rtstyle.frame import FrameSink as FrameSink
    from rtstyle.frame import FrameSource as FrameSource
    from rtstyle.frame import Matrix as Matrix
    from rtstyle.frame import Plane as Plane
    from rtstyle.frame import Planes as Planes
    from rtstyle.frame import Size as Size
    from rtstyle.frame import VideoFormat as VideoFormat
    from rtstyle.graph import Ranges as Ranges
    from rtstyle.graph import Trunk as Trunk
    from rtstyle.graph import Weights as Weights
    from rtstyle.image import ImageReport as ImageReport
    from rtstyle.image import stylize_images as stylize_images
    from rtstyle.live import ControlSettings as ControlSettings
    from rtstyle.live import LiveInterrupted as LiveInterrupted
    from rtstyle.live import LiveReport as LiveReport
    from rtstyle.live import LiveSettings as LiveSettings
    from rtstyle.live import Outputs as Outputs
    from rtstyle.live import Preview as Preview
    from rtstyle.live import stylize_live as stylize_live
    from rtstyle.mask import MaskSettings as MaskSettings
    from rtstyle.render import RenderOptions as RenderOptions
    from rtstyle.render import VideoReport as VideoReport
    from rtstyle.render import stylize_video as stylize_video
    from rtstyle.style import SizeClass as SizeClass
    from rtstyle.style import SizeClassChoice as SizeClassChoice
    from rtstyle.style import Style as Style
    from rtstyle.style import list_styles as list_styles
    from rtstyle.style import load_style as load_style
    from rtstyle.stylizer import Stylizer as Stylizer
    from rtstyle.stylizer import stylize as stylize
    from rtstyle.video import EncoderSettings as EncoderSettings
    from rtstyle.video import ReaderSettings as ReaderSettings
    from rtstyle.video import VideoReader as VideoReader
    from rtstyle.video import VideoWriter as VideoWriter
    from rtstyle.video.audio import AudioChunk as AudioChunk
    from rtstyle.video.copies import StreamPlan as StreamPlan
    from rtstyle.video.formats import Encoding as Encoding
    from rtstyle.web.address import Address as Address

__version__ = "0.2.0"

_HOME = {
    "backends": (
        "BackendChoice",
        "BackendName",
        "Controls",
        "Engine",
        "EngineSettings",
        "Mode",
        "NetworkLines",
        "Precision",
        "StrokeSize",
        "open_engine",
        "open_for",
    ),
    "camera": ("CaptureSettings", "Captured", "LiveSource", "open_source"),
    "canvas.field": ("Field",),
    "canvas.follower": ("Follow",),
    "canvas.layer": ("CanvasLayer",),
    "canvas.map": ("CanvasMap",),
    "canvas.steering": ("Steering",),
    "canvas.tone": ("ToneCurve",),
    "errors": (
        "BackendUnavailableError",
        "CameraError",
        "DeviceError",
        "DisplayError",
        "OutputExistsError",
        "ImageError",
        "RtstyleError",
        "ServerError",
        "SettingError",
        "SourceStalledError",
        "StyleFormatError",
        "StyleNotFoundError",
        "VideoOpenError",
        "VideoStalledError",
        "VideoWriteError",
    ),
    "frame": (
        "Color",
        "ColorTags",
        "Frame",
        "FrameSink",
        "FrameSource",
        "Matrix",
        "Plane",
        "Planes",
        "Size",
        "VideoFormat",
    ),
    "graph": ("Ranges", "Trunk", "Weights"),
    "live": (
        "ControlSettings",
        "LiveInterrupted",
        "LiveReport",
        "LiveSettings",
        "Outputs",
        "Preview",
        "stylize_live",
    ),
    "mask": ("MaskSettings",),
    "image": ("ImageReport", "stylize_images"),
    "render": ("RenderOptions", "VideoReport", "stylize_video"),
    "style": ("SizeClass", "SizeClassChoice", "Style", "list_styles", "load_style"),
    "stylizer": ("Stylizer", "stylize"),
    "video": ("EncoderSettings", "ReaderSettings", "VideoReader", "VideoWriter"),
    "video.copies": ("StreamPlan",),
    "video.formats": ("Encoding",),
    "video.audio": ("AudioChunk",),
    "web.address": ("Address",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = ["__version__", *sorted(_MODULE_OF)]


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'rtstyle' has no attribute {name!r}")
    return getattr(import_module(f"rtstyle.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

"""What the caller's own frame sources and sinks must have, checked where they come in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rtstyle.errors import SettingError
from rtstyle.frame import Frame, FrameSink, FrameSource

_SOURCE_NAMES = ("size", "rate", "color", "live", "__iter__", "__enter__", "__exit__")
_SINK_NAMES = ("write", "__enter__", "__exit__")


def check_source(source: FrameSource) -> FrameSource:
    """Return the caller's own source.

    Raises:
        SettingError: The object is no FrameSource; the message says what is missing.
    """
    for name in _SOURCE_NAMES:
        if not hasattr(source, name):
            raise SettingError(
                f"a source is a path, a URL or a FrameSource; this {type(source).__name__} has no {name}: "
                "derive its class from rtstyle.FrameSource"
            )
    return source


def check_sinks(target: FrameSink | Sequence[FrameSink]) -> list[FrameSink]:
    """Return the sinks as a list.

    Raises:
        SettingError: One of them is no FrameSink, or there is none.
    """
    sinks: list[FrameSink] = [*target] if isinstance(target, Sequence) else [target]
    if not sinks:
        raise SettingError("there is no sink: give a path or at least one FrameSink")
    for sink in sinks:
        for name in _SINK_NAMES:
            if not hasattr(sink, name):
                raise SettingError(
                    f"a sink is a path or a FrameSink; this {type(sink).__name__} has no {name}: "
                    "derive its class from rtstyle.FrameSink"
                )
    return sinks


def checked(frames: Iterable[Frame], source: FrameSource) -> Iterator[Frame]:
    """Yield the frames of a caller's source, each compared with what the source declares.

    Raises:
        SettingError: A frame has another size, color or time base than declared, or its time does not rise.
    """
    name, last = type(source).__name__, None
    for number, frame in enumerate(frames):
        if not isinstance(frame, Frame):
            raise SettingError(
                f"{name} gave a {type(frame).__name__} as frame {number}; make frames with rtstyle.Frame.from_rgb"
            )
        if frame.size != source.size:
            raise SettingError(f"{name} declares frames of {source.size}, frame {number} is {frame.size}")
        if (frame.color.matrix, frame.color.full_range) != (source.color.matrix, source.color.full_range):
            raise SettingError(
                f"{name} declares frames in {source.color.matrix}, full_range={source.color.full_range}, frame "
                f"{number} is in {frame.color.matrix}, full_range={frame.color.full_range}: pass self.color to it"
            )
        if last is not None and frame.time_base != last.time_base:
            raise SettingError(f"{name} changes its time base from {last.time_base} to {frame.time_base}: keep one")
        if last is not None and frame.pts <= last.pts:
            raise SettingError(f"{name} gave frame {number} the pts {frame.pts} after {last.pts}: let pts rise")
        last = frame
        yield frame

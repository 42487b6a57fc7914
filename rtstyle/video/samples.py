"""Between PyAV's frames and ours: samples, tags of colour, rationals. No sample is changed where none has to be."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np

from rtstyle.frame import Colour, ColourTags, Plane, Planes, Size


def view(plane: av.video.plane.VideoPlane) -> Plane:
    """Return the samples of one plane as a view; it keeps the frame's buffer alive."""
    rows: Plane = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return rows[: plane.height, : plane.width]


def _is_rgb_or_grey(frame: av.VideoFrame) -> bool:
    return frame.format.is_rgb or frame.format.name.startswith(("gray", "mono", "pal", "ya"))


def planes_of(frame: av.VideoFrame) -> Planes:
    """Return the samples of a decoded frame as I420.

    Views of the frame's own buffer where it is 8-bit 4:2:0 already; else converted by swscale, with
    matrix and range kept. RGB becomes what ``colour_of`` says.
    """
    name = frame.format.name
    if name not in ("yuv420p", "yuvj420p"):
        if _is_rgb_or_grey(frame):
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        elif frame.color_range == 2 or name.startswith("yuvj"):
            # To plain yuv420p swscale would compress the range; yuvj420p says that it is full.
            frame = frame.reformat(format="yuvj420p", src_color_range="JPEG", dst_color_range="JPEG")
        else:
            frame = frame.reformat(format="yuv420p", src_color_range="MPEG", dst_color_range="MPEG")
    y, u, v = (view(plane) for plane in frame.planes)
    return Planes(y, u, v)


def colour_of(frame: av.VideoFrame, size: Size) -> Colour:
    """Read the tags of a decoded frame; RGB and grey ones are converted to BT.709, limited range."""
    if _is_rgb_or_grey(frame):
        return Colour("bt709", full_range=False, tags=ColourTags(1, 1, 1, 1))
    tags = ColourTags(
        int(frame.colorspace) or 2,  # 0 is RGB, which these samples are not
        int(frame.color_range),
        int(frame.color_primaries),
        int(frame.color_trc),
    )
    return Colour.from_tags(tags, size, full_range=frame.format.name.startswith("yuvj"))


def fraction_of(value: Fraction | None) -> Fraction | None:
    """Return one of PyAV's rationals as a Fraction, None where it says nothing (None, or 0)."""
    return Fraction(value.numerator, value.denominator) if value else None

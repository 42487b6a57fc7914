"""Frames made as the session wants them: upright, of one size, in one color."""

from __future__ import annotations

import av
import numpy as np

from rtstyle.frame import Color, Planes, Size, planes_from_rgb, planes_to_rgb, resized_planes
from rtstyle.video import color_of, planes_of

_SAME_SHAPE = 0.01
"""Difference of two frames' ratios of width to height up to which one is stretched to the other."""


def upright_size(av_frame: av.VideoFrame) -> Size:
    """Return the size of a frame as it is shown."""
    sides = (av_frame.width, av_frame.height)
    return Size(*(sides[::-1] if _quarters(av_frame) % 2 else sides))


def _quarters(av_frame: av.VideoFrame) -> int:
    """Quarter turns counterclockwise that put the frame upright (phones record lying and say so)."""
    return round(av_frame.rotation / 90) % 4


def fitted(av_frame: av.VideoFrame, size: Size, color: Color) -> Planes:
    """Return a decoded frame upright, in this size and color, as I420.

    Views of the decoder's memory where nothing is to be done. A frame of another shape keeps its own, and black
    fills the rest.
    """
    planes = planes_of(av_frame)
    own = color_of(av_frame, Size(av_frame.width, av_frame.height))
    if quarters := _quarters(av_frame):
        planes = Planes(*(np.ascontiguousarray(np.rot90(plane, quarters)) for plane in planes))
    if planes.y.shape != (size.height, size.width):
        planes = _boxed(planes, size, black=0 if own.full_range else 16)
    if (own.matrix, own.full_range) != (color.matrix, color.full_range):
        planes = planes_from_rgb(planes_to_rgb(planes, own), color)
    return planes


def inner_size(own: Size, frame: Size) -> Size:
    """Return the size of a frame that fills another as far as its shape allows."""
    if abs(own.width * frame.height / (own.height * frame.width) - 1) <= _SAME_SHAPE:
        return frame
    scale = min(frame.width / own.width, frame.height / own.height)
    # Even, so that no sample of chroma is half frame and half border.
    return Size(*(max(round(side * scale / 2) * 2, 2) for side in (own.width, own.height)))


def _boxed(planes: Planes, size: Size, black: int) -> Planes:
    height, width = planes.y.shape
    inner = inner_size(Size(width, height), size)
    if inner == size:
        return resized_planes(planes, size)
    left, top = (size.width - inner.width) // 4 * 2, (size.height - inner.height) // 4 * 2
    whole = Planes(
        np.full((size.height, size.width), black, np.uint8),
        np.full((size.chroma.height, size.chroma.width), 128, np.uint8),
        np.full((size.chroma.height, size.chroma.width), 128, np.uint8),
    )
    for target, plane, step in zip(whole, resized_planes(planes, inner), (1, 2, 2), strict=True):
        rows, columns = plane.shape
        part = target[top // step : top // step + rows, left // step : left // step + columns]
        part[:] = plane[: part.shape[0], : part.shape[1]]
    return whole

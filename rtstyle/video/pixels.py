"""From our samples to the pixel format of an encoder; exact, so nothing goes through swscale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from rtstyle.frame import Color, Frame, planes_from_rgb, planes_to_rgb
from rtstyle.video.codecs import RGB_ORDERS, SEMIPLANAR, YUV, halves_chroma

Fill = Callable[[Frame, av.VideoFrame], None]
"""Writes the samples of a frame into a frame of an encoder's format."""


def filler(pix_fmt: str, color: Color, target: Color) -> Fill:
    """Return what fills frames of ``pix_fmt`` from frames of ``color``.

    Args:
        target: How readers of the result understand its samples; RGB is RGB in any case.
    """
    if pix_fmt in RGB_ORDERS:
        return _rgb(pix_fmt, color)
    return _yuv(pix_fmt, color, target)


def level_table(*, luma: bool, from_full: bool, to_full: bool, bits: int) -> NDArray[Any]:
    """Return what each of 256 samples becomes in another range or depth: shape (256,), uint8 or uint16.

    ITU-T H.273, equations 20 to 31: limited ranges are the 8-bit one shifted, full ones fill all values.
    """
    samples = np.arange(256, dtype=np.float64)
    top, unit, middle = 2**bits - 1, 2.0 ** (bits - 8), 2.0 ** (bits - 1)
    if luma:
        value = samples / 255 if from_full else (samples - 16) / 219
        levels = value * top if to_full else (16 + 219 * value) * unit
    else:
        value = (samples - 128) / (255 if from_full else 224)
        levels = middle + value * (top if to_full else 224 * unit)
    return np.clip(np.rint(levels), 0, top).astype(np.uint8 if bits == 8 else np.uint16)


def rows_of(plane: av.video.plane.VideoPlane, dtype: type = np.uint8) -> NDArray[Any]:
    """Return the lines of one plane as a view: shape (height, n), with the padding behind each line."""
    return np.frombuffer(memoryview(plane), dtype).reshape(plane.height, -1)


def _yuv(pix_fmt: str, color: Color, target: Color) -> Fill:
    match = YUV.fullmatch(pix_fmt)
    semiplanar = pix_fmt in SEMIPLANAR
    assert match or semiplanar, pix_fmt
    bits = int(match[3] or 8) if match else (8 if pix_fmt == "nv12" else 10)
    across, down = halves_chroma(pix_fmt)
    dtype = np.uint8 if bits == 8 else np.uint16
    same = bits == 8 and color.full_range == target.full_range
    luma_table, chroma_table = (
        None if same else level_table(luma=luma, from_full=color.full_range, to_full=target.full_range, bits=bits)
        for luma in (True, False)
    )
    alpha_table = level_table(luma=True, from_full=True, to_full=True, bits=bits)
    shift = 6 if pix_fmt == "p010le" else 0  # its samples stand in the upper bits

    def fill(frame: Frame, av_frame: av.VideoFrame) -> None:
        planes = frame.planes
        if color.matrix != target.matrix:
            rgb = planes_to_rgb(planes, color)
            planes = planes_from_rgb(rgb, Color(target.matrix, color.full_range))
        height, width = planes.y.shape
        y = planes.y if luma_table is None else luma_table[planes.y] << shift
        rows_of(av_frame.planes[0], dtype)[:, :width] = y
        for number, plane in enumerate(planes[1:]):
            samples = plane if chroma_table is None else chroma_table[plane] << shift
            if semiplanar:
                rows_of(av_frame.planes[1], dtype)[:, number : 2 * plane.shape[1] : 2] = samples
                continue
            if not down:  # each chroma sample where it was, two or four times
                samples = samples.repeat(2, 0)[:height]
            if not across:
                samples = samples.repeat(2, 1)[:, :width]
            rows_of(av_frame.planes[number + 1], dtype)[:, : samples.shape[1]] = samples
        if match and match[1]:
            rows = rows_of(av_frame.planes[3], dtype)
            rows[:, :width] = alpha_table[-1] if frame.alpha is None else alpha_table[frame.alpha]

    return fill


def _rgb(pix_fmt: str, color: Color) -> Fill:
    order = RGB_ORDERS[pix_fmt]
    planar = pix_fmt.startswith("gb")  # one plane for each channel

    def fill(frame: Frame, av_frame: av.VideoFrame) -> None:
        rgb = planes_to_rgb(frame.planes, color)
        height, width = rgb.shape[:2]
        if planar:
            channels = [rows_of(plane)[:, :width] for plane in av_frame.planes]
        else:
            packed = rows_of(av_frame.planes[0])[:, : width * len(order)].reshape(height, width, -1)
            if pix_fmt == "rgb24":
                packed[:] = rgb
                return
            channels = [packed[..., number] for number in range(len(order))]
        for channel, target in zip(order, channels, strict=True):
            if channel in "rgb":
                target[:] = rgb[..., "rgb".index(channel)]
            else:
                target[:] = 255 if frame.alpha is None or channel == "0" else frame.alpha

    return fill

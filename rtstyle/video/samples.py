"""Between PyAV's frames and ours: samples, tags of color, rationals. No sample is changed where none has to be."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from typing import Any, TypeVar

import av
import numpy as np
from numpy.typing import NDArray

from rtstyle.frame import Color, ColorTags, Plane, Planes, Size

Sample = TypeVar("Sample", bound=np.generic)


def view(plane: av.video.plane.VideoPlane) -> Plane:
    """Return the samples of one plane as a view; it keeps the frame's buffer alive."""
    rows: Plane = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return rows[: plane.height, : plane.width]


def _is_rgb_or_grey(frame: av.VideoFrame) -> bool:
    return frame.format.is_rgb or frame.format.name.startswith(("gray", "mono", "pal", "ya"))


def planes_of(frame: av.VideoFrame) -> Planes:
    """Return the samples of a decoded frame as I420.

    Views of the frame's own buffer where it is 8-bit 4:2:0 already; else converted by swscale, with
    matrix and range kept. RGB becomes what ``color_of`` says.
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


def color_of(frame: av.VideoFrame, size: Size) -> Color:
    """Read the tags of a decoded frame; RGB and grey ones are converted to BT.709, limited range."""
    if _is_rgb_or_grey(frame):
        return Color("bt709", full_range=False, tags=ColorTags(1, 1, 1, 1))
    tags = ColorTags(
        int(frame.colorspace) or 2,  # 0 is RGB, which these samples are not
        int(frame.color_range),
        int(frame.color_primaries),
        int(frame.color_trc),
    )
    return Color.from_tags(tags, size, full_range=frame.format.name.startswith("yuvj"))


def frame_has_alpha(frame: av.VideoFrame) -> bool:
    """Whether the samples of a frame have an opacity."""
    return frame.format.has_palette or any(component.is_alpha for component in frame.format.components)


def alpha_of(frame: av.VideoFrame) -> Plane:
    """Return the opacity of each pixel, 255 opaque, shape (height, width); a view where that is possible.

    More than 8 bits lose their lowest; a frame without opacity is opaque.
    """
    if frame.format.has_palette:
        frame = frame.reformat(format="rgba")
    name, (_number, component) = (
        frame.format.name,
        next(((i, c) for i, c in enumerate(frame.format.components) if c.is_alpha), (0, None)),
    )
    if component is None:
        return np.full((frame.height, frame.width), 255, np.uint8)
    bits, wide = component.bits, component.bits > 8
    if component.bits > 16 or "f16" in name:
        return alpha_of(frame.reformat(format="rgba64le"))
    packed = len(frame.planes) == 1
    plane = frame.planes[component.plane]
    kind = (">u2" if frame.format.is_big_endian else "<u2") if wide else "u1"
    rows = np.frombuffer(memoryview(plane), kind).reshape(plane.height, -1)
    if packed:
        channels = len(frame.format.components)
        first = name.startswith(("argb", "abgr"))  # all others have it last
        rows = rows[:, (0 if first else channels - 1) :: channels]
    rows = rows[:, : frame.width]
    return (rows >> (bits - 8)).astype(np.uint8) if wide else rows


def planes_digest(planes: Planes) -> str:
    """Return a fingerprint of a frame's samples: the same samples give the same, whatever their strides."""
    digest = hashlib.blake2b(digest_size=16)
    for plane in planes:
        digest.update(repr(plane.shape).encode())
        digest.update(np.ascontiguousarray(plane).data)
    return digest.hexdigest()


def side_bytes_of(frame: av.VideoFrame, kind: str) -> bytes:
    """Return what a frame carries beside its samples, by FFmpeg's name of the kind; empty if nothing."""
    data: Any = frame.side_data.get(kind)  # iterating gives other things in PyAV 18 and 19
    return b"" if data is None else bytes(data)


def side_data_of(frame: av.VideoFrame, kind: str) -> NDArray[np.int32]:
    """Return ``side_bytes_of`` as int32."""
    content = side_bytes_of(frame, kind)
    return np.frombuffer(content[: len(content) // 4 * 4], np.int32)


def fraction_of(value: Any) -> Fraction | None:
    """Return one of PyAV's rationals as a Fraction, None where it says nothing (None, or 0).

    They are fractions up to PyAV 18, and of a kind of its own from 19 on.
    """
    return Fraction(value.numerator, value.denominator) if value else None


def turned(plane: Plane, matrix: tuple[int, ...]) -> Plane:
    """Return a copy of a plane as it is shown: turned by quarters and mirrored as FFmpeg's display matrix says."""
    a, b, _, c, d = (round(number / 65536) for number in matrix[:5])
    if abs(a * d - b * c) != 1:  # no multiple of a quarter
        return plane
    across, down = (a, d) if a else (c, b)
    return np.ascontiguousarray((plane if a else plane.T)[::down, ::across])


def turned_back(plane: NDArray[Sample], matrix: tuple[int, ...]) -> NDArray[Sample]:
    """Return a copy of a plane as it is stored: the reverse of ``turned``."""
    a, b, _, c, d = (round(number / 65536) for number in matrix[:5])
    if abs(a * d - b * c) != 1:  # no multiple of a quarter
        return plane
    across, down = (a, d) if a else (c, b)
    stored = plane[::down, ::across]
    return np.ascontiguousarray(stored if a else stored.T)

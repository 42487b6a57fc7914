"""360 degree projection, stereo 3D and ICC profile of a video: read from its frames, and written into finished headers.

PyAV neither sets them on a stream nor passes them to a muxer.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import av

from rtstyle.video.ebml import children, element, number
from rtstyle.video.matroska import change_video_of
from rtstyle.video.mp4 import add_to_video, box
from rtstyle.video.samples import side_bytes_of

KINDS = ("SPHERICAL", "STEREO3D", "ICC_PROFILE")
"""FFmpeg's names of these kinds of side data."""

_EQUIRECTANGULAR, _CUBEMAP, _TILE = 0, 1, 2
_MONO, _SIDE_BY_SIDE, _TOP_BOTTOM = 0, 1, 2
_STEREO_MODES = {1: (1, 11), 2: (3, 2), 4: (5, 4), 6: (7, 6), 7: (9, 8)}
"""From FFmpeg's AVStereo3DType to Matroska's StereoMode, the left view first, or the right one."""

_PROJECTION, _PROJECTION_TYPE, _PROJECTION_PRIVATE, _STEREO_MODE = 0x7670, 0x7671, 0x7672, 0x53B8
_PIXEL_WIDTH, _PIXEL_HEIGHT, _DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT = 0xB0, 0xBA, 0x54B0, 0x54BA, 0x54B2
_SIZES = (_PIXEL_WIDTH, _PIXEL_HEIGHT, _DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT)
_AS_RATIO = 3
"""DisplayUnit: width and height are the two sides of the display's aspect ratio."""

_HALF_WIDTH, _HALF_HEIGHT = (1, 7), (2, 6)
"""Of AVStereo3DType, those whose views each have half of the width, or of the height."""

_POSE = (0x7673, 0x7674, 0x7675)
"""Yaw, pitch, roll."""

_SOURCE = b"rtstyle\0"
"""Who made the description, as the box asks for."""


@dataclass(frozen=True)
class Spatial:
    """What frames say of projection, views and color profile, as FFmpeg's structures; each is empty for none."""

    spherical: bytes = b""
    """AVSphericalMapping."""
    stereo: bytes = b""
    """AVStereo3D."""
    profile: bytes = b""
    """ICC profile."""

    @classmethod
    def of(cls, frame: av.VideoFrame) -> Spatial:
        """Read what a frame carries."""
        spherical, stereo, profile = (side_bytes_of(frame, kind) for kind in KINDS)
        return cls(spherical if len(spherical) >= 32 else b"", stereo if len(stereo) >= 8 else b"", profile)

    def stated_by(self, muxer: str) -> frozenset[str]:
        """Return the kinds that the header of a container states as they are."""
        kinds = set[str]()
        if muxer in ("mp4", "mov"):
            kinds |= (
                {"SPHERICAL"} if self.spherical and self._mapping[0] in (_EQUIRECTANGULAR, _CUBEMAP, _TILE) else set()
            )
            kinds |= {"STEREO3D"} if self._layout in ((_MONO, 0), (_SIDE_BY_SIDE, 0), (_TOP_BOTTOM, 0)) else set()
            kinds |= {"ICC_PROFILE"} if self.profile else set()
        if muxer in ("matroska", "webm"):
            kinds |= (
                {"SPHERICAL"} if self.spherical and self._mapping[0] in (_EQUIRECTANGULAR, _CUBEMAP, _TILE) else set()
            )
            kinds |= {"STEREO3D"} if self.stereo and self._layout[0] in (_MONO, *_STEREO_MODES) else set()
        return frozenset(kinds)

    @property
    def _mapping(self) -> tuple[int, ...]:
        """Projection, yaw, pitch, roll (16.16); left, top, right, bottom (0.32)."""
        return struct.unpack_from("=4i4I", self.spherical)

    @property
    def _layout(self) -> tuple[int, int]:
        """Type and whether the right view comes first; type -1 where nothing is stated."""
        if not self.stereo:
            return -1, 0
        kind, flags = struct.unpack_from("=2i", self.stereo)
        return kind, flags & 1

    def boxes(self) -> bytes:
        """Return boxes for the sample description of mp4: st3d and sv3d (Spherical Video V2), and colr."""
        made, kinds = b"", self.stated_by("mp4")
        if "ICC_PROFILE" in kinds:
            made += box(b"colr", b"prof" + self.profile)
        if "STEREO3D" in kinds or "SPHERICAL" in kinds:
            kind = self._layout[0]
            mode = {_SIDE_BY_SIDE: 2, _TOP_BOTTOM: 1}.get(kind, 0)
            made += box(b"st3d", bytes(4) + bytes([mode])) if "STEREO3D" in kinds else b""
        if "SPHERICAL" in kinds:
            projection, yaw, pitch, roll, left, top, right, bottom = self._mapping
            head = box(b"prhd", bytes(4) + struct.pack(">3i", yaw, pitch, roll))
            if projection == _CUBEMAP:
                shape = box(b"cbmp", bytes(8) + self._padding)
            else:
                shape = box(b"equi", bytes(4) + struct.pack(">4I", top, bottom, left, right))
            made += box(b"sv3d", box(b"svhd", bytes(4) + _SOURCE) + box(b"proj", head + shape))
        return made

    @property
    def _padding(self) -> bytes:
        return struct.pack(">I", struct.unpack_from("=I", self.spherical, 32)[0] if len(self.spherical) >= 36 else 0)

    def in_video(self, video: bytes) -> bytes:
        """Return the content of Matroska's element Video with StereoMode and Projection."""
        kinds = self.stated_by("matroska")
        kind, right_first = self._layout
        made = video
        if "STEREO3D" in kinds and kind != _MONO:
            mode = element(_STEREO_MODE, number(_STEREO_MODES[kind][right_first]))
            made = _without(_shown_as_one_view(made, kind), _STEREO_MODE) + mode
        if "SPHERICAL" in kinds:
            projection, *pose, left, top, right, bottom = self._mapping
            content = element(_PROJECTION_TYPE, number(2 if projection == _CUBEMAP else 1))
            if projection == _CUBEMAP:
                content += element(_PROJECTION_PRIVATE, bytes(8) + self._padding)
            elif projection == _TILE:
                content += element(_PROJECTION_PRIVATE, bytes(4) + struct.pack(">4I", top, bottom, left, right))
            for axis, value in zip(_POSE, pose, strict=True):
                content += element(axis, struct.pack(">f", value / 65536)) if value else b""
            made = _without(made, _PROJECTION) + element(_PROJECTION, content)
        return made


def _without(video: bytes, *kinds: int) -> bytes:
    return b"".join(element(kind, data) for kind, data in children(video) if kind not in kinds)


def _shown_as_one_view(video: bytes, kind: int) -> bytes:
    """Return the content of Video with the size at which one of its two views is shown, as Matroska states it."""
    said = {element_id: int.from_bytes(data, "big") for element_id, data in children(video) if element_id in _SIZES}
    stereo = next((data for element_id, data in children(video) if element_id == _STEREO_MODE), None)
    wide = said.get(_DISPLAY_WIDTH, said.get(_PIXEL_WIDTH, 0))
    high = said.get(_DISPLAY_HEIGHT, said.get(_PIXEL_HEIGHT, 0))
    if stereo or kind not in (*_HALF_WIDTH, *_HALF_HEIGHT) or not (wide and high):
        return video
    across, down = (2, 1) if kind in _HALF_WIDTH else (1, 2)
    unit = element(_DISPLAY_UNIT, bytes([said[_DISPLAY_UNIT]])) if _DISPLAY_UNIT in said else b""
    if wide % across or high % down:
        wide, high, across, down, unit = wide * down, high * across, 1, 1, element(_DISPLAY_UNIT, bytes([_AS_RATIO]))
    kept = _without(video, _DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT)
    kept += element(_DISPLAY_WIDTH, number(wide // across)) + element(_DISPLAY_HEIGHT, number(high // down))
    return kept + unit


def write_spatial(path: Path, muxer: str, spatial: Spatial) -> bool:
    """State in the header of a finished file what ``Spatial.stated_by`` says of its container.

    Returns:
        False: the header has no room, or is not understood; the file is as it was.

    Raises:
        OSError: The file cannot be read or written.
    """
    if muxer in ("mp4", "mov"):
        return add_to_video(path, spatial.boxes())
    return change_video_of(path, spatial.in_video)

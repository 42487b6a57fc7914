"""What is in a media file, as it is compared: every frame's time, every packet's hash, every tag."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

from rtstyle.frame import ColorTags

Thumbnail = NDArray[np.float32]

LEAD_IN = 3
"""Packets before a stream's start that a decoder may need; more were hidden by an edit."""


@dataclass(frozen=True)
class Orientation:
    """How a stored frame is turned to be shown: x' = a x + c y, y' = b x + d y, each of -1, 0, 1."""

    a: int = 1
    b: int = 0
    c: int = 0
    d: int = 1

    @classmethod
    def of(cls, frame: av.VideoFrame) -> Orientation:
        """Read a frame's display matrix (ISO/IEC 14496-12, 8.3.2.3); the identity where it has none."""
        data: Any = frame.side_data.get("DISPLAYMATRIX")
        if data is None:
            return cls()
        a, b, _, c, d = (round(value / 65536) for value in struct.unpack("=9i", bytes(data))[:5])
        right_angle = abs(a * d - b * c) == 1 and {abs(a), abs(b)} == {0, 1}
        return cls(a, b, c, d) if right_angle else cls()

    @property
    def sideways(self) -> bool:
        """True: width and height change places."""
        return self.a == 0

    def turn(self, plane: NDArray[Any]) -> NDArray[Any]:
        """Return a frame as it is shown."""
        across, down = (self.c, self.b) if self.sideways else (self.a, self.d)
        shown = plane.T if self.sideways else plane
        return shown[:: down or 1, :: across or 1]

    def __str__(self) -> str:
        degrees = round(math.degrees(math.atan2(-self.b, self.a))) % 360
        mirrored = ", mirrored" if self.a * self.d - self.b * self.c < 0 else ""
        return f"{degrees}°{mirrored}"


@dataclass
class StreamFacts:
    """One stream, as its packets show."""

    index: int
    type: str
    codec: str
    language: str
    disposition: Disposition
    metadata: dict[str, str]
    """Keys in lower case."""
    time_base: Fraction
    layout: str = ""
    """Of audio: rate and channels, as text."""
    shapes: set[tuple[int, int]] = field(default_factory=set)
    """Rates and channels, as indices of ADTS, that AAC states packet by packet."""
    headers: set[bytes] = field(default_factory=set)
    """Of audio: the decoder's headers, of the stream and of packets that bring another one."""
    size: str = ""
    """Of a frame, as text."""
    content: bytes = b""
    """Hash of an attachment's bytes."""
    times: list[int] = field(default_factory=list)
    """Presentation times of the packets in units of ``time_base``, in file order."""
    durations: list[int] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    begins: Fraction | None = None
    """Seconds at which the container says that it is first heard or seen."""
    lead_in: list[bytes] = field(default_factory=list)
    """Digests of packets before the first that is shown, which an edit list hides; not in ``digests``."""
    lead_begins: int | None = None
    """Presentation time of the first of ``lead_in``, in units of ``time_base``."""
    hidden: list[bytes] = field(default_factory=list)
    """Digests of all packets that an edit list hides."""
    texts: list[tuple[Fraction, Fraction, str]] = field(default_factory=list)
    """Of subtitles that are text: start and end in seconds, and what is shown."""
    skipped: int = 0
    """Packets without a time, or whose decoding time goes back: damage, which no container could hold."""
    last_dts: int | None = None

    contradicted: float | None = None
    """Seconds from which on packets of AAC contradict the header of their stream; None: none does."""

    @property
    def splices(self) -> Literal["", "in packets", "in headers"]:
        """Whether audio changes its channels or rate on the way in a way that one header cannot state, and where."""
        return "in headers" if len(self.headers) > 1 else "in packets" if len(self.shapes) > 1 else ""

    @property
    def trimmed(self) -> bool:
        """An edit list hides more at its beginning than the lead-in of a decoder."""
        return len(self.lead_in) > LEAD_IN

    @property
    def start(self) -> Fraction | None:
        """Seconds at which its first packet is shown."""
        return min(self.times) * self.time_base if self.times else None

    @property
    def end(self) -> Fraction | None:
        """Seconds at which its last packet ends."""
        ends = (time + duration for time, duration in zip(self.times, self.durations, strict=True))
        return max(ends) * self.time_base if self.times else None


@dataclass
class VideoFacts:
    """The stream that is stylized, as its decoded frames show."""

    track: StreamFacts
    size: tuple[int, int]
    """Width and height as stored."""
    pixel_format: str
    bits: int
    rgb: bool
    """True: RGB, palette or grey; no matrix is applied to it."""
    tags: ColorTags
    pixel_aspect: Fraction
    orientation: Orientation
    rate: Fraction | None
    chroma: str = "left"
    """Where chroma samples lie, by FFmpeg's names."""
    times: list[Fraction] = field(default_factory=list)
    """When each frame is shown, in seconds, in the order of showing."""
    last: Fraction = Fraction(0)
    """How long the last frame is shown, in seconds; 0 where the file does not state it."""
    untimed: int = 0
    """Frames for which the file has no time."""
    interlaced: int = 0
    """Frames that are flagged so."""
    corrupt: int = 0
    """Frames that the decoder flags as damaged."""
    carries: dict[str, bytes] = field(default_factory=dict)
    """What its frames carry, of projection, stereo 3D and color profile."""
    captions: list[bytes] = field(default_factory=list)
    """Of each frame that has any: digests of its closed captions."""
    shapes: list[tuple[Fraction, Fraction]] = field(default_factory=list)
    """Where frames change their shape: seconds, and width over height as shown; the first frame's comes first."""
    look: Thumbnail | None = None
    """Mean of the first frames' luma, 16x16, as stored."""
    alpha: list[NDArray[np.uint8]] = field(default_factory=list)
    """Opacity of each frame, reduced to 16x16; empty where the format has none."""
    opaque: bool = True
    """No pixel is transparent."""

    @property
    def shown_size(self) -> tuple[int, int]:
        """Width and height as shown, in pixels."""
        return self.size[::-1] if self.orientation.sideways else self.size

    @property
    def shown_aspect(self) -> Fraction:
        """Width of a pixel over its height, as shown."""
        return 1 / self.pixel_aspect if self.orientation.sideways else self.pixel_aspect


@dataclass
class Media:
    """Everything that was found in one file."""

    path: Path
    format: str
    """FFmpeg's name of the demuxer; of several names the one that fits the file, e.g. webm, mov."""
    start: Fraction
    """Where the player's timeline begins, in seconds."""
    duration: Fraction | None
    metadata: dict[str, str]
    """Keys in lower case."""
    chapters: list[tuple[Fraction, Fraction, str]]
    """Start and end in seconds, and title."""
    streams: list[StreamFacts]
    """All streams but the video."""
    editions: list[str]
    """What Matroska says of its chapters and other containers do not hold, in words."""
    video: VideoFacts | None
    damage: list[str]
    """What is wrong with the file itself, in words; empty: nothing is."""

    @property
    def timecode(self) -> str | None:
        """Time of day of the first frame as the camera counted, HH:MM:SS:FF."""
        own = [self.video.track.metadata] if self.video else []
        places = [*own, self.metadata, *(track.metadata for track in self.streams if track.type == "data")]
        return next((place["timecode"] for place in places if "timecode" in place), None)


@dataclass(frozen=True)
class Samples:
    """What a stream decodes to, as a whole."""

    digest: bytes
    """Of all samples, channel by channel; equal in all containers and for all lossless codecs of the same depth."""
    seconds: Fraction
    """Length of audio."""
    gaps: Fraction
    """Seconds between its samples in which there are none."""
    shape: tuple[int, int]
    """Of audio: the most channels and the highest rate."""
    start: Fraction
    """When the first sample is heard."""
    frame: Fraction
    """Length of a packet of audio in seconds."""

"""Moving images that are no video container: sequences of stills, and animated WebP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from rtstyle.errors import VideoOpenError, reason_of
from rtstyle.frame import MAX_PIXELS
from rtstyle.video.opening import AV_ERRORS, open_media

WEBP_TIME_BASE = Fraction(1, 1000)
"""Animated WebP states how long each frame is shown in milliseconds."""


class ImageSequence:
    """The stills of a sequence as a stream: number i is shown at i times the duration of one frame."""

    def __init__(self, paths: tuple[Path, ...], rate: Fraction) -> None:
        self.damaged = 0
        """Frames that could not be decoded; each leaves out its own place in time."""
        refuse_light(paths[0])
        self._paths, self._base = paths, 1 / rate
        self.duration = len(paths) / rate
        """Of the whole, in seconds."""

    def __len__(self) -> int:
        return len(self._paths)

    def av_frames(self, first: int = 0) -> Iterator[av.VideoFrame]:
        """Decode from frame number ``first`` on."""
        for number, path in enumerate(self._paths[first:], first):
            av_frame = None
            with suppress(*AV_ERRORS, StopIteration):
                av_frame = _decode_still(path)
            if av_frame is None:
                self.damaged += 1
                continue
            av_frame.pts, av_frame.dts, av_frame.time_base, av_frame.duration = number, None, self._base, 1
            yield av_frame


_LOGARITHMIC = (1, 3)
"""Transfers of DPX (SMPTE ST 268): printing density, logarithmic."""


def refuse_light(path: Path) -> None:
    """Refuse an image whose samples are no display's: a scan of video, which would come out flat and pale.

    Raises:
        VideoOpenError: It is a DPX with logarithmic samples.
    """
    head = b""
    with suppress(OSError), path.open("rb") as file:
        head = file.read(802)
    if head[:4] in (b"SDPX", b"XPDS") and len(head) == 802 and head[801] in _LOGARITHMIC:
        raise VideoOpenError(f"{path} is a DPX with logarithmic samples: convert it to a display's levels first")


def _decode_still(path: Path) -> av.VideoFrame:
    with open_media(f"file:{path}") as container:
        context = container.streams.video[0].codec_context
        context.options = {"max_pixels": str(MAX_PIXELS)}
        if context.codec.name == "exr":  # it holds linear light: the curve of sRGB makes it a display's
            context.options |= {"apply_trc": "iec61966_2_1"}
        return next(container.decode(video=0))


class AnimatedWebp:
    """An animated WebP, decoded by OpenCV, because FFmpeg cannot. It is in memory as a whole.

    Raises:
        VideoOpenError: The file is damaged.
    """

    def __init__(self, path: Path) -> None:
        import cv2

        self.damaged = 0
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            read, animation = cv2.imreadanimation(str(path))
        except cv2.error as error:
            raise VideoOpenError(f"{path} cannot be read as a video: {reason_of(error)}") from error
        finally:
            cv2.utils.logging.setLogLevel(level)
        if not read or not len(animation.frames):
            raise VideoOpenError(f"{path} cannot be read as a video: its frames are damaged")
        self._frames = [np.asarray(samples, np.uint8) for samples in animation.frames]
        self._durations = [max(1, int(duration)) for duration in animation.durations]
        self.duration = Fraction(sum(self._durations), 1000)
        """Of the whole, in seconds."""

    def __len__(self) -> int:
        return len(self._frames)

    def av_frames(self, first: int = 0) -> Iterator[av.VideoFrame]:
        """Yield the frames that are shown at ``first`` milliseconds or later."""
        pts = 0
        for samples, duration in zip(self._frames, self._durations, strict=True):
            if pts >= first:
                av_frame = av.VideoFrame.from_ndarray(samples, "bgra" if samples.shape[2] == 4 else "bgr24")
                av_frame.pts, av_frame.time_base, av_frame.duration = pts, WEBP_TIME_BASE, duration
                yield av_frame
            pts += duration

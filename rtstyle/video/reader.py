"""VideoReader: an input gives frames at its own times, and packets of its other streams."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np

from rtstyle.closing import Closing
from rtstyle.errors import SettingError, VideoOpenError, reason_of
from rtstyle.frame import Frame, Planes, Size, VideoFormat, check_is_size
from rtstyle.settings import check_types
from rtstyle.video.animation import AnimatedWebp, ImageSequence
from rtstyle.video.captions import captions_of
from rtstyle.video.chroma import LOCATIONS, location_of
from rtstyle.video.decoder import Decoder
from rtstyle.video.filters import Shaper
from rtstyle.video.hwaccel import check_hwaccel, hwaccel_problem
from rtstyle.video.inputs import find_input
from rtstyle.video.samples import (
    alpha_of,
    fraction_of,
    frame_has_alpha,
    planes_digest,
    planes_of,
    side_bytes_of,
    side_data_of,
    turned,
)
from rtstyle.video.spatial import Spatial
from rtstyle.video.tone import HLG, PQ
from rtstyle.video.transcode import begin_of

_NOT_CARRIED = {
    "SPHERICAL": "it is a 360 degree video: its projection is lost, so players show it flat",
    "STEREO3D": "it is stereoscopic (3D): how the two views lie in its frames is not written",
    "ICC_PROFILE": "its ICC color profile is lost: its colors are read by their tags",
}
"""What frames may carry that outputs do not say, by FFmpeg's names; H.264 by x264 does say STEREO3D."""

_GRADED = ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL")
"""HDR10 metadata; that of HDR, which is mapped to SDR, is used for it and describes nothing any more."""

_FRAME_PACKINGS = {1: 3, 2: 4, 3: 5, 4: 0, 6: 2, 7: 1}
"""From FFmpeg's AVStereo3DType: side by side, top and bottom, alternate frames, checkerboard, rows, columns."""

_CUT_OFF = 1.0
"""Seconds of video that may be missing at the end of a file before it counts as cut off."""

_STEPS_BACK = (0, 1, 5, 20)
"""Seconds before a frame to which a seek goes in turn until it leads to a key frame that helps."""

_LONGEST = 60
"""Seconds that a packet of another stream (a subtitle) may last: it may begin before a range and reach into it."""

_FREE_CLOCKS = ("mpegts", "mpeg", "flv", "live_flv", "rtsp", "rtp", "sdp", "hls")
"""Formats whose clock says nothing about where the timeline begins, so that it may begin below 0, too."""

_MAY_START_ANEW = ("mpegts", "mpeg")
"""Formats whose times may jump back in the middle, so that a seek to a time may lead to another place."""


@dataclass(frozen=True, kw_only=True)
class ReaderSettings:
    """How an input is opened and decoded."""

    threads: int = 0
    """Threads of the decoder; 0 is one for each core."""
    hwaccel: str | None = None
    """Hardware that is to decode, by FFmpeg's name: ``cuda`` is NVDEC. Where it does not work on this machine or with
    this codec, software decodes, and the reader has a note. None: software."""
    rate: Fraction | None = None
    """Frames per second of a sequence of images; None is 25."""
    timeout: float = 10.0
    """Seconds that each read from the network may take."""
    muxer: str | None = None
    """FFmpeg's name of the input's format, such as ``y4m``; None: it is detected."""
    playlists: bool = False
    """A playlist may lead to any file or host, see ``video.opening``."""

    def __post_init__(self) -> None:
        check_types(self)


class VideoReader(Closing):
    """An input as a ``FrameSource``; the packets of its other streams wait in ``packets``.

    One thread iterates it, once. Damaged packets cost their own frames only and are counted in
    ``damaged``; the times that it yields always rise. Frames come out deinterlaced, in SDR, in one size
    and with one meaning of color; what was done for that is in ``notes``.

    Args:
        source: A file, a folder of images, a pattern of them (``frames/%05d.png``), a URL, or ``-`` (stdin).
        start: Seconds on the player's timeline, on which the container starts at 0: frames of start <= time < end
            are yielded, and times count from the first of them if ``start`` is given, else from the earliest of
            frame and audio.
        end: See ``start``; None is the end of the source.
        size: What the frames are scaled to, as they are shown, so for a video that is turned by 90
            degrees with the sides changed. The shape of what is shown stays: ``pixel_aspect`` changes with it.
        keep_packets: False leaves ``packets`` empty.
        settings: How the input is opened and decoded.

    Raises:
        VideoOpenError: There is no such input, it is no media file, or it has no video, or no frame in the
            range; when iterated: it can be read no further (not: it is damaged).
        VideoStalledError: The network did not answer; also when iterated.
        SettingError: The range is empty or before 0, or there is no such hwaccel.
    """

    live = False

    def __init__(
        self,
        source: Path | str,
        *,
        start: Fraction | None = None,
        end: Fraction | None = None,
        size: Size | None = None,
        keep_packets: bool = True,
        settings: ReaderSettings = ReaderSettings(),
    ) -> None:
        _check_range(start, end)
        if size is not None:
            check_is_size(size)
        self._input = find_input(source, timeout=settings.timeout, muxer=settings.muxer, playlists=settings.playlists)
        self.name = self._input.name
        """Name of the input for messages."""
        self.path = Path(source)
        self.seekable = self._input.seekable
        """A second pass over it is possible."""
        self.packets: deque[av.Packet[Any]] = deque()
        """Packets of all other streams, in file order; they are consumed from the left."""
        self._notes: list[str] = list(self._input.notes)
        self.keep_packets = keep_packets
        """May be set to False before iterating; what is in ``packets`` by then is to be cleared."""
        self._threads = settings.threads
        self._hwaccel = self._usable(settings.hwaccel)
        self._start, self._end = start, end
        self._faulty = 0
        self._kept_from = Fraction(-(1 << 62))
        """Packets of other streams before this moment of the source's timeline are of no use."""
        self._counted_before = 0
        """Damage that was met on the way to the place where the frames begin."""
        self._ended = Fraction(0)
        self.upright = False
        """Whether ``turn_upright`` was called."""
        self._turn: tuple[int, ...] | None = None
        self._frames: Iterator[Frame] | None = None
        self._opened: list[Decoder] = []
        try:
            self._open_first(settings.rate, size)
        except BaseException:
            self.close()
            raise

    def _open_first(self, rate: Fraction | None, size: Size | None) -> None:
        """Open the input, decode its first frame, and learn from it what all frames have in common."""
        self._stills = self._open_stills(rate)
        self._decoder = self._open_decoder()
        self.container, self.stream = self._decoder.container, self._decoder.stream
        self._source: Decoder | ImageSequence | AnimatedWebp = self._stills or self._decoder
        av_frames = self._source.av_frames()
        first = next(av_frames, None)
        if first is None:
            raise VideoOpenError(f"{self.name}: not one frame of its video could be decoded" + self._decoder.doubts())
        self._shaper = Shaper(first, self._coded_size(first, size))
        self._describe(first)
        self._origin = self._find_origin(first)
        """Where the player's timeline begins, in seconds of the source's own."""
        self.shift = self._find_shift()
        """Seconds of the source's own timeline that are 0 in the frames' times; whole units of ``time_base``."""
        self._begin(chain([first], av_frames))

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that are read: one, or the images of a sequence; none of a pipe or the network."""
        if not self.seekable:
            return ()
        return self._input.images or (self.path,)

    @property
    def format(self) -> VideoFormat:
        """What all frames have in common."""
        return VideoFormat(self.size, self.color, self.time_base, self.rate, self.pixel_aspect)

    # -- opening -----------------------------------------------------------------------------------

    def _open_stills(self, rate: Fraction | None) -> ImageSequence | AnimatedWebp | None:
        if self._input.kind == "images":
            return ImageSequence(self._input.images, rate or Fraction(25))
        if self._input.kind == "webp":
            return AnimatedWebp(Path(self.name))
        return None

    def _usable(self, hwaccel: str | None) -> str | None:
        """Return the hardware that was asked for, None where it does not work."""
        if hwaccel is None:
            return None
        check_hwaccel(hwaccel)
        problem = hwaccel_problem(hwaccel)
        if problem:
            self._notes.append(f"hwaccel {hwaccel} does not work here ({problem}): software decodes")
        return None if problem else hwaccel

    def _open_decoder(self) -> Decoder:
        decoder = Decoder(self._input, threads=self._threads, keep=self._keep, hwaccel=self._hwaccel)
        self._opened.append(decoder)
        return decoder

    def _keep(self, packet: av.Packet[Any]) -> None:
        if self.keep_packets and packet.dts is not None and _time_of(packet) >= self._kept_from:
            self.packets.append(packet)

    def _coded_size(self, first: av.VideoFrame, size: Size | None) -> Size | None:
        """Return the size before the frame is turned for showing."""
        quarter = round((first.rotation or 0) / 90) % 2
        return Size(size.height, size.width) if size and quarter else size

    def _describe(self, first: av.VideoFrame) -> None:
        self.size = self._shaper.size
        self.color = self._shaper.color
        self.pixel_format = first.format.name
        if self.pixel_format not in ("yuv420p", "yuvj420p", "nv12", "yuva420p"):
            self._notes.append(f"its samples are {self.pixel_format}; they are reduced to 8-bit 4:2:0")
        self._notes += [words for kind, words in _NOT_CARRIED.items() if side_bytes_of(first, kind)]
        if first.color_trc not in (PQ, HLG) and any(side_bytes_of(first, kind) for kind in _GRADED):
            self._notes.append("its HDR10 metadata (mastering display, content light level) is left out")
        self.spatial = Spatial.of(first)
        """360 degree projection, stereo 3D and color profile; outputs state what their container can."""
        self.rotation = int(first.rotation or 0)
        """Degrees counterclockwise by which players turn the frame."""
        matrix = side_data_of(first, "DISPLAYMATRIX")[:9]
        self.display_matrix: tuple[int, ...] | None = tuple(int(number) for number in matrix) or None
        """How players turn and mirror the frame: 9 numbers of FFmpeg's display matrix, None where they do not."""
        self.pixel_aspect = self._pixel_aspect(first)
        """Width of a pixel over its height, None where nothing is stated."""
        stills = self._stills
        if stills is None:
            self.rate = fraction_of(self.stream.average_rate) or fraction_of(self.stream.guessed_rate)
            self.time_base = fraction_of(self.stream.time_base) or Fraction(1, 90000)
        else:
            self.time_base = fraction_of(first.time_base) or Fraction(1, 25)
            self.rate = 1 / self.time_base if isinstance(stills, ImageSequence) else len(stills) / stills.duration
        self._avi = stills is None and self.container.format.name == "avi"
        if first.pts is None and first.dts is None:
            self._notes.append(f"it has no timestamps; {float(self.rate or 25):g} frames per second are assumed")
        self._times_known = first.pts is not None and not self._avi
        if stills is None and self._decoder.alpha_lost:
            self._notes.append("its transparency is lost: this FFmpeg was built without the decoder (libvpx) for it")
        self.alpha = frame_has_alpha(first) and not self._is_opaque_gif()
        """Frames come with the opacity of their pixels."""
        self.duration: float | None = None
        """Length of the video in seconds as declared, None where it is not."""
        if stills is not None:
            self.duration = float(stills.duration)
        elif self.stream.duration is not None:
            self.duration = float(self.stream.duration * self.time_base)
        elif self.container.duration is not None:
            self.duration = self.container.duration / av.time_base

    def _find_origin(self, first: av.VideoFrame) -> Fraction:
        """Return when the first frame is shown or the first audio heard, in seconds of the source's own timeline.

        A recording begins at any hour of its sender's clock; players show that moment as 0.
        """
        if self._stills is not None:
            return Fraction(0)
        begins = [begin_of(stream) for stream in self.container.streams.audio]
        stated = first.dts if self._avi else first.pts
        begins.append(Fraction(0) if stated is None else stated * self.time_base)
        return min(begin for begin in begins if begin is not None)

    def _find_shift(self) -> Fraction:
        """Return by how much times move so that the earliest is 0; lead-ins before 0 stay before 0."""
        shift = self._origin // self.time_base * self.time_base
        free = self._stills is None and self.container.format.name in _FREE_CLOCKS
        return shift if free else max(Fraction(0), shift)

    def _pixel_aspect(self, first: av.VideoFrame) -> Fraction | None:
        own = fraction_of(self.stream.sample_aspect_ratio)
        if (first.width, first.height) == (self.size.width, self.size.height):
            return own
        wider = Fraction(first.width * self.size.height, first.height * self.size.width)
        return ((own or Fraction(1)) * wider).limit_denominator(10000)

    def _is_opaque_gif(self) -> bool:
        """Look at a whole GIF: its decoder always gives an opacity, and most have none."""
        if self._stills or self.container.format.name != "gif" or not self.seekable:
            return False
        decoder = Decoder(self._input)
        try:
            return all(np.min(alpha_of(av_frame), initial=255) == 255 for av_frame in decoder.av_frames())
        finally:
            decoder.close()

    @property
    def begins(self) -> Fraction:
        """Seconds on the player's timeline at which the times of the frames are 0."""
        return self.shift - self._origin

    # -- the range -----------------------------------------------------------------------------------

    @property
    def window(self) -> tuple[Fraction | None, Fraction | None]:
        """What part of the other streams belongs to the frames: from, to, in seconds of the source's own timeline.

        From is None where no start was asked for: what comes before the first frame belongs to them too. To is None
        where no end was.
        """
        end = None if self._end is None else self._origin + self._end
        return (None if self._start is None else self.shift, end)

    def _begin(self, av_frames: Iterator[av.VideoFrame]) -> None:
        """Find the first frame of the range, so that ``shift`` is known."""
        self._frames = self._shaped(av_frames)
        if self._start is None and self._end is None:
            return
        low = self._origin + (self._start or 0)
        if self._start is not None:
            self._kept_from = low - _LONGEST
        first = None
        for frames in self._ways_to(low) if self._start else iter([self._frames]):
            first = next((frame for frame in frames if self._start is None or _time(frame) >= low), None)
            self._frames = frames
            if first is not None:
                break
        if first is None or (self._end is not None and _time(first) >= self._origin + self._end):
            lasts = f"it lasts {self.duration:.3f} s" if self.duration else "its length is not declared"
            asked = f"from {float(self._start or 0):g} s" + (f" to {float(self._end):g} s" if self._end else "")
            raise VideoOpenError(f"{self.name} has no frame {asked}: {lasts}")
        if self._start is not None:
            self.shift = _time(first)
        self._count_from_here()
        self._frames = chain([first], self._frames)

    def _ways_to(self, time: Fraction) -> Iterator[Iterator[Frame]]:
        """Yield frames from some place at or before ``time`` on, in ever surer ways; the last is from the start."""
        pts = -(-time // self.time_base)
        if self._stills is not None:
            yield self._shaped(self._stills.av_frames(max(0, int(pts) - 1)))
        elif self.seekable and self._times_known:
            # Before the frame itself: where fields are filled in, it leans on the one before.
            place = int(pts) - 1
            steps = () if self.container.format.name in _MAY_START_ANEW else _STEPS_BACK
            for back in (int(seconds / self.time_base) for seconds in steps):
                if (place - back) * self.time_base < self._origin:
                    break
                av_frames = self._restart().av_frames_from(place - back)
                if av_frames is not None:
                    yield self._shaped(av_frames)
            number = self._restart().find_key_packet(place)
            if number:
                av_frames = self._restart().av_frames_from(place, number)
                if av_frames is not None:
                    yield self._shaped(av_frames)
                    return  # every packet before was looked at: there is nothing else to be found
        if self._stills is None and self.seekable:
            yield self._shaped(self._restart().av_frames())
        else:
            assert self._frames is not None
            yield self._frames

    def _restart(self) -> Decoder:
        """Open the input again beside ``container``, which others may look at."""
        if len(self._opened) > 1:
            self._opened.pop().close()
        self.packets.clear()
        self._source = decoder = self._open_decoder()
        self._shaper.forget()
        self._counted_before = self._faulty = 0
        return decoder

    def _count_from_here(self) -> None:
        self._faulty, self._counted_before = 0, self._source.damaged

    def resume_after(self, pts: int, digest: str) -> bool:
        """Continue behind the frame of that ``pts`` (as this reader yields it), and only if it is that very frame.

        It is found by seeking, or by decoding from the start where seeks lead nowhere, and known by ``digest``.
        To be called before iterating.

        Args:
            digest: What ``planes_digest`` gave for the frame's samples.

        Returns:
            False if no such frame was found: iterating then begins where it would have begun.
        """
        if not self.seekable:
            return False
        for frames in self._ways_to(pts * self.time_base + self.shift):
            for frame in frames:
                if frame.pts - self._shift_units >= pts:
                    break
            else:
                continue
            if frame.pts - self._shift_units == pts and planes_digest(frame.planes) == digest:
                self._count_from_here()
                self._frames = frames
                return True
        again = self._stills or self._restart()
        self._begin(again.av_frames())
        return False

    @property
    def _shift_units(self) -> int:
        return int(self.shift / self.time_base)

    @contextmanager
    def others(self) -> Iterator[Iterator[av.Packet[Any]]]:
        """Read the input once more, for the packets of all other streams only, in file order."""
        if self._stills is not None:
            yield iter(())
            return
        decoder = Decoder(self._input)
        try:
            yield decoder.others()
        finally:
            decoder.close()

    @property
    def notes(self) -> list[str]:
        """What is lost on the way in, in words; complete when the last frame has come."""
        return [*self._notes, *self._shaper.notes]

    # -- frames --------------------------------------------------------------------------------------

    @property
    def ended(self) -> Fraction:
        """When the last frame stops being shown, in seconds of the output; known when it has come."""
        end = self._ended if self._end is None else min(self._ended, self._origin + self._end)
        return end - self.shift

    @property
    def damaged(self) -> int:
        """Frames that are missing or faulty because the input is damaged, as far as is known."""
        return self._source.damaged - self._counted_before + self._faulty

    @property
    def frames_expected(self) -> int | None:
        """How many frames there should be: counted by the container, else duration x rate; None if neither is known."""
        if self._stills is not None:
            count: int | None = len(self._stills)
        elif self.stream.frames:
            count = int(self.stream.frames)
        else:
            count = round(self.duration * self.rate) if self.duration and self.rate else None
        if (self._start is None and self._end is None) or not self.duration or not count:
            return count
        seconds = min(float(self._end or self.duration), self.duration) - float(self._start or 0)
        return max(1, round(count * seconds / self.duration))

    def __iter__(self) -> Iterator[Frame]:
        """Yield every frame once, in the order of showing."""
        assert self._frames is not None
        shift = self._shift_units
        end = None if self._end is None else self._origin + self._end
        for frame in self._frames:
            if end is not None and _time(frame) >= end:
                if self.keep_packets and isinstance(self._source, Decoder):
                    self._source.drain(int((end + 1) / self.time_base))
                return
            if shift or self._turn:
                planes, alpha = frame.planes, frame.alpha
                if self._turn:
                    planes = Planes(*(turned(plane, self._turn) for plane in planes))
                    alpha = None if alpha is None else turned(alpha, self._turn)
                frame = replace(frame, planes=planes, pts=frame.pts - shift, alpha=alpha)
            yield frame
        if self._end is None:
            self._end_as_declared()
            self._check_end(float(self._ended))

    def frame_packing(self) -> int | None:
        """Return how the two views of a stereoscopic video lie in its frames, as x264 counts (H.264, table D-8).

        The caller writes it, so ``notes`` no longer say that it is lost. None where there is nothing to write.
        """
        kind, flags = (int.from_bytes(self.spatial.stereo[i : i + 4], sys.byteorder) for i in (0, 4))
        if self._turn or flags or kind not in _FRAME_PACKINGS:
            return None
        self._carried("STEREO3D")
        return _FRAME_PACKINGS[kind]

    @property
    def chroma_location(self) -> str:
        """Where the chroma samples of its frames lie, by FFmpeg's names; ``left`` where nothing else is known."""
        if self._turn or not self._shaper.plain or "420p" not in self.pixel_format or self._stills is not None:
            return LOCATIONS[0]
        return location_of(self.stream, self.path)

    def state_spatial(self, muxer: str) -> None:
        """Leave to the output what its header states of ``spatial``, so that ``notes`` do not call it lost.

        Args:
            muxer: FFmpeg's name of the output's container.
        """
        if self._turn:
            self.spatial = Spatial()
        for kind in self.spatial.stated_by(muxer):
            self._carried(kind)

    def _carried(self, kind: str) -> None:
        with suppress(ValueError):
            self._notes.remove(_NOT_CARRIED[kind])

    def turn_upright(self) -> None:
        """Yield frames the way they are shown, for an output that cannot say how to turn them. Before iterating."""
        self.upright = True
        if self.display_matrix is None:
            return
        self._turn, self.display_matrix = self.display_matrix, None
        self._notes.append("its frames are turned upright: the output cannot say how they are shown")
        if round(self.rotation / 90) % 2:
            self.size = Size(self.size.height, self.size.width)
            self.pixel_aspect = 1 / self.pixel_aspect if self.pixel_aspect else None
        self.rotation = 0

    def _shaped(self, av_frames: Iterator[av.VideoFrame]) -> Iterator[Frame]:
        try:
            for av_frame in self._timed(av_frames):
                for ready in self._shaper.push(av_frame):
                    yield self._frame(ready)
            for ready in self._shaper.flush():
                yield self._frame(ready)
        except av.FFmpegError as error:  # of the filters; those of the decoder come in words
            raise VideoOpenError(f"{self.name} can be read no further: {reason_of(error)}") from error

    def _frame(self, av_frame: av.VideoFrame) -> Frame:
        alpha = alpha_of(av_frame) if self.alpha else None
        assert av_frame.pts is not None
        planes, captions = planes_of(av_frame), captions_of(av_frame)
        return Frame(planes, av_frame.pts, self.time_base, self.color, alpha=alpha, captions=captions)

    def _timed(self, av_frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """Give each frame a time of its own, later than that of the one before."""
        base = self.time_base
        last: int | None = None
        following = 0  # what the next pts should be, where the file itself does not say
        for av_frame in av_frames:
            # AVI knows no pts; FFmpeg's guess at it goes back and forth where B-frames are packed.
            stated = (av_frame.dts, av_frame.pts) if self._avi else (av_frame.pts, av_frame.dts)
            rising = (time for time in stated if time is not None and (last is None or time > last))
            av_frame.pts = last = pts = next(rising, following)
            av_frame.time_base = base
            step = av_frame.duration or round(1 / (self.rate or 25) / base)
            following = pts + max(1, step)
            self._ended = following * base
            self._faulty += av_frame.is_corrupt
            yield av_frame

    def _end_as_declared(self) -> None:
        """Let mp4 and mov say how long the last frame is shown, where that is about as long as one is."""
        if self._stills is not None or not self.container.format.name.startswith("mov") or not self.stream.duration:
            return
        step = 1 / (self.rate or 25)
        # What is empty before the video begins counts in some lengths and not in others.
        ends = [(start + self.stream.duration) * self.time_base for start in (0, self.stream.start_time or 0)]
        end = min(ends, key=lambda end: abs(end - self._ended))
        if self._ended - step < end <= self._ended + 3 * step / 2:
            self._ended = end

    def _check_end(self, end: float) -> None:
        """Return whether the video ends long before it should: most containers are cut off without an error."""
        declared = self._declared_end()
        if declared is not None and declared - end > _CUT_OFF:
            self._notes.append(f"it ends after {end:.1f} s and should last {declared:.1f} s: the file was cut off")
            self._faulty += max(1, round((declared - end) * (self.rate or 25)))

    def _declared_end(self) -> float | None:
        if self._stills is not None:
            return None
        stream, container = self.stream, self.container
        if "DURATION" in stream.metadata:  # Matroska; its other figure is that of the longest stream
            with suppress(ValueError):
                hours, minutes, seconds = stream.metadata["DURATION"].split(":")
                return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        if stream.duration is None or ("matroska" in container.format.name and len(container.streams) > 1):
            return None
        return float((stream.duration + (stream.start_time or 0)) * self.time_base)

    def close(self) -> None:
        """Give the input back. It must not be iterated any more."""
        for decoder in self._opened:
            decoder.close()


def _check_range(start: Fraction | None, end: Fraction | None) -> None:
    if start is not None and start < 0:
        raise SettingError(f"start must not be below 0 seconds, got {float(start):g}")
    if end is not None and end <= (start or 0):
        raise SettingError(f"end must be above start ({float(start or 0):g} s), got {float(end):g} s")


def _time(frame: Frame) -> Fraction:
    return frame.pts * frame.time_base


def _time_of(packet: av.Packet[Any]) -> Fraction:
    return (packet.dts or 0) * Fraction(packet.time_base.numerator, packet.time_base.denominator)

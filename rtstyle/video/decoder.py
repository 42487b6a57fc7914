"""Decoder: the frames of one video stream, whatever happens to its packets on the way."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import av
from av.video.frame import PictureType
from av.video.stream import VideoStream

from rtstyle.errors import VideoOpenError, reason_of
from rtstyle.frame import MAX_PIXELS
from rtstyle.video.inputs import Input, is_encrypted
from rtstyle.video.samples import fraction_of

MAX_DAMAGED = 1000
"""Places at which a file may fail to be read or decoded before it is given up."""

_SEES_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Decoders for streams with opacity: FFmpeg's own leave it out."""
_ONE_BEHIND = ("mpeg1video", "mpeg2video")
"""Decoders that give a frame when they are given the next: the shape that they have by then is that of the next."""

_WHOLE = (PictureType.NONE, PictureType.I)
"""How a frame is coded that needs no other."""


class Decoder:
    """One pass over an input: its video's frames, and the packets of everything else.

    Args:
        keep: Called with every packet of the other streams, in file order.
        hwaccel: Hardware that decodes, see ``Input.open``.

    Raises:
        VideoOpenError: It cannot be opened, holds no video, or no decoder is there for it.
    """

    def __init__(
        self,
        source: Input,
        *,
        threads: int = 0,
        keep: Callable[[av.Packet[Any]], None] = lambda _: None,
        hwaccel: str | None = None,
    ) -> None:
        self.damaged = 0
        """Places that could not be read or decoded."""
        self.alpha_lost = False
        """The video has an opacity that cannot be decoded here."""
        self.source, self._threads, self._keep = source, threads, keep
        self.container = source.open(hwaccel)
        try:
            if source.is_still(self.container):
                raise VideoOpenError(f"{source.name} is one still image: use rtstyle image")
            self.stream = self._choose_stream()
            self._own = self._prepare()
        except BaseException:
            self.container.close()
            raise

    def _choose_stream(self) -> VideoStream:
        streams = self.container.streams
        candidates = [s for s in streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not candidates:
            kinds = ", ".join(sorted({s.type for s in streams})) or "nothing"
            raise VideoOpenError(f"{self.source.name} has no video stream (it holds: {kinds})")
        best = streams.best("video")
        return next((s for s in candidates if s is best), candidates[0])

    def _prepare(self) -> av.VideoCodecContext | None:
        """Set the decoder up; return one of our own where the stream's must not be used."""
        context, name = self.stream.codec_context, self.source.name
        if context is None:
            raise VideoOpenError(f"{name}: there is no decoder for its video ({self._codec_name()})")
        if context.width * context.height > MAX_PIXELS:
            raise VideoOpenError(
                f"{name} says that its frames are {context.width}x{context.height}; "
                f"at most {MAX_PIXELS / 1e6:.0f} megapixels can be read (is its header damaged?)"
            )
        own: av.VideoCodecContext | None = None
        if self.stream.metadata.get("alpha_mode") == "1" and context.codec.canonical_name in _SEES_ALPHA:
            self.alpha_lost = True
            with suppress(ValueError, av.FFmpegError):
                created = av.CodecContext.create(_SEES_ALPHA[context.codec.canonical_name], "r")
                assert isinstance(created, av.VideoCodecContext)
                created.extradata = context.extradata
                own, self.alpha_lost = created, False
        for used in (context, own):
            if used is not None:
                used.thread_type = "AUTO"
                used.thread_count = self._threads
                used.options = {"max_pixels": str(MAX_PIXELS)}
        return own

    def av_frames(self) -> Iterator[av.VideoFrame]:
        """Decode from the start. Damaged packets cost their own frames only.

        Raises:
            VideoOpenError: It can be read no further (not: it is damaged).
        """
        return self._decode(self._packets(), None)

    def av_frames_from(self, pts: int, skip: int | None = None) -> Iterator[av.VideoFrame] | None:
        """Decode from a key frame shown at ``pts`` or before; None where none is found.

        Frames shown before the key frame, which may lean on others that were not decoded, are left out. A
        key frame must be coded by itself: some encoders only refresh the frame bit by bit.

        Args:
            skip: Packets of the video to leave out from the start; None seeks instead.
        """
        if skip is None:
            try:
                self.container.seek(pts, stream=self.stream)
            except (av.FFmpegError, OverflowError):
                return None
        packets, passed = self._packets(), 0
        for packet in packets:
            if packet.stream.index != self.stream.index:
                self._keep(packet)
                continue
            passed += 1
            if not packet.size or not packet.is_keyframe or (skip is not None and passed <= skip):
                continue
            if packet.pts is None or packet.pts > pts:
                return None
            av_frames = self._decode(chain([packet], packets), packet.pts)
            first = next(av_frames, None)
            if first is None or first.pts != packet.pts or first.pict_type not in _WHOLE or first.is_corrupt:
                return None
            return chain([first], av_frames)
        return None

    def find_key_packet(self, pts: int) -> int | None:
        """Return how many packets of the video stand before the last key frame shown at ``pts`` or before.

        It reads everything up to there, which takes longer than a seek and is right where an index is not, or where
        times jump back: in that case only decoding shows it, so None.
        """
        found, last = None, None
        for number, packet in enumerate(p for p in self._packets() if p.stream.index == self.stream.index):
            if packet.dts is None or packet.pts is None or (last is not None and packet.dts < last):
                return None if packet.size else found
            if packet.is_keyframe and packet.pts <= pts:
                found = number
            if packet.dts > pts:
                break
            last = packet.dts
        return found

    def others(self) -> Iterator[av.Packet[Any]]:
        """Yield the packets of all streams but the video, in file order, and decode nothing."""
        for packet in self._packets():
            if packet.stream.index != self.stream.index and packet.dts is not None:
                yield packet

    def drain(self, until: int) -> None:
        """Continue without decoding, for the other streams' sake, until the video is at the time ``until``."""
        for packet in self._packets():
            if packet.stream.index != self.stream.index:
                self._keep(packet)
            elif packet.dts is not None and packet.dts >= until:
                return

    def _packets(self) -> Iterator[av.Packet[Any]]:
        """Yield all packets; continue behind a place that the container's reader cannot make sense of."""
        for _ in range(MAX_DAMAGED):
            try:
                yield from self.container.demux()
                return
            except av.error.InvalidDataError:
                self.damaged += 1
            except IndexError:
                # A stream that began in the middle: PyAV does not know it when it empties the decoders.
                return
            except av.error.ExitError as error:
                raise self.source.stalled(f"sent nothing for {self.source.timeout:g} s") from error
            except (av.FFmpegError, OSError, MemoryError) as error:
                raise VideoOpenError(f"{self.source.name} can be read no further: {reason_of(error)}") from error

    def _decode(self, packets: Iterator[av.Packet[Any]], since: int | None) -> Iterator[av.VideoFrame]:
        sent = received = failures = 0
        last = None
        for packet in chain(packets, [None]):
            if packet is not None and packet.stream.index != self.stream.index:
                if packet.dts is not None:
                    self._keep(packet)
                continue
            if packet is not None:
                sent += packet.size > 0 and not packet.is_discard
            try:
                av_frames = self._decoded(packet)
            except av.error.InvalidDataError:
                failures += 1
                self.damaged += 1
                if failures > received + MAX_DAMAGED:
                    return
                continue
            except av.error.EOFError:  # it was emptied already
                continue
            except (av.FFmpegError, OSError, ValueError, MemoryError) as error:  # ValueError: it has no decoder
                reason = f"its video cannot be decoded: {reason_of(error)}{self.doubts()}"
                raise VideoOpenError(f"{self.source.name}: {reason}") from error
            for av_frame in av_frames:
                if since is not None and (av_frame.pts is None or av_frame.pts < since):
                    continue
                since = None  # later ones may be earlier again, where times restart
                received += 1
                last = av_frame.pts
                yield av_frame
        if last is not None and sent > received + failures and self.source.seekable:
            yield from self._decode_end(last)

    def _decoded(self, packet: av.Packet[Any] | None) -> list[av.VideoFrame]:
        context = self._own or self.stream.codec_context
        if packet is not None and not packet.size:
            if packet.dts is not None or packet.pts is not None:
                return []  # empty, but not the end
            packet = None
        before = fraction_of(context.sample_aspect_ratio)
        av_frames = context.decode(packet)
        aspect = before if context.codec.name in _ONE_BEHIND else fraction_of(context.sample_aspect_ratio)
        for av_frame in av_frames:
            av_frame.time_base = self.stream.time_base
            av_frame.opaque = aspect  # PyAV does not expose the shape of their pixels
        return av_frames

    def _decode_end(self, last: int) -> Iterator[av.VideoFrame]:
        """Decode what should come behind ``last`` again, on one thread.

        A decoder with several threads that meets a damaged packet among the last few says nothing and
        takes the good ones behind it along.
        """
        with suppress(av.FFmpegError, VideoOpenError):
            again = Decoder(self.source, threads=1)
            try:
                again.container.seek(last, stream=again.stream)
                for packet in again.container.demux(again.stream):
                    try:
                        av_frames = again._decoded(packet)
                    except av.error.InvalidDataError:
                        self.damaged += 1
                        continue
                    yield from (p for p in av_frames if p.pts is not None and p.pts > last)
            finally:
                again.close()

    def doubts(self) -> str:
        """What may be wrong with a video of which nothing could be decoded; empty where nothing is known."""
        if self.source.kind == "file" and is_encrypted(Path(self.source.name)):
            return ": it is encrypted"
        if self.stream.codec_context.width:
            return ""
        return f" (it names no size, or one above {MAX_PIXELS / 1e6:.0f} megapixels: is its header damaged?)"

    def _codec_name(self) -> str:
        """What the container calls the video's codec; PyAV knows no name for what it cannot decode."""
        level = av.logging.get_level()
        av.logging.set_level(av.logging.INFO)  # the list below comes by the log
        try:
            listed = self.container.dumps_format()  # type: ignore[attr-defined]
        finally:
            av.logging.set_level(level)
        found = re.search(rf"#0:{self.stream.index}\b.*?Video: ([^,\n]*)", listed)
        return found[1].strip() if found else "unknown"

    def close(self) -> None:
        """Give the file back. It must not be iterated any more."""
        self.container.close()

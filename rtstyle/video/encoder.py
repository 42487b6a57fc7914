"""VideoEncoder: the stream of stylized frames in an open container; and how fast an encoder is here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
from av.container import OutputContainer
from av.video.frame import PictureType
from av.video.stream import VideoStream

from rtstyle.frame import Color, ColorTags, Frame, VideoFormat, as_i420
from rtstyle.video.captions import CARRIERS, with_captions
from rtstyle.video.codecs import AUTO_PRESETS, ENCODERS, RGB_ORDERS, encoder_accelerator, quiet, usual_priority
from rtstyle.video.formats import Encoding
from rtstyle.video.palette import Palette
from rtstyle.video.pixels import filler

THREADS = 8
"""Threads of an encoder, on every machine: some write other bytes with another number, and a render may be resumed, or
its segments made, on machines with other numbers of cores."""

_HUNDREDTH = Fraction(1, 100)
_STILLS = ("image2", "apng", "gif", "webp")
"""Muxers of images: their readers know one color space each, and no tags."""


class VideoEncoder:
    """Adds a video stream to a container that is not yet started, and turns frames into its packets.

    Args:
        format: Of the frames that will come. Their times are kept exactly (GIF: to 1/100 s); the rate is for rate
            control and players.
        threads: Of the encoder.
    """

    def __init__(
        self, container: OutputContainer, encoding: Encoding, format: VideoFormat, *, threads: int = THREADS
    ) -> None:
        size, color, rate = format.size, format.color, format.rate
        self.size, self.encoding = size, encoding
        quiet(encoding.codec)
        if encoding.muxer == "gif" and rate:
            rate = min(rate, Fraction(50))  # the last frame is shown for one of these
        stream = container.add_stream(
            encoding.codec, rate=rate or 30, options=encoding.options, hwaccel=encoder_accelerator(encoding.codec)
        )
        assert isinstance(stream, VideoStream)
        self.stream = stream
        self._target = target_color(encoding, color)
        self._palette = Palette(size) if encoding.pix_fmt == "pal8" else None
        self._pix_fmt = "bgra" if self._palette else encoding.pix_fmt
        self._fill = filler(self._pix_fmt, color, self._target)
        # PyAV cuts frames that are views to whole alignments: a width of 90 came out 88 wide.
        aligned = size.width % 8 == 0 and size.height % 8 == 0
        self._shares_planes = aligned and self._pix_fmt == "yuv420p" and color.full_range == self._target.full_range
        self._last: int | None = None
        self._given = False
        self._captions: dict[int, bytes] = {}
        self.captions_lost = 0
        """Frames whose captions the codec cannot carry."""
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = size.width, size.height, encoding.pix_fmt
        context.time_base = stream.time_base = _HUNDREDTH if self._palette else format.time_base
        tags = self._target.tags
        context.colorspace, context.color_primaries, context.color_trc = tags.matrix, tags.primaries, tags.transfer
        context.color_range = tags.range
        context.thread_count = threads
        if encoding.bit_rate is not None:
            context.bit_rate = encoding.bit_rate
        if encoding.codec_tag:
            context.codec_tag = encoding.codec_tag
        if format.pixel_aspect:
            context.sample_aspect_ratio = format.pixel_aspect
        if encoding.codec == "libsvtav1":  # opened here, so that it is under our eyes
            with usual_priority(encoding.codec):
                context.open()

    def encode(self, frame: Frame, *, key: bool = False) -> list[av.Packet[Any]]:
        """Take one frame and return the packets that are ready; ``key`` makes it one at which decoders can begin.

        The encoder has its own copy of the samples, or keeps a reference to arrays that are read-only.

        Raises:
            ValueError: The frame is not of the encoder's size.
            av.FFmpegError: The encoder refuses it.
        """
        if frame.size != self.size:
            raise ValueError(f"this writer is for {self.size}, the frame is {frame.size}")
        pts, time_base = frame.pts, frame.time_base
        if self._palette:
            pts, time_base = round(pts * time_base / _HUNDREDTH), _HUNDREDTH
            if self._last is not None and pts < self._last + 2:
                return []  # browsers show a delay under 0.02 s as 0.1 s
            self._last = pts
        av_frame = self._av_frame(frame)
        av_frame.pts, av_frame.time_base = pts, time_base
        if key:
            av_frame.pict_type = PictureType.I
        tags = self._target.tags
        av_frame.colorspace, av_frame.color_range = tags.matrix, tags.range
        av_frame.color_primaries, av_frame.color_trc = tags.primaries, tags.transfer
        if frame.captions and encoding_carries_captions(self.encoding):
            self._captions[pts] = frame.captions
        elif frame.captions:
            self.captions_lost += 1
        if not self._palette:
            packets = self._captioned(list(self.stream.encode(av_frame)))
            self._given = self._given or bool(packets)
            return packets
        return [packet for indexed in self._palette.push(av_frame) for packet in self.stream.encode(indexed)]

    def _captioned(self, packets: list[av.Packet[Any]]) -> list[av.Packet[Any]]:
        """Put each frame's captions into its packet."""
        for number, packet in enumerate(packets):
            triplets = self._captions.pop(packet.pts or 0, b"") if packet.size else b""
            if not triplets:
                continue
            data = with_captions(bytes(packet), triplets, hevc=self.encoding.codec.startswith(("libx265", "hevc_")))
            if data is None:
                self.captions_lost += 1
                continue
            made = packets[number] = av.Packet(data)
            made.stream, made.time_base, made.is_keyframe = packet.stream, packet.time_base, packet.is_keyframe
            made.pts, made.dts, made.duration = packet.pts, packet.dts, packet.duration
        return packets

    def _av_frame(self, frame: Frame) -> av.VideoFrame:
        """Return the samples as the encoder takes them; those that may be kept, and lie as it wants, are not copied."""
        if self._shares_planes and not frame.planes.y.flags.writeable:
            shared = as_i420(frame.planes)
            if shared is not None:
                return av.VideoFrame.from_numpy_buffer(shared, format="yuv420p")
        av_frame = av.VideoFrame(self.size.width, self.size.height, self._pix_fmt)
        self._fill(frame, av_frame)
        return av_frame

    def flush(self) -> list[av.Packet[Any]]:
        """Return the packets that are still inside. No frame may come any more."""
        rest = self._palette.push(None) if self._palette else []
        packets = [packet for av_frame in rest for packet in self.stream.encode(av_frame)]
        packets += self._captioned(list(self.stream.encode(None)))
        if not self._given and self.stream.codec_context.name == "libx265":
            _decode_in_turn(packets)
        return packets


def encoding_carries_captions(encoding: Encoding) -> bool:
    """Return whether the codec holds closed captions beside its frames."""
    return encoding.codec.startswith(CARRIERS)


def captions_lost_words(encoding: Encoding, frames: int) -> list[str]:
    """Note that the captions of some frames are not in the output; nothing where there were none."""
    if not frames:
        return []
    return [
        f"closed captions (CEA-608/708) of {frames} frames are left out: {encoding.codec} has none; write h264 or hevc"
    ]


def _decode_in_turn(packets: list[av.Packet[Any]]) -> None:
    """Set the times of decoding of a whole stream: in order, and none after it is shown.

    x265 takes them from memory that it never wrote to where a stream is shorter than its delay (seen with 4.1: a video
    of two frames in 200 could not be written).
    """
    shown = sorted(packet.pts for packet in packets if packet.pts is not None)
    late = max((at - (packet.pts or 0) for at, packet in zip(shown, packets, strict=True)), default=0)
    for at, packet in zip(shown, packets, strict=True):
        packet.dts = at - max(late, 0)


def target_color(encoding: Encoding, color: Color) -> Color:
    """Return how readers of the output understand its samples, with the tags to write."""
    if encoding.codec == "mjpeg":  # JFIF 1.02: BT.601, full range, sRGB's primaries unsaid
        return Color("bt601", full_range=True, tags=ColorTags(5, 2, 2, 2))
    if encoding.pix_fmt in RGB_ORDERS or encoding.pix_fmt == "pal8":
        said = encoding.muxer not in _STILLS
        primaries, transfer = (color.tags.primaries, color.tags.transfer) if said else (2, 2)
        return Color(color.matrix, full_range=True, tags=ColorTags(0, 2, primaries, transfer))
    full = color.full_range if encoding.full_range is None else encoding.full_range
    return replace(color, full_range=full, tags=replace(color.tags, range=2 if full else 1))


def choose_preset(encoding: Encoding, frames: Sequence[Frame], budget_ms: float) -> Encoding:
    """Take the slowest preset that keeps up: CPU time of encoding ``frames`` is measured, fastest first.

    The CPU time is that of the whole process, so nothing else should run in it meanwhile.

    Args:
        frames: A second or so of frames as they will be encoded: stylized ones cost more than others.
        budget_ms: CPU milliseconds per frame that encoding may take.

    Returns:
        ``encoding`` with another preset, and a note of what was measured; unchanged where the encoder's
        presets are no matter of speed. If none keeps up, the fastest.
    """
    if encoding.codec not in AUTO_PRESETS or not frames:
        return encoding
    chosen, note = encoding, ""
    for name, options in ENCODERS[encoding.codec].presets.items():
        tried = replace(encoding, options=encoding.options | dict(options))
        cost = _cost_ms(tried, frames)
        if note and cost > budget_ms:
            break
        chosen, note = tried, f"preset {name}: {cost:.1f} CPU-ms a frame of {budget_ms:.1f} allowed"
        if cost > budget_ms:
            break
    return replace(chosen, notes=(*encoding.notes, note))


def _cost_ms(encoding: Encoding, frames: Sequence[Frame]) -> float:
    first = frames[0]
    with av.open("-", "w", format="null") as container:
        encoder = VideoEncoder(container, encoding, VideoFormat(first.size, first.color, first.time_base))
        started = time.process_time()
        for frame in frames:
            encoder.encode(frame)
        encoder.flush()
        return (time.process_time() - started) * 1000 / len(frames)

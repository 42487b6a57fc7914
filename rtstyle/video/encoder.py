"""VideoEncoder: the stylized picture's own stream in an open container."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
from av.container import OutputContainer
from av.video.stream import VideoStream

from rtstyle.frame import Colour, Frame, Size
from rtstyle.video.formats import Encoding
from rtstyle.video.samples import view


class VideoEncoder:
    """Adds a video stream to a container that is not yet started, and turns frames into its packets.

    Args:
        time_base: Of the frames that will come; the encoder keeps their times exactly.
        rate: Frames per second for people and rate control; None where nobody knows.
        pixel_aspect: Width of a pixel over its height; None says nothing.
    """

    def __init__(
        self,
        container: OutputContainer,
        encoding: Encoding,
        *,
        size: Size,
        colour: Colour,
        time_base: Fraction,
        rate: Fraction | None,
        pixel_aspect: Fraction | None = None,
    ) -> None:
        self.size, self.colour, self._pix_fmt = size, colour, encoding.pix_fmt
        stream = container.add_stream(encoding.codec, rate=rate or 30, options=encoding.options)
        assert isinstance(stream, VideoStream)
        self.stream = stream
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = size.width, size.height, encoding.pix_fmt
        context.time_base = time_base
        tags = colour.tags
        context.colorspace, context.color_primaries, context.color_trc = tags.matrix, tags.primaries, tags.transfer
        context.color_range = 2 if colour.full_range else 1
        context.thread_count = 0
        stream.time_base = time_base
        if pixel_aspect:
            context.sample_aspect_ratio = pixel_aspect

    def encode(self, frame: Frame) -> list[av.Packet[Any]]:
        """Take one frame and return the packets that are ready; the encoder has its own copy.

        Raises:
            ValueError: The frame is not of the encoder's size.
            av.FFmpegError: The encoder refuses it.
        """
        if frame.size != self.size:
            raise ValueError(f"this writer is for {self.size}, the frame is {frame.size}")
        picture = av.VideoFrame(self.size.width, self.size.height, self._pix_fmt)
        for target, plane in zip(picture.planes, frame.planes, strict=True):
            samples = view(target)
            if samples.shape != plane.shape:  # 4:4:4: each chroma sample where it was, four times
                plane = plane.repeat(2, 0).repeat(2, 1)[: self.size.height, : self.size.width]
            samples[:] = plane
        picture.pts, picture.time_base = frame.pts, frame.time_base
        tags = self.colour.tags
        picture.colorspace, picture.color_range = tags.matrix, 2 if self.colour.full_range else 1
        picture.color_primaries, picture.color_trc = tags.primaries, tags.transfer
        return list(self.stream.encode(picture))

    def flush(self) -> list[av.Packet[Any]]:
        """Return the packets that are still inside. No frame may come any more."""
        return list(self.stream.encode(None))

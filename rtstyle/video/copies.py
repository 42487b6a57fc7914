"""Everything in a file beside the picture that is stylized: planned before the first frame, copied as it comes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import av
from av.container import InputContainer, OutputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from rtstyle.errors import SettingError

_MADE_ANEW = {
    "encoder", "major_brand", "minor_version", "compatible_brands", "handler_name", "vendor_id", "duration",
}  # fmt: skip
"""Metadata that the muxer writes itself, or that is not true of the new file."""


def kept_metadata(metadata: dict[str, str]) -> dict[str, str]:
    """Return what is worth keeping of a stream's or container's metadata."""
    counted = ("_STATISTICS", "NUMBER_OF", "BPS")  # written by mkvmerge about the old packets
    return {k: v for k, v in metadata.items() if k.lower() not in _MADE_ANEW and not k.upper().startswith(counted)}


@dataclass(frozen=True)
class StreamPlan:
    """What becomes of each stream of an input; made by ``plan_streams`` before any frame is rendered."""

    copied: list[str] = field(default_factory=list)
    """Streams that are copied, for people."""
    dropped: list[dict[str, str]] = field(default_factory=list)
    """Streams that are not, each with its reason."""
    warnings: list[str] = field(default_factory=list)
    """What a person should know of it, in words."""
    copies: list[int] = field(default_factory=list)
    """Numbers of the input's streams that are copied."""


def plan_streams(source: InputContainer, video: VideoStream, muxer: str, *, audio: bool = True) -> StreamPlan:
    """Decide what becomes of every stream of ``source`` but ``video`` in a container of FFmpeg's name ``muxer``.

    Raises:
        SettingError: The container cannot hold the sound.
    """
    import io

    with av.open(io.BytesIO(), "w", format=muxer) as trial:
        holds = trial.supported_codecs
    plan = StreamPlan()
    for stream in source.streams:
        if stream is video:
            continue
        codec = stream.codec_context.codec if stream.codec_context else None
        label = f"{stream.type} {stream.index} ({codec.canonical_name if codec else 'no codec'})"
        if stream.type == "audio" and not audio:
            plan.dropped.append({"stream": label, "reason": "--no-audio"})
        elif stream.type not in ("audio", "subtitle") or codec is None:
            _drop(plan, label, stream, muxer)
        elif codec.name in holds:
            plan.copies.append(stream.index)
            plan.copied.append(label)
        elif stream.type == "audio":
            instead = "" if muxer == "matroska" else "write .mkv, or "
            raise SettingError(f"{muxer} cannot hold the {codec.canonical_name} sound: {instead}use --no-audio")
        else:
            _drop(plan, label, stream, muxer)
    return plan


def _drop(plan: StreamPlan, label: str, source: Stream, muxer: str) -> None:
    if source.type == "video":
        reason = "only one video stream is stylized"
    elif source.type == "data" and "timecode" in source.metadata:
        # The muxer writes one of its own from the metadata of the video.
        plan.dropped.append({"stream": label, "reason": "its timecode is written anew"})
        return
    elif source.type in ("audio", "subtitle"):
        reason = f"{muxer} cannot hold it as a copy"
    else:
        reason = f"{source.type} streams are not copied"
    plan.dropped.append({"stream": label, "reason": reason})
    plan.warnings.append(f"stream {label} is not in the output: {reason}")


class StreamCopies:
    """The planned streams in an open container that is not yet started.

    Args:
        source: Where the packets come from: the planned input, or the same file opened again.
        video: The stream of ``source`` that is stylized.
        target_video: The stylized stream in ``target``; takes over the video's own metadata.
    """

    def __init__(
        self,
        plan: StreamPlan,
        source: InputContainer,
        video: VideoStream,
        target: OutputContainer,
        target_video: VideoStream,
        muxer: str,
    ) -> None:
        self.left_out = 0
        """Packets that could not be copied, because their times go back."""
        self._target, self._muxer = target, muxer
        self._last_dts: dict[int, int] = {}
        self._streams: dict[int, Stream] = {}
        target_video.metadata.update(kept_metadata(video.metadata))
        target.metadata.update(kept_metadata(source.metadata))
        for index in plan.copies:
            stream = source.streams[index]
            copy = target.add_stream_from_template(stream)
            copy.metadata.update(kept_metadata(stream.metadata))
            copy.disposition = stream.disposition
            self._streams[index] = copy

    def mux(self, packet: av.Packet[Any]) -> None:
        """Write one packet of the source; those of streams that are not planned are passed over.

        Raises:
            av.FFmpegError, OSError, ValueError: The container cannot be written.
        """
        source = packet.stream
        target = self._streams.get(source.index)
        if target is None or packet.dts is None:
            return
        # In a damaged file times may go back, and one such packet would end the whole output.
        # Audio in mp4 may not even repeat one.
        step = 1 if source.type == "audio" and self._muxer == "mp4" else 0
        if packet.dts < self._last_dts.get(source.index, packet.dts - step) + step:
            self.left_out += 1
            return
        self._last_dts[source.index] = packet.dts
        packet.stream = target
        self._target.mux(packet)

    def finish(self) -> list[str]:
        """Write what is still held back and return what a person should know, in words."""
        if not self.left_out:
            return []
        return [f"{self.left_out} packets of copied streams were left out: their times go back"]

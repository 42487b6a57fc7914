"""Read what is in a media file, for comparing.

Deliberately apart from ``VideoReader``, so that what reads for rendering is not what judges the result; only
numbered images and animated WebP, which FFmpeg's demuxers do not read as videos, come from it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.stream import AttachmentStream, Disposition, Stream
from av.video.stream import VideoStream
from numpy.typing import NDArray

from rtstyle.errors import VideoOpenError, reason_of
from rtstyle.frame import ColorTags
from rtstyle.verify.facts import Media, Orientation, Samples, StreamFacts, Thumbnail, VideoFacts
from rtstyle.video import VideoReader
from rtstyle.video.chroma import location_of
from rtstyle.video.editions import what_chapters_lose
from rtstyle.video.inputs import find_input, is_encrypted
from rtstyle.video.opening import AV_ERRORS, open_media
from rtstyle.video.shapes import HeaderCheck

_CARRIED = {
    "SPHERICAL": ("360 degree projection", 32),
    "STEREO3D": ("stereo 3D", 8),
    "ICC_PROFILE": ("color profile", None),
    "MASTERING_DISPLAY_METADATA": ("mastering display", 80),
    "CONTENT_LIGHT_LEVEL": ("content light level", 8),
}
"""What frames may carry beside their samples, by FFmpeg's names, and how many of its bytes containers state."""

_MAX_DAMAGED = 1000
"""Places at which a file may fail to be read before it is given up."""

_CUT_OFF = Fraction(1)
"""Seconds that may be missing at a file's end before it counts as cut off."""

_LOOKED_AT = 50
"""VideoFacts of which a small copy is averaged, to find which side is up."""

_SAME_SHAPE = Fraction(1, 50)
"""Share by which a shape may differ before it is another: codecs round sizes."""

_BLACK = 28
"""Brightness of lines that are borders, of 255; codecs leave some noise in them."""

_GAP = Fraction(1, 50)
"""Seconds without a sample that are a gap, not a rounded time."""

_SIDE = 16
"""Width and height of those small copies, and of the small copies of alpha planes."""


def read_media(path: Path, *, seen: Callable[[], None] = lambda: None) -> Media:
    """Read a whole file: demux every packet, decode every frame and every subtitle.

    Args:
        seen: Called after each decoded frame; what it raises goes through.

    Raises:
        VideoOpenError: There is no such file, it is no media file, or its video cannot be decoded.
    """
    if find_input(path).kind in ("images", "webp"):
        return _read_sequence(path, seen)
    with _open_container(path) as container:
        return _Reading(path, container, seen).run()


def _read_sequence(path: Path, seen: Callable[[], None]) -> Media:
    """Read numbered images, or animated WebP, which FFmpeg's demuxers do not read as one video."""
    facts: VideoFacts | None = None
    looks: list[Thumbnail] = []
    with VideoReader(path) as reader:
        for frame in reader:
            if facts is None:
                facts = VideoFacts(
                    track=StreamFacts(0, "video", path.suffix[1:].lower(), "", Disposition(0), {}, frame.time_base),
                    size=(frame.size.width, frame.size.height),
                    pixel_format=reader.pixel_format,
                    bits=8,
                    rgb=True,
                    tags=ColorTags(),
                    pixel_aspect=Fraction(1),
                    orientation=Orientation(),
                    rate=reader.rate,
                )
            facts.times.append(frame.pts * frame.time_base)
            if len(looks) < _LOOKED_AT:
                looks.append(_shrink(frame.planes.y).astype(np.float32))
            if frame.alpha is not None:
                facts.opaque = facts.opaque and bool(np.min(frame.alpha) == 255)
                facts.alpha.append(_shrink(frame.alpha))
            seen()
        if facts is not None:
            facts.last = reader.ended - facts.times[-1]
            facts.look = np.mean(looks, axis=0, dtype=np.float32)
    return Media(
        path=path,
        format="webp" if path.suffix.lower() == ".webp" and path.is_file() else "images",
        start=Fraction(0),
        duration=None,
        metadata={},
        chapters=[],
        streams=[],
        editions=[],
        video=facts,
        damage=[],
    )


def _open_container(path: Path) -> InputContainer:
    try:
        # "file:", so that a colon in a name is no protocol.
        return open_media(f"file:{path}")
    except FileNotFoundError as error:
        raise VideoOpenError(f"no such file: {path}") from error
    except AV_ERRORS as error:
        raise VideoOpenError(f"{path} cannot be read as media: {reason_of(error)}") from error


class _Reading:
    """One pass through a file."""

    def __init__(self, path: Path, container: InputContainer, seen: Callable[[], None]) -> None:
        self._path, self._container, self._seen = path, container, seen
        self._tracks = {stream.index: _track(stream) for stream in container.streams}
        self._video = _choose_video(container)
        self._facts: VideoFacts | None = None
        self._looks: list[Thumbnail] = []
        self._checks: dict[int, HeaderCheck] = {}
        self._unreadable = self._undecoded = 0
        self._avi = container.format.name == "avi"
        self._decoder: Any = self._video.codec_context if self._video else None
        if self._video and self._decoder is None:
            why = "it is encrypted" if is_encrypted(path) else "FFmpeg has no decoder for it"
            raise VideoOpenError(f"{path}: its video cannot be decoded: {why}")
        if self._video and self._video.metadata.get("alpha_mode") == "1":
            # FFmpeg's own decoders of VP8 and VP9 leave the alpha out.
            name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(self._video.codec_context.codec.canonical_name)
            if name:
                self._decoder = av.CodecContext.create(name, "r")

    def run(self) -> Media:
        for packet in self._packets():
            track = self._tracks.get(packet.stream.index)
            if track is None:  # a stream that turned up on the way
                track = self._tracks[packet.stream.index] = _track(packet.stream)
            if packet.size:
                _note_packet(track, packet)
            if track.codec == "aac" and packet.size and len(track.headers) < 2:
                check = self._checks.setdefault(track.index, HeaderCheck(packet.stream))
                check.look(bytes(packet)[:8], float((packet.pts or 0) * track.time_base))
                track.contradicted = check.since
            if packet.stream is self._video:
                self._decode(packet)
            elif track.type == "subtitle" and packet.size:
                self._read_text(track, packet)
        video = self._tracks.pop(self._video.index) if self._video else None
        if video and not self._facts:
            why = ": it is encrypted" if is_encrypted(self._path) else ""
            raise VideoOpenError(f"{self._path}: not one frame of its video could be decoded{why}")
        if video and self._facts and self._avi:
            # AVI stores no times of showing, only how many packets are before one.
            frames = len(self._facts.times) + self._facts.untimed
            if len(video.times) >= frames:
                self._facts.untimed = 0
                self._facts.times = [time * video.time_base for time in sorted(video.times)[:frames]]
        if video and self._facts and self._container.format.name.startswith("mov"):
            self._facts.last = self._shown_to_the_end(self._facts)
        if self._facts and self._looks:
            self._facts.look = np.mean(self._looks, axis=0, dtype=np.float32)
        container = self._container
        return Media(
            path=self._path,
            format=_format(container, self._path),
            start=Fraction(container.start_time or 0, av.time_base),
            duration=None if container.duration is None else Fraction(container.duration, av.time_base),
            metadata=_lower(container.metadata),
            chapters=[
                (
                    chapter["start"] * _fraction(chapter["time_base"]),
                    chapter["end"] * _fraction(chapter["time_base"]),
                    chapter["metadata"].get("title", ""),
                )
                for chapter in container.chapters()
            ],
            streams=list(self._tracks.values()),
            editions=what_chapters_lose(self._path) if container.format.name.startswith("matroska") else [],
            video=self._facts,
            damage=self._damage(video),
        )

    def _shown_to_the_end(self, facts: VideoFacts) -> Fraction:
        """How long mp4 and mov show the last frame: lengths of packets are those of decoding, not of showing."""
        assert self._video is not None
        cut_off = len(self._video.index_entries) > len(facts.track.digests)
        if not facts.times or not self._video.duration or cut_off:
            return Fraction(0)
        base, usual = _fraction(self._video.time_base), facts.last
        # What is empty before it begins counts in some lengths and not in others.
        ends = [(start + self._video.duration) * base for start in (0, self._video.start_time or 0)]
        lasts = [end - facts.times[-1] for end in ends if end > facts.times[-1]]
        return min(lasts, key=lambda last: abs(last - usual), default=Fraction(0))

    def _packets(self) -> Iterator[av.Packet[Any]]:
        for _ in range(_MAX_DAMAGED):
            try:
                yield from self._container.demux()
                return
            except av.error.InvalidDataError:
                self._unreadable += 1
            except av.FFmpegError as error:
                raise VideoOpenError(f"{self._path} can be read no further: {reason_of(error)}") from error

    def _decode(self, packet: av.Packet[Any]) -> None:
        assert self._decoder is not None
        try:
            frames = self._decoder.decode(packet if packet.size else None)
        except (av.FFmpegError, ValueError):  # of a codec that PyAV knows no decoder of
            self._undecoded += 1
            return
        for frame in frames:
            assert isinstance(frame, av.VideoFrame)
            self._note_frame(frame)
            self._seen()

    def _note_frame(self, frame: av.VideoFrame) -> None:
        assert self._video is not None
        base = _fraction(frame.time_base) or self._tracks[self._video.index].time_base
        facts = self._facts
        if facts is None:
            facts = self._facts = _video_facts(frame, self._video, self._tracks[self._video.index], self._path)
        time = frame.dts if frame.pts is None else frame.pts
        if time is None:
            facts.untimed += 1
        else:
            facts.times.append(time * base)
            facts.last = frame.duration * base
        aspect = Fraction(frame.width, frame.height) * (_fraction(self._decoder.sample_aspect_ratio) or 1)
        if not facts.shapes or abs(aspect / facts.shapes[-1][1] - 1) > _SAME_SHAPE:
            facts.shapes.append((facts.times[-1] if facts.times else Fraction(0), aspect))
        facts.interlaced += frame.interlaced_frame
        facts.corrupt += frame.is_corrupt
        for kind, (name, told) in _CARRIED.items():
            data: Any = frame.side_data.get(kind)
            if data is not None and name not in facts.carries:
                facts.carries[name] = bytes(data)[:told]
        captions: Any = frame.side_data.get("A53_CC")
        if captions is not None:
            facts.captions.append(_digest(bytes(captions)))
        if len(self._looks) < _LOOKED_AT:
            small = frame.reformat(width=_SIDE, height=_SIDE, format="gray", interpolation="AREA")
            self._looks.append(small.to_ndarray().astype(np.float32))
        if any(component.is_alpha for component in frame.format.components) or frame.format.has_palette:
            alpha = np.asarray(frame.reformat(format="rgba").to_ndarray()[..., 3], np.uint8)
            facts.opaque = facts.opaque and bool(np.min(alpha) == 255)
            facts.alpha.append(_shrink(alpha))

    def _read_text(self, track: StreamFacts, packet: av.Packet[Any]) -> None:
        with suppress(av.FFmpegError, NotImplementedError):
            lines = [
                part.dialogue.decode("utf-8", "replace")
                for part in packet.decode()
                if isinstance(part, av.subtitles.subtitle.AssSubtitle)
            ]
            if lines and packet.pts is not None:
                start = packet.pts * track.time_base
                track.texts.append((start, start + (packet.duration or 0) * track.time_base, "\n".join(lines)))

    def _damage(self, video: StreamFacts | None) -> list[str]:
        words = []
        if self._unreadable:
            words.append(f"{self._unreadable} places cannot be read")
        if self._undecoded:
            words.append(f"{self._undecoded} packets of the video cannot be decoded")
        if self._facts and self._facts.corrupt:
            words.append(f"{self._facts.corrupt} frames are faulty")
        for track in self._tracks.values():
            if track.skipped:
                words.append(f"{track.type} {track.index}: the times of {track.skipped} packets go back")
        if video and (missing := self._missing(video)):
            words.append(missing)
        return words

    def _missing(self, video: StreamFacts) -> str:
        """Return what a container that counts its frames, or states its length, lacks at its end."""
        assert self._video is not None
        listed = len(self._video.index_entries) if self._container.format.name.startswith("mov") else 0
        if listed > len(video.digests):
            return f"{listed - len(video.digests)} of {listed} frames are not in it: it was cut off"
        ends = [track.end for track in (video, *self._tracks.values()) if track.end is not None]
        declared = self._container.duration
        if self._avi and self._video.duration:
            declared = int(self._video.duration * video.time_base * av.time_base)
        if not ends or declared is None or self._container.format.name in ("mpegts", "mpeg", "gif"):
            return ""
        # Containers that begin late count their length from 0.
        start = min(Fraction(0), Fraction(self._container.start_time or 0, av.time_base))
        short = start + Fraction(declared, av.time_base) - max(ends)
        return f"the last {float(short):.1f} s are not in it: it was cut off" if short > _CUT_OFF else ""


def _choose_video(container: InputContainer) -> VideoStream | None:
    """The stream that is stylized: the best one that is no cover image."""
    candidates = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    best = container.streams.best("video")
    return next((stream for stream in candidates if stream is best), candidates[0] if candidates else None)


def _track(stream: Stream) -> StreamFacts:
    context = stream.codec_context
    metadata = _lower(stream.metadata)
    track = StreamFacts(
        index=stream.index,
        type=stream.type,
        codec=context.codec.canonical_name if context else "",
        language="" if stream.language in (None, "und") else str(stream.language),
        disposition=stream.disposition,
        metadata=metadata,
        time_base=_fraction(stream.time_base) or Fraction(1, av.time_base),
        begins=None if stream.start_time is None else stream.start_time * _fraction(stream.time_base),
    )
    if context is None and not isinstance(stream, AttachmentStream):  # FFmpeg has no decoder for it
        return track
    if isinstance(stream, av.AudioStream):
        layout = stream.codec_context.layout
        # Some containers only count channels: one and two of them are what everybody takes them for.
        name = {1: "mono", 2: "stereo"}.get(layout.nb_channels, layout.name)
        track.layout = f"{stream.codec_context.sample_rate} Hz {name}"
        track.headers = {bytes(stream.codec_context.extradata or b"")}
    elif isinstance(stream, VideoStream):
        track.size = f"{stream.codec_context.width}x{stream.codec_context.height}"
    elif isinstance(stream, AttachmentStream):
        track.content = _digest(stream.data)
    return track


def _note_packet(track: StreamFacts, packet: av.Packet[Any]) -> None:
    if track.type == "audio" and packet.has_sidedata("new_extradata"):
        track.headers.add(bytes(packet.get_sidedata("new_extradata")))
    if packet.is_discard and track.type != "video":
        track.hidden.append(_digest(_payload(track, bytes(packet))))
        if not track.digests:
            track.lead_in += track.hidden[-1:]
            track.lead_begins = packet.pts if track.lead_begins is None else track.lead_begins
        return
    if packet.dts is None or (track.last_dts is not None and packet.dts < track.last_dts):
        track.skipped += packet.dts is not None
        if track.type != "video":
            return
    track.last_dts = packet.dts if packet.dts is not None else track.last_dts
    track.digests.append(_digest(_payload(track, bytes(packet))))
    time = packet.dts if packet.pts is None else packet.pts
    if time is not None:
        track.times.append(time)
        track.durations.append(packet.duration or 0)


def _payload(track: StreamFacts, data: bytes) -> bytes:
    """Take off what is part of the container, not of the stream: the ADTS header of AAC in a transport stream."""
    if track.codec == "aac" and len(data) > 7 and data[0] == 0xFF and data[1] & 0xF6 == 0xF0:
        track.shapes.add((data[2] >> 2 & 15, (data[2] & 1) << 2 | data[3] >> 6))
        length = (data[3] & 3) << 11 | data[4] << 3 | data[5] >> 5
        if length == len(data):
            return data[7 if data[1] & 1 else 9 :]
    return data


def _video_facts(frame: av.VideoFrame, stream: VideoStream, track: StreamFacts, path: Path) -> VideoFacts:
    name = frame.format.name
    range_ = 2 if name.startswith("yuvj") else int(frame.color_range)
    return VideoFacts(
        track=track,
        size=(frame.width, frame.height),
        pixel_format=name,
        bits=max(component.bits for component in frame.format.components),
        rgb=frame.format.is_rgb or name.startswith(("gray", "mono", "pal", "ya")),
        tags=ColorTags(int(frame.colorspace), range_, int(frame.color_primaries), int(frame.color_trc)),
        pixel_aspect=_fraction(stream.sample_aspect_ratio) or Fraction(1),
        orientation=Orientation.of(frame),
        rate=_fraction(stream.average_rate) or _fraction(stream.guessed_rate),
        chroma=location_of(stream, path),
    )


def _shrink(alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    import cv2

    small = cv2.resize(np.ascontiguousarray(alpha), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def _format(container: InputContainer, path: Path) -> str:
    names = container.format.name.split(",")
    extension = path.suffix.lower()
    if "mov" in names:
        return "mov" if extension in (".mov", ".qt") else "mp4"
    if "matroska" in names:
        return "webm" if extension == ".webm" else "matroska"
    return names[0]


def _lower(metadata: dict[str, str]) -> dict[str, str]:
    return {key.lower(): value for key, value in metadata.items()}


def _fraction(value: Any) -> Fraction:
    """One of PyAV's rationals, 0 where it says nothing."""
    return Fraction(value.numerator, value.denominator) if value else Fraction(0)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=8).digest()


def decode_stream(path: Path, index: int) -> Samples:
    """Decode one audio or video stream of a file from start to end.

    Raises:
        VideoOpenError: The file cannot be opened.
    """
    state = hashlib.blake2b(digest_size=8)
    seconds = longest = gaps = Fraction(0)
    start: Fraction | None = None
    ended: Fraction | None = None
    channels = rate = 0
    with _open_container(path) as container:
        for frame in _decoded(container, index):
            time = None if frame.pts is None else frame.pts * _fraction(frame.time_base)
            start = time if start is None else start
            if not isinstance(frame, av.AudioFrame):
                state.update(frame.to_ndarray().tobytes())
                continue
            state.update(_audio_bytes(frame))
            lasts = Fraction(frame.samples, frame.sample_rate)
            if time is not None and ended is not None and time - ended > _GAP:
                gaps += time - ended
            ended = None if time is None else time + lasts
            seconds, longest = seconds + lasts, max(longest, lasts)
            channels, rate = max(channels, frame.layout.nb_channels), max(rate, frame.sample_rate)
    return Samples(state.digest(), seconds, gaps, (channels, rate), start or Fraction(0), longest)


def borders_at(path: Path, moment: Fraction) -> tuple[float, float]:
    """Return which shares of the width and of the height of a frame are black borders.

    Args:
        moment: Seconds; the first frame from there on is looked at.

    Raises:
        VideoOpenError: The file cannot be opened.
    """
    with _open_container(path) as container:
        video = _choose_video(container)
        assert video is not None
        container.seek(round(moment * av.time_base))
        for frame in container.decode(video):
            if frame.pts is None or frame.pts * _fraction(frame.time_base) >= moment:
                gray = frame.reformat(format="gray").to_ndarray()
                return _border(gray.mean(axis=0)), _border(gray.mean(axis=1))
    return 0.0, 0.0


def _border(means: NDArray[Any]) -> float:
    lit = np.flatnonzero(means > _BLACK)
    return 1 - (int(lit[-1]) + 1 - int(lit[0])) / len(means) if len(lit) else 1.0


def _decoded(container: InputContainer, index: int) -> Iterator[Any]:
    """Yield the frames of one stream; packets that cannot be decoded are passed over."""
    for packet in container.demux(container.streams[index]):
        with suppress(av.FFmpegError):
            yield from packet.decode()


def _audio_bytes(frame: av.AudioFrame) -> bytes:
    samples = frame.to_ndarray()
    interleaved = samples.T if frame.format.is_planar else samples
    return bytes(np.ascontiguousarray(interleaved).tobytes())

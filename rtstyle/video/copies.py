"""Everything in a file beside the stream that is stylized: planned before the first frame, copied as it comes.

What the container cannot hold is found by a trial: the same streams in a container in memory, from header
to end, because some muxers refuse only there. It is then re-encoded where that is lossless or customary,
and named where it is not.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import av
from av.container import InputContainer, OutputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from rtstyle.video.editions import what_chapters_lose
from rtstyle.video.opening import AV_ERRORS, open_media
from rtstyle.video.samples import fraction_of
from rtstyle.video.shapes import AudioShape, needs_header, shape_of, shapes_of_header
from rtstyle.video.transcode import (
    NEGATIVE_TIMES,
    AudioTranscoder,
    Cut,
    PacketCopy,
    TextTranscoder,
    Track,
    chapters_of,
    delay_of,
    lead_in_of,
    timecode_after,
    unit_of,
)

_MUXERS_OWN = {
    "encoder", "major_brand", "minor_version", "compatible_brands", "handler_name", "vendor_id", "duration",
}  # fmt: skip
"""Metadata that the muxer writes itself, or that is not true of the new file."""

_SPLICED = ("mpegts", "hls", "mpeg", "flv", "live_flv")
"""Demuxers of recordings that may be put together of several."""

_MANY = 500
"""Packets among which the first of each stream is looked for."""

_NAMES = {"matroska": "mkv", "mpegts": "MPEG-TS", "yuv4mpegpipe": "y4m", "image2": "a sequence of images"}
"""Usual names of formats where FFmpeg's muxers have others."""

_PICTURES_ONLY = {"gif", "yuv4mpegpipe", "webp", "apng", "image2"}

_NAMED_METADATA = {"mp4", "mov", "matroska", "webm", "nut"}
"""Muxers that write title, date, timecode and the like."""

_SOON = Fraction(1, 10)
"""Seconds after which a chapter does not begin with the video."""

_CHAPTERS = {"mp4", "mov", "matroska", "webm", "nut"}

_BESIDE_A_COVER = {
    "title", "artist", "album_artist", "composer", "album", "date", "comment", "genre", "copyright", "grouping",
    "lyrics", "description", "synopsis", "show", "episode_id", "network", "keywords", "creation_time", "track", "disc",
    "compilation",
}  # fmt: skip
"""Metadata of mp4 that is stored in the same way as a cover image; FFmpeg writes the others in its place."""

_QUICKTIME = {"deu": "ger", "nld": "dut", "ell": "gre", "isl": "ice", "zho": "chi", "sqi": "alb", "mkd": "mac"}
"""Languages that ISO 639-2 names twice, and FFmpeg's mov muxer knows by the other name."""

_TRANSPORT = {"aac", "mp2", "mp3", "ac3", "eac3", "dts", "truehd", "opus", "dvb_subtitle"}
"""What players find again in MPEG-TS. FFmpeg writes anything else as private data, and says nothing."""

_TEXT = {"mp4": "mov_text", "mov": "mov_text", "matroska": "subrip", "webm": "webvtt"}
"""The kind of text subtitle that each container holds."""


def kept_metadata(metadata: dict[str, str]) -> dict[str, str]:
    """Return what is worth keeping of a stream's or container's metadata."""
    counted = ("_STATISTICS", "NUMBER_OF", "BPS")  # written by mkvmerge about the old packets
    return {k: v for k, v in metadata.items() if k.lower() not in _MUXERS_OWN and not k.upper().startswith(counted)}


_NO_NAME = re.compile(
    r"(sound|video|subtitle|data|audio|text|media|chapter|time ?code|caption)s? ?(media )?handler.*|.*(media handler|"
    r"produced by|core media|gpac|l-smash|mainconcept|bento4|alias data|vide|soun|isom|\u0000).*|\W*",
    re.IGNORECASE,
)
"""What programs call tracks of mp4 that have no name."""


def track_name(metadata: dict[str, str]) -> str:
    """Return the displayed name of a track: its title, or in mp4 that of its handler; empty where it has none."""
    handler = metadata.get("handler_name", "")
    return metadata.get("title", "") or ("" if _NO_NAME.fullmatch(handler) else handler)


@dataclass(frozen=True)
class Part:
    """What becomes of one stream that goes into the output."""

    index: int
    """Of the stream in the input."""
    how: Literal["copy", "audio", "text", "attachment"]
    """Its packets are copied, its audio or text is re-encoded, or it is written with the header."""
    codec: str = ""
    """Encoder, where it is re-encoded."""
    audio: AudioShape | None = None
    """Most channels and highest rate of audio that changes them on its way; None: it does not."""
    cover: bytes | None = field(default=None, repr=False)
    """A cover; it is known before the first packet, because mkv writes it with the header."""


@dataclass(frozen=True)
class StreamPlan:
    """What becomes of each stream of an input; made by ``plan_streams`` before any frame is rendered."""

    copied: list[str] = field(default_factory=list)
    """Streams that are in the output, as text; those that are re-encoded say so."""
    dropped: list[dict[str, str]] = field(default_factory=list)
    """What is not, each with its reason."""
    warnings: list[str] = field(default_factory=list)
    """What a person should know of it, in words."""
    parts: list[Part] = field(default_factory=list)
    """How each of ``copied`` is written."""
    chapters: bool = False
    """Chapters are written."""
    timecode: bool = False
    """The video's timecode is written."""
    leads: dict[int, Fraction] = field(default_factory=dict)
    """Of copied audio: when its decoder's lead-in begins, in seconds of the source's timeline."""


def plan_streams(
    source: InputContainer, video: VideoStream, muxer: str, *, audio: bool = True, codec: str | None = None
) -> StreamPlan:
    """Decide what becomes of every stream of ``source`` but ``video`` in a container of FFmpeg's name ``muxer``.

    Args:
        audio: False leaves the audio out.
        codec: The encoder of the video, for the trial.
    """
    return _Planner(source, video, muxer, audio, codec).plan


class _Planner:
    def __init__(self, source: InputContainer, video: VideoStream, muxer: str, audio: bool, codec: str | None) -> None:
        self._source, self._video, self._muxer, self._audio = source, video, muxer, audio
        self._name = _NAMES.get(muxer, muxer)
        self._beginnings: list[av.Packet[Any]] = self._read_beginnings()
        self._scans: dict[bool, dict[int, AudioShape]] = {}
        self.plan = StreamPlan()
        # Where the header states what only the encoder knows, another codec stands in for it.
        bare = [av.Codec(codec, "w").canonical_name] if codec else []
        for self._codec in (*bare, "mpeg4", "vp8"):
            if self._refusal(self.plan) is None:
                break
        self._plan_container()
        for stream in source.streams:
            if stream is not video:
                self._plan_stream(stream)
        copied = {part.index for part in self.plan.parts if part.how == "copy"}
        for packet in self._beginnings:
            begin = lead_in_of(packet) if packet.stream.index in copied else None
            if begin is not None:
                self.plan.leads[packet.stream.index] = begin

    def _refusal(self, plan: StreamPlan, muxer: str | None = None) -> str | None:
        """Write a container in memory as planned, from header to end; return why that fails, if it does."""
        muxer = muxer or self._muxer
        try:
            with av.open(io.BytesIO(), "w", format=muxer) as trial:
                rate = fraction_of(self._video.average_rate) or Fraction(25)
                codec = self._codec if muxer == self._muxer else "vp8"
                cover = trial.add_mux_stream(codec, rate=rate, width=64, height=64)
                copies = StreamCopies(plan, self._source, self._video, trial, cover, muxer)
                trial.start_encoding()
                copied = {part.index for part in plan.parts if part.how == "copy"}
                for packet in self._beginnings:
                    if packet.stream.index in copied:
                        copies.mux(_again(packet))
        except AV_ERRORS as error:
            return str(error) or type(error).__name__
        return None

    def _plan_container(self) -> None:
        chapters = self._source.chapters()
        said = {**self._source.metadata, **self._video.metadata}
        if chapters:
            self._decide("chapters", f"{len(chapters)} chapters", self._muxer in _CHAPTERS)
            begin = chapters[0]["start"] * (fraction_of(chapters[0]["time_base"]) or 0)
            if self.plan.chapters and self._source.format.name.startswith("matroska"):
                lost = what_chapters_lose(Path(self._source.name.removeprefix("file:")))
                self.plan.warnings.extend(f"chapters: {words}" for words in lost)
            if self.plan.chapters and self._muxer in ("mp4", "mov") and begin > _SOON:
                self.plan.warnings.append(f"the first chapter begins at 0: in {self._name} each moment is in a chapter")
        if any(key.lower() == "timecode" for key in said):
            self._decide("timecode", "timecode", self._muxer in _NAMED_METADATA)
        titles = [key for key in kept_metadata(self._source.metadata) if key.lower() != "timecode"]
        if titles and self._muxer not in _NAMED_METADATA:
            label = f"metadata ({', '.join(titles)})"
            self.plan.dropped.append({"stream": label, "reason": f"{self._name} holds none"})
        covers = [s for s in self._source.streams.video if s.disposition & av.stream.Disposition.attached_pic]
        lost = [key for key in titles if key.lower() not in _BESIDE_A_COVER]
        if covers and lost and self._muxer == "mp4":
            self._drop(
                f"metadata ({', '.join(lost)})", "mp4 holds it or a cover image, not both", "; write .mkv to keep it"
            )

    def _decide(self, what: Literal["chapters", "timecode"], label: str, held: bool) -> None:
        plan = replace(self.plan, chapters=True) if what == "chapters" else replace(self.plan, timecode=True)
        if held and self._refusal(plan) is None:
            self.plan = plan
        else:
            self._drop(label, f"{self._name} cannot hold {'it' if what == 'timecode' else 'them'}")

    def _plan_stream(self, stream: Stream) -> None:
        label = f"{stream.type} {stream.index} ({_codec_name(stream)})"
        cover = av.stream.Disposition.attached_pic
        if stream.type == "audio" and not self._audio:
            self.plan.dropped.append({"stream": label, "reason": "--no-audio"})
        elif stream.type == "data":
            self._plan_data(stream, label)
        elif stream.type == "video" and not stream.disposition & cover:
            self._drop(label, "only one video stream is stylized")
        elif self._muxer in _PICTURES_ONLY:
            kinds = {"audio": "audio", "subtitle": "subtitles", "video": "cover images"}
            self._drop(label, f"{self._name} holds no {kinds.get(stream.type, 'attachments')}")
        elif stream.type in ("audio", "subtitle", "video", "attachment"):
            self._plan_packets(stream, label)
        else:
            self._drop(label, "streams of unknown type are not copied")

    def _plan_data(self, stream: Stream, label: str) -> None:
        if any(key.lower() == "timecode" for key in stream.metadata):
            reason = "its timecode is rewritten" if self.plan.timecode else f"{self._name} cannot hold a timecode"
        elif self._source.chapters() and _codec_name(stream) == "bin_data":  # how mp4 stores chapters
            reason = "the chapters are rewritten" if self.plan.chapters else f"{self._name} cannot hold chapters"
        else:
            self._drop(label, "data streams are not copied")
            return
        self.plan.dropped.append({"stream": label, "reason": reason})

    def _plan_packets(self, stream: Stream, label: str) -> None:
        candidates = list(self._ways(stream, self._muxer))
        for part in candidates:
            plan = replace(self.plan, parts=[*self.plan.parts, part])
            if self._refusal(plan) is None:
                self.plan.parts.append(part)
                if part.codec:
                    to = av.Codec(part.codec, "w").canonical_name
                    self.plan.copied.append(f"{label}, re-encoded as {to}")
                    reason = f"{self._name} cannot hold it as it is{self._better(stream, 'copy')}"
                    if part.audio and needs_header(_codec_name(stream)):
                        reason = f"it changes its channels or rate on the way, which {self._name} cannot say"
                    self.plan.warnings.append(f"{label} is re-encoded as {to}: {reason}")
                else:
                    self.plan.copied.append(label)
                return
        if stream.type != "attachment" and stream.codec_context is None:
            self._drop(label, "it is of a kind that this FFmpeg does not know")
        elif stream.type == "video" and self._muxer in ("mp4", "matroska") and not candidates:
            self._drop(label, "a cover is read ahead, which only a file allows")
        else:
            self._drop(label, f"{self._name} cannot hold it", self._better(stream))

    def _ways(self, stream: Stream, muxer: str) -> Iterator[Part]:
        """Yield the ways in which a stream can go into a container, the best first."""
        index = stream.index
        if stream.type == "attachment":
            if muxer == "matroska":
                yield Part(index, "copy")
            return
        if stream.codec_context is None:
            return
        codec = stream.codec_context.codec
        if stream.type == "video":
            if muxer in ("mp4", "matroska") and (cover := self._cover(stream)):
                yield Part(index, "copy" if muxer == "mp4" else "attachment", cover=cover)
            return
        if muxer == "nut" and stream.type == "subtitle":
            return  # it would forget how long each is shown
        in_band = muxer == "mpegts" and self._source.format.name in ("mpegts", "hls")
        relied = needs_header(codec.canonical_name) and not in_band
        shape = self._widest(stream) if relied else None
        if shape:  # one header for the whole stream cannot state both
            for encoder in ("libopus",) if muxer == "webm" else ("aac", *_audio_for(muxer, "aac", False, False)):
                yield Part(index, "audio", encoder, shape)
            return
        if muxer != "mpegts" or codec.canonical_name in _TRANSPORT:
            yield Part(index, "copy")
        if stream.type == "audio":
            samples = stream.codec_context.format  # type: ignore[attr-defined]
            deep = bool(samples) and samples.bytes > 2
            for encoder in _audio_for(muxer, codec.canonical_name, codec.lossless and not codec.lossy, deep):
                yield Part(index, "audio", encoder, self._widest(stream))
        elif codec.text_sub and muxer in _TEXT:
            yield Part(index, "text", _TEXT[muxer])

    def _read_beginnings(self) -> list[av.Packet[Any]]:
        """Read the first packet of each other stream by opening the file once more, where it is a file.

        The source itself is not to be read here, and what is wrong with audio shows at its first packet.
        """
        name = self._source.name
        if self._source.file is not None or not Path(name.removeprefix("file:")).is_file():
            return []
        found: dict[int, av.Packet[Any]] = {}
        wanted = [s.index for s in self._source.streams if s is not self._video and s.type in ("audio", "video")]
        with suppress(*AV_ERRORS), open_media(name) as again:
            for packet in islice(again.demux(), _MANY):
                index = packet.stream.index
                if packet.size and index != self._video.index and index not in found:
                    found[index] = _again(packet, self._source.streams[index])
                if all(index in found for index in wanted):
                    break
        return list(found.values())

    def _widest(self, stream: Stream) -> AudioShape | None:
        """Return the most channels and the highest rate of audio that changes them on its way; None: it does not."""
        relied = needs_header(_codec_name(stream))
        if self._audio and relied not in self._scans:
            self._scans[relied] = self._scan(relied)
        return self._scans.get(relied, {}).get(stream.index)

    def _scan(self, relied: bool) -> dict[int, AudioShape]:
        """Read all of a recording for audio that changes: its packets say so, one by one, and only there.

        Args:
            relied: Look at codecs that need a header; else at all others.
        """
        name = self._source.name
        if self._source.format.name not in _SPLICED or self._source.file is not None:
            return {}
        if not Path(name.removeprefix("file:")).is_file():
            return {}
        wanted = [s.index for s in self._source.streams.audio if needs_header(_codec_name(s)) == relied]
        found: dict[int, set[AudioShape]] = {}
        with suppress(*AV_ERRORS, IndexError), open_media(name) as again:
            streams = [again.streams[index] for index in wanted]
            found = {stream.index: shapes_of_header(stream) for stream in streams}
            for packet in again.demux(streams) if streams else ():
                if shape := shape_of(packet, _codec_name(packet.stream)):
                    found[packet.stream.index].add(shape)
        return {
            index: AudioShape(max(s.channels for s in shapes), max(s.rate for s in shapes))
            for index, shapes in found.items()
            if len(shapes) > 1
        }

    def _cover(self, stream: Stream) -> bytes | None:
        return next((bytes(packet) for packet in self._beginnings if packet.stream is stream), None)

    def _better(self, stream: Stream, verb: str = "keep") -> str:
        """Advise Matroska where it holds the stream as it is."""
        if self._muxer == "matroska":
            return ""
        as_it_is = next((part for part in self._ways(stream, "matroska") if not part.codec), None)
        if as_it_is is None or self._refusal(StreamPlan(parts=[as_it_is]), "matroska") is not None:
            return ""
        return f"; write .mkv to {verb} it"

    def _drop(self, label: str, reason: str, advice: str = "") -> None:
        self.plan.dropped.append({"stream": label, "reason": reason})
        self.plan.warnings.append(f"{label} is not in the output: {reason}{advice}")


def _again(packet: av.Packet[Any], stream: Stream | None = None) -> av.Packet[Any]:
    """Return a packet of the same payload and times: a muxer changes those that it is given."""
    twin = av.Packet(bytes(packet))
    twin.stream = stream or packet.stream
    twin.time_base = unit_of(packet)
    twin.pts, twin.dts, twin.duration = packet.pts, packet.dts, packet.duration
    twin.is_keyframe = True
    return twin


def _codec_name(stream: Stream) -> str:
    if stream.codec_context:
        return stream.codec_context.codec.canonical_name
    if stream.type == "attachment":
        return stream.metadata.get("filename", "no name")
    return getattr(stream, "name", None) or "no codec"


def _audio_for(muxer: str, codec: str, lossless: bool, deep: bool) -> tuple[str, ...]:
    """Return encoders for audio that a container cannot hold as it is: what is lossless stays so.

    Args:
        deep: The samples have more than 16 bits.
    """
    plain = ("pcm_s24le" if deep else "pcm_s16le",) if codec.startswith("pcm_") else ()
    if muxer == "mov":
        return (*plain, "alac", "aac") if lossless else (*plain, "aac")
    if muxer == "mp4":
        return ("alac", "aac") if lossless else ("aac",)
    return {
        "matroska": (*plain, "flac"),
        "nut": (*plain, "flac"),
        "webm": ("libopus",),
        "mpegts": ("aac",),
    }.get(muxer, ())


class StreamCopies:
    """The planned streams, chapters and metadata in an open container that is not yet started.

    Args:
        source: Where the packets come from: the planned input, or the same file opened again.
        video: The stream of ``source`` that is stylized.
        target_video: The stylized stream in ``target``; takes over the video's own metadata.
        window: Seconds of the source's timeline of which the output is made; (None, None) is all of it.
        shift: The moment of the source's timeline, in seconds, that is 0 in the output.
    """

    def __init__(
        self,
        plan: StreamPlan,
        source: InputContainer,
        video: VideoStream,
        target: OutputContainer,
        target_video: Stream,
        muxer: str,
        *,
        window: tuple[Fraction | None, Fraction | None] = (None, None),
        shift: Fraction = Fraction(0),
    ) -> None:
        self.left_out = 0
        """Packets that could not be copied, because their times go back."""
        self.refused = 0
        """Packets that the container refused, because they are damaged."""
        self._target, self._muxer = target, muxer
        start, end = window
        self._cut = Cut(None if start == shift == 0 else start, end, shift)
        self._last: dict[int, tuple[Fraction, int]] = {}
        """Of each stream the last decoding time in seconds, and in the units of the target."""
        self._tracks: dict[int, Track] = {}
        self._covers: list[tuple[Stream, bytes]] = []
        if muxer == "matroska":
            # Otherwise the first track of each kind becomes the default where none was.
            target.container_options.setdefault("default_mode", "passthrough")
        if muxer == "mp4" and any(source.streams[part.index].type == "video" for part in plan.parts):
            flags = target.container_options.pop("movflags", "").replace("+use_metadata_tags", "")
            if flags:
                target.container_options["movflags"] = flags
        self._describe(plan, source, video, target_video)
        for part in plan.parts:
            self._add(part, source.streams[part.index])

    def _describe(self, plan: StreamPlan, source: InputContainer, video: VideoStream, target_video: Stream) -> None:
        about, of_video = kept_metadata(source.metadata), kept_metadata(video.metadata)
        # One timecode, that of the video: mp4 would give a cover image one of its own.
        stated = [data.pop(key) for data in (of_video, about) for key in list(data) if key.lower() == "timecode"]
        if stated and plan.timecode:
            begun = Fraction(video.start_time or 0) * (fraction_of(video.time_base) or 0)
            rate = fraction_of(video.average_rate) or Fraction(25)
            of_video["timecode"] = timecode_after(stated[0], max(Fraction(0), self._cut.shift - begun), rate)
        target_video.metadata.update(of_video)
        self._target.metadata.update(about)
        if plan.chapters:
            shift = self._cut.shift - self._moved_by_muxer(plan, source)
            self._target.set_chapters(chapters_of(source, replace(self._cut, shift=shift)))

    def _moved_by_muxer(self, plan: StreamPlan, source: InputContainer) -> Fraction:
        """Return by how many seconds the muxer will show everything later, because it has no times below 0.

        It moves packets but not chapters.
        """
        if self._muxer in NEGATIVE_TIMES or self._cut.start is not None:
            return Fraction(0)
        moves = [self._cut.shift - begin - delay_of(source.streams[index]) for index, begin in plan.leads.items()]
        return Fraction(round(max(Fraction(0), *moves) * 1000), 1000) if moves else Fraction(0)

    def _add(self, part: Part, stream: Stream) -> None:
        track: Track
        if part.how == "attachment":
            assert part.cover is not None
            kind = {"mjpeg": "jpeg"}.get(_codec_name(stream), _codec_name(stream))
            name = stream.metadata.get("filename", f"cover.{'jpg' if kind == 'jpeg' else kind}")
            self._target.add_attachment(name, stream.metadata.get("mimetype", f"image/{kind}"), part.cover)
            return
        if part.how == "audio":
            track = AudioTranscoder(stream, self._target, part.codec, self._cut, part.audio)  # type: ignore[arg-type]
        elif part.how == "text":
            track = TextTranscoder(stream, self._target, part.codec, self._cut)  # type: ignore[arg-type]
        else:
            track = PacketCopy(stream, self._target, self._cut, self._muxer)
        track.stream.metadata.update(kept_metadata(stream.metadata))
        if name := track_name(stream.metadata):
            track.stream.metadata["handler_name" if self._muxer in ("mp4", "mov") else "title"] = name
        if self._muxer == "mov" and (tongue := track.stream.metadata.get("language")) in _QUICKTIME:
            track.stream.metadata["language"] = _QUICKTIME[tongue]
        track.stream.disposition = stream.disposition
        self._tracks[stream.index] = track
        if part.cover is not None:
            self._covers.append((track.stream, part.cover))

    def mux(self, packet: av.Packet[Any]) -> None:
        """Write one packet of the source; those of streams that are not planned are passed over.

        Raises:
            av.FFmpegError, OSError, ValueError: The container cannot be written.
        """
        track = self._tracks.get(packet.stream.index)
        self._write_covers()
        if track is not None and packet.size:
            for made in track.take(packet):
                self._write(track, made)

    def _write_covers(self) -> None:
        while self._covers:
            stream, cover = self._covers.pop()
            packet = av.Packet(cover)
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts = packet.dts = 0
            packet.is_keyframe = True
            self._target.mux(packet)

    def _write(self, track: Track, packet: av.Packet[Any]) -> None:
        # In a damaged file times may go back, and one such packet would end the whole output. Those that
        # only repeat, as where milliseconds are too coarse, move by one unit: most muxers want them to rise.
        self._target.start_encoding()  # only now the stream knows its time base
        index, base = track.stream.index, fraction_of(track.stream.time_base)
        if packet.dts is not None and packet.pts is not None and base:
            moment = packet.dts * unit_of(packet)
            dts = round(moment / base)
            last_moment, last_dts = self._last.get(index, (moment, dts - 1))
            if moment < last_moment:
                self.left_out += 1
                return
            if dts <= last_dts and track.stream.type == "audio" and self._muxer not in ("matroska", "webm"):
                dts = last_dts + 1
                packet.pts = max(dts, round(packet.pts * unit_of(packet) / base))
                packet.dts, packet.time_base = dts, base
            self._last[index] = moment, dts
        try:
            self._target.mux(packet)
        except av.error.InvalidDataError:  # as a broken header of AAC, which mp4 and Matroska take off
            self.refused += 1

    def finish(self) -> list[str]:
        """Write what is still held back and return what a person should know, in words."""
        warnings = []
        self._write_covers()
        for index, track in self._tracks.items():
            for packet in track.flush():
                self._write(track, packet)
            warnings += track.notes
            if track.damaged:
                warnings.append(f"{track.damaged} packets of {track.stream.type} {index} could not be decoded")
        if self.refused:
            warnings.append(f"{self.refused} packets of copied streams were left out: they are damaged")
        if self.left_out:
            warnings.append(f"{self.left_out} packets of copied streams were left out: their times go back")
        return warnings

"""The streams beside the video, one by one: copied by packets, or decoded and re-encoded at their times."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.stream import Stream
from av.subtitles.codeccontext import SubtitleCodecContext
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import AssSubtitle, SubtitleSet

from rtstyle.video.opening import open_media
from rtstyle.video.samples import fraction_of
from rtstyle.video.shapes import AudioShape, HeaderCheck, needs_header, shape_of, shapes_of_header

_STEADY = Fraction(1, 50)
"""Seconds by which the times of decoded audio may be off before they are believed: containers round them."""

_LONGEST_GAP = 600
"""Seconds that are filled with silence at most; a longer leap is damage."""

_LEAD_IN = 1
"""Seconds before a cut that are decoded, so that the decoder is in step when it is reached."""

_BITS_PER_CHANNEL = {"aac": 96_000, "libopus": 80_000, "libmp3lame": 96_000}
"""Bits per second and channel at which a second generation is hard to hear."""


_LEAD_IN_PACKETS = 3
"""Packets before a stream's start that a decoder may need to get in step; what is hidden before them was cut off."""

NEGATIVE_TIMES = {"mp4", "mov"}
"""Muxers that hold what starts before time 0; the others move everything or lose it."""


@dataclass(frozen=True)
class Cut:
    """What part of a source's timeline goes into the output, and where it lands there; seconds, exact."""

    start: Fraction | None = None
    """None: whatever comes first, even before time 0."""
    end: Fraction | None = None
    shift: Fraction = Fraction(0)
    """The moment of the source that is 0 in the output."""


def chapters_of(source: InputContainer, cut: Cut) -> list[Any]:
    """Return the chapters within the window, cut to it and moved into the output's time.

    Chapters that begin before everything else does count from the player's zero already.
    """
    kept = []
    chapters = source.chapters()
    first = min((chapter["start"] * (fraction_of(chapter["time_base"]) or 0) for chapter in chapters), default=0)
    if cut.start is None and cut.shift > 0 and first + 1 < cut.shift:
        cut = replace(cut, shift=Fraction(0))
    for chapter in chapters:
        base = fraction_of(chapter["time_base"])
        if base is None:
            continue
        begin, end = chapter["start"], max(chapter["start"], chapter["end"])
        if cut.start is not None and begin * base < cut.start:
            if end * base <= cut.start:
                continue
            begin = math.ceil(cut.start / base)
        if cut.end is not None:
            if begin * base >= cut.end:
                continue
            end = min(end, math.floor(cut.end / base))
        shift = round(cut.shift / base)
        begin, end = max(0, begin - shift), max(begin, end) - shift
        kept.append({**chapter, "start": begin, "end": max(begin, end)})
    return kept


def timecode_after(timecode: str, seconds: Fraction, rate: Fraction) -> str:
    """Return the SMPTE timecode that many seconds later; ``;`` before the frames means drop-frame (SMPTE 12M)."""
    parts = re.fullmatch(r"(\d+):(\d+):(\d+)([:;.])(\d+)", timecode)
    if not parts or not seconds:
        return timecode
    hours, minutes, whole, last = (int(parts[i]) for i in (1, 2, 3, 5))
    per_second = round(rate)
    drop = per_second // 15 if parts[4] != ":" and per_second in (30, 60) else 0
    minutes += 60 * hours
    frames = (60 * minutes + whole) * per_second + last - drop * (minutes - minutes // 10) + round(seconds * rate)
    if drop:  # number them again as if none were left out
        tens, rest = divmod(frames, 600 * per_second - 9 * drop)
        frames += 9 * drop * tens + drop * (max(0, rest - drop) // (60 * per_second - drop))
    whole, last = divmod(frames, per_second)
    return f"{whole // 3600 % 24:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}{parts[4]}{last:02d}"


def unit_of(packet: av.Packet[Any]) -> Fraction:
    """Return what the times of a packet count, in seconds."""
    base = packet.time_base
    return Fraction(base.numerator, base.denominator)


def begin_of(stream: Stream) -> Fraction | None:
    """Return when a stream is first heard or seen, in seconds, as its container says; None where it does not."""
    base = fraction_of(stream.time_base)
    return None if stream.start_time is None or base is None else stream.start_time * base


def delay_of(stream: Stream) -> Fraction:
    """Return the seconds that a decoder of audio takes to find its feet, where the container states them.

    Of mp4 FFmpeg 9 takes all that an edit list hides for it; packets carry their times there, so it does not count.
    """
    context = stream.codec_context
    if not isinstance(context, AudioCodecContext) or _of_mp4(stream):
        return Fraction(0)
    return Fraction(int(context.delay), context.sample_rate or 48000)


def _of_mp4(stream: Stream) -> bool:
    return stream.container.format.name.startswith("mov")


def lead_in_of(packet: av.Packet[Any]) -> Fraction | None:
    """Return when a stream's first packet begins, if it is kept though it begins before the stream is heard."""
    start = begin_of(packet.stream)
    if packet.pts is None or start is None:
        return None
    begin, length = packet.pts * unit_of(packet), (packet.duration or 0) * unit_of(packet)
    codec = packet.stream.codec_context
    if not length and isinstance(codec, AudioCodecContext) and codec.sample_rate:  # Matroska states none
        length = Fraction(codec.frame_size or 1024, codec.sample_rate)
    return begin if begin < start and start - begin <= _LEAD_IN_PACKETS * length else None


class Track(Protocol):
    """One stream of the input on its way into the output."""

    damaged: int
    """Packets that could not be read."""
    notes: list[str]
    """What a person should know of it, in words."""

    @property
    def stream(self) -> Stream:
        """Where its packets go."""

    def take(self, packet: av.Packet[Any]) -> list[av.Packet[Any]]:
        """Return what is to be written of one packet of the source; packets come in order."""

    def flush(self) -> list[av.Packet[Any]]:
        """Return what is still held back."""


@contextmanager
def _template_of(source: Stream) -> Iterator[Stream]:
    """Yield the stream to make a copy like: of mp4, without the edit list.

    FFmpeg 9 takes all that an edit list hides for a lead-in of the decoder, and writes that length into other
    containers, whose readers then cut it off what is shown.
    """
    name, context = source.container.name, source.codec_context
    if not isinstance(context, AudioCodecContext) or not int(context.delay) or not _of_mp4(source):
        yield source
        return
    if not Path(name.removeprefix("file:")).is_file():
        yield source
        return
    with open_media(name, options={"ignore_editlist": "1"}) as plain:
        yield plain.streams[source.index]


class PacketCopy:
    """A stream whose packets are only cut and moved in time."""

    def __init__(self, source: Stream, target: OutputContainer, cut: Cut, muxer: str) -> None:
        self.damaged = 0
        self.notes: list[str] = []
        self._shape = next(iter(shapes_of_header(source)), None)
        codec = source.codec_context if isinstance(source, AudioStream) else None
        self._watched = codec.codec.canonical_name if codec else ""
        self._check = HeaderCheck(source)
        self._in_band = muxer == "mpegts" and self._shape is None
        with _template_of(source) as template:
            self.stream: Stream = target.add_stream_from_template(template, opaque=True)
        self._source, self._cut = source, cut
        self._last: int | None = None
        self._step = 0
        if isinstance(self.stream, AudioStream):
            self.stream.codec_context.layout = layout_of(self.stream.codec_context)
        self._cover = source.type == "video"
        # Matroska states how long a decoder takes to find its feet, and starts the packets as much later.
        self._exact = -round(delay_of(source) * (codec.sample_rate or 48000)) if codec else 0
        """Where the next packet of audio begins, in samples, if nothing is missing."""
        self._earliest = None if muxer in NEGATIVE_TIMES else -delay_of(source)
        self._begin = begin_of(source)
        """When the stream is first heard or seen, on the source's timeline."""
        self._trimmed: bool | None = None
        """The beginning was cut off by an edit list; None: no packet has come yet."""
        self._shown = False
        """A packet has come of which something is shown."""

    def take(self, packet: av.Packet[Any]) -> list[av.Packet[Any]]:
        if self._cover:  # ``StreamCopies`` has it already
            return []
        if packet.dts is None or not self._is_shown(packet):
            return []
        if needs_header(self._watched) and not self._in_band and not self.notes:
            self._watch_shape(packet)
        if self._source.type == "audio" and not packet.duration:
            # Matroska need not say how long a packet lasts; mp4 would take the last one for empty and lose it.
            self._step = packet.dts - self._last if self._last is not None else self._step
            packet.duration = self._frame(packet) or max(0, self._step)
        self._last = packet.dts
        if self._source.type == "audio" and self._earliest is None:
            self._count_samples(packet)
        if self._cut != Cut() and not self._inside(packet):
            return []
        packet.stream = self.stream
        return [packet]

    def _watch_shape(self, packet: av.Packet[Any]) -> None:
        shape = shape_of(packet, self._watched)
        moment = float((packet.pts or 0) * unit_of(packet))
        if shape is None:
            self._check.look(bytes(packet)[:8], moment)
        if self._check.since is not None:
            self.notes.append(
                f"audio {self._source.index} contradicts its header from {self._check.since:.1f} s on: it has other "
                "channels there, and players cannot decode it, in the input neither; it is copied as it is"
            )
        if shape and self._shape and shape != self._shape:
            self.notes.append(
                f"audio {self._source.index} changes to {shape.channels} channels of {shape.rate} Hz at "
                f"{moment:.1f} s, and cannot be decoded from there: make one kind "
                "of it first, with ffmpeg -i IN -map 0 -c copy -c:a aac OUT"
            )
        self._shape = shape or self._shape

    def _is_shown(self, packet: av.Packet[Any]) -> bool:
        """Return whether a packet is copied where an edit list cuts its stream: mp4 keeps what it hides.

        Packets in which nothing is shown are left out, but for the lead-in of a decoder. Where the beginning was cut
        off, two packets of it are the lead-in in a container that hides them again; in others the stream begins with
        its first whole packet.
        """
        base, start = unit_of(packet), self._begin
        if packet.pts is None or start is None:
            return not packet.is_discard
        begin, length = packet.pts * base, (packet.duration or 0) * base
        if self._source.type == "subtitle":
            return begin + length > start or not packet.is_discard
        if self._trimmed is None:
            self._trimmed = begin < start and lead_in_of(packet) is None
        self._shown = self._shown or not packet.is_discard
        if begin >= start or (self._shown and packet.is_discard):
            return not packet.is_discard
        hides = self._earliest is None and start <= self._cut.shift
        return not self._trimmed or (hides and begin > start - 2 * length)

    def _count_samples(self, packet: av.Packet[Any]) -> None:
        """Give a packet its exact time where the source rounds it: mp4 cuts the lead-in of a decoder by it.

        A stated time that is within its own rounding of where the packet before ended is taken for that.
        """
        context = self._source.codec_context
        assert isinstance(context, AudioCodecContext)
        rate, base = context.sample_rate, unit_of(packet)
        known = context.frame_size or context.codec.canonical_name == "opus"
        if not rate or not known or base * rate <= 1 or packet.dts is None:
            return
        stated, lasts = round(packet.dts * base * rate), round((packet.duration or 0) * base * rate)
        margin = math.ceil(base * rate) + 1
        fixed = context.frame_size and context.codec.canonical_name != "opus"
        # A shorter last packet is what the encoder filled up; readers of mp4 differ in whether they cut it.
        whole = lasts <= context.frame_size + margin if fixed else abs(lasts - context.frame_size) <= margin
        frame = context.frame_size if whole else lasts
        exact = self._exact if abs(stated - self._exact) <= margin else stated
        packet.pts, packet.dts, packet.duration, packet.time_base = exact, exact, frame, Fraction(1, rate)
        self._exact = exact + frame

    def _frame(self, packet: av.Packet[Any]) -> int:
        context = self._source.codec_context
        assert isinstance(context, AudioCodecContext)
        return round(Fraction(context.frame_size, context.sample_rate or 48000) / unit_of(packet))

    def _inside(self, packet: av.Packet[Any]) -> bool:
        """Move a packet into the output's time; False: it does not belong there."""
        if self._source.type == "subtitle":
            return packet.pts is not None and cut_text(packet, self._cut)
        assert packet.dts is not None
        start, end, base = self._cut.start, self._cut.end, unit_of(packet)
        begin = packet.dts if packet.pts is None else packet.pts
        shift = round(self._cut.shift / base)
        if start is not None:
            if (begin + (packet.duration or 0)) * base <= start:
                return False
            if self._earliest is not None and (begin - shift) * base < self._earliest:
                return False
        if end is not None and begin * base >= end:
            return False
        if packet.pts is not None:
            packet.pts -= shift
        packet.dts -= shift
        return True

    def flush(self) -> list[av.Packet[Any]]:
        return []


class AudioTranscoder:
    """Decodes one audio stream and encodes it in a new stream of a container that is not yet started.

    The samples keep their times: gaps become silence and overlaps are cut, so that nothing drifts; a
    window is cut to the sample.
    """

    def __init__(
        self, source: AudioStream, target: OutputContainer, codec: str, cut: Cut, shape: AudioShape | None = None
    ) -> None:
        self.damaged = 0
        """Packets that could not be decoded, and stretches whose times make no sense."""
        self.notes: list[str] = []
        decoder = source.codec_context
        wanted = shape.rate if shape else decoder.sample_rate or 48000
        rates = av.Codec(codec, "w").audio_rates or [wanted]
        self._rate = wanted if wanted in rates else 48000 if 48000 in rates else max(rates)
        stream = target.add_stream(codec, rate=self._rate)
        assert isinstance(stream, AudioStream)
        encoder = stream.codec_context
        layout = _USUAL_LAYOUTS.get(shape.channels, "stereo") if shape else layout_of(decoder)
        channels = av.AudioLayout(layout).nb_channels
        if codec in ("alac", "flac"):
            deep = decoder.format.bytes > 2
            encoder.format = ("s32" if deep else "s16") + ("p" if codec == "alac" else "")
        if codec in _BITS_PER_CHANNEL:
            encoder.bit_rate = _BITS_PER_CHANNEL[codec] * channels
        self._layout = _accepted(codec, encoder.format.name, self._rate, layout)
        encoder.layout = self._layout
        encoder.open()
        stream.time_base = encoder.time_base = Fraction(1, self._rate)
        self.stream = stream
        self._decoder: AudioCodecContext = decoder
        self._format = encoder.format.name
        self._converters: dict[tuple[str, str, int], av.AudioResampler] = {}
        self._cut = cut
        self._first = None if cut.start is None else round(cut.start * self._rate)
        self._end = None if cut.end is None else round(cut.end * self._rate)
        self._next: int | None = None

    def take(self, packet: av.Packet[Any]) -> list[av.Packet[Any]]:
        """Return what is encoded of one packet of the source; packets come in order."""
        start = self._cut.start
        if start is not None and packet.pts is not None and packet.pts * unit_of(packet) < start - _LEAD_IN:
            return []
        return self._encoded(packet)

    def flush(self) -> list[av.Packet[Any]]:
        """Return what is still held back."""
        packets = self._encoded(None)
        for converter in self._converters.values():
            for frame in filter(None, converter.resample(None)):
                packets += self._at_its_time(frame)
        return packets + list(self.stream.encode(None))

    def _encoded(self, packet: av.Packet[Any] | None) -> list[av.Packet[Any]]:
        try:
            frames = self._decoder.decode(packet)
        except av.FFmpegError:
            self.damaged += 1
            return []
        packets: list[av.Packet[Any]] = []
        for frame in frames:
            key = (frame.format.name, frame.layout.name, frame.sample_rate)
            if key not in self._converters:  # a broadcast may change to another one on its way
                self._note_downmix(frame)
                self._converters[key] = av.AudioResampler(self._format, self._layout, self._rate)
            for converted in self._converters[key].resample(frame):
                packets += self._at_its_time(converted)
        return packets

    def _note_downmix(self, frame: av.AudioFrame) -> None:
        wider = frame.layout.nb_channels > av.AudioLayout(self._layout).nb_channels
        if wider and self._converters and not self.notes:
            at = f"{frame.time or 0:.1f} s"
            self.notes.append(f"the audio changes to {frame.layout.name} at {at} and is mixed down to {self._layout}")

    def _at_its_time(self, frame: av.AudioFrame) -> list[av.Packet[Any]]:
        """Encode a frame of the encoder's own format where its time says, cut to the window."""
        if self._next is None:
            start = self._sample_of(frame, 0)
        else:
            start = self._sample_of(frame, self._next)
            if abs(start - self._next) <= _STEADY * self._rate:
                start = self._next
            elif start - self._next > _LONGEST_GAP * self._rate or start + frame.samples <= self._next:
                self.damaged += start > self._next
                return []
        packets: list[av.Packet[Any]] = []
        if self._next is not None and start > self._next:
            packets += self._silence(start - self._next, frame)
        begin = max(start, self._next or start, start if self._first is None else self._first)
        stop = start + frame.samples
        self._next = max(stop, self._next or stop)
        if self._end is not None:
            stop = min(stop, self._end)
        return packets + self._send(frame, begin - start, stop - start, begin)

    def _sample_of(self, frame: av.AudioFrame, otherwise: int) -> int:
        base = fraction_of(frame.time_base)
        if frame.pts is None or base is None:
            return otherwise
        return round(frame.pts * base * self._rate)

    def _silence(self, samples: int, like: av.AudioFrame) -> list[av.Packet[Any]]:
        packets: list[av.Packet[Any]] = []
        assert self._next is not None
        while samples > 0:
            count = min(samples, self._rate)
            model = like.to_ndarray()
            empty: Any = np.zeros((model.shape[0], count * self._step(like)), model.dtype)
            if like.format.name == "u8":
                empty += 128
            quiet = av.AudioFrame.from_ndarray(empty, like.format.name, like.layout.name)
            start = self._next
            begin = start if self._first is None else max(start, self._first)
            stop = start + count if self._end is None else min(start + count, self._end)
            packets += self._send(quiet, begin - start, stop - start, begin)
            self._next += count
            samples -= count
        return packets

    @staticmethod
    def _step(frame: av.AudioFrame) -> int:
        """Return how many numbers of a row of ``to_ndarray`` belong to one moment."""
        return 1 if frame.format.is_planar else frame.layout.nb_channels

    def _send(self, frame: av.AudioFrame, begin: int, stop: int, sample: int) -> list[av.Packet[Any]]:
        """Encode samples ``begin`` to ``stop`` of a frame, the first of them as number ``sample`` of the source."""
        if stop <= begin:
            return []
        if begin > 0 or stop < frame.samples:
            step = self._step(frame)
            part: Any = np.ascontiguousarray(frame.to_ndarray()[:, begin * step : stop * step])
            frame = av.AudioFrame.from_ndarray(part, frame.format.name, frame.layout.name)
        frame.sample_rate, frame.time_base = self._rate, Fraction(1, self._rate)
        frame.pts = sample - round(self._cut.shift * self._rate)
        return list(self.stream.encode(frame))


_USUAL_LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


def layout_of(context: AudioCodecContext) -> str:
    """Name the channels; where a file only counts them, they are in the usual order."""
    name, count = context.layout.name, context.layout.nb_channels
    return _USUAL_LAYOUTS.get(count, "stereo") if name.endswith("channels") else name


def _accepted(codec: str, samples: str, rate: int, layout: str) -> str:
    """Return ``layout``, or the one that is nearest to it among those that an encoder takes."""
    nearest = {6: "5.1", 7: "6.1", 8: "7.1"}.get(av.AudioLayout(layout).nb_channels, "stereo")
    for candidate in (layout, nearest):
        probe = av.CodecContext.create(codec, "w")
        assert isinstance(probe, AudioCodecContext)
        probe.format, probe.layout, probe.sample_rate = samples, candidate, rate
        probe.time_base = Fraction(1, rate)
        with suppress(av.FFmpegError, ValueError):
            probe.open()
            return candidate
    return "stereo"


class TextTranscoder:
    """Turns one text subtitle stream into another kind; times, text and order stay.

    Styling is kept where the target has it (italics in subrip and webvtt) and taken out for mov_text,
    whose styles hardly any player shows.
    """

    def __init__(self, source: SubtitleStream, target: OutputContainer, codec: str, cut: Cut) -> None:
        self.damaged = 0
        """Packets that could not be read."""
        self.notes: list[str] = []
        self._decoder: SubtitleCodecContext = source.codec_context
        self._decoder.open(strict=False)
        stream = target.add_stream(codec)
        assert isinstance(stream, SubtitleStream)
        stream.codec_context.subtitle_header = self._decoder.subtitle_header or _PLAIN_HEADER
        stream.time_base = stream.codec_context.time_base = fraction_of(source.time_base) or Fraction(1, 1000)
        self.stream = stream
        self._plain = codec == "mov_text"
        self._cut = cut

    def take(self, packet: av.Packet[Any]) -> list[av.Packet[Any]]:
        """Return what becomes of one packet of the source."""
        if packet.pts is None:
            return []
        try:
            found = self._decoder.decode2(packet)
        except av.FFmpegError:
            self.damaged += 1
            return []
        texts = [_text_of(part.ass) for part in found or () if isinstance(part, AssSubtitle)]
        text = r"\N".join(plain_text(text) if self._plain else text for text in texts)
        if not text.strip():
            return []
        duration = packet.duration or 0
        if not duration and found and found.end_display_time:
            duration = round(Fraction(found.end_display_time, 1000) / unit_of(packet))
        event = SubtitleSet.create(b"0,0,Default,,0,0,0,," + text.encode(), 0, duration, packet.pts)
        made = self.stream.codec_context.encode_subtitle(event)
        made.stream, made.time_base = self.stream, unit_of(packet)
        made.pts = made.dts = packet.pts
        made.duration = duration
        return [made] if cut_text(made, self._cut) else []

    def flush(self) -> list[av.Packet[Any]]:
        """Return nothing: no text is held back."""
        return []


def cut_text(packet: av.Packet[Any], cut: Cut) -> bool:
    """Cut a subtitle's packet to the window and move it into the output's time; False: no part of it is inside."""
    assert packet.pts is not None
    base = unit_of(packet)
    begin, end = packet.pts, packet.pts + (packet.duration or 0)
    if cut.start is not None and begin * base < cut.start:
        if end * base <= cut.start:
            return False
        begin = round(cut.start / base)
    if cut.end is not None:
        if begin * base >= cut.end:
            return False
        end = min(end, round(cut.end / base)) if end * base > cut.end else end
    packet.pts = packet.dts = begin - round(cut.shift / base)
    if packet.duration:
        packet.duration = end - begin
    return True


_PLAIN_HEADER = (
    b"[Script Info]\r\nScriptType: v4.00+\r\n\r\n[V4+ Styles]\r\n"
    b"Format: Name, Fontname, Fontsize, PrimaryColour, Bold, Italic, Underline, Alignment\r\n"
    b"Style: Default,Arial,16,&Hffffff,0,0,0,2\r\n\r\n[Events]\r\n"
    b"Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\r\n"
)
"""What FFmpeg's text encoders want to know of styles, where the source has none."""

_DRAWING = re.compile(r"\{[^}]*\\p[1-9][^}]*\}.*?(?=\{[^}]*\\p0[^}]*\}|$)", re.DOTALL)
_OVERRIDE = re.compile(r"(?<!\\)\{[^}]*\}")


def _text_of(event: bytes) -> str:
    """Return the last field of an ASS event as FFmpeg's decoders give it: eight commas go before it."""
    return event.decode("utf-8", "replace").split(",", 8)[-1]


def plain_text(text: str) -> str:
    r"""Take the styling out of the text of an ASS event; line breaks stay as ``\N``.

    Blocks in braces are orders to the renderer, and between ``{\p1}`` and ``{\p0}`` stand shapes, no words.
    """
    text = _OVERRIDE.sub("", _DRAWING.sub("", text))
    return text.replace(r"\n", r"\N").replace(r"\h", " ").replace(r"\{", "{").replace(r"\}", "}")

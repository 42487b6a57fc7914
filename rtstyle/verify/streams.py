"""When two streams are the same, though packed otherwise or transcoded, and what is written about the whole file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from fractions import Fraction
from io import BytesIO

import av
from av.stream import Disposition

from rtstyle.verify.facts import Media, StreamFacts
from rtstyle.verify.finding import Finding, Verdict, both
from rtstyle.verify.reading import decode_stream
from rtstyle.verify.times import MS, TimeMap

# -- streams ---------------------------------------------------------------------------------------


def compare_streams(source: Media, target: Media, time_map: TimeMap, *, audio: bool) -> Iterator[Finding]:
    """Compare every stream beside the video, and attachments."""
    numbers: Counter[str] = Counter()
    pairs = _pair_streams(source.streams, target.streams)
    for track, partner in pairs:
        numbers[track.type] += 1
        name = f"{_kind(track)} {numbers[track.type]}"
        if track.type == "audio" and not audio:
            if partner is None:
                yield Finding(name, _label(track), "none", "intended", "left out, as asked for")
            else:
                yield Finding(name, _label(track), _label(partner), "differs", "was to be left out")
        elif partner is None:
            yield _judge_lost(name, track, source, target)
        elif track.type == "data":
            yield Finding(name, _label(track), _label(partner), "same")
        else:
            yield _compare_labels(name, track, partner, source, target)
            if track.type != "attachment":
                yield from _compare_packets(name, track, partner, source, target, time_map)
    taken = {id(partner) for _, partner in pairs}
    for partner in target.streams:
        # Muxers make streams of their own for timecode and chapters.
        if id(partner) not in taken and partner.type != "data":
            yield Finding(_kind(partner), "none", _label(partner), "differs", "is not in the input")


def _pair_streams(tracks: list[StreamFacts], others: list[StreamFacts]) -> list[tuple[StreamFacts, StreamFacts | None]]:
    """Find the partner of each stream: the one with most of its packets, else the next one of its type."""
    left = list(others)
    found: dict[int, StreamFacts] = {}
    for exact in (True, False):
        for track in tracks:
            if track.index in found:
                continue
            likes = [other for other in left if other.type == track.type]
            if exact:
                scores = {other.index: _shared(track, other) for other in likes}
                likes = [other for other in likes if scores[other.index]]
                likes.sort(key=lambda other: (-scores[other.index], other.language != track.language))
            if likes:
                found[track.index] = likes[0]
                left.remove(likes[0])
    return [(track, found.get(track.index)) for track in tracks]


def _shared(track: StreamFacts, other: StreamFacts) -> int:
    if track.type == "attachment":
        return int(track.content == other.content)
    return (Counter(track.digests) & Counter(other.digests)).total()


def _kind(track: StreamFacts) -> str:
    return "cover" if track.disposition & Disposition.attached_pic else track.type


def _label(track: StreamFacts) -> str:
    flags = [flag.name or "" for flag in Disposition if track.disposition & flag]
    title = _track_name(track) or track.metadata.get("filename", "")
    shape = track.layout or track.size
    return ", ".join(word for word in (track.codec or "no codec", shape, track.language, title, *flags) if word)


_PROGRAMS = ("handler", "produced by", "core media", "gpac", "smash", "mainconcept", "bento4", "alias", "soun", "vide")
"""What is in the names that programs give to tracks of mp4 without a name."""


def _track_name(track: StreamFacts) -> str:
    """What players call a track: its title, or in mp4 the name of its handler."""
    handler = track.metadata.get("handler_name", "").strip("\0 ")
    named = handler and not any(word in handler.lower() for word in _PROGRAMS)
    return track.metadata.get("title", "") or (handler if named else "")


def _judge_lost(name: str, track: StreamFacts, source: Media, target: Media) -> Finding:
    if track.type == "data" and "timecode" in track.metadata and target.timecode:
        return Finding(name, _label(track), "none", "intended", "its timecode is rewritten")
    if track.type == "data" or (not track.codec and track.type != "attachment"):
        return Finding(name, _label(track), "none", "intended", "data streams are not copied")
    if track.type == "video" and not track.disposition & Disposition.attached_pic:
        return Finding(name, _label(track), "none", "intended", "one video stream is stylized, others are left out")
    if not track.digests and track.type != "attachment":
        return Finding(name, _label(track), "none", "intended", "it is empty")
    held = track.type != "attachment" and _holds(target.format, track.codec)
    able = held or (track.type == "attachment" and target.format == "matroska")
    why = "lost" if able else f"lost: {target.format} cannot hold it, .mkv can"
    return Finding(name, _label(track), "none", "differs", why)


def _holds(muxer: str, codec: str) -> bool:
    try:
        with av.open(BytesIO(), "w", format=muxer) as trial:
            return codec in trial.supported_codecs
    except (av.FFmpegError, ValueError):
        return False


_SAME_LANGUAGE = {
    "alb": "sqi", "arm": "hye", "baq": "eus", "bur": "mya", "chi": "zho", "cze": "ces", "dut": "nld", "fre": "fra",
    "geo": "kat", "ger": "deu", "gre": "ell", "ice": "isl", "mac": "mkd", "mao": "mri", "may": "msa", "per": "fas",
    "rum": "ron", "slo": "slk", "tib": "bod", "wel": "cym",
}  # fmt: skip
"""The twenty languages that ISO 639-2 gives two codes; containers differ in which they keep."""


def _compare_labels(name: str, track: StreamFacts, partner: StreamFacts, source: Media, target: Media) -> Finding:
    words: list[str] = []
    verdict: Verdict = "same"
    if _transcoded(track, partner):
        # Judged by what it decodes to, in _compare_packets.
        verdict = "intended"
        words.append("transcoded")
    elif track.codec != partner.codec:
        words.append(f"{target.format} calls {track.codec} {partner.codec}")
    if track.layout != partner.layout and track.layout and not _transcoded(track, partner):
        verdict = "differs"
        words.append("other rate or channels")
    if _SAME_LANGUAGE.get(track.language, track.language) != _SAME_LANGUAGE.get(partner.language, partner.language):
        verdict = "differs"
        words.append("other language")
    if track.content != partner.content:
        verdict = "differs"
        words.append("other bytes")
    if _track_name(track) != _track_name(partner):
        verdict = "differs"
        words.append("other name")
    for key in ("filename", "mimetype"):
        if key in track.metadata and track.metadata.get(key, "") != partner.metadata.get(key, ""):
            verdict = "differs"
            words.append(f"other {key}")
    before, after = _flags(track, source), _flags(partner, target)
    if min(len(_alike(track, source)), len(_alike(partner, target))) == 1:  # the only one is always played
        before, after = before - {"default"}, after - {"default"}
    lost, gained = before - after, after - before
    if lost:
        verdict = "differs"
        words.append(f"no longer {', '.join(sorted(lost))}")
    if gained:
        verdict = "differs"
        words.append(f"now {', '.join(sorted(gained))}")
    return Finding(name, _label(track), _label(partner), verdict, "; ".join(words))


def _flags(track: StreamFacts, media: Media) -> set[str]:
    """What a stream is marked as. Where no stream of a type is the default, players take the first."""
    flags = {flag.name or "" for flag in Disposition if track.disposition & flag}
    alike = _alike(track, media)
    first = not any(other.disposition & Disposition.default for other in alike) and alike[0] is track
    return flags | {"default"} if first else flags


def _transcoded(track: StreamFacts, partner: StreamFacts) -> bool:
    """Other packets of another codec. (mp4 has one name for MPEG audio of all layers.)"""
    other = track.codec != partner.codec or bool(track.splices)
    fewer = min(len(track.digests), len(partner.digests))
    return other and 2 * _shared(track, partner) <= fewer  # packets of silence may be equal


def _alike(track: StreamFacts, media: Media) -> list[StreamFacts]:
    return [other for other in media.streams if other.type == track.type]


def _compare_packets(
    name: str, track: StreamFacts, partner: StreamFacts, source: Media, target: Media, time_map: TimeMap
) -> Iterator[Finding]:
    if _transcoded(track, partner) or (time_map.cut and track.texts):
        if track.type == "subtitle":
            yield _compare_texts(name, track, partner, time_map)
        else:
            yield _compare_transcoded(name, track, partner, source, target, time_map)
        return
    first, last = _part(track, time_map)
    partner = _without_lead_in(track, partner)
    if not time_map.cut and track.trimmed and partner.digests[:2] == track.digests[1:3]:
        first = 1  # of the packet in which the cut lies, a part was hidden
    wanted = track.digests[first:last]
    has = both(lambda digests: f"{len(digests)} packets", wanted, partner.digests)
    offset = 0
    if time_map.cut and wanted != partner.digests:
        offset, wanted = _best_cut(track, partner, first, last)
    verdict, words = _judge_packets(track, partner, wanted, source, target)
    if track.splices and (track.splices == "in headers" or target.format not in ("mpegts", "aac")):
        verdict, words = "differs", "its channels or rate change on the way: it cannot be decoded from there"
    if track.contradicted is not None and verdict == "same":
        since = f"from {track.contradicted:.1f} s on they contradict its header, and cannot be decoded"
        words = f"{words}; {since}, in the input neither" if words else f"{since}, in the input neither"
    yield Finding(f"{name} packets", *has, verdict, words)
    if len(wanted) == len(partner.digests) == len(partner.times) and len(track.times) == len(track.digests):
        begin = first + offset
        yield _compare_packet_times(name, track, partner, track.times[begin : begin + len(wanted)], time_map)


def _without_lead_in(track: StreamFacts, partner: StreamFacts) -> StreamFacts:
    """Take off the packets at the beginning of the target that the source hides as the lead-in of a decoder."""
    for count in range(0 if track.trimmed else len(track.lead_in), 0, -1):
        if partner.digests[:count] == track.lead_in[-count:]:
            return replace(partner, digests=partner.digests[count:], times=partner.times[count:])
    return partner


def _part(track: StreamFacts, time_map: TimeMap) -> tuple[int, int]:
    """The packets of a stream that belong to the part, as a range: those that begin in it."""
    if not time_map.cut or len(track.times) != len(track.digests):
        return 0, len(track.digests)
    inside = [number for number, time in enumerate(track.times) if time_map.within(time * track.time_base)]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)


def _best_cut(track: StreamFacts, partner: StreamFacts, first: int, last: int) -> tuple[int, list[bytes]]:
    """A cut may take a packet more or less at either end: try which, and return its offset and packets."""
    for a in (0, -1, 1, -2, 2):
        for b in (0, 1, -1, 2, -2):
            if first + a >= 0 and track.digests[first + a : max(0, last + b)] == partner.digests:
                return a, partner.digests
    return 0, track.digests[first:last]


def _judge_packets(
    track: StreamFacts, partner: StreamFacts, wanted: list[bytes], source: Media, target: Media
) -> tuple[Verdict, str]:
    if wanted == partner.digests:
        return "same", "equal byte for byte" + (", what was cut off is not in it" if track.trimmed else "")
    whole = track.type in ("audio", "video") and len(wanted) == len(track.digests)
    if whole and decode_stream(source.path, track.index).digest == decode_stream(target.path, partner.index).digest:
        return "same", "packed otherwise; every decoded sample is equal"
    heard = (Counter(partner.digests) & (Counter(track.hidden) - Counter(track.digests))).total()
    if heard:
        return "differs", f"{heard} packets are in it that the input's edit list hides"
    missing = (Counter(wanted) - Counter(partner.digests)).total()
    extra = (Counter(partner.digests) - Counter(wanted)).total()
    changed = min(missing, extra)
    counts = {"changed": changed, "missing": missing - changed, "too many": extra - changed}
    words = [f"{number} {word}" for word, number in counts.items() if number]
    return "differs", ", ".join(words) or "in another order"


def _compare_packet_times(
    name: str, track: StreamFacts, partner: StreamFacts, times: list[int], time_map: TimeMap
) -> Finding:
    before = [time * track.time_base for time in times]
    after = [time * partner.time_base for time in partner.times]
    offsets = [b - time_map.shift - (a - time_map.zero) for a, b in zip(before, after, strict=True)]
    deviation = max((abs(offset) for offset in offsets), default=Fraction(0))
    # A coarser clock rounds by half of its unit; a finer one may undo what the coarser one had rounded.
    one, other = track.time_base, partner.time_base
    # Where a part begins, or what everything is shifted by, may fall between two units.
    exact = one == other and (time_map.shift / other).denominator == (time_map.zero / other).denominator == 1
    allowed = Fraction(0) if exact else min(MS, other / 2 if other >= one else one)
    if time_map.shift and not exact:  # it is known as exactly as the frames' times are
        allowed = min(MS, allowed + time_map.video_tick / 2)
    starts = both(lambda times: f"starts {float(times[0]) * 1000:.3f} ms" if times else "empty", before, after)
    words = f"largest deviation from the video {float(deviation) * 1000:.3g} ms" if deviation else ""
    return Finding(f"{name} times", *starts, "same" if deviation <= allowed else "differs", words)


def _compare_transcoded(
    name: str, track: StreamFacts, partner: StreamFacts, source: Media, target: Media, time_map: TimeMap
) -> Finding:
    one, other = decode_stream(source.path, track.index), decode_stream(target.path, partner.index)
    has = both(lambda samples: f"{float(samples.seconds):.3f} s", one, other)
    subject = f"{name} samples"
    if not time_map.cut and one.digest == other.digest:
        return Finding(subject, *has, "same", "every decoded sample is equal")
    # A cut begins with whole packets, so the audio may begin within one before the frame.
    opens, closes = one.start, one.start + one.seconds
    if time_map.first is not None:
        opens = max(opens, time_map.first)
    if time_map.last is not None:
        closes = min(closes, time_map.last)
    wanted = max(Fraction(0), closes - opens)
    slack = min(2 * other.frame, Fraction(15, 100)) + MS  # PCM has no frames: any number of samples is one
    late = other.start - time_map.shift - (opens - time_map.zero)
    words = []
    if track.splices:  # each part has a lead-in
        slack += Fraction(1, 10)
    more = other.seconds - wanted
    if more < -slack or more > slack + one.gaps:  # gaps may be written as silence
        words.append(f"{float(abs(more)):.3f} s {'more' if more > 0 else 'less'}")
    (channels, rate), (now, clock) = one.shape, other.shape
    if now != channels:
        words.append(f"{now} channels instead of {channels}")
    if clock != rate and partner.codec != "opus":  # which has one rate
        words.append(f"{clock} Hz instead of {rate}")
    if abs(late) > slack:
        words.append(f"starts {float(abs(late)) * 1000:.3g} ms {'later' if late > 0 else 'earlier'}")
    if words:
        return Finding(subject, *has, "differs", "; ".join(words))
    if track.splices:
        return Finding(subject, *has, "intended", "its channels or rate change on the way; as long as it was")
    if _holds(target.format, track.codec):
        return Finding(subject, *has, "differs", f"transcoded, though {target.format} can hold {track.codec}")
    return Finding(subject, *has, "intended", f"{target.format} cannot hold {track.codec}; as long as it was")


def _compare_texts(name: str, track: StreamFacts, partner: StreamFacts, time_map: TimeMap) -> Finding:
    before, after = _clip(_lines(track), time_map), _lines(partner)
    has = both(lambda texts: f"{len(texts)} lines", before, after)
    subject = f"{name} text"
    if [line[2] for line in before] != [line[2] for line in after]:
        return Finding(subject, *has, "differs", "other words")
    moved = _largest_shift(before, after, time_map.shift - (0 if time_map.part else time_map.zero))
    if moved > MS:
        return Finding(subject, *has, "differs", f"up to {float(moved) * 1000:.3g} ms off")
    return Finding(subject, *has, "same", f"every line is there ({track.codec} -> {partner.codec})")


Span = tuple[Fraction, Fraction, str]
"""Start and end in seconds, and words."""


def _largest_shift(before: list[Span], after: list[Span], shift: Fraction) -> Fraction:
    """By how many seconds starts and ends differ at most, when ``after`` is expected ``shift`` later."""
    starts = [abs(b[0] - a[0] - shift) for a, b in zip(before, after, strict=True)]
    ends = [abs(b[1] - a[1] - shift) for a, b in zip(before, after, strict=True)]
    return max((*starts, *ends), default=Fraction(0))


def _lines(track: StreamFacts) -> list[Span]:
    """Start, end and words of every line."""
    lines = [(start, end, _bare_text(text)) for start, end, text in track.texts]
    return [line for line in lines if line[2]]


def _clip(spans: list[Span], time_map: TimeMap) -> list[Span]:
    """What of some spans lies in the part, on the target's timeline."""
    if not time_map.part:
        return spans
    low, high = time_map.part
    return [
        (max(start, low) - time_map.zero, (end if high is None else min(end, high)) - time_map.zero, words)
        for start, end, words in spans
        if end > low and (high is None or start < high)
    ]


def _bare_text(text: str) -> str:
    """Take off what is only how a line looks: ASS overrides, HTML-like tags, white space."""
    return " ".join(re.sub(r"\{[^}]*\}|<[^>]*>|\\[Nnh]", " ", text).split())


# -- what is written about the whole ---------------------------------------------------------------


_SOON = Fraction(1, 10)
"""Seconds by which chapters may be out of step with the frames before it is visible."""


def compare_chapters(source: Media, target: Media, time_map: TimeMap) -> Iterator[Finding]:
    """Compare chapters: titles, starts and ends within a millisecond."""
    wanted = _clip(source.chapters, time_map)
    if not wanted and not target.chapters:
        return
    if source.editions and source.editions != target.editions:
        yield Finding("editions", f"{len(source.editions)} notes", "", "differs", "; ".join(source.editions))
    has = both(lambda chapters: str(len(chapters)), wanted, target.chapters)
    titles = [[chapter[2] for chapter in chapters] for chapters in (wanted, target.chapters)]
    if titles[0] != titles[1]:
        lost = "lost" if not target.chapters else "other titles" if len(titles[0]) == len(titles[1]) else "other number"
        yield Finding("chapters", *has, "differs", lost)
        return
    # Chapters that begin before everything else does count from the player's zero already.
    zero = Fraction(0) if time_map.part or wanted[0][0] + 1 < time_map.zero else time_map.zero
    later = time_map.shift - zero
    found = list(target.chapters)
    reaches_back = target.format in ("mp4", "mov") and found[0][0] == 0 < wanted[0][0] + later
    if reaches_back:
        found[0] = (wanted[0][0] + later, *found[0][1:])
    off = _largest_shift(wanted, found, later)
    if abs(time_map.shift) < _SOON:  # FFmpeg's muxers move packets by a lead-in, and chapters not
        off = min(off, _largest_shift(wanted, target.chapters, -zero))
    if off > MS:
        yield Finding("chapters", *has, "differs", f"up to {float(off) * 1000:.3g} ms off")
    elif reaches_back:
        yield Finding("chapters", *has, "intended", f"the first begins at 0: in {target.format} each moment has one")
    else:
        yield Finding("chapters", *has, "same")


_NOT_COMPARED = {
    "encoder", "major_brand", "minor_version", "compatible_brands", "handler_name", "vendor_id", "duration",
    "software", "timecode", "language", "title", "filename", "mimetype", "alpha_mode", "rotate", "creation_time",
    "stereo_mode",
}  # fmt: skip
"""Metadata that muxers write themselves, or that is compared elsewhere."""

_NO_METADATA = ("gif", "apng", "webp", "yuv4mpegpipe", "image2", "images", "mpegts", "mpeg", "h264", "hevc")


def compare_metadata(source: Media, target: Media, time_map: TimeMap) -> Iterator[Finding]:
    """Compare what is written about the file and its video, and the timecode."""
    own = [_about(media) for media in (source, target)]
    lost = sorted(key for key in own[0] if key not in own[1])
    other = sorted(key for key in own[0] if key in own[1] and own[0][key] != own[1][key])
    words = [f"{word}: {', '.join(keys)}" for word, keys in (("lost", lost), ("changed", other)) if keys]
    verdict: Verdict = "differs" if words else "same"
    if words and target.format in _NO_METADATA:
        verdict = "intended"
        words.append(f"{target.format} holds no metadata")
    if own[0] or own[1]:
        yield Finding("metadata", _key_names(own[0]), _key_names(own[1]), verdict, "; ".join(words))
    if source.timecode or target.timecode:
        codes = both(lambda media: media.timecode or "none", source, target)
        if not target.timecode and target.format in _NO_METADATA:
            yield Finding("timecode", *codes, "intended", f"{target.format} holds none")
        elif codes[0] == codes[1] or not time_map.first:
            yield Finding("timecode", *codes, "same" if codes[0] == codes[1] else "differs")
        else:
            moved = _counts_on(*codes, source, time_map)
            say = "counts from where the part begins" if moved else "should count from where the part begins"
            yield Finding("timecode", *codes, "intended" if moved else "differs", say)


def _counts_on(code: str, other: str, source: Media, time_map: TimeMap) -> bool:
    """Whether ``other`` is the timecode of the part's first frame, but for the numbers that drop-frame leaves out."""
    if source.video is None or not all(re.fullmatch(r"\d+(:\d+){2}[:;.]\d+", text) for text in (code, other)):
        return False
    rate = round(source.video.rate or 25)
    (h, m, s, f), (h2, m2, s2, f2) = (map(int, re.split(r"\D", text)) for text in (code, other))
    minutes = (h2 - h) * 60 + m2 - m
    frames = (minutes * 60 + s2 - s) * rate + f2 - f
    passed = time_map.expected(source.video)[0]
    return abs(frames - passed) <= 1 + (2 * minutes if ";" in other else 0)


def _about(media: Media) -> dict[str, str]:
    counted = ("_statistics", "number_of", "bps")  # written by mkvmerge about its own packets
    found = {key: value for key, value in media.metadata.items() if key not in _NOT_COMPARED - {"title"} and value}
    if media.video:
        of_video = {key: value for key, value in media.video.track.metadata.items() if key not in _NOT_COMPARED}
        found |= {f"video {key}": value for key, value in of_video.items()}
    date = media.metadata.get("creation_time")
    if date:
        found["creation_time"] = _whole_second(date)
    return {key: value for key, value in found.items() if not key.removeprefix("video ").startswith(counted)}


def _whole_second(text: str) -> str:
    """A date to the second: containers keep more or fewer digits."""
    try:
        return datetime.fromisoformat(text).replace(microsecond=0).isoformat()
    except ValueError:
        return text


def _key_names(metadata: dict[str, str]) -> str:
    return ", ".join(sorted(metadata)) or "none"

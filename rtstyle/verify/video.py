"""Compares the video of two files: frames and their times, size, rotation, color tags, alpha."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from rtstyle.frame import Color, ColorTags, Size
from rtstyle.verify.facts import Media, Thumbnail, VideoFacts
from rtstyle.verify.finding import Finding, Verdict, both
from rtstyle.verify.reading import borders_at
from rtstyle.verify.times import NO_TIMES, TimeMap

_GRADED = ("mastering display", "content light level")
"""HDR10 metadata."""

_HDR = {16: "PQ", 18: "HLG"}
"""Transfers of H.273 that need more than 8 bits."""

_RGB_ONLY = ("gif", "apng", "webp", "webp_pipe", "image2", "images")
"""Formats without a matrix or a range."""

_ALPHA_DEVIATION = 8
"""Levels by which lossy codecs may change the mean opacity of a 16th of the frame's width and height."""

_NAMES = {
    "matrix": {0: "rgb", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "ycgco", 9: "bt2020nc",
               10: "bt2020c", 14: "ictcp"},
    "range": {1: "tv", 2: "pc"},
    "primaries": {1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020", 11: "smpte431",
                  12: "smpte432"},
    "transfer": {1: "bt709", 4: "gamma22", 5: "gamma28", 6: "smpte170m", 7: "smpte240m", 8: "linear", 13: "srgb",
                 14: "bt2020-10", 15: "bt2020-12", 16: "smpte2084", 18: "arib-std-b67"},
}  # fmt: skip
"""FFmpeg's names of the numbers of ITU-T H.273 (range: FFmpeg's own)."""


# -- frames --------------------------------------------------------------------------------------


def compare_video(one: Media, other: Media, time_map: TimeMap, size: Size | None) -> Iterator[Finding]:
    """Compare the streams that are stylized.

    Args:
        size: The size that was asked for; None: that of the input.
    """
    source, target = one.video, other.video
    if source is None or target is None:
        if source is not target:
            has = both(lambda video: "no video" if video is None else "a video", source, target)
            yield Finding("video", *has, "differs")
        return
    wanted = time_map.expected(source)
    yield from _compare_times(source, target, wanted, time_map, other)
    yield from _compare_geometry(source, target, size)
    yield from _compare_color(source, target, other)
    yield _compare_alpha(source, target, wanted, other)
    yield from _compare_changes(source, target, time_map, other)
    for name in sorted(source.carries.keys() | target.carries.keys()):
        before, after = source.carries.get(name), target.carries.get(name)
        verdict: Verdict = "same" if before == after else "differs"
        note = "" if before == after else "lost" if after is None else "other than in the input"
        if name in _GRADED and after is None and source.tags.transfer in _HDR and target.tags.transfer not in _HDR:
            verdict, note = "intended", "it describes HDR, which is mapped to SDR"
        yield Finding(name, "yes" if before else "no", "yes" if after else "no", verdict, note)
    if source.captions or target.captions:
        yield _compare_captions(source, target, time_map)


def _compare_captions(source: VideoFacts, target: VideoFacts, time_map: TimeMap) -> Finding:
    has = both(lambda video: f"in {len(video.captions)} frames", source, target)
    if not target.captions:
        return Finding("captions", *has, "differs", "lost: H.264 and HEVC can carry them")
    kept = target.captions == source.captions
    if time_map.cut:
        first = target.captions[0]
        starts = [number for number, digest in enumerate(source.captions) if digest == first]
        kept = any(source.captions[at : at + len(target.captions)] == target.captions for at in starts)
    return Finding("captions", *has, "same" if kept else "differs", "" if kept else "others than in the input")


def _compare_times(
    source: VideoFacts, target: VideoFacts, wanted: list[int], time_map: TimeMap, other: Media
) -> Iterator[Finding]:
    count, found = len(wanted), len(target.times) + target.untimed
    cut = f" of {len(source.times) + source.untimed}" if time_map.cut else ""
    if source.untimed or target.untimed:
        yield Finding("frames", f"{count}{cut}", str(found), "same" if count == found else "differs")
        yield _compare_untimed(source, target, other)
        return
    expected = [source.times[number] for number in wanted]
    missing, extra, shift, deviation = time_map.match(expected, target.times)
    words = []
    if missing:
        words.append(f"{len(missing)} missing, the first at {float(missing[0]):.3f} s")
    if extra:
        words.append(f"{len(extra)} that the input has not, the first at {float(extra[0]):.3f} s")
    verdict: Verdict = "differs" if count != found else "same"
    yield Finding("frames", f"{count}{cut}", str(found), verdict, "; ".join(words) if count != found else "")
    if time_map.no_times:
        yield Finding("times", _span(expected), "none", "intended", f"{other.format} holds no times")
        return
    verdict, words = time_map.judge_shift(shift)
    if (missing or extra) and count == found:
        moved = f"{len(missing)} frames are shown at another time, the first that of {float(missing[0]):.3f} s"
        verdict, words = "differs", [*words, moved]
    words.append(f"largest deviation {_ms(deviation)}" if deviation else "equal to the last digit")
    yield Finding("times", _span(expected), _span(target.times), verdict, "; ".join(words))
    if source.last and target.last and expected and not time_map.cut:
        before, after = expected[-1] + source.last, target.times[-1] + target.last - shift + time_map.zero
        # How long the last frame is shown is all that can differ here: half a frame is not seen.
        allowed = max(time_map.tolerance * 2, max(source.last, target.last) / 2)
        off = f"the last frame is shown {_ms(abs(after - before))} {'longer' if after > before else 'shorter'}"
        has = both(lambda end: f"{float(end):.3f} s", before, after)
        verdict = "same" if abs(after - before) <= allowed else "differs"
        yield Finding("end of the video", *has, verdict, off if after != before else "")


def _compare_untimed(source: VideoFacts, target: VideoFacts, other: Media) -> Finding:
    """One of the two has no times: the other must be as even as the rate says."""
    if target.untimed:
        verdict: Verdict = "same" if source.untimed else "intended" if other.format in NO_TIMES else "differs"
        return Finding("times", "none" if source.untimed else _span(source.times), "none", verdict)
    step = 1 / (source.rate or Fraction(25))
    uneven = max((abs(b - a - step) for a, b in zip(target.times, target.times[1:], strict=False)), default=Fraction(0))
    even = uneven <= Fraction(1, 1000)
    rate = f"{float(1 / step):g} frames per second"
    words = f"the input has no times: {rate} assumed" if even else f"not even at {rate}: up to {_ms(uneven)} off"
    return Finding("times", "none", _span(target.times), "intended" if even else "differs", words)


def _compare_geometry(source: VideoFacts, target: VideoFacts, size: Size | None) -> Iterator[Finding]:
    shown = both(lambda video: "x".join(map(str, video.shown_size)), source, target)
    if size is not None:
        verdict: Verdict = "intended" if shown[1] == str(size) else "differs"
        yield Finding("size", shown[0], shown[1], verdict, f"{size} was asked for")
    else:
        yield Finding("size", *shown, "same" if shown[0] == shown[1] else "differs")
    has = both(lambda video: f"{video.shown_aspect.numerator}:{video.shown_aspect.denominator}", source, target)
    one, other = (video.shown_aspect * Fraction(*video.shown_size) for video in (source, target))
    if has[0] == has[1]:
        yield Finding("pixel aspect", *has, "same")
    elif size is not None and abs(one / other - 1) < Fraction(1, 100):
        yield Finding("pixel aspect", *has, "intended", "so that the frame keeps its shape")
    else:
        yield Finding("pixel aspect", *has, "differs")
    yield _compare_rotation(source, target)
    scans = both(lambda video: "interlaced" if video.interlaced else "progressive", source, target)
    verdict = "same" if scans[0] == scans[1] else "intended" if source.interlaced else "differs"
    yield Finding("scan", *scans, verdict, "deinterlaced" if verdict == "intended" else "")


def _compare_changes(source: VideoFacts, target: VideoFacts, time_map: TimeMap, other: Media) -> Iterator[Finding]:
    """Look for borders wherever the source has another shape than the target, which has one for all frames."""
    if len(source.shapes) < 2 or len(target.shapes) != 1 or time_map.cut:
        return
    shown = target.shapes[0][1]
    for begin, shape in source.shapes:
        if abs(shape / shown - 1) < Fraction(1, 20):
            continue
        wide, high = borders_at(other.path, begin - time_map.zero + time_map.shift)
        found, wanted = (wide, 1 - shape / shown) if shape < shown else (high, 1 - shown / shape)
        shapes = f"{float(shape):.2f}:1 from {float(begin):.3f} s", f"{float(shown):.2f}:1"
        kept = found > float(wanted) - 0.04
        words = "borders keep its shape" if kept else "squeezed: there are no borders"
        yield Finding("shape", *shapes, "intended" if kept else "differs", words)


def _compare_rotation(source: VideoFacts, target: VideoFacts) -> Finding:
    tags = both(lambda video: str(video.orientation), source, target)
    if source.orientation == target.orientation:
        return Finding("rotation", *tags, "same")
    if source.look is None or target.look is None:
        return Finding("rotation", *tags, "differs")
    # The tag may be gone because the pixels were turned: then the frame must still be the right side up.
    wanted, shown = source.orientation.turn(source.look), target.orientation.turn(target.look)
    ways = {
        (quarter, mirrored): _likeness(wanted, np.rot90(shown[:, ::-1] if mirrored else shown, quarter))
        for quarter in range(4)
        for mirrored in (False, True)
    }
    upright = ways[0, False]
    if upright >= max(ways.values()) and source.shown_size != target.shown_size[::-1]:
        return Finding("rotation", *tags, "intended", "the pixels themselves are turned upright")
    return Finding("rotation", *tags, "differs", "the frame is not the right side up")


def _likeness(one: Thumbnail, other: Thumbnail) -> float:
    """Correlation of two small frames, -1..1; 0 where one of them is flat."""
    a, b = (plane - plane.mean() for plane in (one, other))
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return round(float((a * b).sum()) / norm, 3) if norm else 0.0


# -- color ----------------------------------------------------------------------------------------


def _compare_color(source: VideoFacts, target: VideoFacts, other: Media) -> Iterator[Finding]:
    formats = (source.pixel_format, target.pixel_format)
    samples: Verdict = "same" if target.bits >= source.bits else "intended"
    yield Finding("samples", *formats, samples, "" if samples == "same" else "styles are made in 8 bits")
    mapped = source.tags.transfer in _HDR and target.tags.transfer not in _HDR and target.bits == 8
    expected, why = source.tags, ""
    if mapped:
        expected, why = ColorTags(1, 1, 1, 1), f"HDR ({_HDR[source.tags.transfer]}) is mapped to SDR"
    elif source.rgb and not target.rgb:
        expected, why = ColorTags(1, 1, 1, 1), "RGB is written as BT.709"
    for name in ("matrix", "range", "primaries", "transfer"):
        has, gets, wants = (int(getattr(tags, name)) for tags in (source.tags, target.tags, expected))
        verdict, words = _judge_tag(name, has, gets, wants, why, source)
        if verdict == "differs" and other.format in _RGB_ONLY:
            verdict, words = "intended", f"{other.format} is RGB"
        yield Finding(name, _tag(name, has), _tag(name, gets), verdict, words)
    if (source.chroma, target.chroma) != ("left", "left"):
        yield _compare_chroma(source, target, mapped=mapped)


def _compare_chroma(source: VideoFacts, target: VideoFacts, *, mapped: bool) -> Finding:
    has = (source.chroma, target.chroma)
    if source.chroma == target.chroma:
        return Finding("chroma location", *has, "same")
    moved = mapped or source.size != target.size or "420" not in source.pixel_format or "420" not in target.pixel_format
    words = "chroma is sampled again" if moved else "lost" if target.chroma == "left" else ""
    return Finding("chroma location", *has, "intended" if moved and target.chroma == "left" else "differs", words)


def _judge_tag(name: str, has: int, gets: int, wants: int, why: str, source: VideoFacts) -> tuple[Verdict, str]:
    unspecified = 0 if name == "range" else 2
    if gets == wants:
        return ("same", "") if has == gets else ("intended", why)
    if name == "range" and {has, gets} == {unspecified, 1}:
        return "same", "unspecified is tv"
    if why:
        return "differs", f"{why}, but not tagged so"
    if has == unspecified:
        # Saying what every player assumes is no change; saying something else is.
        meant = Color.from_tags(source.tags, Size(*source.size)).matrix
        said = {1: "bt709", 5: "bt601", 6: "bt601", 9: "bt2020", 10: "bt2020"}.get(gets)
        agrees = said == meant or (name == "transfer" and gets in (1, 6, 14, 15)) or name == "range"
        return ("intended", f"untagged; {meant} assumed") if agrees and name != "range" else ("differs", "")
    if name == "matrix" and {has, gets} == {5, 6}:
        return "intended", "the same numbers under two names"
    return "differs", "lost" if gets == unspecified else ""


def _tag(name: str, number: int) -> str:
    return _NAMES[name].get(number, "unspecified" if number == (0 if name == "range" else 2) else str(number))


def _compare_alpha(source: VideoFacts, target: VideoFacts, wanted: list[int], other: Media) -> Finding:
    has = both(lambda video: "none" if video.opaque else "transparent", source, target)
    if source.opaque or target.opaque:
        verdict: Verdict = "same" if source.opaque == target.opaque else "differs"
        lost = verdict == "differs" and not source.opaque
        return Finding("alpha", *has, verdict, "lost: write .mov, .webm, .apng or .webp to keep it" if lost else "")
    pairs = [
        (source.orientation.turn(source.alpha[number]), target.orientation.turn(alpha))
        for number, alpha in zip(wanted, target.alpha, strict=False)
        if number < len(source.alpha)
    ]
    worst_cell = max((int(np.abs(a.astype(int) - b.astype(int)).max()) for a, b in pairs), default=0)
    if worst_cell <= _ALPHA_DEVIATION:
        return Finding("alpha", *has, "same", f"within {worst_cell} of 255 levels")
    if other.format == "gif":
        return Finding("alpha", *has, "intended", "a pixel of GIF is transparent or it is not")
    return Finding("alpha", *has, "differs", f"opacity is up to {worst_cell} of 255 levels off")


def _span(times: list[Fraction]) -> str:
    return f"{float(times[0]):.3f} .. {float(times[-1]):.3f} s" if times else "none"


def _ms(seconds: Fraction) -> str:
    return f"{float(seconds) * 1000:.3g} ms"

"""Frames that are not as the others: fields, another size, other colors, HDR. All become what the reader promised.

FFmpeg's filters do the work; a frame that is as it should be passes without a copy.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
from av.filter import Graph

from rtstyle.frame import Color, ColorTags, Matrix, Size
from rtstyle.video.samples import color_of, fraction_of, frame_has_alpha
from rtstyle.video.tone import HLG, PQ, peak_of, write_table

_NAMES: dict[Matrix, str] = {"bt601": "bt601", "bt709": "bt709", "bt2020": "bt2020"}
"""Matrices in the words of FFmpeg's scale filter."""

_INTERLACED = "it is interlaced: deinterlaced (bwdif), one frame for each two fields"

_MOST_CONVERTERS = 4
"""Kinds of frames for which filters are kept ready."""

_SAME_SHAPE = 0.02
"""By how much the aspect ratio of frames may differ before they get borders."""

_SCALER = "lanczos+accurate_rnd+full_chroma_inp"

Key = tuple[str, int, int, int, int, int, int, Fraction]


class Shaper:
    """Makes the frames of a stream alike: progressive, of one size, one matrix, one range, SDR.

    Each frame that comes out depends on itself, the one before and the one behind it only, so that a
    stream that is entered in the middle gives the same frames as one that is read from its start.

    Args:
        first: The first frame of the stream.
        size: What all shall have; None keeps that of ``first``.

    Attributes:
        size, color: What all frames have that come out.
        notes: What was done to them, in words; grows.
    """

    def __init__(self, first: av.VideoFrame, size: Size | None) -> None:
        own = Size(first.width, first.height)
        self.size = size or own
        self.color = sdr_color_of(first, own)
        self.notes: list[str] = []
        self._alpha = frame_has_alpha(first)
        self._peak = peak_of(first)
        plain = self.size == own and first.color_trc not in (PQ, HLG)
        self.plain = plain
        """Frames like the first come out as they are."""
        self._key: Key | None = _key_of(first) if plain else None
        self._first_key = _key_of(first)
        self._converters: dict[Key, _Chain] = {}
        self._fields: _Chain | None = None
        self._fields_key: Key | None = None
        self._before: av.VideoFrame | None = None
        self._skip: int | None = None
        if first.interlaced_frame:
            self._note(_INTERLACED)
        self._say_hdr(first)

    def push(self, av_frame: av.VideoFrame) -> Iterator[av.VideoFrame]:
        """Take a frame and yield those that are ready, in order and at their own times."""
        key = _key_of(av_frame)
        if self._fields is None:
            if not av_frame.interlaced_frame:
                self._before = av_frame
                yield av_frame if key == self._key else self._convert(av_frame, key)
                return
            self._note(_INTERLACED)
        if self._fields is not None and key != self._fields_key:
            yield from self.flush()
        if self._fields is None:
            self._fields = _Chain(av_frame, [("bwdif", {"mode": "send_frame", "deint": "interlaced"})])
            self._fields_key = key
            if self._before is not None and _key_of(self._before) == key:
                # It went out already; the filter looks at it to fill this one's missing lines.
                self._skip = self._before.pts
                self._fields.push(self._before)
            else:
                self._skip = None
        assert self._fields is not None
        self._before = av_frame
        yield from self._ready(self._fields.push(av_frame))

    def _ready(self, av_frames: list[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        for av_frame in av_frames:
            if self._skip is not None and av_frame.pts == self._skip:
                continue
            key = _key_of(av_frame)
            yield av_frame if key == self._key else self._convert(av_frame, key)

    def flush(self) -> Iterator[av.VideoFrame]:
        """Yield what is still held back."""
        if self._fields is not None:
            av_frames, self._fields = self._fields.flush(), None
            yield from self._ready(av_frames)

    def forget(self) -> None:
        """Be ready for the stream from another place on."""
        self._fields = self._before = None

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def _convert(self, av_frame: av.VideoFrame, key: Key) -> av.VideoFrame:
        chain = self._converters.get(key)
        if chain is None:
            self._say_what_differs(av_frame, key)
            if len(self._converters) >= _MOST_CONVERTERS:  # a damaged stream may change with every frame
                self._converters.clear()
            chain = self._converters[key] = self._converter(av_frame)
        (converted,) = chain.push(av_frame)
        return converted

    def _say_hdr(self, av_frame: av.VideoFrame) -> None:
        if av_frame.color_trc in (PQ, HLG):
            name = "PQ" if av_frame.color_trc == PQ else "HLG"
            self._note(f"it is HDR ({name}): mapped to SDR, BT.709")

    def _say_what_differs(self, av_frame: av.VideoFrame, key: Key) -> None:
        self._say_hdr(av_frame)
        if key == self._first_key:
            return
        seconds = float((av_frame.pts or 0) * (av_frame.time_base or 0))
        if key[1:3] != self._first_key[1:3]:
            own = Size(av_frame.width, av_frame.height)
            borders = "" if self._inner(av_frame) == self.size else ", with borders, so that they keep their shape"
            self._note(f"its frames change to {own} at {seconds:.1f} s: scaled to {self.size} like the first{borders}")
        elif key[7] != self._first_key[7]:
            shape = f"{key[7].numerator}:{key[7].denominator}"
            self._note(
                f"the shape of its pixels changes to {shape} at {seconds:.1f} s: borders keep the shape of its frames"
            )
        if key[3:5] != self._first_key[3:5]:
            self._note(f"its color tags change at {seconds:.1f} s: converted to those of the first frame")

    def _inner(self, av_frame: av.VideoFrame) -> Size:
        """Return how large a frame is inside of ``size`` if it is to keep its shape."""
        key = _key_of(av_frame)
        if key[1:3] == self._first_key[1:3] and key[7] == self._first_key[7]:
            return self.size
        shown = av_frame.width * key[7] / av_frame.height
        _, width, height, *_, aspect = self._first_key
        wide = width * aspect / height
        if abs(shown / wide - 1) < _SAME_SHAPE:
            return self.size
        if shown < wide:
            return Size(max(2, round(self.size.width * shown / wide / 2) * 2), self.size.height)
        return Size(self.size.width, max(2, round(self.size.height * wide / shown / 2) * 2))

    def _converter(self, av_frame: av.VideoFrame) -> _Chain:
        own = Size(av_frame.width, av_frame.height)
        source = Color.from_tags(color_of(av_frame, own).tags, own) if av_frame.color_trc in (PQ, HLG) else None
        read = source or color_of(av_frame, own)
        rgb = av_frame.format.is_rgb
        incoming = {} if rgb else {"in_color_matrix": _NAMES[read.matrix], "in_range": _range_name(read)}
        outgoing = {"out_color_matrix": _NAMES[self.color.matrix], "out_range": _range_name(self.color)}
        inner = self._inner(av_frame)
        size = {"w": str(inner.width), "h": str(inner.height), "flags": _SCALER}
        end = [("format", {"pix_fmts": "yuva420p" if self._alpha else "yuv420p"})]
        if inner != self.size:
            left, top = ((outer - side) // 4 * 2 for outer, side in _sides(self.size, inner))
            place = {"w": str(self.size.width), "h": str(self.size.height), "x": str(left), "y": str(top)}
            end.append(("pad", place))
        if source is None:
            return _Chain(av_frame, [("scale", size | incoming | outgoing), *end])
        with tempfile.TemporaryDirectory() as folder:
            table = Path(folder) / "tone.cube"
            write_table(table, transfer=av_frame.color_trc, peak=self._peak)
            return _Chain(
                av_frame,
                [
                    ("scale", size | incoming),
                    ("format", {"pix_fmts": "gbrap12" if self._alpha else "gbrp12"}),
                    ("lut3d", {"file": os.fspath(table), "interp": "tetrahedral"}),
                    ("scale", {"flags": _SCALER} | outgoing),
                    *end,
                ],
            )


def _sides(outer: Size, inner: Size) -> tuple[tuple[int, int], tuple[int, int]]:
    return (outer.width, inner.width), (outer.height, inner.height)


def sdr_color_of(av_frame: av.VideoFrame, size: Size) -> Color:
    """Return what a frame's samples mean when HDR is mapped away."""
    if av_frame.color_trc in (PQ, HLG):
        return Color("bt709", full_range=False, tags=ColorTags(1, 1, 1, 1))
    return color_of(av_frame, size)


def _key_of(av_frame: av.VideoFrame) -> Key:
    return (
        av_frame.format.name,
        av_frame.width,
        av_frame.height,
        av_frame.colorspace,
        av_frame.color_range,
        av_frame.color_primaries,
        av_frame.color_trc,
        aspect_of(av_frame),
    )


def aspect_of(av_frame: av.VideoFrame) -> Fraction:
    """Return the width of a pixel over its height as the stream says, 1 where it does not."""
    return av_frame.opaque if isinstance(av_frame.opaque, Fraction) else Fraction(1)


def _range_name(color: Color) -> str:
    return "full" if color.full_range else "limited"


class _Chain:
    """Filters of FFmpeg one behind the other, for frames that are all like ``like``."""

    def __init__(self, like: av.VideoFrame, filters: list[tuple[str, dict[str, str]]]) -> None:
        self._base = fraction_of(like.time_base) or Fraction(1)
        self._opaque = like.opaque
        graph = self._graph = Graph()
        space = "" if like.format.is_rgb else f":colorspace={int(like.colorspace)}"
        nodes = [
            graph.add(
                "buffer",
                f"video_size={like.width}x{like.height}:pix_fmt={like.format.name}:time_base={self._base}"
                f"{space}:range={int(like.color_range)}",
            )
        ]
        for name, options in filters:
            nodes.append(graph.add(name, None, **options))
        graph.link_nodes(*nodes, graph.add("buffersink"))
        graph.configure()

    def push(self, av_frame: av.VideoFrame | None) -> list[av.VideoFrame]:
        """Take a frame (None: the end) and return those that are ready."""
        self._graph.vpush(av_frame)
        ready: list[av.VideoFrame] = []
        with suppress(av.error.BlockingIOError, av.error.EOFError):
            while True:
                made = self._graph.vpull()
                if made.pts is not None:
                    # Some filters count time in finer units than the stream.
                    made.pts = int(made.pts * (fraction_of(made.time_base) or self._base) / self._base)
                made.time_base = self._base
                made.opaque = self._opaque
                ready.append(made)
        return ready

    def flush(self) -> list[av.VideoFrame]:
        """Return what is still held back; nothing may be pushed any more."""
        return self.push(None)

"""Frames of 256 colors, for GIF: palettes that last for a while, so that what stands still stays the same."""

from __future__ import annotations

import av
from av.filter import Graph

from rtstyle.frame import Size

_FRAMES, _BYTES = 100, 128 * 2**20


class Palette:
    """Turns frames in BGRA into such with a palette, by FFmpeg's palettegen and paletteuse.

    A palette is made for up to 100 frames in a row (fewer of large ones: they wait in memory, up to
    128 MiB). One for each frame is hardly better, and the files were four times as large, because even
    what did not move changed its numbers. Ordered dithering stands still, too. Pixels with less than half
    opacity become transparent.
    """

    def __init__(self, size: Size) -> None:
        self._size = size
        self._limit = max(2, min(_FRAMES, _BYTES // (4 * size.width * size.height)))
        self._graph: Graph | None = None
        self._waiting = 0

    def push(self, av_frame: av.VideoFrame | None) -> list[av.VideoFrame]:
        """Take a frame with a time in 1/100 s, None at the end; return those that are ready."""
        if av_frame is not None:
            self._graph = self._graph or self._new_graph()
            self._graph.push(av_frame)
            self._waiting += 1
        if self._graph is None or (av_frame is not None and self._waiting < self._limit):
            return []
        graph, self._graph, self._waiting = self._graph, None, 0
        graph.push(None)
        ready: list[av.VideoFrame] = []
        while True:
            try:
                indexed = graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return ready
            assert isinstance(indexed, av.VideoFrame)
            ready.append(indexed)

    def _new_graph(self) -> Graph:
        graph = Graph()
        source = graph.add(
            "buffer", f"video_size={self._size}:pix_fmt=bgra:time_base=1/100:pixel_aspect=1/1:colorspace=gbr:range=pc"
        )
        split, sink = graph.add("split"), graph.add("buffersink")
        generate = graph.add("palettegen", "stats_mode=full:reserve_transparent=1")
        use = graph.add("paletteuse", "dither=bayer:bayer_scale=4:diff_mode=rectangle:alpha_threshold=128")
        source.link_to(split)
        split.link_to(generate, 0, 0)
        split.link_to(use, 1, 0)
        generate.link_to(use, 0, 1)
        use.link_to(sink)
        graph.configure()
        return graph

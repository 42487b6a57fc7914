"""One machine for several visitors: the latest frame of each, one after the other, with engines kept for later."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from typing import Literal, Self

from rtstyle.backends import Controls, Engine
from rtstyle.canvas.follower import Follow, SceneFollower
from rtstyle.errors import RtstyleError
from rtstyle.frame import Frame, Size
from rtstyle.mask.mix import FrameMask, Mixer
from rtstyle.mask.opening import open_mask
from rtstyle.mask.settings import MaskSettings
from rtstyle.web.jpeg import JPEG_COLOR, JpegDecoder, JpegError, encode_jpeg, jpeg_size
from rtstyle.web.protocol import MAX_PIXELS, SIZES, Reply, Request

QUALITY = 85
"""Of the stylized JPEGs."""

_UNSENT = 2
"""Answers of one visitor that are made or being sent; a slow line gets fewer frames instead of a queue."""

_DECODING = 0.2
"""Seconds of CPU time that one frame may take to decode; the largest takes 0.02."""

_MICROSECOND = Fraction(1, 1_000_000)

Post = Callable[[Literal["reply", "say", "bad"], "Reply | str"], None]
"""Takes what a visitor is to get: a Reply; a line; or what was wrong with a frame. Called in the worker's thread."""


class Visitor:
    """What is kept of one visitor. Belongs to the ``Share``; others read the counts only."""

    def __init__(self, post: Post, follow: Follow) -> None:
        self.frames = 0
        """Frames that were stylized."""
        self.dropped = 0
        """Frames that a newer one replaced before their turn."""
        self._post = post
        self._slot: tuple[Request, float] | None = None
        self._unsent = 0
        self._tag = 0.0  # seconds of the machine, see Share
        self._style: int | None = None  # the one that was used last
        self._told: set[int] = set()
        self._decoder = JpegDecoder(MAX_PIXELS)
        self._scene = SceneFollower(follow=follow)
        self._size: Size | None = None
        self._mask: tuple[str | None, FrameMask | None] | None = None
        self._mixer = Mixer()


class Engines:
    """Engines by style and size, the least recently used closed first. Used by one thread; made in another."""

    def __init__(self, make: Callable[[int, Size], Engine], room: int) -> None:
        self.failed: dict[tuple[int, Size], str] = {}
        """Why an engine cannot be made; it is not tried again."""
        self._make, self._room = make, room
        self._ready: OrderedDict[tuple[int, Size], Engine] = OrderedDict()
        self._making: tuple[tuple[int, Size], Future[Engine]] | None = None
        self._pool = ThreadPoolExecutor(1, "style")

    def get(self, style: int, size: Size) -> Engine | None:
        """Return an engine, or None while there is none; then it is being made, or will be when asked again."""
        self._adopt()
        key = (style, size)
        if key in self._ready:
            self._ready.move_to_end(key)
            return self._ready[key]
        if self._making is None and key not in self.failed:
            self._making = (key, self._pool.submit(self._make, style, size))
        return None

    def put(self, style: int, size: Size, engine: Engine) -> None:
        """Take over an engine."""
        self._ready[style, size] = engine
        while len(self._ready) > self._room:
            self._ready.popitem(last=False)[1].close()

    def fail(self, style: int, size: Size, reason: str) -> None:
        """Close an engine that failed."""
        self.failed[style, size] = reason
        self._ready.pop((style, size)).close()

    def _adopt(self) -> None:
        if self._making is None or not self._making[1].done():
            return
        (key, future), self._making = self._making, None
        try:
            self.put(*key, future.result())
        except RtstyleError as error:
            self.failed[key] = str(error)

    def close(self) -> None:
        """Wait for the one that is being made, and close all."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._adopt()
        for engine in self._ready.values():
            engine.close()
        self._ready.clear()


class Share:
    """Stylizes for all visitors in one thread. A context manager.

    Whose frame waits and who has had the least of the machine is next, so that one with large frames gets
    fewer of them; among equals that is one after the other. Who was away does not catch up (start-time fair queueing:
    Goyal, Vin and Cheng 1996). Each visitor has one waiting frame, the latest.

    Args:
        make: Opens a warm engine for the style of that place in the list, and a size.
        first: Place of a style, and an engine for it that exists already.
        room: Engines that are kept.
        follow: What strokes follow; flow for a visitor alone, and else the camera.
        fail: Called with what ended the worker, where that is none of the errors that are foreseen.
        keep_face: Weaken the style on faces.
    """

    def __init__(
        self,
        make: Callable[[int, Size], Engine],
        first: tuple[int, Engine],
        *,
        room: int,
        fail: Callable[[BaseException], None],
        follow: Follow = "auto",
        keep_face: bool = False,
    ) -> None:
        self._engines = Engines(make, room)
        place, engine = first
        self._engines.put(place, engine.size, engine)
        self._fail, self._follow, self._keep_face = fail, follow, keep_face
        self._visitors: list[Visitor] = []
        self._clock = 0.0  # the tag of the visitor whose turn it is
        self._changed = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._work, name="stylize", daemon=True)

    @property
    def visitors(self) -> Sequence[Visitor]:
        """Who is here."""
        return tuple(self._visitors)

    def join(self, post: Post) -> Visitor:
        """Add a visitor."""
        visitor = Visitor(post, self._follow)
        with self._changed:
            self._visitors.append(visitor)
        return visitor

    def leave(self, visitor: Visitor) -> None:
        """Forget a visitor and what waits."""
        with self._changed:
            self._visitors.remove(visitor)
            visitor._slot = None

    def offer(self, visitor: Visitor, request: Request) -> None:
        """Take a visitor's latest frame; one that still waits is forgotten."""
        with self._changed:
            visitor.dropped += visitor._slot is not None
            visitor._slot = (request, time.perf_counter())
            visitor._tag = max(visitor._tag, self._clock)
            self._changed.notify()

    def sent(self, visitor: Visitor) -> None:
        """Note that a reply has left."""
        with self._changed:
            visitor._unsent -= 1
            self._changed.notify()

    def _work(self) -> None:
        try:
            while (turn := self._next()) is not None:
                begin = time.perf_counter()
                self._serve(*turn)
                turn[0]._tag += time.perf_counter() - begin
        except BaseException as error:
            self._fail(error)

    def _next(self) -> tuple[Visitor, Request, float] | None:
        """Wait for the next turn; None when it is over."""
        with self._changed:
            while not self._over:
                waiting = [v for v in self._visitors if v._slot and v._unsent < _UNSENT]
                if waiting:
                    visitor = min(waiting, key=lambda v: v._tag)
                    assert visitor._slot
                    (request, arrived), visitor._slot = visitor._slot, None
                    self._clock = visitor._tag
                    return visitor, request, arrived
                self._changed.wait()
            return None

    def _serve(self, visitor: Visitor, request: Request, arrived: float) -> None:
        try:
            size = jpeg_size(request.jpeg)
            if size not in SIZES:
                raise JpegError(f"{size} is none of the sizes that are taken")
            style, engine = self._engine(visitor, request.style, size)
            jpeg = b"" if engine is None else self._stylized(visitor, request, size, engine)
        except JpegError as error:
            visitor._post("bad", str(error))
            return
        except RtstyleError as error:  # a GPU that failed
            self._engines.fail(style, size, str(error))
            visitor._post("say", str(error))
            jpeg = b""
        visitor._style = style if jpeg else visitor._style
        visitor.frames += bool(jpeg)
        with self._changed:
            visitor._unsent += 1
        spent = round(1e6 * (time.perf_counter() - arrived))
        visitor._post("reply", Reply(request.number, style, request.controls, spent, jpeg))

    def _engine(self, visitor: Visitor, style: int, size: Size) -> tuple[int, Engine | None]:
        """Return the requested style and its engine, or what the visitor had before while that one is not there."""
        engine = self._engines.get(style, size)
        failed = self._engines.failed.get((style, size))
        if failed and style not in visitor._told:
            visitor._told.add(style)
            visitor._post("say", failed)
        if engine is None and visitor._style not in (None, style):
            earlier = self._engines.get(visitor._style, size)
            if earlier is not None:
                return visitor._style, earlier
        return style, engine

    def _stylized(self, visitor: Visitor, request: Request, size: Size, engine: Engine) -> bytes:
        begin = time.thread_time()
        planes = visitor._decoder.decode(request.jpeg)
        if time.thread_time() - begin > _DECODING:
            raise JpegError("it takes too long to decode")
        if request.controls == Controls(0, 0):
            return request.jpeg  # as it came, which no second encoding would be
        if size != visitor._size:
            visitor._size, visitor._scene = size, SceneFollower(follow=self._follow)
            visitor._mask = None
        visitor._scene.flowing = len(self._visitors) == 1
        frame = visitor._scene.follow(Frame(planes, request.number, _MICROSECOND, JPEG_COLOR))
        engine.submit(frame, request.controls)
        stylized = engine.next()
        if visitor._mask is None or request.mask != visitor._mask[0]:
            visitor._mask = request.mask, self._open_mask(visitor, request.mask, size)
        if visitor._mask[1] is not None:
            seconds = Fraction(time.monotonic()).limit_denominator(1000)
            stylized = visitor._mixer.mix(frame, stylized, visitor._mask[1].at(frame, seconds))
        return encode_jpeg(stylized, QUALITY)

    def _open_mask(self, visitor: Visitor, word: str | None, size: Size) -> FrameMask | None:
        """Return the mask that a visitor asks for; None: none, or it cannot be had, as a line says."""
        try:
            return open_mask(MaskSettings(source=word, keep_face=self._keep_face), size)
        except RtstyleError as error:
            visitor._post("say", str(error))
            return None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._over = True
            self._changed.notify()
        self._thread.join()
        self._engines.close()

"""The unit of work that can be rendered anywhere: some consecutive segments of one output.

A job names everything that decides the bytes of its result, in JSON's types, and nothing else: no output, no journal,
no lock. So it may run on any machine that sees the input, again where the first attempt failed, and twice at the same
time.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from itertools import repeat
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from rtstyle import __version__
from rtstyle.backends import Controls, EngineSettings
from rtstyle.canvas.carry import Step, read_steps
from rtstyle.canvas.follower import resolved
from rtstyle.canvas.tracker import FIELD, FLOW, TrackerState
from rtstyle.errors import SettingError, VideoOpenError
from rtstyle.frame import Frame, Planes, Size
from rtstyle.mask.settings import MaskSettings
from rtstyle.render.automation import PlannedAutomation
from rtstyle.render.journal import Checkpoint, Segment
from rtstyle.render.masks import PlannedMask, plan_mask
from rtstyle.render.plan import RenderPlan
from rtstyle.render.resume import digest_of, identity_of
from rtstyle.style import SizeClass, Style, read_style_json
from rtstyle.video import ReaderSettings, VideoReader
from rtstyle.video.encoder import THREADS
from rtstyle.video.formats import Encoding
from rtstyle.video.samples import planes_digest


@dataclass(frozen=True, kw_only=True)
class SegmentJob:
    """Some consecutive segments of one output, or all of them; every field holds JSON's types."""

    source: str
    """Absolute path of the input, or its pattern."""
    identity: dict[str, Any]
    """What distinguishes the input from others, see ``identity_of``."""
    reading: dict[str, Any]
    """What of the input is read, and how: arguments of ``VideoReader``, and ``upright``."""
    style: dict[str, Any]
    """Name, size class, folders with their shares, and a digest of the weights."""
    strength: list[float]
    """Of luma and chroma."""
    mask: dict[str, Any]
    """Of ``MaskSettings``, and what distinguishes it from others (``identity``); empty: none."""
    automation: dict[str, Any]
    """Keyframes, and ``styles`` as ``style`` describes one, by name; empty: nothing changes."""
    engine: dict[str, Any]
    """Of ``EngineSettings``; neither backend nor precision is ``auto``."""
    follow: str
    encoding: dict[str, Any]
    threads: int
    """Of the encoder."""
    versions: dict[str, str]
    """Of the libraries that decide the result."""
    canned: dict[str, str]
    """What engine and encoder make of known frames, see ``Renderer.canned``; empty: it is not compared."""
    every: int
    """Frames of a segment."""
    first: int = 0
    """Frames of the output before this job's first."""
    frames: int | None = None
    """Frames of this job; None: all to the end of the input."""
    after: list[Any] | None = None
    """Pts and digest of the frame before the first one; None: there is none."""
    canvas: str = ""
    """What ``canvas_text`` made of the follower's state before the first frame; empty: it begins."""
    places: list[list[int]] | None = None
    """Offset of each frame on the canvas, (x, y) in pixels; None: the job finds it itself."""
    steps: str = ""
    """What was found of each frame where places are given and flow is followed, see ``steps_text``."""
    hands_over: bool = False
    """Whether the pieces of the result say where the render stands after them, for the next job to begin there; then
    ``canvas`` holds all of the follower's state, and fewer than ``frames`` mean that the input has ended."""

    def to_json(self) -> str:
        """Return the job as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> SegmentJob:
        """Read what ``to_json`` returned."""
        return cls(**json.loads(text))

    @property
    def segments(self) -> int:
        """How many segments it makes, where the number of frames is known; else 1."""
        return -(-self.frames // self.every) if self.frames else 1

    def open_reader(self) -> VideoReader:
        """Open the input.

        Raises:
            VideoOpenError: It cannot be read, or is another one.
        """
        reading = self.reading
        start, end = (None if reading[name] is None else Fraction(reading[name]) for name in ("start", "end"))
        reader = VideoReader(
            self.source,
            start=start,
            end=end,
            size=Size.parse(reading["size"]) if reading["size"] else None,
            settings=ReaderSettings(**reading["settings"]),
        )
        try:
            reader.keep_packets = False
            reader.packets.clear()
            if identity_of(reader.files) != self.identity:
                raise VideoOpenError(f"{self.source} is another file here than where the render was begun")
            if reading["upright"]:
                reader.turn_upright()
        except BaseException:
            reader.close()
            raise
        return reader

    def settings(self) -> EngineSettings:
        """Return the engine's settings."""
        return EngineSettings(**self.engine)

    def controls(self) -> Controls:
        """Return the engine's controls."""
        return Controls(*self.strength)

    def mask_settings(self) -> MaskSettings:
        """Return the settings of the mask.

        Raises:
            VideoOpenError: Its file is missing or another one here.
        """
        if not self.mask:
            return MaskSettings()
        settings = MaskSettings(**{name: self.mask[name] for name in ("source", "feather", "keep_face")})
        try:
            found = plan_mask(settings, None).identity
        except SettingError as error:
            raise VideoOpenError(str(error)) from error
        if found != self.mask["identity"]:
            raise VideoOpenError(f"the mask {settings.source} is another file here than where the render was begun")
        return settings

    def encode_as(self) -> Encoding:
        """Return how the segments are encoded."""
        return Encoding(**{**self.encoding, "notes": tuple(self.encoding["notes"])})


def describe_style(style: Style) -> dict[str, Any]:
    """Return name, size class, folders with their shares, and a digest of the weights of a style, in JSON's types."""
    return {
        "name": style.name,
        "size_class": style.size_class,
        "folders": [[_place_of(folder), share] for folder, share in style.folders],
        "digest": digest_of(style),
    }


def open_style(told: dict[str, Any]) -> Style:
    """Return the style that ``describe_style`` described, whose weights may be others here.

    Raises:
        StyleFormatError: The folder is missing or damaged.
    """
    folders = tuple((_folder_of(place), float(share)) for place, share in told["folders"])
    metadata = read_style_json(max(folders, key=lambda pair: pair[1])[0])
    assert told["size_class"] in get_args(SizeClass)
    return Style(told["name"], folders, metadata, told["size_class"])


@dataclass(frozen=True)
class Stand:
    """Where a render stands after a segment of a job, in JSON's types; a ``Checkpoint`` without what lies before."""

    pts: int
    digest: str
    damaged: int
    """Of the frames of this job up to here."""
    canvas: str
    """All of the follower's state, see ``state_text``; empty but for the last segment: it is megabytes."""

    @classmethod
    def after(cls, frame: Frame, state: TrackerState | None, damaged: int) -> Stand:
        """Return where a render stands after a frame."""
        return cls(frame.pts, planes_digest(frame.planes), damaged, state_text(state) if state else "")

    def checkpoint(self, frames: int, damaged: int) -> Checkpoint:
        """Return the checkpoint.

        Args:
            frames: Of the output up to here.
            damaged: Frames that were found to be missing or faulty before the job.
        """
        canvas = canvas_state(self.canvas) if self.canvas else None
        return Checkpoint(frames, self.pts, self.digest, damaged + self.damaged, canvas)


@dataclass(frozen=True)
class Piece:
    """One segment that was rendered."""

    segment: Segment
    data: bytes
    """Its packets."""
    fingerprint: str
    """Of the source's frames, see ``Fingerprint``."""
    captions_lost: int
    """Frames whose captions the codec cannot carry."""
    stand: Stand | None = None
    """Where the render stands after it; None: the job did not ask for it, or the segment is shorter than others."""


@dataclass(frozen=True)
class SegmentResult:
    """What became of a job."""

    pieces: tuple[Piece, ...]
    damaged: int
    """Frames of the input that were found to be missing or faulty in this job."""
    ended: str
    """When the last frame stops being shown, in seconds of the output, as a fraction."""
    notes: list[str]
    """What is lost on the way in."""
    seconds: float
    stages: dict[str, float]
    """Milliseconds per frame by stage."""

    @property
    def frames(self) -> int:
        """Frames in all pieces."""
        return sum(len(piece.segment.pts) for piece in self.pieces)

    def to_parts(self) -> tuple[dict[str, Any], list[bytes]]:
        """Return the result as JSON's types, and the pieces' data."""
        told = asdict(self)
        for piece in told["pieces"]:
            del piece["data"]
        return told, [piece.data for piece in self.pieces]

    @classmethod
    def from_parts(cls, told: dict[str, Any], data: list[bytes]) -> SegmentResult:
        """Read what ``to_parts`` returned."""
        pieces = []
        for piece, packets in zip(told["pieces"], data, strict=True):
            segment = dict(piece["segment"])
            segment["packets"] = [(number, size, key) for number, size, key in segment["packets"]]
            stand = Stand(**piece["stand"]) if piece["stand"] else None
            pieces.append(Piece(Segment(**segment), packets, piece["fingerprint"], piece["captions_lost"], stand))
        return cls(**{**told, "pieces": tuple(pieces)})


class Fingerprint:
    """Distinguishes the frames of a segment from others, in a hundredth of a digest's time: sums of rows."""

    def __init__(self) -> None:
        self._value = 0

    def add(self, planes: Planes, pts: int) -> None:
        """Take one more frame."""
        from zlib import crc32

        value = crc32(str(pts).encode(), self._value)
        for plane in planes:
            words = plane.shape[1] // 8 * 8
            sums = plane[:, words:].sum(1, np.uint64)
            if words and plane.strides[1] == 1:
                sums += plane[:, :words].view(np.uint64).sum(1, np.uint64)
            elif words:
                sums += np.ascontiguousarray(plane[:, :words]).view(np.uint64).sum(1, np.uint64)
            value = crc32(sums.tobytes(), value)
        self._value = value

    def text(self) -> str:
        """Return the fingerprint of all frames so far."""
        return f"{self._value:08x}"


def canvas_text(state: TrackerState) -> str:
    """Return what a job needs of a follower's state: not the tracker's frames, since the job has their offsets."""
    arrays = {name: array for name, array in state.arrays.items() if name.startswith((FIELD, FLOW))}
    return state_text(replace(state, arrays=arrays))


def state_text(state: TrackerState) -> str:
    """Return all of a follower's state as text."""
    return base64.b64encode(state.dump()).decode()


def canvas_state(text: str) -> TrackerState:
    """Read what ``canvas_text`` or ``state_text`` returned."""
    return TrackerState.parse(base64.b64decode(text))


def steps_text(steps: bytes) -> str:
    """Return what a job holds of consecutive ``Step.dump``: all that its canvas maps follow from."""
    return base64.b64encode(steps).decode()


def steps_of(job: SegmentJob, size: Size) -> Iterator[Step | None]:
    """Yield what was found of each of a job's frames, where that is known."""
    if not job.steps:
        return repeat(None)
    return read_steps(base64.b64decode(job.steps), (size.height, size.width))


def job_of(plan: RenderPlan, engine: EngineSettings) -> SegmentJob:
    """Return the job that renders all of a plan; those of its parts are made of it by ``replace``.

    Args:
        engine: The plan's settings with backend and precision made definite.
    """
    reader, options, style = plan.reader, plan.options, plan.style
    source = Path(plan.source).absolute()
    return SegmentJob(
        source=str(source),
        identity=identity_of(reader.files),
        reading={
            "start": None if options.start is None else str(options.start),
            "end": None if options.end is None else str(options.end),
            "size": str(options.size) if options.size else None,
            "settings": {
                "hwaccel": options.hwaccel,
                "timeout": options.timeout,
                "playlists": options.playlists,
            },
            "upright": reader.upright,
        },
        style=describe_style(style),
        strength=[plan.controls.luma, plan.controls.chroma],
        mask=_mask_of(plan.mask),
        automation=_automation_of(plan.automation),
        engine=asdict(engine),
        follow=resolved(options.follow),
        encoding=asdict(plan.encoding) | {"notes": []},
        threads=THREADS,
        versions=versions(engine.backend),
        canned={},
        every=plan.segment_frames,
    )


def _mask_of(mask: PlannedMask) -> dict[str, Any]:
    settings = mask.settings
    if not settings:
        return {}
    source = str(settings.path.absolute()) if settings.path else settings.found
    told = {"source": source, "feather": settings.feather, "keep_face": settings.keep_face}
    return told | {"identity": mask.identity}


def _automation_of(planned: PlannedAutomation) -> dict[str, Any]:
    if not planned:
        return {}
    return planned.automation.to_json() | {"styles": {name: describe_style(style) for name, style in planned.styles}}


def versions(backend: str) -> dict[str, str]:
    """Return the versions of everything that decides what a job's result is."""
    import av

    packages = {"openvino": "openvino", "onnxruntime": "onnxruntime", "torch": "torch"}
    found = {"rtstyle": __version__, "av": av.__version__}
    for name, numbers in av.library_versions.items():
        found[name] = ".".join(map(str, cast(tuple[int, ...], numbers)))
    if backend in packages:
        try:
            found[backend] = version(packages[backend])
        except PackageNotFoundError:
            found[backend] = "none"
    return found


def _shipped() -> Path:
    return Path(str(files("rtstyle") / "styles"))


def _place_of(folder: Path) -> str:
    """Return how other machines find a style's folder: shipped ones by name, others by their absolute path."""
    folder = folder.absolute()
    return folder.relative_to(_shipped()).as_posix() if folder.is_relative_to(_shipped()) else str(folder)


def _folder_of(place: str) -> Path:
    return _shipped() / place  # an absolute path stays what it is

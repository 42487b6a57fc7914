"""What is decided before a render begins: input, container, encoding, other streams, what is resumed."""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtstyle import __version__
from rtstyle.backends import Controls, EngineSettings
from rtstyle.backends.engine import network_size
from rtstyle.canvas.follower import Follow, resolved
from rtstyle.closing import Closing
from rtstyle.errors import SettingError
from rtstyle.frame import Size
from rtstyle.interrupts import signals_held
from rtstyle.mask.settings import MaskSettings
from rtstyle.memory import memory_available, refuse_too_large
from rtstyle.render.automation import PlannedAutomation, plan_automation
from rtstyle.render.masks import PlannedMask, plan_mask
from rtstyle.render.resume import digest_of, identity_of, refuse_other, same_encoding, same_engine
from rtstyle.settings import check_types
from rtstyle.style import Style, load_style

if TYPE_CHECKING:
    from rtstyle.render.journal import Journal
    from rtstyle.video import EncoderSettings, VideoReader
    from rtstyle.video.copies import StreamPlan
    from rtstyle.video.formats import Encoding
    from rtstyle.video.work_folder import WorkFolder


_MOST_WORKERS = 1024


@dataclass(frozen=True, kw_only=True)
class RenderOptions:
    """What of an input is rendered, and how its output is made."""

    size: Size | None = None
    """Size to which frames are scaled before they are stylized; None: their own."""
    start: Fraction | None = None
    """Seconds on a player's timeline; frames and audio before it are left out."""
    end: Fraction | None = None
    """Seconds on a player's timeline; frames and audio from it on are left out."""
    hwaccel: str | None = None
    """Hardware decoder, see ``VideoReader``."""
    timeout: float = 10.0
    """Seconds for which a network source may send nothing."""
    playlists: bool = False
    """A playlist may lead to any file or host, see ``video.opening``."""
    audio: bool = True
    """False leaves all audio out."""
    muxer: str | None = None
    """FFmpeg's name of the container; None: by the extension of the output."""
    overwrite: bool = False
    """Replace an output that exists."""
    follow: Follow = "auto"
    """What strokes follow: ``flow`` everything that moves, ``camera`` pans only, ``off`` nothing; ``auto`` is
    flow."""
    mask: MaskSettings = MaskSettings()
    """Where in the frame the style counts."""
    automation: Path | None = None
    """File of keyframes (CSV or JSON) of strength, color strength and style, see ``render.automation``."""
    resume: bool = False
    """Continue an interrupted render of the same settings, if there is one."""
    jobs: int = 0
    """Processes on this machine that render its segments, at the same time; 0: this process renders them."""
    cluster: str | None = None
    """Address of a Ray cluster whose nodes render its segments, ``auto`` for the one that this machine belongs to."""
    slots: int = 1
    """Workers on each node of the cluster, which share its cores."""

    def __post_init__(self) -> None:
        check_types(self)
        for name, value, least in (("jobs", self.jobs, 0), ("slots", self.slots, 1)):
            if not least <= value <= _MOST_WORKERS:
                raise SettingError(f"{name} must be from {least} to {_MOST_WORKERS}, got {value}")
        if self.jobs and self.cluster:
            raise SettingError("give jobs (processes on this machine) or cluster, not both")


@dataclass(frozen=True)
class RenderPlan(Closing):
    """A render that can begin; it holds the open input and the locked work folder. A context manager."""

    source: str
    """The input as it was given."""
    reader: VideoReader
    target: Path
    style: Style
    controls: Controls
    engine: EngineSettings
    encoder: EncoderSettings
    options: RenderOptions
    encoding: Encoding
    streams: StreamPlan
    """What becomes of the streams beside the video."""
    segment_frames: int
    """Frames of a segment."""
    folder: WorkFolder | None
    """Work folder of an output that is written in segments; None: it is written straight through."""
    journal: Journal | None
    """Journal of the interrupted render that is resumed."""
    begun: float
    """When planning began, by ``time.perf_counter``."""
    mask: PlannedMask
    automation: PlannedAutomation
    resources: ExitStack

    @property
    def steered(self) -> bool:
        """Whether any of its styles draws on a steered canvas."""
        return self.style.steered or any(style.steered for _, style in self.automation.styles)

    def settings(self) -> dict[str, Any]:
        """Return everything that decides the output, as JSON values: what a later run must agree with to resume."""
        reader = self.reader
        return {
            "rtstyle": __version__,
            "input": identity_of(reader.files) if self.folder else None,
            "style": {"name": self.style.name, "weights": digest_of(self.style)},
            "strength": [self.controls.luma, self.controls.chroma],
            "mask": self.mask.identity or None,
            "automation": self.automation.identity(),
            **asdict(self.encoder),
            "streams": self.streams.copied,
            "range": [str(self.options.start), str(self.options.end)],
            "follow": resolved(self.options.follow),
            "size": str(reader.size),
            "working size": str(working := self.engine.working_size(reader.size)),
            "network size": str(network_size(self.style, working, self.engine.network_lines)),
            "frames of a segment": self.segment_frames,
        }

    def close(self) -> None:
        """Close the input and release the work folder."""
        self.resources.close()


def plan_render(
    source: Path | str,
    target: Path | str,
    *,
    style: Style | str = "sketch",
    controls: Controls = Controls(),
    engine: EngineSettings = EngineSettings(),
    encoder: EncoderSettings | None = None,
    options: RenderOptions = RenderOptions(),
) -> RenderPlan:
    """Open a file and decide everything that can be decided before an engine is opened.

    Args:
        source: A file, a URL, a folder of images, a pattern such as ``%05d.png``, or ``-``, the standard input.
        target: A file, a pattern, or ``-``, the standard output.

    Raises:
        RtstyleError: The input cannot be read, the output cannot be written, a setting is out of range, there is not
            enough memory, or what is to be resumed was made with other settings.
    """
    begun = time.perf_counter()
    automation, loaded = first_style(style, engine, options)
    path = Path(target)
    with signals_held() as let_signals_through, ExitStack() as stack:
        # Imported here: a library that is interrupted while it is imported only looks as if it were missing.
        from rtstyle.video import EncoderSettings, check_output
        from rtstyle.video.writer import STDOUT

        _check_names(source, path, options)
        reader = stack.enter_context(open_reader(source, options))
        mask = plan_mask(options.mask, _end_of(reader, options))
        if path != STDOUT:
            check_output(path, overwrite=options.overwrite, muxer=options.muxer)
        let_signals_through()
        settings = encoder or EncoderSettings()
        encoding, streams = _plan_output(reader, path, settings, options)
        folder, journal = _lock_folder(reader, path, encoding, options)
        if folder:
            stack.enter_context(folder)
        plan = RenderPlan(
            str(source), reader, path, loaded, controls, engine, settings, options, encoding, streams,
            _segment_frames(reader.size), folder, journal, begun, mask, automation, stack,
        )  # fmt: skip
        if journal:
            refuse_other(journal, plan.settings(), path)
            plan = replace(
                plan, engine=same_engine(journal, engine, path), encoding=same_encoding(journal, encoding, path)
            )
        refuse_too_large(reader.size, memory_available())
        let_signals_through()
        return replace(plan, resources=stack.pop_all())


def first_style(style: Style | str, engine: EngineSettings, options: RenderOptions) -> tuple[PlannedAutomation, Style]:
    """Return the automation, and the style that it begins with, or the one that is asked for.

    Raises:
        RtstyleError: One of them cannot be read.
    """
    automation = plan_automation(options.automation, engine.size_class)
    if automation.styles:
        return automation, automation.styles[0][1]
    return automation, (style if isinstance(style, Style) else load_style(style, engine.size_class)).sized(
        engine.size_class
    )


def open_reader(source: Path | str, options: RenderOptions) -> VideoReader:
    """Open the part of an input that the options name."""
    from rtstyle.video import ReaderSettings, VideoReader

    settings = ReaderSettings(hwaccel=options.hwaccel, timeout=options.timeout, playlists=options.playlists)
    return VideoReader(source, start=options.start, end=options.end, size=options.size, settings=settings)


def _end_of(reader: VideoReader, options: RenderOptions) -> float | None:
    """Return when the part of an input that is rendered ends, in seconds of its timeline; None: unknown."""
    ends = [float(end) for end in (reader.duration, options.end) if end is not None]
    return min(ends) if reader.duration is not None else None


def _segment_frames(size: Size) -> int:
    from rtstyle.render import segments

    return segments.segment_frames(size)


def _check_names(source: Path | str, target: Path, options: RenderOptions) -> None:
    """Refuse what can be refused by the names of input and output."""
    from rtstyle.video.formats import muxer_of
    from rtstyle.video.inputs import check_exists
    from rtstyle.video.writer import STDOUT

    check_exists(source)
    with suppress(OSError):
        if Path(source).exists() and target.exists() and Path(source).samefile(target):
            raise SettingError(f"input and output are the same file: {source}")
    if options.muxer is None and target != STDOUT and not target.suffix and "%" not in target.name:
        raise SettingError(
            f"{str(target)!r} has no extension that says which format to write: "
            f"name a file such as {target}.mp4, or {target}/ for a folder"
        )
    if options.muxer or target != STDOUT:
        muxer_of(target, options.muxer)
    elif options.resume:
        raise SettingError("an output to - cannot be resumed: write a file")


def _plan_output(
    reader: VideoReader, path: Path, settings: EncoderSettings, options: RenderOptions
) -> tuple[Encoding, StreamPlan]:
    """Choose container and encoding, and what becomes of the other streams."""
    from rtstyle.video.copies import plan_streams
    from rtstyle.video.formats import TURNING, choose_encoding, muxer_of
    from rtstyle.video.writer import STDOUT

    container = options.muxer or (_format_like(reader) if path == STDOUT else None)
    if muxer_of(path, container) not in TURNING:
        reader.turn_upright()
    encoding = choose_encoding(
        path,
        settings,
        reader.size,
        full_range=reader.color.full_range,
        alpha=reader.alpha,
        muxer=container,
        rate=reader.rate,
    )
    if encoding.codec == "libx264" and (packing := reader.frame_packing()) is not None:
        parameters = f"{encoding.options.get('x264-params', '')}:frame-packing={packing}".strip(":")
        encoding = replace(encoding, options=encoding.options | {"x264-params": parameters})
    encoding = _with_chroma_location(encoding, reader.chroma_location)
    if path != STDOUT:
        reader.state_spatial(encoding.muxer)
    streams = plan_streams(reader.container, reader.stream, encoding.muxer, audio=options.audio, codec=encoding.codec)
    return encoding, streams


def _with_chroma_location(encoding: Encoding, location: str) -> Encoding:
    """Let the encoder state where chroma samples lie, where that is not what readers assume."""
    from rtstyle.video.chroma import LOCATIONS, is_stated

    if location == LOCATIONS[0]:
        return encoding
    if not is_stated(location, encoding.codec, encoding.muxer):
        note = (
            f"its chroma samples lie {location}, which {encoding.codec} in {encoding.muxer} does not state: take h264"
        )
        return replace(encoding, notes=(*encoding.notes, note))
    return replace(encoding, options=encoding.options | {"chroma_sample_location": location})


def _lock_folder(
    reader: VideoReader, path: Path, encoding: Encoding, options: RenderOptions
) -> tuple[WorkFolder | None, Journal | None]:
    """Lock the work folder of an output that is written in segments, with the journal that is resumed."""
    from rtstyle.render.journal import claim

    if encoding.segments and reader.seekable:
        reader.keep_packets = False
        reader.packets.clear()
        return claim(path, overwrite=options.overwrite, resume=options.resume)
    if options.resume:
        what = "this input" if encoding.segments else f"a {encoding.muxer} output"
        raise SettingError(f"{what} cannot be resumed: it is written straight through; leave --resume out")
    return None, None


def _format_like(reader: VideoReader) -> str:
    """Choose the container of the standard output: the input's own, if it can go through a pipe, else Matroska."""
    name = reader.container.format.name
    return name if name in ("yuv4mpegpipe", "mpegts", "nut") else "matroska"

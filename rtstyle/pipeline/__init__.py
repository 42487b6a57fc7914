"""Put the pieces together for a file: reader -> engine -> writer. ``rtstyle.live`` has the live loop."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtstyle import __version__
from rtstyle.backends import Controls, EngineSettings, open_for
from rtstyle.errors import SettingError
from rtstyle.frame import Frame, FrameSink, FrameSource, Size
from rtstyle.pipeline.flow import Prefetch, Timings, signals_held
from rtstyle.pipeline.follow import CameraFollower
from rtstyle.pipeline.memory import memory_available, refuse_too_large
from rtstyle.pipeline.resume import digest_of, refuse_other, same_encoding, same_engine
from rtstyle.style import Style, load_style

if TYPE_CHECKING:
    from rtstyle.video import EncoderSettings, VideoReader
    from rtstyle.video.copies import StreamPlan
    from rtstyle.video.formats import Encoding
    from rtstyle.video.journal import Journal, WorkFolder
    from rtstyle.video.render import RenderWriter
    from rtstyle.video.writer import VideoWriter

__all__ = ["VideoReport", "stylize_video"]


@dataclass(frozen=True)
class VideoReport:
    """What ``stylize_video`` did; ``rtstyle video --json`` prints it."""

    input: str
    output: str
    frames_in: int
    frames_out: int
    dropped: int
    """Pictures that are missing or faulty because the input is damaged, as far as can be told."""
    resumed_at: int
    """Frames that an earlier, interrupted run had finished; ``seconds`` and what follows are of this run."""
    seconds: float
    fps: float
    cpu_ms_per_frame: float
    """CPU time of the whole process over all cores, per frame, from the first frame on."""
    first_frame_s: float
    """From the call to the first stylized frame handed to the encoder."""
    stages: dict[str, float]
    """Milliseconds per frame that each stage took on its thread; they overlap. ``join`` is in all."""
    backend: str
    precision: str
    device: str
    style: str
    size_class: str
    size: str
    working_size: str
    """In which it was stylized: another one where strokes are to be larger or smaller, see ``EngineSettings``."""
    codec: str
    preset: str | None
    streams_copied: list[str]
    streams_dropped: list[dict[str, str]]
    warnings: list[str] = field(default_factory=list)


def stylize_video(
    source: Path | str | FrameSource,
    target: Path | str | FrameSink | Sequence[FrameSink],
    *,
    style: Style | str = "sketch",
    controls: Controls = Controls(),
    engine: EngineSettings = EngineSettings(),
    encoder: EncoderSettings | None = None,
    hwaccel: str | None = None,
    size: Size | None = None,
    start: Fraction | None = None,
    end: Fraction | None = None,
    audio: bool = True,
    muxer: str | None = None,
    overwrite: bool = False,
    resume: bool = False,
    timeout: float = 10.0,
    progress: Callable[[int, int | None, str], None] | None = None,
) -> VideoReport:
    """Stylize a video; every other stream is copied, every frame keeps its time.

    Args:
        source: A file, a URL, a folder of images, a pattern such as ``%05d.png``, or ``-``, the standard input; or a
            ``FrameSource`` of your own, which is iterated in another thread.
        target: A file, a pattern, or ``-``, the standard output; or one ``FrameSink`` of your own or several, which
            get frames upright, in order and on the calling thread. With a source or sink of your own there is no
            other stream, and ``muxer`` and ``resume`` are errors; so are, for a source, ``hwaccel``, ``size``,
            ``start`` and ``end``.
        engine: Backend, precision, device, size of the network and size of strokes.
        hwaccel: Hardware that is to decode, see ``VideoReader``.
        size: Scale to it before stylizing.
        start, end: Seconds on a player's timeline: frames with start <= t < end, and the sound that belongs to them.
        muxer: FFmpeg's name of the container; None: by the ending of ``target``.
        resume: Go on with what an interrupted run of the same settings left beside ``target``, if anything.
        timeout: Seconds for which a network source may send nothing.
        progress: Called on this thread after each frame with frames done, frames in all (None if the
            container does not tell) and the engine's name; it may raise to stop.

    Raises:
        RtstyleError: One of errors.py, before the first frame where that is possible. No output is left, but on
            KeyboardInterrupt the finished part is kept under a stated name, and where segments are finished
            (see ``RenderWriter``) they stay beside ``target`` for ``resume``.
    """
    begun = time.perf_counter()
    loaded = (style if isinstance(style, Style) else load_style(style)).sized(engine.size_class)
    if not isinstance(source, str | os.PathLike) or not isinstance(target, str | os.PathLike):
        from rtstyle.pipeline.frames import FramesJob, frame_source

        if muxer or resume:
            raise SettingError("muxer and resume are for files that are made from files")
        frames_in = frame_source(source, hwaccel=hwaccel, size=size, start=start, end=end, timeout=timeout)
        return FramesJob(frames_in, target, loaded, controls, engine, encoder, overwrite, progress).run()
    path, timings = Path(target), Timings()
    with ExitStack() as stack:
        # Held from here: a library that is interrupted while it is imported only looks as if it were missing.
        let_signals_through = stack.enter_context(signals_held())
        from rtstyle.video import EncoderSettings, VideoReader, check_output
        from rtstyle.video.formats import muxer_of
        from rtstyle.video.inputs import check_exists
        from rtstyle.video.journal import identity_of
        from rtstyle.video.render import segment_frames
        from rtstyle.video.writer import STDOUT

        settings = encoder or EncoderSettings()
        check_exists(source)
        _refuse_same(source, path)
        _refuse_nameless(path, muxer)
        if muxer or path != STDOUT:
            muxer_of(path, muxer)
        elif resume:
            raise SettingError("an output to - cannot be resumed: write a file")
        reader = stack.enter_context(
            VideoReader(source, hwaccel=hwaccel, start=start, end=end, size=size, timeout=timeout)
        )
        if path != STDOUT:
            check_output(path, overwrite=overwrite, muxer=muxer)
        let_signals_through()
        goal = _choose_goal(reader, path, settings, stack, audio=audio, muxer=muxer, overwrite=overwrite, resume=resume)
        working = engine.working_size(reader.size)
        asked: dict[str, Any] = {
            "rtstyle": __version__,
            "input": identity_of(reader.files) if goal.folder else None,
            "style": {"name": loaded.name, "weights": digest_of(loaded)},
            "strength": [controls.luma, controls.chroma],
            **asdict(settings),
            "streams": goal.streams.copied,
            "range": [str(start), str(end)],
            "size": str(reader.size),
            "working size": str(working),
            "frames of a segment": segment_frames(reader.size),
        }
        if goal.journal:
            refuse_other(goal.journal, asked, path)
            engine = same_engine(goal.journal, engine, path)
            goal.encoding = same_encoding(goal.journal, goal.encoding, path)
        refuse_too_large(reader.size, memory_available())
        opened = stack.enter_context(open_for(loaded, reader.size, reader.colour, engine, live=False))
        let_signals_through()
        total = reader.frames_expected
        mark = goal.journal.mark if goal.journal else None
        follower = CameraFollower(reader, every=segment_frames(reader.size), steered=loaded.steered, mark=mark)
        already = done = mark.frames if mark else 0
        first = cpu = 0.0

        def joining(part: float) -> None:
            if progress:
                progress(done, total, f"joining, {part:.0%}")

        decoded = timings.timed("canvas", follower.follow(timings.timed("decode", reader)))
        with Prefetch(decoded, name="decode") as frames:
            styled = timings.timed("engine", opened.stylize(frames, controls))
            if settings.preset == "auto" and not goal.journal:
                goal.encoding, styled = _choose_preset(goal.encoding, reader, styled)
            used = {"backend": opened.backend, "precision": opened.precision, "options": goal.encoding.options}
            writer = _open_writer(goal, reader, follower, asked | used, joining, overwrite=overwrite)
            stack.enter_context(writer)  # left behind the thread that reads
            for frame in styled:
                if done == already:
                    first, cpu = time.perf_counter() - begun, time.process_time()
                started = time.perf_counter()
                writer.write(frame)
                timings.add("encode", time.perf_counter() - started)
                done += 1
                if progress:
                    progress(done, total, f"{opened.backend} {opened.precision}")
                let_signals_through()
        started = time.perf_counter()
        writer.close()
        timings.add("join", time.perf_counter() - started)
    seconds = time.perf_counter() - begun
    fresh = done - already
    damaged = reader.damaged + follower.damaged_before
    warnings = [*reader.notes, *writer.warnings]
    if damaged:
        warnings.append(f"{reader.name} is damaged: about {damaged} of its pictures are missing or faulty")
    stages = timings.milliseconds()
    stages["canvas"] = round(stages.get("canvas", 0.0) - stages.get("decode", 0.0), 3)
    return VideoReport(
        input=str(source),
        output=str(path),
        frames_in=done,
        frames_out=writer.written,
        dropped=damaged,
        resumed_at=already,
        seconds=round(seconds, 3),
        fps=round(fresh / seconds, 2),
        cpu_ms_per_frame=round(1000 * (time.process_time() - cpu) / max(1, fresh - 1), 2),
        first_frame_s=round(first, 3),
        stages=stages,
        backend=opened.backend,
        precision=opened.precision,
        device=opened.device,
        style=loaded.name,
        size_class=loaded.size_class,
        size=str(reader.size),
        working_size=str(working),
        codec=goal.encoding.codec,
        preset=goal.encoding.options.get("preset"),
        streams_copied=writer.copied,
        streams_dropped=writer.dropped,
        warnings=warnings,
    )


@dataclass
class _Goal:
    """Where a render goes and how, chosen before an engine is opened."""

    path: Path
    encoding: Encoding
    streams: StreamPlan
    folder: WorkFolder | None = None
    """Of an output that is written in segments."""
    journal: Journal | None = None
    """Of the interrupted render that this one goes on with."""


def _choose_goal(
    reader: VideoReader,
    path: Path,
    settings: EncoderSettings,
    stack: ExitStack,
    *,
    audio: bool,
    muxer: str | None,
    overwrite: bool,
    resume: bool,
) -> _Goal:
    """Choose container, encoding and what becomes of the other streams; ``stack`` closes the work folder."""
    from rtstyle.video.copies import plan_streams
    from rtstyle.video.formats import TURNING, choose_encoding, muxer_of
    from rtstyle.video.writer import STDOUT, claim

    container = muxer or (_format_like(reader) if path == STDOUT else None)
    if muxer_of(path, container) not in TURNING:
        reader.turn_upright()
    encoding = choose_encoding(
        path,
        settings,
        reader.size,
        full_range=reader.colour.full_range,
        alpha=reader.alpha,
        muxer=container,
        rate=reader.rate,
    )
    streams = plan_streams(reader.container, reader.stream, encoding.muxer, audio=audio, codec=encoding.codec)
    goal = _Goal(path, encoding, streams)
    if encoding.segments and reader.seekable:
        reader.keep_packets = False
        reader.packets.clear()
        goal.folder, goal.journal = claim(path, overwrite=overwrite, resume=resume)
        stack.enter_context(goal.folder)
    elif resume:
        what = "this input" if encoding.segments else f"a {encoding.muxer} output"
        raise SettingError(f"{what} cannot be resumed: it is written straight through; leave --resume out")
    return goal


def _open_writer(
    goal: _Goal,
    reader: VideoReader,
    follower: CameraFollower,
    made_with: dict[str, Any],
    joining: Callable[[float], None],
    *,
    overwrite: bool,
) -> VideoWriter | RenderWriter:
    """Open what takes the frames: in segments where the goal has a work folder, else straight into the output.

    Args:
        made_with: What a later run must agree with in order to go on with this one.
        joining: Told how far the segments are joined, 0 to 1.
    """
    from rtstyle.video import VideoWriter
    from rtstyle.video.journal import Journal
    from rtstyle.video.render import RenderWriter

    shape: dict[str, Any] = {
        "size": reader.size, "colour": reader.colour, "time_base": reader.time_base, "rate": reader.rate,
    }  # fmt: skip
    if goal.folder is None:
        return VideoWriter(
            goal.path, encoder=goal.encoding, **shape, like=reader, plan=goal.streams, overwrite=overwrite
        )
    if goal.journal is None:
        goal.journal = Journal(goal.folder, made_with)
        goal.journal.begin()
    writer = RenderWriter(
        goal.folder, goal.journal, goal.encoding, **shape, like=reader, plan=goal.streams, mark=follower.mark_at
    )
    writer.joining = joining
    return writer


def _refuse_same(source: Path | str, target: Path) -> None:
    path = Path(source)
    with suppress(OSError):
        if path.exists() and target.exists() and path.samefile(target):
            raise SettingError(f"input and output are the same file: {source}")


def _refuse_nameless(target: Path, muxer: str | None) -> None:
    if muxer is None and str(target) != "-" and not target.suffix and "%" not in target.name:
        raise SettingError(
            f"{str(target)!r} has no extension that says which format to write: "
            f"name a file such as {target}.mp4, or {target}/ for a folder"
        )


def _format_like(reader: VideoReader) -> str:
    """Choose the container of the standard output: the input's own, if it can go through a pipe, else Matroska."""
    name = reader.container.format.name
    return name if name in ("yuv4mpegpipe", "mpegts", "nut") else "matroska"


def _choose_preset(
    encoding: Encoding, reader: VideoReader, styled: Iterator[Frame]
) -> tuple[Encoding, Iterator[Frame]]:
    """Choose the encoder's preset by what the first second leaves of the CPU; return the frames whole again."""
    from rtstyle.video.encoder import choose_preset

    sample = list(islice(styled, 1))
    wall, cpu = time.perf_counter(), time.process_time()
    sample += islice(styled, 23)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    idle = (os.cpu_count() or 1) * wall - cpu
    # Where nothing is idle, encoding may take a tenth of the time.
    budget = 1000 * max(idle, 0.1 * cpu) / max(1, len(sample) - 1)
    time.sleep(0.1)  # lets the frames that are in flight finish, so that they are not measured
    return choose_preset(encoding, reader.size, reader.colour, sample, budget), chain(sample, styled)

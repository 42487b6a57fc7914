"""Frames from any source into any sinks: what ``stylize_video`` does where one of them is the caller's own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType

from rtstyle.backends import Controls, Engine, EngineSettings, open_for
from rtstyle.canvas.follower import Follow, SceneFollower
from rtstyle.contract import check_sinks, check_source, checked
from rtstyle.errors import SettingError, VideoOpenError
from rtstyle.frame import Frame, FrameSink, FrameSource, VideoFormat
from rtstyle.interrupts import signals_held
from rtstyle.mask.mix import masked
from rtstyle.mask.opening import opened_mask
from rtstyle.memory import memory_available, refuse_too_large
from rtstyle.render.automation import PlannedAutomation
from rtstyle.render.flow import Prefetch, Timings
from rtstyle.render.masks import plan_mask
from rtstyle.render.plan import RenderOptions, first_style, open_reader
from rtstyle.render.report import VideoReport
from rtstyle.render.stylist import names_of, open_stylist
from rtstyle.style import Style
from rtstyle.video import EncoderSettings, VideoReader, VideoWriter, check_output
from rtstyle.video.formats import Encoding, choose_encoding
from rtstyle.video.inputs import check_exists


def frame_source(source: Path | str | FrameSource, options: RenderOptions) -> FrameSource:
    """Open a file whose frames go to sinks, or return the caller's own source.

    Raises:
        SettingError: The object is no FrameSource, or a setting is for files only.
        VideoOpenError: The file cannot be opened.
    """
    if isinstance(source, str | os.PathLike):
        check_exists(source)
        reader = open_reader(source, options)
        reader.keep_packets = False
        reader.packets.clear()
        reader.turn_upright()
        return reader
    if options.hwaccel or options.size or options.start is not None or options.end is not None:
        raise SettingError("hwaccel, size, start and end are for files; a source of your own gives what it gives")
    return check_source(source)


def followed(frames: Iterable[Frame], *, steered: bool, follow: Follow) -> Iterator[Frame]:
    """Yield the frames, each with its place on the canvas, and for a steered canvas with what was measured of it."""
    scene = SceneFollower(steered=steered, follow=follow)
    for frame in frames:
        yield scene.follow(frame)


class _File(FrameSink):
    """A video file that is opened with the first frame, which has its time base."""

    def __init__(self, path: Path, source: FrameSource, encoder: EncoderSettings, *, overwrite: bool) -> None:
        check_output(path, overwrite=overwrite)
        self.encoding: Encoding = choose_encoding(
            path, encoder, source.size, full_range=source.color.full_range, alpha=False, rate=source.rate
        )
        self.warnings: list[str] = []
        self._path, self._source, self._overwrite = path, source, overwrite
        self._writer: VideoWriter | None = None

    def write(self, frame: Frame) -> None:
        if self._writer is None:
            self._writer = VideoWriter(
                self._path,
                VideoFormat(self._source.size, self._source.color, frame.time_base, self._source.rate),
                encoder=self.encoding,
                overwrite=self._overwrite,
            )
        self._writer.write(frame)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.__exit__(kind, error, trace)
            self.warnings = self._writer.warnings


def stylize_frames(
    source: Path | str | FrameSource,
    target: Path | str | FrameSink | Sequence[FrameSink],
    *,
    style: Style | str,
    controls: Controls,
    engine: EngineSettings,
    encoder: EncoderSettings | None,
    options: RenderOptions,
    progress: Callable[[int, int | None, str], None] | None,
) -> VideoReport:
    """Stylize where source or target is the caller's own, see ``stylize_video``."""
    if options.muxer or options.resume:
        raise SettingError("muxer and resume are for files that are made from files")
    if options.jobs or options.cluster or "," in (engine.device or ""):
        raise SettingError("jobs, cluster and several devices are for files that are made from files")
    automation, loaded = first_style(style, engine, options)
    opened = frame_source(source, options)
    return FramesJob(opened, target, loaded, automation, controls, engine, encoder, options, progress).run()


@dataclass(frozen=True)
class FramesJob:
    """Frames that are to be stylized, and where they go."""

    source: FrameSource
    target: Path | str | FrameSink | Sequence[FrameSink]
    style: Style
    automation: PlannedAutomation
    controls: Controls
    engine: EngineSettings
    encoder: EncoderSettings | None
    options: RenderOptions
    progress: Callable[[int, int | None, str], None] | None

    def run(self) -> VideoReport:
        """Read ahead in a thread, stylize, and write to all sinks on this thread."""
        begun, cpu, first, done = time.perf_counter(), 0.0, 0.0, 0
        timings = Timings()
        with signals_held() as let_signals_through, ExitStack() as stack:
            source = stack.enter_context(self.source)
            file, sinks = self._sinks(source)
            total = _expected(source)
            refuse_too_large(source.size, memory_available())
            engine = stack.enter_context(open_for(self.style, source.size, source.color, self.engine, live=False))
            begins = source.begins if isinstance(source, VideoReader) else Fraction(0)
            stylist = stack.enter_context(
                open_stylist(self.automation, self.controls, self.style, engine, self.engine, begins)
            )
            mask = stack.enter_context(opened_mask(self.options.mask, source.size))
            for sink in sinks:
                stack.enter_context(sink)
            let_signals_through()
            read = timings.timed("decode", checked(source, source))
            steered = self.style.steered or any(style.steered for _, style in self.automation.styles)
            scene = followed(read, steered=steered, follow=self.options.follow)
            with Prefetch(timings.timed("canvas", scene), name="decode") as frames:
                stylized = masked(frames, stylist.stylize, mask, begins)
                for frame in timings.timed("engine", stylized):
                    if not done:
                        first, cpu = time.perf_counter() - begun, time.process_time()
                    started = time.perf_counter()
                    for sink in sinks:
                        sink.write(frame)
                    timings.add("encode", time.perf_counter() - started)
                    done += 1
                    if self.progress:
                        self.progress(done, total, f"{engine.backend} {engine.precision}")
                    let_signals_through()
            if not done:
                raise VideoOpenError(f"{_source_name(source)} gave no frame")
        return self._report(source, engine, file, timings, (done, time.perf_counter() - begun, cpu, first))

    def _sinks(self, source: FrameSource) -> tuple[_File | None, list[FrameSink]]:
        if isinstance(self.target, str | os.PathLike):
            file = _File(Path(self.target), source, self.encoder or EncoderSettings(), overwrite=self.options.overwrite)
            return file, [file]
        return None, check_sinks(self.target)

    def _report(
        self,
        source: FrameSource,
        engine: Engine,
        file: _File | None,
        timings: Timings,
        run: tuple[int, float, float, float],
    ) -> VideoReport:
        done, seconds, cpu, first = run
        damaged, warnings = 0, file.warnings if file else []
        if isinstance(source, VideoReader):
            damaged = source.damaged
            warnings = [*plan_mask(self.options.mask, source.duration).notes, *source.notes, *warnings]
        return VideoReport(
            input=_source_name(source),
            output=str(self.target) if file else ", ".join(_source_name(sink) for sink in check_sinks(self.target)),  # type: ignore[arg-type]
            frames_in=done,
            frames_out=done,
            dropped=damaged,
            resumed_at=0,
            seconds=round(seconds, 3),
            fps=round(done / seconds, 2),
            cpu_ms_per_frame=round(1000 * (time.process_time() - cpu) / max(1, done - 1), 2),
            first_frame_s=round(first, 3),
            stages=timings.stages(),
            backend=engine.backend,
            precision=engine.precision,
            device=engine.device,
            style=names_of(self.automation, self.style),
            size_class=self.style.size_class,
            size=str(source.size),
            working_size=str(self.engine.working_size(source.size)),
            codec=file.encoding.codec if file else "",
            preset=file.encoding.options.get("preset") if file else None,
            streams_copied=[],
            streams_dropped=[],
            warnings=warnings,
        )


def _expected(source: FrameSource) -> int | None:
    """Return how many frames a source will give; None where it does not declare it."""
    if isinstance(source, VideoReader):
        return source.frames_expected
    return len(source) if isinstance(source, Sized) else None


def _source_name(thing: object) -> str:
    return str(getattr(thing, "name", type(thing).__name__))

"""What differs between two files as media.

It judges what a viewer or an editor would miss, not what the frames show: two files are the same when every frame,
packet and tag of the first is in the second, and nothing else is. ``reading.py`` reads a file into ``facts.py``;
``times.py`` maps the times of one file to the other; ``video.py`` and ``streams.py`` compare.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from rtstyle.errors import SettingError, VideoOpenError
from rtstyle.frame import Size
from rtstyle.settings import check_is
from rtstyle.verify.facts import Media
from rtstyle.verify.finding import Finding
from rtstyle.verify.reading import read_media
from rtstyle.verify.streams import compare_chapters, compare_metadata, compare_streams
from rtstyle.verify.times import TimeMap
from rtstyle.verify.video import compare_video

__all__ = ["Finding", "VerifyReport", "verify_media"]


@dataclass(frozen=True)
class VerifyReport:
    """What ``verify_media`` found; ``rtstyle verify --json`` prints it."""

    input: str
    output: str
    findings: tuple[Finding, ...]
    damage: tuple[str, ...]
    """What is wrong with the input itself, in words; empty: nothing is."""
    seconds: float

    @property
    def differences(self) -> tuple[Finding, ...]:
        """What a person should know of before the input is deleted."""
        return tuple(finding for finding in self.findings if finding.verdict == "differs")


class _Stopped(Exception):
    """The other file could not be read, or the caller stopped waiting."""


def verify_media(
    source: Path | str,
    target: Path | str,
    *,
    start: Fraction | None = None,
    end: Fraction | None = None,
    audio: bool = True,
    size: Size | None = None,
    progress: Callable[[int, int | None, str], None] | None = None,
) -> VerifyReport:
    """Compare two files as media. Both are read whole, each on a thread of its own.

    Args:
        start, end: What part of ``source`` should be in ``target``, in seconds on the player's timeline; as
            they were given to ``stylize_video``, so that what was asked for does not count as lost.
        audio: False: audio is not expected.
        size: Width and height that were asked for.
        progress: Called now and then with frames read, frames in all (None: unknown) and a word; it may
            raise to stop.

    Raises:
        VideoOpenError: One of the files is absent, no media, or cannot be decoded.
        SettingError: Both are the same file, or ``end`` does not lie behind ``start``.
    """
    begun = time.perf_counter()
    check_is("source", source, (str, Path))
    check_is("target", target, (str, Path))
    source, target = Path(source), Path(target)
    for path in (source, target):
        if path.is_fifo():
            raise VideoOpenError(f"{path} is a named pipe, and verify reads files: save what comes through it")
    if source.exists() and target.exists() and source.samefile(target):
        raise SettingError(f"both are the same file: {source}")
    if end is not None and end <= (start or 0):
        raise SettingError(f"--end must lie behind --start, got {float(start or 0):g} and {float(end):g} s")
    one, other = _read_both(source, target, progress)
    time_map = TimeMap(one, other, start, end)
    findings = [*compare_video(one, other, time_map, size), *compare_streams(one, other, time_map, audio=audio)]
    findings += compare_chapters(one, other, time_map)
    findings += compare_metadata(one, other, time_map)
    if other.damage:
        findings.append(Finding("the output itself", "", "; ".join(other.damage), "differs", "it is damaged"))
    return VerifyReport(
        str(source), str(target), tuple(findings), tuple(one.damage), round(time.perf_counter() - begun, 3)
    )


def _read_both(
    source: Path, target: Path, progress: Callable[[int, int | None, str], None] | None
) -> tuple[Media, Media]:
    stop = threading.Event()
    counts = {source: 0, target: 0}

    def read(path: Path) -> Media:
        def seen() -> None:
            if stop.is_set():
                raise _Stopped
            counts[path] += 1

        try:
            return read_media(path, seen=seen)
        except BaseException:
            stop.set()
            raise

    with ThreadPoolExecutor(2, "rtstyle-verify") as pool:
        futures: list[Future[Media]] = [pool.submit(read, path) for path in (source, target)]
        try:
            while not all(future.done() for future in futures):
                if progress:
                    progress(sum(counts.values()), None, "reading")
                time.sleep(0.02)
        except BaseException:
            stop.set()
            raise
    failed = [error for future in futures if (error := future.exception())]
    for error in failed:
        if not isinstance(error, _Stopped):
            raise error
    return futures[0].result(), futures[1].result()

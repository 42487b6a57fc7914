"""Many videos, one after the other: a queue that continues when one of them fails, and says what became of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from rtstyle.errors import (
    BackendUnavailableError,
    RtstyleError,
    SettingError,
    StyleFormatError,
    StyleNotFoundError,
    VideoOpenError,
    VideoWriteError,
    reason_of,
)
from rtstyle.files import natural_order
from rtstyle.render.report import VideoReport

VIDEOS = (
    ".mp4", ".m4v", ".mov", ".qt", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".vob", ".wmv",
    ".flv", ".3gp", ".ogv", ".mxf", ".nut", ".y4m", ".gif", ".apng", ".h264", ".h265", ".hevc", ".f4v", ".asf", ".m2v",
    ".m1v", ".m2p", ".mpe", ".mpv", ".mp4v", ".m4e", ".3g2", ".mk3d", ".divx", ".xvid", ".dv", ".mod", ".tod", ".trp",
    ".tp", ".rm", ".rmvb", ".ivf", ".obu", ".264", ".265", ".avc", ".h261", ".h263", ".vc1", ".drc", ".ogm",
    ".ogx", ".wtv", ".dvr-ms", ".amv", ".mjpeg", ".mjpg", ".bik", ".nsv", ".roq", ".swf", ".wm", ".evo", ".rec", ".vro",
    ".insv", ".lrv", ".lrf", ".360", ".glv",
)  # fmt: skip
"""Extensions of the files of a folder that are taken; a file that is named on its own may have any."""

_KEPT = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".ts", ".m2ts", ".mts", ".nut", ".y4m", ".gif", ".apng")
"""Extensions that an output may have, too; every other input becomes .mkv, which holds whatever it had."""

_FATAL = (StyleNotFoundError, StyleFormatError, BackendUnavailableError)
"""What would stop every other file as well."""

Status = Literal["done", "damaged", "skipped", "failed", "interrupted", "not begun"]
"""``damaged``: done, but the input was damaged. ``skipped``: the output was there already."""


class Render(Protocol):
    """Stylizes one file at a time; ``stylize_video`` with all its other settings given."""

    def __call__(
        self, source: Path, target: Path, *, progress: Callable[[int, int | None, str], None] | None
    ) -> VideoReport: ...


@runtime_checkable
class RenderTogether(Protocol):
    """Stylizes several files at a time; see ``many.FarmBatch``."""

    def many(
        self, pairs: Sequence[tuple[Path, Path]], progress: Callable[[int, float, str], None]
    ) -> Iterator[tuple[int, VideoReport | BaseException]]:
        """Yield the number of each file as it ends, with its report or with what ended it.

        Files that Ctrl-C interrupts come with KeyboardInterrupt; those after them do not come.

        Args:
            pairs: Input and output of each.
            progress: Called with the number of a file, how much of it is done, and words.
        """

    def nodes(self) -> list[dict[str, Any]]:
        """Return what each worker did."""


@dataclass(frozen=True, kw_only=True)
class QueueOptions:
    """Which files a queue takes, and where their outputs go."""

    extension: str | None = None
    """Of all outputs, e.g. ``.mkv``; None: each input's own, .mkv where that cannot be written."""
    recursive: bool = False
    """Enter the folders of a folder; outputs lie in folders of the same names."""
    overwrite: bool = False
    """Replace outputs that exist; ``render`` has to replace them, too."""
    shard: tuple[int, int] = (1, 1)
    """Which part of the files is taken, of how many: 1 to n."""

    def __post_init__(self) -> None:
        part, parts = self.shard
        if not 1 <= part <= parts:
            raise SettingError(f"a shard is I/N with I from 1 to N, as in 3/16; got {part}/{parts}")


@dataclass(frozen=True)
class Outcome:
    """What became of one file."""

    input: str
    output: str
    status: Status
    reason: str = ""
    """Why it was skipped, or failed, in one line."""
    frames: int = 0
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class BatchReport:
    """What ``stylize_many`` did with all of them."""

    outcomes: tuple[Outcome, ...]
    seconds: float
    passed_over: tuple[str, ...] = ()
    """Files and folders of the given folders that were left out."""

    def count(self, *statuses: Status) -> int:
        """How many files ended in one of these ways."""
        return sum(outcome.status in statuses for outcome in self.outcomes)

    def summary(self) -> dict[str, int | float]:
        """The figures of the whole queue: files by what became of them, frames, seconds."""
        names: tuple[Status, ...] = ("done", "damaged", "skipped", "failed", "interrupted", "not begun")
        return {
            "files": len(self.outcomes),
            **{name.replace(" ", "_"): self.count(name) for name in names},
            "frames": sum(outcome.frames for outcome in self.outcomes),
            "seconds": self.seconds,
        }

    def __str__(self) -> str:
        counts = {key: value for key, value in self.summary().items() if value and key not in ("frames", "seconds")}
        files = counts.pop("files", 0)
        parts = ", ".join(f"{value} {key.replace('_', ' ')}" for key, value in counts.items())
        return f"{files} file{'s' * (files != 1)}: {parts or 'nothing to do'} ({self.seconds:.1f} s)"


def is_queue(inputs: Sequence[Path | str], output: Path | str) -> bool:
    """Whether words of a command line mean a queue: several inputs, a folder of videos, or a folder to write into."""
    if len(inputs) != 1:
        return True
    path, target = Path(inputs[0]), Path(output)
    if path.is_dir():  # of videos, unless a video is to be made of its images
        return target.is_dir() or (not target.suffix and str(output) != "-" and "%" not in target.name)
    return path.is_file() and (target.is_dir() or str(output).endswith("/"))


@dataclass(frozen=True)
class FoundVideos:
    """The videos that are meant by names of files and folders."""

    videos: list[Path]
    folders: dict[Path, Path]
    """Of each that is below a folder that was given: where it lies there, ``.`` at its top."""
    passed_over: list[str]
    """Files and subfolders of given folders that are left out."""

    def __iter__(self) -> Iterator[Path]:
        return iter(self.videos)


def find_videos(inputs: Sequence[Path | str], *, recursive: bool = False) -> FoundVideos:
    """List the files that are meant: those that are named, and the videos of folders that are, in natural order.

    Hidden files, and files that are no videos by their extension, are passed over.

    Args:
        recursive: Enter the folders of a folder.

    Raises:
        VideoOpenError: A folder holds no video, or cannot be read.
    """
    found: list[Path] = []
    folders: dict[Path, Path] = {}
    passed_over: list[str] = []
    for given in map(Path, inputs):
        if not given.is_dir():
            found.append(given)
            continue
        videos = []
        for entry in _entries(given, recursive):
            place = entry.relative_to(given)
            if entry.is_dir():
                passed_over.append(f"{place}/")
            elif _is_video(entry):
                videos.append(entry)
                folders[entry] = place.parent
            else:
                passed_over.append(str(place))
        if not videos:
            deeper = "" if recursive else "; --recursive looks into its folders"
            raise VideoOpenError(f"no video in the folder {given} (looked for {', '.join(VIDEOS[:6])}, ...{deeper})")
        found += videos
    unique: dict[Path, Path] = {path.resolve(): path for path in reversed(found)}
    return FoundVideos([path for path in found if unique.pop(path.resolve(), None)], folders, passed_over)


def _entries(folder: Path, recursive: bool) -> Iterator[Path]:
    """Yield what is in a folder, in natural order, files before folders; hidden entries are left out."""
    try:
        shown = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise VideoOpenError(f"cannot read the folder {folder}: {reason_of(error)}") from error
    entries = sorted(shown, key=lambda path: natural_order(path.name.casefold()))
    deeper = [path for path in entries if path.is_dir()]
    yield from (path for path in entries if path not in deeper)
    for path in deeper:
        if recursive and not path.is_symlink():  # a link may lead back up
            yield from _entries(path, recursive)
        else:
            yield path


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEOS and not path.name.startswith(".") and path.is_file()


def plan_outputs(
    videos: Sequence[Path], folder: Path, *, extension: str | None = None, folders: Mapping[Path, Path] | None = None
) -> list[tuple[Path, Path]]:
    """Name the output of each video in ``folder``: its own name, with its own extension if that can be written.

    Args:
        folders: Where below ``folder`` an output goes, if not to its top.
        extension: Of all outputs, e.g. ``.mkv``.

    Raises:
        SettingError: Two videos would have one output, or one would be written over itself.
    """
    pairs: list[tuple[Path, Path]] = []
    taken: dict[str, Path] = {}
    for video in videos:
        own = video.suffix if video.suffix.lower() in _KEPT else ".mkv"
        target = folder / (folders or {}).get(video, Path()) / f"{video.stem}{extension or own}"
        other = taken.setdefault(str(target).casefold(), video)  # two names may be one on some file systems
        if other is not video:
            raise SettingError(f"{other} and {video} would both become {target}: rename one, or take two folders")
        if target.resolve() == video.resolve():
            raise SettingError(f"{video} would be written over itself: take another folder than {folder}")
        pairs.append((video, target))
    return pairs


def shard_of(videos: Sequence[Path], part: int, parts: int) -> list[Path]:
    """Return one of several parts of a list, of about equal bytes: the largest file first, to the smallest part.

    Every process that lists the same files finds the same parts.

    Args:
        part: From 1.
    """
    sizes = {video: video.stat().st_size if video.exists() else 0 for video in videos}
    bytes_of, mine = [0] * parts, set()
    for video in sorted(videos, key=lambda video: (-sizes[video], str(video))):
        least = bytes_of.index(min(bytes_of))
        bytes_of[least] += max(1, sizes[video])
        if least == part - 1:
            mine.add(video)
    return [video for video in videos if video in mine]


def stylize_many(
    inputs: Sequence[Path | str],
    folder: Path | str,
    render: Render | RenderTogether,
    *,
    options: QueueOptions = QueueOptions(),
    progress: Callable[[float, str], None] | None = None,
    report: Callable[[Outcome], None] | None = None,
) -> BatchReport:
    """Stylize videos one after the other, or several at a time; one that fails does not stop the rest.

    An output that exists is finished, since nothing has its final name before, and is skipped. Ctrl-C ends the
    queue: what was done stays, and the report names what was not.

    Args:
        inputs: Files, and folders of them (see ``find_videos``).
        folder: Where outputs go; made if it is not there.
        render: Called for each file.
        progress: Called after each frame with the part of all work that is done, 0..1 (by bytes of input), and words.
        report: Called as each file ends.

    Raises:
        SettingError, VideoOpenError, VideoWriteError: Before any work: outputs that collide, a folder without
            videos, a folder that cannot be written.
        StyleNotFoundError, StyleFormatError, BackendUnavailableError: No file could be stylized.
    """
    begun = time.perf_counter()
    folder = Path(folder)
    if folder.suffix.lower() in VIDEOS and not folder.is_dir():
        raise SettingError(f"several videos go into a folder, and {folder} is named like a video: name a folder")
    found = find_videos(inputs, recursive=options.recursive)
    pairs = plan_outputs(found.videos, folder, extension=options.extension, folders=found.folders)
    mine = set(shard_of(found.videos, *options.shard))
    pairs = [(source, target) for source, target in pairs if source in mine]
    try:
        for place in dict.fromkeys([folder, *(target.parent for _, target in pairs)]):
            place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VideoWriteError(f"cannot make the folder {folder}: {reason_of(error)}") from error
    sizes = [source.stat().st_size if source.exists() else 0 for source, _ in pairs]
    if isinstance(render, RenderTogether):
        coming = _run_together(pairs, sizes, render, options.overwrite, progress)
    else:
        coming = _run(pairs, sizes, render, options.overwrite, progress)
    ended: dict[int, Outcome] = {}
    for number, outcome in coming:
        ended[number] = outcome
        if report:
            report(outcome)
    outcomes = [
        ended.get(number) or Outcome(str(source), str(target), "not begun")
        for number, (source, target) in enumerate(pairs)
    ]
    return BatchReport(tuple(outcomes), round(time.perf_counter() - begun, 3), tuple(found.passed_over))


def _run(
    pairs: list[tuple[Path, Path]],
    sizes: list[int],
    render: Render,
    overwrite: bool,
    progress: Callable[[float, str], None] | None,
) -> Iterator[tuple[int, Outcome]]:
    everything = max(1, sum(sizes))
    for number, (source, target) in enumerate(pairs):
        tell = _file_progress(
            progress,
            f"{number + 1} of {len(pairs)}, {source.name}",
            sum(sizes[:number]) / everything,
            sizes[number] / everything,
        )
        outcome = _one(source, target, render, overwrite, tell)
        yield number, outcome
        if outcome.status == "interrupted":
            return


def _run_together(
    pairs: list[tuple[Path, Path]],
    sizes: list[int],
    render: RenderTogether,
    overwrite: bool,
    progress: Callable[[float, str], None] | None,
) -> Iterator[tuple[int, Outcome]]:
    shares = [size / max(1, sum(sizes)) for size in sizes]
    parts = [0.0] * len(pairs)
    wanted = []
    for number, (source, target) in enumerate(pairs):
        if target.is_file() and not overwrite:
            parts[number] = 1.0
            yield number, _skipped_outcome(source, target)
        else:
            wanted.append(number)

    def tell(which: int, part: float, words: str) -> None:
        number = wanted[which]
        parts[number] = max(parts[number], part)
        if progress:
            ended = sum(part >= 1 for part in parts)
            done = sum(share * part for share, part in zip(shares, parts, strict=True))
            progress(done, f"{ended} of {len(pairs)} files ({words})")

    begun = time.perf_counter()
    for which, result in render.many([pairs[number] for number in wanted], tell):
        parts[wanted[which]] = 1.0
        yield wanted[which], _outcome(*pairs[wanted[which]], result, begun)


def _file_progress(
    progress: Callable[[float, str], None] | None, label: str, before: float, own: float
) -> Callable[[int, int | None, str], None] | None:
    """Turn a file's progress in frames into the queue's, of which the file is the part ``own``."""
    if progress is None:
        return None

    def tell(done: int, total: int | None, engine: str) -> None:
        progress(before + own * (min(1.0, done / total) if total else 0.0), f"{label} ({engine})")

    return tell


def _one(
    source: Path,
    target: Path,
    render: Render,
    overwrite: bool,
    tell: Callable[[int, int | None, str], None] | None,
) -> Outcome:
    if target.is_file() and not overwrite:
        return _skipped_outcome(source, target)
    begun = time.perf_counter()
    try:
        return _outcome(source, target, render(source, target, progress=tell), begun)
    except (KeyboardInterrupt, RtstyleError, OSError) as error:
        return _outcome(source, target, error, begun)


def _skipped_outcome(source: Path, target: Path) -> Outcome:
    return Outcome(str(source), str(target), "skipped", "finished already")


def _outcome(source: Path, target: Path, result: VideoReport | BaseException, begun: float) -> Outcome:
    """Return what became of a file.

    Args:
        result: Its report, or what ended it; what would stop every other file as well is raised.
    """
    names = str(source), str(target)
    if isinstance(result, VideoReport):
        status: Status = "damaged" if result.dropped else "done"
        return Outcome(*names, status, "", result.frames_out, result.seconds, result.warnings)
    if isinstance(result, KeyboardInterrupt):
        return Outcome(*names, "interrupted", "; ".join(getattr(result, "__notes__", ())))
    if isinstance(result, _FATAL) or not isinstance(result, (RtstyleError, OSError)):
        raise result
    return Outcome(*names, "failed", reason_of(result), seconds=round(time.perf_counter() - begun, 3))

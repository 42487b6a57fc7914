"""The command line: words become one library call. The only file that knows argparse, tqdm and exit codes."""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rtstyle import __version__
from rtstyle.errors import RtstyleError, SettingError

if TYPE_CHECKING:
    from rtstyle.batch import Render
    from rtstyle.video import EncoderSettings

DONE, FAILED, USAGE, DAMAGED, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes; DAMAGED: finished, but the input was damaged."""

# As in rtstyle.backends, which would load numpy here; a test compares them.
BACKEND_WORDS = ("auto", "tensorrt", "openvino", "onnxruntime", "torch")
PRECISION_WORDS = ("auto", "f32", "bf16", "f16")


class _Parser(argparse.ArgumentParser):
    """Argparse whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        print(f"rtstyle: error: {message} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(USAGE)


def _build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="rtstyle",
        description="A webcam or a video in another style, live, with nothing lost.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"rtstyle {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    _add_video(commands)
    _add_image(commands)
    _add_webcam(commands)
    _add_styles(commands)
    _add_verify(commands)
    _add_engines(commands)
    _add_doctor(commands)
    return parser


def _add_command(commands: Any, name: str, summary: str, description: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=description, allow_abbrev=False
    )
    return parser


def _add_engine_options(parser: argparse.ArgumentParser) -> None:
    default = " (default: %(default)s)"
    group = parser.add_argument_group("style and engine")
    group.add_argument("--style", default="sketch", metavar="S", help="name, folder, or blend a:0.6,b:0.4" + default)
    group.add_argument(
        "--strength", type=float, default=1.0, metavar="X", help="0 the source, 1 the style, up to 2" + default
    )
    group.add_argument("--keep-colors", action="store_true", help="keep the colours of the source")
    group.add_argument("--backend", choices=BACKEND_WORDS, default="auto", help="engine to run on" + default)
    group.add_argument("--precision", choices=PRECISION_WORDS, default="auto", help="of the network" + default)
    group.add_argument("--device", metavar="D", help="the backend's own name of a device, e.g. CPU, cuda:1")


def _add_message_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("messages")
    group.add_argument("--json", action="store_true", help="print one object on stdout, nothing else there")
    group.add_argument("--quiet", action="store_true", help="no progress and no summary; warnings and errors only")
    group.add_argument("-v", "--verbose", action="store_true", help="tell more on stderr")


def _add_encoder_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("encoder")
    group.add_argument("--codec", metavar="C", help="h264, hevc, av1, vp9, prores, ffv1... (default: by OUT's ending)")
    group.add_argument("--crf", type=int, metavar="N", help="constant quality, 0 is best (default: 18 for h264)")
    group.add_argument("--preset", metavar="P", help="time for bytes; auto measures (default: veryfast for h264)")
    group.add_argument("--bitrate", metavar="B", help="mean bits per second instead of --crf, as 800k or 5M")
    group.add_argument("--pix-fmt", metavar="F", help="pixel format, as yuv444p or yuv420p10le")
    group.add_argument("-y", "--overwrite", action="store_true", help="replace an output that exists")


def _add_video(commands: Any) -> None:
    parser = _add_command(
        commands,
        "video",
        "stylize a video file, or many",
        "Stylize a video: sound, subtitles, chapters and times stay as they are. With several IN, or a folder of "
        "videos, OUT is a folder. - is the standard input or output.",
    )
    parser.usage = "%(prog)s [options] IN [IN ...] OUT"
    parser.add_argument(
        "places",
        metavar="IN",
        nargs="+",
        help="video, URL, folder of videos, pictures as frames/%%05d.png, or -",
    )
    parser.add_argument("output", metavar="OUT", help="mp4, mkv, mov, webm, gif, ...; frames/%%05d.png, a folder, or -")
    parser.add_argument("--size", metavar="WxH", help="scale to it first")
    parser.add_argument("--start", type=_moment, metavar="T", help="begin at this time: seconds or H:MM:SS.mmm")
    parser.add_argument("--end", type=_moment, metavar="T", help="end before this time")
    parser.add_argument("--no-audio", action="store_true", help="leave the sound out")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted render of OUT")
    parser.add_argument("--format", metavar="F", help="container of OUT where its name does not say: mkv, ts, nut, y4m")
    parser.add_argument(
        "--timeout", type=float, default=10.0, metavar="S", help="seconds a URL may be silent (default: %(default)g)"
    )
    _add_encoder_options(parser)
    _add_engine_options(parser)
    _add_message_options(parser)
    parser.set_defaults(run=_run_video)


def _add_image(commands: Any) -> None:
    parser = _add_command(commands, "image", "stylize a picture or a folder of them", "Stylize pictures.")
    parser.add_argument("input", metavar="IN", type=Path, help="picture (jpg, png, webp), or a folder")
    parser.add_argument("output", metavar="OUT", type=Path, help="picture to write; a folder if IN is one")
    parser.add_argument("-y", "--overwrite", action="store_true", help="replace outputs that exist")
    _add_engine_options(parser)
    _add_message_options(parser)
    parser.set_defaults(run=_run_image)


def _add_webcam(commands: Any) -> None:
    parser = _add_command(
        commands,
        "webcam",
        "stylize a camera, live",
        "Stylize a camera, live. In the window: q quits, space pauses, n/p or arrows change the style, "
        "+/- the strength, s saves a snapshot, m mirrors, h shows figures, ? lists the keys.",
    )
    default = " (default: %(default)s)"
    parser.add_argument(
        "source",
        metavar="SOURCE",
        nargs="?",
        default="0",
        help="camera number or device, URL, or a file at its own pace" + default,
    )
    parser.add_argument(
        "--preview", choices=("auto", "window", "none"), default="auto", help="auto: window if it can be" + default
    )
    parser.add_argument("--record", type=Path, metavar="FILE", help="record the stylized picture, .mp4 or .mkv")
    parser.add_argument("--size", metavar="WxH", help="camera mode to ask for")
    parser.add_argument("--fps", metavar="N", help="camera rate to ask for, e.g. 30 or 30000/1001")
    parser.add_argument("--mirror", action="store_true", help="show left and right swapped")
    parser.add_argument("--frames", type=int, metavar="N", help="stop after so many frames")
    parser.add_argument("--seconds", type=float, metavar="N", help="stop after so long")
    _add_encoder_options(parser)
    _add_engine_options(parser)
    _add_message_options(parser)
    parser.set_defaults(run=_run_webcam)


def _add_styles(commands: Any) -> None:
    parser = _add_command(
        commands, "styles", "list the styles", "List the styles that are installed, or show a photo in all of them."
    )
    parser.add_argument("--sheet", metavar="PHOTO", type=Path, help="write one picture of this photo in all styles")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="where the sheet goes: jpg, png or webp")
    parser.add_argument("-y", "--overwrite", action="store_true", help="replace FILE if it exists")
    _add_message_options(parser)
    parser.set_defaults(run=_run_styles)


def _add_verify(commands: Any) -> None:
    parser = _add_command(
        commands,
        "verify",
        "say what differs between two videos as media",
        "Compare two videos as media: frames and their times, every other stream, rotation, colour tags, chapters, "
        "metadata. Exit 0: nothing is lost; 1: something differs, or a file cannot be read; 3: the input is damaged, "
        "all that is left of it agrees.",
    )
    parser.add_argument("input", metavar="IN", type=Path, help="the original")
    parser.add_argument("output", metavar="OUT", type=Path, help="what was made of it, by rtstyle or not")
    asked = parser.add_argument_group("what was asked for when OUT was made")
    asked.add_argument("--start", type=_moment, metavar="T", help="OUT begins here: seconds or H:MM:SS.mmm of IN")
    asked.add_argument("--end", type=_moment, metavar="T", help="OUT ends before this moment of IN")
    asked.add_argument("--no-audio", action="store_true", help="the sound was to be left out")
    asked.add_argument("--size", metavar="WxH", help="the size that was asked for")
    _add_message_options(parser)
    parser.set_defaults(run=_run_verify)


def _moment(text: str) -> Fraction:
    """Read seconds, or H:MM:SS.mmm, exactly."""
    try:
        seconds = Fraction(0)
        for part in text.split(":"):
            seconds = 60 * seconds + Fraction(part)
        if seconds >= 0:
            return seconds
    except (ValueError, ZeroDivisionError):
        pass
    raise argparse.ArgumentTypeError(f"a moment is seconds or H:MM:SS.mmm, as in 90.5 or 1:30.5; got {text!r}")


def _add_engines(commands: Any) -> None:
    parser = _add_command(
        commands,
        "engines",
        "build TensorRT engines ahead, list them, clear them",
        "TensorRT compiles a style for a kind of GPU and a size, once; these engines are kept.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=_Parser)
    build = _add_command(actions, "build", "build now what would be built when it is first used", "Build an engine.")
    default = " (default: %(default)s)"
    build.add_argument("--style", default="sketch", metavar="S", help="name, folder, or blend a:0.6,b:0.4" + default)
    build.add_argument("--size", default="1280x720", metavar="WxH", help="of the pictures, or 'any'" + default)
    build.add_argument("--target", metavar="SM,SM", help="GPUs to build for, as in sm86,sm89,sm120; else the one here")
    build.add_argument("--precision", choices=("auto", "f16", "f32"), default="auto", help="of the network" + default)
    build.add_argument("--device", metavar="D", help="GPU to build for, as in cuda:1")
    for action in (
        build,
        _add_command(actions, "list", "list what is kept", "List the engines that are kept."),
        _add_command(actions, "clear", "remove what is kept", "Remove all engines that are kept."),
    ):
        _add_message_options(action)
    parser.set_defaults(run=_run_engines)


def _add_doctor(commands: Any) -> None:
    parser = _add_command(
        commands, "doctor", "say what works on this machine", "Say what works here, and how to mend what does not."
    )
    _add_message_options(parser)
    parser.set_defaults(run=_run_doctor)


# -- commands --------------------------------------------------------------------------------------


def _run_video(args: argparse.Namespace) -> int:
    from rtstyle.backends import Controls
    from rtstyle.batch import is_queue
    from rtstyle.frame import Size
    from rtstyle.pipeline import stylize_video

    if args.output == "-" and args.json:
        raise SettingError("--json and the video cannot both go to stdout: leave --json out, or write a file")
    options: dict[str, Any] = {
        "style": args.style,
        "controls": Controls.of(args.strength, keep_colors=args.keep_colors),
        "backend": args.backend,
        "precision": args.precision,
        "device": args.device,
        "encoder": _encoder_settings(args),
        "size": Size.parse(args.size) if args.size else None,
        "start": args.start,
        "end": args.end,
        "audio": not args.no_audio,
        "muxer": args.format,
        "overwrite": args.overwrite,
        "resume": args.resume,
        "timeout": args.timeout,
    }
    if is_queue(args.places, args.output):
        return _run_queue(args, partial(stylize_video, **options))
    with _Progress(args, "frames") as progress:
        report = stylize_video(args.places[0], args.output, **options, progress=progress.update)
    sound = ", ".join(report.streams_copied) or "no other streams"
    resumed = f", {report.resumed_at} of them from an earlier run" if report.resumed_at else ""
    _finish(
        args,
        asdict(report),
        report.warnings,
        f"{report.output}: {report.frames_out} frames of {report.size}{resumed} in {report.seconds:.1f} s, "
        f"{report.fps:.1f} FPS ({report.backend} {report.precision} on {report.device}; "
        f"{report.cpu_ms_per_frame:.1f} CPU-ms a frame; style {report.style}; beside the picture: {sound})",
    )
    return DAMAGED if report.dropped else DONE


def _run_queue(args: argparse.Namespace, render: Render) -> int:
    """Stylize many files; the exit code is the worst of theirs."""
    from rtstyle.batch import Outcome, stylize_many

    def report(outcome: Outcome) -> None:
        for warning in outcome.warnings:
            _say(f"warning: {outcome.input}: {warning}")
        if args.json:
            print(json.dumps(asdict(outcome)), flush=True)
        elif outcome.status in ("failed", "interrupted") or not args.quiet:
            said = f": {outcome.reason}" if outcome.reason else f", {outcome.frames} frames in {outcome.seconds:.1f} s"
            _say(f"{outcome.output} {outcome.status}{said}")

    with _Progress(args, "%") as progress:
        done = stylize_many(
            args.places,
            args.output,
            render,
            ending=f".{args.format}" if args.format else None,
            overwrite=args.overwrite,
            progress=lambda part, words: progress.update(int(100 * part), 100, words),
            report=report,
        )
    if args.json:
        print(json.dumps({"summary": done.summary()}))
    elif not args.quiet:
        _say(str(done))
    if done.count("interrupted"):
        return INTERRUPTED
    return FAILED if done.count("failed") else DAMAGED if done.count("damaged") else DONE


def _encoder_settings(args: argparse.Namespace) -> EncoderSettings:
    from rtstyle.video import EncoderSettings

    return EncoderSettings(
        codec=args.codec, crf=args.crf, preset=args.preset, bitrate=_bits(args.bitrate), pix_fmt=args.pix_fmt
    )


def _bits(text: str | None) -> int | None:
    """Read ``800k`` or ``5M``."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmM]?)", text.strip())
    if not match:
        raise SettingError(f"--bitrate is bits per second, as 800k or 5M; got {text!r}")
    return round(float(match[1]) * {"": 1, "k": 1_000, "m": 1_000_000}[match[2].lower()])


def _run_image(args: argparse.Namespace) -> int:
    from rtstyle.backends import Controls
    from rtstyle.picture import stylize_pictures

    with _Progress(args, "pictures") as progress:
        report = stylize_pictures(
            args.input,
            args.output,
            style=args.style,
            controls=Controls.of(args.strength, keep_colors=args.keep_colors),
            backend=args.backend,
            precision=args.precision,
            device=args.device,
            overwrite=args.overwrite,
            progress=progress.update,
        )
    _finish(
        args,
        asdict(report),
        [f"{name}: {reason}" for name, reason in report.failed.items()],
        f"{args.output}: {report.pictures} picture{'s' * (report.pictures != 1)} in {report.seconds:.1f} s "
        f"({report.backend} {report.precision}, style {report.style})",
    )
    return FAILED if report.failed else DONE


def _run_webcam(args: argparse.Namespace) -> int:

    from rtstyle.backends import Controls
    from rtstyle.frame import Size
    from rtstyle.live import stylize_live

    try:
        fps = Fraction(args.fps) if args.fps else None
    except (ValueError, ZeroDivisionError):
        raise SettingError(f"--fps is a number such as 30 or 30000/1001, got {args.fps!r}") from None
    report = stylize_live(
        args.source,
        style=args.style,
        controls=Controls.of(args.strength, keep_colors=args.keep_colors),
        size=Size.parse(args.size) if args.size else None,
        fps=fps,
        backend=args.backend,
        precision=args.precision,
        device=args.device,
        preview=args.preview,
        record=args.record,
        encoder=_encoder_settings(args),
        overwrite=args.overwrite,
        mirror=args.mirror,
        frames=args.frames,
        seconds=args.seconds,
        say=None if args.quiet else _say,
    )
    latency = "".join(f" {name} {value:.0f}" for name, value in report.latency_ms.items()) or " of nothing"
    _finish(
        args,
        asdict(report),
        report.warnings,
        f"{report.shown} of {report.captured} frames of {report.size} shown in {report.seconds:.1f} s, "
        f"{report.fps:.1f} FPS, {report.dropped} dropped, latency{latency} ms "
        f"({report.backend} {report.precision} on {report.device}; style {report.style})",
    )
    return DONE


def _run_styles(args: argparse.Namespace) -> int:
    from rtstyle.style import list_styles, load_style

    if (args.sheet is None) != (args.output is None):
        raise SettingError("a sheet of styles needs both: --sheet PHOTO -o FILE")
    if args.sheet is not None:
        from rtstyle.sheet import write_style_sheet

        with _Progress(args, "styles") as progress:
            names = write_style_sheet(args.sheet, args.output, overwrite=args.overwrite, progress=progress.update)
        _finish(args, {"tiles": names, "sheet": str(args.output)}, [], f"wrote {args.output}: {', '.join(names)}")
        return DONE
    found = [load_style(name) for name in list_styles()]
    if args.json:
        print(json.dumps({"styles": [{"name": style.name, **style.metadata} for style in found]}))
        return DONE
    for style in found:
        print(f"{style.name:16} {style.title}")
    return DONE


def _run_verify(args: argparse.Namespace) -> int:
    from rtstyle.frame import Size
    from rtstyle.verify import verify_media

    with _Progress(args, "frames") as progress:
        report = verify_media(
            args.input,
            args.output,
            start=args.start,
            end=args.end,
            audio=not args.no_audio,
            size=Size.parse(args.size) if args.size else None,
            progress=progress.update,
        )
    damage = [f"the input is damaged: {words}" for words in report.damage]
    differences = report.differences
    if args.json:
        print(json.dumps({**asdict(report), "differences": len(differences)}))
    elif not args.quiet:
        _print_table(
            ("", "in", "out", ""),
            [(f.subject, f.source, f.target, f.verdict + (f": {f.words}" if f.words else "")) for f in report.findings],
        )
    summary = f"{len(differences)} of {len(report.findings)} differ" if differences else "nothing is lost"
    for words in damage:
        _say(f"warning: {words}")
    if not args.json and not args.quiet:
        _say(f"{report.output}: {summary}")
    return FAILED if differences else DAMAGED if report.damage else DONE


def _print_table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print columns on stdout, each as wide as its widest cell; all but the last are cut at 40 letters."""
    rows = [(*(cell if len(cell) <= 40 else f"{cell[:37]}..." for cell in row[:-1]), row[-1]) for row in (heads, *rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _run_engines(args: argparse.Namespace) -> int:
    from rtstyle.backends.plans import PlanCache

    cache = PlanCache()
    if args.action == "build":
        return _build_engine(args)
    if args.action == "clear":
        count = cache.clear()
        _finish(args, {"removed": count}, [], f"removed {count} engine{'s' * (count != 1)} from {cache.folder}")
        return DONE
    found = [{"plan": str(path), **about} for path, about in cache.plans()]
    if args.json:
        print(json.dumps({"folder": str(cache.folder), "engines": found}))
        return DONE
    for about in found:
        state = (
            f"damaged: {about['damaged']}"
            if "damaged" in about
            else f"{about['builder']}, {' '.join(about['targets'])}"
        )
        print(f"{about['label']:32} {about['bytes'] / 1e6:7.1f} MB  {state}")
    return DONE


def _build_engine(args: argparse.Namespace) -> int:
    from rtstyle.backends.tensorrt import build_ahead
    from rtstyle.frame import Size
    from rtstyle.style import load_style

    begun = time.monotonic()
    with _Progress(args, "per cent") as progress:
        plan = build_ahead(
            load_style(args.style),
            None if args.size == "any" else Size.parse(args.size),
            targets=args.target,
            precision=args.precision,
            device=args.device,
            progress=lambda phase, done: progress.update(round(100 * done), 100, phase),
        )
    about = plan.about
    accuracy = "not compared to float32 yet" if about["accuracy"] is None else f"{about['accuracy']}"
    _finish(
        args,
        {"plan": str(plan.path), **about},
        [],
        f"{about['label']} for {' '.join(about['targets'])}: {about['bytes'] / 1e6:.1f} MB "
        f"in {time.monotonic() - begun:.1f} s by {about['builder']}; {accuracy}",
    )
    return DONE


def _run_doctor(args: argparse.Namespace) -> int:
    from rtstyle.doctor import examine

    findings = examine()
    if args.json:
        print(json.dumps({"findings": [asdict(finding) for finding in findings]}))
    else:
        for finding in findings:
            mark = {True: "ok  ", False: "no  ", None: "    "}[finding.works]
            print(f"{mark}{finding.subject:22} {finding.says}" + (f"  -> {finding.fix}" if finding.fix else ""))
    return DONE


# -- talking to people -----------------------------------------------------------------------------


def _say(message: str) -> None:
    print(f"rtstyle: {message}", file=sys.stderr, flush=True)


def _finish(args: argparse.Namespace, report: dict[str, Any], warnings: list[str], summary: str) -> None:
    for warning in warnings:
        _say(f"warning: {warning}")
    if args.json:
        print(json.dumps(report))
    elif not args.quiet:
        _say(summary)


class _Progress:
    """A bar with ETA on a terminal, a line every few seconds elsewhere; on stderr."""

    _EVERY = 5.0

    def __init__(self, args: argparse.Namespace, unit: str) -> None:
        self._quiet, self._unit = args.quiet, unit
        self._bar: Any = None
        self._first: int | None = None
        self._begun = self._last = time.monotonic()

    def update(self, done: int, total: int | None, label: str) -> None:
        if self._quiet:
            return
        if self._first is None:  # a resumed render begins in the middle
            self._first = max(0, done - 1)
        if sys.stderr.isatty():
            if self._bar is None:
                from tqdm import tqdm

                self._bar = tqdm(
                    total=total, initial=self._first, unit=f" {self._unit}", file=sys.stderr, dynamic_ncols=True
                )
            self._bar.set_description_str(label, refresh=False)
            self._bar.update(done - self._bar.n)
            return
        now = time.monotonic()
        if now - self._last >= self._EVERY:
            self._last = now
            rate = (done - self._first) / (now - self._begun)
            left = f", {max(0, total - done) / rate:.0f} s left" if total else ""
            _say(f"{done}{f' of {total}' if total else ''} {self._unit}, {rate:.1f} a second{left} ({label})")

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()


def _complain(error: Exception) -> None:
    """Print an error as one line, whatever is in it."""
    said = error.strerror if isinstance(error, OSError) and not isinstance(error, RtstyleError) else str(error)
    words = " ".join((said or str(error)).split("\n"))
    name = f": {error.filename}" if isinstance(error, OSError) and error.filename else ""
    notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
    print(f"rtstyle: error: {words}{name}{notes}", file=sys.stderr)


def _interrupt_on_terminate() -> None:
    """Let SIGTERM end a run as Ctrl-C does: what is finished is kept."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the words. Options may stand between several IN and OUT, which argparse alone does not take."""
    parser = _build_parser()
    args, rest = parser.parse_known_args(argv)
    if rest and args.command == "video" and not any(word.startswith("-") and word != "-" for word in rest):
        args.places, args.output = [*args.places, args.output, *rest[:-1]], rest[-1]
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return args


def main(argv: list[str] | None = None) -> int:
    """Run ``rtstyle`` with these words and return the exit code."""
    args = _parse(argv)
    logging.basicConfig(
        level=logging.INFO if args.verbose else logging.ERROR, stream=sys.stderr, format="%(name)s: %(message)s"
    )
    level = logging.DEBUG if args.verbose else logging.WARNING if args.quiet else logging.INFO
    logging.getLogger("rtstyle").setLevel(level)
    # OpenCV would print lines of its own beside ours; it reads this when it is first imported.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "INFO" if args.verbose else "SILENT")
    run: Callable[[argparse.Namespace], int] = args.run
    try:
        _interrupt_on_terminate()
        code = run(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read our output has gone
        return FAILED
    except (RtstyleError, OSError) as error:
        if args.verbose:
            logging.getLogger("rtstyle").exception("the whole story:")
        _complain(error)
        return FAILED
    except KeyboardInterrupt as interrupt:
        print("; ".join(("rtstyle: interrupted", *getattr(interrupt, "__notes__", ()))), file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())

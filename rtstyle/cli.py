"""The command line: words become one library call. The only file that knows argparse, tqdm and exit codes."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from rtstyle import __version__
from rtstyle.errors import RtstyleError, SettingError

DONE, FAILED, USAGE, DAMAGED, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes; DAMAGED: finished, but the input was damaged."""


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
    group.add_argument(
        "--backend", choices=("auto", "openvino", "torch"), default="auto", help="engine to run on" + default
    )
    group.add_argument("--precision", choices=("auto", "f32", "bf16"), default="auto", help="of the network" + default)
    group.add_argument("--device", metavar="D", help="the backend's own name of a device, e.g. CPU, cuda:1")


def _add_message_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("messages")
    group.add_argument("--json", action="store_true", help="print one object on stdout, nothing else there")
    group.add_argument("--quiet", action="store_true", help="no progress and no summary; warnings and errors only")
    group.add_argument("-v", "--verbose", action="store_true", help="tell more on stderr")


def _add_encoder_options(parser: argparse.ArgumentParser) -> None:
    # The defaults stand in EncoderSettings, which would load PyAV here; a test compares them.
    default = " (default: %(default)s)"
    group = parser.add_argument_group("encoder")
    group.add_argument("--codec", default="libx264", metavar="C", help="libx264, or ffv1 (lossless, mkv)" + default)
    group.add_argument("--crf", type=int, default=18, metavar="N", help="of x264: 0 lossless, 51 worst" + default)
    group.add_argument("--preset", default="veryfast", metavar="P", help="of x264: ultrafast to veryslow" + default)
    group.add_argument("-y", "--overwrite", action="store_true", help="replace an output that exists")


def _add_video(commands: Any) -> None:
    parser = _add_command(commands, "video", "stylize a video file", "Stylize a video file.")
    parser.add_argument("input", metavar="IN", type=Path, help="video to read (mp4, mkv, webm, mov, ...)")
    parser.add_argument("output", metavar="OUT", type=Path, help="video to write, .mp4 or .mkv; sound is copied")
    parser.add_argument("--no-audio", action="store_true", help="leave the sound out")
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
    parser = _add_command(commands, "styles", "list the styles", "List the styles that are installed.")
    _add_message_options(parser)
    parser.set_defaults(run=_run_styles)


def _add_doctor(commands: Any) -> None:
    parser = _add_command(
        commands, "doctor", "say what works on this machine", "Say what works here, and how to mend what does not."
    )
    _add_message_options(parser)
    parser.set_defaults(run=_run_doctor)


# -- commands --------------------------------------------------------------------------------------


def _run_video(args: argparse.Namespace) -> int:
    from rtstyle.backends import Controls
    from rtstyle.pipeline import stylize_video
    from rtstyle.video import EncoderSettings

    with _Progress(args, "frames") as progress:
        report = stylize_video(
            args.input,
            args.output,
            style=args.style,
            controls=Controls.of(args.strength, keep_colors=args.keep_colors),
            backend=args.backend,
            precision=args.precision,
            device=args.device,
            encoder=EncoderSettings(codec=args.codec, crf=args.crf, preset=args.preset),
            audio=not args.no_audio,
            overwrite=args.overwrite,
            progress=progress.update,
        )
    sound = ", ".join(report.streams_copied) or "no other streams"
    _finish(
        args,
        asdict(report),
        report.warnings,
        f"{report.output}: {report.frames_out} frames of {report.size} in {report.seconds:.1f} s, {report.fps:.1f} FPS "
        f"({report.backend} {report.precision} on {report.device}; {report.cpu_ms_per_frame:.1f} CPU-ms a frame; "
        f"style {report.style}; copied: {sound})",
    )
    return DAMAGED if report.dropped else DONE


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
    from fractions import Fraction

    from rtstyle.backends import Controls
    from rtstyle.frame import Size
    from rtstyle.live import stylize_live
    from rtstyle.video import EncoderSettings

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
        encoder=EncoderSettings(codec=args.codec, crf=args.crf, preset=args.preset),
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

    found = [load_style(name) for name in list_styles()]
    if args.json:
        print(json.dumps({"styles": [{"name": style.name, **style.metadata} for style in found]}))
        return DONE
    for style in found:
        print(f"{style.name:16} {style.title}")
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
        self._begun = self._last = time.monotonic()

    def update(self, done: int, total: int | None, label: str) -> None:
        if self._quiet:
            return
        if sys.stderr.isatty():
            if self._bar is None:
                from tqdm import tqdm

                self._bar = tqdm(total=total, unit=f" {self._unit}", file=sys.stderr, dynamic_ncols=True)
            self._bar.set_description_str(label, refresh=False)
            self._bar.update(done - self._bar.n)
            return
        now = time.monotonic()
        if now - self._last >= self._EVERY:
            self._last = now
            rate = done / (now - self._begun)
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
    print(f"rtstyle: error: {words}{name}", file=sys.stderr)


def _interrupt_on_terminate() -> None:
    """Let SIGTERM end a run as Ctrl-C does: what is finished is kept."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)


def main(argv: list[str] | None = None) -> int:
    """Run ``rtstyle`` with these words and return the exit code."""
    args = _build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO if args.verbose else logging.ERROR, stream=sys.stderr)
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

"""The live commands: webcam."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

from rtstyle.cli.options import (
    DONE,
    add_command,
    add_encoder_options,
    add_engine_options,
    add_message_options,
    encoder_settings,
)
from rtstyle.cli.talk import finish, say
from rtstyle.errors import SettingError


def add_webcam(commands: Any) -> None:
    """Add the command ``webcam``."""
    parser = add_command(
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
    add_encoder_options(parser)
    add_engine_options(parser)
    add_message_options(parser)
    parser.set_defaults(run=_run_webcam)


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
        encoder=encoder_settings(args),
        overwrite=args.overwrite,
        mirror=args.mirror,
        frames=args.frames,
        seconds=args.seconds,
        say=None if args.quiet else say,
    )
    latency = "".join(f" {name} {value:.0f}" for name, value in report.latency_ms.items()) or " of nothing"
    finish(
        args,
        asdict(report),
        report.warnings,
        f"{report.shown} of {report.captured} frames of {report.size} shown in {report.seconds:.1f} s, "
        f"{report.fps:.1f} FPS, {report.dropped} dropped, latency{latency} ms "
        f"({report.backend} {report.precision} on {report.device}; style {report.style})",
    )
    return DONE

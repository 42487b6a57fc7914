"""The commands on files: video, image, verify."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtstyle.cli.options import (
    DAMAGED,
    DONE,
    FAILED,
    INTERRUPTED,
    add_automation_option,
    add_command,
    add_encoder_options,
    add_engine_options,
    add_follow_option,
    add_mask_options,
    add_message_options,
    add_playlist_option,
    add_worker_options,
    encoder_settings,
    engine_settings,
    mask_settings,
    moment,
)
from rtstyle.cli.talk import ProgressBar, finish, print_table, say, warn
from rtstyle.errors import SettingError

if TYPE_CHECKING:
    from rtstyle.render import VideoReport
    from rtstyle.render.batch import Render, RenderTogether


def add_video(commands: Any) -> None:
    """Add the command ``video``."""
    parser = add_command(
        commands,
        "video",
        "stylize a video file, or many",
        "Stylize a video. Audio, subtitles, chapters and timestamps are kept. With several IN, or a folder of videos, "
        "OUT is a folder. - is the standard input or output.",
        "[options] IN [IN ...] OUT",
        {
            "in.mp4 out.mp4": "the default style, sketch",
            "in.mp4 out.mkv --style ink --strength 0.7": "a weaker ink",
            "in.mov clip.mp4 --start 1:30 --end 1:45": "fifteen seconds of it",
            "in.mp4 out.mp4 --resume": "continue an interrupted render",
            "holidays/ stylized/": "a folder of videos",
            "- - --format mkv < in.mkv | ffplay -": "through pipes",
        },
    )
    parser.add_argument(
        "places",
        metavar="IN",
        nargs="+",
        help="video, URL, folder of videos, image sequence such as frames/%%05d.png, or -",
    )
    parser.add_argument("output", metavar="OUT", help="mp4, mkv, mov, webm, gif, ...; frames/%%05d.png, a folder, or -")
    parser.add_argument("--size", metavar="WxH", help="scale to this size first")
    parser.add_argument("--start", type=moment, metavar="T", help="start at this time: seconds or H:MM:SS.mmm")
    parser.add_argument("--end", type=moment, metavar="T", help="end before this time")
    parser.add_argument("--no-audio", action="store_true", help="drop the audio")
    parser.add_argument(
        "--hwaccel",
        metavar="NAME",
        help="decode in hardware if that works here: cuda (NVDEC), qsv, vaapi, videotoolbox, ...",
    )
    parser.add_argument(
        "--recursive", action="store_true", help="with a folder: enter its folders, and keep the tree in OUT"
    )
    add_follow_option(parser)
    parser.add_argument("--resume", action="store_true", help="continue an interrupted render of OUT")
    add_worker_options(parser)
    parser.add_argument(
        "--format", metavar="F", help="container of OUT if its name has no extension: mkv, ts, nut, y4m"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=10.0,
        metavar="S",
        help="seconds without data after which a URL fails (default: %(default)g)",
    )
    add_playlist_option(parser)
    add_encoder_options(parser)
    add_engine_options(parser)
    add_automation_option(parser)
    add_mask_options(parser)
    add_message_options(parser)
    parser.set_defaults(run=_run_video)


def _run_video(args: argparse.Namespace) -> int:
    from rtstyle.backends import Controls
    from rtstyle.frame import Size
    from rtstyle.render import RenderOptions, stylize_video
    from rtstyle.render.batch import is_queue
    from rtstyle.style import load_style

    if args.output == "-" and args.json:
        raise SettingError("--json and the video cannot both go to stdout: leave --json out, or write a file")
    options: dict[str, Any] = {
        "style": load_style(args.style, args.size_class),
        "controls": Controls.of(args.strength, keep_colors=args.keep_colors),
        "engine": engine_settings(args),
        "encoder": encoder_settings(args),
        "options": RenderOptions(
            hwaccel=args.hwaccel,
            size=Size.parse(args.size) if args.size else None,
            start=args.start,
            end=args.end,
            audio=not args.no_audio,
            muxer=args.format,
            overwrite=args.overwrite,
            resume=args.resume,
            follow=args.follow,
            timeout=args.timeout,
            playlists=args.allow_playlist,
            jobs=args.jobs,
            cluster=args.cluster,
            slots=args.slots,
            mask=mask_settings(args),
            automation=args.automation,
        ),
    }
    if is_queue(args.places, args.output):
        with open_workers(options) as together:
            return _run_queue(args, together or partial(stylize_video, **options))
    if args.shard != (1, 1):
        raise SettingError("--shard takes a part of many files: name a folder, or several files")
    with ProgressBar(args, "frames") as progress:
        report = stylize_video(args.places[0], args.output, **options, progress=progress.update)
    if report.nodes and not args.json and not args.quiet:
        _say_workers(report)
    others = ", ".join(report.streams_copied) or "none"
    network = "" if report.size_class == "default" else f", {report.size_class} network"
    worked = "" if report.working_size == report.size else f", stylized in {report.working_size}"
    effort = f"{len(report.nodes)} workers" if report.nodes else f"{report.cpu_ms_per_frame:.1f} CPU-ms a frame"
    resumed = f", {report.resumed_at} of them from an earlier run" if report.resumed_at else ""
    finish(
        args,
        asdict(report),
        report.warnings,
        f"{report.output}: {report.frames_out} frames of {report.size}{resumed} in {report.seconds:.1f} s, "
        f"{report.fps:.1f} FPS ({report.backend} {report.precision} on {report.device}; "
        f"{effort}; style {report.style}{network}{worked}; "
        f"other streams: {others})",
    )
    return DAMAGED if report.dropped else DONE


def _say_workers(report: VideoReport) -> None:
    """Print what each worker did, and how fast the planning allows to be."""
    for node in report.nodes:
        say(f"{node['node']}: {node['frames']} frames, {node['fps']:.1f} FPS")
    stage = max(("decode", "track", "measure"), key=lambda name: report.stages.get(name, 0.0))
    if milliseconds := report.stages.get(stage):
        say(f"planning ({stage}) took {milliseconds:.2f} ms a frame: at most {1000 / milliseconds:.0f} FPS this way")


@contextmanager
def open_workers(options: dict[str, Any]) -> Iterator[RenderTogether | None]:
    """Yield what renders many files by workers; None where none are asked for."""
    from rtstyle.render.workers import open_pool

    pool = open_pool(options["options"], options["engine"].device)
    if pool is None:
        yield None
        return
    from rtstyle.render.coordinate import Coordinator
    from rtstyle.render.many import FarmBatch

    with Coordinator(pool) as coordinator:
        yield FarmBatch(coordinator, **options)
        warn(coordinator.farm.warnings)


def _run_queue(args: argparse.Namespace, render: Render | RenderTogether) -> int:
    """Stylize many files; the exit code is the worst of theirs."""
    from rtstyle.render.batch import Outcome, QueueOptions, RenderTogether, stylize_many

    def report(outcome: Outcome) -> None:
        warn([f"{outcome.input}: {warning}" for warning in outcome.warnings])
        if args.json:
            print(json.dumps(asdict(outcome)), flush=True)
        elif outcome.status in ("failed", "interrupted") or not args.quiet:
            said = f": {outcome.reason}" if outcome.reason else f", {outcome.frames} frames in {outcome.seconds:.1f} s"
            say(f"{outcome.output} {outcome.status}{said}")

    with ProgressBar(args, "%") as progress:
        done = stylize_many(
            args.places,
            args.output,
            render,
            options=QueueOptions(
                extension=f".{args.format}" if args.format else None,
                recursive=args.recursive,
                overwrite=args.overwrite,
                shard=args.shard,
            ),
            progress=lambda part, words: progress.update(int(100 * part), 100, words),
            report=report,
        )
    if done.passed_over:
        names = list(done.passed_over)
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        folders = "; --recursive enters folders" if any(name.endswith("/") for name in names) else ""
        say(f"warning: passed over: {', '.join(names[:8])}{more}{folders}")
    if args.json:
        nodes = {"nodes": render.nodes()} if isinstance(render, RenderTogether) else {}
        print(json.dumps({"summary": done.summary(), "passed_over": done.passed_over, **nodes}))
    elif not args.quiet:
        say(str(done))
    if done.count("interrupted"):
        return INTERRUPTED
    return FAILED if done.count("failed") else DAMAGED if done.count("damaged") else DONE


def add_image(commands: Any) -> None:
    """Add the command ``image``."""
    parser = add_command(
        commands,
        "image",
        "stylize an image or a folder of them",
        "Stylize images.",
        "[options] IN OUT",
        {
            "photo.jpg sketch.png": "one image",
            "photo.jpg mixed.jpg --style sketch:0.6,red_chalk:0.4": "two styles mixed",
            "photos/ stylized/ --style great_wave": "a folder of images",
        },
    )
    parser.add_argument("input", metavar="IN", type=Path, help="image (jpg, png, webp), a folder, or -")
    parser.add_argument("output", metavar="OUT", type=Path, help="image to write, a folder if IN is one, or - (PNG)")
    parser.add_argument("-y", "--overwrite", action="store_true", help="replace existing outputs")
    add_engine_options(parser)
    add_mask_options(parser)
    add_message_options(parser)
    parser.set_defaults(run=_run_image)


def _run_image(args: argparse.Namespace) -> int:
    from rtstyle.backends import Controls
    from rtstyle.image import stylize_images
    from rtstyle.reading import STDIO

    if args.output == STDIO and args.json:
        raise SettingError("--json and the image cannot both go to stdout: leave --json out, or write a file")
    with ProgressBar(args, "images") as progress:
        report = stylize_images(
            args.input,
            args.output,
            style=args.style,
            controls=Controls.of(args.strength, keep_colors=args.keep_colors),
            engine=engine_settings(args),
            mask=mask_settings(args),
            overwrite=args.overwrite,
            progress=progress.update,
        )
    finish(
        args,
        asdict(report),
        [*report.warnings, *(f"{name}: {reason}" for name, reason in report.failed.items())],
        f"{args.output}: {report.images} image{'s' * (report.images != 1)} in {report.seconds:.1f} s "
        f"({report.backend} {report.precision}, style {report.style})",
    )
    return FAILED if report.failed else DONE


def add_verify(commands: Any) -> None:
    """Add the command ``verify``."""
    parser = add_command(
        commands,
        "verify",
        "report what differs between two videos as media",
        "Compare two videos as media: frames and their times, every other stream, rotation, color tags, chapters, "
        "metadata. Exit code 0: nothing is lost; 1: something differs, or a file cannot be read; 3: the input is "
        "damaged, and what is left of it agrees.",
        "[options] IN OUT",
        {
            "in.mp4 out.mp4": "everything, as a table",
            "in.mp4 part.mp4 --start 10 --end 20": "a part of IN is what was asked for",
            "in.mp4 out.mp4 --json": "for scripts",
        },
    )
    parser.add_argument("input", metavar="IN", type=Path, help="the original")
    parser.add_argument("output", metavar="OUT", type=Path, help="the file made from it, by rtstyle or another program")
    asked = parser.add_argument_group("options with which OUT was made")
    asked.add_argument(
        "--start", type=moment, metavar="T", help="OUT starts at this time of IN: seconds or H:MM:SS.mmm"
    )
    asked.add_argument("--end", type=moment, metavar="T", help="OUT ends before this time of IN")
    asked.add_argument("--no-audio", action="store_true", help="the audio was dropped")
    asked.add_argument("--size", metavar="WxH", help="OUT was scaled to this size")
    add_message_options(parser)
    parser.set_defaults(run=_run_verify)


def _run_verify(args: argparse.Namespace) -> int:
    from rtstyle.frame import Size
    from rtstyle.verify import verify_media

    with ProgressBar(args, "frames") as progress:
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
        print_table(
            ("", "in", "out", ""),
            [(f.subject, f.source, f.target, f.verdict + (f": {f.words}" if f.words else "")) for f in report.findings],
        )
    summary = f"{len(differences)} of {len(report.findings)} differ" if differences else "nothing is lost"
    warn(damage)
    if not args.json and not args.quiet:
        say(f"{report.output}: {summary}")
    return FAILED if differences else DAMAGED if report.damage else DONE

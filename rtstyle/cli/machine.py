"""The commands on what is installed here: styles, engines, doctor."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rtstyle.cli.options import DONE, Parser, add_command, add_message_options
from rtstyle.cli.talk import ProgressBar, finish, write
from rtstyle.errors import SettingError


def add_styles(commands: Any) -> None:
    """Add the command ``styles``."""
    parser = add_command(
        commands,
        "styles",
        "list the styles, or make one from an image",
        "List the installed styles, write a sheet of one photo in all of them, or make a style from an image.",
        "[make IMAGE] [options]",
        {
            "": "a list",
            "--sheet photo.jpg -o sheet.png": "one photo in all styles",
            "make painting.jpg -o my-style": "a style folder, in seconds",
        },
    )
    parser.add_argument("--sheet", metavar="PHOTO", type=Path, help="write a sheet of this photo in all styles")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="sheet to write: jpg, png or webp")
    parser.add_argument("-y", "--overwrite", action="store_true", help="replace FILE if it exists")
    add_message_options(parser)
    parser.set_defaults(run=_run_styles)
    actions = parser.add_subparsers(
        dest="action", metavar="ACTION", help="what else there is to do", parser_class=Parser, prog=parser.prog
    )
    make = add_command(
        actions,
        "make",
        "make a style from an image",
        "Make a style folder from any image, without training. --style IMAGE does the same for one run.",
        "IMAGE -o FOLDER",
        {"painting.jpg -o my-style": "then: rtstyle video in.mp4 out.mp4 --style ./my-style"},
    )
    make.add_argument("image", metavar="IMAGE", type=Path, help="painting or drawing: jpg, png, webp, ...")
    make.add_argument("-o", "--output", metavar="FOLDER", type=Path, required=True, help="style folder to write")
    add_message_options(make)
    make.set_defaults(run=_make_style)


def _run_styles(args: argparse.Namespace) -> int:
    from rtstyle.style import list_styles, load_style

    if (args.sheet is None) != (args.output is None):
        raise SettingError("a sheet of styles needs both: --sheet PHOTO -o FILE")
    if args.sheet is not None:
        from rtstyle.sheet import write_style_sheet

        with ProgressBar(args, "styles") as progress:
            names = write_style_sheet(args.sheet, args.output, overwrite=args.overwrite, progress=progress.update)
        finish(args, {"tiles": names, "sheet": str(args.output)}, [], f"wrote {args.output}: {', '.join(names)}")
        return DONE
    found = [load_style(name) for name in list_styles()]
    if args.json:
        print(json.dumps({"styles": [{"name": style.name, **style.metadata} for style in found]}))
        return DONE
    for style in found:
        write(f"{style.name:16} {style.title}")
    return DONE


def _make_style(args: argparse.Namespace) -> int:
    from rtstyle.universal.making import make_style

    begun = time.perf_counter()
    folder = make_style(args.image, args.output)
    seconds = time.perf_counter() - begun
    named = folder if folder.is_absolute() else f"./{folder}"
    said = f"wrote {folder} in {seconds:.1f} s: use it as --style {named}"
    finish(args, {"style": str(folder), "seconds": round(seconds, 2)}, [], said)
    return DONE


def add_engines(commands: Any) -> None:
    """Add the command ``engines``."""
    parser = add_command(
        commands,
        "engines",
        "build TensorRT engines in advance, list or clear them",
        "TensorRT compiles a style once for a GPU architecture and a frame size. The engines are kept in a cache.",
        "ACTION [options]",
        {
            "build --style ink --size 1920x1080": "for the GPU of this machine",
            "build --target sm86,sm89,sm120": "for others",
            "list": "the cached engines",
        },
    )
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="ACTION", parser_class=Parser, prog=parser.prog
    )
    build = add_command(
        actions,
        "build",
        "build an engine before its first use",
        "Build an engine before its first use.",
        "[options]",
        {
            "--style ink --size 1920x1080": "for the GPU of this machine",
            "--size any --target sm89": "any size, another GPU",
        },
    )
    default = " (default: %(default)s)"
    build.add_argument("--style", default="sketch", metavar="S", help="name, folder, or blend a:0.6,b:0.4" + default)
    build.add_argument(
        "--size-class", choices=("default", "fast", "fine"), default="default", help="of the network" + default
    )
    build.add_argument("--size", default="1280x720", metavar="WxH", help="frame size, or 'any'" + default)
    build.add_argument(
        "--target", metavar="SM,SM", help="GPU architectures, e.g. sm86,sm89,sm120 (default: the GPU of this machine)"
    )
    build.add_argument("--precision", choices=("auto", "f16", "f32"), default="auto", help="of the network" + default)
    build.add_argument("--device", metavar="D", help="GPU to build for, e.g. cuda:1")
    for action in (
        build,
        add_command(
            actions, "list", "list the cached engines", "List the cached engines.", "[options]", {"": "a list"}
        ),
        add_command(
            actions, "clear", "remove the cached engines", "Remove all cached engines.", "[options]", {"": "all"}
        ),
    ):
        add_message_options(action)
    parser.set_defaults(run=_run_engines)


def _run_engines(args: argparse.Namespace) -> int:
    from rtstyle.backends.plans import PlanCache

    cache = PlanCache()
    if args.action == "build":
        return _build_engine(args)
    if args.action == "clear":
        count = cache.clear()
        finish(args, {"removed": count}, [], f"removed {count} engine{'s' * (count != 1)} from {cache.folder}")
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
        write(f"{about['label']:32} {about['bytes'] / 1e6:7.1f} MB  {state}")
    return DONE


def _build_engine(args: argparse.Namespace) -> int:
    from rtstyle.backends.tensorrt import build_ahead
    from rtstyle.frame import Size
    from rtstyle.style import load_style

    begun = time.monotonic()
    with ProgressBar(args, "per cent") as progress:
        plan = build_ahead(
            load_style(args.style, args.size_class),
            None if args.size == "any" else Size.parse(args.size),
            targets=args.target,
            precision=args.precision,
            device=args.device,
            progress=lambda phase, done: progress.update(round(100 * done), 100, phase),
        )
    about = plan.about
    accuracy = "not compared to float32 yet" if about["accuracy"] is None else f"{about['accuracy']}"
    finish(
        args,
        {"plan": str(plan.path), **about},
        [],
        f"{about['label']} for {' '.join(about['targets'])}: {about['bytes'] / 1e6:.1f} MB "
        f"in {time.monotonic() - begun:.1f} s by {about['builder']}; {accuracy}",
    )
    return DONE


def add_doctor(commands: Any) -> None:
    """Add the command ``doctor``."""
    parser = add_command(
        commands,
        "doctor",
        "report what works on this machine",
        "Report what works on this machine, and how to fix what does not.",
        "[options]",
        {"": "a list", "--json": "for a bug report", "--speed": "measure this machine, about 10 seconds"},
    )
    parser.add_argument(
        "--speed",
        action="store_true",
        help="measure what the default and the fast network reach here; it is kept, so that live sessions begin with "
        "the right one and renders say how long they take",
    )
    parser.add_argument("--style", metavar="S", default="sketch", help="style that --speed measures (default: sketch)")
    add_message_options(parser)
    parser.set_defaults(run=_run_doctor)


def _run_doctor(args: argparse.Namespace) -> int:
    from rtstyle.doctor import examine

    if args.speed:
        return _measure_speed(args)
    findings = examine()
    if args.json:
        print(json.dumps({"findings": [asdict(finding) for finding in findings]}))
    else:
        for finding in findings:
            mark = {True: "ok  ", False: "no  ", None: "    "}[finding.works]
            write(f"{mark}{finding.subject:22} {finding.says}" + (f"  -> {finding.fix}" if finding.fix else ""))
    return DONE


def _measure_speed(args: argparse.Namespace) -> int:
    from rtstyle.speed import keep_speed
    from rtstyle.style import load_style
    from rtstyle.trial import measure_speed

    lines: list[str] = []
    speed = measure_speed(load_style(args.style), say=lines.append if args.json else write)
    keep_speed(speed)
    if args.json:
        print(json.dumps({"megapixels_per_second": speed.files, "milliseconds_per_megapixel": speed.live}))
    return DONE

"""Train a style: ``python -m train --style PICTURES[:SHARE] ... --content FOLDER --out RUN``."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path

from train.batches import Config
from train.painters import PAINTERS
from train.processes import joined
from train.trainer import train

BASE = Path(__file__).parent / "weights" / "base.safetensors"


def _pictures(text: str) -> tuple[str, float]:
    """Read ``PATH`` or ``PATH:SHARE``."""
    path, colon, share = text.rpartition(":")
    if colon and not Path(text).exists():
        return path, float(share)
    return text, 1.0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train",
        description="Train a style from images; see train/README.md. "
        "For several GPUs or machines: torchrun --nproc-per-node N -m train ...",
    )
    parser.add_argument("--style", nargs="+", type=_pictures, default=[], metavar="PATH[:SHARE]",
                        help="images or folders of them, each with its share of the batches")  # fmt: skip
    parser.add_argument("--content", nargs="+", required=True, metavar="FOLDER", help="folders of photos")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder of the run")
    parser.add_argument("--painter", default="palette", metavar="NAME|FOLDER",
                        help=f"who teaches the first stage: {', '.join(PAINTERS)}, or a style folder (default: "
                             "%(default)s)")  # fmt: skip
    parser.add_argument("--grey", action="store_true", help="look at the images as luma: for drawings")
    parser.add_argument("--base", default=str(BASE), metavar="WEIGHTS",
                        help="what to start from, '' is nothing (default: the base of all shipped styles)")  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="continue with the run in --out")
    parser.add_argument("--start-from", type=Path, metavar="CHECKPOINT", help="take weights and step from another run")
    parser.add_argument("--every", type=int, default=500, metavar="N", help="steps between previews and checkpoints")
    for field in fields(Config):
        if isinstance(field.default, (int, float, str)) and field.name not in ("painter", "base", "color"):
            name = "--" + field.name.replace("_", "-")
            parser.add_argument(name, type=type(field.default), default=field.default, help="(default: %(default)s)")
    return parser


def main() -> int:
    args = _parser().parse_args()
    needed = [*args.content, *(path for path, _ in args.style), *([args.base] if args.base else [])]
    if args.resume:
        needed.append(str(args.out / "checkpoint.pt"))
    for place in needed:
        if not Path(place).exists():
            print(f"train: error: there is no {place}", file=sys.stderr)
            return 1
    if args.steps > args.warm_steps and not args.style:
        print("train: error: the second stage (--steps above --warm-steps) needs --style IMAGE", file=sys.stderr)
        return 1
    if args.size_class != "default" and args.base == str(BASE):
        args.base = ""  # it is a default one
    settings = {f.name: getattr(args, f.name) for f in fields(Config) if hasattr(args, f.name)}
    settings |= {"content": tuple(args.content), "pictures": tuple(args.style), "color": not args.grey}
    try:
        config = Config(**settings)
        with joined() as device:
            train(config, args.out, resume=args.resume, start_from=args.start_from, every=args.every, device=device)
    except ValueError as error:
        print(f"train: error: {error}", file=sys.stderr)
        return 1
    except FloatingPointError as error:
        print(f"train: error: {error}; it went back often enough: lower --warm-rate or --rate", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"train: stopped; --resume continues from {args.out / 'checkpoint.pt'}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

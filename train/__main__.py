"""Train a drawing style: ``python -m train --style DRAWINGS[:SHARE] ... --content FOLDER --out RUN``."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path

from train.trainer import Config, train


def _drawings(text: str) -> tuple[str, float]:
    """Read ``PATH`` or ``PATH:SHARE``."""
    path, colon, share = text.rpartition(":")
    if colon and not Path(text).exists():
        return path, float(share)
    return text, 1.0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m train", description="Train a drawing style on real drawings; see train/README.md."
    )
    parser.add_argument("--style", nargs="+", type=_drawings, required=True, metavar="PATH[:SHARE]",
                        help="drawings (pictures or folders), each with its share of the batches")  # fmt: skip
    parser.add_argument("--content", nargs="+", required=True, metavar="FOLDER", help="folders of photos")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--start-from", type=Path, metavar="CHECKPOINT", help="take weights and step from another run")
    parser.add_argument("--every", type=int, default=250, metavar="N", help="steps between previews and checkpoints")
    for field in fields(Config):
        if isinstance(field.default, (int, float, str)):
            name = "--" + field.name.replace("_", "-")
            parser.add_argument(name, type=type(field.default), default=field.default, help="(default: %(default)s)")
    args = parser.parse_args()
    for place in (*args.content, *(path for path, _ in args.style)):
        if not Path(place).exists():
            print(f"train: error: there is no {place}", file=sys.stderr)
            return 1
    settings = {f.name: getattr(args, f.name) for f in fields(Config) if hasattr(args, f.name)}
    settings |= {"content": tuple(args.content), "drawings": tuple(args.style)}
    try:
        train(Config(**settings), args.out, resume=args.resume, start_from=args.start_from, every=args.every)
    except KeyboardInterrupt:
        print(f"train: stopped; --resume goes on from {args.out / 'checkpoint.pt'}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

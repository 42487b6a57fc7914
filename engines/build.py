"""Build TensorRT engines ahead, for several styles and sizes: ``python -m engines.build sketch 1280x720 1920x1080``

The code that builds is in ``rtstyle/backends/``; ``rtstyle engines build`` does one at a time. With ``--copy-to`` the
engines are gathered in a folder, to be put into the cache of other machines (see README.md).
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

from rtstyle.backends.tensorrt import build_ahead
from rtstyle.errors import RtstyleError
from rtstyle.frame import Size
from rtstyle.style import list_styles, load_style


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m engines.build", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("style", help="name, folder or blend; 'all' for every shipped style")
    parser.add_argument("sizes", nargs="+", help="as in 1280x720; 'any' for changing sizes")
    parser.add_argument("--target", metavar="SM,SM", help="GPUs to build for, as in sm86,sm89,sm120; else the one here")
    parser.add_argument("--precision", choices=("auto", "f16", "f32"), default="auto")
    parser.add_argument("--copy-to", type=Path, metavar="FOLDER", help="put the engines there too")
    args = parser.parse_args()
    try:
        for name in list_styles() if args.style == "all" else [args.style]:
            for size in args.sizes:
                begun = time.perf_counter()
                plan = build_ahead(
                    load_style(name),
                    None if size == "any" else Size.parse(size),
                    targets=args.target,
                    precision=args.precision,
                )
                seconds = time.perf_counter() - begun
                print(f"{plan.path.name}: {plan.about['bytes'] / 1e6:.1f} MB, {seconds:.1f} s")
                if args.copy_to:
                    args.copy_to.mkdir(parents=True, exist_ok=True)
                    for path in (plan.path, plan.path.with_suffix(".json")):
                        shutil.copy2(path, args.copy_to)
    except RtstyleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

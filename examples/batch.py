"""Stylize every video of a tree of folders into another tree; a file that fails does not stop the others.

python examples/batch.py holidays stylized red_chalk
"""

import sys
from pathlib import Path

from rtstyle import OutputExistsError, RenderOptions, RtstyleError, load_style, stylize_video

VIDEOS = {".mp4", ".mkv", ".mov", ".webm"}

source, target, style = Path(sys.argv[1]), Path(sys.argv[2]), load_style(sys.argv[3])
failed = 0
for path in sorted(path for path in source.rglob("*") if path.suffix.lower() in VIDEOS):
    output = target / path.relative_to(source)
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        options = RenderOptions(resume=True)  # continues what was interrupted
        report = stylize_video(path, output, style=style, options=options)
    except OutputExistsError:
        print(f"{output}: done before")
    except RtstyleError as error:
        failed += 1
        print(f"{path}: {error}", file=sys.stderr)
    else:
        print(f"{output}: {report.frames_out} frames, {report.fps:.0f} FPS")
        for warning in report.warnings:
            print(f"  {warning}")
sys.exit(1 if failed else 0)

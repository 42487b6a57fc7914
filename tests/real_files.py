"""Every real file of RTSTYLE_DATA through the real path, and the table of them in docs/media.md.

    python tests/real_files.py                # all of them, whole, and write the table
    python tests/real_files.py vfr rotate     # only some, and print what differs

The files are found by RTSTYLE_DATA; by default in the folder shared/data/video beside the checkout.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from rtstyle.errors import RtstyleError
from rtstyle.render import RenderOptions, stylize_video
from rtstyle.render.batch import VIDEOS, plan_outputs
from rtstyle.verify import verify_media
from rtstyle.verify.facts import Media
from rtstyle.verify.reading import read_media
from rtstyle.video import EncoderSettings

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("RTSTYLE_DATA", ROOT.parent / "shared" / "data" / "video"))
PAGE = ROOT / "docs" / "media.md"
BEGIN, END = "<!-- table: python tests/real_files.py -->", "<!-- end of the table -->"

ERRORS = {
    "audio_only.m4a": "has no video stream",
    "empty.mp4": r"is empty \(0 bytes\)",
    "text.mp4": "cannot be read as a video",
    "truncated_no_moov.mp4": "cannot be read as a video",
}
"""Files that hold no video, and what their one line says."""

DAMAGED = ("corrupted.mp4", "truncated_faststart.mp4")

CROSSWISE = (
    ("formats/nasa_13013.mp4", ".mkv"),
    ("formats/two_audio.mkv", ".mp4"),
    ("formats/vp9_opus.webm", ".mp4"),
    ("formats/vfr.mp4", ".mkv"),
    ("formats/vfr.mp4", ".mov"),
    ("formats/rotate90_audio.mp4", ".mkv"),
    ("formats/interlaced_sar_mpeg2.ts", ".mp4"),
    ("formats/mpeg4_mp3.avi", ".mp4"),
    ("formats/newtonscradle.gif", ".mp4"),
    ("formats/newtonscradle.gif", ".webp"),
    ("formats/rotate_90.mov", ".gif"),
    ("formats/rotate90_audio.mp4", ".ts"),
    ("formats/rotate_180.mov", ".webm"),
    ("formats/h265_video.mp4", ".webm"),
)
"""Files that are written into a container that is not their own, too."""


@dataclass(frozen=True)
class Outcome:
    """What became of one file."""

    name: str
    holds: str
    """What is in it, in words."""
    output: str
    code: int
    """Exit code of ``rtstyle video``."""
    says: str
    """What a person reads: the error, or what verify found that is not simply the same."""
    differences: tuple[str, ...]


def real_files() -> list[Path]:
    """Every file in the folder, in the order of their names; none where there is no such folder."""
    found = [path for path in DATA.rglob("*") if path.is_file() and path.suffix in (*VIDEOS, ".m4a")]
    return sorted(found, key=lambda path: str(path.relative_to(DATA)))


def own_container(path: Path) -> str:
    """The extension that a queue would give the output."""
    return plan_outputs([path], Path("out"))[0][1].suffix


def try_file(path: Path, folder: Path, *, ending: str, end: Fraction | None = None) -> Outcome:
    """Stylize one file into ``folder`` and compare the two.

    Args:
        end: Seconds after which the rest is left out; None takes the whole file.
    """
    name, target = str(path.relative_to(DATA)), folder / f"{path.stem}{ending}"
    try:
        report = stylize_video(path, target, options=RenderOptions(end=end, overwrite=True), encoder=EncoderSettings())
    except RtstyleError as error:
        return Outcome(name, "", ending, 1, str(error).replace(f"{DATA}{os.sep}", ""), ())
    found = verify_media(path, target, end=end)
    intended: dict[str, list[str]] = {}
    for finding in found.findings:
        if finding.verdict == "intended":
            intended.setdefault(finding.words, []).append(finding.subject)
    words = [f"{', '.join(subjects)}: {why}" for why, subjects in intended.items()]
    differences = tuple(f"{finding.subject}: {finding.words or 'other'}" for finding in found.differences)
    damage = [f"damaged input: {'; '.join(found.damage)}"] if found.damage else []
    says = "; ".join([*(f"**{words}**" for words in differences), *damage, *words])
    return Outcome(name, _describe(read_media(path)), ending, 3 if report.dropped else 0, says, differences)


def _describe(media: Media) -> str:
    pictures = media.video
    assert pictures is not None
    frames = len(pictures.times) + pictures.untimed
    width, height = pictures.size
    parts = [f"{frames} x {pictures.track.codec} {width}x{height} {pictures.pixel_format}"]
    if str(pictures.orientation) != "0°":
        parts.append(str(pictures.orientation))
    parts += [track.codec or track.type for track in media.streams]
    return ", ".join(parts)


def write_table(outcomes: list[Outcome]) -> None:
    """Replace the table in docs/media.md."""
    rows = ["| file | holds | written as | exit | result |", "|---|---|---|---|---|"]
    for outcome in outcomes:
        says = (outcome.says or "all the same").replace("|", "/")
        rows.append(f"| {outcome.name} | {outcome.holds} | {outcome.output} | {outcome.code} | {says} |")
    page = PAGE.read_text("utf-8")
    table = "\n".join([BEGIN, "", *rows, "", END])
    PAGE.write_text(re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: table, page, flags=re.DOTALL), "utf-8")


def main(words: list[str]) -> int:
    """Run all files, or those whose names hold one of ``words``; 1 where something differs that should not."""
    cases = [(path, own_container(path)) for path in real_files()]
    cases += [(DATA / name, ending) for name, ending in CROSSWISE if (DATA / name).is_file()]
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        for path, ending in cases:
            if not words or any(word in path.name for word in words):
                outcomes.append(try_file(path, Path(folder), ending=ending))
                print(f"{outcomes[-1].name} -> {ending}: {outcomes[-1].code} {outcomes[-1].says}", flush=True)
    if not words and outcomes:
        write_table(outcomes)
    return 1 if any(outcome.differences for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

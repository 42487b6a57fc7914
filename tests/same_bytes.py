"""Show that a change of the structure changes no output: the same commands on the same inputs, with two trees.

    git worktree add /tmp/before HEAD~1
    python tests/same_bytes.py /tmp/before .

The inputs stand for kinds: containers, codecs, depths, layouts, timestamps, rotations, several audio streams,
images. What a command writes is compared byte by byte, and so is its exit code; Matroska, which holds a random number,
packet by packet.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from clips import Sound, make_clip, moving_bar

SIZE = {"width": 192, "height": 128}


def _deep(count: int) -> list[tuple[np.ndarray, ...]]:
    return [tuple(plane.astype(np.uint16) * 4 for plane in moving_bar(192, 128, i)) for i in range(count)]


INPUTS: dict[str, Callable[[Path], object]] = {
    "audio.mp4": lambda path: make_clip(path, sounds=[Sound(), Sound(language="deu", default=False)], **SIZE),
    "late.mkv": lambda path: make_clip(path, sounds=[Sound(late=0.2)], **SIZE),
    "uneven.mkv": lambda path: make_clip(path, times=[0, 1, 3, 4, 9, 10, 17], **SIZE),
    "film.mov": lambda path: make_clip(path, time_base=Fraction(1001, 24000), rate=Fraction(24000, 1001), **SIZE),
    "rotated.mp4": lambda path: make_clip(path, rotation=90, **SIZE),
    "wide.mp4": lambda path: make_clip(path, sar=Fraction(4, 3), **SIZE),
    "odd.mkv": lambda path: make_clip(path, codec="ffv1", options={}, width=175, height=129),
    "deep.mkv": lambda path: make_clip(path, _deep(8), times=range(8), pix_fmt="yuv420p10le", **SIZE),
    "web.webm": lambda path: make_clip(path, codec="libvpx-vp9", options={"lossless": "1"}, **SIZE),
    "full.mkv": lambda path: make_clip(path, tags=(1, 2, 1, 1), **SIZE),
    "image.png": lambda path: cv2.imwrite(str(path), _image(3)),
    "alpha.png": lambda path: cv2.imwrite(str(path), _image(4)),
    "deep.tif": lambda path: cv2.imwrite(str(path), _image(3).astype(np.uint16) * 257),
}


def _image(channels: int) -> np.ndarray:
    small = np.random.default_rng(channels).integers(0, 256, (8, 12, channels), np.uint8)
    return np.asarray(cv2.resize(small, (192, 128), interpolation=cv2.INTER_CUBIC), np.uint8)


STYLES = ("sketch", "the_scream")


def commands() -> list[list[str]]:
    """Return what is run, each an argument list behind ``rtstyle``; inputs lie in the working folder."""
    made = []
    for name in INPUTS:
        stem, extension = name.split(".")
        kind = "image" if extension in ("png", "tif") else "video"
        made.append([kind, name, f"out-{stem}.{extension}"])
    return [
        *made,
        ["video", "audio.mp4", "part.mkv", "--start", "0.1", "--end", "0.3"],
        ["video", "audio.mp4", "silent.mp4", "--no-audio"],
        ["video", "audio.mp4", "half.mp4", "--strength", "0.5", "--size", "128x96"],
        ["video", "audio.mp4", "zero.mkv", "--strength", "0", "--codec", "ffv1"],
        ["video", "audio.mp4", "frames/%05d.png"],
        ["video", "film.mov", "jobs.mov", "--jobs", "2"],
        ["video", "audio.mp4", "mix.mp4", "--style", f"{STYLES[0]}:0.6,{STYLES[1]}:0.4"],
        ["video", "nothing.mp4", "none.mp4"],
        ["image", "image.png", "painted.jpg", "--style", STYLES[1]],
    ]


def _digest(path: Path) -> str:
    if path.suffix not in (".mkv", ".webm"):
        return hashlib.blake2b(path.read_bytes()).hexdigest()
    found = hashlib.blake2b()
    with av.open(str(path)) as container:
        for stream in container.streams:
            context = stream.codec_context
            found.update(f"{stream.type} {context.name} {context.extradata!r} {stream.metadata}".encode())
        for packet in container.demux():
            found.update(f"{packet.stream_index} {packet.pts} {packet.dts} {packet.time_base}".encode() + bytes(packet))
    return found.hexdigest()


def outcome(tree: Path, arguments: list[str], inputs: Path) -> tuple[int, dict[str, str], str]:
    """Run a command with the package of a tree; return its exit code, hashes of what it wrote and its last line."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path in inputs.iterdir():
            (folder / path.name).symlink_to(path)
        env = {**os.environ, "PYTHONPATH": str(tree.resolve())}
        done = subprocess.run(
            [sys.executable, "-m", "rtstyle", *arguments],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        written = {
            str(path.relative_to(folder)): _digest(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.is_symlink()
        }
    return done.returncode, written, (done.stderr.strip().splitlines() or [""])[-1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    args = parser.parse_args()
    differ = 0
    with tempfile.TemporaryDirectory() as name:
        inputs = Path(name)
        for file, make in INPUTS.items():
            make(inputs / file)
        every = commands()
        for arguments in every:
            old, new = (outcome(tree, arguments, inputs) for tree in (args.old, args.new))
            if old[:2] != new[:2]:
                differ += 1
                print(f"differs: rtstyle {' '.join(arguments)}")
                for label, (code, written, words) in (("old", old), ("new", new)):
                    print(f"  {label}: exit code {code}, {', '.join(written) or 'no file'}; {words}")
    print(f"{len(every) - differ} of {len(every)} commands give the same bytes and exit codes")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())

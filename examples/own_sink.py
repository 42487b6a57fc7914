"""A sink of your own: one image per second of a stylized video, and the brightness of every frame.

python examples/own_sink.py in.mp4 folder
"""

import sys
from pathlib import Path

import cv2

from rtstyle import Frame, FrameSink, stylize_video


class Diary(FrameSink):
    """Writes folder/0000.png, 0001.png, ... and folder/brightness.csv."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines = ["seconds,brightness"]
        self.next_second = 0

    def write(self, frame: Frame) -> None:
        image = frame.to_rgb()
        self.lines.append(f"{frame.seconds:.3f},{image.mean():.1f}")
        if frame.seconds >= self.next_second:
            cv2.imwrite(str(self.folder / f"{self.next_second:04}.png"), image[..., ::-1])
            self.next_second += 1

    def __exit__(self, kind, error, trace) -> None:
        (self.folder / "brightness.csv").write_text("\n".join(self.lines) + "\n")


folder = Path(sys.argv[2])
folder.mkdir(parents=True, exist_ok=True)
report = stylize_video(sys.argv[1], Diary(folder), style="etching")
print(f"{report.frames_out} frames in {report.seconds:.1f} s", *report.warnings, sep="\n")

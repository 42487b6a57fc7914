"""A source of your own: a drawn ball, stylized and written as a video.

python examples/own_source.py ball.mp4
"""

import sys
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from rtstyle import Frame, FrameSource, Size, stylize_video


class Ball(FrameSource):
    """Two seconds of a ball that swings in front of a gradient."""

    size = Size(320, 240)
    rate = Fraction(25)

    def __iter__(self) -> Iterator[Frame]:
        rows, columns = np.mgrid[: self.size.height, : self.size.width]
        background = np.stack([rows // 2 + 60, columns // 2 + 40, np.full_like(rows, 150)], axis=-1)
        for number in range(50):
            image = background.astype(np.uint8)
            x = 160 + 100 * np.sin(number / 8)
            image[(rows - 120) ** 2 + (columns - x) ** 2 < 40**2] = (230, 90, 40)
            yield Frame.from_rgb(image, pts=number, time_base=1 / self.rate)


report = stylize_video(Ball(), sys.argv[1], style="the_scream")
print(f"{report.frames_out} frames, {report.fps:.0f} FPS, {report.backend} {report.precision}")

"""Check that stylized faces stay faces: ``python -m train.faces STYLE ... --clips CLIP ... [--lines 480 720]``.

The largest face of each clip is cropped to two close-ups, which are resized to 4:3 webcam frames and stylized as video.
In every fourth frame a face detector looks for the face again. Per style and frame height:

    found       share of the frames in which a face overlaps the source's (intersection over union of 0.4 and more)
    landmarks   median over these frames of the mean distance of eyes, nose and corners of the mouth to those of the
                source, in percent of the width of the source's face
    worst       the same of the worst close-up, and which

The detector is libfacedetection (3-clause BSD, extra ``workshop``), a convolutional network with five landmarks.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle import (
    Color,
    EngineSettings,
    Frame,
    FrameSink,
    FrameSource,
    Size,
    VideoReader,
    load_style,
    stylize_video,
)
from rtstyle.style import Style

Image = NDArray[np.uint8]

FOUND, LANDMARKS = 0.9, 4.0
"""Limits: the least share of frames, and the largest median distance, percent of the face's width."""

PORTIONS = (0.22, 0.36)
"""Widths of the face in the two close-ups, relative to the height of the frame."""

_COLOR = Color("bt601", full_range=True)
_CONFIDENCE = 0.5
_OVERLAP = 0.4
_FRAMES, _EVERY = 9, 4


@dataclass(frozen=True)
class Face:
    """A detected face, in pixels of the image."""

    box: NDArray[np.float64]
    """x, y, width, height."""
    landmarks: NDArray[np.float64]
    """Shape (5, 2): eyes, nose, corners of the mouth."""

    @property
    def width(self) -> float:
        return float(self.box[2])


def detect(image: Image) -> list[Face]:
    """Return the faces of an RGB image, the largest first."""
    from yuface import detect as find

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sides over 960 pixels, in which large faces are found as well
        _, boxes, landmarks = find(np.ascontiguousarray(image[..., ::-1]), conf=_CONFIDENCE)
    faces = [
        Face(box.astype(np.float64), points.reshape(5, 2).astype(np.float64))
        for box, points in zip(boxes, landmarks, strict=True)
    ]
    return sorted(faces, key=lambda face: -face.width)


def overlap(first: Face, second: Face) -> float:
    """Return the intersection of two boxes over their union."""
    (x, y, w, h), (u, v, p, q) = first.box, second.box
    inside = max(0.0, min(x + w, u + p) - max(x, u)) * max(0.0, min(y + h, v + q) - max(y, v))
    return float(inside / (w * h + p * q - inside))


def find_again(image: Image, source: Face) -> Face | None:
    """Return the face of an image that overlaps a source face most, or None if none does sufficiently."""
    best = max(detect(image), key=lambda face: overlap(face, source), default=None)
    return best if best is not None and overlap(best, source) >= _OVERLAP else None


def landmark_distance(face: Face, source: Face) -> float:
    """Return the mean distance of the landmarks of two faces, in percent of the width of the second."""
    return float(100 * np.hypot(*(face.landmarks - source.landmarks).T).mean() / source.width)


def close_ups(frames: Sequence[Image], lines: int) -> Iterator[list[Image]]:
    """Yield two close-ups, 4:3 with ``lines`` lines, of the largest face of the first frame; none without a face."""
    faces = detect(frames[0])
    if not faces:
        return
    x, y, width, height = faces[0].box
    size = (2 * round(lines * 2 / 3), lines)
    for portion in PORTIONS:
        side = min(
            width / portion, *(length / ratio for length, ratio in zip(frames[0].shape[:2], (1, 4 / 3), strict=True))
        )
        h, w = round(side), round(side * 4 / 3)
        top = int(np.clip(y + height / 2 - h * 0.45, 0, frames[0].shape[0] - h))
        left = int(np.clip(x + width / 2 - w / 2, 0, frames[0].shape[1] - w))
        how = cv2.INTER_CUBIC if h < lines else cv2.INTER_AREA
        yield [
            np.asarray(cv2.resize(f[top : top + h, left : left + w], size, interpolation=how), np.uint8) for f in frames
        ]


class _Frames(FrameSource):
    def __init__(self, images: Sequence[Image]) -> None:
        self.size, self.rate, self.color = Size(images[0].shape[1], images[0].shape[0]), Fraction(25), _COLOR
        self._images = images

    def __iter__(self) -> Iterator[Frame]:
        for index, image in enumerate(self._images):
            yield Frame.from_rgb(image, pts=index, time_base=Fraction(1, 25), color=_COLOR)


@dataclass
class _Collected(FrameSink):
    images: list[Image] = field(default_factory=list)

    def write(self, frame: Frame) -> None:
        self.images.append(frame.to_rgb())


def stylized(style: Style, images: Sequence[Image]) -> list[Image]:
    """Stylize consecutive frames as ``rtstyle video`` does, in float32."""
    sink = _Collected()
    stylize_video(_Frames(images), sink, style=style, engine=EngineSettings(precision="f32"))
    return sink.images


@dataclass(frozen=True)
class CloseUp:
    """Consecutive frames of one face; ``faces`` are those of every fourth, None where the detector finds none."""

    name: str
    images: list[Image]
    faces: list[Face | None]

    @classmethod
    def of(cls, clip: Path, lines: int) -> list[CloseUp]:
        """Return the two close-ups of a clip; none if its first frame shows no face."""
        with VideoReader(clip) as reader:
            frames = [frame.to_rgb() for frame in islice(reader, _FRAMES)]
        return [
            cls(f"{clip.stem} {portion:g}", images, [next(iter(detect(image)), None) for image in images[::_EVERY]])
            for portion, images in zip(PORTIONS, close_ups(frames, lines), strict=False)
        ]


def measure(style: Style, close_ups: Sequence[CloseUp]) -> dict[str, Any]:
    """Return the figures of the module's docstring for close-ups of one height."""
    distances: dict[str, list[float]] = {}
    frames = 0
    for shot in close_ups:
        made = stylized(style, shot.images)[::_EVERY]
        found = distances.setdefault(shot.name, [])
        for image, face in zip(made, shot.faces, strict=True):
            if face is not None:
                frames += 1
                again = find_again(image, face)
                found.extend([landmark_distance(again, face)] if again else [])
    if not frames:
        raise ValueError("no clip shows a face: choose clips in which the detector finds one")
    every = [distance for found in distances.values() for distance in found]
    middles = {name: float(np.median(found)) if found else float("inf") for name, found in distances.items()}
    worst = max(middles, key=middles.__getitem__)
    return {
        "close_ups": len(close_ups),
        "frames": frames,
        "found": round(len(every) / frames, 3),
        "landmarks": round(float(np.median(every)), 2) if every else None,
        "worst": round(middles[worst], 2) if distances[worst] else None,
        "worst_name": worst,
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m train.faces", description="Check that faces stay faces.")
    parser.add_argument("styles", nargs="+", help="names or folders")
    parser.add_argument("--clips", type=Path, nargs="+", required=True, help="clips of faces, one face each")
    parser.add_argument("--lines", type=int, nargs="+", default=[480, 720], help="frame heights (default: 480 720)")
    args = parser.parse_args()
    wrong = False
    for lines in args.lines:
        shots = [shot for clip in args.clips for shot in CloseUp.of(clip, lines)]
        for name in args.styles:
            figures = measure(load_style(name), shots)
            print(json.dumps({"style": name, "lines": lines} | figures), flush=True)
            wrong |= figures["found"] < FOUND or figures["landmarks"] is None or figures["landmarks"] > LANDMARKS
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

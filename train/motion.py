"""Clips of known motion, made from photos: where every pixel was in the frame before, by formula and not by flow.

Real clips have no true motion to compare with, and in pans by whole pixels nothing turns, grows or hides what lies
behind it. Here photos lie on layers that move by similarity transforms; each frame is sampled from them directly.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle import Size

Image = NDArray[np.uint8]
Points = NDArray[np.complex128]
"""Places x + iy in pixels about the middle of the frame or layer: a product turns and scales, a sum shifts."""

ZOOM = 1.005 * np.exp(1j * np.radians(0.25))
"""A frame, about its middle: at 25 FPS 13 % larger and 6 degrees on in a second; 1.8 pixels a frame in a corner."""

BACKGROUND, FOREGROUND = -1.3 + 0.6j, 2.2 - 0.9j
"""Pixels a frame, x + iy. No multiple of a pixel: strokes sit on whole pixels, cameras do not."""

RIM = 5
"""Pixels left out on both sides of an occlusion's edge, and inside the frame's: sampling mixes there."""

_FINE = 2
"""Samples a pixel across and down, averaged. One cubic sample alone is sharp on the photo's own pixels and soft between
them, so that moving textures breathe; the mean is about as sharp everywhere, and edges are as soft as a sensor's.
Frames warped by the true motion differ by 4 dB less than with one sample; 3x3 samples would take another 0.6 dB."""


@dataclass(frozen=True)
class Clip:
    """Frames, and for each but the first where its pixels come from."""

    frames: list[Image]
    """n of shape (h, w, 3), RGB."""
    back: list[NDArray[np.float32]]
    """n - 1 of shape (h, w, 2): ``back[i]`` says where, (x, y), each pixel of frame i + 1 was in frame i."""
    seen: list[NDArray[np.bool_]]
    """n - 1 of shape (h, w): what of frame i + 1 is visible in frame i, too, off the rims."""


@dataclass(frozen=True)
class _Layer:
    """A photo that turns, grows and moves; at step 0 its middle is the frame's."""

    photo: Image
    growth: complex = 1
    velocity: complex = 0
    ellipse: Size | None = None
    """What of it there is, both axes in pixels; None: all."""

    def under(self, frame: Points, step: int) -> Points:
        """Say what place of the layer lies under a place of the frame."""
        return np.asarray((frame - self.velocity * step) / self.growth**step)

    def shown(self, layer: Points, step: int) -> Points:
        """Say where in the frame a place of the layer is shown."""
        return np.asarray(layer * self.growth**step + self.velocity * step)

    def covers(self, layer: Points) -> NDArray[np.bool_]:
        if self.ellipse is None:
            return np.ones(layer.shape, bool)
        return np.asarray(np.hypot(layer.real / self.ellipse.width, layer.imag / self.ellipse.height) <= 0.5)


def _grid(size: Size, fine: int = 1) -> Points:
    """Return the middles of all pixels, or of ``fine`` x ``fine`` parts of each, about the frame's."""
    x, y = ((np.arange(side * fine) + 0.5) / fine - side / 2 for side in (size.width, size.height))
    return x + 1j * y[:, None]


def _pixels(points: Points, width: int, height: int) -> NDArray[np.float32]:
    """Turn places about the middle into pixels as OpenCV counts them: (x, y), the first pixel's middle is 0, 0."""
    return np.dstack((points.real + (width - 1) / 2, points.imag + (height - 1) / 2)).astype(np.float32)


def _clip(layers: tuple[_Layer, ...], size: Size, frames: int) -> Clip:
    """Render a clip of layers, the last one on top, from as many steps before their middle as behind it."""
    coarse, fine = _grid(size), _grid(size, _FINE)
    steps = range(-(frames // 2), frames - frames // 2)
    # A photo that is too small for what is seen of it is enlarged, in the same sampling; none is made smaller.
    scales = []
    for layer in layers:
        reach = np.concatenate([layer.under(coarse[:: size.height - 1, :: size.width - 1], s) for s in steps])
        height, width = layer.photo.shape[:2]
        room = (width / 2 - 2) / np.abs(reach.real).max(), (height / 2 - 2) / np.abs(reach.imag).max()
        scales.append(min(*room, 1.0))
    clip, owners = Clip([], [], []), []
    for step in steps:
        picture = np.empty((*fine.shape, 3), np.uint8)
        owner, back = np.zeros(coarse.shape, np.uint8), coarse
        for number, (layer, scale) in enumerate(zip(layers, scales, strict=True), 1):
            height, width = layer.photo.shape[:2]
            places = layer.under(fine, step)
            covered = layer.covers(places)
            sampled = cv2.remap(layer.photo, _pixels(places * scale, width, height), None, cv2.INTER_CUBIC)
            picture[covered] = sampled[covered]
            places = layer.under(coarse, step)
            owner[layer.covers(places)] = number
            back = np.where(owner == number, layer.shown(places, step - 1), back)
        clip.frames.append(np.asarray(cv2.resize(picture, (size.width, size.height), interpolation=cv2.INTER_AREA)))
        # 0 on rims, else the layer that is seen: the same layer must be seen where the pixel was.
        near = np.ones((2 * RIM + 1, 2 * RIM + 1), np.uint8)
        owner[cv2.dilate(owner, near) != cv2.erode(owner, near)] = 0
        owner[:RIM], owner[-RIM:], owner[:, :RIM], owner[:, -RIM:] = 0, 0, 0, 0
        owners.append(owner)
        if len(owners) > 1:
            clip.back.append(_pixels(back, size.width, size.height))
            was = cv2.remap(owners[-2], clip.back[-1], None, cv2.INTER_NEAREST, borderValue=0)
            clip.seen.append((owner > 0) & (owner == was))
    return clip


def zoom(photo: Image, size: Size, frames: int) -> Clip:
    """Render a slow zoom into a photo (RGB), with rotation: no translation undoes it."""
    return _clip((_Layer(photo, growth=ZOOM),), size, frames)


def parallax(photo: Image, front: Image, size: Size, frames: int) -> Clip:
    """Render a pan over a photo, before which an ellipse of another photo moves its own way and hides parts of it."""
    ellipse = Size(size.width // 2, size.height // 2)
    return _clip(
        (_Layer(photo, velocity=BACKGROUND), _Layer(front, velocity=FOREGROUND, ellipse=ellipse)), size, frames
    )

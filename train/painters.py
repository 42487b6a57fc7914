"""Painters made in code: what an image of a photo on the canvas could look like, in ten manners.

They teach the generator's first stage. Style losses know which marks are right but not where they
belong; a painter knows where (strokes run around forms, edges get a contour, tone and color come from a
palette), it costs a fifth of a loss network, and being a function of photo and canvas it is stable by
itself. Its marks are plain: their manner is learnt from real images, in the second stage.

A painter takes a photo (h, w, 3), RGB in [0, 1], and the (y, x) of its top left on the canvas, and
returns the image in the same form. Strokes are the canvas smeared along a flow (Cabral and Leedom
1993, "Imaging vector fields using line integral convolution") that follows the smoothed structure tensor
of the photo (Kyprianidis and Kang 2011, "Image and video abstraction by coherence-enhancing filtering"),
and the hand where the photo has no direction. (Whirls of the canvas's own were tried there: a network of
this size learns only their mean.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle import canvas
from train import strokes
from train.data import TO_RGB, to_yuv

Picture = NDArray[np.float32]
Painter = Callable[[Picture, tuple[int, int]], Picture]


def _luma(rgb: Picture) -> Picture:
    return np.asarray(to_yuv(rgb)[..., 0] + np.float32(0.5), np.float32)


def _rgb(y: Picture, u: Picture, v: Picture) -> Picture:
    return np.asarray(np.clip(cv2.transform(cv2.merge((y, u, v)), TO_RGB), 0, 1), np.float32)


def _blur(x: Picture, sigma: float) -> Picture:
    return np.asarray(cv2.GaussianBlur(x, (0, 0), sigma), np.float32)


def _sigmoid(x: Picture) -> Picture:
    return np.asarray(1 / (1 + np.exp(-x)), np.float32)


def _cut(bank: Picture, offset: tuple[int, int], shape: tuple[int, ...]) -> Picture:
    """Cut a window from a periodic bank over the tile."""
    y, x = (o + np.arange(n) for o, n in zip(offset, shape, strict=False))
    return np.asarray(bank[(y % canvas.TILE)[:, None], (x % canvas.TILE)[None]], np.float32)


def _band(sigma: float, wider: float) -> Picture:
    """Band of the tile between two blurs (periodic), of unit deviation."""
    noise = np.tile(canvas.tile().astype(np.float32) - 128, (3, 3))
    band = (_blur(noise, sigma) - _blur(noise, wider))[canvas.TILE : 2 * canvas.TILE, canvas.TILE : 2 * canvas.TILE]
    return np.asarray(band / band.std(), np.float32)


def _tensor(x: Picture, sigma: float) -> Picture:
    """Structure tensor (xx, yy, xy), smoothed (Bigun and Granlund 1987). Shape (h, w, 3)."""
    gx, gy = cv2.Sobel(x, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(x, cv2.CV_32F, 0, 1, scale=1 / 8)
    return _blur(cv2.merge((gx * gx, gy * gy, gx * gy)), sigma)


def _along(tensor: Picture) -> Picture:
    """Unit vectors (x, y) along the edges of a structure tensor. Shape (h, w, 2)."""
    xx, yy, xy = cv2.split(tensor)
    angle = 0.5 * np.arctan2(2 * xy, xx - yy) + np.pi / 2
    return np.asarray(cv2.merge((np.cos(angle), np.sin(angle))), np.float32)


def smear(fields: Picture, along: Picture, lengths: Sequence[float]) -> Picture:
    """Average fields along a flow: line integral convolution with Gaussians of deviation ``lengths``, in pixels.

    Args:
        fields: Shape (h, w, c), c at most 4; one length for each.
        along: Shape (h, w, 2): unit vectors (x, y); their sign means nothing.
    """
    height, width = fields.shape[:2]
    longest = max(lengths)
    step = max(1.5, longest / 4)
    start = np.dstack(np.meshgrid(np.arange(width), np.arange(height))).astype(np.float32)
    total, weights = fields.copy(), np.ones(len(lengths), np.float32)
    for sign in (1, -1):
        place, forward = start.copy(), sign * along
        for k in range(1, round(1.8 * longest / step) + 1):
            place += step * forward
            weight = np.exp(-0.5 * (k * step / np.array(lengths, np.float32)) ** 2).astype(np.float32)
            sample = cv2.remap(fields, place, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
            total += weight * sample.reshape(total.shape)
            weights += weight
            there = cv2.remap(along, place, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)
            backward = there[..., 0] * forward[..., 0] + there[..., 1] * forward[..., 1] < 0
            there[backward] *= -1
            forward = there
    return np.asarray(total / weights, np.float32)


# -- drawings --------------------------------------------------------------------------------------


def _pencil(hatchings: Picture, rgb: Picture, offset: tuple[int, int]) -> Picture:
    drawn = strokes.drawing(_luma(rgb), _cut(hatchings, offset, rgb.shape))
    return np.repeat(drawn[..., None], 3, 2)


def _demand(luma: Picture, sigma: float, contrast: float = 0.6) -> Picture:
    """How dark a drawing wants to be, 0 to 1: local contrast counts, and the night is drawn lighter than it is."""
    tone, around = _blur(luma, sigma), _blur(luma, 14.0)
    local = tone + contrast * (tone - around) + 0.22 * np.maximum(0, 0.33 - around)
    return np.asarray(np.clip((0.80 - local) / 0.80, 0, 1), np.float32)


def _contour(luma: Picture, inner: float, outer: float, gain: float, sill: float) -> Picture:
    """Lines at the dark side of edges, 0 to 1, deaf to differences under ``sill``.

    After Winnemoeller, Kyprianidis and Olsen 2012, "XDoG: an extended difference-of-Gaussians compendium".
    """
    edges = _blur(luma, inner) - _blur(luma, outer)
    return np.asarray(np.tanh(gain * np.maximum(-edges - sill, 0)), np.float32)


def _mixed(paper: Sequence[float], ink: Sequence[float], cover: Picture) -> Picture:
    """Paper where ``cover`` is 0, ink where it is 1 (levels of 255 in RGB)."""
    light, dark = (np.array(c, np.float32) / 255 for c in (paper, ink))
    return np.asarray(light + cover[..., None] * (dark - light), np.float32)


def _red_chalk(hatchings: Picture, rgb: Picture, offset: tuple[int, int]) -> Picture:
    """Sanguine: broad soft strokes, a grain of paper, darks worked over in a deeper red; light by much bare paper."""
    luma, bank = _luma(rgb), _cut(hatchings, offset, rgb.shape)
    hatch, grain = bank[..., :-1], bank[..., -1]
    demand = _demand(luma, 2.0, 0.9) ** 1.3
    form = _blur(luma, 1.5)
    main = (hatch * strokes.directions_of(form, strokes.HAND)).sum(-1)
    cross = (hatch * strokes.directions_of(form, strokes.HAND + 60)).sum(-1)
    first = _sigmoid(2.4 * (main + 0.4 * grain - 1.3 + 2.6 * demand)) * (0.22 + 0.62 * demand)
    second = _sigmoid(2.4 * (cross - 3.0 + 3.6 * demand)) * 0.5 * demand
    shade = 1 - (1 - first * np.minimum(12 * demand, 1)) * (1 - second) * (1 - 0.5 * demand**2)
    line = _contour(luma, 1.1, 2.8, 13, 0.010) * (0.80 + 0.15 * np.tanh(grain))
    cover = np.clip(1 - (1 - shade) * (1 - 0.85 * line), 0, 1)
    red = _mixed((243, 216, 176), (190, 78, 44), np.minimum(1.3 * cover, 1))
    deep = np.array((92, 30, 20), np.float32) / 255
    worked = np.clip(1.8 * cover - 0.9, 0, 0.8)[..., None]
    return np.asarray(red + worked * (deep - red), np.float32)


_NEEDLE = ((30, 0.22), (100, 0.46), (165, 0.70))
"""Directions of the etcher's hatchings in degrees, and how dark it must be for each to begin."""


def seen_in(luma: Picture) -> Picture:
    """Return how much there is to see around each pixel, 0 to 1; on an empty sky no tracker can hold strokes."""
    return np.clip(70 * _blur(np.abs(_blur(luma, 1.2) - _blur(luma, 6.0)), 10.0) - 0.6, 0, 1)


def _etching(hatchings: Picture, rgb: Picture, offset: tuple[int, int]) -> Picture:
    """Needle on copper: even parallel lines that swell with the tone and cross in the dark; warm paper, one ink.

    They are drawn beside forms; empty skies and walls get a plain tone with a breath of lines instead, as aquatint
    gives it: no tracker can hold strokes there.
    """
    luma, hatch = _luma(rgb), _cut(hatchings, offset, rgb.shape)
    seen = np.maximum(seen_in(luma), 0.05)
    demand = _demand(luma, 1.8, 1.0) * (0.75 + 0.30 * seen)
    white = np.ones_like(luma)
    for i, (_, begins) in enumerate(_NEEDLE):
        more = np.clip((demand - begins) / (1 - begins), 0, 1)
        level = 1.2 - 2.0 * more
        tone = _sigmoid(-1.5 * level)  # what lines cover on average
        line = _sigmoid(4.0 * (hatch[..., i] - level))
        white *= 1 - 0.95 * np.minimum(6 * more, 1) * (tone + seen * (line - tone))
    contour = _contour(luma, 0.9, 2.4, 16, 0.010)
    cover = 1 - white * (1 - 0.95 * contour) * (1 - 0.35 * np.clip(4 * demand - 3.0, 0, 1))
    return _mixed((240, 230, 208), (42, 33, 27), np.clip(cover, 0, 1).astype(np.float32))


def _ink(bristles: Picture, wet: Picture, rgb: Picture, offset: tuple[int, int]) -> Picture:
    """Brush and wash: three dilutions of ink with dark rims, bold contours that swell, much white paper."""
    luma, spread = _luma(rgb), _cut(wet, offset, rgb.shape)
    hairs = _cut(bristles, offset, rgb.shape)
    tone = smear(luma[..., None], _along(_tensor(_blur(luma, 1.2), 3.0)), (3.0,))[..., 0]
    demand = _demand(tone, 1.6, 1.0) + 0.012 * spread
    wash = np.zeros_like(luma)
    for edge, level in ((0.34, 0.20), (0.56, 0.30), (0.76, 0.42)):
        rim = np.exp(-(((demand - edge - 0.03) / 0.03) ** 2))  # pigment gathers where a wash ends
        wash = wash + level * _sigmoid((demand - edge) * 36) + 0.06 * rim
    dry = _sigmoid(3 * (hairs - 0.8))  # where the brush left the paper bare
    bold = _contour(tone, 1.7, 5.5, 16, 0.012) * (1 - 0.35 * dry)
    fine = _contour(luma, 0.9, 2.4, 14, 0.012)
    cover = 1 - (1 - np.clip(wash, 0, 0.93) * (1 - 0.22 * dry)) * (1 - 0.97 * bold) * (1 - 0.8 * fine)
    return _mixed((247, 244, 236), (20, 20, 26), np.clip(cover, 0, 1).astype(np.float32))


# -- flat color -----------------------------------------------------------------------------------


def _cartoon(rgb: Picture, offset: tuple[int, int]) -> Picture:
    """Few flat tones with clean edges, richer color, bold dark outlines; the canvas is not used.

    After Winnemoeller, Olsen and Gooch 2006, "Real-time video abstraction".
    """
    smooth = _blur(to_yuv(rgb), 0.8)
    for _ in range(2):
        smooth = np.asarray(cv2.bilateralFilter(smooth, 9, 0.09, 3.0), np.float32)
    luma = np.ascontiguousarray(smooth[..., 0])
    y = 0.60 + 1.25 * luma + 0.5 * (luma - _blur(luma, 20.0))
    bins = 3.0
    scaled = np.clip(y, 0, 1) * bins - 0.5
    below = np.floor(scaled)
    flat = (below + 1 + 0.5 * np.tanh(8 * (scaled - below - 0.5))) / bins
    line = _contour(luma, 1.3, 4.6, 32, 0.011)
    y = np.clip(flat, 0, 1) * (1 - 0.97 * line)
    u, v = (np.ascontiguousarray(2.0 * smooth[..., i] * (1 - 0.85 * line), np.float32) for i in (1, 2))
    return _rgb(np.asarray(y, np.float32), u, v)


# -- paint -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Brush:
    """How a painter lays on a palette."""

    length: float = 9.0
    """Of strokes: standard deviation in pixels."""
    width: float = 0.9
    """The same across them."""
    patch: float = 3.0
    """Width of patches of neighbouring strokes, half as long again as these."""
    hand: float = 30.0
    """Direction of strokes where the photo has none, in degrees; 0 is horizontal, 90 is upright."""
    pull: float = 1e-4
    """How strong an edge must be to turn the strokes along it."""
    melt: float = 2.5
    """How far paint is drawn along edges, in pixels."""
    light: tuple[float, float] = (0.10, 0.06)
    """How much strokes, and patches of them, differ in lightness."""
    hue: tuple[float, float] = (0.05, 0.10)
    """How much they differ in color."""
    calm: float = 0.4
    """How much less they do so where the photo has much detail."""
    keep: float = 0.6
    """How much of the photo's own color decides the palette's."""
    glow: float = 0.0
    """How much light is warm and dark is cold."""
    sharp: float = 220.0
    """How decidedly a stroke takes one color of the palette."""
    purity: float = 1.25
    """Saturation of the palette: the paint was purer than what it mixes to from afar."""
    contrast: float = 0.7
    """How much local contrast is raised."""
    flatten: float = 0.2
    """How much of the difference between light and dark areas is taken away: nights become blue, not black."""
    night: float = 1.0
    """Gamma of the tones; above 1 is darker."""
    outline: float = 0.5
    """Strength of dark contours."""
    veins: float = 0.0
    """Strength of dark lines between patches."""
    colors: int = 10
    vivid: float = 1.0
    """Share of the painting, its most colorful part, that the palette is taken from."""
    ridges: float = 0.05
    """Relief of the bristles."""
    faithful: float = 0.45
    """How much light and dark is kept where the palette has no such color, so that faces keep their features."""


def palette_of(picture: NDArray[np.uint8], colors: int, vivid: float = 1.0) -> tuple[Picture, Picture]:
    """Find the main colors of a painting, or of its share ``vivid`` that is most colorful.

    Returns:
        Shape (colors, 3), YUV with Y in [0, 1]; and the painting's luma at 257 even quantiles.
    """
    # Not made small: averaging neighbouring strokes would grey the paint.
    clean = cv2.GaussianBlur(picture, (0, 0), 0.7).astype(np.float32) / 255
    yuv = to_yuv(clean).reshape(-1, 3)[::23] + np.array((0.5, 0, 0), np.float32)
    chroma = np.hypot(yuv[:, 1], yuv[:, 2])
    yuv = yuv[chroma >= np.quantile(chroma, 1 - vivid)]
    cv2.setRNGSeed(1)
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 60, 1e-4)
    scale = np.array((1.0, 1.6, 1.6), np.float32)
    _, _, centres = cv2.kmeans(yuv * scale, colors, None, criteria, 6, cv2.KMEANS_PP_CENTERS)  # type: ignore[call-overload]
    quantiles = np.quantile(_luma(picture.astype(np.float32) / 255), np.linspace(0.01, 0.99, 257))
    return np.asarray(centres / scale, np.float32), np.asarray(quantiles, np.float32)


_LEVELS = np.array((96, 64, 64))
"""Of the table that finds a palette's color: Y from 0 to 1, U and V from -0.5 to 0.5."""


class Palette:
    """Paints with the colors of a painting: each stroke takes the one that is nearest to what it should show."""

    def __init__(self, picture: NDArray[np.uint8], brush: Brush) -> None:
        self.brush = brush
        colors, self.quantiles = palette_of(picture, brush.colors, brush.vivid)
        axes = [(np.arange(n) + 0.5) / n - (0.0 if i == 0 else 0.5) for i, n in enumerate(_LEVELS)]
        wanted = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 1, 3).astype(np.float32)
        distance = ((wanted - colors) ** 2 * np.array((1.6, 1, 1), np.float32)).sum(-1)
        share = np.exp(-brush.sharp * (distance - distance.min(-1, keepdims=True)))
        pure = colors * np.array((1, brush.purity, brush.purity), np.float32)
        self.table = (share / share.sum(-1, keepdims=True)) @ pure
        self.strokes = strokes.hatchings(canvas.tile(), brush.length, brush.width)
        self.patches = strokes.hatchings(canvas.tile(), 1.5 * brush.length, brush.patch)

    def __call__(self, rgb: Picture, offset: tuple[int, int]) -> Picture:
        brush, shape = self.brush, rgb.shape
        yuv = _blur(to_yuv(rgb), 0.7)
        luma = np.ascontiguousarray(yuv[..., 0]) + np.float32(0.5)
        form = _blur(luma, 1.5)
        turned = strokes.directions_of(form, brush.hand, brush.pull)
        tensor = _tensor(form, 4.0)
        # Where there is much to see, strokes speak lower, so that eyes and mouths are read.
        loud = 1 - brush.calm * np.tanh(400 * (tensor[..., 0] + tensor[..., 1]))
        aside = (offset[0] + 9, offset[1] + 5)  # patches some pixels away are as good as others, to mix with
        bristle, patch, other = (
            loud * np.tanh(1.2 * (_cut(bank, place, shape)[..., :-1] * turned).sum(-1))
            for bank, place in ((self.strokes, offset), (self.patches, offset), (self.patches, aside))
        )
        y = smear(luma[..., None], _along(tensor), (brush.melt,))[..., 0]
        u, v = (brush.keep * _blur(np.ascontiguousarray(yuv[..., i]), 2.0) for i in (1, 2))
        around = _blur(y, 16.0)
        toned = np.clip(y + brush.contrast * (y - around) + brush.flatten * (0.5 - around), 0, 1)
        toned = np.interp(toned**brush.night, np.linspace(0, 1, 257), self.quantiles).astype(np.float32)
        warmth = brush.glow * (toned - self.quantiles[128])
        wanted = (
            toned + brush.light[0] * bristle + brush.light[1] * patch,
            u + 0.5 - warmth + brush.hue[1] * patch - brush.hue[0] * bristle,
            v + 0.5 + warmth + brush.hue[1] * other + 0.5 * brush.hue[0] * bristle,
        )
        i, j, k = (np.clip(w * n, 0, n - 1).astype(np.int32) for w, n in zip(wanted, _LEVELS, strict=True))
        painted = self.table[(i * _LEVELS[1] + j) * _LEVELS[2] + k]
        painted[..., 0] += brush.faithful * (toned - painted[..., 0]) + brush.ridges * bristle
        line = _contour(y, 0.8, 2.4, 14, 0.008) * brush.outline
        if brush.veins:
            line = 1 - (1 - line) * (1 - brush.veins * np.exp(-((patch / 0.16) ** 2)))
        painted *= 1 - line[..., None]
        return _rgb(*(np.ascontiguousarray(painted[..., i], np.float32) for i in range(3)))


BRUSHES = {
    "starry_night": Brush(
        length=9,
        width=1.0,
        patch=3,
        hand=22,
        pull=2e-4,
        light=(0.10, 0.06),
        calm=0.65,
        hue=(0.08, 0.12),
        keep=0.3,
        purity=1.3,
        contrast=2.2,
        flatten=0.4,
        night=1.5,
        ridges=0.08,
        glow=0.3,
        colors=12,
        outline=0.8,
    ),
    "great_wave": Brush(
        length=6,
        width=1.4,
        patch=4,
        hand=172,
        light=(0.07, 0.05),
        hue=(0.02, 0.05),
        calm=0.0,
        keep=0.5,
        sharp=700,
        outline=1.0,
        ridges=0.02,
        colors=8,
        purity=1.5,
        flatten=0.25,
        glow=0.35,
        contrast=0.9,
    ),
    "the_scream": Brush(
        length=14,
        width=1.3,
        patch=3.5,
        hand=172,
        pull=2e-4,
        light=(0.11, 0.08),
        hue=(0.05, 0.14),
        keep=0.7,
        purity=1.4,
        flatten=0.35,
        glow=0.6,
        colors=12,
        contrast=1.4,
        calm=0.6,
    ),
    "water_lilies": Brush(
        length=5,
        width=1.8,
        patch=4,
        hand=172,
        pull=2e-4,
        light=(0.14, 0.10),
        hue=(0.06, 0.11),
        keep=0.5,
        sharp=150,
        outline=0.15,
        purity=1.5,
        faithful=0.6,
        flatten=0.75,
        night=1.5,
        contrast=3.0,
        calm=0.5,
        glow=0.3,
        colors=14,
        vivid=0.8,
        ridges=0.05,
    ),
    "composition_vii": Brush(
        length=6,
        width=1.5,
        patch=5.5,
        hand=52,
        light=(0.05, 0.14),
        hue=(0.03, 0.28),
        keep=0.9,
        sharp=700,
        outline=0.9,
        veins=0.85,
        colors=14,
        vivid=0.75,
        purity=1.5,
        flatten=0.35,
        night=1.3,
        contrast=1.7,
        calm=0.5,
        faithful=0.3,
        ridges=0.02,
    ),
}
"""Manners of painting; ``palette`` is a plain one for any image."""

PAINTERS = ("pencil", "red_chalk", "etching", "ink", "cartoon", "palette", *BRUSHES)


def make(name: str, pictures: Sequence[NDArray[np.uint8]] = ()) -> Painter:
    """Make a painter.

    Args:
        name: One of ``PAINTERS``.
        pictures: The style's images, RGB; a palette is taken from the first.
    """
    tile = canvas.tile()
    if name == "pencil":
        return partial(_pencil, strokes.hatchings(tile))
    if name == "red_chalk":
        return partial(_red_chalk, strokes.hatchings(tile, along=9.0, across=1.0))
    if name == "etching":
        noise = tile.astype(np.float32) - tile.mean()
        lines = [strokes.smear(noise, angle, along=10.0, across=4.5, period=6.5) for angle, _ in _NEEDLE]
        return partial(_etching, np.stack(lines, -1))
    if name == "ink":
        noise = tile.astype(np.float32) - tile.mean()
        return partial(_ink, strokes.smear(noise, strokes.HAND - 30, along=12.0, across=1.0), _band(4.0, 14.0))
    if name == "cartoon":
        return _cartoon
    if name != "palette" and name not in BRUSHES:
        raise ValueError(f"no painter {name!r} (there are: {', '.join(PAINTERS)})")
    if not pictures:
        raise ValueError(f"the painter {name!r} takes its palette from the style's image: give one, in color")
    return Palette(pictures[0], BRUSHES.get(name, Brush()))

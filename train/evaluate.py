"""Measure a style through the real pipeline and write its card: ``python -m train.evaluate STYLE_FOLDER --photos ...``.

Each part runs where what it needs is given, and writes into ``metrics`` of style.json; with ``--only PART`` that part
alone is measured and the other figures stay. PSNR in dB of luma, peak 255:

    --photos (that it was not trained on)
    source_db   output against the image itself: low is strong
    noise_db    output with against without Gaussian noise of sigma 3 on all samples (the input itself: 38.6)
    light_db    output for an image 4 % brighter against that for the image (the input itself: about 34)
    pan_db      neighbouring frames of pans with the motion undone, the worst of the motions; cropped from
                photos before 4:2:0, lossless in and out, ``rtstyle video`` in between, 16 pixels of border left out.
                Only 16x16 blocks in which the clip itself shows its motion count: no viewer can tell that a plain sky
                moved
    pan_mean_db the same over all motions
    pan_still_db the other blocks, the worst of the motions: strokes may either follow or stand still there
    pan_counted the share of blocks that count in pan_db
    pan_auto_db, pan_auto_mean_db, pan_auto_still_db: the same with ``--stroke-size auto``, as ``rtstyle video`` does
                it: images as small as these clips are stylized in twice their size
    motion_db   neighbouring frames of clips whose motion is known by formula (motion.py), the one before warped by it,
                what is occluded and 16 pixels of border left out: a slow zoom with rotation and a parallax with
                occlusion, each over every photo; the worst of the two, lossless and through ``rtstyle video`` as pans
    zoom_db, parallax_db: each of the two
    motion_mean_db the same over both; motion_source_db: the worst of the clips themselves, which is sampling alone
    edges       share of the photo's edges (Canny) that the output has within 2 pixels, and chance_edges: the
                share that it has when the output belongs to another photo
    --classifier WEIGHTS (EfficientNet-Lite0, on which nothing was trained)
    content     mean cosine of the embeddings of photo and output, chance_content: of photos and outputs of others
    top1        share of photos whose likeliest class is also the output's
    --pictures OWN OTHER ...
    style_own   distance of VGG16's Gram matrices (0 equal, 1 unrelated) to its own image
    style_other the same to the nearest of the others, and style_other_name; style_photo: of the photos, to its own
    look (defined in train/yardsticks.py), on the central 560x560 pixels of the --photos at 720 lines
    R, contrast, length, width   alignment, contrast (levels) and size (pixels) of the strokes in flat areas
    halo, halo_worst, lattice   levels; halo is the mean over the photos
    swd, palette   with --pictures: distance of VGG16 features and of colors to its own image
    contrast_ratio, length_ratio, width_ratio   with --pictures: relative to those of its own image
    embed, embed_lead, embed_other_name   with at least eight --pictures and the extra ``workshop``: cosine of the
                style embedding to that of its own image, its excess over the nearest other image, and which
    --clips
    warp_db     neighbouring frames with the motion undone by DIS flow (Kroeger et al. 2016), occlusions masked by
                the flow back (Lai et al. 2018 measure so); warp_source_db: the clip itself
    still_db    neighbouring frames where the clip itself stands still; still_source_db: the clip itself
    moving_db   as warp_db, where the clip shows that it moves by more than 0.7 pixels: around there, undoing the motion
                lowers its difference by more than 3 dB; moving_source_db: the clip itself
    calm_db     as still_db, 48 pixels and more from anything that moves; calm_source_db: the clip itself
    always
    grid_levels  a grid of the network's cells, as painters are tempted to draw it: in flats of nine colors, deviation
                of the mean cell of 4x4 pixels from its mean, in levels of RGB, the worst
    demo        source_db, noise_db, pan_db and the look without a painting, of three frames of the clip in demo/,
                which a test measures again

Stability counts only at a stated strength: a style that changes nothing is always stable.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle import (
    Color,
    EncoderSettings,
    Frame,
    RenderOptions,
    Size,
    VideoReader,
    VideoWriter,
    load_style,
    open_engine,
    stylize_video,
)
from rtstyle.backends import EngineSettings, Precision, StrokeSize
from rtstyle.canvas.follower import Follow, SceneFollower
from rtstyle.frame import CELL, Planes, VideoFormat, planes_from_rgb, planes_to_rgb
from rtstyle.style import Style
from train import data, yardsticks
from train.data import list_pictures
from train.motion import Clip, parallax, zoom

Image = NDArray[np.uint8]

MOTIONS = ((1, 0), (0, 1), (3, 2), (5, 7), (-2, 3), (-4, -1), (6, -5), (7, 4))
"""Pixels a frame, (x, y); their sums over a clip run through all residues mod 8."""

DEMO = Path(__file__).parents[1] / "demo" / "big_buck_bunny.mp4"
VGG = Path(__file__).parent / "weights" / "vgg16_imagenet_conv1-4.fp16.safetensors"

PRECISION: Precision = "f32"
"""What cards are measured in: the same on every machine, whatever ``auto`` takes there."""

_COLOR = Color("bt601", full_range=True)
_FLATS = {
    "black": (0, 0, 0),
    "dark grey": (64, 64, 64),
    "grey": (110, 110, 110),
    "light grey": (160, 160, 160),
    "orange": (220, 130, 20),
    "blue": (30, 90, 150),
    "red": (180, 30, 30),
    "green": (60, 120, 50),
    "skin": (200, 150, 120),
}
_VIEW = Size(448, 320)
_STEPS = 17
_BLOCK = 16
_CAMERA_NOISE = 2.0
"""Mean squared difference of two frames of a static scene, for sensor noise of one level."""
_BORDER = 16
"""Pixels left out where something is filmed: what the network draws at an image's border belongs to the border."""


@dataclass(frozen=True)
class Bars:
    """What a style must reach to be shipped, in dB but for the grid."""

    pan: float
    noise: float
    source: float
    """At most: a mere change of tone is no style. Paintings that keep faces clear are nearer to the source than
    those that cover them, so how strong they are is also asked of the contrast of their strokes, see ``LookBars``."""
    grid: float = 1.0
    """Levels, at most."""

    def missed(self, figures: dict[str, Any]) -> list[str]:
        """Say which bars the figures miss."""
        wanted = ("pan_db", "pan_auto_db", "noise_db", "source_db", "grid_levels")
        missing = [f"{name} was not measured" for name in wanted if name not in figures]
        if missing:
            return missing
        wrong = [
            f"{name} {figures[name]} dB, at least {least} are wanted"
            for name, least in (("pan_db", self.pan), ("pan_auto_db", self.pan), ("noise_db", self.noise))
            if figures[name] < least
        ]
        if figures["source_db"] > self.source:
            wrong.append(f"source_db {figures['source_db']} dB, at most {self.source} are wanted")
        if figures["grid_levels"] > self.grid:
            wrong.append(f"grid_levels {figures['grid_levels']}, at most {self.grid} is wanted")
        return wrong


BARS = {
    "drawing": Bars(32, 44, 14),
    "light drawing": Bars(32, 44, 16.5),
    "cartoon": Bars(32, 44, 22),
    "painting": Bars(30, 40, 16.5),
}
"""By the ``kind`` in style.json: above the best of other stylizers of that strength that we measured. A drawing of
light on a dark ground keeps light and dark where they are, so it is nearer to the frame than one on paper."""


@dataclass(frozen=True)
class LookBars:
    """Limits that the figures of ``measure_look`` must meet before a painted style is shipped."""

    swd: float
    """Upper limit, like ``alignment`` (R, None for no limit), ``palette``, the halos and ``lattice``."""
    alignment: float | None
    palette: float
    contrast: float
    """Lower limit of ``contrast_ratio``."""
    embed_lead: float
    """Lower limit."""
    halo: float = 4.0
    halo_worst: float = 10.0
    lattice: float = 0.5
    size: tuple[float, float] = (0.7, 1.4)
    """Limits of ``length_ratio`` and ``width_ratio``."""

    def missed(self, figures: dict[str, Any]) -> list[str]:
        """Return one line for each limit that the figures do not meet."""
        most = {
            "swd": self.swd,
            "R": self.alignment,
            "palette": self.palette,
            "halo": self.halo,
            "halo_worst": self.halo_worst,
            "lattice": self.lattice,
            "length_ratio": self.size[1],
            "width_ratio": self.size[1],
        }
        least = {
            "contrast_ratio": self.contrast,
            "embed_lead": self.embed_lead,
            "length_ratio": self.size[0],
            "width_ratio": self.size[0],
        }
        wanted = dict.fromkeys((*most, *least))
        missing = [f"{name} was not measured" for name in wanted if name not in figures]
        if missing:
            return missing
        return [
            f"{name} {figures[name]}, at {words} {bar} is wanted"
            for words, bars, sign in (("most", most, 1), ("least", least, -1))
            for name, bar in bars.items()
            if bar is not None and sign * figures[name] > sign * bar
        ]


OTHER_PAINTINGS = LookBars(0.22, None, 5.0, 0.6, 0.35)

LOOK_BARS = {
    "starry_night": LookBars(0.20, 0.5, 4.5, 0.7, 0.4),
    "the_scream": LookBars(0.20, 0.7, 4.5, 0.7, 0.4),
    "water_lilies": replace(OTHER_PAINTINGS, alignment=0.6),
    "composition_vii": replace(OTHER_PAINTINGS, alignment=0.6),
}
"""By name; other paintings have the limits of *Water Lilies* without that of R."""


def missed(metadata: dict[str, Any]) -> list[str]:
    """Return one line for each limit that a style does not meet, from the metadata in its style.json."""
    kind, figures = metadata.get("kind", "painting"), metadata["metrics"]
    wrong = BARS[kind].missed(figures)
    return wrong + (LOOK_BARS.get(metadata["name"], OTHER_PAINTINGS).missed(figures) if kind == "painting" else [])


def _decibels(square: float) -> float:
    return round(float(10 * np.log10(255**2 / max(square, 1e-9))), 2)


def stylized(style: Style, frames: Sequence[Frame | Planes], precision: Precision = PRECISION) -> list[Planes]:
    """Run frames of one size through an engine."""
    ready = [each if isinstance(each, Frame) else _frame(each) for each in frames]
    with open_engine(style, ready[0].size, _COLOR, precision=precision) as engine:
        return [frame.planes for frame in engine.stylize(ready)]


def _frame(planes: Planes) -> Frame:
    return Frame(planes, 0, Fraction(1, 25), _COLOR)


def _with_noise(planes: Planes, rng: np.random.Generator) -> Planes:
    return Planes(*(np.clip(np.rint(p + rng.normal(0, 3, p.shape)), 0, 255).astype(np.uint8) for p in planes))


def _settled(planes: Planes, rng: np.random.Generator) -> Frame:
    """Return the twelfth frame of a still scene with sensor noise: its field is smoothed in time, as in a video."""
    follower = SceneFollower()
    for _ in range(12):
        frame = follower.follow(_frame(_with_noise(planes, rng)))
    return frame


def _edges(luma: Image) -> NDArray[np.bool_]:
    return np.asarray(cv2.Canny(cv2.GaussianBlur(luma, (0, 0), 1.4), 40, 100) > 0)


def _kept_edges(photo: Image, output: Image) -> float:
    """Share of the photo's edges with an edge of the output within 2 pixels."""
    wanted = _edges(photo)
    near = cv2.dilate(_edges(output).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return float(near[wanted].mean()) if wanted.any() else 1.0


def measure_stills(
    style: Style, pictures: list[Image], classifier: Path | None = None, precision: Precision = PRECISION
) -> dict[str, float]:
    """Strength, noise, brightness, edges and content, over all images (RGB, uint8)."""
    rng = np.random.default_rng(0)
    noise, light, source, outputs, lumas = [], [], [], [], []
    for rgb in pictures:
        planes = planes_from_rgb(rgb, _COLOR)
        noisy = _settled(planes, rng) if style.steered else _frame(_with_noise(planes, rng))
        brighter = planes_from_rgb(np.clip(np.rint(rgb * 1.04), 0, 255).astype(np.uint8), _COLOR)
        results = stylized(style, [_frame(planes), noisy, _frame(brighter)], precision)
        clean, shaken, lit = (result.y.astype(np.float64) for result in results)
        noise.append(((clean - shaken) ** 2).mean())
        light.append(((clean - lit) ** 2).mean())
        source.append(((clean - planes.y) ** 2).mean())
        outputs.append(planes_to_rgb(results[0], _COLOR))
        lumas.append((np.ascontiguousarray(planes.y), np.ascontiguousarray(results[0].y)))
    figures = {
        "source_db": _decibels(np.mean(source)),
        "noise_db": _decibels(np.mean(noise)),
        "light_db": _decibels(np.mean(light)),
        "edges": round(float(np.mean([_kept_edges(photo, output) for photo, output in lumas])), 3),
    }
    others = [
        _kept_edges(photo, np.asarray(cv2.resize(lumas[i - 1][1], photo.shape[::-1]), np.uint8))
        for i, (photo, _) in enumerate(lumas)
    ]
    figures["chance_edges"] = round(float(np.mean(others)), 3)
    if classifier is not None:
        figures |= _content(classifier, pictures, outputs)
    return figures


def _content(classifier: Path, pictures: list[Image], outputs: list[Image]) -> dict[str, float]:
    import torch

    from train.classifier import EfficientNetLite0

    judge = EfficientNetLite0(classifier)
    seen, made = ([judge(picture) for picture in group] for group in (pictures, outputs))
    first, second = (torch.nn.functional.normalize(torch.stack([e for e, _ in group])) for group in (seen, made))
    cosines = first @ second.T
    apart = cosines[~torch.eye(len(cosines), dtype=torch.bool)]
    same = [a == b for (_, a), (_, b) in zip(seen, made, strict=True)]
    return {
        "content": round(float(cosines.diag().mean()), 3),
        "chance_content": round(float(apart.mean()), 3),
        "top1": round(float(np.mean(same)), 3),
    }


def measure_style(style: Style, pictures: list[Image], own: Path, others: list[Path]) -> dict[str, Any]:
    """Distance of outputs to images: the mean over layers of the normalised difference of mean Gram matrices."""
    import torch

    from train import losses

    vgg = losses.Vgg16(VGG)

    @torch.no_grad()
    def grams(group: list[Image]) -> list[torch.Tensor]:
        sums = [
            [losses.gram_matrix(f).mean(0) for f in vgg(torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255)]
            for picture in group
        ]
        return [torch.stack(layer).mean(0) for layer in zip(*sums, strict=True)]

    def distance(first: list[torch.Tensor], second: list[torch.Tensor]) -> float:
        # Symmetrical, so that a faint image is not near to everything.
        parts = [((a - b) ** 2).sum() / ((a**2).sum() + (b**2).sum()) for a, b in zip(first, second, strict=True)]
        return round(float(torch.stack(parts).mean()), 3)

    made = grams([planes_to_rgb(stylized(style, [planes_from_rgb(p, _COLOR)])[0], _COLOR) for p in pictures])
    target = grams(load_pictures([own]))
    far = {path.stem: distance(made, grams(load_pictures([path]))) for path in others}
    figures: dict[str, Any] = {
        "style_own": distance(made, target),
        "style_photo": distance(grams(pictures), target),
    }
    if far:
        nearest = min(far, key=far.__getitem__)
        figures |= {"style_other": far[nearest], "style_other_name": nearest}
    return figures


_LINES, _SQUARE = 720, 560
"""Height at which photos are stylized to measure the look, and the side of the central square that counts."""


def measure_look(
    style: Style, photos: list[Image], pictures: Sequence[Path] = (), precision: Precision = PRECISION
) -> dict[str, Any]:
    """Measure the look (see the module) against the style's own image, the first of ``pictures``.

    Each photo is stylized alone, as ``rtstyle image`` does it: no state is carried from one to the next.
    """
    return look_of(lambda rgb: still(style, rgb, precision), photos, pictures)


def still(style: Style, rgb: Image, precision: Precision = PRECISION) -> Image:
    """Stylize an image alone, as ``rtstyle image`` does it, in its own size."""
    return planes_to_rgb(stylized(style, [planes_from_rgb(rgb, _COLOR)], precision)[0], _COLOR)


def look_of(paint: Callable[[Image], Image], photos: list[Image], pictures: Sequence[Path] = ()) -> dict[str, Any]:
    """Measure the look of what any stylizer makes of photos; the rest is as of ``measure_look``."""
    large = [_at_working_height(photo) for photo in photos]
    outputs = [paint(rgb) for rgb in large]
    seen, made = ([yardsticks.center_crop(rgb, _SQUARE) for rgb in group] for group in (large, outputs))
    figures: dict[str, Any] = dict(yardsticks.measure(made, seen))
    if pictures:
        statistics = _statistics()
        own = data.load_pictures(pictures[:1], 1)[0]
        figures |= yardsticks.compare(made, figures, yardsticks.Painting.measure(own, statistics), statistics)
    if len(pictures) >= _ENOUGH:
        figures |= _embedded(made, pictures)
    fine = ("swd", "R", "embed", "embed_lead")
    figures = {k: round(v, 3 if k in fine else 2) if isinstance(v, float) else v for k, v in figures.items()}
    return {"look_pictures": len(photos)} | figures


_ENOUGH = 8
"""Number of paintings from which embeddings can be standardized."""


@cache
def _statistics() -> yardsticks.Statistics:
    return yardsticks.Statistics(VGG)


@cache
def _embedding() -> yardsticks.Embedding:
    return yardsticks.Embedding()


@cache
def _embedding_of(picture: Path) -> NDArray[np.float32]:
    return _embedding()(data.load_pictures([picture], 1))


def _embedded(made: list[Image], pictures: Sequence[Path]) -> dict[str, Any]:
    try:
        embedding = _embedding()
    except ModuleNotFoundError as missing:
        print(f"train: the style embedding is not measured: {missing}", file=sys.stderr)
        return {}
    vectors = [_embedding_of(path) for path in pictures]
    own, *others = yardsticks.likeness(embedding(made), vectors)
    nearest = max(range(len(others)), key=others.__getitem__)
    return {"embed": own, "embed_lead": own - others[nearest], "embed_other_name": pictures[1 + nearest].stem}


def _at_working_height(photo: Image) -> Image:
    """Resize a photo to 720 lines, or to the width of the square that counts if that is larger."""
    height, width = photo.shape[:2]
    scale = max(_LINES / height, _SQUARE / width)
    size = Size(*(2 * round(side * scale / 2) for side in (width, height)))
    how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    return np.asarray(cv2.resize(photo, (size.width, size.height), interpolation=how), np.uint8)


def _write(path: Path, size: Size, color: Color, pictures: Iterable[Planes]) -> None:
    """Write a lossless clip of 25 frames a second, in the place of what is there."""
    path.unlink(missing_ok=True)
    base = Fraction(1, 25)
    with VideoWriter(
        path, VideoFormat(size, color, base, Fraction(25)), encoder=EncoderSettings(codec="ffv1")
    ) as writer:
        for index, planes in enumerate(pictures):
            writer.write(Frame(planes, index, base, color))


def _lumas(path: Path) -> list[Image]:
    with VideoReader(path) as reader:
        return [frame.planes.y.copy() for frame in reader]


def _pan(rgb: Image, motion: tuple[int, int]) -> Iterable[Planes]:
    """Move a window over an image."""
    x0, y0 = ((-(_STEPS - 1) * m if m < 0 else 0) for m in motion)
    for step in range(_STEPS):
        x, y = x0 + motion[0] * step, y0 + motion[1] * step
        yield planes_from_rgb(rgb[y : y + _VIEW.height, x : x + _VIEW.width], _COLOR)


def measure_grid(style: Style, precision: Precision = PRECISION) -> dict[str, float]:
    """How far cells of 4x4 pixels look alike where nothing is."""
    size, worst = Size(512, 384), 0.0
    flats = [
        planes_from_rgb(np.full((size.height, size.width, 3), color, np.uint8), _COLOR) for color in _FLATS.values()
    ]
    for planes in stylized(style, flats, precision):
        rgb = planes_to_rgb(planes, _COLOR)[32:-32, 32:-32].astype(np.float64)
        height, width = (side // CELL for side in rgb.shape[:2])
        cell = rgb.reshape(height, CELL, width, CELL, 3).mean((0, 2))
        worst = max(worst, float(cell.std((0, 1)).max()))
    return {"grid_levels": round(worst, 2)}


def _film(
    source: Path,
    target: Path,
    style: Style,
    precision: Precision,
    stroke_size: StrokeSize = 1,
    follow: Follow = "auto",
) -> None:
    """Stylize a clip as ``rtstyle video`` does, lossless."""
    encoder = EncoderSettings(codec="ffv1")
    stylize_video(
        source,
        target,
        style=style,
        encoder=encoder,
        engine=EngineSettings(precision=precision, stroke_size=stroke_size),
        options=RenderOptions(overwrite=True, follow=follow),
    )


def _block_means(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of each 16x16 block inside the border, shape (h / 16, w / 16)."""
    inner = plane[_BORDER:-_BORDER, _BORDER:-_BORDER]
    height, width = (side // _BLOCK for side in inner.shape)
    return np.asarray(inner[: height * _BLOCK, : width * _BLOCK].reshape(height, _BLOCK, width, _BLOCK).mean((1, 3)))


def _overlaps(
    before: Image, luma: Image, motion: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Crop two frames to what both show: the second, the first with the motion undone, and the first as it is."""
    dx, dy = motion
    old, new = before.astype(np.float64), luma.astype(np.float64)
    height, width = new.shape
    here = (slice(max(0, -dy), height + min(0, -dy)), slice(max(0, -dx), width + min(0, -dx)))
    there = (slice(max(0, dy), height + min(0, dy)), slice(max(0, dx), width + min(0, dx)))
    return new[here], old[there], old[here]


def _shows_motion(before: Image, luma: Image, motion: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the blocks in which two frames show their motion, given a camera's noise.

    Undoing it lowers their difference by more than 3 dB. And no motion along a single edge explains it: the smaller
    eigenvalue of the structure tensor (Shi and Tomasi 1994, "Good Features to Track") exceeds the noise.
    """
    new, moved, standing = _overlaps(before, luma, motion)
    gy, gx = np.gradient(new)
    xx, yy, xy = _block_means(gx * gx), _block_means(gy * gy), _block_means(gx * gy)
    weakest = (xx + yy - np.hypot(xx - yy, 2 * xy)) / 2
    trackable = weakest * (motion[0] ** 2 + motion[1] ** 2) > _CAMERA_NOISE
    noisy, clear = (_block_means((new - old) ** 2) + _CAMERA_NOISE for old in (standing, moved))
    return trackable & (noisy > 2 * clear)


def _pan_errors(source: Path, target: Path, motion: tuple[int, int]) -> tuple[list[float], list[float]]:
    """Return the mean squared errors of the blocks in which the source shows its motion, and of the other blocks.

    The error is the difference of neighbouring stylized frames with the motion undone; in the other blocks, the
    smaller of that and the difference without.
    """
    followed: list[float] = []
    rest: list[float] = []
    for frames, results in zip(pairwise(_lumas(source)), pairwise(_lumas(target)), strict=True):
        shows = _shows_motion(*frames, motion)
        new, moved, standing = _overlaps(*results, motion)
        undone, left = (_block_means((new - old) ** 2) for old in (moved, standing))
        followed.extend(undone[shows])
        rest.extend(np.minimum(undone, left)[~shows])
    return followed, rest


def _warping_error(old: Image, new: Image, back: NDArray[np.float32], seen: NDArray[np.bool_], sampling: int) -> float:
    """Mean squared difference of a frame and the one before it, warped by ``back``, where ``seen``."""
    warped = cv2.remap(old.astype(np.float32), back, None, sampling)
    return float(((new.astype(np.float32) - warped)[seen] ** 2).mean())


def measure_pans(
    style: Style,
    pictures: list[Image],
    motions: tuple[tuple[int, int], ...] = MOTIONS,
    precision: Precision = PRECISION,
    stroke_size: StrokeSize = 1,
) -> dict[str, float]:
    """Stability of pans, each motion over an image of its own choosing in turn."""
    room = (_VIEW.width + 7 * _STEPS, _VIEW.height + 7 * _STEPS)
    squares: list[float] = []
    still: list[float] = []
    counted, blocks = 0, 0
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name) / "pan.mkv", Path(name) / "out.mkv"
        for index, motion in enumerate(motions):
            picture = pictures[index % len(pictures)]
            scale = max(room[0] / picture.shape[1], room[1] / picture.shape[0], 1)
            picture = np.asarray(
                cv2.resize(picture, None, fx=scale + 1e-3, fy=scale + 1e-3, interpolation=cv2.INTER_CUBIC), np.uint8
            )
            _write(source, _VIEW, _COLOR, _pan(picture, motion))
            _film(source, target, style, precision, stroke_size)
            followed, rest = _pan_errors(source, target, motion)
            counted, blocks = counted + len(followed), blocks + len(followed) + len(rest)
            # A hundredth of a clip is too few blocks for a mean.
            squares += [float(np.mean(followed))] if len(followed) > len(rest) / 100 else []
            still += [float(np.mean(rest))] if len(rest) > len(followed) / 100 else []
    if not squares:
        raise ValueError("no pan shows its motion: choose photos with more detail")
    figures = {"pan_db": _decibels(max(squares)), "pan_mean_db": _decibels(float(np.mean(squares)))}
    if still:
        figures["pan_still_db"] = _decibels(max(still))
    return figures | {"pan_counted": round(counted / blocks, 3)}


def measure_pans_both_ways(style: Style, pictures: list[Image]) -> dict[str, float]:
    """Stability of pans with strokes of the network's own size, and of the one that ``auto`` gives them."""
    figures = measure_pans(style, pictures)
    for name, decibels in measure_pans(style, pictures, stroke_size="auto").items():
        if name != "pan_counted":  # the clips are the same
            figures[name.replace("pan_", "pan_auto_")] = decibels
    return figures


def _warping_errors(path: Path, clip: Clip) -> list[float]:
    """Compare neighbouring frames of a video of ``clip`` by its own motion."""
    inside = np.zeros((_VIEW.height, _VIEW.width), bool)
    inside[_BORDER:-_BORDER, _BORDER:-_BORDER] = True
    return [
        # The motion is exact, so a good filter pays: photos differ by 2 dB less than with cubic, by 7 than with linear.
        _warping_error(old, new, back, seen & inside, cv2.INTER_LANCZOS4)
        for (old, new), back, seen in zip(pairwise(_lumas(path)), clip.back, clip.seen, strict=True)
    ]


def measure_motion(
    style: Style, pictures: list[Image], precision: Precision = PRECISION, follow: Follow = "auto"
) -> dict[str, float]:
    """Stability where no shift of the whole image is the motion: a zoom, and something that moves in front."""
    own: dict[str, list[float]] = {"zoom": [], "parallax": []}
    made: dict[str, list[float]] = {"zoom": [], "parallax": []}
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name) / "motion.mkv", Path(name) / "out.mkv"
        for index, picture in enumerate(pictures):
            clips = {
                "zoom": zoom(picture, _VIEW, _STEPS),
                "parallax": parallax(picture, pictures[index - 1], _VIEW, _STEPS),
            }
            for kind, clip in clips.items():
                _write(source, _VIEW, _COLOR, (planes_from_rgb(frame, _COLOR) for frame in clip.frames))
                _film(source, target, style, precision, follow=follow)
                own[kind] += _warping_errors(source, clip)
                made[kind] += _warping_errors(target, clip)
    means, source_means = ([float(np.mean(squares)) for squares in group.values()] for group in (made, own))
    return {
        "motion_db": _decibels(max(means)),
        "zoom_db": _decibels(means[0]),
        "parallax_db": _decibels(means[1]),
        "motion_mean_db": _decibels(float(np.mean(means))),
        "motion_source_db": _decibels(max(source_means)),
    }


def _flow(first: Image, second: Image) -> NDArray[np.float32]:
    """Where each pixel of ``first`` lies in ``second``, (x, y), shape (h, w, 2)."""
    height, width = first.shape
    grid = np.dstack(np.meshgrid(np.arange(width), np.arange(height)))
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.asarray(search.calc(first, second, None) + grid, np.float32)


def measure_clips(style: Style, clips: list[Path], frames: int = 13) -> dict[str, float]:
    """Flicker on real clips, the first ``frames`` of each, through ``rtstyle video``."""
    kept: dict[str, list[float]] = {}
    for clip in clips:
        with tempfile.TemporaryDirectory() as name:
            source, target = Path(name) / "in.mkv", Path(name) / "out.mkv"
            with VideoReader(clip) as reader:
                _write(source, reader.size, reader.color, (frame.planes for frame in islice(reader, frames)))
            _film(source, target, style, PRECISION)
            pictures, results = _lumas(source), _lumas(target)
        for i in range(1, len(pictures)):
            parts = _parts(pictures[i - 1], pictures[i])
            for group, suffix in ((results, "_db"), (pictures, "_source_db")):
                old, new = group[i - 1], group[i]
                difference = (new.astype(np.float32) - old) ** 2
                for kind, where in (("warp", parts.seen), ("moving", parts.moving)):
                    if where.mean() > (0.1 if kind == "warp" else 0.02):
                        error = _warping_error(old, new, parts.back, where, cv2.INTER_LINEAR)
                        kept.setdefault(kind + suffix, []).append(error)
                for kind, where in (("still", parts.still), ("calm", parts.calm)):
                    if where.mean() > (0.1 if kind == "still" else 0.03):
                        kept.setdefault(kind + suffix, []).append(float(difference[where].mean()))
    return {name: _decibels(float(np.mean(squares))) for name, squares in kept.items()}


@dataclass(frozen=True)
class _Parts:
    """What moves in a frame of a real clip, and what does not; masks of shape (h, w)."""

    back: NDArray[np.float32]
    """Where each pixel was in the frame before, (x, y), shape (h, w, 2)."""
    seen: NDArray[np.bool_]
    """What was visible there, too."""
    moving: NDArray[np.bool_]
    """Of that, what shows that it moves."""
    still: NDArray[np.bool_]
    """What changes by no more than a camera's noise, and whose surroundings do, too."""
    calm: NDArray[np.bool_]
    """Of that, what is far from anything that moves: a smooth cheek changes as little as a wall."""


def _parts(before: Image, now: Image) -> _Parts:
    back, forth = _flow(now, before), _flow(before, now)
    # There and back again: what does not come back is occluded.
    there = cv2.remap(forth, back, None, cv2.INTER_LINEAR)
    height, width = now.shape
    grid = np.dstack(np.meshgrid(np.arange(width), np.arange(height))).astype(np.float32)
    seen = np.abs(there - grid).max(-1) < 0.5
    seen &= (back >= 0).all(-1) & (back[..., 0] <= width - 1) & (back[..., 1] <= height - 1)
    warped = cv2.remap(before.astype(np.float32), back, None, cv2.INTER_LINEAR)
    undone, left = (
        cv2.blur((now.astype(np.float32) - old) ** 2, (_BLOCK, _BLOCK)) + _CAMERA_NOISE for old in (warped, before)
    )
    moving = seen & (np.abs(back - grid).max(-1) > 0.7) & (left > 2 * undone)
    still = cv2.dilate(cv2.absdiff(now, before), np.ones((9, 9), np.uint8)) <= 10
    moves = (np.abs(cv2.blur(back - grid, (15, 15))).max(-1) > 0.3).astype(np.uint8)
    near = cv2.dilate(moves, np.ones((97, 97), np.uint8)) > 0
    return _Parts(back, seen, moving, still, still & ~near)


def measure_demo(style: Style, precision: Precision = PRECISION) -> dict[str, float]:
    """The cheap figures on what ships with the project, so that everybody can measure them again."""
    pictures = demo_frames()
    pans = measure_pans(style, pictures, MOTIONS[2:5], precision)
    return measure_demo_stills(style, pictures, precision) | {"pan_db": pans["pan_db"]}


def demo_frames() -> list[Image]:
    """Read three frames of the clip that ships with the project, 640x360, RGB."""
    with VideoReader(DEMO) as reader:
        frames = [planes_to_rgb(f.planes, f.color) for i, f in enumerate(reader) if i in (10, 60, 120)]
    return [np.asarray(cv2.resize(f, (640, 360), interpolation=cv2.INTER_AREA), np.uint8) for f in frames]


def measure_demo_stills(style: Style, pictures: list[Image], precision: Precision = PRECISION) -> dict[str, float]:
    """Measure those of ``measure_demo`` that need no clip: all but ``pan_db``."""
    stills = measure_stills(style, pictures, precision=precision)
    figures = {"source_db": stills["source_db"], "noise_db": stills["noise_db"]}
    made = [planes_to_rgb(stylized(style, [planes_from_rgb(p, _COLOR)], precision)[0], _COLOR) for p in pictures]
    return figures | {name: round(value, 3) for name, value in yardsticks.measure(made, pictures).items()}


def load_pictures(paths: list[Path]) -> list[Image]:
    """Read images as RGB."""
    pictures = []
    for path in paths:
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if picture is None:
            raise ValueError(f"cannot read the image {path}")
        pictures.append(np.ascontiguousarray(picture[:, :, ::-1], np.uint8))
    return pictures


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m train.evaluate", description="Measure a style; see the module.")
    parser.add_argument("style", type=Path, help="style folder; its style.json takes the figures")
    parser.add_argument("--photos", type=Path, nargs="+", required=True, help="photos or folders, never trained on")
    parser.add_argument("--classifier", type=Path, help="weights of EfficientNet-Lite0")
    parser.add_argument("--pictures", type=Path, nargs="+", help="the style's own image, then those of others")
    parser.add_argument("--clips", type=Path, nargs="+", default=[], help="real clips")
    parser.add_argument("--card", type=Path, metavar="FOLDER", help="write the card (markdown and image) there")
    parser.add_argument("--show", nargs="+", default=[], metavar="IMAGE|CLIP@SECOND", help="what the card shows")
    parser.add_argument(
        "--only",
        choices=("stills", "pans", "motion", "grid", "look", "demo", "style", "clips"),
        help="measure this part and keep the other figures; with --card its page is written again, its image stays",
    )
    parser.add_argument("--dry-run", action="store_true", help="print, change nothing")
    args = parser.parse_args()
    pictures = load_pictures([p for place in args.photos for p in list_pictures(place)])
    style = load_style(args.style)
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "stills": lambda: {"images": len(pictures)} | measure_stills(style, pictures, args.classifier),
        "pans": lambda: measure_pans_both_ways(style, pictures),
        "motion": lambda: measure_motion(style, pictures),
        "grid": lambda: measure_grid(style),
        "look": lambda: measure_look(style, pictures, args.pictures or ()),
        "demo": lambda: {"demo": measure_demo(style)},
    }
    if args.pictures:
        parts["style"] = lambda: measure_style(style, pictures, args.pictures[0], args.pictures[1:])
    if args.clips:
        parts["clips"] = lambda: measure_clips(style, args.clips)
    if args.only and args.only not in parts:
        parser.error(f"--only {args.only} needs --{'pictures' if args.only == 'style' else 'clips'}")
    path = args.style / "style.json"
    metadata = json.loads(path.read_text("utf-8"))
    figures: dict[str, Any] = {}
    for part in [args.only] if args.only else parts:
        figures |= parts[part]()
    print(json.dumps(figures, indent=1))
    metadata["metrics"] = metadata["metrics"] | figures if args.only else figures
    wrong = missed(metadata)
    if not args.dry_run:
        path.write_text(json.dumps(metadata, indent=1, ensure_ascii=False) + "\n", "utf-8")
        if args.card:
            from train.card import save_image, write_page
            from train.sheet import picture_of

            write_page(style, metadata, args.card)
            if not args.only:
                save_image(style, [picture_of(text) for text in args.show] or pictures[:6], args.card)
    for line in wrong:
        print(f"train: {args.style.name} is not to be shipped: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

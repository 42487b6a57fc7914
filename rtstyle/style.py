"""Style: what a folder of weights and words holds, and how styles are found and blended.

A style folder holds ``style.json`` (words and figures), ``trunk.onnx`` (the float32 network, see graph.py),
``preview.jpg`` and, once it was calibrated, ``int8.json`` (what int8 needs to know of that network). A folder
``fast`` or ``fine`` in it holds the same style by a smaller or larger network. JSON and ONNX only: opening a
stranger's style runs no code of theirs.
"""

from __future__ import annotations

import difflib
import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from rtstyle.errors import StyleFormatError, StyleNotFoundError, reason_of
from rtstyle.files import read_whole
from rtstyle.settings import check_is
from rtstyle.style_folder import INT8_FILE, LARGEST_JSON, LARGEST_PREVIEW, STYLE_FORMAT, TRUNK, trunk_digest

if TYPE_CHECKING:
    from rtstyle.canvas.layer import CanvasLayer
    from rtstyle.canvas.steering import Steering
    from rtstyle.canvas.tone import ToneCurve
    from rtstyle.frame import Color, Size
    from rtstyle.graph import Gains, Ranges, Trunk

SizeClass = Literal["fast", "default", "fine"]
"""How large the network is that draws a style: see ``generator.SHAPES``."""

SizeClassChoice = Literal["auto", "fast", "default", "fine"]


@dataclass(frozen=True)
class Style:
    """A style that was found; its weights are read when they are first needed."""

    name: str
    folders: tuple[tuple[Path, float], ...]
    """The folder, with share 1; for a blend several, shares summing to 1."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """What style.json says; of a blend, of the style with the largest share."""
    size_class: SizeClass = "default"
    """The network that draws it; ``sized`` gives another."""

    @property
    def size_classes(self) -> tuple[SizeClass, ...]:
        """The networks that there are to draw it with; of a blend, those that all of its styles have."""
        roots = [_root(folder) for folder, _ in self.folders]
        return tuple(
            each for each in get_args(SizeClass) if all((_of_size(root, each) / TRUNK).is_file() for root in roots)
        )

    def sized(self, size_class: SizeClassChoice) -> Style:
        """Return the same style, drawn by a network of this size; ``auto`` leaves it as it is.

        Raises:
            StyleNotFoundError: There is none; the message says which there are.
        """
        if size_class in ("auto", self.size_class):
            return self
        if size_class not in self.size_classes:
            raise StyleNotFoundError(
                f"the style {self.name} has no {size_class} network (it has: {', '.join(self.size_classes)}); "
                f"train one, see train/README.md, or take another --size-class"
            )
        folders = tuple((_of_size(_root(folder), size_class), share) for folder, share in self.folders)
        return Style(self.name, folders, self.metadata, size_class)

    @property
    def title(self) -> str:
        """One line that describes the style."""
        return str(self.metadata.get("title", self.name))

    def _repr_jpeg_(self) -> bytes | None:  # what Jupyter displays
        return self.preview

    @property
    def preview(self) -> bytes | None:
        """A JPEG of what the style makes of an image; None where it has none."""
        folder = max(self.folders, key=lambda pair: pair[1])[0]
        try:
            return read_whole(_root(folder) / "preview.jpg", LARGEST_PREVIEW)
        except OSError:
            return None

    @cached_property
    def steering(self) -> Steering | None:
        """How its strokes are laid, from the ``canvas`` entry of style.json; None: it draws on noise.

        Raises:
            StyleFormatError: The entry is not one.
        """
        from rtstyle.canvas.steering import Steering

        entry = self._network.get("canvas")
        if entry is None:
            return None
        try:
            return Steering.of(entry)
        except (TypeError, ValueError, AttributeError) as error:
            raise StyleFormatError(f"the canvas entry in the style.json of {self.name} is damaged: {error}") from error

    @cached_property
    def tone(self) -> ToneCurve | None:
        """Its tone curve, from the ``tone`` entry of style.json; None: it reads luma as it comes.

        Raises:
            StyleFormatError: The entry is not one.
        """
        from rtstyle.canvas.tone import ToneCurve

        entry = self._network.get("tone")
        if entry is None:
            return None
        try:
            return ToneCurve(tuple(float(q) for q in entry["quantiles"]), float(entry["mix"]), entry.get("blur", 1))
        except (TypeError, ValueError, LookupError) as error:
            raise StyleFormatError(f"the tone entry in the style.json of {self.name} is damaged: {error}") from error

    @cached_property
    def _network(self) -> dict[str, Any]:
        """What the style.json beside its trunk.onnx says: a network of another size has one of its own."""
        return read_style_json(self.folders[0][0])

    def _load_trunk(self, folder: Path) -> Trunk:
        from rtstyle.graph import Trunk

        trunk = Trunk.load(folder / TRUNK, toned=self.tone is not None)
        if trunk.steered != (self.steering is not None) or (self.tone and not trunk.steered):
            canvas = "a steered canvas" if trunk.steered else "noise"
            raise StyleFormatError(
                f"the network in {folder} draws on {canvas}, and its style.json says otherwise: its entries canvas and "
                "tone belong to the network"
            )
        return trunk

    @property
    def parts(self) -> list[tuple[Style, float]]:
        """The styles of a blend and their shares; of another style, itself."""
        return [
            (Style(folder.name, ((folder, 1.0),), self.metadata, self.size_class), share)
            for folder, share in self.folders
            if share > 0
        ]

    @property
    def steered(self) -> bool:
        """Whether it, or a style of the blend that it is, draws on a steered canvas."""
        return any(part.steering is not None for part, _ in self.parts)

    @property
    def enlargeable(self) -> bool:
        """Whether what its network, or one of a blend, decides is smooth: of paintings on a steered canvas. Networks
        of drawings and cartoons draw contours, which would be softer if they were enlarged."""
        kinds = (str(part._network.get("kind")) for part, _ in self.parts if part.steering is not None)
        return any("drawing" not in kind and kind != "cartoon" for kind in kinds)

    def layer(self, size: Size, color: Color, *, joined: bool = False) -> CanvasLayer:
        """Return what lies below frames of one size for its network to draw from.

        Args:
            joined: As ``graph.deployed`` takes it; else as ``graph.planar`` does.
        """
        from rtstyle.canvas.layer import NoiseLayer, SteeredLayer
        from rtstyle.frame import Packing

        if self.steering is None:
            packing = Packing(size)
            return NoiseLayer(packing.rows, packing.columns)
        return SteeredLayer(self.steering, self.tone, size, color, joined=joined)

    @cached_property
    def trunk(self) -> Trunk:
        """The network's weights, float32; of a blend, all of them, their residuals mixed by share.

        Raises:
            StyleFormatError: A file is damaged, or the blended styles are of different families.
        """
        from rtstyle.graph import Trunk

        parts = [(folder, share) for folder, share in self.folders if share > 0]
        trunks = [self._load_trunk(folder) for folder, _ in parts]
        return Trunk.mix(trunks, [share for _, share in parts])

    @cached_property
    def int8(self) -> tuple[Trunk, Ranges]:
        """The network as int8 needs it (see ``graph.equalized``), and the ranges of its tensors.

        Raises:
            StyleFormatError: A style has no int8.json, it is damaged, or it was measured on another trunk.onnx.
        """
        from rtstyle.graph import Trunk, equalized, merge_ranges

        trunks, ranges, shares = [], [], []
        for folder, share in self.folders:
            if share > 0:
                trunk = self._load_trunk(folder)
                gains, measured = read_int8(folder, trunk)
                trunks.append(equalized(trunk, gains))
                ranges.append(measured)
                shares.append(share)
        return Trunk.mix(trunks, shares), merge_ranges(ranges)


def _of_size(root: Path, size_class: SizeClass) -> Path:
    """Return where a style keeps its network of a size."""
    return root if size_class == "default" else root / size_class


def _root(folder: Path) -> Path:
    """Return the style's folder, of that or the folder of one of its networks of other sizes."""
    within = folder.name in get_args(SizeClass) and (folder.parent / TRUNK).is_file()
    return folder.parent if within else folder


def read_int8(folder: Path, trunk: Trunk) -> tuple[Gains, Ranges]:
    """Read a style's int8.json.

    Args:
        trunk: What is in the folder's trunk.onnx.

    Raises:
        StyleFormatError: It is missing, damaged, or of another trunk.onnx; the message says how to make it.
    """
    import numpy as np

    from rtstyle.graph import channel_groups, quantized_tensors

    path = folder / INT8_FILE
    remedy = f"run python -m engines.quantize {folder} --photos PHOTOS, or take another precision"
    try:
        found = json.loads(read_whole(path, LARGEST_JSON))
        ranges = {name: (float(low), float(high)) for name, (low, high) in found["ranges"].items()}
        with np.errstate(over="ignore"):  # what float32 does not hold becomes infinity, which is refused below
            gains = {name: np.array(gain, np.float32) for name, gain in found["gains"].items()}
        digest = found["trunk_sha256"]
    except FileNotFoundError as error:
        raise StyleFormatError(f"the style in {folder} has no {INT8_FILE}, which int8 needs: {remedy}") from error
    except (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        said = f"{type(error).__name__}: {reason_of(error)}"[:200]
        raise StyleFormatError(f"cannot read {path}: {said}; {remedy}") from error
    if digest != trunk_digest(folder):
        raise StyleFormatError(f"{path} was measured on another trunk.onnx than is there: {remedy}")
    wanted = {
        writers[0]: trunk.weights[f"{readers[0]}.weight"].shape[1:2]
        for writers, readers in channel_groups(trunk.weights)
    }
    complete = set(ranges) == set(quantized_tensors(trunk)) and {n: g.shape for n, g in gains.items()} == wanted
    sound = all(math.isfinite(low) and math.isfinite(high) and low <= 0 <= high for low, high in ranges.values())
    if not (complete and sound and all(((gain > 0) & (gain <= 1)).all() for gain in gains.values())):
        raise StyleFormatError(f"{path} is not what its network needs: {remedy}")
    return gains, ranges


def list_styles() -> list[str]:
    """Return the names of the shipped styles."""
    root = files("rtstyle") / "styles"
    return sorted(entry.name for entry in root.iterdir() if (entry / "style.json").is_file()) if root.is_dir() else []


def load_style(name: str | Path, size_class: SizeClassChoice = "auto") -> Style:
    """Find a style.

    Args:
        name: The name of a shipped style, a folder that holds a style.json, an image, or a blend of them such
            as ``sketch:0.6,./mine:0.4`` (shares are scaled to sum to 1). The style of an image is made within
            seconds and kept in the user's cache, see ``rtstyle.universal``.
        size_class: Of the network that draws it, see ``Style.sized``; ``auto`` is the default one.

    Raises:
        StyleNotFoundError: There is none of that name, which the message states with the nearest, or of that size.
        StyleFormatError: The folder is incomplete, damaged, or of a newer format.
    """
    return _find(name, size_class).sized(size_class)


IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".gif")
"""Extensions of images that can be named as a style."""


def _find(name: str | Path, size_class: SizeClassChoice) -> Style:
    check_is("a style", name, (str, Path))
    text = str(name)
    if not isinstance(name, Path) and ("," in text or _share_of(text)[1] is not None):
        return _blend(text, size_class)
    path = Path(name)
    if (path / "style.json").is_file():
        return _read_style(path)
    if isinstance(name, str) and name in list_styles():
        return _read_style(Path(str(files("rtstyle") / "styles" / name)))
    if path.suffix.lower() in IMAGES and (path.exists() or isinstance(name, Path) or len(path.parts) > 1):
        if size_class not in ("auto", "default"):  # before the style is made, which takes seconds
            raise StyleNotFoundError(
                f"the style of the image {path} has no {size_class} network (it has: default); take another "
                "--size-class, or train a style, see train/README.md"
            )
        from rtstyle.universal.making import style_of_image

        return _read_style(style_of_image(path))
    if path.is_dir():
        raise StyleFormatError(f"the folder {text} holds no style.json, so it is no style")
    if path.is_file():
        raise StyleFormatError(f"{text} is no style: name an image ({', '.join(IMAGES)}) or the folder of a style")
    near = difflib.get_close_matches(text, list_styles(), 1, 0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise StyleNotFoundError(
        f"no style {text!r}{hint} (available: {', '.join(list_styles())}; or give an image, or a folder that holds "
        "a style.json)"
    )


def _share_of(text: str) -> tuple[str, float | None]:
    """Split ``name:0.6``; the share is None where there is none (``C:\\styles\\mine`` has none either)."""
    head, colon, tail = text.rpartition(":")
    try:
        return (head.strip(), float(tail)) if colon and head else (text.strip(), None)
    except ValueError:
        return text.strip(), None


def _blend(text: str, size_class: SizeClassChoice) -> Style:
    parts = [_share_of(part) for part in text.split(",") if part.strip()]
    shares = [1.0 if share is None else share for _, share in parts]
    if not parts or any(not 0 <= share < 1e6 for share in shares) or sum(shares) <= 0:
        raise StyleNotFoundError(f"a blend is NAME:SHARE,NAME:SHARE with shares of at least 0, not all 0; got {text!r}")
    styles = [_find(Path(name) if (Path(name) / "style.json").is_file() else name, size_class) for name, _ in parts]
    summed: dict[Path, float] = {}
    for style, share in zip(styles, shares, strict=True):
        folder = style.folders[0][0]
        summed[folder] = summed.get(folder, 0.0) + share / sum(shares)
    named = {style.folders[0][0]: style for style in styles}
    main = named[max(summed, key=summed.__getitem__)]
    label = ",".join(f"{named[folder].name}:{share:.3g}" for folder, share in summed.items())
    return Style(label if len(summed) > 1 else main.name, tuple(summed.items()), main.metadata)


def read_style_json(folder: Path) -> dict[str, Any]:
    """Read the style.json of a folder, of a format that this release knows."""
    try:
        metadata = json.loads(read_whole(folder / "style.json", LARGEST_JSON))
    except (OSError, ValueError, RecursionError) as error:
        raise StyleFormatError(f"cannot read {folder / 'style.json'}: {reason_of(error)}") from error
    if not isinstance(metadata, dict) or type(metadata.get("format")) is not int:
        raise StyleFormatError(f"{folder / 'style.json'} has no format number, so it is no style of rtstyle")
    if metadata["format"] > STYLE_FORMAT:
        raise StyleFormatError(
            f"the style in {folder} has format {metadata['format']}, this rtstyle reads up to {STYLE_FORMAT}: "
            "upgrade rtstyle"
        )
    return metadata


def _read_style(folder: Path) -> Style:
    metadata = read_style_json(folder)
    if not (folder / TRUNK).is_file():
        raise StyleFormatError(f"the style in {folder} has no trunk.onnx: its weights are missing")
    name, size_class = metadata.get("name", folder.name), metadata.get("size_class", "default")
    for word in (name, metadata.get("title", "")):
        if not isinstance(word, str) or len(word) > 200 or not word.isprintable():
            raise StyleFormatError(f"name or title in {folder / 'style.json'} is no line of text")
    return Style(name, ((folder, 1.0),), metadata, size_class if size_class in get_args(SizeClass) else "default")

"""From any image to a style, in seconds: ``style_of_image`` keeps it in the cache, ``make_style`` in a folder."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import date
from functools import cache, partial
from hashlib import blake2b
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle.canvas.steering import CHANNELS
from rtstyle.canvas.strokes import bank_beside
from rtstyle.errors import OutputExistsError, StyleFormatError, reason_of
from rtstyle.files import cache_root, passing_folder
from rtstyle.frame import CELL, MARGIN
from rtstyle.reading import load_image
from rtstyle.style_folder import INT8_FILE, STYLE_FORMAT, TRUNK, trunk_digest
from rtstyle.universal.measuring import manner_of
from rtstyle.universal.painting import Painting
from rtstyle.universal.scenes import scenes

if TYPE_CHECKING:
    from rtstyle.graph import Trunk, Weights
    from rtstyle.universal.readout import Lesson

log = logging.getLogger("rtstyle")

Image = NDArray[np.uint8]

VERSION = 5
"""Of how styles are made: raise it with every change that changes a byte of them."""

_SCENES, _SIDE, _CELLS = 12, 192, 12_000
"""Scenes that a network is solved on, their side in pixels, and how many cells of them count."""

_LONG, _SHORT = 800, 48
"""Longest side that an image is measured at, and the least that it must have, in pixels."""

_EDGE = 0.03
"""Share of an image at each side that is left out: frames and edges of paper."""


@cache
def _common_trunk() -> Trunk:
    """Return the network that all images share; its last layers are of no image."""
    from rtstyle.graph import Trunk

    return Trunk.load(Path(str(files("rtstyle") / "universal" / TRUNK)), toned=True)


@cache
def _maker() -> str:
    return f"{VERSION} {trunk_digest(Path(str(files('rtstyle') / 'universal')))}"


def read_for_style(path: Path) -> tuple[Image, list[str]]:
    """Read an image to be painted after: shape (h, w, 3) RGB, at most 800 pixels long; what is transparent is white.

    Returns:
        It, and what is to be reported of it.

    Raises:
        ImageError: It cannot be read.
        StyleFormatError: It is too small, or holds one color only.
    """
    loaded = load_image(path)
    samples = loaded.samples
    notes = ["it is animated: the style is of its first frame"] if loaded.about.animated else []
    if samples.shape[2] == 4:
        opacity = samples[..., 3:].astype(np.float32) / 255
        samples = np.rint(255 + opacity * (samples[..., :3].astype(np.float32) - 255)).astype(np.uint8)
    rgb = np.ascontiguousarray(samples[..., 2::-1] if samples.shape[2] == 3 else samples[..., :3][..., ::-1])
    top, left = (round(_EDGE * side) for side in rgb.shape[:2])
    rgb = rgb[top : len(rgb) - top, left : rgb.shape[1] - left]
    if min(rgb.shape[:2]) < _SHORT:
        raise StyleFormatError(
            f"{path} is {samples.shape[1]}x{samples.shape[0]}: too small to be a style; take 64x64 or more"
        )
    if max(rgb.shape[:2]) > _LONG:
        scale = _LONG / max(rgb.shape[:2])
        rgb = np.asarray(cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    if float(rgb.reshape(-1, 3).astype(np.float32).std(0).max()) < 2:
        raise StyleFormatError(f"{path} holds one color only: there is nothing in it to paint after")
    return np.ascontiguousarray(rgb), notes


def _features(common: Trunk) -> Callable[[Lesson], NDArray[np.float32]]:
    """Return the common network up to its last layers: of a lesson it gives (channels, rows, columns)."""
    import onnx

    from rtstyle.graph import PLANE_CHANNELS
    from rtstyle.inference import the_core

    tail = next(node for node in common.model.graph.node if node.op_type == "Conv" and node.input[1] == "tail.weight")
    model = onnx.ModelProto()
    model.CopyFrom(common.model)
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info(tail.input[0], onnx.TensorProto.FLOAT, None))
    read = the_core().read_model(model.SerializeToString())
    cells = (_SIDE + 2 * MARGIN) // CELL
    read.reshape({"x": [1, PLANE_CHANNELS, cells, cells], "z": [1, CHANNELS, cells, cells]})
    network = the_core().compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda each: network({"x": each.x[None], "z": each.z[None]})[0][0].copy()


def weights_of(image: Image) -> tuple[Weights, Painting]:
    """Return the weights of an image's network, and the painter that it was solved from.

    Args:
        image: Shape (h, w, 3), RGB.
    """
    manner = manner_of(image)
    with ThreadPoolExecutor(2) as pool:
        tiles = pool.submit(
            bank_beside, manner.steering.brush
        )  # takes longest; the rest is imported and prepared meanwhile
        from rtstyle.universal.readout import laid_out, lesson, solve, with_last_layers

        common = _common_trunk()
        features, painting, made = _features(common), Painting(image, manner), scenes(_SCENES, _SIDE)
        tiles.result()
        chance = (np.random.default_rng((VERSION, number)) for number in range(_SCENES))
        lessons = pool.map(partial(lesson, painting), made, chance)
        rows = laid_out(((each, features(each)) for each in lessons), _CELLS // _SCENES)
    return with_last_layers(common.weights, *solve(rows, painting.colors)), painting


def _write(folder: Path, name: str, title: str, image: Image) -> None:
    weights, painting = weights_of(image)
    import onnx
    from onnx import numpy_helper

    model = onnx.ModelProto()
    model.CopyFrom(_common_trunk().model)
    del model.graph.initializer[:]
    model.graph.initializer.extend(numpy_helper.from_array(array, key) for key, array in weights.items())
    (folder / TRUNK).write_bytes(model.SerializeToString(deterministic=True))
    measured = Path(str(files("rtstyle") / "universal" / INT8_FILE))
    if measured.is_file():  # not while it is being measured
        entries = {"trunk_sha256": trunk_digest(folder), **json.loads(measured.read_text("utf-8"))}
        (folder / INT8_FILE).write_text(json.dumps(entries) + "\n", "utf-8")
    words = {
        "format": STYLE_FORMAT,
        "name": name,
        "title": title,
        "kind": "painting",
        "date": f"{date.today()}",
        "trained_by": "not trained: its last layers were solved for, see rtstyle/universal/readout.py",
        "rights": [{"set": title, "role": "palette and strokes", "rights": "yours to know", "source": "your image"}],
        "canvas": painting.steering.entry(),
        "tone": {"quantiles": list(painting.curve.quantiles), "mix": painting.curve.mix},
        "metrics": {},
    }
    (folder / "style.json").write_text(json.dumps(words, indent=1) + "\n", "utf-8")
    scale = 256 / min(image.shape[:2])
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    (folder / "preview.jpg").write_bytes(cv2.imencode(".jpg", small[..., ::-1])[1].tobytes())


def _name_of(path: Path) -> str:
    stem = "".join(c for c in path.stem if c.isprintable() and c not in ":,/\\")[:60].strip()
    return stem or "image"


def _kept() -> Path:
    """Return where styles of images are kept: in the user's cache, or until the end where that cannot be written."""
    folder = cache_root() / "images"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return Path(_until_the_end(folder, reason_of(error)).name)
    return folder


@cache
def _until_the_end(folder: Path, reason: str) -> tempfile.TemporaryDirectory[str]:
    log.warning("styles of images cannot be kept in %s (%s): they are made again in each run", folder, reason)
    return passing_folder()


def style_of_image(path: Path) -> Path:
    """Return the folder of the style of an image, in the user's cache; it is made when it is first asked for.

    Where the cache cannot be written, the folder ends with this process, and a warning says so.

    Raises:
        ImageError, StyleFormatError: As ``read_for_style``.
    """
    image, notes = read_for_style(path)
    key = blake2b(f"{_maker()} {_name_of(path)} {image.shape}".encode() + image.tobytes(), digest_size=10)
    folder = cache_root() / "images" / key.hexdigest()
    if not (folder / "style.json").is_file():
        folder = _kept() / folder.name
    if (folder / "style.json").is_file():
        return folder
    for note in notes:
        log.warning("%s: %s", path, note)
    log.info("making a style of %s, once on this machine", path)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write(part, _name_of(path), f"after {path.name}", image)
        with suppress(OSError):  # another process may have been first
            part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def make_style(path: Path, folder: Path) -> Path:
    """Make a style folder of an image.

    Raises:
        ImageError, StyleFormatError: As ``read_for_style``.
        OutputExistsError: The folder exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputExistsError(f"{folder} exists already; name another folder, or remove it")
    image, notes = read_for_style(path)
    for note in notes:
        log.warning("%s: %s", path, note)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder, folder.resolve().name, f"after {path.name}", image)
    return folder

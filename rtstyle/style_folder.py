"""What a style folder holds: names, limits, and by what its files know one another."""

from __future__ import annotations

import hashlib
from pathlib import Path

from rtstyle.files import read_whole

STYLE_FORMAT = 2
"""Version of the folder's layout that this release reads, and the older ones with it: 1 had a canvas of noise only."""

TRUNK, INT8_FILE = "trunk.onnx", "int8.json"

LARGEST_JSON = 1 << 20
"""Bytes of the largest style.json and int8.json that are read; shipped ones have 5 KB."""

LARGEST_TRUNK = 32 << 20
"""Bytes of the largest trunk.onnx that is read; those of the size class ``fine`` have 6 MB."""

LARGEST_PREVIEW = 1 << 23
"""Bytes of the largest preview.jpg that is read."""


def trunk_digest(folder: Path) -> str:
    """Return the SHA-256 of a style's trunk.onnx, by which its int8.json knows it."""
    return hashlib.sha256(read_trunk(folder)).hexdigest()


def read_trunk(folder: Path) -> bytes:
    """Return the bytes of a style's trunk.onnx.

    Raises:
        OSError: It is missing, larger than any, or no ordinary file.
    """
    return read_whole(folder / TRUNK, LARGEST_TRUNK)

"""Engines for live use."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from rtstyle.backends import BackendChoice, Engine, Precision, open_engine
from rtstyle.frame import Colour, Frame, Planes, Size
from rtstyle.style import Style


def warm_engine(
    style: Style | str, size: Size, colour: Colour, backend: BackendChoice, precision: Precision, device: str | None
) -> Engine:
    """Open an engine for live use and run it once: the first frame is always slow."""
    engine = open_engine(style, size, colour, backend=backend, precision=precision, mode="latency", device=device)
    try:
        luma = np.full((size.height, size.width), 128, np.uint8)
        chroma = np.full((size.chroma.height, size.chroma.width), 128, np.uint8)
        engine.submit(Frame(Planes(luma, chroma, chroma), 0, Fraction(1, 90000), colour))
        engine.next()
    except BaseException:
        engine.close()
        raise
    return engine

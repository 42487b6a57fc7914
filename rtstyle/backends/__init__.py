"""Engines: a style, loaded on one device, ready for one size and color.

``engine.py`` holds the protocol and the settings, ``opening.py`` chooses and opens; the other modules are the backends.
"""

from rtstyle.backends.engine import (
    BACKENDS,
    PRECISIONS,
    BackendChoice,
    BackendName,
    Controls,
    Engine,
    EngineSettings,
    Mode,
    NetworkLines,
    Precision,
    StrokeSize,
)
from rtstyle.backends.opening import open_engine, open_for

__all__ = [
    "BACKENDS",
    "PRECISIONS",
    "BackendChoice",
    "BackendName",
    "Controls",
    "Engine",
    "EngineSettings",
    "Mode",
    "NetworkLines",
    "Precision",
    "StrokeSize",
    "open_engine",
    "open_for",
]

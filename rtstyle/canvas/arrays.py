"""Arrays that the modules of the canvas exchange."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Shorts = NDArray[np.int16]
Integers = NDArray[np.int32]
Mask = NDArray[np.bool_]


def rounded_from_double(function: Callable[..., Any], *values: Floats) -> Floats:
    """Return a function of float32 values, computed in float64.

    In float32, the last bit of numpy's exp, tanh, sin, cos and arctan2 depends on where an array lies in memory
    (AVX512), so the same image would not give the same bytes.
    """
    return np.asarray(function(*(each.astype(np.float64) for each in values)), np.float32)

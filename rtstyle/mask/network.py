"""The small networks that find persons and faces, and what they read of a frame."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rtstyle.errors import BackendUnavailableError, reason_of
from rtstyle.frame import Frame, Plane, Planes, RgbConverter
from rtstyle.video.samples import turned


@cache
def _compiled(name: str) -> Any:
    """Compile a network for one thread, in float32: it then gives the same on every run."""
    try:
        from rtstyle.inference import the_core

        model = the_core().read_model(str(files("rtstyle") / "mask" / "models" / name))
        settings = {
            "INFERENCE_NUM_THREADS": 1,
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,
        }
        return the_core().compile_model(model, "CPU", settings)
    except (ImportError, RuntimeError) as error:
        raise BackendUnavailableError(f"masks of persons and faces need OpenVINO: {reason_of(error)}") from error


class SmallNetwork:
    """One of the networks in ``models``. One thread uses it; several share the weights.

    Args:
        name: Of its file.

    Raises:
        BackendUnavailableError: OpenVINO cannot run it.
    """

    def __init__(self, name: str) -> None:
        self._request = _compiled(name).create_infer_request()

    def run(self, image: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Return the outputs for an input of the network's own shape, in arrays that the next run writes to again."""
        self._request.infer([image])
        return [tensor.data for tensor in self._request.output_tensors]


class SmallImage:
    """Reduces frames to the input of a network: RGB, as players show them.

    Args:
        matrix: How players turn the frames, as FFmpeg's display matrix; None: not at all.
    """

    def __init__(self, matrix: tuple[int, ...] | None) -> None:
        self._matrix, self._converter = matrix, RgbConverter()

    def of(self, frame: Frame, width: int, height: int) -> NDArray[np.uint8]:
        """Return a frame as RGB of shape (height, width, 3), uint8, both even; the next call writes to it again."""
        quarter = self._matrix is not None and not round(self._matrix[0] / 65536)
        if quarter:
            width, height = height, width
        half = width // 2, height // 2
        y, u, v = frame.planes
        # Chroma is smooth: to average all of it costs more than the network's first layers.
        chroma = (np.asarray(cv2.resize(plane, half, interpolation=cv2.INTER_LINEAR), np.uint8) for plane in (u, v))
        planes = Planes(shrunk(y, width, height), *chroma)
        if self._matrix is not None:
            planes = Planes(*(turned(plane, self._matrix) for plane in planes))
        return self._converter.convert(planes, frame.color)


def shrunk(plane: Plane, width: int, height: int) -> Plane:
    """Return a plane averaged to a size, or interpolated where that is larger."""
    return np.asarray(cv2.resize(np.ascontiguousarray(plane), (width, height), interpolation=cv2.INTER_AREA), np.uint8)

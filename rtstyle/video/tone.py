"""HDR to SDR: a table from BT.2020 in PQ or HLG to BT.709, as FFmpeg's lut3d filter reads it.

FFmpeg's own conversion (``scale=out_transfer=...``) clips highlights and takes most of a second per frame.
"""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from rtstyle.video.samples import planes_of, side_data_of

PQ, HLG = 16, 18
"""Transfer functions of HDR, as the numbers of ITU-T H.273."""

WHITE = 203.0
"""Luminance in nits that becomes the white of SDR: reference white of HDR, ITU-R BT.2408."""

_POINTS = 49
"""Steps of the table along each axis."""

_M1, _M2 = 2610 / 16384, 2523 / 32  # SMPTE ST 2084
_C1, _C2, _C3 = 3424 / 4096, 2413 / 128, 2392 / 128

_TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
"""Linear BT.2020 to linear BT.709, ITU-R BT.2087."""

Doubles = NDArray[np.float64]


def pq_to_nits(signal: Doubles) -> Doubles:
    """SMPTE ST 2084: signal in [0, 1] to luminance in nits, [0, 10000]."""
    root = np.clip(signal, 0, 1) ** (1 / _M2)
    nits: Doubles = 10000 * (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1)
    return nits


def nits_to_pq(nits: Doubles) -> Doubles:
    """The inverse of ``pq_to_nits``."""
    power = (np.clip(nits, 0, 10000) / 10000) ** _M1
    signal: Doubles = ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2
    return signal


def hlg_to_nits(signal: Doubles, peak: float = 1000.0) -> Doubles:
    """ITU-R BT.2100, HLG: R'G'B' of shape (..., 3) in [0, 1] to nits on a display of ``peak`` nits."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    signal = np.clip(signal, 0, 1)
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luma = scene @ np.array([0.2627, 0.6780, 0.0593])
    gamma = 1.2 + 0.42 * np.log10(peak / 1000)
    nits: Doubles = peak * np.maximum(luma, 1e-9)[..., None] ** (gamma - 1) * scene
    return nits


def roll_off(nits: Doubles, peak: float) -> Doubles:
    """Compress luminance in [0, peak] into [0, WHITE]: highlights bend, the rest stays; ITU-R BT.2390, section 5.4.1.

    Args:
        nits: Any shape; what lies above ``peak`` becomes ``WHITE``.
        peak: The brightest that the source shows, above ``WHITE``.
    """
    top = nits_to_pq(np.array(peak))
    signal = np.minimum(nits_to_pq(nits) / top, 1)
    limit = nits_to_pq(np.array(WHITE)) / top
    knee = 1.5 * limit - 0.5
    t = np.clip((signal - knee) / (1 - knee), 0, 1)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * limit
    return pq_to_nits(np.where(signal < knee, signal, spline) * top)


def map_tones(signal: Doubles, *, transfer: int, peak: float) -> Doubles:
    """Map HDR colors to SDR.

    The brightest of the three channels is rolled off and takes the others along, so that no highlight
    clips and no hue turns; what lies outside of BT.709 then moves towards grey of its own luminance.

    Args:
        signal: R'G'B' of BT.2020, shape (..., 3), in [0, 1], coded as ``transfer`` says.
        transfer: ``PQ`` or ``HLG``.
        peak: The brightest that the source shows, in nits.

    Returns:
        R'G'B' of BT.709 in [0, 1], same shape, for a display with the gamma of 2.4 (ITU-R BT.1886).
    """
    nits = pq_to_nits(signal) if transfer == PQ else hlg_to_nits(signal)
    brightest = nits.max(-1, keepdims=True)
    mapped = nits * (roll_off(brightest, peak) / np.maximum(brightest, 1e-9)) / WHITE
    colors = mapped @ _TO_BT709.T
    grey = (colors @ np.array([0.2126, 0.7152, 0.0722]))[..., None]
    away = colors - grey
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(away > 0, (1 - grey) / away, np.where(away < 0, -grey / away, np.inf))
    colors = grey + away * np.clip(room.min(-1, keepdims=True), 0, 1)
    coded: Doubles = np.clip(colors, 0, 1) ** (1 / 2.4)
    return coded


def write_table(path: Path, *, transfer: int, peak: float) -> None:
    """Write ``map_tones`` as a .cube file; red changes fastest."""
    axis = np.linspace(0, 1, _POINTS)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")
    mapped = map_tones(np.stack((red, green, blue), -1), transfer=transfer, peak=peak).reshape(-1, 3)
    lines = [f"LUT_3D_SIZE {_POINTS}", *(f"{r:.6f} {g:.6f} {b:.6f}" for r, g, b in mapped)]
    path.write_text("\n".join(lines) + "\n", "ascii")


def peak_of(av_frame: av.VideoFrame) -> float:
    """Return how bright a source gets, in nits.

    For PQ that is what the stream says of its content, else of its display, else 1000; or what this frame
    of it shows, if that is more, because many a stream says too little. HLG is relative: always 1000.
    """
    if av_frame.color_trc != PQ:
        return 1000.0
    light = side_data_of(av_frame, "CONTENT_LIGHT_LEVEL")
    graded = side_data_of(av_frame, "MASTERING_DISPLAY_METADATA")
    content = float(light[0]) if light.size else 0.0
    # The greatest luminance of the display is the last of its ten rationals.
    display = float(graded[18] / graded[19]) if graded.size >= 20 and graded[19] else 0.0
    planes = planes_of(av_frame)
    low, steps = (0, 255) if av_frame.color_range == 2 else (16, 219)
    shown = float(pq_to_nits((np.percentile(planes.y, 99.9) - low) / np.array(steps)))
    return float(np.clip(max(content or display or 1000.0, shown), 2 * WHITE, 10000))

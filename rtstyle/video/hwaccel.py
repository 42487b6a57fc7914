"""Hardware decoders (NVDEC and others) by FFmpeg's names: found by decoding, for FFmpeg lists them everywhere."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import av
from av.codec.hwaccel import HWAccel, hwdevices_available

from rtstyle.errors import SettingError, reason_of

_FRAMES = 3


def check_hwaccel(name: str) -> None:
    """Raise SettingError where this FFmpeg knows no such hardware, e.g. ``cuda``, which is NVDEC."""
    known = hwdevices_available()
    if name not in known:
        raise SettingError(f"no hwaccel {name!r} (this FFmpeg knows: {', '.join(known)}; cuda is NVDEC)")


@cache
def hwaccel_problem(name: str) -> str | None:
    """Return why some hardware does not decode H.264 on this machine, None where it does: a small video is tried."""
    film = io.BytesIO()
    try:
        with av.open(film, "w", format="mp4") as target:
            stream: Any = target.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 256, 144, "yuv420p"
            for _ in range(_FRAMES):
                target.mux(stream.encode(av.VideoFrame(256, 144, "yuv420p")))
            target.mux(stream.encode(None))
        film.seek(0)
        with av.open(film, "r", hwaccel=HWAccel(name, allow_software_fallback=False)) as source:
            decoded = len(list(source.decode(video=0)))
    except (av.FFmpegError, ValueError, OSError, RuntimeError) as error:
        return " ".join(reason_of(error).split())
    return None if decoded == _FRAMES else f"it decoded {decoded} of {_FRAMES} frames"


def accelerator(name: str) -> HWAccel:
    """Return what PyAV opens an input with; a codec that the hardware does not know is decoded in software."""
    return HWAccel(name, allow_software_fallback=True)

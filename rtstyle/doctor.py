"""What works on this machine, found by trying it; each finding that does not says how to mend it."""

from __future__ import annotations

import importlib.util
import io
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rtstyle import __version__
from rtstyle.backends import BACKENDS, open_engine
from rtstyle.errors import RtstyleError
from rtstyle.frame import Size


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    subject: str
    works: bool | None
    """None: neither good nor bad, just so."""
    says: str
    fix: str = ""


def examine() -> list[Finding]:
    """Try everything and return what was found, in the order in which people ask."""
    return [*_versions(), _processor(), _gpu(), *_engines(), *_encoders(), _nvdec(), _cameras(), _display()]


def _versions() -> Iterator[Finding]:
    yield Finding("rtstyle", None, f"{__version__}, Python {platform.python_version()} on {platform.platform()}")
    packages = (
        "av", "numpy", "onnx", "opencv-python-headless", "openvino", "pygame-ce",
        "torch", "onnxruntime", "tensorrt", "tensorrt-rtx-cu13", "cuda-bindings",
    )  # fmt: skip
    found = []
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} not installed")
    yield Finding("packages", None, ", ".join(found))
    if importlib.util.find_spec("cv2") and _has("opencv-python"):
        yield Finding(
            "opencv", False, "opencv-python and opencv-python-headless overwrite one another",
            "pip uninstall opencv-python opencv-python-headless; pip install opencv-python-headless",
        )  # fmt: skip


def _has(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _processor() -> Finding:
    from rtstyle.backends.openvino import processor

    name, able = processor()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Finding(
        "processor",
        None,
        f"{name}, {cores} cores; {', '.join(able)}; {', '.join(instruction_sets()) or platform.machine()}",
    )


def instruction_sets() -> list[str]:
    """Return which of the instruction sets that matter this CPU has; empty where the system does not say."""
    wanted = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
    try:
        with open("/proc/cpuinfo") as file:
            flags = next((line for line in file if line.startswith("flags")), "").split()
    except OSError:
        return []
    return [name for name in wanted if name in flags]


def _gpu() -> Finding:
    from rtstyle.backends.cuda import CudaDevice, driver_problem

    problem = driver_problem()
    if problem:
        return Finding("NVIDIA GPU", None, problem)
    try:
        device = CudaDevice()
    except RtstyleError as error:
        return Finding("NVIDIA GPU", False, str(error), "pip install cuda-bindings")
    return Finding("NVIDIA GPU", True, f"{device.name}, SM {device.capability[0]}.{device.capability[1]}")


def _engines() -> Iterator[Finding]:
    fixes = {
        "tensorrt": "on a machine with an NVIDIA GPU: install its driver, pip install 'rtstyle[tensorrt-rtx]'",
        "openvino": "pip install openvino",
        "onnxruntime": "only needed where openvino has no wheels: pip install 'rtstyle[onnxruntime]'",
        "torch": "pip install 'rtstyle[torch]'",
    }
    for name in BACKENDS:
        try:
            with open_engine("sketch", Size(64, 48), backend=name) as engine:
                yield Finding(f"backend {name}", True, f"{engine.precision} on {engine.device}")
        except RtstyleError as error:
            yield Finding(f"backend {name}", False, str(error).rpartition("; ")[2], fixes[name])


def _encoders() -> Iterator[Finding]:
    from rtstyle.video.codecs import HARDWARE, examine_encoders

    for name, reason in examine_encoders().items():
        if reason is None:
            yield Finding(f"encoder {name}", True, "opens")
        elif name.endswith(HARDWARE):  # nothing is broken where a machine has no such device
            yield Finding(f"encoder {name}", None, f"not here: {reason}")
        else:
            yield Finding(f"encoder {name}", False, reason, "pip install --force-reinstall av (wheels hold it)")


def _nvdec() -> Finding:
    """Try the GPU's decoder by decoding: FFmpeg lists it on every machine."""
    import av
    from av.codec.hwaccel import HWAccel

    clip = io.BytesIO()
    try:
        with av.open(clip, "w", format="mp4") as target:
            stream: Any = target.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 256, 144, "yuv420p"
            for _ in range(3):
                target.mux(stream.encode(av.VideoFrame(256, 144, "yuv420p")))
            target.mux(stream.encode(None))
        clip.seek(0)
        with av.open(clip, "r", hwaccel=HWAccel("cuda", allow_software_fallback=False)) as source:
            decoded = len(list(source.decode(video=0)))
    except (av.FFmpegError, ValueError, OSError, RuntimeError) as error:
        words = " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())
        return Finding("decoder nvdec", None, f"not here: {words}; software decodes")
    return Finding("decoder nvdec", decoded == 3, f"decodes {decoded} of 3 frames", "software decodes")


def _cameras() -> Finding:
    from rtstyle.camera import list_cameras

    found = list_cameras()
    if found:
        return Finding("cameras", True, ", ".join(found))
    fix = "plug one in; on Linux check that /dev/video0 exists and that you are in the group 'video'"
    return Finding("cameras", False, "none found", fix if sys.platform == "linux" else "plug one in")


def _display() -> Finding:
    from rtstyle.window import has_display

    if has_display():
        return Finding("display", True, "a window can be opened")
    return Finding("display", False, "no window can be opened", "use --preview none with --record, or set DISPLAY")

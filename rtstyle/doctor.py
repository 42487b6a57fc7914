"""What works on this machine, found by trying it; each finding that does not says how to mend it."""

from __future__ import annotations

import contextlib
import importlib.util
import platform
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from rtstyle import __version__
from rtstyle.backends import BACKENDS, open_engine
from rtstyle.cores import cores
from rtstyle.errors import RtstyleError
from rtstyle.frame import Size


@dataclass(frozen=True)
class Check:
    """One line of the report."""

    subject: str
    works: bool | None
    """None: neither good nor bad, just so."""
    says: str
    fix: str = ""


def examine() -> list[Check]:
    """Try everything and return what was found, the most frequent questions first."""
    return [
        *_versions(), _processor(), _nvidia_gpu(), *_engines(), *_encoders(), _nvdec(), _cameras(), _screen(),
        _display(), _virtual_camera(), _microphone(), _streams(), _pages(),
    ]  # fmt: skip


def _versions() -> Iterator[Check]:
    yield Check("rtstyle", None, f"{__version__}, Python {platform.python_version()} on {platform.platform()}")
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
    yield Check("packages", None, ", ".join(found))
    if importlib.util.find_spec("cv2") and _has("opencv-python"):
        yield Check(
            "opencv", False, "opencv-python and opencv-python-headless overwrite one another",
            "pip uninstall opencv-python opencv-python-headless; pip install opencv-python-headless",
        )  # fmt: skip
    yield from _unfit()


def _unfit() -> Iterator[Check]:
    """Find packages of versions that rtstyle does not work with: pip warns of them, and installs them all the same."""
    try:
        needed = requires("rtstyle") or []
    except PackageNotFoundError:  # it runs from a folder
        return
    for needs in map(Requirement, needed):
        if (needs.marker and not needs.marker.evaluate({"extra": ""})) or not _has(needs.name):
            continue
        if not needs.specifier.contains(version(needs.name), prereleases=True):
            wanted = needs.name + ",".join(sorted(map(str, needs.specifier), reverse=True))
            yield Check(
                needs.name,
                False,
                f"{version(needs.name)} is not supported, needed is {wanted}",
                f"pip install '{wanted}'",
            )


def _has(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _processor() -> Check:
    from rtstyle.backends.openvino import processor

    name, able = processor()
    return Check(
        "processor",
        None,
        f"{name}, {cores()} cores; {', '.join(able)}; {', '.join(instruction_sets()) or platform.machine()}",
    )


def instruction_sets() -> list[str]:
    """Return which of the instruction sets that matter this CPU has; empty where the system does not report them."""
    wanted = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
    try:
        with open("/proc/cpuinfo") as file:
            flags = next((line for line in file if line.startswith("flags")), "").split()
    except OSError:
        return []
    return [name for name in wanted if name in flags]


def _nvidia_gpu() -> Check:
    from rtstyle.backends.cuda import CudaDevice, driver_problem

    problem = driver_problem()
    if problem:
        return Check("NVIDIA GPU", None, problem)
    try:
        device = CudaDevice()
    except RtstyleError as error:
        return Check("NVIDIA GPU", False, str(error), "pip install cuda-bindings")
    return Check("NVIDIA GPU", True, f"{device.name}, SM {device.capability[0]}.{device.capability[1]}")


def _engines() -> Iterator[Check]:
    fixes = {
        "tensorrt": "on a machine with an NVIDIA GPU: install its driver, pip install 'rtstyle[tensorrt-rtx]'",
        "openvino": "pip install openvino",
        "onnxruntime": "only needed where openvino has no wheels: pip install 'rtstyle[onnxruntime]'",
        "torch": "pip install 'rtstyle[torch]'",
    }
    for name in BACKENDS:
        try:
            with open_engine("sketch", Size(64, 48), backend=name) as engine:
                yield Check(f"backend {name}", True, f"{engine.precision} on {engine.device}")
        except RtstyleError as error:
            yield Check(f"backend {name}", False, str(error).rpartition("; ")[2], fixes[name])


def _encoders() -> Iterator[Check]:
    from rtstyle.video.codecs import HARDWARE, examine_encoders

    for name, reason in examine_encoders().items():
        if reason is None:
            yield Check(f"encoder {name}", True, "opens")
        elif name.endswith(HARDWARE):  # nothing is broken where a machine has no such device
            yield Check(f"encoder {name}", None, f"not here: {reason}")
        else:
            yield Check(f"encoder {name}", False, reason, "pip install --force-reinstall av (wheels hold it)")


def _nvdec() -> Check:
    from rtstyle.video.hwaccel import hwaccel_problem

    problem = hwaccel_problem("cuda")
    if problem:
        return Check("decoder nvdec", None, f"not here: {problem}; software decodes")
    return Check("decoder nvdec", True, "decodes; rtstyle video --hwaccel cuda")


def _cameras() -> Check:
    from rtstyle.camera import list_cameras

    found = list_cameras()
    if found:
        works = any(not camera.problem for camera in found)
        fix = "" if works else "sudo usermod -aG video $USER, then log in again; or close the program that has it"
        return Check("cameras", works, ", ".join(map(str, found)), fix)
    fix = "plug one in; on Linux check that /dev/video0 exists and that you are in the group 'video'"
    return Check("cameras", False, "none found", fix if sys.platform == "linux" else "plug one in")


def _screen() -> Check:
    """Grab the desktop once."""
    from rtstyle.camera import CaptureSettings, open_source

    try:
        with open_source("screen:", CaptureSettings(timeout=2)) as source:
            return Check("screen as a source", True, f"{source.size} grabbed")
    except RtstyleError as error:
        return Check("screen as a source", None, f"not here: {error}")


def _display() -> Check:
    from rtstyle.window import has_display

    if has_display():
        return Check("display", True, "a window can be opened")
    return Check("display", False, "no window can be opened", "use --preview none with --record, or set DISPLAY")


def _virtual_camera() -> Check:
    from rtstyle.live.sinks.virtual_camera import find_virtual_cameras

    try:
        device = find_virtual_cameras("")[0]
    except RtstyleError as error:
        problem, _, fix = str(error).partition("; ")
        return Check("virtual camera", False, problem, fix)
    return Check("virtual camera", True, f"{device or 'pyvirtualcam is installed'}; rtstyle webcam --virtual-camera")


def _microphone() -> Check:
    """Listen to the system's own for a moment."""
    from rtstyle.camera.microphones import list_microphones
    from rtstyle.live.microphone import MicrophoneCapture
    from rtstyle.video.audio import AudioChunk

    heard = threading.Event()

    def hear(chunk: AudioChunk) -> None:
        heard.set()

    found = ", ".join(f"{microphone.device} ({microphone.name})" for microphone in list_microphones()) or "none"
    try:
        with MicrophoneCapture("", hear, lambda line: None, timeout=2):
            works = heard.wait(2)
    except RtstyleError:
        fix = "plug one in, or name one of those that were found: --mic DEVICE"
        return Check("microphone", False, f"the system's own cannot be opened; found: {found}", fix)
    fix = "" if works else "name another one: --mic DEVICE"
    return Check("microphone", works, f"{'gives' if works else 'opens, but gives no'} audio; found: {found}", fix)


def _streams() -> Check:
    """Send a stream to this machine itself, as --output does."""
    from fractions import Fraction

    import numpy as np

    from rtstyle.frame import Color, Frame, Planes, VideoFormat
    from rtstyle.live.fanout import Fanout
    from rtstyle.live.sinks.stream import StreamSink, destination

    color = Color("bt601")
    frame = Frame(Planes(np.zeros((96, 160), np.uint8), *np.zeros((2, 48, 80), np.uint8)), 0, Fraction(1, 30), color)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here, Fanout(lambda line: None) as branches:
        here.bind(("127.0.0.1", 0))
        here.settimeout(0.05)
        target = destination(f"udp://127.0.0.1:{here.getsockname()[1]}")
        push = StreamSink(target, like=VideoFormat(frame.size, color, frame.time_base), warn=branches.warn)
        branches.add("push", push, "latest")
        end = time.monotonic() + 5
        while time.monotonic() < end:
            branches.write(frame, time.perf_counter())
            with contextlib.suppress(TimeoutError):
                if here.recv(2048)[0] == 0x47:  # how every packet of MPEG-TS begins
                    return Check("streams out", True, "rtmp, rtmps, rtsp, udp, tcp and HLS: one to this machine came")
    reason = "; ".join(branches.warnings) or "it did not come"
    return Check("streams out", False, reason, "pip install --force-reinstall av, and look at the firewall")


def _pages() -> Check:
    """Serve a page to this machine itself."""
    from rtstyle.web import FIX, missing_packages

    missing = missing_packages()
    if missing:
        return Check("pages", False, f"{' and '.join(missing)} not installed", FIX)
    from http.client import HTTPConnection

    from rtstyle.web.address import Address
    from rtstyle.web.host import WebServer, page_route

    try:
        with WebServer(Address(port=0), [page_route("/", "index.html")]) as server:
            line = HTTPConnection("127.0.0.1", server.port, timeout=5)
            line.request("GET", "/")
            works = line.getresponse().status == 200
            line.close()
    except (RtstyleError, OSError) as error:
        return Check("pages", False, str(error), "look at the firewall: 127.0.0.1 must be free for programs")
    return Check("pages", works, "rtstyle serve, rtstyle webcam --preview browser", "" if works else FIX)

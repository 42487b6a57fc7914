"""Encoders: what each takes (pixel formats, crf, presets), and whether it really opens on this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
from av.codec.codec import UnknownCodecError
from av.codec.hwaccel import HWAccel

from rtstyle.errors import SettingError, reason_of
from rtstyle.frame import Size

YUV = re.compile(r"yuv(a?)(420|422|440|444)p(?:(9|10|12|14|16)le)?")
"""Planar formats that ``VideoEncoder`` fills, and their alpha, chroma, bits (none: 8). Range is a tag, so no yuvj."""

RGB_ORDERS = {
    "rgb24": "rgb",
    "rgba": "rgba",
    "bgra": "bgra",
    "argb": "argb",
    "bgr0": "bgr0",
    "gbrp": "gbr",
    "gbrap": "gbra",
}
"""RGB formats that ``VideoEncoder`` fills, and the order of their channels or planes."""

SEMIPLANAR = ("nv12", "p010le")
"""What hardware takes instead of yuv420p and yuv420p10le: U and V in turns in one plane."""


@dataclass(frozen=True)
class Scale:
    """Constant quality of one encoder."""

    low: int
    high: int
    default: int
    """No worse than crf 18 of x264 on a stylized clip (PSNR of luma: 38.8 dB for x264, 40.2 to 40.9 for the others)."""
    options: tuple[str, ...] = ("crf",)
    """Options of the encoder that take the number."""


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """What one of FFmpeg's encoders takes, and how."""

    pix_fmt: str = "yuv420p"
    """The default."""
    narrowest: int = 1
    """Least width in pixels."""
    even: bool = False
    """Sides that chroma halves must be even."""
    alpha: str | None = None
    """The pixel format that holds opacity; None: it cannot."""
    pix_fmts: tuple[str, ...] = ()
    """All that it takes; none named: what FFmpeg says, as far as we can fill it."""
    crf: Scale | None = None
    presets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Options behind each preset, fastest first."""
    preset: str | None = None
    """The default."""
    preset_formats: tuple[str, ...] = ()
    """Pixel formats that presets are for; none named: all."""
    bitrate: bool = False
    """Whether it takes a mean bit rate instead of a quality."""
    options: Mapping[str, str] = field(default_factory=dict)
    """What it always gets."""
    segments: bool = False
    """Packets of several runs with equal settings may follow each other in one stream."""
    only_range: bool | None = None
    """The one range that its readers expect: True full, False limited; None: what the tags say."""


def _named(*names: str, option: str = "preset") -> dict[str, dict[str, str]]:
    return {name: {option: name} for name in names}


_X26X = _named("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
_VP9 = {str(n): {"cpu-used": str(n), "deadline": "realtime" if n > 5 else "good"} for n in range(8, -1, -1)}
_NVENC = _named("p1", "p2", "p3", "p4", "p5", "p6", "p7")
_QSV = _named("veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
_AMF = _named("speed", "balanced", "quality", option="quality")


def _nvenc(high: int = 51) -> Encoder:
    crf = Scale(0, high, 20, ("cq",))
    return Encoder(even=True, crf=crf, presets=_NVENC, preset="p4", bitrate=True, options={"rc": "vbr"})


def _amf(high: int = 51) -> Encoder:
    return Encoder(even=True, crf=Scale(0, high, 20, ("qp_i", "qp_p")), presets=_AMF, preset="balanced", bitrate=True)


_QSV_ENCODER = Encoder(
    pix_fmt="nv12", even=True, crf=Scale(1, 51, 20, ("global_quality",)), presets=_QSV, preset="medium", bitrate=True
)
_RAW = ("yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le")
_WEBP = Encoder(
    pix_fmt="bgra",
    alpha="bgra",
    pix_fmts=("bgra",),
    presets={"lossy": {"quality": "90"}, "lossless": {"lossless": "1"}},
    preset="lossy",
)
_BITRATE_ONLY = Encoder(pix_fmt="nv12", even=True, bitrate=True)

ENCODERS: dict[str, Encoder] = {
    "libx264": Encoder(
        even=True,
        crf=Scale(0, 51, 18),
        presets=_X26X,
        preset="veryfast",
        bitrate=True,
        # Its AVX-512 code for macroblock trees gives another stream at each run where rows are no multiple of 16
        # macroblocks; the plain code costs nothing that can be measured (17.7 against 17.8 CPU-ms at 720p).
        options={"x264-params": "cpu-independent=1"},
        segments=True,
    ),
    "libx265": Encoder(
        even=True,
        crf=Scale(0, 51, 20),
        presets=_X26X,
        preset="veryfast",
        bitrate=True,
        # x265 4.1 writes past its buffers where frames are 33 to 49 wide: the process dies.
        narrowest=64,
        # It prints to stderr by itself, past FFmpeg's log; open GOPs refer to what lies before a key frame.
        # Its number of frames in flight changes what it writes, and goes by the number of cores.
        options={"x265-params": "log-level=error:open-gop=0:frame-threads=2"},
        segments=True,
    ),
    "libsvtav1": Encoder(
        crf=Scale(1, 63, 27),
        presets=_named(*(str(n) for n in range(13, -1, -1))),
        preset="9",
        bitrate=True,
        segments=True,
    ),
    "libvpx-vp9": Encoder(
        alpha="yuva420p",
        crf=Scale(0, 63, 27),
        presets=_VP9,
        preset="6",
        bitrate=True,
        options={"row-mt": "1"},
        segments=True,
    ),
    "prores_ks": Encoder(
        pix_fmt="yuv422p10le",
        alpha="yuva444p10le",
        even=True,  # it spoils the last column of chroma of odd widths
        presets=_named("proxy", "lt", "standard", "hq", option="profile"),
        preset_formats=("yuv422p10le",),
        options={"vendor": "apl0"},
        segments=True,
        only_range=False,
    ),
    "ffv1": Encoder(alpha="yuva420p", options={"level": "3"}, segments=True),
    "qtrle": Encoder(pix_fmt="rgb24", alpha="argb"),
    "rawvideo": Encoder(pix_fmts=_RAW),
    "wrapped_avframe": Encoder(pix_fmts=_RAW),
    "gif": Encoder(pix_fmt="pal8", alpha="pal8", pix_fmts=("pal8",)),
    "apng": Encoder(pix_fmt="rgb24", alpha="rgba"),
    "png": Encoder(pix_fmt="rgb24", alpha="rgba"),
    "mjpeg": Encoder(only_range=True, options={"qmin": "2", "qmax": "2"}),
    "libwebp": _WEBP,
    "libwebp_anim": _WEBP,
    "h264_nvenc": _nvenc(),
    "hevc_nvenc": _nvenc(),
    "av1_nvenc": _nvenc(63),
    "h264_qsv": _QSV_ENCODER,
    "hevc_qsv": _QSV_ENCODER,
    "av1_qsv": _QSV_ENCODER,
    "h264_amf": _amf(),
    "hevc_amf": _amf(),
    "av1_amf": _amf(255),
    "h264_vaapi": _BITRATE_ONLY,
    "hevc_vaapi": _BITRATE_ONLY,
    "av1_vaapi": _BITRATE_ONLY,
    "h264_videotoolbox": _BITRATE_ONLY,
    "hevc_videotoolbox": _BITRATE_ONLY,
}
"""Everything that ``EncoderSettings.codec`` may name, by FFmpeg's names."""

ALIASES = {
    "h264": "libx264",
    "x264": "libx264",
    "hevc": "libx265",
    "h265": "libx265",
    "x265": "libx265",
    "av1": "libsvtav1",
    "svtav1": "libsvtav1",
    "vp9": "libvpx-vp9",
    "prores": "prores_ks",
    "webp": "libwebp_anim",
}
"""Their usual names."""

HARDWARE = ("_nvenc", "_qsv", "_amf", "_vaapi", "_videotoolbox")
"""How the names of hardware encoders end."""

AUTO_PRESETS = ("libx264", "libx265", "libsvtav1")
"""Encoders whose preset ``choose_preset`` can choose."""


def encoder_name(codec: str) -> str:
    """Return FFmpeg's name of an encoder.

    Raises:
        SettingError: There is none of that name.
    """
    name = ALIASES.get(codec.lower(), codec.lower())
    if name not in ENCODERS:
        raise SettingError(f"codec must be one of {', '.join(ENCODERS)}, got {codec!r}")
    return name


def pixel_formats(name: str) -> tuple[str, ...]:
    """Return the pixel formats that an encoder takes and ``VideoEncoder`` can fill, the default first."""
    encoder = ENCODERS[name]
    if encoder.pix_fmts:
        return encoder.pix_fmts
    try:
        known = [pix_fmt.name for pix_fmt in av.Codec(name, "w").video_formats or ()]
    except UnknownCodecError:  # why_not says so
        known = []
    fitting = [f for f in known if YUV.fullmatch(f) or f in RGB_ORDERS or f in SEMIPLANAR]
    return tuple(dict.fromkeys([encoder.pix_fmt, *(f for f in fitting if encoder.alpha or not has_alpha(f))]))


def halves_chroma(pix_fmt: str) -> tuple[bool, bool]:
    """Return whether a pixel format has half as many chroma samples as pixels across, and down."""
    match = YUV.fullmatch(pix_fmt)
    chroma = match[2] if match else "420" if pix_fmt in SEMIPLANAR else "444"
    return chroma in ("420", "422"), chroma in ("420", "440")


def has_alpha(pix_fmt: str) -> bool:
    """Return whether a pixel format holds opacity."""
    return pix_fmt.startswith("yuva") or "a" in RGB_ORDERS.get(pix_fmt, "") or pix_fmt == "pal8"


def quiet(name: str) -> None:
    """Keep an encoder from printing past FFmpeg's log; call before it is opened."""
    if name == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "0")  # what is fatal only; it has no other way


@contextmanager
def usual_priority(name: str) -> Iterator[None]:
    """Open an encoder in here: no thread comes out of it with another priority than it had.

    Where it may, as root in a container, SVT-AV1 makes real-time threads of its own ones and of the one that opens
    it, with all that this one starts later. Threads that wait by spinning, as those of engines do, then stop all else.
    """
    tasks = Path("/proc/self/task")
    if name != "libsvtav1" or not tasks.is_dir():
        yield
        return
    real_time = (os.SCHED_FIFO, os.SCHED_RR)
    before = {task.name for task in tasks.iterdir() if os.sched_getscheduler(int(task.name)) in real_time}
    try:
        yield
    finally:
        for task in tasks.iterdir():
            with suppress(OSError):  # it has ended
                if task.name not in before and os.sched_getscheduler(int(task.name)) in real_time:
                    os.sched_setscheduler(int(task.name), os.SCHED_OTHER, os.sched_param(0))


def encoder_accelerator(name: str) -> HWAccel | None:
    """Return what PyAV needs to bring frames to a hardware encoder, None for most: they take them as they are."""
    return HWAccel("vaapi") if name.endswith("_vaapi") else None


@cache
def why_not(name: str) -> str | None:
    """Return why an encoder does not work on this machine, None where it does: found by opening it."""
    encoder = ENCODERS[name]
    # Hardware refuses smaller frames.
    return refusal(name, Size(256, 144), encoder.pix_fmt, encoder.options, full_range=encoder.only_range)


def refusal(
    name: str,
    size: Size,
    pix_fmt: str,
    options: Mapping[str, str],
    *,
    bit_rate: int | None = None,
    full_range: bool | None = None,
) -> str | None:
    """Open an encoder and return what it says against it in one line, None where it opens."""
    quiet(name)

    def open_it() -> None:
        context = av.CodecContext.create(name, "w", hwaccel=encoder_accelerator(name))
        assert isinstance(context, av.VideoCodecContext)
        context.width, context.height, context.pix_fmt = size.width, size.height, pix_fmt
        context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
        context.color_range = 2 if full_range else 0
        context.options = dict(options)
        if bit_rate:
            context.bit_rate = bit_rate
        with usual_priority(name):
            context.open()

    # Without the log at first: while it is switched, a decoder's thread that complains makes PyAV print a traceback.
    with suppress(av.FFmpegError, ValueError, RuntimeError, NotImplementedError):
        open_it()
        return None
    level, skipped = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)  # it was logged a moment ago
    try:
        with av.logging.Capture(local=False) as log:
            open_it()
        return None
    except UnknownCodecError:
        return "this build of FFmpeg has none"
    except (av.FFmpegError, ValueError, RuntimeError, NotImplementedError) as error:
        # The first line of the log says what is missing; later ones and the error only that something is.
        return " ".join((log[0][2] if log else reason_of(error)).split()).rstrip(".")
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skipped)


def examine_encoders() -> dict[str, str | None]:
    """Open every encoder: None for those that work here, the reason in one line for the others."""
    return {name: why_not(name) for name in ENCODERS}

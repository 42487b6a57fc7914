"""What can be written: containers, which encoder goes with which, and what may be written where."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from rtstyle.errors import OutputExistsError, SettingError
from rtstyle.files import check_file_output
from rtstyle.frame import Size
from rtstyle.settings import check_types
from rtstyle.video.codecs import (
    AUTO_PRESETS,
    ENCODERS,
    HARDWARE,
    encoder_name,
    halves_chroma,
    has_alpha,
    pixel_formats,
    refusal,
    why_not,
)

_H264 = ("libx264", "h264_nvenc", "h264_qsv", "h264_amf", "h264_vaapi", "h264_videotoolbox")
_HEVC = ("libx265", "hevc_nvenc", "hevc_qsv", "hevc_amf", "hevc_vaapi", "hevc_videotoolbox")
_AV1 = ("libsvtav1", "av1_nvenc", "av1_qsv", "av1_amf", "av1_vaapi")


@dataclass(frozen=True, kw_only=True)
class Container:
    """What a container holds of frames. The names of the class's instances are FFmpeg's muxers."""

    extensions: tuple[str, ...]
    codecs: tuple[str, ...]
    """Encoders that go with it, the default first."""
    alpha: tuple[str, ...] = ()
    """Those that keep opacity in it, the default for that first."""
    options: dict[str, str] = field(default_factory=dict)
    pipe: bool = False
    """It can be written to a pipe."""
    segments: bool = True
    """It may be put together from packets of several runs of an encoder."""
    untagged: tuple[str, ...] = ()
    """Encoders whose color is stated nowhere in it; readers take limited range."""
    note: str = ""
    """What is lost in it, in words."""


_NO_TIMES = "holds no times: frames follow each other at a constant rate"

CONTAINERS: dict[str, Container] = {
    "mp4": Container(
        extensions=(".mp4", ".m4v"),
        codecs=(*_H264, *_HEVC, *_AV1, "libvpx-vp9"),
        options={"movflags": "+faststart+use_metadata_tags"},
    ),
    "mov": Container(
        extensions=(".mov",),
        codecs=(*_H264, *_HEVC, "prores_ks", "qtrle"),
        alpha=("prores_ks", "qtrle"),
        options={"movflags": "+faststart+use_metadata_tags"},
    ),
    "matroska": Container(
        extensions=(".mkv",),
        codecs=(*_H264, *_HEVC, *_AV1, "libvpx-vp9", "ffv1", "prores_ks"),
        alpha=("ffv1", "libvpx-vp9", "prores_ks"),
        pipe=True,
    ),
    "webm": Container(extensions=(".webm",), codecs=("libvpx-vp9", *_AV1), alpha=("libvpx-vp9",), pipe=True),
    "mpegts": Container(extensions=(".ts", ".m2ts", ".mts"), codecs=(*_H264, *_HEVC), pipe=True),
    "nut": Container(
        extensions=(".nut",),
        codecs=("rawvideo", "ffv1", *_H264, *_HEVC, "libvpx-vp9"),
        alpha=("ffv1",),
        untagged=("rawvideo", "ffv1"),
        pipe=True,
        segments=False,
    ),
    "yuv4mpegpipe": Container(
        extensions=(".y4m",),
        codecs=("wrapped_avframe",),
        options={"strict": "-1"},  # more than 8 bits are an extension
        pipe=True,
        segments=False,
        note=f"y4m {_NO_TIMES}, and no color matrix",
    ),
    "gif": Container(extensions=(".gif",), codecs=("gif",), alpha=("gif",), options={"loop": "0"}, segments=False),
    "apng": Container(
        extensions=(".png", ".apng"), codecs=("apng",), alpha=("apng",), options={"plays": "0"}, segments=False
    ),
    "webp": Container(
        extensions=(".webp",), codecs=("libwebp_anim",), alpha=("libwebp_anim",), options={"loop": "0"}, segments=False
    ),
}
"""By FFmpeg's names of the muxers."""

SEQUENCES = {".png": "png", ".jpg": "mjpeg", ".jpeg": "mjpeg", ".webp": "libwebp"}
"""Extensions of numbered frames (``%05d.png``), and their encoders."""

TURNING = ("mp4", "mov", "matroska", "webm")
"""Containers that can say how a frame is turned for showing."""

_NUMBER = re.compile(r"%0?\d*d")


@dataclass(frozen=True, kw_only=True)  # no slots: they would hide EncoderSettings.crf
class EncoderSettings:
    """How the stylized video is encoded; the names are those of FFmpeg. None takes what suits the container."""

    codec: str | None = None
    """An encoder of FFmpeg (``libx264``), or its usual name (``x264``, ``h264``)."""
    crf: int | None = None
    """Constant rate factor: 0 is best; the worst and the default depend on the encoder (libx264: 0 to 51, 18)."""
    preset: str | None = None
    """Trade of time for bytes, in the encoder's own words; ``auto``: the slowest that keeps up (x264, x265, AV1)."""
    bitrate: int | None = None
    """Mean bits per second, instead of ``crf``."""
    pix_fmt: str | None = None
    """Pixel format, e.g. ``yuv420p10le``. The frames have 8 bits in 4:2:0; wider formats are filled exactly."""

    def __post_init__(self) -> None:
        check_types(self)
        if self.crf is not None and self.crf < 0:
            raise SettingError(f"crf starts at 0 (best), got {self.crf}")
        if self.bitrate is not None and self.bitrate < 1000:
            raise SettingError(f"bitrate is in bits per second and at least 1000, got {self.bitrate}")
        if self.crf is not None and self.bitrate is not None:
            raise SettingError("give crf (constant quality) or bitrate (constant size), not both")
        if self.codec is not None:
            _check_settings(self, encoder_name(self.codec))


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """Settings, made definite for one output: what ``VideoEncoder`` and the muxer are opened with."""

    muxer: str
    """FFmpeg's name of the container."""
    codec: str
    pix_fmt: str
    options: dict[str, str]
    """Of the encoder."""
    muxer_options: dict[str, str]
    bit_rate: int | None = None
    """Mean bits per second; None: ``options`` say how good it is."""
    codec_tag: str | None = None
    """What the container calls the codec where its own choice is refused by players."""
    full_range: bool | None = None
    """The one range that readers of the codec expect; None: that of the frames, which the tags say."""
    segments: bool = False
    """The output may be joined from packets of several runs with this encoding."""
    notes: tuple[str, ...] = ()
    """What a person should know of the choice."""


def choose_encoding(
    target: str | Path,
    settings: EncoderSettings,
    size: Size,
    *,
    full_range: bool = False,
    alpha: bool = False,
    muxer: str | None = None,
    rate: Fraction | None = None,
) -> Encoding:
    """Decide how an output is encoded.

    Args:
        target: A file, a pattern of numbered images (``frames/%05d.png``), or ``-``.
        full_range: Range of the frames that will come.
        alpha: Whether frames have opacity that is to be kept.
        muxer: The container, by FFmpeg's name or by its extension; None: what the extension of ``target`` says.
        rate: Frames per second of the frames that will come, None where it is unknown.

    Raises:
        SettingError: There is no such container, it cannot hold the codec, the encoder does not take the
            settings or the size, or it does not open on this machine.
    """
    name = muxer_of(target, muxer)
    container = _container(name, target)
    notes = [container.note] if container.note else []
    called = _called(target, name)
    codec = _choose_codec(settings, container, alpha, called, notes)
    encoder = ENCODERS[codec]
    _check_settings(settings, codec)
    pix_fmt = _pixels_of(settings, codec, size, alpha, container, called, notes)
    only_range = encoder.only_range
    if codec in container.untagged:
        only_range = False
        notes.append(f"{name} with {codec} holds no color tags: the reader of the file must know them")
    if full_range and only_range is False:
        notes.append(f"{called} with {codec} knows limited range only: full range is converted")
    if name == "gif" and rate and rate > 50:
        notes.append("GIF plays at most 50 frames per second: the others are left out")
    # Matroska keeps the opacity of VP9 beside its packets, where no other container can carry it.
    beside = codec == "libvpx-vp9" and has_alpha(pix_fmt)
    options = _options(settings, codec, pix_fmt)
    if size.width < encoder.narrowest:
        raise SettingError(f"{codec} needs frames at least {encoder.narrowest} wide, these are {size}")
    if reason := refusal(codec, size, pix_fmt, options, bit_rate=settings.bitrate, full_range=only_range):
        if why_not(codec):
            raise SettingError(f"{codec} does not work on this machine: {reason}; rtstyle doctor lists those that do")
        raise SettingError(f"{codec} refuses {size} in {pix_fmt} with these settings: {reason}")
    return Encoding(
        muxer=name,
        codec=codec,
        pix_fmt=pix_fmt,
        options=options,
        bit_rate=settings.bitrate,
        muxer_options=dict(container.options) | _by_extension(target, name),
        codec_tag="hvc1" if codec in _HEVC and name in ("mp4", "mov") else None,
        full_range=only_range,
        segments=encoder.segments and container.segments and str(target) != "-" and not beside,
        notes=tuple(notes),
    )


def _choose_codec(settings: EncoderSettings, container: Container, alpha: bool, called: str, notes: list[str]) -> str:
    """Return the encoder that was asked for, or the container's first, or its first with opacity where that is kept."""
    codec = encoder_name(settings.codec) if settings.codec else container.codecs[0]
    if alpha and settings == EncoderSettings() and container.alpha and codec not in container.alpha:
        codec = container.alpha[0]
        notes.append(f"written as {codec}, which keeps transparency")
    if codec not in container.codecs:
        fitting = ", ".join(c for c in container.codecs if not c.endswith(HARDWARE))
        raise SettingError(f"{called} cannot hold {codec}: write {_others(codec)}, or take {fitting}")
    return codec


def _pixels_of(
    settings: EncoderSettings, codec: str, size: Size, alpha: bool, container: Container, called: str, notes: list[str]
) -> str:
    """Return the pixel format; a note says where opacity is left out."""
    pix_fmt = _pixel_format(settings, codec, size, alpha and codec in container.alpha, notes)
    if has_alpha(pix_fmt) and codec not in container.alpha:
        raise SettingError(f"{called} cannot hold the transparency of {pix_fmt} in {codec}")
    if alpha and not has_alpha(pix_fmt):
        notes.append(
            f"{called} with {codec} in {pix_fmt} cannot hold transparency: it is left out "
            "(.webm, .mov with prores_ks, .mkv with ffv1, .png, .webp and .gif can)"
        )
    return pix_fmt


def _container(name: str, target: str | Path) -> Container:
    if name == "image2":
        codec = SEQUENCES[Path(target).suffix.lower()]
        return Container(
            extensions=(),
            codecs=(codec,),
            alpha=(codec,) if ENCODERS[codec].alpha else (),
            segments=False,
            note=f"a sequence of images {_NO_TIMES}",
        )
    return CONTAINERS[name]


def _by_extension(target: str | Path, name: str) -> dict[str, str]:
    blu_ray = name == "mpegts" and Path(target).suffix.lower() in (".m2ts", ".mts")
    return {"mpegts_m2ts_mode": "1"} if blu_ray else {}


def _called(target: str | Path, name: str) -> str:
    return Path(target).suffix or name


def _others(codec: str) -> str:
    extensions = [container.extensions[0] for container in CONTAINERS.values() if codec in container.codecs]
    if codec in SEQUENCES.values():
        extensions += [f"%05d{extension}" for extension, other in SEQUENCES.items() if other == codec]
    return " or ".join(extensions)


def _check_settings(settings: EncoderSettings, codec: str) -> None:
    """Refuse what an encoder does not take, and state what it takes."""
    encoder = ENCODERS[codec]
    if settings.crf is not None:
        if encoder.crf is None:
            raise SettingError(f"{codec} takes no crf; {_taking('crf')} do")
        if not encoder.crf.low <= settings.crf <= encoder.crf.high:
            raise SettingError(f"crf of {codec} must be in [{encoder.crf.low}, {encoder.crf.high}], got {settings.crf}")
    if settings.bitrate is not None and not encoder.bitrate:
        raise SettingError(f"{codec} takes no bitrate; {_taking('bitrate')} do")
    if settings.preset is not None:
        names = [*encoder.presets, *(["auto"] if codec in AUTO_PRESETS else [])]
        if not names:
            raise SettingError(f"{codec} takes no preset; {_taking('presets')} do")
        if settings.preset not in names:
            raise SettingError(f"preset of {codec} must be one of {', '.join(names)}, got {settings.preset!r}")
    if settings.pix_fmt is not None and settings.pix_fmt not in pixel_formats(codec):
        formats = ", ".join(pixel_formats(codec))
        raise SettingError(f"pixel format of {codec} must be one of {formats}, got {settings.pix_fmt!r}")
    if settings.preset and encoder.preset_formats and settings.pix_fmt not in (None, *encoder.preset_formats):
        raise SettingError(f"presets of {codec} are for {', '.join(encoder.preset_formats)}, not {settings.pix_fmt}")


def _taking(setting: str) -> str:
    return ", ".join(n for n, encoder in ENCODERS.items() if getattr(encoder, setting) and not n.endswith(HARDWARE))


def _pixel_format(settings: EncoderSettings, codec: str, size: Size, alpha: bool, notes: list[str]) -> str:
    """Choose the pixel format; what a person should know of it is added to ``notes``."""
    encoder = ENCODERS[codec]
    pix_fmt = settings.pix_fmt or encoder.pix_fmt
    if alpha and encoder.alpha and not settings.pix_fmt and not (settings.preset and encoder.preset_formats):
        pix_fmt = encoder.alpha
    if alpha and pix_fmt == "pal8":
        notes.append("GIF has no half transparent pixels: those below one half are left out, the others opaque")
    across, down = halves_chroma(pix_fmt)
    if encoder.even and ((across and size.width % 2) or (down and size.height % 2)):
        finer = [name for name in ("yuv444p", "yuv444p10le") if name in pixel_formats(codec)]
        if settings.pix_fmt or not finer or (settings.preset and encoder.preset_formats):
            raise SettingError(f"{size} is odd, which {codec} cannot hold in {pix_fmt}; libx264 in yuv444p can")
        pix_fmt = finer[0]
        notes.append(f"{size} is odd, which {codec} holds in 4:4:4 only: some players refuse that")
    return pix_fmt


def _options(settings: EncoderSettings, codec: str, pix_fmt: str) -> dict[str, str]:
    encoder = ENCODERS[codec]
    options = dict(encoder.options)
    if settings.bitrate is None and encoder.crf:
        crf = encoder.crf.default if settings.crf is None else settings.crf
        options |= dict.fromkeys(encoder.crf.options, str(crf))
    preset = encoder.preset if settings.preset in (None, "auto") else settings.preset
    if preset:
        options |= encoder.presets[preset]
    if codec == "libvpx-vp9" and has_alpha(pix_fmt):
        options["auto-alt-ref"] = "0"  # libvpx refuses them with opacity
    return options


def muxer_of(target: str | Path, muxer: str | None = None) -> str:
    """Return FFmpeg's name of the container that a file name stands for.

    Args:
        muxer: FFmpeg's name or an extension (``mkv``, ``ts``, ``y4m``), which goes before the name's own.

    Raises:
        SettingError: There is none of that name or extension, or it cannot be written to a pipe.
    """
    path = Path(target)
    extensions = {extension: name for name, container in CONTAINERS.items() for extension in container.extensions}
    pipes = {name: container.extensions[0][1:] for name, container in CONTAINERS.items() if container.pipe}
    if muxer is not None:
        name = extensions.get(f".{muxer.lower()}", muxer.lower())
        if name not in CONTAINERS:
            raise SettingError(f"format must be one of {', '.join(e[1:] for e in extensions)}, got {muxer!r}")
    elif str(target) == "-":
        raise SettingError(
            f"an output to - has no extension: say which format it is, one of {', '.join(pipes.values())}"
        )
    elif _NUMBER.search(path.name) and path.suffix.lower() in SEQUENCES:
        return "image2"
    elif path.suffix.lower() in extensions:
        name = extensions[path.suffix.lower()]
    elif path.suffix.lower() in SEQUENCES:
        raise SettingError(f"{path.name!r} is one image: write a sequence as {path.stem}-%05d{path.suffix}")
    else:
        known = ", ".join(extensions)
        raise SettingError(f"cannot write {path.name!r}: the output must end in one of {known}, or be %05d.png")
    if str(target) == "-" and name not in pipes:
        raise SettingError(f"{muxer} cannot be written to a pipe: take one of {', '.join(pipes.values())}")
    return name


def check_output(path: Path, *, overwrite: bool, muxer: str | None = None) -> None:
    """Find before any work whether an output can be written at all.

    Args:
        muxer: As ``muxer_of``.

    Raises:
        OutputExistsError, SettingError, VideoWriteError: As ``VideoWriter``.
    """
    if muxer_of(path, muxer) == "image2" and not overwrite and (first := _first_of(path)):
        raise OutputExistsError(f"{first} exists already; give -y (--overwrite) to replace frames of this sequence")
    check_file_output(path, overwrite=overwrite)


def _first_of(pattern: Path) -> Path | None:
    """Return a file that has a name of a sequence of images; None if there is none."""
    name = re.compile(sequence_name(pattern.name))
    found = (
        (entry for entry in pattern.parent.iterdir() if name.fullmatch(entry.name)) if pattern.parent.is_dir() else ()
    )
    return min(found, default=None)


def sequence_name(pattern: str) -> str:
    """Return a regular expression of the names that a pattern such as ``%05d.png`` stands for."""
    return r"\d+".join(map(re.escape, _NUMBER.split(pattern)))

"""What can be written: encoders, containers, and which goes with which. Refused before any work starts."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from rtstyle.errors import OutputExistsError, SettingError, VideoWriteError
from rtstyle.frame import Size

CODECS = ("libx264", "ffv1")
"""Encoders that ``EncoderSettings.codec`` may name."""

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")

MUXERS = {".mp4": "mp4", ".mkv": "matroska"}
"""Endings of outputs that can be written, and FFmpeg's name of the container."""


@dataclass(frozen=True, kw_only=True)  # no slots: they would hide EncoderSettings.crf
class EncoderSettings:
    """How the stylized video is encoded; the names are those of FFmpeg."""

    codec: str = "libx264"
    """libx264, or ffv1 (lossless, mkv only)."""
    crf: int = 18
    """Constant rate factor of x264, 0 (lossless) to 51 (worst); x264's own default is 23."""
    preset: str = "veryfast"
    """x264's trade of time for bytes, ultrafast to veryslow."""

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise SettingError(f"codec must be one of {', '.join(CODECS)}, got {self.codec!r}")
        if not 0 <= self.crf <= 51:
            raise SettingError(f"crf must be in [0, 51], got {self.crf}")
        if self.preset not in PRESETS:
            raise SettingError(f"preset must be one of {', '.join(PRESETS)}, got {self.preset!r}")


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
    notes: tuple[str, ...] = ()
    """What a person should know of the choice."""


def choose_encoding(path: Path, settings: EncoderSettings, size: Size) -> Encoding:
    """Decide how an output is encoded.

    Raises:
        SettingError: The container is not one of ``MUXERS``, or cannot hold the codec.
    """
    muxer = muxer_of(path)
    if settings.codec == "ffv1" and muxer != "matroska":
        raise SettingError(f"{path.suffix} cannot hold ffv1: write .mkv, or use --codec libx264")
    x264 = settings.codec == "libx264"
    pix_fmt, notes = "yuv420p", []
    if x264 and (size.width % 2 or size.height % 2):
        pix_fmt = "yuv444p"
        notes.append(f"{size} is odd, which 4:2:0 H.264 cannot hold: written as 4:4:4, which some players refuse")
    return Encoding(
        muxer=muxer,
        codec=settings.codec,
        pix_fmt=pix_fmt,
        options={"crf": str(settings.crf), "preset": settings.preset} if x264 else {},
        muxer_options={"movflags": "+faststart+use_metadata_tags"} if muxer == "mp4" else {},
        notes=tuple(notes),
    )


def muxer_of(path: Path) -> str:
    """Return FFmpeg's name of the container that a file name stands for.

    Raises:
        SettingError: There is none of that ending.
    """
    if path.suffix.lower() not in MUXERS:
        raise SettingError(f"cannot write {path.name!r}: the output must end in {' or '.join(MUXERS)}")
    return MUXERS[path.suffix.lower()]


def check_output(path: Path, *, overwrite: bool) -> None:
    """Find before any work whether an output can be written at all.

    Raises:
        OutputExistsError, SettingError, VideoWriteError: As ``VideoWriter``.
    """
    muxer_of(path)
    check_file_output(path, overwrite=overwrite)


def check_file_output(path: Path, *, overwrite: bool) -> None:
    """Find whether a file can be put at ``path``: no folder, nothing that would be lost, a writable place."""
    if path.is_dir():
        raise VideoWriteError(f"cannot write {path}: it is a folder")
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path} exists already; give -y (--overwrite) to replace it")
    if not path.parent.is_dir():
        raise VideoWriteError(f"cannot write {path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise VideoWriteError(f"cannot write {path}: no permission to write into {path.parent}")


def free_name(path: Path) -> Path:
    """Return ``path``, or ``stem-2.ext``, ``stem-3.ext``, ... where it is taken."""
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return candidate

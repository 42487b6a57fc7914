"""How the tests make clips, and how they look into what came out: PyAV and OpenCV, nothing of rtstyle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Picture = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]
"""Y, U and V of one frame, 4:2:0 unless said otherwise."""

LOSSLESS = {"crf": "0", "preset": "ultrafast"}


@dataclass(frozen=True)
class Sound:
    """A tone on an audio track."""

    codec: str = "aac"
    seconds: float = 1.0
    late: float = 0.0
    """Seconds after time 0 at which it starts."""
    language: str = ""
    default: bool = True
    hertz: int = 440


def moving_bar(width: int, height: int, number: int, *, seed: int = 0) -> Picture:
    """Frame ``number`` of a clip: a soft gradient with a bright bar that moves on by 3 pixels each time."""
    y = np.add.outer(np.arange(height) * 60 // height, np.arange(width) * 80 // width) + 50
    left = (number * 3 + seed) % max(1, width - 6)
    y[:, left : left + 6] = 220
    half = ((height + 1) // 2, (width + 1) // 2)
    u = np.broadcast_to(np.linspace(90, 160, half[1]), half)
    v = np.broadcast_to(np.linspace(150, 100, half[0])[:, None], half)
    return y.astype(np.uint8), u.astype(np.uint8), v.astype(np.uint8)


def noise(width: int, height: int, number: int) -> Picture:
    """A frame of noise: every sample of its own, so that a sample in the wrong place shows."""
    rng = np.random.default_rng(number)
    half = ((height + 1) // 2, (width + 1) // 2)
    return tuple(rng.integers(0, 256, shape, np.uint8) for shape in ((height, width), half, half))  # type: ignore[return-value]


def drawn(x: int) -> NDArray[np.uint8]:
    """A person, drawn: RGB of shape (240, 320, 3) with the face at (x, 98)."""
    image = np.zeros((240, 320, 3), np.uint8)
    image[:] = (150, 170, 190)
    fill = {"thickness": -1, "lineType": cv2.LINE_AA}
    ellipses = [
        ((x, 250), (75, 95), (40, 50, 90)),
        ((x, 85), (45, 58), (50, 35, 25)),
        ((x, 98), (35, 46), (225, 175, 145)),
        ((x, 122), (12, 4), (190, 90, 90)),
    ]
    for side in (-14, 14):
        ellipses += [((x + side, 90), (7, 4), (255, 255, 255)), ((x + side, 90), (3, 3), (40, 30, 20))]
    for center, axes, color in ellipses:
        cv2.ellipse(image, center, axes, 0, 0, 360, color, **fill)
    for side in (-14, 14):
        cv2.line(image, (x + side - 8, 80), (x + side + 8, 79), (60, 40, 30), 2, cv2.LINE_AA)
    cv2.line(image, (x, 95), (x - 4, 108), (180, 130, 105), 2, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 0.8), np.uint8)


def fill(frame: av.VideoFrame, picture: Sequence[NDArray[np.generic]]) -> None:
    """Copy planes into a frame row by row: strides of FFmpeg are not those of numpy."""
    for target, plane in zip(frame.planes, picture, strict=True):
        rows = np.frombuffer(memoryview(target), plane.dtype).reshape(-1, target.line_size // plane.itemsize)
        rows[: plane.shape[0], : plane.shape[1]] = plane


def samples(frame: av.VideoFrame) -> Picture:
    """Copy the 8-bit planes of a decoded frame."""
    planes = []
    for plane in frame.planes:
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        planes.append(rows[: plane.height, : plane.width].copy())
    return tuple(planes)  # type: ignore[return-value]


def make_clip(
    path: Path,
    pictures: Iterable[Sequence[NDArray[np.generic]]] | None = None,
    *,
    width: int = 64,
    height: int = 48,
    times: Sequence[int] = range(10),
    time_base: Fraction = Fraction(1, 25),
    rate: Fraction = Fraction(25),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    tags: tuple[int, int, int, int] = (2, 0, 2, 2),
    sounds: Sequence[Sound] = (),
    rotation: int = 0,
    sar: Fraction | None = None,
    format: str | None = None,
    muxer: dict[str, str] | None = None,
) -> Path:
    """Write a clip with a frame for each of ``times`` (in units of ``time_base``), and tones.

    Args:
        tags: Matrix, range, primaries and transfer, as the numbers of H.273 (range: FFmpeg's).
    """
    times = list(times)
    pictures = pictures or [moving_bar(width, height, i) for i in range(len(times))]
    with av.open(str(path), "w", format=format, container_options=muxer or {}) as container:
        video = container.add_stream(codec, rate=rate, options=LOSSLESS if options is None else options)
        context = video.codec_context
        context.width, context.height, context.pix_fmt, context.time_base = width, height, pix_fmt, time_base
        context.colorspace, context.color_range, context.color_primaries, context.color_trc = tags
        if sar:
            context.sample_aspect_ratio = sar
        if rotation:
            video.set_display_rotation(rotation)
        tracks = [(add_track(container, sound), sound) for sound in sounds]
        packets = []
        for picture, time in zip(pictures, times, strict=True):
            frame = av.VideoFrame(width, height, pix_fmt)
            fill(frame, picture)
            frame.pts, frame.time_base = time, time_base
            frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc = tags
            packets += video.encode(frame)
        packets += video.encode(None)
        for track, sound in tracks:
            packets += tone_packets(track, sound)
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            container.mux(packet)
    return path


def add_track(container: av.container.OutputContainer, sound: Sound) -> av.audio.stream.AudioStream:
    track = container.add_stream(sound.codec, rate=48000)
    track.codec_context.layout = "mono"
    if sound.language:
        track.metadata["language"] = sound.language
    track.disposition = av.stream.Disposition.default if sound.default else av.stream.Disposition(0)
    return track


def tone_packets(track: av.audio.stream.AudioStream, sound: Sound) -> list[av.Packet]:
    wave = 0.5 * np.sin(2 * np.pi * sound.hertz * np.arange(int(sound.seconds * 48000)) / 48000)
    frame = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None], format="flt", layout="mono")
    frame.sample_rate, frame.time_base = 48000, Fraction(1, 48000)
    frame.pts = int(sound.late * 48000)
    return track.encode(frame) + track.encode(None)


@dataclass
class Contents:
    """What a file holds, as another program would see it."""

    pictures: list[Picture] = field(default_factory=list)
    times: list[Fraction] = field(default_factory=list)
    width: int = 0
    height: int = 0
    pix_fmt: str = ""
    tags: tuple[int, int, int, int] = (2, 0, 2, 2)
    rotation: int = 0
    sar: Fraction | None = None
    tracks: list[tuple[str, str, str | None, int]] = field(default_factory=list)
    """Of every other stream: type, codec, language, disposition."""
    packets: list[list[tuple[Fraction, bytes]]] = field(default_factory=list)
    """Of every other stream: time and payload of every packet."""


def look(path: Path) -> Contents:
    """Decode and list everything in a file."""
    found = Contents()
    with av.open(f"file:{path}") as container:
        video = container.streams.video[0]
        others = [stream for stream in container.streams if stream is not video]
        for stream in others:
            codec = stream.codec_context.codec.canonical_name if stream.codec_context else ""
            language = None if stream.language == "und" else stream.language
            found.tracks.append((stream.type, codec, language, int(stream.disposition)))
            found.packets.append([])
        found.sar = video.sample_aspect_ratio
        for packet in container.demux():
            if packet.stream is not video:
                if packet.size:
                    number = [s.index for s in others].index(packet.stream.index)
                    found.packets[number].append((packet.pts * packet.time_base, bytes(packet)))
                continue
            for frame in packet.decode():
                found.times.append(frame.pts * frame.time_base)
                found.pictures.append(samples(frame))
                found.width, found.height, found.pix_fmt = frame.width, frame.height, frame.format.name
                found.tags = (frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc)
                found.rotation = frame.rotation
    return found

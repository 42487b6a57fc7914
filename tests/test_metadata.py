"""What stands beside the pixels of an image comes out with it, or a line says why not."""

from __future__ import annotations

import resource
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtstyle.backends import Controls
from rtstyle.errors import ImageError
from rtstyle.image import stylize_images
from rtstyle.metadata import read_metadata
from rtstyle.reading import load_image

PLAIN = Controls(0, 0)
PROFILE = struct.pack(">I12x4s", 4000, b"RGB ") + bytes(range(256)) * 300
"""Stands for a color profile of more than one segment of JPEG."""
DATE = b"2024:05:06 07:08:09\0"
THUMBNAIL = b"\xff\xd8the small original\xff\xd9"


def exif(orientation: int = 1, order: str = "<") -> bytes:
    """An EXIF block with an orientation, a date, an artist, and a small copy of the image."""
    entries = [(0x010E, 2, b"A description\0"), (0x0112, 3, struct.pack(order + "HH", orientation, 0)),
               (0x0132, 2, DATE), (0x013B, 2, b"A. Person\0")]  # fmt: skip
    at = 8 + 2 + 12 * len(entries) + 4
    small = at + sum(len(value) for _, _, value in entries if len(value) > 4)
    table, beside = struct.pack(order + "H", len(entries)), b""
    for tag, kind, value in entries:
        count = len(value) if kind == 2 else 1
        table += struct.pack(order + "HHI", tag, kind, count)
        table += value.ljust(4, b"\0") if len(value) <= 4 else struct.pack(order + "I", at + len(beside))
        beside += value if len(value) > 4 else b""
    table += struct.pack(order + "I", small)
    second = struct.pack(order + "H", 2)
    second += struct.pack(order + "HHII", 0x0201, 4, 1, small + 2 + 24 + 4)
    second += struct.pack(order + "HHII", 0x0202, 4, 1, len(THUMBNAIL)) + struct.pack(order + "I", 0)
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8)
    return head + table + beside + second + THUMBNAIL


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" dc:creator="A. Person"/></x:xmpmeta>'


def scene(width: int = 64, height: int = 48) -> np.ndarray:
    """Four quarters, each of another color, so that each orientation is recognized."""
    bgr = np.zeros((height, width, 3), np.uint8)
    bgr[: height // 2, : width // 2] = (40, 60, 220)
    bgr[: height // 2, width // 2 :] = (60, 200, 50)
    bgr[height // 2 :, : width // 2] = (210, 70, 30)
    bgr[height // 2 :, width // 2 :] = (128, 128, 128)
    return bgr


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def make(path: Path, orientation: int = 1, picture: np.ndarray | None = None) -> Path:
    """Write an image with a profile, EXIF, XMP and 300 dpi, chunk by chunk."""
    pixels = cv2.imencode(path.suffix, scene() if picture is None else picture)[1].tobytes()
    about = exif(orientation, ">" if path.suffix == ".png" else "<")
    if path.suffix == ".jpg":
        half = len(PROFILE) // 2

        def segment(marker: int, content: bytes) -> bytes:
            return struct.pack(">BBH", 255, marker, len(content) + 2) + content

        head = pixels[:13] + struct.pack(">BHH", 1, 300, 300) + pixels[18:20]
        head += segment(0xE1, b"Exif\0\0" + about) + segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)
        head += segment(0xE2, b"ICC_PROFILE\0\2\2" + PROFILE[half:]) + segment(
            0xE2, b"ICC_PROFILE\0\1\2" + PROFILE[:half]
        )
        path.write_bytes(head + pixels[20:])
    elif path.suffix == ".png":
        beside = chunk(b"iCCP", b"name\0\0" + zlib.compress(PROFILE)) + chunk(
            b"pHYs", struct.pack(">IIB", 11811, 11811, 1)
        )
        beside += chunk(b"eXIf", about) + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)
        path.write_bytes(pixels[:33] + beside + pixels[33:])
    else:

        def riff(kind: bytes, content: bytes) -> bytes:
            return struct.pack("<4sI", kind, len(content)) + content + bytes(len(content) % 2)

        height, width = (scene() if picture is None else picture).shape[:2]
        canvas = struct.pack("<I", 0x2C) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        body = b"WEBP" + riff(b"VP8X", canvas) + riff(b"ICCP", PROFILE) + pixels[12:]
        body += riff(b"EXIF", about) + riff(b"XMP ", XMP)
        path.write_bytes(struct.pack("<4sI", b"RIFF", len(body)) + body)
    return path


@pytest.mark.parametrize("target", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("source", [".jpg", ".png", ".webp"])
def test_profile_exif_xmp_and_resolution_come_out_and_the_image_stands_upright(source, target, tmp_path):
    original, made = make(tmp_path / f"in{source}", orientation=6), tmp_path / f"out{target}"
    report = stylize_images(original, made, controls=PLAIN)
    assert report.warnings == []
    data = made.read_bytes()
    about = read_metadata(data)
    assert (about.icc, about.orientation) == (PROFILE, 1)
    assert DATE in about.exif
    assert b"A. Person" in about.exif
    assert THUMBNAIL not in data, "the original is in it as a small copy"
    assert about.xmp == XMP.replace(b'Orientation="6"', b'Orientation="1"')
    if ".webp" not in (source, target):
        assert about.dpi == (300, 300)
    # OpenCV, which turns by itself, must find nothing left to turn.
    shown = cv2.imread(str(made), cv2.IMREAD_COLOR)
    assert shown.shape == (64, 48, 3)
    assert np.abs(shown.astype(int) - np.rot90(scene(), 3)).mean() < 6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_each_orientation_is_applied_once(orientation, tmp_path):
    source = make(tmp_path / "in.jpg", orientation)
    ours = load_image(source).samples
    assert np.array_equal(ours, cv2.imread(str(source), cv2.IMREAD_COLOR)), "OpenCV turns it another way"


def test_a_profile_that_does_not_fit_the_output_is_named(tmp_path):
    source = tmp_path / "in.png"
    grey = PROFILE[:16] + b"GRAY" + PROFILE[20:]
    pixels = cv2.imencode(".png", scene()[..., 0])[1].tobytes()
    source.write_bytes(pixels[:33] + chunk(b"iCCP", b"name\0\0" + zlib.compress(grey)) + pixels[33:])
    report = stylize_images(source, tmp_path / "out.png", controls=PLAIN)
    assert [words for words in report.warnings if "profile is for GRAY" in words]


def test_texts_of_png_stay_in_png_and_are_named_elsewhere(tmp_path):
    source = tmp_path / "in.png"
    pixels = cv2.imencode(".png", scene())[1].tobytes()
    source.write_bytes(pixels[:-12] + chunk(b"tEXt", b"Author\0A. Person") + pixels[-12:])
    assert stylize_images(source, tmp_path / "out.png", controls=PLAIN).warnings == []
    assert b"Author\0A. Person" in (tmp_path / "out.png").read_bytes()
    assert "texts" in " ".join(stylize_images(source, tmp_path / "out.jpg", controls=PLAIN).warnings)


def test_sixteen_bits_are_rounded_and_named(tmp_path):
    deep = np.full((32, 32, 3), 0x01FF, np.uint16)
    cv2.imwrite(str(tmp_path / "in.png"), deep)
    report = stylize_images(tmp_path / "in.png", tmp_path / "out.png", controls=PLAIN)
    assert [words for words in report.warnings if "16 bits" in words]
    assert (cv2.imread(str(tmp_path / "out.png")) == 2).all()  # 511 / 257


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_png_keeps_its_transparent_level(bits, tmp_path):
    top = (1 << bits) - 1
    levels = np.where(np.arange(16) < 8, 0, top)
    if bits == 16:
        row = levels.astype(">u2").tobytes()
    else:
        row = np.packbits((levels[:, None] >> np.arange(bits)[::-1] & 1).astype(np.uint8)).tobytes()
    head = struct.pack(">IIBBBBB", 16, 16, bits, 0, 0, 0, 0)
    data = (
        chunk(b"IHDR", head)
        + chunk(b"tRNS", struct.pack(">H", top))
        + chunk(b"IDAT", zlib.compress((b"\0" + row) * 16))
    )
    (tmp_path / "in.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data + chunk(b"IEND", b""))
    stylize_images(tmp_path / "in.png", tmp_path / "out.png", controls=PLAIN)
    alpha = cv2.imread(str(tmp_path / "out.png"), cv2.IMREAD_UNCHANGED)[..., 3]
    assert (alpha[:, :8] == 255).all()
    assert (alpha[:, 8:] == 0).all()
    report = stylize_images(tmp_path / "in.png", tmp_path / "out.jpg", controls=PLAIN)
    assert [words for words in report.warnings if "transparency" in words]


def test_a_gif_says_so_too_and_one_of_a_single_frame_does_not(tmp_path):
    animation = cv2.Animation()
    animation.frames, animation.durations = [scene(), 255 - scene()], np.array([100, 100])
    assert cv2.imwriteanimation(str(tmp_path / "two.gif"), animation)
    cv2.imwrite(str(tmp_path / "one.gif"), scene())
    for name, found in (("two.gif", 1), ("one.gif", 0)):
        report = stylize_images(tmp_path / name, tmp_path / "out.png", controls=PLAIN)
        assert len([words for words in report.warnings if "animated" in words]) == found
        (tmp_path / "out.png").unlink()


def test_an_animation_says_that_only_its_first_frame_is_taken(tmp_path):
    pixels = cv2.imencode(".png", scene())[1].tobytes()
    (tmp_path / "in.png").write_bytes(pixels[:33] + chunk(b"acTL", struct.pack(">II", 1, 0)) + pixels[33:])
    report = stylize_images(tmp_path / "in.png", tmp_path / "out.png", controls=PLAIN)
    assert [words for words in report.warnings if "animated" in words]


def test_a_folder_names_what_it_passes_over_and_takes_no_hidden_files(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    make(folder / "a.jpg")
    (folder / "._a.jpg").write_bytes(b"\0\5\x16\7 resource fork")
    (folder / "b.raw").write_bytes(b"raw")
    report = stylize_images(folder, tmp_path / "out", controls=PLAIN)
    assert (report.images, report.failed) == (1, {})
    assert [words for words in report.warnings if "b.raw" in words and "._a" not in words]


@pytest.mark.parametrize("name", ["in.png", "in.jpg", "in.webp"])
def test_an_image_that_would_fill_the_memory_is_refused_from_its_header(name, tmp_path):
    side = 30000
    if name == "in.png":
        packer = zlib.compressobj(9)
        packed = b"".join(packer.compress(bytes(1 + side // 8)) for _ in range(side)) + packer.flush()
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
        data = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
        assert len(data) < 200_000
    elif name == "in.jpg":
        pixels = cv2.imencode(".jpg", scene())[1].tobytes()
        at = pixels.index(b"\xff\xc0")
        data = pixels[: at + 5] + struct.pack(">HH", side, side) + pixels[at + 9 :]
    else:
        canvas = bytes(4) + (16382).to_bytes(3, "little") * 2
        data = struct.pack("<4sI4s4sI", b"RIFF", 22, b"WEBP", b"VP8X", 10) + canvas
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ImageError, match=r"by its header; at most \d+ megapixels"):
        load_image(tmp_path / name)
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from peak import peak_kilobytes\n"
        f"from rtstyle.cli import main; code = main(['image', {str(tmp_path / name)!r}, 'out.png'])\n"
        "print(peak_kilobytes()); sys.exit(code)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert after.ru_utime - before.ru_utime < 1.0
    assert int(done.stdout) < 300_000, "kB"

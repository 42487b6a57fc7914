"""Still images: every kind that can be read, and what must not be lost on the way."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtstyle.backends import Controls, EngineSettings
from rtstyle.cli import main
from rtstyle.errors import ImageError, OutputExistsError, RtstyleError, SettingError
from rtstyle.frame import Size
from rtstyle.image import ImageStylizer, save_image, stylize_images
from rtstyle.reading import image_samples

SOURCE = Controls(0, 0)


def photo(width: int, height: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """A made image of soft areas, BGR or BGRA, with a corner that shows which way up it is."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(30, 220, (height // 8 + 2, width // 8 + 2, channels), np.uint8)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    picture[: height // 4, : width // 4, :3] = (0, 0, 250)
    return picture


def save(path: Path, picture: np.ndarray) -> Path:
    assert cv2.imwrite(str(path), picture)
    return path


def load(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert picture is not None
    return picture


def exif(orientation: int) -> bytes:
    return b"II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0x112, 3, 1, orientation) + b"\0\0\0\0"


def turned_jpeg(path: Path, orientation: int) -> Path:
    """A JPEG as a phone writes it: pixels as the sensor saw them, and a tag how the phone was held."""
    data, block = path.read_bytes(), b"Exif\0\0" + exif(orientation)
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:])
    return path


def turned_png(path: Path, orientation: int) -> Path:
    data, block = path.read_bytes(), exif(orientation)
    chunk = struct.pack(">I", len(block)) + b"eXIf" + block + struct.pack(">I", zlib.crc32(b"eXIf" + block))
    path.write_bytes(data[:33] + chunk + data[33:])
    return path


UPRIGHT = {
    2: lambda p: p[:, ::-1],
    3: lambda p: np.rot90(p, 2),
    4: lambda p: p[::-1],
    5: lambda p: np.rot90(p[:, ::-1]),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: np.rot90(p[:, ::-1], -1),
    8: lambda p: np.rot90(p),
}
"""What makes an image with each EXIF orientation upright."""


# -- what comes out --------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".jpg", ".jpeg", ".png", ".webp", ".PNG"])
def test_an_image_is_stylized_at_its_size(ending, tmp_path):
    source = save(tmp_path / f"in{ending}", photo(90, 61))
    report = stylize_images(source, tmp_path / f"out{ending}")
    result = load(tmp_path / f"out{ending}")
    assert result.shape == (61, 90, 3)
    assert np.abs(result.astype(int) - load(source)).mean() > 5
    assert (report.images, report.failed, report.style) == (1, {}, "sketch")
    assert report.backend
    assert report.precision
    assert report.device
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([f"in{ending}", f"out{ending}"])


@pytest.mark.parametrize("size", [(16, 16), (17, 16), (33, 47), (321, 241)])
def test_strength_0_returns_a_png_exactly(size, tmp_path):
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)  # of which 4:2:0 would lose nearly all color
    save(tmp_path / "in.png", noise)
    stylize_images(tmp_path / "in.png", tmp_path / "out.png", controls=SOURCE)
    assert np.array_equal(load(tmp_path / "out.png"), noise)


def test_keeping_the_colors_keeps_them(tmp_path):
    picture = cv2.GaussianBlur(photo(160, 96), (0, 0), 4)
    save(tmp_path / "in.png", picture)
    kept, lost = tmp_path / "kept.png", tmp_path / "lost.png"
    stylize_images(tmp_path / "in.png", kept, controls=Controls(0.5, 0))
    stylize_images(tmp_path / "in.png", lost, controls=Controls(0.5, 0.5))
    chroma = [cv2.cvtColor(p, cv2.COLOR_BGR2YCrCb)[..., 1:].astype(int) for p in (picture, load(kept), load(lost))]
    # Chroma goes through 4:2:0 and back, and is clipped with luma at white.
    assert np.abs(chroma[1] - chroma[0]).mean() < 2
    assert np.abs(chroma[2] - chroma[0]).mean() > 2 * np.abs(chroma[1] - chroma[0]).mean()


@pytest.mark.parametrize("ending", [".png", ".webp"])
def test_transparency_is_kept(ending, tmp_path):
    picture = photo(64, 48, 4)
    picture[..., 3] = np.linspace(0, 255, 64).astype(np.uint8)
    save(tmp_path / "in.png", picture)
    stylize_images(tmp_path / "in.png", tmp_path / f"out{ending}")
    result = load(tmp_path / f"out{ending}")
    assert result.shape == (48, 64, 4)
    assert np.array_equal(result[..., 3], picture[..., 3])
    assert not np.array_equal(result[..., :3], picture[..., :3])


def test_transparency_is_left_out_where_the_format_has_none(tmp_path):
    save(tmp_path / "in.png", photo(64, 48, 4))
    stylize_images(tmp_path / "in.png", tmp_path / "out.jpg")
    assert load(tmp_path / "out.jpg").shape == (48, 64, 3)


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_photo_comes_out_upright(orientation, tmp_path):
    stored = photo(64, 48)
    source = turned_jpeg(save(tmp_path / "in.jpg", stored), orientation)
    stylize_images(source, tmp_path / "out.png", controls=SOURCE)
    expected = UPRIGHT[orientation](stored)
    result = load(tmp_path / "out.png")
    assert result.shape == expected.shape
    assert np.abs(result.astype(int) - expected).mean() < 5  # what JPEG loses


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_transparency_is_turned_with_its_image(orientation, tmp_path):
    stored = photo(64, 48, 4, seed=3)
    source = turned_png(save(tmp_path / "in.png", stored), orientation)
    stylize_images(source, tmp_path / "out.png", controls=SOURCE)
    assert np.array_equal(load(tmp_path / "out.png"), UPRIGHT[orientation](stored))


def test_grey_images_come_out_in_three_channels(tmp_path):
    grey = photo(64, 48)[..., 0]
    save(tmp_path / "in.png", grey)
    stylize_images(tmp_path / "in.png", tmp_path / "out.png", controls=SOURCE)
    assert np.array_equal(load(tmp_path / "out.png"), cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR))
    stylize_images(tmp_path / "in.png", tmp_path / "sketch.png")
    assert load(tmp_path / "sketch.png").shape == (48, 64, 3)


def test_images_of_16_bits_are_read_as_8(tmp_path):
    picture = photo(64, 48, 4)
    save(tmp_path / "in.png", picture.astype(np.uint16) * 257)
    stylize_images(tmp_path / "in.png", tmp_path / "out.png", controls=SOURCE)
    assert np.array_equal(load(tmp_path / "out.png"), picture)


def test_a_palette_with_transparency_is_read_as_what_it_shows(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes([row % 2] * 20) for row in range(18))
    (tmp_path / "in.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 20, 18, 8, 3, 0, 0, 0))
        + chunk(b"PLTE", bytes([255, 0, 0, 0, 0, 255]))
        + chunk(b"tRNS", bytes([10, 200]))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    stylize_images(tmp_path / "in.png", tmp_path / "out.png", controls=SOURCE)
    result = load(tmp_path / "out.png")
    assert result[0, 0].tolist() == [0, 0, 255, 10]
    assert result[1, 0].tolist() == [255, 0, 0, 200]


def test_one_stylizer_takes_images_of_many_sizes(tmp_path):
    with ImageStylizer("sketch") as stylizer:
        for number, size in enumerate([(64, 48), (64, 48), (33, 17), (64, 48)]):
            source = save(tmp_path / f"{number}.png", photo(*size, seed=number))
            assert stylizer.stylize(source, tmp_path / f"out-{number}.png") == Size(*size)
    assert np.array_equal(load(tmp_path / "out-0.png").shape, (48, 64, 3))


def test_the_same_image_gives_the_same_result(tmp_path):
    source = save(tmp_path / "in.png", photo(64, 48))
    for name in ("a.png", "b.png"):
        stylize_images(source, tmp_path / name)
    assert np.array_equal(load(tmp_path / "a.png"), load(tmp_path / "b.png"))


# -- folders ---------------------------------------------------------------------------------------


@pytest.fixture
def album(tmp_path):
    folder = tmp_path / "album"
    folder.mkdir()
    save(folder / "a.jpg", photo(64, 48))
    save(folder / "b.png", photo(33, 40, 4))
    save(folder / "c.webp", photo(50, 50))
    (folder / "notes.txt").write_text("no image, and no business of ours")
    return folder


def test_all_images_of_a_folder_go_into_another(album, tmp_path):
    seen = []
    report = stylize_images(album, tmp_path / "out" / "deep", progress=lambda *figures: seen.append(figures))
    assert report.images == 3
    assert sorted(p.name for p in (tmp_path / "out" / "deep").iterdir()) == ["a.jpg", "b.png", "c.webp"]
    assert [figures[:2] for figures in seen] == [(1, 3), (2, 3), (3, 3)]


def test_one_bad_file_does_not_stop_the_rest(album, tmp_path):
    (album / "aa.png").write_bytes(b"no image")
    (album / "bb.jpg").write_bytes(b"")
    (album / "cc.webp").mkdir()
    report = stylize_images(album, tmp_path / "out")
    assert report.images == 3
    assert {Path(name).name for name in report.failed} == {"aa.png", "bb.jpg", "cc.webp"}
    assert all(reason and "\n" not in reason for reason in report.failed.values())
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.jpg", "b.png", "c.webp"]


def test_a_folder_of_bad_files_is_an_error_with_the_first_reason(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "in" / name).write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"none of the 2 images.*a\.png cannot be read"):
        stylize_images(tmp_path / "in", tmp_path / "out")


def test_images_that_are_there_already_are_not_replaced_unless_asked(album, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.png").write_bytes(b"precious")
    report = stylize_images(album, tmp_path / "out")
    assert report.images == 2
    (reason,) = report.failed.values()
    assert "exists already" in reason
    assert (tmp_path / "out" / "b.png").read_bytes() == b"precious"
    assert stylize_images(album, tmp_path / "out", overwrite=True).failed == {}
    assert load(tmp_path / "out" / "b.png").shape == (40, 33, 4)


def test_a_folder_is_not_stylized_into_itself(album):
    before = {path: path.read_bytes() for path in album.iterdir()}
    with pytest.raises(RtstyleError, match="same file"):
        stylize_images(album, album, overwrite=True)
    assert {path: path.read_bytes() for path in album.iterdir()} == before


def test_an_image_can_be_put_into_a_folder(album, tmp_path):
    (tmp_path / "out").mkdir()
    stylize_images(album / "a.jpg", tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.jpg"]


def test_a_folder_without_images_and_a_file_as_folder_are_refused(album, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="holds no images"):
        stylize_images(tmp_path / "empty", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(SettingError, match="the output must be one"):
        stylize_images(album, save(tmp_path / "x.png", photo(16, 16)))


# -- what is refused -------------------------------------------------------------------------------


def test_what_is_no_image_is_refused_in_words(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.jpg").touch()
    half = save(tmp_path / "half.png", photo(64, 48)).read_bytes()
    (tmp_path / "half.png").write_bytes(half[: len(half) // 2])
    save(tmp_path / "tiny.png", np.zeros((15, 16, 3), np.uint8))
    for name, reason in {
        "text.png": "cannot be read as an image",
        "empty.jpg": "cannot be read as an image",
        "half.png": "cannot be read as an image",
        "missing.png": "cannot read .*missing.png: No such file",
        "tiny.png": "is 16x15; images must be at least 16x16",
    }.items():
        with pytest.raises(ImageError, match=reason) as caught:
            stylize_images(tmp_path / name, tmp_path / "out.png")
        assert "\n" not in str(caught.value)
        assert isinstance(caught.value, OSError)
    assert not (tmp_path / "out.png").exists()
    with pytest.raises(ImageError, match="is a folder"):
        image_samples(tmp_path)


def test_more_pixels_than_opencv_takes_are_refused_in_one_line(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    (tmp_path / "in.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    with pytest.raises(ImageError, match=r"in\.png cannot be read as an image") as caught:
        image_samples(tmp_path / "in.png")
    assert "\n" not in str(caught.value)


def test_an_image_that_is_too_large_for_its_format_is_refused(tmp_path):
    with pytest.raises(ImageError, match=r"17000x16 is too large for \.webp"):
        save_image(tmp_path / "out.webp", np.zeros((16, 17000, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_would_lose_something_are_refused(tmp_path):
    source = save(tmp_path / "in.png", photo(32, 32))
    original = source.read_bytes()
    (tmp_path / "there.png").write_bytes(b"precious")
    with pytest.raises(OutputExistsError, match="give -y"):
        stylize_images(source, tmp_path / "there.png")
    with pytest.raises(SettingError, match="same file"):
        stylize_images(source, source, overwrite=True)
    with pytest.raises(SettingError, match=r"must end in one of \.jpg"):
        stylize_images(source, tmp_path / "out.gif")
    with pytest.raises(OSError, match="there is no folder"):
        stylize_images(source, tmp_path / "nowhere" / "out.png")
    assert source.read_bytes() == original
    assert (tmp_path / "there.png").read_bytes() == b"precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.png", "there.png"]


def test_an_engine_that_cannot_be_opened_again_is_not_used_closed(tmp_path, monkeypatch):
    """Sizes change in a folder; when the engine for one of them fails, the next image gets one of its own."""
    from rtstyle.backends import opening

    whole = opening.open_engine

    def sometimes(style, size, *args, **settings):
        if size == Size(66, 34):  # small images are stylized in twice their size
            raise SettingError("not this size")
        return whole(style, size, *args, **settings)

    monkeypatch.setattr(opening, "open_engine", sometimes)
    for name, size in {"a": (64, 48), "b": (33, 17), "c": (64, 48)}.items():
        save(tmp_path / f"{name}.png", photo(*size))
    report = stylize_images(tmp_path, tmp_path / "out")
    assert {Path(name).name for name in report.failed} == {"b.png"}
    assert np.array_equal(load(tmp_path / "out" / "a.png"), load(tmp_path / "out" / "c.png"))


# -- the standard input and output ---------------------------------------------------------------


def test_an_image_goes_through_a_pipe(tmp_path):
    picture = np.random.default_rng(3).integers(0, 256, (48, 64, 4), np.uint8)
    assert cv2.imwrite(str(tmp_path / "in.png"), picture)
    words = ["-m", "rtstyle", "image", "-", "-", "--precision", "f32", "--quiet"]
    piped = subprocess.run(
        [sys.executable, *words], input=(tmp_path / "in.png").read_bytes(), capture_output=True, check=True
    )
    stylize_images(tmp_path / "in.png", tmp_path / "out.png", engine=EngineSettings(precision="f32"))
    assert piped.stdout == (tmp_path / "out.png").read_bytes()


def test_a_pipe_without_an_image_is_one_line():
    done = subprocess.run([sys.executable, "-m", "rtstyle", "image", "-", "-"], input=b"", capture_output=True)
    assert done.returncode == 1
    assert done.stdout == b""
    assert done.stderr.decode() == "rtstyle: error: - cannot be read as an image (jpg, png or webp)\n"


def test_figures_and_an_image_do_not_share_stdout(tmp_path, capsys):
    assert main(["image", str(tmp_path / "in.png"), "-", "--json"]) == 1
    assert "--json" in capsys.readouterr().err

"""The sheet of styles: one named tile for the photo and for each style, in order, whole or not at all."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from rtstyle import list_styles
from rtstyle.cli import main
from rtstyle.errors import ImageError, OutputExistsError, SettingError
from rtstyle.sheet import write_style_sheet


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    small = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    cv2.imwrite(str(path), cv2.resize(small, (240, 160), interpolation=cv2.INTER_CUBIC))
    return path


def test_tiles_are_the_photo_and_each_style_in_order(photo, tmp_path, sketch, random_style):
    seen = []
    names = write_style_sheet(
        photo,
        tmp_path / "sheet.png",
        styles=[sketch, random_style],
        tile_width=240,
        progress=lambda done, total, name: seen.append((done, total, name)),
    )
    assert names == ["photo", "sketch", "random"]
    assert seen == [(1, 2, "sketch"), (2, 2, "random")]
    sheet, original = cv2.imread(str(tmp_path / "sheet.png")), cv2.imread(str(photo))
    tile = sheet[8:168, 8:248]
    assert np.array_equal(tile, original)
    assert (sheet[170:196, 8:80] < 128).any(), "the name below it"
    for top in (204, 400):  # three tiles of 3:2 stand in one column
        assert np.abs(sheet[top : top + 160, 8:248].astype(int) - original).mean() > 5
    assert len(sheet) == 8 + 3 * 196


def test_the_command_writes_all_styles_and_says_their_names(photo, tmp_path, capsys):
    assert main(["styles", "--sheet", str(photo), "-o", str(tmp_path / "sheet.jpg"), "--json"]) == 0
    out = capsys.readouterr().out
    assert all(f'"{name}"' in out for name in ("photo", *list_styles()))
    assert cv2.imread(str(tmp_path / "sheet.jpg")) is not None


def test_what_cannot_be_written_or_read_is_refused(photo, tmp_path, sketch):
    taken = tmp_path / "taken.png"
    taken.write_bytes(b"mine")
    with pytest.raises(OutputExistsError):
        write_style_sheet(photo, taken, styles=[sketch])
    assert taken.read_bytes() == b"mine"
    with pytest.raises(SettingError, match="must end in"):
        write_style_sheet(photo, tmp_path / "sheet.gif", styles=[sketch])
    with pytest.raises(ImageError):
        write_style_sheet(tmp_path / "none.png", tmp_path / "sheet.png", styles=[sketch])


def test_a_sheet_needs_photo_and_output(photo):
    done = subprocess.run(
        [sys.executable, "-m", "rtstyle", "styles", "--sheet", str(photo)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "--sheet PHOTO -o FILE" in done.stderr

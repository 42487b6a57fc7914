"""Contact sheets of ``python -m train.sheet``."""

import sys

import cv2
import numpy as np

from train import sheet


def test_a_sheet_shows_each_image_beside_what_styles_make_of_it(tmp_path, monkeypatch):
    rng = np.random.default_rng(1)
    places = [tmp_path / f"{number}.png" for number in range(2)]
    for place in places:
        coarse = rng.integers(0, 256, (6, 9, 3), np.uint8)
        cv2.imwrite(str(place), cv2.resize(coarse, (180, 120), interpolation=cv2.INTER_CUBIC))
    out = tmp_path / "sheet.png"
    words = ["sheet", "sketch", *map(str, places), "--also", "ink", "--columns", "1", "--width", "90", "-o", str(out)]
    monkeypatch.setattr(sys, "argv", words)
    assert sheet.main() == 0
    made = cv2.imread(str(out)).astype(int)
    for number, place in enumerate(places):
        row = made[66 * number : 66 * number + 60]
        source, sketch, ink = (row[:, 6 + 93 * side : 96 + 93 * side] for side in range(3))
        small = cv2.resize(cv2.imread(str(place)), (90, 60), interpolation=cv2.INTER_AREA)
        assert np.abs(source - small).max() <= 1
        assert np.abs(sketch - source).mean() > 10
        assert np.abs(sketch - ink).mean() > 5

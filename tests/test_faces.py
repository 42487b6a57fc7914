"""The face check finds the faces of real clips again where they are, and misses those that are gone."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("yuface", reason="needs the extra workshop, which has it for Python 3.11 on Linux")

from conftest import make_random_style

from rtstyle import load_style
from train import faces


@pytest.fixture
def shots(real_clips: Path) -> list[faces.CloseUp]:
    return faces.CloseUp.of(real_clips / "webcam_asl_book.mkv", 240)


def test_faces_are_cropped_to_their_portion_of_the_frame(shots):
    assert len(shots) == len(faces.PORTIONS)
    for shot, portion in zip(shots, faces.PORTIONS, strict=True):
        assert {image.shape for image in shot.images} == {(240, 320, 3)}
        assert all(face is not None for face in shot.faces)
        assert shot.faces[0].width == pytest.approx(240 * portion, rel=0.15)


def test_a_style_that_changes_nothing_keeps_every_face(shots, tmp_path):
    figures = faces.measure(load_style(make_random_style(tmp_path / "nothing", seed=0, gain=0)), shots)
    assert figures["found"] == 1
    assert figures["landmarks"] < 1
    assert figures["frames"] == 6


def test_a_face_that_moved_or_vanished_is_not_found_in_its_place(shots):
    image, face = shots[0].images[0], shots[0].faces[0]
    shifted = np.roll(image, round(0.1 * face.width), 1)
    assert faces.landmark_distance(faces.find_again(shifted, face), face) == pytest.approx(10, abs=3)
    assert faces.find_again(np.roll(image, round(face.width), 1), face) is None
    assert faces.find_again(np.full_like(image, 128), face) is None
    assert faces.overlap(face, face) == 1

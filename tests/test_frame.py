"""What samples mean (sizes, tags, RGB) and the generator's layout."""

import itertools

import numpy as np
import pytest

from rtstyle.errors import SettingError
from rtstyle.frame import CELL, MARGIN, Color, ColorTags, Packing, Planes, Size, planes_from_rgb, planes_to_rgb

COLORS = [Color(matrix, full_range=full) for matrix in ("bt601", "bt709", "bt2020") for full in (False, True)]


def name_of(color: Color) -> str:
    return f"{color.matrix}-{'pc' if color.full_range else 'tv'}"


def random_planes(size: Size, seed: int = 0) -> Planes:
    rng = np.random.default_rng(seed)
    shapes = ((s.height, s.width) for s in (size, size.chroma, size.chroma))
    return Planes(*(rng.integers(0, 256, shape, np.uint8) for shape in shapes))


# -- sizes -----------------------------------------------------------------------------------------


def test_a_size_is_read_as_people_write_it():
    assert Size.parse("1280x720") == Size(1280, 720)
    assert Size.parse(" 16X17 ") == Size(16, 17)
    assert str(Size.parse("641x359")) == "641x359"


@pytest.mark.parametrize("text", ["", "1280", "1280x", "x720", "15x16", "16x15", "-16x16", "16.5x16", "1280:720"])
def test_what_is_no_size_is_refused_with_what_was_given(text):
    with pytest.raises(SettingError, match="1280x720") as caught:
        Size.parse(text)
    assert repr(text) in str(caught.value)


def test_chroma_of_odd_sizes_is_rounded_up():
    assert Size(17, 33).chroma == Size(9, 17)
    assert Size(64, 48).chroma == Size(32, 24)


# -- tags ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "matrix"),
    [(1, "bt709"), (4, "bt601"), (5, "bt601"), (6, "bt601"), (9, "bt2020"), (10, "bt2020")],
)
def test_a_tagged_matrix_is_believed_whatever_the_size(number, matrix):
    for size in (Size(320, 240), Size(1920, 1080)):
        assert Color.from_tags(ColorTags(matrix=number), size).matrix == matrix


def test_an_untagged_frame_is_bt709_from_720_lines_up_and_bt601_below():
    for tags in (ColorTags(), ColorTags(matrix=8)):  # unspecified, and one that rtstyle does not know
        assert Color.from_tags(tags, Size(1280, 720)).matrix == "bt709"
        assert Color.from_tags(tags, Size(1280, 719)).matrix == "bt601"
        assert Color.from_tags(tags, Size(720, 1280)).matrix == "bt709"  # a phone held upright
        assert Color.from_tags(tags, Size(719, 1280)).matrix == "bt601"


def test_an_untagged_range_is_what_the_caller_knows_and_a_tag_wins():
    size = Size(64, 48)
    assert not Color.from_tags(ColorTags(range=0), size).full_range
    assert Color.from_tags(ColorTags(range=0), size, full_range=True).full_range
    assert not Color.from_tags(ColorTags(range=1), size, full_range=True).full_range
    assert Color.from_tags(ColorTags(range=2), size).full_range


def test_tags_travel_along_unchanged():
    tags = ColorTags(matrix=2, range=0, primaries=9, transfer=16)
    assert Color.from_tags(tags, Size(64, 48)).tags == tags


# -- RGB -------------------------------------------------------------------------------------------

KNOWN = [  # Y, U, V of full red, green and blue, from the tables of the standards (JFIF is bt601-pc)
    ("bt601", False, [(81, 90, 240), (145, 54, 34), (41, 240, 110)]),
    ("bt601", True, [(76, 85, 255), (150, 44, 21), (29, 255, 107)]),
    ("bt709", False, [(63, 102, 240), (173, 42, 26), (32, 240, 118)]),
    ("bt2020", False, [(74, 97, 240), (164, 47, 25), (29, 240, 119)]),
]


@pytest.mark.parametrize(("matrix", "full", "expected"), KNOWN)
def test_primary_colors_have_the_samples_of_the_standard(matrix, full, expected):
    color = Color(matrix, full_range=full)
    for rgb, yuv in zip(np.eye(3, dtype=np.uint8) * 255, expected, strict=True):
        planes = planes_from_rgb(np.broadcast_to(rgb, (16, 16, 3)), color)
        # One level: tables round halves either way.
        assert [int(plane[5, 5]) for plane in planes] == pytest.approx(yuv, abs=1)


@pytest.mark.parametrize("color", COLORS, ids=name_of)
def test_black_grey_and_white_have_no_color_and_span_the_range(color):
    low, high = (0, 255) if color.full_range else (16, 235)
    for level, luma in ((0, low), (255, high)):
        planes = planes_from_rgb(np.full((16, 16, 3), level, np.uint8), color)
        assert np.all(planes.y == luma)
        assert np.all(planes.u == 128)
        assert np.all(planes.v == 128)
        assert np.all(planes_to_rgb(planes, color) == level)


@pytest.mark.parametrize("color", COLORS, ids=name_of)
def test_rgb_comes_back_within_two_levels(color):
    # Rounding Y (half a step of 255/219) and U or V (half a step of 255/224 times at most 1.88) moves a
    # channel by 0.6 + 1.1 at most, and rounding to RGB by 0.5: 2 levels where both rounded badly.
    for red, green, blue in itertools.product((0, 40, 128, 200, 255), repeat=3):
        rgb = np.full((16, 18, 3), (red, green, blue), np.uint8)
        back = planes_to_rgb(planes_from_rgb(rgb, color), color)
        assert np.abs(back.astype(int) - rgb).max() <= 2


@pytest.mark.parametrize("size", [Size(17, 33), Size(33, 16), Size(321, 241)], ids=str)
def test_odd_sizes_keep_size_and_color_in_rgb(size):
    x, y = np.arange(size.width), np.arange(size.height)[:, None]
    smooth = np.stack(np.broadcast_arrays(60 + x * 120 // size.width, 60 + y * 120 // size.height, 128), 2)
    rgb = smooth.astype(np.uint8)
    planes = planes_from_rgb(rgb, Color("bt601", full_range=True))
    assert planes.u.shape == planes.v.shape == (size.chroma.height, size.chroma.width)
    back = planes_to_rgb(planes, Color("bt601", full_range=True))
    # Chroma has a quarter of the samples; the gradient moves it by up to 120/16 levels per pixel in the smallest.
    steepest = 120 / min(size.width, size.height)
    assert back.shape == rgb.shape
    assert np.abs(back.astype(int) - rgb).max() <= 2 + 1.5 * steepest


def test_rgb_is_made_of_planes_with_any_strides():
    planes = random_planes(Size(32, 18))
    turned = Planes(*(np.ascontiguousarray(plane[::-1, ::-1])[::-1, ::-1] for plane in planes))
    assert not turned.y.flags.c_contiguous
    assert np.array_equal(planes_to_rgb(turned, Color()), planes_to_rgb(planes, Color()))


def test_the_canonical_color_keeps_grey_grey():
    for color in COLORS:
        matrix = color.to_canonical()
        assert matrix[1, 0] == matrix[2, 0] == 0
        assert matrix[0, 0] == pytest.approx(1 / 255 if color.full_range else 1 / 219)


# -- packing ---------------------------------------------------------------------------------------


def unshuffled(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The padded planes in a packed frame, by the description of the layout alone."""
    rows, columns, _ = packed.shape
    y = packed[..., :16].reshape(rows, columns, 4, 4).transpose(0, 2, 1, 3).reshape(rows * 4, columns * 4)
    u, v = (
        packed[..., first : first + 4].reshape(rows, columns, 2, 2).transpose(0, 2, 1, 3).reshape(rows * 2, columns * 2)
        for first in (16, 20)
    )
    return y, u, v


def packed_of(planes: Planes) -> np.ndarray:
    height, width = planes.y.shape
    packing = Packing(Size(width, height))
    out = np.zeros((packing.rows, packing.columns, 24), np.uint8)
    packing.pack(planes, out)
    return out


def assert_packing_is_undone(size: Size) -> None:
    planes = random_planes(size, seed=size.width * 1000 + size.height)
    back = Packing(size).unpack(packed_of(planes))
    for plane, returned in zip(planes, back, strict=True):
        assert np.array_equal(plane, returned), size


def test_unpacking_undoes_packing_for_every_small_size():
    for width, height in itertools.product(range(16, 42), repeat=2):
        assert_packing_is_undone(Size(width, height))


def test_unpacking_undoes_packing_for_sizes_of_real_videos():
    for size in (Size(160, 90), Size(50, 50), Size(322, 242), Size(321, 241), Size(1920, 1080)):
        assert_packing_is_undone(size)


@pytest.mark.parametrize("size", [Size(16, 16), Size(17, 33), Size(22, 16), Size(64, 48), Size(321, 241)], ids=str)
def test_around_a_packed_frame_its_edge_is_repeated(size):
    planes = random_planes(size)
    packed = packed_of(planes)
    assert packed.shape[0] % 2 == packed.shape[1] % 2 == 0
    for plane, padded, margin in zip(planes, unshuffled(packed), (MARGIN, MARGIN // 2, MARGIN // 2), strict=True):
        (height, width), (full_height, full_width) = plane.shape, padded.shape
        around = ((margin, full_height - height - margin), (margin, full_width - width - margin))
        assert min(*around[0], *around[1]) >= margin
        assert np.array_equal(padded, np.pad(plane, around, mode="edge"))


def test_the_margin_is_no_wider_than_it_must_be():
    for side in range(16, 80):
        packing = Packing(Size(side, side))
        assert 0 <= packing.rows * CELL - (side + 2 * MARGIN) < 2 * CELL
        assert packing.rows == packing.columns


def test_planes_of_any_strides_are_packed_alike():
    planes = random_planes(Size(70, 50))
    wide = [np.zeros((plane.shape[0], plane.shape[1] + 13), np.uint8) for plane in planes]
    for target, plane in zip(wide, planes, strict=True):
        target[:, 5 : 5 + plane.shape[1]] = plane
    strided = Planes(*(t[:, 5 : 5 + p.shape[1]] for t, p in zip(wide, planes, strict=True)))
    upside = Planes(*(np.ascontiguousarray(plane[::-1])[::-1] for plane in planes))
    mirrored = Planes(*(np.ascontiguousarray(plane[:, ::-1])[:, ::-1] for plane in planes))
    expected = packed_of(planes)
    for view in (strided, upside, mirrored):
        assert not view.y.flags.c_contiguous
        assert np.array_equal(packed_of(view), expected)


def test_packing_twice_with_one_packing_leaves_nothing_of_the_first_frame():
    size = Size(37, 29)
    packing = Packing(size)
    once, twice = (np.zeros((packing.rows, packing.columns, 24), np.uint8) for _ in range(2))
    packing.pack(random_planes(size, 1), twice)
    packing.pack(random_planes(size, 2), twice)
    Packing(size).pack(random_planes(size, 2), once)
    assert np.array_equal(once, twice)

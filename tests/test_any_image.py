"""Any image as a style: measured, solved for in closed form, kept, and refused in one line where it cannot be."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from clips import make_clip

from rtstyle import EngineSettings, RenderOptions, load_style, stylize, stylize_video
from rtstyle.cli import main
from rtstyle.errors import OutputExistsError, RtstyleError
from rtstyle.universal import making, measuring, readout
from rtstyle.universal.measuring import measure_strokes
from rtstyle.universal.palette import Colors
from rtstyle.universal.scenes import scenes

SMALL = measuring.BRUSHES[4][2]
SMALL = replace(SMALL, directions=6)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    """Keep styles of images apart, and paint with one brush of few tiles, which are made soon."""
    monkeypatch.setattr(making, "cache_root", lambda: tmp_path / "cache")
    monkeypatch.setattr(measuring, "BRUSHES", ((11.9, 2.61, SMALL),))
    monkeypatch.setattr(making, "_SCENES", 6)


def painted(path, dark, light, size=(160, 200), seed=3):
    """Write an image of two colors: strokes of one on a ground of the other."""
    rng = np.random.default_rng(seed)
    image = np.empty((*size, 3), np.uint8)
    image[:] = light
    for _ in range(240):
        x, y = (int(v) for v in rng.integers(0, size[1], 2))
        cv2.line(image, (x, y), (x + 22, y + 6), dark, 3, cv2.LINE_AA)
    cv2.imwrite(str(path), image[:, :, ::-1])
    return path


@pytest.fixture
def red(tmp_path):
    return painted(tmp_path / "red.png", (110, 10, 10), (250, 190, 120))


@pytest.fixture
def photo():
    """An image that no style is solved on: a slope from dark to light, with a square."""
    image = np.linspace(20, 235, 192)[None, :, None].repeat(160, 0).repeat(3, 2)
    image[50:110, 60:120] = (60, 120, 60)
    return np.ascontiguousarray(image.astype(np.uint8))


def mean_chroma(rgb):
    lab = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2LAB).astype(float).reshape(-1, 3)
    return lab[:, 1:].mean(0) - 128


def test_what_is_painted_after_an_image_has_its_colors_and_its_strokes(red, tmp_path, photo):
    blue = painted(tmp_path / "blue.png", (5, 20, 90), (150, 190, 250))
    warm, cold = (stylize(photo, style=str(path)) for path in (red, blue))
    assert mean_chroma(warm)[1] > 15 > -10 > mean_chroma(cold)[1]  # Lab's b: yellow above, blue below 0
    flat = np.full((160, 192, 3), 128, np.uint8)
    for path in (red, blue):
        assert stylize(flat, style=str(path))[32:-32, 32:-32].astype(float).std(axis=(0, 1)).max() > 4


def test_a_style_is_made_once_and_kept(red, tmp_path):
    first = load_style(red).folders[0][0]
    made = {file.name: file.stat().st_mtime_ns for file in first.iterdir()}
    assert {"style.json", "trunk.onnx", "int8.json", "preview.jpg"} == set(made)
    assert load_style(str(red)).folders[0][0] == first
    assert {file.name: file.stat().st_mtime_ns for file in first.iterdir()} == made
    assert [entry.name for entry in first.parent.iterdir()] == [first.name]  # no half-made ones
    painted(red, (110, 10, 10), (250, 190, 120), seed=4)
    assert load_style(red).folders[0][0] != first  # the image is another one now


def test_a_cache_that_cannot_be_written_costs_a_warning(red, tmp_path, photo, monkeypatch, caplog):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(making, "cache_root", lambda: tmp_path / "file" / "cache")
    one, other = (load_style(red).folders[0][0] for _ in range(2))
    assert one == other
    assert [r.message for r in caplog.records if r.levelname == "WARNING"] == [
        f"styles of images cannot be kept in {tmp_path / 'file/cache/images'} (Not a directory): "
        "they are made again in each run"
    ]
    assert mean_chroma(stylize(photo, style=str(red)))[1] > 15


def test_the_same_image_gives_the_same_bytes(red, tmp_path):
    one, other = (making.make_style(red, tmp_path / name) for name in ("a", "b"))
    assert (one / "trunk.onnx").read_bytes() == (other / "trunk.onnx").read_bytes()


def test_int8_is_near_to_float32(red, photo):
    engines = (EngineSettings(precision=precision) for precision in ("f32", "int8"))
    f32, int8 = (stylize(photo, style=str(red), engine=engine).astype(float) for engine in engines)
    assert 10 * np.log10(255**2 / ((f32 - int8) ** 2).mean()) > 34


def test_a_blend_of_an_image_and_a_style_of_its_kind(red, photo):
    alone, mixed = stylize(photo, style=str(red)), stylize(photo, style=f"{red}:0.5,starry_night:0.5")
    assert mean_chroma(mixed)[1] < mean_chroma(alone)[1] - 5


def test_the_command_makes_a_folder_that_is_a_style(red, tmp_path, capsys):
    target = tmp_path / "mine"
    assert main(["styles", "make", str(red), "-o", str(target), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["style"] == str(target)
    assert load_style(target).title == "after red.png"
    before = (target / "trunk.onnx").read_bytes()
    assert main(["styles", "make", str(red), "-o", str(target)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert (target / "trunk.onnx").read_bytes() == before
    with pytest.raises(OutputExistsError):
        making.make_style(red, red)


def refusal(path):
    with pytest.raises(RtstyleError) as caught:
        load_style(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_no_image_is_refused_in_a_line(tmp_path):
    cv2.imwrite(str(tmp_path / "plain.png"), np.full((200, 200, 3), 90, np.uint8))
    assert "one color only" in refusal(tmp_path / "plain.png")
    cv2.imwrite(str(tmp_path / "tiny.png"), np.random.default_rng(1).integers(0, 255, (8, 8, 3)).astype(np.uint8))
    assert "8x8" in refusal(tmp_path / "tiny.png")
    cv2.imwrite(str(tmp_path / "small.png"), np.random.default_rng(1).integers(0, 255, (40, 90, 3)).astype(np.uint8))
    assert "90x40: too small" in refusal(tmp_path / "small.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    assert "cannot be read as an image" in refusal(tmp_path / "broken.jpg")
    (tmp_path / "text.png").write_text("a letter")
    assert "cannot be read as an image" in refusal(tmp_path / "text.png")
    assert "No such file" in refusal(tmp_path / "absent.png")
    assert "no style 'absent.png'" in refusal("absent.png")
    make_clip(tmp_path / "clip.mp4", times=range(2), width=64, height=48)
    assert "clip.mp4 is no style: name an image (.jpg," in refusal(str(tmp_path / "clip.mp4"))
    (tmp_path / "clip.mp4").rename(tmp_path / "clip.jpg")
    assert "cannot be read as an image" in refusal(tmp_path / "clip.jpg")
    cv2.imwrite(
        str(tmp_path / "clear.png"), np.dstack((np.full((90, 90, 3), (0, 0, 250), np.uint8), np.zeros((90, 90))))
    )
    assert "one color only" in refusal(tmp_path / "clear.png")
    (tmp_path / "folder.png").mkdir()
    assert "is a folder" in refusal(tmp_path / "folder.png")


@pytest.mark.parametrize("style", ["{}", "{}:0.5,starry_night:0.5"])
def test_a_network_that_it_has_not_is_refused_before_a_style_is_made(style, red, tmp_path, capsys):
    clip, target = make_clip(tmp_path / "in.mp4", times=range(2), width=64, height=48), tmp_path / "out.mp4"
    words = ["--style", style.format(red), "--size-class", "fast"]
    assert main(["video", str(clip), str(target), *words]) == 1
    assert main(["image", str(red), str(tmp_path / "out.png"), *words]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all("red.png has no fast network (it has: default)" in line for line in lines)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["in.mp4", "red.png"]


def test_what_is_transparent_counts_as_white_paper(tmp_path):
    drawn = cv2.imread(str(painted(tmp_path / "ink.png", (0, 0, 0), (200, 60, 60))))
    opaque = (drawn.max(2) < 40).astype(np.uint8) * 255
    cv2.imwrite(str(tmp_path / "clear.png"), np.dstack((drawn, opaque)))
    image, notes = making.read_for_style(tmp_path / "clear.png")
    assert notes == []
    assert (image == 255).all(axis=2).mean() > 0.2


def test_of_an_animated_image_the_first_frame_counts(tmp_path):
    frames = [cv2.imread(str(painted(tmp_path / f"{n}.png", (n, 0, 0), (250, 250, 200 - n)))) for n in (0, 150)]
    animation = cv2.Animation()
    animation.frames, animation.durations = frames, np.array([100, 100])
    for name in ("a.webp", "a.gif"):
        assert cv2.imwriteanimation(str(tmp_path / name), animation)
        image, notes = making.read_for_style(tmp_path / name)
        assert notes == ["it is animated: the style is of its first frame"]
        still = making.read_for_style(tmp_path / "0.png")[0]
        assert np.abs(image.astype(int) - still).mean() < 12 < np.abs(frames[1].astype(int) - frames[0]).mean()


@pytest.mark.slow
def test_an_image_of_100_megapixels_is_a_style_and_one_of_more_than_134_is_refused(tmp_path):
    stripes = np.zeros((10_000, 10_000), np.uint8)
    stripes[:, ::2] = 90
    stripes[:5000] += 60
    cv2.imwrite(str(tmp_path / "huge.png"), stripes)
    assert max(making.read_for_style(tmp_path / "huge.png")[0].shape) == 800
    data = bytearray((tmp_path / "huge.png").read_bytes()[:2000])
    data[16:24] = (20_000).to_bytes(4, "big") * 2
    (tmp_path / "bomb.png").write_bytes(data)
    assert "20000x20000 by its header; at most 134 megapixels" in refusal(tmp_path / "bomb.png")


def test_a_large_image_is_measured_at_800_pixels(tmp_path):
    path = painted(tmp_path / "large.jpg", (20, 60, 20), (230, 240, 200), (900, 2400))
    assert max(making.read_for_style(path)[0].shape) == 800


def test_strokes_are_measured_along_their_direction():
    rng, plane = np.random.default_rng(2), np.full((240, 240), 128, np.float32)
    for x, y in rng.integers(0, 240, (900, 2)).tolist():
        tone = float(rng.integers(60, 200))
        cv2.line(plane, (x - 10, y - 10), (x + 10, y + 10), tone, 3)
    found = measure_strokes(plane)
    assert found.alignment > 0.8
    assert abs(np.degrees(found.angle) - 45) < 6
    assert found.length > 2 * found.width
    assert measuring._stream(found).kind == "level"


def test_crisp_images_get_crisp_strokes_and_soft_ones_do_not():
    rng = np.random.default_rng(4)
    soft = cv2.GaussianBlur(rng.normal(0, 1, (240, 320)).astype(np.float32), (0, 0), 3)
    soft = 128 + 40 * soft / soft.std()
    sharp = np.where(soft > 128, 190, 60) + 25 * rng.normal(0, 1, soft.shape)
    images = [np.repeat(np.clip(plane, 0, 255).astype(np.uint8)[..., None], 3, 2) for plane in (soft, sharp)]
    first, second = (measuring.manner_of(image).steering.brush.crisp for image in images)
    assert first == 0
    assert second >= 1


def test_scenes_are_the_same_on_every_call():
    first, again = scenes(3, 64), scenes(3, 64)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(s.shape == (64, 64, 3) and s.min() >= 0 and s.max() <= 1 for s in first)
    assert not np.array_equal(first[0], first[1])


def rows(seed=1, cells=900, channels=5):
    """Cells whose residual is exactly what some last layers give."""
    rng = np.random.default_rng(seed)
    near, here, strokes = (
        rng.standard_normal((cells, n)).astype(np.float32) for n in (9 * channels + 25, channels + 1, 36)
    )
    plain, gains = (
        rng.standard_normal(shape).astype(np.float32) for shape in ((9 * channels + 25, 24), (channels + 1, 4))
    )
    wanted = near @ plain + readout._times_gains(here @ gains, strokes)
    return readout.Rows(near, here, strokes, wanted), plain, gains


def test_last_layers_are_found_from_what_they_gave():
    given, plain, gains = rows()
    found_plain, found_gains = readout.solve(given)
    assert np.abs(found_plain - plain).max() < 0.05
    assert np.abs(found_gains - gains).max() < 0.05


def test_colors_that_least_squares_make_pale_are_those_of_the_image():
    rng = np.random.default_rng(5)
    image = np.empty((120, 120, 3), np.uint8)
    image[:] = rng.integers(0, 255, (1, 120, 1))
    image[::2] = np.clip(image[::2] + np.array((50, 0, -50)), 0, 255)  # at each lightness one warm, one cold color
    colors = Colors(image, 10, 4)
    luma = rng.uniform(0.1, 0.9, 20_000).astype(np.float32)
    pale = rng.normal(0.02, 0.012, (20_000, 2)).astype(np.float32)
    moved = colors.corrected(luma, pale, pale)
    middle = np.abs(luma - 0.5) < 0.1
    mean, spread = colors.spreads[np.abs(colors.lightness - 0.5).argmin()]
    assert np.abs(moved[middle].mean(0) - mean).max() < 0.005
    assert np.abs(moved[middle].std(0) / np.sqrt(np.diag(spread)) - 1).max() < 0.25


def test_training_solves_as_the_package_does():
    torch = pytest.importorskip("torch")
    from train import universal

    given, _, _ = rows(2)
    ours = readout.solve(given)
    tensors = {n: torch.from_numpy(getattr(given, n)) for n in ("near", "here", "strokes", "wanted")}
    theirs = universal.solve(universal.Rows(**tensors))
    assert np.allclose(ours[0], theirs.plain.numpy(), atol=2e-3)
    assert np.allclose(ours[1], theirs.gains.numpy(), atol=2e-3)


def test_video_with_jobs_gives_the_bytes_of_one(red, tmp_path):
    clip = make_clip(tmp_path / "in.mp4", times=range(24), width=128, height=96)
    for jobs in (0, 2):
        stylize_video(clip, tmp_path / f"{jobs}.mp4", style=str(red), options=RenderOptions(jobs=jobs))
    assert (tmp_path / "0.mp4").read_bytes() == (tmp_path / "2.mp4").read_bytes()

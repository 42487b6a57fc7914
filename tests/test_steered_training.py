"""Training: the painters, the pool, the terms, and a run from a frame to a style."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from rtstyle.canvas.field import measure  # noqa: E402
from rtstyle.canvas.strokes import Brush  # noqa: E402
from rtstyle.frame import Size  # noqa: E402
from rtstyle.generator import SHAPES, Generator  # noqa: E402
from rtstyle.style import load_style  # noqa: E402
from rtstyle.universal.painting import Painting  # noqa: E402
from rtstyle.universal.palette import Colors  # noqa: E402
from train import drawing, losses, refit, steered  # noqa: E402
from train.cartoon import Cartoon, Flats  # noqa: E402
from train.data import load_pictures, to_yuv  # noqa: E402
from train.drawing import HANDS, Drawing  # noqa: E402
from train.painting import MANNERS  # noqa: E402
from train.pool import Crops, make_pool, to_canvas  # noqa: E402
from train.universal import packed_planes  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[1]
SMALL = Brush(directions=6, scales=(1.0, 0.5))


def two_tones(size: int = 240) -> np.ndarray:
    """A painting: dark blue strokes on light yellow ground."""
    rng = np.random.default_rng(0)
    picture = np.full((size, size, 3), (230, 210, 90), np.uint8)
    for _ in range(400):
        x, y = (int(v) for v in rng.integers(0, size, 2))
        cv2.line(picture, (x, y), (x + 20, y + int(rng.integers(-6, 7))), (20, 40, 120), 5)
    return picture


@pytest.fixture(autouse=True)
def few_tiles(monkeypatch):
    """Paint with few tiles, which are made soon."""
    plain = MANNERS["picture"]
    manner = replace(plain, steering=replace(plain.steering, brush=SMALL))
    monkeypatch.setitem(MANNERS, "picture", manner)


@pytest.fixture
def folders(tmp_path):
    """Photos, and a painting."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for seed in range(3):
        noise = np.random.default_rng(seed).integers(0, 255, (24, 30, 3)).astype(np.uint8)
        cv2.imwrite(str(photos / f"{seed}.png"), cv2.resize(noise, (400, 320), interpolation=cv2.INTER_CUBIC))
    cv2.imwrite(str(tmp_path / "painting.png"), two_tones(120)[:, :, ::-1])
    return photos, tmp_path / "painting.png"


def config_of(folders, **changes) -> steered.Config:
    photos, picture = folders
    settings = {"pool": 2, "warm_steps": 2, "steps": 4, "crop": 64, "batch": 1} | changes
    return steered.Config(content=(str(photos),), style=str(picture), **settings)


def prepared(config: steered.Config, out: Path) -> steered.Trainer:
    """A run before its first step."""
    cv2.setNumThreads(1)  # as in steered.train: the pool is painted by forked processes, which OpenCV's threads lock up
    trainer = steered.Trainer(config, out)
    trainer.prepare()
    return trainer


def test_colors_of_a_painting_are_those_of_each_lightness():
    """A painting half orange and half blue at every lightness has both, the warm one first."""
    ramp = np.linspace(0.3, 0.8, 256, dtype=np.float32)[:, None]
    warm, cold = ramp * np.float32([1.0, 0.7, 0.3]), ramp * np.float32([0.4, 0.7, 1.0])
    picture = np.concatenate([np.repeat(c[:, None], 64, 1) for c in (warm, cold)], 1)
    colors = Colors(np.rint(255 * picture).astype(np.uint8), 6, 2)
    assert (colors.centers[:, 0, 1] > 0.04).all(), "V of orange"
    assert (colors.centers[:, 1, 0] > 0.04).all(), "U of blue"
    assert np.abs(colors.shares[1:-1] - 0.5).max() < 0.2


def test_a_painted_photo_takes_the_colors_of_the_painting_and_keeps_its_forms():
    ramp = np.tile(np.linspace(0, 1, 256, dtype=np.float32), (192, 1))
    photo = np.dstack([ramp] * 3)
    painted = Painting(two_tones(), MANNERS["picture"]).paint(photo, (5, 9))
    dark, light = painted[:, :64].mean((0, 1)), painted[:, -64:].mean((0, 1))
    assert light[0] > dark[0] + 0.15
    assert dark[1] > 0.05 > -0.05 > light[1]


def test_a_painting_moves_with_its_canvas():
    rng = np.random.default_rng(2)
    photo = cv2.resize(rng.random((12, 16, 3), np.float32), (256, 192), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    painter, seen = Painting(two_tones(), MANNERS["picture"]), measure(np.rint(255 * photo.mean(2)).astype(np.uint8))
    first, second = (painter.paint(photo, at, seen) for at in ((0, 0), (200, 100)))
    assert np.abs(first - second)[..., 0].mean() > 0.02
    assert np.array_equal(first, painter.paint(photo, (0, 0), seen))


def test_where_a_fine_brush_is_needed_hues_of_strokes_fade_and_the_color_of_the_photo_decides():
    ramp = np.linspace(0.2, 0.9, 256, dtype=np.float32)[:, None]
    warm, cold = ramp * np.float32([1.0, 0.7, 0.3]), ramp * np.float32([0.4, 0.7, 1.0])
    halves = np.concatenate([np.repeat(each[:, None], 64, 1) for each in (warm, cold)], 1)
    art, photo = np.rint(255 * halves).astype(np.uint8), np.full((192, 256, 3), (0.45, 0.5, 0.6), np.float32)
    seen = measure(np.full((192, 256), 128, np.uint8))
    manner = replace(MANNERS["picture"], noise=4.0, keep=1.0, clusters=2, calm=0.8)

    def chroma(fine: float, **changes: float) -> np.ndarray:
        field = replace(seen, fine=np.full_like(seen.fine, fine))
        return Painting(art, replace(manner, **changes)).paint(photo, (0, 0), field)[..., 1:]

    mixed, settled, own = chroma(1), chroma(1, settle=3), chroma(1, settle=3, own=8)
    assert settled.std((0, 1)).sum() < 0.5 * mixed.std((0, 1)).sum()
    assert own[..., 0].mean() > settled[..., 0].mean() + 0.02, "the photo is blue"
    assert np.array_equal(chroma(0), chroma(0, settle=3, own=8)), "elsewhere nothing changes"


def test_no_halo_stands_round_a_dark_form():
    """Far enough from a contour that strokes cannot reach it, the ground has one tone."""
    photo = np.full((240, 320, 3), 0.6, np.float32)
    cv2.circle(photo, (160, 120), 50, (0.1, 0.1, 0.1), -1)
    plain = replace(MANNERS["picture"], gain=0, relief=0, noise=0, outline=0, glow=0)
    luma = Painting(two_tones(), plain).paint(photo, (0, 0))[..., 0]
    near, far = luma[20:60, 150:170].mean(), luma[:, :20].mean()
    assert abs(near - far) < 4 / 255


def test_a_drawing_leaves_light_areas_paper_and_hatches_dark_ones():
    hand = replace(HANDS["sketch"], steering=replace(HANDS["sketch"].steering, brush=SMALL))
    ramp = np.tile(np.linspace(0, 1, 256, dtype=np.float32), (192, 1))
    drawn = Drawing(hand).paint(np.dstack([ramp] * 3), (5, 9))
    luma = drawn[..., 0] + 0.5
    tones = [luma[:, left : left + 48].mean() for left in (8, 72, 136, 200)]
    assert tones == sorted(tones)
    assert tones[-1] > 0.9
    assert luma[:, 72:120].std() > 0.04
    assert np.abs(drawn[..., 1:]).max() < 0.01, "graphite has no color"


def cartoonist() -> Cartoon:
    return Cartoon(Flats(steering=replace(Flats().steering, brush=SMALL)))


def test_a_cartoon_has_plain_flats_and_hatches_only_the_dark():
    """Left to right: the tones of a ramp in colors, of which the darkest quarter is shaded by strokes."""
    ramp = np.tile(np.linspace(0, 1, 512, dtype=np.float32), (256, 1))
    photo = np.dstack((ramp, 0.9 * ramp, 0.8 * ramp))
    seen = measure(np.rint(255 * ramp).astype(np.uint8))
    here, there = (cartoonist().paint(photo, at, seen) for at in ((5, 9), (205, 109)))
    moved = np.abs(here - there)[..., 0].mean(0)
    assert moved[:128].mean() > 0.02, "strokes belong to the canvas"
    assert moved[256:].max() < 1e-3, "light and middle tones do not show it"
    steps = np.abs(np.diff(here[:, 256:500, 0].mean(0)))
    assert np.sort(steps)[-100:].sum() > 0.8 * steps.sum(), "tones change in few of 243 places"
    assert -here[:, 384:, 1].mean() > 1.5 * -to_yuv(photo)[:, 384:, 1].mean() > 0, "colors are richer"


def test_a_cartoon_has_a_dark_outline_on_the_dark_side_of_an_edge():
    photo = np.full((192, 256, 3), 0.8, np.float32)
    photo[:, :128] = 0.55
    luma = cartoonist().paint(photo, (5, 9))[..., 0].mean(0)
    assert luma[122:128].min() < luma[60:100].min() - 0.2
    assert abs(luma[136] - luma[180]) < 0.05


def a_face() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A photo of a plain face, and where its eyes and its cheeks are."""
    y, x = np.mgrid[:192, :256].astype(np.float32)
    photo = np.full((192, 256, 3), 0.75, np.float32)
    photo[((x - 128) / 44) ** 2 + ((y - 96) / 60) ** 2 < 1] = (0.55, 0.42, 0.36)
    eyes = ((np.abs(x - 128) - 18) / 9) ** 2 + ((y - 82) / 5) ** 2 < 1
    photo[eyes] = 0.2
    return photo, eyes, (np.abs(np.abs(x - 128) - 18) < 8) & (np.abs(y - 104) < 6)


@pytest.mark.parametrize("manner", ["picture", "cartoon"])
def test_a_face_keeps_its_features(manner):
    """Where a fine brush is needed, the photo's own contrast is stronger than the strokes."""
    photo, eyes, cheeks = a_face()
    painter = cartoonist() if manner == "cartoon" else Painting(two_tones(), MANNERS[manner])
    luma = painter.paint(photo, (5, 9))[..., 0]
    assert luma[cheeks].mean() - luma[eyes].mean() > 3 * luma[cheeks].std()


def test_where_a_fine_brush_is_needed_the_paintings_statistics_are_not_asked_for():
    torch.manual_seed(1)
    style, made = torch.randn(8, 4000), torch.randn(1, 8, 40, 50)
    made[..., :20] = 3
    coarse = torch.ones(1, 40, 50, dtype=torch.bool)
    coarse[..., :20] = False
    assert steered.swd_term(made, style, 1.0, coarse.flatten()) < 0.02 < steered.swd_term(made, style, 1.0)
    assert steered.swd_term(made, style, 1.0, torch.zeros(2000, dtype=torch.bool)) == 0


def test_the_lattice_term_sees_a_grid_of_cells_and_not_strokes():
    flat, grey = torch.full((1, 1, 96, 96), 0.5), torch.zeros(1, 2, 48, 48)
    grid = flat.clone()
    grid[..., ::4, ::4] += 0.1
    strokes = flat + 0.1 * torch.randn(1, 1, 96, 96, generator=torch.Generator().manual_seed(0))
    tinted = grey.clone()
    tinted[:, :1, ::2, ::2] += 0.05
    assert steered.lattice_term(flat, grey) < 1e-9
    assert steered.lattice_term(grid, grey) > 4 * steered.lattice_term(strokes, grey) > 0
    assert steered.lattice_term(flat, tinted) > 1e-4, "a grid of colors is one, too"


def test_the_sliced_wasserstein_term_is_small_for_samples_of_one_distribution():
    torch.manual_seed(1)
    style = torch.randn(8, 4000)
    same, other = torch.randn(1, 8, 40, 50), 0.3 * torch.randn(1, 8, 40, 50) + 1
    assert steered.swd_term(same, style, 1.0) < 0.02
    assert steered.swd_term(other, style, 1.0) > 0.3


def test_a_fourth_block_is_run_where_it_is_asked_for():
    three, four = losses.Vgg16(steered.VGG), losses.Vgg16(steered.VGG, blocks=4)
    picture = torch.rand(1, 3, 160, 160)
    moved = picture.clone()
    moved[..., 80, 80] = 1 - moved[..., 80, 80]
    with torch.no_grad():
        usual, deep, other = three(picture), four(picture), four(moved)
    assert [tuple(f.shape[1:]) for f in deep] == [(64, 160, 160), (128, 80, 80), (256, 40, 40), (512, 20, 20)]
    assert len(usual) == 3
    assert all(torch.equal(a, b) for a, b in zip(usual, deep, strict=False))
    seen = (deep[3] != other[3]).any(1)[0].nonzero()
    assert 9 <= int((seen.max(0).values - seen.min(0).values).min()) + 1 <= 12  # 92 pixels are 11.5 cells of 8


def test_a_gram_matrix_correlates_channels():
    features = torch.rand(2, 3, 8, 10)
    gram = losses.gram_matrix(features)
    assert gram.shape == (2, 3, 3)
    assert float(gram[1, 0, 2]) == pytest.approx(
        float((features[1, 0] * features[1, 2]).sum()) / (3 * 8 * 10), rel=1e-4
    )


def test_held_out_photos_are_never_trained_on(folders, tmp_path):
    trainer = steered.Trainer(config_of(folders), tmp_path / "run")
    assert [path.stem for path in trainer.held_out] == ["0"]
    assert [path.stem for path in trainer.paths] == ["1", "2"]


def test_a_gradient_that_is_nan_ends_the_run_with_its_step(folders, tmp_path):
    trainer = prepared(config_of(folders), tmp_path / "run")
    trainer.train_step(trainer.batch())
    batch = trainer.batch()
    with pytest.raises(FloatingPointError, match="at step 1"):
        trainer.train_step(replace(batch, toned=batch.toned * float("nan")))


def test_a_run_that_is_resumed_equals_an_unbroken_one(folders, tmp_path):
    whole = config_of(folders, warm_steps=1, steps=3)
    steered.train(whole, tmp_path / "whole")
    steered.train(replace(whole, steps=2), tmp_path / "broken")
    # The second stage draws directions at random: an unbroken run and a resumed one draw the same.
    steered.train(whole, tmp_path / "broken", resume=True)
    one, other = (
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["generator"] for name in ("whole", "broken")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_drawing_is_learnt_without_a_work_of_art(folders, tmp_path, monkeypatch, capsys):
    import engines.export

    hand = replace(HANDS["sketch"], steering=replace(HANDS["sketch"].steering, brush=SMALL))
    monkeypatch.setitem(drawing.HANDS, "sketch", hand)
    command = ["--content", str(folders[0]), "--out", str(tmp_path / "run"), "--crop", "64"]
    command += ["--pool", "2", "--batch", "1", "--warm-steps", "1", "--steps", "2"]
    assert steered.main([*command, "--manner", "sketch"]) == 0
    words = engines.export.words_of_run(tmp_path / "run")
    assert words["kind"] == "drawing"
    assert words["trained_by"].startswith("python -m train: 1 steps taught by the painter sketch")
    assert steered.main([*command, "--manner", "picture"]) == 1
    assert "needs a painting" in capsys.readouterr().err


def test_a_run_becomes_a_style_by_the_commands_of_the_readme(folders, tmp_path, monkeypatch):
    import engines.export
    from rtstyle.backends import open_engine

    photos, picture = folders
    words = ["--style", str(picture), "--content", str(photos), "--out", str(tmp_path / "run"), "--crop", "64"]
    steps = ["--pool", "2", "--batch", "1", "--warm-steps", "2", "--steps", "3"]
    assert steered.main([*words, *steps]) == 0
    assert list((tmp_path / "run").glob("preview-*.jpg"))
    monkeypatch.setattr("sys.argv", ["export", str(tmp_path / "run" / "generator.pt"), str(tmp_path / "mine")])
    engines.export.main()
    words = json.loads((tmp_path / "mine" / "style.json").read_text())
    assert words["format"] == 2
    assert words["kind"] == "painting"
    style = load_style(tmp_path / "mine")
    assert style.steering is not None
    assert style.steering.brush == SMALL
    assert style.tone is not None
    with open_engine(style, Size(64, 48), precision="f32") as engine:
        assert engine.precision == "f32"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--style", "nothing.jpg", "--content", "."], "there is no nothing.jpg"),
        (["--style", "README.md", "--content", "."], "cannot read the image README.md"),
        (["--style", "docs/pair.jpg", "--content", "nowhere"], "there is no nowhere"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, words, said):
    assert steered.main([*words, "--out", str(tmp_path / "run")]) == 1
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


def test_toned_samples_are_what_the_curve_makes_of_them():
    rgb = np.full((16, 16, 3), 0.5, np.float32)
    painter = Painting(two_tones(), MANNERS["picture"])
    ramp = np.tile(np.arange(256, dtype=np.uint8), (64, 1))
    seen = measure(ramp)
    toned = painter.toned(to_yuv(rgb)[..., 0] + np.float32(0.5), seen)
    assert toned[0, 0] == pytest.approx(painter.curve.table(seen)[127] / 255, abs=0.01)


def test_last_layers_are_solved_for_the_images_of_a_teacher(folders, tmp_path, monkeypatch):
    photos, painting = folders
    monkeypatch.setattr(refit, "PHOTOS", 4)
    torch.manual_seed(3)
    teacher, student = (Generator(*SHAPES[size], canvas=40).eval() for size in ("default", "fast"))
    for part in (teacher.tail, teacher.skip, teacher.gate):
        torch.nn.init.normal_(part.weight, std=0.05)
    config = {"style": str(painting), "manner": "picture", "content": [str(photos)], "size_class": "fast"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    torch.save(student.state_dict(), tmp_path / "generator.pt")
    made = refit.refit(tmp_path, teacher)
    drawer = steered.painter("picture", load_pictures([painting], 400)[0])
    (sample,) = make_pool(sorted(photos.iterdir()), drawer, 1, 5, paint=False, workers=1)
    toned, _, packed = Crops(drawer, 128).window(sample, 8, 8)
    x, z = packed_planes(torch.from_numpy(toned)[None]), to_canvas([packed])
    with torch.no_grad():
        wanted, before, after = teacher(x, z), student(x, z), made(x, z)
    assert (after - wanted).square().mean() < 0.5 * (before - wanted).square().mean()
    assert torch.equal(refit.refit(tmp_path, teacher, 2).gate.weight, 2 * made.gate.weight)


def test_a_fast_network_learns_what_the_default_one_paints_and_lies_beside_it(folders, tmp_path):
    from engines.export import export_style, load_generator, words_of_run

    teacher = tmp_path / "teacher.pt"
    default = Generator(*SHAPES["default"], canvas=40)
    torch.nn.init.constant_(default.tail.bias, -0.2)
    torch.save(default.state_dict(), teacher)
    wanted = {"size_class": "fast", "base": "", "teacher": str(teacher), "warm_rate": 4e-3}
    trainer = prepared(config_of(folders, **wanted, warm_steps=80, steps=80, noise=0.0), tmp_path / "run")
    reports = [trainer.train_step(trainer.batch()) for _ in range(80)]
    first, last = (np.mean([each["luma"] for each in part]) for part in (reports[:10], reports[-10:]))
    assert last < 0.8 * first
    trainer.save()
    export_style(load_generator(teacher), tmp_path / "mine", words_of_run(tmp_path / "run") | {"title": "mine alone"})
    fast = load_generator(tmp_path / "run" / "generator.pt")
    export_style(fast, tmp_path / "mine" / "fast", words_of_run(tmp_path / "run"))
    assert load_style(tmp_path / "mine", "fast").trunk.weights["tail.weight"].shape[1] == SHAPES["fast"][0]
    alone = load_style(tmp_path / "mine" / "fast")
    assert (alone.size_class, alone.title) == ("fast", "mine alone")


def test_the_command_refuses_what_is_not_there(tmp_path):
    command = [sys.executable, "-m", "train", "--content", str(tmp_path / "none"), "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == f"train: error: there is no {tmp_path / 'none'}"


SHARED = """
import sys
from dataclasses import replace
from rtstyle.canvas.strokes import Brush
from train import steered
from train.drawing import HANDS
plain = HANDS["sketch"]
HANDS["sketch"] = replace(plain, steering=replace(plain.steering, brush=Brush(directions=6, scales=(1.0, 0.5))))
class Kept(steered.Trainer):
    def train_step(self, batch):
        global seen, weights
        report = super().train_step(batch)
        seen, weights = float(batch.toned.sum()), [float(each.double().sum()) for each in self.generator.parameters()]
        return report
steered.Trainer = Kept
code = steered.main(sys.argv[1:])
print(seen, weights)
sys.exit(code)
"""
"""``python -m train.steered`` with few tiles; prints sums of its last batch and of its weights."""


def test_two_machines_share_gradients_and_end_with_the_same_weights(folders, tmp_path):
    (tmp_path / "shared.py").write_text(SHARED)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    settings = ["--content", str(folders[0]), "--manner", "sketch", "--out", str(tmp_path / "run"), "--pool", "2"]
    settings += ["--warm-steps", "2", "--steps", "4", "--crop", "64", "--batch", "1"]
    runs = []
    for node in ("0", "1"):
        launch = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--node-rank", node]
        launch += ["--master-addr", "127.0.0.1", "--master-port", port, str(tmp_path / "shared.py")]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        runs.append(
            subprocess.Popen(
                [sys.executable, *launch, *settings],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment,
            )
        )  # fmt: skip
    told = [run.communicate(timeout=600) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], [errors[-1500:] for _, errors in told]
    first, second = (words.splitlines()[-1].split(" ", 1) for words, _ in told)
    assert first[1] == second[1], "the same weights"
    assert first[0] != second[0], "from other crops"
    assert (tmp_path / "run" / "generator.pt").exists()
    assert sum("photos painted" in words for words, _ in told) == 1

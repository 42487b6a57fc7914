"""The trainer on made frames: losses fall, resuming repeats, processes agree, and the terms mean what they say."""

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from engines.export import export_style, load_generator  # noqa: E402
from rtstyle import Size, load_style, open_engine  # noqa: E402
from rtstyle.canvas import tile  # noqa: E402
from rtstyle.generator import SHAPES, Generator  # noqa: E402
from train import data, losses, painters, strokes, styles  # noqa: E402
from train.batches import Batches, Config  # noqa: E402
from train.forward import new_generator  # noqa: E402
from train.style_painter import StylePainter  # noqa: E402
from train.trainer import RECOVERIES, Trainer, train  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[1]
VGG = ROOT / "train" / "weights" / "vgg16_imagenet_conv1-4.fp16.safetensors"
BASE = ROOT / "train" / "weights" / "base.safetensors"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A tiny run on made photos (blurred noise in color) and made frames (lines in two colors)."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for folder in ("photos", "pictures"):
        (root / folder).mkdir()
    for i in range(18):
        photo = cv2.resize(rng.integers(0, 256, (9, 9, 3), np.uint8), (160, 130), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(root / "photos" / f"{i:02}.png"), photo)
    for i in range(3):
        lines = np.add.outer(np.arange(130), np.arange(130)) % (5 + i) < 2
        cv2.imwrite(str(root / "pictures" / f"{i}.png"), np.where(lines[..., None], (120, 40, 20), (90, 200, 230)))
    return Config(
        content=(str(root / "photos"),),
        pictures=((str(root / "pictures"), 1.0),),
        vgg=str(VGG),
        steps=30,
        warm_steps=30,
        warm_batch=2,
        warm_crop=64,
        batch=2,
        crop=64,
    )


def rows_of(run: Path) -> list[dict[str, float]]:
    with (run / "log.csv").open() as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def test_a_batch_is_a_function_of_seed_and_step(config):
    first, second = Batches(config), Batches(config)
    for step in (0, 7):
        a, b = first.batch(step), second.batch(step)
        assert torch.equal(a.photos, b.photos)
        assert torch.equal(a.painted, b.painted)
        assert torch.equal(a.noise, b.noise)
    assert not torch.equal(first.batch(0).photos, first.batch(1).photos)
    assert not torch.equal(first.batch(0).photos, Batches(replace(config, seed=2)).batch(0).photos)


def test_held_out_photos_are_never_trained_on(config):
    batches = Batches(config)
    assert len(batches.held_out) == 2
    assert len(batches.photos) == 16


def test_a_few_steps_lower_the_loss_and_write_what_was_promised(config, tmp_path):
    generator = train(config, tmp_path, every=10)
    rows = rows_of(tmp_path)
    assert [row["step"] for row in rows] == [10, 20, 30]
    assert rows[-1]["strokes"] < 0.9 * rows[0]["strokes"]
    assert {"config.json", "checkpoint.pt", "generator.pt"} <= {p.name for p in tmp_path.iterdir()}
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in generator.modules())


def test_a_run_becomes_a_style_that_rtstyle_runs(config, tmp_path):
    train(replace(config, steps=2, warm_steps=2), tmp_path / "run", every=2)
    export_style(load_generator(tmp_path / "run" / "generator.pt"), tmp_path / "mine")
    style = load_style(tmp_path / "mine")
    assert style.name == "mine"
    with open_engine(style, Size(64, 48)) as engine:
        assert engine.size == Size(64, 48)


def test_resuming_equals_an_unbroken_run(config, tmp_path):
    config = replace(config, steps=6, warm_steps=3)  # the break falls into the second stage
    whole = train(config, tmp_path / "whole", every=2)
    # A stop after step 4, as Ctrl-C would leave it: the same config, the checkpoint of step 4.
    trainer, batches = Trainer(config), Batches(config)
    for step, batch in batches.stream(0):
        if step == 4:
            break
        if step >= config.warm_steps and trainer.vgg is None:
            trainer.load_vgg(batches)
        trainer.train_step(batch)
    (tmp_path / "broken").mkdir()
    trainer.save(tmp_path / "broken" / "checkpoint.pt")
    resumed = train(config, tmp_path / "broken", resume=True, every=2)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_second_stage_trains_both_networks_and_weight_zero_leaves_the_discriminator_unheard(config, tmp_path):
    heard = replace(config, warm_steps=0, steps=4, adversarial_weight=0.1)
    train(heard, tmp_path / "heard", every=4)
    train(replace(heard, adversarial_weight=0.0), tmp_path / "unheard", every=4)
    first, second = rows_of(tmp_path / "heard")[-1], rows_of(tmp_path / "unheard")[-1]
    assert "adversarial" in first
    assert "adversarial" not in second
    for row in (first, second):
        assert 0 <= row["accuracy"] <= 1
        assert row["relu3_3"] > 0


def poisoned(times: int):
    """A stream of batches whose batch 3 is NaN, the first ``times`` it is made."""
    made, batch = [], Batches.batch

    def make(self, step):
        result = batch(self, step)
        if step == 3:
            made.append(step)
            if len(made) <= times:
                return replace(result, photos=result.photos * float("nan"))
        return result

    return make


def test_a_gradient_that_is_nan_sends_the_run_back_with_half_the_rate(config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Batches, "batch", poisoned(1))
    generator = train(replace(config, steps=6, warm_steps=6), tmp_path, every=2)
    assert all(torch.isfinite(p).all() for p in generator.parameters())
    assert rows_of(tmp_path)[-1]["step"] == 6
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["recoveries"] == 1
    assert "back to step 2 with half the rate" in capsys.readouterr().err


def test_a_run_that_never_recovers_ends_with_the_reason(config, tmp_path, monkeypatch):
    monkeypatch.setattr(Batches, "batch", poisoned(99))
    with pytest.raises(FloatingPointError, match="step 3"):
        train(replace(config, steps=6, warm_steps=6), tmp_path, every=2)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["step"] == 2
    assert RECOVERIES < 10


def test_fine_tuning_from_the_base_keeps_the_family_and_starts_from_what_it_draws(config, tmp_path):
    base = new_generator(str(BASE))
    tuned = train(replace(config, base=str(BASE), steps=2, warm_steps=2), tmp_path, every=2)
    for name, weights in base.state_dict().items():
        assert tuned.state_dict()[name].shape == weights.shape
        # Two steps of Adam at the beginning of the ramp: each moves a weight by at most the rate.
        assert (tuned.state_dict()[name] - weights).abs().max() < 1e-3


def test_paintings_are_looked_at_in_color(config, tmp_path):
    config = replace(config, painter="palette", color=True, steps=4, warm_steps=2)
    train(config, tmp_path, every=4)
    row = rows_of(tmp_path)[-1]
    assert row["relu3_3"] > 0
    sheet = cv2.imread(str(tmp_path / "preview-000004.png")).astype(int)
    assert np.abs(sheet[..., 0] - sheet[..., 2]).max() > 20


def test_two_processes_that_share_each_batch_make_what_one_makes(config, tmp_path):
    settings = [
        "--content", config.content[0], "--style", config.pictures[0][0], "--base", str(BASE), "--vgg", str(VGG),
        "--warm-crop", "64", "--crop", "64", "--warm-batch", "2", "--batch", "2", "--steps", "2", "--warm-steps", "1",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    shared = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for count, launch in (("1", []), ("2", shared)):
        command = [sys.executable, *launch, "-m", "train", *settings, "--out", str(tmp_path / count)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = (torch.load(tmp_path / count / "generator.pt", weights_only=True) for count in ("1", "2"))
    base = new_generator(str(BASE)).state_dict()

    def distance(first, second):
        return sum(float(((first[n] - second[n]) ** 2).sum()) for n in first) ** 0.5

    # Only rounding separates them (bf16, another order of sums), which Adam's first steps magnify.
    assert distance(one, two) < 0.2 * distance(one, base)


def test_processes_that_cannot_share_a_batch_are_reported_so(config):
    with pytest.raises(ValueError, match="3 processes cannot share a batch of 2"):
        Batches(config, 0, 3)


def test_shares_of_a_batch_are_the_batch(config):
    whole = Batches(config).batch(5)
    parts = [Batches(config, rank, 2).batch(5) for rank in (0, 1)]
    assert torch.equal(torch.cat([p.painted for p in parts]), whole.painted)
    assert torch.equal(torch.cat([p.noise for p in parts], 1), whole.noise)
    assert all(torch.equal(p.windows, whole.windows) for p in parts)


@pytest.mark.parametrize("name", painters.PAINTERS)
def test_a_painting_moves_with_image_and_canvas(name, config):
    rng = np.random.default_rng(0)
    small = rng.random((12, 16, 3)).astype(np.float32)
    photo = cv2.resize(small, (320, 240), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    own = data.load_pictures(data.list_pictures(Path(config.pictures[0][0])), 64, color=True)
    paint = painters.make(name, own)
    whole, part = paint(photo, (0, 0)), paint(np.ascontiguousarray(photo[5:, 3:]), (5, 3))
    assert whole.shape == photo.shape
    assert 0 <= whole.min() <= whole.max() <= 1
    border = 64  # what the widest blur sees
    difference = np.abs(whole[5:, 3:] - part)[border:-border, border:-border]
    # A table of colors may fall to the other side of an edge here and there.
    assert difference.mean() < 1e-3
    assert np.mean((whole - photo) ** 2) > 0.002


def test_a_painter_that_is_not_there_is_refused_with_all_names():
    with pytest.raises(ValueError, match=r"no painter 'rembrandt'.*starry_night"):
        painters.make("rembrandt")
    with pytest.raises(ValueError, match="takes its palette"):
        painters.make("palette")


def test_the_palette_is_made_of_the_colors_of_the_painting():
    picture = np.full((90, 90, 3), (20, 40, 120), np.uint8)
    picture[:30] = (230, 200, 90)
    colors, quantiles = painters.palette_of(picture, 2)
    rgb = sorted((colors @ data.TO_RGB.T * 255).tolist())
    np.testing.assert_allclose(rgb, [(20, 40, 120), (230, 200, 90)], atol=6)
    assert (np.diff(quantiles) >= 0).all()


def test_the_command_refuses_what_is_not_there(tmp_path):
    command = [sys.executable, "-m", "train", "--content", str(tmp_path / "none"), "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == f"train: error: there is no {tmp_path / 'none'}"


def test_strokes_move_with_image_and_canvas_and_follow_tone():
    rng = np.random.default_rng(0)
    photo = cv2.resize(rng.random((12, 16), np.float32), (320, 240), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    hatch = strokes.hatchings(tile())
    whole = strokes.drawing(photo, hatch[:240, :320])
    part = strokes.drawing(photo[5:, 3:], hatch[5:240, 3:320])
    border = 48  # what the widest blur sees
    assert np.abs(whole[5:, 3:] - part)[border:-border, border:-border].max() < 1e-3
    white, grey, black = (
        strokes.drawing(np.full((128, 128), tone, np.float32), hatch[:128, :128]).mean() for tone in (1.0, 0.4, 0.0)
    )
    assert white > 0.99
    assert black < 0.5 * grey < 0.5 * white


def test_terms_are_zero_for_equal_and_one_for_nothing():
    vgg = losses.Vgg16(VGG)
    luma = torch.rand(2, 1, 64, 64)
    features = vgg(luma)
    targets = [losses.gram_matrix(f).mean(0) for f in features]
    assert all(float(t) == 0 for t in losses.style_terms(features, targets))
    assert all(float(t) == pytest.approx(1) for t in losses.style_terms([0 * f for f in features], targets))
    assert float(losses.content_term(features[2], features[2])) == 0
    assert float(losses.consistency_term(luma, luma + 0.1)) == pytest.approx(0.01, rel=1e-3)
    # Shading alone, without a change of detail, is what the tone term sees.
    assert float(losses.tone_term(luma, luma + 0.2)) == pytest.approx(0.04, rel=1e-3)


def test_grey_images_give_the_features_of_equal_color_channels():
    vgg = losses.Vgg16(VGG)
    luma = torch.rand(1, 1, 32, 32)
    mean = torch.tensor([123.68, 116.779, 103.939]).view(1, 3, 1, 1)
    with torch.no_grad():
        grey, color = vgg.grey(luma), vgg.conv1_1(255 * luma.repeat(1, 3, 1, 1) - mean)
    assert torch.allclose(grey[..., 1:-1, 1:-1], color[..., 1:-1, 1:-1], rtol=1e-4, atol=1e-2)


def test_a_fourth_block_is_run_where_it_is_asked_for():
    three, four = losses.Vgg16(VGG), losses.Vgg16(VGG, blocks=4)
    picture = torch.rand(1, 3, 160, 160)
    moved = picture.clone()
    moved[..., 80, 80] = 1 - moved[..., 80, 80]
    with torch.no_grad():
        usual, deep, early, other = three(picture), four(picture), four(picture, blocks=2), four(moved)
    assert [tuple(f.shape[1:]) for f in deep] == [(64, 160, 160), (128, 80, 80), (256, 40, 40), (512, 20, 20)]
    for some in (usual, early):
        assert all(torch.equal(a, b) for a, b in zip(some, deep, strict=False))
    assert len(usual) == 3
    assert len(early) == 2
    seen = (deep[3] != other[3]).any(1)[0].nonzero()
    assert 9 <= int((seen.max(0).values - seen.min(0).values).min()) + 1 <= 12  # 92 pixels are 11.5 cells of 8


def test_a_style_can_be_imitated(config, tmp_path):
    export_style(new_generator(str(BASE)), tmp_path / "base")
    folder = str(tmp_path / "base")
    batches = Batches(replace(config, painter=folder))
    batch = batches.batch(0)
    # Started from what it imitates, and without noise, it has nothing to learn but the rounding of bf16.
    trainer = Trainer(replace(config, painter=folder, base=folder))
    report = trainer.train_step(replace(batch, noise=torch.zeros_like(batch.noise)))
    assert report["strokes"] < 0.02
    assert (batch.painted - batch.photos).abs().mean() > 0.05


def test_a_fast_network_learns_what_the_default_one_draws_and_lies_beside_it(config, tmp_path):
    wanted = styles.distillation("cartoon", config.content[0], "fast")
    assert wanted.shift_weight < Config(content=()).shift_weight
    small = replace(wanted, steps=60, warm_steps=60, warm_crop=64)
    train(small, tmp_path / "run", every=20)
    first, *_, last = rows_of(tmp_path / "run")
    assert last["chroma"] < 0.9 * first["chroma"]

    export_style(new_generator(str(BASE)), tmp_path / "mine", {"title": "mine alone"})
    export_style(load_generator(tmp_path / "run" / "generator.pt"), tmp_path / "mine" / "fast")
    fast = load_style(tmp_path / "mine", "fast")
    assert fast.trunk.weights["tail.weight"].shape[1] == SHAPES["fast"][0]
    alone = load_style(tmp_path / "mine" / "fast")
    assert (alone.size_class, alone.title) == ("fast", "mine alone")

    with pytest.raises(ValueError, match=r"sketch draws on a steered canvas: see python -m train\.steered"):
        styles.distillation("sketch", "photos", "fast")
    with pytest.raises(ValueError, match=r"no style 'rembrandt'.*red_chalk"):
        styles.distillation("rembrandt", "photos", "fast")


def test_a_recipe_is_a_run_from_the_base_and_says_what_is_missing(tmp_path):
    (tmp_path / "starry_night.jpg").write_bytes(b"")
    learn, settle = styles.runs_of("starry_night", "photos", tmp_path)
    assert learn.pictures == ((str(tmp_path / "starry_night.jpg"), 1.0),)
    assert Path(learn.base) == BASE
    assert settle.steps > learn.steps
    assert settle.shift_weight > learn.shift_weight
    assert set(styles.RECIPES) <= set(painters.PAINTERS)
    with pytest.raises(ValueError, match=r"no recipe 'rembrandt'.*starry_night"):
        styles.runs_of("rembrandt", "photos", tmp_path)
    with pytest.raises(ValueError, match=r"water_lilies needs the image water_lilies\.jpg"):
        styles.runs_of("water_lilies", "photos", tmp_path)


def test_a_recipe_ends_in_the_mix_of_its_runs_with_its_strength(tmp_path):
    generators = [new_generator(str(BASE)), new_generator(str(BASE))]
    with torch.no_grad():
        for weights in generators[1].parameters():
            weights.mul_(2)
    for number, generator in enumerate(generators):
        (tmp_path / str(number)).mkdir()
        torch.save(generator.state_dict(), tmp_path / str(number) / "generator.pt")
    recipe = styles.Recipe(learn=1, settlings=(styles.Settling(1, 60, 0.75),), strength=1.5)
    styles.finish(recipe, [tmp_path / "0", tmp_path / "1"], tmp_path / "out")
    mixed, base = load_generator(tmp_path / "out" / "generator.pt").state_dict(), generators[0].state_dict()
    torch.testing.assert_close(mixed["stem.conv.weight"], 1.75 * base["stem.conv.weight"])
    torch.testing.assert_close(mixed["tail.bias"][:16], 1.5 * 1.75 * base["tail.bias"][:16])
    torch.testing.assert_close(mixed["tail.bias"][16:], 1.75 * base["tail.bias"][16:])


def test_what_a_style_draws_of_its_own_cells_is_not_imitated(config, tmp_path):
    """A grid of 4 pixels, drawn whatever the photo, lies elsewhere each time and cancels out; strokes stay."""
    grid = torch.tensor([0.2, -0.2] * 8).view(1, 16)  # of the 16 pixels of a cell; its mean is 0
    generator = Generator(*SHAPES["fast"]).eval()
    with torch.no_grad():
        generator.tail.bias[:16] = grid[0]
    folder = tmp_path / "grid"
    export_style(generator, folder)
    grey = np.full((48, 48, 3), 0.5, np.float32)
    alone = StylePainter(str(folder))
    alone._SHIFTS = ((0, 0),)
    columns = alone(grey, (0, 0)).mean((0, 2))
    assert np.ptp(columns) > 0.3
    painted = StylePainter(str(folder))(grey, (0, 0))
    assert np.ptp(painted) < 0.01


def test_imitated_strokes_are_fainter_where_a_photo_is_empty(random_style):
    half = np.full((96, 192, 3), 0.45, np.float32)
    half[:, 96:] += 0.3 * np.random.default_rng(0).standard_normal((96, 96, 1)).astype(np.float32)
    photo = np.clip(np.concatenate((half, half)), 0, 1)  # as wide as it is high
    folder = str(random_style.folders[0][0])
    whole, fainter = (StylePainter(folder, share)(photo, (7, 11)) for share in (1.0, 0.3))
    empty, full = (slice(24, -24), slice(8, 40)), (slice(24, -24), slice(140, -16))
    assert fainter[empty].std() < 0.95 * whole[empty].std()
    assert abs(fainter[empty].mean() - whole[empty].mean()) < 0.03, "the tone stays"
    assert np.abs(fainter[full] - whole[full]).mean() < 0.05 * whole[full].std()


def test_a_recipe_continues_against_the_image_and_imitates_what_came_of_it(config, tmp_path, monkeypatch, capsys):
    refining = styles.Refining(picture="wave", steps=1, canvas=0.5, strength=2, imitating=1)
    recipe = styles.Recipe(picture="wave", learn=1, refining=refining)
    monkeypatch.setattr(styles, "RECIPES", {"great_wave": recipe})
    monkeypatch.setattr(styles, "Config", partial(Config, batch=1, warm_batch=1, crop=64, vgg=config.vgg))
    cv2.imwrite(str(tmp_path / "wave.png"), np.random.default_rng(0).integers(0, 256, (120, 150, 3), np.uint8))
    words = ["great_wave", "--content", *config.content, "--pictures", str(tmp_path), "--out", str(tmp_path / "runs")]
    monkeypatch.setattr(sys, "argv", ["", *words])
    assert styles.main() == 0
    assert capsys.readouterr().out.split()[-1] == str(tmp_path / "runs" / "great_wave-last" / "generator.pt")
    second = torch.load(tmp_path / "runs" / "great_wave-second" / "generator.pt", weights_only=True)
    teacher = new_generator(str(tmp_path / "runs" / "great_wave-teacher")).state_dict()
    torch.testing.assert_close(teacher["tail.weight"][:16], 2 * second["tail.weight"][:16])
    torch.testing.assert_close(teacher["tail.weight"][16:], second["tail.weight"][16:])
    torch.testing.assert_close(teacher["stem.conv.weight"][:, 24:], 0.5 * second["stem.conv.weight"][:, 24:])
    assert json.loads((tmp_path / "runs" / "great_wave-second" / "config.json").read_text())["warm_steps"] == 0
    (tmp_path / "wave.png").unlink()
    assert styles.main() == 1
    assert "needs the image wave.jpg" in capsys.readouterr().err


def test_what_is_occluded_does_not_count_in_the_warping_term():
    moved, seen = torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8, dtype=torch.bool)
    expected = moved.clone()
    expected[..., :2, :] = 1
    assert losses.warping_term(moved, expected, seen) == 0.25
    seen[..., :2, :] = False
    assert losses.warping_term(moved, expected, seen) == 0
    assert losses.warping_term(moved, expected, ~seen, 1) == 1
    assert losses.warping_term(moved, expected, torch.zeros_like(seen)) == 0


def test_light_and_warps_of_a_batch_are_small_and_leave_the_rest_of_the_stream_as_it_was(config):
    plain, lit = Batches(config).batch(3), Batches(replace(config, light=0.04, warp_weight=50)).batch(3)
    assert torch.equal(plain.photos, lit.photos)
    assert torch.equal(plain.noise, lit.noise)
    assert torch.equal(plain.light, torch.ones_like(plain.light))
    assert 0 < (lit.light - 1).abs().max() <= 0.04
    still = torch.eye(3)[:2]
    assert 0 < (lit.warps - still).abs().max() < 0.1


def test_a_generator_that_changes_nothing_has_no_warping_error_and_one_that_draws_on_the_canvas_has(config):
    errors = {}
    for gain in (0.0, 1.0):
        trainer = Trainer(replace(config, base=str(BASE), warp_weight=50, noise=0.0))
        with torch.no_grad():
            for part in (trainer.generator.tail.weight, trainer.generator.tail.bias, trainer.generator.skip.weight):
                part.mul_(gain)
        errors[gain] = trainer.train_step(Batches(trainer.config).batch(0))["warp"]
    assert errors[0.0] < 1e-3
    assert errors[1.0] > 3 * errors[0.0]

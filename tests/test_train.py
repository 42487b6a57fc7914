"""The trainer on made pictures: losses fall, resuming repeats, and the terms mean what they say."""

import csv
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from engines.export import export_style, load_generator  # noqa: E402
from rtstyle import Size, load_style, open_engine  # noqa: E402
from rtstyle.canvas import tile  # noqa: E402
from train import losses, strokes  # noqa: E402
from train.trainer import Batches, Config, Trainer, train  # noqa: E402

VGG = Path(__file__).parents[1] / "train" / "weights" / "vgg16_imagenet_conv1-4.fp16.safetensors"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A tiny run on made photos (blurred noise in colour) and made drawings (hatching)."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for folder in ("photos", "drawings"):
        (root / folder).mkdir()
    for i in range(18):
        photo = cv2.resize(rng.integers(0, 256, (9, 9, 3), np.uint8), (160, 130), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(root / "photos" / f"{i:02}.png"), photo)
    for i in range(3):
        lines = np.where(np.add.outer(np.arange(130), np.arange(130)) % (5 + i) < 2, 40, 230).astype(np.uint8)
        cv2.imwrite(str(root / "drawings" / f"{i}.png"), lines)
    return Config(
        content=(str(root / "photos"),),
        drawings=((str(root / "drawings"), 1.0),),
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
        assert torch.equal(a.strokes, b.strokes)
        assert a.seed == b.seed
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


def test_a_loss_that_is_no_number_stops_the_run(config):
    trainer, batches = Trainer(config), Batches(config)
    batch = batches.batch(0)
    with pytest.raises(FloatingPointError, match="step 0"):
        trainer.train_step(replace(batch, photos=batch.photos * float("nan")))


def test_strokes_move_with_picture_and_canvas_and_follow_tone():
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


def test_grey_pictures_give_the_features_of_equal_colour_channels():
    vgg = losses.Vgg16(VGG)
    luma = torch.rand(1, 1, 32, 32)
    mean = torch.tensor([123.68, 116.779, 103.939]).view(1, 3, 1, 1)
    with torch.no_grad():
        grey, colour = vgg.grey(luma), vgg.conv1_1(255 * luma.repeat(1, 3, 1, 1) - mean)
    assert torch.allclose(grey[..., 1:-1, 1:-1], colour[..., 1:-1, 1:-1], rtol=1e-4, atol=1e-2)

"""Train styles on a canvas of noise: ``python -m train.styles NAME --content PHOTOS --pictures PAINTINGS --out RUNS``.

Of those that ship, only ``cartoon`` is made so; the others had these recipes before they got a steered canvas.

A recipe is one or more runs of the first stage: learn the painter fast (small crops and batches: many steps count
for more than large ones), then settle from there, with more weight on stability or with less, which is sharper. The
result is a mean of their weights, its change of luma raised by some percent.

Most continue from there: some hundred steps of the second stage against the image itself (VGG16 and the patch
discriminator), which makes it look like one, and leaves a grid of the network's cells and less stability; then a run
that imitates that from noisy photos, each painted at four positions of the cells, which takes both away.

``--size-class fast`` trains the fast network of ``cartoon``: it imitates what the default one makes of clean
photos, from noisy ones (Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network").
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from engines.export import export_style, load_generator
from rtstyle.generator import PLANE_CHANNELS, SHAPES, with_weights
from rtstyle.style import list_styles, load_style
from train.batches import Config
from train.trainer import train


@dataclass(frozen=True)
class Settling:
    """A run that continues from the first one."""

    steps: int
    weight: float
    """Of the consistency term; in the first run it is 60."""
    share: float = 1
    """Of its weights in the result; what is left to 1 is the first run's."""


@dataclass(frozen=True, kw_only=True)
class Refining:
    """The second stage, and the run that imitates what it made."""

    picture: str
    """File name, without its extension, of what it is trained against."""
    grey: bool = False
    steps: int = 500
    weight: float = 150
    """Of the consistency term."""
    canvas: float = 1
    """Factor of the canvas in what is imitated: below 1, strokes of flats are fainter."""
    strength: float = 1
    """Factor of the residual's luma in what is imitated."""
    imitating: int = 4000
    """Steps of the last run."""
    imitating_weight: float = 60
    """Of its consistency term."""
    flat_strokes: float = 1


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one style is trained from the shipped base; its painter has its name."""

    picture: str | None = None
    """File name, without its extension, of the painting that gives the palette."""
    learn: int
    """Steps of the first run."""
    settlings: tuple[Settling, ...] = ()
    strength: float = 1
    """Factor of the residual's luma in the result of the first stage."""
    refining: Refining | None = None


RECIPES = {
    "cartoon": Recipe(learn=14000, settlings=(Settling(8000, 20),)),
    "composition_vii": Recipe(
        picture="composition_vii",
        learn=12000,
        strength=1.12,
        refining=Refining(picture="composition_vii", canvas=0.85, strength=1.22),
    ),
    "etching": Recipe(
        learn=12500,
        settlings=(Settling(2800, 150, 0.5), Settling(9500, 15, 0.5)),
        refining=Refining(picture="seaport_etching", grey=True, steps=400, weight=200),
    ),
    "great_wave": Recipe(
        picture="great_wave",
        learn=1000,
        refining=Refining(picture="great_wave", steps=860, weight=200, imitating=3000),
    ),
    "ink": Recipe(
        learn=10000,
        settlings=(Settling(1500, 300, 0.9),),
        refining=Refining(picture="bamboo_ink", grey=True, steps=400, weight=200, imitating_weight=200),
    ),
    "red_chalk": Recipe(learn=2750, refining=Refining(picture="red_chalk_woman", grey=True, steps=400, weight=200)),
    "starry_night": Recipe(
        picture="starry_night",
        learn=7000,
        settlings=(Settling(1000, 150, 0.5),),
        strength=1.035,
        refining=Refining(picture="starry_night", canvas=0.98, strength=1.1, flat_strokes=0.5),
    ),
    "water_lilies": Recipe(
        picture="water_lilies", learn=5000, refining=Refining(picture="water_lilies", strength=1.08)
    ),
}


def runs_of(name: str, content: str, pictures: Path) -> list[Config]:
    """Return the runs of a recipe: the first, and those that continue from it.

    Raises:
        ValueError: There is no such recipe, or its image is not there.
    """
    if name not in RECIPES:
        raise ValueError(f"no recipe {name!r} (there are: {', '.join(RECIPES)})")
    recipe = RECIPES[name]
    own = _picture(name, recipe.picture, pictures) if recipe.picture is not None else ()
    learn = Config(
        content=(content,),
        pictures=own,
        painter=name,
        color=bool(own),
        base=str(Path(__file__).parent / "weights" / "base.safetensors"),
        steps=recipe.learn,
        warm_steps=recipe.learn,
        warm_crop=128,
        warm_batch=2,
        warm_rate=2e-3,
        shift_weight=60,
    )
    # The cosine of the rate is nearly at its end there: 5e-3 means about 7e-4 at first.
    settling = [
        replace(
            learn,
            steps=recipe.learn + more.steps,
            warm_steps=recipe.learn + more.steps,
            warm_rate=5e-3 if more.steps < recipe.learn / 2 else 2e-3,
            shift_weight=more.weight,
        )
        for more in recipe.settlings
    ]
    return [learn, *settling]


def _picture(name: str, picture: str, pictures: Path) -> tuple[tuple[str, float], ...]:
    found = sorted(pictures.glob(f"{picture}.*"))
    if not found:
        raise ValueError(f"{name} needs the image {picture}.jpg, which is not in {pictures}")
    return ((str(found[0]), 1.0),)


def second_run(name: str, refining: Refining, begun: Path, content: str, pictures: Path) -> Config:
    """Return the run of the second stage from the style in ``begun``.

    Raises:
        ValueError: Its image is not there.
    """
    return Config(
        content=(content,),
        pictures=_picture(name, refining.picture, pictures),
        painter=name,
        color=not refining.grey,
        base=str(begun),
        steps=refining.steps,
        warm_steps=0,
        adversarial_weight=0.4,
        content_weight=0.02,
        shift_weight=refining.weight,
    )


def imitation(refining: Refining, teacher: Path, content: str) -> Config:
    """Return the run that imitates the style in ``teacher`` from noisy photos."""
    return Config(
        content=(content,),
        painter=str(teacher),
        color=True,
        base=str(teacher),
        flat_strokes=refining.flat_strokes,
        steps=refining.imitating,
        warm_steps=refining.imitating,
        warm_rate=1e-3,
        shift_weight=refining.imitating_weight,
    )


def distillation(name: str, content: str, size_class: str) -> Config:
    """Return the run that teaches a network of another size what the shipped style's default one draws.

    Raises:
        ValueError: There is no such style, or it draws on a steered canvas.
    """
    if name not in list_styles():
        raise ValueError(f"no style {name!r} (there are: {', '.join(list_styles())})")
    if load_style(name).steered:
        raise ValueError(f"{name} draws on a steered canvas: see python -m train.steered --size-class {size_class}")
    return Config(
        content=(content,),
        painter=str(load_style(name).folders[0][0]),
        color=True,
        base="",
        size_class=size_class,
        steps=9000,
        warm_steps=9000,
        warm_crop=128,
        warm_batch=2,
        warm_rate=3e-3,
        shift_weight=15,
    )


def finish(recipe: Recipe, runs: list[Path], out: Path) -> None:
    """Mix the generators of a recipe's runs, set the strength, and write generator.pt into ``out``."""
    shares = [1 - sum(more.share for more in recipe.settlings), *(more.share for more in recipe.settlings)]
    weights = [torch.load(run / "generator.pt", weights_only=True) for run in runs]
    last = {key: sum(share * w[key] for share, w in zip(shares, weights, strict=True)) for key in weights[0]}
    out.mkdir(parents=True, exist_ok=True)
    torch.save(strengthened(last, recipe.strength), out / "generator.pt")


def strengthened(weights: dict[str, torch.Tensor], luma: float, canvas: float = 1) -> dict[str, torch.Tensor]:
    """Return weights whose residual's luma, and whose canvas, are multiplied."""
    result = {key: value.clone() for key, value in weights.items()}
    for key in ("tail.weight", "tail.bias", "skip.weight"):
        result[key][:16] *= luma  # the 16 channels of luma
    result["stem.conv.weight"][:, PLANE_CHANNELS:] *= canvas
    return result


def refine(name: str, refining: Refining, first: Path, content: str, pictures: Path, out: Path) -> Path:
    """Run the second stage from the generator in ``first``, and what imitates it; return the folder of the last run."""
    begun, second, teacher, last = (out / f"{name}-{what}" for what in ("begun", "second", "teacher", "last"))
    if not (begun / "trunk.onnx").exists():
        export_style(load_generator(first / "generator.pt"), begun)
    _train(second_run(name, refining, begun, content, pictures), second)
    if not (teacher / "trunk.onnx").exists():
        weights = torch.load(second / "generator.pt", weights_only=True)
        export_style(with_weights(strengthened(weights, refining.strength, refining.canvas)), teacher)
    _train(imitation(refining, teacher, content), last)
    return last


def _train(config: Config, out: Path, start_from: Path | None = None) -> None:
    """Run it, or continue with it, unless it is done."""
    begun = (out / "checkpoint.pt").exists()
    if not (out / "generator.pt").exists():
        train(config, out, resume=begun, start_from=None if begun else start_from, every=500)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m train.styles", description="Train shipped styles; see the module.")
    parser.add_argument("names", nargs="+", metavar="NAME", help=f"{', '.join(RECIPES)}; of other networks any style")
    parser.add_argument("--size-class", choices=SHAPES, default="default", help="of the network (default: %(default)s)")
    parser.add_argument("--content", required=True, help="folder of photos")
    parser.add_argument("--pictures", type=Path, default=Path("."), metavar="FOLDER", help="where the paintings are")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="of the runs; a second call continues"
    )
    args = parser.parse_args()
    if not Path(args.content).is_dir():
        print(f"train: error: there is no folder {args.content}", file=sys.stderr)
        return 1
    try:
        if args.size_class == "default":
            recipes = {name: runs_of(name, args.content, args.pictures) for name in args.names}
            for name in args.names:
                refining = RECIPES[name].refining
                if refining:
                    _picture(name, refining.picture, args.pictures)
        else:
            recipes = {name: [distillation(name, args.content, args.size_class)] for name in args.names}
    except ValueError as error:
        print(f"train: error: {error}", file=sys.stderr)
        return 1
    for name, configs in recipes.items():
        folders: list[Path] = []
        for number, config in enumerate(configs, 1):
            out = args.out / f"{name}-{number if args.size_class == 'default' else args.size_class}"
            _train(config, out, folders[0] / "checkpoint.pt" if folders else None)
            folders.append(out)
        result = folders[0]
        if args.size_class == "default":
            result, refining = args.out / name, RECIPES[name].refining
            finish(RECIPES[name], folders, result)
            if refining:
                result = refine(name, refining, result, args.content, args.pictures, args.out)
        print(f"{name}: {result / 'generator.pt'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Train shipped styles again: ``python -m train.styles NAME ... --content PHOTOS --pictures PAINTINGS --out RUNS``.

A recipe is one or more runs of the first stage: learn the painter fast (small crops and batches: many steps count
for more than large ones), then settle from there, with more weight on stability or with less, which is sharper. The
result is a mean of their weights, its change of luma raised by some percent.

``--size-class fast`` trains the fast network of any shipped style: it imitates what the default one makes of clean
photos, from noisy ones (Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network").
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from rtstyle.generator import SHAPES
from rtstyle.style import list_styles, load_style
from train.trainer import Config, train


@dataclass(frozen=True)
class Settling:
    """A run that goes on from the first one."""

    steps: int
    weight: float
    """Of the consistency term; in the first run it is 60."""
    share: float = 1
    """Of its weights in the result; what is left to 1 is the first run's."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one style is trained from the shipped base; its painter has its name."""

    picture: str | None = None
    """File name, without its ending, of the painting that gives the palette."""
    learn: int
    """Steps of the first run."""
    settlings: tuple[Settling, ...] = ()
    strength: float = 1
    """Factor of the residual's luma in the result."""


RECIPES = {
    "cartoon": Recipe(learn=14000, settlings=(Settling(8000, 20),)),
    "composition_vii": Recipe(picture="composition_vii", learn=12000, strength=1.12),
    "etching": Recipe(learn=12500, settlings=(Settling(2800, 150, 0.5), Settling(9500, 15, 0.5))),
    "ink": Recipe(learn=10000, settlings=(Settling(1500, 300, 0.9),)),
    "starry_night": Recipe(picture="starry_night", learn=7000, settlings=(Settling(1000, 150, 0.5),), strength=1.035),
    "water_lilies": Recipe(picture="water_lilies", learn=5000),
}


_FIRST = "red_chalk"
"""The style whose network of another size is learnt first; the others start from it."""


def runs_of(name: str, content: str, pictures: Path) -> list[Config]:
    """Return the runs of a recipe: the first, and those that go on from it.

    Raises:
        ValueError: There is no such recipe, or its picture is not there.
    """
    if name not in RECIPES:
        raise ValueError(f"no recipe {name!r} (there are: {', '.join(RECIPES)})")
    recipe = RECIPES[name]
    own: tuple[tuple[str, float], ...] = ()
    if recipe.picture is not None:
        found = sorted(pictures.glob(f"{recipe.picture}.*"))
        if not found:
            raise ValueError(f"{name} needs the picture {recipe.picture}.jpg, which is not in {pictures}")
        own = ((str(found[0]), 1.0),)
    learn = Config(
        content=(content,),
        pictures=own,
        painter=name,
        colour=bool(own),
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


def distillation(name: str, content: str, size_class: str) -> Config:
    """Return the run that teaches a network of another size what the shipped style's default one draws.

    It starts from what another style's network of that size learnt, where there is one.

    Raises:
        ValueError: There is no such style.
    """
    if name not in list_styles():
        raise ValueError(f"no style {name!r} (there are: {', '.join(list_styles())})")
    base = load_style(_FIRST).folders[0][0] / size_class
    begins = name == _FIRST or not base.is_dir()
    steps = 9000 if begins else 7000
    return Config(
        content=(content,),
        painter=str(load_style(name).folders[0][0]),
        colour=True,
        base="" if begins else str(base),
        size_class=size_class,
        steps=steps,
        warm_steps=steps,
        warm_crop=128,
        warm_batch=2,
        warm_rate=3e-3 if begins else 2e-3,
        shift_weight=15,
    )


def finish(recipe: Recipe, runs: list[Path], out: Path) -> None:
    """Mix the generators of a recipe's runs, set the strength, and write generator.pt into ``out``."""
    shares = [1 - sum(more.share for more in recipe.settlings), *(more.share for more in recipe.settlings)]
    weights = [torch.load(run / "generator.pt", weights_only=True) for run in runs]
    last = {key: sum(share * w[key] for share, w in zip(shares, weights, strict=True)) for key in weights[0]}
    for key in ("tail.weight", "tail.bias", "skip.weight"):
        last[key][:16] *= recipe.strength  # the 16 channels of luma
    out.mkdir(parents=True, exist_ok=True)
    torch.save(last, out / "generator.pt")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m train.styles", description="Train shipped styles; see the module.")
    parser.add_argument("names", nargs="+", metavar="NAME", help=f"{', '.join(RECIPES)}; of other networks any style")
    parser.add_argument("--size-class", choices=SHAPES, default="default", help="of the network (default: %(default)s)")
    parser.add_argument("--content", required=True, help="folder of photos")
    parser.add_argument("--pictures", type=Path, default=Path("."), metavar="FOLDER", help="where the paintings are")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="of the runs; a second call goes on")
    args = parser.parse_args()
    if not Path(args.content).is_dir():
        print(f"train: error: there is no folder {args.content}", file=sys.stderr)
        return 1
    try:
        if args.size_class == "default":
            recipes = {name: runs_of(name, args.content, args.pictures) for name in args.names}
        else:
            recipes = {name: [distillation(name, args.content, args.size_class)] for name in args.names}
    except ValueError as error:
        print(f"train: error: {error}", file=sys.stderr)
        return 1
    for name, configs in recipes.items():
        folders: list[Path] = []
        for number, config in enumerate(configs, 1):
            out = args.out / f"{name}-{number if args.size_class == 'default' else args.size_class}"
            begun = (out / "checkpoint.pt").exists()
            if not (out / "generator.pt").exists():
                before = folders[0] / "checkpoint.pt" if folders and not begun else None
                train(config, out, resume=begun, start_from=before, every=500)
            folders.append(out)
        result = folders[0]
        if args.size_class == "default":
            result = args.out / name
            finish(RECIPES[name], folders, result)
        print(f"{name}: {result / 'generator.pt'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

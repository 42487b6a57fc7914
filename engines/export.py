"""From a trained generator to a style folder: ``python -m engines.export RUN/generator.pt STYLE_FOLDER``.

A fast or fine generator of a style that exists goes into the folder of that name in it: ``.../STYLE_FOLDER/fast``.
"""

from __future__ import annotations

import argparse
import json
import warnings
from datetime import date
from pathlib import Path
from typing import Any

import onnx
import torch

from rtstyle.generator import PLANE_CHANNELS, SHAPES, Generator, with_weights
from rtstyle.style_folder import STYLE_FORMAT

OPSET = 17


class _Parts(torch.nn.Module):
    """What a trunk.onnx holds of a generator."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        for name, module in generator.named_children():
            self.add_module(name, module)
        self._parts = [generator.parts]

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self._parts[0](x, z)


def export_trunk(generator: Generator, path: Path) -> None:
    """Write a folded generator as the float32 ONNX that a style ships; height and width stay free."""
    x, z = torch.zeros(1, PLANE_CHANNELS, 16, 24), torch.zeros(1, generator.canvas, 16, 24)
    outputs = ["s", "g"] if generator.steered else ["s"]  # engines multiply strokes by the gains themselves
    with warnings.catch_warnings():
        # The exporter without onnxscript writes the plain graph that graph.py expects.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            _Parts(generator.float().eval().to(memory_format=torch.contiguous_format)),
            (x, z),
            str(path),
            input_names=["x", "z"],
            output_names=outputs,
            dynamic_axes={name: {2: "rows", 3: "columns"} for name in ("x", "z", *outputs)},
            opset_version=OPSET,
            dynamo=False,
        )
    onnx.checker.check_model(onnx.load(str(path)))


def load_generator(path: Path) -> Generator:
    """Load the generator.pt that the trainer wrote (weights only, no code)."""
    return with_weights(torch.load(path, weights_only=True))


def words_of_run(run: Path) -> dict[str, Any]:
    """Say how a run trained its style, from the config.json that the trainer wrote; empty where there is none."""
    if not (run / "config.json").is_file():
        return {}
    config = json.loads((run / "config.json").read_text("utf-8"))
    late = config["steps"] - config["warm_steps"]
    words = f"python -m train: {config['warm_steps']} steps taught by the painter {config['manner']}"
    if late > 0:
        against = "the image itself" if config["style"] else "what it paints"
        words += f", then {late} against {against} (VGG16 and a patch discriminator)"
    return {"format": STYLE_FORMAT, **config["style_json"], "kind": config["kind"], "trained_by": words}


def export_style(generator: Generator, folder: Path, words: dict[str, Any] | None = None) -> None:
    """Write trunk.onnx, and a style.json to be completed by hand where there is none yet.

    Args:
        words: Entries of style.json beside its name, such as ``words_of_run`` returns.
    """
    folder.mkdir(parents=True, exist_ok=True)
    export_trunk(generator, folder / "trunk.onnx")
    path = folder / "style.json"
    if not path.exists():
        name = folder.resolve().name
        metadata = {
            "format": 1,
            "name": name,
            "title": name,
            "kind": "painting",
            "date": f"{date.today()}",
            "rights": [],
            "metrics": {},
            **(words or {}),
        }
        if name in SHAPES and (folder.resolve().parent / "style.json").is_file():  # of a style that is there
            whole = json.loads((folder.resolve().parent / "style.json").read_text("utf-8"))
            kept = {entry: whole[entry] for entry in ("name", "title", "kind", "rights") if entry in whole}
            metadata |= {"size_class": name, **kept}
        path.write_text(json.dumps(metadata, indent=1) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m engines.export", description=__doc__)
    parser.add_argument("generator", type=Path, help="generator.pt of a training run")
    parser.add_argument("style", type=Path, help="style folder to write")
    args = parser.parse_args()
    export_style(load_generator(args.generator), args.style, words_of_run(args.generator.parent))
    print(f"wrote {args.style}; name in its style.json, under rights, what it was trained on")


if __name__ == "__main__":
    main()

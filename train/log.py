"""The log of a run: log.csv, the terminal, and TensorBoard where it is installed."""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from train import losses


class Log:
    """Means of the terms since the last row: log.csv, the terminal, and TensorBoard where it is installed."""

    _COLUMNS = (
        "step", "seconds", "strokes", "shift", "warp", "chroma", "tone", "content", *losses.VGG_LAYERS, "adversarial",
        "discriminator", "accuracy", "shift_db", "noise_db", "source_db",
    )  # fmt: skip

    def __init__(self, out: Path, *, fresh: bool) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self._path = out / "log.csv"
        if fresh:
            self._path.unlink(missing_ok=True)
        self._recent: dict[str, list[float]] = {}
        self._begun = time.perf_counter()
        try:
            from torch.utils.tensorboard import SummaryWriter

            self._board: Any = SummaryWriter(str(out))  # type: ignore[no-untyped-call]
        except ImportError:
            self._board = None

    def add(self, terms: dict[str, float]) -> None:
        """Note one step."""
        for name, value in terms.items():
            self._recent.setdefault(name, []).append(value)

    def write(self, step: int, figures: dict[str, float]) -> None:
        """Write one row: the means of the steps noted, and ``figures``."""
        row = {"step": step, "seconds": round(time.perf_counter() - self._begun, 1)}
        row |= {name: round(float(np.mean(values)), 5) for name, values in self._recent.items()}
        row |= {name: round(value, 3) for name, value in figures.items()}
        self._recent.clear()
        new = not self._path.exists()
        with self._path.open("a", newline="") as file:
            writer = csv.DictWriter(file, self._COLUMNS)
            if new:
                writer.writeheader()
            writer.writerow(row)
        tqdm.write("  ".join(f"{name} {value:g}" for name, value in row.items()), file=sys.stderr)
        if self._board is not None:
            for name, value in row.items():
                self._board.add_scalar(name, value, step)
            self._board.flush()

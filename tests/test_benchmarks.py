"""The benchmark tells the truth about itself: what it counts, compares and refuses. No figure is judged here."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import machine
import rivals
import tables

from rtstyle import load_style

ROOT = Path(__file__).parents[1]


def run(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "fps.py"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)


def test_operations_are_counted_as_by_hand():
    net = rivals.classic_net()
    weights = sum(int(np.prod(array.dims)) for array in net.graph.initializer if len(array.dims) == 4)
    by_hand = sum(
        2 * side * side * given * made * 1280 * 720 / shrunk**2
        for side, given, made, shrunk in (
            (9, 3, 32, 1), (3, 32, 64, 2), (3, 64, 128, 4), *[(3, 128, 128, 4)] * 10,
            (3, 128, 64, 2), (3, 64, 32, 1), (9, 32, 3, 1),
        )
    )  # fmt: skip
    assert weights == 9 * (32 * 64 * 2 + 64 * 128 * 2 + 10 * 128 * 128) + 2 * 81 * 3 * 32
    assert machine.operations(net, {"x": (1, 3, 720, 1280)}) == pytest.approx(by_hand / 1e9)


def test_our_own_network_is_as_large_as_is_stated():
    trunk = load_style("sketch").trunk.model
    counted = machine.operations(trunk, {"x": (1, 24, 180, 320), "z": (1, 40, 180, 320)})
    assert 10.5 < counted < 12


def test_the_classic_net_is_a_frame_to_frame_function():
    stylize = rivals.classic_openvino()
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    result = stylize(picture)
    assert result.shape == picture.shape
    assert result.dtype == np.uint8
    assert result.std() > 0


def test_a_rival_that_is_not_there_says_so():
    for words in ("no_such_package:stylize", "math:no_such_function", ""):
        with pytest.raises(rivals.NotHere, match=r"package\.module:function"):
            rivals.named(words)()


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="the system does not tell its load")
def test_the_load_of_others_is_seen_and_our_own_is_not():
    def busy(seconds: float) -> str:
        return f"import time\nend = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"

    others = machine.Others()
    with subprocess.Popen([sys.executable, "-c", busy(2.0)]) as process:
        time.sleep(1.0)
        seen = others.cores()  # of a child that has not ended: not ours yet
        process.terminate()
    exec(busy(0.5))
    others.cores()
    exec(busy(0.5))
    assert seen > 0.3
    assert others.cores() < machine.cores() - 0.3  # our half second is none of theirs, however busy it is here


def test_figures_of_two_runs_are_compared_row_by_row():
    old = {"when": "then", "models": [{"size": "720p", "engine": "openvino", "precision": "bf16", "fps": 20.0}]}
    new = {"models": [{"size": "720p", "engine": "openvino", "precision": "bf16", "fps": 25.0}, {"size": "4k"}]}
    assert "| models: 720p openvino default bf16, fps | 20 | 25 | 1.25 |" in tables.compare(old, new)


def test_a_short_run_writes_what_it_measured(tmp_path):
    done = run(
        "--busy", "--sections", "models", "files", "start", "--sizes", "360p", "--frames", 6, "--rounds", 1,
        "--seconds", 0.05, "--backends", "openvino", "--precisions", "f32", "--json", tmp_path / "a.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "a.json").read_text())
    (model,) = result["models"]
    assert (model["size"], model["engine"], model["precision"]) == ("360p", "openvino", "f32")
    (film,) = result["files"]
    assert film["frames"] == 6
    assert film["cores_busy"] == pytest.approx(film["cpu_ms"] * film["fps"] / 1000, abs=0.02)
    assert set(result["load_of_others"]) == {"before", "models", "files", "start"}
    assert result["start"][0]["command"] == "rtstyle --help"
    assert f"| {model['fps']:g} |" in done.stdout

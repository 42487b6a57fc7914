"""The workshop's tools: the table of all engines, building ahead, the check of a GPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from test_engines import frame_of, one_thread_where_torch_is, random_planes, scene  # noqa: F401  (a fixture)

pytest.importorskip("torch", reason="the reference is torch in float32")
pytest.importorskip("onnxruntime")

from engines.check_gpu import _tried, fps_of
from engines.compare import compare, read_frames, table
from rtstyle.backends import PRECISIONS, open_engine
from rtstyle.backends.accuracy import BOUNDS
from rtstyle.backends.cuda import driver_problem
from rtstyle.errors import DeviceError
from rtstyle.frame import Size

ROOT = Path(__file__).parents[1]
SIZE = Size(64, 48)

no_gpu = pytest.mark.skipif(driver_problem() is None, reason="there is a GPU here")


def test_the_table_has_every_engine_and_each_that_runs_is_within_its_bound(random_style):
    rows = compare(random_style, [frame_of(scene(SIZE, seed), canvas=(seed, 3 * seed)) for seed in range(3)])
    named = {(row.backend.split()[0], row.precision) for row in rows}
    assert {(backend, precision) for backend, able in PRECISIONS.items() for precision in able} <= named
    ran = [row for row in rows if not row.not_run]
    assert {
        "openvino",
        "onnxruntime",
        "torch on cpu",
        "graph of tensorrt, i420",
        "graph of tensorrt, nv12",
        "module of torch on cuda, on cpu",
    } <= {row.backend for row in ran}
    for row in ran:
        assert row.untouched, row
        assert row.largest is not None
        assert row.mean is not None
        assert row.largest <= BOUNDS[row.precision].largest, row
        assert row.mean <= BOUNDS[row.precision].mean, row
        assert row.ms > 0
    (reference,) = (row for row in ran if (row.backend, row.precision) == ("torch on cpu", "f32"))
    assert (reference.largest, reference.psnr_db) == (0, None)
    lines = table(rows).splitlines()
    assert len(lines) == len(rows) + 2
    for row in rows:
        if row.not_run:
            assert any(f"| {row.backend} | {row.precision} | not run: {row.not_run}" in line for line in lines)


def test_frames_are_read_apart_from_one_another():
    frames = read_frames(ROOT / "demo" / "big_buck_bunny.mp4", 3, 10)
    assert len(frames) == 3
    assert len({frame.pts for frame in frames}) == len({frame.canvas for frame in frames}) == 3


@no_gpu
def test_without_a_gpu_the_check_says_so_in_one_line_and_fails():
    done = subprocess.run([sys.executable, "-m", "engines.check_gpu"], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("nothing to check: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_step_of_the_check_that_fails_is_reported_and_the_lines_before_it_stay():
    def step():
        yield "- first"
        raise DeviceError("CUDA says:\n out of memory")

    assert list(_tried("copies", step())) == ["- first", "- copies: FAILED, DeviceError: CUDA says: out of memory"]


def test_frames_per_second_are_counted_over_the_time_that_was_given(random_style):
    with open_engine(random_style, SIZE, backend="onnxruntime") as engine:
        assert fps_of(engine, [frame_of(random_planes(SIZE, seed)) for seed in range(3)], 0.2) > 5


def test_engines_are_built_ahead_for_several_sizes_and_copied(tmp_path, monkeypatch):
    pytest.importorskip("tensorrt_rtx")
    monkeypatch.setenv("RTSTYLE_CACHE", str(tmp_path / "cache"))
    words = ["sketch", "64x48", "any", "--target", "sm86,sm89", "--copy-to", str(tmp_path / "copied")]
    done = subprocess.run([sys.executable, "-m", "engines.build", *words], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    plans = sorted((tmp_path / "copied").glob("*.plan"))
    assert [plan.name.partition("-")[0] for plan in plans] == ["sketch_64x48_f16", "sketch_dynamic_f16"]
    assert all(json.loads(plan.with_suffix(".json").read_text())["targets"] == ["sm86", "sm89"] for plan in plans)
    refused = subprocess.run(
        [sys.executable, "-m", "engines.build", "sketch", "64x48", "--target", "sm90"],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)

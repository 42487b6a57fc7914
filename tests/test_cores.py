"""Threads are counted by what a container leaves, and wait without burning it."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

from rtstyle import Controls, Frame, Size, cores, open_engine


def group(root, name: str, limit: str):
    folder = root / name if name else root
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.max").write_text(limit + "\n")


@pytest.mark.parametrize(
    ("limits", "own", "quota"),
    [
        ({}, "0::/\n", None),
        ({"": "max 100000"}, "0::/\n", None),
        ({"": "150000 100000"}, "0::/\n", 1.5),
        ({"": "max 100000", "a": "400000 100000", "a/b": "max 100000"}, "0::/a/b\n", 4),
        ({"a": "50000 100000", "a/b": "400000 100000"}, "0::/a/b\n", 0.5),
        ({"": "rubbish"}, "0::/\n", None),
        ({"": "200000 100000"}, "", 2),
    ],
)
def test_the_quota_of_a_container_is_the_least_of_its_groups(tmp_path, limits, own, quota):
    for name, limit in limits.items():
        group(tmp_path / "cgroup", name, limit)
    (tmp_path / "own").write_text(own)
    assert cores.cpu_quota(tmp_path / "cgroup", tmp_path / "own") == quota


def test_version_1_of_control_groups_is_read_too(tmp_path):
    folder = tmp_path / "cpu,cpuacct" / "docker" / "x"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text("250000\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "own").write_text("5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n")
    assert cores.cpu_quota(tmp_path, tmp_path / "own") == 2.5


@pytest.mark.parametrize(("quota", "count"), [(None, None), (0.3, 1), (1.0, 1), (1.2, 2), (1000.0, None)])
def test_cores_are_what_affinity_and_quota_leave(monkeypatch, quota, count):
    able = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    monkeypatch.setattr(cores, "cpu_quota", lambda: quota)
    assert cores.cores() == (able if count is None else min(able, count))


def test_onnxruntime_does_not_spin_between_frames():
    pytest.importorskip("onnxruntime")
    rgb = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    with open_engine("sketch", Size(320, 240), backend="onnxruntime", precision="f32", mode="latency") as engine:
        frame = Frame.from_rgb(rgb, color=engine.color)

        def cpu_of(pause: float) -> float:
            begin = time.process_time()
            for _ in range(20):
                engine.submit(frame, Controls())
                engine.next()
                time.sleep(pause)
            return time.process_time() - begin

        cpu_of(0)
        without = cpu_of(0)
        assert cpu_of(0.03) < 1.5 * without + 0.1

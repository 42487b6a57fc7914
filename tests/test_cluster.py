"""A Ray cluster of three nodes on this machine gives the bytes of a local render, also where nodes are lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import Sound, make_clip, moving_bar

from rtstyle.backends import Controls, EngineSettings
from rtstyle.cores import RESTING_THREADS, core_numbers, cores
from rtstyle.errors import BackendUnavailableError, VideoOpenError
from rtstyle.mask.settings import MaskSettings
from rtstyle.render import RenderOptions, cluster, plan_render, segments, stylize_video
from rtstyle.render.batch import stylize_many
from rtstyle.render.coordinate import Coordinator, render_with
from rtstyle.render.many import FarmBatch
from rtstyle.style import load_style
from rtstyle.video import EncoderSettings

pytestmark = pytest.mark.slow

FRAMES, SEGMENT = 200, 10
SETTINGS = {
    "style": "sketch",
    "engine": EngineSettings(backend="openvino", precision="f32"),
    "encoder": EncoderSettings(preset="ultrafast"),
}


@pytest.fixture(scope="module")
def ray():
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    return pytest.importorskip("ray", reason="Ray is not installed: pip install '.[cluster]'")


@pytest.fixture(scope="module")
def three_nodes(ray):
    """A head without cores, and two nodes of one core; tests may add some."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80 << 20}
    made = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        made.add_node(num_cpus=1, object_store_memory=80 << 20)
    yield made
    made.shutdown()


@pytest.fixture(autouse=True)
def short_segments(monkeypatch):
    monkeypatch.setattr(segments, "segment_frames", lambda size: SEGMENT)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "in.mp4"
    pictures = [moving_bar(320, 240, number) for number in range(FRAMES)]
    return make_clip(
        path, pictures, width=320, height=240, times=range(FRAMES), sounds=[Sound(seconds=8)], options={"g": "50"}
    )


@pytest.fixture(scope="module")
def whole(clip) -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "segment_frames", lambda size: SEGMENT)
        stylize_video(clip, clip.with_name("whole.mp4"), **SETTINGS)
    return clip.with_name("whole.mp4").read_bytes()


def render(address: str, source: Path, target: Path, *, progress=None, resume: bool = False):
    options = RenderOptions(cluster=address, resume=resume)
    plan = plan_render(source, target, **SETTINGS, options=options)
    return render_with(plan, cluster.RayPool(address), progress)


def test_nodes_give_the_bytes_of_one_machine(three_nodes, clip, whole, tmp_path):
    report = stylize_video(clip, tmp_path / "out.mp4", **SETTINGS, options=RenderOptions(cluster=three_nodes.address))
    assert (tmp_path / "out.mp4").read_bytes() == whole
    assert len([node for node in report.nodes if node["frames"]]) == 2
    assert report.warnings == []


@pytest.mark.parametrize("kind", ["file", "person"])
def test_nodes_mask_as_one_machine_does(kind, three_nodes, clip, whole, tmp_path):
    if kind == "file":
        left = np.zeros((240, 320), np.uint8)
        left[:, :160] = 255
        cv2.imwrite(str(tmp_path / "mask.png"), left)
    mask = MaskSettings(source="person" if kind == "person" else tmp_path / "mask.png")
    for target, more in (("one.mp4", {}), ("nodes.mp4", {"cluster": three_nodes.address})):
        stylize_video(clip, tmp_path / target, **SETTINGS, options=RenderOptions(mask=mask, **more))
    assert (tmp_path / "nodes.mp4").read_bytes() == (tmp_path / "one.mp4").read_bytes() != whole


def test_nodes_of_one_and_of_two_cores_are_equal(three_nodes, clip, whole, tmp_path):
    node = three_nodes.add_node(num_cpus=2, object_store_memory=80 << 20)
    report = render(three_nodes.address, clip, tmp_path / "out.mp4")
    three_nodes.remove_node(node)
    assert (tmp_path / "out.mp4").read_bytes() == whole
    assert len([node for node in report.nodes if node["frames"]]) == 3


@pytest.mark.skipif(cores() < 2, reason="this machine has one core")
def test_nodes_on_one_machine_use_different_cores(three_nodes, ray):
    pool = cluster.RayPool(three_nodes.address)
    try:
        end = time.monotonic() + 60
        while len(pool.slots()) < 2:
            assert time.monotonic() < end
            time.sleep(0.1)
        calls = [each.handle.__ray_call__.remote(lambda self: core_numbers()) for each in pool._actors.values()]
        first, second = ray.get(calls, timeout=60)
    finally:
        pool.close()
    assert len(first) == len(second) == 1
    assert first != second


def test_idle_threads_of_a_node_rest_before_its_libraries_are_loaded(three_nodes, ray):
    pool = cluster.RayPool(three_nodes.address)
    try:
        actor = next(iter(pool._actors.values()))
        begun = ray.get(
            actor.handle.__ray_call__.remote(lambda self: Path("/proc/self/environ").read_bytes().decode()), timeout=60
        )
    finally:
        pool.close()
    assert {f"{name}={value}" for name, value in RESTING_THREADS.items()} <= set(begun.split("\0"))


def test_a_folder_is_divided_among_nodes(three_nodes, clip, whole, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.mp4").write_bytes(clip.read_bytes())
    settings = {**SETTINGS, "style": load_style("sketch")}
    with Coordinator(cluster.RayPool(three_nodes.address)) as coordinator:
        together = FarmBatch(coordinator, controls=Controls(), options=RenderOptions(), **settings)
        report = stylize_many([folder], tmp_path / "out", together)
    assert report.count("done") == 3
    assert {path.read_bytes() for path in (tmp_path / "out").iterdir()} == {whole}


def test_a_node_that_is_killed_costs_its_segments_only(three_nodes, clip, whole, tmp_path, capsys):
    node = three_nodes.add_node(num_cpus=1, object_store_memory=80 << 20)
    killer = threading.Thread(target=lambda: three_nodes.remove_node(node, allow_graceful=False))

    def watch(done: int, total: int | None, words: str) -> None:
        if done and not killer.ident:
            killer.start()

    report = render(three_nodes.address, clip, tmp_path / "out.mp4", progress=watch)
    killer.join()
    assert (tmp_path / "out.mp4").read_bytes() == whole
    assert any("was lost" in warning for warning in report.warnings)
    time.sleep(2)  # in which Ray has something to say of it
    assert capsys.readouterr().out == ""


def test_an_interrupted_render_is_resumed_on_the_cluster_and_here(three_nodes, clip, whole, tmp_path):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def stop(done: int, total: int | None, words: str) -> None:
        if done >= 5 * SEGMENT:
            os.kill(os.getpid(), signal.SIGINT)

    try:
        with pytest.raises(KeyboardInterrupt):
            render(three_nodes.address, clip, tmp_path / "a.mp4", progress=stop)
        with pytest.raises(KeyboardInterrupt):
            stylize_video(clip, tmp_path / "b.mp4", **SETTINGS, progress=stop)
    finally:
        signal.signal(signal.SIGINT, before)
    assert stylize_video(clip, tmp_path / "a.mp4", **SETTINGS, options=RenderOptions(resume=True)).resumed_at
    assert render(three_nodes.address, clip, tmp_path / "b.mp4", resume=True).resumed_at == 5 * SEGMENT
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes() == whole


def test_a_file_that_no_node_sees_is_named(three_nodes, clip, tmp_path):
    source = tmp_path / "in.mp4"
    source.write_bytes(clip.read_bytes())
    plan = plan_render(source, tmp_path / "out.mp4", **SETTINGS)
    source.rename(tmp_path / "elsewhere.mp4")  # the coordinator has it open
    with pytest.raises((VideoOpenError, OSError)):
        render_with(plan, cluster.RayPool(three_nodes.address))
    assert not (tmp_path / "out.mp4").exists()


def test_a_cluster_that_is_not_there_is_one_line(ray, clip, tmp_path):
    with pytest.raises(BackendUnavailableError, match="no Ray cluster answers at 127"):
        stylize_video(clip, tmp_path / "out.mp4", **SETTINGS, options=RenderOptions(cluster="127.0.0.1:1"))

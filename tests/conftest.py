"""What the tests share: a style of random weights, the optional real clips, the backends of this machine."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rtstyle.style import Style, load_style

ENGINES = [
    ("openvino", "f32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
    ("torch", "f32"),
    ("torch", "bf16"),
    ("torch", "f16"),
    ("onnxruntime", "f32"),
    ("onnxruntime", "int8"),
    ("tensorrt", "f16"),
    ("ring", "f16"),
]
"""Every backend in every precision; tests of engines run on all of them. ``ring`` is the ring of the GPU engines
with their graph, on a fake device (see fake_device.py): all of them but the GPU."""


ALONE = {
    "test_benchmarks", "test_browser", "test_camera", "test_camera_trouble", "test_control", "test_cores", "test_live",
    "test_ndi", "test_outlets", "test_session", "test_sources", "test_swap", "test_threads", "test_web", "test_window",
}  # fmt: skip
"""Files of tests that measure time, or talk to themselves over the network: none runs beside another process's."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.stem in ALONE:
            item.add_marker("alone")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Run torch on one thread: on two, small batches mostly wait for each other, and sums are rounded in another order
    when the machine is busy."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def sketch() -> Style:
    """The shipped style."""
    return load_style("sketch")


def make_random_style(folder: Path, *, seed: int, gain: float, steered: bool = False) -> Path:
    """Write a style folder with random weights, also for int8; ``gain`` scales what it does to the frame."""
    torch = pytest.importorskip("torch", reason="random styles are made with torch")
    from engines.export import export_trunk
    from engines.quantize import measure, write_int8
    from rtstyle.backends.accuracy import fixed_frames
    from rtstyle.frame import Color, Size
    from rtstyle.generator import Generator

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generator = Generator(16, 24, 2, canvas=40 if steered else 16)
        with torch.no_grad():
            generator.tail.weight.normal_(0, 0.05 * gain)
            generator.tail.bias.normal_(0, 0.02 * gain)
            generator.skip.weight.normal_(0, 0.05 * gain)
            if steered:
                generator.gate.weight.normal_(0, 0.05 * gain)
                generator.gate.bias.normal_(0, 0.05 * gain)
    folder.mkdir(parents=True, exist_ok=True)
    export_trunk(generator, folder / "trunk.onnx")
    metadata: dict[str, object] = {"format": 1, "name": folder.name}
    if steered:
        # Few tiles, which are painted soon, and tones that change every frame's.
        brush, stream = {"directions": 6, "scales": [1.0, 0.5]}, {"kind": "whirls"}
        tone = {"quantiles": [(i / 64) ** 2 for i in range(65)], "mix": 0.7}
        metadata |= {"format": 2, "canvas": {"brush": brush, "stream": stream}, "tone": tone}
    (folder / "style.json").write_text(json.dumps(metadata))
    style = load_style(folder)
    write_int8(folder, *measure(style.trunk, fixed_frames(Size(128, 96), Color()), style))
    return folder


@pytest.fixture(scope="session")
def random_style(tmp_path_factory: pytest.TempPathFactory) -> Style:
    """Random weights that change every sample by some ten levels."""
    return load_style(make_random_style(tmp_path_factory.mktemp("styles") / "random", seed=1, gain=1))


@pytest.fixture(scope="session")
def steered_style(tmp_path_factory: pytest.TempPathFactory) -> Style:
    """Random weights on a steered canvas, behind a tone curve."""
    return load_style(make_random_style(tmp_path_factory.mktemp("styles") / "steered", seed=3, gain=1, steered=True))


@pytest.fixture(scope="session")
def wild_style(tmp_path_factory: pytest.TempPathFactory) -> Style:
    """Random weights so large that nearly every sample is clipped at strength 1."""
    return load_style(make_random_style(tmp_path_factory.mktemp("styles") / "wild", seed=2, gain=100))


@pytest.fixture(params=ENGINES, ids="-".join)
def kind(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A backend and a precision that this machine has; the others are skipped, or fail where they are required.

    RTSTYLE_REQUIRE=openvino-bf16,torch-f32 makes a missing one an error: a machine that should have it
    must not pass by skipping.
    """
    backend, precision = request.param
    missing = missing_reason(backend, precision)
    if missing:
        required = os.environ.get("RTSTYLE_REQUIRE", "").split(",")
        (pytest.fail if f"{backend}-{precision}" in required else pytest.skip)(missing)
    return backend, precision


def missing_reason(backend: str, precision: str) -> str:
    """Return why this machine cannot run a backend in a precision; empty where it can."""
    if precision == "f16" and backend != "ring":
        from rtstyle.backends.cuda import driver_problem

        if backend == "tensorrt":
            pytest.importorskip("tensorrt_rtx" if importlib.util.find_spec("tensorrt") is None else "tensorrt")
        return driver_problem() or ""
    if backend == "torch":
        try:
            import torch  # noqa: F401
        except ImportError as error:
            return f"torch is not installed: {error}"
    elif precision == "bf16":
        from rtstyle.backends.openvino import native_bf16

        if not native_bf16():
            return "this CPU does not multiply bf16 natively"
    return ""


@pytest.fixture
def real_clips() -> Path:
    """A folder of real clips beside the repository, if there is one."""
    folder = Path(__file__).parents[2] / "shared" / "data" / "video"
    if not folder.is_dir():
        pytest.skip("no folder ../shared/data/video with real clips")
    return folder

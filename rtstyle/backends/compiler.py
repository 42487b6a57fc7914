"""Compiles a planar graph into a plan: TensorRT 10.13 to 11, or TensorRT-RTX; one code path for both.

Precision is in the graph: since version 11 every network is strongly typed. TensorRT-RTX compiles without a
GPU, for those that are named; classic TensorRT for the GPU that is here.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from types import ModuleType
from typing import Any

from rtstyle import graph
from rtstyle.backends.plans import Plan, PlanCache, Recipe
from rtstyle.errors import BackendUnavailableError, SettingError
from rtstyle.files import is_regular, write_whole
from rtstyle.frame import Size
from rtstyle.style import Style

log = logging.getLogger("rtstyle")

BuildProgress = Callable[[str, float], None]
"""Called with the phase of a build and how much of it is done, 0 to 1."""

DYNAMIC = (Size(64, 64), Size(1280, 720), Size(3840, 3840))
"""Smallest, usual and largest size of a plan for changing sizes; upright 4K included."""

_WORKSPACE = 1 << 30
"""Bytes that a plan may use on the GPU beside its activations."""

_OPTIMIZATION = 3
"""TensorRT's own default of how long it looks for fast kernels, 0 to 5."""

_INSTALL = "pip install 'rtstyle[tensorrt-rtx]' (GeForce RTX) or 'rtstyle[tensorrt]'"

_ALIVE: list[Any] = []
"""Objects of ours that TensorRT calls and does not keep alive."""


# -- the library -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Library:
    """TensorRT or TensorRT-RTX, whose Python interfaces are the same as far as we go."""

    trt: Any
    rtx: bool

    @property
    def label(self) -> str:
        """Name and full version."""
        return f"{'tensorrt_rtx' if self.rtx else 'tensorrt'} {self.trt.__version__}"


@cache
def library() -> Library:
    """Import TensorRT, or else TensorRT-RTX.

    Raises:
        ImportError: Neither is installed, or neither loads; with both reasons.
    """
    reasons = []
    for name in ("tensorrt", "tensorrt_rtx"):
        try:
            module = importlib.import_module(name)
        except (ImportError, OSError, RuntimeError) as error:
            reasons.append(f"{name} does not load ({' '.join(str(error).split())})")
            continue
        if name == "tensorrt" and not (10, 13) <= _version(module) < (12,):
            reasons.append(f"tensorrt is {module.__version__}, needed is 10.13 to 11")
            continue
        return Library(module, name == "tensorrt_rtx")
    raise ImportError(f"{', '.join(reasons)}: {_INSTALL}")


def installed() -> str:
    """Return the name of the one that ``library`` would try first, without loading it.

    Raises:
        ImportError: Neither is installed.
    """
    for name in ("tensorrt", "tensorrt_rtx"):
        with suppress(ValueError):  # a name that was blocked
            if importlib.util.find_spec(name) is not None:
                return name
    raise ImportError(f"it is not installed: {_INSTALL}")


def _version(module: ModuleType) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", module.__version__)[:2])


@cache
def logger() -> Any:
    """Return the one logger that TensorRT's objects share; it must outlive them all."""
    trt = library().trt

    class Logger(trt.ILogger):  # type: ignore[name-defined, misc]
        """Keeps what TensorRT complains of, for the one line that is shown in the end."""

        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            """Take a line; TensorRT calls it on any thread."""
            if severity <= trt.ILogger.Severity.ERROR:
                self.errors.append(" ".join(message.split()))
            log.debug("%s", message)

    return Logger()


def _progress_monitor(trt: Any, tell: BuildProgress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Passes the outermost phase on."""

        def __init__(self) -> None:
            super().__init__()
            self._steps: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            """Begin a phase."""
            if parent is None:
                self._steps[phase] = steps
                tell(phase, 0.0)

        def step_complete(self, phase: str, step: int) -> bool:
            """Take a step of a phase; True: continue."""
            if phase in self._steps:
                tell(phase, (step + 1) / self._steps[phase])
            return True

        def phase_finish(self, phase: str) -> None:
            """End a phase."""
            if self._steps.pop(phase, None):
                tell(phase, 1.0)

    return Monitor()


# -- compiling -------------------------------------------------------------------------------------


def targets_of(words: str) -> tuple[str, ...]:
    """Read ``sm86,sm89,sm120``.

    Raises:
        SettingError: One is no such word, or none that this TensorRT-RTX builds for.
    """
    lib = library()
    if not lib.rtx:
        raise SettingError("targets are for tensorrt_rtx; tensorrt builds for the GPU that is here only")
    able = sorted((n.lower() for n in dir(lib.trt.ComputeCapability) if n.startswith("SM")), key=lambda n: int(n[2:]))
    targets = tuple(word.strip().lower() for word in words.split(",") if word.strip())
    for target in targets:
        if target not in able:
            raise SettingError(f"{lib.label} does not build for {target} (it does for {', '.join(able)})")
    if not targets:
        raise SettingError("name at least one target, as in sm86,sm89")
    return tuple(sorted(set(targets), key=lambda n: int(n[2:])))


def plan_target(name: str, capability: tuple[int, int]) -> str:
    """Return what plans for a GPU are marked with: its generation; for classic TensorRT its model too."""
    generation = f"sm{capability[0]}{capability[1]}"
    return generation if library().rtx else f"{generation}_{re.sub(r'[^a-z0-9]+', '_', name.lower())}"


def recipe_of(style: Style, size: Size | None, precision: str, layout: graph.Layout = "i420") -> Recipe:
    """Return what makes the plan of a style; of a size, or of all between those of ``DYNAMIC`` where it is None."""
    lib = library()
    model = graph.planar(style.trunk, size, layout=layout, precision="f16" if precision == "f16" else "f32")
    options = {
        "precision": precision,
        "layout": layout,
        "workspace": _WORKSPACE,
        "optimization": _OPTIMIZATION,
        "shapes": None if size else [str(each) for each in DYNAMIC],
    }
    return Recipe(
        f"{style.name}-{size or 'dynamic'}-{precision}",
        model.SerializeToString(),
        lib.label,
        tuple(sorted(options.items())),
    )


def compile_plan(
    model: bytes,
    targets: tuple[str, ...],
    *,
    dynamic: bool = False,
    timing: bytes | None = None,
    progress: BuildProgress | None = None,
) -> tuple[bytes, bytes]:
    """Compile an ONNX model; the plan, and classic TensorRT's timing cache (else empty).

    Args:
        targets: Of TensorRT-RTX; classic TensorRT builds for the current GPU.
        dynamic: The model's size is open: compile it for all between those of ``DYNAMIC``.
        timing: What an earlier build returned.

    Raises:
        BackendUnavailableError: It cannot be compiled; the message names the node, or says what TensorRT says.
    """
    lib = library()
    trt, lines = lib.trt, logger()
    lines.errors.clear()
    try:
        builder = trt.Builder(lines)
    except TypeError as error:  # how pybind says that there is no CUDA
        raise BackendUnavailableError(f"{lib.label} cannot build here: {said('no usable GPU')}") from error
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, lines)
    if not parser.parse(model):
        raise BackendUnavailableError(f"{lib.label} refuses the graph: {_parser_errors(parser)}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, _WORKSPACE)
    config.builder_optimization_level = _OPTIMIZATION
    if hasattr(trt.BuilderFlag, "TF32"):
        config.clear_flag(trt.BuilderFlag.TF32)  # float32 means float32
    if dynamic:
        profile = builder.create_optimization_profile()
        tensors = {tensor.name: tensor for tensor in map(network.get_input, range(network.num_inputs))}
        channels = tensors[graph.CANVAS].shape[-1]
        for name in (graph.SOURCE, graph.CANVAS):
            profile.set_shape(name, *(graph.planar_shapes(size, channels)[name] for size in DYNAMIC))
        config.add_optimization_profile(profile)
    cache_of_timings = None
    if lib.rtx:
        config.num_compute_capabilities = len(targets)
        for i, target in enumerate(targets):
            known = getattr(trt.ComputeCapability, target.upper(), None)
            if known is None or not config.set_compute_capability(known, i):
                raise BackendUnavailableError(f"{lib.label} does not build for {target}")
    else:
        cache_of_timings = config.create_timing_cache(timing or b"")
        config.set_timing_cache(cache_of_timings, False)
    if progress is not None:
        _ALIVE[:] = [_progress_monitor(trt, progress)]
        config.progress_monitor = _ALIVE[0]
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BackendUnavailableError(f"{lib.label} cannot compile the graph: {said('it gives no reason')}")
    return bytes(plan), bytes(cache_of_timings.serialize()) if cache_of_timings is not None else b""


def _parser_errors(parser: Any) -> str:
    found = []
    for i in range(parser.num_errors):
        error = parser.get_error(i)
        found.append(f"node {error.node_name()!r} ({error.node_operator()}): {' '.join(error.desc().split())}")
    return "; ".join(found) or "it gives no reason"


def said(otherwise: str) -> str:
    """Return what TensorRT complained of last, in one line."""
    return "; ".join(logger().errors[-2:]) or otherwise


def build_plan(
    recipe: Recipe,
    targets: tuple[str, ...],
    cache: PlanCache,
    accept: Callable[[bytes], Any],
    progress: BuildProgress | None = None,
) -> Plan:
    """Compile a recipe in this process and keep the plan, unless another process does so meanwhile.

    Args:
        accept: Says what is known of a plan's accuracy, as a JSON value; raises where it is not good enough.
    """

    def build() -> tuple[bytes, Any]:
        timings = cache.folder / f"{re.sub(r'[^a-z0-9.]+', '_', recipe.builder)}-{targets[0]}.timing"
        known = timings.read_bytes() if is_regular(timings) else None
        dynamic = dict(recipe.options)["shapes"] is not None
        compiled = partial(compile_plan, recipe.graph, targets, dynamic=dynamic, timing=known, progress=progress)
        if library().rtx:
            with ThreadPoolExecutor(1) as fresh:  # a new thread has a heap of its own (glibc): see builder.py
                data, learnt = fresh.submit(compiled).result()
        else:  # for the GPU that is this thread's
            data, learnt = compiled()
        if learnt:
            write_whole(timings, learnt)
        return data, accept(data)

    return cache.build_once(recipe, targets, build)

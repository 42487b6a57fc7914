"""The TensorRT engine: NVIDIA GPUs.

A style's planar graph is compiled into a plan for the kind of GPU that is here (compiler.py), once, in a
process of its own (builder.py); plans are compared to float32 (accuracy.py), kept (plans.py), and run in a
ring of pinned buffers (ring.py).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from rtstyle import graph
from rtstyle.backends.accuracy import AccuracyError, check, first_accurate
from rtstyle.backends.builder import BuildRequest, build_in_child
from rtstyle.backends.compiler import (
    DYNAMIC,
    BuildProgress,
    installed,
    library,
    logger,
    plan_target,
    recipe_of,
    said,
    targets_of,
)
from rtstyle.backends.cuda import CudaDevice, device_index, driver_problem
from rtstyle.backends.engine import Engine, EngineLater, Mode, Precision, check_precision
from rtstyle.backends.plans import Plan, PlanCache, PlanRejectedError, Recipe
from rtstyle.backends.reference import open_reference
from rtstyle.backends.ring import SLOTS, RingEngine
from rtstyle.errors import BackendUnavailableError, DeviceError
from rtstyle.files import is_regular, write_whole
from rtstyle.frame import Color, Size
from rtstyle.style import Style

log = logging.getLogger("rtstyle")

Loaded = TypeVar("Loaded")


class PlanNetwork:
    """A plan on a GPU, as ``ring.Network``: an execution context and a CUDA graph for each slot.

    Args:
        kernels: File that TensorRT-RTX keeps the kernels in that it compiles for this GPU at first use.

    Raises:
        PlanRejectedError: TensorRT does not load the plan; the message says why.
    """

    def __init__(
        self,
        data: bytes,
        device: CudaDevice,
        size: Size,
        kernels: Path | None = None,
        *,
        layout: graph.Layout = "i420",
    ) -> None:
        self.layout = layout
        lib = library()
        trt = lib.trt
        logger().errors.clear()
        device.activate()
        self._device, self._size, self._kept = device, size, kernels
        self._runtime = trt.Runtime(logger())
        self._engine = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            raise PlanRejectedError(said("TensorRT does not load it"))
        self._config: Any = None
        self._kernels: Any = None
        if lib.rtx:  # it compiles kernels when they are first used, and can keep them
            self._config = self._engine.create_runtime_config()
            self._kernels = self._config.create_runtime_cache()
            if kernels is not None and is_regular(kernels):
                self._kernels.deserialize(kernels.read_bytes())
            self._config.set_runtime_cache(self._kernels)
            # Of a plan for changing sizes: compile for ours now and not while frames are running.
            eager = trt.DynamicShapesKernelSpecializationStrategy.EAGER
            self._config.dynamic_shapes_kernel_specialization_strategy = eager
        self._contexts: list[Any] = []
        self._graphs: list[int] = []

    def prepare(self, addresses: Mapping[str, int], stream: int) -> Callable[[], None]:
        """See ``ring.Network``."""
        engine, device = self._engine, self._device
        context = engine.create_execution_context(self._config) if self._config else engine.create_execution_context()
        if context is None:
            raise DeviceError(f"TensorRT makes no context: {said('out of memory?')}")
        self._contexts.append(context)
        channels = tuple(engine.get_tensor_shape(graph.CANVAS))[-1]
        for name, shape in graph.planar_shapes(self._size, channels).items():
            if -1 in tuple(engine.get_tensor_shape(name)):
                context.set_input_shape(name, shape)
        for name, address in addresses.items():
            if not context.set_tensor_address(name, address):
                raise DeviceError(f"TensorRT refuses the address of {name}: {said('no reason given')}")

        def enqueue() -> None:
            if not context.execute_async_v3(stream):
                raise DeviceError(f"TensorRT did not run: {said('no reason given')}")

        enqueue()  # once outside of a capture: what is allocated or compiled late is done here
        device.synchronize(stream)
        self._keep_kernels()
        if not getattr(context, "is_stream_capturable", lambda _: True)(stream):
            return enqueue
        try:
            captured = device.capture(stream, enqueue)
        except DeviceError as error:
            log.debug("no CUDA graph, every frame is enqueued again: %s", error)
            return enqueue
        self._graphs.append(captured)
        return lambda: device.launch(captured, stream)

    def _keep_kernels(self) -> None:
        if self._kernels is not None and self._kept is not None and not self._graphs:
            with suppress(OSError):
                write_whole(self._kept, bytes(self._kernels.serialize()))

    def close(self) -> None:
        """See ``ring.Network``."""
        for captured in self._graphs:
            with suppress(DeviceError):
                self._device.close_graph(captured)
        self._graphs.clear()
        self._contexts.clear()
        self._kernels = self._config = self._engine = self._runtime = None


@dataclass(frozen=True)
class _EngineTarget:
    """What an engine is wanted for, but for its precision."""

    style: Style
    size: Size
    color: Color
    slots: int
    layout: graph.Layout
    gpu: CudaDevice

    def recipes(self, precision: str) -> list[Recipe]:
        """Recipes of plans that will do, the best one first."""
        fits = all(
            low <= side <= high
            for low, side, high in (
                (DYNAMIC[0].width, self.size.width, DYNAMIC[2].width),
                (DYNAMIC[0].height, self.size.height, DYNAMIC[2].height),
            )
        )
        return [
            recipe_of(self.style, size, precision, self.layout) for size in ([self.size, None] if fits else [self.size])
        ]

    def ring(self, data: bytes, precision: str, kernels: Path | None = None) -> RingEngine:
        """Put a plan into a ring.

        Raises:
            PlanRejectedError: The plan does not load.
            BackendUnavailableError: The GPU refuses, for want of memory perhaps.
        """
        try:
            return RingEngine(
                backend="tensorrt",
                precision=precision,
                device=self.gpu,
                network=PlanNetwork(data, self.gpu, self.size, kernels, layout=self.layout),
                layer=self.style.layer(self.size, self.color),
                size=self.size,
                color=self.color,
                slots=self.slots,
            )
        except DeviceError as error:
            raise BackendUnavailableError(f"{self.gpu.name} cannot take {self.size}: {error}") from error

    def open(self, precision: str, build: Callable[[str], None]) -> Engine:
        """Open the engine of one precision; ``build`` makes its plan where there is none.

        Raises:
            AccuracyError: It is not accurate enough, as is found now or was before.
        """
        cache, target = PlanCache(), plan_target(self.gpu.name, self.gpu.capability)
        recipes = self.recipes(precision)
        refused = cache.refusal(recipes[0], target)
        if refused:
            raise AccuracyError(refused)

        def load(plan: Plan) -> Engine:
            if plan.about["accuracy"] is None:  # built ahead, where this GPU was not
                try:
                    accuracy = accuracy_of(plan.data, self, precision)
                except AccuracyError as error:
                    cache.refuse(recipes[0], target, str(error))
                    raise
                cache.tell(Plan(plan.path, plan.data, {**plan.about, "accuracy": accuracy}))
            return self.ring(plan.data, precision, plan.path.with_suffix(".jit"))

        return open_cached(cache, recipes, target, load, lambda: build(precision))


def accuracy_of(data: bytes, wanted: _EngineTarget, precision: str) -> dict[str, Any]:
    """Compare a plan to float32 on its GPU and return the figures.

    Raises:
        AccuracyError: It is not good enough.
        PlanRejectedError: It does not load.
    """
    wanted = replace(wanted, color=Color())
    with (
        wanted.ring(data, precision) as engine,
        open_reference(wanted.style, wanted.size, wanted.color) as reference,
    ):
        return check(engine, reference)


def accept_on(request: BuildRequest) -> Callable[[bytes], dict[str, Any] | None]:
    """Return what judges the plan of a request on its GPU; where it has none, what leaves that for later."""
    if request.device is None:
        return lambda data: None
    gpu = CudaDevice(request.device)
    gpu.activate()  # classic TensorRT builds for the current one
    style = Style(request.style, request.folders)
    wanted = _EngineTarget(style, request.size or DYNAMIC[1], Color(), SLOTS, request.layout, gpu)

    def accept(data: bytes) -> dict[str, Any]:
        try:
            return accuracy_of(data, wanted, request.precision)
        except PlanRejectedError as error:
            raise BackendUnavailableError(f"the engine that was just built does not load: {error}") from error

    return accept


def open_tensorrt(
    style: Style,
    size: Size,
    color: Color,
    *,
    precision: Precision = "auto",
    mode: Mode = "throughput",
    device: str | None = None,
    layout: graph.Layout = "i420",
    wait: bool = True,
) -> Engine:
    """Open a style on an NVIDIA GPU; its plan is built first where there is none yet.

    Args:
        device: ``cuda:0``, ``cuda:1``, ...
        layout: How planes lie in the engine's buffers; frames are the same either way.
        wait: False: raise ``EngineLater`` where it must be built.

    Raises:
        ImportError: TensorRT is not installed.
        BackendUnavailableError: No driver, or no plan can be built or loaded.
        SettingError: There is no such device or precision.
    """
    check_precision("tensorrt", precision)
    gpu = _open_gpu(device)
    wanted = _EngineTarget(style, size, color, SLOTS if mode == "throughput" else 1, layout, gpu)

    def build(choice: str, stop: threading.Event | None = None) -> None:
        log.info("building the engine of %s at %s for %s, once", style.name, size, gpu.name)
        target = plan_target(gpu.name, gpu.capability)
        build_in_child(BuildRequest(style.name, style.folders, size, choice, layout, (target,), gpu.index), stop=stop)

    def later(stop: threading.Event) -> Engine:
        return first_accurate(_choices(precision), lambda each: wanted.open(each, lambda choice: build(choice, stop)))

    def not_now(choice: str) -> None:
        raise EngineLater(f"the engine of {style.name!r} at {size} is being built", later)

    return first_accurate(_choices(precision), lambda each: wanted.open(each, build if wait else not_now))


def _choices(precision: Precision) -> tuple[str, ...]:
    return ("f16", "f32") if precision == "auto" else (precision,)


def _open_gpu(name: str | None, hint: str = "") -> CudaDevice:
    problem = driver_problem()
    if problem:  # found before the library is loaded, which takes a while
        raise BackendUnavailableError(f"{installed()} is installed, but {problem}{hint}")
    library()
    return CudaDevice(device_index(name))


def open_cached(
    cache: PlanCache,
    recipes: list[Recipe],
    target: str,
    load: Callable[[Plan], Loaded],
    build: Callable[[], None],
) -> Loaded:
    """Load the plan of the first recipe that has one; else build that of the first recipe.

    A plan that does not load (``load`` raises PlanRejectedError) is removed and built again, once.

    Raises:
        BackendUnavailableError: The plan does not load even after it was rebuilt.
    """
    reason = "it is gone"
    for attempt in range(2):
        if attempt:
            build()
        for recipe in recipes:
            plan = cache.find(recipe, target)
            if plan is None:
                continue
            try:
                return load(plan)
            except PlanRejectedError as error:
                cache.discard(plan.path, str(error))
                reason = str(error)
    raise BackendUnavailableError(f"the engine of {recipes[0].label} does not load though it was just built: {reason}")


def build_ahead(
    style: Style,
    size: Size | None,
    *,
    targets: str | None = None,
    precision: Precision = "auto",
    device: str | None = None,
    progress: BuildProgress | None = None,
) -> Plan:
    """Build a plan now, so that no user waits for it later; return it, or the cached one.

    Args:
        size: None: one plan for all sizes between those of ``compiler.DYNAMIC``.
        targets: ``sm86,sm89``: for GPUs that need not be here (TensorRT-RTX only); None: for the GPU that is.
            Such a plan is compared to float32 when it is first used.

    Raises:
        BackendUnavailableError, SettingError: As ``open_tensorrt``.
    """
    check_precision("tensorrt", precision)
    try:
        lib = library()
    except ImportError as error:
        raise BackendUnavailableError(str(error)) from error
    index: int | None = None
    if targets is not None:
        wanted = targets_of(targets)
    else:
        gpu = _open_gpu(device, " (name what to build for: --target sm86,sm89,sm120)" if lib.rtx else "")
        wanted, index = (plan_target(gpu.name, gpu.capability),), gpu.index

    def make(choice: str) -> Plan:
        request = BuildRequest(style.name, style.folders, size, choice, "i420", wanted, index)
        path = build_in_child(request, progress=progress)
        plan = PlanCache().find(recipe_of(style, size, choice), wanted[0])
        if plan is None:
            raise BackendUnavailableError(f"{path} was built and is gone")
        return plan

    return first_accurate(_choices(precision), make)

"""Many videos, several at a time, by the workers of one pool."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtstyle.backends import Controls, EngineSettings
from rtstyle.errors import BackendUnavailableError, RtstyleError, StyleFormatError, StyleNotFoundError
from rtstyle.interrupts import signals_held
from rtstyle.render.coordinate import Coordinator, FarmRender
from rtstyle.render.plan import RenderOptions, plan_render
from rtstyle.render.report import VideoReport
from rtstyle.style import Style
from rtstyle.video import EncoderSettings

BatchProgress = Callable[[int, float, str], None]


@dataclass(frozen=True)
class FarmBatch:
    """Stylizes several files at a time; a ``RenderTogether`` of ``stylize_many``."""

    coordinator: Coordinator
    style: Style
    controls: Controls
    engine: EngineSettings
    encoder: EncoderSettings
    options: RenderOptions

    def many(
        self, pairs: Sequence[tuple[Path, Path]], progress: BatchProgress
    ) -> Iterator[tuple[int, VideoReport | BaseException]]:
        """See ``RenderTogether``."""
        waiting, renders = deque(enumerate(pairs)), dict[int, FarmRender]()
        farm = self.coordinator.farm
        with signals_held() as let_signals_through:
            try:
                while waiting or renders:
                    while waiting and self._hungry(renders):
                        number, (source, target) = waiting.popleft()
                        farm.waiting = len(waiting)
                        try:
                            renders[number] = self._open(source, target)
                        except (StyleNotFoundError, StyleFormatError, BackendUnavailableError):
                            raise
                        except (RtstyleError, OSError) as error:
                            yield number, error
                        let_signals_through()
                    farm.step()
                    yield from self._ended(renders)
                    for number, render in renders.items():
                        progress(number, render.part, farm.words())
                    let_signals_through()
            except KeyboardInterrupt:
                for number, render in renders.items():
                    interrupt = KeyboardInterrupt()
                    render.abandon(interrupt)
                    yield number, interrupt
            except BaseException as error:
                for render in renders.values():
                    render.abandon(error)
                raise

    def nodes(self) -> list[dict[str, Any]]:
        """Return what each worker did."""
        return self.coordinator.farm.report()

    def _hungry(self, renders: dict[int, FarmRender]) -> bool:
        """Whether another video must be opened, so that every worker has something to do."""
        return self.coordinator.farm.idle > sum(render.hungry for render in renders.values())

    def _open(self, source: Path, target: Path) -> FarmRender:
        plan = plan_render(
            source,
            target,
            style=self.style,
            controls=self.controls,
            engine=self.engine,
            encoder=self.encoder,
            options=self.options,
        )
        try:
            return FarmRender(plan, self.coordinator, whole=True)
        except BaseException:
            plan.close()
            raise

    @staticmethod
    def _ended(renders: dict[int, FarmRender]) -> Iterator[tuple[int, VideoReport | BaseException]]:
        for number, render in list(renders.items()):
            if render.error is None and not render.done:
                continue
            del renders[number]
            try:
                if render.error is not None:
                    raise render.error
                yield number, render.finish()
            except BaseException as error:
                render.abandon(error)
                if not isinstance(error, (RtstyleError, OSError, KeyboardInterrupt)):
                    raise
                yield number, error

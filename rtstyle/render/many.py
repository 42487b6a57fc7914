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
from rtstyle.render.coordinate import Coordinator, Film
from rtstyle.render.plan import RenderOptions, plan_render
from rtstyle.render.report import VideoReport
from rtstyle.style import Style
from rtstyle.video import EncoderSettings

_PLANNED = 3
"""Most videos that are planned at a time; each holds its frames ahead in memory."""

BatchProgress = Callable[[int, float, str], None]


@dataclass(frozen=True)
class FilmsTogether:
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
        waiting, films = deque(enumerate(pairs)), dict[int, Film]()
        farm = self.coordinator.farm
        with signals_held() as let_signals_through:
            try:
                while waiting or films:
                    while waiting and self._hungry(films):
                        number, (source, target) = waiting.popleft()
                        try:
                            films[number] = self._open(source, target)
                        except (StyleNotFoundError, StyleFormatError, BackendUnavailableError):
                            raise
                        except (RtstyleError, OSError) as error:
                            yield number, error
                        let_signals_through()
                    farm.step()
                    yield from self._ended(films)
                    for number, film in films.items():
                        progress(number, film.part, farm.words())
                    let_signals_through()
            except KeyboardInterrupt:
                for number, film in films.items():
                    interrupt = KeyboardInterrupt()
                    film.abandon(interrupt)
                    yield number, interrupt
            except BaseException as error:
                for film in films.values():
                    film.abandon(error)
                raise

    def nodes(self) -> list[dict[str, Any]]:
        """Return what each worker did."""
        return self.coordinator.farm.report()

    def _hungry(self, films: dict[int, Film]) -> bool:
        """Whether another video must be opened, so that every worker has something to do."""
        idle = self.coordinator.farm.idle
        unfinished = [film for film in films.values() if film.unfinished]
        return idle > len(unfinished) and sum(not film.whole for film in unfinished) < _PLANNED

    def _open(self, source: Path, target: Path) -> Film:
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
            return Film(plan, self.coordinator, whole=True)
        except BaseException:
            plan.close()
            raise

    @staticmethod
    def _ended(films: dict[int, Film]) -> Iterator[tuple[int, VideoReport | BaseException]]:
        for number, film in list(films.items()):
            if film.error is None and not film.done:
                continue
            del films[number]
            try:
                if film.error is not None:
                    raise film.error
                yield number, film.finish()
            except BaseException as error:
                film.abandon(error)
                if not isinstance(error, (RtstyleError, OSError, KeyboardInterrupt)):
                    raise
                yield number, error

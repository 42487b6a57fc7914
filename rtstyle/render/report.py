"""The report of a render."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class VideoReport:
    """What a render did; ``rtstyle video --json`` prints it."""

    input: str
    output: str
    frames_in: int
    frames_out: int
    dropped: int
    """Frames that are missing or faulty because the input is damaged, as far as is known."""
    resumed_at: int
    """Frames that an earlier, interrupted run had finished; ``seconds`` and what follows are of this run."""
    seconds: float
    fps: float
    cpu_ms_per_frame: float
    """CPU time of the whole process over all cores, per frame, from the first frame on; 0 where workers rendered."""
    first_frame_s: float
    """From the call to the first stylized frame handed to the encoder."""
    stages: dict[str, float]
    """Milliseconds per frame that each stage took on its thread; they overlap. ``join`` is in all. Where workers
    rendered, those of planning: ``decode``, ``track`` and ``measure``."""
    backend: str
    precision: str
    device: str
    style: str
    size_class: str
    size: str
    working_size: str
    """In which it was stylized: another one where strokes are to be larger or smaller, see ``EngineSettings``."""
    codec: str
    preset: str | None
    streams_copied: list[str]
    streams_dropped: list[dict[str, str]]
    warnings: list[str] = field(default_factory=list)
    nodes: list[dict[str, Any]] = field(default_factory=list)
    """What each worker did, see ``farm.NodeFigures``; empty where there were none."""

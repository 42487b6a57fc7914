"""The cache of plans: compiled TensorRT engines, built once for a user and kept between runs.

A plan lies beside a JSON file that says what it was built of and holds its digest. Both are written under
another name, flushed and renamed, the plan first: a plan without a matching JSON file was never finished
or was damaged, and is built again. A file lock per plan lets several processes build it once.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from rtstyle.files import cache_root, is_regular, write_whole

log = logging.getLogger("rtstyle")


class PlanRejectedError(Exception):
    """A plan that was found whole does not load: it was built by or for something else."""


LIMIT = 2 << 30
"""Bytes of plans that are kept; beyond it those that were used longest ago go first."""

_CACHED = re.compile(r".+-[0-9a-f]{16}-.+\.(plan|json|jit|refused)|.+-.+\.timing|\..+\.[0-9a-f]{16}\.part", re.DOTALL)
"""Names of the files in a cache, see ``Recipe.stem`` and ``write_whole``."""


@dataclass(frozen=True)
class Recipe:
    """What a plan is built of. Plans of one recipe and one target are interchangeable."""

    label: str
    """Text: style and size; not part of what makes a plan."""
    graph: bytes = field(repr=False)
    """The ONNX model."""
    builder: str
    """Library and its full version: a plan runs with no other."""
    options: tuple[tuple[str, Any], ...]
    """Everything else that changes the plan: precision, shapes, builder's options; JSON values."""

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that no other recipe has."""
        key = json.dumps([self.builder, self.options], sort_keys=True).encode()
        return hashlib.sha256(hashlib.sha256(self.graph).digest() + key).hexdigest()[:16]

    @property
    def stem(self) -> str:
        """How the names of its files begin."""
        words = "".join(c if c.isalnum() or c in "._" else "_" for c in self.label)[:60]
        return f"{words}-{self.digest}"


@dataclass(frozen=True)
class Plan:
    """A plan that was found whole."""

    path: Path
    data: bytes = field(repr=False)
    about: dict[str, Any]
    """What its JSON file says: ``label``, ``builder``, ``options``, ``targets``, ``accuracy``, ..."""


class PlanCache:
    """A folder of plans.

    Args:
        folder: By default ``engines`` in $RTSTYLE_CACHE, else in the user's cache folder.
    """

    def __init__(self, folder: Path | None = None, *, limit: int = LIMIT) -> None:
        root = cache_root()
        self.folder = folder or root / "engines"
        self.limit = limit

    def find(self, recipe: Recipe, target: str) -> Plan | None:
        """Return a whole plan of a recipe that was built for a target (and perhaps for others), None if there is none.

        A damaged one is removed, and a line logged that says why.
        """
        for path in sorted(self.folder.glob(f"{recipe.stem}-*.plan")):
            if target in path.stem.removeprefix(f"{recipe.stem}-").split("+"):
                try:
                    plan = self._read(path)
                except (OSError, ValueError, KeyError, TypeError) as error:
                    self.discard(path, f"{error}")
                    continue
                with suppress(OSError):
                    os.utime(path)
                return plan
        return None

    @staticmethod
    def _read(path: Path) -> Plan:
        if not (is_regular(path) and is_regular(path.with_suffix(".json"))):
            raise ValueError("it was never finished")
        try:
            about = json.loads(path.with_suffix(".json").read_text("utf-8"))
            size, digest = int(about["bytes"]), str(about["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            raise ValueError("it was never finished") from None
        data = path.read_bytes()
        if len(data) != size:
            raise ValueError(f"it has {len(data)} of {size} bytes")
        if hashlib.sha256(data).hexdigest() != digest:
            raise ValueError("its bytes are not those that were written")
        return Plan(path, data, about)

    def build_once(self, recipe: Recipe, targets: tuple[str, ...], build: Callable[[], tuple[bytes, Any]]) -> Plan:
        """Build a plan for all targets and keep it, unless another process has done so meanwhile.

        Args:
            build: Returns the plan and what was found of its accuracy (JSON value). What it raises is
                passed on, and nothing is kept.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = self.folder / f"{recipe.stem}.lock"
        if os.path.lexists(lock) and not is_regular(lock):  # FileLock empties what a link leads to
            raise FileExistsError(f"{lock} is a link or no file: remove it, or clear RTSTYLE_CACHE")
        with FileLock(lock):
            found = self.find(recipe, targets[0])
            if found and set(targets) <= set(found.about["targets"]):
                return found
            for left in self.folder.glob(f".{recipe.stem}-*.part"):  # of a process that was killed
                left.unlink(missing_ok=True)
            begun = time.perf_counter()
            data, accuracy = build()
            about = {
                "label": recipe.label,
                "builder": recipe.builder,
                "options": dict(recipe.options),
                "targets": list(targets),
                "graph_sha256": hashlib.sha256(recipe.graph).hexdigest(),
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
                "accuracy": accuracy,
                "seconds": round(time.perf_counter() - begun, 2),
                "built": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            }
            path = self.folder / f"{recipe.stem}-{'+'.join(targets)}.plan"
            write_whole(path, data)
            self.tell(Plan(path, data, about))
        self._evict(keep=path)
        return Plan(path, data, about)

    def tell(self, plan: Plan) -> None:
        """Write what is known of a plan beside it."""
        write_whole(plan.path.with_suffix(".json"), json.dumps(plan.about, indent=1).encode())

    def refuse(self, recipe: Recipe, target: str, reason: str) -> None:
        """Keep in mind, instead of a plan, why none of this recipe is to be used on a target."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self.folder.glob(f"{recipe.stem}-*.plan"):
            if target in path.stem.removeprefix(f"{recipe.stem}-").split("+"):
                self._remove(path)
        write_whole(self.folder / f"{recipe.stem}-{target}.refused", reason.encode())

    def refusal(self, recipe: Recipe, target: str) -> str | None:
        """Return the reason that ``refuse`` was given, None if there is none."""
        path = self.folder / f"{recipe.stem}-{target}.refused"
        with suppress(OSError, ValueError):
            return path.read_text("utf-8") if is_regular(path) else None
        return None

    def discard(self, path: Path, reason: str) -> None:
        """Remove a plan that is no good, and log why."""
        log.info("the engine %s is built again: %s", path.stem, reason)
        self._remove(path)

    @staticmethod
    def _remove(path: Path) -> None:
        for each in (path, path.with_suffix(".json"), path.with_suffix(".jit")):
            with suppress(OSError):
                each.unlink()

    def _by_use(self) -> list[tuple[Path, int]]:
        """Return every plan and its bytes, latest used first; another process may remove one meanwhile."""
        found = []
        for path in self.folder.glob("*.plan"):
            with suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime, path, status.st_size))
        return [(path, size) for _, path, size in sorted(found, reverse=True)]

    def _evict(self, keep: Path) -> None:
        held = 0
        for path, size in sorted(self._by_use(), key=lambda each: each[0] != keep):
            held += size
            if held > self.limit and path != keep:
                self._remove(path)

    def plans(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Yield the path of each plan and what is known of it, latest used first."""
        for path, size in self._by_use():
            try:
                yield path, self._read(path).about
            except (OSError, ValueError) as error:
                yield path, {"label": path.stem, "damaged": str(error), "bytes": size}

    def clear(self) -> int:
        """Remove everything that a cache holds but locks, which a process may hold; return how many plans there were.

        Only files named as a cache names them are removed.
        """
        count = 0
        for path in self.folder.glob("*"):
            if _CACHED.fullmatch(path.name) and not path.is_dir():
                count += path.suffix == ".plan"
                path.unlink(missing_ok=True)
        return count

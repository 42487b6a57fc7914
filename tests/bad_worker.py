"""A worker process that fails in a way of its own: ``python bad_worker.py WAY FOLDER``.

The ways ``raises``, ``dies`` and ``sleeps`` happen once in all processes that share a folder.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from rtstyle.render import job, worker


def once(folder: Path) -> bool:
    try:
        (folder / "it-happened").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def spoil(way: str, folder: Path) -> None:
    render = worker.Renderer.render

    def spoiled(self, asked, *, sequential=False):
        if way == "raises" and once(folder):
            raise ValueError("an ordinary bug")
        if way == "dies" and once(folder):
            os.kill(os.getpid(), signal.SIGKILL)
        if way == "sleeps" and once(folder):
            time.sleep(30)
        result = render(self, asked, sequential=sequential)
        if way == "garbage":
            for piece in result.pieces:
                object.__setattr__(piece, "fingerprint", "0000beef")
        return result

    worker.Renderer.render = spoiled  # type: ignore[method-assign]
    if way == "version":
        worker.versions = lambda backend: {**job.versions(backend), "rtstyle": "0.0.1"}  # type: ignore[assignment]
    if way == "engine":
        canned = worker.Renderer.canned
        worker.Renderer.canned = lambda *args: {**canned(*args), "engine": "others"}  # type: ignore[method-assign]
    if way == "blind":
        job.identity_of = lambda files: {"files": 0}  # type: ignore[assignment]


if __name__ == "__main__":
    spoil(sys.argv[1], Path(sys.argv[2]))
    worker.answer_jobs()

"""The process in which a plan is built: reads a request, builds and compares, and answers in lines of JSON."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rtstyle.backends.accuracy import AccuracyError
from rtstyle.backends.builder import BuildRequest
from rtstyle.backends.compiler import build_plan, recipe_of
from rtstyle.backends.plans import PlanCache
from rtstyle.backends.tensorrt import accept_on
from rtstyle.errors import RtstyleError
from rtstyle.style import Style


def build(request: BuildRequest, progress: Callable[[str, float], None]) -> Path:
    """Build in this process; see ``builder.build_in_child``."""
    cache = PlanCache()
    recipe = recipe_of(Style(request.style, request.folders), request.size, request.precision, request.layout)
    try:
        return build_plan(recipe, request.targets, cache, accept_on(request), progress).path
    except AccuracyError as error:
        cache.refuse(recipe, request.targets[0], str(error))
        raise


def build_from_stdin() -> None:
    """Read a request, build, and answer in lines of JSON."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Libraries may print on the standard output; the answers get a channel of their own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    try:
        request = BuildRequest.from_json(sys.stdin.read())
        answer({"plan": str(build(request, lambda phase, done: answer({"phase": phase, "done": done})))})
    except AccuracyError as error:
        answer({"inaccurate": str(error)})
    except (RtstyleError, ImportError, OSError) as error:
        answer({"error": str(error)})


if __name__ == "__main__":
    build_from_stdin()

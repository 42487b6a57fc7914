"""The cache of plans: what is damaged is built again, what is wanted twice is built once, nothing is half there."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rtstyle.backends.plans import Plan, PlanCache, PlanRejectedError, Recipe

ROOT = Path(__file__).parents[1]


def recipe(graph: bytes = b"graph", builder: str = "tensorrt 11.4.0", **options) -> Recipe:
    return Recipe("sketch-64x48-f16", graph, builder, tuple(sorted({"precision": "f16", **options}.items())))


@pytest.fixture
def cache(tmp_path) -> PlanCache:
    return PlanCache(tmp_path / "engines")


def built(cache: PlanCache, what: Recipe, data: bytes = b"plan" * 100, targets=("sm86",)) -> Plan:
    return cache.build_once(what, targets, lambda: (data, {"largest": 1}))


# -- found, or not -----------------------------------------------------------------------------------


def test_a_plan_is_found_again_with_what_is_known_of_it(cache):
    plan = built(cache, recipe())
    found = cache.find(recipe(), "sm86")
    assert found is not None
    assert found.data == plan.data == b"plan" * 100
    assert found.about["accuracy"] == {"largest": 1}
    assert found.about["builder"] == "tensorrt 11.4.0"
    assert found.about["options"] == {"precision": "f16"}


@pytest.mark.parametrize(
    "other",
    [recipe(b"graph2"), recipe(builder="tensorrt 11.4.1"), recipe(precision="f32"), recipe(shapes="1280x720")],
    ids=["graph", "version", "precision", "shapes"],
)
def test_a_plan_of_anything_else_is_not_found(cache, other):
    built(cache, recipe())
    assert cache.find(other, "sm86") is None


def test_a_plan_for_several_gpus_is_found_for_each_of_them_and_no_other(cache):
    built(cache, recipe(), targets=("sm86", "sm89", "sm120"))
    assert all(cache.find(recipe(), target) for target in ("sm86", "sm89", "sm120"))
    assert cache.find(recipe(), "sm75") is None
    assert cache.find(recipe(), "sm8") is None


def test_a_plan_for_more_gpus_is_built_beside_one_for_fewer(cache):
    built(cache, recipe(), b"one", targets=("sm86",))
    assert built(cache, recipe(), b"two", targets=("sm86", "sm89")).data == b"two"
    assert built(cache, recipe(), b"three", targets=("sm89",)).data == b"two"


@pytest.mark.parametrize("damage", ["truncated", "changed", "empty", "no json", "json cut off", "json of another"])
def test_a_damaged_plan_is_not_found_and_is_gone_and_a_line_says_why(cache, damage, caplog):
    path = built(cache, recipe()).path
    beside = path.with_suffix(".json")
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "changed":
        data = bytearray(path.read_bytes())
        data[7] ^= 1
        path.write_bytes(data)
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "no json":
        beside.unlink()
    elif damage == "json cut off":
        beside.write_text(beside.read_text()[:40])
    else:
        beside.write_text(json.dumps({"bytes": path.stat().st_size}))
    with caplog.at_level("INFO", "rtstyle"):
        assert cache.find(recipe(), "sm86") is None
    assert len(caplog.messages) == 1
    assert "is built again: it" in caplog.text
    assert not path.exists()
    assert built(cache, recipe(), b"new").data == b"new"
    found = cache.find(recipe(), "sm86")
    assert found is not None
    assert found.data == b"new"


def test_what_a_build_raises_leaves_nothing(cache):
    def build():
        raise PlanRejectedError("no")

    with pytest.raises(PlanRejectedError):
        cache.build_once(recipe(), ("sm86",), build)
    assert list(cache.plans()) == []
    assert built(cache, recipe()).data


# -- several processes, and their deaths -----------------------------------------------------------------


def _build_slowly(folder: str, log: str) -> None:
    def build() -> tuple[bytes, None]:
        with open(log, "a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(0.3)
        return b"plan" * 1000, None

    assert PlanCache(Path(folder)).build_once(recipe(), ("sm86",), build).data == b"plan" * 1000


def test_three_processes_that_want_one_plan_build_it_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    log = tmp_path / "log"
    workers = [context.Process(target=_build_slowly, args=(str(tmp_path / "engines"), str(log))) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert len(log.read_text().splitlines()) == 1


@pytest.mark.parametrize("moment", ["building", "written in part", "plan without its json"])
def test_a_process_killed_at_the_worst_moment_leaves_no_broken_plan(cache, moment):
    """SIGKILL: nothing in the process can tidy up, and its lock must not stay."""
    code = f"""if True:
        import os, signal
        from pathlib import Path
        from rtstyle.backends import plans
        die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        if {moment!r} == "written in part":
            os.fsync = die
        if {moment!r} == "plan without its json":
            plans.PlanCache.tell = die
        build = die if {moment!r} == "building" else lambda: (b"plan" * 100, None)
        recipe = plans.Recipe("sketch-64x48-f16", b"graph", "tensorrt 11.4.0", (("precision", "f16"),))
        plans.PlanCache(Path({str(cache.folder)!r})).build_once(recipe, ("sm86",), build)
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    left = sorted(path.suffix for path in cache.folder.iterdir())
    assert left == {"building": [".lock"], "written in part": [".lock", ".part"]}.get(moment, [".lock", ".plan"])
    assert cache.find(recipe(), "sm86") is None
    assert built(cache, recipe(), b"whole").data == b"whole"
    assert sorted(path.suffix for path in cache.folder.iterdir()) == [".json", ".lock", ".plan"]


# -- size ------------------------------------------------------------------------------------------------


def test_beyond_the_limit_what_was_used_longest_ago_goes_first(tmp_path):
    cache = PlanCache(tmp_path, limit=2500)
    names = [b"a", b"b", b"c"]
    for age, name in enumerate(names[:2]):
        path = built(cache, recipe(name), name * 1000).path
        os.utime(path, (age, age))
    assert cache.find(recipe(b"a"), "sm86") is not None  # now a was used last
    built(cache, recipe(b"c"), b"c" * 1000)
    assert [cache.find(recipe(name), "sm86") is not None for name in names] == [True, False, True]
    assert len(list(tmp_path.glob("*.json"))) == 2


def test_a_plan_that_is_larger_than_the_limit_is_kept_alone(tmp_path):
    cache = PlanCache(tmp_path, limit=10)
    built(cache, recipe(b"a"))
    built(cache, recipe(b"b"))
    assert cache.find(recipe(b"a"), "sm86") is None
    assert cache.find(recipe(b"b"), "sm86") is not None


def test_plans_are_listed_and_cleared(cache):
    assert list(cache.plans()) == []
    assert cache.clear() == 0
    built(cache, recipe(b"a"))
    damaged = built(cache, recipe(b"b")).path
    damaged.write_bytes(b"x")
    listed = dict(cache.plans())
    assert len(listed) == 2
    assert "damaged" in listed[damaged]
    assert cache.clear() == 2
    assert list(cache.plans()) == []
    assert {path.suffix for path in cache.folder.iterdir()} <= {".lock"}


def test_the_cache_lies_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("RTSTYLE_CACHE", str(tmp_path))
    assert PlanCache().folder == tmp_path / "engines"
    monkeypatch.delenv("RTSTYLE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    if sys.platform == "linux":
        assert PlanCache().folder == tmp_path / "xdg" / "rtstyle" / "engines"

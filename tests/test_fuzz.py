"""A short run of the fuzzer (see fuzz.py; 1,000 inputs by command), and proof that it would tell."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from fuzz import fuzz, fuzz_kind, make_corpus, spoil
from fuzz_kinds import KINDS

HERE = Path(__file__).stem


def crash(words: list[str]) -> int:
    """A command that takes its process along."""
    os.abort()


def hang(words: list[str]) -> int:
    """A command that never ends."""
    time.sleep(1000)
    return 0


def raise_something(words: list[str]) -> int:
    """A command with a bug."""
    raise KeyError(words[0])


def leave_a_file(words: list[str]) -> int:
    """A command that fails and does not clean up."""
    Path("left.mp4").write_text("")
    print("rtstyle: error: it failed", file=sys.stderr)
    return 1


def say_nothing(words: list[str]) -> int:
    """A command that fails without a word."""
    return 1


def fail(words: list[str]) -> int:
    """A command that fails as it should."""
    print("rtstyle: error: it failed", file=sys.stderr)
    return 1


def test_forty_spoilt_videos_neither_crash_nor_hang_nor_tell_a_traceback():
    tally = fuzz(range(5000, 5040))
    assert len(tally.endings) == 40
    assert not tally.faults, str(tally)
    codes = {ending.code for ending in tally.endings}
    assert {1, 3} <= codes, str(tally)  # the spoiling does spoil, and does not only break headers


@pytest.mark.parametrize("kind", KINDS)
def test_forty_inputs_of_every_other_kind_are_taken_or_refused(kind):
    tally = fuzz_kind(kind, range(9000, 9040))
    assert len(tally.endings) == 40
    assert not tally.faults, str(tally)
    if kind in ("styles", "journals", "playlists"):
        assert {0, 1} >= {ending.code for ending in tally.endings} >= {1}
    if kind == "playlists":
        assert sum(ending.code == 0 for ending in tally.endings) >= 5, "few of them play"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (crash, "the process died with -6"),
        (hang, "the process hung for 3 s"),
        (raise_something, "KeyError: 'video'"),
        (leave_a_file, "['left.mp4'] is left"),
        (say_nothing, "exit code 1 with 0 lines of error"),
        (fail, ""),
    ],
)
def test_a_fault_is_reported_with_its_seed(command, words, tmp_path):
    # pytest's own plug-ins are not in the worker, but this file is.
    tally = fuzz([7, 8], workers=1, timeout=3, command=f"{HERE}:{command.__name__}", keep=tmp_path)
    assert [ending.seed for ending in tally.faults] == ([7, 8] if words else [])
    assert all(words in ending.fault for ending in tally.faults), str(tally)
    assert len(list(tmp_path.iterdir())) == len(tally.faults)


def test_a_seed_is_always_the_same_input(tmp_path):
    corpus = make_corpus(tmp_path)
    assert spoil(3, corpus) == spoil(3, corpus)
    assert len({spoil(seed, corpus)[1] for seed in range(50)}) == 50

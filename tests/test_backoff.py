"""Waits double up to a limit, and what is closed by leaving is closed by an error, too."""

import pytest

from rtstyle.backoff import BackOff
from rtstyle.closing import Closing


def test_waits_double_up_to_the_longest_and_start_again():
    waits = BackOff(0.5, 3)
    assert [waits.take() for _ in range(5)] == [0.5, 1, 2, 3, 3]
    waits.reset()
    assert (waits.seconds, waits.take(), waits.seconds) == (0.5, 0.5, 1)


def test_leaving_closes_and_passes_errors_on():
    class Door(Closing):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    with Door() as door:
        assert door.closed == 0
    assert door.closed == 1
    with pytest.raises(ValueError, match="it failed"), Door() as door:
        raise ValueError("it failed")
    assert door.closed == 1

"""How much memory this process had at most: for tests that run a child and bound what it takes."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path


def peak_kilobytes() -> int:
    """Return the peak of this process's resident memory in kB.

    ``getrusage`` would give a child the peak of the process that started it, where that one is larger: Linux carries
    it across ``exec``. The mark that the kernel keeps for the address space begins with the program.
    """
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
        if found:
            return int(found[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> 10 if sys.platform == "darwin" else peak

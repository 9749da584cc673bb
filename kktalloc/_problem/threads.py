"""How many threads a call of the compiled kernel may take."""

from __future__ import annotations

import os
from functools import cache
from math import floor, inf
from numbers import Integral
from pathlib import Path

# Below this many devices in all a second thread costs more than it saves.
_THREADED_DEVICES = 16384


def check_threads(threads: object) -> None:
    """Refuse what is neither None nor a number of threads, by name."""
    if threads is None:
        return
    if isinstance(threads, bool) or not isinstance(threads, Integral):
        raise TypeError(f"threads: expected a whole number or None, got {threads!r}")
    if threads < 1:
        raise ValueError(f"threads = {threads}: must be >= 1")


def threads_for(devices: int, asked: int | None = None) -> int:
    """Threads for a call on so many devices in all: what was asked for, else what the environment or the system allows.

    `KKTALLOC_THREADS`, else `OMP_NUM_THREADS`, else the processors that this process may use; one for small calls.
    """
    own = os.environ.get("KKTALLOC_THREADS", "") if asked is None else ""
    if own and not (own.isascii() and own.isdigit() and int(own) >= 1):
        raise ValueError(f"KKTALLOC_THREADS = {own}: must be a whole number >= 1")
    if devices < _THREADED_DEVICES:
        return 1
    allowed = int(asked) if asked is not None else int(own) if own else _shared()
    return usable_processors() if allowed is None else allowed


def _shared() -> int | None:
    """What the environment allows every program."""
    # It may be a list, one number per level of nesting; what OpenMP would not understand is not ours to refuse.
    shared = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(shared) if shared.isascii() and shared.isdigit() and int(shared) >= 1 else None


def usable_processors() -> int:
    """Processors that the system lets this process use: its affinity, and the quota of its control group."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(count, floor(min(_quota(), count))))


@cache
def _quota(root: Path = Path("/")) -> float:
    """Processors' worth of time that control groups (version 1 or 2) grant, the least of all that hold this process.

    Half a processor more is none: two threads on a quota of one and a half stop each other.
    """
    try:
        memberships = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return inf
    found = inf
    for line in memberships:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / controllers
        group = base / path.lstrip("/")
        for place in (group, *group.parents):
            found = min(found, _granted(place))
            if place == base:
                break
    return found


def _granted(group: Path) -> float:
    try:
        if (group / "cpu.max").exists():  # version 2: "max 100000" or "150000 100000"
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return float(quota) / float(period) if quota not in ("max", "-1") else inf
    except (OSError, ValueError, ZeroDivisionError):
        return inf

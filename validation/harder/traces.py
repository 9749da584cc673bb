"""Which measured drives the study takes; how they are read is in `kktalloc.traces`."""

from __future__ import annotations

from pathlib import Path

from kktalloc.traces import Trace, read_trace

__all__ = ["longest_drives", "read_trace"]


def longest_drives(folder: Path, count: int, reference_signal_dbm: float) -> tuple[Trace, ...]:
    """The `count` longest drives in `folder`, longest first, of equal ones by name: one rule, no choice.

    Files whose names begin with a dot are no drives: some systems leave such companions beside every file they copy.

    Raises
    ------
    ValueError
        There are fewer, or one cannot be read.
    """
    paths = [path for path in sorted(folder.glob("*.csv")) if not path.name.startswith(".")]
    traces = [read_trace(path, reference_signal_dbm) for path in paths]
    if len(traces) < count:
        raise ValueError(f"{folder} has {len(traces)} drives (*.csv), the study needs {count}")
    return tuple(sorted(traces, key=lambda trace: (-trace.duration_s, trace.name))[:count])

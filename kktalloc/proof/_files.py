"""Theories from a file of one's own, for `kktalloc verify mine.py`."""

from __future__ import annotations

import runpy
import traceback
from pathlib import Path

from kktalloc.proof._language import Theory


def load_theories(path: Path) -> dict[str, Theory]:
    """Run a Python file; every theory bound to a public name in it, by that name.

    Raises
    ------
    ValueError
        When the file cannot be read, stops with an error, or has no theory.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        names = runpy.run_path(str(path))
    except Exception as error:
        places = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        where = f"{path}:{places[-1]}" if places else str(path)
        raise ValueError(f"{where}: {type(error).__name__}: {error}") from error
    found: dict[str, Theory] = {}
    for name, value in names.items():
        if (
            isinstance(value, Theory)
            and not name.startswith("_")
            and not any(value is other for other in found.values())
        ):
            found[name] = value
    if not found:
        raise ValueError(f"{path}: no theory: bind a kktalloc.proof.Theory to a name in it")
    return found

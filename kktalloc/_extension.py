"""The compiled modules: loaded where they are, and refused where they were built from other sources than these."""

from __future__ import annotations

import warnings
from importlib import import_module
from pathlib import Path
from typing import Any


def load(name: str, interface: int) -> tuple[Any, str]:
    """The compiled module `name` and nothing, or None and why there is none.

    `interface` is the number of what the module takes and returns, which its C source states, too. After a checkout of
    other sources the module may still be that of the old ones: its answers would be wrong, or its functions missing.

    Warns
    -----
    RuntimeWarning
        The module is there and has another number: it has to be built again.
    """
    try:
        module = import_module(name)
    except ImportError as error:
        return None, f"{error}; pip install -v shows what the compiler said"
    if getattr(module, "interface", None) == interface:
        return module, ""
    file = Path(module.__file__ or name).name
    why = f"{file} was built from other sources; rebuild: python setup.py build_ext --inplace"
    warnings.warn(f"{name} is not used: {why}", RuntimeWarning, stacklevel=2)
    return None, why

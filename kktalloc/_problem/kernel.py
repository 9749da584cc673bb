"""The compiled kernel: where it is, whether it is wanted, and which engine serves.

The kernel (``kktalloc/kernel``) is built where a C compiler is at hand. The environment variable ``KKTALLOC_ENGINE`` =
``numpy`` or ``compiled`` forces one engine; ``compiled`` raises `ImportError` where the kernel is missing.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from kktalloc._extension import load

_KERNEL, _MISSING = load("kktalloc._kernel", interface=3)  # the number in kernel/module.c

# NumPy takes about half a second from here on, the kernel a hundredth of that.
_LARGE = 10_000
_warned = False


class Engine(str):
    """Which engine serves, ``"compiled"`` or ``"numpy"``; `why` is a sentence about the reason."""

    why: str

    def __new__(cls, name: str, why: str) -> Engine:
        """A name that knows its reason."""
        made = super().__new__(cls, name)
        made.why = why
        return made

    def __repr__(self) -> str:
        """What an interactive session shows: the name and the reason."""
        return f"Engine({str(self)!r}, why={self.why!r})"


def engine() -> Engine:
    """Which engine serves problems now, and why.

    Returns
    -------
    Engine
        A str, ``"compiled"`` or ``"numpy"``, whose ``why`` tells the reason. The compiled engine leaves to NumPy the
        kinds of problem that it does not know; both answers meet the same certificate.

    Raises
    ------
    ValueError, ImportError
        ``KKTALLOC_ENGINE`` is neither of both; it asks for the compiled engine, and that is missing.
    """
    module = kernel()
    if module is not None:
        return Engine("compiled", f"{Path(module.__file__).name}, built by {module.compiler}")
    if _KERNEL is not None:
        return Engine("numpy", "KKTALLOC_ENGINE=numpy asks for it")
    return Engine("numpy", f"there is no compiled kernel: {_MISSING}")


def kernel() -> Any:
    """The compiled module, or None where NumPy serves."""
    wanted = os.environ.get("KKTALLOC_ENGINE", "")
    if wanted not in ("", "numpy", "compiled"):
        raise ValueError(f"KKTALLOC_ENGINE = {wanted}: numpy or compiled")
    if wanted == "compiled" and _KERNEL is None:
        raise ImportError(
            f"KKTALLOC_ENGINE=compiled, but the kktalloc in {Path(__file__).parents[1]} has no compiled kernel: "
            f"{_MISSING}"
        )
    return None if wanted == "numpy" else _KERNEL


def warn_of_the_slow_engine(devices: int) -> None:
    """Say once that a large problem, of so many devices in all, takes NumPy a hundred times longer.

    Nobody who asked for NumPy is told.
    """
    global _warned  # once per process, from wherever it is called
    if _KERNEL is None and devices >= _LARGE and not _warned and not os.environ.get("KKTALLOC_ENGINE"):
        _warned = True
        warnings.warn(
            f"{devices} devices without the compiled engine, which is about a hundred times faster: {engine().why}. "
            "KKTALLOC_ENGINE=numpy silences this.",
            RuntimeWarning,
            stacklevel=2,
        )

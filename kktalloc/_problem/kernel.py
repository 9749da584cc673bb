"""The compiled kernel: where it is, and whether it is wanted.

The kernel (``kktalloc/kernel``) is built where a C compiler is at hand. The environment variable ``KKTALLOC_ENGINE`` =
``numpy`` or ``compiled`` forces one engine; ``compiled`` raises `ImportError` where the kernel is missing.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

try:
    _KERNEL: Any = import_module("kktalloc._kernel")
except ImportError:
    _KERNEL = None


def kernel() -> Any:
    """The compiled module, or None where NumPy serves."""
    wanted = os.environ.get("KKTALLOC_ENGINE", "")
    if wanted not in ("", "numpy", "compiled"):
        raise ValueError(f"KKTALLOC_ENGINE = {wanted}: numpy or compiled")
    if wanted == "compiled" and _KERNEL is None:
        raise ImportError(
            f"KKTALLOC_ENGINE=compiled, but the kktalloc in {Path(__file__).parents[1]} has no compiled kernel: it was"
            " installed without a C compiler, or is a source tree without `pip install -e .`"
        )
    return None if wanted == "numpy" else _KERNEL

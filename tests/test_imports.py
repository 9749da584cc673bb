"""`import kktalloc` stays light."""

from __future__ import annotations

import subprocess
import sys


def test_importing_the_allocator_loads_no_heavy_package() -> None:
    code = (
        "import sys, kktalloc; "
        "print([m for m in ('sympy', 'cvxpy', 'torch', 'matplotlib', 'sklearn', 'fltrain') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_solving_loads_none_either() -> None:
    code = (
        "import sys, kktalloc as ka; "
        "ka.solve(ka.Problem(ka.Cell(1e6, 4e-21, 1.0), ka.Devices([1e-10], 0.1, 1e6, 0.1))); "
        "print([m for m in ('sympy', 'cvxpy', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

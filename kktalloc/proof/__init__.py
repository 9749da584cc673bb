"""The convergence bound and the allocation's optimality conditions, derived and checked by machine.

Imported on demand only: it needs SymPy.
"""

from kktalloc.proof._report import run

__all__ = ["run"]

"""A small language for convergence proofs, an exact checker for it, and the proofs of this package.

``docs/proof-tutorial.md`` shows how to write a proof of one's own; ``kktalloc verify mine.py`` checks it.

Sign convention: a step claims ``lhs <= rhs`` or ``lhs == rhs``, and its certificate is what ``rhs - lhs``
equals: each use contributes its multiplier times (right - left side) of the statement it uses, each square
its weight times the square. So an inequality is used with a multiplier that is not negative, and an equality
with any: ``Use(name, 1)`` of ``a == b`` contributes ``b - a``.

Imported on demand only: it needs SymPy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kktalloc.proof import ready
from kktalloc.proof._checker import Verdict, verify
from kktalloc.proof._language import (
    Claim,
    Fact,
    Same,
    Sign,
    Signature,
    Sort,
    Square,
    Step,
    Theory,
    Use,
    eq,
    expectation,
    inner,
    le,
    norm2,
    renamed,
    total,
)
from kktalloc.proof._notation import Notation
from kktalloc.proof._report import run

if TYPE_CHECKING:
    from kktalloc.proof._search.refute import Refutation, refute
    from kktalloc.proof._search.suggest import suggest

__all__ = [
    "Claim",
    "Fact",
    "Notation",
    "Refutation",
    "Same",
    "Sign",
    "Signature",
    "Sort",
    "Square",
    "Step",
    "Theory",
    "Use",
    "Verdict",
    "eq",
    "expectation",
    "inner",
    "le",
    "norm2",
    "ready",
    "refute",
    "renamed",
    "run",
    "suggest",
    "total",
    "verify",
]

_SEARCHES = {"suggest": "suggest", "refute": "refute", "Refutation": "refute"}


def __getattr__(name: str) -> Any:
    """The searches load CVXPY and SciPy when asked for: checking needs neither."""
    if name not in _SEARCHES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"kktalloc.proof._search.{_SEARCHES[name]}"), name)

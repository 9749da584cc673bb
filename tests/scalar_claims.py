"""Claims between numbers, compiled once: both sides at given values, and whether the claim is so to rounding."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import sympy

from kktalloc.proof._language import Claim, Theory

Values = Mapping[str, float]


class Compiled:
    """Both sides of a claim as functions of values by name."""

    def __init__(self, claim: Claim) -> None:
        self.relation = claim.relation
        self.names = sorted({symbol.name for side in (claim.lhs, claim.rhs) for symbol in side.free_symbols})
        arguments = [sympy.Symbol(name) for name in self.names]
        self._sides: list[Callable[..., float]] = [
            sympy.lambdify(arguments, side, modules="math", dummify=True) for side in (claim.lhs, claim.rhs)
        ]

    def sides(self, at: Values) -> tuple[float, float]:
        """Left and right side."""
        left, right = (float(side(*(at[name] for name in self.names))) for side in self._sides)
        return left, right

    def holds(self, at: Values, room: float = 1e-9) -> bool:
        """Whether it is so, but for `room` times the larger side (or 1)."""
        left, right = self.sides(at)
        hair = room * max(1.0, abs(left), abs(right))
        return left <= right + hair if self.relation == "<=" else abs(left - right) <= hair


def compiled(theory: Theory) -> dict[str, Compiled]:
    """Every fact and step of a theory by name."""
    return {statement.name: Compiled(statement.claim) for statement in (*theory.facts, *theory.steps)}

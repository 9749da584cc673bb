"""Exact linear algebra on fractions: solutions near a numerical one, and squares of a quadratic form."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

Matrix = list[list[Fraction]]


def solve_near(
    rows: Matrix, right: Sequence[Fraction], near: Sequence[float], largest: int = 64
) -> list[Fraction] | None:
    """A rational solution of ``rows @ x == right``: unknowns that are free take rounded numerical values."""
    system = [[*row, value] for row, value in zip(rows, right, strict=True)]
    width = len(near)
    pivots: list[int] = []
    # Columns with large numerical values are eliminated first, so that small ones stay free and can be 0.
    for column in sorted(range(width), key=lambda n: -abs(near[n])):
        top = len(pivots)
        found = next((n for n in range(top, len(system)) if system[n][column]), None)
        if found is None:
            continue
        system[top], system[found] = system[found], system[top]
        factor = system[top][column]
        system[top] = [value / factor for value in system[top]]
        for n, row in enumerate(system):
            if n != top and row[column]:
                factor = row[column]
                system[n] = [a - factor * b for a, b in zip(row, system[top], strict=True)]
        pivots.append(column)
    if any(row[-1] for row in system[len(pivots) :]):
        return None
    solution = [rounded(value, largest) for value in near]
    for row, column in zip(system, pivots, strict=False):
        solution[column] = Fraction(0)
        solution[column] = row[-1] - sum((a * x for a, x in zip(row, solution, strict=False)), Fraction(0))
    return solution


def rounded(value: float, largest: int = 64) -> Fraction:
    """The nearest fraction with a small denominator."""
    return Fraction(value).limit_denominator(largest)


def as_squares(matrix: Matrix) -> list[tuple[Fraction, list[Fraction]]] | None:
    """Weights and forms with ``matrix == sum weight form form'``, weights > 0; None where it is indefinite."""
    left = [list(row) for row in matrix]
    squares = []
    for n in range(len(left)):
        pivot = left[n][n]
        if pivot < 0 or (pivot == 0 and any(left[n])):
            return None
        if pivot == 0:
            continue
        form = [value / pivot for value in left[n]]
        squares.append((pivot, form))
        left = [[left[i][j] - pivot * form[i] * form[j] for j in range(len(left))] for i in range(len(left))]
    return squares

"""A certificate for a claim, found by linear or semidefinite programming and rounded to an exact one."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable
from fractions import Fraction
from typing import Any

import cvxpy as _cvxpy
import numpy as np
import scipy.sparse as sp
import sympy

from kktalloc.proof._checker import verify
from kktalloc.proof._language import Claim, Square, Step, Theory, Use
from kktalloc.proof._normal_form import Key
from kktalloc.proof._search.exact import Matrix, as_squares, rounded, solve_near
from kktalloc.proof._search.squares import Block, blocks
from kktalloc.proof._search.uses import Candidate, Column, Uses

cp: Any = _cvxpy  # typed in part only
_LEVELS = 3  # rounds of uses that meet terms which earlier ones brought in
_LARGEST = 1500  # uses to choose from
_BLOCKS = 60  # quadratic forms to choose from
_SMALL = 1e-7  # a numerical multiplier below it is taken for 0


def suggest(claim: Claim, facts: Theory, names: Collection[str] | None = None, name: str = "suggested") -> Step | None:
    """Search a certificate of a claim.

    Multipliers are rational numbers times products of declared names; squares are of sums of the vectors that
    stand in the claim, with rational coefficients. What comes back has passed the checker. Where nothing is
    found the claim may be false (`kktalloc.proof.refute` searches for a model) or its certificate of another
    form.

    Parameters
    ----------
    claim
        What is to be proved.
    facts
        The theory whose hypotheses and verified steps may be used.
    names
        Only these of them; all where it is None. Fewer are searched faster.
    name
        The name of the step that is returned.

    Returns
    -------
    Step or None
        The claim with its certificate, to be handed to `Theory.add`.
    """
    verdicts = verify(facts)
    known = {fact.name: fact.claim for fact in facts.facts}
    known |= {verdict.step.name: verdict.step.claim for verdict in verdicts if verdict.verified}
    if names is not None:
        known = {key: its for key, its in known.items() if key in set(names)}
    finder = Uses(facts.signature, known, claim)
    target = finder.checker.normal(finder.checker.gap(claim, {}))
    found: dict[tuple[tuple[Key, Fraction], ...], Candidate] = {}
    met: set[Key] = set()
    for level in range(_LEVELS):
        keys = [
            key for key in dict.fromkeys([*target, *(k for c in found.values() for k in c.column)]) if key not in met
        ]
        met |= set(keys)
        for candidate in finder.meeting(keys):
            found.setdefault(_shape(candidate.column), candidate)
            if len(found) > _LARGEST:
                break
        step = _certified(claim, facts, known, name, list(found.values()), [], target, finder)
        if step is None and level < 2 and claim.relation == "<=":
            uses = [candidate.part.fact for candidate in found.values() if isinstance(candidate.part, Use)]
            claims = [claim, *(known[fact] for fact in dict.fromkeys(uses))]
            every = dict.fromkeys([*target, *(k for c in found.values() for k in c.column)])
            forms = []
            for block in blocks(claims, every, facts.signature, finder.checker):
                forms.append(block)
                if len(forms) == _BLOCKS:
                    break
            if forms:
                step = _certified(claim, facts, known, name, list(found.values()), forms, target, finder)
        if step is not None or len(found) > _LARGEST:
            return step
    return None


def _shape(column: Column) -> tuple[tuple[Key, Fraction], ...]:
    """A column up to a positive factor."""
    items = sorted(column.items())
    return tuple((key, value / abs(items[0][1])) for key, value in items)


def _certified(
    claim: Claim,
    facts: Theory,
    known: dict[str, Claim],
    name: str,
    candidates: list[Candidate],
    forms: list[Block],
    target: Column,
    finder: Uses,
) -> Step | None:
    useful, rows = _reachable(candidates, forms, target)
    if rows is None:
        return None
    numbers = _numerical(useful, forms, target, rows)
    if numbers is None:
        return None
    parts = _exact(useful, forms, target, *numbers)
    if parts is None:
        return None
    uses = tuple(part for part in parts if isinstance(part, Use))
    squares = tuple(part for part in parts if isinstance(part, Square))
    step = Step(name, claim, "Found by search.", uses, squares)
    return step if finder.checker.check(step, known).verified else None


def _reachable(
    candidates: list[Candidate], forms: list[Block], target: Column
) -> tuple[list[Candidate], list[Key] | None]:
    """Candidates without those that have a term which nothing else can cancel; None where the target has one."""
    fixed = [column for form in forms for column in form.columns.values()]
    while True:
        count: dict[Key, int] = dict.fromkeys(target, 1)
        for column in (*fixed, *(candidate.column for candidate in candidates)):
            for key in column:
                count[key] = count.get(key, 0) + 1
        kept = [c for c in candidates if all(count[key] > 1 for key in c.column)]
        if len(kept) == len(candidates):
            break
        candidates = kept
    reached = all(count[key] > 1 for key in target)
    return candidates, list(count) if reached else None


def _numerical(
    candidates: list[Candidate], forms: list[Block], target: Column, rows: list[Key]
) -> tuple[np.ndarray, list[np.ndarray]] | None:
    place = {key: n for n, key in enumerate(rows)}
    columns = sp.lil_matrix((len(rows), len(candidates)))
    for n, candidate in enumerate(candidates):
        for key, value in candidate.column.items():
            columns[place[key], n] = float(value)
    right = np.zeros(len(rows))
    for key, value in target.items():
        right[place[key]] = float(value)
    x = cp.Variable(len(candidates))
    total: Any = columns.tocsr() @ x
    constraints, cost = [], cp.norm1(x)
    unsigned = [n for n, candidate in enumerate(candidates) if not candidate.signed]
    if unsigned:
        constraints.append(x[unsigned] >= 0)
    grams = []
    for form in forms:
        size = len(form.vectors)
        gram = cp.Variable((size, size), PSD=True)
        grams.append(gram)
        cost += 2 * cp.trace(gram)
        effect = sp.lil_matrix((len(rows), size * size))
        for (a, b), column in form.columns.items():
            for key, value in column.items():
                effect[place[key], a * size + b] = float(value)
        total = total + effect.tocsr() @ cp.vec(gram, order="C")
    problem = cp.Problem(cp.Minimize(cost), [*constraints, total == right])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "may be inaccurate": whatever comes back is rounded and checked exactly
        try:
            problem.solve(solver=cp.CLARABEL if forms else cp.HIGHS)
        except cp.error.SolverError:
            return None
    if x.value is None:
        return None
    return x.value, [gram.value for gram in grams]


def _exact(
    candidates: list[Candidate], forms: list[Block], target: Column, x: np.ndarray, grams: list[np.ndarray]
) -> list[Use | Square] | None:
    small = 1e-5 if forms else _SMALL
    chosen = [(candidates[n], x[n]) for n in np.flatnonzero(np.abs(x) > small)]
    faces = [(form, face, inner) for form, gram in zip(forms, grams, strict=True) for face, inner in _face(gram, small)]
    columns: list[Column] = [candidate.column for candidate, _ in chosen]
    near: list[float] = [float(value) for _, value in chosen]
    for form, face, inner in faces:
        for a, b in _upper(len(face)):
            columns.append(_on_face(form, face, a, b))
            near.append(float(inner[a, b]))
    rows = list(dict.fromkeys([*target, *(key for column in columns for key in column)]))
    matrix: Matrix = [[column.get(key, Fraction(0)) for column in columns] for key in rows]
    solution = solve_near(matrix, [target.get(key, Fraction(0)) for key in rows], near)
    if solution is None:
        return None
    parts: list[Use | Square] = []
    for (candidate, _), value in zip(chosen, solution, strict=False):
        if value < 0 and not candidate.signed:
            return None
        if value:
            parts.append(candidate.times(value))
    rest = iter(solution[len(chosen) :])
    for form, face, _ in faces:
        gram = [[Fraction(0)] * len(face) for _ in face]
        for a, b in _upper(len(face)):
            gram[a][b] = gram[b][a] = next(rest)
        squares = as_squares(gram)
        if squares is None:
            return None
        for weight, coefficients in squares:
            ratios = [
                sum((c * row[n] for c, row in zip(coefficients, face, strict=True)), Fraction(0))
                for n in range(len(form.vectors))
            ]
            base = sympy.Add(*(_rational(ratio) * vector for ratio, vector in zip(ratios, form.vectors, strict=True)))
            parts.append(Square(base, _rational(weight) * form.weight, form.over))
    return parts


def _face(gram: np.ndarray, small: float) -> Iterable[tuple[Matrix, np.ndarray]]:
    """The range of a numerical matrix with rational rows in echelon form, and the matrix in their terms."""
    values, vectors = np.linalg.eigh(gram)
    large = values > max(small, 1e-4 * values.max(initial=0))
    if not large.any():
        return
    basis = vectors[:, large].T
    pivots: list[int] = []
    for n in range(basis.shape[0]):
        column = int(np.argmax(np.abs(basis[n:]).max(axis=0)))
        row = n + int(np.argmax(np.abs(basis[n:, column])))
        basis[[n, row]] = basis[[row, n]]
        basis[n] /= basis[n, column]
        for other in range(basis.shape[0]):
            if other != n:
                basis[other] -= basis[other, column] * basis[n]
        pivots.append(column)
    yield [[rounded(value, 12) for value in row] for row in basis], gram[np.ix_(pivots, pivots)]


def _upper(size: int) -> list[tuple[int, int]]:
    return [(a, b) for a in range(size) for b in range(a, size)]


def _on_face(form: Block, face: Matrix, a: int, b: int) -> Column:
    """What a unit of the entries (a, b) and (b, a) of the matrix on a face adds."""
    found: Column = {}
    for (i, j), column in form.columns.items():
        # The column of (i, j) counts G_ij and G_ji together.
        factor = face[a][i] * face[b][j] + (face[a][j] * face[b][i] if a != b or i != j else Fraction(0))
        if a == b:
            factor = face[a][i] * face[a][j]
        elif i == j:
            factor = 2 * face[a][i] * face[b][i]
        for key, value in column.items() if factor else ():
            found[key] = found.get(key, Fraction(0)) + factor * value
    return {key: value for key, value in found.items() if value}


def _rational(value: Fraction) -> Any:
    return sympy.Rational(value.numerator, value.denominator)

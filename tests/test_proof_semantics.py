"""Does the theory speak of the algorithm? Every hypothesis and every step, evaluated on real runs.

A run is two devices, two pruned steps and one personal step on random indefinite quadratics, over every
outcome of sign noise, in exact rational arithmetic. Each hypothesis must hold there (so that they are
consistent and say what was meant) and then each step must (so that the checker's axioms are sound).
Nothing here uses the checker: names are looked up in the run, totals are loops.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
import pytest
import sympy
from sympy.core.function import AppliedUndef

from kktalloc.proof._language import Claim, Expr, Index, Same, Total
from kktalloc.proof._theorem import convergence

DEVICES, PERSONAL, DIM_U, DIM_V = 2, 1, 2, 1
THEORY = convergence()
Vector = list[Fraction]


def _matrix(rng: np.random.Generator, rows: int, columns: int) -> list[Vector]:
    return [[Fraction(int(x), 4) for x in row] for row in rng.integers(-4, 5, (rows, columns))]


def _apply(matrix: list[Vector], vector: Vector) -> Vector:
    return [sum((a * b for a, b in zip(row, vector, strict=True)), Fraction(0)) for row in matrix]


def _dot(a: Vector, b: Vector) -> Fraction:
    return sum((x * y for x, y in zip(a, b, strict=True)), Fraction(0))


def _symmetric(matrix: list[Vector]) -> list[Vector]:
    size = range(len(matrix))
    return [[(matrix[i][j] + matrix[j][i]) / 2 for j in size] for i in size]


def _norm_bound(matrix: list[Vector]) -> Fraction:
    """A rational number at least the spectral norm: the largest row sum of a symmetric matrix."""
    return max(sum(map(abs, row), Fraction(0)) for row in matrix)


def free_indices(expr: Expr) -> set[Index]:
    """Indices of an expression that no total binds."""
    if isinstance(expr, Total):
        return free_indices(expr.args[0]) - {expr.args[1]}
    if isinstance(expr, sympy.Symbol):
        return {expr} if expr.name in THEORY.signature.indices else set()
    return set().union(*map(free_indices, expr.args))


class Run:
    """One run of the algorithm: every name of the theory has its value here."""

    def __init__(self, seed: int, rounds: int, steps: int, agreeing: bool) -> None:
        rng = np.random.default_rng(seed)
        self.rounds = rounds
        quad_u = [_symmetric(_matrix(rng, DIM_U, DIM_U)) for _ in range(DEVICES)]
        quad_v = [_symmetric(_matrix(rng, DIM_V, DIM_V)) for _ in range(DEVICES)]
        cross = [_matrix(rng, DIM_U, DIM_V) for _ in range(DEVICES)]
        linear = [_matrix(rng, 1, DIM_U)[0] for _ in range(DEVICES)]
        signs = list(itertools.product((-1, 1), repeat=rounds * DEVICES * (steps + PERSONAL)))
        self.outcomes = len(signs)
        weight = Fraction(int(rng.integers(1, 4)), 4)
        self.alpha = [weight, 1 - weight]
        eta, eta_v = Fraction(1, 16), Fraction(1, 8)
        noise_u = [_matrix(rng, 1, DIM_U)[0] for _ in range(DEVICES)]
        noise_v = [_matrix(rng, 1, DIM_V)[0] for _ in range(DEVICES)]
        mask_choices = [[1, 1], [1, 0], [0, 1], [0, 0]]
        picks = rng.integers(0, 4, (rounds, 2, DEVICES))

        def loss(k: int, u: Vector, v: Vector) -> Fraction:
            quadratic = _dot(u, _apply(quad_u[k], u)) / 2 + _dot(v, _apply(quad_v[k], v)) / 2
            return quadratic + _dot(u, _apply(cross[k], v)) + _dot(linear[k], u)

        def grad_u(k: int, u: Vector, v: Vector) -> Vector:
            parts = zip(_apply(quad_u[k], u), _apply(cross[k], v), linear[k], strict=True)
            return [a + b + c for a, b, c in parts]

        def grad_v(k: int, u: Vector, v: Vector) -> Vector:
            transposed = [list(column) for column in zip(*cross[k], strict=True)]
            return [a + b for a, b in zip(_apply(quad_v[k], v), _apply(transposed, u), strict=True)]

        self.values: dict[str, dict[tuple[int, ...], Fraction]] = {name: {} for name in THEORY.signature.families}
        put = self._put
        for w, sign in enumerate(signs):
            draw = iter(sign)
            u = [Fraction(1), Fraction(-1, 2)]
            vs = [[Fraction(1, 2)] * DIM_V for _ in range(DEVICES)]
            for t in range(rounds):
                for k in range(DEVICES):  # personal steps
                    put("f_start", (t, k, w), loss(k, u, vs[k]))
                    for e in range(PERSONAL):
                        drawn = next(draw)
                        xi = [drawn * x for x in noise_v[k]]
                        g = grad_v(k, u, vs[k])
                        put("value", (t, k, e, w), loss(k, u, vs[k]))
                        after = [v - eta_v * (a + b) for v, a, b in zip(vs[k], g, xi, strict=True)]
                        middle = [(a + b) / 2 for a, b in zip(vs[k], after, strict=True)]
                        for c in range(DIM_V):
                            put("pgrad", (t, k, e, c, w), g[c])
                            put("pnoise", (t, k, e, c, w), xi[c])
                            put("psegment", (t, k, e, 0, c, w), grad_v(k, u, middle)[c])
                        vs[k] = after
                        put("value_next", (t, k, e, w), loss(k, u, vs[k]))
                    put("f_middle", (t, k, w), loss(k, u, vs[k]))
                # Masks depend on chance, through the sign of what the personal steps drew.
                chosen = picks[t, 0 if vs[0][0] > 0 else 1]
                masks = [mask_choices[chosen[0 if agreeing else k]] for k in range(DEVICES)]
                covered = [int(any(mask[j] for mask in masks)) for j in range(DIM_U)]
                kept = [sum(a * m[j] for a, m in zip(self.alpha, masks, strict=True)) for j in range(DIM_U)]
                moves: list[Vector] = [[Fraction(0)] * DIM_U for _ in range(DEVICES)]
                for j in range(DIM_U):
                    put("u", (t, j, w), u[j])
                    put("covered", (t, j, w), Fraction(covered[j]))
                    put("inverse", (t, j, w), 1 / kept[j] if covered[j] else Fraction(7))
                for k in range(DEVICES):
                    x = [m * a for m, a in zip(masks[k], u, strict=True)]
                    g = grad_u(k, u, vs[k])
                    for j in range(DIM_U):
                        put("mask", (t, k, j, w), Fraction(masks[k][j]))
                        put("grad", (t, k, j, w), g[j])
                    for i in range(steps):
                        drawn = next(draw)
                        n = [drawn * a for a in noise_u[k]]
                        g = grad_u(k, x, vs[k])
                        for j in range(DIM_U):
                            put("grad_at", (t, k, i, j, w), g[j])
                            put("noise", (t, k, i, j, w), n[j])
                        x = [a - eta * m * (b + c) for a, m, b, c in zip(x, masks[k], g, n, strict=True)]
                    moves[k] = [x[j] - masks[k][j] * u[j] for j in range(DIM_U)]
                new = [
                    u[j] + sum(self.alpha[k] * masks[k][j] * moves[k][j] for k in range(DEVICES)) / kept[j]
                    if covered[j]
                    else u[j]
                    for j in range(DIM_U)
                ]
                middle = [(a + b) / 2 for a, b in zip(u, new, strict=True)]
                for k in range(DEVICES):
                    for j in range(DIM_U):
                        put("segment", (t, k, 0, j, w), grad_u(k, middle, vs[k])[j])
                u = new
                put("f_end", (t, w), sum(a * loss(k, u, vs[k]) for k, a in enumerate(self.alpha)))
        for k in range(DEVICES):
            put("alpha", (k,), self.alpha[k])
        for a, b in itertools.product(range(steps), repeat=2):
            put("before", (a, b), Fraction(int(a < b)))
        put("position", (0,), Fraction(1, 2))  # gradients are linear: the midpoint stands for the segment

        smooth = max(map(_norm_bound, quad_u))
        gamma = min(1 / q for index, q in self.values["inverse"].items() if self.values["covered"][index] == 1)
        p, r = Fraction(2), Fraction(1, 2)
        pairs = Fraction(steps * (steps - 1), 2)
        self.sizes = {
            "device": DEVICES, "step": steps, "round": rounds, "coordinate": DIM_U, "personal step": PERSONAL,
            "coordinate of v": DIM_V, "chance": self.outcomes, "point on the segment": 1,
        }  # fmt: skip
        ends = [self.values["f_end"][rounds - 1, w] for w in range(self.outcomes)]
        starts = [
            sum(a * self.values["f_start"][0, k, w] for k, a in enumerate(self.alpha)) for w in range(self.outcomes)
        ]
        final = sum(ends, Fraction(0)) / self.outcomes
        self.parameters = {
            "K": Fraction(DEVICES), "tau": Fraction(steps), "R": Fraction(rounds), "tau_v": Fraction(PERSONAL),
            "dim_u": Fraction(DIM_U), "dim_v": Fraction(DIM_V), "eta": eta, "eta_v": eta_v, "L": smooth,
            "L_v": max(map(_norm_bound, quad_v)) + Fraction(1, 10), "gamma": gamma, "co_gamma": 1 - gamma,
            "var_u": max(_dot(n, n) for n in noise_u), "var_v": max(_dot(n, n) for n in noise_v),
            "sum_sq": _dot(self.alpha, self.alpha), "s": Fraction(3, 2), "lean": Fraction(1, 2),
            "one_lean": Fraction(3, 2), "spare": Fraction(1, 3), "co_spare": Fraction(2, 3),
            "p": p, "r": r, "pairs": pairs,
            "theta": 1 - (1 + p) * (1 + 1 / r) * eta**2 * smooth**2 * pairs,
            "headroom": 1 - smooth * eta * steps, "f_initial": sum(starts, Fraction(0)) / self.outcomes,
            "f_final": final, "f_lower": final - 1, "radius2": Fraction(2), "delta2": Fraction(0),
        }  # fmt: skip
        for t, k in itertools.product(range(rounds), range(DEVICES)):  # A3 and A4 with equality
            (pruned,) = (fact.claim.lhs for fact in THEORY.facts if fact.name == "pruning error")
            put("rho", (t, k), self.value(pruned, {"t": t, "k": k}) / 2)
        (spread,) = (fact.claim.lhs for fact in THEORY.facts if fact.name == "heterogeneity")
        self.parameters["delta2"] = max(self.value(spread, {"t": t}) for t in range(rounds))

    def _put(self, name: str, index: tuple[int, ...], value: Fraction | int) -> None:
        assert len(index) == len(THEORY.signature.families[name].sorts)
        self.values[name][index] = Fraction(value)

    def size(self, index: Expr) -> int:
        return self.sizes[THEORY.signature.indices[index.name].name]

    def value(self, expr: Expr, scope: dict[str, int]) -> Fraction:
        return self._compiled(expr)(scope)

    def _compiled(self, expr: Expr) -> Callable[[dict[str, int]], Fraction]:
        """Evaluate by the meaning of each construction; totals with equal surroundings are kept."""
        if isinstance(expr, sympy.Rational):
            number = Fraction(int(expr.p), int(expr.q))
            return lambda scope: number
        if isinstance(expr, AppliedUndef):
            table, names = self.values[expr.func.__name__], [index.name for index in expr.args]
            return lambda scope: table[tuple(scope[name] for name in names)]
        if isinstance(expr, sympy.Symbol):
            return lambda scope: self.parameters[expr.name]
        if isinstance(expr, Same):
            first, second = (index.name for index in expr.args)
            return lambda scope: Fraction(int(scope[first] == scope[second]))
        if isinstance(expr, sympy.Pow):
            base, exponent = self._compiled(expr.base), int(expr.exp)
            return lambda scope: base(scope) ** exponent
        if isinstance(expr, Total):
            return self._loop(*expr.args)
        parts = [self._compiled(part) for part in expr.args]
        if isinstance(expr, sympy.Add):
            return lambda scope: sum((part(scope) for part in parts), Fraction(0))
        assert isinstance(expr, sympy.Mul)

        def product(scope: dict[str, int]) -> Fraction:
            found = Fraction(1)
            for part in parts:
                if not found:
                    break
                found *= part(scope)
            return found

        return product

    def _loop(self, body: Expr, index: Expr) -> Callable[[dict[str, int]], Fraction]:
        inner, size = self._compiled(body), self.size(index)
        average = THEORY.signature.indices[index.name].size == 1
        free = sorted(name.name for name in free_indices(Total(body, index)))
        kept: dict[tuple[int, ...], Fraction] = {}

        def loop(scope: dict[str, int]) -> Fraction:
            key = tuple(scope[name] for name in free)
            if key not in kept:
                found = sum((inner({**scope, index.name: n}) for n in range(size)), Fraction(0))
                kept[key] = found / size if average else found
            return kept[key]

        return loop

    def gaps(self, claim: Claim) -> Iterator[Fraction]:
        """``rhs - lhs`` for all values of the free indices; of chance, some."""
        indices = sorted(free_indices(claim.lhs) | free_indices(claim.rhs), key=str)
        left, right = self._compiled(claim.lhs), self._compiled(claim.rhs)
        ranges = [range(0, self.size(index), 13) if index.name == "w" else range(self.size(index)) for index in indices]
        for values in itertools.product(*ranges):
            scope = {index.name: value for index, value in zip(indices, values, strict=True)}
            yield right(scope) - left(scope)


CASES = [  # seed, rounds, steps, agreeing masks
    (0, 1, 3, False),
    (2, 1, 2, False),
    (3, 1, 2, True),
    (5, 2, 1, False),
]


@pytest.mark.parametrize(("seed", "rounds", "steps", "agreeing"), CASES)
def test_hypotheses_hold_on_a_run_and_so_do_all_steps(seed: int, rounds: int, steps: int, agreeing: bool) -> None:
    run = Run(seed, rounds, steps, agreeing)
    for name in ("gamma", "theta", "headroom"):
        assert run.parameters[name] > 0
    needs_agreement = {"agreement", "agreeing weights"}
    needs_agreement |= {step.name for step in THEORY.steps if step.name.endswith("agreeing masks")}
    for statement in (*THEORY.facts, *THEORY.steps):
        if not agreeing and statement.name in needs_agreement:
            continue
        gaps = list(run.gaps(statement.claim))
        assert gaps
        if statement.claim.relation == "==":
            assert not any(gaps), statement.name
        else:
            assert min(gaps) >= 0, statement.name


def test_the_runs_are_not_special() -> None:
    runs = [Run(*case) for case in CASES]
    assert any(run.parameters["gamma"] < 1 for run in runs)
    assert any(0 in run.values["covered"].values() for run in runs)
    assert any(len({m for (t, k, j, w), m in run.values["mask"].items() if (k, j) == (0, 0)}) == 2 for run in runs)
    assert all(run.parameters["delta2"] > 0 for run in runs)
    assert all(any(run.values["rho"].values()) for run in runs)

"""Theories evaluated on runs of the algorithm they speak of: exact, and by code that knows nothing of the checker.

A `World` gives every name of a theory a value; totals are loops. `MaskedRun` is the algorithm of zeroed rounds, with
devices that may stay away; `UploadRun` that of sparse uploads, with error feedback and server momentum. Both are two
devices on random indefinite quadratics, over every outcome of sign noise, in rational arithmetic.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
import sympy
from sympy.core.function import AppliedUndef

from kktalloc.proof._language import Claim, Expr, Index, Same, Signature, Theory, Total

DEVICES, PERSONAL, DIM_U, DIM_V = 2, 1, 2, 1
Vector = list[Fraction]
ONE, HALF = Fraction(1), Fraction(1, 2)
ONES = {"s": ONE, "p": ONE, "r": ONE, "lean": 0 * ONE, "one_lean": ONE, "spare": 0 * ONE, "co_spare": ONE}
"""Free parameters as the corollaries put them in."""
YOUNG = {
    "s": Fraction(3, 2), "p": 2 * ONE, "r": HALF, "lean": HALF, "one_lean": Fraction(3, 2), "spare": Fraction(1, 3),
    "co_spare": Fraction(2, 3), "v": Fraction(5, 4), "q": Fraction(3, 4), "n": Fraction(3, 4), "co_n": Fraction(1, 4),
    "mix": Fraction(4, 3),
}  # fmt: skip


def dot(a: Vector, b: Vector) -> Fraction:
    """Inner product."""
    return sum((x * y for x, y in zip(a, b, strict=True)), Fraction(0))


def _matrix(rng: np.random.Generator, rows: int, columns: int) -> list[Vector]:
    return [[Fraction(int(x), 4) for x in row] for row in rng.integers(-4, 5, (rows, columns))]


def _apply(matrix: list[Vector], vector: Vector) -> Vector:
    return [dot(row, vector) for row in matrix]


def _transposed(matrix: list[Vector]) -> list[Vector]:
    return [list(column) for column in zip(*matrix, strict=True)]


def _row_sum(matrix: list[Vector]) -> Fraction:
    return max(sum(map(abs, row), Fraction(0)) for row in matrix)


def _norm_bound(matrix: list[Vector]) -> Fraction:
    """A rational number at least the spectral norm."""
    return max(_row_sum(matrix), _row_sum(_transposed(matrix)))


def _plus(a: Vector, b: Vector, times: Fraction = ONE) -> Vector:
    return [x + times * y for x, y in zip(a, b, strict=True)]


class World:
    """Values for the names of a theory."""

    def __init__(self, signature: Signature, sizes: dict[str, int]) -> None:
        self.signature, self.sizes = signature, sizes
        self.values: dict[str, dict[tuple[int, ...], Fraction]] = {}
        self.parameters: dict[str, Fraction] = {}

    def put(self, name: str, index: tuple[int, ...], value: Fraction | int) -> None:
        """One value of a family; of one that the theory does not have, nothing."""
        family = self.signature.families.get(name)
        if family is not None:
            assert len(index) == len(family.sorts), name
            self.values.setdefault(name, {})[index] = Fraction(value)

    def set(self, **values: Fraction | int) -> None:
        """Constants; one that changes from round to round in the theory has this value in each."""
        for name, value in values.items():
            self.parameters[name] = Fraction(value)
            if name in self.signature.families:
                for t in range(self.sizes["round"]):
                    self.put(name, (t,), value)

    def size(self, index: Expr) -> int:
        """Number of values of an index."""
        return self.sizes[self.signature.indices[index.name].name]

    def free(self, expr: Expr) -> set[Index]:
        """Indices that no total binds."""
        if isinstance(expr, Total):
            return self.free(expr.args[0]) - {expr.args[1]}
        if isinstance(expr, sympy.Symbol):
            return {expr} if expr.name in self.signature.indices else set()
        return set().union(*map(self.free, expr.args))

    def value(self, expr: Expr, **scope: int) -> Fraction:
        """Of an expression whose free indices have these values."""
        return self._compiled(expr)(scope)

    def gaps(self, claim: Claim) -> Iterator[Fraction]:
        """``rhs - lhs`` for all values of the free indices; of chance, some."""
        indices = sorted(self.free(claim.lhs) | self.free(claim.rhs), key=str)
        left, right = self._compiled(claim.lhs), self._compiled(claim.rhs)
        ranges = [range(0, self.size(index), 13) if index.name == "w" else range(self.size(index)) for index in indices]
        for values in itertools.product(*ranges):
            scope = {index.name: value for index, value in zip(indices, values, strict=True)}
            yield right(scope) - left(scope)

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
        average = self.signature.indices[index.name].size == 1
        free = sorted(name.name for name in self.free(Total(body, index)))
        kept: dict[tuple[int, ...], Fraction] = {}

        def loop(scope: dict[str, int]) -> Fraction:
            key = tuple(scope[name] for name in free)
            if key not in kept:
                found = sum((inner({**scope, index.name: n}) for n in range(size)), Fraction(0))
                kept[key] = found / size if average else found
            return kept[key]

        return loop


class _Quadratics:
    """``F_k(u, v) = u'Au/2 + v'Bv/2 + u'Cv + c'u``, and noise of fixed size and random sign."""

    def __init__(self, rng: np.random.Generator) -> None:
        def symmetric(size: int) -> list[Vector]:
            matrix = _matrix(rng, size, size)
            return [[(matrix[i][j] + matrix[j][i]) / 2 for j in range(size)] for i in range(size)]

        self.quad_u = [symmetric(DIM_U) for _ in range(DEVICES)]
        self.quad_v = [symmetric(DIM_V) for _ in range(DEVICES)]
        self.cross = [_matrix(rng, DIM_U, DIM_V) for _ in range(DEVICES)]
        self.linear = [_matrix(rng, 1, DIM_U)[0] for _ in range(DEVICES)]
        weight = Fraction(int(rng.integers(1, 4)), 4)
        self.alpha = [weight, 1 - weight]
        self.noise_u = [_matrix(rng, 1, DIM_U)[0] for _ in range(DEVICES)]
        self.noise_v = [_matrix(rng, 1, DIM_V)[0] for _ in range(DEVICES)]

    def loss(self, k: int, u: Vector, v: Vector) -> Fraction:
        quadratic = dot(u, _apply(self.quad_u[k], u)) / 2 + dot(v, _apply(self.quad_v[k], v)) / 2
        return quadratic + dot(u, _apply(self.cross[k], v)) + dot(self.linear[k], u)

    def grad_u(self, k: int, u: Vector, v: Vector) -> Vector:
        return _plus(_plus(_apply(self.quad_u[k], u), _apply(self.cross[k], v)), self.linear[k])

    def grad_v(self, k: int, u: Vector, v: Vector) -> Vector:
        return _plus(_apply(self.quad_v[k], v), _apply(_transposed(self.cross[k]), u))


class _Run(World):
    """What the algorithms share: personal steps, constants, and what hypotheses bound, taken with equality."""

    def __init__(
        self, theory: Theory, seed: int, rounds: int, steps: int, eta: Fraction, young: dict[str, Fraction],
        draws: int,
    ) -> None:  # fmt: skip
        self.signs = list(itertools.product((-1, 1), repeat=draws))
        sizes = {
            "device": DEVICES, "step": steps, "round": rounds, "coordinate": DIM_U, "personal step": PERSONAL,
            "coordinate of v": DIM_V, "chance": len(self.signs), "point on the segment": 1,
        }  # fmt: skip
        super().__init__(theory.signature, sizes)
        self.theory, self.rng = theory, np.random.default_rng(seed)
        self.rounds, self.steps, self.eta, self.eta_v = rounds, steps, eta, Fraction(1, 8)
        self.problem = _Quadratics(self.rng)
        self.set(**young)

    def personal_steps(self, t: int, w: int, k: int, u: Vector, v: Vector, draw: Iterator[int], at: Vector) -> Vector:
        """Train v at u; values are those at `at`."""
        its = self.problem
        self.put("f_start", (t, k, w), its.loss(k, at, v))
        for e in range(PERSONAL):
            drawn = next(draw)
            xi = [drawn * x for x in its.noise_v[k]]
            g = its.grad_v(k, u, v)
            self.put("value", (t, k, e, w), its.loss(k, at, v))
            after = _plus(v, _plus(g, xi), -self.eta_v)
            middle = [(a + b) / 2 for a, b in zip(v, after, strict=True)]
            for c in range(DIM_V):
                self.put("pgrad", (t, k, e, c, w), g[c])
                self.put("pshifted", (t, k, e, c, w), its.grad_v(k, at, v)[c])
                self.put("pnoise", (t, k, e, c, w), xi[c])
                self.put("psegment", (t, k, e, 0, c, w), its.grad_v(k, at, middle)[c])
            v = after
            self.put("value_next", (t, k, e, w), its.loss(k, at, v))
        self.put("f_middle", (t, k, w), its.loss(k, at, v))
        return v

    def local_steps(
        self, t: int, w: int, k: int, x: Vector, v: Vector, mask: list[int], draw: Iterator[int]
    ) -> tuple[Vector, Vector]:
        """Where masked steps from x end, and the sum of what they went along."""
        its, total = self.problem, [Fraction(0)] * DIM_U
        for i in range(self.steps):
            drawn = next(draw)
            n = [drawn * a for a in its.noise_u[k]]
            g = its.grad_u(k, x, v)
            for j in range(DIM_U):
                self.put("grad_at", (t, k, i, j, w), g[j])
                self.put("noise", (t, k, i, j, w), n[j])
                if i == 0:
                    self.put("start", (t, k, j, w), g[j])
            total = _plus(total, _plus(g, n))
            x = [a - self.eta * m * (b + c) for a, m, b, c in zip(x, mask, g, n, strict=True)]
        return x, total

    def segment(self, t: int, w: int, before: Vector, after: Vector, vs: list[Vector]) -> None:
        """Gradients are linear: the midpoint stands for the way of the server's step."""
        middle = [(a + b) / 2 for a, b in zip(before, after, strict=True)]
        for k in range(DEVICES):
            for j in range(DIM_U):
                self.put("segment", (t, k, 0, j, w), self.problem.grad_u(k, middle, vs[k])[j])
        self.put("f_end", (t, w), sum(a * self.problem.loss(k, after, vs[k]) for k, a in enumerate(self.problem.alpha)))

    def finish(self, gamma: Fraction, rate: Fraction) -> None:
        """All constants, when all rounds are run; the step condition is what the theory says it is."""
        its, tau = self.problem, self.steps
        for k, a in enumerate(its.alpha):
            self.put("alpha", (k,), a)
        for a, b in itertools.product(range(tau), repeat=2):
            self.put("before", (a, b), int(a < b))
        self.put("position", (0,), HALF)
        smooth, p, r = max(map(_norm_bound, its.quad_u)), self.parameters["p"], self.parameters["r"]
        pairs = Fraction(tau * (tau - 1), 2)
        outcomes = range(len(self.signs))
        final = sum((self.values["f_end"][self.rounds - 1, w] for w in outcomes), Fraction(0)) / len(outcomes)
        starts = [self.values["f_start"][0, k, w] * a for w in outcomes for k, a in enumerate(its.alpha)]
        self.set(
            K=DEVICES, tau=tau, R=self.rounds, tau_v=PERSONAL, dim_u=DIM_U, dim_v=DIM_V, eta=self.eta, rate=rate,
            eta_v=self.eta_v, L=smooth, L_v=max(map(_norm_bound, its.quad_v)) + Fraction(1, 10),
            L_uv=max(map(_norm_bound, its.cross)), gamma=gamma, co_gamma=1 - gamma, sum_sq=dot(its.alpha, its.alpha),
            var_u=max(dot(n, n) for n in its.noise_u), var_v=max(dot(n, n) for n in its.noise_v), pairs=pairs,
            theta=1 - (1 + p) * (1 + 1 / r) * self.eta**2 * smooth**2 * pairs,
            f_initial=sum(starts, Fraction(0)) / len(outcomes),
            f_final=final, f_lower=final - 1, radius2=2,
        )  # fmt: skip
        if any(fact.name == "step condition" for fact in self.theory.facts):
            condition = self.fact("step condition").rhs
            self.set(headroom=self.value(condition, **({"t": 0} if self.free(condition) else {})))

    def fact(self, name: str) -> Claim:
        """A hypothesis's claim."""
        return next(fact.claim for fact in self.theory.facts if fact.name == name)

    def largest(self, name: str) -> Fraction:
        """Of a hypothesis's left side, over its free indices."""
        left = self.fact(name).lhs
        free = sorted(self.free(left), key=str)
        return max(
            self.value(left, **dict(zip((index.name for index in free), at, strict=True)))
            for at in itertools.product(*(range(self.size(index)) for index in free))
        )

    def by_device(self, fact: str, name: str, over: Fraction = ONE) -> None:
        """Give a family (round, device) what a hypothesis's left side is there."""
        for t, k in itertools.product(range(self.rounds), range(DEVICES)):
            self.put(name, (t, k), self.value(self.fact(fact).lhs, t=t, k=k) / over)


class MaskedRun(_Run):
    """Zeroed rounds: masks that depend on chance, and devices that take part half of the time where `absent`."""

    def __init__(
        self, theory: Theory, seed: int, rounds: int, steps: int, agreeing: bool = False,
        eta: Fraction = Fraction(1, 16), young: dict[str, Fraction] = YOUNG, absent: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(
            theory, seed, rounds, steps, eta, young, rounds * DEVICES * (steps + PERSONAL + int(absent))
        )  # fmt: skip
        picks = self.rng.integers(0, 4, (rounds, 2, DEVICES))
        for w, sign in enumerate(self.signs):
            draw = iter(sign)
            u = [ONE, -HALF]
            vs = [[HALF] * DIM_V for _ in range(DEVICES)]
            for t in range(rounds):
                first = sign[t * len(sign) // rounds]  # what the round's first personal step draws
                vs = [self.personal_steps(t, w, k, u, v, draw, u) for k, v in enumerate(vs)]
                chosen = picks[t, 0 if first > 0 else 1]  # masks depend on chance
                masks = [[[1, 1], [1, 0], [0, 1], [0, 0]][chosen[0 if agreeing else k]] for k in range(DEVICES)]
                part = [1 + next(draw) if absent else 1 for _ in range(DEVICES)]
                u = self._round(t, w, u, vs, masks, part, draw)
        self._constants(absent)

    def _round(
        self, t: int, w: int, u: Vector, vs: list[Vector], masks: list[list[int]], part: list[int], draw: Iterator[int]
    ) -> Vector:
        alpha = self.problem.alpha
        kept = [sum(a * m[j] for a, m in zip(alpha, masks, strict=True)) for j in range(DIM_U)]
        new = list(u)
        for k in range(DEVICES):
            x = [m * a for m, a in zip(masks[k], u, strict=True)]
            g = self.problem.grad_u(k, u, vs[k])
            _, total = self.local_steps(t, w, k, x, vs[k], masks[k], draw)
            self.put("part", (t, k, w), part[k])
            for j in range(DIM_U):
                self.put("mask", (t, k, j, w), masks[k][j])
                self.put("grad", (t, k, j, w), g[j])
                if masks[k][j]:
                    new[j] -= alpha[k] * part[k] / kept[j] * self.eta * total[j]
        for j in range(DIM_U):
            self.put("u", (t, j, w), u[j])
            self.put("covered", (t, j, w), int(kept[j] > 0))
            self.put("inverse", (t, j, w), 1 / kept[j] if kept[j] else 7)
            self.put("extra", (t, j, w), 1 / kept[j] - 1 if kept[j] else 0)
        self.segment(t, w, u, new, vs)
        return new

    def _constants(self, absent: bool) -> None:
        inverse, covered = self.values["inverse"], self.values.get("covered", {})
        self.finish(min(1 / q for index, q in inverse.items() if covered[index]), ONE)
        facts = {fact.name for fact in self.theory.facts}
        if "pruning error" in facts:  # A3 and A4 with equality
            self.by_device("pruning error", "rho", self.parameters["radius2"])
        if "heterogeneity" in facts:
            self.set(delta2=self.largest("heterogeneity"))
        if "gradient error" in facts:
            self.by_device("gradient error", "err")
            self.set(charge2=self.largest("coverage charge"), nu2=self.largest("server noise variance"))
            self.set(absence=int(absent), chi2=self.largest("participation spread") / self.steps**2)
        if "curvature" in self.signature.families:
            self._curvatures()
        if "PL" in facts:
            self._rate()

    def _curvatures(self) -> None:
        """Constants for each coordinate, not all alike, and the sum of all ``H'H``."""
        squares = [[_apply(_transposed(h), column) for column in _transposed(h)] for h in self.problem.quad_u]
        for j in range(DIM_U):
            self.put("curvature", (j,), self.parameters["L"] + Fraction(j, 7))
            for j2 in range(DIM_U):
                self.put("matrix", (j, j2), sum(square[j2][j] for square in squares))

    def _rate(self) -> None:
        """A PL constant that holds on this run, and the weights of its rounds."""
        squares = [self.value(self.fact("PL").rhs, t=t) for t in range(self.rounds)]
        middle, outcomes = self.values["f_middle"], len(self.signs)
        mean = [
            sum(a * middle[t, k, w] for w in range(outcomes) for k, a in enumerate(self.problem.alpha)) / outcomes
            for t in range(self.rounds)
        ]
        self.set(f_lower=min(mean) - 1)
        self.set(mu=min(squares) / (2 * (max(mean) - min(mean) + 1)))
        now = ONE
        self.set(weight_first=now)
        for t in range(self.rounds):
            self.put("gradient_weight", (t,), self.value(self.fact("gradient weight").rhs, t=t))
            self.put("shrink", (t,), self.value(self.fact("shrink").rhs, t=t))
            self.put("weight_now", (t,), now)
            now = now / self.values["shrink"][t,]
            self.put("weight_later", (t,), now)
        self.set(weight_last=now)


class UploadRun(_Run):
    """Sparse uploads: each device sends its largest coordinate, or in some rounds all or nothing."""

    def __init__(
        self, theory: Theory, seed: int, rounds: int, steps: int, averaging: str, momentum: Fraction | None = None,
        feedback: bool = False, eta: Fraction = Fraction(1, 32),
    ) -> None:  # fmt: skip
        super().__init__(theory, seed, rounds, steps, eta, YOUNG, rounds * DEVICES * (steps + PERSONAL))
        beta = momentum or Fraction(0)
        self.averaging, self.beta, self.feedback, self.rate = averaging, beta, feedback, Fraction(3, 2)
        self.set(beta=beta, co_beta=1 - beta)
        picks = self.rng.integers(0, 3, (rounds, DEVICES))
        zero = [Fraction(0)] * DIM_U
        for w, sign in enumerate(self.signs):
            draw = iter(sign)
            u, buffer = [ONE, -HALF], zero
            own = [zero] * DEVICES
            vs = [[HALF] * DIM_V for _ in range(DEVICES)]
            for t in range(rounds):
                shifted = self._shifted(u, own, buffer)
                vs = [self.personal_steps(t, w, k, u, v, draw, shifted) for k, v in enumerate(vs)]
                u, own, buffer = self._round(t, w, u, vs, own, buffer, picks[t], draw)
        self._constants()

    def _shifted(self, u: Vector, own: list[Vector], buffer: Vector) -> Vector:
        """The iterate that moves as if all were sent; u itself without error feedback."""
        kept_back = [sum(a * r[j] for a, r in zip(self.problem.alpha, own, strict=True)) for j in range(DIM_U)]
        return _plus(u, _plus(kept_back, buffer, -self.beta), self.rate)

    def _round(
        self, t: int, w: int, u: Vector, vs: list[Vector], own: list[Vector], buffer: Vector,
        picks: np.ndarray, draw: Iterator[int],
    ) -> tuple[Vector, list[Vector], Vector]:  # fmt: skip
        alpha, shifted = self.problem.alpha, self._shifted(u, own, buffer)
        offers, sends = [], []
        for k in range(DEVICES):
            g, there = self.problem.grad_u(k, u, vs[k]), self.problem.grad_u(k, shifted, vs[k])
            _, total = self.local_steps(t, w, k, u, vs[k], [1] * DIM_U, draw)
            offer = [self.eta * x - r for x, r in zip(total, own[k], strict=True)]
            first = abs(offer[0]) >= abs(offer[1])  # masks know the noise
            sends.append([[int(first), int(not first)], [1, 1], [0, 0]][picks[k]])
            offers.append(offer)
            for j in range(DIM_U):
                self.put("grad", (t, k, j, w), g[j])
                self.put("shifted", (t, k, j, w), there[j])
                self.put("trained", (t, k, j, w), 1)
                self.put("sent", (t, k, j, w), sends[k][j])
                self.put("own", (t, k, j, w), own[k][j])
                self.put("residual", (t, k, j, w), own[k][j] - self.beta * buffer[j])
        sent = [sum(alpha[k] * sends[k][j] * offers[k][j] for k in range(DEVICES)) for j in range(DIM_U)]
        reached = [sum(alpha[k] * sends[k][j] for k in range(DEVICES)) for j in range(DIM_U)]
        scale = [1 / r if self.averaging == "covered" and r else ONE for r in reached]
        left = [[(s - 1) * o for s, o in zip(sends[k], offers[k], strict=True)] for k in range(DEVICES)]
        after = left if self.feedback else [[Fraction(0)] * DIM_U] * DEVICES
        later = [self.beta * b + s for b, s in zip(buffer, sent, strict=True)]
        moved = [self.rate * (1 - self.beta) * p * b for p, b in zip(scale, later, strict=True)]
        new = _plus(u, moved, -ONE)
        for j in range(DIM_U):
            self.put("u", (t, j, w), u[j])
            self.put("u_next", (t, j, w), new[j])
            self.put("extra", (t, j, w), scale[j] - 1)
            self.put("buffer", (t, j, w), buffer[j])
            self.put("buffer_next", (t, j, w), later[j])
            for k in range(DEVICES):
                self.put("own_next", (t, k, j, w), after[k][j])
                self.put("residual_next", (t, k, j, w), after[k][j] - self.beta * later[j])
        self.segment(t, w, shifted, self._shifted(new, after, later), vs)
        return new, after, later if self.beta else [Fraction(0)] * DIM_U

    def _constants(self) -> None:
        widest = max(self.values.get("extra", {(): Fraction(0)}).values())
        self.finish(1 / (1 + widest), self.rate)
        facts = {fact.name for fact in self.theory.facts}
        self.set(delta2=self.largest("heterogeneity"), nu2=self.largest("upload noise") / self.steps)
        if "upload error" in facts:
            self.by_device("upload error", "err")
            self.set(kappa2=self.largest("selection noise") / self.steps)
        if "buffer" in facts:
            self.by_device("residual error", "own2")
            for t in range(self.rounds):
                self.put("buffer2", (t,), self.value(self.fact("buffer").lhs, t=t))
            for t, k in itertools.product(range(self.rounds), range(DEVICES)):
                self.put("rest", (t, k), self.value(self.fact("shift error").rhs, t=t, k=k))
            self.set(buffer2_last=self.value(self.fact("buffers follow each other").lhs))
        elif "residual error" in facts:
            self.by_device("residual error", "rest")

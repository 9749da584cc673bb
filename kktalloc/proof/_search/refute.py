"""Models of a theory's facts, sampled: a claim that fails in one is false, facts that none fits may contradict."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy
from scipy.optimize import least_squares
from sympy.core.function import AppliedUndef

from kktalloc.proof._language import Claim, Expr, Same, Sign, Theory, Total

Values = dict[str, np.ndarray]
_HOLDS = 1e-8  # facts hold to this, relative to the size of their terms
_FAILS = 1e-5  # a claim that is missed by more is false
_PUSH = 0.3  # how strongly the search is drawn towards models in which a claim fails
_LEAST_POSITIVE = 1e-3  # names declared positive stay above it
_LARGEST = 1e3


@dataclass(frozen=True)
class Refutation:
    """What sampling found.

    ``models`` of ``tries`` searches ended in values for all names under which every fact holds. ``false`` are
    the claims that fail in one, by the name of their step, with the model (sizes of sorts and values, arrays by
    index) and by how much right minus left side falls short. Without any model, ``worst`` is the fact that was
    missed most in the best try: then the facts may contradict each other, which `suggest` can prove
    (``suggest(le(1, 0), theory)``); with one they do not.
    """

    tries: int
    models: int
    false: dict[str, tuple[dict[str, Any], float]]
    worst: str | None

    def __bool__(self) -> bool:
        """Whether something is wrong: a false claim, or no model at all."""
        return bool(self.false) or not self.models

    def __str__(self) -> str:
        """What was found, in lines."""
        if not self.models:
            return f"no model in {self.tries} tries: the facts may contradict each other; hardest: {self.worst!r}"
        lines = [f"{self.models} models in {self.tries} tries"]
        for name, (model, gap) in self.false.items():
            lines.append(f"{name!r} is false: right side - left side = {gap:.6g} where")
            lines += [f"  {key} = {np.array2string(np.asarray(value), precision=6)}" for key, value in model.items()]
        return "\n".join(lines + ["no claim fails in any of them"] * (not self.false))


def refute(theory: Theory, tries: int = 20, seed: int = 0, largest: int = 3) -> Refutation:
    """Sample models of a theory's facts and look whether its claims hold in them.

    Each try draws sizes of sorts from 1 to ``largest`` (0 too where a sort may be empty; averages are over as
    many equally likely outcomes) and values of the declared signs, moves the values until every fact holds
    (least squares), and evaluates every claim; half of the tries are drawn towards values in which one of the
    claims fails. In floating point: a finding is evidence, to be looked at, and finding nothing is no proof.

    Parameters
    ----------
    theory
        Facts and steps; certificates are not looked at.
    tries
        How many searches.
    seed
        Of the draws.
    largest
        The largest size of a sort.
    """
    rng = np.random.default_rng(seed)
    models, false = 0, dict[str, tuple[dict[str, Any], float]]()
    least: tuple[float, str | None] = (np.inf, None)
    for n in range(tries):
        world = _World(theory, rng, largest)
        aim = theory.steps[int(rng.integers(len(theory.steps)))].claim if theory.steps and n % 2 else None
        values = world.solve(rng, aim)
        missed = {fact.name: world.missed(fact.claim, values) for fact in theory.facts}
        worst = max(missed, key=lambda name: missed[name], default=None)
        if worst is not None and missed[worst] > _HOLDS:
            least = min(least, (missed[worst], worst), key=lambda pair: pair[0])
            continue
        models += 1
        for step in theory.steps:
            miss = world.missed(step.claim, values)
            if miss > _FAILS and step.name not in false:
                false[step.name] = (world.shown(values), world.worst_gap(step.claim, values))
    return Refutation(tries, models, false, None if models else least[1])


class _World:
    """Sizes of the sorts, and values of all names as one vector."""

    def __init__(self, theory: Theory, rng: np.random.Generator, largest: int) -> None:
        self.theory, sig = theory, theory.signature
        lengths: dict[str, int] = {}
        for name in sorted(sig.lengths()):
            lengths[name] = int(rng.integers(1 if sig.parameters[name] is Sign.POSITIVE else 0, largest + 1))
        fixed = _fixed_lengths(theory)
        self.lengths = {name: fixed.get(name, size) for name, size in lengths.items()}
        self.sizes = {
            sort.name: int(rng.integers(1, largest + 1)) if sort.size == 1 else self.lengths[sort.size.name]
            for sort in sig.sorts()
        }
        self.shapes: dict[str, tuple[int, ...]] = {name: () for name in sig.parameters if name not in self.lengths}
        self.shapes |= {name: tuple(self.sizes[s.name] for s in its.sorts) for name, its in sig.families.items()}
        self.bits = {
            name: rng.integers(0, 2, shape).astype(float)
            for name, shape in self.shapes.items()
            if sig.sign(name) is Sign.INDICATOR
        }
        self._order_bits()
        self._axis = {name: axis for axis, name in enumerate(sig.indices)}
        self._grid = {
            name: np.arange(self.sizes[sort.name]).reshape([-1 if other == name else 1 for other in sig.indices])
            for name, sort in sig.indices.items()
        }
        self._cache: dict[Expr, Callable[[Values], Any]] = {}

    def _order_bits(self) -> None:
        """Orders and equal masks are rare among random bits: draw them where a fact asks for an order."""
        for name, table in self.bits.items():
            sorts = self.theory.signature.families[name].sorts if name in self.theory.signature.families else ()
            if (
                len(sorts) == 2
                and sorts[0] == sorts[1]
                and any(
                    fact.claim.lhs.has(Same) and fact.claim.lhs.has(sympy.Function(name)) for fact in self.theory.facts
                )
            ):
                self.bits[name] = np.triu(np.ones(table.shape), 1)

    def solve(self, rng: np.random.Generator, aim: Claim | None) -> Values:
        """Values under which the facts hold, as well as a search from random ones finds them."""
        names = [name for name in self.shapes if name not in self.bits]
        sizes = [int(np.prod(self.shapes[name])) for name in names]
        signs = [self.theory.signature.sign(name) for name in names]
        low = np.repeat(
            [{Sign.REAL: -_LARGEST, Sign.NONNEGATIVE: 0.0}.get(sign, _LEAST_POSITIVE) for sign in signs], sizes
        )
        start = rng.normal(0, 1, int(sum(sizes))) * rng.choice([0.3, 1.0, 3.0])
        start = np.where(low < 0, start, np.abs(start) + 2 * _LEAST_POSITIVE)

        def unpacked(x: np.ndarray) -> Values:
            parts = np.split(x, np.cumsum(sizes)[:-1]) if names else []
            values = {name: part.reshape(self.shapes[name]) for name, part in zip(names, parts, strict=True)}
            return {**values, **self.bits, **{name: np.asarray(float(n)) for name, n in self.lengths.items()}}

        def residuals(x: np.ndarray, push: float) -> np.ndarray:
            values = unpacked(x)
            found = [self._residual(fact.claim, values) for fact in self.theory.facts]
            if aim is not None and push:
                gaps, scale = self._gaps(aim, values)
                found.append(push * np.exp(np.clip(gaps / scale, -5, 5)))
            return np.concatenate([*found, np.zeros(1)])

        x = start
        if x.size:
            for push in (_PUSH, 0.0) if aim is not None else (0.0,):
                fit = least_squares(
                    residuals, x, bounds=(low, _LARGEST), args=(push,), max_nfev=60, xtol=1e-12, ftol=1e-12, gtol=1e-11
                )
                x = fit.x
        return unpacked(x)

    def _gaps(self, claim: Claim, values: Values) -> tuple[np.ndarray, np.ndarray]:
        """Right minus left side for all values of the free indices, and the size of the sides."""
        left, right = np.broadcast_arrays(self._compiled(claim.lhs)(values), self._compiled(claim.rhs)(values))
        return (right - left).ravel(), 1 + np.maximum(np.abs(left), np.abs(right)).ravel()

    def _residual(self, claim: Claim, values: Values) -> np.ndarray:
        gaps, scale = self._gaps(claim, values)
        return gaps / scale if claim.relation == "==" else np.minimum(gaps, 0) / scale

    def missed(self, claim: Claim, values: Values) -> float:
        """By how much a claim is missed at worst, relative to the size of its sides."""
        return float(np.abs(self._residual(claim, values)).max(initial=0))

    def worst_gap(self, claim: Claim, values: Values) -> float:
        """Right minus left side where the claim is missed most."""
        gaps, _ = self._gaps(claim, values)
        return float(gaps[np.argmax(np.abs(gaps))] if claim.relation == "==" else gaps.min())

    def shown(self, values: Values) -> dict[str, Any]:
        """Sizes and values."""
        return {f"size of {name}": size for name, size in self.sizes.items()} | dict(values)

    def _compiled(self, expr: Expr) -> Callable[[Values], Any]:
        if expr not in self._cache:
            self._cache[expr] = self._compile(expr)
        return self._cache[expr]

    def _compile(self, expr: Expr) -> Callable[[Values], Any]:
        """A function from values to an array with an axis for each index, of length 1 where nothing depends on it."""
        if isinstance(expr, sympy.Rational):
            number = float(expr)
            return lambda values: number
        if isinstance(expr, sympy.Symbol):
            return lambda values: values[expr.name]
        if isinstance(expr, Total):
            body, grid = self._compiled(expr.args[0]), self._grid[expr.args[1].name]
            sort = self.theory.signature.indices[expr.args[1].name]
            axis, size = self._axis[expr.args[1].name], grid.size

            def totalled(values: Values) -> Any:
                inner = np.asarray(body(values))
                if inner.ndim == 0 or (inner.shape[axis] == 1 and size != 1):
                    return inner * (1 if sort.size == 1 else size)
                added = inner.sum(axis=axis, keepdims=True)
                return added / size if sort.size == 1 else added

            return totalled
        if isinstance(expr, Same):
            first, second = (self._grid[index.name] for index in expr.args)
            return lambda values: (first == second).astype(float)
        if isinstance(expr, AppliedUndef):
            family, indices = expr.func.__name__, tuple(self._grid[index.name] for index in expr.args)
            return lambda values: values[family][indices]
        if isinstance(expr, sympy.Pow):
            base, exponent = self._compiled(expr.base), int(expr.exp)
            return lambda values: base(values) ** exponent
        parts = [self._compiled(part) for part in expr.args]
        if isinstance(expr, sympy.Add):
            return lambda values: functools.reduce(operator.add, (part(values) for part in parts))
        if isinstance(expr, sympy.Mul):
            return lambda values: functools.reduce(operator.mul, (part(values) for part in parts))
        raise ValueError(f"{expr} ({type(expr).__name__}) is not in the language")


def _fixed_lengths(theory: Theory) -> dict[str, int]:
    """Lengths that a fact gives as a number."""
    found = {}
    for fact in theory.facts:
        for side, other in ((fact.claim.lhs, fact.claim.rhs), (fact.claim.rhs, fact.claim.lhs)):
            if (
                fact.claim.relation == "=="
                and getattr(side, "name", None) in theory.signature.lengths()
                and other.is_Integer
            ):
                found[side.name] = int(other)
    return found

"""The language of statements: parameters, indexed families, sums, claims, certificates.

A vector is a family over coordinates, an expectation is an average over chance, an inner product is a
sum over coordinates: all three, and the sums over devices, steps and rounds, are one construction,
``Total(body, index)``, which is linear and keeps non-negative bodies non-negative. Nothing here proves
anything; :mod:`kktalloc.proof._checker` does.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import sympy

Expr = Any  # a SymPy expression; SymPy ships no types
Index = Any  # a SymPy symbol registered as an index


class Sign(enum.StrEnum):
    """What is assumed of the values of a parameter or family."""

    REAL = "real"
    NONNEGATIVE = "non-negative"
    POSITIVE = "positive"
    INDICATOR = "0 or 1"


_ALLOWED: dict[Sign, Callable[[Expr], bool]] = {
    Sign.REAL: lambda number: True,
    Sign.NONNEGATIVE: lambda number: bool(number >= 0),
    Sign.POSITIVE: lambda number: bool(number > 0),
    Sign.INDICATOR: lambda number: number in (0, 1),
}


@dataclass(frozen=True)
class Sort:
    """What an index ranges over; ``size`` is the total of 1 over it (1 makes the total an average)."""

    name: str
    size: Expr


@dataclass(frozen=True)
class Family:
    """A declared family: one sort per argument, a sign, and when its values are known in a round."""

    sorts: tuple[Sort, ...]
    sign: Sign
    known: str = "always"


class Total(sympy.Function):  # type: ignore[misc]
    """Total of a body over one index: a sum over a finite sort, an average over a sort of size 1."""

    nargs = 2


class Same(sympy.Function):  # type: ignore[misc]
    """Kronecker delta of two indices of one sort."""

    nargs = 2


def total(body: Expr, *indices: Index) -> Expr:
    """Nested totals, the first index outermost."""
    for index in reversed(indices):
        body = Total(body, index)
    return body


@dataclass(frozen=True)
class Claim:
    """``lhs <= rhs`` or ``lhs == rhs``, for all values of the free indices."""

    lhs: Expr
    relation: Literal["<=", "=="]
    rhs: Expr


def le(lhs: Expr, rhs: Expr) -> Claim:
    """The claim ``lhs <= rhs``."""
    return Claim(sympy.sympify(lhs, strict=True), "<=", sympy.sympify(rhs, strict=True))


def eq(lhs: Expr, rhs: Expr) -> Claim:
    """The claim ``lhs == rhs``."""
    return Claim(sympy.sympify(lhs, strict=True), "==", sympy.sympify(rhs, strict=True))


@dataclass(frozen=True)
class Fact:
    """A statement taken as given: a named hypothesis, or what a name stands for."""

    name: str
    claim: Claim
    text: str


@dataclass(frozen=True)
class Use:
    """Multiplier times a known statement, its free indices renamed by ``at``, totalled ``over`` indices."""

    fact: str
    times: Expr = sympy.S.One
    over: tuple[Index, ...] = ()
    at: tuple[tuple[Index, Index], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "times", sympy.sympify(self.times, strict=True))


@dataclass(frozen=True)
class Square:
    """Non-negative weight times the square of ``base``, totalled ``over`` indices."""

    base: Expr
    times: Expr = sympy.S.One
    over: tuple[Index, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "base", sympy.sympify(self.base, strict=True))
        object.__setattr__(self, "times", sympy.sympify(self.times, strict=True))


@dataclass(frozen=True)
class Step:
    """A claim with its certificate: ``rhs - lhs`` equals the uses plus the squares, exactly."""

    name: str
    claim: Claim
    text: str
    uses: tuple[Use, ...] = ()
    squares: tuple[Square, ...] = ()


@dataclass
class Signature:
    """Every name a theory may speak of. A name is declared once; declaring it again is an error."""

    indices: dict[str, Sort] = field(default_factory=dict)
    parameters: dict[str, Sign] = field(default_factory=dict)
    families: dict[str, Family] = field(default_factory=dict)
    latex: dict[str, str] = field(default_factory=dict)

    def _fresh(self, name: str, latex: str) -> str:
        if not name.isidentifier():
            raise ValueError(f"the name {name!r} is not an identifier")
        if name in self.latex:
            raise ValueError(f"the name {name!r} is declared twice")
        self.latex[name] = latex or name
        return name

    def index(self, name: str, sort: Sort, latex: str = "") -> Index:
        """Declare an index variable of a sort."""
        if any(other.name == sort.name and other != sort for other in self.indices.values()):
            raise ValueError(f"the sort {sort.name!r} has two sizes")
        self.indices[self._fresh(name, latex)] = sort
        return sympy.Symbol(name)

    def parameter(self, name: str, sign: Sign, latex: str = "") -> Expr:
        """Declare a number without indices."""
        self.parameters[self._fresh(name, latex)] = sign
        return sympy.Symbol(name)

    def family(
        self, name: str, sorts: Iterable[Sort], sign: Sign = Sign.REAL, known: str = "always", latex: str = ""
    ) -> Any:
        """Declare a family of numbers, one for each value of its indices."""
        self.families[self._fresh(name, latex)] = Family(tuple(sorts), sign, known)
        return sympy.Function(name)

    def signs(self) -> dict[str, list[str]]:
        """Names by their declared sign, which is as much a hypothesis as an inequality."""
        declared = self.parameters | {name: family.sign for name, family in self.families.items()}
        return {
            sign.value: [name for name, its in declared.items() if its is sign]
            for sign in (Sign.POSITIVE, Sign.NONNEGATIVE, Sign.INDICATOR)
        }


@dataclass
class Theory:
    """What is given (facts over a signature) and what is claimed (steps, in order)."""

    title: str
    signature: Signature = field(default_factory=Signature)
    facts: list[Fact] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    def given(self, name: str, claim: Claim, text: str) -> None:
        """Take a named hypothesis as given."""
        self.facts.append(Fact(name, claim, text))

    def prove(
        self, name: str, claim: Claim, text: str, uses: Iterable[Use] = (), squares: Iterable[Square] = ()
    ) -> None:
        """Add a step; nothing is checked here."""
        self.steps.append(Step(name, claim, text, tuple(uses), tuple(squares)))

    def at(self, title: str, values: Mapping[Expr, Expr]) -> Theory:
        """Put numbers in for parameters everywhere, in hypotheses and certificates; to be checked anew."""
        for name, value in values.items():
            sign = self.signature.parameters[name.name]
            number = sympy.sympify(value, strict=True)
            if not isinstance(number, sympy.Rational) or not _ALLOWED[sign](number):
                raise ValueError(f"{name} is declared {sign.value}: {value} cannot stand for it")
        sizes = {sort.size for sort in self.signature.indices.values()}
        if sizes & set(values):
            raise ValueError("the size of a sort stays a name; give its value as a hypothesis")

        def put(expr: Expr) -> Expr:
            return expr.subs(values)

        def put_claim(claim: Claim) -> Claim:
            return Claim(put(claim.lhs), claim.relation, put(claim.rhs))

        def put_use(use: Use) -> Use:
            return replace(use, times=put(use.times))

        def put_square(square: Square) -> Square:
            return replace(square, base=put(square.base), times=put(square.times))

        facts = [replace(fact, claim=put_claim(fact.claim)) for fact in self.facts]
        steps = [
            replace(
                step,
                claim=put_claim(step.claim),
                uses=tuple(map(put_use, step.uses)),
                squares=tuple(map(put_square, step.squares)),
            )
            for step in self.steps
        ]
        return Theory(title, self.signature, facts, steps)

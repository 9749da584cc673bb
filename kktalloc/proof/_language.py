"""The language of statements: parameters, indexed families, sums, claims, certificates.

A vector is a family over coordinates, an expectation is an average over chance, an inner product is a
sum over coordinates: all three, and the sums over devices, steps and rounds, are one construction,
``Total(body, index)``, which is linear and keeps non-negative bodies non-negative. Nothing here proves
anything; :mod:`kktalloc.proof._checker` does.
"""

from __future__ import annotations

import enum
import re
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


def is_plain_symbol(expr: Expr) -> bool:
    """Whether an expression is a bare name: no dummy, and no assumptions that SymPy would act upon unseen."""
    return type(expr) is sympy.Symbol and expr == sympy.Symbol(expr.name)


@dataclass(frozen=True)
class Sort:
    """What an index ranges over; ``size`` is the total of 1 over it.

    ``size`` is a parameter declared positive or non-negative, a whole number, and totals are then sums; or
    it is 1, and totals are averages (a sort of size 1 may have infinitely many members, so it has no
    Kronecker delta). ``expectation`` says that the average is over chance: it is printed as one.

    Raises
    ------
    ValueError
        When the size is neither 1 nor a plain symbol.
    """

    name: str
    size: Expr
    expectation: bool = False

    def __post_init__(self) -> None:
        size = sympy.sympify(self.size, strict=True)
        if size is not sympy.S.One and not is_plain_symbol(size):
            raise ValueError(f"the size of sort {self.name!r} is a declared parameter or 1, not {self.size}")
        if self.expectation and size is not sympy.S.One:
            raise ValueError(f"the sort {self.name!r} is summed, so its totals are no expectations")
        object.__setattr__(self, "size", size)


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


def renamed(expr: Expr, old: Index, new: Index) -> Expr:
    """An expression with a free index renamed.

    Raises
    ------
    ValueError
        Where a total binds the new index around the old one, which would capture it.
    """
    if isinstance(expr, Total):
        body, index = expr.args
        if index == old:
            return expr
        inside = renamed(body, old, new)
        if index == new and inside != body:
            raise ValueError(f"{old} cannot be renamed: a total over {new} would capture it")
        return Total(inside, index)
    if expr == old:
        return new
    return expr.func(*(renamed(part, old, new) for part in expr.args)) if expr.args else expr


def expectation(body: Expr, *chance: Index) -> Expr:
    """Expectation of a body: its average over the indices of chance."""
    return total(body, *chance)


def inner(a: Expr, b: Expr, *coordinates: Index) -> Expr:
    """Inner product of two families over coordinates."""
    return total(a * b, *coordinates)


def norm2(a: Expr, *coordinates: Index) -> Expr:
    """Squared Euclidean norm of a family over coordinates."""
    return total(a**2, *coordinates)


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
    since: tuple[str, ...] = ()  # statements that show the multiplier to be non-negative

    def __post_init__(self) -> None:
        object.__setattr__(self, "times", sympy.sympify(self.times, strict=True))


@dataclass(frozen=True)
class Square:
    """Non-negative weight times the square of ``base``, totalled ``over`` indices."""

    base: Expr
    times: Expr = sympy.S.One
    over: tuple[Index, ...] = ()
    since: tuple[str, ...] = ()  # statements that show the weight to be non-negative

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

    @property
    def parts(self) -> tuple[Use | Square, ...]:
        """Uses, then squares."""
        return (*self.uses, *self.squares)


_OPERATORS = ("E", "sum", "avg")


def _seen(latex: str) -> str:
    """A formula without what leaves no mark on paper."""
    return re.sub(r"[{}\s]", "", latex)


@dataclass
class Signature:
    """Every name a theory may speak of. A name is declared once; declaring it again is an error.

    ``latex`` is how a name is printed there (the name itself, unless given). No two names may be spelt or
    printed alike. ``understood`` holds indices that print leaves out of the members of families.
    """

    indices: dict[str, Sort] = field(default_factory=dict)
    parameters: dict[str, Sign] = field(default_factory=dict)
    families: dict[str, Family] = field(default_factory=dict)
    latex: dict[str, str] = field(default_factory=dict)
    understood: set[str] = field(default_factory=set)

    def _fresh(self, name: str, latex: str) -> str:
        if not (name.isidentifier() and name.isascii()):
            raise ValueError(f"the name {name!r} is not an identifier in ASCII: look-alike letters are different names")
        if name in self.latex:
            raise ValueError(f"the name {name!r} is declared twice")
        printed = latex or name
        if not (printed.isascii() and printed.isprintable() and printed.strip("{} ")):
            raise ValueError(f"{name} would be printed as {printed!r}: write it with printable ASCII characters")
        alike = next((other for other, its in self.latex.items() if _seen(its) == _seen(printed)), None)
        if alike is not None:
            raise ValueError(f"{name} would be printed like {alike}: {printed}")
        self.latex[name] = printed
        return name

    def index(self, name: str, sort: Sort, latex: str = "", understood: bool = False) -> Index:
        """Declare an index variable of a sort; an ``understood`` one is left out in print."""
        if any(other.name == sort.name and other != sort for other in self.indices.values()):
            raise ValueError(f"the sort {sort.name!r} has two sizes")
        self.check_size(sort)
        if understood and any(self.indices[other] == sort for other in self.understood):
            raise ValueError(f"only one index of sort {sort.name!r} can be left out in print")
        self.indices[self._fresh(name, latex)] = sort
        if understood:
            self.understood.add(name)
        return sympy.Symbol(name)

    def check_size(self, sort: Sort) -> None:
        """Raise ValueError unless the size of a sort is 1 or a parameter that is never negative."""
        if sort.size == 1:
            return
        sign = self.parameters.get(sort.size.name)
        if sign not in (Sign.POSITIVE, Sign.NONNEGATIVE):
            raise ValueError(
                f"the size {sort.size} of sort {sort.name!r} is {sign or 'not declared'}: lengths are whole numbers, "
                "declared positive (no empty sum) or non-negative"
            )

    def is_inhabited(self, sort: Sort) -> bool:
        """Whether a sort surely has a member."""
        return sort.size == 1 or self.parameters[sort.size.name] is Sign.POSITIVE

    def sorts(self) -> list[Sort]:
        """Every sort that an index or a family speaks of."""
        of_families = (sort for family in self.families.values() for sort in family.sorts)
        return list(dict.fromkeys([*self.indices.values(), *of_families]))

    def lengths(self) -> set[str]:
        """Parameters that are sizes of sorts: whole numbers."""
        return {sort.size.name for sort in self.sorts() if sort.size != 1}

    def parameter(self, name: str, sign: Sign, latex: str = "") -> Expr:
        """Declare a number without indices."""
        self.parameters[self._fresh(name, latex)] = sign
        return sympy.Symbol(name)

    def family(
        self, name: str, sorts: Iterable[Sort], sign: Sign = Sign.REAL, known: str = "always", latex: str = ""
    ) -> Any:
        """Declare a family of numbers, one for each value of its indices."""
        if name in _OPERATORS:
            raise ValueError(f"a family called {name!r} would be printed like a total")
        sorts = tuple(sorts)
        for sort in sorts:
            self.check_size(sort)
        self.families[self._fresh(name, latex)] = Family(sorts, sign, known)
        return sympy.Function(name)

    def sign(self, name: str) -> Sign:
        """The declared sign of a parameter or family."""
        return self.families[name].sign if name in self.families else self.parameters[name]

    def free(self, expr: Expr) -> list[Index]:
        """The indices of an expression that no total binds, in the order of their declaration."""
        return [sympy.Symbol(name) for name in self.indices if _is_free(expr, name)]

    def signs(self) -> dict[str, list[str]]:
        """Names by their declared sign, which is as much a hypothesis as an inequality."""
        declared = self.parameters | {name: family.sign for name, family in self.families.items()}
        return {
            sign.value: [name for name, its in declared.items() if its is sign]
            for sign in (Sign.POSITIVE, Sign.NONNEGATIVE, Sign.INDICATOR)
        }


def _is_free(expr: Expr, name: str) -> bool:
    if isinstance(expr, Total):
        return expr.args[1].name != name and _is_free(expr.args[0], name)
    return any(_is_free(part, name) for part in expr.args) if expr.args else getattr(expr, "name", None) == name


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

    def add(self, *steps: Step) -> None:
        """Add steps that were made elsewhere, such as `kktalloc.proof.ready` makes; nothing is checked here."""
        self.steps.extend(steps)

    def at(self, title: str, values: Mapping[Expr, Expr]) -> Theory:
        """Put numbers in for parameters everywhere, in hypotheses and certificates; to be checked anew."""
        for name, value in values.items():
            if not is_plain_symbol(name) or name.name not in self.signature.parameters:
                raise ValueError(f"{name} is not a declared parameter, so no number can stand for it")
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

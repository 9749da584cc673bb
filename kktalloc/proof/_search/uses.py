"""Which uses of known statements may help with a claim: those that meet one of its terms.

A term of a known statement that divides a term of the claim, its indices renamed, gives a multiplier, the
quotient, and the indices to total over. The terms that such a use brings in are met by further uses.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import sympy

from kktalloc.proof._checker import Checker
from kktalloc.proof._language import Claim, Expr, Sign, Signature, Sort, Square, Step, Use
from kktalloc.proof._normal_form import SAME, Atom, Key, Refused, Slot, Term
from kktalloc.proof._residual import formula

Column = dict[Key, Fraction]
_NOTHING = Claim(sympy.S.Zero, "<=", sympy.S.Zero)
_FREE_ASSIGNMENTS = 4  # at most so many ways to choose indices that a match leaves open


@dataclass(frozen=True)
class Candidate:
    """A part of a certificate, what it adds to it, and whether negative multiples may be taken too."""

    part: Use | Square
    column: Column
    signed: bool = False

    def times(self, factor: Fraction) -> Use | Square:
        """The part, multiplied."""
        return replace(self.part, times=sympy.Rational(factor.numerator, factor.denominator) * self.part.times)


class Uses:
    """Finds candidates over a signature from known statements."""

    def __init__(self, signature: Signature, known: Mapping[str, Claim], claim: Claim) -> None:
        self.signature, self.known, self.claim = signature, known, claim
        self.checker = Checker(signature)
        self._sorts = {sort.name: sort for sort in signature.sorts()}
        self._free = {index.name for side in (claim.lhs, claim.rhs) for index in signature.free(side)}
        self._facts = {name: self._fact_terms(its) for name, its in known.items()}

    def _fact_terms(self, claim: Claim) -> list[Term]:
        return [self.term(key) for key in self.checker.normal(self.checker.gap(claim, {}))]

    def term(self, key: Key) -> Term:
        """A monomial in normal form with numbers for its bound indices again."""
        numbers = itertools.count()
        powers: dict[Atom, int] = {}
        bound: dict[int, Sort] = {}
        for factor in key:
            local: dict[str, int] = {}
            for name, labels, n in factor:
                for label in labels:
                    if label.startswith("#") and label not in local:
                        local[label] = next(numbers)
                        bound[local[label]] = self._sorts[label[1:].rsplit(":", 1)[0]]
                atom = name, tuple(local.get(label, label) for label in labels)
                powers[atom] = powers.get(atom, 0) + n
        return Term(Fraction(1), powers, bound)

    def meeting(self, keys: Iterable[Key]) -> Iterator[Candidate]:
        """Uses with a term among the keys, and the keys themselves where they are not negative."""
        for key in keys:
            yield from self._not_negative(key)
            target = self.term(key)
            for name, terms in self._facts.items():
                for term in terms:
                    for use in self._uses(name, term, target):
                        column = self.column(use)
                        if column:
                            yield Candidate(use, column, self.known[name].relation == "==")

    def _not_negative(self, key: Key) -> Iterator[Candidate]:
        expr = formula({key: Fraction(1)}, self.signature)
        try:
            if self.claim.relation == "<=" and self.checker.is_nonnegative(expr):
                yield Candidate(Square(sympy.S.One, expr), {key: Fraction(1)})
        except Refused:
            pass

    def column(self, part: Use | Square) -> Column:
        """What a part adds to a certificate; nothing where the checker refuses it."""
        uses, squares = ((part,), ()) if isinstance(part, Use) else ((), (part,))
        step = Step("", replace(_NOTHING, relation=self.claim.relation), "", uses, squares)
        try:
            return {key: -value for key, value in self.checker.residual(step, self.known).items()}
        except Refused:
            return {}

    def _uses(self, name: str, term: Term, target: Term) -> Iterator[Use]:
        claim = self.known[name]
        free = {index.name for side in (claim.lhs, claim.rhs) for index in self.signature.free(side)}
        for mapping, left in _matches(term, target, self.signature):
            images = {mapping[slot] for slot in term.bound if slot in mapping}
            if any(slot in images for atom in left for slot in atom[1]):
                continue
            over = [slot for slot in target.bound if slot not in images]
            letters = self._letters(over, target)
            if letters is None:
                continue
            times = sympy.Mul(*(_member(atom, letters) ** n for atom, n in left.items()))
            given: dict[str, Slot] = {str(slot): image for slot, image in mapping.items() if slot in free}
            for assigned in self._assignments(free - given.keys(), over, target):
                at = (
                    (sympy.Symbol(source), letters.get(slot, sympy.Symbol(str(slot))))
                    for source, slot in {**given, **assigned}.items()
                )
                renamed = tuple((source, to) for source, to in at if source != to)
                yield Use(name, times, tuple(letters[slot] for slot in over), renamed)

    def _letters(self, over: list[int], target: Term) -> dict[Slot, Expr] | None:
        letters: dict[Slot, Expr] = {}
        for slot in over:
            used = {letter.name for letter in letters.values()} | self._free
            names = (n for n, sort in self.signature.indices.items() if sort == target.bound[slot] and n not in used)
            name = next(names, None)
            if name is None:
                return None
            letters[slot] = sympy.Symbol(name)
        return letters

    def _assignments(self, open_: set[str], over: list[int], target: Term) -> Iterator[dict[str, Slot]]:
        """Values for the indices of a statement that the matched term does not have."""
        choices: list[list[Slot]] = []
        for name in sorted(open_):
            sort = self.signature.indices[name]
            slots: list[Slot] = [slot for slot in over if target.bound[slot] == sort]
            slots += [other for other in sorted(self._free) if self.signature.indices[other] == sort]
            choices.append(slots)
        for chosen in itertools.islice(itertools.product(*choices), _FREE_ASSIGNMENTS):
            yield dict(zip(sorted(open_), chosen, strict=True))


def _member(atom: Atom, letters: Mapping[Slot, Expr]) -> Expr:
    name, slots = atom
    indices = [letters[slot] if slot in letters else sympy.Symbol(str(slot)) for slot in slots]
    return sympy.Function(name)(*indices) if indices else sympy.Symbol(name)


def _matches(term: Term, target: Term, signature: Signature) -> Iterator[tuple[dict[Slot, Slot], dict[Atom, int]]]:
    """Ways to write the target as a quotient times the term: where its indices go, and the quotient."""
    if any(atom[0] == SAME for atom in (*term.powers, *target.powers)):
        return
    atoms = sorted(term.powers.items(), key=lambda item: -len(item[0][1]))

    def extend(
        n: int, mapping: dict[Slot, Slot], left: dict[Atom, int]
    ) -> Iterator[tuple[dict[Slot, Slot], dict[Atom, int]]]:
        if n == len(atoms):
            images = [mapping[slot] for slot in term.bound if slot in mapping]
            others = {image for slot, image in mapping.items() if slot not in term.bound}
            if len(set(images)) == len(images) and not others.intersection(images):
                yield mapping, {atom: power for atom, power in left.items() if power}
            return
        (name, slots), power = atoms[n]
        positive = signature.sign(name) is Sign.POSITIVE
        for atom, have in left.items():
            new = _unified(slots, atom[1], mapping, term) if atom[0] == name else None
            if new is not None and (have >= power > 0 or positive):
                yield from extend(n + 1, new, {**left, atom: have - power})
                if signature.sign(name) is Sign.INDICATOR:
                    yield from extend(n + 1, new, left)
        moved = name, tuple(mapping.get(slot, slot) for slot in slots)
        if positive and moved not in left and all(slot in mapping for slot in slots):
            yield from extend(n + 1, mapping, {**left, moved: -power})

    yield from extend(0, {}, dict(target.powers))


def _unified(
    slots: tuple[Slot, ...], onto: tuple[Slot, ...], mapping: dict[Slot, Slot], term: Term
) -> dict[Slot, Slot] | None:
    new = dict(mapping)
    for slot, image in zip(slots, onto, strict=True):
        if slot in term.bound and not isinstance(image, int):
            return None
        if new.setdefault(slot, image) != image:
            return None
    return new

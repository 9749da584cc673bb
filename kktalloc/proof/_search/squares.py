"""Which squares may help with a claim: quadratic forms in the vectors that stand in it.

A block is a weight, indices to total over, and vectors v_1, ..., v_m; any positive semidefinite matrix of
coefficients makes ``total(weight * v' G v)`` a sum of squares. Vectors are scaled by the names that stand
before their squares in the claim, so that ``y a^2 + b^2/y - 2 a b`` is a form in ``y a`` and ``b``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import sympy
from sympy.core.function import AppliedUndef

from kktalloc.proof._checker import Checker
from kktalloc.proof._language import Claim, Expr, Index, Sign, Signature, Total, renamed, total
from kktalloc.proof._normal_form import Key, Refused
from kktalloc.proof._search.uses import Column

_LARGEST = 4  # vectors in a block
_SCALINGS = 6  # ways to scale the vectors of a block


@dataclass(frozen=True)
class Block:
    """A quadratic form in scaled vectors; ``columns[i, j]`` is what a unit of G_ij and G_ji adds."""

    weight: Expr
    over: tuple[Index, ...]
    vectors: tuple[Expr, ...]
    columns: dict[tuple[int, int], Column]


@dataclass(frozen=True)
class _Site:
    over: tuple[Index, ...]
    weight: Expr
    vectors: tuple[Expr, ...]


def blocks(claims: Iterable[Claim], keys: Iterable[Key], signature: Signature, checker: Checker) -> Iterator[Block]:
    """Blocks for the sites of the first claim (vectors of the others join), scaled to meet the keys."""
    first, *others = claims
    free = {index for side in (first.lhs, first.rhs) for index in signature.free(side)}
    sites = list(dict.fromkeys(_sites(first, signature)))
    vectors = [v for claim in (first, *others) for site in _sites(claim, signature) for v in site.vectors]
    monomials = [_split(key, signature) for key in keys]
    seen = set()
    for site in [*sites, *itertools.chain.from_iterable(_twins(site, signature, free) for site in sites)]:
        usable = dict.fromkeys(v for v in (*site.vectors, *vectors) if set(signature.free(v)) <= {*site.over, *free})
        for size in (2, 3, _LARGEST):
            for chosen in itertools.combinations(list(usable)[:6], size):
                if site.vectors[0] in chosen and (site.over, site.weight, chosen) not in seen:
                    seen.add((site.over, site.weight, chosen))
                    yield from _scaled(site, chosen, monomials, signature, checker)


def _sites(claim: Claim, signature: Signature) -> Iterator[_Site]:
    for side in (claim.lhs, claim.rhs):
        yield from _walk(side, (), sympy.S.One, signature)


def _walk(expr: Expr, over: tuple[Index, ...], weight: Expr, signature: Signature) -> Iterator[_Site]:
    if isinstance(expr, Total):
        body, index = expr.args
        yield from _walk(body, (*over, index), weight, signature)
    elif isinstance(expr, sympy.Add):
        for part in expr.args:
            yield from _walk(part, over, weight, signature)
    elif isinstance(expr, sympy.Pow) and expr.exp == 2:
        yield _Site(over, weight, tuple(_pieces(expr.base, signature)))
    elif isinstance(expr, sympy.Mul):
        good = [part for part in expr.args if _is_weight(part, signature)]
        rest = [part for part in expr.args if part not in good and not part.is_Rational]
        families = [part for part in good if isinstance(part, AppliedUndef)]
        if len(rest) == 1:
            yield from _walk(rest[0], over, weight * sympy.Mul(*families), signature)
        elif rest:
            pieces = dict.fromkeys(piece for part in rest for piece in _pieces(part, signature))
            if over:
                yield _Site(over, weight * sympy.Mul(*families), tuple(pieces))


def _is_weight(expr: Expr, signature: Signature) -> bool:
    base = expr.base if isinstance(expr, sympy.Pow) else expr
    if isinstance(base, sympy.Symbol):
        return True
    return (
        isinstance(base, AppliedUndef)
        and expr.func is not sympy.Pow
        and signature.sign(base.func.__name__) is not Sign.REAL
    )


def _pieces(expr: Expr, signature: Signature) -> Iterator[Expr]:
    """The parts of a sum without the numbers and parameters before them."""
    for part in sympy.Add.make_args(expr):
        core = sympy.Mul(*(f for f in sympy.Mul.make_args(part) if not (f.is_Rational or f.as_base_exp()[0].is_Symbol)))
        if isinstance(core, sympy.Add):
            yield from _pieces(core, signature)
        else:
            yield core


def _twins(site: _Site, signature: Signature, free: set[Index]) -> Iterator[_Site]:
    """For a total in a square: its body at two indices."""
    for vector in site.vectors:
        if isinstance(vector, Total):
            body, index = vector.args
            sort = signature.indices[index.name]
            used = {*site.over, *free, index}
            twin = next(
                (
                    i
                    for i in map(sympy.Symbol, signature.indices)
                    if signature.indices[i.name] == sort and i not in used
                ),
                None,
            )
            if twin is not None and index not in site.over:
                yield _Site((*site.over, index, twin), site.weight, (body, renamed(body, index, twin)))


def _split(key: Key, signature: Signature) -> tuple[Key, Expr]:
    """A monomial as what has no sign, and its positive names without bound indices."""
    rest, scale = [], sympy.S.One
    for factor in key:
        name, labels, n = factor[0]
        if (
            len(factor) == 1
            and not any(label.startswith("#") for label in labels)
            and signature.sign(name) in (Sign.POSITIVE, Sign.NONNEGATIVE)
        ):
            member = sympy.Function(name)(*map(sympy.Symbol, labels)) if labels else sympy.Symbol(name)
            scale *= member**n
        else:
            rest.append(factor)
    return tuple(rest), scale


def _scaled(
    site: _Site, vectors: tuple[Expr, ...], monomials: list[tuple[Key, Expr]], signature: Signature, checker: Checker
) -> Iterator[Block]:
    options = []
    for vector in vectors:
        try:
            square = checker.normal(checker.terms(total(site.weight * vector**2, *site.over)))
        except Refused:
            return
        found: dict[Expr, None] = {}
        for key in square:
            rest, own = _split(key, signature)
            found |= {scale / own: None for other, scale in monomials if other == rest}
        options.append(list(found)[:3] or [sympy.S.One])
    count = 0
    for choice in itertools.product(*options):
        scales = [_root(scale / choice[0]) for scale in choice]
        if count < _SCALINGS and all(scale is not None for scale in scales):
            count += 1
            block = _block(
                site, choice[0] * site.weight, [s * v for s, v in zip(scales, vectors, strict=True)], checker
            )
            if block is not None:
                yield block


def _root(monomial: Expr) -> Expr | None:
    powers = sympy.Mul.make_args(monomial)
    if any(part.as_base_exp()[1] % 2 != 0 for part in powers if part != 1):
        return None
    return sympy.Mul(
        *(base ** (exponent / 2) for base, exponent in (part.as_base_exp() for part in powers if part != 1))
    )


def _block(site: _Site, weight: Expr, vectors: list[Expr], checker: Checker) -> Block | None:
    try:
        if not checker.is_nonnegative(weight):
            return None
        columns = {
            (a, b): checker.normal(
                checker.terms((1 if a == b else 2) * total(weight * vectors[a] * vectors[b], *site.over))
            )
            for a in range(len(vectors))
            for b in range(a, len(vectors))
        }
    except Refused:
        return None
    return Block(weight, site.over, tuple(vectors), columns)

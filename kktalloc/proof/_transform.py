"""Theories made from theories: a copy to add to, and a copy whose constants may change from round to round."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

import sympy

from kktalloc.proof._hypotheses import ROUND, t
from kktalloc.proof._language import Claim, Expr, Fact, Family, Signature, Step, Theory


def copied(signature: Signature) -> Signature:
    """A signature to which names can be added without the first one learning them."""
    return replace(
        signature,
        indices=dict(signature.indices),
        parameters=dict(signature.parameters),
        families=dict(signature.families),
        latex=dict(signature.latex),
        understood=set(signature.understood),
    )


def per_round(theory: Theory, constants: Collection[Expr]) -> Theory:
    """The theory with one value of each constant for each round; to be checked anew."""
    signature = copied(theory.signature)
    for constant in constants:
        sign = signature.parameters.pop(constant.name)
        signature.families[constant.name] = Family((ROUND,), sign)
    values = {constant: sympy.Function(constant.name)(t) for constant in constants}
    return mapped(replace(theory, signature=signature), lambda expr: expr.xreplace(values))


def mapped(theory: Theory, put: Callable[[Expr], Expr]) -> Theory:
    """The theory with every expression of its facts and certificates replaced; to be checked anew."""
    return replace(
        theory,
        facts=[mapped_fact(fact, put) for fact in theory.facts],
        steps=[mapped_step(step, put) for step in theory.steps],
    )


def mapped_fact(fact: Fact, put: Callable[[Expr], Expr]) -> Fact:
    """The fact with its expressions replaced."""
    return replace(fact, claim=_claim(fact.claim, put))


def mapped_step(step: Step, put: Callable[[Expr], Expr]) -> Step:
    """The step with its expressions replaced."""
    return replace(
        step,
        claim=_claim(step.claim, put),
        uses=tuple(replace(use, times=put(use.times)) for use in step.uses),
        squares=tuple(replace(square, base=put(square.base), times=put(square.times)) for square in step.squares),
    )


def _claim(claim: Claim, put: Callable[[Expr], Expr]) -> Claim:
    return Claim(put(claim.lhs), claim.relation, put(claim.rhs))

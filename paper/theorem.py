"""The theorem as the paper displays it.

Every term is laid out here as a product of the proof's own symbols and is proved equal to the verified derivation's
term before it is written: a layout that says anything else stops the build.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import sympy

from kktalloc.proof import _feedback as feedback
from kktalloc.proof import _hypotheses as h
from kktalloc.proof import _measured as measured
from kktalloc.proof import _sparse as sparse
from kktalloc.proof._corollaries import one_step, target
from kktalloc.proof._language import Expr, total
from kktalloc.proof._notation import Notation
from kktalloc.proof._round import gradient2, pruned
from kktalloc.proof._theorem import GENERAL, round_terms

from .tex import Macros

# Abbreviations of the statement, with what they stand for.
_c, _x, _n = (sympy.Symbol(name, positive=True) for name in ("c", "x", "n"))
_STANDS_FOR: dict[Expr, Expr] = {
    _c: 1 + 1 / h.s,
    _x: (1 + h.p) * (1 + h.r) * h.eta**2 * h.L**2 * h.pairs,
    _n: 1 + h.spare * h.headroom * h.lean,
}
# What the slacks of the proof are names of; theta and w stay names.
_SLACKS: dict[Expr, Expr] = {
    h.one_lean: 1 + h.lean,
    h.co_spare: 1 - h.spare,
    h.co_gamma: 1 - h.gamma,
    h.pairs: h.tau * (h.tau - 1) / 2,
}
_c_v = sympy.Symbol("c_v", positive=True)  # the second theorem's c
_STANDS_FOR[_c_v] = 1 + 1 / measured.v
_SLACKS[sparse.co_n] = 1 - sparse.n
_TEX: dict[Expr, str] = {
    **{symbol: symbol.name for symbol in _STANDS_FOR},
    h.one_lean: "1+y",
    h.co_gamma: r"1-\Gamma",
    gradient2: r"\mathbb{E}\,\|\nabla_u F\|^2",
    pruned: r"\sum_k \alpha_k\,\mathbb{E}\,\|u - m_k u\|^2",
    # Of the other kinds of round.
    _c_v: "c",
    measured.v: "v",
    measured.q: "o",
    1 / measured.q: r"\frac{1}{o}",
    measured.charge2: r"\beta^2",
    measured.nu2: r"\nu^2",
    measured.chi2: r"\chi^2",
    measured.absence: r"\tfrac{1-\pi}{\pi}",
    sparse.rate: "a",
    sparse.rate**2: "a^2",
    sparse.n: "o",
    sparse.co_n: "1-o",
    sparse.kappa2: r"\kappa^2",
    feedback.L_uv**2: "L_{uv}^2",
}
_NOTATION = Notation(h.THEORY.signature)


@dataclass(frozen=True)
class Frac:
    """A fraction of two products."""

    over: tuple[Factor, ...]
    under: tuple[Factor, ...]


@dataclass(frozen=True)
class Sum:
    """A sum of products, each with its sign; in brackets where it is itself a factor."""

    products: tuple[tuple[int, tuple[Expr | Frac | Sum, ...]], ...]


Factor = Expr | Frac | Sum


def plus(*factors: Factor) -> tuple[int, tuple[Factor, ...]]:
    """A product to be added."""
    return 1, factors


def minus(*factors: Factor) -> tuple[int, tuple[Factor, ...]]:
    """A product to be subtracted."""
    return -1, factors


def tex(shown: Factor, bracketed: bool = False) -> str:
    """LaTeX of a layout, its factors in the order given."""
    if isinstance(shown, Frac):
        return rf"\frac{{{_line(shown.over)}}}{{{_line(shown.under)}}}"
    if isinstance(shown, Sum):
        text = ""
        for sign, factors in shown.products:
            text += ("-" if sign < 0 else "+" if text else "") + _line(factors)
        tall = r"\frac" in text or r"\tbinom" in text
        return (rf"\Bigl({text}\Bigr)" if tall else f"({text})") if bracketed else text
    if shown in _TEX:
        return _TEX[shown]
    text = _NOTATION.latex(shown)
    return f"({text})" if shown.is_Add and bracketed else text


def _line(factors: tuple[Factor, ...]) -> str:
    return r"\,".join(tex(factor, bracketed=len(factors) > 1) for factor in factors)


def value(shown: Factor) -> Expr:
    """What a layout stands for."""
    if isinstance(shown, Frac):
        return sympy.Mul(*map(value, shown.over)) / sympy.Mul(*map(value, shown.under))
    if isinstance(shown, Sum):
        return sympy.Add(*(sign * sympy.Mul(*map(value, factors)) for sign, factors in shown.products))
    return shown


def checked(name: str, shown: Factor, verified: Expr) -> str:
    """LaTeX of a layout that equals what was verified; ValueError if it does not."""
    difference = (value(shown).subs(_STANDS_FOR) - verified).subs(_SLACKS)
    if sympy.cancel(sympy.together(difference)) != 0:
        raise ValueError(f"the paper's layout of {name!r} is not what was verified")
    return tex(shown)


_one, _two = sympy.Integer(1), sympy.Integer(2)


def one_plus(shown: Factor) -> Sum:
    """1 and something."""
    return Sum((plus(_one), plus(shown)))


_NAMED: dict[str, Sum] = {
    "ThmC": Sum((plus(_one), plus(Frac((_one,), (h.s,))))),
    "ThmX": Sum((plus(one_plus(h.p), one_plus(h.r), h.eta**2, h.L**2, h.pairs),)),
    "ThmN": Sum((plus(_one), plus(h.spare, h.headroom, h.lean))),
    "ThmTheta": Sum((plus(_one), minus(one_plus(h.p), one_plus(1 / h.r), h.eta**2, h.L**2, h.pairs))),
    "ThmHeadroom": Sum((plus(_one), minus(h.eta, h.L, h.tau))),
}
HALF_STEP = Frac((h.eta, h.tau), (_two,))
"""Of one round, eta tau / 2."""
UNIT = (h.gamma, h.theta)
NAMES = (_c, _x, _n, _c_v)
"""Abbreviations: c, x, n, and the c of the second theorem."""
LEAN = Frac((h.spare, h.headroom, h.lean), (h.one_lean,))
SPREAD = Frac((_c, _x), UNIT)
DRAWN = Sum((plus(h.tau), plus(Frac((h.pairs, h.L, h.eta), (h.co_spare, h.headroom)))))
"""What the server's noise of all steps is multiplied with."""
_GENERAL: dict[str, Factor] = {
    "gradient": Sum((
        plus(HALF_STEP, Sum((
            plus(_one),
            plus(LEAN),
            minus(Frac((_n, _c, _x), UNIT)),
        ))),
    )),
    "personal": Sum((plus(h.eta_v, Sum((plus(_one), minus(Frac((h.L_v, h.eta_v), (_two,)))))),)),
    "pruning": Sum((plus(_n, HALF_STEP, Frac((_c, h.L**2), UNIT)),)),
    "coverage_bias": Sum((plus(_n, HALF_STEP, one_plus(h.s), Frac((h.co_gamma,), (h.gamma,)), h.delta2),)),
    "heterogeneity_drift": Sum((plus(_n, HALF_STEP, SPREAD, h.delta2),)),
    "variance": Sum((
        plus(_n, Frac((h.eta,), (_two,)), _c, one_plus(1 / h.p), Frac((h.eta**2, h.L**2, h.pairs), UNIT), h.var_u),
        plus(
            Frac((h.L, h.eta**2), (_two,)),
            DRAWN,
            Frac((h.sum_sq,), (h.gamma**2,)),
            h.var_u,
        ),
    )),
    "personal_variance": Sum((plus(Frac((h.tau_v, h.L_v, h.eta_v**2), (_two,)), h.var_v),)),
}  # fmt: skip
_tau_pairs = (h.tau, h.tau - 1)
_step_sq = (h.eta**2, h.L**2)
_CURVED = Frac((h.L**2,), (h.gamma,))
_TARGET: tuple[tuple[str, Factor], ...] = (
    ("TargetPruning", Sum((
        plus(h.eta, h.tau, _CURVED, Sum((plus(_one), plus(sympy.Integer(6), *_step_sq, *_tau_pairs))), h.radius2),
    ))),
    ("TargetBias", Sum((plus(h.eta, h.tau, Frac((h.co_gamma,), (h.gamma,)), h.delta2),))),
    ("TargetDrift", Sum((plus(h.eta, h.tau, Frac((sympy.Integer(6), *_step_sq, *_tau_pairs), (h.gamma,)), h.delta2),))),
    ("TargetVariance", Sum((
        plus(h.eta, Frac((_two, *_step_sq, *_tau_pairs), (h.gamma,)), h.var_u),
        plus(h.L, h.eta**2, h.tau, Frac((h.sum_sq,), (h.gamma**2,)), h.var_u),
    ))),
    ("TargetPersonal", Sum((plus(Frac((h.tau_v, h.L_v, h.eta_v**2), (_two,)), h.var_v),))),
)  # fmt: skip


def statement(macros: Macros) -> None:
    """Define the macros of the theorem and its corollaries; ValueError if one differs from the verified derivation."""
    verified = round_terms(GENERAL)
    for field in fields(verified):
        name = "Thm" + "".join(part.capitalize() for part in field.name.split("_"))
        add(macros, name, _GENERAL[field.name], checked(name, _GENERAL[field.name], getattr(verified, field.name)))
    facts = {fact.name: fact.claim for fact in h.THEORY.facts}
    meanings = [
        *(_STANDS_FOR[name] for name in (_c, _x, _n)),
        facts["drift condition"].rhs,
        facts["step condition"].rhs,
    ]
    for (name, layout), meaning in zip(_NAMED.items(), meanings, strict=True):
        macros.add(name, checked(name, layout, meaning))
    _target(macros)
    _one_step(macros)


def add(macros: Macros, name: str, layout: Factor, text: str) -> None:
    """Define a term; where it is a sum, each part by itself, so that lines can break between them."""
    if not isinstance(layout, Sum) or len(layout.products) == 1:
        macros.add(name, text)
    else:
        for letter, part in zip("ABCD", layout.products, strict=False):
            macros.add(name + letter, tex(Sum((part,))))


def _target(macros: Macros) -> None:
    theory = target()
    claims = {fact.name: fact.claim for fact in theory.facts} | {step.name: step.claim for step in theory.steps}
    right = claims["target statement"].rhs
    gap, ratio = (h.f_initial - h.f_lower) / h.R, sympy.Symbol("rho_mean")
    mean = _mean_ratio()
    rest = sympy.expand((right - gap).subs(mean, ratio))
    shown = [(name, layout, value(layout)) for name, layout in _TARGET]
    total = sum(v * (ratio if name == "TargetPruning" else 1) for name, _, v in shown)
    if sympy.cancel(sympy.together((total - rest).subs(_SLACKS))) != 0:
        raise ValueError("the paper's layout of the target statement is not what was verified")
    for name, layout, _ in shown:
        add(macros, name, layout, tex(layout))
    for name in ("half step", "small step", "personal step size"):
        macros.add("Target" + name.title().replace(" ", ""), _NOTATION.latex_claim(claims[name]))
    for name in ("theta is at least 4/5", "headroom is at least 1/2"):
        macros.add("Target" + name.split()[0].title(), _NOTATION.latex(claims[name].lhs))
    for name, left in (("gradient weight", "Gradient"), ("personal gradient weight", "PersonalGradient")):
        macros.add(f"Target{left}", _NOTATION.latex(claims[name].lhs))


def _mean_ratio() -> Expr:
    """The pruning ratios averaged over rounds and devices."""
    return total(h.alpha(h.k) * h.rho(h.k), h.t, h.k) / h.R


def _one_step(macros: Macros) -> None:
    step = next(s for s in one_step().steps if s.name == "one masked step")
    shown = Sum((
        plus(h.expect(h.f_middle)),
        minus(Frac((h.eta,), (_two,)), gradient2),
        plus(Frac((h.eta, h.L**2), (_two,)), pruned),
        plus(Frac((h.L, h.eta**2), (_two,)), h.sum_sq, h.var_u),
    ))  # fmt: skip
    if sympy.expand(value(shown) - step.claim.rhs) != 0:
        raise ValueError("the paper's layout of the one-step corollary is not what was verified")
    macros.add("OneStep", tex(Sum(shown.products[1:])))

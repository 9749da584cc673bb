"""The theorems for each kind of round as the paper displays them, held to the verified ones like the first."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import sympy

from kktalloc.proof import _feedback, _measured, _sparse
from kktalloc.proof import _hypotheses as h

from .tex import Macros
from .theorem import DRAWN, HALF_STEP, LEAN, NAMES, SPREAD, UNIT, Factor, Frac, Sum, add, checked, minus, one_plus, plus

_one, _two = sympy.Integer(1), sympy.Integer(2)
_c, _x, _n, _v = NAMES
_half_rate = (_sparse.rate, *HALF_STEP.over)
_rated = Frac(_half_rate, HALF_STEP.under)
_drift_noise = Frac((h.eta**2, h.L**2, h.pairs), UNIT)

_MEASURED: dict[str, Factor] = {
    "gradient": Sum((
        plus(HALF_STEP, Sum((
            plus(_one), plus(LEAN), minus(Frac((_n, _v, _x, one_plus(_measured.q)), UNIT)),
        ))),
    )),
    "pruning": Sum((
        plus(_n, HALF_STEP, one_plus(_measured.v), one_plus(1 / h.s)),
        plus(_n, HALF_STEP, Frac((_v, _x), UNIT), one_plus(1 / _measured.q)),
    )),
    "coverage_bias": Sum((plus(_n, HALF_STEP, one_plus(_measured.v), one_plus(h.s), _measured.charge2),)),
    "heterogeneity_drift": Sum((plus(_n, HALF_STEP, Frac((_v, _x), UNIT), one_plus(_measured.q), h.delta2),)),
    "variance": Sum((
        plus(_n, Frac((h.eta,), (_two,)), _v, one_plus(1 / h.p), _drift_noise, h.var_u),
        plus(Frac((h.L, h.eta**2), (_two,)), DRAWN, _measured.nu2),
    )),
    "participation": Sum((plus(Frac((h.L, h.eta**2), (_two,)), _measured.absence, h.tau**2, _measured.chi2),)),
}  # fmt: skip
_SPARSE: dict[str, Factor] = {
    "gradient": Sum((plus(_rated, Sum((plus(_one), plus(LEAN), minus(Frac((_n, _c, _x), UNIT))))),)),
    "wide_gradient": Sum((plus(_rated, Sum((plus(_sparse.co_n), plus(LEAN)))),)),
    "unsent": Sum((plus(_n, Frac((_sparse.rate, h.eta), (_two, h.tau)), one_plus(h.s)),)),
    "heterogeneity_drift": Sum((plus(_n, _rated, SPREAD, h.delta2),)),
    "variance": Sum((
        plus(_n, Frac((_sparse.rate, h.eta), (_two,)), _c, one_plus(1 / h.p), _drift_noise, h.var_u),
        plus(
            Frac((h.L, _sparse.rate**2, h.eta**2), (_two, h.gamma)),
            one_plus(Frac((h.L, _sparse.rate, h.eta, h.tau), (h.gamma, h.co_spare, h.headroom))),
            h.tau,
            _sparse.nu2,
        ),
    )),
    "selection": Sum((plus(Frac((_sparse.rate, h.eta), (_two, _sparse.n)), _sparse.kappa2),)),
}  # fmt: skip
_FEEDBACK: dict[str, Factor] = {
    "residual": Sum((plus(_rated, Frac((h.L**2, _sparse.rate**2), (h.spare, h.headroom))),)),
    "personal_residual": Sum((plus(Frac((h.tau_v, h.eta_v), (_two,)), _feedback.L_uv**2, _sparse.rate**2),)),
}
_KINDS: tuple[tuple[str, Any, dict[str, Factor]], ...] = (
    ("Meas", _measured.round_terms(), _MEASURED),
    ("Sparse", _sparse.round_terms(), _SPARSE),
    ("Feed", _feedback.round_terms(), _FEEDBACK),
)


def statements(macros: Macros) -> None:
    """Define the macros of the terms; ValueError if one differs from the verified derivation."""
    for kind, verified, layouts in _KINDS:
        for field in fields(verified):
            if (layout := layouts.get(field.name)) is not None:
                name = kind + "".join(part.capitalize() for part in field.name.split("_"))
                add(macros, name, layout, checked(name, layout, getattr(verified, field.name)))

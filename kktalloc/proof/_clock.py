"""Devices with a clock and electronics: their least bandwidth is convex, its slope, and the balance of power.

A device that keeps q sends ``L = S q + S0`` nats in t seconds with the radiated energy e. With ``m = beta(L, e)``, the
root of ``m ln(1 + g e/m) = L``, the least bandwidth is ``B(q) = min_t m/t``. What it does not radiate is ``C(q, t)``:
the processor's ``k w^3/(T - t)^2`` for w seconds of work at clock 1, and the electronics' ``p_c t``.
"""

from __future__ import annotations

from types import SimpleNamespace

from kktalloc.proof._allocation import rate
from kktalloc.proof._clock_bandwidth import bandwidth
from kktalloc.proof._clock_corners import corners
from kktalloc.proof._clock_passages import passages
from kktalloc.proof._language import Expr, Sign, Square, Theory, Use, eq, le

_SIGNS = {
    Sign.POSITIVE: "m e L g X x y f eps t b p S eta P w left s htt D D0 D1",
    Sign.NONNEGATIVE: "c kappa pc Cq Ct Cqt Cqq Ctt",
    Sign.REAL: "me mee mL mLL mLe xe hq ht hqq hqt tq d1 d2 tk tkk bp bk hp hpp o0 o1 alpha slope lam",
}
_LATEX = {
    "f": r"\varphi", "eps": r"\epsilon", "eta": r"\eta", "left": r"\tau", "kappa": r"\kappa", "pc": "p_c",
    "Cq": "C_q", "Ct": "C_t", "Cqt": "C_{qt}", "Cqq": "C_{qq}", "Ctt": "C_{tt}",
    "hq": "h_q", "ht": "h_t", "hqq": "h_{qq}", "hqt": "h_{qt}", "htt": "h_{tt}", "hp": "h'", "hpp": "h''",
    "me": "m_e", "mee": "m_{ee}", "mL": "m_L", "mLL": "m_{LL}", "mLe": "m_{Le}", "xe": "x_e",
    "tq": "t'", "tk": "t_k'", "tkk": "t_k''", "d1": r"\dot q", "d2": r"\dot t", "bp": "b_P'", "bk": "b_k'",
    "D0": "D_0", "D1": "D_1", "o0": r"\omega_0", "o1": r"\omega_1",
    "alpha": r"\alpha", "slope": "e'", "lam": r"\lambda",
}  # fmt: skip


def clock() -> Theory:
    """The least bandwidth of a device with a clock and electronics is convex: one price, no duality gap."""
    theory = Theory("A device with a clock and electronics")
    declare = theory.signature.parameter
    v = SimpleNamespace(
        **{name: declare(name, sign, _LATEX.get(name, "")) for sign, names in _SIGNS.items() for name in names.split()}
    )
    bandwidth(theory, v)
    _not_radiated(theory, v)
    _inside(theory, v)
    _formulas(theory, v)
    corners(theory, v)
    passages(theory, v)
    return theory


def _not_radiated(theory: Theory, v: SimpleNamespace) -> None:
    """C(q, t) is convex, rises in q, and in t the more the larger q is."""
    given, prove = theory.given, theory.prove
    given("clock", eq(v.s * v.left, v.w), "the slowest clock in time: s = w/(T - t)")
    C = v.kappa * v.w**3 / v.left**2 + v.pc * v.t
    in_q, in_t = {v.w: v.c}, {v.left: -1, v.t: 1}
    Cq, Ct = rate(C, in_q), rate(C, in_t)
    prove(
        "energy of the processor",
        eq(v.kappa * v.w**3 / v.left**2, v.kappa * v.w * v.s**2),
        "k w^3/(T - t)^2 is k w s^2: the time of the work falls as 1/s, its energy rises as s^2.",
        (Use("clock", -v.kappa * v.w * (v.s / v.left + v.w / v.left**2)),),
    )
    prove(
        "C against q",
        eq(Cq, 3 * v.kappa * v.c * v.s**2),
        "C_q = 3 k c s^2: a second of work more takes energy, and hurries the others.",
        (Use("clock", -3 * v.kappa * v.c * (v.s / v.left + v.w / v.left**2)),),
    )
    prove(
        "C against t",
        eq(Ct, v.pc + 2 * v.kappa * v.s**3),
        "C_t = p_c + 2 k s^3.",
        (
            Use(
                "clock",
                -2 * v.kappa * (v.s**2 / v.left + v.s * v.w / v.left**2 + v.w**2 / v.left**3),
            ),
        ),
    )
    prove(
        "C is convex", le(rate(Cq, in_t) ** 2, rate(Cq, in_q) * rate(Ct, in_t)), "C_qt^2 <= C_qq C_tt, with equality."
    )
    prove(
        "C's mixed derivative",
        le(0, rate(Cq, in_t)),
        "C_qt >= 0: what is kept costs the more the longer the upload takes.",
        squares=(Square(1, 6 * v.kappa * v.c * v.w**2 / v.left**3),),
    )
    prove(
        "C is convex along lines",
        le(0, rate(rate(C, line := {v.w: v.c * v.d1, v.left: -v.d2, v.t: v.d2}), line)),
        "The second derivative of C along any line of q and t. Where the clock rests, C = k w s^2 + p_c t is affine.",
        squares=(Square(v.c * v.d1 + v.w * v.d2 / v.left, 6 * v.kappa * v.w / v.left**2),),
    )
    # Any convex C that rises in q and t, with C_qt >= 0, will do; those above are such.
    given("C convex", le(v.Cqt**2, v.Cqq * v.Ctt), "C is convex: the determinant of its second derivatives")
    energy, dear = _in_energy(v)
    given(
        "C convex, across",
        le(0, v.Ctt * energy**2 + v.Cqq * dear**2 - 2 * v.Cqt * energy * dear),
        "C is convex: along the line on which h is the least so",
    )
    given(
        "C convex, kink",
        le(0, v.Cqq + 2 * v.Cqt * v.tk + v.Ctt * v.tk**2),
        "C is convex: along the path of q and t where peak and energy both bind",
    )


def _in_energy(v: SimpleNamespace) -> tuple[Expr, Expr]:
    """What q and t do to the energy for the same payload: e_q - S e/L and e_t."""
    return -v.eta * v.Cq - v.S * v.e / v.L, -v.eta * v.Ct


def _inside(theory: Theory, v: SimpleNamespace) -> None:
    """Where the upload's time is stationary: h = beta(S q + S0, eta (E - C(q, t))), B = min_t h/t."""
    given, prove = theory.given, theory.prove
    e_q, e_t = -v.eta * v.Cq, -v.eta * v.Ct
    across, along = _in_energy(v)
    given("h_q", eq(v.hq, v.S * v.mL + v.me * e_q), "h = m differentiated in q")
    given("h_t", eq(v.ht, v.me * e_t), "h differentiated in t")
    in_q = {v.mL: v.S * v.mLL + v.mLe * e_q, v.me: v.S * v.mLe + v.mee * e_q, v.Cq: v.Cqq, v.Ct: v.Cqt}
    given("h_qq", eq(v.hqq, rate(v.S * v.mL + v.me * e_q, in_q)), "h_q differentiated in q")
    given("h_qt", eq(v.hqt, rate(v.me * e_t, in_q)), "h_t differentiated in q")
    given("h_tt", eq(v.htt, rate(v.me * e_t, {v.me: v.mee * e_t, v.Ct: v.Ctt})), "h_t differentiated in t")
    prove(
        "h rises in q",
        le(0, v.hq),
        "h_q >= 0, as m_e < 0 < m_L: to keep more takes more.",
        (
            Use("h_q", -1),
            Use("bandwidth against payload", -v.S / v.f),
            Use("less with more energy", v.eta * v.Cq),
        ),
        (Square(1, v.S / v.f),),
    )
    twice = (
        v.mee * across**2 - v.eta * v.me * v.Cqq,
        v.mee * across * along - v.eta * v.me * v.Cqt,
        v.mee * along**2 - v.eta * v.me * v.Ctt,
    )
    for name, second, form, uses in (
        ("qq", v.hqq, twice[0], (Use("m_LL", v.S**2), Use("m_Le", 2 * v.S * e_q))),
        ("qt", v.hqt, twice[1], (Use("m_Le", v.S * e_t),)),
        ("tt", v.htt, twice[2], ()),
    ):
        prove(
            f"curvature of h, {name}",
            eq(second, form),
            f"h_{name}: m_ee times a product of what q and t do to the energy, and -eta m_e C_{name}.",
            (Use(f"h_{name}"), *uses),
        )
    prove(
        "h is convex",
        le(v.hqt**2, v.hqq * v.htt),
        "h_qt^2 <= h_qq h_tt: C is convex, m falls in e and is convex. With a clock that rests too.",
        (
            Use("curvature of h, qq", -v.htt),
            Use("curvature of h, tt", -twice[0]),
            Use("curvature of h, qt", twice[1] + v.hqt),
            Use("C convex", v.eta**2 * v.me**2),
            Use("C convex, across", -v.eta * v.me * v.mee, since=("falling and convex",)),
        ),
    )
    given("stationary", eq(v.ht * v.t, v.m), "h_t = h/t: the best time of the upload")
    prove(
        "worth of time",
        eq(v.t * v.eta * v.Ct * v.eps, v.e),
        "At the best time t eta C_t eps = e.",
        (
            Use("elasticity", -v.t * v.eta * v.Ct / v.m),
            Use("stationary", v.e / v.m),
            Use("h_t", -v.t * v.e / v.m),
        ),
    )
    D = v.S * v.e / v.L + v.eta * v.Cq
    prove(
        "mixed derivative",
        le(v.hq, 2 * v.t * v.hqt),
        "h_q <= 2 t h_qt, from 1 + eps <= 2 zeta/eps.",
        (
            Use("h_q"),
            Use("h_qt", -2 * v.t),
            Use("homogeneous", 2 * v.t * v.eta * v.Ct * v.S / v.L),
            Use("curvature", -2 * v.t * v.eta * v.Ct * D / v.e**2),
            Use("worth of time", -2 * D * v.eps * (1 + v.eps) * v.y * v.m / v.e**2),
            Use("Euler", v.S / v.L),
            Use("elasticity", v.S / v.L + (v.eta * v.Cq - 2 * v.t * v.eta * v.Cqt) / v.e),
            Use("twice the curvature", D * v.m / v.e),
        ),
        (
            Square(1, v.eta * v.Cq * v.m / v.e),
            Square(1, 2 * v.t * v.eta * v.Cqt * v.eps * v.m / v.e),
        ),
    )
    moves = {v.m: v.hq + v.ht * v.tq, v.t: v.tq, v.ht: v.hqt + v.htt * v.tq}
    given("stays stationary", eq(rate(v.ht / v.t - v.m / v.t**2, moves), 0), "h_t - h/t stays 0 as q and t(q) move")
    prove(
        "partial minimum",
        le((v.hqt - v.hq / v.t) ** 2, v.hqq * v.htt),
        "What makes B convex: (h_qt - h_q/t)^2 <= h_qq h_tt.",
        (Use("h is convex"), Use("mixed derivative", v.hq / v.t**2, since=("h rises in q",))),
    )
    prove(
        "how the time moves",
        eq(v.htt * v.tq, v.hq / v.t - v.hqt),
        "t'(q) = (h_q/t - h_qt)/h_tt.",
        (Use("stays stationary", v.t), Use("stationary", 2 * v.tq / v.t**2)),
    )
    prove(
        "slope",
        eq(rate(v.m / v.t, moves), v.hq / v.t),
        "B'(q) = h_q/t: what the time does counts for nothing." + " The derivative stands written out.",
        (Use("stationary", v.tq / v.t**2),),
    )
    prove(
        "B rises inside",
        le(0, rate(v.m / v.t, moves)),
        "B'(q) >= 0 where the time is stationary.",
        (Use("slope", -1), Use("h rises in q", 1 / v.t)),
    )
    prove(
        "B is convex inside",
        le(0, rate(v.hq / v.t, {v.hq: v.hqq + v.hqt * v.tq, v.t: v.tq})),
        "B''(q) >= 0 where the time is stationary: clock between its ends, or the upload ending early.",
        (
            Use("how the time moves", -(v.hqt - v.hq / v.t) / (v.t * v.htt)),
            Use("partial minimum", 1 / (v.t * v.htt)),
        ),
    )


def _formulas(theory: Theory, v: SimpleNamespace) -> None:
    given, prove = theory.given, theory.prove
    given("bandwidth and time", eq(v.m, v.t * v.b), "m = t b")
    given("snr of power", eq(v.x * v.b, v.g * v.p), "x = g p/b")
    given("price", eq(v.alpha * v.slope, v.lam * v.hq / v.t), "KKT: alpha e'(1 - q) = lambda B'(q)")
    prove(
        "power balance",
        eq(v.eta * v.Ct * v.x, v.p * (v.X * v.y - v.x)),
        "C_t = (p/eta) ((1 + x) ln(1 + x) - x)/x, with C_t = p_c + 2 k s^3: free of T, S, c and b.",
        (
            Use("snr of power", v.X * v.f / v.g),
            Use("bandwidth and time", v.x * v.X * v.f / (v.g * v.t)),
            Use("stationary", v.x * v.X * v.f / (v.g * v.t)),
            Use("h_t", -v.x * v.X * v.f / v.g),
            Use("bandwidth against energy", v.eta * v.Ct * v.x / v.g),
            Use("phi", v.p * v.X),
        ),
    )
    prove(
        "slope formula",
        eq(v.hq / v.t, (v.S + v.g * v.eta * v.Cq / v.X) / (v.t * v.f)),
        "B'(q) = [S + eta g C_q/(1 + x)]/(t phi).",
        (
            Use("h_q", 1 / v.t),
            Use("bandwidth against payload", v.S / (v.t * v.f)),
            Use("bandwidth against energy", -v.eta * v.Cq / (v.t * v.X * v.f)),
        ),
    )
    prove(
        "price equation",
        eq(v.alpha * v.slope, v.lam * (v.S + v.g * v.eta * v.Cq / v.X) / (v.t * v.f)),
        "alpha e'(1 - q) = lambda [S + eta g C_q/(1 + x)]/(t phi).",
        (Use("price"), Use("slope formula", v.lam)),
    )

"""Devices with a clock and electronics: their least bandwidth is convex, its slope, and the balance of power.

A device that keeps q sends ``L = S q + S0`` nats in t seconds with the radiated energy e. With ``m = beta(L, e)``, the
root of ``m ln(1 + g e/m) = L``, the least bandwidth is ``B(q) = min_t m/t``. What it does not radiate is ``C(q, t)``:
the processor's ``k w^3/(T - t)^2`` for w seconds of work at clock 1, and the electronics' ``p_c t``.
"""

from __future__ import annotations

from types import SimpleNamespace

from kktalloc.proof._allocation import rate
from kktalloc.proof._language import Sign, Square, Theory, Use, eq, le

_SIGNS = {
    Sign.POSITIVE: "m e L g X x y f eps t b p S eta P w left s htt B22 Ctt h",
    Sign.NONNEGATIVE: "c kappa pc Cq Ct Cqt Cqq a B11 hq fall bend hpp omega",
    Sign.REAL: "me mee mL mLe xe hqq hqt ht tq tqq v1 v2 B12 hp alpha slope lam",
}
_LATEX = {
    "f": r"\varphi", "eps": r"\epsilon", "eta": r"\eta", "left": r"\tau", "htt": "h_{tt}", "Ctt": "C_{tt}",
    "kappa": r"\kappa", "pc": "p_c", "Cq": "C_q", "Ct": "C_t", "Cqt": "C_{qt}", "Cqq": "C_{qq}", "hq": "h_q",
    "hqq": "h_{qq}", "hqt": "h_{qt}", "ht": "h_t", "me": "m_e", "mee": "m_{ee}", "mL": "m_L", "mLe": "m_{Le}",
    "xe": "x_e", "tq": "t'", "tqq": "t''",
    "hp": "h'", "hpp": "h''", "fall": r"\delta", "bend": r"\gamma", "omega": r"\omega", "v1": "v_1", "v2": "v_2",
    "B11": "D_{11}", "B12": "D_{12}", "B22": "D_{22}", "alpha": r"\alpha", "slope": "e'", "lam": r"\lambda",
}  # fmt: skip


def clock() -> Theory:
    """The least bandwidth of a device with a clock and electronics is convex: one price, no duality gap."""
    theory = Theory("A device with a clock and electronics")
    declare = theory.signature.parameter
    v = SimpleNamespace(
        **{name: declare(name, sign, _LATEX.get(name, "")) for sign, names in _SIGNS.items() for name in names.split()}
    )
    _least_bandwidth(theory, v)
    _not_radiated(theory, v)
    _inside(theory, v)
    _corners(theory, v)
    _formulas(theory, v)
    return theory


def _least_bandwidth(theory: Theory, v: SimpleNamespace) -> None:
    """beta(L, e): its derivatives, and the one inequality that all rests on."""
    given, prove = theory.given, theory.prove
    given("X", eq(v.X, 1 + v.x), "X = 1 + x")
    given("snr", eq(v.x * v.m, v.g * v.e), "x = g e/m is the received SNR")
    given("phi", eq(v.f, v.y - v.x / v.X), "phi = ln(1 + x) - x/(1 + x), y = ln(1 + x)")
    given("rate", eq(v.m * v.y, v.L), "m ln(1 + x) = L: the payload just goes through")
    given("log below its tangent", le(v.y, v.x), "ln(1 + x) <= x")
    given("snr moves", eq(v.xe * v.m, v.g - v.x * v.me), "the SNR differentiated in e")
    given("held, e", eq(rate(v.m * v.y, {v.m: v.me, v.y: v.xe / v.X}), 0), "the rate differentiated in e")
    given(
        "held, e twice",
        eq(rate(v.me * (v.X * v.y - v.x), {v.me: v.mee, v.X: v.xe, v.x: v.xe, v.y: v.xe / v.X}), 0),
        "m_e (X y - x) = -g differentiated in e",
    )
    given(
        "held, L", eq(rate(v.m * v.y, {v.m: v.mL, v.y: -v.x * v.mL / (v.m * v.X)}), 1), "the rate differentiated in L"
    )
    given("eps", eq(v.eps * v.X * v.f, v.x), "eps = x/((1 + x) ln(1 + x) - x)")
    given("homogeneous", eq(v.L * v.mLe + v.e * v.mee, 0), "Euler's relation differentiated in e")
    prove(
        "bandwidth against energy",
        eq(v.me * v.X * v.f, -v.g),
        "dm/de = -g/((1 + x) phi).",
        (Use("held, e", v.X), Use("snr moves", -1), Use("phi", v.X * v.me)),
    )
    prove(
        "elasticity",
        eq(-v.e * v.me, v.eps * v.m),
        "eps is the elasticity of m in e.",
        (
            Use("bandwidth against energy", -v.e / (v.X * v.f)),
            Use("snr", -1 / (v.X * v.f)),
            Use("eps", -v.m / (v.X * v.f)),
        ),
    )
    prove(
        "snr against energy",
        eq(v.e * v.xe, v.x * (1 + v.eps)),
        "e dx/de = x (1 + eps).",
        (Use("snr moves", v.e / v.m), Use("snr", -1 / v.m), Use("elasticity", v.x / v.m)),
    )
    prove(
        "curvature",
        eq(v.e**2 * v.mee, v.eps**2 * (1 + v.eps) * v.y * v.m),
        "e^2 m_ee/m = eps^2 (1 + eps) y.",
        (
            Use("held, e twice", v.e**2 / (v.X * v.f)),
            Use("phi", v.e**2 * v.mee / v.f),
            Use("snr against energy", -v.e * v.me * v.y / (v.X * v.f)),
            Use("elasticity", v.y * v.x * (1 + v.eps) / (v.X * v.f)),
            Use("eps", -v.eps * v.m * v.y * (1 + v.eps) / (v.X * v.f)),
        ),
    )
    prove(
        "elastic enough",
        le(1, v.eps * v.y),
        "eps y >= 1, as ln(1 + x) <= x.",
        (
            Use("log below its tangent", 1 / (v.X * v.f)),
            Use("eps", -v.y / (v.X * v.f)),
            Use("phi", 1 / v.f),
            Use("X", v.y / (v.X * v.f)),
        ),
    )
    prove(
        "twice the curvature",
        le(1 + v.eps, 2 * v.eps * (1 + v.eps) * v.y),
        "1 + eps <= 2 zeta/eps with zeta = e^2 m_ee/m.",
        (Use("elastic enough", 2 * (1 + v.eps)),),
        (Square(1, 1 + v.eps),),
    )
    prove(
        "bandwidth against payload",
        eq(v.mL * v.f, 1),
        "dm/dL = 1/phi.",
        (Use("held, L"), Use("phi", v.mL)),
    )
    prove(
        "Euler",
        eq(v.L * v.mL + v.e * v.me, v.m),
        "m is homogeneous: twice the payload with twice the energy takes twice of it.",
        (
            Use("bandwidth against payload", v.L / v.f),
            Use("rate", -1 / v.f),
            Use("elasticity", -1),
            Use("eps", -v.m / (v.X * v.f)),
            Use("phi", -v.m / v.f),
        ),
    )


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
    given("C convex", le(v.Cqt**2, v.Cqq * v.Ctt), "any convex C with C_qt >= 0 will do; the one above is")
    given("D convex", le(v.B12**2, v.B11 * v.B22), "the same of D = eta (-m_e) times the second derivatives of C")


def _inside(theory: Theory, v: SimpleNamespace) -> None:
    """Where the upload's time is stationary: h = beta(S q + S0, eta (E - C(q, t))), B = min_t h/t."""
    given, prove = theory.given, theory.prove
    prove(
        "h is convex",
        le((v.a * v.v1 * v.v2 + v.B12) ** 2, (v.a * v.v1**2 + v.B11) * (v.a * v.v2**2 + v.B22)),
        "The second derivatives of h: those of beta, a = m_ee times squares, and D. Their determinant is not negative.",
        (Use("D convex", v.a * v.v2**2 / v.B22 + 1),),
        (Square(v.v1 - v.v2 * v.B12 / v.B22, v.a * v.B22),),
    )
    prove(
        "h is convex where the clock rests",
        le((v.a * v.v1 * v.v2) ** 2, (v.a * v.v1**2 + v.B11) * (v.a * v.v2**2)),
        "The same where an upload that ends early leaves the clock at its lower end: there C is affine in t.",
        squares=(Square(v.v2, v.a * v.B11),),
    )
    given("stationary", eq(-v.eta * v.Ct * v.me * v.t, v.m), "h_t = h/t: the best time of the upload")
    prove(
        "worth of time",
        eq(v.t * v.eta * v.Ct * v.eps, v.e),
        "At the best time t eta C_t eps = e.",
        (Use("elasticity", -v.t * v.eta * v.Ct / v.m), Use("stationary", v.e / v.m)),
    )
    D = v.S * v.e / v.L + v.eta * v.Cq
    prove(
        "mixed derivative",
        le(
            v.S * v.mL - v.eta * v.Cq * v.me,
            2 * v.t * (-v.eta * v.Ct * (v.S * v.mLe - v.eta * v.Cq * v.mee) - v.eta * v.me * v.Cqt),
        ),
        "h_q <= 2 t h_qt, from 1 + eps <= 2 zeta/eps.",
        (
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
    given("h_q", eq(v.hq, v.S * v.mL - v.eta * v.Cq * v.me), "h differentiated in q; not negative, as m_e < 0 < m_L")
    given(
        "h_qt",
        eq(v.hqt, -v.eta * v.Ct * (v.S * v.mLe - v.eta * v.Cq * v.mee) - v.eta * v.me * v.Cqt),
        "h differentiated in q and t",
    )
    given("joint convexity", le(v.hqt**2, v.hqq * v.htt), "h is jointly convex: the steps above")
    given("h_t", eq(v.ht * v.t, v.h), "h_t = h/t, as above")
    moves = {v.h: v.hq + v.ht * v.tq, v.t: v.tq, v.ht: v.hqt + v.htt * v.tq}
    given("stays stationary", eq(rate(v.ht / v.t - v.h / v.t**2, moves), 0), "h_t - h/t stays 0 as q and t(q) move")
    prove(
        "mixed derivative of h",
        le(v.hq, 2 * v.t * v.hqt),
        "The same in terms of h.",
        (Use("mixed derivative"), Use("h_q"), Use("h_qt", -2 * v.t)),
    )
    prove(
        "partial minimum",
        le((v.hqt - v.hq / v.t) ** 2, v.hqq * v.htt),
        "What makes B convex: (h_qt - h_q/t)^2 <= h_qq h_tt.",
        (Use("joint convexity"), Use("mixed derivative of h", v.hq / v.t**2)),
    )
    prove(
        "how the time moves",
        eq(v.htt * v.tq, v.hq / v.t - v.hqt),
        "t'(q) = (h_q/t - h_qt)/h_tt.",
        (Use("stays stationary", v.t), Use("h_t", 2 * v.tq / v.t**2)),
    )
    prove(
        "slope",
        eq(rate(v.h / v.t, moves), v.hq / v.t),
        "B'(q) = h_q/t: what the time does counts for nothing." + " The derivative stands written out.",
        (Use("h_t", v.tq / v.t**2),),
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


def _corners(theory: Theory, v: SimpleNamespace) -> None:
    given, prove = theory.given, theory.prove
    given(
        "kink, twice",
        eq(v.P * v.tqq, -v.eta * (v.Cqq + 2 * v.Cqt * v.tq + v.Ctt * v.tq**2 + v.Ct * v.tqq)),
        "P t = eta (E - C(q, t)) differentiated twice along q",
    )
    prove(
        "time at the kink is concave",
        le(v.tqq * (v.P + v.eta * v.Ct), 0),
        "Where peak and energy both bind t(q) is concave.",
        (Use("kink, twice", 1), Use("C convex", v.eta / v.Ctt)),
        (Square(v.tq + v.Cqt / v.Ctt, v.eta * v.Ctt),),
    )
    along = {v.L: v.S, v.t: -v.fall, v.fall: v.bend}
    prove(
        "rate at peak power is convex",
        le(0, rate(rate(v.L / v.t, along), along)),
        "L/t is convex where t falls and is concave: at peak power, with the fastest clock or at the kink.",
        squares=(
            Square(1, 2 * v.S * v.fall / v.t**2),
            Square(1, v.L * v.bend / v.t**2),
            Square(v.fall, 2 * v.L / v.t**3),
        ),
    )
    moves = {v.x: -v.x / (v.b * v.f), v.X: -v.x / (v.b * v.f), v.y: -v.x / (v.b * v.f * v.X)}
    prove(
        "phi along the rate",
        eq(rate(v.y - v.x / v.X, moves), -(v.x**2) / (v.b * v.f * v.X**2)),
        "At peak power db/dr = 1/phi, and phi falls as the rate r = b ln(1 + g P/b) rises.",
    )
    prove(
        "bandwidth at peak power is convex",
        le(0, rate(1 / v.f, {v.f: -(v.x**2) / (v.b * v.f * v.X**2)})),
        "d^2 b/dr^2 >= 0; b rises in r, and r is convex in q.",
        squares=(Square(v.x / v.X, 1 / (v.b * v.f**3)),),
    )
    given("along the end", eq(v.hp, v.hq - v.ht * v.fall), "h along t(q), which falls by delta per unit of q")
    given("longer would pay", le(v.ht * v.t, v.h), "h_t <= h/t: a longer upload would take less bandwidth")
    path = {v.h: v.hp, v.t: -v.fall, v.hp: v.hpp}
    prove(
        "B is convex at an end of the clock",
        le(0, rate(rate(v.h / v.t, path), path)),
        "Energy binds and the clock is at an end: t is affine in q, h is convex along it.",
        (
            Use("along the end", -2 * v.fall / v.t**2),
            Use("longer would pay", 2 * v.fall**2 / v.t**3),
        ),
        (Square(1, v.hpp / v.t), Square(1, 2 * v.fall * v.hq / v.t**2)),
    )
    given(
        "budget falls behind",
        le((v.P + v.eta * v.pc) * v.c / v.s, v.eta * v.kappa * v.c * v.s**2),
        "along peak power the energy to spare falls as q rises: that is how a device comes to the kink",
    )

    def slope(omega: object) -> object:
        worth = v.b * v.f + v.g / v.X * ((1 - omega) * v.P - omega * v.eta * v.pc)  # type: ignore[operator]
        return (v.S + v.g / v.X * omega * v.eta * v.kappa * v.c * v.s**2 + worth * v.c / v.s) / (v.t * v.f)

    prove(
        "slope jumps up",
        le(slope(0), slope(v.omega)),
        "From peak power to where energy carries the share omega of the price of a joule B' does not fall.",
        (Use("budget falls behind", v.g * v.omega / (v.X * v.t * v.f)),),
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

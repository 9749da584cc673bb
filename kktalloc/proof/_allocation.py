"""The allocation problem: its convex form, the branch formulas, stationarity, Lambert-W closed forms.

Logarithms and exponentials are names with stated laws: `ell` is ln X, its rate is X'/X. What is proved
are rational identities between names, so the same checker serves.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import sympy

from kktalloc.proof._language import Expr, Sign, Square, Theory, Use, eq, le

_BY_RATE = " The derivative stands written out by the derivative rule."  # `rate`, below


def rate(expr: Expr, rates: Mapping[Expr, Expr]) -> Expr:
    """Rate of change of a rational expression, given those of its names (others are constant)."""
    if isinstance(expr, sympy.Rational):
        return sympy.S.Zero
    if isinstance(expr, sympy.Symbol):
        return sympy.sympify(rates.get(expr, 0))
    if isinstance(expr, sympy.Add):
        return sympy.Add(*(rate(part, rates) for part in expr.args))
    if isinstance(expr, sympy.Mul):
        rest = [sympy.Mul(*expr.args[:n], *expr.args[n + 1 :]) for n in range(len(expr.args))]
        return sympy.Add(*(rate(part, rates) * others for part, others in zip(expr.args, rest, strict=True)))
    if isinstance(expr, sympy.Pow) and isinstance(expr.exp, sympy.Integer):
        return expr.exp * expr.base ** (expr.exp - 1) * rate(expr.base, rates)
    raise TypeError(f"no rate for {expr}")


def _names(theory: Theory) -> SimpleNamespace:
    declare = theory.signature.parameter
    signs = {
        Sign.POSITIVE: "b g T r1 X x A ln2 theta Ew1 Eth Ey Ew2 Ew3 X2 X3 euler t S P eff D",
        Sign.NONNEGATIVE: "a u p alpha slope curv S0 nu mu",
        Sign.REAL: "ell ell2 q r0 e0 e1 eps E lam pi xi cost w1 w2 w3 expo1 expo3 bits y beta varpi U",
    }
    latex = {
        "r1": "r_1", "r0": "r_0", "e0": "e_0", "e1": "e_1", "S0": "S_0", "ell": r"\ln X", "ln2": r"\ln 2",
        "theta": r"\vartheta", "alpha": r"\alpha", "lam": r"\lambda", "mu": r"\mu", "nu": r"\nu",
        "pi": r"\pi", "xi": r"\xi", "Eth": r"e^{-\vartheta}", "Ey": "e^{-1-y}", "bits": "r",
        "eps": r"\varepsilon", "eff": r"\eta_{\mathrm{pa}}", "beta": r"\beta", "varpi": r"\varpi",
        "slope": "e'", "curv": "e''", "U": "u'", "cost": "e", "euler": r"\mathrm{e}",
        "expo1": r"e^{\vartheta(X-1)}", "expo3": "e^{1+y-1/X_3}", "ell2": r"\ln X_2",
        **{f"w{n}": f"w_{n}" for n in (1, 2, 3)}, **{f"X{n}": f"X_{n}" for n in (2, 3)},
        **{f"Ew{n}": f"e^{{w_{n}}}" for n in (1, 2, 3)},
    }  # fmt: skip
    return SimpleNamespace(
        **{name: declare(name, sign, latex.get(name, "")) for sign, names in signs.items() for name in names.split()}
    )


def allocation() -> Theory:
    """Convexity of the reduced problem and every formula of its KKT solution."""
    theory = Theory("The reduced allocation problem and its KKT solution")
    v = _names(theory)
    _convexity(theory, v)
    _branches(theory, v)
    _stationarity(theory, v)
    _lambert(theory, v)
    return theory


def _convexity(theory: Theory, v: SimpleNamespace) -> None:
    given, prove = theory.given, theory.prove
    given("window", eq(v.t, v.T - v.a * v.q), "the upload uses all the window that computing leaves")
    given("substitution", eq(v.q, v.u * v.t), "u is the keep ratio per second of upload")
    given("A", eq(v.A, 1 + v.a * v.u), "A = 1 + a u > 0")
    prove(
        "upload time",
        eq(v.t * v.A, v.T),
        "t = T / (1 + a u).",
        (Use("window"), Use("substitution", -v.a), Use("A", v.t)),
    )
    prove(
        "keep ratio",
        eq(v.q, v.T * v.u / v.A),
        "q = T u / (1 + a u).",
        (Use("substitution"), Use("upload time", v.u / v.A)),
    )
    prove(
        "rate constraint is affine",
        eq((v.S * v.q + v.S0) / v.t, v.S0 / v.T + (v.S + v.a * v.S0 / v.T) * v.u),
        "S q + S0 <= R t is r0 + r1 u <= R with r1 = S + a S0/T, r0 = S0/T.",
        (
            Use("substitution", v.S / v.t),
            Use("upload time", -v.S0 / (v.t * v.T)),
            Use("A", v.S0 / v.T),
        ),
    )
    prove(
        "energy constraint is affine",
        eq(v.eff * (v.E - v.eps * v.q) / v.t, v.eff * v.E / v.T + v.eff * (v.a * v.E / v.T - v.eps) * v.u),
        "(p/eff) t + eps q <= E is p <= e0 + e1 u with e0 = eff E/T, e1 = eff (a E/T - eps).",
        (
            Use("substitution", -v.eff * v.eps / v.t),
            Use("upload time", -v.eff * v.E / (v.t * v.T)),
            Use("A", v.eff * v.E / v.T),
        ),
    )
    keep = v.T * v.u / v.A
    prove(
        "keep ratio increases",
        eq(rate(keep, {v.u: 1, v.A: v.a}), v.T / v.A**2),
        "dq/du = T / (1 + a u)^2." + _BY_RATE,
        (Use("A", v.T / v.A**2),),
    )
    slope = v.T / v.A**2
    moves = {v.u: 1, v.A: v.a, v.cost: -v.slope * slope, v.slope: -v.curv * slope}
    prove(
        "objective is convex",
        le(0, rate(rate(v.alpha * v.cost, moves), moves)),
        "alpha e(1 - q(u)) has a non-negative second derivative when e is convex and increasing." + _BY_RATE,
        squares=(
            Square(slope, v.alpha * v.curv),
            Square(1, 2 * v.alpha * v.slope * v.a * v.T / v.A**3),
        ),
    )
    shannon = v.b * v.ell / v.ln2
    snr_rate = v.g * v.varpi / v.b - v.g * v.p * v.beta / v.b**2
    moves = {v.b: v.beta, v.p: v.varpi, v.X: snr_rate, v.ell: snr_rate / v.X}
    prove(
        "rate is concave",
        le(rate(rate(shannon, moves), moves), 0),
        "Along any direction (beta, varpi) of (b, p), the second derivative of b log2(1 + g p/b) is not positive."
        + _BY_RATE,
        squares=(Square(v.b * v.varpi - v.p * v.beta, v.g**2 / (v.b**3 * v.X**2 * v.ln2)),),
    )


def _phi(v: SimpleNamespace) -> Expr:
    return (v.ell - v.x / v.X) / v.ln2


def _branches(theory: Theory, v: SimpleNamespace) -> None:
    given, prove = theory.given, theory.prove
    given("X", eq(v.X, 1 + v.x), "X = 1 + x")
    given("snr", eq(v.x * v.b, v.g * v.p), "x = g p/b is the received SNR")
    given("full rate", eq(v.b * v.ell / v.ln2, v.r0 + v.r1 * v.u), "the rate constraint holds with equality")
    given("peak", eq(v.p, v.P), "peak branch: all the transmit power is used")
    given("energy", eq(v.p, v.e0 + v.e1 * v.u), "energy branch: all the energy is used")
    prove(
        "peak branch",
        eq(v.u, (v.g * v.P * v.ell / (v.x * v.ln2) - v.r0) / v.r1),
        "u = (g P log2(1 + x)/x - r0)/r1 with b = g P/x.",
        (
            Use("full rate", -1 / v.r1),
            Use("snr", v.ell / (v.x * v.ln2 * v.r1)),
            Use("peak", v.g * v.ell / (v.x * v.ln2 * v.r1)),
        ),
    )
    along = {v.b: 1, v.x: -v.x / v.b, v.ell: -v.x / (v.b * v.X)}
    prove(
        "peak branch, marginal",
        eq(rate((v.b * v.ell / v.ln2 - v.r0) / v.r1, along), _phi(v) / v.r1),
        "du/db = phi(x)/r1 along the peak branch." + _BY_RATE,
    )
    kappa = v.g * v.ell / (v.x * v.ln2)
    prove(
        "energy branch",
        eq(v.u * (v.r1 - kappa * v.e1), kappa * v.e0 - v.r0),
        "u = (kappa e0 - r0)/(r1 - kappa e1), kappa = g log2(1 + x)/x.",
        (
            Use("full rate", -1),
            Use("snr", v.ell / (v.x * v.ln2)),
            Use("energy", kappa),
        ),
    )
    snr_rate = v.g * v.e1 * v.U / v.b - v.x / v.b
    along = {v.b: 1, v.x: snr_rate, v.ell: snr_rate / v.X}
    given(
        "full rate, along",
        eq(rate(v.b * v.ell / v.ln2, along), v.r1 * v.U),
        "the rate constraint differentiated in b along the energy branch, u' = du/db",
    )
    prove(
        "energy branch, marginal",
        eq(v.U * (v.r1 - v.g * v.e1 / (v.X * v.ln2)), _phi(v)),
        "du/db = phi(x)/(r1 - g e1/((1 + x) ln 2)) along the energy branch.",
        (Use("full rate, along", -1),),
    )
    prove(
        "marginal falls with bandwidth",
        eq(rate(_phi(v), {v.x: 1, v.X: 1, v.ell: 1 / v.X}), v.x / (v.X**2 * v.ln2)),
        "phi increases with the SNR: dphi/dx = x/((1 + x)^2 ln 2) > 0." + _BY_RATE,
    )


def _stationarity(theory: Theory, v: SimpleNamespace) -> None:
    given, prove = theory.given, theory.prove
    shannon = v.b * v.ell / v.ln2
    lagrangian = (
        v.alpha * v.cost
        + v.nu * (v.r0 + v.r1 * v.u - shannon)
        + v.pi * (v.p - v.P)
        + v.xi * (v.p - v.e0 - v.e1 * v.u)
        + v.lam * v.b
        + v.mu * v.p
    )
    gain = v.alpha * v.slope * v.T / v.A**2
    in_u = rate(lagrangian, {v.u: 1, v.A: v.a, v.cost: -v.slope * v.T / v.A**2})
    in_b = rate(lagrangian, {v.b: 1, v.x: -v.x / v.b, v.ell: -v.x / (v.b * v.X)})
    in_p = rate(lagrangian, {v.p: 1, v.x: v.g / v.b, v.ell: v.g / (v.b * v.X)})
    prove("stationarity in u", eq(in_u, v.nu * v.r1 - v.xi * v.e1 - gain), "dL/du." + _BY_RATE)
    prove("stationarity in b", eq(in_b, v.lam - v.nu * _phi(v)), "dL/db: the price of bandwidth." + _BY_RATE)
    prove(
        "stationarity in p",
        eq(in_p, v.pi + v.xi + v.mu - v.nu * v.g / (v.X * v.ln2)),
        "dL/dp: the prices of peak power, energy and total power." + _BY_RATE,
    )
    given("optimal in u", eq(in_u, 0), "KKT: dL/du = 0")
    given("optimal in b", eq(in_b, 0), "KKT: dL/db = 0")
    given("optimal in p", eq(in_p, 0), "KKT: dL/dp = 0")
    given("energy is slack", eq(v.xi, 0), "complementary slackness where the energy is not used up")
    given("peak is slack", eq(v.pi, 0), "complementary slackness where the power is below its peak")
    given("no total power", eq(v.mu, 0), "without a total power budget")
    given("D", eq(v.D, v.r1 - v.g * v.e1 / (v.X * v.ln2)), "D = r1 - g e1/((1 + x) ln 2) > 0")
    given("linear", eq(v.slope, 1), "the pruning error is linear, e' = 1")
    phi = _phi(v)
    prove(
        "price where energy is slack",
        eq(gain * phi / v.r1, v.lam),
        "Peak branch: alpha e'(1 - q) T/(1 + a u)^2 phi/r1 = lambda.",
        (
            Use("optimal in u", -phi / v.r1),
            Use("optimal in b", -1),
            Use("energy is slack", -v.e1 * phi / v.r1),
        ),
    )
    prove(
        "price on the energy branch",
        eq(gain * phi / v.D, v.lam),
        "alpha e'(1 - q) T/(1 + a u)^2 phi/(r1 - g e1/((1 + x) ln 2)) = lambda.",
        (
            Use("optimal in b", -1),
            Use("D", -v.nu * phi / v.D),
            Use("optimal in u", -phi / v.D),
            Use("optimal in p", -v.e1 * phi / v.D),
            Use("peak is slack", v.e1 * phi / v.D),
            Use("no total power", v.e1 * phi / v.D),
        ),
    )
    prove(
        "SNR under a total power price",
        eq(v.mu * (v.X * v.ell - v.X + 1), v.g * v.lam),
        "Inside both power limits: X ln X - X + 1 = g lambda/mu.",
        (
            Use("optimal in b", -v.g),
            Use("optimal in p", v.X * v.ell - v.x),
            Use("peak is slack", v.x - v.X * v.ell),
            Use("energy is slack", v.x - v.X * v.ell),
            Use("X", -v.mu),
        ),
    )
    prove(
        "keep ratio under a total power price",
        eq(v.A**2 * v.lam * v.r1, v.alpha * v.T * phi),
        "u = (sqrt(alpha T phi/(lambda r1)) - 1)/a for the linear pruning error.",
        (
            Use("price where energy is slack", -(v.A**2) * v.r1),
            Use("linear", v.alpha * v.T * phi),
        ),
    )


def _lambert(theory: Theory, v: SimpleNamespace) -> None:
    given, prove = theory.given, theory.prove
    # Least bandwidth for a rate: w = W_{-1}(-th e^{-th}), X = -w/th.
    given("least: law", eq(v.w1 * v.Ew1, -v.theta * v.Eth), "w e^w = -th e^{-th}, w on the branch W_{-1}")
    given("least: SNR", eq(v.theta * v.X, -v.w1), "X = -w/th")
    given("least: exponential", eq(v.expo1 * v.Ew1, v.Eth), "exp(th (X - 1)) e^w = e^{-th}, as th X = -w")
    given("least: branch", le(v.w1, -1), "W_{-1} <= -1")
    given("least: logarithm", eq(v.ell, v.theta * v.x), "ln X = th (X - 1)")
    given("least: threshold", eq(v.theta * v.g * v.p, v.bits * v.ln2), "th = r ln 2/(g p)")
    given("log below its tangent", le(v.ell, v.x), "ln(1 + x) <= x")
    prove(
        "least bandwidth: equation",
        eq(v.expo1, v.X),
        "X = -W_{-1}(-th e^{-th})/th solves exp(th (X - 1)) = X, that is ln X = th (X - 1).",
        (
            Use("least: exponential", 1 / v.Ew1),
            Use("least: law", 1 / (v.theta * v.Ew1)),
            Use("least: SNR", -1 / v.theta),
        ),
    )
    prove(
        "least bandwidth: rate",
        eq(v.b * v.ell / v.ln2, v.bits),
        "ln X = th (X - 1) at b = g p/x gives exactly the rate r.",
        (
            Use("least: logarithm", v.b / v.ln2),
            Use("snr", v.theta / v.ln2),
            Use("least: threshold", 1 / v.ln2),
        ),
    )
    prove(
        "least bandwidth: branch",
        le(1 / v.theta, v.X),
        "On W_{-1}, X >= 1/th, which exceeds 1 for th < 1: the root other than X = 1.",
        (Use("least: SNR", -1 / v.theta), Use("least: branch", 1 / v.theta)),
    )
    prove(
        "wideband limit",
        le(v.b * v.ell / v.ln2, v.g * v.p / v.ln2),
        "No bandwidth carries more than g p/ln 2: a rate with th >= 1 is out of reach.",
        (Use("log below its tangent", v.b / v.ln2), Use("snr", 1 / v.ln2)),
    )
    # Interior SNR under a total power price: w = W_0((y - 1)/e), X = exp(1 + w), y = g lambda/mu.
    given("interior: law", eq(v.w2 * v.Ew2 * v.euler, v.y - 1), "w e^w = (y - 1)/e")
    given("interior: SNR", eq(v.X2, v.euler * v.Ew2), "X = exp(1 + w)")
    given("interior: logarithm", eq(v.ell2, 1 + v.w2), "ln X = 1 + w")
    prove(
        "interior SNR",
        eq(v.X2 * v.ell2 - v.X2 + 1, v.y),
        "X = exp(1 + W_0((y - 1)/e)) solves X ln X - X + 1 = y.",
        (
            Use("interior: logarithm", v.X2),
            Use("interior: SNR", v.w2),
            Use("interior: law"),
        ),
    )
    # Peak branch without computing time (a = 0): ln X - 1 + 1/X = y, X = -1/W_0(-e^{-1-y}).
    given("a = 0: law", eq(v.w3 * v.Ew3, -v.Ey), "w e^w = -e^{-1-y}")
    given("a = 0: SNR", eq(v.X3 * v.w3, -1), "X = -1/w")
    given("a = 0: exponential", eq(v.expo3 * v.Ey, v.Ew3), "exp(1 + y - 1/X) e^{-1-y} = e^w")
    prove(
        "SNR without computing time",
        eq(v.expo3, v.X3),
        "X = -1/W_0(-e^{-1-y}) solves exp(1 + y - 1/X) = X, that is ln X - 1 + 1/X = y.",
        (
            Use("a = 0: exponential", 1 / v.Ey),
            Use("a = 0: law", -v.X3 / v.Ey),
            Use("a = 0: SNR", v.Ew3 / v.Ey),
        ),
    )

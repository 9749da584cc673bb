"""Energy that has a price: what a device radiates is jointly convex, and so are the costs of `solve_priced` and
`least_cost`.

In t seconds and b hertz a device sends ``L = t b y`` nats with the radiated energy ``t b (e^y - 1)/g``. Its second
derivative is taken along a line: of time and bandwidth where the payload is fixed, of what is kept and bandwidth where
the clock stands still, so that payload and time are affine in what is kept. A function is jointly convex if and only
if these are never negative.
"""

from __future__ import annotations

from types import SimpleNamespace

from kktalloc.proof._allocation import rate
from kktalloc.proof._language import Expr, Sign, Square, Theory, Use, eq, le

_SIGNS = {
    Sign.POSITIVE: "t b y E L g r s w P",
    Sign.NONNEGATIVE: "a S alpha curv worth heat pc kappa lam",
    Sign.REAL: "m q tau beta keep rho error slope",
}
_LATEX = {
    "E": "e^{y}", "alpha": r"\alpha", "curv": "e''", "slope": "e'", "error": "e", "worth": r"\mu", "heat": r"\epsilon",
    "pc": "p_c", "kappa": r"\kappa", "lam": r"\lambda", "tau": r"\dot t", "beta": r"\dot b", "keep": r"\dot q",
    "rho": r"\dot r",
}  # fmt: skip


def priced() -> Theory:
    """Radiated energy is jointly convex: energy may have a price, and the cheapest round is one convex problem."""
    theory = Theory("Energy with a price")
    declare = theory.signature.parameter
    v = SimpleNamespace(
        **{name: declare(name, sign, _LATEX.get(name, "")) for sign, names in _SIGNS.items() for name in names.split()}
    )
    _exponential(theory, v)
    _time_and_bandwidth(theory, v)
    _kept_and_bandwidth(theory, v)
    return theory


def _radiated(v: SimpleNamespace) -> Expr:
    return v.t * v.b * (v.E - 1) / v.g


def _by_the_exponential(v: SimpleNamespace) -> Expr:
    return v.y * v.E - v.E + 1


def _line(v: SimpleNamespace, t: Expr, b: Expr, L: Expr) -> dict[Expr, Expr]:
    """Rates of all names along a line on which time, bandwidth and payload move at these rates."""
    y = L / (v.t * v.b) - v.y * (t / v.t + b / v.b)
    return {v.t: t, v.b: b, v.L: L, v.y: y, v.E: v.E * y}


def _exponential(theory: Theory, v: SimpleNamespace) -> None:
    given, prove = theory.given, theory.prove
    given("efficiency", eq(v.y * v.t * v.b, v.L), "the payload just goes through at y nats per second and hertz")
    given("m", eq(v.m, _by_the_exponential(v)), "m = y e^y - e^y + 1")
    given("exponential above its tangent", le(1 + v.y, v.E), "1 + y <= e^y")
    given("the same at -y", le(v.E * (1 - v.y), 1), "1 - y <= e^(-y), times e^y")
    prove("m is not negative", le(0, v.m), "m >= 0.", (Use("m", -1), Use("the same at -y")))
    prove(
        "m is small",
        le(v.m, v.y**2 * v.E),
        "m <= y^2 e^y.",
        (Use("m"), Use("the same at -y", v.y), Use("exponential above its tangent")),
    )
    prove(
        "payload of a line",
        eq(rate(v.y * v.t * v.b, _line(v, v.tau, v.beta, v.keep)), v.keep),
        "With y moving as it does below, the payload y t b moves at the rate it is told: here any rate.",
    )


def _time_and_bandwidth(theory: Theory, v: SimpleNamespace) -> None:
    """A fixed payload, the time of the upload free: the least weighted sum of energy and time."""
    given, prove = theory.given, theory.prove
    radiated = _radiated(v)
    in_t, in_b, line = (_line(v, t, b, 0) for t, b in ((1, 0), (0, 1), (v.tau, v.beta)))
    prove(
        "energy against time",
        eq(rate(radiated, in_t), -v.b * v.m / v.g),
        "de/dt = -b m/g: who sends longer radiates less.",
        (Use("m", v.b / v.g),),
    )
    prove(
        "energy against bandwidth",
        eq(rate(radiated, in_b), -v.t * v.m / v.g),
        "de/db = -t m/g.",
        (Use("m", v.t / v.g),),
    )
    prove(
        "determinant",
        eq(
            rate(rate(radiated, in_t), in_t) * rate(rate(radiated, in_b), in_b) - rate(rate(radiated, in_t), in_b) ** 2,
            v.m * (2 * v.y**2 * v.E - v.m) / v.g**2,
        ),
        "e_tt e_bb - e_tb^2 = m (2 y^2 e^y - m)/g^2.",
        (Use("m", -(2 * v.y**2 * v.E - v.m - _by_the_exponential(v)) / v.g**2),),
    )
    prove(
        "determinant is not negative",
        le(0, v.m * (2 * v.y**2 * v.E - v.m)),
        "As 0 <= m <= y^2 e^y.",
        (Use("m is small", v.m, since=("m is not negative",)), Use("m is not negative", v.y**2 * v.E)),
    )
    small, convex = ("m is small",), ("m is not negative",)
    prove(
        "energy is convex in time and bandwidth",
        le(0, rate(rate(radiated, line), line)),
        "The second derivative of the radiated energy along any line of t and b.",
        (Use("m", -2 * v.tau * v.beta / v.g),),
        (
            Square(v.tau * v.b + v.beta * v.t, (v.y**2 * v.E - v.m) / (v.g * v.t * v.b), since=small),
            Square(v.tau * v.b, v.m / (v.g * v.t * v.b), since=convex),
            Square(v.beta * v.t, v.m / (v.g * v.t * v.b), since=convex),
        ),
    )
    given("clock", eq(v.s * v.r, v.w), "w seconds of work at clock 1 take r seconds at clock s")
    prove(
        "processor by its time",
        eq(v.kappa * v.w**3 / v.r**2, v.kappa * v.w * v.s**2),
        "The processor's k w s^2 is k w^3/r^2: its ends are ends of r, and t + r <= T is affine.",
        (Use("clock", -v.kappa * (v.w / v.r) * (v.w / v.r + v.s)),),
    )
    # A direction of all that least_cost chooses per device: t, b and r. Electronics are affine in t.
    line = line | {v.r: v.rho}
    spent = radiated + v.pc * v.t + v.kappa * v.w**3 / v.r**2
    chosen = Use("energy is convex in time and bandwidth")
    prove(
        "energy with a clock and electronics is convex",
        le(0, rate(rate(spent, line), line)),
        "Along any line of t, b and r: so an energy budget is a convex limit.",
        (chosen,),
        (Square(v.rho, 6 * v.kappa * v.w**3 / v.r**4),),
    )
    prove(
        "peak power is a convex limit",
        le(0, rate(rate(radiated - v.P * v.t, line), line)),
        "e <= P t is convex in t and b.",
        (chosen,),
    )
    prove(
        "least cost is convex",
        le(0, rate(rate(v.worth * spent + v.lam * v.b, line), line)),
        "A device's share of weighted energy and time, its bandwidth at a price: convex in t, b and r; the length of "
        "the round is affine.",
        (Use("energy with a clock and electronics is convex", v.worth),),
    )
    given("best bandwidth", eq(v.lam + v.worth * rate(radiated, in_b), 0), "d(cost)/db = 0 at the price of a hertz")
    prove(
        "efficiency at the prices",
        eq(v.m * v.worth * v.t, v.lam * v.g),
        "y e^y - e^y + 1 = lambda g/(mu t), with mu the price of a joule.",
        (Use("best bandwidth", -v.g), Use("energy against bandwidth", v.worth * v.g)),
    )


def _kept_and_bandwidth(theory: Theory, v: SimpleNamespace) -> None:
    """A clock that stands still: payload S q + S0 and time T - a q are affine in what is kept."""
    prove = theory.prove
    radiated = _radiated(v)
    line = _line(v, -v.a * v.keep, v.beta, v.S * v.keep) | {v.q: v.keep}
    prove(
        "energy against what is kept",
        eq(rate(radiated, _line(v, -v.a, 0, v.S)), (v.S * v.E + v.a * v.b * v.m) / v.g),
        "de/dq = (S e^y + a b m)/g: more to send, and less time to send it in.",
        (Use("m", -v.a * v.b / v.g),),
    )
    small, convex = ("m is small",), ("m is not negative",)
    per = v.g * v.t * v.b * v.y**2
    prove(
        "energy is convex in what is kept and bandwidth",
        le(0, rate(rate(radiated, line), line)),
        "The second derivative of the radiated energy along any line of q and b.",
        (Use("m", 2 * v.a * v.keep * v.beta / v.g),),
        (
            Square((v.S + v.a * v.b * v.y) * v.keep - v.y * v.t * v.beta, (v.y**2 * v.E - v.m) / per, since=small),
            Square(v.S * v.keep - v.y * v.t * v.beta, v.m / per, since=convex),
            Square(v.a * v.b * v.y * v.keep, v.m / per, since=convex),
            Square(v.keep, 2 * v.S * v.a * v.b * v.y * v.m / per, since=convex),
        ),
    )
    chosen = Use("energy is convex in what is kept and bandwidth")
    spent = radiated + v.heat * v.q
    for name, limit, text in (
        ("budget is a convex limit", spent, "Own budgets, and one that devices share: sums of convex energies."),
        ("peak power is a convex limit, clock fixed", radiated - v.P * v.t, "e <= P t with t affine in q."),
    ):
        prove(name, le(0, rate(rate(limit, line), line)), text, (chosen,))
    line = line | {v.error: -v.slope * v.keep, v.slope: -v.curv * v.keep}
    prove(
        "priced cost is convex",
        le(0, rate(rate(v.alpha * v.error + v.worth * spent + v.lam * v.b, line), line)),
        "alpha e(1 - q) + mu (energy) + lambda b is jointly convex in q and b for a convex pruning error e.",
        (Use("budget is a convex limit", v.worth),),
        (Square(v.keep, v.alpha * v.curv),),
    )

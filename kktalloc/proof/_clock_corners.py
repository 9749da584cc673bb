"""The corners of a device with a clock: its least bandwidth rises and is convex there too.

Three kinds of piece remain beside the stationary ones of `_clock`. At *peak power* the radiated energy is P t, and the
upload uses all the window that the fastest clock leaves. At the *kink* peak power and energy both bind, and the
upload lasts as long as that allows. At an *end of the clock* energy binds, and the upload uses all the window.
"""

from __future__ import annotations

from types import SimpleNamespace

from kktalloc.proof._allocation import rate
from kktalloc.proof._language import Expr, Square, Theory, Use, eq, le


def corners(theory: Theory, v: SimpleNamespace) -> None:
    """The steps, for a theory that has those of `_clock`."""
    _time_at_the_kink(theory, v)
    _peak(theory, v)
    _end(theory, v)


def whole_window(v: SimpleNamespace) -> dict[Expr, Expr]:
    """Payload and time along q where the clock is at an end: t = T - w/s."""
    return {v.L: v.S, v.t: -v.c / v.s}


def budget_at_end(v: SimpleNamespace) -> Expr:
    """Rate of the radiated energy eta (E - k w s^2 - p_c t) along q where the clock is at an end."""
    return rate(-v.eta * (v.kappa * v.w * v.s**2 + v.pc * v.t), {v.w: v.c, v.t: -v.c / v.s})


def _time_at_the_kink(theory: Theory, v: SimpleNamespace) -> None:
    given, prove = theory.given, theory.prove
    once = v.P * v.tk + v.eta * (v.Cq + v.Ct * v.tk)
    given("kink", eq(once, 0), "P t = eta (E - C(q, t)) differentiated along q, with t(q) its root")
    twice = rate(once, {v.tk: v.tkk, v.Cq: v.Cqq + v.Cqt * v.tk, v.Ct: v.Cqt + v.Ctt * v.tk})
    given("kink, twice", eq(twice, 0), "the same once more")
    given("D", eq(v.D, v.P + v.eta * v.Ct), "D = P + eta C_t > 0")
    prove(
        "time at the kink falls",
        le(v.tk, 0),
        "t'(q) = -eta C_q/D <= 0 where peak and energy both bind.",
        (Use("kink", 1 / v.D), Use("D", v.tk / v.D)),
        (Square(1, v.eta * v.Cq / v.D),),
    )
    prove(
        "time at the kink is concave",
        le(v.tkk, 0),
        "t''(q) <= 0: t is concave along the kink, as C is convex.",
        (Use("kink, twice", 1 / v.D), Use("D", v.tkk / v.D), Use("C convex, kink", v.eta / v.D)),
    )


def _peak(theory: Theory, v: SimpleNamespace) -> None:
    """b ln(1 + g P/b) = L/t: b rises in the rate and is convex in it; the rate rises in q and is convex in it."""
    given, prove = theory.given, theory.prove
    given("peak", eq(v.p, v.P), "it sends at peak power")
    falls, concave = "time at the kink falls", "time at the kink is concave"
    window, kink = whole_window(v), {v.L: v.S, v.t: v.tk, v.tk: v.tkk}
    rises_faster = (Square(1, 2 * v.S * v.c / (v.s * v.t**2)), Square(v.c / v.s, 2 * v.L / v.t**3))
    for name, moves, b, uses, squares, rises in (
        ("at peak power", window, v.bp, (), rises_faster, ()),
        (
            "at the kink",
            kink,
            v.bk,
            (Use(falls, 2 * v.S / v.t**2), Use(concave, v.L / v.t**2)),
            (Square(v.tk, 2 * v.L / v.t**3),),
            (Use(falls, v.L / (v.t**2 * v.f)),),
        ),
    ):
        due = rate(v.L / v.t, moves)
        prove(
            f"rate is convex {name}",
            le(0, rate(due, moves)),
            "L/t is convex in q, as t falls and is concave.",
            uses,
            squares,
        )
        snr = {v.x: -v.x * b / v.b, v.X: -v.x * b / v.b, v.y: -v.x * b / (v.b * v.X)}
        given(
            f"rate held {name}",
            eq(rate(v.b * v.y, snr | {v.b: b}), due),
            f"b ln(1 + g P/b) = L/t differentiated along q, {name}",
        )
        prove(
            f"slope {name}",
            eq(b * v.f, due),
            "b' = r'/phi with the rate r = L/t: db/dr = 1/phi.",
            (Use(f"rate held {name}"), Use("phi", b)),
        )
        prove(
            f"B rises {name}",
            le(0, b),
            "B'(q) >= 0: more to send, and less time for it.",
            (Use(f"slope {name}", -1 / v.f), *rises),
            (Square(1, v.S / (v.t * v.f)), *(() if rises else (Square(1, v.L * v.c / (v.s * v.t**2 * v.f)),))),
        )
        prove(
            f"phi {name}",
            eq(rate(v.y - v.x / v.X, snr), -(v.x**2) * b / (v.b * v.X**2)),
            "phi falls as the bandwidth rises.",
        )
        prove(
            f"B is convex {name}",
            le(0, rate(due / v.f, moves | {v.f: rate(v.y - v.x / v.X, snr)})),
            "B'' = r''/phi - r' phi'/phi^2: b is convex in the rate, rises in it, and the rate is convex in q.",
            (
                Use(f"rate is convex {name}", 1 / v.f),
                Use(f"slope {name}", v.x**2 * b / (v.b * v.X**2 * v.f**2)),
            ),
            (Square(v.x * b / v.X, 1 / (v.b * v.f)),),
        )


def _end(theory: Theory, v: SimpleNamespace) -> None:
    """Energy binds and the clock is at an end: payload, time and energy are affine in q."""
    given, prove = theory.given, theory.prove
    e_q = budget_at_end(v)
    given("m along the end", eq(v.hp, v.S * v.mL + v.me * e_q), "m differentiated along q, clock at an end")
    moves = {v.mL: v.S * v.mLL + v.mLe * e_q, v.me: v.S * v.mLe + v.mee * e_q}
    given("m along the end, twice", eq(v.hpp, rate(v.S * v.mL + v.me * e_q, moves)), "the same once more")
    given(
        "longer would pay",
        le(-v.eta * v.pc * v.me * v.t, v.m),
        "h_t <= h/t with C_t = p_c: at this clock a longer upload would take less bandwidth",
    )
    prove(
        "m is convex along the end",
        le(0, v.hpp),
        "m_ee times a square: beta is convex.",
        (Use("m along the end, twice", -1), Use("m_LL", -(v.S**2)), Use("m_Le", -2 * v.S * e_q)),
        (Square(e_q - v.S * v.e / v.L, v.mee, since=("m is convex in energy",)),),
    )
    path = {v.m: v.hp, v.t: -v.c / v.s, v.hp: v.hpp}
    prove(
        "B rises at an end of the clock",
        le(0, rate(v.m / v.t, path)),
        "B'(q) >= 0: more to send, less energy for it, and less time, which would pay.",
        (
            Use("m along the end", -1 / v.t),
            Use("bandwidth against payload", -v.S / (v.t * v.f)),
            Use("less with more energy", v.eta * v.kappa * v.c * v.s**2 / v.t),
            Use("longer would pay", v.c / (v.s * v.t**2)),
        ),
        (Square(1, v.S / (v.t * v.f)),),
    )
    prove(
        "B is convex at an end of the clock",
        le(0, rate(rate(v.m / v.t, path), path)),
        "B''(q) = h''/t + 2 (c/s) B'/t.",
        (
            Use("m is convex along the end", 1 / v.t),
            Use("B rises at an end of the clock", 2 * v.c / (v.s * v.t)),
        ),
    )

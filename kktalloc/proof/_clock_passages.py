"""From one regime of a device with a clock to another its slope B' is continuous, or jumps upwards.

With the share omega of the price of power that energy carries, and not the peak, the slope at an end s of the clock is

    B'(omega) = [S + (g/X) omega eta k c s^2 + (b phi + (g/X) ((1 - omega) P - omega eta p_c)) c/s]/(t phi)

PEAK is omega = 0, ENERGY and CLOCK_MIN are omega = 1, the kink lies between, CLOCK and EARLY_FINISH join at omega = 1.
Time, bandwidth and power are continuous, so that B is convex where B' nowhere jumps downwards.
"""

from __future__ import annotations

from types import SimpleNamespace

from kktalloc.proof._allocation import rate
from kktalloc.proof._clock_corners import budget_at_end
from kktalloc.proof._language import Expr, Square, Theory, Use, eq, le


def passages(theory: Theory, v: SimpleNamespace) -> None:
    """The steps, for a theory that has those of `_clock` and `_clock_corners`."""
    _slopes(theory, v)
    _continuous(theory, v)
    _shares(theory, v)
    _jumps(theory, v)


def slope_at(v: SimpleNamespace, omega: Expr) -> Expr:
    """B' at an end of the clock, or where the clock is about to leave it, with the share omega."""
    worth = v.b * v.f + v.g / v.X * ((1 - omega) * v.P - omega * v.eta * v.pc)
    return (v.S + v.g / v.X * omega * v.eta * v.kappa * v.c * v.s**2 + worth * v.c / v.s) / (v.t * v.f)


def _sent_at_peak(v: SimpleNamespace, times: Expr) -> tuple[Use, ...]:
    """That L/t = b phi + g P/X at peak power, as it is used for `times` (b phi + g P/X - L/t)."""
    return (
        Use("rate", -times / v.t),
        Use("bandwidth and time", times * v.y / v.t),
        Use("phi", -times * v.b),
        Use("snr of power", times / v.X),
        Use("peak", times * v.g / v.X),
    )


def _slopes(theory: Theory, v: SimpleNamespace) -> None:
    """Every regime's slope, at an end of the clock, is B' at its share."""
    given, prove = theory.given, theory.prove
    given("clock moves, q", eq(v.Cq, 3 * v.kappa * v.c * v.s**2), "clock between its ends, or just leaving one")
    given("clock moves, t", eq(v.Ct, v.pc + 2 * v.kappa * v.s**3), "clock between its ends, or just leaving one")
    given("clock rests, q", eq(v.Cq, v.kappa * v.c * v.s**2), "clock at its lower end, the upload ending early")
    given("clock rests, t", eq(v.Ct, v.pc), "clock at its lower end, the upload ending early")
    given("D_0", eq(v.D0, v.P + v.eta * v.pc), "D_0 = P + eta p_c > 0")
    given("D_1", eq(v.D1, v.D0 + 2 * v.eta * v.kappa * v.s**3), "D_1 = D_0 + 2 eta k s^3 > 0")
    for name, o, D in (("rests", v.o0, v.D0), ("moves", v.o1, v.D1)):
        given(
            f"share at the kink, clock {name}",
            eq(o * v.g * D, v.X * v.b * v.f + v.g * v.P),
            "a longer upload would lose as much to the budget as it gains from the peak: stationarity in t",
        )
    prove(
        "slope of PEAK",
        eq(v.bp, slope_at(v, 0)),
        "PEAK, fastest clock: omega = 0.",
        (
            Use("slope at peak power", 1 / v.f),
            *_sent_at_peak(v, v.c / (v.s * v.t * v.f)),
        ),
    )
    at_end = rate(v.m / v.t, {v.m: v.hp, v.t: -v.c / v.s})
    e_q = budget_at_end(v)
    prove(
        "slope of ENERGY and CLOCK_MIN",
        eq(at_end, slope_at(v, 1)),
        "The clock at an end, energy alone binding: omega = 1.",
        (
            Use("m along the end", 1 / v.t),
            Use("bandwidth against payload", v.S / (v.t * v.f)),
            Use("bandwidth against energy", e_q / (v.t * v.X * v.f)),
            Use("bandwidth and time", v.c / (v.s * v.t**2)),
        ),
    )
    per = 1 / (v.t * v.f)
    prove(
        "slope of KINK",
        eq(v.bk, (v.S + (v.b * v.f + v.g * v.P / v.X) * v.eta * v.Cq / v.D) * per),
        "Peak and energy both bind: t' = -eta C_q/D.",
        (
            Use("slope at the kink", 1 / v.f),
            Use("kink", -v.L * per / (v.t * v.D)),
            Use("D", -v.L * v.tk * per / (v.t * v.D)),
            *_sent_at_peak(v, v.eta * v.Cq * per / v.D),
        ),
    )
    for name, o, beyond in (("moves", v.o1, ("D_0", "D_1")), ("rests", v.o0, ("D_0",))):
        price = o * v.g * v.eta * per / v.X
        held = v.eta * v.Cq * per / (v.X * v.D)
        prove(
            f"slope of KINK, clock {name}",
            eq(v.bk, slope_at(v, o)),
            "It is that of its share of the price of power.",
            (
                Use("slope of KINK"),
                Use(f"share at the kink, clock {name}", v.c * per / (v.s * v.X) - held),
                Use("D", -price * v.Cq / v.D),
                Use(f"clock {name}, t", -price * v.eta * v.Cq / v.D),
                Use(f"clock {name}, q", price),
                *(Use(D, price * v.Cq / v.D - o * v.g / v.X * v.c * per / v.s) for D in beyond),
            ),
        )


def _continuous(theory: Theory, v: SimpleNamespace) -> None:
    """Where the time is stationary the slope is that of omega = 1, and the kink's where it comes to that."""
    prove, per = theory.prove, 1 / (v.t * v.f)
    prove(
        "balance",
        eq(v.g * v.eta * v.Ct, v.b * v.X * v.f),
        "The power balance as passages need it: a second more takes g eta C_t from the upload, and gives it b X phi.",
        (
            Use("bandwidth and time", v.X * v.f / v.t),
            Use("stationary", v.X * v.f / v.t),
            Use("h_t", -v.X * v.f),
            Use("bandwidth against energy", v.eta * v.Ct),
        ),
    )
    price = v.g * v.eta * per / v.X
    for name, clock, text in (
        ("CLOCK at an end of the clock", "moves", "CLOCK passes to ENERGY and CLOCK_MIN without a jump."),
        ("EARLY_FINISH at the end of the window", "rests", "EARLY_FINISH passes to CLOCK_MIN without a jump."),
    ):
        prove(
            f"slope of {name}",
            eq(v.hq / v.t, slope_at(v, 1)),
            text,
            (
                Use("slope formula"),
                Use("balance", v.c * per / (v.s * v.X)),
                Use(f"clock {clock}, t", -price * v.c / v.s),
                Use(f"clock {clock}, q", price),
            ),
        )
    prove(
        "slope of KINK at the balance",
        eq(v.bk, v.hq / v.t),
        "The kink passes to CLOCK and to EARLY_FINISH without a jump.",
        (
            Use("slope of KINK"),
            Use("slope formula", -1),
            Use("D", -price * v.Cq / v.D),
            Use("balance", -v.eta * v.Cq * per / (v.X * v.D)),
        ),
    )


def _shares(theory: Theory, v: SimpleNamespace) -> None:
    """Which of two regimes has the larger share: the one with less energy to spare."""
    given, prove = theory.given, theory.prove
    for name, o, D in (("rests", v.o0, v.D0), ("moves", v.o1, v.D1)):
        prove(
            f"share is not negative, clock {name}",
            le(0, o),
            "As all that it is made of.",
            (Use(f"share at the kink, clock {name}", -1 / (v.g * D)),),
            (Square(1, (v.X * v.b * v.f + v.g * v.P) / (v.g * D)),),
        )
    clock = 2 * v.eta * v.kappa * v.s**3
    prove(
        "share is larger where the clock rests",
        le(v.o1, v.o0),
        "A clock that moves pays for a longer upload too.",
        (
            Use("share at the kink, clock moves", 1 / (v.g * v.D0)),
            Use("share at the kink, clock rests", -1 / (v.g * v.D0)),
            Use("D_1", -v.o1 / v.D0),
            Use("share is not negative, clock moves", clock / v.D0),
        ),
    )
    given(
        "faster would not pay",
        le(v.X * v.b * v.f, v.g * v.eta * (v.pc + 2 * v.kappa * v.s**3)),
        "CLOCK_MIN: a longer upload with a faster clock would take more bandwidth",
    )
    prove(
        "share is at most 1 beside CLOCK_MIN",
        le(v.o1, 1),
        "Where a faster clock would not pay the kink with a moving clock has omega <= 1.",
        (
            Use("share at the kink, clock moves", 1 / (v.g * v.D1)),
            Use("faster would not pay", 1 / (v.g * v.D1)),
            Use("D_0", -1 / v.D1),
            Use("D_1", -1 / v.D1),
        ),
    )


def _jumps(theory: Theory, v: SimpleNamespace) -> None:
    """At an end of the clock, peak and energy both just binding: the slope jumps upwards, whichever way q goes."""
    given, prove = theory.given, theory.prove
    spare = budget_at_end(v) + v.P * v.c / v.s
    given("budget falls behind", le(spare, 0), "along the end energy comes to bind more than the peak as q rises")
    given("budget catches up", le(0, spare), "the other case: less than the peak")
    per = v.g / (v.X * v.t * v.f)
    moving = ("share is not negative, clock moves",)
    for plenty, low, short, high, since in (
        ("PEAK", 0, "ENERGY", 1, ()),
        ("PEAK", 0, "KINK", v.o1, moving),
        ("KINK, clock moving", v.o1, "KINK, clock resting", v.o0, ("share is larger where the clock rests",)),
        ("KINK, clock moving", v.o1, "CLOCK_MIN", 1, ("share is at most 1 beside CLOCK_MIN",)),
    ):
        text = "B' jumps by the difference of the shares times how fast the energy to spare changes."
        for case, before, after, names in (
            ("budget falls behind", low, high, (plenty, short)),
            ("budget catches up", high, low, (short, plenty)),
        ):
            prove(
                f"{names[0]} to {names[1]}",
                le(slope_at(v, before), slope_at(v, after)),
                text,
                (Use(case, (high - low) * per, since=since),),
            )

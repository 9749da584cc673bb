"""beta(L, e), the bandwidth times time that L nats with radiated energy e take at the least.

It is the root m of ``m ln(1 + g e/m) = L``. Here are its derivatives, that it is convex, and the inequality that the
convexity of a device's least bandwidth rests on.
"""

from __future__ import annotations

from types import SimpleNamespace

from kktalloc.proof._allocation import rate
from kktalloc.proof._language import Square, Theory, Use, eq, le


def bandwidth(theory: Theory, v: SimpleNamespace) -> None:
    """The steps, for the names of `_clock`."""
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
    given("homogeneous", eq(v.L * v.mLe + v.e * v.mee, 0), "Euler's relation (below) differentiated in e")
    given("homogeneous, L", eq(v.L * v.mLL + v.e * v.mLe, 0), "the same differentiated in L")
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

    prove(
        "less with more energy",
        le(0, -v.me),
        "m falls in e.",
        (Use("bandwidth against energy", 1 / (v.X * v.f)),),
        (Square(1, v.g / (v.X * v.f)),),
    )
    prove(
        "m is convex in energy",
        le(0, v.mee),
        "m_ee >= 0.",
        (Use("curvature", -1 / v.e**2),),
        (Square(1, v.eps**2 * (1 + v.eps) * v.y * v.m / v.e**2),),
    )
    prove(
        "falling and convex",
        le(0, -v.me * v.mee),
        "-m_e m_ee >= 0.",
        (
            Use("bandwidth against energy", v.mee / (v.X * v.f)),
            Use("m is convex in energy", v.g / (v.X * v.f)),
        ),
    )
    prove("m_Le", eq(v.mLe, -v.mee * v.e / v.L), "m_Le = -m_ee e/L.", (Use("homogeneous", 1 / v.L),))
    prove(
        "m_LL",
        eq(v.mLL, v.mee * v.e**2 / v.L**2),
        "m_LL = m_ee e^2/L^2: beta is convex, and affine along lines through the origin.",
        (Use("homogeneous, L", 1 / v.L), Use("m_Le", -v.e / v.L)),
    )

"""The theory of priced energy on random devices: facts and steps hold, and the derivatives are those of the energy."""

from __future__ import annotations

import numpy as np
import pytest
from scalar_claims import compiled

from kktalloc.proof._report import theories

CLAIMS = compiled(theories()["priced"])
Values = dict[str, float]


def device(seed: int) -> Values:
    """An upload, a direction in each variable, and prices at which its bandwidth is the best."""
    rng = np.random.default_rng(seed)
    positive = ("t", "b", "g", "w", "r", "P", "S", "a", "alpha", "curv", "worth", "heat", "pc", "kappa", "slope", "q")
    v: Values = dict(zip(positive, map(float, rng.uniform(0.3, 2.0, len(positive))), strict=True))
    v |= dict(zip(("tau", "beta", "keep", "rho", "error"), map(float, rng.normal(size=5)), strict=True))
    v["y"] = float(np.exp(rng.uniform(-5.0, 2.0)))
    v["E"], v["L"], v["s"] = float(np.exp(v["y"])), v["t"] * v["b"] * v["y"], v["w"] / v["r"]
    v["m"] = v["y"] * v["E"] - v["E"] + 1.0
    v["lam"] = v["worth"] * v["t"] * v["m"] / v["g"]
    return v


def radiated(v: Values, t: float, b: float, L: float) -> float:
    return float(t * b * np.expm1(L / (t * b)) / v["g"])


@pytest.mark.parametrize("seed", range(40))
def test_facts_and_steps_hold(seed: int) -> None:
    v = device(seed)
    assert [name for name, claim in CLAIMS.items() if not claim.holds(v)] == []


@pytest.mark.parametrize("seed", range(20))
def test_second_derivatives_are_those_of_the_energy(seed: int) -> None:
    v = device(seed)
    v["y"] = 0.3 + v["y"] / 4.0
    v |= {"E": float(np.exp(v["y"])), "L": v["t"] * v["b"] * v["y"]}
    h = 1e-4

    def along(d: float, t: float, L: float) -> float:
        return radiated(v, v["t"] + d * t, v["b"] + d * v["beta"], v["L"] + d * L)

    def quotient(t: float, L: float) -> float:
        return (along(h, t, L) - 2.0 * along(0.0, t, L) + along(-h, t, L)) / h**2

    for name, t, L in (
        ("energy is convex in time and bandwidth", v["tau"], 0.0),
        ("energy is convex in what is kept and bandwidth", -v["a"] * v["keep"], v["S"] * v["keep"]),
    ):
        assert quotient(t, L) == pytest.approx(CLAIMS[name].sides(v)[1], rel=1e-4, abs=1e-4), name


def test_with_payload_time_and_bandwidth_free_it_is_not_convex() -> None:
    """Why electronics are refused: an upload may then end early, and its time is no affine function of what is kept."""
    worst = 0.0
    for seed in range(200):
        v, h = device(seed), 1e-4
        values = [
            radiated(v, v["t"] + d * v["tau"], v["b"] + d * v["beta"], v["L"] + d * v["keep"] * v["S"])
            for d in (-h, 0.0, h)
        ]
        worst = min(worst, (values[0] - 2.0 * values[1] + values[2]) / h**2)
    assert worst < -1.0

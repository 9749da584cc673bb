"""The theory of clock and electronics on devices whose best upload time is known: facts hold, and so do all steps."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar

from kktalloc.proof._report import theories

CLOCK = theories()["clock"]
Values = dict[str, float]


def device(seed: int) -> Values:
    """A device at the balance of power: clock and SNR are drawn, then radio and energy are made to fit them."""
    rng = np.random.default_rng(seed)
    names = ("s", "w", "kappa", "pc", "g", "x", "S", "c", "t")
    v: Values = dict(zip(names, map(float, rng.uniform(0.5, 2.0, len(names))), strict=True))
    v |= {"eta": 0.4, "left": v["w"] / v["s"], "X": 1.0 + v["x"], "y": float(np.log1p(v["x"]))}
    v["f"] = v["y"] - v["x"] / v["X"]
    v["Ct"], v["Cq"] = v["pc"] + 2.0 * v["kappa"] * v["s"] ** 3, 3.0 * v["kappa"] * v["c"] * v["s"] ** 2
    left = v["left"]
    v["Cqq"] = 6.0 * v["kappa"] * v["c"] ** 2 * v["w"] / left**2
    v["Cqt"], v["Ctt"] = 6.0 * v["kappa"] * v["c"] * v["w"] ** 2 / left**3, 6.0 * v["kappa"] * v["w"] ** 3 / left**4
    v["p"] = v["eta"] * v["Ct"] * v["x"] / (v["X"] * v["y"] - v["x"])
    v["b"], v["e"] = v["g"] * v["p"] / v["x"], v["p"] * v["t"]
    v["m"] = v["h"] = v["b"] * v["t"]
    v["L"] = v["m"] * v["y"]
    v["eps"] = v["x"] / (v["X"] * v["y"] - v["x"])
    return v


def beta(v: Values, L: float, e: float) -> float:
    """m with m ln(1 + g e/m) = L."""
    return float(brentq(lambda m: m * np.log1p(v["g"] * e / m) - L, 1e-9, 1e9, xtol=1e-14, rtol=1e-15))


def derivatives(v: Values) -> Values:
    """Of beta and h; the first two are held against difference quotients below."""
    me = -v["g"] / (v["X"] * v["f"])
    xe = (v["g"] - v["x"] * me) / v["m"]
    mee = -me * xe * v["y"] / (v["X"] * v["y"] - v["x"])
    e_q, e_t = -v["eta"] * v["Cq"], -v["eta"] * v["Ct"]
    v |= {"me": me, "xe": xe, "mee": mee, "mL": 1.0 / v["f"], "mLe": -v["e"] * mee / v["L"]}
    v |= {"a": mee, "v1": e_q - v["S"] * v["e"] / v["L"], "v2": e_t}
    v |= {f"B{n}": -v["eta"] * me * v[c] for n, c in (("11", "Cqq"), ("12", "Cqt"), ("22", "Ctt"))}
    v["ht"], v["hq"] = me * e_t, v["S"] * v["mL"] + me * e_q
    v["hqq"] = mee * v["v1"] ** 2 + v["B11"]
    v["hqt"], v["htt"] = mee * v["v1"] * v["v2"] + v["B12"], mee * v["v2"] ** 2 + v["B22"]
    v["tq"] = (v["hq"] / v["t"] - v["hqt"]) / v["htt"]
    return v


def corners(v: Values) -> Values:
    """What the steps on corners speak of, chosen so that their facts hold."""
    v["P"] = 0.5 * max(v["eta"] * v["kappa"] * v["s"] ** 3 - v["eta"] * v["pc"], 0.0)
    bend = v["Cqq"] + 2.0 * v["Cqt"] * v["tq"] + v["Ctt"] * v["tq"] ** 2
    v["tqq"] = -v["eta"] * bend / (v["P"] + v["eta"] * v["Ct"])
    v |= {"fall": 0.3, "bend": 0.2, "hpp": 0.7, "omega": 0.6, "lam": 0.9, "slope": 1.0}
    v["hp"], v["alpha"] = v["hq"] - v["ht"] * v["fall"], v["lam"] * v["hq"] / v["t"]
    return v


@pytest.mark.parametrize(
    "seed", [seed for seed in range(60) if device(seed)["kappa"] * device(seed)["s"] ** 3 > device(seed)["pc"]]
)
def test_facts_and_steps_hold(seed: int) -> None:
    v = corners(derivatives(device(seed)))
    for statement in (*CLOCK.facts, *CLOCK.steps):
        names = {
            symbol: v[symbol.name]
            for side in (statement.claim.lhs, statement.claim.rhs)
            for symbol in side.free_symbols
        }
        low, high = (float(side.subs(names)) for side in (statement.claim.lhs, statement.claim.rhs))
        room = 1e-9 * max(1.0, abs(low), abs(high))
        assert low <= high + room, statement.name
        if statement.claim.relation == "==":
            assert high <= low + room, statement.name


@pytest.mark.parametrize("seed", range(5))
def test_derivatives_are_those_of_the_least_bandwidth(seed: int) -> None:
    v = derivatives(device(seed))
    step = 1e-4 * v["e"]
    low, mid, high = (beta(v, v["L"], v["e"] + d) for d in (-step, 0.0, step))
    assert mid == pytest.approx(v["m"], rel=1e-10)
    assert (high - low) / (2.0 * step) == pytest.approx(v["me"], rel=1e-6)
    assert (high - 2.0 * mid + low) / step**2 == pytest.approx(v["mee"], rel=1e-4)
    # B(q) by a search over the time, against its slope.
    T, spent = v["t"] + v["left"], v["e"] / v["eta"] + v["kappa"] * v["w"] * v["s"] ** 2 + v["pc"] * v["t"]

    def least(dq: float) -> float:
        w, L = v["w"] + v["c"] * dq, v["L"] + v["S"] * dq

        def b(t: float) -> float:
            e = v["eta"] * (spent - v["kappa"] * w**3 / (T - t) ** 2 - v["pc"] * t)
            return beta(v, L, e) / t if v["g"] * e > L * (1.0 + 1e-9) else 1e9

        found = minimize_scalar(
            b, bounds=(0.9 * v["t"], v["t"] + 0.1 * v["left"]), method="bounded", options={"xatol": 1e-10}
        )
        return float(found.fun)

    assert least(0.0) == pytest.approx(v["b"], rel=1e-8)
    assert (least(1e-4) - least(-1e-4)) / 2e-4 == pytest.approx(v["hq"] / v["t"], rel=1e-4)

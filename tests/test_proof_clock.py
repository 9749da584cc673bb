"""The theory of clock and electronics on devices in every case: facts hold where meant, steps where their facts do."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scalar_claims import compiled
from scipy.optimize import brentq

from kktalloc.proof._report import rests_on, theories

CLOCK = theories()["clock"]
CLAIMS = compiled(CLOCK)
Values = dict[str, float]

# Facts that belong to a case; all others hold always.
CASES = {
    "stationary", "peak", "longer would pay", "faster would not pay", "budget falls behind", "budget catches up",
    "clock moves, q", "clock moves, t", "clock rests, q", "clock rests, t",
}  # fmt: skip


def device(seed: int, clock: str, power: str, peak: str) -> Values:
    """A device whose clock moves or rests; its power is balanced or drawn, and is its peak or not."""
    rng = np.random.default_rng(seed)
    names = ("s", "w", "kappa", "pc", "g", "x", "S", "c", "t", "p", "P", "lam", "slope")
    v: Values = dict(zip(names, map(float, rng.uniform(0.5, 2.0, len(names))), strict=True))
    v |= {"d1": float(rng.normal()), "d2": float(rng.normal()), "eta": 0.4, "left": v["w"] / v["s"]}
    v["X"], v["y"] = 1.0 + v["x"], float(np.log1p(v["x"]))
    v["f"] = v["y"] - v["x"] / v["X"]
    left, k, c, w, s = v["left"], v["kappa"], v["c"], v["w"], v["s"]
    moving = clock == "moves"
    v["Ct"], v["Cq"] = v["pc"] + 2.0 * k * s**3 * moving, (3.0 if moving else 1.0) * k * c * s**2
    v["Cqq"], v["Cqt"] = 6.0 * k * c**2 * w / left**2 * moving, 6.0 * k * c * w**2 / left**3 * moving
    v["Ctt"] = 6.0 * k * w**3 / left**4 * moving
    if power == "balanced":
        v["p"] = v["eta"] * v["Ct"] * v["x"] / (v["X"] * v["y"] - v["x"])
    if peak == "at peak":
        v["P"] = v["p"]
    return _along(_curved(_sent(v)))


def _sent(v: Values) -> Values:
    v["b"], v["e"] = v["g"] * v["p"] / v["x"], v["p"] * v["t"]
    v["m"] = v["b"] * v["t"]
    v["L"], v["eps"] = v["m"] * v["y"], v["x"] / (v["X"] * v["y"] - v["x"])
    return v


def beta(v: Values, L: float, e: float) -> float:
    """m with m ln(1 + g e/m) = L."""
    return float(brentq(lambda m: m * np.log1p(v["g"] * e / m) - L, 1e-9, 1e9, xtol=1e-14, rtol=1e-15))


def _curved(v: Values) -> Values:
    """Derivatives of beta and h; some are held against difference quotients below."""
    me = -v["g"] / (v["X"] * v["f"])
    xe = (v["g"] - v["x"] * me) / v["m"]
    mee = -me * xe * v["y"] / (v["X"] * v["y"] - v["x"])
    e_q, e_t = -v["eta"] * v["Cq"], -v["eta"] * v["Ct"]
    v |= {"me": me, "xe": xe, "mee": mee, "mL": 1.0 / v["f"], "mLe": -v["e"] * mee / v["L"]}
    v["mLL"] = v["e"] ** 2 * mee / v["L"] ** 2
    v["ht"], v["hq"] = me * e_t, v["S"] * v["mL"] + me * e_q
    q = e_q - v["S"] * v["e"] / v["L"]
    v["hqq"], v["hqt"], v["htt"] = (
        mee * one * two - v["eta"] * me * v[name]
        for one, two, name in ((q, q, "Cqq"), (q, e_t, "Cqt"), (e_t, e_t, "Ctt"))
    )
    t = v["t"]
    v["tq"] = (v["hq"] / t**2 - v["hqt"] / t) / (v["htt"] / t - 2.0 * v["ht"] / t**2 + 2.0 * v["m"] / t**3)
    v["alpha"] = v["lam"] * v["hq"] / (t * v["slope"])
    return v


def _along(v: Values) -> Values:
    """What moves along q at the corners."""
    eta, t, c, s, g = v["eta"], v["t"], v["c"], v["s"], v["g"]
    v["D"] = v["P"] + eta * v["Ct"]
    v["tk"] = -eta * v["Cq"] / v["D"]
    v["tkk"] = -eta * (v["Cqq"] + 2.0 * v["Cqt"] * v["tk"] + v["Ctt"] * v["tk"] ** 2) / v["D"]
    v["bp"], v["bk"] = ((v["S"] / t - v["L"] * tq / t**2) / v["f"] for tq in (-c / s, v["tk"]))
    e_q = eta * c * (v["pc"] / s - v["kappa"] * s**2)
    v["hp"] = v["S"] * v["mL"] + v["me"] * e_q
    v["hpp"] = v["mee"] * (e_q - v["S"] * v["e"] / v["L"]) ** 2
    v["D0"] = v["P"] + eta * v["pc"]
    v["D1"] = v["D0"] + 2.0 * eta * v["kappa"] * s**3
    v["o0"], v["o1"] = ((v["X"] * v["b"] * v["f"] + g * v["P"]) / (g * v[D]) for D in ("D0", "D1"))
    return v


MODELS = [
    device(seed, *case)
    for seed in range(40)
    for case in itertools.product(("moves", "rests"), ("balanced", "drawn"), ("at peak", "below"))
]


def test_signs_are_as_declared() -> None:
    signs = CLOCK.signature.signs()
    for v in MODELS:
        assert all(v[name] > 0.0 for name in signs["positive"])
        assert all(v[name] >= 0.0 for name in signs["non-negative"])


def test_facts_and_steps_hold() -> None:
    facts = {fact.name: [CLAIMS[fact.name].holds(v) for v in MODELS] for fact in CLOCK.facts}
    assert {name for name, found in facts.items() if not all(found)} == CASES
    assert [name for name, found in facts.items() if True not in found] == []
    for step in CLOCK.steps:
        needed = rests_on(CLOCK, step.name)
        where = [v for n, v in enumerate(MODELS) if all(facts[name][n] for name in needed)]
        assert len(where) >= 10, step.name
        assert all(CLAIMS[step.name].holds(v) for v in where), step.name


def test_both_ways_through_a_corner_are_met() -> None:
    """Neither case of the budget is there by how devices are drawn, with or without k s^3 > p_c."""
    behind = CLAIMS["budget falls behind"]
    found = {(v["kappa"] * v["s"] ** 3 > v["pc"], behind.holds(v)) for v in MODELS}
    assert found == {(True, True), (True, False), (False, False)}  # k s^3 <= p_c: the budget never falls behind


@pytest.mark.parametrize("seed", range(5))
def test_derivatives_are_those_of_the_least_bandwidth(seed: int) -> None:
    v = device(seed, "moves", "balanced", "below")
    step, more = 1e-4 * v["e"], 1e-4 * v["L"]
    low, mid, high = (beta(v, v["L"], v["e"] + d) for d in (-step, 0.0, step))
    assert mid == pytest.approx(v["m"], rel=1e-10)
    assert (high - low) / (2.0 * step) == pytest.approx(v["me"], rel=1e-6)
    assert (high - 2.0 * mid + low) / step**2 == pytest.approx(v["mee"], rel=1e-4)
    less, greater = (beta(v, v["L"] + d, v["e"]) for d in (-more, more))
    assert (greater - 2.0 * mid + less) / more**2 == pytest.approx(v["mLL"], rel=1e-4)
    spent = v["e"] / v["eta"] + v["kappa"] * v["w"] * v["s"] ** 2 + v["pc"] * v["t"]
    found = [least_bandwidth(v, spent, dq, 0.01, 100.0, np.inf) for dq in (-1e-4, 0.0, 1e-4)]
    assert found[1] == pytest.approx(v["b"], rel=1e-8)
    assert (found[2] - found[0]) / 2e-4 == pytest.approx(v["hq"] / v["t"], rel=1e-4)


def least_bandwidth(v: Values, spent: float, dq: float, slow: float, fast: float, P: float) -> float:
    """B by a search over the time, with the clock between its ends, dq from where the upload takes t at clock s."""
    T, w, L = v["t"] + v["left"], v["w"] + v["c"] * dq, v["L"] + v["S"] * dq

    def b(t: float) -> float:
        s = max(w / (T - t), slow)
        e = min(P * t, v["eta"] * (spent - v["kappa"] * w * s**2 - v["pc"] * t))
        return beta(v, L, e) / t if v["g"] * e > L * (1.0 + 1e-9) else 1e9

    longest = T - w / fast
    low, high = 0.9 * v["t"], min(longest, v["t"] + 0.1 * v["left"])
    for _ in range(100):  # falls, then rises; its least may be at a corner
        one, two = low + 0.381966 * (high - low), high - 0.381966 * (high - low)
        low, high = (low, two) if b(one) <= b(two) else (one, high)
    return min(b(low), b(high))


def _at_corner(seed: int) -> Values:
    return device(seed, "moves", "drawn", "at peak")


# With a share above 1 the clock has left its lower end before peak and energy meet: no corner.
@pytest.mark.parametrize(
    ("end", "seed"),
    [("fast", seed) for seed in range(10)] + [("slow", seed) for seed in range(20) if _at_corner(seed)["o1"] < 1.0],
)
def test_slopes_on_both_sides_of_a_corner_are_those_of_the_steps(end: str, seed: int) -> None:
    """Clock at an end, peak and energy both just binding: difference quotients of a search, to the left and right."""
    v = _at_corner(seed)
    slow, fast = (0.1 * v["s"], v["s"]) if end == "fast" else (v["s"], 10.0 * v["s"])
    plenty, short = (0.0, min(v["o1"], 1.0)) if end == "fast" else (v["o1"], min(v["o0"], 1.0))
    spent = v["e"] / v["eta"] + v["kappa"] * v["w"] * v["s"] ** 2 + v["pc"] * v["t"]
    h = 1e-5
    before, at, after = (least_bandwidth(v, spent, dq, slow, fast, v["P"]) for dq in (-h, 0.0, h))
    assert at == pytest.approx(v["b"], rel=1e-9)

    def slope(omega: float) -> float:
        # PEAK to KINK claims slope(0) <= slope(o1)
        left, right = CLAIMS["PEAK to KINK"].sides(v | {"o1": omega})
        return left if omega == 0.0 else right

    order = (plenty, short) if CLAIMS["budget falls behind"].holds(v) else (short, plenty)
    assert ((at - before) / h, (after - at) / h) == pytest.approx([slope(omega) for omega in order], rel=2e-3)
    assert slope(order[0]) <= slope(order[1])

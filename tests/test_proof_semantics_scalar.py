"""The lemmas on random numbers, and the allocation's theory on devices whose optimum is computed by other means."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
import sympy
from scipy.optimize import brentq
from scipy.special import lambertw
from theory_worlds import World

from kktalloc.proof._language import Claim
from kktalloc.proof._report import rests_on, theories

LEMMAS, ALLOCATION = (theories()[key] for key in ("lemmas", "allocation"))
ITEMS, COORDINATES = 3, 2
Values = dict[str, float]


@pytest.mark.parametrize("seed", range(20))
def test_lemmas_hold_on_random_numbers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    world = World(LEMMAS.signature, {"item": ITEMS, "coordinate": COORDINATES})

    def some(low: int = -6) -> Fraction:
        return Fraction(int(rng.integers(low, 7)), int(rng.integers(1, 5)))

    weights = [some(1) for _ in range(ITEMS)]
    deviations = [some() for _ in range(ITEMS)]
    mean = sum(w * x for w, x in zip(weights, deviations, strict=True)) / sum(weights)
    for k, (weight, deviation) in enumerate(zip(weights, deviations, strict=True)):
        world.put("weight", (k,), weight / sum(weights))
        world.put("dev", (k,), deviation - mean)
        world.put("kept", (k,), int(rng.integers(2)))
        for j in range(COORDINATES):
            world.put("x", (k, j), some())
    for j in range(COORDINATES):
        world.put("a", (j,), some())
        world.put("b", (j,), some())
        world.put("m", (j,), int(rng.integers(2)))
    # s* and y* are chosen, and one coefficient of each quadratic equation so that they solve it.
    s_best, slope, lost, B, T = some(1), some(1), some(), some(0), some()
    m_best = s_best * slope - lost
    if m_best < 0:
        lost, m_best = s_best * slope - 1, Fraction(1)
    C = m_best * (2 * B * s_best + T) / slope - B * s_best**2 - T * s_best
    one_y_best, A, B_y, F, gain = 1 + some(0), some(0), some(1), some(), some(0)
    n_best = A + B_y * (one_y_best - 1)
    C_y = n_best * (gain / one_y_best**2 - F) / B_y + F * (one_y_best - 1) - gain * (1 - 1 / one_y_best)
    world.set(
        n=ITEMS, d=COORDINATES, y=some(1), size_a=some(1), size_b=some(1), B=B, m_best=m_best, s=some(), s_best=s_best,
        T=T, C=C, slope=slope, lost=lost, n_best=n_best, gain=gain, one_y=1 + some(0), one_y_best=one_y_best, A=A,
        B_y=B_y, C_y=C_y, F=F,
    )  # fmt: skip
    for statement in (*LEMMAS.facts, *LEMMAS.steps):
        gaps = list(world.gaps(statement.claim))
        assert gaps
        exact = statement.claim.relation == "=="
        assert (not any(gaps)) if exact else min(gaps) >= 0, statement.name


def _device(seed: int, **changed: float) -> Values:
    """A device with a slice of the band, and what its optimum there is."""
    rng = np.random.default_rng(seed)
    ln2 = float(np.log(2))
    v: Values = dict(
        zip(
            ("b", "g", "T", "P", "S", "S0", "alpha", "curv", "E", "beta", "varpi"), rng.uniform(0.5, 2, 11), strict=True
        )
    )
    v |= {"S0": 0.1 * v["S0"], "a": float(rng.uniform(0.1, 0.5)), "eps": float(rng.uniform(0.1, 0.5)), "eff": 0.35}
    v |= {"slope": 1.0, "ln2": ln2, "euler": float(np.e), "cost": 0.3, "mu": 0.0, "xi": 0.0, "pi": 0.0} | changed
    v["r0"], v["r1"] = v["S0"] / v["T"], v["S"] + v["a"] * v["S0"] / v["T"]
    v["e0"], v["e1"] = v["eff"] * v["E"] / v["T"], v["eff"] * (v["a"] * v["E"] / v["T"] - v["eps"])
    return v


def _uploading(v: Values, power: float, ratio_per_s: float) -> Values:
    """What follows from transmit power and keep ratio per second."""
    x = v["g"] * power / v["b"]
    A = 1 + v["a"] * ratio_per_s
    t = v["T"] / A
    v |= {"p": power, "u": ratio_per_s, "x": x, "X": 1 + x, "ell": float(np.log1p(x)), "A": A, "t": t}
    return v | {"q": ratio_per_s * t, "D": v["r1"] - v["g"] * v["e1"] / ((1 + x) * v["ln2"])}


def _rate(v: Values, power: float) -> float:
    return v["b"] * float(np.log1p(v["g"] * power / v["b"])) / v["ln2"]


def _at_peak(seed: int) -> Values:
    """All the power, energy left over: prices from the stationarity conditions in u, p and b in turn."""
    v = _device(seed)
    v = _uploading(v, v["P"], (_rate(v, v["P"]) - v["r0"]) / v["r1"])
    v["nu"] = v["T"] * v["alpha"] * v["slope"] / v["A"] ** 2 / v["r1"]
    v["pi"] = v["g"] * v["nu"] / (v["X"] * v["ln2"])
    v["lam"] = v["nu"] * (v["ell"] - v["x"] / v["X"]) / v["ln2"]
    return v


def _on_energy(seed: int) -> Values:
    """All the energy, power below its peak; U = du/db by a difference quotient of the solution."""
    v = _device(seed, P=50.0)

    def ratio(b: float) -> float:
        at = v | {"b": b}
        return float(brentq(lambda u: at["r0"] + at["r1"] * u - _rate(at, max(at["e0"] + at["e1"] * u, 0.0)), 0, 1e3))

    u = ratio(v["b"])
    v = _uploading(v, v["e0"] + v["e1"] * u, u)
    h = 1e-5 * v["b"]
    v["U"] = (8 * (ratio(v["b"] + h) - ratio(v["b"] - h)) - ratio(v["b"] + 2 * h) + ratio(v["b"] - 2 * h)) / (12 * h)
    gained = v["T"] * v["alpha"] * v["slope"] / v["A"] ** 2
    v["nu"] = gained / v["D"]  # xi = g nu/(X ln 2) in the condition of u
    v["xi"] = v["g"] * v["nu"] / (v["X"] * v["ln2"])
    v["lam"] = v["nu"] * (v["ell"] - v["x"] / v["X"]) / v["ln2"]
    return v


def _shared_power(seed: int) -> Values:
    """Neither binds; a price on total power does."""
    v = _device(seed, P=50.0, E=50.0)
    v = _uploading(v, 1.3, (_rate(v, 1.3) - v["r0"]) / v["r1"])
    v["nu"] = v["T"] * v["alpha"] * v["slope"] / v["A"] ** 2 / v["r1"]
    v["mu"] = v["g"] * v["nu"] / (v["X"] * v["ln2"])
    v["lam"] = v["nu"] * (v["ell"] - v["x"] / v["X"]) / v["ln2"]
    return v


def _lambert(seed: int) -> Values:
    """The three closed forms, W from SciPy."""
    v = _device(seed)
    theta = float(np.random.default_rng(seed).uniform(0.1, 0.9))  # th = r ln 2/(g p) < 1
    w = float(lambertw(-theta * np.exp(-theta), -1).real)
    X = -w / theta
    power = (X - 1) * v["b"] / v["g"]
    v = _uploading(v, power, (_rate(v, power) - v["r0"]) / v["r1"])
    v |= {"theta": theta, "Eth": float(np.exp(-theta)), "w1": w, "Ew1": float(np.exp(w))}
    v |= {"expo1": float(np.exp(theta * (X - 1))), "bits": theta * v["g"] * power / v["ln2"]}
    y = 0.7
    inner = float(lambertw((y - 1) / np.e, 0).real)
    v |= {"y": y, "w2": inner, "Ew2": float(np.exp(inner)), "X2": float(np.exp(1 + inner)), "ell2": 1 + inner}
    last = float(lambertw(-np.exp(-1 - y), 0).real)
    v |= {"w3": last, "Ew3": float(np.exp(last)), "X3": -1 / last, "Ey": float(np.exp(-1 - y))}
    return v | {"expo3": float(np.exp(1 + y + last))}


MODELS = [make(seed) for make in (_at_peak, _on_energy, _shared_power, _lambert) for seed in range(3)]


def _holds(claim: Claim, at: Values) -> bool | None:
    """Whether it is so to rounding; None where the model does not say."""
    sides = [sympy.lambdify(names := sorted(side.free_symbols, key=str), side) for side in (claim.lhs, claim.rhs)]
    values = []
    for side, expr in zip(sides, (claim.lhs, claim.rhs), strict=True):
        names = sorted(expr.free_symbols, key=str)
        if any(name.name not in at for name in names):
            return None
        values.append(float(side(*(at[name.name] for name in names))))
    left, right = values
    hair = 1e-8 * max(1.0, abs(left), abs(right))
    return left <= right + hair if claim.relation == "<=" else abs(left - right) <= hair


def test_the_allocations_theory_speaks_of_devices_at_their_optimum() -> None:
    facts = {fact.name: [_holds(fact.claim, model) for model in MODELS] for fact in ALLOCATION.facts}
    assert [name for name, found in facts.items() if True not in found] == []
    for step in ALLOCATION.steps:
        needed = rests_on(ALLOCATION, step.name)
        where = [n for n in range(len(MODELS)) if all(facts[name][n] for name in needed)]
        found = [_holds(step.claim, MODELS[n]) for n in where]
        assert True in found, step.name
        assert False not in found, step.name


def test_the_models_differ() -> None:
    """Each case of the optimality conditions is there, and no model is in two."""
    peak, energy = (next(f.claim for f in ALLOCATION.facts if f.name == name) for name in ("peak", "energy"))
    cases = [(_holds(peak, model), _holds(energy, model)) for model in MODELS[:9]]
    assert cases == [*itertools.repeat((True, False), 3), *itertools.repeat((False, True), 3), *[(False, False)] * 3]

"""Problem sets shared by tests and benchmarks: known answers, random feasible problems, infeasible ones.

Known answers come by inverse construction. Choose the answer (bandwidth, power, keep ratio, received SNR x)
and the bandwidth price lam first, with x such that log2(1+x) is an integer; then read off the data that make
it optimal. With ``R = b log2(1+x)``, ``R_b = log2(1+x) - x/((1+x) ln 2)``, ``R_p = g/((1+x) ln 2)`` and
upload time ``t = T - a q`` the Lagrangian of the physical problem

    alpha q + n [R t - S q - S0] + m [E - (p/eta) t - eps q] + mu [P - p] + pi [-p] - lam b

is stationary when

    lam = n R_b t,    t (n R_p - m/eta) = mu + pi,    alpha = n (a R + S) - m (p a/eta - eps)  (+- the bound
    on q)

and the shadow prices are lam per Hz, m per J, mu per W, ``sum_k n R - m p/eta`` per second of the deadline.
`share` in [0, 1] splits the price of power between the energy budget (1) and the peak (0): strictly between
is the kink.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf, log, log2

import numpy as np
from numpy.typing import NDArray

from kktalloc._problem.fields import Cell, Devices
from kktalloc._problem.problem import Problem
from kktalloc.channel import MACRO_3GPP, dbm_to_w, noise_psd_w_per_hz, place_in_annulus, rayleigh_mrc

FloatArray = NDArray[np.float64]
LN2 = log(2.0)
REGIMES = ("saturated", "floor", "peak", "energy", "kink", "mixed", "slack_mixed")
RESOURCES = ("bandwidth", "peak_power", "energy", "deadline")


@dataclass(frozen=True, eq=False)
class KnownAnswer:
    """A problem with its optimum and its prices; NaN marks what the optimum does not determine."""

    name: str
    problem: Problem
    pruning_ratio: FloatArray
    bandwidth_hz: FloatArray
    tx_power_w: FloatArray
    objective: float
    bandwidth_price_per_hz: float
    deadline_price_per_s: float
    energy_price_per_j: FloatArray
    peak_power_price_per_w: FloatArray
    total_power_price_per_w: float = 0.0


@dataclass(frozen=True)
class Target:
    """One device of a known answer: where it shall operate."""

    snr: float  # x, with log2(1+x) an integer
    b: float = 1e6
    p: float = 0.1
    q: float = 0.5
    a: float = 0.25
    S0: float = 0.0
    eta: float = 1.0
    eps: float = 0.0
    T: float = 1.0
    share: float = 0.0  # of the price of power that the energy budget carries
    pinned: float = 1.0  # alpha over its stationary value: > 1 needs q = 1, < 1 needs q = q_min
    g: float = field(default=0.0)  # set for a total-power problem, where x fixes it


def _known(name: str, targets: list[Target], total_power: bool = False) -> KnownAnswer:
    deadline = 1.5
    v = {k: np.array([getattr(t, k) for t in targets]) for k in Target.__dataclass_fields__}
    x, b, p, q, T, share = (v[k] for k in ("snr", "b", "p", "q", "T", "share"))
    g = v["g"] if total_power else x * b / p
    p = x * b / g
    R = b * np.log2(1 + x)
    R_b, R_p = np.log2(1 + x) - x / ((1 + x) * LN2), g / ((1 + x) * LN2)
    t = T - v["a"] * q
    S = (R * t - v["S0"]) / q
    price = 1.0
    n = price / (R_b * t)
    m = share * v["eta"] * n * R_p
    power_price = t * (n * R_p - m / v["eta"])
    alpha = v["pinned"] * (n * (v["a"] * R + S) - m * (p * v["a"] / v["eta"] - v["eps"]))
    assert (alpha > 0).all()
    unit = alpha.sum()  # weights are normalised to sum 1, and prices with them
    spent = p * t / v["eta"] + v["eps"] * q
    noise = 4e-21
    problem = Problem(
        Cell(b.sum(), noise, deadline, p.sum() if total_power else None),
        Devices(
            channel_gain=g * noise,
            tx_power_max_w=10 * p if total_power else np.where(share == 1, 10 * p, p),
            payload_bits=S,
            pruned_compute_s=v["a"],
            overhead_bits=v["S0"],
            fixed_latency_s=deadline - T,
            energy_budget_j=np.where(share == 0, inf, spent + 0.05),
            pruned_compute_j=v["eps"],
            fixed_energy_j=np.where(share == 0, 0.0, 0.05),
            pa_efficiency=v["eta"],
            pruning_ratio_max=np.where(v["pinned"] < 1, 1 - q, 1.0),
            weight=alpha,
        ),
    )
    return KnownAnswer(
        name=name,
        problem=problem,
        pruning_ratio=1 - q,
        bandwidth_hz=b,
        tx_power_w=p,
        objective=float(alpha @ (1 - q) / unit),
        bandwidth_price_per_hz=price / unit,
        deadline_price_per_s=float((n * R - m * p / v["eta"]).sum() / unit),
        energy_price_per_j=m / unit,
        peak_power_price_per_w=np.zeros_like(p) if total_power else power_price / unit,
        total_power_price_per_w=float(power_price[0] / unit) if total_power else 0.0,
    )


def _slack() -> KnownAnswer:
    """All keep everything with bandwidth to spare: nothing has a price, the split is not determined."""
    problem = Problem(
        Cell(2e6, 4e-21, 1.0),
        Devices(channel_gain=[4e-14, 8e-14], tx_power_max_w=0.1, payload_bits=[1e5, 2e5], pruned_compute_s=0.25),
    )
    unknown, nothing = np.full(2, np.nan), np.zeros(2)
    return KnownAnswer("slack", problem, nothing, unknown, unknown, 0.0, 0.0, 0.0, nothing, nothing)


def _without_prices(known: KnownAnswer) -> KnownAnswer:
    """Where every device sits at its kink a whole interval of prices clears the bandwidth."""
    nan = np.full(len(known.pruning_ratio), np.nan)
    return replace(known, bandwidth_price_per_hz=np.nan, deadline_price_per_s=np.nan,
                   energy_price_per_j=nan, peak_power_price_per_w=nan)  # fmt: skip


def _mixture() -> list[Target]:
    return [
        Target(1, S0=1e4, q=0.4),
        Target(3, b=2e5, p=0.02, eta=0.5, eps=0.01, share=1.0, a=0.0),
        Target(7, b=5e4, p=0.05, eta=0.4, share=0.3, eps=0.1, T=0.75),
        Target(15, b=1e5, q=1.0, a=0.5, pinned=3.0),
        Target(1, b=4e5, q=0.25, pinned=0.25, T=1.25, S0=5e3),
        Target(3, b=3e5, q=0.5, a=1.5, eta=0.3, T=1.0, share=1.0, eps=0.02),
    ]


def known_answers() -> list[KnownAnswer]:
    """All known-answer problems; `_single_peak` is the one to follow by hand.

    Peak-limited, one device: SNR 1 on 1 MHz carries 1 Mbit/s; a = 1 s and S = 1 Mbit give ``q = T R/(S + a R)
    = 1/2``.
    """
    c = 5e6
    total = [Target(x, b=b, a=a, g=c * (1 + x) * (log2(1 + x) - x / ((1 + x) * LN2)))
             for x, b, a in ((1.0, 1e6, 0.25), (3.0, 2e5, 0.5), (7.0, 1e5, 0.0))]  # fmt: skip
    return [
        _known("single_peak", [Target(1, a=1.0)]),
        _known("single_peak_overhead", [Target(3, S0=2e5, eta=0.5, T=1.25)]),
        _known("single_energy", [Target(3, share=1.0, eta=0.4, eps=0.05)]),
        _known("single_energy_low_snr", [Target(1.0 / 1024, b=1e7, share=1.0, eps=0.2, a=0.4)]),
        _known("identical_pair", [Target(1, a=1.0)] * 2),
        _known("no_compute_time", [Target(1, a=0.0), Target(3, a=0.0, q=0.25)]),
        _known("long_compute", [Target(1, a=1.5), Target(3, a=4.0, q=0.125, eps=0.3, share=1.0)]),
        _known("kink_beside_peak", [Target(3, share=0.5, eps=0.08, eta=0.5), Target(1, a=0.5)]),
        _without_prices(
            _known("all_at_kinks", [Target(x, share=s, eps=0.02) for x, s in ((1, 0.25), (3, 0.5), (7, 0.75))])
        ),
        _known("saturated_beside_peak", [Target(3, q=1.0, pinned=2.0), Target(1)]),
        _known("saturated_on_energy", [Target(3, q=1.0, pinned=2.0, share=1.0, eps=0.03), Target(1)]),
        _known("floor_beside_peak", [Target(3, q=0.5, pinned=0.5), Target(1)]),
        _known("floor_on_energy", [Target(3, q=0.5, pinned=0.5, share=1.0, eps=0.03), Target(1)]),
        _known("mixture", _mixture()),
        _known("total_power", total, total_power=True),
        _slack(),
    ]


def random_problem(
    rng: np.random.Generator,
    devices: int | None = None,
    regime: str | None = None,
    stress: bool | None = None,
) -> Problem:
    """A feasible problem around a hidden feasible point; 1 to 50 devices and any regime unless given.

    Regimes: ``saturated`` (bandwidth to spare), ``floor`` (hardly more bandwidth than the floors need),
    ``peak``, ``energy`` (every device limited by it), ``kink`` (every device at the hidden point has both
    limits active and a price inside its kink), ``mixed`` (each device its own), ``slack_mixed`` (mixed,
    between the hidden point and saturation). ``stress`` widens every range far beyond a real cell.
    """
    K = int(rng.integers(1, 51)) if devices is None else devices
    regime = str(rng.choice(REGIMES)) if regime is None else regime
    if regime not in REGIMES:
        raise ValueError(f"regime = {regime}: one of {', '.join(REGIMES)}")
    stress = bool(rng.random() < 0.3) if stress is None else stress
    kinds = ("saturated", "floor", "peak", "energy", "kink")
    kind = rng.choice(kinds, K) if "mixed" in regime else np.full(K, regime)

    if stress:
        gain, P = 10 ** rng.uniform(-16, -6, K), 10 ** rng.uniform(-4, 1, K)
    else:
        distance = place_in_annulus(rng, K, 500.0, MACRO_3GPP.min_distance_m)
        gain = MACRO_3GPP.gain(distance) * rayleigh_mrc(rng, K, int(rng.integers(1, 9)))
        P = dbm_to_w(rng.uniform(10, 23, K))
    noise = noise_psd_w_per_hz(noise_figure_db=rng.uniform(0, 7))
    deadline = 10 ** rng.uniform(-2, 2)
    fixed = deadline * rng.choice([0.0, 1.0]) * rng.uniform(0, 0.9, K)
    T = deadline - fixed
    q = np.where(kind == "saturated", 1.0, rng.uniform(0.02, 0.98, K))
    # Pruned compute: none, within the window, or (where q < 1 leaves room) longer than it.
    a = T * np.where(rng.random(K) < 0.2, 0.0, rng.uniform(0, 0.95, K) / np.where(rng.random(K) < 0.3, q, 1.0))
    t = T - a * q

    # b at the hidden point: SNR drawn around what a cell sees, then the payload follows from the rate.
    b = gain / noise * P / 10 ** rng.uniform(-2 if stress else -0.5, 5 if stress else 3, K)
    if rng.random() < 0.5:  # one common share, as in a real cell of FDMA subcarriers
        b = np.full(K, np.exp(np.mean(np.log(b))))
    backoff = np.where(kind == "energy", 10 ** rng.uniform(-2, 0, K), 1.0)
    p = P * backoff
    bits = t * b * np.log2(1 + gain / noise * p / b)
    S0 = np.where(rng.random(K) < 0.5, 0.0, rng.uniform(0, 0.3, K)) * bits
    S = (bits - S0) / q
    eta = np.where(rng.random(K) < 0.5, 1.0, rng.uniform(0.2, 0.9, K))
    transmit = p * t / eta
    eps = transmit / q * np.where(rng.random(K) < 0.3, 0.0, 10 ** rng.uniform(-3, 1, K))
    budget = transmit + eps * q
    limited = (kind == "energy") | (kind == "kink")
    spend = 10 ** rng.uniform(0.01, 2, K)
    # A device not limited by energy at the hidden point may have no budget, or a loose one that meets it
    # elsewhere.
    budget = np.where(limited, budget, np.where(rng.random(K) < 0.5, inf, budget * spend))
    fixed_energy = np.where(np.isfinite(budget), rng.choice([0.0, 1.0]) * transmit * rng.random(K), 0.0)
    q_min = np.where(kind == "floor", q, np.where(rng.random(K) < 0.5, 0.0, q * rng.uniform(0, 1, K)))
    weight = (
        _kink_weights(rng, b, p, a, q, t, S, eps, eta, gain / noise) if regime == "kink" else rng.dirichlet(np.ones(K))
    )
    if "mixed" in regime and K > 2 and rng.random() < 0.3:
        weight[rng.integers(K)] = 0.0
    room = {"saturated": 10 ** rng.uniform(-4, 0.5), "floor": 10 ** rng.uniform(-7, -1), "kink": 0.0}
    spare = room.get(regime, rng.uniform(0.1, 3) if regime == "slack_mixed" else rng.choice([0.0, 0.01, 0.3]))
    # The floor of a device, and the hidden point, hold with equality: leave rounding a little room.
    return Problem(
        Cell(b.sum() * (1 + spare) * (1 + 1e-12), noise, deadline),
        Devices(
            channel_gain=gain,
            tx_power_max_w=P,
            payload_bits=S,
            pruned_compute_s=a,
            overhead_bits=S0,
            fixed_latency_s=fixed,
            energy_budget_j=budget + fixed_energy,
            pruned_compute_j=eps,
            fixed_energy_j=fixed_energy,
            pa_efficiency=eta,
            pruning_ratio_max=np.minimum(1 - q_min * (1 - 1e-9), 1.0),
            weight=weight,
        ),
    )


def _kink_weights(rng, b, p, a, q, t, S, eps, eta, g):  # type: ignore[no-untyped-def]
    """Weights that make the hidden point optimal with every device strictly inside its kink."""
    x = g * p / b
    R, R_b, R_p = b * np.log2(1 + x), np.log2(1 + x) - x / ((1 + x) * LN2), g / ((1 + x) * LN2)
    n = 1 / (R_b * t)
    m = rng.uniform(0.05, 0.95, len(b)) * eta * n * R_p
    return n * (a * R + S) - m * (p * a / eta - eps)


def infeasible_problem(rng: np.random.Generator, resource: str, devices: int | None = None) -> tuple[Problem, int]:
    """A problem that lacks one resource, and the device that lacks it (-1: all of them together).

    ``bandwidth``: the floors together need more than there is. ``peak_power``, ``energy``: one device cannot
    reach its floor with any bandwidth. ``deadline``: the fixed part, or the compute of the floor, takes the
    whole window.
    """
    from independent import floor_bandwidth_hz

    if resource not in RESOURCES:
        raise ValueError(f"resource = {resource}: one of {', '.join(RESOURCES)}")
    start = random_problem(rng, devices, "floor", stress=False)
    d = {k: np.array(getattr(start.devices, k)) for k in Devices.__dataclass_fields__}
    cell = {k: np.asarray(getattr(start.cell, k))[..., 0] for k in ("bandwidth_hz", "noise_psd_w_per_hz", "deadline_s")}
    if resource == "bandwidth":
        cell["bandwidth_hz"] = floor_bandwidth_hz(start).sum() * rng.uniform(0.3, 0.999)
        return Problem(Cell(**cell), Devices(**d)), -1
    k = int(rng.integers(start.shape[-1]))
    q = 1 - d["pruning_ratio_max"]
    t = cell["deadline_s"] - d["fixed_latency_s"] - d["pruned_compute_s"] * q
    # The least power, over all bandwidths, that carries the floor: bits ln 2 N0 / (|h|^2 t), the wideband
    # limit.
    least_w = (d["payload_bits"] * q + d["overhead_bits"]) * LN2 * cell["noise_psd_w_per_hz"] / (d["channel_gain"] * t)
    short = rng.uniform(0.2, 0.999)
    if resource == "peak_power":
        d["tx_power_max_w"][k] = least_w[k] * short
        d["energy_budget_j"][k] = inf
    elif resource == "energy":
        d["energy_budget_j"][k] = (
            d["fixed_energy_j"] + d["pruned_compute_j"] * q + least_w * t / d["pa_efficiency"] * short
        )[k]
    elif rng.random() < 0.5:
        d["fixed_latency_s"][k] = cell["deadline_s"] * rng.uniform(1.001, 2)
    else:
        d["pruned_compute_s"][k] = (cell["deadline_s"] - d["fixed_latency_s"])[k] / q[k] * rng.uniform(1.001, 2)
    return Problem(Cell(**cell), Devices(**d)), k

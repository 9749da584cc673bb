"""Judge an allocation, whoever made it: KKT residuals by name and a rigorous duality gap.

Nothing here knows the solver. The gap is the objective minus a lower bound from weak duality
(`kktalloc._certificate.dual`), which holds for any prices, so a small gap is a proof; the named residuals say where a
large one comes from.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from kktalloc._certificate import compiled
from kktalloc._certificate.clocked import terms
from kktalloc._certificate.dual import ConvexRows, Multipliers, convex_rows, dual_terms
from kktalloc._certificate.prices import Prices, clock_prices, prices_from, split_prices
from kktalloc._device.efficiency import phi
from kktalloc._problem.allocation import outcome, same_for_all
from kktalloc._problem.arrays import FloatArray, as_float64, takes_arrays
from kktalloc._problem.fields import unlimited
from kktalloc._problem.problem import Problem
from kktalloc._problem.regime import Regime
from kktalloc._problem.shown import Rows, Shown, table
from kktalloc._problem.tolerances import CERTIFIED, KEEP_RATIO

# What may be claimed of an allocation: shape (..., K), and shape (...).
_PER_DEVICE = (
    "upload_s", "latency_s", "energy_j", "clock", "energy_per_j", "peak_power_per_w", "bandwidth_max_per_hz", "regime",
    "clock_max", "clock_min", "circuit_power_per_w",
)  # fmt: skip
_PRIMAL = (
    "primal_rate", "primal_energy", "primal_peak_power", "primal_bandwidth", "primal_bandwidth_max",
    "primal_total_power", "primal_pruning",
)  # fmt: skip
_PER_PROBLEM = ("objective", "bandwidth_per_hz", "deadline_per_s", "total_power_per_w")


@dataclass(frozen=True, eq=False, repr=False)
class Certificate(Shown):
    """The verdict on an allocation.

    Parameters
    ----------
    residuals
        Shape ``(...)`` each, >= 0, relative to the budget or the term that they are about:
        ``primal_rate``, ``primal_energy``, ``primal_peak_power``, ``primal_bandwidth``, ``primal_bandwidth_max``,
        ``primal_total_power``, ``primal_pruning`` and, where devices have one, ``primal_clock`` (feasible),
        ``dual`` (prices are non-negative), ``complementarity`` (what is priced is used up), ``stationarity`` (no
        device gains by moving at these prices), ``consistency`` (times, energies and objective that came with the
        allocation are the ones that it implies).
    duality_gap
        Objective minus a rigorous lower bound on the optimum, shape ``(...)``, over the objective's range
        ``sum alpha (e(1) - e(0))``, which is 1 for the linear error. Negative only by what the primal residuals are
        worth at these prices.
    bandwidth_price_per_hz, total_power_price_per_w
        The prices at which the bound was taken, shape ``(...)``.
    resolution
        What an ulp of the data is worth at these prices, shape ``(...)``. About 1e-15, and large only where a problem
        sits on the very edge of feasibility: the gap and complementarity cannot be told from it.
    tolerance
        What every residual and the gap must not exceed.
    """

    residuals: dict[str, FloatArray]
    duality_gap: FloatArray
    bandwidth_price_per_hz: FloatArray
    total_power_price_per_w: FloatArray
    resolution: FloatArray
    tolerance: float

    @cached_property
    def passed(self) -> np.ndarray:
        """Per problem, shape ``(...)``: it is feasible, and every residual and the gap are within tolerance."""
        good = self.duality_gap <= self.tolerance + self.resolution
        for name, residual in self.residuals.items():
            good = good & (residual <= self.tolerance + (self.resolution if name == "complementarity" else 0.0))
        verdict = np.array(good)
        verdict.flags.writeable = False
        return verdict

    @cached_property
    def ok(self) -> bool:
        """All problems passed."""
        return bool(self.passed.all())

    def __bool__(self) -> bool:
        return self.ok

    def _shown(self) -> tuple[str, Rows]:
        line = f"{verdict(self).removeprefix('certificate ')}, tolerance {self.tolerance:g}"
        if np.ndim(self.duality_gap):
            return line, ()
        named = {**self.residuals, "duality_gap": self.duality_gap}
        return line, table("residual", list(named), {"value": [f"{float(value):.1e}" for value in named.values()]})

    @property
    def worst(self) -> tuple[str, float]:
        """Name and value of the largest residual (the gap included) over all problems."""
        named = {"duality_gap": self.duality_gap, **self.residuals}
        values = {name: float(np.max(v, initial=0.0)) for name, v in named.items()}
        # NaN never compares: treat it as the worst there is.
        return max(values.items(), key=lambda item: np.inf if np.isnan(item[1]) else item[1])


def verdict(judged: Certificate) -> str:
    """In a few words."""
    name, value = judged.worst
    passed = np.asarray(judged.passed)
    of = f" for {passed.sum()} of {passed.size}" if passed.ndim else ""
    return f"certificate {'holds' if judged.ok or of else 'REFUSED'}{of} (worst: {name} = {value:.1e})"


@takes_arrays
@np.errstate(all="ignore")  # what is no number is judged as such, in silence
def certify(
    problem: Problem,
    pruning_ratio: ArrayLike,
    bandwidth_hz: ArrayLike,
    tx_power_w: ArrayLike,
    *,
    bandwidth_price_per_hz: ArrayLike | None = None,
    total_power_price_per_w: ArrayLike = 0.0,
    tolerance: float = CERTIFIED,
    **claimed: ArrayLike,
) -> Certificate:
    """Certify that an allocation is optimal, or say by how much and where it is not.

    Parameters
    ----------
    problem
        What was asked.
    pruning_ratio, bandwidth_hz, tx_power_w
        The allocation, each broadcast to ``(..., K)``.
    bandwidth_price_per_hz
        Price to take the bound at, shape ``(...)``. Any price gives a valid bound; without one the best is searched.
    total_power_price_per_w
        The price that goes with it; searched too where that one is.
    tolerance
        For every residual and the gap, relative, >= 0.
    **claimed
        Any of ``upload_s``, ``latency_s``, ``energy_j``, ``clock`` (shape ``(..., K)``), ``objective`` (``(...)``) and
        the fields of `kktalloc.Prices` that came with the allocation and must agree with it; ``regime`` too.

    Raises
    ------
    ValueError
        If an array holds no numbers or does not broadcast to the problem's shape, the tolerance is no number >= 0, or
        a claimed name is unknown.
    """
    tolerance = _non_negative("tolerance", tolerance)
    given = {"pruning_ratio": pruning_ratio, "bandwidth_hz": bandwidth_hz, "tx_power_w": tx_power_w}
    rho, b, p = (_fit(name, value, problem.shape) for name, value in given.items())
    per_w = _fit("total_power_price_per_w", total_power_price_per_w, problem.batch_shape)
    claims = {name: _claim(problem, name, value) for name, value in claimed.items()}
    if problem.clocked:
        price = (
            None
            if bandwidth_price_per_hz is None
            else _fit("bandwidth_price_per_hz", bandwidth_price_per_hz, problem.batch_shape)
        )
        return _certify_clocked(problem, rho, b, p, price, per_w, claims, tolerance)
    if bandwidth_price_per_hz is not None:
        per_hz = _fit("bandwidth_price_per_hz", bandwidth_price_per_hz, problem.batch_shape)
        verdict = compiled.judge(problem, rho, b, p, per_hz, per_w, claims)
        if verdict is not None:
            return read_verdict(verdict, per_hz, per_w, tolerance)
    c = convex_rows(problem)
    implied = outcome(problem, rho, b, p)
    q = 1.0 - rho
    residuals = _primal(problem, q, b, p, implied)
    residuals["primal_pruning"] = np.where(_spoilt(problem), np.inf, residuals["primal_pruning"])
    u, x = c.u(q), c.snr(b, p)
    # At the next q that a double can tell; the one above may leave no time at all.
    above = np.where(c.window > c.compute * (q + KEEP_RATIO), c.u(q + KEEP_RATIO), c.u_cap)
    steep, flat = c.slope(c.u(q - KEEP_RATIO)), c.slope(above)
    if bandwidth_price_per_hz is None:
        lam, mu = _best_prices(c, x, b, p, u)
    else:
        lam, mu = per_hz[..., None], per_w[..., None]
    lam_pos, mu_pos = np.maximum(lam, 0.0), np.maximum(mu, 0.0)
    best = dual_terms(c, b, p, u, lam_pos, mu_pos)
    worth = prices_from(problem, c, best, rho, b, p, lam, mu)
    implied |= {f.name: getattr(worth, f.name) for f in fields(worth)}
    regime = claims.pop("regime", None)
    residuals["consistency"] = _consistency(problem, implied, claims, split_prices(problem, c, best, rho))
    if regime is not None:
        wrong = _regime_mismatch(problem, regime, q, b, p, implied["energy_j"], mu, flat == 0.0)
        residuals["consistency"] = np.maximum(residuals["consistency"], _worst(wrong))
    scale = (c.alpha * (c.error.value(np.ones_like(q)) - c.error.value(np.zeros_like(q)))).sum(axis=-1)
    scale = np.where(scale > 0.0, scale, 1.0)
    paid = _paid(c, lam_pos, mu_pos)
    gap = (implied["objective"] - (best.value.sum(axis=-1) - paid)) / scale
    residuals["dual"] = np.maximum(np.maximum(-lam * c.bandwidth, -mu * np.minimum(c.total_power, 1e300)), 0.0)[..., 0]
    rate = c.carried(b, p)
    residuals["complementarity"] = _complementarity(c, b, p, u, rate, lam_pos, mu_pos, best) / scale
    # No marginal term agrees with a spread outside those of the q next to this one (a corner of the curve, or a q
    # that a double hardly resolves). Or else q is the best at these prices (a bound, or as close as rho can say).
    off = np.maximum(np.maximum(flat - best.spread, best.spread - steep) - _spread_ulp(c, best, mu_pos), 0.0)
    mismatch = off / np.maximum(np.maximum(np.abs(best.spread), steep), 1e-300)
    residuals["stationarity"] = _worst(np.minimum(mismatch, np.abs(q - best.keep_ratio)))
    moved = (best.rate * rate).sum(axis=-1) + paid + _worth_of_budgets(problem, worth)
    # Of a curve that begins far above 0 the objective has fewer digits than its range.
    size = np.maximum(1.0, np.abs(implied["objective"]) / scale)
    resolution = 8.0 * np.finfo(np.float64).eps * (size + moved / scale)
    clean = {name: np.where(np.isnan(v), np.inf, v) for name, v in residuals.items()}
    return Certificate(clean, gap, lam[..., 0], mu[..., 0], resolution, tolerance)


@np.errstate(all="ignore")
def _certify_clocked(
    problem: Problem,
    rho: FloatArray,
    b: FloatArray,
    p: FloatArray,
    per_hz: FloatArray | None,
    per_w: FloatArray,
    claims: dict[str, FloatArray],
    tolerance: float,
) -> Certificate:
    """The same for devices with a clock and electronics; the cap on total power has no price here, but is a limit."""
    implied = outcome(problem, rho, b, p, claims.get("clock"))
    clock, alpha = implied["clock"], np.asarray(problem.devices.weight)
    ones = np.ones(problem.shape)
    scale = (alpha * (problem.pruning_error.value(ones) - problem.pruning_error.value(0.0 * ones))).sum(axis=-1)
    scale = np.where(scale > 0.0, scale, 1.0)
    B = np.asarray(problem.cell.bandwidth_hz)[..., 0]
    if per_hz is None:
        per_hz = _best_clock_price(problem, rho, b, p, clock)
    best = terms(problem, rho, b, p, clock, per_hz)
    worth, lam = clock_prices(best, per_hz, per_w), np.maximum(per_hz, 0.0)
    implied |= {f.name: getattr(worth, f.name) for f in fields(worth)}
    residuals = _primal(problem, 1.0 - rho, b, p, implied)
    residuals["primal_pruning"] = np.where(_spoilt(problem), np.inf, residuals["primal_pruning"])
    regime = claims.pop("regime", None)
    per_watt = {"peak_power_per_w": best.peak_power + best.energy / np.asarray(problem.devices.pa_efficiency)}
    residuals["consistency"] = _consistency(problem, implied, claims, per_watt)
    if regime is not None:
        content = (alpha == 0.0) | (rho <= 0.0)
        wrong = _regime_mismatch(
            problem, regime, 1.0 - rho, b, p, implied["energy_j"], np.zeros(problem.shape), content, implied
        )
        residuals["consistency"] = np.maximum(residuals["consistency"], _worst(wrong))
    residuals["dual"] = np.maximum(np.maximum(-per_hz * B, -per_w), 0.0)
    limit, most = worth.bandwidth_max_per_hz, np.asarray(problem.devices.bandwidth_max_hz)
    unused = np.where(best.price > 0.0, best.price * (b - best.least), 0.0)
    unused = unused + np.where(limit > 0.0, limit * (most - b), 0.0)
    spare = np.maximum(lam * (B - b.sum(axis=-1)), 0.0)
    residuals["complementarity"] = (np.maximum(unused, 0.0).sum(axis=-1) + spare) / scale
    residuals["stationarity"] = _worst(best.off) / scale
    paid = lam * B
    gap = (implied["objective"] - (best.value.sum(axis=-1) - paid)) / scale
    size = np.maximum(1.0, np.abs(implied["objective"]) / scale)
    resolution = 8.0 * np.finfo(np.float64).eps * (size + (paid + _worth_of_budgets(problem, worth)) / scale)
    clean = {name: np.where(np.isnan(v), np.inf, v) for name, v in residuals.items()}
    return Certificate(clean, gap, per_hz, per_w, resolution, tolerance)


def _best_clock_price(problem: Problem, rho: FloatArray, b: FloatArray, p: FloatArray, clock: FloatArray) -> FloatArray:
    """Of a few prices that some device would pay for a Hz, and 0, the one with the best bound, shape ``(...)``."""
    B = np.asarray(problem.cell.bandwidth_hz)[..., 0]
    own = np.sort(np.where(b > 0.0, np.nan_to_num(terms(problem, rho, b, p, clock, 1.0 / B).own), 0.0), axis=-1)
    K = own.shape[-1]
    places = sorted({min(round(K * share), K - 1) for share in (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)}) if K else []
    tries = [0.0 * B, *(own[..., place] for place in places)]
    bounds = [terms(problem, rho, b, p, clock, price).value.sum(axis=-1) - price * B for price in tries]
    best = np.argmax(np.nan_to_num(bounds, nan=-np.inf), axis=0)
    return np.asarray(np.take_along_axis(np.array(tries), best[None], axis=0)[0])


@np.errstate(all="ignore")
def feasibility(
    problem: Problem, rho: FloatArray, b: FloatArray, p: FloatArray, claims: dict[str, FloatArray]
) -> dict[str, FloatArray]:
    """The residuals that ask whether an allocation is one, and whether what came with it follows from it.

    For the questions that are not after the least objective. Infinite where the allocation holds no numbers.
    """
    rho, b, p = (np.asarray(v) for v in (rho, b, p))
    free = np.zeros(problem.batch_shape)
    verdict = compiled.judge(problem, rho, b, p, free, free, claims)
    if verdict is not None:
        residuals = read_verdict(verdict, free, free).residuals
        return {name: residuals[name] for name in (*_PRIMAL, "consistency")}
    implied = outcome(problem, rho, b, p, claims.get("clock"))
    residuals = _primal(problem, 1.0 - rho, b, p, implied)
    residuals["consistency"] = _consistency(problem, implied, {n: np.asarray(v) for n, v in claims.items()}, {})
    nothing = np.isnan(rho + b + p).any(axis=-1)
    return {name: np.where(nothing | np.isnan(v), np.inf, v) for name, v in residuals.items()}


def read_verdict(
    verdict: FloatArray,
    bandwidth_price_per_hz: FloatArray,
    total_power_price_per_w: FloatArray,
    tolerance: float = CERTIFIED,
    passed: bool | None = None,
) -> Certificate:
    """Certificate from the rows that the compiled kernel found (`kktalloc._certificate.compiled.judge`).

    `passed` where the kernel has compared them with the tolerance, too: all problems have.
    """
    residuals = dict(zip(compiled.RESIDUALS, verdict, strict=False))
    batch = verdict.shape[1:]
    residuals["primal_bandwidth_max"] = same_for_all(0.0, batch)
    gap, resolution = verdict[-2], verdict[-1]
    found = object.__new__(Certificate)  # setting frozen fields one by one takes longer than all else here
    vars(found).update(
        residuals=residuals, duality_gap=gap, bandwidth_price_per_hz=bandwidth_price_per_hz,
        total_power_price_per_w=total_power_price_per_w, resolution=resolution, tolerance=tolerance,
    )  # fmt: skip
    if passed:
        vars(found).update(passed=same_for_all(True, batch), ok=True)
    return found


def read_clock_verdict(verdict: FloatArray, bandwidth_price_per_hz: FloatArray, per_w: FloatArray) -> Certificate:
    """The same of devices with a clock (`kktalloc._certificate.compiled.judge_and_price_clocks`)."""
    residuals = dict(zip(compiled.CLOCK_RESIDUALS, verdict, strict=False))
    gap, resolution = verdict[len(residuals) :]
    return Certificate(residuals, gap, bandwidth_price_per_hz, per_w, resolution, CERTIFIED)


def _spoilt(problem: Problem) -> np.ndarray:
    """Which problems hold what is no finite number, shape ``(...)``: written there since they were validated."""
    spoilt = np.zeros(problem.batch_shape, dtype=bool)
    for given_by in (problem.cell, problem.devices):
        for f in fields(given_by):
            if f.name != "name" and (given := getattr(given_by, f.name)) is not None:
                values = np.asarray(given)
                spoilt |= ~(np.isfinite(values) | ((values == np.inf) & unlimited(f.name))).all(axis=-1)
    return spoilt


def _worth_of_budgets(problem: Problem, worth: Prices) -> FloatArray:
    """What the deadline and the devices' own budgets are worth, shape ``(...)``: prices times amounts.

    Times an ulp this is how far rounding the input moves the optimum.
    """
    d = problem.devices
    energy = np.where(worth.energy_per_j > 0.0, worth.energy_per_j * np.asarray(d.energy_budget_j), 0.0)
    limit = worth.bandwidth_max_per_hz * np.where(worth.bandwidth_max_per_hz > 0.0, d.bandwidth_max_hz, 0.0)
    own = energy + worth.peak_power_per_w * np.asarray(d.tx_power_max_w) + limit
    return np.asarray(own.sum(axis=-1) + np.abs(worth.deadline_per_s) * np.asarray(problem.cell.deadline_s)[..., 0])


def _paid(c: ConvexRows, lam: FloatArray, mu: FloatArray) -> FloatArray:
    """What the cell's budgets are worth at the prices, shape ``(...)``."""
    return (lam * c.bandwidth + np.where(mu > 0.0, mu * c.total_power, 0.0))[..., 0]


def _claim(problem: Problem, name: str, value: ArrayLike) -> FloatArray:
    if name in _PER_DEVICE:
        return _fit(name, value, problem.shape)
    if name in _PER_PROBLEM:
        return _fit(name, value, problem.batch_shape)
    known = ", ".join((*_PER_DEVICE, *_PER_PROBLEM))
    raise ValueError(f"{name}: not something an allocation implies; known: {known}")


def _fit(name: str, value: ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    """`value` as float64 of this shape, itself if it is that; else one line that names it."""
    array = as_float64(name, value)
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(f"{name}: shape {array.shape} does not broadcast to the problem's {shape}") from None


def _non_negative(name: str, value: float) -> float:
    array = as_float64(name, value)
    if array.ndim or not 0.0 <= array < np.inf:
        raise ValueError(f"{name} = {value!r:.60}: must be one number >= 0 and finite")
    return float(array)


def _worst(excess: FloatArray) -> FloatArray:
    """Largest positive entry over the devices; NaN stays NaN."""
    return np.max(np.maximum(excess, 0.0), axis=-1, initial=0.0)


def _primal(
    problem: Problem, q: FloatArray, b: FloatArray, p: FloatArray, implied: dict[str, FloatArray]
) -> dict[str, FloatArray]:
    d, cell = problem.devices, problem.cell
    B, peak, budget = (np.asarray(v) for v in (cell.bandwidth_hz, d.tx_power_max_w, d.energy_budget_j))
    window, a = np.asarray(cell.deadline_s) - np.asarray(d.fixed_latency_s), np.asarray(d.pruned_compute_s)
    with np.errstate(all="ignore"):
        spent = np.where(np.isfinite(budget), (implied["energy_j"] - budget) / np.maximum(budget, 1e-300), 0.0)
        peak_over = np.where(p > peak, (p - peak) / np.maximum(peak, 1e-300), 0.0)
    compute, out_of_clock = a * q, np.zeros(1)
    if problem.clocked:
        clock, low, high = implied["clock"], np.asarray(d.clock_min), np.asarray(d.clock_max)
        compute = (a * q + np.asarray(d.fixed_compute_s)) / clock
        out_of_clock = np.maximum(low - clock, clock - high) / high
    B, most = B[..., 0], np.asarray(d.bandwidth_max_hz)
    total = np.inf if cell.total_power_w is None else np.asarray(cell.total_power_w)[..., 0]
    # Nobody hands out what another gives back: the positive parts count.
    with np.errstate(all="ignore"):
        radiated, handed_out = (np.maximum(v, 0.0).sum(axis=-1) for v in (p, b))
        below = -p / np.maximum(peak, 1e-300)
        total_over = np.where(radiated > total, (radiated - total) / np.maximum(total, 1e-300), 0.0)
    return {
        # Lateness is a shortfall of rate, relative to the window that the device decides over.
        "primal_rate": _worst((implied["upload_s"] - (window - compute)) / np.maximum(window, 1e-300)),
        "primal_energy": _worst(spent),
        "primal_peak_power": _worst(np.maximum(peak_over, below)),
        "primal_bandwidth": np.maximum((handed_out - B) / B, _worst(-b) / B),
        "primal_bandwidth_max": _worst(
            np.where(most < np.inf, b - most, 0.0) / np.where(most > 0.0, most, B[..., None])
        ),
        "primal_total_power": total_over,
        "primal_pruning": _worst(np.maximum(1.0 - np.asarray(d.pruning_ratio_max) - q, np.maximum(q - 1.0, -q))),
        **({"primal_clock": _worst(out_of_clock)} if problem.clocked else {}),
    }


def _spread_ulp(c: ConvexRows, m: Multipliers, mu: FloatArray) -> FloatArray:
    """What rounding leaves open of ``nu r1 - omega e1``: omega is what a watt is worth beyond its price."""
    worth = m.energy_row + m.peak_power + mu
    return KEEP_RATIO * (m.rate * c.r1 + np.where(np.isfinite(c.e0), worth * np.abs(c.e1), 0.0))


def _consistency(
    problem: Problem, implied: dict[str, FloatArray], claims: dict[str, FloatArray], scales: dict[str, FloatArray]
) -> FloatArray:
    worst = np.zeros(problem.batch_shape)
    for name, got in claims.items():
        want = implied[name]
        with np.errstate(all="ignore"):
            scale = np.maximum(np.abs(want), scales.get(name, 0.0))
            off = np.abs(got - want) / np.where(scale > 0.0, scale, 1.0)
        off = np.where(got == want, 0.0, off)
        worst = np.maximum(worst, np.max(off, axis=-1, initial=0.0) if want.ndim == len(problem.shape) else off)
    return worst


def _regime_mismatch(
    problem: Problem,
    regime: np.ndarray,
    q: FloatArray,
    b: FloatArray,
    p: FloatArray,
    energy_j: FloatArray,
    mu: FloatArray,
    content: np.ndarray,
    implied: dict[str, FloatArray] | None = None,
) -> FloatArray:
    """How far each device is from the limit that it is said to sit at, 1 for a limit that does not exist.

    A device that is `content` gains nothing by keeping more, and leaves power to the cell even where that is free.
    """
    d = problem.devices
    peak, budget = np.asarray(d.tx_power_max_w), np.asarray(d.energy_budget_j)
    q_min = 1.0 - np.asarray(d.pruning_ratio_max)
    with np.errstate(all="ignore"):
        at_peak = np.abs(p - peak) / np.maximum(peak, 1e-300)
        own = np.asarray(d.bandwidth_max_hz)
        at_own = np.where(np.isfinite(own), np.abs(b - own) / np.maximum(own, 1e-300), 1.0)
        at_budget = np.where(np.isfinite(budget), np.abs(energy_j - budget) / np.maximum(budget, 1e-300), 1.0)
    # Next to the floor the times of a tiny upload are all rounding of rho: weighed by what is kept beyond it.
    beyond = q - q_min
    distance = {
        Regime.FLOOR: beyond,
        Regime.SATURATED: 1.0 - q,
        Regime.PEAK: at_peak * beyond,
        Regime.ENERGY: at_budget * beyond,
        Regime.KINK: np.maximum(at_peak, at_budget) * beyond,
        Regime.TOTAL_POWER: np.where((mu > 0.0) | content, 0.0, 1.0),
        Regime.BANDWIDTH_MAX: at_own * beyond,
    }
    if implied is not None:
        distance |= _clock_regimes(problem, at_budget * beyond, beyond, implied)
    return np.select([regime == r for r in distance], list(distance.values()), 1.0)


def _clock_regimes(
    problem: Problem, at_budget: FloatArray, beyond: FloatArray, implied: dict[str, FloatArray]
) -> dict[Regime, FloatArray]:
    """The same for the regimes of a clock: all are at the budget, and at an end of the clock or within the deadline."""
    d, clock = problem.devices, implied["clock"]
    low, high = np.asarray(d.clock_min), np.asarray(d.clock_max)
    T = np.asarray(problem.cell.deadline_s)
    slowest, in_time = np.abs(clock - low) / low, np.abs(implied["latency_s"] - T) / T
    between = np.where((clock >= low) & (clock <= high), 0.0, 1.0)
    return {
        Regime.CLOCK: np.maximum(at_budget, (between + in_time) * beyond),
        Regime.CLOCK_MIN: np.maximum(at_budget, (slowest + in_time) * beyond),
        Regime.EARLY_FINISH: np.maximum(at_budget, slowest * beyond),
    }


def _complementarity(
    c: ConvexRows,
    b: FloatArray,
    p: FloatArray,
    u: FloatArray,
    rate: FloatArray,
    lam: FloatArray,
    mu: FloatArray,
    m: Multipliers,
) -> FloatArray:
    """What is paid for and left: what exceeds a budget is for the primal residuals to judge. Shape ``(...)``."""
    energy_slack = np.where(np.isfinite(c.e0), c.e0 + c.e1 * u - p, 0.0)
    unused = m.rate * (rate - c.r0 - c.r1 * u) + m.energy_row * energy_slack + m.peak_power * (c.peak - p)
    unused += np.where(m.bandwidth_max > 0.0, m.bandwidth_max * (c.bandwidth_max - b), 0.0)
    spare = _paid(c, lam, mu) - (lam * b + mu * p).sum(axis=-1)
    return np.asarray(np.maximum(unused, 0.0).sum(axis=-1) + np.maximum(spare, 0.0))


def _best_prices(
    c: ConvexRows, x: FloatArray, b: FloatArray, p: FloatArray, u: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """The prices lam and mu with the best bound, shape ``(..., 1)``: where the demand at these SNRs fills the cell.

    Any prices give a valid bound, so this search may use judgement. What differs by rounding counts as equal, else
    one small device that sets the price would drown in the rounding of large ones that do not move. Total power, if
    used up, is priced as the device with the least use for a watt values it.
    """

    def beyond(what: FloatArray, base: FloatArray) -> FloatArray:
        return np.where(np.abs(what - base) > 1e-12 * base, what - base, 0.0)

    def bound(lam: FloatArray, mu: FloatArray) -> FloatArray:
        return dual_terms(c, b, p, u, lam, mu).value.sum(axis=-1, keepdims=True) - _paid(c, lam, mu)[..., None]

    with np.errstate(all="ignore"):
        y = np.log1p(x)
        # What a watt is worth in Hz: R_p / R_b at the device's SNR.
        watt = np.where((b > 0.0) & (p > 0.0), c.gain_per_noise * np.exp(-y) / phi(y), np.inf)
        used_up = p.sum(axis=-1, keepdims=True) >= c.total_power * (1.0 - 1e-9)
        least, sizable = (
            np.min(np.where(counts, watt, np.inf), axis=-1, keepdims=True, initial=np.inf)
            for counts in (p > 0.0, p > 1e-9 * c.total_power)
        )
        best = np.zeros_like(c.bandwidth), np.zeros_like(c.bandwidth)
        best_bound = bound(*best)
        for ratio in (np.zeros_like(least), *(np.where(used_up & np.isfinite(w), w, 0.0) for w in (least, sizable))):
            use, budget = b + ratio * p, c.bandwidth + np.where(ratio > 0.0, ratio * c.total_power, 0.0)
            missing = beyond(use.sum(axis=-1, keepdims=True), budget)
            # The objective's range is about 1, so lam B <= 1 unless the floors leave next to nothing to share.
            high = np.log(1e15 / c.bandwidth) + np.zeros_like(c.bandwidth)
            low = high - 110.0
            for _ in range(64):
                lam = np.exp(0.5 * (low + high))
                demand = dual_terms(c, b, p, u, lam, ratio * lam).demand
                scarce = beyond(demand, use).sum(axis=-1, keepdims=True) + missing > 0.0
                low, high = np.where(scarce, np.log(lam), low), np.where(scarce, high, np.log(lam))
            lam = np.exp(high)
            reached = bound(lam, ratio * lam)
            better = reached > best_bound
            best = np.where(better, lam, best[0]), np.where(better, ratio * lam, best[1])
            best_bound = np.maximum(reached, best_bound)
            if not used_up.any():
                break
    return best

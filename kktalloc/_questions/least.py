"""The inverse questions: how little bandwidth, or energy, does a given pruning level take?

At a given keep ratio every device has a rate to reach in the time that its computation leaves. The bandwidth for it is
the floor's. The energy is convex in the bandwidth, ``c b (e^(r/b) - 1) / snr`` with c joules per window at peak power,
so that one price of bandwidth answers all devices at once: ``c e^y phi(y) / snr = lambda``, ``b = r / y``. Energy being
power times a constant, a price of total power is no more than an addition to c.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import wraps

import numpy as np
from numpy.typing import ArrayLike

from kktalloc._device import feasibility
from kktalloc._device.at_price import floor_load
from kktalloc._device.efficiency import EFFICIENCY_MAX, efficiency_at_power_price, efficiency_for, phi
from kktalloc._device.feasibility import least_cells
from kktalloc._device.reduced import Reduced, reduce
from kktalloc._device.roots import CLOSED, crossing
from kktalloc._problem.allocation import outcome
from kktalloc._problem.arrays import FloatArray, speaks_arrays
from kktalloc._problem.problem import Problem
from kktalloc._problem.variant import at_level, refuse_total_power
from kktalloc._questions.blocks import block_size
from kktalloc._questions.diagnosis import Diagnosis, diagnose
from kktalloc._questions.solution import InfeasibleError

PRICE_ITERATIONS = 200


@speaks_arrays
@wraps(feasibility.least_deadline)
def least_deadline(
    problem: Problem, pruning_ratio: ArrayLike | None = None, *, block_hz: ArrayLike | None = None
) -> FloatArray:
    if block_hz is not None:
        refuse_total_power(problem, np.sum(problem.devices.tx_power_max_w, axis=-1), "least_deadline in blocks")
        block_hz = block_size(problem, block_hz)
    return feasibility.least_deadline(problem, pruning_ratio, block_hz=block_hz)


@speaks_arrays
def least_bandwidth(problem: Problem, pruning_ratio: ArrayLike | None = None) -> FloatArray:
    """Least cell bandwidth at which every device can meet a pruning level, in Hz, shape ``(...)``.

    Parameters
    ----------
    problem
        One problem or a batch; its own bandwidth does not matter.
    pruning_ratio
        The most that devices may prune, in [0, 1], broadcast to ``(..., K)``; default their ``pruning_ratio_max``.

    Returns
    -------
    ndarray
        ``inf`` where no bandwidth would do, 0 where nothing needs to be sent.
    """
    problem = at_level(problem, pruning_ratio)
    cells = least_cells(reduce(problem))
    return cells.reshape(problem.batch_shape) * np.asarray(problem.cell.bandwidth_hz)[..., 0]


@dataclass(frozen=True, eq=False)
class LeastEnergy:
    """The cheapest way to a pruning level. Device arrays have shape ``(..., K)``, the rest the batch shape.

    Entries of infeasible problems are NaN.

    Parameters
    ----------
    pruning_ratio, bandwidth_hz, tx_power_w, upload_s, latency_s, energy_j
        As in `Solution`.
    total_energy_j
        Energy of all devices together, what they spend on anything but the upload included.
    bandwidth_price_j_per_hz
        Fall of the total energy per Hz, >= 0.
    total_power_price_j_per_w
        Fall of the total energy per W of the cap on total power, >= 0.
    lower_bound_j
        What no allocation can beat, by weak duality at these prices.
    diagnosis
        For infeasible problems what is missing, else None.
    """

    problem: Problem
    pruning_ratio: FloatArray
    bandwidth_hz: FloatArray
    tx_power_w: FloatArray
    upload_s: FloatArray
    latency_s: FloatArray
    energy_j: FloatArray
    total_energy_j: FloatArray
    bandwidth_price_j_per_hz: FloatArray
    total_power_price_j_per_w: FloatArray
    lower_bound_j: FloatArray
    diagnosis: Diagnosis | None

    @property
    def gap_j(self) -> FloatArray:
        """Total energy minus its lower bound, shape ``(...)``; blurred by 1e-13 of what the budgets are worth."""
        return self.total_energy_j - self.lower_bound_j


@speaks_arrays
def least_energy(problem: Problem, pruning_ratio: ArrayLike | None = None, throw: bool = True) -> LeastEnergy:
    """Least total energy at which every device meets a pruning level, within deadline, bandwidth, power and budgets.

    Keeping more takes more energy to compute and to send, so every device prunes exactly that much.

    Parameters
    ----------
    problem
        One problem or a batch.
    pruning_ratio
        What devices prune, in [0, 1], broadcast to ``(..., K)``; default their ``pruning_ratio_max``.
    throw
        Raise for infeasible problems; with False inspect ``diagnosis``.

    Raises
    ------
    InfeasibleError
        Some device cannot meet the level, or together they need more bandwidth or power than there is.
    """
    problem = at_level(problem, pruning_ratio)
    form, d = reduce(problem), problem.devices
    diagnosis = diagnose(problem, form)
    if diagnosis is not None and throw:
        raise InfeasibleError(diagnosis)
    fine = np.ones(form.weight.shape[0], dtype=bool) if diagnosis is None else diagnosis.feasible.ravel()
    rho = np.asarray(d.pruning_ratio_max)
    upload = (
        np.asarray(problem.cell.deadline_s)
        - np.asarray(d.fixed_latency_s)
        - np.asarray(d.pruned_compute_s) * (1.0 - rho)
    )
    peak_j = np.asarray(d.tx_power_max_w) * upload / np.asarray(d.pa_efficiency)
    part = form.rows(fine)
    b, p, price, power_price, bound = _under_cap(part, peak_j.reshape(form.weight.shape)[fine])

    def full(values: FloatArray) -> FloatArray:
        out = np.full((fine.size, *values.shape[1:]), np.nan)
        out[fine] = values
        return out.reshape((*problem.batch_shape, *values.shape[1:]))

    bandwidth = np.asarray(problem.cell.bandwidth_hz)
    share, power = full(b) * bandwidth, full(p) * np.asarray(d.tx_power_max_w)
    rho = np.where(np.isnan(share), np.nan, rho)
    implied = outcome(problem, rho, share, power)
    del implied["objective"]
    watts = np.inf if problem.cell.total_power_w is None else np.asarray(problem.cell.total_power_w)[..., 0]
    per_watt = full(power_price) / np.where(np.greater(watts, 0.0), watts, np.inf)  # a cap of 0 W has no price
    rest = (np.asarray(d.fixed_energy_j) + np.asarray(d.pruned_compute_j) * (1.0 - rho)).sum(axis=-1)
    return LeastEnergy(
        problem, rho, share, power, **implied,
        total_energy_j=implied["energy_j"].sum(axis=-1),
        bandwidth_price_j_per_hz=full(price) / bandwidth[..., 0],
        total_power_price_j_per_w=per_watt,
        lower_bound_j=rest + full(bound),
        diagnosis=diagnosis,
    )  # fmt: skip


def _under_cap(form: Reduced, peak_j: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """As `_cheapest`, within the cap on total power; the cap's price (J) comes before the bound.

    The power that the devices use falls with that price, down to the least that the bandwidth allows.
    """
    b, p, price, bound = _cheapest(form, peak_j)
    cap_price = np.zeros(price.shape)
    used = (form.power_share * p).sum(axis=1)
    rows = np.flatnonzero(used > 1.0 + CLOSED)
    if rows.size:
        some, cost = form.rows(rows), peak_j[rows]

        def priced(log_price: FloatArray) -> FloatArray:
            return cost + np.exp(log_price)[:, None] * some.power_share

        def excess(log_price: FloatArray) -> FloatArray:
            return (some.power_share * _cheapest(some, priced(log_price))[1]).sum(axis=1) - 1.0

        # From the price at which the power is worth as much as the energy.
        log_price = crossing(excess, np.log((cost * p[rows]).sum(axis=1) / used[rows]))
        b[rows], p[rows], price[rows], bound[rows] = _cheapest(some, priced(log_price))
        cap_price[rows] = np.exp(log_price)
    return b, p, price, cap_price, bound - cap_price


def _cheapest(form: Reduced, peak_j: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Bandwidths (in cells) and powers (in peaks), price of the cell (J) and lower bound on the transmit energy (J)."""
    rate = form.rate0 + form.rate1 * form.s_min
    sends = rate > 0.0
    unit = np.where(sends, peak_j, 0.0) / np.where(sends, form.snr, 1.0)  # J per nat at the wideband limit
    y_floor = np.where(sends, np.minimum(efficiency_for(floor_load(form)), EFFICIENCY_MAX), 0.0)
    dearest = unit * np.exp(y_floor) * phi(y_floor)
    active = sends.any(axis=1)

    def efficiency(log_price: FloatArray) -> FloatArray:
        return np.minimum(efficiency_at_power_price(np.exp(log_price)[:, None] / np.where(sends, unit, 1.0)), y_floor)

    def bandwidth(y: FloatArray) -> FloatArray:
        return np.where(sends, rate / np.where(y > 0.0, y, 1.0), 0.0)

    with np.errstate(all="ignore"):
        high = np.where(active, np.log(dearest.max(axis=1, initial=0.0)), 0.0)
        low = np.full(high.shape, -np.inf)
        log_price = high
        for _ in range(PRICE_ITERATIONS):
            y = efficiency(log_price)
            b = bandwidth(y)
            total = b.sum(axis=1)
            error = np.log(total)
            low, high = np.where(error > 0.0, log_price, low), np.where(error > 0.0, high, log_price)
            # d ln b / d ln price = -phi / y^2 wherever the floor does not hold the device
            flow = np.where(sends & (y < y_floor), b * phi(y) / (y * y), 0.0).sum(axis=1) / total
            moved = log_price + np.clip(error / flow, -50.0, 50.0)
            middle = np.where(np.isfinite(low), 0.5 * (low + high), high - 1.0)
            moved = np.where((moved > low) & (moved < high), moved, middle)
            done = ~active | (np.abs(error) <= 1e-14) | (np.abs(moved - log_price) <= 1e-15 * np.abs(log_price))
            if done.all():
                break
            log_price = np.where(done, log_price, moved)
        price = np.where(active, np.exp(log_price), 0.0)
        p = np.where(sends, np.minimum(b * np.expm1(y) / np.where(sends, form.snr, 1.0), 1.0), 0.0)
        # The energy is a perspective, so its tangent at y supports it from below: b (e^(r/b) - 1) >= r e^y - b e^y
        # phi(y). That leaves a linear function of b, least at one end of [floor, cell], whatever price and y are.
        slope = price[:, None] - unit * np.exp(y) * phi(y)
        least = np.minimum(slope * bandwidth(y_floor), slope)
        bound = np.where(sends, unit * rate * np.exp(y) + least, 0.0).sum(axis=1) - price
    return b, p, price, bound

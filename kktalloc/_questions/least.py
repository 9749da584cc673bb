"""The inverse questions: how little bandwidth, or energy, does a given pruning level take?

At a given keep ratio every device has a rate to reach in the time that its computation leaves. The bandwidth for it is
the floor's. The energy is convex in the bandwidth, ``c b (e^(r/b) - 1) / snr`` with c joules per window at peak power,
so that one price of bandwidth answers all devices at once: ``c e^y phi(y) / snr = lambda``, ``b = r / y``. Energy being
power times a constant, a price of total power is no more than an addition to c.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property, wraps

import numpy as np
from numpy.typing import ArrayLike

from kktalloc._certificate.certificate import Certificate
from kktalloc._certificate.priced import judge_cost
from kktalloc._certificate.usage import judge_bandwidth, judge_clock_deadline, judge_deadline, judge_energy
from kktalloc._device import feasibility
from kktalloc._device.clocked import clocked_form, floor_bandwidths, floor_points
from kktalloc._device.efficiency import EFFICIENCY_MAX, efficiency_at_power_price, efficiency_for, phi
from kktalloc._device.feasibility import least_cells, sparing
from kktalloc._device.form import Reduced
from kktalloc._device.link import floor_bandwidth, floor_load, least_efficiency
from kktalloc._device.reduced import invert, reduce, scatter
from kktalloc._device.roots import crossing
from kktalloc._engine.floors import Question, ask
from kktalloc._problem.allocation import Allotment
from kktalloc._problem.arrays import FloatArray, speaks_arrays
from kktalloc._problem.problem import Problem
from kktalloc._problem.shown import Rows, Shown, span
from kktalloc._problem.stats import enter, measured
from kktalloc._problem.tolerances import FEASIBLE, FILLED, LEAST
from kktalloc._problem.variant import UNPROVED, WHOLE, at_level, clock_fields, refuse_total_power, variant
from kktalloc._questions.blocks import block_size
from kktalloc._questions.cost import least_cost
from kktalloc._questions.diagnosis import Diagnosis, diagnose
from kktalloc._questions.export import device_table, headline
from kktalloc._questions.judgement import InfeasibleError, Judged, asked_again, close, close_value

SPAN = 80.0  # how far from the first guess the logarithm of the price of total power is searched
LAST_BITS = -32  # a least bandwidth is not raised by more than this power of two, a quarter of what is certified
PRICE_SPAN = 1500.0  # the same of the price of bandwidth, below that at which all devices sit at their floors


@speaks_arrays
@asked_again
@wraps(feasibility.least_deadline)
def least_deadline(
    problem: Problem, pruning_ratio: ArrayLike | None = None, *, block_hz: ArrayLike | None = None
) -> FloatArray:
    if block_hz is not None:
        refuse_total_power(problem, np.sum(problem.devices.tx_power_max_w, axis=-1), "least_deadline in blocks", WHOLE)
        block_hz = block_size(problem, block_hz)
    problem = at_level(problem, pruning_ratio)
    answered = ask(problem, Question.DEADLINE) if block_hz is None else None
    if answered is None:
        seconds = feasibility.least_deadline(problem, block_hz=block_hz)
    else:
        seconds = answered[0][0].reshape(problem.batch_shape)
    asked = np.isfinite(seconds) & (seconds > 0.0)
    if not asked.any():
        return seconds
    at = variant(problem, deadline_s=np.where(asked, seconds, problem.of_cell("deadline_s")))
    found, hz_per_w = _at_floors(at)
    if problem.clocked:
        sooner = variant(at, deadline_s=np.asarray(at.cell.deadline_s)[..., 0] * (1.0 - LEAST))
        return close_value(seconds, asked, judge_clock_deadline(at, found, sooner, _at_clock_floors(sooner), block_hz))
    return close_value(seconds, asked, judge_deadline(at, found, hz_per_w, block_hz))


@speaks_arrays
@asked_again
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

    Raises
    ------
    UncertifiedError
        The verdict refuses the answer (numerically hopeless input), as of every question.
    """
    problem = at_level(problem, pruning_ratio)
    own = problem.of_cell("bandwidth_hz")
    answered = ask(problem, Question.CELLS)
    if problem.clocked:
        cells = floor_bandwidths(clocked_form(problem)).sum(axis=1)
    else:
        cells = least_cells(reduce(problem)) if answered is None else answered[0][0]
    hertz = cells.reshape(problem.batch_shape) * own
    asked = np.isfinite(hertz) & (hertz > 0.0)
    if not asked.any():
        return hertz
    at = variant(problem, bandwidth_hz=np.where(asked, hertz, own))
    found, hz_per_w = _at_floors(at)
    # Beside a device near its wideband limit an ulp of the bandwidth may move the power of others beyond the cap: these
    # are the last bits that it may need.
    for bits in range(-52, LAST_BITS):
        over = asked & (found.tx_power_w.sum(axis=-1) > _watts(problem) * (1.0 + FEASIBLE))
        if not over.any():
            break
        hertz = np.where(over, hertz * (1.0 + 2.0**bits), hertz)
        at = variant(problem, bandwidth_hz=np.where(asked, hertz, own))
        found, hz_per_w = _at_floors(at)
    return close_value(hertz, asked, judge_bandwidth(at, found, hz_per_w))


def _watts(problem: Problem) -> FloatArray:
    """The cap on total power, shape ``(...)``."""
    return np.broadcast_to(problem.of_cell("total_power_w") if problem.capped else np.inf, problem.batch_shape)


def _at_floors(problem: Problem) -> tuple[Allotment, FloatArray]:
    """Everybody at the floor, with the least power where that has a cap; and what a watt is worth then, in Hz.

    With a clock or electronics a cap must not bind.
    """
    if problem.clocked:
        return _at_clock_floors(problem), np.zeros(problem.batch_shape)
    answered = ask(problem, Question.FLOORS)
    if answered is not None:
        (_, _, ratio, _), (_, _, b, p) = answered
    else:
        form = reduce(problem)
        b, p = floor_bandwidth(form), form.power_limit(form.s_min)
        ratio = np.zeros(form.weight.shape[0])
        if problem.capped:
            b, p, ratio = sparing(form)
    every = np.ones(ratio.size, dtype=bool)
    rho = np.broadcast_to(problem.of_devices("pruning_ratio_max"), problem.shape).reshape(b.shape)
    with np.errstate(all="ignore"):  # some problems of a batch may have no answer
        found = invert(problem, every, rho, b, np.where(b > 0.0, p, 0.0))
        del found["objective"]
        watts = _watts(problem)
        hz = ratio.reshape(problem.batch_shape) * problem.of_cell("bandwidth_hz")
        return Allotment(**found), np.where(np.greater(watts, 0.0), hz / watts, 0.0)


def _at_clock_floors(problem: Problem) -> Allotment:
    form = clocked_form(problem)
    at = floor_points(form)
    rho = np.asarray(problem.devices.pruning_ratio_max).reshape(at.b.shape)
    with np.errstate(all="ignore"):
        found = invert(problem, np.ones(at.b.shape[0], dtype=bool), rho, at.b, at.p, at.clock)
    del found["objective"]
    if problem.capped:
        with_them = f"a least budget with {clock_fields(problem)}"
        refuse_total_power(problem, np.nansum(found["tx_power_w"], axis=-1), with_them, UNPROVED)
    return Allotment(**found)


@dataclass(frozen=True, eq=False, repr=False)
class LeastEnergy(Shown, Judged, Allotment):
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
    total_energy_j: FloatArray
    bandwidth_price_j_per_hz: FloatArray
    total_power_price_j_per_w: FloatArray
    lower_bound_j: FloatArray
    diagnosis: Diagnosis | None

    def _shown(self) -> tuple[str, Rows]:
        return headline(self, f"{span(self.total_energy_j)} J of all devices"), device_table(self)

    @property
    def gap_j(self) -> FloatArray:
        """Total energy minus its lower bound, shape ``(...)``; blurred by 1e-13 of what the budgets are worth."""
        return self.total_energy_j - self.lower_bound_j

    @cached_property
    def certificate(self) -> Certificate:
        """The verdict on these arrays; `dataclasses.replace` has it found anew, writing into them does not."""
        prices = self.bandwidth_price_j_per_hz, self.total_power_price_j_per_w
        if not self.problem.clocked:
            return judge_energy(self.problem, self, self.total_energy_j, *prices)
        longest, free = np.asarray(self.problem.cell.deadline_s)[..., 0], np.zeros(self.problem.batch_shape)
        each = np.ones(self.problem.shape)
        return judge_cost(self.problem, self, longest, each, free, prices[0], self.total_energy_j, {})


@speaks_arrays
@measured
@asked_again
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
    ValueError
        A cap on total power binds beside clocks or electronics, with which the problem is not known to be convex.
    InfeasibleError
        Some device cannot meet the level, or together they need more bandwidth or power than there is.
    UncertifiedError
        The verdict refuses the answer (numerically hopeless input).
    """
    problem = at_level(problem, pruning_ratio)
    if problem.clocked:
        return _with_clocks(problem, throw)
    d, diagnosis = problem.of_devices, diagnose(problem)
    if diagnosis is not None and throw:
        raise InfeasibleError(diagnosis)
    fine = np.ones(problem.sizes[0], dtype=bool) if diagnosis is None else diagnosis.feasible.ravel()
    rho = np.broadcast_to(d("pruning_ratio_max"), problem.shape)
    answered = ask(problem, Question.ENERGY)
    if answered is not None:
        (price, power_price, bound), (b, p) = answered[0][:3, fine], answered[1][:2, fine]
    else:
        upload = np.asarray(problem.of_cell("deadline_s"))[..., None] - d("fixed_latency_s")
        peak_j = d("tx_power_max_w") * (upload - d("pruned_compute_s") * (1.0 - rho)) / d("pa_efficiency")
        b, p, price, power_price, bound = _under_cap(reduce(problem).rows(fine), peak_j.reshape(problem.sizes)[fine])

    levels = rho.reshape(problem.sizes)[fine]
    found = invert(problem, fine, levels, b, p)
    del found["objective"]
    bandwidth, watts = problem.of_cell("bandwidth_hz"), _watts(problem)
    per_watt = scatter(problem, fine, power_price) / np.where(
        np.greater(watts, 0.0), watts, np.inf
    )  # a cap of 0 W has no price
    rest = (d("fixed_energy_j") + d("pruned_compute_j") * (1.0 - rho)).sum(axis=-1)
    answer = LeastEnergy(
        **found,
        problem=problem,
        total_energy_j=found["energy_j"].sum(axis=-1),
        bandwidth_price_j_per_hz=scatter(problem, fine, price) / bandwidth,
        total_power_price_j_per_w=per_watt,
        lower_bound_j=rest + scatter(problem, fine, bound),
        diagnosis=diagnosis,
    )
    return close(answer, throw)


def _with_clocks(problem: Problem, throw: bool) -> LeastEnergy:
    """The same with clocks and electronics: the cheapest round whose seconds cost nothing."""
    found = least_cost(problem, time_weight=0.0, throw=throw)
    return LeastEnergy(
        **{f.name: getattr(found, f.name) for f in fields(Allotment)},
        problem=problem,
        total_energy_j=found.total_energy_j,
        bandwidth_price_j_per_hz=found.bandwidth_price_per_hz,
        total_power_price_j_per_w=0.0 * found.total_energy_j,
        lower_bound_j=found.lower_bound,
        diagnosis=found.diagnosis,
    )


def _under_cap(form: Reduced, peak_j: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """As `_cheapest`, within the cap on total power; the cap's price (J) comes before the bound.

    The power that the devices use falls with that price, down to the least that the bandwidth allows.
    """
    b, p, price, bound = _cheapest(form, peak_j)
    cap_price = np.zeros(price.shape)
    used = (form.power_share * p).sum(axis=1)
    rows = np.flatnonzero(used > 1.0 + FILLED)
    if rows.size:
        some, cost = form.rows(rows), peak_j[rows]

        def priced(log_price: FloatArray, part: np.ndarray) -> FloatArray:
            return cost[part] + np.exp(log_price)[:, None] * some.power_share[part]

        def excess(log_price: FloatArray, part: np.ndarray) -> FloatArray:
            power = _cheapest(some.rows(part), priced(log_price, part))[1]
            return np.log((some.power_share[part] * power).sum(axis=1))

        # From the price at which the power is worth as much as the energy.
        with np.errstate(divide="ignore"):
            start = np.log((cost * p[rows]).sum(axis=1) / used[rows])
        log_price = crossing(excess, start, start - SPAN, start + SPAN).at
        b[rows], p[rows], price[rows], bound[rows] = _cheapest(some, priced(log_price, np.arange(rows.size)))
        cap_price[rows] = np.exp(log_price)
    return b, p, price, cap_price, bound - cap_price


def _cheapest(form: Reduced, peak_j: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Bandwidths (in cells) and powers (in peaks), price of the cell (J) and lower bound on the transmit energy (J)."""
    rate = form.rate0 + form.rate1 * form.s_min
    sends = rate > 0.0
    unit = np.where(sends, peak_j, 0.0) / np.where(sends, form.snr, 1.0)  # J per nat at the wideband limit
    y_floor = np.where(sends, np.minimum(efficiency_for(floor_load(form)), EFFICIENCY_MAX), 0.0)
    own = np.where(sends, least_efficiency(form, form.s_min), 0.0)
    dearest = unit * np.exp(y_floor) * phi(y_floor)
    active = sends.any(axis=1)

    def efficiency(log_price: FloatArray, part: slice | np.ndarray = slice(None)) -> FloatArray:
        enter("numpy", log_price.size)
        free = efficiency_at_power_price(np.exp(log_price)[:, None] / np.where(sends, unit, 1.0)[part])
        return np.minimum(np.maximum(free, own[part]), y_floor[part])

    def bandwidth(y: FloatArray, part: slice | np.ndarray = slice(None)) -> FloatArray:
        return np.where(sends[part], rate[part] / np.where(y > 0.0, y, 1.0), 0.0)

    def excess(log_price: FloatArray, part: np.ndarray) -> FloatArray:
        return np.log(bandwidth(efficiency(log_price, part), part).sum(axis=1))

    with np.errstate(all="ignore"):
        # At the dearest price all devices sit at their floors.
        high = np.where(active, np.log(dearest.max(axis=1, initial=0.0)), 0.0)
        log_price = high.copy()
        some = np.flatnonzero(active)
        log_price[some] = crossing(
            lambda at, part: excess(at, some[part]), high[some], high[some] - PRICE_SPAN, high[some], 1e-14
        ).at
        y = efficiency(log_price)
        b = bandwidth(y)
        price = np.where(active, np.exp(log_price), 0.0)
        p = np.where(sends, np.minimum(b * np.expm1(y) / np.where(sends, form.snr, 1.0), 1.0), 0.0)
        # The energy is a perspective, so its tangent at y supports it from below: b (e^(r/b) - 1) >= r e^y - b e^y
        # phi(y). That leaves a linear function of b, least at one end of [floor, cell or own limit], whatever price
        # and y are.
        slope = price[:, None] - unit * np.exp(y) * phi(y)
        least = np.minimum(slope * bandwidth(y_floor), slope * np.minimum(form.b_max, 1.0))
        bound = np.where(sends, unit * rate * np.exp(y) + least, 0.0).sum(axis=1) - price
    return b, p, price, bound

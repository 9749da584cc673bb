"""The same problem in CVXPY: an independent twin of the closed-form solver, for tests, benchmarks and doubt.

It shares nothing with the solver but `Problem`: the convex form below is written down anew, scaled anew, and
solved by a general-purpose conic solver. It is slow (a conic program per problem) and accurate to that
solver's tolerance.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kktalloc._problem.arrays import takes_arrays
from kktalloc._problem.curves import Linear
from kktalloc._problem.problem import Problem
from kktalloc._problem.shown import Rows, Shown, span, table
from kktalloc._problem.variant import refuse_clocks

FloatArray = NDArray[np.float64]
StrArray = NDArray[np.str_]

SOLVED = ("optimal", "optimal_inaccurate")
# Who is asked where CLARABEL breaks off each time, and by how much its answer may miss a row of the scaled problem.
_SECOND: dict[str, Any] = {"eps_abs": 1e-8, "eps_rel": 1e-8, "max_iters": 50_000}
_SLACK = 1e-6


@dataclass(frozen=True, eq=False, repr=False)
class ReferenceSolution(Shown):
    """What CVXPY answered. Where `status` is not ``optimal`` or ``optimal_inaccurate`` the numbers are NaN.

    Parameters
    ----------
    status
        CVXPY's status per problem, e.g. ``optimal``, ``infeasible``; shape ``(...)``, a str for one problem.
    pruning_ratio, bandwidth_hz, tx_power_w
        The allocation, shape ``(..., K)``; feasible up to the conic solver's tolerance.
    objective
        ``sum_k alpha_k rho_k``, shape ``(...)``.
    bandwidth_price_per_hz
        Shadow price: fall of the objective per Hz more, >= 0, shape ``(...)``.
    solve_s
        Time in seconds spent in CVXPY, compilation included, shape ``(...)``.
    """

    status: str | StrArray
    pruning_ratio: FloatArray
    bandwidth_hz: FloatArray
    tx_power_w: FloatArray
    objective: FloatArray
    bandwidth_price_per_hz: FloatArray
    solve_s: FloatArray

    def _shown(self) -> tuple[str, Rows]:
        status = np.unique(np.asarray(self.status))
        line = f"{', '.join(map(str, status))} says CVXPY, objective {span(self.objective)}, in {span(self.solve_s)} s"
        if np.ndim(self.objective):
            return line, ()
        arrays = {name: getattr(self, name) for name in ("pruning_ratio", "bandwidth_hz", "tx_power_w")}
        return line, table("device", [str(k) for k in range(len(self.pruning_ratio))], arrays)


@takes_arrays
def solve_reference(problem: Problem, solver: str = "CLARABEL", **options: Any) -> ReferenceSolution:
    """Solve a problem, or each problem of a batch, with CVXPY.

    With T the window of a device (deadline less fixed latency), a its pruned compute time and A = a/T, the
    variable ``s = q T / (T - a q)`` (keep ratio per window of upload) makes every row convex::

        q = s / (1 + A s)                                     concave in s: a second-order cone
        (S0 + (S + A S0) s) / T  <=  b log2(1 + g p / b)      concave on the right: an exponential cone
        p  <=  eta (E (1 + A s) - eps s) / T                  affine, left out where it cannot bind
        s_min <= s <= s_max,  0 <= p <= P,  0 <= b <= B_max,  sum b <= B (, sum p <= P_tot)

    Bandwidth is counted in equal shares B/K, power in peak powers, s in the largest value that one share
    could carry.

    Parameters
    ----------
    problem
        One problem or a batch; a batch is solved one by one.
    solver
        A CVXPY solver that takes exponential and second-order cones: CLARABEL, SCS, ECOS, MOSEK.
    **options
        Passed to `cvxpy.Problem.solve`. CLARABEL's tolerances are 1e-10 unless given, and where it breaks off it is
        tried again with shorter steps, then with its own 1e-8, and at last by SCS, whose answer counts as
        ``optimal_inaccurate`` if it keeps every row to 1e-6.

    Returns
    -------
    ReferenceSolution
        Infeasible problems have a status that says so and NaN for numbers; nothing is raised for them.

    Raises
    ------
    ValueError
        If the solver is not installed, or the pruning error is not linear.
    TypeError
        What it got is no problem.
    """
    cvxpy = import_module("cvxpy")
    if solver not in cvxpy.installed_solvers():
        raise ValueError(f"solver = {solver!r}: installed are {', '.join(cvxpy.installed_solvers())}")
    refuse_clocks(problem, "solve_reference", "has no cone for clocks, electronics and computing that is not pruned")
    if not isinstance(problem.pruning_error, Linear):
        raise ValueError(f"pruning_error = {problem.pruning_error!r}: the reference takes the linear error alone")
    shape, batch = problem.shape, problem.batch_shape
    status = np.empty(batch, dtype="<U24")
    rho, bandwidth, power = (np.full(shape, np.nan) for _ in range(3))
    objective, price, seconds = (np.full(batch, np.nan) for _ in range(3))
    for index in np.ndindex(batch):
        start = time.perf_counter()
        answer = _solve_one(_Row(problem, index), solver, options)
        seconds[index] = time.perf_counter() - start
        status[index] = answer[0]
        if len(answer) > 1:
            _, rho[index], bandwidth[index], power[index], price[index] = answer
            objective[index] = np.sum(np.asarray(problem.devices.weight)[index] * rho[index])
    return ReferenceSolution(
        status=status if batch else str(status[()]),
        pruning_ratio=rho,
        bandwidth_hz=bandwidth,
        tx_power_w=power,
        objective=objective,
        bandwidth_price_per_hz=price,
        solve_s=seconds,
    )


class _Row:
    """The constants of one problem of the batch, each an array of shape (K,) or a float."""

    def __init__(self, problem: Problem, index: tuple[int, ...]) -> None:
        def device(name: str) -> FloatArray:
            values: FloatArray = np.asarray(getattr(problem.devices, name), dtype=np.float64)[index]
            return values

        def cell(name: str) -> float:
            value = getattr(problem.cell, name)
            return np.inf if value is None else float(np.asarray(value)[index][0])

        self.B = cell("bandwidth_hz")
        self.P_tot = cell("total_power_w")
        self.B_max = device("bandwidth_max_hz")
        self.T = cell("deadline_s") - device("fixed_latency_s")
        self.a = device("pruned_compute_s")
        self.S, self.S0 = device("payload_bits"), device("overhead_bits")
        self.g = device("channel_gain") / cell("noise_psd_w_per_hz")
        self.P = np.minimum(device("tx_power_max_w"), self.P_tot)
        self.eta = device("pa_efficiency")
        self.E = device("energy_budget_j") - device("fixed_energy_j")
        self.eps = device("pruned_compute_j")
        self.q_min = 1.0 - device("pruning_ratio_max")
        self.alpha = device("weight")


def _solve_one(row: _Row, solver: str, options: dict[str, Any]) -> tuple[Any, ...]:
    """``(status,)`` or ``(status, rho, b, p, price)`` for one problem."""
    cp: Any = import_module("cvxpy")  # slow to import, and its re-exports are not typed

    rho, b, p = np.ones(row.T.shape), np.zeros(row.T.shape), np.zeros(row.T.shape)
    # A device without power, channel or energy can only stay silent, and a device without a window as well:
    # no cone describes that well, so it is decided here.
    silent = (row.g * row.P <= 0) | (row.B_max <= 0) | (row.E <= 0) | (row.T <= 0)
    must_talk = (row.q_min > 0) | (row.S0 > 0) | (row.E < 0) | (row.T < 0)
    # Keeping q_min needs q_min a < T, for some time must be left to send it.
    if np.any(silent & must_talk) or np.any(row.q_min * row.a >= np.where(row.q_min > 0, row.T, np.inf)):
        return ("infeasible",)
    on = ~silent
    if not on.any():
        return ("optimal", rho, b, p, 0.0)

    K = int(on.sum())
    T, P, g, S, S0 = row.T[on], row.P[on], row.g[on], row.S[on], row.S0[on]
    A, q_min, alpha, eta, eps, E = (
        row.a[on] / T,
        row.q_min[on],
        row.alpha[on],
        row.eta[on],
        row.eps[on],
        row.E[on],
    )
    share_hz = row.B / K
    snr = g * P / share_hz  # received SNR at peak power over one share
    share_bits = T * share_hz * np.log2(1.0 + snr)  # what one share carries in the whole window
    # s = unit * sigma; at sigma = 1 a device fills one share, or keeps all of its model.
    unit = share_bits / (S + A * S0)
    unit = np.where(A < 1, np.minimum(unit, 1.0 / (1.0 - np.minimum(A, 0.999))), unit)

    sigma, beta, pi, lost = cp.Variable(K), cp.Variable(K), cp.Variable(K), cp.Variable(K)
    # q = unit * (sigma - lost) with lost = A unit sigma^2 / (1 + A unit sigma): no cancellation as A -> 0.
    c = A * unit
    root_c, affine = np.sqrt(c), 1.0 + cp.multiply(c, sigma)
    q_concave = cp.SOC(affine + lost, cp.vstack([2.0 * cp.multiply(root_c, sigma), affine - lost]), axis=0)
    offered = -cp.rel_entr(beta, beta + cp.multiply(snr, pi)) / np.log1p(snr)
    demand = S0 / share_bits + cp.multiply(unit * (S + A * S0) / share_bits, sigma)
    shares = cp.sum(beta) / K <= 1.0
    constraints = [
        q_concave,
        shares,
        demand <= offered,
        beta >= 0,
        pi >= 0,
        pi <= 1,
        sigma >= q_min / (1.0 - A * q_min) / unit,
    ]
    if (own := row.B_max[on] < row.B).any():
        constraints.append(beta[own] <= row.B_max[on][own] / share_hz)
    full = A < 1
    if full.any():
        constraints.append(sigma[full] <= 1.0 / (1.0 - A[full]) / unit[full])
    # Peak power for the whole window and all of the compute: a budget beyond that is no constraint.
    rich = P * T / eta + eps <= E
    if (poor := ~rich).any():
        per_power = (eta / (T * P))[poor]
        level, slope = per_power * E[poor], per_power * (unit[poor] * (E[poor] * A[poor] - eps[poor]))
        size = np.maximum(1.0, np.abs(slope))
        constraints.append(cp.multiply(1.0 / size, pi[poor]) <= level / size + cp.multiply(slope / size, sigma[poor]))
    if np.isfinite(row.P_tot) and P.sum() > row.P_tot:
        constraints.append((P / row.P_tot) @ pi <= 1.0)

    gain = alpha * unit
    top = float(gain.max(initial=0.0)) or 1.0
    program = cp.Problem(cp.Maximize((gain / top) @ (sigma - lost)), constraints)
    attempts: list[dict[str, Any]] = [options]
    if solver == "CLARABEL":
        tight = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}
        # It breaks off on one problem in a hundred, on others on other machines; shorter steps, or a less exact answer,
        # then get through.
        attempts = [tight | more | options for more in ({}, {"max_step_fraction": 0.95}, dict.fromkeys(tight, 1e-8))]
    tries = [(solver, attempt) for attempt in attempts]
    if solver == "CLARABEL":
        tries.append(("SCS", _SECOND))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Solution may be inaccurate")  # the status says it
        for name, attempt in tries:
            try:
                program.solve(solver=name, **attempt)
                break
            except cp.SolverError:
                continue
        else:
            return ("solver_error",)
    status = str(program.status)
    if status not in SOLVED:
        # A second solver is asked for numbers alone: that there are none is not for it to say.
        return ("solver_error" if name != solver else status,)
    if name != solver:
        if max(float(np.max(row.violation())) for row in constraints) > _SLACK:
            return ("solver_error",)
        status = "optimal_inaccurate"
    s = np.maximum(unit * sigma.value, 0.0)
    rho[on] = 1.0 - s / (1.0 + A * s)
    b[on] = share_hz * np.maximum(beta.value, 0.0)
    p[on] = P * np.clip(pi.value, 0.0, 1.0)
    return (status, rho, b, p, top * float(shares.dual_value) / row.B)

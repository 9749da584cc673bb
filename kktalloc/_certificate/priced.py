"""Judge answers that pay for energy: lower bounds on what any allocation costs, from convexity and weak duality alone.

What devices can't cost less than at prices is in `kktalloc._certificate.level`, for those that keep what they have to,
and in `kktalloc._certificate.kept`, for those that choose what they keep.
"""

from __future__ import annotations

import numpy as np

from kktalloc._certificate.certificate import Certificate
from kktalloc._certificate.kept import kept_bound
from kktalloc._certificate.level import level_bound
from kktalloc._certificate.tangent import Bound
from kktalloc._certificate.usage import _feasible
from kktalloc._problem.allocation import Allotment
from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.problem import Problem
from kktalloc._problem.tolerances import CERTIFIED
from kktalloc._problem.variant import variant

_NO_TIME = 1e-15  # of the longest round


@np.errstate(all="ignore")
def judge_cost(
    problem: Problem, found: Allotment, longest_s: FloatArray, per_j: FloatArray, per_s: FloatArray,
    per_hz: FloatArray, cost: FloatArray, claims: dict[str, FloatArray],
) -> Certificate:  # fmt: skip
    """Whether an allocation by the deadline of `problem` takes the least ``sum per_j E + per_s T``, ``T <= longest_s``.

    The gap is relative to the cost and what the budgets are worth. Shapes: `per_j` ``(..., K)``, the rest ``(...)``.
    `claims` are what the answer says besides, by its field names; they have to be what follows from the allocation.
    """
    B, T = (np.asarray(v)[..., 0] for v in (problem.cell.bandwidth_hz, problem.cell.deadline_s))
    bound, rest, lower, most_s = cost_bound(
        variant(problem, deadline_s=longest_s), found, per_hz, per_j, per_s, T, cost
    )
    scale = np.abs(cost) + per_hz * B + np.maximum(-rest, 0.0) * most_s + bound.worth.sum(axis=-1)
    # Where nothing takes any time a round that is next to nothing will do.
    scale = scale + per_s * longest_s * _NO_TIME
    implied = (per_j * np.asarray(found.energy_j)).sum(axis=-1) + per_s * T
    residuals = _feasible(problem, found)
    residuals["primal_deadline"] = np.maximum((T - longest_s) / longest_s, 0.0)
    follows = {
        "total_energy_j": np.asarray(found.energy_j).sum(axis=-1), "lower_bound": lower,
        "energy_price_per_j": bound.joule, "deadline_price_per_s": deadline_price(T, longest_s, rest),
    }  # fmt: skip
    _hold(residuals, claims, follows)
    return _verdict(residuals, cost, implied, lower, scale, per_hz)


def deadline_price(round_s: FloatArray, longest_s: FloatArray, rest: FloatArray) -> FloatArray:
    """Fall of the cost per second of a later deadline, 0 where the round ends before it; `rest` of `cost_bound`."""
    return np.where(round_s < longest_s, 0.0, np.maximum(-rest, 0.0))


@np.errstate(all="ignore")
def cost_bound(
    problem: Problem, found: Allotment, per_hz: FloatArray, per_j: FloatArray, per_s: FloatArray, round_s: FloatArray,
    cost: FloatArray,
) -> tuple[Bound, FloatArray, FloatArray, FloatArray]:  # fmt: skip
    """What no round by the deadline costs less than: bounds of the devices, what a second costs beyond theirs, the sum.

    Last the seconds that a round may take: one so long that its seconds alone cost more than the allocation at hand,
    of `round_s` seconds and that `cost`, is not better, whatever the deadline.
    """
    B, longest = (np.asarray(v)[..., 0] for v in (problem.cell.bandwidth_hz, problem.cell.deadline_s))
    most_s = np.fmin(longest, np.fmax(cost / per_s, round_s))
    bound = level_bound(variant(problem, deadline_s=most_s), found, per_hz, per_j, per_s)
    rest = per_s - bound.second.sum(axis=-1)
    return bound, rest, bound.value.sum(axis=-1) - per_hz * B + np.minimum(rest, 0.0) * most_s, most_s


@np.errstate(all="ignore")
def judge_priced(
    problem: Problem, found: Allotment, per_j: FloatArray, per_hz: FloatArray, cost: FloatArray, objective: FloatArray,
    shared_j: FloatArray, shared_per_j: FloatArray, claims: dict[str, FloatArray],
) -> Certificate:  # fmt: skip
    """Whether an allocation has the least ``sum alpha e(rho) + per_j E``, within a budget of all devices.

    `shared_per_j` is its price, shape ``(...)``; `claims` as for `judge_cost`.
    """
    B = np.asarray(problem.cell.bandwidth_hz)[..., 0]
    mu = np.asarray(shared_per_j)
    bound = kept_bound(problem, found, per_hz, per_j + mu[..., None])
    paid = np.where(mu > 0.0, mu * shared_j, 0.0)
    lower = bound.value.sum(axis=-1) - per_hz * B - paid
    error = problem.pruning_error
    one = np.ones(problem.shape)
    reach = (np.asarray(problem.devices.weight) * (error.value(one) - error.value(0.0 * one))).sum(axis=-1)
    scale = reach + np.abs(cost) + per_hz * B + np.abs(paid) + bound.worth.sum(axis=-1)
    energy = np.asarray(found.energy_j)
    kept = (np.asarray(problem.devices.weight) * error.value(np.asarray(found.pruning_ratio))).sum(axis=-1)
    residuals = _feasible(problem, found)
    off = np.abs(np.asarray(objective) - kept) / np.maximum(kept, 1e-300)
    residuals["consistency"] = np.maximum(residuals["consistency"], np.where(kept == objective, 0.0, off))
    total = energy.sum(axis=-1)
    residuals["primal_shared_energy"] = np.where(total <= shared_j, 0.0, total / shared_j - 1.0)
    _hold(residuals, claims, {"total_energy_j": total, "lower_bound": lower})
    residuals["dual"] = np.maximum(-mu, 0.0)
    return _verdict(residuals, cost, kept + (np.asarray(per_j) * energy).sum(axis=-1), lower, scale, per_hz)


def _hold(residuals: dict[str, FloatArray], claims: dict[str, FloatArray], follows: dict[str, FloatArray]) -> None:
    """Add to the inconsistency by how much what is claimed differs from what follows, relative to that."""
    for name, claimed in claims.items():
        said, due = np.asarray(claimed), follows[name]
        off = np.abs(said - due) / np.maximum(np.abs(due), 1e-300)
        off = np.where((said == due) | (np.isnan(said) & np.isnan(due)), 0.0, np.where(np.isnan(off), np.inf, off))
        worst = off if off.ndim == residuals["consistency"].ndim else np.max(off, axis=-1, initial=0.0)
        residuals["consistency"] = np.maximum(residuals["consistency"], worst)


def _verdict(
    residuals: dict[str, FloatArray], cost: FloatArray, implied: FloatArray, lower: FloatArray, scale: FloatArray,
    per_hz: FloatArray,
) -> Certificate:  # fmt: skip
    off = np.abs(cost - implied) / np.maximum(np.abs(implied), 1e-300)
    off = np.where(cost == implied, 0.0, np.where(np.isnan(off), np.inf, off))
    residuals["consistency"] = np.maximum(residuals["consistency"], off)
    gap = np.where(scale > 0.0, (cost - lower) / scale, 0.0)
    gap = np.where(np.isnan(cost - lower), np.inf, gap)
    # What no allocation costs less than cannot lie above the cost of this one: such prices prove nothing.
    no_bound = np.maximum(-gap, 0.0)
    residuals["dual"] = np.maximum(residuals.get("dual", np.zeros_like(off)), np.maximum(-per_hz, no_bound))
    return Certificate(residuals, gap, np.asarray(per_hz), np.zeros_like(gap), np.zeros_like(gap), CERTIFIED)

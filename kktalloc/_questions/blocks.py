"""Bandwidth in whole resource blocks: the exact integer optimum, by marginal gains.

What a device gains from one more block never grows with the blocks it has (its best objective is convex in its
bandwidth). For such separable problems an allocation is optimal exactly when no single block is worth more somewhere
else, so greedy marginal allocation ends at the optimum (Fox 1966; Gross 1956), and so does any exchange of blocks
that stops only when none improves. The exchange here starts where the continuous optimum is rounded at its own price,
a few blocks from the answer, instead of handing out every block by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kktalloc._certificate.certificate import Certificate, feasibility
from kktalloc._device.at_bandwidth import best_at, pruning_ratio_at
from kktalloc._device.clocked import Clocked, clocked_form, least_bandwidth, most_kept
from kktalloc._device.feasibility import least_deadline, whole_blocks
from kktalloc._device.form import Reduced
from kktalloc._device.reduced import invert, reduce, scatter
from kktalloc._problem.allocation import Allotment, outcome
from kktalloc._problem.arrays import FloatArray, as_float64, first_wrong, speaks_arrays
from kktalloc._problem.problem import Problem
from kktalloc._problem.shown import Rows, Shown, span
from kktalloc._problem.stats import measured
from kktalloc._problem.tolerances import CERTIFIED, FEASIBLE
from kktalloc._problem.variant import WHOLE, refuse_total_power, rows, variant
from kktalloc._questions.diagnosis import Diagnosis, diagnose
from kktalloc._questions.export import device_table, headline
from kktalloc._questions.judgement import InfeasibleError, Judged, close
from kktalloc._questions.solution import solve

IntArray = NDArray[np.int64]
START_ITERATIONS = 30
MOST_BLOCKS = 2.0**53  # whole numbers beyond are not told apart


@dataclass(frozen=True, eq=False, repr=False)
class BlockDiagnosis(Diagnosis):
    """A diagnosis whose remedies hold in whole blocks of ``block_hz``, shape ``(...)``."""

    block_hz: FloatArray

    @cached_property
    def bandwidth_needed_hz(self) -> FloatArray:
        """Least cell bandwidth whose whole blocks would do, shape ``(...)``; ``inf`` where none would."""
        size = self.block_hz.ravel() / np.asarray(self.problem.cell.bandwidth_hz)[..., 0].ravel()
        needed, _, _ = whole_blocks(_form(self.problem), size)
        return needed.sum(axis=1).reshape(self.problem.batch_shape) * self.block_hz

    @cached_property
    def deadline_needed_s(self) -> FloatArray:
        """Least deadline at which the floors fit into whole blocks, shape ``(...)``; ``inf`` where none does."""
        return least_deadline(self.problem, block_hz=self.block_hz)


@dataclass(frozen=True, eq=False, repr=False)
class BlockSolution(Shown, Judged, Allotment):
    """An optimal allocation in whole blocks. Device arrays have shape ``(..., K)``, the rest the batch shape.

    Entries of infeasible problems are NaN, and no blocks.

    Parameters
    ----------
    block_hz
        Bandwidth of one block.
    blocks
        Blocks of each device, integers; together at most what fits in the cell.
    pruning_ratio, bandwidth_hz, tx_power_w, upload_s, latency_s, energy_j, clock, objective
        As in `Solution`; the power is the least that sends the payload in time. Devices with a clock have the power and
        the clock of the least bandwidth for what they keep.
    lower_bound
        Objective of the continuous optimum: what blocks of any size cannot beat.
    diagnosis
        For infeasible problems what is missing, else None.
    """

    problem: Problem
    block_hz: FloatArray
    blocks: IntArray
    objective: FloatArray
    lower_bound: FloatArray
    diagnosis: Diagnosis | None

    def _shown(self) -> tuple[str, Rows]:
        costs = f"objective {span(self.objective)}, of which whole blocks cost {span(self.gap)}"
        return headline(self, f"blocks of {span(self.block_hz)} Hz, {costs}"), device_table(self, blocks=self.blocks)

    @property
    def gap(self) -> FloatArray:
        """What whole blocks cost: objective minus that of the continuous optimum, >= 0 up to rounding."""
        return self.objective - self.lower_bound

    @cached_property
    def certificate(self) -> Certificate:
        """The verdict on these arrays; `dataclasses.replace` has it found anew, writing into them does not.

        Beyond what makes an allocation one: ``whole``, whether the bandwidths are whole blocks that fit. The gap is
        what the best move of a single block would gain; where none gains, none of any number does.
        """
        problem, size = self.problem, np.asarray(self.block_hz)
        timed = ("clock",) if problem.clocked else ()
        claims = {n: getattr(self, n) for n in ("upload_s", "latency_s", "energy_j", "objective", *timed)}
        found = self.pruning_ratio, self.bandwidth_hz, self.tx_power_w
        residuals = feasibility(problem, *found, claims)
        counts, fit = np.asarray(self.blocks), blocks_in(problem, size)
        with np.errstate(invalid="ignore"):
            off = np.abs(np.asarray(self.bandwidth_hz) / size[..., None] - counts).max(axis=-1, initial=0.0)
        residuals["whole"] = np.where((counts.sum(axis=-1) <= fit) & ~np.isnan(off), off, np.inf)
        fine = np.isfinite(np.asarray(self.objective)).ravel()
        gain = np.full(fine.size, np.inf)
        if fine.any():
            ledger, counts = _ledger(problem, size.ravel(), fine), counts.reshape(fine.size, -1)[fine]
            gain[fine] = ledger.best_move(counts.astype(float))
        nothing = np.zeros(problem.batch_shape)
        return Certificate(residuals, gain.reshape(problem.batch_shape), nothing, nothing, nothing, CERTIFIED)


@speaks_arrays
@measured
def solve_blocks(problem: Problem, block_hz: ArrayLike, throw: bool = True) -> BlockSolution:
    """Allocate the bandwidth in whole resource blocks, exactly.

    Parameters
    ----------
    problem
        One problem or a batch, with no cap on total power that binds.
    block_hz
        Bandwidth of one block, > 0, shape ``(...)``; the cell holds ``floor(bandwidth_hz / block_hz)`` of them.
    throw
        Raise for infeasible problems; with False inspect ``diagnosis``.

    Raises
    ------
    InfeasibleError
        Some device cannot meet its floor, or the floors together need more whole blocks than there are.
    ValueError
        If `block_hz` is not positive and finite, does not fit the batch, or the optimum takes more power than there is.
    """
    size = block_size(problem, block_hz)
    asked, problem = problem, variant(problem, total_power_w=None) if problem.capped else problem
    form = _form(problem)
    B = np.broadcast_to(np.asarray(problem.cell.bandwidth_hz)[..., 0], problem.batch_shape).ravel()
    block = size.ravel() / B
    floors, most, limit = whole_blocks(form, block)
    fine = floors.sum(axis=1) <= limit
    diagnosis = None if fine.all() else _diagnose(problem, form, size, floors, limit)
    if diagnosis is not None and throw:
        raise InfeasibleError(diagnosis)

    part = form.rows(fine)
    ledger = _Ledger(part, block[fine, None], floors[fine], most[fine], limit[fine])
    counts = ledger.floors
    if fine.any():
        counts = ledger.exchange(_start(rows(problem, fine), ledger, size.ravel()[fine], B[fine]))
    found = invert(problem, fine, *_at_bandwidth(part, counts * ledger.block))
    blocks = scatter(problem, fine, counts, 0.0).astype(np.int64)
    # In Hz as whole blocks, not as shares of the cell.
    found["bandwidth_hz"] = np.where(np.isnan(found["pruning_ratio"]), np.nan, blocks * size[..., None])
    allocation = (found[name] for name in ("pruning_ratio", "bandwidth_hz", "tx_power_w", "clock"))
    found |= outcome(problem, *allocation)
    refuse_total_power(asked, np.nansum(found["tx_power_w"], axis=-1), "solve_blocks", WHOLE)
    bound = solve(asked, throw=False).objective
    answer = BlockSolution(**found, problem=asked, block_hz=size, blocks=blocks, lower_bound=bound, diagnosis=diagnosis)
    return close(answer, throw)


def blocks_in(problem: Problem, block_hz: FloatArray) -> FloatArray:
    """How many blocks the cell holds, shape ``(...)``; rounding must not cost one."""
    return np.asarray(np.floor(np.asarray(problem.cell.bandwidth_hz)[..., 0] / block_hz * (1.0 + FEASIBLE)))


def _ledger(problem: Problem, size: FloatArray, fine: np.ndarray) -> _Ledger:
    """What blocks are worth in the problems that the mask selects."""
    form = _form(problem)
    block = size / np.broadcast_to(np.asarray(problem.cell.bandwidth_hz)[..., 0], problem.batch_shape).ravel()
    floors, most, limit = whole_blocks(form, block)
    return _Ledger(form.rows(fine), block[fine, None], floors[fine], most[fine], limit[fine])


def block_size(problem: Problem, block_hz: ArrayLike) -> FloatArray:
    """`block_hz` broadcast to the batch, or a ValueError that says why it is no bandwidth of a block."""
    size = as_float64("block_hz", block_hz)
    ok = (size > 0.0) & np.isfinite(size)
    if not ok.all():
        raise ValueError(f"{first_wrong('block_hz', size, ok)}: must be > 0 and finite")
    try:
        size = np.broadcast_to(size, problem.batch_shape)
    except ValueError:
        raise ValueError(f"block_hz: shape {size.shape} does not broadcast to {problem.batch_shape}") from None
    bandwidth = np.broadcast_to(np.asarray(problem.cell.bandwidth_hz)[..., 0], problem.batch_shape)
    fine = bandwidth / MOST_BLOCKS > size
    if fine.any():
        index = tuple(int(i) for i in np.argwhere(fine)[0])
        raise ValueError(
            f"block_hz{list(index) if index else ''} = {size[index]}: the cell of {bandwidth[index]} Hz would have "
            "more than 2^53 blocks, which cannot be counted"
        )
    return size


def _form(problem: Problem) -> Reduced | Clocked:
    return clocked_form(problem) if problem.clocked else reduce(problem)


def _at_bandwidth(
    form: Reduced | Clocked, b: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray | None]:
    """Pruning ratio, bandwidth, power in peaks and clock (None without one) of devices with bandwidths b in cells."""
    if not isinstance(form, Clocked):
        at = best_at(form, b)
        return pruning_ratio_at(form, at.s), b, at.p, None
    rho = _least_pruned(form, b)
    point = least_bandwidth(form, 1.0 - rho)
    return rho, b, point.p, point.clock


def _least_pruned(form: Reduced | Clocked, b: FloatArray) -> FloatArray:
    """The least that devices prune with bandwidths b, in cells, which suffice for their floors."""
    if not isinstance(form, Clocked):
        return pruning_ratio_at(form, best_at(form, b).s)
    some = b > 0.0
    kept = np.where(some, most_kept(form, np.where(some, b, 1.0)), form.q_min)
    rho = np.where(1.0 - (1.0 - kept) > kept, np.nextafter(1.0 - kept, 2.0), 1.0 - kept)
    return np.clip(rho, 0.0, 1.0 - form.q_min)


def _diagnose(
    problem: Problem, form: Reduced | Clocked, size: FloatArray, floors: FloatArray, limit: FloatArray
) -> Diagnosis:
    """As for the continuous problem, but with whole blocks in mind."""
    loose = diagnose(problem, None if isinstance(form, Clocked) else form)
    resource = np.full(problem.shape, "", dtype="<U13") if loose is None else loose.resource
    needed = floors.sum(axis=1)
    feasible = (needed <= limit).reshape(problem.batch_shape)
    crowded = (np.isfinite(needed) & (needed > limit)).reshape(problem.batch_shape)
    wanting = (floors > 0.0).reshape(problem.shape)
    alone = np.isinf(floors).reshape(problem.shape) & (
        resource == ""
    )  # no whole number of blocks is enough and not too many
    resource = np.where(alone, "bandwidth_max", resource)
    resource = np.where(crowded[..., None] & wanting, "bandwidth", resource)
    return BlockDiagnosis(problem, feasible, resource, size)


def _start(problem: Problem, ledger: _Ledger, size: FloatArray, bandwidth_hz: FloatArray) -> FloatArray:
    """Blocks of every device at the price of a continuous optimum: near the answer, often the answer itself.

    At a price, a device wants its continuous bandwidth rounded down, and one block more if that block alone is worth
    the price. The continuous problem's bandwidth is moved until these wishes fill the cell.
    """
    # Whole blocks at the floor let a device keep more than its floor: that is what the others can count on.
    rho_max = _least_pruned(ledger.form, ledger.floors * ledger.block)
    counts = ledger.floors
    smallest = np.full(size.shape, np.inf)
    low, high = ledger.floors.sum(axis=1) * size, (ledger.limit + counts.shape[1]) * size
    share = bandwidth_hz
    for _ in range(START_ITERATIONS):
        at = solve(variant(problem, bandwidth_hz=share, pruning_ratio_max=rho_max), throw=False)
        price = (at.prices.bandwidth_per_hz * size)[:, None]
        wish = np.maximum(np.nan_to_num(np.floor(at.bandwidth_hz / size[:, None])), ledger.floors)
        wish = np.minimum(wish, ledger.most)
        wish += ledger.gain(wish) > price
        excess = wish.sum(axis=1) - ledger.limit
        # With bandwidth to spare fewer blocks than there are will do.
        excess = np.where(price[:, 0] > 0.0, excess, np.maximum(excess, 0.0))
        better = np.abs(excess) < smallest
        counts, smallest = np.where(better[:, None], wish, counts), np.where(better, np.abs(excess), smallest)
        if (smallest == 0.0).all():
            break
        low, high = np.where(excess < 0.0, share, low), np.where(excess > 0.0, share, high)
        moved = share - excess * size
        share = np.where((moved > low) & (moved < high), moved, 0.5 * (low + high))
    return counts


@dataclass(frozen=True, eq=False)
class _Ledger:
    """What blocks are worth; arrays of shape ``(N, K)``, bandwidths in cells."""

    form: Reduced | Clocked
    block: FloatArray  # (N, 1)
    floors: FloatArray  # least blocks of each device
    most: FloatArray  # the most that it can use itself
    limit: FloatArray  # (N,), blocks in the cell

    def cost(self, counts: FloatArray) -> FloatArray:
        """Each device's term of the objective; blocks that it cannot use change nothing."""
        form, counts = self.form, np.minimum(counts, self.most)
        return form.weight * form.error.value(_least_pruned(form, counts * self.block))

    def gain(self, counts: FloatArray) -> FloatArray:
        """What one more block is worth."""
        return self.cost(counts) - self.cost(counts + 1.0)

    def best_move(self, counts: FloatArray) -> FloatArray:
        """The most that one block more, out of the spare ones or from another device, would gain; shape ``(N,)``."""
        here = self.cost(counts)
        gains = np.where(counts < self.most, here - self.cost(counts + 1.0), -np.inf).max(axis=1, initial=-np.inf)
        losses = np.where(counts > self.floors, self.cost(np.maximum(counts - 1.0, self.floors)) - here, np.inf)
        cheapest = np.where(counts.sum(axis=1) < self.limit, 0.0, losses.min(axis=1, initial=np.inf))
        with np.errstate(invalid="ignore"):
            return np.maximum(np.nan_to_num(gains - cheapest, nan=0.0, neginf=0.0), 0.0)

    def exchange(self, counts: FloatArray) -> FloatArray:
        """Add, take back and move blocks until no single block is worth more somewhere else."""
        # What a keep ratio that is searched for leaves open is more than rounding.
        noise = (1e-12 if isinstance(self.form, Clocked) else 8.0 * np.finfo(np.float64).eps) * self.form.weight
        rank = np.arange(counts.shape[1])
        while True:
            here = self.cost(counts)
            gains = np.where(counts < self.most, here - self.cost(counts + 1.0) - noise, -np.inf)
            losses = np.where(counts > self.floors, self.cost(np.maximum(counts - 1.0, self.floors)) - here, np.inf)
            best, cheapest = np.argsort(-gains, axis=1), np.argsort(losses, axis=1)
            offered, asked = np.take_along_axis(gains, best, 1), np.take_along_axis(losses, cheapest, 1)
            left = (self.limit - counts.sum(axis=1))[:, None]
            # Blocks to spare go to the best bidders, missing ones are taken from the cheapest. When neither is the
            # case, pair the best bid with the cheapest holder, the second best with the second, and so on: every
            # pair in which the bid is higher improves, and no device is on both sides, for its own loss exceeds its
            # gain.
            swap = (left == 0.0) & (offered > asked)
            add = (rank < left) & (offered > 0.0) | swap
            drop = (rank < -left) & (asked < np.inf) | swap
            if not (add.any() or drop.any()):
                return counts
            move = np.zeros_like(counts)
            np.put_along_axis(move, best, add.astype(float), 1)
            back = np.zeros_like(counts)
            np.put_along_axis(back, cheapest, drop.astype(float), 1)
            counts = counts + move - back

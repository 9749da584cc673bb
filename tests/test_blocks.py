"""Whole resource blocks: exact against brute force, and against the continuous problem."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from independent import best_keep_ratio, floor_bandwidth_hz, physical
from problems import REGIMES, infeasible_problem, random_problem

import kktalloc as ka
from kktalloc._problem.variant import variant


def brute_force(problem: ka.Problem, block_hz: float) -> float:
    """Best objective over every way to hand out the blocks; inf where none reaches the floors."""
    v = physical(problem)
    K, total = problem.shape[-1], round(v["B"] / block_hz)
    counts = np.arange(total + 1.0)
    q = np.array([best_keep_ratio(v, np.full(K, n * block_hz)) for n in counts])
    idle = (v["q_min"] == 0) & (v["S0"] == 0)
    enough = counts[:, None] * block_hz >= np.where(idle, 0, floor_bandwidth_hz(problem) * (1 - 1e-12))
    cost = np.where(enough, v["alpha"] * problem.pruning_error.value(1 - np.maximum(q, v["q_min"])), np.inf)
    ways = np.array([w for w in product(range(total + 1), repeat=K) if sum(w) <= total])
    return float(cost[ways, np.arange(K)].sum(axis=1).min())


@settings(max_examples=50)
@given(
    seed=st.integers(0, 2**32), devices=st.integers(1, 4), count=st.integers(1, 9), regime=st.sampled_from(REGIMES),
    exponent=st.sampled_from([None, 1.5, 3.0]),
)  # fmt: skip
def test_exact_against_brute_force(seed: int, devices: int, count: int, regime: str, exponent: float | None) -> None:
    problem = random_problem(np.random.default_rng(seed), devices, regime, stress=False)
    if exponent is not None:
        problem = ka.Problem(cell_of(problem), problem.devices, ka.PowerLaw(exponent))
    block = float(np.asarray(problem.cell.bandwidth_hz)[0]) / count
    best = brute_force(problem, block)
    answer = ka.solve_blocks(problem, block, throw=False)
    if best == np.inf:
        assert answer.diagnosis is not None
        assert np.isnan(answer.objective)
    else:
        assert answer.diagnosis is None
        assert answer.objective == pytest.approx(best, abs=1e-9)
        assert answer.blocks.sum() <= count
        assert answer.gap >= -1e-9


def cell_of(problem: ka.Problem) -> ka.Cell:
    c = problem.cell
    return ka.Cell(*(np.asarray(v)[..., 0] for v in (c.bandwidth_hz, c.noise_psd_w_per_hz, c.deadline_s)))


def test_no_single_block_is_worth_more_somewhere_else() -> None:
    """Local optimality, which for separable convex costs is global, on cells far beyond brute force."""
    rng = np.random.default_rng(5)
    solved = 0
    for i in range(20):
        problem = random_problem(rng, 40, REGIMES[i % len(REGIMES)], stress=False)
        v = physical(problem)
        block = v["B"] / int(rng.integers(60, 2000))
        s = ka.solve_blocks(problem, block, throw=False)
        if s.diagnosis is not None:
            continue
        solved += 1
        blocks = s.blocks.astype(float)
        less, here, more = (
            v["alpha"] * (1 - np.maximum(best_keep_ratio(v, np.maximum(blocks + n, 0.0) * block), v["q_min"]))
            for n in (-1, 0, 1)
        )
        removable = (blocks - 1) * block >= floor_bandwidth_hz(problem)
        assert np.max(here - more) <= np.min((less - here)[removable], initial=np.inf) + 1e-9
        spare = round(v["B"] / block) - s.blocks.sum()
        assert spare >= 0
        assert spare == 0 or np.max(here - more) <= 1e-9
    assert solved > 12


def test_feasible_and_on_time() -> None:
    rng = np.random.default_rng(6)
    for i in range(20):
        problem = random_problem(rng, regime=REGIMES[i % len(REGIMES)], stress=False)
        s = ka.solve_blocks(problem, float(np.asarray(problem.cell.bandwidth_hz)[0]) / 500, throw=False)
        if s.diagnosis is None:
            judged = ka.certify(
                problem, s.pruning_ratio, s.bandwidth_hz, s.tx_power_w, bandwidth_price_per_hz=0.0,
                upload_s=s.upload_s, latency_s=s.latency_s, energy_j=s.energy_j, objective=s.objective,
            )  # fmt: skip
            assert judged.residuals["consistency"] <= 1e-9
            assert max(v for n, v in judged.residuals.items() if n.startswith("primal")) <= 1e-9


def test_fine_blocks_reach_the_continuous_optimum() -> None:
    problem = random_problem(np.random.default_rng(3), 10, "mixed", stress=False)
    B = float(np.asarray(problem.cell.bandwidth_hz)[0])
    gaps = [float(ka.solve_blocks(problem, B / n).gap) for n in (10**3, 10**4, 10**5, 10**6)]
    assert gaps == sorted(gaps, reverse=True)
    assert 0 <= gaps[-1] < 1e-6


def test_a_batch_is_its_problems() -> None:
    rng = np.random.default_rng(9)
    singles = [random_problem(rng, 5, regime, stress=False) for regime in ("floor", "peak", "mixed", "saturated")]
    singles.append(infeasible_problem(rng, "peak_power", 5)[0])
    names = ("bandwidth_hz", "noise_psd_w_per_hz", "deadline_s")
    cell = {n: [float(np.asarray(getattr(p.cell, n))[0]) for p in singles] for n in names}
    devices = {n: np.stack([getattr(p.devices, n) for p in singles]) for n in ka.Devices.__dataclass_fields__}
    batch = ka.Problem(ka.Cell(**cell), ka.Devices(**devices))
    sizes = np.array(cell["bandwidth_hz"]) / [100, 50, 25, 12, 50]
    together = ka.solve_blocks(batch, sizes, throw=False)
    for i, problem in enumerate(singles):
        alone = ka.solve_blocks(problem, sizes[i], throw=False)
        np.testing.assert_array_equal(together.blocks[i], alone.blocks)
        np.testing.assert_allclose(together.objective[i], alone.objective, rtol=1e-12)
    with pytest.raises(ka.InfeasibleError, match=r"problem \[\d\]"):
        ka.solve_blocks(batch, sizes)


def test_infeasible_says_what_would_do_in_whole_blocks() -> None:
    rng = np.random.default_rng(11)
    problem = random_problem(rng, 12, "floor", stress=False)
    floors = floor_bandwidth_hz(problem)
    block = float(np.asarray(problem.cell.bandwidth_hz)[0]) / 18  # room for one each, not for every floor rounded up
    with pytest.raises(ka.InfeasibleError, match="bandwidth") as caught:
        ka.solve_blocks(problem, block)
    diagnosis = caught.value.diagnosis
    assert set(diagnosis.resource) == {"bandwidth"}
    assert float(diagnosis.bandwidth_needed_hz) == pytest.approx(block * np.ceil(floors / block).sum(), rel=1e-12)
    enough = variant(problem, bandwidth_hz=float(diagnosis.bandwidth_needed_hz))
    assert ka.solve_blocks(enough, block).diagnosis is None
    later = float(diagnosis.deadline_needed_s)
    assert ka.solve_blocks(variant(problem, deadline_s=later), block).diagnosis is None
    assert ka.solve_blocks(variant(problem, deadline_s=later * (1 - 1e-6)), block, throw=False).diagnosis is not None


def test_edges() -> None:
    devices = ka.Devices([1e-10, 2e-10], 0.1, 1e6, 0.1)
    problem = ka.Problem(ka.Cell(1e6, 4e-21, 1.0), devices)
    none = ka.solve_blocks(problem, 2e6)  # not one block fits: everybody drops everything
    np.testing.assert_array_equal(none.blocks, 0)
    np.testing.assert_array_equal(none.pruning_ratio, 1.0)
    np.testing.assert_array_equal(none.tx_power_w, 0.0)
    busy = variant(problem, payload_bits=1e9)
    assert ka.solve_blocks(busy, 1e6 / 3).blocks.sum() == 3  # three thirds fit, whatever rounding says
    empty = ka.Problem(ka.Cell(1e6, 4e-21, 1.0), ka.Devices(np.ones(0), 0.1, 1e6, 0.1))
    assert ka.solve_blocks(empty, 1e5).objective == 0.0
    with pytest.raises(ValueError, match=r"block_hz = 0\.0: must be > 0"):
        ka.solve_blocks(problem, 0.0)
    with pytest.raises(ValueError, match=r"block_hz: shape \(2,\) does not broadcast"):
        ka.solve_blocks(problem, [1e5, 1e5])
    with pytest.raises(ValueError, match="block_hz: expected numbers, got 'many'"):
        ka.solve_blocks(problem, "many")
    with pytest.raises(ValueError, match=r"block_hz = -5\.0: must be > 0"):
        ka.least_deadline(problem, block_hz=-5.0)
    capped = ka.Problem(ka.Cell(1e6, 4e-21, 1.0, total_power_w=0.1), devices)
    with pytest.raises(ValueError, match=r"cell\.total_power_w = 0\.1: least_deadline in blocks"):
        ka.least_deadline(capped, block_hz=1e5)


def test_a_cap_on_total_power_that_does_not_bind_changes_nothing() -> None:
    rng = np.random.default_rng(9)
    for i in range(7):
        problem = random_problem(rng, 5, REGIMES[i], stress=False)
        block = float(np.asarray(problem.cell.bandwidth_hz)[0]) / 40
        free = ka.solve_blocks(problem, block, throw=False)
        if free.diagnosis is not None or not (used := float(free.tx_power_w.sum())):
            continue
        capped = ka.solve_blocks(variant(problem, total_power_w=used * (1 + 1e-9)), block)
        np.testing.assert_array_equal(capped.blocks, free.blocks)
        assert capped.objective == free.objective
        assert capped.gap >= -1e-9
        assert capped.problem.capped
        with pytest.raises(ValueError, match=r"cell\.total_power_w = .*: solve_blocks, exact under one budget alone"):
            ka.solve_blocks(variant(problem, total_power_w=0.99 * used), block)


def test_blocks_that_cannot_be_counted_are_refused() -> None:
    problem = ka.Problem(ka.Cell([1e6, 1e9], 4e-21, 1.0), ka.Devices([2e-12, 5e-12], 0.1, 4e6, 0.2))
    with pytest.raises(
        ValueError, match=r"^block_hz\[1\] = 1e-08: the cell of 1000000000.0 Hz would have more than 2\^53"
    ):
        ka.solve_blocks(problem, 1e-8)

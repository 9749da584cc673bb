"""A device that can use no more than so much bandwidth: honoured by every question, priced and explained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from problems import random_problem

import kktalloc as ka
from kktalloc._problem.variant import variant
from kktalloc.plan import least_bandwidth, least_deadline

CURVES = (None, ka.PowerLaw(2.0), ka.Table(np.linspace(0, 1, 6), np.linspace(0, 1, 6) ** 2))


def narrowed(rng: np.random.Generator, devices: int = 5, capped: bool | None = None) -> ka.Problem:
    """A problem in which some devices would use more bandwidth than they can."""
    while True:
        free = random_problem(rng, devices, None, stress=False)
        solution = ka.solve(free)
        b = np.asarray(solution.bandwidth_hz)
        most = np.where(
            rng.random(b.shape) < 0.6, np.maximum(b, 1e-3 * b.max()) * rng.uniform(0.4, 1.3, b.shape), np.inf
        )
        capped = bool(rng.random() < 0.5) if capped is None else capped
        watts = float(np.sum(solution.tx_power_w)) * rng.uniform(0.3, 1.1) if capped else None
        problem = variant(free, CURVES[int(rng.integers(3))], bandwidth_max_hz=most, total_power_w=watts)
        if ka.solve(problem, throw=False).diagnosis is None:
            return problem


def held(problem: ka.Problem, bandwidth_hz: np.ndarray) -> bool:
    return bool((bandwidth_hz <= np.asarray(problem.devices.bandwidth_max_hz) * (1.0 + 1e-12)).all())


def test_no_limit_changes_no_bit() -> None:
    rng = np.random.default_rng(0)
    for _ in range(4):
        problem = random_problem(rng, 6)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("KKTALLOC_ENGINE", "numpy")
            plain = ka.solve(problem)
            loose = ka.solve(variant(problem, bandwidth_max_hz=1e300))
        np.testing.assert_allclose(loose.pruning_ratio, plain.pruning_ratio, atol=1e-12)


def test_against_cvxpy() -> None:
    rng = np.random.default_rng(3)
    for _ in range(4):
        problem = variant(narrowed(rng, 4), ka.Linear())
        ours, peer = ka.solve(problem), ka.solve_reference(problem)
        if not str(peer.status).startswith("optimal"):
            continue
        assert held(problem, ours.bandwidth_hz)
        assert float(ours.objective) == pytest.approx(float(peer.objective), abs=1e-6)


def test_certified_and_explained_with_every_curve_and_budget() -> None:
    rng = np.random.default_rng(11)
    seen = 0
    for _ in range(12):
        problem = narrowed(rng)
        solution = ka.solve(problem)
        at_limit = np.asarray(solution.regime) == ka.Regime.BANDWIDTH_MAX
        seen += int(at_limit.sum())
        np.testing.assert_allclose(
            solution.bandwidth_hz[at_limit], np.asarray(problem.devices.bandwidth_max_hz)[at_limit], rtol=1e-11
        )
        # A device at its floor may be held up too: more bandwidth would save it power. Who is not, pays nothing.
        loose = np.asarray(solution.bandwidth_hz) < np.asarray(problem.devices.bandwidth_max_hz) * (1.0 - 1e-8)
        assert (np.asarray(solution.prices.bandwidth_max_per_hz)[loose] == 0.0).all()
    assert seen > 8


@pytest.mark.parametrize("capped", [False, True])
def test_its_price_is_the_slope_of_the_objective(capped: bool) -> None:
    rng = np.random.default_rng(7)
    checked = 0
    for _ in range(8):
        problem = variant(narrowed(rng, 4, capped), ka.PowerLaw(2.0))
        solution = ka.solve(problem, throw=False)
        if solution.diagnosis is not None:
            continue
        limit = np.asarray(problem.devices.bandwidth_max_hz)
        for k in np.flatnonzero(np.asarray(solution.regime) == ka.Regime.BANDWIDTH_MAX):
            step = 1e-4 * np.where(np.arange(4) == k, limit, 0.0)
            low, high = (
                float(ka.solve(variant(problem, bandwidth_max_hz=limit + sign * step)).objective) for sign in (-1, 1)
            )
            price = float(solution.prices.bandwidth_max_per_hz[k])
            slope = (low - high) / (2.0 * step[k])
            # A kink of another device within the step leaves it between one-sided slopes.
            assert slope == pytest.approx(price, rel=0.02, abs=1e-7 / limit[k])
            checked += 1
    assert checked > 4


def test_every_question_honours_it() -> None:
    rng = np.random.default_rng(21)
    for i in range(4):
        problem = narrowed(rng, 4, capped=bool(i % 2))
        fair = ka.solve_minmax(problem)
        assert held(problem, fair.solution.bandwidth_hz)
        assert abs(float(fair.gap)) < 1e-8
        cheap = ka.least_energy(problem)
        assert held(problem, cheap.bandwidth_hz)
        assert float(cheap.gap_j) <= 1e-9 * float(cheap.total_energy_j)
        uncapped = variant(problem, total_power_w=None)
        block = float(np.asarray(problem.cell.bandwidth_hz)[0]) / 60.0
        blocks = ka.solve_blocks(uncapped, block, throw=False)
        if blocks.diagnosis is None:
            assert held(problem, blocks.bandwidth_hz)
            assert float(blocks.gap) >= -1e-12
        chosen = ka.select(uncapped)
        assert held(problem, chosen.solution.bandwidth_hz)
        T = float(least_deadline(problem))
        assert ka.solve(variant(problem, deadline_s=T), throw=False).diagnosis is None
        assert ka.solve(variant(problem, deadline_s=T * (1 - 1e-7)), throw=False).diagnosis is not None
        B = float(least_bandwidth(problem))
        if B > 0.0:
            assert ka.solve(variant(problem, bandwidth_hz=B), throw=False).diagnosis is None
            assert ka.solve(variant(problem, bandwidth_hz=B * (1 - 1e-7)), throw=False).diagnosis is not None


def test_a_limit_below_the_floor_is_named_by_device() -> None:
    devices = ka.Devices(
        channel_gain=[4e-14, 8e-14], tx_power_max_w=0.1, payload_bits=[1e6, 2e6], pruned_compute_s=0.25,
        pruning_ratio_max=0.5, bandwidth_max_hz=[1e4, np.inf], name=["cellar", "roof"],
    )  # fmt: skip
    problem = ka.Problem(ka.Cell(2e6, 4e-21, 1.0), devices)
    with pytest.raises(ka.InfeasibleError, match=r"device 0 \(cellar\) needs more bandwidth than it can use itself"):
        ka.solve(problem)
    diagnosis = ka.solve(problem, throw=False).diagnosis
    assert diagnosis is not None
    assert diagnosis.resource.tolist() == ["bandwidth_max", ""]
    assert np.isinf(diagnosis.bandwidth_needed_hz)
    assert ka.solve(variant(problem, deadline_s=float(diagnosis.deadline_needed_s)), throw=False).diagnosis is None
    assert ka.select(problem).resource.tolist() == ["bandwidth_max", ""]
    # No bandwidth at all is no gain at all: whom it leaves no choice is dropped, others lose nothing.
    silent = variant(problem, bandwidth_max_hz=[0.0, np.inf], pruning_ratio_max=1.0)
    deaf = variant(problem, bandwidth_max_hz=np.inf, channel_gain=[0.0, 8e-14], pruning_ratio_max=1.0)
    np.testing.assert_allclose(ka.solve(silent).pruning_ratio, ka.solve(deaf).pruning_ratio, atol=1e-12)


def test_certify_refuses_more_than_a_device_can_use() -> None:
    problem = narrowed(np.random.default_rng(2), 4, capped=False)
    s = ka.solve(problem)
    wide = ka.certify(
        variant(problem, bandwidth_max_hz=np.asarray(s.bandwidth_hz) * 0.99),
        s.pruning_ratio,
        s.bandwidth_hz,
        s.tx_power_w,
    )
    assert not wide
    assert float(wide.residuals["primal_bandwidth_max"]) == pytest.approx(1 / 0.99 - 1, rel=1e-6)


def test_scenario_files_hold_it_and_names(tmp_path: Path) -> None:
    file = tmp_path / "cell.json"
    devices = {"channel_gain": [4e-14, 8e-14], "tx_power_max_w": 0.1, "payload_bits": 1e5, "pruned_compute_s": 0.2}
    cell = {"bandwidth_hz": 2e6, "noise_psd_w_per_hz": 4e-21, "deadline_s": 1.0}
    file.write_text(
        json.dumps({"cell": cell, "devices": devices | {"bandwidth_max_hz": [1e5, "inf"], "name": ["a", "b"]}})
    )
    problem = ka.load_scenario(file)
    assert np.asarray(problem.devices.bandwidth_max_hz).tolist() == [1e5, np.inf]
    assert np.asarray(problem.devices.name).tolist() == ["a", "b"]
    file.write_text(json.dumps({"cell": cell, "devices": devices | {"name": ["a", 3]}}))
    with pytest.raises(ValueError, match=r"devices.name\[1\] = 3: must be a string"):
        ka.load_scenario(file)
    with pytest.raises(ValueError, match=r"devices.name: shape \(3,\) does not fit \(2,\)"):
        ka.Problem(ka.Cell(**cell), ka.Devices(**devices, name=["a", "b", "c"]))
    with pytest.raises(ValueError, match=r"^devices.name = \[\['a'\], \['b', 'c'\]\]: must be an array of strings$"):
        ka.Problem(ka.Cell(**cell), ka.Devices(**devices, name=[["a"], ["b", "c"]]))

"""The allocator: known answers, every regime against its certificate, CVXPY and SLSQP, and invariances."""

from __future__ import annotations

import re
from dataclasses import fields, replace

import numpy as np
import pytest
from independent import is_feasible, objective_at, slsqp
from numpy.typing import ArrayLike
from problems import REGIMES, RESOURCES, KnownAnswer, infeasible_problem, known_answers, random_problem

import kktalloc as ka
from kktalloc._problem.variant import variant

# Clarabel's stated feasibility and gap tolerance is 1e-8 on the scaled problem; the unscaled objective may lose
# a digit of it.
CLARABEL_TOLERANCE = 1e-7
KNOWN = [k for k in known_answers() if not k.total_power_price_per_w]


@pytest.mark.parametrize("known", KNOWN, ids=lambda k: k.name)
def test_known_answer(known: KnownAnswer) -> None:
    s = ka.solve(known.problem)
    assert s.objective == pytest.approx(known.objective, abs=1e-13)
    for got, want in (
        (s.pruning_ratio, known.pruning_ratio),
        (s.bandwidth_hz, known.bandwidth_hz),
        (s.tx_power_w, known.tx_power_w),
        (s.prices.bandwidth_per_hz, known.bandwidth_price_per_hz),
        (s.prices.deadline_per_s, known.deadline_price_per_s),
        (s.prices.energy_per_j, known.energy_price_per_j),
        (s.prices.peak_power_per_w, known.peak_power_price_per_w),
    ):
        determined = ~np.isnan(np.broadcast_to(want, np.shape(got)))
        scale = np.max(np.abs(want), initial=0.0, where=~np.isnan(want))
        np.testing.assert_allclose(
            np.asarray(got)[determined], np.broadcast_to(want, np.shape(got))[determined], rtol=1e-8, atol=1e-9 * scale
        )


@pytest.fixture(scope="module")
def solved() -> list[ka.Solution]:
    """500 random problems, 1 to 50 devices, every regime in turn; a third of them far beyond real cells."""
    rng = np.random.default_rng(20231)
    return [ka.solve(random_problem(rng, regime=REGIMES[i % len(REGIMES)])) for i in range(500)]


def test_every_residual_and_the_gap_are_within_1e_9(solved: list[ka.Solution]) -> None:
    seen = set()
    for s in solved:
        assert s.status is ka.Status.OPTIMAL
        for certificate in (
            s.certificate,  # at the solver's price
            ka.certify(s.problem, s.pruning_ratio, s.bandwidth_hz, s.tx_power_w),  # at the certificate's own
        ):
            for name, residual in certificate.residuals.items():
                assert 0 <= residual <= 1e-9, name
            assert abs(certificate.duality_gap) <= 1e-9
        seen |= set(np.unique(s.regime))
    assert seen == set(ka.Regime) - {ka.Regime.TOTAL_POWER, ka.Regime.BANDWIDTH_MAX, *CLOCKED}


def test_never_worse_than_cvxpy(solved: list[ka.Solution]) -> None:
    compared = 0
    for s in solved[::10]:
        reference = ka.solve_reference(s.problem)
        if reference.status in ("optimal", "optimal_inaccurate"):
            compared += 1
            # Its bandwidths, made exactly feasible: an upper bound on the optimum that no tolerance blurs.
            assert s.objective <= objective_at(s.problem, reference.bandwidth_hz) + 1e-9
    assert compared >= 40


def test_cvxpy_agrees_on_realistic_cells() -> None:
    rng = np.random.default_rng(5)
    optimal = 0
    for i in range(35):
        problem = random_problem(rng, regime=REGIMES[i % len(REGIMES)], stress=False)
        reference = ka.solve_reference(problem)
        optimal += reference.status == "optimal"
        if reference.status == "optimal":
            assert ka.solve(problem).objective == pytest.approx(float(reference.objective), abs=CLARABEL_TOLERANCE)
    assert optimal >= 25  # on the rest it says itself that it is inaccurate


def test_never_worse_than_slsqp_on_the_non_convex_problem(solved: list[ka.Solution]) -> None:
    small = [s for s in solved if s.problem.shape[-1] <= 12][:40]
    assert len(small) == 40
    for i, s in enumerate(small):
        assert slsqp(s.problem, np.random.default_rng(i), starts=3) >= s.objective - 1e-8


# Of devices with a clock and electronics, which tests/test_clock.py is about.
CLOCKED = ka.Regime.CLOCK, ka.Regime.CLOCK_MIN, ka.Regime.EARLY_FINISH
CLOCK_PRICES = "clock_max", "clock_min", "circuit_power_per_w"
ARRAYS = ("pruning_ratio", "bandwidth_hz", "tx_power_w", "upload_s", "latency_s", "energy_j", "objective")


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("factor", [1 - 1e-3, 1 + 1e-3])
def test_certificate_refuses_each_corrupted_array(solved: list[ka.Solution], name: str, factor: float) -> None:
    for s in solved[::10]:
        values = np.asarray(getattr(s, name))
        if not values.any():
            continue
        assert not replace(s, **{name: values * factor}).certificate.ok
        k = int(np.argmax(np.abs(values)))  # one entry alone
        one = np.where(np.arange(values.size) == k, factor, 1.0)
        assert not replace(s, **{name: (values * one).reshape(values.shape)}).certificate.ok


@pytest.mark.parametrize("name", [f.name for f in fields(ka.Prices) if f.name not in CLOCK_PRICES])
def test_certificate_refuses_corrupted_prices(solved: list[ka.Solution], name: str) -> None:
    tried = 0
    for s in solved[::10]:
        price = np.asarray(getattr(s.prices, name))
        # In a kink a whole interval of bandwidth prices is right.
        if price.any() and not (name == "bandwidth_per_hz" and set(s.regime) <= {0, 2, 4}):
            tried += 1
            assert not replace(s, prices=replace(s.prices, **{name: price * (1 + 1e-3)})).certificate.ok
    assert tried > 10 or name in ("total_power_per_w", "bandwidth_max_per_hz")


def test_certificate_refuses_a_corrupted_allocation_without_what_came_with_it(solved: list[ka.Solution]) -> None:
    scarce = [s for s in solved if s.prices.bandwidth_per_hz > 0][::10]
    assert len(scarce) > 30
    for s in scarce:
        right = {"pruning_ratio": s.pruning_ratio, "bandwidth_hz": s.bandwidth_hz, "tx_power_w": s.tx_power_w}
        for name, values in right.items():
            for factor in (1 - 1e-3, 1 + 1e-3):
                assert not ka.certify(s.problem, **(right | {name: values * factor})).ok, (name, factor)


def test_certificate_refuses_a_wrong_regime(solved: list[ka.Solution]) -> None:
    tried = 0
    for s in solved[::10]:
        q, q_min = 1 - s.pruning_ratio, 1 - np.asarray(s.problem.devices.pruning_ratio_max)
        for k in np.flatnonzero((q > q_min + 1e-3) & (q < 0.999))[:2]:
            for wrong in (ka.Regime.FLOOR, ka.Regime.SATURATED, ka.Regime.TOTAL_POWER):
                tried += 1
                regime = np.where(np.arange(q.size) == k, wrong, s.regime)
                assert not replace(s, regime=regime).certificate.ok, (s.regime[k], wrong)
    assert tried > 50


@pytest.mark.parametrize("resource", RESOURCES)
def test_infeasible_names_device_and_resource_and_what_would_do(resource: str) -> None:
    rng = np.random.default_rng(7)
    for _ in range(25):
        problem, device = infeasible_problem(rng, resource)
        assert not is_feasible(problem)
        with pytest.raises(ka.InfeasibleError, match=resource) as caught:
            ka.solve(problem)
        d = caught.value.diagnosis
        lacking = np.flatnonzero(d.devices)
        assert set(d.resource[lacking]) == {resource}
        assert device == -1 or list(lacking) == [device]
        assert ka.solve(problem, throw=False).status is ka.Status.INFEASIBLE
        # What the message says would do, does.
        for field, amount in re.findall(r"(bandwidth_hz|deadline_s) (\S+) instead", str(caught.value)):
            ka.solve(variant(problem, **{field: float(amount)}))
        # So does what the diagnosis says to the last digit; a little less does not.
        for field, needed in (("bandwidth_hz", d.bandwidth_needed_hz), ("deadline_s", d.deadline_needed_s)):
            if np.isfinite(needed):
                ka.solve(variant(problem, **{field: float(needed)}))
                short = ka.solve(variant(problem, **{field: float(needed) * (1 - 1e-6)}), throw=False)
                assert short.status is ka.Status.INFEASIBLE
            else:
                more = ka.solve(variant(problem, **{field: 1e6 * float(np.ravel(getattr(problem.cell, field))[0])}),
                                throw=False)  # fmt: skip
                assert more.status is ka.Status.INFEASIBLE


def test_one_device_alone_needs_nothing_together() -> None:
    phone = ka.Devices([2e-12], 0.1, 4e6, 0.2, pruning_ratio_max=0.5)
    with pytest.raises(ka.InfeasibleError, match=r"device 0 needs more bandwidth than the cell has \(bandwidth\)"):
        ka.solve(ka.Problem(ka.Cell(1e5, 4e-21, 1.0), phone))
    needed = ka.least_bandwidth(ka.Problem(ka.Cell(1e6, 4e-21, 1.0), phone))
    with pytest.raises(ka.InfeasibleError, match=r"device 0 needs more power than the cell allows \(total_power\)"):
        ka.solve(ka.Problem(ka.Cell(1.1 * needed, 4e-21, 1.0, total_power_w=0.01), phone))


def test_total_power_needed_is_zero_where_it_is_not_what_lacks() -> None:
    phone = ka.Devices([2e-12], 0.1, 4e6, 0.2, pruning_ratio_max=0.5)
    roomy = float(ka.least_bandwidth(ka.Problem(ka.Cell(1e6, 4e-21, 1.0), phone))) * 1.1
    for bandwidth, cap, lacks in ((1e5, None, "bandwidth"), (1e5, 0.01, "bandwidth"), (roomy, 0.01, "total_power")):
        d = ka.solve(ka.Problem(ka.Cell(bandwidth, 4e-21, 1.0, cap), phone), throw=False).diagnosis
        assert d is not None
        assert d.resource[0] == lacks
        assert (d.total_power_needed_w > 0.01) if lacks == "total_power" else (d.total_power_needed_w == 0.0)


def test_feasible_problems_are_never_called_infeasible(solved: list[ka.Solution]) -> None:
    for s in solved[::5]:
        assert is_feasible(s.problem)
        assert s.diagnosis is None


def test_a_batch_is_its_problems(solved: list[ka.Solution]) -> None:
    rng = np.random.default_rng(3)
    singles = [random_problem(rng, devices=6) for _ in range(12)]
    bad, _ = infeasible_problem(rng, "bandwidth", devices=6)
    singles.insert(5, bad)
    cell = {f.name: np.stack([np.asarray(getattr(p.cell, f.name))[0] for p in singles]).reshape(13)
            for f in fields(ka.Cell) if f.name != "total_power_w"}  # fmt: skip
    devices = {f.name: np.stack([getattr(p.devices, f.name) for p in singles]) for f in fields(ka.Devices)}
    batch = ka.solve(ka.Problem(ka.Cell(**cell), ka.Devices(**devices)), throw=False)
    assert batch.pruning_ratio.shape == (13, 6)
    for i, problem in enumerate(singles):
        alone = ka.solve(problem, throw=False)
        assert batch.status[i] is alone.status
        np.testing.assert_allclose(batch.pruning_ratio[i], alone.pruning_ratio, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(batch.bandwidth_hz[i], alone.bandwidth_hz, rtol=1e-7)
    with pytest.raises(ka.InfeasibleError, match=r"problem \[5\]"):
        ka.solve(batch.problem)


@pytest.mark.parametrize("seed", range(12))
def test_the_optimum_does_not_move(seed: int) -> None:
    """Metamorphic: permute, rescale units, merge identical devices, add slack budgets."""
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, stress=False)
    s = ka.solve(problem)
    K = problem.shape[-1]
    d = {f.name: np.asarray(getattr(problem.devices, f.name)) for f in fields(ka.Devices)}

    order = rng.permutation(K)
    permuted = ka.solve(variant(problem, **{k: v[order] for k, v in d.items()}))
    np.testing.assert_allclose(permuted.pruning_ratio, s.pruning_ratio[order], rtol=1e-8, atol=1e-11)

    B, T = float(problem.cell.bandwidth_hz[0]), float(problem.cell.deadline_s[0])
    bits = variant(
        problem,
        bandwidth_hz=B * 8,
        payload_bits=d["payload_bits"] * 8,
        overhead_bits=d["overhead_bits"] * 8,
        channel_gain=d["channel_gain"] * 8,
    )
    np.testing.assert_allclose(ka.solve(bits).pruning_ratio, s.pruning_ratio, rtol=1e-8, atol=1e-11)
    clock = variant(problem, bandwidth_hz=B / 4, deadline_s=T * 4, pruned_compute_s=d["pruned_compute_s"] * 4,
                    fixed_latency_s=d["fixed_latency_s"] * 4, channel_gain=d["channel_gain"] / 4,
                    energy_budget_j=d["energy_budget_j"] * 4, pruned_compute_j=d["pruned_compute_j"] * 4,
                    fixed_energy_j=d["fixed_energy_j"] * 4)  # fmt: skip
    np.testing.assert_allclose(ka.solve(clock).pruning_ratio, s.pruning_ratio, rtol=1e-8, atol=1e-11)

    twice = ka.solve(variant(problem, bandwidth_hz=2 * B, **{k: np.tile(v, 2) for k, v in d.items()}))
    assert twice.objective == pytest.approx(float(s.objective), abs=1e-11)

    roomy = np.where(np.isfinite(d["energy_budget_j"]), d["energy_budget_j"], 1e3 * s.energy_j)
    slack = ka.solve(variant(problem, energy_budget_j=roomy))
    assert slack.objective == pytest.approx(float(s.objective), abs=1e-11)


def test_no_devices_is_a_trivial_problem() -> None:
    s = ka.solve(ka.Problem(ka.Cell(1e6, 4e-21, 1.0), ka.Devices(np.ones(0), 0.1, 1e6, 0.1)))
    assert s.objective == 0.0
    assert s.status is ka.Status.OPTIMAL


@pytest.mark.parametrize("known", KNOWN, ids=lambda k: k.name)
def test_unpruned_least_deadline_is_the_shortest_round(known: KnownAnswer) -> None:
    """At the least deadline of unpruned training nobody prunes and the bandwidth is used up."""
    d = known.problem.devices
    problem = variant(known.problem, pruning_ratio_max=0.0, energy_budget_j=np.inf)
    shortest = float(ka.least_deadline(problem))
    s = ka.solve(variant(problem, deadline_s=shortest))
    np.testing.assert_array_equal(s.pruning_ratio, 0.0)
    assert s.bandwidth_hz.sum() == pytest.approx(float(problem.cell.bandwidth_hz[0]), rel=1e-9)
    np.testing.assert_allclose(s.latency_s, shortest, rtol=1e-9)
    assert shortest > np.max(np.asarray(d.fixed_latency_s) + np.asarray(d.pruned_compute_s))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channel_gain": None}, "devices.channel_gain: expected numbers, got None"),
        ({"tx_power_max_w": "0.2"}, "devices.tx_power_max_w: expected numbers, got '0.2'"),
        ({"channel_gain": True}, "devices.channel_gain: expected numbers, got True"),
        ({"channel_gain": [1e-11, float("nan")]}, "devices.channel_gain[1] = nan: must be >= 0 and finite"),
        ({"payload_bits": [1e6, 0.0]}, "devices.payload_bits[1] = 0.0: must be > 0 and finite"),
        ({"pa_efficiency": 1.5}, "devices.pa_efficiency = 1.5: must be > 0 and <= 1"),
        ({"weight": [0.0, 0.0]}, "devices.weight: at least one weight of each problem must be > 0"),
        ({"payload_bits": [1e6] * 3}, "devices.payload_bits: shape (3,) does not broadcast with (2,)"),
    ],
)
def test_bad_input_is_named(changes: dict[str, object], message: str) -> None:
    good = {"channel_gain": [3e-11, 1e-11], "tx_power_max_w": 0.2, "payload_bits": 2e6, "pruned_compute_s": 0.1}
    with pytest.raises(ValueError, match=re.escape(message)):
        ka.Problem(ka.Cell(1e6, 4e-21, 0.5), ka.Devices(**(good | changes)))


@pytest.mark.parametrize("engine", ["numpy", ""], ids=["numpy", "default"])
@pytest.mark.parametrize(
    ("weight", "where"),
    [
        (0.0, ""),
        ([0.0, 0.0], ""),  # the same row for all
        ([[1, 1], [0, 1], [0, 0], [0, 0]], "[2]"),
        ([[1.0], [1.0], [1.0], [0.0]], "[3]"),
        ([[[1, 1]] * 4, [[1, 1], [0, 0], [1, 1], [1, 1]]], "[1, 1]"),
    ],
)
def test_a_problem_without_weight_is_named(
    weight: ArrayLike, where: str, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KKTALLOC_ENGINE", engine)
    cell, devices = ka.Cell(np.full(4, 1e6), 4e-21, 0.5), ka.Devices([3e-11, 1e-11], 0.2, 2e6, 0.1, weight=weight)
    with pytest.raises(ValueError, match="^" + re.escape(f"devices.weight{where}: at least one weight of each")):
        ka.Problem(cell, devices)


def test_a_regime_that_does_not_exist_is_refused() -> None:
    s = ka.solve(KNOWN[0].problem)
    for codes in (s.regime * 1.001, s.regime + 100, s.regime * 0 - 1):
        assert not replace(s, regime=codes).certificate.ok


def test_things_of_the_wrong_kind_are_named() -> None:
    cell, devices = ka.Cell(1e6, 4e-21, 1.0), ka.Devices([1e-10], 0.1, 1e6, 0.1)
    with pytest.raises(TypeError, match=r"^cell: expected Cell, got Devices$"):
        ka.Problem(devices, cell)
    with pytest.raises(TypeError, match=r"^devices: expected Devices, got float$"):
        ka.Problem(cell, 1.0)
    with pytest.raises(TypeError, match=r"^pruning_error: expected a curve such as Linear or PowerLaw, got 'linear'$"):
        ka.Problem(cell, devices, "linear")
    with pytest.raises(TypeError, match=r"^problem: expected a Problem, got Cell$"):
        ka.solve(cell)

"""Devices with a clock and electronics: the closed forms against brute force, and the fields that describe them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import fuzz_clock
import numpy as np
import pytest
from clock_cases import brute_bandwidth_hz, clock_cell, clock_cells
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import kktalloc as ka
from kktalloc.__main__ import main as command
from kktalloc._device.clocked import Clocked, clocked_form, least_bandwidth
from kktalloc._engine import clock_engine, compiled_clocks

FloatArray = NDArray[np.float64]


def form_of(seed: int, devices: int = 40) -> tuple[ka.Problem, Clocked]:
    problem = clock_cell(np.random.default_rng(seed), devices)
    return problem, clocked_form(problem)


@pytest.mark.parametrize("q", [1e-3, 0.3, 0.95])
def test_the_least_bandwidth_is_that_of_a_search_over_time(q: float) -> None:
    """Golden sections over the upload's time on the original constraints, nothing of the closed forms."""
    problem, form = form_of(7, 400)
    found = least_bandwidth(form, np.full(form.q_min.shape, q)).b[0] * problem.cell.bandwidth_hz
    searched = brute_bandwidth_hz(problem, np.full(problem.shape, q))
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(searched))
    some = np.isfinite(found)
    assert some.sum() > 100
    np.testing.assert_allclose(found[some], searched[some], rtol=1e-10)


def test_the_slope_is_that_of_differences_in_every_regime() -> None:
    seen: dict[int, float] = {}
    for seed in range(6):
        _, form = form_of(seed, 300)
        for q in (0.1, 0.5, 0.9):
            step = 1e-6
            at, low, high = (least_bandwidth(form, np.full(form.q_min.shape, q + d)) for d in (0.0, -step, step))
            smooth = np.isfinite(high.b) & (low.regime == high.regime)
            with np.errstate(invalid="ignore"):
                off = np.abs((high.b - low.b) / (2.0 * step) / at.slope - 1.0)
            for regime in np.unique(at.regime[smooth]):
                here = off[smooth & (at.regime == regime)]
                seen[int(regime)] = max(seen.get(int(regime), 0.0), float(np.median(here)))
    assert seen.keys() >= {
        ka.Regime.PEAK, ka.Regime.ENERGY, ka.Regime.KINK, ka.Regime.CLOCK, ka.Regime.CLOCK_MIN, ka.Regime.EARLY_FINISH
    }  # fmt: skip
    assert max(seen.values()) < 1e-8, seen


def test_power_is_balanced_to_1e_10() -> None:
    """``p_c + 2 (j/c) s^3 = (p/eta) psi(y)`` within the clock's range, without its term where uploads end early."""
    worst: dict[ka.Regime, float] = {}
    for seed in range(8):
        _, form = form_of(seed, 300)
        at = least_bandwidth(form, np.full(form.q_min.shape, 0.4))
        with np.errstate(all="ignore"):
            y = np.log1p(form.snr * at.p / at.b)
            radiated = at.p * (y * np.exp(y) / np.expm1(y) - 1.0)
            kappa = np.where(form.work1 > 0.0, form.heat1 / form.work1, 0.0)
        for regime, clock in ((ka.Regime.CLOCK, 2.0 * kappa * at.clock**3), (ka.Regime.EARLY_FINISH, 0.0 * kappa)):
            here = (at.regime == regime) & np.isfinite(at.b) & (y > 1e-3)  # below, y itself is all rounding
            drawn = form.circuit + clock
            off = np.abs(drawn - radiated)[here] / radiated[here]
            worst[regime] = max(worst.get(regime, 0.0), float(off.max(initial=0.0)))
    assert len(worst) == 2
    assert max(worst.values()) <= 1e-10, worst


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6))
def test_the_least_bandwidth_is_convex_and_rises(seed: int) -> None:
    _, form = form_of(seed, 20)
    grid = np.linspace(0.02, 1.0, 41)
    b = np.array([least_bandwidth(form, np.full(form.q_min.shape, q)).b[0] for q in grid])
    for here in b.T:
        here = here[np.isfinite(here)]
        if here.size < 3:
            continue
        bend = np.diff(here, 2)
        assert (np.diff(here) >= 0.0).all()
        assert (bend >= -1e-10 * here[2:]).all()


@pytest.mark.parametrize("seed", range(12))
def test_cells_are_certified(seed: int) -> None:
    problem = clock_cell(np.random.default_rng(1000 + seed), 6)
    solution = ka.solve(problem, throw=False)
    if solution.diagnosis is not None:
        floors = brute_bandwidth_hz(problem, 1.0 - np.asarray(problem.devices.pruning_ratio_max))
        assert not floors.sum() <= np.asarray(problem.cell.bandwidth_hz)[0] * (1.0 - 1e-9)
        return
    assert solution.status is ka.Status.OPTIMAL
    d = problem.devices
    # Latency and energy in the original variables.
    q = 1.0 - solution.pruning_ratio
    work = (d.pruned_compute_s * q + d.fixed_compute_s) / solution.clock
    np.testing.assert_allclose(solution.latency_s, d.fixed_latency_s + work + solution.upload_s, rtol=1e-12)
    heat = (d.pruned_compute_j * q + d.fixed_compute_j) * solution.clock**2
    sent = (solution.tx_power_w / d.pa_efficiency + d.circuit_power_w) * solution.upload_s
    np.testing.assert_allclose(solution.energy_j, heat + sent + d.fixed_energy_j, rtol=1e-12)
    assert (solution.latency_s <= problem.cell.deadline_s * (1.0 + 1e-9)).all()
    assert (solution.energy_j <= d.energy_budget_j * (1.0 + 1e-9)).all()


@pytest.mark.parametrize("name", ["pruning_ratio", "bandwidth_hz", "tx_power_w", "clock", "energy_j"])
def test_the_certificate_refuses_what_is_a_little_off(name: str) -> None:
    problem = clock_cell(np.random.default_rng(5), 6, roomy=True)
    solution = ka.solve(problem)
    moving = np.flatnonzero((solution.pruning_ratio > 1e-3) & (solution.pruning_ratio < 1.0))
    assert moving.size
    for factor in (1.0 - 1e-6, 1.0 + 1e-6):
        values = np.array(getattr(solution, name))
        values[moving[0]] *= factor
        assert not replace(solution, **{name: values}).certificate.ok


def test_defaults_are_the_plain_problem_to_the_last_bit() -> None:
    from problems import random_problem

    from kktalloc._problem.fields import CLOCKED

    problem = random_problem(np.random.default_rng(3), 5, "mixed")
    d = {n: getattr(problem.devices, n) for n in ka.Devices.__dataclass_fields__}
    cell = ka.Cell(*(None if v is None else np.asarray(v)[0] for v in vars(problem.cell).values()))
    given_out = ka.Problem(cell, ka.Devices(**d | {n: np.full(5, v) for n, v in CLOCKED.items()}))
    assert not given_out.clocked
    one, other = ka.solve(problem), ka.solve(given_out)
    for name in ("pruning_ratio", "bandwidth_hz", "tx_power_w", "upload_s", "latency_s", "energy_j", "clock"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (one.clock == 1.0).all()


def test_a_clock_that_cannot_move_is_the_plain_problem() -> None:
    """At a fixed clock of 2 computing takes half the time and four times the energy."""
    rng = np.random.default_rng(11)
    for _ in range(5):
        problem = clock_cell(rng, 4, roomy=True)
        d = {n: np.asarray(getattr(problem.devices, n)) for n in ka.Devices.__dataclass_fields__}
        cell = ka.Cell(*(None if v is None else np.asarray(v)[0] for v in vars(problem.cell).values()))
        fixed = d | {"clock_min": 2.0, "clock_max": 2.0, "circuit_power_w": 0.0}
        plain = {
            "pruned_compute_s": d["pruned_compute_s"] / 2.0, "pruned_compute_j": d["pruned_compute_j"] * 4.0,
            "fixed_latency_s": d["fixed_latency_s"] + d["fixed_compute_s"] / 2.0,
            "fixed_energy_j": d["fixed_energy_j"] + d["fixed_compute_j"] * 4.0,
            "clock_min": 1.0, "clock_max": 1.0, "circuit_power_w": 0.0, "fixed_compute_s": 0.0, "fixed_compute_j": 0.0,
        }  # fmt: skip
        one = ka.solve(ka.Problem(cell, ka.Devices(**fixed)), throw=False)
        other = ka.solve(ka.Problem(cell, ka.Devices(**d | plain)), throw=False)
        assert one.status == other.status
        if one.diagnosis is None:
            np.testing.assert_allclose(one.objective, other.objective, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clock_min": 2.0}, "devices.clock_min = 2.0: must be <= clock_max = 1.0"),
        ({"clock_min": 0.0}, "devices.clock_min = 0.0: must be > 0 and finite"),
        ({"circuit_power_w": -1.0}, "devices.circuit_power_w = -1.0: must be >= 0 and finite"),
        (
            {"fixed_compute_s": 0.1, "fixed_compute_j": 0.3},
            r"devices.fixed_compute_j = 0.3: must be to fixed_compute_s = 0.1 as pruned_compute_j = 0.1 to",
        ),
        ({"fixed_compute_s": 0.1}, "devices.fixed_compute_j = 0.0: must be to fixed_compute_s"),
    ],
)
def test_bad_fields_are_refused_by_name(changes: dict[str, float], message: str) -> None:
    usual = {"channel_gain": [1e-9], "tx_power_max_w": 0.1, "payload_bits": 1e6, "pruned_compute_s": 0.2}
    with pytest.raises(ValueError, match=message):
        ka.Problem(ka.Cell(1e6, 1e-20, 1.0), ka.Devices(**usual | {"pruned_compute_j": 0.1} | changes))


@pytest.mark.filterwarnings("ignore:devices.channel_gain")
@pytest.mark.parametrize("energy_budget_j", [0.02, 0.05, 10.0])
@pytest.mark.parametrize("circuit_power_w", [0.01, 0.5])
def test_least_budgets_are_proved_in_any_unit_of_bandwidth(circuit_power_w: float, energy_budget_j: float) -> None:
    """What a Hz is worth beside the pruning error has no say in how little bandwidth will do."""
    found = []
    for hz in (1.0, 1e-9, 1e-18):
        devices = ka.Devices(
            2e-12 * np.ones(2), 0.1, 1e6 * hz, 0.2, energy_budget_j=[0.05, energy_budget_j], pruned_compute_j=1e-3,
            circuit_power_w=[0.01, circuit_power_w], clock_min=0.5, clock_max=2.0, pruning_ratio_max=0.5,
        )  # fmt: skip
        problem = ka.Problem(ka.Cell(5e6 * hz, 4e-21 / hz, 2.0), devices)
        found.append([float(ka.least_bandwidth(problem)) / hz, float(ka.least_deadline(problem))])
    np.testing.assert_allclose(found, [found[0]] * 3, rtol=1e-11)


@pytest.mark.parametrize("seed", range(4))
def test_least_budgets_are_those_at_which_the_floors_just_fit(seed: int) -> None:
    problem = clock_cell(np.random.default_rng(2000 + seed), 4, roomy=True)
    level = np.full(4, 0.7)
    hertz = ka.least_bandwidth(problem, level)
    searched = brute_bandwidth_hz(problem, 1.0 - level).sum()
    np.testing.assert_allclose(hertz, searched, rtol=1e-10)
    if not np.isfinite(hertz):
        return
    seconds = ka.least_deadline(problem, level)
    assert np.isfinite(seconds)
    d = {n: np.asarray(v) for n, v in vars(problem.devices).items()}
    cell = [np.asarray(v)[0] for v in vars(problem.cell).values() if v is not None]
    for factor, fits in ((1.0 - 1e-6, False), (1.0 + 1e-6, True)):
        other = ka.Problem(ka.Cell(cell[0], cell[1], seconds * factor), ka.Devices(**d))
        assert (brute_bandwidth_hz(other, 1.0 - level).sum() <= cell[0]) == fits


@pytest.mark.parametrize("seed", range(4))
def test_the_fair_level_is_that_of_a_search(seed: int) -> None:
    problem = clock_cell(np.random.default_rng(3000 + seed), 3, roomy=True)
    fair = ka.solve_minmax(problem, throw=False)
    if fair.diagnosis is not None:
        return
    assert fair.status is ka.Status.OPTIMAL
    weight = np.asarray(problem.devices.weight) * 3.0
    low, high = 0.0, float(weight.max())
    for _ in range(45):
        middle = 0.5 * (low + high)
        fits = brute_bandwidth_hz(problem, np.maximum(1.0 - middle / weight, 0.0)).sum() <= problem.cell.bandwidth_hz[0]
        low, high = (low, middle) if fits else (middle, high)
    np.testing.assert_allclose(fair.level, high, atol=1e-9)


def test_selection_keeps_whom_the_cell_can_serve() -> None:
    problem = clock_cell(np.random.default_rng(41), 8)
    d = {n: np.asarray(v) for n, v in vars(problem.devices).items()} | {"pruning_ratio_max": np.full(8, 0.5)}
    cell = [np.asarray(v)[0] for v in vars(problem.cell).values() if v is not None]
    hard = ka.Problem(ka.Cell(*cell), ka.Devices(**d))
    floors = brute_bandwidth_hz(hard, np.full(8, 0.5))
    chosen = ka.select(hard)
    assert floors[chosen.kept].sum() <= cell[0] * (1.0 + 1e-9)
    count = np.searchsorted(np.cumsum(np.sort(floors)), cell[0] * (1.0 - 1e-9))
    assert chosen.kept.sum() == count
    assert chosen.status is ka.Status.OPTIMAL


@pytest.mark.parametrize("seed", [100, 101, 102, 105])
def test_whole_blocks_are_those_of_all_ways_to_hand_them_out(seed: int) -> None:
    problem = clock_cell(np.random.default_rng(seed), 3, roomy=True)
    number, size = 7, float(problem.cell.bandwidth_hz[0]) / 7
    whole = ka.solve_blocks(problem, size, throw=False)
    d = {n: np.asarray(v) for n, v in vars(problem.devices).items()}
    cell = [np.asarray(v)[0] for v in vars(problem.cell).values() if v is not None]
    # What each device prunes by itself with 0 to 7 blocks; none at all is no bandwidth.
    pruned = np.full((3, number + 1), np.inf)
    pruned[:, 0] = np.where(
        brute_bandwidth_hz(problem, 1.0 - d["pruning_ratio_max"]) == 0.0, d["pruning_ratio_max"], np.inf
    )
    for k, count in product(range(3), range(1, number + 1)):
        alone = ka.Problem(ka.Cell(count * size, *cell[1:]), ka.Devices(**{n: v[k : k + 1] for n, v in d.items()}))
        found = ka.solve(alone, throw=False)
        pruned[k, count] = np.inf if found.diagnosis is not None else found.pruning_ratio[0]
    ways = [w for w in product(range(number + 1), repeat=3) if sum(w) <= number]
    best = min(sum(d["weight"][k] * pruned[k, n] for k, n in enumerate(w)) for w in ways)
    if np.isinf(best):
        assert whole.status is ka.Status.INFEASIBLE
        return
    assert whole.status is ka.Status.OPTIMAL
    np.testing.assert_allclose(whole.objective, best, rtol=0, atol=1e-10)
    assert float(whole.gap) >= -1e-12


def test_what_does_not_take_clocks_says_so() -> None:
    problem = clock_cell(np.random.default_rng(1), 2, roomy=True)
    with pytest.raises(ValueError, match=r"devices\.\w+\[\d\] = .*clocks, electronics"):
        ka.solve_reference(problem)


LEVEL = {"channel_gain": [2e-12, 5e-12, 1e-11], "tx_power_max_w": 0.1, "payload_bits": 4e6, "pruned_compute_s": 0.2,
         "pruned_compute_j": 0.02, "energy_budget_j": 0.3}  # fmt: skip


def test_the_least_energy_of_a_clock_that_cannot_move_is_the_plain_one() -> None:
    cell = ka.Cell(3e6, 4e-21, 1.0)
    plain = ka.least_energy(ka.Problem(cell, ka.Devices(**LEVEL)), 0.5)
    still = ka.least_energy(ka.Problem(cell, ka.Devices(**LEVEL, circuit_power_w=[1e-13, 0.0, 0.0])), 0.5)
    assert still.status is ka.Status.OPTIMAL
    np.testing.assert_allclose(still.total_energy_j, plain.total_energy_j, rtol=1e-10)
    np.testing.assert_allclose(still.bandwidth_hz, plain.bandwidth_hz, rtol=1e-6)
    np.testing.assert_allclose(still.bandwidth_price_j_per_hz, plain.bandwidth_price_j_per_hz, rtol=1e-6)


@pytest.mark.parametrize("clocked", [{"circuit_power_w": 0.05}, {"clock_min": 0.4, "clock_max": 1.5}])
def test_the_least_energy_with_clocks(clocked: dict[str, float]) -> None:
    """Its price is that of differences, no other bandwidths are cheaper, and a little more energy is refused."""
    devices = ka.Devices(**LEVEL, **clocked)

    def least(bandwidth_hz: float) -> ka.LeastEnergy:
        return ka.least_energy(ka.Problem(ka.Cell(bandwidth_hz, 4e-21, 1.0), devices), 0.5)

    best = least(3e6)
    assert best.status is ka.Status.OPTIMAL
    assert abs(float(best.gap_j)) <= 1e-12
    step = 3e3
    measured = float(least(3e6 - step).total_energy_j - least(3e6 + step).total_energy_j) / (2.0 * step)
    np.testing.assert_allclose(best.bandwidth_price_j_per_hz, measured, rtol=1e-5)
    # Each device alone in another share of the cell.
    for shift in (0.98, 1.02):
        share = np.asarray(best.bandwidth_hz) * [shift, 1.0, 1.0]
        share[1] += best.bandwidth_hz[0] * (1.0 - shift)
        alone = [
            ka.least_energy(
                ka.Problem(ka.Cell(b, 4e-21, 1.0), ka.Devices(**LEVEL | {"channel_gain": [g]}, **clocked)), 0.5
            ).total_energy_j
            for b, g in zip(share, LEVEL["channel_gain"], strict=True)
        ]
        assert sum(map(float, alone)) > float(best.total_energy_j)
    worse = replace(best, tx_power_w=best.tx_power_w * 1.001, total_energy_j=best.total_energy_j * 1.001)
    assert not worse.certificate.ok


def test_the_least_energy_with_clocks_of_a_batch_and_of_what_is_infeasible() -> None:
    cell = ka.Cell([3e6, 1e3], 4e-21, 1.0)
    both = ka.least_energy(ka.Problem(cell, ka.Devices(**LEVEL, circuit_power_w=0.05)), 0.5, throw=False)
    assert list(both.status) == [ka.Status.OPTIMAL, ka.Status.INFEASIBLE]
    assert np.isnan(both.energy_j[1]).all()
    one = ka.least_energy(ka.Problem(ka.Cell(3e6, 4e-21, 1.0), ka.Devices(**LEVEL, circuit_power_w=0.05)), 0.5)
    np.testing.assert_allclose(both.total_energy_j[0], one.total_energy_j, rtol=1e-12)


def test_a_cap_on_total_power_is_refused_where_it_binds() -> None:
    problem = clock_cell(np.random.default_rng(5), 6, roomy=True)
    free = ka.solve(problem)
    d = {n: np.asarray(v) for n, v in vars(problem.devices).items()}
    cell = [np.asarray(v)[0] for v in vars(problem.cell).values() if v is not None]
    watts = float(free.tx_power_w.sum())
    loose = ka.solve(ka.Problem(ka.Cell(*cell, total_power_w=watts * 1.01), ka.Devices(**d)))
    np.testing.assert_allclose(loose.objective, free.objective, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="total_power_w"):
        ka.solve(ka.Problem(ka.Cell(*cell, total_power_w=watts * 0.5), ka.Devices(**d)))


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"circuit_power_w": [0.0, 0.02]}, "devices.circuit_power_w[1] = 0.02"),
        ({"clock_max": 2.0}, "devices.clock_max[0] = 2.0"),
        (
            {"circuit_power_w": 0.02, "clock_min": [1.0, 0.5], "clock_max": 2.0},
            "devices.circuit_power_w[0] = 0.02, devices.clock_min[1] = 0.5, devices.clock_max[0] = 2.0",
        ),
    ],
)
def test_a_refused_cap_names_all_that_it_does_not_go_with(given: dict[str, object], named: str) -> None:
    devices = ka.Devices([1e-11, 2e-11], 0.2, 1e7, 0.3, pruned_compute_j=0.01, **given)  # type: ignore[arg-type]
    problem = ka.Problem(ka.Cell(1e6, 4e-21, 1.0, total_power_w=0.05), devices)
    for ask in (ka.solve, ka.solve_minmax, ka.select, lambda p: ka.solve_bits(p, [8, 32], [0.1, 0.0])):
        with pytest.raises(ValueError, match=rf"^cell\.total_power_w = 0\.05: .* with {re.escape(named)}, not known"):
            ask(problem)
    with pytest.raises(ValueError, match=rf"^cell\.total_power_w = 0\.05: a least budget with {re.escape(named)}, not"):
        ka.least_bandwidth(problem, 0.1)
    with pytest.raises(ValueError, match=rf"^{re.escape(named)}: solve_reference has no cone"):
        ka.solve_reference(problem)


@pytest.mark.parametrize(
    ("price", "field", "sign"),
    [
        ("energy_per_j", "energy_budget_j", -1.0), ("peak_power_per_w", "tx_power_max_w", -1.0),
        ("clock_max", "clock_max", -1.0), ("clock_min", "clock_min", 1.0),
        ("circuit_power_per_w", "circuit_power_w", 1.0), ("bandwidth_per_hz", "bandwidth_hz", -1.0),
        ("deadline_per_s", "deadline_s", -1.0),
    ],
)  # fmt: skip
def test_prices_are_those_of_differences(price: str, field: str, sign: float) -> None:
    """Each lies between the two one-sided differences of the objective; somewhere it is not 0."""
    seen = 0
    for seed in (4030, 4036):
        problem = clock_cell(np.random.default_rng(seed), 3, roomy=True)
        free = ka.solve(problem, throw=False)
        if free.diagnosis is not None or float(free.prices.bandwidth_per_hz) == 0.0:
            continue
        d = {n: np.asarray(v) for n, v in vars(problem.devices).items()}
        cell = {n: float(np.asarray(v)[0]) for n, v in vars(problem.cell).items() if v is not None}
        prices = np.atleast_1d(getattr(free.prices, price))
        for k, expected in enumerate(prices):
            table = cell if field in cell else d
            at = float(np.atleast_1d(table[field])[k])
            step, slopes = 1e-5 * at if at > 0.0 else 1e-6, []
            for move in (-step, step):
                if at + move < 0.0:
                    continue
                changed = np.array(table[field], dtype=float)
                changed[... if field in cell else k] += move
                if field in ("clock_min", "clock_max"):  # the other end gives way
                    both = np.sort([changed, d["clock_max" if field == "clock_min" else "clock_min"]], axis=0)
                    other = d | {"clock_min": both[0], "clock_max": both[1]}
                else:
                    other = d if field in cell else d | {field: changed}
                budget = cell | ({field: float(changed)} if field in cell else {})
                there = ka.solve(ka.Problem(ka.Cell(**budget), ka.Devices(**other)), throw=False)
                if there.diagnosis is None:
                    slopes.append(sign * (float(there.objective) - float(free.objective)) / move)
            if not slopes:
                continue
            room = 1e-3 * max(abs(s) for s in slopes) + 1e-8 / at if at > 0.0 else 1e-2 * abs(slopes[0]) + 1e-6
            assert min(slopes) - room <= expected <= max(slopes) + room, (seed, k, slopes)
            seen += expected > 0.0
    assert seen


def test_scenario_files_and_the_command_know_the_fields(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problem = clock_cell(np.random.default_rng(5), 3, roomy=True)
    path = tmp_path / "phones.toml"
    ka.save_scenario(problem, path)
    again = ka.load_scenario(path)
    for name in ("circuit_power_w", "clock_min", "clock_max", "fixed_compute_s", "fixed_compute_j"):
        np.testing.assert_array_equal(getattr(again.devices, name), getattr(problem.devices, name))
        assert name in ka.scenario_schema()["properties"]["devices"]["properties"]
    assert command(["solve", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    np.testing.assert_allclose(found["clock"], ka.solve(problem).clock)
    assert set(found["regime"]) <= {r.name.lower() for r in ka.Regime}
    assert {"clock_max", "clock_min", "circuit_power_per_w"} <= set(found["prices"])


def test_every_regime_explains_itself() -> None:
    assert len({regime.explanation for regime in ka.Regime}) == len(ka.Regime)


def test_the_fuzz_finds_nothing_and_would_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_clock, "CHUNK", 8)
    for number in (0, 2):
        counts, worst, wrong, _ = fuzz_clock.judge(17, number, 0)
        assert wrong == []
        assert counts["OPTIMAL"]
        assert worst["power balance"] <= 1e-10
    solve = ka.solve

    def unbalanced(problem: ka.Problem, throw: bool = True) -> ka.Solution:
        solution = solve(problem, throw)
        return replace(solution, clock=solution.clock * 1.001)

    monkeypatch.setattr(ka, "solve", unbalanced)
    assert fuzz_clock.judge(17, 2, 0)[2]


def test_no_start_of_ipopt_on_the_original_variables_is_better(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_clock, "CHUNK", 4)
    counts, worst, wrong, best = fuzz_clock.judge(18, 2, 2)
    assert wrong == []
    assert fuzz_clock.judge(18, 2, 2, best)[:3] == (counts, worst, wrong)
    assert counts["compared with IPOPT"]
    assert worst["above IPOPT"] <= 1e-9


@pytest.mark.parametrize("name", ["bandwidth_per_hz", "energy_per_j", "clock_max", "clock_min", "circuit_power_per_w"])
def test_the_certificate_refuses_other_prices(name: str) -> None:
    tried = 0
    for seed in range(20):
        solution = ka.solve(clock_cell(np.random.default_rng(seed), 6, roomy=True))
        price = np.asarray(getattr(solution.prices, name))
        if price.any() and solution.regime.max() > ka.Regime.SATURATED:
            tried += 1
            wrong = replace(solution.prices, **{name: price * (1.0 + 1e-3)})
            assert not replace(solution, prices=wrong).certificate.ok, seed
    assert tried


def of_kind(kind: str) -> ka.Problem:
    """Twelve cells with a curve, or with a limit on each device's own bandwidth."""
    problem = clock_cells(np.random.default_rng(77), 12, 4, roomy=True)
    ratio = np.linspace(0.0, 1.0, 9)
    curve = {"power law": ka.PowerLaw(2.0), "table": ka.Table(ratio, ratio**2)}.get(kind)
    d = {n: np.asarray(v) for n, v in vars(problem.devices).items()}
    cell = [np.asarray(v)[:, 0] for v in vars(problem.cell).values() if v is not None]
    if kind == "own bandwidth":
        d["bandwidth_max_hz"] = 0.3 * cell[0][:, None] * np.ones(4)
    return ka.Problem(ka.Cell(*cell), ka.Devices(**d), curve)


KINDS = ["linear", "power law", "table", "own bandwidth"]


@pytest.mark.skipif(ka.engine() != "compiled", reason="the kernel is not built")
@pytest.mark.parametrize("kind", KINDS)
def test_kernel_and_numpy_keep_the_same_at_a_price(kind: str) -> None:
    problem = of_kind(kind)
    for log_price in (-4.0, -1.0, 0.0, 2.0, 60.0):
        ours, theirs = compiled_clocks.kept(problem, log_price), clock_engine.kept(problem, log_price)
        assert ours is not None
        served = np.isfinite(theirs[1])
        assert (np.isfinite(ours[1]) == served).all()
        for one, other, within in zip(ours, theirs, (1e-9, 1e-9, 1e-6, 1e-6), strict=True):
            np.testing.assert_allclose(one[served], other[served], rtol=1e-6, atol=within)
    assert theirs[0][served].max() > 0.0


@pytest.mark.skipif(ka.engine() != "compiled", reason="the kernel is not built")
@pytest.mark.parametrize("kind", KINDS)
def test_kernel_and_numpy_agree(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objectives and the verdicts of both judges, each on the kernel's own allocation."""
    problem = of_kind(kind)
    ours = ka.solve(problem, throw=False)
    monkeypatch.setenv("KKTALLOC_ENGINE", "numpy")
    theirs = ka.solve(problem, throw=False)
    assert (ours.status == theirs.status).all()
    fine = ours.status == ka.Status.OPTIMAL
    assert fine.any()
    np.testing.assert_allclose(ours.objective[fine], theirs.objective[fine], rtol=0, atol=2e-9)
    said, judged = ours.certificate, replace(ours, objective=ours.objective).certificate
    for name, values in said.residuals.items():
        np.testing.assert_allclose(values[fine], judged.residuals[name][fine], rtol=1e-2, atol=1e-11, err_msg=name)
    np.testing.assert_allclose(said.duality_gap[fine], judged.duality_gap[fine], rtol=1e-2, atol=1e-11)

"""Devices that can send nothing but need not: without gain, power, energy or time, or of no weight. The rest must be
solved as if they were not there, with certified answers and true prices, on every engine and by every question."""

import numpy as np
import pytest

import kktalloc as ka

LIVE = {
    "channel_gain": [4e-13, 9e-13, 2e-13],
    "tx_power_max_w": 0.2,
    "payload_bits": 6e6,
    "pruned_compute_s": [0.2, 0.4, 0.1],
    "energy_budget_j": [0.08, np.inf, 0.05],
    "fixed_latency_s": 0.1,
}
DEAD = {
    "no gain": {"channel_gain": 0.0},
    "no power": {"tx_power_max_w": 0.0},
    "no energy": {"energy_budget_j": 0.0},
    "energy spent before": {"energy_budget_j": 0.03, "fixed_energy_j": 0.03},
    "no time": {"fixed_latency_s": 1.5},
    "no weight": {"weight": 0.0},
}
CELL = {"bandwidth_hz": 1e6, "noise_psd_w_per_hz": 4e-21, "deadline_s": 1.5}


@pytest.fixture(params=["compiled", "numpy"], autouse=True)
def engine(request, monkeypatch):
    if request.param == "numpy":
        monkeypatch.setenv("KKTALLOC_ENGINE", "numpy")


def cell(**changes):
    return ka.Cell(**(CELL | changes))


def devices(kinds, live=3, **changes):
    """The first `live` devices, and before them one dead device of each kind."""
    fields = {"weight": 1.0, "fixed_energy_j": 0.0} | LIVE | changes
    columns = {name: np.broadcast_to(value, 3)[:live] for name, value in fields.items()}
    for kind in kinds:
        columns = {
            name: np.append(DEAD[kind].get(name, np.broadcast_to(fields[name], 3)[0]), column)
            for name, column in columns.items()
        }
    return ka.Devices(**columns)


EACH = [(kind,) for kind in DEAD] + [tuple(DEAD)]


@pytest.mark.parametrize("total_power_w", [None, 0.3])
@pytest.mark.parametrize("kinds", EACH, ids=", ".join)
def test_the_live_ones_are_served_as_without_the_dead(kinds, total_power_w):
    n, where = len(kinds), cell(total_power_w=total_power_w)
    whole = ka.solve(ka.Problem(where, devices(kinds)))
    alone = ka.solve(ka.Problem(where, devices(())))
    assert whole.status is ka.Status.OPTIMAL
    assert whole.certificate.duality_gap <= 1e-9
    np.testing.assert_allclose(whole.pruning_ratio[n:], alone.pruning_ratio, atol=1e-9)
    if kinds != ("no weight",):
        np.testing.assert_array_equal(whole.pruning_ratio[:n][[k != "no weight" for k in kinds[::-1]]], 1.0)
    np.testing.assert_array_equal(whole.bandwidth_hz[:n], 0.0)


@pytest.mark.parametrize("total_power_w", [None, 0.15])
@pytest.mark.parametrize("live", [1, 3])
@pytest.mark.parametrize("kinds", EACH, ids=", ".join)
def test_prices_are_those_of_differences(kinds, live, total_power_w):
    def objective(bandwidth_hz=CELL["bandwidth_hz"], watts=total_power_w):
        problem = ka.Problem(cell(bandwidth_hz=bandwidth_hz, total_power_w=watts), devices(kinds, live))
        return float(ka.solve(problem).objective)

    prices = ka.solve(ka.Problem(cell(total_power_w=total_power_w), devices(kinds, live))).prices
    measured = (objective(0.9999e6) - objective(1.0001e6)) / 200.0
    assert measured > 1e-9
    np.testing.assert_allclose(prices.bandwidth_per_hz, measured, rtol=1e-5)
    if total_power_w is not None:
        step = 1e-5
        measured = (objective(watts=total_power_w - step) - objective(watts=total_power_w + step)) / (2 * step)
        np.testing.assert_allclose(prices.total_power_per_w, measured, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("total_power_w", [None, 0.3])
@pytest.mark.parametrize("kinds", [kinds for kinds in EACH if kinds != ("no weight",)], ids=", ".join)
def test_alone(kinds, total_power_w):
    solution = ka.solve(ka.Problem(cell(total_power_w=total_power_w), devices(kinds, live=0)))
    assert solution.status is ka.Status.OPTIMAL
    assert float(solution.objective) == 1.0
    assert abs(float(solution.prices.bandwidth_per_hz)) <= 1e-15


@pytest.mark.parametrize("kinds", EACH, ids=", ".join)
def test_every_question(kinds):
    problem, n = ka.Problem(cell(), devices(kinds)), len(kinds)
    live = ka.Problem(cell(), devices(()))
    fair = ka.solve_minmax(problem)
    assert fair.solution.status is ka.Status.OPTIMAL
    assert float(fair.gap) <= 1e-9
    blocks, known = ka.solve_blocks(problem, 5e4), ka.solve_blocks(live, 5e4)
    assert abs(float(blocks.objective) - objective_with(kinds, known.objective)) <= 1e-9
    chosen = ka.select(problem)
    assert chosen.kept[n:].all()
    level = np.where(np.arange(n + 3) < n, 1.0, 0.85)
    for least in (ka.least_bandwidth, ka.least_deadline):
        # A device that may drop everything needs nothing, but for the time that it is busy whatever is decided.
        if least is ka.least_deadline and "no time" in kinds:
            continue
        np.testing.assert_allclose(least(problem, level), least(live, 0.85), rtol=1e-9)
    energy, known = ka.least_energy(problem, level), ka.least_energy(live, 0.85)
    np.testing.assert_allclose(energy.energy_j[n:], known.energy_j, rtol=1e-9)


def objective_with(kinds, objective):
    """The objective beside dead devices that drop everything, from that of the three live ones alone."""
    weights = np.array([DEAD[k].get("weight", 1.0) for k in kinds])
    return (3.0 * float(objective) + weights.sum()) / (3.0 + weights.sum())


SPENT = {
    "fixed computing takes all the time": {"fixed_compute_s": 1.4},
    "fixed computing takes all the time at the fastest clock": {"fixed_compute_s": 2.8, "clock_max": 2.0},
    "fixed computing takes all the energy": {"fixed_compute_s": 0.1, "fixed_compute_j": 0.08, "pruned_compute_j": 0.16},
    "fixed computing takes all the energy at the slowest clock": {
        "fixed_compute_s": 0.1, "fixed_compute_j": 0.32, "pruned_compute_j": 0.64, "clock_min": 0.5,
    },
}  # fmt: skip


@pytest.mark.parametrize("live", [0, 3])
@pytest.mark.parametrize("kind", SPENT)
def test_fixed_computing_may_leave_nothing(kind, live):
    fields = {name: np.broadcast_to(value, 3)[:live] for name, value in LIVE.items()}
    usual = {
        "circuit_power_w": 0.05,
        "clock_min": 1.0,
        "clock_max": 1.0,
        "fixed_compute_s": 0.0,
        "fixed_compute_j": 0.0,
    }
    usual["pruned_compute_j"] = 0.0
    first = {name: np.broadcast_to(value, 3)[0] for name, value in LIVE.items()} | usual | SPENT[kind]
    fields |= {name: np.broadcast_to(value, live) for name, value in usual.items()}
    whole = ka.solve(ka.Problem(cell(), ka.Devices(**{name: np.append(first[name], fields[name]) for name in fields})))
    assert whole.status is ka.Status.OPTIMAL
    assert whole.pruning_ratio[0] == 1.0
    assert whole.bandwidth_hz[0] == 0.0
    if live:
        alone = ka.solve(ka.Problem(cell(), ka.Devices(**fields)))
        np.testing.assert_allclose(whole.pruning_ratio[1:], alone.pruning_ratio, atol=1e-9)
        np.testing.assert_allclose(whole.prices.bandwidth_per_hz, alone.prices.bandwidth_per_hz / 4 * 3, rtol=1e-6)


@pytest.mark.parametrize("clocked", [{}, {"circuit_power_w": 1e-12}, {"clock_max": 2.0}, {"fixed_compute_s": 1e-13}])
def test_who_can_keep_less_than_a_double_tells_of_1(clocked):
    """1e-31 of its payload at the most, at any price, none included."""
    devices = ka.Devices(np.array([1e-12]), 0.1, 1e6, 0.1, **clocked)
    solution = ka.solve(ka.Problem(cell(bandwidth_hz=1.0, noise_psd_w_per_hz=1.0, deadline_s=1e-12), devices))
    assert solution.status is ka.Status.OPTIMAL
    assert solution.pruning_ratio[0] == 1.0


@pytest.mark.parametrize(
    "clocked", [{"circuit_power_w": 0.05}, {"clock_min": 0.5, "clock_max": 2.0}], ids=["electronics", "clock"]
)
@pytest.mark.parametrize("kind", [kind for kind in DEAD if kind != "no weight"])
def test_a_device_with_a_clock_that_can_keep_nothing_holds_the_fair_level(kind, clocked):
    fields = {"weight": 1.0, "fixed_energy_j": 0.0} | LIVE
    columns = {
        name: np.append(DEAD[kind].get(name, np.broadcast_to(v, 3)[0]), v * np.ones(3)) for name, v in fields.items()
    }
    fair = ka.solve_minmax(ka.Problem(cell(), ka.Devices(**columns, **clocked)))
    assert fair.solution.status is ka.Status.OPTIMAL
    assert float(fair.gap) <= 1e-9
    assert float(fair.level) == pytest.approx(1.0)

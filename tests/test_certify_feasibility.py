"""What is no allocation at all must be refused whatever prices come with it: budgets are spent by what is positive."""

import numpy as np
import pytest

import kktalloc as ka

K, RICH = 5000, 4


@pytest.fixture(params=["compiled", "numpy"], autouse=True)
def engine(request, monkeypatch):
    if request.param == "numpy":
        monkeypatch.setenv("KKTALLOC_ENGINE", "numpy")


def crowd(bandwidth_hz, total_power_w=None):
    """A few devices that matter and thousands that can send nothing and weigh next to nothing."""
    gain, weight = np.zeros(K), np.full(K, 1e-12)
    gain[:RICH], weight[:RICH] = [1e-12, 3e-12, 5e-12, 9e-12], 1.0
    devices = ka.Devices(gain, 0.1, 4e4, 0.2, weight=weight)
    return ka.Problem(ka.Cell(bandwidth_hz, 4e-21, 1.0, total_power_w=total_power_w), devices)


def enough():
    """Bandwidth that lets the few keep everything."""
    rich = ka.Devices([1e-12, 3e-12, 5e-12, 9e-12], 0.1, 4e4, 0.2)
    return float(ka.least_bandwidth(ka.Problem(ka.Cell(1e6, 4e-21, 1.0), rich), 0.0))


@pytest.mark.parametrize("prices", ["searched", "free", "its own"])
@pytest.mark.parametrize("each", [-0.9e-9, -1e-12, -1e-7])
def test_bandwidth_given_back_by_some_is_not_there_for_others(prices, each):
    most = enough()
    rich = ka.solve(crowd(most * (1 + 1e-9)))
    scarce = crowd(most * (1 - 1e-6))
    b = np.full(K, each * most)
    b[:RICH] = rich.bandwidth_hz[:RICH]
    at = {"searched": None, "free": 0.0, "its own": ka.solve(scarce).prices.bandwidth_per_hz}[prices]
    assert not ka.certify(scarce, rich.pruning_ratio, b, rich.tx_power_w, bandwidth_price_per_hz=at)
    verdict = ka.certify(scarce, rich.pruning_ratio, b, rich.tx_power_w, bandwidth_price_per_hz=at)
    assert float(verdict.residuals["primal_bandwidth"]) > 0.9e-6


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e-9])
@pytest.mark.parametrize("priced", [False, True])
def test_power_given_back_by_some_is_not_there_for_others(scale, priced):
    # A negative power is judged relative to the peak, so that a small network is held to the same digits.
    def problem(cap):
        devices = ka.Devices([1e-3, 1e-3, 0.0], [scale, scale, 1e3 * scale], 4e7, 0.1)
        return ka.Problem(ka.Cell(1e6, 4e-12 * scale, 1.0, total_power_w=cap * scale), devices)

    few, many = problem(0.1), problem(0.25)
    more = ka.solve(many)
    p = more.tx_power_w.copy()
    p[2] = 0.1 * scale - p[:2].sum()
    given = (
        {
            "bandwidth_price_per_hz": more.prices.bandwidth_per_hz,
            "total_power_price_per_w": more.prices.total_power_per_w,
        }
        if priced
        else {}
    )
    verdict = ka.certify(few, more.pruning_ratio, more.bandwidth_hz, p, **given)
    assert not verdict
    assert float(verdict.residuals["primal_total_power"]) == pytest.approx(1.5, rel=1e-6)
    assert float(verdict.residuals["primal_peak_power"]) > 1e-5


@pytest.mark.parametrize("value", [-1e-8, -1.0])
def test_a_negative_power_is_judged_relative_to_the_peak(value):
    devices = ka.Devices([1e-12, 0.0], [0.1, 1e-6], 4e4, 0.2)
    problem = ka.Problem(ka.Cell(1e5, 4e-21, 1.0), devices)
    solution = ka.solve(problem)
    p = solution.tx_power_w.copy()
    p[1] = value * 1e-6
    verdict = ka.certify(problem, solution.pruning_ratio, solution.bandwidth_hz, p, bandwidth_price_per_hz=0.0)
    assert float(verdict.residuals["primal_peak_power"]) == pytest.approx(-value)
    assert not verdict


@pytest.mark.parametrize("prices", [{}, {"bandwidth_price_per_hz": 1e-7}])
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan, 1e308, -1e308])
@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("cap", [None, 0.1])
def test_what_is_no_number_is_refused_without_a_warning(which, bad, prices, cap):
    problem = ka.Problem(
        ka.Cell(1e6, 4e-21, 1.0, total_power_w=cap),
        ka.Devices([1e-12, 3e-12, 0.0], 0.1, 4e6, 0.2, energy_budget_j=[0.01, np.inf, np.inf]),
    )
    solution = ka.solve(problem)
    arrays = [solution.pruning_ratio.copy(), solution.bandwidth_hz.copy(), solution.tx_power_w.copy()]
    arrays[which][1] = bad
    assert not ka.certify(problem, *arrays, **prices)


def test_truth_is_the_verdict():
    problem = ka.Problem(ka.Cell(1e6, 4e-21, 1.0), ka.Devices([1e-12, 3e-12], 0.1, 4e6, 0.2))
    solution = ka.solve(problem)
    assert bool(solution.certificate) is solution.certificate.ok is True
    refused = ka.certify(problem, solution.pruning_ratio, solution.bandwidth_hz * 1.01, solution.tx_power_w)
    assert bool(refused) is refused.ok is False


def test_truth_of_a_batch_is_that_of_all():
    problem = ka.Problem(ka.Cell([1e6, 1e6], 4e-21, 1.0), ka.Devices([1e-12, 3e-12], 0.1, 4e6, 0.2))
    solution = ka.solve(problem)
    b = solution.bandwidth_hz.copy()
    b[1] *= 1.01
    verdict = ka.certify(problem, solution.pruning_ratio, b, solution.tx_power_w)
    assert verdict.passed.tolist() == [True, False]
    assert not verdict

"""Bits per value beside pruning: against every choice of bits, and the bound against finer and finer offers."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

import kktalloc as ka
from kktalloc._problem.variant import variant

BITS = np.array([1, 2, 4, 8])
ROUNDING = 0.5 / 4.0**BITS


def phones(rng: np.random.Generator, devices: int = 3, budget: float = np.inf, **more: object) -> ka.Problem:
    fields = ka.Devices(
        10 ** rng.uniform(-12.0, -10.5, devices), 0.1, 2e7, rng.uniform(0.1, 0.5, devices), overhead_bits=1e4,
        energy_budget_j=budget, pruned_compute_j=0.01, **more,  # type: ignore[arg-type]
    )  # fmt: skip
    return ka.Problem(ka.Cell(10 ** rng.uniform(5.5, 6.5), 4e-21, 1.0), fields)


def every_choice(problem: ka.Problem, error_on: str) -> float:
    """The least objective over all bits of all devices: the plain problem at each choice."""
    best = np.inf
    for pick in product(range(len(BITS)), repeat=problem.shape[0]):
        d = ROUNDING[list(pick)]
        at = d[:, None]
        table = ka.Table([0.0, 1.0], np.hstack([at, np.ones_like(at) + (at if error_on == "all" else 0.0)]))
        payload = np.asarray(problem.devices.payload_bits) * BITS[list(pick)] / 32.0
        best = min(best, float(ka.solve(variant(problem, table, payload_bits=payload)).objective))
    return best


@pytest.mark.parametrize("error_on", ["kept", "all"])
@pytest.mark.parametrize("budget", [np.inf, 0.03])
def test_no_choice_of_bits_is_below_the_bound(error_on: str, budget: float) -> None:
    rng = np.random.default_rng(4)
    for _ in range(4):
        problem = phones(rng, budget=budget)
        answer = ka.solve_bits(problem, BITS, ROUNDING, error_on=error_on)  # type: ignore[arg-type]
        best = every_choice(problem, error_on)
        assert answer.status is ka.Status.OPTIMAL
        assert answer.lower_bound - 1e-12 <= best <= answer.objective + 1e-12
        assert answer.gap >= -1e-12
        assert np.isin(answer.bits, BITS).all()
        # One device's step from an offer to the next is at most all that this device counts.
        assert answer.gap <= 1.0 / 3.0


def test_with_a_clock_too() -> None:
    problem = phones(np.random.default_rng(5), budget=0.2, clock_min=0.5, clock_max=2.0, circuit_power_w=0.02)
    answer = ka.solve_bits(problem, BITS, ROUNDING)
    assert answer.certificate.ok
    assert answer.lower_bound - 1e-12 <= every_choice(problem, "kept") <= answer.objective + 1e-12


def test_closer_offers_close_the_gap() -> None:
    """The relaxation to real-valued bits: d(v) = 0.5 / 4^v is smooth enough for the price to be exact."""
    problem, gaps = phones(np.random.default_rng(6), devices=4), []
    for count in (8, 128):
        offers = np.linspace(1.0, 8.0, count)
        answer = ka.solve_bits(problem, offers, 0.5 / 4.0**offers)
        gaps.append(float(answer.gap))
    assert gaps[1] <= 1e-5
    assert gaps[1] <= gaps[0] + 1e-12


@pytest.mark.parametrize("hertz", [3e4, 1e5, 3e5])
def test_offers_that_take_more_than_the_cell_do_not_weaken_the_bound(hertz: float) -> None:
    """A device alone has all of the cell: its best offer is the optimum, and proved."""
    problem = variant(phones(np.random.default_rng(9), devices=1), bandwidth_hz=hertz)
    answer = ka.solve_bits(problem, BITS, ROUNDING)
    assert float(answer.objective) == pytest.approx(every_choice(problem, "kept"), abs=1e-12)
    assert abs(float(answer.gap)) <= 1e-12


def test_devices_that_are_alike_change_one_after_the_other() -> None:
    """At one price all of them are indifferent; only one may have to wait, so the gap is at most its step."""
    devices = ka.Devices(np.full(8, 1e-11), 0.1, 2e7, 0.1)
    problem = ka.Problem(ka.Cell(5.75e6, 4e-21, 1.0), devices)
    answer = ka.solve_bits(problem, [2, 16], [0.3, 0.0])
    assert sorted(set(answer.bits)) == [2.0, 16.0]
    assert float(answer.objective) == pytest.approx(every_choice_of_alike(problem, [2, 16], [0.3, 0.0]), rel=1e-9)
    assert float(answer.gap) <= 0.3 / 8


def every_choice_of_alike(problem: ka.Problem, bits: list[int], errors: list[float]) -> float:
    """The best number of devices with the second of two offers."""
    best, K = np.inf, problem.shape[0]
    for many in range(K + 1):
        pick = (np.arange(K) < many).astype(int)
        floor = np.array(errors)[pick][:, None]
        table = ka.Table(np.array([[0.0, 1.0]] * K), np.hstack([floor, np.ones((K, 1))]))
        payload = np.asarray(problem.devices.payload_bits) * np.array(bits)[pick] / 32.0
        found = ka.solve(variant(problem, table, payload_bits=payload), throw=False)
        best = min(best, float(found.objective)) if found.diagnosis is None else best
    return best


@pytest.mark.parametrize("hertz", [1e4, 2e4, 5e4])
def test_an_offer_that_keeps_next_to_nothing_leaves_a_bound(hertz: float) -> None:
    problem = ka.Problem(ka.Cell(2 * hertz, 4e-21, 1.0), ka.Devices([1e-11] * 2, 0.1, 2e7, 0.1))
    assert abs(float(ka.solve_bits(problem, [2, 16], [0.3, 0.0]).gap)) <= 1e-12


def test_one_offer_is_the_plain_problem() -> None:
    problem = phones(np.random.default_rng(7), devices=5)
    answer = ka.solve_bits(problem, [32.0], [0.0])
    assert float(answer.objective) == pytest.approx(float(ka.solve(problem).objective), abs=1e-10)
    assert abs(float(answer.gap)) <= 1e-9


def test_a_measured_error_and_errors_of_each_device() -> None:
    problem = variant(phones(np.random.default_rng(8)), ka.Table([0.0, 0.5, 0.9, 1.0], [0.0, 0.02, 0.3, 1.0]))
    answer = ka.solve_bits(problem, BITS, ROUNDING * np.array([[1.0], [0.5], [2.0]]))
    assert answer.certificate.ok
    assert 0 <= answer.gap <= 0.1


def test_a_wrong_answer_is_refused() -> None:
    answer = ka.solve_bits(phones(np.random.default_rng(4)), BITS, ROUNDING)
    assert answer.certificate.ok
    for wrong in (
        replace(answer, bits=answer.bits * 2),
        replace(answer, objective=answer.objective * 0.99),
        replace(answer, lower_bound=answer.objective + 0.01),
        replace(answer, lower_bound=answer.objective),
        replace(answer, bandwidth_price_per_hz=answer.bandwidth_price_per_hz * 2),
    ):
        assert not wrong.certificate.ok


def test_one_offer_takes_one_number_and_as_many_bits_as_there_are_are_no_rounding() -> None:
    problem = phones(np.random.default_rng(4))
    plain = ka.solve(problem)
    whole = ka.solve_bits(problem, 32, 0.0)
    assert whole.bits.tolist() == [32.0] * 3
    np.testing.assert_allclose(whole.objective, plain.objective, rtol=1e-12)
    same = ka.solve_bits(problem, [16, 32], np.tile([0.01, 0.0], (3, 1)))
    assert same.objective == ka.solve_bits(problem, [16, 32], [0.01, 0.0]).objective


def test_bad_input_is_named() -> None:
    problem = phones(np.random.default_rng(4))
    for bits, line in (
        ([2, 1], r"bits\[1\] = 1\.0: must be greater than the one before it"),
        ([1, -4], r"bits\[1\] = -4\.0: must be finite and > 0"),
        ([1, np.inf], r"bits\[1\] = inf: must be finite and > 0"),
        ([16, 32, 64], r"bits\[2\] = 64\.0: must be at most full_bits = 32$"),
        ([], r"bits: shape \(0,\) instead of \(n,\)"),
    ):
        with pytest.raises(ValueError, match=f"^{line}"):
            ka.solve_bits(problem, bits, np.zeros(len(bits)))
    for errors, line in (
        ([0.0, 0.1], r"rounding_error\[1\] = 0\.1: must be no more than that of fewer bits"),
        ([0.1, np.nan], r"rounding_error\[1\] = nan: must be finite and >= 0"),
        ([[0.1, 0.0], [0.1, -0.1], [0.1, 0.0]], r"rounding_error\[1, 1\] = -0\.1: must be finite and >= 0"),
        ([[0.1, 0.0], [0.1, 0.2], [0.1, 0.0]], r"rounding_error\[1, 1\] = 0\.2: must be no more"),
    ):
        with pytest.raises(ValueError, match=f"^{line}"):
            ka.solve_bits(problem, [1, 2], errors)
    # One entry could be meant for every device, every number of bits, or a single offer; none is like another.
    for shape in ((), (1,), (3,), (1, 2), (3, 1), (2, 2), (1, 3, 2), (2, 3)):
        told = re.escape(str(shape or (1,)))
        with pytest.raises(ValueError, match=rf"^rounding_error: shape {told}, must be \(2,\), one .* or \(3, 2\)$"):
            ka.solve_bits(problem, [1, 2], np.full(shape, 0.1))
    for full_bits, line in ((0.0, "full_bits = 0.0: must be > 0"), ([32.0], r"full_bits: shape \(1,\), must be one")):
        with pytest.raises(ValueError, match=f"^{line}"):
            ka.solve_bits(problem, BITS, ROUNDING, full_bits=full_bits)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sample it as a Table"):
        ka.solve_bits(variant(problem, ka.PowerLaw(2.0)), BITS, ROUNDING)
    with pytest.raises(ValueError, match=r"^error_on = 'some'"):
        ka.solve_bits(problem, BITS, ROUNDING, error_on="some")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="takes one problem"):
        ka.solve_bits(variant(problem, deadline_s=[1.0, 2.0]), BITS, ROUNDING)
    with pytest.raises(ka.InfeasibleError):
        ka.solve_bits(variant(problem, pruning_ratio_max=0.0, bandwidth_hz=10.0), BITS, ROUNDING)
    lacking = ka.solve_bits(variant(problem, pruning_ratio_max=0.0, bandwidth_hz=10.0), BITS, ROUNDING, throw=False)
    assert lacking.status is ka.Status.INFEASIBLE

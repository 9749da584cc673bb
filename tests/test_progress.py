"""`kktalloc.plan.most_progress`: the deadline and the kind of round with the most kept change per second."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

import kktalloc as ka
from kktalloc.plan import most_progress

NOISE = 4e-21


def problem(bandwidth_hz: float = 1e6, power: float = 8.0, seed: int = 0, **devices: Any) -> ka.Problem:
    rng = np.random.default_rng(seed)
    given = {
        "channel_gain": 1e-10 * rng.exponential(size=6), "tx_power_max_w": 0.2, "payload_bits": 1e6,
        "overhead_bits": 1e3, "pruned_compute_s": 0.0, "fixed_latency_s": 0.01 * rng.uniform(0.5, 2.0, 6),
        "pruning_ratio_max": 0.99, "weight": rng.uniform(0.2, 3.0, 6),
    }  # fmt: skip
    return ka.Problem(ka.Cell(bandwidth_hz, NOISE, 1.0), ka.Devices(**(given | devices)), ka.PowerLaw(power))


def test_one_device_has_the_deadline_of_calculus() -> None:
    gain, payload, overhead, fixed_s, B = 1e-11, 2e6, 5e3, 0.02, 2e6
    rate = B * np.log2(1.0 + gain * 0.2 / (NOISE * B))
    one = problem(
        B, 6.0, channel_gain=[gain], payload_bits=payload, overhead_bits=overhead, fixed_latency_s=fixed_s, weight=7.0
    )

    def length_s(keep: float) -> float:
        return float(fixed_s + (overhead + keep * payload) / rate)

    best = minimize_scalar(lambda q: -(1.0 - (1.0 - q) ** 6) / length_s(q), bounds=(0.01, 1.0), method="bounded")
    found = most_progress({"pruned": one})
    assert found.progress_per_s == pytest.approx(-best.fun, rel=1e-4)
    assert found.deadline_s == pytest.approx(length_s(best.x), rel=0.01)
    assert found.solution.certificate.passed
    assert found.loss == pytest.approx((1.0 - (found.deadline_s - fixed_s - overhead / rate) * rate / payload) ** 6)


@pytest.mark.parametrize(("power", "counted"), [(2.0, 1.0), (8.0, 1.0), (8.0, 0.5), (30.0, 1.0), (30.0, 0.2)])
@pytest.mark.parametrize("bandwidth_hz", [1e4, 1e6, 1e8])
def test_no_deadline_of_a_dense_sweep_is_better(bandwidth_hz: float, power: float, counted: float) -> None:
    asked = problem(bandwidth_hz, power)
    found = most_progress({"pruned": asked}, power=counted)
    shortest_s = float(ka.least_deadline(asked))
    longest_s = 2.0 * float(ka.least_deadline(asked, 0.0))  # nobody prunes
    deadline_s = np.geomspace(shortest_s, longest_s, 400)
    solved = ka.solve(
        ka.Problem(replace(asked.cell, deadline_s=deadline_s), asked.devices, asked.pruning_error), throw=False
    )
    rate = np.where(solved.certificate.passed, 1.0 - solved.objective, 0.0) ** counted / deadline_s
    assert found.progress_per_s >= rate.max() * (1.0 - 1e-3)
    assert abs(np.log(found.deadline_s / deadline_s[rate.argmax()])) < 0.1
    np.testing.assert_array_less(found.solution.latency_s, found.deadline_s * (1.0 + 1e-9))


def test_the_less_the_rest_of_a_round_is_worth_the_shorter_it_is() -> None:
    deadline_s = [most_progress({"pruned": problem(3e6)}, power=power).deadline_s for power in (1.0, 0.7, 0.5, 0.3)]
    assert all(np.diff(deadline_s) < -0.02 * np.array(deadline_s[1:]))


def test_kinds_may_have_powers_of_their_own() -> None:
    rounds = {"forgotten": problem(3e6), "made up for": problem(3e6)}
    both = most_progress(rounds, power={"forgotten": 1.0, "made up for": 0.3})
    alone = most_progress({"made up for": problem(3e6)}, power=0.3)
    assert (both.name, both.power, both.deadline_s) == ("made up for", 0.3, alone.deadline_s)
    # The same rounds under the same power are as good, whatever they are called.
    other = most_progress(rounds, power={"forgotten": 0.3, "made up for": 1.0})
    assert (other.name, other.progress_per_s) == ("forgotten", both.progress_per_s)


def test_what_a_round_adds_to_later_ones_counts_as_its_time() -> None:
    asked = problem(3e6)
    plain = most_progress({"pruned": asked})
    # As much whatever is pruned: the same as if each round took so much longer by itself.
    added = most_progress({"pruned": asked}, later_s=lambda ratio: np.full(len(ratio), 0.05))
    slower = most_progress({"pruned": problem(3e6, fixed_latency_s=np.asarray(asked.devices.fixed_latency_s) + 0.05)})
    assert added.later_s == 0.05
    assert added.deadline_s + 0.05 == pytest.approx(slower.deadline_s, rel=0.01)
    assert added.progress_per_s == pytest.approx(slower.progress_per_s, rel=1e-4)
    assert added.deadline_s > 1.02 * plain.deadline_s

    # In proportion to what is kept: shorter rounds, and the best of a dense sweep, more or less than nothing.
    for per_kept, fixed in ((0.1, 0.0), (0.3, -0.01)):

        def later(ratio: NDArray[np.float64], a: float = fixed, b: float = per_kept) -> NDArray[np.float64]:
            return a + b * (1.0 - ratio).max(axis=-1)

        found = most_progress({"pruned": asked}, later_s=later)
        shortest_s, longest_s = (float(ka.least_deadline(asked, ratio)) for ratio in (0.99, 0.0))
        deadline_s = np.geomspace(shortest_s * (1 + 1e-6), 2.0 * longest_s, 600)
        solved = ka.solve(ka.Problem(replace(asked.cell, deadline_s=deadline_s), asked.devices, asked.pruning_error))
        rate = (1.0 - solved.objective) / (deadline_s + later(solved.pruning_ratio))
        assert found.progress_per_s >= rate.max() * (1.0 - 1e-3)
        assert found.later_s == pytest.approx(float(later(found.solution.pruning_ratio)))
        constant = most_progress({"pruned": asked}, later_s=lambda ratio, size=found.later_s: np.full(len(ratio), size))
        assert found.deadline_s < 0.98 * constant.deadline_s

    # What takes long whatever is pruned is worth a whole round, unless the time after it shrinks with what is kept.
    whole = problem(3e6, pruning_ratio_max=0.0, fixed_latency_s=0.3)
    rounds = {"unpruned": whole, "pruned": problem(3e6, power=1.5, fixed_latency_s=0.3, overhead_bits=3e5)}
    assert most_progress(rounds).name == "unpruned"
    assert most_progress(rounds, later_s=lambda ratio: (1.0 - ratio).mean(axis=-1)).name == "pruned"


def test_the_kind_with_the_most_is_taken_and_of_equals_the_first() -> None:
    slow, fast = problem(fixed_latency_s=0.02), problem(fixed_latency_s=0.01)
    assert most_progress({"slow": slow, "fast": fast}).name == "fast"
    assert most_progress({"a": slow, "b": slow}).name == "a"
    # Next to all of the time is fixed, and who prunes has a mask to find: that saves nothing.
    long = problem(1e9, fixed_latency_s=1.01, payload_bits=1.0, overhead_bits=1.0)
    whole = problem(1e9, fixed_latency_s=1.0, payload_bits=1.0, overhead_bits=1.0, pruning_ratio_max=0.0)
    found = most_progress({"unpruned": whole, "pruned": long})
    assert found.name == "unpruned"
    assert found.loss == 0.0


def test_a_given_deadline_is_kept_where_it_can_be() -> None:
    asked = problem()
    shortest_s = float(ka.least_deadline(asked))
    for deadline_s in (3.0 * shortest_s, 0.1 * shortest_s):
        found = most_progress({"pruned": asked}, deadline_s=deadline_s)
        assert found.deadline_s == pytest.approx(max(deadline_s, shortest_s), rel=2e-6)
    assert "pruned, deadline" in repr(found)


def test_kinds_that_are_not_possible_are_left_out_and_if_none_is_it_says_why() -> None:
    poor = problem(energy_budget_j=1e-12)
    assert most_progress({"poor": poor, "rich": problem()}).name == "rich"
    with pytest.raises(ka.InfeasibleError, match="energy"):
        most_progress({"poor": poor})


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"rounds": {}}, "rounds must name at least one kind of round, got none"),
        ({"deadline_s": 0.0}, "deadline_s = 0.0: must be > 0 and finite"),
        (
            {"rounds": {"free": problem(pruning_ratio_max=1.0, overhead_bits=0.0, fixed_latency_s=0.0)}},
            r"rounds\['free'\] takes no time when all is pruned",
        ),
        ({"points": 1}, "points = 1: must be a whole number >= 2"),
        ({"power": "x"}, "power: expected numbers, got 'x'"),
        ({"deadline_s": [1.0]}, r"deadline_s: shape \(1,\), must be one number"),
        ({"points": True}, "points = True: must be a whole number >= 2"),
        ({"power": 0.0}, "power = 0.0: must be > 0 and <= 1"),
        ({"power": 1.5}, "power = 1.5: must be > 0 and <= 1"),
        ({"power": float("nan")}, "power = nan: must be > 0 and <= 1"),
        ({"power": {}}, "power must be one for all kinds of round or name each, got none for 'pruned'"),
        (
            {"power": {"pruned": 1.0, "prunned": 1.0}},
            r"power\['prunned'\]: there is no such kind of round, only 'pruned'",
        ),
        ({"power": {"pruned": 1.5}}, r"power\['pruned'\] = 1.5: must be > 0 and <= 1"),
        ({"later_s": lambda ratio: 0.0}, r"later_s must return shape \(12,\), got \(\)"),
        ({"later_s": lambda ratio: np.full(len(ratio), np.nan)}, r"later_s must be finite and > -.* s, .* got nan"),
        ({"later_s": lambda ratio: np.full(len(ratio), -9.0)}, r"later_s must be finite and > -.* s, .* got -9"),
        ({"rounds": {"many": problem(channel_gain=np.full((2, 6), 1e-10))}}, r"rounds\['many'\] must be one problem"),
    ],
)
def test_bad_input_is_named(given: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        most_progress(**({"rounds": {"pruned": problem()}} | given))


def test_something_else_than_problems() -> None:
    with pytest.raises(TypeError, match="rounds: expected Mapping, got list"):
        most_progress([problem()])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"rounds\['a'\]: expected Problem, got int"):
        most_progress({"a": 3})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="later_s: expected a function, got float"):
        most_progress({"a": problem()}, later_s=0.1)  # type: ignore[arg-type]

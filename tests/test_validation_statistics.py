"""Every number that the reports take from a run, by hand on a run of five rounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from paper import results as paper
from validation import measures, summary
from validation.summary import Run, Spread

ACCURACY = np.array([0.1, 0.5, 0.3, 0.7, 0.9])


def run(seed: int = 100, *, scheme: str = "joint", round_s: float = 2.0, **change: Any) -> Run:
    rounds = len(ACCURACY)
    latency = round_s * np.array([1.0, 1.0, 1.0, 2.0, 1.0])
    allocation = {
        "pruning_ratio": np.linspace(0.0, 0.9, 2 * rounds).reshape(rounds, 2),
        "energy_j": np.arange(2.0 * rounds).reshape(rounds, 2),
        "late": np.array([0, 0, 1, 1, 0]),
        "worst_residual": np.array(1e-12),
    }
    return Run(**{
        "scheme": scheme, "seed": seed, "time_s": np.cumsum(latency), "latency_s": latency, "accuracy": ACCURACY,
        "worst_accuracy": ACCURACY - 0.1, "allocation": allocation, "phones": {}, "deadline_s": 2.0, "raw": {},
    } | change)  # fmt: skip


def test_smoothing_is_a_mean_over_the_last_ten_rounds() -> None:
    np.testing.assert_allclose(run().smoothed, [0.1, 0.3, 0.3, 0.4, 0.5])
    long = np.arange(25.0)
    np.testing.assert_allclose(summary.smooth(long)[[0, 8, 9, 10, 24]], [0.0, 4.0, 4.5, 5.5, 19.5])


def test_when_a_target_is_reached() -> None:
    assert (run().time_to(0.4 - 1e-9), run().rounds_to(0.4 - 1e-9)) == (10.0, 4)
    assert (run().time_to(0.1 - 1e-9), run().rounds_to(0.1 - 1e-9)) == (2.0, 1)
    assert (run().time_to(0.51), run().rounds_to(0.51)) == (None, None)


@pytest.mark.parametrize(("time_s", "expected"), [(1.9, None), (2.0, 0.1), (9.9, 0.3), (10.0, 0.4), (99.0, 0.5)])
def test_accuracy_at_a_time(time_s: float, expected: float | None) -> None:
    found = run().accuracy_at(time_s)
    assert found == (None if expected is None else pytest.approx(expected))


def test_every_column_of_the_table_of_schemes() -> None:
    """Two seeds; the goal of each is where its own unpruned run ends, less the margin."""
    reference = [run(100, scheme=summary.REFERENCE), run(101, scheme=summary.REFERENCE, accuracy=ACCURACY - 0.05)]
    joint = [run(100, round_s=1.0), run(101, round_s=3.0)]
    rows = {row["scheme"]: row for row in summary.scheme_table({summary.REFERENCE: reference, "joint": joint})}
    row = rows["joint"]
    assert row["final_accuracy"].per_seed == pytest.approx((0.5, 0.5))
    assert row["final_worst_accuracy"].per_seed == pytest.approx((0.4, 0.4))
    assert row["round_s"].per_seed == pytest.approx((1.2, 3.6))
    assert row["round_p95_s"].per_seed == pytest.approx((1.8, 5.4))
    assert row["time_to_target_s"].per_seed == pytest.approx((6.0, 18.0))  # 0.495: after the last; 0.445: the same
    assert row["rounds_to_target"].per_seed == (5, 5)
    assert row["pruning_ratio"].mean == pytest.approx(0.45)
    assert row["energy_j"].mean == pytest.approx(4.5)
    assert row["late_rounds"].mean == pytest.approx(0.4)
    assert summary.targets({summary.REFERENCE: reference}) == pytest.approx([0.495, 0.445])


def test_averages_over_time_weigh_rounds_by_their_length() -> None:
    """From 2 s, when both have an accuracy, to 6 s, when the faster one is finished."""
    slow, fast = run(round_s=2.0), run(round_s=1.0)
    assert fast.time_s.tolist() == [1.0, 2.0, 3.0, 5.0, 6.0]
    curves = [(each.accuracy, each.time_s) for each in (fast, slow)]
    mine, other = measures.time_averages(*curves)
    assert mine == pytest.approx((1.0 * 0.5 + 2.0 * 0.3 + 1.0 * 0.7) / 4.0)
    assert other == pytest.approx((2.0 * 0.1 + 2.0 * 0.5) / 4.0)
    late = run(time_s=np.cumsum(run().latency_s) + 50.0)
    assert measures.time_averages(curves[0], (late.accuracy, late.time_s)) is None
    # Of a span that outlasts the run the last accuracy stays: rounds end at 2, 4, 6, 10 and 12 s.
    assert measures.time_average(curves[1], 5.0, 14.0) == pytest.approx(
        (1.0 * 0.5 + 4.0 * 0.3 + 2.0 * 0.7 + 2.0 * 0.9) / 9
    )
    with pytest.raises(ValueError, match="begin_s = 1: there is no accuracy before the first round's end at 2"):
        measures.time_average(curves[1], 1.0, 14.0)


def test_a_spread_is_never_of_the_lucky_seeds() -> None:
    whole, part = Spread((1.0, 2.0, 6.0)), Spread((1.0, None, 6.0))
    half = 4.302652729911275 * np.sqrt(7 / 3)  # sample variance 7 of three, t_{0.975} with 2 degrees of freedom
    interval = pytest.approx((3.0 - half, 3.0 + half), rel=1e-9)
    extremes = {"min": 1.0, "max": 6.0}
    assert whole.to_dict() == {"mean": 3.0, **extremes, "per_seed": [1.0, 2.0, 6.0], "interval_95": interval}
    assert part.to_dict() == {"mean": None, **extremes, "per_seed": [1.0, None, 6.0], "interval_95": None}
    assert summary.verdict(whole, lambda v: v < 5) == "holds for 2 of 3 seeds"
    assert summary.verdict(part, lambda v: v > 0) == "holds for 2 of 3 seeds"
    assert summary.verdict(whole, lambda v: v > 0) == "holds"
    assert summary.verdict(whole, lambda v: v > 9) == "does not hold"


def test_the_t_interval_by_hand() -> None:
    """Mean 2.5, sample deviation sqrt(5/3), t_{0.975} with 3 degrees of freedom."""
    low, high = paper.t_interval(np.array([1.0, 2.0, 3.0, 4.0]))
    half = 3.182446305284263 * np.sqrt(5 / 3) / 2
    assert (low, high) == pytest.approx((2.5 - half, 2.5 + half), rel=1e-9)

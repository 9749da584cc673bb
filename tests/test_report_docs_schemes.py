"""What docs/report.md says of the scheme of Liu et al. and the rest is what docs/results hold."""

from __future__ import annotations

import json

import numpy as np
import pytest
from report_docs import claimed, column_of, results_of, says

from validation.config import STUDIES, to_dict


def _signed(low: float, high: float) -> str:
    """A range in points that reaches from behind to ahead."""
    assert low < 0 < high
    return f"({-low:.1f} lower to {high:.1f} higher)"


def _in_words(count: int) -> str:
    return ("none", "one", "two", "three")[count]


def test_time_to_the_unpruned_accuracy() -> None:
    mnist, fashion, digits = (
        np.array(claimed(results_of(name), "time-half"))
        for name in ("latency-mnist", "latency-fashion_mnist", "ablation-digits")
    )
    assert max(*mnist, *fashion) <= 50  # "at most half on every seed of both"
    says(
        f"{mnist.mean():.0f} % ({mnist.min():.0f} to {mnist.max():.0f}) and "
        f"{fashion.mean():.0f} % ({fashion.min():.0f} to {fashion.max():.0f}) of the unpruned",
        f"is met on {(mnist <= 40).sum()} and on {(fashion <= 40).sum()} of 5 seeds",
        f"On digits it is {digits.mean():.0f} % on average and at most half on {(digits <= 50).sum()} of 5 seeds",
    )


def test_against_one_common_ratio() -> None:
    reports = [results_of(name) for name in ("latency-mnist", "latency-fashion_mnist", "ablation-digits")]
    behind = [-np.array(claimed(report, "faster-allocation_only")) for report in reports]
    assert min(*behind[0], *behind[2]) > 0  # "on every seed of MNIST and digits"
    means = [each.mean() for each in behind]
    says(f"on {(behind[1] > 0).sum()} of 5 of Fashion-MNIST, by {min(means):.1f} to {max(means):.1f} points")
    for report in reports:
        joint, common = (column_of(report, name, "pruning_ratio").mean() for name in ("joint", "allocation_only"))
        says(f"prune less on average ({joint:.2f} against {common:.2f})")


def test_default_study() -> None:
    report = results_of("schemes-digits")
    ratio = {name: column_of(report, name, "pruning_ratio").mean() for name in ("joint", "equal")}
    late = {name: 100 * column_of(report, name, "late_rounds").mean() for name in ("joint", "equal")}
    sooner = claimed(report, "sooner-equal")
    assert np.isnan(column_of(report, "equal", "time_to_target_s")).tolist() == [value is None for value in sooner]
    first, second = (value for value in sooner if value is not None)  # "on two seeds; on the third"
    worst = np.array(claimed(report, "worst-phone"))
    energy = np.array(claimed(report, "energy-equal")) / 100
    unpruned = np.array(claimed(report, "energy-unpruned"))
    assert unpruned.mean() == pytest.approx(100 / 3, abs=1)  # "a third"
    assert min(claimed(report, "faster-fixed_equal")) > 0  # "beaten on every seed"
    within = sum(value >= -0.5 for value in claimed(report, "at-half"))
    crossed = sum(value <= 50 for value in claimed(report, "time-half"))
    says(
        f"prunes less ({ratio['joint']:.2f} against {ratio['equal']:.2f})",
        f"late in {late['joint']:.0f} % of the rounds instead of {late['equal']:.0f} %",
        f"It takes {first:.0f} % and {second:.0f} % of the time to the target on two seeds",
        f"Its worst phone ends {-worst.mean():.1f} points lower {_signed(worst.min(), worst.max())}",
        f"spends {energy.mean():.1f} times the energy per phone and round ({energy.min():.1f} to {energy.max():.1f})",
        f"accuracy on {_in_words(within)} of three seeds, and the crossing of the target itself comes by then on "
        f"{_in_words(crossed)} of the three",
    )


def test_those_are_results_of_the_default_study_as_it_is() -> None:
    assert results_of("schemes-digits")["study"] == json.loads(json.dumps(to_dict(STUDIES["schemes"])))


def test_ablation() -> None:
    report = results_of("ablation-digits")
    end = {n: 100 * column_of(report, n, "final_accuracy").mean() for n in ("joint", "shared", "random")}
    taylor = np.array(claimed(report, "faster-taylor"))
    assert min(claimed(report, "faster-magnitude")) > 0
    assert taylor.max() < 0
    convex = np.array(claimed(report, "faster-quadratic"))
    assert convex.max() < 0
    says(
        f"Sharing the head costs {end['joint'] - end['shared']:.1f} points at the end",
        f"random masks {end['joint'] - end['random']:.1f};",
        f"on every seed ({-taylor.mean():.2f} points)",
        f"on every seed of digits ({-convex.mean():.2f} points averaged over the run)",
    )


def test_bound() -> None:
    runs = results_of("bound")["runs"]
    assert not any(run["violations"] or run["term_violations"] for run in runs)
    kinds = [run for run in runs if "terms" not in run], [run for run in runs if "terms" in run]
    median = [float(np.median([run["bound_over_measured"] for run in kind])) for kind in kinds]
    agreeing, differing = (
        [np.median([r["bound_over_measured"] for r in k if (r["masks"] == "magnitude") == agree]) for k in kinds]
        for agree in (True, False)
    )
    factor = np.array(differing) / agreeing
    pruning = [run["terms"]["pruning"] for run in kinds[1] if run["ratio"] > 0]
    orders = np.log10([term["bound"] / term["measured"] for term in pruning])
    says(
        f"never violated: {len(runs)} runs",
        f"is {median[0]:.0f} on quadratics ({agreeing[0]:.0f} where masks agree) and {round(median[1], -1):.0f}",
        f"is {orders.min():.1f} to {orders.max():.1f} orders smaller",
        f"a factor of {factor[0]:.0f} on quadratics and {factor[1]:.0f} on digits",
    )
    measured = results_of("bound")["kinds"]
    assert not any(run["violations"] for run in measured)  # how large the guarantees are: test_verification_docs.py


def test_map() -> None:
    cells = results_of("map")["cells"]
    single = [value for cell in cells for value in cell["time_percent"]["per_seed"]]
    means = [cell["time_percent"]["mean"] for cell in cells]
    half = [sum(value <= 50 for value in cell["time_percent"]["per_seed"]) for cell in cells]
    slow = [100 * c["late"] for c in cells if c["speed"] == 0.25 and c["bandwidth_hz"] >= 10e6]
    says(
        f"is {min(single):.0f} to {max(single):.0f} % of the unpruned scheme's over single runs, "
        f"{min(means):.0f} to {max(means):.0f} % over the means of cells",
        f"at most half on both seeds in {half.count(2)} of {len(cells)} cells, on neither in {half.count(0)}, "
        f"on one of the two in {half.count(1)}",
        f"{min(slow):.0f} to {max(slow):.0f} % of the rounds are late",
    )


def test_scale() -> None:
    report = results_of("scale")
    cell = [run["wall_s"] for run in report["runs"] if run.get("devices") == 100_000]
    (cells,) = [run["wall_s"] for run in report["runs"] if run.get("cells") == 1000]
    (exponent,) = claimed(report, "exponent")
    says(f"{1e3 * np.median(cell):.0f} ms (median of five)", f"10^3 cells of 100: {1e3 * cells:.0f} ms")
    sample = np.array(claimed(report, "sample"))
    price = np.array(claimed(report, "price"))
    says(
        f"the mean pruning ratio of 10^5 to {sample.max():.3f};",
        f"more bandwidth to {100 * abs(price - 1).max():.1f} %.",
        f"exponent −{-exponent:.2f}",
    )


def test_harder() -> None:
    report = results_of("harder")
    seeds = len(report["study"]["seeds"])
    end = {n: 100 * column_of(report, n, "final_accuracy").mean() for n in ("joint", "partial", "allocation_only")}
    gap = -np.array(claimed(report, "end"))
    sooner = np.array(claimed(report, "sooner"))
    common, partial, static = (
        np.array(claimed(report, start)) for start in ("faster-allocation_only", "faster-partial", "faster-static")
    )
    lost = -np.array(claimed(report, "lost"))
    assert set(claimed(report, "time-half")) == {None}  # "on none"
    assert min(gap) > 0.5
    assert min(*partial, *static, *lost) > 0  # "on every seed"

    def spread(values: np.ndarray) -> str:
        return f"({values.min():.1f} to {values.max():.1f})"

    says(
        f"on measured drives, {seeds} seeds: the saving does not carry over",
        f"less half a point, on none of {seeds} seeds",
        f"It ends at {end['joint']:.1f} %, unpruned training at {end['partial']:.1f} % ({gap.mean():.1f} points apart, "
        f"{gap.min():.1f} to {gap.max():.1f})",
        f"{sooner.mean():.0f} % ({sooner.min():.0f} to {sooner.max():.0f}) of unpruned training's time",
        f"ends {end['allocation_only'] - end['joint']:.1f} points higher",
        f"is {common.mean():.1f} points ahead of it, on {(common > 0).sum()} of {seeds} seeds",
        f"ahead of unpruned training by {partial.mean():.1f} points {spread(partial)}",
        f"average channels by {static.mean():.1f} {spread(static)}",
        f"it loses {lost.mean():.1f} points {spread(lost)} fewer",
    )

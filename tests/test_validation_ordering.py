"""The study of what orders allocations: a short run, its page, and that it can fail."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from validation.cases import load_cases, run_cases
from validation.config import to_dict
from validation.ordering import page as ordering_page
from validation.ordering import study as ordering


def test_allocations_are_ordered_and_trained(tmp_path: Path) -> None:
    config = replace(
        ordering.CONFIG, seeds=(1,), allocations=("equal", "linear", "measured"), rounds=2, repeats=2, pilot_rounds=2
    )
    run_cases(tmp_path, to_dict(config), ordering.cases(config), ordering.MODULES)
    (runs,) = load_cases(tmp_path).results.values()
    predicted = {run["allocation"]: run["predicted"] for run in runs}
    # The allocation that minimises the measured objective has the least of it, but for its convex stand-in.
    assert predicted["measured"] < 1.001 * min(predicted.values())
    assert min(run["predicted_linear"] for run in runs) == pytest.approx(
        next(run["predicted_linear"] for run in runs if run["allocation"] == "linear"), rel=0.02
    )
    for run in runs:  # other batches, other accuracy
        assert len(set(run["accuracy_averaged_each"])) == 2
        assert run["accuracy_averaged"] == pytest.approx(np.mean(run["accuracy_averaged_each"]))
    text = ordering_page.write(tmp_path).read_text(encoding="utf-8")
    assert "Over 3 allocations at one deadline" in text


def test_each_data_set_has_cells_of_its_own() -> None:
    seeds = [set(ordering.on(dataset).seeds) for dataset in ("digits", "mnist", "fashion_mnist")]
    assert len(set().union(*seeds)) == sum(len(own) for own in seeds)
    assert ordering.on("mnist").training.samples_per_device == 600


def test_the_interval_of_means() -> None:
    predicted = np.array([[1.0, 2.0, 3.0]] * 3)
    assert ordering_page.interval(predicted, -predicted) == (1.0, 1.0)
    low, high = ordering_page.interval(predicted, np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [0.0, 2.0, 5.0]]))
    assert -1.0 == low < high == 1.0  # three times the third, or never


def test_a_wrong_order_is_found_out() -> None:
    accuracy = np.array([0.9, 0.8, 0.7])
    assert ordering_page.correlation(np.array([1.0, 2.0, 3.0]), accuracy) == pytest.approx(1.0)
    assert ordering_page.correlation(np.array([3.0, 2.0, 1.0]), accuracy) == pytest.approx(-1.0)

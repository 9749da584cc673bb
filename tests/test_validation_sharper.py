"""The studies of the sharper theorems: a short run of each, its page, and that they can fail."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from validation.cases import load_cases, run_cases
from validation.config import to_dict
from validation.hypotheses import page as hypotheses_page
from validation.hypotheses import study as hypotheses
from validation.ordering import page as ordering_page
from validation.ordering import study as ordering


def test_every_hypothesis_is_measured_and_no_guarantee_is_violated(tmp_path: Path) -> None:
    config = replace(
        hypotheses.CONFIG, seeds=(1,), masks=("movement",), averaging=("covered",), zeroed_ratios=(0.5,),
        sparse_ratios=(0.8,), schedules=((2, 32),), rounds=2,
    )  # fmt: skip
    run_cases(tmp_path, to_dict(config), hypotheses.cases(config), hypotheses.MODULES)
    zeroed, sparse = load_cases(tmp_path).results.values()
    for run in (zeroed, sparse):
        assert run["violations"] == 0
        assert all(value > 0 for value in run["hypotheses"]["error"])
        assert run["coverage"] == pytest.approx(0.2)
        assert run["with_gap_over_gradient"] > run["without_gap_over_gradient"]
    assert 0 < zeroed["hypotheses"]["server_noise"] < zeroed["hypotheses"]["noise_u_var"] / 5 / 0.2**2
    # The lemma of unsent changes, on real ones; and one draw of noise is not its expectation, but not far.
    assert 0 < sparse["hypotheses"]["unsent_sq"] < sum(sparse["hypotheses"]["error"]) / 5
    assert 0 < sparse["hypotheses"]["selection_noise"] < sparse["hypotheses"]["upload_noise"]
    text = hypotheses_page.write(tmp_path).read_text(encoding="utf-8")
    assert "violated 0 times" in text
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert [claim["verdict"] for claim in report["claims"]] == ["holds", "holds", "holds"]


def test_allocations_are_ordered_and_trained(tmp_path: Path) -> None:
    config = replace(ordering.CONFIG, seeds=(1,), allocations=("equal", "linear", "measured"), rounds=2, pilot_rounds=2)
    run_cases(tmp_path, to_dict(config), ordering.cases(config), ordering.MODULES)
    (runs,) = load_cases(tmp_path).results.values()
    predicted = {run["allocation"]: run["predicted"] for run in runs}
    # The allocation that minimises the measured objective has the least of it, but for its convex stand-in.
    assert predicted["measured"] < 1.001 * min(predicted.values())
    assert min(run["predicted_linear"] for run in runs) == pytest.approx(
        next(run["predicted_linear"] for run in runs if run["allocation"] == "linear"), rel=0.02
    )
    text = ordering_page.write(tmp_path).read_text(encoding="utf-8")
    assert "Over 3 allocations at one deadline" in text


def test_a_wrong_order_is_found_out() -> None:
    accuracy = np.array([0.9, 0.8, 0.7])
    assert ordering_page.correlation(np.array([1.0, 2.0, 3.0]), accuracy) == pytest.approx(1.0)
    assert ordering_page.correlation(np.array([3.0, 2.0, 1.0]), accuracy) == pytest.approx(-1.0)

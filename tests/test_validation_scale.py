"""The study `scale`: small sizes from cases to page, and the laws it fits on numbers that obey them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from validation.cases import run_cases
from validation.config import to_dict
from validation.scale import page
from validation.scale.study import CONFIG, MODULES, cases


def test_a_small_study_from_cases_to_page(tmp_path: Path) -> None:
    tiny = replace(CONFIG, seeds=(1, 2), devices=(20, 60, 200), cells=(1, 12), devices_per_cell=15)
    run_cases(tmp_path, to_dict(tiny), cases(tiny), MODULES)
    assert "200 phones" in page.write(tmp_path).read_text(encoding="utf-8")
    found = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert len(found["runs"]) == 3 * 2 + 2
    verdicts = [claim["verdict"] for claim in found["claims"]]
    assert verdicts[2:] == ["holds"] * 3
    for run in found["runs"]:
        assert 0 < run["objective"] < CONFIG.pruning_ratio_max
        if "gained" in run:
            assert 0 < run["gained"] <= run["gain_predicted"] * (1 + 1e-9)


def test_the_fitted_exponent() -> None:
    x = [10.0, 100.0, 1000.0]
    assert page.exponent(x, [3 / np.sqrt(v) for v in x]) == pytest.approx(-0.5)


def test_the_default_reaches_the_sizes_asked_for() -> None:
    assert max(CONFIG.devices) == 100_000
    assert max(CONFIG.cells) == 1000

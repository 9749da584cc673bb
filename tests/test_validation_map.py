"""The study `map`: one cell from case to page, and shares of time that are known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from validation.cases import run_cases
from validation.config import to_dict
from validation.map import page
from validation.map.study import CONFIG, MODULES, cases


def test_a_small_study_from_cases_to_page(tmp_path: Path) -> None:
    short = replace(CONFIG.comparison, training=replace(CONFIG.comparison.training, rounds=2))
    tiny = replace(CONFIG, seeds=(1,), bandwidths_hz=(2.5e6, 10e6), speeds=(1.0,), comparison=short)
    run_cases(tmp_path, to_dict(tiny), cases(tiny), MODULES)
    assert "Of 2 combinations" in page.write(tmp_path).read_text(encoding="utf-8")
    narrow, wide = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["cells"]
    assert (narrow["bandwidth_hz"], wide["bandwidth_hz"]) == (2.5e6, 10e6)
    assert 0 < wide["pruning_ratio"] < 0.8


def test_shares_of_time() -> None:
    reference = [0.1] * 5 + [0.9] * 15  # averaged over 10 rounds it is 0.9 from round 15 on
    run = {"accuracy": reference, "time_s": (0.5 * np.arange(1, 21)).tolist(), "unpruned_round_s": 1.0}
    assert page.time_share(run, reference) == pytest.approx(50.0)
    assert page.time_share({**run, "accuracy": [0.1] * 20}, reference) is None

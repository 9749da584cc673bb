"""The study `tradeoff`: a small run, and rank correlations whose values are known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from validation.cases import Finished, run_cases
from validation.config import to_dict
from validation.tradeoff import page
from validation.tradeoff.study import CONFIG, MODULES, cases


def test_a_small_study_from_cases_to_page(tmp_path: Path) -> None:
    chosen = tuple(s for s in CONFIG.settings if s.name in ("base", "deadline0.85", "bandwidth2MHz", "energy0.5"))
    tiny = replace(CONFIG, seeds=(1, 2), settings=chosen, rounds=3, last=1)
    run_cases(tmp_path, to_dict(tiny), cases(tiny), MODULES)
    assert "4 settings" in page.write(tmp_path).read_text(encoding="utf-8")
    found = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    by_name = {(run["setting"], run["seed"]): run for run in found["runs"]}
    assert len(by_name) == 8
    for seed in (1, 2):
        order = [by_name[name, seed]["predicted"] for name in ("deadline0.85", "base", "bandwidth2MHz")]
        assert order == sorted(order)
        assert by_name["energy0.5", seed]["predicted"] >= by_name["base", seed]["predicted"]
    assert all(run["gradient_sq"] > 0 and run["worst_residual"] <= 1e-9 for run in found["runs"])


def _made_up(loss: list[list[float]]) -> dict[int, list[dict[str, float | str]]]:
    return {
        seed: [
            {"setting": str(i), "varied": "deadline", "predicted": 0.1 * i, "loss": value}
            for i, value in enumerate(values)
        ]
        for seed, values in enumerate(loss)
    }


def test_rank_correlations() -> None:
    runs = _made_up([[1, 2, 3, 4], [1, 3, 2, 4], [4, 3, 2, 1]])
    # 1 - 6 sum d^2 / (n (n^2 - 1)): one swapped pair gives 1 - 12/60.
    assert page.correlations(runs, "loss") == pytest.approx([1.0, 0.8, -1.0])


def test_the_interval_over_seeds() -> None:
    assert page.interval(np.array([0.5, 0.5])) == (0.5, 0.5)
    assert page.interval(np.array([0.5])) == (-1.0, 1.0)
    low, high = page.interval(np.tanh([0.6, 0.7, 0.8]))
    half = 4.302652729911275 * 0.1 / np.sqrt(3)  # t_{0.975} with 2 degrees of freedom
    assert (low, high) == pytest.approx((np.tanh(0.7 - half), np.tanh(0.7 + half)))
    assert page.interval(np.array([0.99, 1.0]))[1] <= 1


def test_runs_are_grouped_by_seed() -> None:
    runs = {f"{s}-{k}": {"setting": s, "seed": k} for k in (1, 2) for s in "ab"}
    grouped = page.by_seed(Finished({}, runs, {}, False))
    assert {seed: [r["setting"] for r in each] for seed, each in grouped.items()} == {1: ["a", "b"], 2: ["a", "b"]}


def test_the_default_has_enough_settings() -> None:
    assert len(CONFIG.settings) >= 20
    assert len({s.name for s in CONFIG.settings}) == len(CONFIG.settings)
    assert {s.varied for s in CONFIG.settings} >= {"deadline", "bandwidth", "power", "energy"}

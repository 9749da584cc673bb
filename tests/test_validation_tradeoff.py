"""The study `tradeoff`: a small run, and rank correlations whose values are known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from validation.cases import run_cases
from validation.config import to_dict
from validation.tradeoff import page
from validation.tradeoff.study import CONFIG, MODULES, cases


def test_a_small_study_from_cases_to_page(tmp_path: Path) -> None:
    chosen = tuple(s for s in CONFIG.settings if s.name in ("base", "deadline0.6", "energy0.01"))
    tiny = replace(
        CONFIG, seeds=(1,), settings=chosen, allocations=("equal", "linear", "measured"), rounds=10,
        unpruned_rounds=2.0, pilot_rounds=2,
    )  # fmt: skip
    run_cases(tmp_path, to_dict(tiny), cases(tiny), MODULES)
    assert "3 settings" in page.write(tmp_path).read_text(encoding="utf-8")
    found = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    runs = {(run["setting"], run["allocation"], run["seed"]): run for run in found["runs"]}
    assert len(runs) == 9
    assert {claim["id"] for claim in found["claims"]} == {f"{g}-{o}" for g in page.GROUPS for o in page.OBJECTIVES}
    assert all(run["worst_residual"] <= 1e-9 for run in found["runs"])
    for (setting, allocation, seed), run in runs.items():
        # Each objective has its optimum, and a later deadline prunes less.
        assert runs[setting, "linear", seed]["loss_linear"] <= run["loss_linear"] + 1e-9
        assert runs[setting, "measured", seed]["loss_measured"] <= run["loss_measured"] + 1e-9
        base = runs["base", allocation, seed]
        assert run["round"] == pytest.approx(0.6 if setting == "deadline0.6" else 0.25, abs=0.01)
        if setting == "deadline0.6":
            assert run["loss_linear"] < base["loss_linear"]
        if setting == "energy0.01" and allocation == "linear":
            assert run["loss_linear"] > base["loss_linear"]


def _made_up(outcomes: list[list[float]], losses: list[float] | None = None) -> page.Runs:
    """Runs of two settings, two allocations each, in the order in which their loss grows."""
    losses = losses or [0.1, 0.2, 0.3, 0.4]
    names = [("base", "none"), ("base", "none"), ("deadline0.3", "deadline"), ("deadline0.3", "deadline")]
    return {
        seed: [
            {
                "setting": name, "varied": varied, "allocation": str(i % 2), "seed": seed, "loss_measured": loss,
                "progress_measured": 1.0 - loss, "accuracy_rounds": value, "accuracy_time": value,
            }
            for i, ((name, varied), loss, value) in enumerate(zip(names, losses, values, strict=True))
        ]
        for seed, values in enumerate(outcomes)
    }  # fmt: skip


def test_rank_correlations() -> None:
    runs = _made_up([[0.4, 0.3, 0.2, 0.1], [0.4, 0.2, 0.3, 0.1], [0.1, 0.2, 0.3, 0.4], [0.3, 0.4, 0.2, 0.1]])
    # 1 - 6 sum d^2 / (n (n^2 - 1)): one swapped pair gives 1 - 12/60.
    for name in ("rounds", "time"):
        assert page.correlations(runs, page.GROUPS[name], "measured") == pytest.approx([1.0, 0.8, -1.0, 0.8])
    # Within each setting two runs are in order or not.
    assert page.correlations(runs, page.GROUPS["within"], "measured") == pytest.approx([1.0, 1.0, -1.0, 0.0])
    # Of the cells at the base's deadline only the base is there.
    assert page.correlations(runs, page.GROUPS["cells"], "measured") == pytest.approx([1.0, 1.0, -1.0, -1.0])
    (first, *_, last) = page.over_seeds(runs)
    assert (first["setting"], last["setting"]) == ("base", "deadline0.3")
    assert first["accuracy_rounds"] == pytest.approx(0.3)


def test_what_an_objective_gives_away() -> None:
    runs = _made_up([[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])
    assert page.given_away(runs, page.GROUPS["time"], "measured") == pytest.approx([0.0, 30.0])
    swapped = _made_up([[0.4, 0.3, 0.2, 0.1]], [0.4, 0.1, 0.2, 0.3])
    assert page.given_away(swapped, page.GROUPS["time"], "measured") == pytest.approx([10.0])


def test_the_interval_over_seeds() -> None:
    assert page.interval(np.array([0.5, 0.5])) == (0.5, 0.5)
    assert page.interval(np.array([0.5])) == (-1.0, 1.0)
    low, high = page.interval(np.tanh([0.6, 0.7, 0.8]))
    half = 4.302652729911275 * 0.1 / np.sqrt(3)  # t_{0.975} with 2 degrees of freedom
    assert (low, high) == pytest.approx((np.tanh(0.7 - half), np.tanh(0.7 + half)))
    assert page.interval(np.array([0.99, 1.0]))[1] <= 1


def test_runs_are_grouped_by_seed() -> None:
    runs: list[dict[str, Any]] = [{"setting": s, "seed": k} for k in (1, 2) for s in "ab"]
    grouped = page.by_seed(runs)
    assert {seed: [r["setting"] for r in each] for seed, each in grouped.items()} == {1: ["a", "b"], 2: ["a", "b"]}


def test_every_group_has_enough_settings() -> None:
    assert len({s.name for s in CONFIG.settings}) == len(CONFIG.settings)
    for group in page.GROUPS.values():
        assert sum(s.varied in group.varied for s in CONFIG.settings) >= 5
    assert CONFIG.training.personal_steps > CONFIG.training.pruned_steps

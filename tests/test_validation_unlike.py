"""The studies `difference` and `kinds`: small runs from cases to page, and what their pages make of known runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fltrain as ft
import validation.difference.page as difference_page
import validation.difference.study as difference
import validation.kinds.page as kinds_page
import validation.kinds.study as kinds
from validation.cases import Finished, run_cases


def test_a_small_ladder_from_cases_to_page(tmp_path: Path) -> None:
    tiny = replace(
        difference.CONFIG,
        seeds=(1, 2),
        rounds=6,
        rungs=(difference.RUNGS[0], difference.RUNGS[-1]),
        common_ratios=(0.9,),
        broadcast="whole",
    )
    run_cases(tmp_path, difference.run_config(tiny), difference.cases(tiny), difference.MODULES)
    assert "more progress per second" in difference_page.write(tmp_path).read_text(encoding="utf-8")
    found = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    for rung in found["rungs"]:
        # That common ratio is among what the planner could choose, which finds its deadline to 0.2 % of progress. With
        # broadcasts of what moved it may be behind: ratios at a deadline do not count the next broadcast.
        assert min(rung["expected"]) > -2e-3
        assert set(rung["ahead"]) == {"common", "common-0.9"}
    ids = {claim["id"]: claim["measured"]["per_seed"] for claim in found["claims"]}
    assert {"upper-half", "lower-half", "upper-half-0.9", "lower-half-0.9"} < ids.keys()
    lower, upper = found["rungs"]
    assert set(upper["ahead_alike"]) == set(upper["ahead"])
    assert ids["upper-half-0.9"] == upper["ahead"]["common-0.9"]
    assert ids["lower-half-0.9"] == pytest.approx([np.mean(lower["ahead"]["common-0.9"])])


def test_accuracy_counts_a_phone_by_its_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def train(split: ft.Split, shares: list[ft.DeviceData], *rest: Any, **more: Any) -> ft.History:
        seen.update(shares=shares, history=real(split, shares, *rest, **more))
        history: ft.History = seen["history"]
        return history

    real = ft.train
    monkeypatch.setattr(ft, "train", train)
    config = replace(difference.CONFIG, rounds=2)
    (rung,) = [rung for rung in difference.RUNGS if rung.name == "data"]
    run = difference.run(config, rung, "common", 1)
    samples = np.array([len(share.train_y) for share in seen["shares"]])
    assert samples.max() > 2 * samples.min()
    each = np.array([record["accuracy_per_device"] for record in seen["history"].records], dtype=float)
    assert run["accuracy"] == pytest.approx((each @ samples / samples.sum()).tolist())
    assert run["accuracy_alike"] == pytest.approx(each.mean(axis=1).tolist())
    assert run["accuracy"] != pytest.approx(run["accuracy_alike"], abs=1e-3)


def test_phones_of_a_rung() -> None:
    config = difference.CONFIG
    alike, _, nobody = difference.unlike_phones(config, difference.RUNGS[0], 1)
    assert np.ptp(alike.distance_m) == np.ptp(alike.path_gain) == np.ptp(alike.cycles_per_flop) == 0.0
    assert not nobody.any()
    unlike, amount, binds = difference.unlike_phones(config, difference.RUNGS[-1], 1)
    assert np.ptp(np.log(unlike.distance_m)) == pytest.approx(np.log(10.0))
    assert np.ptp(np.log(unlike.cycles_per_flop)) == pytest.approx(np.log(30.0))
    assert np.ptp(np.log(amount)) == pytest.approx(np.log(8.0))
    assert binds.sum() == 5
    assert np.exp(np.log(unlike.distance_m).mean()) == pytest.approx(config.distance_m)


def _ladder_run(rung: str, scheme: str, seed: int, step: int, gain: float | None) -> dict[str, Any]:
    accuracy = [0.5] * step + [0.9] * (40 - step)
    return {
        "rung": rung, "scheme": scheme, "seed": seed, "accuracy": accuracy, "time_s": np.arange(1.0, 41.0).tolist(),
        "expected_gain": gain, "pruning_ratio": 0.9, "unpruned_round_s": 4.0,
    }  # fmt: skip


def test_the_ladder_of_known_runs() -> None:
    runs = [
        _ladder_run(rung, scheme, seed, step, gain if scheme == "joint" else None)
        for seed in (1, 2)
        for rung, gain, mine in (("steep", 0.2, 5 + seed), ("flat", 0.1, 10))
        for scheme, step in (("joint", mine), ("common", 10))
    ]
    by_rung = difference_page.by_rung(Finished({}, {str(i): run for i, run in enumerate(runs)}, {}, False))
    assert difference_page.ladder(by_rung) == ["flat", "steep"]
    # From the first round's end to the last one's are 39 s; four or three rounds earlier by 0.4.
    assert difference_page.ahead(by_rung, "steep", "common") == pytest.approx([100 * 0.4 * 4 / 39, 100 * 0.4 * 3 / 39])
    assert difference_page.ahead(by_rung, "flat", "common") == pytest.approx([0.0, 0.0])
    assert difference_page.sooner(by_rung, "flat") == pytest.approx([1.0, 1.0])
    assert difference_page.sooner(by_rung, "steep") == pytest.approx([16 / 20, 17 / 20])


def test_how_sure_an_order_of_rungs_is() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(6.0)[:, None]
    alike, noisy = truth + np.zeros((6, 8)), truth + 6.0 * rng.standard_normal((6, 8))
    assert difference_page.span(alike, alike) == (1.0, 1.0)
    assert difference_page.ceiling(alike) == 1.0
    low, high = difference_page.span(alike, noisy)
    assert -1.0 <= low < high <= 1.0
    assert difference_page.ceiling(noisy) < 0.95
    assert difference_page.ceiling(truth + 60.0 * rng.standard_normal((6, 8))) < difference_page.ceiling(noisy)


def test_a_small_map_from_cases_to_page(tmp_path: Path) -> None:
    tiny = replace(
        kinds.CONFIG, seeds=(1, 2), bandwidths_hz=(5e6,), speeds=(0.0625, 1.0),
        swept=tuple(next(e for e in kinds.SWEPT if e.kind == kind) for kind in ("sparse", "frozen", "zeroed")),
        cell=replace(kinds.CONFIG.cell, dataset="digits", rounds=3, pruned_rounds=3),
    )  # fmt: skip
    run_cases(tmp_path, kinds.run_config(tiny), kinds.cases(tiny, None), kinds.MODULES)
    assert "kind that wins" in kinds_page.write(tmp_path).read_text(encoding="utf-8")
    cells = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["cells"]
    assert [cell["speed"] for cell in cells] == [0.0625, 1.0]
    assert all(cell["chosen"] in ("frozen", "sparse") for cell in cells)


def test_the_map_of_known_runs() -> None:
    def run(entry: kinds.Entry, step: int, round_s: float) -> dict[str, Any]:
        accuracy = [0.1] * step + [0.9] * (60 - step)
        return {
            "entry": entry.name, "seed": 1, "accuracy": accuracy, "time_s": (round_s * np.arange(1, 61)).tolist(),
            "unpruned_round_s": 1.0, "bandwidth_hz": 5e6, "speed": 1.0,
        }  # fmt: skip

    runs = [run(kinds.UNPRUNED, 10, 1.0), run(kinds.CHOSEN, 15, 0.2), run(kinds.SWEPT[2], 20, 0.25),
            run(kinds.SWEPT[7], 60, 0.4)]  # fmt: skip
    ((of),) = kinds_page.shares(Finished({}, {str(i): r for i, r in enumerate(runs)}, {}, False)).values()
    # Averaged over ten rounds, 0.9 is reached ten rounds after the step.
    assert of[kinds.CHOSEN.name] == (pytest.approx(100 * 25 * 0.2 / 20),)
    assert of[kinds.SWEPT[7].name] == (None,)
    assert kinds_page.best(of) == kinds.SWEPT[2].name
    of[kinds.CHOSEN.name] += (99.0,)
    assert kinds_page.planned(of) == pytest.approx(62.0)
    # What is best on either seed is the worse one on the other.
    two = {(5e6, 1.0): {kinds.CHOSEN.name: (20.0, 40.0), kinds.SWEPT[0].name: (10.0, 50.0),
                        kinds.SWEPT[1].name: (30.0, 20.0)}}  # fmt: skip
    assert kinds_page.regret(two) == {(5e6, 1.0): pytest.approx(30 / 25)}
    assert kinds_page.regret_on_others(two) == {(5e6, 1.0): pytest.approx(30 / 40)}
    assert [kinds_page.kind_of(entry.name) for entry in kinds.SWEPT] == [entry.kind for entry in kinds.SWEPT]

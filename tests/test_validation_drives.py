"""The study `drives`: a small run from files to page, and what its page makes of known runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_validation_harder import TINY, synthetic_drives

from validation.__main__ import main
from validation.cases import run_cases
from validation.drives import left_out, page, steps, study, tuned


def test_a_small_study_from_files_to_page(tmp_path: Path) -> None:
    data_dir = synthetic_drives(tmp_path / "data")
    entries = (
        study.Entry("unpruned", 1.0),
        study.Entry("unpruned", 2.0),
        study.Entry("joint", 1.0, "covered"),
        study.Entry("joint", 2.0, "fill", ("frozen",), by_speed=6),
        study.Entry("common", 2.0, "fill", ("sparse",)),
    )
    cell = replace(TINY, personal_steps=3, pruned_steps=2, importance="movement")
    tiny = replace(tuned.CONFIG, seeds=(1,), entries=entries, rounds=3, pruned_rounds=4, cell=cell)
    run_cases(tmp_path / "out", study.run_config(tiny), study.cases(tiny, data_dir), study.MODULES)
    assert "on measured drives" in page.write(tmp_path / "out").read_text(encoding="utf-8")
    found = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))["entries"]
    assert set(found) == {entry.name for entry in entries}
    for name, of in found.items():
        assert (of["pruned"][0] > 0.0) == name.startswith(("joint", "common"))
        assert of["round"][0] > of["floor"][0] * (0.5 if "frozen" in name else 1.0)


def _run(entry: str, seed: int, step: int, round_s: float, end: float) -> dict[str, Any]:
    rounds = 60
    return {
        "entry": entry, "seed": seed, "accuracy": [0.5] * step + [end] * (rounds - step),
        "time_s": (round_s * np.arange(1, rounds + 1)).tolist(), "slowest_training_s": 1.0, "pruning_ratio": [0.0],
        "lost": 6, "participants": 9.9, "worst_accuracy": [0.1] * 50 + [0.3] * 10,
    }  # fmt: skip


def test_known_runs() -> None:
    runs: page.Runs = {
        "unpruned-rate1": {7: _run("unpruned-rate1", 7, 30, 2.0, 0.8)},
        "unpruned-rate2": {7: _run("unpruned-rate2", 7, 20, 2.0, 0.8)},
        "joint-fill-rate2": {7: _run("joint-fill-rate2", 7, 20, 1.0, 0.79)},
        "joint-covered-rate1": {7: _run("joint-covered-rate1", 7, 10, 1.0, 0.81)},
    }
    found = page.measured(runs)
    assert {of["reference"] for of in found.values()} == {"unpruned-rate2"}
    # Averaged over ten rounds a step of 0.3 is within half a point of its height in its tenth round, one of 0.31 too.
    assert found["joint-covered-rate1"]["tuned"] == pytest.approx((100 * 20 * 1.0 / (30 * 2.0),))
    assert found["joint-fill-rate2"]["tuned"] == (None,)  # a point below
    assert found["joint-fill-rate2"]["behind"] == pytest.approx((1.0,))
    assert found["joint-covered-rate1"]["behind"] == pytest.approx((-1.0,))
    assert found["joint-covered-rate1"]["round"] == pytest.approx([50.0])
    assert found["joint-covered-rate1"]["floor"] == pytest.approx([50.0])
    assert found["joint-covered-rate1"]["lost"] == pytest.approx([1.0])
    assert found["joint-covered-rate1"]["participants"] == [9.9]
    assert found["joint-covered-rate1"]["worst"] == pytest.approx([30.0])
    assert found["joint-covered-rate1"]["of_all"] == ()
    for of in runs.values():  # of all phones, a quarter of which never learn
        of[7]["accuracy_of_all"] = [0.75 * a + 0.125 for a in of[7]["accuracy"]]
    again = page.measured(runs)
    assert again["joint-covered-rate1"]["of_all"] == pytest.approx((100 * 20 * 1.0 / (30 * 2.0),))
    assert again["joint-covered-rate1"]["tuned"] == found["joint-covered-rate1"]["tuned"]
    # Rounds of half the steps are averaged over twice as many: a step up counts in its twentieth round.
    runs["joint-fill-steps3and3-rate2"] = {7: _run("joint-fill-steps3and3-rate2", 7, 10, 1.0, 0.81) | {"window": 20}}
    assert page.measured(runs)["joint-fill-steps3and3-rate2"]["tuned"] == pytest.approx((100 * 30 * 1.0 / (30 * 2.0),))


def test_phones_without_service_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data_dir = synthetic_drives(tmp_path / "data")
    tiny = replace(tuned.CONFIG, rounds=2, cell=TINY)
    served = np.arange(TINY.devices) != 1
    monkeypatch.setattr(study, "planned", lambda planner, workload, rounds: (1.0, served))
    run = study.run(tiny, study.Entry("unpruned", 1.0), 1, data_dir)
    others = TINY.devices - 1
    assert run["served"] == np.flatnonzero(served).tolist()
    alone = TINY.devices * np.array(run["accuracy_of_all"]) - others * np.array(run["accuracy"])
    samples = np.round(alone * 1e4) / 1e4
    assert ((samples >= 0.0) & (samples <= 1.0)).all()
    assert run["accuracy"] != run["accuracy_of_all"]
    assert (np.array(run["worst_accuracy"]) <= np.array(run["accuracy"])).all()


def test_who_is_served_is_whom_some_unpruned_round_asks() -> None:
    import fltrain as ft

    rounds: list[float] = []

    def planner(round_index: int, workload: ft.Workload) -> ft.RoundPlan:
        rounds.append(workload.elapsed_s)
        asked = np.arange(4) <= round_index
        return ft.RoundPlan(np.zeros(4), np.full(4, 1.0 + round_index), np.zeros(4), asked)

    work = ft.Workload(*(np.ones(4) for _ in range(6)), weight=np.full(4, 0.25), selected=np.ones(4, dtype=bool))
    mean_s, served = study.planned(planner, work, 3)
    assert (mean_s, served.tolist(), rounds) == (2.0, [True, True, True, False], [0.0, 1.0, 3.0])


def test_batches_by_speed_are_as_the_phones_compute(tmp_path: Path) -> None:
    radio = study.on_drives(TINY, synthetic_drives(tmp_path / "data"), 1)
    speed = np.asarray(radio.phones.flop_per_s)
    sizes = np.array(study.batches(1000, radio))
    np.testing.assert_allclose(sizes / sizes.mean(), speed / speed.mean(), rtol=1e-3)
    assert sizes.mean() == pytest.approx(1000, abs=1)
    assert speed.max() > 1.1 * speed.min()
    assert study.batches(1, radio) == [2] * len(speed)


def test_entries_are_told_apart_in_words() -> None:
    entries = (*tuned.CONFIG.entries, *tuned.TUNING.entries)
    names = {entry.name for entry in entries}
    assert len({page.said(name) for name in names}) == len(names)
    assert page.said("joint-fill-sparse-feedback-speed10-rate3") == (
        "Planned rounds, mean over all, sparse alone, error feedback, batches by speed, 10 on the mean, server rate 3"
    )


def test_more_steps_a_round_train_further(tmp_path: Path) -> None:
    config = replace(tuned.CONFIG, cell=replace(TINY, personal_steps=1, importance="movement"))
    data_dir = synthetic_drives(tmp_path / "data")
    one, many = (steps.trained(config, data_dir, 1, count, after=(2, 6)) for count in (1, 12))
    assert set(one) == {2, 6}
    assert many[6] > one[6]


def test_the_command_needs_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty, partly, no_drives = (tmp_path / name for name in ("empty", "partly", "no_drives"))
    for folder in (empty, partly / "cifar10", no_drives / "cifar10", no_drives / "radio_traces"):
        folder.mkdir(parents=True)
    for name in ("drives", "drives-tuning"):
        for arguments, message in (
            ([], f"--data-dir is needed for {name}: a folder with cifar10 and radio_traces"),
            (["--data-dir", str(empty)], f"--data-dir {empty}: there is no folder cifar10 in it"),
            (["--data-dir", str(partly)], f"--data-dir {partly}: there is no folder radio_traces in it"),
            (["--data-dir", str(no_drives)], "Driving has 0 drives (*.csv), the study needs 10"),
        ):
            assert main([name, "--out", str(tmp_path / "out"), *arguments]) == 2
            told = capsys.readouterr().err
            assert message in told
            assert "case/s" not in told  # no progress bar has begun
            assert not (tmp_path / "out").exists()


def test_leaving_out_the_slowest_is_judged_by_progress_per_second(tmp_path: Path) -> None:
    data_dir = synthetic_drives(tmp_path / "data")
    cell = replace(TINY, personal_steps=3, pruned_steps=2, importance="movement")
    config = replace(tuned.TUNING, cell=cell)
    seed = next(s for s in range(50) if study.on_drives(cell, data_dir, s).link.gain(0, 0.0).all())  # all in service
    found = left_out.worth(config, data_dir, seed, left_out=(0, 1, 2), rounds=1)
    assert set(found) == {"planned", "unpruned"}
    for values in found.values():
        assert values[0] == 1.0
        assert np.all(values >= np.array([3, 2, 1]) / 3 * (1 - 1e-3))  # fewer phones take no longer, but for the grid
        assert values[2] < 1.0


def test_fewer_steps_a_round_are_more_rounds() -> None:
    cell = replace(TINY, personal_steps=6, pruned_steps=5)
    half = study.Entry("joint", 2.0, steps=(3, 2))
    assert half.more(cell) == pytest.approx(11 / 5)
    assert study.Entry("joint", 2.0).more(cell) == 1.0
    assert half.name == "joint-fill-steps3and2-rate2"
    assert replace(half, deadline=0.6).family == study.Entry("joint", 3.0).family == "joint-fill"
    names = [entry.name for entry in tuned.TUNING.entries]
    assert len(set(names)) == len(names)


def test_steps_of_ones_own_are_judged_by_progress_per_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data_dir = synthetic_drives(tmp_path / "data")
    cell = replace(TINY, personal_steps=3, pruned_steps=2, importance="movement")
    config = replace(tuned.TUNING, cell=cell)
    seed = next(s for s in range(50) if study.on_drives(cell, data_dir, s).link.gain(0, 0.0).all())  # all in service
    whole = study.on_drives(cell, data_dir, seed)

    def worth(slower: float, power: float = 1.0) -> dict[str, float]:
        """With phones as slow as the uplink or slower, the first of them slower still."""
        speed = 1e-4 * np.asarray(whole.phones.flop_per_s) / np.array([slower] + [1.0] * (cell.devices - 1))
        slow = replace(whole, phones=replace(whole.phones, flop_per_s=speed))
        monkeypatch.setattr(steps, "on_drives", lambda *_: slow)
        return steps.worth(config, data_dir, seed, power, rounds=1, tried=4)

    found = worth(1.0)
    assert set(found) == {"planned", "busy", "fewer", "fewer or more"}
    # All that is configured is among what is tried, and nobody is busier than always.
    assert found["busy"] < found["fewer or more"] <= found["fewer"] <= found["planned"] < 1.0
    # One step of two brings nearly all of a whole round's progress, or next to nothing.
    one = worth(1.0, 0.01)
    assert 0.8 * found["planned"] < one["fewer"] < 0.9 * found["planned"]  # heads make all their steps
    assert one["fewer or more"] <= one["fewer"]
    assert worth(1.0, 9.0)["fewer"] == pytest.approx(found["planned"])
    # A phone a hundred times as slow as the others makes fewer steps, and costs little more than its share.
    assert worth(100.0)["fewer"] < 0.1

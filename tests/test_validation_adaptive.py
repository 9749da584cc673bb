"""The studies `adaptive` and `tuning`: a small run from cases to page, and times to a target that are known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fltrain.adapt import AdaptivePlanner
from validation.adaptive import page
from validation.adaptive.planners import CommonPlanner, of_phones
from validation.adaptive.study import MODULES, Entry, cases, run_config
from validation.adaptive.tuned import (
    BEST,
    CNN,
    RATES,
    SEEDS,
    TUNING_SEEDS,
    baselines,
    baselines_tuning,
    chosen,
    reported,
    tuning,
)
from validation.cases import Finished, run_cases

DATASETS = ("digits", "mnist", "fashion_mnist", "writers", "subjects")
KINDS = (
    Entry("equal", 1.0, "fill", "frozen", 0.4),
    Entry("pruning_only", 1.0, "fill", "sparse", 0.4),
    Entry("common", 1.0, "fill", "zeroed", 0.5),
    Entry("fixed", 1.0, "fill", "sparse"),
    Entry("joint", 2.0, "fill", "sparse", 0.5),
    Entry("joint", 2.0, "fill", "chosen"),
)


def test_a_small_study_from_cases_to_page(tmp_path: Path) -> None:
    study = reported("digits")
    tiny = replace(study, seeds=(1,), rounds=2, pruned_rounds=3, entries=study.entries + KINDS)
    run_cases(tmp_path, run_config(tiny), cases(tiny), MODULES)
    assert "the floor of a round is" in page.write(tmp_path).read_text(encoding="utf-8")
    entries = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["entries"]
    assert set(entries) == {entry.name for entry in tiny.entries}
    for entry in tiny.entries:
        of = entries[entry.name]
        if entry.deadline is not None:
            assert of["round"][0] <= 102 * entry.deadline  # later broadcasts are shorter than the first
            assert of["round"][0] >= 60 * entry.deadline
        elif entry.scheme == "unpruned":
            assert of["round"][0] == pytest.approx(100.0, abs=3.0)
        else:
            assert of["round"][0] < 60.0
        # Zeroed and frozen rounds do without some of the computing that counts as the floor of dense ones.
        assert of["round"][0] > of["floor"][0] or entry.kind in ("zeroed", "frozen", "chosen")


def test_a_small_study_of_the_cnn(tmp_path: Path) -> None:
    study = reported("digits", "cnn")
    tiny = replace(study, seeds=(1,), rounds=2, pruned_rounds=2, entries=study.entries[1:3])
    run_cases(tmp_path, run_config(tiny), cases(tiny), MODULES)
    shown = page.write(tmp_path).read_text(encoding="utf-8")
    assert "Sparse or frozen rounds" in shown
    assert "--dataset digits --model cnn" in shown
    found = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    # No untuned one was run.
    kinds = [claim["id"].partition("-batch8-")[2] for claim in found["claims"]]
    assert kinds == ["tuned", "tuned-wide", "over-floor", "over-training"]
    (of,) = [of for name, of in found["entries"].items() if name.startswith("joint")]
    for claim, part in zip(found["claims"][2:], ("floor", "training"), strict=True):
        (share,), (least,) = of["tuned"], of[part]
        assert claim["measured"]["per_seed"] == [None if share is None else pytest.approx(share / least)]


def test_seeds_are_fresh_and_no_two_data_sets_share_a_cell() -> None:
    tuned, shown = ([set(study(name).seeds) for name in DATASETS] for study in (tuning, reported))
    assert max(max(each) for each in tuned) < 100
    assert min(min(each) for each in shown) >= 300
    for sets in (tuned, shown):
        assert len(set.union(*sets)) == sum(map(len, sets))
    networks = [set(study(name, "cnn").seeds) for study in (tuning, reported) for name in CNN]
    assert len(set.union(*tuned, *shown, *networks)) == sum(map(len, (*tuned, *shown, *networks)))
    assert all(max(tuning(name, "cnn").seeds) < 100 <= 300 <= min(reported(name, "cnn").seeds) for name in CNN)
    own = set(baselines().seeds)
    assert min(own) >= 300
    assert not own & set.union(*shown)
    of_each = [{entry.kind for entry in baselines().entries if entry.scheme == scheme}
               for scheme in ("joint", "common", "equal", "pruning_only", "fixed")]  # fmt: skip
    assert all({"zeroed", "frozen"} < kinds <= {"zeroed", "frozen", "sparse", "chosen"} for kinds in of_each)
    assert set(TUNING_SEEDS) == set(SEEDS) == set(RATES) == set(DATASETS)


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_study_trains_more_personal_than_pruned_steps(dataset: str) -> None:
    assert reported(dataset).personal_steps > 5  # type: ignore[arg-type]


@pytest.mark.parametrize("dataset", DATASETS)
def test_of_every_family_that_is_tuned_one_setting_is_reported(dataset: str) -> None:
    tried, taken = tuning(dataset).entries, chosen(dataset)  # type: ignore[arg-type]
    assert len({entry.name for entry in tried}) == len(tried)
    assert sorted(entry.family for entry in taken) == sorted({entry.family for entry in tried})
    assert set(taken) <= set(tried)
    assert {entry.family for entry in tried if entry.scheme == "unpruned"} == {"unpruned"}


def test_of_every_baseline_that_is_tuned_one_setting_is_reported() -> None:
    tried = [entry for entry in baselines_tuning().entries if entry.scheme != "unpruned"]
    assert len({entry.name for entry in tried}) == len(tried)
    assert sorted(entry.family for entry in BEST) == sorted({entry.family for entry in tried})
    assert set(BEST) <= set(tried)
    assert set(baselines().entries) >= {*BEST, *chosen("digits")}
    assert max(baselines_tuning().seeds) < 100


def test_times_to_a_target() -> None:
    def run(entry: str, rounds: int, length_s: float) -> dict[str, object]:
        accuracy = [0.1] * rounds + [0.9] * (60 - rounds)
        return {
            "entry": entry, "seed": 1, "accuracy": accuracy, "time_s": (length_s * np.arange(1, 61)).tolist(),
            "pruning_ratio": [0.5] * 60, "unpruned_round_s": 1.0, "floor": 0.2, "training": 0.1, "family": entry,
        }  # fmt: skip

    # Averaged over ten rounds, 0.9 is reached ten rounds after the step.
    runs = [run("unpruned-rate1", 40, 1.0), run("unpruned-rate2", 10, 1.0), run("joint-fill-rate2", 15, 0.2)]
    found = page.measured(Finished({}, {str(i): r for i, r in enumerate(runs)}, {}, False))
    assert found["joint-fill-rate2"]["reference"] == "unpruned-rate2"
    assert found["joint-fill-rate2"]["tuned"] == (pytest.approx(100 * 25 * 0.2 / 20),)
    assert found["joint-fill-rate2"]["untuned"] == (pytest.approx(100 * 25 * 0.2 / 50),)
    assert page.interval((1.0, 2.0, 3.0)) == "-0.5 to 4.5"
    assert page.interval((None, 2.0)) == ""


@pytest.mark.parametrize("bandwidth_hz", [2e5, 1e6, 5e6])
def test_no_common_ratio_makes_more_progress_than_the_joint_plan(bandwidth_hz: float) -> None:
    import fltrain as ft
    from validation.config import DATASETS, Radio, Training
    from validation.radio import draw_phones
    from validation.schemes import SCHEMES
    from validation.study import load_data, work

    training = Training(**DATASETS["digits"])
    data = load_data(training, None)
    shares = ft.partition(data, 10, "shards", 1, classes_per_device=2)
    counted = work(training, data, shares, SCHEMES["joint"], 1)[2]
    error = ft.ERROR_RATIOS[None, :] ** np.linspace(6.0, 20.0, 10)[:, None]
    radio = Radio(bandwidth_hz=bandwidth_hz)
    phones = draw_phones(radio, 10, 2, 1)
    finely = tuple(np.concatenate([np.linspace(0.0, 0.9, 19), np.linspace(0.91, 0.99, 9)]).tolist())
    for change_sq in (np.ones(10), np.geomspace(1.0, 30.0, 10)):
        reported = replace(counted, changes=ft.Changes(change_sq, error))
        for t in range(2):
            joint = AdaptivePlanner(of_phones(radio, phones), kinds=("sparse",)).choose(t, np.arange(10), reported)
            common = CommonPlanner(of_phones(radio, phones), ratios=finely).choose(t, np.arange(10), reported)
            assert np.ptp(common.pruning_ratio) < 1e-4
            assert joint.progress_per_s > common.progress_per_s
            assert common.latency_s.max() == pytest.approx(common.deadline_s)


def test_a_common_ratio_plans_sparse_rounds_and_says_so() -> None:
    with pytest.raises(ValueError, match=r"^kinds must have sparse in it, got \('frozen',\): a common ratio plans no"):
        CommonPlanner(lambda t, asked, work: None, kinds=("frozen",))  # type: ignore[arg-type, return-value]


def test_writers_have_a_hand_each_and_a_test_split_of_their_own() -> None:
    import fltrain as ft
    from validation.adaptive import writers

    data = ft.load_digits()
    shares = writers.shares(data, 10, 0.3, 1)
    assert sum(len(share.train_y) + len(share.test_y) for share in shares) == len(data.y)
    for share in shares:
        assert len(np.unique(share.train_y)) == len(np.unique(share.test_y)) == 10
        assert 0.0 <= float(share.train_x.min()) <= float(share.train_x.max()) <= 1.0
    hands = [writers.draw_hand(np.random.default_rng((1, k))) for k in range(10)]
    assert min(np.abs(hands[i] - hands[j]).max() for i in range(10) for j in range(i)) > 0.01
    same = writers.write(data.x[:5], np.eye(2), 1.0)
    np.testing.assert_allclose(same, data.x[:5], atol=1e-6)
    # Turned by a quarter, a picture is what NumPy's rotation makes of it.
    quarter = writers.write(data.x[:5], np.array([[0.0, -1.0], [1.0, 0.0]]), 1.0)
    assert min(np.abs(quarter - np.rot90(data.x[:5], k, (2, 3))).max() for k in (1, 3)) < 1e-5


def test_a_common_ratio_that_energy_forbids_is_refused_by_name() -> None:
    import fltrain as ft
    from validation.config import DATASETS, Radio, Training
    from validation.radio import draw_phones
    from validation.schemes import SCHEMES
    from validation.study import load_data, work

    training = Training(**DATASETS["digits"])
    data = load_data(training, None)
    shares = ft.partition(data, 10, "shards", 1, classes_per_device=2)
    counted = work(training, data, shares, SCHEMES["joint"], 1)[2]
    build = of_phones(Radio(), draw_phones(Radio(), 10, 1, 1), np.full(10, 1e-9))
    with pytest.raises(ValueError, match=r"round 0 is possible at none of the common ratios \(0\.5,\)"):
        CommonPlanner(build, ratios=(0.5,)).choose(0, np.arange(10), counted)


def test_the_first_possible_ratio_is_taken_even_where_a_higher_one_makes_more_progress() -> None:
    import fltrain as ft
    from validation.config import DATASETS, Radio, Training
    from validation.radio import demand, draw_phones
    from validation.schemes import SCHEMES
    from validation.study import load_data, work

    training = Training(**DATASETS["digits"])
    data = load_data(training, None)
    shares = ft.partition(data, 10, "shards", 1, classes_per_device=2)
    split, config, _ = work(training, data, shares, SCHEMES["joint"], 1)
    counted = ft.count_workload(split, replace(config, update="sparse"), shares)
    phones = draw_phones(Radio(), 10, 1, 1)
    need = demand(Radio(), phones, counted)
    for sending_j, ratio in ((5e-4, 0.5), (1e-4, 0.9)):  # of the lesser budget nobody can send half
        build = of_phones(Radio(), phones, need.local_j + need.pruned_j + sending_j)
        common = CommonPlanner(build, ratios=(0.5, 0.9, 0.99), first_possible=True)
        assert common.choose(0, np.arange(10), counted).pruning_ratio == pytest.approx(ratio, abs=1e-4)
    likes = CommonPlanner(build, ratios=(0.5, 0.9, 0.95)).choose(0, np.arange(10), counted)
    assert likes.pruning_ratio == pytest.approx(0.95, abs=1e-4)

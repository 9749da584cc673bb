"""What docs/report.md says of the time to the accuracy of tuned unpruned training is what docs/results hold."""

from __future__ import annotations

import re

import numpy as np
import pytest
from report_docs import COVERED, FILL, SETS, entry_of, results_of, says, share_text

from validation.adaptive.tuned import BEST, CNN, FAMILIES, chosen, reported
from validation.measures import mean_interval


def planned_rows() -> list[str]:
    """The tables of the planner's study, as the page has them: half a point below the target, and one."""
    rows = []
    for name, title in SETS.items():
        report = results_of(f"adaptive-{name}")
        entries = [entry_of(report, family) for family in (COVERED, FILL, "common-covered-chosen", "common-fill-chosen",
                                                         "paper-covered-zeroed")]  # fmt: skip
        covered = entries[0]
        seeds = re.findall(r"seeds (\d+).*?(\d+)$", report["where"])[0]
        planned = " | ".join(share_text(of["tuned"]) for of in entries[:2])
        others = " | ".join(share_text(of["tuned"]).partition(";")[0] for of in entries[2:])
        rows.append(
            f"| {title}, {seeds[0]} to {seeds[1]} | {planned} | {others} | {np.mean(covered['floor']):.0f} | "
            f"{covered['reference'].removeprefix('unpruned-rate')} |"
        )
        shares = [share_text(of["wide"]) for of in entries]
        rows.append(f"| {title} | " + " | ".join([*shares[:2], *(s.partition(";")[0] for s in shares[2:])]) + " |")
    return rows


def verdict_rows() -> list[str]:
    """The three verdicts with which the page begins."""
    digits, report = results_of("adaptive-digits"), results_of("difference")
    rows = []
    half = entry_of(digits, COVERED)["tuned"]
    short = f"(to half a point, never on {half.count(None)} of {len(half)} seeds)"
    for family, what in (
        (COVERED, f"Rounds as planned, covered means, digits: share of tuned unpruned training's time {short}"),
        (FILL, "The same with means over all, so that the step does not depend on masks"),
    ):
        values = entry_of(digits, family)["wide"]
        low, high = mean_interval(values) or (np.nan, np.nan)
        rows.append(f"| {what} | {np.mean(values):.0f} % | {low:.0f} to {high:.0f} % |")
    (upper,) = [claim["measured"] for claim in report["claims"] if claim["id"] == "upper-half"]
    low, high = upper["interval_95"]
    rows.append(
        "| Own ratios ahead of the common one of the same planner where phones are unlike, broadcasts whole and unsent "
        "changes forgotten, accuracy averaged over time | "
        f"{upper['mean']:.2f} points | {low:.2f} to {high:.2f} |"
    )
    return rows


def test_planned_rounds() -> None:
    says(*verdict_rows(), *planned_rows())
    for family, mean in ((COVERED, "*Covered means*"), (FILL, "*Mean over all*")):
        untuned = {name: entry_of(results_of(f"adaptive-{name}"), family)["untuned"] for name in SETS}
        shares = ", ".join(f"{share_text(untuned[n], 20.0)} ({t})" for n, t in SETS.items())
        says(f"{mean}, against the untuned one: {shares}")


SKEWED = ("digits", "mnist", "fashion_mnist")
"""Data whose devices hold two classes each."""


def table_text() -> list[str]:
    """What the page says of the tables: the aims, how short rounds are, where own ratios are told apart."""
    most, rounds, slower, training, liu, told = [], [], [], [], [], []
    over: dict[tuple[str, str], list[float]] = {
        (family, part): [] for family in (FILL, COVERED) for part in ("floor", "training")
    }
    missed = []
    for name, title in SETS.items():
        report = results_of(f"adaptive-{name}")
        for family, means in ((FILL, "means over all"), (COVERED, "covered means")):
            of, common = entry_of(report, family), entry_of(report, family.replace("joint", "common"))
            if name in SKEWED:
                there = [value for value in of["tuned"] if value is not None]
                assert max(there) <= 30.0
                assert max(value for value in of["untuned"] if value is not None) <= 20.0
                missed += [
                    (title, means, one) for half, one in zip(of["tuned"], of["wide"], strict=True) if half is None
                ]
                most.append(max(of["wide"]))
                rounds.append(np.mean(of["round"]))
                training.append(np.mean(of["training"]))
                for part in ("floor", "training"):
                    over[family, part] += [t / f for t, f in zip(of["tuned"], of[part], strict=True) if t is not None]
                paper = np.mean(entry_of(report, "paper-covered-zeroed")["tuned"])
                liu.append(paper)
                slower.append(paper / np.mean(there))
            if None not in (*of["wide"], *common["wide"]):
                ahead = tuple(a - b for a, b in zip(common["wide"], of["wide"], strict=True))
                low, high = mean_interval(ahead) or (0.0, 0.0)
                if not low < 0.0 < high:
                    assert np.mean(ahead) < 0.0
                    told.append(
                        f"{means} on {title}, by {-np.mean(ahead):.1f} per cent of the time ({-high:.1f} to {-low:.1f})"
                    )
    ((title, means, one),) = missed  # one seed
    assert (title, means) == ("digits", "covered means")
    assert max(over[FILL, "training"]) <= 1.5
    within = sum(value <= 1.5 for value in over[COVERED, "training"])
    return [
        "with covered means on all seeds but one of digits, which does not get to half a point and takes "
        f"{one:.0f} % to one",
        f"at most {max(most):.0f} % there on every seed, by both means. To half a point they take at most "
        f"{max(over[FILL, 'floor']):.2f} times the floor with means over all; 1.5 times was asked for. With "
        f"covered means {max(over[COVERED, 'floor']):.2f} times, on the seeds that get there. The floor has "
        "a whole broadcast in every round, they have one in the first round alone. Of the slowest phone's training it "
        "is "
        f"{max(over[FILL, 'training']):.2f} times at most with means over all; with covered means it is within 1.5 "
        f"times on {within} of {len(over[COVERED, 'training']) + len(missed)} seeds",
        f"Rounds are {min(rounds):.0f} to {max(rounds):.0f} % of unpruned ones",
        f"Its training alone is {min(training):.0f} to {max(training):.0f} %",
        "own ratios are behind one common ratio that plans its own rounds, to within one point, with "
        f"{' and '.join(told)}, and told apart nowhere else",
        f"takes {min(slower):.1f} to {max(slower):.1f} times as long as the planner, {min(liu):.0f} to {max(liu):.0f} "
        "% of unpruned training's time on the first three data sets",
    ]


def test_what_is_said_of_the_table() -> None:
    """The aims are met on every seed with means over all; own ratios are told apart from a common one where it says."""
    says(*table_text())
    for name in ("writers", "subjects"):
        assert None in entry_of(results_of(f"adaptive-{name}"), "paper-covered-zeroed")["tuned"]


def test_what_it_took_by_the_root() -> None:
    (a, b, c), (d, e, f) = (
        [np.mean(entry_of(results_of(f"earlier/adaptive-{name}-{seed}"), family)["wide"])
         for name, seed in zip(SKEWED, (920, 930, 935), strict=True)]
        for family in (COVERED, FILL)
    )  # fmt: skip
    hands = [
        np.mean(entry_of(results_of(name), FILL)["wide"])
        for name in ("earlier/adaptive-writers-940", "adaptive-writers")
    ]
    says(
        "By the square root, on seeds 920 to 939, in 120 rounds and at rates tuned for it, planned training took "
        f"{a:.0f}, {b:.0f} and {c:.0f} % (covered means) and {d:.0f}, {e:.0f} and {f:.0f} % (mean over all) on the "
        f"first three data sets, to within one point, and {hands[0]:.0f} % with synthetic hands over all, where it now "
        f"takes {hands[1]:.0f}"
    )


def test_rates_at_the_ends_of_grids_are_named() -> None:
    grids: dict[str, list[float]] = {}
    for entry in FAMILIES:
        grids.setdefault(entry.family, []).append(entry.server_rate)
    ends = {
        (name, entry.family, "least" if entry.server_rate == min(grids[entry.family]) else "largest")
        for name in SETS
        for entry in chosen(name)  # type: ignore[arg-type]
        if entry.server_rate in (min(grids[entry.family]), max(grids[entry.family]))
    }
    assert ends == {
        ("mnist", "joint-fill-chosen", "largest"),
        ("mnist", "common-fill-chosen", "largest"),
        ("mnist", "common-covered-chosen", "largest"),
        ("mnist", "paper-covered-zeroed", "largest"),
        ("writers", "common-fill-chosen", "largest"),
        ("subjects", "joint-covered-chosen", "least"),
        ("subjects", "common-covered-chosen", "least"),
        ("subjects", "paper-covered-zeroed", "least"),
    }
    says(
        "On MNIST the rates of all that prune but the planner's covered one are the largest that were tried, with ten "
        "hands that of the common ratio over all; with ten subjects both covered rates and that of Liu et al. are the "
        "least."
    )


def test_what_it_took_before() -> None:
    (a, b, c), (d, e, f) = (
        [np.mean(entry_of(results_of(f"earlier/adaptive-{name}-{seed}"), family)["wide"])
         for name, seed in zip(SKEWED, (800, 820, 830), strict=True)]
        for family in (COVERED, FILL)
    )  # fmt: skip
    says(
        f"planned training took {a:.0f}, {b:.0f} and {c:.0f} % (covered means) and {d:.0f}, {e:.0f} and {f:.0f} % "
        "(mean over all) on the first three data sets, to within one point (`docs/results/earlier/adaptive-*-8"
    )


def test_what_whole_broadcasts_took() -> None:
    before = {family: [np.mean(entry_of(results_of(f"earlier/adaptive-{name}"), family)["wide"]) for name in SKEWED]
              for family in (COVERED, FILL)}  # fmt: skip
    rounds = [np.mean(entry_of(results_of(f"earlier/adaptive-{name}"), f)["round"]) for name in SKEWED for f in before]
    (a, b, c), (d, e, f) = before.values()
    says(
        f"rounds were {min(rounds):.0f} to {max(rounds):.0f} % and planned training took {a:.0f}, {b:.0f} and {c:.0f} "
        f"% (covered means) and {d:.0f}, {e:.0f} and {f:.0f} % (mean over all, to within one point)"
    )


@pytest.mark.parametrize("dataset", SETS)
def test_rates_are_those_that_tuning_chose(dataset: str) -> None:
    found = results_of(f"tuning-{dataset}")["chosen"]
    assert found == {entry.family: entry.name for entry in chosen(dataset)}  # type: ignore[arg-type]


def test_baselines_are_those_that_tuning_chose() -> None:
    found = dict(results_of("baselines-tuning")["chosen"])
    assert found.pop("unpruned") == chosen("digits")[0].name
    assert found == {entry.family: entry.name for entry in BEST}


CNN_FAMILIES = ("joint-covered-chosen", "joint-fill-chosen", "common-fill-chosen", "paper-covered-zeroed")


def cnn_rows() -> list[str]:
    """The table of the CNN."""
    rows = []
    for name in CNN:
        report = results_of(f"adaptive-{name}-cnn")
        of = [entry_of(report, family) for family in CNN_FAMILIES]
        shares = [share_text(each["tuned"]) for each in of]
        shares[2:] = [text.partition(";")[0] for text in shares[2:]]
        seeds = re.findall(r"seeds (\d+).*?(\d+)$", report["where"])[0]
        rate, _, batch = of[0]["reference"].removeprefix("unpruned-rate").partition("-batch")
        rows.append(
            f"| {SETS[name]}, {seeds[0]} to {seeds[1]} | {' | '.join(shares)} | {np.mean(of[0]['floor']):.0f} | "
            f"{rate}, {batch or 32} |"
        )
    return rows


def _cnn_means(family: str, time: str, names: tuple[str, ...]) -> str:
    """Means over seeds, one a data set: ``14, 17 and 19``."""
    means = [f"{np.mean(entry_of(results_of(name), family)[time]):.0f}" for name in names]
    return f"{', '.join(means[:-1])} and {means[-1]}"


def test_the_cnn() -> None:
    says(*cnn_rows())
    now = tuple(f"adaptive-{name}-cnn" for name in CNN)
    before = ("earlier/adaptive-mnist-cnn-735", "earlier/adaptive-fashion_mnist-cnn-730")
    covered, fill, common, _ = (_cnn_means(family, "wide", now) for family in CNN_FAMILIES)
    says(f"To within one point it is {covered} % with covered means, {fill} % with means over all, and {common} % with")
    says(*(f"{_cnn_means(family, 'tuned', before)} %" for family in CNN_FAMILIES[:2]))
    took = [time for name in now for family in CNN_FAMILIES[:2] for time in entry_of(results_of(name), family)["tuned"]]
    assert max(took) <= 30
    says(f"The 30 % are met on every seed, by both means; the slowest takes {max(took):.0f} %.")
    untuned = [time for name in now for of in CNN_FAMILIES[:2] for time in entry_of(results_of(name), of)["untuned"]]
    (over,) = [time for time in untuned if time > 20]
    says(f"take at most 20 % on all but one seed, which takes {over:.0f} %")
    for name in CNN:
        found, report = results_of(f"tuning-{name}-cnn")["chosen"], results_of(f"adaptive-{name}-cnn")
        assert set(found.values()) <= {entry.name for entry in reported(name, "cnn").entries}
        unpruned = np.mean(report["entries"][entry_of(report, CNN_FAMILIES[0])["reference"]]["final"])
        for family in CNN_FAMILIES[:2]:
            of = entry_of(report, family)
            assert "batch8" in found[family]
            assert np.mean(of["final"]) > unpruned

"""The numbers of the studies of planned rounds, as macros, from the results alone."""

from __future__ import annotations

from typing import Any

import numpy as np

import fltrain as ft
from fltrain.accounting import VALUE_BITS, subset_bits
from validation.adaptive.page import MARGINS, NEEDED
from validation.drives.page import NEEDED as DRIVES_NEEDED

from .results import Report, Results, claim, complete, t_interval
from .seeds import of_seeds, spread
from .tex import Macros, between, fixed

FILL, COVERED = "joint-fill-chosen", "joint-covered-chosen"


def write_planned(macros: Macros, results: Results) -> None:
    """Define all of them."""
    _plan(macros, results.adaptive)
    _ladder(macros, results.difference, results.earlier)
    _behind(macros, "LadderAlike", results.difference, "data", "ahead_alike")
    _behind(macros, "LadderKept", results.kept, "all", "ahead")
    _kinds_map(macros, results.kinds)
    _drives(macros, results.drives)
    _cnn(macros, results.cnn)
    _fixed(macros, results.baselines)


def entry(report: Report, family: str) -> Report:
    """The entry of a family of schemes in the planner's study."""
    (found,) = [of for name, of in report["entries"].items() if name.startswith(f"{family}-rate")]
    numbers: Report = found
    return numbers


def _plan(macros: Macros, reports: dict[str, Report]) -> None:
    """What the planner's study says over all data sets; its table has each."""

    def span(family: str, column: str = "wide") -> str:
        skewed = [report for name, report in reports.items() if name not in ("writers", "subjects")]
        means = [complete({"per_seed": entry(report, family)[column]}).mean() for report in skewed]
        return between(fixed(min(means)), fixed(max(means)))

    natural = {name: entry(reports[name], FILL)["wide"] for name in ("writers", "subjects")}
    paper = [value for report in reports.values() for value in entry(report, "paper-covered-zeroed")["wide"]]
    macros.update("Plan", {
        "Needed": fixed(NEEDED["tuned"]),
        "PersonalSteps": fixed(reports["digits"]["study"]["personal_steps"]),
        "MarginPp": f"{100 * MARGINS[1]:g}",
        "FillSpan": span(FILL),
        "CoveredSpan": span(COVERED),
        "FloorSpan": span(FILL, "floor"),
        "RoundSpan": span(FILL, "round"),
        "TrainingSpan": span(FILL, "training"),
        "CommonSpan": span("common-covered-chosen"),
        **{f"{name.capitalize()}Reached": of_seeds(np.array([value is not None for value in of]))
           for name, of in natural.items()},
        **{f"{name.capitalize()}Time": fixed(float(np.mean([value for value in of if value is not None])))
           for name, of in natural.items()},
        "PaperSpan": span("paper-covered-zeroed"),
        "IndexedPercent": fixed(100 * _indexed(reports["mnist"])),
        "PaperSeeds": of_seeds(np.array([value is not None for value in paper])),
    })  # fmt: skip


def _indexed(report: Report) -> float:
    """Share by which an upload is larger with plain indices than with a mask at its entropy, at the planner's ratio."""
    pixels = ft.Dataset("", x=np.zeros((10, 1, 28, 28), dtype=np.float32), y=np.arange(10), classes=10)
    weights = ft.Split(ft.build_model("mlp", pixels), personal=("head",)).n_global
    kept = round((1.0 - float(np.mean(entry(report, FILL)["pruned"]))) * weights)
    indexed = (VALUE_BITS + int(np.ceil(np.log2(weights)))) * kept
    return indexed / (VALUE_BITS * kept + subset_bits(weights, kept)) - 1.0


def _ladder(macros: Macros, report: Report, earlier: Report) -> None:
    """The ladder of unlike phones, and as it was counted first."""
    upper = complete(claim(report, "upper-half")["measured"])
    lower = complete(claim(report, "lower-half")["measured"])
    rungs, what, time = report["rungs"], "accuracy averaged over time", "time to the accuracy that both reach"
    (alike,) = [rung["expected"] for rung in earlier["rungs"] if rung["rung"] == "alike"]
    gain = [100 * float(np.expm1(np.mean(rung["expected"]))) for rung in rungs]
    macros.update("Ladder", {
        "Rungs": fixed(len(rungs)),
        "Seeds": fixed(len(upper)),
        "Expected": between(fixed(abs(min(gain))), fixed(max(gain))),
        "EarlierAlike": fixed(100 * float(np.expm1(np.mean(alike)))),
        "EarlierOrder": fixed(earlier["order"][what], 2),
        "Upper": fixed(float(upper.mean()), 2),
        "UpperCi": between(*(fixed(end, 2) for end in t_interval(upper))),
        "Lower": between(fixed(lower.min(), 2), fixed(lower.max(), 2)),
        "Order": fixed(report["order"][what], 2),
        "OrderCi": between(*(fixed(end, 2) for end in report["order_interval"][what])),
        "OrderTime": fixed(report["order"][time], 2),
        "OrderTimeCi": between(*(fixed(end, 2) for end in report["order_interval"][time])),
        **_fixed_ratios(report),
        "Ceiling": fixed(report["order_ceiling"][what], 2),
        "CeilingTime": fixed(report["order_ceiling"][time], 2),
    })  # fmt: skip


def _behind(macros: Macros, name: str, report: Report, rung: str, ahead: str) -> None:
    """By how much own ratios are behind the common one that is planned alike, on one rung."""
    (of,) = [found[ahead]["common"] for found in report["rungs"] if found["rung"] == rung]
    behind = spread(-np.array(of), 2)
    macros.update(f"{name}Behind", {"": behind[""], "Ci": behind["Ci"]})


def _fixed_ratios(report: Report) -> dict[str, str]:
    """Own ratios ahead of those that are fixed for all rounds, on the upper part of the ladder."""
    start = "upper-half-"
    ratios = [each["id"].removeprefix(start) for each in report["claims"] if each["id"].startswith(start)]
    gaps = {ratio: complete(claim(report, f"{start}{ratio}")["measured"]) for ratio in ratios}
    nearest = min(ratios, key=lambda ratio: float(gaps[ratio].mean()))
    lower = np.concatenate([complete(claim(report, f"lower-half-{ratio}")["measured"]) for ratio in ratios])
    return {
        "Ratios": f"{', '.join(ratios[:-1])} and {ratios[-1]}",
        "Nearest": nearest,
        "OverNearest": fixed(float(gaps[nearest].mean()), 2),
        "OverNearestCi": between(*(fixed(end, 2) for end in t_interval(gaps[nearest]))),
        "FixedLower": between(fixed(lower.min(), 2), fixed(lower.max(), 2)),
    }


NEAR = 0.1
"""Over the best kind and deadline, picked after the fact: planned rounds that take no more are near it."""


def _kinds_map(macros: Macros, report: Report) -> None:
    """The map of kinds of round."""
    cells = report["cells"]
    time, each, within = (
        np.array(claim(report, name)["measured"]["per_seed"])
        for name in ("never-slower-mean", "never-slower", "within-best")
    )
    macros.update("Where", {
        "Cells": fixed(len(cells)),
        "Seeds": fixed(len(report["study"]["seeds"])) if "seeds" in report["study"] else _seeds(report),
        "Range": between(fixed(time.min()), fixed(time.max())),
        "Slower": of_seeds(each > 100),
        "OverBest": between(fixed(within.min(), 2), fixed(within.max(), 2)),
        "NearPercent": fixed(100 * NEAR),
        "Within": f"{int((within <= 1 + NEAR).sum())} of {len(within)}",
        "Right": f"{claim(report, 'right-kind')['measured']['mean']:.0f}",
        "Frozen": fixed(sum(cell["chosen"] == "frozen" for cell in cells)),
    })  # fmt: skip


def _seeds(report: Report) -> str:
    """How many seeds a page says that it is of."""
    return fixed(len(report["where"].partition("seeds ")[2].split(", ")))


def _drives(macros: Macros, report: Report) -> None:
    """Planned rounds on measured drives."""
    entries: dict[str, Any] = report["entries"]
    (alike,) = [of for name, of in entries.items() if name.startswith("unpruned-rate")]
    macros.update("Drives", {
        "Seeds": _seeds(report),
        "Floor": between(fixed(min(alike["floor"])), fixed(max(alike["floor"]))),
        "Needed": fixed(DRIVES_NEEDED),
        "Alike": fixed(report["study"]["cell"]["batch_size"]),
    })  # fmt: skip
    ((name, fill),) = [(name, of) for name, of in entries.items() if name.startswith("joint-fill-")]
    (covered,) = [of for name, of in entries.items() if name.startswith("joint-covered-")]
    there = complete({"per_seed": fill["tuned"]})
    macros.update("DrivesFill", {
        "Time": fixed(there.mean()),
        "Range": between(fixed(there.min()), fixed(there.max())),
        "Round": fixed(float(np.mean(fill["round"]))),
        "Batch": name.partition("-speed")[2].partition("-")[0],
        "Within": of_seeds(there <= DRIVES_NEEDED),
        "Above": between(*(fixed(-behind, 1) for behind in (max(fill["behind"]), min(fill["behind"])))),
        "Ci": spread(there)["Ci"],
    })  # fmt: skip
    (common,) = [of for name, of in entries.items() if name.startswith("common-fill-")]
    macros.add("DrivesCommonTime", fixed(complete({"per_seed": common["tuned"]}).mean()))
    macros.add("DrivesCoveredReached", of_seeds(np.array([value is not None for value in covered["tuned"]])))


def _cnn(macros: Macros, reports: dict[str, Report]) -> None:
    """The convolutional network: planned rounds with both means, the scheme of Liu et al., and the floor."""
    families = {"Covered": COVERED, "Fill": FILL, "Common": "common-fill-chosen", "Paper": "paper-covered-zeroed"}
    for title, family in families.items():
        means = [complete({"per_seed": entry(report, family)["wide"]}).mean() for report in reports.values()]
        macros.add(f"Cnn{title}", between(fixed(min(means)), fixed(max(means))))
    names = [name for report in reports.values() for name in report["entries"] if name.startswith("joint-")]
    batches = {name.rpartition("-batch")[2] for name in names}
    macros.add("CnnBatch", " or ".join(sorted(batches, key=int)))


def _fixed(macros: Macros, report: Report) -> None:
    """The tuned ratio that is the same for all rounds, beside planned rounds."""
    (name,) = [name for name in report["entries"] if name.startswith("fixed-fill-rate")]
    fixed_time, planned = report["entries"][name]["wide"], entry(report, FILL)["wide"]
    behind = spread(np.array(planned) - np.array(fixed_time), 1)
    macros.update("Fixed", {
        "Ratio": name.partition("-ratio")[2],
        "Seeds": fixed(len(planned)),
        "Time": fixed(complete({"per_seed": fixed_time}).mean()),
        "Planned": fixed(complete({"per_seed": planned}).mean()),
        "Behind": behind[""],
        "BehindCi": behind["Ci"],
    })  # fmt: skip

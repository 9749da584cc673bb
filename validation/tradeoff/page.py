"""From the finished cases to the page: how both objectives order runs, within a deadline and across. Runs nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ..cases import load_cases
from ..figures import drawing, legend_above, svg
from ..ordering.page import TITLES as ALLOCATIONS
from ..page import Page, Table, write_page
from ..summary import CORRELATION, Claim, Spread, verdict

FloatArray = NDArray[np.float64]
Runs = dict[int, list[dict[str, Any]]]
OBJECTIVES = {"measured": "measured tail sums", "linear": "mean pruning ratio"}
NEEDED = 0.9


@dataclass(frozen=True)
class Group:
    """Which runs are ranked, and by what."""

    title: str
    varied: tuple[str, ...]
    """Settings that belong to it."""
    outcome: str
    per_second: bool = False
    """Whether an objective predicts progress per second, not per round."""
    each: bool = False
    """Whether the allocations of each setting are ranked alone, and the correlations averaged over settings."""

    def predicted(self, run: dict[str, Any], objective: str) -> float:
        """What the objective says of a run, more being better."""
        return float(run[f"progress_{objective}"] if self.per_second else -run[f"loss_{objective}"])


GROUPS = {
    "within": Group(
        "allocations of one cell at one deadline, equal rounds", ("none", "deadline"), "accuracy_rounds", each=True
    ),
    "cells": Group(
        "cells of other band, power and energy at one deadline, equal rounds",
        ("none", "bandwidth", "power", "energy"), "accuracy_rounds",
    ),
    "rounds": Group("one cell across deadlines, equal rounds", ("none", "deadline"), "accuracy_rounds"),
    "time": Group("one cell across deadlines, equal time", ("none", "deadline"), "accuracy_time", per_second=True),
}  # fmt: skip
"""By the part of the claims' ids that tells them apart."""


def write(out: Path) -> Path:
    """Draw the finished study in `out`; returns the path of its page."""
    finished = load_cases(out)
    return write_page(
        out, _page(finished.config, by_seed(run for runs in finished.results.values() for run in runs)), finished
    )


def by_seed(runs: Iterable[dict[str, Any]]) -> Runs:
    """The runs of each seed, in the order of settings and allocations."""
    found: Runs = {}
    for run in runs:
        found.setdefault(run["seed"], []).append(run)
    return found


def over_seeds(runs: Runs) -> list[dict[str, Any]]:
    """Each setting and allocation, its numbers averaged over seeds."""
    return [
        {
            name: first if isinstance(first := each[0][name], str) else float(np.mean([r[name] for r in each]))
            for name in each[0]
        }
        for each in zip(*runs.values(), strict=True)
    ]


def correlation(runs: list[dict[str, Any]], group: Group, objective: str) -> float:
    """Spearman's rank correlation of prediction and outcome over the runs of one seed, or over their means."""
    chosen = [run for run in runs if run["varied"] in group.varied]
    names = dict.fromkeys(run["setting"] for run in chosen)
    parts = [[run for run in chosen if run["setting"] == name] for name in names] if group.each else [chosen]
    found = [
        stats.spearmanr([group.predicted(r, objective) for r in part], [r[group.outcome] for r in part]).statistic
        for part in parts
    ]
    return float(np.mean(found))


def correlations(runs: Runs, group: Group, objective: str) -> FloatArray:
    """The same within each seed."""
    return np.array([correlation(each, group, objective) for each in runs.values()])


def given_away(runs: Runs, group: Group, objective: str) -> FloatArray:
    """Per seed: points between the best outcome and that of what the objective likes best."""
    found = []
    for each in runs.values():
        chosen = [run for run in each if run["varied"] in group.varied]
        liked = max(chosen, key=lambda run: group.predicted(run, objective))
        found.append(100 * (max(run[group.outcome] for run in chosen) - liked[group.outcome]))
    return np.array(found)


def interval(values: FloatArray) -> tuple[float, float]:
    """95 % confidence interval over seeds; of one seed, the whole range.

    Student's t on Fisher's z = artanh of the correlations, which are bounded and skewed near 1.
    """
    if len(values) < 2:
        return -1.0, 1.0
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    z = np.arctanh(np.clip(values, -1 + 1e-9, 1 - 1e-9))
    low, high = stats.t.interval(0.95, len(z) - 1, z.mean(), stats.sem(z))
    return float(np.tanh(low)), float(np.tanh(high))


def _page(config: dict[str, Any], runs: Runs) -> Page:
    found = {(name, of): correlations(runs, group, of) for name, group in GROUPS.items() for of in OBJECTIVES}
    means = over_seeds(runs)
    settings = dict.fromkeys(run["setting"] for run in means)
    claims = [
        Claim(
            f"The {OBJECTIVES[of]} orders as training does: {group.title}"
            if of == "linear"
            else f"The {OBJECTIVES[of]} order as training does: {group.title}",
            Spread(tuple(found[name, of].tolist()), possible=CORRELATION, own_interval_95=interval(found[name, of])),
            2,
            f"Spearman's rank correlation within a seed; 95 % interval over seeds {interval_text(found[name, of])}",
            verdict(Spread((float(found[name, of].mean()),)), lambda v: v >= NEEDED),
            f"Of means over seeds it is {correlation(means, group, of):.2f}. Holds from a mean of {NEEDED} on.",
            id=f"{name}-{of}",
        )
        for name, group in GROUPS.items()
        for of in OBJECTIVES
    ]  # fmt: skip
    rows = [
        [group.title, *(f"{found[name, of].mean():.2f} {interval_text(found[name, of])}; "
                        f"{correlation(means, group, of):.2f}" for of in OBJECTIVES)]
        for name, group in GROUPS.items()
    ]  # fmt: skip
    single = [
        [setting, *(f"{correlation(only, GROUPS['within'], of):.2f}" for of in OBJECTIVES),
         f"{100 * np.ptp([run['accuracy_rounds'] for run in only]):.1f}"]
        for setting in settings
        if (only := [{**run, "varied": "none"} for run in means if run["setting"] == setting])
    ]  # fmt: skip
    listing = [
        [r["setting"], ALLOCATIONS[r["allocation"]], f"{r['round']:.3f}", f"{100 * r['longer']:.0f}",
         f"{r['loss_linear']:.3f}", f"{r['loss_measured']:.3f}", f"{100 * r['accuracy_rounds']:.2f}",
         f"{100 * r['accuracy_end']:.2f}", f"{100 * r['accuracy_time']:.2f}"]
        for r in means
    ]  # fmt: skip
    away = {of: given_away(runs, GROUPS["time"], of).mean() for of in OBJECTIVES}
    measured, linear = ({name: found[name, of].mean() for name in GROUPS} for of in OBJECTIVES)
    return Page(
        title="Does the allocator order settings as training does?",
        where=f"{len(settings)} settings of deadline, bandwidth, power and energy, {len(config['allocations'])} "
        f"allocations each; scikit-learn digits, {config['training']['devices']} phones, sparse uploads, plain mean at "
        f"server rate {config['server_rate']:g}, seeds {', '.join(map(str, config['seeds']))}",
        answer="Rank correlation with accuracy averaged over training, of the measured tail sums and of the mean "
        "pruning ratio, both known before: "
        + "; ".join(f"{group.title} {measured[name]:.2f} and {linear[name]:.2f}" for name, group in GROUPS.items())
        + f". What each likes best across deadlines gives away {away['measured']:.1f} and {away['linear']:.1f} points "
        "of accuracy averaged over time.",
        claims=claims,
        tables=[
            Table("Spearman's rank correlation within a seed, mean and 95 % interval over seeds; of means over seeds",
                  ["", *OBJECTIVES.values()], rows),
            Table("Allocations of one setting alone, means over seeds; how far apart they are in points",
                  ["Setting", *OBJECTIVES.values(), "apart"], single),
            Table("The runs, means over seeds",
                  ["Setting", "Allocation", "Round over unpruned", "Longer rounds, %", "Mean ratio", "Measured loss",
                   "Accuracy over rounds, %", "At the end, %", "Over time, %"], listing),
        ],
        figures=[
            (_scatter(means, name), f"Means over seeds against both objectives: {GROUPS[name].title}.")
            for name in ("rounds", "cells", "time")
        ],
        limits=[
            f"Equal rounds are {config['rounds']}. Equal time is {config['unpruned_rounds']:g} unpruned rounds, from "
            "the end of the first on; what is predicted of it is progress per second, (1 − loss) over the round.",
            "The tail sums are those of an unpruned pilot of the same cell; a planner would take them from reports.",
            "Settings were chosen by hand; their spacing decides how large a rank correlation can be.",
            "At long deadlines allocations differ by less than the chance of a training, and their order is chance.",
            "A round in which equal shares cannot meet the deadline is as much longer, for every allocation.",
        ],
        command=f"python -m validation {config['name']}",
        numbers={"runs": [run for each in runs.values() for run in each]},
    )  # fmt: skip


def interval_text(values: FloatArray) -> str:
    """``(0.50 to 0.90)``."""
    low, high = interval(values)
    return f"({low:.2f} to {high:.2f})".replace("-", "−")


STYLES = {
    "equal": ("#999999", "s"), "common": ("#000000", "D"), "linear": ("#D55E00", "v"), "power8": ("#009E73", "^"),
    "measured": ("#0072B2", "o"),
}  # fmt: skip
"""Colour and marker of each allocation."""


def points(means: list[dict[str, Any]], group: Group, objective: str, allocation: str) -> tuple[FloatArray, FloatArray]:
    """Prediction, as it is drawn, and accuracy in per cent of one allocation."""
    of = [run for run in means if run["varied"] in group.varied and run["allocation"] == allocation]
    key = f"progress_{objective}" if group.per_second else f"loss_{objective}"
    return np.array([run[key] for run in of]), 100 * np.array([run[group.outcome] for run in of])


def _scatter(means: list[dict[str, Any]], name: str) -> str:
    group = GROUPS[name]
    with drawing(f"tradeoff-{name}", (4.8, 6.0), 2) as (figure, axes):
        for axis, (of, title) in zip(axes, OBJECTIVES.items(), strict=True):
            for allocation, (colour, marker) in STYLES.items():
                x, y = points(means, group, of, allocation)
                axis.plot(x, y, marker, color=colour, ms=4, label=ALLOCATIONS[allocation])
            axis.set(xlabel=f"{title}, {'progress per second' if group.per_second else 'loss'}", ylabel="accuracy (%)")
        legend_above(figure, axes[0], 2)
        return svg(figure, f"tradeoff-{name}", f"Accuracy against both objectives: {group.title}")

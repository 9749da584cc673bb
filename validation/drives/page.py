"""From the finished cases to the page: time to the tuned unpruned accuracy on measured drives. Runs nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from ..adaptive.page import (
    Runs,
    by_entry,
    entries_above,
    interval,
    mean_and_interval,
    quickest,
    smoothed,
    targets,
    times,
)
from ..cases import Finished, load_cases
from ..figures import COLOURS, TITLES, drawing, log_errors, svg
from ..measures import MARGIN, WINDOW
from ..page import Page, Table, write_page
from ..summary import SHARE, Claim, Spread, verdict

NEEDED = 60.0
"""Per cent of the tuned unpruned scheme's time within which planned rounds are to reach its accuracy."""
_NAME = re.compile(
    r"(?:unpruned|(?P<scheme>joint|common)-(?P<averaging>covered|fill))(?:-(?P<kind>sparse|frozen))?(?P<feedback>-feedback)?"
    r"(?:-steps(?P<personal>\d+)and(?P<shared>\d+))?(?:-speed(?P<speed>\d+))?-rate(?P<rate>[\d.]+)(?:-(?P<deadline>[\d.]+))?"
)
"""The names of entries, `study.Entry.name`."""
_LINES = ("-", "--", "-.", ":")


def write(out: Path) -> Path:
    """Draw the finished study in `out`; returns the path of its page."""
    finished = load_cases(out)
    return write_page(out, _page(finished), finished)


def measured(runs: Runs) -> dict[str, dict[str, Any]]:
    """By entry, per seed: time to the target and mean round, both in per cent of the tuned unpruned scheme's.

    The target is the better of the unpruned schemes' accuracies at the end, less the margin; tuned is, of the unpruned
    entries, the one that is there first on the mean over seeds. ``behind``: the tuned unpruned accuracy at the end less
    the entry's, in points; ``worst`` is the accuracy of the phone with the lowest, over the last rounds, in per cent.
    ``of_all`` is the time by the accuracy of all phones, those without service among them, and ``served`` how many have
    service in some round, if runs have them.
    """
    tuned = quickest(runs, targets(runs), [name for name in runs if name.startswith("unpruned")])
    all_phones: Runs = {
        name: {s: {**run, "accuracy": run["accuracy_of_all"]} for s, run in of.items() if "accuracy_of_all" in run}
        for name, of in runs.items()
    }

    def shares(of: Runs, name: str) -> tuple[float | None, ...]:
        took = times(of, targets(of)) if of[name] else {name: {}}
        theirs = {s: took[tuned][s] or float(of[tuned][s]["time_s"][-1]) for s in of[name]}
        return tuple(None if mine is None else 100 * mine / theirs[s] for s, mine in took[name].items())

    return {
        name: {
            "reference": tuned,
            "tuned": shares(runs, name),
            "of_all": shares(all_phones, name),
            "served": [len(run["served"]) for run in of.values() if "served" in run],
            "behind": tuple(100 * (_final(runs[tuned][s]) - _final(run)) for s, run in of.items()),
            "final": [100 * _final(run) for run in of.values()],
            "round": [100 * _round_s(run) / _round_s(runs[tuned][s]) for s, run in of.items()],
            "floor": [100 * run["slowest_training_s"] / _round_s(runs[tuned][s]) for s, run in of.items()],
            "pruned": [float(np.mean(run["pruning_ratio"])) for run in of.values()],
            "lost": [100 * _lost(run) for run in of.values()],
            "worst": [100 * float(np.mean(run["worst_accuracy"][-WINDOW:])) for run in of.values()],
            "participants": [float(run["participants"]) for run in of.values()],
        }
        for name, of in runs.items()
    }


def _lost(run: dict[str, Any]) -> float:
    """Share of the uploads asked for that came too late."""
    return float(run["lost"] / (run["lost"] + run["participants"] * len(run["time_s"])))


def _final(run: dict[str, Any]) -> float:
    return float(smoothed(run)[-1])


def _round_s(run: dict[str, Any]) -> float:
    return float(run["time_s"][-1]) / len(run["time_s"])


def _page(finished: Finished) -> Page:
    runs = by_entry(finished)
    found = measured(runs)
    planned = [name for name in found if name.startswith("joint")]
    tuned = next(iter(found.values()))["reference"]
    floor = float(np.mean(found[tuned]["floor"]))
    seeds = sorted({run["seed"] for run in finished.results.values()})
    claims = []
    for name in planned if finished.config["name"] == "drives" else ():
        took, behind = Spread(found[name]["tuned"], possible=SHARE), Spread(found[name]["behind"])
        claims += [
            Claim(
                f"{said(name)}: the tuned unpruned scheme's accuracy, less half a point, in at most {NEEDED:g} % of "
                "its time",
                took, 0, "% of the tuned unpruned scheme's time", verdict(took, lambda v: v <= NEEDED),
                f"Tuned is {said(tuned).lower()}. The slowest phone's training, which no sparse "
                f"upload shortens, is {np.mean(found[name]['floor']):.0f} % of an unpruned round.", id=f"{name}-tuned",
            ),
            Claim(
                f"{said(name)}: ends no more than half a point below it",
                behind, 1, "points, the tuned unpruned scheme's accuracy at its end less this one's at its own",
                verdict(behind, lambda v: v <= 100 * MARGIN), "Negative: ends higher.", id=f"{name}-final",
            ),
        ]  # fmt: skip
    rows = [
        [said(name), mean_and_interval(of["tuned"]), f"{np.mean(of['round']):.0f}",
         f"{np.mean(of['pruned']):.3f}", f"{np.mean(of['final']):.2f}", f"{np.mean(of['lost']):.1f}",
         f"{np.mean(of['participants']):.1f}"]
        for name, of in found.items()
    ]  # fmt: skip
    best = min(planned, key=lambda name: Spread(found[name]["tuned"]).mean or np.inf)
    reached = Spread(found[best]["tuned"])
    within = sum(share is not None and share <= NEEDED for share in reached.per_seed)
    return Page(
        title="CIFAR-10 on measured drives, rounds as the planner runs them"
        + ("" if finished.config["name"] == "drives" else ": settings tried on seeds that are not reported"),
        where=f"{TITLES['cifar10']}, ten phones on measured drives, seeds {', '.join(map(str, seeds))}",
        answer=f"{said(best)}: the tuned unpruned scheme's accuracy, less half a point, after "
        + ("more time than there was on some seed" if reached.mean is None else f"{reached.mean:.0f} % of its time")
        + (f" (95 % interval {span})" if (span := interval(reached.per_seed)) else "")
        + f", at most {NEEDED:g} % on {within} of {len(seeds)} "
        f"seeds. In unpruned rounds the slowest phone's training alone is {floor:.0f} % of a round, in these "
        f"{np.mean(found[best]['floor']):.0f} % of one.",
        claims=claims,
        tables=[
            Table(
                "Mean over seeds: time to the target over the tuned unpruned scheme's (95 % interval), and mean round "
                "over its mean round, in per cent; pruning ratio; accuracy at the end, in per cent; uploads that came "
                "too late, in per cent of those asked for; phones in a round",
                ["", "tuned", "round", "ratio", "final", "lost", "phones"],
                rows,
            )
        ],
        figures=[(_drawing(runs), "Error after each round, averaged over the last ten, mean over seeds.")],
        limits=[
            "Ten drives of one operator's network; processors are drawn, not measured.",
            "Server rates and batches were tuned on one or two seeds, those of a common ratio not at all: it has the "
            "planner's.",
            "Covered means take a larger step where fewer phones keep a coordinate; entries with fill do not.",
        ],
        command=f"python -m validation {finished.config['name']} --data-dir DIR",
        numbers={"entries": found},
    )  # fmt: skip


def said(name: str) -> str:
    """An entry as sentences have it."""
    found = _NAME.fullmatch(name)
    assert found is not None, name
    if name.startswith("unpruned"):
        rounds = ["Unpruned training"]
    else:
        rounds = [
            {"joint": "Planned rounds", "common": "One common ratio, planned alike"}[found["scheme"]],
            {"covered": "covered means", "fill": "mean over all"}[found["averaging"]],
            *([f"{found['kind']} alone"] if found["kind"] else []),
            *(["error feedback"] if found["feedback"] else []),
            *([f"{found['personal']} personal and {found['shared']} global steps"] if found["personal"] else []),
        ]
    return ", ".join([
        *rounds,
        *([f"batches by speed, {found['speed']} on the mean"] if found["speed"] else []),
        f"server rate {found['rate']}",
        *([f"{found['deadline']} of an unpruned round"] if found["deadline"] else []),
    ])  # fmt: skip


def _drawing(runs: Runs) -> str:
    with drawing("drives", (4.8, 3.6)) as (figure, (axes,)):
        for i, (name, of) in enumerate(runs.items()):
            grid = np.linspace(*_span(of), 200)
            error = 100 * np.mean(
                [1 - smoothed(r)[np.searchsorted(r["time_s"], grid * (1 + 1e-12), side="right") - 1]
                 for r in of.values()], axis=0,
            )  # fmt: skip
            axes.plot(grid, error, label=name, color=COLOURS[i % len(COLOURS)], ls=_LINES[i % len(_LINES)], lw=1.4)
        axes.set(xlabel="simulated time (s)", ylabel="error (%)")
        log_errors(axes)
        entries_above(figure, axes)
        return svg(figure, "drives", "Error over simulated time, one line per scheme")


def _span(of: dict[int, dict[str, Any]]) -> tuple[float, float]:
    return max(run["time_s"][0] for run in of.values()), min(run["time_s"][-1] for run in of.values())

"""From the finished cases to the page: time to the tuned unpruned scheme's accuracy, per scheme. Runs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from ..cases import Finished, load_cases
from ..figures import drawing, svg
from ..page import Page, Table, write_page
from ..summary import MARGIN, Claim, Spread, smooth, verdict

NEEDED = {"tuned": 30.0, "untuned": 20.0}
"""Per cent of the unpruned scheme's time within which the planner's rounds are to reach its accuracy."""


def write(out: Path) -> Path:
    """Draw the finished study in `out`; returns the path of its page."""
    finished = load_cases(out)
    return write_page(out, _page(finished), finished)


def time_to(run: dict[str, Any], target: float) -> float | None:
    """Simulated seconds until the smoothed accuracy reaches `target`; None if it never does."""
    reached = np.flatnonzero(smooth(np.array(run["accuracy"])) >= target)
    return float(run["time_s"][reached[0]]) if len(reached) else None


def interval(values: tuple[float | None, ...]) -> str:
    """95 % interval of the mean over seeds, by Student's t; empty unless every seed has a value."""
    if None in values or len(values) < 2:
        return ""
    found = np.array(values, dtype=float)
    if np.ptp(found) == 0.0:
        return f"{found[0]:.1f}"
    low, high = stats.t.interval(0.95, len(found) - 1, found.mean(), stats.sem(found))
    return f"{low:.1f} to {high:.1f}"


def measured(finished: Finished) -> dict[str, dict[str, Any]]:
    """By entry: per seed, its time to the target over the tuned and the untuned unpruned scheme's, in per cent.

    Tuned is, of the unpruned entries, the one that reaches the target first on the mean over seeds. The target is
    the better of the unpruned schemes' final accuracies, less `MARGIN`.
    """
    runs: dict[str, dict[int, dict[str, Any]]] = {}
    for run in finished.results.values():
        runs.setdefault(run["entry"], {})[run["seed"]] = run
    unpruned = [name for name in runs if name.startswith("unpruned")]
    seeds = list(runs[unpruned[0]])
    target = {s: max(float(smooth(np.array(runs[n][s]["accuracy"]))[-1]) for n in unpruned) - MARGIN for s in seeds}
    times = {name: {s: time_to(of[s], target[s]) for s in seeds} for name, of in runs.items()}

    def mean_time(name: str) -> float:
        return float(np.mean([np.inf if (t := times[name][s]) is None else t for s in seeds]))

    tuned = min(unpruned, key=mean_time)
    untuned = "unpruned-rate1"

    def over(name: str, base: str) -> tuple[float | None, ...]:
        both = [(times[name][s], times[base][s]) for s in seeds]
        return tuple(100 * mine / theirs if mine and theirs else None for mine, theirs in both)

    return {
        name: {
            "tuned": over(name, tuned),
            "untuned": over(name, untuned) if untuned in runs else (),
            "reference": tuned,
            "round": [100 * of[s]["time_s"][-1] / len(of[s]["time_s"]) / of[s]["unpruned_round_s"] for s in seeds],
            "pruned": [float(np.mean(of[s]["pruning_ratio"])) for s in seeds],
            "final": [100 * float(smooth(np.array(of[s]["accuracy"]))[-1]) for s in seeds],
            "averaged": [100 * float(np.mean(of[s]["accuracy"])) for s in seeds],
            "floor": [100 * of[s]["floor"] for s in seeds],
        }
        for name, of in runs.items()
    }


def _page(finished: Finished) -> Page:
    config, found = finished.config, measured(finished)
    joint = [name for name in found if name.startswith("joint")]
    tuned = next(iter(found.values()))["reference"]
    floor = float(np.mean(found[tuned]["floor"]))
    claims = [
        Claim(
            f"{name}: the {against} unpruned scheme's accuracy in at most {NEEDED[against]:g} % of its time",
            Spread(found[name][against]),
            1,
            f"% of the {against} unpruned scheme's time; 95 % interval {interval(found[name][against]) or 'none'}",
            verdict(Spread(found[name][against]), lambda v, most=NEEDED[against]: v <= most),  # type: ignore[misc]
            f"Tuned is {tuned}. What cannot be pruned is {floor:.0f} % of an unpruned round.",
        )
        for name in joint
        for against in NEEDED
    ]
    rows = [
        [
            name,
            f"{_shown(of['tuned'])} ({interval(of['tuned'])})",
            _shown(of["untuned"]),
            f"{np.mean(of['round']):.1f}",
            f"{np.mean(of['pruned']):.3f}",
            f"{np.mean(of['final']):.2f}",
            f"{np.mean(of['averaged']):.2f}",
        ]
        for name, of in found.items()
    ]
    best = min(joint, key=lambda name: Spread(found[name]["tuned"]).mean or np.inf) if joint else None
    answer = "No planned scheme was run."
    if best is not None:
        mean = Spread(found[best]["tuned"]).mean
        answer = (
            f"{best}: the tuned unpruned scheme's accuracy, less half a point, after "
            + ("more time than there was on some seed" if mean is None else f"{mean:.0f} % of its time")
            + f" (95 % interval {interval(found[best]['tuned']) or 'none'}); the floor of a round is {floor:.0f} %."
        )
    return Page(
        title="Sparse uploads as the planner runs them",
        where=f"{config['dataset']}, MLP, ten phones, seeds {', '.join(map(str, _seeds(finished)))}",
        answer=answer,
        claims=claims,
        tables=[
            Table(
                "Mean over seeds: time to the target over the tuned unpruned scheme's (95 % interval) and over the "
                "untuned one's, in per cent; round over an unpruned round, in per cent; pruning ratio; accuracy at the "
                "end and averaged over rounds, in per cent",
                ["", "tuned", "untuned", "round", "ratio", "final", "averaged"],
                rows,
            )
        ],
        figures=[(_drawing(finished), "Error after each round, averaged over the last ten, at the first seed.")],
        limits=[
            "The margin of half a point is a few held-out samples on digits.",
            "Covered means take a larger step where fewer phones keep a coordinate; entries with fill do not.",
            "Ten phones, one cell, one model; channels are simulated.",
        ],
        command=f"python -m validation {config['name']} --dataset {config['dataset']}",
        numbers={"entries": found},
    )


def _seeds(finished: Finished) -> list[int]:
    return sorted({run["seed"] for run in finished.results.values()})


def _shown(values: tuple[float | None, ...]) -> str:
    mean = Spread(values).mean if values else None
    return "never on some seed" if mean is None else f"{mean:.1f}"


def _drawing(finished: Finished) -> str:
    first = _seeds(finished)[0]
    with drawing("adaptive") as (figure, (axes,)):
        for run in finished.results.values():
            if run["seed"] == first:
                axes.plot(run["time_s"], 1 - smooth(np.array(run["accuracy"])), label=run["entry"])
        axes.set(xlabel="simulated time (s)", ylabel="error", yscale="log")
        axes.legend()
        return svg(figure, "adaptive", "Error over simulated time, one line per scheme")

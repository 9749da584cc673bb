"""From the finished cases to the page: rank correlations per seed, and what they are made of. Runs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ..cases import Finished, load_cases
from ..figures import drawing, svg
from ..page import Page, Table, write_page
from ..summary import Claim, Spread, verdict

FloatArray = NDArray[np.float64]
OUTCOMES = {
    "accuracy": ("accuracy at the end", -1),
    "accuracy_averaged": ("accuracy averaged over training", -1),
    "loss": ("training loss at the end", 1),
    "gradient_sq": ("squared gradient norm at the end", 1),
}
"""What is measured, and the sign that makes more pruning worse."""
_VARIED = {
    "none": ("#000000", "D"), "deadline": ("#0072B2", "o"), "bandwidth": ("#D55E00", "s"), "power": ("#009E73", "^"),
    "energy": ("#CC79A7", "v"), "several": ("#E69F00", "P"),
}  # fmt: skip


def write(out: Path) -> Path:
    """Draw the finished study in `out`; returns the path of its page."""
    finished = load_cases(out)
    return write_page(out, _page(finished), finished)


def by_seed(finished: Finished) -> dict[int, list[dict[str, Any]]]:
    """The runs of each seed, in the order of the settings."""
    found: dict[int, list[dict[str, Any]]] = {}
    for run in finished.results.values():
        found.setdefault(run["seed"], []).append(run)
    return found


def correlations(runs: dict[int, list[dict[str, Any]]], outcome: str, varied: str | None = None) -> FloatArray:
    """Spearman's rank correlation of prediction and outcome over settings, one per seed; positive if as predicted."""
    sign = OUTCOMES[outcome][1]
    each = []
    for settings in runs.values():
        chosen = [r for r in settings if varied is None or r["varied"] in (varied, "none")]
        predicted = [r["predicted"] for r in chosen]
        each.append(float(stats.spearmanr(predicted, [sign * r[outcome] for r in chosen]).statistic))
    return np.array(each)


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


def _page(finished: Finished) -> Page:
    runs = by_seed(finished)
    settings = len(next(iter(runs.values())))
    found = {outcome: correlations(runs, outcome) for outcome in OUTCOMES}
    claims = [
        Claim(
            f"The predicted order of settings is that of the {title}",
            Spread(tuple(found[outcome].tolist())),
            3,
            f"Spearman's rank correlation; 95 % confidence interval over seeds {_interval_text(found[outcome])}",
            verdict(Spread((interval(found[outcome])[0],)), lambda v: v > 0),
            f"{settings} settings, each trained on {len(runs)} seeds. Holds if the whole interval is above 0.",
            id=f"order-{outcome}",
        )
        for outcome, (title, _) in OUTCOMES.items()
    ]
    rows = []
    for varied in ("deadline", "bandwidth", "power", "energy"):
        cells = [f"{correlations(runs, o, varied).mean():.2f} {_interval_text(correlations(runs, o, varied))}"
                 for o in OUTCOMES]  # fmt: skip
        rows.append([f"{varied} alone varied", *cells])
    listing = [
        [r["setting"], f"{_mean(runs, i, 'predicted'):.3f}", f"{100 * _mean(runs, i, 'late'):.0f}",
         f"{100 * _mean(runs, i, 'accuracy'):.2f}", f"{100 * _mean(runs, i, 'accuracy_averaged'):.2f}",
         f"{_mean(runs, i, 'loss'):.4f}", f"{_mean(runs, i, 'gradient_sq'):.2e}"]
        for i, r in enumerate(next(iter(runs.values())))
    ]  # fmt: skip
    config = finished.config
    return Page(
        title="Does the allocator order settings as training does?",
        where=f"{settings} settings of deadline, bandwidth, power and energy; scikit-learn digits, "
        f"{config['training']['devices']} phones, {config['rounds']} rounds each, seeds "
        f"{', '.join(map(str, config['seeds']))}",
        answer="The allocator's objective, the mean pruning ratio that a setting forces, is known before any training. "
        f"Its order of {settings} settings agrees with the trained one: rank correlation "
        f"{found['accuracy_averaged'].mean():.2f} with accuracy averaged over training, "
        f"{found['accuracy'].mean():.2f} with accuracy at the end, {found['loss'].mean():.2f} with the loss and "
        f"{found['gradient_sq'].mean():.2f} with the squared gradient norm.",
        claims=claims,
        tables=[
            Table("Where one resource alone varies: mean rank correlation and its 95 % interval",
                  ["", *(title for title, _ in OUTCOMES.values())], rows),
            Table("The settings, mean over seeds",
                  ["Setting", "Mean pruning ratio", "Late rounds, %", "Accuracy, %", "Averaged, %", "Loss, nats",
                   "Squared gradient"], listing),
        ],
        figures=[
            (_scatter(runs, o), f"Mean over seeds of the {title} against the predicted mean pruning ratio; whiskers "
             "from the least to the greatest seed.")
            for o, (title, _) in OUTCOMES.items()
        ],
        limits=[
            "Every setting trains for the same number of rounds: this is what pruning costs per round, not which "
            "setting is best in a given time.",
            "Settings that force nearly the same pruning ratio are ordered by chance; their spacing decides how large "
            "a rank correlation can be, and it was chosen by hand, before any was computed.",
            "Digits are easy: with enough rounds nearly every setting gets there. 50 rounds are short of that.",
            "The interval is over seeds (data split, cell, weights) and speaks of these settings only.",
            "Where the deadline cannot be met even at the largest pruning ratio the round is late and prunes so much: "
            "for such settings the prediction is a constant.",
        ],
        command=f"python -m validation {config['name']}",
        numbers={"runs": list(finished.results.values())},
    )  # fmt: skip


def _interval_text(values: FloatArray) -> str:
    low, high = interval(values)
    return f"({low:.2f} to {high:.2f})".replace("-", "−")


def _mean(runs: dict[int, list[dict[str, Any]]], index: int, name: str) -> float:
    return float(np.mean([settings[index][name] for settings in runs.values()]))


def _scatter(runs: dict[int, list[dict[str, Any]]], outcome: str) -> str:
    name = f"tradeoff-{outcome.replace('_', '-')}"
    with drawing(name) as (figure, (axes,)):
        first = next(iter(runs.values()))
        factor = 100.0 if outcome.startswith("accuracy") else 1.0
        for varied, (colour, marker) in _VARIED.items():
            index = [i for i, run in enumerate(first) if run["varied"] == varied]
            if not index:
                continue
            x = [_mean(runs, i, "predicted") for i in index]
            y = factor * np.array([[settings[i][outcome] for settings in runs.values()] for i in index])
            spread = np.abs(np.stack([y.min(axis=1), y.max(axis=1)]) - y.mean(axis=1))
            label = "base" if varied == "none" else varied
            axes.errorbar(x, y.mean(axis=1), spread, fmt=marker, color=colour, ms=5, lw=0.8, label=label)
        axes.set(xlabel="mean pruning ratio (predicted)", ylabel=OUTCOMES[outcome][0])
        if factor == 100.0:
            axes.set_ylabel(f"{OUTCOMES[outcome][0]} (%)")
        else:
            axes.set_yscale("log")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3)
        return svg(figure, name, f"{OUTCOMES[outcome][0]} against the predicted mean pruning ratio")

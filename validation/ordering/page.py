"""From the finished cases to the page: how each objective orders the allocations. Runs nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ..cases import Finished, load_cases
from ..figures import TITLES as DATASETS
from ..figures import drawing, svg
from ..page import Page, Table, write_page
from ..summary import CORRELATION, Claim, Spread, verdict

FloatArray = NDArray[np.float64]
TITLES = {
    "equal": "equal shares, one ratio", "linear": "joint, linear error",
    "power2": "joint, rho^2", "power4": "joint, rho^4", "power8": "joint, rho^8",
    "common": "one ratio, band solved", "measured": "joint, measured tail sums",
}  # fmt: skip
PREDICTORS = {"predicted": "measured tail sums", "predicted_linear": "mean pruning ratio"}
NEEDED = 0.9
_DRAWS = 2000


def write(out: Path) -> Path:
    """Draw the finished study in `out`; returns the path of its page."""
    finished = load_cases(out)
    return write_page(out, _page(finished), finished)


def table(finished: Finished, name: str) -> FloatArray:
    """One number of each run, (seeds, allocations)."""
    return np.array([[run[name] for run in runs] for runs in finished.results.values()], dtype=float)


def correlation(predicted: FloatArray, accuracy: FloatArray) -> float:
    """Spearman's rank correlation over allocations, positive where less error means more accuracy."""
    return float(stats.spearmanr(-predicted, accuracy).statistic)


def interval(predicted: FloatArray, accuracy: FloatArray) -> tuple[float, float]:
    """95 % interval of the rank correlation of means over seeds: percentiles over seeds drawn with replacement.

    Both (seeds, allocations).
    """
    rng = np.random.default_rng(0)
    count = len(accuracy)
    drawn = [rng.integers(count, size=count) for _ in range(_DRAWS)]
    each = [correlation(predicted[of].mean(axis=0), accuracy[of].mean(axis=0)) for of in drawn]
    low, high = np.percentile(each, [2.5, 97.5])
    return float(low), float(high)


def _page(finished: Finished) -> Page:
    accuracy = table(finished, "accuracy_averaged")
    names = [run["allocation"] for run in next(iter(finished.results.values()))]
    by_mean, by_seed = {}, {}
    for key in PREDICTORS:
        values = table(finished, key)
        by_mean[key] = correlation(values.mean(axis=0), accuracy.mean(axis=0))
        by_seed[key] = tuple(correlation(v, a) for v, a in zip(values, accuracy, strict=True))
    linear = Spread(by_seed["predicted_linear"])
    once = table(finished, "accuracy_averaged_each")
    # Within a seed, by a single draw of the batches.
    single = Spread(
        tuple(
            float(np.mean([correlation(v, draw) for draw in draws.T]))
            for v, draws in zip(table(finished, "predicted"), once, strict=True)
        )
    )
    span = interval(table(finished, "predicted"), accuracy)
    order = Spread((by_mean["predicted"],), possible=CORRELATION, own_interval_95=span)
    each = Spread(by_seed["predicted"], possible=CORRELATION)
    objective, end = table(finished, "predicted"), table(finished, "accuracy")
    repeats = once.shape[-1]
    count, seeds = len(names), len(accuracy)
    claims = [
        Claim(
            "The bound's objective orders the allocations as training does",
            order,
            3,
            f"Spearman's rank correlation over {count} allocations, means over {seeds} seeds",
            verdict(order, lambda v: v >= NEEDED),
            f"95 % interval {span[0]:.2f} to {span[1]:.2f}, seeds drawn with replacement. Holds from {NEEDED} on. "
            "Objective: sum alpha_k |Delta_k|^2 e_k(rho_k) with tail sums measured in a "
            "pilot; accuracy averaged over training.",
            id="order-of-means",
        ),
        Claim(
            "So it does within a seed",
            each,
            3,
            f"mean over {seeds} seeds of the same within each, accuracy averaged over {repeats} trainings",
            verdict(Spread((float(np.mean(each.values)),)), lambda v: v >= NEEDED),
            f"By a single training it is {np.mean(single.values):.3f}: allocations that differ little change places "
            "with the batches drawn.",
            id="order-within-seed",
        ),
        Claim(
            "The mean pruning ratio, the worst case that the first theorem charges, orders them as well",
            Spread((by_mean["predicted_linear"],)),
            3,
            f"Spearman's rank correlation, means over seeds; within a seed {np.mean(linear.values):.3f} on average",
            verdict(Spread((by_mean["predicted_linear"],)), lambda v: v >= NEEDED),
            "Negative: backwards.",
            id="order-linear",
        ),
    ]
    config = finished.config
    data = DATASETS[config["training"]["dataset"]]
    return Page(
        title="Which objective orders allocations as training does",
        where=f"{data}, {config['training']['devices']} phones, sparse uploads, plain mean at server rate "
        f"{config['server_rate']:g}, every round {config['deadline_fraction']:g} of the unpruned one, or what equal "
        "shares need",
        answer=f"Over {count} allocations at one deadline the bound's objective has rank correlation "
        f"{by_mean['predicted']:.2f} with accuracy averaged over training (means over {seeds} seeds, 95 % interval "
        f"{span[0]:.2f} to {span[1]:.2f}; {np.mean(each.values):.2f} in a seed on average), the mean pruning ratio "
        f"{by_mean['predicted_linear']:.2f}. With accuracy at the end it has "
        f"{correlation(objective.mean(axis=0), end.mean(axis=0)):.2f} (means; "
        f"{np.mean([correlation(v, a) for v, a in zip(objective, end, strict=True)]):.2f} in a seed).",
        claims=claims,
        tables=[_table(finished, names, accuracy)],
        figures=[
            (
                _scatter(finished, names, accuracy),
                "Each allocation's objective and accuracy, means over seeds; bars: standard error of the difference to "
                "the mean of all allocations of a seed.",
            )
        ],
        limits=[
            "The tail sums are those of an unpruned pilot of the same cell; a planner would take them from reports.",
            "At longer deadlines the curve is flat, who prunes how hard is irrelevant, and there is no order to find.",
            "With the mean over those who sent a coordinate the step grows with pruning, and orders differ.",
        ],
        command=f"python -m validation {config['name']}"
        + (
            ""
            if config["training"]["dataset"] == "digits"
            else f" --dataset {config['training']['dataset']} --data-dir DIR"
        ),
        numbers={
            "spearman": {key: {"of_means": by_mean[key], "per_seed": list(by_seed[key])} for key in PREDICTORS},
            "interval_of_means": list(span),
            "spearman_of_single_trainings": list(single.values),
            "allocations": [
                {
                    "allocation": name,
                    **{
                        key: table(finished, key)[:, n].tolist()
                        for key in (*PREDICTORS, "accuracy_averaged", "accuracy_averaged_each", "accuracy", "longer")
                    },
                }
                for n, name in enumerate(names)
            ],
        },
    )


def _table(finished: Finished, names: list[str], accuracy: FloatArray) -> Table:
    new, linear, longer = (table(finished, key).mean(axis=0) for key in ("predicted", "predicted_linear", "longer"))
    error = _errors(accuracy)
    rows = [
        [TITLES[names[n]], f"{new[n]:.3f}", f"{linear[n]:.3f}", f"{100 * accuracy[:, n].mean():.2f}",
         f"{100 * error[n]:.2f}", f"{100 * longer[n]:.0f}"]
        for n in np.argsort(new)
    ]  # fmt: skip
    head = ["Allocation", "Bound's objective", "Mean ratio", "Accuracy (%)", "+- (points)", "Longer rounds (%)"]
    return Table("Means over seeds, the bound's favourite first", head, rows)


def _errors(accuracy: FloatArray) -> FloatArray:
    """Standard error over seeds of each allocation's accuracy less its seed's mean."""
    if len(accuracy) < 2:
        return np.zeros(accuracy.shape[1])
    paired = accuracy - accuracy.mean(axis=1, keepdims=True)
    return np.asarray(paired.std(axis=0, ddof=1) / np.sqrt(len(accuracy)))


def _scatter(finished: Finished, names: list[str], accuracy: FloatArray) -> str:
    error = 100 * _errors(accuracy)
    with drawing("ordering", (4.8, 5.6), 2) as (figure, axes):
        for axis, (key, title) in zip(axes, PREDICTORS.items(), strict=True):
            values = table(finished, key).mean(axis=0)
            axis.errorbar(values, 100 * accuracy.mean(axis=0), error, fmt="o", color="#0072B2", ms=4, lw=1)
            for place, n in enumerate(np.argsort(values)):  # neighbours above and below, or they hide each other
                axis.annotate(names[n], (values[n], 100 * accuracy[:, n].mean()), fontsize=6,
                              xytext=(3, 3 if place % 2 else -9), textcoords="offset points")  # fmt: skip
            axis.set(xlabel=title, ylabel="accuracy over training (%)")
        return svg(figure, "ordering", "Accuracy against both objectives, allocation by allocation")

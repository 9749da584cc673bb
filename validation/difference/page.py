"""From the finished cases to the page: expected and measured gain on common ratios, rung by rung. Runs nothing."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ..cases import Finished, load_cases
from ..figures import COLOURS, drawing, svg
from ..measures import MARGIN, mean_interval, smooth, time_averages, time_to
from ..page import Page, Table, write_page
from ..summary import CORRELATION, Claim, Spread, verdict
from .study import COMMON, JOINT

FloatArray = NDArray[np.float64]
_DRAWS = 1000
NEEDED, BEHIND = 0.8, 0.1
"""Least rank correlation over rungs; most points behind on the lower half of the ladder."""
_MARKERS = "osD^vP*X"
Runs = dict[tuple[str, str], list[dict[str, Any]]]


def write(out: Path) -> Path:
    """Draw the finished study in `out`; returns the path of its page."""
    finished = load_cases(out)
    return write_page(out, _page(finished), finished)


def by_rung(finished: Finished) -> Runs:
    """The runs of each rung and scheme, in seed order."""
    found: Runs = {}
    for run in finished.results.values():
        found.setdefault((run["rung"], run["scheme"]), []).append(run)
    return {at: sorted(runs, key=lambda run: int(run["seed"])) for at, runs in found.items()}


def ahead(runs: Runs, rung: str, rival: str, accuracy: str = "accuracy") -> FloatArray:
    """Per seed: accuracy averaged over time, the planner's minus the rival's, in points."""
    pairs = zip(runs[rung, JOINT], runs[rung, rival], strict=True)
    found = [time_averages((a[accuracy], a["time_s"]), (b[accuracy], b["time_s"])) for a, b in pairs]
    return np.array([np.nan if pair is None else 100 * (pair[0] - pair[1]) for pair in found])


def sooner(runs: Runs, rung: str) -> FloatArray:
    """Per seed: the planner's time over the chosen common ratio's to the accuracy that both reach, less `MARGIN`."""
    found = []
    for a, b in zip(runs[rung, JOINT], runs[rung, COMMON], strict=True):
        target = min(float(smooth(run["accuracy"])[-1]) for run in (a, b)) - MARGIN
        mine, other = (time_to(run["accuracy"], run["time_s"], target) for run in (a, b))
        assert mine is not None  # both end above it
        assert other is not None
        found.append(mine / other)
    return np.array(found)


def ladder(runs: Runs) -> list[str]:
    """The rungs, from the least expected gain to the greatest, mean over seeds."""
    rungs = dict.fromkeys(rung for rung, _ in runs)
    return sorted(rungs, key=lambda rung: float(np.mean(expected(runs, rung))))


def expected(runs: Runs, rung: str) -> FloatArray:
    """Per seed: logarithm of the planner's progress per second over that of the chosen common ratio."""
    return np.array([run["expected_gain"] for run in runs[rung, JOINT]], dtype=float)


def span(predicted: FloatArray, gained: FloatArray) -> tuple[float, float]:
    """95 % interval of the rank correlation of means, both (rungs, seeds): seeds drawn with replacement."""
    drawn = np.random.default_rng(0).integers(gained.shape[1], size=(_DRAWS, gained.shape[1]))
    each = [stats.spearmanr(predicted[:, of].mean(axis=1), gained[:, of].mean(axis=1)).statistic for of in drawn]
    low, high = np.percentile(each, [2.5, 97.5])
    return float(low), float(high)


def ceiling(gained: FloatArray) -> float:
    """The most that the rank correlation with `gained` (rungs, seeds) can be expected to reach, given its noise.

    Root of its reliability: the rank correlation of means over half of the seeds with those over the other half,
    averaged over halves, carried over to all seeds by Spearman and Brown's formula.
    """
    rng, half = np.random.default_rng(0), gained.shape[1] // 2
    orders = [rng.permutation(gained.shape[1]) for _ in range(_DRAWS)]
    split = float(np.mean([
        stats.spearmanr(gained[:, of[:half]].mean(axis=1), gained[:, of[half : 2 * half]].mean(axis=1)).statistic
        for of in orders
    ]))  # fmt: skip
    return float(np.sqrt(max(0.0, 2 * split / (1 + split))))


def _page(finished: Finished) -> Page:
    config, runs = finished.config, by_rung(finished)
    kept = config.get("error_feedback", False)
    rungs = ladder(runs)
    rivals = sorted({scheme for _, scheme in runs} - {JOINT})
    half = len(rungs) // 2
    lower, upper = rungs[:half], rungs[-half:]
    predicted = [float(expected(runs, rung).mean()) for rung in rungs]
    in_points = [float(ahead(runs, rung, COMMON).mean()) for rung in rungs]
    in_time = [float(-np.log(sooner(runs, rung)).mean()) for rung in rungs]
    order = {
        "accuracy averaged over time": float(stats.spearmanr(predicted, in_points).statistic),
        "time to the accuracy that both reach": float(stats.spearmanr(predicted, in_time).statistic),
    }
    foreseen = np.array([expected(runs, rung) for rung in rungs])
    gained = {
        "accuracy averaged over time": np.array([ahead(runs, rung, COMMON) for rung in rungs]),
        "time to the accuracy that both reach": np.array([-np.log(sooner(runs, rung)) for rung in rungs]),
    }
    spans = {what: span(foreseen, of) for what, of in gained.items()}
    ceilings = {what: ceiling(of) for what, of in gained.items()}
    upper_gap = {rival: np.mean([ahead(runs, rung, rival) for rung in upper], axis=0) for rival in rivals}
    spans_upper = {rival: mean_interval(tuple(gap)) or (-np.inf, np.inf) for rival, gap in upper_gap.items()}
    low, high = spans_upper[COMMON]
    lower_gap = {
        rival: Spread(tuple(float(ahead(runs, rung, rival).mean()) for rung in lower), over="cells") for rival in rivals
    }
    claims = [
        Claim(
            f"The measured difference follows the expected one: {what}",
            Spread((value,), possible=CORRELATION, own_interval_95=spans[what]),
            2,
            f"Spearman's rank correlation over {len(rungs)} rungs, means over seeds",
            verdict(Spread((value,)), lambda v: v >= NEEDED),
            f"Holds from {NEEDED} on. 95 % interval {spans[what][0]:.2f} to {spans[what][1]:.2f}, seeds drawn with "
            f"replacement; {ceilings[what]:.2f} is the most to be expected of a perfect prediction, given how much the "
            "measured differences vary between seeds.",
            id=f"follows-{'time' if what.startswith('time') else 'accuracy'}",
        )
        for what, value in order.items()
    ]
    for rival in rivals:
        claims += [
            Claim(
                f"On the upper half of the ladder own ratios are ahead of {_title(rival)}",
                Spread(tuple(upper_gap[rival])),
                2,
                "points of accuracy averaged over time, own ratios minus the common one",
                verdict(Spread((spans_upper[rival][0],)), lambda v: v > 0),
                "Holds if the whole interval is above 0.",
                id=f"upper-half{rival.removeprefix(COMMON)}",
            ),
            Claim(
                f"On the lower half they are never behind {_title(rival)} by more than a tenth of a point",
                lower_gap[rival],
                2,
                "points, mean over seeds, one value per rung",
                verdict(lower_gap[rival], lambda v: v >= -BEHIND),
                "Judged rung by rung.",
                id=f"lower-half{rival.removeprefix(COMMON)}",
            ),
        ]
    rows = [
        [
            rung,
            f"{100 * np.expm1(e):.1f}",
            f"{100 * -np.expm1(-t):.1f}",
            *(_gap(ahead(runs, rung, rival)) for rival in rivals),
            *(f"{np.mean([run['pruning_ratio'] for run in runs[rung, scheme]]):.3f}" for scheme in (JOINT, COMMON)),
            f"{np.mean([_round(run) for run in runs[rung, JOINT]]):.2f}",
        ]
        for rung, e, t in zip(rungs, predicted, in_time, strict=True)
    ]
    seeds = config_seeds(runs)
    return Page(
        title="Own pruning ratios against one for all, as phones differ more"
        + (", unsent changes kept" if kept else ""),
        where=f"digits, ten phones, sparse uploads, plain mean at server rate {config['server_rate']:g}, deadlines "
        f"chosen by each scheme, seeds {seeds[0]} to {seeds[-1]}",
        answer=f"Over {len(rungs)} cells the planner expects to make {100 * np.expm1(predicted[0]):.0f} to "
        f"{100 * np.expm1(predicted[-1]):.0f} % more progress per second than the common ratio that the same "
        "measure likes best each round. The rank correlation of that with what was measured is "
        f"{order['accuracy averaged over time']:.2f} for accuracy "
        f"averaged over time and {order['time to the accuracy that both reach']:.2f} for the time to a target; on the "
        f"upper half own ratios are {upper_gap[COMMON].mean():.2f} points ahead of it ({low:.2f} to {high:.2f})"
        .replace(" -", " −").replace("(-", "(−") + "".join(
            f", {_gap(upper_gap[rival])} of {_title(rival)}" for rival in rivals if rival != COMMON
        ) + ".",
        claims=claims,
        tables=[
            Table(
                "Rungs by expected gain, means over seeds: progress per second that the planner expects on top of that "
                "of the chosen common ratio, time that was saved to the accuracy that both reach, both in per cent; "
                "accuracy averaged over time, own ratios minus each common one, in points with its 95 % interval; mean "
                "pruning ratio, own and common; round over an unpruned one",
                ["", "expected", "time saved", *rivals, "ratio", "common", "round"],
                rows,
            )
        ],
        figures=[(_drawing(runs, rungs), "Measured against expected gain, one point per rung: mean over seeds with its "
                  "95 % interval.")],
        limits=[
            "Accuracy counts a phone by its training samples, as training does; by the plain mean over phones: "
            "ahead_alike in report.json.",
            "Digits alone. A cell whose interval has 0 in it does not tell own ratios from the common one.",
            "The planner's measure is a model of progress; that it grows does not say how much accuracy follows.",
        ],
        command=f"python -m validation difference{'-kept' if kept else ''}",
        numbers={
            "rungs": [
                {"rung": rung, "expected": expected(runs, rung), "sooner": sooner(runs, rung),
                 "ahead": {rival: ahead(runs, rung, rival) for rival in rivals},
                 "ahead_alike": {rival: ahead(runs, rung, rival, "accuracy_alike") for rival in rivals}}
                for rung in rungs
            ],
            "order": order,
            "order_interval": spans,
            "order_ceiling": ceilings,
        },
    )  # fmt: skip


def config_seeds(runs: Runs) -> list[int]:
    """Of the runs there are."""
    return sorted({int(run["seed"]) for each in runs.values() for run in each})


def _title(rival: str) -> str:
    """A common ratio in words."""
    if rival == COMMON:
        return "the common ratio that the same measure likes best each round"
    return f"always pruning {rival.removeprefix(f'{COMMON}-')}"


def _round(run: dict[str, Any]) -> float:
    """Mean round over an unpruned one."""
    return float(run["time_s"][-1] / len(run["time_s"]) / run["unpruned_round_s"])


def _gap(values: FloatArray) -> str:
    low, high = mean_interval(tuple(values)) or (np.nan, np.nan)
    return f"{values.mean():.2f} ({low:.2f} to {high:.2f})".replace("-", "−")


def _drawing(runs: Runs, rungs: list[str]) -> str:
    with drawing("difference", (6.0, 3.6)) as (figure, (axes,)):
        for rung, colour, marker in zip(rungs, cycle(COLOURS), cycle(_MARKERS), strict=False):
            x, y = 100 * np.expm1(expected(runs, rung).mean()), ahead(runs, rung, COMMON)
            low, high = mean_interval(tuple(y)) or (y.mean(), y.mean())
            axes.errorbar(x, y.mean(), [[y.mean() - low], [high - y.mean()]], fmt=marker, color=colour, lw=0.9,
                          label=rung)  # fmt: skip
        axes.axhline(0, color="#555555", lw=0.9)
        axes.margins(x=0.1)
        axes.set(xlabel="expected gain in progress per second (%)", ylabel="ahead of the chosen common ratio (points)")
        figure.legend(loc="outside right center", fontsize=8)
        return svg(figure, "difference", "Measured gain of own ratios against the expected one, by rung")

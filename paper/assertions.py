"""What the text says in words: where results no longer bear a sentence out, the build stops."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from validation.drives.page import NEEDED as DRIVES_NEEDED
from validation.measures import MARGIN
from validation.summary import SAVING

from .numbers import FASTER, HARDER
from .planned import COVERED, FILL, entry
from .results import Report, Results, average, claim, complete, per_seed, scheme, t_interval, time_percent


def check_words(results: Results) -> None:
    """ValueError lists the statements that the results contradict."""
    wrong = [sentence for sentence, holds in _sentences(results).items() if not holds]
    if wrong:
        raise ValueError("the paper says what the results do not: " + "; ".join(wrong))


def _sentences(results: Results) -> dict[str, bool]:
    both, every = (results.mnist, results.fashion), (results.mnist, results.fashion, results.ablation)
    ablation, bound = results.ablation, results.bound["runs"]
    harder = {key: complete(_harder(results, key)) for key in HARDER if key != "Target"}
    drives = results.drives["entries"]
    joint, common = (np.array(scheme(results.harder, s)["final_accuracy"]) for s in ("joint", "allocation_only"))
    ends = joint - common
    upper = complete(claim(results.difference, "upper-half")["measured"])
    pruning = [run["terms"]["pruning"] for run in bound if "terms" in run and run["ratio"] > 0]
    return {
        "the bound was never violated": not any(run["violations"] or run["term_violations"] for run in bound),
        "its looseness is in the pruning term": np.median([t["bound"] / t["measured"] for t in pruning]) > 100,
        "masks that differ cost more": _median(bound, agree=False) > 2 * _median(bound, agree=True),
        "the joint scheme takes at most half of the time on MNIST and Fashion-MNIST": all(
            np.mean(_reached(report, "joint")) <= 100 * SAVING for report in both
        ),
        "at half of the time it ends within the margin, on average": all(
            complete(claim(report, "at-half")["measured"]).mean() >= -100 * MARGIN for report in every
        ),
        "every scheme that prunes to the deadline saves about as much": all(
            abs(np.mean(_reached(report, name)) - np.mean(_reached(report, "joint"))) <= 15
            for report in both
            for name in ("equal", "pruning_only", "allocation_only")
        ),
        "one common ratio with the same radio optimisation learns slightly faster": all(
            -1 < _ahead(report, "allocation_only") < 0 for report in every
        ),
        "the joint scheme prunes less than a common ratio does, and than equal shares do": all(
            average(report, "joint", "pruning_ratio") < average(report, other, "pruning_ratio")
            for report in every
            for other in ("allocation_only", "equal")
        ),
        "it is late less often than equal shares": all(
            average(report, "joint", "late_rounds") < average(report, "equal", "late_rounds") for report in every
        ),
        "it spends more energy than equal shares, less than unpruned training": all(
            average(report, "equal", "energy_j")
            < average(report, "joint", "energy_j")
            < average(report, "partial", "energy_j")
            for report in every
        ),
        "a shared head, random masks and magnitude learn more slowly": all(
            _ahead(ablation, name) > 0 for name in ("shared", "random", "magnitude")
        ),
        "a shared head and random masks cost accuracy at the end": all(
            average(ablation, "joint", "final_accuracy") > average(ablation, name, "final_accuracy")
            for name in ("shared", "random")
        ),
        "the Taylor score and the convex error learn faster": all(
            _ahead(ablation, name) < 0 for name in ("taylor", "quadratic")
        ),
        "the harder data are CIFAR-10": results.harder["study"]["dataset"] == "cifar10",
        "on harder data no seed reaches the unpruned accuracy in time": not any(
            value is not None for value in per_seed(_harder(results, "Target"))
        ),
        "to what the joint scheme reaches there, unpruned training takes about as long": bool(
            80 < harder["Sooner"].mean() < 120
        ),
        "there it is ahead of unpruned training and of solving once on every seed": all(
            (harder[rival] > 0).all() for rival in ("VsPartial", "VsStatic")
        ),
        "one common ratio is not told apart there": _not_told_apart(harder["VsAllocationOnly"])
        and _not_told_apart(ends),
        "own ratios are ahead on the upper part of the ladder": t_interval(upper)[0] > 0,
        "where unsent changes are kept they are not": t_interval(
            complete(claim(results.kept, "upper-half")["measured"])
        )[0]
        < 0,
        "on the ladder they are behind where the text says": min(
            t_interval(-np.array(found[ahead]["common"]))[0]
            for report, rung, ahead in (
                (results.difference, "data", "ahead_alike"),
                (results.kept, "all", "ahead"),
            )
            for found in report["rungs"]
            if found["rung"] == rung
        )
        > 0,
        "own ratios are expected to lose next to nothing anywhere": min(
            np.mean(rung["expected"]) for rung in results.difference["rungs"]
        )
        > -0.005,
        "on digits a ratio for all rounds and the planner are not told apart": _not_told_apart(
            np.array(entry(results.baselines, FILL)["wide"]) - np.array(entry(results.baselines, "fixed-fill")["wide"])
        ),
        "own ratios are nowhere ahead of a common one in the table of plans": not any(
            t_interval(np.array(entry(report, common)["wide"]) - np.array(entry(report, joint)["wide"]))[0] > 0
            for report in results.adaptive.values()
            for joint, common in ((FILL, "common-fill-chosen"), (COVERED, "common-covered-chosen"))
            if None not in (*entry(report, joint)["wide"], *entry(report, common)["wide"])
        ),
        "sparse rounds count the fourth root, frozen ones the square root": all(
            (study["progress_power"], study["frozen_power"]) == (0.25, 0.5)
            for study in (*(report["study"] for report in results.adaptive.values()), results.kinds["study"]["cell"])
        ),
        "the convolutional network counts the square root": all(
            report["study"]["progress_power"] == 0.5 for report in results.cnn.values()
        ),
        "that ratio is the planner's cap": np.allclose(
            entry(results.baselines, "fixed-fill")["pruned"], results.baselines["study"]["pruning_ratio_max"]
        ),
        "planned rounds are slower than unpruned training in no cell, mean over seeds": max(
            claim(results.kinds, "never-slower-mean")["measured"]["per_seed"]
        )
        < 100,
        "some seeds are slower where the band is wide and phones compute slowly": {
            (cell["bandwidth_hz"], cell["speed"])
            for cell in results.kinds["cells"]
            if max(next(time for name, time in cell["time_percent"].items() if "chosen" in name)) > 100
        }
        == {(max(c["bandwidth_hz"] for c in results.kinds["cells"]), min(c["speed"] for c in results.kinds["cells"]))},
        "with means over all planned rounds carry the saving to the drives": all(
            None not in of["tuned"] and max(of["tuned"]) <= DRIVES_NEEDED
            for name, of in drives.items()
            if name.startswith("joint-fill")
        ),
        "planned rounds end above unpruned training on the drives": all(
            max(of["behind"]) < 0 for name, of in drives.items() if name.startswith("joint-fill")
        ),
        "a common ratio is not told apart from them there": all(
            _not_told_apart(np.array(mine["tuned"]) - np.array(other["tuned"]))
            for a, mine in drives.items()
            for b, other in drives.items()
            if a.startswith("joint-fill") and b.startswith("common-fill")
        ),
        "unpruned training does not get there on some seed of the drives": any(
            None in of["tuned"] for name, of in drives.items() if name.startswith("unpruned")
        ),
        "the CNN is quicker in planned rounds than in zeroed ones": all(
            max(np.mean(entry(report, family)["wide"]) for family in (COVERED, FILL))
            < np.mean(entry(report, "paper-covered-zeroed")["wide"])
            for report in results.cnn.values()
        ),
        "of phones that are alike nothing was gained": _gained(results.earlier, "alike") < 0.1,
        "solving every round loses fewer updates there": bool((harder["Lost"] < 0).all()),
    }


def _not_told_apart(ahead: NDArray[np.float64]) -> bool:
    """Whether an interval of a difference has 0 in it."""
    low, high = t_interval(ahead)
    return bool(low < 0 < high)


def _gained(ladder: Report, name: str) -> float:
    (ahead,) = [rung["ahead"]["common"] for rung in ladder["rungs"] if rung["rung"] == name]
    return float(np.mean(ahead))


def _harder(results: Results, key: str) -> Report:
    measured: Report = claim(results.harder, HARDER[key])["measured"]
    return measured


def _median(runs: list[Report], agree: bool) -> float:
    return float(np.median([r["bound_over_measured"] for r in runs if (r["masks"] == "magnitude") == agree]))


def _reached(report: Report, name: str) -> list[float]:
    return [value for value in time_percent(report, name) if value is not None]


def _ahead(report: Report, other: str) -> float:
    """Points by which the joint scheme learns faster, mean over seeds."""
    return float(complete(claim(report, FASTER + other)["measured"]).mean())

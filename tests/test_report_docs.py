"""What docs/report.md says was found is what docs/results/*.json hold."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from validation.adaptive.tuned import BEST, CNN, chosen, reported
from validation.config import STUDIES, Training, to_dict
from validation.drives.tuned import CONFIG, TUNING
from validation.measures import mean_interval
from validation.tradeoff.page import (
    GROUPS,
    OBJECTIVES,
    by_seed,
    correlation,
    correlations,
    given_away,
    interval_text,
    over_seeds,
)

DOCS = Path(__file__).parent.parent / "docs"
TEXT = " ".join((DOCS / "report.md").read_text(encoding="utf-8").split())


def _report(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DOCS / "results" / f"{name}.json").read_text(encoding="utf-8"))
    return found


def _claim(report: dict[str, Any], name: str) -> list[Any]:
    """Per seed, of the claim of this id."""
    (found,) = [c["measured"]["per_seed"] for c in report["claims"] if c["id"] == name]
    return list(found)


def _column(report: dict[str, Any], scheme: str, column: str) -> np.ndarray:
    """Per seed, of one scheme."""
    (row,) = [s for s in report["schemes"] if s["scheme"] == scheme]
    found = row[column]
    return np.array(found["per_seed"] if isinstance(found, dict) else found, dtype=float)


def _says(*sentences: str) -> None:
    for sentence in sentences:
        assert sentence in TEXT, sentence


def _signed(low: float, high: float) -> str:
    """A range in points that reaches from behind to ahead."""
    assert low < 0 < high
    return f"({-low:.1f} lower to {high:.1f} higher)"


def _in_words(count: int) -> str:
    return ("none", "one", "two", "three")[count]


SETS = {
    "digits": "digits",
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "writers": "digits in ten synthetic hands",
}


def _entry(report: dict[str, Any], family: str) -> dict[str, Any]:
    (found,) = [of for name, of in report["entries"].items() if name.startswith(f"{family}-rate")]
    return dict(found)


def _share(values: list[float | None], most: float = 30.0) -> str:
    """Mean, interval, and on how many seeds at most so much."""
    good = sum(value is not None and value <= most for value in values)
    if None in values:
        return f"never on {values.count(None)} of {len(values)} seeds; {good} of {len(values)}"
    low, high = mean_interval(values) or (np.nan, np.nan)
    return f"{np.mean(np.array(values, dtype=float)):.0f} ({low:.0f} to {high:.0f}); {good} of {len(values)}"


FILL, COVERED = "joint-fill-chosen", "joint-covered-chosen"


def planned_rows() -> list[str]:
    """The tables of the planner's study, as the page has them: half a point below the target, and one."""
    rows = []
    for name, title in SETS.items():
        report = _report(f"adaptive-{name}")
        entries = [_entry(report, family) for family in (COVERED, FILL, "common-covered-chosen", "common-fill-chosen",
                                                         "paper-covered-zeroed")]  # fmt: skip
        covered = entries[0]
        seeds = re.findall(r"seeds (\d+).*?(\d+)$", report["where"])[0]
        planned = " | ".join(_share(of["tuned"]) for of in entries[:2])
        others = " | ".join(_share(of["tuned"]).partition(";")[0] for of in entries[2:])
        rows.append(
            f"| {title}, {seeds[0]} to {seeds[1]} | {planned} | {others} | {np.mean(covered['floor']):.0f} | "
            f"{covered['reference'].removeprefix('unpruned-rate')} |"
        )
        shares = [_share(of["wide"]) for of in entries]
        rows.append(f"| {title} | " + " | ".join([*shares[:2], *(s.partition(";")[0] for s in shares[2:])]) + " |")
    return rows


def verdict_rows() -> list[str]:
    """The three verdicts with which the page begins."""
    digits, report = _report("adaptive-digits"), _report("difference")
    rows = []
    for family, what in (
        (COVERED, "Rounds as planned, covered means, digits: share of tuned unpruned training's time"),
        (FILL, "The same with the step controlled"),
    ):
        values = _entry(digits, family)["wide"]
        low, high = mean_interval(values) or (np.nan, np.nan)
        rows.append(f"| {what} | {np.mean(values):.0f} % | {low:.0f} to {high:.0f} % |")
    (upper,) = [claim["measured"] for claim in report["claims"] if claim["id"] == "upper-half"]
    low, high = upper["interval_95"]
    rows.append(
        "| Own ratios ahead of the common one of the same planner where phones are unlike, accuracy averaged over time "
        "| "
        f"{upper['mean']:.2f} points | {low:.2f} to {high:.2f} |"
    )
    return rows


def test_planned_rounds() -> None:
    _says(*verdict_rows(), *planned_rows())
    untuned = {name: _entry(_report(f"adaptive-{name}"), COVERED)["untuned"] for name in SETS}
    _says("against the untuned one: " + ", ".join(f"{_share(untuned[n], 20.0)} ({t})" for n, t in SETS.items()))


def ladder_text() -> str:
    """What the page says of the ladder of unlike phones."""
    report = _report("difference")
    rungs = report["rungs"]
    gain = [100 * np.expm1(np.mean(rung["expected"])) for rung in rungs]
    claims = {c["id"]: c["measured"] for c in report["claims"]}
    upper, lower = claims["upper-half"], claims["lower-half"]
    low, high = upper["interval_95"]
    order, spans, ceilings = (list(report[name].values()) for name in ("order", "order_interval", "order_ceiling"))
    span = f"{abs(lower['min']):.2f} behind to" if lower["min"] < 0 else f"{lower['min']:.2f} to"
    return (
        f"`difference`, digits, {len(rungs[0]['expected'])} seeds: eight cells whose phones differ in distance, speed, "
        "data or energy, means over all devices at one server rate; own ratios and the common ratio that the same "
        "measure likes best each choose "
        f"their own deadlines. The planner expects {abs(gain[0]):.0f} to {gain[-1]:.0f} % more progress per second of "
        "own ratios. On the four cells where it expects most, own ratios are "
        f"{upper['mean']:.2f} points of accuracy averaged over time ahead (95 % interval {low:.2f} to {high:.2f}), "
        f"{upper['min']:.2f} to {upper['max']:.2f} over seeds; on "
        f"the other four from {span} {lower['max']:.2f} ahead, cell by cell. Measured gains "
        "follow the expected ones: the rank correlation over cells is "
        f"{order[0]:.2f} in accuracy averaged over time ({spans[0][0]:.2f} to {spans[0][1]:.2f}) and {order[1]:.2f} in "
        f"time to a target ({spans[1][0]:.2f} to {spans[1][1]:.2f}). Measured gains repeat between halves of the "
        f"seeds so well that a perfect prediction could be expected to reach {ceilings[0]:.2f} and {ceilings[1]:.2f}. "
    )


def fixed_rows() -> list[str]:
    """The table of ratios that are fixed for all rounds: ahead of each on the upper half, and the worst rung below."""
    claims = {c["id"]: c["measured"] for c in _report("difference")["claims"]}
    rows = []
    for ratio in [name.removeprefix("upper-half-") for name in claims if name.startswith("upper-half-")]:
        upper, lower = claims[f"upper-half-{ratio}"], claims[f"lower-half-{ratio}"]
        low, high = upper["interval_95"]
        rows.append(
            f"| always {ratio} | {upper['mean']:.2f} ({low:.2f} to {high:.2f}) | {lower['min']:.2f} to "
            f"{lower['max']:.2f} |"
        )
    assert len(rows) >= 3
    return rows


def fixed_text() -> str:
    """What the page says of ratios that are fixed for all rounds."""
    report = _report("difference")
    claims = {c["id"]: c["measured"] for c in report["claims"]}
    fixed = [name for name in report["rungs"][0]["ahead"] if name != "common"]
    above = {name: claims[f"upper-half{name.removeprefix('common')}"] for name in fixed}
    assert min(of["interval_95"][0] for of in above.values()) > 0  # "its interval above zero"
    lower = {r["rung"]: {n: np.mean(r["ahead"][n]) for n in r["ahead"]} for r in report["rungs"][:4]}
    worst = {rung: -min(of.values()) for rung, of in lower.items()}
    assert {rung for rung, gap in worst.items() if gap > 0.1} == {"alike", "data", "energy"}
    assert all(of["common-0.98"] == min(of.values()) for rung, of in lower.items() if rung != "speed")
    return (
        "So on the upper half own ratios are ahead of every common ratio, its interval above zero. On the lower half "
        f"they are behind always pruning 0.98 by {worst['alike']:.2f} points where phones are alike, "
        f"{worst['energy']:.2f} where they differ in energy alone and {worst['data']:.2f} in data alone; no more than "
        "0.1 was asked for."
    )


def rooted_text() -> str:
    """What counting the root of what a round keeps has changed on the ladder."""
    rows = []
    for name in ("earlier/difference-430", "earlier/difference-710"):
        report = _report(name)
        claims = {c["id"]: c["measured"] for c in report["claims"]}
        low, high = claims["upper-half"]["interval_95"]
        order = list(report["order"].values())
        rows.append(f"{claims['upper-half']['mean']:.2f} ({low:.2f} to {high:.2f}), {order[0]:.2f} and {order[1]:.2f}")
    worst = min(c["measured"]["min"] for c in report["claims"] if c["id"].startswith("lower-half-"))
    (near,) = [c["measured"] for c in report["claims"] if c["id"] == "upper-half-0.95"]
    low, high = near["interval_95"]
    return (
        f"Counted by what it keeps itself own ratios were ahead by {rows[0]} the rank correlations, on seeds 430 to "
        f"437, and by {rows[1]} on seeds 710 to 717; there they were up to {-worst:.2f} points behind a fixed ratio on "
        f"the lower half, and {near['mean']:.2f} ({low:.2f} to {high:.2f}) ahead of always pruning 0.95 on the upper "
        "one"
    )


def earlier_ladder_text() -> str:
    """What the page says of the ladder as it was counted first."""
    report = _report("earlier/difference")
    rungs = {rung["rung"]: rung for rung in report["rungs"]}
    order = list(report["order"].values())
    alike, energy = (100 * np.expm1(np.mean(rungs[name]["expected"])) for name in ("alike", "energy"))
    assert report["rungs"][0]["rung"] == "speed"
    return (
        "Counted by the squared change of all phones together, as the planner does by default, the rank correlations "
        f"were {order[0]:.2f} and {order[1]:.2f} on seeds 400 to 407 (`docs/results/earlier`): {alike:.0f} % were "
        f"expected where phones are alike and {energy:.0f} % where only energy binds, for rounds that serve the phones "
        "with a large change first, and no more than "
        f"{max(np.mean(rungs[name]['ahead']['common']) for name in ('alike', 'energy')):.2f} points were gained, while "
        f"the cell of unlike speeds, {np.mean(rungs['speed']['ahead']['common']):.2f} points ahead, was expected to "
        "gain least."
    )


def _place(cell: dict[str, Any]) -> str:
    """Which cell of the map."""
    speed = "full speed" if cell["speed"] == 1 else f"1/{1 / cell['speed']:.0f} of the speed"
    return f"{cell['bandwidth_hz'] / 1e6:g} MHz and {speed}"


def kinds_text() -> str:
    """What the page says of the map of kinds of round."""
    report = _report("kinds")
    claims = {c["id"]: c["measured"] for c in report["claims"]}
    cells, never, within = report["cells"], claims["never-slower"], claims["within-best"]
    seeds = re.findall(r"\d+", report["where"].rpartition("seeds ")[2])
    assert len(never["per_seed"]) == len(seeds) * len(cells)
    assert max(never["per_seed"]) < 100
    ratios = within["per_seed"]
    inside = sum(value <= 1.1 for value in ratios)
    taken = [cell["chosen"] for cell in cells]
    low, high = within["interval_95"]
    assert inside == len(cells) - 1
    out = cells[int(np.argmax(ratios))]
    best, deadline = out["time_percent"][out["best"]], out["best"].partition("-deadline")[2]
    assert deadline == "0.15"
    assert "frozen" not in out["best"]
    planned = out["time_percent"]["joint-fill-chosen-rate4"][: len(best)]
    assert claims["right-kind"]["mean"] == len(cells)
    return (
        f"`kinds`, Fashion-MNIST, seeds {seeds[0]} to {seeds[-1]}, {len(cells)} cells of bandwidth by compute speed, "
        "means over all devices at rate 4, which was tuned for unpruned training and the planner alike. Planned "
        f"rounds, which may be frozen or sparse, take {never['min']:.0f} to {never['max']:.0f} % of unpruned "
        "training's time to its accuracy: in no cell and on no seed more than all of it. Kinds and deadlines were "
        f"swept on seeds {seeds[0]} and {seeds[1]}. There planned rounds take {within['min']:.2f} to "
        f"{within['max']:.2f} times as long as the best kind and deadline, picked after the fact, "
        f"{within['mean']:.2f} on average (95 % interval over cells {low:.2f} to {high:.2f}), and within a tenth of it "
        f"in {inside} of {len(cells)} cells. The other one is that of {_place(out)}, where sparse rounds of "
        f"{deadline}, the shortest deadline swept, take {np.mean(best):.0f} % and planned ones {np.mean(planned):.0f} "
        "%. "
        f"Planned rounds are mostly sparse in {taken.count('sparse')} cells and mostly frozen in "
        f"{taken.count('frozen')}, where computing takes most of the time: in each cell the kind that wins. Zeroed "
        "rounds win nowhere."
    )


def test_unlike_phones_and_kinds_of_round() -> None:
    _says(ladder_text(), *fixed_rows(), fixed_text(), rooted_text(), earlier_ladder_text(), kinds_text())
    assert not any("zeroed" in cell["best"] for cell in _report("kinds")["cells"])


BASELINES = {
    "joint": "own ratios, a deadline for all rounds",
    "common": "one common ratio, band solved",
    "equal": "one common ratio, equal shares",
    "pruning_only": "own ratios, equal shares",
    "fixed": "always 0.9, band solved",
}


def baseline_rows() -> list[str]:
    """The table of baselines by kind of round, each within a point of the target."""
    report = _report("baselines")
    rows = []
    for scheme, title in BASELINES.items():
        cells = [title]
        for kind in ("zeroed", "frozen", "sparse"):
            family = f"{scheme}-fill" + ("" if kind == "sparse" else f"-{kind}")
            cells.append(
                "planned, below"
                if (scheme, kind) in (("joint", "sparse"), ("common", "sparse"))
                else _share(_entry(report, family)["wide"]).partition(";")[0]
            )
        rows.append(f"| {' | '.join(cells)} |")
    for title, family in (
        ("as the planner runs them", FILL),
        ("one common ratio, planned alike", "common-fill-chosen"),
    ):
        rows.append(f"| {title} | | | {_share(_entry(report, family)['wide']).partition(';')[0]} |")
    return rows


def drive_rows(entries: dict[str, Any]) -> list[str]:
    """A table of settings on measured drives: one a row, means over seeds."""
    rows = []
    for entry, of in entries.items():
        behind = np.array(of["behind"])
        rows.append(
            f"| {drive_title(entry)} | {_once(of) if len(behind) == 1 else _share(of['tuned']).partition(';')[0]} | "
            f"{np.mean(of['round']):.0f} | {np.mean(of['floor']):.0f} | {0.0 - behind.mean():+.1f} |"
        )
    return rows


def drives_tried() -> dict[str, Any]:
    """Settings tried on the tuning seed."""
    found: dict[str, Any] = _report("drives-tuning")["entries"]
    assert {of["reference"] for of in found.values()} == {"unpruned-rate3"}
    assert set(found) == {entry.name for entry in TUNING.entries}
    return found


def drives_text() -> str:
    """What the page says of the settings tried, of those that leave out the slowest phone, and of short rounds."""
    tried = drives_tried()
    short, few = tried["joint-covered-sparse-rate2-0.62"], tried["joint-covered-sparse-steps4and3-rate3"]
    took = {name: of["tuned"][0] or np.inf for name, of in tried.items()}
    best = {means: min((n for n in took if f"-{means}-" in n), key=lambda n: took[n]) for means in ("covered", "fill")}
    assert best == {"covered": "joint-covered-sparse-rate2", "fill": "joint-fill-sparse-rate2-0.66"}
    assert {entry.name for entry in CONFIG.entries} == {"unpruned-rate3", *best.values()}
    (worst,), (usual,) = short["worst"], tried["unpruned-rate3"]["worst"]
    return (
        f"The best takes {took[best['covered']]:.0f} % with covered means and {took[best['fill']]:.0f} % with means "
        f"over all. A deadline of 0.62 is shorter than the slowest phone can train: it is left out of every round "
        f"({short['participants'][0]:.1f} phones take part on the mean), its head never learns, and it ends at "
        f"{worst:.0f} % accuracy, where the worst phone of unpruned training has {usual:.0f} %. That, and not error "
        "feedback, costs the points there. Frozen rounds of 0.6 leave it out alike. Rounds of fewer steps are half as "
        f"long and need twice as many: {few['tuned'][0]:.0f} %."
    )


def _once(of: dict[str, Any]) -> str:
    (value,) = of["tuned"]
    return "never" if value is None else f"{value:.0f}"


def drive_title(entry: str) -> str:
    """What an entry's name says, in words."""
    found = re.fullmatch(
        r"(unpruned|joint-(covered|fill))(?:-(sparse|frozen))?(-feedback)?(?:-steps(\d)and(\d))?-rate([\d.]+)"
        r"(?:-([\d.]+))?",
        entry,
    )
    assert found is not None, entry
    _, means, kind, feedback, personal, dense, rate, deadline = found.groups()
    words = (
        ["unpruned"]
        if means is None
        else [kind or "sparse or frozen", {"covered": "covered means", "fill": "means over all"}[means]]
    )
    return ", ".join([
        *words, f"rate {rate}", *([f"{personal} and {dense} steps"] if personal else []),
        *(["error feedback"] if feedback else []), *([f"deadline {deadline}"] if deadline else []),
    ])  # fmt: skip


def test_planned_rounds_on_drives() -> None:
    found = _report("drives")["entries"]
    _says(*drive_rows(drives_tried()), drives_text(), *drive_rows(found))
    late = found["joint-fill-sparse-rate2-0.66"]
    assert [share > 66 for share in late["floor"]] == [value is None for value in late["tuned"]] == [False, True, False]
    _says(f"On seed 671 the slowest phone trains for {late['floor'][1]:.0f} % of an unpruned round")


ORDERS = {"digits": "ordering", "mnist": "ordering-mnist", "fashion_mnist": "ordering-fashion_mnist"}


def order_rows() -> list[str]:
    """The table of rank correlations within one deadline, one data set a row."""
    rows = []
    for dataset, name in ORDERS.items():
        report = _report(name)
        accuracy = np.array([a["accuracy_averaged"] for a in report["allocations"]]).T
        assert len(accuracy) >= 5  # seeds
        found, (low, high) = report["spearman"], report["interval_of_means"]
        each, seeds = found["predicted"]["per_seed"], report["study"]["seeds"]
        options = "" if dataset == "digits" else f" --dataset {dataset} --data-dir DIR"
        options += "" if len(seeds) == 8 else f" --seeds {len(seeds)}"  # the study's own number
        rows.append(
            f"| {SETS[dataset]}, {seeds[0]} to {seeds[-1]} | {found['predicted']['of_means']:.2f} ({low:.2f} to "
            f"{high:.2f}) | {np.mean(each):.2f} ({min(each):.2f} to {max(each):.2f}) | "
            f"{found['predicted_linear']['of_means']:.2f} | {100 * np.ptp(accuracy.mean(axis=0)):.1f} | "
            f"`python -m validation ordering{options}` |"
        )
    return rows


def test_the_order_of_allocations() -> None:
    _says(*order_rows())
    found = {dataset: _report(name)["spearman"]["predicted"] for dataset, name in ORDERS.items()}
    assert [of["of_means"] >= 0.9 for of in found.values()] == [True, True, False]
    assert [np.mean(of["per_seed"]) >= 0.9 for of in found.values()] == [False, True, False]
    report, each = _report(ORDERS["fashion_mnist"]), found["fashion_mnist"]["per_seed"]
    least = int(np.argmin(each))
    outcome, predicted = (
        {a["allocation"]: a[name][least] for a in report["allocations"]} for name in ("accuracy_averaged", "predicted")
    )
    assert max(outcome, key=lambda name: outcome[name]) == "equal"
    assert sorted(predicted, key=lambda name: -predicted[name])[1] == "equal"  # "last but one"
    before = [_report(f"earlier/{name}")["spearman"]["predicted"]["of_means"] for name in ORDERS.values()]
    _says(
        f"On Fashion-MNIST it is {found['fashion_mnist']['of_means']:.2f}: on seed {report['study']['seeds'][least]} "
        f"({each[least]:.2f}) equal shares train best",
        "on other seeds, it was {:.2f}, {:.2f} and {:.2f} as means over seeds".format(*before),
    )


def test_every_baseline_with_every_kind_of_round() -> None:
    _says(*baseline_rows())
    entries = {name: of["wide"] for name, of in _report("baselines")["entries"].items()}
    planned = np.mean(_entry(_report("baselines"), FILL)["wide"])
    others = [entry.name for entry in BEST]
    worse = {name: np.mean([np.inf if value is None else value for value in entries[name]]) for name in others}
    assert planned < min(worse.values())
    assert min(worse, key=lambda name: worse[name]).startswith("fixed-fill-rate")
    _says("The planner is ahead of every scheme that takes one setting for all rounds. Next is to prune 0.9 always")


def test_what_is_said_of_the_table() -> None:
    wide = {name: {family: np.mean(_entry(_report(f"adaptive-{name}"), family)["wide"])
                   for family in (FILL, "common-fill-chosen")} for name in SETS}  # fmt: skip
    gap = {name: round(of["common-fill-chosen"]) - round(of[FILL]) for name, of in wide.items()}
    assert gap == {"digits": 4, "mnist": -3, "fashion_mnist": 7, "writers": -1}
    _says("With means over all it takes 4 and 7 points longer on digits and Fashion-MNIST, and 1 to 3 points less on")
    for name in ("mnist", "fashion_mnist"):
        of = _entry(_report(f"adaptive-{name}"), FILL)
        assert max(of["tuned"]) <= 30.0
        assert max(t / f for t, f in zip(of["tuned"], of["floor"], strict=True)) <= 1.5
    paper = [np.mean(_entry(_report(f"adaptive-{name}"), "paper-covered-zeroed")["tuned"]) for name in list(SETS)[:3]]
    _says(f"{min(paper):.0f} to {max(paper):.0f} % of unpruned training's time, where it gets there in its 90 rounds")


@pytest.mark.parametrize("dataset", SETS)
def test_rates_are_those_that_tuning_chose(dataset: str) -> None:
    found = _report(f"tuning-{dataset}")["chosen"]
    taken = (*chosen(dataset), *(BEST if dataset == "digits" else ()))  # type: ignore[arg-type]
    assert found == {entry.family: entry.name for entry in taken}


def cnn_rows() -> list[str]:
    """The table of the CNN."""
    rows = []
    for name in CNN:
        report = _report(f"adaptive-{name}-cnn")
        covered, fill, paper = (
            _entry(report, family) for family in ("joint-covered-chosen", "joint-fill-chosen", "paper-covered-zeroed")
        )
        seeds = re.findall(r"seeds (\d+).*?(\d+)$", report["where"])[0]
        rows.append(
            f"| {SETS[name]}, {seeds[0]} to {seeds[1]} | {_share(covered['tuned'])} | {_share(fill['tuned'])} | "
            f"{_share(paper['tuned']).partition(';')[0]} | {np.mean(covered['floor']):.0f} | "
            f"{covered['reference'].removeprefix('unpruned-rate')} |"
        )
    return rows


def test_the_cnn() -> None:
    _says(*cnn_rows())
    ahead = []
    for name in CNN:
        covered, paper = (
            _entry(_report(f"adaptive-{name}-cnn"), of) for of in ("joint-covered-chosen", "paper-covered-zeroed")
        )
        ahead.append(np.mean(covered["final"]) - np.mean(paper["final"]))
        found = _report(f"tuning-{name}-cnn")["chosen"]
        assert set(found.values()) <= {entry.name for entry in reported(name, "cnn").entries}
    _says(f"planned rounds end {ahead[1]:.1f} and {ahead[2]:.1f} points higher")


def test_time_to_the_unpruned_accuracy() -> None:
    mnist, fashion, digits = (
        np.array(_claim(_report(name), "time-half"))
        for name in ("latency-mnist", "latency-fashion_mnist", "ablation-digits")
    )
    assert max(*mnist, *fashion) <= 50  # "at most half on every seed of both"
    _says(
        f"{mnist.mean():.0f} % ({mnist.min():.0f} to {mnist.max():.0f}) and "
        f"{fashion.mean():.0f} % ({fashion.min():.0f} to {fashion.max():.0f}) of the unpruned",
        f"is met on {(mnist <= 40).sum()} and on {(fashion <= 40).sum()} of 5 seeds",
        f"On digits it is {digits.mean():.0f} % on average and at most half on {(digits <= 50).sum()} of 5 seeds",
    )


def test_against_one_common_ratio() -> None:
    reports = [_report(name) for name in ("latency-mnist", "latency-fashion_mnist", "ablation-digits")]
    behind = [-np.array(_claim(report, "faster-allocation_only")) for report in reports]
    assert min(*behind[0], *behind[2]) > 0  # "on every seed of MNIST and digits"
    means = [each.mean() for each in behind]
    _says(f"on {(behind[1] > 0).sum()} of 5 of Fashion-MNIST, by {min(means):.1f} to {max(means):.1f} points")
    for report in reports:
        joint, common = (_column(report, name, "pruning_ratio").mean() for name in ("joint", "allocation_only"))
        _says(f"prune less on average ({joint:.2f} against {common:.2f})")


def test_default_study() -> None:
    report = _report("schemes-digits")
    ratio = {name: _column(report, name, "pruning_ratio").mean() for name in ("joint", "equal")}
    late = {name: 100 * _column(report, name, "late_rounds").mean() for name in ("joint", "equal")}
    sooner = _claim(report, "sooner-equal")
    assert np.isnan(_column(report, "equal", "time_to_target_s")).tolist() == [value is None for value in sooner]
    first, second = (value for value in sooner if value is not None)  # "on two seeds; on the third"
    worst = np.array(_claim(report, "worst-phone"))
    energy = np.array(_claim(report, "energy-equal")) / 100
    unpruned = np.array(_claim(report, "energy-unpruned"))
    assert unpruned.mean() == pytest.approx(100 / 3, abs=1)  # "a third"
    assert min(_claim(report, "faster-fixed_equal")) > 0  # "beaten on every seed"
    within = sum(value >= -0.5 for value in _claim(report, "at-half"))
    crossed = sum(value <= 50 for value in _claim(report, "time-half"))
    _says(
        f"prunes less ({ratio['joint']:.2f} against {ratio['equal']:.2f})",
        f"late in {late['joint']:.0f} % of the rounds instead of {late['equal']:.0f} %",
        f"It takes {first:.0f} % and {second:.0f} % of the time to the target on two seeds",
        f"Its worst phone ends {-worst.mean():.1f} points lower {_signed(worst.min(), worst.max())}",
        f"spends {energy.mean():.1f} times the energy per phone and round ({energy.min():.1f} to {energy.max():.1f})",
        f"accuracy on {_in_words(within)} of three seeds, and the crossing of the target itself comes by then on "
        f"{_in_words(crossed)} of the three",
    )


def test_those_are_results_of_the_default_study_as_it_is() -> None:
    assert _report("schemes-digits")["study"] == json.loads(json.dumps(to_dict(STUDIES["schemes"])))


def test_ablation() -> None:
    report = _report("ablation-digits")
    end = {n: 100 * _column(report, n, "final_accuracy").mean() for n in ("joint", "shared", "random")}
    taylor = np.array(_claim(report, "faster-taylor"))
    assert min(_claim(report, "faster-magnitude")) > 0
    assert taylor.max() < 0
    convex = np.array(_claim(report, "faster-quadratic"))
    assert convex.max() < 0
    _says(
        f"Sharing the head costs {end['joint'] - end['shared']:.1f} points at the end",
        f"random masks {end['joint'] - end['random']:.1f};",
        f"on every seed ({-taylor.mean():.2f} points)",
        f"on every seed of digits ({-convex.mean():.2f} points averaged over the run)",
    )


def test_bound() -> None:
    runs = _report("bound")["runs"]
    assert not any(run["violations"] or run["term_violations"] for run in runs)
    kinds = [run for run in runs if "terms" not in run], [run for run in runs if "terms" in run]
    median = [float(np.median([run["bound_over_measured"] for run in kind])) for kind in kinds]
    agreeing, differing = (
        [np.median([r["bound_over_measured"] for r in k if (r["masks"] == "magnitude") == agree]) for k in kinds]
        for agree in (True, False)
    )
    factor = np.array(differing) / agreeing
    pruning = [run["terms"]["pruning"] for run in kinds[1] if run["ratio"] > 0]
    orders = np.log10([term["bound"] / term["measured"] for term in pruning])
    _says(
        f"never violated: {len(runs)} runs",
        f"is {median[0]:.0f} on quadratics ({agreeing[0]:.0f} where masks agree) and {round(median[1], -1):.0f}",
        f"is {orders.min():.1f} to {orders.max():.1f} orders smaller",
        f"a factor of {factor[0]:.0f} on quadratics and {factor[1]:.0f} on digits",
    )
    measured = _report("bound")["kinds"]
    assert not any(run["violations"] for run in measured)  # how large the guarantees are: test_verification_docs.py


def test_map() -> None:
    cells = _report("map")["cells"]
    single = [value for cell in cells for value in cell["time_percent"]["per_seed"]]
    means = [cell["time_percent"]["mean"] for cell in cells]
    half = [sum(value <= 50 for value in cell["time_percent"]["per_seed"]) for cell in cells]
    slow = [100 * c["late"] for c in cells if c["speed"] == 0.25 and c["bandwidth_hz"] >= 10e6]
    _says(
        f"is {min(single):.0f} to {max(single):.0f} % of the unpruned scheme's over single runs, "
        f"{min(means):.0f} to {max(means):.0f} % over the means of cells",
        f"at most half on both seeds in {half.count(2)} of {len(cells)} cells, on neither in {half.count(0)}, "
        f"on one of the two in {half.count(1)}",
        f"{min(slow):.0f} to {max(slow):.0f} % of the rounds are late",
    )


def test_scale() -> None:
    report = _report("scale")
    cell = [run["wall_s"] for run in report["runs"] if run.get("devices") == 100_000]
    (cells,) = [run["wall_s"] for run in report["runs"] if run.get("cells") == 1000]
    (exponent,) = _claim(report, "exponent")
    _says(f"{1e3 * np.median(cell):.0f} ms (median of five)", f"10^3 cells of 100: {1e3 * cells:.0f} ms")
    sample = np.array(_claim(report, "sample"))
    price = np.array(_claim(report, "price"))
    _says(
        f"the mean pruning ratio of 10^5 to {sample.max():.3f};",
        f"more bandwidth to {100 * abs(price - 1).max():.1f} %.",
        f"exponent −{-exponent:.2f}",
    )


def settings_rows() -> list[str]:
    """The table of rank correlations by both objectives, within a deadline and across."""
    runs, rows = by_seed(_report("tradeoff")["runs"]), []
    for group in GROUPS.values():
        cells = [
            f"{(found := correlations(runs, group, of)).mean():.2f} {interval_text(found).replace('−', '-')}; "
            f"{correlation(over_seeds(runs), group, of):.2f}"
            for of in OBJECTIVES
        ]
        rows.append(f"| {group.title} | {' | '.join(cells)} |")
    return rows


def settings_text() -> str:
    """What the page says of the settings that are ordered, and of what each objective likes best."""
    report = _report("tradeoff")
    runs, study = by_seed(report["runs"]), report["study"]
    away = {of: given_away(runs, GROUPS["time"], of) for of in OBJECTIVES}
    low, high = mean_interval(tuple(away["measured"])) or (np.nan, np.nan)
    means = over_seeds(runs)
    alone = {}  # by deadline, of means: rank correlation, and how far apart the allocations are in points
    for setting in study["settings"]:
        if setting["varied"] in ("none", "deadline"):
            only = [run for run in means if run["setting"] == setting["name"]]
            apart = 100 * np.ptp([run["accuracy_rounds"] for run in only])
            alone[setting["deadline_fraction"]] = correlation(only, GROUPS["within"], "measured"), apart
    deadlines = [f"{deadline:g}: {alone[deadline][0]:.2f} ({alone[deadline][1]:.1f})" for deadline in sorted(alone)]
    return (
        f"`tradeoff`, digits, seeds {study['seeds'][0]} to {study['seeds'][-1]}: {len(study['settings'])} settings of "
        f"deadline, bandwidth, power and energy, each with {len(study['allocations'])} allocations, sparse uploads, "
        "means over all devices at one server rate. Of means over seeds the tail sums order the allocations of one "
        "cell, at deadlines of so many unpruned rounds, with rank correlations of "
        f"{', '.join(deadlines)}; in brackets how many points the allocations are apart. The allocation and deadline "
        f"that each objective likes best, by progress per second, end {away['measured'].mean():.1f} points (95 % "
        f"interval {low:.1f} to {high:.1f}) of accuracy averaged over time below the best of all by the measured tail "
        f"sums, {away['linear'].mean():.1f} by the mean "
        "pruning ratio."
    )


def test_order_of_settings() -> None:
    _says(settings_text(), *settings_rows())


def test_order_of_settings_in_zeroed_rounds() -> None:
    claims = {c["id"].removeprefix("order-"): c for c in _report("earlier/tradeoff")["claims"]}

    def found(outcome: str) -> tuple[float, str]:
        return claims[outcome]["measured"]["mean"], re.findall(r"\(.*\)", claims[outcome]["unit"])[0][1:-1]

    (averaged, interval), (end, wide) = found("accuracy_averaged"), found("accuracy")
    loss, gradient = found("loss")[0], found("gradient_sq")[0]
    _says(f"averaged over training: {averaged:.2f} (95 % interval {interval})", f"weaker, {end:.2f} ({wide})")
    _says(f"with loss and squared gradient it is {loss:.2f} and {gradient:.2f}")


def test_harder() -> None:
    report = _report("harder")
    seeds = len(report["study"]["seeds"])
    end = {n: 100 * _column(report, n, "final_accuracy").mean() for n in ("joint", "partial", "allocation_only")}
    gap = -np.array(_claim(report, "end"))
    sooner = np.array(_claim(report, "sooner"))
    common, partial, static = (
        np.array(_claim(report, start)) for start in ("faster-allocation_only", "faster-partial", "faster-static")
    )
    lost = -np.array(_claim(report, "lost"))
    assert set(_claim(report, "time-half")) == {None}  # "on none"
    assert min(gap) > 0.5
    assert min(*partial, *static, *lost) > 0  # "on every seed"

    def spread(values: np.ndarray) -> str:
        return f"({values.min():.1f} to {values.max():.1f})"

    _says(
        f"on measured drives, {seeds} seeds: the saving does not carry over",
        f"less half a point, on none of {seeds} seeds",
        f"It ends at {end['joint']:.1f} %, unpruned training at {end['partial']:.1f} % ({gap.mean():.1f} points apart, "
        f"{gap.min():.1f} to {gap.max():.1f})",
        f"{sooner.mean():.0f} % ({sooner.min():.0f} to {sooner.max():.0f}) of unpruned training's time",
        f"ends {end['allocation_only'] - end['joint']:.1f} points higher",
        f"is {common.mean():.1f} points ahead of it, on {(common > 0).sum()} of {seeds} seeds",
        f"ahead of unpruned training by {partial.mean():.1f} points {spread(partial)}",
        f"average channels by {static.mean():.1f} {spread(static)}",
        f"it loses {lost.mean():.1f} points {spread(lost)} fewer",
    )


def test_more_personal_steps_than_pruned_ones_except_where_the_page_says_so() -> None:
    for path in (DOCS / "results").glob("*.json"):
        study = _report(path.stem)["study"]
        of = study.get("cell", study)  # the map of kinds and the drives hold another study's settings
        taken = {**of.get("comparison", of).get("training", {}), **of}
        if "personal_steps" not in taken:
            assert path.stem in ("bound", "scale")  # no training of a comparison
            continue
        old = study["name"] in ("schemes", "latency", "ablation", "map", "harder")
        more = taken["personal_steps"] - taken.get("pruned_steps", Training().pruned_steps)
        assert more == 0 if old else more > 0, path.stem
    _says(
        "`schemes`, `latency`, `ablation`, `map` and `harder`, reproduce the scheme as it was published: they take five"
    )


@pytest.mark.parametrize("path", sorted((DOCS / "results").rglob("*.json")), ids=lambda path: path.stem)
def test_every_claim_has_an_id_of_its_own(path: Path) -> None:
    ids = [claim["id"] for claim in json.loads(path.read_text(encoding="utf-8"))["claims"]]
    assert all(ids)
    assert len(set(ids)) == len(ids)


def test_links_lead_somewhere() -> None:
    text = (DOCS / "report.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#:]+)\)", text)
    assert targets
    for target in targets:
        assert (DOCS / target).exists(), target

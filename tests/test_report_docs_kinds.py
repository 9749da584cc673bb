"""What docs/report.md says of kinds of round, and of every baseline with each, is what docs/results hold."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from report_docs import FILL, entry_of, results_of, says, share_text

from validation.adaptive.tuned import BEST
from validation.measures import mean_interval


def _place(cell: dict[str, Any]) -> str:
    """Which cell of the map."""
    speed = "full speed" if cell["speed"] == 1 else f"1/{1 / cell['speed']:.0f} of the speed"
    return f"{cell['bandwidth_hz'] / 1e6:g} MHz and {speed}"


def kinds_text() -> str:
    """What the page says of the map of kinds of round."""
    report = results_of("kinds")
    claims = {c["id"]: c["measured"] for c in report["claims"]}
    cells, never, within = report["cells"], claims["never-slower"], claims["within-best"]
    seeds = re.findall(r"\d+", report["where"].rpartition("seeds ")[2])
    assert len(never["per_seed"]) == len(seeds) * len(cells)
    assert max(never["per_seed"]) < 100
    ratios = within["per_seed"]
    inside = sum(value <= 1.1 for value in ratios)
    low, high = within["interval_95"]
    out = [cell for cell, ratio in zip(cells, ratios, strict=True) if ratio > 1.1]
    assert {cell["bandwidth_hz"] for cell in out if cell["speed"] == 1} == {5e6, 20e6}
    assert all(cell["best"].endswith("rate4-deadline0.08") for cell in out if cell["speed"] == 1)
    wide = [f"{np.mean(c['time_percent'][c['best']]):.0f} and {np.mean(c['time_percent'][PLANNED]):.0f} %"
            for c in out if c["speed"] == 1]  # fmt: skip
    taken = [cell["chosen"] for cell in cells]
    return (
        f"`kinds`, Fashion-MNIST, seeds {seeds[0]} and {seeds[-1]}, {len(cells)} cells of bandwidth by compute speed, "
        "means over all devices at rate 4, which was tuned for unpruned training, broadcasts of what moved. Planned "
        f"rounds, which may be frozen or sparse, take {never['min']:.0f} to {never['max']:.0f} % of unpruned "
        "training's time to its accuracy: in no cell and on no seed more than all of it. They take "
        f"{within['min']:.2f} to {within['max']:.2f} times as long as the best kind and deadline, picked after the "
        f"fact, {within['mean']:.2f} on average (95 % interval over cells {low:.2f} to {high:.2f}), and are within a "
        f"tenth of it in {inside} of {len(cells)} cells. At full speed and 5 and 20 MHz they are too long: sparse "
        f"rounds of 0.08, the shortest deadline swept, take {wide[0].replace(' and', ' where planned ones take')} and "
        f"{wide[1].replace(' and', ' where they take')}. Pruning harder shortens the next broadcast, too, and the "
        f"planner counts the broadcast that there is. Its rounds are mostly sparse in {taken.count('sparse')} cells "
        f"and mostly frozen in {taken.count('frozen')}; the kind that wins is the same in "
        f"{claims['right-kind']['mean']:.0f} of {len(cells)}."
    )


PLANNED = "joint-fill-chosen-rate4"


def test_kinds_of_round() -> None:
    says(kinds_text())
    before = {c["id"]: c["measured"] for c in results_of("earlier/kinds")["claims"]}
    never, within = before["never-slower"], before["within-best"]
    inside = sum(value <= 1.1 for value in within["per_seed"])
    says(
        f"With whole broadcasts, on seeds 660 to 662, planned rounds took {never['min']:.0f} to {never['max']:.0f} %, "
        f"were within a tenth of the best in {inside} of 6 cells, and the kind that won was planned in all"
    )
    assert before["right-kind"]["mean"] == 6


BASELINES = {
    "joint": "own ratios, a deadline for all rounds",
    "common": "one common ratio, band solved",
    "equal": "one common ratio, equal shares",
    "pruning_only": "own ratios, equal shares",
    "fixed": "always as much, band solved",
}


def baseline_rows() -> list[str]:
    """The table of baselines by kind of round, each within a point of the target."""
    report = results_of("baselines")
    rows = []
    for scheme, title in BASELINES.items():
        cells = [title]
        for kind in ("zeroed", "frozen", "sparse"):
            family = f"{scheme}-fill" + ("" if kind == "sparse" else f"-{kind}")
            cells.append(
                "planned, below"
                if (scheme, kind) in (("joint", "sparse"), ("common", "sparse"))
                else share_text(entry_of(report, family)["wide"]).partition(";")[0]
            )
        rows.append(f"| {' | '.join(cells)} |")
    for title, family in (
        ("as the planner runs them", FILL),
        ("one common ratio, planned alike", "common-fill-chosen"),
    ):
        rows.append(f"| {title} | | | {share_text(entry_of(report, family)['wide']).partition(';')[0]} |")
    return rows


def test_every_baseline_with_every_kind_of_round() -> None:
    says(*baseline_rows())
    wide = {name: of["wide"] for name, of in results_of("baselines")["entries"].items()}
    planned, rivals = entry_of(results_of("baselines"), FILL)["wide"], [entry.name for entry in BEST]
    mean = {name: np.mean([np.inf if value is None else value for value in wide[name]]) for name in rivals}
    first, second, third = sorted(rivals, key=lambda name: mean[name])[:3]
    assert (first, second) == ("fixed-fill-rate4-ratio0.98", "pruning_only-fill-rate4-deadline0.2")
    assert mean[second] < np.mean(planned) < mean[third]
    behind = [tuple(a - b for a, b in zip(planned, wide[name], strict=True)) for name in (first, second)]
    (low, high), (least, most) = (mean_interval(values) or (0.0, 0.0) for values in behind)
    assert least < 0.0 < most
    says(
        f"always pruning 0.98 takes {mean[first]:.0f} % and is ahead of the planner's {np.mean(planned):.0f} %, by "
        f"{np.mean(behind[0]):.1f} points (95 % interval {low:.1f} to {high:.1f}). Own ratios with equal shares at "
        f"deadline 0.2 take {mean[second]:.0f} %"
    )
    assert all(mean[name] > 1.7 * np.mean(planned) for name in rivals if "zeroed" in name)

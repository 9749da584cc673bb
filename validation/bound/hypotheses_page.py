"""The page's part on hypotheses: guarantees from measured errors, and each hypothesis's left side. Runs nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..figures import drawing, legend_above, svg
from ..page import Table
from ..summary import Claim, Spread, verdict

Runs = list[dict[str, Any]]
ASKED, AIM = 30.0, 10.0
_ROUNDING = 1e-24
"""Of squares in double precision, with room."""
STYLE = {"zeroed": ("#D55E00", "s"), "frozen": ("#009E73", "^"), "sparse": ("#0072B2", "o")}
LIMITS = [
    "Guarantees from measured errors: one draw of the noise per run, so left sides that are expectations are means "
    "over rounds and devices. The noise of sparse uploads is one draw, that of masked rounds its exact variance.",
    "There the initial gap is left out where said: it adds what it is over rounds times step, and falls with rounds.",
]


def medians(runs: Runs) -> dict[str, float]:
    """By kind of round: median of the guarantee without the initial gap over the measured squared gradient."""
    found = {update: [run["without_gap_over_gradient"] for run in runs if run["update"] == update] for update in STYLE}
    return {update: float(np.median(ratios)) for update, ratios in found.items() if ratios}


def claims(runs: Runs) -> list[Claim]:
    """What the page says of them."""
    below = Spread((float(sum(run["violations"] for run in runs)),))
    pairs = [pair for run in runs for pair in compared(run)]
    above = Spread((float(sum(pair["violations"] for pair in pairs)),))
    rounds = sum(len(run["bound"]) for run in runs)
    comparisons = sum(len(run["bound"]) * len(compared(run)) for run in runs)
    found = [
        Claim(
            "Nor are the guarantees from measured errors below what training does",
            below,
            0,
            f"violations in {rounds:,} zeroed, frozen and sparse rounds of {len(runs)} runs",
            verdict(below, lambda v: v == 0),
            "After every round: both sides of the theorem for this kind of round, constants as measured so far.",
            id="kinds-never-below",
        ),
        Claim(
            "What these theorems measure is never more than what the first one assumes, or devices report",
            above,
            0,
            f"violations in {comparisons:,} comparisons, after every round",
            verdict(above, lambda v: v == 0),
            "Gradient error, coverage charge and server noise; for sparse uploads unsent changes, tail sums and noise.",
            id="hypotheses-never-above",
        ),
    ]
    for update, median in medians(runs).items():
        ratios = [run["without_gap_over_gradient"] for run in runs if run["update"] == update]
        found.append(
            Claim(
                f"In {update} rounds the guarantee from measured errors is of the right size",
                Spread((median,)),
                1,
                f"median over {len(ratios)} runs of guarantee without the initial gap over measured squared gradient "
                f"({min(ratios):.2g} to {max(ratios):.2g})",
                verdict(Spread((median,)), lambda v: v <= ASKED),
                f"Holds up to {ASKED:g}; the aim was {AIM:g}.",
                id=f"size-{update}",
            )
        )
    return found


def compared(run: dict[str, Any]) -> list[dict[str, Any]]:
    """Left sides and their bounds, without those where there is nothing: full gradients have no noise but rounding."""
    least = _ROUNDING * run["hypotheses"]["gradient_sq"]
    return [pair for pair in run["beside"].values() if max(pair["measured"], pair["bound"]) > least]


def tables(runs: Runs) -> list[Table]:
    """Guarantees, and left sides beside their bounds; medians over seeds."""
    return [
        _guarantees(runs),
        *(_hypotheses(runs, update) for update in STYLE if any(r["update"] == update for r in runs)),
    ]


def summary(run: dict[str, Any]) -> dict[str, Any]:
    """A run's numbers for the report, without those of each round."""
    return {name: value for name, value in run.items() if name not in ("bound", "measured")}


def _groups(runs: Runs) -> list[Runs]:
    """Runs that differ in their seed only."""
    found: dict[tuple[Any, ...], Runs] = {}
    for run in runs:
        found.setdefault(tuple(run[name] for name in ("update", "kind", "ratio", "local_steps", "batch")), []).append(
            run
        )
    return list(found.values())


def _label(run: dict[str, Any]) -> list[str]:
    return [run["kind"], f"{run['ratio']:g}", str(run["local_steps"]), str(run["batch"] or "all")]


def _median(group: Runs, *path: str) -> float:
    def one(run: Any) -> float:
        for name in path:
            run = run[name]
        return float(np.mean(run))

    return float(np.median([one(run) for run in group]))


def _guarantees(runs: Runs) -> Table:
    rows = [
        [
            group[0]["update"], *_label(group[0]), f"{_median(group, 'hypotheses', 'gradient_sq'):.2e}",
            f"{_median(group, 'without_gap_over_gradient'):.2f}", f"{_median(group, 'pruning_over_gradient'):.2f}",
            f"{_median(group, 'with_gap_over_gradient'):.0f}", f"{_median(group, 'coverage'):.2f}",
            f"{_median(group, 'hypotheses', 'coverage_mean'):.2f}",
        ]
        for group in _groups(runs)
    ]  # fmt: skip
    head = [
        "Rounds", "Masks or mean", "rho", "tau", "Batch", "|G|^2", "Guarantee/|G|^2", "of it pruning", "with the gap",
        "Least coverage", "Mean coverage",
    ]  # fmt: skip
    return Table("Guarantees from measured errors at the end, medians over seeds", head, rows)


_TITLES = {
    "gradient_error": "A3': gradient error / L^2 |u - mu|^2 / Gamma",
    "coverage_charge": "A5': coverage charge / (1/Gamma - 1) delta^2",
    "server_noise": "A2': server noise / A_2 sigma^2 / Gamma^2",
    "unsent": "what was not sent / A3'': its bound",
    "upload_error": "A3'' / tail sums reported",
    "upload_noise": "A2'': noise in P / A_2 sigma^2 / Gamma",
}


def _hypotheses(runs: Runs, update: str) -> Table:
    """Left sides, means over rounds and devices, each beside what bounds it."""
    groups = [group for group in _groups(runs) if group[0]["update"] == update]
    names = list(groups[0][0]["beside"])
    rows = []
    for group in groups:
        cells = [
            f"{_median(group, 'beside', name, 'measured'):.1e} / {_median(group, 'beside', name, 'bound'):.1e}"
            for name in names
        ]
        rows.append([*_label(group[0]), *cells, f"{_median(group, 'hypotheses', 'heterogeneity'):.1e}"])
    head = ["Masks or mean", "rho", "tau", "Batch", *(_TITLES[name] for name in names), "A4: delta^2"]
    return Table(f"Left sides of the hypotheses in {update} rounds beside what bounds them", head, rows)


def figure(runs: Runs) -> str:
    """Guarantee over measured squared gradient, run by run."""
    with drawing("bound-kinds", (4.8, 3.4)) as (drawn, (axes,)):
        for update, (colour, marker) in STYLE.items():
            points = [(run["ratio"], run["without_gap_over_gradient"]) for run in runs if run["update"] == update]
            if points:
                axes.plot(*zip(*points, strict=True), marker, color=colour, ms=5, label=update, alpha=0.8)
        axes.axhline(ASKED, color="#555555", lw=0.9)
        axes.set(xlabel="pruning ratio", ylabel="guarantee without gap / |G|²", yscale="log")
        legend_above(drawn, axes, 2)
        return svg(drawn, "bound-kinds", "Guarantee over measured squared gradient against the pruning ratio")

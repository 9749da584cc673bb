"""From the finished cases to the page: counts, ratios, figures. Runs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cases import Finished, load_cases
from ..figures import drawing, legend_above, svg
from ..page import Page, Table, write_page
from ..summary import Claim, Spread, verdict
from . import hypotheses_page
from .terms import ROWS

Runs = list[dict[str, Any]]
_MASK_STYLE = {"magnitude": ("#0072B2", "-", "o"), "movement": ("#D55E00", "--", "s"), "random": ("#009E73", ":", "^")}


def write(out: Path) -> Path:
    """Draw the finished study in `out`; returns the path of its page."""
    finished = load_cases(out)
    return write_page(out, _page(finished), finished)


def _page(finished: Finished) -> Page:
    quadratics, digits = (
        [run for name, runs in finished.results.items() if name.startswith(kind) for run in runs]
        for kind in ("quadratics", "digits")
    )
    every = quadratics + digits
    each_kind: Runs = [run for name, run in finished.results.items() if name.startswith("rounds")]
    # A term that nothing was charged to and nothing happened to is no comparison.
    compared = sum(pair["bound"] > 0 for run in every for pair in run["terms"].values())
    below = sum(run["violations"] for run in every)
    terms_below = sum(len(run["term_violations"]) for run in every)
    rounds = sum(len(run["bound"]) for run in every)
    ratios = {name: np.array([_ratio(run) for run in runs]) for name, runs in (("q", quadratics), ("d", digits))}
    agreeing = np.array([_ratio(run) for run in digits if run["constants"]["coverage"] == 1.0])
    error = {m: [_error(r) for r in digits if r["masks"] == m and r["ratio"] > 0] for m in ("magnitude", "movement")}
    claims = [
        Claim(
            "The bound is never below what training does",
            Spread((float(below),)),
            0,
            f"violations in {rounds:,} rounds of {len(every):,} runs",
            verdict(Spread((float(below),)), lambda v: v == 0),
            "After every round: the weighted gradient norms so far against the right-hand side for as many rounds.",
            id="never-below",
        ),
        Claim(
            "Nor is any of its terms below what it bounds",
            Spread((float(terms_below),)),
            0,
            f"violations in {compared:,} comparisons of a term with its measured counterpart",
            verdict(Spread((float(terms_below),)), lambda v: v == 0),
            "Initial gap, pruning, coverage bias, drift with gradient noise, personal noise; free parameters at 1.",
            id="terms-never-below",
        ),
        Claim(
            "It is of the right size where its constants are exact",
            Spread((float(np.median(ratios["q"])),)),
            1,
            f"median of bound over measured, {len(quadratics)} quadratics "
            f"({_span(ratios['q'])} from the 10th to the 90th percentile)",
            verdict(Spread((float(np.median(ratios["q"])),)), lambda v: v <= 10),
            "Holds if the median is at most 10. Where masks differ between devices, Gamma is a device's own weight.",
            id="size-quadratics",
        ),
        Claim(
            "It is of the right size on a real network",
            Spread((float(np.median(ratios["d"])),)),
            0,
            f"median of bound over measured, {len(digits)} training runs ({_span(ratios['d'])}); "
            f"with masks that agree {_span(agreeing)}",
            verdict(Spread((float(np.median(ratios["d"])),)), lambda v: v <= 10),
            "Holds if the median is at most 10.",
            id="size-digits",
        ),
        Claim(
            "Pruning by magnitude costs at most the share pruned: |u - m u|^2 <= rho |u|^2",
            Spread((float(max(error["magnitude"])),)),
            2,
            "largest |u - m u|^2 / (rho |u|^2) on digits",
            verdict(Spread((float(max(error["magnitude"])),)), lambda v: v <= 1 + 1e-6),
            f"By movement the same ratio reaches {max(error['movement']):.2f}: there D is measured, not |u|.",
            id="magnitude-error",
        ),
        *hypotheses_page.claims(each_kind),
    ]
    answer = (
        f"In {len(every):,} runs the bound was violated {below} times, and none of its terms was below what it bounds"
        if terms_below == 0
        else f"In {len(every):,} runs the bound was violated {below} times, single terms {terms_below} times"
    )
    sharper = ", ".join(
        f"{median:.2g} times in {update} rounds" for update, median in hypotheses_page.medians(each_kind).items()
    )
    return Page(
        title="The convergence bound against measurement",
        where=f"{len(quadratics)} quadratics with exact constants; {len(digits)} training runs on scikit-learn digits "
        f"with measured ones, and {len(each_kind)} in which gradient errors are measured, too",
        answer=f"{answer}. It is {np.median(ratios['q']):.1f} times what is measured on quadratics (median) and "
        f"{np.median(ratios['d']):.0f} times on a real network, where the pruning term takes the worst case that "
        "curvature and pruning error allow and training meets nothing like it. From measured errors, and without the "
        f"initial gap, the guarantee is {sharper} the squared gradient (medians).",
        claims=claims,
        tables=[
            _table("Digits: terms at the end of training", digits),
            *hypotheses_page.tables(each_kind),
        ],
        figures=[
            (_over_rounds(quadratics, digits), "Bound over measurement after each round, medians over all runs of a "
             "kind. With masks that agree between devices (magnitude) Gamma is 1."),
            (_sweep(quadratics, "local_steps"), "Quadratics without noise: bound over measurement against the pruning "
             "ratio, medians over seeds and masks, one line per number of local steps."),
            (_sweep(digits, "masks"), "Digits: the same by mask rule, medians over local steps and batch size."),
            (_terms(digits), "Digits, pruning ratio 0.5, 5 local steps, batches of 32: every term beside what it "
             "bounds. Masks by movement."),
            (_pruning_error(digits), "Digits: the real pruning error of the real masks, |u - m u|^2 over |u|^2. The "
             "line is the share pruned: A3 with D = |u|."),
            (hypotheses_page.figure(each_kind), "Guarantee from measured errors, without the initial gap, "
             "over the measured squared gradient, run by run and kind by kind. The line is what was asked for."),
        ],
        limits=[
            "L is the largest curvature met: power iteration on Hessian-vector products every tenth round, and every "
            "quotient of gradient differences and of descent that the proof uses on the way. It is a lower estimate of "
            "a global constant, and all that these runs need.",
            "The step sizes are those that the theorem allows, chosen from the curvature met; they are far smaller "
            "than what is used to train well (0.2 in the other studies). In these few rounds the personal part learns, "
            "the global part little.",
            "Mini-batches are drawn with replacement, as A2 asks; variances are exact, from all samples. Smooth "
            "networks (tanh), no dropout, no batch norm, all devices in every round: what the theorems ask.",
            "F* of cross-entropy is taken as 0. Quadratics have F* exactly, and noise whose size is its variance.",
            "Drift and gradient noise share a row, because the bound pays for part of both with gradient weight; that "
            "part is included.",
            *hypotheses_page.LIMITS,
        ],
        command=f"python -m validation {finished.config['name']}",
        numbers={
            "runs": [_summary(run) for run in every],
            "kinds": [hypotheses_page.summary(run) for run in each_kind],
        },
    )  # fmt: skip


def _ratio(run: dict[str, Any]) -> float:
    return float(run["bound"][-1] / run["measured"][-1])


def _error(run: dict[str, Any]) -> float:
    """Pruning error over what the pruning ratio would make it."""
    return float(run["pruning_error_over_norm"] / run["ratio"])


def _span(values: NDArray[np.float64]) -> str:
    low, high = np.quantile(values, [0.1, 0.9])
    return f"{low:.3g} to {high:.3g}"


def _summary(run: dict[str, Any]) -> dict[str, Any]:
    kept = ["masks", "ratio", "local_steps", "batch", "noise_std", "seed", "violations", "term_violations"]
    if "batch" in run:  # training; the terms and constants of hundreds of quadratics stay in their own files
        kept += ["terms", "constants", "pruning_error_over_norm", "uncovered"]
    return {**{name: run[name] for name in kept if name in run}, "bound_over_measured": _ratio(run)}


def _table(caption: str, runs: Runs) -> Table:
    head = ["Masks", "rho", "tau", "Batch", "Gamma", "L_u", "Bound / measured"]
    rows = []
    for run in runs:
        constants = run["constants"]
        numbers = [f"{run['ratio']:g}", str(run["local_steps"]), str(run["batch"] or "all")]
        numbers += [f"{constants['coverage']:.2f}", f"{constants['smoothness_u']:.1f}", f"{_ratio(run):.3g}"]
        pairs = [f"{run['terms'][name]['bound']:.1e} / {run['terms'][name]['measured']:.1e}" for name in ROWS]
        rows.append([run["masks"], *numbers, *pairs])
    return Table(caption, [*head, *(f"{title}: bound / measured" for title in ROWS.values())], rows)


def _over_rounds(quadratics: Runs, digits: Runs) -> str:
    groups = {
        "quadratics, masks agree": [r for r in quadratics if r["constants"]["coverage"] == 1.0],
        "quadratics, masks differ": [r for r in quadratics if r["constants"]["coverage"] < 1.0],
        "digits, masks agree": [r for r in digits if r["constants"]["coverage"] == 1.0],
        "digits, masks differ": [r for r in digits if r["constants"]["coverage"] < 1.0],
    }
    styles = [("#56B4E9", "-"), ("#0072B2", "--"), ("#E69F00", "-"), ("#D55E00", "--")]
    with drawing("bound-rounds", (4.8, 3.6)) as (figure, (axes,)):
        for (label, runs), (colour, line) in zip(groups.items(), styles, strict=True):
            if runs:
                each = np.array([np.divide(r["bound"], r["measured"]) for r in runs])
                axes.plot(np.arange(1, each.shape[1] + 1), np.median(each, axis=0), line, color=colour, label=label)
        axes.axhline(1, color="#555555", lw=0.9)
        axes.set(xlabel="round", ylabel="bound / measured", yscale="log")
        legend_above(figure, axes, 2)
        return svg(figure, "bound-rounds", "Bound over measurement against rounds")


def _sweep(runs: Runs, by: str) -> str:
    kinds = sorted({run[by] for run in runs})
    plain = [("#0072B2", "-", "o"), ("#D55E00", "--", "s"), ("#009E73", ":", "^"), ("#CC79A7", "-.", "v")]
    name = f"bound-sweep-{by.replace('_', '-')}"
    with drawing(name) as (figure, (axes,)):
        for kind, style in zip(kinds, plain, strict=False):
            colour, line, marker = _MASK_STYLE.get(str(kind), style)
            chosen = [
                r for r in runs if (r[by] == kind or (by == "masks" and not r["ratio"])) and not r.get("noise_std")
            ]
            ratios = sorted({r["ratio"] for r in chosen})
            medians = [np.median([_ratio(r) for r in chosen if r["ratio"] == rho]) for rho in ratios]
            label = f"{kind} local step{'' if kind == 1 else 's'}" if by == "local_steps" else str(kind)
            axes.plot(ratios, medians, color=colour, ls=line, marker=marker, ms=4, label=label)
        axes.axhline(1, color="#555555", lw=0.9)
        axes.set(xlabel="pruning ratio", ylabel="bound / measured", yscale="log")
        legend_above(figure, axes, 2)
        return svg(figure, name, "Bound over measurement against the pruning ratio")


def _terms(digits: Runs) -> str:
    chosen = [r for r in digits if r["masks"] == "movement" and r["batch"] and r["ratio"] == 0.5]
    run = max(chosen or digits, key=lambda r: r["local_steps"])
    with drawing("bound-terms") as (figure, (axes,)):
        at = np.arange(len(ROWS))
        for offset, side, colour, hatch in ((0.2, "bound", "#0072B2", ""), (-0.2, "measured", "#E69F00", "////")):
            values = np.array([run["terms"][name][side] for name in ROWS])
            axes.barh(at + offset, values, 0.38, label=side, color=colour, hatch=hatch, edgecolor="white")
        axes.set(xscale="log", xlabel="per round, unit of the loss (nats)")
        smallest = min(pair["measured"] for pair in run["terms"].values() if pair["measured"] > 0)
        axes.set_xlim(left=max(smallest, 1e-12) / 3)
        axes.set_yticks(at, list(ROWS.values()))
        axes.invert_yaxis()
        legend_above(figure, axes, 2)
        return svg(figure, "bound-terms", "Every term of the bound beside its measured counterpart")


def _pruning_error(digits: Runs) -> str:
    with drawing("bound-error") as (figure, (axes,)):
        for masks, (colour, _, marker) in _MASK_STYLE.items():
            points = [(r["ratio"], r["pruning_error_over_norm"]) for r in digits if r["masks"] == masks]
            if points:
                axes.plot(*zip(*sorted(points), strict=True), marker, color=colour, ms=5, label=masks)
        axes.plot([0, 1], [0, 1], color="#555555", lw=0.9, label="share pruned")
        axes.set(xlabel="pruning ratio", ylabel="|u - m u|² / |u|²")
        legend_above(figure, axes, 4)
        return svg(figure, "bound-error", "Pruning error against pruning ratio, by mask rule")

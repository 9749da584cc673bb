"""From the finished cases to the page: what a sample predicts, what the price predicts, how long it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cases import Finished, load_cases
from ..figures import drawing, legend_above, svg
from ..page import Page, Table, write_page
from ..summary import Claim, Spread, verdict

FloatArray = NDArray[np.float64]


def write(out: Path) -> Path:
    """Draw the finished study in `out`; returns the path of its page."""
    finished = load_cases(out)
    return write_page(out, _page(finished), finished)


def by_size(finished: Finished) -> dict[int, list[dict[str, Any]]]:
    """Runs of one cell by its number of phones."""
    found: dict[int, list[dict[str, Any]]] = {}
    for run in finished.results.values():
        if "seed" in run:
            found.setdefault(run["devices"], []).append(run)
    return found


def exponent(x: list[float], y: list[float]) -> float:
    """The power of x that y grows with: slope of the least-squares line through the logarithms."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def _page(finished: Finished) -> Page:
    sizes = by_size(finished)
    batches = [run for run in finished.results.values() if "cells" in run]
    counts = list(sizes)
    objective = {count: np.array([run["objective"] for run in runs]) for count, runs in sizes.items()}
    limit = float(objective[counts[-1]].mean())
    deviation = [float(np.sqrt(((objective[count] - limit) ** 2).mean())) for count in counts[:-1]]
    law = exponent([float(c) for c in counts[:-1]], deviation)
    wall = [float(np.median([run["wall_s"] for run in sizes[count]])) for count in counts]
    price = [run["gained"] / run["gain_predicted"] for runs in sizes.values() for run in runs]
    residual = max(run["worst_residual"] for run in finished.results.values())
    apart = max(run["largest_difference"] for run in batches)
    sample = counts[min(2, len(counts) - 2)]
    sampled = np.abs(objective[sample] - limit)
    claims = [
        Claim(
            f"A sample of {sample:,} phones predicts the cell of {counts[-1]:,} (mean pruning ratio within 0.01)",
            Spread(tuple(sampled.tolist())),
            4,
            f"distance of the sample's mean pruning ratio from {limit:.4f}",
            verdict(Spread(tuple(sampled.tolist())), lambda v: v <= 0.01),
            "Bandwidth is in proportion to phones. Samples are other phones, drawn with the same law.",
            id="sample",
        ),
        Claim(
            "What a cell deviates by falls as one over the root of its phones",
            Spread((law,)),
            2,
            "fitted exponent; the law of large numbers says −0.5",
            verdict(Spread((law,)), lambda v: abs(v + 0.5) <= 0.15),
            "Holds within 0.15: the deviations themselves are estimated from a few seeds.",
            id="exponent",
        ),
        Claim(
            "The bandwidth price predicts what 1 % more bandwidth gains, within 1 %",
            Spread(tuple(price), "cells"),
            3,
            "solved gain over predicted gain, over all sizes and seeds",
            verdict(Spread(tuple(price), "cells"), lambda v: 0.99 <= v <= 1.0 + 1e-9),
            "The objective is convex in the bandwidth, so the price promises slightly too much, never too little.",
            id="price",
        ),
        Claim(
            "Every allocation is certified optimal (KKT residuals and duality gap at most 1e−9, normalised)",
            Spread((residual,)),
            None,
            "largest over all cells",
            verdict(Spread((residual,)), lambda v: v <= 1e-9),
            "Judged by a checker that does not use the solver.",
            id="certified",
        ),
        Claim(
            "Cells solved together get the answers that they get alone",
            Spread((max(apart, 1e-17),)),
            None,
            "largest difference of the objective",
            verdict(Spread((apart,)), lambda v: v <= 1e-12),
            "The first ten of each batch, solved again one by one.",
            id="together",
        ),
    ]
    rows = [
        [f"{count:,} phones", f"{objective[count].mean():.4f}",
         f"{objective[count].min():.4f} to {objective[count].max():.4f}",
         f"{100 * np.mean([r['admitted'] for r in sizes[count]]):.2f}", f"{1e3 * seconds:.3g}"]
        for count, seconds in zip(counts, wall, strict=True)
    ]  # fmt: skip
    rows += [
        [f"{run['cells']:,} cells of {run['devices']}", f"{run['objective']:.4f}", "", "", f"{1e3 * run['wall_s']:.3g}"]
        for run in batches
    ]
    most = batches[-1]
    return Page(
        title="The allocator at scale",
        where=f"Up to {counts[-1]:,} phones in one cell and {most['cells']:,} cells at once; no training",
        answer=f"One cell of {counts[-1]:,} phones is solved and certified in {wall[-1]:.2g} s, {most['cells']:,} "
        f"cells of {most['devices']} phones in {most['wall_s']:.2g} s, on one core. {sample:,} phones suffice to tell "
        f"the large cell's mean pruning ratio to {sampled.max():.1g}.",
        claims=claims,
        tables=[Table("Sizes", ["", "Mean pruning ratio", "Least to greatest seed", "Admitted, %", "Time, ms"], rows)],
        figures=[
            (_convergence(objective, limit), "Mean pruning ratio of every cell; the band is one standard deviation as "
             "the smallest cells predict it, shrinking with the root of the number of phones."),
            (_times(counts, wall, batches), "Time of one solve with its certificate, against all phones in the call."),
        ],
        limits=[
            "Bandwidth grows with the phones, which share one deadline: a cell of 10^5 phones at 0.5 MHz each is no "
            "radio cell but a test of the method. With a fixed band the deadline would grow instead.",
            "Some phones have no usable link and are left out beforehand; their share is in the table.",
            "Times are those of one shared machine, once per case, by the engine that the code fingerprint names.",
        ],
        command=f"python -m validation {finished.config['name']}",
        numbers={"runs": list(finished.results.values()), "time_exponent": exponent([float(c) for c in counts], wall)},
    )  # fmt: skip


def _convergence(objective: dict[int, FloatArray], limit: float) -> str:
    with drawing("scale-objective") as (figure, (axes,)):
        counts = np.array(list(objective))
        first = list(objective)[:2]
        # Standard deviation of one phone's worth, from the smallest cells.
        unit = np.sqrt(np.mean([count * ((objective[count] - limit) ** 2).mean() for count in first]))
        grid = np.geomspace(counts[0], counts[-1], 50)
        axes.fill_between(grid, limit - unit / np.sqrt(grid), limit + unit / np.sqrt(grid), color="#56B4E9", alpha=0.3,
                          linewidth=0, label="predicted")  # fmt: skip
        for count, values in objective.items():
            axes.plot(np.full(len(values), count), values, "o", color="#0072B2", ms=4,
                      label="solved" if count == counts[0] else None)  # fmt: skip
        axes.axhline(limit, color="#555555", lw=0.9)
        axes.set(xscale="log", xlabel="phones in the cell", ylabel="mean pruning ratio")
        legend_above(figure, axes, 2)
        return svg(figure, "scale-objective", "Mean pruning ratio against the number of phones")


def _times(counts: list[int], wall: list[float], batches: list[dict[str, Any]]) -> str:
    with drawing("scale-time") as (figure, (axes,)):
        axes.plot(counts, wall, "o-", color="#0072B2", label="one cell")
        phones = [run["cells"] * run["devices"] for run in batches]
        axes.plot(phones, [run["wall_s"] for run in batches], "s--", color="#D55E00", label="many cells")
        axes.set(xscale="log", yscale="log", xlabel="phones in all", ylabel="time of one call (s)")
        legend_above(figure, axes, 2)
        return svg(figure, "scale-time", "Time of a call against the number of phones")

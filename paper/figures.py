"""Figures as vector PDF: colours of Okabe and Ito, nothing told by colour alone, axes with units."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

import kktalloc as ka
from kktalloc._durable import write_durably
from kktalloc._problem.scenario import load_scenario
from kktalloc.bound import Constants, Schedule
from kktalloc.plan import plan
from validation.figures import legend_above
from validation.measures import smooth
from validation.ordering.page import TITLES as ALLOCATIONS
from validation.summary import SAVING
from validation.tradeoff.page import GROUPS, OBJECTIVES, STYLES, by_seed, over_seeds, points

from .numbers import FASTER
from .results import ROOT, Results, complete, scheme, t_interval, time_percent

COLUMN, PAGE = 3.45, 7.1
"""Widths of a column and of a page, inches."""
_CYCLE = [("#0072B2", "-", "o"), ("#D55E00", "--", "s"), ("#009E73", ":", "^"), ("#CC79A7", "-.", "v")]
_GREY = "#555555"
SCENARIO = ROOT / "examples" / "ten_devices.toml"
PLAN_CONSTANTS = Constants(
    smoothness_u=1.0, smoothness_v=1.0, gradient_noise_u_var=0.1, gradient_noise_v_var=0.1,
    pruning_radius=1.0, heterogeneity=0.1, coverage=0.9, initial_gap=5.0,
)  # fmt: skip
PLAN_SCHEDULE = Schedule(rounds=1, local_steps=5, personal_steps=5, learning_rate_u=0.01, learning_rate_v=0.1)
PLAN_TIMES_S = (30.0, 100.0, 300.0)


@contextmanager
def drawing(width: float, height: float, columns: int = 1) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure of panels side by side in the paper's style; size in inches."""
    style: dict[Any, Any] = {
        "font.family": "STIXGeneral",
        "mathtext.fontset": "stix",
        "font.size": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#dddddd",
        "grid.linewidth": 0.5,
        "axes.axisbelow": True,
        "legend.frameon": False,
        "legend.fontsize": 7.5,
        "lines.linewidth": 1.2,
        "lines.markersize": 3.5,
        "hatch.linewidth": 0.5,
        "pdf.fonttype": 42,
    }
    with rc_context(style):
        figure, axes = plt.subplots(1, columns, figsize=(width, height), layout="constrained", squeeze=False)
        try:
            yield figure, list(axes[0])
        finally:
            plt.close(figure)


def write_figures(folder: Path, results: Results) -> None:
    """Draw all of them into `folder`."""
    drawers: dict[str, Callable[[Path, Results], None]] = {
        "round": _round,
        "plan": _plan,
        "bound": _bound,
        "tradeoff": _tradeoff,
        "time": _time,
        "ablation": _ablation,
        "map": _map,
        "scale": _scale,
        "harder": _harder,
    }
    for name, draw in drawers.items():
        draw(folder / f"{name}.pdf", results)


def _save(figure: Figure, path: Path) -> None:
    drawn = BytesIO()
    figure.savefig(drawn, format="pdf", metadata={"CreationDate": None})
    write_durably(path, drawn.getvalue())


def _apart(figure: Figure) -> None:
    """More room between panels, so that a label does not touch its neighbour."""
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(wspace=0.06)


def _plain_ticks(axes: Axes) -> None:
    """Plain numbers on a logarithmic axis that spans little more than a decade."""
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _round(path: Path, results: Results) -> None:
    """One optimal round of the example scenario: who does what when."""
    problem = load_scenario(SCENARIO)
    solution = ka.solve(problem)
    fixed_s = np.broadcast_to(problem.devices.fixed_latency_s, solution.latency_s.shape)
    upload_s = solution.upload_s
    compute_s = solution.latency_s - fixed_s - upload_s
    order = np.argsort(solution.pruning_ratio)
    parts = (
        ("fixed part", fixed_s, "#999999", ""),
        ("pruned training", compute_s, "#56B4E9", "////"),
        ("upload", upload_s, "#D55E00", ""),
    )
    with drawing(COLUMN, 2.5) as (figure, (axes,)):
        begin = np.zeros(len(order))
        for label, duration, colour, hatch in parts:
            axes.barh(range(len(order)), duration[order], 0.75, left=begin, label=label, color=colour, hatch=hatch,
                      edgecolor="white", linewidth=0.4)  # fmt: skip
            begin = begin + duration[order]
        for at, k in enumerate(order):
            text = rf"$\rho$ = {solution.pruning_ratio[k]:.2f}, {solution.bandwidth_hz[k] / 1e6:.2f} MHz"
            axes.text(begin[at] * 1.015, at, text, va="center", fontsize=7)
        axes.set_yticks(range(len(order)), [str(k + 1) for k in order])
        axes.set(xlabel="time in the round (s)", ylabel="phone", xlim=(0, 1.42 * begin.max()))
        axes.set_xticks(np.arange(0, begin.max() + 0.05, 0.1))
        axes.grid(visible=False, axis="y")
        legend_above(figure, axes, 3)
        _save(figure, path)


def _plan(path: Path, results: Results) -> None:
    """Pruning and guarantee against the round deadline, for several total times."""
    problem = load_scenario(SCENARIO)
    with drawing(COLUMN, 2.0, columns=2) as (figure, (left, right)):
        for total_s, (colour, line, marker) in zip(PLAN_TIMES_S, _CYCLE, strict=False):
            best = plan(problem, PLAN_CONSTANTS, PLAN_SCHEDULE, total_s)
            curve = best.curve
            inside = curve.deadline_s <= 1.2
            right.plot(curve.deadline_s[inside], curve.gradient_bound[inside], ls=line, color=colour,
                       label=f"{total_s:g} s in all")  # fmt: skip
            right.plot(best.deadline_s, best.gradient_bound, marker, color=colour, ms=5)
            left.plot(best.deadline_s, best.pruning_error, marker, color=colour, ms=5)
        left.plot(curve.deadline_s[inside], curve.pruning_error[inside], color="#000000", lw=1.0)
        left.set(xlabel="round deadline $T$ (s)", ylabel="mean pruning ratio", ylim=(0, 1))
        right.set(xlabel="round deadline $T$ (s)", ylabel=r"guarantee on $\|\nabla_u F\|^2$", yscale="log")
        _plain_ticks(right)
        legend_above(figure, right, 3)
        _save(figure, path)


def _bound(path: Path, results: Results) -> None:
    """Bound over measured: quadratics by local steps, training by masks, and the terms of training."""
    quadratics = [run for run in results.bound["runs"] if "terms" not in run and not run["noise_std"]]
    training = [run for run in results.bound["runs"] if "terms" in run]
    with drawing(PAGE, 2.25, columns=3) as (figure, (left, middle, right)):
        for steps, (colour, line, marker) in zip(sorted({r["local_steps"] for r in quadratics}), _CYCLE, strict=False):
            chosen = [r for r in quadratics if r["local_steps"] == steps]
            left.plot(*_medians(chosen), ls=line, color=colour, marker=marker, label=rf"$\tau$ = {steps}")
        left.set_title("(a) quadratics, exact constants", fontsize=8, loc="left")
        for masks, (colour, line, marker) in zip(("magnitude", "movement", "random"), _CYCLE, strict=False):
            # Without pruning there is nothing to choose: the unpruned runs belong to every line.
            chosen = [r for r in training if r["masks"] == masks or r["ratio"] == 0]
            middle.plot(*_medians(chosen), ls=line, color=colour, marker=marker, label=masks)
        middle.set_title("(b) training, measured constants", fontsize=8, loc="left")
        for axes in (left, middle):
            axes.axhline(1, color=_GREY, lw=0.8)
            axes.set(xlabel=r"pruning ratio $\rho$", ylabel="bound / measured (median)", yscale="log")
            axes.legend()
        names = {"initial_gap": "initial gap", "pruning": "pruning", "coverage_bias": "coverage bias",
                 "drift_and_noise": "drift, noise", "personal_variance": "personal noise"}  # fmt: skip
        chosen = [r for r in training if r["masks"] == "movement" and r["batch"] and r["ratio"] == 0.5]
        longest = max(r["local_steps"] for r in chosen)
        chosen = [r for r in chosen if r["local_steps"] == longest]
        at = np.arange(len(names))
        for offset, side, colour, hatch in ((-0.2, "bound", "#0072B2", ""), (0.2, "measured", "#E69F00", "////")):
            values = [np.mean([r["terms"][name][side] for r in chosen]) for name in names]
            right.barh(at + offset, values, 0.38, label=side, color=colour, hatch=hatch, edgecolor="white")
        right.set(xscale="log", xlabel="per round, unit of the loss (nats)")
        right.set_yticks(at, list(names.values()))
        right.invert_yaxis()
        right.grid(visible=False, axis="y")
        right.set_title(rf"(c) terms, movement, $\rho$ = 0.5, $\tau$ = {longest}", fontsize=8, loc="left")
        right.legend(loc="lower right")
        _apart(figure)
        _save(figure, path)


def _medians(runs: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    ratios = sorted({run["ratio"] for run in runs})
    return ratios, [float(np.median([r["bound_over_measured"] for r in runs if r["ratio"] == x])) for x in ratios]


def _tradeoff(path: Path, results: Results) -> None:
    """Accuracy of one cell across deadlines against what the objectives say, one point per deadline and allocation."""
    means = over_seeds(by_seed(results.tradeoff["runs"]))
    with drawing(PAGE, 2.3, columns=3) as (figure, panels):
        for axes, (name, of) in zip(
            panels, (("rounds", "linear"), ("rounds", "measured"), ("time", "measured")), strict=True
        ):
            group = GROUPS[name]
            for allocation, (colour, marker) in STYLES.items():
                x, y = points(means, group, of, allocation)
                axes.plot(
                    x,
                    y,
                    marker,
                    color=colour,
                    label=ALLOCATIONS[allocation].replace("rho^8", r"$\rho^8$"),
                )
            axes.set(
                xlabel="progress per second (predicted)" if group.per_second else f"{OBJECTIVES[of]}, loss (predicted)",
                ylabel=f"accuracy over equal {'time' if group.per_second else 'rounds'} (%)",
            )
        legend_above(figure, panels[0], 5)
        _apart(figure)
        _save(figure, path)


def _time(path: Path, results: Results) -> None:
    """Time to the unpruned accuracy, every seed of every scheme."""
    studies = (("MNIST", results.mnist, "o"), ("Fashion-MNIST", results.fashion, "s"))
    rows = [row for row in results.mnist["schemes"] if row["scheme"] not in ("fedavg", "partial")]
    with drawing(COLUMN, 2.3) as (figure, (axes,)):
        for offset, (title, report, marker), (colour, _, _) in zip((-0.16, 0.16), studies, _CYCLE, strict=False):
            label: str | None = title
            for at, row in enumerate(rows):
                time = time_percent(report, row["scheme"])
                reached = np.array([value for value in time if value is not None])
                axes.plot(reached, np.full(len(reached), at + offset), marker, color=colour, ms=3.5, alpha=0.75,
                          markeredgewidth=0, label=label)  # fmt: skip
                label = None
                if len(reached) == len(time):
                    axes.plot([reached.mean()] * 2, [at + offset - 0.13, at + offset + 0.13], color="#000000", lw=1.2)
                elif missing := len(time) - len(reached):
                    axes.annotate(f"{missing} never", (1, at + offset), xycoords=("axes fraction", "data"), ha="right",
                                  va="center", fontsize=6.5, color=colour)  # fmt: skip
        axes.axvline(100 * SAVING, color=_GREY, lw=0.9)
        axes.set_yticks(range(len(rows)), [row["title"] for row in rows])
        axes.set(xlabel="time to the target (% of unpruned)", ylim=(len(rows) - 0.5, -0.5))
        axes.set_xlim(right=axes.get_xlim()[1] + 8)
        axes.grid(visible=False, axis="y")
        legend_above(figure, axes, 2)
        _save(figure, path)


def _ablation(path: Path, results: Results) -> None:
    """What each variant gains or loses against the joint scheme, with its interval over seeds."""
    found = [each for each in results.ablation["claims"] if each["id"].startswith(FASTER)]
    with drawing(COLUMN, 2.2) as (figure, (axes,)):
        for at, each in enumerate(found):
            gap = -complete(each["measured"])
            low, high = t_interval(gap)
            axes.plot([low, high], [at, at], color="#0072B2", lw=2.2, alpha=0.45, solid_capstyle="butt")
            axes.plot(gap, np.full(len(gap), at), "o", color="#0072B2", ms=2.5)
            axes.plot(gap.mean(), at, "D", color="#D55E00", ms=4)
        axes.axvline(0, color=_GREY, lw=0.9)
        axes.set_xscale("symlog", linthresh=1.0)
        axes.set_xticks([-10, -3, -1, -0.5, 0, 0.5, 1], ["−10", "−3", "−1", "−0.5", "0", "0.5", "1"])
        axes.set_yticks(
            range(len(found)), [scheme(results.ablation, each["id"].removeprefix(FASTER))["title"] for each in found]
        )
        axes.set(xlabel="accuracy over training minus joint’s (points)", ylim=(len(found) - 0.5, -0.5))
        axes.grid(visible=False, axis="y")
        _save(figure, path)


def _map(path: Path, results: Results) -> None:
    """Time to the target over bandwidth and compute speed, with the share of late rounds."""
    study, cells = results.map["study"], results.map["cells"]
    at = {(cell["bandwidth_hz"], cell["speed"]): cell for cell in cells}
    bandwidths, speeds = study["bandwidths_hz"], study["speeds"]
    values = np.array([[at[b, s]["time_percent"]["mean"] or np.nan for b in bandwidths] for s in speeds], dtype=float)
    with drawing(COLUMN, 1.9) as (figure, (axes,)):
        # Purple below one half, orange above: tells the two apart for every kind of sight; the numbers say it too.
        image = axes.imshow(values, cmap="PuOr_r", vmin=0, vmax=200 * SAVING, origin="lower", aspect="auto")
        for (i, j), value in np.ndenumerate(values):
            late = 100 * at[bandwidths[j], speeds[i]]["late"]
            shown = f"{value:.0f}" if np.isfinite(value) else "–"
            axes.text(j, i, f"{shown}\n({late:.0f} late)", ha="center", va="center", fontsize=7, linespacing=0.95)
        axes.set_xticks(range(len(bandwidths)), [f"{b / 1e6:g}" for b in bandwidths])
        axes.set_yticks(range(len(speeds)), [f"{s:g}" for s in speeds])
        axes.set(xlabel="bandwidth (MHz)", ylabel="relative compute speed")
        axes.grid(visible=False)
        figure.colorbar(image, label="time to target\n(% of unpruned)")
        _save(figure, path)


def _scale(path: Path, results: Results) -> None:
    """What a cell of any size prunes, and how long solving takes."""
    cells = [run for run in results.scale["runs"] if "seed" in run]
    batches = [run for run in results.scale["runs"] if "cells" in run]
    counts = sorted({run["devices"] for run in cells})
    limit = np.mean([run["objective"] for run in cells if run["devices"] == counts[-1]])
    with drawing(COLUMN, 1.9, columns=2) as (figure, (left, right)):
        left.plot([r["devices"] for r in cells], [r["objective"] for r in cells], "o", color="#0072B2", ms=2.5)
        left.axhline(limit, color=_GREY, lw=0.8)
        left.set(xscale="log", xlabel="phones in the cell", ylabel="mean pruning ratio")
        wall = [np.median([1e3 * r["wall_s"] for r in cells if r["devices"] == count]) for count in counts]
        right.plot(counts, wall, "o-", color="#0072B2", label="one cell")
        right.plot([r["cells"] * r["devices"] for r in batches], [1e3 * r["wall_s"] for r in batches], "s--",
                   color="#D55E00", label="many cells")  # fmt: skip
        right.set(xscale="log", yscale="log", xlabel="phones in all", ylabel="time of one call (ms)")
        right.legend()
        _save(figure, path)


def _harder(path: Path, results: Results) -> None:
    """Accuracy against simulated time on measured drives; every seed's clock is scaled to the mean unpruned round.

    Personalised schemes alone: with FedAvg on the scale they could not be told apart.
    """
    report = results.harder
    rows = {row["scheme"]: row for row in report["schemes"] if row["scheme"] != "fedavg"}
    unpruned = dict(zip(rows["partial"]["seed"], rows["partial"]["unpruned_round_s"], strict=True))
    mean = float(np.mean(list(unpruned.values())))
    with drawing(COLUMN, 2.4) as (figure, (axes,)):
        for (name, row), (colour, line, _) in zip(rows.items(), _CYCLE, strict=True):
            runs = [run for run in report["curves"] if run["scheme"] == name]
            clocks = [np.array(run["time_s"]) * mean / unpruned[run["seed"]] for run in runs]
            # Where every seed has a value: from the slowest first round to the earliest end.
            grid = np.linspace(max(clock[0] for clock in clocks), min(clock[-1] for clock in clocks), 300)
            at = [np.searchsorted(clock, grid * (1 + 1e-12), side="right") - 1 for clock in clocks]
            y = 100 * np.stack([smooth(np.array(run["accuracy"]))[i] for run, i in zip(runs, at, strict=True)])
            axes.fill_between(grid, y.min(axis=0), y.max(axis=0), color=colour, alpha=0.15, linewidth=0)
            axes.plot(grid, y.mean(axis=0), color=colour, ls=line, label=row["title"])
        axes.set(xlabel="simulated time (s)", ylabel="accuracy on own held-out data (%)", xlim=(0, None))
        legend_above(figure, axes, 2)
        _save(figure, path)

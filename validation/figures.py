"""Figures of the report as inline SVG: colour-blind safe, axes with units, legible on a phone."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

matplotlib.use("svg")  # no display is needed
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from .config import EQUAL, JOINT, REFERENCE
from .measures import MARGIN
from .schemes import SCHEMES
from .summary import Run

FloatArray = NDArray[np.float64]
TITLES = {
    "digits": "scikit-learn digits",
    "fashion_mnist": "Fashion-MNIST",
    "mnist": "MNIST",
    "cifar10": "CIFAR-10",
    "writers": "Digits in ten synthetic hands",
    "subjects": "Exercises of ten subjects with a smartwatch",
}
"""Names of data sets in print."""

COLOURS = ("#000000", "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#E69F00", "#56B4E9", "#777777")
"""Okabe and Ito's, and a grey, for lines that have no style of their own, in this order."""

# Okabe and Ito's colours, each with a line style and a hatch of its own: nothing is told by colour alone.
_STYLE: dict[str, tuple[str, Any]] = {
    "fedavg": ("#E69F00", ":"),
    "partial": ("#0072B2", "--"),
    "equal": ("#CC79A7", "-."),
    "joint": ("#009E73", "-"),
    "fixed": ("#D55E00", (0, (1, 1))),
    "fixed_equal": ("#D55E00", (0, (5, 2, 1, 2))),
    "pruning_only": ("#56B4E9", (0, (5, 1))),
    "allocation_only": ("#000000", (0, (3, 1, 1, 1, 1, 1))),
    "shared": ("#E69F00", (0, (4, 2, 1, 2))),
    "quadratic": ("#009E73", (0, (2, 1))),
    "magnitude": ("#D55E00", (0, (6, 2))),
    "taylor": ("#8c510a", (0, (3, 2, 1, 2))),
    "random": ("#777777", (0, (1, 2))),
}
_COLOUR = {scheme: colour for scheme, (colour, _) in _STYLE.items()}
_LINE = {scheme: line for scheme, (_, line) in _STYLE.items()}
_HATCH = {"equal": "////", "joint": ""}
_PARTS = {  # of a round's latency, in the order in which they happen
    "broadcast_s": ("broadcast", "#999999", ""),
    "local_s": ("personal steps, probe", "#F0E442", "...."),
    "pruned_s": ("training steps", "#56B4E9", "////"),
    "upload_s": ("upload", "#D55E00", ""),
}
# 4.8 inches at 9 points stay readable in a 350 px column and fill half a desktop page.
_SIZE = (4.8, 3.3)


LEAST_ERROR = 0.05
"""Per cent that a log axis shows for no error at all."""


@contextmanager
def drawing(name: str, size: tuple[float, float] = _SIZE, rows: int = 1) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure of `rows` panels in the report's style."""
    style: dict[Any, Any] = {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#dddddd",
        "grid.linewidth": 0.6,
        "axes.axisbelow": True,
        "legend.frameon": False,
        "legend.fontsize": 8.5,
        "hatch.linewidth": 0.6,
        "svg.hashsalt": name,  # the same figure gives the same bytes
    }
    with matplotlib.rc_context(style):
        figure, axes = plt.subplots(rows, 1, figsize=size, layout="constrained", squeeze=False)
        try:
            yield figure, list(axes[:, 0])
        finally:
            plt.close(figure)


def svg(figure: Figure, name: str, description: str) -> str:
    """Inline SVG with ids of its own, so that several fit in one page, and a text for those who cannot see it."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    text = text.replace("url(#", f"url(#{name}-")
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    return text.replace("<svg", f'<svg role="img" aria-label="{description}"', 1)


def _scale(longest_s: float) -> tuple[float, str]:
    return (1e3, "ms") if longest_s < 1 else (1.0, "s")


def legend_above(figure: Figure, axes: Axes, columns: int = 2) -> None:
    """What is drawn on these axes, above all panels of the figure."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=columns)


def _curves(axes: Axes, runs: dict[str, list[Run]], x: dict[str, FloatArray], y: dict[str, FloatArray]) -> None:
    """Mean over seeds as a line, least to greatest as a band; x[scheme] (n,), y[scheme] (seeds, n)."""
    for scheme in runs:
        colour, values = _COLOUR[scheme], np.maximum(100 * (1 - y[scheme]), LEAST_ERROR)
        axes.fill_between(x[scheme], values.min(0), values.max(0), color=colour, alpha=0.18, linewidth=0)
        width = 2.2 if scheme == JOINT else 1.5
        axes.plot(x[scheme], values.mean(0), ls=_LINE[scheme], color=colour, lw=width, label=SCHEMES[scheme].title)
    # What matters happens below where the reference starts; the one that starts from chance may come in from above.
    top = 100 * max(float(1 - y[REFERENCE].min()), *(float(1 - v[:, -1].min()) for v in y.values()))
    log_errors(axes)
    axes.set_ylim(top=1.15 * max(top, 2 * LEAST_ERROR))
    axes.set_ylabel("error on own held-out data (%)")


def log_errors(axes: Axes) -> None:
    """A log axis of errors in per cent, labelled with plain numbers."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))


def accuracy_over_time(runs: dict[str, list[Run]], targets: list[float]) -> str:
    """Error against simulated wall-clock time, on a log axis."""
    with drawing("time", (4.8, 3.6)) as (figure, (axes,)):
        # Seeds differ in their cell, and so in how long any round takes. Every seed's clock is scaled to the mean
        # cell, so that bands show how training differs and not how cells do.
        rounds = np.array([run.latency_s.mean() for run in runs[REFERENCE]])
        clock = rounds.mean() / rounds
        ends = {s: [r.time_s * c for r, c in zip(each, clock, strict=True)] for s, each in runs.items()}
        factor, unit = _scale(max(e[-1] for each in ends.values() for e in each))
        x, y = {}, {}
        for scheme, each in runs.items():
            # Where every seed has a value: from the slowest first round to the earliest end.
            grid = np.linspace(max(e[0] for e in ends[scheme]), min(e[-1] for e in ends[scheme]), 400)
            after = [np.searchsorted(e, grid * (1 + 1e-12), side="right") - 1 for e in ends[scheme]]
            y[scheme] = np.stack([r.smoothed[i] for r, i in zip(each, after, strict=True)])
            x[scheme] = grid * factor
        _curves(axes, runs, x, y)
        goal = 100 * float(1 - np.mean(targets))
        axes.axhline(goal, color="#555555", lw=0.9)
        axes.annotate(
            f"target: unpruned end + {100 * MARGIN:g} pp",
            (1, goal), xycoords=("axes fraction", "data"), xytext=(-2, 3), textcoords="offset points",
            ha="right", va="bottom", fontsize=8, color="#333333",
        )  # fmt: skip
        axes.set_xlabel(f"simulated time ({unit})")
        axes.set_xlim(left=0)
        legend_above(figure, axes)
        return svg(figure, "time", f"Error against simulated time in {unit}, one line per scheme")


def accuracy_over_rounds(runs: dict[str, list[Run]]) -> str:
    """Error against rounds: what pruning costs when time is left aside."""
    with drawing("rounds", (4.8, 3.6)) as (figure, (axes,)):
        ends = {scheme: min(len(r.smoothed) for r in each) for scheme, each in runs.items()}
        y = {scheme: np.stack([r.smoothed[: ends[scheme]] for r in each]) for scheme, each in runs.items()}
        x = {scheme: np.arange(1.0, values.shape[1] + 1) for scheme, values in y.items()}
        _curves(axes, runs, x, y)
        axes.set_xlabel("round")
        legend_above(figure, axes)
        return svg(figure, "rounds", "Error against rounds, one line per scheme")


def round_latency(runs: dict[str, list[Run]], seed_index: int = 0) -> str:
    """Latency of every round of one seed."""
    with drawing("latency", (4.8, 3.6)) as (figure, (axes,)):
        chosen = {scheme: each[seed_index] for scheme, each in runs.items()}
        factor, unit = _scale(max(run.latency_s.max() for run in chosen.values()))
        for scheme, run in chosen.items():
            axes.plot(
                np.arange(1, len(run.latency_s) + 1), factor * run.latency_s, ls=_LINE[scheme],
                color=_COLOUR[scheme], lw=2.2 if scheme == JOINT else 1.5, label=SCHEMES[scheme].title,
            )  # fmt: skip
        deadline = factor * chosen[JOINT].deadline_s
        axes.axhline(deadline, color="#555555", lw=0.9)
        axes.annotate(
            f"deadline {deadline:.3g} {unit}", (1, deadline), xycoords=("axes fraction", "data"),
            xytext=(-2, -3), textcoords="offset points", ha="right", va="top", fontsize=8, color="#333333",
        )  # fmt: skip
        axes.set(xlabel="round", ylabel=f"latency of the round ({unit})")
        axes.set_ylim(bottom=0)
        legend_above(figure, axes)
        return svg(figure, "latency", f"Latency of each round in {unit}, one line per scheme")


def device_order(run: Run) -> NDArray[np.int64]:
    """Devices from the best mean channel to the worst."""
    return np.argsort(-run.phones["channel_gain"].mean(axis=0))


def _device_axis(axes: Axes, order: NDArray[np.int64]) -> None:
    axes.set_xticks(range(len(order)), [str(k) for k in order])
    axes.set_xlabel("phone, best mean channel on the left")
    axes.grid(visible=False, axis="x")


def per_device(runs: dict[str, list[Run]], quantity: str, seed_index: int = 0) -> str:
    """Bars per device for the two pruned schemes: mean over rounds, whiskers from the 10th to the 90th percentile."""
    label, factor = {
        "pruning_ratio": ("pruning ratio", 1.0),
        "bandwidth_hz": ("bandwidth (MHz)", 1e-6),
        "tx_power_w": ("transmit power (mW)", 1e3),
    }[quantity]
    name = quantity.replace("_", "-")
    with drawing(name, (4.8, 2.7)) as (figure, (axes,)):
        order = device_order(runs[JOINT][seed_index])
        for offset, scheme in ((-0.2, EQUAL), (0.2, JOINT)):
            values = factor * runs[scheme][seed_index].allocation[quantity][:, order]
            low, mean, high = np.quantile(values, 0.1, axis=0), values.mean(axis=0), np.quantile(values, 0.9, axis=0)
            spread = np.abs(np.stack([np.minimum(low, mean) - mean, np.maximum(high, mean) - mean]))
            axes.bar(
                np.arange(len(order)) + offset, mean, 0.38, yerr=spread, label=SCHEMES[scheme].title,
                color=_COLOUR[scheme], hatch=_HATCH[scheme], edgecolor="white",
                error_kw={"lw": 0.9, "ecolor": "#333333", "capsize": 1.5},
            )  # fmt: skip
        axes.set_ylabel(label)
        _device_axis(axes, order)
        legend_above(figure, axes)
        return svg(figure, name, f"{label} per device, equal shares beside the joint allocation")


def latency_composition(runs: dict[str, list[Run]], seed_index: int = 0) -> str:
    """Where each device's time goes, unpruned above and jointly allocated below, on one scale."""
    with drawing("composition", (4.8, 4.8), rows=2) as (figure, axes):
        order = device_order(runs[JOINT][seed_index])
        pair = [runs[scheme][seed_index] for scheme in (REFERENCE, JOINT)]
        factor, unit = _scale(max(run.latency_s.mean() for run in pair))
        for panel, run in zip(axes, pair, strict=True):
            bottom = np.zeros(len(order))
            for part, (label, colour, hatch) in _PARTS.items():
                mean = factor * run.allocation[part].mean(axis=0)[order]
                panel.bar(
                    range(len(order)), mean, 0.8, bottom=bottom, label=label,
                    color=colour, hatch=hatch, edgecolor="white", linewidth=0.4,
                )  # fmt: skip
                bottom = bottom + mean
            panel.set_title(SCHEMES[run.scheme].title, loc="left", fontsize=9)
            panel.set_ylabel(f"mean time ({unit})")
            panel.set_ylim(0, 1.05 * factor * max(r.latency_s.mean() for r in pair))
            _device_axis(panel, order)
        axes[0].set_xlabel("")
        legend_above(figure, axes[0])
        return svg(figure, "composition", f"Mean latency in {unit} per device, split into its parts")

"""Pictures of allocations. Needs matplotlib: ``pip install 'kktalloc[plot]'``.

    plot.allocation(solution).savefig("cell.svg")                           # one bar per device
    plot.front(problem, deadline_s=np.linspace(0.3, 2.0, 40))               # least pruning against a budget
    plot.price(problem, bandwidth_hz=np.geomspace(5e5, 5e6, 40))            # what one more MHz is worth
    plot.regimes(problem, deadline_s=np.linspace(0.3, 2.0, 40))             # what stops each device

Each returns a new matplotlib figure and takes ``ax=`` to draw into one of yours (`allocation`: ``axes=``, four of
them). Nothing is shown or saved, and no global state of matplotlib is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kktalloc._problem.arguments import expect
from kktalloc._problem.arrays import as_float64
from kktalloc._problem.problem import Problem
from kktalloc._problem.regime import Regime
from kktalloc._problem.variant import variant
from kktalloc._questions.solution import Solution, solve

try:
    from matplotlib.colors import BoundaryNorm, ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
except ModuleNotFoundError as error:
    if error.name is None or not error.name.startswith("matplotlib"):
        raise
    message = "kktalloc.plot needs matplotlib, which an extra brings: pip install 'kktalloc[plot]'"
    raise ModuleNotFoundError(message, name="matplotlib") from None

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["allocation", "front", "price", "regimes"]

FloatArray = NDArray[np.float64]
# Okabe and Ito's colours, which readers with any colour vision tell apart; grey for what has no solution.
_COLOUR = {
    Regime.FLOOR: "#D55E00",
    Regime.ENERGY: "#009E73",
    Regime.KINK: "#CC79A7",
    Regime.PEAK: "#0072B2",
    Regime.SATURATED: "#56B4E9",
    Regime.TOTAL_POWER: "#E69F00",
    Regime.BANDWIDTH_MAX: "#F0E442",
    Regime.CLOCK: "#117733",
    Regime.CLOCK_MIN: "#88CCAA",
    Regime.EARLY_FINISH: "#332288",
}
_MEANING = {
    Regime.FLOOR: "prunes the most it may",
    Regime.ENERGY: "energy budget",
    Regime.KINK: "energy and peak power",
    Regime.PEAK: "peak power",
    Regime.SATURATED: "nothing: keeps all",
    Regime.TOTAL_POWER: "total power",
    Regime.BANDWIDTH_MAX: "bandwidth of its own",
    Regime.CLOCK: "energy, clock and radio",
    Regime.CLOCK_MIN: "energy, slowest clock",
    Regime.EARLY_FINISH: "energy, done early",
}
_AXIS = {
    "bandwidth_hz": ("bandwidth (MHz)", 1e6),
    "deadline_s": ("deadline (s)", 1.0),
    "total_power_w": ("total power (W)", 1.0),
    "energy_budget_j": ("energy budget of each device (J)", 1.0),
    "tx_power_max_w": ("peak power of each device (W)", 1.0),
}
_OF_CELL = ("bandwidth_hz", "deadline_s", "total_power_w")
_LINE, _BAND = "#0072B2", "#9EC9E2"


def allocation(solution: Solution, axes: Sequence[Axes] | None = None) -> Figure:
    """Pruning, bandwidth, power and energy of each device, coloured by what stops it from keeping more.

    Parameters
    ----------
    solution
        Of one problem.
    axes
        Four to draw into; None: a new figure.

    Raises
    ------
    ValueError
        A batch, an infeasible problem, or another number of axes.
    """
    expect("solution", solution, Solution)
    if len(solution.problem.shape) != 1:
        raise ValueError(f"allocation draws one problem, got a batch of shape {solution.problem.shape[:-1]}")
    if not np.isfinite(np.asarray(solution.objective)):
        raise ValueError("allocation draws a solution, and this problem has none: see solution.diagnosis")
    K = solution.problem.shape[-1]
    if axes is None:
        figure = Figure(figsize=(7.0, 4.6), layout="constrained")
        axes = list(figure.subplots(2, 2).flat)
    if len(axes) != 4:
        raise ValueError(f"axes must be four, got {len(axes)}")
    codes = np.asarray(solution.regime)
    colours = [_COLOUR[Regime(int(code))] for code in codes]
    panels = (
        ("pruning ratio", solution.pruning_ratio, 1.0),
        ("bandwidth (MHz)", solution.bandwidth_hz, 1e6),
        ("transmit power (mW)", solution.tx_power_w, 1e-3),
        ("energy (mJ)", solution.energy_j, 1e-3),
    )
    names = [solution.problem.device((k,)).removeprefix("device ") for k in range(K)] if K <= 20 else None
    for ax, (title, values, unit) in zip(axes, panels, strict=True):
        ax.bar(np.arange(K), np.asarray(values) / unit, color=colours, width=0.8)
        ax.set_title(title, fontsize=10, loc="left")
        ax.set_ylim(bottom=0.0)
        if names is not None:
            ax.set_xticks(np.arange(K), names, fontsize=8)
        _tidy(ax)
    for ax in axes[-2:]:
        ax.set_xlabel("device")
    figure = _figure_of(axes[0])
    shown = [Regime(int(code)) for code in np.unique(codes)]
    handles = [Patch(color=_COLOUR[r], label=_MEANING[r]) for r in shown]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(len(shown), 3), frameon=False, title="limited by"
    )
    return figure


def front(problem: Problem, ax: Axes | None = None, **budget: ArrayLike) -> Figure:
    """The least pruning that a budget allows: the Pareto front of mean pruning against it.

    Line: the weighted mean of the optimal ratios. Band: from the device that prunes least to the one that prunes most.
    Where there is no solution nothing is drawn, and the first possible value is marked.

    Parameters
    ----------
    problem
        One problem.
    ax
        To draw into.
    **budget
        One field with its values (n,): ``deadline_s``, ``bandwidth_hz``, ``total_power_w`` of the cell,
        ``energy_budget_j``, ``tx_power_max_w`` of the devices (the same for all).

    Raises
    ------
    ValueError
        A batch, or not exactly one budget.
    """
    name, values, batch = _swept(problem, budget)
    solution = solve(batch, throw=False)
    ratio = np.asarray(solution.pruning_ratio)
    mean = (np.asarray(batch.devices.weight) * ratio).sum(axis=-1)
    ax = _axes(ax)
    label, unit = _AXIS[name]
    x, fine = values / unit, np.isfinite(mean)
    ax.fill_between(x[fine], ratio[fine].min(axis=-1), ratio[fine].max(axis=-1), color=_BAND, alpha=0.6, lw=0)
    ax.plot(x[fine], mean[fine], color=_LINE, lw=2.0)
    _mark_edge(ax, x, fine)
    ax.set(xlabel=label, ylabel="pruning ratio", ylim=(0.0, 1.0), xlim=(x.min(), x.max()))
    ax.set_title("least pruning: mean, and range over devices", fontsize=10, loc="left")
    return _figure_of(_tidy(ax))


def price(problem: Problem, ax: Axes | None = None, **budget: ArrayLike) -> Figure:
    """Shadow price of a budget against it: by how much one unit more of it lowers the objective.

    Parameters as in `front`. Of ``energy_budget_j`` and ``tx_power_max_w`` it is the sum over the devices: what a unit
    more for each of them is worth.

    Raises
    ------
    ValueError
        A batch, or not exactly one budget.
    """
    name, values, batch = _swept(problem, budget)
    prices = solve(batch, throw=False).prices
    per_device = {"energy_budget_j": "energy_per_j", "tx_power_max_w": "peak_power_per_w"}
    if name in per_device:
        worth = np.asarray(getattr(prices, per_device[name])).sum(axis=-1)
    else:
        of_cell = {
            "bandwidth_hz": "bandwidth_per_hz",
            "deadline_s": "deadline_per_s",
            "total_power_w": "total_power_per_w",
        }
        worth = np.asarray(getattr(prices, of_cell[name]))
    ax = _axes(ax)
    label, unit = _AXIS[name]
    x, fine = values / unit, np.isfinite(worth)
    ax.plot(x[fine], worth[fine] * unit, color=_LINE, lw=2.0)
    _mark_edge(ax, x, fine)
    ax.set(xlabel=label, ylabel=f"fall of the objective per {label.split('(')[1].rstrip(')')}", xlim=(x.min(), x.max()))
    ax.set_ylim(bottom=0.0)
    ax.set_title(f"price of {label.split(' (')[0]}", fontsize=10, loc="left")
    return _figure_of(_tidy(ax))


def regimes(problem: Problem, ax: Axes | None = None, **budget: ArrayLike) -> Figure:
    """What stops each device from keeping more, for each value of a budget: devices up, the budget along.

    Parameters and errors as in `front`.
    """
    name, values, batch = _swept(problem, budget)
    codes = np.asarray(solve(batch, throw=False).regime)
    ax = _axes(ax)
    label, unit = _AXIS[name]
    x, K = values / unit, codes.shape[-1]
    steps = np.diff(x)
    edges = np.concatenate([[x[0] - steps[0] / 2], x[:-1] + steps / 2, [x[-1] + steps[-1] / 2]])
    kinds = list(Regime)
    colours = ListedColormap(["#E6E6E6", *(_COLOUR[r] for r in kinds)])
    norm = BoundaryNorm(np.arange(-1, len(kinds) + 1) - 0.5, colours.N)
    ax.pcolormesh(edges, np.arange(K + 1) - 0.5, codes.T, cmap=colours, norm=norm)
    ax.set(xlabel=label, ylabel="device", xlim=(x[0], x[-1]))
    ax.set_title("what stops each device", fontsize=10, loc="left")
    shown = [Patch(color=_COLOUR[r], label=_MEANING[r]) for r in kinds if (codes == int(r)).any()]
    if (codes < 0).any():
        shown.append(Patch(color="#E6E6E6", label="no solution"))
    figure = _figure_of(ax)
    figure.legend(handles=shown, loc="outside lower center", ncols=min(len(shown), 3), frameon=False)
    return figure


def _swept(problem: Problem, budget: dict[str, ArrayLike]) -> tuple[str, FloatArray, Problem]:
    """The budget's name, its values (n,) and the batch of n problems."""
    expect("problem", problem, Problem)
    if len(problem.shape) != 1:
        raise ValueError(f"one problem is drawn, got a batch of shape {problem.shape[:-1]}")
    if len(budget) != 1 or next(iter(budget)) not in _AXIS:
        raise ValueError(f"give one budget of {', '.join(_AXIS)}, got {', '.join(budget) or 'none'}")
    name, given = next(iter(budget.items()))
    values = np.atleast_1d(as_float64(name, given))
    if (
        values.ndim != 1
        or len(values) < 2
        or not (np.diff(values) > 0).all()
        or not 0 < values[0] < values[-1] < np.inf
    ):
        raise ValueError(f"{name} must be two or more increasing values (n,) > 0, got {values!r:.80}")
    return name, values, variant(problem, None, **{name: values if name in _OF_CELL else values[:, None]})


def _axes(ax: Axes | None) -> Axes:
    return Figure(figsize=(6.0, 3.6), layout="constrained").subplots() if ax is None else ax


def _figure_of(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    assert figure is not None  # an axes that was handed in lies in one
    return figure


def _tidy(ax: Axes) -> Axes:
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8)
    return ax


def _mark_edge(ax: Axes, x: FloatArray, fine: NDArray[np.bool_]) -> None:
    """Where solutions begin, if not at the first value."""
    if fine.any() and not fine.all():
        first = float(x[fine][0])
        ax.axvspan(float(x[0]), first, color="#E6E6E6", lw=0)
        ax.annotate(
            "\u2190 no solution", (first, 0.03), xytext=(4, 0), fontsize=8, color="#555555",
            xycoords=("data", "axes fraction"), textcoords="offset points",
        )  # fmt: skip

"""The explorer's figures: each a Bokeh figure on a data source, and the function that fills the source."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
from bokeh.models import BasicTicker, ColumnDataSource, DataRange1d, FactorRange, FixedTicker, HoverTool, Range1d
from bokeh.plotting import figure
from bokeh.themes import Theme
from bokeh.transform import factor_cmap, factor_hatch

from kktalloc import Regime, Solution
from kktalloc.plan import Curve

from .text import LIMITS
from .view import Course

THEME = Theme(
    json={
        "attrs": {
            "Plot": {"outline_line_color": None, "toolbar_location": None},
            "Axis": {
                "axis_label_text_font_style": "normal",
                "axis_label_text_font_size": "12px",
                "major_label_text_font_size": "11px",
                "minor_tick_line_color": None,
            },
            "Grid": {"grid_line_color": "#dddddd"},
            "Legend": {
                "label_text_font_size": "11px",
                "border_line_color": None,
                "background_fill_alpha": 0.8,
                "padding": 2,
                "spacing": 0,
                "label_height": 16,
                "glyph_height": 14,
            },
        }
    }
)

# Okabe and Ito's colours with a hatch each: nothing is told by colour alone.
_LIMIT_STYLE = {
    Regime.SATURATED: ("#009E73", " "),
    Regime.PEAK: ("#56B4E9", "/"),
    Regime.ENERGY: ("#E69F00", "."),
    Regime.KINK: ("#F0E442", "x"),
    Regime.TOTAL_POWER: ("#CC79A7", "\\"),
    Regime.BANDWIDTH_MAX: ("#0072B2", "+"),
    Regime.FLOOR: ("#999999", "-"),
    Regime.CLOCK: ("#D55E00", "|"),
    Regime.CLOCK_MIN: ("#7F6000", "o"),
    Regime.EARLY_FINISH: ("#882255", "*"),
}
_TERM_STYLE = {
    "initial_gap": ("initial gap", "#0072B2", " "),
    "pruning": ("pruning", "#D55E00", "/"),
    "coverage_bias": ("coverage bias", "#F0E442", "."),
    "heterogeneity_drift": ("heterogeneity drift", "#CC79A7", "x"),
    "variance": ("gradient noise", "#56B4E9", "-"),
    "personal_variance": ("personal noise", "#999999", "\\"),
}
HERE, BEST = "this deadline", "best deadline"
_COURSE_STYLE = {HERE: ("#D55E00", "diamond"), BEST: ("#0072B2", "circle")}
_BAR: dict[str, Any] = {
    "line_color": "#444444",
    "line_width": 0.5,
    "hatch_color": "#1d1d1f",
    "hatch_alpha": 0.45,
    "hatch_scale": 7,
}


def legend(solution: Solution | None) -> str:
    """HTML: the colours of the bars, as far as they are in use."""
    if solution is None:
        return "<p>None at these settings.</p>"
    present = [Regime(code) for code in np.unique(solution.regime)]
    items = "".join(
        f'<li><i style="background: {colour}">{escape(hatch)}</i>{LIMITS[regime]}</li>'
        for regime, (colour, hatch) in _LIMIT_STYLE.items()
        if regime in present
    )
    return f'<ul class="legend"><li>limited by</li>{items}</ul>'


def bars(field: str, label: str, source: ColumnDataSource, devices: Range1d, most: float | None = None) -> figure:
    """One bar per device, drawn by what limits it; `most` is the end of the axis, default the longest bar."""
    names = [LIMITS[regime] for regime in _LIMIT_STYLE]
    plot = figure(
        height=230,
        sizing_mode="stretch_width",
        x_range=devices,
        y_range=DataRange1d(start=0) if most is None else Range1d(start=0, end=most),
        tools="",
        name=field,
        min_border_right=12,
    )
    plot.vbar(
        x="device",
        top=field,
        width=0.8,
        source=source,
        fill_color=factor_cmap("limit", [colour for colour, _ in _LIMIT_STYLE.values()], names),
        hatch_pattern=factor_hatch("limit", [hatch for _, hatch in _LIMIT_STYLE.values()], names),
        **_BAR,
    )
    plot.xaxis.axis_label, plot.yaxis.axis_label = "device", label
    plot.xaxis.ticker = BasicTicker(min_interval=1, num_minor_ticks=0)
    plot.xgrid.visible = False
    tips = [
        ("device", "@device, limited by @limit"),
        ("pruned", "@pruned{0.0} %"),
        ("bandwidth", "@bandwidth{0.000} MHz"),
        ("power", "@power{0.0} of @peak{0.0} mW"),
    ]
    plot.add_tools(HoverTool(tooltips=tips))
    return plot


def allocation(solution: Solution | None) -> dict[str, Any]:
    """Columns of the bars' source; none where there is no solution."""
    if solution is None:
        return {name: [] for name in ("device", "limit", "pruned", "bandwidth", "power", "peak")}
    return {
        "device": np.arange(solution.pruning_ratio.size),
        "limit": [LIMITS[Regime(code)] for code in solution.regime],
        "pruned": 100.0 * solution.pruning_ratio,
        "bandwidth": 1e-6 * solution.bandwidth_hz,
        "power": 1e3 * solution.tx_power_w,
        "peak": 1e3 * np.asarray(solution.problem.devices.tx_power_max_w),
    }


def stack(source: ColumnDataSource) -> figure:
    """The bound's terms, stacked, at the deadline that is set and at the best."""
    plot = figure(
        height=290,
        sizing_mode="stretch_width",
        x_range=DataRange1d(start=0),
        y_range=FactorRange(factors=[BEST, HERE]),
        tools="",
        name="terms",
    )
    plot.hbar_stack(
        list(_TERM_STYLE),
        y="which",
        height=0.6,
        source=source,
        color=[colour for _, colour, _ in _TERM_STYLE.values()],
        hatch_pattern=[hatch for _, _, hatch in _TERM_STYLE.values()],
        legend_label=[label for label, _, _ in _TERM_STYLE.values()],
        **_BAR,
    )
    plot.add_layout(plot.legend[0], "above")
    plot.legend.ncols, plot.legend.label_width = 2, 104
    plot.xaxis.axis_label = "guarantee by term (unit of |∇F|²)"
    plot.ygrid.visible = False
    plot.add_tools(HoverTool(tooltips=[("term", "$name"), ("adds", "@$name{0.0000}"), ("at", "@which")]))
    return plot


def terms(courses: Mapping[str, Course | None]) -> dict[str, Any]:
    """Columns of the stack's source: terms over the weight of the gradient, so that they add up to the guarantee."""
    there = {name: course.terms for name, course in courses.items() if course is not None}
    found: dict[str, Any] = {"which": list(there)}
    for term in _TERM_STYLE:
        found[term] = [float(getattr(t, term) / t.gradient_weight) for t in there.values()]
    return found


def valley(curve_source: ColumnDataSource, course_source: ColumnDataSource, deadlines: Range1d) -> figure:
    """What the planner searches: the guarantee after the total time, over the deadline."""
    plot = figure(
        height=290,
        sizing_mode="stretch_width",
        x_range=deadlines,
        x_axis_type="log",
        y_axis_type="log",
        tools="",
        name="curve",
        min_border_right=16,
    )
    plot.line("deadline_s", "gradient_bound", source=curve_source, line_color="#1d1d1f", line_width=1.5)
    marks = plot.scatter(
        "deadline_s",
        "gradient_bound",
        source=course_source,
        size=13,
        line_color="#1d1d1f",
        fill_color=factor_cmap("which", [c for c, _ in _COURSE_STYLE.values()], list(_COURSE_STYLE)),
        marker="shape",
        legend_field="which",
    )
    plot.legend.location = "bottom_right"
    # The usual ticks of a log axis skip all below 1 here.
    plot.xaxis.ticker = FixedTicker(ticks=[m * 10.0**k for k in range(-4, 6) for m in (1, 2, 5)])
    plot.xaxis.axis_label, plot.yaxis.axis_label = "round deadline (s)", "guarantee after the training time"
    tips = [("deadline", "@deadline_s{0.000} s"), ("rounds", "@rounds{0,0}"), ("guarantee", "@gradient_bound{0.0000}")]
    plot.add_tools(HoverTool(tooltips=tips, renderers=[marks]))
    return plot


def searched(curve: Curve | None, last_s: float) -> dict[str, Any]:
    """Columns of the valley's line, up to the deadline `last_s`."""
    if curve is None:
        return {"deadline_s": [], "gradient_bound": []}
    shown = curve.deadline_s <= last_s
    return {"deadline_s": curve.deadline_s[shown], "gradient_bound": curve.gradient_bound[shown]}


def marks(courses: Mapping[str, Course | None]) -> dict[str, Any]:
    """Columns of the valley's marks."""
    there = {name: course for name, course in courses.items() if course is not None}
    return {
        "which": list(there),
        "shape": [_COURSE_STYLE[name][1] for name in there],
        "deadline_s": [course.deadline_s for course in there.values()],
        "gradient_bound": [course.guarantee for course in there.values()],
        "rounds": [course.rounds for course in there.values()],
    }

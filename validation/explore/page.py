"""The explorer's page: sliders, answers, and what redraws them when a slider moves."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from bokeh.core.templates import get_env
from bokeh.document import Document
from bokeh.layouts import column
from bokeh.models import ColumnDataSource, InlineStyleSheet, LayoutDOM, Range1d
from bokeh.models.widgets import CategoricalSlider, Div
from bokeh.plotting import figure

from . import figures, text
from .controls import Controls, Dial, Scenario
from .view import look, look_ahead

_HERE = Path(__file__).parent
_STYLE = "".join(path.read_text() for path in (_HERE.parent / "templates" / "style.css", _HERE / "page.css"))
_SETTLE_MS = 15
"""Moves that come in faster than this are answered once: dragging must not queue up work."""
_WORDS = ("summary", "trouble", "legend", "certificate", "prices", "each_device")
_SOURCES = ("allocation_data", "terms_data", "curve_data", "marks_data")


class Page:
    """One reader's page: every browser tab has its own sliders.

    Parameters
    ----------
    scenario, target
        What is explored, and where the slider of the target starts.
    """

    def __init__(self, scenario: Scenario, target: float) -> None:
        self._scenario, self._start = scenario, scenario.start(target)
        self._budgets, constants = scenario.dials(target)
        self._dials = {dial.field: dial for dial in (*self._budgets, *constants)}
        self._sliders = {name: _slider(dial) for name, dial in self._dials.items()}
        self._words = {name: _words(name) for name in _WORDS}
        self._sources = {name: ColumnDataSource(name=name) for name in _SOURCES}
        self._devices, self._deadlines = Range1d(start=-0.6, end=0.4), Range1d(start=0.1, end=10.0)
        self._view, self._outlook = look(scenario, self._start, self._budgets), look_ahead(scenario, self._start)
        self._figures = self._drawn()
        self._roots: list[LayoutDOM] = [
            *(self._column(name, dials) for name, dials in (("radio", self._budgets), ("constants", constants))),
            *self._words.values(),
            *self._figures.values(),
        ]
        self._waiting: Any = None
        self._document: Document | None = None

    def attach(self, document: Document, where: str) -> None:
        """Show the page in `document`, and follow its sliders; `where` says what is explored."""
        self._document = document
        document.title = "Allocation explorer"
        document.theme = figures.THEME
        document.template = get_env().from_string((_HERE / "page.html.j2").read_text())
        document.template_variables.update(style=_STYLE, where=where)
        self._draw_view(self._start)
        self._draw_outlook(self._start)
        for root in self._roots:
            document.add_root(root)
        for slider in self._sliders.values():
            slider.on_change("value", self._moved)

    def _controls(self) -> Controls:
        """Where the sliders stand."""
        values = {f.name: getattr(self._start, f.name) for f in fields(Controls)}
        for name, dial in self._dials.items():
            values[name] = dial.values[dial.labels.index(self._sliders[name].value)]
        return Controls(**values)

    def _moved(self, attribute: str, old: str, new: str) -> None:
        """The allocation soon, the planner's slower answer after it; both only for where a slider comes to rest."""
        assert self._document is not None
        for name, dial in self._dials.items():
            if self._sliders[name].value not in dial.labels:  # no slider sends that; who does moves nothing
                self._sliders[name].value = old
                return
        if self._waiting is not None:
            self._document.remove_timeout_callback(self._waiting)
        self._waiting = self._document.add_timeout_callback(self._redraw, _SETTLE_MS)

    def _redraw(self) -> None:
        assert self._document is not None
        self._waiting = None  # it is running: there is nothing to take back, even if what follows fails
        at = self._controls()
        self._view = look(self._scenario, at, self._budgets)
        self._draw_view(at)
        self._waiting = self._document.add_timeout_callback(self._redraw_outlook, _SETTLE_MS)

    def _redraw_outlook(self) -> None:
        self._waiting = None
        at = self._controls()
        self._outlook = look_ahead(self._scenario, at)
        self._draw_outlook(at)

    def _draw_view(self, at: Controls) -> None:
        view = self._view
        self._devices.end = at.devices - 0.4
        for name in ("pruned", "bandwidth", "power"):
            self._figures[name].visible = view.solution is not None
        self._sources["allocation_data"].data = figures.allocation(view.solution)
        self._words["legend"].text = figures.legend(view.solution)
        self._words["certificate"].text = text.certificate(view)
        self._words["prices"].text = text.prices(view)
        self._words["each_device"].text = text.devices(view)
        self._draw_both(at)

    def _draw_outlook(self, at: Controls) -> None:
        curve = self._outlook.curve
        last_s = 0.0
        if curve is not None:
            marked = [course.deadline_s for course in (self._view.in_time, self._outlook.in_time) if course is not None]
            last_s = 8.0 * max(marked)
            self._deadlines.update(start=float(curve.deadline_s[0]) / 1.1, end=last_s)
        self._figures["curve"].visible = curve is not None
        self._sources["curve_data"].data = figures.searched(curve, last_s)
        self._draw_both(at)

    def _draw_both(self, at: Controls) -> None:
        """What shows this deadline beside the best one."""
        courses = {figures.HERE: self._view.in_time, figures.BEST: self._outlook.in_time}
        self._figures["terms"].visible = any(courses.values())
        self._sources["terms_data"].data = figures.terms(courses)
        self._sources["marks_data"].data = figures.marks(courses)
        self._words["summary"].text = text.summary(at, self._view, self._outlook)
        trouble = text.trouble(self._view, self._outlook)
        self._words["trouble"].update(text=trouble, visible=bool(trouble))

    def _drawn(self) -> dict[str, figure]:
        source = self._sources["allocation_data"]
        pruned = figures.bars("pruned", "pruned (%)", source, self._devices, most=100.0)
        bandwidth = figures.bars("bandwidth", "bandwidth (MHz)", source, self._devices)
        power = figures.bars("power", "power (mW), dash: peak", source, self._devices)
        power.scatter("device", "peak", marker="dash", size=12, line_color="#1d1d1f", line_width=2, source=source)
        terms = figures.stack(self._sources["terms_data"])
        curve = figures.valley(self._sources["curve_data"], self._sources["marks_data"], self._deadlines)
        return {"pruned": pruned, "bandwidth": bandwidth, "power": power, "terms": terms, "curve": curve}

    def _column(self, name: str, dials: tuple[Dial, ...]) -> LayoutDOM:
        return column([self._sliders[d.field] for d in dials], name=name, sizing_mode="stretch_width", spacing=2)


def _slider(dial: Dial) -> CategoricalSlider:
    return CategoricalSlider(
        title=dial.title,
        categories=list(dial.labels),
        value=dial.labels[dial.start],
        name=dial.field,
        sizing_mode="stretch_width",
        bar_color="#9ccfc0",
    )


def _words(name: str) -> Div:
    return Div(name=name, text="", margin=0, sizing_mode="stretch_width", stylesheets=[InlineStyleSheet(css=_STYLE)])

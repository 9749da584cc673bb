"""The answer in words and numbers: HTML fragments of the explorer's page."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

import numpy as np

from kktalloc import Regime, Solution

from .controls import Controls, with_unit
from .view import Course, Outlook, View

LIMITS = {
    Regime.SATURATED: "nothing: keeps all",
    Regime.PEAK: "peak power",
    Regime.ENERGY: "energy",
    Regime.KINK: "energy and peak power",
    Regime.TOTAL_POWER: "total power",
    Regime.BANDWIDTH_MAX: "its own bandwidth limit",
    Regime.FLOOR: "pruning limit",
    Regime.CLOCK: "energy, clock balanced",
    Regime.CLOCK_MIN: "energy, slowest clock",
    Regime.EARLY_FINISH: "energy, done early",
}
"""What stops a device from keeping more, in the words of the page."""

_NONE = "–"


def summary(controls: Controls, view: View, outlook: Outlook) -> str:
    """Three numbers at the deadline that is set, each above what the best deadline gives."""
    cards = (
        (
            "Mean pruning ratio",
            _NONE if view.solution is None else percent(float(view.solution.objective)),
            f"at a deadline of {with_unit(controls.deadline_s, 's')}",
            _best(outlook.in_time, lambda c: percent(c.pruning_error)),
        ),
        (
            f"Guarantee after {with_unit(controls.total_time_s, 's')}",
            _NONE if view.in_time is None else number(view.in_time.guarantee),
            _rounds(view.in_time),
            _best(outlook.in_time, lambda c: f"{number(c.guarantee)}, {_count(c)}"),
        ),
        (
            f"Predicted time to guarantee {number(controls.target)}",
            _NONE if view.to_target is None else with_unit(view.to_target.total_time_s, "s"),
            _rounds(view.to_target),
            _best(outlook.to_target, lambda c: f"{with_unit(c.total_time_s, 's')}, {_count(c)}"),
        ),
    )
    ids = ("pruning", "guarantee", "time")
    shown = "".join(
        f'<div class="card" id="{name}"><h3>{title}</h3><p class="value">{value}</p><p>{how}</p>'
        f'<p class="best">{best}</p></div>'
        for name, (title, value, how, best) in zip(ids, cards, strict=True)
    )
    return f'<div class="cards">{shown}</div>'


def trouble(view: View, outlook: Outlook) -> str:
    """What has no solution and what would give it one; "" where all is well."""
    lines = []
    if view.infeasible:
        lines.append(f'<p id="infeasible"><strong>{escape(sentence(view.infeasible))}</strong></p>')
        moves = [f"{dial.title.lower()} at {dial.labels[position]}" for dial, position in view.remedies]
        does = f"One slider alone would do: {', or '.join(moves)}." if moves else "No one slider alone would do."
        lines.append(f'<p id="remedy">{escape(does)}</p>')
    lines += [f"<p>{escape(sentence(note))}</p>" for note in dict.fromkeys((*view.notes, *outlook.notes))]
    return f'<div class="trouble" role="alert">{"".join(lines)}</div>' if lines else ""


def certificate(view: View) -> str:
    """The verdict of the code that does not know the solver."""
    if view.solution is None:
        return ""
    judged = view.solution.certificate
    verdict = "Certificate holds" if judged.ok else "CERTIFICATE REFUSED"
    name, value = judged.worst
    return (
        f'<p id="certificate"><strong>{verdict}:</strong> duality gap {float(judged.duality_gap):.1e}, '
        f"largest residual {value:.1e} ({escape(name.replace('_', ' '))}), tolerance {judged.tolerance:.0e}.</p>"
    )


def devices(view: View) -> str:
    """One row per device."""
    if view.solution is None:
        return ""
    s = view.solution
    columns = zip(
        s.pruning_ratio, s.bandwidth_hz, s.tx_power_w, s.upload_s, s.latency_s, s.energy_j, s.regime, strict=True
    )
    rows = "".join(
        f"<tr><th>{k}</th>"
        + _cells(percent(rho), with_unit(b, "Hz"), with_unit(p, "W"))
        + _cells(with_unit(upload, "s"), with_unit(latency, "s"), with_unit(energy, "J"))
        + f"<td>{LIMITS[Regime(code)]}</td></tr>"
        for k, (rho, b, p, upload, latency, energy, code) in enumerate(columns)
    )
    heads = ("device", "pruned", "bandwidth", "power", "upload", "latency", "energy", "limited by")
    return f"<h2>Device by device</h2>{_table('devices', heads, rows)}"


def prices(view: View) -> str:
    """What more of each budget would be worth."""
    if view.solution is None:
        return ""
    rows = "".join(
        f"<tr><th>{name}</th>{_cells(price, f'{100.0 * fall:.3g}')}</tr>" for name, price, fall in worth(view.solution)
    )
    heads = ("budget", "fall of the mean pruning ratio", "fall by 1 % more, to first order (percentage points)")
    return f"<h2>What more of a budget is worth</h2>{_table('prices', heads, rows)}"


def worth(solution: Solution) -> list[tuple[str, str, float]]:
    """Each budget, its shadow price in words, and to first order the fall of the objective for 1 % more of it."""
    cell, each, price = solution.problem.cell, solution.problem.devices, solution.prices
    budget = np.asarray(each.energy_budget_j)
    limited = np.where(np.isfinite(budget), budget, 0.0)
    energy, power = np.asarray(price.energy_per_j), np.asarray(price.peak_power_per_w)
    bandwidth, deadline = float(price.bandwidth_per_hz), float(price.deadline_per_s)
    found = [
        ("bandwidth", f"{1e6 * bandwidth:.3g} per MHz", bandwidth * float(np.asarray(cell.bandwidth_hz)[0])),
        ("deadline", f"{deadline:.3g} per s", deadline * float(np.asarray(cell.deadline_s)[0])),
        ("energy, every device", _largest(energy, "J"), float(energy @ limited)),
        ("peak power, every device", _largest(power, "W"), float(power @ np.asarray(each.tx_power_max_w))),
    ]
    if cell.total_power_w is not None:
        total = float(price.total_power_per_w)
        found.append(("total power", f"{total:.3g} per W", total * float(np.asarray(cell.total_power_w)[0])))
    return [(name, text, 0.01 * value) for name, text, value in found]


def percent(ratio: float) -> str:
    """A ratio with one digit after the point."""
    return f"{100.0 * ratio:.1f} %"


def number(value: float) -> str:
    """Three significant digits."""
    return f"{value:#.3g}".rstrip(".")


def sentence(line: str) -> str:
    """A message with a capital and a full stop."""
    return f"{line[:1].upper()}{line[1:]}" + ("" if line.endswith(".") else ".")


def _largest(price: np.ndarray, unit: str) -> str:
    k = int(np.argmax(price))
    return f"up to {price[k]:.3g} per {unit} (device {k})" if price[k] > 0.0 else f"0 per {unit}"


def _count(course: Course) -> str:
    return f"{course.rounds:,} round{'s' if course.rounds > 1 else ''}"


def _rounds(course: Course | None) -> str:
    return "" if course is None else f"{_count(course)} of {with_unit(course.deadline_s, 's')}"


def _best(course: Course | None, said: Callable[[Course], str]) -> str:
    return "" if course is None else f"best deadline {with_unit(course.deadline_s, 's')}: {said(course)}"


def _cells(*texts: str) -> str:
    return "".join(f'<td class="number">{text}</td>' for text in texts)


def _table(name: str, heads: tuple[str, ...], rows: str) -> str:
    head = "".join(f"<th>{text}</th>" for text in heads)
    return f'<div class="scroll"><table id="{name}"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'

"""What is drawn is what was solved: bars, lines and colours against the solution."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import kktalloc as ka
from kktalloc import plot

CELL = ka.load_scenario("examples/ten_devices.toml")
DEADLINES = np.linspace(0.15, 0.85, 8)
SOLVED = ka.solve(CELL)


def at(deadline_s: float) -> ka.Problem:
    cell = ka.Cell(8.0e6, 3.98e-21, deadline_s)
    d = CELL.devices
    return ka.Problem(cell, ka.Devices(**{name: getattr(d, name) for name in d.__dataclass_fields__}))


def test_bars_are_the_allocation_coloured_by_regime() -> None:
    figure = plot.allocation(SOLVED)
    axes = figure.axes
    drawn = [[bar.get_height() for bar in ax.patches] for ax in axes]
    expected = (SOLVED.pruning_ratio, SOLVED.bandwidth_hz / 1e6, SOLVED.tx_power_w * 1e3, SOLVED.energy_j * 1e3)
    np.testing.assert_allclose(drawn, expected, rtol=1e-12)
    colours = [to_hex(bar.get_facecolor()) for bar in axes[0].patches]
    assert len(set(colours)) == len(set(SOLVED.regime.tolist())) > 1
    for a in range(10):
        for b in range(10):
            assert (colours[a] == colours[b]) == (SOLVED.regime[a] == SOLVED.regime[b])
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(legend) == len(set(colours))
    assert "nothing: keeps all" in legend


def test_the_front_is_the_optimum_at_each_budget() -> None:
    (ax,) = plot.front(CELL, deadline_s=DEADLINES).axes
    x, y = ax.lines[0].get_data()
    solved = [(t, s) for t in DEADLINES.tolist() if (s := ka.solve(at(t), throw=False)).status is ka.Status.OPTIMAL]
    assert 1 < len(solved) < len(DEADLINES)
    np.testing.assert_allclose(x, [t for t, _ in solved])
    np.testing.assert_allclose(y, [s.pruning_ratio.mean() for _, s in solved], atol=1e-9)
    assert [text.get_text() for text in ax.texts] == ["\u2190 no solution"]
    band = ax.collections[0].get_paths()[0].vertices
    assert band is not None
    assert band[:, 1].max() == pytest.approx(max(s.pruning_ratio.max() for _, s in solved))


@pytest.mark.parametrize("name", ["bandwidth_hz", "deadline_s", "energy_budget_j"])
def test_a_price_is_how_the_objective_falls(name: str) -> None:
    values = np.linspace(
        *{"bandwidth_hz": (4e6, 1.2e7), "deadline_s": (0.45, 0.8), "energy_budget_j": (0.08, 0.16)}[name], 60
    )
    (ax,) = plot.price(CELL, **{name: values}).axes
    x, worth = ax.lines[0].get_data()
    (front,) = plot.front(CELL, **{name: values}).axes
    objective = front.lines[0].get_data()[1]
    fall = -np.diff(np.asarray(objective)) / np.diff(np.asarray(x))
    low, high = np.asarray(worth)[1:], np.asarray(worth)[:-1]
    # Prices fall as budgets grow: the mean slope of each step lies between those of its ends.
    assert (fall >= low - 1e-6 * high.max()).all()
    assert (fall <= high + 1e-6 * high.max()).all()


def test_regimes_are_those_of_each_budget() -> None:
    (ax,) = plot.regimes(CELL, deadline_s=DEADLINES).axes
    mesh = next(c for c in ax.collections if isinstance(c, QuadMesh))
    codes = np.asarray(mesh.get_array()).reshape(10, len(DEADLINES))
    for i, deadline_s in enumerate(DEADLINES.tolist()):
        np.testing.assert_array_equal(codes[:, i], ka.solve(at(deadline_s), throw=False).regime)
    assert "no solution" in [text.get_text() for text in ax.figure.legends[0].get_texts()]


def test_every_regime_has_a_colour_and_words() -> None:
    assert set(plot._COLOUR) == set(plot._MEANING) == set(ka.Regime)
    assert len(set(plot._COLOUR.values())) == len(set(plot._MEANING.values())) == len(ka.Regime)


def test_axes_of_ones_own_are_drawn_into_and_files_written() -> None:
    figure = Figure()
    one, two = figure.subplots(1, 2)
    assert plot.front(CELL, one, deadline_s=DEADLINES) is figure
    assert plot.price(CELL, two, deadline_s=DEADLINES) is figure
    file = BytesIO()
    figure.savefig(file, format="svg")
    assert len(file.getvalue()) > 10_000


def test_what_cannot_be_drawn_is_refused() -> None:
    batch = ka.Problem(ka.Cell(8e6, 4e-21, np.array([0.5, 1.0])), ka.Devices([1e-11], 0.1, 1e6, 0.1))
    with pytest.raises(ValueError, match=r"^allocation draws one problem, got a batch of shape \(2,\)$"):
        plot.allocation(ka.solve(batch))
    with pytest.raises(ValueError, match="this problem has none"):
        plot.allocation(ka.solve(at(0.1), throw=False))
    with pytest.raises(ValueError, match=r"^give one budget of bandwidth_hz, .*, got none$"):
        plot.front(CELL)
    with pytest.raises(ValueError, match=r"^deadline_s must be two or more increasing values \(n,\) > 0"):
        plot.front(CELL, deadline_s=[1.0, 0.5])

"""The explorer's answers, without a browser: what each slider changes, and that what is shown is the allocator's."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kktalloc as ka
from kktalloc._problem.scenario import load_scenario
from kktalloc.bound import bound
from kktalloc.plan import plan, time_to_target
from validation.__main__ import main
from validation.explore import figures, text
from validation.explore.controls import Controls, Scenario, bound_inputs, with_unit
from validation.explore.view import look, look_ahead

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "ten_devices.toml"
TARGET = 0.15
SCENARIO = Scenario(load_scenario(EXAMPLE))
BUDGETS, CONSTANTS = SCENARIO.dials(TARGET)
DIALS = {dial.field: dial for dial in (*BUDGETS, *CONSTANTS)}
START = SCENARIO.start(TARGET)


def _device_fields(problem: ka.Problem) -> dict[str, np.ndarray]:
    return {f.name: np.asarray(getattr(problem.devices, f.name)) for f in fields(ka.Devices)}


def _moved(**positions: int) -> Controls:
    return replace(START, **{name: DIALS[name].values[position] for name, position in positions.items()})


def _two_devices(**changes: object) -> ka.Problem:
    cell = ka.Cell(1e6, 4e-21, 1.0)
    given = {"tx_power_max_w": 0.1, "payload_bits": 4e6, "pruned_compute_s": 0.2} | changes
    return ka.Problem(cell, ka.Devices([2e-12, 5e-12], **given))  # type: ignore[arg-type]


# --- what the sliders set -------------------------------------------------------------------------------------------


def test_at_the_start_the_problem_is_the_files_own() -> None:
    own, here = SCENARIO.problem, SCENARIO.problem_at(START)
    for name, value in _device_fields(own).items():
        np.testing.assert_array_equal(_device_fields(here)[name], value, err_msg=name)
    for f in fields(ka.Cell):
        assert getattr(here.cell, f.name) == getattr(own.cell, f.name), f.name


@pytest.mark.parametrize(
    ("change", "field", "expected"),
    [
        ({"tx_power_dbm": START.tx_power_dbm - 10.0}, "tx_power_max_w", lambda own: own / 10.0),
        ({"energy_budget_j": START.energy_budget_j * 0.5}, "energy_budget_j", lambda own: own * 0.5),
        ({"energy_budget_j": np.inf}, "energy_budget_j", lambda own: np.full_like(own, np.inf)),
        ({"compute_factor": 3.0}, "pruned_compute_s", lambda own: own * 3.0),
    ],
)
def test_a_budget_of_the_devices_moves_alone_and_keeps_their_ratios(change, field, expected) -> None:  # type: ignore[no-untyped-def]
    own = _device_fields(SCENARIO.problem)
    moved = SCENARIO.problem_at(replace(START, **change))
    for name, value in _device_fields(moved).items():
        if name == "name":
            np.testing.assert_array_equal(value, own[name])
            continue
        np.testing.assert_allclose(value, expected(own[name]) if name == field else own[name], rtol=1e-12)
    assert float(moved.cell.bandwidth_hz[0]) == START.bandwidth_hz


def test_the_cells_budgets_move_alone() -> None:
    moved = SCENARIO.problem_at(replace(START, deadline_s=0.7, bandwidth_hz=3e6))
    assert (float(moved.cell.deadline_s[0]), float(moved.cell.bandwidth_hz[0])) == (0.7, 3e6)
    assert float(moved.cell.noise_psd_w_per_hz[0]) == 3.98e-21


def test_devices_are_the_first_so_many_and_then_again_from_the_first() -> None:
    gain = _device_fields(SCENARIO.problem)["channel_gain"]
    few, many = (SCENARIO.problem_at(replace(START, devices=n)) for n in (3, 23))
    np.testing.assert_array_equal(few.devices.channel_gain, gain[:3])
    np.testing.assert_array_equal(many.devices.channel_gain, np.concatenate([gain, gain, gain[:3]]))
    assert np.asarray(many.devices.weight).sum() == pytest.approx(1.0)


@given(
    base=st.floats(1e-6, 1e6),
    peak=st.floats(1e-4, 1e3),
    bandwidth=st.floats(1e3, 1e10),
    deadline=st.floats(1e-3, 1e5),
    unlimited=st.booleans(),
)
@settings(max_examples=40)
def test_dials_rise_name_each_position_once_and_start_at_the_problem(
    base: float, peak: float, bandwidth: float, deadline: float, unlimited: bool
) -> None:
    devices = ka.Devices([1e-11, 1e-12], [peak, peak / 3], 1e6, 0.1, energy_budget_j=np.inf if unlimited else base)
    scenario = Scenario(ka.Problem(ka.Cell(bandwidth, 4e-21, deadline, total_power_w=peak), devices))
    start = scenario.start(base)
    for dial in (*scenario.dials(base)[0], *scenario.dials(base)[1]):
        assert len(set(dial.labels)) == len(dial.labels) == len(dial.values), dial.field
        assert list(dial.values) == sorted(set(dial.values)), dial.field
        assert dial.values[dial.start] == getattr(start, dial.field), dial.field


def test_each_constant_of_the_bound_is_the_one_of_its_slider() -> None:
    constants, schedule = bound_inputs(
        replace(
            START, smoothness=2.0, gradient_noise_var=3.0, pruning_radius=5.0, heterogeneity=7.0, coverage=0.5,
            initial_gap=11.0, local_steps=13, learning_rate=0.001,
        )
    )  # fmt: skip
    assert vars(constants) == {
        "smoothness_u": 2.0, "smoothness_v": 2.0, "gradient_noise_u_var": 3.0, "gradient_noise_v_var": 3.0,
        "pruning_radius": 5.0, "heterogeneity": 7.0, "coverage": 0.5, "initial_gap": 11.0,
    }  # fmt: skip
    steps, rates = {"local_steps": 13, "personal_steps": 13}, {"learning_rate_u": 0.001, "learning_rate_v": 0.001}
    assert {name: value for name, value in vars(schedule).items() if name != "rounds"} == steps | rates


def test_every_number_that_is_set_has_a_slider() -> None:
    names = {f.name for f in fields(Controls)}
    assert set(DIALS) == names - {"total_power_dbm"}  # the example has no cap on total power
    capped = Scenario(ka.Problem(ka.Cell(1e6, 4e-21, 1.0, 0.15), ka.Devices([2e-12, 5e-12], 0.1, 4e6, 0.2)))
    assert {d.field for d in capped.dials(TARGET)[0]} >= {"total_power_dbm"}
    half = capped.problem_at(replace(capped.start(), total_power_dbm=capped.start().total_power_dbm - 10.0))
    assert float(half.cell.total_power_w[0]) == pytest.approx(0.015, rel=1e-12)


def test_energy_ends_with_no_limit_and_starts_there_where_there_is_none() -> None:
    assert (DIALS["energy_budget_j"].values[-1], DIALS["energy_budget_j"].labels[-1]) == (np.inf, "no limit")
    free = Scenario(_two_devices(fixed_energy_j=0.05, pruned_compute_j=0.05))
    dial = next(d for d in free.dials(TARGET)[0] if d.field == "energy_budget_j")
    assert dial.labels[dial.start] == "no limit"
    assert 0.2 in dial.values  # the most a round can cost: 0.05 + 0.05 + 0.1 W for 1 s
    some = free.problem_at(replace(free.start(), energy_budget_j=0.1))
    np.testing.assert_array_equal(some.devices.energy_budget_j, [0.1, 0.1])


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (8e6, "Hz", "8.00 MHz"), (999.6, "Hz", "1.00 kHz"), (0.5, "s", "500 ms"), (12500.0, "s", "12,500 s"),
        (0.0999, "J", "99.9 mJ"), (0.0, "W", "0 W"), (0.138, "", "0.138"), (73.6, "", "73.6"),
        (1e-12, "W", "0.00100 nW"), (3e7, "", "3e+07"), (5e4, "s", "50,000 s"), (100.0, "s", "100 s"),
    ],
)  # fmt: skip
def test_numbers_are_shown_with_three_digits_and_a_prefix(value: float, unit: str, shown: str) -> None:
    assert with_unit(value, unit) == shown


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        (ka.Problem(ka.Cell([1e6, 2e6], 4e-21, 1.0), ka.Devices([2e-12], 0.1, 4e6, 0.2)), "problem: one at a time"),
        (ka.Problem(ka.Cell(1e6, 4e-21, 1.0), ka.Devices([], 0.1, 4e6, 0.2)), "devices: there are none"),
        (_two_devices(tx_power_max_w=0.0), "devices.tx_power_max_w: all zero"),
        (_two_devices(energy_budget_j=0.0), "devices.energy_budget_j: 0 J wherever it is finite"),
        (_two_devices(energy_budget_j=[0.0, np.inf]), "devices.energy_budget_j: 0 J wherever it is finite"),
    ],
)
def test_what_sliders_cannot_vary_is_refused(problem: ka.Problem, line: str) -> None:
    with pytest.raises(ValueError, match=line) as refused:
        Scenario(problem)
    assert "\n" not in str(refused.value)


def test_one_device_without_energy_beside_one_with_some_is_explored() -> None:
    scenario = Scenario(_two_devices(energy_budget_j=[0.0, 0.2]))
    half = scenario.problem_at(replace(scenario.start(), energy_budget_j=0.1))
    np.testing.assert_array_equal(half.devices.energy_budget_j, [0.0, 0.1])


# --- what is shown --------------------------------------------------------------------------------------------------

POSITIONS = st.fixed_dictionaries(
    {name: st.integers(0, len(DIALS[name].values) - 1) for name in ("bandwidth_hz", "tx_power_dbm", "energy_budget_j")}
    | {"deadline_s": st.integers(40, 160), "devices": st.integers(0, 19), "total_time_s": st.integers(30, 160)}
)


@given(positions=POSITIONS)
@settings(max_examples=25)
def test_what_is_shown_is_the_allocators_the_bounds_and_the_planners(positions: dict[str, int]) -> None:
    at = _moved(**positions)
    problem = SCENARIO.problem_at(at)
    view, outlook = look(SCENARIO, at, BUDGETS), look_ahead(SCENARIO, at)
    alone = ka.solve(problem, throw=False)
    if alone.diagnosis is not None:
        assert view.infeasible == alone.diagnosis.message
        assert view.solution is view.in_time is view.to_target is None
        return
    assert view.solution is not None
    assert view.solution.certificate.ok
    np.testing.assert_array_equal(view.solution.pruning_ratio, alone.pruning_ratio)
    constants, schedule = bound_inputs(at)

    def guarantee(rounds: int) -> float:
        run = replace(schedule, rounds=rounds)
        return float(bound(constants, run, alone.pruning_ratio, problem.devices.weight).gradient_bound)

    if view.in_time is not None:
        assert view.in_time.rounds == np.floor(at.total_time_s / at.deadline_s * (1 + 1e-12))
        assert view.in_time.guarantee == pytest.approx(guarantee(view.in_time.rounds), rel=1e-12)
        # As many rounds, of the deadline that uses up the time, are among what the planner may choose.
        assert outlook.in_time is not None
        assert outlook.in_time.guarantee <= view.in_time.guarantee * (1 + 1e-9)
    if view.to_target is not None:
        assert view.to_target.guarantee <= at.target * (1 + 1e-11)
        assert view.to_target.rounds == 1 or guarantee(view.to_target.rounds - 1) > at.target
        assert outlook.to_target is not None
        assert outlook.to_target.total_time_s <= view.to_target.total_time_s * (1 + 1e-9)


def test_the_outlook_is_the_planners() -> None:
    constants, schedule = bound_inputs(START)
    outlook = look_ahead(SCENARIO, START)
    best = plan(SCENARIO.problem, constants, schedule, START.total_time_s)
    fast = time_to_target(SCENARIO.problem, constants, schedule, TARGET)
    assert outlook.in_time is not None
    assert outlook.to_target is not None
    assert outlook.curve is not None
    assert (outlook.in_time.rounds, outlook.in_time.deadline_s) == (best.rounds, best.deadline_s)
    assert (outlook.to_target.rounds, outlook.to_target.deadline_s) == (fast.rounds, fast.deadline_s)
    np.testing.assert_array_equal(outlook.curve.gradient_bound, best.curve.gradient_bound)


def test_a_device_alone_needs_no_pruning_when_everything_is_plentiful() -> None:
    rich = replace(START, devices=1, bandwidth_hz=1e8, deadline_s=4.0, energy_budget_j=np.inf)
    view = look(SCENARIO, rich, BUDGETS)
    assert view.in_time is not None
    assert view.in_time.pruning_error == 0.0
    assert float(view.in_time.terms.pruning) == 0.0
    assert view.in_time.rounds == 125  # 500 s of 4 s each
    assert text.LIMITS[ka.Regime.SATURATED] in text.devices(view)


@pytest.mark.parametrize(
    "positions",
    [{"deadline_s": 0}, {"bandwidth_hz": 0}, {"energy_budget_j": 10}, {"tx_power_dbm": 0, "bandwidth_hz": 12}],
)
def test_infeasible_says_what_would_do_and_it_does(positions: dict[str, int]) -> None:
    at = _moved(**positions)
    view = look(SCENARIO, at, BUDGETS)
    assert view.infeasible.startswith("infeasible: device")
    assert view.remedies
    for dial, position in view.remedies:
        for tried, does in ((position, True), (position - 1, False)):
            changed = SCENARIO.problem_at(replace(at, **{dial.field: dial.values[tried]}))
            assert (ka.solve(changed, throw=False).diagnosis is None) is does, dial.field
    shown = text.trouble(view, look_ahead(SCENARIO, at))
    assert all(dial.labels[position] in shown for dial, position in view.remedies)


def test_what_no_slider_mends_says_so() -> None:
    hopeless = Scenario(_two_devices(fixed_latency_s=100.0, pruning_ratio_max=0.5))
    budgets, _ = hopeless.dials(TARGET)
    view = look(hopeless, hopeless.start(TARGET), budgets)
    assert view.remedies == ()
    assert "No one slider alone would do" in text.trouble(view, look_ahead(hopeless, hopeless.start(TARGET)))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"learning_rate": 0.3}, "step condition: 1 - eta L_u tau > 0 violated"),
        ({"total_time_s": 0.4}, "not one round of 0.5 s fits"),
        ({"total_time_s": 0.1}, f"the shortest round takes {float(ka.least_deadline(SCENARIO.problem)):.6g} s"),
        ({"target": 0.01}, "no plan gets to"),
    ],
)
def test_what_the_bound_cannot_say_is_one_line_and_the_allocation_stays(change: dict[str, float], line: str) -> None:
    at = replace(START, **change)
    view, outlook = look(SCENARIO, at, BUDGETS), look_ahead(SCENARIO, at)
    assert view.solution is not None
    assert sum(line in note for note in (*view.notes, *outlook.notes)) >= 1
    shown = text.trouble(view, outlook)
    assert 'role="alert"' in shown
    assert "Infeasible" not in shown
    assert "No guarantee" in shown or "No predicted time" in shown


def test_prices_tell_what_one_percent_more_is_worth() -> None:
    # At a shorter deadline no device keeps everything: there the prices are derivatives, not one side of a kink.
    at = replace(START, deadline_s=0.35)
    solution = look(SCENARIO, at, BUDGETS).solution
    assert solution is not None
    assert set(solution.regime) == {ka.Regime.PEAK, ka.Regime.ENERGY}
    factor = 1 + 1e-5
    more = {
        "bandwidth": {"bandwidth_hz": at.bandwidth_hz * factor},
        "deadline": {"deadline_s": at.deadline_s * factor},
        "energy, every device": {"energy_budget_j": at.energy_budget_j * factor},
        "peak power, every device": {"tx_power_dbm": at.tx_power_dbm + 10 * np.log10(factor)},
    }
    for name, _, fall in text.worth(solution):
        after = ka.solve(SCENARIO.problem_at(replace(at, **more[name])))
        assert 1e3 * float(solution.objective - after.objective) == pytest.approx(fall, rel=1e-3), name


def test_terms_add_up_to_the_guarantee() -> None:
    view, outlook = look(SCENARIO, START, BUDGETS), look_ahead(SCENARIO, START)
    drawn = figures.terms({figures.HERE: view.in_time, figures.BEST: outlook.in_time})
    assert drawn.pop("which") == [figures.HERE, figures.BEST]
    assert view.in_time is not None
    assert outlook.in_time is not None
    expected = [view.in_time.guarantee, outlook.in_time.guarantee]
    np.testing.assert_allclose(np.sum(list(drawn.values()), axis=0), expected, rtol=1e-12)


def test_every_regime_has_a_word_and_a_look() -> None:
    assert set(text.LIMITS) == set(ka.Regime)
    assert set(figures._LIMIT_STYLE) == set(ka.Regime)
    assert len(set(figures._LIMIT_STYLE.values())) == len(ka.Regime)


def test_messages_are_escaped() -> None:
    view = replace(look(SCENARIO, _moved(deadline_s=0), BUDGETS), infeasible="<b>&")
    assert "&lt;b&gt;&amp;" in text.trouble(view, look_ahead(SCENARIO, START))


# --- the command ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["nosuch.toml"], "nosuch.toml: cannot read: No such file or directory"),
        (["a.toml", "b.toml"], "unexpected argument: b.toml"),
        (["--port", "70000"], "--port 70000: must lie in [0, 65535]"),
        (["--rounds", "3"], "--rounds 3 does not apply to explore"),
        (["--report-only"], "--report-only does not apply to explore"),
    ],
)
def test_bad_input_is_one_line(argv: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explore", *argv]) == 2
    assert capsys.readouterr().err == f"validation: error: {line}\n"


def test_the_explorers_options_are_for_the_explorer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scale", "--no-browser"]) == 2
    assert capsys.readouterr().err == "validation: error: --no-browser does not apply to scale\n"


def test_without_its_library_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['bokeh'] = None; from validation.__main__ import main; sys.exit(main(['explore']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.startswith("validation: ")
    assert done.stderr.endswith("; pip install -r requirements/explore.txt brings what is needed\n")
    assert done.stderr.count("\n") == 1


def test_it_needs_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys, validation.command, validation.explore.server; "
        "print([m for m in ('torch', 'matplotlib', 'sklearn', 'cvxpy', 'sympy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_the_snippet_in_the_docs_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    page = ROOT / "docs" / "explore.md"
    (block,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    exec(compile(block, str(page), "exec"), {})
    assert capsys.readouterr().out.split()[1] == "1000"

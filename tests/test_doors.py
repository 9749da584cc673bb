"""What a public function of the allocator is given and is of the wrong type is refused in one line that names it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import kktalloc as ka
from kktalloc import bound, channel, links, plan, plot, radio, traces

DEVICES = ka.Devices([1e-11, 2e-11, 3e-11], 0.2, 1e7, 0.3, pruned_compute_j=0.01, pruning_ratio_max=0.9)
CELL = ka.Cell(1e6, 4e-21, 1.0)
PROBLEM = ka.Problem(CELL, DEVICES)
SOLVED = ka.solve(PROBLEM)
RNG = np.random.default_rng(0)
WALK = traces.steps("walk", [0.0, 1.0, 2.0], [1e-10, 2e-10, 1e-10])
ONE = np.array([1.0])
SENT = links.Sent(np.array([0]), ONE, ONE, ONE, ONE, ONE)
CONSTANTS = bound.Constants(1.0, 1.0, 0.1, 0.1, 1.0, 0.1, 0.5, 1.0)
SCHEDULE = bound.Schedule(10, 1, 1, 1e-3, 1e-3)
ERRORS = bound.GradientErrors(0.1, 0.1, 0.1)
MEASURED = bound.GradientErrors(ONE, ONE, ONE)
RATIOS, CURVES = [0.0, 0.5, 1.0], [[0.0, 0.3, 1.0]] * 3
OBJECTIVE = bound.objective("zeroed", RATIOS, CURVES)
PHONES, WORK = radio.Phones(1e9, 1e-9, 0.2), radio.Work(1e8, 1e6)
CLOCK = radio.Clock(CELL, PHONES)
QUEUE = ka.EnergyQueue([0.1, 0.1, 0.1], 1.0)
KNOWN: dict[str, Any] = {"problem": PROBLEM, "constants": CONSTANTS, "schedule": SCHEDULE, "scan": 5}

# Nothing that is wrong there: a truth value is asked of anything, a place to draw into is matplotlib's to judge, and
# what is no path is refused by Python in a line of its own, which tells the type.
NOT_ASKED = {"throw", "worst_listener", "ax", "axes", "path", "options", "claimed"}

# Every public function with a call that it takes; those that return at once for what is given come twice.
DOORS: list[tuple[Callable[..., Any], dict[str, Any]]] = [
    (
        ka.certify,
        {
            "problem": PROBLEM,
            "pruning_ratio": SOLVED.pruning_ratio,
            "bandwidth_hz": SOLVED.bandwidth_hz,
            "tx_power_w": SOLVED.tx_power_w,
            "bandwidth_price_per_hz": 0.0,
            "total_power_price_per_w": 0.0,
            "tolerance": 1e-9,
        },
    ),
    (ka.least_bandwidth, {"problem": PROBLEM, "pruning_ratio": 0.9}),
    (ka.least_cost, {"problem": PROBLEM, "time_weight": 1.0, "energy_weight": 1.0, "pruning_ratio": 0.9}),
    (ka.least_deadline, {"problem": PROBLEM, "pruning_ratio": 0.9, "block_hz": 1e4}),
    (ka.least_energy, {"problem": PROBLEM, "pruning_ratio": 0.9}),
    (ka.select, {"problem": PROBLEM, "by": "count"}),
    (ka.solve, {"problem": PROBLEM, "threads": 1}),
    (
        ka.solve_bits,
        {"problem": PROBLEM, "bits": [8, 32], "rounding_error": [0.1, 0.0], "full_bits": 32.0, "error_on": "kept"},
    ),
    (ka.solve_blocks, {"problem": PROBLEM, "block_hz": 1e4}),
    (ka.solve_minmax, {"problem": PROBLEM}),
    (ka.solve_priced, {"problem": PROBLEM, "energy_price_per_j": 1.0, "shared_energy_j": 1.0}),
    (QUEUE.solve, {"problem": PROBLEM}),
    (QUEUE.after, {"energy_j": 0.1}),
    (ka.EnergyQueue, {"average_j": 1.0, "patience_j2": 1.0, "backlog_j": 0.0}),
    (plan.most_progress, {"rounds": {"one": PROBLEM}, "deadline_s": 1.0, "points": 3, "power": 1.0, "later_s": None}),
    (plan.plan, KNOWN | {"total_time_s": 100.0, "young": bound.Young()}),
    (plan.plan, KNOWN | {"total_time_s": 100.0, "objective": OBJECTIVE, "errors": ERRORS}),
    (plan.time_to_target, KNOWN | {"gradient_bound": 1e9, "young": bound.Young()}),
    (plan.time_to_target, KNOWN | {"gradient_bound": 1e9, "objective": OBJECTIVE, "errors": ERRORS}),
    (
        plan.choose_round,
        {"candidates": {"a": plan.Candidate(PROBLEM, CONSTANTS, SCHEDULE)}, "total_time_s": 100.0, "scan": 5},
    ),
    (plan.choose_round, {"candidates": {"a": plan.Candidate(PROBLEM, CONSTANTS, SCHEDULE)}, "gradient_bound": 1e9}),
    (bound.allocator_weights, {"constants": CONSTANTS, "schedule": SCHEDULE, "weight": ONE, "young": bound.Young()}),
    (bound.best_young, {"constants": CONSTANTS, "schedule": SCHEDULE, "pruning_ratio": [0.1], "weight": ONE}),
    (bound.best_young, {"constants": CONSTANTS, "schedule": SCHEDULE, "weight": ONE, "errors": MEASURED}),
    (
        bound.bound,
        {"constants": CONSTANTS, "schedule": SCHEDULE, "pruning_ratio": [0.1], "weight": ONE, "young": bound.Young()},
    ),
    (bound.bound, {"constants": CONSTANTS, "schedule": SCHEDULE, "weight": ONE, "errors": MEASURED}),
    (
        bound.objective,
        {
            "kind": "zeroed",
            "pruning_ratio": RATIOS,
            "error": CURVES,
            "weight": [1.0, 1.0, 1.0],
            "size": 1.0,
            "factor": 1.0,
            "hull": "minorant",
        },
    ),
    (OBJECTIVE.problem, {"problem": PROBLEM}),
    (channel.db_to_linear, {"ratio_db": 1.0}),
    (channel.dbm_to_w, {"power_dbm": 1.0}),
    (channel.linear_to_db, {"ratio": 1.0}),
    (channel.w_to_dbm, {"power_w": 1.0}),
    (channel.noise_psd_w_per_hz, {"density_dbm_per_hz": -174.0, "noise_figure_db": 0.0}),
    (channel.ergodic_gain, {"mean_gain": 1.0, "antennas": 1}),
    (channel.outage_gain, {"mean_gain": 1.0, "outage": 0.1, "antennas": 1}),
    (channel.estimated_gain, {"estimate_gain": 1.0, "error_gain": 0.1, "outage": 0.1, "antennas": 1}),
    (channel.place_in_annulus, {"rng": RNG, "size": 3, "outer_m": 10.0, "inner_m": 0.0}),
    (channel.rayleigh_mrc, {"rng": RNG, "size": (3, 2), "antennas": 1}),
    (channel.shadowing, {"rng": RNG, "size": 3, "std_db": 1.0}),
    (
        channel.PathLoss,
        {"intercept_db": 1.0, "slope_db_per_decade": 1.0, "shadowing_std_db": 1.0, "min_distance_m": 1.0},
    ),
    (channel.MACRO_3GPP.loss_db, {"distance_m": 100.0}),
    (channel.MACRO_3GPP.gain, {"distance_m": 100.0}),
    (radio.served, {"phones": PHONES, "of": np.array([True])}),
    (radio.audience, {"channel_gain": [1e-11] * 3, "problem": lambda asked: PROBLEM}),
    (radio.Clock, {"cell": CELL, "phones": PHONES, "broadcast_bit_per_s": 1e6}),
    (CLOCK.devices, {"work": WORK, "channel_gain": [1e-11]}),
    (radio.Work, {field.name: 1.0 for field in fields(radio.Work)}),
    (radio.Phones, {field.name: 1.0 for field in fields(radio.Phones)}),
    (links.receive, {"link": links.Gains([1e-11]), "sent": SENT, "now_s": 0.0, "limit_s": np.inf}),
    (links.Downlink, {"tx_power_w": 1.0, "bandwidth_hz": 1e6, "noise_psd_w_per_hz": 4e-21, "antennas": 1}),
    (links.Downlink(1.0, 1e6, 4e-21).bit_per_s, {"gain": [1e-11]}),
    (links.Drives, {"traces": [WALK], "offset_s": 0.0, "antennas": 1, "handover_s": 0.0}),
    (links.Fading, {"path_gain": [1e-11], "antennas": 1, "seed": 0}),
    (links.Gains, {"channel_gain": [1e-11]}),
    (plot.allocation, {"solution": SOLVED}),
    (plot.front, {"problem": PROBLEM, "deadline_s": [1.0, 2.0]}),
    (plot.price, {"problem": PROBLEM, "bandwidth_hz": [1e6, 2e6]}),
    (plot.regimes, {"problem": PROBLEM, "energy_budget_j": [1.0, 2.0]}),
    (traces.steps, {"time_s": [0.0, 1.0], "gain": [0.1, 0.2], "hold_s": 2.0}),
    (traces.strongest_cell, {"gain": np.ones((2, 3)), "hysteresis_db": 3.0}),
    (traces.path_gain, {"coefficients": np.ones((1, 2, 3, 2, 4, 5))}),
    (WALK.repeated, {"until_s": 3.0}),
]
# What takes no argument, or a path alone; what needs a package beside; names that may be anything.
NO_DOORS = {ka.engine, ka.scenario_schema, ka.load_scenario, ka.save_scenario, ka.solve_reference}
FREE = {traces.steps: {"name", "cell", "outage"}, traces.path_gain: {"paths_axis", "antenna_axes"}}
FILES = {traces.read_csv: {"hold_s": 2.0}, traces.read_trace: {"reference_signal_dbm": 18.0}}
MODULES: tuple[ModuleType, ...] = (ka, plan, bound, channel, radio, links, plot, traces)


class Odd:
    """No number, no text, no mapping."""

    def __repr__(self) -> str:
        return "Odd()"


def names_it(name: str, error: Exception) -> bool:
    """One line that begins with the argument, after the table or the drive that it belongs to."""
    return re.match(rf"(\w+[.:] ?)?(candidates\['a'\]: )?{name}\b", str(error)) is not None and "\n" not in str(error)


CASES = [(door, call, name) for door, call in DOORS for name in call]


@pytest.mark.filterwarnings("ignore:the best plan prunes everything")
@pytest.mark.parametrize(("door", "call"), DOORS, ids=lambda one: getattr(one, "__qualname__", ""))
def test_the_calls_are_taken_as_they_are(door: Callable[..., Any], call: dict[str, Any]) -> None:
    given: dict[str, Any] = {"name": "walk"} if door is traces.steps else {}
    door(**given, **call)


@pytest.mark.parametrize(
    ("door", "call", "name"), CASES, ids=[f"{door.__qualname__}-{name}" for door, _, name in CASES]
)
def test_a_wrong_type_is_refused_by_name(door: Callable[..., Any], call: dict[str, Any], name: str) -> None:
    given: dict[str, Any] = {"name": "walk"} if door is traces.steps else {}
    for wrong in ("x", Odd(), {"a": 1}, [1, "a"]):
        with pytest.raises((TypeError, ValueError)) as refused:
            door(**given, **(call | {name: wrong}))
        assert names_it(name, refused.value), (wrong, refused.value)


def test_a_number_that_a_drive_is_read_with(tmp_path: Path) -> None:
    table = tmp_path / "drive.csv"
    table.write_text("time_s,gain_db\n0,-90\n1,-91\n")
    with pytest.raises(ValueError, match=r"drive\.csv: hold_s: expected numbers, got 'x'$"):
        traces.read_csv(table, hold_s="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^reference_signal_dbm: expected numbers, got 'x'$"):
        traces.read_trace(table, "x")  # type: ignore[arg-type]


def test_every_public_function_and_argument_is_among_them() -> None:
    known: dict[Any, set[str]] = {door: set(free) for door, free in (FREE | FILES).items()}
    for door, call in DOORS:
        known.setdefault(door, set()).update(call)
    for module in MODULES:
        for name in module.__all__:
            door = getattr(module, name)
            if not inspect.isfunction(door) or door in NO_DOORS:
                continue
            assert door in known, f"{module.__name__}.{name}"
            asked = {each.name for each in inspect.signature(door).parameters.values()} - NOT_ASKED - {"budget"}
            missing = asked - known[door] - ({"time", "gain_db", "cell"} if door is traces.read_csv else set())
            assert not missing, f"{module.__name__}.{name}: {missing}"

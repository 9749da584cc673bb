"""What results look like outside: dictionaries, frames, files, schema, prompts, and the commands around them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import infeasible_problem

import kktalloc as ka
from kktalloc import bound, radio, traces
from kktalloc.__main__ import main
from kktalloc.plan import plan

EXAMPLE = Path(__file__).parents[1] / "examples" / "ten_devices.toml"
ASSUMPTIONS = """
[constants]
smoothness_u = 1.0
smoothness_v = 1.0
gradient_noise_u_var = 0.1
gradient_noise_v_var = 0.1
pruning_radius = 0.3
heterogeneity = 0.1
coverage = 0.9
initial_gap = 2.3
[schedule]
rounds = 1
local_steps = 5
personal_steps = 5
learning_rate_u = 0.02
learning_rate_v = 0.02
"""


@pytest.fixture(scope="module")
def solution() -> ka.Solution:
    return ka.solve(ka.load_scenario(EXAMPLE))


def test_version() -> None:
    assert ka.__version__ == version("kktalloc")


def test_a_dictionary_is_what_the_command_prints(solution: ka.Solution, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solve", str(EXAMPLE), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(solution.to_dict(), allow_nan=False))
    assert solution.to_dict()["status"] == "optimal"


def test_a_frame_has_a_row_per_device(solution: ka.Solution) -> None:
    frame = solution.to_frame()
    assert frame.index.tolist() == list(range(10))
    np.testing.assert_array_equal(frame["bandwidth_hz"], solution.bandwidth_hz)
    assert frame["regime"].tolist() == [ka.Regime(code).name.lower() for code in solution.regime]
    devices = ka.Devices(np.full((2, 3), 1e-11), 0.1, 5e5, 0.2, pruning_ratio_max=0.5)
    batch = ka.solve(ka.Problem(ka.Cell([1e6, 1e3], 4e-21, 1.0), devices), throw=False)
    frame = batch.to_frame()
    assert frame.index.names == ["problem", "device"]
    np.testing.assert_array_equal(frame.loc[0, "tx_power_w"], batch.tx_power_w[0])
    assert frame.loc[1].drop(columns="regime").isna().all(axis=None)


QUESTIONS: dict[str, Callable[[ka.Problem], Any]] = {
    "solve_minmax": ka.solve_minmax,
    "solve_blocks": lambda problem: ka.solve_blocks(problem, 1.8e5, throw=False),
    "solve_bits": lambda problem: ka.solve_bits(problem, [2, 8], [0.1, 0.0], throw=False),
    "solve_priced": ka.solve_priced,
    "least_cost": lambda problem: ka.least_cost(problem, time_weight=1.0, pruning_ratio=0.5),
    "least_energy": lambda problem: ka.least_energy(problem, 0.5),
    "select": ka.select,
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_answer_has_a_dictionary_and_a_frame(question: str) -> None:
    problem = ka.Problem(ka.Cell(1e7, 4e-21, 1.0), ka.Devices([1e-11, 2e-11, 4e-12], 0.1, 5e6, 0.2))
    answer = QUESTIONS[question](problem)
    found = json.loads(json.dumps(answer.to_dict(), allow_nan=False))
    assert found["status"] == "optimal"
    assert found["certificate"]["ok"] is True
    arrays = found.get("solution", found)
    assert arrays["bandwidth_hz"] == np.asarray(getattr(answer, "solution", answer).bandwidth_hz).tolist()
    missing = {f.name for f in fields(answer)} - {"problem", "menu", "diagnosis"} - set(found)
    assert not missing
    frame = answer.to_frame()
    assert frame["bandwidth_hz"].tolist() == arrays["bandwidth_hz"]
    own = {f.name for f in fields(answer) if isinstance(v := getattr(answer, f.name), np.ndarray) and v.shape == (3,)}
    assert own <= set(frame.columns)


def test_of_what_is_infeasible_the_dictionary_says_why() -> None:
    problem = ka.Problem(ka.Cell(1.0, 4e-21, 1.0), ka.Devices([1e-11], 0.1, 5e6, 0.2, pruning_ratio_max=0.5))
    found = ka.solve_bits(problem, [2, 8], [0.1, 0.0], throw=False).to_dict()
    assert set(found) == {"status", "diagnosis"}
    assert "bandwidth" in found["diagnosis"]["message"]


def test_a_prompt_shows_numbers_status_and_verdict(solution: ka.Solution) -> None:
    shown, html = repr(solution), solution._repr_html_()
    for text in (shown, html):
        assert "optimal, 10 devices, objective 0.162253, certificate holds" in text
        assert f"{solution.bandwidth_hz[1]:.0f}" in text
    spoiled = ka.Solution(
        **{f.name: getattr(solution, f.name) for f in fields(solution)} | {"objective": np.float64(1)}
    )
    assert "uncertified" in repr(spoiled)
    assert "REFUSED (worst: " in repr(spoiled)
    infeasible = ka.solve(infeasible_problem(np.random.default_rng(5), "bandwidth", devices=4)[0], throw=False)
    assert "infeasible" in repr(infeasible)
    many = ka.Problem(ka.Cell(1e8, 4e-21, 1.0), ka.Devices(np.full(1000, 1e-11), 0.1, 5e5, 0.2))
    assert "984 more" in repr(ka.solve(many))
    assert len(repr(ka.solve(many))) < 3000
    batch = ka.Problem(ka.Cell([1e6, 2e6], 4e-21, 1.0), ka.Devices([1e-11], 0.1, 5e5, 0.2))
    assert repr(ka.solve(batch)) == "Solution: 2 problems of 1 device: 2 optimal"


def results() -> dict[str, tuple[object, str]]:
    """Every kind of result, and words that its line must have: numbers, how it ended, the verdict."""
    problem = ka.load_scenario(EXAMPLE)
    solution = ka.solve(problem)
    lacking = infeasible_problem(np.random.default_rng(5), "bandwidth", devices=4)[0]
    failed = ka.solve(lacking, throw=False)
    constants = bound.Constants(1.0, 1.0, 0.1, 0.1, 1.0, 0.1, 0.9, 0.05)
    best = plan(problem, constants, bound.Schedule(1, 5, 5, 0.01, 0.1), total_time_s=60.0)
    clock = radio.Clock(problem.cell, radio.Phones(2e9, 1e-9, 0.2))
    cost = radio.Clock(ka.Cell(1e6, 4e-21, 1.0), clock.phones).unpruned(radio.Work(4e8, 1e6), [1e-11, 2e-11])
    walk = traces.steps("walk", np.arange(2000.0), np.full(2000, 1e-11))
    return {
        "problem": (problem, r"10 devices, 8000000 Hz"),
        "solution": (solution, r"optimal, 10 devices, objective 0\.16.*, certificate holds"),
        "infeasible": (failed, r"infeasible: "),
        "certificate": (solution.certificate, r"holds \(worst: "),
        "prices": (solution.prices, r"bandwidth_per_hz \d"),
        "diagnosis": (failed.diagnosis, r"infeasible: .* would do"),
        "blocks": (ka.solve_blocks(problem, 180e3), r"whole blocks cost \d.*, certificate holds"),
        "minmax": (ka.solve_minmax(problem), r"level 0\.\d.*, certificate holds"),
        "energy": (ka.least_energy(problem, 0.5), r"\d.* J of all devices, certificate holds"),
        "least cost": (ka.least_cost(problem, time_weight=0.1), r"cost \d.* J in .* s, certificate holds"),
        "priced": (ka.solve_priced(problem, energy_price_per_j=0.1), r"cost \d.* J, certificate holds"),
        "bits": (ka.solve_bits(problem, [1, 4], [0.1, 0.0]), r"bits cost at most .*, certificate holds"),
        "queue": (ka.EnergyQueue([0.1, 0.2], 2.0), r"2 devices, backlog 0 J"),
        "selection": (ka.select(lacking), r"\d of 4 devices kept; dropped .*certificate holds"),
        "reference": (ka.solve_reference(problem), r"optimal says CVXPY, objective 0\.16"),
        "plan": (best, r"\d+ rounds of .* mean squared gradient at most .*certificate holds"),
        "terms": (best.terms, r"mean squared gradient at most \d"),
        "curve": (best.curve, r"\d+ choices"),
        "cost": (cost, r"\d.* s, .* J; optimal"),
        "audience": (radio.Audience(np.array([0]), np.array(["", "deadline"])), r"1 of 2 phones asked"),
        "trace": (walk, r"walk, 1999 s in 2,000 steps, in service 100\.0 %"),
    }


RESULTS = results()


@pytest.mark.parametrize("kind", RESULTS)
def test_every_result_shows_numbers_and_verdict_at_a_glance(kind: str) -> None:
    result, words = RESULTS[kind]
    first, *rows = repr(result).splitlines()
    assert first.startswith(f"{type(result).__name__}: ")
    assert re.search(words, first)
    assert "array(" not in repr(result)
    assert len(rows) <= 18
    assert max(map(len, rows), default=0) <= 100
    html = result._repr_html_()  # type: ignore[attr-defined]
    assert html.startswith(f"<p>{type(result).__name__}: ")
    assert html.count("<tr>") == len(rows)


def test_every_public_result_shows_itself() -> None:
    """A dataclass of arrays that is neither input nor configuration has a line of its own."""
    inputs = {"Cell", "Devices", "PowerLaw", "Table", "Linear"}
    shown = {type(result).__name__ for result, _ in RESULTS.values()}
    for name in ka.__all__:
        known = getattr(ka, name)
        if isinstance(known, type) and is_dataclass(known) and name not in inputs:
            assert name in shown | {"Stats", "BlockDiagnosis"}, name


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([(), (2,), (2, 3)]), st.sampled_from(["toml", "json"]))
def test_what_is_saved_is_what_is_loaded(
    tmp_path_factory: pytest.TempPathFactory, seed: int, batch: tuple[int, ...], kind: str
) -> None:
    rng = np.random.default_rng(seed)
    K = int(rng.integers(1, 5))
    drawn = {
        "channel_gain": rng.uniform(0, 1e-9, (*batch, K)),
        "tx_power_max_w": float(rng.uniform(0, 1)),
        "payload_bits": rng.uniform(1, 1e7, K),
        "pruned_compute_s": rng.uniform(0, 1, (*batch, 1)) if batch else 0.25,
        "energy_budget_j": rng.choice([np.inf, 0.5], K),
        "weight": rng.uniform(0.1, 1, K) if seed % 2 else None,
        "pruning_ratio_max": rng.choice([1.0, 0.5]),
    }
    cell = ka.Cell(rng.uniform(1, 1e7, batch), 4e-21, 1.0 / 3.0, None if seed % 3 else 0.1)
    problem = ka.Problem(cell, ka.Devices(**drawn))
    path = tmp_path_factory.mktemp("saved") / f"s.{kind}"
    ka.save_scenario(problem, path)
    found = ka.load_scenario(path)
    assert found.shape == problem.shape
    for table in ("cell", "devices"):
        for field in fields(getattr(problem, table)):
            want, got = (getattr(getattr(p, table), field.name) for p in (problem, found))
            if field.name == "weight":
                np.testing.assert_allclose(got, want, rtol=1e-15)
            elif want is None:
                assert got is None
            else:
                np.testing.assert_array_equal(got, want, err_msg=field.name)


def test_names_go_along(tmp_path: Path) -> None:
    names = ["camera", "a \x1b[31m<b>"]
    problem = ka.Problem(ka.Cell(1e7, 4e-21, 1.0), ka.Devices([1e-11, 2e-11], 0.1, 5e6, 0.2, name=names))
    for kind in ("toml", "json"):
        ka.save_scenario(problem, tmp_path / f"a.{kind}")
        assert np.asarray(ka.load_scenario(tmp_path / f"a.{kind}").devices.name).tolist() == names
    solution = ka.solve(problem)
    assert solution.to_frame()["name"].tolist() == names
    assert "camera" in repr(solution)
    assert "\x1b" not in repr(solution)
    assert "<b>" not in solution._repr_html_()


def test_what_a_scenario_file_cannot_hold_is_refused(tmp_path: Path) -> None:
    cell, devices = ka.Cell(1e6, 4e-21, 1.0), ka.Devices([1e-11], 0.1, 5e5, 0.2)
    for problem, name, says in (
        (ka.Problem(cell, devices, ka.PowerLaw(2.0)), "a.toml", "holds no curve"),
        (ka.Problem(cell, devices), "a.yaml", r"ends in \.toml or \.json"),
        (ka.Problem(cell, ka.Devices(np.zeros(0), 0.1, 5e5, 0.2)), "a.toml", "no devices"),
    ):
        with pytest.raises(ValueError, match=says):
            ka.save_scenario(problem, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def _valid(value: Any, schema: dict[str, Any]) -> bool:
    """Just as much of JSON Schema as ours uses."""
    if "anyOf" in schema and not any(_valid(value, one) for one in schema["anyOf"]):
        return False
    if "const" in schema:
        return bool(value == schema["const"])
    kinds = {"object": dict, "array": list, "number": (int, float), "string": str, "null": type(None)}
    if "type" in schema and (not isinstance(value, kinds[schema["type"]]) or isinstance(value, bool)):
        return False
    if isinstance(value, dict):
        known = schema.get("properties", {})
        return set(schema.get("required", ())) <= set(value) <= set(known) and all(
            _valid(v, known[k]) for k, v in value.items()
        )
    if isinstance(value, list):
        return len(value) >= schema.get("minItems", 0) and all(_valid(v, schema.get("items", {})) for v in value)
    if isinstance(value, int | float):
        low, above = schema.get("minimum", -np.inf), schema.get("exclusiveMinimum", -np.inf)
        return bool(low <= value <= schema.get("maximum", np.inf) and value > above)
    return True


def test_the_schema_is_that_of_the_dataclasses(capsys: pytest.CaptureFixture[str]) -> None:
    schema = ka.scenario_schema()
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(schema))
    for table, kind in (("cell", ka.Cell), ("devices", ka.Devices)):
        part = schema["properties"][table]
        assert list(part["properties"]) == [f.name for f in fields(kind)]
        assert all(entry["description"] for entry in part["properties"].values())
    good: dict[str, Any] = {
        "cell": {"bandwidth_hz": 1e6, "noise_psd_w_per_hz": 4e-21, "deadline_s": 1},
        "devices": {
            "channel_gain": [1e-11, 0],
            "tx_power_max_w": 0.1,
            "payload_bits": 5e5,
            "pruned_compute_s": [[0.2, 0.3]],
            "energy_budget_j": ["inf", 2],
            "weight": None,
        },
    }
    assert _valid(good, schema)
    for table, field, value in (
        ("cell", "deadline_s", 0), ("cell", "deadline_s", "1"), ("cell", "deadline", 1), ("devices", "weight", -1),
        ("devices", "pa_efficiency", 1.5), ("devices", "channel_gain", []), ("devices", "payload_bits", True),
    ):  # fmt: skip
        assert not _valid(good | {table: good[table] | {field: value}}, schema), field


def test_an_allocation_from_elsewhere_is_judged(
    tmp_path: Path, solution: ka.Solution, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(solution.to_dict()))
    assert main(["certify", str(EXAMPLE), str(path)]) == 0
    assert capsys.readouterr().out.startswith("certificate: holds at 1e-09\n")
    path.write_text(json.dumps(solution.to_dict() | {"bandwidth_hz": (2 * solution.bandwidth_hz).tolist()}))
    assert main(["certify", str(EXAMPLE), str(path), "--json"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["ok"] is False
    assert captured.err.startswith("kktalloc: error: the certificate refuses the allocation: ")
    for content, says in (
        ("{}", "missing field pruning_ratio"),
        ("[1]", "expected a table of fields"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"pruning_ratio": "a", "bandwidth_hz": 1, "tx_power_w": 1}', "pruning_ratio: expected a number"),
        (
            '{"pruning_ratio": [0, 0], "bandwidth_hz": 1, "tx_power_w": 1}',
            "pruning_ratio: shape (2,) does not broadcast",
        ),
    ):
        path.write_text(content)
        assert main(["certify", str(EXAMPLE), str(path)]) == 2
        assert capsys.readouterr().err.startswith(f"kktalloc: error: {path}: {says}")


def test_plan_and_bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "assumptions.toml"
    path.write_text(ASSUMPTIONS)
    asked = ["plan", str(EXAMPLE), str(path), "--total-time"]
    assert main([*asked, "60", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rounds"] * found["deadline_s"] == pytest.approx(60)
    assert found["solution"]["certificate"]["ok"] is True
    assert main([*asked, "0.01"]) == 3
    assert "infeasible" in capsys.readouterr().out
    path.write_text("".join(line for line in ASSUMPTIONS.splitlines(keepends=True) if "rounds" not in line))
    assert main([*asked, "60", "--json"]) == 0  # it is what a plan chooses
    assert json.loads(capsys.readouterr().out) == found
    assert main(["bench", "--devices", "3", "--repeats", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["ok"] is True
    assert main(["bench", "--devices", "0"]) == 2
    assert capsys.readouterr().err == "kktalloc: error: --devices 0: must be >= 1\n"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("coverage", "covrage", "unknown field constants.covrage (did you mean coverage?)"),
        ("[schedule]", "[shedule]", "unknown table shedule (did you mean schedule?)"),
        ("coverage = ", "# ", "missing field constants.coverage"),
        ("local_steps = ", "# ", "missing field schedule.local_steps"),
        ("coverage = ", "coverage = 2 # ", "constants.coverage: must be finite and positive and at most 1; violated: "),
        ("coverage = ", "coverage = 'x' # ", "constants.coverage: expected a number, got 'x'"),
        ("local_steps = ", "local_steps = 1.5 # ", "schedule.local_steps: must be whole and at least 1; violated: "),
        ("learning_rate_u = ", "learning_rate_u = 10 # ", "step condition: 1 - eta L_u tau > 0 violated: value "),
    ],
)
def test_a_wrong_assumption_is_named(
    tmp_path: Path, old: str, new: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "assumptions.toml"
    assert old in ASSUMPTIONS
    path.write_text(ASSUMPTIONS.replace(old, new, 1))
    assert main(["plan", str(EXAMPLE), str(path), "--total-time", "60"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"kktalloc: error: {path}: {says}")
    assert ("eta is schedule.learning_rate_u" in said) == ("step condition" in says)
    assert said.count("\n") == 1


def test_the_assumptions_of_the_help_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["plan", "--help"])
    path = tmp_path / "assumptions.toml"
    path.write_text("[constants]" + capsys.readouterr().out.partition("[constants]")[2])
    assert main(["plan", str(EXAMPLE), str(path), "--total-time", "600"]) == 0


@pytest.mark.parametrize("command", ["solve", "certify", "plan", "verify", "schema", "bench"])
def test_every_help_has_examples_and_exit_codes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    told = capsys.readouterr().out
    assert f"examples:\n  kktalloc {command}" in told
    assert "Exit code 0: " in " ".join(told.split())  # lines end where the terminal does
    assert "--json" in told

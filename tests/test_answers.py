"""What answers are made of whoever carries them: they travel between processes, and hold NaN where there is none."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest

import kktalloc as ka
from kktalloc._problem import kernel

CELL = ka.Cell(1e6, 4e-21, 1.0)
PHONES = ka.Devices([2e-12, 5e-12, 1e-11], 0.1, 4e6, 0.2, pruning_ratio_max=0.9)
PROBLEM = ka.Problem(CELL, PHONES)
CROWDED = ka.Problem(replace(CELL, bandwidth_hz=1e3), PHONES)


def test_errors_survive_a_process_pool() -> None:
    with pytest.raises(ka.InfeasibleError) as infeasible:
        ka.solve(CROWDED)
    again = pickle.loads(pickle.dumps(infeasible.value))
    assert str(again) == str(infeasible.value)
    assert again.diagnosis.bandwidth_needed_hz == infeasible.value.diagnosis.bandwidth_needed_hz

    solution = ka.solve(PROBLEM)
    refused = ka.UncertifiedError(replace(solution, objective=2.0 * solution.objective))
    again = pickle.loads(pickle.dumps(refused))
    assert str(again) == str(refused)
    np.testing.assert_array_equal(again.solution.bandwidth_hz, solution.bandwidth_hz)


def test_an_infeasible_batch_names_the_first_and_counts_the_rest() -> None:
    for bandwidth_hz, where in (
        (1e3, "infeasible: device"),
        ([1e6, 1e3, 1e6], r"infeasible: problem \[1\]: device"),
        ([[1e6, 1e3], [1e3, 1e3]], r"infeasible: problem \[0, 1\] \(and 2 more of 4\): device"),
    ):
        with pytest.raises(ka.InfeasibleError, match=f"^{where}"):
            ka.solve(ka.Problem(replace(CELL, bandwidth_hz=bandwidth_hz), PHONES))
    assert "pruning limit" in ka.solve(CROWDED, throw=False).status


def numbers(answer: Any, path: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Every floating array of an answer and of the answers inside it, by name."""
    for f in fields(answer):
        value = getattr(answer, f.name)
        if is_dataclass(value) and f.name not in ("problem", "diagnosis"):
            yield from numbers(value, f"{path}{f.name}.")
        elif isinstance(value, np.ndarray) and value.dtype.kind == "f" and f.name != "block_hz":
            yield f"{path}{f.name}", value


@pytest.mark.parametrize("engine", ["numpy", "compiled"])
@pytest.mark.parametrize("cap_w", [None, 1.0])
def test_nothing_of_an_infeasible_problem_is_a_number(
    engine: str, cap_w: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine == "compiled" and kernel._KERNEL is None:
        pytest.skip("installed without a C compiler")
    monkeypatch.setenv("KKTALLOC_ENGINE", engine)
    batch = ka.Problem(replace(CELL, bandwidth_hz=[1e6, 1e3], total_power_w=cap_w), PHONES)
    for answer in (
        ka.solve(batch, throw=False),
        ka.solve_blocks(batch, 50e3, throw=False),
        ka.solve_minmax(batch, throw=False),
        ka.least_energy(batch, throw=False),
    ):
        found = dict(numbers(answer))
        assert len(found) >= 8
        for name, values in found.items():
            assert np.isnan(values[1]).all(), name
            assert np.isfinite(values[0]).all(), name

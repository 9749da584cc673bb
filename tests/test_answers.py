"""What answers are made of whoever carries them: they travel between processes, and hold NaN where there is none."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

import kktalloc as ka

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

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fltrain_cases import Constant, digits, shares

import fltrain as ft
from fltrain.plan import check_plan

CONFIG = ft.TrainConfig()
WORK = ft.count_workload(ft.Split(ft.build_model("mlp", digits())), CONFIG, shares())
PLAN = Constant(4, rho=0.25).plan


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("pruning_ratio", [0, 0, 1.5, 0], r"^plan\.pruning_ratio\[2\] must be in \[0, 1\], got 1\.5$"),
        ("pruning_ratio", [0, np.nan, 0, 0], r"^plan\.pruning_ratio\[1\] must be in \[0, 1\], got nan$"),
        ("latency_s", [-1, 0, 0, 0], r"^plan\.latency_s\[0\] must be finite and >= 0, got -1\.0$"),
        ("energy_j", [0, 0, 0, np.inf], r"^plan\.energy_j\[3\] must be finite and >= 0, got inf$"),
        ("energy_j", [0.0], r"^plan\.energy_j must have shape \(4,\), got \(1,\)$"),
        ("participates", True, r"^plan\.participates must have shape \(4,\), got \(\)$"),
    ],
)
def test_wrong_entries_are_named(field: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_plan(replace(PLAN, **{field: np.array(value)}), WORK, CONFIG)


def test_absent_devices_may_hold_anything() -> None:
    absent = replace(
        PLAN,
        pruning_ratio=np.array([0.1, np.nan, 9.0, 0.2]),
        latency_s=np.array([1.0, np.inf, 1.0, 1.0]),
        participates=np.array([True, False, True, True]),
    )
    selected = replace(WORK, selected=np.array([True, True, False, True]))
    clean = check_plan(absent, selected, CONFIG)
    assert clean.participates.tolist() == [True, False, False, True]
    assert clean.pruning_ratio.tolist() == [0.1, 0.0, 0.0, 0.2]
    assert clean.latency_s.tolist() == [1.0, 0.0, 0.0, 1.0]


def test_pruning_against_the_configuration_is_refused() -> None:
    with pytest.raises(ValueError, match=r"pruning_ratio\[0\] is 0\.25, but the configuration says pruning"):
        check_plan(PLAN, WORK, replace(CONFIG, pruning=False))
    with pytest.raises(ValueError, match=r"importance movement needs probe_steps >= 1$"):
        check_plan(PLAN, WORK, replace(CONFIG, probe_steps=0))
    check_plan(PLAN, WORK, replace(CONFIG, probe_steps=0, importance="magnitude"))

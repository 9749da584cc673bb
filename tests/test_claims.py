"""What `certify` makes of an allocation and of what is claimed with it, by either engine alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import kktalloc as ka
from kktalloc._problem import kernel

PHONES = ka.Devices([2e-12, 5e-12], 0.1, 4e6, 0.2)
PROBLEM = ka.Problem(ka.Cell(1e6, 4e-21, 1.0), PHONES)
BATCH = ka.Problem(ka.Cell([[1e6], [2e6]], 4e-21, [1.0, 1.1, 1.2]), PHONES)


@pytest.fixture(params=["numpy", "compiled"], autouse=True)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "compiled" and kernel._KERNEL is None:
        pytest.skip("installed without a C compiler")
    monkeypatch.setenv("KKTALLOC_ENGINE", request.param)


def judge(solution: ka.Solution, **changes: Any) -> ka.Certificate:
    s = solution
    given = {
        "pruning_ratio": s.pruning_ratio, "bandwidth_hz": s.bandwidth_hz, "tx_power_w": s.tx_power_w,
        "bandwidth_price_per_hz": s.prices.bandwidth_per_hz,
    } | changes  # fmt: skip
    return ka.certify(s.problem, **given)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"foo": 3}, r"^foo: not something an allocation implies; known: upload_s, [^\n]*$"),
        ({"pruning_ratio": "half"}, "^pruning_ratio: expected numbers, got 'half'$"),
        (
            {"tx_power_w": [[1.0], [1.0, 2.0]]},
            r"^tx_power_w\[1\]: shape \(2,\) differs from \(1,\) of the entries",
        ),
        ({"upload_s": None}, "^upload_s: expected numbers, got None$"),
        ({"energy_j": [1.0, 2.0, 3.0]}, r"^energy_j: shape \(3,\) does not broadcast to the problem's \(2,\)$"),
        ({"regime": [3, 3, 3]}, r"^regime: shape \(3,\) does not broadcast to the problem's \(2,\)$"),
        ({"objective": [1.0]}, r"^objective: shape \(1,\) does not broadcast to the problem's \(\)$"),
        ({"bandwidth_price_per_hz": [1.0, 2.0]}, r"^bandwidth_price_per_hz: shape \(2,\) does not broadcast"),
        ({"bandwidth_price_per_hz": "free"}, "^bandwidth_price_per_hz: expected numbers, got 'free'$"),
        ({"total_power_price_per_w": "free"}, "^total_power_price_per_w: expected numbers, got 'free'$"),
        ({"tolerance": -1}, "^tolerance = -1: must be one number >= 0 and finite$"),
        ({"tolerance": np.nan}, "^tolerance = nan: must be one number >= 0 and finite$"),
        ({"tolerance": [1e-9, 1e-9]}, r"^tolerance = \[1e-09, 1e-09\]: must be one number >= 0 and finite$"),
        ({"tolerance": "a"}, "^tolerance: expected numbers, got 'a'$"),
    ],
)
def test_what_makes_no_sense_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        judge(ka.solve(PROBLEM), **changes)


@pytest.mark.parametrize("problem", [PROBLEM, BATCH])
def test_claims_of_any_kind_of_number_are_checked(problem: ka.Problem) -> None:
    s = ka.solve(problem)
    claims = {
        "energy_j": s.energy_j.tolist(), "objective": s.objective.astype(">f8"), "regime": s.regime.tolist(),
        "upload_s": np.asfortranarray(s.upload_s), "peak_power_per_w": s.prices.peak_power_per_w,
        "bandwidth_per_hz": s.prices.bandwidth_per_hz, "total_power_per_w": 0,
    }  # fmt: skip
    for name, value in claims.items():
        assert judge(s, **{name: value}).ok, name
        wrong = np.asarray(value) + 1
        assert judge(s, **{name: wrong}).residuals["consistency"].min() > 1e-9, name
    assert judge(s, **claims).ok
    assert not judge(s, energy_j=[3.0]).ok
    assert not judge(s, energy_j=np.array([1, 1])).ok
    assert not judge(s, regime=np.int8(ka.Regime.SATURATED)).ok
    assert not judge(s, regime=3.5).ok

"""`make bench`: the allocator and its peers on the same problems, gap and status beside each time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from allocator_peers import Ipopt, Parametrised, Slsqp, cell_of, repaired

import kktalloc as ka


def record(benchmark: Any, status: str, gap: float) -> None:
    benchmark.extra_info |= {"status": status, "gap": gap}


@pytest.mark.parametrize("engine", ["compiled", "numpy"])
@pytest.mark.parametrize(("devices", "problems"), [(10, None), (10_000, None), (1_000_000, None), (10, 10_000)])
def test_kktalloc(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, devices: int, problems: int | None, engine: str
) -> None:
    if engine == "numpy" and devices * (problems or 1) > 10_000:
        pytest.skip("seconds per call")
    monkeypatch.setenv("KKTALLOC_ENGINE", engine)
    given = cell_of(devices, problems=problems)
    solution = benchmark(lambda: ka.solve(ka.Problem(*given)))
    record(
        benchmark,
        np.asarray(solution.status, dtype=object).ravel()[0].name,
        float(np.max(solution.certificate.duality_gap)),
    )
    assert solution.certificate.ok


@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")  # status and gap say it
@pytest.mark.parametrize(
    ("peer", "devices"), [(Ipopt, 10), (Ipopt, 100), (Parametrised, 10), (Parametrised, 100), (Slsqp, 10)]
)
def test_peer_built_once(benchmark: Any, peer: Callable[[ka.Problem], Any], devices: int) -> None:
    problem = ka.Problem(*cell_of(devices))
    solver = peer(problem)
    bandwidth = benchmark(solver.solve)[1]
    record(benchmark, solver.status, repaired(problem, bandwidth))


@pytest.mark.parametrize("devices", [10, 100])
def test_cvxpy_cold(benchmark: Any, devices: int) -> None:
    problem = ka.Problem(*cell_of(devices))
    twin = benchmark(lambda: ka.solve_reference(problem))
    record(benchmark, str(twin.status), repaired(problem, twin.bandwidth_hz))
